//! What coalescing has to know of a packet: its flow, and whether it may be merged at all.
//!
//! A packet may be merged when the kernel would have merged it on receipt: TCP or UDP over IPv4
//! without options or over IPv6 without extension headers, whole, not a fragment, with right
//! checksums, with payload, and in TCP with no flag but ACK and PSH. The checksum must be verified
//! here, since the kernel takes a merged packet's for granted.
//!
//! Source: the kernel's `inet_gro_receive`, `tcp_gro_receive`, `udp_gro_receive`.

use super::checksum::Sum;
use crate::device::Mode;

pub(super) const ETHERNET_LEN: usize = 14;
pub(super) const IPV4_LEN: usize = 20;
pub(super) const IPV6_LEN: usize = 40;
pub(super) const TCP_LEN: usize = 20;
pub(super) const UDP_LEN: usize = 8;
const ACK: u8 = 0x10;
pub(super) const PSH: u8 = 0x08;
const MORE_FRAGMENTS: u8 = 0x20;
const DONT_FRAGMENT: u8 = 0x40;

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// The protocol on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upper {
    Tcp,
    Udp,
}

impl Upper {
    const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Where the checksum's field is.
    pub(super) const fn checksum_at(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// A packet of a TCP or UDP flow; where its headers lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowPacket<'p> {
    pub(super) bytes: &'p [u8],
    pub(super) version: Version,
    pub(super) upper: Upper,
    /// Where the IP header starts.
    pub(super) ip: usize,
    /// Where the TCP or UDP header starts.
    pub(super) l4: usize,
}

/// A packet that may be merged with others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mergeable<'p> {
    pub(super) flow: FlowPacket<'p>,
    /// Where the payload starts, which is not empty and ends with the packet.
    pub(super) payload: usize,
}

impl<'p> FlowPacket<'p> {
    /// Reads the headers up to the ports; `None` for what has none that can be found at once.
    pub(super) fn read(mode: Mode, bytes: &'p [u8]) -> Option<Self> {
        let ip = match mode {
            Mode::Tun => 0,
            Mode::Tap => ETHERNET_LEN,
        };
        let version = match bytes.get(ip)? >> 4 {
            4 => Version::V4,
            6 => Version::V6,
            _ => return None,
        };
        if mode == Mode::Tap {
            let kind = match version {
                Version::V4 => [0x08, 0x00],
                Version::V6 => [0x86, 0xDD],
            };
            if bytes[12..14] != kind {
                return None;
            }
        }
        let header = &bytes[ip..];
        let (protocol, len) = match version {
            Version::V4 => {
                let header = header.first_chunk::<IPV4_LEN>()?;
                let is_fragment = header[6] & (MORE_FRAGMENTS | 0x1F) != 0 || header[7] != 0;
                if header[0] != 0x45 || is_fragment {
                    return None;
                }
                (header[9], IPV4_LEN)
            }
            Version::V6 => (header.first_chunk::<IPV6_LEN>()?[6], IPV6_LEN),
        };
        let upper = match protocol {
            6 => Upper::Tcp,
            17 => Upper::Udp,
            _ => return None,
        };
        let l4 = ip + len;
        (bytes.len() >= l4 + UDP_LEN).then_some(Self {
            bytes,
            version,
            upper,
            ip,
            l4,
        })
    }

    /// Whether both are of one flow in one direction: protocol, addresses, ports.
    pub(super) fn is_same_flow(&self, other: &Self) -> bool {
        self.version == other.version
            && self.upper == other.upper
            && self.ports() == other.ports()
            && self.addresses() == other.addresses()
    }

    fn ports(&self) -> &[u8] {
        &self.bytes[self.l4..self.l4 + 4]
    }

    fn addresses(&self) -> &[u8] {
        match self.version {
            Version::V4 => &self.bytes[self.ip + 12..self.ip + 20],
            Version::V6 => &self.bytes[self.ip + 8..self.ip + 40],
        }
    }

