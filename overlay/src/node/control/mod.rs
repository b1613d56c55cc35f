//! Who is a neighbor: the control plane. `&mut self`, one owner, no clock and no socket.
//!
//! Its methods are of three kinds.
//!
//! 1. Inputs, `handle_*` and `set_*`: something came, something changed, a deadline passed. Each
//!    takes `now` and fills [`Effects`]; drain them before the next input.
//! 2. [`Control::next_timeout`]: when to call [`Control::handle_timeout`]. Early calls are harmless.
//! 3. Views: [`Control::neighbors`] for the workers, [`report`] for people.
//!
//! What it keeps: neighbors (proven, with live links), candidates (endpoints without proof), the
//! peers that the owner named, the other nodes of the mesh, and budgets. Every table is bounded.
//! Rules: PROTOCOL.md, "Links" to "Netid of a node"; SECURITY T1 to T8, T21.

mod hello;
mod inform;
mod mtu;
mod ping;
mod proof;
mod remote;
pub mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use wire::{Flags, Kind, Message};

use super::candidate::{Candidate, Candidates, Origin};
use super::config::{ALARM_INTERVAL, NodeConfig, STRANGER_PROOF_INTERVAL};
use super::effect::{Effect, Effects, Event, Gone, Small};
use super::filter::Surroundings;
use super::neighbor::{Due, Link, LinkState, Neighbor};
use super::snapshot::{LinkEntry, NeighborSet};
use crate::budget::{Bucket, Buckets, Rate};
use crate::id::{Endpoint, LinkId, NetId, Path};
use crate::keyed::KeyedHasher;
use crate::pump::count::{Counters, DropReason};
use crate::time::{Duration, Instant};

use inform::Rumours;
use ping::Pings;
use remote::Remotes;

/// Where a datagram came from, as the data path saw it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The endpoint, and the address of ours it spoke to.
    pub path: Path,
    /// The message had come before: only the last hop is news (a Pong for us).
    pub duplicate: bool,
}

/// A peer that the owner named; its addresses come from [`Control::set_peer`].
#[derive(Debug, Default)]
struct Peer {
    endpoints: Vec<Endpoint>,
    /// `--trust-unproved`: its Hello is believed.
    trusted: bool,
}

/// The control plane of one node.
#[derive(Debug)]
pub struct Control {
    config: NodeConfig,
    counters: Arc<Counters>,
    rng: ChaCha12Rng,
    hasher: KeyedHasher,
    surroundings: Surroundings,

    neighbors: BTreeMap<NetId, Neighbor>,
    by_endpoint: BTreeMap<Endpoint, NetId>,
    candidates: Candidates,
    peers: Vec<Peer>,
    /// Endpoints that were neighbors' before the last restart.
    remembered: Vec<Endpoint>,
    remotes: Remotes,

    hellos: Bucket,
    challenges: Bucket,
    /// Proofs begun for strangers that sent no Hello: one per endpoint in 10 s.
    stranger_proofs: Buckets<Endpoint>,
    rumours: Rumours,
    pings: Pings,

    refused: report::Refused,
    conflict_at: Option<Instant>,
    next_link: u32,
    tick_at: Instant,
    changed: bool,
    /// Goodbye was said: nothing is answered any more.
    left: bool,
}

/// How often links are looked at for data that was sent and not answered.
const TICK: Duration = Duration::from_secs(1);

