use std::sync::Arc;

use super::*;
use crate::keyed::KeyedHasher;
use crate::node::snapshot::NeighborSet;
use crate::pump::rx::Span;
use crate::route::address::{Mac, Mesh, mac};
use crate::route::frame::build::frame;
use crate::route::known::Known;
use crate::route::learned::Learned;
use crate::route::storm::StormRates;
use crate::route::switch::Switch;
use crate::route::underlay::Underlay;

mod sources;

const ME: NetId = NetId(1);
const A: NetId = NetId(0xA);
const ALL: Mac = [0xFF; 6];
const HERE: Mac = [0x0A, 0, 0, 0, 0, 1];
const THERE: Mac = [0x0A, 0, 0, 0, 0, 2];
const IPV4: [u8; 24] = [
    0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 10, 10, 0, 0, 1, 0, 5, 0, 6,
];

fn snapshot() -> Snapshot {
    Snapshot {
        neighbors: Arc::new(NeighborSet::empty()),
        routes: Arc::new(Routes::new(ME, Mesh::default(), &[], [], [], 1)),
        underlay: Arc::new(Underlay::default()),
        sessions: None,
        ends: None,
        known: Arc::new(Known::new([A])),
    }
}

/// A node's view, in which one node is held to these prefixes.
fn held_to(netid: NetId, prefixes: &[wire::sealed::Prefix]) -> Snapshot {
    use crate::route::grants::Grants;
    use crate::seal::authority::Authority;
    use crate::seal::identity::Identity;
    use crate::seal::keys::Key;

    let identity = Identity::new(Key::new([3; 32]), &Key::new([4; 32]));
    let authority = Authority::new([7; 16], &Key::new([9; 32]));
    let (s, v) = (*identity.public(), identity.signing_public());
    let fields = wire::sealed::Certificate::of([7; 16], netid, s, v);
    let certificate = authority.sign(&fields, prefixes).unwrap();
    let mut grants = Grants::default();
    grants.note(netid, Some(&certificate));
    let mut snapshot = snapshot();
    let routes = Routes::clone(&snapshot.routes).granting(Arc::new(grants));
    snapshot.routes = Arc::new(routes);
    snapshot
}

fn tap() -> Port {
    let rates = StormRates::default();
    let switch = Switch::new(ME, Mesh::default(), rates, KeyedHasher(1, 2));
    Port::tap(Tap::new(1400, Arc::new(switch)), 1400)
}

fn tun() -> Port {
    let learned = Arc::new(Learned::new(KeyedHasher(1, 2)));
    Port::tun(Tun::new(1400, learned), 1400)
}

fn incoming(port: &mut Port, dst: NetId, payload: &[u8]) -> Result<u32, DropReason> {
    let packet = Packet {
        origin: A,
        dst,
        payload: Span::default(),
    };
    port.incoming(Instant::ZERO, &snapshot(), packet, payload)
}

#[test]
fn a_frame_goes_behind_the_service_byte_and_comes_without_it() {
    let mut port = tap();
    assert_eq!((port.headroom(), port.extra()), (17, 1));
    let mut arena = [0xa5; 40];
    assert_eq!(port.frame(&mut arena, 17), 16);
    assert_eq!(arena[15..18], [0xa5, 0xC0, 0xa5]);

    let payload = [&[0xC0][..], &frame(ALL, THERE, 0x0806, &[1; 28])].concat();
    assert_eq!(incoming(&mut port, NetId::ALL, &payload), Ok(1));
}

#[test]
fn a_packet_goes_right_behind_the_header() {
    let mut port = tun();
    assert_eq!((port.headroom(), port.extra()), (16, 0));
    let mut arena = [0xa5; 40];
    assert_eq!(port.frame(&mut arena, 16), 16);
    assert_eq!(arena, [0xa5; 40]);
    assert_eq!(incoming(&mut port, ME, &IPV4), Ok(0));
}

