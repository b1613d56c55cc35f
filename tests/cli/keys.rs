//! The commands that make, show and pass on keys: what they write, what they refuse, and that no
//! secret shows where none belongs.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use overlay::seal::invitation::Invitation;
use overlay::seal::keys::MeshSecret;
use overlay_tests::cli::command;

/// A directory in which nodes are set up, each with settings `NAME.toml` and state in `NAME/`.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        let metadata = fs::symlink_metadata(self.path(name)).unwrap();
        metadata.permissions().mode() & 0o7777
    }

    /// All files of a node, with their bytes.
    fn files(&self, name: &str) -> Vec<String> {
        ["toml", "/secret", "/identity"]
            .map(|file| match file {
                "toml" => self.read(&format!("{name}.toml")),
                file => self.read(&format!("{name}{file}")),
            })
            .to_vec()
    }

    /// `floodmesh LINE` about the node, with this on standard input.
    pub(crate) fn run(&self, name: &str, line: &str, input: &str) -> Output {
        let mut child = command(&line.split_whitespace().collect::<Vec<_>>())
            .arg("--config")
            .arg(self.path(&format!("{name}.toml")))
            .arg("--state-dir")
            .arg(self.path(name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// What a node says that is started and after two seconds killed, if it has not ended by then.
    pub(crate) fn starts(&self, name: &str) -> Output {
        let (out, err) = (self.path("starts.out"), self.path("starts.err"));
        let mut child = command(&["up", "--log", "trace", "--config"])
            .arg(self.path(&format!("{name}.toml")))
            .arg("--control")
            .arg(self.path("c.sock"))
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        let is_ready = || fs::read_to_string(&out).unwrap().contains("ready:");
        while Instant::now() < end && child.try_wait().unwrap().is_none() && !is_ready() {
            std::thread::sleep(Duration::from_millis(20));
        }
        // It may have ended by itself.
        let _ = child.kill();
        Output {
            status: child.wait().unwrap(),
            stdout: fs::read(&out).unwrap(),
            stderr: fs::read(&err).unwrap(),
        }
    }

    pub(crate) fn does(&self, name: &str, line: &str, input: &str) -> String {
        let output = self.run(name, line, input);
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is said by a command that ends with this code; nothing else is printed.
    pub(crate) fn refused(&self, name: &str, line: &str, input: &str, code: i32) -> String {
        let output = self.run(name, line, input);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}");
        assert_eq!(said.lines().count(), 1, "{line}: {said}");
        assert!(said.starts_with("error: "), "{line}: {said}");
        said
    }
}

/// Pieces of text that give a node's secrets away.
fn secrets(home: &Home, name: &str) -> Vec<String> {
    let secret = home.read(&format!("{name}/secret"));
    let identity = home.read(&format!("{name}/identity"));
    let keys = identity.lines().skip(1);
    let keys = keys.map(|line| line.split(' ').nth(1).unwrap()[..16].to_owned());
    keys.chain([secret[4..20].to_owned()]).collect()
}

#[test]
fn the_user_of_a_service_can_read_the_settings_whatever_the_umask_is() {
    let home = Home::new();
    for umask in ["000", "027", "077"] {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"])
            .arg(overlay_tests::cli::floodmesh())
            .args(["init", "--config"])
            .arg(home.path(&format!("{umask}/etc/node.toml")))
            .arg("--state-dir")
            .arg(home.path(&format!("{umask}/state")));
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        for (file, mode) in [
            ("", 0o755),
            ("/etc", 0o755),
            ("/etc/node.toml", 0o644),
            ("/state", 0o700),
            ("/state/secret", 0o600),
            ("/state/identity", 0o600),
        ] {
            assert_eq!(home.mode(&format!("{umask}{file}")), mode, "{umask}{file}");
        }
    }
}

#[test]
fn init_makes_secret_identity_and_settings_for_their_owner_alone() {
    let home = Home::new();
    let line = "init --name van --mesh convoy --listen 192.0.2.1:44204 --address 10.77.0.1/24";
    let printed = home.does("a", line, "");
    assert!(
        printed.starts_with("made the mesh convoy and its first node\n"),
        "{printed}"
    );
    for part in [
        "netid ",
        "10.77.0.1/24",
        "floodmesh up --config",
        "floodmesh invite --config",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert_eq!(
        (home.mode("a/secret"), home.mode("a/identity")),
        (0o600, 0o600)
    );
    assert_eq!(home.mode("a"), 0o700);
    assert!(MeshSecret::parse(&home.read("a/secret")).is_ok());
    assert_eq!(
        home.read("a.toml"),
        format!(
            "# A floodmesh node; floodmesh up --help lists all keys.\n\
             mode = \"sealed\"\nname = \"van\"\nmesh = \"convoy\"\n\
             listen = [\"192.0.2.1:44204\"]\nstate_dir = \"{}\"\n\
             device.address = [\"10.77.0.1/24\"]\n",
            home.path("a").display()
        )
    );
    let mut left: Vec<_> = fs::read_dir(home.path("a"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["identity", "lock", "secret"]);
}

#[test]
fn neither_init_nor_join_overwrites_anything() {
    let home = Home::new();
    home.does("a", "init --listen 192.0.2.1:44204", "");
    let token = home.does("a", "invite", "");
    let before = home.files("a");
    for kept in ["a.toml", "a/secret", "a/identity"] {
        for line in ["init", "join -"] {
            let said = home.refused("a", line, &token, 1);
            assert!(said.contains("exists already"), "{said}");
        }
        assert_eq!(home.files("a"), before);
        // With one of the three there alone it is the same.
        for other in ["a.toml", "a/secret", "a/identity"] {
            fs::rename(home.path(other), home.path("aside")).unwrap();
            let said = home.refused("a", "init", "", 1);
            assert!(
                said.contains("exists already"),
                "{kept} without {other}: {said}"
            );
            fs::rename(home.path("aside"), home.path(other)).unwrap();
        }
    }
    assert_eq!(home.files("a"), before);
}

#[test]
fn an_init_that_fails_leaves_no_key_behind() {
    let home = Home::new();
    // A directory of that name cannot be made, since a file has it.
    fs::write(home.path("taken"), "").unwrap();
    let said = home.refused("taken/a", "init", "", 1);
    assert!(said.contains("--config"), "{said}");
    assert!(!home.path("taken/a").exists());
    assert_eq!(fs::read_dir(home.path("")).unwrap().count(), 1);
}

#[test]
fn a_node_joins_with_a_token_from_standard_input() {
    let home = Home::new();
    home.does(
        "a",
        "init --mesh convoy --mtu 1300 --peer truck.example",
        "",
    );
    let token = home.does(
        "a",
        "invite --address van.example --address [2001:db8::1]:7",
        "",
    );
    assert_eq!(token.lines().count(), 1);
    let output = home.run("b", "join - --netid 2a --mode none", &token);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert_eq!(home.read("a/secret"), home.read("b/secret"));
    assert_ne!(home.read("a/identity"), home.read("b/identity"));
    assert_eq!(
        (home.mode("b/secret"), home.mode("b/identity")),
        (0o600, 0o600)
    );
    let settings = home.read("b.toml");
    for line in [
        "mode = \"sealed\"",
        "mesh = \"convoy\"",
        "netid = \"0000002a\"",
        "peer = [\"van.example:44204\", \"[2001:db8::1]:7\"]",
        "device.mode = \"none\"",
        "device.mtu = 1300",
    ] {
        assert!(
            settings.lines().any(|found| found == line),
            "{line}: {settings}"
        );
    }
    assert!(
        home.does("b", "key", "")
            .starts_with("netid        0000002a\n")
    );
}

#[test]
fn a_token_is_read_from_a_file_for_its_owner_alone() {
    let home = Home::new();
    home.does("a", "init", "");
    let token = home.path("token");
    fs::write(&token, home.does("a", "invite --address van.example", "")).unwrap();
    let line = format!("join --file {}", token.display());
    fs::set_permissions(&token, Permissions::from_mode(0o644)).unwrap();
    let said = home.refused("b", &line, "", 1);
    assert!(
        said.contains(&format!("(chmod 600 {})", token.display())),
        "{said}"
    );
    assert!(!home.path("b").exists());
    fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
    home.does("b", &line, "");
    assert_eq!(home.read("a/secret"), home.read("b/secret"));
}

#[test]
fn a_typed_token_works_with_a_warning_that_does_not_repeat_it() {
    let home = Home::new();
    home.does("a", "init", "");
    let token = home.does("a", "invite --address van.example", "");
    let output = home.run("b", &format!("join {token}"), "");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("warning: a typed token shows in ps"),
        "{said}"
    );
    assert!(!said.contains(&token[4..12]), "{said}");
}

#[test]
fn damaged_expired_and_other_tokens_are_refused_and_make_nothing() {
    let home = Home::new();
    home.does("a", "init", "");
    let token = home.does("a", "invite --address van.example", "");
    let mut invitation = Invitation::parse(&token).unwrap();
    invitation.not_after -= 25 * 3_600;
    let expired = invitation.to_text().unwrap();
    let secret = home.read("a/secret");
    for (input, problem) in [
        (&token[..token.len() - 3], "the token is damaged"),
        (
            &token.replace("mi1-a", "mi1-b").replace("mi1-c", "mi1-d")[..60],
            "is damaged",
        ),
        (&**expired, "the token expired 1 h ago"),
        (&*secret, "this is a mesh secret, not a token"),
        ("hello", "a token begins with mi1-"),
        ("", "standard input is empty"),
    ] {
        let said = home.refused("b", "join -", input, 2);
        assert!(said.contains(problem), "{problem}: {said}");
        assert!(
            !said.contains(&token[4..12]) && !said.contains(&secret[4..12]),
            "{said}"
        );
    }
    let long = home.refused("b", "join -", &"a".repeat(20_000), 1);
    assert!(
        long.contains("standard input: longer than any secret"),
        "{long}"
    );
    assert!(!home.path("b").exists() && !home.path("b.toml").exists());
}

#[test]
fn an_invitation_says_where_and_until_when() {
    let home = Home::new();
    home.does(
        "a",
        "init --listen 192.0.2.1:0 --listen 192.0.2.1:7 --peer truck.example",
        "",
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let output = home.run("a", "invite --for 2", "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("for 2 hours and these addresses: 192.0.2.1:7 truck"),
        "{said}"
    );
    let invitation = Invitation::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(invitation.peers, ["192.0.2.1:7", "truck.example:44204"]);
    let hours = (invitation.not_after - now.as_secs()) as f64 / 3_600.0;
    assert!((2.0..2.1).contains(&hours), "{hours}");
    let usual = home.does("a", "invite", "");
    let hours = (Invitation::parse(&usual).unwrap().not_after - now.as_secs()) as f64 / 3_600.0;
    assert!((24.0..24.1).contains(&hours), "{hours}");
    // Listening everywhere names no address that another could dial.
    home.does("b", "init", "");
    assert!(
        home.refused("b", "invite", "", 2)
            .contains("--address HOST:PORT")
    );
    for (line, problem) in [
        (
            "invite --address 0.0.0.0",
            "is no address of a single machine",
        ),
        ("invite --address a --address a:44204", "is given twice"),
        ("invite --address a:0", "has no port from 1 to 65535"),
    ] {
        let said = home.refused("b", line, "", 2);
        assert!(said.contains(problem), "{said}");
    }
    let many: String = (0..17).map(|n| format!(" --address a{n}")).collect();
    let said = home.refused("b", &format!("invite{many}"), "", 2);
    assert!(said.contains("no room for 17"), "{said}");
}

#[test]
fn key_shows_public_keys_and_the_netid_that_follows() {
    let home = Home::new();
    let printed = home.does("a", "init", "");
    let text = home.does("a", "key", "");
    let json: serde_json::Value = serde_json::from_str(&home.does("a", "key --json", "")).unwrap();
    let netid = json["netid"].as_str().unwrap();
    assert!(
        printed.contains(&format!("netid     {netid}\n")),
        "{printed}"
    );
    for (label, key) in [
        ("netid        ", "netid"),
        ("mesh         ", "mesh"),
        ("static key   ", "static_key"),
        ("signing key  ", "signing_key"),
    ] {
        let value = json[key].as_str().unwrap();
        assert!(text.contains(&format!("{label}{value}\n")), "{text}");
    }
    assert_eq!(json["static_key"].as_str().unwrap().len(), 64);
    // The same at every call, and another for every node.
    assert_eq!(home.does("a", "key", ""), text);
    home.does("b", "init", "");
    assert_ne!(home.does("b", "key", ""), text);
}

/// The value behind `key: ` in the scene of this name.
fn in_scene<'t>(text: &'t str, name: &str, key: &str) -> &'t str {
    let scenes = text.split("\n\n");
    let mut of_name = scenes.filter(|scene| scene.contains(&format!("name: {name}\n")));
    let mut lines = of_name.next().unwrap().lines();
    let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    value.unwrap()
}

#[test]
fn files_as_the_document_describes_them_are_a_nodes_keys() {
    const FILES: &str = include_str!("../vectors/sealed/files.txt");
    const KEYS: &str = include_str!("../vectors/sealed/keys.txt");
    let home = Home::new();
    let in_hex = |scene: &str, file: &str| -> Vec<u8> {
        let hex = in_scene(FILES, scene, file);
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    };
    for (name, scene) in [("a", "a node"), ("b", "another node")] {
        home.does(name, "init", "");
        for file in ["secret", "identity"] {
            // In place of what is there, and for its owner alone as before.
            fs::write(home.path(&format!("{name}/{file}")), in_hex(scene, file)).unwrap();
        }
        let json = home.does(name, "key --json", "");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        for (key, scene, of) in [
            // Follows from the mesh secret too (S4).
            ("netid", scene, "netid_from_s"),
            ("static_key", scene, "s"),
            ("signing_key", scene, "v"),
        ] {
            assert_eq!(json[key].as_str(), Some(in_scene(KEYS, scene, of)), "{key}");
        }
    }
    // While the mesh changes its secret: the next one, as `rotate` keeps it.
    let next = in_hex("a node while its mesh changes its secret", "next");
    let text = String::from_utf8(next.clone()).unwrap();
    home.does("a", "rotate --adopt -", &text);
    assert_eq!(fs::read(home.path("a/secret.next")).unwrap(), next);
}

#[test]
fn loose_planted_damaged_and_missing_files_end_every_command() {
    let home = Home::new();
    home.does("a", "init --mode none --listen 127.0.0.1:0", "");
    let every = |problem: &str| {
        for line in ["key", "invite --address a", "up"] {
            let mut about = line.to_owned();
            if line == "up" {
                about += &format!(" --control {}", home.path("c.sock").display());
            }
            let output = home.run("a", &about, "");
            let said = String::from_utf8(output.stderr).unwrap();
            let error = said.lines().last().unwrap();
            assert_eq!(output.status.code(), Some(1), "{line}: {said}");
            assert!(
                error.starts_with("error: ") && error.contains(problem),
                "{line}: {said}"
            );
            assert!(output.stdout.is_empty());
            for secret in secrets(&home, "a") {
                assert!(!said.contains(&secret), "{said}");
            }
        }
    };
    for file in ["a/secret", "a/identity"] {
        let path = home.path(file);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        every(&format!(
            "mode 0640, looser than 0600 (chmod 600 {})",
            path.display()
        ));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();

        // A link in a place of our own is fine, in everybody's it is not.
        let open = home.path("open");
        fs::create_dir_all(&open).unwrap();
        fs::rename(&path, open.join("real")).unwrap();
        symlink(open.join("real"), &path).unwrap();
        home.does("a", "key", "");
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        home.does("a", "key", "");
        symlink(open.join("real"), open.join("link")).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(open.join("link"), &path).unwrap();
        every("which anybody could have made");
        fs::remove_file(&path).unwrap();
        fs::rename(open.join("real"), &path).unwrap();
        fs::remove_dir_all(&open).unwrap();

        let good = home.read(file);
        let mut letters = good.clone().into_bytes();
        let last = letters.len() - 10;
        letters[last] = if letters[last] == b'a' { b'b' } else { b'a' };
        fs::write(&path, letters).unwrap();
        every(&path.display().to_string());
        fs::write(&path, good).unwrap();
    }
    home.does("a", "key", "");
    fs::rename(home.path("a/identity"), home.path("aside")).unwrap();
    let said = home.refused("a", "key", "", 1);
    assert!(
        said.contains("there is no identity of this node at"),
        "{said}"
    );
    assert!(said.contains("floodmesh init"), "{said}");
    // It was not made anew.
    assert!(!home.path("a/identity").exists());
}

#[test]
fn secrets_show_nowhere_but_in_their_files_and_the_token() {
    let home = Home::new();
    let mut said = String::new();
    let mut note = |output: Output, printed: bool| {
        said += &String::from_utf8(output.stderr).unwrap();
        if printed {
            said += &String::from_utf8(output.stdout).unwrap();
        }
    };
    note(
        home.run("a", "init --mode none --listen 127.0.0.1:0", ""),
        true,
    );
    let token = home.does("a", "invite --address van.example", "");
    note(home.run("a", "invite --address van.example", ""), false);
    note(home.run("b", "join -", &token), true);
    note(home.run("b", "join -", &token), true);
    note(home.run("c", &format!("join {token} {token}"), ""), true);
    note(home.run("c", &format!("join --nam {token}"), ""), true);
    note(home.run("c", &format!("up --set {token}"), ""), true);
    note(
        home.run("a", &format!("ping {}", home.read("a/secret")), ""),
        true,
    );
    for line in ["key", "key --json", "init"] {
        note(home.run("a", line, ""), true);
    }
    note(home.starts("a"), true);
    said += &home.read("a.toml");
    said += &home.read("b.toml");
    assert!(said.contains("mi1-..."), "{said}");
    let hidden = secrets(&home, "a").into_iter().chain(secrets(&home, "b"));
    for secret in hidden.chain([token[4..20].to_owned()]) {
        assert!(!said.to_lowercase().contains(&secret), "{secret}: {said}");
    }
}
