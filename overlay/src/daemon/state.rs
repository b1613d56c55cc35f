//! What a node remembers from one start to the next: its netid, and the neighbors it had.
//!
//! One directory per node, mode 0700, locked while the node runs. Its files are short texts:
//!
//! ```text
//! floodmesh netid 1 6e3fa6f0e4b2f1c9         kind, version, checksum of what follows
//! 0000002a
//! ```
//!
//! | file        | content                                                         |
//! |-------------|-----------------------------------------------------------------|
//! | `lock`      | nothing; held with flock(2), so that it is free after any death |
//! | `netid`     | one netid                                                       |
//! | `neighbors` | up to 64 lines, netid and endpoint of a link that proved itself |
//! | `boot`      | number of the last start, decimal (sealed nodes)                |
//! | `pins`      | lines of netid and key, 64 hex digits (sealed nodes, S74)       |
//! | `afar`      | the same, of nodes met over others alone, the oldest first     |
//! | `latches`   | lines of netid, key, addresses and named peers (mode prefer, S85)   |
//! | `prefer`    | when mode prefer first started, seconds since 1970; or: over        |
//! | `revocations` | the newest revocation list (S77, S78)                         |
//!
//! A file is written whole beside the old one, synced, renamed over it, and the directory synced:
//! whenever the machine stops, the old or the new one is there. One that cannot be understood is
//! moved aside as `NAME.bad-1` to `.bad-9` and the node goes on without (SECURITY 3.6). Only damaged
//! `pins`, `latches`, `prefer` and `revocations` end the start: without them the next key to come under a
//! netid would be believed, a sealed node be spoken to in plain, and revoked keys let in again, so that
//! whoever can spoil a file could take a node's place.

use std::error::Error;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::error::Failure;
use super::regular;
use crate::id::NetId;
use crate::seal::armor::Armor;
use crate::seal::members::{AfarPins, PINS_LIMIT, Pins, key_text, read_key};
use crate::seal::prefer::{LATCHES_LIMIT, Latch, Latches, PLACES_LIMIT};

/// Neighbors remembered.
pub const NEIGHBORS_LIMIT: usize = 64;
/// Bytes of a latch's line at most: netid and key, places (`at=[..%4294967295]:65535`), peers (`peer=`, a
/// name of 253 letters, a port).
const LATCH_LEN: usize = 8 + 1 + 64 + PLACES_LIMIT * ((4 + 58) + (6 + 253 + 6)) + 1;
/// Bytes a file may have; the largest we write are all latches with all their places.
const FILE_LIMIT: u64 = (128 + LATCHES_LIMIT * LATCH_LEN) as u64;
/// Files of one name moved aside at most; then the last is replaced.
const BAD_LIMIT: u8 = 9;
/// The file of the newest revocation list.
pub const REVOCATIONS: &str = "revocations";
/// The file of pins from afar.
pub const AFAR: &str = "afar";
/// The file of pins.
pub const PINS: &str = "pins";
/// The file of nodes that came up sealed, of a node that prefers that.
pub const LATCHES: &str = "latches";
/// The file of when a node first preferred it, or that this is over.
pub const PREFER: &str = "prefer";
/// What it holds once it is over.
const OVER: &str = "over";
/// What stands there before the seconds that it ran without knowing the time.
const FOR: &str = "for ";
/// The format's version.
const VERSION: &str = "1";

/// Why the state directory cannot be used.
#[derive(Debug)]
pub enum StateError {
    /// Another daemon holds it. Nothing was changed.
    InUse(PathBuf),
    /// A file without which it would be dangerous to go on cannot be understood.
    Damaged(PathBuf),
    /// The machine refused. What was there before is still there.
    Io {
        /// What was tried: `create`, `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StateError {
    /// The error with what the machine said, for a line in the log.
    pub fn with_reason(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {}", super::error::reason(source)),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => {
                write!(
                    f,
                    "state directory {} is in use by a running node",
                    path.display()
                )
            }
            Self::Damaged(path) => write!(f, "{} is damaged", path.display()),
            Self::Io { action, path, .. } => write!(f, "cannot {action} {}", path.display()),
        }
    }
}

