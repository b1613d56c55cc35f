//! Reading the IP packets that the device and the mesh carry. Total: any bytes, no panic.
//!
//! Per packet only what decides is read, at fixed offsets: lengths and the two addresses. What
//! lies above IP is read on demand by [`Packet::upper`], which walks IPv6 extension headers.
//!
//! Source: RFC 791 section 3.1; RFC 8200 sections 3 and 4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the IPv4 header without options.
pub const IPV4_HEADER_LEN: usize = 20;
/// Bytes of the IPv6 header without extensions.
pub const IPV6_HEADER_LEN: usize = 40;

/// Protocol numbers that decide something here.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// How many extension headers are followed; honest packets have at most three or four.
const MAX_EXTENSIONS: usize = 8;

/// One IP packet whose lengths are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'p> {
    bytes: &'p [u8],
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
}

/// What lies above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper<'p> {
    /// The protocol number.
    pub protocol: u8,
    /// Whether `payload` starts with the protocol's own header: not so in later fragments.
    pub is_first: bool,
    /// Whether this is one of several fragments.
    pub is_fragment: bool,
    /// Offset of `payload` in the packet.
    pub offset: usize,
    /// From the protocol's header to the end of the packet.
    pub payload: &'p [u8],
}

impl<'p> Packet<'p> {
    /// Reads a whole packet.
    ///
    /// Shape: exactly one packet; `None` when the version is neither 4 nor 6 or the lengths in it
    /// are not those of `bytes`.
    pub fn read(bytes: &'p [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::read_v4(bytes),
            6 => Self::read_v6(bytes),
            _ => None,
        }
    }

    fn read_v4(bytes: &'p [u8]) -> Option<Self> {
        let header: &[u8; IPV4_HEADER_LEN] = bytes.first_chunk()?;
        let header_len = usize::from(header[0] & 0xF) * 4;
        let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_len < IPV4_HEADER_LEN || total_len < header_len || total_len != bytes.len() {
            return None;
        }
        let address = |at: usize| {
            let octets = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            IpAddr::V4(Ipv4Addr::from(octets))
        };
        Some(Self {
            bytes,
            source: address(12),
            destination: address(16),
        })
    }

    fn read_v6(bytes: &'p [u8]) -> Option<Self> {
        let header: &[u8; IPV6_HEADER_LEN] = bytes.first_chunk()?;
        let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if IPV6_HEADER_LEN + payload_len != bytes.len() {
            return None;
        }
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&header[at..at + 16]);
            IpAddr::V6(Ipv6Addr::from(octets))
        };
        Some(Self {
            bytes,
            source: address(8),
            destination: address(24),
        })
    }

    /// The whole packet.
    pub fn bytes(&self) -> &'p [u8] {
        self.bytes
    }

    /// What lies above IP; `None` when headers are cut short or too many.
    pub fn upper(&self) -> Option<Upper<'p>> {
        if self.source.is_ipv4() {
            self.upper_v4()
        } else {
            self.upper_v6()
        }
    }

    fn upper_v4(&self) -> Option<Upper<'p>> {
        let header: &[u8; IPV4_HEADER_LEN] = self.bytes.first_chunk()?;
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        let offset = usize::from(header[0] & 0xF) * 4;
        Some(Upper {
            protocol: header[9],
            is_first: fragment & 0x1FFF == 0,
            is_fragment: fragment & 0x3FFF != 0,
            offset,
            payload: self.bytes.get(offset..)?,
        })
    }

    fn upper_v6(&self) -> Option<Upper<'p>> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const AUTHENTICATION: u8 = 51;
        const DESTINATION: u8 = 60;
        let mut protocol = *self.bytes.get(6)?;
        let mut offset = IPV6_HEADER_LEN;
        let (mut is_first, mut is_fragment) = (true, false);
        for _ in 0..MAX_EXTENSIONS {
            let payload = self.bytes.get(offset..)?;
            let header_len = match protocol {
                HOP_BY_HOP | ROUTING | DESTINATION => usize::from(*payload.get(1)?) * 8 + 8,
                AUTHENTICATION => usize::from(*payload.get(1)?) * 4 + 8,
                FRAGMENT => {
                    let word = u16::from_be_bytes([*payload.get(2)?, *payload.get(3)?]);
                    is_first &= word & 0xFFF8 == 0;
                    is_fragment |= word & 0xFFF9 != 0;
                    8
                }
                _ => {
                    return Some(Upper {
                        protocol,
                        is_first,
                        is_fragment,
                        offset,
                        payload,
                    });
                }
            };
            protocol = *payload.first()?;
            offset += header_len;
            // Behind the header of a later fragment lies the middle of something.
            if !is_first {
                let payload = self.bytes.get(offset..)?;
                return Some(Upper {
                    protocol,
                    is_first,
                    is_fragment,
                    offset,
                    payload,
                });
            }
        }
        None
    }

    /// Source and destination port of a UDP datagram in this packet, without extension headers:
    /// our own link traffic has none.
    ///
    /// Cost: two or three loads; called for every packet.
    pub fn udp_ports(&self) -> Option<(u16, u16)> {
        let protocol = *self.bytes.get(if self.source.is_ipv4() { 9 } else { 6 })?;
        if protocol != protocol::UDP {
            return None;
        }
        let upper = self.upper().filter(|upper| upper.is_first)?;
        let ports: &[u8; 4] = upper.payload.first_chunk()?;
        Some((
            u16::from_be_bytes([ports[0], ports[1]]),
            u16::from_be_bytes([ports[2], ports[3]]),
        ))
    }
}

