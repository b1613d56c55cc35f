//! A flood of datagrams that mean nothing, from thousands of addresses, at one sealed node.
//!
//! ```text
//!   a --- b --- x      x floods b with what nobody of the mesh said, while a speaks with b
//! ```
//!
//! The figures are printed; what is asserted does not hang on how fast the machine is, but for one
//! generous bound. `.ci/long` floods without a limit.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use overlay_tests::flood::{Flood, SOURCES};
use overlay_tests::mesh::{Mesh, PORT, Turn, may_run, netid, overlay_v4};
use socket2::Socket;
use wire::sealed::{SEALED_MAGIC, SealedKind};
use wire::{MAGIC, VERSION};

use crate::attack::is_long;
use crate::sealed::{udp_payload, watched_pair, wiretap};

const MIB: u64 = 1 << 20;
/// Datagrams a second: what every machine that runs tests can take.
const GENTLE: u64 = 50_000;
/// As many as it can send.
const UNLIMITED: u64 = u64::MAX;

/// The datagrams of these kinds that a wiretap has heard.
fn recorded(wiretap: &Socket, kind: SealedKind) -> Vec<Vec<u8>> {
    let mut frame = [0; 2_048];
    let (mut datagrams, mut wiretap) = (Vec::new(), wiretap);
    while let Ok(len) = wiretap.read(&mut frame) {
        let payload = udp_payload(&frame[..len])
            .filter(|payload| payload.starts_with(&[SEALED_MAGIC, kind.to_byte()]));
        datagrams.extend(payload.map(<[u8]>::to_vec));
    }
    datagrams
}

/// UDP datagrams of b to x, under its own address or one that it only pretends to have.
fn answers(wiretap: &Socket) -> u64 {
    const TO_X: [u8; 3] = [10, 64, 2];
    let mut frame = [0; 2_048];
    let (mut count, mut wiretap) = (0, wiretap);
    while let Ok(len) = wiretap.read(&mut frame) {
        let Some(packet) = frame[..len].get(14..) else {
            continue;
        };
        let is_of_daemon =
            udp_payload(&frame[..len]).is_some() && packet.get(20..22) == Some(&PORT.to_be_bytes());
        let to = packet.get(16..20).unwrap_or_default();
        let is_to_x = to.starts_with(&SOURCES) || to.starts_with(&TO_X);
        count += u64::from(is_of_daemon && is_to_x);
    }
    count
}

/// Nothing that anybody said: noise, and datagrams of ours with a mac or a tag that is wrong.
fn garbage(init: &[u8], link: &[u8]) -> Vec<Vec<u8>> {
    let noise = |seed: u32, len: usize| -> Vec<u8> {
        let mut state = seed;
        let step = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(step).take(len).collect()
    };
    let mut all = Vec::new();
    for seed in 0..16 {
        all.push(noise(seed, 64));
        // The open protocol, which a sealed node does not speak.
        let mut plain = noise(seed, 40);
        plain[..2].copy_from_slice(&[MAGIC, VERSION]);
        all.push(plain);
        // It begins as ours do.
        let mut ours = noise(seed, 200);
        ours[..2].copy_from_slice(&[SEALED_MAGIC, seed as u8 % 8]);
        all.push(ours);
        // Whoever it is for is asked to do the expensive work.
        let mut init = init.to_vec();
        let at = init.len() - 1 - seed as usize;
        init[at] ^= 0x55;
        all.push(init);
        // It names a session that there is, with a counter that is new.
        let mut link = link.to_vec();
        link[12] = 0x80 + seed as u8;
        let tag = link.len() - 1;
        link[tag] ^= 0xAA;
        all.push(link);
    }
    all
}

/// Resident memory of a process, bytes.
fn resident(pid: nix::unistd::Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<u64>().unwrap() * 1_024
}

/// A sealed pair and an attacker beside it, with what was recorded of the pair.
struct Siege {
    mesh: Mesh,
    flood: Flood,
    wiretap: Socket,
}

fn siege() -> Siege {
    let (mesh, tap) = watched_pair();
    let init = recorded(&tap, SealedKind::Init).pop().unwrap();
    mesh.stream('a', 'b')
        .run(Duration::from_millis(200), |_| {});
    // Longer ones may be trains.
    let mut links = recorded(&tap, SealedKind::Link).into_iter();
    let link = links.rfind(|link| link.len() < 400).unwrap();
    // Answers to the spoofed would go to x.
    let (b, x) = (mesh.underlay("bx")[0], mesh.underlay("xb")[0]);
    let everything = "0.0.0.0/0".parse().unwrap();
    mesh.machine('b').add_route(everything, x).unwrap();
    let IpAddr::V4(b) = b else {
        panic!("the wires carry IPv4");
    };
    let to = SocketAddrV4::new(b, PORT);
    let flood = Flood::new(mesh.machine('x'), to, &garbage(&init, &link));
    let wiretap = mesh.machine('x').run(wiretap).unwrap();
    Siege {
        mesh,
        flood,
        wiretap,
    }
}

