//! All other ends of a node: whose handshake this is, what waits for whom, what may be said.
//!
//! ```text
//!  a packet without a session ──> send ──> waits; E-INIT ──────────┐
//!  handshakes, notices ─────────> handle_* ──> peer ──> Wish::{Introduce, Originate, Publish, ..}
//! ```
//!
//! What [`Links`](crate::seal::links::Links) is for neighbors, this is for every node that Data is
//! sent to over others (SEALED.md, "End to end"): a handshake is three Data messages, and whoever
//! carries them learns two netids and lengths. Workers seal and open by themselves with the
//! [`EndSet`]; here is what comes before that, and what ends it.
//!
//! A handshake may cost every link of the mesh a datagram, so it is rationed: by the waits of
//! [`Timers::end_to_end`] for each end, by [`INITS`] and [`RESPS`] for all of them. With a neighbor
//! it stays on the link.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rand_chacha::ChaCha12Rng;
use wire::NetId;
use wire::sealed::close::SHUTDOWN;
use wire::sealed::endtoend::EndToEndKind;

use crate::budget::{Bucket, Buckets, Rate};
use crate::keyed::KeyedHasher;
use crate::seal::effect::{Effect, Effects, Event, Indices, Owned, PeerId, Turn};
use crate::seal::handshake::{Scope, check_init_of};
use crate::seal::local::Local;
use crate::seal::members::{Claim, Refusal};
use crate::seal::payload::Remote;
use crate::seal::peer::{Kind, Peer, State, Timers};
use crate::seal::session::{DATA_OVERHEAD, Session};
use crate::seal::sessions::{EndOpens, EndSet};
use crate::time::{Duration, Instant};

mod open;
mod waiting;

use waiting::Waiting;

/// Ends with a session at once; the least recently used goes first, neighbors last (S58).
pub const ENDS: usize = 4_096;
/// Ends besides, with which there is no session yet.
const BEGINNING: usize = 512;
/// E-INITs a second, of all that are flooded (S58).
pub const INITS: u32 = 5;
/// E-RESPs a second, of all that are flooded (S58).
pub const RESPS: u32 = 10;
/// E-INITs of one neighbor, over its link: those of the retries, and some more.
const DIRECT: Rate = Rate::per_second(1, 4);
/// E-RESPs besides, to what one neighbor brings: so many are answered whatever the others bring (S99).
pub const BROUGHT: Rate = Rate::per_second(1, 4);
/// Neighbors whose rate is kept.
const NEIGHBORS: usize = 1_024;
/// How soon it is looked again whether there is a ration for who waits for one.
const RATION_LOOK: Duration = Duration::from_millis(200);
/// Ends have no addresses.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What the caller is to do, in order.
#[derive(Debug)]
pub enum Wish {
    /// Originate this payload: to this neighbor alone, with NO_FORWARD, if `direct` is set and it
    /// has a live link; else to the whole mesh.
    Originate {
        /// Whom it is for.
        dst: NetId,
        /// From its first byte, `c8`.
        payload: Box<[u8]>,
        /// Whether the link is enough.
        direct: bool,
    },
    /// [`Ends::sessions`] changed: publish it.
    Publish,
    /// Originate this payload as it is, in the open zone: who it is for does not speak sealed.
    InTheOpen(NetId, Box<[u8]>),
    /// So many messages waited in vain.
    Dropped(usize),
    /// Tell the owner.
    Notice(NetId, Notice),
}

/// Something that an owner wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// What a peer tells.
    Peer(Event),
    /// A node of our mesh that membership refuses.
    Refused {
        /// Its key.
        static_key: [u8; 32],
        /// Why.
        why: Refusal,
    },
}

/// What a call needs of those who know who is a member. Borrows: for one call.
#[derive(Clone, Copy)]
pub struct Membership<'m> {
    /// This node.
    pub local: &'m Local,
    /// Why somebody may not come up, if so (S34).
    pub refuses: &'m dyn Fn(&Claim<'_>) -> Option<Refusal>,
}

