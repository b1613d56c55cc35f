//! The revocation list: which certificates and keys are good no longer, by the mesh authority's word
//! (S78).
//!
//! ```text
//! version u8 = 1 | mesh id 16 | number u64 | count u16
//! entries: serial u64 | S 32 | not after u64, each | signature 64
//! ```
//!
//! Reading is canonical, as for certificates. Signatures are verified elsewhere.

use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u64};

use super::{Part, SealedError};
use crate::Problem;

/// Bytes of a list without entries.
pub const REVOCATIONS_MIN_LEN: usize = HEAD_LEN + SIGNATURE_LEN;
/// Entries of one list.
pub const REVOKED_MAX: usize = 512;
/// Bytes of the longest list.
pub const REVOCATIONS_MAX_LEN: usize = REVOCATIONS_MIN_LEN + REVOKED_MAX * ENTRY_LEN;

const VERSION: u8 = 1;
const HEAD_LEN: usize = 1 + 16 + 8 + 2;
const ENTRY_LEN: usize = 8 + 32 + 8;
const SIGNATURE_LEN: usize = 64;

/// The parsed list. Borrows: from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocations<'d> {
    /// The mesh that it is good for.
    pub mesh_id: [u8; 16],
    /// Rises with each list; never 0.
    pub number: u64,
    entries: &'d [u8],
    /// The authority's signature over [`Self::signed`].
    pub signature: [u8; SIGNATURE_LEN],
    signed: &'d [u8],
}

/// What is good no longer: a certificate, a key, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revoked {
    /// The certificate's serial; 0 for none.
    pub serial: u64,
    /// The key, S; zeros for none, which are no key.
    pub static_key: [u8; 32],
    /// Last second, since 1970, in which it matters: then all certificates with it have ended.
    pub not_after: u64,
}

impl<'d> Revocations<'d> {
    /// Reads a whole list, and nothing that is not canonical.
    ///
    /// # Errors
    /// S78.
    pub fn parse(bytes: &'d [u8]) -> Result<Self, SealedError> {
        let truncated = |_| fault(Problem::Truncated);
        let read: nom::IResult<&[u8], _> = (be_u8, take(16_u8), be_u64, be_u16).parse(bytes);
        let (rest, (version, mesh_id, number, count)) = read.map_err(truncated)?;
        if version != VERSION {
            return Err(SealedError {
                part: Part::Version,
                problem: Problem::Unexpected,
            });
        }
        if number == 0 {
            return Err(fault(Problem::Unexpected));
        }
        if usize::from(count) > REVOKED_MAX {
            return Err(fault(Problem::TooLong));
        }
        let read: nom::IResult<&[u8], _> =
            (take(usize::from(count) * ENTRY_LEN), take(SIGNATURE_LEN)).parse(rest);
        let (rest, (entries, signature)) = read.map_err(truncated)?;
        if !rest.is_empty() {
            return Err(fault(Problem::TooLong));
        }
        let mut before = None;
        for entry in each(entries) {
            let revokes = entry.serial != 0 || entry.static_key != [0; 32];
            if !revokes || before.is_some_and(|before| before >= entry) {
                return Err(fault(Problem::Unexpected));
            }
            before = Some(entry);
        }
        Ok(Self {
            mesh_id: mesh_id.try_into().unwrap_or_default(),
            number,
            entries,
            signature: signature
                .try_into()
                .map_err(|_| fault(Problem::Truncated))?,
            signed: bytes.get(..bytes.len() - SIGNATURE_LEN).unwrap_or_default(),
        })
    }

