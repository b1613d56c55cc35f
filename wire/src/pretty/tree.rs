//! A datagram field by field: offset, bytes, name, meaning.

use core::fmt::{self, Display, Formatter};

use super::{Destination, Refusal, ServiceName, fate, purpose};
use crate::service::{self, Service};
use crate::{Flags, INFORM_LEN, Inform, Kind, MAGIC, Message, NetId, VERSION};

/// First byte of a sealed link's datagrams, which share the socket with ours.
const SEALED_LINK: u8 = 0xAE;
/// Bytes of a payload that are shown; a whole datagram would bury the rest.
const DUMP_LEN: usize = 256;
/// Bytes in one row of a dump.
const DUMP_ROW: usize = 16;

/// Any datagram, field by field, over several lines without a line feed at the end.
///
/// Fields that cannot be are marked `WRONG`; bytes behind a place where the layout is no longer
/// known are shown and not interpreted.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'d>(pub &'d [u8]);

impl Display for Tree<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let datagram = self.0;
        match Message::parse(datagram) {
            Ok((header, _)) => {
                let dst = Destination(header.dst);
                let (kind, src, len) = (header.kind, header.src, datagram.len());
                write!(
                    f,
                    "{kind} from {src} to {dst}, {len} bytes\n{}",
                    fate(&header)
                )?;
            }
            Err(error) => {
                let refusal = Refusal(error, datagram.len());
                write!(f, "{refusal}\ndropped by everyone")?;
            }
        }
        let mut fields = Fields { datagram, at: 0 };
        match header(f, &mut fields)? {
            Some(kind) => body(f, &mut fields, kind),
            None => dump(f, "not read", &fields),
        }
    }
}

/// The header's rows; what kind of body follows, `None` when that cannot be told.
fn header(f: &mut Formatter<'_>, fields: &mut Fields<'_>) -> Result<Option<Kind>, fmt::Error> {
    f.write_str("\nheader")?;
    let Some(magic) = fields.number::<1>(f, "magic", |f, magic| match magic as u8 {
        MAGIC => f.write_str("the 0xAC netid protocol"),
        SEALED_LINK => f.write_str("WRONG: not ac; ae begins a sealed link's datagram"),
        _ => f.write_str("WRONG: not ac, so this is not the netid protocol"),
    })?
    else {
        return Ok(None);
    };
    if magic as u8 != MAGIC {
        return Ok(None);
    }
    let Some(version) = fields.number::<1>(f, "version", |f, version| match version as u8 {
        VERSION => f.write_str("1"),
        _ => f.write_str("WRONG: 1 is the only version, the layout of others is unknown"),
    })?
    else {
        return Ok(None);
    };
    if version as u8 != VERSION {
        return Ok(None);
    }
    let Some(kind) = fields.number::<1>(f, "kind", |f, byte| {
        let kind = Kind::from_byte(byte as u8);
        match kind {
            Kind::Unknown(_) => f.write_str(purpose(kind)),
            _ => write!(f, "{kind}: {}", purpose(kind)),
        }
    })?
    else {
        return Ok(None);
    };
    fields.number::<1>(f, "flags", |f, flags| write!(f, "{}", Flags(flags as u8)))?;
    fields.number::<4>(f, "nonce", |f, _| {
        f.write_str("random, fresh for each message")
    })?;
    fields.number::<4>(f, "src", |f, src| match NetId(src) {
        src if src.is_node() => write!(f, "node {src}"),
        src => write!(f, "WRONG: stands for {}, not for one", Destination(src)),
    })?;
    let dst = fields.number::<4>(f, "dst", |f, dst| match NetId(dst) {
        dst if dst.is_node() => write!(f, "node {dst}"),
        dst => write!(f, "{}", Destination(dst)),
    })?;
    Ok(dst.map(|_| Kind::from_byte(kind as u8)))
}

/// The rows behind the header.
fn body(f: &mut Formatter<'_>, fields: &mut Fields<'_>, kind: Kind) -> fmt::Result {
    match kind {
        Kind::Hello | Kind::Goodbye | Kind::Ping | Kind::Pong => {}
        Kind::Inform => inform(f, fields)?,
        Kind::Data => return data(f, fields),
        Kind::Unknown(_) => return dump(f, "payload, not read", fields),
    }
    dump(f, "trailing, ignored and forwarded unaltered", fields)
}

