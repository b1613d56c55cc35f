//! Whole batches through the pump, with a sink that writes down what it gets.

mod vectors;

use std::net::SocketAddr;
use std::sync::Arc;

use super::rx::RX_BUFFER_LEN;
use super::tx::TxItem;
use super::*;
use crate::id::{Endpoint, LinkId, SocketId};
use crate::keyed::KeyedHasher;
use crate::node::flood::JUDGED;
use crate::node::hash::{Algorithm, MessageHasher};
use crate::node::seen::SeenConfig;
use crate::node::zone::{Bridge, OpenZone};

const US: u32 = 0x2a;
const ALL: u32 = 0xFFFF_FFFF;
const NOW: Instant = Instant::from_secs(100);
const DEVICE: u32 = 9;

#[derive(Debug, PartialEq)]
enum Got {
    Device(NetId, NetId, Vec<u8>),
    Service(LinkId, NetId, Vec<u8>),
    Sealed(LinkId, NetId),
    Control(Arrival, Vec<u8>),
    Stranger(Path),
    Conflict(Path),
}

#[derive(Default)]
struct Notes {
    got: Vec<Got>,
    /// Nodes, and the neighbors that brought their messages.
    heard: Vec<(NetId, NetId)>,
    /// The same of copies too, and whether it was the first.
    brought: Vec<(NetId, NetId, bool)>,
    /// Whether Data in clear is taken over plain links alone, as in a node that prefers sealed ones.
    prefers: bool,
}

impl Sink for Notes {
    fn device(&mut self, packet: Packet, arena: &[u8]) {
        let payload = packet.payload.of(arena).to_vec();
        self.got
            .push(Got::Device(packet.origin, packet.dst, payload));
    }
    fn service(&mut self, link: &LinkEntry, header: &Header, payload: &[u8]) {
        self.got
            .push(Got::Service(link.id, header.src, payload.to_vec()));
    }
    fn admits(&self, link: &LinkEntry, _header: &Header) -> bool {
        !self.prefers || link.open
    }
    fn sealed(&mut self, link: &LinkEntry, packet: Packet, _direct: bool) -> bool {
        if self.prefers {
            self.got.push(Got::Sealed(link.id, packet.origin));
        }
        self.prefers
    }
    fn control(&mut self, arrival: Arrival, datagram: &[u8]) {
        self.got.push(Got::Control(arrival, datagram.to_vec()));
    }
    fn stranger(&mut self, path: Path) {
        self.got.push(Got::Stranger(path));
    }
    fn conflict(&mut self, path: Path) {
        self.got.push(Got::Conflict(path));
    }
    fn heard(&mut self, origin: NetId, via: NetId) {
        self.heard.push((origin, via));
    }
    fn brought(&mut self, origin: NetId, via: NetId, is_new: bool) {
        self.brought.push((origin, via, is_new));
    }
}

/// A node with three live links: 0 and 1 to neighbor 0, 2 to neighbor 1.
struct Node {
    flood: Flood,
    neighbors: NeighborSet,
    counters: Counters,
    pump: Pump,
    rx: RxBatch,
    tx: TxBatch,
    notes: Notes,
}

fn path(port: u16) -> Path {
    let remote = SocketAddr::from(([192, 0, 2, 1], port));
    Path::to(Endpoint::new(SocketId(0), remote))
}

impl Node {
    fn new() -> Self {
        let hasher = MessageHasher::new(Algorithm::default(), [1, 2, 3, 4]);
        let seen = SeenConfig {
            start_bytes: 1 << 20,
            memory_bytes: 1 << 20,
        };
        let link = |index: u16, neighbor: u16| LinkEntry {
            open: false,
            id: LinkId(u32::from(index)),
            netid: NetId(0x50 + u32::from(neighbor)),
            neighbor,
            path: path(index),
            stats: Arc::default(),
        };
        let links = vec![link(0, 0), link(1, 0), link(2, 1)];
        let dialed = [path(7).endpoint];
        Self {
            flood: Flood::new(NetId(US), hasher, seen, Instant::ZERO),
            neighbors: NeighborSet::new(links, dialed, KeyedHasher(1, 2)),
            counters: Counters::default(),
            pump: Pump::default(),
            rx: RxBatch::default(),
            tx: TxBatch::with_capacity(1024),
            notes: Notes::default(),
        }
    }

