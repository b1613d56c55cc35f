//! Proof: an endpoint becomes a live link by answering a challenge (SECURITY 1.2).
//!
//! A challenge is a Ping (NO_FORWARD, dst 0) whose src is a random netid. Only who receives at the
//! endpoint can know that netid, so a Pong to it, from there, is the proof; its src is the
//! neighbor's netid. A peer that the owner named is believed on a Pong to our own netid too, for
//! nodes that answer only those they know.

use super::*;
use crate::node::candidate::Step;
use crate::node::config::{CHALLENGE_SPACING, GREET_INTERVAL, LINKS_PER_NEIGHBOR};
use crate::node::effect::Refusal;
use crate::node::mtu::MtuSearch;

impl Control {
    /// Begins the proof of an endpoint that sent `received` bytes and no Hello; once in 10 s each.
    pub(super) fn begin_proof(
        &mut self,
        now: Instant,
        path: &Path,
        received: u64,
        effects: &mut Effects,
    ) {
        if !self.stranger_proofs.take(now, path.endpoint) {
            return;
        }
        let limits = &self.config.limits;
        let mut candidate = Candidate::new(now, *path, Origin::Unsolicited, limits);
        candidate.received = received;
        if self.candidates.insert(candidate, limits).is_err() {
            return self.counters.count(DropReason::PrefixBudget);
        }
        self.step_candidates(now, effects);
    }

    /// Takes every step that is due.
    pub(super) fn step_candidates(&mut self, now: Instant, effects: &mut Effects) {
        while let Some(endpoint) = self.candidates.due(now) {
            let jitter = self.rng.next_u32() % 1_001;
            let redial = self.config.timers.redial;
            let taken = self.candidates.update(&endpoint, |candidate| {
                (
                    candidate.take_step(now, redial, jitter),
                    candidate.origin,
                    candidate.step,
                    candidate.claimed,
                )
            });
            let Some((step, origin, steps, claimed)) = taken else {
                return;
            };
            // Full by now: what is not dialed at the owner's word is left alone (R46).
            let refused = origin != Origin::Configured && self.refusal(claimed).is_some();
            if refused && step != Step::GiveUp {
                continue;
            }
            match step {
                Step::GiveUp => self.give_up(now, endpoint),
                Step::Hello => self.greet_candidate(now, endpoint, effects),
                Step::Challenge => self.challenge_candidate(now, endpoint, effects),
                Step::HelloAndChallenge => {
                    // A stranger whose challenge was put off was greeted then (R30).
                    let candidate = self.candidates.get(&endpoint);
                    let greeted = candidate
                        .and_then(|candidate| candidate.greeted_at)
                        .is_some_and(|at| now.since(at) < GREET_INTERVAL);
                    if origin != Origin::Unsolicited || !greeted {
                        self.greet_candidate(now, endpoint, effects);
                    }
                    // Every other time a named peer is asked in our own name.
                    if origin == Origin::Configured && steps.is_multiple_of(2) {
                        self.ping_candidate(now, endpoint, effects);
                    } else {
                        self.challenge_candidate(now, endpoint, effects);
                    }
                }
            }
        }
    }

    fn give_up(&mut self, now: Instant, endpoint: Endpoint) {
        let Some(candidate) = self.candidates.remove(&endpoint) else {
            return;
        };
        match candidate.origin {
            Origin::Unsolicited => return,
            Origin::Informed { .. } => self.rumours.in_vain(now, endpoint.remote),
            Origin::Configured | Origin::Remembered => {}
        }
        self.changed = true;
    }

    pub(super) fn greet_candidate(
        &mut self,
        now: Instant,
        endpoint: Endpoint,
        effects: &mut Effects,
    ) {
        let claimed = self
            .candidates
            .get(&endpoint)
            .and_then(|candidate| candidate.claimed);
        let hello = self.small(
            Kind::Hello,
            Flags::NO_FORWARD,
            claimed.unwrap_or(NetId::ANY),
        );
        if self.send_to_candidate(endpoint, hello, effects) {
            self.candidates
                .update(&endpoint, |candidate| candidate.greeted_at = Some(now));
        }
    }

    pub(super) fn challenge_candidate(
        &mut self,
        now: Instant,
        endpoint: Endpoint,
        effects: &mut Effects,
    ) {
        let Some(candidate) = self.candidates.get(&endpoint) else {
            return;
        };
        let named = matches!(candidate.origin, Origin::Configured | Origin::Remembered);
        let asked = candidate
            .challenged_at
            .is_some_and(|at| now.since(at) < CHALLENGE_SPACING);
        if !named && asked {
            return;
        }
        if !named && !self.challenges.take(now) {
            self.counters.count(DropReason::ChallengeBudget);
            let later = Duration::from_millis(1_000 + u64::from(self.rng.next_u32() % 500));
            self.candidates
                .update(&endpoint, |candidate| candidate.put_off(now, later));
            return;
        }
        let src = self.challenge_netid();
        let challenge = Small::header(
            Kind::Ping,
            Flags::NO_FORWARD,
            self.rng.next_u32(),
            src,
            NetId::ANY,
        );
        if self.send_to_candidate(endpoint, challenge, effects) {
            self.candidates.update(&endpoint, |candidate| {
                candidate.challenges = [Some((src, now)), candidate.challenges[0]];
                candidate.challenged_at = Some(now);
            });
        }
    }

