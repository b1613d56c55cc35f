//! The sealed formats from outside: golden vectors and properties.

use proptest::prelude::*;
use wire::sealed::{
    Answer, AnswerKind, Certificate, Control, Cookie, Frame, Frames, HANDSHAKE_MAX_LEN, INIT_LEN,
    Init, LinkHeader, Part, Prefix, REVOCATIONS_MIN_LEN, RecordType, Records, Revocations, Revoked,
    SealedError, SealedKind, emit_record, endtoend,
};

use crate::vectors::{blocks, bytes, hex};

const VALID: &str = include_str!("../../../tests/vectors/sealed/datagrams.txt");
const FRAMES: &str = include_str!("../../../tests/vectors/sealed/frames.txt");
const RECORDS: &str = include_str!("../../../tests/vectors/sealed/records.txt");
const INVALID: &str = include_str!("../../../tests/vectors/sealed/datagrams-invalid.txt");

/// Name, datagram and what follows the third key, for each block.
fn vectors(text: &'static str, key: &str) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    blocks(text)
        .map(|block| {
            let [name, hex, outcome] = block[..] else {
                panic!("not three lines: {block:?}");
            };
            let name = name.strip_prefix("name: ").unwrap();
            let datagram = bytes(hex.strip_prefix("hex:").unwrap());
            (name, datagram, outcome.strip_prefix(key).unwrap())
        })
        .collect()
}

fn meaning(datagram: &[u8]) -> Result<String, SealedError> {
    Ok(match SealedKind::of(datagram)? {
        SealedKind::Init => {
            let init = Init::parse(datagram)?;
            format!(
                "kind=init sender={:08x} noise={} mac1={} mac2={}",
                init.sender,
                hex(init.noise),
                hex(init.mac1),
                hex(init.mac2)
            )
        }
        SealedKind::Resp => answer("resp", Answer::parse(AnswerKind::Resp, datagram)?),
        SealedKind::Fin => answer("fin", Answer::parse(AnswerKind::Fin, datagram)?),
        SealedKind::Cookie => {
            let cookie = Cookie::parse(datagram)?;
            format!(
                "kind=cookie receiver={:08x} nonce={} sealed={}",
                cookie.receiver,
                hex(cookie.nonce),
                hex(cookie.sealed)
            )
        }
        SealedKind::Link => {
            let header = LinkHeader::parse(datagram)?;
            format!(
                "kind=link receiver={:08x} counter={}{}",
                header.receiver,
                header.counter,
                if header.alone { " alone" } else { "" }
            )
        }
    })
}

fn answer(kind: &str, answer: Answer<'_>) -> String {
    format!(
        "kind={kind} sender={:08x} receiver={:08x} noise={} mac1={}",
        answer.sender,
        answer.receiver,
        hex(answer.noise),
        hex(answer.mac1)
    )
}

/// Writes again what was read; macs and seals are copied.
fn again(datagram: &[u8]) -> Vec<u8> {
    match SealedKind::of(datagram).unwrap() {
        SealedKind::Init => {
            let init = Init::parse(datagram).unwrap();
            let mut buffer = [0xa5; INIT_LEN];
            let written = Init::emit(init.sender, init.noise, &mut buffer).unwrap();
            buffer[written.mac1_at..][..16].copy_from_slice(init.mac1);
            buffer[written.mac1_at + 16..][..16].copy_from_slice(init.mac2);
            buffer[..written.len].to_vec()
        }
        kind @ (SealedKind::Resp | SealedKind::Fin) => {
            let kind = match kind {
                SealedKind::Resp => AnswerKind::Resp,
                _ => AnswerKind::Fin,
            };
            let read = Answer::parse(kind, datagram).unwrap();
            let mut buffer = [0xa5; HANDSHAKE_MAX_LEN];
            let (sender, receiver) = (read.sender, read.receiver);
            let written = Answer::emit(kind, sender, receiver, read.noise, &mut buffer).unwrap();
            buffer[written.mac1_at..][..16].copy_from_slice(read.mac1);
            buffer[..written.len].to_vec()
        }
        SealedKind::Cookie => Cookie::parse(datagram).unwrap().to_bytes().to_vec(),
        SealedKind::Link => {
            let mut whole = LinkHeader::parse(datagram).unwrap().to_bytes().to_vec();
            whole.extend_from_slice(&datagram[16..]);
            whole
        }
    }
}

fn part_name(part: Part) -> String {
    format!("{part:?}").to_lowercase()
}

#[test]
fn every_sealed_vector_means_what_it_says_and_is_written_back_as_it_stands() {
    for (name, datagram, means) in vectors(VALID, "means: ") {
        assert_eq!(meaning(&datagram).as_deref(), Ok(means), "{name}");
        assert_eq!(again(&datagram), datagram, "{name}");
    }
}

