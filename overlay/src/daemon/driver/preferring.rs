//! The driver's part of mode `prefer`: which links are of which zone, whom Data goes to in clear,
//! what is written down, and when it is over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::clock;
use super::super::config::Links;
use super::super::prefer::say_over;
use super::super::report::PreferReport;
use super::super::state::{LATCHES, PREFER, Preferred, StateDir};
use super::Driver;
use crate::id::{NetId, canonical};
use crate::pump::count::DropReason;
use crate::seal::policies::{PeerMode, Policies};
use crate::seal::prefer::{Latch, Prefer};
use crate::time::Instant;

/// Addresses of a name that count at the most. Further ones count for nothing: who answers for a name must
/// not push out where the peer is.
const PLACES_LIMIT: usize = 32;

/// Where each named peer was since the start. A name that has another address now may have been taken
/// from its owner, and the peer be where it was.
#[derive(Debug)]
pub(super) struct Places(Vec<Place>);

/// Those of one peer.
#[derive(Debug)]
struct Place {
    known: Vec<SocketAddr>,
    /// Whether it had more than count.
    is_beyond: bool,
}

impl Places {
    /// Of peers that were not looked for yet, and have no other address than the one that they are
    /// written by.
    pub(super) fn of(peers: &[(String, Vec<SocketAddr>, Option<String>)]) -> Self {
        let of_one = |(text, ..): &(String, _, _)| Place {
            known: Vec::from_iter(text.parse::<SocketAddr>().ok().map(canonical)),
            is_beyond: false,
        };
        Self(peers.iter().map(of_one).collect())
    }

    /// The peer with this number was found there.
    pub(super) fn add(&mut self, peer: usize, found: &[SocketAddr]) {
        let Some(Place { known, is_beyond }) = self.0.get_mut(peer) else {
            return;
        };
        for place in found.iter().copied().map(canonical) {
            if known.contains(&place) {
                continue;
            }
            match known.len() < PLACES_LIMIT {
                true => known.push(place),
                false => *is_beyond = true,
            }
        }
    }

    /// What may be spoken to whom.
    pub(super) fn policies(&self, links: &Links) -> Policies {
        let mode_of = |peer| links.mode_of(peer).unwrap_or(PeerMode::Prefer);
        let peers = self.0.iter().enumerate();
        let known = peers
            .clone()
            .map(|(peer, of)| (mode_of(peer), &of.known[..]));
        // Where a sealed peer may be beyond what counts, it may be anywhere: as one without an address.
        let beyond = peers.filter(|(_, of)| of.is_beyond);
        Policies::new(known.chain(beyond.map(|(peer, _)| (mode_of(peer), &[][..]))))
    }
}

impl Driver {
    /// Publishes sessions, and with them the zone of each link: what a link's session seals is not of
    /// the open zone, from the same moment on.
    pub(super) fn publish_sessions(&mut self, now: Instant) {
        let Some(links) = &mut self.links else {
            return;
        };
        let neighbors = links
            .prefer()
            .is_some()
            .then(|| links.sort(now, self.control.neighbors()));
        let sessions = Arc::new(links.sessions().clone());
        let was_zoned = self.shared.snapshot.load().neighbors.open_zone().is_some();
        let is_zoned = neighbors.is_some() || was_zoned;
        let neighbors = is_zoned.then(|| neighbors.unwrap_or_else(|| self.control.neighbors()));
        self.shared.publish(|snapshot| {
            snapshot.sessions = Some(sessions);
            if let Some(neighbors) = neighbors {
                snapshot.neighbors = Arc::new(neighbors);
            }
        });
        if is_zoned {
            self.meet_neighbors(now);
            self.carry_out_ends(now);
        }
    }

    /// A link to a peer that the owner named came up sealed: the name is latched too.
    pub(super) fn latch_named(&mut self, netid: NetId, remote: SocketAddr) {
        let Some(links) = self.links.as_mut().filter(|links| links.prefer().is_some()) else {
            return;
        };
        let is_it = |address: &SocketAddr| canonical(*address) == remote;
        let mut peers = self.peers.iter();
        if let Some((name, addresses, _)) = peers.find(|peer| peer.1.iter().any(is_it)) {
            links.latch_peer(netid, name, addresses);
        }
    }

    /// Has written down who is latched.
    pub(super) fn keep_latches(&mut self) {
        let links = self.links.as_mut();
        if let Some(latches) = links.and_then(|links| links.take_changed_latches()) {
            self.keeping.put(LATCHES, StateDir::latches_body(latches));
        }
    }

    /// Once a second: whether time is over, and who is in the open zone alone.
    pub(super) fn look_after_preference(&mut self, now: Instant) {
        let Some(preference) = &mut self.preference else {
            return;
        };
        if let Some(news) = preference.look(clock::wall_seconds(), now.as_secs()) {
            self.keeping.put(PREFER, StateDir::preferred_body(news));
            if news == Preferred::Over {
                say_over(&self.state);
                if let Some(links) = &mut self.links {
                    links.insist();
                }
            }
        }
        let heard = self.heard_in_the_open(now);
        let is_full = self.prefer().is_some_and(Prefer::is_full);
        self.with_ends(|ends, with| {
            let is_former = |netid: &NetId| ends.sessions().is_open(*netid);
            let alone = heard.iter().filter(|(_, is_alone)| **is_alone);
            let alone = alone.map(|(netid, _)| *netid);
            // Where there is no room to latch anybody, nobody is spoken to in clear who was not before.
            let open = alone.filter(|netid| !is_full || is_former(netid)).collect();
            ends.set_open(now, with, open, heard.keys().copied());
        });
    }

