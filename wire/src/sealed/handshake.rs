//! INIT, RESP and FIN: a Noise message between a clear head and macs.
//!
//! ```text
//! INIT       head (10) | noise (n) | mac1 (16) | mac2 (16) | zeros up to 1200
//! RESP, FIN  head (14) | noise (n) | mac1 (16) | mac2 (16) of zeros
//! ```
//!
//! The end-to-end forms lack mac2 and padding; [`super::endtoend`] reads them by the same code.

use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u32};

use super::{Part, SEALED_MAGIC, SEALED_VERSION, SUITE, SealedError, SealedKind};
use crate::Problem;

/// Bytes of an INIT, padding included.
pub const INIT_LEN: usize = 1200;
/// Bytes of the longest RESP or FIN: no longer than the INIT before them (S11).
pub const HANDSHAKE_MAX_LEN: usize = INIT_LEN;
/// Bytes of a mac.
pub const MAC_LEN: usize = 16;
/// Bytes of an INIT before its Noise message.
pub const INIT_HEAD_LEN: usize = 10;
/// Bytes of a RESP or FIN before its Noise message.
pub const ANSWER_HEAD_LEN: usize = 14;
/// Bytes of the longest Noise message that fits every handshake datagram.
pub const NOISE_MAX_LEN: usize = HANDSHAKE_MAX_LEN - ANSWER_HEAD_LEN - 2 * MAC_LEN;

/// The least bytes of the three Noise messages (S6).
const NOISE_MIN_LEN: [usize; 3] = [56, 112, 80];

/// How a carrier frames a handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Carrier {
    pub(super) magic: u8,
    /// Whether there are mac2 and padding.
    pub(super) link: bool,
}

const LINK: Carrier = Carrier {
    magic: SEALED_MAGIC,
    link: true,
};

/// Where the macs of a written datagram belong; they are zeros until somebody computes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Offset of mac1, which covers all bytes before it; mac2 follows it on links.
    pub mac1_at: usize,
    /// Bytes of the whole.
    pub len: usize,
}

/// The parsed INIT. Borrows: from the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init<'d> {
    /// What the initiator wants to be called in the RESP.
    pub sender: u32,
    /// Noise message 1; its first 32 bytes are the ephemeral key.
    pub noise: &'d [u8],
    /// The bytes that mac1 covers.
    pub before_mac1: &'d [u8],
    /// The mac that members alone can make.
    pub mac1: &'d [u8; MAC_LEN],
    /// The bytes that mac2 covers.
    pub before_mac2: &'d [u8],
    /// The mac that proves the address; zeros without a cookie, and end to end.
    pub mac2: &'d [u8; MAC_LEN],
}

impl<'d> Init<'d> {
    /// Reads a whole INIT of a link.
    ///
    /// # Errors
    /// S6, in the order of the bytes; the length first.
    pub fn parse(datagram: &'d [u8]) -> Result<Self, SealedError> {
        Self::parse_as(LINK, datagram)
    }

    /// Writes the head, the Noise message and zeros behind it.
    ///
    /// Returns `None` when `noise` does not fit.
    pub fn emit(sender: u32, noise: &[u8], datagram: &mut [u8; INIT_LEN]) -> Option<Written> {
        Self::emit_as(LINK, sender, noise, datagram)
    }

    /// The ephemeral key.
    pub fn ephemeral(&self) -> [u8; 32] {
        // `parse` let nothing shorter pass.
        self.noise.first_chunk().copied().unwrap_or_default()
    }

    pub(super) fn parse_as(carrier: Carrier, datagram: &'d [u8]) -> Result<Self, SealedError> {
        if carrier.link && datagram.len() < INIT_LEN {
            return Err(error(Part::Length, Problem::Truncated));
        }
        if datagram.len() > INIT_LEN {
            return Err(error(Part::Length, Problem::TooLong));
        }
        let read: nom::IResult<&[u8], _> =
            (be_u8, be_u8, be_u8, be_u8, be_u32, be_u16).parse(datagram);
        let (rest, (magic, kind, suite, version, sender, len)) =
            read.map_err(|_| error(Part::Length, Problem::Truncated))?;
        first(carrier, SealedKind::Init, magic, kind)?;
        protocol(suite, version)?;
        let body = Body::split(carrier, datagram, rest, len, 0)?;
        // All of it, rather than up to the first bit: so the compiler takes many bytes at a time.
        if body.rest.iter().fold(0, |all, &byte| all | byte) != 0 {
            return Err(error(Part::Reserved, Problem::Reserved));
        }
        if !carrier.link && !body.rest.is_empty() {
            return Err(error(Part::Length, Problem::TooLong));
        }
        Ok(Self {
            sender,
            noise: body.noise,
            before_mac1: body.before_mac1,
            mac1: body.mac1,
            before_mac2: body.before_mac2,
            mac2: body.mac2,
        })
    }

