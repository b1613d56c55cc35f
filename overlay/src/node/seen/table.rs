//! One table of fixed size: buckets of a cache line, two candidate buckets for each digest.
//!
//! ```text
//! digest   63                      16 15        0
//!         +--------------------------+-----------+
//!         |       fingerprint        |           |   48 bits are kept,
//!         +--------------------------+-----------+   all 64 choose the buckets
//! slot     63                      16 15        0
//!         +--------------------------+-----------+
//!         |       fingerprint        |  second   |   the second it was first seen, modulo 2^16
//!         +--------------------------+-----------+   all zero: never used, or swept
//! ```
//!
//! A slot is one atomic word, so readers see whole entries without a lock. Expiry is by
//! overwriting: an entry past its lifetime counts as free.
//!
//! A message is taken for another by accident when their fingerprints and a bucket agree. The 16
//! bits that are not kept choose the first bucket (all of them from 65,536 buckets, 4 MiB, on), so
//! that the chance is that of 16 comparisons of 48 bits, 6e-14 a message, however full the table.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::{LIFETIME_SECONDS, SHORTEST_SECONDS};
use crate::memory::{LINE_LEN, Line, Lines};

/// Slots of a bucket.
pub(super) const SLOTS: usize = 8;
/// Buckets of the smallest table.
const FEWEST_BUCKETS: usize = 16;
/// The bits of a slot that hold the second.
const SECOND_MASK: u64 = 0xFFFF;

/// A digest made ready for a table: what is kept of it, and when it came.
#[derive(Clone, Copy)]
pub(super) struct Key {
    digest: u64,
    entry: u64,
}

impl Key {
    /// `digest` as seen in `second`.
    #[inline]
    pub(super) fn new(digest: u64, second: u64) -> Self {
        // No entry may be zero, which means a free slot; one fingerprint in 2^48 is bent.
        let fingerprint = match digest & !SECOND_MASK {
            0 => SECOND_MASK + 1,
            some => some,
        };
        Self {
            digest,
            entry: fingerprint | (second & SECOND_MASK),
        }
    }

    /// Whether `slot` holds the same fingerprint.
    #[inline]
    fn matches(self, slot: u64) -> bool {
        (slot ^ self.entry) <= SECOND_MASK
    }

    /// Seconds from `slot`'s entry to this one; negative when another thread's clock was ahead.
    #[inline]
    fn age_of(self, slot: u64) -> i16 {
        age(slot, self.entry)
    }
}

/// Seconds from entry `old` to `now` (of which only the low 16 bits count). Signed: threads read
/// the clock once a batch, so an entry can be a second ahead of its reader, and unsigned it would
/// look 18 hours old.
#[inline]
fn age(old: u64, now: u64) -> i16 {
    (now as u16).wrapping_sub(old as u16) as i16
}

/// Whether a slot holds something that is still remembered.
#[inline]
fn is_live(slot: u64, now: u64) -> bool {
    slot != 0 && age(slot, now) <= LIFETIME_SECONDS as i16
}

/// What the two buckets of a digest hold.
enum Search<'t> {
    Known,
    /// A slot to write, and the value found there.
    Free(&'t AtomicU64, u64),
    /// No slot is free; the oldest entry, and its value.
    Full(&'t AtomicU64, u64),
}

/// What came of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    Known,
    New,
    /// All slots hold live entries; the age in seconds of the oldest. Nothing was written.
    Full(i16),
}

/// A table. See the module page.
#[derive(Debug)]
pub(super) struct Table {
    buckets: Lines,
}

