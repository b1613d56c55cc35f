//! What makes this node a member: the mesh secret and its own keys, read and put together.

use std::io;
use std::path::{Path, PathBuf};

use wire::sealed::Certificate;

use crate::daemon::clock;
use crate::daemon::config::{Config, Security};
use crate::daemon::error::Failure;
use crate::daemon::regular;
use crate::daemon::state::StateDir;
use crate::id::NetId;
use crate::seal::armor::Armor;
use crate::seal::identity::{Identity, verify_certificate};
use crate::seal::keys::MeshSecret;
use crate::seal::local::Local;
use crate::seal::members::Members;

use super::file::{self, FileError};
use super::identity::PrivateKeys;
use super::keep_from_dumps;

/// Bytes of a certificate's file that are read; the longest text has 573.
const CERTIFICATE_LIMIT: u64 = 4_096;

/// The mesh secret and this node's keys, as their files have them.
#[derive(Debug)]
pub struct Membership {
    /// What all nodes of the mesh have in common.
    pub secret: MeshSecret,
    /// What they are to have instead, while the mesh changes it.
    pub next: Option<MeshSecret>,
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
        let (secret, next) = secrets(config)?;
        let keys = PrivateKeys::read(&config.files.identity)
            .map_err(|error| missing("identity of this node", error))?;
        Ok(Self {
            secret,
            next,
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
        let keys = self.secret.derive();
        let certificate = match config.authority {
            Some(authority) => {
                let own = (*self.identity.public(), self.identity.signing_public());
                own_certificate(config, own, &keys.mesh_id, &authority)?
            }
            None => None,
        };
        let certified = certificate.as_deref().map(netid_of);
        let netid = certified.flatten().unwrap_or_else(|| self.netid(config));
        let boot = state.boot(clock::wall_seconds())?;
        let mut local = Local::new(keys, self.identity, netid, boot, has_aes());
        (local.certificate, local.authority) = (certificate, config.authority);
        local.next = self.next.map(|next| next.derive().into());
        Ok(local)
    }
}

/// Where the next secret lies while the mesh changes it: beside the current one.
pub fn next_secret_path(config: &Config) -> PathBuf {
    let mut path = config.files.secret.clone().into_os_string();
    path.push(".next");
    path.into()
}

/// The mesh secret, and the next one if there is one.
///
/// # Errors
/// There is none, or a file is loose, damaged or another mesh's.
pub fn secrets(config: &Config) -> Result<(MeshSecret, Option<MeshSecret>), Failure> {
    let parse = |path: &Path, text: &str| {
        MeshSecret::parse(text).map_err(|error| FileError::Damaged {
            path: path.to_owned(),
            what: error.to_string(),
        })
    };
    let path = &config.files.secret;
    let text = file::read(path).map_err(|error| missing("mesh secret", error))?;
    let secret = parse(path, &text)?;
    let path = next_secret_path(config);
    let next = match file::read(&path) {
        Ok(text) => parse(&path, &text)?,
        Err(FileError::Missing(_)) => return Ok((secret, None)),
        Err(error) => return Err(error.into()),
    };
    if next.mesh_id() != secret.mesh_id() {
        return Err(Failure::at_work(
            format!("{} holds the secret of another mesh", path.display()),
            "remove it; floodmesh rotate makes the right one",
        ));
    }
    // What was taken over by hand already is no change under way.
    let is_newer = next.epoch() > secret.epoch();
    Ok((secret, is_newer.then_some(next)))
}

/// The certificate of this node, whose keys are `own`, S and V; `None` only where others may let it in by its key.
pub fn own_certificate(
    config: &Config,
    (static_key, signing_key): ([u8; 32], [u8; 32]),
    mesh_id: &[u8; 16],
    authority: &[u8; 32],
) -> Result<Option<Vec<u8>>, Failure> {
    let path = &config.files.certificate;
    let remedy = "floodmesh key --json here, piped into floodmesh ca sign - where the authority is, \
                  makes the right one";
    let failed = |what: &str| Failure::at_work(format!("{} {what}", path.display()), remedy);
    let text = match regular::read_text(path, 0, CERTIFICATE_LIMIT) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && config.trusted.is_some() => {
            tracing::warn!(
                "there is no certificate at {}: this node comes up only where its key is listed",
                path.display()
            );
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!("there is no certificate of this node at {}", path.display());
            return Err(Failure::at_work(what, remedy));
        }
        Err(error) => return Err(failed("cannot be read").because(error)),
    };
    let bytes = Armor::Certificate
        .decode(&text)
        .ok_or_else(|| failed("is no certificate, or damaged"))?;
    let certificate =
        Certificate::parse(&bytes).map_err(|_| failed("is no certificate, or damaged"))?;
    if certificate.mesh_id != *mesh_id {
        return Err(failed("is for another mesh"));
    }
    if certificate.static_key != static_key || certificate.signing_key != signing_key {
        return Err(failed("is for other keys than this node's"));
    }
    if !verify_certificate(&certificate, authority) {
        return Err(failed("is not signed by the authority of the settings"));
    }
    if config.netid.is_some_and(|netid| netid != certificate.netid) {
        return Err(failed(&format!(
            "is for netid {}, and the settings name another",
            certificate.netid
        )));
    }
    Ok(Some(bytes))
}

/// The netid that a certificate is for.
pub fn netid_of(certificate: &[u8]) -> Option<NetId> {
    Certificate::parse(certificate)
        .ok()
        .map(|certificate| certificate.netid)
}

/// Whom the node lets come up, and the keys that it remembers.
///
/// # Errors
/// The file of remembered keys or of revoked ones is damaged.
pub fn members(
    config: &Config,
    state: &StateDir,
    mesh_id: Option<&[u8; 16]>,
) -> Result<Members, Failure> {
    let mut members = Members::new(state.pins()?).recalling(state.afar());
    members.set_wall(clock::wall_seconds());
    if let Some(trusted) = &config.trusted {
        members = members.listing(trusted.clone());
    }
    if let Some(authority) = &config.authority {
        members = members.certified();
        let list = state.revocations()?;
        if let (Some(list), Some(mesh_id)) = (list, mesh_id)
            && let Err(error) = members.revoke(list, mesh_id, authority)
        {
            tracing::warn!(%error, "the revocation list in the state directory is left out");
        }
        // It is written there already.
        let _ = members.take_changed_list();
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
