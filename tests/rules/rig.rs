//! A worker on a test's own thread, turn by turn, with two neighbors and the driver's ends of its
//! channels; and the packets that go through it.
//!
//! ```text
//!   device == [ worker: PEER's packets in, ours out ] == UDP == PEER, OTHER (sockets of this test)
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;

use overlay::daemon::clock::Clock;
use overlay::daemon::duty::Duty;
use overlay::daemon::port::Port;
use overlay::daemon::shared::{Command, Report, Reports, Seat, Shared, Snapshot};
use overlay::daemon::worker::{Parts, Worker};
use overlay::id::{Endpoint, LinkId, Path, SocketId};
use overlay::keyed::KeyedHasher;
use overlay::link::udp::{Outbound, Receiver, Sender, UdpSockets};
use overlay::node::flood::Flood;
use overlay::node::hash::{Algorithm, MessageHasher};
use overlay::node::seen::SeenConfig;
use overlay::node::snapshot::{LinkEntry, NeighborSet};
use overlay::pump::count::{Counters, Total};
use overlay::pump::rx::{RxBatch, Span};
use overlay::pump::tx::TxBatch;
use overlay::route::address::{Mesh, mac};
use overlay::route::known::Known;
use overlay::route::learned::Learned;
use overlay::route::routes::Routes;
use overlay::route::storm::StormRates;
use overlay::route::switch::Switch;
use overlay::route::tap::Tap;
use overlay::route::tun::Tun;
use overlay::route::underlay::Underlay;
use overlay::seal::aead::Aead;
use overlay::seal::session::{DATA_OVERHEAD, Session};
use overlay::seal::sessions::{EndOpens, EndSet};
use overlay::time::Instant;
use overlay_tests::packets::{UDP, in_frame, packet};
use overlay_tests::sessions::session_pair;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::sync::mpsc;
use tuntap::{Device, MergingEnded, Mode};
use wire::service::ETHERNET_FRAME;
use wire::{Flags, HEADER_LEN, Header, Kind, NetId};

use crate::noalloc::allocations;

pub(crate) const ME: NetId = NetId(1);
pub(crate) const PEER: NetId = NetId(2);
pub(crate) const OTHER: NetId = NetId(3);
pub(crate) const MTU: u16 = 1_400;
/// Turns in which what lasts is made: the reader's place for snapshots, the queues of channels.
pub(crate) const WARM_UP: u32 = 40;
const TURNS: u32 = 300;
/// Packets of one turn in each direction: one super-packet, one train.
pub(crate) const PACKETS: usize = 40;
/// Payload of each.
pub(crate) const SIZE: usize = 1_200;

/// A neighbor: sockets of this test.
pub(crate) struct Far {
    sockets: UdpSockets,
    sender: Sender,
    receiver: Receiver,
    batch: RxBatch,
    counters: Counters,
}

impl Far {
    fn new() -> Self {
        Self {
            sockets: loopback(),
            sender: Sender::default(),
            receiver: Receiver::default(),
            batch: RxBatch::default(),
            counters: Counters::default(),
        }
    }

    fn address(&self) -> SocketAddr {
        let socket = self.sockets.get(SocketId(0)).expect("one was bound");
        socket.local()
    }

    /// Sends Data messages from PEER to `dst`, as a train; their nonces follow `nonce`.
    pub(crate) fn send(&mut self, node: SocketAddr, dst: NetId, nonce: u32, payloads: &[Vec<u8>]) {
        let (mut arena, mut tx) = (Vec::new(), TxBatch::default());
        for (number, payload) in payloads.iter().enumerate() {
            let header = Header {
                kind: Kind::Data,
                flags: Flags::NONE,
                nonce: nonce + number as u32,
                src: PEER,
                dst,
            };
            let start = arena.len();
            arena.resize(start + HEADER_LEN, 0);
            header.emit(&mut arena[start..]);
            arena.extend(payload);
            let (start, len) = (start as u32, (HEADER_LEN + payload.len()) as u32);
            tx.push(Span { start, len }, None);
        }
        let to = NeighborSet::new(vec![link(0, ME, node)], [], KeyedHasher(1, 2));
        let to = Outbound {
            sockets: &self.sockets,
            neighbors: &to,
            sessions: None,
            counters: &self.counters,
        };
        self.sender.flush(&to, Instant::from_secs(1), &arena, &tx);
    }

