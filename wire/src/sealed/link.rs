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

use nom::Parser;
use nom::number::complete::{be_u16, be_u32, be_u64};

use super::{Part, SEALED_MAGIC, SealedError, SealedKind};
use crate::Problem;

/// Bytes of the header.
pub const LINK_HEADER_LEN: usize = 16;
/// Bytes of the tag behind the ciphertext.
pub const TAG_LEN: usize = 16;
/// Bytes of a LINK that holds nothing.
pub const LINK_MIN_LEN: usize = LINK_HEADER_LEN + TAG_LEN;
/// No datagram has a counter from here on (S22).
pub const COUNTER_LIMIT: u64 = 1 << 44;

/// The header of a LINK, or of an E-DATA, which differs in its first byte alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkHeader {
    /// The session, by the receiver's name for it.
    pub receiver: u32,
    /// Which datagram of the session; never twice the same.
    pub counter: u64,
}

impl LinkHeader {
    /// Reads the header of a whole LINK datagram.
    ///
    /// # Errors
    /// Shorter than [`LINK_MIN_LEN`], another magic or kind, flags set, a counter from
    /// [`COUNTER_LIMIT`] on; tested in this order.
    pub fn parse(datagram: &[u8]) -> Result<Self, SealedError> {
        Self::parse_as(SEALED_MAGIC, SealedKind::Link.to_byte(), datagram)
    }

    /// The header's bytes, which are the associated data of the seal too (S21).
    pub const fn to_bytes(self) -> [u8; LINK_HEADER_LEN] {
        self.to_bytes_as(SEALED_MAGIC, SealedKind::Link.to_byte())
    }

    pub(super) fn parse_as(magic: u8, kind: u8, datagram: &[u8]) -> Result<Self, SealedError> {
        let error = |part, problem| Err(SealedError::new(part, problem));
        if datagram.len() < LINK_MIN_LEN {
            return error(Part::Length, Problem::Truncated);
        }
        let read: nom::IResult<&[u8], _> = (be_u16, be_u16, be_u32, be_u64).parse(datagram);
        let Ok((_, (first, reserved, receiver, counter))) = read else {
            return error(Part::Length, Problem::Truncated);
        };
        let [found_magic, found_kind] = first.to_be_bytes();
        if found_magic != magic {
            return error(Part::Magic, Problem::Unexpected);
        }
        if found_kind != kind {
            return error(Part::Kind, Problem::Unexpected);
        }
        if reserved != 0 {
            return error(Part::Reserved, Problem::Reserved);
        }
        if counter >= COUNTER_LIMIT {
            return error(Part::Counter, Problem::TooLong);
        }
        Ok(Self { receiver, counter })
    }

    pub(super) const fn to_bytes_as(self, magic: u8, kind: u8) -> [u8; LINK_HEADER_LEN] {
        let [r0, r1, r2, r3] = self.receiver.to_be_bytes();
        let [c0, c1, c2, c3, c4, c5, c6, c7] = self.counter.to_be_bytes();
        [
            magic, kind, 0, 0, r0, r1, r2, r3, c0, c1, c2, c3, c4, c5, c6, c7,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: LinkHeader = LinkHeader {
        receiver: 0x0a0b_0c0d,
        counter: 0x0102_0304_0506,
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
    fn a_flag_or_a_counter_beyond_the_limit_is_refused() {
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