    /// The bytes that the signature covers, behind its text.
    pub const fn signed(&self) -> &'d [u8] {
        self.signed
    }

    /// What it revokes, rising.
    pub fn entries(&self) -> impl Iterator<Item = Revoked> + 'd {
        each(self.entries)
    }

    /// Writes all but the signature and returns how many bytes; the 64 of the signature belong
    /// behind them. `None` when it does not fit or is not canonical.
    pub fn emit_unsigned(
        mesh_id: &[u8; 16],
        number: u64,
        entries: &[Revoked],
        buffer: &mut [u8],
    ) -> Option<usize> {
        let rises = entries.is_sorted_by(|left, right| left < right);
        let revokes = |one: &Revoked| one.serial != 0 || one.static_key != [0; 32];
        let count = u16::try_from(entries.len()).ok()?;
        if number == 0 || entries.len() > REVOKED_MAX || !rises || !entries.iter().all(revokes) {
            return None;
        }
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            buffer.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
            at += bytes.len();
            Some(at)
        };
        put(&[VERSION])?;
        put(mesh_id)?;
        put(&number.to_be_bytes())?;
        put(&count.to_be_bytes())?;
        for entry in entries {
            put(&entry.serial.to_be_bytes())?;
            put(&entry.static_key)?;
            put(&entry.not_after.to_be_bytes())?;
        }
        put(&[])
    }
}

fn each(entries: &[u8]) -> impl Iterator<Item = Revoked> {
    entries.chunks_exact(ENTRY_LEN).filter_map(|bytes| {
        let (serial, rest) = bytes.split_first_chunk::<8>()?;
        let (static_key, rest) = rest.split_first_chunk::<32>()?;
        Some(Revoked {
            serial: u64::from_be_bytes(*serial),
            static_key: *static_key,
            not_after: u64::from_be_bytes(rest.try_into().ok()?),
        })
    })
}

const fn fault(problem: Problem) -> SealedError {
    SealedError {
        part: Part::Revocations,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: [Revoked; 3] = [
        Revoked {
            serial: 0,
            static_key: [2; 32],
            not_after: 9,
        },
        Revoked {
            serial: 7,
            static_key: [0; 32],
            not_after: 8,
        },
        Revoked {
            serial: 7,
            static_key: [1; 32],
            not_after: 8,
        },
    ];

    fn written(entries: &[Revoked], buffer: &mut [u8]) -> Option<usize> {
        let len = Revocations::emit_unsigned(&[5; 16], 3, entries, buffer)?;
        buffer.get_mut(len..len + SIGNATURE_LEN)?.fill(9);
        Some(len + SIGNATURE_LEN)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut buffer = [0xa5; REVOCATIONS_MAX_LEN];
        let len = written(&ENTRIES, &mut buffer).unwrap();
        assert_eq!(len, 91 + 3 * 48);
        let read = Revocations::parse(&buffer[..len]).unwrap();
        assert_eq!((read.mesh_id, read.number), ([5; 16], 3));
        assert!(read.entries().eq(ENTRIES));
        assert_eq!((read.signature, read.signed().len()), ([9; 64], len - 64));
        let len = written(&[], &mut buffer).unwrap();
        assert_eq!(len, REVOCATIONS_MIN_LEN);
        assert!(Revocations::parse(&buffer[..len]).is_ok());
    }

    #[test]
    fn every_truncation_and_every_byte_more_is_refused() {
        let mut buffer = [0; 400];
        let len = written(&ENTRIES, &mut buffer).unwrap();
        for cut in 0..len {
            assert!(Revocations::parse(&buffer[..cut]).is_err(), "{cut}");
        }
        assert!(Revocations::parse(&buffer[..=len]).is_err());
    }

    #[test]
    fn what_is_not_canonical_is_refused_by_reader_and_writer() {
        let mut buffer = [0; REVOCATIONS_MAX_LEN + 64];
        let nothing = Revoked {
            serial: 0,
            static_key: [0; 32],
            not_after: 9,
        };
        let [first, second, _] = ENTRIES;
        for entries in [
            &[second, first][..],
            &[first, first],
            &[nothing],
            &[first; REVOKED_MAX + 1],
        ] {
            assert_eq!(written(entries, &mut buffer), None);
        }
        let len = written(&ENTRIES, &mut buffer).unwrap();
        let with = |at: usize, byte: u8| {
            let mut changed = buffer;
            changed[at] = byte;
            Revocations::parse(&changed[..len]).map(|_| ())
        };
        assert!(with(0, 2).is_err(), "another version");
        assert!(with(24, 0).is_err(), "number 0");
        assert!(with(25, 3).is_err(), "more entries than there may be");
        assert!(with(34, 8).is_err(), "entries that do not rise");
    }
}
