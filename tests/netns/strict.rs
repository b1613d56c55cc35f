//! A second implementation takes part: `tests/strict_node`, written from the text alone.
//!
//! ```text
//!   a --- s --- b      s: the Python node, bridge between two of ours
//! ```
//!
//! For Inform the machine in the middle is a router too, so that the outer two can reach each other
//! once they know of each other.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use overlay_tests::mesh::{Family, Mesh, PATIENCE, PORT, Turn, may_run, netid, wait_until};
use serde_json::{Value, json};

/// The Python node. Dropped, it is killed.
struct Strict {
    child: Child,
    log: PathBuf,
}

impl Strict {
    fn start(mesh: &Mesh, more: &[&str]) -> Self {
        let log = mesh.directory().join("strict.log");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/strict_node/strict_node.py");
        let mut command = Command::new("python3");
        command
            .args([program, "--netid", "13", "--duration", "120"])
            .args(["--listen", &format!("0.0.0.0:{PORT}")])
            .args(more)
            .arg("--log")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = mesh.machine('s').spawn(&mut command).unwrap();
        Self { child, log }
    }

    fn events(&self) -> Vec<Value> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text<'v>(event: &'v Value, field: &str) -> &'v str {
    event[field].as_str().unwrap_or_default()
}

#[test]
fn a_second_implementation_joins_and_forwards_between_two_of_ours_byte_for_byte() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "as sb");
    let strict = Strict::start(&mesh, &[]);
    mesh.start('a');
    mesh.start('b');
    for name in ['a', 'b'] {
        mesh.node(name)
            .wait("has the strict node live", PATIENCE, |node| {
                node.live_links() == [netid('s')]
            });
    }
    mesh.wait_ping('a', 'b');
    mesh.wait_ping('b', 'a');
    // Whatever it sent on had come in, the very same bytes.
    let events = strict.events();
    let hex = |kind: &'static str| {
        let of_kind = events.iter().filter(move |event| event["event"] == kind);
        of_kind.map(|event| text(event, "hex"))
    };
    let received: std::collections::BTreeSet<&str> = hex("rx").collect();
    let forwarded = events
        .iter()
        .filter(|event| event["event"] == "tx" && event["why"] == "forward");
    let forwarded: Vec<&str> = forwarded.map(|event| text(event, "hex")).collect();
    assert!(!forwarded.is_empty());
    assert!(forwarded.iter().all(|bytes| received.contains(bytes)));
    // It answers our padded Pings.
    mesh.node('a').wait(
        "knows what the strict node's path carries",
        PATIENCE,
        |node| {
            let link = &node.neighbors().neighbors[0].links[0];
            link.path_mtu_bytes == Some(link.largest_packet_bytes)
        },
    );
    // And ours took every one of them: none was malformed, none refused.
    assert_eq!(mesh.node('a').counter("malformed"), 0);
    assert_eq!(mesh.node('b').counter("malformed"), 0);
}

#[test]
fn what_ours_forwards_reaches_a_second_implementation_unaltered() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    // a --- b --- s: the strict node sees what a said only through b.
    let mut mesh = Mesh::wired(Family::V4, "ab bs");
    let strict = Strict::start(&mesh, &["--echo"]);
    mesh.start('a');
    mesh.start('b');
    mesh.node('b')
        .wait("has the strict node live", PATIENCE, |node| {
            node.live_links().contains(&netid('s'))
        });
    mesh.node('a').wait("has b live", PATIENCE, |node| {
        node.live_links().contains(&netid('b'))
    });
    let pings = || {
        let events = strict.events();
        let all = events
            .iter()
            .filter(|event| event["event"] == "rx" && event["type"] == "ping");
        all.filter(|event| event["src"] == "00000001").count()
    };
    wait_until("its pings came through b", PATIENCE, || {
        let output = mesh.node('a').run(&["ping", "13", "-c", "3", "-i", "0.2"]);
        output.status.success() && pings() >= 3
    });
}

/// Two machines with one in the middle that passes packets of the underlay between them.
fn routed(left: char, middle: char, right: char) -> Mesh {
    let mesh = Mesh::wired(Family::V4, &format!("{left}{middle} {middle}{right}"));
    mesh.machine(middle)
        .sysctl("net.ipv4.ip_forward", "1")
        .unwrap();
    for outer in [left, right] {
        let gateway = mesh.underlay(&format!("{middle}{outer}"))[0];
        mesh.machine(outer)
            .add_route("0.0.0.0/0".parse().unwrap(), gateway)
            .unwrap();
    }
    mesh
}

#[test]
fn a_second_implementation_follows_our_inform() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    // s --- h --- b: h tells s of b. b has as many neighbors as it wants and dials nobody.
    let mut mesh = routed('s', 'h', 'b');
    mesh.start('h');
    mesh.start_with('b', |setup| setup.arguments("--degree 1"));
    mesh.node('b').wait("has the hub live", PATIENCE, |node| {
        node.live_links() == [netid('h')]
    });
    let hub = format!("{}:{PORT}", mesh.underlay("hs")[0]);
    let strict = Strict::start(&mesh, &["--peer", &hub]);
    mesh.node('b')
        .wait("has the strict node live", PATIENCE, |node| {
            node.live_links().contains(&netid('s'))
        });

    let endpoint = format!("{}:{PORT}", mesh.underlay("bh")[0]);
    let (by, about) = (netid('h').to_string(), netid('b').to_string());
    let told = json!({"event": "informed", "by": by, "netid": about, "endpoint": endpoint,
        "acted": true});
    let events = strict.events();
    let place = |what: &str, is_it: &dyn Fn(&Value) -> bool| {
        let found = events.iter().position(is_it);
        found.unwrap_or_else(|| panic!("{what}: {events:#?}"))
    };
    let told = place("it was told", &|event| {
        let mut fields = told.as_object().unwrap().iter();
        fields.all(|(name, value)| event[name] == *value)
    });
    let greeted = place("it greeted", &|event| {
        event["event"] == "tx" && event["type"] == "hello" && text(event, "to") == endpoint
    });
    let answered = place("it was answered", &|event| {
        event["event"] == "rx" && text(event, "from") == endpoint
    });
    let linked = place("it took b for its neighbor", &|event| {
        event["event"] == "neighbor_added" && text(event, "netid") == about
    });
    // It spoke first, because of what we told it.
    assert!(told < greeted && greeted < answered && answered <= linked);
}

#[test]
fn ours_follow_the_inform_of_a_second_implementation_and_outlive_it() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    // The text names no flags for Inform, and some will make it NO_FORWARD.
    for flags in ["0", "80"] {
        // a --- s --- b: nobody but s can tell the two of each other.
        let mut mesh = routed('a', 's', 'b');
        let strict = Strict::start(&mesh, &["--inform", "--link-flags", flags]);
        for name in ['a', 'b'] {
            mesh.start(name);
            mesh.node(name)
                .wait("has the strict node live", PATIENCE, |node| {
                    node.live_links().contains(&netid('s'))
                });
        }
        for (name, other) in [('a', 'b'), ('b', 'a')] {
            mesh.node(name)
                .wait("has the other as neighbor", PATIENCE, |node| {
                    node.live_links().contains(&netid(other))
                });
        }
        let told = strict.events().iter().any(|event| {
            event["event"] == "tx"
                && event["type"] == "inform"
                && text(event, "dst") == netid('a').to_string()
                && text(event, "flags") == format!("{flags:0>2}")
        });
        assert!(told, "flags {flags}: {:#?}", strict.events());
        mesh.wait_ping('a', 'b');
        drop(strict);
        mesh.wait_ping('b', 'a');
    }
}
