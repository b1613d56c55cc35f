//! The five-minute memory: which messages this node has seen.
//!
//! Flooding rests on it: what is new is delivered and forwarded, what is known goes no further.
//! Two mistakes are possible and both are guarded against. *Known though it is new* loses a good
//! message: entries are 48 bits of a keyed digest, compared in 16 slots, and no memory shortage
//! takes a message for known. *New though it is known* lets a message go round again: an entry
//! lives 300 s, and never less than 30 s when memory is short.
//!
//! How an insert goes ([`SeenTable::probe_batch`]):
//!
//! 1. Look into the tables, without a lock. Found: known.
//! 2. Take the lock of the digest's stripe: of several threads with the same message, one is
//!    first. Look again; the list of tables may have changed too.
//! 3. Take a free slot of the newest table. That is nearly always all.
//! 4. No slot is free: use the overflow while a larger table is being made; else forget the
//!    oldest entry of the two buckets, when it is older than 30 s.
//!
//! How it grows: [`SeenTable::growth_wanted`] says how large a table it wants, a background thread
//! makes one ([`Generation::allocate`]) and hands it over ([`SeenTable::adopt`]). From then on it
//! takes the inserts; the older ones are only read, and freed when their last entry has expired.
//! Nothing is ever copied and no thread of the data path waits.
//!
//! How it stays fair: when two thirds of the slots were filled within the last 30 s, each
//! neighbor has a share (`shares.rs`), and what exceeds it is refused. See SECURITY T11.
//!
//! Read [`SeenTable`] first, then `table.rs` for what lies in the memory. The tests compare all of
//! it with a plain map. Source: DATAPATH 4.2 and 10; two choices after Azar, Broder, Karlin, Upfal
//! (1999).

mod overflow;
mod shares;
mod table;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::time::{Duration, Instant};
use overflow::Overflow;
use shares::Shares;
use table::{Inserted, Key, Table};

/// How long a message is remembered at least, when memory allows: 5 minutes, the protocol's own
/// figure.
pub const LIFETIME: Duration = Duration::from_secs(LIFETIME_SECONDS as u64);
/// What the lifetime is never shortened below for want of memory: far longer than a message
/// travels, since no node holds one back.
pub const SHORTEST_LIFETIME: Duration = Duration::from_secs(SHORTEST_SECONDS as u64);
/// The place of this node's own messages among the neighbors'. They are never refused: beyond
/// their share they are new and not remembered. Their echoes are known by their src (R14).
pub const OWN: u16 = u16::MAX;
/// How many parts [`SeenTable::sweep`] divides a table into.
pub const PARTS: usize = 1024;

const LIFETIME_SECONDS: u16 = 300;
const SHORTEST_SECONDS: u16 = 30;
/// Locks; a digest belongs to one. Enough that two threads hardly ever meet.
const STRIPES: usize = 256;
/// Entries older than this are swept at the latest: their 16-bit second still tells old from new.
const SWEEP_AT_LATEST: u64 = 32_000;
/// From here on it may not: what was live when it was swept is up to a lifetime older.
const WRAPS_AT: u64 = i16::MAX as u64 - LIFETIME_SECONDS as u64 - 1;
/// The sweep goes round once in so many seconds.
const SWEEP_PASS: u64 = 3600;
/// Entries of the overflow at most (about 300 KiB), and at most one per so many slots.
const OVERFLOW_MOST: usize = 8192;
const OVERFLOW_SLOTS_PER_ENTRY: u64 = 64;
/// How much larger the next table is. Guess; a smaller factor would consult more tables, a larger
/// one take more memory than is needed.
const GROWTH: usize = 4;

/// Memory of a [`SeenTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenConfig {
    /// Bytes of the first table. 4 MiB remember 870 messages a second for 5 minutes without
    /// growing; too small a start only costs some growing.
    pub start_bytes: usize,
    /// Bytes of all tables at most. Default 256 MiB: 65,000 messages a second for 5 minutes, to
    /// two thirds of the slots; at 90,000 one in some hundreds is forgotten early, and 700,000 are
    /// still remembered for 30 s. Too small: the lifetime is shortened, then neighbors are refused.
    pub memory_bytes: usize,
}

