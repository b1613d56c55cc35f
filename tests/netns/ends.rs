//! Sealed end to end: what a node carries for others, it cannot read.
//!
//! ```text
//!     a --- b --- c    line         b
//!                                  / \
//!                                 a   d   diamond
//!                                  \ /
//!                                   c
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use overlay_tests::mesh::{
    Family, Mesh, PATIENCE, Turn, may_run, netid, overlay_v4, sleep_until, wait_until,
};

/// A mesh of members.
fn sealed(wires: &str) -> Mesh {
    Mesh::sealed(Family::V4, wires)
}

/// No node met anything that should not be there.
fn is_clean(mesh: &Mesh, names: &str) {
    for name in names.chars() {
        let node = mesh.node(name);
        for counter in ["forged", "replayed", "clear_data", "not_sealed"] {
            assert_eq!(node.counter(counter), 0, "{name} {counter}{}", node.facts());
        }
    }
}

/// Sends `bytes` over TCP and has them sent back.
fn echo(mesh: &Mesh, from: char, to: char, bytes: &[u8]) -> Vec<u8> {
    let address = SocketAddr::new(overlay_v4(to), 7_777);
    let listener = mesh
        .machine(to)
        .run(|| TcpListener::bind(address))
        .unwrap()
        .unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let mut stream = mesh
        .machine(from)
        .run(|| TcpStream::connect(address))
        .unwrap()
        .unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    server.join().unwrap();
    back
}

#[test]
fn ends_of_a_line_speak_over_a_relay_that_cannot_read() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = sealed("ab bc");
    mesh.wait_ping('a', 'c');
    mesh.wait_ping('c', 'a');
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    assert!(echo(&mesh, 'a', 'c', &bytes) == bytes);
    is_clean(&mesh, "abc");
    assert_eq!(mesh.node('b').counter("delivered"), 0);
}

#[test]
fn ends_lose_nothing_while_a_relay_is_killed() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = sealed("ab bd ac cd");
    mesh.wait_ping('a', 'd');
    let figures = mesh.stream('a', 'd').run(Duration::from_secs(3), |start| {
        sleep_until(start + Duration::from_secs(1));
        mesh.node_mut('b').kill();
    });
    assert!(figures.is_perfect(), "{figures:?}");
    is_clean(&mesh, "acd");
}

#[test]
fn ends_speak_again_seconds_after_one_starts_anew() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = sealed("ab bc");
    mesh.wait_ping('a', 'c');
    mesh.node_mut('c').kill();
    let start = Instant::now();
    mesh.start_with('c', |setup| setup.sealed = true);
    // Without S66 it would take the ten minutes of S67.
    let patience = Duration::from_secs(60);
    wait_until("c is back", patience, || {
        mesh.pings('a', 'c', Duration::from_millis(200))
    });
    println!("back after {:?}", start.elapsed());
    assert!(mesh.node('a').status().netid == netid('a'));
}
