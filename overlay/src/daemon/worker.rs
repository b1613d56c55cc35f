//! The data loop: one thread that owns the device and reads the sockets, and runs to completion.
//!
//! One turn:
//!
//! 1. Wait for a socket, the device, a command, or a held packet's deadline.
//! 2. Read the clock once; load the snapshot once.
//! 3. Each readable socket: receive, pump, write to the device, forward. At most
//!    [`ROUNDS`] batches, so that a flood from outside cannot starve the device.
//! 4. The device: read, decide where to, originate, flood. At most [`ROUNDS`] batches.
//! 5. Packets that waited for a claim, commands.
//!
//! There is no queue between device and sockets, so back-pressure is the kernel's: a full socket
//! buffer or device ring drops, and that is counted. No packet allocates.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver as Commands;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use tuntap::{Device, ReadBatch, WriteOutcome, is_gone};
use wire::Header;

use super::clock::Clock;
use super::port::{Port, Sending};
use super::shared::{CONTROL_LEN, Command, Phase, Report, Reports, Shared, Snapshot};
use crate::id::{NetId, Path, SocketId};
use crate::link::udp::{MAX_SOCKETS, Receiver, Sender};
use crate::node::snapshot::LinkEntry;
use crate::pump::count::{Counters, DropReason, Total};
use crate::pump::rx::{RX_BUFFERS, RxBatch};
use crate::pump::tx::TxBatch;
use crate::pump::{Arrival, Outgoing, Packet, Pump, Scene, Sink};
use crate::time::Instant;

/// Batches of one source in one turn.
const ROUNDS: usize = 4;
/// Room of a batch to send: a whole receive buffer of small datagrams.
const TX_ITEMS: usize = 1_024;

/// The owner of the data path.
pub struct Worker {
    shared: Arc<Shared>,
    clock: Clock,
    device: Option<Box<dyn Device>>,
    port: Port,
    commands: Commands<Command>,
    hand: Hand,
    nonces: ChaCha12Rng,
    pump: Pump,
    rx: RxBatch,
    tx: TxBatch,
    receiver: Receiver,
    sender: Sender,
    read: ReadBatch,
    outgoing: Vec<Outgoing>,
    /// Packets of the batch that may go to the device.
    deliver: Vec<Packet>,
    last_seen: Option<Arc<Snapshot>>,
}