impl Error for StateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::InUse(_) | Self::Damaged(_) => None,
            Self::Io { source, .. } => Some(source),
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let what = error.to_string();
        match error {
            StateError::InUse(_) => Self::at_work(
                what,
                "stop that node, or give this one another --name or --state-dir",
            ),
            StateError::Damaged(path) if path.ends_with(REVOCATIONS) => Self::at_work(
                what,
                "restore it from a copy; or move it away, and revoked keys are let in until the mesh \
                 tells its list again",
            ),
            StateError::Damaged(path) if path.ends_with(LATCHES) => Self::at_work(
                what,
                "restore it from a copy, or write mode = \"sealed\"; without it nodes that came up sealed \
                 could be spoken to in plain",
            ),
            StateError::Damaged(path) if !path.ends_with(PINS) => {
                Self::at_work(what, "restore it from a copy")
            }
            StateError::Damaged(_) => Self::at_work(
                what,
                "restore it from a copy; or move it away, and the next key to come under each netid is \
                 believed",
            ),
            StateError::Io { source, .. } => {
                Self::at_work(what, "choose a writable directory with --state-dir").because(source)
            }
        }
    }
}

/// For how long a node has preferred sealed links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preferred {
    /// Since then, in seconds since 1970.
    Since(u64),
    /// For so many seconds during which it ran, with a clock that was never set.
    For(u64),
    /// For as long as it may: it insists on them.
    Over,
}

/// A neighbor to try again at the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The neighbor.
    pub netid: NetId,
    /// Where it proved itself.
    pub remote: SocketAddr,
}

