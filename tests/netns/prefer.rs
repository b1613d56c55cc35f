//! A plain mesh that moves to a sealed one, node by node, in mode prefer (SEALED.md S83 to S90).
//!
//! ```text
//!   c ------- b ------- a ------- d
//!  prefers   prefers   plain     prefers
//! ```
//!
//! a is never moved: so b = c is a sealed zone, and the rest stays open.

use std::fs;
use std::time::{Duration, Instant};

use overlay::daemon::report::{NeighborReport, Security};
use overlay_tests::mesh::{Family, Mesh, Node, Turn, may_run, netid};

/// A node gives a plain peer 7 s to answer sealed, and peers are dialed every 30 s at the least.
const LONG: Duration = Duration::from_secs(150);

/// Starts a node anew as one that prefers sealed links.
fn move_on(mesh: &mut Mesh, name: char, more: &str) {
    mesh.node_mut(name).stop();
    mesh.start_with(name, |setup| {
        setup.sealed = true;
        setup.arguments("--set mode=prefer");
        setup.arguments(more);
    });
}

/// How the live link to a neighbor is protected.
fn link(node: &Node, neighbor: char) -> Option<Security> {
    let report = node.neighbors();
    let mut all = report.neighbors.iter();
    let one = all.find(|one| one.netid == Some(netid(neighbor)))?;
    let live = one.links.iter().find(|link| link.heard_ago_ms.is_some())?;
    Some(live.security)
}

fn wait_link(mesh: &Mesh, from: char, to: char, security: Security) {
    let what = format!("has a link to {to} of security {}", security.name());
    mesh.node(from)
        .wait(&what, LONG, |node| link(node, to) == Some(security));
}

/// Waits until `from` says that what it has for a node, and from it, is protected so.
fn wait_node(mesh: &Mesh, from: char, about: char, security: Security) {
    let what = format!("shows {about} with security {}", security.name());
    mesh.node(from).wait(&what, LONG, |node| {
        let nodes = node.nodes().nodes;
        let mut nodes = nodes.iter();
        nodes.any(|one| one.netid == netid(about) && one.security == security)
    });
}

fn wait_ping(mesh: &Mesh, from: char, to: char) {
    let deadline = Instant::now() + LONG;
    while !mesh.pings(from, to, Duration::from_millis(500)) {
        let facts = || mesh.node(from).facts() + &mesh.node(to).facts();
        assert!(
            Instant::now() < deadline,
            "{from} does not reach {to}{}",
            facts()
        );
    }
}

/// Scenario 27: mixed plain and sealed, the bridge off and on.
#[test]
fn a_plain_mesh_moves_to_sealed_node_by_node_and_a_bridge_joins_what_is_left_between() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "bc ab ad");
    mesh.start_all();
    wait_ping(&mesh, 'c', 'd');

    // One that prefers is still reached by all that are plain.
    move_on(&mut mesh, 'b', "");
    wait_link(&mesh, 'b', 'a', Security::None);
    wait_link(&mesh, 'b', 'c', Security::None);
    wait_ping(&mesh, 'c', 'b');
    wait_ping(&mesh, 'd', 'c');

    // The second makes a sealed pair, which stays one; a still reaches b.
    move_on(&mut mesh, 'c', "");
    wait_link(&mesh, 'b', 'c', Security::Link);
    wait_link(&mesh, 'c', 'b', Security::Link);
    wait_ping(&mesh, 'b', 'c');
    wait_ping(&mesh, 'a', 'b');
    let status = mesh.node('b').status();
    assert_eq!(
        (status.mode.as_str(), status.security),
        ("prefer", Security::None)
    );
    let prefer = status.prefer.unwrap();
    assert!(prefer.remaining_seconds > 29 * 86_400, "{prefer:?}");
    assert_eq!((prefer.latched, prefer.bridge.as_str()), (1, "off"));

    // d speaks sealed with b, whatever carries it, and not with c: the zones are two floods.
    move_on(&mut mesh, 'd', "");
    wait_link(&mesh, 'd', 'a', Security::None);
    wait_ping(&mesh, 'd', 'b');
    wait_node(&mesh, 'b', 'd', Security::E2e);
    wait_node(&mesh, 'b', 'a', Security::None);
    assert!(!mesh.pings('c', 'd', Duration::from_secs(3)));
    assert!(!mesh.pings('d', 'c', Duration::from_secs(3)));

    // The latch outlives the node; with a bridge what is sealed goes on.
    move_on(&mut mesh, 'b', "--set bridge=on");
    wait_link(&mesh, 'b', 'c', Security::Link);
    wait_link(&mesh, 'b', 'a', Security::None);
    wait_ping(&mesh, 'c', 'd');
    let prefer = mesh.node('b').status().prefer.unwrap();
    assert_eq!(prefer.bridge, "on");
    assert!(prefer.latched >= 1, "{prefer:?}");
    wait_node(&mesh, 'd', 'c', Security::E2e);
}

/// S104: the settings give one peer of a node that prefers a mode of its own, which `neighbors` shows and a
/// reload takes up. The simulator shows what each mode means.
#[test]
fn a_peer_that_is_to_be_sealed_hears_nothing_plain_until_a_reload_says_otherwise() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab");
    let peer = mesh.peers('a')[0];
    let settings = mesh.directory().join("settings.toml");
    let write = |mode: &str| {
        let text = format!("mode = \"prefer\"\npeer = [\"{peer} {mode}\"]\n");
        fs::write(&settings, text).unwrap();
    };
    write("sealed");
    // b is plain and knows nobody: whatever it hears, it hears of a.
    mesh.start_with('b', |setup| setup.peers.clear());
    mesh.start_with('a', |setup| {
        setup.sealed = true;
        setup.peers.clear();
        setup.arguments(&format!("--config {}", settings.display()));
    });
    let (a, b) = (mesh.node('a'), mesh.node('b'));
    let only = |node: &Node| node.neighbors().neighbors.pop();
    let has_mode = |one: &NeighborReport, mode: &str| one.mode.as_deref() == Some(mode);
    // After three INITs in vain any other peer hears plain; here they are malformed.
    b.wait("got four INITs", LONG, |b| b.counter("malformed") >= 4);
    assert_eq!(only(b), None, "{}", b.facts());
    assert_eq!(b.counter("control"), 0, "{}", b.facts());
    let dialed = only(a).unwrap();
    assert!(has_mode(&dialed, "sealed"), "{dialed:?}");
    let prefer = a.status().prefer.unwrap();
    assert_eq!((prefer.sealed_peers, prefer.plain_peers), (1, 0));

    write("plain");
    let output = a.run(&["reload"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("modes of peers"),
        "{output:?}"
    );
    wait_link(&mesh, 'a', 'b', Security::None);
    let live = only(mesh.node('a')).unwrap();
    assert!(has_mode(&live, "plain"), "{live:?}");
}