/// What a worker is made of.
pub struct Parts {
    /// What the driver shares.
    pub shared: Arc<Shared>,
    /// The clock.
    pub clock: Clock,
    /// The device, if there is one.
    pub device: Option<Box<dyn Device>>,
    /// Decides about packets or frames.
    pub port: Port,
    /// From the driver.
    pub commands: Commands<Command>,
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
    /// A worker with all the memory it will ever need.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            shared,
            clock,
            device,
            port,
            commands,
            reports,
            nonces,
        } = parts;
        let read = read_batch(device.as_deref(), &port);
        let hand = Hand {
            reports,
            counters: shared.counters.clone(),
            packets: Vec::with_capacity(TX_ITEMS),
        };
        Self {
            shared,
            clock,
            device,
            port,
            commands,
            hand,
            nonces,
            pump: Pump::default(),
            rx: RxBatch::default(),
            tx: TxBatch::with_capacity(TX_ITEMS),
            receiver: Receiver::default(),
            sender: Sender::default(),
            read,
            outgoing: Vec::with_capacity(TX_ITEMS),
            deliver: Vec::with_capacity(TX_ITEMS),
            last_seen: None,
        }
    }

    /// Runs until it is told to end.
    pub fn run(mut self) {
        let shared = self.shared.clone();
        while shared.phase() != Phase::Ending {
            // 1.
            let ready = match self.wait(&shared) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the data path cannot wait and ends");
                    return;
                }
            };
            // 2.
            let now = self.clock.now();
            let snapshot = shared.snapshot.load_full();
            // 3.
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
            // 4.
            if ready.device && shared.phase() == Phase::Running {
                self.originate(now, &snapshot);
            }
            // 5.
            self.release(now, snapshot);
            if ready.command {
                // How often it was woken does not matter.
                let _ = shared.wake.read();
                self.obey();
            }
        }
    }

    /// Step 1.
    fn wait(&self, shared: &Shared) -> Result<Ready, Errno> {
        // The wake-up, the device, the sockets; places that are not used are not polled.
        let mut fds: [PollFd<'_>; MAX_SOCKETS + 2] =
            std::array::from_fn(|_| PollFd::new(shared.wake.as_fd(), PollFlags::POLLIN));
        let mut used = 1;
        for (_, socket) in shared.sockets.iter() {
            fds[used] = PollFd::new(socket.as_fd(), PollFlags::POLLIN);
            used += 1;
        }
        let sockets = used - 1;
        let listens = shared.phase() == Phase::Running;
        let device = self
            .device
            .as_ref()
            .filter(|_| listens)
            .and_then(|d| d.readiness());
        if let Some(device) = device {
            fds[used] = PollFd::new(device, PollFlags::POLLIN);
            used += 1;
        }
        poll(&mut fds[..used], self.timeout())?;
        let flags = |place: usize| fds[place].revents().unwrap_or(PollFlags::empty());
        let mut ready = Ready {
            command: !flags(0).is_empty(),
            device: device.is_some() && !flags(used - 1).is_empty(),
            sockets: [PollFlags::empty(); MAX_SOCKETS],
        };
        for socket in 0..sockets {
            ready.sockets[socket] = flags(socket + 1);
        }
        Ok(ready)
    }

    /// Until a held packet's deadline, rounded up; for ever when none is held.
    fn timeout(&self) -> PollTimeout {
        let Some(at) = self.port.next_timeout() else {
            return PollTimeout::NONE;
        };
        let wait = at.since(self.clock.now()).as_micros().div_ceil(1_000);
        PollTimeout::try_from(i32::try_from(wait).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
    }

    /// Step 3.
    fn receive(&mut self, now: Instant, snapshot: &Snapshot, socket: SocketId) {
        for _ in 0..ROUNDS {
            self.rx.clear();
            self.tx.clear();
            self.hand.packets.clear();
            let Self {
                shared,
                pump,
                rx,
                tx,
                receiver,
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
            let scene = Scene {
                flood: &shared.flood,
                neighbors: &snapshot.neighbors,
                counters,
                device_index: self.device.as_ref().map_or(0, |device| device.info().index),
            };
            pump.receive(now, scene, rx, tx, hand);
            sender.flush(
                &shared.sockets,
                now,
                rx.arena(),
                tx,
                &snapshot.neighbors,
                counters,
            );
            self.write(now, snapshot);
            if received < RX_BUFFERS {
                return;
            }
        }
    }

    /// Writes what the batch delivered and may be delivered.
    fn write(&mut self, now: Instant, snapshot: &Snapshot) {
        if self.hand.packets.is_empty() {
            return;
        }
        let Self {
            shared,
            port,
            device,
            hand,
            deliver,
            rx,
            ..
        } = self;
        let counters = &*shared.counters;
        let Some(device) = device else {
            return counters.count_many(DropReason::NoDevice, hand.packets.len() as u64);
        };
        let arena = rx.arena();
        deliver.clear();
        for packet in hand.packets.drain(..) {
            match port.incoming(
                now,
                &snapshot.routes,
                packet.origin,
                packet.payload.of(arena),
            ) {
                Ok(skip) => {
                    let mut packet = packet;
                    packet.payload.start += skip;
                    packet.payload.len -= skip;
                    deliver.push(packet);
                }
                Err(reason) => counters.count(reason),
            }
        }
        let mut packets = deliver.iter().map(|packet| packet.payload.of(arena));
        let mut gone = false;
        device.write_batch(&mut packets, &mut |_, outcome| {
            gone |= outcome == WriteOutcome::Gone;
            match outcome {
                WriteOutcome::Written => counters.add(Total::Delivered, 1),
                WriteOutcome::WouldBlock | WriteOutcome::Refused(_) => {
                    counters.count(DropReason::DeviceError);
                }
                WriteOutcome::Down => counters.count(DropReason::DeviceDown),
                WriteOutcome::Gone => counters.count(DropReason::NoDevice),
            }
        });
        if gone {
            self.lose_device();
        }
    }

    /// Step 4.
    fn originate(&mut self, now: Instant, snapshot: &Snapshot) {
        for _ in 0..ROUNDS {
            let Some(device) = &mut self.device else {
                return;
            };
            self.read.clear();
            match device.read_batch(&mut self.read) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_gone(&error) => return self.lose_device(),
                Err(error) => {
                    tracing::debug!(%error, "the device cannot be read");
                    return self.shared.counters.count(DropReason::DeviceError);
                }
            }
            self.send_batch(now, snapshot);
        }
    }

    /// Decides about each packet of the read batch and floods those that go somewhere.
    fn send_batch(&mut self, now: Instant, snapshot: &Snapshot) {
        self.outgoing.clear();
        self.tx.clear();
        let counters = self.shared.counters.clone();
        for number in 0..self.read.packets().len() {
            let slot = self.read.packets()[number];
            let packet = slot.of(self.read.arena());
            match self.port.outgoing(now, snapshot, packet) {
                Ok(sending) => self.prepare(slot.start, slot.len, sending),
                Err(Some(reason)) => {
                    counters.count(reason);
                    self.answer();
                }
                // Held until its destination is claimed.
                Err(None) => {}
            }
        }
        if snapshot.neighbors.links().is_empty() {
            return counters.count_many(DropReason::NoNeighbor, self.outgoing.len() as u64);
        }
        let Self {
            shared,
            pump,
            read,
            outgoing,
            nonces,
            tx,
            sender,
            ..
        } = self;
        let arena = read.arena_mut();
        pump.originate(
            now,
            &shared.flood,
            outgoing,
            arena,
            &mut || nonces.next_u32(),
            tx,
        );
        counters.add(Total::Originated, outgoing.len() as u64);
        sender.flush(
            &shared.sockets,
            now,
            read.arena(),
            tx,
            &snapshot.neighbors,
            &counters,
        );
    }

    /// Puts the service byte in front of a frame, and notes the message.
    fn prepare(&mut self, start: u32, len: u32, sending: Sending) {
        let start = self.port.frame(self.read.arena_mut(), start);
        let end = start + len + self.port.extra();
        let span = crate::pump::rx::Span {
            start: start - wire::HEADER_LEN as u32,
            len: end - start + wire::HEADER_LEN as u32,
        };
        self.outgoing.push(Outgoing {
            span,
            dst: sending.dst,
            flags: sending.flags,
        });
    }

    /// Writes the ICMP answer that the port made, if it made one.
    fn answer(&mut self) {
        let Some(device) = &mut self.device else {
            return;
        };
        let Some(answer) = self.port.take_answer() else {
            return;
        };
        let counters = &*self.shared.counters;
        device.write_batch(
            &mut std::iter::once(answer),
            &mut |_, outcome| match outcome {
                WriteOutcome::Written => counters.add(Total::Unreachables, 1),
                _ => counters.count(DropReason::DeviceError),
            },
        );
    }

    /// Step 5: packets that waited for a claim, when a new snapshot may bring it or time is up.
    fn release(&mut self, now: Instant, snapshot: Arc<Snapshot>) {
        let due = self.port.next_timeout().is_some_and(|at| now >= at);
        let fresh = self
            .last_seen
            .as_ref()
            .is_none_or(|last| !Arc::ptr_eq(last, &snapshot));
        if (due || fresh) && self.port.next_timeout().is_some() {
            self.read.clear();
            self.outgoing.clear();
            let counters = self.shared.counters.clone();
            // A released packet goes back into the read batch and out the usual way.
            let waiting = self.port.release(now, &snapshot.routes);
            for released in waiting {
                match released {
                    Ok(packet) => {
                        if self.read.push(&packet) {
                            continue;
                        }
                        counters.count(DropReason::HoldFull);
                    }
                    Err(packet) => {
                        counters.count(DropReason::HoldExpired);
                        self.port.make_unreachable(now, &snapshot.routes, &packet);
                        self.answer();
                    }
                }
            }
            if !self.read.packets().is_empty() {
                self.send_batch(now, &snapshot);
            }
        }
        self.last_seen = Some(snapshot);
    }

    fn obey(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Device(device) => {
                    self.read = read_batch(Some(&*device), &self.port);
                    self.device = Some(device);
                }
            }
        }
    }

    fn lose_device(&mut self) {
        if self.device.take().is_some() {
            self.hand.near(Report::DeviceGone);
        }
    }
}

