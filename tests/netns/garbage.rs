//! A flood of datagrams that mean nothing, from thousands of addresses, at one sealed node.
//!
//! ```text
//!   a --- b --- x      x floods b with what nobody of the mesh said, while a speaks with b
//! ```
//!
//! The figures are printed; what is asserted does not hang on how fast the machine is, but for one
//! generous bound. How much of its goodput a link keeps is asked by `.ci/long` alone: it needs two
//! processors of its own, one for the flood and one for everything else.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use overlay_tests::flood::{Flood, SOURCES};
use overlay_tests::mesh::{Mesh, PORT, Turn, may_run, netid, overlay_v4};
use overlay_tests::pinning::{pin_process, pin_thread, processors};
use socket2::Socket;
use wire::sealed::{COOKIE_LEN, SEALED_MAGIC, SealedKind};
use wire::{MAGIC, VERSION};

use crate::attack::is_long;
use crate::sealed::{udp_payload, watched_pair, wiretap};

const MIB: u64 = 1 << 20;
/// Datagrams a second: what every machine that runs tests can take.
const GENTLE: u64 = 50_000;
/// What a link has to stand, with what is lost on the way on top.
const FIERCE: u64 = 600_000;
/// How many of those have to come to where the node counts them for the claim to be shown in full; how many do
/// is the machine's affair.
const ARRIVING: f64 = 500_000.0;
/// What a link keeps of its goodput meanwhile.
const KEPT: f64 = 0.8;

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
        // For nobody's INIT.
        let mut cookie = noise(seed, COOKIE_LEN);
        cookie[..4].copy_from_slice(&[SEALED_MAGIC, SealedKind::Cookie.to_byte(), 0, 0]);
        all.push(cookie);
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

/// What the node refuses, by the names that it has for it; each kind of garbage is one of these.
const REFUSED: [&str; 4] = ["forged", "handshake", "not_sealed", "malformed"];

impl Siege {
    fn refused(&self) -> [u64; 4] {
        REFUSED.map(|name| self.mesh.node('b').counter(name))
    }

    /// What the kernel did not give to the node.
    fn lost_by_kernel(&self) -> u64 {
        self.mesh.node('b').counter("socket_drops") + backlog_drops()
    }

    /// What holds after any flood.
    fn check(&self, lines_before: usize) {
        let node = self.mesh.node('b');
        let memory = resident(node.pid());
        let lines = node.log().lines().count() - lines_before;
        println!(
            "resident {:.0} MiB; {lines} log lines; load {}",
            memory as f64 / MIB as f64,
            fs::read_to_string("/proc/loadavg").unwrap().trim(),
        );
        let answers = answers(&self.wiretap);
        assert_eq!(answers, 0, "datagrams to those who never asked");
        assert!(memory < 256 * MIB, "{memory}");
        assert!(lines < 100, "{lines}: {}", node.log());
        assert_eq!(node.live_links(), [netid('a')]);
        self.mesh.wait_ping('a', 'b');
    }
}

#[test]
fn garbage_from_everywhere_costs_a_sealed_node_little_and_gets_no_answer() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let siege = siege();
    let node = siege.mesh.node('b');
    assert_eq!(node.live_links(), [netid('a')]);
    let duration = Duration::from_secs(4);
    let before = (siege.refused(), siege.lost_by_kernel());
    let lines = node.log().lines().count();
    let (figures, sent) = thread::scope(|scope| {
        let flood = scope.spawn(|| siege.flood.run(duration, GENTLE));
        let stream = siege.mesh.stream('a', 'b');
        (stream.run(duration / 4, |_| {}), flood.join().unwrap())
    });
    let lost_by_kernel = siege.lost_by_kernel() - before.1;
    println!(
        "{:.0} garbage datagrams/s for {duration:?}; the kernel dropped {lost_by_kernel}; of {} packets \
         beside it {} were lost",
        sent as f64 / duration.as_secs_f64(),
        figures.sent,
        figures.lost,
    );
    assert!(sent > 10_000, "it was a flood: {sent}");
    for (before, after) in before.0.into_iter().zip(siege.refused()) {
        assert!(after > before + 100, "each kind arrived: {}", node.facts());
    }
    siege.check(lines);
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

/// Both daemons and both ends of the stream share one processor, with and without the flood, which has
/// the other one; so what the node spends on it is missing from the goodput.
#[test]
fn half_a_million_garbage_datagrams_a_second_leave_a_link_four_fifths_of_its_goodput() {
    const ROUNDS: usize = 5;
    if !may_run() || !is_long() {
        return;
    }
    if processors() < 2 {
        return println!("skipped: needs two processors");
    }
    let _turn = Turn::alone();
    let siege = siege();
    let node = siege.mesh.node('b');
    for name in ['a', 'b'] {
        assert!(pin_process(siege.mesh.node(name).pid(), 0), "pinned");
    }
    assert!(pin_thread(0), "pinned");
    let lines = node.log().lines().count();
    let flooded = Duration::from_secs(6);
    let (mut idle, mut under, mut arrived) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        idle.push(goodput(&siege.mesh, flooded / 2));
        let before = (siege.refused(), siege.lost_by_kernel());
        let goodput = thread::scope(|scope| {
            scope.spawn(|| siege.flood.run(flooded, FIERCE));
            thread::sleep(flooded / 6);
            goodput(&siege.mesh, flooded / 2)
        });
        under.push(goodput);
        let refused = siege.refused().iter().sum::<u64>() - before.0.iter().sum::<u64>();
        arrived.push(refused as f64 / flooded.as_secs_f64());
        println!(
            "round {round}: {:.0} garbage datagrams/s arrived, {} lost by the kernel; TCP {:.0} Mbit/s of {:.0}, {:.0} %",
            arrived[round],
            siege.lost_by_kernel() - before.1,
            under[round] * 8e-6,
            idle[round] * 8e-6,
            100.0 * under[round] / idle[round],
        );
    }
    siege.check(lines);
    let [idle, under, arrived] = [idle, under, arrived].map(median);
    println!(
        "medians: {arrived:.0} datagrams/s, {:.0} % kept",
        100.0 * under / idle
    );
    if arrived < ARRIVING {
        println!("this machine cannot throw so much: {arrived:.0}/s came");
    }
    assert!(under >= KEPT * idle, "{under} of {idle}");
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What the kernel dropped before any socket, since its queue of packets between interfaces was full.
fn backlog_drops() -> u64 {
    let table = fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let dropped = |line: &str| u64::from_str_radix(line.split(' ').nth(1)?, 16).ok();
    table.lines().filter_map(dropped).sum()
}
