//! Where the files of a node belong, for root and for everyone else.
//!
//! | what           | root                          | others                                     |
//! |----------------|-------------------------------|--------------------------------------------|
//! | configuration  | `/etc/floodmesh/NAME.toml`    | the same                                   |
//! | state          | `/var/lib/floodmesh/NAME/`    | `$XDG_STATE_HOME/floodmesh/NAME/`          |
//! | control socket | `/run/floodmesh/NAME.sock`    | `$XDG_RUNTIME_DIR/floodmesh/NAME.sock`     |
//!
//! Secrets that a service manager passes on (`$CREDENTIALS_DIRECTORY/secret` and `identity`) come before
//! all of it.
//!
//! `XDG_STATE_HOME` defaults to `~/.local/state`; `XDG_RUNTIME_DIR` has no safe default.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Who runs, and what the environment says about places.
#[derive(Clone, Debug, Default)]
pub struct Places {
    root: bool,
    state_home: Option<PathBuf>,
    runtime: Option<PathBuf>,
    credentials: Option<PathBuf>,
}

/// Where the service manager says that the secrets are which it passes on (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

impl Places {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        Self::new(nix::unistd::geteuid().is_root(), |name| {
            std::env::var_os(name)
        })
    }

    /// Those of a user, root or not, whose environment is `variable`.
    pub fn new(root: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        // The XDG specification says to ignore what is not absolute.
        let directory = |name| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        Self {
            root,
            state_home: directory("XDG_STATE_HOME")
                .or_else(|| directory("HOME").map(|home| home.join(".local/state"))),
            runtime: directory("XDG_RUNTIME_DIR"),
            credentials: directory(CREDENTIALS),
        }
    }

    /// Where the file of a node is looked for when none is named.
    pub fn config(&self, name: &str) -> PathBuf {
        Path::new("/etc/floodmesh").join(format!("{name}.toml"))
    }

    /// The state directory of a node; `None` when neither XDG_STATE_HOME nor HOME is set.
    pub fn state(&self, name: &str) -> Option<PathBuf> {
        let home = if self.root {
            Some(Path::new("/var/lib"))
        } else {
            self.state_home.as_deref()
        };
        home.map(|home| home.join("floodmesh").join(name))
    }

    /// The secret of this name that the service manager passes on, if it does.
    pub fn credential(&self, name: &str) -> Option<PathBuf> {
        let path = self.credentials.as_ref()?.join(name);
        path.symlink_metadata().is_ok().then_some(path)
    }

    /// Whether the service manager passes this file on.
    pub fn is_credential(&self, path: &Path) -> bool {
        self.credentials.is_some() && path.parent() == self.credentials.as_deref()
    }

    /// Where a node makes its control socket; `None` when XDG_RUNTIME_DIR is not set.
    pub fn control(&self, name: &str) -> Option<PathBuf> {
        let home = if self.root {
            Some(Path::new("/run"))
        } else {
            self.runtime.as_deref()
        };
        home.map(|home| socket(home, name))
    }

    /// Where a client looks for the control socket of a node, its own user's place first.
    pub fn controls(&self, name: &str) -> Vec<PathBuf> {
        self.control_homes()
            .map(|home| socket(home, name))
            .collect()
    }

    /// The directories that hold control sockets.
    pub fn control_directories(&self) -> Vec<PathBuf> {
        self.control_homes()
            .map(|home| home.join("floodmesh"))
            .collect()
    }

    fn control_homes(&self) -> impl Iterator<Item = &Path> {
        let system = Some(Path::new("/run"));
        let own = self.runtime.as_deref().filter(|own| Some(*own) != system);
        let both = if self.root {
            [system, own]
        } else {
            [own, system]
        };
        both.into_iter().flatten()
    }
}

fn socket(home: &Path, name: &str) -> PathBuf {
    home.join("floodmesh").join(format!("{name}.sock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(variables: &'static [(&str, &str)]) -> Places {
        Places::new(false, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn root_uses_the_systems_places() {
        let root = Places::new(true, |_| None);
        assert_eq!(
            root.state("van").unwrap(),
            Path::new("/var/lib/floodmesh/van")
        );
        assert_eq!(
            root.control("van").unwrap(),
            Path::new("/run/floodmesh/van.sock")
        );
    }

    #[test]
    fn others_use_their_own_and_look_in_both() {
        let user = user(&[("HOME", "/home/a"), ("XDG_RUNTIME_DIR", "/run/user/7")]);
        assert_eq!(
            user.state("van").unwrap(),
            Path::new("/home/a/.local/state/floodmesh/van")
        );
        assert_eq!(
            user.control("van").unwrap(),
            Path::new("/run/user/7/floodmesh/van.sock")
        );
        assert_eq!(
            user.controls("van"),
            [
                Path::new("/run/user/7/floodmesh/van.sock"),
                Path::new("/run/floodmesh/van.sock")
            ]
        );
    }

    #[test]
    fn secrets_that_are_passed_on_are_found_where_they_are() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("secret"), "s").unwrap();
        let passed = home.path().as_os_str().to_owned();
        let places = Places::new(false, |name| (name == CREDENTIALS).then(|| passed.clone()));
        let secret = places.credential("secret").unwrap();
        assert_eq!(secret, home.path().join("secret"));
        assert!(places.is_credential(&secret));
        assert!(!places.is_credential(Path::new("/var/lib/floodmesh/mesh0/secret")));
        assert_eq!(places.credential("identity"), None);
        assert_eq!(user(&[]).credential("secret"), None);
    }

    #[test]
    fn without_an_environment_there_is_no_guess() {
        let nobody = user(&[("HOME", "relative")]);
        assert_eq!(nobody.state("van"), None);
        assert_eq!(nobody.control("van"), None);
        assert_eq!(
            nobody.controls("van"),
            [Path::new("/run/floodmesh/van.sock")]
        );
    }
}
