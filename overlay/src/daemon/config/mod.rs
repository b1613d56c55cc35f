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
//! but the file. Read [`Config`] first.

mod error;
mod numbers;
#[cfg(test)]
mod tests;
mod value;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::ValueEnum;
use ipnet::IpNet;

use super::args::{DeviceMode, LogFormat, UpArgs};
use super::file;
use super::paths::Places;
use crate::id::NetId;

pub use error::ConfigError;
pub use numbers::{Limits, Setting, Storm, Timers};
pub use value::{Given, Origin, PORT, PeerAddress, Value};

/// Name of a node on its machine when none is given.
pub const NAME: &str = "mesh0";
/// Bytes of a network interface's name: IFNAMSIZ without its zero.
const DEVICE_NAME_LIMIT: usize = 15;
/// Smallest MTU at which the kernel keeps IPv6 on a device (RFC 8200 section 5).
const IPV6_MTU: u32 = 1_280;
/// Sockets of one node, which one thread polls, and addresses of its device.
const FEW: usize = 16;
/// Entries of any other list.
const MANY: usize = 1_024;

/// Everything a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the node on this machine; letters, digits, `-`, `_` and `.`, at most 32.
    pub name: String,
    /// Name of the mesh, the same on all nodes: addresses follow from its hash, and a node with
    /// another one is an alarm. 1 to 64 printable characters. Default `floodmesh`.
    pub mesh: String,
    /// How links are protected. There is no default: the open mode has to be written out.
    pub security: Security,
    /// The netid that was asked for; without one the stored one, or a random one, is used.
    pub netid: Option<NetId>,
    /// Whom the node speaks to, and how.
    pub links: Links,
    /// The virtual network device.
    pub device: Device,
    /// The memory of messages seen.
    pub dedupe: Dedupe,
    /// Budgets.
    pub limits: Limits,
    /// Liveness.
    pub timers: Timers,
    /// Storm control of a TAP device.
    pub storm: Storm,
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
}

/// Whom a node speaks to, and how.
#[derive(Clone, Debug)]
pub struct Links {
    /// Where to listen; at most 16. Port 0 takes any free one.
    pub listen: Vec<SocketAddr>,
    /// Whether `listen` was asked for. If not, a machine without IPv6 (or IPv4) is no error.
    pub listen_given: bool,
    /// Addresses to dial for ever.
    pub peers: Vec<PeerAddress>,
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
    /// Bytes of its largest packet. Default 1400, 576 to 65000; below 1280 there is no IPv6 on it.
    /// Too small: more packets for the same data. Too large: datagrams are sent in fragments.
    pub mtu: u32,
    /// What to do when it disappears. Default: keep.
    pub on_loss: OnLoss,
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
    /// Bytes it may grow to. Default 256 MiB (about 65,000 new messages per second for 5 minutes),
    /// 1 MiB to 64 GiB; 16 MiB suits a small router. Too small: messages are remembered for a
    /// shorter time, shown in `status`. Too large: memory that other programs may need.
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
    /// What is logged, as tracing-subscriber's `EnvFilter` reads it. Default `info`.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
}

/// The settings besides plain numbers; together with [`Limits::SETTINGS`], [`Timers::SETTINGS`] and
/// [`Storm::SETTINGS`] all keys that there are. Those with a default of "" have a flag.
const SETTINGS: &[Setting] = &[
    setting("name", "", "--name"),
    setting("mode", "", "\"plain\" is --plain"),
    setting("netid", "", "--netid, in quotes"),
    setting("mesh", "", "--mesh"),
    setting("listen", "", "--listen, a list"),
    setting("peer", "", "--peer, a list"),
    setting("trust_unproved", "", "--trust-unproved, a list"),
    setting("allow_inform", "", "--allow-inform, a list"),
    setting("degree", "", "--degree"),
    setting("max_neighbors", "", "--max-neighbors"),
    setting("state_dir", "", "--state-dir"),
    setting("control", "", "--control"),
    setting("log", "", "--log"),
    setting("log_format", "", "--log-format"),
    setting("device.mode", "", "--mode"),
    setting("device.name", "", "--dev"),
    setting("device.address", "", "--address, a list"),
    setting("device.mtu", "", "--mtu"),
    setting(
        "device.on_loss",
        "\"keep\"",
        "When the device disappears: keep forwarding for others and make it again (\"keep\"), or end (\"exit\").",
    ),
    setting(
        "dedupe.memory",
        "\"256MiB\"",
        "What the memory of messages seen may grow to, 1MiB to 64GiB; 16MiB suits a small router.",
    ),
    setting(
        "dedupe.hash",
        "\"fast\"",
        "How messages are told apart: a fast keyed hash (\"fast\") or keyed BLAKE3 (\"blake3\"), which costs more than the rest of the data path.",
    ),
    setting(
        "forwarding",
        "\"flood\"",
        "To whom messages go on: all live neighbors but the one they came from (\"flood\").",
    ),
];

