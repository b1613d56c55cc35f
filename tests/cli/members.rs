//! The commands and settings that say which members come up.

use std::fs;

use overlay::daemon::state::StateDir;
use overlay_tests::cli::command;

use crate::keys::Home;

/// Writes a file of a state directory as the daemon does.
fn keep(home: &Home, node: &str, kind: &str, body: &str) {
    let state = StateDir::open(&home.path(node)).unwrap();
    state.write(kind, body).unwrap();
}

/// What such a file holds, behind its first line.
fn kept(home: &Home, file: &str) -> String {
    home.read(file).split_once('\n').unwrap().1.to_owned()
}

#[test]
fn forget_takes_one_key_out_of_the_file_where_no_node_runs() {
    let home = Home::new();
    home.does("a", "init --name lone-node", "");
    let (one, two) = ("ab".repeat(32), "cd".repeat(32));
    let pins = format!("00000001 {one}\n0000002a {two}\n");
    keep(&home, "a", "pins", &pins);

    let said = home.refused("a", "forget 7", "", 1);
    assert!(said.contains("no key is remembered for 7"), "{said}");
    assert_eq!(kept(&home, "a/pins"), pins);

    let said = home.does("a", "forget 0x2a", "");
    assert!(
        said.starts_with(&format!("forgot the key of 0000002a, {two}\n")),
        "{said}"
    );
    assert_eq!(kept(&home, "a/pins"), format!("00000001 {one}\n"));
    assert_eq!(home.mode("a/pins"), 0o600);
    // By its key, and for a script.
    let json = home.does("a", &format!("forget {one} --json"), "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, serde_json::json!({"netid": "00000001", "key": one}));
    assert_eq!(kept(&home, "a/pins"), "");
}

#[test]
fn damaged_pins_end_the_start_and_forget_and_stay_where_they_are() {
    let home = Home::new();
    home.does("a", "init --mode none --listen 127.0.0.1:0", "");
    fs::write(home.path("a/pins"), "floodmesh pins 1 0\n").unwrap();
    let said = home.refused("a", "forget 2a", "", 1);
    assert!(said.contains("pins is damaged (restore it"), "{said}");
    let output = home.starts("a");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("pins is damaged (restore it"), "{said}");
    assert_eq!(home.read("a/pins"), "floodmesh pins 1 0\n");
}

#[test]
fn forget_of_a_control_socket_without_a_node_changes_no_file() {
    let home = Home::new();
    let output = command(&["forget", "2a", "--control"])
        .arg(home.path("none.sock"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no node answers at"), "{said}");
}

#[test]
fn what_key_prints_is_what_trusted_keys_takes() {
    let home = Home::new();
    home.does("a", "init --name van --netid 2a", "");
    home.does("b", "init --mode none --listen 127.0.0.1:0", "");
    let text = home.does("a", "key", "");
    let line = text.lines().last().unwrap();
    assert!(
        line.starts_with("trusted_keys = [\"0000002a ") && line.ends_with(" van\"]"),
        "{text}"
    );
    let mut settings = home.read("b.toml");
    settings += line;
    fs::write(home.path("b.toml"), &settings).unwrap();
    home.does("b", "key", "");
    // A typing error is said with its place.
    fs::write(home.path("b.toml"), settings.replace(" van\"", "0\"")).unwrap();
    let said = home.refused("b", "key", "", 2);
    let place = format!(
        "{}:{}: trusted_keys = ",
        home.path("b.toml").display(),
        settings.lines().count()
    );
    assert!(said.contains(&place), "{said}");
    assert!(
        said.contains("has no key of 64 hex digits (paste what floodmesh key prints"),
        "{said}"
    );
}
