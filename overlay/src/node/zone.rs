//! Two floods in one node: where some links are sealed and others plain, each sort is a zone.
//!
//! ```text
//!   plain --- open zone ---+---------+--- sealed zone --- sealed
//!                          | prefers |
//!   plain -----------------+---------+------------------- prefers
//! ```
//!
//! Only a node that prefers sealed links has both, while its mesh moves from plain to sealed. What
//! came over a link of one zone goes on in that zone alone, unless the owner wants a [`Bridge`].
//! Each link carries its zone as one bit ([`LinkEntry::open`](crate::node::snapshot::LinkEntry)); what
//! is looked up by netid or address is looked up for plain messages alone, and only here.
//!
//! The rules are those of SEALED.md, "Plain beside sealed" (S83 to S90).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use wire::service::{self, Service};
use wire::{HEADER_LEN, Header, Kind, NetId};

use crate::budget::Bucket;
use crate::keyed::KeyedHasher;
use crate::planted::{self, Mistake};
use crate::time::Instant;

/// Links of which zones a message may go over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zones {
    /// All links: the only choice in a node that has one zone.
    #[default]
    All,
    /// Sealed ones.
    Sealed,
    /// Plain ones.
    Open,
}

impl Zones {
    /// The zone of a link alone.
    pub const fn of(open: bool) -> Self {
        match open {
            true => Self::Open,
            false => Self::Sealed,
        }
    }

    /// Whether a link is one of them.
    pub const fn have(self, open: bool) -> bool {
        match self {
            Self::All => true,
            Self::Sealed => !open,
            Self::Open => open,
        }
    }
}

/// What goes on from one zone to the other (S88).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bridge {
    /// Nothing.
    #[default]
    Off,
    /// Into the open zone only Data that is sealed end to end.
    Sealed,
    /// Into the open zone all Data.
    Clear,
}

impl Bridge {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Sealed => "on",
            Self::Clear => "clear",
        }
    }
}

/// How many messages a second a bridge lets in of each [`Guest`] class, unless its owner says otherwise.
pub const GUESTS: u32 = 1_000;
/// Neighbors of the open zone with a part of that of their own; further ones share theirs.
pub const GUEST_PLACES: u32 = 8;

/// What comes in from the open zone. Each class has its rate, so that none leaves the other nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// What plain nodes say.
    Clear,
    /// Data that is sealed end to end: of members who reach each other over plain nodes. Nobody here can
    /// tell whether it is, so that it has a bound too.
    Sealed,
}

impl Guest {
    /// The class of a message; `first` is the first byte of its payload.
    pub fn of(header: &Header, first: Option<&u8>) -> Self {
        match is_sealed_data(header, first) {
            true => Self::Sealed,
            false => Self::Clear,
        }
    }
}

/// The rate of one class of what comes in from the open zone (S105).
///
/// Whoever is there is no member, and may say as much as it likes under as many names: what the sealed
/// zone remembers and carries of that must not grow with it. Half of the rate is divided among the
/// neighbors that bring it, so that one alone cannot use up all; the other half is for who comes first.
///
/// Calls: from any thread at once.
#[derive(Debug)]
struct Guests {
    common: Bucket,
    own: [Bucket; GUEST_PLACES as usize],
}

impl Guests {
    fn per_second(messages: u32) -> Self {
        let own = messages / (2 * GUEST_PLACES);
        let common = messages - own * GUEST_PLACES;
        // A quarter of a second at once: packets of one flow come in trains.
        let bucket = |rate: u32| Bucket::per_second(rate, rate / 4);
        Self {
            common: bucket(common),
            own: [own; GUEST_PLACES as usize].map(bucket),
        }
    }

    fn lets_in(&self, now: Instant, neighbor: u16) -> bool {
        let place = usize::from(neighbor) % self.own.len();
        self.own[place].take(now) || self.common.take(now)
    }
}

/// What a node with an open zone goes by there: who is known to speak sealed, and is believed nothing
/// in plain any more. Built by the driver, read by workers, replaced as a whole.
#[derive(Clone, Debug)]
pub struct OpenZone {
    nodes: HashSet<NetId, KeyedHasher>,
    places: HashSet<SocketAddr, KeyedHasher>,
    bridge: Bridge,
    /// Of each [`Guest`] class.
    guests: Arc<[Guests; 2]>,
}

impl OpenZone {
    /// A node that knows nobody yet.
    pub fn new(bridge: Bridge, hasher: KeyedHasher) -> Self {
        Self {
            nodes: HashSet::with_hasher(hasher),
            places: HashSet::with_hasher(hasher),
            bridge,
            guests: Arc::new([GUESTS; 2].map(Guests::per_second)),
        }
    }

    /// The same with a bridge that lets in so many messages a second of each class.
    #[must_use]
    pub fn letting_in(mut self, messages: u32) -> Self {
        self.guests = Arc::new([messages; 2].map(Guests::per_second));
        self
    }

