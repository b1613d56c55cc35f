//! Keys of nodes that were met over others alone (SEALED.md S74).
//!
//! Whoever relays could have met us first under any netid, and any member can make netids up: so
//! these bind what is sealed end to end, never a link, and the oldest goes when there are too many.

use std::collections::{BTreeMap, VecDeque};

use wire::NetId;

use super::PINS_LIMIT;

/// A key for each netid, the oldest first to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AfarPins {
    keys: BTreeMap<NetId, [u8; 32]>,
    /// The netids of `keys`, the oldest first.
    order: VecDeque<NetId>,
}

impl AfarPins {
    /// The key of a netid.
    pub fn get(&self, netid: NetId) -> Option<[u8; 32]> {
        self.keys.get(&netid).copied()
    }

    /// Remembers the key of a netid that has none yet.
    pub fn note(&mut self, netid: NetId, key: [u8; 32]) {
        if self.keys.contains_key(&netid) {
            return;
        }
        if self.order.len() >= PINS_LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        self.keys.insert(netid, key);
        self.order.push_back(netid);
    }

    /// Forgets the key of a netid.
    pub fn forget(&mut self, netid: NetId) -> Option<[u8; 32]> {
        let key = self.keys.remove(&netid)?;
        self.order.retain(|one| *one != netid);
        Some(key)
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (NetId, [u8; 32])> {
        let key = |netid: &NetId| Some((*netid, *self.keys.get(netid)?));
        self.order.iter().filter_map(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl FromIterator<(NetId, [u8; 32])> for AfarPins {
    fn from_iter<T: IntoIterator<Item = (NetId, [u8; 32])>>(all: T) -> Self {
        let mut pins = Self::default();
        for (netid, key) in all {
            pins.note(netid, key);
        }
        pins
    }
}
