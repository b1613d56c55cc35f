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

mod dial;
mod hello;
mod inform;
mod link;
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

use dial::Peer;
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

    /// Sets what is known of the underlay: our addresses with their prefixes, and the overlay's
    /// prefixes.
    pub fn set_surroundings(&mut self, local: Vec<IpNet>, overlay: Vec<IpNet>) {
        self.surroundings.local = local;
        self.surroundings.overlay = overlay;
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
                open: false,
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

    /// A message of ours without payload, with a fresh nonce (A9).
    fn small(&mut self, kind: Kind, flags: Flags, dst: NetId) -> Small {
        Small::header(kind, flags, self.rng.next_u32(), self.config.netid, dst)
    }

    /// Tells the driver to publish, once an input, if links or dialed endpoints changed.
    fn finish(&mut self, effects: &mut Effects) {
        if std::mem::take(&mut self.changed) {
            effects.push(Effect::Publish);
        }
    }
}
