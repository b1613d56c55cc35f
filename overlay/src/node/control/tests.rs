//! Control as a machine: inputs and times in, the whole list of effects out.

mod rules;

use super::*;
use crate::node::config::Socket;
use crate::node::effect::Refusal;
use wire::{Header, Inform};

const US: NetId = NetId(0x0a);
const THEM: NetId = NetId(0x0b);

fn config(netid: NetId) -> NodeConfig {
    NodeConfig {
        netid,
        sockets: vec![Socket {
            id: crate::id::SocketId(0),
            local: "0.0.0.0:44204".parse().unwrap(),
        }],
        degree: 6,
        max_neighbors: 256,
        allow_inform: Vec::new(),
        overlay: vec!["fd01::/64".parse().unwrap()],
        largest: 0,
        timers: Default::default(),
        limits: Default::default(),
        seed: [netid.0 as u8; 32],
    }
}

struct Bench {
    control: Control,
    counters: Arc<Counters>,
    effects: Effects,
    now: Instant,
}

fn path(text: &str) -> Path {
    Path::to(Endpoint::new(crate::id::SocketId(0), text.parse().unwrap()))
}

fn message(kind: Kind, flags: Flags, nonce: u32, src: NetId, dst: NetId) -> Small {
    Small::header(kind, flags, nonce, src, dst)
}

impl Bench {
    fn new() -> Self {
        Self::with(config(US))
    }

    fn with(config: NodeConfig) -> Self {
        let counters = Arc::new(Counters::default());
        let now = Instant::from_secs(100);
        let control = Control::new(now, config, counters.clone());
        Self {
            control,
            counters,
            effects: Effects::default(),
            now,
        }
    }

    fn receive(&mut self, from: &str, datagram: &Small) -> Vec<Effect> {
        let arrival = Arrival {
            path: path(from),
            duplicate: false,
        };
        let effects = &mut self.effects;
        self.control
            .handle_datagram(self.now, &arrival, datagram.bytes(), effects);
        effects.drain().collect()
    }

    fn hello(&mut self, from: &str, src: NetId) -> Vec<Effect> {
        self.receive(
            from,
            &message(Kind::Hello, Flags::NO_FORWARD, 1, src, NetId::ANY),
        )
    }

    /// Dials a named peer until it was asked in our own name, too.
    fn named_and_asked(&mut self, peer: usize, address: &str) {
        self.named(peer, address);
        self.run_until(self.now + Duration::from_millis(250));
    }

    fn named(&mut self, peer: usize, address: &str) -> Vec<Effect> {
        let address = address.parse().unwrap();
        self.control
            .set_peer(self.now, peer, &[address], false, &mut self.effects);
        self.effects.drain().collect()
    }

    /// Runs all deadlines up to `until`, and notes what was done when.
    fn run_until(&mut self, until: Instant) -> Vec<(Instant, Effect)> {
        let mut done = Vec::new();
        while let Some(at) = self.control.next_timeout().filter(|at| *at <= until) {
            assert!(
                at >= self.now,
                "a deadline in the past: {at:?} at {:?}",
                self.now
            );
            self.now = at;
            self.control.handle_timeout(at, &mut self.effects);
            done.extend(self.effects.drain().map(|effect| (at, effect)));
        }
        self.now = until;
        done
    }

    fn run_for(&mut self, seconds: u64) -> Vec<(Instant, Effect)> {
        self.run_until(self.now + Duration::from_secs(seconds))
    }

    /// Makes `src` at `from` a live neighbor, by answering the challenge.
    fn connect(&mut self, from: &str, src: NetId) -> Vec<Effect> {
        let asked = self.hello(from, src);
        let challenge = challenge_in(&asked).expect("a stranger is challenged");
        self.receive(
            from,
            &message(Kind::Pong, Flags::NO_FORWARD, 2, src, challenge),
        )
    }

    fn links(&self) -> Vec<(NetId, LinkState)> {
        self.control
            .links()
            .map(|link| (link.netid, link.state))
            .collect()
    }

    fn stats(&self, netid: NetId) -> Arc<super::super::snapshot::LinkStats> {
        self.control
            .links()
            .find(|link| link.netid == netid)
            .unwrap()
            .stats
    }
}

