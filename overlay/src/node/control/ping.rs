//! Ping and Pong: answering within rations, and asking.
//!
//! A direct Ping (NO_FORWARD, dst 0, or to us from an endpoint without a live link) is answered to
//! its endpoint alone, with NO_FORWARD as in the Ping (A30). A flooded one is answered by a flooded Pong, which costs the whole mesh, so
//! those are rationed here, at the one who answers (SECURITY T7).

use super::*;
use crate::node::config::{ANSWER_SPREAD, Limits};
use crate::planted::{self, Mistake};
use std::collections::VecDeque;
use wire::Header;

/// How long one of our own pings waits for answers.
const PING_LIFETIME: Duration = Duration::from_secs(10);
/// Our own pings under way at the most; the oldest is forgotten.
const PINGS: usize = 64;
/// Nodes whose answers one ping counts.
const ANSWERS: usize = 4_096;
/// Srcs with a ration of their own.
const RATIONED_SOURCES: usize = 1_024;

/// One of our own pings.
#[derive(Debug)]
struct Asked {
    ping: u64,
    target: NetId,
    at: Instant,
    /// Who answered, when first, and over which last hops.
    answers: BTreeMap<NetId, (Duration, Vec<Endpoint>)>,
}

/// Rations and what waits.
#[derive(Debug)]
pub(super) struct Pings {
    all: Bucket,
    each: Buckets<NetId>,
    to_all: Bucket,
    /// Pongs that wait for their moment: to whom, when.
    delayed: VecDeque<(Instant, NetId)>,
    asked: VecDeque<Asked>,
}

impl Pings {
    pub(super) fn new(limits: &Limits) -> Self {
        let each = Rate::per_second(limits.pongs_per_origin, limits.pongs_per_origin * 2);
        Self {
            all: Bucket::per_second(limits.pongs, limits.pongs),
            each: Buckets::new(each, RATIONED_SOURCES),
            to_all: Bucket::per_second(limits.pongs_to_all, limits.pongs_to_all * 3),
            delayed: VecDeque::new(),
            asked: VecDeque::new(),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.delayed.iter().map(|(at, _)| *at).min()
    }

    fn ration(&mut self, now: Instant, src: NetId) -> bool {
        self.each.take(now, src) && self.all.take(now)
    }
}

impl Control {
    /// Asks `target` (a node, or all) for a Pong; answers come as [`Event::Pong`] with `ping`.
    ///
    /// One ping per target is under way at a time: a new one takes the old one's place (A30).
    pub fn ping(&mut self, now: Instant, ping: u64, target: NetId, effects: &mut Effects) {
        if self.left {
            return;
        }
        self.pings.asked.retain(|asked| asked.target != target);
        if self.pings.asked.len() >= PINGS {
            self.pings.asked.pop_front();
        }
        self.pings.asked.push_back(Asked {
            ping,
            target,
            at: now,
            answers: BTreeMap::new(),
        });
        let datagram = self.small(Kind::Ping, Flags::NONE, target);
        effects.push(Effect::Flood(datagram));
    }

    /// A Ping that is for us, one way or another.
    pub(super) fn on_ping(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        header: &Header,
        effects: &mut Effects,
    ) {
        let endpoint = arrival.path.endpoint;
        let live = self.by_endpoint.contains_key(&endpoint);
        let direct = header.flags.no_forward() || header.dst == NetId::ANY;
        let flags = no_forward_of(header);
        if !live {
            if direct || header.dst == self.config.netid {
                self.answer_stranger(now, arrival, header, effects);
            }
        } else if direct {
            let pong = self.small(Kind::Pong, flags, header.src);
            self.send_on_link(&endpoint, pong, effects);
        } else if header.dst == NetId::ALL {
            if self.pings.to_all.take(now) {
                let spread = ANSWER_SPREAD.as_micros() as u64;
                let delay = Duration::from_micros(u64::from(self.rng.next_u32()) % spread);
                self.pings.delayed.push_back((now + delay, header.src));
            } else {
                self.counters.count(DropReason::PingRationed);
            }
        } else if self.pings.ration(now, header.src) {
            let pong = self.small(Kind::Pong, Flags::NONE, header.src);
            effects.push(Effect::Flood(pong));
        } else {
            self.counters.count(DropReason::PingRationed);
        }
    }

