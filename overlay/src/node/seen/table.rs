//! One table of fixed size: buckets of a cache line, two candidate buckets for each digest.
//!
//! ```text
//! digest   63                      16 15        0
//!         +--------------------------+-----------+
//!         |       fingerprint        |           |   48 bits are kept,
//!         +--------------------------+-----------+   all 64 choose the buckets
//! slot     63       48 47                       0
//!         +-----------+--------------------------+
//!         |  second   |       fingerprint        |   the second it was first seen, counted
//!         +-----------+--------------------------+   from the table's epoch, modulo 2^16
//! ```
//!
//! A slot is one atomic word, so readers see whole entries without a lock. Nothing is ever
//! removed: an entry past its lifetime counts as free and is overwritten. Zero is an entry like
//! any other; the epoch is so early that it expired before the table was made.
//!
//! # How two threads cannot both insert a digest
//!
//! An insert is one compare-and-exchange, without a lock and without a second look. It rests on
//! three rules, none of which asks a thread's own clock, since two threads read different ones:
//!
//! 1. Whoever writes to a bucket, writes to its oldest slot (of equal ones, the first).
//! 2. What is written is newer than what it replaces.
//! 3. Of its two buckets a digest goes into the one that is older in total ([`View::sum`]).
//!
//! *A bucket is a queue.* By 1 and 2 each writer has seen the write before its own, or it would
//! have chosen that slot, and failed. So if the oldest slot of a view is unchanged later, the
//! whole bucket is what it was: the view was true at that moment. [`Spot::take`] assures itself of
//! this for both buckets: by looking at one again, and by the exchange itself for the other.
//!
//! *So one wins.* Let two threads insert the same digest, one into bucket A, one into B, and
//! neither see the other's. The first saw A no younger than B: `A1 <= B1`; the second saw B older:
//! `B2 < A2`. The first's view of B is from before the second's write, and a bucket's sum only
//! rises: `B1 <= B2`. Likewise `A2 <= A1`. Together `A1 <= B1 <= B2 < A2 <= A1`, which cannot be.
//! And in the same bucket both want the same slot, which one exchange gets.
//!
//! The one exception to rule 2 is an entry displaced in its own second, when hundreds of others
//! of that second have filled the overflow, too; see [`super::round`].
//!
//! # How likely a mistake is
//!
//! A message is taken for another by accident when their fingerprints and a bucket agree. The 16
//! bits that are not kept choose the first bucket (all of them from 65,536 buckets, 4 MiB, on), so
//! that the chance is that of 16 comparisons of 48 bits, 6e-14 a message, and that two of the live
//! digests agree in all 64 bits, 2e-12 with 30 million of them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::LIFETIME_SECONDS;
use crate::memory::{LINE_LEN, Line, Lines};

/// Slots of a bucket.
pub(super) const SLOTS: usize = 8;
/// Buckets of the smallest table.
const FEWEST_BUCKETS: usize = 16;
/// Both buckets of a digest lie in the same group of so many: a page of 4 KiB. The second then
/// needs no address translation of its own, which saves a fifth of the time of an insert; two
/// choices among 64 buckets spread nearly as evenly as among all.
const GROUP: usize = 64;
/// Bits of a fingerprint, and the position of the second in a slot.
const FINGERPRINT_BITS: u32 = 48;
/// Age that slots have which were never used, and that the sweep gives to stale ones.
const EXPIRED_AGE: u64 = LIFETIME_SECONDS as u64 + 100;
/// From this age on the sweep makes an entry younger, long before its 16-bit second comes round.
pub(super) const STALE_AGE: i16 = 1000;

/// A digest as one table knows it.
#[derive(Clone, Copy)]
struct Key {
    digest: u64,
    entry: u64,
}

/// What a thread saw of a bucket in which its digest is not.
struct View<'t> {
    /// Sum of the slots' seconds, relative to the thread's: the lower, the older in total.
    sum: i64,
    /// The oldest slot and what it held.
    oldest: &'t AtomicU64,
    value: u64,
}

