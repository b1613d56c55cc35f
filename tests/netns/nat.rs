//! Behind routers: address translation, and wires that lose every fifth packet.
//!
//! ```text
//!                 h 10.64.2.1
//!                 |                      p: the public network, one router for all;
//!   a --- m ----- p ----- n --- b        m, n: home routers that masquerade
//!
//!   thirty nodes in one home --- router --- hub      the hub sees one address, thirty ports
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay::daemon::report::{NeighborState, NeighborsReport};
use overlay::lab::net::{Namespace, Plug, Wires};
use overlay_tests::daemon::Daemon;
use overlay_tests::mesh::{Family, Mesh, PATIENCE, PORT, Turn, may_run, netid, sleep_until};

/// Loads rules in a namespace.
pub(crate) fn nft(machine: &Namespace, rules: &str) {
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
    let hub = SocketAddr::new(mesh.underlay("hp")[0], PORT);
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
    let end = Instant::now() + Duration::from_secs(50);
    while Instant::now() < end {
        for name in ['a', 'b', 'c', 'd'] {
            assert_eq!(mesh.node(name).live_links().len(), 2, "{name}");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// How many nodes share one address in [`thirty_nodes_behind_one_nat_all_get_links_to_a_hub`].
const HOUSEMATES: u8 = 30;
const HUB: &str = "198.51.100.2";
const ROUTER: &str = "198.51.100.1";

/// A home network of [`HOUSEMATES`] addresses behind a router, and a machine outside.
struct Home {
    inside: Namespace,
    _router: Namespace,
    outside: Namespace,
    _wires: Wires,
}

impl Home {
    fn new() -> Self {
        let [inside, router, outside] =
            ["inside", "router", "outside"].map(|name| Namespace::new(name).unwrap());
        let wires = Wires::new().unwrap();
        let connect = |a: &Namespace, ours: &[IpNet], b: &Namespace, theirs: &[IpNet]| {
            let plug = |namespace, interface, addresses| Plug {
                namespace,
                interface,
                addresses,
            };
            wires
                .connect(plug(a, "up", ours), plug(b, "down", theirs))
                .unwrap();
        };
        let net = |text: String| text.parse::<IpNet>().unwrap();
        let mates: Vec<IpNet> = (1..=HOUSEMATES).map(|n| net(mate(n) + "/24")).collect();
        connect(&inside, &mates, &router, &[net("10.66.0.254/24".into())]);
        connect(
            &router,
            &[net(format!("{ROUTER}/24"))],
            &outside,
            &[net(format!("{HUB}/24"))],
        );
        default_route(&inside, "10.66.0.254".parse().unwrap());
        router.sysctl("net.ipv4.ip_forward", "1").unwrap();
        nft(
            &router,
            "table ip guard { chain in { type filter hook input priority 0; drop; } }",
        );
        nft(
            &router,
            "table ip nat { chain out { type nat hook postrouting priority 100; \
             oifname \"up\" masquerade; } }",
        );
        Self {
            inside,
            _router: router,
            outside,
            _wires: wires,
        }
    }
}

fn mate(number: u8) -> String {
    format!("10.66.0.{number}")
}

#[test]
fn thirty_nodes_behind_one_nat_all_get_links_to_a_hub_and_reach_each_other_through_it() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let (home, directory) = (Home::new(), tempfile::tempdir().unwrap());
    let hub = Daemon::ready(
        &home.outside,
        directory.path(),
        "hub",
        &format!("--netid ff --listen {HUB}:{PORT} --degree {HOUSEMATES}"),
    );
    let started = Instant::now();
    let start = |number: u8| {
        let arguments = format!(
            "--netid {number:x} --listen {}:{PORT} --peer {HUB}:{PORT} \
             --set dedupe.memory=\"1MiB\"",
            mate(number)
        );
        let name = format!("mate{number}");
        Daemon::start(&home.inside, directory.path(), &name, &arguments)
    };
    let mates: Vec<Daemon> = (1..=HOUSEMATES).map(start).collect();
    let spawned = started.elapsed();
    hub.wait_live(HOUSEMATES.into(), PATIENCE);
    for mate in &mates {
        mate.wait_live(1, PATIENCE);
    }
    let live = started.elapsed();
    println!("30 daemons started in {spawned:?}, all live at both ends after {live:?}");
    assert!(live < spawned + Duration::from_secs(10), "{live:?}");

    // One address, thirty ports; and no budget or bound had to be paid by anyone.
    let report: NeighborsReport = serde_json::from_value(hub.ask("neighbors").unwrap()).unwrap();
    let of_live = report.neighbors.iter();
    let of_live = of_live.filter(|neighbor| neighbor.state == NeighborState::Live);
    let endpoints: BTreeSet<SocketAddr> = of_live.map(|one| one.links[0].endpoint).collect();
    assert_eq!(endpoints.len(), usize::from(HOUSEMATES));
    let router: IpAddr = ROUTER.parse().unwrap();
    assert!(
        endpoints.iter().all(|endpoint| endpoint.ip() == router),
        "{endpoints:?}"
    );
    for refusal in [
        "hello_budget",
        "candidates_full",
        "prefix_budget",
        "neighbors_full",
        "challenge_budget",
    ] {
        assert_eq!(hub.counter(refusal), 0, "{}", hub.counters());
    }

    // None can reach another but through the hub.
    let (first, last) = (&mates[0], &mates[usize::from(HOUSEMATES) - 1]);
    assert_eq!((first.live(), last.live()), (1, 1));
    let forwarded = hub.counter("forwarded");
    let ping = |patience: &str| {
        let mut client = first.client("ping");
        let target = format!("{HOUSEMATES:x}");
        let output = client.args([&target, "-c", patience, "-i", "0.2"]).output();
        output.unwrap().status.success()
    };
    assert!(ping("3"));
    // Three Pings and three Pongs.
    assert!(hub.counter("forwarded") >= forwarded + 6);
    drop(hub);
    assert!(!ping("1"));
}
