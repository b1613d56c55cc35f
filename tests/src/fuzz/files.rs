//! Target `files`: what lies on a disk: configuration, state, keys.
//!
//! Not one for libFuzzer, which would need the daemon and a disk for each input; `cargo test` replays
//! the corpus and changes it at random.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use overlay::daemon::config::Config;
use overlay::daemon::file;
use overlay::daemon::paths::Places;
use overlay::daemon::secrets::identity::PrivateKeys;
use overlay::daemon::state::{NEIGHBORS_LIMIT, StateDir};

/// Target `files`: the input's first byte says which file the rest is. Whatever it holds, reading
/// it ends in a value or in a printable refusal; what is damaged is moved aside, but for keys, which
/// are left as they are; and keys that are read are written back as they stood.
///
/// # Panics
/// When one of these laws is broken.
pub fn fuzz_files(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    match kind % 4 {
        0 => config(&text),
        1 => state("neighbors", &text),
        2 => state("netid", &text),
        _ => keys(&text),
    }
}

/// F12.
fn config(text: &str) {
    let places = Places::new(true, |_| None);
    let read = file::parse(Path::new("f"), text).and_then(|given| Config::resolve(given, &places));
    match read {
        Ok(config) => assert!(config.links.max_neighbors > 0),
        Err(error) => {
            let said = error.to_string();
            let printable = |c: char| c == '\n' || !c.is_control();
            assert!(!said.is_empty() && said.chars().all(printable), "{said:?}");
        }
    }
}

/// F14: state, with a right checksum and without.
fn state(kind: &str, text: &str) {
    for text in [text.to_owned(), with_head(kind, text)] {
        let directory = tempfile::tempdir().expect("there is a place for it");
        let path = directory.path().join(kind);
        let state = StateDir::open(directory.path()).expect("it is ours");
        fs::write(&path, &text).expect("it can be written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
        match kind {
            "neighbors" => {
                let neighbors = state.neighbors();
                assert!(neighbors.len() <= NEIGHBORS_LIMIT);
                assert!(neighbors.iter().all(|one| one.netid.is_node()));
                // What was read can be stored, and is then the same.
                state.store_neighbors(&neighbors).expect("there is room");
                assert_eq!(state.neighbors(), neighbors);
            }
            _ => {
                let draw = || Ok(overlay::id::NetId(7));
                let netid = state.netid(None, draw).expect("there is room");
                assert!(netid.is_node());
                assert_eq!(state.netid(None, draw).ok(), Some(netid));
            }
        }
    }
}

/// F14: a file with private keys is what the document says or damaged, and nobody moves it.
fn keys(text: &str) {
    for text in [text.to_owned(), with_head("identity", text)] {
        let directory = tempfile::tempdir().expect("there is a place for it");
        let [path, again] = ["identity", "again"].map(|name| directory.path().join(name));
        fs::write(&path, &text).expect("it can be written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
        if let Ok(keys) = PrivateKeys::read(&path) {
            keys.write(&again).expect("there is room");
            let written = fs::read_to_string(&again).expect("it was written");
            assert_eq!(written, text, "another form of the same keys");
        }
        assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
    }
}

/// The text behind the first line that belongs to it.
fn with_head(kind: &str, body: &str) -> String {
    let checksum = blake3::hash(body.as_bytes()).to_hex();
    format!("floodmesh {kind} 1 {}\n{body}", &checksum[..16])
}