const fn setting(key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting {
        key,
        default,
        meaning,
    }
}

/// All settings, in the order of help.
fn settings() -> impl Iterator<Item = &'static Setting> + Clone {
    SETTINGS
        .iter()
        .chain(Limits::SETTINGS)
        .chain(Timers::SETTINGS)
        .chain(Storm::SETTINGS)
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

/// A configuration in the making: what has a default that depends on others is still open.
struct Draft {
    config: Config,
    security: Option<Security>,
    device_name: Option<String>,
    state: Option<PathBuf>,
    control: Option<PathBuf>,
    /// The setting that only makes sense with a device, if one was given.
    needs_device: Option<Given>,
}

impl Default for Draft {
    fn default() -> Self {
        let config = Config {
            name: NAME.to_owned(),
            mesh: "floodmesh".to_owned(),
            security: Security::Plain,
            netid: None,
            links: Links {
                listen: vec![
                    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT),
                    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT),
                ],
                listen_given: false,
                peers: Vec::new(),
                trust_unproved: Vec::new(),
                allow_inform: Vec::new(),
                degree: 6,
                max_neighbors: 256,
                forwarding: Forwarding::Flood,
            },
            device: Device {
                mode: DeviceMode::Tun,
                name: String::new(),
                addresses: Vec::new(),
                mtu: 1_400,
                on_loss: OnLoss::Keep,
            },
            dedupe: Dedupe {
                memory: 256 << 20,
                hash: HashKind::Fast,
            },
            limits: Limits::default(),
            timers: Timers::default(),
            storm: Storm::default(),
            files: Files {
                config: None,
                state: PathBuf::new(),
                control: PathBuf::new(),
                log: "info".to_owned(),
                log_format: LogFormat::Text,
            },
            warnings: Vec::new(),
        };
        Self {
            config,
            security: None,
            device_name: None,
            state: None,
            control: None,
            needs_device: None,
        }
    }
}

impl Draft {
    /// Judges one setting and takes it.
    fn apply(&mut self, given: &Given) -> Result<(), ConfigError> {
        let Config {
            links,
            device,
            dedupe,
            files,
            ..
        } = &mut self.config;
        match given.key.as_str() {
            "name" => self.config.name = node_name(given)?,
            "mode" => self.security = Some(security(given)?),
            "netid" => self.config.netid = Some(netid(given)?),
            "mesh" => self.config.mesh = mesh_name(given)?,
            "listen" => {
                links.listen = list(given, FEW, value::listen_address)?;
                links.listen_given = true;
            }
            "peer" => links.peers = list(given, MANY, peer)?,
            "trust_unproved" => links.trust_unproved = list(given, MANY, peer)?,
            "allow_inform" => {
                let network = |one: &Given| one.parsed::<IpNet>("a network with a prefix length");
                links.allow_inform = list(given, MANY, network)?;
            }
            "degree" => links.degree = given.whole(0, 1_024, "neighbors")? as u16,
            "max_neighbors" => links.max_neighbors = given.whole(1, 1_024, "neighbors")? as u16,
            "forwarding" => links.forwarding = given.choice(&[("flood", Forwarding::Flood)])?,
            "state_dir" => self.state = Some(path(given)?),
            "control" => self.control = Some(path(given)?),
            "log" => files.log = log_filter(given)?,
            "log_format" => files.log_format = choice_of(given)?,
            "device.mode" => device.mode = choice_of(given)?,
            "device.name" => {
                self.device_name = Some(device_name(given)?);
                self.needs_device = Some(given.clone());
            }
            "device.address" => {
                device.addresses = list(given, FEW, value::device_address)?;
                self.needs_device = Some(given.clone());
            }
            "device.mtu" => device.mtu = given.whole(576, 65_000, "bytes")?,
            "device.on_loss" => {
                device.on_loss = given.choice(&[("keep", OnLoss::Keep), ("exit", OnLoss::Exit)])?;
            }
            "dedupe.memory" => dedupe.memory = given.size(1 << 20, 64 << 30)?,
            "dedupe.hash" => {
                dedupe.hash =
                    given.choice(&[("fast", HashKind::Fast), ("blake3", HashKind::Blake3)])?;
            }
            _ => return self.apply_number(given),
        }
        Ok(())
    }

