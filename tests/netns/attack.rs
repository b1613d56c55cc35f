//! Attackers by the book (SECURITY 1.1) against a real daemon in a real kernel. What lasts longer
//! than half a minute is proven in virtual time (`sim/attack.rs`), and here with `FLOODMESH_LONG=1`.
//!
//! ```text
//!   node                                         far
//!   10.64.1.1:44204, :44205 -------- wire ------ 10.64.1.2   neighbors, attackers
//!   default route: the far end                   198.51.100.1   a victim that knows of nothing
//!   fd64:0:0:1::1:44204                          fd64:0:0:1::2, 2001:db8:bad::1   the same
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv6Net};
use overlay::lab::net::{Namespace, Plug, Wires};
use overlay::route::address::Mesh;
use overlay::route::directory::codec;
use overlay_tests::attack::{Forger, Neighbor, Witness, message};
use overlay_tests::daemon::Daemon;
use overlay_tests::mesh::{PATIENCE, Turn, wait_until};
use wire::{Flags, INFORM_DATAGRAM_LEN, Inform, Kind, NetId, emit_inform};

use crate::may_make_namespaces;

const NODE: Ipv4Addr = Ipv4Addr::new(10, 64, 1, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 64, 1, 2);
const VICTIM: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const PORT: u16 = 44204;
/// Where the second neighbor joins: a socket, and so a kernel buffer, of its own.
const SECOND_PORT: u16 = 44205;
/// A node that does not exist: Data to it is forwarded by everyone and delivered by nobody.
pub(crate) const NOBODY: NetId = NetId(0x0bad_cafe);
const MIB: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// The drawing's addresses of one family.
#[derive(Clone, Copy)]
struct Plan {
    node: IpAddr,
    far: IpAddr,
    victim: IpAddr,
}

const V4: Plan = Plan {
    node: IpAddr::V4(NODE),
    far: IpAddr::V4(FAR),
    victim: IpAddr::V4(VICTIM),
};
const V6: Plan = Plan {
    node: IpAddr::V6(Ipv6Addr::new(0xfd64, 0, 0, 1, 0, 0, 0, 1)),
    far: IpAddr::V6(Ipv6Addr::new(0xfd64, 0, 0, 1, 0, 0, 0, 2)),
    victim: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 1)),
};

impl Plan {
    fn node(self) -> SocketAddr {
        SocketAddr::new(self.node, PORT)
    }
}

/// Whether to take the minutes that `.ci/long` has.
pub(crate) fn is_long() -> bool {
    std::env::var("FLOODMESH_LONG").as_deref() == Ok("1")
}

/// The drawing at the top, with a daemon in it.
pub(crate) struct Siege {
    pub(crate) daemon: Daemon,
    node: Namespace,
    far: Namespace,
    directory: tempfile::TempDir,
    _wires: Wires,
}

