//! `floodmesh lab`: from what was typed to [`crate::lab`].

use std::process::ExitCode;

use super::args::LabArgs;
use super::error::Failure;

/// Builds a whole mesh on this machine.
///
/// # Errors
/// The mesh could not be built.
pub fn lab(args: &LabArgs) -> Result<ExitCode, Failure> {
    Err(Failure::at_work(format!("a lab of {} nodes", args.nodes), ""))
}
