mod loops;

use proptest::prelude::*;

use super::*;
use crate::keyed::KeyedHasher;
use crate::route::address::{Mac, Mesh};
use crate::route::frame::build::{frame, tagged};
use crate::route::storm::StormRates;
use crate::time::Duration;

const ME: NetId = NetId(1);
const A: NetId = NetId(0xA);
const B: NetId = NetId(0xB);
const HERE: Mac = [0x0A, 0, 0, 0, 0, 1];
const THERE: Mac = [0x0A, 0, 0, 0, 0, 2];
const ALL: Mac = [0xFF; 6];
const GROUP: Mac = [0x01, 0, 0x5E, 0, 0, 1];

fn tap_of(me: NetId, key: u64) -> Tap {
    let rates = StormRates::default();
    let switch = Switch::new(me, Mesh::new("field"), rates, KeyedHasher(key, 2));
    Tap::new(1400, Arc::new(switch))
}

fn tap() -> Tap {
    tap_of(ME, 1)
}

fn known(netid: NetId) -> bool {
    netid == A || netid == B
}

fn at(seconds: u64) -> Instant {
    Instant::from_secs(seconds)
}

fn out(tap: &mut Tap, now: Instant, bytes: &[u8]) -> Outgoing {
    tap.outgoing(now, known, bytes, bytes.len())
}

fn ip(destination: Mac, source: Mac) -> Vec<u8> {
    frame(destination, source, 0x0800, &[7; 60])
}

fn numbered_by(source: Mac, to: Mac, number: u32) -> Vec<u8> {
    frame(to, source, 0x0800, &number.to_be_bytes())
}

#[test]
fn frames_to_a_node_itself_need_no_learning_if_it_is_known() {
    let mut tap = tap();
    assert_eq!(out(&mut tap, at(0), &ip(mac(A), mac(ME))), Outgoing::To(A));
    assert_eq!(
        out(&mut tap, at(0), &ip(mac(NetId(0xC)), mac(ME))),
        Outgoing::All
    );
    let own = out(&mut tap, at(0), &ip(mac(ME), HERE));
    assert_eq!(own, Outgoing::Drop(DropReason::OwnDestination));
}

#[test]
fn stations_are_learned_from_frames_in_both_directions() {
    let mut tap = tap();
    assert_eq!(out(&mut tap, at(0), &ip(THERE, HERE)), Outgoing::All);
    assert_eq!(
        tap.incoming(at(0), known, B, false, &ip(HERE, THERE)),
        Ok(())
    );
    assert_eq!(out(&mut tap, at(0), &ip(THERE, HERE)), Outgoing::To(B));
    // Both are on this side: the bridge behind the device has delivered it.
    let same_side = out(&mut tap, at(0), &ip(HERE, [0x0A, 0, 0, 0, 0, 3]));
    assert_eq!(same_side, Outgoing::Drop(DropReason::OwnDestination));
    // After 300 s without a frame it is unknown again.
    assert_eq!(out(&mut tap, at(299), &ip(THERE, HERE)), Outgoing::To(B));
    assert_eq!(out(&mut tap, at(300), &ip(THERE, HERE)), Outgoing::All);
}

#[test]
fn a_learned_station_goes_before_the_derived_rule() {
    let mut tap = tap();
    let odd = mac(NetId(0xC));
    // 0xC is no known node; a station behind A happens to have its address.
    assert_eq!(tap.incoming(at(0), known, A, true, &ip(ALL, odd)), Ok(()));
    let now_known = |netid| known(netid) || netid == NetId(0xC);
    let bytes = ip(odd, HERE);
    assert_eq!(
        tap.outgoing(at(0), now_known, &bytes, bytes.len()),
        Outgoing::To(A)
    );
}

#[test]
fn a_move_is_followed_at_once_though_the_flow_is_cached() {
    let mut tap = tap();
    tap.incoming(at(0), known, A, true, &ip(ALL, THERE))
        .unwrap();
    assert_eq!(out(&mut tap, at(0), &ip(THERE, HERE)), Outgoing::To(A));
    tap.incoming(at(0), known, B, true, &ip(ALL, THERE))
        .unwrap();
    assert_eq!(out(&mut tap, at(0), &ip(THERE, HERE)), Outgoing::To(B));
}

