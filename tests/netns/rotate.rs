//! What an owner changes while the mesh runs: its secret, and who is let in.
//!
//! ```text
//!     a --- b
//!      \\   /
//!        c
//! ```

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Duration;

use overlay::daemon::report::Enforcement;
use overlay_tests::cli;
use overlay_tests::mesh::{Family, Mesh, PATIENCE, Turn, may_run, wait_until};

/// A try that is lost on a busy machine is made again after half a minute.
const CHANGED: Duration = Duration::from_secs(90);

fn triangle() -> Mesh {
    let mut mesh = Mesh::wired(Family::V4, "ab bc ca");
    for name in ['a', 'b', 'c'] {
        let settings = mesh.directory().join(format!("{name}.toml"));
        mesh.start_with(name, |setup| {
            setup.sealed = true;
            setup.arguments(&format!("--config {}", settings.display()));
        });
    }
    mesh.wait_live();
    mesh
}

/// `floodmesh LINE` about a node's files, and the node that runs with them.
fn command(mesh: &Mesh, name: char, line: &str, input: &str) -> Output {
    let file = |extension| mesh.directory().join(format!("{name}.{extension}"));
    let mut child = cli::command(&line.split_whitespace().collect::<Vec<_>>())
        .arg("--state-dir")
        .arg(file("state"))
        .arg("--config")
        .arg(file("toml"))
        .arg("--control")
        .arg(mesh.node(name).control())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn does(mesh: &Mesh, name: char, line: &str, input: &str) -> (String, String) {
    let output = command(mesh, name, line, input);
    assert!(output.status.success(), "{line}: {output:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn rotate_a_running_mesh_goes_over_to_its_next_secret() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = triangle();
    let (next, said) = does(&mesh, 'a', "rotate", "");
    assert!(
        said.contains("the running node took up: next secret\n"),
        "{said}"
    );
    // Nobody else has it, so it cannot be the only one yet.
    let refused = command(&mesh, 'a', "rotate --finish", "");
    let refused = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.contains("2 of 2 neighbors would be out"),
        "{refused}"
    );
    for name in ['b', 'c'] {
        let (_, said) = does(&mesh, name, "rotate --adopt -", &next);
        assert!(
            said.contains("the running node took up: next secret\n"),
            "{said}"
        );
    }
    for name in ['a', 'b', 'c'] {
        mesh.node(name)
            .wait("all use the next secret", CHANGED, |node| {
                let rotation = node.status().rotation.unwrap();
                (rotation.using, rotation.neighbors) == (2, 2)
            });
    }
    for name in ['a', 'b', 'c'] {
        let (_, said) = does(&mesh, name, "rotate --finish", "");
        assert!(
            said.contains("the running node took up: secret, next secret\n"),
            "{said}"
        );
        assert_eq!(mesh.node(name).status().rotation, None);
    }
    for (from, to) in [('a', 'b'), ('b', 'c'), ('c', 'a')] {
        mesh.wait_ping(from, to);
    }
    // Whoever starts anew comes in by the new secret alone.
    let mut mesh = mesh;
    mesh.node_mut('c').kill();
    let settings = mesh.directory().join("c.toml");
    mesh.start_with('c', |setup| {
        setup.sealed = true;
        setup.arguments(&format!("--config {}", settings.display()));
    });
    wait_until("c is back", CHANGED, || {
        mesh.pings('c', 'a', Duration::from_millis(200))
    });
}

#[test]
fn rotate_what_is_read_again_counts_at_once_and_a_wrong_file_changes_nothing() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = triangle();
    let settings = mesh.directory().join("a.toml");
    let before = fs::read_to_string(&settings).unwrap();
    let output = cli::command(&["key", "--state-dir"])
        .arg(mesh.directory().join("b.state"))
        .arg("--config")
        .arg(mesh.directory().join("b.toml"))
        .output()
        .unwrap();
    let key = String::from_utf8(output.stdout).unwrap();
    let digits = key.lines().find_map(|line| line.strip_prefix("static key"));
    let line = format!("trusted_keys = [\"{}\"]\n", digits.unwrap().trim());
    // In place: the node opens the files that it had, and no others beside them.
    let write = |text: &str| {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).truncate(true).open(&settings).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let node = mesh.node('a');
    let reload = || {
        let output = node.run(&["reload"]);
        let (out, err) = (output.stdout, output.stderr);
        [out, err].map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(reload(), ["nothing changed\n", ""]);

    write(&(before.clone() + "trusted_keys = [\"nonsense\"]\n"));
    let [_, said] = reload();
    assert!(said.contains("has no key of 64 hex digits"), "{said}");
    assert!(said.contains("nothing changed"), "{said}");

    write(&(before.clone() + &line));
    assert_eq!(reload(), ["took up: trusted_keys; closed 1 link\n", ""]);
    node.wait("c is out", PATIENCE, |_| {
        !mesh.pings('a', 'c', Duration::from_millis(100))
    });
    mesh.wait_ping('a', 'b');

    write(&(before.clone() + "degree = 3\n"));
    let [said, _] = reload();
    assert!(
        said.contains("took up: trusted_keys\nother settings changed as well"),
        "{said}"
    );
    node.wait("c is back", CHANGED, |_| {
        mesh.pings('a', 'c', Duration::from_secs(1))
    });

    // An editor puts another file into the place of the settings: a confined node cannot open that, and
    // says what to do.
    let kept = mesh.directory().join("kept");
    fs::rename(&settings, &kept).unwrap();
    fs::copy(&kept, &settings).unwrap();
    let is_confined = node.status().confinement.landlock.state != Enforcement::None;
    let [_, said] = reload();
    let advice = "another file is there than when the node started";
    assert_eq!(said.contains(advice), is_confined, "{said}");
    fs::rename(&kept, &settings).unwrap();
    let [_, said] = reload();
    assert_eq!(said, "");

    let secret = mesh.directory().join("a.state/secret");
    fs::write(&secret, "mk1-").unwrap();
    let [_, said] = reload();
    assert!(said.contains("a mesh secret has 58 characters"), "{said}");
    mesh.wait_ping('a', 'b');
}
