//! End-to-end sealing: payloads of Data that begin with `c8` (S54).
//!
//! The handshake and the session are those of a link with other first bytes, without mac2 and
//! without padding; broadcast has a header of its own.

use nom::Parser;
use nom::number::complete::{be_u8, be_u32, be_u64};

use super::handshake::Carrier;
use super::{
    Answer, AnswerKind, HANDSHAKE_MAX_LEN, INIT_LEN, Init, LINK_HEADER_LEN, LinkHeader, Part,
    SealedError, SealedKind, TAG_LEN, Written,
};
use crate::service::SEALED;
use crate::{Kind, NetId, Problem};

/// Bytes of the header of a broadcast.
pub const BROADCAST_HEADER_LEN: usize = 24;
/// Bytes of the signature behind a broadcast.
pub const SIGNATURE_LEN: usize = 64;
/// Bytes of a broadcast that holds nothing and is not signed.
pub const BROADCAST_MIN_LEN: usize = BROADCAST_HEADER_LEN + TAG_LEN;
/// Bytes of the associated data of E-DATA: src, dst, kind, header (S57).
pub const ASSOCIATED_LEN: usize = 9 + LINK_HEADER_LEN;

const CARRIER: Carrier = Carrier {
    magic: SEALED,
    link: false,
};
const BROADCAST: u8 = 5;
/// The flag of a broadcast that has a signature behind it.
const SIGNED: u8 = 0x01;

/// What a payload that begins with `c8` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndToEndKind {
    /// 1: begins a handshake.
    Init,
    /// 2: answers.
    Resp,
    /// 3: ends a handshake.
    Fin,
    /// 4: carries a payload to one node.
    Data,
    /// 5: carries a payload to all nodes.
    Broadcast,
}

impl EndToEndKind {
    /// The kind of a Data payload by its first two bytes.
    ///
    /// # Errors
    /// Shorter than 2 bytes, another first byte, a second byte that is no kind.
    pub const fn of(payload: &[u8]) -> Result<Self, SealedError> {
        match payload {
            [SEALED, kind, ..] => Ok(match kind {
                1 => Self::Init,
                2 => Self::Resp,
                3 => Self::Fin,
                4 => Self::Data,
                5 => Self::Broadcast,
                _ => return Err(SealedError::new(Part::Kind, Problem::Unexpected)),
            }),
            [_, _, ..] => Err(SealedError::new(Part::Magic, Problem::Unexpected)),
            _ => Err(SealedError::new(Part::Magic, Problem::Truncated)),
        }
    }
}

/// Reads an E-INIT; its `mac2` is zeros, and nothing.
///
/// # Errors
/// As [`Init::parse`].
pub fn parse_init(payload: &[u8]) -> Result<Init<'_>, SealedError> {
    Init::parse_as(CARRIER, payload)
}

/// Writes an E-INIT; `None` when `noise` does not fit.
pub fn emit_init(sender: u32, noise: &[u8], payload: &mut [u8; INIT_LEN]) -> Option<Written> {
    Init::emit_as(CARRIER, sender, noise, payload)
}

/// Reads an E-RESP or E-FIN.
///
/// # Errors
/// As [`Answer::parse`].
pub fn parse_answer(kind: AnswerKind, payload: &[u8]) -> Result<Answer<'_>, SealedError> {
    Answer::parse_as(CARRIER, kind, payload)
}

/// Writes an E-RESP or E-FIN; `None` when `noise` does not fit.
pub fn emit_answer(
    kind: AnswerKind,
    sender: u32,
    receiver: u32,
    noise: &[u8],
    payload: &mut [u8; HANDSHAKE_MAX_LEN],
) -> Option<Written> {
    Answer::emit_as(CARRIER, kind, sender, receiver, noise, payload)
}

/// Reads the header of an E-DATA.
///
/// # Errors
/// As [`LinkHeader::parse`].
pub fn parse_data(payload: &[u8]) -> Result<LinkHeader, SealedError> {
    LinkHeader::parse_as(SEALED, SealedKind::Link.to_byte() - 1, 0, payload)
}

/// The header's bytes of an E-DATA.
pub const fn data_header(header: LinkHeader) -> [u8; LINK_HEADER_LEN] {
    header.to_bytes_as(SEALED, SealedKind::Link.to_byte() - 1)
}

/// The associated data of an E-DATA (S57).
pub fn associated(src: NetId, dst: NetId, header: &[u8; LINK_HEADER_LEN]) -> [u8; ASSOCIATED_LEN] {
    let mut bytes = [0; ASSOCIATED_LEN];
    bytes[0..4].copy_from_slice(&src.0.to_be_bytes());
    bytes[4..8].copy_from_slice(&dst.0.to_be_bytes());
    bytes[8] = Kind::Data.to_byte();
    bytes[9..].copy_from_slice(header);
    bytes
}

/// The header of an E-BCAST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BroadcastHeader {
    /// Whether [`SIGNATURE_LEN`] bytes of a signature stand at the end.
    pub signed: bool,
    /// Which key of the mesh.
    pub epoch: u32,
    /// Which start of the sender.
    pub boot: u64,
    /// Which broadcast of that start.
    pub sequence: u64,
}

