//! Rules of PROTOCOL.md, by number, that no other test here would miss.

use super::*;
use crate::node::config::{CHALLENGE_LIFETIME, DIAL_SCHEDULE};

const MICRO: Duration = Duration::from_micros(1);

impl Bench {
    /// A Pong of `src` to `dst`, from an endpoint.
    fn pong(&mut self, from: &str, src: NetId, dst: NetId) -> Vec<Effect> {
        let pong = message(Kind::Pong, Flags::NO_FORWARD, 2, src, dst);
        self.receive(from, &pong)
    }

    /// Until `until`, and all links are heard of in every second.
    fn run_heard(&mut self, seconds: u64) -> Vec<(Instant, Effect)> {
        let mut done = Vec::new();
        for _ in 0..seconds {
            for link in self.control.links() {
                link.stats.heard(self.now, 16);
            }
            done.extend(self.run_for(1));
        }
        done
    }
}

fn kinds<'e>(effects: impl IntoIterator<Item = &'e Effect>) -> Vec<Kind> {
    let sent = sends(effects);
    sent.iter().map(|(header, _)| header.kind).collect()
}

fn count<'e>(effects: impl IntoIterator<Item = &'e Effect>, kind: Kind) -> usize {
    let of_kind = kinds(effects).into_iter().filter(|one| *one == kind);
    of_kind.count()
}

fn of(done: &[(Instant, Effect)]) -> impl Iterator<Item = &Effect> {
    done.iter().map(|(_, effect)| effect)
}

#[test]
fn r25_a_fifth_endpoint_of_a_named_peer_pushes_no_live_link_out() {
    let mut bench = Bench::new();
    let addresses: Vec<SocketAddr> = (1..=5)
        .map(|n| format!("8.8.8.{n}:9").parse().unwrap())
        .collect();
    bench
        .control
        .set_peer(bench.now, 0, &addresses, false, &mut bench.effects);
    let mut done: Vec<Effect> = bench.effects.drain().collect();
    // Every endpoint answers every challenge at once, for two minutes.
    for _ in 0..120 {
        let asked = sends(&done).into_iter();
        let mut ran = Vec::new();
        for (ping, to) in asked.filter(|(header, _)| header.kind == Kind::Ping) {
            ran.extend(bench.pong(&to.to_string(), THEM, ping.src));
        }
        ran.extend(of(&bench.run_heard(1)).cloned());
        let lost = |effect: &Effect| matches!(effect, Effect::Event(Event::LinkDown(..)));
        assert!(!ran.iter().any(lost), "at {:?}", bench.now);
        done = ran;
    }
    assert_eq!(bench.links().len(), 4);
    // And when one of the four is gone the fifth takes its place.
    let silent = bench.control.links().next().unwrap().path.endpoint.remote;
    for _ in 0..120 {
        for link in bench.control.links() {
            if link.path.endpoint.remote != silent {
                link.stats.heard(bench.now, 16);
            }
        }
        let ran = bench.run_for(1);
        for (header, to) in sends(of(&ran)) {
            if header.kind == Kind::Ping && to != silent {
                bench.pong(&to.to_string(), THEM, header.src);
            }
        }
    }
    assert_eq!(bench.links().len(), 4);
    let mut links = bench.control.links();
    assert!(links.all(|link| link.path.endpoint.remote != silent));
}

#[test]
fn r29_a_hello_stays_and_names_the_far_netid_when_it_is_known() {
    let mut bench = Bench::new();
    let of_stranger = bench.hello("8.8.8.8:9", THEM);
    let of_named = bench.named(0, "9.9.9.9:9");
    for (effects, dst) in [(of_stranger, THEM), (of_named, NetId::ANY)] {
        let (hello, _) = sends(&effects)[0];
        assert_eq!((hello.kind, hello.src, hello.dst), (Kind::Hello, US, dst));
        assert_eq!(hello.flags, Flags::NO_FORWARD);
    }
}

