//! Sealed meshes: members get everything a plain mesh gives, others nothing.
//!
//! ```text
//!       b
//!      / \
//!     a   d   diamond
//!      \ /
//!       c
//! ```

use std::io::Read;
use std::thread;
use std::time::Duration;

use overlay::daemon::report::Security;
use overlay_tests::mesh::{Family, Mesh, PATIENCE, PORT, Turn, may_run, netid, sleep_until};
use socket2::{Domain, Protocol, Socket, Type};

/// A mesh of members.
fn sealed(wires: &str) -> Mesh {
    let mut mesh = Mesh::wired(Family::Dual, wires);
    let mut names: Vec<char> = wires.chars().filter(|name| !name.is_whitespace()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        mesh.start_with(name, |setup| setup.sealed = true);
    }
    mesh.wait_live();
    mesh
}

#[test]
fn sealed_a_diamond_loses_nothing_while_a_relay_is_killed() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = sealed("ab bd ac cd");
    mesh.wait_ping('a', 'd');
    let status = mesh.node('a').status();
    assert_eq!(
        (status.security, &status.mode[..]),
        (Security::E2e, "sealed")
    );
    let figures = mesh.stream('a', 'd').run(Duration::from_secs(3), |start| {
        sleep_until(start + Duration::from_secs(1));
        mesh.node_mut('b').kill();
    });
    assert!(figures.is_perfect(), "{figures:?}");
    for name in ['a', 'c', 'd'] {
        let node = mesh.node(name);
        for counter in ["forged", "replayed", "not_sealed", "spoofed_control"] {
            assert_eq!(node.counter(counter), 0, "{name}: {}", node.facts());
        }
    }
}

#[test]
fn sealed_nothing_plain_is_on_the_wire() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = sealed("ab");
    let wiretap = mesh.machine('b').run(wiretap).unwrap();
    mesh.wait_ping('a', 'b');
    mesh.wait_ping('b', 'a');
    thread::sleep(Duration::from_millis(300));
    let mut frame = [0; 2_048];
    let mut count = 0;
    while let Ok(len) = (&wiretap).read(&mut frame) {
        if let Some(payload) = udp_payload(&frame[..len]) {
            assert_eq!(payload.first(), Some(&0xAE), "{payload:02x?}");
            count += 1;
        }
    }
    assert!(count > 4, "{count} datagrams");
}

/// A socket that gets every frame of a machine.
fn wiretap() -> Socket {
    const ETH_P_ALL: i32 = 0x0003;
    let all = Protocol::from(i32::from((ETH_P_ALL as u16).to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// What a datagram to or from a daemon carries, in an Ethernet frame.
fn udp_payload(frame: &[u8]) -> Option<&[u8]> {
    let (kind, packet) = (frame.get(12..14)?, frame.get(14..)?);
    let datagram = match (kind, packet.first()?) {
        ([0x08, 0x00], 0x45) if packet.get(9) == Some(&17) => packet.get(20..)?,
        ([0x86, 0xDD], _) if packet.get(6) == Some(&17) => packet.get(40..)?,
        _ => return None,
    };
    let port = PORT.to_be_bytes();
    let is_ours = datagram.get(..2)? == port || datagram.get(2..4)? == port;
    is_ours.then(|| datagram.get(8..)).flatten()
}

#[test]
fn sealed_a_plain_node_and_one_of_another_mesh_stay_outside() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab ac ad");
    mesh.start_with('a', |setup| setup.sealed = true);
    mesh.start_with('b', |setup| setup.sealed = true);
    // Another mesh: a first node of its own, with the token out of the way.
    let token = mesh.directory().join("token");
    std::fs::remove_file(&token).unwrap();
    mesh.start_with('c', |setup| setup.sealed = true);
    mesh.start('d');
    mesh.wait_ping('a', 'b');
    mesh.node('a').wait("it refused both", PATIENCE, |node| {
        node.counter("handshake") > 0 && node.counter("not_sealed") > 0
    });
    assert_eq!(mesh.node('a').live_links(), [netid('b')]);
    for name in ['c', 'd'] {
        assert_eq!(mesh.node(name).live_links(), []);
        assert!(!mesh.pings(name, 'b', Duration::from_millis(500)));
    }
}

#[test]
fn sealed_a_node_that_starts_anew_is_back_in_seconds() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = sealed("ab");
    mesh.wait_ping('a', 'b');
    mesh.node_mut('b').kill();
    mesh.start_with('b', |setup| setup.sealed = true);
    mesh.wait_ping('a', 'b');
    mesh.wait_ping('b', 'a');
}

#[test]
fn sealed_a_node_under_anothers_netid_is_refused_and_alarms() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab ac");
    mesh.start_with('a', |setup| setup.sealed = true);
    mesh.start_with('b', |setup| setup.sealed = true);
    mesh.wait_ping('a', 'b');
    // A member, but under the number of b.
    mesh.start_with('c', |setup| {
        setup.sealed = true;
        setup.netid = Some(netid('b'));
    });
    mesh.node('a').wait("it alarms", PATIENCE, |node| {
        let health = node.status().health;
        health.iter().any(|line| line.code == "other_key")
    });
    mesh.wait_ping('a', 'b');
    assert_eq!(mesh.node('c').live_links(), []);
}
