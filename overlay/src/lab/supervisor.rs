//! The outer process of a lab: it starts the worker, listens for Ctrl-C, and survives what happens.
//!
//! Everything the lab makes belongs to the worker, which is the first process of a process
//! namespace of its own. However the worker ends (in order, by a panic, by SIGKILL), the kernel
//! then kills every daemon in that namespace, and with the last of them the network namespaces go.
//! However *we* end, the worker finds its standard input closed and takes everything down itself.
//! So nothing needs to be remembered on disk, and nothing is left.
//!
//! 1. [`isolate`]: our next child begins a process namespace, if need be inside a user namespace.
//! 2. Start the worker, a pipe each way: closing its input asks it to end, its output brings
//!    [`Message`]s, one JSON object a line.
//! 3. Pass messages on until the output closes. SIGINT or SIGTERM closes the input; a second one,
//!    or ten seconds, kills.
//!
//! Sources: pid_namespaces(7), user_namespaces(7).

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::report::LabReport;

/// How long a worker that was asked to end may take: daemons get three seconds of it.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// What the worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// A line for people, without its newline.
    Line(String),
    /// The lab has run; what follows is at most the end of `--keep`.
    Report(Box<LabReport>),
    /// The lab could not run to its end; the text is a whole error.
    Failed(String),
}

/// How the worker ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// Whether SIGINT or SIGTERM asked for it.
    pub is_interrupted: bool,
}

/// Makes the calling thread's next child the first process of a new process namespace. Without the
/// right to that, a user namespace is made around it, in which we have all rights.
///
/// Returns whether a user namespace was needed.
///
/// State:  the calling thread can start processes but no further threads afterwards; a user
///         namespace can only be made while it is the only thread.
/// # Errors
/// When both are refused. Nothing has changed then.
pub(super) fn isolate() -> io::Result<bool> {
    match unshare(CloneFlags::CLONE_NEWPID) {
        Ok(()) => return Ok(false),
        Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let (user, group) = (geteuid(), getegid());
    // Whatever the reason, what is missing is the right to make namespaces.
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)
        .map_err(|_| io::Error::from(io::ErrorKind::PermissionDenied))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    Ok(true)
}

/// Runs the worker to its end and passes on what it says.
///
/// Calls: once [`isolate`] has been called on this thread.
/// State: on return the worker and everything in its process namespace is dead.
pub(super) fn supervise(
    mut command: Command,
    mut on_message: impl FnMut(Message),
) -> io::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Before the start, so that there is no moment in which Ctrl-C would leave it alone.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut worker = Worker(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .process_group(0)
                .spawn()?,
        );
        let output = worker.0.stdout.take().map(OwnedFd::from);
        let output = output.ok_or(io::ErrorKind::BrokenPipe)?;
        let mut lines = BufReader::new(pipe::Receiver::from_owned_fd(output)?).lines();
        let mut kill_at: Option<Instant> = None;
        loop {
            let patience = kill_at.unwrap_or_else(|| Instant::now() + END_PATIENCE);
            tokio::select! {
                line = lines.next_line() => match line? {
                    Some(line) => on_message(read_message(line)),
                    None => break,
                },
                _ = interrupt.recv() => worker.ask_or_kill(&mut kill_at)?,
                _ = terminate.recv() => worker.ask_or_kill(&mut kill_at)?,
                () = sleep_until(patience), if kill_at.is_some() => worker.0.kill()?,
            }
        }
        Ok(Ended {
            status: worker.0.wait()?,
            is_interrupted: kill_at.is_some(),
        })
    })
}

/// The worker's process; dropped, it is killed, and with it everything in its namespace.
struct Worker(Child);

impl Worker {
    /// Asks the worker to end by closing its input; kills it if it was asked before.
    fn ask_or_kill(&mut self, kill_at: &mut Option<Instant>) -> io::Result<()> {
        if kill_at.is_some() {
            return self.0.kill();
        }
        *kill_at = Some(Instant::now() + END_PATIENCE);
        drop(self.0.stdin.take());
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails only once it is reaped, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Anything that is no message is shown as it stands.
fn read_message(line: String) -> Message {
    serde_json::from_str(&line).unwrap_or(Message::Line(line))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Supervises a shell script in a thread of its own, which the process namespace stays with.
    fn run_script(script: &str) -> Option<(Ended, Vec<String>)> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let supervisor = thread::spawn(move || {
            if unshare(CloneFlags::CLONE_NEWPID).is_err() {
                assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
                println!("skipped: needs root");
                return None;
            }
            let mut lines = Vec::new();
            let ended = supervise(command, |message| match message {
                Message::Line(line) => lines.push(line),
                other => lines.push(format!("{other:?}")),
            });
            Some((ended.unwrap(), lines))
        });
        supervisor.join().unwrap()
    }

    #[test]
    fn messages_come_through_and_the_worker_is_the_first_of_its_namespace() {
        let Some((ended, lines)) = run_script(r#"echo '{"Line":"hello"}'; echo $$; exit 3"#) else {
            return;
        };
        assert_eq!(lines, ["hello", "1"]);
        assert_eq!(ended.status.code(), Some(3));
        assert!(!ended.is_interrupted);
    }

    #[test]
    fn what_the_worker_started_dies_with_it() {
        // The worker kills itself, as a panic would end it, and leaves a child that would hold its
        // pipe open for an hour: the end of the pipe shows that the child is dead too.
        let Some((ended, lines)) =
            run_script("sleep 3600 & echo started; ulimit -t 1; while :; do :; done")
        else {
            return;
        };
        assert_eq!(lines, ["started"]);
        assert!(!ended.status.success());
    }

    #[test]
    fn a_failure_and_a_report_are_read_back() {
        let report = super::super::report::tests::report();
        let line = serde_json::to_string(&Message::Report(Box::new(report.clone()))).unwrap();
        assert!(matches!(read_message(line), Message::Report(read) if *read == report));
        let line = serde_json::to_string(&Message::Failed("no".into())).unwrap();
        assert!(matches!(read_message(line), Message::Failed(text) if text == "no"));
    }
}