fn sends<'e>(effects: impl IntoIterator<Item = &'e Effect>) -> Vec<(Header, SocketAddr)> {
    effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Send { path, datagram, .. } => Some((
                Header::parse(datagram.bytes()).unwrap(),
                path.endpoint.remote,
            )),
            _ => None,
        })
        .collect()
}

fn challenge_in(effects: &[Effect]) -> Option<NetId> {
    sends(effects)
        .iter()
        .find(|(header, _)| header.kind == Kind::Ping && header.src != US)
        .map(|(header, _)| header.src)
}

#[test]
fn a_strangers_hello_costs_one_hello_and_two_challenges_and_no_more() {
    let mut bench = Bench::new();
    let at_once = bench.hello("8.8.8.8:9", THEM);
    let kinds: Vec<Kind> = sends(&at_once)
        .iter()
        .map(|(header, _)| header.kind)
        .collect();
    assert_eq!(kinds, [Kind::Hello, Kind::Ping]);
    let later = bench.run_for(600);
    let later: Vec<&Effect> = later.iter().map(|(_, effect)| effect).collect();
    assert_eq!(sends(later).len(), 1, "the second challenge, then silence");
    assert_eq!(bench.links(), []);
    assert_eq!(bench.control.candidates().count(), 0);
}

#[test]
fn a_pong_to_the_challenge_from_its_endpoint_makes_a_neighbor() {
    let mut bench = Bench::new();
    let done = bench.connect("8.8.8.8:9", THEM);
    assert_eq!(bench.links(), [(THEM, LinkState::Live)]);
    assert!(done.contains(&Effect::Event(Event::NeighborUp(THEM))));
    assert_eq!(done.last(), Some(&Effect::Publish));
    assert_eq!(bench.control.neighbors().links().len(), 1);
}

#[test]
fn a_pong_from_elsewhere_or_to_a_guessed_netid_proves_nothing() {
    let mut bench = Bench::new();
    let asked = bench.hello("8.8.8.8:9", THEM);
    let challenge = challenge_in(&asked).unwrap();
    bench.receive(
        "9.9.9.9:9",
        &message(Kind::Pong, Flags::NO_FORWARD, 2, THEM, challenge),
    );
    let guess = NetId(challenge.0 ^ 1);
    bench.receive(
        "8.8.8.8:9",
        &message(Kind::Pong, Flags::NO_FORWARD, 3, THEM, guess),
    );
    bench.receive(
        "8.8.8.8:9",
        &message(Kind::Pong, Flags::NO_FORWARD, 4, THEM, US),
    );
    assert_eq!(bench.links(), []);
    assert_eq!(bench.counters.dropped(DropReason::UnknownPong), 3);
}

#[test]
fn a_named_peer_is_proved_by_a_pong_to_our_own_netid_too() {
    let mut bench = Bench::new();
    bench.named_and_asked(0, "8.8.8.8:9");
    bench.receive(
        "8.8.8.8:9",
        &message(Kind::Pong, Flags::NO_FORWARD, 2, THEM, US),
    );
    assert_eq!(bench.links(), [(THEM, LinkState::Live)]);
}

#[test]
fn a_challenge_to_us_is_answered_to_its_endpoint_and_begins_our_own_proof() {
    let mut bench = Bench::new();
    let ping = message(Kind::Ping, Flags::NO_FORWARD, 7, NetId(0x5eed), NetId::ANY);
    let done = bench.receive("8.8.8.8:9", &ping);
    let [(pong, to), (hello, _), (challenge, _)] = sends(&done)[..] else {
        panic!("{done:?}")
    };
    assert_eq!(
        (pong.kind, pong.src, pong.dst),
        (Kind::Pong, US, NetId(0x5eed))
    );
    assert!(pong.flags.no_forward());
    assert_eq!(to, "8.8.8.8:9".parse().unwrap());
    assert_eq!(
        (hello.kind, hello.dst),
        (Kind::Hello, NetId::ANY),
        "its src may be no netid"
    );
    assert_eq!(challenge.kind, Kind::Ping);
    let later = bench.run_for(60);
    let later = sends(later.iter().map(|(_, effect)| effect));
    assert!(later.is_empty(), "48 bytes for its 16, and no more");
}