#[test]
fn r30_a_strangers_hellos_are_answered_by_one_hello_in_10_s() {
    let mut bench = Bench::new();
    let mut hellos = Vec::new();
    let start = bench.now;
    for _ in 0..300 {
        let at = bench.now.since(start).as_millis();
        let at_once = bench.hello("8.8.8.8:9", THEM);
        let later = bench.run_until(bench.now + Duration::from_millis(100));
        for _ in 0..count(at_once.iter().chain(of(&later)), Kind::Hello) {
            hellos.push(at);
        }
    }
    assert_eq!(hellos, [0, 10_000, 20_000]);
}

#[test]
fn r30_a_stranger_whose_challenge_waits_for_its_budget_is_greeted_once() {
    let mut config = config(US);
    config.limits.challenges = 1;
    let mut bench = Bench::with(config);
    bench.hello("7.7.7.7:9", NetId(0x77));
    // The budget of this second is spent.
    let mut done = bench.hello("8.8.8.8:9", THEM);
    assert_eq!(kinds(&done), [Kind::Hello]);
    done.extend(of(&bench.run_for(9)).cloned());
    let to: SocketAddr = "8.8.8.8:9".parse().unwrap();
    let sent = sends(&done);
    let kinds = sent.iter().filter(|(_, at)| *at == to);
    let kinds: Vec<Kind> = kinds.map(|(header, _)| header.kind).collect();
    assert_eq!(kinds, [Kind::Hello, Kind::Ping, Kind::Ping]);
}

#[test]
fn r31_a_neighbors_hello_changes_nothing_and_is_answered_once_in_10_s() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    // We greeted it when it was proved.
    assert_eq!(bench.hello("8.8.8.8:9", THEM), []);
    bench.run_heard(10);
    assert_eq!(kinds(&bench.hello("8.8.8.8:9", THEM)), [Kind::Hello]);
    assert_eq!(bench.hello("8.8.8.8:9", THEM), []);
    assert_eq!(bench.links(), [(THEM, LinkState::Live)]);
}

#[test]
fn r32_a_forwarded_hello_binds_nothing_and_starts_no_proof() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    for dst in [US, NetId::ALL] {
        let forwarded = message(Kind::Hello, Flags::NONE, 1, NetId(0x66), dst);
        assert_eq!(bench.receive("8.8.8.8:9", &forwarded), []);
    }
    assert_eq!(bench.control.candidates().count(), 0);
    assert_eq!(bench.links(), [(THEM, LinkState::Live)]);
}

#[test]
fn r37_a_challenge_proves_for_10_s() {
    for (late, links) in [(Duration::ZERO, 1), (MICRO, 0)] {
        let mut bench = Bench::new();
        bench.named(0, "8.8.8.8:9");
        // The last challenge before the one at 45 s is that of 8 s.
        let done = bench.run_until(bench.now + DIAL_SCHEDULE[6]);
        let at_8_s: Vec<Effect> = of(&done).cloned().collect();
        let (challenge, _) = sends(&at_8_s).pop().unwrap();
        assert_ne!(challenge.src, US);
        bench.run_until(bench.now + CHALLENGE_LIFETIME + late);
        bench.pong("8.8.8.8:9", THEM, challenge.src);
        assert_eq!(bench.links().len(), links, "{late:?} late");
    }
}

#[test]
fn r37_a_pong_to_our_netid_proves_a_named_peer_only_when_we_asked_in_our_name() {
    let mut bench = Bench::new();
    let dialed = bench.named(0, "8.8.8.8:9");
    assert!(challenge_in(&dialed).is_some(), "the first is a challenge");
    bench.pong("8.8.8.8:9", THEM, US);
    assert_eq!(bench.links(), []);
    let done = bench.run_until(bench.now + DIAL_SCHEDULE[1]);
    let asked = sends(of(&done)).pop().unwrap().0;
    assert_eq!((asked.kind, asked.src), (Kind::Ping, US));
    bench.pong("8.8.8.8:9", THEM, US);
    assert_eq!(bench.links(), [(THEM, LinkState::Live)]);
}

