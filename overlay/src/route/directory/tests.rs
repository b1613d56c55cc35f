use super::*;
use crate::keyed::KeyedHasher;
use crate::node::zone::Bridge;

const ME: NetId = NetId(0x10);
const A: NetId = NetId(0xA);
const B: NetId = NetId(0xB);
const MICRO: Duration = Duration::from_micros(1);

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(seconds: u64) -> Instant {
    Instant::from_secs(seconds)
}

fn mesh() -> Mesh {
    Mesh::new("field")
}

/// A directory with its effects, as the driver holds them.
struct World {
    directory: Directory,
    effects: Vec<Effect>,
}

impl World {
    fn new(addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| net(text)).collect();
        Self {
            directory: Directory::new(ME, mesh(), addresses, 7),
            effects: Vec::new(),
        }
    }

    /// `from` floods a complete set of claims.
    fn claim(&mut self, now: Instant, from: NetId, set: u32, prefixes: &[&str]) -> Vec<Effect> {
        let prefixes: Vec<IpNet> = prefixes.iter().map(|text| net(text)).collect();
        for payload in codec::claims(mesh().hash, set, &prefixes) {
            let effects = &mut self.effects;
            self.directory
                .handle_payload(now, from, false, &payload, effects);
        }
        std::mem::take(&mut self.effects)
    }

    /// A neighbor tells of one claim of `owner`.
    fn hearsay(
        &mut self,
        now: Instant,
        owner: NetId,
        prefix: &str,
        age: u16,
        held: u16,
    ) -> Vec<Effect> {
        let prefix = net(prefix);
        let rumour = Rumour {
            owner,
            prefix,
            age,
            held,
        };
        for payload in codec::hearsay(mesh().hash, &[rumour]) {
            let effects = &mut self.effects;
            self.directory
                .handle_payload(now, NetId(0x99), true, &payload, effects);
        }
        std::mem::take(&mut self.effects)
    }

    fn heard(&mut self, now: Instant, netid: NetId) {
        let effects = &mut self.effects;
        self.directory.handle_heard(now, netid, netid, effects);
        self.effects.clear();
    }

    fn tick(&mut self, now: Instant) -> Vec<Effect> {
        self.directory.handle_timeout(now, &mut self.effects);
        std::mem::take(&mut self.effects)
    }

    fn state(&self, now: Instant, netid: NetId, prefix: &str) -> Option<ClaimState> {
        let claims = self.directory.claims(now);
        let mut mine = claims.iter().filter(|claim| claim.netid == netid);
        mine.find(|claim| claim.prefix == net(prefix))
            .map(|claim| claim.state)
    }

    /// Who holds the address at `now`, with what is due done.
    fn holder(&mut self, now: Instant, address: &str) -> Option<NetId> {
        self.tick(now);
        self.directory.resolve(ip(address))
    }
}

const X: &str = "10.0.0.7/32";
const X_ADDRESS: &str = "10.0.0.7";

#[test]
fn a_claim_is_published_at_once_and_once() {
    let mut world = World::new(&[]);
    assert_eq!(world.claim(at(1), A, 1, &[X]), [Effect::Changed]);
    assert_eq!(world.directory.routes().find(ip(X_ADDRESS)), Some(A));
    assert_eq!(world.claim(at(31), A, 1, &[X]), []);
    assert_eq!(world.state(at(31), A, X), Some(ClaimState::Fresh));
}

#[test]
fn snapshots_are_published_at_most_every_100_ms() {
    let mut world = World::new(&[]);
    assert_eq!(world.claim(at(1), A, 1, &[X]), [Effect::Changed]);
    assert_eq!(world.claim(at(1) + MICRO, B, 1, &["10.0.0.8/32"]), []);
    let due = at(1) + PUBLISH_SPACING;
    assert_eq!(world.directory.next_timeout(), Some(due));
    assert_eq!(world.tick(due - MICRO), []);
    assert_eq!(world.tick(due), [Effect::Changed]);
    assert_eq!(world.directory.resolve(ip("10.0.0.8")), Some(B));
}