#[test]
fn a_full_node_answers_no_stranger_and_says_why_once_a_minute() {
    let mut config = config(US);
    config.degree = 1;
    let mut bench = Bench::with(config);
    bench.connect("8.8.1.1:9", NetId(1));
    bench.connect("8.8.2.2:9", NetId(2));
    let refused = bench.hello("8.8.3.3:9", NetId(3));
    let endpoint = path("8.8.3.3:9").endpoint;
    let reason = Refusal::Degree;
    assert_eq!(
        refused,
        [Effect::Event(Event::Refused { endpoint, reason })]
    );
    let ping = message(Kind::Ping, Flags::NO_FORWARD, 7, NetId(0x5eed), NetId::ANY);
    assert_eq!(bench.receive("8.8.3.3:9", &ping), []);
    assert_eq!(bench.control.refused(bench.now).count(), 1);
    bench.named_and_asked(0, "8.8.4.4:9");
    bench.receive(
        "8.8.4.4:9",
        &message(Kind::Pong, Flags::NO_FORWARD, 2, NetId(4), US),
    );
    assert_eq!(bench.links().len(), 3, "a named peer is always taken");
}

#[test]
fn a_silent_link_is_pinged_and_then_gone_and_a_named_peer_dialed_anew() {
    let mut bench = Bench::new();
    bench.named_and_asked(0, "8.8.8.8:9");
    bench.receive(
        "8.8.8.8:9",
        &message(Kind::Pong, Flags::NO_FORWARD, 2, THEM, US),
    );
    let start = bench.now;
    let done = bench.run_for(60);
    let down = done
        .iter()
        .find(|(_, e)| matches!(e, Effect::Event(Event::NeighborDown(..))));
    assert_eq!(down.unwrap().0, start + Duration::from_secs(45));
    let after = done
        .iter()
        .filter(|(at, _)| *at >= start + Duration::from_secs(45));
    let after: Vec<&Effect> = after.map(|(_, effect)| effect).collect();
    assert_eq!(sends(after)[0].0.kind, Kind::Hello);
}

#[test]
fn a_forged_goodbye_is_challenged_and_undone_by_the_answer() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    bench.receive(
        "8.8.8.8:9",
        &message(Kind::Goodbye, Flags::NONE, 9, THEM, NetId::ALL),
    );
    assert!(matches!(bench.links()[0].1, LinkState::Leaving { .. }));
    assert_eq!(
        bench.control.neighbors().links().len(),
        1,
        "still flooded to"
    );
    let done = bench.run_for(1);
    let pings = done.iter().map(|(_, effect)| effect);
    assert!(!sends(pings).is_empty());
    bench.receive(
        "8.8.8.8:9",
        &message(Kind::Pong, Flags::NO_FORWARD, 3, THEM, US),
    );
    bench.run_for(5);
    assert_eq!(bench.links(), [(THEM, LinkState::Live)]);
}

#[test]
fn a_genuine_goodbye_ends_the_link_in_under_4_s() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    bench.receive(
        "8.8.8.8:9",
        &message(Kind::Goodbye, Flags::NONE, 9, THEM, NetId::ALL),
    );
    let start = bench.now;
    let done = bench.run_for(4);
    let gone = Effect::Event(Event::NeighborDown(THEM, Gone::Goodbye));
    let (at, _) = done.iter().find(|(_, effect)| *effect == gone).unwrap();
    assert_eq!(at.since(start), Duration::from_millis(3_500));
}

#[test]
fn a_goodbye_from_elsewhere_leaves_the_link_alone() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    bench.connect("9.9.9.9:9", NetId(0x0c));
    bench.receive(
        "9.9.9.9:9",
        &message(Kind::Goodbye, Flags::NONE, 9, THEM, NetId::ALL),
    );
    assert!(
        bench
            .links()
            .iter()
            .all(|(_, state)| *state == LinkState::Live)
    );
}

#[test]
fn a_hello_under_another_name_does_not_move_a_live_link() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    bench.hello("8.8.8.8:9", NetId(0x66));
    assert_eq!(bench.links(), [(THEM, LinkState::Live)]);
    bench.run_for(6);
    assert_eq!(bench.links(), [(THEM, LinkState::Live)]);
}

