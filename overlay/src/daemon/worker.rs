//! The data loop: one thread that owns the device and reads the sockets, and runs to completion; or
//! several that share this work, as the [`Duty`](super::duty::Duty) of each says.
//!
//! One turn:
//!
//! 1. Wait for a socket, the device, a command, a held packet's deadline, a beacon's time.
//! 2. Read the clock once; load the snapshot once.
//! 3. Each readable socket: receive, pump, write to the device, forward. At most
//!    `ROUNDS` batches, so that a flood from outside cannot starve the device. Where the kernel drops
//!    all the same, shares count from then on ([`fair`](crate::pump::fair)).
//! 4. The device: read, decide where to, originate, flood. At most `ROUNDS` batches.
//! 5. Packets that waited for a claim, the beacon, commands.
//!
//! There is no queue between device and sockets, so back-pressure is the kernel's: a full socket
//! buffer or device ring drops, and that is counted. No packet allocates.
//!
//! Here is the loop; `deliver` has the way from the mesh to the device, `originate` the way back,
//! `ends` what is sealed end to end on both, `hand` what goes to the driver.

pub mod deliver;
mod ends;
mod hand;
mod originate;

use std::os::fd::AsFd;
use std::sync::Arc;

use deliver::Delivery;
use ends::Sealing;
use hand::Hand;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rand_chacha::ChaCha12Rng;
use tuntap::{Device, MergingEnded, ReadBatch};

use super::clock::Clock;
use super::port::Port;
use super::shared::{Command, Phase, Reports, Seat, Shared, Snapshot};
use crate::id::SocketId;
use crate::link::udp::{MAX_SOCKETS, Outbound, Receiver, Sender};
use crate::pump::count::Total;
use crate::pump::fair::{Sieve, Sifting};
use crate::pump::rx::RxBatch;
use crate::pump::tx::TxBatch;
use crate::pump::{Outgoing, Pump, Scene};
use crate::seal::opening::Opening;
use crate::time::{Duration, Instant};

/// Batches of one source in one turn.
const ROUNDS: usize = 4;
/// Room of a batch to send: a whole receive buffer of small datagrams.
const TX_ITEMS: usize = 1_024;
/// The driver is asked for a larger seen table at most this often.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// The owner of the data path, or of one way of it.
pub struct Worker {
    shared: Arc<Shared>,
    seat: Seat,
    clock: Clock,
    /// When the last turn began to work.
    now: Instant,
    device: Option<Box<dyn Device>>,
    batch: usize,
    port: Port,
    hand: Hand,
    nonces: ChaCha12Rng,
    pump: Pump,
    rx: RxBatch,
    tx: TxBatch,
    receiver: Receiver,
    opening: Opening,
    /// Where messages are made that are sealed end to end.
    sealing: Sealing,
    sender: Sender,
    read: ReadBatch,
    outgoing: Vec<Outgoing>,
    /// Packets of the batch that may go to the device.
    delivery: Delivery,
    /// Datagrams that the kernel dropped, as far as shares were settled.
    kernel_drops: u64,
    /// Packets of `read` that were too long and are counted.
    truncated: u64,
    /// What the device no longer merges, as far as the driver was told.
    merging_ended: MergingEnded,
    last_seen: Option<Arc<Snapshot>>,
    /// When the driver was last asked for a larger seen table.
    asked_at: Option<Instant>,
}

/// What a worker is made of.
pub struct Parts {
    /// What the driver shares.
    pub shared: Arc<Shared>,
    /// What it is to do, and how it is told; the device comes as a command.
    pub seat: Seat,
    /// The clock.
    pub clock: Clock,
    /// Packets or datagrams of one round of system calls at most.
    pub batch: usize,
    /// Decides about packets or frames.
    pub port: Port,
    /// To the driver.
    pub reports: Reports,
    /// For nonces.
    pub nonces: ChaCha12Rng,
}

/// What is ready after a wait.
struct Ready {
    device: bool,
    command: bool,
    sockets: [PollFlags; MAX_SOCKETS],
}

