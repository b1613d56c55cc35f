//! One real daemon in one namespace.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::DeviceMode;
use super::interrupt::{Interrupt, Interrupted};
use super::net::{Namespace, NetError};

/// The UDP port of every daemon in the lab.
pub(super) const PORT: u16 = 44204;
/// The device's name in each namespace.
pub(super) const DEVICE: &str = "mesh0";
/// What the line begins with by which a daemon says that it runs.
const READY: &str = "ready:";
/// How many of a daemon's last lines are kept for the case that it fails.
const KEPT_LINES: usize = 20;
/// The longest line that is kept, in bytes.
const MAX_LINE_LEN: u64 = 4096;
/// How often a wait looks whether it should end.
const LOOK_UP_INTERVAL: Duration = Duration::from_millis(20);

/// What a daemon is started with.
#[derive(Debug)]
pub(super) struct NodeSetup<'a> {
    /// The program to run: this one.
    pub program: &'a Path,
    /// The node's place in the graph, from 0; netid and overlay address follow from it.
    pub place: usize,
    /// The node's name.
    pub name: &'a str,
    /// Where its state and its control socket go.
    pub directory: &'a Path,
    /// Whom it dials.
    pub peers: Vec<SocketAddr>,
    /// What its device carries.
    pub mode: DeviceMode,
    /// The most neighbors of any node, so that no link of the topology is refused.
    pub degree: usize,
}

impl NodeSetup<'_> {
    fn control(&self) -> PathBuf {
        self.directory.join(format!("{}.sock", self.name))
    }

    /// `floodmesh up` with everything written out: nothing is taken from the machine's own setup.
    fn command(&self) -> Command {
        let mut command = own_command(self.program);
        command
            .args(["up", "--plain", "--name", self.name])
            .args(["--netid", &netid(self.place)])
            .args(["--listen", &format!("0.0.0.0:{PORT}")])
            .args(["--mode", self.mode.name(), "--dev", DEVICE])
            .args(["--address", &overlay_address(self.place).to_string()])
            .args(["--degree", &self.degree.max(1).to_string()])
            .arg("--state-dir")
            .arg(self.directory.join(self.name))
            .arg("--control")
            .arg(self.control());
        for peer in &self.peers {
            command.args(["--peer", &peer.to_string()]);
        }
        command
    }
}

/// The program with a clean start: none of our settings from the environment, no terminal, and a
/// process group of its own, so that Ctrl-C reaches the lab alone.
fn own_command(program: &Path) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("FLOODMESH_") {
            command.env_remove(key);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command
}

/// The netid of the node at `place`, as it is written.
pub(super) fn netid(place: usize) -> String {
    format!("{:08x}", place + 1)
}

/// The overlay address of the node at `place`, with the prefix that all share.
pub(super) fn overlay_address(place: usize) -> IpNet {
    let host = u8::try_from(place + 1).unwrap_or(u8::MAX);
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 77, 0, host), 24))
}

/// A running daemon. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    child: Child,
    control: PathBuf,
    ready: Receiver<String>,
    tail: Arc<Mutex<VecDeque<String>>>,
    /// Whether we ended it; any other end is a failure.
    is_ended: bool,
}

impl Node {
    /// Starts a daemon in `namespace`.
    pub(super) fn start(namespace: &Namespace, setup: &NodeSetup<'_>) -> Result<Self, NodeError> {
        let mut child = namespace.spawn(&mut setup.command())?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, ready) = channel();
        if let Some(stdout) = child.stdout.take() {
            read_lines(stdout, Arc::clone(&tail), sender.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            read_lines(stderr, Arc::clone(&tail), sender);
        }
        Ok(Self {
            name: setup.name.to_owned(),
            child,
            control: setup.control(),
            ready,
            tail,
            is_ended: false,
        })
    }

    /// The node's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The path of its control socket.
    pub(super) fn control(&self) -> &Path {
        &self.control
    }

