//! Files that nobody else may read: written whole or not at all, believed only after a look.
//!
//! Writing: a new file beside the place, mode 0600 from its first byte, synced, then linked to its
//! name, which fails if the name is taken, and the directory synced. Whenever the machine stops,
//! the file is there whole or not at all, and no other was lost.
//!
//! Source: SEALED.md S63, SECURITY 2.11.
//!
//! Reading: the file is opened first and judged then, so that nothing can be exchanged between
//! a regular file, of ours or root's, for its owner alone. Symbolic links are how
//! secrets are often mounted, and are followed, but not where everybody can plant one.

use std::collections::VecDeque;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;
use zeroize::Zeroizing;

use super::super::error::Failure;
use super::super::paths::Places;
use crate::seal::invitation::TEXT_LEN_LIMIT;

/// Bytes that a secret's file may have: those of the longest token, and some blanks.
const LIMIT: usize = TEXT_LEN_LIMIT + 1_024;
/// Rights that a secret's file must not give: any to others, and execution.
const LOOSE: u32 = 0o7177;
/// What the path of a secret is called that was typed, or came through a pipe.
pub const TYPED: &str = "standard input";
/// The one of them that a secret has which root's service manager passes on: an access list lets the
/// service's user in, and shows as a right of the group.
const PASSED_ON: u32 = 0o040;
/// Symbolic links on the way to a file at most, as in the kernel.
const LINKS_LIMIT: usize = 40;

/// Why a secret's file cannot be used. What was there before is unchanged.
#[derive(Debug)]
pub enum FileError {
    /// Nothing is there.
    Missing(PathBuf),
    /// Something is there already; it is never replaced.
    Exists(PathBuf),
    /// A directory, a pipe or a device.
    NotAFile(PathBuf),
    /// It belongs to another user, who could know or choose what is in it.
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
    },
    /// Others may read or write it.
    Loose {
        /// The file.
        path: PathBuf,
        /// Its rights.
        mode: u32,
    },
    /// The way to it leads over a symbolic link that anybody could have made.
    Planted {
        /// What was to be read.
        path: PathBuf,
        /// The link.
        link: PathBuf,
    },
    /// It is not what it should be; `what` never quotes it.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The machine refused.
    Io {
        /// What was tried: `read`, `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FileError {
    /// What to do about it.
    fn remedy(&self) -> String {
        match self {
            Self::Missing(_) => "check the path".into(),
            Self::Exists(_) => "nothing is overwritten; move it away first".into(),
            Self::NotAFile(_) => "name a regular file".into(),
            Self::Foreign { path, .. } => {
                let own = geteuid();
                format!("if it is yours: chown {own} {}", path.display())
            }
            Self::Loose { path, .. } => format!("chmod 600 {}", path.display()),
            Self::Planted { .. } => {
                "name the file itself, or a link in a directory of your own".into()
            }
            Self::Damaged { path, .. } if path == Path::new(TYPED) => {
                "give the one line alone, as it was printed".into()
            }
            Self::Damaged { .. } => {
                "check that it is the right file, or restore it from a copy".into()
            }
            Self::Io { .. } => "check the rights of its directory and the user".into(),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "there is no {}", path.display()),
            Self::Exists(path) => write!(f, "{} exists already", path.display()),
            Self::NotAFile(path) => write!(f, "{} is no regular file", path.display()),
            Self::Foreign { path, owner } => {
                write!(f, "{} belongs to another user, {owner}", path.display())
            }
            Self::Loose { path, mode } => write!(
                f,
                "{} is a secret and has mode {mode:04o}, looser than 0600",
                path.display()
            ),
            Self::Planted { path, link } => write!(
                f,
                "{} leads over the link {}, which anybody could have made",
                path.display(),
                link.display()
            ),
            Self::Damaged { path, what } => write!(f, "{}: {what}", path.display()),
            Self::Io { action, path, .. } => write!(f, "cannot {action} {}", path.display()),
        }
    }
}

impl Error for FileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let failure = Self::at_work(error.to_string(), error.remedy());
        match error {
            FileError::Io { source, .. } => failure.because(source),
            _ => failure,
        }
    }
}

