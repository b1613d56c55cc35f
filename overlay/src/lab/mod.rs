//! Whole meshes on one machine, in network namespaces: `floodmesh lab`.
//!
//! A lab is a demonstration and a measurement: the real daemon with a real device in each of a few
//! namespaces, joined by wires that can be cut. It needs root, or user namespaces and access to
//! `/dev/net/tun`, and no installed tool.
//!
//! ```text
//!   floodmesh lab          supervisor: prints, hears Ctrl-C, removes the directory
//!     floodmesh lab        worker: pid 1 of a process namespace; owns everything below
//!       floodmesh up       one daemon in each network namespace
//! ```
//!
//! 1. [`run`] starts this program once more as the worker (`supervisor`).
//! 2. The worker builds, pings, streams, breaks and reports (`worker`, `steps`).
//! 3. What is broken is decided beforehand from the graph alone (`topology`).
//!
//! Nothing is left behind, whoever dies how: see `supervisor`. Tests that want namespaces of their
//! own use [`net`]; read that first.
#![allow(
    clippy::disallowed_methods,
    reason = "the lab measures from outside the program and so reads the clock itself"
)]

use std::fmt;
use std::io::{self, Write};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod net;

mod directory;
mod drawing;
mod error;
mod interrupt;
mod node;
mod pairs;
mod report;
mod steps;
mod stream;
mod supervisor;
mod tally;
mod topology;
mod worker;

pub use error::LabError;
pub use pairs::PairReport;
pub use report::{EventReport, LabReport};
pub use tally::StreamFigures;
pub use topology::{Graph, Topology, TopologyError};

use directory::Directory;
use supervisor::{Ended, Message};
use worker::Task;

/// Datagrams of the stream: thirty seconds.
const STREAM_PACKETS: u32 = 30_000;
/// The time from one datagram of the stream to the next.
const STREAM_INTERVAL: Duration = Duration::from_millis(1);

/// What kind of lab to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabConfig {
    /// How the links lie; default a diamond.
    pub topology: Topology,
    /// How many nodes; default 4. The range depends on the topology ([`Topology::graph`]).
    pub nodes: usize,
    /// What the devices carry; default `tun`.
    pub mode: DeviceMode,
    /// Whether to leave everything running after the stream, until Ctrl-C.
    pub keep: bool,
    /// Whether standard output gets one JSON object and nothing else; steps go to standard error.
    pub json: bool,
    /// How many datagrams the stream has, one a millisecond; default 30,000. Below 3,000 the time
    /// between the breaks is shorter than a daemon needs to notice them.
    pub packets: u32,
}

impl Default for LabConfig {
    fn default() -> Self {
        Self {
            topology: Topology::default(),
            nodes: 4,
            mode: DeviceMode::Tun,
            keep: false,
            json: false,
            packets: STREAM_PACKETS,
        }
    }
}

/// What the devices of a lab carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceMode {
    /// IP packets.
    #[default]
    Tun,
    /// Ethernet frames.
    Tap,
}

impl DeviceMode {
    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tun => "tun",
            Self::Tap => "tap",
        }
    }
}

impl fmt::Display for DeviceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tun" => Ok(Self::Tun),
            "tap" => Ok(Self::Tap),
            other => Err(format!("a lab has devices of mode tun or tap, not {other}")),
        }
    }
}

/// Runs a lab and prints its steps, its drawing and its last line as they come.
///
/// In the worker process, which this function starts, it does the work instead and does not
/// return. The caller maps [`LabReport::is_clean`] to the exit code.
///
/// State:  what the lab made is gone on return, however it went.
/// Calls:  from the first thread of a program that has started no other: user namespaces need it,
///         and the calling thread can start no threads afterwards.
///
/// # Errors
/// [`LabError::is_misuse`] before anything is touched; else what stopped the lab half way. Failed
/// pairs and lost datagrams are no errors but results.
pub fn run(config: &LabConfig) -> Result<LabReport, LabError> {
    if let Some(task) = Task::from_environment() {
        worker::work(&task);
    }
    let graph = config.topology.graph(config.nodes)?;
    print_lines(config, &title(config, &graph));
    let directory = Directory::create().map_err(LabError::Directory)?;
    let is_in_user_namespace = supervisor::isolate().map_err(LabError::Forbidden)?;
    let task = Task {
        config: config.clone(),
        directory: directory.path().to_owned(),
        supervisor: std::process::id(),
        is_in_user_namespace,
    };
    let (key, value) = task
        .to_environment()
        .map_err(|error| LabError::Program(error.into()))?;
    let program = std::env::current_exe().map_err(LabError::Program)?;
    let mut command = Command::new(program);
    command.arg("lab").env(key, value);
    let mut report = None;
    let mut failure = None;
    let ended = supervisor::supervise(command, |message| match message {
        Message::Line(line) => print_lines(config, &line),
        Message::Failed(text) => failure = Some(text),
        Message::Report(done) => {
            print_result(config, &done);
            report = Some(*done);
        }
    })
    .map_err(LabError::Program)?;
    conclude(ended, report, failure)
}

/// What came of it, once nothing is left running.
fn conclude(
    ended: Ended,
    report: Option<LabReport>,
    failure: Option<String>,
) -> Result<LabReport, LabError> {
    match (report, failure) {
        (Some(report), None) => Ok(report),
        (_, Some(failure)) => Err(LabError::Worker(failure)),
        (None, None) if ended.is_interrupted => Err(LabError::Interrupted),
        (None, None) => Err(LabError::Silent(ended.status)),
    }
}

fn title(config: &LabConfig, graph: &Graph) -> String {
    let mut text = format!(
        "floodmesh lab: {}, {} nodes, {} links, {}\n\n",
        config.topology,
        graph.nodes(),
        graph.edges().len(),
        config.mode
    );
    for line in drawing::draw(config.topology, graph).lines() {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Steps are for people: where standard output is for programs they go to standard error.
fn print_lines(config: &LabConfig, lines: &str) {
    // A closed pipe is no reason to leave the lab standing.
    let _ = if config.json {
        writeln!(io::stderr(), "{lines}")
    } else {
        writeln!(io::stdout(), "{lines}")
    };
}

fn print_result(config: &LabConfig, report: &LabReport) {
    let line = if config.json {
        serde_json::to_string(report).unwrap_or_else(|error| error.to_string())
    } else {
        report.summary()
    };
    let _ = writeln!(io::stdout(), "{line}");
}
