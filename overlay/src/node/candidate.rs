//! Endpoints without proof: who may become a neighbor, and what we may still send there.
//!
//! ```text
//!   configured, remembered --.                         .--> live link (Control)
//!   informed ----------------+--> Candidate --Pong-----+
//!   stranger's Hello --------'       | silence          
//!                                    '--> forgotten; whom the owner named is dialed again
//! ```
//!
//! Nothing but Hellos and challenges goes to a candidate, on a schedule that depends on how we
//! came to know it. A stranger never gets more than three times the bytes that came from its
//! address (SECURITY 1.2): a forged source address makes us no weapon.
//!
//! The table is bounded. When it is full the oldest stranger goes; endpoints that the owner named
//! are outside the bound.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::config::{
    AMPLIFICATION, CANDIDATE_LIFETIME, CHALLENGE_LIFETIME, CHALLENGE_SPACING, DIAL_SCHEDULE,
    GREET_INTERVAL, INFORM_SCHEDULE, Limits,
};
use crate::budget::Bucket;
use crate::id::{Endpoint, NetId, Path};
use crate::time::{Duration, Instant};

/// How an endpoint came to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Named by the owner: dialed for ever.
    Configured,
    /// Proven before the last restart: dialed as if the owner had named it, while there is room.
    Remembered,
    /// Named by a neighbor's Inform: three datagrams, then silence.
    Informed {
        /// Who told.
        by: NetId,
    },
    /// It sent us something: one Hello, at most two challenges, within three times its bytes.
    Unsolicited,
}

/// What is due for a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Greet and challenge.
    HelloAndChallenge,
    /// Greet.
    Hello,
    /// Challenge.
    Challenge,
    /// Forget it: the schedule is over.
    GiveUp,
}

/// One endpoint without proof.
#[derive(Debug)]
pub struct Candidate {
    /// Where it is.
    pub path: Path,
    /// How we came to know it.
    pub origin: Origin,
    /// The netid its Hello named; hearsay until a Pong proves it.
    pub claimed: Option<NetId>,
    /// The srcs of our last two challenges, and when they went out: a Pong to one of them is the
    /// proof.
    pub challenges: [Option<(NetId, Instant)>; 2],
    /// When the last challenge went out; for the first round-trip time.
    pub challenged_at: Option<Instant>,
    /// When we last asked in our own name.
    pub pinged_at: Option<Instant>,
    /// When the last Hello went out.
    pub greeted_at: Option<Instant>,
    /// When it became a candidate.
    pub since: Instant,
    /// Bytes that came from there.
    pub received: u64,
    /// Bytes that we sent there.
    pub sent: u64,
    /// Steps taken of the schedule.
    pub step: u32,
    /// When the next step is due.
    next_at: Instant,
    /// Rations its Hellos.
    pub hellos: Bucket,
}

impl Candidate {
    /// A candidate whose first step is due now.
    pub fn new(now: Instant, path: Path, origin: Origin, limits: &Limits) -> Self {
        let rate = limits.hellos_per_endpoint;
        Self {
            path,
            origin,
            claimed: None,
            challenges: [None; 2],
            challenged_at: None,
            pinged_at: None,
            greeted_at: None,
            since: now,
            received: 0,
            sent: 0,
            step: 0,
            next_at: now,
            hellos: Bucket::per_second(rate, rate),
        }
    }

    /// Whether `len` more bytes may be sent there (the 3x rule; named endpoints are outside it).
    pub fn may_send(&self, len: usize) -> bool {
        let len = len as u64;
        match self.origin {
            Origin::Configured | Origin::Remembered => true,
            // Its three probes are its budget; what it sends adds to that.
            Origin::Informed { .. } => self.sent + len <= 48 + AMPLIFICATION * self.received,
            Origin::Unsolicited => self.sent + len <= AMPLIFICATION * self.received,
        }
    }

    /// Whether `dst` is the src of a challenge that may still be answered.
    pub fn is_challenge(&self, now: Instant, dst: NetId) -> bool {
        let mut sent = self.challenges.iter().flatten();
        sent.any(|&(src, at)| src == dst && now.since(at) <= CHALLENGE_LIFETIME)
    }

    /// Whether a Pong to our own netid answers a Ping of ours.
    pub fn is_asked(&self, now: Instant) -> bool {
        self.pinged_at
            .is_some_and(|at| now.since(at) <= CHALLENGE_LIFETIME)
    }

