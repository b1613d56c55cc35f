//! The golden vectors of `tests/vectors/sealed/` that follow from keys: made anew and compared.
//!
//! Each file is text of `key: value` lines, a blank line between scenes; bytes are hex. What the
//! test makes is the whole file, so no line of it goes untested.

use std::fmt::Write as _;

use ed25519_dalek::{Signer, SigningKey};
use wire::NetId;
use wire::sealed::{Certificate, Frame, INIT_LEN, LINK_MIN_LEN, Prefix, Revoked};
use zeroize::Zeroizing;

use crate::keyed::KeyedHasher;
use crate::seal::aead::Aead;
use crate::seal::armor::Armor;
use crate::seal::authority::Authority;
use crate::seal::broadcast::{self, Broadcasts};
use crate::seal::cookie::{Held, Jar};
use crate::seal::handshake::{Answering, Initiation, Scope, check_init};
use crate::seal::identity::Identity;
use crate::seal::invitation::Invitation;
use crate::seal::keys::{Key, MeshSecret, derive, mac};
use crate::seal::local::Local;
use crate::seal::session::Session;
use crate::time::Instant;

/// Lines of a file.
pub(super) struct Text(String);

impl Text {
    pub(super) fn new(about: &str) -> Self {
        Self(format!("# {about}\n"))
    }

    pub(super) fn scene(&mut self, name: &str) {
        write!(self.0, "\nname: {name}\n").unwrap();
    }

    pub(super) fn line(&mut self, key: &str, value: impl std::fmt::Display) {
        writeln!(self.0, "{key}: {value}").unwrap();
    }

    pub(super) fn hex(&mut self, key: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.line(key, hex);
    }

    #[track_caller]
    pub(super) fn is(&self, file: &str) {
        if self.0 != file {
            // Where a vector is meant to change, this is the file to put in its place.
            println!("{}", self.0);
            let differing = self
                .0
                .lines()
                .zip(file.lines())
                .find(|(made, read)| made != read);
            panic!("the vectors differ: {differing:?}");
        }
    }
}

/// 32 bytes that rise from a number.
pub(super) fn rising(first: u8) -> [u8; 32] {
    std::array::from_fn(|at| first.wrapping_add(at as u8))
}

fn secret() -> MeshSecret {
    MeshSecret::new(rising(0x00))
}

/// The secret that follows it in the same mesh (S91).
fn next_secret() -> MeshSecret {
    secret().following(rising(0x11))
}

/// The two nodes of all vectors.
pub(super) fn node(first: u8, netid: NetId, aes: bool) -> Local {
    let identity = Identity::new(Key::new(rising(first)), &Key::new(rising(first + 0x20)));
    Local::new(
        secret().derive(),
        identity,
        netid,
        0x0000_0001_0000_0000 + u64::from(first),
        aes,
    )
}

pub(super) const NEAR: NetId = NetId(0x2a);
pub(super) const FAR: NetId = NetId(0x07);
/// What is sealed end to end: an IPv4 header.
pub(super) const PACKET: &[u8] = b"\x45\0\0\x14\0\0\0\0\x40\xfd\0\0\x0a\0\0\x01\x0a\0\0\x02";

/// What follows from a secret, but for the keys of broadcasts.
fn write_keys(text: &mut Text, secret: &MeshSecret) {
    let keys = secret.derive();
    text.hex("mesh_id", &keys.mesh_id);
    text.hex("link_psk", keys.link_psk.bytes());
    text.hex("mac1_key", keys.mac1.bytes());
    text.hex("cookie_key", keys.cookie.bytes());
    text.hex("end_to_end_psk", keys.end_to_end_psk.bytes());
    text.hex("end_to_end_mac1_key", keys.end_to_end_mac1.bytes());
}

