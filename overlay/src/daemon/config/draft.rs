//! From single settings to a whole configuration: each judged, then what depends on several.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::super::args::{DeviceMode, LogFormat, OffloadMode};
use super::super::duty::MAX_THREADS;
use super::super::paths::Places;
use super::error::ConfigError;
use super::numbers::{Limits, Storm, Timers};
use super::value::{self, Given, PORT, Peer};
use super::words::{
    DEVICE_NAME_LIMIT, authority, choice_of, device_name, list, log_filter, mesh_name, netid,
    node_name, path, peer, peer_with_mode, security, trusted_key, unknown,
};
use super::{
    Config, Dedupe, Device, Files, Forwarding, HashKind, Links, NAME, OnLoss, Priority, Security,
};
use crate::node::zone::Bridge;
use crate::pump::tx::MAX_BATCH;
use crate::seal::policies::PeerMode;

/// Largest packet of the device by default: with all headers it fits into 1,500 bytes.
const PLAIN_MTU: u32 = 1_400;
/// The same where the seals of link and end-to-end come on top.
pub(in crate::daemon) const SEALED_MTU: u32 = 1_360;
/// The same in Ethernet frames with a VLAN tag, which fit over IPv6 too.
const SEALED_TAP_MTU: u32 = 1_340;
/// The same where what is for all nodes is signed.
const SIGNED_MTU: u32 = 1_296;
/// With frames as well: the least that leaves IPv6 on the device; a tagged frame for all nodes is
/// then one byte too long for 1,500 over IPv6.
const SIGNED_TAP_MTU: u32 = IPV6_MTU;
/// The most that a frame of a sealed datagram holds (SEALED.md S24), less our header, Ethernet's and
/// that of the longest seal between ends.
const SEALED_MTU_LIMIT: u32 = 32_600;
/// Smallest MTU at which the kernel keeps IPv6 on a device (RFC 8200 section 5).
const IPV6_MTU: u32 = 1_280;
/// Sockets of one node, which one thread polls, and addresses of its device.
const FEW: usize = 16;
/// Entries of any other list.
const MANY: usize = 1_024;

/// A configuration in the making: what has a default that depends on others is still open.
pub(super) struct Draft {
    config: Config,
    security: Option<Security>,
    device_name: Option<String>,
    state: Option<PathBuf>,
    control: Option<PathBuf>,
    secret: Option<PathBuf>,
    identity: Option<PathBuf>,
    certificate: Option<PathBuf>,
    mtu: Option<u32>,
    /// The setting that only makes sense with a device, if one was given.
    needs_device: Option<Given>,
    bridge: Option<Given>,
    bridge_cleartext: Option<Given>,
}

impl Default for Draft {
    fn default() -> Self {
        let config = Config {
            name: NAME.to_owned(),
            mesh: "floodmesh".to_owned(),
            security: Security::Plain,
            netid: None,
            trusted: None,
            authority: None,
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
                mtu: PLAIN_MTU,
                offload: OffloadMode::Auto,
                batch: MAX_BATCH as u16,
                threads: None,
                priority: Priority::Realtime,
                on_loss: OnLoss::Keep,
                strict: false,
            },
            signed_broadcast: false,
            bridge: Bridge::Off,
            nice: -15,
            confine: true,
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
                secret: PathBuf::new(),
                identity: PathBuf::new(),
                certificate: PathBuf::new(),
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
            secret: None,
            identity: None,
            certificate: None,
            mtu: None,
            needs_device: None,
            bridge: None,
            bridge_cleartext: None,
        }
    }
}

