//! One setting as it was given, and how its text becomes a typed value.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;

use super::error::ConfigError;
use crate::seal::policies::PeerMode;

/// The UDP port of the protocol, 0xACAC.
pub const PORT: u16 = 44_204;

/// Where a setting was given; later ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The file, at this line (from 1).
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// `--set`.
    Set,
    /// The flag of this name, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// A value, as typed as its place allows.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// From the command line or the environment: the key decides what it is.
    Word(String),
    /// Text in quotes.
    Text(String),
    /// A number.
    Number(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A list.
    List(Vec<Self>),
    /// TOML that no key takes, such as a date.
    Other(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) if word.is_empty() => f.write_str("\"\""),
            Self::Word(text) | Self::Other(text) => f.write_str(text),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Number(number) => number.fmt(f),
            Self::Bool(yes) => yes.fmt(f),
            Self::List(values) => {
                f.write_str("[")?;
                for (place, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if place > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// One setting as it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// The dotted key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Where it stands.
    pub origin: Origin,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, origin } = self;
        match origin {
            Origin::File { .. } => write!(f, "{origin}: {key} = {value}"),
            Origin::Environment(name) => write!(f, "{name}={value}"),
            Origin::Set => write!(f, "--set {key}={value}"),
            Origin::Flag(flag) => write!(f, "{flag} {value}"),
        }
    }
}

impl Given {
    /// The value as text.
    ///
    /// # Errors
    /// It is a number, a list, or something else that is not text.
    pub fn text(&self) -> Result<&str, ConfigError> {
        match &self.value {
            Value::Word(text) | Value::Text(text) => Ok(text),
            other => Err(self.wrong("is not text", format!("write it in quotes: \"{other}\""))),
        }
    }

    /// The value as a list of settings; a single text is a list of one.
    ///
    /// # Errors
    /// There are more than `most`, or one of them is not text.
    pub fn texts(&self, most: usize) -> Result<Vec<Self>, ConfigError> {
        let one = std::slice::from_ref(&self.value);
        let values = match &self.value {
            Value::List(values) => values,
            _ => one,
        };
        if values.len() > most {
            let problem = format!("has {} entries", values.len());
            return Err(self.wrong(problem, format!("give at most {most}")));
        }
        let each = |value: &Value| {
            let given = Self {
                value: value.clone(),
                ..self.clone()
            };
            given.text().map(|_| ()).map(|()| given)
        };
        values.iter().map(each).collect()
    }

    /// The value as a number.
    ///
    /// # Errors
    /// It is not a finite number, or stands in quotes.
    pub fn number(&self) -> Result<f64, ConfigError> {
        let number = match &self.value {
            Value::Number(number) => Some(*number),
            Value::Word(word) => word.replace('_', "").parse().ok(),
            Value::Text(text) if text.parse::<f64>().is_ok() => {
                return Err(self.wrong("is text", "write the number without quotes"));
            }
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() => Ok(number),
            _ => Err(self.wrong("is not a number", "write a number")),
        }
    }

    /// The value as a whole number from `least` to `most`, counted in `unit`.
    ///
    /// # Errors
    /// It is no whole number or outside.
    pub fn whole(&self, least: u32, most: u32, unit: &str) -> Result<u32, ConfigError> {
        let number = self.whole_between(least.into(), most.into(), unit)?;
        Ok(number as u32)
    }

    /// As [`Self::whole`], of a number that may be negative.
    ///
    /// # Errors
    /// It is no whole number or outside.
    pub fn signed(&self, least: i32, most: i32, unit: &str) -> Result<i32, ConfigError> {
        let number = self.whole_between(least.into(), most.into(), unit)?;
        Ok(number as i32)
    }

    fn whole_between(&self, least: f64, most: f64, unit: &str) -> Result<f64, ConfigError> {
        let number = self.number()?;
        let inside = (least..=most).contains(&number);
        if !inside || number.fract() != 0.0 {
            let problem = if inside {
                "is not a whole number"
            } else {
                "is out of range"
            };
            return Err(self.wrong(problem, format!("give {least} to {most} {unit}")));
        }
        Ok(number)
    }

