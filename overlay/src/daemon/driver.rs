//! The control loop: one task owns Control, Directory and everything that waits for time.
//!
//! One turn:
//!
//! 1. Wait for the first of: the order to stop, a question of a client, an address of a peer, a
//!    change of the machine's network, a report of the worker, a stranger's datagram, a deadline.
//! 2. Read the clock.
//! 3. Handle that one input.
//! 4. Handle deadlines that have passed meanwhile: a flood of inputs must not starve them.
//! 5. Carry out the effects.
//!
//! Inputs are taken in the order of that list: what this machine itself brings is little and comes
//! first, so that no flood of neighbors keeps a client waiting; strangers come last.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ipnet::IpNet;
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tuntap::{Change, Watch};
use wire::{Flags, HEADER_LEN, Header, Kind};

use super::admin::{AdminRequest, Reply, Verb};
use super::clock::Clock;
use super::config::Config;
use super::device::{DeviceKeeper, DeviceView};
use super::health::Alarms;
use super::log::Limiter;
use super::peers::Resolved;
use super::pinging::{Pinging, Step};
use super::shared::{Command, Phase, Report, Shared};
use super::state::{Remembered, StateDir};
use crate::id::{LinkId, NetId, Path};
use crate::node::control::{Arrival, Control};
use crate::node::effect::{Effects, Event};
use crate::node::outlet::{Outlet, carry_out};
use crate::node::seen::Generation;
use crate::node::snapshot::NeighborSet;
use crate::pump::count::Total;
use crate::route::directory::{Alarm, Directory, Effect as DirectoryEffect};
use crate::route::known::Known;
use crate::route::learned::Learned;
use crate::route::switch::{LoopAlarm, Switch};
use crate::route::underlay::Underlay;
use crate::time::{Duration, Instant};

/// Housekeeping that needs no precise time: the seen table, the state file, route checks.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Clients' pings under way at the most.
const PINGINGS: usize = 16;
/// A change of the network is acted on once it has been quiet for this long.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// Where inputs come from.
#[derive(Debug)]
pub struct Inputs {
    /// Reports of the worker on neighbors and dialed endpoints.
    pub near: mpsc::Receiver<Report>,
    /// Reports of the worker on strangers.
    pub strangers: mpsc::Receiver<Report>,
    /// Questions of clients.
    pub admin: mpsc::Receiver<AdminRequest>,
    /// Addresses of named peers.
    pub resolved: mpsc::Receiver<Resolved>,
    /// The order to stop.
    pub stop: oneshot::Receiver<()>,
}

/// The owner of the control plane.
pub struct Driver {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    pub(super) control: Control,
    pub(super) directory: Directory,
    pub(super) device: DeviceKeeper,
    pub(super) alarms: Alarms,
    /// Text of each named peer, and why it has no address if so.
    pub(super) peers: Vec<(String, Vec<SocketAddr>, Option<String>)>,
    state: StateDir,
    learned: Arc<Learned>,
    /// The learning switch, in TAP mode.
    pub(super) switch: Option<Arc<Switch>>,
    rng: ChaCha12Rng,
    effects: Effects,
    directory_effects: Vec<DirectoryEffect>,
    pingings: Vec<(u64, Pinging, mpsc::Sender<Reply>)>,
    next_ping: u64,
    limiter: Limiter,
    hurry: Arc<Notify>,
    housekeeping_at: Instant,
    network_changed_at: Option<Instant>,
    growing: Option<JoinHandle<()>>,
}

/// What a driver is made of.
pub struct Parts {
    /// The whole configuration.
    pub config: Config,
    /// The clock.
    pub clock: Clock,
    /// What the worker shares.
    pub shared: Arc<Shared>,
    /// The control plane.
    pub control: Control,
    /// The claims.
    pub directory: Directory,
    /// The device's keeper.
    pub device: DeviceKeeper,
    /// The state directory.
    pub state: StateDir,
    /// Addresses learned from Data, shared with the worker.
    pub learned: Arc<Learned>,
    /// The learning switch of a TAP device, shared with the worker.
    pub switch: Option<Arc<Switch>>,
    /// For nonces.
    pub rng: ChaCha12Rng,
    /// Makes the resolver look all names up at once.
    pub hurry: Arc<Notify>,
}

