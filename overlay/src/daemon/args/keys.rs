//! What was typed behind the commands that make, show and pass on keys.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use zeroize::Zeroizing;

use super::{DeviceMode, UpArgs};

/// What a node is set up with; the same for the first and for all that join.
#[derive(Debug, Clone, Default, Args)]
pub struct SetupArgs {
    /// Name of this node on this machine: in its files, its control socket and its device
    /// [default: mesh0].
    #[arg(
        long,
        value_name = "NAME",
        env = "FLOODMESH_NAME",
        hide_env_values = true
    )]
    pub name: Option<String>,
    /// Write the settings to this TOML file [default: /etc/floodmesh/NAME.toml].
    #[arg(
        long,
        value_name = "FILE",
        env = "FLOODMESH_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// Keep keys and state in this directory
    /// [default: /var/lib/floodmesh/NAME, or under XDG_STATE_HOME when not root].
    #[arg(
        long,
        value_name = "DIR",
        env = "FLOODMESH_STATE_DIR",
        hide_env_values = true
    )]
    pub state_dir: Option<PathBuf>,
    /// Number of this node in the mesh, 1 to 8 hex digits [default: follows from its key].
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
    /// What the device carries: IP packets (tun), Ethernet frames (tap), or no device at all: a
    /// pure relay that needs no root (none) [default: tun].
    #[arg(long, value_name = "MODE", hide_possible_values = true)]
    pub mode: Option<DeviceMode>,
    /// Name of the device [default: the node's name].
    #[arg(long, value_name = "NAME")]
    pub dev: Option<String>,
    /// Give the device this address with its prefix length, besides the IPv6 address that follows
    /// from mesh and netid. May be repeated.
    #[arg(long, value_name = "CIDR")]
    pub address: Vec<String>,
}

impl SetupArgs {
    /// The same as settings of `up`, in sealed mode.
    pub fn up(&self) -> UpArgs {
        UpArgs {
            name: self.name.clone(),
            state_dir: self.state_dir.clone(),
            netid: self.netid.clone(),
            listen: self.listen.clone(),
            mode: self.mode,
            dev: self.dev.clone(),
            address: self.address.clone(),
            set: vec!["mode=sealed".to_owned()],
            control: no_control(),
            ..UpArgs::default()
        }
    }
}

/// What was typed behind `init`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  floodmesh init --address 10.77.0.1/24
  floodmesh init --name van --mesh convoy --listen 192.0.2.1:44204")]
pub struct InitArgs {
    /// What the node is set up with.
    #[command(flatten)]
    pub setup: SetupArgs,
    /// Name of the mesh; addresses follow from it [default: floodmesh].
    #[arg(
        long,
        value_name = "NAME",
        env = "FLOODMESH_MESH",
        hide_env_values = true
    )]
    pub mesh: Option<String>,
    /// Dial this address and keep dialing it; without a port, 44204. May be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    pub peer: Vec<String>,
    /// Largest packet of the device, 576 to 65000 bytes, for all nodes of the mesh
    /// [default: 1360].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub mtu: Option<String>,
}

/// What was typed behind `join`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  floodmesh join - --address 10.77.0.2/24          then paste the token
  ssh van floodmesh invite | floodmesh join -
  floodmesh join --file token.txt --name truck")]
pub struct JoinArgs {
    /// The token that invite printed; "-" reads it from standard input. Typed here it shows in ps
    /// and stays in the shell's history.
    #[arg(
        value_name = "TOKEN|-",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    pub token: Option<TokenArgument>,
    /// Read the token from this file, which must have mode 0600.
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// What the node is set up with.
    #[command(flatten)]
    pub setup: SetupArgs,
}

/// What was typed behind `invite`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  floodmesh invite --address van.example
  floodmesh invite --address 192.0.2.1 --address [2001:db8::1]:44204 --for 2
  floodmesh invite --address van.example | ssh truck floodmesh join -")]
pub struct InviteArgs {
    /// Let the token be used for HOURS, 1 to 8760 [default: 24].
    #[arg(long = "for", value_name = "HOURS", default_value = "24", hide_default_value = true,
          value_parser = clap::value_parser!(u16).range(1..=8_760))]
    pub hours: u16,
    /// Where the new node reaches this one, or another of the mesh; without a port, 44204. May be
    /// repeated, at most 16 [default: the single addresses that this node listens on, and its
    /// peers].
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Vec<String>,
    /// Which node invites.
    #[command(flatten)]
    pub own: OwnArgs,
}

