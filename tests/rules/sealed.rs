//! SEALED.md and the code say the same numbers, no rule is cited that there is not, and a session
//! allocates nothing for a datagram.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use overlay::node::zone;
use overlay::pump::fair;
use overlay::seal::aead::Aead;
use overlay::seal::broadcast::{self, IN_ALL, PER_BRINGER};
use overlay::seal::cookie::{COOKIE_LIFETIME, SECRET_LIFETIME};
use overlay::seal::door::Limits;
use overlay::seal::ends;
use overlay::seal::invitation::{PEERS_LIMIT, TEXT_LIMIT};
use overlay::seal::links::{ENDPOINTS_PER_KEY, FORMER_LASTS, TRY_AGAIN};
use overlay::seal::members::{PINS_LIMIT, pulling};
use overlay::seal::peer::Timers;
use overlay::seal::replay::{LEAP, WINDOW};
use overlay::seal::session::{DATA_OVERHEAD, LINK_OVERHEAD};
use overlay::time::{Duration, Instant};
use overlay_tests::sessions::session_pair;
use wire::sealed::{self, endtoend};

use crate::noalloc::allocations;

const SEALED: &str = include_str!("../../wire/SEALED.md");

/// The first two columns of the table of constants.
fn shown() -> Vec<(&'static str, &'static str)> {
    let (_, rest) = SEALED
        .split_once("\n# Constants\n")
        .expect("there are constants");
    let (table, _) = rest.split_once("\n# ").expect("and something behind them");
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    cells
        .skip(1)
        .map(|cells| (cells[0].trim_start_matches("| "), cells[1]))
        .collect()
}

fn s(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

fn list(durations: &[Duration]) -> String {
    let numbers: Vec<_> = durations
        .iter()
        .map(|time| time.as_secs_f64().to_string())
        .collect();
    format!("{} s", numbers.join(", "))
}

/// A power of two, as the document writes it.
fn power(number: u64) -> String {
    assert!(number.is_power_of_two());
    format!("2^{}", number.ilog2())
}

fn n(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    }
}

