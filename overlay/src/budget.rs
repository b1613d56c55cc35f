//! Token buckets: how much of something may happen.
//!
//! A bucket is kept as the time at which it would be full again (the generic cell rate algorithm,
//! ITU-T I.371 annex A): taking one token moves that time on by one token's worth. One atomic word
//! is all its state, so that workers share one without a lock. Three sizes of the same thing:
//! [`Level`] is the word alone, where thousands have one [`Rate`]; [`Bucket`] has its own;
//! [`Buckets`] has one for each key.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::time::{Duration, Instant};

/// How often on average, and how often at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that one token takes to come back.
    interval: u64,
    /// Tokens of a full bucket; none lets nothing through.
    burst: u32,
}

impl Rate {
    /// `tokens` a second, `burst` (at least one) at once; 0 a second lets nothing through.
    pub const fn per_second(tokens: u32, burst: u32) -> Self {
        if tokens == 0 {
            return Self {
                interval: 1,
                burst: 0,
            };
        }
        Self {
            interval: 1_000_000_000 / tokens as u64,
            burst: if burst == 0 { 1 } else { burst },
        }
    }

    /// One token each `interval`, `burst` (at least one) at once.
    pub fn every(interval: Duration, burst: u32) -> Self {
        Self {
            interval: u64::try_from(interval.as_nanos())
                .unwrap_or(u64::MAX)
                .max(1),
            burst: burst.max(1),
        }
    }
}

/// How full a bucket of a known rate is; full at the start. Calls: from any thread at once.
#[derive(Debug, Default)]
pub struct Level {
    /// When it would be full again, nanoseconds since start.
    full_at: AtomicU64,
}

impl Level {
    /// Takes a token if there is one.
    pub fn take(&self, now: Instant, rate: Rate) -> bool {
        let depth = rate.interval.saturating_mul(u64::from(rate.burst));
        self.spend(now, rate.interval, depth)
    }

    /// Takes what comes back in `cost`, if a bucket that fills in `depth` has so much; both in
    /// nanoseconds.
    pub fn spend(&self, now: Instant, cost: u64, depth: u64) -> bool {
        let now = nanos(now);
        let take = |full_at: u64| {
            let next = full_at.max(now).saturating_add(cost);
            (next - now <= depth).then_some(next)
        };
        self.full_at.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    /// Whether it is full, so that forgetting it changes nothing.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.load(Relaxed) <= nanos(now)
    }
}

fn nanos(now: Instant) -> u64 {
    now.0.saturating_mul(1_000)
}

/// A bucket with its rate; full at the start. Calls: from any thread at once.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    level: Level,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            level: Level::default(),
        }
    }

    /// A full bucket of `tokens` a second, `burst` at once.
    pub fn per_second(tokens: u32, burst: u32) -> Self {
        Self::new(Rate::per_second(tokens, burst))
    }

    /// Takes a token if there is one.
    pub fn take(&self, now: Instant) -> bool {
        self.level.take(now, self.rate)
    }
}

/// A bucket for each key, as many as fit; beyond that all new keys share one.
///
/// Cost: a full table is scanned for idle buckets at most once a second.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    bound: usize,
    each: BTreeMap<K, Level>,
    rest: Level,
    scanned_at: Option<Instant>,
}

impl<K: Ord + Copy> Buckets<K> {
    /// Buckets of one rate for at most `bound` keys.
    pub fn new(rate: Rate, bound: usize) -> Self {
        Self {
            rate,
            bound,
            each: BTreeMap::new(),
            rest: Level::default(),
            scanned_at: None,
        }
    }

    /// Takes one token of `key`.
    pub fn take(&mut self, now: Instant, key: K) -> bool {
        if let Some(level) = self.each.get(&key) {
            return level.take(now, self.rate);
        }
        if self.each.len() >= self.bound {
            self.forget_idle(now);
        }
        if self.each.len() >= self.bound {
            return self.rest.take(now, self.rate);
        }
        self.each.entry(key).or_default().take(now, self.rate)
    }

