//! Other rules and certificates while links are up, and what a certificate lets its node say.

use wire::sealed::Certificate;

use super::*;
use crate::seal::authority::Authority;
use crate::seal::members::Trusted;

const WALL: u64 = 1_700_000_000;

fn authority(secret: u8) -> Authority {
    let mesh_id = node(1, 10, NEAR, true).keys.mesh_id;
    Authority::new(mesh_id, &Key::new([secret; 32]))
}

fn certificate(by: &Authority, end: &End, serial: u64, rights: u16) -> Vec<u8> {
    let local = end.links.local();
    let (s, v) = (*local.identity.public(), local.identity.signing_public());
    let mut fields = Certificate::of([0; 16], local.netid, s, v);
    (fields.serial, fields.rights, fields.not_after) = (serial, rights, WALL + 1_000);
    by.sign(&fields, &[]).unwrap()
}

fn renewal(authority: Option<&Authority>) -> Renewal {
    Renewal {
        certificate: None,
        authority: authority.map(Authority::public),
        trusted: None,
    }
}

fn meet(near: &mut End, far: &mut End) {
    let to = far.path;
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, near, far);
}

#[test]
fn a_key_that_is_no_longer_listed_loses_its_link_at_once_and_another_list_brings_it_back() {
    let (mut near, mut far) = (near(), far());
    meet(&mut near, &mut far);
    assert!(near.is_up(&far));
    let list = |key: [u8; 32]| Renewal {
        trusted: Some(vec![Trusted {
            netid: None,
            static_key: key,
            name: String::new(),
        }]),
        ..renewal(None)
    };
    let key = *far.links.local().identity.public();
    assert_eq!(near.links.renew(NOW, list(key)), 0);
    assert!(near.is_up(&far));
    assert_eq!(near.links.renew(NOW, list([9; 32])), 1);
    assert!(!near.is_up(&far));
    settle(NOW, &mut near, &mut far);
    meet(&mut near, &mut far);
    assert!(!near.is_up(&far));
    near.links.renew(NOW, renewal(None));
    meet(&mut near, &mut far);
    assert!(near.is_up(&far));
}

#[test]
fn a_renewed_certificate_is_shown_in_the_next_handshake_and_one_of_another_authority_ends() {
    let (first, second) = (authority(1), authority(2));
    let (mut near, mut far) = (near(), far());
    for end in [&mut near, &mut far] {
        let renewal = Renewal {
            certificate: Some(certificate(&first, end, 1, 7)),
            ..renewal(Some(&first))
        };
        end.links.members().set_wall(WALL);
        assert_eq!(end.links.renew(NOW, renewal), 0);
    }
    meet(&mut near, &mut far);
    let shown = |end: &End| {
        let all = end.links.certificates();
        let serials = all.map(|(_, bytes)| Certificate::parse(bytes).unwrap().serial);
        serials.collect::<Vec<_>>()
    };
    assert_eq!(shown(&near), [1]);
    let renewed = Renewal {
        certificate: Some(certificate(&first, &far, 2, 7)),
        ..renewal(Some(&first))
    };
    assert_eq!(far.links.renew(NOW, renewed), 0);
    // In the next handshake: within two minutes and some.
    let mut now = NOW;
    for _ in 0..140 {
        now = now + Duration::from_secs(1);
        near.links.handle_timeout(now);
        far.links.handle_timeout(now);
        settle(now, &mut near, &mut far);
    }
    assert_eq!(shown(&near), [2]);
    // Nobody vouches for it any more.
    assert_eq!(near.links.renew(now, renewal(Some(&second))), 1);
    assert!(!near.is_up(&far));
}

/// What gets through of a far end with these rights: of its own Data, of Data that it forwards, and
/// of what it tells of others; and how much is counted as said without a right.
fn heard(rights: u16) -> ([bool; 3], u64) {
    let authority = authority(1);
    let (mut near, mut far) = (near(), far());
    for (end, rights) in [(&mut near, 7), (&mut far, rights)] {
        let renewal = Renewal {
            certificate: Some(certificate(&authority, end, 1, rights)),
            ..renewal(Some(&authority))
        };
        end.links.members().set_wall(WALL);
        end.links.renew(NOW, renewal);
    }
    meet(&mut near, &mut far);
    let link = LinkEntry {
        id: LinkId(1),
        netid: FAR,
        neighbor: 0,
        path: far.path,
        open: false,
        stats: Arc::default(),
    };
    near.neighbors = NeighborSet::new(vec![link], [], KeyedHasher(1, 2));
    let back = near.path;
    let said = [
        message(MessageKind::Data, Flags::NONE, FAR),
        message(MessageKind::Data, Flags::NONE, NetId(9)),
        message(MessageKind::Inform, Flags::NO_FORWARD, FAR),
    ];
    for message in &said {
        far.links.send(NOW, &back, message);
    }
    settle(NOW, &mut near, &mut far);
    // A Hello and a challenge never need a right.
    far.links.send(NOW, &back, &hello(FAR));
    settle(NOW, &mut near, &mut far);
    assert!(near.messages.contains(&hello(FAR)));
    let came = said.map(|message| near.messages.contains(&message));
    (came, near.counters.dropped(DropReason::NoRight))
}

#[test]
fn a_far_end_says_what_its_certificate_gives_it_a_right_to() {
    assert_eq!(heard(0b111), ([true, true, true], 0));
    assert_eq!(heard(0b110), ([false, true, true], 1));
    assert_eq!(heard(0b101), ([true, false, true], 1));
    assert_eq!(heard(0b011), ([true, true, false], 1));
    assert_eq!(heard(0), ([false, false, false], 3));
    // Further rights are about other things.
    assert_eq!(heard(0b11_111), ([true, true, true], 0));
}
