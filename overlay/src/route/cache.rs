//! A worker's memory of recent decisions, so that a steady flow costs no look-up in shared tables.
//!
//! Direct-mapped: a key has one slot, a collision costs one look-up. What is in it was true in one
//! snapshot and within one second, so shared tables are read, and last-seen times written, at most
//! once a second per flow.

use crate::time::Instant;

/// Slots: more flows at once than this mean look-ups, nothing worse.
const SLOTS: usize = 64;

/// Decisions of this second, made under one snapshot.
#[derive(Debug)]
pub(super) struct FlowCache<K, V> {
    slots: Box<[Option<(K, V)>; SLOTS]>,
    epoch: u64,
    second: u64,
}

/// A key that can name its slot. Who chooses keys can make them collide, which makes his own flows
/// slow and no other thing.
pub(super) trait FlowKey: Copy + Eq {
    /// Bits that differ between flows.
    fn fold(&self) -> u64;
}

impl<K: FlowKey, V: Copy> FlowCache<K, V> {
    pub(super) fn new() -> Self {
        Self {
            slots: Box::new([const { None }; SLOTS]),
            epoch: 0,
            second: 0,
        }
    }

    /// Forgets everything when the snapshot or the second is another than last time. Once a packet.
    pub(super) fn renew(&mut self, epoch: u64, now: Instant) {
        let second = now.as_secs();
        if self.epoch != epoch || self.second != second {
            (self.epoch, self.second) = (epoch, second);
            self.slots.fill(None);
        }
    }

    pub(super) fn find(&self, key: &K) -> Option<V> {
        let (known, value) = self.slots[slot(key)].as_ref()?;
        (known == key).then_some(*value)
    }

    pub(super) fn put(&mut self, key: K, value: V) {
        self.slots[slot(&key)] = Some((key, value));
    }
}

fn slot<K: FlowKey>(key: &K) -> usize {
    // Multiplicative hashing (Knuth 6.4): the upper bits depend on all bits of the key.
    (key.fold().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize
}

/// Folds an address for [`FlowKey::fold`].
pub(super) fn fold(address: std::net::IpAddr) -> u64 {
    match address {
        std::net::IpAddr::V4(v4) => u64::from(u32::from(v4)),
        std::net::IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(17)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl FlowKey for u64 {
        fn fold(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn decisions_last_for_a_second_and_a_snapshot() {
        let mut cache = FlowCache::new();
        cache.renew(1, Instant::from_secs(5));
        cache.put(7_u64, 'a');
        assert_eq!(cache.find(&7), Some('a'));
        cache.renew(1, Instant(5_999_999));
        assert_eq!(cache.find(&7), Some('a'));
        cache.renew(1, Instant::from_secs(6));
        assert_eq!(cache.find(&7), None);
        cache.put(7, 'b');
        cache.renew(2, Instant::from_secs(6));
        assert_eq!(cache.find(&7), None);
    }

    #[test]
    fn a_collision_replaces_and_never_confuses() {
        let mut cache = FlowCache::new();
        cache.renew(1, Instant::ZERO);
        for key in 0..1000_u64 {
            cache.put(key, key);
        }
        for key in 0..1000 {
            assert!(cache.find(&key).is_none_or(|value| value == key));
        }
        assert_eq!(cache.find(&999), Some(999));
    }
}
