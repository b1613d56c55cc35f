//! Telling the kernel of a path MTU that no router told it.
//!
//! The kernel cuts only datagrams that it knows to be too long, and it knows path MTUs from ICMP
//! alone: there is no other door. So we say to ourselves what the silent router should have said:
//! an ICMP "fragmentation needed", or "packet too big", about a datagram of our socket. It holds
//! for `net.ipv4.route.mtu_expires`, 10 minutes by default, and for this destination.
//!
//! Needs CAP_NET_RAW; without it an IPv4 router may still cut what we send without "don't
//! fragment".
//!
//! Sources: RFC 792 page 4 with RFC 1191 section 4; RFC 4443 section 3.2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::id::Path;

/// Protocol number of UDP.
const UDP: u8 = 17;
/// Bytes of a UDP header.
const UDP_LEN: usize = 8;
/// Bytes of an IPv4 header without options.
const IPV4_LEN: u16 = 20;
/// Bytes of an IPv6 header.
const IPV6_LEN: u16 = 40;

/// Tells the kernel that datagrams of `size` bytes are the longest that get over `path` whole from
/// the socket that is bound to `bound`.
///
/// # Errors
/// Without the right to do so, or without a route.
pub(super) fn teach(bound: SocketAddr, path: &Path, size: u16) -> io::Result<()> {
    let remote = path.endpoint.remote;
    let here = match path.local {
        Some(address) => address,
        None => source_toward(remote)?,
    };
    let udp = udp_header(bound.port(), remote.port());
    let (notice, protocol) = match (here, remote.ip()) {
        (IpAddr::V4(here), IpAddr::V4(there)) => {
            let mtu = size.saturating_add(IPV4_LEN + UDP_LEN as u16);
            (needed_v4(here, there, udp, mtu), Protocol::ICMPV4)
        }
        (IpAddr::V6(here), IpAddr::V6(there)) => {
            let mtu = size.saturating_add(IPV6_LEN + UDP_LEN as u16);
            (too_big_v6(here, there, udp, mtu), Protocol::ICMPV6)
        }
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let kind = Type::RAW.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(remote), kind, Some(protocol))?;
    let own = SocketAddr::new(here, 0);
    socket.send_to(&notice, &own.into()).map(drop)
}

/// The address that the kernel would send from.
fn source_toward(remote: SocketAddr) -> io::Result<IpAddr> {
    let any = match remote {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

/// ICMP type 3, code 4, with the headers of the datagram that it is about.
fn needed_v4(here: Ipv4Addr, there: Ipv4Addr, udp: [u8; UDP_LEN], mtu: u16) -> Vec<u8> {
    let mut notice = vec![3, 4, 0, 0, 0, 0];
    notice.extend(mtu.to_be_bytes());
    // Version 4, five words; "don't fragment"; one hop less than 64 does not matter to anybody.
    notice.extend([0x45, 0]);
    notice.extend(u16::MAX.to_be_bytes());
    notice.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    notice.extend(here.octets());
    notice.extend(there.octets());
    notice.extend(udp);
    let checksum = checksum(&notice);
    notice[2..4].copy_from_slice(&checksum.to_be_bytes());
    notice
}

/// ICMPv6 type 2, the same way; the kernel fills in the checksum.
fn too_big_v6(here: Ipv6Addr, there: Ipv6Addr, udp: [u8; UDP_LEN], mtu: u16) -> Vec<u8> {
    let mut notice = vec![2, 0, 0, 0, 0, 0];
    notice.extend(mtu.to_be_bytes());
    notice.extend([0x60, 0, 0, 0]);
    notice.extend(u16::MAX.to_be_bytes());
    notice.extend([UDP, 64]);
    notice.extend(here.octets());
    notice.extend(there.octets());
    notice.extend(udp);
    notice
}

fn udp_header(from: u16, to: u16) -> [u8; UDP_LEN] {
    let [a, b] = from.to_be_bytes();
    let [c, d] = to.to_be_bytes();
    [a, b, c, d, 0xFF, 0xFF, 0, 0]
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.as_chunks::<2>().0.iter();
    let mut sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_what_a_router_would_send() {
        let udp = udp_header(44_204, 44_205);
        let v4 = needed_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), udp, 1_300);
        let expected = [
            3, 4, 0x9a, 0x43, 0, 0, 5, 0x14, // type, code, checksum, MTU
            0x45, 0, 0xff, 0xff, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IP
            0xac, 0xac, 0xac, 0xad, 0xff, 0xff, 0, 0, // UDP
        ];
        assert_eq!(v4[4..], expected[4..]);
        assert_eq!(v4[..2], expected[..2]);
        assert_eq!(checksum(&v4), 0, "a right checksum makes the sum all ones");
        let v6 = too_big_v6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, udp, 1_300);
        assert_eq!(v6[..8], [2, 0, 0, 0, 0, 0, 5, 0x14]);
        assert_eq!((v6[8], v6[14], v6.len()), (0x60, 17, 8 + 40 + 8));
    }
}
