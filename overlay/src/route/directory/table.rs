//! The claims of others, and which of them holds a prefix.
//!
//! ```text
//!   told by its owner -> fresh --120 s unheard, or gone--> stale --10 minutes--> forgotten
//!                          ^  \______ heard again ______/
//!   told by a neighbor -> hearsay --120 s after the owner was last heard--> forgotten
//! ```
//!
//! Which claim holds a prefix is computed from what the table says at `now`, not kept: PROTOCOL.md,
//! "Directory payload", D6. Everything is bounded (D9), and ordered maps make it the same on every run.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::id::NetId;
use crate::route::directory::ClaimState;
use crate::time::{Duration, Instant};

/// Unheard for so long, a claim is stale.
pub const LIFETIME: Duration = Duration::from_secs(120);
/// A stale claim is usable for so long.
pub const STALE_LIFETIME: Duration = Duration::from_secs(600);
/// Claims first heard within this of each other are simultaneous: the lower netid holds.
pub const SIMULTANEOUS: Duration = Duration::from_secs(10);
/// The most claims of all others together.
pub const MAX_CLAIMS: usize = 4096;
/// The most claims of one netid.
pub const MAX_OF_ONE: usize = 64;
/// The most claims of one prefix; bounds the search for its holder.
pub const MAX_RIVALS: usize = 8;

/// A full table is searched for room at most this often, so that a flood of claims is cheap.
const MAKE_ROOM_INTERVAL: Duration = Duration::from_secs(1);
/// How many claims make room at once.
const MAKE_ROOM: usize = 64;

/// Who told of a claim.
#[derive(Clone, Copy, Debug)]
pub(super) enum Teller {
    /// The owner, in this set of claims.
    Owner { set: u32 },
    /// A neighbor: how long ago it heard the owner, and since when it knows the claim.
    Neighbor { age: Duration, held: Duration },
}

/// What became of a claim told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Known, or of no use; nothing changed but times.
    Kept,
    /// New, or back from being stale.
    Changed,
    /// No room.
    Full,
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    /// Microseconds since start when the claim was first held; before the start for hearsay.
    since: i64,
    /// When this node first had it.
    met: Instant,
    /// Microseconds since start when the owner was last heard; before the start for hearsay.
    heard: i64,
    /// Until when it is fresh, or usable as hearsay.
    expires: Instant,
    /// The set it was last in; `None` is hearsay.
    set: Option<u32>,
}

impl Claim {
    fn is_live(&self, now: Instant) -> bool {
        now < self.expires
    }

    fn is_stale(&self, now: Instant) -> bool {
        !self.is_live(now) && self.set.is_some() && now < self.expires + STALE_LIFETIME
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        !self.is_live(now) && !self.is_stale(now)
    }

    /// When its state next changes, if it is not heard again.
    fn changes_at(&self, now: Instant) -> Instant {
        if self.is_live(now) {
            self.expires
        } else {
            self.expires + STALE_LIFETIME
        }
    }
}

#[derive(Debug, Default)]
struct Owner {
    prefixes: BTreeSet<IpNet>,
    /// The set being received, and which of its parts came.
    set: u32,
    parts: u64,
}

/// The claims of all others.
#[derive(Debug)]
pub(super) struct Table {
    claims: BTreeMap<(IpNet, NetId), Claim>,
    owners: BTreeMap<NetId, Owner>,
    make_room_after: Instant,
    /// No state changes before this by time alone; may be early, never late.
    changes_at: Instant,
}