/// Writes a file that is not there yet, with these rights.
///
/// # Errors
/// It is there, or cannot be written; then nothing of it is left.
pub fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => FileError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        },
    };
    if fs::symlink_metadata(path).is_ok() {
        return Err(FileError::Exists(path.to_owned()));
    }
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".new");
    let new = path.with_file_name(name);
    // A leftover of a stop in mid-write.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&new)
        .map_err(failed)?;
    let linked = file
        // Whatever the umask is.
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        // Unlike a rename it never replaces.
        .and_then(|()| fs::hard_link(&new, path));
    let removed = fs::remove_file(&new);
    linked.map_err(failed)?;
    let synced = removed.and_then(|()| File::open(directory(path))?.sync_all());
    synced.map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error)
    })
}

/// Reads a secret's file, after all checks, as text that is wiped when dropped.
///
/// # Errors
/// Any check that it does not pass; its content is in none.
pub fn read(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let failed = |source| FileError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        // As [`regular`](super::super::regular) does, with an error of its own.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FileError::Missing(path.to_owned()),
            _ => failed(error),
        })?;
    let opened = file.metadata().map_err(failed)?;
    if !opened.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    if !is_trusted(opened.uid(), path).map_err(failed)? {
        return Err(FileError::Foreign {
            path: path.to_owned(),
            owner: opened.uid(),
        });
    }
    let is_passed_on = opened.uid() == 0 && Places::of_this_process().is_credential(path);
    let loose = if is_passed_on {
        LOOSE & !PASSED_ON
    } else {
        LOOSE
    };
    if opened.mode() & loose != 0 {
        return Err(FileError::Loose {
            path: path.to_owned(),
            mode: opened.mode() & 0o7777,
        });
    }
    match way(path).map_err(failed)? {
        Way::Planted(link) => {
            return Err(FileError::Planted {
                path: path.to_owned(),
                link,
            });
        }
        Way::To(found) => {
            let found = fs::symlink_metadata(found).map_err(failed)?;
            if (found.dev(), found.ino()) != (opened.dev(), opened.ino()) {
                return Err(failed(io::Error::other("exchanged while it was read")));
            }
        }
    }
    read_text(file, path)
}

/// Whether this user may own a secret: we, root, and for root also whose directory it lies in, such as the
/// user that a service runs as; that one chooses what is there whoever owns it.
fn is_trusted(owner: u32, path: &Path) -> io::Result<bool> {
    let own = geteuid();
    if owner == 0 || owner == own.as_raw() {
        return Ok(true);
    }
    Ok(own.is_root() && fs::metadata(directory(path))?.uid() == owner)
}

/// Reads all of `from`, called `path` in errors, as text that is wiped when dropped.
///
/// # Errors
/// It is longer than any secret, not UTF-8, or cannot be read.
pub fn read_text(from: impl Read, path: &Path) -> Result<Zeroizing<String>, FileError> {
    let damaged = |what: &str| FileError::Damaged {
        path: path.to_owned(),
        what: what.into(),
    };
    // As large as it gets: when a buffer grows it leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT + 64));
    from.take(LIMIT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| FileError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() > LIMIT {
        return Err(damaged("longer than any secret"));
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(damaged("not text"))
        }
    }
}

/// Where a path leads.
enum Way {
    /// To this place, which is no link.
    To(PathBuf),
    /// Over this link in a directory in which everybody can make one.
    Planted(PathBuf),
}

