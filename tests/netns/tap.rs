//! Ethernet over the mesh: two nodes with TAP devices, and what stands behind their bridges.
//!
//! ```text
//!   stretched:  c ---[br0] a ~~~~~ b [br0]--- d      c, d: hosts without a daemon
//!
//!   loop:            a ~~~~~ b                       ~ the mesh, - a LAN
//!                  [br0]   [br0]
//!                    \--- c ---/                     c: a switch
//! ```

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use overlay::lab::net::{Namespace, ping};
use overlay_tests::mesh::{DEVICE, Family, Mesh, Node, PATIENCE, Turn, may_run, wait_until};
use rtnetlink::LinkBridgePort;
use tuntap::{Device, Mode, OffloadChoice, OpenConfig, ReadBatch, WriteOutcome};

const SILENCE: Duration = Duration::from_millis(300);
/// A beacon comes every 10 s; the second one at the latest shows a loop.
const TWO_BEACONS: Duration = Duration::from_secs(25);

/// Makes the bridge `br0` of these interfaces, without spanning tree, as a careless user would.
fn bridge(machine: &Namespace, ports: &[&str]) {
    machine.add_bridge("br0").unwrap();
    for port in ports {
        machine.add_port("br0", port).unwrap();
    }
}

/// A host behind a machine's bridge that speaks raw frames: not every kernel has VLAN interfaces.
fn add_raw_host(machine: &Namespace) -> Box<dyn Device> {
    let config = OpenConfig {
        name: "host0".into(),
        mode: Mode::Tap,
        mtu: 1_400,
        mac: None,
        link_local: None,
        addresses: Vec::new(),
        offload: OffloadChoice::Auto,
        queues: 1,
        strict: false,
    };
    let mut opened = machine.run(|| tuntap::open(&config)).unwrap().unwrap();
    machine.add_port("br0", "host0").unwrap();
    opened.queues.remove(0)
}

/// How often this very frame is among those that wait.
fn times_read(host: &mut dyn Device, frame: &[u8]) -> usize {
    let mut batch = ReadBatch::for_device(host.info(), 0);
    host.read_batch(&mut batch).unwrap();
    let packets = batch.packets().iter();
    packets
        .filter(|slot| slot.of(batch.arena()) == frame)
        .count()
}

/// Makes a machine believe that an address is at a hardware address.
fn add_neighbor(machine: &Namespace, interface: &str, address: &str, mac: [u8; 6]) {
    let index = machine.interface_index(interface).unwrap();
    let address: IpAddr = address.parse().unwrap();
    machine
        .netlink("add a neighbor", |handle| async move {
            let request = handle.neighbours().add(index, address);
            let request = request.link_layer_address(&mac);
            request.execute().await.map_err(io::Error::other)
        })
        .unwrap();
}

/// Frames that an interface has received and sent.
fn frames(machine: &Namespace, interface: &str) -> u64 {
    let text = machine
        .run(|| fs::read_to_string("/proc/thread-self/net/dev"))
        .unwrap()
        .unwrap();
    let prefix = format!("{interface}:");
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(&prefix))
        .unwrap();
    let numbers: Vec<u64> = line
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    numbers[1] + numbers[9]
}

/// Starts a node with a TAP device that dials over its first wire only.
fn start_tap(mesh: &mut Mesh, name: char) {
    mesh.start_with(name, |setup| {
        setup.mode = "tap";
        setup.peers.truncate(1);
    });
}

fn stretched() -> Mesh {
    let mut mesh = Mesh::wired(Family::V4, "ab ac bd");
    start_tap(&mut mesh, 'a');
    start_tap(&mut mesh, 'b');
    mesh.wait_live();
    for (host, interface, address) in [('c', "to-a", "10.9.0.1/24"), ('d', "to-b", "10.9.0.2/24")] {
        let host = mesh.machine(host);
        host.add_address(interface, address.parse().unwrap())
            .unwrap();
    }
    let reached = ping(mesh.machine('c'), "10.9.0.2".parse().unwrap(), SILENCE);
    assert!(reached.unwrap().is_none(), "nothing is bridged yet");
    bridge(mesh.machine('a'), &["to-c", DEVICE]);
    bridge(mesh.machine('b'), &["to-d", DEVICE]);
    mesh
}

fn wait_ping(mesh: &Mesh, from: char, address: &str) {
    let target = address.parse().unwrap();
    wait_until(&format!("{from} reaches {address}"), PATIENCE, || {
        let patience = Duration::from_millis(500);
        ping(mesh.machine(from), target, patience)
            .unwrap()
            .is_some()
    });
}

fn has_alarm(node: &Node, code: &str) -> bool {
    node.status().health.iter().any(|line| line.code == code)
}

