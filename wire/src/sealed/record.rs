//! Records: what a handshake message tells, once it is open (S14).
//!
//! ```text
//! type u8 | length u16 | value, repeated to the payload's end
//! ```

use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16};

use super::certificate::{CERTIFICATE_MAX_LEN, CERTIFICATE_MIN_LEN};
use super::{Part, SealedError};
use crate::Problem;

/// The types that version 1 knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// 1: the AEADs that the initiator offers.
    Offer,
    /// 3: the one that the responder chose.
    Choice,
    /// 5: whether the sender would go on in plain.
    Policy,
    /// 7: the netid that is called.
    Called,
    /// 9: the sender's netid.
    NetId,
    /// 11: the sender's certificate.
    Certificate,
    /// 13: the sender's V and its word for S.
    Binding,
    /// 2: features.
    Features,
    /// 4: the newest revocation list.
    Revocation,
    /// 6: where the sender sees the receiver.
    Observed,
    /// 8: the largest datagram.
    ReceiveSize,
    /// 10: this start of the sender.
    Boot,
    /// 12: which next secret the sender has adopted.
    NextSecret,
}

impl RecordType {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Offer,
        Self::Features,
        Self::Choice,
        Self::Revocation,
        Self::Policy,
        Self::Observed,
        Self::Called,
        Self::ReceiveSize,
        Self::NetId,
        Self::Boot,
        Self::Certificate,
        Self::NextSecret,
        Self::Binding,
    ];

    /// The number on the wire.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Offer => 1,
            Self::Features => 2,
            Self::Choice => 3,
            Self::Revocation => 4,
            Self::Policy => 5,
            Self::Observed => 6,
            Self::Called => 7,
            Self::ReceiveSize => 8,
            Self::NetId => 9,
            Self::Boot => 10,
            Self::Certificate => 11,
            Self::NextSecret => 12,
            Self::Binding => 13,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Offer,
            2 => Self::Features,
            3 => Self::Choice,
            4 => Self::Revocation,
            5 => Self::Policy,
            6 => Self::Observed,
            7 => Self::Called,
            8 => Self::ReceiveSize,
            9 => Self::NetId,
            10 => Self::Boot,
            11 => Self::Certificate,
            12 => Self::NextSecret,
            13 => Self::Binding,
            _ => return None,
        })
    }

    /// The lengths that a value may have.
    const fn lengths(self) -> (usize, usize) {
        match self {
            Self::Offer => (1, 8),
            Self::Choice | Self::Policy => (1, 1),
            Self::Called | Self::NetId | Self::Features => (4, 4),
            Self::Revocation | Self::Boot => (8, 8),
            Self::Observed => (18, 18),
            Self::ReceiveSize => (2, 2),
            Self::NextSecret => (12, 12),
            Self::Certificate => (CERTIFICATE_MIN_LEN, CERTIFICATE_MAX_LEN),
            Self::Binding => (96, 96),
        }
    }

    /// Whether the type may stand in Noise message 1, 2 or 3.
    const fn is_in(self, message: u8) -> bool {
        match self {
            Self::Offer | Self::Called => message == 1,
            Self::Choice => message == 2,
            Self::Policy | Self::Features => message <= 2,
            _ => message >= 2,
        }
    }
}

/// One record. Borrows: from the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'d> {
    /// What it tells.
    pub kind: RecordType,
    /// The value; its length is one that the type may have.
    pub value: &'d [u8],
}

/// Reads record by record, passing over unknown even ones; ends after the first fault.
#[derive(Clone, Debug)]
pub struct Records<'d> {
    message: u8,
    rest: &'d [u8],
    /// A bit for each type seen, known or not.
    seen: [u64; 4],
}

impl<'d> Records<'d> {
    /// The records of the payload of Noise message 1, 2 or 3.
    pub const fn new(message: u8, payload: &'d [u8]) -> Self {
        Self {
            message,
            rest: payload,
            seen: [0; 4],
        }
    }

