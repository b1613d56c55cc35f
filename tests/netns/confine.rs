//! What a running daemon has given up, and that it goes on without.
//!
//! ```text
//!   a --- b      a runs as it is by default, with everything, or as a user without rights
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::unistd::Pid;
use overlay::daemon::report::Enforcement;
use overlay::lab::net::Namespace;
use overlay_tests::cli;
use overlay_tests::daemon::Daemon;
use overlay_tests::mesh::{
    DEVICE, Family, Mesh, PATIENCE, Setup, Turn, may_run, overlay_v4, sleep_until, wait_until,
};

/// A user without rights: nobody.
pub(crate) const NOBODY: u32 = 65_534;
/// CAP_NET_ADMIN alone, as `/proc` writes it.
pub(crate) const NET_ADMIN: &str = "0000000000001000";
const NONE: &str = "0000000000000000";

/// What `/proc/PID/task/*/status` says of each thread.
pub(crate) fn threads(pid: Pid) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).ok();
    let line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    tasks
        .filter_map(|task| read(task.unwrap()))
        .map(|status| status.lines().filter_map(line).collect())
        .collect()
}

/// Waits until every thread has these capabilities and no way to others.
fn wait_confined(pid: Pid, capabilities: &str) {
    let expected = [
        ("CapEff", capabilities),
        ("CapPrm", capabilities),
        ("CapInh", NONE),
        ("CapAmb", NONE),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Groups", ""),
    ];
    let is_so = |thread: &BTreeMap<String, String>| {
        expected
            .iter()
            .all(|(name, value)| thread.get(*name).is_none_or(|found| found == value))
    };
    // A data thread takes its priority first.
    wait_until("every thread is confined", PATIENCE, || {
        let threads = threads(pid);
        let is_confined = threads.len() > 1 && threads.iter().all(is_so);
        if !is_confined {
            println!("{threads:?}");
        }
        is_confined
    });
}

#[test]
fn confine_every_thread_keeps_what_makes_a_device_again_and_nothing_else() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = Mesh::started("ab");
    mesh.wait_ping('a', 'b');
    let node = mesh.node('a');
    wait_confined(node.pid(), NET_ADMIN);
    assert!(
        threads(node.pid())
            .iter()
            .all(|thread| thread["CapBnd"] == NONE)
    );
    let status = node.status();
    let kept = status.confinement;
    assert_eq!(kept.capabilities, ["net_admin"]);
    assert!(kept.enabled && kept.groups_cleared && kept.no_new_privs && kept.seccomp);
    println!("landlock: {:?}", kept.landlock);
    assert!(status.device.realtime, "the data thread has its priority");
    // What it keeps is enough: the device comes back, with its addresses.
    mesh.machine('a').delete(DEVICE).unwrap();
    mesh.wait_ping('a', 'b');
    wait_confined(node.pid(), NET_ADMIN);
}

#[test]
fn confine_a_relay_keeps_no_capability_and_one_told_so_keeps_all() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab");
    mesh.start_with('a', relay);
    mesh.start_with('b', |setup| {
        relay(setup);
        setup.arguments("--no-confine");
    });
    mesh.wait_live();
    wait_confined(mesh.node('a').pid(), NONE);
    let node = mesh.node('b');
    for thread in threads(node.pid()) {
        assert_ne!(thread["CapEff"], NONE);
        assert_eq!(
            (&thread["NoNewPrivs"][..], &thread["Seccomp"][..]),
            ("0", "0")
        );
    }
    let kept = node.status().confinement;
    assert!(!kept.enabled && !kept.capabilities.is_empty());
    assert!(
        node.log().contains("keeps all its privileges"),
        "{}",
        node.log()
    );
}

fn relay(setup: &mut Setup) {
    setup.mode = "none";
}