#[test]
fn another_nodes_own_address_is_refused_as_source() {
    let mut tap = tap();
    for (from, source) in [(B, mac(A)), (B, mac(ME))] {
        let judged = tap.incoming(at(0), known, from, true, &ip(ALL, source));
        assert_eq!(judged, Err(DropReason::SourceClaimed));
    }
    let own = out(&mut tap, at(0), &ip(ALL, mac(A)));
    assert_eq!(own, Outgoing::Drop(DropReason::SourceNotOurs));
    for source in [[0; 6], ALL, GROUP] {
        let judged = tap.incoming(at(0), known, B, true, &ip(ALL, source));
        assert_eq!(judged, Err(DropReason::BadPacket));
        let own = out(&mut tap, at(0), &ip(ALL, source));
        assert_eq!(own, Outgoing::Drop(DropReason::BadDevicePacket));
    }
    assert!(tap.switch.is_empty());
}

#[test]
fn lengths_are_judged_without_header_and_tags() {
    let mut tap = tap();
    let fits = frame(ALL, THERE, 0x0800, &[7; 1400]);
    let too_big = frame(ALL, THERE, 0x0800, &[7; 1401]);
    assert_eq!(tap.incoming(at(0), known, A, true, &fits), Ok(()));
    let judged = tap.incoming(at(0), known, A, true, &too_big);
    assert_eq!(judged, Err(DropReason::TooBigForDevice));
    let vlan = tagged(ALL, THERE, 7, &[7; 1400]);
    assert_eq!(tap.incoming(at(0), known, A, true, &vlan), Ok(()));

    let too_big = frame(ALL, HERE, 0x0800, &[7; 1401]);
    assert_eq!(
        out(&mut tap, at(0), &too_big),
        Outgoing::Drop(DropReason::PacketTooBig)
    );
    // A super-frame by its segments.
    assert_eq!(tap.outgoing(at(0), known, &too_big, 1414), Outgoing::All);
    assert_eq!(
        out(&mut tap, at(0), &[0; 13]),
        Outgoing::Drop(DropReason::BadDevicePacket)
    );
}

#[test]
fn floods_are_limited_by_class_from_the_device_and_from_each_origin() {
    let mut tap = tap();
    let passed = |tap: &mut Tap, to| {
        let all = |n| out(tap, at(0), &numbered_by(HERE, to, n)) == Outgoing::All;
        (0..50_000).map(all).filter(|&passed| passed).count()
    };
    assert_eq!(passed(&mut tap, THERE), 2000);
    assert_eq!(passed(&mut tap, ALL), 0);
    assert_eq!(passed(&mut tap, GROUP), 40_000);
    let storm = out(&mut tap, at(0), &ip(ALL, HERE));
    assert_eq!(storm, Outgoing::Drop(DropReason::StormControl));

    let mut from = |origin| {
        let ok = |n: &u32| {
            let bytes = numbered_by([0x0A, 9, 9, 9, 9, origin as u8], ALL, *n);
            tap.incoming(at(0), known, NetId(origin), true, &bytes)
                .is_ok()
        };
        (0..5000).filter(ok).count()
    };
    assert_eq!((from(0xA), from(0xB)), (2000, 2000));
}

#[test]
fn unknown_unicast_from_the_mesh_counts_as_broadcast_and_unicast_to_us_does_not() {
    let mut tap = tap();
    let mut passed = |to_all| {
        let ok = |n: &u32| {
            let bytes = numbered_by(THERE, HERE, *n);
            tap.incoming(at(0), known, A, to_all, &bytes).is_ok()
        };
        (0..5000).filter(ok).count()
    };
    assert_eq!(passed(true), 2000);
    assert_eq!(passed(false), 5000);
}

#[test]
fn a_frame_that_comes_back_from_the_device_is_a_loop() {
    let mut tap = tap();
    let arp = frame(ALL, THERE, 0x0806, &[7; 28]);
    tap.incoming(at(0), known, A, true, &arp).unwrap();
    assert_eq!(
        out(&mut tap, at(4), &arp),
        Outgoing::Drop(DropReason::BridgeLoop)
    );
    // Where the station was learned stays as it was.
    assert_eq!(tap.switch.find(at(4), Station::new(THERE, 0)), Some(A));
    assert_eq!(out(&mut tap, at(6), &arp), Outgoing::All);
}