impl Default for SeenConfig {
    fn default() -> Self {
        Self {
            start_bytes: 4 << 20,
            memory_bytes: 256 << 20,
        }
    }
}

/// What the table says of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not seen before; it is remembered from now on.
    New,
    /// Seen before.
    Known,
    /// Not seen before, and not remembered: its neighbor has more than its share of a full table.
    Refused,
}

/// A table made off the data path, for [`SeenTable::adopt`].
#[derive(Debug)]
pub struct Generation(Table);

impl Generation {
    /// Allocates and touches `bytes`.
    ///
    /// Cost: 0.1 to 0.3 ms a MiB; not for a thread that moves packets.
    pub fn allocate(bytes: usize) -> Self {
        Self(Table::new(bytes))
    }
}

/// The tables in use.
#[derive(Debug)]
struct Tables {
    /// The newest, which takes all inserts.
    newest: Arc<Table>,
    /// Those that are only read, newest first, each with the second in which it became so.
    older: Vec<(Arc<Table>, u64)>,
    /// Counts the lists there were.
    number: u64,
    /// Inserts there were when the newest came.
    inserted: u64,
}

/// What the sweep has done so far.
#[derive(Debug, Default)]
struct Sweeping {
    /// The next part of each table.
    part: usize,
    /// Seconds: when this pass began, and when it last went on.
    began: u64,
    went_on: u64,
    /// Tables out of use, which a thread of the data path may still be reading.
    retired: Vec<Arc<Table>>,
}

/// The memory of messages. See the module page.
///
/// Calls:  from any thread at once; [`Self::sweep`] and [`Self::adopt`] off the data path.
/// Bounds: `memory_bytes`, and about 0.4 MiB for accounts and overflow.
#[derive(Debug)]
pub struct SeenTable {
    tables: ArcSwap<Tables>,
    /// [`Tables::number`] of `tables`; read under a stripe's lock.
    number: AtomicU64,
    stripes: Box<[Mutex<()>]>,
    overflow: Overflow,
    shares: Shares,
    sweeping: Mutex<Sweeping>,
    /// Bytes of [`Sweeping::retired`].
    retired_bytes: AtomicUsize,
    /// Every slot was found live or freed in this second or later.
    swept: AtomicU64,
    memory_bytes: usize,
    shortened: AtomicU64,
    shortened_to: Shortened,
}

/// The shortest age at which a live entry was displaced, in this half minute and the one before.
#[derive(Debug)]
struct Shortened {
    /// Number of the half minute and age, packed as `number << 16 | age`.
    halves: [AtomicU64; 2],
}

/// One batch's view: all that is read once.
struct Round<'s> {
    seen: &'s SeenTable,
    tables: arc_swap::Guard<Arc<Tables>>,
    second: u64,
    /// What a neighbor may have inserted in 30 s.
    level: u32,
    /// Inserts of one neighbor that are not in the accounts yet.
    place: u16,
    inserts: u32,
}

impl SeenTable {
    /// An empty table.
    pub fn new(config: SeenConfig) -> Self {
        // A bound that leaves no room to grow is used at once.
        let roomy = config.memory_bytes / config.start_bytes.max(1) >= 3;
        let start = if roomy {
            config.start_bytes
        } else {
            config.memory_bytes
        };
        Self {
            tables: ArcSwap::from_pointee(Tables {
                newest: Arc::new(Table::new(start)),
                older: Vec::new(),
                number: 0,
                inserted: 0,
            }),
            number: AtomicU64::new(0),
            stripes: std::iter::repeat_with(Mutex::default)
                .take(STRIPES)
                .collect(),
            overflow: Overflow::default(),
            shares: Shares::new(),
            sweeping: Mutex::default(),
            retired_bytes: AtomicUsize::new(0),
            swept: AtomicU64::new(0),
            memory_bytes: config.memory_bytes,
            shortened: AtomicU64::new(0),
            shortened_to: Shortened::new(),
        }
    }

