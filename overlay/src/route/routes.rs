//! What the directory publishes and workers read: who holds which prefix, whole and unchanging.
//!
//! One sorted table per prefix length and family; a look-up searches the longest first. Claims of
//! single addresses are one length, so it is one or two binary searches, and no chosen set of
//! addresses makes it slower.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::id::NetId;
use crate::route::address::{Derived, Mesh, link_local};
use crate::route::grants::Grants;

/// Who holds which address, at one moment.
#[derive(Clone, Debug)]
pub struct Routes {
    me: NetId,
    mesh: Mesh,
    epoch: u64,
    own: Vec<IpNet>,
    broadcasts: Vec<Ipv4Addr>,
    claimants: Vec<NetId>,
    v4: Lengths<u32>,
    v6: Lengths<u128>,
    grants: Arc<Grants>,
}

/// Tables by prefix length, longest first.
type Lengths<B> = Vec<(u8, Vec<(B, NetId)>)>;

impl Routes {
    /// The holders of `prefixes`, our own `addresses` included.
    ///
    /// Shape: `addresses` are the device's, with the length of the network they lie in; each claims
    /// the single address. `claimants` are all netids that ever claimed something that is not
    /// forgotten, whether they hold it or not.
    pub fn new(
        me: NetId,
        mesh: Mesh,
        addresses: &[IpNet],
        prefixes: impl IntoIterator<Item = (IpNet, NetId)>,
        claimants: impl IntoIterator<Item = NetId>,
        epoch: u64,
    ) -> Self {
        let (mut v4, mut v6) = (Lengths::new(), Lengths::new());
        // Own addresses come first, so that nothing displaces them.
        let own = addresses.iter().map(|address| (host(address), me));
        for (prefix, holder) in own.chain(prefixes) {
            match prefix {
                IpNet::V4(net) => push(&mut v4, net.prefix_len(), net.network().into(), holder),
                IpNet::V6(net) => push(&mut v6, net.prefix_len(), net.network().into(), holder),
            }
        }
        sort(&mut v4);
        sort(&mut v6);
        let mut claimants: Vec<NetId> = claimants.into_iter().collect();
        claimants.sort_unstable();
        claimants.dedup();
        let broadcasts = addresses.iter().filter_map(|address| match address {
            // A network of one or two addresses has no broadcast (RFC 3021).
            IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast()),
            _ => None,
        });
        Self {
            me,
            mesh,
            epoch,
            own: addresses.to_vec(),
            broadcasts: broadcasts.collect(),
            claimants,
            v4,
            v6,
            grants: Arc::default(),
        }
    }

    /// The same, with what certificates let nodes do.
    #[must_use]
    pub fn granting(mut self, grants: Arc<Grants>) -> Self {
        self.grants = grants;
        self
    }

    /// What certificates let nodes do.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Who holds `address`, by arithmetic or by claim; not what workers have learned.
    ///
    /// Cost: one binary search per prefix length in use; no allocation.
    pub fn find(&self, address: IpAddr) -> Option<NetId> {
        match address {
            IpAddr::V4(v4) => {
                let bits = u32::from(v4);
                longest(&self.v4, |length| {
                    bits & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
                })
            }
            IpAddr::V6(v6) => match self.mesh.owner(v6) {
                Derived::Node(netid) => Some(netid),
                Derived::Nobody => None,
                Derived::Other => {
                    let bits = u128::from(v6);
                    longest(&self.v6, |length| {
                        bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
                    })
                }
            },
        }
    }

    /// Whether somebody may yet claim `address` or be learned with it.
    pub fn may_appear(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_loopback() || v4.octets()[0] >= 224),
            IpAddr::V6(v6) => {
                self.mesh.owner(v6) == Derived::Other
                    && !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast())
            }
        }
    }

    /// Whether `netid` has claims, so that its addresses are not learned from its packets.
    pub fn claims(&self, netid: NetId) -> bool {
        self.claimants.binary_search(&netid).is_ok()
    }

    /// Whether a packet to `address` goes to every node.
    pub fn is_for_all(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                v4.is_multicast() || v4.is_broadcast() || self.broadcasts.contains(&v4)
            }
            IpAddr::V6(v6) => v6.is_multicast(),
        }
    }

    /// This node.
    pub fn me(&self) -> NetId {
        self.me
    }

    /// The mesh, for derived addresses.
    pub fn mesh(&self) -> Mesh {
        self.mesh
    }

    /// Differs between any two snapshots of one directory: a cache made for another is stale.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The device's configured addresses.
    pub fn own(&self) -> &[IpNet] {
        &self.own
    }

    /// An IPv4 address of ours to speak from, if there is one; in the network of `to` if possible.
    pub fn speak_v4(&self, to: Ipv4Addr) -> Option<Ipv4Addr> {
        let mut first = None;
        for address in &self.own {
            if let IpNet::V4(net) = address {
                if net.contains(&to) {
                    return Some(net.addr());
                }
                first = first.or_else(|| Some(net.addr()));
            }
        }
        first
    }

    /// The IPv6 address of ours to speak from.
    pub fn speak_v6(&self, to: Ipv6Addr) -> Ipv6Addr {
        if to.is_unicast_link_local() {
            link_local(self.me)
        } else {
            self.mesh.address(self.me)
        }
    }

    /// Whether both say the same about who holds what.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.own == other.own
            && self.claimants == other.claimants
            && self.grants == other.grants
            && self.v4 == other.v4
            && self.v6 == other.v6
    }
}

/// The single address of an address-with-length.
pub fn host(address: &IpNet) -> IpNet {
    IpNet::from(address.addr())
}