#[test]
fn keys() {
    let mut text = Text::new("What is derived from secrets. SEALED.md, \"Keys\".");
    text.scene("a mesh");
    text.hex("mesh_secret", &rising(0));
    text.line("text", &**secret().to_text());
    let keys = secret().derive();
    write_keys(&mut text, &secret());
    text.hex("broadcast_key_0", secret().broadcast_key(0).bytes());
    text.hex("broadcast_key_258", secret().broadcast_key(258).bytes());
    text.hex("mac_of_abc_by_mac1_key", &mac(&keys.mac1, &[b"abc"]));
    for (name, secret) in [
        ("the same mesh with its next secret", next_secret()),
        (
            "and with the one after that",
            next_secret().following(rising(0x22)),
        ),
    ] {
        text.scene(name);
        text.hex("secret", secret.bytes());
        text.line("epoch", secret.epoch());
        text.line("text", &**secret.to_text());
        write_keys(&mut text, &secret);
        let key = secret.broadcast_key(secret.epoch());
        text.hex("broadcast_key", key.bytes());
        text.hex("record_12", &secret.derive().fingerprint().to_bytes());
    }
    for (name, first, netid) in [("a node", 0x40, NEAR), ("another node", 0x80, FAR)] {
        let local = node(first, netid, true);
        text.scene(name);
        text.hex("x25519_secret", &rising(first));
        text.hex("ed25519_secret", &rising(first + 0x20));
        text.hex("s", local.identity.public());
        text.hex("v", &local.identity.signing_public());
        text.line("netid_from_s", local.identity.netid(&keys.mesh_id));
        text.line("netid", netid);
        text.hex("binding", local.binding());
    }
    text.is(include_str!("../../../tests/vectors/sealed/keys.txt"));
}

#[test]
fn token() {
    let mut text =
        Text::new("Tokens with the mesh secrets of keys.txt. SEALED.md, \"Files and tokens\".");
    for (name, secret) in [
        ("two addresses", secret()),
        ("of a mesh that changed its secret", next_secret()),
    ] {
        write_token(&mut text, name, secret);
    }
    text.is(include_str!("../../../tests/vectors/sealed/token.txt"));
}

fn write_token(text: &mut Text, name: &str, secret: MeshSecret) {
    text.scene(name);
    text.hex("mesh_secret", secret.bytes());
    if secret.epoch() > 0 {
        text.hex("mesh_id", &secret.mesh_id());
        text.line("epoch", secret.epoch());
    }
    let invitation = Invitation {
        secret,
        not_after: 1_800_000_000,
        mtu: 1_360,
        mesh: "floodmesh".into(),
        peers: vec!["van.example:44204".into(), "[2001:db8::7]:44204".into()],
    };
    text.line("not_after", invitation.not_after);
    text.line("mtu", invitation.mtu);
    text.line("mesh", &invitation.mesh);
    text.line("address_1", &invitation.peers[0]);
    text.line("address_2", &invitation.peers[1]);
    text.line("token", &**invitation.to_text().unwrap());
}

/// A whole handshake between the two nodes; writes it down and gives both sessions.
fn handshake(text: &mut Text, scope: Scope, aes: bool, cookie: Option<&[u8; 16]>) -> [Session; 2] {
    let (near, far) = (node(0x40, NEAR, aes), node(0x80, FAR, true));
    let (near_index, far_index) = (0x0a0b_0c0d, 0x0102_0304);
    let (near_from, far_from) = ("192.0.2.5:44204".parse(), "[2001:db8::7]:44204".parse());
    let mut out = [0; INIT_LEN];
    text.line("initiator", "a node");
    text.line("responder", "another node");
    text.hex("initiator_ephemeral_secret", &rising(0xc0));
    text.hex("responder_ephemeral_secret", &rising(0xe0));
    let (seed, called) = (Zeroizing::new(rising(0xc0)), FAR);
    let begun = Initiation::begin(&near, scope, near_index, called, cookie, seed, &mut out);
    let (mut initiation, len) = begun.unwrap();
    let init = out[..len].to_vec();
    text.hex("init", &init);
    let checked = check_init(&far.keys, scope, &init).unwrap();
    let seed = Zeroizing::new(rising(0xe0));
    let answered = Answering::answer(&far, &checked, far_index, seed, near_from.ok(), &mut out);
    let (mut answering, _, len) = answered.unwrap();
    let resp = out[..len].to_vec();
    text.hex("resp", &resp);
    let now = Instant::ZERO;
    let (ours, _, len) = initiation
        .complete(&near, now, &resp, far_from.ok(), &mut out)
        .unwrap();
    text.hex("fin", &out[..len]);
    let (theirs, _) = answering.finish(&far, now, &out[..len]).unwrap();
    text.line("aead", ours.aead().to_byte());
    [ours, theirs]
}

