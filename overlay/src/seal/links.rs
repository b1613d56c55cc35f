//! All sealed endpoints of a node: whose datagram this is, what it makes happen, what may be said.
//!
//! ```text
//!  control's datagrams ──> send ──> session? ── yes ──> sealed, out
//!                                      └────── no ───> waits; dial
//!  handshakes, notices ──> handle_* ──> door, peer ──> Wish::{Send, Publish, Event}
//! ```
//!
//! The node above knows nothing of all this: it says Hello to an endpoint, and that waits here until
//! a session has come up. What never comes up costs it what an endpoint costs that does not answer.
//!
//! Identity: whom [`Members`] refuses does not come up (S34).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use wire::NetId;
use wire::sealed::close::{REPLACED, SHUTDOWN};
use wire::sealed::{Control, Frame, LINK_HEADER_LEN, SealedKind, TAG_LEN};

use crate::budget::Level;
use crate::id::{Endpoint, Path, canonical};
use crate::keyed::KeyedHasher;
use crate::planted::{self, Mistake};
use crate::seal::allowance::Allowances;
use crate::seal::door::{Arrival, Door, Limits, Verdict};
use crate::seal::effect::{Effect, Effects, Event, Given, Indices, Owned, PeerId, Turn};
use crate::seal::gate::Gate;
use crate::seal::keys::Key;
use crate::seal::local::Local;
use crate::seal::members::{Claim, Members, Pulling, Refusal};
use crate::seal::payload::Remote;
use crate::seal::peer::{Kind, Peer, State, Timers};
use crate::seal::prefer::Prefer;
use crate::seal::roam::Roam;
use crate::seal::session::{LINK_OVERHEAD, Session};
use crate::seal::sessions::{Opens, Seals, SessionSet};
use crate::time::Instant;

mod falling;
mod moving;
mod renewing;
mod rotating;
mod spreading;

use falling::Open;
pub use renewing::Renewal;
pub use rotating::{FORMER_LASTS, Rotation, TRY_AGAIN};

/// Datagrams of control that wait for one endpoint's session: an introduction and its repetition.
/// Data does not wait, since a link carries none before control has proved it.
const WAITING: usize = 8;
/// Endpoints at once; further ones are neither answered nor dialed. Idle ones are forgotten.
const ENDPOINTS: usize = 2_048;

/// Endpoints of one key that are up at once (S100): twice the links of a neighbor, so that one that has
/// started anew comes up while its former links fade.
pub const ENDPOINTS_PER_KEY: usize = 8;

/// What the caller is to do, in order.
#[derive(Debug)]
pub enum Wish {
    /// Send this datagram.
    Send(Path, Box<[u8]>),
    /// [`Links::sessions`] changed: publish it.
    Publish,
    /// Tell the owner.
    Notice(Endpoint, Notice),
}

/// Something that an owner wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// What a peer tells.
    Peer(Event),
    /// A node of our mesh that membership refuses.
    Refused {
        /// The netid that it goes by.
        netid: NetId,
        /// Its key.
        static_key: [u8; 32],
        /// Why.
        why: Refusal,
        /// Whether this key was not told of before.
        is_news: bool,
    },
    /// The far end is elsewhere now.
    Moved {
        /// There.
        to: Endpoint,
    },
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    /// What the endpoint goes by, wherever it is now.
    path: Path,
    roam: Roam<Path>,
    waiting: VecDeque<Box<[u8]>>,
    /// Requests for lists that were answered.
    requests: Level,
    /// Whether plain is spoken to it.
    open: Option<Open>,
    /// The key that is up here.
    key: Option<[u8; 32]>,
}

