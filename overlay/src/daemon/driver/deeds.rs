//! The driver's deeds: effects of the pure machines, carried out.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rand_core::Rng;
use wire::{Flags, HEADER_LEN, Header, Kind};

use super::super::shared::Shared;
use super::Driver;
use crate::id::{LinkId, NetId, Path};
use crate::node::control::Control;
use crate::node::effect::{Event, Gone};
use crate::node::outlet::{Outlet, carry_out};
use crate::node::snapshot::{LinkEntry, NeighborSet};
use crate::node::zone::Zones;
use crate::pump::count::{DropReason, Total};
use crate::route::directory::{Alarm, Effect as DirectoryEffect};
use crate::route::underlay::Underlay;
use crate::seal::broadcast::OVERHEAD_MAX;
use crate::seal::links::Links;
use crate::time::Instant;

impl Driver {
    /// Step 5 of a turn.
    pub(super) fn carry_out(&mut self, now: Instant) {
        loop {
            self.carry_out_directory(now);
            let mut effects = std::mem::take(&mut self.effects);
            let mut deeds = Deeds {
                shared: &self.shared,
                control: &self.control,
                links: self.links.as_deref_mut(),
                events: Vec::new(),
                published: false,
            };
            carry_out(
                now,
                &self.control,
                &self.shared.flood,
                &mut effects,
                &mut deeds,
            );
            let (events, published) = (deeds.events, deeds.published);
            self.effects = effects;
            if published {
                self.meet_neighbors(now);
            }
            if events.is_empty() {
                break;
            }
            for event in events {
                self.on_event(now, event);
            }
        }
        self.carry_out_directory(now);
        self.carry_out_ends(now);
        self.carry_out_sealing(now);
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::NeighborUp(netid) => {
                tracing::info!(%netid, "neighbor up");
            }
            Event::LinkUp(netid, endpoint) => {
                tracing::info!(%netid, link = %endpoint, "link up");
                self.directory
                    .handle_link_up(now, netid, &mut self.directory_effects);
            }
            Event::LinkDown(netid, endpoint, why) => {
                tracing::info!(%netid, link = %endpoint, reason = ?why, "link down");
            }
            Event::NeighborDown(netid, why) => {
                tracing::warn!(%netid, reason = ?why, "neighbor down");
                if why == Gone::Goodbye {
                    self.directory
                        .handle_gone(now, netid, &mut self.directory_effects);
                }
            }
            Event::PathNarrow(path, size) => self.narrow(now, &path, size),
            Event::RemoteGone(netid) => {
                tracing::debug!(%netid, "node gone");
                self.directory
                    .handle_gone(now, netid, &mut self.directory_effects);
            }
            Event::NetIdConflict { last_hop } => {
                let netid = self.shared.netid;
                tracing::error!(%netid, link = %last_hop, "another node uses our netid");
            }
            Event::Refused { endpoint, reason } => {
                let advice = reason.advice();
                tracing::warn!(link = %endpoint, ?reason, "a node was refused: {advice}");
            }
            Event::Pong {
                ping,
                from,
                round_trip,
                last_hops,
            } => {
                if let Some((_, pinging, _)) = self.pingings.iter_mut().find(|(id, ..)| *id == ping)
                {
                    pinging.answered(now, from, round_trip, last_hops);
                }
            }
        }
    }

    /// The kernel has to know, since it is what cuts.
    fn narrow(&mut self, now: Instant, path: &Path, size: u16) {
        let link = path.endpoint;
        let size = size.saturating_add(self.overhead());
        if let Err(error) = self.shared.sockets.teach(path, size)
            && let Some(suppressed) = self.limiter.pass(now, "path_mtu")
        {
            tracing::warn!(%link, size, %error, suppressed, "cannot tell the kernel the path's MTU");
        }
    }

    pub(super) fn carry_out_directory(&mut self, now: Instant) {
        let mut effects = std::mem::take(&mut self.directory_effects);
        for effect in effects.drain(..) {
            match effect {
                DirectoryEffect::Flood(payload) => {
                    self.broadcast(now, &payload);
                }
                DirectoryEffect::ToNeighbor(netid, payload) => {
                    self.send_data(now, netid, Flags::NO_FORWARD, &payload, Some(netid));
                }
                DirectoryEffect::Changed => {
                    let routes = self.directory.routes();
                    self.shared.publish(|snapshot| snapshot.routes = routes);
                    // Packets that wait for a claim may go now.
                    self.shared.wake();
                }
                DirectoryEffect::Dropped(reason, count) => {
                    self.shared.counters.count_many(reason, count);
                }
                DirectoryEffect::Alarm { alarm, suppressed } => {
                    self.log_alarm(alarm, suppressed);
                    self.alarms.claims(now, alarm);
                }
            }
        }
        self.directory_effects = effects;
    }

    /// Floods a payload for all nodes, sealed where links are.
    fn broadcast(&mut self, now: Instant, payload: &[u8]) {
        if self.shared.broadcasts.is_some() {
            // Nodes of the open zone cannot open the other form (S89).
            self.send_data_within(now, Zones::Open, NetId::ALL, payload);
        }
        let Some(broadcasts) = &self.shared.broadcasts else {
            return self.send_data(now, NetId::ALL, Flags::NONE, payload, None);
        };
        let mut sealed = vec![0; payload.len() + OVERHEAD_MAX];
        match broadcasts.seal(payload, &mut sealed) {
            Ok(len) => self.send_data(now, NetId::ALL, Flags::NONE, &sealed[..len], None),
            Err(_) => self.shared.counters.count(DropReason::NoSession),
        }
    }

    fn log_alarm(&self, alarm: Alarm, suppressed: u32) {
        match alarm {
            Alarm::OtherMesh { netid } => {
                tracing::warn!(%netid, suppressed, "a node claims addresses for another --mesh");
            }
            Alarm::OwnAddressClaimed { prefix, netid } => {
                tracing::error!(%netid, %prefix, suppressed, "a node claims an address of ours");
            }
            Alarm::Conflict {
                prefix,
                holder,
                refused,
            } => {
                tracing::warn!(netid = %refused, %prefix, %holder, suppressed, "a claim is refused");
            }
        }
    }

    /// Originates Data on all links, or on those of one neighbor.
    pub(super) fn send_data(
        &mut self,
        now: Instant,
        dst: NetId,
        flags: Flags,
        payload: &[u8],
        only: Option<NetId>,
    ) {
        let wanted = |link: &LinkEntry| only.is_none_or(|one| one == link.netid);
        self.originate(now, dst, flags, payload, wanted);
    }

    /// Originates Data on all links of these zones, where there are two; there is no other than all
    /// where there is one.
    pub(super) fn send_data_within(
        &mut self,
        now: Instant,
        zones: Zones,
        dst: NetId,
        payload: &[u8],
    ) {
        let snapshot = self.shared.snapshot.load();
        if snapshot
            .neighbors
            .links()
            .iter()
            .any(|link| zones.have(link.open))
        {
            drop(snapshot);
            self.originate(now, dst, Flags::NONE, payload, |link| zones.have(link.open));
        }
    }

    fn originate(
        &mut self,
        now: Instant,
        dst: NetId,
        flags: Flags,
        payload: &[u8],
        wanted: impl Fn(&LinkEntry) -> bool,
    ) {
        let mut datagram = vec![0; HEADER_LEN + payload.len()];
        let nonce = self.rng.next_u32();
        let header = Header {
            kind: Kind::Data,
            flags,
            nonce,
            src: self.shared.netid,
            dst,
        };
        header.emit(&mut datagram);
        datagram[HEADER_LEN..].copy_from_slice(payload);
        self.shared.flood.enter(now, &datagram);
        let snapshot = self.shared.snapshot.load();
        let links = snapshot.neighbors.links().iter();
        for link in links.filter(|link| wanted(link)) {
            let sealed = self.links.as_deref_mut();
            say(&self.shared, sealed, now, &link.path, Some(link), &datagram);
        }
    }
}

