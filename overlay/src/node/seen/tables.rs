//! The list of tables: how it grows and shrinks with the traffic, and how memory goes back.
//!
//! The newest table takes all inserts; the older ones are only read, and go when their last entry
//! has expired. A table is replaced by one [`STEP`] larger when half of it was filled within 300 s,
//! and by a smaller one when a table of half its size would stay a quarter full. Between the two
//! lies a factor of four, and all of 300 s, so that traffic that comes and goes does not make it
//! flap: the newest table takes 16 to 128 bytes for each entry, unless it is as small as at the
//! start.
//!
//! ```text
//!   entries of the last 300 s        load ~~~~~~~~\__________________________
//!   newest table, MiB             4  10  25                4
//!   tables only read                  4  4,10  4,10,25     25
//!   the system has it back                                 (4, 10)     (25)
//!                                |-- growth --|-- 300 s --|-- 311 s --|
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::round::Round;
use super::table::Table;
use super::{LIFETIME_SECONDS, SeenTable, lock};
use crate::time::Instant;

/// How much larger the next table is: 5/2. Twice would leave a bound of 256 MiB with half of it in
/// the last table, and consult more tables on the way; four times takes up to 64 bytes an entry.
const STEP: (usize, usize) = (5, 2);
/// A smaller table gets so many slots for each entry of the last 300 s: half as full as makes it
/// grow.
const SHRUNK_FILL: u64 = 4;
/// The part of the memory bound that is kept for a smaller table.
const RESERVE: usize = 16;

/// A table made off the data path, for [`SeenTable::adopt`].
#[derive(Debug)]
pub struct Generation(Table);

impl Generation {
    /// Allocates and touches `bytes`.
    ///
    /// Cost: 0.1 to 0.3 ms a MiB; not for a thread that moves packets.
    pub fn allocate(now: Instant, bytes: usize) -> Self {
        Self(Table::new(bytes, now.as_secs()))
    }
}

/// The tables in use.
#[derive(Debug)]
pub(super) struct Tables {
    /// The newest, which takes all inserts.
    pub(super) newest: Arc<Table>,
    /// Those that are only read, newest first.
    older: Vec<Older>,
    /// Counts the newest tables there were.
    pub(super) generation: u64,
    /// Inserts there were when the newest came.
    inserted: u64,
}

#[derive(Clone, Debug)]
struct Older {
    table: Arc<Table>,
    generation: u64,
    /// The second in which it was replaced.
    since: u64,
}

