//! The command line as its users meet it: help, errors, and a running node's answers.
//!
//! What is printed is compared with the files in `snapshots/`; `UPDATE_SNAPSHOTS=1 cargo test -p
//! overlay-tests --test cli` rewrites them, and the difference is then read in review.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod acting;
mod edges;
mod errors;
mod help;
mod keys;
mod members;
mod query;
mod rotate;
mod service;

use std::path::PathBuf;

/// The file of a snapshot.
fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "cli", "snapshots", name]
        .iter()
        .collect()
}
