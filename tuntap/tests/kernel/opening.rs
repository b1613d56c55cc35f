//! What is there after opening, and what is left when opening fails.

use std::net::{IpAddr, UdpSocket};

use futures_util::TryStreamExt;
use rtnetlink::IpVersion;
use rtnetlink::packet_route::AddressFamily;

use crate::host::*;

use tuntap::{
    Mode, OpenConfig, OpenError, SkipReason, device_exists, local_addresses, open as open_device,
};

#[test]
fn a_tun_device_is_up_with_its_addresses_and_no_others() {
    in_namespace(|| {
        let device = open(&tun());
        let info = device.info().clone();
        assert_eq!((info.name.as_str(), info.mode), ("mesh0", Mode::Tun));
        let link = link(info.index);
        assert!(is_up(&link));
        assert_eq!((mtu(&link), info.mtu), (Some(1400), 1400));
        assert_eq!(queue_len(&link), Some(1_000));
        assert_eq!(
            addresses(info.index),
            ["10.44.0.1/24", "fdac:1:2::2a/64", "fe80::2a/64"]
        );
    });
}

#[test]
fn the_kernel_adds_no_link_local_address() {
    in_namespace(|| {
        for config in [tun(), tap()] {
            let config = OpenConfig {
                link_local: None,
                addresses: Vec::new(),
                ..config
            };
            let device = open(&config);
            let index = device.info().index;
            assert!(is_up(&link(index)));
            // All addresses, those still being checked included: the kernel would make one at
            // once, but check it for a second before it could be used.
            let all = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
            assert!(!all.contains("mesh0"), "{all}");
        }
    });
}

#[test]
fn a_tap_device_has_the_mac_address_asked_for() {
    in_namespace(|| {
        let device = open(&tap());
        let link = link(device.info().index);
        assert!(is_up(&link));
        assert_eq!(mac(&link), Some(vec![0x02, 0xac, 0, 0, 0, 0x2a]));
        assert_eq!(addresses(device.info().index), ["10.44.0.1/24"]);
    });
}

#[test]
fn a_tun_device_heeds_no_router_advertisements() {
    in_namespace(|| {
        let _device = open(&tun());
        let value = std::fs::read_to_string("/proc/sys/net/ipv6/conf/mesh0/accept_ra").unwrap();
        assert_eq!(value.trim(), "0");
    });
}

#[test]
fn dropping_the_device_deletes_the_interface() {
    in_namespace(|| {
        let device = open(&tun());
        assert!(device_exists("mesh0"));
        drop(device);
        assert!(!device_exists("mesh0"));
    });
}

/// The address that this host speaks from to another one, or the kernel's refusal.
fn source_to(address: &str) -> Result<String, Option<i32>> {
    let to: IpAddr = address.parse().unwrap();
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    let connected = socket.connect((to, 9));
    connected.map_err(|error| error.raw_os_error())?;
    Ok(socket.local_addr().unwrap().ip().to_string())
}