/// Where a digest that was not found goes.
pub(super) struct Spot<'t> {
    /// The bucket it goes to, and the other one.
    chosen: View<'t>,
    other: View<'t>,
    entry: u64,
}

/// A table. See the module page.
#[derive(Debug)]
pub(super) struct Table {
    buckets: Lines,
    /// The second that a slot's second of zero means.
    epoch: u64,
}

impl Table {
    /// An empty table of at most `bytes`, but at least 1 KiB, made in `second`; memory touched.
    pub(super) fn new(bytes: usize, second: u64) -> Self {
        let buckets = (bytes / LINE_LEN).max(FEWEST_BUCKETS);
        // Whole groups, or one small one of pairs.
        let unit = if buckets < GROUP { 2 } else { GROUP };
        Self::with_buckets(buckets / unit * unit, second)
    }

    /// Shape: an even number of buckets; from [`GROUP`] on a multiple of it.
    pub(super) fn with_buckets(buckets: usize, second: u64) -> Self {
        Self {
            buckets: Lines::zeroed(buckets),
            epoch: second.wrapping_sub(EXPIRED_AGE),
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
        let mixed = digest.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let group = first / GROUP * GROUP;
        let mut second = group + scale(mixed, GROUP.min(buckets));
        if second == first {
            second = first ^ 1;
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

    #[inline]
    fn key(&self, digest: u64, second: u64) -> Key {
        let second = second.wrapping_sub(self.epoch);
        Key {
            digest,
            entry: second << FINGERPRINT_BITS | digest >> (64 - FINGERPRINT_BITS),
        }
    }

    /// Whether the digest is remembered.
    #[inline]
    pub(super) fn contains(&self, digest: u64, second: u64) -> bool {
        let key = self.key(digest, second);
        let (first, second) = self.places(key.digest);
        let known = |bucket: &Line| {
            // All eight without a branch; whether a match has expired is asked only if there is
            // one.
            let matches = bucket.0.iter().fold(false, |matches, slot| {
                matches | is_match(difference(slot.load(SeqCst), key.entry))
            });
            matches
                && bucket.0.iter().any(|slot| {
                    let difference = difference(slot.load(SeqCst), key.entry);
                    is_match(difference) && is_live(difference)
                })
        };
        known(first) || known(second)
    }

    /// Where the digest goes; `None` if it is remembered.
    #[inline]
    pub(super) fn search(&self, digest: u64, second: u64) -> Option<Spot<'_>> {
        self.search_in_steps(digest, second, || ())
    }

    /// [`Self::search`] with something to happen before each look: for tests, which put there what
    /// other threads may do.
    #[inline]
    pub(super) fn search_in_steps(
        &self,
        digest: u64,
        second: u64,
        mut before: impl FnMut(),
    ) -> Option<Spot<'_>> {
        let key = self.key(digest, second);
        let (first, second) = self.places(key.digest);
        let first = View::of(first, key.entry, &mut before)?;
        let second = View::of(second, key.entry, &mut before)?;
        let (chosen, other) = if first.sum <= second.sum {
            (first, second)
        } else {
            (second, first)
        };
        Some(Spot {
            chosen,
            other,
            entry: key.entry,
        })
    }

    /// Makes the stale entries of one part of the table younger, though not live again, so that
    /// none lives to see its 16-bit second come round.
    ///
    /// Shape: `part` below `parts`.
    pub(super) fn sweep(&self, second: u64, part: usize, parts: usize) {
        let edge = |part: usize| self.buckets.len() * part / parts;
        let now = self.key(0, second).entry;
        for bucket in &self.buckets[edge(part)..edge(part + 1)] {
            // By the rules of the module page: the oldest first, and it becomes newer. A lost
            // exchange means that the slot was just taken.
            while let Some(view) = View::of(bucket, now, || ())
                && age(view.value, now) > STALE_AGE
            {
                let expired = now.wrapping_sub(EXPIRED_AGE << FINGERPRINT_BITS);
                replace(view.oldest, view.value, expired);
            }
        }
    }

    /// Forgets everything. No thread may be inserting.
    pub(super) fn clear(&self, second: u64) {
        let expired = self.key(0, second.wrapping_sub(EXPIRED_AGE)).entry;
        for slot in self.buckets.iter().flat_map(|bucket| &bucket.0) {
            slot.store(expired, Relaxed);
        }
    }

    /// Live entries, and the age of the oldest slot.
    #[cfg(test)]
    pub(super) fn look(&self, second: u64) -> (usize, i16) {
        let now = self.key(0, second).entry;
        let slots = self.buckets.iter().flat_map(|bucket| &bucket.0);
        let ages = slots.map(|slot| age(slot.load(SeqCst), now));
        ages.fold((0, i16::MIN), |(live, oldest), age| {
            let is_live = age <= LIFETIME_SECONDS as i16;
            (live + usize::from(is_live), oldest.max(age))
        })
    }
}

impl<'t> View<'t> {
    /// `None` if the digest of `entry` is there.
    #[inline(always)]
    fn of(bucket: &'t Line, entry: u64, mut before: impl FnMut()) -> Option<Self> {
        let mut sum = 0;
        let (mut oldest, mut least) = (0, i64::MAX);
        for (place, slot) in bucket.0.iter().enumerate() {
            before();
            let difference = difference(slot.load(SeqCst), entry);
            if is_match(difference) && is_known(difference) {
                return None;
            }
            // An eighth of each, or the sum could overflow.
            sum += difference >> 3;
            if difference < least {
                (oldest, least) = (place, difference);
            }
        }
        Some(Self {
            sum,
            oldest: &bucket.0[oldest],
            value: entry.wrapping_add(least as u64),
        })
    }
}

impl Spot<'_> {
    /// Age in seconds of the entry that must go; it is live up to the lifetime.
    #[inline]
    pub(super) fn age(&self) -> i16 {
        age(self.chosen.value, self.entry)
    }

