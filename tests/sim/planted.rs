//! The simulator's own proof: each planted mistake is found (SECURITY 4.1).
//!
//! Runs this very program once for each mistake, with all other tests, until one of them fails.
//! Only in a build with the feature `planted`; `.ci/long planted` makes that.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use overlay::planted::Mistake;

/// What the first test says that fails with a mistake planted; `None` if none does.
fn first_failure(mistake: Option<Mistake>) -> Option<String> {
    let program = std::env::current_exe().expect("this program has a name");
    let mut command = Command::new(program);
    command.args(["--skip", "planted::", "--nocapture"]);
    command.env("RUST_BACKTRACE", "0");
    match mistake {
        Some(mistake) => command.env("FLOODMESH_PLANTED", mistake.name()),
        None => command.env_remove("FLOODMESH_PLANTED"),
    };
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it can be run again");
    let stderr = child.stderr.take().expect("it was asked for");
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    // thread 'NAME' (NUMBER) panicked at PLACE:
    // what it says
    let found = lines
        .find(|line| line.contains(" panicked at "))
        .map(|line| {
            let test = line.split('\'').nth(1).unwrap_or_default();
            let says = lines.next().unwrap_or_default();
            format!("{test}: {says}")
        });
    // The others need not go on; with some mistakes they would for hours.
    if found.is_some() {
        let _ = child.kill();
    }
    let status = child.wait().expect("it was started");
    assert!(
        found.is_some() || status.success(),
        "it failed without a word"
    );
    found
}

#[test]
fn each_planted_mistake_is_found_and_nothing_without_one() {
    assert_eq!(first_failure(None), None);
    let mut missed = Vec::new();
    for &mistake in Mistake::ALL {
        let found = first_failure(Some(mistake));
        let said = found.as_deref().unwrap_or("NOT FOUND");
        println!("{}\n    {said}", mistake.name());
        if found.is_none() {
            missed.push(mistake.name());
        }
    }
    assert!(Mistake::ALL.len() >= 10 && missed.is_empty(), "{missed:?}");
}
