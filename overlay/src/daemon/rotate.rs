//! `floodmesh rotate`: the mesh gets another secret while it runs.
//!
//! ```text
//! one node          rotate            secret.next is made, and printed
//! all others        rotate --adopt    secret.next is written
//! all               rotate --finish   secret.next takes the place of secret
//! ```
//!
//! Files are changed here, by the user who owns them; a running node is then told to read them again,
//! and one that does not run reads them at its start. Each step is one file that appears or is
//! renamed, so that none can be half done. The rules are S91 to S95 of SEALED.md.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::args::{RotateArgs, UpArgs};
use super::client::{self, print};
use super::config::{Config, Security};
use super::error::Failure;
use super::forget::first;
use super::paths::Places;
use super::report::RotationReport;
use super::secrets::membership::{next_secret_path, secrets};
use super::secrets::{draw, file, keep_from_dumps};
use super::setup::read_typed;
use super::{render, text};
use crate::seal::keys::MeshSecret;

/// `floodmesh rotate`.
///
/// # Errors
/// There is no sealed node, its files are not as they should be, or it cannot be told.
pub fn rotate(args: &RotateArgs) -> Result<ExitCode, Failure> {
    keep_from_dumps();
    let places = Places::of_this_process();
    let config = Config::load(&args.own.up(), &places)?;
    if config.security == Security::Plain {
        return Err(Failure::misuse(
            format!(
                "the node {} speaks the open protocol, without a secret",
                config.name
            ),
            "",
        ));
    }
    let node = Node {
        sockets: sockets(args, &config, &places),
        next: next_secret_path(&config),
        config,
    };
    match &args.adopt {
        Some(from) => node.adopt(from),
        None if args.finish => node.finish(args.force),
        None => node.make(),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Where the node may listen for clients.
fn sockets(args: &RotateArgs, config: &Config, places: &Places) -> Vec<PathBuf> {
    if let Some(control) = &args.control {
        return vec![control.clone()];
    }
    let up = UpArgs {
        control: None,
        ..args.own.up()
    };
    let usual = Config::load(&up, places).map(|config| config.files.control);
    let mut sockets = places.controls(&config.name);
    sockets.extend(usual);
    sockets
}

/// The node whose files are changed.
struct Node {
    config: Config,
    /// Where its next secret is to lie.
    next: PathBuf,
    sockets: Vec<PathBuf>,
}

impl Node {
    /// Makes the next secret if there is none, and prints it.
    fn make(&self) -> Result<(), Failure> {
        let (secret, next) = secrets(&self.config)?;
        let next = match next {
            Some(next) => next,
            None => {
                let next = secret.following(*draw()?.bytes());
                self.write(&next)?;
                eprintln!("made the next secret of the mesh, {}", self.next.display());
                self.tell()?;
                next
            }
        };
        eprintln!(
            "whoever has this line is a member: pass it on in secret. On each other node:\n  \
             floodmesh rotate --adopt -\n      \
             and paste it\n\
             then, when floodmesh status says that all neighbors use it, on each node:\n  \
             floodmesh rotate --finish"
        );
        print(&line(&next))
    }

    /// Takes the next secret that another node made.
    fn adopt(&self, from: &Path) -> Result<(), Failure> {
        let text = match from {
            from if from == Path::new("-") => {
                read_typed("paste the line that floodmesh rotate printed, and press Enter:")?
            }
            from => file::read(from)?,
        };
        let next = MeshSecret::parse(&text).map_err(|error| {
            Failure::misuse(
                format!("cannot adopt: {error}"),
                "copy the whole line that floodmesh rotate printed",
            )
        })?;
        let (secret, known) = secrets(&self.config)?;
        if next.mesh_id() != secret.mesh_id() {
            return Err(Failure::misuse(
                "cannot adopt: this is the secret of another mesh",
                "copy what floodmesh rotate printed on a node of this one",
            ));
        }
        if next == secret || known.as_ref() == Some(&next) {
            eprintln!("the node has it already");
            return self.tell();
        }
        if next.epoch() <= secret.epoch() {
            return Err(Failure::misuse(
                "cannot adopt: this secret is older than the node's own",
                "the mesh has changed it since; see floodmesh rotate on a node that is up to date",
            ));
        }
        if known.is_some() {
            return Err(Failure::at_work(
                format!("{} holds another next secret", self.next.display()),
                "two were made: choose one, and remove this file where the other one lies",
            ));
        }
        self.write(&next)?;
        eprintln!("adopted the next secret, {}", self.next.display());
        self.tell()
    }

    /// Puts the next secret in the place of the current one.
    fn finish(&self, force: bool) -> Result<(), Failure> {
        let (_, next) = secrets(&self.config)?;
        if next.is_none() {
            return Err(Failure::misuse(
                "no change of the mesh secret is under way",
                "floodmesh rotate begins one, floodmesh rotate --adopt takes part in one",
            ));
        }
        let status = first(&self.sockets, |path| client::status_of(path))?;
        let rotation = status.and_then(|status| status.rotation);
        if let (Some(rotation), false) = (rotation, force) {
            is_done(rotation)?;
        }
        let path = &self.config.files.secret;
        let failed = |source| {
            let what = format!("cannot put {} in place", self.next.display());
            Failure::at_work(what, "check the rights of its directory").because(source)
        };
        // A secret that is mounted from elsewhere is changed there.
        if fs::symlink_metadata(path).map_err(failed)?.is_symlink() {
            return Err(Failure::at_work(
                format!("{} is a link", path.display()),
                format!(
                    "move {} to where it leads, then floodmesh reload",
                    self.next.display()
                ),
            ));
        }
        fs::rename(&self.next, path).map_err(failed)?;
        if let Some(directory) = path.parent() {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(failed)?;
        }
        eprintln!("the next secret is the only one now, {}", path.display());
        self.tell()
    }

    fn write(&self, next: &MeshSecret) -> Result<(), Failure> {
        // One that is no newer than the current one is a leftover.
        let is_left = fs::symlink_metadata(&self.next).is_ok();
        if is_left {
            fs::remove_file(&self.next).map_err(|error| {
                let what = format!("cannot remove {}", self.next.display());
                Failure::at_work(what, "check the rights of its directory").because(error)
            })?;
        }
        Ok(file::write_new(&self.next, &line(next), 0o600)?)
    }

    /// Has the running node take it up.
    fn tell(&self) -> Result<(), Failure> {
        match first(&self.sockets, |path| client::have_reloaded(path))? {
            Some(report) => eprint!("the running node {}", render::reloaded(&report)),
            None => eprintln!("no node runs here; it takes it up when it starts"),
        }
        Ok(())
    }
}

/// Refuses to end a change in which neighbors do not take part yet.
fn is_done(rotation: RotationReport) -> Result<(), Failure> {
    let missing = rotation.neighbors.saturating_sub(rotation.using);
    if missing == 0 {
        return Ok(());
    }
    Err(Failure::at_work(
        format!(
            "{} of {} would be out, without the next secret",
            missing,
            text::count(rotation.neighbors, "neighbor")
        ),
        "adopt it there, or wait two minutes; with --force they stay out until they adopt it",
    ))
}

/// The text of a secret and a line's end, wiped when dropped.
fn line(secret: &MeshSecret) -> Zeroizing<String> {
    let text = secret.to_text();
    let mut line = Zeroizing::new(String::with_capacity(text.len() + 1));
    line.push_str(&text);
    line.push('\n');
    line
}
