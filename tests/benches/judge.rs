//! Nanoseconds to take one datagram through the pump: all steps from the received batch to the
//! sink and the batch to send, by size and by how many came together; new messages and further
//! copies. And `Flood::judge`, one by one, for comparison.
//!
//! Run: `cargo bench -p overlay-tests --bench judge`. Times are per batch; the element rate is
//! per datagram.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use overlay::id::{Endpoint, LinkId, Path, SocketId};
use overlay::keyed::KeyedHasher;
use overlay::node::flood::Flood;
use overlay::node::hash::{Algorithm, MessageHasher};
use overlay::node::seen::SeenConfig;
use overlay::node::snapshot::{LinkEntry, NeighborSet};
use overlay::pump::count::Counters;
use overlay::pump::rx::{RX_BUFFER_LEN, RxBatch, RxMessage, Span};
use overlay::pump::tx::TxBatch;
use overlay::pump::{Arrival, Packet, Pump, Scene, Sink};
use overlay::time::Instant;
use wire::{Flags, Header, Kind, NetId};

struct Nowhere;

impl Sink for Nowhere {
    fn device(&mut self, packet: Packet, arena: &[u8]) {
        black_box((packet, arena));
    }
    fn service(&mut self, _: &LinkEntry, _: &Header, _: &[u8]) {}
    fn control(&mut self, _: Arrival, _: &[u8]) {}
    fn stranger(&mut self, _: Path) {}
    fn conflict(&mut self, _: Path) {}
    fn heard(&mut self, _: NetId, _: NetId) {}
}

fn path(port: u16) -> Path {
    let remote = SocketAddr::from(([127, 0, 0, 1], port));
    Path::to(Endpoint::new(SocketId(0), remote))
}

/// One run of `count` datagrams of `size` bytes to all nodes, from neighbor 0.
fn fill(rx: &mut RxBatch, size: usize, count: usize) {
    for (n, slot) in rx.arena_mut().chunks_mut(size).take(count).enumerate() {
        slot.fill(0x45);
        let header = Header {
            kind: Kind::Data,
            flags: Flags::NONE,
            nonce: n as u32,
            src: NetId(10),
            dst: NetId::ALL,
        };
        header.emit(slot);
    }
    let full = RX_BUFFER_LEN / size;
    for first in (0..count).step_by(full) {
        rx.push(RxMessage {
            span: Span {
                start: (first * size) as u32,
                len: (full.min(count - first) * size) as u32,
            },
            stride: size as u32,
            path: path(0),
            interface: 1,
            truncated: false,
            alone: false,
        });
    }
}

/// Makes the datagrams new ones, by their nonces.
fn renew(rx: &mut RxBatch, size: usize, count: usize, round: u32) {
    for slot in rx.arena_mut().chunks_mut(size).take(count) {
        slot[16..20].copy_from_slice(&round.to_ne_bytes());
        slot[16] = 0x45;
        slot[20..24].copy_from_slice(&round.to_ne_bytes());
    }
}

fn judge(c: &mut Criterion) {
    let links = (0..3).map(|index| LinkEntry {
        open: false,
        id: LinkId(u32::from(index)),
        netid: NetId(10 + u32::from(index)),
        neighbor: index,
        path: path(index),
        stats: Arc::default(),
    });
    let neighbors = NeighborSet::new(links.collect(), [], KeyedHasher(1, 2));
    let counters = Counters::default();
    for size in [80, 1416] {
        for count in [16, 64] {
            let hasher = MessageHasher::new(Algorithm::default(), [1, 2, 3, 4]);
            let seen = SeenConfig {
                start_bytes: 64 << 20,
                memory_bytes: 64 << 20,
            };
            let flood = Flood::new(NetId(1), hasher, seen, Instant::ZERO);
            let scene = Scene {
                flood: &flood,
                neighbors: &neighbors,
                counters: &counters,
                device_index: 9,
            };
            let mut pump = Pump::default();
            let mut rx = RxBatch::default();
            let mut tx = TxBatch::with_capacity(1024);
            fill(&mut rx, size, count);
            let mut group = c.benchmark_group(format!("judge/{size}"));
            group.throughput(Throughput::Elements(count as u64));
            // 20,000 a second: after 5 minutes two thirds of the slots are live, and what comes
            // takes the place of what expires.
            let mut round = 0_u32;
            let mut now = Instant::from_secs(1);
            group.bench_function(format!("new_{count}"), |b| {
                b.iter(|| {
                    round += 1;
                    now = Instant(now.0 + 50 * count as u64);
                    renew(&mut rx, size, count, round);
                    tx.clear();
                    pump.receive(now, scene, &rx, &mut tx, &mut Nowhere);
                    black_box(tx.items());
                });
            });
            assert_eq!(tx.items().len(), count, "all of them were new");
            group.bench_function(format!("known_{count}"), |b| {
                b.iter(|| {
                    tx.clear();
                    pump.receive(now, scene, &rx, &mut tx, &mut Nowhere);
                    black_box(tx.items());
                });
            });
            group.bench_function(format!("one_by_one_known_{count}"), |b| {
                b.iter(|| {
                    for datagram in rx.arena().chunks(size).take(count) {
                        black_box(flood.judge(now, Some(0), datagram));
                    }
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, judge);
criterion_main!(benches);