/// Whether no packet may carry this as its source: multicast, broadcast, loopback, or not yet
/// given out. Unspecified is judged by the caller: a host that has no address yet sends it.
pub fn is_no_source(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            v4.is_loopback() || first >= 224 || (first == 0 && !v4.is_unspecified())
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_multicast() || v6.to_ipv4_mapped().is_some(),
    }
}

#[cfg(test)]
pub(crate) mod build {
    //! Packets for tests of this module's neighbors.

    use super::*;

    /// An IP packet of `protocol` between two addresses of one family, checksums left zero.
    pub(crate) fn packet(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match (source.parse().unwrap(), destination.parse().unwrap()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(payload);
                let len = bytes.len() as u16;
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
                bytes
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut bytes = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
                bytes[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(payload);
                bytes
            }
            _ => panic!("two families"),
        }
    }

    /// A UDP packet.
    pub(crate) fn udp(source: &str, destination: &str, from: u16, to: u16) -> Vec<u8> {
        let mut payload = Vec::new();
        payload.extend(from.to_be_bytes());
        payload.extend(to.to_be_bytes());
        payload.extend([0, 12, 0, 0, 1, 2, 3, 4]);
        packet(source, destination, protocol::UDP, &payload)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_and_ports_are_read() {
        let bytes = build::udp("10.0.0.1", "10.0.0.2", 44204, 53);
        let packet = Packet::read(&bytes).unwrap();
        assert_eq!(packet.source, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(packet.destination, "10.0.0.2".parse::<IpAddr>().unwrap());
        assert_eq!(packet.udp_ports(), Some((44204, 53)));

        let bytes = build::udp("fd00::1", "fd00::2", 1, 2);
        let packet = Packet::read(&bytes).unwrap();
        assert_eq!(packet.destination, "fd00::2".parse::<IpAddr>().unwrap());
        assert_eq!(packet.udp_ports(), Some((1, 2)));
        assert_eq!(packet.upper().unwrap().offset, 40);
    }

    #[test]
    fn wrong_lengths_and_versions_are_refused() {
        for bytes in [
            build::udp("10.0.0.1", "10.0.0.2", 1, 2),
            build::udp("fd00::1", "fd00::2", 1, 2),
        ] {
            for end in 0..bytes.len() {
                assert_eq!(Packet::read(&bytes[..end]), None, "{end}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert_eq!(Packet::read(&longer), None);
            for version in [0, 1, 5, 7, 15] {
                let mut other = bytes.clone();
                other[0] = version << 4 | 5;
                assert_eq!(Packet::read(&other), None, "{version}");
            }
        }
        // A header shorter than headers are, and one longer than the packet.
        for ihl in [0, 4, 15] {
            let mut bytes = build::udp("10.0.0.1", "10.0.0.2", 1, 2);
            bytes[0] = 0x40 | ihl;
            assert_eq!(Packet::read(&bytes), None, "{ihl}");
        }
    }

    #[test]
    fn ipv4_fragments_are_told_apart() {
        let mut bytes = build::udp("10.0.0.1", "10.0.0.2", 1, 2);
        for (word, first, fragment) in [
            (0x4000_u16, true, false),
            (0x2000, true, true),
            (0x0001, false, true),
        ] {
            bytes[6..8].copy_from_slice(&word.to_be_bytes());
            let upper = Packet::read(&bytes).unwrap().upper().unwrap();
            assert_eq!(
                (upper.is_first, upper.is_fragment),
                (first, fragment),
                "{word:x}"
            );
        }
        assert_eq!(Packet::read(&bytes).unwrap().udp_ports(), None);
    }

    #[test]
    fn ipv6_extension_headers_are_walked() {
        // Hop-by-hop of 16 bytes, then a first fragment, then ICMPv6.
        let mut payload = vec![44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        payload.extend([58, 0, 0, 1, 0, 0, 0, 7]);
        payload.extend([128, 0, 0, 0]);
        let bytes = build::packet("fd00::1", "fd00::2", 0, &payload);
        let upper = Packet::read(&bytes).unwrap().upper().unwrap();
        assert_eq!((upper.protocol, upper.offset), (58, 40 + 24));
        assert!(upper.is_first && upper.is_fragment);

        // A later fragment.
        let payload = [17, 0, 0, 8, 0, 0, 0, 7, 60, 60, 60, 60];
        let bytes = build::packet("fd00::1", "fd00::2", 44, &payload);
        let upper = Packet::read(&bytes).unwrap().upper().unwrap();
        assert!(!upper.is_first);
        assert_eq!(upper.protocol, 17);
    }

    #[test]
    fn chains_of_extension_headers_end() {
        let payload = [0_u8; 8 * 40];
        let bytes = build::packet("fd00::1", "fd00::2", 0, &payload);
        assert_eq!(Packet::read(&bytes).unwrap().upper(), None);
        // One that points beyond the packet.
        let bytes = build::packet("fd00::1", "fd00::2", 0, &[58, 255, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Packet::read(&bytes).unwrap().upper(), None);
    }

    proptest! {
        #[test]
        fn reading_is_total(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            version in prop::sample::select(vec![0x45_u8, 0x46, 0x4F, 0x60]),
            next in prop::sample::select(vec![0_u8, 6, 17, 43, 44, 51, 58, 60]),
        ) {
            if let Some(packet) = Packet::read(&bytes) {
                let _ = (packet.upper(), packet.udp_ports());
            }
            // The same with a plausible start, so that the walk is reached.
            if bytes.len() >= 40 {
                let len = bytes.len();
                bytes[0] = version;
                bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                if version == 0x60 {
                    bytes[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
                    bytes[6] = next;
                }
                if let Some(packet) = Packet::read(&bytes) {
                    if let Some(upper) = packet.upper() {
                        prop_assert_eq!(&bytes[upper.offset..], upper.payload);
                    }
                    let _ = packet.udp_ports();
                }
            }
        }
    }
}
