//! Addresses of nodes that never claim any, learned from their packets. Lowest precedence.
//!
//! A node of another make sends plain packets and no directory payloads; its source addresses tell
//! where answers go. The first binding holds: while its node is heard with it, another netid that
//! uses the address is contradicted.

use std::net::IpAddr;

use crate::id::NetId;
use crate::keyed::KeyedHasher;
use crate::route::owners::{Limits, Noted, Owners};
use crate::time::{Duration, Instant};

/// Unseen for so long, an address is forgotten.
pub const LIFETIME: Duration = Duration::from_secs(600);
/// Unseen for so long, an address may pass to another netid: as long as a claim is fresh.
pub const HELD: Duration = Duration::from_secs(120);
/// Addresses in all.
pub const MAX_LEARNED: usize = 4096;
/// Addresses of one netid.
pub const MAX_OF_ONE: usize = 64;

/// Learned addresses, shared by all workers.
#[derive(Debug)]
pub struct Learned {
    owners: Owners<IpAddr>,
}

impl Learned {
    /// Nothing learned.
    pub fn new(hasher: KeyedHasher) -> Self {
        let limits = Limits {
            total: MAX_LEARNED,
            of_one: MAX_OF_ONE,
            lifetime: LIFETIME,
            protected: HELD,
        };
        Self {
            owners: Owners::new(limits, hasher),
        }
    }

    /// Who was heard with `address` in the last ten minutes.
    pub fn find(&self, now: Instant, address: IpAddr) -> Option<NetId> {
        Some(self.owners.find(now, &address)?.netid)
    }

    /// Notes a packet of `netid` with source `address`; returns whether that contradicts what is
    /// known. A table that is full contradicts nothing.
    pub fn note(&self, now: Instant, address: IpAddr, netid: NetId) -> bool {
        let Noted::Rival(rival) = self.owners.note(now, address, netid) else {
            return false;
        };
        if now.since(rival.seen) < HELD {
            return true;
        }
        self.owners.change(&address, |entry| {
            entry.netid = netid;
            entry.seen = now;
        });
        false
    }

    /// Whether another than `netid` was heard with `address` just now; learns nothing.
    pub fn contradicts(&self, now: Instant, address: IpAddr, netid: NetId) -> bool {
        self.owners
            .find(now, &address)
            .is_some_and(|owned| owned.netid != netid && now.since(owned.seen) < HELD)
    }

    /// Forgets what is over. Once a second, by the control side.
    pub fn sweep(&self, now: Instant) {
        self.owners.sweep(now);
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Each address, its netid, and when it was last seen; in no order. For `nodes`.
    pub fn for_each(&self, mut each: impl FnMut(IpAddr, NetId, Instant)) {
        self.owners
            .for_each(|address, owned| each(*address, owned.netid, owned.seen));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_binding_holds_while_it_is_heard() {
        let learned = Learned::new(KeyedHasher(1, 2));
        let address = "10.0.0.9".parse().unwrap();
        let at = Instant::from_secs;
        assert!(!learned.note(at(0), address, NetId(7)));
        assert!(!learned.note(at(50), address, NetId(7)));
        let over = at(50) + HELD;
        assert!(learned.note(over - Duration::from_micros(1), address, NetId(8)));
        assert!(learned.contradicts(over - Duration::from_micros(1), address, NetId(8)));
        assert_eq!(learned.find(over, address), Some(NetId(7)));
        assert!(!learned.note(over, address, NetId(8)));
        assert_eq!(learned.find(over, address), Some(NetId(8)));
        assert_eq!(learned.find(over + LIFETIME, address), None);
    }
}
