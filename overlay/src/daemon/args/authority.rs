//! What was typed behind `ca`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{OwnArgs, UpArgs};

/// What was typed behind `ca`.
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
The authority's private key can stay on a machine that is in no mesh: copy its directory there.

Examples:
  floodmesh ca init                                  at a node of the mesh
  ssh van floodmesh key --json | floodmesh ca sign - > van.cert
  floodmesh ca revoke van && floodmesh ca publish"
)]
pub struct CaArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CaCommand,
}

/// The commands of the authority.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make the authority of a mesh: its key, for its owner alone (mode 0600).
    #[command(after_help = "\
Examples:
  floodmesh ca init
  floodmesh ca init --dir ./authority")]
    Init(OfficeArgs),
    /// Sign a certificate for a node and print it.
    ///
    /// The node's public keys are what floodmesh key prints there, as text or JSON. What is printed is
    /// for the file certificate in the node's state directory.
    #[command(after_help = "\
Examples:
  ssh van floodmesh key --json | floodmesh ca sign - > van.cert
  floodmesh ca sign van.key --name \"van 3\" --prefix 10.80.0.0/24 --days 30")]
    Sign(SignArgs),
    /// Revoke certificates and keys, and write the list that says so.
    ///
    /// A serial revokes that certificate alone; a name or a key revokes the node: its key, and all
    /// its certificates. Nodes learn of it by floodmesh ca publish.
    #[command(after_help = "\
Examples:
  floodmesh ca revoke 7
  floodmesh ca revoke van")]
    Revoke(RevokeArgs),
    /// Give the list of what is revoked to a running node, which floods it.
    #[command(after_help = "\
Examples:
  floodmesh ca publish
  floodmesh ca publish ./revocations.txt
  ssh office floodmesh ca show --revocations | floodmesh ca publish -")]
    Publish(PublishArgs),
    /// List the certificates that were signed.
    #[command(after_help = "\
Examples:
  floodmesh ca list
  floodmesh ca list --json | jq '.certificates[] | select(.state == \"good\")'")]
    List(ListArgs),
    /// Show the authority's public key, as the settings of nodes take it.
    #[command(after_help = "\
Examples:
  floodmesh ca show
  floodmesh ca show --revocations > revocations.txt")]
    Show(ShowArgs),
}

/// Where the authority is.
#[derive(Debug, Clone, Default, Args)]
pub struct OfficeArgs {
    /// The authority's directory [default: authority in the node's state directory].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Take the state directory of the node of this name [default: mesh0].
    #[arg(
        long,
        value_name = "NAME",
        env = "FLOODMESH_NAME",
        hide_env_values = true
    )]
    pub node: Option<String>,
    /// Read that node's settings from this TOML file
    /// [default: /etc/floodmesh/NAME.toml, if it exists].
    #[arg(
        long,
        value_name = "FILE",
        env = "FLOODMESH_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// Take this state directory
    /// [default: /var/lib/floodmesh/NAME, or under XDG_STATE_HOME when not root].
    #[arg(
        long,
        value_name = "DIR",
        env = "FLOODMESH_STATE_DIR",
        hide_env_values = true
    )]
    pub state_dir: Option<PathBuf>,
}

impl OfficeArgs {
    /// The same as settings of `up`.
    pub fn up(&self) -> UpArgs {
        OwnArgs {
            name: self.node.clone(),
            config: self.config.clone(),
            state_dir: self.state_dir.clone(),
        }
        .up()
    }
}

/// What was typed behind `ca sign`.
#[derive(Debug, Clone, Default, Args)]
pub struct SignArgs {
    /// What floodmesh key printed on the node; "-" reads it from standard input.
    #[arg(value_name = "FILE|-")]
    pub keys: PathBuf,
    /// Name of the node, 1 to 32 printable letters [default: that of the node on its machine].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Number of the node in the mesh, 1 to 8 hex digits [default: the one it has].
    #[arg(long, value_name = "HEX")]
    pub netid: Option<String>,
    /// Let the node speak for this network. May be repeated, at most 8.
    #[arg(long, value_name = "CIDR")]
    pub prefix: Vec<String>,
    /// What the node may do: originate, forward, inform, relay, administer, with commas between
    /// [default: originate,forward,inform].
    #[arg(long, value_name = "LIST")]
    pub rights: Option<String>,
    /// How much of its own the node may send to each neighbor: 0 for as much as it likes, 1 for 64 kbit/s,
    /// and each further class, up to 18, for twice as much: 5 for 1 Mbit/s, 11 for 66, 15 for 1050
    /// [default: 0]. Neighbors drop the rest, and count each
    /// link's copy. A node with the right to forward can pass its own off as
    /// others': give a rate class to nodes without that right.
    #[arg(long, value_name = "CLASS", default_value = "0", hide_default_value = true,
          value_parser = clap::value_parser!(u8).range(0..=18))]
    pub rate_class: u8,
    /// Let the certificate be good for DAYS, 1 to 3650 [default: 90].
    #[arg(long, value_name = "DAYS", default_value = "90", hide_default_value = true,
          value_parser = clap::value_parser!(u16).range(1..=3_650))]
    pub days: u16,
    /// Where the authority is.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// What was typed behind `ca revoke`.
#[derive(Debug, Clone, Default, Args)]
pub struct RevokeArgs {
    /// A certificate's serial, a node's name, or its static key of 64 hex digits.
    #[arg(value_name = "SERIAL|NAME|KEY")]
    pub target: String,
    /// Where the authority is.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// What was typed behind `ca publish`.
#[derive(Debug, Clone, Default, Args)]
pub struct PublishArgs {
    /// The list, as ca show --revocations prints it; "-" reads it from standard input
    /// [default: the authority's own].
    #[arg(value_name = "FILE|-")]
    pub list: Option<PathBuf>,
    /// Speak to the node behind this Unix socket, whatever its name.
    #[arg(
        long,
        value_name = "PATH",
        env = "FLOODMESH_CONTROL",
        hide_env_values = true
    )]
    pub control: Option<PathBuf>,
    /// Where the authority is.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// What was typed behind `ca list`.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Where the authority is.
    #[command(flatten)]
    pub office: OfficeArgs,
}

/// What was typed behind `ca show`.
#[derive(Debug, Clone, Default, Args)]
pub struct ShowArgs {
    /// Print the newest list of what is revoked instead, as ca publish takes it.
    #[arg(long, conflicts_with = "json")]
    pub revocations: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Where the authority is.
    #[command(flatten)]
    pub office: OfficeArgs,
}
