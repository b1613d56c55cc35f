//! Super-packets through a real kernel: what programs send comes out whole, in fewer system calls.
//!
//! The far end is a mirror: it swaps the two addresses of each packet and writes it back, so that
//! both ends of every connection are sockets of this host. Swapping leaves all checksums right.
//!
//! ```text
//!   10.44.0.1:a -> 10.44.0.2:b   becomes   10.44.0.2:a -> 10.44.0.1:b
//! ```

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tuntap::{Device, Offload, OffloadChoice, OpenConfig, ReadBatch, WriteOutcome};

use crate::host::*;

/// Bytes that cross the mirror in one direction.
const LEN: usize = 4 << 20;
/// Addresses of this host and of the mirror.
const ENDS: [(&str, &str); 2] = [("10.44.0.1", "10.44.0.2"), ("fdac:1:2::2a", "fdac:1:2::7")];

/// What the mirror did.
#[derive(Clone, Copy, Debug, Default)]
struct Mirrored {
    packets: usize,
    batches: usize,
    refused: usize,
}

fn swap_addresses(packet: &mut [u8]) {
    let (at, len) = match packet[0] >> 4 {
        4 => (12, 4),
        _ => (8, 16),
    };
    let (source, target) = packet[at..at + 2 * len].split_at_mut(len);
    source.swap_with_slice(target);
}

/// Mirrors until `is_over`.
fn mirror(device: &mut dyn Device, is_over: &AtomicBool) -> Mirrored {
    let mut done = Mirrored::default();
    let mut batch = ReadBatch::new(64, 16, device.info().max_packet());
    while !is_over.load(Ordering::Acquire) {
        batch.clear();
        if device.read_batch(&mut batch).unwrap() == 0 {
            let mut fds = [PollFd::new(device.readiness().unwrap(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(10_u8)).unwrap();
            continue;
        }
        done.batches += 1;
        done.packets += batch.packets().len();
        for slot in batch.packets().to_vec() {
            let (start, end) = (slot.start as usize, (slot.start + slot.len) as usize);
            swap_addresses(&mut batch.arena_mut()[start..end]);
        }
        let arena = batch.arena();
        let mut packets = batch.packets().iter().map(|slot| slot.of(arena));
        device.write_batch(&mut packets, &mut |_, outcome| {
            done.refused += usize::from(outcome != WriteOutcome::Written);
        });
    }
    done
}

/// Runs `talk` while a device of `choice` is mirrored.
fn through_a_mirror(choice: OffloadChoice, talk: impl FnOnce() + Send) -> (Offload, Mirrored) {
    let mut device = open(&OpenConfig {
        offload: choice,
        ..tun()
    });
    let offload = device.info().offload;
    let is_over = AtomicBool::new(false);
    let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
    let mirrored = thread::scope(|scope| {
        let talker = scope.spawn(|| {
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            talk();
        });
        let watcher = scope.spawn(|| {
            let result = talker.join();
            is_over.store(true, Ordering::Release);
            result
        });
        let mirrored = mirror(&mut *device, &is_over);
        if let Err(panic) = watcher.join().unwrap() {
            std::panic::resume_unwind(panic);
        }
        mirrored
    });
    (offload, mirrored)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n ^ n >> 8 ^ n >> 16) as u8)
        .collect()
}

/// Sends a pattern over TCP to the far end, which is this host again, and compares.
fn talk_tcp((near, far): (&str, &str)) {
    let (near, far): (IpAddr, IpAddr) = (near.parse().unwrap(), far.parse().unwrap());
    let listener = TcpListener::bind((near, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = pattern(LEN);
    let received = thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut stream, from) = listener.accept().unwrap();
            assert_eq!(from.ip(), far);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(far, port), PATIENCE).unwrap();
        stream.write_all(&sent).unwrap();
        drop(stream);
        receiver.join().unwrap()
    });
    assert!(
        received == sent,
        "{} of {LEN} bytes, or others",
        received.len()
    );
}

