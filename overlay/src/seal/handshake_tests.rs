//! Handshakes from outside: two nodes, and everything in between them.

use super::*;
use crate::seal::identity::Identity;
use crate::seal::keys::{Key, MeshSecret};
use crate::seal::local::Policy;
use crate::seal::session::OpenError;
use zeroize::Zeroizing;

pub(crate) const NEAR: NetId = NetId(0x2a);
pub(crate) const FAR: NetId = NetId(7);
const ENDS: Scope = Scope::EndToEnd {
    initiator: NEAR,
    responder: FAR,
};

pub(crate) fn node(secret: u8, key: u8, netid: NetId, aes: bool) -> Local {
    let keys = MeshSecret::new([secret; 32]).derive();
    let identity = Identity::new(Key::new([key; 32]), &Key::new([key ^ 0x80; 32]));
    Local::new(keys, identity, netid, u64::from(key), aes)
}

fn near() -> Local {
    node(1, 10, NEAR, true)
}

fn far() -> Local {
    node(1, 20, FAR, true)
}

fn seed(byte: u8) -> Seed {
    Zeroizing::new([byte; 32])
}

fn begin(local: &Local, scope: Scope) -> (Initiation, Vec<u8>) {
    let mut out = [0xa5; INIT_LEN];
    let begun = Initiation::begin(
        local,
        scope,
        0x0101_0101,
        NetId::ANY,
        None,
        seed(31),
        &mut out,
    );
    let (initiation, len) = begun.unwrap();
    (initiation, out[..len].to_vec())
}

fn answer(
    local: &Local,
    scope: Scope,
    init: &[u8],
) -> Result<(Answering, Vec<u8>), HandshakeError> {
    let checked = check_init(&local.keys, scope, init)?;
    let from = "192.0.2.5:4242".parse().ok();
    let mut out = [0xa5; INIT_LEN];
    let (answering, _, len) =
        Answering::answer(local, &checked, 0x0202_0202, seed(32), from, &mut out)?;
    Ok((answering, out[..len].to_vec()))
}

fn complete(
    initiation: &mut Initiation,
    local: &Local,
    resp: &[u8],
) -> Result<(Session, Remote, Vec<u8>), HandshakeError> {
    let from = "[2001:db8::7]:44204".parse().ok();
    let mut out = [0xa5; INIT_LEN];
    let (session, remote, len) = initiation.complete(local, Instant::ZERO, resp, from, &mut out)?;
    Ok((session, remote, out[..len].to_vec()))
}

/// Writes mac1 anew, as only a member can.
fn with_mac1(keys: &MeshKeys, scope: Scope, by_initiator: bool, datagram: &mut [u8]) {
    let at = if datagram[1] == 1 { 8 } else { 12 };
    let noise = usize::from(u16::from_be_bytes([datagram[at], datagram[at + 1]]));
    let mac1_at = at + 2 + noise;
    if datagram.len() >= mac1_at + 16 {
        let (before, rest) = datagram.split_at_mut(mac1_at);
        rest[..16].copy_from_slice(&scope.mac1(keys, by_initiator, before));
    }
}

fn exchange(from: &Session, to: &Session) {
    let mut datagram = [0; 200];
    let len = from
        .seal_into(b"a message of some length", false, &mut datagram)
        .unwrap();
    assert!(to.open(&mut datagram[..len]).is_ok());
}

#[test]
fn three_messages_make_one_session_at_both_ends_and_say_who_is_there() {
    for (near_aes, far_aes, aead) in [
        (true, true, Aead::Aes256Gcm),
        (true, false, Aead::ChaCha20Poly1305),
        (false, true, Aead::ChaCha20Poly1305),
    ] {
        let (near, far) = (node(1, 10, NEAR, near_aes), node(1, 20, FAR, far_aes));
        let (mut initiation, init) = begin(&near, Scope::Link);
        let (mut answering, resp) = answer(&far, Scope::Link, &init).unwrap();
        let (ours, seen_far, fin) = complete(&mut initiation, &near, &resp).unwrap();
        let (theirs, seen_near) = answering.finish(&far, Instant::ZERO, &fin).unwrap();
        assert!(init.len() == 1200 && resp.len() <= init.len() && fin.len() <= init.len());
        assert_eq!((ours.aead(), theirs.aead()), (aead, aead));
        exchange(&ours, &theirs);
        exchange(&theirs, &ours);
        assert_eq!((seen_far.netid, seen_near.netid), (FAR, NEAR));
        assert_eq!(
            (seen_far.static_key, seen_near.static_key),
            (*far.identity.public(), *near.identity.public())
        );
        assert_eq!(
            (seen_far.signing_key, seen_far.boot),
            (far.identity.signing_public(), 20)
        );
        assert_eq!(seen_far.observed, "192.0.2.5:4242".parse().ok());
        assert_eq!(seen_near.observed, "[2001:db8::7]:44204".parse().ok());
        assert_eq!(
            (seen_far.policy, seen_near.policy),
            (Some(Policy::Sealed), None)
        );
    }
}

