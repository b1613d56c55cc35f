//! The real binary: where it is, how to run it, and snapshots of what it prints.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The `floodmesh` binary of the profile that this test was built with.
///
/// It stands beside the test executable's directory; cargo builds it first when the whole
/// workspace is tested, and is asked to when it did not.
///
/// # Panics
/// When it cannot be built.
pub fn floodmesh() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // target/PROFILE/deps/TEST-HASH
        let test = std::env::current_exe().expect("a test knows its executable");
        let profile = test
            .ancestors()
            .nth(2)
            .expect("a test lies in target/PROFILE/deps");
        let binary = profile.join("floodmesh");
        // Always asked: a stale binary would be tested in place of the source.
        build(profile);
        assert!(binary.exists(), "no binary at {}", binary.display());
        binary
    })
}

fn build(profile: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = profile
        .parent()
        .expect("a profile lies in the target directory");
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "floodmesh", "--bin", "floodmesh"]);
    build
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    build.arg("--target-dir").arg(target);
    // What cargo told this test of its package: build scripts that look at it would run again, and
    // everything that hangs on them be built anew, in the midst of the tests.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            build.env_remove(name);
        }
    }
    if profile.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    assert!(
        build.status().expect("cargo can be run").success(),
        "floodmesh does not build"
    );
}

/// What `floodmesh ARGUMENTS` does as a user without an environment of ours.
///
/// # Panics
/// When it cannot be started.
pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("floodmesh can be run")
}

/// `floodmesh ARGUMENTS`, not yet started, with an empty environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(floodmesh());
    command
        .args(arguments)
        .env_clear()
        .stdin(std::process::Stdio::null());
    command
}

/// Compares `text` with the file at `path`; with `UPDATE_SNAPSHOTS=1` writes it there instead.
///
/// # Panics
/// When they differ, showing the first line that does.
pub fn snapshot(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, text).expect("a snapshot can be written");
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == text {
        return;
    }
    let lines = expected.lines().chain(std::iter::repeat("(end)"));
    let found = text.lines().chain(std::iter::repeat("(end)"));
    let place = lines
        .zip(found)
        .take(10_000)
        .enumerate()
        .find(|(_, (old, new))| old != new);
    panic!(
        "{} differs in line {}; UPDATE_SNAPSHOTS=1 rewrites it\n{text}",
        path.display(),
        place.map_or_else(
            || "ends".to_owned(),
            |(line, (old, new))| { format!("{}:\n  was: {old}\n  is:  {new}", line + 1) }
        )
    );
}
