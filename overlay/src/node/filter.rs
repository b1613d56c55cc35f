//! Which addresses an Inform may make us probe (SECURITY T5, 1.3; DECISIONS 4a).
//!
//! An Inform is a rumour. Addresses that can only do harm are never probed; addresses of a class
//! that is not global are probed when we have an address of that class ourselves, because only
//! then can the node be in our reach; the owner may allow more. Never applied to configured peers
//! nor to endpoints that proved themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reachable from anywhere, as far as the address tells.
    Global,
    /// 10/8, 172.16/12, 192.168/16.
    Private,
    /// 100.64/10, the carriers' NAT.
    SharedNat,
    /// fc00::/7.
    UniqueLocal,
    /// 127/8, ::1.
    Loopback,
    /// 169.254/16.
    LinkLocal,
    /// Documentation prefixes.
    Documentation,
    /// 198.18/15, 2001:2::/48.
    Benchmark,
    /// Unspecified, multicast, broadcast, class E, IPv4-compatible, link-local IPv6, Teredo, 6to4:
    /// never a node's that we could reach by it.
    Never,
}

/// The class of an address. IPv6 that embeds IPv4 (mapped, NAT64) is judged by the embedded
/// address: Nebula missed just that (issue 1786).
pub fn classify(address: IpAddr) -> Class {
    match address.to_canonical() {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        [0 | 224..=255, ..] => Class::Never,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::SharedNat,
        [127, ..] => Class::Loopback,
        [169, 254, ..] => Class::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Documentation,
        [198, 18 | 19, ..] => Class::Benchmark,
        _ => Class::Global,
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    if address == Ipv6Addr::LOCALHOST {
        return Class::Loopback;
    }
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        classify_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // The unspecified address and the IPv4-compatible ones.
        [0, 0, 0, 0, 0, 0, _, _] => Class::Never,
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        // Teredo and 6to4 lead through strangers' relays.
        [0x2001, 0, ..] | [0x2002, ..] => Class::Never,
        [0x2001, 2, 0, ..] => Class::Benchmark,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Class::Documentation,
        [0xfc00..=0xfdff, ..] => Class::UniqueLocal,
        // Link-local addresses mean nothing without a scope, which Inform does not carry.
        [0xfe80..=0xfebf, ..] | [0xff00..=0xffff, ..] => Class::Never,
        _ => Class::Global,
    }
}

/// What the filter needs to know of this machine and its owner's wishes.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Our own addresses on the underlay, with their prefixes.
    pub local: Vec<IpNet>,
    /// Prefixes of the overlay.
    pub overlay: Vec<IpNet>,
    /// `--allow-inform`.
    pub allowed: Vec<IpNet>,
}

impl Surroundings {
    /// Whether an informed endpoint may be probed; `informer` is who told, at its proven endpoint.
    pub fn permits(&self, endpoint: SocketAddr, informer: SocketAddr) -> bool {
        let address = endpoint.ip().to_canonical();
        let class = classify(address);
        if class == Class::Never || endpoint.port() == 0 || self.is_overlay(address) {
            return false;
        }
        if self.is_ours(address) || self.is_subnet_broadcast(address) {
            return false;
        }
        if self.allowed.iter().any(|prefix| prefix.contains(&address)) {
            return true;
        }
        // Below 1,024 live other people's services.
        endpoint.port() >= 1_024 && self.reaches(address, class, informer)
    }

    /// Whether an address lies inside the overlay (T15).
    pub fn is_overlay(&self, address: IpAddr) -> bool {
        self.overlay.iter().any(|prefix| prefix.contains(&address))
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.local.iter().any(|net| net.addr() == address)
    }

    fn is_subnet_broadcast(&self, address: IpAddr) -> bool {
        self.local.iter().any(|net| {
            matches!(net, IpNet::V4(v4) if v4.prefix_len() < 31 && IpAddr::V4(v4.broadcast()) == address)
        })
    }

    fn reaches(&self, address: IpAddr, class: Class, informer: SocketAddr) -> bool {
        match class {
            Class::Global => true,
            // We always have a loopback address; it means something only to one who is there too.
            Class::Loopback => classify(informer.ip()) == class,
            Class::Never => false,
            class => self.local.iter().any(|net| {
                net.addr().is_ipv4() == address.is_ipv4() && classify(net.addr()) == class
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings() -> Surroundings {
        Surroundings {
            local: vec![
                "192.0.2.7/24".parse().unwrap(),
                "10.1.2.3/16".parse().unwrap(),
            ],
            overlay: vec![
                "fd01:203:405::/64".parse().unwrap(),
                "10.77.0.0/24".parse().unwrap(),
            ],
            allowed: vec!["198.18.5.0/24".parse().unwrap()],
        }
    }

    const GLOBAL: &str = "8.8.8.8:44204";

    #[test]
    fn harmful_addresses_are_never_probed_in_whatever_dress() {
        for endpoint in [
            "0.0.0.0:4000",
            "0.1.2.3:4000",
            "[::]:4000",
            "224.0.0.1:4000",
            "[ff02::1]:4000",
            "255.255.255.255:4000",
            "240.0.0.1:4000",
            "127.0.0.1:4000",
            "[::1]:4000",
            "[::ffff:127.0.0.1]:4000",
            "[::ffff:0.0.0.0]:4000",
            "[::ffff:224.0.0.1]:4000",
            "[::7f00:1]:4000",
            "[2002:7f00:1::]:4000",
            "[2002:e000:1::]:4000",
            "[2001:0:1::]:4000",
            "[64:ff9b::127.0.0.1]:4000",
            "169.254.1.1:4000",
            "[fe80::1]:4000",
            "198.18.0.1:4000",
            "100.64.0.1:4000",
            "[fd99::1]:4000",
            "[2001:db8::1]:4000",
            "192.0.2.255:4000",
            "10.1.255.255:4000",
            "192.0.2.7:44204",
            "192.0.2.7:44205",
            "[::ffff:192.0.2.7]:44205",
            "8.8.8.8:0",
            "8.8.8.8:53",
            "10.77.0.9:4000",
            "[fd01:203:405::9]:4000",
        ] {
            let endpoint = endpoint.parse().unwrap();
            assert!(
                !surroundings().permits(endpoint, GLOBAL.parse().unwrap()),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn global_addresses_and_classes_that_we_have_are_probed() {
        for endpoint in [
            "8.8.4.4:44204",
            "[2a00:1450::1]:44204",
            "10.9.9.9:44204",
            "192.168.1.1:44204",
            "203.0.113.9:44204",
            "192.0.2.8:44204",
            "198.18.5.1:53",
            "[64:ff9b::8.8.8.8]:44204",
        ] {
            let endpoint = endpoint.parse().unwrap();
            assert!(
                surroundings().permits(endpoint, GLOBAL.parse().unwrap()),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn loopback_is_probed_only_on_the_word_of_a_neighbor_on_loopback() {
        let here = "127.0.0.1:5000".parse().unwrap();
        assert!(surroundings().permits(here, "127.0.0.1:6000".parse().unwrap()));
        assert!(!surroundings().permits(here, "10.1.0.1:6000".parse().unwrap()));
    }
}