#[test]
fn every_invalid_sealed_vector_is_dropped_for_the_part_it_names() {
    for (name, datagram, part) in vectors(INVALID, "drop: ") {
        let error = meaning(&datagram).unwrap_err();
        assert_eq!(part_name(error.part), part, "{name}");
    }
}

/// One frame, and its body as it is written again.
fn frame_text(frame: &Frame<'_>) -> String {
    let mut whole = vec![0xa5; frame.len()];
    assert_eq!(frame.emit(&mut whole), Some(whole.len()));
    let control = match frame {
        Frame::Message(_) => return format!("message={}", hex(&whole[2..])),
        Frame::Control(control) => control,
    };
    let body = hex(&whole[4..]);
    match control {
        Control::Keepalive => "keepalive".into(),
        Control::PathChallenge(_) => format!("path_challenge={body}"),
        Control::PathResponse(_) => format!("path_response={body}"),
        Control::SizeProbe(_) => format!("size_probe={body}"),
        Control::SizeSeen(_) => format!("size_seen={body}"),
        Control::Close(_) => format!("close={body}"),
        Control::Counts(_) => format!("counts={body}"),
        Control::ListNumber(_) => format!("list_number={body}"),
        Control::ListRequest(..) => format!("list_request={body}"),
        Control::ListPiece(_) => format!("list_piece={body}"),
        Control::Unknown(kind, _) => format!("unknown:{kind:04x}={body}"),
    }
}

#[test]
fn every_vector_of_frames_means_what_it_says_and_bodies_are_written_back() {
    for (name, plaintext, means) in vectors(FRAMES, "means: ") {
        let frames = Frames::new(&plaintext);
        let words: Vec<String> = frames
            .map(|frame| frame.map_or_else(|_| "fault".into(), |frame| frame_text(&frame)))
            .collect();
        let said = match words.is_empty() {
            true => "nothing".to_owned(),
            false => words.join(" "),
        };
        assert_eq!(said, means, "{name}");
    }
}

#[test]
fn every_vector_of_records_means_what_it_says() {
    for (name, payload, means) in vectors(RECORDS, "means: in=") {
        let message = means[..1].parse().unwrap();
        let mut said = means[..1].to_owned();
        for record in Records::new(message, &payload) {
            said += &match record {
                Ok(record) => format!(" {}={}", record.kind.to_byte(), hex(record.value)),
                Err(_) => " fault".into(),
            };
        }
        assert_eq!(said, means, "{name}");
    }
}

/// Bytes that often look like a datagram of a sealed link.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![1_u8, 2, 3, 4, 5, 6]);
    let lengths = prop_oneof![Just(INIT_LEN), Just(64_usize), 0..INIT_LEN + 4];
    (kinds, lengths, 0_u16..1200, any::<u64>()).prop_map(|(kind, len, noise, seed)| {
        let mut datagram = vec![0_u8; len];
        for (at, byte) in datagram.iter_mut().enumerate().take(1100) {
            *byte = (seed.rotate_left(at as u32 % 64) as u8) & if at < 4 { 1 } else { 0xff };
        }
        let suite = u8::from(kind <= 2);
        for (at, byte) in [0xae, kind, suite, suite].into_iter().enumerate() {
            if let Some(place) = datagram.get_mut(at) {
                *place = byte;
            }
        }
        let (at, most) = if kind == 1 {
            (8, noise.min(1158))
        } else {
            (12, (len as u16).saturating_sub(46))
        };
        if let Some(place) = datagram.get_mut(at..at + 2) {
            place.copy_from_slice(&most.to_be_bytes());
        }
        let tail = if kind == 1 {
            10 + usize::from(most) + 32
        } else {
            len.saturating_sub(16)
        };
        if kind <= 3 && tail < len {
            datagram[tail..].fill(0);
        }
        datagram
    })
}

