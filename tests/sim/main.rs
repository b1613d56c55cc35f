//! Whole meshes in virtual time, plain and sealed: the laws of flooding, under faults and under attack.
//!
//! What must always hold (S) and come true again (V), and who looks; "laws" are asked in every world while it
//! runs (`tests/src/world/laws.rs`):
//!
//! | | law | looked at by |
//! |---|---|---|
//! | S1 | nothing is delivered twice | laws; `churn`: for five minutes |
//! | S2 | nothing is forwarded twice | `flooding`, `sealed`: the price of a flood is exact |
//! | S3 | what is forwarded is as it came, and may be | laws |
//! | S4 | no more than 3 times the bytes go to who proved nothing | laws (sealed), `attack` t1, t5 (plain) |
//! | S5 | tables keep their bounds | laws; `strangers`: indices and half-open handshakes |
//! | S6 | what is remembered is known for 300 s; what is refused goes nowhere | `churn`, `attack` t11 |
//! | S7 | only Ping and Hello are answered | `attack` t8, `insiders` t8 |
//! | S8 | nothing is delivered that nobody sent, or opened twice | laws |
//! | S9 | no counter seals twice; sessions end in 180 s | laws |
//! | S10 | nothing plain goes to, or is taken from, who speaks sealed | laws; `strangers`, `mixed` |
//! | S11 | what is not authentic changes nothing | `strangers`: a node's whole standing before and after |
//! | S12 | one message causes a flood and its answers at most | `attack` t8, `insiders` |
//! | S13 | no panic, no overflow, no allocation | every run; allocations: `tests/rules` |
//! | S14 | everything received is counted once | laws |
//! | S15 | an inner source belongs to who sealed it | `sources`, and in every world with ends |
//! | V1 | without loss every pair speaks | `flooding`, `sealed`, `ends` |
//! | V2 | links are back in 35 s, plain in 65 s | `churn`, `sealed`, `swarm` |
//! | V3 | after an attack tables are as before | `strangers` |
//! | V4 | mail | there is none yet |
//! | V5 | it becomes quiet | `flooding`, `sealed`: idle meshes; `swarm` |
//! | V6 | a member joins in 10 s during any script | `strangers` |
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
mod rotating;
mod sealed;
mod shares;
mod sources;
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
