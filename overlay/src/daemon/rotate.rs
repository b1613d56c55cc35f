//! `floodmesh rotate`: the mesh gets another secret while it runs.
//!
//! ```text
//! one node          rotate            secret.next is made, and printed
//! all others        rotate --adopt    secret.next is written
//! all               rotate --finish   secret.next takes the place of secret
//! or: all           rotate --cancel   secret.next is removed
//! ```
//!
//! Files are changed here, by the user who owns them; a running node is then told to read them again,
//! and one that does not run reads them at its start. Each step is one file that appears or is
//! renamed, so that none can be half done. The rules are S91 to S95 of SEALED.md.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::acting::{self, Acting};
use super::args::{RotateArgs, UpArgs};
use super::client::{self, print};
use super::config::{Config, Security};
use super::error::Failure;
use super::forget::first;
use super::paths::Places;
use super::report::{ConfinementReport, Enforcement, RotationReport, StatusReport};
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
        None if args.cancel => node.cancel(args.force),
        None if args.force => Err(Failure::misuse(
            "--force says nothing by itself",
            "give it with --finish or --cancel",
        )),
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
    // That of the settings first: another node of this name may run elsewhere.
    let usual = Config::load(&up, places).map(|config| config.files.control);
    let usual = usual.into_iter();
    usual.chain(places.controls(&config.name)).collect()
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
                next
            }
        };
        // First of all: whatever the running node says, the owner has the line.
        print(&line(&next))?;
        eprintln!(
            "whoever has this line is a member: pass it on in secret. On each other node:\n  \
             floodmesh rotate --adopt -\n      \
             and paste it\n\
             then, when floodmesh status says that all neighbors use it, on each node:\n  \
             floodmesh rotate --finish"
        );
        self.tell()
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
        // A node that does not run has no neighbors who could tell.
        let status = self.status()?;
        if let (Some(status), false) = (&status, force) {
            is_done(status.rotation)?;
        }
        self.judge_place(status.as_deref())?;
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
        let acting = self.acting()?;
        fs::rename(&self.next, path).map_err(failed)?;
        if let Some(directory) = path.parent() {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(failed)?;
        }
        drop(acting);
        eprintln!("the next secret is the only one now, {}", path.display());
        self.tell()
    }

    /// Takes the change back.
    fn cancel(&self, force: bool) -> Result<(), Failure> {
        let (_, next) = secrets(&self.config)?;
        if next.is_none() {
            return Err(Failure::misuse(
                "no change of the mesh secret is under way",
                "there is nothing to take back",
            ));
        }
        let status = self.status()?;
        if !force {
            is_unused(status.as_ref().and_then(|status| status.rotation))?;
        }
        self.remove()?;
        eprintln!("the change is taken back: the next secret is gone, the current one stays");
        match status {
            Some(_) => self.tell(),
            None => Ok(()),
        }
    }

    /// What the running node says of itself, if one runs.
    fn status(&self) -> Result<Option<Box<StatusReport>>, Failure> {
        first(&self.sockets, |path| client::status_of(path))
    }

    /// Refuses to change files of which the running node could not read the new ones.
    fn judge_place(&self, status: Option<&StatusReport>) -> Result<(), Failure> {
        let state = &self.config.files.state;
        if status.is_none_or(|status| can_read(&status.confinement, &self.next, state)) {
            return Ok(());
        }
        Err(Failure::at_work(
            format!(
                "the running node cannot read new files at {}",
                self.next.display()
            ),
            format!(
                "stop it first and start it again afterwards; or move the secret into {} and start it anew",
                state.display()
            ),
        ))
    }

    fn write(&self, next: &MeshSecret) -> Result<(), Failure> {
        self.judge_place(self.status()?.as_deref())?;
        // One that is no newer than the current one is a leftover.
        if fs::symlink_metadata(&self.next).is_ok() {
            self.remove()?;
        }
        let _acting = self.acting()?;
        Ok(file::write_new(&self.next, &line(next), 0o600)?)
    }

    fn remove(&self) -> Result<(), Failure> {
        let _acting = self.acting()?;
        let removed = fs::remove_file(&self.next)
            .and_then(|()| File::open(file::directory(&self.next))?.sync_all());
        removed.map_err(|error| {
            let what = format!("cannot remove {}", self.next.display());
            Failure::at_work(what, "check the rights of its directory").because(error)
        })
    }

    /// Whoever owns the directory in which the secrets are changed.
    fn acting(&self) -> Result<Option<Acting>, Failure> {
        acting::as_owner_of(file::directory(&self.next))
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

/// Refuses to end a change in which neighbors do not take part yet, or nobody can tell whether they do:
/// `rotation` is what the running node says.
fn is_done(rotation: Option<RotationReport>) -> Result<(), Failure> {
    let Some(rotation) = rotation else {
        return Err(Failure::at_work(
            "the running node has not taken up the next secret, so nobody is known to use it",
            "floodmesh reload has it read its files; then wait until floodmesh status says that all \
             neighbors use it; with --force those that do not are out until they adopt it",
        ));
    };
    if rotation.neighbors == 0 {
        return Err(Failure::at_work(
            "the running node has no neighbor, so nobody is known to have the next secret",
            "wait until its links are up; with --force whoever lacks it is out until it adopts it",
        ));
    }
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

/// Refuses to take back a change that neighbors take part in, since one that has ended it has the next
/// secret alone; or of which nobody can tell: silence is no answer.
fn is_unused(rotation: Option<RotationReport>) -> Result<(), Failure> {
    let using = match rotation {
        None => {
            return Err(Failure::at_work(
                "no running node has taken up the next secret, so nobody can tell whether others use it",
                "start this node, or have it reload, and try again when its links are up; if no node of \
                 the mesh has ended the change, floodmesh rotate --cancel --force",
            ));
        }
        Some(rotation) if rotation.neighbors == 0 => {
            return Err(Failure::at_work(
                "the running node has no neighbor, so nobody can tell whether others use the next secret",
                "wait until its links are up; if no node of the mesh has ended the change, floodmesh \
                 rotate --cancel --force",
            ));
        }
        Some(rotation) => rotation.using,
    };
    if using == 0 {
        return Ok(());
    }
    Err(Failure::at_work(
        format!(
            "{} the next secret already",
            text::count_does(using, "neighbor", "use")
        ),
        "floodmesh rotate --finish ends the change; if it has to be taken back, and no node has ended \
         it, floodmesh rotate --cancel --force on each node that has the next secret",
    ))
}

/// Whether a node that is confined like this, with its state in `state`, opens a file that is new: see
/// [`super::confine`].
pub(super) fn can_read(confinement: &ConfinementReport, file: &Path, state: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory = real(file.parent().unwrap_or(file));
    confinement.landlock.state == Enforcement::None
        || directory.starts_with("/etc")
        || directory.starts_with(real(state))
}

/// The text of a secret and a line's end, wiped when dropped.
fn line(secret: &MeshSecret) -> Zeroizing<String> {
    let text = secret.to_text();
    let mut line = Zeroizing::new(String::with_capacity(text.len() + 1));
    line.push_str(&text);
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_ends_without_force_only_where_all_neighbors_are_known_to_use_the_next_secret() {
        let of = |neighbors, using| is_done(Some(RotationReport { neighbors, using }));
        assert!(of(1, 1).is_ok() && of(3, 3).is_ok());
        for (judged, what) in [
            (is_done(None), "floodmesh reload"),
            (of(0, 0), "has no neighbor"),
            (of(3, 2), "1 of 3 neighbors would be out"),
        ] {
            let said = judged.unwrap_err().to_string();
            assert!(said.contains(what) && said.contains("--force"), "{said}");
        }
    }

    #[test]
    fn a_change_is_taken_back_without_force_only_where_nobody_is_known_to_use_the_next_secret() {
        let of = |neighbors, using| is_unused(Some(RotationReport { neighbors, using }));
        assert!(of(1, 0).is_ok() && of(3, 0).is_ok());
        for (judged, what) in [
            (is_unused(None), "no running node has taken up"),
            (of(0, 0), "has no neighbor"),
            (of(3, 1), "1 neighbor uses the next"),
            (of(3, 2), "2 neighbors use the next"),
        ] {
            let said = judged.unwrap_err().to_string();
            assert!(
                said.contains(what) && said.contains("--cancel --force"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_confined_node_reads_new_files_in_its_state_directory_and_below_etc() {
        let home = tempfile::tempdir().unwrap();
        let (state, beside) = (home.path().join("state"), home.path().join("beside"));
        for directory in [&state, &beside] {
            fs::create_dir(directory).unwrap();
        }
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&state, &link).unwrap();
        let mut confinement = ConfinementReport::default();
        let mut reads = |enforcement, directory: &Path| {
            confinement.landlock.state = enforcement;
            can_read(&confinement, &directory.join("secret.next"), &state)
        };
        for enforcement in [Enforcement::Enforced, Enforcement::Partial] {
            assert!(reads(enforcement, &state) && reads(enforcement, &link));
            assert!(reads(enforcement, Path::new("/etc/floodmesh")));
            assert!(!reads(enforcement, &beside));
            assert!(!reads(enforcement, &state.join("../beside")));
        }
        assert!(reads(Enforcement::None, &beside));
    }
}