impl Control {
    /// A node without neighbors.
    pub fn new(now: Instant, config: NodeConfig, counters: Arc<Counters>) -> Self {
        let mut rng = ChaCha12Rng::from_seed(config.seed);
        let hasher = KeyedHasher(rng.next_u64(), rng.next_u64());
        let limits = config.limits;
        let surroundings = Surroundings {
            local: Vec::new(),
            overlay: config.overlay.clone(),
            allowed: config.allow_inform.clone(),
        };
        Self {
            counters,
            hasher,
            surroundings,
            neighbors: BTreeMap::new(),
            by_endpoint: BTreeMap::new(),
            candidates: Candidates::default(),
            peers: Vec::new(),
            remembered: Vec::new(),
            remotes: Remotes::new(limits.remotes),
            hellos: Bucket::per_second(limits.hellos, limits.hellos),
            challenges: Bucket::per_second(limits.challenges, limits.challenges),
            stranger_proofs: Buckets::new(Rate::every(STRANGER_PROOF_INTERVAL, 1), 1_024),
            rumours: Rumours::new(now, config.timers.inform, &limits),
            pings: Pings::new(&limits),
            refused: report::Refused::default(),
            conflict_at: None,
            next_link: 0,
            tick_at: now + TICK,
            changed: false,
            left: false,
            rng,
            config,
        }
    }

    /// This node's netid.
    pub fn netid(&self) -> NetId {
        self.config.netid
    }

    /// Bytes of the largest datagram that the device's packets make, as configured.
    pub fn largest_datagram(&self) -> u16 {
        self.config.largest
    }

