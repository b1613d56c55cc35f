//! A second implementation takes part in sealed meshes: `tests/strict_sealed`, in Python and from
//! the document alone.
//!
//! ```text
//!   s --- a --- t      s dials a, a dials t          a, b, c: our daemon
//!   s --- b --- c      ends over a relay of ours     s, t: the second implementation
//!   a --- s --- c      it is the relay, and sees what a relay can see
//!   s --- a --- t      s has a certificate of the authority, t has none
//! ```

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use overlay::id::NetId;
use overlay::lab::net::ping;
use overlay_tests::cli;
use overlay_tests::mesh::{Family, Mesh, PORT, Turn, may_run, netid, wait_until};
use serde_json::{Value, json};

/// For what waits for an interpreter that multiplies big numbers, on a busy machine.
const LONG: Duration = Duration::from_secs(90);
/// What nobody but its two ends may read.
const MARKER: &[u8] = b"the ends alone can read this marker";

/// A member in Python. Dropped, it is killed.
struct Member {
    child: Child,
    log: PathBuf,
}

impl Member {
    /// Starts it with the mesh's token, once a daemon has left one; returns when it is ready.
    fn start(mesh: &Mesh, name: char, more: &[&str]) -> Self {
        let log = mesh.directory().join(format!("{name}.events"));
        let program = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/strict_sealed/strict_sealed.py"
        );
        let mut command = Command::new("python3");
        command
            .args(["-B", program, "--duration", "600"])
            .args(["--netid", &netid(name).to_string()])
            .args(["--listen", &format!("0.0.0.0:{PORT}")])
            .args(more)
            .arg("--token")
            .arg(mesh.directory().join("token"))
            .arg("--log")
            .arg(&log)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let child = mesh.machine(name).spawn(&mut command).unwrap();
        let member = Self { child, log };
        member.wait("it is ready", |event| event["event"] == "start");
        member
    }

    fn events(&self) -> Vec<Value> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = log.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits until it has told of something.
    fn wait(&self, what: &str, is_it: impl Fn(&Value) -> bool) {
        wait_until(what, LONG, || self.events().iter().any(&is_it));
    }

    fn say(&mut self, command: &Value) {
        let line = format!("{command}\n");
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(line.as_bytes()).unwrap();
    }

    /// Asks again and again, since nothing makes up for a lost message, until an event shows it.
    fn say_until(&mut self, command: &Value, is_it: impl Fn(&Value) -> bool) {
        let mut turn = 0_u32;
        wait_until(&command.to_string(), LONG, || {
            if turn.is_multiple_of(50) {
                self.say(command);
            }
            turn += 1;
            self.events().iter().any(&is_it)
        });
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// The address that a node has by its netid, in the mesh of daemon `of`.
fn derived(mesh: &Mesh, of: char, name: char) -> Ipv6Addr {
    let own = mesh.node(of).status().device.addresses[0].addr();
    let IpAddr::V6(own) = own else {
        panic!("{own} is not the derived address");
    };
    let mut octets = own.octets();
    octets[12..].copy_from_slice(&netid(name).0.to_be_bytes());
    octets.into()
}

/// The first half of that, in hex.
fn prefix(mesh: &Mesh, of: char) -> String {
    let octets = derived(mesh, of, of).octets();
    octets[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn endpoint(mesh: &Mesh, ends: &str) -> String {
    format!("{}:{PORT}", mesh.underlay(ends)[0])
}

/// Waits until a daemon's machine gets an answer from a node's derived address.
fn wait_answer(mesh: &Mesh, from: char, to: char) {
    let target = derived(mesh, from, to).into();
    wait_until(&format!("{to} answers {from}"), LONG, || {
        let answer = ping(mesh.machine(from), target, Duration::from_secs(1));
        answer.unwrap().is_some()
    });
}

/// Starts the daemon of a member that dials these and nobody else.
fn start_dialing(mesh: &mut Mesh, name: char, peers: &[char]) {
    let ends = peers.iter().map(|peer| format!("{peer}{name}"));
    let peers = ends.map(|ends| SocketAddr::new(mesh.underlay(&ends)[0], PORT));
    let peers = peers.collect();
    mesh.start_with(name, |setup| {
        setup.sealed = true;
        setup.peers = peers;
    });
}

/// Whether an event is Data of `src` that this seal proved: `link`, `end` or `broadcast`.
fn is_data(event: &Value, src: char, by: &str) -> bool {
    event["event"] == "data" && event["src"] == netid(src).to_string() && event["by"] == by
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_second_implementation_joins_a_sealed_mesh_and_answers_pings_whoever_dialed() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "sa at");
    start_dialing(&mut mesh, 'a', &['t']);
    // 1. It dials: our daemon is the responder. With one neighbor the link's seal is all there is.
    let mut s = Member::start(&mesh, 's', &["--peer", &endpoint(&mesh, "as")]);
    let has = |name: char| {
        let far = netid(name);
        let what = format!("has {name} live");
        let node = mesh.node('a');
        node.wait(&what, LONG, |node| node.live_links().contains(&far));
    };
    has('s');
    wait_answer(&mesh, 'a', 's');
    s.wait("Data under the link's seal", |event| {
        is_data(event, 'a', "link")
    });
    // 2. Our daemon dials: it is the initiator.
    let t = Member::start(&mesh, 't', &["--aes"]);
    has('t');
    wait_answer(&mesh, 'a', 't');
    t.wait("they shook hands end to end", |event| {
        event["event"] == "end" && event["netid"] == netid('a').to_string()
    });
    // 3. Each asks the other to be there, by messages of its own.
    s.say_until(&json!({"send": "ping", "dst": "1"}), |event| {
        event["event"] == "pong" && event["src"] == netid('a').to_string()
    });
    let pinged = mesh.node('a').run(&["ping", &netid('t').to_string()]);
    assert!(pinged.status.success(), "{pinged:?}");
    // 4. A new session in the midst of it.
    let sessions = |event: &&Value| event["event"] == "link";
    let before = s.events().iter().filter(sessions).count();
    s.say(&json!({"send": "rekey", "dst": "1"}));
    wait_until("the link has a new session", LONG, || {
        s.events().iter().filter(sessions).count() > before
    });
    wait_answer(&mesh, 'a', 's');
    // Nothing that ours made was refused, and nothing that ours got was not in form.
    assert_eq!(mesh.node('a').counter("malformed"), 0);
    assert_eq!(mesh.node('a').counter("not_sealed"), 0);
    let are_in_form = |member: &Member| {
        let events = member.events();
        let mut reasons = events.iter().filter_map(|event| event["reason"].as_str());
        !reasons.any(|reason| ["form", "form or mac1", "records", "binding"].contains(&reason))
    };
    assert!(are_in_form(&s) && are_in_form(&t));
}

#[test]
fn a_second_implementation_and_ours_speak_end_to_end_over_a_relay_of_ours() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "sb bc bt");
    start_dialing(&mut mesh, 'b', &['c']);
    start_dialing(&mut mesh, 'c', &['b']);
    let to_b = |name: &str| endpoint(&mesh, &format!("b{name}"));
    let mut s = Member::start(&mesh, 's', &["--peer", &to_b("s")]);
    let t = Member::start(&mesh, 't', &["--aes", "--peer", &to_b("t")]);
    for name in ['s', 't', 'c'] {
        mesh.node('b').wait("has all links", LONG, |node| {
            node.live_links().contains(&netid(name))
        });
    }
    let prefix = prefix(&mesh, 'c');
    // 1. It begins: E-INIT, E-RESP, E-FIN, then a ping that the kernel behind c answers.
    let echo = json!({"send": "echo", "dst": netid('c').to_string(), "prefix": prefix});
    s.say_until(&echo, |event| is_data(event, 'c', "end"));
    // 2. Ours begins.
    wait_answer(&mesh, 'c', 't');
    t.wait("Data under the ends' seal", |event| {
        is_data(event, 'c', "end")
    });
    // 3. To all: the kernel behind b answers what came for everybody.
    let to_all = json!({"send": "echo", "dst": NetId::ALL.to_string(), "prefix": prefix});
    s.say_until(&to_all, |event| is_data(event, 'b', "end"));
    // 4. From one of ours to all.
    let sender = mesh
        .machine('c')
        .run(|| UdpSocket::bind("10.77.0.3:0").unwrap())
        .unwrap();
    sender.set_broadcast(true).unwrap();
    let marker = hex(MARKER);
    wait_until("it hears a broadcast", LONG, || {
        sender.send_to(MARKER, "10.77.0.255:7777").unwrap();
        let events = s.events();
        events.iter().any(|event| {
            let payload = event["payload"].as_str().unwrap_or_default();
            is_data(event, 'c', "broadcast") && payload.contains(&marker)
        })
    });
    // Nobody but the ends had anything to deliver of what was between them.
    let heard = t.events();
    let others =
        |event: &&Value| event["event"] == "data" && event["dst"] == netid('s').to_string();
    assert_eq!(heard.iter().find(others), None);
}

