//! Target `judge`: any datagrams through the real pump.

use std::net::SocketAddr;
use std::sync::Arc;

use overlay::id::{Endpoint, LinkId, NetId, Path, SocketId};
use overlay::keyed::KeyedHasher;
use overlay::node::flood::{Flood, JUDGED};
use overlay::node::hash::{Algorithm, MessageHasher};
use overlay::node::seen::SeenConfig;
use overlay::node::snapshot::{LinkEntry, NeighborSet};
use overlay::pump::count::{Counters, DropReason, Total};
use overlay::pump::rx::{RxBatch, RxMessage, Span};
use overlay::pump::tx::TxBatch;
use overlay::pump::{Arrival, Packet, Pump, Scene, Sink};
use overlay::time::{Duration, Instant};
use wire::{Header, MAX_DATAGRAM};

/// Our netid; neighbors are 1, 2 and 3.
const US: NetId = NetId(0x2a);

/// Target `judge`: the input is a run of records `from, seconds, length (two bytes), datagram`;
/// `from` below 3 is a link. Each datagram is counted once, delivered at most once, and forwarded
/// as it came, never back, never with NO_FORWARD, never when it is for us alone.
///
/// # Panics
/// When one of these laws is broken.
pub fn fuzz_judge(input: &[u8]) {
    let hasher = MessageHasher::new(Algorithm::SipHash13, [1, 2, 3, 4]);
    let seen = SeenConfig {
        start_bytes: 4_096,
        memory_bytes: 16_384,
    };
    let flood = Flood::new(US, hasher, seen, Instant::ZERO);
    let path = |from: u8| {
        let remote = SocketAddr::from(([192, 0, 2, from], 44_204));
        Path::to(Endpoint::new(SocketId(0), remote))
    };
    let link = |n: u8| LinkEntry {
        open: false,
        id: LinkId(n.into()),
        netid: NetId(u32::from(n) + 1),
        neighbor: n.into(),
        path: path(n),
        stats: Arc::default(),
    };
    let links = (0..3).map(link).collect();
    let neighbors = NeighborSet::new(links, [path(4).endpoint], KeyedHasher(5, 6));
    let counters = Counters::default();
    let (mut pump, mut rx, mut tx) = (
        Pump::default(),
        RxBatch::default(),
        TxBatch::with_capacity(16),
    );
    let mut now = Instant::ZERO;
    let mut rest = input;
    while let [from, seconds, high, low, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]))
            .min(tail.len())
            .min(MAX_DATAGRAM);
        let (datagram, tail) = tail.split_at(len);
        rest = tail;
        now = now + Duration::from_secs(u64::from(*seconds));
        rx.clear();
        tx.clear();
        rx.arena_mut()[..len].copy_from_slice(datagram);
        let span = Span {
            start: 0,
            len: len as u32,
        };
        let from = from % 6;
        let stride = span.len.max(1);
        rx.push(RxMessage {
            span,
            stride,
            path: path(from),
            interface: 0,
            truncated: false,
            alone: false,
        });
        let before = counted(&counters);
        let mut sink = Calls::default();
        let scene = Scene {
            flood: &flood,
            neighbors: &neighbors,
            counters: &counters,
            device_index: 7,
        };
        pump.receive(now, scene, &rx, &mut tx, &mut sink);
        assert_eq!(counted(&counters), before + 1, "counted once");
        assert!(sink.delivered <= 1, "delivered once");
        assert!(tx.items().len() <= 1, "forwarded once");
        if let Some(item) = tx.items().first() {
            assert_eq!(item.span.of(rx.arena()), datagram, "forwarded as it came");
            assert_eq!(item.except, Some(u16::from(from)), "never back");
            let header = Header::parse(datagram).expect("only messages are forwarded");
            assert!(!header.flags.no_forward() && header.dst != US && header.dst != NetId::ANY);
        }
    }
    assert!(flood.seen().bytes() <= 16_384);
}

fn counted(counters: &Counters) -> u64 {
    let dropped: u64 = JUDGED.iter().map(|reason| counters.dropped(*reason)).sum();
    let other = counters.dropped(DropReason::RxTruncated);
    let sum = dropped + other + counters.total(Total::Flooded) + counters.total(Total::Control);
    assert_eq!(sum, counters.total(Total::Received));
    sum
}

#[derive(Default)]
struct Calls {
    delivered: usize,
}

impl Sink for Calls {
    fn device(&mut self, packet: Packet, arena: &[u8]) {
        assert!(!packet.payload.of(arena).is_empty());
        self.delivered += 1;
    }
    fn service(&mut self, _link: &LinkEntry, _header: &Header, payload: &[u8]) {
        assert!(!payload.is_empty());
        self.delivered += 1;
    }
    fn control(&mut self, _arrival: Arrival, _datagram: &[u8]) {
        self.delivered += 1;
    }
    fn stranger(&mut self, _path: Path) {}
    fn conflict(&mut self, _path: Path) {}
    fn heard(&mut self, origin: NetId, via: NetId) {
        assert!(origin.is_node() && via.is_node());
    }
}
