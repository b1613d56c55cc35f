//! Whoever may look at a machine, but not into the files of a node, learns no secret of it.
//!
//! ```text
//!   a --- b      sealed, logging everything, with traffic; and one that a user runs and somebody kills
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use overlay_tests::cli;
use overlay_tests::mesh::{Family, Mesh, PATIENCE, Turn, may_run, wait_until};

use crate::confine::{Home, NOBODY, Own};

/// What gives a secret of 32 bytes away, by the name of its form.
fn forms(secret: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{:?}", &secret[..8]);
    let list = list.trim_matches(['[', ']']).to_owned();
    let mut forms = BTreeMap::new();
    let mut add = |name: &str, form: &[u8]| forms.insert(name.to_owned(), form.to_vec());
    // Halves, since a print may be cut short.
    add("raw, first half", &secret[..16]);
    add("raw, second half", &secret[16..32]);
    add("hex, first half", &hex.as_bytes()[..32]);
    add("hex, second half", &hex.as_bytes()[32..]);
    add("upper hex", hex[..32].to_uppercase().as_bytes());
    add("numbers", list.as_bytes());
    for (name, alphabet) in [("base64", b"+/"), ("base64 for addresses", b"-_")] {
        add(name, base64(&secret[..24], alphabet).as_bytes());
    }
    let digits = base32(&secret[..20]);
    add("base32", digits.as_bytes());
    add("upper base32", digits.to_uppercase().as_bytes());
    forms
}

fn base64(bytes: &[u8], last: &[u8; 2]) -> String {
    let digit = |bits: u32| match (bits & 63) as u8 {
        bits @ 0..26 => b'A' + bits,
        bits @ 26..52 => b'a' + bits - 26,
        bits @ 52..62 => b'0' + bits - 52,
        bits => last[usize::from(bits - 62)],
    };
    let group = |three: &[u8]| {
        let bits = three
            .iter()
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(digit(bits >> shift)))
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

/// RFC 4648, lower case; a multiple of five bytes.
fn base32(bytes: &[u8]) -> String {
    let digit = |bits: u64| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(bits & 31) as usize]);
    let group = |five: &[u8]| {
        let bits = five
            .iter()
            .fold(0, |bits, byte| bits << 8 | u64::from(*byte));
        (0..8)
            .rev()
            .map(|place| digit(bits >> (5 * place)))
            .collect::<String>()
    };
    bytes.chunks_exact(5).map(group).collect()
}

/// The mesh secret and the private keys of the node whose state is in `state`, each with its forms.
fn secrets(state: &Path) -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
    let read = |name| fs::read_to_string(state.join(name)).unwrap();
    let text = read("secret");
    let digits = text.trim().strip_prefix("mk1-").unwrap();
    let mut secrets = BTreeMap::from([("secret".to_owned(), forms(&from_base32(digits)[..32]))]);
    for line in read("identity").lines().skip(1) {
        let (name, digits) = line.split_once(' ').unwrap();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let key: Vec<u8> = (0..64).step_by(2).map(byte).collect();
        secrets.insert(name.to_owned(), forms(&key));
    }
    assert_eq!(secrets.len(), 3);
    secrets
}

fn from_base32(digits: &str) -> Vec<u8> {
    let value = |digit: u8| match digit {
        b'a'..=b'z' => digit - b'a',
        _ => digit - b'2' + 26,
    };
    let bits = digits
        .bytes()
        .flat_map(|digit| (0..5).rev().map(move |place| value(digit) >> place & 1));
    let bits: Vec<u8> = bits.collect();
    let byte = |bits: &[u8]| bits.iter().fold(0, |byte, bit| byte << 1 | bit);
    bits.chunks_exact(8).map(byte).collect()
}

/// Which forms of which secrets are in `text`.
fn found(secrets: &BTreeMap<String, BTreeMap<String, Vec<u8>>>, text: &[u8]) -> Vec<String> {
    let is_in = |form: &[u8]| text.windows(form.len()).any(|window| window == form);
    let each = secrets.iter().flat_map(|(name, forms)| {
        forms
            .iter()
            .filter(|(_, bytes)| is_in(bytes))
            .map(move |(form, _)| format!("{name} in {form}"))
    });
    each.collect()
}

/// Everything of a process that can be read but its memory: of each file at most a MiB.
fn proc_files(pid: Pid) -> Vec<(String, Vec<u8>)> {
    use std::io::Read;
    // Memory, and what stops, changes or waits.
    let left_out = ["mem", "pagemap", "clear_refs", "kpagecgroup", "smaps"];
    let files = |directory: String| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let tasks = tasks.map(|task| task.unwrap().path().display().to_string());
    let mut all = Vec::new();
    for entry in [format!("/proc/{pid}")]
        .into_iter()
        .chain(tasks)
        .flat_map(files)
    {
        if left_out.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let mut bytes = Vec::new();
        if let Ok(file) = fs::File::open(entry.path()) {
            // What cannot be read tells nothing.
            let _ = file.take(1 << 20).read_to_end(&mut bytes);
        }
        all.push((entry.path().display().to_string(), bytes));
    }
    all
}

