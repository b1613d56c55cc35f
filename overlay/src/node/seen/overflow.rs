//! The few digests for which a table has no slot and which must not be lost.
//!
//! Used while a larger table is being made, and where chance filled the buckets of a table that
//! is not full. Small, ordered, behind a lock; which digests are not in it is known without the
//! lock, from one bit of [`Overflow::marks`].

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use super::{LIFETIME_SECONDS, SHORTEST_SECONDS, lock};

/// Words of the marks: eight bits to each entry at most, so that few digests ask in vain.
const MARKS: usize = 1024;

/// See the module page.
#[derive(Debug)]
pub(super) struct Overflow {
    /// A bit for each digest that is in `entries`, by 16 bits of it; others may share it.
    marks: Box<[AtomicU64]>,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// When each digest came, in seconds.
    seconds: BTreeMap<u64, u64>,
    /// When expired entries were last removed.
    purged: u64,
}

/// What came of an insert into the overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is remembered here.
    New,
    /// It was, or it is remembered elsewhere.
    Known,
    /// There is no room.
    Full,
}

impl Overflow {
    pub(super) fn new() -> Self {
        Self {
            marks: std::iter::repeat_with(AtomicU64::default)
                .take(MARKS)
                .collect(),
            entries: Mutex::default(),
        }
    }

    /// Whether `digest` is remembered here.
    #[inline]
    pub(super) fn contains(&self, digest: u64, second: u64) -> bool {
        let (word, bit) = mark(digest);
        self.marks[word].load(SeqCst) & bit != 0 && self.look(digest, second)
    }

    #[cold]
    fn look(&self, digest: u64, second: u64) -> bool {
        lock(&self.entries).contains(digest, second)
    }

    /// Remembers `digest` unless it is known here or, by then, `elsewhere`, and unless that would
    /// make more than `most` entries; and says how many were forgotten early for that, none of
    /// them younger than 30 s.
    ///
    /// State: `elsewhere` is asked after the digest's mark has been set: whoever inserts the
    ///        digest elsewhere and looks for the mark then either is found, or finds it.
    pub(super) fn insert(
        &self,
        digest: u64,
        second: u64,
        most: usize,
        elsewhere: impl FnOnce() -> bool,
    ) -> (Entered, u64) {
        let mut entries = lock(&self.entries);
        if entries.contains(digest, second) {
            return (Entered::Known, 0);
        }
        // Once a second: going through all takes longer than the data path has for a message.
        let mut early = 0;
        if entries.seconds.len() >= most && entries.purged != second {
            early = entries.purge(second, most);
            self.mark(&entries);
        }
        if entries.seconds.len() >= most {
            return (Entered::Full, early);
        }
        let (word, bit) = mark(digest);
        self.marks[word].fetch_or(bit, SeqCst);
        if elsewhere() {
            return (Entered::Known, early);
        }
        entries.seconds.insert(digest, second);
        (Entered::New, early)
    }

    /// Removes what is expired.
    pub(super) fn sweep(&self, second: u64) {
        let mut entries = lock(&self.entries);
        entries.retain(|came| is_live(came, second));
        self.mark(&entries);
    }

    /// Takes back the marks of what is no longer here.
    fn mark(&self, entries: &Entries) {
        let mut words = [0_u64; MARKS];
        for &digest in entries.seconds.keys() {
            let (word, bit) = mark(digest);
            words[word] |= bit;
        }
        for (mark, word) in self.marks.iter().zip(words) {
            mark.store(word, SeqCst);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.entries).seconds.len()
    }
}

impl Entries {
    fn contains(&self, digest: u64, second: u64) -> bool {
        let came = self.seconds.get(&digest);
        came.is_some_and(|&came| is_live(came, second))
    }

    /// Removes the expired and, if that is not enough, what is older than 30 s; returns how many
    /// of the latter.
    fn purge(&mut self, second: u64, most: usize) -> u64 {
        self.purged = second;
        self.retain(|came| is_live(came, second));
        if self.seconds.len() < most {
            return 0;
        }
        let before = self.seconds.len();
        let shortest = u64::from(SHORTEST_SECONDS);
        self.retain(|came| second.saturating_sub(came) <= shortest);
        (before - self.seconds.len()) as u64
    }

    fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.seconds.retain(|_, &mut came| keep(came));
    }
}

/// The place of a digest's mark: a word and a bit in it.
#[inline]
fn mark(digest: u64) -> (usize, u64) {
    // Not the highest bits: these chose the digests that meet here.
    let place = (digest >> 24) as usize % (MARKS * 64);
    (place / 64, 1 << (place % 64))
}

fn is_live(came: u64, second: u64) -> bool {
    second.saturating_sub(came) <= u64::from(LIFETIME_SECONDS)
}
