//! What was typed, exactly: no defaults, no meaning. [`super::config`] says what it means.
//!
//! The texts here are the help that users read and are part of the contract with scripts; the
//! snapshots in `tests/cli` hold them still. Values stay text, so that a flag, a line of the file
//! and a `--set` go through the same judgement and get the same errors.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::id::NetId;

mod authority;
mod keys;

pub use authority::{
    CaArgs, CaCommand, ListArgs, OfficeArgs, PublishArgs, RevokeArgs, ShowArgs, SignArgs,
};
pub use keys::{
    ForgetArgs, InitArgs, InviteArgs, JoinArgs, KeyArgs, OwnArgs, RotateArgs, SetupArgs,
    TokenArgument,
};

/// A mesh VPN daemon that floods: every packet takes every path, the first copy wins.
///
/// A link or a relaying node can die in mid-stream and not one packet is lost, as long as one other
/// path is left. There is no server and no routing protocol that has to converge.
#[derive(Debug, Parser)]
#[command(
    name = "floodmesh",
    version,
    term_width = 80,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  floodmesh init                           make a mesh and its first node
  floodmesh up                             start the node
  floodmesh invite --address van.example   print a token for another node
  floodmesh join -                         make a node with the token pasted
  floodmesh status                         how the node is doing
  floodmesh ping 0000002a                  is that node there, and how far

Exit codes: 0 ended as asked, 1 failed at work, 2 asked for what cannot be."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a mesh: its secret, the keys of this node, and the node's settings.
    ///
    /// Whoever has the secret is a member. Secret and keys are for their owner alone (mode 0600);
    /// nothing is overwritten.
    Init(InitArgs),
    /// Make a node of another's mesh with a token that invite printed.
    ///
    /// The token brings the mesh secret, the mesh's name, and addresses to dial; the keys of this node
    /// are its own. Nothing is overwritten.
    Join(JoinArgs),
    /// Print a token with which another node joins the mesh.
    ///
    /// The token is the only line on standard output. It holds the mesh secret: whoever has read it is
    /// a member, also after its time, which only keeps an old token from being used by mistake.
    Invite(InviteArgs),
    /// Show the public keys of this node, and its netid.
    Key(KeyArgs),
    /// Forget the key of another node, which has a new one.
    ///
    /// A node remembers the first key that comes under a netid and refuses every other one, since that
    /// may be somebody else. Forget the first, and the next key that comes is remembered. Works on
    /// the running node, or on its files while it does not run.
    Forget(ForgetArgs),
    /// Change the mesh secret while the mesh runs.
    ///
    /// Makes the next secret, or finds it made, and prints it in one line for the other nodes: they
    /// adopt it. A node with both answers to either, and its links move to the next one by themselves.
    /// When status says on each node that all neighbors use it, end the change on each node. The
    /// running node takes it up at once. Whoever has only the old secret is out then.
    Rotate(RotateArgs),
    /// Be the authority of a mesh: sign and revoke certificates of nodes.
    ///
    /// With an authority, knowing the mesh secret is not enough: a node comes up with a certificate, for
    /// one netid and one key, until its end or until it is revoked.
    Ca(CaArgs),
    /// Have the running node read again what may change: secrets, certificate, authority, trusted_keys,
    /// modes of peers.
    ///
    /// What is wrong changes nothing, and is said here. Links of keys that are no longer let in end at
    /// once; a new certificate is shown in the next handshakes, within two minutes. All other settings
    /// wait for the next start. A confined node reads what lies below /etc and in its state directory;
    /// elsewhere only files that were there when it started, so change those in place.
    #[command(after_help = QUERY_EXAMPLES_RELOAD)]
    Reload(QueryArgs),
    /// Start a node and stay in the foreground.
    ///
    /// Logs go to stderr. One line says when the node is ready: its netid, device, addresses and
    /// sockets. SIGTERM or SIGINT ends it within 2 seconds, after saying goodbye to the mesh.
    ///
    /// What a flag says wins over --set, that over the environment, that over the file. A list given
    /// in one place replaces the whole list of the weaker place.
    Up(Box<UpArgs>),
    /// Show how the running node is doing: device, sockets, neighbors, traffic, alarms.
    #[command(after_help = QUERY_EXAMPLES_STATUS)]
    Status(QueryArgs),
    /// List the neighbors and their links, and why some are not up.
    #[command(after_help = QUERY_EXAMPLES_NEIGHBORS)]
    Neighbors(QueryArgs),
    /// List the other nodes of the mesh and the addresses they claim.
    #[command(after_help = QUERY_EXAMPLES_NODES)]
    Nodes(QueryArgs),
    /// Show what was counted: totals, and drops by reason.
    #[command(after_help = QUERY_EXAMPLES_COUNTERS)]
    Counters(QueryArgs),
    /// Ask a node of the mesh for an answer and show round-trip times.
    ///
    /// Each answer also says over how many last hops copies of it arrived, which is how many ways lead
    /// back from there. Ends with code 1 when nothing answered.
    Ping(PingArgs),
    /// Say in words what a datagram is.
    ///
    /// All arguments together are one datagram. Spaces, colons and a leading 0x of an argument are
    /// skipped, so that what other tools print can be pasted.
    Decode(DecodeArgs),
    /// Build a whole mesh on this machine, cut a link under traffic, count losses.
    ///
    /// Every node is a real daemon with a real device in a network namespace of its own. The nodes
    /// ping each other, then one link is cut while a stream runs over it, and the packets lost are
    /// reported. Everything is removed at the end. Needs root, or user namespaces.
    Lab(LabArgs),
}

