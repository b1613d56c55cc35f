//! What a peer does when time has passed.

use std::sync::Arc;

use super::{Attempt, Kind, Peer, erase, since, sooner};
use crate::planted::{self, Mistake};
use crate::seal::effect::{Effect, Event, Gone, Owned, Turn};
use crate::seal::session::Session;
use crate::time::Instant;

impl Peer {
    /// When [`Self::handle_timeout`] has something to do at the latest. A session that is worn out
    /// by its count, and what workers noted, are seen once in `Timers::look`.
    pub fn next_timeout(&self) -> Option<Instant> {
        let half_open = self.answers.front().map(|half| half.ends_at);
        let own = match &self.attempt {
            Some(Attempt::FinSent {
                sent_at, repeated, ..
            }) => {
                let ends_at = *sent_at + self.timers.fin_lifetime;
                let again = self.timers.fin_again.get(*repeated);
                Some(again.map_or(ends_at, |&after| *sent_at + after))
            }
            _ => self.dial.as_ref().map(|dial| dial.next_at),
        };
        let up = self
            .current
            .as_ref()
            .map(|_| self.looked_at + self.timers.look);
        sooner(sooner(half_open, own), up)
    }

    /// Does what is due. Early calls are harmless.
    ///
    /// Gives where from the half-open handshakes were that ended unfinished, for the door's count.
    pub fn handle_timeout(
        &mut self,
        turn: &mut Turn<'_>,
        mut ended: impl FnMut(std::net::SocketAddr),
    ) {
        // 1. Answers that nobody ended.
        while let Some(half) = self.answers.front()
            && turn.now >= half.ends_at
        {
            turn.indices.release(half.answering.index());
            ended(half.from);
            self.answers.pop_front();
        }
        // 2. Our own handshake.
        self.keep_attempt(turn, ended);
        self.keep_dial(turn);
        // 3. Sessions, which workers note things on.
        if self.current.is_some() && turn.now >= self.looked_at + self.timers.look {
            self.looked_at = turn.now;
            self.look(turn);
        }
    }

    /// FIN: the first LINK ends it; until then it is repeated, and given up at last.
    fn keep_attempt(&mut self, turn: &mut Turn<'_>, ended: impl FnMut(std::net::SocketAddr)) {
        let Some(Attempt::FinSent {
            session,
            fin,
            sent_at,
            repeated,
            ..
        }) = &mut self.attempt
        else {
            return;
        };
        // The notice of its first LINK may have been lost on the way to us.
        if session.is_confirmed() {
            let index = session.local_index();
            return self.handle_confirmed(turn, index, ended);
        }
        if turn.now >= *sent_at + self.timers.fin_lifetime {
            self.give_up_attempt(turn);
            if let Some(dial) = &mut self.dial {
                dial.next_at = turn.now;
            }
            return;
        }
        if let Some(&after) = self.timers.fin_again.get(*repeated)
            && turn.now >= *sent_at + after
        {
            *repeated += 1;
            turn.effects.push(Effect::Send(fin.clone()));
        }
    }

    /// INIT again, unless its FIN is out.
    fn keep_dial(&mut self, turn: &mut Turn<'_>) {
        let Some(dial) = &self.dial else {
            return;
        };
        if turn.now < dial.next_at || matches!(self.attempt, Some(Attempt::FinSent { .. })) {
            return;
        }
        // One that came to us is no better known than one that a neighbor told of: anybody can send
        // a recorded INIT from there.
        if self.kind != Kind::Configured
            && self.current.is_none()
            && dial.tries >= self.timers.informed_tries
        {
            self.dial = None;
            self.give_up_attempt(turn);
            turn.effects.event(Event::GaveUp);
            return;
        }
        self.begin(turn);
    }

    /// Ages, silence, keepalives: S45, S46, S49, S50.
    fn look(&mut self, turn: &mut Turn<'_>) {
        let longer = if planted::is(Mistake::KeepSessions) {
            4
        } else {
            1
        };
        let lifetime = self.timers.session_lifetime * longer;
        let retired = self.retired.filter(|(_, at)| turn.now >= *at);
        let is_retired =
            |session: &Session| retired.is_some_and(|(epoch, _)| session.epoch() < epoch);
        self.previous.retain(|session| {
            let is_over = turn.now >= session.created_at() + lifetime || is_retired(session);
            if is_over {
                erase(turn, session);
            }
            !is_over
        });
        let Some(up) = &self.current else {
            return;
        };
        if turn.now >= up.session.created_at() + lifetime || is_retired(&up.session) {
            return self.lose(turn, Gone::Expired);
        }
        let (rekey_at, is_worn) = (up.rekey_at, up.session.is_worn());
        if self.is_silent(turn) {
            return self.lose(turn, Gone::Silent);
        }
        self.keep_alive(turn);
        let is_due = (turn.now >= rekey_at || is_worn) && !planted::is(Mistake::NeverRekey);
        if is_due && self.dial.is_none() && self.attempt.is_none() {
            self.begin(turn);
        }
    }

    /// Asks after silence; says whether it has lasted too long.
    fn is_silent(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(up) = &self.current else {
            return false;
        };
        let created_at = up.session.created_at();
        // The far end may seal with the session before for a while.
        let heard_at = self
            .previous
            .iter()
            .chain([&up.session])
            .filter_map(|session| session.heard_at())
            .max()
            .unwrap_or(created_at);
        let silence = turn.now.since(heard_at);
        if silence >= self.timers.dead {
            return true;
        }
        let expects = up
            .session
            .message_sent_at()
            .is_some_and(|sent_at| sent_at > heard_at);
        let steps = if expects {
            &self.timers.ask
        } else {
            &self.timers.ask_idle
        };
        let due = steps.iter().filter(|&&step| silence >= step).count();
        if due > self.asked {
            self.challenge(turn);
        }
        self.asked = due;
        false
    }

    fn keep_alive(&mut self, turn: &mut Turn<'_>) {
        let Some(up) = &self.current else {
            return;
        };
        let session = &up.session;
        let quiet = since(turn.now, session.sent_at(), session.created_at());
        let owes = session.message_heard_at() > session.sent_at();
        if quiet >= self.timers.idle || owes && quiet >= self.timers.answer_within {
            let session = Arc::clone(session);
            turn.effects
                .push(Effect::Control(session, Owned::Keepalive));
        }
    }

    /// The link is dead; whoever is to be dialed is dialed from the beginning.
    fn lose(&mut self, turn: &mut Turn<'_>, gone: Gone) {
        self.fall(turn, gone);
        self.give_up_attempt(turn);
        self.dial = None;
        // An end is dialed when there is something for it.
        if self.kind != Kind::Incoming && self.end.is_none() {
            self.begin(turn);
        }
    }
}
