//! Fair shares of a saturated node (SEALED.md S98), above the kernel's own limit: by `.ci/long` alone, since it
//! needs a processor for the node and one for all others.
//!
//! ```text
//!   insider ══ at line rate ══╗
//!   honest ─── 20,000/s ────  node  ──── sink      counts what comes of the honest one
//! ```

use std::thread;
use std::time::Duration;

use overlay_tests::mesh::Turn;
use overlay_tests::pinning::{pin_process, pin_thread, processors};
use wire::NetId;

use crate::attack::{NOBODY, Siege, is_long};
use crate::may_make_namespaces;

/// More than a node takes, in trains that the kernel cuts.
const LINE_RATE: u64 = 4_000_000;
/// Less than a third of what it takes: below its share whatever the machine.
const HONEST_RATE: u64 = 20_000;
/// Netid and port of who floods.
const INSIDER: (u32, u16) = (2, 5_002);

#[test]
fn an_insider_at_line_rate_leaves_an_honest_neighbor_what_is_below_its_share() {
    if !may_make_namespaces() || !is_long() {
        return;
    }
    if processors() < 2 {
        return println!("skipped: needs two processors");
    }
    let _turn = Turn::alone();
    let mut siege = Siege::new("");
    let last = processors() - 1;
    assert!(
        pin_process(siege.daemon.pid(), 0) && pin_thread(last),
        "pinned"
    );
    let insider = siege.neighbor(INSIDER.0, INSIDER.1);
    let honest = siege.neighbor(3, 5_003);
    let sink = siege.neighbor(4, 5_004);
    sink.watch(honest.netid());
    let (flooded, quiet) = (Duration::from_secs(10), Duration::from_secs(2));
    // Known before it floods, as members are.
    insider.flood(NetId(1), 100, quiet / 2);
    honest.flood(NOBODY, 100, quiet / 2);
    let before = sink.watched().0;
    let (thrown, sent) = thread::scope(|scope| {
        // For the node itself, which forwards none of it to the sink.
        let flood = scope.spawn(|| insider.flood(NetId(1), LINE_RATE, flooded + 2 * quiet));
        thread::sleep(quiet);
        let sent = honest.flood_of(HONEST_RATE, flooded, |number| fresh(&honest, number));
        (flood.join().unwrap(), sent)
    });
    thread::sleep(quiet);
    let came = sink.watched().0 - before;
    let count = |name: &str| siege.daemon.counter(name);
    println!(
        "insider: {:.0}/s thrown; {} received in all, {} dropped by the kernel, {} above their share; honest: {came} of {sent} came, {:.1} %; load {}",
        thrown as f64 / (flooded + 2 * quiet).as_secs_f64(),
        count("received"),
        count("socket_drops"),
        count("unfair_share"),
        100.0 * came as f64 / sent as f64,
        std::fs::read_to_string("/proc/loadavg").unwrap().trim(),
    );
    if count("socket_drops") == 0 {
        println!("the node was never saturated: nothing is shown about shares");
    }
    assert!(came as f64 >= 0.9 * sent as f64, "{came} of {sent}");
    siege.check(3);
}

/// Data of a node with numbers that no earlier stream of it had.
fn fresh(of: &overlay_tests::attack::Neighbor, number: u64) -> Vec<u8> {
    overlay_tests::attack::data(of.netid(), NOBODY, 1_000_000 + number).to_vec()
}
