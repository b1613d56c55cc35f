//! The client commands against a control socket of the real server with a fake driver.

use std::path::Path;
use std::process::Output;
use std::thread::JoinHandle;

use overlay::daemon::admin::listen::ControlSocket;
use overlay::daemon::admin::server::serve;
use overlay::daemon::admin::{AdminRequest, Reply, Verb};
use overlay::daemon::report::{
    CountersReport, NeighborReport, NeighborState, NeighborsReport, NodesReport, PingMissed,
    PingReply, PingSummary,
};
use overlay::id::NetId;
use overlay::pump::count::{Counters, DropReason};
use overlay_tests::cli::{command, run};
use tokio::sync::mpsc;

/// A node that answers from a script, in a thread of its own, until dropped.
struct FakeNode {
    home: tempfile::TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeNode {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let socket = ControlSocket::open(&home.path().join("floodmesh/van.sock")).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (requests, driver) = mpsc::channel(4);
                tokio::select! {
                    served = serve(&socket, requests) => served.unwrap(),
                    () = drive(driver) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            home,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What a user whose runtime directory holds the node's socket sees.
    fn ask(&self, arguments: &[&str]) -> Output {
        command(arguments)
            .env("XDG_RUNTIME_DIR", self.home.path())
            .output()
            .unwrap()
    }

    fn control(&self) -> &Path {
        self.home.path()
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn drive(mut requests: mpsc::Receiver<AdminRequest>) {
    while let Some(AdminRequest { verb, replies }) = requests.recv().await {
        for reply in answers(&verb) {
            // A client that has gone does not matter here.
            let _ = replies.try_send(reply);
        }
    }
}

fn answers(verb: &Verb) -> Vec<Reply> {
    match verb {
        Verb::Status => vec![Reply::refused("not today\u{1b}[31m", "ask tomorrow")],
        Verb::Neighbors => {
            let neighbor = NeighborReport {
                netid: Some(NetId(7)),
                name: None,
                state: NeighborState::Refused,
                peer: Some("van.example:44204".into()),
                mode: None,
                why: Some("it has enough neighbors".into()),
                links: Vec::new(),
            };
            vec![Reply::Neighbors(NeighborsReport {
                neighbors: vec![neighbor],
            })]
        }
        Verb::Nodes => vec![Reply::Nodes(NodesReport::default())],
        Verb::Forget(_) | Verb::Publish(_) | Verb::Reload => {
            vec![Reply::refused("not this one", "")]
        }
        Verb::Counters => {
            let counters = Counters::default();
            counters.count_many(DropReason::Duplicate, 1_000);
            vec![Reply::Counters(CountersReport::from(&counters))]
        }
        Verb::Ping(ping) => {
            let answer = PingReply {
                sequence: 1,
                netid: NetId(0x2a),
                rtt_us: 430,
                last_hops: 2,
                addresses: vec!["10.77.0.2".parse().unwrap()],
            };
            let answered = u32::from(ping.target == "0000002a");
            let time = (answered > 0).then_some(430);
            let summary = PingSummary {
                target: ping.target.clone(),
                sent: ping.count,
                answered,
                nodes: answered,
                rtt_min_us: time,
                rtt_mean_us: time,
                rtt_max_us: time,
            };
            let first = match answered {
                0 => Reply::Missed(PingMissed { sequence: 1 }),
                _ => Reply::Answer(answer),
            };
            vec![first, Reply::Summary(summary)]
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_node_is_found_by_its_name_and_by_its_socket() {
    let node = FakeNode::start();
    let by_name = node.ask(&["nodes", "--name", "van"]);
    assert_eq!(text(by_name.stdout), "no other node is known\n");
    let socket = node.control().join("floodmesh/van.sock");
    let by_socket = run(&["nodes", "--control", socket.to_str().unwrap()]);
    assert_eq!(text(by_socket.stdout), "no other node is known\n");
}

#[test]
fn without_a_match_the_names_that_run_are_listed() {
    let node = FakeNode::start();
    let output = node.ask(&["status", "--name", "truck"]);
    let said = text(output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with("error: no node of the name truck runs here ("),
        "{said}"
    );
    assert!(said.contains("van"), "{said}");
}

#[test]
fn a_refusal_is_an_error_and_cannot_steer_the_terminal() {
    let output = FakeNode::start().ask(&["status", "--name", "van"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(output.stderr),
        "error: the node refused: not today\\u{1b}[31m (ask tomorrow)\n"
    );
}

#[test]
fn reports_come_as_text_and_as_one_json_object() {
    let node = FakeNode::start();
    assert_eq!(
        text(node.ask(&["neighbors", "--name", "van"]).stdout),
        "netid     state    endpoint           silent  rtt  rx  tx  first\n\
         00000007  refused  van.example:44204\n          it has enough neighbors\n"
    );
    let json = node.ask(&["counters", "--name", "van", "--json"]).stdout;
    let object: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let drops = object["drops"].as_array().unwrap();
    let duplicates = drops
        .iter()
        .find(|count| count["name"] == "duplicate")
        .unwrap();
    assert_eq!(duplicates["value"], 1_000);
    assert_eq!(drops.len(), DropReason::ALL.len());
}

#[test]
fn a_ping_ends_with_1_when_nothing_answered() {
    let node = FakeNode::start();
    let answered = node.ask(&["ping", "2a", "--name", "van", "-c", "1"]);
    assert_eq!(answered.status.code(), Some(0));
    assert_eq!(
        text(answered.stdout),
        "answer 1 from 0000002a (10.77.0.2) after 0.43 ms, over 2 last hops\n\
         0000002a: 1 of 1 answered, round trip 0.43 ms to 0.43 ms, mean 0.43 ms\n"
    );
    let missed = node.ask(&["ping", "all", "--name", "van", "-c", "1"]);
    assert_eq!(missed.status.code(), Some(1));
    assert_eq!(text(missed.stdout), "no answer 1\nall: 0 of 1 answered\n");
}

#[test]
fn a_ping_in_json_is_one_object_a_line() {
    let output = FakeNode::start().ask(&["ping", "2a", "--name", "van", "-c", "1", "--json"]);
    let lines: Vec<serde_json::Value> = text(output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["answer"]["netid"], "0000002a");
    assert_eq!(lines[1]["summary"]["answered"], 1);
}

#[test]
fn decode_joins_its_arguments_and_reads_standard_input() {
    let expected = "Ping from 0000002a to 00000007, 16 bytes";
    let typed = run(&[
        "decode",
        "ac010300",
        "0x0a0b0c0d",
        "00:00:00:2a",
        "0000 0007",
    ]);
    assert!(text(typed.stdout).starts_with(expected));

    use std::io::Write;
    let mut child = command(&["decode", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let input = b"ac010300 0a0b0c0d\n0000002a 00000007\n";
    child.stdin.take().unwrap().write_all(input).unwrap();
    let read = child.wait_with_output().unwrap();
    assert!(text(read.stdout).starts_with(expected));
}