    fn apply_number(&mut self, given: &Given) -> Result<(), ConfigError> {
        let Config {
            limits,
            timers,
            storm,
            ..
        } = &mut self.config;
        let taken = limits
            .apply(given)
            .or_else(|| timers.apply(given))
            .or_else(|| storm.apply(given));
        taken.unwrap_or_else(|| unknown(given))
    }

    /// Judges what depends on several settings, and fills what is still open.
    fn finish(self, places: &Places) -> Result<Config, ConfigError> {
        let mut config = self.config;
        config.security = self.security.ok_or_else(no_security)?;
        if let (DeviceMode::None, Some(given)) = (config.device.mode, &self.needs_device) {
            return Err(given.wrong(
                "needs a device",
                "leave it out, or choose --mode tun or tap",
            ));
        }
        config.device.name = match self.device_name {
            Some(name) => name,
            None if config.name.len() > DEVICE_NAME_LIMIT
                && config.device.mode != DeviceMode::None =>
            {
                return Err(ConfigError::conflict(
                    format!("the name {} is too long for a device", config.name),
                    "name the device with --dev, at most 15 letters",
                ));
            }
            None => config.name.clone(),
        };
        let Timers {
            ping_after,
            suspect_after,
            dead_after,
            ..
        } = config.timers;
        if ping_after >= suspect_after || suspect_after >= dead_after {
            return Err(ConfigError::conflict(
                format!(
                    "timers.ping_after {} s, timers.suspect_after {} s and timers.dead_after {} s \
                     do not follow each other",
                    ping_after.as_secs_f64(),
                    suspect_after.as_secs_f64(),
                    dead_after.as_secs_f64()
                ),
                "each must be longer than the one before",
            ));
        }
        config.files.state = match self.state.or_else(|| places.state(&config.name)) {
            Some(path) => path,
            None => {
                return Err(ConfigError::conflict(
                    "no place for the state: neither XDG_STATE_HOME nor HOME is set",
                    "give --state-dir DIR",
                ));
            }
        };
        config.files.control = match self.control.or_else(|| places.control(&config.name)) {
            Some(path) => path,
            None => {
                return Err(ConfigError::conflict(
                    "no place for the control socket: XDG_RUNTIME_DIR is not set",
                    "give --control PATH",
                ));
            }
        };
        config.warnings = warnings(&config);
        Ok(config)
    }
}

/// What is allowed but probably not meant.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let Device { mode, mtu, .. } = &config.device;
    if *mode != DeviceMode::None && *mtu < IPV6_MTU {
        warnings.push(format!(
            "with an MTU of {mtu} the device has no IPv6 and no derived address; 1280 is the least \
             for that"
        ));
    }
    for trusted in &config.links.trust_unproved {
        warnings.push(format!(
            "{trusted} is trusted without proof: all traffic of the mesh is sent there"
        ));
    }
    warnings
}

fn no_security() -> ConfigError {
    ConfigError::conflict(
        "no mode chosen: this version speaks only the open protocol, without encryption, and \
         everyone who can reach a node can read, forge and join; encrypted meshes come in a later \
         version",
        "if that is what you want, say so: floodmesh up --plain, or mode = \"plain\" in the file",
    )
}

