//! Who fills the seen table: inserts in all and by neighbor, over a sliding window.
//!
//! Counters only ever rise; once a second their values are noted, and the count over a window is
//! the difference to the note at its start. So an insert costs two additions, and no count is
//! ever taken back.
//!
//! [`Shares::level`] is the max-min fair share: the largest number of entries that each neighbor
//! may have so that all together fit. A neighbor below it is never refused, whatever the others
//! do; what it leaves unused, others may use.
//!
//! State: places are those of the `NeighborSet`; when a change of neighbors moves them, accounts
//! are mixed up for one window.

use std::sync::Mutex;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::{LIFETIME_SECONDS, OWN, SHORTEST_SECONDS, lock};

/// Neighbors with an account of their own.
const NEIGHBORS: usize = 256;
/// Accounts: theirs, one that all further neighbors share, and ours.
const ACCOUNTS: usize = NEIGHBORS + 2;
/// Notes of the neighbors' window: its start, and the seconds in it.
const SHORT_NOTES: usize = SHORTEST_SECONDS as usize + 1;
/// Notes of the lifetime's window.
const LONG_NOTES: usize = LIFETIME_SECONDS as usize + 1;

/// The counts. See the module page.
#[derive(Debug)]
pub(super) struct Shares {
    second: AtomicU64,
    rolling: Mutex<()>,
    inserted: AtomicU64,
    inserted_notes: Box<[AtomicU64]>,
    accounts: Box<[AtomicU32]>,
    /// `SHORT_NOTES` rows of `ACCOUNTS`.
    account_notes: Box<[AtomicU32]>,
}

impl Shares {
    pub(super) fn new() -> Self {
        let words = |count| {
            std::iter::repeat_with(AtomicU32::default)
                .take(count)
                .collect()
        };
        Self {
            second: AtomicU64::new(0),
            rolling: Mutex::new(()),
            inserted: AtomicU64::new(0),
            inserted_notes: std::iter::repeat_with(AtomicU64::default)
                .take(LONG_NOTES)
                .collect(),
            accounts: words(ACCOUNTS),
            account_notes: words(ACCOUNTS * SHORT_NOTES),
        }
    }

    /// The latest second that any thread has told of.
    pub(super) fn second(&self) -> u64 {
        self.second.load(Acquire)
    }

    /// Goes on to `second` when it is later than the last; `first` runs before, once.
    #[inline]
    pub(super) fn roll(&self, second: u64, first: impl FnOnce()) {
        if second > self.second() {
            self.roll_on(second, first);
        }
    }

    #[cold]
    fn roll_on(&self, second: u64, first: impl FnOnce()) {
        let _rolling = lock(&self.rolling);
        let last = self.second();
        if second <= last {
            return;
        }
        first();
        let from = second.saturating_sub(LONG_NOTES as u64).max(last) + 1;
        for second in from..=second {
            self.inserted_notes[row(second, LONG_NOTES)].store(self.inserted(), Relaxed);
        }
        let from = second.saturating_sub(SHORT_NOTES as u64).max(last) + 1;
        for second in from..=second {
            let start = row(second, SHORT_NOTES) * ACCOUNTS;
            for (note, account) in self.account_notes[start..].iter().zip(&self.accounts) {
                note.store(account.load(Relaxed), Relaxed);
            }
        }
        self.second.store(second, Release);
    }

    /// Counts `n` inserts of the neighbor at `place`.
    #[inline]
    pub(super) fn add(&self, place: u16, n: u32) {
        self.inserted.fetch_add(u64::from(n), Relaxed);
        self.accounts[account(place)].fetch_add(n, Relaxed);
    }

    /// Inserts since the start.
    pub(super) fn inserted(&self) -> u64 {
        self.inserted.load(Relaxed)
    }

    /// [`Self::inserted`] as it was when what now expires came.
    pub(super) fn expired(&self) -> u64 {
        // The row after the newest is the oldest.
        self.inserted_notes[row(self.second() + 1, LONG_NOTES)].load(Relaxed)
    }

