//! Directory payloads (first byte 0xC2): bytes to claims and back.
//!
//! ```text
//!  0        1        2        3
//! +--------+--------+--------+--------+
//! |  0xC2  |  0x01  |  kind  | count  |
//! +--------+--------+--------+--------+
//! |                                   |
//! +             mesh hash             +
//! |                                   |
//! +--------+--------+--------+--------+
//! claims (kind 1):                      hearsay (kind 2), count times:
//! |  set (32) | part | parts | 0 | 0 |  | family | length | age (16) | held (16) | owner (32) |
//! count times:                          | address, 4 or 16 bytes |
//! | family | length | address |
//! ```
//!
//! Source: PROTOCOL.md, "Directory". Parsing is total; it checks shape, not sense: whether a claim
//! is believed is the directory's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nom::multi::count;
use nom::number::complete::{be_u8, be_u16, be_u32, be_u64, be_u128};
use nom::{IResult, Parser};

use crate::id::NetId;

/// The first byte of every directory payload.
pub const SERVICE: u8 = 0xC2;
/// The version of the format.
pub const VERSION: u8 = 1;
/// Bytes of the largest payload we make; fits any path together with header and seal.
pub const MAX_PAYLOAD: usize = 1200;
/// The most parts that one set of claims may come in.
pub const MAX_PARTS: u8 = 64;

const KIND_CLAIMS: u8 = 1;
const KIND_HEARSAY: u8 = 2;
const START_LEN: usize = 12;
const CLAIMS_START_LEN: usize = START_LEN + 8;
/// Bytes of the longest entries, both IPv6.
const CLAIM_LEN: usize = 2 + 16;
const RUMOUR_LEN: usize = 10 + 16;

/// The payload is not a well-formed directory payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// One payload, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Which mesh it is for: [`Mesh::hash`](crate::route::address::Mesh::hash).
    pub mesh: u64,
    /// What it tells.
    pub content: Content,
}

/// What a payload tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// What the originator holds.
    Claims {
        /// Names this version of the originator's claims.
        set: u32,
        /// Which part of the set this is, from 0.
        part: u8,
        /// Parts of the set, 1 to [`MAX_PARTS`].
        parts: u8,
        /// The prefixes of this part.
        prefixes: Vec<IpNet>,
    },
    /// What the originator knows of others.
    Hearsay(Vec<Rumour>),
    /// A kind that this version does not know; ignored.
    Unknown,
}

/// One claim of a third node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rumour {
    /// Who is said to hold it; any value, not judged here.
    pub owner: NetId,
    /// What.
    pub prefix: IpNet,
    /// Seconds since the teller last heard the owner.
    pub age: u16,
    /// Seconds since the teller first heard this claim; 65,535 is "or more".
    pub held: u16,
}

impl Payload {
    /// Reads a payload; bytes behind the last entry are ignored.
    ///
    /// # Errors
    /// Truncated, another version or family, a length beyond the family's, bits set behind the
    /// prefix, a part outside its set.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let (rest, (service, version, kind, entries, mesh)) = start(payload)?;
        if service != SERVICE || version != VERSION {
            return Err(Malformed);
        }
        let content = match kind {
            KIND_CLAIMS => parse_claims(rest, entries)?,
            KIND_HEARSAY => {
                let (_, raw) = count(raw_rumour, usize::from(entries)).parse(rest)?;
                Content::Hearsay(raw.into_iter().collect::<Option<_>>().ok_or(Malformed)?)
            }
            _ => Content::Unknown,
        };
        Ok(Self { mesh, content })
    }
}

fn parse_claims(rest: &[u8], entries: u8) -> Result<Content, Malformed> {
    let (rest, (set, part, parts, _reserved)) = claims_start(rest)?;
    if parts > MAX_PARTS || part >= parts {
        return Err(Malformed);
    }
    let (_, raw) = count(raw_claim, usize::from(entries)).parse(rest)?;
    let prefixes = raw.into_iter().collect::<Option<_>>().ok_or(Malformed)?;
    Ok(Content::Claims {
        set,
        part,
        parts,
        prefixes,
    })
}

/// The payloads that tell all of `prefixes`; one without entries when there are none.
///
/// Shape: at most 64 payloads of at most [`MAX_PAYLOAD`] bytes; prefixes beyond are left out.
pub fn claims(mesh: u64, set: u32, prefixes: &[IpNet]) -> Vec<Vec<u8>> {
    const EACH: usize = (MAX_PAYLOAD - CLAIMS_START_LEN) / CLAIM_LEN;
    let parts = prefixes
        .len()
        .div_ceil(EACH)
        .clamp(1, usize::from(MAX_PARTS));
    (0..parts)
        .map(|part| {
            let from = (part * EACH).min(prefixes.len());
            let slice = &prefixes[from..prefixes.len().min(from + EACH)];
            let mut payload = begin(KIND_CLAIMS, slice.len(), mesh);
            payload.extend_from_slice(&set.to_be_bytes());
            payload.extend_from_slice(&[part as u8, parts as u8, 0, 0]);
            for prefix in slice {
                payload.extend_from_slice(&[family(prefix), prefix.prefix_len()]);
                push_address(&mut payload, prefix);
            }
            payload
        })
        .collect()
}