/// The machine. Calls: by one owner.
pub struct Links {
    local: Local,
    timers: Timers,
    door: Door,
    indices: Indices,
    random: ChaCha12Rng,
    peers: BTreeMap<PeerId, Entry>,
    by_endpoint: HashMap<Endpoint, PeerId, KeyedHasher>,
    next_id: u32,
    /// Addresses that the owner named: their places are reserved (S31).
    configured: BTreeSet<SocketAddr>,
    /// At how many endpoints each key is up.
    up: BTreeMap<[u8; 32], usize>,
    /// What nodes may send of their own that are held to a rate.
    allowances: Allowances,
    members: Members,
    pulling: Pulling,
    /// Where sealed links are preferred and not insisted on.
    prefer: Option<Prefer>,
    /// When the newest list is announced again, and how often still.
    telling: Option<(Instant, u32)>,
    /// When the next secret is tried again where it is not in use yet.
    trying: Option<Instant>,
    /// When what was made under the former secret has ended.
    former_until: Option<Instant>,
    sessions: SessionSet,
    effects: Effects,
    wishes: Vec<Wish>,
}

impl Links {
    /// A node without endpoints.
    pub fn new(
        now: Instant,
        local: Local,
        timers: Timers,
        hasher: KeyedHasher,
        mut random: ChaCha12Rng,
    ) -> Self {
        let mut secret = [0; 32];
        random.fill_bytes(&mut secret);
        // A start in the middle of a change goes on with it.
        let trying = local.next.is_some().then_some(now);
        let mut sessions = SessionSet::new(hasher);
        let given = Arc::<Given>::default();
        sessions.set_gate(Gate::new(&local, given.clone()));
        Self {
            local,
            timers,
            door: Door::new(now, Limits::default(), Key::new(secret)),
            indices: Indices::watched(given),
            random,
            peers: BTreeMap::new(),
            by_endpoint: HashMap::with_hasher(hasher),
            next_id: 0,
            configured: BTreeSet::new(),
            up: BTreeMap::new(),
            allowances: Allowances::default(),
            members: Members::default(),
            pulling: Pulling::default(),
            prefer: None,
            telling: None,
            trying,
            former_until: None,
            sessions,
            effects: Effects::default(),
            wishes: Vec::new(),
        }
    }

    /// The same with these rules of who comes up; without them, by pins of this run alone.
    #[must_use]
    pub fn admitting(mut self, members: Members) -> Self {
        let number = members.list().number();
        self.local.revocation = (number > 0).then_some(number);
        self.members = members;
        self
    }

    /// Who comes up.
    pub const fn members(&mut self) -> &mut Members {
        &mut self.members
    }

    /// Why somebody may not come up over others.
    pub fn refuses(&self, claim: &Claim<'_>) -> Option<Refusal> {
        self.members.judge_afar(claim).err()
    }

    /// The certificates of those whose links are up.
    pub fn certificates(&self) -> impl Iterator<Item = (NetId, &[u8])> {
        self.peers.values().filter_map(|entry| {
            let remote = entry.peer.remote()?;
            Some((remote.netid, remote.certificate.as_deref()?))
        })
    }

    /// The rate class that a node is held to, and how many of its messages were above it; `None` where
    /// it has none.
    pub fn rate_class(&self, netid: NetId) -> Option<(u8, u64)> {
        self.allowances.class(netid)
    }

    /// This node.
    pub const fn local(&self) -> &Local {
        &self.local
    }

    /// Forgets the key of a netid, and says which it was. Its links end: the next key that comes up
    /// is the one that is remembered.
    pub fn forget(&mut self, now: Instant, netid: NetId) -> Option<[u8; 32]> {
        let latched = self.unlatch(netid);
        let key = self.members.forget(netid).or(latched)?;
        self.leave_where(now, REPLACED, |remote| {
            remote.netid == netid && remote.static_key == key
        });
        Some(key)
    }

    /// What workers are to use.
    pub fn sessions(&self) -> &SessionSet {
        &self.sessions
    }

    /// These are the addresses that the owner named.
    pub fn set_configured(&mut self, addresses: impl Iterator<Item = SocketAddr>) {
        self.configured = addresses.map(canonical).collect();
    }

