//! Ports that are part of a loop: nodes that bridge the same LAN, and our own device.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::id::NetId;
use crate::keyed::KeyedHasher;
use crate::time::{Duration, Instant};

/// Slots: more nodes on one LAN than anyone has; where two share one the later goes first.
const SLOTS: usize = 1024;

/// Until when each port is blocked.
///
/// Calls: from any worker at once. Cost: one load while nothing is blocked, else a hash and a load;
/// no lock. State: 8 KiB, whoever is blocked.
#[derive(Debug)]
pub struct Blocked {
    /// Netid, and the second at which the block ends.
    slots: Box<[AtomicU64]>,
    /// The end of the last block, in seconds.
    last: AtomicU64,
    hasher: KeyedHasher,
}

impl Blocked {
    /// Nothing is blocked.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::default()).collect(),
            last: AtomicU64::new(0),
            hasher,
        }
    }

    /// Blocks a port for so long, in whole seconds rounded up; returns whether it was not blocked.
    pub fn block(&self, now: Instant, port: NetId, lifetime: Duration) -> bool {
        let end = (now + lifetime).0.div_ceil(1_000_000);
        let end = end.min(u64::from(u32::MAX));
        let was_blocked = self.contains(now, port);
        self.slot(port)
            .store(u64::from(port.0) << 32 | end, Relaxed);
        self.last.fetch_max(end, Relaxed);
        !was_blocked
    }

    /// Whether a port is blocked.
    pub fn contains(&self, now: Instant, port: NetId) -> bool {
        let second = now.as_secs();
        if second >= self.last.load(Relaxed) {
            return false;
        }
        let word = self.slot(port).load(Relaxed);
        word >> 32 == u64::from(port.0) && second < word & u64::from(u32::MAX)
    }

    fn slot(&self, port: NetId) -> &AtomicU64 {
        &self.slots[self.hasher.hash_one(port.0) as usize % SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NetId = NetId(0xA);
    const LIFETIME: Duration = Duration::from_secs(60);

    #[test]
    fn a_block_ends_with_its_lifetime_and_is_new_once() {
        let blocked = Blocked::new(KeyedHasher(1, 2));
        let start = Instant(5_500_000);
        assert!(!blocked.contains(start, A));
        assert!(blocked.block(start, A, LIFETIME));
        assert!(!blocked.block(start + Duration::from_secs(10), A, LIFETIME));
        assert!(blocked.contains(Instant(75_999_999), A));
        assert!(!blocked.contains(Instant(76_000_000), A));
        assert!(!blocked.contains(start, NetId(0xB)));
        assert!(blocked.block(Instant(76_000_000), A, LIFETIME));
    }

    #[test]
    fn dozens_are_blocked_at_once_and_thousands_cost_no_memory() {
        let blocked = Blocked::new(KeyedHasher(1, 2));
        for port in 1..=30 {
            blocked.block(Instant::ZERO, NetId(port), LIFETIME);
        }
        let kept = |port: &u32| blocked.contains(Instant::ZERO, NetId(*port));
        assert!((1..=30).filter(kept).count() >= 28);
        for port in 1..100_000 {
            blocked.block(Instant::ZERO, NetId(port), LIFETIME);
        }
        assert_eq!(blocked.slots.len(), SLOTS);
        assert!(kept(&99_999));
    }
}
