//! The control loop: one task owns Control, Directory and everything that waits for time.
//!
//! One turn:
//!
//! 1. Wait for the first of: the order to stop, a question of a client, an address of a peer, a
//!    change of the machine's network, the end of a write, a report of the worker, a stranger's
//!    datagram, a deadline.
//! 2. Read the clock.
//! 3. Handle that one input.
//! 4. Handle deadlines that have passed meanwhile: a flood of inputs must not starve them.
//! 5. Carry out the effects.
//!
//! Inputs are taken in the order of that list: what this machine itself brings is little and comes
//! first, so that no flood of neighbors keeps a client waiting; strangers come last.

mod deeds;
mod ends;
mod housekeeping;
mod inputs;
mod preferring;
mod reloading;
mod sealing;

use std::net::SocketAddr;
use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tuntap::{Change, Watch};

use super::admin::{AdminRequest, Reply};
use super::args::UpArgs;
use super::clock::Clock;
use super::config::Config;
use super::device::DeviceKeeper;
use super::health::Alarms;
use super::keeping::Keeping;
use super::log::Limiter;
use super::peers::Resolved;
use super::pinging::Pinging;
use super::prefer::Preference;
use super::remembering::Remembering;
use super::report::ConfinementReport;
use super::service::Service;
use super::shared::{EndReport, Phase, Report, SealReport, Shared};
use super::state::{Remembered, StateDir};
use crate::node::control::Control;
use crate::node::effect::Effects;
use crate::route::directory::{Directory, Effect as DirectoryEffect};
use crate::route::grants::Grants;
use crate::route::learned::Learned;
use crate::route::switch::Switch;
use crate::seal::ends::Ends;
use crate::seal::links::Links;
use crate::time::{Duration, Instant};
use preferring::Places;
use reloading::Reloading;

/// Housekeeping that needs no precise time: the seen table, the state file, route checks.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// A change of the network is acted on once it has been quiet for this long.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// Where inputs come from.
#[derive(Debug)]
pub struct Inputs {
    /// Reports of the worker on neighbors and dialed endpoints.
    pub near: mpsc::Receiver<Report>,
    /// Reports of the worker on strangers.
    pub strangers: mpsc::Receiver<Report>,
    /// Reports of the worker on sealed links.
    pub seals: mpsc::Receiver<SealReport>,
    /// Reports of the worker on what is sealed end to end.
    pub ends: mpsc::Receiver<EndReport>,
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
    /// Sealed links; `None` in plain.
    pub(super) links: Option<Box<Links>>,
    /// How long sealed links are preferred, where they are not insisted on.
    preference: Option<Preference>,
    /// All other ends; `None` in plain.
    pub(super) ends: Option<Box<Ends>>,
    pub(super) directory: Directory,
    pub(super) device: DeviceKeeper,
    /// What the process has given up.
    pub(super) confinement: ConfinementReport,
    /// Who started the process, and wants to know how it is.
    service: Service,
    pub(super) alarms: Alarms,
    /// Text of each named peer, and why it has no address if so.
    pub(super) peers: Vec<(String, Vec<SocketAddr>, Option<String>)>,
    /// Where each of them was, as far as it counts for what may be spoken there.
    places: Places,
    remembering: Remembering,
    keeping: Keeping,
    state: Arc<StateDir>,
    learned: Arc<Learned>,
    /// The learning switch, in TAP mode.
    pub(super) switch: Option<Arc<Switch>>,
    rng: ChaCha12Rng,
    effects: Effects,
    directory_effects: Vec<DirectoryEffect>,
    pingings: Vec<(u64, Pinging, mpsc::Sender<Reply>)>,
    next_ping: u64,
    limiter: Limiter,
    /// Log lines that were not written, and not told of yet.
    lines_left_out: u64,
    hurry: Arc<Notify>,
    housekeeping_at: Instant,
    network_changed_at: Option<Instant>,
    resizing: Option<JoinHandle<()>>,
    /// What the node was started with, to read its settings again.
    args: UpArgs,
    reloading: Reloading,
    /// What certificates let nodes do.
    grants: Grants,
}

