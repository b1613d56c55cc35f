//! Real kernels: namespaces, wires, devices and the real daemon.
//!
//! Each test reads as claim and counter-claim. Without root a test says `skipped: needs root` and
//! passes; with `CI=true` it fails instead, so that a gate cannot pass by skipping.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod attack;
mod bypass;
mod confine;
mod device;
mod disk;
mod ends;
mod failover;
mod fairness;
mod families;
mod garbage;
mod lab;
mod lab_net;
mod leak;
mod member;
mod mtu;
mod nat;
mod own_route;
mod ping;
mod prefer;
mod priority;
mod replay;
mod restart;
mod roam;
mod rotate;
mod scale;
mod sealed;
mod service;
mod shadow;
mod sources;
mod strict;
mod tap;
mod threads;

/// Whether this test may make namespaces; says so when not.
///
/// # Panics
/// Without the rights when `CI=true`.
fn may_make_namespaces() -> bool {
    let Err(refusal) = overlay::lab::net::Namespace::new("probe") else {
        return true;
    };
    assert!(refusal.is_permission(), "{refusal:?}");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "skipped: needs root, which CI must have"
    );
    println!("skipped: needs root");
    false
}