    /// What goes from zone to zone.
    pub const fn bridge(&self) -> Bridge {
        self.bridge
    }

    /// Whether this node is known to speak sealed.
    pub fn has_node(&self, netid: NetId) -> bool {
        self.nodes.contains(&netid)
    }

    /// Whether a node that speaks sealed is known to be there.
    pub fn has_place(&self, place: &SocketAddr) -> bool {
        self.places.contains(place)
    }

    /// From now on this node is known to speak sealed.
    pub fn add_node(&mut self, netid: NetId) {
        self.nodes.insert(netid);
    }

    /// From now on whoever is there is.
    pub fn add_place(&mut self, place: SocketAddr) {
        self.places.insert(place);
    }

    /// Takes that back.
    pub fn remove_node(&mut self, netid: NetId) {
        self.nodes.remove(&netid);
    }

    /// Takes that back.
    pub fn remove_place(&mut self, place: &SocketAddr) {
        self.places.remove(place);
    }

    /// Whether a plain datagram is not believed: it comes from where a sealed node is, or in the
    /// name of one. Its name is believed on Data that is sealed end to end, since that is not taken
    /// for its header's sake (S86).
    ///
    /// Cost: two lookups; no lock, no allocation.
    pub fn refuses(&self, from: &SocketAddr, datagram: &[u8]) -> bool {
        if self.has_place(from) {
            return true;
        }
        // What is no message is judged, and counted, by the plain rules.
        Header::parse(datagram).is_ok_and(|header| {
            let is_believed = is_sealed_data(&header, datagram.get(HEADER_LEN));
            self.has_node(header.src) && !is_believed && !planted::is(Mistake::BelieveLatched)
        })
    }

    /// Whether a neighbor is told what another node claims: across the zones only what goes across
    /// besides. A neighbor that is not known to speak sealed has a plain link.
    pub fn tells(&self, neighbor: NetId, owner: NetId) -> bool {
        match (self.has_node(owner), self.has_node(neighbor)) {
            (true, false) => self.bridge == Bridge::Clear,
            (false, true) => self.bridge != Bridge::Off,
            _ => true,
        }
    }

    /// Whether news of a node counts that this neighbor brings: none over a plain link of who speaks
    /// sealed, since anybody there can say its name.
    pub fn hears(&self, neighbor: NetId, of: NetId) -> bool {
        !self.has_node(of) || self.has_node(neighbor)
    }

    /// Whether one more message of this class that this neighbor of the open zone brought may go on to the
    /// sealed one.
    ///
    /// Cost: two atomic words at the most; no lock, no allocation.
    pub fn lets_in(&self, now: Instant, neighbor: u16, guest: Guest) -> bool {
        let [clear, sealed] = &*self.guests;
        let guests = match guest {
            Guest::Clear => clear,
            Guest::Sealed => sealed,
        };
        guests.lets_in(now, neighbor)
    }

    /// The zones in which a message goes on that came over a link of the zone `open`; `first` is the
    /// first byte of its payload.
    pub fn zones(&self, open: bool, header: &Header, first: Option<&u8>) -> Zones {
        let crosses = match (self.bridge, open) {
            (Bridge::Off, _) => false,
            (Bridge::Sealed, false) => is_sealed_data(header, first),
            (Bridge::Clear, false) => header.kind == Kind::Data,
            (_, true) => {
                let is_let_in = matches!(header.kind, Kind::Data | Kind::Ping | Kind::Pong);
                is_sealed_data(header, first) || is_let_in && !self.has_node(header.src)
            }
        };
        if crosses || planted::is(Mistake::CrossZones) {
            Zones::All
        } else {
            Zones::of(open)
        }
    }
}

fn is_sealed_data(header: &Header, first: Option<&u8>) -> bool {
    let is_sealed = |byte: &u8| service::classify(*byte) == Service::Sealed;
    header.kind == Kind::Data && first.is_some_and(is_sealed)
}

#[cfg(test)]
mod tests {
    use wire::Flags;

    use super::*;

    const KNOWN: NetId = NetId(0x2a);
    const OTHER: NetId = NetId(0x2b);
    const SEALED: u8 = 0xc8;
    const PACKET: u8 = 0x45;

    fn header(kind: Kind, src: NetId) -> Header {
        Header {
            kind,
            flags: Flags::NONE,
            nonce: 1,
            src,
            dst: NetId::ALL,
        }
    }

    fn datagram(kind: Kind, src: NetId, first: u8) -> Vec<u8> {
        let mut datagram = vec![first; HEADER_LEN + 22];
        header(kind, src).emit(&mut datagram);
        datagram
    }

    fn zone(bridge: Bridge) -> OpenZone {
        let mut zone = OpenZone::new(bridge, KeyedHasher(1, 2));
        zone.add_node(KNOWN);
        zone.add_place(place(1));
        zone
    }

