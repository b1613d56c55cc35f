//! One entry of an owner's list of keys, as `floodmesh key` prints it and the configuration takes it.
//!
//! ```text
//! 0000002a 79a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a van
//! netid, may be left out  │ S, 64 hex digits                                 │ name, may be too
//! ```

use std::fmt;
use std::str::FromStr;

use wire::NetId;

use crate::seal::identity::is_low_order;

/// Bytes of a name, as in a certificate (S36).
pub const NAME_LIMIT: usize = wire::sealed::NAME_MAX_LEN;

/// A key that may come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// The only netid that it may go by; without one, the first it comes with.
    pub netid: Option<NetId>,
    /// S.
    pub static_key: [u8; 32],
    /// What its owner calls it; empty for nothing.
    pub name: String,
}

impl FromStr for Trusted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_ascii_whitespace();
        let mut first = words.next().ok_or("is empty")?;
        let mut netid = None;
        if first.len() < 64 {
            let read: NetId = first.parse().map_err(|_| "has no key of 64 hex digits")?;
            if !read.is_node() {
                return Err("has a netid that names no single node");
            }
            netid = Some(read);
            first = words.next().ok_or("has a netid and no key")?;
        }
        let static_key = read_key(first).ok_or("has no key of 64 hex digits")?;
        if is_low_order(&static_key) {
            return Err("has a key that is nobody's");
        }
        let name = words.collect::<Vec<_>>().join(" ");
        let printable = |byte: u8| (0x20..=0x7e).contains(&byte);
        if name.len() > NAME_LIMIT || !name.bytes().all(printable) {
            return Err("has a name that is not 1 to 32 printable letters");
        }
        Ok(Self {
            netid,
            static_key,
            name,
        })
    }
}

impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(netid) = self.netid {
            write!(f, "{netid} ")?;
        }
        f.write_str(&key_text(&self.static_key))?;
        if self.name.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.name)
        }
    }
}

/// A public key as text: 64 hex digits.
pub fn key_text(key: &[u8]) -> String {
    let digits = key.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// The key of a text, in upper case too.
pub fn read_key(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |place: usize| char::from(pair[place]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(key)
}