    /// Endpoints known, and indices given out: what strangers would fill if they could.
    pub fn held(&self) -> (usize, usize) {
        (self.peers.len(), self.indices.len())
    }

    /// Takes what is to be done.
    pub fn drain(&mut self) -> impl Iterator<Item = Wish> + '_ {
        self.wishes.drain(..)
    }

    /// Seals a datagram of control for an endpoint and sends it; without a session it waits, the
    /// oldest giving way, and the endpoint is dialed. Only to whom did not answer that, where sealed
    /// links are but preferred, it is sent in plain.
    pub fn send(&mut self, now: Instant, path: &Path, datagram: &[u8]) {
        if let Some(seals) = self.sessions.seals(&path.endpoint) {
            if !self.names_other_zone(false, datagram) {
                let sealed = seal_message(now, &seals.session, datagram);
                self.wishes
                    .extend(sealed.map(|sealed| Wish::Send(seals.path, sealed)));
            }
            return;
        }
        if self.send_if_open(now, path, datagram) {
            return;
        }
        let Some(id) = self.find_or_add(path, Kind::Informed) else {
            return;
        };
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        if entry.waiting.len() == WAITING {
            entry.waiting.pop_front();
        }
        entry.waiting.push_back(datagram.into());
        self.with(now, id, |peer, turn| peer.dial(turn, NetId::ANY));
    }

    /// Seals a datagram for an endpoint, to be sent otherwise, and says where to; `None` without a
    /// session.
    pub fn seal(&self, now: Instant, path: &Path, datagram: &[u8]) -> Option<(Path, Box<[u8]>)> {
        let seals = self.sessions.seals(&path.endpoint)?;
        Some((seals.path, seal_message(now, &seals.session, datagram)?))
    }

    /// Takes a datagram of a handshake; `waiting` more of them wait behind it.
    ///
    /// Returns whether it was of use to somebody.
    pub fn handle(&mut self, now: Instant, path: &Path, datagram: &[u8], waiting: usize) -> bool {
        let from = path.endpoint.remote;
        match SealedKind::of(datagram) {
            Ok(SealedKind::Init) => self.handle_init(now, path, datagram, waiting),
            Ok(kind @ (SealedKind::Resp | SealedKind::Fin | SealedKind::Cookie)) => {
                // The receiver index, which alone finds the peer (S8).
                let at = if kind == SealedKind::Cookie { 4 } else { 8 };
                let Some(id) = self.indices.owner_at(datagram, at) else {
                    return false;
                };
                // What confirms a FIN goes to where it came from, as the RESP did (S102): whoever asks
                // there hears nothing of what goes to where the link is.
                let answer_to = (kind == SealedKind::Fin).then_some(*path);
                self.ending_by(now, id, answer_to, |peer, turn, ended| match kind {
                    SealedKind::Resp => peer.handle_resp(turn, from, datagram, ended),
                    SealedKind::Fin => peer.handle_fin(turn, datagram, ended),
                    _ => peer.handle_cookie(turn, datagram),
                });
                true
            }
            _ => false,
        }
    }

    /// Takes the notice that a session's first datagram was opened.
    pub fn handle_confirmed(&mut self, now: Instant, index: u32) {
        if let Some(id) = self.indices.owner(index) {
            self.ending(now, id, |peer, turn, ended| {
                peer.handle_confirmed(turn, index, ended);
            });
        }
    }

    /// When [`Self::handle_timeout`] has something to do at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.peers
            .values()
            .filter_map(Entry::next_timeout)
            .chain(self.pull_at())
            .chain(self.trying)
            .chain(self.former_until)
            .min()
    }

    /// Does what is due. Early calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tell_again(now);
        self.pull(now);
        self.try_next(now);
        self.end_former(now);
        let due: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.next_timeout().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.ask_again(now, id);
            self.look_after_open(now, id);
            self.ending(now, id, |peer, turn, ended| {
                peer.handle_timeout(turn, ended);
            });
        }
    }

    /// Tells every far end that we leave.
    pub fn leave(&mut self, now: Instant) {
        let all: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in all {
            self.with(now, id, |peer, turn| peer.leave(turn, SHUTDOWN, |_| {}));
        }
    }

    /// Ends the links of those far ends.
    fn leave_where(&mut self, now: Instant, reason: u8, is_so: impl Fn(&Remote) -> bool) {
        let ids: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.peer.remote().is_some_and(&is_so))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.leave_one(now, id, reason);
        }
    }

    fn leave_one(&mut self, now: Instant, id: PeerId, reason: u8) {
        self.ending(now, id, |peer, turn, ended| peer.leave(turn, reason, ended));
    }

    /// Calls a peer that may end half-open handshakes, which the door counts, or everything.
    fn ending(
        &mut self,
        now: Instant,
        id: PeerId,
        call: impl FnOnce(&mut Peer, &mut Turn<'_>, &mut dyn FnMut(SocketAddr)),
    ) {
        self.ending_by(now, id, None, call);
    }

    /// As [`Self::ending`]; what answers a handshake goes to `answer_to`, if that is given.
    fn ending_by(
        &mut self,
        now: Instant,
        id: PeerId,
        answer_to: Option<Path>,
        call: impl FnOnce(&mut Peer, &mut Turn<'_>, &mut dyn FnMut(SocketAddr)),
    ) {
        let mut ended = Vec::new();
        self.with_answer(now, id, answer_to, |peer, turn| {
            call(peer, turn, &mut |from| ended.push(from));
        });
        for from in ended {
            self.door.leave(from);
        }
        self.forget_if_idle(id);
    }

    fn handle_init(&mut self, now: Instant, path: &Path, datagram: &[u8], waiting: usize) -> bool {
        let from = path.endpoint.remote;
        let arrival = Arrival {
            from,
            is_configured: self.configured.contains(&from),
            waiting,
            datagram,
        };
        let checked = match self
            .door
            .judge(now, &self.local, &arrival, &mut self.random)
        {
            Verdict::Admit(checked) => checked,
            Verdict::Cookie(cookie) => {
                self.wishes.push(Wish::Send(*path, Box::new(cookie)));
                return true;
            }
            Verdict::Drop(_) => return false,
        };
        let Some(id) = self.find_or_add(path, Kind::Incoming) else {
            return false;
        };
        let mut answered = Ok(None);
        // The answer goes to where it came from, wherever the link is by now (S102): whoever asks there is
        // to hear it.
        self.with_answer(now, id, Some(*path), |peer, turn| {
            answered = peer.handle_init(turn, &checked, from);
        });
        if let Ok(displaced) = &answered {
            match arrival.is_configured {
                true => self.door.enter_reserved(from),
                false => self.door.enter(from),
            }
            if let Some(displaced) = displaced {
                self.door.leave(*displaced);
            }
        }
        self.forget_if_idle(id);
        answered.is_ok()
    }

    /// The endpoint's peer, made if there is room.
    fn find_or_add(&mut self, path: &Path, kind: Kind) -> Option<PeerId> {
        if let Some(id) = self.by_endpoint.get(&path.endpoint) {
            return Some(*id);
        }
        let is_configured = self.configured.contains(&path.endpoint.remote);
        if self.peers.len() >= ENDPOINTS && !is_configured {
            return None;
        }
        let id = PeerId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let entry = Entry {
            peer: Peer::new(id, kind, self.timers),
            path: *path,
            roam: Roam::new(*path),
            waiting: VecDeque::new(),
            requests: Level::default(),
            open: None,
            key: None,
        };
        self.peers.insert(id, entry);
        self.by_endpoint.insert(path.endpoint, id);
        Some(id)
    }

    fn forget_if_idle(&mut self, id: PeerId) {
        let is_idle = |entry: &Entry| entry.peer.state() == State::Idle && entry.open.is_none();
        if self.peers.get(&id).is_some_and(is_idle)
            && let Some(entry) = self.peers.remove(&id)
        {
            for endpoint in [entry.path.endpoint, entry.roam.path().endpoint] {
                if self.by_endpoint.get(&endpoint) == Some(&id) {
                    self.by_endpoint.remove(&endpoint);
                }
            }
            self.pulling.gone(id);
        }
    }

    /// Calls a peer, and carries out what comes of it.
    fn with(&mut self, now: Instant, id: PeerId, call: impl FnOnce(&mut Peer, &mut Turn<'_>)) {
        self.with_answer(now, id, None, call);
    }

    /// As [`Self::with`]; handshakes that it sends, and what confirms one, go to `answer_to`, if that is
    /// given.
    fn with_answer(
        &mut self,
        now: Instant,
        id: PeerId,
        answer_to: Option<Path>,
        call: impl FnOnce(&mut Peer, &mut Turn<'_>),
    ) {
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        let (members, up, key) = (&self.members, &self.up, entry.key);
        let mut effects = std::mem::take(&mut self.effects);
        let mut turn = Turn {
            now,
            local: &self.local,
            refuses: &|claim| {
                let elsewhere = up.get(&claim.static_key).copied().unwrap_or(0);
                let crowds = elsewhere >= ENDPOINTS_PER_KEY && key != Some(claim.static_key);
                let why = members.judge(claim).err();
                let why = why.or_else(|| crowds.then_some(Refusal::Crowding));
                why.filter(|_| !planted::is(Mistake::IgnorePins))
            },
            random: &mut self.random,
            indices: &mut self.indices,
            effects: &mut effects,
        };
        call(&mut entry.peer, &mut turn);
        // 1. What it wants, in order.
        let mut changed = false;
        let told = effects.as_slice().iter().find_map(Self::list_told);
        let (came_up, gave_up) = (came_up(&effects), gave_up(&effects));
        for effect in effects.drain() {
            note_up(&mut self.up, entry, &effect);
            // All else is said to where the link is.
            let answers = matches!(
                effect,
                Effect::Send(_) | Effect::Control(_, Owned::Keepalive)
            );
            changed |= carry_out(
                now,
                effect,
                (entry, answer_to.filter(|_| answers)),
                &mut Books {
                    sessions: &mut self.sessions,
                    allowances: &mut self.allowances,
                    members: &mut self.members,
                    wishes: &mut self.wishes,
                },
            );
        }
        self.effects = effects;
        if changed {
            self.wishes.push(Wish::Publish);
        }
        let is_rotating = changed && self.local.next.is_some();
        // 2. What waited for this session, behind the news of it.
        if let Some(seals) = self.sessions.seals(&entry.path.endpoint) {
            for datagram in entry.waiting.drain(..) {
                let sealed = seal_message(now, &seals.session, &datagram);
                self.wishes
                    .extend(sealed.map(|sealed| Wish::Send(seals.path, sealed)));
            }
        }
        if is_rotating {
            self.count_next();
        }
        if let Some((netid, static_key)) = came_up {
            self.latch(id, netid, static_key);
        }
        if gave_up {
            self.fall(now, id);
        }
        if let Some(theirs) = told {
            self.learn_of_list(now, id, theirs);
        }
    }
}

impl Entry {
    fn next_timeout(&self) -> Option<Instant> {
        let open = self.open.map(|open| open.next_timeout());
        let timeouts = [self.peer.next_timeout(), self.roam.next_timeout(), open];
        timeouts.into_iter().flatten().min()
    }
}

/// Who comes up by these effects.
fn came_up(effects: &Effects) -> Option<(NetId, [u8; 32])> {
    effects.as_slice().iter().find_map(|effect| match effect {
        Effect::Event(Event::Up(remote)) => Some((remote.netid, remote.static_key)),
        _ => None,
    })
}

fn gave_up(effects: &Effects) -> bool {
    let is_it = |effect: &Effect| matches!(effect, Effect::Event(Event::GaveUp));
    effects.as_slice().iter().any(is_it)
}

/// Keeps count of the endpoints at which each key is up.
fn note_up(up: &mut BTreeMap<[u8; 32], usize>, entry: &mut Entry, effect: &Effect) {
    match effect {
        Effect::Event(Event::Up(remote)) => {
            entry.key = Some(remote.static_key);
            *up.entry(remote.static_key).or_default() += 1;
        }
        Effect::Event(Event::Down(_)) => {
            let Some(key) = entry.key.take() else {
                return;
            };
            if let Some(count) = up.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    up.remove(&key);
                }
            }
        }
        _ => {}
    }
}

/// What effects are entered in.
struct Books<'l> {
    sessions: &'l mut SessionSet,
    allowances: &'l mut Allowances,
    members: &'l mut Members,
    wishes: &'l mut Vec<Wish>,
}