    /// Starts to fetch what [`Self::probe_batch`] will read for `digests`.
    ///
    /// Cost: some ns a digest. Hash all, prefetch all, probe all: the fetches overlap only when
    ///       nothing else stands between them.
    pub fn prefetch_batch(&self, digests: &[u64]) {
        let tables = self.tables.load();
        for &digest in digests {
            tables.newest.prefetch(digest);
            for (table, _) in &tables.older {
                table.prefetch(digest);
            }
        }
    }

    /// Says of each digest whether it is new, and remembers those that are.
    ///
    /// Shape: `entries` are digests with the place of the neighbor they came from ([`OWN`] for our
    ///        own); `seen` is as long, and is filled in the same order.
    /// State: a digest twice in `entries` is new at most once.
    pub fn probe_batch(&self, now: Instant, entries: &[(u64, u16)], seen: &mut [Seen]) {
        let mut round = self.begin(now);
        for (&(digest, place), seen) in entries.iter().zip(seen) {
            *seen = round.probe(digest, place);
        }
        round.account();
    }

    /// [`Self::probe_batch`] of one.
    pub fn insert(&self, now: Instant, digest: u64, place: u16) -> Seen {
        let mut round = self.begin(now);
        let seen = round.probe(digest, place);
        round.account();
        seen
    }

    /// Whether `digest` is remembered. Changes nothing.
    pub fn contains(&self, now: Instant, digest: u64) -> bool {
        let round = self.begin(now);
        round.tables.contain(digest, round.second) || self.overflow.contains(digest, round.second)
    }

    /// Whether so much came within 30 s that shares hold: not all of our own is remembered then.
    pub fn is_short(&self, now: Instant) -> bool {
        self.begin(now).level != u32::MAX
    }

    /// How large a table it wants next, in bytes; `None` while the present one will do, and when
    /// the memory bound leaves no room.
    ///
    /// Cost: a few loads; the thread that moves packets may ask once a batch.
    pub fn growth_wanted(&self) -> Option<usize> {
        let tables = self.tables.load();
        let since = self.shares.expired().max(tables.inserted);
        let entries = self.shares.inserted().saturating_sub(since);
        // Half full: the rest lasts while the next table is being made.
        if entries < tables.newest.slots() / 2 {
            return None;
        }
        self.next_size(&tables)
    }

    /// Bytes of the table after the newest one, within the bound.
    fn next_size(&self, tables: &Tables) -> Option<usize> {
        let room = self.memory_bytes.saturating_sub(self.bytes_of(tables));
        let next = tables.newest.bytes() * GROWTH;
        // The last but one step takes all there is: what a further table could get is too little.
        let next = if next * GROWTH >= self.memory_bytes {
            room
        } else {
            next.min(room)
        };
        (next >= tables.newest.bytes() * 2).then_some(next)
    }

    /// Puts a larger table into use; returns whether the memory bound allowed it.
    pub fn adopt(&self, now: Instant, generation: Generation) -> bool {
        let second = self.begin(now).second;
        let _one_at_a_time = lock(&self.sweeping);
        let tables = self.tables.load_full();
        if self.bytes_of(&tables) + generation.0.bytes() > self.memory_bytes {
            return false;
        }
        let mut older = Vec::with_capacity(tables.older.len() + 1);
        older.push((Arc::clone(&tables.newest), second));
        older.extend(tables.older.iter().cloned());
        self.publish(Tables {
            newest: Arc::new(generation.0),
            older,
            number: tables.number + 1,
            inserted: self.shares.inserted(),
        });
        true
    }

    /// Publishes a list; the caller holds `sweeping`, so that there is one at a time.
    fn publish(&self, tables: Tables) {
        // The number first. Of two threads with one digest, the later holds the stripe's lock after
        // the earlier: when that one used this list, the later sees the number and loads the list.
        self.number.store(tables.number, Release);
        self.tables.store(Arc::new(tables));
    }