#[test]
fn r39_challenge_netids_are_fresh_and_nobodys() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    let mut drawn = std::collections::BTreeSet::new();
    for n in 0..500_u32 {
        let asked = bench.hello(
            &format!("9.{}.{}.9:9", n / 250, n % 250),
            NetId(0x1_0000 + n),
        );
        let challenge = challenge_in(&asked).unwrap();
        assert!(challenge.is_node() && challenge != US && challenge != THEM);
        assert!(drawn.insert(challenge));
        let (header, _) = sends(&asked).pop().unwrap();
        assert!(header.flags == Flags::NO_FORWARD && header.dst == NetId::ANY);
        bench.run_until(bench.now + Duration::from_millis(2));
    }
    // High bits and low bits differ: they are drawn from all netids.
    assert!(drawn.iter().any(|netid| netid.0 > 0xF000_0000));
    assert!(drawn.iter().any(|netid| netid.0 < 0x1000_0000));
    assert!(
        !bench
            .control
            .remotes()
            .any(|(netid, _)| drawn.contains(&netid))
    );
}

#[test]
fn r40_an_endpoint_gets_one_challenge_a_second_however_it_came_to_be_tried() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    bench.receive("8.8.8.8:9", &inform(THEM, 0x77, "9.9.9.9:9999"));
    let mut challenges = Vec::new();
    // Half a second before its schedule has one.
    bench.run_until(bench.now + Duration::from_millis(500));
    for _ in 0..60 {
        let mut done = bench.hello("9.9.9.9:9999", NetId(0x77));
        bench.stats(THEM).heard(bench.now, 16);
        let at = bench.now;
        let until = at + Duration::from_millis(90);
        let later = bench.run_until(until);
        challenges.extend((0..count(&done, Kind::Ping)).map(|_| at));
        done.clear();
        for (at, effect) in &later {
            challenges.extend((0..count([effect], Kind::Ping)).map(|_| *at));
        }
    }
    assert!(challenges.len() >= 3, "{challenges:?}");
    for pair in challenges.windows(2) {
        let apart = pair[1].since(pair[0]);
        assert!(apart >= Duration::from_secs(1), "{challenges:?}");
    }
}

#[test]
fn r41_a_remembered_neighbor_is_dialed_as_a_named_one_until_it_is_live_and_again_when_it_died() {
    let mut bench = Bench::new();
    let address = "8.8.8.8:9".parse().unwrap();
    bench
        .control
        .remember(bench.now, &[address], &mut bench.effects);
    bench.effects.clear();
    bench.run_for(20);
    let later = bench.run_for(100);
    let later: Vec<Effect> = of(&later).cloned().collect();
    let hellos = count(&later, Kind::Hello);
    assert!((2..=5).contains(&hellos), "every 30 s +-20 %: {hellos}");
    // Two minutes after the start it is there.
    let mut done = later;
    for _ in 0..40 {
        if let Some(challenge) = challenge_in(&done) {
            bench.pong("8.8.8.8:9", THEM, challenge);
        }
        done = of(&bench.run_for(1)).cloned().collect();
        if !bench.links().is_empty() {
            break;
        }
    }
    assert_eq!(bench.links(), [(THEM, LinkState::Live)]);
    let silent = bench.run_for(46);
    let down =
        of(&silent).position(|effect| matches!(effect, Effect::Event(Event::NeighborDown(..))));
    let after = of(&silent).skip(down.unwrap());
    assert_eq!(kinds(after)[..2], [Kind::Hello, Kind::Ping]);
}

