//! Every option of a real kernel, on and off: what programs send comes out as sound packets of the
//! MTU, and what is written back arrives.
//!
//! ```text
//!   socket a -> 10.44.0.2:b  ==>  [ device: cut ] -> mirror -> [ merge ]  ==>  10.44.0.2:a -> socket b
//! ```
//!
//! The mirror swaps the addresses of each packet, so that both ends are sockets of this host.
//! Needs root and /dev/net/tun, as the tests in `tests/kernel`.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{setsockopt, sockopt};

use super::naive;
use crate::batch::ReadBatch;
use crate::device::{Device, Mode, WriteOutcome};
use crate::linux::ask_unfinished;
use crate::linux::unfinished::{CHECKSUM, TCP_ECN, TCP4, TCP6, UDP};
use crate::open::{OffloadChoice, OpenConfig, open};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);
const MTU: u32 = 1_400;
/// Bytes of each stream.
const LEN: usize = 1 << 20;
/// Payload of each datagram, and how many.
const DATAGRAM: usize = 1_200;
const DATAGRAMS: usize = 40;
const ENDS: [(&str, &str); 2] = [("10.44.0.1", "10.44.0.2"), ("fdac:1:2::2a", "fdac:1:2::7")];

fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        let is_able =
            std::fs::metadata("/dev/net/tun").is_ok() && unshare(CloneFlags::CLONE_NEWNET).is_ok();
        if is_able {
            return test();
        }
        let must_run = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!must_run, "needs root and /dev/net/tun, and CI is true");
        println!("skipped: needs root and /dev/net/tun");
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn config() -> OpenConfig {
    OpenConfig {
        name: "mesh0".into(),
        mode: Mode::Tun,
        mtu: MTU,
        mac: None,
        link_local: None,
        addresses: ["10.44.0.1/24", "fdac:1:2::2a/64"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        offload: OffloadChoice::On,
        queues: 1,
        strict: false,
    }
}

/// Swaps the ends of a packet, in place; all checksums stay right. Passes over what is not TCP or UDP.
fn turn(packet: &mut [u8]) -> bool {
    let Some(at) = naive::layout(false, packet) else {
        return false;
    };
    let (start, len) = match packet[at.ip] >> 4 {
        4 => (at.ip + 12, 4),
        _ => (at.ip + 8, 16),
    };
    let (source, target) = packet[start..start + 2 * len].split_at_mut(len);
    source.swap_with_slice(target);
    [6, 17].contains(&at.protocol)
}

/// Mirrors until `is_over`, looking at each packet; returns how many there were.
fn mirror(device: &mut dyn Device, is_over: &AtomicBool) -> usize {
    let mut batch = ReadBatch::new(128, 0, device.info().max_packet());
    let mut count = 0;
    while !is_over.load(Relaxed) {
        batch.clear();
        if device.read_batch(&mut batch).unwrap() == 0 {
            let mut fds = [PollFd::new(device.readiness().unwrap(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(10_u8)).unwrap();
            continue;
        }
        let mut turned = Vec::new();
        for slot in batch.packets() {
            let mut packet = slot.of(batch.arena()).to_vec();
            assert!(packet.len() <= device.info().max_packet());
            if turn(&mut packet) {
                assert!(naive::is_sound(false, &packet), "{packet:?}");
                turned.push(packet);
            }
        }
        count += turned.len();
        let mut packets = turned.iter().map(Vec::as_slice);
        device.write_batch(&mut packets, &mut |_, outcome| {
            assert_eq!(outcome, WriteOutcome::Written);
        });
    }
    assert_eq!(batch.truncated(), 0, "nothing was left out");
    count
}

/// Runs `talk` in this namespace while the device is mirrored; returns how many packets there were.
fn through_a_mirror(device: &mut dyn Device, talk: impl FnOnce() + Send) -> usize {
    let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let talker = scope.spawn(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(talk));
            is_over.store(true, Relaxed);
            done
        });
        let count = mirror(device, &is_over);
        if let Err(panic) = talker.join().unwrap() {
            std::panic::resume_unwind(panic);
        }
        count
    })
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n ^ n >> 8 ^ n >> 16) as u8)
        .collect()
}

fn talk_tcp(near: IpAddr, far: IpAddr) {
    let listener = TcpListener::bind((near, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = pattern(LEN);
    let received = thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(far, port), PATIENCE).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&sent).unwrap();
        drop(stream);
        receiver.join().unwrap()
    });
    assert!(received == sent, "{} of {LEN} bytes", received.len());
}

/// One send that the kernel is to cut (`UDP_SEGMENT`).
fn talk_udp(near: IpAddr, far: IpAddr) {
    let receiver = UdpSocket::bind((near, 0)).unwrap();
    let sender = UdpSocket::bind((near, 0)).unwrap();
    let target = SocketAddr::new(far, receiver.local_addr().unwrap().port());
    let sent = pattern(DATAGRAM * DATAGRAMS - 7);
    let mut room = [0; 2_000];
    // A new IPv6 address is deliverable some milliseconds after the kernel took it.
    receiver
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let came =
        (0..200).any(|_| sender.send_to(b"", target).is_ok() && receiver.recv(&mut room).is_ok());
    assert!(came, "{near} hears itself");
    while receiver.recv(&mut room).is_ok() {}
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    setsockopt(&sender, sockopt::UdpGsoSegment, &(DATAGRAM as i32)).unwrap();
    assert_eq!(sender.send_to(&sent, target).unwrap(), sent.len());
    for (number, part) in sent.chunks(DATAGRAM).enumerate() {
        let len = receiver.recv(&mut room).unwrap();
        assert!(room[..len] == *part, "datagram {number}: {len} bytes");
    }
}

#[test]
fn every_option_of_a_kernel_may_be_on_or_off() {
    in_namespace(|| {
        let mut device = open(&config()).unwrap().queues.remove(0);
        let tcp = TCP4 | TCP6 | TCP_ECN;
        for kinds in [0, CHECKSUM, TCP4, TCP6, tcp, UDP, UDP | TCP6, tcp | UDP] {
            let kinds = if kinds == 0 { 0 } else { kinds | CHECKSUM };
            if ask_unfinished(device.readiness().unwrap().as_fd(), kinds).is_err() {
                assert!(kinds & UDP != 0, "only UDP is younger than what we support");
                println!("skipped: {kinds:#x} is not in this kernel");
                continue;
            }
            let count = through_a_mirror(&mut *device, || {
                for (near, far) in ENDS {
                    talk_tcp(near.parse().unwrap(), far.parse().unwrap());
                    talk_udp(near.parse().unwrap(), far.parse().unwrap());
                }
            });
            println!("{kinds:#x}: {count} packets");
            assert!(count > 2 * (LEN / MTU as usize + DATAGRAMS));
        }
    });
}