/// Sends datagrams in one call that the kernel is to cut (`UDP_SEGMENT`), and compares.
fn talk_udp((near, far): (&str, &str), segment: bool) {
    use nix::sys::socket::{setsockopt, sockopt};
    const SIZE: usize = 1_200;
    let (near, far): (IpAddr, IpAddr) = (near.parse().unwrap(), far.parse().unwrap());
    let receiver = UdpSocket::bind((near, 0)).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = UdpSocket::bind((near, 0)).unwrap();
    let target = SocketAddr::new(far, receiver.local_addr().unwrap().port());
    wait_for_delivery(&sender, &receiver, target);
    let whole = pattern(SIZE * 20 + 77);
    if segment {
        setsockopt(&sender, sockopt::UdpGsoSegment, &(SIZE as i32)).unwrap();
        assert_eq!(sender.send_to(&whole, target).unwrap(), whole.len());
    } else {
        for part in whole.chunks(SIZE) {
            sender.send_to(part, target).unwrap();
        }
    }
    let mut received = Vec::new();
    let mut room = [0; 2_000];
    for number in 0..21 {
        let Ok(len) = receiver.recv(&mut room) else {
            panic!("{near} segment {segment}: only {number} of 21 datagrams came");
        };
        received.extend_from_slice(&room[..len]);
    }
    assert!(received == whole);
}

/// Waits until a datagram arrives: the kernel makes an IPv6 address of a new device deliverable from
/// a work queue, some milliseconds after it took it.
fn wait_for_delivery(sender: &UdpSocket, receiver: &UdpSocket, target: SocketAddr) {
    receiver
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut room = [0; 8];
    loop {
        sender.send_to(b"", target).unwrap();
        match receiver.recv(&mut room) {
            Ok(_) => break,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
    // What else was sent meanwhile.
    while receiver.recv(&mut room).is_ok() {}
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[test]
fn tcp_crosses_whole_with_and_without_offload_and_with_it_in_larger_batches() {
    in_namespace(|| {
        for ends in ENDS {
            let began = Instant::now();
            let (kind, off) = through_a_mirror(OffloadChoice::Off, || talk_tcp(ends));
            assert_eq!((kind, off.refused), (Offload::None, 0));
            let (kind, on) = through_a_mirror(OffloadChoice::Auto, || talk_tcp(ends));
            assert_eq!(on.refused, 0);
            // With another kernel the fallback would have been tested, which is no less good.
            println!("{ends:?} {kind:?} {off:?} {on:?} {:?}", began.elapsed());
            assert!(on.packets > LEN / 1_400);
        }
    });
}

#[test]
fn udp_segments_cross_one_by_one_and_whole() {
    in_namespace(|| {
        for ends in ENDS {
            for segment in [false, true] {
                for choice in [OffloadChoice::Off, OffloadChoice::Auto] {
                    let (_, done) = through_a_mirror(choice, || talk_udp(ends, segment));
                    assert_eq!(done.refused, 0, "{ends:?} {segment} {choice:?}");
                }
            }
        }
    });
}

#[test]
fn what_did_not_fit_into_a_batch_is_held_and_comes_with_the_next() {
    in_namespace(|| {
        let mut device = open(&tun());
        if device.info().offload != Offload::TcpUdp {
            return println!("skipped: no UDP offload in this kernel");
        }
        let sender = UdpSocket::bind("10.44.0.1:0").unwrap();
        nix::sys::socket::setsockopt(&sender, nix::sys::socket::sockopt::UdpGsoSegment, &100)
            .unwrap();
        sender.send_to(&[7; 1_000], "10.44.0.2:9").unwrap();
        let mut batch = ReadBatch::new(4, 16, device.info().max_packet());
        let mut counts = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while counts.iter().sum::<usize>() < 10 {
            assert!(Instant::now() < deadline, "{counts:?}");
            batch.clear();
            device.read_batch(&mut batch).unwrap();
            let is_ours = |len: u32| len == 128;
            let ours = batch
                .packets()
                .iter()
                .filter(|slot| is_ours(slot.len))
                .count();
            counts.extend((ours > 0).then_some(ours));
            thread::sleep(Duration::from_millis(1));
        }
        assert!(counts.len() >= 3, "{counts:?}");
        assert!(!device.holds_packets());
    });
}