#[test]
fn two_ends_do_the_same_without_padding_and_addresses() {
    let (near, far) = (near(), far());
    let (mut initiation, init) = begin(&near, ENDS);
    let (mut answering, resp) = answer(&far, ENDS, &init).unwrap();
    let (ours, seen, fin) = complete(&mut initiation, &near, &resp).unwrap();
    let (theirs, _) = answering.finish(&far, Instant::ZERO, &fin).unwrap();
    assert!(init.len() < 120 && resp.len() < 300 && fin.len() < 260);
    assert_eq!(seen.observed, None);
    let mut payload = [0x45; 100];
    ours.seal_data(NEAR, FAR, &mut payload).unwrap();
    assert!(theirs.open_data(NEAR, FAR, &mut payload).is_ok());
    // Moved to another src or dst, the INIT is not even looked at.
    for scope in [
        Scope::EndToEnd {
            initiator: NetId(9),
            responder: FAR,
        },
        Scope::EndToEnd {
            initiator: NEAR,
            responder: NetId(9),
        },
    ] {
        assert_eq!(answer(&far, scope, &init).unwrap_err(), HandshakeError::Mac);
    }
}

#[test]
fn an_end_that_goes_by_another_netid_than_its_message_is_refused() {
    let scope = Scope::EndToEnd {
        initiator: NetId(9),
        responder: FAR,
    };
    let (near, far) = (near(), far());
    let (mut initiation, init) = begin(&near, scope);
    let (mut answering, resp) = answer(&far, scope, &init).unwrap();
    let (_, _, fin) = complete(&mut initiation, &near, &resp).unwrap();
    let refused = answering.finish(&far, Instant::ZERO, &fin).unwrap_err();
    assert_eq!(refused, HandshakeError::Value(RecordType::NetId));
}

#[test]
fn a_node_of_another_mesh_gets_no_answer_and_costs_one_mac() {
    let stranger = node(2, 10, NEAR, true);
    let (_, init) = begin(&stranger, Scope::Link);
    assert_eq!(
        answer(&far(), Scope::Link, &init).unwrap_err(),
        HandshakeError::Mac
    );
    // With the right mac1 key alone it gets no further.
    let mut init = init;
    with_mac1(&far().keys, Scope::Link, true, &mut init);
    assert_eq!(
        answer(&far(), Scope::Link, &init).unwrap_err(),
        HandshakeError::Noise
    );
}

/// Runs `read` on the datagram with each bit changed, as it is and with mac1 made anew; all must
/// be refused. `loose` says which bytes nothing covers.
fn tamper(
    keys: &MeshKeys,
    scope: Scope,
    by_initiator: bool,
    datagram: &[u8],
    loose: std::ops::Range<usize>,
    mut read: impl FnMut(&[u8]) -> bool,
) {
    for bit in (0..datagram.len() * 8).filter(|bit| !loose.contains(&(bit / 8))) {
        let mut changed = datagram.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!read(&changed), "bit {bit}");
    }
    for byte in (0..datagram.len()).filter(|byte| !loose.contains(byte)) {
        let mut changed = datagram.to_vec();
        changed[byte] ^= 0x41;
        with_mac1(keys, scope, by_initiator, &mut changed);
        if changed != datagram {
            assert!(!read(&changed), "byte {byte} with mac1 made anew");
        }
    }
}

#[test]
fn no_bit_of_an_init_can_be_changed_but_in_mac2() {
    for scope in [Scope::Link, ENDS] {
        let (near, far) = (near(), far());
        let (_, init) = begin(&near, scope);
        let noise = usize::from(init[9]) | usize::from(init[8]) << 8;
        let mac2 = if scope == Scope::Link {
            26 + noise..42 + noise
        } else {
            0..0
        };
        tamper(&far.keys, scope, true, &init, mac2.clone(), |init| {
            answer(&far, scope, init).is_ok()
        });
        for at in mac2 {
            let mut changed = init.clone();
            changed[at] ^= 1;
            assert!(
                answer(&far, scope, &changed).is_ok(),
                "mac2 counts under load alone"
            );
        }
    }
}