    /// Inserts of the last 30 s.
    #[inline]
    pub(super) fn fresh(&self) -> u64 {
        let start = self.second().saturating_sub(u64::from(SHORTEST_SECONDS));
        let note = self.inserted_notes[row(start, LONG_NOTES)].load(Relaxed);
        self.inserted().saturating_sub(note)
    }

    /// Inserts of the neighbor at `place` in the last 30 s.
    pub(super) fn of(&self, place: u16) -> u32 {
        let oldest = row(self.second() + 1, SHORT_NOTES) * ACCOUNTS;
        let account = account(place);
        let note = self.account_notes[oldest + account].load(Relaxed);
        self.accounts[account].load(Relaxed).wrapping_sub(note)
    }

    /// What each account may have in the last 30 s so that all have at most `capacity`; no less
    /// than 1, and `u32::MAX` when all fit.
    ///
    /// Cost: some passes over 258 counts; called only under pressure.
    pub(super) fn level(&self, capacity: u64) -> u32 {
        let mut counts = [0; ACCOUNTS];
        for (count, place) in counts.iter_mut().zip((0..=NEIGHBORS as u16).chain([OWN])) {
            *count = u64::from(self.of(place));
        }
        let mut level = 0;
        loop {
            let below: u64 = counts.iter().filter(|&&count| count <= level).sum();
            let above = counts.iter().filter(|&&count| count > level).count() as u64;
            if above == 0 {
                return u32::MAX;
            }
            // Rises from round to round, because those below the level free some of their share.
            let raised = capacity.saturating_sub(below) / above;
            if raised <= level {
                return u32::try_from(level.max(1)).unwrap_or(u32::MAX);
            }
            level = raised;
        }
    }
}

/// The account of a place.
#[inline]
fn account(place: u16) -> usize {
    match place {
        OWN => ACCOUNTS - 1,
        place => usize::from(place).min(NEIGHBORS),
    }
}

#[inline]
fn row(second: u64, rows: usize) -> usize {
    (second % rows as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_slide_out_of_their_windows() {
        let shares = Shares::new();
        shares.roll(100, || ());
        shares.add(3, 7);
        shares.add(OWN, 2);
        shares.roll(130, || ());
        assert_eq!((shares.of(3), shares.of(OWN), shares.fresh()), (7, 2, 9));
        shares.add(3, 1);
        shares.roll(131, || ());
        assert_eq!((shares.of(3), shares.of(OWN), shares.fresh()), (1, 0, 1));
        assert_eq!(shares.inserted() - shares.expired(), 10);
        shares.roll(400, || ());
        assert_eq!(shares.inserted() - shares.expired(), 10);
        shares.roll(401, || ());
        assert_eq!(shares.inserted() - shares.expired(), 1);
        shares.roll(1_000_000, || ());
        assert_eq!(shares.inserted() - shares.expired(), 0);
        assert_eq!((shares.of(3), shares.fresh()), (0, 0));
    }

    #[test]
    fn the_level_lets_the_small_ones_through_and_divides_the_rest() {
        let shares = Shares::new();
        shares.add(0, 1000);
        shares.add(1, 10);
        shares.add(2, 500);
        assert_eq!(shares.level(1510), u32::MAX);
        assert_eq!(shares.level(1400), 890);
        assert_eq!(shares.level(1010), 500);
        assert_eq!(shares.level(610), 300);
        assert_eq!(shares.level(9), 3);
        assert_eq!(shares.level(0), 1);
    }

    #[test]
    fn time_that_goes_back_changes_nothing() {
        let shares = Shares::new();
        shares.roll(50, || ());
        shares.add(0, 1);
        shares.roll(49, || panic!("not later"));
        assert_eq!(shares.second(), 50);
        assert_eq!(shares.of(0), 1);
    }
}
