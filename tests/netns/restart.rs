//! Starting, stopping, starting again.
//!
//! ```text
//!   a --- b
//! ```

use std::time::{Duration, Instant};

use overlay_tests::mesh::{Family, Mesh, PATIENCE, Turn, may_run, netid, wait_until};

/// Pings until one is answered; returns when that was.
fn first_answer(mesh: &Mesh, from: char, to: char) -> Instant {
    wait_until("a first ping is answered", PATIENCE, || {
        mesh.pings(from, to, Duration::from_millis(50))
    });
    Instant::now()
}

/// A second on a machine with nothing else to do; without what each test shows it would take the 45 s
/// of silence, or for ever.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn from_start_to_the_first_answered_ping_takes_a_moment() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::wired(Family::V4, "ab");
    mesh.start('b');
    // Long enough that b does not dial any more at just this moment.
    std::thread::sleep(Duration::from_millis(2_500));
    let start = Instant::now();
    mesh.start('a');
    let took = first_answer(&mesh, 'a', 'b') - start;
    println!("start to first answer: {took:?}");
    assert!(took < SOON, "{took:?}");
}

#[test]
fn a_restart_keeps_netid_and_neighbors_and_is_in_use_at_once() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::wired(Family::V4, "ab");
    // b is not told of a: after its restart it knows it from its state alone. Its netid neither.
    mesh.start('a');
    mesh.start_with('b', |setup| setup.netid = None);
    mesh.wait_ping('a', 'b');
    let drawn = mesh.node('b').status().netid;
    assert_ne!(drawn, netid('b'));
    let (status, took) = mesh.node_mut('b').stop();
    // The kernel takes the device down meanwhile, which waits for others doing the like.
    assert!(status.success() && took < PATIENCE, "{took:?}");
    assert!(!mesh.pings('a', 'b', Duration::from_millis(200)));

    let start = Instant::now();
    mesh.start_with('b', |setup| {
        setup.netid = None;
        setup.peers = Vec::new();
    });
    let took = first_answer(&mesh, 'b', 'a') - start;
    println!("restart to first answer: {took:?}");
    assert!(took < SOON, "{took:?}");
    assert_eq!(mesh.node('b').status().netid, drawn);
}

#[test]
fn a_restarted_node_finds_back_by_what_it_remembers_alone() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::wired(Family::V4, "ab");
    // a never dials: who b is, only b can know.
    mesh.start_with('a', |setup| setup.peers = Vec::new());
    mesh.start('b');
    mesh.wait_ping('b', 'a');
    stop_and_be_forgotten(&mut mesh, 'b', 'a');

    let start = Instant::now();
    mesh.start_with('b', |setup| setup.peers = Vec::new());
    let took = first_answer(&mesh, 'b', 'a') - start;
    println!("restart from memory to first answer: {took:?}");
    assert!(took < SOON, "{took:?}");

    // The counter-claim: it was the memory. Without it the two stay strangers.
    stop_and_be_forgotten(&mut mesh, 'b', 'a');
    std::fs::remove_dir_all(mesh.directory().join("b.state")).unwrap();
    mesh.start_with('b', |setup| setup.peers = Vec::new());
    assert!(!mesh.pings('b', 'a', Duration::from_secs(2)));
    for name in ['a', 'b'] {
        assert!(mesh.node(name).neighbors().neighbors.is_empty(), "{name}");
    }
}

/// Stops `leaving` and waits until `staying` neither has it as a neighbor nor tries to.
fn stop_and_be_forgotten(mesh: &mut Mesh, leaving: char, staying: char) {
    let (status, _) = mesh.node_mut(leaving).stop();
    assert!(status.success(), "{status}");
    mesh.node(staying)
        .wait("forgets its neighbor", PATIENCE, |node| {
            node.neighbors().neighbors.is_empty()
        });
}

#[test]
fn a_killed_node_is_back_in_use_right_after_its_start() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::started("ab");
    mesh.wait_ping('a', 'b');
    mesh.node_mut('b').kill();
    assert!(!mesh.pings('a', 'b', Duration::from_millis(200)));
    let start = Instant::now();
    // a still believes in the link: it was killed, not stopped.
    mesh.start('b');
    let there = first_answer(&mesh, 'a', 'b') - start;
    let back = first_answer(&mesh, 'b', 'a') - start;
    println!("start after kill to first answer: {there:?} there, {back:?} back");
    assert!(there.max(back) < SOON, "{there:?} {back:?}");
}

#[test]
fn a_clean_stop_says_goodbye_and_the_neighbor_lets_go() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::started("ab");
    let (status, took) = mesh.node_mut('b').stop();
    assert!(status.success(), "{status}");
    assert!(took < PATIENCE, "{took:?}");
    // Silence alone would take 45 s.
    mesh.node('a')
        .wait("lets its neighbor go", PATIENCE, |node| {
            node.live_links().is_empty()
        });
}
