//! Harnesses for everything larger than a module.

#[cfg(feature = "daemon")]
pub mod cli;
