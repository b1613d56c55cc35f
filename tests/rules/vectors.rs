//! Every format that SEALED.md describes has a vector, and each file of vectors is read by both
//! implementations: ours, and the one in Python that knows the document alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const SEALED: &str = include_str!("../../wire/SEALED.md");

/// What the document has, as [`formats`] finds it; the file that shows it, and by what words there.
const SHOWN: &[(&str, &str, &str)] = &[
    // Texts.
    ("mk1-", "keys.txt", "text: mk1-"),
    ("mk2-", "keys.txt", "text: mk2-"),
    ("mi1-", "token.txt", "token: mi1-"),
    ("ma1-", "revocation.txt", "authority_text: ma1-"),
    ("mc1-", "revocation.txt", "certificate_text: mc1-"),
    ("mr1-", "revocation.txt", "text: mr1-"),
    // What keys and macs are derived from, and what is signed.
    ("mesh-secret v1", "keys.txt", "text: mk1-"),
    ("mesh-secret v2", "keys.txt", "text: mk2-"),
    ("mesh-id v1", "keys.txt", "mesh_id:"),
    ("link-psk v1", "keys.txt", "link_psk:"),
    ("mac1 v1", "keys.txt", "mac1_key:"),
    ("cookie v1", "keys.txt", "cookie_key:"),
    ("e2e-psk v1", "keys.txt", "end_to_end_psk:"),
    ("e2e-mac1 v1", "keys.txt", "end_to_end_mac1_key:"),
    ("bcast v1", "keys.txt", "broadcast_key_258:"),
    ("netid v1", "keys.txt", "netid_from_s:"),
    ("mesh-binding v1", "keys.txt", "binding:"),
    ("mesh-link v1", "handshake.txt", "init:"),
    ("link-aead v1", "session.txt", "key_of_initiator:"),
    ("mesh-e2e v1", "endtoend.txt", "init:"),
    ("e2e-aead v1", "endtoend.txt", "data_of_responder:"),
    ("mesh-bcast v1", "broadcast.txt", "name: signed"),
    ("mesh-cert v1", "certificate.txt", "certificate:"),
    ("mesh-revocation v1", "revocation.txt", "list:"),
    ("mesh-authority v1", "revocation.txt", "authority_text:"),
    ("mesh-certificate v1", "revocation.txt", "certificate_text:"),
    ("mesh-revocations v1", "revocation.txt", "text: mr1-"),
    ("mesh-invitation v1", "token.txt", "token:"),
    ("next-secret v1", "keys.txt", "record_12:"),
    // What is drawn.
    ("INIT", "datagrams.txt", "kind=init"),
    ("RESP", "datagrams.txt", "kind=resp"),
    ("FIN", "datagrams.txt", "kind=fin"),
    ("COOKIE", "datagrams.txt", "kind=cookie"),
    ("LINK", "datagrams.txt", "kind=link"),
    ("0lll llll llll llll", "frames.txt", "message="),
    (
        "version u8 = 1 | mesh id 16 | netid u32",
        "certificate.txt",
        "certificate:",
    ),
    (
        "version u8 = 1 | mesh id 16 | number u64",
        "revocation.txt",
        "list:",
    ),
    ("E-INIT", "endtoend.txt", "init:"),
    ("E-RESP", "endtoend.txt", "resp:"),
    ("E-FIN", "endtoend.txt", "fin:"),
    ("E-DATA", "endtoend.txt", "data_of_initiator:"),
    ("E-BCAST", "broadcast.txt", "broadcast_0:"),
    ("floodmesh identity 1 CHECKSUM", "files.txt", "identity:"),
    (
        "mesh secret 32 | not after u64 | MTU of the devices u16",
        "token.txt",
        "epoch: 1",
    ),
    // Controls.
    ("control keepalive", "frames.txt", "keepalive"),
    ("control path challenge", "frames.txt", "path_challenge="),
    ("control path response", "frames.txt", "path_response="),
    ("control size probe", "frames.txt", "size_probe="),
    ("control size seen", "frames.txt", "size_seen="),
    ("control close", "frames.txt", "close="),
    ("control counts", "frames.txt", "counts="),
    ("control list number", "frames.txt", "list_number="),
    ("control list request", "frames.txt", "list_request="),
    ("control list piece", "frames.txt", "list_piece="),
    // Records.
    ("record 1", "records.txt", " 1="),
    ("record 2", "records.txt", " 2="),
    ("record 3", "records.txt", " 3="),
    ("record 4", "records.txt", " 4="),
    ("record 5", "records.txt", " 5="),
    ("record 6", "records.txt", " 6="),
    ("record 7", "records.txt", " 7="),
    ("record 8", "records.txt", " 8="),
    ("record 9", "records.txt", " 9="),
    ("record 10", "records.txt", " 10="),
    ("record 11", "records.txt", " 11="),
    ("record 12", "records.txt", " 12="),
    ("record 13", "records.txt", " 13="),
];

