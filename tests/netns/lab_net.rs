//! The lab's own ground: namespaces are apart, wires carry, a cut is silent.
//!
//! ```text
//!   a  10.64.1.1 ------ wire ------ 10.64.1.2  b
//! ```

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::net::if_::InterfaceFlags;
use overlay::lab::net::{Namespace, Plug, Side, Wire, Wires, ping};
use overlay_tests::mesh::Turn;

use crate::may_make_namespaces;

const SOON: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_millis(300);

/// Two machines and a wire. Dropped, they are gone.
struct Pair {
    a: Namespace,
    b: Namespace,
    wires: Wires,
    wire: Wire,
}

fn pair() -> Pair {
    let a = Namespace::new("a").unwrap();
    let b = Namespace::new("b").unwrap();
    let wires = Wires::new().unwrap();
    let wire = lay(&wires, &a, &b, 1);
    Pair { a, b, wires, wire }
}

fn lay(wires: &Wires, a: &Namespace, b: &Namespace, number: u8) -> Wire {
    let addresses = |host: u8| {
        [
            format!("10.64.{number}.{host}/24").parse().unwrap(),
            format!("fd64:0:0:{number}::{host}/64").parse().unwrap(),
        ]
    };
    let interface = format!("eth{number}");
    let plug = |namespace, addresses| Plug {
        namespace,
        interface: &interface,
        addresses,
    };
    wires
        .connect(plug(a, &addresses(1)), plug(b, &addresses(2)))
        .unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn answers(namespace: &Namespace, target: &str, patience: Duration) -> bool {
    ping(namespace, address(target), patience)
        .unwrap()
        .is_some()
}

/// Whether an interface that is up also hears something at its far end.
fn has_carrier(namespace: &Namespace, interface: &str) -> bool {
    let flags = namespace
        .run(|| {
            nix::ifaddrs::getifaddrs()
                .unwrap()
                .find(|entry| entry.interface_name == interface)
                .unwrap()
                .flags
        })
        .unwrap();
    flags.contains(InterfaceFlags::IFF_LOWER_UP)
}

#[test]
fn a_new_namespace_has_loopback_and_nothing_else() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let namespace = Namespace::new("alone").unwrap();
    let interfaces = namespace
        .run(|| nix::net::if_::if_nameindex().unwrap().iter().count())
        .unwrap();
    assert_eq!(interfaces, 1);
    assert!(answers(&namespace, "127.0.0.1", SOON));
    assert!(answers(&namespace, "::1", SOON));
    assert!(!answers(&namespace, "10.64.1.2", SILENCE));
}

#[test]
fn the_callers_thread_stays_where_it_is() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let here = || fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = here();
    let namespace = Namespace::new("elsewhere").unwrap();
    assert_ne!(namespace.run(here).unwrap(), before);
    assert_eq!(here(), before);
}

#[test]
fn a_program_runs_inside_and_the_path_leads_there() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let namespace = Namespace::new("program").unwrap();
    let mut command = Command::new("readlink");
    command.arg("/proc/self/ns/net").stdout(Stdio::piped());
    let program = namespace.spawn(&mut command).unwrap();
    let output = program.wait_with_output().unwrap();
    let inside = namespace
        .run(|| fs::read_link("/proc/thread-self/ns/net").unwrap())
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim(),
        inside.to_str().unwrap()
    );
    assert_eq!(fs::read_link(namespace.path()).unwrap(), inside);
}

#[test]
fn a_wire_carries_both_families_both_ways() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let pair = pair();
    assert!(answers(&pair.a, "10.64.1.2", SOON));
    assert!(answers(&pair.b, "10.64.1.1", SOON));
    assert!(answers(&pair.a, "fd64:0:0:1::2", SOON));
    assert!(answers(&pair.b, "fd64:0:0:1::1", SOON));
    assert!(!answers(&pair.a, "10.64.1.3", SILENCE));
}

#[test]
fn a_cut_is_silent_and_a_restored_wire_carries_again() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let pair = pair();
    assert!(answers(&pair.a, "10.64.1.2", SOON));
    pair.wire.cut().unwrap();
    assert!(!answers(&pair.a, "10.64.1.2", SILENCE));
    assert!(!answers(&pair.b, "10.64.1.1", SILENCE));
    assert!(has_carrier(&pair.a, pair.wire.interface(Side::A)));
    assert!(has_carrier(&pair.b, pair.wire.interface(Side::B)));
    pair.wire.cut().unwrap();
    pair.wire.restore().unwrap();
    assert!(answers(&pair.a, "10.64.1.2", SOON));
}