#[test]
fn a_strict_device_shuts_its_networks_in_until_one_is_opened_that_is_not() {
    in_namespace(|| {
        let shut = Err(Some(libc::EHOSTUNREACH));
        let strict = |network: &str| OpenConfig {
            addresses: [network, "fdac:1:2::2a/64"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            strict: true,
            ..tun()
        };
        let device = open(&strict("10.44.0.1/24"));
        assert_eq!(source_to("10.44.0.9"), Ok("10.44.0.1".into()));
        assert_eq!(source_to("fdac:1:2::9"), Ok("fdac:1:2::2a".into()));
        drop(device);
        assert_eq!(source_to("10.44.0.9"), shut);
        // With a device gone there is no address of ours to speak from either.
        assert!(source_to("fdac:1:2::9").is_err());
        // What is left of the narrower network does not stand in the way of a wider one.
        let device = open(&strict("10.44.0.1/16"));
        for address in ["10.44.0.9", "10.44.7.9"] {
            assert_eq!(source_to(address), Ok("10.44.0.1".into()));
        }
        drop(device);
        assert_eq!(source_to("10.44.7.9"), shut);
        drop(open(&tun()));
        for address in ["10.44.0.9", "10.44.7.9"] {
            assert_eq!(source_to(address), Err(Some(libc::ENETUNREACH)));
        }
    });
}

#[test]
fn what_a_strict_device_left_does_not_stand_in_the_way_of_one_of_another_name() {
    in_namespace(|| {
        let named = |name: &str, network: &str, strict| OpenConfig {
            name: name.into(),
            addresses: [network, "fdac:1:2::2a/64"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            strict,
            ..tun()
        };
        // The same network, a wider and a narrower one.
        for (before, after) in [
            ("10.44.0.1/24", "10.44.0.1/24"),
            ("10.44.0.1/24", "10.44.0.1/16"),
            ("10.44.0.1/16", "10.44.0.1/24"),
        ] {
            for strict in [true, false] {
                drop(open(&named("mesh0", before, true)));
                assert_eq!(source_to("10.44.0.9"), Err(Some(libc::EHOSTUNREACH)));
                let device = open(&named("vpn0", after, strict));
                let what = format!("{before} then {after}, strict: {strict}");
                assert_eq!(source_to("10.44.0.9"), Ok("10.44.0.1".into()), "{what}");
                assert_eq!(
                    source_to("fdac:1:2::9"),
                    Ok("fdac:1:2::2a".into()),
                    "{what}"
                );
                drop(device);
                drop(open(&named("vpn0", after, false)));
                assert_eq!(
                    source_to("10.44.0.9"),
                    Err(Some(libc::ENETUNREACH)),
                    "{what}"
                );
            }
        }
    });
}

#[test]
fn a_strict_device_that_is_up_stays_strict_when_another_of_its_network_comes() {
    in_namespace(|| {
        let first = open(&OpenConfig {
            strict: true,
            ..tun()
        });
        drop(open(&OpenConfig {
            name: "vpn0".into(),
            link_local: None,
            addresses: vec!["10.44.0.2/24".parse().unwrap()],
            ..tun()
        }));
        drop(first);
        assert_eq!(source_to("10.44.0.9"), Err(Some(libc::EHOSTUNREACH)));
    });
}

/// Removes all rules of a strict device, or all of its routes, as a network manager does that did not make them.
fn take_away(is_rules: bool) {
    use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
    use rtnetlink::packet_route::rule::RuleAttribute;
    const MADE_BY: RouteProtocol = RouteProtocol::Other(172);
    administrate(async |handle| {
        if is_rules {
            for version in [IpVersion::V4, IpVersion::V6] {
                let request = handle.rule().get(version).execute();
                let rules: Vec<_> = request.try_collect().await.unwrap();
                let is_ours = RuleAttribute::Protocol(MADE_BY);
                for rule in rules {
                    if rule.attributes.contains(&is_ours) {
                        handle.rule().del(rule).execute().await.unwrap();
                    }
                }
            }
            return;
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut every = RouteMessage::default();
            every.header.address_family = family;
            let request = handle.route().get(every).execute();
            let routes: Vec<_> = request.try_collect().await.unwrap();
            for route in routes {
                if route.header.protocol == MADE_BY {
                    handle.route().del(route).execute().await.unwrap();
                }
            }
        }
    });
}

#[test]
fn what_others_take_away_of_a_strict_device_is_put_back() {
    in_namespace(|| {
        let config = OpenConfig {
            strict: true,
            ..tun()
        };
        let device = open(&config);
        let index = device.info().index;
        let kept = |index| tuntap::strict::keep(&config, index).unwrap();
        assert!(!kept(Some(index)), "nothing is missing");
        for is_rules in [true, false] {
            take_away(is_rules);
            assert!(kept(Some(index)));
            assert!(!kept(Some(index)));
        }
        assert_eq!(source_to("10.44.0.9"), Ok("10.44.0.1".into()));
        assert_eq!(source_to("fdac:1:2::9"), Ok("fdac:1:2::2a".into()));
        // Its routes go with its going down, which is nobody's doing but the administrator's.
        administrate(async |handle| set_up(&handle, index, false).await);
        assert!(!kept(Some(index)), "it is down");
        assert_eq!(source_to("10.44.0.9"), Err(Some(libc::EHOSTUNREACH)));
        administrate(async |handle| set_up(&handle, index, true).await);
        assert!(!kept(Some(index)), "it is up again");
        assert_eq!(source_to("10.44.0.9"), Ok("10.44.0.1".into()));
        // Without a device, too.
        drop(device);
        take_away(true);
        assert!(kept(None));
        assert_eq!(source_to("10.44.0.9"), Err(Some(libc::EHOSTUNREACH)));
    });
}

#[test]
fn two_devices_get_the_next_free_numbers() {
    in_namespace(|| {
        let config = OpenConfig {
            name: "mesh%d".into(),
            link_local: None,
            addresses: Vec::new(),
            ..tun()
        };
        let (first, second) = (open(&config), open(&config));
        assert_eq!(first.info().name, "mesh0");
        assert_eq!(second.info().name, "mesh1");
        assert_ne!(first.info().index, second.info().index);
    });
}

#[test]
fn a_name_in_use_is_told_and_its_device_stays() {
    in_namespace(|| {
        let device = open(&tun());
        let error = open_device(&tun()).unwrap_err();
        assert!(matches!(error, OpenError::NameTaken { .. }), "{error:?}");
        assert!(is_up(&link(device.info().index)));
    });
}

#[test]
fn an_interface_of_another_kind_is_told() {
    in_namespace(|| {
        let _device = open(&tun());
        let loopback = OpenConfig {
            name: "lo".into(),
            ..tun()
        };
        for config in [tap(), loopback] {
            let error = open_device(&config).unwrap_err();
            assert!(matches!(error, OpenError::WrongKind { .. }), "{error:?}");
        }
    });
}

#[test]
fn a_refused_address_is_named_and_no_interface_is_left() {
    in_namespace(|| {
        let mut config = tun();
        config.addresses.push("::1/128".parse().unwrap());
        let error = open_device(&config).unwrap_err();
        let OpenError::AddressRefused { address, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(address.to_string(), "::1/128");
        assert!(!device_exists("mesh0"));
    });
}

#[test]
fn without_ipv6_the_device_has_its_ipv4_addresses_and_says_why() {
    in_namespace(|| {
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let opened = open_device(&tun()).unwrap();
        assert_eq!(addresses(opened.queues[0].info().index), ["10.44.0.1/24"]);
        let skipped: Vec<_> = (opened.skipped.iter())
            .map(|skipped| (skipped.address.to_string(), skipped.reason))
            .collect();
        assert_eq!(
            skipped,
            [
                ("fe80::2a/64".to_owned(), SkipReason::SwitchedOff),
                ("fdac:1:2::2a/64".to_owned(), SkipReason::SwitchedOff),
            ]
        );
    });
}

#[test]
fn an_mtu_too_small_for_ipv6_leaves_ipv4() {
    in_namespace(|| {
        for (mtu, count) in [(1_280, 0), (1_279, 2)] {
            let opened = open_device(&OpenConfig { mtu, ..tun() }).unwrap();
            let reasons: Vec<_> = opened.skipped.iter().map(|s| s.reason).collect();
            assert_eq!(reasons, vec![SkipReason::MtuTooSmall; count]);
            assert_eq!(addresses(opened.queues[0].info().index).len(), 3 - count);
        }
    });
}

#[test]
fn the_kernel_agrees_with_our_bounds_of_the_mtu() {
    in_namespace(|| {
        for (mode, highest) in [(Mode::Tun, 65_535), (Mode::Tap, 65_521)] {
            for wanted in [68, highest] {
                let config = OpenConfig {
                    mode,
                    mtu: wanted,
                    link_local: None,
                    addresses: Vec::new(),
                    ..tun()
                };
                let device = open(&config);
                let index = device.info().index;
                assert_eq!(mtu(&link(index)), Some(wanted));
                let beyond = if wanted == 68 { 67 } else { highest + 1 };
                let refused = tuntap::set_mtu(index, beyond).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
            }
        }
    });
}

#[test]
fn opening_works_inside_a_runtime() {
    in_namespace(|| {
        administrate(async |_| {
            let device = open(&tun());
            assert!(!local_addresses().unwrap().is_empty());
            assert_eq!(device.info().name, "mesh0");
        });
    });
}
