//! What is refused, in which words, with which exit code: one line each.

use std::fmt::Write;

use overlay_tests::cli::{command, run, snapshot};

/// Refused as misuse, code 2. A part in quotes is one argument.
const MISUSE: &[&str] = &[
    "fly",
    "up --peeer a:1",
    "up",
    "up --plain --netid 0",
    "up --plain --netid ffffffff",
    "up --plain --netid 123456789",
    "up --plain --netid zz",
    "up --plain --name ../etc",
    "up --plain --listen here",
    "up --plain --listen 0.0.0.0:99999",
    "up --plain --peer a:0",
    "up --plain --peer 0.0.0.0:44204",
    "up --plain --peer a:1 --peer a:1",
    "up --plain --mode bridge",
    "up --plain --dev averylongdevicename",
    "up --plain --dev a/b",
    "up --plain --mode none --address 10.77.0.1/24",
    "up --plain --address 10.77.0.1",
    "up --plain --address 10.77.0.0/24",
    "up --plain --address 10.77.0.1/33",
    "up --plain --mtu 575",
    "up --plain --mtu 65001",
    "up --plain --mtu big",
    "up --plain --degree -1",
    "up --plain --max-neighbors 0",
    "up --plain --allow-inform 10.0.0.0",
    "up --plain --log inof",
    "up --plain --log-format xml",
    "up --plain --set mtu=1400",
    "up --plain --set dedupe.memory",
    "up --plain --set dedupe.memory=lots",
    "up --plain --set dedupe.memory=1KiB",
    "up --plain --set dedupe.hash=md5",
    "up --plain --set limits.helo_per_second=1",
    "up --plain --set limits.hello_per_second=0",
    "up --plain --set timers.dead_after=20",
    "up --plain --set peer=[a",
    "up --plain --config /nonexistent/floodmesh.toml",
    "up --plain --state-dir=",
    "up --name no-such-node-of-this-test",
    "up --plain --set secret_file=",
    "init --name ../etc",
    "init --mtu 1",
    "init --address 10.77.0.1",
    "join",
    "join - --file token.txt",
    "join mi1-abcdefgh mi1-abcdefgh",
    "join mi1-abcdefgh --nam van",
    "invite --for 0",
    "invite --name no-such-node-of-this-test",
    "key --name no-such-node-of-this-test",
    "ping",
    "ping van",
    "ping 0",
    "ping 2a -c 0",
    "ping 2a -i 0.001",
    "status --name ../mesh0",
    "decode",
    "decode xyz",
    "decode ac0",
    "lab --nodes 1",
    "lab --topology torus",
];

/// Asked rightly, and does not work, code 1.
const AT_WORK: &[&str] = &[
    "status --control /nonexistent/mesh0.sock",
    "status --name no-such-node-of-this-test",
    "ping 2a --control /nonexistent/mesh0.sock",
    "join --file /nonexistent/token",
    "decode ac",
    "decode 00010180 01020304 0000002a 00000000",
];

fn refused(line: &str, code: i32) -> String {
    let output = run(&line.split_whitespace().collect::<Vec<_>>());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{line}: {said}");
    assert_eq!(said.lines().count(), 1, "{line}: {said}");
    assert!(said.starts_with("error: "), "{line}: {said}");
    // `decode` shows on standard output how far it came.
    let shows = line.starts_with("decode ") && code == 1;
    assert_eq!(output.stdout.is_empty(), !shows, "{line}");
    said
}

#[test]
fn errors_are_one_line_with_a_remedy() {
    let mut texts = String::new();
    for (lines, code) in [(MISUSE, 2), (AT_WORK, 1)] {
        for line in lines {
            // Which nodes run on this machine is not the test's to say.
            let said = refused(line, code);
            let said = said.split(" (one that runs").next().unwrap_or(&said);
            let said = said.split(" (these run").next().unwrap_or(said);
            let said = said.split(" (none runs").next().unwrap_or(said);
            writeln!(texts, "$ floodmesh {line}\n{}\n", said.trim_end()).unwrap();
        }
    }
    snapshot(&super::file("errors.txt"), &texts);
}

#[test]
fn errors_in_the_file_name_their_line() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("van.toml");
    let mut texts = String::new();
    for text in [
        "mode = plain\n",
        "mode = \"plain\"\nmode = \"plain\"\n",
        "mode = \"closed\"\n",
        "mode = \"tap\"\n",
        "netid = 42\n",
        "\n\n[device]\nmtu = 99999\n",
        "[device]\nmtuu = 1400\n",
        "[wings]\nlift = 1\n",
        "peer = [1]\n",
        "degree = 2024-01-01\n",
    ] {
        std::fs::write(&path, text).unwrap();
        let output = run(&["up", "--config", path.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), said.lines().count()),
            (Some(2), 1),
            "{text}: {said}"
        );
        let said = said.replace(path.to_str().unwrap(), "van.toml");
        writeln!(texts, "{text}{said}").unwrap();
    }
    snapshot(&super::file("errors-file.txt"), &texts);
}

#[test]
fn an_error_names_the_environments_variable() {
    let output = command(&["up", "--plain"])
        .env("FLOODMESH_NETID", "zz")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("error: FLOODMESH_NETID=zz is not a netid"),
        "{said}"
    );
}

#[test]
fn an_argument_cannot_break_the_line_or_steer_the_terminal() {
    for argument in ["a\nb", "a\u{1b}[31mb", "a\rb"] {
        for line in [
            &["up", "--plain", "--name", argument][..],
            &["decode", argument],
            &[argument],
        ] {
            let output = run(line);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(!said.trim_end().contains(char::is_control), "{said:?}");
        }
    }
}

#[test]
fn a_second_daemon_on_one_state_directory_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let _first = overlay::daemon::state::StateDir::open(home.path()).unwrap();
    let state = home.path().to_str().unwrap();
    let control = home.path().join("c.sock");
    let output = run(&[
        "up",
        "--plain",
        "--state-dir",
        state,
        "--control",
        control.to_str().unwrap(),
    ]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is in use by a running node"), "{said}");
    assert!(!control.exists());
}
