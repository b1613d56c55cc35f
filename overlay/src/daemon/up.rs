//! `floodmesh up`: opens what must exist before anything moves, in an order in which every refusal
//! leaves nothing behind; runs; closes in order.
//!
//! ```text
//! main thread                          1 to 16 data threads   device thread
//!   tokio, current_thread                 poll loop              only while the device is lost
//!     driver (Control, Directory)
//!     resolver, control socket
//! ```

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use ipnet::{IpNet, Ipv6Net};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tuntap::{OffloadChoice, OpenConfig, OpenError, Watch};

use super::admin::{listen::ControlSocket, server};
use super::args::{DeviceMode, OffloadMode, UpArgs};
use super::clock::{self, Clock};
use super::config::{Config, HashKind, OnLoss, Priority, Security};
use super::confine::{self, Needs};
use super::device::DeviceKeeper;
use super::driver::{self, Driver, Ended, Inputs};
use super::duty;
use super::error::Failure;
use super::log;
use super::paths::Places;
use super::peers;
use super::port::Port;
use super::prefer::Stored;
use super::priority;
use super::report::ConfinementReport;
use super::secrets::membership::{self, Membership};
use super::service::Service;
use super::shared::{ENDS, NEAR, Phase, Reports, SEALS, STRANGERS, Seat, Shared, Snapshot};
use super::state::{self, Remembered, StateDir};
use super::worker::{self, Worker};
use crate::budget::Rate;
use crate::id::NetId;
use crate::keyed::KeyedHasher;
use crate::link::udp::UdpSockets;
use crate::node::config::{Limits, NodeConfig, Socket, Timers};
use crate::node::control::Control;
use crate::node::flood::Flood;
use crate::node::hash::{Algorithm, MessageHasher};
use crate::node::seen::SeenConfig;
use crate::node::snapshot::NeighborSet;
use crate::pump::count::Counters;
use crate::route::address::{self, Mesh};
use crate::route::directory::Directory;
use crate::route::frame;
use crate::route::known::Known;
use crate::route::learned::Learned;
use crate::route::storm::StormRates;
use crate::route::switch::Switch;
use crate::route::tap::Tap;
use crate::route::tun::Tun;
use crate::route::underlay::Underlay;
use crate::seal::broadcast::{self, Broadcasts};
use crate::seal::ends::Ends;
use crate::seal::links::Links;
use crate::seal::local::Local;
use crate::seal::members::Members;
use crate::seal::peer;
use crate::time::Duration;

/// Bytes of the seen table at the start; it grows from there.
const SEEN_START: usize = 4 << 20;

/// Threads for what takes long (names, files, memory) at most: with the data threads fewer than a service
/// manager lets a node have.
const HELPERS: usize = 32;

/// What a node starts with.
#[derive(Debug)]
pub struct Start {
    /// What was asked for.
    pub config: Config,
    /// Its number.
    pub netid: NetId,
    /// Its keys, where it speaks sealed.
    pub sealed: Option<Local>,
    /// Who may come up.
    pub members: Members,
    /// What it knows of who speaks sealed, if it prefers that.
    pub stored: Option<Stored>,
    /// Neighbors to dial as if they were configured, until they answer or are forgotten.
    pub remembered: Vec<Remembered>,
    /// Its memory, locked.
    pub state: StateDir,
    /// Its control socket, listening; clients wait until it is served.
    pub control: ControlSocket,
}