    /// Receives one kernel message from `port` into the next buffer.
    fn push(&mut self, port: u16, stride: usize, bytes: &[u8]) {
        let start = self.rx.messages().len() * RX_BUFFER_LEN;
        self.rx.arena_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        assert!(self.rx.push(RxMessage {
            span: Span {
                start: start as u32,
                len: bytes.len() as u32,
            },
            stride: stride as u32,
            path: path(port),
            interface: 3,
            truncated: false,
            alone: false,
        }));
    }

    fn run(&mut self) -> Vec<Got> {
        let scene = Scene {
            flood: &self.flood,
            neighbors: &self.neighbors,
            counters: &self.counters,
            device_index: DEVICE,
        };
        self.pump
            .receive(NOW, scene, &self.rx, &mut self.tx, &mut self.notes);
        std::mem::take(&mut self.notes.got)
    }

    /// One datagram, all the way.
    fn receive(&mut self, port: u16, datagram: &[u8]) -> Vec<Got> {
        self.rx.clear();
        self.tx.clear();
        self.push(port, datagram.len(), datagram);
        self.run()
    }

    /// Total and reasons of the exclusive counters.
    fn counted(&self) -> (u64, u64) {
        let reasons = JUDGED
            .into_iter()
            .chain([DropReason::UnderlayInOverlay, DropReason::RxTruncated]);
        let dropped: u64 = reasons.map(|reason| self.counters.dropped(reason)).sum();
        let passed = self.counters.total(Total::Flooded) + self.counters.total(Total::Control);
        (self.counters.total(Total::Received), dropped + passed)
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counters.dropped(reason)
    }

    fn stats(&self, link: usize) -> [u64; 5] {
        let stats = &self.neighbors.links()[link].stats;
        [
            stats.last_heard.load(Relaxed),
            stats.rx_datagrams.load(Relaxed),
            stats.rx_bytes.load(Relaxed),
            stats.first_copies.load(Relaxed),
            stats.duplicates.load(Relaxed),
        ]
    }
}

fn datagram(kind: u8, flags: u8, nonce: u8, src: u32, dst: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xAC, 0x01, kind, flags, 0, 0, 0, nonce];
    bytes.extend(src.to_be_bytes());
    bytes.extend(dst.to_be_bytes());
    bytes.extend(rest);
    bytes
}

fn arrival(port: u16, link: Option<u16>) -> Arrival {
    Arrival {
        path: path(port),
        link,
        expected: false,
        duplicate: false,
    }
}

#[test]
fn a_message_for_all_is_delivered_and_forwarded_unaltered_but_not_back() {
    let mut node = Node::new();
    let message = datagram(0x10, 0, 1, 7, ALL, &[0x45, 1, 2]);
    let got = node.receive(1, &message);
    assert_eq!(got, [Got::Device(NetId(7), NetId::ALL, vec![0x45, 1, 2])]);
    let span = Span { start: 0, len: 19 };
    let except = Some(0);
    assert_eq!(
        node.tx.items(),
        [TxItem {
            span,
            except,
            zones: Zones::All,
            alone: false
        }]
    );
    assert_eq!(span.of(node.rx.arena()), message);
    assert_eq!(node.notes.heard, [(NetId(7), NetId(0x50))]);
    // The copy of the other link, and of the other neighbor.
    assert_eq!(node.receive(0, &message), []);
    assert_eq!(node.receive(2, &message), []);
    assert!(node.tx.is_empty());
    assert_eq!(node.dropped(DropReason::Duplicate), 2);
    assert_eq!(node.counters.total(Total::Forwarded), 1);
    assert_eq!(node.stats(0), [NOW.0, 1, 19, 0, 1]);
    assert_eq!(node.stats(1), [NOW.0, 1, 19, 1, 0]);
    assert_eq!(node.stats(2), [NOW.0, 1, 19, 0, 1]);
}