impl Worker {
    /// A worker with all the memory it will ever need, and the device if one waits in its seat.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            shared,
            seat,
            clock,
            batch,
            port,
            reports,
            nonces,
        } = parts;
        let now = clock.now();
        // Both what is opened and what shares are taken out of comes apart.
        let rx = RxBatch::with_buffers(batch).with_all_messages();
        let mut sender = Sender::with_chunk(batch);
        let has_sessions = shared.snapshot.load().sessions.is_some();
        if has_sessions {
            sender = sender.sealing();
        }
        let sealing = match shared.snapshot.load().ends {
            Some(_) => Sealing::with_room(),
            None => Sealing::default(),
        };
        let sieve = if seat.duty.reads_sockets() {
            Sieve::new(has_sessions)
        } else {
            Sieve::default()
        };
        let hand = Hand::new(now, reports, shared.counters.clone(), sieve);
        let mut worker = Self {
            shared,
            seat,
            clock,
            now,
            device: None,
            batch,
            port,
            hand,
            nonces,
            pump: Pump::default(),
            rx,
            tx: TxBatch::with_capacity(TX_ITEMS),
            receiver: Receiver::default(),
            opening: Opening::default(),
            sealing,
            sender,
            read: ReadBatch::new(1, wire::HEADER_LEN, 1),
            outgoing: Vec::with_capacity(TX_ITEMS),
            delivery: Delivery::default(),
            kernel_drops: 0,
            truncated: 0,
            merging_ended: MergingEnded::default(),
            last_seen: None,
            asked_at: None,
        };
        worker.obey();
        worker
    }

    /// Runs until it is told to end.
    pub fn run(mut self) {
        while self.turn() {}
    }

    /// One turn: waits until there is something to do, and does it. Returns whether another is to
    /// follow.
    ///
    /// Cost: reads the clock once, takes no lock, and allocates nothing for packets.
    pub fn turn(&mut self) -> bool {
        let shared = self.shared.clone();
        if shared.phase() == Phase::Ending {
            return false;
        }
        // 1.
        let ready = match self.wait(&shared) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => return true,
            Err(error) => {
                tracing::error!(%error, "the data path cannot wait and ends");
                return false;
            }
        };
        // 2.
        let now = self.clock.now();
        self.now = now;
        let snapshot = shared.snapshot.load_full();
        // 3. Shares that a flood left behind are no measure for what comes after a silence.
        self.settle(now, &shared);
        for (socket, _) in shared.sockets.iter() {
            let flags = ready.sockets[usize::from(socket.0)];
            if flags.contains(PollFlags::POLLIN) {
                self.receive(now, &snapshot, socket);
            }
            if flags.contains(PollFlags::POLLERR) {
                shared
                    .sockets
                    .drain_errors(socket, &snapshot.neighbors, &shared.counters);
            }
        }
        self.settle(now, &shared);
        // 4.
        if ready.device && shared.phase() == Phase::Running {
            self.originate(now, &snapshot);
        }
        // 5.
        if self.seat.duty.reads_device() {
            self.release(now, snapshot);
            self.write_beacon(now);
        }
        if ready.command {
            self.seat.wake.answer();
            self.obey();
        }
        true
    }

    /// Step 1.
    fn wait(&self, shared: &Shared) -> Result<Ready, Errno> {
        // The wake-up, the sockets, the device; places that are not used are not polled.
        let mut fds: [PollFd<'_>; MAX_SOCKETS + 2] =
            std::array::from_fn(|_| PollFd::new(self.seat.wake.as_fd(), PollFlags::POLLIN));
        let mut used = 1;
        let served = shared
            .sockets
            .iter()
            .filter(|_| self.seat.duty.reads_sockets());
        for (_, socket) in served {
            fds[used] = PollFd::new(socket.as_fd(), PollFlags::POLLIN);
            used += 1;
        }
        let sockets = used - 1;
        let listens = self.seat.duty.reads_device() && shared.phase() == Phase::Running;
        let device = self
            .device
            .as_ref()
            .filter(|_| listens)
            .and_then(|d| d.readiness());
        if let Some(device) = device {
            fds[used] = PollFd::new(device, PollFlags::POLLIN);
            used += 1;
        }
        let holds = listens && self.device.as_ref().is_some_and(|d| d.holds_packets());
        let timeout = if holds {
            PollTimeout::ZERO
        } else {
            self.timeout()
        };
        poll(&mut fds[..used], timeout)?;
        let flags = |place: usize| fds[place].revents().unwrap_or(PollFlags::empty());
        let mut ready = Ready {
            command: !flags(0).is_empty(),
            device: holds || device.is_some() && !flags(used - 1).is_empty(),
            sockets: [PollFlags::empty(); MAX_SOCKETS],
        };
        for socket in 0..sockets {
            ready.sockets[socket] = flags(socket + 1);
        }
        Ok(ready)
    }

    /// Until the port has something to do, rounded up; for ever when that is never. It counts from
    /// the turn before, whose work makes it late by less than what it is rounded by.
    fn timeout(&self) -> PollTimeout {
        let due = self.port.next_timeout();
        let Some(at) = due.filter(|_| self.seat.duty.reads_device()) else {
            return PollTimeout::NONE;
        };
        let wait = at.since(self.now).as_micros().div_ceil(1_000);
        PollTimeout::try_from(i32::try_from(wait).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
    }

    /// Step 3.
    fn receive(&mut self, now: Instant, snapshot: &Snapshot, socket: SocketId) {
        for _ in 0..ROUNDS {
            self.rx.clear();
            self.tx.clear();
            self.hand.begin(now, snapshot.ends.is_some());
            let Self {
                shared,
                pump,
                rx,
                tx,
                receiver,
                opening,
                sender,
                hand,
                ..
            } = self;
            let counters = &*shared.counters;
            let received = receiver.receive(&shared.sockets, socket, rx, counters);
            let received = match received {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "a socket cannot be read");
                    return;
                }
            };
            let device_index = self.device.as_ref().map_or(0, |device| device.info().index);
            let by = Sifting {
                now,
                neighbors: &snapshot.neighbors,
                counters,
            };
            if let Some(sessions) = &snapshot.sessions {
                hand.sieve.sift_sealed(by, sessions, rx);
                let at = (&*snapshot.neighbors, device_index);
                opening.open(now, sessions, at, rx, counters, hand);
            }
            let in_clear = snapshot.sessions.is_none();
            hand.sieve.sift_messages(by, in_clear, rx);
            let scene = Scene {
                flood: &shared.flood,
                neighbors: &snapshot.neighbors,
                counters,
                device_index,
            };
            pump.receive(now, scene, rx, tx, hand);
            let to = Outbound {
                sockets: &shared.sockets,
                neighbors: &snapshot.neighbors,
                sessions: snapshot.sessions.as_deref(),
                counters,
            };
            sender.flush(&to, now, rx.arena(), tx);
            self.unseal(now, snapshot);
            self.write(now, snapshot);
            self.ask_for_memory(now);
            if received < self.rx.buffers() {
                return;
            }
        }
    }

    /// Settles who has which share, if the kernel drops what comes: before a turn receives, and after,
    /// when it is known what was dropped.
    ///
    /// Cost: a test, unless it does; then a system call for each socket, once in a millisecond.
    fn settle(&mut self, now: Instant, shared: &Shared) {
        if !self.seat.duty.reads_sockets() || !self.hand.sieve.fair.is_due(now) {
            return;
        }
        let drops = shared.counters.total(Total::SocketDrops);
        let lost = drops != std::mem::replace(&mut self.kernel_drops, drops);
        let fair = &mut self.hand.sieve.fair;
        if lost || fair.is_saturated() {
            let filled = shared.sockets.iter().map(|(_, socket)| socket.filled());
            fair.settle(now, filled.fold(0.0, f64::max), lost);
        }
    }

    fn obey(&mut self) {
        while let Ok(command) = self.seat.commands.try_recv() {
            match command {
                Command::Device(device) => {
                    let headroom = self.port.headroom();
                    self.read = ReadBatch::at_most(self.batch, device.info(), headroom);
                    self.truncated = 0;
                    self.merging_ended = MergingEnded::default();
                    self.device = Some(device);
                }
            }
        }
    }

    /// Says that the seen table wants to grow: the driver has that done where it may take its time.
    fn ask_for_memory(&mut self, now: Instant) {
        let asked = self.asked_at.is_some_and(|at| now.since(at) < ASK_INTERVAL);
        if !asked && self.shared.flood.seen().growth_wanted().is_some() {
            self.asked_at = Some(now);
            self.hand.seen_fills();
        }
    }

    fn lose_device(&mut self) {
        if let Some(device) = self.device.take() {
            self.hand.device_gone(device.info().index);
        }
    }
}
