use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use super::*;
use crate::daemon::report::Enforcement;
use crate::daemon::state::StateDir;
use crate::id::NetId;

/// What the node goes on doing, each of which a confined thread must be able to do.
fn work(home: &Path, state: &StateDir) {
    state.store_netid(NetId(7)).unwrap();
    assert!(fs::read(home.join("state/netid")).is_ok());
    assert!("localhost:7".to_socket_addrs().unwrap().next().is_some());
    UdpSocket::bind("127.0.0.1:0").unwrap();
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    drop((near, far));
    thread::spawn(|| thread::sleep(std::time::Duration::from_millis(1)))
        .join()
        .unwrap();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let found = tokio::net::lookup_host(("localhost", 7)).await;
            assert!(found.unwrap().next().is_some());
        });
}

/// What only somebody else would do with the process: what came of each.
fn mischief(home: &Path) -> Vec<(&'static str, io::Result<()>)> {
    let elsewhere = home.join("elsewhere");
    vec![
        ("read", fs::read(elsewhere.join("secret")).map(drop)),
        ("write", fs::write(elsewhere.join("new"), "x")),
        ("list", fs::read_dir(&elsewhere).map(drop)),
        ("run", Command::new("true").status().map(drop)),
        ("serve", TcpListener::bind("127.0.0.1:0").map(drop)),
        (
            "wiretap",
            Socket::new(Domain::PACKET, Type::DGRAM, None).map(drop),
        ),
        ("dump", prctl::set_dumpable(true).map_err(io::Error::from)),
        ("signal", kill(Pid::this(), None).map_err(io::Error::from)),
    ]
}

/// One test, since what it does to groups is done to the process.
#[test]
fn a_confined_thread_works_on_and_can_do_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let control = home.join("run/node.sock");
    for directory in ["elsewhere", "run"] {
        fs::create_dir(home.join(directory)).unwrap();
    }
    fs::write(home.join("elsewhere/secret"), "s").unwrap();
    fs::write(home.join("run/other"), "s").unwrap();
    let state = StateDir::open(&home.join("state")).unwrap();
    let _socket = UnixListener::bind(&control).unwrap();
    let is_root = geteuid().is_root();
    let confined = || {
        // The counter-claim: here is somebody who can do all of it.
        for (what, outcome) in mischief(home) {
            let refused = outcome.is_err();
            assert!(!refused || (what == "wiretap" && !is_root), "{what}");
        }
        let report = confine(&Needs {
            device: false,
            scheduling: true,
            state: state.path(),
            control: &control,
            reread: [None; 3],
        });
        assert!(settle().is_empty());
        work(home, &state);
        let outcomes = mischief(home);
        fs::remove_file(&control).unwrap();
        // Who comes later is no better off.
        let later = thread::scope(|scope| scope.spawn(|| mischief(home)).join());
        (report, outcomes, later.unwrap())
    };
    let (report, outcomes, later) = thread::scope(|scope| scope.spawn(confined).join()).unwrap();
    assert!(report.enabled && report.no_new_privs && report.seccomp);
    let kept: &[&str] = if is_root { &["sys_nice"] } else { &[] };
    assert_eq!(report.capabilities, kept);
    let has_landlock = report.landlock.state == Enforcement::Enforced;
    for (what, outcome) in outcomes.into_iter().chain(later) {
        let by_landlock = matches!(what, "read" | "write" | "list" | "serve");
        match outcome {
            Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}"),
            Ok(()) => assert!(by_landlock && !has_landlock, "{what} was possible"),
        }
    }
}

#[test]
fn a_node_keeps_the_capabilities_for_what_it_will_do() {
    let home = tempfile::tempdir().unwrap();
    let needs = |device, scheduling, state| {
        let needs = Needs {
            device,
            scheduling,
            state,
            control: "/nowhere".as_ref(),
            reread: [None; 3],
        };
        privileges::names(needs.capabilities())
    };
    assert!(needs(false, false, home.path()).is_empty());
    assert_eq!(needs(true, false, home.path()), ["net_admin"]);
    assert_eq!(needs(true, true, home.path()), ["net_admin", "sys_nice"]);
    // A directory of nobody, or of another user, is written only by who may write everywhere.
    assert_eq!(
        needs(false, false, "/nonexistent".as_ref()),
        ["dac_override"]
    );
}
