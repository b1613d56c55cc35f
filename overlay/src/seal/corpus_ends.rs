//! The adversarial corpus of what is sealed end to end, group G of SECURITY 4.4: every payload of
//! `tests/vectors/sealed/adversarial-ends.txt`, through the real opening, handshakes and broadcasts.
//!
//! The scene: node `2a` has a session with each of the ends `07` and `09`, and one more with `07`, of before;
//! keys as in `keys.txt`. Payloads arrive in the order of the file, each in a Data message of the src and
//! to the dst that it names. Each names the one counter that rises, or what else came of it:
//!
//! - `delivered`: it opened, and what was inside is handed on;
//! - `opened`: there was nothing inside;
//! - `answered`: a handshake that was right.

use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use wire::NetId;
use wire::sealed::endtoend::{BROADCAST_HEADER_LEN, EndToEndKind};
use wire::sealed::{INIT_LEN, LINK_HEADER_LEN};
use zeroize::Zeroizing;

use super::corpus::{LOW_ORDER, bytes_of, change, with};
use super::vectors::{FAR, NEAR, PACKET, Text, node, rising};
use crate::keyed::KeyedHasher;
use crate::pump::count::DropReason;
use crate::seal::aead::Aead;
use crate::seal::broadcast::{Broadcasts, OVERHEAD_MAX};
use crate::seal::ends::{Ends, Membership, Wish};
use crate::seal::handshake::{Initiation, Scope};
use crate::seal::keys::{Key, MeshSecret, mac};
use crate::seal::local::Local;
use crate::seal::peer::Timers;
use crate::seal::session::{DATA_OVERHEAD, Session, Terms};
use crate::seal::sessions::{EndOpens, EndSet};
use crate::time::{Duration, Instant};

const NOW: Instant = Instant::from_secs(100);
const FILE: &str = include_str!("../../../tests/vectors/sealed/adversarial-ends.txt");
/// Another end.
const OTHER: NetId = NetId(0x09);
const HASHER: KeyedHasher = KeyedHasher(1, 2);

/// A payload, and what comes of it.
struct Case {
    name: String,
    src: NetId,
    dst: NetId,
    payload: Vec<u8>,
    outcome: &'static str,
}