const QUERY_EXAMPLES_RELOAD: &str = "\
Examples:
  floodmesh reload
  floodmesh reload --name van --json";
const QUERY_EXAMPLES_STATUS: &str = "\
Examples:
  floodmesh status
  floodmesh status --name van --json";
const QUERY_EXAMPLES_NEIGHBORS: &str = "\
Examples:
  floodmesh neighbors
  floodmesh neighbors --json | jq '.neighbors[].netid'";
const QUERY_EXAMPLES_NODES: &str = "\
Examples:
  floodmesh nodes
  floodmesh nodes --json | jq '.nodes[].addresses'";
const QUERY_EXAMPLES_COUNTERS: &str = "\
Without --json, drops that never happened are left out.

Examples:
  floodmesh counters
  floodmesh counters --json | jq '.drops[] | select(.value > 0)'";

/// What was typed behind `up`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  floodmesh up --plain --peer van.example:44204 --address 10.77.0.1/24
  floodmesh up --plain --mode none --listen 192.0.2.1:44204
  floodmesh up --name van --config ./van.toml --set timers.dead_after=20",
after_long_help = super::config::long_help())]
pub struct UpArgs {
    /// Read settings from this TOML file [default: /etc/floodmesh/NAME.toml, if it exists].
    #[arg(
        long,
        value_name = "FILE",
        env = "FLOODMESH_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// Name of this node on this machine: in its files, its control socket and its device
    /// [default: mesh0].
    #[arg(
        long,
        value_name = "NAME",
        env = "FLOODMESH_NAME",
        hide_env_values = true
    )]
    pub name: Option<String>,
    /// Speak the open protocol: unencrypted, and open to everyone who can reach a node. It has to
    /// be written out [default: sealed, with the keys that init or join made].
    #[arg(long)]
    pub plain: bool,
    /// Number of this node in the mesh, 1 to 8 hex digits; with --plain kept for the next start
    /// [default: sealed: follows from its key; plain: that of the last start, or a random one].
    #[arg(
        long,
        value_name = "HEX",
        env = "FLOODMESH_NETID",
        hide_env_values = true
    )]
    pub netid: Option<String>,
    /// Listen on this address; port 0 takes any free port. May be repeated
    /// [default: port 44204 of all addresses, IPv4 and IPv6].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<String>,
    /// Dial this address and keep dialing it; without a port, 44204. May be repeated. In mode prefer,
    /// "HOST:PORT sealed" is never spoken to in plain, and "HOST:PORT plain" in nothing else.
    #[arg(long, value_name = "HOST:PORT")]
    pub peer: Vec<String>,
    /// What the device carries: IP packets (tun), Ethernet frames (tap), or no device at all: a
    /// pure relay that needs no root (none) [default: tun].
    #[arg(long, value_name = "MODE", hide_possible_values = true)]
    pub mode: Option<DeviceMode>,
    /// Move many packets of a flow with one system call, at the device and at the sockets: where
    /// the kernel can (auto), or not at all without (on), or never (off) [default: auto].
    #[arg(long, value_name = "WHEN", hide_possible_values = true)]
    pub offload: Option<OffloadMode>,
    /// Handle at most this many packets in one round of system calls, 1 to 256; smaller is slower
    /// [default: 256, as many as there is room for].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub batch: Option<String>,
    /// Move packets with this many data threads, 1 to 16: one for everything, one for each way, or
    /// one for the way in and the others for the flows that start here [default: 2 from 4
    /// processors on, else 1].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<String>,
    /// Name of the device [default: the node's name].
    #[arg(long, value_name = "NAME")]
    pub dev: Option<String>,
    /// Give the device this address with its prefix length, besides the IPv6 address that follows
    /// from mesh and netid. May be repeated.
    #[arg(long, value_name = "CIDR")]
    pub address: Vec<String>,
    /// Largest packet of the device, 576 to 65000 bytes; the same on all nodes
    /// [default: 1360, plain 1400].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub mtu: Option<String>,
    /// Name of the mesh, the same on all nodes; addresses follow from it [default: floodmesh].
    #[arg(
        long,
        value_name = "NAME",
        env = "FLOODMESH_MESH",
        hide_env_values = true
    )]
    pub mesh: Option<String>,
    /// Keep netid and known neighbors in this directory
    /// [default: /var/lib/floodmesh/NAME, or under XDG_STATE_HOME when not root].
    #[arg(
        long,
        value_name = "DIR",
        env = "FLOODMESH_STATE_DIR",
        hide_env_values = true
    )]
    pub state_dir: Option<PathBuf>,
    /// Answer status and ping on this Unix socket
    /// [default: /run/floodmesh/NAME.sock, or under XDG_RUNTIME_DIR when not root].
    #[arg(
        long,
        value_name = "PATH",
        env = "FLOODMESH_CONTROL",
        hide_env_values = true
    )]
    pub control: Option<PathBuf>,
    /// Keep all privileges while running. Without this a node that is up keeps only what it needs:
    /// `status` says what. For finding out whether that is what a failure comes from.
    #[arg(long)]
    pub no_confine: bool,
    /// What to log: error, warn, info, debug or trace, also by module, as in
    /// "info,overlay::node=debug" [default: info].
    #[arg(
        long,
        value_name = "FILTER",
        env = "FLOODMESH_LOG",
        hide_env_values = true
    )]
    pub log: Option<String>,
    /// How to log: lines for people (text), or one JSON object a line (json) [default: text].
    #[arg(
        long,
        value_name = "FORMAT",
        env = "FLOODMESH_LOG_FORMAT",
        hide_env_values = true,
        hide_possible_values = true
    )]
    pub log_format: Option<LogFormat>,
    /// Dial nodes that neighbors tell of while fewer than N neighbors are live; accept up to twice
    /// as many. Configured peers come on top. 0 to 1024 [default: 6].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub degree: Option<String>,
    /// Hold at most N live neighbors, 1 to 1024 [default: 256].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_neighbors: Option<String>,
    /// Believe neighbors that tell of nodes in this private network, though this node is not in
    /// it itself. May be repeated.
    #[arg(long, value_name = "CIDR")]
    pub allow_inform: Vec<String>,
    /// Treat this peer as live although it answers neither Ping nor challenge. Only for an address
    /// that is surely its own: all traffic is sent there. May be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    pub trust_unproved: Vec<String>,
    /// Set anything that the file can set. May be repeated; --help lists the keys.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Which of the above came from the environment, by field name.
    #[arg(skip)]
    pub from_environment: Vec<String>,
}

