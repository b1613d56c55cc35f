//! What holds for all messages and for all bytes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use wire::pretty::{Line, Tree};
use wire::{Flags, Header, Inform, Kind, Message, NetId, emit_control, emit_inform};

/// A message that owns its payload, so that it can be generated.
#[derive(Clone, Debug)]
enum Body {
    Empty,
    Inform(Inform),
    Bytes(Vec<u8>),
}

fn netid() -> impl Strategy<Value = NetId> {
    prop_oneof![Just(0), Just(u32::MAX), any::<u32>()].prop_map(NetId)
}

fn node() -> impl Strategy<Value = NetId> {
    (1..u32::MAX).prop_map(NetId)
}

fn endpoint() -> impl Strategy<Value = SocketAddr> {
    let four = any::<[u8; 4]>().prop_map(IpAddr::from);
    let six = any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).to_canonical());
    (prop_oneof![four, six], any::<u16>()).prop_map(SocketAddr::from)
}

fn inform() -> impl Strategy<Value = Inform> {
    (netid(), endpoint()).prop_map(|(subject, endpoint)| Inform { subject, endpoint })
}

fn message() -> impl Strategy<Value = (Header, Body)> {
    let head = (any::<u8>(), any::<u8>(), any::<u32>(), node(), netid());
    (head, inform(), vec(any::<u8>(), 0..64)).prop_map(|(head, inform, bytes)| {
        let (kind, flags, nonce, src, dst) = head;
        // Half of the time a kind that has a name.
        let kind = match kind {
            0..=24 => Kind::Inform,
            25..=49 => Kind::Data,
            50..=127 => Kind::from_byte(kind % 4 + 1),
            _ => Kind::from_byte(kind),
        };
        let body = match kind {
            Kind::Hello | Kind::Goodbye | Kind::Ping | Kind::Pong => Body::Empty,
            Kind::Inform => Body::Inform(inform),
            Kind::Data | Kind::Unknown(_) => Body::Bytes(bytes),
        };
        let flags = Flags(flags);
        let header = Header {
            kind,
            flags,
            nonce,
            src,
            dst,
        };
        (header, body)
    })
}

fn borrow<'d>(header: &Header, body: &'d Body) -> Message<'d> {
    match (header.kind, body) {
        (Kind::Hello, _) => Message::Hello,
        (Kind::Goodbye, _) => Message::Goodbye,
        (Kind::Ping, _) => Message::Ping,
        (Kind::Pong, _) => Message::Pong,
        (_, Body::Inform(inform)) => Message::Inform(*inform),
        (Kind::Data, Body::Bytes(bytes)) => Message::Data(bytes),
        (_, Body::Bytes(bytes)) => Message::Unknown(bytes),
        (kind, Body::Empty) => panic!("{kind:?} without a body"),
    }
}

/// Bytes that often get past the first tests: a good header start, then anything.
fn nearly_a_datagram() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), 0..8u8, vec(any::<u8>(), 0..80)).prop_map(|(good, kind, mut bytes)| {
        if good {
            for (place, byte) in bytes.iter_mut().zip([wire::MAGIC, wire::VERSION, kind]) {
                *place = byte;
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_emitted_parses_to_the_same((header, body) in message()) {
        let message = borrow(&header, &body);
        let len = message.datagram_len();
        let mut buffer = vec![0xa5; len + 8];
        message.emit(&header, &mut buffer);
        prop_assert!(message.belongs_to(&header));
        prop_assert_eq!(Message::parse(&buffer[..len]), Ok((header, message)));
        prop_assert_eq!(&buffer[len..], [0xa5; 8]);
    }

    #[test]
    fn what_parses_is_emitted_identically(datagram in nearly_a_datagram()) {
        if let Ok(header) = Header::parse(&datagram) {
            prop_assert_eq!(&header.to_bytes()[..], &datagram[..16]);
            let control = emit_control(header.kind, header.flags, header.nonce, header.src, header.dst);
            prop_assert_eq!(&control[..], &datagram[..16]);
        }
        if let Ok((header, message)) = Message::parse(&datagram) {
            let len = message.datagram_len();
            let mut buffer = vec![0xa5; len];
            message.emit(&header, &mut buffer);
            prop_assert_eq!(&buffer[..], &datagram[..len]);
            if let Message::Inform(inform) = message {
                let whole = emit_inform(header.flags, header.nonce, header.src, header.dst, &inform);
                prop_assert_eq!(&whole[..], &datagram[..len]);
            }
        }
    }

    #[test]
    fn header_and_message_agree_on_every_prefix(datagram in nearly_a_datagram()) {
        for len in 0..=datagram.len() {
            let cut = &datagram[..len];
            match (Header::parse(cut), Message::parse(cut)) {
                (Ok(header), Ok((same, message))) => {
                    prop_assert_eq!(header, same);
                    prop_assert!(message.datagram_len() <= len);
                }
                (Ok(header), Err(error)) => {
                    prop_assert_eq!(header.kind, Kind::Inform);
                    prop_assert_eq!(error.field, wire::Field::Inform);
                    prop_assert!(len < 38);
                }
                (Err(error), message) => prop_assert_eq!(message, Err(error)),
            }
        }
    }

    #[test]
    fn words_are_printable_whatever_the_bytes(datagram in nearly_a_datagram()) {
        let line = Line(&datagram).to_string();
        prop_assert!(line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{}", line);
        let tree = Tree(&datagram).to_string();
        prop_assert!(tree.lines().all(|line| line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())));
        let refused = Message::parse(&datagram).is_err();
        prop_assert_eq!(line.starts_with("not a message: "), refused);
        prop_assert_eq!(tree.contains("WRONG: "), refused, "{}", tree);
    }
}