/// The payloads that tell all of `rumours`; none when there are none.
///
/// Shape: each at most [`MAX_PAYLOAD`] bytes.
pub fn hearsay(mesh: u64, rumours: &[Rumour]) -> Vec<Vec<u8>> {
    rumours
        .chunks((MAX_PAYLOAD - START_LEN) / RUMOUR_LEN)
        .map(|chunk| {
            let mut payload = begin(KIND_HEARSAY, chunk.len(), mesh);
            for rumour in chunk {
                payload.extend_from_slice(&[family(&rumour.prefix), rumour.prefix.prefix_len()]);
                payload.extend_from_slice(&rumour.age.to_be_bytes());
                payload.extend_from_slice(&rumour.held.to_be_bytes());
                payload.extend_from_slice(&rumour.owner.0.to_be_bytes());
                push_address(&mut payload, &rumour.prefix);
            }
            payload
        })
        .collect()
}

fn begin(kind: u8, entries: usize, mesh: u64) -> Vec<u8> {
    let mut payload = Vec::with_capacity(MAX_PAYLOAD);
    payload.extend_from_slice(&[SERVICE, VERSION, kind, entries as u8]);
    payload.extend_from_slice(&mesh.to_be_bytes());
    payload
}

fn family(prefix: &IpNet) -> u8 {
    match prefix {
        IpNet::V4(_) => 4,
        IpNet::V6(_) => 6,
    }
}

fn push_address(payload: &mut Vec<u8>, prefix: &IpNet) {
    match prefix.network() {
        IpAddr::V4(v4) => payload.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => payload.extend_from_slice(&v6.octets()),
    }
}

impl From<nom::Err<nom::error::Error<&[u8]>>> for Malformed {
    fn from(_: nom::Err<nom::error::Error<&[u8]>>) -> Self {
        Self
    }
}

type Start = (u8, u8, u8, u8, u64);

fn start(input: &[u8]) -> IResult<&[u8], Start> {
    (be_u8, be_u8, be_u8, be_u8, be_u64).parse(input)
}

fn claims_start(input: &[u8]) -> IResult<&[u8], (u32, u8, u8, u16)> {
    (be_u32, be_u8, be_u8, be_u16).parse(input)
}

/// An entry whose family, length or bits are wrong reads as `None`, so that it ends the payload.
fn raw_claim(input: &[u8]) -> IResult<&[u8], Option<IpNet>> {
    let (rest, (family, length)) = (be_u8, be_u8).parse(input)?;
    raw_prefix(rest, family, length)
}

fn raw_rumour(input: &[u8]) -> IResult<&[u8], Option<Rumour>> {
    let (rest, (family, length, age, held, owner)) =
        (be_u8, be_u8, be_u16, be_u16, be_u32).parse(input)?;
    let (rest, prefix) = raw_prefix(rest, family, length)?;
    let rumour = prefix.map(|prefix| Rumour {
        owner: NetId(owner),
        prefix,
        age,
        held,
    });
    Ok((rest, rumour))
}

