//! A gateway that runs a node and translates addresses for a host behind it, which takes the node's port
//! (SECURITY T31, scenario 20; CVE-2021-3773).
//!
//! ```text
//!     i --- g === p      g, p: nodes; i: a host behind g, without one
//! ```
//!
//! When i sends from port 44204 to p's, the gateway's kernel gives the flow g's address and this very port:
//! what p sends to g's node from then on belongs to that flow, and goes to i.

use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use overlay_tests::mesh::{Family, Mesh, PATIENCE, PORT, Turn, may_run, netid, wait_until};
use socket2::{Domain, Protocol, Socket, Type};

use crate::nat::nft;
use crate::sealed::{udp_payload, wiretap};

/// Translates whatever leaves, from any port.
const ANY_PORT: &str = "table ip nat { chain out { type nat hook postrouting priority 100; \
     oifname \"to-p\" masquerade; } }";

/// What README.md recommends, with the outer interface of the drawing: the node's own datagrams belong to
/// no flow, and nobody else gets its port.
fn recommended() -> [String; 2] {
    let readme = include_str!("../../README.md").replace("wan0", "to-p");
    let lines = |first: &'static str| {
        readme
            .lines()
            .skip_while(move |line| !line.trim().starts_with(first))
    };
    let untracked: Vec<&str> = lines("table inet floodmesh")
        .take(3)
        .map(str::trim)
        .collect();
    let other_port = lines("oifname \"to-p\" udp sport").next().unwrap().trim();
    let (rule, _) = other_port.split_once("  ").unwrap();
    let before = ANY_PORT.replace("oifname", &format!("{rule}; oifname"));
    [untracked.join(" "), before]
}

/// The drawing, without daemons.
fn wired(masquerade: &str) -> Mesh {
    let mesh = Mesh::wired(Family::V4, "ig gp");
    mesh.machine('g')
        .sysctl("net.ipv4.ip_forward", "1")
        .unwrap();
    let gateway = mesh.underlay("gi")[0];
    mesh.machine('i')
        .add_route("0.0.0.0/0".parse().unwrap(), gateway)
        .unwrap();
    nft(mesh.machine('g'), masquerade);
    mesh
}

/// What the host behind the gateway says, for one.
const GARBAGE: [u8; 200] = [0xAE; 200];

/// The host behind the gateway: it has the port, and speaks to p's.
struct Shadow {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Shadow {
    fn new(mesh: &Mesh) -> Self {
        let bind = || UdpSocket::bind(("0.0.0.0", PORT));
        let socket = mesh.machine('i').run(bind).unwrap().unwrap();
        socket.set_nonblocking(true).unwrap();
        let to = SocketAddr::new(mesh.underlay("pg")[0], PORT);
        Self { socket, to }
    }

    /// Speaks until p's machine hears it: from the node's port if `takes`, else from another one. The nodes
    /// must be silent meanwhile, since the port is whose flow came first.
    fn come_first(&self, mesh: &Mesh, takes: bool) {
        let tap = mesh.machine('p').run(wiretap).unwrap();
        let mut frame = [0; 2_048];
        wait_until("p hears of it", PATIENCE, || {
            forget_flows(mesh);
            self.speak();
            while let Ok(len) = (&tap).read(&mut frame) {
                let frame = &frame[..len];
                let is_from_port = frame.get(34..36) == Some(&PORT.to_be_bytes());
                let is_heard = udp_payload(frame).is_some_and(|bytes| bytes == GARBAGE);
                if is_heard && is_from_port == takes {
                    return true;
                }
            }
            false
        });
    }

    /// Sends garbage, and what it takes for a greeting; says how much came back.
    fn speak(&self) -> usize {
        for bytes in [&GARBAGE[..], &[0xAC; 16]] {
            // The gateway may say that nobody is there yet.
            let _ = self.socket.send_to(bytes, self.to);
        }
        let mut came = 0;
        while self.socket.recv(&mut [0; 2_048]).is_ok() {
            came += 1;
        }
        came
    }