#[test]
fn a_node_that_took_over_an_endpoint_proves_it_and_replaces_the_old_one() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    let asked = bench.hello("8.8.8.8:9", NetId(0x66));
    let challenge = challenge_in(&asked).unwrap();
    bench.receive(
        "8.8.8.8:9",
        &message(Kind::Pong, Flags::NO_FORWARD, 2, NetId(0x66), challenge),
    );
    assert_eq!(bench.links(), [(NetId(0x66), LinkState::Live)]);
}

#[test]
fn a_neighbor_has_four_links_at_the_most_and_live_ones_are_not_pushed_out() {
    let mut bench = Bench::new();
    for n in 1..=4 {
        bench.connect(&format!("8.8.8.{n}:9"), THEM);
    }
    assert_eq!(bench.links().len(), 4);
    let refused = bench.hello("8.8.8.5:9", THEM);
    assert!(sends(&refused).is_empty());
    let set = bench.control.neighbors();
    assert_eq!(set.neighbors(), 1);
    assert_eq!(
        set.except(Some(0)).count(),
        0,
        "not back to the sender skips all of them"
    );
}

fn inform(src: NetId, subject: u32, endpoint: &str) -> Small {
    Small::inform(
        9,
        src,
        US,
        Inform {
            subject: NetId(subject),
            endpoint: endpoint.parse().unwrap(),
        },
    )
}

#[test]
fn ten_thousand_informs_of_one_victim_cost_it_three_datagrams_in_ten_minutes() {
    let mut bench = Bench::new();
    for n in 0..5u32 {
        bench.connect(&format!("8.{n}.8.8:9"), NetId(0x100 + n));
    }
    let mut to_victim = 0;
    for n in 0..10_000u32 {
        let teller = n % 5;
        let victim = format!("9.9.9.9:{}", 2_000 + n % 7_000);
        let done = bench.receive(
            &format!("8.{teller}.8.8:9"),
            &inform(NetId(0x100 + teller), 0x1_0000 + n, &victim),
        );
        to_victim += sends(&done).len();
        let until = bench.now + Duration::from_millis(59);
        for netid in 0..5 {
            bench.stats(NetId(0x100 + netid)).heard(until, 16);
        }
        let done = bench.run_until(until);
        let done = sends(done.iter().map(|(_, effect)| effect));
        to_victim += done
            .iter()
            .filter(|(_, to)| to.ip() == "9.9.9.9".parse::<std::net::IpAddr>().unwrap())
            .count();
    }
    assert_eq!(to_victim, 3);
}

#[test]
fn informs_of_many_addresses_are_bounded_by_what_is_in_flight() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    let mut sent = 0;
    for n in 0..1_000u32 {
        let victim = format!("9.{}.{}.9:9999", n / 250, n % 250);
        sent += sends(&bench.receive("8.8.8.8:9", &inform(THEM, 0x1_0000 + n, &victim))).len();
    }
    assert_eq!(sent, 8);
    assert_eq!(bench.control.candidates().count(), 8);
}

#[test]
fn an_inform_that_is_not_the_neighbors_own_word_is_not_followed() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    let about = Inform {
        subject: NetId(9),
        endpoint: "9.9.9.9:9999".parse().unwrap(),
    };
    assert_eq!(
        bench.receive("8.8.8.8:9", &Small::inform(1, NetId(0xcc), US, about)),
        []
    );
    assert_eq!(
        bench.receive("8.8.8.8:9", &Small::inform(1, THEM, NetId::ALL, about)),
        []
    );
    assert_eq!(
        bench.receive("7.7.7.7:9", &Small::inform(1, THEM, US, about)),
        []
    );
    assert_eq!(bench.counters.dropped(DropReason::SpoofedControl), 2);
    assert_eq!(bench.counters.dropped(DropReason::StrangersWord), 1);
    let private = Inform {
        subject: NetId(9),
        endpoint: "10.0.0.1:9999".parse().unwrap(),
    };
    assert_eq!(
        bench.receive("8.8.8.8:9", &Small::inform(1, THEM, US, private)),
        []
    );
    assert_eq!(bench.counters.dropped(DropReason::InformRefused), 1);
}

#[test]
fn neighbors_are_told_of_each_other_in_the_same_moment() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    let done = bench.connect("9.9.9.9:9", NetId(0x0c));
    let told: Vec<_> = sends(&done)
        .into_iter()
        .filter(|(header, _)| header.kind == Kind::Inform)
        .map(|(header, to)| (header.dst, to.to_string()))
        .collect();
    assert_eq!(
        told,
        [
            (NetId(0x0c), "9.9.9.9:9".to_owned()),
            (THEM, "8.8.8.8:9".to_owned())
        ]
    );
}