/// What a driver is made of.
pub struct Parts {
    /// The whole configuration.
    pub config: Config,
    /// What was typed.
    pub args: UpArgs,
    /// The clock.
    pub clock: Clock,
    /// What the worker shares.
    pub shared: Arc<Shared>,
    /// The control plane.
    pub control: Control,
    /// Sealed links; `None` in plain.
    pub links: Option<Box<Links>>,
    /// How long sealed links are preferred, where they are not insisted on.
    pub preference: Option<Preference>,
    /// All other ends; `None` in plain.
    pub ends: Option<Box<Ends>>,
    /// The claims.
    pub directory: Directory,
    /// The device's keeper.
    pub device: DeviceKeeper,
    /// What the process has given up.
    pub confinement: ConfinementReport,
    /// Who started the process, and wants to know how it is.
    pub service: Service,
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
            args,
            clock,
            shared,
            control,
            links,
            preference,
            ends,
            directory,
            device,
            confinement,
            service,
            state,
            learned,
            switch,
            rng,
            hurry,
        } = parts;
        let state = Arc::new(state);
        let peers: Vec<_> = config
            .links
            .named()
            .map(|peer| (peer.to_string(), Vec::new(), None))
            .collect();
        Self {
            config,
            clock,
            shared,
            control,
            links,
            preference,
            ends,
            directory,
            device,
            confinement,
            service,
            alarms: Alarms::default(),
            places: Places::of(&peers),
            peers,
            remembering: Remembering::new(state.clone()),
            keeping: Keeping::new(state.clone()),
            state,
            learned,
            switch,
            rng,
            effects: Effects::default(),
            directory_effects: Vec::new(),
            pingings: Vec::new(),
            next_ping: 0,
            limiter: Limiter::default(),
            lines_left_out: 0,
            hurry,
            housekeeping_at: Instant::ZERO,
            network_changed_at: None,
            resizing: None,
            args,
            reloading: Reloading::default(),
            grants: Grants::default(),
        }
    }

    /// Dials what was proven before the last restart.
    pub fn remember(&mut self, remembered: &[Remembered]) {
        self.note_own_grant(self.clock.now());
        // Before anybody is dialed.
        if let Some(links) = &mut self.links {
            links.set_policies(self.places.policies(&self.config.links));
        }
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
        self.tell_ready();
        let ended = loop {
            let due = self.next_timeout();
            let sleep = due.since(self.clock.now());
            tokio::select! {
                biased;
                _ = &mut inputs.stop => break Ended::Asked,
                Some(request) = inputs.admin.recv() => self.on_request(request),
                Some(resolved) = inputs.resolved.recv() => self.on_resolved(resolved),
                change = next_change(&mut watch) => self.on_change(change, &mut watch),
                written = self.remembering.ended() => self.on_written(written),
                read = self.reloading.ended() => self.on_reloaded(read),
                Some(queues) = self.device.opened() => self.on_device(queues, &mut watch),
                Some(report) = inputs.near.recv() => self.on_report(report),
                Some(report) = inputs.seals.recv() => self.on_seal(report, inputs.seals.len()),
                Some(report) = inputs.ends.recv() => self.on_end(report),
                Some(report) = inputs.strangers.recv() => self.on_report(report),
                () = tokio::time::sleep(sleep) => {}
            }
            let now = self.clock.now();
            if now >= self.next_timeout() {
                self.on_timeout(now);
            }
            self.carry_out(now);
            self.keep_members(now).await;
            if self.device.ends_node() {
                break Ended::DeviceLost;
            }
        };
        self.service.stopping();
        self.leave().await;
        ended
    }

    fn next_timeout(&self) -> Instant {
        let pingings = self
            .pingings
            .iter()
            .filter_map(|(_, pinging, _)| pinging.next_timeout());
        let network = self.network_changed_at.map(|at| at + DEBOUNCE);
        let links = self.links.as_ref().and_then(|links| links.next_timeout());
        pingings
            .chain(links)
            .chain(self.ends.as_ref().and_then(|ends| ends.next_timeout()))
            .chain(self.control.next_timeout())
            .chain(self.directory.next_timeout())
            .chain(network)
            .chain(self.service.next_timeout())
            .chain([self.housekeeping_at])
            .min()
            .unwrap_or(self.housekeeping_at)
    }

    fn on_timeout(&mut self, now: Instant) {
        self.control.handle_timeout(now, &mut self.effects);
        if let Some(links) = &mut self.links {
            links.handle_timeout(now);
        }
        self.with_ends(|ends, membership| ends.handle_timeout(now, membership));
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
        let are_well = self.shared.are_workers_well();
        if self.service.handle_timeout(now, are_well) {
            self.shared.ask_workers();
        }
        if now >= self.housekeeping_at {
            self.housekeeping_at = now + HOUSEKEEPING;
            self.keep_house(now);
        }
    }

    /// Says Goodbye twice, 20 ms apart, and writes down whom to dial next time.
    async fn leave(&mut self) {
        let proven = self.proven();
        self.shared.set_phase(Phase::Leaving);
        for _ in 0..2 {
            self.control.say_goodbye(&mut self.effects);
            self.carry_out(self.clock.now());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let now = self.clock.now();
        if let Some(links) = &mut self.links {
            links.leave(now);
            self.carry_out_sealing(now);
        }
        let written = self.remembering.finish(now, &proven).await;
        self.on_written(written);
        if let Err(error) = self.keeping.finish().await {
            let why = error.with_reason();
            tracing::warn!("keys of neighbors are not written down: {why}");
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