    /// Writes the digest here; returns whether it did. If not, others have written there
    /// meanwhile, and one has to search again.
    #[inline]
    pub(super) fn take(&self) -> bool {
        self.other.oldest.load(SeqCst) == self.other.value
            && replace(self.chosen.oldest, self.chosen.value, self.entry)
    }
}

/// How much newer `slot` is than `entry`: seconds in the high 16 bits, fingerprints in the others,
/// so that slots are ordered by it whatever the second of `entry` is.
#[inline]
fn difference(slot: u64, entry: u64) -> i64 {
    slot.wrapping_sub(entry) as i64
}

/// Whether the fingerprints are the same.
#[inline]
fn is_match(difference: i64) -> bool {
    difference << (64 - FINGERPRINT_BITS) == 0
}

/// [`is_live`] where it is hardly ever asked, so that it is not computed for all slots in advance.
#[cold]
fn is_known(difference: i64) -> bool {
    is_live(difference)
}

/// Whether a slot whose fingerprint is the same is still remembered.
#[inline]
fn is_live(difference: i64) -> bool {
    difference >> FINGERPRINT_BITS >= -i64::from(LIFETIME_SECONDS)
}

/// Seconds from `slot`'s entry to `entry`. Signed: threads read the clock once a batch, so an entry
/// can be a second ahead of its reader, and unsigned it would look 18 hours old.
#[inline]
fn age(slot: u64, entry: u64) -> i16 {
    let second = |entry: u64| (entry >> FINGERPRINT_BITS) as u16;
    second(entry).wrapping_sub(second(slot)) as i16
}

#[inline]
fn replace(slot: &AtomicU64, old: u64, new: u64) -> bool {
    // Sequentially consistent, as all loads of slots are: `round.rs` orders them with those of the
    // overflow and of the list of tables. On x86-64 that costs nothing.
    slot.compare_exchange(old, new, SeqCst, Relaxed).is_ok()
}

/// Scales a number of 64 bits down to `0..buckets`, by its high bits, without a division.
#[inline]
fn scale(number: u64, buckets: usize) -> usize {
    ((u128::from(number) * buckets as u128) >> 64) as usize
}