#[test]
fn a_new_neighbor_is_told_three_times_since_the_first_may_come_before_its_proof() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    bench.connect("9.9.9.9:9", NetId(0x0c));
    let start = bench.now;
    let mut told = Vec::new();
    for (at, effect) in bench.run_until(start + Duration::from_secs(20)) {
        if let Effect::Send { datagram, .. } = effect
            && let Ok((header, Message::Inform(inform))) = Message::parse(datagram.bytes())
        {
            told.push((at.since(start).as_millis(), header.dst, inform.subject));
        }
    }
    let new = NetId(0x0c);
    let twice = [1_000, 4_000].map(|at| [(at, new, THEM), (at, THEM, new)]);
    assert_eq!(told, twice.as_flattened());
}

#[test]
fn flooded_pings_are_answered_within_rations_and_direct_ones_of_neighbors_always() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    let answers = |bench: &mut Bench, ping: Small| {
        (0..1_000)
            .filter(|_| !bench.receive("8.8.8.8:9", &ping).is_empty())
            .count()
    };
    let flooded = message(Kind::Ping, Flags::NONE, 1, NetId(0x77), US);
    assert_eq!(answers(&mut bench, flooded), 100);
    let direct = message(Kind::Ping, Flags::NO_FORWARD, 1, THEM, US);
    assert_eq!(answers(&mut bench, direct), 1_000);
    let all = message(Kind::Ping, Flags::NONE, 1, NetId(0x77), NetId::ALL);
    assert_eq!(answers(&mut bench, all), 0, "not at once");
    bench.stats(THEM).heard(bench.now, 16);
    let done = bench.run_until(bench.now + Duration::from_millis(500));
    let pongs = done
        .iter()
        .filter(|(_, effect)| matches!(effect, Effect::Flood(_)))
        .count();
    assert_eq!(pongs, 3);
}

#[test]
fn our_own_ping_counts_the_last_hops_of_its_answer() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    bench.connect("9.9.9.9:9", NetId(0x0c));
    bench
        .control
        .ping(bench.now, 5, NetId(0x99), &mut bench.effects);
    bench.effects.clear();
    bench.now = bench.now + Duration::from_millis(12);
    let pong = message(Kind::Pong, Flags::NONE, 3, NetId(0x99), US);
    let event = |last_hops| {
        let round_trip = Duration::from_millis(12);
        Effect::Event(Event::Pong {
            ping: 5,
            from: NetId(0x99),
            round_trip,
            last_hops,
        })
    };
    assert_eq!(bench.receive("8.8.8.8:9", &pong), [event(1)]);
    bench.now = bench.now + Duration::from_millis(30);
    let arrival = Arrival {
        path: path("9.9.9.9:9"),
        duplicate: true,
    };
    bench
        .control
        .handle_datagram(bench.now, &arrival, pong.bytes(), &mut bench.effects);
    assert_eq!(bench.effects.as_slice(), [event(2)]);
}

#[test]
fn a_hundred_thousand_strangers_fill_no_table_and_keep_no_named_peer_out() {
    let mut bench = Bench::new();
    bench.named(0, "8.8.8.8:9");
    for n in 0..100_000u32 {
        let from = std::net::Ipv4Addr::from(0x1000_0000 + n * 256);
        bench.hello(&format!("{from}:9"), NetId(0x1_0000 + n));
        if n % 100 == 0 {
            bench.run_until(bench.now + Duration::from_millis(10));
        }
    }
    assert!(bench.control.candidates().count() <= 2_049);
    let found = bench.hello("8.8.8.8:9", THEM);
    let challenge = challenge_in(&found).expect("a named peer is outside all budgets");
    bench.receive(
        "8.8.8.8:9",
        &message(Kind::Pong, Flags::NO_FORWARD, 2, THEM, challenge),
    );
    assert_eq!(bench.links(), [(THEM, LinkState::Live)]);
}

