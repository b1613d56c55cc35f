//! A header together with what follows it.

use crate::{HEADER_LEN, Header, Inform, Kind, ParseError};

/// One whole datagram, read. Borrows the payload of Data from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'d> {
    /// Introduces the sender.
    Hello,
    /// The originator leaves.
    Goodbye,
    /// Asks for a Pong.
    Ping,
    /// Answers a Ping.
    Pong,
    /// Tells of a third node.
    Inform(Inform),
    /// Carries a payload: everything behind the header, possibly nothing.
    Data(&'d [u8]),
    /// A kind this version does not know; its bytes are kept for forwarding only.
    Unknown(&'d [u8]),
}

impl<'d> Message<'d> {
    /// Reads a whole datagram.
    ///
    /// # Errors
    /// As [`Header::parse`], and an Inform that is too short.
    pub fn parse(datagram: &'d [u8]) -> Result<(Header, Self), ParseError> {
        let header = Header::parse(datagram)?;
        let rest = &datagram[HEADER_LEN..];
        let message = match header.kind {
            Kind::Hello => Self::Hello,
            Kind::Goodbye => Self::Goodbye,
            Kind::Ping => Self::Ping,
            Kind::Pong => Self::Pong,
            Kind::Inform => Self::Inform(Inform::parse(rest)?),
            Kind::Data => Self::Data(rest),
            Kind::Unknown(_) => Self::Unknown(rest),
        };
        Ok((header, message))
    }
}