#[test]
fn hosts_behind_bridges_are_one_network() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = stretched();

    // ARP, and the ping it was for.
    wait_ping(&mesh, 'c', "10.9.0.2");
    wait_ping(&mesh, 'd', "10.9.0.1");
    assert!(mesh.node('a').status().device.stations.unwrap() >= 2);
    for node in ['a', 'b'] {
        assert_eq!(mesh.node(node).counter("bad_packet"), 0);
        assert_eq!(mesh.node(node).counter("wrong_mode"), 0);
    }

    // Broadcast.
    let listener = mesh
        .machine('d')
        .run(|| UdpSocket::bind("0.0.0.0:9999"))
        .unwrap()
        .unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let caller = mesh
        .machine('c')
        .run(|| UdpSocket::bind("10.9.0.1:0"))
        .unwrap()
        .unwrap();
    caller.set_broadcast(true).unwrap();
    caller.send_to(b"to all", "10.9.0.255:9999").unwrap();
    let mut heard = [0; 10];
    let (len, from) = listener.recv_from(&mut heard).unwrap();
    assert_eq!(&heard[..len], b"to all");
    assert_eq!(from, caller.local_addr().unwrap());

    // VLAN 7: a broadcast keeps its tag.
    let mut near = add_raw_host(mesh.machine('a'));
    let mut far = add_raw_host(mesh.machine('b'));
    let mut tagged = vec![0xFF; 6];
    tagged.extend([0x0A, 0, 0, 0, 0, 0x42]);
    tagged.extend([0x81, 0, 0, 7, 0x88, 0xB6]);
    tagged.extend([0x42; 60]);
    wait_until("a tagged frame reaches the other host", PATIENCE, || {
        near.write_batch(&mut std::iter::once(&tagged[..]), &mut |_, outcome| {
            assert_eq!(outcome, WriteOutcome::Written);
        });
        thread::sleep(Duration::from_millis(50));
        times_read(&mut *far, &tagged) > 0
    });

    // Who says the same three times is heard three times, and again a second later.
    for _ in 0..2 {
        thread::sleep(Duration::from_secs(1));
        let mut heard = 0;
        let spoken = call(&mut *near, 0);
        call(&mut *near, 0);
        call(&mut *near, 0);
        wait_until("what was said three times is heard", PATIENCE, || {
            heard += times_read(&mut *far, &spoken);
            heard >= 3
        });
        assert_eq!(heard, 3);
    }

    // A station nobody has heard: frames for it reach every LAN.
    let stranger = [0x0A, 0, 0, 0, 0, 0x99];
    add_neighbor(mesh.machine('c'), "to-a", "10.9.0.77", stranger);
    let before = frames(mesh.machine('d'), "to-b");
    // Each longer than the one before: the same bytes many times over are what a loop looks like,
    // and datagrams of equal size may be merged and count as one frame.
    for len in 10..60 {
        caller.send_to(&vec![7; len], "10.9.0.77:9").unwrap();
    }
    wait_until("frames for an unknown station reach d", PATIENCE, || {
        frames(mesh.machine('d'), "to-b") >= before + 50
    });
    for node in ['a', 'b'] {
        assert!(!has_alarm(mesh.node(node), "bridge_loop"));
        assert!(!has_alarm(mesh.node(node), "storm"));
    }
}

#[test]
fn bridged_connections_fit_into_the_mesh_though_their_hosts_do_not_know_its_mtu() {
    const LEN: usize = 1 << 20;
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = stretched();
    wait_ping(&mesh, 'c', "10.9.0.2");
    let listener = mesh
        .machine('d')
        .run(|| TcpListener::bind("10.9.0.2:0"))
        .unwrap()
        .unwrap();
    let target = listener.local_addr().unwrap();
    let connected = mesh.machine('c').run(|| TcpStream::connect(target));
    let mut client = connected.unwrap().unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = thread::spawn(move || client.write_all(&vec![7; LEN]).map(|()| client));
    let mut bytes = vec![0; LEN];
    server.read_exact(&mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 7));
    sender.join().unwrap().unwrap();
    for node in ['a', 'b'] {
        for reason in ["read_truncated", "packet_too_big", "too_big_for_device"] {
            assert_eq!(mesh.node(node).counter(reason), 0, "{node} {reason}");
        }
    }
}

/// How a frame can go round where two nodes bridge one LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Each node reads what the other writes.
    BothWays,
    /// One node only reads and the other only writes: b's bridge does not flood to its device.
    OneWay,
}

