//! A path narrower than the device: packets of 1,400 bytes make datagrams that do not fit whole. And wires of
//! 9,000 bytes, all of them or all but one in the middle (scenario 23).
//!
//! ```text
//!   a --- r --- s --- b      r, s: routers without a daemon; between them an MTU of 1,300.
//!                            Either they tell the sender by ICMP, or that is lost: a black hole.
//! ```

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use overlay_tests::mesh::{
    Family, Mesh, Node, PATIENCE, PORT, Setup, Turn, may_run, netid, overlay_v4, wait_until,
};

use socket2::Socket;

use crate::nat::nft;
use crate::sealed::wiretap;

/// What the wire between the routers carries.
const NARROW: u32 = 1_300;
/// What fills a packet of the device: 1,400 bytes with the headers of IPv4 and UDP.
const FULL: usize = 1_372;
/// What a jumbo wire carries, and what others do.
const JUMBO: (u32, u32) = (9_000, 1_500);
/// What a device has behind jumbo wires: what they carry without IPv4, UDP and both seals.
const JUMBO_DEVICE: usize = 8_880;
/// How long a TCP connection may take for a megabyte.
const MEGABYTE_WITHIN: Duration = Duration::from_secs(15);
/// How long a search may take.
const SEARCHED: Duration = Duration::from_secs(40);

/// The drawing, without daemons.
fn wired(family: Family) -> Mesh {
    let mesh = laid(family);
    mesh.machine('r').set_mtu("to-s", NARROW).unwrap();
    mesh.machine('s').set_mtu("to-r", NARROW).unwrap();
    mesh
}

/// The drawing with jumbo wires; the routers take so much at a time from each other.
fn jumbo(middle: u32) -> Mesh {
    let mesh = laid(Family::V4);
    for ends in ["ar", "rs", "sb"] {
        mesh.wire(ends).set_mtu(JUMBO.0).unwrap();
    }
    for (name, interface) in [('a', "to-r"), ('r', "to-a"), ('s', "to-b"), ('b', "to-s")] {
        mesh.machine(name).set_mtu(interface, JUMBO.0).unwrap();
    }
    mesh.machine('r').set_mtu("to-s", middle).unwrap();
    mesh.machine('s').set_mtu("to-r", middle).unwrap();
    mesh
}

/// All wires and routes.
fn laid(family: Family) -> Mesh {
    let mesh = Mesh::wired(family, "ar rs sb");
    for router in ['r', 's'] {
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            mesh.machine(router).sysctl(key, "1").unwrap();
        }
    }
    for (machine, gateway) in [('a', "ra"), ('b', "sb"), ('r', "sr"), ('s', "rs")] {
        for gateway in mesh.underlay(gateway) {
            let everything = match gateway {
                IpAddr::V4(_) => "0.0.0.0/0",
                IpAddr::V6(_) => "::/0",
            };
            mesh.machine(machine)
                .add_route(everything.parse().unwrap(), *gateway)
                .unwrap();
        }
    }
    mesh
}

/// Lets no router say that a packet was too long.
fn hush(mesh: &Mesh) {
    for router in ['r', 's'] {
        nft(
            mesh.machine(router),
            "table inet hush { chain out { type filter hook output priority 0; \
             icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; } }",
        );
    }
}

/// Starts a and b, each dialing the other, and waits until both are live.
fn start(mesh: &mut Mesh) {
    start_with(mesh, |_| {});
}

/// The same with changes to what they are started with.
fn start_with(mesh: &mut Mesh, change: impl Fn(&mut Setup)) {
    for (name, far) in [('a', "bs"), ('b', "ar")] {
        let peers = mesh.underlay(far).iter();
        let peers = peers.map(|ip| SocketAddr::new(*ip, PORT)).collect();
        mesh.start_with(name, |setup| {
            setup.peers = peers;
            change(setup);
        });
    }
    for (name, far) in [('a', 'b'), ('b', 'a')] {
        mesh.node(name).wait("has its link live", PATIENCE, |node| {
            node.live_links() == [netid(far)]
        });
    }
    mesh.wait_ping('a', 'b');
}

