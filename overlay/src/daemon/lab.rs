//! `floodmesh lab`: from what was typed to [`crate::lab`].

use std::process::ExitCode;

use super::args::{self, LabArgs};
use super::error::Failure;
use crate::lab::{self, LabConfig};

/// Builds a whole mesh on this machine and breaks it; 1 when it lost anything.
///
/// # Errors
/// The mesh could not be built.
pub fn lab(args: &LabArgs) -> Result<ExitCode, Failure> {
    let config = LabConfig {
        topology: match args.topology {
            args::Topology::Line => lab::Topology::Line,
            args::Topology::Ring => lab::Topology::Ring,
            args::Topology::Diamond => lab::Topology::Diamond,
            args::Topology::Mesh => lab::Topology::Mesh,
            args::Topology::Star => lab::Topology::Star,
        },
        nodes: args.nodes.into(),
        mode: match args.mode {
            args::LabMode::Tun => lab::DeviceMode::Tun,
            args::LabMode::Tap => lab::DeviceMode::Tap,
        },
        keep: args.keep,
        json: args.json,
        ..LabConfig::default()
    };
    match lab::run(&config) {
        Ok(report) if report.is_clean() => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::from(1)),
        Err(error) if error.is_misuse() => Err(Failure::misuse(error.chain(), "")),
        Err(error) => Err(Failure::at_work(error.chain(), "")),
    }
}
