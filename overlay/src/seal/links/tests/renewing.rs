//! Other rules and certificates while links are up, and what a certificate lets its node say.

use wire::sealed::{Certificate, Revoked};

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
        list: None,
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
    // In a handshake that begins within a minute.
    let mut now = NOW;
    for _ in 0..70 {
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

/// The handshake datagrams that an end wants sent, of this kind.
fn handshakes(end: &mut End, wanted: SealedKind) -> Vec<Box<[u8]>> {
    let datagrams = end.links.drain().filter_map(|wish| match wish {
        Wish::Send(_, datagram) if SealedKind::of(&datagram) == Ok(wanted) => Some(datagram),
        _ => None,
    });
    datagrams.collect()
}

#[test]
fn rules_as_before_leave_a_handshake_alone_and_others_begin_it_anew_with_what_waits() {
    let (mut near, mut far) = (near(), far());
    let to = far.path;
    near.links.send(NOW, &to, &hello(NEAR));
    let first = handshakes(&mut near, SealedKind::Init);
    assert_eq!(first.len(), 1);
    near.links.renew(NOW, renewal(None));
    assert_eq!(handshakes(&mut near, SealedKind::Init).len(), 0);
    let other = Renewal {
        trusted: Some(vec![Trusted {
            netid: None,
            static_key: *far.links.local().identity.public(),
            name: String::new(),
        }]),
        ..renewal(None)
    };
    near.links.renew(NOW, other);
    // At once, though control says nothing more; and what waited is said.
    let anew = handshakes(&mut near, SealedKind::Init);
    assert_eq!(anew.len(), 1);
    let back = near.path;
    assert!(far.links.handle(NOW, &back, &anew[0], 0));
    settle(NOW, &mut near, &mut far);
    assert!(near.is_up(&far));
    assert!(far.messages.contains(&hello(NEAR)));
}

#[test]
fn a_handshake_whose_fin_is_out_goes_on_under_other_rules() {
    let (mut near, mut far) = (near(), far());
    let (to, back) = (far.path, near.path);
    near.links.send(NOW, &to, &hello(NEAR));
    let init = handshakes(&mut near, SealedKind::Init);
    assert!(far.links.handle(NOW, &back, &init[0], 0));
    let resp = handshakes(&mut far, SealedKind::Resp);
    assert!(near.links.handle(NOW, &to, &resp[0], 0));
    let other = Renewal {
        trusted: Some(vec![Trusted {
            netid: None,
            static_key: *far.links.local().identity.public(),
            name: String::new(),
        }]),
        ..renewal(None)
    };
    near.links.renew(NOW, other);
    assert_eq!(handshakes(&mut near, SealedKind::Init).len(), 0);
    assert!(
        near.links
            .peers
            .values()
            .all(|entry| !entry.waiting.is_empty())
    );
}

#[test]
fn an_authority_that_comes_back_finds_the_list_that_was_kept_and_no_other_does() {
    let (first, second) = (authority(1), authority(2));
    let (mut near, far) = (near(), far());
    let key = *far.links.local().identity.public();
    let mesh_id = near.links.local().keys.mesh_id;
    let revoked = Revoked {
        serial: 0,
        static_key: key,
        not_after: WALL + 1_000,
    };
    let list = first.revoke(3, &[revoked]).unwrap();
    let number = |end: &mut End| {
        (
            end.links.members().list().number(),
            end.links.local().revocation,
        )
    };
    near.links.renew(NOW, renewal(Some(&first)));
    let known = near.links.members();
    known
        .revoke(list.clone(), &mesh_id, &first.public())
        .unwrap();
    let kept = |authority: Option<&Authority>| Renewal {
        list: Some(list.clone()),
        ..renewal(authority)
    };
    near.links.renew(NOW, kept(Some(&second)));
    assert_eq!(number(&mut near), (0, None));
    near.links.renew(NOW, kept(None));
    assert_eq!(number(&mut near), (0, None));
    near.links.renew(NOW, kept(Some(&first)));
    assert_eq!(number(&mut near), (3, Some(3)));
    assert!(near.links.members().take_changed_list().is_none());
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
