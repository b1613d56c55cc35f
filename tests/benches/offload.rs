//! Nanoseconds a packet of the offload device without a kernel: cutting super-packets, merging
//! packets, making and verifying checksums; and plain copies of as many bytes, for comparison.
//!
//! Run: `cargo bench -p overlay-tests --bench offload`. The device is the real one; its kernel is in
//! memory, where a read is one copy and a write is none. So `cut` holds two copies of each byte (the
//! read, the segment) and one checksum, `merge` one checksum and no copy.

use std::hint::black_box;
use std::net::Ipv6Addr;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use overlay_tests::packets::{TCP, UDP, headers_len, packet, single_packet, super_packet};
use tuntap::{Device, DeviceInfo, Mode, Offload, OffloadHandle, ReadBatch, offload_pair};

/// Packets of each batch.
const COUNT: usize = 44;
/// Bytes of IP packets, small ones and full ones.
const SIZES: [usize; 2] = [64 + 16, 1_400];
const HEADROOM: usize = 16;

fn ends() -> (Ipv6Addr, Ipv6Addr) {
    let end = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
    (end(1), end(2))
}

fn device() -> (Box<dyn Device>, OffloadHandle) {
    let info = DeviceInfo {
        name: "mesh0".into(),
        mode: Mode::Tun,
        index: 1,
        mtu: 1_400,
        offload: Offload::TcpUdp,
    };
    offload_pair(info).expect("a descriptor is left")
}

/// Copies as many bytes as `COUNT` packets have, one by one.
fn copy(c: &mut Criterion) {
    for size in SIZES {
        let from = vec![0x5A; size * COUNT];
        let mut to = vec![0; (size + HEADROOM) * COUNT];
        let mut group = c.benchmark_group(format!("offload/{size}"));
        group.throughput(Throughput::Elements(COUNT as u64));
        group.bench_function("copy", |b| {
            b.iter(|| {
                let slots = to.chunks_exact_mut(size + HEADROOM);
                for (slot, packet) in slots.zip(black_box(&from).chunks_exact(size)) {
                    slot[HEADROOM..].copy_from_slice(packet);
                }
                black_box(&mut to);
            });
        });
        group.finish();
    }
}

fn cut(c: &mut Criterion) {
    for size in SIZES {
        let mut group = c.benchmark_group(format!("offload/{size}"));
        group.throughput(Throughput::Elements(COUNT as u64));
        for (name, protocol) in [("cut_tcp", TCP), ("cut_udp", UDP)] {
            let (mut device, kernel) = device();
            let payload = size - headers_len(protocol);
            let whole: Arc<[u8]> = super_packet(protocol, ends(), payload, COUNT).into();
            let mut batch = ReadBatch::for_device(device.info(), HEADROOM);
            group.bench_function(name, |b| {
                b.iter(|| {
                    batch.clear();
                    assert!(kernel.inject(&whole));
                    assert_eq!(device.read_batch(&mut batch).expect("it is up"), COUNT);
                    black_box(batch.arena());
                });
            });
        }
        // One packet a read: the difference between the two is the checksum.
        for (name, is_finished) in [("single", true), ("single_unfinished", false)] {
            let (mut device, kernel) = device();
            let payload = vec![0x5A; size - headers_len(TCP)];
            let one = packet(TCP, ends(), 0, &payload);
            let one: Arc<[u8]> = single_packet(&one, is_finished).into();
            let mut batch = ReadBatch::for_device(device.info(), HEADROOM);
            group.bench_function(name, |b| {
                b.iter(|| {
                    batch.clear();
                    for _ in 0..COUNT {
                        assert!(kernel.inject(&one));
                    }
                    assert_eq!(device.read_batch(&mut batch).expect("it is up"), COUNT);
                    black_box(batch.arena());
                });
            });
        }
        group.finish();
    }
}

/// The packets of some flows, one of each in turn.
fn flows(protocol: u8, size: usize, flows: usize) -> Vec<Vec<u8>> {
    let payload = vec![0x5A; size - headers_len(protocol)];
    (0..COUNT)
        .map(|n| {
            let (near, far) = ends();
            let mut near = near.octets();
            near[14] = (n % flows) as u8;
            packet(protocol, (near.into(), far), n / flows, &payload)
        })
        .collect()
}

fn merge(c: &mut Criterion) {
    for size in SIZES {
        let mut group = c.benchmark_group(format!("offload/{size}"));
        group.throughput(Throughput::Elements(COUNT as u64));
        for (name, protocol, count) in [
            ("merge_tcp", TCP, 1),
            ("merge_udp", UDP, 1),
            ("merge_tcp_4_flows", TCP, 4),
            // More than are merged at a time: each packet goes alone.
            ("merge_tcp_44_flows", TCP, COUNT),
        ] {
            let (mut device, kernel) = device();
            let packets = flows(protocol, size, count);
            let mut write = || {
                let mut packets = packets.iter().map(Vec::as_slice);
                device.write_batch(&mut packets, &mut |number, outcome| {
                    let _ = black_box((number, outcome));
                });
            };
            write();
            let writes = kernel.writes();
            let expected = if count == COUNT { COUNT } else { count };
            assert_eq!((writes.merged + writes.single) as usize, expected);
            group.bench_function(name, |b| b.iter(&mut write));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2))
        .sample_size(50);
    targets = copy, cut, merge
}
criterion_main!(benches);