impl Draft {
    /// Judges one setting and takes it.
    pub(super) fn apply(&mut self, given: &Given) -> Result<(), ConfigError> {
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
            "peer" => links.peers = list(given, MANY, peer_with_mode)?,
            "trust_unproved" => links.trust_unproved = list(given, MANY, peer)?,
            "allow_inform" => {
                let network = |one: &Given| one.parsed::<IpNet>("a network with a prefix length");
                links.allow_inform = list(given, MANY, network)?;
            }
            "degree" => links.degree = given.whole(0, 1_024, "neighbors")? as u16,
            "max_neighbors" => links.max_neighbors = given.whole(1, 1_024, "neighbors")? as u16,
            "signed_broadcast" => {
                self.config.signed_broadcast = given.choice(&[("off", false), ("on", true)])?;
            }
            "bridge" => self.bridge = switched_on(given)?,
            "bridge_cleartext" => self.bridge_cleartext = switched_on(given)?,
            "nice" => self.config.nice = given.signed(-20, 19, "of nice")?,
            "confine" => self.config.confine = given.choice(&[("yes", true), ("no", false)])?,
            "forwarding" => links.forwarding = given.choice(&[("flood", Forwarding::Flood)])?,
            "authority" => self.config.authority = Some(authority(given)?),
            "certificate_file" => self.certificate = Some(path(given)?),
            "trusted_keys" => self.config.trusted = Some(list(given, MANY, trusted_key)?),
            "state_dir" => self.state = Some(path(given)?),
            "control" => self.control = Some(path(given)?),
            "secret_file" => self.secret = Some(path(given)?),
            "identity_file" => self.identity = Some(path(given)?),
            "log" => files.log = log_filter(given)?,
            "log_format" => files.log_format = choice_of(given)?,
            "device.mode" => device.mode = choice_of(given)?,
            "device.offload" => device.offload = choice_of(given)?,
            "device.batch" => {
                device.batch = given.whole(1, MAX_BATCH as u32, "packets")? as u16;
            }
            "device.threads" => {
                device.threads = Some(given.whole(1, MAX_THREADS.into(), "data threads")? as u16);
            }
            "device.priority" => {
                device.priority = given.choice(&[
                    ("realtime", Priority::Realtime),
                    ("normal", Priority::Normal),
                ])?;
            }
            "device.name" => {
                self.device_name = Some(device_name(given)?);
                self.needs_device = Some(given.clone());
            }
            "device.address" => {
                device.addresses = list(given, FEW, value::device_address)?;
                self.needs_device = Some(given.clone());
            }
            "device.mtu" => self.mtu = Some(given.whole(576, 65_000, "bytes")?),
            "device.on_loss" => {
                device.on_loss = given.choice(&[("keep", OnLoss::Keep), ("exit", OnLoss::Exit)])?;
            }
            "device.strict" => {
                device.strict = given.choice(&[("off", false), ("on", true)])?;
                self.needs_device = Some(given.clone());
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
    pub(super) fn finish(self, places: &Places) -> Result<Config, ConfigError> {
        let mut config = self.config;
        let state = self.state.or_else(|| places.state(&config.name));
        let beside = |name| state.as_ref().map(|state| state.join(name));
        let secret = places.credential("secret").or(self.secret);
        let secret = secret.or_else(|| beside("secret"));
        let has_secret = secret
            .as_ref()
            .is_some_and(|path| path.symlink_metadata().is_ok());
        config.security = match self.security {
            Some(security) => security,
            None if has_secret => Security::Sealed,
            None => return Err(no_security(&config.name)),
        };
        config.device.mtu = self.mtu.unwrap_or_else(|| match config.security {
            Security::Plain => PLAIN_MTU,
            Security::Sealed | Security::Prefer => sealed_mtu(&config),
        });
        config.bridge = bridge(config.security, &self.bridge, &self.bridge_cleartext)?;
        judge_modes(config.security, &config.links.peers)?;
        if config.security != Security::Plain && config.device.mtu > SEALED_MTU_LIMIT {
            return Err(ConfigError::conflict(
                format!(
                    "packets of {} bytes do not fit into a sealed datagram",
                    config.device.mtu
                ),
                format!("give --mtu at most {SEALED_MTU_LIMIT}"),
            ));
        }
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
        config.files.identity = places
            .credential("identity")
            .or(self.identity)
            .or_else(|| beside("identity"))
            .unwrap_or_default();
        config.files.certificate = self
            .certificate
            .or_else(|| beside("certificate"))
            .unwrap_or_default();
        config.files.secret = secret.unwrap_or_default();
        config.files.state = match state {
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
        if config.security == Security::Plain && config.trusted.is_some() {
            let text = "trusted_keys are not used: the open protocol has no keys";
            config.warnings.push(text.to_owned());
        }
        if config.security == Security::Plain && has_secret {
            config.warnings.push(format!(
                "the mesh secret {} is not used: in the open protocol everyone who can reach a node \
                 can read, forge and join",
                config.files.secret.display()
            ));
        }
        Ok(config)
    }
}

/// A setting that is on, if it is.
fn switched_on(given: &Given) -> Result<Option<Given>, ConfigError> {
    let is_on = given.choice(&[("off", false), ("on", true)])?;
    Ok(is_on.then(|| given.clone()))
}

/// What goes on between zones, where there are two.
fn bridge(
    security: Security,
    bridge: &Option<Given>,
    cleartext: &Option<Given>,
) -> Result<Bridge, ConfigError> {
    let given = bridge.as_ref().or(cleartext.as_ref());
    if let Some(given) = given.filter(|_| security != Security::Prefer) {
        return Err(given.wrong(
            "has nothing to connect: all links are of one kind",
            "leave it out, or choose mode = \"prefer\"",
        ));
    }
    match (bridge, cleartext) {
        (Some(_), Some(_)) => Ok(Bridge::Clear),
        (Some(_), None) => Ok(Bridge::Sealed),
        (None, Some(given)) => Err(given.wrong(
            "says what the bridge carries, and there is none",
            "write bridge = \"on\" too",
        )),
        (None, None) => Ok(Bridge::Off),
    }
}

/// Whether the node's mode lets each peer have the one of its own.
fn judge_modes(security: Security, peers: &[Peer]) -> Result<(), ConfigError> {
    for (place, peer) in peers.iter().enumerate() {
        let address = &peer.address;
        let others = &peers[..place];
        if others.iter().any(|other| other.address == *address) {
            return Err(ConfigError::conflict(
                format!("the peer {address} is given twice, with two modes"),
                "leave one of them out",
            ));
        }
        let Some(mode) = peer.mode else {
            continue;
        };
        let why = match (security, mode) {
            (Security::Sealed, PeerMode::Plain | PeerMode::Prefer) => "sealed speaks no plain",
            (Security::Plain, PeerMode::Sealed | PeerMode::Prefer) => "plain seals nothing",
            _ => continue,
        };
        let word = mode.name();
        return Err(ConfigError::conflict(
            format!("the peer {address} has mode {word}, and a node in mode {why}"),
            format!("write mode = \"prefer\" for the node, or leave out {word} behind the peer"),
        ));
    }
    Ok(())
}

/// What is allowed but probably not meant.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if !config.confine {
        warnings.push(
            "the process keeps all its privileges while it runs; leave out --no-confine where that \
             is not needed"
                .to_owned(),
        );
    }
    if config.security == Security::Prefer {
        warnings.push(
            "mode prefer is for the days in which a mesh moves from plain to sealed: who keeps sealed \
             datagrams from arriving makes a node that was never sealed here speak plain; write \
             mode = \"sealed\" once `floodmesh neighbors` shows no security none"
                .to_owned(),
        );
    }
    if config.security == Security::Prefer {
        let is_plain = |peer: &&Peer| peer.mode == Some(PeerMode::Plain);
        for peer in config.links.peers.iter().filter(is_plain) {
            warnings.push(format!(
                "the peer {} is spoken to in plain and never asked for more: whoever is on the way \
                 can read, and forge what it says",
                peer.address
            ));
        }
    }
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

pub(super) fn no_security(name: &str) -> ConfigError {
    ConfigError::conflict(
        format!("no mode chosen, and no mesh secret for the node {name}"),
        "floodmesh init makes a mesh, floodmesh join enters one; floodmesh up --plain speaks the open \
         protocol without encryption, in which everyone who can reach a node can read, forge and join",
    )
}

/// The device's usual MTU in a sealed mesh.
fn sealed_mtu(config: &Config) -> u32 {
    match (config.signed_broadcast, config.device.mode) {
        (false, DeviceMode::Tun | DeviceMode::None) => SEALED_MTU,
        (false, DeviceMode::Tap) => SEALED_TAP_MTU,
        (true, DeviceMode::Tun | DeviceMode::None) => SIGNED_MTU,
        (true, DeviceMode::Tap) => SIGNED_TAP_MTU,
    }
}
