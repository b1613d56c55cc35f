//! The door and its cookies: who gets in, and at what price.

use super::*;
use crate::seal::cookie::Held;
use crate::seal::handshake::tests::{FAR, NEAR, node};
use crate::seal::handshake::{Initiation, Seed};
use crate::seal::local::Local;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use wire::NetId;
use wire::sealed::{INIT_LEN, Init};

const HERE: &str = "192.0.2.5:4242";
const ELSEWHERE: &str = "192.0.2.5:4243";

struct Scene {
    near: Local,
    far: Local,
    door: Door,
    random: ChaCha12Rng,
    waiting: usize,
}

fn scene() -> Scene {
    Scene {
        near: node(1, 10, NEAR, true),
        far: node(1, 20, FAR, true),
        door: Door::new(Instant::ZERO, Limits::default(), Key::new([5; 32])),
        random: ChaCha12Rng::from_seed([3; 32]),
        waiting: 0,
    }
}

impl Scene {
    fn init(&mut self, now: Instant, cookie: Option<&Held>) -> (Initiation, [u8; INIT_LEN]) {
        let mut seed = Seed::default();
        self.random.fill_bytes(&mut *seed);
        let mut out = [0; INIT_LEN];
        let cookie = cookie.and_then(|held| held.get(now));
        let scope = Scope::Link;
        let begun = Initiation::begin(&self.near, scope, 9, NetId::ANY, cookie, seed, &mut out);
        (begun.unwrap().0, out)
    }

    fn judge<'d>(
        &mut self,
        now: Instant,
        from: &str,
        configured: bool,
        init: &'d [u8],
    ) -> Verdict<'d> {
        let arrival = Arrival {
            from: from.parse().unwrap(),
            is_configured: configured,
            waiting: self.waiting,
            datagram: init,
        };
        self.door.judge(now, &self.far, &arrival, &mut self.random)
    }

    /// The cookie that an INIT under load brings.
    fn cookie(&mut self, now: Instant, from: &str) -> Held {
        let (initiation, init) = self.init(now, None);
        let Verdict::Cookie(cookie) = self.judge(now, from, false, &init) else {
            panic!("no cookie");
        };
        Held::open(now, &self.near.keys, 9, initiation.mac1(), &cookie).unwrap()
    }
}

#[test]
fn an_idle_node_answers_without_cookies_whatever_mac2_says() {
    let mut scene = scene();
    let (_, mut init) = scene.init(Instant::ZERO, None);
    assert!(matches!(
        scene.judge(Instant::ZERO, HERE, false, &init),
        Verdict::Admit(_)
    ));
    let at = Init::parse(&init).unwrap().before_mac2.len();
    init[at] ^= 1;
    assert!(matches!(
        scene.judge(Instant::ZERO, HERE, false, &init),
        Verdict::Admit(_)
    ));
}

#[test]
fn under_load_a_cookie_for_the_address_is_the_price_and_it_is_paid_once_asked() {
    let mut scene = scene();
    scene.waiting = 65;
    let now = Instant::from_secs(10);
    let held = scene.cookie(now, HERE);
    let (_, init) = scene.init(now, Some(&held));
    assert!(matches!(
        scene.judge(now, HERE, false, &init),
        Verdict::Admit(_)
    ));
    // From another port it is no cookie, and a configured peer has to pay as well.
    assert!(matches!(
        scene.judge(now, ELSEWHERE, false, &init),
        Verdict::Cookie(_)
    ));
    assert!(matches!(
        scene.judge(now, ELSEWHERE, true, &init),
        Verdict::Cookie(_)
    ));
    // No bit of what mac2 covers, nor of mac2, can be changed.
    let end = Init::parse(&init).unwrap().before_mac2.len() + 16;
    for at in 0..end {
        let mut changed = init;
        changed[at] ^= 0x10;
        let verdict = scene.judge(now, HERE, false, &changed);
        assert!(!matches!(verdict, Verdict::Admit(_)), "byte {at}");
    }
}

