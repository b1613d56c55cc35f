//! `floodmesh rotate` and what it does to the files of nodes that do not run.

use std::fs;
use std::os::unix::fs::symlink;

use crate::keys::Home;

/// Two nodes of one mesh, and one of another.
fn homes() -> Home {
    let home = Home::new();
    home.does(
        "a",
        "init --mode none --listen 127.0.0.1:0 --name rotate-a",
        "",
    );
    let token = home.does("a", "invite --address van.example", "");
    home.does(
        "b",
        "join - --name rotate-b --mode none --listen 127.0.0.1:0",
        &token,
    );
    home.does("x", "init --name rotate-x", "");
    home
}

#[test]
fn a_mesh_changes_its_secret_in_three_steps_and_keeps_its_netids() {
    let home = homes();
    let before = ["a", "b"].map(|node| home.does(node, "key", ""));
    let old = home.read("a/secret");

    // 1. The next secret is made once, and printed as often as it is asked for.
    let printed = home.does("a", "rotate", "");
    assert!(
        printed.starts_with("mk2-") && printed.len() == 95,
        "{}",
        printed.len()
    );
    assert_eq!(home.read("a/secret.next"), printed);
    assert_eq!(home.mode("a/secret.next"), 0o600);
    assert_eq!(home.does("a", "rotate", ""), printed);
    assert_eq!(home.read("a/secret"), old);

    // A token has the current one alone, and says what that means.
    let invited = home.run("a", "invite --address van.example", "");
    let said = String::from_utf8(invited.stderr).unwrap();
    assert!(
        invited.status.success() && said.contains("floodmesh rotate --adopt -"),
        "{said}"
    );

    // 2. Others adopt it, once too.
    assert_eq!(home.does("b", "rotate --adopt -", &printed), "");
    assert_eq!(home.read("b/secret.next"), printed);
    assert_eq!(home.mode("b/secret.next"), 0o600);
    home.does("b", "rotate --adopt -", &printed);

    // 3. It takes the place of the old one, of which nothing is left.
    for node in ["a", "b"] {
        assert_eq!(home.does(node, "rotate --finish", ""), "");
        assert_eq!(home.read(&format!("{node}/secret")), printed);
        assert_eq!(home.mode(&format!("{node}/secret")), 0o600);
        assert!(!home.path(&format!("{node}/secret.next")).exists());
    }
    assert_eq!(["a", "b"].map(|node| home.does(node, "key", "")), before);

    // Who joins now is of the same mesh, and a further change goes on from there.
    let token = home.does("b", "invite --address van.example", "");
    home.does("c", "join - --name rotate-c", &token);
    assert_eq!(home.read("c/secret"), printed);
    let third = home.does("c", "rotate", "");
    home.does("a", "rotate --adopt -", &third);
    assert!(third != printed && third.starts_with("mk2-"));
}

#[test]
fn what_is_not_the_next_secret_of_this_mesh_is_refused_and_changes_nothing() {
    let home = homes();
    let said = home.refused("a", "rotate --finish", "", 2);
    assert!(
        said.contains("no change of the mesh secret is under way"),
        "{said}"
    );
    let foreign = home.does("x", "rotate", "");
    let first = home.does("a", "rotate", "");
    for (text, what) in [
        ("", "standard input is empty"),
        ("mk2-aaaa", "90 behind mk2-"),
        (&home.read("x/secret"), "the secret of another mesh"),
        (&foreign, "the secret of another mesh"),
    ] {
        let said = home.refused("b", "rotate --adopt -", text, 2);
        assert!(said.contains(what), "{said}");
        assert!(!home.path("b/secret.next").exists());
    }
    // Two that were made apart: the owner says which.
    home.does("b", "rotate", "");
    let kept = home.read("b/secret.next");
    let said = home.refused("b", "rotate --adopt -", &first, 1);
    assert!(
        said.contains("holds another next secret (two were made"),
        "{said}"
    );
    assert!(!said.contains(&first[4..20]), "{said}");
    assert_eq!(home.read("b/secret.next"), kept);
    // One that was left behind counts for nothing.
    home.does("a", "rotate --finish", "");
    fs::remove_file(home.path("b/secret.next")).unwrap();
    home.does("b", "rotate --adopt -", &first);
    home.does("b", "rotate --finish", "");
    let said = home.does("b", "rotate --adopt -", &first);
    assert_eq!(said, "");
    assert!(!home.path("b/secret.next").exists());
}

#[test]
fn a_next_secret_that_others_can_read_or_that_is_damaged_is_not_used() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    let home = homes();
    let next = home.does("a", "rotate", "");
    let path = home.path("a/secret.next");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    for line in ["rotate", "rotate --finish", "key"] {
        let said = home.refused("a", line, "", 1);
        assert!(said.contains("looser than 0600"), "{line}: {said}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, &next[..40]).unwrap();
    let said = home.refused("a", "rotate --finish", "", 1);
    assert!(said.contains("secret.next"), "{said}");
    assert!(!said.contains(&next[4..20]), "{said}");
    fs::write(&path, &next).unwrap();
    // Where the secret is mounted from elsewhere, it is changed there.
    fs::rename(home.path("a/secret"), home.path("real")).unwrap();
    symlink(home.path("real"), home.path("a/secret")).unwrap();
    let said = home.refused("a", "rotate --finish", "", 1);
    assert!(said.contains("is a link (move "), "{said}");
    assert!(path.exists());
}

#[test]
fn without_a_node_there_is_nothing_to_reload() {
    let home = Home::new();
    let output = overlay_tests::cli::command(&["reload", "--control"])
        .arg(home.path("none.sock"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no node answers at"), "{said}");
}