    /// The value as one of `choices`.
    ///
    /// # Errors
    /// It is none of them.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let text = self.text()?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(*choice);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        Err(self.wrong("is not known", format!("choose {}", names.join(", "))))
    }

    /// The value as an amount of memory in bytes: `256MiB`, `1 GiB`, `65536`.
    ///
    /// # Errors
    /// It is not a size, or outside `least..=most` bytes.
    pub fn size(&self, least: u64, most: u64) -> Result<u64, ConfigError> {
        let bytes = match &self.value {
            Value::Number(number) if number.fract() == 0.0 => Some(*number as u64),
            Value::Word(text) | Value::Text(text) => parse_size(text),
            _ => None,
        };
        let Some(bytes) = bytes else {
            return Err(self.wrong("is not a size", "write a size like 256MiB"));
        };
        if !(least..=most).contains(&bytes) {
            let (least, most) = (exact_size(least), exact_size(most));
            return Err(self.wrong("is out of range", format!("give {least} to {most}")));
        }
        Ok(bytes)
    }

    /// The value read by its type's own parser; `form` shows what it takes.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn parsed<T: FromStr>(&self, form: &str) -> Result<T, ConfigError> {
        let text = self.text()?;
        text.parse()
            .map_err(|_| self.wrong(format!("is not {form}"), format!("write {}", example(form))))
    }

    /// This value cannot be used.
    pub fn wrong(&self, problem: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        ConfigError::invalid(self, problem, remedy)
    }
}

/// An address to dial, as the user names it; resolved again before each attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    /// A name or an address.
    pub host: String,
    /// The UDP port, never 0.
    pub port: u16,
}

impl PeerAddress {
    /// The address, when `host` is one and needs no resolving.
    pub fn literal(&self) -> Option<SocketAddr> {
        let host: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(host, self.port))
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for PeerAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = if text.parse::<IpAddr>().is_ok() {
            (text, None)
        } else if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or("has no closing bracket")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("has no IPv6 address between its brackets");
            }
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err("has something other than a port behind its bracket"),
            }
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port.map(str::parse) {
            None => PORT,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return Err("has no port from 1 to 65535"),
        };
        // What a resolver takes; a number alone would be read as an IPv4 address by some.
        let letters = |letter: char| letter.is_alphanumeric() || "-._:%".contains(letter);
        if host.is_empty() || host.len() > 253 || !host.chars().all(letters) {
            return Err("has no host name or address");
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// A peer to dial: where it is, and how links to it are protected if not as the node's mode says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it is.
    pub address: PeerAddress,
    /// Its own mode.
    pub mode: Option<PeerMode>,
}

/// As it is written: `HOST:PORT`, or `HOST:PORT MODE`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            None => write!(f, "{}", self.address),
            Some(mode) => write!(f, "{} {}", self.address, mode.name()),
        }
    }
}

impl FromStr for Peer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, mode) = match text.split_once(' ') {
            None => (text, None),
            Some((address, mode)) => (address, Some(mode.trim_start())),
        };
        let address = address.parse()?;
        let modes = [PeerMode::Sealed, PeerMode::Prefer, PeerMode::Plain];
        let mode = match mode {
            None => None,
            Some(word) => {
                let known = modes.into_iter().find(|mode| mode.name() == word);
                Some(known.ok_or("has something other than sealed, prefer or plain behind it")?)
            }
        };
        Ok(Self { address, mode })
    }
}

/// A listening address; without a port the protocol's own.
pub(super) fn listen_address(given: &Given) -> Result<SocketAddr, ConfigError> {
    let text = given.text()?;
    if let Ok(address) = text.trim_matches(['[', ']']).parse() {
        return Ok(SocketAddr::new(address, PORT));
    }
    text.parse().map_err(|_| {
        given.wrong(
            "is not an address of this machine with a port",
            "write one like 0.0.0.0:44204 or [::]:44204",
        )
    })
}

/// An address of the device with its prefix length.
pub(super) fn device_address(given: &Given) -> Result<IpNet, ConfigError> {
    let text = given.text()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        let prefix = if address.is_ipv4() { 24 } else { 64 };
        return Err(given.wrong("has no prefix length", format!("write {address}/{prefix}")));
    }
    let net: IpNet = given.parsed("an address with a prefix length")?;
    let address = net.addr();
    let roomy = net.prefix_len() + 1 < net.max_prefix_len();
    if address.is_multicast() || address.is_unspecified() || address.is_loopback() {
        return Err(given.wrong(
            "cannot be a device's address",
            "write one like 10.77.0.1/24",
        ));
    }
    if net.addr().is_ipv4() && roomy && (address == net.network() || address == net.broadcast()) {
        return Err(given.wrong(
            "names the network, not an address in it",
            format!("write the node's own address, like {}", first_host(net)),
        ));
    }
    Ok(net)
}

/// The first address of a network that a node can have, with its prefix length.
fn first_host(net: IpNet) -> String {
    let host = net.hosts().next().unwrap_or_else(|| net.addr());
    format!("{host}/{}", net.prefix_len())
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        _ => return None,
    };
    digits.trim_end().parse::<u64>().ok()?.checked_mul(factor)
}

/// A size in the largest unit that keeps it whole.
fn exact_size(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ => format!("{}KiB", bytes >> 10),
    }
}

fn example(form: &str) -> &'static str {
    if form.contains("prefix") {
        "one like 10.77.0.1/24"
    } else {
        "1 to 8 hex digits, like 2a"
    }
}