#[test]
fn our_claims_are_told_thrice_when_the_first_link_is_up_and_every_thirty_seconds() {
    let mut world = World::new(&["10.0.0.1/24"]);
    assert_eq!(world.tick(at(5)), []);
    assert_eq!(world.directory.next_timeout(), None);

    world.directory.handle_link_up(at(6), A, &mut world.effects);
    let effects = std::mem::take(&mut world.effects);
    let [Effect::ToNeighbor(A, told), Effect::Flood(flooded)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(told, flooded);
    let Content::Claims { prefixes, .. } = Payload::parse(flooded).unwrap().content else {
        panic!("claims");
    };
    assert_eq!(prefixes, [net("10.0.0.1/32")]);

    // And again 1 s and 4 s later, for those who were not yet there.
    for (due, after) in [(at(7), at(10)), (at(10), at(36))] {
        assert_eq!(world.tick(due - MICRO), []);
        assert!(matches!(world.tick(due)[..], [Effect::Flood(_)]));
        assert!(world.directory.next_timeout().unwrap() >= after);
    }

    let mut last = at(10);
    for _ in 0..50 {
        let due = world.directory.next_timeout().unwrap();
        let waited = due.since(last);
        assert!(
            waited >= Duration::from_secs(27) && waited < Duration::from_secs(33),
            "{waited:?}"
        );
        assert_eq!(world.tick(due - MICRO), []);
        assert!(matches!(world.tick(due)[..], [Effect::Flood(_)]));
        last = due;
    }
}

#[test]
fn links_that_come_up_together_cause_one_announcement_a_second() {
    let mut world = World::new(&["10.0.0.1/24"]);
    let mut floods = 0;
    for n in 0..10_u64 {
        let now = at(1) + Duration::from_millis(n * 10);
        world
            .directory
            .handle_link_up(now, NetId(n as u32 + 20), &mut world.effects);
        floods += world
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Flood(_)))
            .count();
        world.effects.clear();
    }
    assert_eq!(floods, 1);
    assert_eq!(world.directory.next_timeout(), Some(at(2)));
    assert!(matches!(world.tick(at(2))[..], [Effect::Flood(_)]));
}

#[test]
fn a_node_without_claims_tells_neighbors_so_and_floods_nothing() {
    let mut world = World::new(&[]);
    world.directory.handle_link_up(at(1), A, &mut world.effects);
    assert!(matches!(world.effects[..], [Effect::ToNeighbor(A, _)]));
}

#[test]
fn a_neighbor_that_tells_us_is_answered_once_in_five_seconds() {
    // At our link-up it may not have been live with us, and then it heard nothing of ours.
    let mut world = World::new(&["10.0.0.1/24"]);
    let mut told_set = |now, direct, set| {
        let claims = codec::claims(mesh().hash, set, &[net("10.0.0.7/32")]);
        let (directory, effects) = (&mut world.directory, &mut world.effects);
        directory.handle_payload(now, A, direct, &claims[0], effects);
        let answers = effects
            .iter()
            .filter(|effect| matches!(effect, Effect::ToNeighbor(A, _)))
            .count();
        effects.clear();
        answers
    };
    assert_eq!(told_set(at(1), false, 1), 0, "flooded claims get no answer");
    assert_eq!(told_set(at(1), true, 1), 1);
    assert_eq!(told_set(at(1), true, 1), 0);
    assert_eq!(told_set(at(1) + ANSWER_SPACING - MICRO, true, 1), 0);
    let again = at(1) + ANSWER_SPACING;
    assert_eq!(told_set(again, true, 1), 1);
    // A new set is that of a restarted node, which has forgotten us.
    assert_eq!(told_set(again + RESTART_SPACING - MICRO, true, 2), 0);
    assert_eq!(told_set(again + RESTART_SPACING, true, 2), 1);
}

