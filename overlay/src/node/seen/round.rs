//! One batch's inserts.
//!
//! # Why a message is new exactly once
//!
//! Within one table `table.rs` sees to it. Two more places hold digests: the tables of before,
//! and the overflow. Every insert therefore looks twice, with everything sequentially consistent:
//!
//! - *A newer table.* [`SeenTable::publish`] raises the generation before it shows a list with a
//!   new table. Who finds the generation unchanged after its write, wrote before anybody used that
//!   list; whoever uses it later sees the write in an older table. Who finds it changed, goes on
//!   as if it had only begun: it looks into the tables that have come since, and inserts into the
//!   newest. It takes no entry of an older table than its own for another's, so of several threads
//!   that get caught in this the one in the newest table always goes through.
//! - *The overflow.* Who writes there, under its lock, first sets the digest's mark and then looks
//!   into the table once more; who writes into the table then looks for the mark. At least one
//!   sees the other, and it is always the overflow that counts unless it saw the table's entry.
//!
//! An entry whose writer found out that it was not the first stays where it is: nothing is ever
//! taken back, on which `table.rs` relies, and the message is remembered in any case.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::overflow::Entered;
use super::table::Spot;
use super::tables::Tables;
use super::{LIFETIME_SECONDS, OWN, SHORTEST_SECONDS, Seen, SeenTable, lock};
use crate::planted::{self, Mistake};
use crate::time::Instant;

/// Entries of the overflow at most (about 300 KiB), and at most one per so many slots.
pub(super) const OVERFLOW_MOST: usize = 8192;
const OVERFLOW_SLOTS_PER_ENTRY: u64 = 64;

/// One batch's view: all that is read once.
pub(super) struct Round<'s> {
    seen: &'s SeenTable,
    pub(super) tables: arc_swap::Guard<Arc<Tables>>,
    pub(super) second: u64,
    /// What a neighbor may have inserted in 30 s.
    pub(super) level: u32,
    /// Inserts of one neighbor that are not in the accounts yet.
    place: u16,
    inserts: u32,
}

/// What became of a digest for which the table has no free slot.
enum Room {
    Overflow(Entered),
    /// The oldest entry there must go.
    Displace,
}

impl SeenTable {
    /// What a neighbor may have inserted in 30 s when `fresh` came in all, of which `elsewhere` are
    /// in older tables.
    ///
    /// At three fifths of its slots a table finds no free one for a digest by chance once in ten
    /// thousands; at three quarters once in fifty, and the overflow does not last for 30 s. It does
    /// for the moment until a larger table is there, which is why nobody is refused before four
    /// fifths if one can come.
    #[cold]
    fn level(&self, tables: &Tables, fresh: u64, elsewhere: u64) -> u32 {
        let fifth = tables.newest.slots() / 5;
        if fresh < fifth * 4 + elsewhere && self.next_size(tables).is_some() {
            return u32::MAX;
        }
        self.shares.level(fifth * 3 + elsewhere)
    }
}

impl<'s> Round<'s> {
    /// What holds for a whole batch.
    #[inline]
    pub(super) fn begin(seen: &'s SeenTable, now: Instant) -> Self {
        let second = now.as_secs();
        seen.shares.roll(second, || seen.keep_from_wrapping(second));
        let tables = seen.tables.load();
        let fresh = seen.shares.fresh();
        let in_newest = tables.inserts(seen.shares.inserted());
        let elsewhere = fresh.saturating_sub(in_newest);
        let capacity = tables.newest.slots() / 5 * 3 + elsewhere;
        let level = if fresh < capacity {
            u32::MAX
        } else {
            seen.level(&tables, fresh, elsewhere)
        };
        Round {
            seen,
            tables,
            second,
            level,
            place: OWN,
            inserts: 0,
        }
    }

