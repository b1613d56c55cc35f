//! What a peer does when its mesh changes the secret (S92 to S94), or its node the rules (S96).

use std::net::SocketAddr;

use super::{Attempt, Peer, Up};
use crate::seal::effect::Turn;
use crate::time::{Duration, Instant};

/// Handshakes that a change causes are spread over this time: all nodes have them at once.
const SPREAD: Duration = Duration::from_secs(60);

impl Peer {
    /// Begins the next session at once, if one is up and none is begun.
    pub fn renew(&mut self, turn: &mut Turn<'_>) {
        if self.current.is_some() && self.dial.is_none() && self.attempt.is_none() {
            self.begin(turn);
        }
    }

    /// The mesh has changed its secret: what is up under one before `epoch` gets a successor soon,
    /// and ends at `at`. Handshakes under it end at once, but for one of ours that waits for its
    /// first LINK: the far end may seal with that session already.
    ///
    /// Gives where from the half-open handshakes were that ended, for the door's count.
    pub fn retire(
        &mut self,
        turn: &mut Turn<'_>,
        epoch: u32,
        at: Instant,
        mut ended: impl FnMut(SocketAddr),
    ) {
        self.retired = Some((epoch, at));
        self.answers.retain(|half| {
            let stays = half.answering.epoch() >= epoch;
            if !stays {
                turn.indices.release(half.answering.index());
                ended(half.from);
            }
            stays
        });
        let is_begun = matches!(&self.attempt, Some(Attempt::InitSent { initiation, .. })
            if initiation.keys().epoch < epoch);
        if is_begun {
            self.give_up_attempt(turn);
            if let Some(dial) = &mut self.dial {
                // Tries under another secret say nothing about this one.
                (dial.tries, dial.next_at) = (0, turn.now);
            }
        }
        let is_former = |up: &Up| up.session.epoch() < epoch;
        if self.current.as_ref().is_some_and(is_former) {
            self.renew_soon(turn);
        }
    }

    /// The session that is up gets a successor within `SPREAD`.
    pub fn renew_soon(&mut self, turn: &mut Turn<'_>) {
        if let Some(up) = &mut self.current {
            let spread = u64::try_from(SPREAD.as_micros()).unwrap_or(u64::MAX);
            let soon = turn.now + Duration::from_micros(turn.random.next_u64() % spread);
            up.rekey_at = up.rekey_at.min(soon);
        }
    }

    /// Whether a handshake of ours is under way that other rules may end otherwise: one whose FIN is
    /// out is not, since the far end may seal with that session already.
    pub fn may_begin_anew(&self) -> bool {
        let is_out = matches!(self.attempt, Some(Attempt::FinSent { .. }));
        self.dial.is_some() && self.current.is_none() && !is_out
    }

    /// Other rules of who comes up are in force, or we show another certificate: a handshake under way
    /// begins anew as if it was the first, if it [may](Self::may_begin_anew).
    pub fn begin_anew(&mut self, turn: &mut Turn<'_>) {
        if self.may_begin_anew() {
            self.dial = None;
            self.begin(turn);
        }
    }
}