#[test]
fn claims_given_up_are_told_once() {
    let mut world = World::new(&["10.0.0.1/24"]);
    world.directory.handle_link_up(at(1), A, &mut world.effects);
    world.effects.clear();
    world
        .directory
        .set_addresses(at(5), Vec::new(), &mut world.effects);
    assert!(matches!(
        world.effects[..],
        [Effect::Flood(_), Effect::Changed]
    ));
    world.effects.clear();
    let due = world.directory.next_timeout().unwrap();
    assert_eq!(world.tick(due), []);
    assert_eq!(world.directory.resolve(ip("10.0.0.1")), None);
}

#[test]
fn a_claim_is_stale_after_120_s_usable_for_ten_minutes_then_forgotten() {
    let mut world = World::new(&[]);
    world.claim(at(1), A, 1, &[X]);
    let stale = at(1) + LIFETIME;
    assert_eq!(world.state(stale - MICRO, A, X), Some(ClaimState::Fresh));
    assert_eq!(world.state(stale, A, X), Some(ClaimState::Stale));
    assert_eq!(world.tick(stale), []);
    let end = stale + STALE_LIFETIME;
    assert_eq!(world.holder(end - MICRO, X_ADDRESS), Some(A));
    assert_eq!(world.holder(end, X_ADDRESS), None);
    assert!(world.directory.is_empty());
    assert_eq!(world.directory.next_timeout(), None);
}

#[test]
fn any_message_of_the_owner_refreshes_its_claims() {
    let mut world = World::new(&[]);
    world.claim(at(1), A, 1, &[X]);
    world.heard(at(100), A);
    assert_eq!(world.state(at(220) - MICRO, A, X), Some(ClaimState::Fresh));
    assert_eq!(world.state(at(220), A, X), Some(ClaimState::Stale));
    world.heard(at(300), A);
    assert_eq!(world.state(at(300), A, X), Some(ClaimState::Fresh));
}

#[test]
fn timeouts_are_never_late_whatever_refreshes_claims() {
    let mut world = World::new(&[]);
    world.claim(at(1), A, 1, &[X]);
    // Stale at 121; sweeping notes its end at 721. Heard again at 130 it is stale at 250.
    world.tick(at(121));
    world.heard(at(130), A);
    assert!(world.directory.next_timeout().unwrap() <= at(250));
    world.claim(at(131), B, 1, &[X]);
    assert_eq!(world.holder(at(249), X_ADDRESS), Some(A));
    let due = world.directory.next_timeout().unwrap();
    assert!(due <= at(250), "{due:?}");
    assert_eq!(world.tick(at(250)), [Effect::Changed]);
    assert_eq!(world.directory.resolve(ip(X_ADDRESS)), Some(B));
}

#[test]
fn within_ten_seconds_the_lower_netid_holds_and_later_the_established() {
    let first = at(100);
    let window = first + SIMULTANEOUS;
    for (second, lower_second, holder) in [
        (window, true, A),
        (window + MICRO, true, B),
        (window, false, A),
        (first, false, A),
    ] {
        let mut world = World::new(&[]);
        let (one, two) = if lower_second { (B, A) } else { (A, B) };
        world.claim(first, one, 1, &[X]);
        world.claim(second, two, 1, &[X]);
        assert_eq!(
            world.holder(second + PUBLISH_SPACING, X_ADDRESS),
            Some(holder),
            "{second:?}"
        );
        let refused = if holder == A { B } else { A };
        assert_eq!(world.state(second, refused, X), Some(ClaimState::Refused));
    }
}

