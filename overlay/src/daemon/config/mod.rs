//! What the command line, the environment and the file mean: validated, typed, defaults in one
//! place.
//!
//! 1. Everything given becomes a list of [`Given`]: dotted key, value, and where it stands.
//! 2. The list is put in order: file, environment, `--set`, flags. Later ones win; a list replaces
//!    the whole list before it.
//! 3. Each is judged by its key and put into a [`Config`] that starts as the defaults.
//! 4. What depends on several settings is judged at the end.
//!
//! No error is found late: a [`Config`] that exists can be run with. Nothing here opens anything
//! but the file; whether there is a mesh secret is looked at, since the default mode follows from
//! that. Read [`Config`] first.

mod draft;
mod error;
mod numbers;
mod settings;
#[cfg(test)]
mod tests;
mod typed;
mod value;
mod words;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::args::{DeviceMode, LogFormat, OffloadMode, UpArgs};
use super::file;
use super::paths::Places;
use crate::id::NetId;
use crate::node::zone::Bridge;
use crate::seal::members::Trusted;
use crate::seal::policies::PeerMode;

pub use error::ConfigError;
pub use numbers::{Limits, Setting, Storm, Timers};
pub use settings::long_help;
pub use value::{Given, Origin, PORT, Peer, PeerAddress, Value};

use draft::Draft;
pub(super) use draft::SEALED_MTU;
use typed::{name_of, typed};
pub(super) use words::addresses;

/// Name of a node on its machine when none is given.
pub const NAME: &str = "mesh0";

/// Everything a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the node on this machine; letters, digits, `-`, `_` and `.`, at most 32.
    pub name: String,
    /// Name of the mesh, the same on all nodes: addresses follow from its hash, and a node with
    /// another one is an alarm. 1 to 64 printable characters. Default `floodmesh`.
    pub mesh: String,
    /// How links are protected. Sealed by default where there is a mesh secret; elsewhere there is no
    /// default: the open mode has to be written out.
    pub security: Security,
    /// The netid that was asked for; without one a sealed node's follows from its key, and another
    /// uses the stored one, or a random one.
    pub netid: Option<NetId>,
    /// The keys that may come up, besides certified ones; `None` for every member's. At most 1024.
    pub trusted: Option<Vec<Trusted>>,
    /// The mesh authority's public key; with it only certified nodes come up, and listed ones.
    pub authority: Option<[u8; 32]>,
    /// Whom the node speaks to, and how.
    pub links: Links,
    /// The virtual network device.
    pub device: Device,
    /// The memory of messages seen.
    pub dedupe: Dedupe,
    /// Whether this node signs what is for all nodes, and takes only what is signed. Default no: any
    /// member could have sent it. Yes costs 64 bytes and some 60 us of a processor a message.
    pub signed_broadcast: bool,
    /// What goes on between plain and sealed links, where there are both. Default nothing.
    pub bridge: Bridge,
    /// Budgets.
    pub limits: Limits,
    /// Liveness.
    pub timers: Timers,
    /// Storm control of a TAP device.
    pub storm: Storm,
    /// The process's nice value, and that of its session if it leads one, where the system permits
    /// it; a control group's weight counts before both. Default -15, -20 to 19. It is for all that is
    /// not real-time ([`Device::priority`]). Too high: neighbors and clients are answered late while
    /// programs want all processors. Too low: a flood takes the programs' time.
    pub nice: i32,
    /// Whether the process gives up what it does not need once it runs ([`super::confine`]). Default
    /// yes; no is for finding out whether that is what a failure comes from.
    pub confine: bool,
    /// Files and logs.
    pub files: Files,
    /// What is allowed but probably not meant, to be logged at start.
    pub warnings: Vec<String>,
}

/// How links are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// The open protocol: no authentication, no encryption.
    Plain,
    /// Members only, and nobody else can read (SEALED.md).
    Sealed,
    /// Sealed wherever the other side can, plain to the others: for the days in which a mesh moves
    /// from plain to sealed.
    Prefer,
}

/// Whom a node speaks to, and how.
#[derive(Clone, Debug)]
pub struct Links {
    /// Where to listen; at most 16. Port 0 takes any free one.
    pub listen: Vec<SocketAddr>,
    /// Whether `listen` was asked for. If not, a machine without IPv6 (or IPv4) is no error.
    pub listen_given: bool,
    /// Peers to dial for ever.
    pub peers: Vec<Peer>,
    /// Peers that count as live without proof.
    pub trust_unproved: Vec<PeerAddress>,
    /// Networks that Inform may name although we have no address in them.
    pub allow_inform: Vec<IpNet>,
    /// Informed links are dialed while fewer neighbors than this are live, incoming ones accepted
    /// up to twice that. Default 6, sane from 2 to 20; 0 keeps to configured peers alone. Too
    /// small: one death can cut the mesh in two. Too large: every message is sent that often.
    pub degree: u16,
    /// Live neighbors at most. Default 256, 1 to 1024. Too small: nodes are refused. Too large:
    /// every message is sent that often, which is what uses up a machine.
    pub max_neighbors: u16,
    /// To whom a message goes on.
    pub forwarding: Forwarding,
}

impl Links {
    /// All named peers in the order in which they are numbered: those to be proven, then the others.
    pub fn named(&self) -> impl Iterator<Item = &PeerAddress> {
        let peers = self.peers.iter().map(|peer| &peer.address);
        peers.chain(&self.trust_unproved)
    }

