//! Who comes up, by pin, list and certificate.

use super::*;
use crate::seal::authority::Authority;
use crate::seal::keys::Key;
use wire::sealed::Revoked;

const A: [u8; 32] = [0xaa; 32];
const B: [u8; 32] = [0xbb; 32];
const ONE: NetId = NetId(1);
const TWO: NetId = NetId(2);

fn claim(netid: NetId, static_key: [u8; 32]) -> Claim<'static> {
    Claim {
        netid,
        static_key,
        certificate: None,
    }
}

fn entry(text: &str) -> Trusted {
    text.parse().unwrap()
}

/// A certificate from second 1,000,000 to 2,000,000; nobody looks at its signature here.
fn certificate(netid: NetId, static_key: [u8; 32]) -> Vec<u8> {
    let mut fields = Certificate::of([9; 16], netid, static_key, [4; 32]);
    (fields.not_before, fields.not_after) = (1_000_000, 2_000_000);
    fields.name = "van";
    let mut bytes = [0; wire::sealed::CERTIFICATE_MAX_LEN];
    let len = fields.emit_unsigned(&[], &mut bytes).unwrap();
    bytes[..len + 64].to_vec()
}

#[test]
fn the_first_key_of_a_netid_is_remembered_and_another_refused_until_it_is_forgotten() {
    let mut members = Members::default();
    assert_eq!(members.judge(&claim(ONE, A)), Ok(Basis::Pin));
    // What did not come up binds nothing.
    assert_eq!(members.judge(&claim(ONE, B)), Ok(Basis::Pin));
    members.note_up(&claim(ONE, A));
    assert_eq!(members.take_changed().unwrap().get(&ONE), Some(&A));
    assert_eq!(members.take_changed(), None);
    assert_eq!(members.judge(&claim(ONE, A)), Ok(Basis::Pin));
    assert_eq!(members.judge(&claim(ONE, B)), Err(Refusal::OtherKey(A)));
    members.note_up(&claim(ONE, B));
    assert_eq!((members.pins().len(), members.take_changed()), (1, None));
    // The same key under a second netid is a node of its own.
    members.note_up(&claim(TWO, A));
    assert_eq!(members.pins().len(), 2);
    assert_eq!(members.forget(ONE), Some(A));
    assert_eq!(members.forget(ONE), None);
    assert!(members.take_changed().is_some());
    assert_eq!(members.judge(&claim(ONE, B)), Ok(Basis::Pin));
}

#[test]
fn pins_that_were_remembered_bind_from_the_start() {
    let members = Members::new([(ONE, A)].into());
    assert_eq!(members.judge(&claim(ONE, B)), Err(Refusal::OtherKey(A)));
}

#[test]
fn made_up_netids_fill_no_more_than_the_bound_and_displace_nobody() {
    let mut members = Members::default();
    for netid in 1..=PINS_LIMIT as u32 + 10 {
        members.note_up(&claim(NetId(netid), A));
    }
    assert_eq!(members.pins().len(), PINS_LIMIT);
    assert_eq!(members.judge(&claim(ONE, B)), Err(Refusal::OtherKey(A)));
}

#[test]
fn with_a_list_only_listed_keys_come_up_and_only_under_their_netid() {
    let list = vec![
        entry(&format!("1 {} van", key_text(&A))),
        entry(&key_text(&B)),
    ];
    let mut members = Members::default().listing(list);
    assert_eq!(members.judge(&claim(ONE, A)), Ok(Basis::Listed));
    assert_eq!(members.judge(&claim(TWO, A)), Err(Refusal::OtherNetid(ONE)));
    assert_eq!(members.judge(&claim(TWO, [7; 32])), Err(Refusal::NotListed));
    // Without a netid a key is pinned to the first, but never to one that is listed for another.
    assert_eq!(members.judge(&claim(ONE, B)), Err(Refusal::OtherKey(A)));
    assert_eq!(members.judge(&claim(TWO, B)), Ok(Basis::Pin));
    members.note_up(&claim(TWO, B));
    members.note_up(&claim(ONE, A));
    assert_eq!(*members.pins(), Pins::from([(TWO, B)]));
    assert_eq!(members.find("van"), Some(ONE));
    assert_eq!(members.find(&key_text(&B)), Some(TWO));
    assert_eq!((members.find(""), members.find("truck")), (None, None));
    // An empty list lets nobody in.
    let nobody = Members::default().listing(Vec::new());
    assert_eq!(nobody.judge(&claim(ONE, A)), Err(Refusal::NotListed));
}

