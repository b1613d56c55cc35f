use std::path::Path;

use super::*;
use crate::daemon::args::{Command, parse};
use crate::time::Duration;

fn places() -> Places {
    Places::new(true, |_| None)
}

/// What `floodmesh up LINE` with a file of this text means.
fn load(file: &str, line: &str) -> Result<Config, ConfigError> {
    let words = ["floodmesh", "up"]
        .into_iter()
        .chain(line.split_whitespace());
    let Command::Up(args) = parse(words).unwrap() else {
        panic!("not up");
    };
    let given = file::parse(Path::new("f"), file)?
        .into_iter()
        .chain(typed(&args)?);
    Config::resolve(given.collect(), &places())
}

fn error(file: &str, line: &str) -> String {
    crate::daemon::error::Failure::from(load(file, line).unwrap_err()).to_string()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = load("", "--plain").unwrap();
    assert_eq!(
        (config.name.as_str(), config.mesh.as_str()),
        ("mesh0", "floodmesh")
    );
    assert_eq!(config.security, Security::Plain);
    assert_eq!(config.netid, None);
    let links = &config.links;
    assert_eq!(
        links.listen,
        [
            "0.0.0.0:44204".parse().unwrap(),
            "[::]:44204".parse().unwrap()
        ]
    );
    assert!(!links.listen_given);
    assert_eq!((links.degree, links.max_neighbors), (6, 256));
    assert_eq!(
        (config.device.name.as_str(), config.device.mtu),
        ("mesh0", 1_400)
    );
    assert_eq!(config.device.batch, 256);
    assert_eq!(config.nice, -15);
    assert_eq!(config.device.on_loss, OnLoss::Keep);
    assert_eq!(config.device.priority, Priority::Realtime);
    assert_eq!(
        (config.dedupe.memory, config.dedupe.hash),
        (256 << 20, HashKind::Fast)
    );
    assert_eq!(config.limits.hello_per_second, 1_000);
    assert_eq!(config.timers.dead_after, Duration::from_secs(45));
    assert_eq!(config.files.state, Path::new("/var/lib/floodmesh/mesh0"));
    assert_eq!(config.files.control, Path::new("/run/floodmesh/mesh0.sock"));
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn defaults_yield_to_the_file_the_file_to_set_and_set_to_flags() {
    let file = "mode = \"plain\"\n[device]\nmtu = 1300\n";
    for (file, line, mtu) in [
        ("", "--plain", 1_400),
        (file, "", 1_300),
        (file, "--set device.mtu=1301", 1_301),
        (file, "--set device.mtu=1301 --set device.mtu=1302", 1_302),
        (file, "--mtu 1303 --set device.mtu=1301", 1_303),
        ("", "--plain --set device.mtu=1301 --mtu 1303", 1_303),
    ] {
        assert_eq!(load(file, line).unwrap().device.mtu, mtu, "{line}");
    }
}

#[test]
fn the_environment_stands_between_file_and_set() {
    let given = |origin, name: &str| Given {
        key: "name".into(),
        value: Value::Word(name.into()),
        origin,
    };
    let plain = Given {
        key: "mode".into(),
        ..given(Origin::Set, "plain")
    };
    let file = given(
        Origin::File {
            path: "f".into(),
            line: 1,
        },
        "file",
    );
    let environment = given(Origin::Environment("FLOODMESH_NAME".into()), "environment");
    let set = given(Origin::Set, "set");
    let name = |settings: &[&Given]| {
        let all = settings.iter().copied().chain([&plain]).cloned().collect();
        Config::resolve(all, &places()).unwrap().name
    };
    assert_eq!(name(&[&environment, &file]), "environment");
    assert_eq!(name(&[&set, &environment, &file]), "set");
}

#[test]
fn a_list_replaces_the_weaker_list() {
    let file = "mode = \"plain\"\npeer = [\"a:1\", \"b\"]\n";
    let peers = |line| load(file, line).unwrap().links.peers.len();
    assert_eq!(peers(""), 2);
    assert_eq!(peers("--peer c:1"), 1);
    assert_eq!(peers("--peer c:1 --peer d:1 --peer e:1"), 3);
    assert_eq!(peers("--set peer=[\"c:1\",\"d:1\",\"e:1\",\"f:1\"]"), 4);
    assert_eq!(peers("--set peer=[]"), 0);
}

#[test]
fn every_key_can_stand_in_the_file() {
    let file = r#"
        name = "van"
        mode = "plain"
        netid = "2a"
        mesh = "fleet"
        listen = ["192.0.2.1:0"]
        peer = ["van.example:44204"]
        trust_unproved = ["192.0.2.7"]
        allow_inform = ["10.0.0.0/8"]
        degree = 3
        max_neighbors = 40
        state_dir = "/tmp/s"
        control = "/tmp/c.sock"
        secret_file = "/tmp/s1"
        identity_file = "/tmp/s2"
        log = "debug"
        log_format = "json"
        forwarding = "flood"
        nice = -3
        device = { mode = "tap", name = "tap9", address = ["10.77.0.1/24"], mtu = 1500, batch = 8, threads = 4, priority = "normal", on_loss = "exit", strict = "on" }
        dedupe = { memory = "16MiB", hash = "blake3" }
        [limits]
        candidates = 64
        [timers]
        ping_after = 0.5
        [storm]
        broadcast = 10
    "#;
    let config = load(file, "").unwrap();
    assert_eq!(config.netid, Some(NetId(0x2a)));
    assert_eq!(
        config.links.trust_unproved[0].to_string(),
        "192.0.2.7:44204"
    );
    assert_eq!(config.device.mode, DeviceMode::Tap);
    assert_eq!(config.nice, -3);
    assert_eq!(config.device.batch, 8);
    assert_eq!(config.device.threads, Some(4));
    assert_eq!(config.device.priority, Priority::Normal);
    assert!(config.device.strict);
    assert_eq!(config.dedupe.memory, 16 << 20);
    assert_eq!(config.limits.candidates, 64);
    assert_eq!(config.timers.ping_after, Duration::from_millis(500));
    assert_eq!(config.storm.broadcast, 10);
    assert_eq!(config.files.log_format, LogFormat::Json);
    assert_eq!(config.files.secret, Path::new("/tmp/s1"));
    assert_eq!(config.files.identity, Path::new("/tmp/s2"));
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn every_listed_key_is_known_and_no_other() {
    for setting in settings::settings() {
        let given = Given {
            key: setting.key.to_owned(),
            value: Value::Other("1979-05-27".into()),
            origin: Origin::Set,
        };
        let judged = Draft::default().apply(&given);
        assert!(
            matches!(judged, Err(ConfigError::Invalid { .. })),
            "{}",
            setting.key
        );
    }
    for section in ["limits", "timers", "storm"] {
        let line = format!("--plain --set {section}.=1");
        assert!(
            matches!(load("", &line), Err(ConfigError::UnknownKey { .. })),
            "{section}"
        );
    }
}

#[test]
fn every_number_takes_its_range_and_nothing_beyond() {
    let low = load("", "--plain --set limits.hello_per_second=1").unwrap();
    assert_eq!(low.limits.hello_per_second, 1);
    for (key, value) in [
        ("limits.hello_per_second", "0"),
        ("limits.hello_per_second", "100001"),
        ("limits.hello_per_second", "1.5"),
        ("limits.hello_per_second", "1e300"),
        ("timers.redial", "0.9"),
        ("timers.redial", "nan"),
        ("storm.multicast", "-1"),
    ] {
        assert!(
            load("", &format!("--plain --set {key}={value}")).is_err(),
            "{key}={value}"
        );
    }
}

#[test]
fn the_open_mode_has_to_be_written_out() {
    let refused = error("", "");
    assert!(refused.contains("without encryption"), "{refused}");
    assert!(refused.contains("floodmesh up --plain"), "{refused}");
    assert!(refused.contains("floodmesh init"), "{refused}");
}

#[test]
fn a_mesh_secret_makes_sealed_the_default_and_plain_a_warning() {
    let home = tempfile::tempdir().unwrap();
    let place = home.path().display();
    let state = format!("--state-dir {place}");
    assert!(error("", &state).contains("no mesh secret for the node mesh0"));
    std::fs::write(home.path().join("secret"), "").unwrap();
    let config = load("", &state).unwrap();
    assert_eq!(config.security, Security::Sealed);
    assert_eq!(config.device.mtu, 1_360);
    let frames = load("", &format!("{state} --mode tap")).unwrap();
    assert_eq!(frames.device.mtu, 1_340);
    assert_eq!(config.files.secret, home.path().join("secret"));
    assert_eq!(config.files.identity, home.path().join("identity"));
    let plain = load("", &format!("{state} --plain")).unwrap();
    assert_eq!((plain.security, plain.device.mtu), (Security::Plain, 1_400));
    assert!(
        plain.warnings[0].contains("is not used"),
        "{:?}",
        plain.warnings
    );
    let large = error("", &format!("{state} --mtu 40000"));
    assert!(
        large.contains("do not fit into a sealed datagram"),
        "{large}"
    );
    // Also where the secret lies elsewhere; that the mode is written out needs no file.
    let elsewhere = format!("--set secret_file={place}/secret --name van");
    assert_eq!(load("", &elsewhere).unwrap().security, Security::Sealed);
    let written = load("mode = \"sealed\"", "--name van --mtu 1400").unwrap();
    assert_eq!(
        (written.security, written.device.mtu),
        (Security::Sealed, 1_400)
    );
}

/// S83, S88; group H: settings that contradict each other.
#[test]
fn sealed_links_can_be_preferred_and_only_then_is_there_something_to_bridge() {
    let prefer = load("mode = \"prefer\"", "").unwrap();
    assert_eq!(prefer.security, Security::Prefer);
    assert_eq!((prefer.device.mtu, prefer.bridge), (1_360, Bridge::Off));
    assert!(
        prefer.warnings[0].contains("mode = \"sealed\" once"),
        "{:?}",
        prefer.warnings
    );
    let bridged = |more: &str| load(&format!("mode = \"prefer\"\nbridge = \"on\"\n{more}"), "");
    assert_eq!(bridged("").unwrap().bridge, Bridge::Sealed);
    assert_eq!(
        bridged("bridge_cleartext = \"on\"").unwrap().bridge,
        Bridge::Clear
    );
    assert_eq!(
        bridged("bridge_cleartext = \"off\"").unwrap().bridge,
        Bridge::Sealed
    );
    // What is typed later wins, also over this.
    assert_eq!(
        load("mode = \"prefer\"", "--plain").unwrap().security,
        Security::Plain
    );
    for mode in ["sealed", "plain"] {
        let refused = error(&format!("mode = \"{mode}\"\nbridge = \"on\""), "");
        assert!(refused.contains("has nothing to connect"), "{refused}");
    }
    let refused = error("mode = \"prefer\"\nbridge_cleartext = \"on\"", "");
    assert!(refused.contains("write bridge = \"on\" too"), "{refused}");
}

/// S104; group H: settings that contradict each other.
#[test]
fn a_peer_may_have_a_mode_of_its_own_where_the_node_has_both_zones() {
    let peers = |node: &str, peers: &str| format!("mode = \"{node}\"\npeer = [{peers}]\n");
    let own = r#""a:1 sealed", "b:1 plain", "c:1 prefer", "d:1""#;
    let config = load(&peers("prefer", own), "").unwrap();
    let modes = [0, 1, 2, 3, 4].map(|place| config.links.mode_of(place));
    let (sealed, plain) = (Some(PeerMode::Sealed), Some(PeerMode::Plain));
    assert_eq!(modes, [sealed, plain, Some(PeerMode::Prefer), None, None]);
    // Names are what latches know peers by: without the mode.
    let named: Vec<_> = config.links.named().map(ToString::to_string).collect();
    assert_eq!(named, ["a:1", "b:1", "c:1", "d:1"]);
    assert!(
        config
            .warnings
            .iter()
            .any(|warning| warning.contains("peer b:1"))
    );
    for (node, mode, may) in [
        ("sealed", "sealed", true),
        ("sealed", "prefer", false),
        ("sealed", "plain", false),
        ("plain", "plain", true),
        ("plain", "prefer", false),
        ("plain", "sealed", false),
    ] {
        let file = peers(node, &format!("\"a:1 {mode}\""));
        assert_eq!(load(&file, "").is_ok(), may, "{node} {mode}");
    }
    let refused = error(&peers("sealed", "\"a:1 plain\""), "");
    assert_eq!(
        refused,
        "the peer a:1 has mode plain, and a node in mode sealed speaks no plain (write mode = \
         \"prefer\" for the node, or leave out plain behind the peer)"
    );
    for twice in [r#""a:1 sealed", "a:1""#, r#""a:1", "a:1 plain""#] {
        let refused = error(&peers("prefer", twice), "");
        assert!(
            refused.contains("is given twice, with two modes"),
            "{refused}"
        );
    }
    let refused = error(&peers("prefer", "\"a:1 open\""), "");
    assert!(
        refused.contains("other than sealed, prefer or plain"),
        "{refused}"
    );
}

#[test]
fn a_reload_takes_the_modes_of_peers_and_no_other_peers() {
    let of = |peers: &str| load(&format!("mode = \"prefer\"\npeer = [{peers}]\n"), "").unwrap();
    let mut running = of(r#""a:1", "b:1 plain""#);
    let read = of(r#""b:1", "a:1 sealed", "c:1 plain""#);
    assert!(running.links.take_modes(&read.links));
    assert!(!running.links.take_modes(&read.links));
    let peers: Vec<_> = running
        .links
        .peers
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(peers, ["a:1 sealed", "b:1"]);
}

#[test]
fn errors_name_the_place_the_value_and_the_remedy() {
    for (file, line, expected) in [
        (
            "mtu = 1",
            "",
            "f:1: unknown key mtu (did you mean device.mtu?)",
        ),
        (
            "",
            "--set devize.mtu=1",
            "--set devize.mtu: unknown key (did you mean device.mtu?)",
        ),
        (
            "mode = \"tap\"",
            "",
            "f:1: mode = \"tap\" is the device's mode (write device.mode, or --mode)",
        ),
        (
            "netid = 42",
            "",
            "f:1: netid = 42 is not text (write it in quotes: \"42\")",
        ),
        (
            "[device]\nmtu = \"1400\"",
            "",
            "f:2: device.mtu = \"1400\" is text (write the number without quotes)",
        ),
        (
            "",
            "--mtu 99999",
            "--mtu 99999 is out of range (give 576 to 65000 bytes)",
        ),
        (
            "",
            "--plain --batch 0",
            "--batch 0 is out of range (give 1 to 256 packets)",
        ),
        (
            "",
            "--plain --threads 17",
            "--threads 17 is out of range (give 1 to 16 data threads)",
        ),
        (
            "",
            "--peer a:1 --peer a:1",
            "--peer a:1 is given twice (leave one of them out)",
        ),
        (
            "",
            "--plain --mode none --dev x",
            "--dev x needs a device (leave it out, or choose --mode tun or tap)",
        ),
        (
            "",
            "--plain --set timers.dead_after=20",
            "timers.ping_after 15 s, timers.suspect_after 30 s and timers.dead_after 20 s do not \
             follow each other (each must be longer than the one before)",
        ),
    ] {
        assert_eq!(error(file, line), expected);
    }
}

#[test]
fn an_empty_known_section_is_fine() {
    assert!(load("mode = \"plain\"\n[limits]\n", "").is_ok());
    assert!(load("mode = \"plain\"\n[limitz]\n", "").is_err());
}

#[test]
fn a_long_name_needs_a_device_name() {
    assert!(load("", "--plain --name a-name-of-16-byte").is_err());
    assert!(load("", "--plain --name a-name-of-16-byte --dev m0").is_ok());
    assert!(load("", "--plain --name a-name-of-16-byte --mode none").is_ok());
}