/// Both ends of a session: ours, and the other's.
fn session(local: u32, remote: u32, keys: u8, info: &'static [u8]) -> [Session; 2] {
    let near = Terms {
        local,
        remote,
        is_initiator: true,
        aead: Aead::ChaCha20Poly1305,
        info,
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

const INFO: &[u8] = b"e2e-aead v1";

/// Our sessions: with `07`, with it before, with `09`.
fn sessions() -> [[Session; 2]; 3] {
    [
        session(0x0102_0304, 0x0a0b_0c0d, 0x10, INFO),
        session(0x0506_0708, 0x0e0f_0001, 0x18, INFO),
        session(0x0c0c_0c0c, 0x0d0d_0d0d, 0x50, INFO),
    ]
}

fn sealed(session: &Session, src: NetId, dst: NetId, inside: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; inside.len() + DATA_OVERHEAD];
    let len = session.seal_data_into(src, dst, inside, &mut payload);
    payload.truncate(len.unwrap());
    payload
}

fn data(cases: &mut Vec<Case>) {
    let [[near, far], [_, former], [_, other]] = sessions();
    let mut add = |name: &str, src, payload: Vec<u8>, outcome| {
        cases.push(Case {
            name: format!("G {name}"),
            src,
            dst: NEAR,
            payload,
            outcome,
        });
    };
    let first = sealed(&far, FAR, NEAR, PACKET);
    let second = sealed(&far, FAR, NEAR, PACKET);
    add("a payload", FAR, first.clone(), "delivered");
    add("the same again", FAR, first, "replayed");
    add(
        "under another src",
        OTHER,
        second.clone(),
        "unknown_session",
    );
    for (name, at, bits, outcome) in [
        ("a flag set", 2, 1, "malformed"),
        ("the reserved byte set", 3, 1, "malformed"),
        ("kind 6", 1, 2, "malformed"),
        ("kind 0", 1, 4, "malformed"),
        ("a bit of the index flipped", 7, 1, "unknown_session"),
        ("a bit of the counter flipped", 15, 0x10, "forged"),
        ("a bit of the text flipped", 20, 0x80, "forged"),
        ("a bit of the tag flipped", second.len() - 1, 1, "forged"),
    ] {
        add(name, FAR, change(&second, at, bits), outcome);
    }
    let sender = [0x0a, 0x0b, 0x0c, 0x0d];
    add("index 0", FAR, with(&second, 4, &[0; 4]), "unknown_session");
    add(
        "the sender's own index",
        FAR,
        with(&second, 4, &sender),
        "unknown_session",
    );
    let ours = [0x0c; 4];
    add(
        "another end's index",
        FAR,
        with(&second, 4, &ours),
        "unknown_session",
    );
    for (name, counter, outcome) in [
        ("counter 2^44 - 1", (1 << 44) - 1, "forged"),
        ("counter 2^44", 1 << 44, "malformed"),
        ("counter 2^63", 1 << 63, "malformed"),
        ("counter 2^64 - 1", u64::MAX, "malformed"),
        ("counter 0 on another's text", 0, "replayed"),
    ] {
        let payload = with(&second, 8, &u64::to_be_bytes(counter));
        add(name, FAR, payload, outcome);
    }
    let short = second[..second.len() - 1].to_vec();
    add("a tag one byte short", FAR, short, "forged");
    add("a byte more", FAR, [&second[..], &[0]].concat(), "forged");
    add("31 bytes", FAR, second[..31].to_vec(), "malformed");
    add("the header alone", FAR, second[..16].to_vec(), "malformed");
    add("c8 alone", FAR, vec![0xc8], "malformed");
    add(
        "what all these were made of",
        FAR,
        second.clone(),
        "delivered",
    );
    let before = sealed(&former, FAR, NEAR, PACKET);
    let spliced = with(&before, 4, &second[4..8]);
    add(
        "one session's text under another's index",
        FAR,
        spliced,
        "replayed",
    );
    let later = sealed(&former, FAR, NEAR, PACKET);
    let index_and_counter = [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 9];
    let spliced = with(&later, 4, &index_and_counter);
    add("the same with a fresh counter", FAR, spliced, "forged");
    add(
        "the session of before still opens",
        FAR,
        before,
        "delivered",
    );
    let of_other = sealed(&other, OTHER, NEAR, PACKET);
    add(
        "another end's payload under this src",
        FAR,
        of_other.clone(),
        "unknown_session",
    );
    let spliced = with(&of_other, 4, &index_and_counter);
    add("the same with this end's index", FAR, spliced, "forged");
    add("another end's payload", OTHER, of_other, "delivered");
    let reflected = sealed(&near, NEAR, FAR, PACKET);
    add(
        "our own payload, reflected",
        FAR,
        reflected.clone(),
        "unknown_session",
    );
    let indexed = with(&reflected, 4, &[1, 2, 3, 4]);
    add("the same with our index", FAR, indexed, "replayed");
    let fresh = with(&reflected, 4, &index_and_counter);
    add("the same with a fresh counter too", FAR, fresh, "forged");
    // The far end sealed it for whoever carries it, and for nobody else.
    let for_other = sealed(&far, FAR, OTHER, PACKET);
    add("sealed for another dst", FAR, for_other, "forged");
    let [_, link] = session(0x0102_0304, 0x0a0b_0c0d, 0x10, b"link-aead v1");
    let of_link = with(
        &sealed(&link, FAR, NEAR, PACKET),
        8,
        &[0, 0, 0, 0, 0, 0, 0, 9],
    );
    add("under the key of a link", FAR, of_link, "forged");
    add(
        "nothing inside",
        FAR,
        sealed(&far, FAR, NEAR, b""),
        "opened",
    );
    cases.push(Case {
        name: "G sealed for one, sent to all".into(),
        src: FAR,
        dst: NetId::ALL,
        payload: sealed(&far, FAR, NEAR, PACKET),
        outcome: "forged",
    });
}

/// Those of the far end's start number 1, of which a later one is in the file too.
fn broadcaster(secret: &MeshSecret, boot: u64, signed: bool) -> Broadcasts {
    let mut local = node(0x80, FAR, true);
    local.keys = secret.derive().into();
    local.boot = boot;
    Broadcasts::new(&local, signed, HASHER)
}

fn broadcasts(cases: &mut Vec<Case>) {
    const BOOT: u64 = 0x0000_0001_0000_0080;
    let mesh = MeshSecret::new(rising(0));
    let make = |of: &Broadcasts| {
        let mut payload = vec![0; PACKET.len() + OVERHEAD_MAX];
        let len = of.seal(PACKET, &mut payload).unwrap();
        payload.truncate(len);
        payload
    };
    let mut add = |name: &str, (src, dst), payload: Vec<u8>, outcome| {
        cases.push(Case {
            name: format!("G a broadcast: {name}"),
            src,
            dst,
            payload,
            outcome,
        });
    };
    let usual = (FAR, NetId::ALL);
    let of = broadcaster(&mesh, BOOT, true);
    let (first, second) = (make(&of), make(&of));
    add("signed", usual, first.clone(), "delivered");
    add("the same again", usual, first, "replayed");
    add("to one node", (FAR, NEAR), second.clone(), "malformed");
    add(
        "under a src whose key is not known",
        (OTHER, NetId::ALL),
        second.clone(),
        "unsigned",
    );
    let of_us = broadcaster(&mesh, BOOT + (7 << 32), false);
    add("without a signature", usual, make(&of_us), "unsigned");
    for (name, at, bits, outcome) in [
        ("an unknown flag", 2, 2, "malformed"),
        ("the reserved byte set", 3, 1, "malformed"),
        ("the flag of the signature taken off", 2, 1, "unsigned"),
        ("a bit of the epoch", 7, 1, "unknown_session"),
        ("a later start made up", 11, 2, "forged"),
        ("a bit of the sequence", 23, 0x10, "forged"),
        ("sequence 2^44", 18, 0x10, "malformed"),
        ("a bit of the text", 30, 1, "forged"),
        ("a bit of the tag", second.len() - 65, 1, "forged"),
        ("a bit of the signature", second.len() - 1, 1, "forged"),
    ] {
        add(name, usual, change(&second, at, bits), outcome);
    }
    let stripped = second[..BROADCAST_HEADER_LEN].to_vec();
    add("the header alone", usual, stripped, "malformed");
    add("103 bytes", usual, second[..103].to_vec(), "malformed");
    add("what all these were made of", usual, second, "delivered");
    let next = broadcaster(&mesh.following(rising(0x11)), BOOT, true);
    add(
        "under a secret that we do not have",
        usual,
        make(&next),
        "unknown_session",
    );
    let stolen = broadcaster(&MeshSecret::new(rising(9)), BOOT, true);
    // By its word of our mesh; its third number is one that did not come.
    let made = (0..3).map(|_| make(&stolen)).last().unwrap();
    add("under another mesh's secret", usual, made, "forged");
    let after = broadcaster(&mesh, BOOT + (1 << 32), true);
    add("of a later start", usual, make(&after), "delivered");
    let third = make(&of);
    add("of the start before", usual, third, "replayed");
}

fn init(change: impl FnOnce(&mut Local), scope: Scope) -> Vec<u8> {
    let mut local = node(0x80, FAR, true);
    change(&mut local);
    let seed = Zeroizing::new(rising(0x33));
    let mut out = [0; INIT_LEN];
    let begun = Initiation::begin(&local, scope, 0x0b0b_0b0b, NEAR, None, seed, &mut out);
    let (_, len) = begun.unwrap();
    out[..len].to_vec()
}

const FROM_FAR: Scope = Scope::EndToEnd {
    initiator: FAR,
    responder: NEAR,
};

/// Writes mac1 anew, as a member can.
fn with_mac1(mut payload: Vec<u8>) -> Vec<u8> {
    let keys = node(0x80, FAR, true).keys;
    let at = payload.len() - 16;
    let (before, mac1) = payload.split_at_mut(at);
    let ends = [FAR.0.to_be_bytes(), NEAR.0.to_be_bytes()].concat();
    mac1.copy_from_slice(&mac(&keys.end_to_end_mac1, &[&ends, before]));
    payload
}

fn handshakes(cases: &mut Vec<Case>) {
    let mut add = |name: &str, src, payload: Vec<u8>, outcome| {
        cases.push(Case {
            name: format!("G {name}"),
            src,
            dst: NEAR,
            payload,
            outcome,
        });
    };
    let right = init(|_| {}, FROM_FAR);
    let mac1_at = right.len() - 16;
    let mut refused = |name: &str, payload| add(name, FAR, payload, "handshake");
    refused(
        "an E-INIT one byte short",
        right[..right.len() - 1].to_vec(),
    );
    refused("an E-INIT one byte long", [&right[..], &[0]].concat());
    let mut padded = right.clone();
    padded.resize(INIT_LEN, 0);
    refused("an E-INIT padded like an INIT", padded);
    refused("an E-INIT of suite 0", with_mac1(change(&right, 2, 1)));
    refused("an E-INIT of version 2", with_mac1(change(&right, 3, 3)));
    refused(
        "an E-INIT with a bit of mac1 flipped",
        change(&right, mac1_at, 1),
    );
    refused("an E-INIT with another index", change(&right, 7, 1));
    refused(
        "the same with a right mac1",
        with_mac1(change(&right, 7, 1)),
    );
    let stranger = |local: &mut Local| local.keys = MeshSecret::new(rising(9)).derive().into();
    refused("an E-INIT of another mesh", init(stranger, FROM_FAR));
    refused(
        "the same with our mac1",
        with_mac1(init(stranger, FROM_FAR)),
    );
    let of_next = |local: &mut Local| {
        let next = MeshSecret::new(rising(0)).following(rising(0x11));
        local.keys = next.derive().into();
    };
    refused(
        "an E-INIT of an epoch that we do not have",
        init(of_next, FROM_FAR),
    );
    let for_other = Scope::EndToEnd {
        initiator: FAR,
        responder: OTHER,
    };
    refused("an E-INIT for another dst", init(|_| {}, for_other));
    refused(
        "the same with the mac1 for us",
        with_mac1(init(|_| {}, for_other)),
    );
    let of_link = init(|_| {}, Scope::Link);
    let noise = usize::from(u16::from_be_bytes([of_link[8], of_link[9]]));
    let as_end = with(&of_link[..10 + noise + 16], 0, &[0xc8]);
    refused("a link's INIT under c8", as_end.clone());
    refused("the same with the mac1 of ends", with_mac1(as_end));
    for (n, point) in LOW_ORDER.iter().enumerate() {
        let low = with_mac1(with(&right, 10, &bytes_of(point)));
        refused(&format!("an E-INIT with low-order point {n}"), low);
    }
    let answer = |kind: u8, noise: usize| {
        let suite = if kind == 2 { 1 } else { 0 };
        let mut payload = vec![
            0xc8,
            kind,
            suite,
            suite,
            5,
            5,
            5,
            5,
            9,
            9,
            9,
            9,
            0,
            noise as u8,
        ];
        payload.resize(14 + noise + 16, 0x22);
        payload
    };
    refused("an E-RESP to nobody", answer(2, 112));
    refused("an E-FIN to nobody", answer(3, 80));
    add(
        "an E-INIT under another src",
        OTHER,
        right.clone(),
        "handshake",
    );
    cases.push(Case {
        name: "G an E-INIT to all".into(),
        src: FAR,
        dst: NetId::ALL,
        payload: right.clone(),
        outcome: "malformed",
    });
    cases.push(Case {
        name: "G the E-INIT that all these were made of".into(),
        src: FAR,
        dst: NEAR,
        payload: right,
        outcome: "answered",
    });
}

fn corpus() -> Vec<Case> {
    let mut cases = Vec::new();
    data(&mut cases);
    handshakes(&mut cases);
    broadcasts(&mut cases);
    cases
}

/// The node that all of it comes to.
struct Scene {
    local: Local,
    sessions: EndSet,
    ends: Ends,
    broadcasts: Broadcasts,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let local = node(0x40, NEAR, true);
        let mut set = EndSet::new(HASHER);
        for ([session, _], netid) in sessions().into_iter().zip([FAR, FAR, OTHER]) {
            let session = Arc::new(session);
            set.open(EndOpens { session, netid });
        }
        let broadcasts = Broadcasts::new(&local, true, HASHER);
        let far = node(0x80, FAR, true);
        broadcasts.note(FAR, far.boot, far.identity.signing_public());
        let random = ChaCha12Rng::from_seed([1; 32]);
        Self {
            sessions: set,
            ends: Ends::new(Timers::end_to_end(), HASHER, random),
            broadcasts,
            local,
            now: NOW,
        }
    }

    /// What comes of a payload, as in the data loop.
    fn receive(&mut self, src: NetId, dst: NetId, payload: &[u8]) -> &'static str {
        let payload = &mut payload.to_vec()[..];
        // No ration is used up by what came before.
        self.now = self.now + Duration::from_secs(1);
        let now = self.now;
        let opened = match EndToEndKind::of(payload) {
            Ok(EndToEndKind::Init | EndToEndKind::Resp | EndToEndKind::Fin) if dst == NEAR => {
                return self.shake(src, payload);
            }
            Ok(EndToEndKind::Data) => {
                let opened = self.sessions.open_data(now, (src, dst), payload);
                opened.map(|(_, len)| (LINK_HEADER_LEN, len))
            }
            Ok(EndToEndKind::Broadcast) if dst == NetId::ALL => {
                let opened = self.broadcasts.open(now, src, payload, || true);
                opened.map(|len| (BROADCAST_HEADER_LEN, len))
            }
            _ => Err(DropReason::Malformed),
        };
        match opened {
            Ok((_, 0)) => "opened",
            Ok((at, len)) if payload[at..at + len] == *PACKET => "delivered",
            Ok(_) => "something else",
            Err(reason) => reason.name(),
        }
    }

    fn shake(&mut self, src: NetId, payload: &[u8]) -> &'static str {
        let membership = Membership {
            local: &self.local,
            refuses: &|_| None,
        };
        let is_of_use = self
            .ends
            .handle(self.now, membership, (src, src), true, payload);
        let mut wishes = self.ends.drain();
        match (
            is_of_use,
            wishes.any(|wish| matches!(wish, Wish::Originate { .. })),
        ) {
            (true, true) => "answered",
            (false, false) => DropReason::Handshake.name(),
            _ => "half of it",
        }
    }
}

#[test]
fn the_corpus_of_ends_is_made_of_known_keys() {
    let mut text = Text::new(
        "Payloads that begin with c8 and that somebody might send to do harm, and what comes of each.\n\
         # SEALED.md, \"End to end\"; overlay/src/seal/corpus_ends.rs describes the scene.",
    );
    for case in corpus() {
        text.scene(&case.name);
        text.line("src", case.src);
        text.line("dst", case.dst);
        text.hex("hex", &case.payload);
        text.line("outcome", case.outcome);
    }
    text.is(FILE);
}

#[test]
fn every_payload_of_the_corpus_has_the_outcome_that_it_names() {
    let mut scene = Scene::new();
    let mut count = 0;
    for block in FILE.split("\n\n").skip(1) {
        let field = |key: &str| {
            let mut lines = block.lines();
            lines
                .find_map(|line| line.strip_prefix(key))
                .unwrap()
                .trim()
        };
        let [src, dst] = ["src:", "dst:"].map(|key| field(key).parse().unwrap());
        let found = scene.receive(src, dst, &bytes_of(field("hex:")));
        assert_eq!(found, field("outcome:"), "{}", field("name:"));
        count += 1;
    }
    assert!(count > 70, "only {count} payloads");
}