/// Bytes a second that TCP carries from a to b in `duration`.
fn goodput(mesh: &Mesh, duration: Duration) -> f64 {
    let here = SocketAddr::new(overlay_v4('b'), 0);
    let listener = mesh.machine('b').run(|| TcpListener::bind(here));
    let listener = listener.unwrap().unwrap();
    let to = listener.local_addr().unwrap();
    thread::scope(|scope| {
        let taken = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = vec![0; 1 << 16];
            let (start, mut bytes) = (Instant::now(), 0);
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                bytes += len;
            }
            bytes as f64 / start.elapsed().as_secs_f64()
        });
        let stream = mesh.machine('a').run(|| TcpStream::connect(to));
        let mut stream = stream.unwrap().unwrap();
        let (end, buffer) = (Instant::now() + duration, vec![7; 1 << 16]);
        while Instant::now() < end {
            stream.write_all(&buffer).unwrap();
        }
        drop(stream);
        taken.join().unwrap()
    })
}

#[test]
fn garbage_from_everywhere_costs_a_sealed_node_little_and_gets_no_answer() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let Siege {
        mesh,
        flood,
        wiretap,
    } = siege();
    let node = mesh.node('b');
    let links = node.live_links();
    assert_eq!(links, [netid('a')]);
    let refused =
        || ["forged", "handshake", "not_sealed", "malformed"].map(|name| node.counter(name));
    let drops = || node.counter("socket_drops") + backlog_drops();
    let duration = Duration::from_secs(if is_long() { 20 } else { 4 });
    let before = (refused(), drops(), node.log().lines().count());
    let idle = is_long().then(|| goodput(&mesh, duration / 2));
    let rate = if is_long() { UNLIMITED } else { GENTLE };
    let (figures, sent, under) = thread::scope(|scope| {
        let flood = scope.spawn(|| flood.run(duration, rate));
        let figures = mesh.stream('a', 'b').run(duration / 4, |_| {});
        let under = is_long().then(|| goodput(&mesh, duration / 2));
        (figures, flood.join().unwrap(), under)
    });
    let memory = resident(node.pid());
    let lost_by_kernel = drops() - before.1;
    let lines = node.log().lines().count() - before.2;
    println!(
        "{:.0} garbage datagrams/s for {duration:?}; the kernel dropped {lost_by_kernel}; of {} packets \
         beside it {} were lost; resident {:.0} MiB; {lines} log lines; load {}",
        sent as f64 / duration.as_secs_f64(),
        figures.sent,
        figures.lost,
        memory as f64 / MIB as f64,
        fs::read_to_string("/proc/loadavg").unwrap().trim(),
    );
    if let (Some(idle), Some(under)) = (idle, under) {
        let mbit = |rate: f64| rate * 8.0 / 1e6;
        println!(
            "TCP beside it: {:.0} Mbit/s of {:.0}, {:.0} %",
            mbit(under),
            mbit(idle),
            100.0 * under / idle
        );
    }
    assert!(sent > 10_000, "it was a flood: {sent}");
    for (before, after) in before.0.into_iter().zip(refused()) {
        assert!(after > before + 100, "each kind arrived: {}", node.facts());
    }
    assert_eq!(answers(&wiretap), 0, "datagrams to those who never asked");
    assert!(memory < 256 * MIB, "{memory}");
    assert!(lines < 100, "{lines}: {}", node.log());
    assert_eq!(node.live_links(), links);
    mesh.wait_ping('a', 'b');
    assert!(
        figures.duplicated == 0 && figures.loss() < 0.5,
        "{figures:?}"
    );
    // What the kernel never gave us is not ours to deliver; everything else is.
    assert!(
        figures.lost as u64 <= lost_by_kernel,
        "{figures:?}, {lost_by_kernel}"
    );
}

/// What the kernel dropped before any socket, since its queue of packets between interfaces was full.
fn backlog_drops() -> u64 {
    let table = fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let dropped = |line: &str| u64::from_str_radix(line.split(' ').nth(1)?, 16).ok();
    table.lines().filter_map(dropped).sum()
}
