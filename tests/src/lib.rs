//! Harnesses for everything larger than a module.

#[cfg(feature = "daemon")]
pub mod attack;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod flood;
pub mod fuzz;
#[cfg(feature = "daemon")]
pub mod mesh;
pub mod packets;
#[cfg(feature = "daemon")]
pub mod pinning;
pub mod sessions;
pub mod world;