    /// Answers a Ping from an endpoint without a live link: very likely its challenge to us. A full
    /// node does not answer, so that no link is live on one side only.
    fn answer_stranger(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        header: &Header,
        effects: &mut Effects,
    ) {
        let endpoint = arrival.path.endpoint;
        let candidate = self.candidates.get(&endpoint);
        let wanted = candidate.is_some_and(|c| c.origin == Origin::Configured);
        let claimed = candidate.and_then(|candidate| candidate.claimed);
        let known = candidate.is_some();
        if !wanted && let Some(reason) = self.refusal(claimed) {
            return self.refuse(now, endpoint, claimed, reason, effects);
        }
        if !wanted && !self.pings.all.take(now) {
            return self.counters.count(DropReason::PingRationed);
        }
        let pong = self.small(Kind::Pong, no_forward_of(header), header.src);
        if known {
            self.send_to_candidate(endpoint, pong, effects);
        } else {
            // Who pings us takes us for its neighbor, or will: it has to become ours, or the link
            // would be live on one side only (R30). Pong, Hello and challenge are three times its
            // Ping.
            let len = pong.bytes().len() as u64;
            let path = arrival.path;
            effects.push(Effect::Send {
                path,
                link: None,
                datagram: pong,
            });
            self.begin_proof(now, &path, len, effects);
            self.candidates
                .update(&endpoint, |candidate| candidate.sent += len);
        }
    }

    /// A Pong that is for us or answers one of our challenges.
    pub(super) fn on_pong(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        header: &Header,
        effects: &mut Effects,
    ) {
        if !arrival.duplicate && self.take_proof(now, arrival, header, effects) {
            return;
        }
        let for_us = header.dst == self.config.netid;
        let endpoint = arrival.path.endpoint;
        let bound = self.by_endpoint.get(&endpoint).copied();
        let mut expected = !for_us
            && bound == Some(header.src)
            && self.take_probe_answer(now, &endpoint, header.dst, effects);
        if for_us && header.flags.no_forward() && bound == Some(header.src) {
            expected = self.link_answered(now, &endpoint);
        }
        if for_us && bound.is_some() && !header.flags.no_forward() {
            expected |= self.note_answer(now, endpoint, header.src, effects);
        }
        if planted::is(Mistake::AnswerPong) && bound.is_some() {
            let pong = self.small(Kind::Pong, header.flags, header.src);
            self.send_on_link(&endpoint, pong, effects);
        }
        if !expected && !arrival.duplicate {
            self.counters.count(DropReason::UnknownPong);
        }
    }

    fn link_answered(&mut self, now: Instant, endpoint: &Endpoint) -> bool {
        let Some(link) = self.link_mut(endpoint) else {
            return false;
        };
        let asked = link.pinged_at.is_some();
        if asked {
            link.answered(now);
            self.neighbor_stays(endpoint);
        }
        asked
    }

    /// One answered challenge vouches for all links of a neighbor that was said to leave.
    fn neighbor_stays(&mut self, endpoint: &Endpoint) {
        let netid = self.by_endpoint.get(endpoint).copied();
        if let Some(neighbor) = netid.and_then(|netid| self.neighbors.get_mut(&netid)) {
            for link in &mut neighbor.links {
                if matches!(link.state, LinkState::Leaving { .. }) {
                    link.state = LinkState::Live;
                }
            }
        }
    }

    fn note_answer(
        &mut self,
        now: Instant,
        last_hop: Endpoint,
        from: NetId,
        effects: &mut Effects,
    ) -> bool {
        let Some(asked) = self
            .pings
            .asked
            .iter_mut()
            .rev()
            .find(|asked| asked.target == from || asked.target == NetId::ALL)
        else {
            return false;
        };
        if asked.answers.len() >= ANSWERS && !asked.answers.contains_key(&from) {
            return false;
        }
        let elapsed = now.since(asked.at);
        let (round_trip, hops) = asked.answers.entry(from).or_insert((elapsed, Vec::new()));
        if !hops.contains(&last_hop) {
            hops.push(last_hop);
        }
        let (ping, round_trip, last_hops) = (asked.ping, *round_trip, hops.len());
        effects.event(Event::Pong {
            ping,
            from,
            round_trip,
            last_hops,
        });
        true
    }

    /// Sends the Pongs whose moment has come and forgets pings that nobody answers any more.
    pub(super) fn answer_delayed(&mut self, now: Instant, effects: &mut Effects) {
        let mut waiting = std::mem::take(&mut self.pings.delayed);
        waiting.retain(|&(at, src)| {
            let due = at <= now;
            if due {
                let pong = self.small(Kind::Pong, Flags::NONE, src);
                effects.push(Effect::Flood(pong));
            }
            !due
        });
        self.pings.delayed = waiting;
        self.pings
            .asked
            .retain(|asked| now.since(asked.at) < PING_LIFETIME);
    }
}

/// The flags of the Pong to a Ping: NO_FORWARD as in the Ping, and nothing else (A30).
fn no_forward_of(ping: &Header) -> Flags {
    if ping.flags.no_forward() {
        Flags::NO_FORWARD
    } else {
        Flags::NONE
    }
}
