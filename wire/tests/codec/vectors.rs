//! Reads `tests/vectors/`: every vector parses to what it means and is written back as it stands.

use wire::{Field, Header, Kind, Message, ParseError, Service, service};

const FILES: [(&str, &str); 8] = [
    (
        "hello.txt",
        include_str!("../../../tests/vectors/hello.txt"),
    ),
    (
        "goodbye.txt",
        include_str!("../../../tests/vectors/goodbye.txt"),
    ),
    ("ping.txt", include_str!("../../../tests/vectors/ping.txt")),
    ("pong.txt", include_str!("../../../tests/vectors/pong.txt")),
    (
        "inform.txt",
        include_str!("../../../tests/vectors/inform.txt"),
    ),
    ("data.txt", include_str!("../../../tests/vectors/data.txt")),
    (
        "unknown.txt",
        include_str!("../../../tests/vectors/unknown.txt"),
    ),
    (
        "invalid.txt",
        include_str!("../../../tests/vectors/invalid.txt"),
    ),
];

const PROTOCOL: &str = include_str!("../../PROTOCOL.md");

struct Vector {
    file: &'static str,
    name: &'static str,
    datagram: Vec<u8>,
    /// The text behind `means:` or `drop:`.
    outcome: Outcome,
}

enum Outcome {
    Means(&'static str),
    Drop(&'static str),
}

fn vectors() -> Vec<Vector> {
    FILES
        .iter()
        .flat_map(|&(file, text)| read(file, text))
        .collect()
}

/// The lines of each block of a file of vectors, without comments.
pub(crate) fn blocks(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.split("\n\n")
        .map(|block| block.lines().filter(|line| !line.starts_with('#')))
        .map(|block| block.collect::<Vec<_>>())
        .filter(|block| !block.is_empty())
}

fn read(file: &'static str, text: &'static str) -> Vec<Vector> {
    blocks(text)
        .map(|block| {
            let [name, hex, outcome] = block[..] else {
                panic!("{file}: not three lines: {block:?}");
            };
            let outcome = match outcome.split_once(": ") {
                Some(("means", fields)) => Outcome::Means(fields),
                Some(("drop", reason)) => Outcome::Drop(reason),
                _ => panic!("{file}: {outcome:?}"),
            };
            Vector {
                file,
                name: name.strip_prefix("name: ").unwrap(),
                datagram: bytes(hex.strip_prefix("hex:").unwrap()),
                outcome,
            }
        })
        .collect()
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter(|c| *c != ' ')
        .map(|c| c.to_digit(16).unwrap() as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2), "{hex}");
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4) | pair[1])
        .collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a datagram means, in the words of the vectors.
fn meaning(datagram: &[u8]) -> Result<String, ParseError> {
    let (header, message) = Message::parse(datagram)?;
    let mut text = match header.kind {
        Kind::Unknown(byte) => format!("kind=unknown:{byte:02x}"),
        kind => format!("kind={kind:?}"),
    };
    text += &format!(
        " flags={:02x} nonce={:08x} src={} dst={}",
        header.flags.0, header.nonce, header.src, header.dst
    );
    match message {
        Message::Hello | Message::Goodbye | Message::Ping | Message::Pong => {}
        Message::Inform(inform) => {
            text += &format!(" subject={} endpoint={}", inform.subject, inform.endpoint);
        }
        Message::Unknown(rest) => text += &format!(" payload={}", hex(rest)),
        Message::Data(payload) => {
            text += &format!(" payload={}", hex(payload));
            if let Some(&first) = payload.first() {
                text += &format!(" service={}", service_name(first));
            }
        }
    }
    if datagram.len() > message.datagram_len() {
        text += &format!(" trailing={}", hex(&datagram[message.datagram_len()..]));
    }
    Ok(text)
}

fn service_name(first: u8) -> String {
    match service::classify(first) {
        Service::IpPacket => "ip-packet".into(),
        Service::EthernetFrame => "ethernet-frame".into(),
        Service::Reliable => "reliable".into(),
        Service::Directory => "directory".into(),
        Service::Realtime => "realtime".into(),
        Service::Sealed => "sealed".into(),
        Service::Experiment => "experiment".into(),
        Service::Unknown(byte) => format!("unknown:{byte:02x}"),
    }
}

/// The reasons of PROTOCOL.md R1 to R5, by the names under which a node counts them.
pub(crate) fn reason(error: ParseError) -> &'static str {
    match error.field {
        Field::Header | Field::Magic => "malformed",
        Field::Version => "wrong_version",
        Field::Src => "bad_source",
        Field::Inform => "bad_inform",
    }
}

#[test]
fn every_vector_means_what_it_says() {
    let vectors = vectors();
    assert!(vectors.len() >= 50, "only {} vectors found", vectors.len());
    for vector in vectors {
        let found = meaning(&vector.datagram);
        let place = format!("{}: {}", vector.file, vector.name);
        match vector.outcome {
            Outcome::Means(fields) => assert_eq!(found.as_deref(), Ok(fields), "{place}"),
            Outcome::Drop(name) => assert_eq!(found.map_err(reason), Err(name), "{place}"),
        }
    }
}

#[test]
fn every_message_is_written_back_as_it_stands() {
    for vector in vectors() {
        let Ok((header, message)) = Message::parse(&vector.datagram) else {
            continue;
        };
        let mut buffer = vec![0xa5; vector.datagram.len()];
        message.emit(&header, &mut buffer);
        let len = message.datagram_len();
        assert_eq!(buffer[..len], vector.datagram[..len], "{}", vector.name);
        assert!(
            buffer[len..].iter().all(|&byte| byte == 0xa5),
            "{}",
            vector.name
        );
    }
}

#[test]
fn every_truncation_of_every_vector_is_refused_or_a_shorter_message() {
    for vector in vectors() {
        for len in 0..vector.datagram.len() {
            let cut = &vector.datagram[..len];
            match Message::parse(cut) {
                Ok((header, message)) => {
                    assert!(
                        len >= 16 && message.datagram_len() <= len,
                        "{}",
                        vector.name
                    );
                    assert_eq!(Header::parse(&vector.datagram), Ok(header));
                }
                Err(error) if len < 16 => assert_eq!(reason(error), "malformed"),
                Err(error) if reason(error) == "bad_inform" => assert!(len < 38),
                Err(error) => assert_eq!(Message::parse(&vector.datagram), Err(error)),
            }
        }
    }
}

#[test]
fn names_are_unique_in_their_file() {
    let mut names: Vec<_> = vectors().iter().map(|v| (v.file, v.name)).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn the_protocol_page_shows_the_golden_vectors() {
    let (_, examples) = PROTOCOL.split_once("## Golden examples").unwrap();
    let (_, block) = examples.split_once("```text").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let shown: String = block
        .lines()
        .filter(|line| line.starts_with("  "))
        .flat_map(|line| line.chars().filter(|c| *c != ' '))
        .collect();
    let golden: String = vectors()
        .iter()
        .filter(|vector| vector.name.starts_with("golden: "))
        .map(|vector| hex(&vector.datagram))
        .collect();
    assert_eq!(shown, golden);
}