#[test]
fn a_lost_carrier_is_seen_at_that_end_only() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let pair = pair();
    pair.wire.set_carrier(Side::A, false).unwrap();
    assert!(!has_carrier(&pair.a, "eth1"));
    assert!(has_carrier(&pair.b, "eth1"));
    assert!(!answers(&pair.a, "10.64.1.2", SILENCE));
    pair.wire.set_carrier(Side::A, true).unwrap();
    assert!(answers(&pair.a, "10.64.1.2", SOON));
    assert!(has_carrier(&pair.a, "eth1"));
}

#[test]
fn cutting_one_wire_of_two_leaves_the_other() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let pair = pair();
    let second = lay(&pair.wires, &pair.a, &pair.b, 2);
    pair.wire.cut().unwrap();
    assert!(!answers(&pair.a, "10.64.1.2", SILENCE));
    assert!(answers(&pair.a, "10.64.2.2", SOON));
    second.remove().unwrap();
    assert!(!answers(&pair.a, "10.64.2.2", SILENCE));
}

#[test]
fn a_route_leads_through_a_machine_that_forwards() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let pair = pair();
    let c = Namespace::new("c").unwrap();
    lay(&pair.wires, &pair.b, &c, 2);
    let add_route = |namespace: &Namespace, to: &str, gateway: &str| {
        namespace
            .add_route(to.parse().unwrap(), address(gateway))
            .unwrap();
    };
    add_route(&pair.a, "10.64.2.0/24", "10.64.1.2");
    add_route(&c, "10.64.1.0/24", "10.64.2.1");
    pair.b.sysctl("net.ipv4.ip_forward", "0").unwrap();
    assert!(!answers(&pair.a, "10.64.2.2", SILENCE));
    pair.b.sysctl("net.ipv4.ip_forward", "1").unwrap();
    assert!(answers(&pair.a, "10.64.2.2", SOON));
}

#[test]
fn a_socket_made_inside_works_from_outside() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let pair = pair();
    let (sender, receiver) = sockets(&pair);
    sender.send_to(b"number 1", "10.64.1.2:4000").unwrap();
    let mut datagram = [0; 64];
    let (len, from) = receiver.recv_from(&mut datagram).unwrap();
    assert_eq!(&datagram[..len], b"number 1");
    assert_eq!(from, "10.64.1.1:4000".parse().unwrap());
}

#[test]
fn long_packets_vanish_on_a_wire_with_a_small_mtu() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let pair = pair();
    pair.wire.set_mtu(1280).unwrap();
    let (sender, receiver) = sockets(&pair);
    receiver.set_read_timeout(Some(SILENCE)).unwrap();
    let mut datagram = [0; 2000];
    sender.send_to(&[1; 1400], "10.64.1.2:4000").unwrap();
    assert!(receiver.recv(&mut datagram).is_err());
    receiver.set_read_timeout(Some(SOON)).unwrap();
    sender.send_to(&[1; 1200], "10.64.1.2:4000").unwrap();
    assert_eq!(receiver.recv(&mut datagram).unwrap(), 1200);
}

/// A UDP socket at each end of the wire, port 4000.
fn sockets(pair: &Pair) -> (UdpSocket, UdpSocket) {
    let bind = |namespace: &Namespace, to: &str| {
        namespace
            .run(|| UdpSocket::bind((to, 4000)).unwrap())
            .unwrap()
    };
    let receiver = bind(&pair.b, "10.64.1.2");
    receiver.set_read_timeout(Some(SOON)).unwrap();
    (bind(&pair.a, "10.64.1.1"), receiver)
}

#[test]
fn dropped_namespaces_take_their_interfaces_with_them() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let Pair { a, b, wires, wire } = pair();
    drop((b, wires, wire));
    // The kernel removes a namespace in the background.
    let deadline = Instant::now() + SOON;
    while a.interface_index("eth1").is_ok() {
        assert!(Instant::now() < deadline, "eth1 stays");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_error_says_what_and_where() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let namespace = Namespace::new("a").unwrap();
    let error = namespace.set_up("eth9").unwrap_err();
    assert_eq!(error.to_string(), "cannot set up eth9 (namespace a)");
    assert!(!error.is_permission());
    let mut missing = Command::new("/nonexistent/program");
    let error = namespace.spawn(&mut missing).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot start /nonexistent/program (namespace a)"
    );
}
