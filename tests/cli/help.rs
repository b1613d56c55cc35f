//! Help texts, long and short.

use overlay_tests::cli::{run, snapshot};

const COMMANDS: [&str; 16] = [
    "init",
    "join",
    "invite",
    "key",
    "forget",
    "rotate",
    "reload",
    "ca",
    "up",
    "status",
    "neighbors",
    "nodes",
    "counters",
    "ping",
    "decode",
    "lab",
];

fn help(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_overview_is_as_agreed() {
    snapshot(&super::file("help.txt"), &help(&["--help"]));
}

#[test]
fn every_commands_help_is_as_agreed() {
    for command in COMMANDS {
        let text = help(&[command, "--help"]);
        snapshot(&super::file(&format!("help-{command}.txt")), &text);
        assert!(text.contains("Examples:"), "{command}");
    }
}

#[test]
fn the_help_of_the_authoritys_commands_is_as_agreed() {
    for command in ["init", "sign", "revoke", "publish", "list", "show"] {
        let text = help(&["ca", command, "--help"]);
        snapshot(&super::file(&format!("help-ca-{command}.txt")), &text);
        assert!(text.contains("Examples:"), "{command}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}

#[test]
fn help_fits_a_terminal() {
    help(&["--help"])
        .lines()
        .for_each(|line| assert!(line.len() <= 80, "{line}"));
    let texts = COMMANDS
        .iter()
        .flat_map(|command| [[*command, "--help"], [*command, "-h"]]);
    for arguments in texts {
        for line in help(&arguments).lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
        }
    }
}

#[test]
fn the_version_is_one_line() {
    let version = help(&["--version"]);
    assert_eq!(
        version,
        concat!("floodmesh ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn help_does_not_show_the_environments_values() {
    let output = overlay_tests::cli::command(&["up", "--help"])
        .env("FLOODMESH_NAME", "private-name")
        .output()
        .unwrap();
    assert!(
        !String::from_utf8(output.stdout)
            .unwrap()
            .contains("private-name")
    );
}
