//! What a peer does with what comes from the far end.

use std::net::SocketAddr;
use std::sync::Arc;

use wire::sealed::INIT_LEN;

use super::{Attempt, HALF_OPEN_MAX, HalfOpen, Peer, erase, open, seed};
use crate::planted::{self, Mistake};
use crate::seal::cookie;
use crate::seal::effect::{Effect, Event, Owned, Turn};
use crate::seal::handshake::{Answering, Checked, HandshakeError};

impl Peer {
    /// Answers an INIT that passed the door.
    ///
    /// State: one RESP goes out and one handshake more is half-open, for the door to count. Where
    ///        it displaced an older one, gives where from that was. An attempt of our own goes on.
    ///
    /// # Errors
    /// Nothing goes out: `Crossed`, `Reflected`, or what [`Answering::answer`] says.
    pub fn handle_init(
        &mut self,
        turn: &mut Turn<'_>,
        checked: &Checked<'_>,
        from: SocketAddr,
    ) -> Result<Option<SocketAddr>, HandshakeError> {
        if let Some(Attempt::InitSent {
            initiation,
            sent_at,
            ..
        }) = &self.attempt
        {
            let (ours, theirs) = (*initiation.ephemeral(), checked.init().ephemeral());
            if ours == theirs {
                return Err(HandshakeError::Reflected);
            }
            if ours > theirs && turn.now.since(*sent_at) < self.timers.crossing {
                return Err(HandshakeError::Crossed);
            }
        }
        let index = turn.indices.take(self.id, turn.random);
        let mut out = [0; INIT_LEN];
        let seed = seed(turn);
        let answered = Answering::answer(turn.local, checked, index, seed, Some(from), &mut out);
        let (answering, _, len) = match answered {
            Ok(answered) => answered,
            Err(error) => {
                turn.indices.release(index);
                return Err(error);
            }
        };
        let displaced = (self.answers.len() >= HALF_OPEN_MAX)
            .then(|| self.answers.pop_front())
            .flatten();
        if let Some(oldest) = &displaced {
            turn.indices.release(oldest.answering.index());
        }
        self.answers.push_back(HalfOpen {
            answering: Box::new(answering),
            from,
            ends_at: turn.now + self.timers.half_open,
        });
        turn.effects.push(Effect::Send(out[..len].into()));
        Ok(displaced.map(|oldest| oldest.from))
    }

    /// Reads a RESP. State: unchanged, unless it is the right one, of somebody who may come up. Gives
    /// where from half-open handshakes were that ended, for the door's count.
    pub fn handle_resp(
        &mut self,
        turn: &mut Turn<'_>,
        from: SocketAddr,
        resp: &[u8],
        ended: impl FnMut(SocketAddr),
    ) {
        let Some(Attempt::InitSent { initiation, .. }) = &mut self.attempt else {
            return;
        };
        let mut fin = [0; INIT_LEN];
        let (session, remote, len) =
            match initiation.complete(turn.local, turn.now, resp, Some(from), &mut fin) {
                Ok(completed) => completed,
                Err(error) => return turn.effects.event(Event::Refused(error)),
            };
        if !self.is_same_key(&remote, turn) || !self.is_admitted(&remote, turn, ended) {
            return;
        }
        let index = session.local_index();
        let session = Arc::new(session);
        let fin: Box<[u8]> = fin[..len].into();
        // It can open before it may seal: the answer to FIN comes over it.
        turn.effects.push(open(&session, &remote));
        turn.effects.push(Effect::Send(fin.clone()));
        self.attempt = Some(Attempt::FinSent {
            session,
            remote: Box::new(remote),
            fin,
            sent_at: turn.now,
            repeated: 0,
        });
        if planted::is(Mistake::SealAtFin) {
            self.handle_confirmed(turn, index, |_| {});
        }
    }

    /// Reads a FIN; gives where from handshakes were that it ended, for the door's count. State:
    /// unchanged, unless it is the right one; of somebody who may not come up, it ends its handshake.
    pub fn handle_fin(
        &mut self,
        turn: &mut Turn<'_>,
        fin: &[u8],
        mut ended: impl FnMut(SocketAddr),
    ) {
        if let Some(up) = &self.current
            && up.fin.as_deref() == Some(fin)
        {
            let session = Arc::clone(&up.session);
            turn.effects
                .push(Effect::Control(session, Owned::Keepalive));
            return;
        }
        let receiver = fin.get(8..12).and_then(|bytes| bytes.try_into().ok());
        let Some(receiver) = receiver.map(u32::from_be_bytes) else {
            return;
        };
        let is_its = |half: &HalfOpen| half.answering.index() == receiver;
        let Some(half) = self.answers.iter_mut().find(|half| is_its(half)) else {
            return;
        };
        let (session, remote) = match half.answering.finish(turn.local, turn.now, fin) {
            Ok(finished) => finished,
            Err(error) => return turn.effects.event(Event::Refused(error)),
        };
        // A FIN that verifies is of whoever sent the INIT: nobody else's handshake ends with this one, so
        // S16 holds. If it stayed after a refusal, each copy of the FIN would be verified anew.
        let at = self.answers.iter().position(is_its);
        let Some(half) = at.and_then(|at| self.answers.remove(at)) else {
            return;
        };
        if !self.is_same_key(&remote, turn) || !self.is_admitted(&remote, turn, &mut ended) {
            turn.indices.release(half.answering.index());
            return ended(half.from);
        }
        let session = Arc::new(session);
        turn.effects.push(open(&session, &remote));
        // An INIT of ours that waits for its answer has become needless.
        if matches!(self.attempt, Some(Attempt::InitSent { .. })) {
            self.give_up_attempt(turn);
        }
        self.promote(turn, session, Box::new(remote), Some(fin.into()));
        ended(half.from);
    }

    /// Reads a COOKIE (S30): the next INIT carries it.
    pub fn handle_cookie(&mut self, turn: &mut Turn<'_>, datagram: &[u8]) {
        if let Some(Attempt::InitSent {
            initiation,
            cookie_read,
            ..
        }) = &mut self.attempt
            && !*cookie_read
        {
            let (index, mac1) = (initiation.index(), initiation.mac1());
            let keys = initiation.keys();
            if let Some(held) = cookie::Held::open(turn.now, keys, index, mac1, datagram) {
                *cookie_read = true;
                self.cookie = Some(held);
                if planted::is(Mistake::CookieRetries)
                    && let Some(dial) = &mut self.dial
                {
                    dial.next_at = turn.now;
                }
            }
        }
    }

    /// The endpoint has another address now: a cookie for the former one is none (S10).
    pub fn handle_moved(&mut self) {
        self.cookie = None;
    }

    /// The first datagram opened on a session (`Opened::is_first`): the far end has it too, and an
    /// initiator seals with it from now on. Gives where from half-open handshakes were that ended.
    pub fn handle_confirmed(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        ended: impl FnMut(SocketAddr),
    ) {
        if let Some(Attempt::FinSent { session, .. }) = &self.attempt
            && session.local_index() == index
            && let Some(Attempt::FinSent {
                session, remote, ..
            }) = self.attempt.take()
        {
            // Since its RESP it may have been revoked.
            if self.is_admitted(&remote, turn, ended) {
                self.promote(turn, session, remote, None);
            } else {
                erase(turn, &session);
            }
        }
    }

    /// The far end says that it leaves, on the session of this index. That is advice (S26): whether
    /// it is so, a challenge tells.
    pub fn handle_close(&mut self, turn: &mut Turn<'_>, index: u32) {
        if self.opens(index) {
            self.challenge(turn);
        }
    }
}