/// S107: recorded INITs, sent again under a configured peer's address, take three places and no more.
#[test]
fn a_configured_peer_with_three_half_open_handshakes_pays_with_a_cookie_for_the_fourth() {
    let mut scene = scene();
    let now = Instant::from_secs(10);
    for _ in 0..3 {
        let (_, recorded) = scene.init(now, None);
        let verdict = scene.judge(now, HERE, true, &recorded);
        assert!(matches!(verdict, Verdict::Admit(_)));
        scene.door.enter_reserved(HERE.parse().unwrap());
    }
    for _ in 0..100 {
        let (_, recorded) = scene.init(now, None);
        let verdict = scene.judge(now, HERE, true, &recorded);
        assert!(matches!(verdict, Verdict::Cookie(_)));
    }
    // The peer itself gets it, and comes in; another one is asked for none.
    let (initiation, init) = scene.init(now, None);
    let Verdict::Cookie(cookie) = scene.judge(now, HERE, true, &init) else {
        panic!("no cookie");
    };
    let held = Held::open(now, &scene.near.keys, 9, initiation.mac1(), &cookie).unwrap();
    let (_, paid) = scene.init(now, Some(&held));
    let verdict = scene.judge(now, HERE, true, &paid);
    assert!(matches!(verdict, Verdict::Admit(_)));
    let verdict = scene.judge(now, ELSEWHERE, true, &init);
    assert!(matches!(verdict, Verdict::Admit(_)));
    // As soon as one of them has ended, the next is free.
    scene.door.leave(HERE.parse().unwrap());
    let verdict = scene.judge(now, HERE, true, &init);
    assert!(matches!(verdict, Verdict::Admit(_)));
}

#[test]
fn a_cookie_is_good_for_this_secret_and_the_next_and_no_longer() {
    let mut scene = scene();
    scene.waiting = 65;
    let start = Instant::from_secs(100);
    let held = scene.cookie(start, HERE);
    let (_, init) = scene.init(start, Some(&held));
    // The first secret is drawn at 0 and the next at 120 s.
    for (seconds, good) in [(119, true), (121, true), (239, true), (242, false)] {
        let verdict = scene.judge(Instant::from_secs(seconds), HERE, true, &init);
        assert_eq!(matches!(verdict, Verdict::Admit(_)), good, "{seconds} s");
    }
    assert!(held.get(Instant::from_secs(219)).is_some());
    assert!(held.get(Instant::from_secs(220)).is_none());
}

#[test]
fn after_a_long_pause_no_cookie_is_good() {
    let mut scene = scene();
    scene.waiting = 65;
    let held = scene.cookie(Instant::from_secs(1), HERE);
    let (_, init) = scene.init(Instant::from_secs(2), Some(&held));
    let verdict = scene.judge(Instant::from_secs(241), HERE, true, &init);
    assert!(matches!(verdict, Verdict::Cookie(_)));
}

#[test]
fn a_cookie_is_read_only_by_whoever_sent_the_init_it_answers() {
    let mut scene = scene();
    scene.waiting = 65;
    let now = Instant::from_secs(1);
    let (initiation, init) = scene.init(now, None);
    let (other, _) = scene.init(now, None);
    let Verdict::Cookie(cookie) = scene.judge(now, HERE, false, &init) else {
        panic!("no cookie");
    };
    assert!(cookie.len() <= init.len());
    let open = |index, mac1, cookie: &[u8]| Held::open(now, &scene.near.keys, index, mac1, cookie);
    assert!(open(9, initiation.mac1(), &cookie).is_some());
    assert!(open(8, initiation.mac1(), &cookie).is_none());
    assert!(open(9, other.mac1(), &cookie).is_none());
    for bit in 0..cookie.len() * 8 {
        let mut changed = cookie;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(open(9, initiation.mac1(), &changed).is_none(), "bit {bit}");
    }
    for len in 0..cookie.len() {
        assert!(open(9, initiation.mac1(), &cookie[..len]).is_none());
    }
}

#[test]
fn more_than_two_hundred_in_a_second_are_load_and_it_lasts_a_second_longer() {
    let mut scene = scene();
    let (_, init) = scene.init(Instant::ZERO, None);
    let now = Instant::from_secs(5);
    for number in 0..200 {
        let verdict = scene.judge(now, HERE, true, &init);
        assert!(matches!(verdict, Verdict::Admit(_)), "{number}");
    }
    assert!(matches!(
        scene.judge(now, HERE, true, &init),
        Verdict::Cookie(_)
    ));
    let still = now + Duration::from_millis(999);
    assert!(matches!(
        scene.judge(still, HERE, true, &init),
        Verdict::Cookie(_)
    ));
    let later = still + Duration::from_millis(1_001);
    assert!(matches!(
        scene.judge(later, HERE, true, &init),
        Verdict::Admit(_)
    ));
}

