//! The timer's work: seconds of 16 bits that must not come round, and tables out of use.

use std::sync::atomic::Ordering::Relaxed;

use super::round::Round;
use super::table::STALE_AGE;
use super::tables::Retired;
use super::{SeenTable, lock};
use crate::time::Instant;

/// How many parts [`SeenTable::sweep`] divides a table into.
pub const PARTS: usize = 1024;

/// A table is swept at the latest so many seconds after the last time: the 16-bit seconds still
/// tell old from new.
const SWEEP_AT_LATEST: u64 = 30_000;
/// From here on they may not: what a sweep leaves as it is may be as old as this lets it.
const WRAPS_AT: u64 = i16::MAX as u64 - STALE_AGE as u64 - 1;
/// The sweep goes round once in so many seconds.
const SWEEP_PASS: u64 = 600;

/// What the sweep has done so far.
#[derive(Debug, Default)]
pub(super) struct Sweeping {
    /// The next part of each table.
    part: usize,
    /// Seconds: when this pass began, and when it last went on.
    began: u64,
    went_on: u64,
    retired: Retired,
}

impl SeenTable {
    /// Makes stale slots younger bit by bit, and frees tables that are out of use. A timer calls it.
    ///
    /// Shape: at least `parts` of [`PARTS`] of each table; more when it was not called for long.
    /// State: nothing that is remembered changes.
    /// Cost:  about 0.1 ms a MiB swept; off the data path. Once a second with one part is plenty.
    pub fn sweep(&self, now: Instant, parts: usize) {
        let second = Round::begin(self, now).second;
        let mut sweeping = lock(&self.sweeping);
        self.retire(&mut sweeping.retired, second);
        self.overflow.sweep(second);
        let tables = self.tables.load_full();
        let due = second.saturating_sub(sweeping.went_on) * PARTS as u64 / SWEEP_PASS;
        // A pass that has just begun may not end at once: each part once is enough.
        for _ in 0..usize::try_from(due).unwrap_or(PARTS).max(parts).min(PARTS) {
            for table in tables.all() {
                table.sweep(second, sweeping.part, PARTS);
            }
            sweeping.part = (sweeping.part + 1) % PARTS;
            if sweeping.part == 0 {
                self.swept.fetch_max(sweeping.began, Relaxed);
                sweeping.began = second;
            }
        }
        sweeping.went_on = second;
    }

    /// Before `second` begins: sees to it that no entry is so old that it looks young. The sweep
    /// does that long before; this is for a clock that leaps, and for want of sweeping.
    pub(super) fn keep_from_wrapping(&self, second: u64) {
        let unswept = second - self.swept.load(Relaxed).min(second);
        if unswept > SWEEP_AT_LATEST {
            let tables = self.tables.load();
            for table in tables.all() {
                if unswept > WRAPS_AT {
                    // More than a lifetime has passed since this was last asked.
                    table.clear(second);
                } else {
                    table.sweep(second, 0, 1);
                }
            }
            self.swept.store(second, Relaxed);
        }
    }
}