#[test]
fn a_stranger_whose_data_comes_is_challenged_at_most_every_10_s() {
    let mut bench = Bench::new();
    let mut sent = 0;
    for _ in 0..100 {
        bench
            .control
            .handle_stranger(bench.now, &path("8.8.8.8:9"), &mut bench.effects);
        sent += sends(&bench.effects.drain().collect::<Vec<_>>()).len();
        let until = bench.now + Duration::from_millis(100);
        sent += sends(bench.run_until(until).iter().map(|(_, effect)| effect)).len();
    }
    assert_eq!(
        sent, 3,
        "one proof: a Hello and two challenges, 48 bytes for 16"
    );
}

#[test]
fn two_nodes_that_dial_each_other_are_neighbors_after_one_round_trip() {
    let (mut a, mut b) = (Bench::with(config(US)), Bench::with(config(THEM)));
    let mut to_b = a.named(0, "2.2.2.2:44204");
    for _ in 0..4 {
        let mut to_a = Vec::new();
        for effect in to_b.drain(..) {
            if let Effect::Send { datagram, .. } = effect {
                to_a.extend(b.receive("1.1.1.1:44204", &datagram));
            }
        }
        for effect in to_a {
            if let Effect::Send { datagram, .. } = effect {
                to_b.extend(a.receive("2.2.2.2:44204", &datagram));
            }
        }
    }
    assert_eq!(a.links(), [(THEM, LinkState::Live)]);
    assert_eq!(b.links(), [(US, LinkState::Live)]);
}

#[test]
fn an_idle_node_without_peers_has_no_deadline() {
    assert_eq!(Bench::new().control.next_timeout(), None);
}

/// Probes, with their length and the src they bear.
fn probes(done: &[(Instant, Effect)]) -> Vec<(Instant, usize, Header)> {
    let probe = |(at, effect): &(Instant, Effect)| match effect {
        Effect::Probe { ping, len, .. } => Some((*at, *len, Header::parse(ping.bytes()).unwrap())),
        _ => None,
    };
    done.iter().filter_map(probe).collect()
}

#[test]
fn a_link_is_probed_once_it_is_proven_and_a_pong_to_the_probes_src_is_the_answer() {
    let mut bench = Bench::with(NodeConfig {
        largest: 1_416,
        ..config(US)
    });
    let (near, far) = ("192.0.2.1:1", "192.0.2.2:2");
    // An endpoint without proof gets none, however long it is dialed.
    bench.named(0, far);
    bench.connect(near, THEM);
    let up = bench.now;
    let done = bench.run_until(up + Duration::from_secs(1));
    let [(at, len, ping)] = probes(&done)[..] else {
        panic!("{done:?}");
    };
    assert_eq!((at, len), (up + Duration::from_secs(1), 1_416));
    assert_eq!((ping.kind, ping.flags), (Kind::Ping, Flags::NO_FORWARD));
    assert_eq!(ping.dst, THEM);
    assert!(ping.src.is_node() && ping.src != US && ping.src != THEM);
    let carries = |bench: &Bench| bench.control.links().next().unwrap().carries;
    // Any other Pong is no answer, nor is this one over another link.
    let pong = |dst| message(Kind::Pong, Flags::NO_FORWARD, 9, THEM, dst);
    bench.receive(near, &pong(US));
    bench.receive(far, &pong(ping.src));
    assert_eq!(carries(&bench), None);
    bench.receive(near, &pong(ping.src));
    assert_eq!(carries(&bench), Some(1_416));
    assert!(probes(&bench.run_for(60)).is_empty());
}

#[test]
fn three_lost_probes_limit_what_workers_send_whole_and_the_kernel_is_told() {
    let mut bench = Bench::with(NodeConfig {
        largest: 1_416,
        ..config(US)
    });
    bench.connect("192.0.2.1:1", THEM);
    let stats = bench.stats(THEM);
    let whole = || stats.whole.load(std::sync::atomic::Ordering::Relaxed);
    let done = bench.run_for(3);
    let lengths: Vec<usize> = probes(&done).iter().map(|probe| probe.1).collect();
    assert_eq!((lengths, whole()), (vec![1_416; 3], 0));
    let done = bench.run_for(1);
    let told = |(_, effect): &(Instant, Effect)| match effect {
        Effect::Event(Event::PathNarrow(_, size)) => Some(*size),
        _ => None,
    };
    assert_eq!(done.iter().find_map(told), Some(1_232));
    assert_eq!(whole(), 1_232);
}
