//! A node as its unit file starts it: as a user of its own with one capability, under a service manager
//! that wants to know how it is. The test plays that manager.
//!
//! ```text
//!   test ---- NOTIFY_SOCKET ---- node (nobody, CAP_NET_ADMIN)
//! ```

use std::fs::{self, DirBuilder, File};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use overlay::lab::net::Namespace;
use overlay_tests::cli;
use overlay_tests::mesh::{DEVICE, PATIENCE, Turn, may_run, wait_until};
use serde_json::Value;

use crate::confine::{Home, NOBODY, Own};

/// What the manager waits for a sign of life, in microseconds.
const WATCHDOG: &str = "1000000";
/// The unit file.
const UNIT: &str = include_str!("../../packaging/systemd/floodmesh@.service");

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    /// What was told, taken out of the socket at once: it has room for ten.
    told: Receiver<String>,
}

impl Manager {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        let (heard, told) = mpsc::channel();
        let end = socket.try_clone().unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 1_024];
            // Nothing is told in an empty datagram: that is the end.
            while let Ok(len @ 1..) = end.recv(&mut bytes) {
                let text = String::from_utf8(bytes[..len].to_vec()).unwrap();
                if heard.send(text).is_err() {
                    return;
                }
            }
        });
        Self { socket, told }
    }

    /// What was told next, if anything was.
    fn hear(&self) -> Option<String> {
        self.told.recv_timeout(Duration::from_millis(50)).ok()
    }

    /// Waits until something is told that begins like this, past everything else.
    fn wait(&self, begins: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.hear() {
                Some(told) if told.starts_with(begins) => return told,
                _ => assert!(Instant::now() < end, "{begins} is not told"),
            }
        }
    }

    /// How often it was told that the node is well, of all that waits to be heard.
    fn signs(&self) -> usize {
        let heard = std::iter::from_fn(|| self.hear());
        heard.filter(|told| told == "WATCHDOG=1\n").count()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Ends the thread that listens.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// A machine on which a node was set up for a service.
struct Machine {
    namespace: Namespace,
    home: Home,
    manager: Manager,
}

impl Machine {
    fn new() -> Self {
        let home = Home::new();
        let machine = Self {
            namespace: Namespace::new("service").unwrap(),
            manager: Manager::new(&home.path("notify")),
            home,
        };
        let output = machine.does("init --listen 127.0.0.1:0");
        assert!(output.contains("made the mesh"), "{output}");
        // As StateDirectory= and RuntimeDirectory= do.
        let given = |path: &Path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        let state = machine.state();
        for file in fs::read_dir(&state).unwrap() {
            given(&file.unwrap().path());
        }
        state.ancestors().take(3).for_each(given);
        let run = machine.home.path("run/floodmesh");
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o750).create(&run).unwrap();
        run.ancestors().take(2).for_each(given);
        machine
    }

    fn state(&self) -> PathBuf {
        self.home.path("lib/floodmesh/mesh0")
    }

    fn control(&self) -> PathBuf {
        self.home.path("run/floodmesh/mesh0.sock")
    }

    /// What root's `floodmesh LINE` about the node says, on both outputs.
    fn does(&self, line: &str) -> String {
        let words: Vec<_> = line.split_whitespace().collect();
        let mut command = cli::command(&words);
        if line != "reload" {
            command.arg("--config").arg(self.home.path("mesh0.toml"));
            command.arg("--state-dir").arg(self.state());
        }
        if !["init", "key"].contains(&words[0]) {
            command.arg("--control").arg(self.control());
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).unwrap()
    }

    fn status(&self) -> Value {
        let mut command = cli::command(&["status", "--json", "--control"]);
        let output = command.arg(self.control()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path("log")).unwrap()
    }

    /// Starts what the unit starts, with this in its environment besides.
    fn start(&self, capabilities: &str, more: &[(&str, PathBuf)]) -> Own {
        let line = setting("ExecStart").next().unwrap();
        let words = line.split_once(' ').unwrap().1.replace("%i", "mesh0");
        let mut command = Command::new("setpriv");
        command
            .env_clear()
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .args(["--no-new-privs", "--bounding-set", capabilities])
            .args(["--inh-caps", capabilities, "--ambient-caps", capabilities])
            .arg(&self.home.program)
            .args(words.split_whitespace())
            .env("FLOODMESH_CONFIG", self.home.path("mesh0.toml"))
            .env("NOTIFY_SOCKET", self.home.path("notify"))
            .env("WATCHDOG_USEC", WATCHDOG)
            .envs(more.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null());
        // The places of the system are ones of this test.
        for assignment in setting("Environment").flat_map(str::split_whitespace) {
            let (name, place) = assignment.split_once('=').unwrap();
            let own = self.home.path(place.rsplit('/').next().unwrap());
            command.env(name, own);
        }
        let log = File::create(self.home.path("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Own(self.namespace.spawn(&mut command).unwrap())
    }
}

/// The values that the unit file gives to a name.
fn setting(name: &str) -> impl Iterator<Item = &'static str> {
    UNIT.lines()
        .filter_map(|line| line.split_once('='))
        .filter_map(move |(found, value)| (found == name).then_some(value))
}

fn pid(node: &Own) -> Pid {
    Pid::from_raw(i32::try_from(node.0.id()).unwrap())
}

/// A data thread of a process.
fn data_thread(pid: Pid) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let is_data = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("data"))
    };
    let task = tasks.map(Result::unwrap).find(is_data).unwrap();
    Pid::from_raw(task.file_name().to_str().unwrap().parse().unwrap())
}

