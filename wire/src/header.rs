//! The 16 bytes in front of every message.
//!
//! ```text
//!  0        1        2        3
//! +--------+--------+--------+--------+
//! | magic  |version |  kind  | flags  |
//! +--------+--------+--------+--------+
//! |               nonce               |
//! +--------+--------+--------+--------+
//! |             src netid             |
//! +--------+--------+--------+--------+
//! |             dst netid             |
//! +--------+--------+--------+--------+
//! ```

use core::fmt;

use nom::IResult;
use nom::Parser;
use nom::number::complete::{be_u8, be_u32};

use crate::{Field, NetId, ParseError, Problem};

/// The first byte of every datagram.
pub const MAGIC: u8 = 0xAC;
/// The only protocol version there is.
pub const VERSION: u8 = 0x01;
/// Bytes of the header.
pub const HEADER_LEN: usize = 16;
/// Bytes of the largest datagram: the largest UDP payload over IPv4 (A37).
pub const MAX_DATAGRAM: usize = 65_507;

/// What a message is; an unknown number stays a value, because it is forwarded all the same (A5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 0x01: introduces the sender to whoever receives it.
    Hello,
    /// 0x02: the originator leaves.
    Goodbye,
    /// 0x03: asks for a Pong.
    Ping,
    /// 0x04: answers a Ping.
    Pong,
    /// 0x05: tells a neighbor of another node.
    Inform,
    /// 0x10: carries a payload.
    Data,
    /// Any other number. Made by `Kind::from` only for numbers that have no name above.
    Unknown(u8),
}

impl Kind {
    /// The kind of a number; every number has one.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            0x01 => Self::Hello,
            0x02 => Self::Goodbye,
            0x03 => Self::Ping,
            0x04 => Self::Pong,
            0x05 => Self::Inform,
            0x10 => Self::Data,
            other => Self::Unknown(other),
        }
    }

    /// The number that stands for the kind on the wire.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Hello => 0x01,
            Self::Goodbye => 0x02,
            Self::Ping => 0x03,
            Self::Pong => 0x04,
            Self::Inform => 0x05,
            Self::Data => 0x10,
            Self::Unknown(other) => other,
        }
    }
}

impl From<u8> for Kind {
    fn from(byte: u8) -> Self {
        Self::from_byte(byte)
    }
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        kind.to_byte()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello => f.write_str("Hello"),
            Self::Goodbye => f.write_str("Goodbye"),
            Self::Ping => f.write_str("Ping"),
            Self::Pong => f.write_str("Pong"),
            Self::Inform => f.write_str("Inform"),
            Self::Data => f.write_str("Data"),
            Self::Unknown(byte) => write!(f, "kind {byte:02x}"),
        }
    }
}

/// The flag byte. Reserved bits are kept as received (A4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No flag set: the message is flooded.
    pub const NONE: Self = Self(0);
    /// 0x80: the message stays with whoever receives it.
    pub const NO_FORWARD: Self = Self(0x80);

    /// Whether NO_FORWARD is set, whatever the reserved bits say.
    pub const fn no_forward(self) -> bool {
        self.0 & Self::NO_FORWARD.0 != 0
    }

    /// The reserved bits: sent as 0, ignored when received, kept when forwarded (A4).
    pub const fn reserved(self) -> u8 {
        self.0 & !Self::NO_FORWARD.0
    }
}

/// The parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub kind: Kind,
    /// Forwarding flags.
    pub flags: Flags,
    /// 32 random bits, fresh for each message originated (A9).
    pub nonce: u32,
    /// The originator; never [`NetId::ANY`] or [`NetId::ALL`] when parsed (A20).
    pub src: NetId,
    /// Whom it is for; may be [`NetId::ANY`] or [`NetId::ALL`].
    pub dst: NetId,
}

impl Header {
    /// Reads the header of a whole datagram.
    ///
    /// Shape: the whole datagram, header first; the rest is not looked at.
    ///
    /// # Errors
    /// Longer than [`MAX_DATAGRAM`], shorter than [`HEADER_LEN`], wrong magic, wrong version,
    /// reserved src; tested in this order (A6, A7, A20).
    pub fn parse(datagram: &[u8]) -> Result<Self, ParseError> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(ParseError::new(Field::Header, Problem::TooLong));
        }
        let Ok((_, (magic, version, header))) = raw(datagram) else {
            return Err(ParseError::new(Field::Header, Problem::Truncated));
        };
        if magic != MAGIC {
            return Err(ParseError::new(Field::Magic, Problem::Unexpected));
        }
        if version != VERSION {
            return Err(ParseError::new(Field::Version, Problem::Unexpected));
        }
        if !header.src.is_node() {
            return Err(ParseError::new(Field::Src, Problem::Reserved));
        }
        Ok(header)
    }

    /// The header's bytes; magic and version are put in front.
    pub const fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [n0, n1, n2, n3] = self.nonce.to_be_bytes();
        let [s0, s1, s2, s3] = self.src.0.to_be_bytes();
        let [d0, d1, d2, d3] = self.dst.0.to_be_bytes();
        let (kind, flags) = (self.kind.to_byte(), self.flags.0);
        [
            MAGIC, VERSION, kind, flags, n0, n1, n2, n3, s0, s1, s2, s3, d0, d1, d2, d3,
        ]
    }

    /// Writes the header into the first [`HEADER_LEN`] bytes of `buffer`; the rest stays.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`HEADER_LEN`].
    #[expect(
        clippy::indexing_slicing,
        reason = "the documented panic of a short buffer"
    )]
    pub fn emit(&self, buffer: &mut [u8]) {
        buffer[..HEADER_LEN].copy_from_slice(&self.to_bytes());
    }
}

