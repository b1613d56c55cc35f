//! The file with both private keys of a node (SEALED.md S62).
//!
//! ```text
//! floodmesh identity 1 6e3fa6f0e4b2f1c9         kind, version, checksum of what follows
//! x25519 4041...5e5f                            64 hex digits
//! ed25519 6061...7e7f
//! ```

use std::path::Path;

use zeroize::Zeroizing;

use super::super::error::Failure;
use super::super::state;
use super::draw;
use super::file::{self, FileError};
use crate::seal::identity::Identity;
use crate::seal::keys::Key;

/// What the first line calls it.
const KIND: &str = "identity";
/// Two lines: a name, a blank, 64 digits, the end of the line.
const BODY_LEN: usize = 72 + 73;

/// The private keys of a node, before they are put to use.
#[derive(Debug)]
pub struct PrivateKeys {
    /// X25519: proves in handshakes who the node is.
    exchange: Key,
    /// Ed25519: signs.
    signing: Key,
}

impl PrivateKeys {
    /// New ones, drawn independently.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn draw() -> Result<Self, Failure> {
        Ok(Self {
            exchange: draw()?,
            signing: draw()?,
        })
    }

    /// Those of a file.
    ///
    /// # Errors
    /// The file cannot be used, or is damaged.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        Self::parse(&file::read(path)?).ok_or_else(|| FileError::Damaged {
            path: path.to_owned(),
            what: "the identity is damaged".into(),
        })
    }

    /// Writes them to a file that is not there yet.
    ///
    /// # Errors
    /// It is there, or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        file::write_new(path, &self.to_text(), 0o600)
    }

    /// What they are for.
    pub fn identity(&self) -> Identity {
        Identity::new(self.exchange.clone(), &self.signing)
    }

    fn to_text(&self) -> Zeroizing<String> {
        let mut body = Zeroizing::new(String::with_capacity(BODY_LEN));
        for (name, key) in [("x25519", &self.exchange), ("ed25519", &self.signing)] {
            body.push_str(name);
            body.push(' ');
            for byte in key.bytes() {
                for digit in [byte >> 4, byte & 15] {
                    body.extend(char::from_digit(digit.into(), 16));
                }
            }
            body.push('\n');
        }
        let head = state::head(KIND, &body);
        let mut text = Zeroizing::new(String::with_capacity(head.len() + 1 + body.len()));
        text.push_str(&head);
        text.push('\n');
        text.push_str(&body);
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = state::body(KIND, text)?.lines();
        let keys = Self {
            exchange: key(lines.next()?.strip_prefix("x25519 ")?)?,
            signing: key(lines.next()?.strip_prefix("ed25519 ")?)?,
        };
        // One form (S62): no upper case, no carriage returns, nothing missing at the end.
        (*keys.to_text() == text).then_some(keys)
    }
}

fn key(digits: &str) -> Option<Key> {
    let mut bytes = Zeroizing::new([0; 32]);
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |place: usize| char::from(pair[place]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(Key::new(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> PrivateKeys {
        PrivateKeys {
            exchange: Key::new([0x40; 32]),
            signing: Key::new([0xa6; 32]),
        }
    }

    #[test]
    fn keys_survive_their_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity");
        keys().write(&path).unwrap();
        let read = PrivateKeys::read(&path).unwrap();
        assert_eq!(read.exchange, keys().exchange);
        assert_eq!(read.signing, keys().signing);
        assert_eq!(read.identity().public(), keys().identity().public());
    }

    #[test]
    fn the_text_is_as_documented_and_was_not_copied_as_it_grew() {
        let text = keys().to_text();
        let (head, body) = text.split_once('\n').unwrap();
        assert!(head.starts_with("floodmesh identity 1 "), "{head}");
        assert_eq!(
            body,
            format!("x25519 {}\ned25519 {}\n", "40".repeat(32), "a6".repeat(32))
        );
        assert_eq!(body.len(), BODY_LEN);
    }

    #[test]
    fn every_damaged_byte_and_every_shorter_file_is_refused() {
        let text = keys().to_text();
        for place in 0..text.len() {
            let mut bad = text.as_bytes().to_vec();
            bad[place] ^= 1;
            let bad = String::from_utf8(bad).unwrap();
            assert!(PrivateKeys::parse(&bad).is_none(), "byte {place}");
            assert!(PrivateKeys::parse(&text[..place]).is_none(), "{place}");
        }
    }

    #[test]
    fn drawn_keys_differ() {
        let keys = PrivateKeys::draw().unwrap();
        assert_ne!(keys.exchange, keys.signing);
        assert_ne!(keys.exchange, PrivateKeys::draw().unwrap().exchange);
    }
}