    /// Says whether a digest is new, and remembers it.
    #[inline]
    pub(super) fn probe(&mut self, digest: u64, place: u16) -> Seen {
        let refused = self.level != u32::MAX && self.has_its_share(place);
        let digest = match planted::is(Mistake::ForgetEarly) {
            true => digest ^ (self.second / 60),
            false => digest,
        };
        // 1. The newest table knows nearly all that is known.
        let Some(spot) = self.tables.newest.search(digest, self.second) else {
            return Seen::Known;
        };
        if self.tables.older_contain(digest, self.second)
            || self.seen.overflow.contains(digest, self.second)
        {
            return Seen::Known;
        }
        // 2. Who has its share of a full table is refused.
        if refused {
            return if place == OWN || planted::is(Mistake::TakeRefused) {
                Seen::New
            } else {
                Seen::Refused
            };
        }
        // 3. The free slot, nearly always.
        let new = if spot.age() > LIFETIME_SECONDS as i16 && spot.take() {
            self.stands(digest)
        } else {
            self.insist(digest)
        };
        if !new {
            return Seen::Known;
        }
        if self.place != place {
            self.account();
            self.place = place;
        }
        self.inserts += 1;
        Seen::New
    }

    /// After a write into the newest table: whether no other thread was first. See the module
    /// page.
    #[inline]
    fn stands(&mut self, digest: u64) -> bool {
        if self.seen.generation.load(SeqCst) != self.tables.generation {
            return self.catch_up(digest);
        }
        !self.seen.overflow.contains(digest, self.second)
    }

    /// Tries until the digest is in the newest table or in the overflow; returns whether that was
    /// this thread's doing.
    #[cold]
    fn insist(&mut self, digest: u64) -> bool {
        loop {
            let Some(spot) = self.tables.newest.search(digest, self.second) else {
                return false;
            };
            let age = spot.age();
            if age > LIFETIME_SECONDS as i16 {
                if spot.take() {
                    break;
                }
                continue;
            }
            match self.find_room(digest, &spot) {
                Room::Overflow(entered) => return entered == Entered::New,
                Room::Displace if spot.take() => {
                    self.seen.shortened.fetch_add(1, Relaxed);
                    self.seen.shortened_to.note(self.second, age);
                    break;
                }
                Room::Displace => {}
            }
        }
        self.stands(digest)
    }

    /// Goes on with the tables that came after the one this thread wrote into.
    #[cold]
    fn catch_up(&mut self, digest: u64) -> bool {
        let written = self.tables.generation;
        // Whoever raised the generation holds this until its list is there.
        drop(lock(&self.seen.publishing));
        self.tables = self.seen.tables.load();
        if self.tables.since_contain(written + 1, digest, self.second) {
            return false;
        }
        self.insist(digest)
    }

    /// For a digest whose bucket is full of live entries. In this order: the overflow while a
    /// larger table is being made, or while the oldest entry is too young to be forgotten; then
    /// that entry's place.
    fn find_room(&self, digest: u64, spot: &Spot<'_>) -> Room {
        let seen = self.seen;
        let newest = &self.tables.newest;
        let growing = seen.next_size(&self.tables).is_some();
        let young = spot.age() <= SHORTEST_SECONDS as i16;
        if !growing && !young {
            return Room::Displace;
        }
        let most = (newest.slots() / OVERFLOW_SLOTS_PER_ENTRY) as usize;
        let most = most.min(OVERFLOW_MOST);
        let (entered, early) = seen
            .overflow
            .insert(digest, self.second, most, || self.is_written(digest));
        if early > 0 {
            seen.shortened.fetch_add(early, Relaxed);
            seen.shortened_to
                .note(self.second, SHORTEST_SECONDS as i16 + 1);
        }
        match entered {
            // A young entry goes only by chance, since the shares hold everybody. To lose the new
            // message would be worse.
            Entered::Full => Room::Displace,
            entered => Room::Overflow(entered),
        }
    }

    /// Whether another thread has written the digest into this round's newest table or into one
    /// that came after it.
    fn is_written(&self, digest: u64) -> bool {
        let since = self.tables.generation;
        if self.seen.generation.load(SeqCst) == since {
            return self.tables.newest.contains(digest, self.second);
        }
        drop(lock(&self.seen.publishing));
        let tables = self.seen.tables.load();
        tables.since_contain(since, digest, self.second)
    }

    #[cold]
    fn has_its_share(&mut self, place: u16) -> bool {
        self.account();
        self.seen.shares.of(place) >= self.level
    }

    /// Enters the inserts of the last neighbor into its account.
    pub(super) fn account(&mut self) {
        if self.inserts > 0 {
            self.seen.shares.add(self.place, self.inserts);
            self.inserts = 0;
        }
    }
}
