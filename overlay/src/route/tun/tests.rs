use proptest::prelude::*;

use super::*;
use crate::keyed::KeyedHasher;
use crate::route::address::Mesh;
use crate::route::packet::build::udp;
use crate::time::Duration;

const ME: NetId = NetId(1);
const A: NetId = NetId(0xA);
const B: NetId = NetId(0xB);
const MTU: u16 = 1400;

fn routes_of(prefixes: &[(&str, NetId)], epoch: u64) -> Routes {
    let addresses = ["10.0.0.1/24".parse().unwrap()];
    let prefixes: Vec<_> = prefixes
        .iter()
        .map(|(text, netid)| (text.parse().unwrap(), *netid))
        .collect();
    let claimants: Vec<_> = prefixes.iter().map(|(_, netid)| *netid).collect();
    Routes::new(
        ME,
        Mesh::new("field"),
        &addresses,
        prefixes,
        claimants,
        epoch,
    )
}

fn routes() -> Routes {
    routes_of(&[("10.0.0.10/32", A)], 1)
}

fn tun() -> Tun {
    Tun::new(MTU, Arc::new(Learned::new(KeyedHasher(1, 2))))
}

fn underlay() -> Underlay {
    Underlay::new([44204], ["192.0.2.5:4242".parse().unwrap()])
}

fn out(tun: &mut Tun, routes: &Routes, packet: &[u8]) -> Outgoing {
    tun.outgoing(Instant::ZERO, routes, &underlay(), packet, packet.len())
}

fn derived(netid: u32) -> String {
    Mesh::new("field").address(NetId(netid)).to_string()
}

#[test]
fn packets_go_to_who_holds_their_destination() {
    let (mut tun, routes) = (tun(), routes());
    let mine = derived(1);
    for (from, to, expected) in [
        ("10.0.0.1", "10.0.0.10", Outgoing::To(A)),
        (&mine[..], &derived(0x77)[..], Outgoing::To(NetId(0x77))),
        ("fe80::1", "fe80::77", Outgoing::To(NetId(0x77))),
        ("10.0.0.1", "224.0.0.251", Outgoing::All),
        ("10.0.0.1", "10.0.0.255", Outgoing::All),
        ("0.0.0.0", "255.255.255.255", Outgoing::All),
        ("::", "ff02::1:ff00:1", Outgoing::All),
        ("10.0.0.1", "10.0.0.99", Outgoing::Hold),
        (
            "10.0.0.1",
            "10.0.0.1",
            Outgoing::Drop(DropReason::OwnDestination),
        ),
        (
            "0.0.0.0",
            "10.0.0.10",
            Outgoing::Drop(DropReason::BadDevicePacket),
        ),
        (
            "127.0.0.1",
            "10.0.0.10",
            Outgoing::Drop(DropReason::BadDevicePacket),
        ),
        (
            "10.0.0.10",
            "10.0.0.99",
            Outgoing::Drop(DropReason::SourceNotOurs),
        ),
        (
            &derived(7)[..],
            &derived(8)[..],
            Outgoing::Drop(DropReason::SourceNotOurs),
        ),
        (
            "10.0.0.1",
            "240.0.0.1",
            Outgoing::Answer(Answer::Unreachable),
        ),
    ] {
        // Twice: decided, then out of the cache.
        for _ in 0..2 {
            assert_eq!(
                out(&mut tun, &routes, &udp(from, to, 1, 2)),
                expected,
                "{to}"
            );
        }
    }
    let nobody = "10.0.0.1";
    assert_eq!(
        out(&mut tun, &routes, &udp(nobody, "10.0.0.10", 1, 2)[..10]),
        Outgoing::Drop(DropReason::BadDevicePacket)
    );
}

#[test]
fn an_address_of_the_prefix_that_names_no_node_is_unreachable_at_once() {
    let (mut tun, routes) = (tun(), routes());
    let nobody = routes.mesh().network().addr().to_string();
    let packet = udp(&derived(1), &nobody, 1, 2);
    assert_eq!(
        out(&mut tun, &routes, &packet),
        Outgoing::Answer(Answer::Unreachable)
    );
}

#[test]
fn our_own_link_traffic_never_enters_the_mesh() {
    let (mut tun, routes) = (tun(), routes_of(&[("192.0.2.5/32", A)], 1));
    let loops = udp("10.0.0.1", "192.0.2.5", 44204, 4242);
    // Also when the flow is in the cache because of another port.
    let other = udp("10.0.0.1", "192.0.2.5", 5, 4242);
    assert_eq!(out(&mut tun, &routes, &other), Outgoing::To(A));
    assert_eq!(
        out(&mut tun, &routes, &loops),
        Outgoing::Drop(DropReason::OverlayLoop)
    );
}

