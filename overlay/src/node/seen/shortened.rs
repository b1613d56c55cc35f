//! How far the lifetime is shortened at present, for those who look at the node.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::SHORTEST_SECONDS;

/// The shortest age at which a live entry was displaced, in this half minute and the one before.
#[derive(Debug)]
pub(super) struct Shortened {
    /// Number of the half minute and age, packed as `number << 16 | age`.
    halves: [AtomicU64; 2],
}

impl Shortened {
    pub(super) fn new() -> Self {
        Self {
            halves: [const { AtomicU64::new(u64::MAX) }; 2],
        }
    }

    /// Remembers that in `second` an entry of that age was displaced.
    pub(super) fn note(&self, second: u64, age: i16) {
        let half = second / u64::from(SHORTEST_SECONDS);
        let age = age.max(0) as u64;
        let slot = &self.halves[(half % 2) as usize];
        let old = slot.load(Relaxed);
        if old >> 16 != half || age < old & 0xFFFF {
            // Two threads at once: either age may stay, and both are true.
            slot.store(half << 16 | age, Relaxed);
        }
    }

    /// That age in seconds; `u16::MAX` when none was displaced.
    pub(super) fn get(&self, second: u64) -> u16 {
        let half = second / u64::from(SHORTEST_SECONDS);
        let halves = self.halves.iter().map(|slot| slot.load(Relaxed));
        halves
            .filter(|slot| half.saturating_sub(slot >> 16) <= 1)
            .map(|slot| slot as u16)
            .min()
            .unwrap_or(u16::MAX)
    }
}
