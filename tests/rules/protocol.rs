//! PROTOCOL.md and the code say the same numbers, and no rule is cited that there is not.

#![expect(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, yet not in the helpers of an integration test"
)]

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use overlay::budget::Rate;
use overlay::keyed::KeyedHasher;
use overlay::node::config::{
    ALARM_INTERVAL, AMPLIFICATION, ANSWER_SPREAD, CHALLENGE_LIFETIME, CHALLENGE_SPACING,
    DIAL_SCHEDULE, GREET_INTERVAL, INFORM_SCHEDULE, INFORM_SILENCE, LEAVE_AFTER, LEAVE_CHALLENGES,
    LINKS_PER_NEIGHBOR, Limits, REMOTE_LEAVE_AFTER, STRANGER_PROOF_INTERVAL, TELL_SCHEDULE,
    TELLER_BURST, TELLER_INTERVAL, Timers,
};
use overlay::node::flood::ECHO_GRACE;
use overlay::node::neighbor::YIELD;
use overlay::node::seen;
use overlay::route::address::Mesh;
use overlay::route::storm::StormRates;
use overlay::route::tap::Tap;
use overlay::route::{beacon, directory, guard, hold, learned, switch};
use overlay::time::{Duration, Instant};

const PROTOCOL: &str = include_str!("../../wire/PROTOCOL.md");

