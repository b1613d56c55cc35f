//! Hello: somebody introduces itself. It proves nothing but that somebody sent it.

use super::*;
use crate::node::config::{CHALLENGE_SPACING, GREET_INTERVAL};
use crate::node::effect::Refusal;
use crate::planted::{self, Mistake};
use wire::Header;

impl Control {
    /// A Hello from a neighbor, from an endpoint being dialed, or from a stranger.
    ///
    /// Source: A22, A23, A25; SECURITY T1, T2.
    pub(super) fn on_hello(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        header: &Header,
        len: usize,
        effects: &mut Effects,
    ) {
        let endpoint = arrival.path.endpoint;
        if self.by_endpoint.contains_key(&endpoint) {
            return self.on_neighbor_hello(now, arrival, header, len, effects);
        }
        if !self.is_configured(&endpoint) && !self.take_hello(now, &endpoint) {
            return self.counters.count(DropReason::HelloBudget);
        }
        if self.is_trusted(&endpoint) {
            return self.promote(now, endpoint, header.src, None, effects);
        }
        if !self.is_configured(&endpoint)
            && let Some(reason) = self.refusal(Some(header.src))
        {
            return self.refuse(now, endpoint, Some(header.src), reason, effects);
        }
        if self.candidates.get(&endpoint).is_none() {
            let limits = &self.config.limits;
            let mut candidate = Candidate::new(now, arrival.path, Origin::Unsolicited, limits);
            candidate.received = len as u64;
            if self.candidates.insert(candidate, limits).is_err() {
                return self.counters.count(DropReason::PrefixBudget);
            }
        }
        self.candidates
            .update(&endpoint, |candidate| candidate.claimed = Some(header.src));
        if planted::is(Mistake::SkipProof) {
            return self.promote(now, endpoint, header.src, None, effects);
        }
        self.step_candidates(now, effects);
        // A peer that is being dialed gets its answer now, not at the next step of the schedule.
        self.answer_candidate(now, endpoint, effects);
    }

    /// A Hello that came over a live link.
    fn on_neighbor_hello(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        header: &Header,
        len: usize,
        effects: &mut Effects,
    ) {
        let endpoint = arrival.path.endpoint;
        let bound = self.by_endpoint.get(&endpoint).copied();
        let Some(link) = self.link_mut(&endpoint) else {
            return;
        };
        if bound == Some(header.src) {
            let due = link
                .greeted_at
                .is_none_or(|at| now.since(at) >= GREET_INTERVAL);
            if due {
                self.greet_link(now, header.src, endpoint, effects);
            }
            return;
        }
        let direct = header.flags.no_forward() || header.dst == NetId::ANY;
        if !direct {
            // It was forwarded: its src is a node behind this neighbor, known already (A23).
            return;
        }
        if !link.hellos.take(now) {
            return self.counters.count(DropReason::HelloBudget);
        }
        // Another node may have taken over this address, or somebody forges. The link stays as it
        // is until the endpoint has proven the new netid.
        self.counters.count(DropReason::SpoofedControl);
        if self.candidates.get(&endpoint).is_none() {
            let limits = &self.config.limits;
            let mut candidate = Candidate::new(now, arrival.path, Origin::Unsolicited, limits);
            candidate.received = len as u64;
            candidate.claimed = Some(header.src);
            if self.candidates.insert(candidate, limits).is_err() {
                return self.counters.count(DropReason::PrefixBudget);
            }
            self.step_candidates(now, effects);
        }
    }

    /// Answers a candidate's Hello with what it has not had yet, within its budgets.
    fn answer_candidate(&mut self, now: Instant, endpoint: Endpoint, effects: &mut Effects) {
        let Some(candidate) = self.candidates.get(&endpoint) else {
            return;
        };
        let hello = candidate
            .greeted_at
            .is_none_or(|at| now.since(at) >= GREET_INTERVAL);
        let challenge = candidate
            .challenged_at
            .is_none_or(|at| now.since(at) >= CHALLENGE_SPACING);
        if hello {
            self.greet_candidate(now, endpoint, effects);
        }
        if challenge {
            self.challenge_candidate(now, endpoint, effects);
        }
    }

    fn take_hello(&mut self, now: Instant, endpoint: &Endpoint) -> bool {
        let own = self
            .candidates
            .update(endpoint, |candidate| candidate.hellos.take(now));
        own.unwrap_or(true) && self.hellos.take(now)
    }

    /// Why a node that the owner did not name cannot become a neighbor, or get a further link.
    pub(super) fn refusal(&self, netid: Option<NetId>) -> Option<Refusal> {
        if let Some(neighbor) = netid.and_then(|netid| self.neighbors.get(&netid)) {
            let full = neighbor.links.len() >= crate::node::config::LINKS_PER_NEIGHBOR;
            let replaceable = neighbor
                .links
                .iter()
                .any(|link| link.state != LinkState::Live);
            return (full && !replaceable).then_some(Refusal::Links);
        }
        let live = self.neighbors.len();
        let unnamed = self
            .neighbors
            .values()
            .filter(|n| !n.is_configured())
            .count();
        if unnamed >= self.config.max_neighbors {
            Some(Refusal::MaxNeighbors)
        } else if live >= self.config.degree.saturating_mul(2) {
            Some(Refusal::Degree)
        } else {
            None
        }
    }

    /// Notes a refusal; told to the owner at most once a minute.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        endpoint: Endpoint,
        netid: Option<NetId>,
        reason: Refusal,
        effects: &mut Effects,
    ) {
        self.counters.count(DropReason::NeighborsFull);
        if self.refused.note(now, endpoint, netid, reason) {
            effects.event(Event::Refused { endpoint, reason });
        }
    }
}