fn link(text: &mut Text, name: &str, session: &Session, message: &[u8]) {
    let mut out = vec![0; message.len() + 34];
    session.seal_into(message, false, &mut out).unwrap();
    text.hex(name, &out);
}

#[test]
fn handshakes_of_links() {
    let mut text = Text::new(
        "Handshakes of links, all three messages, and the first LINK of each side. The nodes are\n\
         # those of keys.txt. SEALED.md, \"Handshake\" and \"Sessions\".",
    );
    for (name, aes) in [
        ("with AES-256-GCM", true),
        ("with ChaCha20-Poly1305", false),
    ] {
        text.scene(name);
        let [ours, theirs] = handshake(&mut text, Scope::Link, aes, None);
        let hello = b"\xac\x01\x01\x80\x01\x02\x03\x04\0\0\0\x2a\0\0\0\0";
        text.hex("message", hello);
        link(&mut text, "link_0_of_initiator", &ours, hello);
        link(&mut text, "link_1_of_initiator", &ours, hello);
        let mut keepalive = vec![0; LINK_MIN_LEN + 4];
        Frame::Control(wire::sealed::Control::Keepalive)
            .emit(&mut keepalive[16..])
            .unwrap();
        theirs.seal(&mut keepalive).unwrap();
        text.hex("keepalive_of_responder", &keepalive);
    }
    text.is(include_str!("../../../tests/vectors/sealed/handshake.txt"));
}

#[test]
fn handshakes_of_ends() {
    let mut text = Text::new(
        "A handshake between two ends, as Data payloads, and the first E-DATA of each side. The\n\
         # nodes are those of keys.txt. SEALED.md, \"End to end\".",
    );
    let scope = Scope::EndToEnd {
        initiator: NEAR,
        responder: FAR,
    };
    for (name, aes) in [
        ("with AES-256-GCM", true),
        ("with ChaCha20-Poly1305", false),
    ] {
        text.scene(name);
        let [ours, theirs] = handshake(&mut text, scope, aes, None);
        text.hex("payload", PACKET);
        for (name, session, src, dst) in [
            ("data_of_initiator", &ours, NEAR, FAR),
            ("data_of_responder", &theirs, FAR, NEAR),
        ] {
            let mut payload = [&[0; 16][..], PACKET, &[0; 16]].concat();
            session.seal_data(src, dst, &mut payload).unwrap();
            text.hex(name, &payload);
        }
    }
    text.is(include_str!("../../../tests/vectors/sealed/endtoend.txt"));
}

#[test]
fn broadcasts() {
    let mut text = Text::new(
        "Broadcasts of a node of keys.txt, as Data payloads: the first two of a start of it. SEALED.md,\n\
         # \"End to end\".",
    );
    let scenes = [
        ("not signed", false, secret()),
        ("signed", true, secret()),
        ("signed, under the next secret", true, next_secret()),
    ];
    for (name, signed, secret) in scenes {
        text.scene(name);
        let [local, reader] = [(0x40, NEAR), (0x80, FAR)].map(|(first, netid)| {
            let mut local = node(first, netid, true);
            local.keys = secret.derive().into();
            local
        });
        text.line("epoch", secret.epoch());
        text.line("node", "a node");
        text.hex("boot", &local.boot.to_be_bytes());
        text.hex("payload", PACKET);
        let hasher = KeyedHasher(1, 2);
        let origin = Broadcasts::new(&local, signed, hasher);
        let other = Broadcasts::new(&reader, signed, hasher);
        other.note(NEAR, local.boot, local.identity.signing_public());
        for sequence in 0..2 {
            let mut sealed = vec![0; PACKET.len() + broadcast::overhead(signed)];
            origin.seal(PACKET, &mut sealed).unwrap();
            text.hex(&format!("broadcast_{sequence}"), &sealed);
            let len = other
                .open(Instant::ZERO, NEAR, &mut sealed, || false)
                .unwrap();
            assert_eq!(sealed[24..24 + len], *PACKET);
        }
    }
    text.is(include_str!("../../../tests/vectors/sealed/broadcast.txt"));
}

