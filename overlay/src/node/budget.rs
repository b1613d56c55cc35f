//! Token buckets: how much of something may happen.

use std::collections::BTreeMap;

use crate::time::{Duration, Instant};

/// A token bucket in exact integer arithmetic.
///
/// Units: tokens are counted in microseconds of refill, so that no fraction is lost however
/// often it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Credit at `at`, in microseconds of refill time.
    credit: u64,
    at: Instant,
    /// Microseconds that one token takes to refill.
    price: u64,
    /// The most credit that is kept.
    cap: u64,
}

impl Bucket {
    /// A full bucket: `burst` tokens at once, one more each `interval`.
    pub fn new(now: Instant, interval: Duration, burst: u32) -> Self {
        let price = u64::try_from(interval.as_micros())
            .unwrap_or(u64::MAX)
            .max(1);
        let cap = price.saturating_mul(u64::from(burst.max(1)));
        Self {
            credit: cap,
            at: now,
            price,
            cap,
        }
    }

    /// A full bucket of `rate` tokens per second.
    pub fn per_second(now: Instant, rate: u32, burst: u32) -> Self {
        Self::new(
            now,
            Duration::from_micros(1_000_000 / u64::from(rate.max(1))),
            burst,
        )
    }

    /// Takes one token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.take_many(now, 1)
    }

    /// Takes `n` tokens if there are as many; otherwise none.
    pub fn take_many(&mut self, now: Instant, n: u32) -> bool {
        self.refill(now);
        let cost = self.price.saturating_mul(u64::from(n));
        let enough = self.credit >= cost;
        if enough {
            self.credit -= cost;
        }
        enough
    }

    /// Whether it is full, so that forgetting it changes nothing.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.credit == self.cap
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.0.saturating_sub(self.at.0);
        self.credit = self.credit.saturating_add(passed).min(self.cap);
        self.at = self.at.max(now);
    }
}

/// A bucket for each key, as many as fit; beyond that all new keys share one.
///
/// Cost: a full table is scanned for idle buckets at most once a second.
#[derive(Debug)]
pub struct Buckets<K> {
    interval: Duration,
    burst: u32,
    bound: usize,
    each: BTreeMap<K, Bucket>,
    rest: Bucket,
    scanned_at: Option<Instant>,
}

impl<K: Ord + Copy> Buckets<K> {
    /// Buckets of one token each `interval`, `burst` at once, for at most `bound` keys.
    pub fn new(now: Instant, interval: Duration, burst: u32, bound: usize) -> Self {
        let rest = Bucket::new(now, interval, burst);
        Self {
            interval,
            burst,
            bound,
            each: BTreeMap::new(),
            rest,
            scanned_at: None,
        }
    }

    /// Takes one token of `key`.
    pub fn take(&mut self, now: Instant, key: K) -> bool {
        if let Some(bucket) = self.each.get_mut(&key) {
            return bucket.take(now);
        }
        if self.each.len() >= self.bound {
            self.forget_idle(now);
        }
        if self.each.len() >= self.bound {
            return self.rest.take(now);
        }
        let (interval, burst) = (self.interval, self.burst);
        let bucket = self
            .each
            .entry(key)
            .or_insert_with(|| Bucket::new(now, interval, burst));
        bucket.take(now)
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
            self.each.retain(|_, bucket| !bucket.is_full(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_one_token_per_interval() {
        let mut bucket = Bucket::new(Instant::ZERO, Duration::from_secs(1), 3);
        assert!((0..3).all(|_| bucket.take(Instant::ZERO)));
        assert!(!bucket.take(Instant(999_999)));
        assert!(bucket.take(Instant(1_000_000)));
        assert!(!bucket.take(Instant(1_000_000)));
    }

    #[test]
    fn asking_often_loses_no_fraction_of_a_token() {
        let mut bucket = Bucket::per_second(Instant::ZERO, 3, 1);
        let taken = (0..10_000_000u64)
            .step_by(1_000)
            .filter(|&us| bucket.take(Instant(us)))
            .count();
        assert_eq!(taken, 30);
    }

    #[test]
    fn a_clock_that_stands_still_or_jumps_back_gives_nothing_away() {
        let mut bucket = Bucket::per_second(Instant::from_secs(100), 1, 1);
        assert!(bucket.take(Instant::from_secs(100)));
        assert!(!bucket.take(Instant::from_secs(1)));
        assert!(!bucket.take(Instant::from_secs(100)));
        assert!(bucket.take(Instant::from_secs(101)));
    }

    #[test]
    fn keys_beyond_the_bound_share_one_bucket_until_idle_ones_are_forgotten() {
        let mut buckets = Buckets::new(Instant::ZERO, Duration::from_secs(1), 1, 2);
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
