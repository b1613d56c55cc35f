//! What a LINK holds once it is open: messages and controls, one behind the other (S24).
//!
//! ```text
//! 0lll llll llll llll                     a message of l bytes follows
//! 0000 0000 0000 0000                     the rest is padding
//! 1kkk kkkk kkkk kkkk | body length u16   a control of kind k; its body follows
//! ```

use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::{be_u16, be_u32, be_u64};

use super::{Part, SealedError};
use crate::Problem;

/// Bytes before a message.
pub const FRAME_HEAD_LEN: usize = 2;
/// Bytes before a control's body.
pub const CONTROL_HEAD_LEN: usize = 4;
/// Bytes of the longest message in a frame.
pub const FRAME_MAX_LEN: usize = 0x7FFF;

/// Bytes of a revocation list that one control carries at most.
pub const PIECE_MAX_LEN: usize = 1_024;

const CONTROL: u16 = 0x8000;
/// Bytes before a piece's own.
const PIECE_HEAD_LEN: usize = 16;

/// One frame. Borrows: from the opened plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'d> {
    /// A message of the plain protocol, not judged here.
    Message(&'d [u8]),
    /// Something between the two ends of the link.
    Control(Control<'d>),
}

/// A control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'d> {
    /// 1: says that the sender lives.
    Keepalive,
    /// 2: to be sent back.
    PathChallenge([u8; 8]),
    /// 3: what was sent.
    PathResponse([u8; 8]),
    /// 4: as long as the path is wide.
    SizeProbe(&'d [u8]),
    /// 5: the length of the datagram that carried a probe.
    SizeSeen(u16),
    /// 6: the sender leaves; why. A reason that is not known is kept.
    Close(u8),
    /// 7: what the sender counted.
    Counts(Counts),
    /// 8: the number of the newest revocation list that the sender has.
    ListNumber(u64),
    /// 9: asks for the list of this number, from this byte on.
    ListRequest(u64, u32),
    /// 10: a piece of a revocation list.
    ListPiece(Piece<'d>),
    /// Another kind: skipped.
    Unknown(u16, &'d [u8]),
}

/// Counts of one direction of a link, as its other end has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages sent to the receiver of this.
    pub sent: u64,
    /// Messages received from it.
    pub received: u64,
    /// Datagrams from it that were replays.
    pub replayed: u64,
}

/// A piece of a revocation list (S80).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'d> {
    /// The list's number.
    pub number: u64,
    /// Bytes of the whole list.
    pub total: u32,
    /// Where these begin in it.
    pub offset: u32,
    /// 1 to [`PIECE_MAX_LEN`] bytes.
    pub bytes: &'d [u8],
}

impl<'d> Control<'d> {
    /// The number on the wire, 15 bits.
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Keepalive => 1,
            Self::PathChallenge(_) => 2,
            Self::PathResponse(_) => 3,
            Self::SizeProbe(_) => 4,
            Self::SizeSeen(_) => 5,
            Self::Close(_) => 6,
            Self::Counts(_) => 7,
            Self::ListNumber(_) => 8,
            Self::ListRequest(..) => 9,
            Self::ListPiece(_) => 10,
            Self::Unknown(kind, _) => *kind & !CONTROL,
        }
    }

    fn parse(kind: u16, body: &'d [u8]) -> Result<Self, SealedError> {
        let control = match kind {
            1 if body.is_empty() => Self::Keepalive,
            2 => Self::PathChallenge(exact(body)?),
            3 => Self::PathResponse(exact(body)?),
            4 => Self::SizeProbe(body),
            5 => Self::SizeSeen(u16::from_be_bytes(exact(body)?)),
            6 => {
                let [reason] = exact(body)?;
                Self::Close(reason)
            }
            7 => {
                let body: [u8; 24] = exact(body)?;
                let read: nom::IResult<&[u8], _> = (be_u64, be_u64, be_u64).parse(&body);
                let (_, (sent, received, replayed)) = read.map_err(|_| bad())?;
                Self::Counts(Counts {
                    sent,
                    received,
                    replayed,
                })
            }
            8 => Self::ListNumber(u64::from_be_bytes(exact(body)?)),
            9 => {
                let body: [u8; 12] = exact(body)?;
                let read: nom::IResult<&[u8], _> = (be_u64, be_u32).parse(&body);
                let (_, (number, offset)) = read.map_err(|_| bad())?;
                Self::ListRequest(number, offset)
            }
            10 => {
                let read: nom::IResult<&[u8], _> = (be_u64, be_u32, be_u32).parse(body);
                let (bytes, (number, total, offset)) = read.map_err(|_| bad())?;
                if bytes.is_empty() || bytes.len() > PIECE_MAX_LEN {
                    return Err(bad());
                }
                Self::ListPiece(Piece {
                    number,
                    total,
                    offset,
                    bytes,
                })
            }
            1 => return Err(bad()),
            other => Self::Unknown(other, body),
        };
        Ok(control)
    }
}