/// Which running node a command speaks to.
#[derive(Debug, Clone, Default, Args)]
pub struct NodeArgs {
    /// Speak to the node of this name [default: mesh0].
    #[arg(
        long,
        value_name = "NAME",
        env = "FLOODMESH_NAME",
        hide_env_values = true
    )]
    pub name: Option<String>,
    /// Speak to the node behind this Unix socket, whatever its name.
    #[arg(
        long,
        value_name = "PATH",
        env = "FLOODMESH_CONTROL",
        hide_env_values = true
    )]
    pub control: Option<PathBuf>,
}

/// A question to the running node.
#[derive(Debug, Clone, Default, Args)]
pub struct QueryArgs {
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What was typed behind `ping`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  floodmesh ping 2a            the node with netid 0000002a
  floodmesh ping 10.77.0.2     the node that claims this address
  floodmesh ping all -c 1      every node once")]
pub struct PingArgs {
    /// A netid (1 to 8 hex digits), an address inside the mesh, or "all" for every node.
    #[arg(value_name = "NETID|ADDRESS")]
    pub target: PingTarget,
    /// Ask COUNT times, 1 to 100000 [default: 4].
    #[arg(short = 'c', value_name = "COUNT", default_value = "4", hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: u32,
    /// Wait SECONDS between two questions, 0.02 to 3600 [default: 1].
    #[arg(short = 'i', value_name = "SECONDS", default_value = "1", hide_default_value = true,
          value_parser = interval)]
    pub interval: f64,
    /// Print JSON, one object a line: each answer, and a summary at the end.
    #[arg(long)]
    pub json: bool,
    /// Which node asks.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// What was typed behind `decode`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  floodmesh decode ac010300 0a0b0c0d 0000002a 00000007
  floodmesh decode ac:01:01:80:01:02:03:04:00:00:00:2a:00:00:00:00
  xxd -p datagram.bin | floodmesh decode -")]
