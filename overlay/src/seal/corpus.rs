//! The adversarial corpus of sealed links, groups G and H of SECURITY 4.4: every datagram of
//! `tests/vectors/sealed/adversarial.txt`, through the real opening, door and rules.
//!
//! The scene: node `2a` has a session with its neighbor `07`, whose link is live, and one more, of
//! before; keys as in `keys.txt`. Datagrams arrive in the order of the file, each from the
//! neighbor's address. Each names the one counter that rises, or what else came of it:
//!
//! - `opened`: sealed control, of which nothing is counted;
//! - `flooded`: a message that is new;
//! - `answered`: a handshake that was right.

use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use wire::sealed::{Control, Frame, INIT_LEN, LINK_HEADER_LEN};
use wire::{Flags, HEADER_LEN, Kind, NetId, emit_control};
use zeroize::Zeroizing;

use super::vectors::{FAR, NEAR, Text, node, rising};
use crate::id::{Endpoint, LinkId, Path, SocketId};
use crate::keyed::KeyedHasher;
use crate::node::flood::{Flood, Verdict};
use crate::node::hash::{Algorithm, MessageHasher};
use crate::node::seen::SeenConfig;
use crate::node::snapshot::{LinkEntry, NeighborSet};
use crate::node::zone::{Bridge, OpenZone};
use crate::pump::count::{Counters, DropReason};
use crate::pump::rx::{RxBatch, RxMessage, Span};
use crate::seal::aead::Aead;
use crate::seal::handshake::{Initiation, Scope};
use crate::seal::keys::{Key, MeshKeys, MeshSecret, mac};
use crate::seal::links::{Links, Wish};
use crate::seal::opening::{Opening, Porter};
use crate::seal::peer::Timers;
use crate::seal::session::{LINK_OVERHEAD, Session, Terms};
use crate::seal::sessions::{Opens, SessionSet};
use crate::time::Instant;

const NOW: Instant = Instant::from_secs(100);
const FILE: &str = include_str!("../../../tests/vectors/sealed/adversarial.txt");

/// Both ends of a session: ours, and the neighbor's.
fn session(local: u32, remote: u32, keys: u8) -> [Session; 2] {
    let near = Terms {
        local,
        remote,
        is_initiator: true,
        aead: Aead::ChaCha20Poly1305,
        info: b"link-aead v1",
    };
    let far = Terms {
        local: remote,
        remote: local,
        is_initiator: false,
        ..near
    };
    let keys = [keys, keys + 0x20].map(|first| Key::new(rising(first)));
    [near, far].map(|terms| Session::new(NOW, terms, &keys[0], &keys[1]))
}

/// What the neighbor seals: one message.
fn sealed(session: &Session, message: &[u8]) -> Vec<u8> {
    let mut out = vec![0; message.len() + LINK_OVERHEAD];
    session.seal_into(message, false, &mut out).unwrap();
    out
}

/// What it seals: one control frame.
fn control(session: &Session, control: Control<'_>) -> Vec<u8> {
    let frame = Frame::Control(control);
    let mut out = vec![0; LINK_HEADER_LEN + frame.len() + 16];
    frame.emit(&mut out[LINK_HEADER_LEN..]).unwrap();
    session.seal(&mut out).unwrap();
    out
}

pub(super) fn message(kind: Kind, flags: Flags, nonce: u32, src: NetId, dst: NetId) -> Vec<u8> {
    let mut message = emit_control(kind, flags, nonce, src, dst).to_vec();
    match kind {
        Kind::Data => message.extend([0x45; 20]),
        Kind::Inform => message.resize(HEADER_LEN + wire::INFORM_LEN, 0xff),
        _ => {}
    }
    message
}

pub(super) fn init(secret: u8) -> Vec<u8> {
    let mut local = node(0x80, FAR, true);
    if secret != 0 {
        local.keys = MeshSecret::new(rising(secret)).derive().into();
    }
    let seed = Zeroizing::new(rising(0x33));
    let mut out = [0; INIT_LEN];
    let begun = Initiation::begin(&local, Scope::Link, 0x0b0b_0b0b, NEAR, None, seed, &mut out);
    begun.unwrap();
    out.to_vec()
}

