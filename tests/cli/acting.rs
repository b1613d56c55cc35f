//! Root's commands about a node that runs as another user: what they make is that user's, and what that
//! user puts in their way leads them nowhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use crate::keys::Home;

const NOBODY: u32 = 65_534;

/// A home in which the directory `a` is another user's; `None` where we are not root.
fn home() -> Option<Home> {
    let home = Home::new();
    if fs::metadata(home.path("")).unwrap().uid() != 0 {
        println!("skipped: needs root");
        return None;
    }
    // The user gets there.
    fs::set_permissions(home.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(home.path("a")).unwrap();
    chown(home.path("a"), Some(NOBODY), Some(NOBODY)).unwrap();
    Some(home)
}

/// The files below a directory and the directory itself, by their names, with owner, group and rights.
fn owners(directory: &Path) -> Vec<(String, u32, u32, u32)> {
    let mut found = Vec::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(path) = ahead.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|one| one.unwrap().path()));
        }
        let name = path.strip_prefix(directory).unwrap().display().to_string();
        let mode = metadata.mode() & 0o7777;
        found.push((name, metadata.uid(), metadata.gid(), mode));
    }
    found.sort();
    found
}

fn assert_all_are_nobodys(home: &Home, names: &[&str]) {
    let found = owners(&home.path("a"));
    let expected = |name: &&str| {
        let mode = if ["", "authority"].contains(name) {
            0o700
        } else {
            0o600
        };
        ((*name).to_owned(), NOBODY, NOBODY, mode)
    };
    assert_eq!(found, names.iter().map(expected).collect::<Vec<_>>());
}

#[test]
fn what_root_makes_in_the_directory_of_a_service_belongs_to_the_user_it_runs_as() {
    let Some(home) = home() else {
        return;
    };
    let init = "init --name acting --mode none --listen 127.0.0.1:0";
    home.does("a", init, "");
    let made = ["", "identity", "lock", "secret"];
    assert_all_are_nobodys(&home, &made);
    // The settings are root's, who alone says what a service does.
    let settings = fs::metadata(home.path("a.toml")).unwrap();
    assert_eq!((settings.uid(), settings.gid()), (0, 0));

    // Each step of a change, and what else is written there.
    let next = home.does("a", "rotate", "");
    assert_all_are_nobodys(&home, &["", "identity", "lock", "secret", "secret.next"]);
    home.does("a", "rotate --cancel --force", "");
    assert_all_are_nobodys(&home, &made);
    home.does("a", "rotate --adopt -", &next);
    home.does("a", "rotate --finish", "");
    assert_all_are_nobodys(&home, &made);
    assert_eq!(home.read("a/secret"), next);
    let said = home.refused("a", "forget 00000001", "", 1);
    assert!(said.contains("no key is remembered"), "{said}");
    home.does("a", "ca init", "");
    let keys = home.does("a", "key --json", "");
    home.does("a", "ca sign -", &keys);
    home.does("a", "ca revoke 1", "");
    let all = [
        "",
        "authority",
        "authority/issued",
        "authority/key",
        "authority/lock",
        "authority/revocations",
        "identity",
        "lock",
        "secret",
    ];
    assert_all_are_nobodys(&home, &all);

    // A directory that is made in that user's.
    home.does("a/b", "init --name acting-b", "");
    let found = owners(&home.path("a/b"));
    assert!(found.iter().all(|one| one.1 == NOBODY), "{found:?}");
}

#[test]
fn root_follows_nothing_that_the_user_of_a_service_put_in_its_way() {
    let Some(home) = home() else {
        return;
    };
    home.does("a", "init --name acting", "");
    let precious = home.path("precious");
    fs::create_dir(&precious).unwrap();
    fs::set_permissions(&precious, Permissions::from_mode(0o755)).unwrap();
    fs::write(precious.join("secret.next"), "precious").unwrap();
    let before = owners(&precious);
    let plant = |place: &str| {
        let place = home.path(place);
        symlink(&precious, &place).unwrap();
        lchown(&place, Some(NOBODY), Some(NOBODY)).unwrap();
    };

    // 1. For a directory in the state directory.
    plant("a/authority");
    home.refused("a", "ca init", "", 1);
    assert_eq!(owners(&precious), before);
    // 2. For the state directory: nothing is made, removed, locked or given other rights behind it.
    fs::rename(home.path("a"), home.path("aside")).unwrap();
    plant("a");
    home.refused("a", "forget 00000001", "", 1);
    home.refused("a", "rotate --cancel --force", "", 1);
    fs::remove_file(home.path("a.toml")).unwrap();
    home.refused("a", "init --name acting", "", 1);
    assert_eq!(owners(&precious), before);
    let left = fs::read_to_string(precious.join("secret.next")).unwrap();
    assert_eq!(left, "precious");
}