/// S98: who is always the first with another's messages keeps it out of nobody else's places.
#[test]
fn over_each_neighbor_that_brings_it_a_source_is_noted_though_one_is_always_the_first() {
    let mut node = Node::new();
    let (first, second) = (NetId(0x50), NetId(0x51));
    for nonce in 1..4 {
        let message = datagram(0x10, 0, nonce, 7, ALL, &[0x45, 1, 2]);
        for link in [0, 1, 2] {
            node.receive(link, &message);
        }
    }
    assert_eq!(node.notes.heard, [(NetId(7), first)]);
    let brought = [(NetId(7), first, true), (NetId(7), second, false)];
    assert_eq!(node.notes.brought, brought);
    // A copy that a stranger sends is nobody's.
    node.receive(5, &datagram(0x10, 0, 3, 7, ALL, &[0x45, 1, 2]));
    assert_eq!(node.notes.brought.len(), 2);
}

/// Neighbors that once shared their place in the memory with all that they brought, and each message was news.
#[test]
fn what_a_neighbor_brings_is_told_once_a_second_whatever_its_netid() {
    for via in [2_659, 4_129, 5_599] {
        let mut node = Node::new();
        let mut links = node.neighbors.links().to_vec();
        for link in &mut links {
            link.netid = NetId(via);
        }
        node.neighbors = NeighborSet::new(links, [], KeyedHasher(1, 2));
        for nonce in 1..4 {
            node.receive(0, &datagram(0x10, 0, nonce, 7, ALL, &[0x45, 1, 2]));
        }
        assert_eq!(node.notes.heard, [(NetId(7), NetId(via))]);
        assert_eq!(node.notes.brought, [(NetId(7), NetId(via), true)]);
    }
}

#[test]
fn of_a_run_the_duplicates_are_left_out_and_the_short_last_one_counts() {
    let mut node = Node::new();
    let one = datagram(0x10, 0, 1, 7, 0x99, &[0x45; 4]);
    let two = datagram(0x10, 0, 2, 7, 0x99, &[0x45; 4]);
    let short = datagram(0x10, 0, 3, 7, 0x99, &[]);
    let run = [&one[..], &two, &one, &short].concat();
    node.push(2, 20, &run);
    assert_eq!(node.run(), []);
    let spans: Vec<_> = node.tx.items().iter().map(|item| item.span).collect();
    let span = |start, len| Span { start, len };
    assert_eq!(spans, [span(0, 20), span(20, 20), span(60, 16)]);
    assert_eq!(node.stats(2), [NOW.0, 4, 76, 3, 1]);
    assert_eq!(node.counted(), (4, 4));
}

#[test]
fn control_gets_who_sent_it_and_whether_we_dial_them() {
    let mut node = Node::new();
    let hello = datagram(0x01, 0x80, 1, 0x51, 0, &[]);
    let got = |arrival| [Got::Control(arrival, hello.clone())];
    assert_eq!(node.receive(2, &hello), got(arrival(2, Some(2))));
    assert_eq!(node.receive(5, &hello), got(arrival(5, None)));
    let expected = Arrival {
        expected: true,
        ..arrival(7, None)
    };
    assert_eq!(node.receive(7, &hello), got(expected));
    assert_eq!(node.counters.total(Total::Control), 2);
    assert_eq!(node.counters.total(Total::Flooded), 1);
    // A stranger's message is no news of a node.
    assert_eq!(node.notes.heard, [(NetId(0x51), NetId(0x51))]);
    // Nor is what stays on one link and is not its neighbor's own: a challenge (R28).
    node.receive(2, &datagram(0x03, 0x80, 2, 0x77, 0, &[]));
    assert_eq!(node.notes.heard, [(NetId(0x51), NetId(0x51))]);
}

