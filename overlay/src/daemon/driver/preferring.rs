//! The driver's part of mode `prefer`: which links are of which zone, whom Data goes to in clear,
//! what is written down, and when it is over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::clock;
use super::super::prefer::say_over;
use super::super::report::PreferReport;
use super::super::state::{LATCHES, PREFER, Preferred, StateDir};
use super::Driver;
use crate::id::NetId;
use crate::seal::prefer::Prefer;
use crate::time::Instant;

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
        let is_it = |address: &SocketAddr| {
            address.ip().to_canonical() == remote.ip() && address.port() == remote.port()
        };
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
        if let Some(news) = preference.look(clock::wall_seconds()) {
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
        })
    }
}