    /// Keys with a bucket of their own.
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// Whether no key has a bucket of its own.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    fn forget_idle(&mut self, now: Instant) {
        let due = self
            .scanned_at
            .is_none_or(|at| now.since(at) >= Duration::from_secs(1));
        if due {
            self.scanned_at = Some(now);
            self.each.retain(|_, level| !level.is_full(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &Bucket, now: Instant, times: u32) -> u32 {
        (0..times).map(|_| u32::from(bucket.take(now))).sum()
    }

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_its_rate() {
        let bucket = Bucket::per_second(10, 3);
        let start = Instant::from_secs(5);
        assert_eq!(taken(&bucket, start, 10), 3);
        let next = start + Duration::from_millis(100);
        assert_eq!(taken(&bucket, next - Duration::from_micros(1), 10), 0);
        assert_eq!(taken(&bucket, next, 10), 1);
        // However long it rests, it holds no more than the burst.
        assert_eq!(taken(&bucket, start + Duration::from_secs(3600), 10), 3);
    }

    #[test]
    fn over_time_no_more_than_the_rate_passes_and_no_less() {
        let bucket = Bucket::per_second(10, 3);
        let passed: u32 = (0..10_000_u64)
            .map(|n| taken(&bucket, Instant(n * 1000), 1))
            .sum();
        assert_eq!(passed, 3 + 99);
        // A third of a second is no whole number of anything: asking often loses none of it.
        let bucket = Bucket::per_second(3, 1);
        let taken = (0..10_000_000_u64)
            .step_by(1_000)
            .filter(|&us| bucket.take(Instant(us)))
            .count();
        assert_eq!(taken, 30);
    }

    #[test]
    fn tokens_that_take_longer_than_a_second_come_one_by_one() {
        let bucket = Bucket::new(Rate::every(Duration::from_secs(10), 16));
        assert_eq!(taken(&bucket, Instant::ZERO, 20), 16);
        assert_eq!(taken(&bucket, Instant(9_999_999), 20), 0);
        assert_eq!(taken(&bucket, Instant(10_000_000), 20), 1);
    }

    #[test]
    fn a_clock_that_stands_still_or_jumps_back_gives_nothing_away() {
        let bucket = Bucket::per_second(1, 1);
        assert!(bucket.take(Instant::from_secs(100)));
        assert!(!bucket.take(Instant::from_secs(1)));
        assert!(!bucket.take(Instant::from_secs(100)));
        assert!(bucket.take(Instant::from_secs(101)));
    }

    #[test]
    fn rate_zero_lets_nothing_through_and_the_end_of_time_does_not_overflow() {
        assert!(!Bucket::per_second(0, 5).take(Instant::ZERO));
        assert!(Bucket::per_second(5, 0).take(Instant::ZERO));
        for rate in [
            Rate::per_second(10, 3),
            Rate::every(Duration::MAX, u32::MAX),
        ] {
            let bucket = Bucket::new(rate);
            let _ = bucket.take(Instant::FAR);
            let _ = bucket.take(Instant::FAR);
        }
    }

    #[test]
    fn keys_beyond_the_bound_share_one_bucket_until_idle_ones_are_forgotten() {
        let mut buckets = Buckets::new(Rate::per_second(1, 1), 2);
        assert!(buckets.take(Instant::ZERO, 1));
        assert!(buckets.take(Instant::ZERO, 2));
        assert!(
            buckets.take(Instant::ZERO, 3),
            "the shared bucket has one token"
        );
        assert!(!buckets.take(Instant::ZERO, 4), "and only one");
        assert_eq!(buckets.len(), 2);
        assert!(
            buckets.take(Instant::from_secs(2), 5),
            "1 and 2 are idle and forgotten"
        );
        assert_eq!(buckets.len(), 1);
    }
}