    /// Speaks every 20 ms until it is told to stop; gives how much came back.
    fn speak_on(&self, stops: &AtomicBool) -> usize {
        let mut came = 0;
        while !stops.load(Relaxed) {
            came += self.speak();
            thread::sleep(Duration::from_millis(20));
        }
        came
    }
}

/// Where p sees g.
fn seen(mesh: &Mesh) -> Vec<SocketAddr> {
    let report = mesh.node('p').neighbors();
    let g = report.neighbors.iter();
    let g = g.filter(|one| one.netid == Some(netid('g')));
    g.flat_map(|one| one.links.iter().map(|link| link.endpoint))
        .collect()
}

/// Runs `work` while the shadow speaks, which came first, and has the port or not; gives how much came back
/// to it.
fn shadowed(mesh: &mut Mesh, takes: bool, work: impl FnOnce(&mut Mesh)) -> usize {
    let shadow = Shadow::new(mesh);
    shadow.come_first(mesh, takes);
    let stops = AtomicBool::new(false);
    thread::scope(|scope| {
        let speaking = scope.spawn(|| shadow.speak_on(&stops));
        // Also when the work panics, or the thread would never end.
        struct Stop<'s>(&'s AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let stop = Stop(&stops);
        work(mesh);
        drop(stop);
        speaking.join().unwrap()
    })
}

/// Makes the gateway forget all flows, as when its rules are loaded anew.
fn forget_flows(mesh: &Mesh) {
    /// `AF_NETLINK` and `NETLINK_NETFILTER`.
    const NETFILTER: (i32, i32) = (16, 12);
    // Length, IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST; which: all of every family.
    let mut request = vec![20, 0, 0, 0, 2, 1, 1, 0];
    request.resize(20, 0);
    let forget = || {
        let (family, protocol) = NETFILTER;
        let protocol = Some(Protocol::from(protocol));
        Socket::new(Domain::from(family), Type::RAW, protocol)?.send(&request)
    };
    assert_eq!(mesh.machine('g').run(forget).unwrap().unwrap(), 20);
}

fn start(mesh: &mut Mesh) {
    for name in ['p', 'g'] {
        mesh.start_with(name, |setup| {
            setup.sealed = true;
            // g's neighbor is p alone.
            setup
                .peers
                .retain(|peer| peer.ip().to_string().starts_with("10.64.2."));
        });
    }
    let start = Instant::now();
    for (name, far) in [('p', 'g'), ('g', 'p')] {
        mesh.node(name).wait("has its link", PATIENCE * 2, |node| {
            node.live_links() == [netid(far)]
        });
    }
    println!("up {:?} after the start", start.elapsed());
    mesh.wait_ping('p', 'g');
    mesh.wait_ping('g', 'p');
}

#[test]
fn shadow_of_a_port_costs_a_sealed_link_nothing_but_its_port() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    // 1. The other host has it first.
    let mut mesh = wired(ANY_PORT);
    let own = SocketAddr::new(mesh.underlay("gp")[0], PORT);
    let stolen = shadowed(&mut mesh, true, |mesh| {
        start(mesh);
        let seen = seen(mesh);
        assert!(!seen.contains(&own), "{seen:?}");
    });
    println!("{stolen} datagrams came to the host behind");
    assert!(stolen > 0);

    // 2. It gets it from a node that is up, when the gateway forgets whose it was.
    let mut mesh = wired(ANY_PORT);
    start(&mut mesh);
    assert_eq!(seen(&mesh), [own]);
    for name in ['g', 'p'] {
        mesh.node(name).signal(Signal::SIGSTOP);
    }
    shadowed(&mut mesh, true, |mesh| {
        let start = Instant::now();
        for name in ['p', 'g'] {
            mesh.node(name).signal(Signal::SIGCONT);
        }
        mesh.wait_ping('g', 'p');
        mesh.wait_ping('p', 'g');
        println!("recovered {:?} after the nodes went on", start.elapsed());
        // That the link moved shows that the port was taken, or nothing would have been tested.
        wait_until("p follows it", PATIENCE, || {
            mesh.node('p')
                .log()
                .contains("a far end has another address")
        });
        assert_eq!(mesh.node('p').live_links(), [netid('g')]);
    });
}

#[test]
fn shadow_of_a_port_is_none_with_the_rules_that_readme_recommends() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let [untracked, masquerade] = recommended();
    let mut mesh = wired(&masquerade);
    nft(mesh.machine('g'), &untracked);
    let own = SocketAddr::new(mesh.underlay("gp")[0], PORT);
    let stolen = shadowed(&mut mesh, false, |mesh| {
        start(mesh);
        wait_until("p sees g at its own port", PATIENCE, || seen(mesh) == [own]);
    });
    assert_eq!(stolen, 0);
}