#[test]
fn a_frame_that_we_read_ends_when_it_comes_by_the_mesh() {
    let mut tap = tap();
    let arp = frame(ALL, HERE, 0x0806, &[7; 28]);
    assert_eq!(out(&mut tap, at(0), &arp), Outgoing::All);
    let judged = tap.incoming(at(4), known, A, true, &arp);
    assert_eq!(judged, Err(DropReason::BridgeLoop));
    // Where the station was learned stays as it was.
    assert_eq!(tap.switch.find(at(4), Station::new(HERE, 0)), Some(ME));
    assert_eq!(tap.incoming(at(6), known, A, true, &arp), Ok(()));
    // The station itself may say the same thing twice.
    assert_eq!(out(&mut tap, at(20), &arp), Outgoing::All);
    assert_eq!(out(&mut tap, at(21), &arp), Outgoing::All);
}

#[test]
fn what_may_be_in_a_loop_hurries_the_beacon() {
    enum Act {
        Come,
        Read,
    }
    let arp = frame(ALL, HERE, 0x0806, &[7; 28]);
    for (what, acts) in [
        ("written again", [Act::Come, Act::Come]),
        ("written, and read back", [Act::Come, Act::Read]),
        ("read, and come by the mesh", [Act::Read, Act::Come]),
    ] {
        let mut tap = tap();
        tap.beacon(at(0), &mut [0; beacon::LEN]).unwrap();
        for (act, due) in acts.into_iter().zip([at(10), at(2)]) {
            match act {
                Act::Come => _ = tap.incoming(at(2), known, A, true, &arp),
                Act::Read => _ = out(&mut tap, at(2), &arp),
            }
            assert_eq!(tap.next_beacon(), due, "{what}");
        }
    }
}

#[test]
fn a_unicast_frame_that_comes_again_hurries_the_beacon() {
    for is_here in [false, true] {
        let mut tap = tap();
        tap.beacon(at(0), &mut [0; beacon::LEN]).unwrap();
        if is_here {
            assert_eq!(out(&mut tap, at(1), &ip(ALL, HERE)), Outgoing::All);
        }
        for due in [at(10), at(2)] {
            let judged = tap.incoming(at(2), known, A, false, &ip(HERE, THERE));
            assert_eq!((judged, tap.next_beacon()), (Ok(()), due), "{is_here}");
        }
    }
}

#[test]
fn honest_repetitions_pass_in_both_directions() {
    let announcement = frame(ALL, HERE, 0x0806, &[7; 28]);
    for (what, count, interval) in [
        ("a request each second", 10, 1_000),
        ("a burst of three", 3, 0),
        ("announcements", 5, 100),
        ("five at once", 5, 0),
        ("a heartbeat", 500, 10),
    ] {
        let (mut near, mut far) = (tap_of(A, 1), tap_of(B, 2));
        for n in 0..count {
            let now = at(5) + Duration::from_millis(n * interval);
            assert_eq!(out(&mut near, now, &announcement), Outgoing::All, "{what}");
            let judged = far.incoming(now, known, A, true, &announcement);
            assert_eq!(judged, Ok(()), "{what}");
        }
    }
}

#[test]
fn a_frame_that_comes_too_often_is_no_longer_flooded() {
    let (mut near, mut far) = (tap(), tap());
    let arp = frame(ALL, HERE, 0x0806, &[7; 28]);
    let sent = (0..20).filter(|_| out(&mut near, at(0), &arp) == Outgoing::All);
    assert_eq!(sent.count(), 5);
    let taken = (0..20).filter(|_| far.incoming(at(0), known, A, true, &arp).is_ok());
    assert_eq!(taken.count(), 5);
    // Between single stations the same may be said as often as they like.
    let unicast = ip(HERE, THERE);
    for _ in 0..20 {
        let judged = far.incoming(at(0), known, A, false, &unicast);
        assert_eq!(judged, Ok(()));
    }
}

