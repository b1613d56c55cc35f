//! Meshes without faults: who is wired reaches whom, and how fast.
//!
//! ```text
//!   pair:  a --- b        line:  a --- b --- c --- d --- e
//! ```

use std::time::Duration;

use overlay_tests::mesh::{Family, Mesh, Turn, may_run};

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