/// Sends one datagram of the control plane, sealed where links are, and counts it with its link.
fn say(
    shared: &Shared,
    sealed: Option<&mut Links>,
    now: Instant,
    path: &Path,
    link: Option<&LinkEntry>,
    datagram: &[u8],
) {
    match sealed {
        Some(sealed) if link.is_some_and(|link| link.open) => sealed.reply(now, path, datagram),
        Some(sealed) => sealed.send(now, path, datagram),
        None => send(shared, path, datagram, link),
    }
    if let Some(link) = link {
        count_on(link, datagram);
    }
}

/// Sends one datagram as it is and counts it.
pub(super) fn send(shared: &Shared, path: &Path, datagram: &[u8], link: Option<&LinkEntry>) {
    match shared.sockets.send_to(path, datagram, link) {
        Ok(()) => shared.counters.add(Total::Sent, 1),
        Err(error) => shared.counters.count(error.reason()),
    }
}

/// Counts a datagram of the control plane with its link.
///
/// State: `last_sent` stays as it is, since only data that goes unanswered casts doubt on a link.
fn count_on(link: &LinkEntry, datagram: &[u8]) {
    link.stats.tx_datagrams.fetch_add(1, Relaxed);
    link.stats
        .tx_bytes
        .fetch_add(datagram.len() as u64, Relaxed);
}

