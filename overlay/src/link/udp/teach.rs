//! Telling the kernel of a path MTU that no router told it.
//!
//! The kernel cuts only datagrams that it knows to be too long, and it knows path MTUs from ICMP
//! alone: there is no other door. So we say to ourselves what the silent router should have said:
//! an ICMP "fragmentation needed", or "packet too big", about a datagram of our socket. It holds
//! for `net.ipv4.route.mtu_expires`, 10 minutes by default, and for this destination.
//!
//! Needs CAP_NET_RAW, and only to open the sockets, since a node gives it up before it runs; without
//! it an IPv4 router may still cut what we send without "don't fragment".
//!
//! Sources: RFC 792 page 4 with RFC 1191 section 4; RFC 4443 section 3.2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{
    Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4Header, Ipv6Header, UdpHeader,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::id::Path;

/// Bytes of the headers before a datagram's own bytes.
const HEADERS_V4: u16 = (Ipv4Header::MIN_LEN + UdpHeader::LEN) as u16;
const HEADERS_V6: u16 = (Ipv6Header::LEN + UdpHeader::LEN) as u16;
/// A router counts it down; nobody looks at what is left.
const HOP_LIMIT: u8 = 64;

/// Raw sockets, one per family, where they may be had.
#[derive(Debug)]
pub(super) struct Teacher {
    v4: Option<Socket>,
    v6: Option<Socket>,
}

impl Teacher {
    /// Opens what may be opened.
    pub(super) fn open() -> Self {
        Self {
            v4: open(Domain::IPV4, Protocol::ICMPV4).ok(),
            v6: open(Domain::IPV6, Protocol::ICMPV6).ok(),
        }
    }

    /// Tells the kernel that datagrams of `size` bytes are the longest that get over `path` whole
    /// from the socket that is bound to `bound`.
    ///
    /// # Errors
    /// Without the right to do so, or without a route.
    pub(super) fn teach(&self, bound: SocketAddr, path: &Path, size: u16) -> io::Result<()> {
        let remote = path.endpoint.remote;
        let here = match path.local {
            Some(address) => address,
            None => source_toward(remote)?,
        };
        let udp = udp_header(bound.port(), remote.port());
        let (notice, socket) = match (here, remote.ip()) {
            (IpAddr::V4(here), IpAddr::V4(there)) => {
                let mtu = size.saturating_add(HEADERS_V4);
                (needed_v4(here, there, &udp, mtu), &self.v4)
            }
            (IpAddr::V6(here), IpAddr::V6(there)) => {
                let mtu = size.saturating_add(HEADERS_V6);
                (too_big_v6(here, there, &udp, mtu), &self.v6)
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let socket = socket.as_ref().ok_or(io::ErrorKind::PermissionDenied)?;
        let own = SocketAddr::new(here, 0);
        socket.send_to(&notice, &own.into()).map(drop)
    }
}

fn open(domain: Domain, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    // It gets a copy of all ICMP that comes in, and nobody reads it.
    socket.set_recv_buffer_size(1)?;
    Ok(socket)
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

/// "Fragmentation needed", with the headers of the datagram that it is about.
fn needed_v4(here: Ipv4Addr, there: Ipv4Addr, udp: &UdpHeader, mtu: u16) -> Vec<u8> {
    let (here, there) = (here.octets(), there.octets());
    let len = udp.length;
    // It cannot be too long, and says "don't fragment".
    let ip = Ipv4Header::new(len, HOP_LIMIT, IpNumber::UDP, here, there).unwrap_or_default();
    let about = [&ip.to_bytes()[..], &udp.to_bytes()].concat();
    let kind = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
    let icmp = Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(kind), &about);
    [&icmp.to_bytes()[..], &about].concat()
}

/// "Packet too big", the same way; the kernel fills in the checksum.
fn too_big_v6(here: Ipv6Addr, there: Ipv6Addr, udp: &UdpHeader, mtu: u16) -> Vec<u8> {
    let ip = Ipv6Header {
        payload_length: udp.length,
        next_header: IpNumber::UDP,
        hop_limit: HOP_LIMIT,
        source: here.octets(),
        destination: there.octets(),
        ..Ipv6Header::default()
    };
    let icmp = Icmpv6Header::new(Icmpv6Type::PacketTooBig { mtu: mtu.into() });
    [&icmp.to_bytes()[..], &ip.to_bytes(), &udp.to_bytes()].concat()
}

/// Of a datagram as long as one can be, so that it is longer than any path's MTU.
fn udp_header(source_port: u16, destination_port: u16) -> UdpHeader {
    UdpHeader {
        source_port,
        destination_port,
        length: u16::MAX - Ipv4Header::MIN_LEN as u16,
        checksum: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_what_a_router_would_send() {
        let udp = udp_header(44_204, 44_205);
        let v4 = needed_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), &udp, 1_300);
        let expected = [
            3, 4, 0xc5, 0x8c, 0, 0, 5, 0x14, // type, code, checksum, MTU
            0x45, 0, 0xff, 0xff, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IP
            0xac, 0xac, 0xac, 0xad, 0xff, 0xeb, 0, 0, // UDP
        ];
        assert_eq!(v4, expected);
        let v6 = too_big_v6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, &udp, 1_300);
        assert_eq!(v6[..8], [2, 0, 0, 0, 0, 0, 5, 0x14]);
        assert_eq!((v6[8], v6[14], v6.len()), (0x60, 17, 8 + 40 + 8));
    }
}
