//! One endpoint's machine: from no session to one, and from each session to the next (S41 to S52).
//!
//! ```text
//!           dial              RESP                     first LINK on it
//!  Idle ───────────> InitSent ─────> FinSent ────────────────────────────────┐
//!   │                                                                        v
//!   └── INIT ──> RespSent ── FIN ──────────────────────────────────────────> Up
//!                                        rekey: the same again, beside Up ──┘ │
//!  Idle or InitSent <── silent for 30 s, or the last session's time is over ──┘
//! ```
//!
//! The states are not one field: a node that is Up may have sent an INIT and a RESP as well, and
//! each lives and dies by itself. What sends is one session, `current`; what opens is that one,
//! the few before it, and one that waits for its first LINK.
//!
//! No clock, no randomness, no I/O: each call gets a [`Turn`] and leaves [`Effect`]s. Sessions are
//! shared with the workers, which note on them when something was heard or sent; the machine
//! reads that once a second ([`Peer::next_timeout`]).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use wire::NetId;
use wire::sealed::INIT_LEN;

use crate::seal::cookie;
use crate::seal::effect::{Effect, Event, Gone, Owned, PeerId, Turn};
use crate::seal::handshake::{Answering, Initiation, Scope, Seed};
use crate::seal::members::Claim;
use crate::seal::payload::Remote;
use crate::seal::session::Session;
use crate::time::{Duration, Instant};

mod inputs;
mod retiring;
mod timers;
mod upkeep;

pub use timers::Timers;

/// Handshakes of one endpoint that are half-open at most; a fifth displaces the oldest (S42).
const HALF_OPEN_MAX: usize = 4;
/// Sessions before the current one that still open (S45).
const PREVIOUS_MAX: usize = 3;

/// Why we speak with an endpoint, which decides how long we try (S41).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The owner named it: never given up.
    Configured,
    /// A neighbor told of it: given up after three INITs.
    Informed,
    /// It came to us: dialed only at somebody's word, given up like an informed one, and rekeyed by
    /// us only while it is up.
    Incoming,
}

/// Where a peer stands, for those who look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is under way.
    Idle,
    /// We asked, or wait to ask again.
    InitSent,
    /// We answered and wait for the end of it.
    RespSent,
    /// A session seals.
    Up,
}

/// The machine. Calls: by one owner.
#[derive(Debug)]
pub struct Peer {
    id: PeerId,
    kind: Kind,
    /// The other end's netid, where this is no link.
    end: Option<NetId>,
    timers: Timers,
    /// Whom we call, once it is known.
    called: NetId,
    dial: Option<Dial>,
    attempt: Option<Attempt>,
    answers: VecDeque<HalfOpen>,
    current: Option<Up>,
    previous: VecDeque<Arc<Session>>,
    cookie: Option<cookie::Held>,
    looked_at: Instant,
    /// Path challenges sent since something was last heard.
    asked: usize,
    /// Sessions made under a mesh secret before this epoch end then.
    retired: Option<(u32, Instant)>,
}

/// INITs that go out until a session comes up.
#[derive(Debug)]
struct Dial {
    tries: u32,
    next_at: Instant,
}

/// Our own handshake.
#[derive(Debug)]
enum Attempt {
    InitSent {
        initiation: Box<Initiation>,
        sent_at: Instant,
        /// One COOKIE is read for each INIT (S30).
        cookie_read: bool,
    },
    FinSent {
        session: Arc<Session>,
        remote: Box<Remote>,
        fin: Box<[u8]>,
        /// When the FIN first went out, and how often since.
        sent_at: Instant,
        repeated: usize,
    },
}

/// The other side's handshake.
#[derive(Debug)]
struct HalfOpen {
    answering: Box<Answering>,
    from: SocketAddr,
    ends_at: Instant,
}

/// The session that seals, and whom for.
#[derive(Debug)]
struct Up {
    session: Arc<Session>,
    remote: Box<Remote>,
    rekey_at: Instant,
    /// The FIN that made it, where we answered: its copies are answered too (S43).
    fin: Option<Box<[u8]>>,
}

impl Peer {
    /// The far end of a link, idle.
    pub fn new(id: PeerId, kind: Kind, timers: Timers) -> Self {
        Self {
            id,
            kind,
            end: None,
            timers,
            called: NetId::ANY,
            dial: None,
            attempt: None,
            answers: VecDeque::new(),
            current: None,
            previous: VecDeque::new(),
            cookie: None,
            looked_at: Instant::ZERO,
            asked: 0,
            retired: None,
        }
    }

