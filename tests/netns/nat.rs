//! Behind routers: address translation, and wires that lose every fifth packet.
//!
//! ```text
//!                 h 10.64.2.1
//!                 |                      p: the public network, one router for all;
//!   a --- m ----- p ----- n --- b        m, n: home routers that masquerade
//! ```

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use overlay::lab::net::Namespace;
use overlay_tests::mesh::{Family, Mesh, PATIENCE, PORT, Turn, may_run, netid, sleep_until};

/// Loads rules in a namespace.
fn nft(machine: &Namespace, rules: &str) {
    let mut command = Command::new("nft");
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .arg(rules.replace("; }", ";\n}\n"));
    let status = machine.spawn(&mut command).unwrap().wait().unwrap();
    assert!(status.success(), "nft {rules}");
}

fn default_route(machine: &Namespace, gateway: IpAddr) {
    machine
        .add_route("0.0.0.0/0".parse().unwrap(), gateway)
        .unwrap();
}

#[test]
fn two_nodes_behind_their_own_nat_meet_through_inform_and_outlive_the_hub() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::wired(Family::V4, "am hp mp np bn");
    for router in ['m', 'n', 'p'] {
        mesh.machine(router)
            .sysctl("net.ipv4.ip_forward", "1")
            .unwrap();
    }
    for (machine, gateway) in [
        ("am", "ma"),
        ("bn", "nb"),
        ("hp", "ph"),
        ("mp", "pm"),
        ("np", "pn"),
    ] {
        let name = machine.chars().next().unwrap();
        default_route(mesh.machine(name), mesh.underlay(gateway)[0]);
    }
    for home in ['m', 'n'] {
        // As home routers do: what nobody asked for is dropped. Were it refused instead, the kernel
        // would keep a flow of it and give the host's own datagrams another port.
        nft(
            mesh.machine(home),
            "table ip guard { chain in { type filter hook input priority 0; \
             iifname \"to-p\" udp dport 44204 drop; } }",
        );
        nft(
            mesh.machine(home),
            "table ip nat { chain out { type nat hook postrouting priority 100; \
             oifname \"to-p\" masquerade; } }",
        );
    }
    let hub = std::net::SocketAddr::new(mesh.underlay("hp")[0], PORT);
    mesh.start_with('h', |setup| {
        setup.peers = Vec::new();
        setup.arguments("--allow-inform 10.64.0.0/16");
    });
    for name in ['a', 'b'] {
        mesh.start_with(name, |setup| {
            setup.peers = vec![hub];
            setup.arguments("--allow-inform 10.64.0.0/16");
        });
    }
    for (name, other) in [('a', 'b'), ('b', 'a')] {
        mesh.node(name)
            .wait("has the other as neighbor", PATIENCE * 3, |node| {
                node.live_links().contains(&netid(other))
            });
    }
    // What each sees of the other is the router, not the machine.
    let report = mesh.node('a').neighbors();
    let b = report
        .neighbors
        .iter()
        .find(|one| one.netid == Some(netid('b')))
        .unwrap();
    assert_eq!(b.links[0].endpoint.ip(), mesh.underlay("np")[0]);
    mesh.wait_ping('a', 'b');
    let stream = mesh.stream('a', 'b');
    let figures = stream.run(Duration::from_secs(3), |start| {
        sleep_until(start + Duration::from_secs(1));
        mesh.node_mut('h').kill();
    });
    assert!(figures.is_perfect(), "{figures:?}");
}

#[test]
fn a_ring_on_wires_that_lose_a_fifth_loses_what_two_ways_lose_and_stays_live() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mut mesh = Mesh::wired(Family::V4, "ab bc cd da");
    mesh.start_all();
    mesh.wait_ping('a', 'c');
    for name in ['a', 'b', 'c', 'd'] {
        nft(
            mesh.machine(name),
            "table ip lossy { chain in { type filter hook input priority 0; \
             iifname \"to-*\" udp dport 44204 numgen random mod 100 < 20 drop; } }",
        );
    }
    // One way of two lossy wires loses 1 - 0.8 * 0.8 = 36 %; two of them 13 %.
    let figures = mesh.stream('a', 'c').run(Duration::from_secs(10), |_| {});
    println!("{figures:?}: {:.3}", figures.loss());
    assert_eq!(figures.duplicated, 0);
    assert!((0.10..0.16).contains(&figures.loss()), "{figures:?}");
    // Silence counts, and at 20 % it never lasts: no link may fall to suspect.
    let end = std::time::Instant::now() + Duration::from_secs(50);
    while std::time::Instant::now() < end {
        for name in ['a', 'b', 'c', 'd'] {
            assert_eq!(mesh.node(name).live_links().len(), 2, "{name}");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}
