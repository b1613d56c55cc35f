//! A full disk (scenario 29): commands leave nothing half made, a running node keeps running, and all goes
//! on once there is space.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use overlay::lab::net::Namespace;
use overlay_tests::cli;
use overlay_tests::daemon::Daemon;
use overlay_tests::mesh::{Family, Mesh, PATIENCE, Turn, may_run, netid, wait_until};

use crate::may_make_namespaces;

/// What all of the disk comes to, in pages: what the kernel gives out at a time.
const PAGES: usize = 16;
/// What is said where there is no room.
const FULL: &str = "no space left on device (free some space there";

/// A small disk, and the bytes of its pages. Dropped, it is gone.
struct Disk(PathBuf, usize);

impl Disk {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let size = format!("nr_blocks={PAGES},mode=0700");
        let (disk, none) = (Some("tmpfs"), MsFlags::empty());
        mount(disk, &path, disk, none, Some(&size[..])).unwrap();
        let page = fs::metadata(&path).unwrap().blksize();
        Self(path, usize::try_from(page).unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Fills it but for so many pages.
    fn fill(&self, left: usize) {
        let mut ballast = File::create(self.0.join("ballast")).unwrap();
        let mut written = 0;
        let page = vec![0xBB; self.1];
        while ballast.write_all(&page).is_ok() {
            written += 1;
        }
        ballast.set_len(((written - left) * self.1) as u64).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }

    /// Its files but the ballast and what only locks, with what is in them.
    fn files(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.0.join(folder)).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = paths
            .filter(|path| path.is_file())
            .map(|path| (name_of(&path), fs::read(&path).unwrap()))
            .filter(|(name, _)| !["ballast", "lock"].contains(&&name[..]))
            .collect();
        files.sort();
        files
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What still is open on it goes with its process.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn run(line: &str) -> Output {
    let words: Vec<&str> = line.split_whitespace().collect();
    cli::run(&words)
}

/// Runs a command with one page more each time, until it works. Each time before it says why it did not,
/// and leaves the files of this folder as they were. Returns what it printed, and how often it failed.
fn until_it_fits(disk: &Disk, folder: &str, command: &str) -> (String, usize) {
    let before = disk.files(folder);
    for left in 0..PAGES {
        disk.fill(left);
        let output = run(command);
        disk.free();
        if output.status.success() {
            return (String::from_utf8(output.stdout).unwrap(), left);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains(FULL), "{command}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty());
        assert_eq!(disk.files(folder), before, "{command}");
    }
    panic!("{command} does not fit on {PAGES} pages");
}

#[test]
fn disk_full_commands_say_so_and_leave_nothing_half_made() {
    if !may_run() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let disk = Disk::new(home.path().join("disk"));
    // Secret, identity and settings take a page each.
    let config = disk.path("node/node.toml");
    let own = format!("--state-dir {} --config {config}", disk.path("node"));
    let (_, failed) = until_it_fits(&disk, "node", &format!("init {own} --name disk-full-a"));
    assert_eq!(failed, 3);
    let names: Vec<String> = disk
        .files("node")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["identity", "node.toml", "secret"]);

    let invitation = run(&format!("invite --address 192.0.2.1 {own}"));
    let token = String::from_utf8(invitation.stdout).unwrap();
    let joined = format!(
        "join {} --name disk-full-b --state-dir {} --config {}",
        token.trim(),
        disk.path("other"),
        disk.path("other/node.toml")
    );
    // It warns of a typed token first.
    disk.fill(1);
    let output = run(&joined);
    disk.free();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(FULL) && output.status.code() == Some(1),
        "{said}"
    );
    assert!(disk.files("other").is_empty());
    assert!(run(&joined).status.success());

    let (_, failed) = until_it_fits(&disk, "node", &format!("rotate {own}"));
    assert_eq!(failed, 1);
    // The last step takes no space: one file takes the place of another.
    disk.fill(0);
    let output = run(&format!("rotate --finish {own}"));
    assert!(output.status.success(), "{output:?}");
    disk.free();

    let office = format!("--dir {}", disk.path("authority"));
    let keys = home.path().join("keys");
    fs::write(&keys, run(&format!("key {own}")).stdout).unwrap();
    let (_, failed) = until_it_fits(&disk, "authority", &format!("ca init {office} {own}"));
    assert_eq!(failed, 1);
    let sign = format!("ca sign {} {office}", keys.display());
    let (first, failed) = until_it_fits(&disk, "authority", &sign);
    assert_eq!(failed, 1);
    let again = run(&sign);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(
        again.status.success() && said.contains("certificate 2 of"),
        "{said}"
    );
    assert_ne!(first.as_bytes(), again.stdout);
    let revoke = format!("ca revoke 1 {office}");
    assert_eq!(until_it_fits(&disk, "authority", &revoke).1, 1);
}

#[test]
fn disk_full_a_node_whose_log_has_no_room_runs_on() {
    if !may_make_namespaces() {
        return;
    }
    let (machine, home) = (
        Namespace::new("node").unwrap(),
        tempfile::tempdir().unwrap(),
    );
    symlink("/dev/full", home.path().join("node.log")).unwrap();
    // It warns of that at its start.
    let arguments = "--log debug --peer 192.0.2.1:44204 --trust-unproved 192.0.2.1:44204";
    let mut daemon = Daemon::ready(&machine, home.path(), "node", arguments);
    assert!(daemon.is_running() && daemon.ask("status").is_some());
}

#[test]
fn disk_full_a_running_node_goes_on_and_writes_again_once_there_is_space() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab ac");
    let disk = Disk::new(mesh.directory().join("a.state"));
    for name in ['a', 'b'] {
        mesh.start_with(name, |setup| setup.sealed = true);
    }
    mesh.wait_ping('a', 'b');
    let pins = disk.0.join("pins");
    let holds = |name: char| {
        let text = fs::read_to_string(&pins).unwrap_or_default();
        text.contains(&netid(name).to_string())
    };
    wait_until("b's key is written down", PATIENCE, || holds('b'));

