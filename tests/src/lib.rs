//! Harnesses for everything larger than a module.

#[cfg(feature = "daemon")]
pub mod cli;
pub mod fuzz;
pub mod world;