pub struct DecodeArgs {
    /// The datagram in hex; "-" reads it from standard input.
    #[arg(value_name = "HEX", required = true)]
    pub hex: Vec<String>,
}

/// What was typed behind `lab`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  floodmesh lab
  floodmesh lab --nodes 8 --topology ring --mode tap
  floodmesh lab --topology diamond --keep")]
pub struct LabArgs {
    /// Number of nodes, 2 to 64 [default: 4].
    #[arg(long, value_name = "N", default_value = "4", hide_default_value = true,
          value_parser = clap::value_parser!(u16).range(2..=64))]
    pub nodes: u16,
    /// How the nodes are connected [default: diamond].
    #[arg(long, default_value = "diamond", hide_default_value = true)]
    pub topology: Topology,
    /// What the devices carry: IP packets or Ethernet frames [default: tun].
    #[arg(long, default_value = "tun", hide_default_value = true)]
    pub mode: LabMode,
    /// Leave the mesh running and say how to use and remove it.
    #[arg(long)]
    pub keep: bool,
    /// Print one JSON object; the steps go to standard error.
    #[arg(long)]
    pub json: bool,
}

/// What the device carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceMode {
    /// IP packets.
    #[default]
    Tun,
    /// Ethernet frames.
    Tap,
    /// Nothing: a pure relay.
    None,
}

/// When to move many packets with one system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OffloadMode {
    /// Where the kernel can.
    #[default]
    Auto,
    /// Or end.
    On,
    /// Never.
    Off,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How a lab's nodes are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Topology {
    /// Each with the next.
    Line,
    /// A line whose ends are connected.
    Ring,
    /// Four nodes: two ends, and two ways between them.
    Diamond,
    /// Each with each.
    Mesh,
    /// All with the first.
    Star,
}

/// What the devices of a lab carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabMode {
    /// IP packets.
    Tun,
    /// Ethernet frames.
    Tap,
}

/// Whom a ping asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingTarget {
    /// One node by its number, or [`NetId::ALL`].
    NetId(NetId),
    /// The node that holds this address.
    Address(IpAddr),
}

impl FromStr for PingTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::NetId(NetId::ALL));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        match text.parse() {
            Ok(NetId::ANY) => Err("netid 0 names no node; \"all\" asks every node".into()),
            Ok(netid) => Ok(Self::NetId(netid)),
            Err(_) => {
                Err("neither a netid (1 to 8 hex digits), nor an IP address, nor \"all\"".into())
            }
        }
    }
}

impl std::fmt::Display for PingTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NetId(NetId::ALL) => f.write_str("all"),
            Self::NetId(netid) => netid.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// What clap has to say: help and version that were asked for, or what was wrong.
pub fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Command, clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    let mut command = Cli::from_arg_matches(&matches)?.command;
    if let (Command::Up(up), Some((_, given))) = (&mut command, matches.subcommand()) {
        up.from_environment = given
            .ids()
            .filter(|id| given.value_source(id.as_str()) == Some(ValueSource::EnvVariable))
            .map(|id| id.as_str().to_owned())
            .collect();
    }
    Ok(command)
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.02..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.02 to 3600 is needed".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_ping_target_is_an_address_a_netid_or_all() {
        assert_eq!("2a".parse(), Ok(PingTarget::NetId(NetId(0x2a))));
        assert_eq!("0x2A".parse(), Ok(PingTarget::NetId(NetId(0x2a))));
        assert_eq!("all".parse(), Ok(PingTarget::NetId(NetId::ALL)));
        assert_eq!("ffffffff".parse(), Ok(PingTarget::NetId(NetId::ALL)));
        assert_eq!(
            "10.77.0.2".parse(),
            Ok(PingTarget::Address([10, 77, 0, 2].into()))
        );
        assert_eq!("::1".parse(), Ok(PingTarget::Address(IpAddr::V6(1.into()))));
        assert!("0".parse::<PingTarget>().is_err());
        assert!("van".parse::<PingTarget>().is_err());
    }

    #[test]
    fn what_a_target_prints_can_be_typed_back() {
        for text in ["0000002a", "all", "10.77.0.2", "fd00::2a"] {
            assert_eq!(text.parse::<PingTarget>().unwrap().to_string(), text);
        }
    }
}
