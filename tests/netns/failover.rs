//! The promise: while one way is left, a fault in mid-stream loses nothing.
//!
//! ```text
//!       b               ring:   a --- b             line:  a --- b --- c --- d --- e
//!      / \                     /       \
//!     a   d  diamond          e         c           one way only: here a fault must lose
//!      \ /                     \       /
//!       c                        - d -
//! ```
//!
//! Streams of 1,000 packets/s; each fault strikes a second after the start, heals, and the next
//! one follows in the same mesh.

use std::time::{Duration, Instant};

use overlay::lab::net::Side;
use overlay_tests::mesh::{Figures, Mesh, PATIENCE, Turn, may_run, netid, sleep_until};

/// How long each stream lasts, and when the fault strikes.
const STREAM: Duration = Duration::from_secs(3);
const FAULT_AFTER: Duration = Duration::from_secs(1);

/// What a wire can suffer.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing passes any more, and nobody is told.
    Blackholed,
    /// The interface goes down at one machine; the other loses its carrier.
    Down,
}

/// A stream under which `strike` happens.
fn streamed(mesh: &mut Mesh, from: char, to: char, strike: impl FnOnce(&mut Mesh)) -> Figures {
    mesh.wait_ping(from, to);
    let stream = mesh.stream(from, to);
    stream.run(STREAM, |start| {
        sleep_until(start + FAULT_AFTER);
        strike(mesh);
    })
}

fn break_wire(mesh: &Mesh, wire: &str, fault: Fault) {
    match fault {
        Fault::Blackholed => mesh.wire(wire).cut().unwrap(),
        Fault::Down => mesh.wire(wire).set_carrier(Side::A, false).unwrap(),
    }
}

fn mend_wire(mesh: &Mesh, wire: &str, fault: Fault) {
    match fault {
        Fault::Blackholed => mesh.wire(wire).restore().unwrap(),
        Fault::Down => mesh.wire(wire).set_carrier(Side::A, true).unwrap(),
    }
}

/// Breaks each wire under a stream from `a` to `to`; nothing may be lost, nothing come twice.
fn survives_each_wire(mesh: &mut Mesh, to: char, wires: &str, fault: Fault) {
    for wire in wires.split_whitespace() {
        let figures = streamed(mesh, 'a', to, |mesh| break_wire(mesh, wire, fault));
        mend_wire(mesh, wire, fault);
        assert!(figures.is_perfect(), "{wire} {fault:?}: {figures:?}");
        mesh.wait_live();
        // Live is not yet heard: IPv4 over the mended wire needs its neighbor (ARP) again.
        for (name, far) in [(0, 1), (1, 0)] {
            let ends: Vec<char> = wire.chars().collect();
            wait_heard(mesh, ends[name], ends[far]);
        }
    }
}

/// Waits until `name` has heard the link of `far` within the last second.
fn wait_heard(mesh: &Mesh, name: char, far: char) {
    let far = netid(far);
    // Traffic that goes unanswered makes a link ask within seconds.
    mesh.node(name)
        .wait("hears its neighbor again", PATIENCE * 3, |node| {
            let report = node.neighbors();
            let mut all = report.neighbors.iter();
            let neighbor = all.find(|neighbor| neighbor.netid == Some(far));
            neighbor.is_some_and(|neighbor| {
                let mut links = neighbor.links.iter();
                links.any(|link| link.heard_ago_ms.is_some_and(|ago| ago < 3_000))
            })
        });
}

#[test]
fn a_diamond_loses_nothing_when_any_wire_is_blackholed_or_goes_down() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::started("ab bd ac cd");
    survives_each_wire(&mut mesh, 'd', "ab cd", Fault::Blackholed);
    survives_each_wire(&mut mesh, 'd', "bd ac", Fault::Down);
    // The counter-claim: with both ways cut the stream does lose.
    mesh.wire("ab").cut().unwrap();
    mesh.wire("ac").cut().unwrap();
    let figures = mesh.stream('a', 'd').run(Duration::from_secs(2), |_| {});
    assert!(figures.lost > 1_000, "{figures:?}");
}

#[test]
fn a_ring_of_five_loses_nothing_when_any_wire_breaks() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::started("ab bc cd de ea");
    survives_each_wire(&mut mesh, 'c', "ab cd", Fault::Blackholed);
    survives_each_wire(&mut mesh, 'c', "bc de ea", Fault::Down);
}

#[test]
fn a_killed_relay_loses_nothing_though_its_port_answers_closed() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::started("ab bd ac cd");
    for relay in ['b', 'c'] {
        let figures = streamed(&mut mesh, 'a', 'd', |mesh| mesh.node_mut(relay).kill());
        assert!(figures.is_perfect(), "{relay} killed: {figures:?}");
        // The refusals did come, so the test has seen what it is about.
        let refused =
            mesh.node('a').counter("tx_unreachable") + mesh.node('d').counter("tx_unreachable");
        println!("{relay} killed: {refused} refused, {figures:?}");
        mesh.start(relay);
        mesh.wait_live();
    }
}

#[test]
fn a_relay_that_says_goodbye_loses_nothing() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::started("ab bd ac cd");
    let figures = streamed(&mut mesh, 'a', 'd', |mesh| {
        let (status, time) = mesh.node_mut('c').stop();
        assert!(status.success(), "{status}");
        // The kernel takes the device down meanwhile, which waits for others doing the like.
        assert!(time < PATIENCE, "{time:?}");
    });
    assert!(figures.is_perfect(), "{figures:?}");
}

#[test]
fn a_line_has_one_way_and_loses_while_it_is_cut_and_only_then() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::started("ab bc cd de");
    let whole = streamed(&mut mesh, 'a', 'e', |_| {});
    assert!(whole.is_perfect(), "{whole:?}");
    let cut = Duration::from_millis(500);
    let mut without = Duration::ZERO;
    let figures = streamed(&mut mesh, 'a', 'e', |mesh| {
        let start = Instant::now();
        mesh.wire("bc").cut().unwrap();
        sleep_until(Instant::now() + cut);
        mesh.wire("bc").restore().unwrap();
        without = start.elapsed();
    });
    let most = without.as_millis() as usize + 300;
    assert!(
        (400..most).contains(&figures.lost),
        "{figures:?} {without:?}"
    );
    assert_eq!(figures.duplicated, 0);
}