#[test]
fn a_relay_that_opens_its_links_sees_nothing_but_c8_between_others() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "as sc");
    start_dialing(&mut mesh, 'a', &['s']);
    start_dialing(&mut mesh, 'c', &['s']);
    let s = Member::start(&mesh, 's', &[]);
    for name in ['a', 'c'] {
        mesh.node(name).wait("has the relay live", LONG, |node| {
            node.live_links().contains(&netid('s'))
        });
    }
    wait_answer(&mesh, 'a', 'c');
    wait_answer(&mesh, 'c', 'a');
    // A marker between the two, to all, and, as the counter-claim, to the relay itself.
    let bind = |name: char| {
        let address = SocketAddr::new(derived(&mesh, name, name).into(), 7_777);
        let socket = mesh.machine(name).run(|| UdpSocket::bind(address)).unwrap();
        let socket = socket.unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let sockets = [bind('a'), bind('c')];
    for (from, to) in [('a', 'c'), ('c', 'a')] {
        let target = (derived(&mesh, 'a', to), 7_777);
        let mut buffer = [0; 100];
        wait_until(&format!("{to} hears {from}"), LONG, || {
            let [a, c] = &sockets;
            let (from, to) = if from == 'a' { (a, c) } else { (c, a) };
            from.send_to(MARKER, target).unwrap();
            to.recv(&mut buffer)
                .is_ok_and(|len| buffer[..len] == *MARKER)
        });
    }
    let marker = hex(MARKER);
    let reads = |event: &Value| {
        let payload = event["payload"].as_str().unwrap_or_default();
        payload.contains(&marker)
    };
    let to_relay = (derived(&mesh, 'a', 's'), 7_777);
    wait_until("the relay reads what is for it", LONG, || {
        sockets[0].send_to(MARKER, to_relay).unwrap();
        s.events().iter().any(&reads)
    });
    let events = s.events();
    let ends = [netid('a').to_string(), netid('c').to_string()];
    let is_end = |value: &Value| ends.iter().any(|end| value == end);
    let passed = events.iter().filter(|event| {
        event["event"] == "rx" && is_end(&event["src"]) && event["dst"] != netid('s').to_string()
    });
    let passed: Vec<&Value> = passed.collect();
    assert!(passed.iter().any(|event| is_end(&event["dst"])));
    for event in passed {
        let payload = event["payload"].as_str().unwrap();
        assert!(payload.starts_with("c8") && !reads(event), "{event}");
    }
}

