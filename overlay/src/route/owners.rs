//! A bounded, concurrent table of what was learned from traffic: which netid an address belongs to.
//!
//! Reads take a shard's read lock, writes its write lock; callers keep both off the steady path
//! with a flow cache each. A full table refuses newcomers; room is made by
//! [`Owners::sweep`], which the control side calls once a second, so no packet ever pays for it.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use dashmap::{DashMap, Entry as Slot};

use crate::id::NetId;
use crate::keyed::KeyedHasher;
use crate::time::{Duration, Instant};

/// Bounds of a table.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries in all.
    pub total: usize,
    /// Entries of one netid.
    pub of_one: usize,
    /// Unseen for so long, an entry is forgotten.
    pub lifetime: Duration,
    /// Seen within this, an entry never makes room for another.
    pub protected: Duration,
}

/// What is known of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Whose it is.
    pub netid: NetId,
    /// When it was last seen there, to the second.
    pub seen: Instant,
    /// Moves between netids since `moves_since`.
    pub moves: u8,
    /// Start of the period in which moves are counted.
    pub moves_since: Instant,
    /// Until when it is held still for moving too often.
    pub held_until: Instant,
}

/// What [`Owners::note`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It was this netid's already.
    Known,
    /// It is now.
    Added,
    /// It is nobody's, and there is no room.
    Full,
    /// It is another netid's.
    Rival(Owned),
}

/// Last-seen times are written at most this often.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// A sweep makes room from this share of a bound on, in eighths.
const CROWDED_EIGHTHS: usize = 7;
/// Shards of a map: enough that workers rarely meet.
const SHARDS: usize = 16;

/// Keys and whose they are.
#[derive(Debug)]
pub struct Owners<K: Hash + Eq> {
    entries: DashMap<K, Owned, KeyedHasher>,
    // Lock order: a shard of `entries`, then a shard of `counts`, never the other way round.
    counts: DashMap<NetId, usize, KeyedHasher>,
    total: AtomicUsize,
    limits: Limits,
}

impl<K: Hash + Eq + Copy + Ord> Owners<K> {
    /// An empty table.
    pub fn new(limits: Limits, hasher: KeyedHasher) -> Self {
        Self {
            entries: DashMap::with_hasher_and_shard_amount(hasher, SHARDS),
            counts: DashMap::with_hasher_and_shard_amount(hasher, SHARDS),
            total: AtomicUsize::new(0),
            limits,
        }
    }

    /// Whose `key` is.
    pub fn find(&self, now: Instant, key: &K) -> Option<Owned> {
        let entry = self.entries.get(key)?;
        (!self.is_over(now, &entry)).then_some(*entry)
    }

    /// Notes that `key` was seen at `netid`; another's stays another's.
    pub fn note(&self, now: Instant, key: K, netid: NetId) -> Noted {
        if let Some(entry) = self.entries.get(&key)
            && entry.netid == netid
            && now.since(entry.seen) < REFRESH_INTERVAL
        {
            return Noted::Known;
        }
        match self.entries.entry(key) {
            Slot::Occupied(mut slot) => {
                let entry = slot.get_mut();
                if entry.netid == netid {
                    entry.seen = now;
                    return Noted::Known;
                }
                if !self.is_over(now, entry) {
                    return Noted::Rival(*entry);
                }
                if !self.count(netid) {
                    return Noted::Full;
                }
                self.uncount(entry.netid);
                *entry = fresh(now, netid);
                Noted::Added
            }
            Slot::Vacant(slot) => {
                if !self.reserve(netid) {
                    return Noted::Full;
                }
                slot.insert(fresh(now, netid));
                Noted::Added
            }
        }
    }

    /// Changes the entry of `key`, for instance to another netid; nothing when there is none or the
    /// new netid has its share.
    pub fn change(&self, key: &K, change: impl FnOnce(&mut Owned)) {
        let Some(mut entry) = self.entries.get_mut(key) else {
            return;
        };
        let mut changed = *entry;
        change(&mut changed);
        if changed.netid != entry.netid {
            if !self.count(changed.netid) {
                return;
            }
            self.uncount(entry.netid);
        }
        *entry = changed;
    }