    /// Everything else of the headers in front of TCP or UDP that must be equal: addresses of
    /// Ethernet, traffic class with its ECN mark, flow label, time to live, DF.
    pub(super) fn has_same_wrapping(&self, other: &Self) -> bool {
        let (a, b) = (self.bytes, other.bytes);
        let ip = self.ip;
        a[..ip] == b[..ip]
            && match self.version {
                Version::V4 => a[ip + 1] == b[ip + 1] && a[ip + 6..ip + 9] == b[ip + 6..ip + 9],
                Version::V6 => a[ip..ip + 4] == b[ip..ip + 4] && a[ip + 7] == b[ip + 7],
            }
    }

    /// Judges whether it may be merged with others of its flow.
    pub(super) fn mergeable(self) -> Option<Mergeable<'p>> {
        let upper = &self.bytes[self.l4..];
        let ip = &self.bytes[self.ip..];
        let is_whole = match self.version {
            Version::V4 => word(ip, 2) == ip.len() && Sum::of(&ip[..IPV4_LEN]).is_right(),
            Version::V6 => word(ip, 4) + IPV6_LEN == ip.len(),
        };
        let headers = match self.upper {
            Upper::Tcp => {
                let tcp = upper.first_chunk::<TCP_LEN>()?;
                let flags_fit = tcp[13] & !PSH == ACK && tcp[12] & 0x0F == 0;
                let len = usize::from(tcp[12] >> 4) * 4;
                (flags_fit && len >= TCP_LEN).then_some(len)?
            }
            // A datagram without a checksum cannot be verified.
            Upper::Udp if word(upper, 4) == upper.len() && word(upper, 6) != 0 => UDP_LEN,
            Upper::Udp => return None,
        };
        let is_right = is_whole
            && headers < upper.len()
            && self.pseudo_sum(upper.len()).plus(Sum::of(upper)).is_right();
        is_right.then_some(Mergeable {
            flow: self,
            payload: self.l4 + headers,
        })
    }

    /// The sum of the pseudo-header for `len` bytes of TCP or UDP (RFC 9293 3.1, RFC 8200 8.1).
    ///
    /// Shape: `len` below 65,536.
    pub(super) fn pseudo_sum(&self, len: usize) -> Sum {
        Sum::of(self.addresses())
            .word(u16::from(self.upper.number()))
            .word(len as u16)
    }
}

impl Mergeable<'_> {
    pub(super) fn payload_len(&self) -> usize {
        self.flow.bytes.len() - self.payload
    }

    /// The TCP sequence number.
    pub(super) fn sequence(&self) -> u32 {
        let at = self.flow.l4 + 4;
        let bytes = &self.flow.bytes[at..at + 4];
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// Whether the TCP PSH flag is set.
    pub(super) fn pushes(&self) -> bool {
        self.flow.upper == Upper::Tcp && self.flow.bytes[self.flow.l4 + 13] & PSH != 0
    }

    /// The IPv4 identification, where it means something: fragments may be made of the packet.
    pub(super) fn identification(&self) -> Option<u16> {
        let ip = &self.flow.bytes[self.flow.ip..];
        let counts = self.flow.version == Version::V4 && ip[6] & DONT_FRAGMENT == 0;
        counts.then(|| u16::from_be_bytes([ip[4], ip[5]]))
    }

    /// Whether the TCP headers are equal besides sequence number, PSH and checksum: acknowledgment,
    /// window, urgent pointer, options.
    pub(super) fn has_same_tcp(&self, other: &Self) -> bool {
        let (a, b) = (
            &self.flow.bytes[self.flow.l4..self.payload],
            &other.flow.bytes[other.flow.l4..other.payload],
        );
        a.len() == b.len() && a[8..13] == b[8..13] && a[14..16] == b[14..16] && a[18..] == b[18..]
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}