    /// What the schedule says for the step that is due, and moves on to the next.
    ///
    /// `jitter` is uniform in 0..=1000, for the +-20 % of redialing.
    pub fn take_step(&mut self, now: Instant, redial: Duration, jitter: u32) -> Step {
        let step = self.step as usize;
        self.step += 1;
        match self.origin {
            Origin::Configured | Origin::Remembered => {
                self.next_at = match DIAL_SCHEDULE.get(step + 1) {
                    Some(&after) => self.since + after,
                    None => now + redial * (800 + jitter * 400 / 1_000) / 1_000,
                };
                Step::HelloAndChallenge
            }
            Origin::Informed { .. } => {
                let last = INFORM_SCHEDULE[INFORM_SCHEDULE.len() - 1];
                let after = INFORM_SCHEDULE.get(step + 1).copied();
                self.next_at = self.since + after.unwrap_or(last + CANDIDATE_LIFETIME);
                [Step::Hello, Step::Challenge, Step::Hello]
                    .get(step)
                    .copied()
                    .unwrap_or(Step::GiveUp)
            }
            Origin::Unsolicited => {
                self.next_at = if step == 0 {
                    now + CHALLENGE_SPACING
                } else {
                    self.since + GREET_INTERVAL
                };
                let steps = [Step::HelloAndChallenge, Step::Challenge];
                steps.get(step).copied().unwrap_or(Step::GiveUp)
            }
        }
    }

    /// Puts the step that was due off, because a budget was used up.
    pub fn put_off(&mut self, now: Instant, by: Duration) {
        self.step = self.step.saturating_sub(1);
        self.next_at = now + by;
    }

    fn is_bounded(&self) -> bool {
        matches!(self.origin, Origin::Informed { .. } | Origin::Unsolicited)
    }
}

/// Part of an address that one owner usually holds whole: /24 of IPv4, /56 of IPv6.
pub fn prefix_of(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(u32::from(v4) >> 8) | 0xFFFF << 96,
        IpAddr::V6(v6) => u128::from(v6) >> 72,
    }
}

/// All candidates, with their deadlines.
#[derive(Debug, Default)]
pub struct Candidates {
    each: BTreeMap<Endpoint, Candidate>,
    due: BTreeSet<(Instant, Endpoint)>,
    /// Strangers and informed ones by age, for eviction.
    bounded: BTreeSet<(Instant, Endpoint)>,
    by_prefix: BTreeMap<u128, usize>,
}

/// Why an endpoint was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Its prefix has its share of a table that is over 75 % full.
    Prefix,
}

impl Candidates {
    /// The candidate at `endpoint`.
    pub fn get(&self, endpoint: &Endpoint) -> Option<&Candidate> {
        self.each.get(endpoint)
    }

    /// Changes the candidate at `endpoint`; its deadline is kept in order.
    pub fn update<R>(
        &mut self,
        endpoint: &Endpoint,
        change: impl FnOnce(&mut Candidate) -> R,
    ) -> Option<R> {
        let candidate = self.each.get_mut(endpoint)?;
        let before = candidate.next_at;
        let result = change(candidate);
        let after = candidate.next_at;
        if before != after {
            self.due.remove(&(before, *endpoint));
            self.due.insert((after, *endpoint));
        }
        Some(result)
    }

    /// Takes a candidate in; one that is there already is replaced.
    ///
    /// # Errors
    /// [`Full`], and nothing changed, for a stranger or an informed endpoint.
    pub fn insert(&mut self, candidate: Candidate, limits: &Limits) -> Result<(), Full> {
        let endpoint = candidate.path.endpoint;
        self.remove(&endpoint);
        if candidate.is_bounded() {
            let prefix = prefix_of(endpoint.remote.ip());
            let crowded = self.bounded.len() * 4 > limits.candidates * 3;
            let siblings = self.by_prefix.get(&prefix).copied().unwrap_or(0);
            if crowded && siblings >= limits.candidates_per_prefix {
                return Err(Full::Prefix);
            }
            if self.bounded.len() >= limits.candidates
                && let Some(&(_, oldest)) = self.bounded.first()
            {
                self.remove(&oldest);
            }
            self.bounded.insert((candidate.since, endpoint));
            *self.by_prefix.entry(prefix).or_insert(0) += 1;
        }
        self.due.insert((candidate.next_at, endpoint));
        self.each.insert(endpoint, candidate);
        Ok(())
    }

    /// Forgets a candidate.
    pub fn remove(&mut self, endpoint: &Endpoint) -> Option<Candidate> {
        let candidate = self.each.remove(endpoint)?;
        self.due.remove(&(candidate.next_at, *endpoint));
        if self.bounded.remove(&(candidate.since, *endpoint)) {
            let prefix = prefix_of(endpoint.remote.ip());
            if let Some(count) = self.by_prefix.get_mut(&prefix) {
                *count -= 1;
                if *count == 0 {
                    self.by_prefix.remove(&prefix);
                }
            }
        }
        Some(candidate)
    }

