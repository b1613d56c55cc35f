//! `floodmesh invite` and `floodmesh key`: what a node passes on of its mesh, and of itself.

use std::process::ExitCode;

use serde::Serialize;
use zeroize::Zeroizing;

use super::args::{InviteArgs, KeyArgs};
use super::client::{print, show};
use super::clock;
use super::config::Config;
use super::error::Failure;
use super::paths::Places;
use super::secrets::membership::Membership;
use super::text;
use crate::seal::invitation::{Invitation, PEERS_LIMIT};
use crate::seal::members::{Trusted, key_text};

/// `floodmesh invite`: prints a token, and on standard error what it is worth.
///
/// # Errors
/// There is no sealed node, or no address that a new one could dial.
pub fn invite(args: &InviteArgs) -> Result<ExitCode, Failure> {
    let config = Config::load(&args.own.up(), &Places::of_this_process())?;
    let membership = Membership::load(&config)?;
    let peers = if args.address.is_empty() {
        usual_addresses(&config)
    } else {
        given_addresses(args)?
    };
    if peers.is_empty() {
        return Err(Failure::misuse(
            "the new node would not know whom to dial",
            "give an address at which it reaches this one: --address HOST:PORT",
        ));
    }
    let invitation = Invitation {
        secret: membership.secret,
        not_after: clock::wall_seconds().saturating_add(u64::from(args.hours) * 3_600),
        mtu: u16::try_from(config.device.mtu).unwrap_or(u16::MAX),
        mesh: config.mesh,
        peers,
    };
    if membership.next.is_some() {
        eprintln!(
            "warning: the mesh is changing its secret, and the token holds the current one alone: the new \
             node has to adopt the next one too, before the others finish (floodmesh rotate prints it here; \
             there: floodmesh rotate --adopt -)"
        );
    }
    let token = invitation.to_text().ok_or_else(|| {
        Failure::misuse(
            "the mesh's name or an address is longer than a token holds",
            format!("give at most {PEERS_LIMIT} addresses of at most 255 letters"),
        )
    })?;
    eprintln!(
        "for {} and these addresses: {}; whoever reads the token is a member: pass it on in secret",
        text::count(args.hours.into(), "hour"),
        invitation.peers.join(" ")
    );
    let mut line = Zeroizing::new(String::with_capacity(token.len() + 1));
    line.push_str(&token);
    line.push('\n');
    print(&line)?;
    Ok(ExitCode::SUCCESS)
}

/// The single addresses that the node listens on, then its peers.
fn usual_addresses(config: &Config) -> Vec<String> {
    let listen = config.links.listen.iter();
    let own = listen
        .filter(|local| !local.ip().is_unspecified() && !local.ip().is_loopback())
        // A port that the system chooses is another one at the next start.
        .filter(|local| local.port() != 0)
        .map(ToString::to_string);
    let peers = config.links.peers.iter();
    let peers = peers.map(|peer| peer.address.to_string());
    own.chain(peers).take(PEERS_LIMIT).collect()
}

/// The addresses that were typed, judged like peers.
fn given_addresses(args: &InviteArgs) -> Result<Vec<String>, Failure> {
    if args.address.len() > PEERS_LIMIT {
        return Err(Failure::misuse(
            format!("a token has no room for {} addresses", args.address.len()),
            format!("give at most {PEERS_LIMIT}"),
        ));
    }
    Ok(super::config::addresses("--address", &args.address)?
        .iter()
        .map(ToString::to_string)
        .collect())
}

/// What `key --json` prints. Stable: scripts read it.
#[derive(Serialize)]
struct KeyReport {
    netid: String,
    mesh: String,
    /// S, the key that handshakes prove (X25519), in hex.
    static_key: String,
    /// V, the key that signatures are verified with (Ed25519), in hex.
    signing_key: String,
    /// What other nodes take as an entry of `trusted_keys`.
    trusted_key: String,
}

/// `floodmesh key`: this node's public keys and its netid.
///
/// # Errors
/// There is no sealed node.
pub fn key(args: &KeyArgs) -> Result<ExitCode, Failure> {
    let config = Config::load(&args.own.up(), &Places::of_this_process())?;
    let membership = Membership::load(&config)?;
    let trusted = Trusted {
        netid: Some(membership.netid(&config)),
        static_key: *membership.identity.public(),
        name: config.name.clone(),
    };
    let report = KeyReport {
        netid: membership.netid(&config).to_string(),
        static_key: key_text(membership.identity.public()),
        signing_key: key_text(&membership.identity.signing_public()),
        trusted_key: trusted.to_string(),
        mesh: config.mesh,
    };
    let shown = show(args.json, &report, |report| {
        format!(
            "netid        {}\nmesh         {}\nstatic key   {}\nsigning key  {}\n\
             For the settings of nodes that let in listed keys alone:\n\
             trusted_keys = [\"{}\"]\n",
            report.netid,
            text::printable(&report.mesh),
            report.static_key,
            report.signing_key,
            report.trusted_key
        )
    });
    print(&shown)?;
    Ok(ExitCode::SUCCESS)
}
