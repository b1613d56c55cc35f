//! The driver's inputs: what came, handed to the machine that it concerns.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tuntap::{Change, Watch};

use super::super::admin::{AdminRequest, Reply, Verb};
use super::super::device::Queues;
use super::super::peers::Resolved;
use super::super::pinging::Pinging;
use super::super::shared::Report;
use super::Driver;
use crate::id::NetId;
use crate::node::control::Arrival;
use crate::pump::count::DropReason;
use crate::time::Instant;

/// Clients' pings under way at the most.
const PINGINGS: usize = 16;

impl Driver {
    pub(super) fn on_report(&mut self, report: Report) {
        let now = self.clock.now();
        match report {
            Report::Datagram {
                path,
                duplicate,
                len,
                bytes,
            } => {
                let arrival = Arrival { path, duplicate };
                let datagram = &bytes[..usize::from(len)];
                self.control
                    .handle_datagram(now, &arrival, datagram, &mut self.effects);
            }
            Report::Stranger(path) => {
                self.control.handle_stranger(now, &path, &mut self.effects);
            }
            Report::Conflict(path) => {
                self.control.handle_conflict(now, &path, &mut self.effects);
            }
            Report::Heard { origin, via } => {
                self.control.handle_heard(now, origin, via);
                self.directory
                    .handle_heard(now, origin, via, &mut self.directory_effects);
            }
            Report::Directory {
                origin,
                direct,
                payload,
            } => {
                if !self.grants.may_originate(origin) {
                    return self.shared.counters.count(DropReason::NoRight);
                }
                let effects = &mut self.directory_effects;
                self.directory
                    .handle_payload(now, origin, direct, &payload, effects);
            }
            Report::SeenFills => self.resize_seen_table(now),
            Report::DeviceGone(index) => {
                if self.device.lost(index) {
                    tracing::error!(device = self.config.device.name, "the device was deleted");
                }
            }
            Report::MergingEnded(ended) => self.device.merges_less(ended),
            Report::WrongMode(netid) => {
                if let Some(suppressed) = self.limiter.pass(now, "wrong_mode") {
                    tracing::warn!(%netid, suppressed, "a node's device has another mode than ours");
                }
                self.alarms.wrong_mode(now, netid);
            }
        }
    }

    pub(super) fn on_request(&mut self, request: AdminRequest) {
        let now = self.clock.now();
        let reply = match request.verb {
            Verb::Status => Reply::Status(Box::new(self.status(now))),
            Verb::Neighbors => Reply::Neighbors(self.neighbors(now)),
            Verb::Nodes => Reply::Nodes(self.nodes(now)),
            Verb::Publish(publish) => self.publish(now, &publish.list),
            Verb::Reload => return self.reload(request.replies),
            Verb::Forget(forget) => self.forget(now, &forget.target),
            Verb::Counters => Reply::Counters(self.shared.counters.as_ref().into()),
            Verb::Ping(ping) => match self.target_of(&ping.target) {
                Ok(target) if self.pingings.len() < PINGINGS => {
                    self.next_ping += 1;
                    let pinging = Pinging::new(ping, target);
                    self.pingings
                        .push((self.next_ping, pinging, request.replies));
                    return self.poll_pingings(now);
                }
                Ok(_) => Reply::refused("too many pings are under way", "try again later"),
                Err(refused) => refused,
            },
        };
        // A client that went away misses its answer; nobody else minds.
        let _ = request.replies.try_send(reply);
    }

    /// Whom a ping is for: a netid, all, or whoever holds an overlay address.
    fn target_of(&self, text: &str) -> Result<NetId, Reply> {
        let target = match text.parse::<IpAddr>() {
            Ok(address) => self.directory.resolve(address).ok_or_else(|| {
                let problem = format!("no node has claimed {address}");
                Reply::refused(problem, "see `floodmesh nodes` for the addresses there are")
            })?,
            Err(_) if text == "all" => NetId::ALL,
            Err(_) => text.parse::<NetId>().map_err(|error| {
                Reply::refused(
                    format!("{text}: {error}"),
                    "give a netid, an address or `all`",
                )
            })?,
        };
        if target == self.shared.netid {
            return Err(Reply::refused(
                format!("{text} is this node itself"),
                "ping another one",
            ));
        }
        if target == NetId::ANY {
            return Err(Reply::refused(
                "netid 0 names no node",
                "give a node's netid, or `all`",
            ));
        }
        Ok(target)
    }