#[test]
fn strangers_change_nothing_however_many_they_send() {
    let mut scene = scene();
    let (_, mut init) = scene.init(Instant::ZERO, None);
    init[50] ^= 1;
    for _ in 0..1_000 {
        let verdict = scene.judge(Instant::ZERO, HERE, false, &init);
        assert!(matches!(
            verdict,
            Verdict::Drop(Refusal::Bytes(HandshakeError::Mac))
        ));
    }
    assert_eq!((scene.door.in_second, scene.door.rates.len()), (0, 0));
    assert!(scene.door.loaded_until.is_none());
}

#[test]
fn an_address_has_its_rate_and_a_prefix_its_room_and_configured_peers_neither() {
    let mut scene = scene();
    let (_, init) = scene.init(Instant::ZERO, None);
    for number in 0..8 {
        let verdict = scene.judge(Instant::ZERO, HERE, false, &init);
        match number {
            0..5 => assert!(matches!(verdict, Verdict::Admit(_))),
            _ => assert!(matches!(verdict, Verdict::Drop(Refusal::Rate))),
        }
        assert!(matches!(
            scene.judge(Instant::ZERO, HERE, true, &init),
            Verdict::Admit(_)
        ));
    }
    let neighbor: SocketAddr = "192.0.2.77:1".parse().unwrap();
    for _ in 0..4 {
        scene.door.enter(neighbor);
    }
    assert!(matches!(
        scene.judge(Instant::ZERO, "192.0.2.78:1", false, &init),
        Verdict::Drop(Refusal::HalfOpen)
    ));
    assert!(matches!(
        scene.judge(Instant::ZERO, "192.0.3.78:1", false, &init),
        Verdict::Admit(_)
    ));
    scene.door.leave(neighbor);
    assert!(matches!(
        scene.judge(Instant::ZERO, "192.0.2.78:1", false, &init),
        Verdict::Admit(_)
    ));
}

#[test]
fn all_prefixes_together_have_their_room_and_get_it_back() {
    let mut scene = scene();
    let at = |number: u32| SocketAddr::new(std::net::Ipv4Addr::from(number << 8).into(), 1);
    for number in 0..256 {
        scene.door.enter(at(number));
    }
    // Only who has a cookie is looked at any more.
    let held = scene.cookie(Instant::ZERO, "198.51.100.1:1");
    let (_, init) = scene.init(Instant::ZERO, Some(&held));
    let verdict = scene.judge(Instant::ZERO, "198.51.100.1:1", false, &init);
    assert!(matches!(verdict, Verdict::Drop(Refusal::HalfOpen)));
    for number in 0..256 {
        scene.door.leave(at(number));
    }
    assert_eq!((scene.door.half_open(), scene.door.half_open.len()), (0, 0));
}

#[test]
fn an_ipv6_prefix_is_never_that_of_an_ipv4_address() {
    let mapped: SocketAddr = "[::ffff:192.0.2.5]:1".parse().unwrap();
    let plain: SocketAddr = "192.0.2.5:1".parse().unwrap();
    let six: SocketAddr = "[::c000:205]:1".parse().unwrap();
    assert_eq!(
        (rate_prefix(mapped), room_prefix(mapped)),
        (rate_prefix(plain), room_prefix(plain))
    );
    assert_ne!(rate_prefix(six), rate_prefix(plain));
}

#[test]
fn half_open_handshakes_that_take_half_the_places_make_the_node_ask_for_cookies() {
    let mut scene = scene();
    let half = Limits::default().half_open / 2;
    for number in 0..=half {
        let from = format!("198.51.{}.1:7", number % 250);
        scene.door.enter(from.parse().unwrap());
    }
    let now = Instant::from_secs(1);
    let (_, init) = scene.init(now, None);
    assert!(matches!(
        scene.judge(now, HERE, false, &init),
        Verdict::Cookie(_)
    ));
    let held = scene.cookie(now, HERE);
    let (_, init) = scene.init(now, Some(&held));
    assert!(matches!(
        scene.judge(now, HERE, false, &init),
        Verdict::Admit(_)
    ));
}
