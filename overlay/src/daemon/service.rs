//! What a node and the service manager that started it (systemd) tell each other: sd_notify(3).
//!
//! ```text
//!   READY=1         sockets and device are there, and the process has given up what it does not need
//!   STATUS=         one line for people, when it changes, at most once a second
//!   WATCHDOG=1      every thread has taken a turn since the last one
//!   RELOADING=1     files are being read again, until the next READY=1
//!   STOPPING=1      Goodbye is being said
//! ```
//!
//! [`Service`] has the socket, which is connected before the process is confined, and `Watchdog`
//! decides when the node may say that it is well: it asks every data thread to take a turn, and only
//! when all have is the manager told. The control loop does the asking, so that one which is stuck is
//! not covered up either; a thread that hangs or has ended keeps the node silent, and the manager
//! starts it anew.
//!
//! Without a manager all of this does nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

use crate::time::{Duration, Instant};

/// Where the manager listens: a path, or `@` and a name without a file.
const SOCKET: &str = "NOTIFY_SOCKET";
/// A manager that is busy is waited for this long, by the control loop.
const PATIENCE: Duration = Duration::from_millis(500);
/// Shortest time between two questions of the watchdog.
const SHORTEST: Duration = Duration::from_millis(10);

/// The way to the service manager; without one, nothing is told.
#[derive(Debug, Default)]
pub struct Service {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
    /// What it was told last of how the node is.
    status: String,
}

impl Service {
    /// Connects to the manager that the environment names.
    ///
    /// Calls: before the process is confined, by the only thread there is.
    pub fn of_this_process() -> Self {
        let Some(address) = std::env::var_os(SOCKET).filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        let socket = connect(&address);
        if let Err(error) = &socket {
            tracing::warn!(
                %error,
                "the service manager cannot be told how the node is: {SOCKET}={}",
                address.display()
            );
        }
        let limit = sd_notify::watchdog_enabled().filter(|_| socket.is_ok());
        Self {
            socket: socket.ok(),
            watchdog: limit.map(Watchdog::new),
            status: String::new(),
        }
    }

    /// Whether anybody is told.
    pub fn is_told(&self) -> bool {
        self.socket.is_some()
    }

