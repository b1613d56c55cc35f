//! No module that every packet goes through names a lock. Locks that remain are elsewhere, each
//! with its reason: `link/udp/mod.rs` (a datagram above the path MTU), `node/seen` (growth), the
//! tables of `route` that are written when something new is learned.

use std::fs;
use std::path::{Path, PathBuf};

/// What every packet goes through, from the root of the workspace.
const PATHS: [&str; 20] = [
    "overlay/src/daemon/port.rs",
    "overlay/src/daemon/worker.rs",
    "overlay/src/daemon/worker",
    "overlay/src/link/udp/linux.rs",
    "overlay/src/link/udp/policy.rs",
    "overlay/src/link/udp/receive.rs",
    "overlay/src/link/udp/send.rs",
    "overlay/src/node/flood.rs",
    "overlay/src/node/hash.rs",
    "overlay/src/node/snapshot.rs",
    "overlay/src/pump",
    "overlay/src/seal/aead.rs",
    "overlay/src/seal/opening.rs",
    "overlay/src/seal/replay.rs",
    "overlay/src/seal/session.rs",
    "overlay/src/seal/sessions.rs",
    "tuntap/src/batch.rs",
    "tuntap/src/offload",
    "tuntap/src/queue.rs",
    "wire/src",
];

/// The files of `path`, those of tests left out.
fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_file() {
        found.push(path.to_owned());
        return;
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for entry in entries {
        let entry = entry.expect("the directory can be read").path();
        let is_test = entry.file_stem().is_some_and(|stem| stem == "tests");
        if !is_test {
            files(&entry, found);
        }
    }
}

#[test]
fn what_every_packet_goes_through_names_no_lock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for path in PATHS {
        files(&root.join(path), &mut found);
    }
    assert!(found.len() > 30, "{found:?}");
    for file in found {
        let text = fs::read_to_string(&file).expect("the source can be read");
        for word in [
            "Mutex",
            "RwLock",
            "DashMap",
            "Condvar",
            "std::thread::sleep",
        ] {
            assert!(!text.contains(word), "{word} in {}", file.display());
        }
    }
}
