//! Two peers, a wire with loss and delay, and a stream of messages that must not lose one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use wire::sealed::{COOKIE_LEN, Control, Frame, Frames, LINK_HEADER_LEN, SealedKind};

use super::*;
use crate::seal::cookie::Jar;
use crate::seal::effect::{Effects, Indices};
use crate::seal::handshake::check_init;
use crate::seal::handshake::tests::{FAR, NEAR, node};
use crate::seal::keys::Key;
use crate::seal::local::Local;
use crate::seal::members::Refusal;

const DELAY: Duration = Duration::from_millis(20);

/// One node of two: a peer, and the part of a worker that this is about.
struct End {
    local: Local,
    peer: Peer,
    kind: Kind,
    indices: Indices,
    random: ChaCha12Rng,
    sessions: BTreeMap<u32, Arc<Session>>,
    using: Option<Arc<Session>>,
    events: Vec<Event>,
    received: BTreeSet<u32>,
    /// Messages that found no session to be sealed with.
    waited: usize,
    /// Answers every INIT by a cookie, if its mac2 is not right.
    jar: Option<Jar>,
    half_open: i64,
    /// The other end's netid, where this is no link.
    end: Option<NetId>,
    /// Keys that may not come up.
    banned: Vec<[u8; 32]>,
}

impl End {
    fn new(key: u8, netid: NetId, kind: Kind, seed: u8) -> Self {
        Self {
            local: node(1, key, netid, true),
            peer: Peer::new(PeerId(1), kind, Timers::default()),
            kind,
            indices: Indices::default(),
            random: ChaCha12Rng::from_seed([seed; 32]),
            sessions: BTreeMap::new(),
            using: None,
            events: Vec::new(),
            received: BTreeSet::new(),
            waited: 0,
            jar: None,
            half_open: 0,
            end: None,
            banned: Vec::new(),
        }
    }

    /// One end of the mesh, as it speaks with the other.
    fn far_apart(key: u8, netid: NetId, other: NetId, kind: Kind) -> Self {
        Self {
            peer: Peer::end(PeerId(1), kind, Timers::end_to_end(), other),
            end: Some(other),
            ..Self::new(key, netid, kind, key)
        }
    }

    /// As after a crash: nothing is left but the keys.
    fn restart(&mut self) {
        self.peer = Peer::new(PeerId(1), self.kind, Timers::default());
        self.indices = Indices::default();
        self.sessions.clear();
        self.using = None;
        self.half_open = 0;
    }

    /// Calls the peer and does what it wants; gives the datagrams to be sent.
    fn call<R>(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut Peer, &mut Turn<'_>) -> R,
    ) -> (R, Vec<Vec<u8>>) {
        let mut effects = Effects::default();
        let banned = &self.banned;
        let mut turn = Turn {
            now,
            local: &self.local,
            refuses: &|claim| {
                let is_banned = banned.contains(&claim.static_key);
                is_banned.then_some(Refusal::NotListed)
            },
            random: &mut self.random,
            indices: &mut self.indices,
            effects: &mut effects,
        };
        let result = call(&mut self.peer, &mut turn);
        let mut out = Vec::new();
        for effect in effects.drain() {
            match effect {
                Effect::Send(datagram) => out.push(datagram.into_vec()),
                Effect::Control(session, owned) => {
                    out.push(match self.end {
                        None => sealed(&session, Frame::Control(owned.control())),
                        Some(other) => {
                            assert_eq!(owned, Owned::Keepalive);
                            let mut empty = vec![0; LINK_HEADER_LEN + 16];
                            session
                                .seal_data(self.local.netid, other, &mut empty)
                                .unwrap();
                            empty
                        }
                    });
                    session.note_sent(now, false);
                }
                Effect::Open { session, .. } => {
                    assert!(
                        self.sessions
                            .insert(session.local_index(), session)
                            .is_none()
                    );
                }
                Effect::Close(index) => assert!(self.sessions.remove(&index).is_some()),
                Effect::Use(session) => self.using = session,
                Effect::Event(event) => self.events.push(event),
            }
        }
        if let Some(using) = &self.using {
            assert!(
                self.sessions.contains_key(&using.local_index()),
                "seals with an erased one"
            );
        }
        (result, out)
    }

    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Vec<Vec<u8>> {
        let from: SocketAddr = "192.0.2.5:4242".parse().unwrap();
        let owner = |at: usize| {
            let index = u32::from_be_bytes(datagram[at..at + 4].try_into().unwrap());
            self.indices.owner(index) == Some(PeerId(1))
        };
        match SealedKind::of(datagram).unwrap() {
            SealedKind::Init => {
                let checked = check_init(&self.local.keys, Scope::Link, datagram).unwrap();
                if let Some(jar) = &self.jar
                    && !jar.accepts(checked.init(), from)
                {
                    let cookie = jar.answer(&self.local.keys, checked.init(), from, [7; 24]);
                    return vec![cookie.unwrap().to_vec()];
                }
                let (answered, out) =
                    self.call(now, |peer, turn| peer.handle_init(turn, &checked, from));
                if let Ok(displaced) = answered {
                    self.half_open += if displaced.is_some() { 0 } else { 1 };
                }
                out
            }
            SealedKind::Resp if owner(8) => {
                self.call(now, |peer, turn| {
                    peer.handle_resp(turn, from, datagram, |_| {});
                })
                .1
            }
            SealedKind::Fin if owner(8) => {
                let mut ended = 0;
                let (_, out) = self.call(now, |peer, turn| {
                    peer.handle_fin(turn, datagram, |_| ended += 1);
                });
                self.half_open -= ended;
                out
            }
            SealedKind::Cookie if owner(4) => {
                self.call(now, |peer, turn| peer.handle_cookie(turn, datagram))
                    .1
            }
            SealedKind::Link => self.receive_link(now, datagram),
            _ => Vec::new(),
        }
    }

