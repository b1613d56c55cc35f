//! Prefixes that nobody may claim.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::route::address::Mesh;

/// Address, length: unspecified, loopback, link-local, multicast and what else names no host.
const RESERVED_V4: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// As above; the first holds unspecified and loopback, the second IPv4 in disguise.
const RESERVED_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Whether `prefix` overlaps what cannot be held by claim: reserved blocks, everything (length 0),
/// the mesh's own prefix.
pub fn is_reserved(mesh: &Mesh, prefix: &IpNet) -> bool {
    let length = prefix.prefix_len();
    // Two prefixes overlap when they agree on the bits of the shorter one.
    match prefix.network() {
        IpAddr::V4(address) => RESERVED_V4.iter().any(|&(reserved, reserved_length)| {
            let bits = u32::from(length.min(reserved_length));
            bits == 0 || (u32::from(address) ^ u32::from(reserved)).leading_zeros() >= bits
        }),
        IpAddr::V6(address) => {
            let derived = mesh.network();
            let all = RESERVED_V6
                .into_iter()
                .chain([(derived.addr(), derived.prefix_len())]);
            let mut all = all.map(|(reserved, reserved_length)| {
                let bits = u32::from(length.min(reserved_length));
                bits == 0 || (u128::from(address) ^ u128::from(reserved)).leading_zeros() >= bits
            });
            all.any(|overlaps| overlaps)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_single_host_is_reserved() {
        let mesh = Mesh::new("field");
        let derived = mesh.network().to_string();
        let inside = format!("{}/128", mesh.network().addr());
        let reserved = [
            "0.0.0.0/0",
            "0.0.0.0/32",
            "0.0.0.0/1",
            "127.0.0.1/32",
            "169.254.3.4/32",
            "224.0.0.1/32",
            "192.0.0.0/2",
            "255.255.255.255/32",
            "::/0",
            "::/128",
            "::1/128",
            "::ffff:10.0.0.1/128",
            "fe80::1/128",
            "ff02::1/128",
            "fc00::/7",
            &derived,
            &inside,
        ];
        for text in reserved {
            assert!(is_reserved(&mesh, &text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn ordinary_addresses_are_not() {
        let mesh = Mesh::new("field");
        let ordinary = [
            "10.0.0.1/32",
            "1.0.0.0/32",
            "126.255.255.255/32",
            "192.168.0.0/16",
            "2001:db8::1/128",
            "64:ff9b::1/128",
            "fd00::1/128",
        ];
        for text in ordinary {
            assert!(!is_reserved(&mesh, &text.parse().unwrap()), "{text}");
        }
    }
}