impl Siege {
    pub(crate) fn new(arguments: &str) -> Self {
        let (node, far) = (
            Namespace::new("node").unwrap(),
            Namespace::new("far").unwrap(),
        );
        let wires = Wires::new().unwrap();
        let of_wire = |ip: IpAddr| IpNet::new(ip, if ip.is_ipv4() { 24 } else { 64 }).unwrap();
        let (here, there) = (
            [V4, V6].map(|plan| of_wire(plan.node)),
            [V4, V6].map(|plan| of_wire(plan.far)),
        );
        let plug = |namespace, addresses| Plug {
            namespace,
            interface: "eth1",
            addresses,
        };
        wires
            .connect(plug(&node, &here), plug(&far, &there))
            .unwrap();
        for (plan, everything) in [(V4, "0.0.0.0/0"), (V6, "::/0")] {
            far.add_address("lo", plan.victim.into()).unwrap();
            node.add_route(everything.parse().unwrap(), plan.far)
                .unwrap();
        }
        for interface in ["all", "eth1"] {
            let key = format!("net.ipv4.conf.{interface}.rp_filter");
            node.sysctl(&key, "0").unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        let [v4, v6] = [V4, V6].map(Plan::node);
        let arguments = format!("--netid 1 --listen {v4} --listen {v6} {arguments}");
        let daemon = Daemon::ready(&node, directory.path(), "node", &arguments);
        Self {
            daemon,
            node,
            far,
            directory,
            _wires: wires,
        }
    }

    /// A live neighbor at `port` of the far end.
    pub(crate) fn neighbor(&self, netid: u32, port: u16) -> Neighbor {
        self.neighbor_at(netid, port, node().into())
    }

    /// The same over the family of `hub`, one of the node's sockets.
    fn neighbor_at(&self, netid: u32, port: u16, hub: SocketAddr) -> Neighbor {
        let before = self.daemon.live();
        let plan = if hub.is_ipv4() { V4 } else { V6 };
        let local = SocketAddr::new(plan.far, port);
        let neighbor = Neighbor::join(&self.far, local, hub, NetId(netid));
        self.daemon.wait_live(before + 1, 5 * SECOND);
        neighbor
    }

    /// Datagrams that the kernel dropped in front of the node's socket at `port`.
    fn kernel_drops(&self, port: u16) -> u64 {
        drops_at(&self.node, port)
    }

    /// Datagrams that the kernel dropped in front of a neighbor's socket at `port`.
    fn neighbor_drops(&self, port: u16) -> u64 {
        drops_at(&self.far, port)
    }

    /// It runs, it did not panic, and so many neighbors are still live.
    pub(crate) fn check(&mut self, live: u64) {
        assert!(self.daemon.is_running(), "{}", self.daemon.log());
        let log = self.daemon.log();
        assert!(!log.contains("panicked"), "{log}");
        assert_eq!(self.daemon.live(), live, "{}", self.daemon.counters());
    }
}

/// Datagrams that the kernel dropped in front of the IPv4 socket at `port` of a machine.
fn drops_at(machine: &Namespace, port: u16) -> u64 {
    let table = machine
        .run(|| std::fs::read_to_string("/proc/thread-self/net/udp").unwrap())
        .unwrap();
    let port = format!(":{port:04X}");
    let fields = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ours = fields.get(1)?.ends_with(&port);
        ours.then(|| fields.last()?.parse::<u64>().ok())?
    };
    table.lines().find_map(fields).unwrap()
}

const fn node() -> SocketAddrV4 {
    SocketAddrV4::new(NODE, PORT)
}

/// A public-looking address that is neither of the drawing nor of a special class, from a counter.
fn somebody(number: u32) -> SocketAddrV4 {
    let scrambled = number.wrapping_mul(0x9E37_79B1);
    let [a, b, c, d] = scrambled.to_be_bytes();
    SocketAddrV4::new(
        Ipv4Addr::new(20 + a % 80, b, c, d),
        1024 + (number % 60_000) as u16,
    )
}

#[test]
fn attack_one_forged_hello_and_traffic_cost_the_victim_three_datagrams() {
    one_forged_hello(V4);
}

#[test]
fn attack_one_forged_hello_over_ipv6_costs_no_more() {
    one_forged_hello(V6);
}

fn one_forged_hello(plan: Plan) {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let mut siege = Siege::new("");
    let victim = Witness::new(&siege.far, plan.victim);
    let sender = siege.neighbor_at(2, 5002, plan.node());
    let sink = siege.neighbor_at(3, 5003, plan.node());
    sink.watch(sender.netid());
    let hello = message(Kind::Hello, Flags::NO_FORWARD, NetId(0xbad), NetId::ANY, 1);
    Forger::new(&siege.far).send(SocketAddr::new(plan.victim, 9), plan.node(), &hello);
    let duration = if is_long() { 60 * SECOND } else { 20 * SECOND };
    let sent = sender.flood(NetId::ALL, 100, duration);
    thread::sleep(SECOND);
    let got = victim.take();
    println!("{} datagrams to the victim of one forged Hello", got.len());
    // At least one, or the Hello never came and the test proves nothing.
    assert!((1..=3).contains(&got.len()), "{got:x?}");
    assert!(got.iter().map(Vec::len).sum::<usize>() <= 3 * hello.len());
    wait_until("all of the stream came", PATIENCE, || {
        sink.watched().0 >= sent
    });
    assert_eq!(sink.watched(), (sent, 0), "{}", siege.daemon.counters());
    siege.check(2);
}

