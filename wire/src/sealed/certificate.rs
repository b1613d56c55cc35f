//! The certificate: who a node is, by the mesh authority's word (S35, S36).
//!
//! Reading is canonical: a certificate has one form, so that none can be told apart from itself by
//! its bytes. Signatures are verified elsewhere.

use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u32, be_u64};

use super::{Part, SealedError};
use crate::{NetId, Problem};

/// Bytes of a certificate without name and prefixes.
pub const CERTIFICATE_MIN_LEN: usize = 178;
/// Bytes of the longest name.
pub const NAME_MAX_LEN: usize = 32;
/// Prefixes of one certificate.
pub const PREFIXES_MAX: usize = 8;
/// Bytes of the longest certificate.
pub const CERTIFICATE_MAX_LEN: usize =
    CERTIFICATE_MIN_LEN + NAME_MAX_LEN + PREFIXES_MAX * PREFIX_LEN;
/// The rights that are defined: originate, forward, inform, relay, administer (S38).
pub const RIGHTS: u16 = 0b1_1111;

/// The highest rate class that differs from the one below it.
pub const RATE_CLASS_MAX: u8 = 18;
/// Bytes per second of rate class 1: 64 kbit/s.
const RATE_LEAST: u64 = 8_000;

/// Bytes per second that a rate class gives, each class twice as much as the one below it: 8,000 by class
/// 1, 1.05 GB by class 18 and all above (S106). `None` for class 0, which has no bound.
pub const fn rate_of(class: u8) -> Option<u64> {
    match class {
        0 => None,
        1..RATE_CLASS_MAX => Some(RATE_LEAST << (class - 1)),
        _ => Some(RATE_LEAST << (RATE_CLASS_MAX - 1)),
    }
}

const VERSION: u8 = 1;
const PREFIX_LEN: usize = 18;
const SIGNATURE_LEN: usize = 64;

/// The parsed certificate. Borrows: from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate<'d> {
    /// The mesh that it is good for.
    pub mesh_id: [u8; 16],
    /// The node's netid.
    pub netid: NetId,
    /// The node's X25519 public key, S.
    pub static_key: [u8; 32],
    /// The node's Ed25519 public key, V.
    pub signing_key: [u8; 32],
    /// First second of its validity, since 1970.
    pub not_before: u64,
    /// Last second of its validity.
    pub not_after: u64,
    /// The number by which it is revoked.
    pub serial: u64,
    /// What the node may do; only bits of [`RIGHTS`].
    pub rights: u16,
    /// How much of its own the node may send: [`rate_of`] says what it means.
    pub rate_class: u8,
    /// Printable ASCII.
    pub name: &'d str,
    /// Prefixes that the node may use as source, [`Prefix`] by [`Prefix`].
    prefixes: &'d [u8],
    /// The authority's signature over [`Self::signed`].
    pub signature: [u8; SIGNATURE_LEN],
    signed: &'d [u8],
}

/// A network that a node may speak for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prefix {
    /// IPv4: address and bits.
    V4([u8; 4], u8),
    /// IPv6: address and bits.
    V6([u8; 16], u8),
}

impl<'d> Certificate<'d> {
    /// Reads a whole certificate, and nothing that is not canonical.
    ///
    /// # Errors
    /// S36.
    pub fn parse(bytes: &'d [u8]) -> Result<Self, SealedError> {
        if bytes.len() < CERTIFICATE_MIN_LEN {
            return Err(fault(Part::Certificate, Problem::Truncated));
        }
        let truncated = |_| fault(Part::Certificate, Problem::Truncated);
        let read: nom::IResult<&[u8], _> = (
            be_u8,
            take(16_u8),
            be_u32,
            take(32_u8),
            take(32_u8),
            be_u64,
            be_u64,
            be_u64,
            be_u16,
            be_u8,
            be_u8,
        )
            .parse(bytes);
        let (rest, fixed) = read.map_err(truncated)?;
        let (version, mesh_id, netid, s, v, not_before, not_after, serial, rights, class, len) =
            fixed;
        let netid = NetId(netid);
        if version != VERSION {
            return Err(fault(Part::Version, Problem::Unexpected));
        }
        if !netid.is_node() || not_after < not_before || rights & !RIGHTS != 0 {
            return Err(fault(Part::Certificate, Problem::Unexpected));
        }
        let (name, rest) = read_name(len, rest)?;
        let (prefixes, rest) = read_prefixes(rest)?;
        let signature = match <[u8; SIGNATURE_LEN]>::try_from(rest) {
            Ok(signature) => signature,
            Err(_) if rest.len() < SIGNATURE_LEN => {
                return Err(fault(Part::Certificate, Problem::Truncated));
            }
            Err(_) => return Err(fault(Part::Certificate, Problem::TooLong)),
        };
        Ok(Self {
            mesh_id: array(mesh_id),
            netid,
            static_key: array(s),
            signing_key: array(v),
            not_before,
            not_after,
            serial,
            rights,
            rate_class: class,
            name,
            prefixes,
            signature,
            signed: bytes.get(..bytes.len() - SIGNATURE_LEN).unwrap_or_default(),
        })
    }