impl Tables {
    pub(super) fn new(first: Table) -> Self {
        Self {
            newest: Arc::new(first),
            older: Vec::new(),
            generation: 0,
            inserted: 0,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Table> {
        let older = self.older.iter().map(|older| &*older.table);
        std::iter::once(&*self.newest).chain(older)
    }

    /// Inserts that went into the newest table, when there were `inserted` in all.
    #[inline]
    pub(super) fn inserts(&self, inserted: u64) -> u64 {
        inserted.saturating_sub(self.inserted)
    }

    #[inline]
    pub(super) fn prefetch(&self, digest: u64) {
        self.newest.prefetch(digest);
        for older in &self.older {
            older.table.prefetch(digest);
        }
    }

    #[inline]
    pub(super) fn older_contain(&self, digest: u64, second: u64) -> bool {
        let mut older = self.older.iter();
        older.any(|older| older.table.contains(digest, second))
    }

    /// Whether a table of this generation or a later one contains `digest`.
    pub(super) fn since_contain(&self, generation: u64, digest: u64, second: u64) -> bool {
        let mut older = self.older.iter();
        (self.generation >= generation && self.newest.contains(digest, second))
            || older
                .any(|older| older.generation >= generation && older.table.contains(digest, second))
    }
}

/// Tables out of use, which a thread of the data path may still be reading.
pub(super) type Retired = Vec<Arc<Table>>;

impl SeenTable {
    /// How large a table it wants next, in bytes; `None` while the present one will do, and when
    /// the memory bound leaves no room.
    ///
    /// Cost: a few loads; the thread that moves packets may ask once a batch.
    pub fn growth_wanted(&self) -> Option<usize> {
        let tables = self.tables.load();
        let entries = self.entries().min(tables.inserts(self.shares.inserted()));
        // Half full: the rest lasts while the next table is being made.
        if entries < tables.newest.slots() / 2 {
            return None;
        }
        self.next_size(&tables)
    }

    /// How small a table would do, in bytes; `None` unless it is far smaller than the newest one.
    /// To be asked by a timer: when nothing comes, nobody else asks.
    pub fn shrinking_wanted(&self, now: Instant) -> Option<usize> {
        // Goes on to `now`, since the counts of the last 300 s are as of the last call.
        let tables = Round::begin(self, now).tables;
        let entries = self.entries();
        // Doublings of the first size, so that the way down leads back to it.
        let mut wanted = self.start_bytes;
        while ((wanted / size_of::<u64>()) as u64) < entries * SHRUNK_FILL {
            wanted *= 2;
        }
        let room = self.memory_bytes.saturating_sub(self.bytes_of(&tables));
        (wanted <= room && wanted <= tables.newest.bytes() / 2).then_some(wanted)
    }

    /// Bytes of the table after the newest one, within the bound.
    pub(super) fn next_size(&self, tables: &Tables) -> Option<usize> {
        // What a smaller table will need stays free, or a full bound could never shrink again.
        let reserve = self.start_bytes.min(self.memory_bytes / RESERVE);
        let bound = self.memory_bytes - reserve;
        let room = bound.saturating_sub(self.bytes_of(tables));
        let next = step(tables.newest.bytes());
        // The last but one step takes all there is: what a further table could get is too little.
        let next = if next * 2 > room { room } else { next };
        (next >= tables.newest.bytes() * 3 / 2).then_some(next)
    }

    /// Puts a larger or smaller table into use; returns whether the memory bound allowed it.
    ///
    /// State: what is remembered stays so; the table of before is read until its last entry has
    ///        expired, and then [`Self::sweep`] frees it.
    pub fn adopt(&self, now: Instant, generation: Generation) -> bool {
        let second = Round::begin(self, now).second;
        let _one_at_a_time = lock(&self.sweeping);
        let tables = self.tables.load_full();
        if self.bytes_of(&tables) + generation.0.bytes() > self.memory_bytes {
            return false;
        }
        let replaced = Older {
            table: Arc::clone(&tables.newest),
            generation: tables.generation,
            since: second,
        };
        self.publish(Tables {
            newest: Arc::new(generation.0),
            older: std::iter::once(replaced)
                .chain(tables.older.iter().cloned())
                .collect(),
            generation: tables.generation + 1,
            inserted: self.shares.inserted(),
        });
        true
    }

    /// Publishes a list; the caller holds `sweeping`, so that there is one at a time.
    fn publish(&self, tables: Tables) {
        let _publishing = lock(&self.publishing);
        // The generation first: see `round.rs`.
        self.generation.store(tables.generation, SeqCst);
        self.tables.store(Arc::new(tables));
    }

    /// Takes out of use the tables whose last entry has expired, and frees those that nobody
    /// reads any more: here, because freeing takes time that the data path does not have.
    pub(super) fn retire(&self, retired: &mut Retired, second: u64) {
        let tables = self.tables.load_full();
        // One second for the granularity of ages, ten for a thread that was slow to notice.
        let lifetime = u64::from(LIFETIME_SECONDS) + 11;
        let (older, expired): (Vec<_>, Vec<_>) = tables
            .older
            .iter()
            .cloned()
            .partition(|older| second.saturating_sub(older.since) <= lifetime);
        if !expired.is_empty() {
            self.publish(Tables {
                newest: Arc::clone(&tables.newest),
                older,
                generation: tables.generation,
                inserted: tables.inserted,
            });
            for Older { table, .. } in expired {
                self.retired_bytes.fetch_add(table.bytes(), Relaxed);
                retired.push(table);
            }
        }
        drop(tables);
        retired.retain(|table| {
            let read = Arc::strong_count(table) > 1;
            if !read {
                self.retired_bytes.fetch_sub(table.bytes(), Relaxed);
            }
            read
        });
    }

    /// Bytes of all tables.
    pub fn bytes(&self) -> usize {
        self.bytes_of(&self.tables.load())
    }

    fn bytes_of(&self, tables: &Tables) -> usize {
        tables.all().map(Table::bytes).sum::<usize>() + self.retired_bytes.load(Relaxed)
    }
}

/// The size after `bytes`.
fn step(bytes: usize) -> usize {
    bytes * STEP.0 / STEP.1
}
