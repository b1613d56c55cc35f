//! One daemon: how it is started, asked and ended.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use overlay::daemon::report::{
    CountersReport, NeighborState, NeighborsReport, NodesReport, StatusReport,
};
use overlay::id::NetId;
use overlay::lab::net::Namespace;
use serde_json::Value;

use super::{DEVICE, PATIENCE, PORT, netid, overlay_v4};
use crate::cli;

/// How often a wait looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How many lines of a log are shown when a test fails.
const SHOWN_LINES: usize = 40;

/// What a daemon is started with; [`super::Mesh::start_with`] fills it in.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The machine.
    pub name: char,
    /// Its netid; `None` leaves it to the state directory.
    pub netid: Option<NetId>,
    /// Where it listens. Default: IPv4 and IPv6, port 44204.
    pub listen: Vec<String>,
    /// Whom it dials. Default: the far ends of all wires.
    pub peers: Vec<SocketAddr>,
    /// `tun`, `tap` or `none`.
    pub mode: &'static str,
    /// The device's address in CIDR, besides the derived one.
    pub address: Option<String>,
    /// Whether it speaks sealed, as a member of this directory's mesh, rather than plain.
    pub sealed: bool,
    /// Further arguments.
    pub more: Vec<String>,
    directory: PathBuf,
}

impl Setup {
    pub(super) fn new(name: char, directory: &Path) -> Self {
        Self {
            name,
            netid: Some(netid(name)),
            listen: vec![format!("0.0.0.0:{PORT}"), format!("[::]:{PORT}")],
            peers: Vec::new(),
            mode: "tun",
            address: Some(format!("{}/24", overlay_v4(name))),
            sealed: false,
            more: Vec::new(),
            directory: directory.to_owned(),
        }
    }

    /// Adds arguments: `setup.arguments("--degree 2")`.
    pub fn arguments(&mut self, words: &str) {
        self.more
            .extend(words.split_whitespace().map(str::to_owned));
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", self.name))
    }