    // 1. A new key comes when there is no room for it.
    disk.fill(0);
    let before = fs::read(&pins).unwrap();
    mesh.start_with('c', |setup| setup.sealed = true);
    mesh.wait_ping('a', 'c');
    let node = mesh.node('a');
    node.wait("says that it cannot write", PATIENCE, |node| {
        let health = node.status().health;
        let mut lines = health.iter();
        lines.any(|line| line.code == "state_unwritten" && line.text.contains("no space left"))
    });
    wait_until("it warns", PATIENCE, || {
        node.log().contains("are not written down: cannot write")
    });
    assert_eq!(fs::read(&pins).unwrap(), before);
    let others = disk
        .files("")
        .into_iter()
        .filter(|(name, _)| name.ends_with(".new"));
    assert_eq!(others.count(), 0);
    mesh.wait_ping('a', 'b');

    // 2. It does not start where it cannot count its start, and spoils nothing.
    mesh.node_mut('a').kill();
    let files = disk.files("");
    let control = disk.path("control");
    let up = format!(
        "up --mode none --name a --state-dir {} --control {control}",
        disk.0.display()
    );
    disk.fill(0);
    let output = run(&up);
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("error: cannot write") && last.contains(FULL),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(disk.files(""), files);

    // 3. There is space again.
    disk.free();
    mesh.start_with('a', |setup| setup.sealed = true);
    mesh.wait_ping('a', 'c');
    wait_until("c's key is written down", PATIENCE, || holds('c'));
    let is_well = |mesh: &Mesh| {
        let health = mesh.node('a').status().health;
        !health.iter().any(|line| line.code == "state_unwritten")
    };
    // 4. And while it runs: full, then not.
    disk.fill(0);
    assert!(
        mesh.node('a')
            .run(&["forget", &netid('c').to_string()])
            .status
            .success()
    );
    wait_until("it cannot write", PATIENCE, || !is_well(&mesh));
    assert!(holds('c'));
    disk.free();
    wait_until("it can again", PATIENCE, || is_well(&mesh));
}
