//! The commands that ask a running node: one request, its replies, as text or JSON.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::admin::{ForgetRequest, PingRequest, PublishRequest, Reply, Verb};
use super::args::{NodeArgs, PingArgs, QueryArgs};
use super::config::NAME;
use super::error::Failure;
use super::paths::Places;
use super::report::{ForgottenReport, PublishedReport, Refusal, ReloadedReport, StatusReport};
use super::{render, text};

/// How long a node may take for a reply, above what was asked to take time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for the answers to one ping, which the node itself bounds.
const PING_PATIENCE: Duration = Duration::from_secs(10);

/// `floodmesh status`.
///
/// # Errors
/// No node could be asked, or it refused; the same for the others.
pub fn status(args: &QueryArgs) -> Result<ExitCode, Failure> {
    query(args, &Verb::Status, |reply| match reply {
        Reply::Status(report) => Some(show(args.json, report.as_ref(), render::status)),
        _ => None,
    })
}

/// `floodmesh neighbors`.
///
/// # Errors
/// As [`status`].
pub fn neighbors(args: &QueryArgs) -> Result<ExitCode, Failure> {
    query(args, &Verb::Neighbors, |reply| match reply {
        Reply::Neighbors(report) => Some(show(args.json, report, render::neighbors)),
        _ => None,
    })
}

/// `floodmesh nodes`.
///
/// # Errors
/// As [`status`].
pub fn nodes(args: &QueryArgs) -> Result<ExitCode, Failure> {
    query(args, &Verb::Nodes, |reply| match reply {
        Reply::Nodes(report) => Some(show(args.json, report, render::nodes)),
        _ => None,
    })
}

/// `floodmesh counters`.
///
/// # Errors
/// As [`status`].
pub fn counters(args: &QueryArgs) -> Result<ExitCode, Failure> {
    query(args, &Verb::Counters, |reply| match reply {
        Reply::Counters(report) => Some(show(args.json, report, render::counters)),
        _ => None,
    })
}

/// `floodmesh ping`: ends with code 1 when nothing answered.
///
/// # Errors
/// As [`status`].
pub fn ping(args: &PingArgs) -> Result<ExitCode, Failure> {
    let request = PingRequest {
        target: args.target.to_string(),
        count: args.count,
        interval_ms: (args.interval * 1_000.0).round() as u32,
    };
    let mut node = Node::find(&args.node)?;
    node.ask(
        &Verb::Ping(request),
        Duration::from_secs_f64(args.interval) + PING_PATIENCE,
    )?;
    loop {
        let reply = node.reply()?;
        let shown = match &reply {
            Reply::Answer(answer) => show_line(args.json, &reply, render::ping_reply(answer)),
            Reply::Missed(missed) => show_line(args.json, &reply, render::ping_missed(missed)),
            Reply::Summary(end) => show_line(args.json, &reply, render::ping_summary(end)),
            _ => return Err(node.unexpected()),
        };
        print(&shown)?;
        if let Reply::Summary(end) = reply {
            return Ok(ExitCode::from(u8::from(end.answered == 0)));
        }
    }
}

/// `floodmesh forget` on a running node; `None` when none runs there.
///
/// # Errors
/// It runs and refuses, or does not answer.
pub(super) fn forget(control: &Path, target: &str) -> Result<Option<ForgottenReport>, Failure> {
    let request = ForgetRequest {
        target: target.to_owned(),
    };
    order(control, &Verb::Forget(request), |reply| match reply {
        Reply::Forgotten(report) => Some(report),
        _ => None,
    })
}

/// `floodmesh ca publish` on a running node; `None` when none runs there.
///
/// # Errors
/// As [`forget`].
pub(super) fn publish(control: &Path, list: &str) -> Result<Option<PublishedReport>, Failure> {
    let request = PublishRequest {
        list: list.to_owned(),
    };
    order(control, &Verb::Publish(request), |reply| match reply {
        Reply::Published(report) => Some(report),
        _ => None,
    })
}

/// `floodmesh reload`.
///
/// # Errors
/// As [`status`].
pub fn reload(args: &QueryArgs) -> Result<ExitCode, Failure> {
    query(args, &Verb::Reload, |reply| match reply {
        Reply::Reloaded(report) => Some(show(args.json, report, render::reloaded)),
        _ => None,
    })
}

/// `floodmesh reload` on the node behind this socket; `None` when none runs there.
///
/// # Errors
/// As [`forget`].
pub(super) fn have_reloaded(control: &Path) -> Result<Option<ReloadedReport>, Failure> {
    order(control, &Verb::Reload, |reply| match reply {
        Reply::Reloaded(report) => Some(report),
        _ => None,
    })
}

/// The status of the node behind this socket; `None` when none runs there.
///
/// # Errors
/// As [`forget`].
pub(super) fn status_of(control: &Path) -> Result<Option<Box<StatusReport>>, Failure> {
    order(control, &Verb::Status, |reply| match reply {
        Reply::Status(report) => Some(report),
        _ => None,
    })
}

/// Has the node behind this socket do something; `None` when there is none.
fn order<T>(
    control: &Path,
    verb: &Verb,
    done: impl FnOnce(Reply) -> Option<T>,
) -> Result<Option<T>, Failure> {
    let mut node = match Node::connect(control) {
        Ok(node) => node,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => {
            let what = format!("cannot ask the node at {}", control.display());
            let remedy = remedy(&error, &Places::of_this_process());
            return Err(Failure::at_work(what, remedy).because(error));
        }
    };
    node.ask(verb, PATIENCE)?;
    let reply = node.reply()?;
    done(reply).map(Some).ok_or_else(|| node.unexpected())
}