impl Start {
    /// Reads the configuration and the keys, starts logging, locks the state, makes the control
    /// socket.
    ///
    /// # Errors
    /// The first of these that does not work.
    pub fn prepare(args: &UpArgs) -> Result<Self, Failure> {
        let config = Config::load(args, &Places::of_this_process())?;
        log::start(&config.files.log, config.files.log_format)?;
        if let Some(path) = &config.files.config {
            tracing::info!("settings read from {}", path.display());
        }
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let membership = match config.security {
            Security::Plain => None,
            Security::Sealed | Security::Prefer => Some(Membership::load(&config)?),
        };
        let state = StateDir::open(&config.files.state)?;
        let sealed = membership
            .map(|membership| membership.start(&config, &state))
            .transpose()?;
        let netid = match &sealed {
            Some(local) => local.netid,
            None => state.netid(config.netid, state::draw_netid)?,
        };
        let members = match &sealed {
            None => Members::default(),
            Some(local) => membership::members(&config, &state, Some(&local.keys.mesh_id))?,
        };
        let stored = Stored::read(&config, &state, clock::wall_seconds())?;
        let remembered = state.neighbors();
        let control = ControlSocket::open(&config.files.control)?;
        Ok(Self {
            config,
            netid,
            sealed,
            members,
            stored,
            remembered,
            state,
            control,
        })
    }
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// It could not start, or lost what it cannot do without.
pub fn up(args: &UpArgs) -> Result<(), Failure> {
    let start = Start::prepare(args)?;
    // Before there are other threads, which inherit it.
    priority::take_nice(start.config.nice);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Under a flood the driver is always ready; clients and signals are looked after between.
        .event_interval(4)
        .max_blocking_threads(HELPERS)
        .build()
        .map_err(|error| Failure::at_work("cannot start the runtime", "").because(error))?;
    runtime.block_on(run(start, args.clone()))
}

async fn run(start: Start, args: UpArgs) -> Result<(), Failure> {
    let Start {
        config,
        netid,
        sealed,
        members,
        stored,
        remembered,
        state,
        control: control_socket,
    } = start;
    let clock = Clock::start();
    let mut rng = seeded()?;

    // 1. Everything that can be refused.
    let listen: &[SocketAddr] = if config.links.listen_given {
        &config.links.listen
    } else {
        &[]
    };
    let mut sockets =
        UdpSockets::bind(listen).map_err(|error| Failure::at_work(error.to_string(), ""))?;
    if config.device.offload == OffloadMode::Off {
        sockets.forgo_trains();
    }
    let mesh = Mesh::new(&config.mesh);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = config.device.threads;
    let duties = duty::duties(
        threads.unwrap_or_else(|| duty::usual_threads(processors)),
        config.device.mode,
    );
    let mut seats = Vec::new();
    let mut workers = Vec::new();
    for &duty in &duties {
        let (seat, command) = Seat::new(duty)
            .map_err(|error| Failure::at_work("cannot wake a data thread", "").because(error))?;
        seats.push(seat);
        workers.push((duty, command));
    }
    let (device, opened) = DeviceKeeper::open(
        device_config(&config, mesh, netid, duty::queues(&duties)),
        config.device.on_loss,
        workers,
    )
    .map_err(device_failure)?;
    if let Some(opened) = opened {
        for skipped in &opened.skipped {
            tracing::warn!(address = %skipped.address, reason = %skipped.reason, "address left out");
        }
        device.hand_over(opened.queues);
    }

    // 2. The core.
    let counters = Arc::new(Counters::default());
    let node = node_config(&config, netid, &sockets, device.addresses(), &mut rng);
    let control = Control::new(clock.now(), node, counters.clone());
    let directory = Directory::new(netid, mesh, config.device.addresses.clone(), rng.next_u64());
    let hasher = MessageHasher::new(
        algorithm(config.dedupe.hash),
        [0; 4].map(|_| rng.next_u64()),
    );
    let memory = usize::try_from(config.dedupe.memory).unwrap_or(usize::MAX);
    let seen = SeenConfig {
        start_bytes: SEEN_START.min(memory),
        memory_bytes: memory,
    };
    let broadcasts = sealed.as_ref().map(|local| {
        let hasher = KeyedHasher(rng.next_u64(), rng.next_u64());
        Broadcasts::new(local, config.signed_broadcast, hasher)
    });
    let preference = stored.as_ref().map(|stored| stored.preference);
    let links = sealed.map(|local| {
        let hasher = KeyedHasher(rng.next_u64(), rng.next_u64());
        let random = ChaCha12Rng::from_seed(seed_of(&mut rng));
        let now = clock.now();
        let pinned: Vec<NetId> = members.pins().keys().copied().collect();
        let prefer = stored.and_then(|stored| stored.prefer(&config, pinned.into_iter(), hasher));
        let afar = members.afar().iter().map(|(netid, _)| netid);
        let prefer = prefer.map(|prefer| prefer.recalling(afar));
        let links = Links::new(now, local, peer::Timers::default(), hasher, random);
        let links = links.admitting(members);
        Box::new(match prefer {
            Some(prefer) => links.preferring(prefer),
            None => links,
        })
    });
    let ends = links.is_some().then(|| {
        let hasher = KeyedHasher(rng.next_u64(), rng.next_u64());
        let random = ChaCha12Rng::from_seed(seed_of(&mut rng));
        Box::new(Ends::new(peer::Timers::end_to_end(), hasher, random))
    });
    let shared = Arc::new(Shared {
        netid,
        flood: Flood::new(netid, hasher, seen, clock.now()),
        broadcasts,
        counters,
        snapshot: ArcSwap::from_pointee(Snapshot {
            neighbors: Arc::new(NeighborSet::empty()),
            routes: directory.routes(),
            underlay: Arc::new(Underlay::default()),
            sessions: links
                .as_ref()
                .map(|links| Arc::new(links.sessions().clone())),
            ends: ends.as_ref().map(|ends| Arc::new(ends.sessions().clone())),
            known: Arc::new(Known::default()),
        }),
        sockets,
        wakes: seats.iter().map(|seat| seat.wake.clone()).collect(),
        phase: Default::default(),
        is_realtime: Default::default(),
    });

    // 3. From here on with little: before there are other threads, which inherit that.
    let service = Service::of_this_process();
    let mut confinement = confine_to_needs(&config);

    // 4. The data path.
    let (near, near_rx) = mpsc::channel(NEAR);
    let (strangers, strangers_rx) = mpsc::channel(STRANGERS);
    let (seals, seals_rx) = mpsc::channel(SEALS);
    let (end_reports, ends_rx) = mpsc::channel(ENDS);
    let mut hasher = || KeyedHasher(rng.next_u64(), rng.next_u64());
    let learned = Arc::new(Learned::new(hasher()));
    let switch = switch(&config, netid, mesh, hasher());
    let reports = Reports {
        near,
        strangers,
        seals,
        ends: end_reports,
    };
    let mut data = Vec::new();
    for seat in seats {
        let name = seat.duty.name();
        let worker = Worker::new(worker::Parts {
            shared: shared.clone(),
            seat,
            clock,
            batch: config.device.batch.into(),
            port: port(&config, learned.clone(), switch.clone()),
            reports: reports.clone(),
            nonces: ChaCha12Rng::from_seed(seed_of(&mut rng)),
        });
        let wanted = config.device.priority;
        let is_confined = config.confine;
        let shared = shared.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if wanted == Priority::Realtime && priority::take_realtime() {
                    shared.is_realtime.store(true, Relaxed);
                }
                if is_confined {
                    confine::settle();
                }
                worker.run();
            })
            .map_err(|error| Failure::at_work("cannot start a data thread", "").because(error))?;
        data.push(thread);
    }
    if confinement.enabled {
        confinement.capabilities = confine::settle();
    }

    // Nobody is told that the node is ready before all of its threads are.
    shared.ask_workers();
    while !shared.are_workers_well() {
        if data.iter().any(JoinHandle::is_finished) {
            let what = "a data thread ended as it started";
            return Err(Failure::at_work(what, "look at the log"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    // 5. The control path.
    let (resolved_tx, resolved) = mpsc::channel(64);
    let (admin_tx, admin) = mpsc::channel(64);
    let (stop_tx, stop) = oneshot::channel();
    let hurry = Arc::new(Notify::new());
    let named: Vec<_> = config.links.named().cloned().collect();
    let resolver_hurry = hurry.clone();
    tokio::spawn(async move { peers::resolve(named, resolved_tx, &resolver_hurry).await });
    tokio::spawn(async move {
        if let Err(error) = server::serve(&control_socket, admin_tx).await {
            tracing::error!(%error, "the control socket is closed");
        }
    });
    stop_on_signal(stop_tx)?;
    let watch = match Watch::open(device.index()).await {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!(%error, "changes of the network are not seen");
            None
        }
    };

    // 6. Ready.
    let line = ready_line(&config, netid, &shared.sockets, &device);
    let strict = device.strict_table();
    let mut driver = Driver::new(driver::Parts {
        config,
        clock,
        shared: shared.clone(),
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
        args,
    });
    driver.remember(&remembered);
    say(&line);
    let inputs = Inputs {
        near: near_rx,
        strangers: strangers_rx,
        seals: seals_rx,
        ends: ends_rx,
        admin,
        resolved,
        stop,
    };
    let ended = driver.run(inputs, watch).await;

    // 7. Down, in order: the driver said Goodbye while the worker still forwarded.
    if let Some(table) = strict {
        tracing::info!(
            table,
            "packets for the overlay stay shut in, since device.strict is on; a start without it, or \
             ip rule flush protocol 172 and ip route flush table {table}, both also as ip -6, let them out again"
        );
    }
    shared.set_phase(Phase::Ending);
    for thread in data {
        let _ = thread.join();
    }
    match ended {
        Ended::Asked => Ok(()),
        Ended::DeviceLost => Err(Failure::at_work(
            "the device was deleted, and device.on_loss is \"exit\"",
            "start again, or set device.on_loss = \"keep\"",
        )),
    }
}

/// Gives up what a node does not need that runs as `config` says.
fn confine_to_needs(config: &Config) -> ConfinementReport {
    if !config.confine {
        return confine::unconfined();
    }
    let Config { device, files, .. } = config;
    confine::confine(&Needs {
        device: device.mode != DeviceMode::None && device.on_loss == OnLoss::Keep,
        scheduling: device.priority == Priority::Realtime,
        state: &files.state,
        control: &files.control,
        reread: [
            files.config.as_deref(),
            Some(&*files.secret),
            Some(&*files.certificate),
        ],
    })
}

/// The error's text says what to do, where there is a usual cause; elsewhere the cause is named.
fn device_failure(error: OpenError) -> Failure {
    let failure = Failure::at_work(error.to_string(), "");
    match error {
        OpenError::Step { source, .. } | OpenError::AddressRefused { source, .. } => {
            failure.because(source)
        }
        _ => failure,
    }
}

fn seeded() -> Result<ChaCha12Rng, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| {
        Failure::at_work("the system gives no random numbers", "look at its log").because(error)
    })?;
    Ok(ChaCha12Rng::from_seed(seed))
}

