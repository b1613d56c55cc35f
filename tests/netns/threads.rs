//! Two data threads at each node, one for each way.
//!
//! ```text
//!       b
//!      / \
//!     a   d   diamond
//!      \ /
//!       c
//! ```

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use overlay::daemon::report::DeviceState;
use overlay_tests::mesh::{
    DEVICE, Family, Mesh, PATIENCE, Turn, may_run, netid, overlay_v4, sleep_until,
};

/// A mesh whose nodes have two data threads.
fn started(wires: &str, mode: &'static str) -> Mesh {
    let mut mesh = Mesh::wired(Family::Dual, wires);
    let mut names: Vec<char> = wires.chars().filter(|name| !name.is_whitespace()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let node = mesh.start_with(name, |setup| {
            setup.mode = mode;
            setup.arguments("--threads 2");
        });
        assert_eq!(node.status().device.threads, 2);
    }
    mesh.wait_live();
    mesh
}

#[test]
fn two_data_threads_lose_and_reorder_nothing_while_a_relay_is_killed() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = started("ab bd ac cd", "tun");
    mesh.wait_ping('a', 'd');
    let figures = mesh.stream('a', 'd').run(Duration::from_secs(3), |start| {
        sleep_until(start + Duration::from_secs(1));
        mesh.node_mut('b').kill();
    });
    assert!(figures.is_perfect(), "{figures:?}");
    assert_eq!(figures.reordered, 0, "{figures:?}");
}

#[test]
fn a_connection_over_tap_and_two_data_threads_keeps_its_bytes() {
    const LEN: usize = 20 << 20;
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = started("ab", "tap");
    mesh.wait_ping('a', 'b');
    let listen = mesh
        .machine('b')
        .run(|| TcpListener::bind((overlay_v4('b'), 0)));
    let listener = listen.unwrap().unwrap();
    let target = listener.local_addr().unwrap();
    let connected = mesh.machine('a').run(|| TcpStream::connect(target));
    let mut client = connected.unwrap().unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    let sent: Vec<u8> = (0..LEN).map(|place| (place / 7) as u8).collect();
    let expected = sent.clone();
    let sender = thread::spawn(move || client.write_all(&sent));
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = vec![0; LEN];
    server.read_exact(&mut received).unwrap();
    sender.join().unwrap().unwrap();
    assert!(received == expected, "the bytes that were sent");
}

#[test]
fn both_data_threads_let_go_of_a_deleted_device_and_take_the_next() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = started("ab", "tun");
    for _ in 0..2 {
        mesh.wait_ping('a', 'b');
        mesh.machine('b').delete(DEVICE).unwrap();
        mesh.node('b').wait("misses its device", PATIENCE, |node| {
            node.status().device.state == DeviceState::Degraded
        });
        mesh.node('b')
            .wait("has its device back", PATIENCE, |node| {
                node.status().device.state == DeviceState::Up
            });
    }
    mesh.wait_ping('a', 'b');
    mesh.wait_ping('b', 'a');
    let log = mesh.node('b').log();
    assert_eq!(log.matches("the device was deleted").count(), 2, "{log}");
    assert_eq!(mesh.node('b').netid(), netid('b'));
}
