//! Messages in words, for logs and `floodmesh decode`. Nothing here is read back by a program.
//!
//! [`Line`] is a datagram on one line, [`Tree`] every field of it with offset, bytes and meaning.
//! Both take any bytes and say where and why bad ones fail. What they write is printable ASCII
//! (and, from [`Tree`], line feeds), whatever the network sent (SECURITY T23).

mod tree;

use core::fmt;

use crate::service::{self, Service};
use crate::{Flags, Header, Kind, Message, NetId, ParseError};

pub use tree::Tree;

/// Any datagram on one line: `Ping 0000002a -> 00000007, nonce 0a0b0c0d`.
#[derive(Clone, Copy, Debug)]
pub struct Line<'d>(pub &'d [u8]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Message::parse(self.0) {
            Ok((header, message)) => {
                write!(f, "{header}")?;
                match message {
                    Message::Inform(inform) => write!(f, ": {inform}")?,
                    Message::Data(payload) => write!(f, ": {}", Payload(payload))?,
                    Message::Unknown(rest) => write!(f, ": {} bytes", rest.len())?,
                    Message::Hello | Message::Goodbye | Message::Ping | Message::Pong => {}
                }
                match self.0.len().saturating_sub(message.datagram_len()) {
                    0 => Ok(()),
                    trailing => write!(f, ", {trailing} trailing bytes"),
                }
            }
            Err(error) => write!(f, "{}", Refusal(error, self.0.len())),
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dst = Destination(self.dst);
        write!(f, "{} {} -> {dst}", self.kind, self.src)?;
        if self.flags != Flags::NONE {
            write!(f, ", {}", self.flags)?;
        }
        write!(f, ", nonce {:08x}", self.nonce)
    }
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello => f.write_str("Hello"),
            Self::Goodbye => f.write_str("Goodbye"),
            Self::Ping => f.write_str("Ping"),
            Self::Pong => f.write_str("Pong"),
            Self::Inform(inform) => write!(f, "Inform: {inform}"),
            Self::Data(payload) => write!(f, "Data: {}", Payload(payload)),
            Self::Unknown(rest) => write!(f, "unknown kind: {} bytes", rest.len()),
        }
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.no_forward(), self.reserved()) {
            (false, 0) => f.write_str("no flags"),
            (true, 0) => f.write_str("NO_FORWARD"),
            (false, reserved) => write!(f, "reserved flags {reserved:02x}"),
            (true, reserved) => write!(f, "NO_FORWARD and reserved flags {reserved:02x}"),
        }
    }
}

/// A dst netid: the two special ones by name.
struct Destination(NetId);

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            NetId::ANY => f.write_str("any node"),
            NetId::ALL => f.write_str("all nodes"),
            node => write!(f, "{node}"),
        }
    }
}

/// What a Data payload is: `84 bytes, IPv4 packet`.
struct Payload<'d>(&'d [u8]);

impl fmt::Display for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            None => f.write_str("no payload"),
            Some(&first) => write!(f, "{} bytes, {}", self.0.len(), ServiceName(first)),
        }
    }
}

/// The service that a first byte names, the two IP versions told apart.
struct ServiceName(u8);

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (service::classify(self.0), self.0 >> 4) {
            (Service::IpPacket, 4) => f.write_str("IPv4 packet"),
            (Service::IpPacket, _) => f.write_str("IPv6 packet"),
            (service, _) => write!(f, "{service}"),
        }
    }
}

/// Why bytes are not a message, where the wrong field begins, and of how many bytes.
struct Refusal(ParseError, usize);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error, len) = self;
        let offset = error.field.offset();
        write!(
            f,
            "not a message: {error}, at offset {offset} of {len} bytes"
        )
    }
}

/// What a kind is for.
const fn purpose(kind: Kind) -> &'static str {
    match kind {
        Kind::Hello => "introduces its sender",
        Kind::Goodbye => "its originator leaves",
        Kind::Ping => "asks for a Pong",
        Kind::Pong => "answers a Ping",
        Kind::Inform => "tells of a third node",
        Kind::Data => "carries a payload",
        Kind::Unknown(_) => "unknown: not processed, forwarded by the general rules",
    }
}