fn query(
    args: &QueryArgs,
    verb: &Verb,
    shown: impl FnOnce(&Reply) -> Option<String>,
) -> Result<ExitCode, Failure> {
    let mut node = Node::find(&args.node)?;
    node.ask(verb, PATIENCE)?;
    let output = shown(&node.reply()?).ok_or_else(|| node.unexpected())?;
    print(&output)?;
    Ok(ExitCode::SUCCESS)
}

/// A report as one JSON object, or as text.
pub(super) fn show<T: Serialize>(
    json: bool,
    report: &T,
    text: impl FnOnce(&T) -> String,
) -> String {
    if json {
        // Reports have text keys only, so that nothing in them cannot be written.
        serde_json::to_string_pretty(report)
            .map(|text| text + "\n")
            .unwrap_or_default()
    } else {
        text(report)
    }
}

/// A reply as one line of JSON, or as text.
fn show_line(json: bool, reply: &Reply, text: String) -> String {
    if json {
        serde_json::to_string(reply)
            .map(|text| text + "\n")
            .unwrap_or_default()
    } else {
        text
    }
}

/// Prints and flushes; a reader that closed the pipe has seen what it wanted.
pub(super) fn print(output: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(output.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::at_work("cannot write the answer", "").because(error))
        }
        _ => Ok(()),
    }
}

/// A connection to a running node.
struct Node {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Node {
    /// Connects to the node that `args` names.
    fn find(args: &NodeArgs) -> Result<Self, Failure> {
        let places = Places::of_this_process();
        if let Some(path) = &args.control {
            return Self::connect(path).map_err(|error| {
                let what = format!("no node answers at {}", path.display());
                Failure::at_work(what, remedy(&error, &places)).because(error)
            });
        }
        let name = args.name.as_deref().unwrap_or(NAME);
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(Failure::misuse(
                format!("--name {name:?} is not a name"),
                "give the name that floodmesh up was started with",
            ));
        }
        let mut refused = None;
        for path in places.controls(name) {
            match Self::connect(&path) {
                Ok(node) => return Ok(node),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => refused = Some((path, error)),
            }
        }
        Err(match refused {
            Some((path, error)) => {
                let what = format!("cannot ask the node at {}", path.display());
                Failure::at_work(what, remedy(&error, &places)).because(error)
            }
            None => Failure::at_work(
                format!("no node of the name {name} runs here"),
                running(&places),
            ),
        })
    }

    fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            path: path.to_owned(),
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request; each reply may take up to `patience`.
    fn ask(&mut self, verb: &Verb, patience: Duration) -> Result<(), Failure> {
        let mut ask = || {
            let mut line = serde_json::to_vec(verb)?;
            line.push(b'\n');
            let stream = self.stream.get_mut();
            stream.set_read_timeout(Some(patience))?;
            stream.write_all(&line)
        };
        match ask() {
            // A node that refuses at once has said why before it closed.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(self.silent(error)),
            _ => Ok(()),
        }
    }

    /// Waits for the next reply; a refusal is an error.
    fn reply(&mut self) -> Result<Reply, Failure> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => return Err(self.silent(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(self.silent(error)),
            Ok(_) => {}
        }
        match serde_json::from_str(&line) {
            Ok(Reply::Refused(Refusal { problem, remedy })) => Err(Failure::at_work(
                format!("the node refused: {}", text::printable(&problem)),
                text::printable(&remedy),
            )),
            Ok(reply) => Ok(reply),
            Err(_) => Err(self.unexpected()),
        }
    }

    fn silent(&self, error: io::Error) -> Failure {
        let what = format!("the node at {} does not answer", self.path.display());
        let patience = matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        );
        let failure = Failure::at_work(what, "is it stopping? its log may say more");
        if patience {
            failure
        } else {
            failure.because(error)
        }
    }

    fn unexpected(&self) -> Failure {
        Failure::at_work(
            format!(
                "the node at {} answers in an unknown way",
                self.path.display()
            ),
            "is it of another version than this command?",
        )
    }
}

fn remedy(error: &io::Error, places: &Places) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "run with sudo, or as a member of the socket's group".to_owned()
        }
        _ => running(places),
    }
}

/// What to try when there is no such node: the names that run, if any do.
fn running(places: &Places) -> String {
    let mut names = Vec::new();
    for directory in places.control_directories() {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let socket = path
                .extension()
                .is_some_and(|extension| extension == "sock");
            // One that we may not ask runs all the same.
            let runs = |path: &Path| match UnixStream::connect(path) {
                Ok(_) => true,
                Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
            };
            if let (true, Some(name)) = (socket, path.file_stem()) {
                let name = text::foreign(&name.to_string_lossy());
                if !names.contains(&name) && runs(&path) {
                    names.push(name);
                }
            }
        }
    }
    names.sort();
    match names.as_slice() {
        [] => "none runs here; start one with floodmesh up".to_owned(),
        [one] => format!("one that runs: --name {one}"),
        some => format!("these run: {}; choose with --name", some.join(", ")),
    }
}