#[test]
fn no_bit_of_a_resp_can_be_changed_and_the_true_one_is_accepted_after_all_of_them() {
    for scope in [Scope::Link, ENDS] {
        let (near, far) = (near(), far());
        let (mut initiation, init) = begin(&near, scope);
        let (mut answering, resp) = answer(&far, scope, &init).unwrap();
        // A member on the path can alter the sender index: see the test of indices.
        tamper(&near.keys, scope, false, &resp, 4..8, |resp| {
            complete(&mut initiation, &near, resp).is_ok()
        });
        let (ours, _, fin) = complete(&mut initiation, &near, &resp).unwrap();
        let (theirs, _) = answering.finish(&far, Instant::ZERO, &fin).unwrap();
        if scope == Scope::Link {
            exchange(&ours, &theirs);
        }
    }
}

#[test]
fn no_bit_of_a_fin_can_be_changed_and_the_true_one_is_accepted_after_all_of_them() {
    for scope in [Scope::Link, ENDS] {
        let (near, far) = (near(), far());
        let (mut initiation, init) = begin(&near, scope);
        let (mut answering, resp) = answer(&far, scope, &init).unwrap();
        let (ours, _, fin) = complete(&mut initiation, &near, &resp).unwrap();
        tamper(&far.keys, scope, true, &fin, 0..0, |fin| {
            answering.finish(&far, Instant::ZERO, fin).is_ok()
        });
        let (theirs, _) = answering.finish(&far, Instant::ZERO, &fin).unwrap();
        if scope == Scope::Link {
            exchange(&ours, &theirs);
        }
    }
}

#[test]
fn a_resp_with_another_sender_index_leads_to_no_session_at_the_other_end() {
    let (near, far) = (near(), far());
    let (mut initiation, init) = begin(&near, Scope::Link);
    let (mut answering, mut resp) = answer(&far, Scope::Link, &init).unwrap();
    resp[7] ^= 1;
    assert_eq!(
        complete(&mut initiation, &near, &resp).unwrap_err(),
        HandshakeError::Mac
    );
    with_mac1(&near.keys, Scope::Link, false, &mut resp);
    let (ours, _, fin) = complete(&mut initiation, &near, &resp).unwrap();
    assert_eq!(
        answering.finish(&far, Instant::ZERO, &fin).unwrap_err(),
        HandshakeError::OtherIndex
    );
    assert_ne!(ours.remote_index(), answering.index());
}

#[test]
fn no_truncation_of_any_message_is_accepted() {
    for scope in [Scope::Link, ENDS] {
        let (near, far) = (near(), far());
        let (mut initiation, init) = begin(&near, scope);
        for len in 0..init.len() {
            assert!(answer(&far, scope, &init[..len]).is_err(), "INIT of {len}");
        }
        let (mut answering, resp) = answer(&far, scope, &init).unwrap();
        for len in 0..resp.len() {
            assert!(
                complete(&mut initiation, &near, &resp[..len]).is_err(),
                "RESP of {len}"
            );
        }
        let (_, _, fin) = complete(&mut initiation, &near, &resp).unwrap();
        for len in 0..fin.len() {
            assert!(
                answering.finish(&far, Instant::ZERO, &fin[..len]).is_err(),
                "FIN of {len}"
            );
        }
        assert!(answering.finish(&far, Instant::ZERO, &fin).is_ok());
    }
}

#[test]
fn a_degenerate_ephemeral_key_is_refused_before_any_computation() {
    let (near, far) = (near(), far());
    let (mut initiation, init) = begin(&near, Scope::Link);
    let mut weak = init.clone();
    weak[10..42].fill(0);
    with_mac1(&far.keys, Scope::Link, true, &mut weak);
    assert_eq!(
        answer(&far, Scope::Link, &weak).unwrap_err(),
        HandshakeError::Degenerate
    );
    let (_, mut resp) = answer(&far, Scope::Link, &init).unwrap();
    resp[14..46].fill(0);
    resp[14] = 1;
    with_mac1(&near.keys, Scope::Link, false, &mut resp);
    assert_eq!(
        complete(&mut initiation, &near, &resp).unwrap_err(),
        HandshakeError::Degenerate
    );
}