#[test]
fn attack_ten_thousand_informs_of_one_victim_cost_it_three_datagrams() {
    ten_thousand_informs(V4);
}

#[test]
fn attack_ten_thousand_informs_of_an_ipv6_victim_cost_it_no_more() {
    ten_thousand_informs(V6);
}

fn ten_thousand_informs(plan: Plan) {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let mut siege = Siege::new(&format!("--allow-inform {}", IpNet::from(plan.victim)));
    let victim = Witness::new(&siege.far, plan.victim);
    let teller = siege.neighbor_at(2, 5002, plan.node());
    let duration = if is_long() { 600 * SECOND } else { 20 * SECOND };
    let started = Instant::now();
    for number in 0..10_000 {
        let rumour = Inform {
            subject: NetId(0x5_0000 + number),
            endpoint: SocketAddr::new(plan.victim, 5_000),
        };
        let inform: [u8; INFORM_DATAGRAM_LEN] =
            emit_inform(Flags::NO_FORWARD, number, teller.netid(), NetId(1), &rumour);
        teller.send(&inform);
        let due = duration * number / 10_000;
        thread::sleep(due.saturating_sub(started.elapsed()));
    }
    thread::sleep(10 * SECOND);
    let got = victim.take();
    println!("{} datagrams to the victim of 10,000 Informs", got.len());
    assert!((1..=3).contains(&got.len()), "{got:x?}");
    assert!(got.iter().all(|datagram| datagram.len() == 16), "{got:x?}");
    siege.check(1);
}

#[test]
fn attack_forged_hello_and_goodbye_of_a_live_neighbor_lose_nothing() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let mut siege = Siege::new("");
    let (sender, sink) = (siege.neighbor(2, 5002), siege.neighbor(3, 5003));
    sink.watch(sender.netid());
    let mut forger = Forger::new(&siege.far);
    thread::scope(|scope| {
        let stream = scope.spawn(|| sender.flood(NOBODY, 1_000, 6 * SECOND));
        for nonce in 0..50 {
            let goodbye = message(Kind::Goodbye, Flags::NONE, sink.netid(), NetId::ALL, nonce);
            // By the right endpoint, and by one that nobody knows.
            forger.send(sink.endpoint(), node(), &goodbye);
            forger.send(somebody(nonce), node(), &goodbye);
            // Another name at the right endpoint, and the right name at another endpoint.
            let flags = Flags::NO_FORWARD;
            let other = message(Kind::Hello, flags, NetId(0xbad), NetId::ANY, nonce);
            forger.send(sink.endpoint(), node(), &other);
            let stolen = message(Kind::Hello, flags, sink.netid(), NetId::ANY, 1_000 + nonce);
            forger.send(somebody(nonce), node(), &stolen);
            thread::sleep(Duration::from_millis(100));
        }
        let sent = stream.join().unwrap();
        wait_until("all of the stream came", PATIENCE, || {
            sink.watched().0 >= sent
        });
        assert_eq!(sink.watched(), (sent, 0), "{}", siege.daemon.counters());
    });
    assert!(siege.daemon.counter("spoofed_control") > 0);
    siege.check(2);
}