/// One effect, whose datagram goes to `answer_to` if that is given; whether it changed the sessions.
fn carry_out(
    now: Instant,
    effect: Effect,
    (entry, answer_to): (&Entry, Option<Path>),
    books: &mut Books<'_>,
) -> bool {
    let (name, path) = (entry.path, entry.roam.path());
    let to = answer_to.unwrap_or(path);
    match effect {
        Effect::Send(datagram) => books.wishes.push(Wish::Send(to, datagram)),
        Effect::Control(session, control) => {
            if let Some(datagram) = seal_control(now, &session, &control.control()) {
                books.wishes.push(Wish::Send(to, datagram));
            }
        }
        Effect::Open {
            session,
            netid,
            rights,
            rate_class,
        } => {
            let allowance = books.allowances.of(now, netid, rate_class);
            books.sessions.open(Opens {
                session,
                path: name,
                from: path.endpoint,
                netid,
                rights,
                allowance,
            });
            return true;
        }
        Effect::Close(index) => {
            books.sessions.close(index);
            return true;
        }
        Effect::Use(session) => {
            let netid = entry
                .peer
                .remote()
                .map_or(NetId::ANY, |remote| remote.netid);
            let seals = session.map(|session| Seals {
                session,
                path,
                netid,
            });
            books.sessions.seal(name.endpoint, seals);
            return true;
        }
        Effect::Event(Event::NotAdmitted {
            netid,
            static_key,
            why,
        }) => {
            let notice = Notice::Refused {
                netid,
                static_key,
                why,
                is_news: books.members.is_news(static_key),
            };
            books.wishes.push(Wish::Notice(name.endpoint, notice));
        }
        Effect::Event(event) => {
            if let Event::Up(remote) = &event {
                books.members.note_up(&Claim::of(remote));
            }
            books
                .wishes
                .push(Wish::Notice(name.endpoint, Notice::Peer(event)));
        }
    }
    false
}

fn seal_message(now: Instant, session: &Session, message: &[u8]) -> Option<Box<[u8]>> {
    let mut out = vec![0; message.len() + LINK_OVERHEAD];
    session.seal_into(message, false, &mut out).ok()?;
    session.note_sent(now, true);
    Some(out.into_boxed_slice())
}

fn seal_control(now: Instant, session: &Session, control: &Control<'_>) -> Option<Box<[u8]>> {
    let frame = Frame::Control(*control);
    let mut out = vec![0; LINK_HEADER_LEN + frame.len() + TAG_LEN];
    frame.emit(out.get_mut(LINK_HEADER_LEN..)?)?;
    session.seal(&mut out).ok()?;
    session.note_sent(now, false);
    Some(out.into_boxed_slice())
}

#[cfg(test)]
mod tests;
