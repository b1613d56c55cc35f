//! One real daemon without a device, for tests that look at it from outside: what it costs, what
//! it says, whether it stands.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use overlay::lab::net::Namespace;
use serde_json::Value;

use crate::cli;

/// Kernel ticks in a second, as `/proc/PID/stat` counts them: 100 on every Linux architecture.
const TICKS: u64 = 100;

/// A running daemon with `--plain --mode none`. Dropped, it is killed.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    control: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon in `namespace`, with its files in `directory`; `arguments` are words.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(namespace: &Namespace, directory: &Path, name: &str, arguments: &str) -> Self {
        let control = directory.join(format!("{name}.sock"));
        let log = directory.join(format!("{name}.log"));
        let mut command = cli::command(&["up", "--plain", "--mode", "none", "--name", name]);
        command
            .args(arguments.split_whitespace())
            .arg("--state-dir")
            .arg(directory.join(name))
            .arg("--control")
            .arg(&control)
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log can be written"));
        let child = namespace.spawn(&mut command).expect("floodmesh starts");
        Self {
            child,
            control,
            log,
        }
    }

    /// [`Self::start`], and waits until it answers.
    ///
    /// # Panics
    /// When it does not within 10 s.
    pub fn ready(namespace: &Namespace, directory: &Path, name: &str, arguments: &str) -> Self {
        let daemon = Self::start(namespace, directory, name, arguments);
        daemon.wait("it answers", Duration::from_secs(10), |daemon| {
            daemon.ask("status").is_some()
        });
        daemon
    }

    /// What `floodmesh QUERY --json` says; nothing while it does not answer.
    pub fn ask(&self, query: &str) -> Option<Value> {
        let output = self.client(query).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// `floodmesh QUERY --json`, to be run.
    pub fn client(&self, query: &str) -> Command {
        let mut command = cli::command(&[query, "--json", "--control"]);
        command.arg(&self.control);
        command
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The control socket.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// How many neighbors are live.
    pub fn live(&self) -> u64 {
        let status = self.ask("status").unwrap_or_default();
        status["neighbors"]["live"].as_u64().unwrap_or(0)
    }

    /// A counter; 0 while it does not answer.
    pub fn counter(&self, name: &str) -> u64 {
        let report = self.ask("counters").unwrap_or_default();
        ["totals", "drops"]
            .iter()
            .filter_map(|part| report[part].as_array())
            .flatten()
            .find(|counter| counter["name"] == name)
            .and_then(|counter| counter["value"].as_u64())
            .unwrap_or(0)
    }

    /// All counters that are not 0, for the message of a test that fails.
    pub fn counters(&self) -> String {
        let report = self.ask("counters").unwrap_or_default();
        let counters = ["totals", "drops"]
            .iter()
            .filter_map(|part| report[part].as_array())
            .flatten();
        let lines = counters
            .filter(|counter| counter["value"] != 0)
            .map(|counter| format!("{}={}", counter["name"], counter["value"]).replace('"', ""));
        lines.collect::<Vec<_>>().join(" ")
    }

    /// Waits for `is_so`.
    ///
    /// # Panics
    /// When it is not within `patience`, with the end of the log.
    pub fn wait(&self, what: &str, patience: Duration, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + patience;
        while !is_so(self) {
            assert!(
                Instant::now() < deadline,
                "not within {patience:?}: {what}\n{}\n{}",
                self.counters(),
                self.log_tail()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for so many live neighbors.
    ///
    /// # Panics
    /// As [`Self::wait`].
    pub fn wait_live(&self, count: u64, patience: Duration) {
        self.wait(&format!("{count} live neighbors"), patience, |daemon| {
            daemon.live() >= count
        });
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a process has VmRSS") * 1024
    }

    /// Time on a processor so far, in steps of 10 ms.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).expect("it runs");
        // The name in brackets may hold anything; utime and stime are the 12th and 13th after it.
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Duration::from_millis(ticks * 1_000 / TICKS)
    }

    /// The real-time priorities of its threads called `name`; 0 for an ordinary thread.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn realtime(&self, name: &str) -> Vec<u32> {
        let threads = fs::read_dir(self.proc("task")).expect("it runs");
        let stats =
            threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
        let of_name = |stat: String| {
            let (head, fields) = stat.rsplit_once(')')?;
            // rt_priority is the 38th after the name.
            let priority = fields.split_whitespace().nth(37)?.parse().ok()?;
            head.ends_with(&format!("({name}")).then_some(priority)
        };
        stats.filter_map(of_name).collect()
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