/// Whether a datagram that fills a packet of the device gets from a to b.
fn full_packet_passes(mesh: &Mesh) -> bool {
    passes(mesh, FULL)
}

/// Whether a datagram of this length does.
fn passes(mesh: &Mesh, full: usize) -> bool {
    let bind = |name| {
        let socket = mesh
            .machine(name)
            .run(|| UdpSocket::bind((overlay_v4(name), 0)));
        socket.unwrap().unwrap()
    };
    let (near, far) = (bind('a'), bind('b'));
    far.set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    near.send_to(&vec![7; full], far.local_addr().unwrap())
        .unwrap();
    far.recv(&mut [0; 10_000]).is_ok_and(|len| len == full)
}

/// How long a megabyte takes from a to b over TCP, until b's answer to its end.
fn megabyte(mesh: &Mesh) -> Duration {
    let listener = mesh
        .machine('b')
        .run(|| TcpListener::bind((overlay_v4('b'), 0)));
    let listener = listener.unwrap().unwrap();
    let target = listener.local_addr().unwrap();
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
            let mut got = vec![0; 1 << 20];
            stream.read_exact(&mut got).unwrap();
            assert!(got.iter().all(|byte| *byte == 0xA5));
            stream.write_all(b"all").unwrap();
        });
        let connect = || TcpStream::connect_timeout(&target, PATIENCE);
        let mut stream = mesh.machine('a').run(connect).unwrap().unwrap();
        stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        stream.write_all(&vec![0xA5; 1 << 20]).unwrap();
        stream.read_exact(&mut [0; 3]).unwrap();
    });
    started.elapsed()
}

/// The path MTU of a node's only link, as far as it is known.
fn path_mtu(node: &Node) -> Option<u32> {
    node.neighbors().neighbors[0].links[0].path_mtu_bytes
}

fn wait_searched(mesh: &Mesh) {
    for name in ['a', 'b'] {
        mesh.node(name)
            .wait("knows its path", SEARCHED, |node| path_mtu(node).is_some());
    }
}

/// What both nodes say once they know the path: its MTU, fragments, and what to do.
fn check_told(mesh: &Mesh) {
    for name in ['a', 'b'] {
        let node = mesh.node(name);
        let mtu = path_mtu(node).unwrap();
        assert!((NARROW - 8..=NARROW).contains(&mtu), "{mtu}");
        let text = node.run(&["neighbors"]).stdout;
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(&format!("path MTU {mtu}")), "{text}");
        let health = node.status().health;
        let line = health.iter().find(|line| line.code == "path_mtu").unwrap();
        assert!(line.text.contains(&mtu.to_string()), "{}", line.text);
    }
    assert!(mesh.node('a').counter("fragmented") > 0);
    assert_eq!(mesh.node('a').counter("tx_too_big"), 0);
}

fn survives_a_black_hole(family: Family) {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = wired(family);
    hush(&mesh);
    start(&mut mesh);
    check_overcome(&mesh);
}

/// Long packets vanish while nobody has looked for it, and pass once somebody has.
fn check_overcome(mesh: &Mesh) {
    // On a busy machine the search, which takes some seconds, may be over before this is sent.
    let was_searched = || mesh.node('a').counter("fragmented") > 0;
    assert!(!full_packet_passes(mesh) || was_searched(), "no black hole");
    wait_searched(mesh);
    assert!(full_packet_passes(mesh));
    let took = megabyte(mesh);
    println!("a megabyte through a black hole in {took:?}");
    assert!(took < MEGABYTE_WITHIN, "{took:?}");
    check_told(mesh);
}

#[test]
fn a_black_hole_on_an_ipv4_path_is_found_and_tcp_gets_through() {
    survives_a_black_hole(Family::V4);
}

#[test]
fn a_black_hole_on_an_ipv6_path_is_found_and_tcp_gets_through() {
    survives_a_black_hole(Family::V6);
}