fn read_batch(device: Option<&dyn Device>, port: &Port) -> ReadBatch {
    match device {
        Some(device) => ReadBatch::for_device(device.info(), port.headroom()),
        None => ReadBatch::new(1, wire::HEADER_LEN, 1),
    }
}

/// Takes what the pump delivers: packets for the device are noted, the rest goes to the driver.
struct Hand {
    reports: Reports,
    counters: Arc<Counters>,
    packets: Vec<Packet>,
}

impl Hand {
    fn near(&self, report: Report) {
        if self.reports.near.try_send(report).is_err() {
            self.counters.count(DropReason::ControlFull);
        }
    }

    fn far(&self, report: Report) {
        if self.reports.strangers.try_send(report).is_err() {
            self.counters.count(DropReason::StrangerFull);
        }
    }
}

impl Sink for Hand {
    fn device(&mut self, packet: Packet, _arena: &[u8]) {
        self.packets.push(packet);
    }

    fn service(&mut self, link: &LinkEntry, header: &Header, payload: &[u8]) {
        let direct = header.flags.no_forward() && link.netid == header.src;
        let report = Report::Directory {
            origin: header.src,
            direct,
            payload: payload.into(),
        };
        if self.reports.near.try_send(report).is_err() {
            self.counters.count(DropReason::ServiceFull);
        }
    }

    fn control(&mut self, arrival: Arrival, datagram: &[u8]) {
        let Arrival {
            path,
            link,
            expected,
            duplicate,
        } = arrival;
        let len = datagram.len().min(CONTROL_LEN);
        let mut bytes = [0; CONTROL_LEN];
        bytes[..len].copy_from_slice(&datagram[..len]);
        let report = Report::Datagram {
            path,
            duplicate,
            len: len as u8,
            bytes,
        };
        if link.is_some() || expected {
            self.near(report)
        } else {
            self.far(report)
        }
    }

    fn stranger(&mut self, path: Path) {
        self.far(Report::Stranger(path));
    }

    fn conflict(&mut self, path: Path) {
        self.far(Report::Conflict(path));
    }

    fn heard(&mut self, origin: NetId) {
        self.near(Report::Heard(origin));
    }
}