    pub(super) fn on_resolved(&mut self, resolved: Resolved) {
        let now = self.clock.now();
        let Some((name, addresses, problem)) = self.peers.get_mut(resolved.peer) else {
            return;
        };
        match resolved.addresses {
            Ok(found) => {
                *problem = None;
                addresses.clone_from(&found);
                self.places.add(resolved.peer, &found);
                if let Some(links) = &mut self.links {
                    links.set_policies(self.places.policies(&self.config.links));
                    links.resolved(name, addresses);
                }
            }
            Err(why) => {
                if let Some(suppressed) = self.limiter.pass(now, "peer_unresolved") {
                    tracing::warn!(peer = name, suppressed, "cannot resolve: {why}");
                }
                *problem = Some(why);
                return;
            }
        }
        self.set_peer(now, resolved.peer);
    }

    /// Hands a peer's addresses to control, without those that lead into the overlay (T15).
    pub(super) fn set_peer(&mut self, now: Instant, peer: usize) {
        let (name, addresses, problem) = &mut self.peers[peer];
        let device = self.device.addresses();
        let overlay: Vec<IpNet> = device
            .iter()
            .copied()
            .filter(|net| !is_link_local(net))
            .collect();
        let own: Vec<IpAddr> = device.iter().map(IpNet::addr).collect();
        let sockets = &self.shared.sockets;
        let (looping, sane): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses
            .iter()
            .partition(|address| sockets.is_own_route(**address, &overlay, &own));
        if let Some(address) = looping.first() {
            let why = format!("{address} is reached through the overlay itself");
            if let Some(suppressed) = self.limiter.pass(now, "underlay_in_overlay") {
                tracing::warn!(peer = name, suppressed, "not dialed: {why}");
            }
            *problem = Some(why);
        }
        let trusted = self.config.links.is_trusted(peer);
        self.control
            .set_peer(now, peer, &sane, trusted, &mut self.effects);
        if let Some(links) = &mut self.links {
            let addresses = self.peers.iter().flat_map(|(_, addresses, _)| addresses);
            links.set_configured(addresses.copied());
        }
    }

    pub(super) fn on_change(&mut self, change: std::io::Result<Change>, watch: &mut Option<Watch>) {
        let now = self.clock.now();
        match change {
            Ok(Change::DeviceUp) => self.device.is_up(true),
            Ok(Change::DeviceDown) => self.device.is_up(false),
            Ok(Change::DeviceDeleted | Change::DeviceMtu(_)) => {}
            Ok(_) => self.network_changed_at = Some(now),
            Err(error) => {
                tracing::warn!(%error, "changes of the network are no longer seen");
                *watch = None;
            }
        }
        if let Some(watch) = watch {
            self.learn_surroundings(watch);
        }
    }

    pub(super) fn on_device(&mut self, queues: Queues, watch: &mut Option<Watch>) {
        if let Some(watch) = watch {
            watch.follow(self.device.index());
        }
        tracing::info!(device = self.device.name(), "the device is back");
        self.device.hand_over(queues);
        self.shared.wake();
    }

    /// Tells control which addresses this machine has, without the device's.
    pub(super) fn learn_surroundings(&mut self, watch: &Watch) {
        let device = self.device.index();
        let local = watch
            .addresses()
            .filter(|address| Some(address.interface) != device)
            .filter_map(|address| IpNet::new(address.address, address.prefix_len).ok())
            .collect();
        let overlay = self
            .device
            .addresses()
            .iter()
            .copied()
            .filter(|net| !is_link_local(net))
            .collect();
        self.control.set_surroundings(local, overlay);
    }
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local())
}