impl Frame<'_> {
    /// Bytes of the frame, head included.
    pub const fn len(&self) -> usize {
        match self {
            Self::Message(message) => FRAME_HEAD_LEN + message.len(),
            Self::Control(control) => {
                CONTROL_HEAD_LEN
                    + match control {
                        Control::Keepalive => 0,
                        Control::PathChallenge(_) | Control::PathResponse(_) => 8,
                        Control::SizeProbe(body) | Control::Unknown(_, body) => body.len(),
                        Control::SizeSeen(_) => 2,
                        Control::Close(_) => 1,
                        Control::Counts(_) => 24,
                        Control::ListNumber(_) => 8,
                        Control::ListRequest(..) => 12,
                        Control::ListPiece(piece) => PIECE_HEAD_LEN + piece.bytes.len(),
                    }
            }
        }
    }

    /// Never: a frame has a head.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the frame to the beginning of `buffer` and returns its length; `None` when it does
    /// not fit, is a message of 0 or more than [`FRAME_MAX_LEN`] bytes, or a body over 65,535.
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        match self {
            Self::Message(message) => {
                let len = u16::try_from(message.len()).ok()?;
                if len == 0 || len & CONTROL != 0 {
                    return None;
                }
                place(buffer, &len.to_be_bytes(), message)
            }
            Self::Control(control) => {
                let counts;
                let size;
                let reason;
                let number;
                let request;
                let mut piece = [0; PIECE_HEAD_LEN + PIECE_MAX_LEN];
                let body: &[u8] = match control {
                    Control::Keepalive => &[],
                    Control::PathChallenge(bytes) | Control::PathResponse(bytes) => bytes,
                    Control::SizeProbe(body) | Control::Unknown(_, body) => body,
                    Control::SizeSeen(bytes) => {
                        size = bytes.to_be_bytes();
                        &size
                    }
                    Control::Close(number) => {
                        reason = [*number];
                        &reason
                    }
                    Control::Counts(numbers) => {
                        counts = numbers.to_bytes();
                        &counts
                    }
                    Control::ListNumber(list) => {
                        number = list.to_be_bytes();
                        &number
                    }
                    Control::ListRequest(list, offset) => {
                        request = request_bytes(*list, *offset);
                        &request
                    }
                    Control::ListPiece(of_list) => of_list.write(&mut piece)?,
                };
                let [k0, k1] = (control.kind() | CONTROL).to_be_bytes();
                let [l0, l1] = u16::try_from(body.len()).ok()?.to_be_bytes();
                place(buffer, &[k0, k1, l0, l1], body)
            }
        }
    }
}

fn request_bytes(number: u64, offset: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..].copy_from_slice(&offset.to_be_bytes());
    bytes
}

fn piece_head(piece: &Piece<'_>) -> [u8; PIECE_HEAD_LEN] {
    let mut bytes = [0; PIECE_HEAD_LEN];
    bytes[..8].copy_from_slice(&piece.number.to_be_bytes());
    bytes[8..12].copy_from_slice(&piece.total.to_be_bytes());
    bytes[12..].copy_from_slice(&piece.offset.to_be_bytes());
    bytes
}

impl Piece<'_> {
    fn write<'b>(&self, body: &'b mut [u8]) -> Option<&'b [u8]> {
        if self.bytes.is_empty() || self.bytes.len() > PIECE_MAX_LEN {
            return None;
        }
        let (head, rest) = body.split_first_chunk_mut::<PIECE_HEAD_LEN>()?;
        *head = piece_head(self);
        rest.get_mut(..self.bytes.len())?
            .copy_from_slice(self.bytes);
        body.get(..PIECE_HEAD_LEN + self.bytes.len())
    }
}

impl Counts {
    fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[0..8].copy_from_slice(&self.sent.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.received.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.replayed.to_be_bytes());
        bytes
    }
}

/// Reads frame by frame; ends at the plaintext's end, at padding, or after the first fault.
#[derive(Clone, Debug)]
pub struct Frames<'d> {
    rest: &'d [u8],
}

impl<'d> Frames<'d> {
    /// The frames of an opened LINK.
    pub const fn new(plaintext: &'d [u8]) -> Self {
        Self { rest: plaintext }
    }