#[test]
fn leak_nothing_that_can_be_seen_of_two_nodes_has_a_key_in_it() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab");
    for name in ['a', 'b'] {
        mesh.start_with(name, |setup| {
            setup.sealed = true;
            setup.arguments("--log trace");
        });
    }
    mesh.wait_ping('a', 'b');
    mesh.stream('a', 'b')
        .run(Duration::from_millis(500), |_| {});
    for name in ['a', 'b'] {
        let node = mesh.node(name);
        let state = mesh.directory().join(format!("{name}.state"));
        let secrets = secrets(&state);
        let mut seen = proc_files(node.pid());
        assert!(
            seen.iter()
                .any(|(path, text)| path.ends_with("cmdline") && !text.is_empty())
        );
        seen.push(("log".to_owned(), node.log().into_bytes()));
        let mut say = |what: &str, output: std::process::Output| {
            assert!(output.status.success(), "{what}: {output:?}");
            seen.push((what.to_owned(), [output.stdout, output.stderr].concat()));
        };
        for query in ["status", "neighbors", "nodes", "counters"] {
            say(query, node.run(&[query]));
            say(query, node.run(&[query, "--json"]));
        }
        say("ping", node.run(&["ping", "all", "-c", "1", "--json"]));
        let mut key = cli::command(&["key", "--name", &name.to_string(), "--state-dir"]);
        say("key", key.arg(&state).output().unwrap());
        let ps = Command::new("ps").args(["auxwwe"]).output();
        if let Ok(ps) = ps {
            say("ps", ps);
        }
        assert!(seen.len() > 30, "{}", seen.len());
        assert!(node.log().contains("neighbor up"), "it logs");
        for (what, text) in &seen {
            assert_eq!(found(&secrets, text), Vec::<String>::new(), "{what}");
        }
        // The counter-claim: they are found where they are.
        let files = ["secret", "identity"].map(|file| fs::read(state.join(file)).unwrap());
        let found = found(&secrets, &files.concat());
        assert_eq!(
            found,
            [
                "ed25519 in hex, first half",
                "ed25519 in hex, second half",
                "secret in base32",
                "x25519 in hex, first half",
                "x25519 in hex, second half"
            ]
        );
    }
}

/// A sealed daemon without a device that a user runs, with cores allowed, ready.
fn own(home: &Home) -> Own {
    let files = "--state-dir state --config node.toml";
    if !home.path("state").join("identity").exists() {
        let init = home.command(&home.program, &format!("init --name own {files}"));
        let output = { init }.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let mut command = home.command(Path::new("/bin/sh"), "-c");
    command
        .args(["ulimit -c unlimited && exec \"$@\"", "sh"])
        .arg(&home.program)
        .args("up --mode none --config node.toml --control node.sock".split(' '))
        .args(["--listen", "127.0.0.1:0"]);
    let log = fs::File::create(home.path("log")).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let own = Own(command.spawn().unwrap());
    wait_until("it is ready", PATIENCE, || {
        let log = fs::read_to_string(home.path("log")).unwrap();
        log.contains("ready:")
    });
    own
}

/// A program of the same user that is nothing special.
fn ordinary(home: &Home) -> Own {
    let mut command = home.command(Path::new("/bin/sh"), "-c");
    command.arg("ulimit -c unlimited && exec sleep 60");
    let own = Own(command.spawn().unwrap());
    wait_until("it sleeps", PATIENCE, || {
        let name = fs::read_to_string(format!("/proc/{}/comm", own.0.id()));
        name.unwrap().trim() == "sleep"
    });
    own
}

#[test]
fn leak_other_programs_of_its_user_see_nothing_of_a_nodes_memory() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let home = Home::new();
    let (node, other) = (own(&home), ordinary(&home));
    // Attaches, and says the error's number.
    let attach = "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True); \
                  sys.exit(ctypes.get_errno() if libc.ptrace(16, int(sys.argv[1]), 0, 0) else 0)";
    let can = |pid: u32, what: &str| {
        let mut command = match what {
            "attach" => {
                let mut command = Command::new("python3");
                command.args(["-c", attach]).arg(pid.to_string());
                command
            }
            file => {
                let mut command = Command::new("head");
                command.args(["-c", "1"]).arg(format!("/proc/{pid}/{file}"));
                command
            }
        };
        command.uid(NOBODY).gid(NOBODY).stderr(Stdio::piped());
        let output = command.current_dir("/").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success() || said.contains("Input/output error")
    };
    for what in ["mem", "maps", "environ", "auxv", "attach"] {
        assert!(can(other.0.id(), what), "the counter-claim: {what}");
        assert!(!can(node.0.id(), what), "{what}");
    }
}

#[test]
fn leak_a_node_that_crashes_leaves_no_core() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let home = Home::new();
    let end = |mut process: Own, signal| {
        let pid = Pid::from_raw(i32::try_from(process.0.id()).unwrap());
        // Again and again: the handler that tells a full stack lets the first SIGSEGV pass.
        let status = loop {
            kill(pid, signal).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            if let Some(status) = process.0.try_wait().unwrap() {
                break status;
            }
        };
        assert_eq!(status.signal(), Some(signal as i32));
        status.core_dumped()
    };
    if !end(ordinary(&home), Signal::SIGABRT) {
        println!("this system writes no cores; so the rest shows little");
    }
    let files = || fs::read_dir(home.path("")).unwrap().count();
    let before = files();
    for signal in [Signal::SIGABRT, Signal::SIGSEGV, Signal::SIGQUIT] {
        assert!(!end(own(&home), signal), "{signal}");
    }
    let after = files();
    // What the node makes: settings, state, a log, the socket that nobody removed.
    assert!(after <= before + 4, "{after} files, {before} before");
    let is_core = |name: &str| name.starts_with("core");
    let entries = fs::read_dir(home.path("")).unwrap();
    let cores =
        entries.filter(|entry| is_core(&entry.as_ref().unwrap().file_name().to_string_lossy()));
    // At most the ordinary program's.
    assert!(cores.count() <= 1);
}