    /// How many datagrams wait; they are gone then.
    fn take(&mut self) -> usize {
        let mut count = 0;
        loop {
            self.batch.clear();
            let (sockets, counters) = (&self.sockets, &self.counters);
            let taken = self
                .receiver
                .receive(sockets, SocketId(0), &mut self.batch, counters);
            if taken.expect("loopback works") == 0 {
                return count;
            }
            let datagrams = self.batch.messages().iter();
            count += datagrams
                .map(|message| message.span.len.div_ceil(message.stride) as usize)
                .sum::<usize>();
        }
    }
}

fn loopback() -> UdpSockets {
    UdpSockets::bind(&[([127, 0, 0, 1], 0).into()]).expect("loopback can be bound")
}

fn link(index: u16, netid: NetId, remote: SocketAddr) -> LinkEntry {
    LinkEntry {
        open: false,
        id: LinkId(u32::from(index) + 1),
        netid,
        neighbor: index,
        path: Path::to(Endpoint::new(SocketId(0), remote)),
        stats: Arc::default(),
    }
}

/// A worker with two neighbors, and the driver's ends of its channels.
pub(crate) struct Rig {
    worker: Worker,
    shared: Arc<Shared>,
    near: mpsc::Receiver<Report>,
    _strangers: mpsc::Receiver<Report>,
    _commands: SyncSender<Command>,
    reads: &'static AtomicU64,
    /// What the driver was told that the device no longer merges.
    pub(crate) ended: Vec<MergingEnded>,
    mode: Mode,
    pub(crate) peer: Far,
    other: Far,
    /// What PEER seals with end to end, in a rig that does.
    far_end: Option<Session>,
}

impl Rig {
    pub(crate) fn new(device: Box<dyn Device>) -> Self {
        Self::with(device, None)
    }

    /// One whose packets to and from PEER are sealed end to end.
    pub(crate) fn sealed(device: Box<dyn Device>) -> Self {
        Self::with(device, Some(session_pair(Aead::Aes256Gcm)))
    }

    fn with(device: Box<dyn Device>, ends: Option<[Session; 2]>) -> Self {
        let (near_end, far_end) = match ends {
            Some([near, far]) => (Some(Arc::new(near)), Some(far)),
            None => (None, None),
        };
        let ends = near_end.map(|session| {
            let mut ends = EndSet::new(KeyedHasher(1, 2));
            ends.seal(PEER, Some(session.clone()));
            let netid = PEER;
            ends.open(EndOpens { session, netid });
            Arc::new(ends)
        });
        let (peer, other) = (Far::new(), Far::new());
        let mode = device.info().mode;
        let port = match mode {
            Mode::Tun => {
                let learned = Arc::new(Learned::new(KeyedHasher(1, 2)));
                Port::tun(Tun::new(MTU, learned), MTU)
            }
            Mode::Tap => {
                let rates = StormRates::default();
                let switch = Switch::new(ME, Mesh::default(), rates, KeyedHasher(1, 2));
                Port::tap(Tap::new(MTU, Arc::new(switch)), MTU)
            }
        };
        let links = vec![
            link(0, PEER, peer.address()),
            link(1, OTHER, other.address()),
        ];
        let seen = SeenConfig {
            start_bytes: 8 << 20,
            memory_bytes: 8 << 20,
        };
        let hasher = MessageHasher::new(Algorithm::default(), [1, 2, 3, 4]);
        let snapshot = Snapshot {
            neighbors: Arc::new(NeighborSet::new(links, [], KeyedHasher(1, 2))),
            routes: Arc::new(Routes::new(ME, Mesh::default(), &[], [], [], 1)),
            underlay: Arc::new(Underlay::default()),
            sessions: None,
            ends,
            known: Arc::new(Known::new([PEER, OTHER])),
        };
        let (seat, commands) = Seat::new(Duty::All).expect("a descriptor is left");
        commands
            .try_send(Command::Device(device))
            .expect("there is room");
        let shared = Arc::new(Shared {
            netid: ME,
            flood: Flood::new(ME, hasher, seen, Instant::ZERO),
            broadcasts: None,
            counters: Arc::default(),
            sockets: loopback(),
            snapshot: Arc::new(snapshot).into(),
            wakes: vec![seat.wake.clone()],
            phase: Default::default(),
            is_realtime: Default::default(),
        });
        let reads: &'static AtomicU64 = Box::leak(Box::default());
        let (near, near_reports) = mpsc::channel(64);
        let (strangers, stranger_reports) = mpsc::channel(64);
        let worker = Worker::new(Parts {
            shared: shared.clone(),
            seat,
            clock: Clock::counting(reads),
            batch: overlay::pump::tx::MAX_BATCH,
            port,
            reports: Reports {
                near,
                strangers,
                seals: mpsc::channel(1).0,
                ends: mpsc::channel(1).0,
            },
            nonces: ChaCha12Rng::from_seed([7; 32]),
        });
        Self {
            worker,
            shared,
            near: near_reports,
            _strangers: stranger_reports,
            _commands: commands,
            reads,
            ended: Vec::new(),
            mode,
            peer,
            other,
            far_end,
        }
    }

