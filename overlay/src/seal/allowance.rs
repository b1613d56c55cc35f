//! What a certificate's rate class lets a node bring of its own to a neighbor (S106).
//!
//! Fair shares ([`crate::pump::fair`]) count while a node is saturated; an allowance counts always.
//! It is held to where a session proves who speaks: by each neighbor, for what comes over links of
//! the certificate's node in its own name.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wire::sealed::rate_of;

use crate::budget::Level;
use crate::time::Instant;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// What may come at once: so long at the rate, in nanoseconds.
const AT_ONCE: u64 = SECOND / 4;
/// And no less than this, in bytes: a packet of the slowest class, and a train of others.
const AT_ONCE_BYTES: u64 = 65_536;

/// The allowance of one node, shared by all its sessions. Calls: from any thread at once.
#[derive(Debug)]
pub struct Allowance {
    bytes_per_second: u64,
    level: Level,
    refused: AtomicU64,
}

impl Allowance {
    /// That of a rate class; `None` where it has no bound.
    pub fn of(class: u8) -> Option<Self> {
        Some(Self {
            bytes_per_second: rate_of(class)?,
            level: Level::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// Whether a message of `bytes` is within it.
    ///
    /// Cost: an atomic word; no lock, no allocation.
    pub fn takes(&self, now: Instant, bytes: usize) -> bool {
        let lasts = |bytes: u64| bytes.saturating_mul(SECOND) / self.bytes_per_second;
        let depth = lasts(AT_ONCE_BYTES).max(AT_ONCE);
        let takes = self.level.spend(now, lasts(bytes as u64), depth);
        if !takes {
            self.refused.fetch_add(1, Relaxed);
        }
        takes
    }

    /// Messages that were not.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes taken of messages of `len` that come without end for 100 s.
    fn taken(class: u8, len: usize) -> u64 {
        let allowance = Allowance::of(class).unwrap();
        let rate = rate_of(class).unwrap();
        // One and a half times the rate.
        let gap = len as u64 * 1_000_000 * 2 / (3 * rate);
        let times = (0..).map(|n| Instant(n * gap.max(1)));
        let times = times.take_while(|at| at.0 < 100_000_000);
        len as u64 * times.filter(|at| allowance.takes(*at, len)).count() as u64
    }

    #[test]
    fn a_class_gives_its_rate_and_a_train_at_once() {
        for (class, len) in [(1, 84), (1, 1_400), (5, 1_400), (9, 1_400)] {
            let rate = rate_of(class).unwrap();
            let at_once = AT_ONCE_BYTES.max(rate / 4);
            let bytes = taken(class, len);
            let bound = 100 * rate + at_once;
            assert!(bytes <= bound + len as u64, "{class} {len}: {bytes}");
            assert!(bytes >= 100 * rate - len as u64, "{class} {len}: {bytes}");
        }
    }

    #[test]
    fn class_0_has_no_bound_and_the_largest_message_is_within_every_other_one() {
        assert!(Allowance::of(0).is_none());
        for class in 1..=255 {
            let allowance = Allowance::of(class).unwrap();
            assert!(allowance.takes(Instant::ZERO, 65_535), "{class}");
        }
    }
}