#[test]
fn a_conflict_is_an_alarm_once_and_repeated_claims_are_not() {
    let mut world = World::new(&[]);
    world.claim(at(1), A, 1, &[X]);
    let alarm = Alarm::Conflict {
        prefix: net(X),
        holder: A,
        refused: B,
    };
    let expected = [
        Effect::Dropped(DropReason::ClaimRefused, 1),
        Effect::Alarm {
            alarm,
            suppressed: 0,
        },
        // B counts as one who claims from now on.
        Effect::Changed,
    ];
    assert_eq!(world.claim(at(50), B, 1, &[X]), expected);
    assert_eq!(world.claim(at(80), B, 1, &[X]), []);
}

#[test]
fn a_newcomer_takes_over_the_moment_the_holder_is_stale() {
    let mut world = World::new(&[]);
    world.claim(at(1), A, 1, &[X]);
    world.claim(at(100), B, 1, &[X]);
    assert_eq!(world.holder(at(121) - MICRO, X_ADDRESS), Some(A));
    assert_eq!(world.directory.next_timeout(), Some(at(121)));
    assert_eq!(world.tick(at(121)), [Effect::Changed]);
    assert_eq!(world.directory.resolve(ip(X_ADDRESS)), Some(B));
    // The first one comes back: now it is the newcomer.
    world.claim(at(140), A, 1, &[X]);
    assert_eq!(world.holder(at(141), X_ADDRESS), Some(B));
}

#[test]
fn an_established_claim_that_was_stale_without_rival_stays_established() {
    let mut world = World::new(&[]);
    world.claim(at(1), B, 1, &[X]);
    world.claim(at(200), B, 1, &[X]);
    // A is lower, but B has been there since the beginning.
    world.claim(at(203), A, 1, &[X]);
    assert_eq!(world.holder(at(204), X_ADDRESS), Some(B));
}

#[test]
fn who_left_is_stale_at_once_and_gives_way() {
    let mut world = World::new(&[]);
    world.claim(at(1), A, 1, &[X]);
    world.directory.handle_gone(at(2), A, &mut world.effects);
    assert_eq!(world.state(at(2), A, X), Some(ClaimState::Stale));
    assert_eq!(world.holder(at(3), X_ADDRESS), Some(A));
    world.effects.clear();
    assert_eq!(world.claim(at(4), B, 1, &[X]), [Effect::Changed]);
    assert_eq!(world.directory.resolve(ip(X_ADDRESS)), Some(B));
}

#[test]
fn hearsay_is_usable_until_120_s_after_its_owner_was_heard() {
    let mut world = World::new(&[]);
    assert_eq!(world.hearsay(at(10), A, X, 100, 500), [Effect::Changed]);
    assert_eq!(world.state(at(10), A, X), Some(ClaimState::Hearsay));
    // Other messages of the owner do not confirm it.
    world.heard(at(15), A);
    assert_eq!(world.holder(at(30) - MICRO, X_ADDRESS), Some(A));
    assert_eq!(world.holder(at(30), X_ADDRESS), None);
    assert_eq!(world.hearsay(at(40), A, X, 120, 500), []);
}

#[test]
fn the_owners_own_word_replaces_hearsay() {
    let mut world = World::new(&[]);
    world.hearsay(at(10), A, X, 0, 500);
    world.hearsay(at(10), A, "10.0.0.8/32", 0, 500);
    world.claim(at(11), A, 1, &[X]);
    assert_eq!(world.state(at(11), A, X), Some(ClaimState::Fresh));
    assert_eq!(world.state(at(11), A, "10.0.0.8/32"), None);
}

#[test]
fn hearsay_from_afar_is_refused() {
    let mut world = World::new(&[]);
    let rumour = Rumour {
        owner: A,
        prefix: net(X),
        age: 0,
        held: 0,
    };
    let payload = &codec::hearsay(mesh().hash, &[rumour])[0];
    world
        .directory
        .handle_payload(at(1), B, false, payload, &mut world.effects);
    assert_eq!(
        world.effects,
        [Effect::Dropped(DropReason::ClaimRefused, 1)]
    );
    assert!(world.directory.is_empty());
}