fn seed_of(rng: &mut ChaCha12Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    seed
}

fn algorithm(kind: HashKind) -> Algorithm {
    match kind {
        HashKind::Fast => Algorithm::default(),
        HashKind::Blake3 => Algorithm::Blake3,
    }
}

/// The device's configuration: its derived addresses first, then those asked for.
fn device_config(config: &Config, mesh: Mesh, netid: NetId, queues: u16) -> Option<OpenConfig> {
    let (mode, mac) = match config.device.mode {
        DeviceMode::Tun => (tuntap::Mode::Tun, None),
        DeviceMode::Tap => (tuntap::Mode::Tap, Some(address::mac(netid))),
        DeviceMode::None => return None,
    };
    let derived = Ipv6Net::new(mesh.address(netid), 64).map(IpNet::V6);
    Some(OpenConfig {
        name: config.device.name.clone(),
        mode,
        mtu: config.device.mtu,
        mac,
        link_local: Some(address::link_local(netid)),
        addresses: derived
            .into_iter()
            .chain(config.device.addresses.iter().copied())
            .collect(),
        offload: match config.device.offload {
            OffloadMode::Auto => OffloadChoice::Auto,
            OffloadMode::On => OffloadChoice::On,
            OffloadMode::Off => OffloadChoice::Off,
        },
        queues,
        strict: config.device.strict,
    })
}