#[test]
fn confine_what_lies_elsewhere_is_not_written_even_by_root() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    for (arguments, is_written) in [("", false), ("--no-confine", true)] {
        let mut mesh = Mesh::wired(Family::V4, "ab");
        mesh.start_with('b', relay);
        mesh.start_with('a', |setup| {
            relay(setup);
            setup.arguments(arguments);
        });
        if mesh.node('a').status().confinement.landlock.state == Enforcement::None && !is_written {
            println!("skipped: the kernel has no landlock");
            return;
        }
        mesh.wait_live();
        // The state directory is led elsewhere: a daemon that is misled by that would write there.
        let (state, elsewhere) = (
            mesh.directory().join("a.state"),
            mesh.directory().join("elsewhere"),
        );
        fs::create_dir(&elsewhere).unwrap();
        fs::rename(&state, mesh.directory().join("away")).unwrap();
        symlink(&elsewhere, &state).unwrap();
        let (status, _) = mesh.node_mut('a').stop();
        assert!(status.success(), "{status}");
        assert_eq!(
            elsewhere.join("neighbors").exists(),
            is_written,
            "{arguments}"
        );
        assert!(!mesh.node('a').control().exists(), "its socket is gone");
    }
}

#[test]
fn confine_names_are_looked_up_and_two_daemons_share_a_machine() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let machine = Namespace::new("names").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let start = |name, arguments| Daemon::ready(&machine, directory.path(), name, arguments);
    let one = start("one", "--listen 127.0.0.1:7001 --listen [::1]:7001");
    let listen = "--listen 127.0.0.1:7002 --listen [::1]:7002";
    let two = start("two", &format!("{listen} --peer localhost:7001"));
    two.wait_live(1, PATIENCE);
    one.wait_live(1, PATIENCE);
}

/// A directory of a user without rights, and the program in it, as that user may not see ours.
pub(crate) struct Home {
    directory: tempfile::TempDir,
    pub(crate) program: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("fm")
            .tempdir_in("/tmp")
            .unwrap();
        let program = directory.path().join("floodmesh");
        fs::copy(cli::floodmesh(), &program).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        Self { directory, program }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `program WORDS`, as the user.
    pub(crate) fn command(&self, program: &Path, words: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(words.split_whitespace())
            .env_clear()
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .uid(NOBODY)
            .gid(NOBODY);
        command
    }
}

/// A daemon of the user. Dropped, it is killed.
pub(crate) struct Own(pub(crate) Child);

impl Drop for Own {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes a device for the user, up and with an address, as a boot script would.
fn prepare_device(machine: &Namespace, address: &str) {
    let steps = [
        format!("tuntap add dev {DEVICE} mode tun user {NOBODY}"),
        format!("link set dev {DEVICE} mtu 1400 up"),
        format!("address add {address} dev {DEVICE}"),
    ];
    for step in steps {
        let mut ip = Command::new("ip");
        let path = std::env::var("PATH").unwrap_or_default();
        ip.env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .args(step.split_whitespace());
        let output = machine.run(|| ip.output()).unwrap();
        let output = output.expect("ip (iproute2) can be run");
        assert!(output.status.success(), "{step}: {output:?}");
    }
}

#[test]
fn confine_a_user_without_rights_runs_a_node_on_a_device_made_for_it() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab");
    mesh.start('b');
    let home = Home::new();
    let (log, address) = (home.path("log"), format!("{}/24", overlay_v4('a')));
    let peer = mesh.peers('a')[0];
    let words = format!(
        "up --plain --dev {DEVICE} --netid 1 --address {address} --listen 0.0.0.0:44204 \
         --peer {peer} --state-dir state --control node.sock"
    );
    let start = || {
        let mut command = home.command(&home.program, &words);
        let out = fs::File::create(&log).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        Own(mesh.machine('a').spawn(&mut command).unwrap())
    };
    let said = |text: &str| fs::read_to_string(&log).unwrap().contains(text);

    // The counter-claim: no such user makes a device.
    let mut refused = start();
    assert!(!refused.0.wait().unwrap().success());
    assert!(said("permission denied"));

    prepare_device(mesh.machine('a'), &address);
    for _ in 0..2 {
        // Twice: the device outlives the node, and is taken up again.
        let mut node = start();
        wait_until("it is ready", PATIENCE, || said("ready:"));
        let pid = Pid::from_raw(i32::try_from(node.0.id()).unwrap());
        mesh.wait_ping('b', 'a');
        mesh.wait_ping('a', 'b');
        wait_confined(pid, NONE);
        assert!(
            threads(pid)
                .iter()
                .all(|thread| thread["Uid"].starts_with("65534"))
        );
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(node.0.wait().unwrap().success());
        assert!(!home.path("node.sock").exists());
        sleep_until(std::time::Instant::now() + Duration::from_millis(50));
    }
}
