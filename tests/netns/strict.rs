//! A second implementation takes part: `tests/strict_node`, written from the text alone.
//!
//! ```text
//!   a --- s --- b      s: the Python node, bridge between two of ours
//! ```

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use overlay_tests::mesh::{Family, Mesh, PATIENCE, PORT, Turn, may_run, netid, wait_until};
use serde_json::Value;

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
    let output = mesh.node('a').run(&["ping", "13", "-c", "3", "-i", "0.2"]);
    assert!(output.status.success(), "{output:?}");
    let pings = || {
        let events = strict.events();
        let all = events
            .iter()
            .filter(|event| event["event"] == "rx" && event["type"] == "ping");
        all.filter(|event| event["src"] == "00000001").count()
    };
    wait_until("its pings came through b", PATIENCE, || pings() >= 3);
}
