//! Certificates, and revocation lists on their way through a line of nodes.

use std::ops::Range;

use wire::sealed::{Certificate, Revoked};

use super::*;
use crate::seal::authority::Authority;
use crate::seal::members::ListError;

const WALL: u64 = 1_700_000_000;

fn authority() -> Authority {
    let mesh_id = node(1, 10, NEAR, true).keys.mesh_id;
    Authority::new(mesh_id, &Key::new([0x77; 32]))
}

/// A node with a certificate; its number is its netid, its serial, and its place on the wire.
fn certified(number: u8) -> End {
    let (authority, netid) = (authority(), NetId(number.into()));
    let mut end = end(1, number, netid, number);
    let (s, v) = {
        let identity = &end.links.local.identity;
        (*identity.public(), identity.signing_public())
    };
    let mut fields = Certificate::of([0; 16], netid, s, v);
    (fields.serial, fields.not_after) = (number.into(), WALL + 1_000);
    end.links.local.certificate = authority.sign(&fields, &[]);
    end.links.local.authority = Some(authority.public());
    let mut members = Members::default().certified();
    members.set_wall(WALL);
    end.links = end.links.admitting(members);
    end
}

/// Lets all speak until nothing is on the wire; `is_lost` says which datagrams do not arrive.
fn settle_all(now: Instant, ends: &mut [End], mut is_lost: impl FnMut() -> bool) {
    for _ in 0..200 {
        let mut sent = Vec::new();
        for end in ends.iter_mut() {
            let from = end.path;
            sent.extend(end.take().into_iter().map(|(to, bytes)| (from, to, bytes)));
        }
        if sent.is_empty() {
            return;
        }
        for (from, to, bytes) in sent {
            let mut all = ends.iter_mut();
            let far = all.find(|end| end.path.endpoint.remote == to.endpoint.remote);
            if let Some(far) = far.filter(|_| !is_lost()) {
                far.receive(now, from, &bytes);
            }
        }
    }
    panic!("they never stop");
}

/// A line of certified nodes, all up.
fn line(count: u8) -> Vec<End> {
    let mut ends: Vec<End> = (1..=count).map(certified).collect();
    for left in 0..ends.len() - 1 {
        let to = ends[left + 1].path;
        let src = ends[left].links.local.netid;
        ends[left].links.send(NOW, &to, &hello(src));
        settle_all(NOW, &mut ends, || false);
    }
    for pair in ends.windows(2) {
        assert!(pair[0].is_up(&pair[1]) && pair[1].is_up(&pair[0]));
    }
    ends
}

fn revoked(serial: u64) -> Revoked {
    Revoked {
        serial,
        static_key: [0; 32],
        not_after: WALL + 1_000,
    }
}

/// Lets the time pass between these seconds after the start, in tenths.
fn pass(ends: &mut [End], seconds: Range<u32>, mut is_lost: impl FnMut() -> bool) {
    for tick in seconds.start * 10 + 1..=seconds.end * 10 {
        let now = NOW + Duration::from_millis(100) * tick;
        for end in ends.iter_mut() {
            end.links.handle_timeout(now);
        }
        settle_all(now, ends, &mut is_lost);
    }
}

#[test]
fn a_list_given_to_one_end_of_a_line_closes_the_sessions_at_the_other() {
    let mut ends = line(4);
    let list = authority().revoke(1, &[revoked(4)]).unwrap();
    assert_eq!(ends[0].links.take_list(NOW, list), Ok(()));
    settle_all(NOW, &mut ends, || false);
    for end in &mut ends[..3] {
        assert_eq!(end.links.members().take_changed_list().unwrap().number(), 1);
        assert_eq!(end.links.local.revocation, Some(1));
    }
    assert!(!ends[2].is_up(&ends[3]));
    assert!(ends[1].is_up(&ends[2]) && ends[0].is_up(&ends[1]));
    // It does not come back, by its own call or by another's.
    ends[3].links.leave(NOW);
    ends[3].take();
    let (to, src) = (ends[2].path, ends[3].links.local.netid);
    ends[3].links.send(NOW, &to, &hello(src));
    settle_all(NOW, &mut ends, || false);
    assert!(!ends[2].is_up(&ends[3]));
    let told = |notice: &Notice| {
        let Notice::Refused { netid, why, .. } = notice else {
            return false;
        };
        (*netid, *why) == (NetId(4), Refusal::Revoked)
    };
    assert!(ends[2].notices.iter().any(told));
}