struct Entry {
    netid: NetId,
    peer: Peer,
    waiting: Waiting,
    /// Whether the handshake under way stays on the link of a neighbor.
    direct: bool,
    /// Whether it waits for a ration to begin with.
    wants: bool,
    /// Since when it is dialed.
    since: Option<Instant>,
}

/// The machine. Calls: by one owner.
pub struct Ends {
    timers: Timers,
    indices: Indices,
    random: ChaCha12Rng,
    peers: BTreeMap<PeerId, Entry>,
    by_netid: BTreeMap<NetId, PeerId>,
    next_id: u32,
    near: BTreeSet<NetId>,
    /// Nodes of the open zone: those that do not answer are sent to in clear (S89).
    open: BTreeSet<NetId>,
    /// When each node that was asked whether it speaks sealed was asked last.
    asked: BTreeMap<NetId, Instant>,
    /// Sessions at most: [`ENDS`].
    limit: usize,
    /// Who waits for a ration.
    queue: VecDeque<PeerId>,
    inits: Bucket,
    resps: Bucket,
    direct: Buckets<NetId>,
    /// E-RESPs, and then E-INITs for unknown sessions, by the neighbor that brought the cause.
    brought: Buckets<NetId>,
    unknown: Buckets<NetId>,
    /// For unknown sessions besides, whoever brings them.
    unknown_of_all: Bucket,
    sessions: EndSet,
    /// Bytes that wait, for all ends.
    waiting: usize,
    /// Numbers what waits.
    arrivals: u64,
    next_at: Option<Instant>,
    effects: Effects,
    wishes: Vec<Wish>,
}

impl Ends {
    /// A node that knows no end. `timers` are to be [`Timers::end_to_end`].
    pub fn new(timers: Timers, hasher: KeyedHasher, random: ChaCha12Rng) -> Self {
        Self {
            timers,
            indices: Indices::default(),
            random,
            peers: BTreeMap::new(),
            by_netid: BTreeMap::new(),
            next_id: 0,
            near: BTreeSet::new(),
            open: BTreeSet::new(),
            asked: BTreeMap::new(),
            limit: ENDS,
            queue: VecDeque::new(),
            inits: Bucket::per_second(INITS, INITS),
            resps: Bucket::per_second(RESPS, RESPS),
            direct: Buckets::new(DIRECT, NEIGHBORS),
            brought: Buckets::new(BROUGHT, NEIGHBORS),
            unknown: Buckets::new(BROUGHT, NEIGHBORS),
            unknown_of_all: Bucket::per_second(INITS, INITS),
            sessions: EndSet::new(hasher),
            waiting: 0,
            arrivals: 0,
            next_at: None,
            effects: Effects::default(),
            wishes: Vec::new(),
        }
    }

    /// What workers are to use.
    pub fn sessions(&self) -> &EndSet {
        &self.sessions
    }

