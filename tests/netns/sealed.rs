//! Sealed meshes: members get everything a plain mesh gives, others nothing.
//!
//! ```text
//!       b
//!      / \\
//!     a   d   diamond
//!      \\ /
//!       c
//! ```

use std::thread;
use std::time::Duration;

use nix::libc;
use overlay::daemon::report::Security;
use overlay_tests::mesh::{Family, Mesh, PATIENCE, Turn, may_run, netid, sleep_until};

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
    assert_eq!((status.security, &status.mode[..]), (Security::Link, "sealed"));
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
    let tap = mesh.machine('b').run(sniffer).unwrap();
    mesh.wait_ping('a', 'b');
    thread::sleep(Duration::from_millis(300));
    let frames = tap.take();
    let payloads: Vec<&[u8]> = frames.iter().filter_map(|frame| udp_payload(frame)).collect();
    assert!(payloads.len() > 2, "{} frames", frames.len());
    assert!(payloads.iter().all(|payload| payload.first() == Some(&0xAE)));
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