fn heeds_icmp(family: Family) {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = wired(family);
    start(&mut mesh);
    let took = megabyte(&mesh);
    println!("{family:?}: a megabyte through a narrow path in {took:?}");
    assert!(took < MEGABYTE_WITHIN, "{took:?}");
    assert!(full_packet_passes(&mesh));
    wait_searched(&mesh);
    check_told(&mesh);
}

#[test]
fn a_narrow_ipv4_path_that_says_so_costs_no_wait() {
    heeds_icmp(Family::V4);
}

#[test]
fn a_narrow_ipv6_path_that_says_so_costs_no_wait() {
    heeds_icmp(Family::V6);
}

#[test]
fn a_wide_path_is_probed_once_and_nothing_goes_in_fragments() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = Mesh::started("ab");
    mesh.wait_ping('a', 'b');
    wait_searched(&mesh);
    for name in ['a', 'b'] {
        let link = &mesh.node(name).neighbors().neighbors[0].links[0];
        assert_eq!(link.path_mtu_bytes, Some(link.largest_packet_bytes));
        assert_eq!(link.largest_packet_bytes, 1_400 + 16 + 28);
    }
    megabyte(&mesh);
    assert_eq!(mesh.node('a').counter("fragmented"), 0);
    assert!(mesh.node('a').status().health.is_empty());
}

/// A wire that drops what is longer than 1,300 bytes, whether it may be cut or not.
fn crosses_a_narrow_wire(family: Family) {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(family, "ab");
    for name in ['a', 'b'] {
        // Before fragments are put together.
        nft(
            mesh.machine(name),
            "table inet wire { chain in { type filter hook prerouting priority -500; \
             iifname \"to-*\" meta length > 1300 drop; } }",
        );
    }
    mesh.start_all();
    mesh.wait_ping('a', 'b');
    check_overcome(&mesh);
}

#[test]
fn an_ipv4_wire_that_drops_what_is_long_is_crossed_in_fragments() {
    crosses_a_narrow_wire(Family::V4);
}

#[test]
fn an_ipv6_wire_that_drops_what_is_long_is_crossed_in_fragments() {
    crosses_a_narrow_wire(Family::V6);
}

/// What sealed nodes behind jumbo wires are started with.
fn is_jumbo(setup: &mut Setup) {
    setup.sealed = true;
    setup.arguments(&format!("--mtu {JUMBO_DEVICE}"));
}

/// Bytes of the longest IP packet that came to a machine, and whether it was a fragment.
fn longest(tap: &Socket) -> (usize, bool) {
    let (mut frame, mut longest) = (vec![0; 10_000], (0, false));
    while let Ok(len) = (&*tap).read(&mut frame) {
        let is_fragment = frame[20] & 0x3F != 0 || frame[21] != 0;
        if frame[12..14] == [0x08, 0x00] && len - 14 > longest.0 {
            longest = (len - 14, is_fragment);
        }
    }
    longest
}

#[test]
fn jumbo_packets_pass_a_sealed_path_of_jumbo_wires_whole() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = jumbo(JUMBO.0);
    start_with(&mut mesh, is_jumbo);
    let tap = mesh.machine('s').run(wiretap).unwrap();
    let full = JUMBO_DEVICE - 28;
    wait_until("a full packet passes", PATIENCE, || passes(&mesh, full));
    let (longest, is_fragment) = longest(&tap);
    assert!(longest > JUMBO_DEVICE && !is_fragment, "{longest}");
    assert!(longest <= JUMBO.0 as usize);
    println!("longest {longest}, a megabyte in {:?}", megabyte(&mesh));
}

#[test]
fn jumbo_packets_fall_back_to_fragments_before_a_wire_of_1500_and_tcp_goes_on() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    for is_hushed in [false, true] {
        let mut mesh = jumbo(JUMBO.1);
        if is_hushed {
            hush(&mesh);
        }
        start_with(&mut mesh, is_jumbo);
        let took = megabyte(&mesh);
        println!("hushed {is_hushed}: a megabyte in {took:?}");
        let full = JUMBO_DEVICE - 28;
        wait_until("a full packet passes", PATIENCE, || passes(&mesh, full));
        assert!(mesh.node('a').counter("fragmented") > 0);
    }
}