    /// The bytes that the signature covers, behind its text.
    pub const fn signed(&self) -> &'d [u8] {
        self.signed
    }

    /// The prefixes, rising.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> + 'd {
        self.prefixes
            .chunks_exact(PREFIX_LEN)
            .filter_map(|bytes| Prefix::parse(bytes).ok())
    }
}

/// What an authority writes.
impl Certificate<'_> {
    /// Writes all but the signature and returns how many bytes; the 64 of the signature belong
    /// behind them. `None` when it does not fit or is not canonical.
    pub fn emit_unsigned(&self, prefixes: &[Prefix], buffer: &mut [u8]) -> Option<usize> {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            buffer.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
            at += bytes.len();
            Some(at)
        };
        put(&[VERSION])?;
        put(&self.mesh_id)?;
        put(&self.netid.0.to_be_bytes())?;
        put(&self.static_key)?;
        put(&self.signing_key)?;
        put(&self.not_before.to_be_bytes())?;
        put(&self.not_after.to_be_bytes())?;
        put(&self.serial.to_be_bytes())?;
        put(&self.rights.to_be_bytes())?;
        put(&[self.rate_class])?;
        put(&[u8::try_from(self.name.len()).ok()?])?;
        put(self.name.as_bytes())?;
        put(&[u8::try_from(prefixes.len()).ok()?])?;
        for prefix in prefixes {
            put(&prefix.to_bytes())?;
        }
        let unsigned = put(&[])?;
        // Whoever reads it must accept it: the reader is the judge.
        let mut whole = [0; CERTIFICATE_MAX_LEN];
        let whole = whole.get_mut(..unsigned + SIGNATURE_LEN)?;
        whole
            .get_mut(..unsigned)?
            .copy_from_slice(buffer.get(..unsigned)?);
        Certificate::parse(whole).ok().map(|_| unsigned)
    }

    /// A certificate of these fields without name, prefixes and signature, to be written.
    pub const fn of(
        mesh_id: [u8; 16],
        netid: NetId,
        static_key: [u8; 32],
        signing_key: [u8; 32],
    ) -> Self {
        Self {
            mesh_id,
            netid,
            static_key,
            signing_key,
            not_before: 0,
            not_after: u64::MAX,
            serial: 0,
            rights: 0b111,
            rate_class: 0,
            name: "",
            prefixes: &[],
            signature: [0; SIGNATURE_LEN],
            signed: &[],
        }
    }
}