/// Control's effects as deeds.
struct Deeds<'s> {
    shared: &'s Shared,
    control: &'s Control,
    /// Sealed links; `None` in plain.
    links: Option<&'s mut Links>,
    events: Vec<Event>,
    /// Whether there is another set of neighbors.
    published: bool,
}

impl Outlet for Deeds<'_> {
    fn send(&mut self, now: Instant, path: &Path, link: Option<LinkId>, datagram: &[u8]) {
        let snapshot = self.shared.snapshot.load();
        let mut links = snapshot.neighbors.links().iter();
        let link = links.find(|entry| Some(entry.id) == link);
        match self.links.as_deref_mut() {
            Some(links) if !self.control.is_dialing(&path.endpoint) => {
                links.reply(now, path, datagram);
                if let Some(link) = link {
                    count_on(link, datagram);
                }
            }
            sealed => say(self.shared, sealed, now, path, link, datagram),
        }
    }

    fn probe(&mut self, now: Instant, path: &Path, link: LinkId, datagram: &[u8]) {
        let sealed = match &mut self.links {
            Some(links) => match links.seal(now, path, datagram) {
                Some((path, sealed)) => Some((path, sealed)),
                None if links.is_open(&path.endpoint) => None,
                None => return,
            },
            None => None,
        };
        // One that does not fit is no loss: that it does not arrive is what it is to tell.
        let (path, whole) = match &sealed {
            Some((path, sealed)) => (path, &**sealed),
            None => (path, datagram),
        };
        if self.shared.sockets.probe(path, whole).is_err() {
            return;
        }
        self.shared.counters.add(Total::Sent, 1);
        let snapshot = self.shared.snapshot.load();
        let mut links = snapshot.neighbors.links().iter();
        if let Some(link) = links.find(|entry| entry.id == link) {
            count_on(link, datagram);
        }
    }

    fn flood(&mut self, now: Instant, datagram: &[u8]) {
        let snapshot = self.shared.snapshot.load();
        for link in snapshot.neighbors.links() {
            let sealed = self.links.as_deref_mut();
            say(self.shared, sealed, now, &link.path, Some(link), datagram);
        }
    }

    fn publish(&mut self, now: Instant, neighbors: NeighborSet) {
        let ports = self
            .shared
            .sockets
            .iter()
            .map(|(_, socket)| socket.local().port());
        let linked = neighbors
            .links()
            .iter()
            .map(|link| link.path.endpoint.remote);
        let dialed = neighbors.expected().map(|endpoint| endpoint.remote);
        let underlay = Arc::new(Underlay::new(ports, linked.chain(dialed)));
        let neighbors = match self.links.as_deref_mut() {
            Some(links) => links.sort(now, neighbors),
            None => neighbors,
        };
        let neighbors = Arc::new(neighbors);
        self.published = true;
        self.shared.publish(|snapshot| {
            (snapshot.neighbors, snapshot.underlay) = (neighbors, underlay);
        });
    }

    fn event(&mut self, _now: Instant, event: Event) {
        self.events.push(event);
    }
}