    fn ping_candidate(&mut self, now: Instant, endpoint: Endpoint, effects: &mut Effects) {
        let ping = self.small(Kind::Ping, Flags::NO_FORWARD, NetId::ANY);
        if self.send_to_candidate(endpoint, ping, effects) {
            self.candidates
                .update(&endpoint, |candidate| candidate.pinged_at = Some(now));
        }
    }

    /// Sends if the 3x rule allows; says whether it did.
    pub(super) fn send_to_candidate(
        &mut self,
        endpoint: Endpoint,
        datagram: Small,
        effects: &mut Effects,
    ) -> bool {
        let len = datagram.bytes().len();
        let path = self.candidates.update(&endpoint, |candidate| {
            let allowed = candidate.may_send(len);
            if allowed {
                candidate.sent += len as u64;
            }
            allowed.then_some(candidate.path)
        });
        match path.flatten() {
            Some(path) => {
                effects.push(Effect::Send {
                    path,
                    link: None,
                    datagram,
                });
                true
            }
            None => {
                self.counters.count(DropReason::Amplification);
                false
            }
        }
    }

    /// A netid that nobody has: not a node we know, not ours, not reserved.
    pub(super) fn challenge_netid(&mut self) -> NetId {
        loop {
            let netid = NetId(self.rng.next_u32());
            let taken = netid == self.config.netid || self.remotes.contains(netid);
            if netid.is_node() && !taken && !self.neighbors.contains_key(&netid) {
                return netid;
            }
        }
    }

    /// A Pong from an endpoint without a live link, or to one of our challenges: proof, or nothing.
    /// Says whether it was one.
    pub(super) fn take_proof(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        header: &wire::Header,
        effects: &mut Effects,
    ) -> bool {
        let endpoint = arrival.path.endpoint;
        let Some(candidate) = self.candidates.get(&endpoint) else {
            return false;
        };
        let own = candidate.origin == Origin::Configured
            && header.dst == self.config.netid
            && candidate.is_asked(now);
        let challenged = candidate.is_challenge(now, header.dst);
        if !own && !challenged {
            return false;
        }
        let round_trip = candidate
            .challenged_at
            .filter(|_| challenged)
            .map(|at| now.since(at));
        self.promote(now, endpoint, header.src, round_trip, effects);
        true
    }

    /// Makes a proven endpoint a live link of `netid`.
    ///
    /// State: the candidate is gone, whether the link came to be or was refused; but whom the
    /// owner named is dialed on when its node has as many links as it may (R25).
    pub(super) fn promote(
        &mut self,
        now: Instant,
        endpoint: Endpoint,
        netid: NetId,
        round_trip: Option<Duration>,
        effects: &mut Effects,
    ) {
        let Some(candidate) = self.candidates.remove(&endpoint) else {
            return;
        };
        self.changed = true;
        if netid == self.config.netid {
            return self.handle_conflict(now, &candidate.path, effects);
        }
        let configured = self.is_configured(&endpoint);
        match self.refusal(Some(netid)) {
            Some(Refusal::Links) if configured => {
                // Named endpoints are outside the table's bound.
                let _ = self.candidates.insert(candidate, &self.config.limits);
                return;
            }
            Some(reason) if !configured => {
                return self.refuse(now, endpoint, Some(netid), reason, effects);
            }
            _ => {}
        }
        if self.by_endpoint.contains_key(&endpoint) {
            if self.by_endpoint.get(&endpoint) == Some(&netid) {
                return;
            }
            self.remove_link(now, endpoint, Gone::Replaced, effects);
            self.candidates.remove(&endpoint);
        }
        self.make_room(now, netid, effects);
        let id = self.new_link_id();
        let mut link = Link::new(
            now,
            id,
            candidate.path,
            &self.config.timers,
            &self.config.limits,
        );
        link.configured = configured;
        link.mtu = MtuSearch::new(now, self.config.largest);
        if self.config.netid > netid {
            link.yields();
        }
        link.round_trip = round_trip;
        link.informer = match candidate.origin {
            Origin::Informed { by } => Some(by),
            _ => None,
        };
        let first = !self.neighbors.contains_key(&netid);
        let neighbor = self
            .neighbors
            .entry(netid)
            .or_insert_with(|| Neighbor::new(now, netid));
        neighbor.links.push(link);
        self.by_endpoint.insert(endpoint, netid);
        self.remotes.heard(now, netid, netid);
        // Our first Hello may have died at its NAT; now it is known to get through.
        self.greet_link(now, netid, endpoint, effects);
        effects.event(Event::LinkUp(netid, endpoint));
        if first {
            effects.event(Event::NeighborUp(netid));
            self.begin_introduction(now, netid, effects);
        }
    }

    /// Ends the most silent link of a neighbor that has as many as it may.
    fn make_room(&mut self, now: Instant, netid: NetId, effects: &mut Effects) {
        let Some(neighbor) = self.neighbors.get(&netid) else {
            return;
        };
        if neighbor.links.len() < LINKS_PER_NEIGHBOR {
            return;
        }
        let silent = neighbor.links.iter().min_by_key(|link| link.heard_at());
        if let Some(endpoint) = silent.map(|link| link.path.endpoint) {
            self.remove_link(now, endpoint, Gone::Replaced, effects);
        }
    }
}
