//! Harnesses for everything larger than a module.

#[cfg(feature = "daemon")]
pub mod cli;
pub mod fuzz;
#[cfg(feature = "daemon")]
pub mod mesh;
pub mod world;
