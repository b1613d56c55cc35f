//! Several data threads at each node: one for the way in, the others for the flows that start there.
//!
//! ```text
//!       b
//!      / \
//!     a   d   diamond
//!      \ /
//!       c
//! ```

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use overlay::daemon::report::DeviceState;
use overlay_tests::mesh::{
    DEVICE, Family, Figures, Mesh, Node, PATIENCE, Stream, Turn, may_run, netid, overlay_v4,
    sleep_until,
};

/// Connections at once: so many that they all are in one of three queues once in 10^7 times.
const FLOWS: usize = 16;
/// Bytes of a connection.
const LEN: usize = 5 << 20;
/// Streams at once each way, all in one of three queues once in 2,000 times: then they are sent again.
const STREAMS: usize = 8;
/// How often at most.
const RUNS: usize = 4;
/// Processor time of a thread that sends a flow, at least.
const WORK: Duration = Duration::from_millis(2);
/// How long nothing happens where nothing is to happen.
const IDLE: Duration = Duration::from_secs(4);
/// Processor time that a daemon may take meanwhile: it looks after its timers.
const IDLE_COST: Duration = Duration::from_millis(60);
/// How often one of its threads may wake up meanwhile: the kernel sends a packet of its own now and
/// then, and neighbors speak.
const IDLE_WAKES: u64 = 40;

/// A mesh whose nodes have so many data threads.
fn started(wires: &str, mode: &'static str, threads: u16) -> Mesh {
    let mut mesh = Mesh::wired(Family::Dual, wires);
    let mut names: Vec<char> = wires.chars().filter(|name| !name.is_whitespace()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let node = mesh.start_with(name, |setup| {
            setup.mode = mode;
            setup.arguments(&format!("--threads {threads}"));
        });
        let device = node.status().device;
        assert_eq!((device.threads, device.queues), (threads, threads - 1));
    }
    mesh.wait_live();
    mesh
}

/// What the kernel says of a thread.
#[derive(Debug)]
struct Thread {
    id: u32,
    name: String,
    /// Times that it went to sleep.
    sleeps: u64,
    /// Processor time.
    ran: Duration,
}

/// All threads of a daemon, in the order in which they were made.
fn threads(node: &Node) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
    let mut tasks: Vec<_> = tasks.map(|task| task.unwrap().path()).collect();
    tasks.sort_by_key(|task| task.file_name().map(|name| (name.len(), name.to_owned())));
    // One that helped for a moment may be gone by now.
    let of = |task: &std::path::PathBuf| {
        let read = |file| fs::read_to_string(task.join(file)).ok();
        let (status, schedule) = (read("status")?, read("schedstat")?);
        let sleeps = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let ran = schedule.split(' ').next().unwrap();
        Some(Thread {
            id: task.file_name()?.to_str()?.parse().unwrap(),
            name: read("comm")?.trim_end().to_owned(),
            sleeps: sleeps.unwrap().trim().parse().unwrap(),
            ran: Duration::from_nanos(ran.parse().unwrap()),
        })
    };
    tasks.iter().filter_map(of).collect()
}

/// The threads of both lists.
fn pairs<'t>(
    before: &'t [Thread],
    after: &'t [Thread],
) -> impl Iterator<Item = (&'t Thread, &'t Thread)> {
    let same = |one: &'t Thread| after.iter().find(|other| other.id == one.id);
    before.iter().filter_map(move |one| Some((one, same(one)?)))
}

#[test]
fn data_threads_lose_and_reorder_nothing_while_a_relay_is_killed() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    for threads in [2, 4] {
        let mut mesh = started("ab bd ac cd", "tun", threads);
        mesh.wait_ping('a', 'd');
        let figures = mesh.stream('a', 'd').run(Duration::from_secs(3), |start| {
            sleep_until(start + Duration::from_secs(1));
            mesh.node_mut('b').kill();
        });
        assert!(figures.is_perfect(), "{figures:?}");
        assert_eq!(figures.reordered, 0, "{figures:?}");
    }
}

#[test]
fn flows_that_share_queues_and_a_single_path_each_stay_in_order() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mesh = started("ab bc", "tun", 4);
    mesh.wait_ping('a', 'c');
    let spread = (0..RUNS).any(|_| streams_stay_in_order(&mesh));
    assert!(spread, "{RUNS} times one thread sent everything");
}