/// Files that show no format of their own: what is refused, and what is kept in files.
const BESIDE: &[&str] = &[
    "adversarial-ends.txt",
    "adversarial-downgrade.txt",
    "adversarial.txt",
    "certificate-invalid.txt",
    "cookie.txt",
    "datagrams-invalid.txt",
];

/// Labels, prefixes of texts, drawings, controls and records, each by the words that name it there.
fn formats() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // "LABEL vN"
    for quoted in SEALED.split('"').skip(1).step_by(2) {
        let version = quoted.rsplit_once(" v").map(|(_, number)| number);
        if version
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        {
            found.insert(quoted.to_owned());
        }
    }
    // `xyN-`
    for code in SEALED.split('`') {
        let is_prefix = code.len() == 4
            && code.starts_with('m')
            && code.ends_with('-')
            && code.as_bytes()[2].is_ascii_digit();
        found.extend(is_prefix.then(|| code.to_owned()));
    }
    for block in SEALED.split("```text\n").skip(1) {
        let (block, _) = block.split_once("```").expect("a drawing ends");
        let lines: Vec<&str> = block.lines().collect();
        let named = lines
            .iter()
            .filter_map(|line| line.split_whitespace().next());
        let is_name = |word: &&str| {
            word.len() > 2
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        };
        let names: Vec<&str> = named.filter(is_name).collect();
        if names.is_empty() {
            // As much of its first line as tells it from the others.
            let first = lines[0].split("   ").next().unwrap_or_default();
            let parts: Vec<&str> = first.split(" | ").collect();
            found.insert(parts[..parts.len().min(3)].join(" | "));
        }
        found.extend(names.into_iter().map(str::to_owned));
    }
    found.extend(rows("| k | control |").map(|row| format!("control {}", row[1])));
    found.extend(rows("| type | in |").map(|row| format!("record {}", row[0])));
    found
}

/// The rows of the table with this head.
fn rows(head: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let (_, rest) = SEALED.split_once(head).expect("there is such a table");
    let lines = rest.lines().skip(2);
    lines
        .take_while(|line| line.starts_with("| "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn folder() -> PathBuf {
    root().join("tests/vectors/sealed")
}

#[test]
fn every_format_of_the_document_has_a_vector() {
    let listed: BTreeSet<String> = SHOWN.iter().map(|(name, ..)| (*name).to_owned()).collect();
    let found = formats();
    let missing: Vec<_> = found.difference(&listed).collect();
    assert!(missing.is_empty(), "no vector shows {missing:?}");
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "the document has no {gone:?}");
    for (name, file, words) in SHOWN {
        let text = fs::read_to_string(folder().join(file)).expect("the vectors can be read");
        assert!(text.contains(words), "{file} does not show {name}");
    }
}

#[test]
fn both_implementations_read_every_file_of_vectors() {
    let mut ours = String::new();
    for file in [
        "overlay/src/seal/vectors.rs",
        "overlay/src/seal/corpus.rs",
        "overlay/src/seal/corpus_ends.rs",
        "overlay/src/seal/corpus_downgrade.rs",
        "wire/tests/codec/sealed.rs",
        "tests/cli/keys.rs",
    ] {
        ours += &fs::read_to_string(root().join(file)).expect("the source can be read");
    }
    let theirs = root().join("tests/strict_sealed/test_sealed.py");
    let theirs = fs::read_to_string(theirs).expect("the source can be read");
    let mut known: BTreeSet<&str> = SHOWN.iter().map(|(_, file, _)| *file).collect();
    known.extend(BESIDE);
    let mut count = 0;
    for entry in fs::read_dir(folder()).expect("the folder is there") {
        let name = entry.expect("it can be read").file_name();
        let name = name.to_str().expect("names are plain");
        assert!(known.contains(name), "{name} is not listed here");
        assert!(
            ours.contains(&format!("vectors/sealed/{name}")),
            "ours does not read {name}"
        );
        assert!(
            theirs.contains(&format!("\"{name}\"")),
            "the other does not read {name}"
        );
        count += 1;
    }
    assert_eq!(count, known.len(), "all that are listed are there");
}