/// Writes mac1 anew, as a member can.
pub(super) fn with_mac1(keys: &MeshKeys, mut datagram: Vec<u8>) -> Vec<u8> {
    let noise = usize::from(u16::from_be_bytes([datagram[8], datagram[9]]));
    let (before, rest) = datagram.split_at_mut(10 + noise);
    rest[..16].copy_from_slice(&mac(&keys.mac1, &[before]));
    datagram
}

/// The corpus: name, datagram, what comes of it.
type Case = (String, Vec<u8>, &'static str);

pub(super) fn change(datagram: &[u8], at: usize, bits: u8) -> Vec<u8> {
    let mut changed = datagram.to_vec();
    changed[at] ^= bits;
    changed
}

pub(super) fn with(datagram: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = datagram.to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed
}

/// G: sealed datagrams.
fn group_g(cases: &mut Vec<Case>) {
    let [near, far] = session(0x0102_0304, 0x0a0b_0c0d, 0x10);
    let [_, former] = session(0x0506_0708, 0x0e0f_0001, 0x18);
    let mut add = |name: &str, datagram: Vec<u8>, outcome| {
        cases.push((format!("G {name}"), datagram, outcome));
    };
    let data = |nonce| message(Kind::Data, Flags::NONE, nonce, FAR, NetId::ALL);
    let first = sealed(&far, &data(1));
    let second = sealed(&far, &data(2));
    add("a message", first.clone(), "flooded");
    add("the same again", first.clone(), "replayed");
    add("an unknown flag set", change(&second, 2, 2), "malformed");
    add(
        "the flag of what goes alone set",
        change(&second, 2, 1),
        "forged",
    );
    add("the reserved byte set", change(&second, 3, 1), "malformed");
    add("another kind", change(&second, 1, 3), "malformed");
    add(
        "a bit of the index flipped",
        change(&second, 7, 1),
        "unknown_session",
    );
    add("index 0", with(&second, 4, &[0; 4]), "unknown_session");
    add(
        "the sender's own index",
        with(&second, 4, &[0x0a, 0x0b, 0x0c, 0x0d]),
        "unknown_session",
    );
    add(
        "a bit of the counter flipped",
        change(&second, 15, 0x10),
        "forged",
    );
    add(
        "counter 2^44 - 1",
        with(&second, 8, &[0, 0, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff]),
        "forged",
    );
    for (name, first) in [("2^44", [0, 0, 0x10]), ("2^63", [0x80, 0, 0])] {
        let counter = [&first[..], &[0; 5]].concat();
        add(
            &format!("counter {name}"),
            with(&second, 8, &counter),
            "malformed",
        );
    }
    add(
        "counter 2^64 - 1",
        with(&second, 8, &[0xff; 8]),
        "malformed",
    );
    add(
        "counter 0 on another's text",
        with(&second, 8, &[0; 8]),
        "replayed",
    );
    add(
        "a bit of the text flipped",
        change(&second, 20, 0x80),
        "forged",
    );
    add(
        "a bit of the tag flipped",
        change(&second, second.len() - 1, 1),
        "forged",
    );
    add(
        "a tag one byte short",
        second[..second.len() - 1].to_vec(),
        "forged",
    );
    add("a byte more", [&second[..], &[0]].concat(), "forged");
    add("31 bytes", second[..31].to_vec(), "malformed");
    add("the header alone", second[..16].to_vec(), "malformed");
    add("what all these were made of", second.clone(), "flooded");
    let other = sealed(&former, &data(3));
    add(
        "one session's text under another's index",
        with(&other, 4, &second[4..8]),
        "replayed",
    );
    let later = sealed(&former, &data(4));
    let spliced = with(&later, 4, &[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 9]);
    add("the same with a fresh counter", spliced, "forged");
    add("the session of before still opens", other, "flooded");
    let ours = sealed(
        &near,
        &message(Kind::Data, Flags::NONE, 5, NEAR, NetId::ALL),
    );
    add(
        "our own datagram, reflected",
        ours.clone(),
        "unknown_session",
    );
    add(
        "the same with our index",
        with(&ours, 4, &[1, 2, 3, 4]),
        "replayed",
    );
    let fresh = with(&ours, 4, &[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 7]);
    add("the same with a fresh counter too", fresh, "forged");
    add("a keepalive", control(&far, Control::Keepalive), "opened");
    add("a close", control(&far, Control::Close(0)), "opened");
    let mut empty = vec![0; 32];
    far.seal(&mut empty).unwrap();
    add("no frame at all", empty, "opened");
    let other = NetId(0x99);
    let stays = Flags::NO_FORWARD;
    let hello = message(Kind::Hello, stays, 6, other, NetId::ANY);
    let inform = message(Kind::Inform, stays, 7, other, NEAR);
    for (name, said) in [("Hello", hello), ("Inform", inform)] {
        let name = format!("{name} under another name");
        add(&name, sealed(&far, &said), "spoofed_control");
    }
    let ours = message(Kind::Data, Flags::NONE, 8, NEAR, NetId::ALL);
    add(
        "Data under our own name",
        sealed(&far, &ours),
        "netid_conflict",
    );
    add(
        "a message of another version",
        sealed(&far, &change(&data(9), 1, 3)),
        "wrong_version",
    );
    add(
        "a sealed datagram in a sealed one",
        sealed(&far, &first),
        "malformed",
    );
}

/// G: handshakes.
fn group_g_handshakes(cases: &mut Vec<Case>) {
    let keys = node(0x80, FAR, true).keys;
    let mut add = |name: &str, datagram: Vec<u8>, outcome| {
        cases.push((format!("G {name}"), datagram, outcome));
    };
    let right = init(0);
    add(
        "an INIT of 1,199 bytes",
        right[..1_199].to_vec(),
        "handshake",
    );
    add(
        "an INIT of 1,201 bytes",
        [&right[..], &[0]].concat(),
        "handshake",
    );
    add("an INIT of suite 0", change(&right, 2, 1), "handshake");
    add("an INIT of version 2", change(&right, 3, 3), "handshake");
    add(
        "an INIT with a bit in its padding",
        change(&right, 1_199, 1),
        "handshake",
    );
    add(
        "an INIT with a bit of mac1 flipped",
        change(&right, 66 + 8, 1),
        "handshake",
    );
    add("an INIT of another mesh", init(9), "handshake");
    add(
        "the same with our mac1",
        with_mac1(&keys, init(9)),
        "handshake",
    );
    for (n, point) in LOW_ORDER.iter().enumerate() {
        let low = with_mac1(&keys, with(&right, 10, &bytes_of(point)));
        add(
            &format!("an INIT with low-order point {n}"),
            low.clone(),
            "handshake",
        );
        let high = with_mac1(&keys, change(&low, 10 + 31, 0x80));
        add(
            &format!("the same with its top bit set, {n}"),
            high,
            "handshake",
        );
    }
    add(
        "a COOKIE for nobody",
        [&[0xae, 4, 0, 0, 9, 9, 9, 9][..], &[7; 56]].concat(),
        "handshake",
    );
    let answer = |kind: u8, noise: usize| {
        let versions = if kind == 2 { [1, 1] } else { [0, 0] };
        let mut datagram = vec![
            0xae,
            kind,
            versions[0],
            versions[1],
            5,
            5,
            5,
            5,
            9,
            9,
            9,
            9,
            0,
        ];
        datagram.push(noise as u8);
        datagram.resize(14 + noise + 16, 0x22);
        datagram.resize(14 + noise + 32, 0);
        datagram
    };
    add("a RESP to nobody", answer(2, 112), "handshake");
    add("a FIN to nobody", answer(3, 80), "handshake");
    add("kind 6", vec![0xae, 6, 0, 0], "malformed");
    add("the magic alone", vec![0xae], "malformed");
    add("nothing", Vec::new(), "malformed");
    add("the INIT that all these were made of", right, "answered");
}

/// H: downgrade; each message as the neighbor would have sent it in plain.
fn group_h(cases: &mut Vec<Case>) {
    for (kind, dst) in [
        (Kind::Hello, NetId::ANY),
        (Kind::Hello, NEAR),
        (Kind::Goodbye, NetId::ALL),
        (Kind::Ping, NetId::ANY),
        (Kind::Ping, NEAR),
        (Kind::Pong, NEAR),
        (Kind::Inform, NEAR),
        (Kind::Data, NEAR),
        (Kind::Data, NetId::ALL),
        (Kind::Unknown(0x77), NetId::ALL),
    ] {
        let name = format!("H a plain {kind} to {dst}");
        let stays = matches!(kind, Kind::Hello | Kind::Inform);
        let flags = if stays {
            Flags::NO_FORWARD
        } else {
            Flags::NONE
        };
        cases.push((name, message(kind, flags, 1, FAR, dst), "not_sealed"));
    }
    let plain = message(Kind::Hello, Flags::NO_FORWARD, 1, FAR, NetId::ANY);
    let mut add = |name: &str, datagram: Vec<u8>, outcome| {
        cases.push((format!("H {name}"), datagram, outcome));
    };
    add(
        "a plain Hello of another version",
        change(&plain, 1, 3),
        "not_sealed",
    );
    add("the plain magic alone", vec![0xac], "not_sealed");
    add(
        "a plain Hello under the sealed magic",
        change(&plain, 0, 2),
        "handshake",
    );
    let mut link = plain.clone();
    link[..2].copy_from_slice(&[0xae, 5]);
    add("a plain Hello under the head of a LINK", link, "malformed");
}

/// The seven of S13, little-endian.
pub(super) const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
];