#[test]
fn r41_a_full_node_does_not_dial_whom_it_remembers() {
    let mut config = config(US);
    config.degree = 1;
    let mut bench = Bench::with(config);
    bench.connect("8.8.1.1:9", NetId(1));
    bench.connect("8.8.2.2:9", NetId(2));
    let address = "8.8.8.8:9".parse().unwrap();
    bench
        .control
        .remember(bench.now, &[address], &mut bench.effects);
    let mut done: Vec<Effect> = bench.effects.drain().collect();
    done.extend(of(&bench.run_heard(60)).cloned());
    let to_it = sends(&done).into_iter().filter(|(_, to)| *to == address);
    assert_eq!(to_it.count(), 0);
    // Nor is its challenge answered (R46): it would have a link that we do not have.
    let challenge = message(Kind::Ping, Flags::NO_FORWARD, 7, NetId(0x5eed), NetId::ANY);
    assert_eq!(sends(&bench.receive("8.8.8.8:9", &challenge)), []);
}

#[test]
fn r42_an_informed_endpoint_gets_three_datagrams_of_16_bytes_and_their_kinds() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    let victim: SocketAddr = "9.9.9.9:9999".parse().unwrap();
    let start = bench.now;
    let at_once = bench.receive("8.8.8.8:9", &inform(THEM, 0x77, "9.9.9.9:9999"));
    let mut trace: Vec<_> = at_once.into_iter().map(|effect| (start, effect)).collect();
    trace.extend(bench.run_heard(599));
    // Told again and again, within ten minutes.
    trace.extend(
        bench
            .receive("8.8.8.8:9", &inform(THEM, 0x77, "9.9.9.9:9999"))
            .into_iter()
            .map(|effect| (start, effect)),
    );
    let mut sent = Vec::new();
    for (at, effect) in &trace {
        if let Effect::Send { path, datagram, .. } = effect
            && path.endpoint.remote == victim
        {
            let header = Header::parse(datagram.bytes()).unwrap();
            assert_eq!(datagram.bytes().len(), 16);
            sent.push((at.since(start).as_millis(), header.kind));
        }
    }
    let expected = [(0, Kind::Hello), (1_000, Kind::Ping), (4_000, Kind::Hello)];
    assert_eq!(sent, expected);
}

#[test]
fn r44_beyond_its_most_neighbors_a_node_takes_only_named_peers() {
    let mut config = config(US);
    (config.degree, config.max_neighbors) = (200, 2);
    let mut bench = Bench::with(config);
    bench.connect("8.8.1.1:9", NetId(1));
    bench.connect("8.8.2.2:9", NetId(2));
    let refused = bench.hello("8.8.3.3:9", NetId(3));
    let endpoint = path("8.8.3.3:9").endpoint;
    let reason = Refusal::MaxNeighbors;
    assert_eq!(
        refused,
        [Effect::Event(Event::Refused { endpoint, reason })]
    );
    bench.named_and_asked(0, "8.8.4.4:9");
    bench.pong("8.8.4.4:9", NetId(4), US);
    assert_eq!(bench.links().len(), 3);
}

#[test]
fn r45_informs_are_followed_only_while_fewer_than_the_degree_are_live() {
    for (degree, dialed) in [(1, 0), (2, 1)] {
        let mut config = config(US);
        config.degree = degree;
        let mut bench = Bench::with(config);
        bench.connect("8.8.8.8:9", THEM);
        let done = bench.receive("8.8.8.8:9", &inform(THEM, 0x77, "9.9.9.9:9999"));
        assert_eq!(count(&done, Kind::Hello), dialed, "degree {degree}");
    }
}

#[test]
fn r46_a_node_that_became_full_challenges_no_stranger_that_was_before() {
    let mut config = config(US);
    config.degree = 1;
    let mut bench = Bench::with(config);
    bench.connect("8.8.1.1:9", NetId(1));
    bench.hello("8.8.3.3:9", NetId(3));
    bench.connect("8.8.2.2:9", NetId(2));
    let later = bench.run_for(5);
    let stranger: SocketAddr = "8.8.3.3:9".parse().unwrap();
    let to_it = sends(of(&later))
        .into_iter()
        .filter(|(_, to)| *to == stranger);
    assert_eq!(to_it.count(), 0, "nor the second challenge");
    assert!(sends(&bench.hello("8.8.3.3:9", NetId(3))).is_empty());
}