#[test]
fn a_certificate_counts_before_list_and_pin_and_within_its_time_and_grace() {
    let mut members = Members::new([(ONE, B)].into()).certified();
    let bytes = certificate(ONE, A);
    let certified = Claim {
        certificate: Some(&bytes),
        ..claim(ONE, A)
    };
    let mut at = |seconds| {
        members.set_wall(seconds);
        members.judge(&certified)
    };
    let (from, to) = (1_000_000, 2_000_000);
    assert_eq!(at(from - GRACE - 1), Err(Refusal::Early(from)));
    assert_eq!(at(from - GRACE), Ok(Basis::Certificate));
    assert_eq!(at(to + GRACE), Ok(Basis::Certificate));
    assert_eq!(at(to + GRACE + 1), Err(Refusal::Expired(to)));
    // Nobody without one, pinned or not; and a certificate moves no pin.
    assert_eq!(members.judge(&claim(ONE, B)), Err(Refusal::NotCertified));
    assert_eq!(members.judge(&claim(TWO, A)), Err(Refusal::NotCertified));
    members.note_up(&certified);
    assert_eq!(*members.pins(), Pins::from([(ONE, B)]));
    // A listed key needs none: so a mesh can move from one to the other.
    let both = Members::default()
        .certified()
        .listing(vec![entry(&format!("2 {}", key_text(&A)))]);
    assert_eq!(both.judge(&claim(TWO, A)), Ok(Basis::Listed));
    assert_eq!(both.judge(&claim(TWO, B)), Err(Refusal::NotCertified));
}

#[test]
fn each_refused_key_is_news_once() {
    let mut members = Members::default();
    assert!(members.is_news(A) && !members.is_news(A) && members.is_news(B));
    for key in 0..=255 {
        members.is_news([key; 32]);
    }
    assert!(members.told.len() <= TOLD_LIMIT);
}

#[test]
fn an_entry_is_read_as_it_is_printed() {
    let key = key_text(&A);
    for text in [
        key.clone(),
        format!("0000002a {key}"),
        format!("{key} van"),
        format!("0000002a {key} a van of ours"),
    ] {
        assert_eq!(entry(&text).to_string(), text);
    }
    assert_eq!(
        entry(&format!("  0x2A\t{} van ", key.to_uppercase())).to_string(),
        format!("0000002a {key} van")
    );
}

#[test]
fn an_entry_with_a_typing_error_says_what_is_wrong() {
    let key = key_text(&A);
    for (text, problem) in [
        (String::new(), "is empty"),
        ("2a".into(), "has a netid and no key"),
        (key[1..].to_owned(), "has no key of 64 hex digits"),
        (format!("{key}0"), "has no key of 64 hex digits"),
        (format!("g{}", &key[1..]), "has no key of 64 hex digits"),
        (format!("é{}", &key[2..]), "has no key of 64 hex digits"),
        (format!("0 {key}"), "has a netid that names no single node"),
        (
            format!("ffffffff {key}"),
            "has a netid that names no single node",
        ),
        ("0".repeat(64), "has a key that is nobody's"),
        (
            format!("{key} {}", "x".repeat(33)),
            "has a name that is not 1 to 32 printable letters",
        ),
        (
            format!("{key} caf\u{e9}"),
            "has a name that is not 1 to 32 printable letters",
        ),
    ] {
        assert_eq!(text.parse::<Trusted>(), Err(problem), "{text}");
    }
}

