//! The inner process of a lab: its task comes by the environment, its words go to standard output,
//! and it ends when its input closes. What it does stands in [`super::steps`].
//!
//! Whatever goes wrong, the drops on the way out take everything down; whatever prevents the drops,
//! the process namespace does (see the supervisor).

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::thread;

use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::interrupt::Interrupt;
use super::node::NodeError;
use super::steps::Lab;
use super::supervisor::Message;
use super::{LabConfig, LabError};

/// Where the supervisor puts the worker's task.
const TASK_VARIABLE: &str = "FLOODMESH_LAB_TASK";

/// What the supervisor tells the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Task {
    /// What was asked for.
    pub config: LabConfig,
    /// The private directory.
    pub directory: PathBuf,
    /// The process to end, where the lab is kept.
    pub supervisor: u32,
    /// Whether all this is in a user namespace.
    pub is_in_user_namespace: bool,
}

impl Task {
    /// The task of this process, if it is a worker.
    pub(super) fn from_environment() -> Option<Self> {
        serde_json::from_str(&std::env::var(TASK_VARIABLE).ok()?).ok()
    }

    /// The environment variable that makes a child a worker.
    pub(super) fn to_environment(&self) -> Result<(&'static str, String), serde_json::Error> {
        Ok((TASK_VARIABLE, serde_json::to_string(self)?))
    }
}

/// Does the task, reports over standard output and ends the process.
pub(super) fn work(task: &Task) -> ! {
    let interrupt = Interrupt::default();
    raise_when_input_closes(interrupt.clone());
    let directory = Directory::adopt(task.directory.clone());
    let code = match run(task, &interrupt) {
        Ok(()) => 0,
        Err(LabError::Interrupted) => 1,
        Err(error) => {
            say_last_lines(&error);
            say(&Message::Failed(error.chain()));
            1
        }
    };
    drop(directory);
    std::process::exit(code)
}

/// Our input closes when the supervisor wants an end, and when it is gone.
fn raise_when_input_closes(interrupt: Interrupt) {
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut byte = [0];
        while matches!(input.read(&mut byte), Ok(1..)) {}
        interrupt.raise();
    });
}

pub(super) fn say(message: &Message) {
    let mut output = io::stdout().lock();
    if let Ok(line) = serde_json::to_string(message) {
        // Without a supervisor nobody listens; the closed input ends the lab.
        let _ = writeln!(output, "{line}").and_then(|()| output.flush());
    }
}

/// What a failed daemon wrote explains more than its exit code.
fn say_last_lines(error: &LabError) {
    if let LabError::Node(NodeError::Failed {
        name, last_lines, ..
    }) = error
    {
        say(&Message::Line(format!("the last lines of node {name}:")));
        for line in last_lines {
            say(&Message::Line(format!("    {line}")));
        }
    }
}

fn run(task: &Task, interrupt: &Interrupt) -> Result<(), LabError> {
    let graph = task.config.topology.graph(task.config.nodes)?;
    check_tunnel_device()?;
    let mut lab = Lab::new(task, graph, interrupt)?;
    lab.lay_links()?;
    lab.start_nodes()?;
    lab.wait_live()?;
    let pings = lab.ping()?;
    let streamed = lab.stream()?;
    if task.config.keep {
        lab.say_how_to_enter();
    } else {
        lab.end_nodes()?;
    }
    say(&Message::Report(Box::new(lab.report(pings, streamed))));
    if task.config.keep {
        interrupt.wait();
    }
    Ok(())
}

/// Says at once, and once, what every daemon would say otherwise.
fn check_tunnel_device() -> Result<(), LabError> {
    let opened = File::options().read(true).write(true).open("/dev/net/tun");
    opened.map(drop).map_err(LabError::Device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Topology;

    #[test]
    fn a_task_survives_the_environment() {
        let task = Task {
            config: LabConfig {
                topology: Topology::Ring,
                nodes: 5,
                keep: true,
                ..LabConfig::default()
            },
            directory: "/tmp/lab".into(),
            supervisor: 7,
            is_in_user_namespace: true,
        };
        let (_, text) = task.to_environment().unwrap();
        assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), task);
    }
}
