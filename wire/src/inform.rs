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

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use nom::IResult;
use nom::Parser;
use nom::number::complete::{be_u16, be_u32, be_u128};

use crate::{Field, Flags, HEADER_LEN, Header, Kind, NetId, ParseError, Problem};

/// Bytes of an Inform payload.
pub const INFORM_LEN: usize = 22;
/// Bytes of a whole Inform datagram.
pub const INFORM_DATAGRAM_LEN: usize = HEADER_LEN + INFORM_LEN;

/// A rumour: this node was seen at this endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inform {
    /// The node told of; any value, not judged here.
    pub subject: NetId,
    /// Where it was reachable; any value, not judged here. Parsing gives an IPv4-mapped address as
    /// IPv4 (A24). Scope and flow label of an IPv6 address have no place on the wire.
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
            .map_err(|_| ParseError::new(Field::Inform, Problem::Truncated))
    }

    /// The payload's bytes; an IPv4 address is written IPv4-mapped.
    pub fn to_bytes(self) -> [u8; INFORM_LEN] {
        let address = match self.endpoint.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut bytes = [0; INFORM_LEN];
        bytes[0..4].copy_from_slice(&self.subject.0.to_be_bytes());
        bytes[4..20].copy_from_slice(&address.octets());
        bytes[20..22].copy_from_slice(&self.endpoint.port().to_be_bytes());
        bytes
    }

    /// Writes the payload into the first [`INFORM_LEN`] bytes of `buffer`; the rest stays.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`INFORM_LEN`].
    #[expect(
        clippy::indexing_slicing,
        reason = "the documented panic of a short buffer"
    )]
    pub fn emit(&self, buffer: &mut [u8]) {
        buffer[..INFORM_LEN].copy_from_slice(&self.to_bytes());
    }
}

impl fmt::Display for Inform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.subject, self.endpoint)
    }
}

/// A whole Inform datagram, ready to be sent.
pub fn emit_inform(
    flags: Flags,
    nonce: u32,
    src: NetId,
    dst: NetId,
    inform: &Inform,
) -> [u8; INFORM_DATAGRAM_LEN] {
    let header = Header {
        kind: Kind::Inform,
        flags,
        nonce,
        src,
        dst,
    };
    let mut datagram = [0; INFORM_DATAGRAM_LEN];
    datagram[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    datagram[HEADER_LEN..].copy_from_slice(&inform.to_bytes());
    datagram
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

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: [u8; 22] = *b"\0\0\0\x11\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x05\x10\x92";
    const SIX: [u8; 22] = *b"\0\0\0\x11\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x05\xac\xac";

    fn about(endpoint: &str) -> Inform {
        Inform {
            subject: NetId(0x11),
            endpoint: endpoint.parse().unwrap(),
        }
    }

    #[test]
    fn an_ipv4_mapped_address_is_given_as_ipv4() {
        assert_eq!(Inform::parse(&FOUR), Ok(about("192.0.2.5:4242")));
    }

    #[test]
    fn an_ipv6_address_stays_one() {
        assert_eq!(Inform::parse(&SIX), Ok(about("[2001:db8::5]:44204")));
    }

    #[test]
    fn an_ipv4_compatible_address_is_not_ipv4() {
        let mut payload = FOUR;
        payload[14..16].fill(0);
        let inform = Inform::parse(&payload).unwrap();
        assert!(inform.endpoint.is_ipv6());
        assert_eq!(inform.to_bytes(), payload);
    }

    #[test]
    fn emit_writes_twenty_two_bytes_and_touches_nothing_else() {
        for (inform, bytes) in [
            (about("192.0.2.5:4242"), FOUR),
            (about("[::ffff:192.0.2.5]:4242"), FOUR),
            (about("[2001:db8::5]:44204"), SIX),
        ] {
            let mut buffer = [0xa5; 24];
            inform.emit(&mut buffer);
            assert_eq!(buffer[..22], bytes);
            assert_eq!(buffer[22..], [0xa5; 2]);
        }
    }

    #[test]
    fn every_truncation_is_a_truncated_inform() {
        for len in 0..22 {
            let expected = Err(ParseError {
                field: Field::Inform,
                problem: Problem::Truncated,
            });
            assert_eq!(Inform::parse(&FOUR[..len]), expected, "{len} bytes");
        }
    }

    #[test]
    fn bytes_after_the_twenty_second_are_ignored() {
        let mut payload = [0xa5; 30];
        payload[..22].copy_from_slice(&FOUR);
        assert_eq!(Inform::parse(&payload), Ok(about("192.0.2.5:4242")));
    }

    #[test]
    fn emit_inform_is_header_and_payload() {
        let datagram = emit_inform(
            Flags::NO_FORWARD,
            0xdead_beef,
            NetId(0x2a),
            NetId(7),
            &about("192.0.2.5:4242"),
        );
        assert_eq!(
            datagram[..16],
            *b"\xac\x01\x05\x80\xde\xad\xbe\xef\0\0\0\x2a\0\0\0\x07"
        );
        assert_eq!(datagram[16..], FOUR);
    }
}