#[test]
fn the_longest_list_gets_through_a_line_within_ten_seconds_though_much_is_lost() {
    let mut ends = line(4);
    let many: Vec<_> = (0..wire::sealed::REVOKED_MAX as u64)
        .map(|place| revoked(place + 4))
        .collect();
    let list = authority().revoke(1, &many).unwrap();
    assert_eq!(ends[0].links.take_list(NOW, list), Ok(()));
    // Every fifth datagram, in an order that repeats no pattern of ours.
    let mut state = 7_u32;
    let mut is_lost = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16 < 65_536 / 5
    };
    settle_all(NOW, &mut ends, &mut is_lost);
    pass(&mut ends, 0..10, &mut is_lost);
    assert_eq!(ends[2].links.local.revocation, Some(1));
    assert!(!ends[2].is_up(&ends[3]));
    // And nobody goes on telling.
    pass(&mut ends, 10..25, || false);
    assert!(ends[..3].iter().all(|end| end.links.pull_at().is_none()));
}

#[test]
fn a_node_that_was_away_learns_of_a_list_in_the_handshake() {
    let mut ends: Vec<End> = [1, 2].map(certified).into();
    let list = authority().revoke(5, &[revoked(9)]).unwrap();
    ends[1].links.take_list(NOW, list).unwrap();
    let (to, src) = (ends[1].path, ends[0].links.local.netid);
    ends[0].links.send(NOW, &to, &hello(src));
    settle_all(NOW, &mut ends, || false);
    assert_eq!(ends[0].links.local.revocation, Some(5));
    assert!(ends[0].is_up(&ends[1]));
}

#[test]
fn a_neighbor_that_promises_a_list_and_has_none_is_not_asked_for_ever() {
    let mut ends = line(2);
    let to = ends[1].path.endpoint;
    let index = ends[0]
        .links
        .sessions()
        .seals(&to)
        .unwrap()
        .session
        .local_index();
    for _ in 0..3 {
        let promise = Control::ListNumber(u64::MAX);
        ends[0].links.handle_list(NOW, index, &promise);
    }
    // The other one has nothing to answer with.
    pass(&mut ends, 0..20, || false);
    assert_eq!(ends[0].links.local.revocation, None);
    assert!(ends[0].is_up(&ends[1]));
    // Nor is what it makes up believed.
    let own = Authority::new(*authority().mesh_id(), &Key::new([0x78; 32]));
    let forged = own.revoke(9, &[revoked(1)]).unwrap();
    assert_eq!(
        ends[0].links.take_list(NOW, forged),
        Err(ListError::Signature)
    );
}

#[test]
fn without_a_certificate_nobody_comes_up_where_an_authority_signs() {
    let mut ends = vec![certified(1), certified(2)];
    ends[1].links.local.certificate = None;
    let (to, src) = (ends[0].path, ends[1].links.local.netid);
    ends[1].links.send(NOW, &to, &hello(src));
    settle_all(NOW, &mut ends, || false);
    assert!(!ends[0].is_up(&ends[1]) && !ends[1].is_up(&ends[0]));
    let told = |notice: &Notice| {
        matches!(
            notice,
            Notice::Refused {
                why: Refusal::NotCertified,
                ..
            }
        )
    };
    assert!(ends[0].notices.iter().any(told));
}

#[test]
fn a_certificate_that_ends_closes_its_session_at_the_next_rekey_and_not_before() {
    let mut ends = line(2);
    for end in &mut ends {
        let late = WALL + 1_000 + crate::seal::members::GRACE + 1;
        end.links.members().set_wall(late);
    }
    pass(&mut ends, 0..100, || false);
    assert!(ends[0].is_up(&ends[1]) && ends[1].is_up(&ends[0]));
    pass(&mut ends, 100..300, || false);
    assert!(!ends[0].is_up(&ends[1]) && !ends[1].is_up(&ends[0]));
}
