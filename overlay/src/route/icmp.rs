//! ICMP answers to packets from the device: unreachable, and too big.
//!
//! Built into the caller's buffer, a whole IP packet ready to be written to the device. Never in
//! answer to an ICMP error, to multicast or broadcast, to a source that is no single host, or to a
//! fragment other than the first.
//!
//! Source: RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.3, RFC 4443 section 2.4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::icmpv6::DestUnreachableCode;
use etherparse::{
    Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4Header, Ipv6FlowLabel,
    Ipv6Header,
};

use crate::pump::count::DropReason;
use crate::route::packet::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, Packet, is_no_source, protocol};
use crate::route::routes::Routes;

/// Bytes that a buffer for an answer needs.
pub const MAX_ANSWER_LEN: usize = 1280;
/// Bytes of the longest ICMP message over IPv4 (RFC 1812 section 4.3.2.3).
const MAX_ANSWER_V4_LEN: usize = 576;
const ICMP_HEADER_LEN: usize = 8;
const HOP_LIMIT: u8 = 64;

/// What to tell the sender of a packet that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No node holds the destination.
    Unreachable,
    /// The packet is larger than `mtu`, the device's.
    TooBig {
        /// Bytes of the largest packet that passes.
        mtu: u16,
    },
}

impl Answer {
    /// Under what the packet is counted.
    pub fn reason(self) -> DropReason {
        match self {
            Self::Unreachable => DropReason::NoRoute,
            Self::TooBig { .. } => DropReason::PacketTooBig,
        }
    }
}

/// Builds the answer to `packet`; returns its bytes, or `None` when there must be none.
///
/// Shape: `out` at least [`MAX_ANSWER_LEN`] bytes; what does not fit is not answered.
pub fn build(answer: Answer, routes: &Routes, packet: &[u8], out: &mut [u8]) -> Option<usize> {
    let packet = Packet::read(packet)?;
    if !may_answer(routes, &packet) {
        return None;
    }
    match (packet.source, packet.destination) {
        (IpAddr::V4(asker), IpAddr::V4(_)) => {
            build_v4(answer, routes.speak_v4(asker)?, asker, &packet, out)
        }
        (IpAddr::V6(asker), IpAddr::V6(_)) => {
            build_v6(answer, routes.speak_v6(asker), asker, &packet, out)
        }
        _ => None,
    }
}

fn may_answer(routes: &Routes, packet: &Packet<'_>) -> bool {
    let source = packet.source;
    if is_no_source(source)
        || source.is_unspecified()
        || routes.is_for_all(source)
        || routes.is_for_all(packet.destination)
    {
        return false;
    }
    let Some(upper) = packet.upper().filter(|upper| upper.is_first) else {
        return false;
    };
    match (upper.protocol, upper.payload.first()) {
        (protocol::ICMP, Some(kind)) => !matches!(kind, 3 | 4 | 5 | 11 | 12),
        (protocol::ICMPV6, Some(kind)) => *kind >= 128 && *kind != 137,
        (protocol::ICMP | protocol::ICMPV6, None) => false,
        _ => true,
    }
}

fn build_v4(
    answer: Answer,
    speaker: Ipv4Addr,
    asker: Ipv4Addr,
    packet: &Packet<'_>,
    out: &mut [u8],
) -> Option<usize> {
    let room = MAX_ANSWER_V4_LEN - IPV4_HEADER_LEN - ICMP_HEADER_LEN;
    let quote = &packet.bytes()[..packet.bytes().len().min(room)];
    let kind = match answer {
        Answer::Unreachable => DestUnreachableHeader::Host,
        Answer::TooBig { mtu } => DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu },
    };
    let icmp = Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(kind), quote);
    let len = (ICMP_HEADER_LEN + quote.len()) as u16;
    let (from, to) = (speaker.octets(), asker.octets());
    let mut ip = Ipv4Header::new(len, HOP_LIMIT, IpNumber::ICMP, from, to).ok()?;
    ip.header_checksum = ip.calc_header_checksum();
    gather(&[&ip.to_bytes(), &icmp.to_bytes(), quote], out)
}

fn build_v6(
    answer: Answer,
    speaker: Ipv6Addr,
    asker: Ipv6Addr,
    packet: &Packet<'_>,
    out: &mut [u8],
) -> Option<usize> {
    let room = MAX_ANSWER_LEN - IPV6_HEADER_LEN - ICMP_HEADER_LEN;
    let quote = &packet.bytes()[..packet.bytes().len().min(room)];
    let kind = match answer {
        Answer::Unreachable => Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Address),
        Answer::TooBig { mtu } => Icmpv6Type::PacketTooBig { mtu: mtu.into() },
    };
    let (from, to) = (speaker.octets(), asker.octets());
    let icmp = Icmpv6Header::with_checksum(kind, from, to, quote).ok()?;
    let ip = Ipv6Header {
        traffic_class: 0,
        flow_label: Ipv6FlowLabel::ZERO,
        payload_length: (ICMP_HEADER_LEN + quote.len()) as u16,
        next_header: IpNumber::IPV6_ICMP,
        hop_limit: HOP_LIMIT,
        source: from,
        destination: to,
    };
    gather(&[&ip.to_bytes(), &icmp.to_bytes(), quote], out)
}