/// The known key that `key` was probably meant to be: the same last word, or a few letters off.
pub(super) fn nearest(
    key: &str,
    known: impl Iterator<Item = &'static str> + Clone,
) -> Option<&'static str> {
    let wanted = key.replace('-', "_").to_lowercase();
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let same_word = known.clone().find(|known| last(known) == last(&wanted));
    let closest = known
        .map(|known| {
            (
                distance(&wanted, known).min(distance(&wanted, &last(known)) + 1),
                known,
            )
        })
        .min();
    match (same_word, closest) {
        (Some(known), _) => Some(known),
        (None, Some((letters, known))) if letters <= 1 + wanted.len() / 4 => Some(known),
        _ => None,
    }
}

/// How many letters have to be changed, added or left out (Levenshtein); long keys are cut.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let left = &left[..left.len().min(64)];
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(word: &str) -> Given {
        Given {
            key: "x".into(),
            value: Value::Word(word.into()),
            origin: Origin::Flag("--x".into()),
        }
    }

    #[test]
    fn a_peer_has_a_host_and_maybe_a_port() {
        for (text, printed) in [
            ("192.0.2.1:5000", "192.0.2.1:5000"),
            ("192.0.2.1", "192.0.2.1:44204"),
            ("van.example:1", "van.example:1"),
            ("van.example", "van.example:44204"),
            ("[2001:db8::1]:5000", "[2001:db8::1]:5000"),
            ("[2001:db8::1]", "[2001:db8::1]:44204"),
            ("2001:db8::1", "[2001:db8::1]:44204"),
        ] {
            assert_eq!(text.parse::<PeerAddress>().unwrap().to_string(), printed);
        }
        let refused = [
            "", ":1", "a:0", "a:65536", "a:b", "[::1", "[a]:1", "[::1]1", "a b:1", "a:1:2",
        ];
        for text in refused {
            assert!(text.parse::<PeerAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_peer_may_have_a_mode_behind_its_address() {
        for (text, printed) in [
            ("van.example", "van.example:44204"),
            ("van.example:1 sealed", "van.example:1 sealed"),
            ("2001:db8::1  plain", "[2001:db8::1]:44204 plain"),
            ("[::1]:5 prefer", "[::1]:5 prefer"),
        ] {
            assert_eq!(text.parse::<Peer>().unwrap().to_string(), printed);
        }
        for text in [
            "a:1 ",
            "a:1 open",
            "a:1 Sealed",
            "a:1 sealed x",
            " a:1",
            "sealed",
        ] {
            let is_name = text == "sealed";
            assert_eq!(text.parse::<Peer>().is_ok(), is_name, "{text:?}");
        }
    }

    #[test]
    fn a_size_is_exact_and_bounded() {
        assert_eq!(parse_size("256MiB"), Some(256 << 20));
        assert_eq!(parse_size("1 gib"), Some(1 << 30));
        assert_eq!(parse_size("65536"), Some(65_536));
        for text in ["", "MiB", "1.5MiB", "-1", "1TB", "99999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        let error = given("1KiB").size(1 << 20, 1 << 30).unwrap_err();
        assert_eq!(error.to_string(), "--x 1KiB is out of range");
    }

    #[test]
    fn a_whole_number_is_neither_outside_nor_broken() {
        assert_eq!(given("1_400").whole(576, 65_000, "bytes").unwrap(), 1_400);
        for text in ["575", "65001", "1400.5", "x", "", "nan", "inf", "-1"] {
            assert!(given(text).whole(576, 65_000, "bytes").is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_address_is_one_that_a_node_can_have() {
        for text in [
            "10.77.0.1/24",
            "10.0.0.0/31",
            "10.0.0.7/32",
            "fd00::1/64",
            "fd00::/64",
        ] {
            assert!(device_address(&given(text)).is_ok(), "{text}");
        }
        for text in [
            "10.77.0.1",
            "10.77.0.0/24",
            "10.77.0.255/24",
            "224.0.0.1/4",
            "127.0.0.1/8",
            "0.0.0.0/0",
            "::/0",
            "10.77.0.1/33",
            "x",
        ] {
            assert!(device_address(&given(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mistyped_key_finds_its_neighbor() {
        let keys = [
            "device.mtu",
            "peer",
            "limits.hello_per_second",
            "timers.dead_after",
        ];
        let find = |key| nearest(key, keys.into_iter());
        assert_eq!(find("mtu"), Some("device.mtu"));
        assert_eq!(find("peers"), Some("peer"));
        assert_eq!(
            find("limits.helo_per_second"),
            Some("limits.hello_per_second")
        );
        assert_eq!(find("dead-after"), Some("timers.dead_after"));
        assert_eq!(find("completely_else"), None);
    }
}