/// S105.
#[test]
fn what_a_bridge_does_not_let_in_stays_in_the_open_zone_and_is_counted() {
    let mut node = Node::new();
    let zone = OpenZone::new(Bridge::Sealed, KeyedHasher(1, 2)).letting_in(4);
    let set = std::mem::replace(&mut node.neighbors, NeighborSet::empty());
    node.neighbors = set.zoned(Arc::new(zone), |link| link.neighbor == 0);
    let mut zones = Vec::new();
    for nonce in 1..4 {
        let message = datagram(0x10, 0, nonce, 7, ALL, &[0x45, 1, 2]);
        node.receive(0, &message);
        zones.extend(node.tx.items().iter().map(|item| item.zones));
    }
    assert_eq!(zones, [Zones::All, Zones::Open, Zones::Open]);
    assert_eq!(node.dropped(DropReason::GuestRate), 2);
    // What members say to each other over plain nodes has a rate of its own.
    let mut zones = Vec::new();
    for nonce in 4..7 {
        node.receive(0, &datagram(0x10, 0, nonce, 7, ALL, &[0xc8, 1, 2]));
        zones.extend(node.tx.items().iter().map(|item| item.zones));
    }
    assert_eq!(zones, [Zones::All, Zones::Open, Zones::Open]);
    assert_eq!(node.dropped(DropReason::GuestRate), 4);
    // What members say to the open zone has no such bound, and counts nothing.
    for nonce in 11..14 {
        node.receive(2, &datagram(0x10, 0, nonce, 9, ALL, &[0xc8, 1, 2]));
        assert_eq!(node.tx.items()[0].zones, Zones::All);
    }
    assert_eq!(node.dropped(DropReason::GuestRate), 4);
}

#[test]
fn a_further_copy_of_a_pong_for_us_goes_to_control_marked() {
    let mut node = Node::new();
    let pong = datagram(0x04, 0, 1, 7, US, &[]);
    let first = arrival(0, Some(0));
    assert_eq!(node.receive(0, &pong), [Got::Control(first, pong.clone())]);
    let again = Arrival {
        duplicate: true,
        ..arrival(2, Some(2))
    };
    assert_eq!(node.receive(2, &pong), [Got::Control(again, pong.clone())]);
    assert_eq!(node.dropped(DropReason::DuplicatePong), 1);
    assert_eq!(node.stats(2)[4], 1);
}

#[test]
fn strangers_and_conflicts_are_told_of_once_a_batch_and_counted_each() {
    let mut node = Node::new();
    for nonce in 0..3 {
        node.push(5, 17, &datagram(0x10, 0, nonce, 7, US, b"E"));
        node.push(0, 17, &datagram(0x10, 0, nonce, US, 7, b"E"));
    }
    assert_eq!(node.run(), [Got::Stranger(path(5)), Got::Conflict(path(0))]);
    assert_eq!(node.run().len(), 2);
    assert_eq!(node.dropped(DropReason::Stranger), 6);
    assert_eq!(node.dropped(DropReason::NetidConflict), 6);
}

#[test]
fn what_comes_through_our_own_device_is_dropped_and_not_heard() {
    let mut node = Node::new();
    let message = datagram(0x10, 0, 1, 7, ALL, b"E");
    node.rx.arena_mut()[..17].copy_from_slice(&message);
    node.rx.push(RxMessage {
        span: Span { start: 0, len: 17 },
        stride: 17,
        path: path(0),
        interface: DEVICE,
        truncated: false,
        alone: false,
    });
    assert_eq!(node.run(), []);
    assert!(node.tx.is_empty());
    assert_eq!(node.dropped(DropReason::UnderlayInOverlay), 1);
    assert_eq!(node.stats(0), [0; 5]);
    // The real one is new all the same.
    assert_eq!(node.receive(0, &message).len(), 1);
}

#[test]
fn of_what_the_kernel_cut_only_the_last_datagram_is_lost() {
    let mut node = Node::new();
    let run: Vec<u8> = (0..3)
        .flat_map(|nonce| datagram(0x10, 0, nonce, 7, US, b"E"))
        .collect();
    node.rx.arena_mut()[..50].copy_from_slice(&run[..50]);
    node.rx.push(RxMessage {
        span: Span { start: 0, len: 50 },
        stride: 17,
        path: path(0),
        interface: 0,
        truncated: true,
        alone: false,
    });
    assert_eq!(node.run().len(), 2);
    assert_eq!(node.dropped(DropReason::RxTruncated), 1);
    assert_eq!(node.counted(), (3, 3));
}