    fn receive_link(&mut self, now: Instant, datagram: &[u8]) -> Vec<Vec<u8>> {
        let index = u32::from_be_bytes(datagram[4..8].try_into().unwrap());
        let Some(session) = self.sessions.get(&index).cloned() else {
            return Vec::new();
        };
        let mut datagram = datagram.to_vec();
        let Ok(opened) = session.open(&mut datagram) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        if opened.is_first {
            out = self
                .call(now, |peer, turn| peer.handle_confirmed(turn, index, |_| {}))
                .1;
        }
        let mut has_message = false;
        for frame in Frames::new(opened.plaintext) {
            match frame.unwrap() {
                Frame::Message(number) => {
                    has_message = true;
                    assert!(
                        self.received
                            .insert(u32::from_be_bytes(number.try_into().unwrap()))
                    );
                }
                // What the keeper of all peers does for them.
                Frame::Control(Control::PathChallenge(bytes)) => {
                    session.note_sent(now, false);
                    let answer = Frame::Control(Control::PathResponse(bytes));
                    out.push(sealed(&session, answer));
                }
                Frame::Control(Control::Close(_)) => {
                    let closed = self.call(now, |peer, turn| peer.handle_close(turn, index));
                    out.extend(closed.1);
                }
                Frame::Control(_) => {}
            }
        }
        session.note_heard(now, has_message);
        out
    }

    fn tick(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.peer.next_timeout().is_none_or(|at| now < at) {
            return Vec::new();
        }
        let mut ended = 0;
        let out = self
            .call(now, |peer, turn| peer.handle_timeout(turn, |_| ended += 1))
            .1;
        self.half_open -= ended;
        out
    }

    /// A message for the far end, if a session seals.
    fn originate(&mut self, now: Instant, number: u32) -> Option<Vec<u8>> {
        let Some(session) = &self.using else {
            self.waited += 1;
            return None;
        };
        session.note_sent(now, true);
        Some(sealed(session, Frame::Message(&number.to_be_bytes())))
    }

    /// What every state must keep.
    fn check(&self) {
        let waiting = usize::from(matches!(self.peer.attempt, Some(Attempt::InitSent { .. })));
        let owned = self.sessions.len() + waiting + self.peer.half_open();
        assert_eq!(self.indices.len(), owned, "an index is lost or taken twice");
        assert_eq!(
            self.half_open,
            self.peer.half_open() as i64,
            "the door's count"
        );
        assert!(self.sessions.len() <= PREVIOUS_MAX + 2);
    }

    fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| is(event)).count()
    }
}

fn sealed(session: &Session, frame: Frame<'_>) -> Vec<u8> {
    let mut datagram = vec![0; LINK_HEADER_LEN + frame.len() + 16];
    frame.emit(&mut datagram[LINK_HEADER_LEN..]).unwrap();
    session.seal(&mut datagram).unwrap();
    datagram
}

fn is_up(event: &Event) -> bool {
    matches!(event, Event::Up(_))
}

fn is_rekeyed(event: &Event) -> bool {
    matches!(event, Event::Rekeyed(_))
}

fn is_down(event: &Event) -> bool {
    matches!(event, Event::Down(_))
}

type Lose = dyn FnMut(u32, &[u8]) -> bool;

/// Two ends and what is on its way between them.
struct World {
    now: Instant,
    ends: [End; 2],
    /// When, to whom, what, in order of sending.
    air: Vec<(Instant, usize, Vec<u8>, bool)>,
    /// A message each way every so often; none if zero.
    message_every: Duration,
    next_message: Instant,
    originated: [u32; 2],
    /// Datagrams that are no messages, as they were sent since `lose` was set.
    others: u32,
    /// Says of each of them whether it is lost.
    lose: Box<Lose>,
    /// Whether the wire is cut, by direction.
    cut: [bool; 2],
}