/// The first two columns of the table of constants.
fn shown() -> Vec<(&'static str, &'static str)> {
    let (_, rest) = PROTOCOL.split_once("\n# Constants\n").unwrap();
    let (table, _) = rest.split_once("\n# ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    let cells = cells.map(|cells| (cells[0].trim_start_matches("| "), cells[1]));
    cells.skip(1).collect()
}

/// Seconds, with as many decimals as it needs.
fn s(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}

/// `1000` as `1,000`.
fn n(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().ok().unwrap().to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups = groups.map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

/// `per_second` and `burst`, which must be those of `rate`.
fn rate(rate: Rate, per_second: u32, burst: u32) -> String {
    assert_eq!(rate, Rate::per_second(per_second, burst));
    format!("{}/s, bursts of {}", n(per_second), n(burst))
}

#[test]
fn every_number_of_the_constants_table_is_the_codes() {
    let limits = Limits::default();
    let timers = Timers::default();
    let storm = StormRates::default();
    let [ask, suspect, dead] = [timers.ping_after, timers.suspect_after, timers.dead_after].map(s);
    let unheard = s(timers.unheard_after);
    let expected = [
        (
            "magic; version",
            format!("`{:02x}`; `{:02x}`", wire::MAGIC, wire::VERSION),
        ),
        (
            "header; Inform payload; Inform datagram",
            format!(
                "{}; {}; {} bytes",
                wire::HEADER_LEN,
                wire::INFORM_LEN,
                wire::INFORM_DATAGRAM_LEN
            ),
        ),
        (
            "largest datagram",
            format!("{} bytes", n(wire::MAX_DATAGRAM)),
        ),
        ("NO_FORWARD", format!("`{:02x}`", wire::Flags::NO_FORWARD.0)),
        (
            "any node; all nodes",
            format!("`{}`; `{}`", wire::NetId::ANY, wire::NetId::ALL),
        ),
        ("UDP port", "44204 (`acac`)".to_owned()),
        (
            "largest datagram originated; device MTU",
            "1,452; 1,400 bytes".to_owned(),
        ),
        ("digest", "at least 64 bits, keyed".to_owned()),
        (
            "digest lifetime; when memory is short",
            format!(
                "{} s; at least {} s",
                s(seen::LIFETIME),
                s(seen::SHORTEST_LIFETIME)
            ),
        ),
        ("longest hold of a message", format!("{} s", s(hold::WAIT))),
        ("links per neighbor", LINKS_PER_NEIGHBOR.to_string()),
        (
            "proof of an unknown endpoint that sends",
            format!("one per {} s", s(STRANGER_PROOF_INTERVAL)),
        ),
        (
            "answer to Hellos of one candidate",
            format!("one per {} s", s(GREET_INTERVAL)),
        ),
        (
            "bytes to an unproved endpoint",
            format!("{AMPLIFICATION} times those received"),
        ),
        ("age of a challenge", format!("{} s", s(CHALLENGE_LIFETIME))),
        (
            "Hellos read",
            format!(
                "{}/s; {}/s per endpoint",
                n(limits.hellos),
                limits.hellos_per_endpoint
            ),
        ),
        (
            "challenges sent",
            format!(
                "{}/s; {}/s per endpoint",
                limits.challenges,
                1.0 / s(CHALLENGE_SPACING)
            ),
        ),
        (
            "dialing a configured peer",
            format!(
                "{} s, then {} s +-20 %",
                list(DIAL_SCHEDULE.map(s)),
                s(timers.redial)
            ),
        ),
        (
            "dialing an informed endpoint",
            format!(
                "{} s, then silence for {} min",
                list(INFORM_SCHEDULE.map(s)),
                s(INFORM_SILENCE) / 60.0
            ),
        ),
        ("unsolicited Hello", "1 Hello, 2 challenges".to_owned()),
        ("live neighbors", "256".to_owned()),
        ("degree; accepted", "6; 12".to_owned()),
        ("ask; suspect; dead", format!("{ask}; {suspect}; {dead} s")),
        (
            "asked again; the higher netid later by",
            format!("{} s; {} s", ask / 3.0, s(YIELD)),
        ),
        (
            "silence after sending; again",
            format!(
                "{unheard} s; after {unheard}, {}, {} s",
                2.0 * unheard,
                ask / 2.0
            ),
        ),
        (
            "Pong to a Ping to all",
            format!(
                "after 0 to {} ms; {}/s, bursts of {}",
                ANSWER_SPREAD.as_millis(),
                limits.pongs_to_all,
                3 * limits.pongs_to_all
            ),
        ),
        (
            "Pong to a Ping to us",
            format!(
                "{}/s, bursts of {}, per src; {}/s",
                limits.pongs_per_origin,
                2 * limits.pongs_per_origin,
                limits.pongs
            ),
        ),
        (
            "Informs to and of a new neighbor; later",
            format!(
                "8 and 8 at {} s; one pair per {} s",
                list(TELL_SCHEDULE.map(s)),
                s(timers.inform)
            ),
        ),
        (
            "Informs of one teller",
            format!("{}/s, bursts of {TELLER_BURST}", 1.0 / s(TELLER_INTERVAL)),
        ),
        (
            "Inform probes of a /24 or /56",
            format!(
                "{} at once, then {}/s",
                limits.inform_burst, limits.informs_per_prefix
            ),
        ),
        (
            "Inform probes in all; awaiting proof",
            format!("16 at once, then 2/s; {}", limits.informed_in_flight),
        ),
        ("Goodbyes; apart", "2; 20 ms".to_owned()),
        (
            "leaving: asked; given up",
            format!("{} s; {} s", list(LEAVE_CHALLENGES.map(s)), s(LEAVE_AFTER)),
        ),
        (
            "Goodbye from elsewhere",
            format!("purged after {} s", s(REMOTE_LEAVE_AFTER)),
        ),
        (
            "netid conflict: alarm; quiet after start",
            format!("once per {} s; {} s", s(ALARM_INTERVAL), s(ECHO_GRACE)),
        ),
        (
            "learned address; contested",
            format!("{} s; {} s", s(learned::LIFETIME), s(learned::HELD)),
        ),
        (
            "learned MAC; moves; held",
            format!(
                "{} s; {} in {} s; {} s",
                s(switch::LIFETIME),
                switch::MAX_MOVES,
                s(switch::MOVES_WINDOW),
                s(switch::MOVES_HELD)
            ),
        ),
        (
            "storm control: broadcast and unknown; multicast",
            format!(
                "{}; {}",
                rate(storm.broadcast, 1_000, 2_000),
                rate(storm.multicast, 20_000, 40_000)
            ),
        ),
        (
            "beacon; hurried; token and frames remembered; blocked",
            format!(
                "{} s; {}; {} s; {} s",
                s(beacon::INTERVAL),
                rate(beacon::HURRIED, 2, 8),
                s(guard::KEPT),
                s(switch::BLOCKED)
            ),
        ),
        (
            "directory version; mesh hash; parts of a set",
            format!(
                "`{:02x}`; 8 bytes; {}",
                directory::codec::VERSION,
                directory::codec::MAX_PARTS
            ),
        ),
        (
            "claims flooded",
            format!(
                "every {} s +-10 %; at 0, {} s after a link came up, once a second",
                s(directory::ANNOUNCE_INTERVAL),
                list(directory::ANNOUNCE_AGAIN.map(s))
            ),
        ),
        (
            "a neighbor answered; of another set",
            format!(
                "{} s; {} ms",
                s(directory::ANSWER_SPACING),
                directory::RESTART_SPACING.as_millis()
            ),
        ),
        (
            "hearsay pushed; payload",
            format!(
                "{} entries; {} bytes",
                directory::MAX_TOLD,
                n(directory::codec::MAX_PAYLOAD)
            ),
        ),
        (
            "claim fresh; then stale",
            format!(
                "{} s; {} s",
                s(directory::LIFETIME),
                s(directory::STALE_LIFETIME)
            ),
        ),
        (
            "claims told apart by netid",
            format!("first heard within {} s", s(directory::SIMULTANEOUS)),
        ),
        (
            "claims kept: in all; of a netid; of a prefix",
            format!(
                "{}; {}; {}",
                n(directory::MAX_CLAIMS),
                directory::MAX_OF_ONE,
                directory::MAX_RIVALS
            ),
        ),
    ];
    assert_eq!(s(directory::ANNOUNCE_SPACING), 1.0);
    assert_eq!(beacon::TOKEN_LIFETIME, guard::KEPT);
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, value)| (*name, &value[..]))
        .collect();
    for (shown, expected) in shown().iter().zip(&expected) {
        assert_eq!(shown, expected);
    }
    assert_eq!(shown().len(), expected.len());
}