    /// The endpoint whose step is due at `now`, the earliest first.
    pub fn due(&self, now: Instant) -> Option<Endpoint> {
        self.due
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|&(_, endpoint)| endpoint)
    }

    /// When the next step is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// All of them, by endpoint.
    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.each.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// How many learned from Inform await proof.
    pub fn informed(&self) -> usize {
        // At most `informed_in_flight` of them, but a scan of a full table is not for each Inform:
        // `bounded` is small unless strangers flood us, and then Informs come from neighbors only.
        self.bounded
            .iter()
            .filter_map(|(_, endpoint)| self.each.get(endpoint))
            .filter(|candidate| matches!(candidate.origin, Origin::Informed { .. }))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SocketId;

    fn at(text: &str) -> Path {
        Path::to(Endpoint::new(SocketId(0), text.parse().unwrap()))
    }

    fn stranger(now: Instant, text: &str) -> Candidate {
        Candidate::new(now, at(text), Origin::Unsolicited, &Limits::default())
    }

    #[test]
    fn a_stranger_gets_at_most_three_times_its_bytes() {
        let mut candidate = stranger(Instant::ZERO, "8.8.8.8:1");
        candidate.received = 16;
        candidate.sent = 32;
        assert!(candidate.may_send(16));
        candidate.sent = 33;
        assert!(!candidate.may_send(16));
    }

    #[test]
    fn an_informed_endpoint_is_probed_three_times_and_then_given_up() {
        let origin = Origin::Informed { by: NetId(7) };
        let start = Instant::from_secs(1);
        let mut candidate = Candidate::new(start, at("8.8.8.8:1"), origin, &Limits::default());
        let mut trace = Vec::new();
        loop {
            let now = candidate.next_at;
            let step = candidate.take_step(now, Duration::from_secs(30), 500);
            trace.push((now.since(start).as_millis(), step));
            if step == Step::GiveUp {
                break;
            }
        }
        let expected = [
            (0, Step::Hello),
            (1_000, Step::Challenge),
            (4_000, Step::Hello),
            (9_000, Step::GiveUp),
        ];
        assert_eq!(trace, expected);
    }

    #[test]
    fn a_configured_peer_is_dialed_on_schedule_and_then_every_redial_interval() {
        let mut candidate = Candidate::new(
            Instant::ZERO,
            at("8.8.8.8:1"),
            Origin::Configured,
            &Limits::default(),
        );
        let mut times = Vec::new();
        for _ in 0..10 {
            times.push(candidate.next_at.0 / 1_000);
            let now = candidate.next_at;
            candidate.take_step(now, Duration::from_secs(30), 500);
        }
        assert_eq!(
            times,
            [
                0, 250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 45_000, 75_000
            ]
        );
    }

    #[test]
    fn a_full_table_forgets_its_oldest_stranger_but_no_configured_peer() {
        let limits = Limits {
            candidates: 4,
            candidates_per_prefix: 100,
            ..Limits::default()
        };
        let mut table = Candidates::default();
        let named = Candidate::new(Instant::ZERO, at("9.9.9.9:1"), Origin::Configured, &limits);
        table.insert(named, &limits).unwrap();
        for n in 0..10u64 {
            table
                .insert(stranger(Instant(n + 1), &format!("8.8.{n}.8:1")), &limits)
                .unwrap();
        }
        assert_eq!(table.len(), 5);
        assert!(table.get(&at("9.9.9.9:1").endpoint).is_some());
        assert!(table.get(&at("8.8.5.8:1").endpoint).is_none());
        assert!(table.get(&at("8.8.6.8:1").endpoint).is_some());
    }

    #[test]
    fn a_prefix_has_a_share_only_while_the_table_is_crowded() {
        let limits = Limits {
            candidates: 8,
            candidates_per_prefix: 2,
            ..Limits::default()
        };
        let mut table = Candidates::default();
        for n in 0..7u64 {
            table
                .insert(stranger(Instant(n), &format!("8.8.8.{n}:1")), &limits)
                .unwrap();
        }
        assert_eq!(
            table.insert(stranger(Instant(8), "8.8.8.9:1"), &limits),
            Err(Full::Prefix)
        );
        table
            .insert(stranger(Instant(9), "8.8.9.9:1"), &limits)
            .unwrap();
    }

    #[test]
    fn deadlines_follow_every_change() {
        let mut table = Candidates::default();
        let limits = Limits::default();
        table
            .insert(stranger(Instant(5), "8.8.8.8:1"), &limits)
            .unwrap();
        let endpoint = at("8.8.8.8:1").endpoint;
        assert_eq!(table.due(Instant(4)), None);
        assert_eq!(table.due(Instant(5)), Some(endpoint));
        table.update(&endpoint, |c| {
            c.take_step(Instant(5), Duration::from_secs(30), 0)
        });
        assert_eq!(table.due(Instant(1_000_004)), None);
        assert_eq!(table.next_timeout(), Some(Instant(1_000_005)));
        table.remove(&endpoint);
        assert_eq!(table.next_timeout(), None);
        assert!(table.by_prefix.is_empty() && table.bounded.is_empty());
    }
}