#[test]
fn a_change_of_the_secret_gives_a_handshake_under_way_all_its_tries_again() {
    let mut world = World::new(Kind::Incoming);
    world.ends[0] = End::new(10, NEAR, Kind::Informed, 1);
    world.cut = [true; 2];
    world.dial(0);
    let tries = Timers::default().informed_tries;
    for _ in 0..600 {
        if world.others == tries {
            break;
        }
        world.run(Duration::from_secs(1));
    }
    assert_eq!(world.others, tries);
    let (now, at) = (world.now, world.now + Duration::from_secs(180));
    let retired = world.ends[0].call(now, |peer, turn| peer.retire(turn, 1, at, |_| {}));
    world.send(0, retired.1, false);
    world.run(Duration::from_millis(100));
    assert_eq!(world.others, tries + 1);
    assert!(world.ends[0].peer.is_dialing());
}

impl World {
    fn new(far: Kind) -> Self {
        Self {
            now: Instant::from_secs(100),
            ends: [
                End::new(10, NEAR, Kind::Configured, 1),
                End::new(20, FAR, far, 2),
            ],
            air: Vec::new(),
            message_every: Duration::ZERO,
            next_message: Instant::from_secs(100),
            originated: [0; 2],
            others: 0,
            lose: Box::new(|_, _| false),
            cut: [false; 2],
        }
    }

    /// A world whose two ends are up.
    fn up() -> Self {
        let mut world = Self::new(Kind::Incoming);
        world.dial(0);
        world.run(Duration::from_secs(1));
        assert!(world.both_up());
        world
    }

    fn dial(&mut self, end: usize) {
        let now = self.now;
        let out = self.ends[end]
            .call(now, |peer, turn| peer.dial(turn, NetId::ANY))
            .1;
        self.send(end, out, false);
    }

    fn lose(&mut self, lose: impl FnMut(u32, &[u8]) -> bool + 'static) {
        self.others = 0;
        self.lose = Box::new(lose);
    }

    fn send(&mut self, from: usize, datagrams: Vec<Vec<u8>>, is_message: bool) {
        for datagram in datagrams {
            let is_lost = !is_message && {
                self.others += 1;
                (self.lose)(self.others - 1, &datagram)
            };
            if !is_lost && !self.cut[from] {
                self.air
                    .push((self.now + DELAY, 1 - from, datagram, is_message));
            }
        }
    }

    /// Steps of 5 ms.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(5);
            let now = self.now;
            let (due, rest) = std::mem::take(&mut self.air)
                .into_iter()
                .partition(|(at, ..)| *at <= now);
            self.air = rest;
            let due: Vec<_> = due;
            for (_, to, datagram, _) in due {
                let out = self.ends[to].receive(now, &datagram);
                self.send(to, out, false);
            }
            for at in 0..2 {
                let out = self.ends[at].tick(now);
                self.send(at, out, false);
                self.ends[at].check();
            }
            if self.message_every > Duration::ZERO && now >= self.next_message {
                self.next_message = now + self.message_every;
                for at in 0..2 {
                    let number = self.originated[at];
                    if let Some(datagram) = self.ends[at].originate(now, number) {
                        self.originated[at] += 1;
                        self.send(at, vec![datagram], true);
                    }
                }
            }
        }
    }

    fn both_up(&self) -> bool {
        self.ends.iter().all(|end| end.peer.state() == State::Up)
    }

    /// All messages arrived but those on their way.
    fn nothing_lost(&self) -> bool {
        let flying = |to| {
            self.air
                .iter()
                .filter(|(_, end, _, is_message)| *end == to && *is_message)
                .count()
        };
        (0..2).all(|at| {
            self.ends[1 - at].received.len() + flying(1 - at) == self.originated[at] as usize
        })
    }

    fn sessions(&self) -> [Option<(u32, u32)>; 2] {
        [0, 1].map(|at| {
            let session = self.ends[at].using.as_ref()?;
            let (local, remote) = (session.local_index(), session.remote_index());
            Some(if at == 0 {
                (local, remote)
            } else {
                (remote, local)
            })
        })
    }
}

#[test]
fn two_ends_come_up_on_one_session_after_two_round_trips() {
    let mut world = World::new(Kind::Incoming);
    assert_eq!(world.ends[0].peer.state(), State::Idle);
    world.dial(0);
    assert_eq!(world.ends[0].peer.state(), State::InitSent);
    world.run(Duration::from_millis(25));
    assert_eq!(world.ends[1].peer.state(), State::RespSent);
    world.run(Duration::from_millis(75));
    assert!(world.both_up());
    let [near, far] = world.sessions();
    assert!(near.is_some() && near == far);
    assert_eq!(
        world.ends[0].peer.remote().map(|remote| remote.netid),
        Some(FAR)
    );
    assert_eq!(
        world.ends[1].peer.remote().map(|remote| remote.netid),
        Some(NEAR)
    );
    assert_eq!(world.others, 5, "INIT, RESP, FIN and a keepalive each way");
}

