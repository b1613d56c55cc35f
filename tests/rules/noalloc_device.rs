//! The way between device and mesh allocates nothing once its flows are known: what a worker does
//! with the packets of a TUN device and the frames of a TAP device, in both directions.

use std::net::Ipv6Addr;
use std::sync::Arc;

use overlay::daemon::port::Port;
use overlay::daemon::shared::Snapshot;
use overlay::daemon::worker::deliver::Delivery;
use overlay::keyed::KeyedHasher;
use overlay::node::snapshot::NeighborSet;
use overlay::pump::Packet;
use overlay::pump::rx::Span;
use overlay::route::address::{Mesh, mac};
use overlay::route::known::Known;
use overlay::route::learned::Learned;
use overlay::route::routes::Routes;
use overlay::route::storm::StormRates;
use overlay::route::switch::Switch;
use overlay::route::tap::Tap;
use overlay::route::tun::Tun;
use overlay::route::underlay::Underlay;
use overlay::time::Instant;
use tuntap::{
    Device, DeviceInfo, MemoryDevice, MemoryHandle, Mode, Offload, ReadBatch, WriteOutcome,
};
use wire::NetId;

use crate::noalloc::allocations;

const ME: NetId = NetId(1);
const PEER: NetId = NetId(2);
const MTU: u16 = 1400;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUNDS: u64 = 20;

/// A worker's parts between the device and the pump.
struct Bench {
    device: MemoryDevice,
    kernel: MemoryHandle,
    port: Port,
    read: ReadBatch,
    delivery: Delivery,
    snapshot: Snapshot,
}

impl Bench {
    fn new(mode: Mode, port: Port) -> Self {
        let info = DeviceInfo {
            name: "mesh0".into(),
            mode,
            index: 1,
            mtu: MTU.into(),
            offload: Offload::None,
        };
        let read = ReadBatch::for_device(&info, port.headroom());
        let (device, kernel) = MemoryDevice::pair(info);
        let snapshot = Snapshot {
            neighbors: Arc::new(NeighborSet::empty()),
            routes: Arc::new(Routes::new(ME, Mesh::default(), &[], [], [], 1)),
            underlay: Arc::new(Underlay::default()),
            sessions: None,
            ends: None,
            known: Arc::new(Known::new([PEER])),
        };
        Self {
            device,
            kernel,
            port,
            read,
            delivery: Delivery::default(),
            snapshot,
        }
    }

    /// Reads what waits and decides about it; returns how many go somewhere.
    fn send(&mut self, now: Instant) -> usize {
        self.read.clear();
        let count = self
            .device
            .read_batch(&mut self.read)
            .expect("the device is up");
        let mut sent = 0;
        for number in 0..count {
            let slot = self.read.packets()[number];
            let packet = slot.of(self.read.arena());
            if self.port.outgoing(now, &self.snapshot, packet).is_ok() {
                let (start, len) = (slot.start, slot.len);
                let arena = self.read.arena_mut();
                self.port.edit(Span { start, len }.of_mut(arena));
                self.port.frame(arena, start);
                sent += 1;
            }
        }
        sent
    }

    /// Writes those of `payloads` that may be delivered; returns how many.
    fn deliver(&mut self, now: Instant, arena: &[u8], payloads: &[Packet]) -> usize {
        self.delivery.clear();
        for packet in payloads {
            let span = packet.payload;
            let judged = self
                .port
                .incoming(now, &self.snapshot, *packet, span.of(arena));
            if let Ok(skip) = judged {
                let span = Span {
                    start: span.start + skip,
                    len: span.len - skip,
                };
                self.delivery.push(&self.port, arena, span);
            }
        }
        let mut written = 0;
        self.device
            .write_batch(&mut self.delivery.packets(arena), &mut |_, outcome| {
                written += usize::from(outcome == WriteOutcome::Written);
            });
        written
    }
}

/// An IPv6 packet between derived addresses: UDP, or TCP's first with a segment size too large.
fn packet(from: NetId, to: NetId, protocol: u8) -> Vec<u8> {
    let upper = match protocol {
        TCP => vec![
            0, 5, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0xFF, 0xFF, 0, 0, 0, 0, 2, 4, 0x05,
            0xB4,
        ],
        _ => vec![
            0, 5, 0, 6, 0, 28, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
            19, 20,
        ],
    };
    let mut bytes = vec![0x60, 0, 0, 0, 0, upper.len() as u8, protocol, 64];
    for netid in [from, to] {
        let address: Ipv6Addr = Mesh::default().address(netid);
        bytes.extend(address.octets());
    }
    bytes.extend(upper);
    bytes
}

fn frame(from: NetId, to: [u8; 6], packet: &[u8]) -> Vec<u8> {
    [&to[..], &mac(from), &[0x86, 0xDD], packet].concat()
}

/// Runs both ways some seconds long; all packets must pass, and only the first round may allocate.
fn assert_nothing_is_allocated(mut bench: Bench, out: &[Vec<u8>], payloads: &[(NetId, Vec<u8>)]) {
    let mut arena = Vec::new();
    let mut packets = Vec::new();
    for (dst, payload) in payloads {
        packets.push(Packet {
            origin: PEER,
            dst: *dst,
            payload: Span {
                start: arena.len() as u32,
                len: payload.len() as u32,
            },
        });
        arena.extend(payload);
    }
    for round in 0..ROUNDS {
        for packet in out {
            assert!(bench.kernel.inject(packet));
        }
        let now = Instant(round * 300_000);
        let before = allocations();
        let sent = bench.send(now);
        let delivered = bench.deliver(now, &arena, &packets);
        let after = allocations();
        assert_eq!(
            (sent, delivered),
            (out.len(), packets.len()),
            "round {round}"
        );
        // The first round learns who is where, and the twin's queues grow to what they need.
        if round > 0 {
            assert_eq!(after, before, "round {round}");
        }
        bench.kernel.take_written();
    }
}

#[test]
fn packets_of_a_tun_device_pass_without_allocation() {
    let learned = Arc::new(Learned::new(KeyedHasher(1, 2)));
    let bench = Bench::new(Mode::Tun, Port::tun(Tun::new(MTU, learned), MTU));
    let out = [packet(ME, PEER, UDP), packet(ME, PEER, TCP)];
    let payloads = [UDP, TCP].map(|protocol| (ME, packet(PEER, ME, protocol)));
    assert_nothing_is_allocated(bench, &out, &payloads);
}

#[test]
fn frames_of_a_tap_device_pass_without_allocation() {
    let rates = StormRates::default();
    let switch = Arc::new(Switch::new(ME, Mesh::default(), rates, KeyedHasher(1, 2)));
    let bench = Bench::new(Mode::Tap, Port::tap(Tap::new(MTU, switch), MTU));
    let out = [UDP, TCP].map(|protocol| frame(ME, mac(PEER), &packet(ME, PEER, protocol)));
    let broadcast = frame(PEER, [0xFF; 6], &packet(PEER, ME, UDP));
    let single = frame(PEER, mac(ME), &packet(PEER, ME, TCP));
    let payloads = [(NetId::ALL, broadcast), (ME, single)]
        .map(|(dst, frame)| (dst, [&[0xC0][..], &frame].concat()));
    assert_nothing_is_allocated(bench, &out, &payloads);
}
