//! Makes the control socket: atomically, with its rights, over a dead daemon's but no living one's.

use std::error::Error;
use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::daemon::error::Failure;

/// Bytes of a Unix socket's path: `sun_path` without its zero.
const PATH_LIMIT: usize = 107;

/// Why there is no control socket. Nothing is left behind.
#[derive(Debug)]
pub enum ListenError {
    /// A living daemon answers there.
    AlreadyRuns(PathBuf),
    /// The path is longer than a socket's may be.
    TooLong(PathBuf),
    /// Something other than a socket is there.
    NoSocket(PathBuf),
    /// The machine refused.
    Io {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRuns(path) => {
                write!(f, "a node already runs behind {}", path.display())
            }
            Self::TooLong(path) => write!(
                f,
                "control socket {} is too long a path, with more than {PATH_LIMIT} bytes",
                path.display()
            ),
            Self::NoSocket(path) => write!(f, "{} exists and is no socket", path.display()),
            Self::Io { path, .. } => write!(f, "cannot make control socket {}", path.display()),
        }
    }
}

impl Error for ListenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        let what = error.to_string();
        match error {
            ListenError::AlreadyRuns(_) => {
                Self::at_work(what, "stop it, or give this one another --name")
            }
            ListenError::TooLong(_) => Self::misuse(what, "give a shorter one with --control"),
            ListenError::NoSocket(_) => {
                Self::at_work(what, "remove it, or choose another --control")
            }
            ListenError::Io { source, .. } => {
                Self::at_work(what, "choose a writable place with --control").because(source)
            }
        }
    }
}

/// A listening control socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// The user and group that the file belongs to.
    pub(super) owner: (u32, u32),
    /// Device and inode: what this daemon made, and so what it may remove.
    made: (u64, u64),
}

impl ControlSocket {
    /// Listens at `path` with mode 0660. A missing directory is made with mode 0750.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn open(path: &Path) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Io {
            path: path.to_owned(),
            source,
        };
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}", std::process::id()));
        let new = PathBuf::from(new);
        if new.as_os_str().len() > PATH_LIMIT {
            return Err(ListenError::TooLong(path.to_owned()));
        }
        make_room(path)?;
        if let Some(directory) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            let mut builder = DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o750)
                .create(directory)
                .map_err(failed)?;
        }
        // Beside its place first, so that nobody ever meets it with other rights.
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new).map_err(failed)?;
        let publish = || {
            fs::set_permissions(&new, Permissions::from_mode(0o660))?;
            listener.set_nonblocking(true)?;
            fs::rename(&new, path)?;
            fs::symlink_metadata(path)
        };
        match publish() {
            Ok(made) => Ok(Self {
                listener,
                path: path.to_owned(),
                owner: (made.uid(), made.gid()),
                made: (made.dev(), made.ino()),
            }),
            Err(error) => {
                let _ = fs::remove_file(&new);
                Err(failed(error))
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A second handle for tokio to accept from.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.made);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Judges what is at `path` now: nothing, a dead daemon's socket, or something to keep.
fn make_room(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        // Also one whose backlog is full, or that we may not speak to.
        Ok(_) => Err(ListenError::AlreadyRuns(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ListenError::AlreadyRuns(path.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(ListenError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}