fn node_config(
    config: &Config,
    netid: NetId,
    sockets: &UdpSockets,
    device: &[IpNet],
    rng: &mut ChaCha12Rng,
) -> NodeConfig {
    let limits = &config.limits;
    let timers = &config.timers;
    NodeConfig {
        netid,
        sockets: sockets
            .iter()
            .map(|(id, s)| Socket {
                id,
                local: s.local(),
            })
            .collect(),
        degree: config.links.degree.into(),
        max_neighbors: config.links.max_neighbors.into(),
        allow_inform: config.links.allow_inform.clone(),
        overlay: device.to_vec(),
        largest: largest_datagram(config),
        timers: Timers {
            ping_after: timers.ping_after,
            suspect_after: timers.suspect_after,
            dead_after: timers.dead_after,
            redial: timers.redial,
            ..Timers::default()
        },
        limits: Limits {
            hellos: limits.hello_per_second,
            hellos_per_endpoint: limits.hello_per_endpoint,
            challenges: limits.challenges_per_second,
            candidates: limits.candidates as usize,
            inform_burst: limits.inform_burst,
            informs_per_prefix: limits.inform_per_second,
            pongs: limits.ping_total,
            pongs_per_origin: limits.ping_per_source,
            pongs_to_all: limits.ping_all,
            ..Limits::default()
        },
        seed: seed_of(rng),
    }
}

