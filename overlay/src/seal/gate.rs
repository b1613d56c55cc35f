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
    /// Of the secret before the current one: a FIN of it may be said once more.
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

    /// Whether a datagram is worth the way to the driver: its form is right, the index that it answers was
    /// given out, and its mac1 is right if it has one. A COOKIE has none; what it was sealed with is for
    /// the INIT's sender to know (S30).
    ///
    /// Cost: one short mac; one more for each further secret where it is wrong.
    pub fn lets_in(&self, kind: SealedKind, datagram: &[u8]) -> bool {
        match kind {
            SealedKind::Init => {
                Init::parse(datagram).is_ok_and(|init| self.is_right(init.before_mac1, init.mac1))
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
            self.given.has(answer.receiver) && self.is_right(answer.before_mac1, answer.mac1)
        })
    }

    fn is_right(&self, before: &[u8], mac1: &[u8; 16]) -> bool {
        let further = self.next.iter().chain(&self.former);
        let mut keys = std::iter::once(&self.current).chain(further);
        keys.any(|key| is_same(&mac(key, &[before]), mac1)) || planted::is(Mistake::SkipMac)
    }
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

    #[test]
    fn only_what_a_member_made_is_let_in_under_the_current_the_next_and_the_former_secret() {
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
        let mut local = node(0x40, NEAR, true);
        let gate = Gate::new(&local, Arc::default());
        assert_eq!(lets(&gate), [true, false, false]);
        local.next = Some(secrets[1].derive().into());
        let gate = gate.after(&local);
        assert_eq!(lets(&gate), [true, true, false]);
        local.keys = secrets[1].derive().into();
        local.next = None;
        let gate = gate.after(&local);
        assert_eq!(lets(&gate), [true, true, false]);
        assert_eq!(lets(&gate.after(&local)), [true, true, false]);
        assert_eq!(
            lets(&Gate::new(&local, Arc::default())),
            [false, true, false]
        );
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