#[test]
fn a_link_comes_up_under_every_loss_of_the_first_six_datagrams() {
    // Six lost INITs take 1 + 2 + 4 + 8 + 15 + 15 s, 20 % more at worst.
    for pattern in 0_u32..64 {
        let mut world = World::new(Kind::Incoming);
        world.lose(move |number, _| number < 6 && pattern >> number & 1 == 1);
        world.dial(0);
        world.run(Duration::from_secs(60));
        assert!(world.both_up(), "{pattern:06b}");
        let [near, far] = world.sessions();
        assert_eq!(near, far, "{pattern:06b}");
    }
}

#[test]
fn a_rekey_loses_no_message_under_every_loss_of_its_first_six_datagrams() {
    for pattern in 0_u32..64 {
        let mut world = World::up();
        let first = world.sessions();
        world.message_every = Duration::from_millis(10);
        // Up to the rekey, 108 to 132 s after the start.
        while world.ends[0].peer.attempt.is_none() && world.now < Instant::from_secs(240) {
            let before = world.now;
            world.lose(move |number, _| number < 6 && pattern >> number & 1 == 1);
            world.run(Duration::from_millis(5));
            assert!(world.now > before);
        }
        world.run(Duration::from_secs(30));
        let rekeyed = world.ends.each_ref().map(|end| end.count(is_rekeyed));
        assert_eq!(rekeyed, [1, 1], "{pattern:06b}");
        assert_ne!(world.sessions(), first, "{pattern:06b}");
        assert_eq!(world.sessions()[0], world.sessions()[1], "{pattern:06b}");
        assert!(
            world.nothing_lost() && world.originated[0] > 10_000,
            "{pattern:06b}"
        );
        assert!(
            world
                .ends
                .iter()
                .all(|end| end.waited == 0 && end.count(is_down) == 0)
        );
    }
}

#[test]
fn an_hour_of_rekeys_loses_no_message_and_keeps_few_sessions() {
    let mut world = World::up();
    world.message_every = Duration::from_millis(100);
    world.run(Duration::from_secs(3_600));
    assert!(world.nothing_lost());
    let rekeys = world.ends[0].count(is_rekeyed);
    assert!((27..=34).contains(&rekeys), "{rekeys}");
    assert!(
        world
            .ends
            .iter()
            .all(|end| end.count(is_down) == 0 && end.sessions.len() <= 2)
    );
}

#[test]
fn both_sides_that_begin_at_once_end_up_on_one_session() {
    for seed in 0..20 {
        let mut world = World::new(Kind::Configured);
        world.ends[0].random = ChaCha12Rng::from_seed([seed; 32]);
        world.ends[1].random = ChaCha12Rng::from_seed([seed + 100; 32]);
        world.dial(0);
        world.dial(1);
        world.run(Duration::from_secs(1));
        assert!(world.both_up(), "seed {seed}");
        assert_eq!(world.sessions()[0], world.sessions()[1], "seed {seed}");
        assert_eq!(world.others, 6, "seed {seed}: one INIT more than usual");
        assert!(world.ends.iter().all(|end| end.indices.len() == 1));
    }
}

#[test]
fn both_sides_that_begin_at_once_come_up_under_every_loss_of_six_datagrams() {
    for pattern in 0_u32..64 {
        let mut world = World::new(Kind::Configured);
        world.lose(move |number, _| number < 6 && pattern >> number & 1 == 1);
        world.dial(0);
        world.dial(1);
        world.message_every = Duration::from_millis(50);
        world.run(Duration::from_secs(30));
        assert!(world.both_up(), "{pattern:06b}");
        assert!(world.nothing_lost(), "{pattern:06b}");
    }
}

#[test]
fn a_side_that_restarts_is_up_again_at_once_and_the_other_never_goes_down() {
    for restarted in 0..2 {
        let mut world = World::new(Kind::Configured);
        world.dial(0);
        world.run(Duration::from_secs(40));
        world.ends[restarted].restart();
        world.dial(restarted);
        world.run(Duration::from_millis(150));
        assert!(world.both_up());
        assert_eq!(world.sessions()[0], world.sessions()[1]);
        let other = &world.ends[1 - restarted];
        assert_eq!((other.count(is_down), other.count(is_rekeyed)), (0, 1));
        world.run(Duration::from_secs(400));
        assert!(world.ends.iter().all(|end| end.count(is_down) == 0));
    }
}