#[test]
fn attack_a_million_hellos_take_no_memory_and_keep_no_configured_peer_away() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::alone();
    let mut siege = Siege::new(&format!("--peer {FAR}:{PORT}"));
    let _neighbor = siege.neighbor(2, 5002);
    let mut forger = Forger::new(&siege.far);
    let before = siege.daemon.resident();
    let done = AtomicBool::new(false);
    let (connected, highest, sending) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let started = Instant::now();
            for number in 0..1_000_000 {
                let src = NetId(0x100 + number);
                let hello = message(Kind::Hello, Flags::NO_FORWARD, src, NetId::ANY, number);
                forger.send(somebody(number), node(), &hello);
                // 100,000 a second, the most that a line of 64 Mbit/s brings.
                if number % 100 == 0 {
                    let due = Duration::from_micros(10 * u64::from(number));
                    thread::sleep(due.saturating_sub(started.elapsed()));
                }
            }
            done.store(true, Relaxed);
            started.elapsed()
        });
        let memory = scope.spawn(|| {
            let mut highest = before;
            while !done.load(Relaxed) {
                highest = highest.max(siege.daemon.resident());
                thread::sleep(Duration::from_millis(50));
            }
            highest.max(siege.daemon.resident())
        });
        thread::sleep(2 * SECOND);
        let started = Instant::now();
        let arguments = format!("--netid 3 --listen {FAR}:{PORT} --peer {NODE}:{PORT}");
        let peer = Daemon::start(&siege.far, siege.directory.path(), "peer", &arguments);
        peer.wait_live(1, 15 * SECOND);
        siege.daemon.wait_live(2, 15 * SECOND);
        let connected = started.elapsed();
        let sending = flood.join().unwrap();
        (connected, memory.join().unwrap(), sending)
    });
    let growth = highest.saturating_sub(before);
    println!(
        "10^6 Hellos in {sending:?}: {} KiB more memory, a peer connected in {connected:?}\n{}",
        growth / 1024,
        siege.daemon.counters()
    );
    assert!(sending > connected + 2 * SECOND, "the flood was over early");
    assert!(growth < 4 * MIB, "{} KiB", growth / 1024);
    assert!(connected < 10 * SECOND, "{connected:?}");
    // The peer was killed and counts for 45 s more.
    siege.check(2);
}

#[test]
fn attack_a_flood_of_unique_packets_costs_a_second_neighbor_nothing() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::alone();
    let mut siege = Siege::new(&format!(
        "--listen {NODE}:{SECOND_PORT} --set dedupe.memory=\"16MiB\""
    ));
    let bad = siege.neighbor(2, 5002);
    let second_socket = SocketAddr::new(V4.node, SECOND_PORT);
    let second = siege.neighbor_at(3, 5003, second_socket);
    let sink = siege.neighbor_at(4, 5004, second_socket);
    sink.watch(second.netid());
    let duration = if is_long() { 300 * SECOND } else { 25 * SECOND };
    let before = siege.daemon.resident();
    let mut highest = before;
    let (flooded, sent) = thread::scope(|scope| {
        let flood = scope.spawn(|| bad.flood(NOBODY, 100_000, duration));
        let stream = scope.spawn(|| second.flood(NOBODY, 1_000, duration));
        while !stream.is_finished() {
            highest = highest.max(siege.daemon.resident());
            thread::sleep(Duration::from_millis(100));
        }
        (flood.join().unwrap(), stream.join().unwrap())
    });
    thread::sleep(SECOND);
    let (received, duplicates) = sink.watched();
    let (lost_before, lost_of_bad) = (siege.kernel_drops(SECOND_PORT), siege.kernel_drops(PORT));
    // The sink gets the flood too, and may be too slow for it.
    let lost_behind = siege.neighbor_drops(5004);
    println!(
        "{flooded} unique packets in {duration:?} ({lost_of_bad} dropped by the kernel), \
         {received} of the second neighbor's {sent} came ({lost_before} dropped by the kernel before the \
         node, {lost_behind} of all behind it); \
         memory {} to {} KiB\n{}",
        before / 1024,
        highest / 1024,
        siege.daemon.counters()
    );
    assert!(siege.daemon.counter("flooded") > flooded / 4, "no flood");
    assert_eq!(duplicates, 0);
    let accounted = received..=received + lost_before + lost_behind;
    assert!(accounted.contains(&sent), "{accounted:?}, not {sent}");
    // The bound of the seen table, and what every daemon has.
    assert!(highest < 16 * MIB + 24 * MIB, "{} KiB", highest / 1024);
    siege.check(3);
}

/// What a live neighbor can make the control plane work with, by the number of the datagram.
type Make = fn(u64) -> Vec<u8>;

