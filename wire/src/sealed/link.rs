//! LINK: a header in clear, then what is sealed.
//!
//! ```text
//!  0        1        2        3
//! +--------+--------+--------+--------+
//! |   ae   |   05   | flags  |   00   |
//! +--------+--------+--------+--------+
//! |           receiver index          |
//! +--------+--------+--------+--------+
//! |                                   |
//! +              counter              +
//! |                                   |
//! +--------+--------+--------+--------+
//! ```
//!
//! The one flag is `01`, ALONE: what the LINK holds went over no other link.

use nom::Parser;
use nom::number::complete::{be_u32, be_u64, u8 as byte};

use super::{Part, SEALED_MAGIC, SealedError, SealedKind};
use crate::Problem;

/// Bytes of the header.
pub const LINK_HEADER_LEN: usize = 16;
/// Bytes of the tag behind the ciphertext.
pub const TAG_LEN: usize = 16;
/// Bytes of a LINK that holds nothing.
pub const LINK_MIN_LEN: usize = LINK_HEADER_LEN + TAG_LEN;
/// Flag: what the LINK holds went over no other link (S82).
const ALONE: u8 = 0x01;
/// No datagram has a counter from here on (S22).
pub const COUNTER_LIMIT: u64 = 1 << 44;

/// The header of a LINK, or of an E-DATA, which has other first bytes and no flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkHeader {
    /// The session, by the receiver's name for it.
    pub receiver: u32,
    /// Which datagram of the session; never twice the same.
    pub counter: u64,
    /// Its messages went over no other link: each comes once, as the session opens it once (S82).
    pub alone: bool,
}

impl LinkHeader {
    /// Reads the header of a whole LINK datagram.
    ///
    /// # Errors
    /// Shorter than [`LINK_MIN_LEN`], another magic or kind, an unknown flag, a counter from
    /// [`COUNTER_LIMIT`] on; tested in this order.
    pub fn parse(datagram: &[u8]) -> Result<Self, SealedError> {
        Self::parse_as(SEALED_MAGIC, SealedKind::Link.to_byte(), ALONE, datagram)
    }

    /// The header's bytes, which are the associated data of the seal too (S21).
    pub const fn to_bytes(self) -> [u8; LINK_HEADER_LEN] {
        self.to_bytes_as(SEALED_MAGIC, SealedKind::Link.to_byte())
    }

    pub(super) fn parse_as(
        magic: u8,
        kind: u8,
        known: u8,
        datagram: &[u8],
    ) -> Result<Self, SealedError> {
        let error = |part, problem| Err(SealedError::new(part, problem));
        if datagram.len() < LINK_MIN_LEN {
            return error(Part::Length, Problem::Truncated);
        }
        let read: nom::IResult<&[u8], _> = (byte, byte, byte, byte, be_u32, be_u64).parse(datagram);
        let Ok((_, (found_magic, found_kind, flags, zero, receiver, counter))) = read else {
            return error(Part::Length, Problem::Truncated);
        };
        if found_magic != magic {
            return error(Part::Magic, Problem::Unexpected);
        }
        if found_kind != kind {
            return error(Part::Kind, Problem::Unexpected);
        }
        if flags & !known != 0 || zero != 0 {
            return error(Part::Reserved, Problem::Reserved);
        }
        if counter >= COUNTER_LIMIT {
            return error(Part::Counter, Problem::TooLong);
        }
        Ok(Self {
            receiver,
            counter,
            alone: flags & ALONE != 0,
        })
    }

    pub(super) const fn to_bytes_as(self, magic: u8, kind: u8) -> [u8; LINK_HEADER_LEN] {
        let [r0, r1, r2, r3] = self.receiver.to_be_bytes();
        let [c0, c1, c2, c3, c4, c5, c6, c7] = self.counter.to_be_bytes();
        let flags = if self.alone { ALONE } else { 0 };
        [
            magic, kind, flags, 0, r0, r1, r2, r3, c0, c1, c2, c3, c4, c5, c6, c7,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: LinkHeader = LinkHeader {
        receiver: 0x0a0b_0c0d,
        counter: 0x0102_0304_0506,
        alone: false,
    };

    fn datagram() -> [u8; LINK_MIN_LEN] {
        let mut datagram = [0xa5; LINK_MIN_LEN];
        datagram[..16].copy_from_slice(&HEADER.to_bytes());
        datagram
    }

    #[test]
    fn every_field_stands_at_its_place() {
        assert_eq!(
            HEADER.to_bytes(),
            *b"\xae\x05\0\0\x0a\x0b\x0c\x0d\0\0\x01\x02\x03\x04\x05\x06"
        );
        assert_eq!(LinkHeader::parse(&datagram()), Ok(HEADER));
        let alone = LinkHeader {
            alone: true,
            ..HEADER
        };
        let mut datagram = datagram();
        datagram[..16].copy_from_slice(&alone.to_bytes());
        assert_eq!(datagram[2], 1);
        assert_eq!(LinkHeader::parse(&datagram), Ok(alone));
    }

    #[test]
    fn every_truncation_is_a_truncated_datagram() {
        for len in 0..LINK_MIN_LEN {
            let error = LinkHeader::parse(&datagram()[..len]).unwrap_err();
            assert_eq!(
                (error.part, error.problem),
                (Part::Length, Problem::Truncated)
            );
        }
    }

    #[test]
    fn an_unknown_flag_or_a_counter_beyond_the_limit_is_refused() {
        for (at, part) in [
            (0, Part::Magic),
            (1, Part::Kind),
            (2, Part::Reserved),
            (3, Part::Reserved),
        ] {
            let mut changed = datagram();
            changed[at] ^= 0x40;
            assert_eq!(LinkHeader::parse(&changed).unwrap_err().part, part);
        }
        let mut far = datagram();
        far[8..16].copy_from_slice(&COUNTER_LIMIT.to_be_bytes());
        assert_eq!(LinkHeader::parse(&far).unwrap_err().part, Part::Counter);
        far[8..16].copy_from_slice(&(COUNTER_LIMIT - 1).to_be_bytes());
        assert!(LinkHeader::parse(&far).is_ok());
    }
}
