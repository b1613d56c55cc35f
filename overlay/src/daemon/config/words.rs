//! Settings that are words: how each is read and what is wrong with it otherwise.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;

use super::super::log;
use super::Security;
use super::error::ConfigError;
use super::settings::settings;
use super::value::{self, Given, Origin, Peer, PeerAddress, Value};
use crate::id::NetId;
use crate::seal::armor::Armor;
use crate::seal::identity::is_weak_signing;
use crate::seal::members::Trusted;

/// Bytes of a network interface's name: IFNAMSIZ without its zero.
pub(super) const DEVICE_NAME_LIMIT: usize = 15;

/// One of the choices that the flag of the same meaning has.
pub(super) fn choice_of<T: ValueEnum + Copy>(given: &Given) -> Result<T, ConfigError> {
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

pub(super) fn unknown(given: &Given) -> Result<(), ConfigError> {
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

pub(super) fn list<T: PartialEq>(
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
pub(super) fn node_name(given: &Given) -> Result<String, ConfigError> {
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

pub(super) fn mesh_name(given: &Given) -> Result<String, ConfigError> {
    let name = given.text()?;
    if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
        return Err(given.wrong("is not a name", "use 1 to 64 printable characters"));
    }
    Ok(name.to_owned())
}

pub(super) fn device_name(given: &Given) -> Result<String, ConfigError> {
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

pub(super) fn security(given: &Given) -> Result<Security, ConfigError> {
    if let Ok("tun" | "tap" | "none") = given.text() {
        return Err(given.wrong("is the device's mode", "write device.mode, or --mode"));
    }
    given.choice(&[
        ("sealed", Security::Sealed),
        ("prefer", Security::Prefer),
        ("plain", Security::Plain),
    ])
}

pub(super) fn netid(given: &Given) -> Result<NetId, ConfigError> {
    let netid: NetId = given.parsed("a netid")?;
    if !netid.is_node() {
        return Err(given.wrong(
            "names no single node",
            "choose one from 00000001 to fffffffe",
        ));
    }
    Ok(netid)
}

pub(super) fn peer(given: &Given) -> Result<PeerAddress, ConfigError> {
    let peer: PeerAddress = given.text()?.parse().map_err(|problem: &str| {
        given.wrong(
            problem,
            "write one like van.example:44204 or [2001:db8::1]:44204",
        )
    })?;
    of_one_machine(given, peer)
}

/// A peer that may have a mode of its own.
pub(super) fn peer_with_mode(given: &Given) -> Result<Peer, ConfigError> {
    let peer: Peer = given.text()?.parse().map_err(|problem: &str| {
        given.wrong(
            problem,
            "write one like van.example:44204 or [2001:db8::1]:44204, in mode prefer also \
             \"van.example:44204 sealed\"",
        )
    })?;
    let address = of_one_machine(given, peer.address)?;
    Ok(Peer { address, ..peer })
}

fn of_one_machine(given: &Given, peer: PeerAddress) -> Result<PeerAddress, ConfigError> {
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

/// Addresses to dial that were given with a flag of no setting.
pub(in crate::daemon) fn addresses(
    flag: &str,
    texts: &[String],
) -> Result<Vec<PeerAddress>, ConfigError> {
    let given = Given {
        key: String::new(),
        value: Value::List(texts.iter().cloned().map(Value::Word).collect()),
        origin: Origin::Flag(flag.to_owned()),
    };
    list(&given, texts.len(), peer)
}

/// The mesh authority's public key.
pub(super) fn authority(given: &Given) -> Result<[u8; 32], ConfigError> {
    let key = Armor::Authority.decode(given.text()?);
    let key = key.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    key.filter(|key| !is_weak_signing(key)).ok_or_else(|| {
        given.wrong(
            "is no authority's key",
            "copy the whole text that floodmesh ca show prints",
        )
    })
}

/// An entry of `trusted_keys`.
pub(super) fn trusted_key(given: &Given) -> Result<Trusted, ConfigError> {
    given.text()?.parse().map_err(|problem: &str| {
        given.wrong(
            problem,
            "paste what floodmesh key prints on that node: a netid, a key of 64 hex digits, a name",
        )
    })
}

pub(super) fn path(given: &Given) -> Result<PathBuf, ConfigError> {
    match given.text()? {
        "" => Err(given.wrong("is empty", "give a path")),
        path => Ok(path.into()),
    }
}

pub(super) fn log_filter(given: &Given) -> Result<String, ConfigError> {
    let filter = given.text()?;
    match log::check(filter) {
        Ok(()) => Ok(filter.to_owned()),
        Err(_) => Err(given.wrong(
            "is not a filter",
            "write a level (error, warn, info, debug, trace), or levels by module like \
             info,overlay::node=debug",
        )),
    }
}
