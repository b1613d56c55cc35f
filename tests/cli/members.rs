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

/// A node with an authority in its state directory, and another of the same mesh.
fn office() -> (Home, String) {
    let home = Home::new();
    home.does(
        "a",
        "init --mode none --listen 127.0.0.1:0 --name lone-a",
        "",
    );
    let token = home.does("a", "invite --address 192.0.2.1", "");
    home.does(
        "b",
        "join - --mode none --listen 127.0.0.1:0 --name van",
        &token,
    );
    let setting = home.does("a", "ca init", "");
    assert!(setting.starts_with("authority = \"ma1-"), "{setting}");
    (home, setting)
}

/// A certificate for a node by what its `key` prints.
fn sign(home: &Home, node: &str, more: &str) -> String {
    let keys = home.does(node, "key --json", "");
    home.does("a", &format!("ca sign - {more}"), &keys)
}

#[test]
fn an_authority_is_made_once_and_its_key_is_for_its_owner_alone() {
    let (home, setting) = office();
    assert_eq!(home.mode("a/authority/key"), 0o600);
    assert_eq!(home.mode("a/authority"), 0o700);
    let said = home.refused("a", "ca init", "", 1);
    assert!(said.contains("exists already"), "{said}");
    assert_eq!(home.does("a", "ca show", ""), setting);
    let said = home.refused("b", "ca show", "", 1);
    assert!(
        said.contains("there is no authority in") && said.contains("floodmesh ca init"),
        "{said}"
    );
    assert!(!home.path("b/authority").exists());
    // The private half is in its file and nowhere else.
    let secret = kept(&home, "a/authority/key");
    let secret = secret
        .lines()
        .last()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .to_owned();
    let json = home.does("a", "ca show --json", "");
    assert!(!json.contains(&secret[..16]) && !setting.contains(&secret[..16]));
}