#[test]
fn a_newcomer_to_the_mesh_sides_with_it() {
    // The mesh knows B for 500 s. The lower A claims as well; in whatever order we hear it.
    for hearsay_first in [true, false] {
        let mut world = World::new(&[]);
        if hearsay_first {
            world.hearsay(at(1), B, X, 5, 500);
        }
        world.claim(at(2), A, 1, &[X]);
        if !hearsay_first {
            world.hearsay(at(3), B, X, 5, 500);
        }
        assert_eq!(world.holder(at(4), X_ADDRESS), Some(B), "{hearsay_first}");
        world.claim(at(25), B, 1, &[X]);
        assert_eq!(world.holder(at(26), X_ADDRESS), Some(B), "{hearsay_first}");
    }
}

#[test]
fn hearsay_does_not_push_out_what_has_been_known_for_ten_seconds() {
    let mut world = World::new(&[]);
    world.claim(at(1), B, 1, &[X]);
    world.hearsay(at(11) + MICRO, A, X, 0, 65_535);
    assert_eq!(world.holder(at(12), X_ADDRESS), Some(B));
    world.claim(at(13), A, 1, &[X]);
    assert_eq!(world.holder(at(14), X_ADDRESS), Some(B));
}

#[test]
fn a_new_neighbor_is_told_our_claims_and_what_we_know_the_last_heard_first() {
    let mut world = World::new(&["10.0.0.1/24"]);
    world.claim(at(1), A, 1, &[X]);
    world.claim(at(2), B, 1, &["10.0.0.8/32"]);
    world.claim(at(3), NetId(0xC), 1, &["10.0.0.9/32"]);
    world
        .directory
        .handle_link_up(at(60), NetId(0xC), &mut world.effects);
    let Effect::ToNeighbor(NetId(0xC), payload) = &world.effects[1] else {
        panic!("{:?}", world.effects);
    };
    let Content::Hearsay(rumours) = Payload::parse(payload).unwrap().content else {
        panic!("hearsay");
    };
    // Not its own claim back.
    let expected = [
        Rumour {
            owner: B,
            prefix: net("10.0.0.8/32"),
            age: 58,
            held: 58,
        },
        Rumour {
            owner: A,
            prefix: net(X),
            age: 59,
            held: 59,
        },
    ];
    assert_eq!(rumours, expected);
}

#[test]
fn at_most_256_entries_are_told_in_payloads_that_fit() {
    let mut world = World::new(&["10.0.0.1/24"]);
    for n in 0..20_u32 {
        let prefixes: Vec<String> = (0..20).map(|k| format!("10.1.{n}.{k}/32")).collect();
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        world.claim(at(1), NetId(100 + n), 1, &prefixes);
    }
    world.directory.handle_link_up(at(2), A, &mut world.effects);
    let mut entries = 0;
    for effect in &world.effects {
        let Effect::ToNeighbor(_, payload) = effect else {
            continue;
        };
        assert!(payload.len() <= codec::MAX_PAYLOAD);
        entries += match Payload::parse(payload).unwrap().content {
            Content::Claims { prefixes, .. } => prefixes.len(),
            Content::Hearsay(rumours) => rumours.len(),
            Content::Unknown => 0,
        };
    }
    assert_eq!(entries, MAX_TOLD);
}

#[test]
fn a_changed_set_forgets_what_is_no_longer_claimed() {
    let mut world = World::new(&[]);
    world.claim(at(1), A, 1, &[X, "10.0.0.8/32"]);
    world.claim(at(5), A, 2, &["10.0.0.8/32"]);
    assert_eq!(world.holder(at(5), X_ADDRESS), None);
    assert_eq!(world.holder(at(5), "10.0.0.8"), Some(A));
    world.claim(at(6), A, 3, &[]);
    assert!(world.directory.is_empty());
}