/// The authority's office, and the mesh that it signs for.
struct Office<'m> {
    mesh: &'m Mesh,
}

impl Office<'_> {
    fn directory(&self) -> PathBuf {
        self.mesh.directory().join("authority")
    }

    /// `floodmesh LINE --dir ..`, with this on standard input; gives what it prints.
    fn does(&self, line: &str, input: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = cli::command(&words);
        command.arg("--dir").arg(self.directory());
        fed(command, input)
    }

    /// Makes the keys of a member that is none of ours, and gives its file of them and its certificate.
    fn enroll(&self, name: char) -> [String; 2] {
        let state = self.mesh.directory().join(format!("{name}.state"));
        let about = |words: &[&str]| {
            let mut command = cli::command(words);
            command.arg("--state-dir").arg(&state);
            command.arg("--config").arg(state.with_extension("toml"));
            command
        };
        let token = self.mesh.directory().join("token").display().to_string();
        let own = name.to_string();
        fed(about(&["join", "--name", &own, "--file", &token]), "");
        let keys = fed(about(&["key", "--json"]), "");
        let line = format!("ca sign - --name node-{name} --netid {}", netid(name));
        let certificate = self.does(&line, &keys);
        let file = state.join("certificate");
        fs::write(&file, certificate).unwrap();
        [state.join("identity"), file].map(|path| path.display().to_string())
    }
}

