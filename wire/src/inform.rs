//! What an Inform tells: a third node, and where it was reachable.
//!
//! ```text
//! +--------+--------+--------+--------+
//! |           subject netid           |
//! +--------+--------+--------+--------+
//! |                                   |
//! +                                   +
//! |   subject address: IPv6, or       |
//! +   ::ffff:a.b.c.d for IPv4         +
//! |                                   |
//! +                                   +
//! |                                   |
//! +--------+--------+--------+--------+
//! |  subject port   |
//! +--------+--------+
//! ```

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use nom::IResult;
use nom::Parser;
use nom::number::complete::{be_u16, be_u32, be_u128};

use crate::{Field, NetId, ParseError, Problem};

/// Bytes of an Inform payload; a datagram of it has `HEADER_LEN` more.
pub const INFORM_LEN: usize = 22;

/// A rumour: this node was seen at this endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inform {
    /// The node told of; any value, not judged here.
    pub subject: NetId,
    /// Where it was reachable. An IPv4-mapped address is given as IPv4 (A24).
    pub endpoint: SocketAddr,
}

impl Inform {
    /// Reads the payload; bytes after the 22nd are ignored (A8).
    ///
    /// # Errors
    /// Shorter than [`INFORM_LEN`].
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        raw(payload)
            .map(|(_, inform)| inform)
            .map_err(|_| ParseError {
                field: Field::Inform,
                problem: Problem::Truncated,
            })
    }

    /// Writes the payload into the first [`INFORM_LEN`] bytes of `buffer`.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`INFORM_LEN`].
    pub fn emit(&self, buffer: &mut [u8]) {
        let address = match self.endpoint.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        buffer[0..4].copy_from_slice(&self.subject.0.to_be_bytes());
        buffer[4..20].copy_from_slice(&address.octets());
        buffer[20..22].copy_from_slice(&self.endpoint.port().to_be_bytes());
    }
}

fn raw(input: &[u8]) -> IResult<&[u8], Inform> {
    let (rest, (subject, address, port)) = (be_u32, be_u128, be_u16).parse(input)?;
    let address = Ipv6Addr::from(address).to_canonical();
    Ok((
        rest,
        Inform {
            subject: NetId(subject),
            endpoint: SocketAddr::new(address, port),
        },
    ))
}