#[test]
fn a_side_that_restarts_and_waits_is_found_by_the_other_when_the_silence_is_over() {
    let mut world = World::new(Kind::Incoming);
    world.dial(0);
    world.run(Duration::from_secs(5));
    world.ends[1].restart();
    world.message_every = Duration::from_millis(500);
    let cut_at = world.now;
    while world.ends[0].count(is_down) == 0 {
        world.run(Duration::from_millis(100));
        assert!(world.now.since(cut_at) < Duration::from_secs(27));
    }
    // The last that was heard came with the handshake, 5 s before.
    assert!(world.now.since(cut_at) > Duration::from_secs(24));
    world.run(Duration::from_secs(2));
    assert!(world.both_up());
}

#[test]
fn an_idle_link_lives_for_an_hour_on_keepalives() {
    let mut world = World::up();
    world.lose(|_, _| false);
    world.run(Duration::from_secs(3_600));
    assert!(
        world
            .ends
            .iter()
            .all(|end| end.count(is_down) == 0 && end.count(is_up) == 1)
    );
    // 3 a minute each way, and 5 datagrams for each of 30 rekeys.
    assert!(world.others < 2 * 3 * 60 + 5 * 34 + 100, "{}", world.others);
}

#[test]
fn a_link_that_carries_messages_one_way_only_lives() {
    let mut world = World::up();
    let end = world.now + Duration::from_secs(300);
    let mut number = 0;
    while world.now < end {
        let now = world.now;
        let datagram = world.ends[0].originate(now, number).unwrap();
        number += 1;
        world.send(0, vec![datagram], true);
        world.run(Duration::from_millis(100));
    }
    assert!(world.ends.iter().all(|end| end.count(is_down) == 0));
    world.run(Duration::from_millis(50));
    assert_eq!(world.ends[1].received.len(), number as usize);
}

#[test]
fn a_cut_wire_is_asked_four_times_and_dead_after_thirty_seconds() {
    let mut world = World::up();
    world.message_every = Duration::from_secs(1);
    world.run(Duration::from_secs(3));
    world.cut = [true; 2];
    world.lose(|_, _| false);
    world.run(Duration::from_secs(29));
    assert!(world.both_up());
    assert_eq!(world.others, 8, "four challenges from each end");
    world.run(Duration::from_millis(2_500));
    assert!(world.ends.iter().all(|end| end.count(is_down) == 1));
    assert_eq!(
        world.ends[0].events.last(),
        Some(&Event::Down(Gone::Silent))
    );
    assert_eq!(
        world.ends[1].peer.state(),
        State::Idle,
        "an incoming one is not dialed"
    );
    assert!(world.ends[1].indices.is_empty() && world.ends[1].sessions.is_empty());
    world.cut = [false; 2];
    world.run(Duration::from_secs(20));
    assert!(world.both_up());
}

#[test]
fn an_endpoint_that_never_answers_gets_init_after_init_and_an_informed_one_three() {
    for (kind, times) in [
        (Kind::Configured, None),
        (Kind::Informed, Some(3)),
        (Kind::Incoming, Some(3)),
    ] {
        let mut world = World::new(Kind::Incoming);
        world.ends[0].peer = Peer::new(PeerId(1), kind, Timers::default());
        world.cut = [true; 2];
        world.dial(0);
        world.run(Duration::from_secs(100));
        match times {
            Some(times) => {
                assert_eq!(world.others, times);
                assert_eq!(world.ends[0].events, [Event::GaveUp]);
                assert_eq!(world.ends[0].peer.state(), State::Idle);
                assert!(world.ends[0].indices.is_empty());
            }
            // 1 + 2 + 4 + 8 s and then every 15 s, +-20 %.
            None => assert!((9..=13).contains(&world.others), "{}", world.others),
        }
    }
}

#[test]
fn a_cookie_is_paid_with_the_next_init() {
    let mut world = World::new(Kind::Incoming);
    world.ends[1].jar = Some(Jar::new(Instant::ZERO, Key::new([3; 32])));
    world.dial(0);
    world.run(Duration::from_millis(500));
    assert_eq!(world.others, 2, "INIT and COOKIE");
    assert!(!world.both_up(), "a cookie hurries nobody");
    world.run(Duration::from_secs(1));
    assert!(world.both_up());
    // A second COOKIE for an INIT, or one that comes later, is not read.
    let out = world.ends[0].receive(
        world.now,
        &[0xae, 4]
            .into_iter()
            .chain([0; COOKIE_LEN - 2])
            .collect::<Vec<_>>(),
    );
    assert!(out.is_empty());
}

#[test]
fn a_node_of_another_key_does_not_take_over_a_link_that_is_up() {
    let mut world = World::up();
    let keys = world.ends[0].peer.remote().unwrap().static_key;
    // The same endpoint, another node of the mesh.
    world.ends[1] = End::new(30, NetId(9), Kind::Configured, 9);
    world.dial(1);
    world.run(Duration::from_secs(3));
    let other = world.ends[0].count(|event| {
        matches!(
            event,
            Event::OtherKey {
                netid: NetId(9),
                ..
            }
        )
    });
    assert!(other > 0);
    assert_eq!(world.ends[0].count(is_rekeyed), 0);
    assert_eq!(world.ends[0].peer.remote().unwrap().static_key, keys);
    // Once the first is dead, the other may come.
    world.run(Duration::from_secs(60));
    assert!(world.both_up());
    assert_eq!(world.ends[0].peer.remote().unwrap().netid, NetId(9));
}

