//! Nanoseconds a packet of the whole data path without the kernel: all that the data thread does
//! but system calls, with digests and seen table.
//!
//! ```text
//!   tx:     device -> cut -> where to -> header, digest, table -> links
//!   rx:     link -> digest, table -> may it come in -> merge -> device
//!   relay:  link -> digest, table -> links
//! ```
//!
//! Run: `cargo bench -p overlay-tests --bench pump`. Device and links are in memory: a read is a
//! copy, a write to the device costs nothing, what is sent is copied once for each link, a train as
//! one and other datagrams one by one. `trains` and `singles` are how packets come and go.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use overlay::daemon::port::Port;
use overlay::daemon::shared::Snapshot;
use overlay::daemon::worker::deliver::Delivery;
use overlay::id::{Endpoint, LinkId, Path, SocketId};
use overlay::keyed::KeyedHasher;
use overlay::node::flood::Flood;
use overlay::node::hash::{Algorithm, MessageHasher};
use overlay::node::seen::SeenConfig;
use overlay::node::snapshot::{LinkEntry, NeighborSet};
use overlay::node::zone::Zones;
use overlay::pump::count::Counters;
use overlay::pump::rx::{RX_BUFFER_LEN, RX_BUFFERS, RxBatch, RxMessage, Span};
use overlay::pump::tx::TxBatch;
use overlay::pump::{Arrival, Outgoing, Packet, Pump, Scene, Sink};
use overlay::route::address::Mesh;
use overlay::route::known::Known;
use overlay::route::learned::Learned;
use overlay::route::routes::Routes;
use overlay::route::tun::Tun;
use overlay::route::underlay::Underlay;
use overlay::time::Instant;
use overlay_tests::packets::{UDP, headers_len, packet, single_packet, super_packet};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use tuntap::{Device, DeviceInfo, Mode, Offload, OffloadHandle, ReadBatch, offload_pair};
use wire::{Flags, HEADER_LEN, Header, Kind, NetId};

const ME: NetId = NetId(1);
/// The neighbor that sends; the next is the one that relayed messages are for.
const PEER: NetId = NetId(2);
const NEXT: NetId = NetId(3);
const MTU: u16 = 1_400;
/// Datagrams of a batch: one super-packet, one train.
const COUNT: usize = 44;
/// Bytes of a datagram.
const SIZES: [usize; 2] = [80, 1_416];
/// Between two batches: 20,000 messages a second. After 5 minutes two thirds of the table's slots
/// are live, and what comes takes the place of what expires.
const STEP: u64 = 50 * COUNT as u64;

/// Packets on their way to the device.
#[derive(Default)]
struct ToDevice(Vec<Packet>);

impl Sink for ToDevice {
    fn device(&mut self, packet: Packet, _: &[u8]) {
        self.0.push(packet);
    }
    fn service(&mut self, _: &LinkEntry, _: &Header, _: &[u8]) {}
    fn control(&mut self, _: Arrival, _: &[u8]) {}
    fn stranger(&mut self, _: Path) {}
    fn conflict(&mut self, _: Path) {}
    fn heard(&mut self, _: NetId, _: NetId) {}
}

/// Links in memory: what is sent on each lies in its buffer.
struct Links {
    neighbors: Arc<NeighborSet>,
    buffers: Vec<Box<[u8]>>,
    trains: bool,
    sent: usize,
}

impl Links {
    fn flush(&mut self, arena: &[u8], tx: &TxBatch) {
        for (link, buffer) in self.neighbors.links().iter().zip(&mut self.buffers) {
            let items = tx.items().iter();
            let mut spans = items
                .filter(|item| item.except != Some(link.neighbor))
                .map(|item| item.span)
                .peekable();
            let mut end = 0;
            while let Some(mut span) = spans.next() {
                self.sent += 1;
                while let Some(next) = spans.next_if(|next| next.start == span.start + span.len) {
                    if !self.trains {
                        copy(span, arena, buffer, &mut end);
                        span = next;
                    } else {
                        span.len += next.len;
                    }
                    self.sent += 1;
                }
                copy(span, arena, buffer, &mut end);
            }
            black_box(buffer);
        }
    }
}

fn copy(span: Span, arena: &[u8], buffer: &mut [u8], end: &mut usize) {
    let bytes = span.of(arena);
    buffer[*end..*end + bytes.len()].copy_from_slice(bytes);
    *end += bytes.len();
}

/// A data thread's parts, but for system calls.
struct Node {
    flood: Flood,
    counters: Counters,
    snapshot: Snapshot,
    pump: Pump,
    port: Port,
    device: Box<dyn Device>,
    kernel: OffloadHandle,
    read: ReadBatch,
    outgoing: Vec<Outgoing>,
    rx: RxBatch,
    tx: TxBatch,
    sink: ToDevice,
    delivery: Delivery,
    links: Links,
    nonces: ChaCha12Rng,
    now: Instant,
}

