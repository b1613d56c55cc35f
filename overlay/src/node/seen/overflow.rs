//! The few digests for which a table has no slot and which must not be lost.
//!
//! Used while a larger table is being made, and where chance filled two buckets of a table that
//! is not full. Small, ordered, behind a lock; empty nearly always, and then it costs one load.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::{LIFETIME_SECONDS, SHORTEST_SECONDS, lock};

/// See the module page.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    /// Entries, so that an empty overflow is known without the lock.
    len: AtomicUsize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// When each digest came, in seconds.
    seconds: BTreeMap<u64, u64>,
    /// When expired entries were last removed.
    purged: u64,
}

impl Overflow {
    /// Whether `digest` is remembered here.
    pub(super) fn contains(&self, digest: u64, second: u64) -> bool {
        self.len() > 0
            && lock(&self.entries)
                .seconds
                .get(&digest)
                .is_some_and(|&came| is_live(came, second))
    }

    /// Remembers `digest` unless that would make more than `most` entries; returns whether it
    /// does, and how many it forgot early for that, none of them younger than 30 s.
    pub(super) fn insert(&self, digest: u64, second: u64, most: usize) -> (bool, u64) {
        let mut entries = lock(&self.entries);
        let mut early = 0;
        if entries.seconds.len() >= most && entries.purged != second {
            entries.purged = second;
            entries.seconds.retain(|_, &mut came| is_live(came, second));
            if entries.seconds.len() >= most {
                let before = entries.seconds.len();
                let shortest = u64::from(SHORTEST_SECONDS);
                entries
                    .seconds
                    .retain(|_, &mut came| second.saturating_sub(came) <= shortest);
                early = (before - entries.seconds.len()) as u64;
            }
        }
        let room = entries.seconds.len() < most;
        if room {
            entries.seconds.insert(digest, second);
        }
        self.len.store(entries.seconds.len(), Relaxed);
        (room, early)
    }

    /// Removes what is expired.
    pub(super) fn sweep(&self, second: u64) {
        if self.len() > 0 {
            let mut entries = lock(&self.entries);
            entries.seconds.retain(|_, &mut came| is_live(came, second));
            self.len.store(entries.seconds.len(), Relaxed);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }
}

fn is_live(came: u64, second: u64) -> bool {
    second.saturating_sub(came) <= u64::from(LIFETIME_SECONDS)
}
