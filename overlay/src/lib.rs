//! floodmesh: a mesh VPN daemon that floods.
//!
//! Pure (no clock, no randomness of its own, no I/O): [`id`], [`time`], [`budget`], [`effects`], [`keyed`],
//! [`node`], [`pump`], [`route`], [`seal`]. They take time, randomness and bytes as arguments, so the
//! simulator, the fuzzers and the daemon call the same functions. Everything else needs the feature
//! `daemon` and touches the machine: `link` carries datagrams, `daemon` owns clock, sockets, device
//! and threads, `lab` builds whole meshes in namespaces.

pub mod budget;
pub mod effects;
pub mod id;
pub mod keyed;
pub mod memory;
pub mod node;
#[doc(hidden)]
pub mod planted;
pub mod pump;
pub mod route;
pub mod seal;
pub mod time;

#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod lab;
#[cfg(feature = "daemon")]
pub mod link;