/// A whole Hello, Goodbye, Ping or Pong, ready to be sent.
///
/// ```
/// use wire::{Flags, Kind, NetId, emit_control};
/// let hello = emit_control(Kind::Hello, Flags::NO_FORWARD, 0x0102_0304, NetId(0x2a), NetId::ANY);
/// assert_eq!(hello, *b"\xac\x01\x01\x80\x01\x02\x03\x04\0\0\0\x2a\0\0\0\0");
/// ```
pub const fn emit_control(
    kind: Kind,
    flags: Flags,
    nonce: u32,
    src: NetId,
    dst: NetId,
) -> [u8; HEADER_LEN] {
    let header = Header {
        kind,
        flags,
        nonce,
        src,
        dst,
    };
    header.to_bytes()
}

/// The fields in wire order, none of them judged yet.
fn raw(input: &[u8]) -> IResult<&[u8], (u8, u8, Header)> {
    let (rest, (magic, version, kind, flags, nonce, src, dst)) =
        (be_u8, be_u8, be_u8, be_u8, be_u32, be_u32, be_u32).parse(input)?;
    let header = Header {
        kind: Kind::from_byte(kind),
        flags: Flags(flags),
        nonce,
        src: NetId(src),
        dst: NetId(dst),
    };
    Ok((rest, (magic, version, header)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ping from 2a to 07, forwardable.
    const PING: [u8; 16] = *b"\xac\x01\x03\x00\x0a\x0b\x0c\x0d\0\0\0\x2a\0\0\0\x07";

    fn ping() -> Header {
        Header {
            kind: Kind::Ping,
            flags: Flags::NONE,
            nonce: 0x0a0b_0c0d,
            src: NetId(0x2a),
            dst: NetId(7),
        }
    }

    fn with(offset: usize, bytes: &[u8]) -> [u8; 16] {
        let mut datagram = PING;
        datagram[offset..offset + bytes.len()].copy_from_slice(bytes);
        datagram
    }

    fn error(field: Field, problem: Problem) -> Result<Header, ParseError> {
        Err(ParseError { field, problem })
    }

    #[test]
    fn reads_every_field_at_its_place() {
        assert_eq!(Header::parse(&PING), Ok(ping()));
    }

    #[test]
    fn emit_writes_sixteen_bytes_and_touches_nothing_else() {
        let mut buffer = [0xa5; 20];
        ping().emit(&mut buffer);
        assert_eq!(buffer[..16], PING);
        assert_eq!(buffer[16..], [0xa5; 4]);
    }

    #[test]
    fn emit_control_is_the_header_alone() {
        let bytes = emit_control(Kind::Ping, Flags::NONE, 0x0a0b_0c0d, NetId(0x2a), NetId(7));
        assert_eq!(bytes, PING);
    }

    #[test]
    fn every_truncation_is_a_truncated_header() {
        for len in 0..16 {
            let expected = error(Field::Header, Problem::Truncated);
            assert_eq!(Header::parse(&PING[..len]), expected, "{len} bytes");
        }
    }

    #[test]
    fn the_largest_datagram_parses_and_one_byte_more_does_not() {
        let mut datagram = [0; MAX_DATAGRAM + 1];
        datagram[..16].copy_from_slice(&PING);
        assert_eq!(Header::parse(&datagram[..MAX_DATAGRAM]), Ok(ping()));
        assert_eq!(
            Header::parse(&datagram),
            error(Field::Header, Problem::TooLong)
        );
    }

    #[test]
    fn every_other_magic_and_version_is_refused() {
        for byte in 0..=255 {
            if byte != MAGIC {
                let expected = error(Field::Magic, Problem::Unexpected);
                assert_eq!(
                    Header::parse(&with(0, &[byte])),
                    expected,
                    "magic {byte:02x}"
                );
            }
            if byte != VERSION {
                let expected = error(Field::Version, Problem::Unexpected);
                assert_eq!(
                    Header::parse(&with(1, &[byte])),
                    expected,
                    "version {byte:02x}"
                );
            }
        }
    }

    #[test]
    fn magic_is_judged_before_version_and_version_before_src() {
        let mut datagram = with(0, b"\xad\x02");
        datagram[8..12].fill(0);
        assert_eq!(
            Header::parse(&datagram),
            error(Field::Magic, Problem::Unexpected)
        );
        datagram[0] = MAGIC;
        assert_eq!(
            Header::parse(&datagram),
            error(Field::Version, Problem::Unexpected)
        );
        datagram[1] = VERSION;
        assert_eq!(
            Header::parse(&datagram),
            error(Field::Src, Problem::Reserved)
        );
    }

    #[test]
    fn src_must_name_a_node_and_dst_need_not() {
        for reserved in [[0; 4], [0xff; 4]] {
            let expected = error(Field::Src, Problem::Reserved);
            assert_eq!(Header::parse(&with(8, &reserved)), expected);
            assert!(Header::parse(&with(12, &reserved)).is_ok());
        }
        assert!(Header::parse(&with(8, &[0xff, 0xff, 0xff, 0xfe])).is_ok());
        assert!(Header::parse(&with(8, &[0, 0, 0, 1])).is_ok());
    }

    #[test]
    fn every_kind_and_every_flag_byte_survives() {
        for kind in 0..=255 {
            for flags in 0..=255 {
                let datagram = with(2, &[kind, flags]);
                let header = Header::parse(&datagram).unwrap();
                assert_eq!(header.flags.no_forward(), flags >= 0x80);
                assert_eq!(header.flags.reserved(), flags & 0x7f);
                assert_eq!(header.to_bytes(), datagram);
            }
        }
    }
}
