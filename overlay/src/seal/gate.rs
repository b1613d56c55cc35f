//! What a worker asks of a handshake's datagram before it costs more than a mac (SEALED.md S6, S9).
//!
//! The driver asks the same again, and more ([`door`](super::door)). But the way there is an allocation, a
//! copy of 1,200 bytes and a place in a channel, of which garbage must not take any: at 100,000 datagrams
//! a second it would be another thread's whole work, and what sessions have to say would find no place.

use std::fmt;
use std::sync::Arc;

use wire::sealed::{Answer, AnswerKind, Cookie, Init, SealedKind};

use crate::planted::{self, Mistake};
use crate::seal::effect::Given;
use crate::seal::keys::{Key, is_same, mac};
use crate::seal::local::Local;

/// The mac1 keys of a node's secrets, and the indices that it has given out. Built by the driver, read by
/// workers.
#[derive(Clone)]
pub struct Gate {
    given: Arc<Given>,
    current: Key,
    /// Of the secret that the mesh changes to.
    next: Option<Key>,
    /// Of the secret before the current one, for a while: a FIN of it may be said once more. No INIT of it
    /// is answered (S94), so whom the change shut out has no way to the driver with them.
    former: Option<Key>,
}

impl Gate {
    /// For the secrets that a node begins with.
    pub fn new(local: &Local, given: Arc<Given>) -> Self {
        Self {
            given,
            current: local.keys.mac1.clone(),
            next: local.next.as_ref().map(|next| next.mac1.clone()),
            former: None,
        }
    }

    /// The same for the secrets that it has now.
    #[must_use]
    pub fn after(&self, local: &Local) -> Self {
        let begun = Self::new(local, self.given.clone());
        let is_changed = begun.current != self.current;
        Self {
            former: match is_changed {
                true => Some(self.current.clone()),
                false => self.former.clone(),
            },
            ..begun
        }
    }

    /// The same once what the former secret made has ended.
    #[must_use]
    pub fn without_former(&self) -> Self {
        Self {
            former: None,
            ..self.clone()
        }
    }

    /// Whether a datagram is worth the way to the driver: its form is right, the index that it answers was
    /// given out, and its mac1 is right if it has one. A COOKIE has none; what it was sealed with is for
    /// the INIT's sender to know (S30).
    ///
    /// Cost: one short mac; one more for each further secret where it is wrong.
    pub fn lets_in(&self, kind: SealedKind, datagram: &[u8]) -> bool {
        match kind {
            SealedKind::Init => {
                Init::parse(datagram).is_ok_and(|init| self.begins(init.before_mac1, init.mac1))
            }
            SealedKind::Resp => self.is_answer(AnswerKind::Resp, datagram),
            SealedKind::Fin => self.is_answer(AnswerKind::Fin, datagram),
            SealedKind::Cookie => {
                Cookie::parse(datagram).is_ok_and(|cookie| self.given.has(cookie.receiver))
            }
            SealedKind::Link => false,
        }
    }

    fn is_answer(&self, kind: AnswerKind, datagram: &[u8]) -> bool {
        Answer::parse(kind, datagram).is_ok_and(|answer| {
            let is_right = || {
                let (before, mac1) = (answer.before_mac1, answer.mac1);
                let of_former = |key: &Key| is_right(key, before, mac1);
                self.begins(before, mac1) || self.former.as_ref().is_some_and(of_former)
            };
            self.given.has(answer.receiver) && is_right()
        })
    }

    /// Whether a handshake may begin under this mac1.
    fn begins(&self, before: &[u8], mac1: &[u8; 16]) -> bool {
        let mut keys = std::iter::once(&self.current).chain(&self.next);
        keys.any(|key| is_right(key, before, mac1)) || planted::is(Mistake::SkipMac)
    }
}