#[test]
fn a_fifth_handshake_of_one_endpoint_displaces_the_oldest_and_all_end_by_themselves() {
    let mut world = World::new(Kind::Incoming);
    let now = world.now;
    let inits: Vec<_> = (0..6)
        .map(|_| {
            let mut end = End::new(10, NEAR, Kind::Configured, 0);
            world.ends[0].random.fill_bytes(&mut [0; 32]);
            end.random = ChaCha12Rng::from_seed([world.ends[0].random.next_u32() as u8; 32]);
            end.call(now, |peer, turn| peer.dial(turn, NetId::ANY))
                .1
                .remove(0)
        })
        .collect();
    for init in &inits {
        world.ends[1].receive(now, init);
        world.ends[1].check();
    }
    assert_eq!(world.ends[1].peer.half_open(), HALF_OPEN_MAX);
    world.run(Duration::from_secs(6));
    assert_eq!(world.ends[1].peer.state(), State::Idle);
    assert!(world.ends[1].indices.is_empty());
}

#[test]
fn whoever_leaves_gives_everything_back_and_the_other_asks_at_once() {
    let mut world = World::up();
    let now = world.now;
    let out = world.ends[0]
        .call(now, |peer, turn| peer.leave(turn, 0, |_| {}))
        .1;
    world.send(0, out, false);
    assert!(world.ends[0].indices.is_empty() && world.ends[0].sessions.is_empty());
    assert_eq!(world.ends[0].events.last(), Some(&Event::Down(Gone::Left)));
    world.lose(|_, _| false);
    world.run(Duration::from_millis(30));
    assert_eq!(world.others, 1, "a challenge, to see whether it is so");
    assert_eq!(world.ends[1].peer.state(), State::Up, "close is advice");
}

#[test]
fn the_responder_rekeys_where_the_initiator_does_not() {
    let mut world = World::up();
    world.message_every = Duration::from_millis(100);
    // The initiator's clock for rekeys stands still.
    world.ends[0].peer.current.as_mut().unwrap().rekey_at = Instant::FAR;
    world.run(Duration::from_secs(155));
    assert_eq!(world.ends[0].count(is_rekeyed), 1);
    assert!(!world.ends[0].using.as_ref().unwrap().is_initiator());
    assert!(world.nothing_lost());
}

#[test]
fn a_session_without_successor_ends_after_its_time() {
    let mut world = World::up();
    // Handshakes are lost, everything else arrives.
    world.message_every = Duration::from_millis(100);
    world.lose(|_, datagram| datagram[1] != SealedKind::Link.to_byte());
    world.run(Duration::from_secs(177));
    assert!(world.both_up());
    world.run(Duration::from_secs(3));
    assert!(world.ends[0].events.contains(&Event::Down(Gone::Expired)));
}

/// One handshake between two ends, from the INIT on; gives what `near` sends in the end.
fn shake_hands(near: &mut End, far: &mut End, now: Instant, init: &[u8]) -> Vec<Vec<u8>> {
    let nowhere: SocketAddr = "[::]:0".parse().unwrap();
    let scope = Scope::EndToEnd {
        initiator: near.local.netid,
        responder: far.local.netid,
    };
    let checked = check_init(&far.local.keys, scope, init).unwrap();
    let resp = far
        .call(now, |peer, turn| peer.handle_init(turn, &checked, nowhere))
        .1;
    let fin = near
        .call(now, |peer, turn| {
            peer.handle_resp(turn, nowhere, &resp[0], |_| {});
        })
        .1;
    let mut empty = far
        .call(now, |peer, turn| peer.handle_fin(turn, &fin[0], |_| {}))
        .1
        .remove(0);
    let index = u32::from_be_bytes(empty[4..8].try_into().unwrap());
    let session = Arc::clone(&near.sessions[&index]);
    let opened = session
        .open_data(far.local.netid, near.local.netid, &mut empty)
        .unwrap();
    assert!(opened.is_first && opened.plaintext.is_empty());
    near.call(now, |peer, turn| peer.handle_confirmed(turn, index, |_| {}))
        .1
}

