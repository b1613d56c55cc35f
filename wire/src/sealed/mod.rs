//! Sealed links and end-to-end sealing: the bytes, without any cryptography.
//!
//! Everything here is total: whatever the bytes, parsing returns, and what parses is written back
//! as it stood. Who computes macs, seals and opens is `overlay::seal`; the two meet in ranges that
//! these parsers hand out: what a mac covers, what a seal covers.
//!
//! - [`Init`], [`Answer`] (RESP and FIN), [`Cookie`], [`LinkHeader`]: datagrams of a link.
//! - [`Frames`]: what a LINK holds once it is open.
//! - [`Records`]: what a handshake message holds once it is open.
//! - [`Certificate`]: who a node is, by the mesh authority's word.
//! - [`Revocations`]: who is no longer.
//! - [`endtoend`]: the same handshake and session carried as Data.
//!
//! Source: SEALED.md, which follows, complete.
//!
#![doc = include_str!("../../SEALED.md")]

mod certificate;
mod cookie;
pub mod endtoend;
mod error;
mod frame;
mod handshake;
mod link;
mod record;
mod revocation;

pub use certificate::{
    CERTIFICATE_MAX_LEN, CERTIFICATE_MIN_LEN, Certificate, NAME_MAX_LEN, PREFIXES_MAX, Prefix,
    RATE_CLASS_MAX, RIGHTS, rate_of,
};
pub use cookie::{COOKIE_LEN, Cookie};
pub use error::{Part, SealedError};
pub use frame::{
    CONTROL_HEAD_LEN, Control, Counts, FRAME_HEAD_LEN, FRAME_MAX_LEN, Frame, Frames, PIECE_MAX_LEN,
    Piece,
};
pub use handshake::{
    ANSWER_HEAD_LEN, Answer, AnswerKind, HANDSHAKE_MAX_LEN, INIT_HEAD_LEN, INIT_LEN, Init, MAC_LEN,
    NOISE_MAX_LEN, Written,
};
pub use link::{COUNTER_LIMIT, LINK_HEADER_LEN, LINK_MIN_LEN, LinkHeader, TAG_LEN};
pub use record::{Record, RecordType, Records, emit_record};
pub use revocation::{REVOCATIONS_MAX_LEN, REVOCATIONS_MIN_LEN, REVOKED_MAX, Revocations, Revoked};

/// Why a session is closed, as a close says it (S24).
pub mod close {
    /// Its node leaves, or begins anew.
    pub const SHUTDOWN: u8 = 0;
    /// Somebody else takes its place, or its node may not come up.
    pub const REPLACED: u8 = 2;
    /// Its key or certificate is revoked, or has ended.
    pub const REVOKED: u8 = 3;
}

/// The bits of a certificate's rights that are asked for (S38).
pub mod right {
    /// It may send Data of its own.
    pub const ORIGINATE: u16 = 1 << 0;
    /// It may pass on Data of others.
    pub const FORWARD: u16 = 1 << 1;
    /// It may tell where others are.
    pub const INFORM: u16 = 1 << 2;
}

/// First byte of every datagram of a sealed link.
pub const SEALED_MAGIC: u8 = 0xAE;
/// The handshake suite, Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s (S7).
pub const SUITE: u8 = 1;
/// The version of these formats.
pub const SEALED_VERSION: u8 = 1;

/// What a datagram of a sealed link is: its second byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SealedKind {
    /// 1: begins a handshake.
    Init,
    /// 2: answers an INIT.
    Resp,
    /// 3: ends a handshake.
    Fin,
    /// 4: asks to prove the address first.
    Cookie,
    /// 5: carries frames.
    Link,
}

impl SealedKind {
    /// The number on the wire.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Init => 1,
            Self::Resp => 2,
            Self::Fin => 3,
            Self::Cookie => 4,
            Self::Link => 5,
        }
    }

    /// The kind of a datagram by its first two bytes; nothing else is looked at.
    ///
    /// # Errors
    /// Shorter than 2 bytes, another first byte, a second byte that is no kind.
    pub const fn of(datagram: &[u8]) -> Result<Self, SealedError> {
        match datagram {
            [SEALED_MAGIC, kind, ..] => Self::from_byte(*kind),
            [_, _, ..] => Err(SealedError::new(Part::Magic, crate::Problem::Unexpected)),
            _ => Err(SealedError::new(Part::Magic, crate::Problem::Truncated)),
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Result<Self, SealedError> {
        Ok(match byte {
            1 => Self::Init,
            2 => Self::Resp,
            3 => Self::Fin,
            4 => Self::Cookie,
            5 => Self::Link,
            _ => return Err(SealedError::new(Part::Kind, crate::Problem::Unexpected)),
        })
    }
}