fn inform(f: &mut Formatter<'_>, fields: &mut Fields<'_>) -> fmt::Result {
    f.write_str("\ninform")?;
    let endpoint = Inform::parse(fields.rest()).map(|inform| inform.endpoint);
    let mapped = fields.rest().get(4..16) == Some(b"\0\0\0\0\0\0\0\0\0\0\xff\xff");
    fields.number::<4>(f, "subject netid", |f, subject| match NetId(subject) {
        subject if subject.is_node() => write!(f, "node {subject}"),
        subject => write!(f, "{}: nobody, so it is not followed", Destination(subject)),
    })?;
    // The address is drawn as its four 32-bit words; its text stands beside the first.
    for word in 0..4 {
        fields.number::<4>(f, "subject address", |f, _| match (word, endpoint) {
            (0, Ok(endpoint)) if mapped => write!(f, "{} (IPv4-mapped)", endpoint.ip()),
            (0, Ok(endpoint)) => write!(f, "{}", endpoint.ip()),
            (0, Err(_)) => f.write_str("cut off"),
            _ => f.write_str("continued"),
        })?;
    }
    fields.number::<2>(f, "subject port", |f, port| write!(f, "{port}"))?;
    if endpoint.is_err() {
        write!(f, "\n  WRONG: an Inform has {INFORM_LEN} bytes here")?;
    }
    Ok(())
}

fn data(f: &mut Formatter<'_>, fields: &mut Fields<'_>) -> fmt::Result {
    let Some(&first) = fields.rest().first() else {
        return f.write_str("\nno payload");
    };
    f.write_str("\npayload")?;
    let name = ServiceName(first);
    let service = service::classify(first);
    let whole = *fields;
    fields.number::<1>(f, "service", |f, _| match service {
        Service::IpPacket => write!(f, "{name}, this byte included"),
        Service::Unknown(_) => write!(f, "{name}: ignored, forwarded all the same"),
        _ => write!(f, "{name} follows"),
    })?;
    match service {
        Service::IpPacket => dump(f, "packet", &whole),
        _ => dump(f, "content", fields),
    }
}

/// All bytes that are left, up to [`DUMP_LEN`], in hex and ASCII; nothing when none are left.
fn dump(f: &mut Formatter<'_>, title: &str, fields: &Fields<'_>) -> fmt::Result {
    let rest = fields.rest();
    if rest.is_empty() {
        return Ok(());
    }
    write!(f, "\n{title}, {} bytes", rest.len())?;
    let shown = rest.get(..DUMP_LEN).unwrap_or(rest);
    for (row, bytes) in shown.chunks(DUMP_ROW).enumerate() {
        let at = fields.at + row * DUMP_ROW;
        write!(
            f,
            "\n  {at:>5}  {}  ",
            Hex {
                bytes,
                width: 2 * DUMP_ROW
            }
        )?;
        for &byte in bytes {
            let printable = byte == b' ' || byte.is_ascii_graphic();
            write!(f, "{}", if printable { byte as char } else { '.' })?;
        }
    }
    match rest.len() - shown.len() {
        0 => Ok(()),
        more => write!(f, "\n         and {more} bytes more"),
    }
}

/// The datagram and how far it is read.
#[derive(Clone, Copy)]
struct Fields<'d> {
    datagram: &'d [u8],
    at: usize,
}

impl<'d> Fields<'d> {
    fn rest(&self) -> &'d [u8] {
        self.datagram.get(self.at..).unwrap_or_default()
    }

    /// One row: the next `N` bytes, at most 4, as a big-endian number with its meaning. When they
    /// are not all there, the row says so, the rest is taken, and the answer is `None`; when
    /// nothing at all was left and the row before said so already, there is no row.
    fn number<const N: usize>(
        &mut self,
        f: &mut Formatter<'_>,
        name: &str,
        meaning: impl FnOnce(&mut Formatter<'_>, u32) -> fmt::Result,
    ) -> Result<Option<u32>, fmt::Error> {
        let at = self.at;
        let rest = self.rest();
        let bytes = rest.get(..N).unwrap_or(rest);
        if at > self.datagram.len() {
            return Ok(None);
        }
        write!(f, "\n  {at:>5}  {}  {name:<15}  ", Hex { bytes, width: 8 })?;
        if bytes.len() < N {
            write!(f, "WRONG: ends after {} of {N} bytes", bytes.len())?;
            // One past the end tells the rows after this one that the end was reported.
            self.at = self.datagram.len() + 1;
            return Ok(None);
        }
        self.at += N;
        let number = bytes
            .iter()
            .fold(0, |sum, &byte| (sum << 8) | u32::from(byte));
        meaning(f, number)?;
        Ok(Some(number))
    }
}

