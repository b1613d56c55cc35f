//! The unit file, as systemd's own tools judge it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use overlay_tests::cli::floodmesh;

/// Where the unit file says that the program is.
const PROGRAM: &str = "/usr/local/bin/floodmesh";
/// What root has to allow before a node confines itself and makes its threads real-time, beside what is
/// usual for a service.
const NEEDED: &[&str] = &[
    "seccomp",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "prctl",
    "sched_setscheduler",
    "flock",
    "fchmod",
    "ioctl",
    "recvmmsg",
    "sendmmsg",
];

fn unit() -> PathBuf {
    [
        env!("CARGO_MANIFEST_DIR"),
        "../packaging/systemd/floodmesh@.service",
    ]
    .iter()
    .collect()
}

/// What `systemd-analyze WORDS` says; `None` where there is none.
fn analyze(words: &[&str], unit: Option<&Path>) -> Option<Output> {
    match Command::new("systemd-analyze")
        .args(words)
        .args(unit)
        .output()
    {
        Ok(output) => Some(output),
        Err(error) => {
            let skipped = format!("skipped: needs systemd-analyze: {error}");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{skipped}");
            println!("{skipped}");
            None
        }
    }
}

/// The unit as it is installed, with this build in the place of the program.
fn installed(home: &Path) -> PathBuf {
    let text = fs::read_to_string(unit()).unwrap();
    assert_eq!(text.matches(PROGRAM).count(), 2, "start and reload");
    let text = text.replace(PROGRAM, floodmesh().to_str().unwrap());
    let path = home.join("floodmesh@mesh0.service");
    fs::write(&path, text).unwrap();
    path
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn the_unit_is_one_that_systemd_understands_to_the_last_line() {
    let home = tempfile::tempdir().unwrap();
    let unit = installed(home.path());
    let Some(output) = analyze(&["verify", "--man=no"], Some(&unit)) else {
        return;
    };
    assert!(output.status.success(), "{}", said(&output));
    // What it does not understand it names, and goes on.
    assert!(!said(&output).contains("floodmesh@"), "{}", said(&output));
}

#[test]
fn the_unit_exposes_no_more_than_two_of_ten() {
    let home = tempfile::tempdir().unwrap();
    let unit = installed(home.path());
    let words = ["security", "--offline=true", "--threshold=20", "--no-pager"];
    let Some(output) = analyze(&words, Some(&unit)) else {
        return;
    };
    println!("{}", said(&output));
    assert!(output.status.success());
    // The counter-claim: it is this unit's lines that are judged.
    let text = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, text.replace("ProtectSystem=strict", "")).unwrap();
    let output = analyze(&words, Some(&unit)).unwrap();
    assert!(
        said(&output).contains("ProtectSystem="),
        "{}",
        said(&output)
    );
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
    assert!(!analyze(&words, Some(&unit)).unwrap().status.success());
}

/// The system calls of a set of systemd's, `@` and a name.
fn calls(set: &str) -> BTreeSet<String> {
    let output = analyze(&["syscall-filter", "--no-pager", set], None).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    let words = text.lines().skip(1).map(str::trim);
    let words = words.filter(|word| !word.is_empty() && !word.starts_with('#'));
    words
        .flat_map(|word| match word.starts_with('@') {
            true => calls(word),
            false => BTreeSet::from([word.to_owned()]),
        })
        .collect()
}

#[test]
fn the_unit_lets_a_node_confine_itself() {
    if analyze(&["--version"], None).is_none() {
        return;
    }
    // As systemd reads it: sets in their order, the first says whether it is a list of what is allowed.
    let mut allowed = BTreeSet::new();
    let text = fs::read_to_string(unit()).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="));
    for line in lines {
        let (taken, words) = match line.strip_prefix('~') {
            Some(words) => (true, words),
            None => (false, line),
        };
        for word in words.split_whitespace() {
            let set = match word.starts_with('@') {
                true => calls(word),
                false => BTreeSet::from([word.to_owned()]),
            };
            match taken {
                true => allowed.retain(|call| !set.contains(call)),
                false => allowed.extend(set),
            }
        }
    }
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|call| !allowed.contains(**call))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for call in ["mount", "ptrace", "setuid", "bpf", "init_module"] {
        assert!(!allowed.contains(call), "{call}");
    }
}
