//! How soon the daemon's threads run.

use overlay::lab::net::Namespace;
use overlay_tests::daemon::Daemon;
use overlay_tests::mesh::{Turn, may_run};

/// A daemon alone, started with `arguments`: the priorities of its data thread and of its main
/// thread, and whether `status` calls it real-time.
fn priorities(arguments: &str) -> (Vec<u32>, Vec<u32>, bool) {
    let namespace = Namespace::new("priority").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::ready(&namespace, directory.path(), "node", arguments);
    let status = daemon.ask("status").unwrap();
    (
        daemon.realtime("data"),
        daemon.realtime("floodmesh"),
        status["device"]["realtime"].as_bool().unwrap(),
    )
}

#[test]
fn the_data_thread_alone_is_real_time_and_only_where_that_is_wanted() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    assert_eq!(priorities(""), (vec![1], vec![0], true));
    let normal = priorities("--set device.priority=normal");
    assert_eq!(normal, (vec![0], vec![0], false));
}