    /// The other end of the mesh, idle. Its datagrams are payloads of Data, addresses mean nothing,
    /// and a keepalive is an empty payload. `timers` are to be [`Timers::end_to_end`].
    pub fn end(id: PeerId, kind: Kind, timers: Timers, netid: NetId) -> Self {
        Self {
            end: Some(netid),
            ..Self::new(id, kind, timers)
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        if self.current.is_some() {
            State::Up
        } else if !self.answers.is_empty() {
            State::RespSent
        } else if self.attempt.is_some() || self.dial.is_some() {
            State::InitSent
        } else {
            State::Idle
        }
    }

    /// Whether INITs go out until a session comes up.
    pub fn is_dialing(&self) -> bool {
        self.dial.is_some()
    }

    /// Who it is, while it is up.
    pub fn remote(&self) -> Option<&Remote> {
        self.current.as_ref().map(|up| &*up.remote)
    }

    /// The session that seals.
    pub fn current(&self) -> Option<&Arc<Session>> {
        self.current.as_ref().map(|up| &up.session)
    }

    /// Handshakes that we answered and that wait for their end.
    pub fn half_open(&self) -> usize {
        self.answers.len()
    }

    /// Sends INITs until a session comes up. Does nothing while it is up or already dialed.
    /// `called` is [`NetId::ANY`] where it is not known.
    pub fn dial(&mut self, turn: &mut Turn<'_>, called: NetId) {
        self.called = called;
        if self.current.is_none() && self.dial.is_none() {
            self.begin(turn);
        }
    }

    /// Ends everything: says so to the far end, and is idle. A peer that is dropped must leave
    /// first, or its indices stay taken. Gives where from its half-open handshakes were.
    pub fn leave(&mut self, turn: &mut Turn<'_>, reason: u8, mut ended: impl FnMut(SocketAddr)) {
        if let Some(up) = &self.current {
            let session = Arc::clone(&up.session);
            turn.effects
                .push(Effect::Control(session, Owned::Close(reason)));
        }
        self.dial = None;
        self.give_up_attempt(turn);
        for half in self.answers.drain(..) {
            turn.indices.release(half.answering.index());
            ended(half.from);
        }
        self.fall(turn, Gone::Left);
    }

    /// Sends an INIT, and begins the count of tries if none is under way.
    fn begin(&mut self, turn: &mut Turn<'_>) {
        self.give_up_attempt(turn);
        let tries = self.dial.as_ref().map_or(0, |dial| dial.tries);
        let next_at = turn.now
            + self
                .timers
                .retry(tries, self.current.is_some(), turn.random);
        self.dial = Some(Dial {
            tries: tries.saturating_add(1),
            next_at,
        });
        let index = turn.indices.take(self.id, turn.random);
        let cookie = self.cookie.as_ref().and_then(|held| held.get(turn.now));
        let mut out = [0; INIT_LEN];
        let seed = seed(turn);
        let called = self.called;
        let scope = self.end.map_or(Scope::Link, |netid| Scope::EndToEnd {
            initiator: turn.local.netid,
            responder: netid,
        });
        let keys = turn.local.keys_to_begin(tries, self.current.is_some());
        let keys = Arc::clone(keys);
        match Initiation::begin_under(
            keys, turn.local, scope, index, called, cookie, seed, &mut out,
        ) {
            Ok((initiation, len)) => {
                turn.effects.push(Effect::Send(out[..len].into()));
                self.attempt = Some(Attempt::InitSent {
                    initiation: Box::new(initiation),
                    sent_at: turn.now,
                    cookie_read: false,
                });
            }
            Err(error) => {
                turn.indices.release(index);
                turn.effects.event(Event::Refused(error));
            }
        }
    }

    /// The session seals from now on; the one before it only opens.
    fn promote(
        &mut self,
        turn: &mut Turn<'_>,
        session: Arc<Session>,
        remote: Box<Remote>,
        fin: Option<Box<[u8]>>,
    ) {
        let rekey_at =
            session.created_at() + self.timers.rekey(session.is_initiator(), turn.random);
        let former = self.current.replace(Up {
            session: Arc::clone(&session),
            remote: remote.clone(),
            rekey_at,
            fin,
        });
        self.dial = None;
        self.asked = 0;
        session.note_heard(turn.now, false);
        turn.effects.push(Effect::Use(Some(Arc::clone(&session))));
        // Tells the far end that FIN arrived (S43), or that it may count on us (S44).
        turn.effects
            .push(Effect::Control(session, Owned::Keepalive));
        match former {
            Some(former) => {
                self.previous.push_back(former.session);
                turn.effects.event(Event::Rekeyed(remote));
            }
            None => turn.effects.event(Event::Up(remote)),
        }
        if self.previous.len() > PREVIOUS_MAX
            && let Some(oldest) = self.previous.pop_front()
        {
            erase(turn, &oldest);
        }
    }

    /// Whether a handshake ended with the key that is up, or none is up (S51).
    fn is_same_key(&self, remote: &Remote, turn: &mut Turn<'_>) -> bool {
        let is_same = self
            .current
            .as_ref()
            .is_none_or(|up| up.remote.static_key == remote.static_key);
        if !is_same {
            turn.effects.event(Event::OtherKey {
                netid: remote.netid,
                static_key: remote.static_key,
            });
        }
        is_same
    }

    /// Whether a handshake ended with somebody who may come up (S76). Where not, an attempt of ours is as
    /// before (S16): who answers first under another's netid does not keep that one out. But a session
    /// that is up with who may not any more ends, with all that is under way.
    fn is_admitted(
        &mut self,
        remote: &Remote,
        turn: &mut Turn<'_>,
        ended: impl FnMut(SocketAddr),
    ) -> bool {
        let Some(why) = (turn.refuses)(&Claim::of(remote)) else {
            return true;
        };
        turn.effects.event(Event::NotAdmitted {
            netid: remote.netid,
            static_key: remote.static_key,
            why,
        });
        if self.current.is_some() {
            self.leave(turn, why.reason(), ended);
        }
        false
    }

    /// Whether a session of ours opens under this index.
    fn opens(&self, index: u32) -> bool {
        let waiting = match &self.attempt {
            Some(Attempt::FinSent { session, .. }) => Some(session),
            _ => None,
        };
        self.current()
            .into_iter()
            .chain(waiting)
            .chain(&self.previous)
            .any(|session| session.local_index() == index)
    }

    fn give_up_attempt(&mut self, turn: &mut Turn<'_>) {
        match self.attempt.take() {
            Some(Attempt::InitSent { initiation, .. }) => {
                turn.indices.release(initiation.index());
            }
            Some(Attempt::FinSent { session, .. }) => erase(turn, &session),
            None => {}
        }
    }

    /// No session is left; what waited to be sealed waits on.
    fn fall(&mut self, turn: &mut Turn<'_>, gone: Gone) {
        for session in self.previous.drain(..) {
            erase(turn, &session);
        }
        if let Some(up) = self.current.take() {
            turn.effects.push(Effect::Use(None));
            erase(turn, &up.session);
            turn.effects.event(Event::Down(gone));
        }
    }

    /// Asks whether the far end still has the session. An end is asked by a new handshake (S67).
    fn challenge(&mut self, turn: &mut Turn<'_>) {
        if self.end.is_some() {
            if self.dial.is_none() && self.attempt.is_none() {
                self.begin(turn);
            }
        } else if let Some(up) = &self.current {
            let mut bytes = [0; 8];
            turn.random.fill_bytes(&mut bytes);
            let challenge = Owned::PathChallenge(bytes);
            turn.effects
                .push(Effect::Control(Arc::clone(&up.session), challenge));
        }
    }
}

fn open(session: &Arc<Session>, remote: &Remote) -> Effect {
    Effect::Open {
        session: Arc::clone(session),
        netid: remote.netid,
        rights: remote.rights(),
        rate_class: remote.rate_class(),
    }
}

fn erase(turn: &mut Turn<'_>, session: &Session) {
    turn.indices.release(session.local_index());
    turn.effects.push(Effect::Close(session.local_index()));
}

fn seed(turn: &mut Turn<'_>) -> Seed {
    let mut seed = Seed::default();
    turn.random.fill_bytes(&mut *seed);
    seed
}

/// The earlier of two deadlines, if there are any.
fn sooner(left: Option<Instant>, right: Option<Instant>) -> Option<Instant> {
    left.into_iter().chain(right).min()
}

/// How long since `at`, or since `otherwise` where it never was.
fn since(now: Instant, at: Option<Instant>, otherwise: Instant) -> Duration {
    now.since(at.unwrap_or(otherwise))
}

#[cfg(test)]
mod tests;