#[test]
fn every_number_of_the_sealed_constants_is_the_codes() {
    let (timers, limits) = (Timers::default(), Limits::default());
    let far = Timers::end_to_end();
    let (chacha, gcm) = (Aead::ChaCha20Poly1305, Aead::Aes256Gcm);
    let retry = timers.retry.map(|time| time.as_secs_f64().to_string());
    let fin = timers.fin_again.map(|time| time.as_secs_f64());
    let expected = [
        (
            "first byte; kinds",
            format!(
                "`{:02x}`; 1 to {}",
                sealed::SEALED_MAGIC,
                sealed::SealedKind::Link.to_byte()
            ),
        ),
        (
            "INIT; longest RESP and FIN; COOKIE; shortest LINK",
            format!(
                "{}; {}; {}; {} bytes",
                n(sealed::INIT_LEN),
                n(sealed::HANDSHAKE_MAX_LEN),
                sealed::COOKIE_LEN,
                sealed::LINK_MIN_LEN
            ),
        ),
        (
            "LINK header; tag; mac",
            format!(
                "{}; {}; {} bytes",
                sealed::LINK_HEADER_LEN,
                sealed::TAG_LEN,
                sealed::MAC_LEN
            ),
        ),
        (
            "largest message in a frame",
            format!("{} bytes", n(sealed::FRAME_MAX_LEN)),
        ),
        (
            "certificate",
            format!(
                "{} to {} bytes",
                sealed::CERTIFICATE_MIN_LEN,
                sealed::CERTIFICATE_MAX_LEN
            ),
        ),
        (
            "counter limit: ChaCha20-Poly1305; AES-256-GCM; above 2,048 bytes",
            [
                chacha.seal_limit(0),
                gcm.seal_limit(2_048),
                gcm.seal_limit(2_049),
            ]
            .map(power)
            .join("; "),
        ),
        (
            "failed openings: ChaCha20-Poly1305; AES-256-GCM",
            [chacha.failure_limit(), gcm.failure_limit()]
                .map(power)
                .join("; "),
        ),
        (
            "replay window; largest leap",
            format!("{}; {}", n(WINDOW as usize), power(LEAP)),
        ),
        (
            "retry of INIT",
            format!("{}, then {} s, +-20 %", retry[..4].join(", "), retry[4]),
        ),
        ("while a session is up, at most", s(timers.retry_up)),
        (
            "tries of an informed endpoint",
            timers.informed_tries.to_string(),
        ),
        (
            "half-open; of one endpoint",
            format!("{}; 4", s(timers.half_open)),
        ),
        (
            "FIN again; given up",
            format!(
                "after {}, {}, {} s; {}",
                fin[0],
                fin[1] - fin[0],
                fin[2] - fin[1],
                s(timers.fin_lifetime)
            ),
        ),
        ("session erased", s(timers.session_lifetime)),
        (
            "rekey: initiator; responder",
            format!("{} +-10 %; {}", s(timers.rekey), s(timers.rekey_responder)),
        ),
        (
            "keepalive: after a message; idle",
            format!("{}; {}", s(timers.answer_within), s(timers.idle)),
        ),
        (
            "silence: asked; where no message was sent; dead",
            format!(
                "{}; {}; {}",
                list(&timers.ask),
                list(&timers.ask_idle),
                s(timers.dead)
            ),
        ),
        ("previous sessions", "3".to_owned()),
        ("INITs that cross", s(timers.crossing)),
        (
            "cookie secret; cookie held",
            format!("{}; {}", s(SECRET_LIFETIME), s(COOKIE_LIFETIME)),
        ),
        (
            "load: waiting; INITs; longer",
            format!("{}; {}/s; 1 s", limits.waiting, limits.per_second),
        ),
        ("pins", n(PINS_LIMIT)),
        (
            "next secret tried again; what the former one made ends",
            format!("{}; {}", s(TRY_AGAIN), s(FORMER_LASTS)),
        ),
        (
            "revocation list: entries; bytes; piece",
            format!(
                "{}; {} to {} bytes; {} bytes",
                sealed::REVOKED_MAX,
                sealed::REVOCATIONS_MIN_LEN,
                n(sealed::REVOCATIONS_MAX_LEN),
                n(sealed::PIECE_MAX_LEN)
            ),
        ),
        (
            "pieces for a request; again; tries; not asked: silent; other",
            format!(
                "{}; {}; {}; {}; {}",
                pulling::WINDOW,
                s(pulling::AGAIN),
                pulling::TRIES,
                s(pulling::RESTED),
                s(pulling::BARRED)
            ),
        ),
        (
            "list told again; times",
            format!("{}; {}", s(pulling::TELL_AGAIN), pulling::TOLD),
        ),
        ("requests answered", "10/s, bursts of 20".to_owned()),
        (
            "token: addresses; bytes of each text",
            format!("{PEERS_LIMIT}; {TEXT_LIMIT}"),
        ),
        (
            "INITs per prefix",
            format!("20/s, bursts of 5; {} prefixes", n(limits.prefixes)),
        ),
        (
            "half-open in all; per prefix",
            format!("{}; {}", limits.half_open, limits.half_open_per_prefix),
        ),
        (
            "E-DATA header; E-BCAST header; signature; both shortest",
            format!(
                "{}; {}; {}; {} and {} bytes",
                sealed::LINK_HEADER_LEN,
                endtoend::BROADCAST_HEADER_LEN,
                endtoend::SIGNATURE_LEN,
                DATA_OVERHEAD,
                endtoend::BROADCAST_MIN_LEN
            ),
        ),
        ("ends: sessions", n(ends::ENDS)),
        (
            "ends: retry of E-INIT; given up",
            format!("{}, +-20 %; {}", list(&far.retry[..4]), s(far.retry[4])),
        ),
        (
            "ends: rekey: initiator; responder; no wait above",
            format!(
                "{} +-10 %; {}; {}",
                s(far.rekey),
                s(far.rekey_responder),
                s(far.retry_up)
            ),
        ),
        (
            "ends: session erased; the last one when silent",
            format!("{}; {}", s(far.session_lifetime), s(far.dead)),
        ),
        ("ends: silence asked", list(&far.ask)),
        (
            "ends: E-INITs originated; E-RESPs sent",
            format!("{}/s; {}/s", ends::INITS, ends::RESPS),
        ),
        (
            "ends: E-INITs of a neighbor over its link",
            "1/s, bursts of 4".to_owned(),
        ),
        (
            "signed broadcasts: of one src; in all; sequence below",
            format!(
                "{}/s; {}/s; {}",
                broadcast::PER_ORIGIN,
                n(IN_ALL as usize),
                power(sealed::COUNTER_LIMIT)
            ),
        ),
        ("endpoints of one S", n(ENDPOINTS_PER_KEY)),
        (
            "verifications: in all; besides, of each neighbor",
            format!("{}/s; {}/s", n(IN_ALL as usize), n(PER_BRINGER as usize)),
        ),
        (
            "neighbors with a share; sources of each; shares opened",
            format!("{}; {}; {}", fair::NEIGHBORS, fair::PLACES, fair::OPENED),
        ),
        ("addresses of a peer with a mode", "32".to_owned()),
        (
            "half-open of a configured peer without cookie",
            limits.reserved_freely.to_string(),
        ),
        (
            "guests; places",
            format!("{}/s; {}", n(zone::GUESTS as usize), zone::GUEST_PLACES),
        ),
        (
            "rate classes; the first",
            format!(
                "{}; {} bytes/s",
                sealed::RATE_CLASS_MAX,
                n(sealed::rate_of(1).unwrap_or(0) as usize)
            ),
        ),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    assert_eq!(shown(), expected);
}

/// Numbers of rules cited in `text`: `S7`, and both ends of `S36 to S40`.
fn cited(text: &str) -> BTreeSet<u32> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| word.strip_prefix('S')?.parse().ok())
        .collect()
}

