//! Target `sealed`: reading any bytes as anything that is sealed or signed.

use overlay::seal::handshake::{Scope, check_init};
use overlay::seal::identity::{verify_binding, verify_certificate};
use overlay::seal::keys::MeshSecret;
use wire::NetId;
use wire::sealed::endtoend::{self, BroadcastHeader, EndToEndKind};
use wire::sealed::{
    Answer, AnswerKind, CERTIFICATE_MAX_LEN, Certificate, Cookie, Frame, Frames, INIT_LEN, Init,
    LINK_HEADER_LEN, LinkHeader, Records, SealedKind, emit_record,
};

/// Target `sealed`: reading datagrams of a link, frames, records, end-to-end payloads and
/// certificates is total, and what is read is written back as it stood. Nobody's mac or signature
/// is right by chance.
///
/// # Panics
/// When one of these laws is broken.
pub fn fuzz_sealed(bytes: &[u8]) {
    datagrams(bytes);
    ends(bytes);
    frames(bytes);
    for message in 1..=3 {
        records(message, bytes);
    }
    certificate(bytes);
    doors(bytes);
}

/// F4: the clear parts of a link's datagrams. At most one reader takes a datagram, the one of its kind.
fn datagrams(bytes: &[u8]) {
    let kind = SealedKind::of(bytes);
    if let Ok(init) = Init::parse(bytes) {
        assert_eq!(kind, Ok(SealedKind::Init));
        let mut out = [0; INIT_LEN];
        let written = Init::emit(init.sender, init.noise, &mut out).expect("it was read");
        assert_eq!(written.len, bytes.len());
        assert_eq!(&out[..written.mac1_at], init.before_mac1);
        assert_eq!(&out[written.mac1_at + 32..], &bytes[written.mac1_at + 32..]);
    }
    for (answer, expected) in [
        (AnswerKind::Resp, SealedKind::Resp),
        (AnswerKind::Fin, SealedKind::Fin),
    ] {
        let Ok(read) = Answer::parse(answer, bytes) else {
            continue;
        };
        assert_eq!(kind, Ok(expected));
        let mut out = [0; INIT_LEN];
        let written = Answer::emit(answer, read.sender, read.receiver, read.noise, &mut out);
        let written = written.expect("it was read");
        assert_eq!(written.len, bytes.len());
        assert_eq!(&out[..written.mac1_at], read.before_mac1);
        // mac2 of an answer is zero.
        assert_eq!(bytes[written.mac1_at + 16..], [0; 16]);
    }
    if let Ok(cookie) = Cookie::parse(bytes) {
        assert_eq!(kind, Ok(SealedKind::Cookie));
        assert_eq!(cookie.to_bytes()[..], *bytes);
    }
    if let Ok(header) = LinkHeader::parse(bytes) {
        assert_eq!(kind, Ok(SealedKind::Link));
        assert_eq!(header.to_bytes()[..], bytes[..LINK_HEADER_LEN]);
    }
}

/// F6: the clear parts of payloads between two ends.
fn ends(bytes: &[u8]) {
    let kind = EndToEndKind::of(bytes);
    if let Ok(init) = endtoend::parse_init(bytes) {
        assert!(kind.is_ok() && init.noise.len() >= 56);
        let mut out = [0; INIT_LEN];
        let written = endtoend::emit_init(init.sender, init.noise, &mut out).expect("read");
        assert_eq!(out[..written.mac1_at], bytes[..written.mac1_at]);
        assert_eq!(written.len, bytes.len());
    }
    for answer in [AnswerKind::Resp, AnswerKind::Fin] {
        if let Ok(read) = endtoend::parse_answer(answer, bytes) {
            let mut out = [0; INIT_LEN];
            let (sender, receiver) = (read.sender, read.receiver);
            let written = endtoend::emit_answer(answer, sender, receiver, read.noise, &mut out);
            let written = written.expect("it was read");
            assert_eq!(out[..written.mac1_at], bytes[..written.mac1_at]);
        }
    }
    if let Ok(header) = endtoend::parse_data(bytes) {
        assert!(kind.is_ok());
        assert_eq!(endtoend::data_header(header)[..], bytes[..LINK_HEADER_LEN]);
    }
    if let Ok(header) = BroadcastHeader::parse(bytes) {
        assert!(kind.is_ok());
        assert_eq!(header.to_bytes()[..], bytes[..header.to_bytes().len()]);
    }
}

/// S24: frames end, stay within the plaintext, and are written back as they stood.
fn frames(bytes: &[u8]) {
    let mut at = 0;
    for frame in Frames::new(bytes) {
        let Ok(frame) = frame else {
            break;
        };
        let len = frame.len();
        assert!(at + len <= bytes.len(), "a frame beyond the end");
        if let Frame::Message(message) = frame {
            assert!(!message.is_empty());
        }
        let mut out = vec![0xa5; len];
        assert_eq!(frame.emit(&mut out), Some(len));
        assert_eq!(out, bytes[at..at + len], "written otherwise than read");
        at += len;
    }
}

/// F5: records of a handshake message.
fn records(message: u8, bytes: &[u8]) {
    let mut at = 0;
    for record in Records::new(message, bytes) {
        let Ok(record) = record else {
            break;
        };
        let mut out = vec![0; record.value.len() + 3];
        let len = emit_record(record.kind, record.value, &mut out).expect("it was read");
        // What a reader does not know it skips, so that the next one stands further on.
        let found = bytes[at..]
            .windows(len)
            .position(|part| part == &out[..len]);
        at += found.expect("a record that is not there") + len;
    }
}

/// F7: one certificate has one form, and its signature is not anybody's.
fn certificate(bytes: &[u8]) {
    let Ok(certificate) = Certificate::parse(bytes) else {
        return;
    };
    assert!(certificate.netid.is_node() && bytes.len() <= CERTIFICATE_MAX_LEN);
    assert!(certificate.not_before <= certificate.not_after);
    let prefixes: Vec<_> = certificate.prefixes().collect();
    let mut out = [0; CERTIFICATE_MAX_LEN];
    let len = certificate.emit_unsigned(&prefixes, &mut out);
    assert_eq!(len, Some(certificate.signed().len()));
    assert_eq!(out[..certificate.signed().len()], *certificate.signed());
    assert!(!verify_certificate(&certificate, &[7; 32]));
}

/// F4: nobody gets in by bytes that fit the form; the binding of nobody is right.
fn doors(bytes: &[u8]) {
    let keys = MeshSecret::new([1; 32]).derive();
    assert!(check_init(&keys, Scope::Link, bytes).is_err());
    let ends = Scope::EndToEnd {
        initiator: NetId(1),
        responder: NetId(2),
    };
    assert!(check_init(&keys, ends, bytes).is_err());
    if let Some(binding) = bytes.first_chunk() {
        let verified = verify_binding(binding, &keys.mesh_id, NetId(1), &[9; 32]);
        assert_eq!(verified, None);
    }
}
