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
/// Bytes of the largest datagram: the largest UDP payload over IPv4.
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
    /// Any other number.
    Unknown(u8),
}

impl From<u8> for Kind {
    fn from(byte: u8) -> Self {
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
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Hello => 0x01,
            Kind::Goodbye => 0x02,
            Kind::Ping => 0x03,
            Kind::Pong => 0x04,
            Kind::Inform => 0x05,
            Kind::Data => 0x10,
            Kind::Unknown(other) => other,
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
    /// The originator; never [`NetId::ANY`] or [`NetId::ALL`] (A20).
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
    /// Shorter than [`HEADER_LEN`], longer than [`MAX_DATAGRAM`], wrong magic, wrong version,
    /// reserved src; tested in this order (A6, A7, A20).
    pub fn parse(datagram: &[u8]) -> Result<Self, ParseError> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(ParseError {
                field: Field::Header,
                problem: Problem::TooLong,
            });
        }
        let Ok((_, (magic, version, header))) = raw(datagram) else {
            return Err(ParseError {
                field: Field::Header,
                problem: Problem::Truncated,
            });
        };
        if magic != MAGIC {
            return Err(ParseError {
                field: Field::Magic,
                problem: Problem::Unexpected,
            });
        }
        if version != VERSION {
            return Err(ParseError {
                field: Field::Version,
                problem: Problem::Unexpected,
            });
        }
        if !header.src.is_node() {
            return Err(ParseError {
                field: Field::Src,
                problem: Problem::Reserved,
            });
        }
        Ok(header)
    }

    /// Writes the header into the first [`HEADER_LEN`] bytes of `buffer`.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, buffer: &mut [u8]) {
        buffer[0] = MAGIC;
        buffer[1] = VERSION;
        buffer[2] = self.kind.into();
        buffer[3] = self.flags.0;
        buffer[4..8].copy_from_slice(&self.nonce.to_be_bytes());
        buffer[8..12].copy_from_slice(&self.src.0.to_be_bytes());
        buffer[12..16].copy_from_slice(&self.dst.0.to_be_bytes());
    }
}

/// The fields in wire order, none of them judged yet.
fn raw(input: &[u8]) -> IResult<&[u8], (u8, u8, Header)> {
    let (rest, (magic, version, kind, flags, nonce, src, dst)) =
        (be_u8, be_u8, be_u8, be_u8, be_u32, be_u32, be_u32).parse(input)?;
    let header = Header {
        kind: kind.into(),
        flags: Flags(flags),
        nonce,
        src: NetId(src),
        dst: NetId(dst),
    };
    Ok((rest, (magic, version, header)))
}