pub(super) fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn corpus() -> Vec<Case> {
    let mut cases = Vec::new();
    group_g(&mut cases);
    group_g_handshakes(&mut cases);
    group_h(&mut cases);
    cases
}

/// The node that all of it comes to.
pub(super) struct Scene {
    links: Links,
    sessions: SessionSet,
    neighbors: NeighborSet,
    flood: Flood,
    counters: Counters,
}

/// What is not for the plain rules.
#[derive(Default)]
struct Handed {
    handshakes: Vec<Vec<u8>>,
}

impl Porter for Handed {
    fn handshake(&mut self, _path: Path, datagram: &[u8]) {
        self.handshakes.push(datagram.to_vec());
    }
    fn confirmed(&mut self, _index: u32) {}
    fn frame(&mut self, _index: u32, _by: (Path, usize), _control: &Control<'_>) {}
    fn elsewhere(&mut self, _index: u32, _from: Path, _len: usize) {}
}

/// The path to a host of the network that all of it comes from.
pub(super) fn path_to(host: u8) -> Path {
    let remote = ([192, 0, 2, host], 44_204).into();
    Path::to(Endpoint::new(SocketId(0), remote))
}

impl Scene {
    pub(super) fn new() -> Self {
        let path = path_to(7);
        let hasher = KeyedHasher(1, 2);
        let mut sessions = SessionSet::new(hasher);
        for (local, remote, keys) in [
            (0x0102_0304, 0x0a0b_0c0d, 0x10),
            (0x0506_0708, 0x0e0f_0001, 0x18),
        ] {
            let [session, _] = session(local, remote, keys);
            let session = Arc::new(session);
            sessions.open(Opens {
                rights: wire::sealed::RIGHTS,
                allowance: None,
                session,
                path,
                from: path.endpoint,
                netid: FAR,
            });
        }
        let link = LinkEntry {
            open: false,
            id: LinkId(1),
            netid: FAR,
            neighbor: 0,
            path,
            stats: Arc::default(),
        };
        let random = ChaCha12Rng::from_seed([1; 32]);
        let seen = MessageHasher::new(Algorithm::SipHash13, [1, 2, 3, 4]);
        let local = node(0x40, NEAR, true);
        Self {
            links: Links::new(NOW, local, Timers::default(), hasher, random),
            sessions,
            neighbors: NeighborSet::new(vec![link], [], hasher),
            flood: Flood::new(NEAR, seen, SeenConfig::default(), Instant::ZERO),
            counters: Counters::default(),
        }
    }