    /// The node does what it is there for, and is like `status`.
    pub fn ready(&mut self, now: Instant, status: String) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        self.status = status;
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.start(now);
        }
    }

    /// How the node is; told where that is news.
    pub fn note(&mut self, status: String) {
        if self.is_told() && self.status != status {
            self.tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Files are being read again, until [`Self::reloaded`].
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(since) => self.tell(&[NotifyState::Reloading, since]),
            Err(error) => tracing::debug!(%error, "the service manager is not told of a reload"),
        }
    }

    /// Files were read again, or could not be.
    pub fn reloaded(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// The node says Goodbye.
    pub fn stopping(&self) {
        self.tell(&[
            NotifyState::Stopping,
            NotifyState::Status("leaving the mesh"),
        ]);
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.watchdog.as_ref()?.next_timeout()
    }

    /// Tells that the node is well, if all threads `are_well`: have answered the last question. Returns
    /// whether they are to be asked again. An early call changes nothing.
    pub fn handle_timeout(&mut self, now: Instant, are_well: bool) -> bool {
        let Some(watchdog) = &mut self.watchdog else {
            return false;
        };
        match watchdog.poll(now, are_well) {
            Step::Nothing => false,
            Step::Wait { first } => {
                if first {
                    tracing::warn!(
                        "a data thread has not taken a turn; the service manager is not told that the node is well"
                    );
                }
                false
            }
            Step::Ask { tell } => {
                if tell {
                    self.tell(&[NotifyState::Watchdog]);
                }
                true
            }
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else {
            return;
        };
        let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send(lines.as_bytes()) {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}

/// A socket of our own, as that of sd_notify is connected anew for each message and by path only.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let bytes = address.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if bytes.starts_with(b"/") => SocketAddr::from_pathname(address)?,
        None => return Err(io::Error::other("neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// When the manager may be told that the node is well.
///
/// ```text
///   ask --- a quarter of the limit ---> answered by all?  yes: tell, ask again
///                                                         no:  look again soon, tell nothing
/// ```
#[derive(Debug)]
struct Watchdog {
    /// From one question to the next: a quarter of what the manager waits for, so that a late answer
    /// is no alarm.
    interval: Duration,
    due_at: Option<Instant>,
    /// A question is out.
    asked: bool,
    /// It was found without an answer.
    missed: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// The question is still without an answer; the first time that it was found so.
    Wait {
        first: bool,
    },
    /// Ask all threads, and tell the manager that they answered before.
    Ask {
        tell: bool,
    },
}

impl Watchdog {
    /// For a manager that waits this long for a sign.
    fn new(limit: Duration) -> Self {
        Self {
            interval: (limit / 4).max(SHORTEST),
            due_at: None,
            asked: false,
            missed: false,
        }
    }

    fn start(&mut self, now: Instant) {
        self.due_at = Some(now);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.due_at
    }

    fn poll(&mut self, now: Instant, answered: bool) -> Step {
        if self.due_at.is_none_or(|at| now < at) {
            return Step::Nothing;
        }
        if self.asked && !answered {
            self.due_at = Some(now + (self.interval / 4).max(SHORTEST));
            let first = !std::mem::replace(&mut self.missed, true);
            return Step::Wait { first };
        }
        self.due_at = Some(now + self.interval);
        self.missed = false;
        Step::Ask {
            tell: std::mem::replace(&mut self.asked, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(milliseconds)
    }

    #[test]
    fn all_is_well_four_times_within_the_limit_while_threads_answer() {
        let mut watchdog = Watchdog::new(Duration::from_secs(30));
        assert_eq!(watchdog.next_timeout(), None, "nothing before it is ready");
        watchdog.start(at(100));
        assert_eq!(watchdog.poll(at(100), false), Step::Ask { tell: false });
        for time in [7_600, 15_100, 22_600, 30_100] {
            assert_eq!(watchdog.next_timeout(), Some(at(time)));
            assert_eq!(watchdog.poll(at(time - 1), true), Step::Nothing);
            assert_eq!(watchdog.poll(at(time), true), Step::Ask { tell: true });
        }
    }

    #[test]
    fn nothing_is_told_until_a_late_thread_has_answered() {
        let mut watchdog = Watchdog::new(Duration::from_secs(16));
        watchdog.start(at(0));
        assert_eq!(watchdog.poll(at(0), false), Step::Ask { tell: false });
        assert_eq!(watchdog.poll(at(4_000), false), Step::Wait { first: true });
        for time in [5_000, 6_000, 60_000] {
            assert_eq!(watchdog.poll(at(time), false), Step::Wait { first: false });
        }
        assert_eq!(watchdog.poll(at(61_000), true), Step::Ask { tell: true });
        assert_eq!(watchdog.next_timeout(), Some(at(65_000)));
        assert_eq!(watchdog.poll(at(65_000), false), Step::Wait { first: true });
    }

    #[test]
    fn the_shortest_limit_does_not_keep_the_loop_busy() {
        let mut watchdog = Watchdog::new(Duration::from_micros(1));
        watchdog.start(at(0));
        watchdog.poll(at(0), false);
        assert_eq!(watchdog.next_timeout(), Some(at(10)));
        watchdog.poll(at(10), false);
        assert_eq!(watchdog.next_timeout(), Some(at(20)));
    }

    #[test]
    fn a_manager_is_found_by_path_and_by_name_and_hears_each_line_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify");
        let name = format!("floodmesh-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let managers = [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into()),
            (
                UnixDatagram::bind_addr(&abstract_address).unwrap(),
                std::ffi::OsString::from(format!("@{name}")),
            ),
        ];
        for (manager, address) in managers {
            let mut service = Service {
                socket: Some(connect(&address).unwrap()),
                ..Service::default()
            };
            let heard = || {
                let mut bytes = [0; 256];
                let len = manager.recv(&mut bytes).unwrap();
                String::from_utf8(bytes[..len].to_vec()).unwrap()
            };
            service.ready(at(0), "well".into());
            assert_eq!(heard(), "READY=1\nSTATUS=well\n");
            service.note("well".into());
            service.note("better".into());
            assert_eq!(heard(), "STATUS=better\n");
            service.reloading();
            let text = heard();
            let since = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(since.trim_end().parse::<u64>().is_ok(), "{text}");
            service.reloaded();
            assert_eq!(heard(), "READY=1\n");
            service.stopping();
            assert_eq!(heard(), "STOPPING=1\nSTATUS=leaving the mesh\n");
        }
        assert!(connect("relative".as_ref()).is_err());
        assert!(connect(home.path().join("nobody").as_os_str()).is_err());
    }
}