#[test]
fn sessions() {
    let mut text = Text::new(
        "From the keys of Noise Split() to a LINK. SEALED.md S20, S21: the key of a direction, then\n\
         # the LINK of counter 0 that holds one message.",
    );
    let (local, remote) = (0x0a0b_0c0d, 0x0102_0304_u32);
    for (name, aead) in [
        ("ChaCha20-Poly1305", Aead::ChaCha20Poly1305),
        ("AES-256-GCM", Aead::Aes256Gcm),
    ] {
        text.scene(name);
        text.line("aead", aead.to_byte());
        text.hex("split_initiator", &rising(0x10));
        text.hex("split_responder", &rising(0x30));
        text.line("initiator_index", "0a0b0c0d");
        text.line("responder_index", "01020304");
        let info = [
            &b"link-aead v1"[..],
            &[aead.to_byte()],
            &u32::to_be_bytes(local),
            &remote.to_be_bytes(),
        ]
        .concat();
        text.hex("info", &info);
        text.hex("key_of_initiator", &derive::<32>(&rising(0x10), &info));
        text.hex("key_of_responder", &derive::<32>(&rising(0x30), &info));
        let terms = crate::seal::session::Terms {
            local,
            remote,
            is_initiator: true,
            aead,
            info: b"link-aead v1",
        };
        let (first, second) = (Key::new(rising(0x10)), Key::new(rising(0x30)));
        let session = Session::new(Instant::ZERO, terms, &first, &second);
        text.hex("message", b"hi");
        link(&mut text, "link_0", &session, b"hi");
        link(&mut text, "link_1", &session, b"hi");
    }
    text.is(include_str!("../../../tests/vectors/sealed/session.txt"));
}

#[test]
fn cookies() {
    let mut text = Text::new(
        "An INIT under load, its COOKIE, and the INIT that follows. SEALED.md, \"Under load\".",
    );
    text.scene("from 192.0.2.5 port 44204");
    let (near, far) = (node(0x40, NEAR, true), node(0x80, FAR, true));
    let from = "192.0.2.5:44204".parse().unwrap();
    let jar = Jar::new(Instant::ZERO, Key::new(rising(0x50)));
    let mut out = [0; INIT_LEN];
    let seed = || Zeroizing::new(rising(0xc0));
    let begun = Initiation::begin(&near, Scope::Link, 0x0a0b_0c0d, FAR, None, seed(), &mut out);
    let (initiation, _) = begun.unwrap();
    let checked = check_init(&far.keys, Scope::Link, &out).unwrap();
    let nonce = std::array::from_fn(|at| at as u8);
    let cookie = jar.answer(&far.keys, checked.init(), from, nonce).unwrap();
    let held = Held::open(
        Instant::ZERO,
        &near.keys,
        0x0a0b_0c0d,
        initiation.mac1(),
        &cookie,
    )
    .unwrap();
    text.hex("cookie_secret", &rising(0x50));
    text.hex("mac1_of_init", initiation.mac1());
    text.hex("cookie", held.get(Instant::ZERO).unwrap());
    text.hex("datagram", &cookie);
    let cookie = held.get(Instant::ZERO);
    Initiation::begin(
        &near,
        Scope::Link,
        0x0a0b_0c0d,
        FAR,
        cookie,
        seed(),
        &mut out,
    )
    .unwrap();
    let checked = check_init(&far.keys, Scope::Link, &out).unwrap();
    assert!(jar.accepts(checked.init(), from));
    text.hex("mac2_of_next_init", checked.init().mac2);
    text.is(include_str!("../../../tests/vectors/sealed/cookie.txt"));
}

