//! Inform: telling neighbors of each other, and following what they tell.
//!
//! Telling both at the same moment makes both probe at the same moment, which opens the way
//! through most NATs. Following is bounded six ways (SECURITY T5, T6): who may tell, which
//! addresses, how much each teller, how many at once, how often an address, how many a prefix.

use super::*;
use crate::node::candidate::prefix_of;
use crate::node::config::{INFORM_SILENCE, Limits};
use wire::{Header, Inform};

/// Others that a new neighbor is told of, and is told to (A34).
const TELL: usize = 8;
/// Addresses remembered as probed in vain, or being probed.
const SILENCED: usize = 4_096;
/// Prefixes with a budget of their own.
const PREFIXES: usize = 1_024;

/// What is remembered of rumours.
#[derive(Debug)]
pub(super) struct Rumours {
    /// Addresses that are left alone, and until when.
    silenced: BTreeMap<SocketAddr, Instant>,
    /// Probes per prefix.
    prefixes: Buckets<u128>,
    /// Probes in all: 2/s, burst 16; each is up to three datagrams.
    all: Bucket,
    interval: Duration,
    pair_at: Instant,
}

impl Rumours {
    pub(super) fn new(now: Instant, interval: Duration, limits: &Limits) -> Self {
        let each = Rate::per_second(limits.informs_per_prefix, limits.inform_burst);
        Self {
            silenced: BTreeMap::new(),
            prefixes: Buckets::new(each, PREFIXES),
            all: Bucket::per_second(2, 16),
            interval,
            pair_at: now + interval,
        }
    }

    pub(super) fn pair_at(&self) -> Instant {
        self.pair_at
    }

    /// The address was probed and did not answer.
    pub(super) fn in_vain(&mut self, now: Instant, address: SocketAddr) {
        self.silenced.insert(address, now + INFORM_SILENCE);
    }

    /// Takes what one probe of `address` costs from every budget, or nothing.
    fn take(&mut self, now: Instant, address: SocketAddr, host_is_live: bool) -> bool {
        self.silenced.retain(|_, until| *until > now);
        // Another port of the same host is the same victim, unless a neighbor lives there: then it
        // is a NAT with several nodes behind it.
        let silenced = self
            .silenced
            .keys()
            .any(|known| *known == address || (!host_is_live && known.ip() == address.ip()));
        if silenced || self.silenced.len() >= SILENCED {
            return false;
        }
        let granted = self.all.take(now) && self.prefixes.take(now, prefix_of(address.ip()));
        if granted {
            self.silenced.insert(address, now + INFORM_SILENCE);
        }
        granted
    }
}

impl Control {
    /// A rumour. Followed only from a neighbor, about others, meant for us alone.
    pub(super) fn on_inform(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        header: &Header,
        inform: &Inform,
        effects: &mut Effects,
    ) {
        let teller = self.by_endpoint.get(&arrival.path.endpoint).copied();
        if teller.is_none() {
            // The two ends of a link see it come up one after the other: this is no forgery.
            return self.counters.count(DropReason::StrangersWord);
        }
        if teller != Some(header.src) || header.dst == NetId::ALL {
            return self.counters.count(DropReason::SpoofedControl);
        }
        let subject = inform.subject;
        if !subject.is_node() || subject == self.config.netid {
            return self.counters.count(DropReason::InformUnneeded);
        }
        let informer = arrival.path.endpoint.remote;
        if !self.surroundings.permits(inform.endpoint, informer) {
            return self.counters.count(DropReason::InformRefused);
        }
        self.remotes.hint(now, subject, inform.endpoint);
        let endpoints = self.endpoints_of(&[inform.endpoint]);
        let Some(&endpoint) = endpoints.first() else {
            return self.counters.count(DropReason::InformUnneeded);
        };
        if !self.needs(&endpoint, subject, header.src) {
            return self.counters.count(DropReason::InformUnneeded);
        }
        let Some(neighbor) = self.neighbors.get_mut(&header.src) else {
            return;
        };
        let in_flight = self.candidates.informed();
        let address = endpoint.remote;
        let host_is_live = self
            .by_endpoint
            .keys()
            .any(|e| e.remote.ip() == address.ip());
        let granted = neighbor.informs.take(now)
            && in_flight < self.config.limits.informed_in_flight
            && self.rumours.take(now, address, host_is_live);
        if !granted {
            return self.counters.count(DropReason::InformBudget);
        }
        self.dial(now, endpoint, Origin::Informed { by: header.src });
        self.candidates
            .update(&endpoint, |candidate| candidate.claimed = Some(subject));
        self.step_candidates(now, effects);
    }