#[test]
fn certificates_are_signed_from_what_key_prints_and_listed_with_rising_serials() {
    let (home, _) = office();
    let text = home.does("b", "key", "");
    let first = home.does("a", "ca sign -", &text);
    let second = sign(
        &home,
        "b",
        "--name truck --netid 2a --days 1 --prefix 10.80.0.0/24 --rate-class 5",
    );
    assert!(
        first.starts_with("mc1-") && first.lines().count() == 1,
        "{first}"
    );
    assert_ne!(first, second);
    let json = home.does("a", "ca list --json", "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let listed = json["certificates"].as_array().unwrap();
    let field = |place: usize, name: &str| listed[place][name].to_string();
    assert_eq!(
        (field(0, "serial"), field(1, "serial")),
        ("1".into(), "2".into())
    );
    assert_eq!(field(0, "name"), "\"van\"");
    assert_eq!(field(1, "netid"), "\"0000002a\"");
    assert_eq!(
        (field(0, "rate_class"), field(1, "rate_class")),
        ("0".into(), "5".into())
    );
    let left = listed[0]["remaining_seconds"].as_u64().unwrap();
    assert!((90 * 86_400 - 60..=90 * 86_400).contains(&left), "{left}");
    let table = home.does("a", "ca list", "");
    assert!(
        table.contains("0000002a  good ") && table.contains("1,024 kbit/s  truck"),
        "{table}"
    );
}

#[test]
fn what_cannot_be_signed_takes_no_serial_and_says_why() {
    let (home, _) = office();
    let keys = home.does("b", "key --json", "");
    for (line, problem) in [
        (
            "--prefix 10.80.0.1/24",
            "bits behind its prefix length (write 10.80.0.0/24)",
        ),
        (
            "--rights fly",
            "--rights fly is not known (choose originate, forward",
        ),
        ("--netid 0", "0 is no netid of a node"),
        (
            "--name 123456789012345678901234567890123",
            "this cannot be signed (a name has at most 32",
        ),
    ] {
        let said = home.refused("a", &format!("ca sign - {line}"), &keys, 2);
        assert!(said.contains(problem), "{said}");
    }
    let said = home.refused("a", "ca sign -", "nothing of use", 2);
    assert!(
        said.contains("- holds no keys of a node (give what floodmesh key"),
        "{said}"
    );
    assert_eq!(
        home.does("a", "ca list", ""),
        "no certificate was signed yet\n"
    );
}

#[test]
fn revoke_goes_by_serial_name_and_key_and_writes_lists_with_rising_numbers() {
    let (home, _) = office();
    let said = home.refused("a", "ca show --revocations", "", 2);
    assert!(said.contains("nothing is revoked yet"), "{said}");
    for name in ["van", "van", "truck"] {
        sign(
            &home,
            if name == "van" { "b" } else { "a" },
            &format!("--name {name}"),
        );
    }
    let said = home.does("a", "ca revoke 1", "");
    assert!(said.starts_with("revoked certificate 1 of "), "{said}");
    assert!(said.contains("floodmesh ca publish gives list 1"), "{said}");
    let states = |home: &Home| -> Vec<String> {
        let json = home.does("a", "ca list --json", "");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let all = json["certificates"].as_array().unwrap();
        let state = |one: &serde_json::Value| one["state"].as_str().unwrap().to_owned();
        all.iter().map(state).collect()
    };
    assert_eq!(states(&home), ["revoked", "good", "good"]);
    let first = home.does("a", "ca show --revocations", "");
    // A name is the node: its key, and with it all its certificates.
    let said = home.does("a", "ca revoke van", "");
    assert!(
        said.contains("revoked the key ") && said.contains("list 2"),
        "{said}"
    );
    assert_eq!(states(&home), ["revoked", "revoked", "good"]);
    let second = home.does("a", "ca show --revocations", "");
    assert!(second.starts_with("mr1-") && second != first, "{second}");
    let said = home.does("a", "ca revoke van", "");
    assert!(said.contains("revoked already"), "{said}");
    let said = home.does("a", &format!("ca revoke {}", "ab".repeat(32)), "");
    assert!(
        said.contains(&format!("revoked the key {}", "ab".repeat(32))),
        "{said}"
    );
    let said = home.refused("a", "ca revoke nobody", "", 2);
    assert!(
        said.contains("no certificate has nobody as serial, name or key"),
        "{said}"
    );
}

#[test]
fn publish_needs_a_list_and_a_running_node() {
    let (home, _) = office();
    let said = home.refused("a", "ca publish", "", 2);
    assert!(said.contains("nothing is revoked yet"), "{said}");
    let said = home.refused("a", "ca publish -", "mr1-aaaa", 2);
    assert!(
        said.contains("this is no list of what is revoked"),
        "{said}"
    );
    home.does("a", &format!("ca revoke {}", "ab".repeat(32)), "");
    let list = home.does("a", "ca show --revocations", "");
    let none = home.path("none.sock");
    let line = format!("ca publish - --control {}", none.display());
    let said = home.refused("a", &line, &list, 1);
    assert!(
        said.contains("no node runs here that could pass the list on"),
        "{said}"
    );
}

#[test]
fn a_node_starts_with_the_right_certificate_alone() {
    let (home, setting) = office();
    let settings = home.read("b.toml") + &setting;
    fs::write(home.path("b.toml"), &settings).unwrap();
    let started = |home: &Home| {
        let output = home.starts("b");
        let said = String::from_utf8(output.stderr).unwrap();
        let ready = String::from_utf8(output.stdout).unwrap();
        (said, ready)
    };
    let refused = |home: &Home, problem: &str| {
        let (said, ready) = started(home);
        let error = said.lines().last().unwrap();
        assert!(
            error.starts_with("error: ") && error.contains(problem),
            "{said}"
        );
        assert_eq!(ready, "");
    };
    refused(&home, "there is no certificate of this node at");
    let path = home.path("b/certificate");
    let mut damaged = sign(&home, "b", "");
    damaged.replace_range(20..21, if &damaged[20..21] == "a" { "b" } else { "a" });
    fs::write(&path, damaged).unwrap();
    refused(&home, "is no certificate, or damaged");
    fs::write(&path, sign(&home, "a", "")).unwrap();
    refused(&home, "is for other keys than this node's");
    // The netid is the certificate's.
    fs::write(&path, sign(&home, "b", "--netid 2a")).unwrap();
    let (said, ready) = started(&home);
    assert!(ready.contains("netid 0000002a"), "{said} {ready}");
    fs::write(home.path("b.toml"), settings.clone() + "netid = \"7\"\n").unwrap();
    refused(
        &home,
        "is for netid 0000002a, and the settings name another",
    );
    // An authority of another mesh, and one that is no key at all.
    let other = Home::new();
    other.does("a", "init", "");
    let foreign = other.does("a", "ca init", "");
    fs::write(home.path("b.toml"), settings.replace(&setting, &foreign)).unwrap();
    refused(&home, "is not signed by the authority of the settings");
    let spoilt = settings.replace("ma1-", "ma1-a");
    fs::write(home.path("b.toml"), spoilt).unwrap();
    refused(&home, "is no authority's key (copy the whole text");
}
