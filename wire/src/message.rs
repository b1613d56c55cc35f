//! A header together with what follows it.

use crate::{HEADER_LEN, Header, INFORM_LEN, Inform, Kind, ParseError};

/// One whole datagram, read. Borrows the payload of Data from it.
///
/// Bytes behind the last field of Hello, Goodbye, Ping, Pong and Inform are no part of the message
/// (A8); whoever forwards, forwards the datagram, not this.
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
        // A parsed header is `HEADER_LEN` bytes, so there is always a rest, if an empty one.
        let rest = datagram.get(HEADER_LEN..).unwrap_or_default();
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

    /// Bytes of the whole datagram that [`Self::emit`] writes.
    pub const fn datagram_len(&self) -> usize {
        HEADER_LEN + self.payload_len()
    }

    /// Bytes behind the header.
    pub const fn payload_len(&self) -> usize {
        match self {
            Self::Hello | Self::Goodbye | Self::Ping | Self::Pong => 0,
            Self::Inform(_) => INFORM_LEN,
            Self::Data(payload) | Self::Unknown(payload) => payload.len(),
        }
    }

    /// Whether `header` says the same of this message's kind as the message itself.
    pub const fn belongs_to(&self, header: &Header) -> bool {
        matches!(
            (self, header.kind),
            (Self::Hello, Kind::Hello)
                | (Self::Goodbye, Kind::Goodbye)
                | (Self::Ping, Kind::Ping)
                | (Self::Pong, Kind::Pong)
                | (Self::Inform(_), Kind::Inform)
                | (Self::Data(_), Kind::Data)
                | (Self::Unknown(_), Kind::Unknown(_))
        )
    }

    /// Writes header and message into the first [`Self::datagram_len`] bytes of `buffer`; the rest stays.
    ///
    /// Shape: `header` is one that [belongs](Self::belongs_to) to the message; its kind is what
    /// goes out.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`Self::datagram_len`].
    #[expect(
        clippy::indexing_slicing,
        reason = "the documented panic of a short buffer"
    )]
    pub fn emit(&self, header: &Header, buffer: &mut [u8]) {
        let (head, payload) = buffer[..self.datagram_len()].split_at_mut(HEADER_LEN);
        header.emit(head);
        match self {
            Self::Hello | Self::Goodbye | Self::Ping | Self::Pong => {}
            Self::Inform(inform) => inform.emit(payload),
            Self::Data(bytes) | Self::Unknown(bytes) => payload.copy_from_slice(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Field, Flags, NetId, Problem};

    const DATA: &[u8] = b"\xac\x01\x10\x00\0\0\0\x01\0\0\0\x2a\xff\xff\xff\xffhi";

    #[test]
    fn data_borrows_what_is_behind_the_header() {
        let (header, message) = Message::parse(DATA).unwrap();
        assert_eq!(header.dst, NetId::ALL);
        assert_eq!(message, Message::Data(b"hi"));
        assert_eq!(message.datagram_len(), DATA.len());
        assert!(message.belongs_to(&header));
    }

    #[test]
    fn data_without_payload_is_a_message() {
        let (_, message) = Message::parse(&DATA[..16]).unwrap();
        assert_eq!(message, Message::Data(b""));
        assert_eq!(message.datagram_len(), 16);
    }

    #[test]
    fn emit_writes_the_datagram_and_touches_nothing_else() {
        let (header, message) = Message::parse(DATA).unwrap();
        let mut buffer = [0xa5; 20];
        message.emit(&header, &mut buffer);
        assert_eq!(buffer[..18], *DATA);
        assert_eq!(buffer[18..], [0xa5; 2]);
    }

    #[test]
    fn bytes_behind_a_ping_are_no_part_of_it() {
        let datagram = b"\xac\x01\x03\x80\0\0\0\x01\0\0\0\x2a\0\0\0\0padding";
        let (header, message) = Message::parse(datagram).unwrap();
        assert_eq!((header.kind, message), (Kind::Ping, Message::Ping));
        assert_eq!(message.datagram_len(), 16);
    }

    #[test]
    fn a_short_inform_has_a_header_and_is_no_message() {
        let mut datagram = [0; 37];
        datagram[..16].copy_from_slice(b"\xac\x01\x05\x80\0\0\0\x01\0\0\0\x2a\0\0\0\0");
        assert_eq!(Header::parse(&datagram).unwrap().kind, Kind::Inform);
        let error = ParseError::new(Field::Inform, Problem::Truncated);
        assert_eq!(Message::parse(&datagram), Err(error));
    }

    #[test]
    fn an_unknown_kind_keeps_its_bytes() {
        let datagram = b"\xac\x01\x7f\x40\0\0\0\x01\0\0\0\x2a\0\0\0\x07abc";
        let (header, message) = Message::parse(datagram).unwrap();
        assert_eq!(header.kind, Kind::Unknown(0x7f));
        assert_eq!(header.flags, Flags(0x40));
        assert_eq!(message, Message::Unknown(b"abc"));
        assert!(!Message::Hello.belongs_to(&header));
    }
}