fn fed(mut command: Command, input: &str) -> String {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_second_implementation_shows_its_certificate_and_judges_ours() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "sa at");
    let office = mesh.directory().join("authority");
    let mut authority = String::new();
    mesh.start_with('a', |setup| {
        setup.sealed = true;
        setup.peers = Vec::new();
        let line = setup.command(&format!("ca init --dir {}", office.display()), "");
        authority = line.trim().replace(" = ", "=").replace('"', "");
        let keys = setup.command("key --json", "");
        let sign = format!(
            "ca sign - --name node-a --netid 1 --dir {}",
            office.display()
        );
        setup.put("certificate", &setup.command(&sign, &keys));
        setup.more = vec!["--set".into(), authority.clone()];
    });
    let office = Office { mesh: &mesh };
    let key = authority.split_once('=').unwrap().1.to_owned();
    let to_a = |name: &str| endpoint(&mesh, &format!("a{name}"));
    let [identity, certificate] = office.enroll('s');
    // 1. Each takes the other's.
    let more = ["--identity", &identity, "--certificate", &certificate];
    let s = Member::start(
        &mesh,
        's',
        &[&more[..], &["--authority", &key, "--peer", &to_a("s")]].concat(),
    );
    let is_up = |name: char| mesh.node('a').live_links().contains(&netid(name));
    wait_until("the link is up", LONG, || is_up('s'));
    s.wait("it knows the daemon's name", |event| {
        event["event"] == "link" && event["name"] == "node-a"
    });
    wait_answer(&mesh, 'a', 's');
    // 2. Who has none stays outside, though it takes ours.
    let refused = mesh.node('a').counter("not_admitted");
    let t = Member::start(&mesh, 't', &["--authority", &key, "--peer", &to_a("t")]);
    mesh.node('a').wait("it refuses t", LONG, |node| {
        node.counter("not_admitted") > refused
    });
    assert!(!is_up('t'));
    drop(t);
    // 3. Who is revoked is out.
    office.does("ca revoke node-s", "");
    let control = mesh.node('a').control().display().to_string();
    office.does(&format!("ca publish --control {control}"), "");
    wait_until("the link is gone", LONG, || !is_up('s'));
    drop(s);
    // 4. And it refuses whom a list that it has revokes: us.
    office.does("ca revoke node-a", "");
    let list = office.directory().join("list").display().to_string();
    fs::write(&list, office.does("ca show --revocations", "")).unwrap();
    let [identity, certificate] = office.enroll('t');
    let more = ["--identity", &identity, "--certificate", &certificate];
    let listed = ["--revocations", &list, "--authority", &key, "--peer"];
    let t = Member::start(
        &mesh,
        't',
        &[&more[..], &listed, &[&to_a("t")[..]]].concat(),
    );
    t.wait("it refuses us", |event| {
        event["event"] == "refused" && event["reason"] == "revoked"
    });
    assert!(!is_up('t'));
}
