//! The header that lies in front of each packet of an offload device, in both directions.
//!
//! ```text
//!   0        1         2         4          6            8             10
//!   | flags  | gso type | hdr len | gso size | csum start | csum offset |   the machine's byte order
//! ```
//!
//! Source: `struct virtio_net_hdr` of the kernel's `linux/virtio_net.h`; virtio 1.2, section 5.1.6.

/// Bytes of the header.
pub(super) const LEN: usize = 10;

/// The checksum is not made: its field holds the sum of the pseudo-header.
const NEEDS_CHECKSUM: u8 = 1;
/// The packet is one, not a super-packet.
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
/// Added to a type: the first segment carries CWR (RFC 3168).
const GSO_ECN: u8 = 0x80;

/// What a super-packet is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segments {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP datagrams over either.
    Udp,
}

/// The header, read and judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VirtioHeader {
    /// Where the unfinished checksum counts from and, from there, where its field is; `None` when
    /// the packet's checksum is finished.
    pub(super) checksum: Option<(u16, u16)>,
    /// What the super-packet is cut into, and the payload of each segment, not 0; `None` for a
    /// single packet.
    pub(super) segments: Option<(Segments, u16)>,
    /// Bytes of all headers together; only told to the kernel, since what it tells is not reliable.
    pub(super) headers_len: u16,
}

impl VirtioHeader {
    /// Reads a header; `None` for one that means nothing to us.
    pub(super) fn parse(bytes: [u8; LEN]) -> Option<Self> {
        let [flags, gso, h0, h1, s0, s1, c0, c1, o0, o1] = bytes;
        let size = u16::from_ne_bytes([s0, s1]);
        let segments = match gso & !GSO_ECN {
            GSO_NONE => None,
            _ if size == 0 => return None,
            GSO_TCP4 => Some((Segments::Tcp4, size)),
            GSO_TCP6 => Some((Segments::Tcp6, size)),
            GSO_UDP => Some((Segments::Udp, size)),
            _ => return None,
        };
        let needs = flags & NEEDS_CHECKSUM != 0;
        let at = (u16::from_ne_bytes([c0, c1]), u16::from_ne_bytes([o0, o1]));
        Some(Self {
            checksum: needs.then_some(at),
            segments,
            headers_len: u16::from_ne_bytes([h0, h1]),
        })
    }

    /// The bytes that the kernel reads.
    pub(super) fn to_bytes(self) -> [u8; LEN] {
        let (flags, (start, offset)) = match self.checksum {
            Some(at) => (NEEDS_CHECKSUM, at),
            None => (0, (0, 0)),
        };
        let (gso, size) = match self.segments {
            None => (GSO_NONE, 0),
            Some((Segments::Tcp4, size)) => (GSO_TCP4, size),
            Some((Segments::Tcp6, size)) => (GSO_TCP6, size),
            Some((Segments::Udp, size)) => (GSO_UDP, size),
        };
        let [h0, h1] = self.headers_len.to_ne_bytes();
        let [s0, s1] = size.to_ne_bytes();
        let [c0, c1] = start.to_ne_bytes();
        let [o0, o1] = offset.to_ne_bytes();
        [flags, gso, h0, h1, s0, s1, c0, c1, o0, o1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_from_what_it_writes() {
        let headers = [
            VirtioHeader::default(),
            VirtioHeader {
                checksum: Some((20, 16)),
                segments: Some((Segments::Tcp4, 1_348)),
                headers_len: 52,
            },
            VirtioHeader {
                checksum: Some((40, 6)),
                segments: Some((Segments::Udp, 1_200)),
                headers_len: 48,
            },
        ];
        for header in headers {
            assert_eq!(VirtioHeader::parse(header.to_bytes()), Some(header));
        }
    }

    #[test]
    fn a_super_packet_without_a_size_and_an_unknown_type_mean_nothing() {
        let tcp = VirtioHeader {
            segments: Some((Segments::Tcp6, 1)),
            ..VirtioHeader::default()
        };
        let mut bytes = tcp.to_bytes();
        bytes[1] |= GSO_ECN;
        assert_eq!(VirtioHeader::parse(bytes), Some(tcp));
        (bytes[4], bytes[5]) = (0, 0);
        assert_eq!(VirtioHeader::parse(bytes), None);
        (bytes[1], bytes[4]) = (3, 1);
        assert_eq!(VirtioHeader::parse(bytes), None);
    }
}
