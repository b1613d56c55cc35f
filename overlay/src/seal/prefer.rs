//! Who is known to speak sealed, in a node that prefers it: latched, never spoken to in plain again.
//!
//! A mesh that moves from plain to sealed has nodes of both sorts for a while. A node that prefers
//! sealed links answers every handshake, dials sealed, and speaks plain to whoever does not answer
//! (S83, S84). Silence is an attacker's cheapest tool, so the first session with a node binds: its
//! netid, its key, where it was, and the peer of the settings that it is (S85). Only the owner
//! unbinds it.
//!
//! No clock, no file: the driver writes down what changed and says when the time for this is over.
//! Read [`Prefer::latch`] first.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use wire::NetId;

use crate::node::zone::OpenZone;

/// Nodes latched at once. From then on nobody else is spoken to in plain who was not before.
pub const LATCHES_LIMIT: usize = 4_096;
/// Addresses of one latched node; the oldest goes first. Also its peers of the settings.
pub const PLACES_LIMIT: usize = 16;

/// What is known of one node that came up sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latch {
    /// Its S when it came up last.
    pub static_key: [u8; 32],
    /// Where it was, the latest last.
    pub places: Vec<SocketAddr>,
    /// The peers of the settings that it is, as they are written there.
    pub peers: Vec<String>,
}

/// All of them.
pub type Latches = BTreeMap<NetId, Latch>;

/// What a node remembers that prefers sealed links. Calls: by one owner.
#[derive(Debug)]
pub struct Prefer {
    latches: Latches,
    /// What workers know of it.
    zone: Arc<OpenZone>,
    is_changed: bool,
}

impl Prefer {
    /// With what was remembered: latches, and the netids that have a pin.
    pub fn new(latches: Latches, pinned: impl Iterator<Item = NetId>, mut zone: OpenZone) -> Self {
        for netid in pinned.chain(latches.keys().copied()) {
            zone.add_node(netid);
        }
        for place in latches.values().flat_map(|latch| &latch.places) {
            zone.add_place(*place);
        }
        Self {
            latches,
            zone: Arc::new(zone),
            is_changed: false,
        }
    }

    /// What workers are to go by.
    pub const fn zone(&self) -> &Arc<OpenZone> {
        &self.zone
    }

    /// The nodes latched.
    pub const fn latches(&self) -> &Latches {
        &self.latches
    }

    /// The same, if they changed since the last call.
    pub fn take_changed(&mut self) -> Option<&Latches> {
        std::mem::take(&mut self.is_changed).then_some(&self.latches)
    }

    /// Whether plain may be spoken to whoever is there.
    pub fn may_open(&self, place: &SocketAddr) -> bool {
        self.latches.len() < LATCHES_LIMIT && !self.zone.has_place(place)
    }

    /// A node came up sealed, at this place if its link did.
    pub fn latch(&mut self, netid: NetId, static_key: [u8; 32], place: Option<SocketAddr>) {
        if !self.latches.contains_key(&netid) && self.latches.len() >= LATCHES_LIMIT {
            return;
        }
        let latch = self.latches.entry(netid).or_insert_with(|| {
            self.is_changed = true;
            Latch {
                static_key,
                places: Vec::new(),
                peers: Vec::new(),
            }
        });
        if latch.static_key != static_key {
            latch.static_key = static_key;
            self.is_changed = true;
        }
        if !self.zone.has_node(netid) {
            Arc::make_mut(&mut self.zone).add_node(netid);
        }
        if let Some(place) = place {
            self.latch_place(netid, place);
        }
    }

    /// A latched node is, or was, there too.
    pub fn latch_place(&mut self, netid: NetId, place: SocketAddr) {
        let Some(latch) = self.latches.get_mut(&netid) else {
            return;
        };
        if latch.places.contains(&place) {
            return;
        }
        let oldest = (latch.places.len() >= PLACES_LIMIT).then(|| latch.places.remove(0));
        latch.places.push(place);
        self.is_changed = true;
        Arc::make_mut(&mut self.zone).add_place(place);
        if let Some(oldest) = oldest {
            self.release(&oldest);
        }
    }

    /// A latched node is this peer of the settings.
    pub fn latch_peer(&mut self, netid: NetId, peer: &str) {
        if let Some(latch) = self.latches.get_mut(&netid)
            && latch.peers.len() < PLACES_LIMIT
            && !latch.peers.iter().any(|one| one == peer)
        {
            latch.peers.push(peer.to_owned());
            self.is_changed = true;
        }
    }