fn is_right(key: &Key, before: &[u8], mac1: &[u8; 16]) -> bool {
    is_same(&mac(key, &[before]), mac1)
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate(..)")
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;
    use wire::sealed::INIT_LEN;
    use zeroize::Zeroizing;

    use super::*;
    use crate::seal::effect::{Indices, PeerId};
    use crate::seal::handshake::{Initiation, Scope};
    use crate::seal::keys::MeshSecret;
    use crate::seal::vectors::{FAR, NEAR, node, rising};

    /// An INIT under a secret.
    fn init(secret: &MeshSecret) -> [u8; INIT_LEN] {
        let mut local = node(0x80, FAR, true);
        local.keys = secret.derive().into();
        let seed = Zeroizing::new(rising(0x33));
        let mut out = [0; INIT_LEN];
        Initiation::begin(&local, Scope::Link, 7, NEAR, None, seed, &mut out).unwrap();
        out
    }

    /// A FIN under a secret that answers this index; its form and mac1 are right, and nothing else.
    fn fin(secret: &MeshSecret, receiver: u32) -> Vec<u8> {
        let len = 80;
        let mut fin = vec![0; 14 + len + 32];
        fin[..4].copy_from_slice(&[wire::sealed::SEALED_MAGIC, 3, 0, 0]);
        fin[8..12].copy_from_slice(&receiver.to_be_bytes());
        fin[13] = len as u8;
        let (before, macs) = fin.split_at_mut(14 + len);
        macs[..16].copy_from_slice(&mac(&secret.derive().mac1, &[before]));
        fin
    }

    #[test]
    fn inits_are_let_in_under_the_current_and_the_next_secret_and_answers_under_the_former_one_too()
    {
        let first = MeshSecret::new(rising(0));
        let secrets = [
            first.clone(),
            first.following([7; 32]),
            MeshSecret::new([9; 32]),
        ];
        let inits = secrets.each_ref().map(init);
        let lets = |gate: &Gate| {
            let each = inits.each_ref();
            each.map(|init| gate.lets_in(SealedKind::Init, init))
        };
        let given = Arc::<Given>::default();
        let mut indices = Indices::watched(given.clone());
        let index = indices.take(PeerId(1), &mut ChaCha12Rng::from_seed([1; 32]));
        let fins = secrets.each_ref().map(|secret| fin(secret, index));
        let ends = |gate: &Gate| {
            let each = fins.each_ref();
            each.map(|fin| gate.lets_in(SealedKind::Fin, fin))
        };
        let mut local = node(0x40, NEAR, true);
        let gate = Gate::new(&local, given);
        assert_eq!(lets(&gate), [true, false, false]);
        assert_eq!(ends(&gate), [true, false, false]);
        local.next = Some(secrets[1].derive().into());
        let gate = gate.after(&local);
        assert_eq!(lets(&gate), [true, true, false]);
        local.keys = secrets[1].derive().into();
        local.next = None;
        let gate = gate.after(&local);
        for gate in [gate.after(&local), gate] {
            assert_eq!(lets(&gate), [false, true, false]);
            assert_eq!(ends(&gate), [true, true, false]);
            assert_eq!(ends(&gate.without_former()), [false, true, false]);
        }
    }

    #[test]
    fn each_changed_bit_of_what_mac1_covers_and_each_other_length_is_kept_out() {
        let right = init(&MeshSecret::new(rising(0)));
        let gate = Gate::new(&node(0x40, NEAR, true), Arc::default());
        let covered = 10 + usize::from(u16::from_be_bytes([right[8], right[9]])) + 16;
        for bit in 0..8 * covered {
            let mut wrong = right;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!gate.lets_in(SealedKind::Init, &wrong), "bit {bit}");
        }
        assert!(!gate.lets_in(SealedKind::Init, &right[..INIT_LEN - 1]));
        assert!(!gate.lets_in(SealedKind::Resp, &right));
        assert!(!gate.lets_in(SealedKind::Link, &right));
        assert!(gate.lets_in(SealedKind::Init, &right));
    }

    #[test]
    fn a_cookie_is_let_in_where_its_index_is_given_out() {
        let given = Arc::<Given>::default();
        let mut indices = Indices::watched(given.clone());
        let gate = Gate::new(&node(0x40, NEAR, true), given);
        let mut random = ChaCha12Rng::from_seed([1; 32]);
        let index = indices.take(PeerId(1), &mut random);
        let mut cookie = [7; wire::sealed::COOKIE_LEN];
        cookie[..4].copy_from_slice(&[wire::sealed::SEALED_MAGIC, 4, 0, 0]);
        cookie[4..8].copy_from_slice(&index.to_be_bytes());
        let mut other = cookie;
        other[4] ^= 1;
        assert!(!gate.lets_in(SealedKind::Cookie, &other));
        assert!(gate.lets_in(SealedKind::Cookie, &cookie));
        let again = indices.take(PeerId(1), &mut random);
        indices.release(again);
        indices.release(again);
        assert!(gate.lets_in(SealedKind::Cookie, &cookie));
        assert!(!gate.lets_in(SealedKind::Cookie, &cookie[1..]));
        cookie[2] = 1;
        assert!(!gate.lets_in(SealedKind::Cookie, &cookie));
        cookie[2] = 0;
        indices.release(index);
        assert!(!gate.lets_in(SealedKind::Cookie, &cookie));
    }
}
