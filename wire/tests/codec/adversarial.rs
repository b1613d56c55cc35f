//! Bytes that somebody might send to do harm: products of values, each with the expected outcome.
//! Source: groups A to E of the project's adversarial corpus; what is inside Data is judged by
//! whoever it is delivered to, not here.

use std::net::{IpAddr, SocketAddr};

use wire::{Flags, Header, Inform, Kind, MAX_DATAGRAM, Message, NetId, emit_control, emit_inform};

use crate::vectors::reason;

const HELLO: [u8; 16] = emit_control(Kind::Hello, Flags::NO_FORWARD, 1, NetId(0x2a), NetId::ANY);

fn outcome(datagram: &[u8]) -> Result<Kind, &'static str> {
    let message = Message::parse(datagram).map_err(reason);
    message.map(|(header, _)| header.kind)
}

fn of_kind(kind: u8, len: usize) -> Vec<u8> {
    let mut datagram = vec![0xa5; len.max(16)];
    datagram[..16].copy_from_slice(&HELLO);
    datagram[2] = kind;
    datagram.truncate(len);
    datagram
}

/// Group A. 65,508 is one more than UDP over IPv4 can carry; UDP over IPv6 can.
#[test]
fn sizes() {
    for kind in [0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x7f] {
        let expected = Kind::from_byte(kind);
        for len in [0, 1, 15, MAX_DATAGRAM + 1, 65_527, 70_000] {
            assert_eq!(
                outcome(&of_kind(kind, len)),
                Err("malformed"),
                "{expected} {len}"
            );
        }
        for len in [16, 17, 37] {
            let expected = match expected {
                Kind::Inform => Err("bad_inform"),
                kind => Ok(kind),
            };
            assert_eq!(outcome(&of_kind(kind, len)), expected, "{len}");
        }
        for len in [38, 39, 1_472, MAX_DATAGRAM] {
            assert_eq!(outcome(&of_kind(kind, len)), Ok(expected), "{len}");
        }
    }
}

/// Group B.
#[test]
fn every_wrong_magic_and_version() {
    for magic in 0..=255 {
        for version in 0..=255 {
            let mut datagram = HELLO;
            datagram[..2].copy_from_slice(&[magic, version]);
            let expected = match (magic, version) {
                (0xac, 0x01) => Ok(Kind::Hello),
                (0xac, _) => Err("wrong_version"),
                _ => Err("malformed"),
            };
            assert_eq!(outcome(&datagram), expected, "{magic:02x} {version:02x}");
        }
    }
}

/// Group C.
#[test]
fn every_kind_with_every_sort_of_flags() {
    for kind in 0..=255 {
        for flags in [0x00, 0x80, 0x7f, 0xff] {
            let mut datagram = of_kind(kind, 38);
            datagram[3] = flags;
            let (header, message) = Message::parse(&datagram).unwrap();
            assert_eq!(header.kind.to_byte(), kind);
            assert_eq!(header.flags, Flags(flags));
            let named = matches!(kind, 1..=5 | 0x10);
            assert_eq!(matches!(message, Message::Unknown(_)), !named, "{kind:02x}");
        }
    }
}

/// Group D: our own netid is a matter of judging, not of reading.
#[test]
fn every_sort_of_src_and_dst() {
    let netids = [0x0000_0000, 0xffff_ffff, 0x0000_002a, 0x9c3f_11d2];
    for src in netids {
        for dst in netids {
            for kind in [Kind::Hello, Kind::Ping, Kind::Data, Kind::Unknown(0x7f)] {
                let datagram = emit_control(kind, Flags::NONE, 1, NetId(src), NetId(dst));
                let expected = match src {
                    0 | 0xffff_ffff => Err("bad_source"),
                    _ => Ok(kind),
                };
                assert_eq!(outcome(&datagram), expected, "{src:08x} {dst:08x}");
            }
        }
    }
}

/// Group E: every address is read as it stands, so that the filter sees what would be dialed.
/// What hides an IPv4 address in IPv6 in another way than `::ffff:0:0/96` stays IPv6.
#[test]
fn inform_of_every_sort_of_address() {
    let addresses = [
        "0.0.0.0",
        "0.0.0.1",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.1.1",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "9.9.9.9",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2620:fe::9",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];
    for text in addresses {
        for port in [0, 1, 53, 44_204, 65_535] {
            let address: IpAddr = text.parse().unwrap();
            let inform = Inform {
                subject: NetId(0x11),
                endpoint: SocketAddr::new(address, port),
            };
            let datagram = emit_inform(Flags::NONE, 1, NetId(0x2a), NetId(7), &inform);
            let (header, message) = Message::parse(&datagram).unwrap();
            assert_eq!(Header::parse(&datagram), Ok(header));
            assert_eq!(message, Message::Inform(inform), "{text}");
        }
    }
}
