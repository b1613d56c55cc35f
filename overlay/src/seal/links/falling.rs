//! To whom plain is spoken, in a node that prefers sealed links (S83 to S86).
//!
//! ```text
//!   dialed ──> INIT, INIT, INIT ── no answer, not latched ──> open ──> INITs again, once a minute
//!                     └── a session ──> latched: never again              └── a session ──> latched
//!   came by itself, in plain, not latched ──> answered in plain; open once its address is proved
//! ```
//!
//! An endpoint without an entry is dialed sealed where control wants it, and answered as it came
//! where it does not: three INITs are 225 times what a forged Hello has.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Entry, Links, Wish};
use crate::id::{Endpoint, Path};
use crate::node::snapshot::{LinkEntry, NeighborSet};
use crate::seal::effect::PeerId;
use crate::seal::local::Policy;
use crate::seal::peer::{Kind, State};
use crate::seal::policies::Policies;
use crate::seal::prefer::{Latches, Prefer};
use crate::time::{Duration, Instant};
use wire::{Header, Kind as MessageKind, NetId};

/// How long after it gave up an open endpoint is dialed again.
const AGAIN: Duration = Duration::from_secs(60);

/// An endpoint that is spoken to in plain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// When it is dialed again, if it is wanted by then, and forgotten otherwise.
    again_at: Instant,
    /// Whether something was sent there since it gave up.
    is_wanted: bool,
    has_link: bool,
}

impl Open {
    const fn new(again_at: Instant, has_link: bool) -> Self {
        Self {
            again_at,
            is_wanted: false,
            has_link,
        }
    }

    pub(super) const fn next_timeout(&self) -> Instant {
        self.again_at
    }
}

impl Links {
    /// The same in a node that prefers sealed links.
    #[must_use]
    pub fn preferring(mut self, prefer: Prefer) -> Self {
        self.local.policy = Policy::Prefer;
        self.sessions.set_open_zone(Some(prefer.zone().clone()));
        self.prefer = Some(prefer);
        self
    }

    /// What the node remembers of who speaks sealed, if it prefers that and does not insist on it.
    pub const fn prefer(&self) -> Option<&Prefer> {
        self.prefer.as_ref()
    }

    /// The latches, if they changed since the last call.
    pub fn take_changed_latches(&mut self) -> Option<&Latches> {
        self.prefer.as_mut()?.take_changed()
    }