    fn step(&mut self) -> Result<Option<Record<'d>>, SealedError> {
        while !self.rest.is_empty() {
            let fault = |problem| SealedError::new(Part::Record, problem);
            let read: nom::IResult<&[u8], _> = (be_u8, be_u16).parse(self.rest);
            let (rest, (number, len)) = read.map_err(|_| fault(Problem::Truncated))?;
            let read: nom::IResult<&[u8], &[u8]> = take(len).parse(rest);
            let (rest, value) = read.map_err(|_| fault(Problem::Truncated))?;
            if self.repeats(number) {
                return Err(fault(Problem::Unexpected));
            }
            self.rest = rest;
            match RecordType::from_byte(number) {
                Some(kind) => {
                    let (least, most) = kind.lengths();
                    if !(least..=most).contains(&value.len()) || !kind.is_in(self.message) {
                        return Err(fault(Problem::Unexpected));
                    }
                    return Ok(Some(Record { kind, value }));
                }
                // Odd: not to be understood without.
                None if number % 2 == 1 => return Err(fault(Problem::Reserved)),
                None => {}
            }
        }
        Ok(None)
    }

    fn repeats(&mut self, number: u8) -> bool {
        let bit = 1 << (number % 64);
        let Some(word) = self.seen.get_mut(usize::from(number / 64)) else {
            return true;
        };
        let repeats = *word & bit != 0;
        *word |= bit;
        repeats
    }
}

impl<'d> Iterator for Records<'d> {
    type Item = Result<Record<'d>, SealedError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.rest = &[];
        }
        step.transpose()
    }
}

/// Writes one record to the beginning of `buffer` and returns its length; `None` when it does not
/// fit.
pub fn emit_record(kind: RecordType, value: &[u8], buffer: &mut [u8]) -> Option<usize> {
    let [l0, l1] = u16::try_from(value.len()).ok()?.to_be_bytes();
    let len = 3 + value.len();
    let (head, body) = buffer.get_mut(..len)?.split_at_mut_checked(3)?;
    head.copy_from_slice(&[kind.to_byte(), l0, l1]);
    body.copy_from_slice(value);
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: u8, payload: &[u8]) -> Result<usize, Problem> {
        let mut count = 0;
        for record in Records::new(message, payload) {
            record.map_err(|error| error.problem)?;
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn every_type_is_read_as_it_was_written_in_the_messages_that_may_have_it() {
        for kind in RecordType::ALL {
            let mut buffer = [0xa5; 400];
            let (least, most) = kind.lengths();
            for len in [least, most] {
                let written = emit_record(kind, &[7; 400][..len], &mut buffer).unwrap();
                for message in 1..=3 {
                    let read = Records::new(message, &buffer[..written]).next().unwrap();
                    if kind.is_in(message) {
                        let value = &[7; 400][..len];
                        assert_eq!(read, Ok(Record { kind, value }));
                    } else {
                        assert!(read.is_err(), "{kind:?} in {message}");
                    }
                }
            }
            let longer = emit_record(kind, &[7; 400][..=most], &mut buffer).unwrap();
            let message = if kind.is_in(2) { 2 } else { 1 };
            assert_eq!(all(message, &buffer[..longer]), Err(Problem::Unexpected));
        }
    }

    #[test]
    fn an_unknown_even_type_is_passed_over_and_an_unknown_odd_one_is_a_fault() {
        assert_eq!(all(3, b"\x80\0\x01x\x0a\0\x08bootboot"), Ok(1));
        assert_eq!(
            all(3, b"\x0a\0\x08bootboot\x81\0\x01x"),
            Err(Problem::Reserved)
        );
    }

    #[test]
    fn a_type_that_repeats_is_a_fault_known_or_not() {
        assert_eq!(
            all(2, b"\x03\0\x01\x01\x03\0\x01\x01"),
            Err(Problem::Unexpected)
        );
        assert_eq!(all(2, b"\xfe\0\0\xfe\0\0"), Err(Problem::Unexpected));
        assert_eq!(all(2, b"\xfe\0\0\x7e\0\0\x3e\0\0"), Ok(0));
    }

    #[test]
    fn every_truncation_inside_a_record_is_a_fault() {
        let payload = b"\x09\0\x04\0\0\0\x2a";
        for len in 1..payload.len() {
            assert_eq!(all(2, &payload[..len]), Err(Problem::Truncated), "{len}");
        }
        assert_eq!(all(2, payload), Ok(1));
        assert_eq!(all(2, b""), Ok(0));
    }
}