    /// Whether a link to this endpoint is wanted: we lack neighbors, have none there, and do not
    /// owe half of those we may dial to the same teller already (T6).
    fn needs(&self, endpoint: &Endpoint, subject: NetId, teller: NetId) -> bool {
        let known = self.by_endpoint.contains_key(endpoint)
            || self.candidates.get(endpoint).is_some()
            || self.neighbors.contains_key(&subject);
        let by_teller = self
            .neighbors
            .values()
            .filter(|n| n.links.iter().any(|link| link.informer == Some(teller)))
            .count();
        !known
            && self.neighbors.len() < self.config.degree
            && by_teller < self.config.degree.div_ceil(2)
    }

    /// Draws up to eight others that a new neighbor is introduced to, at once and twice more.
    pub(super) fn begin_introduction(&mut self, now: Instant, netid: NetId, effects: &mut Effects) {
        let mut others: Vec<NetId> = self
            .neighbors
            .keys()
            .copied()
            .filter(|other| *other != netid)
            .collect();
        while others.len() > TELL {
            let drawn = self.rng.next_u32() as usize % others.len();
            others.swap_remove(drawn);
        }
        if let Some(neighbor) = self.neighbors.get_mut(&netid) {
            neighbor.introduction.others = others;
        }
        self.go_on_introducing(now, effects);
    }

    /// Tells what is due of the introductions under way.
    pub(super) fn go_on_introducing(&mut self, now: Instant, effects: &mut Effects) {
        let mut pairs = Vec::new();
        for neighbor in self.neighbors.values_mut() {
            if neighbor.take_introduction(now) {
                let others = neighbor.introduction.others.iter();
                pairs.extend(others.map(|other| (neighbor.netid, *other)));
            }
        }
        for (one, other) in pairs {
            self.introduce(one, other, effects);
        }
    }

    /// Once in an interval two random neighbors are told of each other.
    pub(super) fn tell_random_pair(&mut self, now: Instant, effects: &mut Effects) {
        if now < self.rumours.pair_at {
            return;
        }
        self.rumours.pair_at = now + self.rumours.interval;
        let all: Vec<NetId> = self.neighbors.keys().copied().collect();
        if all.len() < 2 {
            return;
        }
        let first = self.rng.next_u32() as usize % all.len();
        let step = 1 + self.rng.next_u32() as usize % (all.len() - 1);
        let second = (first + step) % all.len();
        self.introduce(all[first], all[second], effects);
    }

    fn introduce(&mut self, one: NetId, other: NetId, effects: &mut Effects) {
        self.inform(one, other, effects);
        self.inform(other, one, effects);
    }

    /// Tells `listener` where `subject` is, unless that could mean nothing to it.
    fn inform(&mut self, listener: NetId, subject: NetId, effects: &mut Effects) {
        let path = |netid| {
            self.neighbors
                .get(&netid)?
                .best_link()
                .map(|link| link.path.endpoint)
        };
        let (Some(to), Some(about)) = (path(listener), path(subject)) else {
            return;
        };
        let here = |address: SocketAddr| address.ip().is_loopback();
        if here(about.remote) && !here(to.remote) {
            return;
        }
        let inform = Inform {
            subject,
            endpoint: about.remote,
        };
        let nonce = self.rng.next_u32();
        let datagram = Small::inform(nonce, self.config.netid, listener, inform);
        self.send_on_link(&to, datagram, effects);
    }
}