/// What stands before the packet in a datagram with a frame: the service's byte, the Ethernet
/// header, one VLAN tag.
const FRAME_OVERHEAD: usize = 1 + frame::HEADER_LEN + 4;

/// Bytes of the datagram that the device's largest packet makes. A relay without a device carries
/// those of others, whose MTU is most likely the one that it would have.
fn largest_datagram(config: &Config) -> u16 {
    let more = match config.device.mode {
        DeviceMode::Tap => FRAME_OVERHEAD,
        DeviceMode::Tun | DeviceMode::None => 0,
    };
    let seal = match config.security {
        // The longer of both seals between ends.
        Security::Sealed | Security::Prefer => broadcast::overhead(config.signed_broadcast),
        Security::Plain => 0,
    };
    let len = wire::HEADER_LEN + seal + more + config.device.mtu as usize;
    // The MTU was checked to fit when the configuration was read.
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn port(config: &Config, learned: Arc<Learned>, switch: Option<Arc<Switch>>) -> Port {
    // The MTU was checked to fit when the configuration was read.
    let mtu = u16::try_from(config.device.mtu).unwrap_or(u16::MAX);
    match (config.device.mode, switch) {
        (DeviceMode::None, _) => Port::None,
        (_, Some(switch)) => Port::tap(Tap::new(mtu, switch), mtu),
        (_, None) => Port::tun(Tun::new(mtu, learned), mtu),
    }
}

/// The learning switch of a TAP device; other modes have none.
fn switch(config: &Config, netid: NetId, mesh: Mesh, hasher: KeyedHasher) -> Option<Arc<Switch>> {
    // Two seconds' worth at once, as the settings promise.
    let rate = |tokens: u32| Rate::per_second(tokens, tokens.saturating_mul(2));
    let rates = StormRates {
        broadcast: rate(config.storm.broadcast),
        multicast: rate(config.storm.multicast),
    };
    let is_tap = config.device.mode == DeviceMode::Tap;
    is_tap.then(|| Arc::new(Switch::new(netid, mesh, rates, hasher)))
}

/// SIGTERM and SIGINT stop the node; a second one ends the process at once.
fn stop_on_signal(stop: oneshot::Sender<()>) -> Result<(), Failure> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Failure::at_work("cannot listen for signals", "").because(error))
    };
    let (mut term, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    tokio::spawn(async move {
        let mut stop = Some(stop);
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            match stop.take() {
                Some(stop) => {
                    let _ = stop.send(());
                }
                None => std::process::exit(1),
            }
        }
    });
    Ok(())
}

fn ready_line(
    config: &Config,
    netid: NetId,
    sockets: &UdpSockets,
    device: &DeviceKeeper,
) -> String {
    let device_text = match device.name() {
        Some(name) => {
            let addresses: Vec<String> =
                device.addresses().iter().map(ToString::to_string).collect();
            let mode = if config.device.mode == DeviceMode::Tap {
                "tap"
            } else {
                "tun"
            };
            format!("device {name} ({mode}), addresses {}", addresses.join(" "))
        }
        None => "no device".to_owned(),
    };
    let listening: Vec<String> = sockets
        .iter()
        .map(|(_, socket)| socket.local().to_string())
        .collect();
    format!(
        "ready: netid {netid}, {device_text}, listening {}",
        listening.join(" ")
    )
}

/// The one line on standard output. Nobody may be reading; then nobody misses it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