    /// Takes what is to be done.
    pub fn drain(&mut self) -> impl Iterator<Item = Wish> + '_ {
        self.wishes.drain(..)
    }

    /// Seals a Data payload for an end and originates it; without a session it waits, the oldest
    /// giving way (S48), and a handshake begins. It is never sent otherwise.
    pub fn send(&mut self, now: Instant, with: Membership<'_>, dst: NetId, payload: Box<[u8]>) {
        if let Some(session) = self.sessions.seals(dst) {
            let sealed = seal(now, session, with.local.netid, dst, &payload);
            self.wishes.extend(sealed);
            return;
        }
        if self.sessions.is_open(dst) {
            return self.wishes.push(Wish::InTheOpen(dst, payload));
        }
        let Some(id) = self.find_or_add(dst) else {
            return self.wishes.push(Wish::Dropped(1));
        };
        self.wait(id, payload);
        self.dial(now, with, id);
    }

    /// These are the neighbors now: with each a session comes up at once, so that nothing waits
    /// or is lost when it is needed.
    pub fn set_neighbors(
        &mut self,
        now: Instant,
        with: Membership<'_>,
        neighbors: impl Iterator<Item = NetId>,
    ) {
        let former = std::mem::replace(&mut self.near, neighbors.collect());
        let fresh: Vec<NetId> = self.near.difference(&former).copied().collect();
        for netid in fresh {
            if let Some(id) = self.find_or_add(netid) {
                self.dial(now, with, id);
            }
        }
    }

    /// Takes the payload of a handshake from `src` to us that the neighbor `by` brought; `direct` if it
    /// came over a link of `src` itself and goes no further.
    ///
    /// Returns whether it was of use to somebody.
    pub fn handle(
        &mut self,
        now: Instant,
        with: Membership<'_>,
        (src, by): (NetId, NetId),
        direct: bool,
        payload: &[u8],
    ) -> bool {
        match EndToEndKind::of(payload) {
            Ok(EndToEndKind::Init) => self.handle_init(now, with, (src, by), direct, payload),
            Ok(kind @ (EndToEndKind::Resp | EndToEndKind::Fin)) => {
                let owner = self.indices.owner_at(payload, 8);
                let is_whose = |id: &PeerId| self.peers.get(id).is_some_and(|e| e.netid == src);
                let Some(id) = owner.filter(is_whose) else {
                    return false;
                };
                self.call(now, with, id, false, |peer, turn| {
                    if kind == EndToEndKind::Resp {
                        peer.handle_resp(turn, NOWHERE, payload, |_| {});
                    } else {
                        peer.handle_fin(turn, payload, |_| {});
                    }
                });
                true
            }
            _ => false,
        }
    }

    /// Takes the notice that a session's first payload was opened.
    pub fn handle_confirmed(&mut self, now: Instant, with: Membership<'_>, index: u32) {
        if let Some(id) = self.indices.owner(index) {
            self.call(now, with, id, false, |peer, turn| {
                peer.handle_confirmed(turn, index, |_| {});
            });
        }
    }

    /// Takes the notice that an end seals with a session that we do not have, in a message that the
    /// neighbor `by` brought: after a start of ours it cannot know better. A handshake tells it (S66).
    pub fn handle_unknown(
        &mut self,
        now: Instant,
        with: Membership<'_>,
        (src, by): (NetId, NetId),
    ) {
        if self.sessions.seals(src).is_some() {
            return;
        }
        let known = self.by_netid.get(&src).and_then(|id| self.peers.get(id));
        // What is under way already needs no ration: each message that comes meanwhile would take one.
        if known.is_some_and(|entry| entry.wants || entry.peer.is_dialing()) {
            return;
        }
        // While others wait for their turn it can wait as well: it comes again with the next message.
        if (known.is_some() || self.queue.is_empty())
            && (self.unknown.take(now, by) || self.unknown_of_all.take(now))
            && let Some(id) = self.find_or_add(src)
        {
            self.dial(now, with, id);
        }
    }

    /// When [`Self::handle_timeout`] has something to do at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next_at
    }

    /// Does what is due. Early calls are harmless.
    ///
    /// Cost: looks at all ends, so not more often than something is due.
    pub fn handle_timeout(&mut self, now: Instant, with: Membership<'_>) {
        if self.next_at.is_none_or(|at| now < at) {
            return;
        }
        let due: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.peer.next_timeout().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.call(now, with, id, false, |peer, turn| {
                peer.handle_timeout(turn, |_| {});
            });
        }
        let mut waits = None;
        while let Some(&id) = self.queue.front() {
            if self.peers.contains_key(&id) && !self.inits.take(now) {
                waits = Some(now + RATION_LOOK);
                break;
            }
            self.queue.pop_front();
            self.begin(now, with, id);
        }
        let timeouts = self.peers.values().filter_map(|e| e.peer.next_timeout());
        self.next_at = timeouts.chain(waits).min();
    }

    /// Ends what is sealed with those nodes.
    pub fn leave_where(
        &mut self,
        now: Instant,
        with: Membership<'_>,
        reason: u8,
        is_so: impl Fn(&Remote) -> bool,
    ) {
        let ids: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.peer.remote().is_some_and(&is_so))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.call(now, with, id, false, |peer, turn| {
                peer.leave(turn, reason, |_| {});
            });
        }
    }

    /// The mesh has changed its secret: what was made under those before `epoch` is made anew, and
    /// ends at `at` (S94).
    pub fn retire(&mut self, now: Instant, with: Membership<'_>, epoch: u32, at: Instant) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.call(now, with, id, false, |peer, turn| {
                peer.retire(turn, epoch, at, |_| {});
            });
        }
    }

    /// This node has another certificate: all ends are to see it soon (S96).
    pub fn renew_all_soon(&mut self, now: Instant, with: Membership<'_>) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.call(now, with, id, false, |peer, turn| peer.renew_soon(turn));
        }
    }

    /// Other rules of who comes up are in force, or we show another certificate: what is under way begins
    /// anew, since it may have been refused until now, but for a handshake that only waits for its end.
    pub fn begin_all_anew(&mut self, now: Instant, with: Membership<'_>) {
        let entries = self.peers.values();
        let anew = entries.filter(|entry| entry.peer.may_begin_anew());
        let netids: Vec<NetId> = anew.map(|entry| entry.netid).collect();
        for netid in netids {
            self.begin_anew(now, with, netid);
        }
    }

    /// What kept this node from coming up is gone: a handshake that is under way with it, and that may be
    /// repeated only in minutes, begins anew. What waits for it waits on.
    pub fn begin_anew(&mut self, now: Instant, with: Membership<'_>, netid: NetId) {
        let Some(&id) = self.by_netid.get(&netid) else {
            return;
        };
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        if entry.wants || !entry.peer.is_dialing() || entry.peer.state() == State::Up {
            return;
        }
        entry.wants = true;
        self.call(now, with, id, false, |peer, turn| {
            peer.leave(turn, SHUTDOWN, |_| {});
        });
        self.queue.push_back(id);
        self.look_at(now);
    }

    fn handle_init(
        &mut self,
        now: Instant,
        with: Membership<'_>,
        (src, by): (NetId, NetId),
        direct: bool,
        payload: &[u8],
    ) -> bool {
        let scope = Scope::EndToEnd {
            initiator: src,
            responder: with.local.netid,
        };
        // Nothing is done, and nothing changes, for whoever does not have the mac1 key (S9).
        let Ok(checked) = check_init_of(with.local, scope, payload) else {
            return false;
        };
        let has_ration = match direct {
            true => self.direct.take(now, src),
            false => self.brought.take(now, by) || self.resps.take(now),
        };
        if !has_ration {
            return false;
        }
        let Some(id) = self.find_or_add(src) else {
            return false;
        };
        let mut is_answered = false;
        // It is answered the way it came.
        let former = self.set_direct(id, direct);
        self.call(now, with, id, false, |peer, turn| {
            is_answered = peer.handle_init(turn, &checked, NOWHERE).is_ok();
        });
        if let (false, Some(former)) = (is_answered, former) {
            self.set_direct(id, former);
        }
        is_answered
    }

    fn set_direct(&mut self, id: PeerId, direct: bool) -> Option<bool> {
        let entry = self.peers.get_mut(&id)?;
        Some(std::mem::replace(&mut entry.direct, direct))
    }

    /// The end's peer, made if there is room.
    fn find_or_add(&mut self, netid: NetId) -> Option<PeerId> {
        if let Some(id) = self.by_netid.get(&netid) {
            return Some(*id);
        }
        if self.peers.len() >= self.limit + BEGINNING {
            return None;
        }
        let id = PeerId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let entry = Entry {
            netid,
            peer: Peer::end(id, Kind::Informed, self.timers, netid),
            waiting: Waiting::default(),
            direct: false,
            wants: false,
            since: None,
        };
        self.peers.insert(id, entry);
        self.by_netid.insert(netid, id);
        Some(id)
    }

    fn forget_if_idle(&mut self, id: PeerId) {
        let is_idle = |entry: &Entry| entry.peer.state() == State::Idle && !entry.wants;
        if self.peers.get(&id).is_some_and(is_idle) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: PeerId) {
        let Some(entry) = self.peers.remove(&id) else {
            return;
        };
        self.by_netid.remove(&entry.netid);
        self.waiting -= entry.waiting.bytes();
        if entry.waiting.len() > 0 {
            self.wishes.push(Wish::Dropped(entry.waiting.len()));
        }
    }

    /// Lets a payload wait, within all bounds.
    fn wait(&mut self, id: PeerId, payload: Box<[u8]>) {
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        self.arrivals += 1;
        self.waiting += payload.len();
        let (mut dropped, bytes) = entry.waiting.push(self.arrivals, payload);
        self.waiting -= bytes;
        while self.waiting > waiting::BYTES_IN_ALL {
            let oldest = self
                .peers
                .values_mut()
                .filter(|entry| entry.waiting.len() > 0)
                .min_by_key(|entry| entry.waiting.oldest());
            let Some(payload) = oldest.and_then(|entry| entry.waiting.pop()) else {
                break;
            };
            self.waiting -= payload.len();
            dropped += 1;
        }
        if dropped > 0 {
            self.wishes.push(Wish::Dropped(dropped));
        }
    }

    /// Begins a handshake, unless one is under way or none is needed, as soon as a ration allows.
    fn dial(&mut self, now: Instant, with: Membership<'_>, id: PeerId) {
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        if entry.wants || entry.peer.is_dialing() || entry.peer.state() == State::Up {
            return;
        }
        entry.direct = self.near.contains(&entry.netid);
        // Whoever came first goes first.
        if entry.direct || self.queue.is_empty() && self.inits.take(now) {
            return self.begin(now, with, id);
        }
        entry.wants = true;
        self.queue.push_back(id);
        self.look_at(now + RATION_LOOK);
    }

    /// Begins a handshake that there is a ration for.
    fn begin(&mut self, now: Instant, with: Membership<'_>, id: PeerId) {
        if let Some(entry) = self.peers.get_mut(&id) {
            entry.wants = false;
            entry.since = Some(now);
        }
        self.call(now, with, id, true, |peer, turn| {
            peer.dial(turn, NetId::ANY);
        });
    }

    fn look_at(&mut self, at: Instant) {
        self.next_at = Some(self.next_at.map_or(at, |next| next.min(at)));
    }

    /// Calls a peer, and carries out what comes of it.
    fn call(
        &mut self,
        now: Instant,
        with: Membership<'_>,
        id: PeerId,
        has_ration: bool,
        call: impl FnOnce(&mut Peer, &mut Turn<'_>),
    ) {
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        let mut effects = std::mem::take(&mut self.effects);
        let mut turn = Turn {
            now,
            local: with.local,
            refuses: with.refuses,
            random: &mut self.random,
            indices: &mut self.indices,
            effects: &mut effects,
        };
        let repeats = entry.peer.is_dialing();
        call(&mut entry.peer, &mut turn);
        // 1. What it wants, in order.
        let (dst, us) = (entry.netid, with.local.netid);
        let (mut changed, mut came_up, mut went_down, mut gave_up) = (false, false, false, false);
        for effect in effects.drain() {
            match effect {
                Effect::Send(payload) => {
                    let is_init = EndToEndKind::of(&payload) == Ok(EndToEndKind::Init);
                    // What the link did not bring through goes all ways.
                    if is_init && repeats {
                        entry.direct = false;
                    }
                    let direct = entry.direct;
                    // An E-INIT without a ration is lost: it is repeated as one that was.
                    if is_init && !has_ration && !direct && !self.inits.take(now) {
                        continue;
                    }
                    self.wishes.push(Wish::Originate {
                        dst,
                        payload,
                        direct,
                    });
                }
                Effect::Control(session, Owned::Keepalive) => {
                    let direct = entry.direct;
                    let sealed = seal_payload(&session, us, dst, &[]);
                    session.note_sent(now, false);
                    self.wishes.extend(sealed.map(|payload| Wish::Originate {
                        dst,
                        payload,
                        direct,
                    }));
                }
                // Ends say nothing else to each other (S58).
                Effect::Control(..) => {}
                Effect::Open { session, netid, .. } => {
                    self.sessions.open(EndOpens { session, netid });
                    changed = true;
                }
                Effect::Close(index) => {
                    self.sessions.close(index);
                    changed = true;
                }
                Effect::Use(session) => {
                    self.sessions.seal(dst, session);
                    changed = true;
                }
                Effect::Event(Event::NotAdmitted {
                    static_key, why, ..
                }) => {
                    let notice = Notice::Refused { static_key, why };
                    self.wishes.push(Wish::Notice(dst, notice));
                }
                Effect::Event(event) => {
                    came_up |= matches!(event, Event::Up(_));
                    went_down |= matches!(event, Event::Down(_));
                    gave_up |= matches!(event, Event::GaveUp);
                    self.wishes.push(Wish::Notice(dst, Notice::Peer(event)));
                }
            }
        }
        self.effects = effects;
        if changed {
            self.wishes.push(Wish::Publish);
        }
        // 2. What waited for this session, behind the news of it.
        if let Some(session) = self.sessions.seals(dst) {
            while let Some(payload) = entry.waiting.pop() {
                self.waiting -= payload.len();
                let sealed = seal(now, session, us, dst, &payload);
                self.wishes.extend(sealed);
            }
        } else if gave_up {
            self.waiting -= entry.waiting.bytes();
            self.wishes.push(Wish::Dropped(entry.waiting.clear()));
        }
        if let Some(at) = entry.peer.next_timeout() {
            self.look_at(at);
        }
        if came_up {
            self.close(dst);
            self.make_room(now, with, id);
        }
        if went_down && self.near.contains(&dst) {
            self.dial(now, with, id);
        }
        self.forget_if_idle(id);
    }

    /// Lets the least recently used end go if there are too many; not the newest one.
    fn make_room(&mut self, now: Instant, with: Membership<'_>, newest: PeerId) {
        if self.sessions.len() <= self.limit {
            return;
        }
        let used = |entry: &Entry| {
            let session = entry.peer.current()?;
            let last = session.heard_at().max(session.sent_at());
            let is_near = self.near.contains(&entry.netid);
            Some((is_near, last.unwrap_or_else(|| session.created_at())))
        };
        let oldest = self
            .peers
            .iter()
            .filter(|(id, _)| **id != newest)
            .filter_map(|(id, entry)| Some((used(entry)?, *id)))
            .min();
        if let Some((_, id)) = oldest {
            if let Some(entry) = self.peers.get(&id) {
                self.near.remove(&entry.netid);
            }
            self.call(now, with, id, false, |peer, turn| {
                peer.leave(turn, SHUTDOWN, |_| {});
            });
            self.forget(id);
        }
    }
}

fn seal(now: Instant, session: &Session, us: NetId, dst: NetId, payload: &[u8]) -> Option<Wish> {
    let payload = seal_payload(session, us, dst, payload)?;
    session.note_sent(now, true);
    Some(Wish::Originate {
        dst,
        payload,
        direct: false,
    })
}

fn seal_payload(session: &Session, us: NetId, dst: NetId, payload: &[u8]) -> Option<Box<[u8]>> {
    let mut out = vec![0; payload.len() + DATA_OVERHEAD];
    session.seal_data_into(us, dst, payload, &mut out).ok()?;
    Some(out.into_boxed_slice())
}

#[cfg(test)]
mod tests;