#[test]
fn what_is_above_the_mtu_is_answered_and_super_packets_are_judged_by_segment() {
    let (mut tun, routes) = (tun(), routes());
    let mut packet = udp("10.0.0.1", "10.0.0.10", 1, 2);
    packet.resize(1401, 0);
    packet[2..4].copy_from_slice(&1401_u16.to_be_bytes());
    assert_eq!(
        out(&mut tun, &routes, &packet),
        Outgoing::Answer(Answer::TooBig { mtu: MTU })
    );
    let decided = tun.outgoing(Instant::ZERO, &routes, &underlay(), &packet, 1400);
    assert_eq!(decided, Outgoing::To(A));
}

#[test]
fn a_new_snapshot_is_heeded_at_once() {
    let mut tun = tun();
    let packet = udp("10.0.0.1", "10.0.0.10", 1, 2);
    assert_eq!(
        out(&mut tun, &routes_of(&[("10.0.0.10/32", A)], 1), &packet),
        Outgoing::To(A)
    );
    assert_eq!(
        out(&mut tun, &routes_of(&[("10.0.0.10/32", B)], 2), &packet),
        Outgoing::To(B)
    );
}

#[test]
fn a_held_packet_leaves_with_the_claim_or_is_answered_after_a_second() {
    let mut tun = tun();
    let first = udp("10.0.0.1", "10.0.0.20", 1, 2);
    let second = udp("10.0.0.1", "10.0.0.30", 1, 2);
    tun.hold(Instant::ZERO, &first).unwrap();
    tun.hold(Instant::ZERO, &second).unwrap();
    let routes = routes_of(&[("10.0.0.20/32", A)], 2);
    let mut released = Vec::new();
    tun.release(Instant(1), &routes, |packet, what| {
        released.push((packet.to_vec(), what));
    });
    assert_eq!(released, [(first, Released::Found(A))]);
    let due = tun.next_timeout().unwrap();
    assert_eq!(due, Instant::from_secs(1));
    released.clear();
    tun.release(due, &routes, |packet, what| {
        released.push((packet.to_vec(), what));
    });
    assert_eq!(released, [(second.clone(), Released::Expired)]);
    // For a while it is answered at once.
    let next = tun.outgoing(due, &routes, &underlay(), &second, second.len());
    assert_eq!(next, Outgoing::Answer(Answer::Unreachable));
}

#[test]
fn ten_answers_a_second_and_no_more() {
    let (mut tun, routes) = (tun(), routes());
    let packet = udp("10.0.0.1", "10.0.0.20", 1, 2);
    let mut buffer = [0; icmp::MAX_ANSWER_LEN];
    let mut answered = |now| {
        tun.answer(now, &routes, Answer::Unreachable, &packet, &mut buffer)
            .is_some()
    };
    let start = Instant::from_secs(9);
    assert_eq!((0..50).filter(|_| answered(start)).count(), 10);
    assert!(!answered(start + Duration::from_millis(99)));
    assert!(answered(start + Duration::from_millis(100)));
}

#[test]
fn sources_are_refused_on_contradiction_only() {
    let (mut tun, routes) = (tun(), routes());
    let random = "fe80::1234:5678:9abc:def0";
    for (from, source, to, expected) in [
        (A, "10.0.0.10", "10.0.0.1", Ok(())),
        (A, &derived(0xA)[..], &derived(1)[..], Ok(())),
        (A, "fe80::a", "ff02::1", Ok(())),
        (A, random, "ff02::1", Ok(())),
        (A, "10.0.0.77", "10.0.0.1", Ok(())),
        (A, "::", "ff02::1:ff00:a", Ok(())),
        (A, "0.0.0.0", "255.255.255.255", Ok(())),
        (B, "10.0.0.10", "10.0.0.1", Err(DropReason::SourceClaimed)),
        (B, "10.0.0.1", "10.0.0.1", Err(DropReason::SourceClaimed)),
        (
            B,
            &derived(0xA)[..],
            &derived(1)[..],
            Err(DropReason::SourceClaimed),
        ),
        (B, "fe80::a", "ff02::1", Err(DropReason::SourceClaimed)),
        (
            B,
            &derived(1)[..],
            &derived(1)[..],
            Err(DropReason::SourceClaimed),
        ),
        (B, "::", "fe80::1", Err(DropReason::BadPacket)),
        (B, "224.0.0.1", "10.0.0.1", Err(DropReason::BadPacket)),
        (B, "255.255.255.255", "10.0.0.1", Err(DropReason::BadPacket)),
        (B, "127.0.0.1", "10.0.0.1", Err(DropReason::BadPacket)),
        (B, "::1", "fe80::1", Err(DropReason::BadPacket)),
        (B, "ff02::1", "fe80::1", Err(DropReason::BadPacket)),
        (B, "10.0.0.11", "127.0.0.1", Err(DropReason::BadPacket)),
    ] {
        for _ in 0..2 {
            let packet = udp(source, to, 1, 2);
            let judged = tun.incoming(Instant::ZERO, &routes, from, &packet);
            assert_eq!(judged, expected, "{from} {source} {to}");
        }
    }
}

