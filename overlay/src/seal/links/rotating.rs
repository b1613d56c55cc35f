//! How a node's links go from one mesh secret to the next (SEALED.md S5, S92 to S94).
//!
//! ```text
//! current            current, next                     next
//! ───────── adopt ─> ───────────── finish ───────────> ────
//!                    answers either; each link that is up tries the next one, and comes back to the
//!                    current one where nobody answers
//! ```
//!
//! A link that is up has a session while another is tried, so no message waits for the outcome.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::NetId;

use super::{Entry, Links, Wish};
use crate::planted::{self, Mistake};
use crate::seal::effect::PeerId;
use crate::seal::gate::Gate;
use crate::seal::keys::MeshKeys;
use crate::time::{Duration, Instant};

/// How long what was made under the former secret lasts: as long as any session of a link (S45).
pub const FORMER_LASTS: Duration = Duration::from_secs(180);

/// How often the next secret is tried on a link whose far end has not used it.
pub const TRY_AGAIN: Duration = Duration::from_secs(30);

/// How far a change of the secret has come among a node's neighbors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Neighbors with a session.
    pub neighbors: usize,
    /// Those of them that have used the next secret.
    pub using: usize,
}

impl Rotation {
    /// Whether the next secret is the one to begin with (S5).
    pub const fn is_most(self) -> bool {
        self.using * 2 > self.neighbors
    }
}

impl Links {
    /// Takes the secrets that the node has from now on, both of its mesh; the current one is the one
    /// it has, or one that followed. What was made under former ones ends by itself.
    pub fn set_secrets(&mut self, now: Instant, current: MeshKeys, next: Option<MeshKeys>) {
        let former = self.local.keys.epoch;
        let known = self.local.next.take();
        let is_news = match (&known, &next) {
            (Some(known), Some(next)) => known.mac1 != next.mac1,
            (None, next) => next.is_some(),
            (Some(_), None) => false,
        };
        self.local.keys = Arc::new(current);
        self.local.next = next.map(Arc::new);
        let gate = self.sessions.gate().map(|gate| gate.after(&self.local));
        if let Some(gate) = gate {
            self.sessions.set_gate(gate);
        }
        self.wishes.push(Wish::Publish);
        let epoch = self.local.keys.epoch;
        if epoch > former {
            self.former_until = Some(now + FORMER_LASTS);
        }
        let all: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in all {
            let mut ended = Vec::new();
            self.with(now, id, |peer, turn| {
                if epoch > former {
                    let until = match planted::is(Mistake::RetireAtOnce) {
                        true => now,
                        false => now + FORMER_LASTS,
                    };
                    peer.retire(turn, epoch, until, |from| ended.push(from));
                }
            });
            for from in ended {
                self.door.leave(from);
            }
            self.forget_if_idle(id);
        }
        if is_news {
            self.trying = Some(now);
            self.try_next(now);
        }
        self.count_next();
    }

    /// What was made under the former secret has ended: workers let in nothing of it any more.
    pub(super) fn end_former(&mut self, now: Instant) {
        if self.former_until.is_none_or(|until| now < until) {
            return;
        }
        self.former_until = None;
        let gate = self.sessions.gate().map(Gate::without_former);
        if let Some(gate) = gate {
            self.sessions.set_gate(gate);
            self.wishes.push(Wish::Publish);
        }
    }

    /// Tries the next secret on all links that do not use it, if it is time to.
    pub(super) fn try_next(&mut self, now: Instant) {
        if self.trying.is_none_or(|at| now < at) {
            return;
        }
        let Some(epoch) = self.local.next.as_ref().map(|next| next.epoch) else {
            self.trying = None;
            return;
        };
        self.trying = Some(now + TRY_AGAIN);
        let lacks = |entry: &Entry| {
            let session = entry.peer.current();
            session.is_some_and(|session| session.epoch() < epoch)
        };
        let lacking = self.peers.iter().filter(|(_, entry)| lacks(entry));
        let lacking: Vec<PeerId> = lacking.map(|(id, _)| *id).collect();
        for id in lacking {
            self.with(now, id, |peer, turn| peer.renew(turn));
        }
    }

    /// How far the change has come, while one is under way.
    pub fn rotation(&self) -> Option<Rotation> {
        let next = self.local.next.as_ref()?;
        // A neighbor with several links uses the next secret when all of them do.
        let mut uses = BTreeMap::<NetId, bool>::new();
        for entry in self.peers.values() {
            if let (Some(remote), Some(session)) = (entry.peer.remote(), entry.peer.current()) {
                let uses_next = session.epoch() >= next.epoch;
                *uses.entry(remote.netid).or_insert(true) &= uses_next;
            }
        }
        Some(Rotation {
            neighbors: uses.len(),
            using: uses.values().filter(|uses| **uses).count(),
        })
    }

    /// Looks whether the next secret is the one to begin with by now.
    pub(super) fn count_next(&mut self) {
        self.local.prefers_next = self.rotation().is_some_and(Rotation::is_most);
    }
}