    fn step(&mut self) -> Result<Option<Frame<'d>>, SealedError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let head: nom::IResult<&[u8], u16> = be_u16.parse(self.rest);
        let (rest, word) = head.map_err(|_| bad())?;
        if word == 0 {
            return Ok(None);
        }
        if word & CONTROL == 0 {
            let read: nom::IResult<&[u8], &[u8]> = take(word).parse(rest);
            let (rest, message) = read.map_err(|_| bad())?;
            self.rest = rest;
            return Ok(Some(Frame::Message(message)));
        }
        let read: nom::IResult<&[u8], u16> = be_u16.parse(rest);
        let (rest, len) = read.map_err(|_| bad())?;
        let read: nom::IResult<&[u8], &[u8]> = take(len).parse(rest);
        let (rest, body) = read.map_err(|_| bad())?;
        let control = Control::parse(word & !CONTROL, body)?;
        self.rest = rest;
        Ok(Some(Frame::Control(control)))
    }
}

impl<'d> Iterator for Frames<'d> {
    type Item = Result<Frame<'d>, SealedError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.rest = &[];
        }
        step.transpose()
    }
}

fn exact<const N: usize>(body: &[u8]) -> Result<[u8; N], SealedError> {
    body.try_into().map_err(|_| bad())
}

fn place(buffer: &mut [u8], head: &[u8], body: &[u8]) -> Option<usize> {
    let len = head.len() + body.len();
    let (first, second) = buffer.get_mut(..len)?.split_at_mut_checked(head.len())?;
    first.copy_from_slice(head);
    second.copy_from_slice(body);
    Some(len)
}

const fn bad() -> SealedError {
    SealedError::new(Part::Frame, Problem::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Frame<'static>; 12] = [
        Frame::Message(b"a message"),
        Frame::Control(Control::Keepalive),
        Frame::Control(Control::PathChallenge([1; 8])),
        Frame::Control(Control::PathResponse([2; 8])),
        Frame::Control(Control::SizeProbe(&[0; 5])),
        Frame::Control(Control::SizeSeen(1416)),
        Frame::Control(Control::Close(3)),
        Frame::Control(Control::Counts(Counts {
            sent: 1,
            received: 2,
            replayed: 3,
        })),
        Frame::Control(Control::ListNumber(7)),
        Frame::Control(Control::ListRequest(7, 8_192)),
        Frame::Control(Control::ListPiece(Piece {
            number: 7,
            total: 2_000,
            offset: 1_024,
            bytes: b"a piece",
        })),
        Frame::Control(Control::Unknown(0x7abc, b"later")),
    ];

    fn written(buffer: &mut [u8]) -> usize {
        ALL.iter().fold(0, |at, frame| {
            let len = frame.emit(&mut buffer[at..]).unwrap();
            assert_eq!(len, frame.len());
            at + len
        })
    }

    #[test]
    fn all_frames_are_read_as_they_were_written() {
        let mut buffer = [0xa5; 256];
        let len = written(&mut buffer);
        let mut frames = Frames::new(&buffer[..len]);
        for frame in ALL {
            assert_eq!(frames.next(), Some(Ok(frame)));
        }
        assert_eq!(frames.next(), None);
        assert_eq!(buffer[len..], [0xa5; 256][len..]);
    }

    #[test]
    fn every_truncation_gives_the_whole_frames_before_it_and_then_one_fault_at_most() {
        let mut buffer = [0; 256];
        let len = written(&mut buffer);
        for cut in 0..len {
            let mut faults = 0;
            for (read, frame) in Frames::new(&buffer[..cut]).zip(ALL) {
                match read {
                    Ok(read) => assert_eq!(read, frame),
                    Err(_) => faults += 1,
                }
            }
            assert!(faults <= 1);
        }
    }

    #[test]
    fn a_word_of_zero_ends_the_frames_and_the_rest_is_padding() {
        let mut frames = Frames::new(b"\0\x02hi\0\0\xff\xff\xff");
        assert_eq!(frames.next(), Some(Ok(Frame::Message(b"hi"))));
        assert_eq!(frames.next(), None);
        assert_eq!(frames.next(), None);
    }

    #[test]
    fn a_known_control_of_another_length_is_a_fault_and_ends_the_reading() {
        for kind in [1, 2, 3, 5, 6, 7] {
            let bytes = [0x80, kind, 0, 3, 0, 0, 0, 0x80, 1, 0, 0];
            let mut frames = Frames::new(&bytes);
            assert!(frames.next().unwrap().is_err(), "kind {kind}");
            assert_eq!(frames.next(), None);
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut small = [0xa5; 5];
        assert_eq!(Frame::Message(b"four").emit(&mut small), None);
        assert_eq!(small, [0xa5; 5]);
        assert_eq!(Frame::Message(b"").emit(&mut small), None);
        let long = [0; FRAME_MAX_LEN + 1];
        let mut large = [0; FRAME_MAX_LEN + 3];
        assert_eq!(Frame::Message(&long).emit(&mut large), None);
        assert!(Frame::Message(&long[1..]).emit(&mut large).is_some());
    }
}