    /// Frees expired slots bit by bit, and tables that are out of use. A timer calls it.
    ///
    /// Shape: at least `parts` of [`PARTS`] of each table; more when it was not called for long.
    /// State: nothing that is remembered changes.
    /// Cost:  about 0.1 ms a MiB swept; off the data path. Once a second with one part is plenty.
    pub fn sweep(&self, now: Instant, parts: usize) {
        let second = self.begin(now).second;
        let mut sweeping = lock(&self.sweeping);
        self.retire(&mut sweeping, second);
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

    /// Takes out of use the tables whose last entry has expired, and frees those that nobody
    /// reads any more: here, because freeing takes time that the data path does not have.
    fn retire(&self, sweeping: &mut Sweeping, second: u64) {
        let tables = self.tables.load_full();
        // One second for the granularity of ages, ten for a thread that was slow to notice.
        let lifetime = u64::from(LIFETIME_SECONDS) + 11;
        let (older, expired): (Vec<_>, Vec<_>) = tables
            .older
            .iter()
            .cloned()
            .partition(|&(_, since)| second.saturating_sub(since) <= lifetime);
        if !expired.is_empty() {
            self.publish(Tables {
                newest: Arc::clone(&tables.newest),
                older,
                number: tables.number + 1,
                inserted: tables.inserted,
            });
            for (table, _) in expired {
                self.retired_bytes.fetch_add(table.bytes(), Relaxed);
                sweeping.retired.push(table);
            }
        }
        drop(tables);
        sweeping.retired.retain(|table| {
            let read = Arc::strong_count(table) > 1;
            if !read {
                self.retired_bytes.fetch_sub(table.bytes(), Relaxed);
            }
            read
        });
    }

    /// How long messages are remembered at present: 300 s, or the least age at which one was
    /// forgotten for want of memory in the last half to whole minute.
    pub fn lifetime(&self) -> Duration {
        let seconds = self.shortened_to.get(self.shares.second());
        Duration::from_secs(u64::from(seconds.min(LIFETIME_SECONDS)))
    }

    /// How many messages were forgotten early since this was last asked.
    pub fn take_shortened(&self) -> u64 {
        match self.shortened.load(Relaxed) {
            0 => 0,
            _ => self.shortened.swap(0, Relaxed),
        }
    }

    /// Bytes of all tables.
    pub fn bytes(&self) -> usize {
        self.bytes_of(&self.tables.load())
    }

    fn bytes_of(&self, tables: &Tables) -> usize {
        tables.all().map(Table::bytes).sum::<usize>() + self.retired_bytes.load(Relaxed)
    }

    /// Messages of the last 300 s.
    pub fn entries(&self) -> u64 {
        let expired = self.shares.expired();
        self.shares.inserted().saturating_sub(expired)
    }

    /// What holds for a whole batch.
    #[inline]
    fn begin(&self, now: Instant) -> Round<'_> {
        let second = now.as_secs();
        self.shares.roll(second, || self.keep_from_wrapping(second));
        let tables = self.tables.load();
        // Two thirds: then both buckets of a digest are full by chance once in millions. At four
        // fifths it is once in a hundred, and the overflow does not last for 30 s.
        let capacity = tables.newest.slots() / 3 * 2;
        let level = if self.shares.fresh() < capacity {
            u32::MAX
        } else {
            self.shares.level(capacity)
        };
        Round {
            seen: self,
            tables,
            second,
            level,
            place: OWN,
            inserts: 0,
        }
    }

    /// Before `second` begins: sees to it that no entry is so old that it looks young. The sweep
    /// does that long before; this is for a clock that leaps, and for want of sweeping.
    fn keep_from_wrapping(&self, second: u64) {
        let unswept = second - self.swept.load(Relaxed).min(second);
        if unswept > SWEEP_AT_LATEST {
            let tables = self.tables.load();
            for table in tables.all() {
                if unswept > WRAPS_AT {
                    // More than a lifetime has passed since this was last asked.
                    table.clear();
                } else {
                    table.sweep(second, 0, 1);
                }
            }
            self.swept.store(second, Relaxed);
        }
    }
}