    /// Forgets what is over, and makes room where a bound is near. Once a second, off the path.
    pub fn sweep(&self, now: Instant) {
        self.remove_where(|_, entry| self.is_over(now, entry));
        let total_limit = self.limits.total * CROWDED_EIGHTHS / 8;
        let one_limit = self.limits.of_one * CROWDED_EIGHTHS / 8;
        let crowded = |netid: NetId| self.count_of(netid) > one_limit;
        if self.len() <= total_limit && !self.counts.iter().any(|count| *count.value() > one_limit)
        {
            return;
        }
        let mut idle: Vec<(Instant, K, NetId)> = self
            .entries
            .iter()
            .filter(|entry| now.since(entry.seen) > self.limits.protected)
            .map(|entry| (entry.seen, *entry.key(), entry.netid))
            .collect();
        idle.sort_unstable();
        for (seen, key, netid) in idle {
            if self.len() > total_limit || crowded(netid) {
                let unchanged = |_: &K, entry: &Owned| entry.seen == seen && entry.netid == netid;
                if self.entries.remove_if(&key, unchanged).is_some() {
                    self.release(netid);
                }
            }
        }
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.total.load(Relaxed)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys are `netid`'s.
    pub fn count_of(&self, netid: NetId) -> usize {
        self.counts.get(&netid).map_or(0, |count| *count)
    }

    /// All keys and owners, for `status`; in no order.
    pub fn for_each(&self, mut each: impl FnMut(&K, &Owned)) {
        for entry in &self.entries {
            each(entry.key(), entry.value());
        }
    }

    fn is_over(&self, now: Instant, entry: &Owned) -> bool {
        now.since(entry.seen) >= self.limits.lifetime
    }

    fn remove_where(&self, which: impl Fn(&K, &Owned) -> bool) {
        self.entries.retain(|key, entry| {
            let over = which(key, entry);
            if over {
                self.release(entry.netid);
            }
            !over
        });
    }

    /// Takes a place in the table and in the netid's share.
    fn reserve(&self, netid: NetId) -> bool {
        let room = |total: usize| (total < self.limits.total).then_some(total + 1);
        if self.total.fetch_update(Relaxed, Relaxed, room).is_err() {
            return false;
        }
        let counted = self.count(netid);
        if !counted {
            self.total.fetch_sub(1, Relaxed);
        }
        counted
    }

    fn release(&self, netid: NetId) {
        self.total.fetch_sub(1, Relaxed);
        self.uncount(netid);
    }

    fn count(&self, netid: NetId) -> bool {
        let mut count = self.counts.entry(netid).or_insert(0);
        let room = *count < self.limits.of_one;
        if room {
            *count += 1;
        }
        room
    }

    fn uncount(&self, netid: NetId) {
        if let Slot::Occupied(mut count) = self.counts.entry(netid) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn fresh(now: Instant, netid: NetId) -> Owned {
    Owned {
        netid,
        seen: now,
        moves: 0,
        moves_since: now,
        held_until: Instant::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        total: 64,
        of_one: 16,
        lifetime: Duration::from_secs(300),
        protected: Duration::from_secs(30),
    };

    fn owners() -> Owners<u32> {
        Owners::new(LIMITS, KeyedHasher(1, 2))
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(seconds)
    }

    #[test]
    fn an_entry_is_known_until_its_lifetime_after_it_was_last_seen() {
        let owners = owners();
        assert_eq!(owners.note(at(0), 1, NetId(7)), Noted::Added);
        assert_eq!(owners.note(at(100), 1, NetId(7)), Noted::Known);
        let end = at(400);
        let before = end - Duration::from_micros(1);
        assert_eq!(owners.find(before, &1).unwrap().netid, NetId(7));
        assert_eq!(owners.find(end, &1), None);
        owners.sweep(before);
        assert_eq!(owners.len(), 1);
        owners.sweep(end);
        assert!(owners.is_empty());
        assert_eq!(owners.count_of(NetId(7)), 0);
    }

    #[test]
    fn another_netids_entry_is_a_rival_until_it_is_over() {
        let owners = owners();
        owners.note(at(0), 1, NetId(7));
        let noted = owners.note(at(299), 1, NetId(8));
        assert!(matches!(noted, Noted::Rival(owned) if owned.netid == NetId(7)));
        assert_eq!(owners.note(at(300), 1, NetId(8)), Noted::Added);
        assert_eq!(
            (owners.count_of(NetId(7)), owners.count_of(NetId(8))),
            (0, 1)
        );
    }

    #[test]
    fn changing_the_owner_moves_the_share() {
        let owners = owners();
        owners.note(at(0), 1, NetId(7));
        owners.change(&1, |entry| entry.netid = NetId(8));
        assert_eq!(
            (owners.count_of(NetId(7)), owners.count_of(NetId(8))),
            (0, 1)
        );
        assert_eq!(owners.len(), 1);
    }

    #[test]
    fn bounds_hold_for_one_netid_and_in_all() {
        let owners = owners();
        for key in 0..1000 {
            owners.note(at(0), key, NetId(7));
        }
        assert_eq!((owners.len(), owners.count_of(NetId(7))), (16, 16));
        for key in 1000..2000 {
            owners.note(at(0), key, NetId(key % 10 + 20));
        }
        assert_eq!(owners.len(), 64);
    }

    #[test]
    fn room_is_made_from_idle_entries_only() {
        let owners = owners();
        for key in 0..16 {
            owners.note(at(u64::from(key)), key, NetId(7));
        }
        owners.note(at(0), 100, NetId(8));
        // At 32 s keys 0 and 1 are idle for more than 30 s.
        owners.sweep(at(32));
        assert_eq!(owners.count_of(NetId(7)), 14);
        assert_eq!(owners.find(at(32), &0), None);
        assert!(owners.find(at(32), &2).is_some());
        // The other netid is far from its share and keeps what it has.
        assert!(owners.find(at(32), &100).is_some());
        assert_eq!(owners.note(at(32), 50, NetId(7)), Noted::Added);
    }
}