#[test]
fn r49_a_direct_pong_has_no_forward_as_its_ping() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    for (from, src) in [("8.8.8.8:9", THEM), ("7.7.7.7:9", NetId(0x77))] {
        for flags in [Flags::NONE, Flags::NO_FORWARD] {
            let ping = message(Kind::Ping, flags, 7, src, NetId::ANY);
            let (pong, to) = sends(&bench.receive(from, &ping))[0];
            assert_eq!((pong.kind, pong.src, pong.dst), (Kind::Pong, US, src));
            assert_eq!(pong.flags, flags, "to {from}");
            assert_eq!(to.to_string(), from);
        }
    }
}

#[test]
fn r50_a_forwardable_ping_to_us_is_answered_by_a_flood_and_a_strangers_to_its_endpoint() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    for src in [THEM, NetId(0x99)] {
        let ping = message(Kind::Ping, Flags::NONE, 7, src, US);
        let done = bench.receive("8.8.8.8:9", &ping);
        let [Effect::Flood(pong)] = &done[..] else {
            panic!("{done:?}");
        };
        let pong = Header::parse(pong.bytes()).unwrap();
        assert_eq!((pong.dst, pong.flags), (src, Flags::NONE));
    }
    let ping = message(Kind::Ping, Flags::NONE, 7, NetId(0x77), US);
    let done = bench.receive("7.7.7.7:9", &ping);
    assert!(!done.iter().any(|effect| matches!(effect, Effect::Flood(_))));
    assert_eq!(sends(&done)[0].1.to_string(), "7.7.7.7:9");
}

#[test]
fn r53_pings_of_many_nodes_are_answered_500_times_a_second_in_all() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    let mut answered = |seconds, from: u32, nodes: u32| {
        bench.now = bench.now + Duration::from_secs(seconds);
        let answered = (0..2_000).filter(|n| {
            let ping = message(Kind::Ping, Flags::NONE, 1, NetId(from + n % nodes), US);
            !bench.receive("8.8.8.8:9", &ping).is_empty()
        });
        answered.count()
    };
    assert_eq!(answered(0, 0x100, 100), 500);
    assert_eq!(answered(1, 0x99, 1), 100);
    assert_eq!(answered(1, 0x99, 1), 50);
}

#[test]
fn r57_a_teller_has_16_informs_at_once_and_then_one_in_10_s() {
    let mut config = config(US);
    config.limits.informed_in_flight = 10_000;
    let mut bench = Bench::with(config);
    bench.connect("8.8.8.8:9", THEM);
    let mut number = 0_u32;
    let mut followed = |bench: &mut Bench| {
        let mut followed = 0;
        for _ in 0..50 {
            number += 1;
            let address = format!("9.{}.{}.9:9999", number / 250, number % 250);
            let told = inform(THEM, 0x1_0000 + number, &address);
            followed += usize::from(!sends(&bench.receive("8.8.8.8:9", &told)).is_empty());
        }
        followed
    };
    assert_eq!(followed(&mut bench), 16);
    bench.run_heard(9);
    assert_eq!(followed(&mut bench), 0);
    bench.run_heard(1);
    assert_eq!(followed(&mut bench), 1);
}

#[test]
fn r57_a_rumour_makes_no_node() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    bench.receive("8.8.8.8:9", &inform(THEM, 0x77, "9.9.9.9:9999"));
    let remotes: Vec<_> = bench.control.remotes().map(|(netid, _)| netid).collect();
    assert_eq!(remotes, [THEM]);
    bench.control.handle_heard(bench.now, NetId(0x78), THEM);
    bench.receive("8.8.8.8:9", &inform(THEM, 0x78, "9.9.9.8:9999"));
    let mut remotes = bench.control.remotes();
    let (_, told) = remotes.find(|(netid, _)| *netid == NetId(0x78)).unwrap();
    assert_eq!(told.hint, Some("9.9.9.8:9999".parse().unwrap()));
}

