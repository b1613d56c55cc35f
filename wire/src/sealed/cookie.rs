//! COOKIE: an answer that costs nothing, for whoever asks under load (S27 to S30).

use nom::Parser;
use nom::number::complete::{be_u16, be_u32};

use super::{Part, SEALED_MAGIC, SealedError, SealedKind};
use crate::Problem;

/// Bytes of a COOKIE.
pub const COOKIE_LEN: usize = 64;

/// The parsed COOKIE. Borrows: from the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie<'d> {
    /// The sender index of the INIT that it answers.
    pub receiver: u32,
    /// Random, for the seal.
    pub nonce: &'d [u8; 24],
    /// The cookie's 16 bytes and their tag.
    pub sealed: &'d [u8; 32],
}

impl<'d> Cookie<'d> {
    /// Reads a whole COOKIE.
    ///
    /// # Errors
    /// Another length than [`COOKIE_LEN`], another magic or kind, reserved bytes that are not zero.
    pub fn parse(datagram: &'d [u8]) -> Result<Self, SealedError> {
        let error = |part, problem| SealedError::new(part, problem);
        let length = || error(Part::Length, Problem::Truncated);
        if datagram.len() > COOKIE_LEN {
            return Err(error(Part::Length, Problem::TooLong));
        }
        let read: nom::IResult<&[u8], _> = (be_u16, be_u16, be_u32).parse(datagram);
        let (rest, (first, reserved, receiver)) = read.map_err(|_| length())?;
        let (nonce, rest) = rest.split_first_chunk().ok_or_else(length)?;
        let (sealed, _) = rest.split_first_chunk().ok_or_else(length)?;
        let [magic, kind] = first.to_be_bytes();
        if magic != SEALED_MAGIC {
            return Err(error(Part::Magic, Problem::Unexpected));
        }
        if kind != SealedKind::Cookie.to_byte() {
            return Err(error(Part::Kind, Problem::Unexpected));
        }
        if reserved != 0 {
            return Err(error(Part::Reserved, Problem::Reserved));
        }
        Ok(Self {
            receiver,
            nonce,
            sealed,
        })
    }

    /// The whole datagram.
    pub fn to_bytes(&self) -> [u8; COOKIE_LEN] {
        let mut bytes = [0; COOKIE_LEN];
        bytes[0] = SEALED_MAGIC;
        bytes[1] = SealedKind::Cookie.to_byte();
        bytes[4..8].copy_from_slice(&self.receiver.to_be_bytes());
        bytes[8..32].copy_from_slice(self.nonce);
        bytes[32..64].copy_from_slice(self.sealed);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: Cookie<'static> = Cookie {
        receiver: 0x0a0b_0c0d,
        nonce: &[7; 24],
        sealed: &[9; 32],
    };

    #[test]
    fn what_is_written_is_read() {
        let bytes = COOKIE.to_bytes();
        assert_eq!(bytes[..9], *b"\xae\x04\0\0\x0a\x0b\x0c\x0d\x07");
        assert_eq!(Cookie::parse(&bytes), Ok(COOKIE));
    }

    #[test]
    fn another_length_or_a_reserved_bit_is_refused() {
        let bytes = COOKIE.to_bytes();
        for len in 0..COOKIE_LEN {
            assert_eq!(Cookie::parse(&bytes[..len]).unwrap_err().part, Part::Length);
        }
        let mut longer = [0; COOKIE_LEN + 1];
        longer[..COOKIE_LEN].copy_from_slice(&bytes);
        assert_eq!(
            Cookie::parse(&longer).unwrap_err().problem,
            Problem::TooLong
        );
        for (at, part) in [
            (0, Part::Magic),
            (1, Part::Kind),
            (2, Part::Reserved),
            (3, Part::Reserved),
        ] {
            let mut changed = bytes;
            changed[at] ^= 0x10;
            assert_eq!(Cookie::parse(&changed).unwrap_err().part, part);
        }
    }
}
