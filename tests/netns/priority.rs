//! How soon the daemon's threads run.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use overlay::lab::net::Namespace;
use overlay_tests::daemon::{Daemon, realtime};
use overlay_tests::mesh::{Family, Mesh, PATIENCE, Turn, may_run, overlay_v4, wait_until};

/// A daemon alone, started with `arguments`: the priorities of its data thread and of its main
/// thread, and whether `status` calls it real-time.
fn priorities(arguments: &str) -> (Vec<u32>, Vec<u32>, bool) {
    let namespace = Namespace::new("priority").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let arguments = format!("--threads 1 {arguments}");
    let daemon = Daemon::ready(&namespace, directory.path(), "node", &arguments);
    let status = daemon.ask("status").unwrap();
    (
        realtime(daemon.pid(), "data"),
        realtime(daemon.pid(), "floodmesh"),
        status["device"]["realtime"].as_bool().unwrap(),
    )
}

#[test]
fn the_data_thread_alone_is_real_time_and_only_where_that_is_wanted() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let always = priorities("--set device.priority=realtime");
    assert_eq!(always, (vec![1], vec![0], true));
    let never = priorities("--set device.priority=normal");
    assert_eq!(never, (vec![0], vec![0], false));
}

#[test]
fn a_data_thread_that_has_to_wait_for_others_becomes_real_time() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::Dual, "ab");
    for name in ['a', 'b'] {
        mesh.start_with(name, |setup| setup.arguments("--threads 1"));
    }
    mesh.wait_live();
    let node = mesh.node('a');
    assert!(node.status().device.realtime, "it may be");
    let is_over = AtomicBool::new(false);
    let begin = Instant::now();
    let is_on = || !is_over.load(Relaxed) && begin.elapsed() < PATIENCE;
    // Programs that want all processors, and packets that want to be sent.
    let hog = || while is_on() {};
    let talk = || {
        let socket = mesh
            .machine('a')
            .run(|| UdpSocket::bind((overlay_v4('a'), 0)));
        let socket = socket.unwrap().unwrap();
        socket.connect((overlay_v4('b'), 9)).unwrap();
        while is_on() {
            // Nobody listens, and the other side may say so.
            let _ = socket.send(&[0; 200]);
            thread::sleep(Duration::from_millis(1));
        }
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..4 * processors {
            scope.spawn(hog);
        }
        scope.spawn(talk);
        let is_realtime = || realtime(node.pid(), "data") == [1];
        wait_until("it is real-time", PATIENCE, is_realtime);
        is_over.store(true, Relaxed);
    });
}
