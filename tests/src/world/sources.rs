//! From which addresses nodes may speak in worlds that seal end to end, and that nobody speaks from others
//! (S15).
//!
//! Each node holds the address that follows from its netid, and claims a network of its own; who holds what
//! is known everywhere. What is delivered passed the same judge as in the daemon's way to its device; the law
//! is asked of an oracle that knows arithmetic alone.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};
use overlay::id::NetId;
use overlay::keyed::KeyedHasher;
use overlay::pump::count::DropReason;
use overlay::route::address::{Mesh, link_local};
use overlay::route::learned::Learned;
use overlay::route::routes::Routes;
use overlay::route::tun::Tun;
use overlay::time::Instant;

/// Bytes of an IPv6 header, behind which a packet's number stands.
const IPV6_LEN: usize = 40;
/// Bytes of a packet.
pub const PACKET_LEN: usize = IPV6_LEN + 8;
/// The device's MTU.
const MTU: u16 = 9_000;

/// One node's way to its device.
pub struct Sources {
    tun: Tun,
    routes: Routes,
    /// For failures.
    seed: u64,
}

/// The mesh of all worlds.
fn mesh() -> Mesh {
    Mesh::new("world")
}

/// The address that follows from a netid.
pub fn derived(netid: NetId) -> Ipv6Addr {
    mesh().address(netid)
}

/// An address in the network that a node claims.
pub fn claimed(netid: NetId) -> Ipv6Addr {
    let [a, b] = [netid.0 >> 16, netid.0 & 0xffff].map(|half| half as u16);
    Ipv6Addr::new(0x2001, 0xdb8, a, b, 0, 0, 0, 1)
}

/// The link-local address of a node.
pub fn near(netid: NetId) -> Ipv6Addr {
    link_local(netid)
}

fn network(netid: NetId) -> IpNet {
    let net = Ipv6Net::new(claimed(netid), 64);
    IpNet::V6(net.expect("64 bits are fewer than 128").trunc())
}

/// Packet `number` from `source` to the derived address of `dst`.
pub fn packet(number: u64, source: Ipv6Addr, dst: NetId) -> Vec<u8> {
    let target = match dst {
        NetId::ALL => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        dst => derived(dst),
    };
    // Version 6, 8 bytes behind the header, of no protocol.
    let mut packet = vec![0x60, 0, 0, 0, 0, 8, 59, 64];
    packet.extend(source.octets());
    packet.extend(target.octets());
    packet.extend(number.to_be_bytes());
    packet
}

/// The number of a packet of this module.
pub fn number_of(packet: &[u8]) -> Option<u64> {
    let is_ours = packet.len() == PACKET_LEN && packet[0] == 0x60;
    let number = packet.get(IPV6_LEN..).filter(|_| is_ours)?;
    number.try_into().ok().map(u64::from_be_bytes)
}

/// Whether a source belongs to a node: by arithmetic.
fn belongs(packet: &[u8], origin: NetId) -> bool {
    let Some(source) = packet
        .get(8..24)
        .and_then(|bytes| bytes.first_chunk::<16>())
    else {
        return false;
    };
    let source = Ipv6Addr::from(*source);
    source == derived(origin)
        || source == near(origin)
        || network(origin).contains(&IpAddr::V6(source))
}

impl Sources {
    /// Of node `me`, where `all` are the nodes that there are.
    pub fn new(me: NetId, all: impl Iterator<Item = NetId>, seed: u64) -> Self {
        let prefixes: Vec<_> = all.map(|netid| (network(netid), netid)).collect();
        let claimants: Vec<_> = prefixes.iter().map(|(_, netid)| *netid).collect();
        Self {
            tun: Tun::new(MTU, Arc::new(Learned::new(KeyedHasher(1, 2)))),
            routes: Routes::new(me, mesh(), &[], prefixes, claimants, 1),
            seed,
        }
    }

    /// Whether a packet of `origin` goes to the device.
    ///
    /// # Errors
    /// Why not.
    ///
    /// # Panics
    /// When one would whose source is not its origin's.
    pub fn judge(&mut self, now: Instant, origin: NetId, packet: &[u8]) -> Result<(), DropReason> {
        self.tun.incoming(now, &self.routes, origin, packet)?;
        assert!(
            belongs(packet, origin),
            "seed {}, at {now:?}: a packet of {origin} is delivered whose source is another's",
            self.seed
        );
        Ok(())
    }
}
