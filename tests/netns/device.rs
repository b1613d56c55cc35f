//! The device is deleted under a running daemon.
//!
//! ```text
//!   a --- b --- c      b's device goes; b keeps forwarding and makes it again
//! ```

use std::time::Duration;

use overlay::daemon::report::DeviceState;
use overlay_tests::mesh::{DEVICE, Mesh, PATIENCE, Turn, may_run, sleep_until};

#[test]
fn a_relay_whose_device_is_deleted_forwards_on_and_makes_it_again() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mesh = Mesh::started("ab bc");
    mesh.wait_ping('a', 'c');
    mesh.wait_ping('a', 'b');
    let before = mesh.machine('b').interface_index(DEVICE).unwrap();
    let figures = mesh.stream('a', 'c').run(Duration::from_secs(3), |start| {
        sleep_until(start + Duration::from_secs(1));
        mesh.machine('b').delete(DEVICE).unwrap();
    });
    assert!(figures.is_perfect(), "{figures:?}");
    mesh.node('b')
        .wait("has its device back", PATIENCE, |node| {
            node.status().device.state == DeviceState::Up
        });
    let after = mesh.machine('b').interface_index(DEVICE).unwrap();
    assert_ne!(before, after, "it was made again");
    mesh.wait_ping('a', 'b');
    mesh.wait_ping('b', 'c');
}
