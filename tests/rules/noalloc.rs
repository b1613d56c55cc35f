//! The data path allocates nothing once it runs: neither for what it receives, new or known,
//! good or garbage, nor for what it originates.

#![expect(unsafe_code, reason = "a counting allocator has no safe form")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

use overlay::id::{Endpoint, LinkId, Path, SocketId};
use overlay::keyed::KeyedHasher;
use overlay::node::flood::Flood;
use overlay::node::hash::{Algorithm, MessageHasher};
use overlay::node::seen::SeenConfig;
use overlay::node::snapshot::{LinkEntry, NeighborSet};
use overlay::node::zone::{Bridge, OpenZone, Zones};
use overlay::pump::count::{Counters, DropReason, Total};
use overlay::pump::fair::{Sieve, Sifting};
use overlay::pump::rx::{RX_BUFFER_LEN, RX_BUFFERS, RxBatch, RxMessage, Span};
use overlay::pump::tx::TxBatch;
use overlay::pump::{Arrival, Outgoing, Packet, Pump, Scene, Sink};
use overlay::time::Instant;
use wire::{Flags, Header, Kind, NetId};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread.
struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Counts and keeps nothing.
#[derive(Default)]
struct Counts {
    delivered: u64,
    control: u64,
}

impl Sink for Counts {
    fn device(&mut self, _: Packet, _: &[u8]) {
        self.delivered += 1;
    }
    fn service(&mut self, _: &LinkEntry, _: &Header, _: &[u8]) {
        self.delivered += 1;
    }
    fn control(&mut self, _: Arrival, _: &[u8]) {
        self.control += 1;
    }
    fn stranger(&mut self, _: Path) {}
    fn conflict(&mut self, _: Path) {}
    fn heard(&mut self, _: NetId, _: NetId) {}
}

fn path(port: u16) -> Path {
    let remote = SocketAddr::from(([127, 0, 0, 1], port));
    Path::to(Endpoint::new(SocketId(0), remote))
}

fn flood() -> Flood {
    let seen = SeenConfig {
        start_bytes: 1 << 20,
        memory_bytes: 1 << 20,
    };
    let hasher = MessageHasher::new(Algorithm::default(), [1, 2, 3, 4]);
    Flood::new(NetId(1), hasher, seen, Instant::ZERO)
}

fn neighbors() -> NeighborSet {
    let links = (0..4).map(|index| LinkEntry {
        open: false,
        id: LinkId(u32::from(index)),
        netid: NetId(10 + u32::from(index)),
        neighbor: index,
        path: path(index),
        stats: Arc::default(),
    });
    NeighborSet::new(links.collect(), [path(9).endpoint], KeyedHasher(1, 2))
}

/// Fills a batch with runs of 64 datagrams of all kinds, from neighbors and strangers.
fn fill(rx: &mut RxBatch, round: u32) {
    const STRIDE: usize = 100;
    rx.clear();
    for message in 0..RX_BUFFERS {
        let start = message * RX_BUFFER_LEN;
        for n in 0..64 {
            let kinds = [Kind::Data, Kind::Data, Kind::Ping, Kind::Pong, Kind::Hello];
            let slot = &mut rx.arena_mut()[start + n * STRIDE..][..STRIDE];
            slot.fill(0x45);
            let header = Header {
                kind: kinds[n % 5],
                flags: Flags(if n.is_multiple_of(7) { 0x80 } else { 0 }),
                // Half of each round is known from the round before.
                nonce: round * 32 + n as u32,
                src: NetId(1 + message as u32 % 5),
                dst: [NetId::ALL, NetId(1), NetId(77), NetId::ANY][n % 4],
            };
            header.emit(slot);
            slot[0] ^= u8::from(n == 63);
        }
        let span = Span {
            start: start as u32,
            len: 64 * STRIDE as u32,
        };
        rx.push(RxMessage {
            span,
            stride: STRIDE as u32,
            path: path(message as u16 % 6),
            interface: 1,
            truncated: false,
            alone: false,
        });
    }
}

#[test]
fn receiving_allocates_nothing() {
    receive_within(&neighbors());
}

/// S87, S88: nor where two of the four links are plain, and a bridge joins them to the others.
#[test]
fn receiving_in_two_zones_allocates_nothing() {
    let mut zone = OpenZone::new(Bridge::Sealed, KeyedHasher(3, 4));
    zone.add_node(NetId(2));
    let is_open = |link: &LinkEntry| link.neighbor.is_multiple_of(2);
    receive_within(&neighbors().zoned(Arc::new(zone), is_open));
}

fn receive_within(neighbors: &NeighborSet) {
    let (flood, counters) = (flood(), Counters::default());
    let scene = Scene {
        flood: &flood,
        neighbors,
        counters: &counters,
        device_index: 5,
    };
    let mut pump = Pump::default();
    let mut rx = RxBatch::default();
    let mut tx = TxBatch::with_capacity(RX_BUFFERS * 64);
    let mut sink = Counts::default();
    for round in 0..50 {
        fill(&mut rx, round);
        tx.clear();
        let before = allocations();
        let now = Instant(u64::from(round) * 300_000);
        pump.receive(now, scene, &rx, &mut tx, &mut sink);
        // The first round sets up what each thread keeps for reading snapshots.
        if round > 0 {
            assert_eq!(allocations(), before, "round {round}");
        }
    }
    assert_eq!(counters.total(Total::Received), 50 * 1024);
    assert!(counters.total(Total::Forwarded) > 0);
    assert!(sink.delivered > 0 && sink.control > 0);
}

#[test]
fn sharing_out_a_saturated_node_allocates_nothing() {
    let (neighbors, counters) = (neighbors(), Counters::default());
    let mut sieve = Sieve::new(false);
    let mut rx = RxBatch::default().with_all_messages();
    sieve.fair.settle(Instant::ZERO, 1.0, true);
    for round in 1..50 {
        fill(&mut rx, round);
        let before = allocations();
        let now = Instant(u64::from(round) * 1_000);
        let by = Sifting {
            now,
            neighbors: &neighbors,
            counters: &counters,
        };
        sieve.fair.heard(now, NetId(round), NetId(round));
        sieve.sift_messages(by, true, &mut rx);
        sieve.fair.settle(now, 1.0, true);
        assert_eq!(allocations(), before, "round {round}");
    }
    assert!(counters.dropped(DropReason::UnfairShare) > 0);
}

#[test]
fn originating_allocates_nothing() {
    let flood = flood();
    let mut pump = Pump::default();
    let mut tx = TxBatch::with_capacity(200);
    let mut arena = vec![0x45; 200 * 100];
    let packets: Vec<_> = (0..200)
        .map(|n| Outgoing {
            span: Span {
                start: n * 100,
                len: 100,
            },
            dst: NetId::ALL,
            flags: Flags::NONE,
            zones: Zones::All,
            alone: false,
        })
        .collect();
    let mut drawn = 0_u32;
    let mut nonce = || {
        drawn += 1;
        drawn
    };
    for round in 0..20 {
        tx.clear();
        let before = allocations();
        let now = Instant(round * 300_000);
        pump.originate(now, &flood, &packets, &mut arena, &mut nonce, &mut tx);
        if round > 0 {
            assert_eq!(allocations(), before, "round {round}");
        }
    }
    assert_eq!(tx.items().len(), 200);
}

#[test]
fn the_counter_counts() {
    let before = allocations();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(allocations(), before + 1);
}