/// The text of every source file of a folder, its folders included.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            let text = fs::read_to_string(&path).expect("the source can be read");
            found.push((path.display().to_string(), text));
        }
    }
}

#[test]
fn sealed_rules_are_numbered_without_gaps_and_only_those_are_cited() {
    let headings = SEALED.lines().filter_map(|line| line.strip_prefix("**S"));
    let mut rules: Vec<u32> = headings
        .filter_map(|line| line.split_once(".**")?.0.parse().ok())
        .collect();
    rules.sort_unstable();
    assert_eq!(rules, (1..=108).collect::<Vec<_>>());
    let known: BTreeSet<_> = rules.into_iter().collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = vec![("SEALED.md".to_owned(), SEALED.to_owned())];
    sources(&root.join("wire/src/sealed"), &mut found);
    sources(&root.join("overlay/src/seal"), &mut found);
    sources(&root.join("tests/vectors/sealed"), &mut found);
    assert!(found.len() > 25);
    for (file, text) in found {
        let wrong: Vec<_> = cited(&text).difference(&known).copied().collect();
        assert!(wrong.is_empty(), "{file}: {wrong:?}");
    }
}

#[test]
fn a_second_implementation_makes_the_same_bytes_from_the_document_alone() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/strict_sealed");
    let run = Command::new("python3")
        .args(["-B", "-m", "unittest", "discover", "-s", folder])
        .output();
    match run {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.contains("\nOK"), "{said}");
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "python3: {error}");
            println!("skipped: needs python3");
        }
    }
}

#[test]
fn a_session_allocates_nothing_for_what_it_seals_opens_and_refuses() {
    for aead in [Aead::ChaCha20Poly1305, Aead::Aes256Gcm] {
        let [near, far] = session_pair(aead);
        let message = [0x45; 1_400];
        let mut datagram = [0; 1_400 + LINK_OVERHEAD];
        let mut copy = datagram;
        let before = allocations();
        for round in 0..1_000_u64 {
            assert!(near.seal_into(&message, false, &mut datagram).is_ok());
            copy.copy_from_slice(&datagram);
            assert!(far.open(&mut copy).is_ok());
            assert!(far.open(&mut datagram).is_err(), "a replay");
            copy[20] ^= 1;
            assert!(far.open(&mut copy).is_err());
            far.note_heard(Instant(round), true);
        }
        assert_eq!(allocations() - before, 0, "{aead:?}");
    }
}