#[test]
fn service_a_user_with_one_capability_runs_what_the_unit_starts_and_tells_how_it_is() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let machine = Machine::new();
    let manager = &machine.manager;

    // The counter-claim: without the capability there is no device, and nobody is told that there is.
    let mut refused = machine.start("-all", &[]);
    assert!(!refused.0.wait().unwrap().success());
    assert!(machine.log().contains("permission denied"));
    assert_eq!(manager.hear(), None);

    // Ready: the first that is told. By then all is there, and given up.
    let mut node = machine.start("-all,+net_admin", &[]);
    let told = manager.wait("");
    assert!(told.starts_with("READY=1\nSTATUS=netid "), "{told}");
    assert!(told.ends_with(", 0 neighbors\n"), "{told}");
    let status = machine.status();
    assert_eq!(status["device"]["name"], DEVICE, "{status}");
    let confinement = &status["confinement"];
    assert_eq!(
        confinement["capabilities"],
        serde_json::json!(["net_admin"])
    );
    assert!(confinement["seccomp"].as_bool().unwrap(), "{confinement}");
    for thread in crate::confine::threads(pid(&node)) {
        let found = ["CapEff", "NoNewPrivs", "Seccomp"].map(|name| thread[name].as_str());
        assert_eq!(found, [crate::confine::NET_ADMIN, "1", "2"]);
    }

    // It is well, again and again.
    for _ in 0..3 {
        manager.wait("WATCHDOG=1\n");
    }

    // Root changes its files, and the user that it runs as reads them.
    let said = machine.does("rotate");
    assert!(said.contains("took up: next secret"), "{said}");
    manager.wait("RELOADING=1\nMONOTONIC_USEC=");
    manager.wait("READY=1\n");
    let next = fs::metadata(machine.state().join("secret.next")).unwrap();
    assert_eq!((next.uid(), next.mode() & 0o777), (NOBODY, 0o600));
    let said = machine.does("rotate --cancel --force");
    assert!(said.contains("took up: the current secret alone"), "{said}");
    let said = machine.does("reload");
    assert!(said.contains("nothing changed"), "{said}");

    // A data thread hangs: the control loop goes on, and does not cover it up.
    let thread = data_thread(pid(&node));
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(thread).unwrap();
    waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    wait_until("the node notices", PATIENCE, || {
        machine.log().contains("a data thread has not taken a turn")
    });
    manager.signs();
    for _ in 0..10 {
        assert_eq!(machine.status()["device"]["name"], DEVICE);
        assert_eq!(manager.signs(), 0, "it is not well");
    }
    ptrace::detach(thread, None).unwrap();
    manager.wait("WATCHDOG=1\n");

    kill(pid(&node), Signal::SIGTERM).unwrap();
    manager.wait("STOPPING=1\n");
    assert!(node.0.wait().unwrap().success());
    assert!(!machine.control().exists());
}

#[test]
fn service_a_node_takes_its_keys_from_the_service_manager() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let machine = Machine::new();
    let netid = machine.does("key --json");
    let netid = serde_json::from_str::<Value>(&netid).unwrap()["netid"].clone();
    // Root's, for its user by an access list, which shows as a right of the group.
    let passed = machine.home.path("credentials");
    fs::create_dir(&passed).unwrap();
    for name in ["secret", "identity"] {
        let path = passed.join(name);
        fs::rename(machine.state().join(name), &path).unwrap();
        chown(&path, Some(0), Some(NOBODY)).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o440)).unwrap();
    }
    let mut refused = machine.start("-all,+net_admin", &[]);
    assert!(!refused.0.wait().unwrap().success());
    assert!(machine.log().contains("there is no mesh secret at "));

    let mut node = machine.start("-all,+net_admin", &[("CREDENTIALS_DIRECTORY", passed)]);
    let told = machine.manager.wait("");
    let expected = format!("READY=1\nSTATUS=netid {}", netid.as_str().unwrap());
    assert!(told.starts_with(&expected), "{told}");
    // They are read again, too.
    let said = machine.does("reload");
    assert!(said.contains("nothing changed"), "{said}");
    kill(pid(&node), Signal::SIGTERM).unwrap();
    assert!(node.0.wait().unwrap().success());
}
