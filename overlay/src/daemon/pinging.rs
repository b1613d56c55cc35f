//! `floodmesh ping`, pure: when to ask again, and what to say of the answers.
//!
//! A node answers once, but its answer comes over as many last hops as there are ways, one after
//! the other. So an answer is told a moment after its first copy came: the round-trip time is the
//! first copy's, the number of last hops is what came by then.
//!
//! A Pong names no Ping (PROTOCOL-NOTES A30), so the next question waits until the one before was
//! answered or a second has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::admin::PingRequest;
use super::report::{PingMissed, PingReply, PingSummary};
use crate::id::NetId;
use crate::time::{Duration, Instant};

/// How long further copies of an answer are waited for.
const SETTLE: Duration = Duration::from_millis(150);
/// How long a question waits for its first answer before the next is asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a question to all nodes does: they answer after up to 500 ms.
const PATIENCE_ALL: Duration = Duration::from_millis(1_500);

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the target.
    Ask,
    /// Tell the client of an answer; its addresses are to be filled in.
    Answer(PingReply),
    /// Tell the client that nobody answered.
    Missed(PingMissed),
    /// Tell the client how it went; nothing follows.
    Summary(PingSummary),
}

/// One answer to the question under way.
#[derive(Clone, Copy, Debug)]
struct Answer {
    round_trip: Duration,
    last_hops: usize,
    tell_at: Instant,
    told: bool,
}

/// One run of `floodmesh ping`.
#[derive(Debug)]
pub struct Pinging {
    /// Whom it asks.
    pub target: NetId,
    request: PingRequest,
    interval: Duration,
    asked: u32,
    asked_at: Instant,
    answers: BTreeMap<NetId, Answer>,
    answered: u32,
    nodes: BTreeSet<NetId>,
    round_trips: Vec<Duration>,
    done: bool,
}

impl Pinging {
    /// A run that is to ask `target` now.
    pub fn new(request: PingRequest, target: NetId) -> Self {
        Self {
            target,
            interval: Duration::from_millis(request.interval_ms.into()),
            request,
            asked: 0,
            asked_at: Instant::ZERO,
            answers: BTreeMap::new(),
            answered: 0,
            nodes: BTreeSet::new(),
            round_trips: Vec::new(),
            done: false,
        }
    }

    /// A copy of an answer came.
    pub fn answered(&mut self, now: Instant, from: NetId, round_trip: Duration, last_hops: usize) {
        let tell_at = now + SETTLE;
        let fresh = Answer {
            round_trip,
            last_hops,
            tell_at,
            told: false,
        };
        self.answers.entry(from).or_insert(fresh).last_hops = last_hops;
    }

    /// Does what is due; call it again until nothing is left to do.
    pub fn poll(&mut self, now: Instant) -> Option<Step> {
        if self.done {
            return None;
        }
        if let Some(reply) = self.due_answer(now) {
            return Some(Step::Answer(reply));
        }
        if self.asked > 0 && now < self.over_at() {
            return None;
        }
        if self.asked > 0 && self.answers.is_empty() {
            // Told once: the question after this one clears it, or the run ends.
            self.answers.insert(
                NetId::ANY,
                Answer {
                    round_trip: Duration::ZERO,
                    last_hops: 0,
                    tell_at: now,
                    told: true,
                },
            );
            return Some(Step::Missed(PingMissed {
                sequence: self.asked,
            }));
        }
        if self.asked == self.request.count {
            self.done = true;
            return Some(Step::Summary(self.summary()));
        }
        if now < self.next_at() {
            return None;
        }
        self.asked += 1;
        self.asked_at = now;
        self.answers.clear();
        Some(Step::Ask)
    }

