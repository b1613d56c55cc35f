//! What a certificate's rate class lets a node bring of its own to a neighbor (S106).
//!
//! Fair shares ([`crate::pump::fair`]) count while a node is saturated; an allowance counts always.
//! It is held to where a session proves who speaks: by each neighbor, for what comes over links of
//! the certificate's node in its own name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wire::NetId;
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
    bytes_per_second: AtomicU64,
    level: Level,
    refused: AtomicU64,
}

impl Allowance {
    /// That of a rate class; `None` where it has no bound.
    pub fn of(class: u8) -> Option<Self> {
        Some(Self {
            bytes_per_second: rate_of(class)?.into(),
            level: Level::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// From now on it is that of this class, and what was taken stays taken. Whether the class has a bound.
    fn set_class(&self, class: u8) -> bool {
        let rate = rate_of(class);
        if let Some(rate) = rate {
            self.bytes_per_second.store(rate, Relaxed);
        }
        rate.is_some()
    }

    /// Whether a message of `bytes` is within it.
    ///
    /// Cost: two atomic words; no lock, no allocation.
    pub fn takes(&self, now: Instant, bytes: usize) -> bool {
        let rate = self.bytes_per_second.load(Relaxed);
        let lasts = |bytes: u64| bytes.saturating_mul(SECOND) / rate;
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

/// The allowances of all nodes that are held to a rate, one of each, however many sessions and
/// certificates it has. Calls: by one owner.
#[derive(Debug, Default)]
pub struct Allowances(BTreeMap<NetId, (u8, Arc<Allowance>)>);

impl Allowances {
    /// That of a node whose newest session has this class; `None` where that has no bound.
    ///
    /// State: forgets those of nodes that are gone and have everything back.
    pub fn of(&mut self, now: Instant, netid: NetId, class: u8) -> Option<Arc<Allowance>> {
        if let Some((known, allowance)) = self.0.get_mut(&netid) {
            *known = class;
            return allowance.set_class(class).then(|| allowance.clone());
        }
        let allowance = Arc::new(Allowance::of(class)?);
        self.0
            .retain(|_, (_, known)| Arc::strong_count(known) > 1 || !known.level.is_full(now));
        self.0.insert(netid, (class, allowance.clone()));
        Some(allowance)
    }

    /// The class that a node is held to, and how many of its messages were above it; `None` where it
    /// has none.
    pub fn class(&self, netid: NetId) -> Option<(u8, u64)> {
        let (class, allowance) = self.0.get(&netid)?;
        (*class > 0).then(|| (*class, allowance.refused()))
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

    /// Whoever shows two certificates in turn has no more than by the better one of them.
    #[test]
    fn another_class_of_a_node_is_no_other_allowance_and_fills_none() {
        let (one, other) = (NetId(0x2a), NetId(0x2b));
        let mut all = Allowances::default();
        let bytes: usize = (0..100)
            .map(|turn| {
                let allowance = all.of(Instant::ZERO, one, 1 + turn % 2).unwrap();
                let takes = |_: &i32| allowance.takes(Instant::ZERO, 1_024);
                1_024 * (0..100).take_while(takes).count()
            })
            .sum();
        assert_eq!(bytes as u64, AT_ONCE_BYTES);
        assert_eq!(all.class(one), Some((2, 100)));
        // Neither one without a bound in between, nor somebody else who comes.
        assert!(all.of(Instant::ZERO, one, 0).is_none() && all.class(one).is_none());
        assert!(all.of(Instant::ZERO, other, 1).is_some());
        let again = all.of(Instant::ZERO, one, 1).unwrap();
        assert!(!again.takes(Instant::ZERO, 1_024));
        // Who is gone and has everything back is forgotten.
        drop(again);
        all.of(Instant::from_secs(100), NetId(0x2c), 1);
        assert_eq!(all.0.len(), 1);
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