impl Node {
    /// A node with so many neighbors, PEER the first of them.
    fn new(neighbors: usize, trains: bool) -> Self {
        let info = DeviceInfo {
            name: "mesh0".into(),
            mode: Mode::Tun,
            index: 99,
            mtu: MTU.into(),
            offload: if trains {
                Offload::TcpUdp
            } else {
                Offload::Tcp
            },
        };
        let (device, kernel) = offload_pair(info).expect("a descriptor is left");
        let entries = (0..neighbors as u16).map(|index| LinkEntry {
            open: false,
            id: LinkId(index.into()),
            netid: NetId(PEER.0 + u32::from(index)),
            neighbor: index,
            path: path(index),
            stats: Arc::default(),
        });
        let neighbors = Arc::new(NeighborSet::new(entries.collect(), [], KeyedHasher(1, 2)));
        let seen = SeenConfig {
            start_bytes: 64 << 20,
            memory_bytes: 64 << 20,
        };
        let hasher = MessageHasher::new(Algorithm::default(), [1, 2, 3, 4]);
        let port = Port::tun(
            Tun::new(MTU, Arc::new(Learned::new(KeyedHasher(1, 2)))),
            MTU,
        );
        Self {
            flood: Flood::new(ME, hasher, seen, Instant::ZERO),
            counters: Counters::default(),
            snapshot: Snapshot {
                neighbors: neighbors.clone(),
                routes: Arc::new(Routes::new(ME, Mesh::default(), &[], [], [], 1)),
                underlay: Arc::new(Underlay::default()),
                sessions: None,
                ends: None,
                known: Arc::new(Known::new([PEER, NEXT])),
            },
            pump: Pump::default(),
            read: ReadBatch::for_device(device.info(), port.headroom()),
            port,
            device,
            kernel,
            outgoing: Vec::with_capacity(COUNT),
            rx: RxBatch::default(),
            tx: TxBatch::with_capacity(1_024),
            sink: ToDevice::default(),
            delivery: Delivery::default(),
            links: Links {
                buffers: vec![
                    vec![0; 4 * RX_BUFFER_LEN].into_boxed_slice();
                    neighbors.links().len()
                ],
                neighbors,
                trains,
                sent: 0,
            },
            nonces: ChaCha12Rng::from_seed([7; 32]),
            now: Instant::from_secs(1),
        }
    }

    /// What waits in the device, to all links; returns how many packets.
    fn originate(&mut self) -> usize {
        self.now = Instant(self.now.0 + STEP);
        self.read.clear();
        self.outgoing.clear();
        self.tx.clear();
        let count = self.device.read_batch(&mut self.read).expect("it is up");
        for number in 0..count {
            let slot = self.read.packets()[number];
            let packet = slot.of(self.read.arena());
            let sending = self.port.outgoing(self.now, &self.snapshot, packet);
            let sending = sending.expect("PEER is known");
            let arena = self.read.arena_mut();
            self.port.edit(
                Span {
                    start: slot.start,
                    len: slot.len,
                }
                .of_mut(arena),
            );
            self.outgoing.push(Outgoing {
                span: Span {
                    start: slot.start - HEADER_LEN as u32,
                    len: slot.len + HEADER_LEN as u32,
                },
                dst: sending.dst,
                flags: sending.flags,
                zones: Zones::All,
                alone: false,
            });
        }
        let nonces = &mut self.nonces;
        self.pump.originate(
            self.now,
            &self.flood,
            &self.outgoing,
            self.read.arena_mut(),
            &mut || nonces.next_u32(),
            &mut self.tx,
        );
        self.links.flush(self.read.arena(), &self.tx);
        count
    }

    /// What lies in the receive batch, to the device and to the links.
    fn receive(&mut self) {
        self.now = Instant(self.now.0 + STEP);
        self.tx.clear();
        self.sink.0.clear();
        self.delivery.clear();
        let scene = Scene {
            flood: &self.flood,
            neighbors: &self.snapshot.neighbors,
            counters: &self.counters,
            device_index: 99,
        };
        let Self { rx, tx, sink, .. } = self;
        self.pump.receive(self.now, scene, rx, tx, sink);
        self.links.flush(self.rx.arena(), &self.tx);
        let arena = self.rx.arena();
        for packet in &self.sink.0 {
            let payload = packet.payload.of(arena);
            let skip = self
                .port
                .incoming(self.now, &self.snapshot, *packet, payload);
            assert_eq!(skip, Ok(0), "PEER holds its address");
            self.delivery.push(&self.port, arena, packet.payload);
        }
        let mut packets = self.delivery.packets(arena);
        self.device
            .write_batch(&mut packets, &mut |number, outcome| {
                let _ = black_box((number, outcome));
            });
    }

