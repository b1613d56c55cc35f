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
use std::time::{Duration, Instant};

use overlay::daemon::report::Security;
use overlay_tests::cli;
use overlay_tests::mesh::{
    Family, Mesh, Node, PATIENCE, PORT, Setup, Turn, may_run, netid, sleep_until, wait_until,
};
use socket2::{Domain, Protocol, Socket, Type};

/// A mesh of members.
fn sealed(wires: &str) -> Mesh {
    Mesh::sealed(Family::Dual, wires)
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
    // Two datagrams each, whatever else is said meanwhile.
    for _ in 0..3 {
        mesh.wait_ping('a', 'b');
    }
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

/// Two members, a machine x beside b that is none, and what b's wires carry from the start.
pub(crate) fn watched_pair() -> (Mesh, Socket) {
    let mut mesh = Mesh::wired(Family::V4, "ab bx");
    let wiretap = mesh.machine('b').run(wiretap).unwrap();
    for name in ['a', 'b'] {
        mesh.start_with(name, |setup| {
            setup.sealed = true;
            setup
                .peers
                .retain(|peer| peer.ip().to_string().starts_with("10.64.1."));
        });
    }
    mesh.wait_ping('a', 'b');
    (mesh, wiretap)
}

/// A socket that gets every frame of a machine.
pub(crate) fn wiretap() -> Socket {
    const ETH_P_ALL: i32 = 0x0003;
    let all = Protocol::from(i32::from((ETH_P_ALL as u16).to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// What a datagram to or from a daemon carries, in an Ethernet frame.
pub(crate) fn udp_payload(frame: &[u8]) -> Option<&[u8]> {
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

#[test]
fn sealed_a_stolen_netid_is_refused_after_a_restart_too_until_its_key_is_forgotten() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab ac");
    let is_member = |setup: &mut Setup| setup.sealed = true;
    mesh.start_with('a', is_member);
    mesh.start_with('b', is_member);
    mesh.wait_ping('a', 'b');
    let pins = mesh.directory().join("a.state/pins");
    wait_until("the key is written down", PATIENCE, || pins.exists());
    mesh.node_mut('b').kill();
    mesh.node_mut('a').kill();
    mesh.start_with('a', is_member);
    mesh.start_with('c', |setup| {
        setup.sealed = true;
        setup.netid = Some(netid('b'));
    });
    mesh.node('a').wait("it alarms", PATIENCE, |node| {
        let health = node.status().health;
        let command = format!("floodmesh forget {} --name a", netid('b'));
        let mut lines = health.iter();
        lines.any(|line| line.code == "other_key" && line.text.contains(&command))
    });
    assert!(mesh.node('a').counter("not_admitted") > 0);
    assert_eq!(mesh.node('a').live_links(), []);
    // The one word that helps, said to the running node.
    let said = mesh.node('a').run(&["forget", &netid('b').to_string()]);
    assert!(said.status.success(), "{said:?}");
    mesh.node('a')
        .wait("it takes the new key", PATIENCE, |node| {
            node.live_links() == [netid('b')]
        });
}

/// What `floodmesh key` says of a node that is to be started.
fn static_key(setup: &Setup) -> String {
    let text = setup.command("key", "");
    let line = text.lines().find(|line| line.starts_with("static key"));
    line.unwrap().split_whitespace().last().unwrap().to_owned()
}

#[test]
fn sealed_only_listed_keys_come_up_where_keys_are_listed() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab ac");
    let mut key = String::new();
    mesh.start_with('b', |setup| {
        setup.sealed = true;
        key = static_key(setup);
    });
    mesh.start_with('c', |setup| setup.sealed = true);
    mesh.start_with('a', |setup| {
        setup.sealed = true;
        setup.more = vec![
            "--set".into(),
            format!("trusted_keys={} {key} b", netid('b')),
        ];
    });
    mesh.wait_ping('a', 'b');
    mesh.node('a').wait("it refuses c", PATIENCE, |node| {
        node.counter("not_admitted") > 0
    });
    assert_eq!(mesh.node('a').live_links(), [netid('b')]);
    let line = format!("add to trusted_keys: \"{} ", netid('c'));
    assert!(mesh.node('a').log().contains(&line));
}

#[test]
fn sealed_a_revoked_node_is_out_of_the_whole_mesh_in_seconds() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    // The list is given to a, and c is the one that has to close a link.
    let mut mesh = Mesh::wired(Family::V4, "ab bc cd");
    let directory = mesh.directory().join("authority");
    let office = format!("--dir {}", directory.display());
    let mut authority = String::new();
    for name in ['a', 'b', 'c', 'd'] {
        mesh.start_with(name, |setup| {
            setup.sealed = true;
            if name == 'a' {
                let line = setup.command(&format!("ca init {office}"), "");
                authority = line.trim().replace(" = ", "=").replace('"', "");
            }
            let keys = setup.command("key --json", "");
            let more = if name == 'd' { "--days 7" } else { "" };
            let netid = netid(name);
            let sign = format!("ca sign - {office} --name node-{name} --netid {netid} {more}");
            let certificate = setup.command(&sign, &keys);
            setup.put("certificate", &certificate);
            setup.more = vec!["--set".into(), authority.clone()];
        });
    }
    mesh.wait_ping('a', 'd');
    let named = |node: &Node| {
        let report = node.neighbors();
        let names = report.neighbors.into_iter().filter_map(|one| one.name);
        names.collect::<Vec<_>>()
    };
    assert_eq!(named(mesh.node('a')), ["node-b"]);
    let own = mesh.node('d').status().certificate.unwrap();
    assert_eq!((own.serial, &own.name[..]), (4, "node-d"));
    let warned = |name| {
        let health = mesh.node(name).status().health;
        health.iter().any(|line| line.code == "certificate_ends")
    };
    assert!(warned('d') && !warned('a'));
    let run = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = cli::command(&words).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    };
    run(&format!("ca revoke node-d {office}"));
    let control = mesh.node('a').control().display().to_string();
    let start = Instant::now();
    run(&format!("ca publish {office} --control {control}"));
    mesh.node('c').wait("it closed the link", PATIENCE, |node| {
        node.status().revocation_list == 1 && !mesh.pings('a', 'd', Duration::from_millis(100))
    });
    println!("out after {:?}", start.elapsed());
    mesh.wait_ping('a', 'c');
    // It stays outside, also where c starts anew with what it remembers.
    mesh.node_mut('b').kill();
    mesh.node_mut('c').kill();
    mesh.start_with('c', |setup| {
        setup.sealed = true;
        setup.more = vec!["--set".into(), authority.clone()];
    });
    mesh.node('c').wait("it refuses d", PATIENCE, |node| {
        node.counter("not_admitted") > 0
    });
    assert_eq!(mesh.node('c').live_links(), []);
}
