//! Meshes without faults: who is wired reaches whom, and how fast.
//!
//! ```text
//!   pair:  a --- b        line:  a --- b --- c
//! ```

use std::time::Duration;

use overlay_tests::mesh::{Family, Mesh, PATIENCE, Turn, may_run, netid};

const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn two_nodes_reach_each_other_and_not_once_the_wire_is_cut() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab");
    mesh.start('a');
    assert!(!mesh.pings('a', 'b', SILENCE), "b has no daemon");
    mesh.start('b');
    mesh.wait_live();
    mesh.wait_ping('a', 'b');
    mesh.wait_ping('b', 'a');
    mesh.wire("ab").cut().unwrap();
    assert!(!mesh.pings('a', 'b', SILENCE), "the wire is cut");
    mesh.wire("ab").restore().unwrap();
    mesh.wait_ping('a', 'b');
}

#[test]
fn a_batch_of_one_without_offload_loses_nothing() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::wired(Family::V4, "ab bc");
    for name in ['a', 'b', 'c'] {
        mesh.start_with(name, |setup| {
            setup.arguments("--offload off --batch 1");
        });
    }
    mesh.wait_live();
    mesh.wait_ping('a', 'c');
    let figures = mesh.stream('a', 'c').run(Duration::from_secs(1), |_| {});
    assert!(figures.is_perfect(), "{figures:?}");
    assert_eq!(mesh.node('a').status().device.batch, 1);
}

#[test]
fn nodes_says_by_which_neighbor_a_far_node_comes() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = Mesh::started("ab bc");
    mesh.wait_ping('a', 'c');
    let via = |far| {
        let report = mesh.node('a').nodes();
        let mut all = report.nodes.into_iter();
        all.find(|node| node.netid == netid(far))
            .map(|node| node.via)
    };
    mesh.node('a').wait("has heard of c by b", PATIENCE, |_| {
        via('c') == Some(vec![netid('b')])
    });
    assert_eq!(via('b'), Some(vec![netid('b')]));
    let output = mesh.node('a').run(&["nodes"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("via 00000002"), "{text}");
}