    /// The same where sealed links are but preferred: the neighbor is latched, and beside its link there is
    /// a plain one, to `05`. Nothing is pinned.
    pub(super) fn preferring() -> Self {
        let mut scene = Self::new();
        let hasher = KeyedHasher(1, 2);
        let mut zone = OpenZone::new(Bridge::Off, hasher);
        zone.add_node(FAR);
        zone.add_place(path_to(7).endpoint.remote);
        scene.sessions.set_open_zone(Some(Arc::new(zone)));
        let plain = LinkEntry {
            open: true,
            id: LinkId(2),
            netid: NetId(5),
            neighbor: 1,
            path: path_to(5),
            stats: Arc::default(),
        };
        let links = scene.neighbors.links().iter().cloned().chain([plain]);
        scene.neighbors = NeighborSet::new(links.collect(), [], hasher);
        scene
    }

    /// What comes of a datagram by this path.
    pub(super) fn receive(&mut self, path: Path, datagram: &[u8]) -> Vec<&'static str> {
        let all = DropReason::ALL.iter();
        let before: Vec<u64> = all.map(|reason| self.counters.dropped(*reason)).collect();
        let mut rx = RxBatch::with_buffers(1).with_all_messages();
        rx.arena_mut()[..datagram.len()].copy_from_slice(datagram);
        let len = datagram.len() as u32;
        rx.push(RxMessage {
            span: Span { start: 0, len },
            stride: len,
            path,
            interface: 0,
            truncated: false,
            alone: false,
        });
        let mut handed = Handed::default();
        Opening::default().open(
            NOW,
            &self.sessions,
            (&self.neighbors, 0),
            &mut rx,
            &self.counters,
            &mut handed,
        );
        let mut outcomes = Vec::new();
        for datagram in &handed.handshakes {
            if !self.links.handle(NOW, &path, datagram, 0) {
                self.counters.count(DropReason::Handshake);
            }
            let answers = self.links.drain();
            let answers = answers.filter(|wish| matches!(wish, Wish::Send(..)));
            outcomes.extend(answers.map(|_| "answered"));
        }
        for message in rx.messages() {
            let link = self.neighbors.find(&message.path.endpoint);
            match self.flood.judge(NOW, link, message.span.of(rx.arena())) {
                Verdict::Drop(reason) => self.counters.count(reason),
                Verdict::New { .. } => outcomes.push("flooded"),
            }
        }
        let reasons = DropReason::ALL.iter().zip(before);
        let risen = reasons.filter(|(reason, before)| self.counters.dropped(**reason) > *before);
        outcomes.extend(risen.map(|(reason, _)| reason.name()));
        if outcomes.is_empty() {
            outcomes.push("opened");
        }
        outcomes
    }
}

#[test]
fn the_corpus_is_made_of_known_keys() {
    let mut text = Text::new(
        "Datagrams that somebody might send to do harm, and what comes of each.\n# SEALED.md throughout; overlay/src/seal/corpus.rs describes the scene.",
    );
    for (name, datagram, outcome) in corpus() {
        text.scene(&name);
        text.hex("hex", &datagram);
        text.line("outcome", outcome);
    }
    text.is(FILE);
}

#[test]
fn every_datagram_of_the_corpus_has_the_outcome_that_it_names() {
    let mut scene = Scene::new();
    let mut count = 0;
    for block in FILE.split("\n\n").skip(1) {
        let field = |key: &str| {
            let mut lines = block.lines();
            lines.find_map(|line| line.strip_prefix(key)).map(str::trim)
        };
        let (name, hex) = (field("name:").unwrap(), field("hex:").unwrap());
        let expected = [field("outcome:").unwrap()];
        assert_eq!(
            scene.receive(path_to(7), &bytes_of(hex)),
            expected,
            "{name}"
        );
        count += 1;
    }
    assert!(count > 60, "only {count} datagrams");
}
