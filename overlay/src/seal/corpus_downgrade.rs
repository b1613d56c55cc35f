//! The adversarial corpus of downgrade, group H of SECURITY 4.4: every datagram of
//! `tests/vectors/sealed/adversarial-downgrade.txt`, at a node that prefers sealed links and could be
//! tempted. What a node makes of them that insists on sealed links is in `adversarial.txt`.
//!
//! The scene is that of [`corpus`](super::corpus), and besides: `07` and its address are latched, and a plain
//! neighbor `05` has a link at 192.0.2.5. No key is pinned: what is latched stays so without.

use wire::{Flags, HEADER_LEN, Kind, NetId};

use super::corpus::{Scene, bytes_of, change, init, message, path_to, with_mac1};
use super::vectors::{FAR, NEAR, Text, node};

const FILE: &str = include_str!("../../../tests/vectors/sealed/adversarial-downgrade.txt");
/// The plain neighbor, by its netid and its host.
const PLAIN: (NetId, u8) = (NetId(5), 5);
/// The latched neighbor's host, and one where nobody is known to be.
const LATCHED: u8 = 7;
const NOWHERE: u8 = 99;

/// Name, the host that it comes from, datagram, what comes of it.
type Case = (String, u8, Vec<u8>, &'static str);

fn corpus() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |name: String, host, datagram, outcome| {
        cases.push((format!("H {name}"), host, datagram, outcome));
    };
    let stays = |kind| match kind {
        Kind::Hello | Kind::Inform => Flags::NO_FORWARD,
        _ => Flags::NONE,
    };
    let said = |kind, nonce, src, dst| message(kind, stays(kind), nonce, src, dst);
    let kinds = [
        (Kind::Hello, NetId::ANY),
        (Kind::Goodbye, NetId::ALL),
        (Kind::Ping, NEAR),
        (Kind::Pong, NEAR),
        (Kind::Inform, NEAR),
        (Kind::Data, NEAR),
        (Kind::Data, NetId::ALL),
    ];
    for (kind, dst) in kinds {
        let plain = said(kind, 1, FAR, dst);
        let to = |whence: &str| format!("a plain {kind} to {dst} {whence}");
        add(
            to("from where a latched node is"),
            LATCHED,
            plain.clone(),
            "plain_from_sealed",
        );
        add(
            to("in its name, from elsewhere"),
            NOWHERE,
            plain.clone(),
            "plain_from_sealed",
        );
        add(
            to("in its name, by a plain neighbor"),
            PLAIN.1,
            plain,
            "plain_from_sealed",
        );
        let other = said(kind, 2, PLAIN.0, dst);
        add(
            to("of another, from where a latched node is"),
            LATCHED,
            other,
            "plain_from_sealed",
        );
    }
    let sealed = |src, nonce| {
        let mut data = said(Kind::Data, nonce, src, NetId::ALL);
        data[HEADER_LEN] = 0xc8;
        data
    };
    add(
        "Data that begins with c8 in its name, by a plain neighbor".into(),
        PLAIN.1,
        sealed(FAR, 3),
        "flooded",
    );
    add(
        "the same from where a latched node is".into(),
        LATCHED,
        sealed(FAR, 4),
        "plain_from_sealed",
    );
    add(
        "another version from where a latched node is".into(),
        LATCHED,
        change(&said(Kind::Hello, 5, FAR, NetId::ANY), 1, 3),
        "plain_from_sealed",
    );
    add(
        "the plain magic alone from where a latched node is".into(),
        LATCHED,
        vec![wire::MAGIC],
        "plain_from_sealed",
    );
    // Behind the ephemeral key: the offer and its two AEADs, then the policy.
    let keys = node(0x80, FAR, true).keys;
    for (name, at, bits) in [
        ("the better AEAD stripped from the offer", 10 + 32 + 3, 3),
        ("the length of the offer", 10 + 32 + 2, 3),
        ("the policy flipped to preferring", 10 + 32 + 5 + 3, 3),
    ] {
        let harmed = with_mac1(&keys, change(&init(0), at, bits));
        add(
            format!("an INIT with {name}, and a right mac1"),
            LATCHED,
            harmed,
            "handshake",
        );
    }
    let plain = said(Kind::Data, 6, PLAIN.0, NetId::ALL);
    add(
        "Data of the plain neighbor".into(),
        PLAIN.1,
        plain,
        "flooded",
    );
    add(
        "the INIT that all these were made of".into(),
        LATCHED,
        init(0),
        "answered",
    );
    cases
}

#[test]
fn the_corpus_of_downgrade_is_made_of_known_keys() {
    let mut text = Text::new(
        "Datagrams by which somebody might get a node that prefers sealed links to speak plain, and what comes\n\
         # of each. SEALED.md S83 to S88; overlay/src/seal/corpus_downgrade.rs describes the scene.",
    );
    for (name, host, datagram, outcome) in corpus() {
        text.scene(&name);
        text.line("from", path_to(host).endpoint.remote);
        text.hex("hex", &datagram);
        text.line("outcome", outcome);
    }
    text.is(FILE);
}

#[test]
fn every_datagram_that_tempts_has_the_outcome_that_it_names() {
    let mut scene = Scene::preferring();
    let mut count = 0;
    for block in FILE.split("\n\n").skip(1) {
        let field = |key: &str| {
            let mut lines = block.lines();
            lines
                .find_map(|line| line.strip_prefix(key))
                .unwrap()
                .trim()
        };
        let hosts = [PLAIN.1, LATCHED, NOWHERE].into_iter();
        let mut paths = hosts.map(path_to);
        let path = paths.find(|path| path.endpoint.remote.to_string() == field("from:"));
        let found = scene.receive(path.unwrap(), &bytes_of(field("hex:")));
        assert_eq!(found, [field("outcome:")], "{}", field("name:"));
        count += 1;
    }
    assert!(count > 30, "only {count} datagrams");
}
