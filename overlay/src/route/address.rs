//! Addresses that follow from the mesh name and the netid, so that they need no table.
//!
//! ```text
//! overlay      fd | 5 bytes of BLAKE3(mesh name) | 00 00 | 00 00 00 00 | netid      /64
//! link-local   fe80:0:0:0                                | 00 00 00 00 | netid      /64
//! MAC          02 ac | netid
//! ```
//!
//! Source: DECISIONS 5; RFC 4193 section 3.1 (the shape of the overlay prefix).

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::id::NetId;

/// The mesh name where none is given.
pub const DEFAULT_MESH_NAME: &str = "floodmesh";
/// Bits of the overlay prefix and of the link-local prefix.
pub const PREFIX_LEN: u8 = 64;

/// A hardware address.
pub type Mac = [u8; 6];

/// The addresses of one mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// The first eight bytes of BLAKE3(mesh name): tells meshes apart in directory payloads.
    pub hash: u64,
    /// The upper half of every overlay address.
    prefix: u64,
}

/// What arithmetic says about an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derived {
    /// It belongs to this node, known or not.
    Node(NetId),
    /// It lies in the overlay prefix and belongs to nobody, now and for ever.
    Nobody,
    /// Arithmetic does not say.
    Other,
}

impl Mesh {
    /// The mesh of this name.
    pub fn new(name: &str) -> Self {
        let digest = blake3::hash(name.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_bytes()[..8]);
        let hash = u64::from_be_bytes(first);
        // fd, then 40 bits of the hash, then a subnet of 16 zero bits.
        let prefix = (0xfd << 56) | (hash >> 24 << 16);
        Self { hash, prefix }
    }

    /// The overlay prefix, a /64.
    pub fn network(&self) -> Ipv6Net {
        Ipv6Net::new_assert(Ipv6Addr::from(u128::from(self.prefix) << 64), PREFIX_LEN)
    }

    /// The overlay address of `netid`.
    pub fn address(&self, netid: NetId) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.prefix) << 64 | u128::from(netid.0))
    }

    /// Whose address this is, by arithmetic alone.
    pub fn owner(&self, address: Ipv6Addr) -> Derived {
        let bits = u128::from(address);
        let (upper, lower) = ((bits >> 64) as u64, bits as u64);
        let node = u32::try_from(lower)
            .ok()
            .map(NetId)
            .filter(|netid| netid.is_node());
        match node {
            Some(netid) if upper == self.prefix || upper == LINK_LOCAL => Derived::Node(netid),
            None if upper == self.prefix => Derived::Nobody,
            _ => Derived::Other,
        }
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Self::new(DEFAULT_MESH_NAME)
    }
}

/// fe80::/64, upper half.
const LINK_LOCAL: u64 = 0xfe80 << 48;

/// The link-local address of `netid`.
pub fn link_local(netid: NetId) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(LINK_LOCAL) << 64 | u128::from(netid.0))
}

/// The hardware address of `netid`'s TAP device: locally administered, single station.
pub fn mac(netid: NetId) -> Mac {
    let [a, b, c, d] = netid.0.to_be_bytes();
    [0x02, 0xac, a, b, c, d]
}

/// The node whose TAP device has this hardware address, if it has the derived form.
pub fn mac_owner(mac: Mac) -> Option<NetId> {
    let [0x02, 0xac, a, b, c, d] = mac else {
        return None;
    };
    Some(NetId(u32::from_be_bytes([a, b, c, d]))).filter(|netid| netid.is_node())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_fd_and_forty_bits_of_the_names_hash() {
        let digest = blake3::hash(b"floodmesh");
        let octets = Mesh::default().network().addr().octets();
        assert_eq!(octets[0], 0xfd);
        assert_eq!(octets[1..6], digest.as_bytes()[..5]);
        assert_eq!(octets[6..], [0; 10]);
        assert_eq!(Mesh::default().hash.to_be_bytes(), digest.as_bytes()[..8]);
        // The example of PROTOCOL.md, R65.
        let example = Mesh::default().address(NetId(0x2a));
        assert_eq!(example.to_string(), "fd93:cd51:4ac7::2a");
    }

    #[test]
    fn an_address_and_its_netid_follow_from_each_other() {
        let mesh = Mesh::new("field");
        for netid in [NetId(1), NetId(0x2a), NetId(0xFFFF_FFFE)] {
            assert_eq!(mesh.owner(mesh.address(netid)), Derived::Node(netid));
            assert_eq!(mesh.owner(link_local(netid)), Derived::Node(netid));
            assert_eq!(mac_owner(mac(netid)), Some(netid));
        }
        assert_eq!(link_local(NetId(0x2a)).to_string(), "fe80::2a");
        assert_eq!(mac(NetId(0x0102_0304)), [0x02, 0xac, 1, 2, 3, 4]);
    }

    #[test]
    fn addresses_of_the_prefix_that_name_no_node_belong_to_nobody() {
        let mesh = Mesh::new("field");
        let base = u128::from(mesh.network().addr());
        for rest in [0, 0xFFFF_FFFF, 1 << 32 | 7, 1 << 63] {
            assert_eq!(mesh.owner(Ipv6Addr::from(base | rest)), Derived::Nobody);
        }
    }

    #[test]
    fn other_addresses_are_left_to_claims() {
        let mesh = Mesh::new("field");
        let other_mesh = Mesh::new("lab").address(NetId(7));
        for address in [other_mesh, "2001:db8::7".parse().unwrap()] {
            assert_eq!(mesh.owner(address), Derived::Other);
        }
        // Link-local addresses of another shape, as a kernel makes them.
        let random: Ipv6Addr = "fe80::1234:5678:9abc:def0".parse().unwrap();
        assert_eq!(mesh.owner(random), Derived::Other);
        assert_eq!(mac_owner([0x02, 0xac, 0, 0, 0, 0]), None);
        assert_eq!(mac_owner([0x02, 0xad, 0, 0, 0, 1]), None);
    }
}