fn gather(parts: &[&[u8]], out: &mut [u8]) -> Option<usize> {
    let mut end = 0;
    for part in parts {
        out.get_mut(end..end + part.len())?.copy_from_slice(part);
        end += part.len();
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NetId;
    use crate::route::address::Mesh;
    use crate::route::packet::build::{packet, udp};

    fn routes(addresses: &[&str]) -> Routes {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Routes::new(NetId(1), Mesh::new("field"), &addresses, [], [], 1)
    }

    fn answer(answer: Answer, routes: &Routes, asked: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0xa5; MAX_ANSWER_LEN];
        let len = build(answer, routes, asked, &mut out)?;
        Some(out[..len].to_vec())
    }

    /// The Internet checksum over `bytes`; zero when the checksum in them is right.
    fn checksum(parts: &[&[u8]]) -> u16 {
        let bytes: Vec<u8> = parts.concat();
        let mut sum: u32 = bytes
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
            .sum();
        while sum > 0xFFFF {
            sum = (sum >> 16) + (sum & 0xFFFF);
        }
        !(sum as u16)
    }

    #[test]
    fn ipv4_unreachable_quotes_the_packet_with_right_checksums() {
        let asked = udp("10.0.0.1", "10.0.0.9", 7, 8);
        let told = answer(Answer::Unreachable, &routes(&["10.0.0.1/24"]), &asked).unwrap();
        assert_eq!(told.len(), 20 + 8 + asked.len());
        assert_eq!(told[9], protocol::ICMP);
        assert_eq!(told[12..20], [10, 0, 0, 1, 10, 0, 0, 1]);
        assert_eq!(told[20..22], [3, 1]);
        assert_eq!(told[28..], asked);
        assert_eq!(checksum(&[&told[..20]]), 0);
        assert_eq!(checksum(&[&told[20..]]), 0);
        assert!(Packet::read(&told).is_some());
    }

    #[test]
    fn fragmentation_needed_and_packet_too_big_tell_the_mtu() {
        let routes = routes(&["10.0.0.1/24"]);
        let asked = packet("10.0.0.1", "10.0.0.9", protocol::TCP, &[7; 1480]);
        let told = answer(Answer::TooBig { mtu: 1400 }, &routes, &asked).unwrap();
        assert_eq!(told.len(), MAX_ANSWER_V4_LEN);
        assert_eq!(told[20..22], [3, 4]);
        assert_eq!(told[26..28], [0x05, 0x78]);
        assert_eq!(checksum(&[&told[20..]]), 0);

        let asked = packet("fd00::1", "fd00::2", protocol::TCP, &[7; 1480]);
        let told = answer(Answer::TooBig { mtu: 1400 }, &routes, &asked).unwrap();
        assert_eq!(told.len(), MAX_ANSWER_LEN);
        assert_eq!(told[40..42], [2, 0]);
        assert_eq!(told[44..48], [0, 0, 0x05, 0x78]);
    }

    #[test]
    fn ipv6_unreachable_comes_from_our_derived_address_with_right_checksum() {
        let routes = routes(&[]);
        let asked = udp("fd00::1", "fd00::9", 7, 8);
        let told = answer(Answer::Unreachable, &routes, &asked).unwrap();
        assert_eq!(told[8..24], routes.mesh().address(NetId(1)).octets());
        assert_eq!(told[40..42], [1, 3]);
        let pseudo = [&[0, 0, 0, (told.len() - 40) as u8, 0, 0, 0, 58][..]].concat();
        assert_eq!(checksum(&[&told[8..40], &pseudo, &told[40..]]), 0);
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        let routes = routes(&["10.0.0.1/24"]);
        let mut later = udp("10.0.0.1", "10.0.0.9", 7, 8);
        later[7] = 1;
        let quiet = [
            packet(
                "10.0.0.1",
                "10.0.0.9",
                protocol::ICMP,
                &[3, 1, 0, 0, 0, 0, 0, 0],
            ),
            packet("10.0.0.1", "10.0.0.9", protocol::ICMP, &[11, 0, 0, 0]),
            packet("10.0.0.1", "10.0.0.9", protocol::ICMP, &[]),
            packet("fd00::1", "fd00::2", protocol::ICMPV6, &[1, 0, 0, 0]),
            packet("fd00::1", "fd00::2", protocol::ICMPV6, &[137, 0, 0, 0]),
            udp("10.0.0.1", "224.0.0.1", 7, 8),
            udp("10.0.0.1", "10.0.0.255", 7, 8),
            udp("0.0.0.0", "10.0.0.9", 7, 8),
            udp("224.0.0.1", "10.0.0.9", 7, 8),
            udp("10.0.0.255", "10.0.0.9", 7, 8),
            udp("::", "fd00::1", 7, 8),
            udp("fd00::1", "ff02::1", 7, 8),
            later,
            vec![0x45, 0, 0],
        ];
        for asked in quiet {
            assert_eq!(
                answer(Answer::Unreachable, &routes, &asked),
                None,
                "{asked:02x?}"
            );
        }
        let echo = packet("10.0.0.1", "10.0.0.9", protocol::ICMP, &[8, 0, 0, 0]);
        assert!(answer(Answer::Unreachable, &routes, &echo).is_some());
    }

    #[test]
    fn without_an_ipv4_address_of_ours_there_is_no_ipv4_answer() {
        let asked = udp("10.0.0.1", "10.0.0.9", 7, 8);
        assert_eq!(answer(Answer::Unreachable, &routes(&[]), &asked), None);
    }

    #[test]
    fn a_buffer_too_small_is_no_answer() {
        let asked = udp("fd00::1", "fd00::9", 7, 8);
        assert_eq!(
            build(Answer::Unreachable, &routes(&[]), &asked, &mut [0; 60]),
            None
        );
    }
}