/// Whether more than one thread of a sent its part.
fn streams_stay_in_order(mesh: &Mesh) -> bool {
    // Both ways at once, so that what is written and what is read share the device.
    let streams = |from, to| (0..STREAMS).map(move |_| (from, to));
    let both = streams('a', 'c').chain(streams('c', 'a'));
    let streams: Vec<_> = both.map(|(from, to)| mesh.stream(from, to)).collect();
    let before = threads(mesh.node('a'));
    let figures: Vec<Figures> = thread::scope(|scope| {
        let run = |stream: &'_ Stream| stream.run(Duration::from_secs(3), |_| {});
        let running: Vec<_> = streams
            .iter()
            .map(|stream| scope.spawn(move || run(stream)))
            .collect();
        let ended = running.into_iter().map(|one| one.join().unwrap());
        ended.collect()
    });
    for figures in figures {
        assert!(figures.is_perfect(), "{figures:?}");
        assert_eq!(figures.reordered, 0, "{figures:?}");
    }
    senders(&before, &threads(mesh.node('a'))) >= 2
}

/// How many threads sent what started here.
fn senders(before: &[Thread], after: &[Thread]) -> usize {
    let sent = |(before, after): &(&Thread, &Thread)| {
        after.name == "data-out" && after.ran > before.ran + WORK
    };
    pairs(before, after).filter(sent).count()
}

#[test]
fn connections_keep_their_bytes_over_several_data_threads() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    for (mode, threads) in [("tap", 2), ("tap", 4), ("tun", 4)] {
        let mesh = started("ab", mode, threads);
        mesh.wait_ping('a', 'b');
        let before = self::threads(mesh.node('a'));
        thread::scope(|scope| {
            for number in 0..FLOWS {
                let mesh = &mesh;
                scope.spawn(move || transfer(mesh, number as u8));
            }
        });
        // What comes back is written by one thread, and draws no flow out of its queue.
        let after = self::threads(mesh.node('a'));
        let least = if threads > 2 { 2 } else { 1 };
        assert!(senders(&before, &after) >= least, "{before:?} {after:?}");
    }
}

/// Sends bytes from a to b over a connection of their own, and looks at what arrives.
fn transfer(mesh: &Mesh, number: u8) {
    let listen = mesh
        .machine('b')
        .run(|| TcpListener::bind((overlay_v4('b'), 0)));
    let listener = listen.unwrap().unwrap();
    let target = listener.local_addr().unwrap();
    let connected = mesh.machine('a').run(|| TcpStream::connect(target));
    let mut client = connected.unwrap().unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    let sent: Vec<u8> = (0..LEN).map(|place| (place / 7) as u8 ^ number).collect();
    let expected = sent.clone();
    let sender = thread::spawn(move || client.write_all(&sent));
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = vec![0; LEN];
    server.read_exact(&mut received).unwrap();
    sender.join().unwrap().unwrap();
    assert!(received == expected, "the bytes that were sent");
}

#[test]
fn all_data_threads_let_go_of_a_deleted_device_and_take_the_next() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    for threads in [2, 4] {
        let mesh = started("ab", "tun", threads);
        for _ in 0..2 {
            mesh.wait_ping('a', 'b');
            mesh.machine('b').delete(DEVICE).unwrap();
            mesh.node('b').wait("misses its device", PATIENCE, |node| {
                node.status().device.state == DeviceState::Degraded
            });
            mesh.node('b')
                .wait("has its device back", PATIENCE, |node| {
                    node.status().device.state == DeviceState::Up
                });
            assert_eq!(mesh.node('b').status().device.queues, threads - 1);
        }
        for number in 0..FLOWS {
            transfer(&mesh, number as u8);
        }
        mesh.wait_ping('b', 'a');
        let log = mesh.node('b').log();
        assert_eq!(log.matches("the device was deleted").count(), 2, "{log}");
        assert_eq!(mesh.node('b').netid(), netid('b'));
    }
}

#[test]
fn idle_data_threads_sleep_and_all_end_in_time() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    for mode in ["tun", "tap"] {
        let mut mesh = started("ab", mode, 4);
        mesh.wait_ping('a', 'b');
        // The kernel looks for routers and neighbors on a new device.
        thread::sleep(Duration::from_secs(2));
        let before = threads(mesh.node('a'));
        thread::sleep(IDLE);
        let after = threads(mesh.node('a'));
        let data: Vec<_> = pairs(&before, &after)
            .filter(|(_, after)| after.name.starts_with("data-"))
            .collect();
        assert_eq!(data.len(), 4, "{after:?}");
        for (before, after) in data {
            assert!(after.sleeps - before.sleeps < IDLE_WAKES, "{after:?}");
        }
        let ran = |threads: &[Thread]| threads.iter().map(|one| one.ran).sum::<Duration>();
        let cost = ran(&after) - ran(&before);
        assert!(cost < IDLE_COST, "{cost:?}");
        let (status, took) = mesh.node_mut('a').stop();
        assert!(status.success(), "{status:?}");
        // The kernel takes the device down meanwhile, which waits for others doing the like.
        assert!(took < PATIENCE, "{took:?}");
    }
}