impl Table {
    /// An empty table of at most `bytes`, but at least 1 KiB; memory touched.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            buckets: Lines::zeroed((bytes / LINE_LEN).max(FEWEST_BUCKETS)),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.buckets.len() * LINE_LEN
    }

    pub(super) fn slots(&self) -> u64 {
        (self.buckets.len() * SLOTS) as u64
    }

    /// The two candidate buckets of a digest, never the same.
    #[inline]
    fn places(&self, digest: u64) -> (&Line, &Line) {
        let buckets = self.buckets.len();
        // The 16 bits that the fingerprint lacks come first.
        let first = scale(digest.rotate_left(48), buckets);
        let mut second = scale(digest.wrapping_mul(0x9E37_79B9_7F4A_7C15), buckets);
        if second == first {
            second = (first + 1) % buckets;
        }
        (&self.buckets[first], &self.buckets[second])
    }

    /// Starts to fetch both buckets of `digest`.
    #[inline]
    pub(super) fn prefetch(&self, digest: u64) {
        let (first, second) = self.places(digest);
        first.prefetch();
        second.prefetch();
    }

    /// Whether the key is remembered.
    #[inline]
    pub(super) fn contains(&self, key: Key) -> bool {
        let (first, second) = self.places(key.digest);
        let known = |bucket: &Line| {
            // All eight without a branch; whether a match has expired is asked only if there is
            // one.
            let matches = bucket.0.iter().fold(false, |matches, slot| {
                matches | key.matches(slot.load(Relaxed))
            });
            matches
                && bucket.0.iter().any(|slot| {
                    let slot = slot.load(Relaxed);
                    key.matches(slot) && is_live(slot, key.entry)
                })
        };
        known(first) || known(second)
    }

    /// Remembers the key unless it is remembered.
    ///
    /// Calls: by one thread at a time for one digest; by any number for different ones.
    pub(super) fn insert(&self, key: Key) -> Inserted {
        loop {
            match self.search(key) {
                Search::Known => return Inserted::Known,
                Search::Full(_, value) => return Inserted::Full(key.age_of(value)),
                // A lost exchange means that another digest took the slot: look again.
                Search::Free(slot, value) => {
                    if replace(slot, value, key.entry) {
                        return Inserted::New;
                    }
                }
            }
        }
    }

    /// Remembers the key in place of the oldest entry of its buckets; returns that one's age in
    /// seconds when it was still live.
    ///
    /// Calls: as [`Self::insert`].
    pub(super) fn displace(&self, key: Key) -> Option<i16> {
        loop {
            let (slot, value, age) = match self.search(key) {
                Search::Known => return None,
                Search::Free(slot, value) => (slot, value, None),
                Search::Full(slot, value) => (slot, value, Some(key.age_of(value))),
            };
            if replace(slot, value, key.entry) {
                return age;
            }
        }
    }

    fn search(&self, key: Key) -> Search<'_> {
        let (first, second) = self.places(key.digest);
        let mut most = 0;
        let mut free = None;
        for bucket in [first, second] {
            let mut count = 0;
            let mut last = None;
            for slot in &bucket.0 {
                let value = slot.load(Relaxed);
                if !is_live(value, key.entry) {
                    count += 1;
                    last = Some((slot, value));
                } else if key.matches(value) {
                    return Search::Known;
                }
            }
            // The emptier of the two buckets: this is what lets a table fill to over 95 %.
            if count > most {
                most = count;
                free = last;
            }
        }
        match free {
            Some((slot, value)) => Search::Free(slot, value),
            None => oldest(key, first, second),
        }
    }

    /// Frees the expired slots of one part of the table.
    ///
    /// Shape: `part` below `parts`.
    pub(super) fn sweep(&self, second: u64, part: usize, parts: usize) {
        let edge = |part: usize| self.buckets.len() * part / parts;
        for bucket in &self.buckets[edge(part)..edge(part + 1)] {
            for slot in &bucket.0 {
                let value = slot.load(Relaxed);
                if value != 0 && !is_live(value, second) {
                    // A lost exchange means that the slot was just taken.
                    replace(slot, value, 0);
                }
            }
        }
    }

    /// Slots that are not free, expired ones among them.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        let slots = self.buckets.iter().flat_map(|bucket| &bucket.0);
        slots.filter(|slot| slot.load(Relaxed) != 0).count()
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for slot in self.buckets.iter().flat_map(|bucket| &bucket.0) {
            slot.store(0, Relaxed);
        }
    }
}

/// The oldest entry of that bucket of two which has more entries that may be displaced, so that
/// what may not spreads evenly; of two alike, of the one with the older.
#[cold]
fn oldest<'t>(key: Key, first: &'t Line, second: &'t Line) -> Search<'t> {
    let candidate = |bucket: &'t Line| {
        let slot = &bucket.0[0];
        let (mut oldest, mut value) = (slot, slot.load(Relaxed));
        let mut displaceable = 0;
        for slot in &bucket.0 {
            let found = slot.load(Relaxed);
            displaceable += u32::from(key.age_of(found) > SHORTEST_SECONDS as i16);
            if key.age_of(found) > key.age_of(value) {
                (oldest, value) = (slot, found);
            }
        }
        (displaceable, oldest, value)
    };
    let (one, other) = (candidate(first), candidate(second));
    let rank = |(displaceable, _, value): (u32, _, u64)| (displaceable, key.age_of(value));
    let (_, slot, value) = if rank(one) >= rank(other) { one } else { other };
    Search::Full(slot, value)
}

fn replace(slot: &AtomicU64, old: u64, new: u64) -> bool {
    slot.compare_exchange(old, new, Relaxed, Relaxed).is_ok()
}

/// Scales a number of 64 bits down to `0..buckets`, by its high bits, without a division.
#[inline]
fn scale(number: u64, buckets: usize) -> usize {
    ((u128::from(number) * buckets as u128) >> 64) as usize
}