    /// When [`Self::poll`] has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.done {
            return None;
        }
        if self.asked == 0 {
            return Some(Instant::ZERO);
        }
        let untold = self
            .answers
            .values()
            .filter(|answer| !answer.told)
            .map(|a| a.tell_at);
        let next = if self.asked == self.request.count {
            self.over_at()
        } else {
            self.over_at().max(self.next_at())
        };
        untold.chain([next]).min()
    }

    /// Whether the run is over.
    pub fn is_done(&self) -> bool {
        self.done
    }

    fn due_answer(&mut self, now: Instant) -> Option<PingReply> {
        let due = self
            .answers
            .iter_mut()
            .find(|(_, answer)| !answer.told && answer.tell_at <= now);
        let (&netid, answer) = due?;
        answer.told = true;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let reply = PingReply {
            sequence: self.asked,
            netid,
            rtt_us: micros(answer.round_trip),
            last_hops: answer.last_hops as u32,
            addresses: Vec::<IpAddr>::new(),
        };
        if self.answers.values().filter(|answer| answer.told).count() == 1 {
            self.answered += 1;
        }
        self.round_trips.push(Duration::from_micros(reply.rtt_us));
        self.nodes.insert(netid);
        Some(reply)
    }

    /// When the question under way is over: all answers are told, or patience has ended.
    fn over_at(&self) -> Instant {
        let all = self.target == NetId::ALL;
        let patience = self.asked_at + if all { PATIENCE_ALL } else { PATIENCE };
        let told = !self.answers.is_empty() && self.answers.values().all(|answer| answer.told);
        if told && !all {
            self.asked_at
        } else {
            patience
        }
    }

    fn next_at(&self) -> Instant {
        if self.asked == 0 {
            Instant::ZERO
        } else {
            self.asked_at + self.interval
        }
    }

    fn summary(&self) -> PingSummary {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let sum: Duration = self.round_trips.iter().sum();
        let count = self.round_trips.len() as u32;
        PingSummary {
            target: self.request.target.clone(),
            sent: self.asked,
            answered: self.answered,
            nodes: self.nodes.len() as u32,
            rtt_min_us: self.round_trips.iter().min().copied().map(micros),
            rtt_mean_us: (count > 0).then(|| micros(sum / count)),
            rtt_max_us: self.round_trips.iter().max().copied().map(micros),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinging(target: NetId, count: u32) -> Pinging {
        let request = PingRequest {
            target: target.to_string(),
            count,
            interval_ms: 1_000,
        };
        Pinging::new(request, target)
    }

    #[test]
    fn an_answer_is_told_with_its_last_hops_and_the_next_question_waits_its_interval() {
        let mut run = pinging(NetId(7), 2);
        assert_eq!(run.poll(Instant::from_secs(5)), Some(Step::Ask));
        assert_eq!(run.poll(Instant::from_secs(5)), None);
        run.answered(Instant(5_010_000), NetId(7), Duration::from_millis(10), 1);
        run.answered(Instant(5_020_000), NetId(7), Duration::from_millis(10), 2);
        assert_eq!(run.next_timeout(), Some(Instant(5_160_000)));
        assert_eq!(run.poll(Instant(5_159_999)), None);
        let Some(Step::Answer(reply)) = run.poll(Instant(5_160_000)) else {
            panic!()
        };
        assert_eq!(
            (reply.sequence, reply.rtt_us, reply.last_hops),
            (1, 10_000, 2)
        );
        assert_eq!(run.next_timeout(), Some(Instant::from_secs(6)));
        assert_eq!(run.poll(Instant::from_secs(6)), Some(Step::Ask));
    }

    #[test]
    fn silence_is_told_after_a_second_and_the_run_ends_with_a_summary() {
        let mut run = pinging(NetId(7), 1);
        assert_eq!(run.poll(Instant::from_secs(1)), Some(Step::Ask));
        assert_eq!(run.next_timeout(), Some(Instant::from_secs(2)));
        let missed = Step::Missed(PingMissed { sequence: 1 });
        assert_eq!(run.poll(Instant::from_secs(2)), Some(missed));
        let Some(Step::Summary(summary)) = run.poll(Instant::from_secs(2)) else {
            panic!()
        };
        assert_eq!((summary.sent, summary.answered, summary.nodes), (1, 0, 0));
        assert!(run.is_done());
        assert_eq!(run.next_timeout(), None);
    }

    #[test]
    fn all_nodes_get_their_time_and_each_is_told() {
        let mut run = pinging(NetId::ALL, 1);
        assert_eq!(run.poll(Instant::from_secs(1)), Some(Step::Ask));
        for netid in 1..=3 {
            run.answered(
                Instant(1_100_000),
                NetId(netid),
                Duration::from_millis(100),
                1,
            );
        }
        let later = Instant(1_300_000);
        for _ in 0..3 {
            assert!(matches!(run.poll(later), Some(Step::Answer(_))));
        }
        assert_eq!(run.poll(later), None, "others may still answer");
        let Some(Step::Summary(summary)) = run.poll(Instant(2_500_000)) else {
            panic!()
        };
        assert_eq!((summary.answered, summary.nodes), (1, 3));
    }
}