/// Follows a path as the kernel does, and looks at each link.
fn way(path: &Path) -> io::Result<Way> {
    let path = std::path::absolute(path)?;
    let mut ahead: VecDeque<OsString> = parts(&path).collect();
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&part);
        if !fs::symlink_metadata(&next)?.is_symlink() {
            here = next;
            continue;
        }
        if fs::metadata(&here)?.mode() & 0o002 != 0 {
            return Ok(Way::Planted(next));
        }
        links += 1;
        if links > LINKS_LIMIT {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
            ahead.push_front(part);
        }
    }
    Ok(Way::To(here))
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Where a file lies.
pub fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    fn said(path: &Path) -> String {
        Failure::from(read(path).unwrap_err()).to_string()
    }

    #[test]
    fn a_written_secret_is_read_back_and_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        write_new(&path, "hush\n", 0o600).unwrap();
        assert_eq!(*read(&path).unwrap(), "hush\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_overwritten_be_it_a_file_or_a_link_to_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        write_new(&path, "first", 0o600).unwrap();
        assert!(matches!(
            write_new(&path, "second", 0o600),
            Err(FileError::Exists(_))
        ));
        assert_eq!(*read(&path).unwrap(), "first");
        let link = home.path().join("link");
        symlink(home.path().join("nowhere"), &link).unwrap();
        assert!(matches!(
            write_new(&link, "second", 0o600),
            Err(FileError::Exists(_))
        ));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_leftover_beside_the_place_is_replaced_and_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let outside = home.path().join("outside");
        fs::write(&outside, "precious").unwrap();
        symlink(&outside, home.path().join("secret.new")).unwrap();
        let path = home.path().join("secret");
        write_new(&path, "hush", 0o600).unwrap();
        assert_eq!(fs::read_to_string(outside).unwrap(), "precious");
        assert_eq!(*read(&path).unwrap(), "hush");
    }

    #[test]
    fn a_place_that_cannot_be_written_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("no/such/secret");
        let error = Failure::from(write_new(&path, "hush", 0o600).unwrap_err()).to_string();
        assert!(error.contains("no such file"), "{error}");
    }

    #[test]
    fn every_looser_mode_is_refused_with_the_command_that_helps() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        write_new(&path, "hush", 0o600).unwrap();
        for mode in (0..0o7777).filter(|mode| mode & 0o400 != 0) {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let fine = mode == 0o600 || mode == 0o400;
            assert_eq!(read(&path).is_ok(), fine, "{mode:04o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let place = path.display();
        assert_eq!(
            said(&path),
            format!("{place} is a secret and has mode 0640, looser than 0600 (chmod 600 {place})")
        );
    }

    #[test]
    fn links_are_followed_but_not_where_anybody_can_make_one() {
        let home = tempfile::tempdir().unwrap();
        let open = home.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        let path = home.path().join("secret");
        write_new(&path, "hush", 0o600).unwrap();
        // To the file, to its directory, and over another link.
        let fine = home.path().join("fine");
        symlink("secret", &fine).unwrap();
        assert_eq!(*read(&fine).unwrap(), "hush");
        for (link, target) in [("file", "../secret"), ("dir", ".."), ("two", "../fine")] {
            symlink(target, open.join(link)).unwrap();
        }
        for way in ["file", "dir/secret", "two"] {
            let refused = read(&open.join(way)).unwrap_err();
            assert!(
                matches!(refused, FileError::Planted { .. }),
                "{way}: {refused}"
            );
        }
        // A file of ours in such a place is ours all the same.
        write_new(&open.join("own"), "hush", 0o600).unwrap();
        assert_eq!(*read(&open.join("own")).unwrap(), "hush");
    }

    #[test]
    fn what_is_no_file_or_no_secret_is_refused_without_waiting() {
        let home = tempfile::tempdir().unwrap();
        let pipe = home.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(said(&pipe).contains("is no regular file"));
        assert!(said(home.path()).contains("is no regular file"));
        assert!(said(&home.path().join("none")).starts_with("there is no "));
        let path = home.path().join("long");
        write_new(&path, &"x".repeat(LIMIT + 1), 0o600).unwrap();
        assert!(said(&path).contains("longer than any secret"));
        let path = home.path().join("bytes");
        write_new(&path, "x", 0o600).unwrap();
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(said(&path).contains("not text"));
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        if !geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        write_new(&path, "hush", 0o600).unwrap();
        chown(&path, Some(65_534), None).unwrap();
        assert!(said(&path).contains("belongs to another user, 65534"));
        // Root looks after the node of a service: all of the directory is that user's.
        chown(home.path(), Some(65_534), None).unwrap();
        assert_eq!(*read(&path).unwrap(), "hush");
        chown(home.path(), Some(65_533), None).unwrap();
        assert!(said(&path).contains("belongs to another user, 65534"));
    }
}
