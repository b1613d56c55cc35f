//! The five-minute memory: which messages this node has seen.
//!
//! Flooding rests on it: what is new is delivered and forwarded, what is known goes no further.
//! Two mistakes are possible and both are guarded against. *Known though it is new* loses a good
//! message: entries are 48 bits of a keyed digest, compared in 16 slots, and no memory shortage
//! takes a message for known. *New though it is known* lets a message go round again: an entry
//! lives 300 s, and never less than 30 s when memory is short.
//!
//! How an insert goes ([`SeenTable::probe_batch`]), without a lock:
//!
//! 1. Look into the tables. Found: known.
//! 2. Write into the oldest slot of the digest's two buckets, with one compare-and-exchange. That
//!    is nearly always all: of several threads with the same message only one can succeed
//!    (`table.rs` says why).
//! 3. Assure oneself that no larger table has come meanwhile, in which another thread may have
//!    been first (`round.rs`).
//! 4. No slot is free: use the overflow while a larger table is being made; else forget the
//!    oldest entry, when it is older than 30 s.
//!
//! How its size follows the traffic (`tables.rs`): [`SeenTable::growth_wanted`] and
//! [`SeenTable::shrinking_wanted`] say how large a table it wants, a background thread makes one
//! ([`Generation::allocate`]) and hands it over ([`SeenTable::adopt`]). From then on it takes the
//! inserts; the older ones are only read, and freed when their last entry has expired. Nothing is
//! ever copied and no thread of the data path waits.
//!
//! How it stays fair: when three fifths of the slots were filled within the last 30 s, and no
//! larger table can come, each neighbor has a share (`shares.rs`), and what exceeds it is refused.
//! See SECURITY T11.
//!
//! Read [`SeenTable`] first, then `table.rs` for what lies in the memory. The tests compare all of
//! it with a plain map. Source: DATAPATH 4.2 and 10; two choices after Azar, Broder, Karlin, Upfal
//! (1999).

mod overflow;
mod round;
mod shares;
mod shortened;
mod sweep;
mod table;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::time::{Duration, Instant};
use overflow::Overflow;
use round::Round;
use shares::Shares;
use shortened::Shortened;
pub use sweep::PARTS;
use sweep::Sweeping;
use table::Table;
pub use tables::Generation;
use tables::Tables;

/// How long a message is remembered at least, when memory allows: 5 minutes, the protocol's own
/// figure.
pub const LIFETIME: Duration = Duration::from_secs(LIFETIME_SECONDS as u64);
/// What the lifetime is never shortened below for want of memory: far longer than a message
/// travels, since no node holds one back.
pub const SHORTEST_LIFETIME: Duration = Duration::from_secs(SHORTEST_SECONDS as u64);
/// The place of this node's own messages among the neighbors'. They are never refused: beyond
/// their share they are new and not remembered. Their echoes are known by their src (R14).
pub const OWN: u16 = u16::MAX;

const LIFETIME_SECONDS: u16 = 300;
const SHORTEST_SECONDS: u16 = 30;

/// Memory of a [`SeenTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenConfig {
    /// Bytes of the first table, and of that to which it shrinks when little comes. 4 MiB remember
    /// 870 messages a second for 5 minutes without growing; too small a start only costs some
    /// growing.
    pub start_bytes: usize,
    /// Bytes of all tables at most. Default 256 MiB, of which the last table gets 150: 39,000
    /// messages a second for 5 minutes, to three fifths of its slots. At 45,000 three in a thousand
    /// are forgotten early, and 390,000 are still remembered for 30 s. Too small: the lifetime is
    /// shortened, then neighbors are refused.
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

/// The memory of messages. See the module page.
///
/// Calls:  from any thread at once; [`Self::sweep`] and [`Self::adopt`] off the data path.
/// Bounds: `memory_bytes`, and about 0.4 MiB for accounts and overflow.
#[derive(Debug)]
pub struct SeenTable {
    tables: ArcSwap<Tables>,
    /// [`Tables::generation`] of `tables`, and a moment before it.
    generation: AtomicU64,
    /// Held while the two above are written.
    publishing: Mutex<()>,
    overflow: Overflow,
    shares: Shares,
    sweeping: Mutex<Sweeping>,
    /// Bytes of the tables out of use that are not freed yet.
    retired_bytes: AtomicUsize,
    /// No slot was stale in this second.
    swept: AtomicU64,
    start_bytes: usize,
    memory_bytes: usize,
    shortened: AtomicU64,
    shortened_to: Shortened,
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
        let first = Table::new(start, 0);
        Self {
            start_bytes: first.bytes(),
            tables: ArcSwap::from_pointee(Tables::new(first)),
            generation: AtomicU64::new(0),
            publishing: Mutex::default(),
            overflow: Overflow::new(),
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
            tables.prefetch(digest);
        }
    }

    /// Says of each digest whether it is new, and remembers those that are.
    ///
    /// Shape: `entries` are digests with the place of the neighbor they came from ([`OWN`] for our
    ///        own); `seen` is as long, and is filled in the same order.
    /// State: a digest twice in `entries` is new at most once.
    pub fn probe_batch(&self, now: Instant, entries: &[(u64, u16)], seen: &mut [Seen]) {
        let mut round = Round::begin(self, now);
        for (&(digest, place), seen) in entries.iter().zip(seen) {
            *seen = round.probe(digest, place);
        }
        round.account();
    }

    /// [`Self::probe_batch`] of one.
    pub fn insert(&self, now: Instant, digest: u64, place: u16) -> Seen {
        let mut round = Round::begin(self, now);
        let seen = round.probe(digest, place);
        round.account();
        seen
    }

    /// Whether `digest` is remembered. Changes nothing.
    pub fn contains(&self, now: Instant, digest: u64) -> bool {
        let Round { tables, second, .. } = Round::begin(self, now);
        tables.newest.contains(digest, second)
            || tables.older_contain(digest, second)
            || self.overflow.contains(digest, second)
    }

    /// Whether so much came within 30 s that shares hold: not all of our own is remembered then.
    pub fn is_short(&self, now: Instant) -> bool {
        Round::begin(self, now).level != u32::MAX
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

    /// Messages of the last 300 s.
    pub fn entries(&self) -> u64 {
        let expired = self.shares.expired();
        self.shares.inserted().saturating_sub(expired)
    }
}

/// Locks; nothing behind these locks is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