#[test]
fn a_set_in_parts_forgets_only_once_all_parts_came() {
    let mut world = World::new(&[]);
    world.claim(at(1), A, 1, &[X]);
    let prefixes: Vec<IpNet> = (0..62)
        .map(|n| net(&format!("2001:db8::{n:x}/128")))
        .collect();
    let mut payloads = codec::claims(mesh().hash, 2, &prefixes);
    payloads[0][16..18].copy_from_slice(&[0, 2]);
    let first = payloads[0].clone();
    world
        .directory
        .handle_payload(at(2), A, false, &first, &mut world.effects);
    assert_eq!(world.holder(at(3), X_ADDRESS), Some(A));
    let mut second = codec::claims(mesh().hash, 2, &prefixes[60..]).remove(0);
    second[16..18].copy_from_slice(&[1, 2]);
    world
        .directory
        .handle_payload(at(3), A, false, &second, &mut world.effects);
    assert_eq!(world.holder(at(4), X_ADDRESS), None);
    assert_eq!(world.directory.len(), 62);
}

#[test]
fn a_claim_on_our_own_address_is_refused_with_an_alarm_each_ten_seconds() {
    let mut world = World::new(&["10.0.0.1/24"]);
    let alarm = Alarm::OwnAddressClaimed {
        prefix: net("10.0.0.1/32"),
        netid: A,
    };
    let dropped = Effect::Dropped(DropReason::ClaimRefused, 1);
    let claim = |world: &mut World, now| world.claim(now, A, 1, &["10.0.0.1/32"]);
    assert_eq!(
        claim(&mut world, at(1)),
        [
            Effect::Alarm {
                alarm,
                suppressed: 0
            },
            dropped.clone()
        ]
    );
    assert_eq!(
        claim(&mut world, at(11) - MICRO),
        std::slice::from_ref(&dropped)
    );
    assert_eq!(
        claim(&mut world, at(11)),
        [
            Effect::Alarm {
                alarm,
                suppressed: 1
            },
            dropped
        ]
    );
    assert_eq!(world.directory.resolve(ip("10.0.0.1")), Some(ME));
}

#[test]
fn another_meshs_claims_are_ignored_with_an_alarm() {
    let mut world = World::new(&[]);
    let payload = &codec::claims(Mesh::new("lab").hash, 1, &[net(X)])[0];
    world
        .directory
        .handle_payload(at(1), A, false, payload, &mut world.effects);
    let alarm = Alarm::OtherMesh { netid: A };
    assert_eq!(
        world.effects[0],
        Effect::Alarm {
            alarm,
            suppressed: 0
        }
    );
    assert!(world.directory.is_empty());
}

#[test]
fn reserved_prefixes_and_bad_payloads_are_refused() {
    let mut world = World::new(&[]);
    let derived = format!("{}/128", mesh().address(B));
    for text in [
        "127.0.0.1/32",
        "0.0.0.0/0",
        "ff02::1/128",
        "fe80::1/128",
        &derived,
    ] {
        let dropped = Effect::Dropped(DropReason::ClaimRefused, 1);
        assert_eq!(world.claim(at(1), A, 1, &[text]), [dropped], "{text}");
    }
    world
        .directory
        .handle_payload(at(1), A, false, &[0xC2, 1], &mut world.effects);
    assert_eq!(
        world.effects,
        [Effect::Dropped(DropReason::BadDirectory, 1)]
    );
    assert!(world.directory.is_empty());
}