/// Everything typed and in the environment, as settings.
fn typed(args: &UpArgs) -> Result<Vec<Given>, ConfigError> {
    let mut typed = Vec::new();
    let mut add = |key: &str, flag: &str, value: Option<Value>| {
        // The name that clap knows a flag's value by is that of its field.
        let field = flag.trim_start_matches('-').replace('-', "_");
        let origin = if args.from_environment.contains(&field) {
            Origin::Environment(format!("FLOODMESH_{}", field.to_uppercase()))
        } else {
            Origin::Flag(flag.to_owned())
        };
        typed.extend(value.map(|value| Given {
            key: key.to_owned(),
            value,
            origin,
        }));
    };
    let word = |text: &Option<String>| text.clone().map(Value::Word);
    let path = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| Value::Word(path.display().to_string()))
    };
    let words = |texts: &[String]| match texts {
        [] => None,
        [one] => Some(Value::Word(one.clone())),
        many => Some(Value::List(many.iter().cloned().map(Value::Word).collect())),
    };
    add("name", "--name", word(&args.name));
    add(
        "mode",
        "--plain",
        args.plain.then(|| Value::Word("plain".into())),
    );
    add("netid", "--netid", word(&args.netid));
    add("mesh", "--mesh", word(&args.mesh));
    add("listen", "--listen", words(&args.listen));
    add("peer", "--peer", words(&args.peer));
    add(
        "trust_unproved",
        "--trust-unproved",
        words(&args.trust_unproved),
    );
    add("allow_inform", "--allow-inform", words(&args.allow_inform));
    add("degree", "--degree", word(&args.degree));
    add(
        "max_neighbors",
        "--max-neighbors",
        word(&args.max_neighbors),
    );
    add("state_dir", "--state-dir", path(&args.state_dir));
    add("control", "--control", path(&args.control));
    add("log", "--log", word(&args.log));
    add(
        "log_format",
        "--log-format",
        args.log_format.as_ref().map(name_of_choice),
    );
    add(
        "device.mode",
        "--mode",
        args.mode.as_ref().map(name_of_choice),
    );
    add("device.name", "--dev", word(&args.dev));
    add("device.address", "--address", words(&args.address));
    add("device.mtu", "--mtu", word(&args.mtu));
    for set in &args.set {
        typed.push(parse_set(set)?);
    }
    Ok(typed)
}

/// `KEY=VALUE`; a value in quotes or brackets is read as TOML, anything else as it stands.
fn parse_set(set: &str) -> Result<Given, ConfigError> {
    let Some((key, value)) = set.split_once('=') else {
        return Err(ConfigError::Invalid {
            given: format!("--set {set}"),
            problem: "has no value".into(),
            remedy: "write --set KEY=VALUE".into(),
        });
    };
    let (key, value) = (key.trim(), value.trim());
    let mut given = Given {
        key: key.to_owned(),
        value: Value::Word(value.to_owned()),
        origin: Origin::Set,
    };
    if value.starts_with(['"', '\'', '[']) {
        let read = file::parse("--set".as_ref(), &format!("value = {value}\n"));
        match read.as_deref() {
            Ok([one]) => given.value = one.value.clone(),
            _ => return Err(given.wrong("is not TOML", "write a list as [\"a\", \"b\"]")),
        }
    }
    Ok(given)
}

/// The name that the strongest of `typed` gives; the file to read follows from it.
fn name_of(typed: &[Given]) -> Result<String, ConfigError> {
    let names = typed.iter().filter(|given| given.key == "name");
    match names.max_by_key(|given| given.origin.rank()) {
        Some(given) => node_name(given),
        None => Ok(NAME.to_owned()),
    }
}

fn name_of_choice<T: ValueEnum>(choice: &T) -> Value {
    let value = choice.to_possible_value();
    Value::Word(value.map_or_else(String::new, |value| value.get_name().to_owned()))
}

/// One of the choices that the flag of the same meaning has.
fn choice_of<T: ValueEnum + Copy>(given: &Given) -> Result<T, ConfigError> {
    let named: Vec<_> = T::value_variants()
        .iter()
        .filter_map(|choice| Some((choice.to_possible_value()?, *choice)))
        .collect();
    let choices: Vec<_> = named
        .iter()
        .map(|(value, choice)| (value.get_name(), *choice))
        .collect();
    given.choice(&choices)
}

fn unknown(given: &Given) -> Result<(), ConfigError> {
    let section = format!("{}.", given.key);
    let empty = matches!(&given.value, Value::Other(text) if text == "{}");
    if empty && settings().any(|setting| setting.key.starts_with(&section)) {
        return Ok(());
    }
    Err(ConfigError::UnknownKey {
        origin: given.origin.clone(),
        key: given.key.clone(),
        nearest: value::nearest(&given.key, settings().map(|setting| setting.key)),
    })
}

fn list<T: PartialEq>(
    given: &Given,
    most: usize,
    judge: impl Fn(&Given) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    let mut judged = Vec::new();
    for one in given.texts(most)? {
        let value = judge(&one)?;
        if judged.contains(&value) {
            return Err(one.wrong("is given twice", "leave one of them out"));
        }
        judged.push(value);
    }
    Ok(judged)
}