    /// Handles a datagram that the data path handed over: any kind from a live link that is for
    /// us; Hello, Ping or Pong from any other endpoint.
    ///
    /// State: as the message demands; bytes that are no message change nothing and are counted.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        datagram: &[u8],
        effects: &mut Effects,
    ) {
        if self.left {
            return;
        }
        let Ok((header, message)) = Message::parse(datagram) else {
            self.counters.count(DropReason::Malformed);
            return;
        };
        let endpoint = arrival.path.endpoint;
        self.candidates.update(&endpoint, |candidate| {
            candidate.received += datagram.len() as u64;
            candidate.path.local = arrival.path.local.or(candidate.path.local);
        });
        match message {
            Message::Hello => self.on_hello(now, arrival, &header, datagram.len(), effects),
            Message::Goodbye => self.on_goodbye(now, arrival, &header),
            Message::Ping => self.on_ping(now, arrival, &header, effects),
            Message::Pong => self.on_pong(now, arrival, &header, effects),
            Message::Inform(inform) => self.on_inform(now, arrival, &header, &inform, effects),
            Message::Data(_) | Message::Unknown(_) => {}
        }
        self.finish(effects);
    }

    /// Handles a well-formed datagram of an unknown endpoint that is neither Hello, Ping nor Pong:
    /// perhaps a neighbor whose NAT gave it a new address. It starts a proof, seldom.
    pub fn handle_stranger(&mut self, now: Instant, path: &Path, effects: &mut Effects) {
        let endpoint = path.endpoint;
        let known = self.by_endpoint.contains_key(&endpoint);
        if self.left || known || self.candidates.get(&endpoint).is_some() {
            return;
        }
        if self.refusal(None).is_none() {
            self.begin_proof(now, path, wire::HEADER_LEN as u64, effects);
        }
        self.finish(effects);
    }

    /// Handles a message that has our netid as its source and is not ours.
    pub fn handle_conflict(&mut self, now: Instant, path: &Path, effects: &mut Effects) {
        let quiet = self
            .conflict_at
            .is_some_and(|at| now.since(at) < ALARM_INTERVAL);
        if !quiet {
            self.conflict_at = Some(now);
            effects.event(Event::NetIdConflict {
                last_hop: path.endpoint.remote,
            });
        }
    }

    /// Notes that a message of `origin` came, its first copy over `via`; at most once a second each.
    pub fn handle_heard(&mut self, now: Instant, origin: NetId, via: NetId) {
        if origin != self.config.netid {
            self.remotes.heard(now, origin, via);
        }
    }

    /// Sets the addresses of the peer with number `peer` (0, 1, ... in the owner's order), resolved
    /// anew or for the first time. Those that were not there before are dialed at once; those that
    /// are no longer are not dialed any more, but live links to them stay.
    pub fn set_peer(
        &mut self,
        now: Instant,
        peer: usize,
        addresses: &[SocketAddr],
        trusted: bool,
        effects: &mut Effects,
    ) {
        if self.left {
            return;
        }
        if self.peers.len() <= peer {
            self.peers.resize_with(peer + 1, Peer::default);
        }
        let endpoints = self.endpoints_of(addresses);
        let before = std::mem::take(&mut self.peers[peer].endpoints);
        self.peers[peer] = Peer {
            endpoints: endpoints.clone(),
            trusted,
        };
        for endpoint in before
            .iter()
            .filter(|endpoint| !endpoints.contains(endpoint))
        {
            if !self.is_configured(endpoint) {
                self.candidates.remove(endpoint);
                self.changed = true;
            }
        }
        for endpoint in endpoints {
            self.mark_configured(&endpoint);
            let waiting = self
                .candidates
                .get(&endpoint)
                .map(|candidate| candidate.origin);
            if waiting != Some(Origin::Configured) {
                self.dial(now, endpoint, Origin::Configured);
            }
        }
        self.step_candidates(now, effects);
        self.finish(effects);
    }

    /// Dials endpoints that were neighbors' before the last restart, as if the owner had named
    /// them, but only while there is room for their nodes.
    ///
    /// Shape: as few as the state file holds; each is kept for as long as this node runs.
    pub fn remember(&mut self, now: Instant, addresses: &[SocketAddr], effects: &mut Effects) {
        if self.left {
            return;
        }
        for endpoint in self.endpoints_of(addresses) {
            if !self.remembered.contains(&endpoint) {
                self.remembered.push(endpoint);
            }
            if self.candidates.get(&endpoint).is_none() {
                self.dial(now, endpoint, Origin::Remembered);
            }
        }
        self.step_candidates(now, effects);
        self.finish(effects);
    }

    /// Sets what is known of the underlay: our addresses with their prefixes, and the overlay's
    /// prefixes.
    pub fn set_surroundings(&mut self, local: Vec<IpNet>, overlay: Vec<IpNet>) {
        self.surroundings.local = local;
        self.surroundings.overlay = overlay;
    }

    /// The machine's addresses or routes changed: every named or remembered peer without a link is
    /// dialed anew from the start of the schedule, every link is pinged and probed for what it
    /// carries now.
    pub fn handle_network_change(&mut self, now: Instant, effects: &mut Effects) {
        if self.left {
            return;
        }
        for endpoint in self.remembered.clone() {
            self.dial(now, endpoint, Origin::Remembered);
        }
        let endpoints: Vec<Endpoint> = self
            .peers
            .iter()
            .flat_map(|peer| peer.endpoints.iter().copied())
            .collect();
        for endpoint in endpoints {
            self.dial(now, endpoint, Origin::Configured);
        }
        let links: Vec<(NetId, Endpoint)> = self
            .neighbors
            .values()
            .flat_map(|n| n.links.iter().map(|link| (n.netid, link.path.endpoint)))
            .collect();
        for (netid, endpoint) in links {
            self.ping_link(now, netid, endpoint, effects);
            if let Some(link) = self.link_mut(&endpoint) {
                link.mtu.restart(now);
            }
        }
        self.step_candidates(now, effects);
        self.finish(effects);
    }

    /// Says Goodbye to all. Call it twice, 20 ms apart, then stop (PROTOCOL.md "Goodbye").
    ///
    /// State: from now on nothing is answered or begun and no deadline is left; a Pong to the
    /// challenge that our Goodbye brings would take it back.
    pub fn say_goodbye(&mut self, effects: &mut Effects) {
        self.left = true;
        let goodbye = self.small(Kind::Goodbye, Flags::NONE, NetId::ALL);
        effects.push(Effect::Flood(goodbye));
    }

    /// When [`Self::handle_timeout`] has something to do; `None` while nothing is going on.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.left {
            return None;
        }
        let timers = &self.config.timers;
        let links = self
            .neighbors
            .values()
            .flat_map(|neighbor| neighbor.links.iter());
        let tick = (!self.neighbors.is_empty() || !self.remotes.is_empty()).then_some(self.tick_at);
        let inform = (self.neighbors.len() > 1).then(|| self.rumours.pair_at());
        let introductions = self.neighbors.values().filter_map(Neighbor::introduces_at);
        links
            .flat_map(|link| [Some(link.next_timeout(timers)), link.probes_at()])
            .flatten()
            .chain(tick)
            .chain(inform)
            .chain(introductions)
            .chain(self.candidates.next_timeout())
            .chain(self.pings.next_timeout())
            .min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant, effects: &mut Effects) {
        if self.left {
            return;
        }
        if now >= self.tick_at {
            self.tick_at = now + TICK;
            for netid in self.remotes.expire(now) {
                effects.event(Event::RemoteGone(netid));
            }
        }
        self.poll_links(now, effects);
        self.probe_links(now, effects);
        self.step_candidates(now, effects);
        self.answer_delayed(now, effects);
        self.go_on_introducing(now, effects);
        self.tell_random_pair(now, effects);
        self.finish(effects);
    }

    /// The live links, for the workers; call it for each [`Effect::Publish`].
    pub fn neighbors(&self) -> NeighborSet {
        let mut links = Vec::new();
        for (place, neighbor) in self.neighbors.values().enumerate() {
            links.extend(neighbor.links.iter().map(|link| LinkEntry {
                id: link.id,
                netid: neighbor.netid,
                neighbor: place as u16,
                path: link.path,
                stats: link.stats.clone(),
            }));
        }
        let named = |candidate: &&Candidate| !matches!(candidate.origin, Origin::Unsolicited);
        let expected = self
            .candidates
            .iter()
            .filter(named)
            .map(|c| c.path.endpoint);
        NeighborSet::new(links, expected, self.hasher)
    }

    fn poll_links(&mut self, now: Instant, effects: &mut Effects) {
        let mut due = Vec::new();
        for neighbor in self.neighbors.values_mut() {
            for link in &mut neighbor.links {
                match link.poll(now, &self.config.timers) {
                    Due::Nothing => {}
                    what => due.push((neighbor.netid, link.path.endpoint, what)),
                }
            }
        }
        for (netid, endpoint, what) in due {
            match what {
                Due::Nothing => {}
                Due::Ping => self.ping_link(now, netid, endpoint, effects),
                Due::HelloAndPing => {
                    self.greet_link(now, netid, endpoint, effects);
                    self.ping_link(now, netid, endpoint, effects);
                }
                Due::Gone(why) => self.remove_link(now, endpoint, why, effects),
            }
        }
    }

    /// Ends a link; a named or remembered peer is dialed anew, a neighbor without links is no
    /// neighbor.
    fn remove_link(&mut self, now: Instant, endpoint: Endpoint, why: Gone, effects: &mut Effects) {
        let Some(netid) = self.by_endpoint.remove(&endpoint) else {
            return;
        };
        if let Some(neighbor) = self.neighbors.get_mut(&netid) {
            neighbor.links.retain(|link| link.path.endpoint != endpoint);
            effects.event(Event::LinkDown(netid, endpoint, why));
            if neighbor.links.is_empty() {
                self.neighbors.remove(&netid);
                effects.event(Event::NeighborDown(netid, why));
            }
        }
        if self.is_configured(&endpoint) {
            self.dial(now, endpoint, Origin::Configured);
        } else if self.remembered.contains(&endpoint) {
            self.dial(now, endpoint, Origin::Remembered);
        }
        self.changed = true;
    }

    fn on_goodbye(&mut self, now: Instant, arrival: &Arrival, header: &wire::Header) {
        let bound = self.by_endpoint.get(&arrival.path.endpoint).copied();
        if bound == Some(header.src) {
            if let Some(neighbor) = self.neighbors.get_mut(&header.src) {
                neighbor.leave(now);
            }
        } else if header.flags.no_forward() || header.dst == NetId::ANY {
            self.counters.count(DropReason::SpoofedControl);
        } else {
            self.remotes.leave(now, header.src);
        }
    }

    /// Begins or begins anew to dial an endpoint that is not a live link.
    fn dial(&mut self, now: Instant, endpoint: Endpoint, origin: Origin) {
        if self.by_endpoint.contains_key(&endpoint) {
            return;
        }
        let candidate = Candidate::new(now, Path::to(endpoint), origin, &self.config.limits);
        // Named endpoints are outside the bounds; informed ones were counted by their caller.
        if self
            .candidates
            .insert(candidate, &self.config.limits)
            .is_err()
        {
            self.counters.count(DropReason::PrefixBudget);
        }
        self.changed = true;
    }

    /// Each address from each socket of its family, except loopback from elsewhere and back.
    fn endpoints_of(&self, addresses: &[SocketAddr]) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for address in addresses {
            let sockets = self.config.sockets.iter().filter(|socket| {
                let local = socket.local.ip();
                let remote = address.ip().to_canonical();
                local.is_ipv4() == remote.is_ipv4()
                    && (local.is_unspecified() || local.is_loopback() == remote.is_loopback())
            });
            for endpoint in sockets.map(|socket| Endpoint::new(socket.id, *address)) {
                if !endpoints.contains(&endpoint) {
                    endpoints.push(endpoint);
                }
            }
        }
        endpoints
    }

    fn is_configured(&self, endpoint: &Endpoint) -> bool {
        self.peers
            .iter()
            .any(|peer| peer.endpoints.contains(endpoint))
    }

    fn is_trusted(&self, endpoint: &Endpoint) -> bool {
        self.peers
            .iter()
            .any(|peer| peer.trusted && peer.endpoints.contains(endpoint))
    }

    fn mark_configured(&mut self, endpoint: &Endpoint) {
        if let Some(link) = self.link_mut(endpoint) {
            link.configured = true;
        }
    }

    fn link_mut(&mut self, endpoint: &Endpoint) -> Option<&mut Link> {
        let netid = self.by_endpoint.get(endpoint)?;
        let neighbor = self.neighbors.get_mut(netid)?;
        neighbor
            .links
            .iter_mut()
            .find(|link| link.path.endpoint == *endpoint)
    }

    fn ping_link(&mut self, now: Instant, netid: NetId, endpoint: Endpoint, effects: &mut Effects) {
        let ping = self.small(Kind::Ping, Flags::NO_FORWARD, netid);
        if let Some(link) = self.link_mut(&endpoint) {
            link.pinged_at = Some(now);
        }
        self.send_on_link(&endpoint, ping, effects);
    }

    fn greet_link(
        &mut self,
        now: Instant,
        netid: NetId,
        endpoint: Endpoint,
        effects: &mut Effects,
    ) {
        let hello = self.small(Kind::Hello, Flags::NO_FORWARD, netid);
        if let Some(link) = self.link_mut(&endpoint) {
            link.greeted_at = Some(now);
        }
        self.send_on_link(&endpoint, hello, effects);
    }

    fn send_on_link(&mut self, endpoint: &Endpoint, datagram: Small, effects: &mut Effects) {
        if let Some(link) = self.link_mut(endpoint) {
            effects.push(Effect::Send {
                path: link.path,
                link: Some(link.id),
                datagram,
            });
        }
    }

    /// A message of ours without payload, with a fresh nonce (A9).
    fn small(&mut self, kind: Kind, flags: Flags, dst: NetId) -> Small {
        Small::header(kind, flags, self.rng.next_u32(), self.config.netid, dst)
    }

    fn new_link_id(&mut self) -> LinkId {
        let id = LinkId(self.next_link);
        self.next_link = self.next_link.wrapping_add(1);
        id
    }

    /// Tells the driver to publish, once an input, if links or dialed endpoints changed.
    fn finish(&mut self, effects: &mut Effects) {
        if std::mem::take(&mut self.changed) {
            effects.push(Effect::Publish);
        }
    }
}