/// As many claims as a payload holds, other ones for every number.
fn claims(number: u64) -> Vec<u8> {
    let prefix = |n: u64| {
        let bits = 0xfd77_u128 << 112 | u128::from(number) << 16 | u128::from(n);
        Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), 128).into()
    };
    let prefixes: Vec<_> = (0..64).map(prefix).collect();
    codec::claims(Mesh::new("floodmesh").hash, 1, &prefixes).remove(0)
}

const CONTROL_FLOODS: [(&str, u64, Make); 5] = [
    (
        "full directory payloads of ever new nodes",
        40_000,
        |number| {
            let src = NetId(0x10_0000 + number as u32);
            let header = message(Kind::Data, Flags::NONE, src, NetId(1), number as u32);
            [&header[..], &claims(number)].concat()
        },
    ),
    ("Pings to the node", 100_000, |number| {
        message(Kind::Ping, Flags::NONE, NetId(2), NetId(1), number as u32).to_vec()
    }),
    ("Data of ever new nodes", 100_000, |number| {
        let src = NetId(0x10_0000 + number as u32);
        message(Kind::Data, Flags::NONE, src, NOBODY, number as u32).to_vec()
    }),
    ("Informs of ever new nodes", 50_000, |number| {
        let rumour = Inform {
            subject: NetId(0x10_0000 + number as u32),
            endpoint: somebody(number as u32).into(),
        };
        emit_inform(
            Flags::NO_FORWARD,
            number as u32,
            NetId(2),
            NetId(1),
            &rumour,
        )
        .to_vec()
    }),
    ("directory payloads of 60,000 bytes", 2_000, |number| {
        let header = message(Kind::Data, Flags::NONE, NetId(2), NetId(1), number as u32);
        [&header[..], &[0xC2; 60_000]].concat()
    }),
];

#[test]
fn attack_a_neighbor_that_floods_control_keeps_neither_peers_nor_clients_waiting() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::alone();
    for (what, rate, make) in CONTROL_FLOODS {
        let mut siege = Siege::new(&format!(
            "--peer {FAR}:{PORT} --set dedupe.memory=\"16MiB\""
        ));
        let bad = siege.neighbor(2, 5002);
        let before = siege.daemon.resident();
        let done = AtomicBool::new(false);
        let (connected, answered, highest, flooded) = thread::scope(|scope| {
            let flood = scope.spawn(|| bad.flood_of(rate, 4 * SECOND, make));
            let memory = scope.spawn(|| {
                let mut highest = before;
                while !done.load(Relaxed) {
                    highest = highest.max(siege.daemon.resident());
                    thread::sleep(Duration::from_millis(20));
                }
                highest
            });
            thread::sleep(SECOND / 2);
            let started = Instant::now();
            let arguments = format!("--netid 3 --listen {FAR}:{PORT} --peer {NODE}:{PORT}");
            let peer = Daemon::start(&siege.far, siege.directory.path(), "peer", &arguments);
            peer.wait_live(1, 15 * SECOND);
            let connected = started.elapsed();
            let asked = Instant::now();
            siege.daemon.wait_live(2, 15 * SECOND);
            let answered = asked.elapsed();
            let flooded = flood.join().unwrap();
            done.store(true, Relaxed);
            (connected, answered, memory.join().unwrap(), flooded)
        });
        let growth = highest.saturating_sub(before) / 1024;
        println!(
            "{flooded} {what}: {growth} KiB more memory, a peer connected in {connected:?}, \
             status answered in {answered:?}\n{}",
            siege.daemon.counters()
        );
        assert!(connected < 10 * SECOND, "{what}: {connected:?}");
        assert!(answered < 5 * SECOND, "{what}: {answered:?}");
        // The seen table may grow to its bound meanwhile.
        assert!(growth < 24 * 1024, "{what}: {growth} KiB");
        siege.check(2);
    }
}

