//! What makes this node a member: the mesh secret and its own keys, read and put together.

use crate::daemon::clock;
use crate::daemon::config::{Config, Security};
use crate::daemon::error::Failure;
use crate::daemon::state::StateDir;
use crate::id::NetId;
use crate::seal::identity::Identity;
use crate::seal::keys::MeshSecret;
use crate::seal::local::Local;
use crate::seal::members::Members;

use super::file::{self, FileError};
use super::identity::PrivateKeys;
use super::keep_from_dumps;

/// The mesh secret and this node's keys, as their files have them.
#[derive(Debug)]
pub struct Membership {
    /// What all nodes of the mesh have in common.
    pub secret: MeshSecret,
    /// What this node alone has.
    pub identity: Identity,
}

impl Membership {
    /// Reads both files of a node that speaks sealed.
    ///
    /// State: the process cannot be dumped from here on.
    ///
    /// # Errors
    /// The node speaks plain, or a file is missing, loose or damaged.
    pub fn load(config: &Config) -> Result<Self, Failure> {
        if config.security == Security::Plain {
            return Err(Failure::misuse(
                format!(
                    "the node {} speaks the open protocol, without keys",
                    config.name
                ),
                "leave out mode = \"plain\" where it has keys; floodmesh init makes them",
            ));
        }
        keep_from_dumps();
        let path = &config.files.secret;
        let text = file::read(path).map_err(|error| missing("mesh secret", error))?;
        let secret = MeshSecret::parse(&text).map_err(|error| FileError::Damaged {
            path: path.clone(),
            what: error.to_string(),
        })?;
        let keys = PrivateKeys::read(&config.files.identity)
            .map_err(|error| missing("identity of this node", error))?;
        Ok(Self {
            secret,
            identity: keys.identity(),
        })
    }

    /// The netid that the node goes by: the configured one, else the one that follows from its key.
    pub fn netid(&self, config: &Config) -> NetId {
        let mesh_id = self.secret.derive().mesh_id;
        config
            .netid
            .unwrap_or_else(|| self.identity.netid(&mesh_id))
    }

    /// The node as it introduces itself to others from this start on.
    ///
    /// State: counts the start in the state directory.
    ///
    /// # Errors
    /// The start cannot be counted.
    pub fn start(self, config: &Config, state: &StateDir) -> Result<Local, Failure> {
        let netid = self.netid(config);
        let boot = state.boot(clock::wall_seconds())?;
        let keys = self.secret.derive();
        Ok(Local::new(keys, self.identity, netid, boot, has_aes()))
    }
}

/// Whom the node lets come up, and the keys that it remembers.
///
/// # Errors
/// The file of remembered keys is damaged.
pub fn members(config: &Config, state: &StateDir) -> Result<Members, Failure> {
    let mut members = Members::new(state.pins()?);
    members.set_wall(clock::wall_seconds());
    if let Some(trusted) = &config.trusted {
        members = members.listing(trusted.clone());
    }
    Ok(members)
}

/// Whether the processor encrypts by itself, so that AES-256-GCM is the faster.
pub fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let has = std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

fn missing(what: &str, error: FileError) -> Failure {
    match error {
        FileError::Missing(path) => Failure::at_work(
            format!("there is no {what} at {}", path.display()),
            "floodmesh init makes a mesh, floodmesh join enters one",
        ),
        error => error.into(),
    }
}