    pub(super) fn emit_as(
        carrier: Carrier,
        sender: u32,
        noise: &[u8],
        datagram: &mut [u8; INIT_LEN],
    ) -> Option<Written> {
        datagram.fill(0);
        let len = u16::try_from(noise.len()).ok()?;
        let mut head = [0; INIT_HEAD_LEN];
        head[0] = carrier.magic;
        head[1] = SealedKind::Init.to_byte();
        head[2] = SUITE;
        head[3] = SEALED_VERSION;
        head[4..8].copy_from_slice(&sender.to_be_bytes());
        head[8..10].copy_from_slice(&len.to_be_bytes());
        let mut written = place(carrier, &head, noise, datagram)?;
        if carrier.link {
            written.len = INIT_LEN;
        }
        Some(written)
    }
}

/// Which answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnswerKind {
    /// The responder's, with Noise message 2.
    Resp,
    /// The initiator's, with Noise message 3.
    Fin,
}

impl AnswerKind {
    const fn kind(self) -> SealedKind {
        match self {
            Self::Resp => SealedKind::Resp,
            Self::Fin => SealedKind::Fin,
        }
    }
}

/// The parsed RESP or FIN. Borrows: from the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'d> {
    /// Which of the two.
    pub kind: AnswerKind,
    /// What the sender calls this handshake, and its session.
    pub sender: u32,
    /// What the receiver calls it.
    pub receiver: u32,
    /// The Noise message.
    pub noise: &'d [u8],
    /// The bytes that mac1 covers.
    pub before_mac1: &'d [u8],
    /// The mac that members alone can make.
    pub mac1: &'d [u8; MAC_LEN],
}

impl<'d> Answer<'d> {
    /// Reads a whole RESP or FIN of a link.
    ///
    /// # Errors
    /// S6, in the order of the bytes; the length first.
    pub fn parse(kind: AnswerKind, datagram: &'d [u8]) -> Result<Self, SealedError> {
        Self::parse_as(LINK, kind, datagram)
    }

    /// Writes the head, the Noise message and room for the macs.
    ///
    /// Returns `None` when `noise` does not fit.
    pub fn emit(
        kind: AnswerKind,
        sender: u32,
        receiver: u32,
        noise: &[u8],
        datagram: &mut [u8; HANDSHAKE_MAX_LEN],
    ) -> Option<Written> {
        Self::emit_as(LINK, kind, sender, receiver, noise, datagram)
    }

    /// The ephemeral key of a RESP.
    pub fn ephemeral(&self) -> [u8; 32] {
        self.noise.first_chunk().copied().unwrap_or_default()
    }

    pub(super) fn parse_as(
        carrier: Carrier,
        kind: AnswerKind,
        datagram: &'d [u8],
    ) -> Result<Self, SealedError> {
        if datagram.len() > HANDSHAKE_MAX_LEN {
            return Err(error(Part::Length, Problem::TooLong));
        }
        let read: nom::IResult<&[u8], _> =
            (be_u8, be_u8, be_u8, be_u8, be_u32, be_u32, be_u16).parse(datagram);
        let (rest, (magic, number, suite, version, sender, receiver, len)) =
            read.map_err(|_| error(Part::Length, Problem::Truncated))?;
        first(carrier, kind.kind(), magic, number)?;
        let (message, expected) = match kind {
            AnswerKind::Resp => (1, (SUITE, SEALED_VERSION)),
            AnswerKind::Fin => (2, (0, 0)),
        };
        if kind == AnswerKind::Resp {
            protocol(suite, version)?;
        } else if (suite, version) != expected {
            return Err(error(Part::Reserved, Problem::Reserved));
        }
        let body = Body::split(carrier, datagram, rest, len, message)?;
        if body.mac2 != &[0; MAC_LEN] {
            return Err(error(Part::Reserved, Problem::Reserved));
        }
        if !body.rest.is_empty() {
            return Err(error(Part::Length, Problem::TooLong));
        }
        Ok(Self {
            kind,
            sender,
            receiver,
            noise: body.noise,
            before_mac1: body.before_mac1,
            mac1: body.mac1,
        })
    }

