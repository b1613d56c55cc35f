//! Rate limits: token buckets in one atomic word each.
//!
//! The bucket is kept as the time at which it would be full again (the generic cell rate
//! algorithm, ITU-T I.371 annex A): taking one token moves that time on by one token's worth.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::id::NetId;
use crate::keyed::KeyedHasher;
use crate::time::Instant;

/// How many a second on average, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens a second; 0 lets nothing through.
    pub per_second: u32,
    /// Tokens of a full bucket, at least 1.
    pub burst: u32,
}

impl Rate {
    /// Nanoseconds for one token.
    fn interval(self) -> Option<u64> {
        1_000_000_000_u64.checked_div(u64::from(self.per_second))
    }
}

/// One bucket, full at the start. Calls: from any worker at once.
#[derive(Debug, Default)]
pub struct Bucket {
    /// When it would be full again, nanoseconds since start.
    full_at: AtomicU64,
}

impl Bucket {
    /// Takes a token if there is one.
    pub fn take(&self, now: Instant, rate: Rate) -> bool {
        let Some(interval) = rate.interval() else {
            return false;
        };
        let now = now.0.saturating_mul(1000);
        let depth = interval.saturating_mul(u64::from(rate.burst.max(1)));
        let take = |full_at: u64| {
            let next = full_at.max(now).saturating_add(interval);
            (next - now <= depth).then_some(next)
        };
        self.full_at.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

/// What a flooded frame counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodClass {
    /// Broadcast, and unicast to a station nobody has heard.
    Broadcast,
    /// Multicast.
    Multicast,
}

/// Rates of the two classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StormRates {
    /// Broadcast and unknown unicast together; default 1,000 frames/s, burst 2,000. Too small:
    /// ARP fails in large networks; too large: a bridge loop eats the mesh.
    pub broadcast: Rate,
    /// Multicast; default 20,000 frames/s, burst 40,000, so that media streams pass.
    pub multicast: Rate,
}

impl Default for StormRates {
    fn default() -> Self {
        Self {
            broadcast: Rate {
                per_second: 1_000,
                burst: 2_000,
            },
            multicast: Rate {
                per_second: 20_000,
                burst: 40_000,
            },
        }
    }
}

/// Buckets for origins: so many that two nodes rarely share one, and never more.
const ORIGIN_SLOTS: usize = 4096;

/// Storm control of a TAP: a pair of buckets for the device and for each origin.
///
/// Cost: one compare-and-swap for a flooded frame, no lock. State: 64 KiB, whoever sends.
#[derive(Debug)]
pub struct StormControl {
    rates: StormRates,
    device: [Bucket; 2],
    origins: Box<[[Bucket; 2]]>,
    hasher: KeyedHasher,
}

impl StormControl {
    /// Full buckets.
    pub fn new(rates: StormRates, hasher: KeyedHasher) -> Self {
        Self {
            rates,
            device: Default::default(),
            origins: (0..ORIGIN_SLOTS).map(|_| Default::default()).collect(),
            hasher,
        }
    }

    /// Whether a frame from the device may be flooded.
    pub fn from_device(&self, now: Instant, class: FloodClass) -> bool {
        self.take(now, &self.device, class)
    }

    /// Whether a flooded frame of `origin` may be written to the device.
    pub fn from_origin(&self, now: Instant, origin: NetId, class: FloodClass) -> bool {
        let slot = self.hasher.hash_one(origin.0) as usize % ORIGIN_SLOTS;
        self.take(now, &self.origins[slot], class)
    }

    fn take(&self, now: Instant, pair: &[Bucket; 2], class: FloodClass) -> bool {
        match class {
            FloodClass::Broadcast => pair[0].take(now, self.rates.broadcast),
            FloodClass::Multicast => pair[1].take(now, self.rates.multicast),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 3,
    };

    fn taken(bucket: &Bucket, now: Instant, times: u32) -> u32 {
        (0..times).map(|_| u32::from(bucket.take(now, RATE))).sum()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let bucket = Bucket::default();
        let start = Instant::from_secs(5);
        assert_eq!(taken(&bucket, start, 10), 3);
        let next = start + Duration::from_millis(100);
        assert_eq!(taken(&bucket, next - Duration::from_micros(1), 10), 0);
        assert_eq!(taken(&bucket, next, 10), 1);
        // However long it rests, it holds no more than the burst.
        assert_eq!(taken(&bucket, start + Duration::from_secs(3600), 10), 3);
    }

    #[test]
    fn over_time_no_more_than_the_rate_passes() {
        let bucket = Bucket::default();
        let passed: u32 = (0..10_000_u64)
            .map(|n| taken(&bucket, Instant(n * 1000), 1))
            .sum();
        assert_eq!(passed, 3 + 99);
    }

    #[test]
    fn rate_zero_lets_nothing_through_and_the_end_of_time_does_not_overflow() {
        let none = Rate {
            per_second: 0,
            burst: 5,
        };
        assert!(!Bucket::default().take(Instant::ZERO, none));
        let bucket = Bucket::default();
        let _ = bucket.take(Instant::FAR, RATE);
        let _ = bucket.take(Instant::FAR, RATE);
    }

    #[test]
    fn one_origin_does_not_use_up_anothers_share() {
        let storm = StormControl::new(StormRates::default(), KeyedHasher(1, 2));
        let pass = |origin: u32, class| storm.from_origin(Instant::ZERO, NetId(origin), class);
        let passed = (0..5000).filter(|_| pass(1, FloodClass::Broadcast)).count();
        assert_eq!(passed, 2000);
        assert!(pass(2, FloodClass::Broadcast));
        assert!(pass(1, FloodClass::Multicast));
        assert!(storm.from_device(Instant::ZERO, FloodClass::Broadcast));
    }
}
