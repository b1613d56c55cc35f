//! `floodmesh lab` as its users meet it: the promised last line, and nothing left behind.
//!
//! ```text
//!     b
//!    / \      a - b is cut and mended, then c is killed, under a stream from a to d
//!   a   d
//!    \ /
//!     c
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use overlay_tests::mesh::Turn;

use crate::may_make_namespaces;

/// The program beside this test's own: `target/debug/floodmesh`, or what `FLOODMESH_BIN` names.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("FLOODMESH_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("floodmesh");
    assert!(
        path.exists(),
        "{} is missing; run `cargo build -p floodmesh` first",
        path.display()
    );
    path
}

/// Temporary files go to a directory of the test, so that it sees what stays.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("fm").tempdir().unwrap())
    }

    fn lab(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .arg("lab")
            .args(arguments)
            .env("TMPDIR", self.0.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.lab(arguments).output().unwrap()
    }

    /// Starts a lab and waits until its stream runs.
    fn start_streaming(&self) -> Lab {
        let mut child = self.lab(&[]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let lab = Lab(child);
        let mut line = String::new();
        while !line.contains("streaming") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "ended early");
        }
        // The rest is read too, so that the lab never waits for us.
        thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        lab
    }

    /// The processes that were started with this test's directory in their command line.
    fn processes(&self) -> BTreeSet<String> {
        let here = self.0.path().to_str().unwrap();
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let command_line = fs::read(entry.path().join("cmdline")).ok()?;
                let text = String::from_utf8_lossy(&command_line).replace('\0', " ");
                text.contains(here).then_some(text)
            })
            .collect()
    }

    /// Waits until neither a process nor a file of the lab is left.
    fn wait_clean(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let processes = self.processes();
            let files = fs::read_dir(self.0.path()).unwrap().count();
            if processes.is_empty() && files == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{files} files, {processes:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A running lab; dropped, it is killed.
struct Lab(Child);

impl Lab {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, signal).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_diamond_loses_nothing_through_both_breaks_within_a_minute() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::alone();
    let ground = Ground::new();
    let start = Instant::now();
    let output = ground.run(&["--topology", "diamond", "--json"]);
    let steps = String::from_utf8_lossy(&output.stderr);
    assert!(start.elapsed() < Duration::from_secs(60), "{steps}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["pairs_answering"], 12, "{steps}");
    assert_eq!(report["sent"], 30_000, "{steps}");
    assert_eq!(report["delivered"], 30_000, "{steps}");
    assert_eq!(report["lost"], 0, "{steps}");
    assert_eq!(report["events"].as_array().unwrap().len(), 3, "{steps}");
    assert!(output.status.success(), "{steps}");
    ground.wait_clean(Duration::ZERO);
}

#[test]
fn ctrl_c_ends_a_lab_and_leaves_nothing() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let ground = Ground::new();
    let mut lab = ground.start_streaming();
    assert_eq!(ground.processes().len(), 4);
    lab.signal(Signal::SIGINT);
    assert_eq!(lab.0.wait().unwrap().code(), Some(1));
    ground.wait_clean(Duration::ZERO);
}

#[test]
fn a_killed_lab_leaves_nothing_either() {
    if !may_make_namespaces() {
        return;
    }
    let _turn = Turn::beside();
    let ground = Ground::new();
    let lab = ground.start_streaming();
    assert_eq!(ground.processes().len(), 4);
    lab.signal(Signal::SIGKILL);
    ground.wait_clean(Duration::from_secs(5));
}

#[test]
fn an_impossible_topology_is_misuse_and_touches_nothing() {
    let ground = Ground::new();
    let output = ground.run(&["--topology", "ring", "--nodes", "2"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("a ring has 3 to 64 nodes, not 2"), "{error}");
    ground.wait_clean(Duration::ZERO);
}