#[test]
fn a_node_does_not_shake_hands_with_itself() {
    let near = near();
    let (mut initiation, init) = begin(&near, Scope::Link);
    let (_, resp) = answer(&near, Scope::Link, &init).unwrap();
    assert_eq!(
        complete(&mut initiation, &near, &resp).unwrap_err(),
        HandshakeError::Reflected
    );
}

#[test]
fn only_the_netid_that_is_called_answers() {
    let (near, far) = (near(), far());
    for (called, answers) in [(NetId::ANY, true), (FAR, true), (NetId(8), false)] {
        let mut out = [0; INIT_LEN];
        Initiation::begin(&near, Scope::Link, 1, called, None, seed(31), &mut out).unwrap();
        assert_eq!(answer(&far, Scope::Link, &out).is_ok(), answers, "{called}");
    }
}

#[test]
fn a_certificate_takes_the_place_of_the_binding_where_the_authority_is_known() {
    use ed25519_dalek::{Signer, SigningKey};
    let authority = SigningKey::from_bytes(&[77; 32]);
    let (mut near, mut far) = (near(), far());
    let certify = |local: &Local, netid| {
        let mut fields = wire::sealed::Certificate::of(
            local.keys.mesh_id,
            netid,
            *local.identity.public(),
            local.identity.signing_public(),
        );
        fields.name = "van 3";
        let mut bytes = [0; 400];
        let len = fields.emit_unsigned(&[], &mut bytes).unwrap();
        let signature = authority.sign(&[b"mesh-cert v1", &bytes[..len]].concat());
        [&bytes[..len], &signature.to_bytes()].concat()
    };
    far.certificate = Some(certify(&far, FAR));
    let run = |near: &Local, far: &Local| {
        let (mut initiation, init) = begin(near, Scope::Link);
        let (_, resp) = answer(far, Scope::Link, &init)?;
        complete(&mut initiation, near, &resp).map(|(_, remote, _)| remote)
    };
    assert_eq!(
        run(&near, &far).unwrap_err(),
        HandshakeError::Credential,
        "no authority known"
    );
    near.authority = Some(authority.verifying_key().to_bytes());
    assert_eq!(run(&near, &far).unwrap().certificate, far.certificate);
    far.certificate = Some(certify(&far, NetId(8)));
    assert_eq!(
        run(&near, &far).unwrap_err(),
        HandshakeError::Credential,
        "of another netid"
    );
    far.certificate = Some(certify(&near, FAR));
    assert_eq!(
        run(&near, &far).unwrap_err(),
        HandshakeError::Credential,
        "of another key"
    );
    near.authority = Some([9; 32]);
    far.certificate = Some(certify(&far, FAR));
    assert_eq!(
        run(&near, &far).unwrap_err(),
        HandshakeError::Credential,
        "of another authority"
    );
}

#[test]
fn equal_seeds_give_equal_bytes_and_other_seeds_give_others() {
    let near = near();
    assert_eq!(begin(&near, Scope::Link).1, begin(&near, Scope::Link).1);
    let mut other = [0; INIT_LEN];
    Initiation::begin(
        &near,
        Scope::Link,
        0x0101_0101,
        NetId::ANY,
        None,
        seed(33),
        &mut other,
    )
    .unwrap();
    assert_ne!(begin(&near, Scope::Link).1, other);
}

#[test]
fn a_stranger_to_the_handshake_cannot_open_its_session() {
    let (near, far, other) = (near(), far(), node(1, 30, NetId(8), true));
    let (mut initiation, init) = begin(&near, Scope::Link);
    let (_, resp) = answer(&far, Scope::Link, &init).unwrap();
    let (ours, _, fin) = complete(&mut initiation, &near, &resp).unwrap();
    // Another member, answering the same INIT under the same indices.
    let (mut answering, _) = answer(&other, Scope::Link, &init).unwrap();
    assert_eq!(
        answering.finish(&other, Instant::ZERO, &fin).unwrap_err(),
        HandshakeError::Noise
    );
    let mut datagram = [0; 100];
    let len = ours.seal_into(b"m", false, &mut datagram).unwrap();
    assert_eq!(ours.open(&mut datagram[..len]), Err(OpenError::Malformed));
}