/// Bytes in hex, padded with blanks to `width` characters.
struct Hex<'d> {
    bytes: &'d [u8],
    width: usize,
}

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for byte in self.bytes {
            write!(f, "{byte:02x}")?;
        }
        let pad = self.width.saturating_sub(2 * self.bytes.len());
        write!(f, "{:pad$}", "")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::{String, ToString};

    fn tree(datagram: &[u8]) -> String {
        Tree(datagram).to_string()
    }

    const INFORM: &[u8] = b"\xac\x01\x05\x80\xde\xad\xbe\xef\0\0\0\x2a\0\0\0\x07\
        \0\0\0\x11\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x05\x10\x92";

    #[test]
    fn every_field_has_offset_bytes_name_and_meaning() {
        let expected = "\
Inform from 0000002a to 00000007, 38 bytes
processed by its destination, dropped by everyone else
header
      0  ac        magic            the 0xAC netid protocol
      1  01        version          1
      2  05        kind             Inform: tells of a third node
      3  80        flags            NO_FORWARD
      4  deadbeef  nonce            random, fresh for each message
      8  0000002a  src              node 0000002a
     12  00000007  dst              node 00000007
inform
     16  00000011  subject netid    node 00000011
     20  00000000  subject address  192.0.2.5 (IPv4-mapped)
     24  00000000  subject address  continued
     28  0000ffff  subject address  continued
     32  c0000205  subject address  continued
     36  1092      subject port     4242";
        assert_eq!(tree(INFORM), expected);
    }

    #[test]
    fn a_wrong_version_stops_the_reading_there() {
        let expected = "\
not a message: version is not the expected value, at offset 1 of 18 bytes
dropped by everyone
header
      0  ac        magic            the 0xAC netid protocol
      1  02        version          WRONG: 1 is the only version, the layout of others is unknown
not read, 16 bytes
      2  10000000000100000000001b5b6d0041  ............[m.A";
        let datagram = b"\xac\x02\x10\0\0\0\0\x01\0\0\0\0\0\x1b[m\0A";
        assert_eq!(tree(datagram), expected);
    }

    #[test]
    fn a_cut_datagram_says_once_where_it_ends() {
        for len in 0..INFORM.len() {
            let text = tree(&INFORM[..len]);
            assert!(text.starts_with("not a message: "), "{text}");
            assert!(text.matches("WRONG: ends after").count() <= 1, "{text}");
            assert!(text.contains("WRONG: "), "{text}");
        }
        assert!(
            tree(&INFORM[..33])
                .contains(" 32  c0        subject address  WRONG: ends after 1 of 4")
        );
    }

    #[test]
    fn a_reserved_src_is_marked() {
        let text = tree(b"\xac\x01\x03\0\0\0\0\x01\xff\xff\xff\xff\0\0\0\0");
        assert!(
            text.contains(
                "  8  ffffffff  src              WRONG: stands for all nodes, not for one"
            )
        );
        assert!(text.ends_with("dst              any node"));
    }

    #[test]
    fn a_payload_is_named_and_dumped_to_a_bound() {
        let mut datagram = [0; 16 + 1 + 300];
        datagram[..17].copy_from_slice(b"\xac\x01\x10\0\0\0\0\x01\0\0\0\x2a\xff\xff\xff\xff\xc2");
        let text = tree(&datagram);
        assert!(text.contains(
            "     16  c2        service          directory follows\ncontent, 300 bytes\n"
        ));
        assert!(text.ends_with("and 44 bytes more"));
        let packet = tree(b"\xac\x01\x10\0\0\0\0\x01\0\0\0\x2a\0\0\0\x07\x45\0");
        assert!(
            packet.contains("service          IPv4 packet, this byte included\npacket, 2 bytes")
        );
        assert!(packet.ends_with("     16  4500                              E."));
    }

    #[test]
    fn trailing_bytes_of_a_ping_are_shown_as_such() {
        let text = tree(b"\xac\x01\x03\x80\0\0\0\x01\0\0\0\x2a\0\0\0\0pad");
        assert!(
            text.contains("trailing, ignored and forwarded unaltered, 3 bytes\n     16  706164 ")
        );
    }

    #[test]
    fn a_sealed_datagram_is_named() {
        assert!(tree(b"\xae\0\0\0").contains("ae begins a sealed link's datagram"));
    }
}