impl Prefix {
    /// The prefix's 18 bytes.
    pub fn to_bytes(self) -> [u8; PREFIX_LEN] {
        let mut bytes = [0; PREFIX_LEN];
        match self {
            Self::V4(address, len) => {
                (bytes[0], bytes[1]) = (4, len);
                bytes[2..6].copy_from_slice(&address);
            }
            Self::V6(address, len) => {
                (bytes[0], bytes[1]) = (6, len);
                bytes[2..18].copy_from_slice(&address);
            }
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, SealedError> {
        let bad = fault(Part::Prefix, Problem::Unexpected);
        let [family, len, address @ ..] = bytes else {
            return Err(bad);
        };
        let address: [u8; 16] = address.try_into().map_err(|_| bad)?;
        if u128::from_be_bytes(address)
            .checked_shl(u32::from(*len))
            .unwrap_or(0)
            != 0
        {
            return Err(bad);
        }
        match (family, address) {
            // A length within 32 and no bit behind it leave the last 12 bytes zero.
            (4, [a, b, c, d, ..]) if *len <= 32 => Ok(Self::V4([a, b, c, d], *len)),
            (6, _) if *len <= 128 => Ok(Self::V6(address, *len)),
            _ => Err(bad),
        }
    }
}

fn read_name(len: u8, rest: &[u8]) -> Result<(&str, &[u8]), SealedError> {
    if usize::from(len) > NAME_MAX_LEN {
        return Err(fault(Part::Name, Problem::TooLong));
    }
    let read: nom::IResult<&[u8], &[u8]> = take(len).parse(rest);
    let (rest, name) = read.map_err(|_| fault(Part::Name, Problem::Truncated))?;
    if !name.iter().all(|byte| (0x20..=0x7e).contains(byte)) {
        return Err(fault(Part::Name, Problem::Unexpected));
    }
    let name = core::str::from_utf8(name).map_err(|_| fault(Part::Name, Problem::Unexpected))?;
    Ok((name, rest))
}

fn read_prefixes(rest: &[u8]) -> Result<(&[u8], &[u8]), SealedError> {
    let truncated = |_| fault(Part::Prefix, Problem::Truncated);
    let read: nom::IResult<&[u8], u8> = be_u8.parse(rest);
    let (rest, count) = read.map_err(truncated)?;
    if usize::from(count) > PREFIXES_MAX {
        return Err(fault(Part::Prefix, Problem::TooLong));
    }
    let read: nom::IResult<&[u8], &[u8]> = take(usize::from(count) * PREFIX_LEN).parse(rest);
    let (rest, prefixes) = read.map_err(truncated)?;
    let mut last: Option<&[u8]> = None;
    for prefix in prefixes.chunks_exact(PREFIX_LEN) {
        Prefix::parse(prefix)?;
        if last.is_some_and(|last| last >= prefix) {
            return Err(fault(Part::Prefix, Problem::Unexpected));
        }
        last = Some(prefix);
    }
    Ok((prefixes, rest))
}

/// The bytes as an array of the length that was taken.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

const fn fault(part: Part, problem: Problem) -> SealedError {
    SealedError::new(part, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIXES: [Prefix; 3] = [
        Prefix::V4([10, 0, 0, 0], 8),
        Prefix::V4([10, 1, 0, 0], 16),
        Prefix::V6([0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 32),
    ];

    fn fields() -> Certificate<'static> {
        Certificate {
            not_before: 1_700_000_000,
            not_after: 1_707_776_000,
            serial: 7,
            name: "van 3",
            ..Certificate::of([1; 16], NetId(0x2a), [2; 32], [3; 32])
        }
    }

    fn bytes(prefixes: &[Prefix]) -> ([u8; CERTIFICATE_MAX_LEN], usize) {
        let mut buffer = [0; CERTIFICATE_MAX_LEN];
        let len = fields().emit_unsigned(prefixes, &mut buffer).unwrap();
        buffer[len..len + 64].fill(9);
        (buffer, len + 64)
    }

    #[test]
    fn what_is_written_is_read() {
        let (buffer, len) = bytes(&PREFIXES);
        let read = Certificate::parse(&buffer[..len]).unwrap();
        assert_eq!(len, 178 + 5 + 3 * 18);
        assert_eq!(
            (read.netid, read.serial, read.name),
            (NetId(0x2a), 7, "van 3")
        );
        assert_eq!((read.static_key, read.signing_key), ([2; 32], [3; 32]));
        assert!(read.prefixes().eq(PREFIXES));
        assert_eq!((read.signature, read.signed().len()), ([9; 64], len - 64));
    }

    #[test]
    fn every_truncation_and_every_byte_more_is_refused() {
        let (buffer, len) = bytes(&PREFIXES);
        for cut in 0..len {
            assert!(Certificate::parse(&buffer[..cut]).is_err(), "{cut}");
        }
        assert!(Certificate::parse(&buffer[..=len]).is_err());
    }

    #[test]
    fn what_is_not_canonical_is_refused_by_reader_and_writer() {
        let v6 = |last| Prefix::V6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last], 64);
        for prefixes in [
            &[PREFIXES[1], PREFIXES[0]][..],
            &[PREFIXES[0], PREFIXES[0]],
            &[Prefix::V4([10, 0, 0, 1], 8)],
            &[Prefix::V4([10, 0, 0, 0], 33)],
            &[v6(1)],
            &[Prefix::V6([0; 16], 129)],
            &[PREFIXES[0]; 9],
        ] {
            let mut buffer = [0; 500];
            assert_eq!(fields().emit_unsigned(prefixes, &mut buffer), None);
        }
        let (buffer, len) = bytes(&[]);
        let with = |at: usize, byte: u8| {
            let mut changed = buffer;
            changed[at] = byte;
            Certificate::parse(&changed[..len])
                .map(|_| ())
                .map_err(|error| error.part)
        };
        assert_eq!(with(0, 2), Err(Part::Version));
        assert_eq!(
            with(109, 0x80),
            Err(Part::Certificate),
            "an undefined right"
        );
        assert_eq!(with(113, b'\n'), Err(Part::Name));
    }

    #[test]
    fn a_prefix_of_no_bits_and_one_of_all_bits_are_canonical() {
        let prefixes = [
            Prefix::V4([0; 4], 0),
            Prefix::V4([255; 4], 32),
            Prefix::V6([0; 16], 0),
            Prefix::V6([255; 16], 128),
        ];
        let (buffer, len) = bytes(&prefixes);
        assert!(
            Certificate::parse(&buffer[..len])
                .unwrap()
                .prefixes()
                .eq(prefixes)
        );
    }
}