#[test]
fn the_table_is_bounded_for_one_netid_for_one_prefix_and_in_all() {
    let mut world = World::new(&[]);
    let prefixes: Vec<String> = (0..100).map(|k| format!("10.1.0.{k}/32")).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let effects = world.claim(at(1), A, 1, &prefixes);
    let full = effects
        .iter()
        .filter(|&effect| *effect == Effect::Dropped(DropReason::DirectoryFull, 1));
    assert_eq!(full.count(), 36);
    assert_eq!(world.directory.len(), MAX_OF_ONE);

    for n in 0..20 {
        world.claim(at(2), NetId(1000 + n), 1, &[X]);
    }
    assert_eq!(world.directory.len(), MAX_OF_ONE + MAX_RIVALS);

    for n in 0..200_u32 {
        let prefixes: Vec<String> = (0..60).map(|k| format!("10.2.{n}.{k}/32")).collect();
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        world.claim(at(3), NetId(2000 + n), 1, &prefixes);
    }
    assert_eq!(world.directory.len(), MAX_CLAIMS);
    // The established are still there.
    assert_eq!(world.holder(at(4), "10.1.0.5"), Some(A));
}

#[test]
fn stale_claims_make_room_and_fresh_ones_do_not() {
    let mut world = World::new(&[]);
    for n in 0..64_u32 {
        let prefixes: Vec<String> = (0..64).map(|k| format!("10.2.{n}.{k}/32")).collect();
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        world.claim(at(1), NetId(2000 + n), 1, &prefixes);
    }
    assert_eq!(world.directory.len(), MAX_CLAIMS);
    world.claim(at(5), A, 1, &[X]);
    assert_eq!(world.state(at(5), A, X), None);
    for n in 1..64_u32 {
        world.heard(at(100), NetId(2000 + n));
    }
    // 2000 is stale now, the others are not.
    world.claim(at(122), A, 1, &[X]);
    assert_eq!(world.state(at(122), A, X), Some(ClaimState::Fresh));
    assert_eq!(world.holder(at(123), "10.2.1.1"), Some(NetId(2001)));
}

#[test]
fn longest_prefix_wins_over_a_claimed_network() {
    let mut world = World::new(&[]);
    world.claim(at(1), A, 1, &["10.0.0.0/24"]);
    world.claim(at(2), B, 1, &[X]);
    assert_eq!(world.holder(at(3), X_ADDRESS), Some(B));
    assert_eq!(world.holder(at(3), "10.0.0.8"), Some(A));
}

/// D6, its last sentence: a Goodbye makes a claim stale before its 120 s are over.
#[test]
fn of_stale_claims_the_one_that_became_so_last_holds_and_then_the_lower_netid() {
    let mut world = World::new(&[]);
    world.claim(at(1), B, 1, &[X]);
    world.claim(at(50), A, 1, &[X]);
    world.directory.handle_gone(at(60), A, &mut world.effects);
    assert_eq!(world.holder(at(122), X_ADDRESS), Some(B));
    let mut world = World::new(&[]);
    world.claim(at(1), B, 1, &[X]);
    world.claim(at(1), A, 1, &[X]);
    assert_eq!(world.holder(at(122), X_ADDRESS), Some(A));
}

#[test]
fn claims_outside_a_certificates_prefixes_are_refused_and_those_there_were_forgotten() {
    use crate::seal::authority::Authority;
    use crate::seal::identity::Identity;
    use crate::seal::keys::Key;
    use wire::sealed::{Certificate, Prefix};

    let identity = Identity::new(Key::new([3; 32]), &Key::new([4; 32]));
    let authority = Authority::new([7; 16], &Key::new([9; 32]));
    let fields = Certificate::of([7; 16], A, *identity.public(), identity.signing_public());
    let certificate = authority
        .sign(&fields, &[Prefix::V4([10, 0, 7, 0], 24)])
        .unwrap();
    let mut grants = Grants::default();
    grants.note(A, Some(&certificate));

    let mut world = World::new(&[]);
    world.claim(at(1), A, 1, &["10.0.7.1/32", "10.0.8.1/32"]);
    world.claim(at(1), B, 1, &["10.0.9.1/32"]);
    let directory = &mut world.directory;
    directory.handle_timeout(at(10), &mut world.effects);
    let holder = |directory: &Directory, text| directory.routes().find(ip(text));
    assert_eq!(holder(directory, "10.0.8.1"), Some(A));

    directory.set_grants(at(10), Arc::new(grants), &mut world.effects);
    assert!(world.effects.contains(&Effect::Changed));
    world.effects.clear();
    assert_eq!(holder(&world.directory, "10.0.7.1"), Some(A));
    assert_eq!(holder(&world.directory, "10.0.8.1"), None);
    assert_eq!(holder(&world.directory, "10.0.9.1"), Some(B));

    let effects = world.claim(at(20), A, 2, &["10.0.7.1/32", "10.0.9.1/32"]);
    assert!(effects.contains(&Effect::Dropped(DropReason::ClaimRefused, 1)));
    assert_eq!(holder(&world.directory, "10.0.9.1"), Some(B));
}