    /// `floodmesh LINE` about this node's files, with this on standard input; gives what it prints.
    ///
    /// # Panics
    /// It fails.
    pub fn command(&self, line: &str, input: &str) -> String {
        self.make_keys();
        let mut command = cli::command(&line.split_whitespace().collect::<Vec<_>>());
        let mut child = command
            .arg("--state-dir")
            .arg(self.file("state"))
            .arg("--config")
            .arg(self.file("toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Puts a file into its state directory.
    pub fn put(&self, name: &str, text: &str) {
        fs::write(self.file("state").join(name), text).unwrap();
    }

    /// Makes the keys of a node that speaks sealed, unless it has some: of a new mesh, or with the
    /// token that the mesh's first node left in the directory.
    fn make_keys(&self) {
        if !self.sealed || self.file("state").join("identity").exists() {
            return;
        }
        let (name, token) = (self.name.to_string(), self.directory.join("token"));
        let (state, config) = (self.file("state"), self.file("toml"));
        let run = |words: &[&str]| {
            let mut command = cli::command(words);
            command.arg("--state-dir").arg(&state);
            let output = command.arg("--config").arg(&config).output().unwrap();
            assert!(output.status.success(), "{words:?}: {output:?}");
            output.stdout
        };
        if token.exists() {
            run(&["join", "--file", &path_text(&token), "--name", &name]);
            return;
        }
        run(&["init", "--name", &name]);
        let printed = run(&["invite", "--address", "192.0.2.1"]);
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&token)
            .unwrap();
        file.write_all(&printed).unwrap();
    }

    fn words(&self) -> Vec<String> {
        let mut words = vec!["up".to_owned()];
        if !self.sealed {
            words.push("--plain".to_owned());
        }
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        add("--name", self.name.to_string());
        add("--mode", self.mode.to_owned());
        if self.mode != "none" {
            add("--dev", DEVICE.to_owned());
            if let Some(address) = &self.address {
                add("--address", address.clone());
            }
        }
        if let Some(netid) = self.netid {
            add("--netid", netid.to_string());
        }
        for listen in &self.listen {
            add("--listen", listen.clone());
        }
        for peer in &self.peers {
            add("--peer", peer.to_string());
        }
        add("--state-dir", path_text(&self.file("state")));
        add("--control", path_text(&self.file("sock")));
        words.extend(self.more.iter().cloned());
        words
    }
}

fn path_text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A daemon. Dropped, it is killed and reaped; its log is shown while a test panics.
#[derive(Debug)]
pub struct Node {
    name: char,
    child: Child,
    control: PathBuf,
    log: PathBuf,
    /// Whether it was reaped.
    is_ended: bool,
}

impl Node {
    /// Starts a daemon and waits until it says that it is ready.
    pub(super) fn start(machine: &Namespace, setup: &Setup) -> Self {
        let log = setup.file("log");
        // Anew for each start, so that the ready line is this one's.
        let out = File::create(&log).unwrap();
        setup.make_keys();
        let words = setup.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = cli::command(&words);
        command
            .stdout(Stdio::from(out.try_clone().unwrap()))
            .stderr(Stdio::from(out));
        let mut node = Self {
            name: setup.name,
            child: machine.spawn(&mut command).unwrap(),
            control: setup.file("sock"),
            log,
            is_ended: false,
        };
        let deadline = Instant::now() + PATIENCE;
        while !node.log().lines().any(|line| line.starts_with("ready:")) {
            assert!(node.is_alive(), "{} ended before it was ready", setup.name);
            assert!(Instant::now() < deadline, "{} is not ready", setup.name);
            thread::sleep(Duration::from_millis(2));
        }
        node
    }

    /// The letter of its machine.
    pub fn name(&self) -> char {
        self.name
    }

    /// Its number, from its letter.
    pub fn netid(&self) -> NetId {
        netid(self.name)
    }

    /// The daemon's process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Its control socket.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// All it has written since its start.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// `floodmesh COMMAND... --control SOCKET`, run to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = cli::command(arguments);
        command.arg("--control").arg(&self.control);
        command.output().unwrap()
    }

    /// What it answers to a query, as JSON.
    pub fn ask(&self, query: &str) -> Value {
        let output = self.run(&[query, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            let error = String::from_utf8_lossy(&output.stderr);
            panic!("{} does not answer {query}: {error}", self.name)
        })
    }

    /// `floodmesh status`.
    pub fn status(&self) -> StatusReport {
        serde_json::from_value(self.ask("status")).unwrap()
    }

    /// `floodmesh neighbors`.
    pub fn neighbors(&self) -> NeighborsReport {
        serde_json::from_value(self.ask("neighbors")).unwrap()
    }

    /// `floodmesh nodes`.
    pub fn nodes(&self) -> NodesReport {
        serde_json::from_value(self.ask("nodes")).unwrap()
    }

    /// `floodmesh counters`.
    pub fn counters(&self) -> CountersReport {
        serde_json::from_value(self.ask("counters")).unwrap()
    }

    /// One total or drop reason by its name.
    pub fn counter(&self, name: &str) -> u64 {
        let counters = self.counters();
        let mut all = counters.totals.iter().chain(&counters.drops);
        let found = all.find(|count| count.name == name);
        found
            .unwrap_or_else(|| panic!("no counter is called {name}"))
            .value
    }

    /// The netid of each live link's far end: twice where a neighbor has two links.
    pub fn live_links(&self) -> Vec<NetId> {
        let report = self.neighbors();
        let live = report
            .neighbors
            .iter()
            .filter(|neighbor| neighbor.state == NeighborState::Live);
        live.flat_map(|neighbor| neighbor.links.iter().filter_map(|_| neighbor.netid))
            .collect()
    }

    /// How it stands with a neighbor; `None` when it is not one.
    pub fn neighbor_state(&self, neighbor: NetId) -> Option<NeighborState> {
        let report = self.neighbors();
        let mut all = report.neighbors.iter();
        all.find(|one| one.netid == Some(neighbor))
            .map(|one| one.state)
    }

    /// Asks the node again and again until `is_so`; `what` continues its name in the failure.
    pub fn wait(&self, what: &str, patience: Duration, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + patience;
        while !is_so(self) {
            assert!(
                Instant::now() < deadline,
                "not within {patience:?}: {} {what}{}",
                self.name,
                self.facts()
            );
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// What it has to say for itself, for the message of a failure.
    pub fn facts(&self) -> String {
        let mut facts = String::new();
        for query in ["neighbors", "nodes", "counters"] {
            let output = self.run(&[query]);
            facts += &format!(
                "\n-- {query} of {}:\n{}",
                self.name,
                String::from_utf8_lossy(&output.stdout)
            );
        }
        facts
    }

    /// Whether it was started and neither ended by [`Self::kill`] nor by [`Self::stop`].
    pub fn is_running(&self) -> bool {
        !self.is_ended
    }

    /// Whether the process still runs, whoever ended it.
    pub fn is_alive(&mut self) -> bool {
        !self.is_ended && self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Kills it on the spot: no Goodbye, as if its power failed. Its port answers "closed".
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.is_ended = true;
    }

    /// Asks it to end, and waits; returns how it ended and how long that took.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(Signal::SIGTERM);
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.is_ended = true;
                return (status, start.elapsed());
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("{} does not end", self.name);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.is_ended {
            // Neither can fail in a way that leaves a process: it is ours and not yet reaped.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            println!("-- log of {}:\n{}", self.name, shown.join("\n"));
        }
    }
}

/// Looks again and again until `is_so`.
///
/// # Panics
/// After `patience`, with `what`.
pub fn wait_until(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        thread::sleep(LOOK_INTERVAL);
    }
}
