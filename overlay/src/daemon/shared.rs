//! What the control thread and the workers share, and the ways between them.
//!
//! ```text
//!                  Snapshot (arc-swap)            ----> read once a batch
//!   driver         Command (bounded, eventfd)     ---->          worker
//!                  near, strangers (bounded)      <----
//! ```
//!
//! A worker never waits for the driver: what finds a channel full is dropped and counted.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arc_swap::ArcSwap;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc;
use tuntap::{Device, MergingEnded};

use super::duty::Duty;
use crate::id::{NetId, Path};
use crate::link::udp::UdpSockets;
use crate::node::flood::Flood;
use crate::node::snapshot::NeighborSet;
use crate::pump::count::Counters;
use crate::route::known::Known;
use crate::route::routes::Routes;
use crate::route::underlay::Underlay;
use crate::seal::broadcast::Broadcasts;
use crate::seal::effect::Owned;
use crate::seal::sessions::{EndSet, SessionSet};

/// Bytes of a control datagram that are handed over; the messages have at most 38, and what
/// follows is ignored (A8).
pub const CONTROL_LEN: usize = 64;
/// Messages of neighbors and of endpoints being dialed that may wait for the driver.
pub const NEAR: usize = 1_024;
/// Messages of strangers that may wait; few, so that they cannot delay the others.
pub const STRANGERS: usize = 256;
/// Handshakes and notices of sealed links that may wait.
pub const SEALS: usize = 512;
/// Handshakes, notices and packets between ends that may wait; what other members cause, so it
/// has a channel of its own.
pub const ENDS: usize = 512;
/// Commands that may wait for a worker.
const COMMANDS: usize = 4;

/// What workers read, whole and unchanging.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The live links.
    pub neighbors: Arc<NeighborSet>,
    /// Who owns which address.
    pub routes: Arc<Routes>,
    /// Our own link traffic, should it turn up inside the overlay.
    pub underlay: Arc<Underlay>,
    /// What seals and opens; `None` in plain.
    pub sessions: Option<Arc<SessionSet>>,
    /// What seals and opens end to end; `None` in plain.
    pub ends: Option<Arc<EndSet>>,
    /// Which nodes there are; kept up to date, to the second, in TAP mode only.
    pub known: Arc<Known>,
}

/// What both sides hold.
#[derive(Debug)]
pub struct Shared {
    /// This node.
    pub netid: NetId,
    /// The data plane's decisions and memory.
    pub flood: Flood,
    /// Seals and opens what is for all nodes; `None` in plain.
    pub broadcasts: Option<Broadcasts>,
    /// Everything counted.
    pub counters: Arc<Counters>,
    /// The sockets; sending is allowed from any thread.
    pub sockets: UdpSockets,
    /// What workers read once a batch.
    pub snapshot: ArcSwap<Snapshot>,
    /// Wakes the workers, each by its own, when a command waits or they are to stop.
    pub wakes: Vec<Arc<Wake>>,
    /// How far the node has come; see [`Phase`].
    pub phase: AtomicU8,
    /// The workers run before ordinary programs.
    pub is_realtime: AtomicBool,
}

/// A worker's place, made before the worker.
#[derive(Debug)]
pub struct Seat {
    /// What the worker is to do.
    pub duty: Duty,
    /// Wakes it; the other end is in [`Shared::wakes`].
    pub wake: Arc<Wake>,
    /// From the driver.
    pub commands: Receiver<Command>,
}

impl Seat {
    /// A seat, and the way to it.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new(duty: Duty) -> Result<(Self, SyncSender<Command>), Errno> {
        let wake = Arc::new(Wake::new()?);
        let (sender, commands) = sync_channel(COMMANDS);
        let seat = Self {
            duty,
            wake,
            commands,
        };
        Ok((seat, sender))
    }
}

/// Wakes a worker, and shows whether it still takes its turns.
#[derive(Debug)]
pub struct Wake {
    event: EventFd,
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Wake {
    fn new() -> Result<Self, Errno> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Self {
            event: EventFd::from_flags(flags)?,
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        })
    }

    /// Has the worker take a turn.
    fn rouse(&self) {
        if let Err(error) = self.event.write(1) {
            tracing::debug!(%error, "a worker is awake already");
        }
    }

    /// Asks the worker to show that it takes turns.
    pub fn ask(&self) {
        self.asked.fetch_add(1, Release);
        self.rouse();
    }

    /// The worker's part: takes notice, and answers what was asked so far.
    pub fn answer(&self) {
        // First: of a question that comes after it the next turn is told. How often it was woken does
        // not matter.
        let _ = self.event.read();
        self.answered.store(self.asked.load(Acquire), Release);
    }

    /// Whether the worker has taken a turn since it was last asked.
    pub fn is_answered(&self) -> bool {
        self.answered.load(Acquire) == self.asked.load(Acquire)
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// A node's life, as far as its worker minds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everything moves.
    Running,
    /// Goodbye is being said: nothing more is read from the device, others' messages still go on.
    Leaving,
    /// The worker ends.
    Ending,
}

