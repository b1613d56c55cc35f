//! Sessions from outside: two ends, and everything in between them.

use super::*;
use proptest::prelude::*;
use wire::sealed::Frames;

const BOTH: [Aead; 2] = [Aead::ChaCha20Poly1305, Aead::Aes256Gcm];

/// Initiator and responder of one session.
fn pair(aead: Aead) -> (Session, Session) {
    let terms = Terms {
        local: 0x0a0b_0c0d,
        remote: 0x0102_0304,
        is_initiator: true,
        aead,
        info: b"link-aead v1",
    };
    let keys = (Key::new([1; 32]), Key::new([2; 32]));
    let near = Session::new(Instant::ZERO, terms, &keys.0, &keys.1);
    let terms = Terms {
        local: terms.remote,
        remote: terms.local,
        is_initiator: false,
        ..terms
    };
    (near, Session::new(Instant::ZERO, terms, &keys.0, &keys.1))
}

fn sealed(by: &Session, message: &[u8]) -> Vec<u8> {
    let mut out = vec![0; message.len() + LINK_OVERHEAD];
    assert_eq!(by.seal_into(message, false, &mut out), Ok(out.len()));
    out
}

fn message<'d>(opened: &'d Opened<'_>) -> &'d [u8] {
    match Frames::new(opened.plaintext).next() {
        Some(Ok(Frame::Message(message))) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_one_end_seals_the_other_opens_once() {
    for aead in BOTH {
        let (near, far) = pair(aead);
        for (from, to) in [(&near, &far), (&far, &near)] {
            for text in [&b"a"[..], &[7; 1400]] {
                let datagram = sealed(from, text);
                let mut copy = datagram.clone();
                let opened = to.open(&mut copy).unwrap();
                assert_eq!(message(&opened), text);
                assert!(opened.is_newest);
                assert_eq!(to.open(&mut datagram.clone()), Err(OpenError::Replayed));
            }
        }
        assert_eq!((near.sealed_count(), near.failure_count()), (2, 0));
    }
}

#[test]
fn only_the_first_datagram_confirms_and_only_higher_counters_are_newest() {
    let (near, far) = pair(Aead::ChaCha20Poly1305);
    let mut datagrams: Vec<_> = (0..3).map(|_| sealed(&near, b"m")).collect();
    assert!(!far.is_confirmed());
    let seen = |datagram: &mut Vec<u8>| {
        let opened = far.open(datagram).unwrap();
        (opened.is_first, opened.is_newest)
    };
    assert_eq!(seen(&mut datagrams[1]), (true, true));
    assert!(far.is_confirmed());
    assert_eq!(seen(&mut datagrams[0]), (false, false));
    assert_eq!(seen(&mut datagrams[2]), (false, true));
}

#[test]
fn no_bit_of_a_datagram_can_be_changed() {
    for aead in BOTH {
        let (near, far) = pair(aead);
        let datagram = sealed(&near, &[0x5a; 166]);
        assert_eq!(datagram.len(), 200);
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let error = far.open(&mut changed).unwrap_err();
            assert!(
                matches!(error, OpenError::Forged | OpenError::Malformed),
                "bit {bit}"
            );
            assert!(!far.is_confirmed(), "bit {bit} changed the window");
        }
        assert!(
            far.open(&mut datagram.clone()).is_ok(),
            "and the true one still opens"
        );
    }
}

#[test]
fn no_truncation_of_a_datagram_opens() {
    let (near, far) = pair(Aead::Aes256Gcm);
    let datagram = sealed(&near, &[0x5a; 66]);
    for len in 0..datagram.len() {
        assert!(
            far.open(&mut datagram[..len].to_vec()).is_err(),
            "{len} bytes"
        );
    }
    let longer = [&datagram[..], &[0]].concat();
    assert_eq!(far.open(&mut longer.clone()), Err(OpenError::Forged));
}

#[test]
fn nobody_opens_what_they_sealed_nor_what_another_session_sealed() {
    let (near, _) = pair(Aead::ChaCha20Poly1305);
    let mut reflected = sealed(&near, b"m");
    assert_eq!(near.open(&mut reflected.clone()), Err(OpenError::Malformed));
    // Even with the index put right.
    reflected[4..8].copy_from_slice(&near.local_index().to_be_bytes());
    assert_eq!(near.open(&mut reflected), Err(OpenError::Forged));
    let (_, gcm) = pair(Aead::Aes256Gcm);
    assert_eq!(gcm.open(&mut sealed(&near, b"m")), Err(OpenError::Forged));
}

#[test]
fn another_index_makes_another_key() {
    let (near, _) = pair(Aead::ChaCha20Poly1305);
    let terms = Terms {
        local: 0x0102_0305,
        remote: 0x0a0b_0c0d,
        is_initiator: false,
        aead: Aead::ChaCha20Poly1305,
        info: b"link-aead v1",
    };
    let other = Session::new(Instant::ZERO, terms, &Key::new([1; 32]), &Key::new([2; 32]));
    let mut datagram = sealed(&near, b"m");
    datagram[4..8].copy_from_slice(&other.local_index().to_be_bytes());
    assert_eq!(other.open(&mut datagram), Err(OpenError::Forged));
}

#[test]
fn a_session_ends_before_its_counter_may_not_be_used() {
    for (aead, len, limit) in [
        (Aead::ChaCha20Poly1305, 60_usize, 1_u64 << 44),
        (Aead::Aes256Gcm, 60, 1 << 26),
        (Aead::Aes256Gcm, 2_060, 1 << 23),
    ] {
        let (near, far) = pair(aead);
        near.next.store(limit - 1, Relaxed);
        let mut last = vec![0; len + LINK_MIN_LEN];
        assert_eq!(near.seal(&mut last), Ok(()));
        for _ in 0..3 {
            assert_eq!(
                near.seal(&mut vec![0; len + LINK_MIN_LEN]),
                Err(SealError::Exhausted)
            );
        }
        assert!(near.is_worn());
        // Far ahead of everything: authentic and refused, without leaving a mark.
        let expected = if limit > 1 << 24 {
            Err(OpenError::TooFar)
        } else {
            Ok(())
        };
        assert_eq!(far.open(&mut last).map(|_| ()), expected);
        assert_eq!(far.is_confirmed(), expected.is_ok());
    }
}

#[test]
fn large_datagrams_wear_a_session_out_sooner_and_the_initiator_first() {
    let (near, far) = pair(Aead::Aes256Gcm);
    near.next.store(1 << 22, Relaxed);
    far.next.store(1 << 24, Relaxed);
    assert!(!near.is_worn() && !far.is_worn());
    near.seal(&mut vec![0; 3_000]).unwrap();
    assert!(near.is_worn() && !far.is_worn());
    far.next.store(1 << 25, Relaxed);
    assert!(far.is_worn());
}

#[test]
fn after_too_many_failures_nothing_opens() {
    let (near, far) = pair(Aead::Aes256Gcm);
    far.failures.store((1 << 32) - 1, Relaxed);
    let good = sealed(&near, b"m");
    let mut forged = good.clone();
    forged[30] ^= 1;
    assert_eq!(far.open(&mut forged), Err(OpenError::Forged));
    assert_eq!(far.open(&mut good.clone()), Err(OpenError::Spent));
}

#[test]
fn a_buffer_without_room_uses_up_no_counter() {
    let (near, _) = pair(Aead::Aes256Gcm);
    for len in 0..LINK_MIN_LEN {
        assert_eq!(near.seal(&mut vec![0; len]), Err(SealError::NoRoom));
    }
    assert_eq!(
        near.seal_into(b"m", false, &mut [0; LINK_OVERHEAD]),
        Err(SealError::NoRoom)
    );
    assert_eq!(
        near.seal_into(b"", false, &mut [0; 100]),
        Err(SealError::NoRoom)
    );
    assert_eq!(near.sealed_count(), 0);
}

#[test]
fn a_payload_sealed_end_to_end_opens_between_its_own_two_ends_only() {
    let (near, far) = pair(Aead::Aes256Gcm);
    let (src, dst) = (NetId(0x2a), NetId(7));
    let mut payload = vec![0x45; 16 + 60 + 16];
    near.seal_data(src, dst, &mut payload).unwrap();
    assert_eq!(payload[..2], [0xc8, 4]);
    for (src, dst) in [(NetId(0x2b), dst), (src, NetId(8)), (dst, src)] {
        assert_eq!(
            far.open_data(src, dst, &mut payload.clone()),
            Err(OpenError::Forged)
        );
    }
    assert_eq!(far.open(&mut payload.clone()), Err(OpenError::Malformed));
    let opened = far.open_data(src, dst, &mut payload).unwrap();
    assert_eq!(opened.plaintext, [0x45; 60]);
}

#[test]
fn workers_that_seal_at_once_never_use_a_counter_twice() {
    let (near, far) = pair(Aead::ChaCha20Poly1305);
    let datagrams = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mine: Vec<_> = (0..1_000).map(|_| sealed(&near, b"m")).collect();
                datagrams.lock().unwrap().extend(mine);
            });
        }
    });
    let mut datagrams = datagrams.into_inner().unwrap();
    assert!(
        datagrams
            .iter_mut()
            .all(|datagram| far.open(datagram).is_ok())
    );
    assert_eq!(far.window.end(), 4_000);
}

proptest! {
    #[test]
    fn any_order_and_any_copies_open_each_datagram_once(order in prop::collection::vec(0_usize..50, 1..200)) {
        let (near, far) = pair(Aead::Aes256Gcm);
        let datagrams: Vec<_> = (0..50).map(|number: u8| sealed(&near, &[number])).collect();
        let mut seen = std::collections::HashSet::new();
        for at in order {
            let mut copy = datagrams[at].clone();
            match far.open(&mut copy) {
                Ok(opened) => {
                    prop_assert_eq!(message(&opened), &[at as u8]);
                    prop_assert!(seen.insert(at));
                }
                Err(error) => {
                    prop_assert_eq!(error, OpenError::Replayed);
                    prop_assert!(seen.contains(&at));
                }
            }
        }
    }

    #[test]
    fn whatever_bytes_come_nothing_opens_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (_, far) = pair(Aead::ChaCha20Poly1305);
        prop_assert!(far.open(&mut bytes.clone()).is_err());
        prop_assert!(far.open_data(NetId(1), NetId(2), &mut bytes.clone()).is_err());
    }
}
