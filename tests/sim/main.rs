//! Whole meshes in virtual time, plain and sealed: the laws of flooding, under faults and under attack.
//!
//! `FLOODMESH_LONG=1` adds the runs that take minutes (10,000 nodes, more seeds).

mod attack;
mod churn;
mod flooding;
mod insiders;
mod loss;
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
    0..if long() { long_run } else { short }
}