#[test]
fn a_revoked_serial_ends_its_certificate_and_a_revoked_key_everything() {
    let authority = Authority::new([9; 16], &Key::new([7; 32]));
    let other = Authority::new([9; 16], &Key::new([8; 32]));
    let entry = |serial, static_key| Revoked {
        serial,
        static_key,
        not_after: u64::MAX,
    };
    let mut fields = Certificate::of([9; 16], ONE, A, authority.public());
    fields.serial = 4;
    let bytes = authority.sign(&fields, &[]).unwrap();
    let certified = Claim {
        certificate: Some(&bytes),
        ..claim(ONE, A)
    };
    let mut members = Members::default().listing(vec![entry_of(A), entry_of(B)]);
    members.set_wall(1);
    let take = |members: &mut Members, by: &Authority, number, revoked: &[Revoked]| {
        let list = by.revoke(number, revoked).unwrap();
        members.revoke(list, &[9; 16], &authority.public())
    };
    assert_eq!(members.judge(&certified), Ok(Basis::Certificate));
    assert_eq!(
        take(&mut members, &authority, 2, &[entry(4, [0; 32])]),
        Ok(())
    );
    assert_eq!(members.judge(&certified), Err(Refusal::Revoked));
    // By the list it may still come up.
    assert_eq!(members.judge(&claim(ONE, A)), Ok(Basis::Pin));
    assert_eq!(take(&mut members, &authority, 3, &[entry(0, A)]), Ok(()));
    assert_eq!(members.judge(&claim(ONE, A)), Err(Refusal::Revoked));
    assert_eq!(members.judge(&claim(TWO, B)), Ok(Basis::Pin));
    assert_eq!(members.take_changed_list().unwrap().number(), 3);
    assert!(members.take_changed_list().is_none());
    // Nobody takes it back but the authority with a higher number.
    for (by, number, error) in [
        (&authority, 2, ListError::NotNewer(3)),
        (&authority, 3, ListError::NotNewer(3)),
        (&other, 4, ListError::Signature),
    ] {
        assert_eq!(take(&mut members, by, number, &[entry(9, B)]), Err(error));
    }
    let elsewhere = Authority::new([1; 16], &Key::new([7; 32]));
    assert_eq!(
        take(&mut members, &elsewhere, 4, &[]),
        Err(ListError::OtherMesh)
    );
    assert_eq!(
        members.revoke(vec![1; 91], &[9; 16], &authority.public()),
        Err(ListError::Form)
    );
    assert_eq!(members.judge(&claim(ONE, A)), Err(Refusal::Revoked));
    assert_eq!(take(&mut members, &authority, 4, &[]), Ok(()));
    assert_eq!(members.judge(&certified), Ok(Basis::Certificate));
}

fn entry_of(key: [u8; 32]) -> Trusted {
    entry(&key_text(&key))
}

#[test]
fn keys_from_afar_bind_other_ends_and_no_link_and_the_oldest_goes_first() {
    let mut members = Members::default();
    members.note_afar(&claim(ONE, A));
    let refused = Err(Refusal::OtherKey(A));
    assert_eq!(members.judge_afar(&claim(ONE, A)), Ok(Basis::Pin));
    assert_eq!(members.judge_afar(&claim(ONE, B)), refused);
    // What a link proves is another matter.
    assert_eq!(members.judge(&claim(ONE, B)), Ok(Basis::Pin));
    assert!(members.pins().is_empty() && members.take_changed_afar().is_some());
    // One member that makes netids up displaces the oldest of them, and keeps nobody out.
    for netid in 0..PINS_LIMIT as u32 {
        members.note_afar(&claim(NetId(1_000 + netid), [7; 32]));
    }
    assert_eq!(
        (members.afar().len(), members.afar().get(ONE)),
        (PINS_LIMIT, None)
    );
    members.note_afar(&claim(TWO, B));
    assert_eq!(
        members.judge_afar(&claim(TWO, A)),
        Err(Refusal::OtherKey(B))
    );
    members.note_up(&claim(ONE, A));
    assert_eq!(members.judge_afar(&claim(ONE, B)), refused);
    assert_eq!(members.pins().len(), 1);
}

#[test]
fn a_link_takes_the_place_of_a_key_from_afar_for_good() {
    let mut members = Members::default();
    members.note_afar(&claim(ONE, A));
    members.note_up(&claim(ONE, B));
    assert!(members.afar().is_empty());
    for judged in [
        members.judge(&claim(ONE, A)),
        members.judge_afar(&claim(ONE, A)),
    ] {
        assert_eq!(judged, Err(Refusal::OtherKey(B)));
    }
    members.note_afar(&claim(ONE, A));
    assert!(members.afar().is_empty());
    // Both are found and forgotten by their key.
    members.note_afar(&claim(TWO, A));
    assert_eq!(members.find(&key_text(&A)), Some(TWO));
    assert_eq!(members.forget(TWO), Some(A));
    assert_eq!(members.judge_afar(&claim(TWO, B)), Ok(Basis::Pin));
}

#[test]
fn other_rules_count_for_the_next_judgement() {
    let mut members = Members::default();
    members.note_up(&claim(ONE, A));
    members.set_rules(false, Some(vec![entry(&key_text(&B))]));
    assert_eq!(members.judge(&claim(ONE, A)), Err(Refusal::NotListed));
    assert_eq!(members.judge(&claim(TWO, B)), Ok(Basis::Pin));
    members.set_rules(true, None);
    assert_eq!(members.judge(&claim(TWO, B)), Err(Refusal::NotCertified));
    members.set_rules(false, None);
    assert_eq!(members.judge(&claim(ONE, A)), Ok(Basis::Pin));
}