#[test]
fn our_beacon_from_the_device_or_from_another_node_blocks_that_ports_floods() {
    let mut tap = tap();
    let mut beacon = [0xa5; beacon::LEN];
    assert_eq!(tap.beacon(at(0), &mut beacon), Some(beacon::LEN));
    assert_eq!(tap.beacon(at(0), &mut [0; beacon::LEN]), None);

    let judged = tap.incoming(at(1), known, A, true, &beacon);
    assert_eq!(judged, Err(DropReason::BridgeLoop));
    let judged = tap.incoming(at(1), known, A, true, &ip(ALL, THERE));
    assert_eq!(judged, Err(DropReason::BridgeLoop));
    // Others, and frames for single stations, pass.
    assert_eq!(
        tap.incoming(at(1), known, B, true, &ip(GROUP, THERE)),
        Ok(())
    );
    assert_eq!(
        tap.incoming(at(1), known, A, false, &ip(mac(ME), mac(A))),
        Ok(())
    );
    assert_eq!(out(&mut tap, at(1), &ip(ALL, HERE)), Outgoing::All);

    assert_eq!(
        out(&mut tap, at(1), &beacon),
        Outgoing::Drop(DropReason::BridgeLoop)
    );
    let blocked = out(&mut tap, at(1), &ip(ALL, HERE));
    assert_eq!(blocked, Outgoing::Drop(DropReason::BridgeLoop));
    let ports: Vec<_> = tap
        .switch
        .take_alarms()
        .iter()
        .map(|alarm| alarm.port)
        .collect();
    assert_eq!(ports, [A, ME]);
    assert_eq!(out(&mut tap, at(61), &ip(ALL, HERE)), Outgoing::All);
}

#[test]
fn another_nodes_beacon_is_flooded_from_the_device_and_never_delivered() {
    let (mut ours, mut other) = (tap(), tap_of(A, 2));
    let mut beacon = [0; beacon::LEN];
    other.beacon(at(0), &mut beacon).unwrap();
    assert_eq!(out(&mut ours, at(0), &beacon), Outgoing::All);
    let judged = ours.incoming(at(0), known, B, true, &beacon);
    assert_eq!(judged, Err(DropReason::BridgeLoop));
    assert!(ours.switch.take_alarms().is_empty());
    // Its sender sees it come from us.
    let judged = other.incoming(at(0), known, ME, true, &beacon);
    assert_eq!(judged, Err(DropReason::BridgeLoop));
    assert_eq!(other.switch.take_alarms().len(), 1);
}

#[test]
fn a_made_up_or_old_beacon_blocks_nobody() {
    let mut tap = tap();
    let mut beacon = [0; beacon::LEN];
    tap.beacon(at(0), &mut beacon).unwrap();
    let mut forged = beacon;
    forged[37] ^= 1;
    let _ = tap.incoming(at(1), known, A, true, &forged);
    for n in 1..4 {
        tap.beacon(at(n * 10), &mut [0; beacon::LEN]).unwrap();
    }
    let _ = tap.incoming(at(31), known, A, true, &beacon);
    assert!(tap.switch.take_alarms().is_empty());
    assert!(!tap.switch.is_blocked(at(31), A));
}

#[test]
fn a_station_that_moves_too_often_is_held() {
    let mut tap = tap();
    let mut moves = 0;
    let mut held = 0;
    for n in 0..20 {
        let now = at(0) + Duration::from_millis(n * 100);
        let from = if n % 2 == 0 { A } else { B };
        match tap.incoming(now, known, from, true, &ip(ALL, THERE)) {
            Ok(()) => moves += 1,
            Err(DropReason::MacHeld) => held += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    // Learned, five moves to B, then A is refused and B passes.
    assert_eq!((moves, held), (6 + 7, 7));
}

proptest! {
    #[test]
    fn any_bytes_are_decided_about(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut tap = tap();
        let _ = out(&mut tap, at(0), &bytes);
        let _ = tap.incoming(at(0), known, A, false, &bytes);
        let mut beacon = ip(ALL, THERE);
        beacon[12..14].copy_from_slice(&[0x88, 0xB5]);
        beacon.truncate(14);
        beacon.extend(&bytes);
        let _ = out(&mut tap, at(0), &beacon);
        let _ = tap.incoming(at(0), known, A, true, &beacon);
    }
}