#[test]
fn a_service_gets_its_payload_and_what_no_service_wants_counts_on_top() {
    let mut node = Node::new();
    let claims = datagram(0x10, 0, 1, 7, ALL, &[0xC2, 1]);
    assert_eq!(
        node.receive(2, &claims),
        [Got::Service(LinkId(2), NetId(7), vec![0xC2, 1])]
    );
    assert_eq!(node.tx.items().len(), 1);
    for (nonce, rest) in [(2, &[0xCF][..]), (3, &[]), (4, &[0x01])] {
        assert_eq!(node.receive(2, &datagram(0x10, 0, nonce, 7, ALL, rest)), []);
        assert_eq!(node.tx.items().len(), 1, "it is forwarded");
    }
    assert_eq!(node.dropped(DropReason::UnknownService), 3);
    assert_eq!(node.counters.total(Total::Flooded), 4);
}

#[test]
fn only_well_formed_datagrams_are_heard() {
    let mut node = Node::new();
    let inform = datagram(0x05, 0, 1, 7, US, &[0; 21]);
    let bad_source = datagram(0x10, 0, 1, 0, US, b"E");
    for garbage in [&[][..], &[0xAC; 15], &[0; 40], &inform, &bad_source] {
        node.receive(0, garbage);
    }
    assert_eq!(node.stats(0), [0; 5]);
    node.receive(0, &datagram(0x10, 0x80, 1, 7, 0x99, b"E"));
    assert_eq!(node.stats(0), [NOW.0, 1, 17, 0, 0]);
    assert_eq!(node.counted(), (6, 6));
}

/// Several chunks of all kinds: the same verdicts as one by one, each datagram counted once.
#[test]
fn a_large_batch_is_judged_as_its_datagrams_one_by_one() {
    let (mut node, twin) = (Node::new(), Node::new());
    let kinds = [0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x10, 0x77];
    let (mut forwarded, mut dropped) = (Vec::new(), 0);
    for message in 0..16_u16 {
        let port = message % 4;
        let from = twin.neighbors.links().get(usize::from(port));
        let from = from.map(|link| link.neighbor);
        let mut run = Vec::new();
        for n in 0..100_u32 {
            let bits = (n * 7 + u32::from(message)).wrapping_mul(0x9E37_79B9) >> 12;
            let kind = kinds[bits as usize % 8];
            let flags = if bits & 8 == 0 { 0 } else { 0x80 };
            let dst = [US, 0, ALL, 0x99][(bits >> 4) as usize % 4];
            let src = [7, 8, 9, US][(bits >> 6) as usize % 4];
            let mut one = datagram(kind, flags, bits as u8 % 4, src, dst, &[0x45; 24]);
            one[0] ^= u8::from(bits.is_multiple_of(50));
            let start = u32::from(message) * RX_BUFFER_LEN as u32 + n * 40;
            match twin.flood.judge(NOW, from, &one) {
                Verdict::New { forward: true, .. } => forwarded.push(TxItem {
                    span: Span { start, len: 40 },
                    except: from,
                    zones: Zones::All,
                    alone: false,
                }),
                Verdict::New { .. } => {}
                Verdict::Drop(_) => dropped += 1,
            }
            run.extend(one);
        }
        node.push(port, 40, &run);
    }
    node.run();
    assert_eq!(node.tx.items(), forwarded);
    assert!(!forwarded.is_empty());
    assert_eq!(node.counted(), (1600, 1600));
    let passed = node.counters.total(Total::Flooded) + node.counters.total(Total::Control);
    assert_eq!(passed, 1600 - dropped);
}

#[test]
fn what_goes_alone_is_sent_with_a_header_and_not_remembered() {
    let mut node = Node::new();
    let mut arena = vec![0x45; 40];
    let packets = [(0, true), (20, false)].map(|(start, alone)| Outgoing {
        span: Span { start, len: 20 },
        dst: NetId(1),
        flags: Flags::NONE,
        zones: Zones::All,
        alone,
    });
    let mut nonce = || 7;
    let (flood, tx) = (&node.flood, &mut node.tx);
    node.pump
        .originate(NOW, flood, &packets, &mut arena, &mut nonce, tx);
    let alone: Vec<_> = node.tx.items().iter().map(|item| item.alone).collect();
    assert_eq!(alone, [true, false]);
    // Both have the same bytes, yet the second is the first that is remembered.
    assert_eq!(arena[..20], arena[20..]);
    assert_eq!(node.flood.seen().entries(), 1);
}