/// A name that can be part of a path and shown anywhere.
fn node_name(given: &Given) -> Result<String, ConfigError> {
    let name = given.text()?;
    let letters = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let fine = name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() <= 32
        && name.chars().all(letters);
    if !fine {
        return Err(given.wrong(
            "is not a name",
            "use at most 32 letters, digits, - _ and ., the first a letter or digit",
        ));
    }
    Ok(name.to_owned())
}

fn mesh_name(given: &Given) -> Result<String, ConfigError> {
    let name = given.text()?;
    if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
        return Err(given.wrong("is not a name", "use 1 to 64 printable characters"));
    }
    Ok(name.to_owned())
}

fn device_name(given: &Given) -> Result<String, ConfigError> {
    let name = given.text()?;
    // The kernel's rule (dev_valid_name), and no % because it numbers names with that.
    let letters = |letter: char| letter.is_ascii_graphic() && !"/:%".contains(letter);
    if name.is_empty() || name == "." || name == ".." || !name.chars().all(letters) {
        return Err(given.wrong(
            "is not a device's name",
            "use letters and digits, like mesh0",
        ));
    }
    if name.len() > DEVICE_NAME_LIMIT {
        return Err(given.wrong("is too long for a device", "use at most 15 letters"));
    }
    Ok(name.to_owned())
}

fn security(given: &Given) -> Result<Security, ConfigError> {
    if let Ok("tun" | "tap" | "none") = given.text() {
        return Err(given.wrong("is the device's mode", "write device.mode, or --mode"));
    }
    if let Ok("sealed") = given.text() {
        return Err(given.wrong("comes in a later version", "choose plain, or wait for it"));
    }
    given.choice(&[("plain", Security::Plain)])
}

fn netid(given: &Given) -> Result<NetId, ConfigError> {
    let netid: NetId = given.parsed("a netid")?;
    if !netid.is_node() {
        return Err(given.wrong(
            "names no single node",
            "choose one from 00000001 to fffffffe",
        ));
    }
    Ok(netid)
}

fn peer(given: &Given) -> Result<PeerAddress, ConfigError> {
    let peer: PeerAddress = given.text()?.parse().map_err(|problem: &str| {
        given.wrong(
            problem,
            "write one like van.example:44204 or [2001:db8::1]:44204",
        )
    })?;
    let unusable =
        |address: SocketAddr| address.ip().is_unspecified() || address.ip().is_multicast();
    if peer.literal().is_some_and(unusable) {
        return Err(given.wrong(
            "is no address of a single machine",
            "give the peer's own address",
        ));
    }
    Ok(peer)
}

fn path(given: &Given) -> Result<PathBuf, ConfigError> {
    match given.text()? {
        "" => Err(given.wrong("is empty", "give a path")),
        path => Ok(path.into()),
    }
}

fn log_filter(given: &Given) -> Result<String, ConfigError> {
    let filter = given.text()?;
    match super::log::check(filter) {
        Ok(()) => Ok(filter.to_owned()),
        Err(_) => Err(given.wrong(
            "is not a filter",
            "write a level (error, warn, info, debug, trace), or levels by module like \
             info,overlay::node=debug",
        )),
    }
}

/// What `floodmesh up --help` says about settings without a flag.
pub fn long_help() -> String {
    let mut help = String::from(
        "Examples:\n  \
         floodmesh up --plain --peer van.example:44204 --address 10.77.0.1/24\n  \
         floodmesh up --plain --mode none --listen 192.0.2.1:44204\n  \
         floodmesh up --name van --config ./van.toml --set timers.dead_after=20\n\n\
         Keys of the file and of --set that have a flag:\n",
    );
    for setting in settings().filter(|setting| setting.default.is_empty()) {
        help += &format!("  {:<17}{}\n", setting.key, setting.meaning);
    }
    help += "\nKeys without a flag:\n";
    for setting in settings().filter(|setting| !setting.default.is_empty()) {
        help += &format!("  {} [default: {}]\n", setting.key, setting.default);
        for line in super::text::wrap(setting.meaning, 70) {
            help += &format!("          {line}\n");
        }
    }
    help += "\nIn the file a dotted key may also stand in its section:\n  \
             mode = \"plain\"\n  peer = [\"van.example:44204\", \"192.0.2.7:44204\"]\n  \
             [device]\n  address = [\"10.77.0.1/24\"]";
    help
}