    /// Waits for the ready line and returns it.
    pub(super) fn wait_ready(
        &mut self,
        deadline: Instant,
        interrupt: &Interrupt,
    ) -> Result<String, NodeError> {
        loop {
            interrupt.check()?;
            match self.ready.recv_timeout(LOOK_UP_INTERVAL) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => return Err(self.failure("is not ready in time")),
                // Both pipes are closed: the daemon has ended.
                Err(RecvTimeoutError::Disconnected) => {
                    let problem = match self.child.wait() {
                        Ok(status) => format!("ended before it was ready ({status})"),
                        Err(error) => format!("cannot be waited for: {error}"),
                    };
                    self.is_ended = true;
                    return Err(self.failure(&problem));
                }
            }
        }
    }

    /// How many neighbors are live, as the daemon itself says; 0 when it does not answer.
    pub(super) fn live_neighbors(&self, program: &Path) -> io::Result<usize> {
        let mut command = own_command(program);
        command
            .args(["neighbors", "--json", "--control"])
            .arg(&self.control);
        let output = command.output()?;
        Ok(count_live(&output.stdout))
    }

    /// Kills the daemon on the spot: no Goodbye, as if its power failed.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.is_ended = true;
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Asks the daemon to end; [`Self::wait_end`] waits for it.
    pub(super) fn ask_to_end(&mut self) {
        if !self.is_ended
            && let Ok(pid) = i32::try_from(self.child.id())
        {
            // An error means that it is gone already, which `wait_end` finds out.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// Waits for the end that was asked for, and kills at `deadline`. Returns what was not in order.
    pub(super) fn wait_end(&mut self, deadline: Instant) -> io::Result<Option<String>> {
        if self.is_ended {
            return Ok(None);
        }
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                self.is_ended = true;
                return Ok((!status.success()).then(|| format!("ended with {status}")));
            }
            thread::sleep(LOOK_UP_INTERVAL);
        }
        self.kill()?;
        Ok(Some("did not end in time and was killed".to_owned()))
    }

    /// The status of a daemon that ended without being asked.
    pub(super) fn unexpected_end(&mut self) -> Option<ExitStatus> {
        if self.is_ended {
            return None;
        }
        self.child.try_wait().ok().flatten()
    }

    /// What the daemon wrote last, oldest first.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().cloned().collect()
    }

    fn failure(&self, problem: &str) -> NodeError {
        NodeError::Failed {
            name: self.name.clone(),
            problem: problem.to_owned(),
            last_lines: self.last_lines(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.is_ended {
            // Neither can fail in a way that leaves a process: it is ours and not yet reaped.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Keeps the last lines of one of the daemon's outputs and passes its ready line on.
fn read_lines(
    output: impl Read + Send + 'static,
    tail: Arc<Mutex<VecDeque<String>>>,
    ready: Sender<String>,
) {
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        loop {
            let mut line = Vec::new();
            match output
                .by_ref()
                .take(MAX_LINE_LEN)
                .read_until(b'\n', &mut line)
            {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.starts_with(READY) {
                let _ = ready.send(line.clone());
            }
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            if tail.len() == KEPT_LINES {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    });
}

/// The live ones in the output of `floodmesh neighbors --json`.
fn count_live(json: &[u8]) -> usize {
    let Ok(report) = serde_json::from_slice::<serde_json::Value>(json) else {
        return 0;
    };
    report["neighbors"].as_array().map_or(0, |all| {
        all.iter().filter(|one| one["state"] == "live").count()
    })
}

/// The address of one end of a link, without its prefix length.
pub(super) fn endpoint(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, PORT)
}

/// A daemon could not be started or did not do what it should.
///
/// The daemon is dead or dies with its [`Node`]; the caller takes the lab down.
#[derive(Debug)]
pub enum NodeError {
    /// The kernel did not start the program.
    Start(NetError),
    /// It ran and went wrong.
    Failed {
        /// The node.
        name: String,
        /// What happened, as it continues the name.
        problem: String,
        /// What it wrote last; not part of the error's one line.
        last_lines: Vec<String>,
    },
    /// The lab is to end.
    Interrupted,
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(_) => write!(f, "cannot start a daemon"),
            Self::Failed { name, problem, .. } => write!(f, "node {name} {problem}"),
            Self::Interrupted => write!(f, "interrupted"),
        }
    }
}

impl std::error::Error for NodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start(error) => Some(error),
            Self::Failed { .. } | Self::Interrupted => None,
        }
    }
}

impl From<NetError> for NodeError {
    fn from(error: NetError) -> Self {
        Self::Start(error)
    }
}

impl From<Interrupted> for NodeError {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(directory: &Path) -> NodeSetup<'_> {
        NodeSetup {
            program: Path::new("/usr/bin/floodmesh"),
            place: 9,
            name: "j",
            directory,
            peers: vec!["10.64.0.2:44204".parse().unwrap()],
            mode: DeviceMode::Tap,
            degree: 2,
        }
    }

    #[test]
    fn a_daemon_gets_everything_on_its_command_line() {
        let command = setup(Path::new("/tmp/lab")).command();
        let arguments: Vec<_> = command.get_args().map(|a| a.to_str().unwrap()).collect();
        assert_eq!(
            arguments.join(" "),
            "up --plain --name j --netid 0000000a --listen 0.0.0.0:44204 --mode tap --dev mesh0 \
             --address 10.77.0.10/24 --degree 2 --state-dir /tmp/lab/j --control /tmp/lab/j.sock \
             --peer 10.64.0.2:44204"
        );
    }

    #[test]
    fn only_live_neighbors_are_counted() {
        let json = br#"{"neighbors":[{"netid":"00000001","state":"live"},{"netid":null,
            "state":"dialing"},{"netid":"00000002","state":"live"}]}"#;
        assert_eq!(count_live(json), 2);
    }

    #[test]
    fn an_answer_that_is_no_report_counts_nothing() {
        for json in [&b""[..], b"{}", b"[1]", b"{\"neighbors\":7}"] {
            assert_eq!(count_live(json), 0);
        }
    }

    #[test]
    fn the_last_lines_are_kept_and_the_ready_line_passed_on() {
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, ready) = channel();
        let mut text: String = (0..30).map(|line| format!("line {line}\n")).collect();
        text.push_str("ready: netid 00000001\nlast");
        read_lines(io::Cursor::new(text), Arc::clone(&tail), sender);
        assert_eq!(ready.recv().unwrap(), "ready: netid 00000001");
        assert!(ready.recv().is_err());
        let tail = tail.lock().unwrap();
        assert_eq!(tail.len(), KEPT_LINES);
        assert_eq!(tail.back().unwrap(), "last");
    }
}