    /// A payload of PEER to us, as it is sent.
    fn seal(&self, payload: &[u8]) -> Vec<u8> {
        let Some(session) = &self.far_end else {
            return payload.to_vec();
        };
        let mut out = vec![0; payload.len() + DATA_OVERHEAD];
        let sealed = session.seal_data_into(PEER, ME, payload, &mut out);
        assert_eq!(sealed, Ok(out.len()));
        out
    }

    pub(crate) fn node(&self) -> SocketAddr {
        let socket = self.shared.sockets.get(SocketId(0)).expect("one was bound");
        socket.local()
    }

    /// One turn, which never waits; gives what it allocated, and how often it read the clock.
    pub(crate) fn turn(&mut self) -> (u64, u64) {
        self.shared.wake();
        let before = (allocations(), self.reads.load(Relaxed));
        assert!(self.worker.turn());
        let after = (allocations(), self.reads.load(Relaxed));
        // As the driver does.
        while let Ok(report) = self.near.try_recv() {
            if let Report::MergingEnded(ended) = report {
                self.ended.push(ended);
            }
        }
        (after.0 - before.0, after.1 - before.1)
    }

    fn total(&self, total: Total) -> u64 {
        self.shared.counters.total(total)
    }

    /// What PEER sends us, a train of packets or frames.
    pub(crate) fn to_me(mode: Mode) -> Vec<Vec<u8>> {
        let derived = Mesh::default();
        let (peer, me) = (derived.address(PEER), derived.address(ME));
        let payload = |n| {
            let packet = packet(UDP, (peer, me), n, &[0x5A; SIZE]);
            match mode {
                Mode::Tun => packet,
                Mode::Tap => {
                    let frame = in_frame((mac(PEER), mac(ME)), &packet);
                    [&[ETHERNET_FRAME], &frame[..]].concat()
                }
            }
        };
        (0..PACKETS).map(payload).collect()
    }

    /// Lets `PACKETS` come from the device and from PEER, for us and for OTHER, in each turn.
    pub(crate) fn run(mut self, mut send: impl FnMut(), mut came: impl FnMut(u32)) {
        let to_me = Self::to_me(self.mode);
        let mut nonce = 0;
        for turn in 0..WARM_UP + TURNS {
            send();
            let node = self.node();
            let sealed: Vec<_> = to_me.iter().map(|payload| self.seal(payload)).collect();
            for (dst, payloads) in [(ME, &sealed), (OTHER, &to_me)] {
                self.peer.send(node, dst, nonce, payloads);
                nonce += PACKETS as u32;
            }
            let used = self.turn();
            if turn >= WARM_UP {
                assert_eq!(used, (0, 1), "allocations and clock reads of turn {turn}");
            }
            let (peer, other) = (self.peer.take(), self.other.take());
            if turn >= WARM_UP {
                // What we originate goes to both, what PEER sends goes on to OTHER.
                assert_eq!((peer, other), (PACKETS, 2 * PACKETS), "turn {turn}");
            }
            came(turn);
        }
        let turns = u64::from(WARM_UP + TURNS) * PACKETS as u64;
        assert_eq!(self.total(Total::Delivered), turns);
        assert_eq!(self.total(Total::Forwarded), turns);
    }
}