    pub(super) fn emit_as(
        carrier: Carrier,
        kind: AnswerKind,
        sender: u32,
        receiver: u32,
        noise: &[u8],
        datagram: &mut [u8; HANDSHAKE_MAX_LEN],
    ) -> Option<Written> {
        datagram.fill(0);
        let len = u16::try_from(noise.len()).ok()?;
        let mut head = [0; ANSWER_HEAD_LEN];
        head[0] = carrier.magic;
        head[1] = kind.kind().to_byte();
        if kind == AnswerKind::Resp {
            head[2] = SUITE;
            head[3] = SEALED_VERSION;
        }
        head[4..8].copy_from_slice(&sender.to_be_bytes());
        head[8..12].copy_from_slice(&receiver.to_be_bytes());
        head[12..14].copy_from_slice(&len.to_be_bytes());
        place(carrier, &head, noise, datagram)
    }
}

/// What follows the head.
struct Body<'d> {
    noise: &'d [u8],
    before_mac1: &'d [u8],
    mac1: &'d [u8; MAC_LEN],
    before_mac2: &'d [u8],
    mac2: &'d [u8; MAC_LEN],
    rest: &'d [u8],
}

impl<'d> Body<'d> {
    /// `message` counts from 0.
    fn split(
        carrier: Carrier,
        datagram: &'d [u8],
        rest: &'d [u8],
        len: u16,
        message: usize,
    ) -> Result<Self, SealedError> {
        let truncated = || error(Part::Noise, Problem::Truncated);
        let least = NOISE_MIN_LEN.get(message).copied().unwrap_or(usize::MAX);
        if usize::from(len) < least {
            return Err(truncated());
        }
        let before = |rest: &[u8]| {
            datagram
                .get(..datagram.len() - rest.len())
                .unwrap_or_default()
        };
        let read: nom::IResult<&[u8], &[u8]> = take(len).parse(rest);
        let (rest, noise) = read.map_err(|_| truncated())?;
        let before_mac1 = before(rest);
        let (mac1, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
        let before_mac2 = before(rest);
        let (mac2, rest) = if carrier.link {
            rest.split_first_chunk().ok_or_else(truncated)?
        } else {
            (&[0; MAC_LEN], rest)
        };
        Ok(Self {
            noise,
            before_mac1,
            mac1,
            before_mac2,
            mac2,
            rest,
        })
    }
}

/// Puts head and Noise message into a buffer of zeros; says where the macs go.
fn place(carrier: Carrier, head: &[u8], noise: &[u8], datagram: &mut [u8]) -> Option<Written> {
    let mac1_at = head.len() + noise.len();
    let macs = if carrier.link { 2 * MAC_LEN } else { MAC_LEN };
    let len = mac1_at + macs;
    if len > datagram.len() {
        return None;
    }
    datagram.get_mut(..head.len())?.copy_from_slice(head);
    datagram
        .get_mut(head.len()..mac1_at)?
        .copy_from_slice(noise);
    Some(Written { mac1_at, len })
}

fn first(carrier: Carrier, kind: SealedKind, magic: u8, number: u8) -> Result<(), SealedError> {
    if magic != carrier.magic {
        return Err(error(Part::Magic, Problem::Unexpected));
    }
    if number != kind.to_byte() {
        return Err(error(Part::Kind, Problem::Unexpected));
    }
    Ok(())
}

fn protocol(suite: u8, version: u8) -> Result<(), SealedError> {
    if suite != SUITE {
        return Err(error(Part::Suite, Problem::Unexpected));
    }
    if version != SEALED_VERSION {
        return Err(error(Part::Version, Problem::Unexpected));
    }
    Ok(())
}

const fn error(part: Part, problem: Problem) -> SealedError {
    SealedError::new(part, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(noise: &[u8]) -> [u8; INIT_LEN] {
        let mut datagram = [0xa5; INIT_LEN];
        let written = Init::emit(0x0a0b_0c0d, noise, &mut datagram).unwrap();
        assert_eq!((written.mac1_at, written.len), (10 + noise.len(), INIT_LEN));
        datagram[written.mac1_at..][..16].fill(1);
        datagram[written.mac1_at + 16..][..16].fill(2);
        datagram
    }

    fn answer(kind: AnswerKind, noise: &[u8], datagram: &mut [u8; HANDSHAKE_MAX_LEN]) -> usize {
        let written = Answer::emit(kind, 7, 8, noise, datagram).unwrap();
        datagram[written.mac1_at..][..16].fill(1);
        assert_eq!(written.len, 46 + noise.len());
        written.len
    }

    #[test]
    fn an_init_is_read_as_it_was_written() {
        let datagram = init(&[3; 70]);
        let read = Init::parse(&datagram).unwrap();
        assert_eq!((read.sender, read.noise), (0x0a0b_0c0d, &[3; 70][..]));
        assert_eq!((read.mac1, read.mac2), (&[1; 16], &[2; 16]));
        assert_eq!((read.before_mac1.len(), read.before_mac2.len()), (80, 96));
        assert_eq!(read.ephemeral(), [3; 32]);
        assert_eq!(datagram[..10], *b"\xae\x01\x01\x01\x0a\x0b\x0c\x0d\x00\x46");
    }

    #[test]
    fn an_init_of_any_other_length_is_refused() {
        let datagram = init(&[3; 70]);
        for len in 0..INIT_LEN {
            let error = Init::parse(&datagram[..len]).unwrap_err();
            assert_eq!(
                (error.part, error.problem),
                (Part::Length, Problem::Truncated)
            );
        }
        let mut longer = [0; INIT_LEN + 1];
        longer[..INIT_LEN].copy_from_slice(&datagram);
        assert_eq!(Init::parse(&longer).unwrap_err().problem, Problem::TooLong);
    }

    #[test]
    fn an_init_with_anything_in_its_padding_is_refused() {
        for at in [10 + 70 + 32, 700, INIT_LEN - 1] {
            let mut datagram = init(&[3; 70]);
            datagram[at] = 1;
            assert_eq!(Init::parse(&datagram).unwrap_err().part, Part::Reserved);
        }
    }

    #[test]
    fn a_noise_message_that_is_too_short_or_too_long_is_refused() {
        let mut datagram = init(&[3; 70]);
        for (len, problem) in [(55_u16, Problem::Truncated), (1159, Problem::Truncated)] {
            datagram[8..10].copy_from_slice(&len.to_be_bytes());
            let error = Init::parse(&datagram).unwrap_err();
            assert_eq!((error.part, error.problem), (Part::Noise, problem));
        }
        assert!(Init::emit(1, &[0; 1158], &mut datagram).is_some());
        assert!(Init::emit(1, &[0; 1159], &mut datagram).is_none());
        assert!(Answer::emit(AnswerKind::Fin, 1, 2, &[0; NOISE_MAX_LEN], &mut datagram).is_some());
        assert!(
            Answer::emit(
                AnswerKind::Fin,
                1,
                2,
                &[0; NOISE_MAX_LEN + 1],
                &mut datagram
            )
            .is_none()
        );
    }

    #[test]
    fn answers_are_read_as_they_were_written_and_at_no_other_length() {
        let mut datagram = [0xa5; HANDSHAKE_MAX_LEN];
        for (kind, noise) in [
            (AnswerKind::Resp, &[3; 112][..]),
            (AnswerKind::Fin, &[4; 80][..]),
        ] {
            let len = answer(kind, noise, &mut datagram);
            let read = Answer::parse(kind, &datagram[..len]).unwrap();
            assert_eq!((read.sender, read.receiver, read.noise), (7, 8, noise));
            assert_eq!(
                (read.mac1, read.before_mac1.len()),
                (&[1; 16], 14 + noise.len())
            );
            for shorter in 0..len {
                assert!(
                    Answer::parse(kind, &datagram[..shorter]).is_err(),
                    "{shorter}"
                );
            }
            let error = Answer::parse(kind, &datagram[..=len]).unwrap_err();
            assert_eq!(
                (error.part, error.problem),
                (Part::Length, Problem::TooLong)
            );
        }
    }

    #[test]
    fn every_changed_fixed_byte_names_its_part() {
        let datagram = init(&[3; 70]);
        let parts = [Part::Magic, Part::Kind, Part::Suite, Part::Version];
        for (at, part) in parts.into_iter().enumerate() {
            let mut changed = datagram;
            changed[at] ^= 0x80;
            assert_eq!(Init::parse(&changed).unwrap_err().part, part);
        }
        let mut buffer = [0; HANDSHAKE_MAX_LEN];
        let len = answer(AnswerKind::Fin, &[4; 80], &mut buffer);
        for at in [2, 3, len - 16, len - 1] {
            let mut changed = buffer;
            changed[at] ^= 1;
            let error = Answer::parse(AnswerKind::Fin, &changed[..len]).unwrap_err();
            assert_eq!(error.part, Part::Reserved);
        }
    }
}
