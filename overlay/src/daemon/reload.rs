//! What a running node reads again when its owner says so: `floodmesh reload`.
//!
//! Secrets, certificate, authority and trusted keys decide who is a neighbor; nobody should have to
//! stop a node for them. All of it is read and judged before any of it is used, by a thread of its
//! own: a slow disk keeps nobody waiting, and a wrong file leaves everything as it was.
//!
//! After confinement the node opens what lies in its state directory and below `/etc`; of files
//! elsewhere it opens those that were there at its start, so they have to be written in place.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::args::UpArgs;
use super::config::{Config, Files, Security};
use super::error::Failure;
use super::paths::Places;
use super::regular;
use super::report::ConfinementReport;
use super::rotate::can_read;
use super::secrets::membership::{netid_of, own_certificate, secrets};
use super::state::revocations_in;
use crate::id::NetId;
use crate::seal::keys::{Key, MeshKeys};
use crate::seal::local::Local;
use crate::seal::members::Trusted;

/// What was read, all of it good.
#[derive(Debug)]
pub struct Renewed {
    /// From the mesh secret.
    pub keys: MeshKeys,
    /// From the next one, while the mesh changes it.
    pub next: Option<MeshKeys>,
    /// This node's certificate.
    pub certificate: Option<Vec<u8>>,
    /// The settings, of which the caller takes what may change.
    pub config: Config,
    /// The revocation list that was kept, where the authority is another one: it may be by that one.
    pub list: Option<Vec<u8>>,
}

/// What a running node goes by, as far as files have to fit to it.
#[derive(Debug)]
pub struct Standing {
    netid: NetId,
    mesh_id: [u8; 16],
    epoch: u32,
    mac1: Key,
    static_key: [u8; 32],
    signing_key: [u8; 32],
    authority: Option<[u8; 32]>,
    /// Where its revocation list is kept.
    state: PathBuf,
    /// What the process has given up, and the files that it may read nonetheless.
    confinement: ConfinementReport,
    files: Vec<PathBuf>,
}

impl Standing {
    /// That of this node, which runs with these files.
    pub fn of(local: &Local, files: &Files, confinement: &ConfinementReport) -> Self {
        let read = [&files.secret, &files.certificate];
        Self {
            authority: local.authority,
            state: files.state.clone(),
            confinement: confinement.clone(),
            files: files.config.iter().chain(read).cloned().collect(),
            netid: local.netid,
            mesh_id: local.keys.mesh_id,
            epoch: local.keys.epoch,
            mac1: local.keys.mac1.clone(),
            static_key: *local.identity.public(),
            signing_key: local.identity.signing_public(),
        }
    }

    /// Reads everything again, and judges it as a start would.
    ///
    /// # Errors
    /// The first thing that is wrong, or cannot be without a start.
    pub fn read(&self, args: &UpArgs) -> Result<Renewed, Failure> {
        for file in &self.files {
            self.judge_reach(file)?;
        }
        let config = Config::load(args, &Places::of_this_process())?;
        if config.security == Security::Plain {
            return Err(Failure::misuse(
                "the settings ask for the open protocol",
                "stop the node and start it again for that",
            ));
        }
        let (secret, next) = secrets(&config)?;
        let keys = secret.derive();
        let is_known = keys.mac1 == self.mac1 && keys.epoch == self.epoch;
        let follows = keys.epoch > self.epoch;
        if keys.mesh_id != self.mesh_id || !(is_known || follows) {
            return Err(Failure::at_work(
                format!(
                    "{} is not the secret that the node runs with, nor one that follows it",
                    config.files.secret.display()
                ),
                "put it back, or start the node again; floodmesh rotate changes it",
            ));
        }
        let certificate = match &config.authority {
            Some(authority) => {
                let own = (self.static_key, self.signing_key);
                own_certificate(&config, own, &keys.mesh_id, authority)?
            }
            None => None,
        };
        let named = certificate.as_deref().and_then(netid_of);
        if let Some(netid) = named.or(config.netid).filter(|netid| *netid != self.netid) {
            return Err(Failure::at_work(
                format!("a netid is never changed while a node runs, and {netid} is another"),
                "start the node again",
            ));
        }
        let is_new_authority = config.authority.is_some() && config.authority != self.authority;
        let list = match is_new_authority {
            true => revocations_in(&self.state)?,
            false => None,
        };
        Ok(Renewed {
            list,
            next: next.map(|next| next.derive()),
            keys,
            certificate,
            config,
        })
    }
}

impl Standing {
    /// Says what to do about a file that another was put in the place of, as editors do: a confined node
    /// opens the one that it had, wherever that went.
    fn judge_reach(&self, path: &Path) -> Result<(), Failure> {
        let opened = regular::open(path, OpenOptions::new().read(true), 0);
        let is_refused = opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        if !is_refused || can_read(&self.confinement, path, &self.state) {
            return Ok(());
        }
        let path = path.display();
        Err(Failure::at_work(
            format!(
                "cannot read {path}: another file is there than when the node started, and a confined node \
                 opens no others"
            ),
            format!(
                "start the node again; or keep the file below /etc or in {}, where a node reads new files too",
                self.state.display()
            ),
        ))
    }
}

/// Whether two configurations differ in what is not read again.
pub fn waits_for_start(running: &Config, read: &Config) -> bool {
    let mut read = read.clone();
    let changes: (Option<Vec<Trusted>>, Option<[u8; 32]>) =
        (running.trusted.clone(), running.authority);
    (read.trusted, read.authority) = changes;
    if running.security == read.security {
        // Those of peers that were there before are taken up.
        let _ = read.links.take_modes(&running.links);
        read.warnings.clone_from(&running.warnings);
    }
    // Where the control socket lies may follow from whether its usual place could be made.
    format!("{read:?}") != format!("{running:?}")
}
