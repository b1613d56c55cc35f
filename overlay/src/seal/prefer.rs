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

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use wire::NetId;

use crate::id::canonical;
use crate::node::zone::OpenZone;
use crate::seal::policies::Policies;

/// Nodes latched at once. From then on nobody else is spoken to in plain who was not before. As many
/// again are latched in memory, and as many that came up over others alone.
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
    /// Those for which there was no room: they bind until the next start.
    beyond: Latches,
    /// Nodes that came up over others alone, the oldest first. Any member can make netids up, so these
    /// take nobody's place but each other's.
    afar: VecDeque<NetId>,
    /// What the owner says of single peers.
    policies: Arc<Policies>,
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
            beyond: Latches::new(),
            afar: VecDeque::new(),
            policies: Arc::default(),
            zone: Arc::new(zone),
            is_changed: false,
        }
    }

    /// The same with the netids of nodes that came up over others alone, the oldest first.
    #[must_use]
    pub fn recalling(mut self, afar: impl Iterator<Item = NetId>) -> Self {
        afar.for_each(|netid| self.latch_end(netid));
        self
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

    /// Whether nobody is to be spoken to in plain who was not before.
    pub fn is_full(&self) -> bool {
        self.latches.len() >= LATCHES_LIMIT
    }

    /// Whether plain may be spoken to whoever is there.
    pub fn may_open(&self, place: &SocketAddr) -> bool {
        let is_asked_for = self.policies.is_plain(place);
        let may = is_asked_for || !self.is_full();
        may && !self.is_closed(place)
    }

    /// Whether plain ends there, also with whoever was spoken to in plain before: a full table alone
    /// closes nobody.
    pub fn is_closed(&self, place: &SocketAddr) -> bool {
        self.zone.has_place(place) || !self.policies.may_open(place)
    }

    /// Whether plain alone is spoken to whoever is there: the owner says so, and nobody came up sealed
    /// there.
    pub fn is_plain(&self, place: &SocketAddr) -> bool {
        self.policies.is_plain(place) && !self.zone.has_place(place)
    }

    /// Goes by this word of the owner from now on. Whether it is another one, so that what is open may
    /// have to end.
    pub fn set_policies(&mut self, policies: Arc<Policies>) -> bool {
        let former = std::mem::replace(&mut self.policies, policies.clone());
        let (was, is) = (&former, &policies);
        let news = is.sealed().filter(|place| !was.is_sealed(place));
        let gone = was.sealed().filter(|place| !is.is_sealed(place));
        for place in news {
            Arc::make_mut(&mut self.zone).add_place(*place);
        }
        for place in gone {
            self.release(place);
        }
        former != policies
    }

    /// A link to a node came up sealed, at this place.
    pub fn latch(&mut self, netid: NetId, static_key: [u8; 32], place: SocketAddr) {
        self.afar.retain(|one| *one != netid);
        let is_full = self.is_full();
        let table = match self.latches.contains_key(&netid) || !is_full {
            true => &mut self.latches,
            false => &mut self.beyond,
        };
        if !table.contains_key(&netid) && table.len() >= LATCHES_LIMIT {
            return;
        }
        let latch = table.entry(netid).or_insert_with(|| {
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
        self.add_node(netid);
        self.latch_place(netid, place);
    }

    /// A node came up sealed over others: in plain it is not believed, for as long as there is room.
    pub fn latch_end(&mut self, netid: NetId) {
        if self.zone.has_node(netid) {
            return;
        }
        self.add_node(netid);
        self.afar.push_back(netid);
        if self.afar.len() > LATCHES_LIMIT
            && let Some(oldest) = self.afar.pop_front()
        {
            Arc::make_mut(&mut self.zone).remove_node(oldest);
        }
    }

    fn add_node(&mut self, netid: NetId) {
        if !self.zone.has_node(netid) {
            Arc::make_mut(&mut self.zone).add_node(netid);
        }
    }

    /// A latched node is, or was, there too. Whether that is news; nobody is latched by it.
    pub fn latch_place(&mut self, netid: NetId, place: SocketAddr) -> bool {
        let place = canonical(place);
        let Some(latch) = self.find(netid) else {
            return false;
        };
        if latch.places.contains(&place) {
            return false;
        }
        let oldest = (latch.places.len() >= PLACES_LIMIT).then(|| latch.places.remove(0));
        latch.places.push(place);
        self.is_changed = true;
        Arc::make_mut(&mut self.zone).add_place(place);
        if let Some(oldest) = oldest {
            self.release(&oldest);
        }
        true
    }

    fn find(&mut self, netid: NetId) -> Option<&mut Latch> {
        let beyond = self.beyond.get_mut(&netid);
        self.latches.get_mut(&netid).or(beyond)
    }

    fn all(&self) -> impl Iterator<Item = (&NetId, &Latch)> {
        self.latches.iter().chain(&self.beyond)
    }

    /// A latched node is this peer of the settings.
    pub fn latch_peer(&mut self, netid: NetId, peer: &str) {
        if let Some(latch) = self.find(netid)
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
        let found = self.all().find(|(_, latch)| is_it(latch));
        let Some(netid) = found.map(|(of, _)| *of) else {
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
        self.afar.retain(|one| *one != netid);
        let beyond = self.beyond.remove(&netid);
        let latch = self.latches.remove(&netid).or(beyond)?;
        self.is_changed = true;
        for place in &latch.places {
            self.release(place);
        }
        Some(latch.static_key)
    }

    /// A place that nobody is latched at any more is open, unless the owner says otherwise.
    fn release(&mut self, place: &SocketAddr) {
        let is_latched = self.all().any(|(_, latch)| latch.places.contains(place));
        if !is_latched && !self.policies.is_sealed(place) {
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
        prefer.latch(ONE, [1; 32], place(1));
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
        prefer.latch(ONE, [1; 32], place(1));
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
        prefer.latch(ONE, [1; 32], place(1));
        prefer.latch(OTHER, [2; 32], place(1));
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
            prefer.latch(ONE, [1; 32], place(1 + port));
        }
        assert!(prefer.may_open(&place(1)) && !prefer.may_open(&place(2)));
        for netid in 1..LATCHES_LIMIT as u32 {
            prefer.latch(NetId(0x1000 + netid), [3; 32], place(900));
        }
        assert!(!prefer.may_open(&place(1)));
        // One more binds all the same, and is not written down.
        prefer.take_changed();
        prefer.latch(OTHER, [4; 32], place(901));
        assert_eq!(prefer.latches().len(), LATCHES_LIMIT);
        assert!(prefer.zone().has_node(OTHER) && prefer.zone().has_place(&place(901)));
        assert_eq!(prefer.forget(OTHER), Some([4; 32]));
        assert!(!prefer.zone().has_node(OTHER) && !prefer.zone().has_place(&place(901)));
    }

    #[test]
    fn a_place_is_latched_once_and_not_without_its_node() {
        let mut prefer = with(Latches::new(), &[OTHER]);
        prefer.latch(ONE, [1; 32], place(1));
        assert!(prefer.latch_place(ONE, place(2)));
        assert!(!prefer.latch_place(ONE, place(2)));
        assert!(!prefer.latch_place(OTHER, place(3)));
    }

    /// S104.
    #[test]
    fn the_owners_word_closes_a_place_until_it_is_taken_back_and_a_latch_outlives_it() {
        use crate::seal::policies::PeerMode;
        let word = |mode, place: [SocketAddr; 2]| {
            Arc::new(Policies::new([(mode, &place[..])].into_iter()))
        };
        let mut prefer = with(Latches::new(), &[]);
        let places = [place(1), place(2)];
        assert!(prefer.set_policies(word(PeerMode::Sealed, places)));
        assert!(!prefer.set_policies(word(PeerMode::Sealed, places)));
        // What workers look up is the same; what may be open is not.
        let unknown = [(PeerMode::Sealed, &places[..]), (PeerMode::Sealed, &[])];
        assert!(prefer.may_open(&place(3)) && !prefer.is_closed(&place(3)));
        assert!(prefer.set_policies(Arc::new(Policies::new(unknown.into_iter()))));
        assert!(!prefer.may_open(&place(3)) && prefer.is_closed(&place(3)));
        assert!(prefer.set_policies(word(PeerMode::Sealed, places)));
        assert!(!prefer.may_open(&place(1)) && prefer.zone().has_place(&place(2)));
        // A latch that goes leaves the owner's word, and the other way round.
        prefer.latch(ONE, [1; 32], place(1));
        prefer.forget(ONE);
        assert!(!prefer.may_open(&place(1)));
        prefer.latch(ONE, [1; 32], place(1));
        assert!(prefer.set_policies(word(PeerMode::Plain, places)));
        assert!(!prefer.may_open(&place(1)) && !prefer.is_plain(&place(1)));
        assert!(prefer.may_open(&place(2)) && prefer.is_plain(&place(2)));
        // Where nobody else is opened, who is to be plain is.
        for netid in 1..=LATCHES_LIMIT as u32 {
            prefer.latch(NetId(0x1000 + netid), [3; 32], place(900));
        }
        assert!(prefer.is_full() && prefer.may_open(&place(2)) && !prefer.may_open(&place(3)));
        assert!(!prefer.is_closed(&place(3)));
    }

    /// S85: an insider that makes up nodes behind it takes nobody's room but theirs.
    #[test]
    fn nodes_that_came_up_over_others_push_out_each_other_and_no_latch() {
        let mut prefer = with(Latches::new(), &[OTHER]).recalling([NetId(7), OTHER].into_iter());
        prefer.latch(ONE, [1; 32], place(1));
        prefer.latch_end(NetId(8));
        prefer.latch(NetId(8), [8; 32], place(8));
        prefer.take_changed();
        for netid in 0..LATCHES_LIMIT as u32 {
            assert!(prefer.zone().has_node(NetId(7)));
            prefer.latch_end(NetId(0x1000 + netid));
        }
        assert!(!prefer.zone().has_node(NetId(7)));
        for netid in [ONE, OTHER, NetId(8), NetId(0x1000)] {
            assert!(prefer.zone().has_node(netid));
        }
        assert_eq!(prefer.take_changed(), None);
        assert!(prefer.may_open(&place(2)));
    }
}
