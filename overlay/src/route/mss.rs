//! Clamping the TCP maximum segment size, for connections of hosts that do not know the mesh's MTU:
//! those behind a node that forwards or bridges.
//!
//! A SYN says how large the segments may be that its sender will get. Lowered to what fits into the
//! device's MTU, no path MTU discovery is needed, which forwarded traffic often lacks and bridged
//! traffic always does. A node clamps in both directions, since the two ends' MTUs may differ:
//!
//! ```text
//!   device -> mesh   the packet read, before it becomes a message: segments coming back fit here
//!   mesh -> device   a copy of the packet delivered: segments that its receiver sends fit here
//! ```
//!
//! The bytes are edited, so a received message is copied first: it may be forwarded, and leaves as
//! it came.
//!
//! Source: RFC 9293 section 3.7.1; RFC 1624 (incremental checksum).

use std::ops::Range;

use crate::route::frame::Frame;
use crate::route::packet::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, Packet, protocol};

const TCP_HEADER_LEN: usize = 20;
const FLAG_SYN: u8 = 0x02;
const OPTION_END: u8 = 0;
const OPTION_NO_OPERATION: u8 = 1;
const OPTION_MSS: u8 = 2;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;

/// Where the IP packet of an Ethernet frame lies: behind header and tags, without padding.
pub fn packet_in(frame: &[u8]) -> Option<Range<usize>> {
    let read = Frame::read(frame)?;
    let start = frame.len() - read.payload.len();
    let word = |at: usize| {
        Some(u16::from_be_bytes([
            *read.payload.get(at)?,
            *read.payload.get(at + 1)?,
        ]))
    };
    let len = match read.ethertype {
        ETHERTYPE_IPV4 => usize::from(word(2)?),
        ETHERTYPE_IPV6 => IPV6_HEADER_LEN + usize::from(word(4)?),
        _ => return None,
    };
    (len <= read.payload.len()).then_some(start..start + len)
}

/// Whether [`clamp`] would change `packet`, so that it is worth a copy.
pub fn exceeds(packet: &[u8], mtu: u16) -> bool {
    find(packet, mtu).is_some()
}

/// Lowers the maximum segment size in a TCP SYN to what fits into `mtu`; returns whether it did.
///
/// Shape: `packet` one whole IP packet; anything but a SYN with that option is left alone.
/// `partial` when the checksum is not yet made (a device's checksum offload): it is left as it is.
pub fn clamp(packet: &mut [u8], mtu: u16, partial: bool) -> bool {
    let Some(Excess {
        tcp_at,
        at,
        old,
        limit,
    }) = find(packet, mtu)
    else {
        return false;
    };
    let Some(tcp) = packet.get_mut(tcp_at..) else {
        return false;
    };
    let Some(value) = tcp.get_mut(at..at + 2) else {
        return false;
    };
    value.copy_from_slice(&limit.to_be_bytes());
    if !partial && let Some(sum) = tcp.get_mut(16..18) {
        let before = u16::from_be_bytes([sum[0], sum[1]]);
        // An option at an odd offset lies across two words of the sum, its bytes swapped.
        let (old, new) = if at % 2 == 0 {
            (old, limit)
        } else {
            (old.swap_bytes(), limit.swap_bytes())
        };
        sum.copy_from_slice(&adjust(before, old, new).to_be_bytes());
    }
    true
}

/// A maximum segment size above what fits.
struct Excess {
    /// Where the TCP header starts in the packet.
    tcp_at: usize,
    /// Where the value lies in the TCP header.
    at: usize,
    old: u16,
    limit: u16,
}

fn find(packet: &[u8], mtu: u16) -> Option<Excess> {
    let (tcp_at, limit) = find_syn(packet, mtu)?;
    let tcp = packet.get(tcp_at..)?;
    let at = find_option(tcp)?;
    let old = u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]);
    (old > limit).then_some(Excess {
        tcp_at,
        at,
        old,
        limit,
    })
}

/// Where the TCP header of a SYN starts, and the largest segment that fits.
fn find_syn(packet: &[u8], mtu: u16) -> Option<(usize, u16)> {
    let packet = Packet::read(packet)?;
    let upper = packet.upper()?;
    if upper.protocol != protocol::TCP || !upper.is_first || *upper.payload.get(13)? & FLAG_SYN == 0
    {
        return None;
    }
    let ip = if packet.source.is_ipv4() {
        IPV4_HEADER_LEN
    } else {
        IPV6_HEADER_LEN
    };
    let limit = usize::from(mtu).checked_sub(ip + TCP_HEADER_LEN)?;
    Some((upper.offset, u16::try_from(limit).ok()?))
}

/// Offset of the option's value in the TCP header.
fn find_option(tcp: &[u8]) -> Option<usize> {
    let header_len = usize::from(*tcp.get(12)? >> 4) * 4;
    let options = tcp.get(TCP_HEADER_LEN..header_len)?;
    let mut at = 0;
    loop {
        match *options.get(at)? {
            OPTION_END => return None,
            OPTION_NO_OPERATION => at += 1,
            kind => {
                let len = usize::from(*options.get(at + 1)?);
                if len < 2 || at + len > options.len() {
                    return None;
                }
                if kind == OPTION_MSS && len == 4 {
                    return Some(TCP_HEADER_LEN + at + 2);
                }
                at += len;
            }
        }
    }
}