#[test]
fn malformed_and_oversized_packets_are_not_delivered() {
    let (mut tun, routes) = (tun(), routes());
    let mut packet = udp("10.0.0.10", "10.0.0.1", 1, 2);
    for end in 0..packet.len() {
        let judged = tun.incoming(Instant::ZERO, &routes, A, &packet[..end]);
        assert_eq!(judged, Err(DropReason::BadPacket));
    }
    packet.resize(1401, 0);
    packet[2..4].copy_from_slice(&1401_u16.to_be_bytes());
    let judged = tun.incoming(Instant::ZERO, &routes, A, &packet);
    assert_eq!(judged, Err(DropReason::TooBigForDevice));
}

#[test]
fn a_node_that_never_claims_is_learned_and_answered() {
    let (mut tun, routes) = (tun(), routes());
    let stranger = NetId(0x5);
    let packet = udp("10.0.0.50", "10.0.0.1", 1, 2);
    assert_eq!(
        tun.incoming(Instant::ZERO, &routes, stranger, &packet),
        Ok(())
    );
    let answer = udp("10.0.0.1", "10.0.0.50", 2, 1);
    assert_eq!(out(&mut tun, &routes, &answer), Outgoing::To(stranger));
    // Another who uses the address contradicts, whether it claims or not.
    for other in [B, A] {
        let judged = tun.incoming(Instant::ZERO, &routes, other, &packet);
        assert_eq!(judged, Err(DropReason::SourceClaimed));
    }
    // A claim goes before what was learned.
    let claimed = routes_of(&[("10.0.0.50/32", B)], 2);
    assert_eq!(out(&mut tun, &claimed, &answer), Outgoing::To(B));
    assert_eq!(tun.incoming(Instant::ZERO, &claimed, B, &packet), Ok(()));
    let judged = tun.incoming(Instant::ZERO, &claimed, stranger, &packet);
    assert_eq!(judged, Err(DropReason::SourceClaimed));
}

#[test]
fn a_node_that_claims_is_not_learned() {
    let (mut tun, routes) = (tun(), routes());
    let packet = udp("10.0.0.50", "10.0.0.1", 1, 2);
    assert_eq!(tun.incoming(Instant::ZERO, &routes, A, &packet), Ok(()));
    let answer = udp("10.0.0.1", "10.0.0.50", 2, 1);
    assert_eq!(out(&mut tun, &routes, &answer), Outgoing::Hold);
}

#[test]
fn learning_is_bounded() {
    let (mut tun, routes) = (tun(), routes());
    for n in 0..1000_u32 {
        let source = format!("10.3.{}.{}", n / 250, n % 250);
        let packet = udp(&source, "10.0.0.1", 1, 2);
        let _ = tun.incoming(Instant::ZERO, &routes, NetId(0x5), &packet);
    }
    assert_eq!(tun.learned.len(), crate::route::learned::MAX_OF_ONE);
}

proptest! {
    #[test]
    fn any_bytes_are_decided_about(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let (mut tun, routes) = (tun(), routes());
        let mut buffer = [0; icmp::MAX_ANSWER_LEN];
        for version in [None, Some(0x45), Some(0x60)] {
            if let (Some(version), Some(first)) = (version, bytes.first_mut()) {
                *first = version;
            }
            let len = bytes.len();
            if len >= 40 {
                bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                if version == Some(0x60) {
                    bytes[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
                }
            }
            if out(&mut tun, &routes, &bytes) == Outgoing::Hold {
                let _ = tun.hold(Instant::ZERO, &bytes);
            }
            let _ = tun.incoming(Instant::ZERO, &routes, A, &bytes);
            let answer = Answer::Unreachable;
            let _ = tun.answer(Instant::ZERO, &routes, answer, &bytes, &mut buffer);
        }
    }
}