    /// The nodes that were heard over links of the open zone, and never spoke sealed; and whether in that
    /// zone alone.
    fn heard_in_the_open(&self, now: Instant) -> BTreeMap<NetId, bool> {
        let Some(prefer) = self.prefer() else {
            return BTreeMap::new();
        };
        let snapshot = self.shared.snapshot.load();
        let is_open = |via: NetId| {
            let mut links = snapshot.neighbors.links().iter();
            links.any(|link| link.netid == via && link.open)
        };
        let remotes = self.control.remotes();
        let unlatched = remotes.filter(|(netid, _)| !prefer.zone().has_node(*netid));
        let heard = unlatched.filter_map(|(netid, remote)| {
            let is_heard = remote.via(now).any(is_open);
            is_heard.then(|| (netid, remote.via(now).all(is_open)))
        });
        heard.collect()
    }

    /// What the node goes by while it prefers sealed links.
    pub(in crate::daemon) fn prefer(&self) -> Option<&Prefer> {
        self.links.as_ref()?.prefer()
    }

    /// What clients are told of it.
    pub(in crate::daemon) fn prefer_report(&self) -> Option<PreferReport> {
        let preference = self.preference.as_ref()?;
        let snapshot = self.shared.snapshot.load();
        let open = snapshot.neighbors.links().iter().filter(|link| link.open);
        Some(PreferReport {
            remaining_seconds: preference.remaining(clock::wall_seconds()),
            latched: self
                .prefer()
                .map_or(0, |prefer| prefer.latches().len() as u64),
            open_links: open.count() as u64,
            bridge: self.config.bridge.name().to_owned(),
            guest_per_second: self.config.limits.guest_per_second.into(),
            guests_refused: self.shared.counters.dropped(DropReason::GuestRate),
            sealed_peers: self.peers_with(PeerMode::Sealed).count() as u64,
            plain_peers: self.peers_with(PeerMode::Plain).count() as u64,
        })
    }

    /// The peers with this mode of their own, as they are written.
    fn peers_with(&self, mode: PeerMode) -> impl Iterator<Item = &str> {
        let peers = self.peers.iter().enumerate();
        let has = move |place| self.config.links.mode_of(place) == Some(mode);
        peers.filter_map(move |(place, peer)| has(place).then_some(&*peer.0))
    }

    /// Advice where a peer was to be plain and has come up sealed.
    pub(in crate::daemon) fn outgrown(&self) -> Option<String> {
        let latches = self.prefer()?.latches();
        let mut plain = self.peers_with(PeerMode::Plain);
        plain.find_map(|peer| {
            let is_it = |latch: &Latch| latch.peers.iter().any(|one| one == peer);
            let (netid, _) = latches.iter().find(|(_, latch)| is_it(latch))?;
            Some(format!(
                "the peer {peer} has mode plain and speaks sealed by now, so nothing plain goes there: \
                 leave out plain behind it (or floodmesh forget {netid}, if it was another node)"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::daemon::config::Config;
    use crate::daemon::file;
    use crate::daemon::paths::Places as Directories;

    fn place(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    /// S104.
    #[test]
    fn a_literal_counts_from_the_start_and_a_name_keeps_the_addresses_that_it_had() {
        let text = "mode = \"prefer\"\npeer = [\"192.0.2.1:7 sealed\", \"van.example sealed\"]\n";
        let given = file::parse(Path::new("f"), text).unwrap();
        let config = Config::resolve(given, &Directories::new(true, |_| None)).unwrap();
        let named = config.links.named();
        let peers: Vec<_> = named
            .map(|peer| (peer.to_string(), Vec::new(), None))
            .collect();
        let mut places = Places::of(&peers);
        let may = |places: &Places, port| places.policies(&config.links).may_open(&place(port));
        // Nobody knows where van is.
        assert_eq!([7, 8].map(|port| may(&places, port)), [false, false]);
        places.add(1, &[place(1)]);
        assert_eq!(
            [7, 8, 1].map(|port| may(&places, port)),
            [false, true, false]
        );
        for port in 100..131 {
            places.add(1, &[place(port)]);
        }
        assert_eq!([1, 100, 130].map(|port| may(&places, port)), [false; 3]);
        assert!(may(&places, 9));
        // What was there already is nothing more, in whatever form.
        places.add(1, &["[::ffff:192.0.2.1]:1".parse().unwrap()]);
        assert!(may(&places, 9));
        places.add(7, &[place(1)]);
        // Whoever answers for the name pushes nothing out by further addresses: plain ends instead.
        places.add(1, &[place(131)]);
        assert_eq!([1, 9, 100, 131].map(|port| may(&places, port)), [false; 4]);
    }
}