    /// Gives the peers that `other` has too the modes that they have there; whether any is another one.
    pub fn take_modes(&mut self, other: &Self) -> bool {
        let mut has_changed = false;
        for peer in &mut self.peers {
            let mut others = other.peers.iter();
            if let Some(same) = others.find(|other| other.address == peer.address)
                && same.mode != peer.mode
            {
                peer.mode = same.mode;
                has_changed = true;
            }
        }
        has_changed
    }

    /// The mode that the peer with number `place` has of its own.
    pub fn mode_of(&self, place: usize) -> Option<PeerMode> {
        self.peers.get(place)?.mode
    }

    /// Whether the peer with number `place` counts as live without proof.
    pub fn is_trusted(&self, place: usize) -> bool {
        place >= self.peers.len()
    }
}

/// To whom a message goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// To all live neighbors but the one it came from: the promise that no packet is lost.
    Flood,
}

/// The virtual network device.
#[derive(Clone, Debug)]
pub struct Device {
    /// What it carries, or that there is none.
    pub mode: DeviceMode,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Its addresses with prefix lengths, besides the derived one; at most 16.
    pub addresses: Vec<IpNet>,
    /// Bytes of its largest packet. Default 1400, sealed 1360, sealed
    /// frames 1340, 576 to 65000; below 1280 there is no IPv6 on it.
    /// Too small: more packets for the same data. Too large: datagrams are sent in fragments.
    pub mtu: u32,
    /// Whether many packets move with one system call, at the device and at the sockets.
    pub offload: OffloadMode,
    /// Packets of the device, or datagrams and trains of a socket, that one round of system calls
    /// handles at most. Default 256, 1 to 256: as many as there is room for. Too small: a system
    /// call, a look at the clock and a wait for memory for each packet; 1 shows what rounds save.
    pub batch: u16,
    /// Data threads, 1 to 16: one for everything, one for each way, or one for the way in and the
    /// others for queues of the device. `None`: two from 4 processors on. Two where there is no
    /// processor to spare: slower, since they wait for each other's. More than two: faster only
    /// where several flows start here, and a core is free for each.
    pub threads: Option<u16>,
    /// How soon data threads run. Default: real-time.
    pub priority: Priority,
    /// What to do when it disappears. Default: keep.
    pub on_loss: OnLoss,
    /// Whether packets for its networks never leave by another interface. Default: not so.
    pub strict: bool,
}

/// How soon a packet is looked at where programs want all processors too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Before all ordinary programs, where the system permits it. A flood of packets may take up to
    /// 19 of 20 parts of a processor's time from them.
    Realtime,
    /// As the nice value says: packets wait for some programs' time slices.
    Normal,
}

/// What to do when the device disappears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// Keep forwarding for others and make it again.
    Keep,
    /// End with code 1.
    Exit,
}

/// The memory of messages seen.
#[derive(Clone, Copy, Debug)]
pub struct Dedupe {
    /// Bytes it may grow to, from 4 MiB, with what comes in 5 minutes. Default 256 MiB (about 39,000
    /// new messages per second for 5 minutes), 1 MiB to 64 GiB; 16 MiB suits a small router. Too
    /// small: messages are remembered for a shorter time, shown in `status`. Too large: memory that
    /// other programs may need.
    pub memory: u64,
    /// How messages are told apart.
    pub hash: HashKind,
}

/// How messages are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKind {
    /// A keyed 64-bit pseudo-random function, the fastest that we have.
    Fast,
    /// Keyed BLAKE3, for those who want a cryptographic hash; costs more than all else together.
    Blake3,
}

/// Files and logs.
#[derive(Clone, Debug)]
pub struct Files {
    /// The file that was read, if any.
    pub config: Option<PathBuf>,
    /// The state directory.
    pub state: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// The mesh secret. Default: `secret` in the state directory. What the service manager passes on comes
    /// before any of both.
    pub secret: PathBuf,
    /// This node's private keys. Default: `identity` in the state directory, and as above.
    pub identity: PathBuf,
    /// This node's certificate. Default: `certificate` in the state directory.
    pub certificate: PathBuf,
    /// What is logged, as tracing-subscriber's `EnvFilter` reads it. Default `info`.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
}

impl Config {
    /// What `args` and the file mean for this user and machine.
    ///
    /// # Errors
    /// The first setting that cannot be used; nothing has been opened.
    pub fn load(args: &UpArgs, places: &Places) -> Result<Self, ConfigError> {
        let typed = typed(args)?;
        let (path, from_file) = match &args.config {
            Some(path) => (Some(path.clone()), file::read(path)?),
            None => {
                let path = places.config(&name_of(&typed)?);
                match file::read(&path) {
                    Ok(settings) => (Some(path), settings),
                    Err(ConfigError::Unreadable { source, .. })
                        if source.kind() == io::ErrorKind::NotFound =>
                    {
                        (None, Vec::new())
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let mut config = Self::resolve(from_file.into_iter().chain(typed).collect(), places)?;
        config.files.config = path;
        Ok(config)
    }

    /// What `args` mean to a node that has no file yet.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn without_file(args: &UpArgs, places: &Places) -> Result<Self, ConfigError> {
        Self::resolve(typed(args)?, places)
    }

    /// What `given` means, whatever its order.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn resolve(mut given: Vec<Given>, places: &Places) -> Result<Self, ConfigError> {
        given.sort_by_key(|one| one.origin.rank());
        let mut draft = Draft::default();
        for one in &given {
            draft.apply(one)?;
        }
        draft.finish(places)
    }
}

impl Origin {
    /// Later wins.
    const fn rank(&self) -> u8 {
        match self {
            Self::File { .. } => 0,
            Self::Environment(_) => 1,
            Self::Set => 2,
            Self::Flag(_) => 3,
        }
    }
}