/// One claim for `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) prefix: IpNet,
    pub(super) owner: NetId,
    pub(super) state: ClaimState,
    /// Since the owner was last heard.
    pub(super) age: Duration,
    /// Since the claim was first heard, here or by who told of it.
    pub(super) held: Duration,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            claims: BTreeMap::new(),
            owners: BTreeMap::new(),
            make_room_after: Instant::ZERO,
            changes_at: Instant::FAR,
        }
    }

    /// Enters a claim or refreshes it.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        owner: NetId,
        prefix: IpNet,
        teller: Teller,
    ) -> Told {
        if let Teller::Neighbor { age, .. } = teller
            && age >= LIFETIME
        {
            return Told::Kept;
        }
        let known = self.claims.get(&(prefix, owner));
        if known.is_some_and(|claim| !claim.is_forgotten(now)) {
            return self.tell_again(now, owner, prefix, teller);
        }
        if known.is_none() && !self.has_room(now, owner, prefix) {
            return Told::Full;
        }
        let claim = match teller {
            Teller::Owner { set } => Claim {
                since: micros(now),
                met: now,
                heard: micros(now),
                expires: now + LIFETIME,
                set: Some(set),
            },
            Teller::Neighbor { age, held } => Claim {
                since: self.since_of_hearsay(now, owner, prefix, held),
                met: now,
                heard: before(now, age),
                expires: now + LIFETIME.saturating_sub(age),
                set: None,
            },
        };
        self.changes_at = self.changes_at.min(claim.expires);
        self.claims.insert((prefix, owner), claim);
        self.owners
            .entry(owner)
            .or_default()
            .prefixes
            .insert(prefix);
        Told::Changed
    }

    fn tell_again(&mut self, now: Instant, owner: NetId, prefix: IpNet, teller: Teller) -> Told {
        let rival = self.has_live_rival(now, owner, prefix);
        let Some(claim) = self.claims.get_mut(&(prefix, owner)) else {
            return Told::Kept;
        };
        match teller {
            Teller::Owner { set } => {
                claim.set = Some(set);
                self.changes_at = self.changes_at.min(now + LIFETIME);
                refresh(claim, now, rival)
            }
            // What the owner said itself is never replaced by hearsay.
            Teller::Neighbor { age, .. } => {
                if claim.set.is_none() {
                    claim.expires = claim.expires.max(now + LIFETIME.saturating_sub(age));
                    claim.heard = claim.heard.max(before(now, age));
                }
                Told::Kept
            }
        }
    }

    /// Refreshes what `owner` claimed itself; returns whether any claim came back.
    pub(super) fn heard(&mut self, now: Instant, owner: NetId) -> bool {
        let Some(entry) = self.owners.get(&owner) else {
            return false;
        };
        let mut changed = false;
        for &prefix in &entry.prefixes {
            let key = (prefix, owner);
            // The rival is looked for only where it matters: when the claim was stale.
            let rival = self
                .claims
                .get(&key)
                .is_some_and(|claim| claim.is_stale(now))
                && rivals(&self.claims, prefix, owner).any(|(_, claim)| claim.is_live(now));
            if let Some(claim) = self.claims.get_mut(&key)
                && claim.set.is_some()
                && !claim.is_forgotten(now)
            {
                changed |= refresh(claim, now, rival) == Told::Changed;
            }
        }
        if changed {
            self.changes_at = self.changes_at.min(now + LIFETIME);
        }
        changed
    }

    /// The owner left: its claims are stale at once, hearsay of it is forgotten.
    pub(super) fn gone(&mut self, now: Instant, owner: NetId) -> bool {
        let Some(entry) = self.owners.get(&owner) else {
            return false;
        };
        let mut changed = false;
        for &prefix in &entry.prefixes {
            if let Some(claim) = self.claims.get_mut(&(prefix, owner))
                && claim.is_live(now)
            {
                claim.expires = now;
                changed = true;
            }
        }
        if changed {
            self.sweep(now);
        }
        changed
    }

    /// Notes that a part of `set` came; once all have, forgets what is not in the set.
    pub(super) fn part(&mut self, owner: NetId, set: u32, part: u8, parts: u8) -> bool {
        let Some(entry) = self.owners.get_mut(&owner) else {
            return false;
        };
        if entry.set != set {
            (entry.set, entry.parts) = (set, 0);
        }
        entry.parts |= 1_u64.checked_shl(u32::from(part)).unwrap_or(0);
        let all = u64::MAX >> (64 - u32::from(parts.clamp(1, 64)));
        if entry.parts & all != all {
            return false;
        }
        self.forget(
            |key, claim| key.1 == owner && claim.set != Some(set),
            Some(owner),
        )
    }

    /// Forgets claims of `owner` that are not among `prefixes`.
    pub(super) fn keep_only(&mut self, owner: NetId, prefixes: &[IpNet]) -> bool {
        self.forget(
            |key, _| key.1 == owner && !prefixes.contains(&key.0),
            Some(owner),
        )
    }

    /// Forgets one claim of exactly `prefix`; returns whose it was.
    pub(super) fn forget_prefix(&mut self, prefix: IpNet) -> Option<NetId> {
        let owner = rivals(&self.claims, prefix, NetId::ANY)
            .map(|(owner, _)| owner)
            .next()?;
        self.remove((prefix, owner));
        Some(owner)
    }

    /// Whether `owner`'s claim of `prefix` is known and not stale.
    pub(super) fn is_live(&self, now: Instant, prefix: IpNet, owner: NetId) -> bool {
        self.claims
            .get(&(prefix, owner))
            .is_some_and(|claim| claim.is_live(now))
    }

    /// Forgets what time has ended, and notes when the next state changes.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.forget(|_, claim| claim.is_forgotten(now), None);
        let next = self
            .claims
            .values()
            .map(|claim| claim.changes_at(now))
            .min();
        self.changes_at = next.unwrap_or(Instant::FAR);
    }

    /// When to call [`Self::sweep`] next.
    pub(super) fn next_change(&self) -> Option<Instant> {
        (!self.claims.is_empty()).then_some(self.changes_at)
    }

    /// Who holds `prefix`.
    pub(super) fn holder(&self, now: Instant, prefix: IpNet) -> Option<NetId> {
        let all = || rivals(&self.claims, prefix, NetId::ANY);
        let live = || all().filter(|(_, claim)| claim.is_live(now));
        if let Some(earliest) = live().map(|(_, claim)| claim.since).min() {
            let window = i64::try_from(SIMULTANEOUS.as_micros()).unwrap_or(i64::MAX);
            return live()
                .filter(|(_, claim)| claim.since <= earliest.saturating_add(window))
                .map(|(owner, _)| owner)
                .min();
        }
        all()
            .filter(|(_, claim)| claim.is_stale(now))
            .min_by_key(|(owner, claim)| (std::cmp::Reverse(claim.expires), *owner))
            .map(|(owner, _)| owner)
    }

    /// Every prefix that has a holder, and the holder.
    pub(super) fn holders(&self, now: Instant) -> Vec<(IpNet, NetId)> {
        let mut prefixes: Vec<IpNet> = self.claims.keys().map(|(prefix, _)| *prefix).collect();
        prefixes.dedup();
        prefixes
            .into_iter()
            .filter_map(|prefix| Some((prefix, self.holder(now, prefix)?)))
            .collect()
    }

    /// All netids with claims.
    pub(super) fn claimants(&self) -> impl Iterator<Item = NetId> {
        self.owners.keys().copied()
    }

    /// All claims that are not forgotten.
    pub(super) fn iter(&self, now: Instant) -> impl Iterator<Item = Seen> {
        let known = self
            .claims
            .iter()
            .filter(move |(_, claim)| !claim.is_forgotten(now));
        known.map(move |(&(prefix, owner), claim)| {
            let state = if self.holder(now, prefix) != Some(owner) {
                ClaimState::Refused
            } else if !claim.is_live(now) {
                ClaimState::Stale
            } else if claim.set.is_some() {
                ClaimState::Fresh
            } else {
                ClaimState::Hearsay
            };
            Seen {
                prefix,
                owner,
                state,
                age: after(now, claim.heard),
                held: after(now, claim.since),
            }
        })
    }

    /// How many claims there are.
    pub(super) fn len(&self) -> usize {
        self.claims.len()
    }

    fn has_live_rival(&self, now: Instant, owner: NetId, prefix: IpNet) -> bool {
        rivals(&self.claims, prefix, owner).any(|(_, claim)| claim.is_live(now))
    }

    /// Hearsay counts from when the teller first heard it, so that a newcomer sides with the mesh;
    /// but it cannot push out what has been known here for long.
    fn since_of_hearsay(&self, now: Instant, owner: NetId, prefix: IpNet, held: Duration) -> i64 {
        let established = rivals(&self.claims, prefix, owner)
            .any(|(_, claim)| claim.is_live(now) && now.since(claim.met) > SIMULTANEOUS);
        if established {
            return micros(now);
        }
        before(now, held)
    }

    fn has_room(&mut self, now: Instant, owner: NetId, prefix: IpNet) -> bool {
        let of_one = self
            .owners
            .get(&owner)
            .map_or(0, |entry| entry.prefixes.len());
        if of_one >= MAX_OF_ONE || rivals(&self.claims, prefix, owner).count() >= MAX_RIVALS {
            return false;
        }
        if self.claims.len() >= MAX_CLAIMS && now >= self.make_room_after {
            self.make_room_after = now + MAKE_ROOM_INTERVAL;
            self.make_room(now);
        }
        self.claims.len() < MAX_CLAIMS
    }

    /// Drops claims that hold nothing fresh, the least useful first.
    fn make_room(&mut self, now: Instant) {
        let mut useless: Vec<_> = self
            .iter(now)
            .filter(|seen| seen.state != ClaimState::Fresh)
            .map(|seen| {
                let rank = match seen.state {
                    ClaimState::Stale => 0,
                    ClaimState::Refused => 1,
                    _ => 2,
                };
                (rank, std::cmp::Reverse(seen.age), seen.prefix, seen.owner)
            })
            .collect();
        useless.sort_unstable();
        useless.truncate(MAKE_ROOM);
        for (_, _, prefix, owner) in useless {
            self.remove((prefix, owner));
        }
    }

    /// Removes what `which` names, among the claims of `owner` or all; returns whether there was any.
    fn forget(
        &mut self,
        which: impl Fn(&(IpNet, NetId), &Claim) -> bool,
        owner: Option<NetId>,
    ) -> bool {
        let keys: Vec<_> = match owner {
            Some(owner) => {
                let prefixes = self.owners.get(&owner).map(|entry| &entry.prefixes);
                let keys = prefixes
                    .into_iter()
                    .flatten()
                    .map(|&prefix| (prefix, owner));
                keys.filter(|key| self.claims.get(key).is_some_and(|claim| which(key, claim)))
                    .collect()
            }
            None => {
                let named = self.claims.iter().filter(|(key, claim)| which(key, claim));
                named.map(|(key, _)| *key).collect()
            }
        };
        for &key in &keys {
            self.remove(key);
        }
        !keys.is_empty()
    }

    fn remove(&mut self, key: (IpNet, NetId)) {
        self.claims.remove(&key);
        if let Some(entry) = self.owners.get_mut(&key.1) {
            entry.prefixes.remove(&key.0);
            if entry.prefixes.is_empty() {
                self.owners.remove(&key.1);
            }
        }
    }
}

/// The claims of `prefix` but `except`'s.
fn rivals(
    claims: &BTreeMap<(IpNet, NetId), Claim>,
    prefix: IpNet,
    except: NetId,
) -> impl Iterator<Item = (NetId, &Claim)> {
    claims
        .range((prefix, NetId::ANY)..=(prefix, NetId::ALL))
        .map(|(key, claim)| (key.1, claim))
        .filter(move |(owner, _)| *owner != except)
}

fn refresh(claim: &mut Claim, now: Instant, rival: bool) -> Told {
    let back = !claim.is_live(now);
    if back && rival {
        claim.since = micros(now);
        claim.met = now;
    }
    claim.heard = micros(now);
    claim.expires = now + LIFETIME;
    if back { Told::Changed } else { Told::Kept }
}

fn micros(at: Instant) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

fn before(now: Instant, age: Duration) -> i64 {
    micros(now).saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
}

fn after(now: Instant, earlier: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros(now).saturating_sub(earlier)).unwrap_or(0))
}