/// What the daemon takes from its configuration is not the node's default but the configuration's.
#[cfg(feature = "daemon")]
#[test]
fn the_daemons_defaults_are_the_nodes() {
    use overlay::daemon::config;
    let (ours, theirs) = (config::Limits::default(), Limits::default());
    assert_eq!(config::PORT, 44_204);
    assert_eq!(ours.hello_per_second, theirs.hellos);
    assert_eq!(ours.hello_per_endpoint, theirs.hellos_per_endpoint);
    assert_eq!(ours.challenges_per_second, theirs.challenges);
    assert_eq!(ours.inform_burst, theirs.inform_burst);
    assert_eq!(ours.inform_per_second, theirs.informs_per_prefix);
    assert_eq!(ours.ping_per_source, theirs.pongs_per_origin);
    assert_eq!(ours.ping_total, theirs.pongs);
    assert_eq!(ours.ping_all, theirs.pongs_to_all);
    let (ours, theirs) = (config::Timers::default(), Timers::default());
    assert_eq!(ours.ping_after, theirs.ping_after);
    assert_eq!(ours.suspect_after, theirs.suspect_after);
    assert_eq!(ours.dead_after, theirs.dead_after);
    assert_eq!(ours.redial, theirs.redial);
    let (ours, theirs) = (config::Storm::default(), StormRates::default());
    let rate = |per_second| Rate::per_second(per_second, 2 * per_second);
    assert_eq!(rate(ours.broadcast), theirs.broadcast);
    assert_eq!(rate(ours.multicast), theirs.multicast);
}

/// Numbers of rules cited in `text`: `R7`, `D2`, and both ends of `R40 to R46`.
fn cited(text: &str) -> BTreeSet<(char, u32)> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words
        .filter_map(|word| {
            let letter = word.chars().next().filter(|c| matches!(c, 'R' | 'D'))?;
            Some((letter, word.get(1..)?.parse().ok()?))
        })
        .collect()
}

#[test]
fn rules_are_numbered_without_gaps_and_only_those_are_cited() {
    let headings = PROTOCOL.lines().filter(|line| line.starts_with("**"));
    let rules: Vec<(char, u32)> = headings
        .filter_map(|line| line[2..].split_once(".**"))
        .flat_map(|(name, _)| cited(name))
        .collect();
    let numbers = |letter| {
        let of_letter = rules.iter().filter(move |rule| rule.0 == letter);
        of_letter.map(|rule| rule.1).collect::<Vec<_>>()
    };
    assert_eq!(numbers('R'), (1..=71).collect::<Vec<_>>());
    assert_eq!(numbers('D'), (1..=9).collect::<Vec<_>>());
    let known: BTreeSet<_> = rules.into_iter().collect();
    let vectors = [
        include_str!("../vectors/README.md"),
        include_str!("../vectors/forwarding.txt"),
        include_str!("../vectors/invalid.txt"),
    ];
    for text in vectors.into_iter().chain([PROTOCOL]) {
        let wrong: Vec<_> = cited(text).difference(&known).copied().collect();
        assert_eq!(wrong, []);
    }
}

#[test]
fn r70_a_beacon_has_the_bytes_that_are_drawn() {
    let (us, mesh) = (wire::NetId(0x2a), Mesh::default());
    let keys = KeyedHasher(1, 2);
    let switch = switch::Switch::new(us, mesh, StormRates::default(), keys);
    let mut tap = Tap::new(1_400, Arc::new(switch));
    let mut frame = [0xA5; 64];
    assert_eq!(tap.beacon(Instant::ZERO, &mut frame), Some(60));
    let mesh = mesh.hash.to_be_bytes();
    let token = &frame[30..38];
    let drawn: [&[u8]; 8] = [
        &[0xFF; 6],
        b"\x06\xac\0\0\0\x2a",
        b"\x88\xb5",
        b"\xac\x01\x6c\x6f",
        &mesh,
        b"\0\0\0\x2a",
        token,
        &[0; 22],
    ];
    assert_eq!(frame[..60], drawn.concat());
    assert_eq!(frame[60..], [0xA5; 4]);
}