#[test]
fn two_ends_come_up_stay_up_in_silence_and_rekey_by_the_hour() {
    let mut near = End::far_apart(10, NEAR, FAR, Kind::Configured);
    let mut far = End::far_apart(20, FAR, NEAR, Kind::Incoming);
    let start = Instant::from_secs(100);
    let init = near
        .call(start, |peer, turn| peer.dial(turn, FAR))
        .1
        .remove(0);
    assert_eq!(init[..2], [0xc8, 1]);
    let first = shake_hands(&mut near, &mut far, start, &init);
    assert_eq!(first.len(), 1, "an empty payload, which confirms");
    assert_eq!(
        (near.peer.state(), far.peer.state()),
        (State::Up, State::Up)
    );
    let former = Arc::clone(near.using.as_ref().unwrap());
    // Messages come now and then; nothing else is sent until the hour is over.
    let mut rekeyed = None;
    for second in 1..4_000 {
        let now = start + Duration::from_secs(second);
        if second % 600 == 0 {
            near.using.as_ref().unwrap().note_heard(now, true);
            far.using.as_ref().unwrap().note_heard(now, true);
        }
        assert!(far.tick(now).is_empty());
        if let Some(init) = near.tick(now).pop() {
            shake_hands(&mut near, &mut far, now, &init);
            assert!(rekeyed.replace(second).is_none());
        }
        near.check();
        far.check();
    }
    assert!(
        rekeyed.is_some_and(|second| (3_240..=3_961).contains(&second)),
        "{rekeyed:?}"
    );
    assert!(!Arc::ptr_eq(&former, near.using.as_ref().unwrap()));
    assert_eq!((near.count(is_rekeyed), far.count(is_rekeyed)), (1, 1));
    // A quarter of an hour in which nothing comes ends it.
    let later = start + Duration::from_secs(4_000 + 901);
    near.tick(later);
    assert_eq!(near.events.last(), Some(&Event::Down(Gone::Silent)));
}

/// One answer to an INIT of `near` under the netid of `far`, by whoever has this key; the FIN, if any.
fn answered_by(near: &mut End, key: u8, now: Instant, init: &[u8]) -> Vec<Vec<u8>> {
    let mut answers = End::far_apart(key, FAR, NEAR, Kind::Incoming);
    let nowhere: SocketAddr = "[::]:0".parse().unwrap();
    let scope = Scope::EndToEnd {
        initiator: NEAR,
        responder: FAR,
    };
    let checked = check_init(&answers.local.keys, scope, init).unwrap();
    let resp = answers
        .call(now, |peer, turn| peer.handle_init(turn, &checked, nowhere))
        .1;
    near.call(now, |peer, turn| {
        peer.handle_resp(turn, nowhere, &resp[0], |_| {});
    })
    .1
}

#[test]
fn who_answers_first_under_anothers_netid_is_refused_and_does_not_end_the_attempt() {
    let mut near = End::far_apart(10, NEAR, FAR, Kind::Configured);
    let mut far = End::far_apart(20, FAR, NEAR, Kind::Incoming);
    let insider = *node(1, 30, FAR, true).identity.public();
    near.banned.push(insider);
    let start = Instant::from_secs(100);
    let init = near
        .call(start, |peer, turn| peer.dial(turn, FAR))
        .1
        .remove(0);
    let before = near.peer.next_timeout();
    // However often: S16.
    for _ in 0..3 {
        assert!(
            answered_by(&mut near, 30, start, &init).is_empty(),
            "no FIN"
        );
        near.check();
    }
    let refused = Event::NotAdmitted {
        netid: FAR,
        static_key: insider,
        why: Refusal::NotListed,
    };
    assert_eq!(near.count(|event| *event == refused), 3);
    assert_eq!(near.peer.state(), State::InitSent);
    assert_eq!(near.peer.next_timeout(), before);
    // The right one comes up by the very same INIT.
    shake_hands(&mut near, &mut far, start, &init);
    assert_eq!(near.peer.state(), State::Up);
}

