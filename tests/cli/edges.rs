//! What lies in the place of a file and is none, and what came there by another way than it went.

use std::fs;
use std::path::Path;

use nix::sys::stat::Mode;

use crate::keys::Home;

/// Puts a pipe that nobody writes to into the place of a file, or a directory.
fn put(path: &Path, is_pipe: bool) {
    // What was there, if anything was.
    let _ = fs::remove_file(path);
    match is_pipe {
        true => nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap(),
        false => fs::create_dir(path).unwrap(),
    }
}

/// A node, whose settings name an authority.
fn node() -> Home {
    let home = Home::new();
    home.does(
        "a",
        "init --name edges --mode none --listen 127.0.0.1:0",
        "",
    );
    let authority = home.does("a", "ca init", "");
    let authority = authority.lines().next().unwrap().to_owned();
    let settings = home.read("a.toml");
    fs::write(home.path("a.toml"), format!("{settings}{authority}\n")).unwrap();
    let keys = home.does("a", "key --json", "");
    let certificate = home.does("a", "ca sign -", &keys);
    fs::write(home.path("a/certificate"), certificate).unwrap();
    home
}

#[test]
fn a_start_waits_for_no_pipe_and_reads_no_directory_in_the_place_of_a_file() {
    let good = node();
    let output = good.starts("a");
    assert_eq!(output.status.code(), None, "it runs: {output:?}");
    for file in [
        "a.toml",
        "a/secret",
        "a/secret.next",
        "a/identity",
        "a/certificate",
        "a/pins",
        "a/revocations",
        "a/lock",
    ] {
        for is_pipe in [true, false] {
            let home = node();
            put(&home.path(file), is_pipe);
            let output = home.starts("a");
            let said = String::from_utf8(output.stderr).unwrap();
            // None, if it had waited until it was killed.
            let code = output.status.code();
            assert!(matches!(code, Some(1 | 2)), "{file}: {code:?}: {said}");
            let line = said.lines().last().unwrap();
            assert!(line.starts_with("error: "), "{file}: {said}");
            assert!(line.contains("no regular file"), "{file}: {said}");
            assert!(line.contains(file), "{file}: {said}");
        }
    }
    // What a node can do without is moved aside.
    for file in ["boot", "neighbors", "afar"] {
        let home = node();
        put(&home.path(&format!("a/{file}")), true);
        let output = home.starts("a");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), None, "{file}: {said}");
        assert!(said.contains("going on without it"), "{file}: {said}");
        assert!(home.path(&format!("a/{file}.bad-1")).exists());
    }
}

#[test]
fn a_command_waits_for_no_pipe_that_it_is_to_read() {
    let home = node();
    put(&home.path("pipe"), true);
    let pipe = home.path("pipe");
    for line in [
        "ca sign",
        "ca publish",
        "rotate --adopt",
        "join --state-dir /nonexistent/a --file",
    ] {
        let mut words: Vec<_> = line.split(' ').collect();
        words.push(pipe.to_str().unwrap());
        let mut command = overlay_tests::cli::command(&words);
        command.arg("--config").arg(home.path("a.toml"));
        if !line.contains("--state-dir") {
            command.arg("--state-dir").arg(home.path("a"));
        }
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("no regular file"), "{line}: {said}");
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
    }
}

#[test]
fn a_change_of_the_secret_is_taken_back_once() {
    let home = Home::new();
    home.does(
        "a",
        "init --name edges --mode none --listen 127.0.0.1:0",
        "",
    );
    let said = home.refused("a", "rotate --cancel", "", 2);
    assert!(said.contains("there is nothing to take back"), "{said}");
    let secret = home.read("a/secret");
    let first = home.does("a", "rotate", "");
    // No node runs that could tell whether others use it.
    let said = home.refused("a", "rotate --cancel", "", 1);
    assert!(said.contains("--cancel --force"), "{said}");
    assert_eq!(home.read("a/secret.next"), first);
    let output = home.run("a", "rotate --cancel --force", "");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("the change is taken back"), "{said}");
    assert!(!home.path("a/secret.next").exists());
    assert_eq!(home.read("a/secret"), secret);
    let said = home.refused("a", "rotate --cancel", "", 2);
    assert!(said.contains("there is nothing to take back"), "{said}");
    // The next change is another one.
    let second = home.does("a", "rotate", "");
    assert!(second != first && second.starts_with("mk2-"));
    for line in ["--cancel --finish", "--cancel --adopt -", "--force"] {
        home.refused("a", &format!("rotate {line}"), "", 2);
    }
}