/// A node between the zones: B speaks sealed, and so does the neighbor 0x99.
fn between(bridge: Bridge) -> World {
    let mut zone = OpenZone::new(bridge, KeyedHasher(1, 2));
    zone.add_node(B);
    zone.add_node(NetId(0x99));
    let mut world = World::new(&[]);
    world.directory.set_open_zone(Some(Arc::new(zone)));
    world
}

/// S87, S88.
#[test]
fn what_one_zone_claims_is_told_in_the_other_only_over_a_bridge() {
    const OPEN: NetId = NetId(0xC);
    for bridge in [Bridge::Off, Bridge::Sealed, Bridge::Clear] {
        let mut world = between(bridge);
        world.claim(at(1), A, 1, &[X]);
        world.claim(at(1), B, 1, &["10.0.0.8/32"]);
        let mut told = |neighbor| {
            let effects = &mut world.effects;
            world.directory.handle_link_up(at(2), neighbor, effects);
            let mut owners = Vec::new();
            for effect in world.effects.drain(..) {
                let Effect::ToNeighbor(_, payload) = effect else {
                    continue;
                };
                if let Content::Hearsay(all) = Payload::parse(&payload).unwrap().content {
                    owners.extend(all.iter().map(|rumour| rumour.owner));
                }
            }
            owners.sort_unstable();
            owners
        };
        let of = |is_bridged: bool, own: NetId| if is_bridged { vec![A, B] } else { vec![own] };
        assert_eq!(told(OPEN), of(bridge == Bridge::Clear, A), "{bridge:?}");
        assert_eq!(
            told(NetId(0x99)),
            of(bridge != Bridge::Off, B),
            "{bridge:?}"
        );
    }
}

/// S86.
#[test]
fn nobody_in_the_open_zone_speaks_for_a_node_of_the_sealed_one() {
    let mut world = between(Bridge::Clear);
    let rumour = Rumour {
        owner: B,
        prefix: net(X),
        age: 0,
        held: 500,
    };
    let payload = &codec::hearsay(mesh().hash, &[rumour])[0];
    let effects = &mut world.effects;
    world
        .directory
        .handle_payload(at(1), A, true, payload, effects);
    let refused = Effect::Dropped(DropReason::ClaimRefused, 1);
    assert_eq!(std::mem::take(&mut world.effects), [refused]);
    assert!(world.directory.is_empty());
    // From a sealed link it is believed.
    world.hearsay(at(1), B, X, 0, 500);
    assert_eq!(world.state(at(1), B, X), Some(ClaimState::Hearsay));
    // What comes in its name over a plain link does not refresh its claims.
    world.claim(at(2), B, 1, &[X]);
    for second in 3..200 {
        let effects = &mut world.effects;
        world.directory.handle_heard(at(second), B, A, effects);
    }
    world.tick(at(200));
    assert_eq!(world.state(at(200), B, X), Some(ClaimState::Stale));
    let effects = &mut world.effects;
    world
        .directory
        .handle_heard(at(201), B, NetId(0x99), effects);
    assert_eq!(world.state(at(201), B, X), Some(ClaimState::Fresh));
}