fn raw_prefix(input: &[u8], family: u8, length: u8) -> IResult<&[u8], Option<IpNet>> {
    let (rest, address) = match family {
        4 => be_u32
            .map(|bits| Some(IpAddr::V4(Ipv4Addr::from(bits))))
            .parse(input)?,
        6 => be_u128
            .map(|bits| Some(IpAddr::V6(Ipv6Addr::from(bits))))
            .parse(input)?,
        _ => (input, None),
    };
    let prefix = address
        .and_then(|address| IpNet::new(address, length).ok())
        .filter(|prefix| prefix.addr() == prefix.network());
    Ok((rest, prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MESH: u64 = 0x1122_3344_5566_7788;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn claims_bytes() -> Vec<u8> {
        let mut bytes = vec![0xC2, 1, 1, 2];
        bytes.extend([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
        bytes.extend([0, 0, 0, 9, 0, 1, 0, 0]);
        bytes.extend([4, 32, 10, 1, 2, 3]);
        bytes.extend([
            6, 128, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        ]);
        bytes
    }

    fn hearsay_bytes() -> Vec<u8> {
        let mut bytes = vec![0xC2, 1, 2, 1];
        bytes.extend([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
        bytes.extend([4, 24, 0, 30, 1, 0, 0, 0, 0, 0x2a, 10, 1, 2, 0]);
        bytes
    }

    #[test]
    fn claims_read_and_write_these_bytes() {
        let prefixes = vec![net("10.1.2.3/32"), net("2001:db8::1/128")];
        assert_eq!(claims(MESH, 9, &prefixes), [claims_bytes()]);
        let content = Content::Claims {
            set: 9,
            part: 0,
            parts: 1,
            prefixes,
        };
        let payload = Payload {
            mesh: MESH,
            content,
        };
        assert_eq!(Payload::parse(&claims_bytes()), Ok(payload));
    }

    #[test]
    fn hearsay_reads_and_writes_these_bytes() {
        let rumour = Rumour {
            owner: NetId(0x2a),
            prefix: net("10.1.2.0/24"),
            age: 30,
            held: 256,
        };
        assert_eq!(hearsay(MESH, &[rumour]), [hearsay_bytes()]);
        let content = Content::Hearsay(vec![rumour]);
        let payload = Payload {
            mesh: MESH,
            content,
        };
        assert_eq!(Payload::parse(&hearsay_bytes()), Ok(payload));
    }

    #[test]
    fn every_truncation_is_malformed_and_trailing_bytes_are_ignored() {
        for bytes in [claims_bytes(), hearsay_bytes()] {
            for end in 0..bytes.len() {
                assert_eq!(Payload::parse(&bytes[..end]), Err(Malformed), "{end}");
            }
            let mut longer = bytes.clone();
            longer.extend([0xa5; 7]);
            assert_eq!(Payload::parse(&longer), Payload::parse(&bytes));
        }
    }

    #[test]
    fn wrong_values_are_malformed_and_unknown_kinds_are_not() {
        let wrong = [
            (0, 0xC3), // service
            (1, 2),    // version
            (16, 1),   // part of parts 1
            (17, 0),   // parts
            (17, 65),  // parts
            (20, 5),   // family
            (21, 33),  // length
            (21, 24),  // bits behind the prefix
        ];
        for (offset, value) in wrong {
            let mut bytes = claims_bytes();
            bytes[offset] = value;
            assert_eq!(Payload::parse(&bytes), Err(Malformed), "{offset} {value}");
        }
        let mut bytes = claims_bytes();
        bytes[2] = 3;
        assert_eq!(Payload::parse(&bytes).unwrap().content, Content::Unknown);
    }

    #[test]
    fn no_claims_are_one_payload_and_no_hearsay_is_none() {
        let empty = claims(MESH, 1, &[]);
        assert_eq!(empty.len(), 1);
        assert_eq!(empty[0].len(), 20);
        assert!(hearsay(MESH, &[]).is_empty());
    }

    #[test]
    fn long_lists_are_split_into_payloads_that_fit() {
        let prefixes: Vec<IpNet> = (0..130)
            .map(|n| net(&format!("2001:db8::{n:x}/128")))
            .collect();
        let payloads = claims(MESH, 4, &prefixes);
        assert_eq!(payloads.len(), 2);
        let mut together = Vec::new();
        for (index, bytes) in payloads.iter().enumerate() {
            assert!(bytes.len() <= MAX_PAYLOAD);
            let Content::Claims {
                part,
                parts,
                prefixes,
                ..
            } = Payload::parse(bytes).unwrap().content
            else {
                panic!("claims");
            };
            assert_eq!((usize::from(part), parts), (index, 2));
            together.extend(prefixes);
        }
        assert_eq!(together, prefixes);

        let rumours: Vec<Rumour> = prefixes
            .iter()
            .map(|&prefix| Rumour {
                owner: NetId(7),
                prefix,
                age: 0,
                held: 0,
            })
            .collect();
        let payloads = hearsay(MESH, &rumours);
        assert_eq!(payloads.len(), 3);
        assert!(payloads.iter().all(|bytes| bytes.len() <= MAX_PAYLOAD));
    }

    proptest! {
        #[test]
        fn parsing_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Payload::parse(&bytes);
            // The same bytes as entries of a well-formed start, so that they are reached.
            for kind in [1, 2] {
                let mut started = vec![0xC2, 1, kind, 3];
                started.extend(&bytes);
                let _ = Payload::parse(&started);
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            entries in prop::collection::vec((any::<bool>(), any::<u128>(), any::<u8>()), 0..100),
            set in any::<u32>(),
        ) {
            let prefixes: Vec<IpNet> = entries
                .into_iter()
                .map(|(v4, bits, length)| {
                    let (address, length) = if v4 {
                        (IpAddr::V4(Ipv4Addr::from(bits as u32)), length % 33)
                    } else {
                        (IpAddr::V6(Ipv6Addr::from(bits)), length % 129)
                    };
                    IpNet::new(address, length).unwrap().trunc()
                })
                .collect();
            let mut back = Vec::new();
            for bytes in claims(MESH, set, &prefixes) {
                match Payload::parse(&bytes).unwrap().content {
                    Content::Claims { prefixes, .. } => back.extend(prefixes),
                    other => panic!("{other:?}"),
                }
            }
            prop_assert_eq!(back, prefixes);
        }
    }
}
