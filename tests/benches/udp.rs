//! Nanoseconds per datagram of the UDP transport on loopback, one by one and in batches.
//!
//! Sending includes the kernel's whole path into the receiver's queue, which on loopback runs in
//! the sender. What was sent is taken away outside the time measured, so that no queue overflows.
//! `recv_from` is a plain socket with one small buffer, that neither says which address of ours
//! was spoken to nor counts drops: the least that receiving can cost, not an alternative.
//! Before anything is measured, it is checked that batches are sent and received without
//! allocating.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use overlay::id::{Endpoint, LinkId, NetId, Path, SocketId};
use overlay::keyed::KeyedHasher;
use overlay::link::udp::{Outbound, Receiver, Sender, UdpSockets};
use overlay::node::snapshot::{LinkEntry, LinkStats, NeighborSet};
use overlay::pump::count::Counters;
use overlay::pump::rx::{RX_BUFFERS, RxBatch, Span};
use overlay::pump::tx::TxBatch;
use overlay::time::Instant;

const SOCKET: SocketId = SocketId(0);
const NOW: Instant = Instant(1_000_000);
/// Small as a ping, and full as a Data message of the default MTU.
const SIZES: [usize; 2] = [64, 1_416];

/// A node that sends batches of [`RX_BUFFERS`] datagrams to `k` others.
struct Bench {
    sockets: UdpSockets,
    far: Vec<UdpSockets>,
    neighbors: NeighborSet,
    sender: Sender,
    receiver: Receiver,
    batch: RxBatch,
    counters: Counters,
    arena: Vec<u8>,
    tx: TxBatch,
}

impl Bench {
    fn new(k: usize, size: usize) -> Self {
        let sockets = loopback();
        let far: Vec<_> = (0..k).map(|_| loopback()).collect();
        let entry = |(index, far): (usize, &UdpSockets)| LinkEntry {
            open: false,
            id: LinkId(index as u32),
            netid: NetId(index as u32 + 1),
            neighbor: index as u16,
            path: Path::to(Endpoint::new(SOCKET, address(far))),
            stats: Arc::new(LinkStats::default()),
        };
        let links = far.iter().enumerate().map(entry).collect();
        let mut tx = TxBatch::with_capacity(RX_BUFFERS);
        for index in 0..RX_BUFFERS {
            let span = Span {
                start: (index * size) as u32,
                len: size as u32,
            };
            tx.push(span, None);
        }
        Self {
            sockets,
            far,
            neighbors: NeighborSet::new(links, [], KeyedHasher(1, 2)),
            sender: Sender::default(),
            receiver: Receiver::default(),
            batch: RxBatch::default(),
            counters: Counters::default(),
            arena: vec![0xac; RX_BUFFERS * size],
            tx,
        }
    }

    fn flush(&mut self) {
        let to = Outbound {
            sockets: &self.sockets,
            neighbors: &self.neighbors,
            sessions: None,
            counters: &self.counters,
        };
        self.sender.flush(&to, NOW, &self.arena, &self.tx);
    }

    fn send_one_by_one(&self) {
        for link in self.neighbors.links() {
            for item in self.tx.items() {
                let sent = self
                    .sockets
                    .send_to(&link.path, item.span.of(&self.arena), None);
                sent.expect("loopback takes it");
            }
        }
    }

    /// One round of receiving at the first far end.
    fn receive(&mut self) -> usize {
        self.batch.clear();
        self.receiver
            .receive(&self.far[0], SOCKET, &mut self.batch, &self.counters)
            .expect("loopback works")
    }

    /// Takes away what waits at all far ends.
    fn take_away(&mut self) {
        for far in &self.far {
            loop {
                self.batch.clear();
                let taken = self
                    .receiver
                    .receive(far, SOCKET, &mut self.batch, &self.counters);
                if taken.expect("loopback works") == 0 {
                    break;
                }
            }
        }
    }
}

fn loopback() -> UdpSockets {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    UdpSockets::bind(&[any]).expect("loopback can be bound")
}

fn address(sockets: &UdpSockets) -> SocketAddr {
    sockets.get(SOCKET).expect("one was bound").local()
}

/// Time that `work` takes, `rounds` times, with `before` and `after` left out.
fn timed<S>(
    state: &mut S,
    rounds: u64,
    mut before: impl FnMut(&mut S),
    mut work: impl FnMut(&mut S),
    mut after: impl FnMut(&mut S),
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        before(state);
        let start = Clock::now();
        work(state);
        total += start.elapsed();
        after(state);
    }
    total
}

fn send(criterion: &mut Criterion) {
    for size in SIZES {
        for k in [1, 4] {
            let mut bench = Bench::new(k, size);
            let mut group = criterion.benchmark_group(format!("send/{size}B"));
            group.throughput(Throughput::Elements((k * RX_BUFFERS) as u64));
            group.bench_function(BenchmarkId::new("send_to", k), |run| {
                run.iter_custom(|rounds| {
                    let one_by_one = |bench: &mut Bench| bench.send_one_by_one();
                    timed(&mut bench, rounds, |_| {}, one_by_one, Bench::take_away)
                });
            });
            group.bench_function(BenchmarkId::new("flush", k), |run| {
                run.iter_custom(|rounds| {
                    timed(&mut bench, rounds, |_| {}, Bench::flush, Bench::take_away)
                });
            });
            group.finish();
        }
    }
}

fn receive(criterion: &mut Criterion) {
    for size in SIZES {
        let mut bench = Bench::new(1, size);
        let plain = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback can be bound");
        let to_plain = Path::to(Endpoint::new(
            SOCKET,
            plain.local_addr().expect("just bound"),
        ));
        let mut group = criterion.benchmark_group(format!("receive/{size}B"));
        group.throughput(Throughput::Elements(RX_BUFFERS as u64));
        group.bench_function("recv_from", |run| {
            run.iter_custom(|rounds| {
                let mut buffer = [0; 2_048];
                let fill = |bench: &mut Bench| {
                    for item in bench.tx.items() {
                        let datagram = item.span.of(&bench.arena);
                        let sent = bench.sockets.send_to(&to_plain, datagram, None);
                        sent.expect("loopback takes it");
                    }
                };
                let take = |_: &mut Bench| {
                    for _ in 0..RX_BUFFERS {
                        let got = plain.recv_from(&mut buffer).expect("it was sent");
                        black_box(got);
                    }
                };
                timed(&mut bench, rounds, fill, take, |_| {})
            });
        });
        group.bench_function("receive", |run| {
            run.iter_custom(|rounds| {
                let take = |bench: &mut Bench| assert_eq!(bench.receive(), RX_BUFFERS);
                timed(&mut bench, rounds, Bench::flush, take, |_| {})
            });
        });
        group.finish();
    }
}

/// Not a measurement: batches must cost no allocation, whatever they cost in time.
fn allocates_nothing(_: &mut Criterion) {
    let mut bench = Bench::new(4, 1_416);
    bench.flush();
    bench.take_away();
    let used = allocation_counter::measure(|| {
        bench.flush();
        assert_eq!(bench.receive(), RX_BUFFERS);
    });
    assert_eq!(used.count_total, 0, "a batch was sent and received");
}

criterion_group!(benches, allocates_nothing, send, receive);
criterion_main!(benches);