proptest! {
    #[test]
    fn whatever_parses_is_written_back_as_it_stands(datagram in nearly()) {
        if meaning(&datagram).is_ok() {
            prop_assert_eq!(again(&datagram), datagram);
        }
    }

    #[test]
    fn nothing_panics_whatever_the_bytes(bytes in prop::collection::vec(any::<u8>(), 0..1300), message in 0_u8..5) {
        let _ = meaning(&bytes);
        let _ = Init::parse(&bytes);
        let _ = Answer::parse(AnswerKind::Resp, &bytes);
        let _ = Answer::parse(AnswerKind::Fin, &bytes);
        let _ = Cookie::parse(&bytes);
        let _ = LinkHeader::parse(&bytes);
        let _ = Certificate::parse(&bytes);
        let _ = Revocations::parse(&bytes);
        let _ = endtoend::parse_init(&bytes);
        let _ = endtoend::parse_answer(AnswerKind::Resp, &bytes);
        let _ = endtoend::parse_data(&bytes);
        let _ = endtoend::BroadcastHeader::parse(&bytes);
        prop_assert!(Frames::new(&bytes).count() <= bytes.len() + 1);
        prop_assert!(Records::new(message, &bytes).count() <= bytes.len() + 1);
    }

    #[test]
    fn a_revocation_list_has_one_form(
        entries in prop::collection::btree_set((any::<u64>(), any::<[u8; 32]>(), any::<u64>()), 0..20),
        number in 1_u64..,
        flip in any::<prop::sample::Index>(),
    ) {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(serial, static_key, not_after)| Revoked { serial, static_key, not_after })
            .collect();
        let mut bytes = vec![0; REVOCATIONS_MIN_LEN + entries.len() * 48];
        let len = Revocations::emit_unsigned(&[9; 16], number, &entries, &mut bytes).unwrap();
        prop_assert_eq!(len + 64, bytes.len());
        let read = Revocations::parse(&bytes).unwrap();
        prop_assert!(read.entries().eq(entries.iter().copied()));
        // Whatever else parses is another list, and written back as it stands.
        bytes[flip.index(len)] ^= 1 << (flip.index(8));
        if let Ok(changed) = Revocations::parse(&bytes) {
            let entries: Vec<_> = changed.entries().collect();
            let mut again = vec![0; bytes.len()];
            let len = Revocations::emit_unsigned(&changed.mesh_id, changed.number, &entries, &mut again);
            let len = len.unwrap();
            prop_assert_eq!(&again[..len], &bytes[..len]);
        }
    }

    #[test]
    fn frames_are_read_as_they_were_written(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
        padding in 0_usize..40,
    ) {
        let mut buffer = vec![0; 4096];
        let mut at = 0;
        for message in &messages {
            at += Frame::Message(message).emit(&mut buffer[at..]).unwrap();
        }
        let read: Vec<_> = Frames::new(&buffer[..at + padding]).map(|frame| match frame {
            Ok(Frame::Message(message)) => message.to_vec(),
            // One byte cannot be the zero word that begins padding.
            other => { assert_eq!(padding, 1, "{other:?}"); Vec::new() }
        }).filter(|message| !message.is_empty()).collect();
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn records_keep_their_order_and_no_type_comes_twice(order in Just(RecordType::ALL.to_vec()).prop_shuffle()) {
        let mut buffer = [0; 1024];
        let mut at = 0;
        let kinds: Vec<_> = order
            .into_iter()
            .filter(|kind| !matches!(kind, RecordType::Offer | RecordType::Called | RecordType::Certificate))
            .collect();
        for kind in &kinds {
            let len = match kind {
                RecordType::Choice | RecordType::Policy => 1,
                RecordType::NetId | RecordType::Features => 4,
                RecordType::Revocation | RecordType::Boot => 8,
                RecordType::Observed => 18,
                RecordType::ReceiveSize => 2,
                RecordType::NextSecret => 12,
                _ => 96,
            };
            at += emit_record(*kind, &[7; 96][..len], &mut buffer[at..]).unwrap();
        }
        let read: Vec<_> = Records::new(2, &buffer[..at]).map(|record| record.unwrap().kind).collect();
        prop_assert_eq!(read, kinds.clone());
        let again = emit_record(RecordType::Boot, &[0; 8], &mut buffer[at..]).unwrap();
        prop_assert!(Records::new(2, &buffer[..at + again]).any(|record| record.is_err()));
    }

    #[test]
    fn a_certificate_that_parses_is_written_back_as_it_stands(
        name in "[ -~]{0,32}",
        networks in prop::collection::btree_set((any::<bool>(), any::<u128>(), 0_u8..=128), 0..8),
        flip in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let mut prefixes: Vec<_> = networks.into_iter().map(|(four, address, len)| {
            if four {
                let len = len.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                Prefix::V4((address as u32 & mask).to_be_bytes(), len)
            } else {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                Prefix::V6((address & mask).to_be_bytes(), len)
            }
        }).collect();
        prefixes.sort_by_key(|prefix| prefix.to_bytes());
        prefixes.dedup();
        let mut fields = Certificate::of([1; 16], wire::NetId(5), [2; 32], [3; 32]);
        fields.name = &name;
        let mut buffer = [0; 400];
        let unsigned = fields.emit_unsigned(&prefixes, &mut buffer).unwrap();
        let whole = unsigned + 64;
        let read = Certificate::parse(&buffer[..whole]).unwrap();
        prop_assert!(read.prefixes().eq(prefixes.iter().copied()));
        // Any other bytes that parse mean something else: no two forms of one certificate.
        let mut changed = buffer;
        changed[flip.index(whole)] ^= 1 << bit;
        if let Ok(other) = Certificate::parse(&changed[..whole]) {
            let prefixes: Vec<_> = other.prefixes().collect();
            let mut written = [0; 400];
            prop_assert_eq!(other.emit_unsigned(&prefixes, &mut written), Some(unsigned));
            prop_assert_eq!(&written[..unsigned], &changed[..unsigned]);
        }
    }
}