    /// From now on nothing plain is sent or taken any more (S84).
    pub fn insist(&mut self) {
        if self.prefer.take().is_none() {
            return;
        }
        self.local.policy = Policy::Sealed;
        self.sessions.set_open_zone(None);
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.open = None;
            }
            self.forget_if_idle(id);
        }
        self.wishes.push(Wish::Publish);
    }

    /// Answers an endpoint that nobody wants to dial: as it came, where that may be, and otherwise
    /// as [`Self::send`] does.
    pub fn reply(&mut self, now: Instant, path: &Path, datagram: &[u8]) {
        let place = &path.endpoint.remote;
        let is_known = self.by_endpoint.contains_key(&path.endpoint);
        match self.prefer.as_ref().filter(|_| !is_known) {
            Some(prefer) if prefer.may_open(place) => self.send_open(path, datagram),
            // Whoever came in plain and gets none has not proved its address: an INIT is too long for it.
            Some(prefer) if !prefer.zone().has_place(place) => {}
            _ => self.send(now, path, datagram),
        }
    }

    /// Sends in plain if the endpoint is open; whether it is.
    pub(super) fn send_if_open(&mut self, now: Instant, path: &Path, datagram: &[u8]) -> bool {
        if self.is_plain(path) {
            self.open_plain(now, path);
        }
        let id = self.by_endpoint.get(&path.endpoint).copied();
        let entry = id.and_then(|id| self.peers.get_mut(&id));
        let Some(open) = entry.and_then(|entry| entry.open.as_mut()) else {
            return false;
        };
        open.is_wanted = true;
        self.send_open(path, datagram);
        true
    }

    /// Whether the owner wants plain alone there, and nobody came up sealed (S104).
    fn is_plain(&self, path: &Path) -> bool {
        let prefer = self.prefer.as_ref();
        prefer.is_some_and(|prefer| prefer.is_plain(&path.endpoint.remote))
    }

    /// An endpoint that is spoken to in plain without being asked for more.
    fn open_plain(&mut self, now: Instant, path: &Path) {
        if let Some(id) = self.find_or_add(path, Kind::Informed)
            && let Some(entry) = self.peers.get_mut(&id)
        {
            let fresh = Open::new(now + AGAIN, false);
            entry.open.get_or_insert(fresh);
        }
    }

    /// Goes by this word of the owner about single peers from now on (S104). What it closes is closed at
    /// once; what is latched stays so. A node that insists on sealed links has no use for it.
    pub fn set_policies(&mut self, policies: Policies) {
        let Some(prefer) = &mut self.prefer else {
            return;
        };
        if !prefer.set_policies(Arc::new(policies)) {
            return;
        }
        let is_closed = |entry: &Entry| prefer.is_closed(&entry.path.endpoint.remote);
        let closed = self.peers.iter_mut().filter(|(_, entry)| is_closed(entry));
        let ids = closed.map(|(id, entry)| {
            entry.open = None;
            *id
        });
        for id in ids.collect::<Vec<_>>() {
            self.forget_if_idle(id);
        }
        self.publish_zone();
    }

    /// Nobody in the open zone is told of who is in the other, nor the other way round.
    fn send_open(&mut self, path: &Path, datagram: &[u8]) {
        if !self.names_other_zone(true, datagram) {
            self.wishes.push(Wish::Send(*path, datagram.into()));
        }
    }

    /// Whether an Inform for somebody in the zone `open` names an endpoint of the other.
    pub(super) fn names_other_zone(&self, open: bool, datagram: &[u8]) -> bool {
        let is_inform = |header: Header| header.kind == MessageKind::Inform;
        if self.prefer.is_none() || !Header::parse(datagram).is_ok_and(is_inform) {
            return false;
        }
        let Ok((_, wire::Message::Inform(inform))) = wire::Message::parse(datagram) else {
            return false;
        };
        let is_there = |entry: &&Entry| entry.path.endpoint.remote == inform.endpoint;
        let is_open = |entry: &Entry| entry.peer.current().is_none();
        let subject = self.peers.values().find(is_there);
        subject.is_some_and(|entry| is_open(entry) != open)
    }

    /// Gives each live link its zone, in a node that has two. What a latched node's plain link was
    /// is no link any more: nothing goes over it, and it dies by silence.
    pub fn sort(&mut self, now: Instant, set: NeighborSet) -> NeighborSet {
        let Some(prefer) = &mut self.prefer else {
            return set;
        };
        // Where nobody else is opened, only what was open is.
        let is_open = |entry: &&Entry| entry.open.is_some();
        let was_open: Option<HashSet<Endpoint>> = prefer.is_full().then(|| {
            let open = self.peers.values().filter(is_open);
            open.map(|entry| entry.path.endpoint).collect()
        });
        for entry in self.peers.values_mut() {
            if let Some(open) = &mut entry.open {
                open.has_link = false;
            }
        }
        for link in set.links() {
            let (endpoint, place) = (link.path.endpoint, link.path.endpoint.remote);
            // Of a pin alone no place is known: it changes nothing, and is not news for ever.
            if prefer.zone().has_node(link.netid)
                && !prefer.zone().has_place(&place)
                && prefer.latch_place(link.netid, place)
            {
                self.sessions.set_open_zone(Some(prefer.zone().clone()));
                self.wishes.push(Wish::Publish);
            }
            let id = self.by_endpoint.get(&endpoint);
            if let Some(entry) = id.and_then(|id| self.peers.get_mut(id))
                && prefer.is_closed(&place)
            {
                entry.open = None;
            }
        }
        let (zone, sessions) = (prefer.zone().clone(), &self.sessions);
        let prefer = &*prefer;
        let is_open = |link: &LinkEntry| {
            let endpoint = &link.path.endpoint;
            !zone.has_node(link.netid)
                && !prefer.is_closed(&endpoint.remote)
                && sessions.seals(endpoint).is_none()
                && was_open.as_ref().is_none_or(|all| all.contains(endpoint))
        };
        let set = set.zoned(zone.clone(), is_open);
        let open: Vec<Path> = set
            .links()
            .iter()
            .filter(|link| link.open)
            .map(|link| link.path)
            .collect();
        for path in open {
            self.keep_open(now, &path);
        }
        set
    }

    /// A live link is of the open zone: it is asked again and again whether it speaks sealed by now.
    fn keep_open(&mut self, now: Instant, path: &Path) {
        if let Some(id) = self.find_or_add(path, Kind::Informed)
            && let Some(entry) = self.peers.get_mut(&id)
        {
            // Whoever came by itself is asked at once, now that its address is proved.
            let fresh = Open::new(now, true);
            entry.open.get_or_insert(fresh).has_link = true;
        }
    }

    /// An endpoint did not answer: plain is spoken to it from now on, if that may be.
    pub(super) fn fall(&mut self, now: Instant, id: PeerId) {
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        let place = &entry.path.endpoint.remote;
        if !self.prefer.as_ref().is_some_and(|p| p.may_open(place)) {
            return;
        }
        let has_link = entry.open.is_some_and(|open| open.has_link);
        entry.open = Some(Open::new(now + AGAIN, has_link));
        let path = entry.path;
        for datagram in std::mem::take(&mut entry.waiting) {
            self.send_open(&path, &datagram);
        }
    }

    /// A node came up sealed at an endpoint.
    pub(super) fn latch(&mut self, id: PeerId, netid: NetId, static_key: [u8; 32]) {
        let (Some(prefer), Some(entry)) = (&mut self.prefer, self.peers.get_mut(&id)) else {
            return;
        };
        entry.open = None;
        prefer.latch(netid, static_key, entry.path.endpoint.remote);
        self.sessions.set_open_zone(Some(prefer.zone().clone()));
    }

    /// A node came up sealed end to end; in plain it is not believed from now on.
    pub fn latch_end(&mut self, netid: NetId) {
        if let Some(prefer) = &mut self.prefer {
            prefer.latch_end(netid);
            self.publish_zone();
        }
    }

    /// The owner's peer of this name is a latched node, and has these addresses.
    pub fn latch_peer(&mut self, netid: NetId, peer: &str, places: &[std::net::SocketAddr]) {
        if let Some(prefer) = &mut self.prefer {
            prefer.latch_peer(netid, peer);
            prefer.resolved(peer, places);
            self.publish_zone();
        }
    }

    /// The owner's peer of this name has these addresses now.
    pub fn resolved(&mut self, peer: &str, places: &[std::net::SocketAddr]) {
        if let Some(prefer) = &mut self.prefer {
            prefer.resolved(peer, places);
            self.publish_zone();
        }
    }

    /// Forgets that a node speaks sealed, and says which key it had.
    pub(super) fn unlatch(&mut self, netid: NetId) -> Option<[u8; 32]> {
        let key = self.prefer.as_mut()?.forget(netid);
        self.publish_zone();
        key
    }

    /// A node whose link is up is elsewhere: it is latched there too.
    pub(super) fn latch_moved(&mut self, id: PeerId, place: std::net::SocketAddr) {
        let remote = self.peers.get(&id).and_then(|entry| entry.peer.remote());
        if let (Some(remote), Some(prefer)) = (remote, &mut self.prefer)
            && prefer.latch_place(remote.netid, place)
        {
            self.sessions.set_open_zone(Some(prefer.zone().clone()));
        }
    }

    fn publish_zone(&mut self) {
        if let Some(prefer) = &self.prefer {
            self.sessions.set_open_zone(Some(prefer.zone().clone()));
            self.wishes.push(Wish::Publish);
        }
    }

    /// Dials an open endpoint again, or forgets it.
    pub(super) fn look_after_open(&mut self, now: Instant, id: PeerId) {
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(open) = entry.open.as_mut().filter(|open| open.again_at <= now) else {
            return;
        };
        // One that a neighbor told of, and that answered neither, is left alone (S41).
        if !open.has_link && !open.is_wanted {
            entry.open = None;
            return;
        }
        open.again_at = now + AGAIN;
        let is_idle = entry.peer.state() == State::Idle;
        let path = entry.path;
        if is_idle && !self.is_plain(&path) {
            self.with(now, id, |peer, turn| peer.dial(turn, NetId::ANY));
        }
    }

    /// Whether plain is spoken to whoever is there, or would be.
    pub fn is_open(&self, endpoint: &Endpoint) -> bool {
        let id = self.by_endpoint.get(endpoint);
        let entry = id.and_then(|id| self.peers.get(id));
        entry.is_some_and(|entry| entry.open.is_some())
    }
}
