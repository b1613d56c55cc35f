//! Fair shares of a saturated node (SEALED.md S98), above the kernel's own limit: by `.ci/long` alone, since it
//! needs a processor for the node and one for all others.
//!
//! ```text
//!   insider ══ at line rate ══╗
//!   honest ─── 1 of 257 ────  node  ──── sink      counts what comes of the honest one
//! ```

use std::thread;
use std::time::{Duration, Instant};

use overlay_tests::attack::{DATA_LEN, Neighbor, data};
use overlay_tests::mesh::Turn;
use overlay_tests::pinning::{pin_process, pin_thread, processors};
use wire::NetId;

use crate::attack::{NOBODY, Siege, is_long};
use crate::may_make_namespaces;

/// Datagrams that the kernel cuts of one train. Trains without a pause are more than a node takes.
const TRAIN: u64 = 64;
/// Of which so many go for one datagram of the honest one: far below its share whatever the machine.
const TRAINS: u64 = 4;
/// Netid and port of who floods.
const INSIDER: (u32, u16) = (2, 5_002);

#[test]
fn an_insider_at_line_rate_goes_short_before_an_honest_neighbor() {
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
    let mut thrown = 0;
    // For the node itself, which forwards none of it to the sink.
    let mut throw = || {
        insider.train_of(thrown..thrown + TRAIN, |number| {
            fresh(&insider, NetId(1), number)
        });
        thrown += TRAIN;
    };
    let mut started = Instant::now();
    while started.elapsed() < quiet {
        throw();
    }
    // By turns, so that the honest one's part of what is offered is the same however the two ends are scheduled.
    started = Instant::now();
    let mut sent = 0;
    while started.elapsed() < flooded {
        for _ in 0..TRAINS {
            throw();
        }
        honest.send(&fresh(&honest, NOBODY, sent));
        sent += 1;
    }
    thread::sleep(quiet);
    let came = sink.watched().0 - before;
    let count = |name: &str| siege.daemon.counter(name);
    println!(
        "insider: {:.0}/s thrown; {} received in all, {} dropped by the kernel, {} above their share; honest: {came} of {sent} came, {:.1} %; load {}",
        thrown as f64 / (flooded + quiet).as_secs_f64(),
        count("received"),
        count("socket_drops"),
        count("unfair_share"),
        100.0 * came as f64 / sent as f64,
        std::fs::read_to_string("/proc/loadavg").unwrap().trim(),
    );
    // Else nothing is shown about shares.
    assert!(count("socket_drops") > 0, "the node was saturated");
    assert!(count("unfair_share") > 0, "the node chose what it lost");
    // What the kernel drops it drops of both alike, before anybody can choose; the rest is the insider's.
    let taken = count("received") - count("unfair_share");
    let (honest, insider) = (came as f64 / sent as f64, taken as f64 / thrown as f64);
    println!(
        "kept: {honest:.3} of the honest one's, {insider:.3} of the insider's; the aim is 0.9"
    );
    assert!(honest > 3.0 * insider, "{honest} and {insider}");
    siege.check(3);
}

/// Data of a node with numbers that no earlier stream of it had.
fn fresh(of: &Neighbor, to: NetId, number: u64) -> [u8; DATA_LEN] {
    data(of.netid(), to, 1_000_000 + number)
}