#[test]
fn r58_half_of_the_degree_at_most_are_neighbors_by_the_word_of_one_teller() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    bench.connect("7.7.7.7:9", NetId(0x0c));
    let mut told_by = |from: &str, teller, number: u32| {
        let (subject, address) = (0x100 + number, format!("9.{number}.9.9:9999"));
        let told = inform(teller, subject, &address);
        let dialed = !sends(&bench.receive(from, &told)).is_empty();
        if dialed {
            bench.connect(&address, NetId(subject));
        }
        dialed
    };
    let followed: Vec<bool> = (0..4).map(|n| told_by("8.8.8.8:9", THEM, n)).collect();
    assert_eq!(followed, [true, true, true, false]);
    // Five of six are live: there is room for one on another's word.
    assert!(told_by("7.7.7.7:9", NetId(0x0c), 4));
    assert!(!told_by("7.7.7.7:9", NetId(0x0c), 5));
}

#[test]
fn r60_two_goodbyes_go_to_all_with_fresh_nonces_and_nothing_after_them() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    let mut nonces = Vec::new();
    for _ in 0..2 {
        bench.control.say_goodbye(&mut bench.effects);
        let done: Vec<Effect> = bench.effects.drain().collect();
        let [Effect::Flood(goodbye)] = &done[..] else {
            panic!("{done:?}");
        };
        let header = Header::parse(goodbye.bytes()).unwrap();
        assert_eq!((header.kind, header.flags), (Kind::Goodbye, Flags::NONE));
        assert_eq!((header.src, header.dst), (US, NetId::ALL));
        nonces.push(header.nonce);
    }
    assert_ne!(nonces[0], nonces[1]);
    let ping = message(Kind::Ping, Flags::NO_FORWARD, 7, THEM, US);
    assert_eq!(bench.receive("8.8.8.8:9", &ping), []);
    assert_eq!(bench.control.next_timeout(), None);
}

#[test]
fn r61_a_goodbye_from_elsewhere_purges_a_node_that_is_silent_for_10_s() {
    let goodbye = |dst, flags| message(Kind::Goodbye, flags, 9, NetId(0x99), dst);
    let purged = |bench: &mut Bench, seconds| {
        let gone = Effect::Event(Event::RemoteGone(NetId(0x99)));
        let done = bench.run_heard(seconds);
        of(&done).any(|effect| *effect == gone)
    };
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    bench.control.handle_heard(bench.now, NetId(0x99), THEM);
    bench.receive("8.8.8.8:9", &goodbye(NetId::ALL, Flags::NONE));
    assert!(!purged(&mut bench, 9));
    assert!(purged(&mut bench, 2));
    // Heard again it stays.
    bench.control.handle_heard(bench.now, NetId(0x99), THEM);
    bench.receive("8.8.8.8:9", &goodbye(NetId::ALL, Flags::NONE));
    bench.run_heard(5);
    bench.control.handle_heard(bench.now, NetId(0x99), THEM);
    assert!(!purged(&mut bench, 20));
    // One that nobody forwarded, and that is not its sender's, is a forgery.
    bench.receive("8.8.8.8:9", &goodbye(NetId::ANY, Flags::NO_FORWARD));
    assert!(!purged(&mut bench, 20));
    assert_eq!(bench.counters.dropped(DropReason::SpoofedControl), 1);
}

#[test]
fn r62_a_conflict_is_an_alarm_once_a_minute() {
    let mut bench = Bench::new();
    let mut alarms = 0;
    for _ in 0..121 {
        let effects = &mut bench.effects;
        bench
            .control
            .handle_conflict(bench.now, &path("8.8.8.8:9"), effects);
        alarms += bench.effects.drain().count();
        bench.now = bench.now + Duration::from_secs(1);
    }
    assert_eq!(alarms, 3);
}