/// The checksum after a word changed (RFC 1624, equation 3).
fn adjust(sum: u16, old: u16, new: u16) -> u16 {
    let mut total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while total > 0xFFFF {
        total = (total >> 16) + (total & 0xFFFF);
    }
    !(total as u16)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use etherparse::{TcpHeader, TcpOptionElement};
    use proptest::prelude::*;

    use super::*;
    use crate::route::packet::build;

    /// A SYN with right checksums, the option behind `padding` bytes of no operation.
    fn syn(v6: bool, mss: u16, padding: usize) -> Vec<u8> {
        let mut options = vec![TcpOptionElement::Noop; padding];
        options.push(TcpOptionElement::MaximumSegmentSize(mss));
        options.push(TcpOptionElement::WindowScale(7));
        let mut tcp = TcpHeader::new(1234, 80, 99, 64_000);
        tcp.syn = true;
        tcp.set_options(&options).unwrap();
        let (from, to) = if v6 {
            ("fd00::1", "fd00::2")
        } else {
            ("10.0.0.1", "10.0.0.2")
        };
        tcp.checksum = match (from.parse().unwrap(), to.parse().unwrap()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => tcp
                .calc_checksum_ipv4_raw(from.octets(), to.octets(), &[])
                .unwrap(),
            (IpAddr::V6(from), IpAddr::V6(to)) => tcp
                .calc_checksum_ipv6_raw(from.octets(), to.octets(), &[])
                .unwrap(),
            _ => panic!("two families"),
        };
        build::packet(from, to, protocol::TCP, &tcp.to_bytes())
    }

    #[test]
    fn a_syn_is_clamped_and_its_checksum_stays_right() {
        for (v6, limit) in [(false, 1360), (true, 1340)] {
            for padding in 0..4 {
                let mut bytes = syn(v6, 1460, padding);
                assert!(clamp(&mut bytes, 1400, false));
                assert_eq!(bytes, syn(v6, limit, padding), "{v6} {padding}");
                assert!(!clamp(&mut bytes, 1400, false));
            }
        }
    }

    #[test]
    fn what_exceeds_is_what_clamping_changes() {
        assert!(exceeds(&syn(false, 1361, 0), 1400));
        assert!(!exceeds(&syn(false, 1360, 0), 1400));
        assert!(exceeds(&syn(true, 1341, 0), 1400));
        assert!(!exceeds(&syn(true, 1340, 0), 1400));
        assert!(!exceeds(&[], 1400));
    }

    #[test]
    fn a_packet_is_found_in_its_frame_behind_tags_and_before_padding() {
        use crate::route::frame::build::{frame, tagged};
        let (to, from) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let mut packet = syn(false, 1460, 0);
        let len = packet.len();
        packet.extend([0; 6]);
        assert_eq!(
            packet_in(&frame(to, from, 0x0800, &packet)),
            Some(14..14 + len)
        );
        assert_eq!(packet_in(&tagged(to, from, 7, &packet)), Some(18..18 + len));
        let v6 = syn(true, 1460, 0);
        let bytes = frame(to, from, 0x86DD, &v6);
        assert_eq!(packet_in(&bytes), Some(14..14 + v6.len()));
        // Cut short, of another type, or no frame at all.
        assert_eq!(packet_in(&bytes[..bytes.len() - 1]), None);
        assert_eq!(packet_in(&frame(to, from, 0x0806, &packet)), None);
        assert_eq!(packet_in(&bytes[..16]), None);
        assert_eq!(packet_in(&[]), None);
    }

    #[test]
    fn a_partial_checksum_is_left_alone() {
        let mut bytes = syn(false, 1460, 0);
        let before = bytes[36..38].to_vec();
        assert!(clamp(&mut bytes, 1400, true));
        assert_eq!(bytes[36..38], before);
    }

    #[test]
    fn other_packets_are_left_alone() {
        let mut acknowledgement = syn(false, 1460, 0);
        acknowledgement[33] = 0x10;
        let mut later_fragment = syn(false, 1460, 0);
        later_fragment[7] = 1;
        for mut bytes in [
            acknowledgement,
            later_fragment,
            syn(false, 1000, 0),
            build::udp("10.0.0.1", "10.0.0.2", 1, 2),
            vec![0x45],
        ] {
            let before = bytes.clone();
            assert!(!clamp(&mut bytes, 1400, false));
            assert_eq!(bytes, before);
        }
    }

    proptest! {
        #[test]
        fn any_options_are_survived(options in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut tcp = vec![0; 20];
            tcp[12] = 0xF0;
            tcp[13] = FLAG_SYN;
            tcp.extend(&options);
            let mut bytes = build::packet("10.0.0.1", "10.0.0.2", protocol::TCP, &tcp);
            let before = bytes.clone();
            let announced = exceeds(&bytes, 1400);
            prop_assert_eq!(clamp(&mut bytes, 1400, false), announced);
            prop_assert_eq!(bytes != before, announced);
            let _ = packet_in(&options);
        }
    }
}