impl BroadcastHeader {
    /// Reads the header of a whole E-BCAST.
    ///
    /// # Errors
    /// Shorter than [`BROADCAST_MIN_LEN`] and a signature, if it has one; another magic or kind;
    /// flags that there are not.
    pub fn parse(payload: &[u8]) -> Result<Self, SealedError> {
        let error = |part, problem| SealedError::new(part, problem);
        if payload.len() < BROADCAST_MIN_LEN {
            return Err(error(Part::Length, Problem::Truncated));
        }
        let read: nom::IResult<&[u8], _> =
            (be_u8, be_u8, be_u8, be_u8, be_u32, be_u64, be_u64).parse(payload);
        let (_, (magic, kind, flags, zero, epoch, boot, sequence)) =
            read.map_err(|_| error(Part::Length, Problem::Truncated))?;
        if magic != SEALED {
            return Err(error(Part::Magic, Problem::Unexpected));
        }
        if kind != BROADCAST {
            return Err(error(Part::Kind, Problem::Unexpected));
        }
        let signed = flags == SIGNED;
        if (flags & !SIGNED, zero) != (0, 0) {
            return Err(error(Part::Reserved, Problem::Reserved));
        }
        if signed && payload.len() < BROADCAST_MIN_LEN + SIGNATURE_LEN {
            return Err(error(Part::Length, Problem::Truncated));
        }
        Ok(Self {
            signed,
            epoch,
            boot,
            sequence,
        })
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; BROADCAST_HEADER_LEN] {
        let mut bytes = [0; BROADCAST_HEADER_LEN];
        (bytes[0], bytes[1]) = (SEALED, BROADCAST);
        bytes[2] = if self.signed { SIGNED } else { 0 };
        bytes[4..8].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.boot.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_byte_names_the_kind() {
        assert_eq!(EndToEndKind::of(b"\xc8\x04"), Ok(EndToEndKind::Data));
        assert_eq!(EndToEndKind::of(b"\xc8\x06").unwrap_err().part, Part::Kind);
        assert_eq!(EndToEndKind::of(b"\xae\x04").unwrap_err().part, Part::Magic);
        assert_eq!(
            EndToEndKind::of(b"\xc8").unwrap_err().problem,
            Problem::Truncated
        );
    }

    #[test]
    fn a_handshake_has_one_mac_and_no_padding() {
        let mut payload = [0; INIT_LEN];
        let written = emit_init(7, &[3; 70], &mut payload).unwrap();
        assert_eq!((written.mac1_at, written.len), (80, 96));
        let read = parse_init(&payload[..96]).unwrap();
        assert_eq!(
            (read.sender, read.noise, read.mac2),
            (7, &[3; 70][..], &[0; 16])
        );
        assert!(parse_init(&payload[..97]).is_err());
        for len in 0..96 {
            assert!(parse_init(&payload[..len]).is_err());
        }
        let written = emit_answer(AnswerKind::Resp, 7, 8, &[3; 112], &mut payload).unwrap();
        assert_eq!(written.len, 14 + 112 + 16);
        assert!(parse_answer(AnswerKind::Resp, &payload[..written.len]).is_ok());
        assert!(Answer::parse(AnswerKind::Resp, &payload[..written.len]).is_err());
    }

    #[test]
    fn data_has_the_header_of_a_link_with_other_first_bytes() {
        let header = LinkHeader {
            receiver: 0x0a0b_0c0d,
            counter: 5,
            alone: false,
        };
        let mut payload = [0; 32];
        payload[..16].copy_from_slice(&data_header(header));
        assert_eq!(payload[..4], *b"\xc8\x04\0\0");
        assert_eq!(parse_data(&payload), Ok(header));
        assert!(LinkHeader::parse(&payload).is_err());
        let associated = associated(NetId(0x2a), NetId(7), &data_header(header));
        assert_eq!(associated[..10], *b"\0\0\0\x2a\0\0\0\x07\x10\xc8");
    }

    #[test]
    fn a_broadcast_header_is_read_as_it_was_written() {
        for (signed, least) in [(false, 40), (true, 104)] {
            let header = BroadcastHeader {
                signed,
                epoch: 1,
                boot: 2,
                sequence: 3,
            };
            let mut payload = [0; 104];
            payload[..24].copy_from_slice(&header.to_bytes());
            for len in 0..least {
                assert!(BroadcastHeader::parse(&payload[..len]).is_err());
            }
            assert_eq!(BroadcastHeader::parse(&payload[..least]), Ok(header));
            assert_eq!(payload[2], u8::from(signed));
        }
        let mut payload = [0; BROADCAST_MIN_LEN];
        (payload[0], payload[1]) = (0xc8, 5);
        for (at, part) in [
            (0, Part::Magic),
            (1, Part::Kind),
            (2, Part::Reserved),
            (3, Part::Reserved),
        ] {
            let mut changed = payload;
            changed[at] ^= 0x10;
            assert_eq!(BroadcastHeader::parse(&changed).unwrap_err().part, part);
        }
    }
}
