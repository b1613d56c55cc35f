//! `floodmesh up`: opens what must exist before anything moves, in an order in which every refusal
//! leaves nothing behind.

use std::process::ExitCode;

use super::admin::listen::ControlSocket;
use super::args::{LabArgs, UpArgs};
use super::config::Config;
use super::error::Failure;
use super::log;
use super::paths::Places;
use super::state::{self, Remembered, StateDir};
use crate::id::NetId;

/// What a node starts with.
#[derive(Debug)]
pub struct Start {
    /// What was asked for.
    pub config: Config,
    /// Its number.
    pub netid: NetId,
    /// Neighbors to dial as if they were configured, until they answer or are forgotten.
    pub remembered: Vec<Remembered>,
    /// Its memory, locked.
    pub state: StateDir,
    /// Its control socket, listening; clients wait until it is served.
    pub control: ControlSocket,
}

impl Start {
    /// Reads the configuration, starts logging, locks the state, makes the control socket.
    ///
    /// # Errors
    /// The first of these that does not work.
    pub fn prepare(args: &UpArgs) -> Result<Self, Failure> {
        let config = Config::load(args, &Places::of_this_process())?;
        log::start(&config.files.log, config.files.log_format)?;
        if let Some(path) = &config.files.config {
            tracing::info!("settings read from {}", path.display());
        }
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let state = StateDir::open(&config.files.state)?;
        let netid = state.netid(config.netid, state::draw_netid)?;
        let remembered = state.neighbors();
        let control = ControlSocket::open(&config.files.control)?;
        Ok(Self {
            config,
            netid,
            remembered,
            state,
            control,
        })
    }
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// It could not start, or lost what it cannot do without.
pub fn up(args: &UpArgs) -> Result<(), Failure> {
    let start = Start::prepare(args)?;
    Err(Failure::at_work(
        format!("node {} has no data path in this build", start.netid),
        "use a released version",
    ))
}

/// Builds a whole mesh on this machine.
///
/// # Errors
/// The mesh could not be built.
pub fn lab(args: &LabArgs) -> Result<ExitCode, Failure> {
    Err(Failure::at_work(
        format!(
            "a lab of {} nodes cannot be built by this build",
            args.nodes
        ),
        "use a released version",
    ))
}