#[test]
fn revocation_lists() {
    let mut text = Text::new("Revocation lists that an authority signed. SEALED.md, \"Identity\".");
    let local = node(0x40, NEAR, true);
    let secret = Key::new(rising(0x70));
    let authority = Authority::new(local.keys.mesh_id, &secret);
    let entry = |serial, static_key, not_after| Revoked {
        serial,
        static_key,
        not_after,
    };
    let both = [
        entry(0, *local.identity.public(), 1_707_776_000),
        entry(7, [0; 32], u64::MAX),
    ];
    for (name, number, entries) in [
        ("without entries", 1, &[][..]),
        ("a key and a serial", 2, &both[..]),
    ] {
        text.scene(name);
        text.hex("authority_secret", secret.bytes());
        text.hex("authority", &authority.public());
        let bytes = authority.revoke(number, entries).unwrap();
        text.hex("list", &bytes);
        text.line("text", Armor::Revocations.encode(&bytes));
    }
    text.scene("the texts of key and certificate");
    text.hex("authority", &authority.public());
    text.line(
        "authority_text",
        Armor::Authority.encode(&authority.public()),
    );
    let fields = Certificate::of(
        local.keys.mesh_id,
        NEAR,
        *local.identity.public(),
        local.identity.signing_public(),
    );
    let bytes = authority.sign(&fields, &[]).unwrap();
    text.hex("certificate", &bytes);
    text.line("certificate_text", Armor::Certificate.encode(&bytes));
    text.is(include_str!("../../../tests/vectors/sealed/revocation.txt"));
}

#[test]
fn certificates() {
    let mut text = Text::new("Certificates that an authority signed. SEALED.md, \"Identity\".");
    let authority = SigningKey::from_bytes(&rising(0x70));
    let local = node(0x40, NEAR, true);
    let fields = Certificate::of(
        local.keys.mesh_id,
        NEAR,
        *local.identity.public(),
        local.identity.signing_public(),
    );
    let mut named = fields;
    (named.not_before, named.not_after) = (1_700_000_000, 1_707_776_000);
    (named.serial, named.rate_class, named.name) = (7, 2, "van 3");
    let prefixes = [
        Prefix::V4([10, 0, 0, 0], 8),
        Prefix::V6(
            std::array::from_fn(|at| [0xfd, 0x93][..].get(at).copied().unwrap_or(0)),
            48,
        ),
    ];
    let scenes = [
        ("the shortest", fields, &[][..]),
        ("with a name and two prefixes", named, &prefixes[..]),
    ];
    for (name, fields, prefixes) in scenes {
        text.scene(name);
        text.hex("authority_secret", &rising(0x70));
        text.hex("authority", &authority.verifying_key().to_bytes());
        let mut bytes = [0; 400];
        let len = fields.emit_unsigned(prefixes, &mut bytes).unwrap();
        let signature = authority.sign(&[b"mesh-cert v1", &bytes[..len]].concat());
        text.hex(
            "certificate",
            &[&bytes[..len], &signature.to_bytes()].concat(),
        );
    }
    text.is(include_str!(
        "../../../tests/vectors/sealed/certificate.txt"
    ));
}

/// A certificate of a node of keys.txt, byte for byte as it is asked for; signed.
struct Raw {
    version: u8,
    netid: u32,
    times: [u64; 2],
    rights: u16,
    name: &'static [u8],
    prefixes: Vec<[u8; 18]>,
    tail: &'static [u8],
}