    /// A peer of the settings has these addresses now: where it is latched, all of them are.
    pub fn resolved(&mut self, peer: &str, places: &[SocketAddr]) {
        let is_it = |latch: &Latch| latch.peers.iter().any(|one| one == peer);
        let mut latches = self.latches.iter();
        let Some(netid) = latches.find(|(_, latch)| is_it(latch)).map(|(of, _)| *of) else {
            return;
        };
        for place in places {
            self.latch_place(netid, *place);
        }
    }

    /// Forgets a node, and says which key it had.
    pub fn forget(&mut self, netid: NetId) -> Option<[u8; 32]> {
        if self.zone.has_node(netid) {
            Arc::make_mut(&mut self.zone).remove_node(netid);
        }
        let latch = self.latches.remove(&netid)?;
        self.is_changed = true;
        for place in &latch.places {
            self.release(place);
        }
        Some(latch.static_key)
    }

    /// A place that nobody is latched at any more is open.
    fn release(&mut self, place: &SocketAddr) {
        let mut places = self.latches.values().flat_map(|latch| &latch.places);
        if !places.any(|one| one == place) {
            Arc::make_mut(&mut self.zone).remove_place(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed::KeyedHasher;
    use crate::node::zone::Bridge;

    const ONE: NetId = NetId(0x2a);
    const OTHER: NetId = NetId(0x2b);

    fn place(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn with(latches: Latches, pinned: &[NetId]) -> Prefer {
        let zone = OpenZone::new(Bridge::Off, KeyedHasher(1, 2));
        Prefer::new(latches, pinned.iter().copied(), zone)
    }

    /// S85; group H: the file of pins removed, the latches left, and the other way round.
    #[test]
    fn latches_and_pins_each_bind_without_the_other() {
        let mut prefer = with(Latches::new(), &[]);
        prefer.latch(ONE, [1; 32], Some(place(1)));
        let stored = prefer.take_changed().unwrap().clone();
        assert_eq!(prefer.take_changed(), None);
        let again = with(stored, &[]);
        assert!(again.zone().has_node(ONE) && !again.may_open(&place(1)));
        assert!(again.may_open(&place(2)));
        assert!(with(Latches::new(), &[ONE]).zone().has_node(ONE));
    }

    #[test]
    fn a_peer_of_the_settings_is_latched_at_all_its_addresses() {
        let mut prefer = with(Latches::new(), &[]);
        prefer.latch(ONE, [1; 32], Some(place(1)));
        prefer.latch_peer(ONE, "van.example:44204");
        prefer.latch_peer(ONE, "van.example:44204");
        prefer.resolved("van.example:44204", &[place(2), place(3)]);
        prefer.resolved("truck.example:44204", &[place(4)]);
        assert!(!prefer.may_open(&place(2)) && !prefer.may_open(&place(3)));
        assert!(prefer.may_open(&place(4)));
        assert_eq!(prefer.latches()[&ONE].peers.len(), 1);
    }

    #[test]
    fn forgetting_a_node_opens_its_places_but_not_those_of_others() {
        let mut prefer = with(Latches::new(), &[ONE]);
        prefer.latch(ONE, [1; 32], Some(place(1)));
        prefer.latch(OTHER, [2; 32], Some(place(1)));
        prefer.latch_place(ONE, place(2));
        assert_eq!(prefer.forget(ONE), Some([1; 32]));
        assert!(!prefer.zone().has_node(ONE) && prefer.zone().has_node(OTHER));
        assert!(prefer.may_open(&place(2)) && !prefer.may_open(&place(1)));
        assert_eq!(prefer.forget(ONE), None);
    }

    #[test]
    fn the_oldest_of_many_places_goes_first_and_a_full_table_opens_nobody() {
        let mut prefer = with(Latches::new(), &[]);
        for port in 0..=PLACES_LIMIT as u16 {
            prefer.latch(ONE, [1; 32], Some(place(1 + port)));
        }
        assert!(prefer.may_open(&place(1)) && !prefer.may_open(&place(2)));
        for netid in 1..LATCHES_LIMIT as u32 {
            prefer.latch(NetId(0x1000 + netid), [3; 32], None);
        }
        assert!(!prefer.may_open(&place(1)));
        prefer.latch(OTHER, [4; 32], None);
        assert_eq!(prefer.latches().len(), LATCHES_LIMIT);
    }
}