impl Shared {
    /// Publishes a snapshot that differs from the last one as `edit` says.
    ///
    /// Calls: from the driver alone; a second writer's change could be lost.
    pub fn publish(&self, edit: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        edit(&mut snapshot);
        self.snapshot.store(Arc::new(snapshot));
    }

    /// How far the node has come.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Running,
            1 => Phase::Leaving,
            _ => Phase::Ending,
        }
    }

    /// Goes on to another phase, and wakes the workers, so that they find out.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.wake();
    }

    /// Wakes the workers, which then look at the snapshot, the phase and their commands.
    pub fn wake(&self) {
        for wake in &self.wakes {
            wake.rouse();
        }
    }

    /// Asks all workers to show that they take turns.
    pub fn ask_workers(&self) {
        self.wakes.iter().for_each(|wake| wake.ask());
    }

    /// Whether all workers have taken a turn since they were last asked.
    pub fn are_workers_well(&self) -> bool {
        self.wakes.iter().all(|wake| wake.is_answered())
    }
}

/// What a worker found out about sealed links.
#[derive(Debug)]
pub enum SealReport {
    /// A datagram of a handshake.
    Handshake(Path, Box<[u8]>),
    /// The first datagram opened on the session of this index.
    Confirmed(u32),
    /// A control frame that asks for something or answers, on the session of this index; the path
    /// that it came by, and the length of its datagram.
    Control(u32, (Path, usize), Owned),
    /// The newest datagram of the session of this index came by this path, which is not the
    /// link's; its length.
    Elsewhere(u32, Path, usize),
    /// A control frame about revocation lists, whole, on the session of this index.
    List(u32, Box<[u8]>),
}

/// What a worker found out about what is sealed end to end.
#[derive(Debug)]
pub enum EndReport {
    /// A payload of a handshake for us.
    Handshake {
        /// Whose.
        src: NetId,
        /// The neighbor that brought it.
        by: NetId,
        /// It came over a link of `src` itself and goes no further.
        direct: bool,
        /// From its first byte, `c8`.
        payload: Box<[u8]>,
    },
    /// The first payload opened on the session of this index.
    Confirmed(u32),
    /// This node seals with a session that we do not have; the neighbor that brought it.
    Unknown(NetId, NetId),
    /// A payload for a node without a session.
    Waiting(NetId, Box<[u8]>),
}

/// From the worker to the driver.
#[derive(Debug)]
pub enum Report {
    /// A control datagram.
    Datagram {
        /// Where it came from.
        path: Path,
        /// It had come before; only its last hop is news.
        duplicate: bool,
        /// Bytes of it in `bytes`.
        len: u8,
        /// Its first bytes.
        bytes: [u8; CONTROL_LEN],
    },
    /// A well-formed datagram of an unknown endpoint that is no control datagram.
    Stranger(Path),
    /// A message with our netid as its source that is not ours.
    Conflict(Path),
    /// A message of a node came; at most once a second each.
    Heard {
        /// Who made it.
        origin: NetId,
        /// The neighbor that brought its first copy.
        via: NetId,
    },
    /// A directory payload.
    Directory {
        /// Who originated it.
        origin: NetId,
        /// It had NO_FORWARD and came over a link of `origin` itself.
        direct: bool,
        /// From its first byte, 0xC2.
        payload: Box<[u8]>,
    },
    /// The seen table wants to be larger.
    SeenFills,
    /// The device of this index was deleted; the worker has dropped it. Each worker tells it.
    DeviceGone(u32),
    /// The device writes packets one by one where the kernel refused merged ones. Told when it
    /// changes.
    MergingEnded(MergingEnded),
    /// This node sends packets where we have frames, or frames where we have packets; at most once
    /// a second.
    WrongMode(NetId),
}

/// From the driver to the worker.
#[derive(Debug)]
pub enum Command {
    /// The device is back.
    Device(Box<dyn Device>),
}

/// The worker's ends of the channels.
#[derive(Clone, Debug)]
pub struct Reports {
    /// For neighbors and endpoints being dialed.
    pub near: mpsc::Sender<Report>,
    /// For everyone else.
    pub strangers: mpsc::Sender<Report>,
    /// For sealed links.
    pub seals: mpsc::Sender<SealReport>,
    /// For what is sealed end to end.
    pub ends: mpsc::Sender<EndReport>,
}