impl Driver {
    /// A driver that has done nothing yet.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            config,
            clock,
            shared,
            control,
            directory,
            device,
            state,
            learned,
            switch,
            rng,
            hurry,
        } = parts;
        let named = config
            .links
            .peers
            .iter()
            .chain(&config.links.trust_unproved);
        let peers = named
            .map(|peer| (peer.to_string(), Vec::new(), None))
            .collect();
        Self {
            config,
            clock,
            shared,
            control,
            directory,
            device,
            alarms: Alarms::default(),
            peers,
            state,
            learned,
            switch,
            rng,
            effects: Effects::default(),
            directory_effects: Vec::new(),
            pingings: Vec::new(),
            next_ping: 0,
            limiter: Limiter::default(),
            hurry,
            housekeeping_at: Instant::ZERO,
            network_changed_at: None,
            growing: None,
        }
    }

    /// Dials what was proven before the last restart.
    pub fn remember(&mut self, remembered: &[Remembered]) {
        let addresses: Vec<SocketAddr> = remembered.iter().map(|entry| entry.remote).collect();
        let now = self.clock.now();
        self.control.remember(now, &addresses, &mut self.effects);
        self.carry_out(now);
    }

    /// Runs until it is told to stop or the device is lost and that was to end it; then says
    /// Goodbye and writes the state down.
    pub async fn run(&mut self, mut inputs: Inputs, mut watch: Option<Watch>) -> Ended {
        if let Some(watch) = &watch {
            self.learn_surroundings(watch);
        }
        let ended = loop {
            let due = self.next_timeout();
            let sleep = due.since(self.clock.now());
            tokio::select! {
                biased;
                _ = &mut inputs.stop => break Ended::Asked,
                Some(request) = inputs.admin.recv() => self.on_request(request),
                Some(resolved) = inputs.resolved.recv() => self.on_resolved(resolved),
                change = next_change(&mut watch) => self.on_change(change, &mut watch),
                Some(opened) = self.device.opened() => self.on_device(opened, &mut watch),
                Some(report) = inputs.near.recv() => self.on_report(report),
                Some(report) = inputs.strangers.recv() => self.on_report(report),
                () = tokio::time::sleep(sleep) => {}
            }
            let now = self.clock.now();
            if now >= self.next_timeout() {
                self.on_timeout(now);
            }
            self.carry_out(now);
            if self.device.ends_node() {
                break Ended::DeviceLost;
            }
        };
        self.leave().await;
        ended
    }

    fn next_timeout(&self) -> Instant {
        let pingings = self
            .pingings
            .iter()
            .filter_map(|(_, pinging, _)| pinging.next_timeout());
        let network = self.network_changed_at.map(|at| at + DEBOUNCE);
        pingings
            .chain(self.control.next_timeout())
            .chain(self.directory.next_timeout())
            .chain(network)
            .chain([self.housekeeping_at])
            .min()
            .unwrap_or(self.housekeeping_at)
    }

    fn on_report(&mut self, report: Report) {
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
            Report::Heard(netid) => {
                self.control.handle_heard(now, netid);
                self.directory
                    .handle_heard(now, netid, &mut self.directory_effects);
            }
            Report::Directory {
                origin,
                direct,
                payload,
            } => {
                let effects = &mut self.directory_effects;
                self.directory
                    .handle_payload(now, origin, direct, &payload, effects);
            }
            Report::SeenFills => self.grow_seen_table(),
            Report::DeviceGone => {
                tracing::error!(device = self.config.device.name, "the device was deleted");
                self.device.lost();
            }
            Report::WrongMode(netid) => {
                if let Some(suppressed) = self.limiter.pass(now, "wrong_mode") {
                    tracing::warn!(%netid, suppressed, "a node's device has another mode than ours");
                }
                self.alarms.wrong_mode(now, netid);
            }
        }
    }

    fn on_request(&mut self, request: AdminRequest) {
        let now = self.clock.now();
        let reply = match request.verb {
            Verb::Status => Reply::Status(Box::new(self.status(now))),
            Verb::Neighbors => Reply::Neighbors(self.neighbors(now)),
            Verb::Nodes => Reply::Nodes(self.nodes(now)),
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

    fn on_resolved(&mut self, resolved: Resolved) {
        let now = self.clock.now();
        let Some((name, addresses, problem)) = self.peers.get_mut(resolved.peer) else {
            return;
        };
        match resolved.addresses {
            Ok(found) => {
                *problem = None;
                addresses.clone_from(&found);
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
    fn set_peer(&mut self, now: Instant, peer: usize) {
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
        let trusted = peer >= self.config.links.peers.len();
        self.control
            .set_peer(now, peer, &sane, trusted, &mut self.effects);
    }

    fn on_change(&mut self, change: std::io::Result<Change>, watch: &mut Option<Watch>) {
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

    fn on_device(&mut self, opened: DeviceView, watch: &mut Option<Watch>) {
        if let Some(watch) = watch {
            watch.follow(Some(opened.device.info().index));
        }
        tracing::info!(device = opened.device.info().name, "the device is back");
        self.device
            .command(Command::Device(opened.device), &self.shared.wake);
    }

    /// Tells control which addresses this machine has, without the device's.
    fn learn_surroundings(&mut self, watch: &Watch) {
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

    fn on_timeout(&mut self, now: Instant) {
        self.control.handle_timeout(now, &mut self.effects);
        self.directory
            .handle_timeout(now, &mut self.directory_effects);
        self.poll_pingings(now);
        if self
            .network_changed_at
            .is_some_and(|at| now >= at + DEBOUNCE)
        {
            self.network_changed_at = None;
            self.hurry.notify_one();
            for peer in 0..self.peers.len() {
                if !self.peers[peer].1.is_empty() {
                    self.set_peer(now, peer);
                }
            }
            self.control.handle_network_change(now, &mut self.effects);
        }
        if now >= self.housekeeping_at {
            self.housekeeping_at = now + HOUSEKEEPING;
            self.keep_house(now);
        }
    }

    fn keep_house(&mut self, now: Instant) {
        self.shared.flood.seen().sweep(now, 1);
        self.learned.sweep(now);
        self.keep_switch(now);
        self.alarms.look_at(now, &self.shared.counters);
        if let Err(error) = self.state.remember(now, &self.proven())
            && let Some(suppressed) = self.limiter.pass(now, "state")
        {
            tracing::warn!(%error, suppressed, "neighbors are not written down");
        }
    }

    /// In TAP mode: stations that are over, loops that were found, nodes whose MACs are derived.
    fn keep_switch(&mut self, now: Instant) {
        let Some(switch) = &self.switch else {
            return;
        };
        switch.sweep(now);
        for LoopAlarm { port, .. } in switch.take_alarms() {
            let through = (port != self.shared.netid).then_some(port);
            match through {
                Some(netid) => tracing::error!(%netid, "a node bridges the same network as we do"),
                None => tracing::error!("the bridge behind the device has a loop"),
            }
            self.alarms.bridge_loop(now, through);
        }
        // Once a second is enough: until a node is known, frames to it are flooded.
        let known = Known::new(self.control.remotes().map(|(netid, _)| netid));
        if known != *self.shared.snapshot.load().known {
            self.shared
                .publish(|snapshot| snapshot.known = Arc::new(known));
        }
    }

    /// A larger table is made by a thread that may take its time; the data path never waits.
    fn grow_seen_table(&mut self) {
        let seen = self.shared.flood.seen();
        if self
            .growing
            .as_ref()
            .is_some_and(|growing| !growing.is_finished())
        {
            return;
        }
        let Some(bytes) = seen.growth_wanted() else {
            return;
        };
        tracing::debug!(bytes, "the seen table grows");
        let shared = self.shared.clone();
        let clock = self.clock;
        self.growing = Some(tokio::task::spawn_blocking(move || {
            let generation = Generation::allocate(bytes);
            shared.flood.seen().adopt(clock.now(), generation);
        }));
    }

    fn proven(&self) -> Vec<Remembered> {
        let proven = self.control.proven().into_iter();
        proven
            .map(|(netid, remote)| Remembered { netid, remote })
            .collect()
    }

    fn poll_pingings(&mut self, now: Instant) {
        let mut pingings = std::mem::take(&mut self.pingings);
        for (id, pinging, replies) in &mut pingings {
            while let Some(step) = pinging.poll(now) {
                let reply = match step {
                    Step::Ask => {
                        self.control
                            .ping(now, *id, pinging.target, &mut self.effects);
                        continue;
                    }
                    Step::Answer(mut answer) => {
                        answer.addresses = self.addresses_of(answer.netid);
                        Reply::Answer(answer)
                    }
                    Step::Missed(missed) => Reply::Missed(missed),
                    Step::Summary(summary) => Reply::Summary(summary),
                };
                let _ = replies.try_send(reply);
            }
        }
        pingings.retain(|(_, pinging, replies)| !pinging.is_done() && !replies.is_closed());
        self.pingings = pingings;
    }

    /// Step 5.
    fn carry_out(&mut self, now: Instant) {
        loop {
            self.carry_out_directory(now);
            let mut effects = std::mem::take(&mut self.effects);
            let mut deeds = Deeds {
                shared: &self.shared,
                events: Vec::new(),
            };
            carry_out(
                now,
                &self.control,
                &self.shared.flood,
                &mut effects,
                &mut deeds,
            );
            let events = deeds.events;
            self.effects = effects;
            if events.is_empty() {
                break;
            }
            for event in events {
                self.on_event(now, event);
            }
        }
        self.carry_out_directory(now);
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
                if why == crate::node::effect::Gone::Goodbye {
                    self.directory
                        .handle_gone(now, netid, &mut self.directory_effects);
                }
            }
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

    fn carry_out_directory(&mut self, now: Instant) {
        let mut effects = std::mem::take(&mut self.directory_effects);
        for effect in effects.drain(..) {
            match effect {
                DirectoryEffect::Flood(payload) => {
                    self.send_data(now, NetId::ALL, Flags::NONE, &payload, None);
                }
                DirectoryEffect::ToNeighbor(netid, payload) => {
                    self.send_data(now, netid, Flags::NO_FORWARD, &payload, Some(netid));
                }
                DirectoryEffect::Changed => {
                    let routes = self.directory.routes();
                    self.shared.publish(|snapshot| snapshot.routes = routes);
                    // Packets that wait for a claim may go now.
                    self.device.wake(&self.shared.wake);
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
    fn send_data(
        &mut self,
        now: Instant,
        dst: NetId,
        flags: Flags,
        payload: &[u8],
        only: Option<NetId>,
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
        let wanted = |netid| only.is_none_or(|one| one == netid);
        for link in snapshot
            .neighbors
            .links()
            .iter()
            .filter(|link| wanted(link.netid))
        {
            send(&self.shared, &link.path, &datagram);
            link.stats.tx_datagrams.fetch_add(1, Relaxed);
            link.stats
                .tx_bytes
                .fetch_add(datagram.len() as u64, Relaxed);
        }
    }

    /// Says Goodbye twice, 20 ms apart, and writes down whom to dial next time.
    async fn leave(&mut self) {
        let proven = self.proven();
        self.shared.set_phase(Phase::Leaving);
        self.device.wake(&self.shared.wake);
        for _ in 0..2 {
            self.control.say_goodbye(&mut self.effects);
            self.carry_out(self.clock.now());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if let Err(error) = self.state.remember_now(&proven) {
            tracing::warn!(%error, "neighbors are not written down");
        }
    }
}

/// Why the driver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Asked,
    /// The device is lost, and `device.on_loss` is `exit`.
    DeviceLost,
}

async fn next_change(watch: &mut Option<Watch>) -> std::io::Result<Change> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local())
}

/// Sends one datagram of the control plane and counts it.
fn send(shared: &Shared, path: &Path, datagram: &[u8]) {
    match shared.sockets.send_to(path, datagram) {
        Ok(()) => shared.counters.add(Total::Sent, 1),
        Err(error) => shared.counters.count(error.reason()),
    }
}

/// Control's effects as deeds.
struct Deeds<'s> {
    shared: &'s Shared,
    events: Vec<Event>,
}

impl Outlet for Deeds<'_> {
    fn send(&mut self, _now: Instant, path: &Path, link: Option<LinkId>, datagram: &[u8]) {
        send(self.shared, path, datagram);
        let snapshot = self.shared.snapshot.load();
        let links = snapshot.neighbors.links();
        // `last_sent` stays as it is: only data that goes unanswered casts doubt on a link.
        if let Some(link) = links.iter().find(|entry| Some(entry.id) == link) {
            link.stats.tx_datagrams.fetch_add(1, Relaxed);
            link.stats
                .tx_bytes
                .fetch_add(datagram.len() as u64, Relaxed);
        }
    }

    fn flood(&mut self, _now: Instant, datagram: &[u8]) {
        let snapshot = self.shared.snapshot.load();
        for link in snapshot.neighbors.links() {
            send(self.shared, &link.path, datagram);
            link.stats.tx_datagrams.fetch_add(1, Relaxed);
            link.stats
                .tx_bytes
                .fetch_add(datagram.len() as u64, Relaxed);
        }
    }

    fn publish(&mut self, neighbors: NeighborSet) {
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
        let neighbors = Arc::new(neighbors);
        self.shared.publish(|snapshot| {
            (snapshot.neighbors, snapshot.underlay) = (neighbors, underlay);
        });
    }

    fn event(&mut self, _now: Instant, event: Event) {
        self.events.push(event);
    }
}