/// The state directory of a running node. Locked until dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl StateDir {
    /// Makes the directory if there is none, and locks it.
    ///
    /// A command that may be root's does so [as its owner](super::acting), and whatever else it changes there.
    ///
    /// # Errors
    /// It cannot be made, another user's link stands for it, or another daemon holds it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |action| {
            move |source| StateError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("create"))?;
        // Also when it was there before, with the rights of an older version or a careless hand.
        protect(path).map_err(failed("protect"))?;
        let place = path.join("lock");
        let lock = private(&place).map_err(|source| StateError::Io {
            action: "open",
            path: place,
            source,
        })?;
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(StateError::InUse(path.to_owned()));
            }
            Err((_, number)) => return Err(failed("lock")(number.into())),
        };
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The netid of this node: `wanted` if given, else the stored one, else what `draw` returns.
    ///
    /// State: the result is stored, so that the next start has it without being told.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn netid(
        &self,
        wanted: Option<NetId>,
        draw: impl FnOnce() -> io::Result<NetId>,
    ) -> Result<NetId, StateError> {
        let stored = self.read("netid", |body| {
            let netid: NetId = body.trim_end().parse().ok()?;
            netid.is_node().then_some(netid)
        });
        let netid = match wanted.or(stored) {
            Some(netid) => netid,
            None => draw().map_err(|source| StateError::Io {
                action: "draw a netid for",
                path: self.path.clone(),
                source,
            })?,
        };
        if stored != Some(netid) {
            self.store_netid(netid)?;
        }
        Ok(netid)
    }

    /// Stores a netid, for the next start.
    ///
    /// # Errors
    /// It cannot be written; the old one is still there.
    pub fn store_netid(&self, netid: NetId) -> Result<(), StateError> {
        self.write("netid", &format!("{netid}\n"))
    }

    /// The boot id of a start: a number that rises with each, and four random bytes (SEALED.md S60).
    ///
    /// The number follows the stored one. Where that was lost it is `seconds`, of the wall clock since
    /// 1970: more than any node has started, so that others do not take this start for an old one.
    ///
    /// State: the number is stored before it is used, so that none is used twice.
    ///
    /// # Errors
    /// It cannot be stored, or there is no randomness.
    pub fn boot(&self, seconds: u64) -> Result<u64, StateError> {
        let stored: Option<u32> = self.read("boot", |body| body.trim_end().parse().ok());
        let number = match stored {
            Some(number) => number.saturating_add(1),
            None => u32::try_from(seconds).unwrap_or(u32::MAX),
        };
        self.write("boot", &format!("{number}\n"))?;
        let random = getrandom::u32().map_err(|error| StateError::Io {
            action: "draw a boot id for",
            path: self.path.clone(),
            source: io::Error::other(error),
        })?;
        Ok(u64::from(number) << 32 | u64::from(random))
    }

    /// The neighbors remembered, those that are to be tried first in front.
    pub fn neighbors(&self) -> Vec<Remembered> {
        let parse = |line: &str| {
            let (netid, remote) = line.split_once(' ')?;
            let netid: NetId = netid.parse().ok()?;
            let remote: SocketAddr = remote.parse().ok()?;
            netid.is_node().then_some(Remembered { netid, remote })
        };
        let mut neighbors: Vec<_> = self
            .read("neighbors", |body| {
                body.lines().map(parse).collect::<Option<_>>()
            })
            .unwrap_or_default();
        neighbors.truncate(NEIGHBORS_LIMIT);
        neighbors
    }

    /// Stores the first [`NEIGHBORS_LIMIT`] of `neighbors`, for the next start.
    ///
    /// # Errors
    /// They cannot be written; the old ones are still there.
    pub fn store_neighbors(&self, neighbors: &[Remembered]) -> Result<(), StateError> {
        let neighbors = &neighbors[..neighbors.len().min(NEIGHBORS_LIMIT)];
        let line = |one: &Remembered| format!("{} {}\n", one.netid, one.remote);
        self.write("neighbors", &neighbors.iter().map(line).collect::<String>())
    }

    /// The keys that netids are bound to.
    ///
    /// # Errors
    /// The file is damaged, or cannot be read.
    pub fn pins(&self) -> Result<Pins, StateError> {
        let pins = self.must_read(PINS, |body| {
            let pins: Option<Pins> = body.lines().map(pin).collect();
            pins.filter(|pins| pins.len() <= PINS_LIMIT)
        })?;
        Ok(pins.unwrap_or_default())
    }

    /// The keys of nodes met over others; what is damaged is forgotten.
    pub fn afar(&self) -> AfarPins {
        let read = self.read(AFAR, |body| body.lines().map(pin).collect());
        read.unwrap_or_default()
    }

    /// What the file of those keys holds, to be [written](Self::write) to [`AFAR`].
    pub fn afar_body(afar: &AfarPins) -> String {
        let line = |(netid, key): (NetId, [u8; 32])| format!("{netid} {}\n", key_text(&key));
        afar.iter().map(line).collect()
    }

    /// The nodes that are never spoken to in plain again.
    ///
    /// # Errors
    /// The file is damaged, or cannot be read.
    pub fn latches(&self) -> Result<Latches, StateError> {
        let parse = |line: &str| {
            let mut words = line.split(' ');
            let netid: NetId = words.next()?.parse().ok()?;
            let mut latch = Latch {
                static_key: read_key(words.next()?)?,
                places: Vec::new(),
                peers: Vec::new(),
            };
            for word in words {
                match (word.strip_prefix("at="), word.strip_prefix("peer=")) {
                    (Some(place), _) => latch.places.push(place.parse().ok()?),
                    (_, Some(peer)) => latch.peers.push(peer.to_owned()),
                    _ => return None,
                }
            }
            netid.is_node().then_some((netid, latch))
        };
        let latches = self.must_read(LATCHES, |body| {
            let latches: Option<Latches> = body.lines().map(parse).collect();
            latches.filter(|latches| latches.len() <= LATCHES_LIMIT)
        })?;
        Ok(latches.unwrap_or_default())
    }

    /// What the file of latches holds, to be [written](Self::write) to [`LATCHES`].
    pub fn latches_body(latches: &Latches) -> String {
        let line = |(netid, latch): (&NetId, &Latch)| {
            let mut line = format!("{netid} {}", key_text(&latch.static_key));
            for place in &latch.places {
                line += &format!(" at={place}");
            }
            for peer in &latch.peers {
                line += &format!(" peer={peer}");
            }
            line + "\n"
        };
        latches.iter().map(line).collect()
    }

    /// For how long this node has preferred sealed links; `None` if it never did.
    ///
    /// # Errors
    /// The file is damaged, or cannot be read.
    pub fn preferred(&self) -> Result<Option<Preferred>, StateError> {
        self.must_read(PREFER, |body| match body.trim_end() {
            OVER => Some(Preferred::Over),
            time => match time.strip_prefix(FOR) {
                Some(ran) => ran.parse().ok().map(Preferred::For),
                None => time.parse().ok().map(Preferred::Since),
            },
        })
    }

    /// What the file about that holds, to be [written](Self::write) to [`PREFER`].
    pub fn preferred_body(preferred: Preferred) -> String {
        match preferred {
            Preferred::Since(since) => format!("{since}\n"),
            Preferred::For(ran) => format!("{FOR}{ran}\n"),
            Preferred::Over => format!("{OVER}\n"),
        }
    }

    /// The newest revocation list.
    ///
    /// # Errors
    /// The file is damaged, or cannot be read.
    pub fn revocations(&self) -> Result<Option<Vec<u8>>, StateError> {
        revocations_in(&self.path)
    }

    /// Reads a file without which it would be dangerous to go on; `None` if there is none.
    ///
    /// # Errors
    /// It is damaged, or cannot be read. It stays where it is.
    pub fn must_read<T>(
        &self,
        kind: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, StateError> {
        must_read_in(&self.path, kind, parse)
    }

    /// What the file of pins holds, to be [written](Self::write) to [`PINS`].
    pub fn pins_body(pins: &Pins) -> String {
        let line = |(netid, key): (&NetId, &[u8; 32])| format!("{netid} {}\n", key_text(key));
        pins.iter().map(line).collect()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a file; what cannot be understood is moved aside.
    fn read<T>(&self, kind: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let path = self.path.join(kind);
        let problem = match read_private(&path) {
            Ok(text) => match body(kind, &text).and_then(parse) {
                Some(value) => return Some(value),
                None => "is damaged".to_owned(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => format!("cannot be read: {}", super::error::reason(&error)),
        };
        let aside = self.aside(kind);
        match fs::rename(&path, &aside) {
            Ok(()) => tracing::warn!(
                "{} {problem}; kept as {}, going on without it",
                path.display(),
                aside.display()
            ),
            Err(error) => {
                tracing::warn!(%error, "{} {problem}, and cannot be moved", path.display());
            }
        }
        None
    }

    /// The first free name for a damaged file.
    fn aside(&self, kind: &str) -> PathBuf {
        let name = |number| self.path.join(format!("{kind}.bad-{number}"));
        let free = |path: &PathBuf| fs::symlink_metadata(path).is_err();
        (1..BAD_LIMIT)
            .map(name)
            .find(free)
            .unwrap_or_else(|| name(BAD_LIMIT))
    }

    /// Writes a file whole: beside the old one, then over it, synced at each step.
    ///
    /// Cost: seconds on a busy disk.
    ///
    /// # Errors
    /// It cannot be written; the old one is still there.
    pub fn write(&self, kind: &str, body: &str) -> Result<(), StateError> {
        let path = self.path.join(kind);
        let new = self.path.join(format!("{kind}.new"));
        let write = || {
            // A leftover of a stop in mid-write; `private` would keep its tail.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = private(&new)?;
            write!(file, "{}\n{body}", head(kind, body))?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| {
            // Half of a file would keep the other writers from the little space there is.
            let _ = fs::remove_file(&new);
            StateError::Io {
                action: "write",
                path: path.clone(),
                source,
            }
        })
    }
}

/// The newest revocation list of the node that keeps its files in `directory`, whoever has locked it.
///
/// # Errors
/// The file is damaged, or cannot be read.
pub fn revocations_in(directory: &Path) -> Result<Option<Vec<u8>>, StateError> {
    must_read_in(directory, REVOCATIONS, |body| {
        Armor::Revocations.decode(body)
    })
}

fn must_read_in<T>(
    directory: &Path,
    kind: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, StateError> {
    let path = directory.join(kind);
    let text = match read_private(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(StateError::Io {
                action: "read",
                path,
                source,
            });
        }
    };
    let value = body(kind, &text).and_then(parse);
    value.map(Some).ok_or(StateError::Damaged(path))
}

/// A line of netid and key.
fn pin(line: &str) -> Option<(NetId, [u8; 32])> {
    let (netid, key) = line.split_once(' ')?;
    let netid: NetId = netid.parse().ok()?;
    netid.is_node().then_some((netid, read_key(key)?))
}

/// A random netid from the operating system.
///
/// # Errors
/// There is no randomness to be had.
pub fn draw_netid() -> io::Result<NetId> {
    loop {
        let netid = NetId(getrandom::u32().map_err(io::Error::other)?);
        if netid.is_node() {
            return Ok(netid);
        }
    }
}

/// Leaves the directory to its owner alone.
///
/// # Errors
/// It is not ours; or it is a link of somebody who is neither we nor root: what that leads to is not to be
/// changed for whoever made it.
fn protect(path: &Path) -> io::Result<()> {
    let place = fs::symlink_metadata(path)?;
    let is_trusted = place.uid() == 0 || place.uid() == geteuid().as_raw();
    let follows = match (place.is_symlink(), is_trusted) {
        (true, false) => return Err(io::Error::other("it is a link of another user")),
        (true, true) => 0,
        (false, _) => libc::O_NOFOLLOW,
    };
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | follows)
        .open(path)?;
    directory.set_permissions(Permissions::from_mode(0o700))
}

/// Opens a file for the owner alone, and makes it if there is none. Never follows a link.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    regular::open(path, &mut options, libc::O_NOFOLLOW)
}

fn read_private(path: &Path) -> io::Result<String> {
    regular::read_text(path, libc::O_NOFOLLOW, FILE_LIMIT)
}

/// What follows the first line, if that line and the checksum are right.
pub(super) fn body<'t>(kind: &str, text: &'t str) -> Option<&'t str> {
    let (first, body) = text.split_once('\n')?;
    (first == head(kind, body)).then_some(body)
}