impl Raw {
    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut raw = Self {
            version: 1,
            netid: NEAR.0,
            times: [0, u64::MAX],
            rights: 0b111,
            name: b"van 3",
            prefixes: vec![prefix(4, 8, &[10])],
            tail: b"",
        };
        change(&mut raw);
        raw
    }

    fn signed(&self) -> Vec<u8> {
        let local = node(0x40, NEAR, true);
        let mut bytes = vec![self.version];
        bytes.extend(local.keys.mesh_id);
        bytes.extend(self.netid.to_be_bytes());
        bytes.extend(local.identity.public());
        bytes.extend(local.identity.signing_public());
        bytes.extend(self.times.iter().flat_map(|time| time.to_be_bytes()));
        bytes.extend([0; 8]);
        bytes.extend(self.rights.to_be_bytes());
        bytes.extend([0, self.name.len() as u8]);
        bytes.extend(self.name);
        bytes.push(self.prefixes.len() as u8);
        bytes.extend(self.prefixes.iter().flatten());
        let authority = SigningKey::from_bytes(&rising(0x70));
        let signature = authority.sign(&[b"mesh-cert v1", &bytes[..]].concat());
        bytes.extend(signature.to_bytes());
        bytes.extend(self.tail);
        bytes
    }
}

/// The address is filled up with zeros.
fn prefix(family: u8, bits: u8, address: &[u8]) -> [u8; 18] {
    let mut prefix = [0; 18];
    prefix[..2].copy_from_slice(&[family, bits]);
    prefix[2..2 + address.len()].copy_from_slice(address);
    prefix
}

#[test]
fn certificates_of_another_form() {
    const LONG: &[u8] = b"0123456789abcdef0123456789abcdef0";
    let of_prefixes = |prefixes: &[[u8; 18]]| {
        let prefixes = prefixes.to_vec();
        Raw::with(|raw| raw.prefixes = prefixes)
    };
    let nine: Vec<_> = (1..=9).map(|n| prefix(4, 8, &[n])).collect();
    let mut long_tail = [0; 16];
    long_tail[..2].copy_from_slice(&[10, 0]);
    long_tail[15] = 1;
    let scenes = [
        ("version 2", Raw::with(|raw| raw.version = 2)),
        ("netid 0", Raw::with(|raw| raw.netid = 0)),
        ("the netid of all", Raw::with(|raw| raw.netid = u32::MAX)),
        ("ends before it begins", Raw::with(|raw| raw.times = [2, 1])),
        (
            "an undefined right",
            Raw::with(|raw| raw.rights = 0b10_0000),
        ),
        ("a name of 33 bytes", Raw::with(|raw| raw.name = LONG)),
        ("a name with a newline", Raw::with(|raw| raw.name = b"a\n")),
        ("a name with DEL", Raw::with(|raw| raw.name = b"a\x7f")),
        ("nine prefixes", of_prefixes(&nine)),
        ("family 5", of_prefixes(&[prefix(5, 8, &[10])])),
        ("33 bits of IPv4", of_prefixes(&[prefix(4, 33, &[10])])),
        ("129 bits of IPv6", of_prefixes(&[prefix(6, 129, &[0xfd])])),
        (
            "bytes behind an IPv4 address",
            of_prefixes(&[prefix(4, 8, &long_tail)]),
        ),
        (
            "a bit behind the prefix",
            of_prefixes(&[prefix(4, 8, &[10, 1])]),
        ),
        ("a prefix twice", of_prefixes(&[prefix(4, 8, &[10]); 2])),
        (
            "prefixes that fall",
            of_prefixes(&[prefix(4, 8, &[11]), prefix(4, 8, &[10])]),
        ),
        (
            "a byte behind the signature",
            Raw::with(|raw| raw.tail = b"\0"),
        ),
    ];
    let mut text = Text::new(
        "Certificates that the authority of certificate.txt signed, and that nobody takes. SEALED.md S36.",
    );
    assert!(Certificate::parse(&Raw::with(|_| {}).signed()).is_ok());
    for (name, raw) in scenes {
        text.scene(name);
        let bytes = raw.signed();
        assert!(Certificate::parse(&bytes).is_err(), "{name}");
        text.hex("certificate", &bytes);
    }
    text.is(include_str!(
        "../../../tests/vectors/sealed/certificate-invalid.txt"
    ));
}
