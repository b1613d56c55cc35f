//! What is wrong with a configuration, and what to type instead.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::value::{Given, Origin};
use crate::daemon::error::Failure;

/// Why a configuration is refused. Nothing has been opened or changed when one occurs.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// There is no such key.
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// What was written.
        key: String,
        /// The known key that looks most like it, if one does.
        nearest: Option<&'static str>,
    },
    /// The value cannot be used.
    Invalid {
        /// Where and what: `--mtu 99999`, `/etc/floodmesh/mesh0.toml:3: device.mtu = 99999`.
        given: String,
        /// What is wrong, to be read after it: `is out of range`.
        problem: String,
        /// What to write instead.
        remedy: String,
    },
    /// Values that are fine alone do not go together, or something has to be said and was not.
    Conflict {
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
}

impl ConfigError {
    /// What was `given` cannot be used.
    pub fn invalid(given: &Given, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Invalid {
            given: given.to_string(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// Settings do not go together.
    pub fn conflict(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Conflict {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path given with --config".into()
            }
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "make the file readable for the user floodmesh runs as".into()
            }
            Self::Unreadable { .. } => "name a text file with the settings".into(),
            Self::Syntax { .. } => "write KEY = VALUE, with text in quotes".into(),
            Self::UnknownKey {
                nearest: Some(key), ..
            } => format!("did you mean {key}?"),
            Self::UnknownKey { .. } => "floodmesh up --help lists the keys".into(),
            Self::Invalid { remedy, .. } | Self::Conflict { remedy, .. } => remedy.clone(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, .. } => write!(f, "cannot read {}", path.display()),
            Self::Syntax {
                path,
                line,
                message,
            } => {
                write!(f, "{}:{line}: not TOML: {message}", path.display())
            }
            Self::UnknownKey { origin, key, .. } => match origin {
                Origin::File { .. } => write!(f, "{origin}: unknown key {key}"),
                _ => write!(f, "{origin} {key}: unknown key"),
            },
            Self::Invalid { given, problem, .. } => write!(f, "{given} {problem}"),
            Self::Conflict { problem, .. } => f.write_str(problem),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Self::misuse(error.to_string(), error.remedy());
        match error {
            ConfigError::Unreadable { source, .. } => failure.because(source),
            _ => failure,
        }
    }
}