/// The first line of a file of this kind.
pub(super) fn head(kind: &str, body: &str) -> String {
    format!("floodmesh {kind} {VERSION} {}", checksum(body))
}

/// 64 bits of BLAKE3: finds damage, not malice; who can write here can do anything.
fn checksum(body: &str) -> String {
    blake3::hash(body.as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(netid: u32) -> impl FnOnce() -> io::Result<NetId> {
        move || Ok(NetId(netid))
    }

    fn unused() -> io::Result<NetId> {
        panic!("no netid should be drawn")
    }

    fn remembered(count: u16) -> Vec<Remembered> {
        let one = |n: u16| Remembered {
            netid: NetId(u32::from(n) + 1),
            remote: SocketAddr::from(([192, 0, 2, 1], 1_000 + n)),
        };
        (0..count).map(one).collect()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_netid_is_drawn_once_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b");
        let state = StateDir::open(&path).unwrap();
        assert_eq!(state.netid(None, fixed(0x2a)).unwrap(), NetId(0x2a));
        assert_eq!(state.netid(None, unused).unwrap(), NetId(0x2a));
        drop(state);
        let again = StateDir::open(&path).unwrap();
        assert_eq!(again.netid(None, unused).unwrap(), NetId(0x2a));
    }

    #[test]
    fn an_explicit_netid_wins_and_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        state.netid(None, fixed(1)).unwrap();
        assert_eq!(state.netid(Some(NetId(7)), unused).unwrap(), NetId(7));
        assert_eq!(state.netid(None, unused).unwrap(), NetId(7));
    }

    #[test]
    fn the_files_are_for_their_owner_alone_and_have_known_bytes() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state");
        let state = StateDir::open(&path).unwrap();
        state.netid(Some(NetId(0x2a)), unused).unwrap();
        state.store_neighbors(&remembered(1)).unwrap();
        assert_eq!(mode(&path), 0o700);
        for file in ["lock", "netid", "neighbors"] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
        let netid = fs::read_to_string(path.join("netid")).unwrap();
        assert!(netid.starts_with("floodmesh netid 1 ") && netid.ends_with("\n0000002a\n"));
        let neighbors = fs::read_to_string(path.join("neighbors")).unwrap();
        assert!(neighbors.ends_with("\n00000001 192.0.2.1:1000\n"));
    }

    #[test]
    fn a_second_daemon_is_refused_until_the_first_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let first = StateDir::open(home.path()).unwrap();
        assert!(matches!(
            StateDir::open(home.path()),
            Err(StateError::InUse(_))
        ));
        drop(first);
        assert!(StateDir::open(home.path()).is_ok());
    }

    #[test]
    fn the_number_of_a_start_rises_even_when_it_was_lost() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        let number = |seconds| state.boot(seconds).unwrap() >> 32;
        assert_eq!(number(1_000), 1_000);
        assert_eq!(number(5), 1_001);
        assert_eq!(number(2_000), 1_002);
        fs::write(home.path().join("boot"), "floodmesh").unwrap();
        assert_eq!(number(3_000), 3_000);
        assert_eq!(mode(&home.path().join("boot")), 0o600);
        let random = |boot: u64| boot as u32;
        assert_ne!(
            random(state.boot(0).unwrap()),
            random(state.boot(0).unwrap())
        );
    }

    #[test]
    fn every_damaged_byte_moves_the_netid_aside_and_a_new_one_is_drawn() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        state.store_netid(NetId(0x2a)).unwrap();
        let path = home.path().join("netid");
        let good = fs::read(&path).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(
                state.netid(None, fixed(7)).unwrap(),
                NetId(7),
                "byte {place}"
            );
        }
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            assert_eq!(
                state.netid(None, fixed(7)).unwrap(),
                NetId(7),
                "length {len}"
            );
        }
        // However often it happens, the damaged files stay few.
        let bad = fs::read_dir(home.path()).unwrap().filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains(".bad-")
        });
        assert_eq!(bad.count(), usize::from(BAD_LIMIT));
    }

    #[test]
    fn a_netid_file_with_a_right_checksum_and_no_node_is_damaged() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        state.store_netid(NetId::ALL).unwrap();
        assert_eq!(state.netid(None, fixed(9)).unwrap(), NetId(9));
    }

    #[test]
    fn a_link_in_place_of_a_file_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        let outside = home.path().join("outside");
        fs::write(&outside, "precious").unwrap();
        std::os::unix::fs::symlink(&outside, home.path().join("netid")).unwrap();
        std::os::unix::fs::symlink(&outside, home.path().join("netid.new")).unwrap();
        assert_eq!(state.netid(None, fixed(9)).unwrap(), NetId(9));
        assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
    }

    #[test]
    fn a_link_of_another_user_is_no_state_directory_and_what_it_leads_to_keeps_its_rights() {
        let home = tempfile::tempdir().unwrap();
        let [precious, link] = ["precious", "link"].map(|name| home.path().join(name));
        fs::create_dir(&precious).unwrap();
        fs::set_permissions(&precious, Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&precious, &link).unwrap();
        if !geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        std::os::unix::fs::lchown(&link, Some(65_534), Some(65_534)).unwrap();
        let error = Failure::from(StateDir::open(&link).unwrap_err()).to_string();
        assert!(error.contains("it is a link of another user"), "{error}");
        assert_eq!(mode(&precious), 0o755);
        assert_eq!(fs::read_dir(&precious).unwrap().count(), 0);
        // The owner of a machine may have it lie elsewhere.
        std::os::unix::fs::lchown(&link, Some(0), Some(0)).unwrap();
        StateDir::open(&link).unwrap();
        assert_eq!(mode(&precious), 0o700);
    }

    #[test]
    fn neighbors_come_back_in_order_and_bounded() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        assert_eq!(state.neighbors(), []);
        state.store_neighbors(&remembered(100)).unwrap();
        assert_eq!(state.neighbors(), remembered(64));
        fs::write(home.path().join("neighbors"), [0xff; 100]).unwrap();
        assert_eq!(state.neighbors(), []);
        assert!(home.path().join("neighbors.bad-1").exists());
    }

    #[test]
    fn pins_come_back_and_every_damaged_byte_of_them_ends_the_start() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        assert_eq!(state.pins().unwrap(), Pins::new());
        let pins = Pins::from([(NetId(7), [0xa5; 32]), (NetId(0x2a), [1; 32])]);
        state.write(PINS, &StateDir::pins_body(&pins)).unwrap();
        assert_eq!(state.pins().unwrap(), pins);
        let path = home.path().join(PINS);
        let text = fs::read(&path).unwrap();
        for place in 0..text.len() {
            let mut bad = text.clone();
            bad[place] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(state.pins().is_err(), "byte {place}");
            fs::write(&path, &text[..place]).unwrap();
            assert!(state.pins().is_err(), "{place} bytes");
        }
        // Still there, for whoever wants to look at it.
        assert!(path.exists());
        let error = Failure::from(state.pins().unwrap_err()).to_string();
        assert!(error.contains("pins is damaged (restore"), "{error}");
    }

    #[test]
    fn keys_from_afar_come_back_in_their_order_and_damaged_ones_are_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        let afar: AfarPins = [(NetId(9), [1; 32]), (NetId(3), [2; 32])]
            .into_iter()
            .collect();
        state.write(AFAR, &StateDir::afar_body(&afar)).unwrap();
        assert_eq!(state.afar(), afar);
        state.write(AFAR, "nonsense\n").unwrap();
        assert!(state.afar().is_empty());
    }

    #[test]
    fn a_damaged_revocation_list_ends_the_start_and_stays_where_it_is() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        assert_eq!(state.revocations().unwrap(), None);
        let list = vec![7; 91];
        let body = Armor::Revocations.encode(&list) + "\n";
        state.write(REVOCATIONS, &body).unwrap();
        assert_eq!(state.revocations().unwrap(), Some(list));
        state
            .write(REVOCATIONS, &body.replacen("mr1-a", "mr1-b", 1))
            .unwrap();
        let path = state.path().join(REVOCATIONS);
        let spoilt = fs::read(&path).unwrap();
        let error = Failure::from(state.revocations().unwrap_err()).to_string();
        assert!(error.contains("revocations is damaged (restore"), "{error}");
        fs::write(&path, &spoilt[..20]).unwrap();
        assert!(state.revocations().is_err());
        assert!(path.exists());
    }

    #[test]
    fn as_many_pins_as_there_may_be_fit_into_their_file() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        let pins: Pins = (1..=PINS_LIMIT as u32)
            .map(|netid| (NetId(netid), [7; 32]))
            .collect();
        state.write(PINS, &StateDir::pins_body(&pins)).unwrap();
        assert_eq!(state.pins().unwrap(), pins);
    }

    #[test]
    fn a_drawn_netid_names_a_node() {
        assert!(draw_netid().unwrap().is_node());
    }

    /// S85.
    #[test]
    fn as_many_latches_as_there_may_be_with_the_longest_names_survive_their_file() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        let place = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535";
        let peer = |n: usize| format!("{n:0>253}:65535");
        let latch = Latch {
            static_key: [0xff; 32],
            places: vec![place.parse().unwrap(); PLACES_LIMIT],
            peers: (0..PLACES_LIMIT).map(peer).collect(),
        };
        let latches: Latches = (1..=LATCHES_LIMIT as u32)
            .map(|netid| (NetId(netid), latch.clone()))
            .collect();
        let body = StateDir::latches_body(&latches);
        assert_eq!(body.len(), LATCHES_LIMIT * LATCH_LEN, "the bound is exact");
        state.write(LATCHES, &body).unwrap();
        assert!(state.latches().unwrap() == latches);
    }

    #[test]
    fn latches_are_read_as_they_were_written_and_damaged_ones_end_the_start() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        assert_eq!(state.latches().unwrap(), Latches::new());
        let latch = |places: &[&str], peers: &[&str]| Latch {
            static_key: [7; 32],
            places: places.iter().map(|place| place.parse().unwrap()).collect(),
            peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
        };
        let places = ["192.0.2.1:44204", "[2001:db8::1]:44204"];
        let latches: Latches = [
            (NetId(1), latch(&[], &[])),
            (NetId(2), latch(&places, &["van.example:44204"])),
        ]
        .into();
        state
            .write(LATCHES, &StateDir::latches_body(&latches))
            .unwrap();
        assert_eq!(state.latches().unwrap(), latches);
        for body in ["00000001\n", "00000001 07\n", "00000000 x\n"] {
            state.write(LATCHES, body).unwrap();
            assert!(
                matches!(state.latches(), Err(StateError::Damaged(_))),
                "{body}"
            );
        }
        fs::remove_file(home.path().join(LATCHES)).unwrap();
        assert_eq!(state.latches().unwrap(), Latches::new());
    }

    /// S84.
    #[test]
    fn the_first_start_that_preferred_sealed_links_is_remembered() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        assert_eq!(state.preferred().unwrap(), None);
        let all = [
            Preferred::Since(1_000),
            Preferred::For(600),
            Preferred::Over,
        ];
        for preferred in all {
            let body = StateDir::preferred_body(preferred);
            state.write(PREFER, &body).unwrap();
            assert_eq!(state.preferred().unwrap(), Some(preferred));
        }
        state.write(PREFER, "soon\n").unwrap();
        assert!(matches!(state.preferred(), Err(StateError::Damaged(_))));
    }
}