    fn place(host: u8) -> SocketAddr {
        ([192, 0, 2, host], 44_204).into()
    }

    /// S86; group H: what is said in plain from a latched peer's address, and in its name from
    /// another.
    #[test]
    fn nothing_plain_is_believed_of_who_is_known_to_speak_sealed() {
        let zone = zone(Bridge::Off);
        let kinds = [
            Kind::Hello,
            Kind::Goodbye,
            Kind::Ping,
            Kind::Pong,
            Kind::Inform,
            Kind::Data,
        ];
        for kind in kinds {
            assert!(zone.refuses(&place(1), &datagram(kind, OTHER, PACKET)));
            assert!(zone.refuses(&place(2), &datagram(kind, KNOWN, PACKET)));
            assert!(!zone.refuses(&place(2), &datagram(kind, OTHER, PACKET)));
        }
        assert!(zone.refuses(&place(1), &datagram(Kind::Data, KNOWN, SEALED)));
        assert!(!zone.refuses(&place(2), &datagram(Kind::Data, KNOWN, SEALED)));
        // Only Data can be sealed end to end.
        assert!(zone.refuses(&place(2), &datagram(Kind::Ping, KNOWN, SEALED)));
        assert!(!zone.refuses(&place(2), b"no message"));
    }

    /// S87, S88.
    #[test]
    fn what_goes_from_zone_to_zone_is_what_the_bridge_says() {
        let crosses = |bridge, open, kind, src, first: u8| {
            zone(bridge).zones(open, &header(kind, src), Some(&first)) == Zones::All
        };
        for kind in [Kind::Data, Kind::Ping, Kind::Pong, Kind::Hello] {
            for first in [SEALED, PACKET] {
                assert!(!crosses(Bridge::Off, false, kind, OTHER, first));
                assert!(!crosses(Bridge::Off, true, kind, OTHER, first));
            }
        }
        for bridge in [Bridge::Sealed, Bridge::Clear] {
            let clear = bridge == Bridge::Clear;
            assert!(crosses(bridge, false, Kind::Data, KNOWN, SEALED));
            assert_eq!(crosses(bridge, false, Kind::Data, KNOWN, PACKET), clear);
            for kind in [Kind::Hello, Kind::Goodbye, Kind::Inform] {
                assert!(!crosses(bridge, false, kind, OTHER, SEALED));
                assert!(!crosses(bridge, true, kind, OTHER, SEALED));
            }
            assert!(crosses(bridge, true, Kind::Data, KNOWN, SEALED));
            for kind in [Kind::Data, Kind::Ping, Kind::Pong] {
                assert!(crosses(bridge, true, kind, OTHER, PACKET));
                assert!(!crosses(bridge, true, kind, KNOWN, PACKET));
            }
        }
        let zone = zone(Bridge::Off);
        let data = header(Kind::Data, OTHER);
        assert_eq!(zone.zones(true, &data, None), Zones::Open);
        assert_eq!(zone.zones(false, &data, None), Zones::Sealed);
    }

    /// S105.
    #[test]
    fn guests_have_a_rate_together_and_one_neighbor_leaves_the_others_their_part() {
        let zone = zone(Bridge::Sealed).letting_in(160);
        // A node that learns of somebody goes on with the same rate.
        let later = zone.clone();
        let mut let_in = [0_u32; 9];
        for milli in 0..20_000_u64 {
            let now = Instant(1_000 * milli);
            // Neighbor 8 brings ten times as much as may come in at all, the others 4 a second.
            let_in[8] += (0..2)
                .filter(|_| later.lets_in(now, 8, Guest::Clear))
                .count() as u32;
            if milli % 250 == 0 {
                for (neighbor, count) in (1_u16..).zip(&mut let_in[1..8]) {
                    *count += u32::from(zone.lets_in(now, neighbor, Guest::Clear));
                }
            }
        }
        assert_eq!(let_in[1..8], [80; 7]);
        let all: u32 = let_in.iter().sum();
        assert!((2_000..=160 * 20 + 40).contains(&all), "{let_in:?}");
    }

    #[test]
    fn a_rate_of_one_message_is_no_rate_of_none() {
        let zone = zone(Bridge::Sealed).letting_in(1);
        let at = |secs: u64| zone.lets_in(Instant(1_000_000 * secs), 3, Guest::Clear);
        assert_eq!([0, 0, 1, 2, 2].map(at), [true, false, true, true, false]);
    }

    #[test]
    fn each_zone_has_its_links() {
        let have = |zones: Zones| (zones.have(true), zones.have(false));
        assert_eq!(have(Zones::All), (true, true));
        assert_eq!(have(Zones::Sealed), (false, true));
        assert_eq!(have(Zones::Open), (true, false));
        assert_eq!(Zones::of(true), Zones::Open);
    }
}