/// What was typed behind `key`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  floodmesh key
  floodmesh key --json | ssh office floodmesh ca sign - > van.cert")]
pub struct KeyArgs {
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Which node.
    #[command(flatten)]
    pub own: OwnArgs,
}

/// What was typed behind `forget`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  floodmesh forget 2a
  floodmesh forget van --name convoy")]
pub struct ForgetArgs {
    /// Whose key: a netid (1 to 8 hex digits), a name in trusted_keys, or the key itself.
    #[arg(value_name = "NETID|NAME")]
    pub target: String,
    /// Speak to the node behind this Unix socket, whatever its name.
    #[arg(
        long,
        value_name = "PATH",
        env = "FLOODMESH_CONTROL",
        hide_env_values = true
    )]
    pub control: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Which node.
    #[command(flatten)]
    pub own: OwnArgs,
}

/// What was typed behind `rotate`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  floodmesh rotate                              makes the next secret, prints it
  ssh van floodmesh rotate | floodmesh rotate --adopt -
  floodmesh status                              how many neighbors use it
  floodmesh rotate --finish                     on each node, when all do
  floodmesh rotate --cancel                     nobody uses it yet: takes it back")]
pub struct RotateArgs {
    /// Take the next secret, which rotate printed on another node, from this file, which must have
    /// mode 0600; "-" reads it from standard input.
    #[arg(long, value_name = "PATH|-", conflicts_with = "finish")]
    pub adopt: Option<PathBuf>,
    /// End the change: the next secret takes the place of the current one, which is gone then.
    #[arg(long)]
    pub finish: bool,
    /// Take the change back: the next secret is removed, and the current one stays. Only while no
    /// neighbor uses the next one.
    #[arg(long, conflicts_with_all = ["finish", "adopt"])]
    pub cancel: bool,
    /// With --finish: also while neighbors do not use the next secret. They are out then, until they
    /// have adopted it. With --cancel: also while neighbors use it. They go back to the current one,
    /// as long as none of them has ended the change.
    #[arg(long)]
    pub force: bool,
    /// Speak to the node behind this Unix socket, whatever its name.
    #[arg(
        long,
        value_name = "PATH",
        env = "FLOODMESH_CONTROL",
        hide_env_values = true
    )]
    pub control: Option<PathBuf>,
    /// Which node.
    #[command(flatten)]
    pub own: OwnArgs,
}

/// Which node's files a command reads.
#[derive(Debug, Clone, Default, Args)]
pub struct OwnArgs {
    /// Read the keys of the node of this name [default: mesh0].
    #[arg(
        long,
        value_name = "NAME",
        env = "FLOODMESH_NAME",
        hide_env_values = true
    )]
    pub name: Option<String>,
    /// Read its settings from this TOML file [default: /etc/floodmesh/NAME.toml, if it exists].
    #[arg(
        long,
        value_name = "FILE",
        env = "FLOODMESH_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// Look for keys in this directory
    /// [default: /var/lib/floodmesh/NAME, or under XDG_STATE_HOME when not root].
    #[arg(
        long,
        value_name = "DIR",
        env = "FLOODMESH_STATE_DIR",
        hide_env_values = true
    )]
    pub state_dir: Option<PathBuf>,
}

impl OwnArgs {
    /// The same as settings of `up`.
    pub fn up(&self) -> UpArgs {
        UpArgs {
            name: self.name.clone(),
            config: self.config.clone(),
            state_dir: self.state_dir.clone(),
            control: no_control(),
            ..UpArgs::default()
        }
    }
}

/// A place for the control socket of a node that is not started: that there is none where it
/// usually is, is no reason to refuse.
fn no_control() -> Option<PathBuf> {
    Some(PathBuf::from("/dev/null"))
}

/// A token as it was typed: wiped when dropped, and shown by nothing.
#[derive(Clone)]
pub struct TokenArgument(Zeroizing<String>);

impl TokenArgument {
    /// The token, or `-`.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenArgument {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for TokenArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenArgument(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};

    #[test]
    fn a_typed_token_is_not_shown() {
        let command = parse(["floodmesh", "join", "mi1-hush"]).unwrap();
        let Command::Join(join) = &command else {
            panic!("not join");
        };
        assert_eq!(join.token.as_ref().unwrap().text(), "mi1-hush");
        assert!(!format!("{command:?}").contains("hush"));
    }
}