#[test]
fn data_for_all_nodes_carries_no_packet_for_one() {
    let to = |destination: [u8; 4]| {
        let mut packet = IPV4;
        packet[16..20].copy_from_slice(&destination);
        packet
    };
    let came = |dst, destination| incoming(&mut tun(), dst, &to(destination));
    let refused = Err(DropReason::BadPacket);
    for one in [[10, 0, 0, 1], [192, 0, 2, 7], [10, 0, 0, 255]] {
        assert_eq!(came(NetId::ALL, one), refused);
        assert_eq!(came(ME, one), Ok(0));
    }
    for all in [[224, 0, 0, 251], [255; 4]] {
        assert_eq!(came(NetId::ALL, all), Ok(0));
    }
    // That of a network which the device is in.
    let mut snapshot = snapshot();
    let network = ["10.0.0.1/24".parse().unwrap()];
    snapshot.routes = Arc::new(Routes::new(ME, Mesh::default(), &network, [], [], 1));
    let packet = Packet {
        origin: A,
        dst: NetId::ALL,
        payload: Span::default(),
    };
    let came = tun().incoming(Instant::ZERO, &snapshot, packet, &to([10, 0, 0, 255]));
    assert_eq!(came, Ok(0));
}

#[test]
fn frames_to_a_known_node_go_there_and_to_an_unknown_one_to_all() {
    let mut port = tap();
    let mut to = |destination| {
        let bytes = frame(destination, HERE, 0x0800, &IPV4);
        let sending = port.outgoing(Instant::ZERO, &snapshot(), &bytes);
        sending.map(|sending| sending.dst)
    };
    assert_eq!(to(mac(A)), Ok(A));
    assert_eq!(to(mac(NetId(0xB))), Ok(NetId::ALL));
    assert_eq!(to(ALL), Ok(NetId::ALL));
    assert_eq!(to(mac(ME)), Err(Some(DropReason::OwnDestination)));
}

#[test]
fn packets_and_frames_are_not_mixed() {
    let frame = [&[0xC0][..], &frame(ALL, THERE, 0x0806, &[1; 28])].concat();
    let wrong = Err(DropReason::WrongMode);
    assert_eq!(incoming(&mut tun(), NetId::ALL, &frame), wrong);
    assert_eq!(incoming(&mut tap(), ME, &IPV4), wrong);
    assert_eq!(incoming(&mut tap(), ME, &[0x60]), wrong);
    assert_eq!(
        incoming(&mut tap(), ME, &[0xC0]),
        Err(DropReason::BadPacket)
    );
    for payload in [&frame[..], &IPV4] {
        let judged = incoming(&mut Port::None, ME, payload);
        assert_eq!(judged, Err(DropReason::NoDevice));
    }
}

#[test]
fn a_beacon_is_due_at_the_start_and_every_ten_seconds() {
    let mut port = tap();
    assert_eq!(port.next_timeout(), Some(Instant::ZERO));
    assert_eq!(port.take_beacon(Instant::ZERO).map(<[u8]>::len), Some(60));
    assert_eq!(port.take_beacon(Instant::ZERO), None);
    let next = Instant::from_secs(10);
    assert_eq!(port.next_timeout(), Some(next));
    assert!(port.take_beacon(next).is_some());
    assert_eq!(port.held_until(), None);
    assert_eq!(tun().take_beacon(next), None);
    assert_eq!(tun().next_timeout(), None);
}

#[test]
fn a_certificates_prefixes_hold_in_both_directions_and_for_both_kinds_of_device() {
    use wire::sealed::Prefix;

    let (inside, outside) = (Prefix::V4([10, 0, 0, 0], 24), Prefix::V4([10, 9, 0, 0], 24));
    let in_frame = frame(ALL, THERE, 0x0800, &IPV4);
    for (prefix, may) in [(inside, true), (outside, false)] {
        let refused = Err(DropReason::SourcePrefix);
        // 1. What another node sent.
        let theirs = held_to(A, &[prefix]);
        let packet = |dst| Packet {
            origin: A,
            dst,
            payload: Span::default(),
        };
        let came = tun().incoming(Instant::ZERO, &theirs, packet(ME), &IPV4);
        assert_eq!(came, if may { Ok(0) } else { refused });
        let payload = [&[0xC0][..], &in_frame].concat();
        let came = tap().incoming(Instant::ZERO, &theirs, packet(NetId::ALL), &payload);
        assert_eq!(came, if may { Ok(1) } else { refused });
        // 2. What our own device sends.
        let ours = held_to(ME, &[prefix]);
        let reason = Err(Some(DropReason::SourcePrefix));
        let goes = tun().outgoing(Instant::ZERO, &ours, &IPV4);
        assert_eq!(goes == reason, !may, "{goes:?}");
        let goes = tap().outgoing(Instant::ZERO, &ours, &in_frame);
        assert_eq!(goes == reason, !may, "{goes:?}");
        // 3. The one says nothing about the other.
        assert_ne!(tun().outgoing(Instant::ZERO, &theirs, &IPV4), reason);
    }
}