fn push<B>(lengths: &mut Lengths<B>, length: u8, bits: B, holder: NetId) {
    match lengths.iter_mut().find(|(have, _)| *have == length) {
        Some((_, table)) => table.push((bits, holder)),
        None => lengths.push((length, vec![(bits, holder)])),
    }
}

/// Sorts for the search; of two holders of one prefix the first pushed stays.
fn sort<B: Ord + Copy>(lengths: &mut Lengths<B>) {
    lengths.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    for (_, table) in lengths {
        table.sort_by_key(|(bits, _)| *bits);
        table.dedup_by_key(|(bits, _)| *bits);
    }
}

fn longest<B: Ord + Copy>(lengths: &Lengths<B>, mask: impl Fn(u8) -> B) -> Option<NetId> {
    lengths.iter().find_map(|(length, table)| {
        let bits = mask(*length);
        let place = table.binary_search_by_key(&bits, |(bits, _)| *bits).ok()?;
        table.get(place).map(|(_, holder)| *holder)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes(addresses: &[&str], prefixes: &[(&str, u32)]) -> Routes {
        let addresses: Vec<IpNet> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let prefixes: Vec<_> = prefixes
            .iter()
            .map(|(text, netid)| (text.parse().unwrap(), NetId(*netid)))
            .collect();
        let claimants: Vec<_> = prefixes.iter().map(|(_, netid)| *netid).collect();
        Routes::new(
            NetId(1),
            Mesh::new("field"),
            &addresses,
            prefixes,
            claimants,
            1,
        )
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let routes = routes(
            &["10.0.0.1/24"],
            &[
                ("10.0.0.0/8", 2),
                ("10.0.0.0/24", 3),
                ("10.0.0.9/32", 4),
                ("10.0.0.1/32", 5),
            ],
        );
        assert_eq!(routes.find(ip("10.7.7.7")), Some(NetId(2)));
        assert_eq!(routes.find(ip("10.0.0.7")), Some(NetId(3)));
        assert_eq!(routes.find(ip("10.0.0.9")), Some(NetId(4)));
        assert_eq!(routes.find(ip("11.0.0.0")), None);
        // Ours, whatever others claim.
        assert_eq!(routes.find(ip("10.0.0.1")), Some(NetId(1)));
    }

    #[test]
    fn derived_addresses_need_no_claim() {
        let routes = routes(&[], &[]);
        let mesh = routes.mesh();
        assert_eq!(routes.find(mesh.address(NetId(77)).into()), Some(NetId(77)));
        assert_eq!(routes.find(ip("fe80::4d")), Some(NetId(77)));
        assert_eq!(routes.find(mesh.network().addr().into()), None);
        assert!(!routes.may_appear(mesh.network().addr().into()));
        assert!(routes.may_appear(ip("2001:db8::1")));
    }

    #[test]
    fn multicast_and_broadcast_are_for_all() {
        let routes = routes(&["10.0.0.1/24", "10.9.0.1/31", "2001:db8::1/64"], &[]);
        for text in ["224.0.0.251", "255.255.255.255", "10.0.0.255", "ff02::1"] {
            assert!(routes.is_for_all(ip(text)), "{text}");
        }
        for text in ["10.0.0.254", "10.9.0.1", "10.1.0.255", "2001:db8::ffff"] {
            assert!(!routes.is_for_all(ip(text)), "{text}");
        }
    }

    #[test]
    fn we_speak_from_the_network_of_the_other_side() {
        let routes = routes(&["10.0.0.1/24", "192.168.7.1/24"], &[]);
        let to = |text: &str| routes.speak_v4(text.parse().unwrap()).unwrap().to_string();
        assert_eq!(to("192.168.7.9"), "192.168.7.1");
        assert_eq!(to("172.16.0.1"), "10.0.0.1");
        assert_eq!(
            routes.speak_v6("fe80::9".parse().unwrap()),
            link_local(NetId(1))
        );
    }

    proptest! {
        #[test]
        fn a_lookup_finds_what_a_scan_of_all_prefixes_finds(
            prefixes in prop::collection::vec((any::<bool>(), 0u128..64, 0u8..=128, 2u32..9), 0..40),
            asked in prop::collection::vec((any::<bool>(), 0u128..64), 0..40),
        ) {
            // Few distinct bits, at both ends of the address, so that prefixes nest.
            let v4 = |n: u128| Ipv4Addr::from((n as u32 >> 3 << 29) | (n as u32 & 7));
            let v6 = |n: u128| Ipv6Addr::from((0x2 << 124) | (n >> 3 << 121) | (n & 7));
            let prefixes: Vec<(IpNet, NetId)> = prefixes
                .into_iter()
                .map(|(four, n, length, netid)| {
                    let address = if four { IpAddr::V4(v4(n)) } else { IpAddr::V6(v6(n)) };
                    let length = if four { length % 33 } else { length };
                    (IpNet::new(address, length).unwrap().trunc(), NetId(netid))
                })
                .collect();
            let routes = Routes::new(NetId(1), Mesh::default(), &[], prefixes.clone(), [], 1);
            for (four, n) in asked {
                let address = if four { IpAddr::V4(v4(n)) } else { IpAddr::V6(v6(n)) };
                let mut best: Option<(IpNet, NetId)> = None;
                for &(prefix, netid) in &prefixes {
                    let longer = best.is_none_or(|(have, _)| prefix.prefix_len() > have.prefix_len());
                    if prefix.contains(&address) && longer {
                        best = Some((prefix, netid));
                    }
                }
                prop_assert_eq!(routes.find(address), best.map(|(_, netid)| netid));
            }
        }
    }
}