    /// Puts `COUNT` datagrams of PEER to `dst` into the receive batch.
    fn fill(&mut self, dst: NetId, size: usize) {
        let derived = Mesh::default();
        let ends = (derived.address(PEER), derived.address(ME));
        let payload = vec![0x5A; size - HEADER_LEN - headers_len(UDP)];
        let packet = packet(UDP, ends, 0, &payload);
        for slot in self.rx.arena_mut().chunks_mut(size).take(COUNT) {
            let header = Header {
                kind: Kind::Data,
                flags: Flags::NONE,
                nonce: 0,
                src: PEER,
                dst,
            };
            header.emit(slot);
            slot[HEADER_LEN..].copy_from_slice(&packet);
        }
    }

    /// Takes the datagrams from `first` on as received, in trains or not; gives them new nonces.
    fn take(&mut self, size: usize, first: usize) -> usize {
        self.rx.clear();
        let count = if self.links.trains {
            COUNT - first
        } else {
            RX_BUFFERS.min(COUNT - first)
        };
        let arena = self.rx.arena_mut();
        for slot in arena.chunks_mut(size).skip(first).take(count) {
            slot[4..8].copy_from_slice(&self.nonces.next_u32().to_be_bytes());
        }
        let each = if self.links.trains { count } else { 1 };
        for place in (first..first + count).step_by(each) {
            self.rx.push(RxMessage {
                span: Span {
                    start: (place * size) as u32,
                    len: (each * size) as u32,
                },
                stride: size as u32,
                path: path(0),
                interface: 1,
                truncated: false,
                alone: false,
            });
        }
        count
    }

    /// One train, or as many single datagrams, in batches of as many as a batch can hold.
    fn pass(&mut self, size: usize) {
        let mut first = 0;
        while first < COUNT {
            first += self.take(size, first);
            self.receive();
        }
    }
}

fn path(port: u16) -> Path {
    let remote = SocketAddr::from(([127, 0, 0, 1], port));
    Path::to(Endpoint::new(SocketId(0), remote))
}

fn groups(c: &mut Criterion, mut each: impl FnMut(&mut BenchmarkGroup<'_, WallTime>, usize, bool)) {
    for size in SIZES {
        for (name, trains) in [("trains", true), ("singles", false)] {
            let mut group = c.benchmark_group(format!("pump/{size}/{name}"));
            group.throughput(Throughput::Elements(COUNT as u64));
            each(&mut group, size, trains);
            group.finish();
        }
    }
}

fn tx(c: &mut Criterion) {
    groups(c, |group, size, trains| {
        let derived = Mesh::default();
        let ends = (derived.address(ME), derived.address(PEER));
        let payload = size - HEADER_LEN - headers_len(UDP);
        let whole: Arc<[u8]> = super_packet(UDP, ends, payload, COUNT).into();
        let single = packet(UDP, ends, 0, &vec![0x5A; payload]);
        let single: Arc<[u8]> = single_packet(&single, true).into();
        for k in [1, 4] {
            let mut node = Node::new(k, trains);
            group.bench_function(format!("tx_{k}"), |b| {
                b.iter(|| {
                    if trains {
                        assert!(node.kernel.inject(&whole));
                    } else {
                        (0..COUNT).for_each(|_| assert!(node.kernel.inject(&single)));
                    }
                    assert_eq!(node.originate(), COUNT);
                });
            });
            assert_eq!(node.links.sent % (k * COUNT), 0);
        }
    });
}

fn rx(c: &mut Criterion) {
    groups(c, |group, size, trains| {
        let mut node = Node::new(1, trains);
        node.fill(ME, size);
        node.pass(size);
        let writes = node.kernel.writes();
        let expected = if trains { (1, 0) } else { (0, COUNT as u64) };
        assert_eq!((writes.merged, writes.single), expected);
        group.bench_function("rx", |b| b.iter(|| node.pass(size)));
    });
}

fn relay(c: &mut Criterion) {
    groups(c, |group, size, trains| {
        for k in [1, 4] {
            let mut node = Node::new(1 + k, trains);
            node.fill(NEXT, size);
            node.pass(size);
            assert_eq!(node.links.sent, k * COUNT);
            group.bench_function(format!("relay_{k}"), |b| b.iter(|| node.pass(size)));
        }
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2))
        .sample_size(50);
    targets = tx, rx, relay
}
criterion_main!(benches);
