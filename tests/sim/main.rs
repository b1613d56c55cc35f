//! Whole meshes in virtual time, plain and sealed: the laws of flooding, under faults and under attack.
//!
//! `FLOODMESH_LONG=1` adds the runs that take minutes (10,000 nodes, more seeds). Failures name their
//! seed; `FLOODMESH_SEEDS=306` runs that one alone, `300..400` a hundred.

mod attack;
mod churn;
mod ends;
mod flooding;
mod insiders;
mod loss;
mod mixed;
mod mtu;
#[cfg(feature = "planted")]
mod planted;
mod sealed;
mod strangers;
mod swarm;

/// Whether the long runs are wanted.
fn long() -> bool {
    std::env::var_os("FLOODMESH_LONG").is_some()
}

/// Seeds for a test that is the same for all of them.
fn seeds(short: u64, long_run: u64) -> std::ops::Range<u64> {
    let number = |text: &str| text.parse().expect("FLOODMESH_SEEDS is a number or A..B");
    match std::env::var("FLOODMESH_SEEDS") {
        Ok(text) => match text.split_once("..") {
            Some((first, end)) => number(first)..number(end),
            None => number(&text)..number(&text) + 1,
        },
        Err(_) => 0..if long() { long_run } else { short },
    }
}
