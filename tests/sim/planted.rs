//! The simulator's own proof: each planted mistake is found (SECURITY 4.1).
//!
//! Runs this very program once for each mistake, with all other tests, and expects it to fail. Only
//! in a build with the feature `planted`; `.ci/long planted` makes that.

use std::process::Command;

use overlay::planted::Mistake;

/// Whether all tests but these pass with a mistake planted, and the first words of one that does not.
fn run(mistake: Option<Mistake>) -> (bool, String) {
    let program = std::env::current_exe().expect("this program has a name");
    let mut command = Command::new(program);
    command.args(["--skip", "planted::", "--test-threads", "2"]);
    command.env("RUST_BACKTRACE", "0");
    match mistake {
        Some(mistake) => command.env("FLOODMESH_PLANTED", mistake.name()),
        None => command.env_remove("FLOODMESH_PLANTED"),
    };
    let output = command.output().expect("it can be run again");
    let said = String::from_utf8_lossy(&output.stdout);
    let mut lines = said.lines();
    let test = lines
        .find(|line| line.starts_with("---- "))
        .unwrap_or_default();
    let panic = lines
        .find(|line| line.contains("panicked at"))
        .unwrap_or_default();
    let place = panic
        .split_once("panicked at ")
        .map_or("", |(_, place)| place);
    let words = lines.next().unwrap_or_default();
    let test = test.trim_matches(['-', ' ']).trim_end_matches(" stdout");
    (
        output.status.success(),
        format!("{test} ({place})\n    {words}"),
    )
}

#[test]
fn without_a_mistake_nothing_is_found() {
    let (passed, found) = run(None);
    assert!(passed, "{found}");
}

#[test]
fn each_planted_mistake_is_found() {
    let mut missed = Vec::new();
    for &mistake in Mistake::ALL {
        let (passed, found) = run(Some(mistake));
        if passed {
            missed.push(mistake.name());
            println!("{}: NOT FOUND", mistake.name());
        } else {
            println!("{}: {found}", mistake.name());
        }
    }
    assert!(Mistake::ALL.len() >= 10 && missed.is_empty(), "{missed:?}");
}