#[test]
fn what_comes_alone_is_delivered_unremembered_and_what_goes_on_is_judged_as_ever() {
    let mut node = Node::new();
    let mut receive = |dst: u32, alone: bool| {
        let bytes = datagram(0x10, 0, 7, 9, dst, &[0x45; 20]);
        node.rx.clear();
        node.tx.clear();
        node.push(0, bytes.len(), &bytes);
        let mut message = node.rx.messages()[0];
        message.alone = alone;
        node.rx.clear();
        node.rx.push(message);
        let got = node.run().len();
        (got, node.tx.items().len(), node.flood.seen().entries())
    };
    assert_eq!(receive(US, true), (1, 0, 0));
    assert_eq!(receive(US, true), (1, 0, 0));
    assert_eq!(receive(US, false), (1, 0, 1));
    assert_eq!(receive(US, false), (0, 0, 1));
    // To be forwarded: it may come back another way, whatever its sender says.
    assert_eq!(receive(0x77, true), (0, 1, 2));
    assert_eq!(receive(0x77, true), (0, 0, 2));
}

#[test]
fn packets_become_messages_whose_echo_is_known() {
    let mut node = Node::new();
    let mut arena = vec![0xA5; 200 * 20];
    let packets: Vec<_> = (0..200)
        .map(|n| Outgoing {
            span: Span {
                start: n * 20,
                len: 20,
            },
            dst: NetId::ALL,
            flags: Flags::NONE,
            zones: Zones::All,
            alone: false,
        })
        .collect();
    // The generator repeats itself once; equal packets must differ all the same.
    let mut drawn = [1, 1].into_iter().chain(2..);
    let mut nonce = || drawn.next().unwrap();
    node.pump.originate(
        NOW,
        &node.flood,
        &packets,
        &mut arena,
        &mut nonce,
        &mut node.tx,
    );
    assert_eq!(node.tx.items().len(), 200);
    assert!(node.tx.items().iter().all(|item| item.except.is_none()));
    assert_eq!(
        arena[..20],
        [
            0xAC, 1, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0x2a, 0xFF, 0xFF, 0xFF, 0xFF, 0xA5, 0xA5, 0xA5,
            0xA5
        ]
    );
    let mut different: Vec<_> = arena.chunks(20).collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 200);
    for message in arena.chunks(20) {
        assert_eq!(node.receive(0, message), []);
    }
    assert_eq!(node.dropped(DropReason::OwnEcho), 200);
}

/// S87, S90: what comes in both zones is delivered once, by the copy that may be.
#[test]
fn a_message_of_both_zones_is_delivered_once_and_not_lost_to_a_copy_that_is_refused() {
    let mut node = Node::new();
    let zone = OpenZone::new(Bridge::Off, KeyedHasher(1, 2));
    let neighbors = std::mem::replace(&mut node.neighbors, NeighborSet::empty());
    node.neighbors = neighbors.zoned(Arc::new(zone), |link| link.neighbor == 1);
    node.notes.prefers = true;
    let (sealed, open) = (0, 2);
    // In clear, over the sealed link first: refused there, and delivered from the other.
    let clear = datagram(0x10, 0, 1, 7, ALL, &[0x45, 1, 2]);
    assert_eq!(node.receive(sealed, &clear), []);
    assert_eq!(node.dropped(DropReason::ClearData), 1);
    let packet = Got::Device(NetId(7), NetId::ALL, vec![0x45, 1, 2]);
    assert_eq!(node.receive(open, &clear), [packet]);
    assert_eq!(node.receive(open, &clear), []);
    // What may be delivered from either comes from the first.
    let hidden = datagram(0x10, 0, 2, 7, ALL, &[0xC8, 1, 2]);
    let got = [Got::Sealed(LinkId(0), NetId(7))];
    assert_eq!(node.receive(sealed, &hidden), got);
    assert_eq!(node.receive(open, &hidden), []);
    let ping = datagram(0x03, 0, 3, 7, ALL, &[]);
    assert_eq!(node.receive(open, &ping).len(), 1);
    assert_eq!(node.receive(sealed, &ping), []);
    assert_eq!(node.counters.total(Total::Flooded), 6);
}