#[test]
fn who_ends_a_handshake_and_may_not_come_up_has_none_any_more() {
    let nowhere: SocketAddr = "[::]:0".parse().unwrap();
    let mut near = End::far_apart(10, NEAR, FAR, Kind::Configured);
    let mut far = End::far_apart(20, FAR, NEAR, Kind::Incoming);
    far.banned.push(*near.local.identity.public());
    let now = Instant::from_secs(100);
    let init = near
        .call(now, |peer, turn| peer.dial(turn, FAR))
        .1
        .remove(0);
    let scope = Scope::EndToEnd {
        initiator: NEAR,
        responder: FAR,
    };
    let checked = check_init(&far.local.keys, scope, &init).unwrap();
    let resp = far
        .call(now, |peer, turn| peer.handle_init(turn, &checked, nowhere))
        .1;
    let fin = near
        .call(now, |peer, turn| {
            peer.handle_resp(turn, nowhere, &resp[0], |_| {});
        })
        .1;
    let mut ended = 0;
    let (_, out) = far.call(now, |peer, turn| {
        peer.handle_fin(turn, &fin[0], |_| ended += 1);
    });
    assert!(out.is_empty());
    assert_eq!((ended, far.peer.state()), (1, State::Idle));
    assert!(far.sessions.is_empty() && far.indices.is_empty());
    // A copy is not even verified: nobody is told of a refusal again.
    let told = far.events.len();
    far.call(now, |peer, turn| peer.handle_fin(turn, &fin[0], |_| {}));
    assert_eq!(far.events.len(), told);
    // Where the reason is gone, the next handshake comes up.
    far.banned.clear();
    let mut near = End::far_apart(10, NEAR, FAR, Kind::Configured);
    let init = near
        .call(now, |peer, turn| peer.dial(turn, FAR))
        .1
        .remove(0);
    let checked = check_init(&far.local.keys, scope, &init).unwrap();
    let resp = far
        .call(now, |peer, turn| peer.handle_init(turn, &checked, nowhere))
        .1;
    let fin = near
        .call(now, |peer, turn| {
            peer.handle_resp(turn, nowhere, &resp[0], |_| {});
        })
        .1;
    far.call(now, |peer, turn| peer.handle_fin(turn, &fin[0], |_| {}));
    assert_eq!(far.peer.state(), State::Up);
    // Who is up and may not stay so with new keys is not up any more.
    far.banned.push(*near.local.identity.public());
    let later = now + Duration::from_secs(60);
    let mut again = End::far_apart(10, NEAR, FAR, Kind::Configured);
    let init = again
        .call(later, |peer, turn| peer.dial(turn, FAR))
        .1
        .remove(0);
    let checked = check_init(&far.local.keys, scope, &init).unwrap();
    let resp = far
        .call(later, |peer, turn| {
            peer.handle_init(turn, &checked, nowhere)
        })
        .1;
    let fin = again
        .call(later, |peer, turn| {
            peer.handle_resp(turn, nowhere, &resp[0], |_| {});
        })
        .1;
    far.end = None;
    far.call(later, |peer, turn| peer.handle_fin(turn, &fin[0], |_| {}));
    assert_eq!(far.peer.state(), State::Idle);
    assert!(far.sessions.is_empty());
}

#[test]
fn who_is_revoked_between_resp_and_the_first_payload_does_not_come_up() {
    let nowhere: SocketAddr = "[::]:0".parse().unwrap();
    let mut near = End::far_apart(10, NEAR, FAR, Kind::Configured);
    let mut far = End::far_apart(20, FAR, NEAR, Kind::Incoming);
    let now = Instant::from_secs(100);
    let init = near
        .call(now, |peer, turn| peer.dial(turn, FAR))
        .1
        .remove(0);
    let scope = Scope::EndToEnd {
        initiator: NEAR,
        responder: FAR,
    };
    let checked = check_init(&far.local.keys, scope, &init).unwrap();
    let resp = far
        .call(now, |peer, turn| peer.handle_init(turn, &checked, nowhere))
        .1;
    near.call(now, |peer, turn| {
        peer.handle_resp(turn, nowhere, &resp[0], |_| {});
    });
    let index = *near.sessions.keys().next().unwrap();
    near.banned.push(*far.local.identity.public());
    near.call(now, |peer, turn| peer.handle_confirmed(turn, index, |_| {}));
    assert!(near.using.is_none() && near.sessions.is_empty());
    near.check();
}

#[test]
fn an_initiator_never_takes_an_empty_datagram_for_a_copy_of_a_fin_it_got() {
    let mut world = World::up();
    let now = world.now;
    let out = world.ends[0]
        .call(now, |peer, turn| peer.handle_fin(turn, &[], |_| {}))
        .1;
    assert!(out.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn under_random_loss_everywhere_a_link_comes_up_and_messages_alone_are_lost_with_it(
        seed in any::<u64>(), percent in 0_u32..40,
    ) {
        let mut world = World::new(Kind::Configured);
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        world.lose(move |_, _| random.next_u32() % 100 < percent);
        world.dial(0);
        if seed % 2 == 0 {
            world.dial(1);
        }
        world.message_every = Duration::from_millis(200);
        world.run(Duration::from_secs(300));
        // Loss of controls may take a link down; what was sealed while it was up arrived.
        let downs: usize = world.ends.iter().map(|end| end.count(is_down)).sum();
        prop_assert!(downs > 0 || world.nothing_lost());
        world.lose(|_, _| false);
        world.run(Duration::from_secs(60));
        prop_assert!(world.both_up());
    }

    #[test]
    fn whatever_datagrams_come_no_peer_panics_and_none_changes(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
        let mut world = World::up();
        let from: SocketAddr = "192.0.2.5:4242".parse().unwrap();
        let (sessions, now) = (world.sessions(), world.now);
        for end in &mut world.ends {
            let out = end.call(now, |peer, turn| {
                peer.handle_resp(turn, from, &bytes, |_| {});
                peer.handle_fin(turn, &bytes, |_| {});
                peer.handle_cookie(turn, &bytes);
            }).1;
            prop_assert!(out.is_empty());
            end.check();
        }
        prop_assert_eq!(world.sessions(), sessions);
    }
}