/// The drawing's loop, closed a moment ago, and a station at the switch c that has just repeated
/// itself, so that the nodes have asked by a beacon when there was no loop yet.
fn looped(round: Round) -> (Mesh, Box<dyn Device>) {
    let mut mesh = Mesh::wired(Family::V4, "ab ac bc");
    start_tap(&mut mesh, 'a');
    start_tap(&mut mesh, 'b');
    mesh.wait_live();
    // The kernels' own IPv6 multicasts would blur the count.
    for (name, interfaces) in [
        ('a', ["to-c", DEVICE]),
        ('b', ["to-c", DEVICE]),
        ('c', ["to-a", "to-b"]),
    ] {
        let machine = mesh.machine(name);
        machine
            .sysctl("net.ipv6.conf.default.disable_ipv6", "1")
            .unwrap();
        for interface in interfaces {
            let key = format!("net.ipv6.conf.{interface}.disable_ipv6");
            machine.sysctl(&key, "1").unwrap();
        }
    }
    bridge(mesh.machine('a'), &["to-c", DEVICE]);
    bridge(mesh.machine('c'), &["to-a", "to-b"]);
    bridge(mesh.machine('b'), &[DEVICE]);
    if round == Round::OneWay {
        keep_floods_from(mesh.machine('b'), DEVICE);
    }
    let mut station = add_raw_host(mesh.machine('c'));
    let delivered = mesh.node('b').counter("delivered");
    for n in 1..=2 {
        call(&mut *station, 0);
        mesh.node('b').wait("delivers", PATIENCE, |node| {
            node.counter("delivered") >= delivered + n
        });
    }
    mesh.machine('b').add_port("br0", "to-c").unwrap();
    (mesh, station)
}

/// Makes a bridge not flood broadcasts and multicasts to this port.
fn keep_floods_from(machine: &Namespace, port: &str) {
    let index = machine.interface_index(port).unwrap();
    machine
        .netlink("set a port", |handle| async move {
            let port = LinkBridgePort::new(index).bcast_flood(false);
            let port = port.mcast_flood(false).build();
            let request = handle.link().set_port(port);
            request.execute().await.map_err(io::Error::other)
        })
        .unwrap();
}

/// Sends a station's broadcast, the same bytes for the same number.
fn call(station: &mut dyn Device, number: u8) -> Vec<u8> {
    let mut frame = vec![0xFF; 6];
    frame.extend([0x0A, 0, 0, 0, 0, 0x43, 0x88, 0xB6, number]);
    frame.resize(60, 0);
    station.write_batch(&mut std::iter::once(&frame[..]), &mut |_, outcome| {
        assert_eq!(outcome, WriteOutcome::Written);
    });
    frame
}

/// A broadcast in the loop: it is on the LAN ten times at most, beacons included, and not after a
/// second. What the kernels say meanwhile goes round no more often.
///
/// The switch floods to the station what goes round, so that it hears each round once.
fn assert_storm_ends(station: &mut dyn Device, number: u8) {
    let start = Instant::now();
    let frame = call(station, number);
    let mut heard = Vec::new();
    while start.elapsed() < Duration::from_millis(1_500) {
        let mut batch = ReadBatch::for_device(station.info(), 0);
        station.read_batch(&mut batch).unwrap();
        for slot in batch.packets() {
            heard.push((start.elapsed(), slot.of(batch.arena()).to_vec()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    let copies = |frame: &[u8]| heard.iter().filter(|(_, other)| other == frame).count();
    let ours = heard.iter().filter(|(_, other)| *other == frame);
    let last = ours.map(|(at, _)| *at).max().unwrap_or_default();
    let settled = last + Duration::from_millis(10);
    let is_beacon = |frame: &[u8]| frame[12..14] == [0x88, 0xB5];
    let beacons = heard
        .iter()
        .filter(|(at, other)| is_beacon(other) && *at <= settled);
    let frames = 1 + copies(&frame) + beacons.count();
    let most = heard.iter().map(|(_, frame)| copies(frame)).max();
    println!("broadcast {number}: {frames} frames, the last after {last:?}; any: {most:?}");
    assert!(frames <= 10, "{frames} frames");
    assert!(last < Duration::from_secs(1), "the last after {last:?}");
    assert!(most <= Some(9), "another frame came {most:?} times");
}

#[test]
fn a_broadcast_in_a_loop_of_two_bridges_ends_at_once_and_the_loop_is_told() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    for round in [Round::BothWays, Round::OneWay] {
        println!("{round:?}");
        let (mesh, mut station) = looped(round);
        for number in 1..=3 {
            assert_storm_ends(&mut *station, number);
        }
        // Nobody reads a's beacon where b reads no broadcasts.
        let told: &[char] = match round {
            Round::BothWays => &['a', 'b'],
            Round::OneWay => &['b'],
        };
        for &name in told {
            mesh.node(name)
                .wait("tells of the loop", TWO_BEACONS, |node| {
                    has_alarm(node, "bridge_loop")
                });
        }
        assert!(mesh.node('b').counter("bridge_loop") > 0);
    }
}

#[test]
fn nodes_of_different_modes_say_so() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab");
    start_tap(&mut mesh, 'a');
    mesh.start('b');
    mesh.wait_live();
    for (from, to) in [('a', 'b'), ('b', 'a')] {
        assert!(!mesh.pings(from, to, SILENCE));
        mesh.node(to)
            .wait("names the other mode", PATIENCE, |node| {
                let _ = mesh.pings(from, to, SILENCE);
                has_alarm(node, "wrong_mode")
            });
        assert!(mesh.node(to).counter("wrong_mode") > 0);
    }
}