/// What becomes of a message at whoever receives it (PROTOCOL.md, R19).
const fn fate(header: &Header) -> &'static str {
    match (header.kind, header.dst, header.flags.no_forward()) {
        (Kind::Unknown(_), NetId::ANY, _) | (Kind::Unknown(_), _, true) => {
            "processed by nobody, not forwarded"
        }
        (Kind::Unknown(_), _, false) => "processed by nobody, forwarded all the same",
        (_, NetId::ANY, _) => "processed by whoever receives it, never forwarded",
        (_, NetId::ALL, false) => "processed by every node and forwarded",
        (_, NetId::ALL, true) => "processed by whoever receives it, not forwarded",
        (_, _, false) => "processed by its destination, forwarded by everyone else",
        (_, _, true) => "processed by its destination, dropped by everyone else",
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    fn line(datagram: &[u8]) -> std::string::String {
        Line(datagram).to_string()
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(
            line(b"\xac\x01\x01\x80\x01\x02\x03\x04\0\0\0\x2a\0\0\0\0"),
            "Hello 0000002a -> any node, NO_FORWARD, nonce 01020304"
        );
        assert_eq!(
            line(b"\xac\x01\x03\0\x0a\x0b\x0c\x0d\0\0\0\x2a\0\0\0\x07pad"),
            "Ping 0000002a -> 00000007, nonce 0a0b0c0d, 3 trailing bytes"
        );
        assert_eq!(
            line(b"\xac\x01\x10\x40\0\0\0\x01\0\0\0\x2a\xff\xff\xff\xff\x45\0"),
            "Data 0000002a -> all nodes, reserved flags 40, nonce 00000001: 2 bytes, IPv4 packet"
        );
        assert_eq!(
            line(
                b"\xac\x01\x05\x80\0\0\0\x01\0\0\0\x2a\0\0\0\x07\
                  \0\0\0\x11\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x05\x10\x92"
            ),
            "Inform 0000002a -> 00000007, NO_FORWARD, nonce 00000001: 00000011 at 192.0.2.5:4242"
        );
        assert_eq!(
            line(b"\xac\x01\x7f\xff\0\0\0\x01\0\0\0\x2a\0\0\0\x07abc"),
            "kind 7f 0000002a -> 00000007, NO_FORWARD and reserved flags 7f, nonce 00000001: 3 bytes"
        );
    }

    #[test]
    fn a_refused_datagram_says_where_and_why() {
        assert_eq!(
            line(b"\xac\x02\x10\0\0\0\0\x01\0\0\0\x2a\0\0\0\x07"),
            "not a message: version is not the expected value, at offset 1 of 16 bytes"
        );
        assert_eq!(
            line(b""),
            "not a message: header is truncated, at offset 0 of 0 bytes"
        );
    }

    #[test]
    fn a_payload_is_named_by_its_first_byte() {
        for (first, name) in [
            (0x60, "IPv6 packet"),
            (0xc0, "Ethernet frame"),
            (0xc8, "sealed end to end"),
            (0x68, "IPv6 packet"),
            (0x00, "unknown service 00"),
        ] {
            let text = Message::Data(&[first, 0, 0]).to_string();
            assert_eq!(text, std::format!("Data: 3 bytes, {name}"));
        }
        assert_eq!(Message::Data(b"").to_string(), "Data: no payload");
    }

    #[test]
    fn fate_follows_dst_and_no_forward() {
        let mut header = Header {
            kind: Kind::Data,
            flags: Flags::NONE,
            nonce: 1,
            src: NetId(1),
            dst: NetId::ALL,
        };
        assert_eq!(fate(&header), "processed by every node and forwarded");
        header.flags = Flags(0xff);
        assert_eq!(
            fate(&header),
            "processed by whoever receives it, not forwarded"
        );
        header.dst = NetId(7);
        assert_eq!(
            fate(&header),
            "processed by its destination, dropped by everyone else"
        );
    }
}