impl Round<'_> {
    /// Steps 1 to 3 of the module page.
    #[inline]
    fn probe(&mut self, digest: u64, place: u16) -> Seen {
        if self.tables.contain(digest, self.second) {
            return Seen::Known;
        }
        if self.level != u32::MAX && self.has_its_share(place) {
            return if place == OWN {
                Seen::New
            } else {
                Seen::Refused
            };
        }
        let seen = self.seen;
        let _stripe = lock(&seen.stripes[digest as usize % STRIPES]);
        if seen.number.load(Acquire) != self.tables.number {
            self.tables = seen.tables.load();
        }
        if self.tables.older_contain(digest, self.second)
            || seen.overflow.contains(digest, self.second)
        {
            return Seen::Known;
        }
        let key = Key::new(digest, self.second);
        match self.tables.newest.insert(key) {
            Inserted::Known => return Seen::Known,
            Inserted::New => {}
            Inserted::Full(age) => self.make_room(digest, key, age),
        }
        if self.place != place {
            self.account();
            self.place = place;
        }
        self.inserts += 1;
        Seen::New
    }

    /// Step 4: remembers a digest both of whose buckets are full; `age` is that of the oldest
    /// entry there.
    #[cold]
    fn make_room(&self, digest: u64, key: Key, age: i16) {
        let seen = self.seen;
        let newest = &self.tables.newest;
        let growing = seen.next_size(&self.tables).is_some();
        let young = age <= SHORTEST_SECONDS as i16;
        if growing || young {
            let most = (newest.slots() / OVERFLOW_SLOTS_PER_ENTRY) as usize;
            let most = most.min(OVERFLOW_MOST);
            let (room, early) = seen.overflow.insert(digest, self.second, most);
            if early > 0 {
                seen.shortened.fetch_add(early, Relaxed);
                seen.shortened_to
                    .note(self.second, SHORTEST_SECONDS as i16 + 1);
            }
            if room {
                return;
            }
        }
        // A young entry goes only by chance, since the shares hold everybody below two thirds. To
        // lose the new message would be worse.
        if let Some(age) = newest.displace(key) {
            seen.shortened.fetch_add(1, Relaxed);
            seen.shortened_to.note(self.second, age);
        }
    }

    #[cold]
    fn has_its_share(&mut self, place: u16) -> bool {
        self.account();
        self.seen.shares.of(place) >= self.level
    }

    /// Enters the inserts of the last neighbor into its account.
    fn account(&mut self) {
        if self.inserts > 0 {
            self.seen.shares.add(self.place, self.inserts);
            self.inserts = 0;
        }
    }
}

impl Tables {
    fn all(&self) -> impl Iterator<Item = &Table> {
        let older = self.older.iter().map(|(table, _)| &**table);
        std::iter::once(&*self.newest).chain(older)
    }

    #[inline]
    fn contain(&self, digest: u64, second: u64) -> bool {
        self.newest.contains(Key::new(digest, second)) || self.older_contain(digest, second)
    }

    #[inline]
    fn older_contain(&self, digest: u64, second: u64) -> bool {
        self.older
            .iter()
            .any(|(table, _)| table.contains(Key::new(digest, second)))
    }
}

impl Shortened {
    fn new() -> Self {
        Self {
            halves: [const { AtomicU64::new(u64::MAX) }; 2],
        }
    }

    fn note(&self, second: u64, age: i16) {
        let half = second / u64::from(SHORTEST_SECONDS);
        let age = age.max(0) as u64;
        let slot = &self.halves[(half % 2) as usize];
        let old = slot.load(Relaxed);
        if old >> 16 != half || age < old & 0xFFFF {
            // Two threads at once: either age may stay, and both are true.
            slot.store(half << 16 | age, Relaxed);
        }
    }

    fn get(&self, second: u64) -> u16 {
        let half = second / u64::from(SHORTEST_SECONDS);
        let halves = self.halves.iter().map(|slot| slot.load(Relaxed));
        halves
            .filter(|slot| half.saturating_sub(slot >> 16) <= 1)
            .map(|slot| slot as u16)
            .min()
            .unwrap_or(u16::MAX)
    }
}

/// Locks; nothing behind these locks is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