#[test]
fn attack_garbage_neither_fills_the_log_nor_breaks_a_link() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::alone();
    let mut siege = Siege::new("");
    let (sender, sink) = (siege.neighbor(2, 5002), siege.neighbor(3, 5003));
    sink.watch(sender.netid());
    let lines_before = siege.daemon.log().lines().count();
    let duration = if is_long() { 60 * SECOND } else { 20 * SECOND };
    let mut forger = Forger::new(&siege.far);
    let (sent, thrown) = thread::scope(|scope| {
        let stream = scope.spawn(|| sender.flood(NOBODY, 500, duration));
        let started = Instant::now();
        let mut number = 0;
        while started.elapsed() < duration {
            throw(&mut forger, number, sink.endpoint());
            number += 1;
            if number % 20 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        (stream.join().unwrap(), number)
    });
    thread::sleep(SECOND / 2);
    let lines = siege.daemon.log().lines().count() - lines_before;
    println!(
        "{thrown} pieces of garbage: {lines} lines of log\n{}",
        siege.daemon.counters()
    );
    let most = 100 * duration.as_secs() / 60;
    assert!((lines as u64) < most, "{}", siege.daemon.log());
    let dropped = siege.kernel_drops(PORT);
    let (received, duplicates) = sink.watched();
    assert_eq!(duplicates, 0);
    assert!(
        received <= sent && received + dropped >= sent,
        "{received} of {sent}"
    );
    siege.check(2);
}

/// One piece of garbage, from a live neighbor's address or from anyone's.
fn throw(forger: &mut Forger, number: u32, neighbor: SocketAddr) {
    let from = if number.is_multiple_of(2) {
        neighbor
    } else {
        somebody(number).into()
    };
    let kind = Kind::from_byte((number / 16) as u8);
    let (bad, own) = (NetId(0x100 + number), NetId(1));
    let mut bytes = [0x5A; 64];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    let mut old = message(kind, Flags::NONE, bad, NetId::ALL, number);
    old[1] = 2;
    match number / 2 % 8 {
        0 => forger.send(from, node(), &bytes),
        1 => forger.send(from, node(), &bytes[..number as usize % 16]),
        2 => forger.send(from, node(), &old),
        // Nobody's, and the node's own, netid as src.
        3 => forger.send(
            from,
            node(),
            &message(kind, Flags::NONE, NetId::ALL, own, number),
        ),
        4 => forger.send(
            from,
            node(),
            &message(kind, Flags::NONE, own, NetId::ALL, number),
        ),
        // An Inform without its end, an unknown kind, a directory that is none.
        5 => forger.send(
            from,
            node(),
            &message(Kind::Inform, Flags::NONE, bad, own, number),
        ),
        6 => forger.send(
            from,
            node(),
            &message(kind, Flags(0xFF), bad, NetId::ANY, number),
        ),
        _ => {
            let header = message(Kind::Data, Flags::NONE, bad, NetId::ALL, number);
            let payload = [&header[..], &[0xC2; 40]].concat();
            forger.send(from, node(), &payload);
        }
    }
}

#[test]
fn attack_another_user_cannot_ask_the_control_socket() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let siege = Siege::new("");
    let control = siege.daemon.control();
    let mode = std::fs::metadata(control).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
    // The way there is open, so that it is the socket that refuses.
    let everyone = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(siege.directory.path(), everyone).unwrap();
    let nobody = 65_534;
    let connect = || {
        let mut command = std::process::Command::new("python3");
        let code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
        command.args(["-c", code]).arg(control);
        command
    };
    assert!(connect().status().unwrap().success(), "root is let in");
    let output = connect().uid(nobody).gid(nobody).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && error.contains("PermissionError"),
        "{error}"
    );
    // Even with a wrong mode the daemon looks who asks.
    let open = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(control, open).unwrap();
    // The daemon may have answered and gone before it is asked.
    let ask = "import contextlib, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
               with contextlib.suppress(BrokenPipeError): s.sendall(b'{\"verb\":\"status\"}\\n')\n\
               print(s.recv(4096).decode())";
    let mut command = std::process::Command::new("python3");
    command
        .args(["-c", ask])
        .arg(control)
        .uid(nobody)
        .gid(nobody);
    let output = command.output().unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(answer.contains("this user may not ask"), "{answer}");
}
