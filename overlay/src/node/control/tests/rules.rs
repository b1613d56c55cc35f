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
fn r46_a_node_that_became_full_challenges_no_stranger_that_was_before() {
    let mut config = config(US);
    config.degree = 1;
    let mut bench = Bench::with(config);
    bench.connect("8.8.1.1:9", NetId(1));
    bench.hello("8.8.3.3:9", NetId(3));
    bench.connect("8.8.2.2:9", NetId(2));
    let later = bench.run_for(5);
    assert_eq!(sends(of(&later)), [], "nor the second challenge");
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
