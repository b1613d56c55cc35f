//! Plain nodes beside sealed ones, and such as prefer sealed links: who speaks how to whom, what goes
//! on from one zone to the other, and that nobody can make a latched pair speak plain (S83 to S88).
//!
//! ```text
//!   plain 0 ------- 1 plain           open zone
//!         |         |
//!  prefer 2 ======= 3 prefer          2, 3: both zones
//!         ‖         ‖
//!  sealed 4 ======= 5 sealed          sealed zone
//! ```

use std::net::SocketAddr;

use overlay::id::NetId;
use overlay::node::zone::Bridge;
use overlay::pump::count::{DropReason, Total};
use overlay::seal::policies::PeerMode;
use overlay::time::{Duration, Instant};
use overlay_tests::world::attacker::Tapped;
use overlay_tests::world::{Choices, Graph, Netem, World};
use wire::sealed::SealedKind;
use wire::{Flags, HEADER_LEN, Header, Kind};

use crate::seeds;

const SECOND: Duration = Duration::from_secs(1);
/// Three INITs, with all that their waits may be longer (S41).
const GIVE_UP: Duration = Duration::from_millis(8_400);
const EDGES: [(usize, usize); 7] = [(0, 1), (0, 2), (1, 3), (2, 3), (2, 4), (3, 5), (4, 5)];

/// Nodes 0 and 1 are plain, 2 and 3 prefer sealed links, 4 and 5 insist on them.
fn mixed(bridge: Bridge) -> Choices {
    Choices {
        secret_of: |node| (node >= 2).then_some(1),
        prefers: |node| node == 2 || node == 3,
        bridge,
        ..Choices::default()
    }
}

/// All prefer sealed links.
fn prefer() -> Choices {
    Choices {
        secret_of: |_| Some(1),
        prefers: |_| true,
        ..Choices::default()
    }
}

fn ladder() -> Graph {
    Graph {
        nodes: 6,
        edges: EDGES.into(),
    }
}

fn settled(graph: &Graph, choices: &Choices, seed: u64) -> World {
    let mut world = World::new(graph, Netem::default(), choices, seed);
    world.run_until_connected(60 * SECOND);
    world.run_for(2 * SECOND);
    world
}

fn is_plain(tapped: &Tapped) -> bool {
    tapped.datagram.first() == Some(&wire::MAGIC)
}

/// A message in the name of `src`.
fn said_by(src: NetId, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; HEADER_LEN];
    let header = Header {
        kind,
        flags: Flags::NONE,
        nonce: 7,
        src,
        dst: NetId::ALL,
    };
    header.emit(&mut datagram);
    datagram.extend(payload);
    datagram
}

/// How often each node delivered message `number`.
fn delivered(world: &World, number: u64) -> Vec<u32> {
    let nodes = 0..world.nodes.len();
    nodes.map(|node| world.deliveries(node, number)).collect()
}

/// S83, S87: sealed wherever both sides can; and nothing goes on between the zones.
#[test]
fn each_link_is_as_sealed_as_both_its_ends_and_the_zones_are_two_floods() {
    for seed in seeds(5, 100) {
        let mut world = settled(&ladder(), &mixed(Bridge::Off), seed);
        for (a, b) in EDGES {
            let sealed = world.is_sealed(a, b) && world.is_sealed(b, a);
            assert_eq!(sealed, a >= 2, "{}: {a} {b}", world.replay());
        }
        let mut reaches = |from: usize| {
            let number = world.send(from, NetId::ALL);
            world.run_for(2 * SECOND);
            delivered(&world, number)
        };
        assert_eq!(reaches(0), [0, 1, 1, 1, 0, 0]);
        assert_eq!(reaches(4), [0, 0, 1, 1, 0, 1]);
        // Its own messages go both ways, and 3 believes the sealed form alone.
        assert_eq!(reaches(2), [1, 1, 0, 1, 1, 1]);
        world.check();
    }
}

/// S88.
#[test]
fn a_bridge_carries_every_message_to_everybody_once() {
    for seed in seeds(5, 100) {
        let mut world = settled(&ladder(), &mixed(Bridge::Clear), seed);
        for from in [0, 1, 4, 5, 2] {
            let number = world.send(from, NetId::ALL);
            world.run_for(2 * SECOND);
            let mut expected = [1; 6];
            expected[from] = 0;
            assert_eq!(delivered(&world, number), expected, "{}", world.replay());
        }
        world.check();
    }
}

/// What becomes of 100 s of 500 messages a second that an outsider says at the plain side of a bridge, under
/// as many names, while members speak to each other: how long a node behind the bridge remembers, how
/// many messages it took, and whether it lost one of a member's.
fn flooded_from_outside(guests: u32, seed: u64) -> (World, Duration, u64, bool) {
    let choices = Choices {
        guests,
        seen_memory: 256 << 10,
        ..mixed(Bridge::Sealed)
    };
    let mut world = settled(&ladder(), &choices, seed);
    let (outside, member) = (world.nodes[0].address, world.nodes[3].netid);
    let taken = |world: &World| world.nodes[4].counters.total(Total::Flooded);
    let before = taken(&world);
    let mut is_whole = true;
    for turn in 0..10_000_u32 {
        for n in 0..5 {
            let src = NetId(0x7000_0000 + 5 * turn + n);
            let mut said = said_by(src, Kind::Data, &[0x45; 30]);
            // For nobody there is: each node on the way remembers it once.
            said[12..16].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
            world.inject(2, outside, &said);
        }
        // Over the bridge's own node too: 4 and 3 are no neighbors.
        let number = (turn % 100 == 0).then(|| world.send(4, member));
        world.run_for(Duration::from_millis(10));
        is_whole &= number.is_none_or(|number| world.deliveries(3, number) == 1);
    }
    let lifetime = world.nodes[4].flood.seen().lifetime();
    let taken = taken(&world) - before;
    (world, lifetime, taken, is_whole)
}

/// S105.
#[test]
fn an_outsiders_flood_neither_fills_what_is_behind_a_bridge_nor_costs_members_a_message() {
    for seed in seeds(1, 20) {
        let (world, lifetime, taken, is_whole) = flooded_from_outside(100, seed);
        assert!(is_whole, "{}", world.replay());
        assert_eq!(lifetime, 300 * SECOND, "{}", world.replay());
        // One neighbor has nine sixteenths of the rate, and what the burst allows.
        assert!((5_000..7_000).contains(&taken), "{taken}");
        let refused = world.nodes[2].counters.dropped(DropReason::GuestRate);
        assert!(refused > 30_000, "{refused}");
        // Counter-claim: so much fills it.
        let (world, lifetime, taken, _) = flooded_from_outside(1_000_000, seed);
        assert!(lifetime < 300 * SECOND, "{}", world.replay());
        assert!(taken > 35_000, "{taken}");
    }
}

/// S83; group H: an INIT answered in plain. Nobody gets plain before the third INIT was in vain.
#[test]
fn plain_is_spoken_to_a_peer_after_three_inits_and_no_sooner() {
    for seed in seeds(5, 100) {
        let choices = Choices {
            secret_of: |node| (node == 1).then_some(1),
            ..prefer()
        };
        // The higher one dials: 1, which prefers.
        let mut world = World::new(&Graph::line(2), Netem::default(), &choices, seed);
        let (from, to) = (world.nodes[0].address, world.nodes[1].address);
        world.tapped = Some(Vec::new());
        let hello = said_by(world.nodes[0].netid, Kind::Hello, &[]);
        world.inject(1, from, &hello);
        world.run_until_connected(60 * SECOND);
        let tapped = world.tapped.take().unwrap_or_default();
        let of_ours: Vec<_> = tapped.iter().filter(|one| one.from == to).collect();
        let first = of_ours.iter().position(|one| is_plain(one)).unwrap();
        let is_init = |one: &&&Tapped| SealedKind::of(&one.datagram) == Ok(SealedKind::Init);
        let before = of_ours[..first].iter().filter(is_init).count();
        // One went when the peer was named.
        assert_eq!(before, 2, "{}", world.replay());
        let in_time = of_ours[first].at <= Instant::ZERO + GIVE_UP;
        assert!(in_time, "{}", world.replay());
        world.check();
    }
}

/// S85: whoever drops all that is sealed gets no plain byte of a latched pair, however long and
/// whatever is said in plain in its name (group H), and it is back when the wire is.
#[test]
fn a_latched_pair_speaks_no_plain_byte_while_everything_sealed_is_dropped() {
    for seed in seeds(5, 100) {
        let mut world = settled(&Graph::line(3), &prefer(), seed);
        assert!(world.is_sealed(0, 1) && world.is_sealed(1, 0));
        world.set_netem(0, 1, |netem| netem.jams_sealed = true);
        world.tapped = Some(Vec::new());
        let [one, other]: [SocketAddr; 2] = [0, 1].map(|node| world.nodes[node].address);
        let elsewhere = SocketAddr::from(([10, 9, 9, 9], 44_204));
        let netid = world.nodes[1].netid;
        for _ in 0..40 {
            for kind in [
                Kind::Hello,
                Kind::Ping,
                Kind::Goodbye,
                Kind::Inform,
                Kind::Data,
            ] {
                let message = said_by(netid, kind, &[0x45; 22]);
                world.inject(0, other, &message);
                world.inject(0, elsewhere, &message);
            }
            world.run_for(5 * SECOND);
        }
        let tapped = world.tapped.take().unwrap_or_default();
        // Neither to each other, nor to where somebody goes by the other's name; 2 was told of 0, and
        // never met it.
        for (from, to) in [(one, other), (other, one), (one, elsewhere)] {
            let is_it = |tapped: &Tapped| (tapped.from, tapped.to) == (from, to);
            let plain = tapped
                .iter()
                .filter(|tapped| is_it(tapped) && is_plain(tapped));
            assert_eq!(plain.count(), 0, "{}", world.replay());
        }
        let counters = &world.nodes[0].counters;
        assert_eq!(counters.dropped(DropReason::PlainFromSealed), 400);
        assert_eq!(world.nodes[0].delivered.len(), 0);
        world.set_netem(0, 1, |netem| netem.jams_sealed = false);
        world.run_until_connected(60 * SECOND);
        assert!(world.is_sealed(0, 1) && world.is_sealed(1, 0));
        world.check();
    }
}

/// S86; group H: the plain zone forwards a pinned src.
#[test]
fn what_a_plain_neighbor_forwards_in_a_latched_nodes_name_is_dropped() {
    for seed in seeds(5, 100) {
        // 1 and 2 prefer; 0 is plain, and knows no better than to flood it.
        let choices = Choices {
            secret_of: |node| (node > 0).then_some(1),
            ..prefer()
        };
        let mut world = settled(&Graph::line(3), &choices, seed);
        let (plain, latched) = (world.nodes[0].address, world.nodes[2].netid);
        let before = world.nodes[1].counters.dropped(DropReason::PlainFromSealed);
        world.inject(1, plain, &said_by(latched, Kind::Data, &[0x45; 30]));
        world.inject(1, plain, &said_by(NetId(0x77), Kind::Data, &[0x45; 30]));
        world.run_for(SECOND);
        let node = &world.nodes[1];
        let refused = node.counters.dropped(DropReason::PlainFromSealed) - before;
        assert_eq!(refused, 1, "{}", world.replay());
        // Only the other one came to the device; nobody sent it, so it is a ghost there.
        assert_eq!(node.ghosts, 1, "{}", world.replay());
    }
}

/// S84, S85: two that had to begin in plain are sealed as soon as they can be, as the same
/// neighbors.
#[test]
fn a_plain_link_becomes_sealed_once_the_way_is_free() {
    for seed in seeds(5, 100) {
        let netem = Netem {
            jams_sealed: true,
            ..Netem::default()
        };
        let mut world = World::new(&Graph::line(2), netem, &prefer(), seed);
        world.run_until_connected(60 * SECOND);
        assert!(!world.is_sealed(0, 1) && !world.is_sealed(1, 0));
        let number = world.send(0, NetId::ALL);
        world.run_for(SECOND);
        assert_eq!(world.deliveries(1, number), 1);
        world.set_netem(0, 1, |netem| netem.jams_sealed = false);
        // Asked again once a minute.
        world.run_for(70 * SECOND);
        assert!(
            world.is_sealed(0, 1) && world.is_sealed(1, 0),
            "{}",
            world.replay()
        );
        assert!(world.is_connected(), "{}", world.replay());
        let number = world.send(1, NetId::ALL);
        world.run_for(SECOND);
        assert_eq!(world.deliveries(0, number), 1);
        world.check();
    }
}

/// S104: whoever drops all that is sealed, from the first moment on, gets no plain byte of a node for
/// the peer that its owner wants sealed; others get theirs.
#[test]
fn a_sealed_peer_of_a_node_that_prefers_gets_no_plain_byte_though_they_never_met() {
    for seed in seeds(5, 100) {
        let netem = Netem {
            jams_sealed: true,
            ..Netem::default()
        };
        let choices = Choices {
            // All dial each other.
            mode_of: |node, peer| match (node, peer) {
                (2, 0) => PeerMode::Sealed,
                _ => PeerMode::Prefer,
            },
            ..prefer()
        };
        let graph = Graph {
            nodes: 3,
            edges: [(0, 2), (1, 2)].into(),
        };
        let mut world = World::new(&graph, netem, &choices, seed);
        world.name_peer(0, 2);
        world.name_peer(1, 2);
        world.tapped = Some(Vec::new());
        let addresses = [0, 1, 2].map(|node| world.nodes[node].address);
        let netid = world.nodes[0].netid;
        for _ in 0..40 {
            for kind in [Kind::Hello, Kind::Ping, Kind::Goodbye, Kind::Data] {
                world.inject(2, addresses[0], &said_by(netid, kind, &[0x45; 22]));
            }
            world.run_for(5 * SECOND);
        }
        let tapped = world.tapped.take().unwrap_or_default();
        let sent = |to, is_it: fn(&Tapped) -> bool| {
            let ours = tapped
                .iter()
                .filter(|one| one.from == addresses[2] && one.to == to);
            ours.filter(|one| is_it(one)).count()
        };
        assert_eq!(sent(addresses[0], is_plain), 0, "{}", world.replay());
        let inits = sent(addresses[0], |one| !is_plain(one));
        assert!(inits > 10, "{}", world.replay());
        assert!(sent(addresses[1], is_plain) > 10, "{}", world.replay());
        assert!(world.nodes[2].control.is_neighbor(world.nodes[1].netid));
        assert!(!world.nodes[2].control.is_neighbor(netid));
        world.set_netem(0, 2, |netem| netem.jams_sealed = false);
        world.run_until_connected(60 * SECOND);
        assert!(world.is_sealed(2, 0) && world.is_sealed(0, 2));
        world.check();
    }
}

/// S104: who is to be plain is no trouble, and is sealed all the same once it asks for that.
#[test]
fn a_plain_peer_is_never_asked_for_more_and_is_latched_once_it_asks_itself() {
    for seed in seeds(5, 100) {
        let choices = Choices {
            mode_of: |node, _| match node {
                1 => PeerMode::Plain,
                _ => PeerMode::Prefer,
            },
            ..prefer()
        };
        let netem = Netem {
            jams_sealed: true,
            ..Netem::default()
        };
        let mut world = World::new(&Graph::line(2), netem, &choices, seed);
        world.name_peer(0, 1);
        world.tapped = Some(Vec::new());
        world.run_until_connected(60 * SECOND);
        world.run_for(200 * SECOND);
        let tapped = world.tapped.take().unwrap_or_default();
        let ours = world.nodes[1].address;
        let mut of_ours = tapped.iter().filter(|one| one.from == ours);
        assert!(of_ours.all(is_plain), "{}", world.replay());
        // 0 prefers, and asks once a minute.
        let is_asked = tapped.iter().any(|one| !is_plain(one));
        assert!(is_asked, "{}", world.replay());
        world.set_netem(0, 1, |netem| netem.jams_sealed = false);
        world.run_for(70 * SECOND);
        let is_sealed = world.is_sealed(0, 1) && world.is_sealed(1, 0);
        assert!(is_sealed, "{}", world.replay());
        world.set_netem(0, 1, |netem| netem.jams_sealed = true);
        let tapped = world.record(100 * SECOND);
        assert!(!tapped.iter().any(is_plain), "{}", world.replay());
        world.set_netem(0, 1, |netem| netem.jams_sealed = false);
        world.run_until_connected(60 * SECOND);
        world.check();
    }
}

/// S104: another word of the owner counts from then on, for links too that are up.
#[test]
fn a_plain_link_ends_when_its_peer_is_to_be_sealed_and_comes_back_when_that_is_taken_back() {
    for seed in seeds(5, 100) {
        let choices = Choices {
            secret_of: |node| (node == 1).then_some(1),
            ..prefer()
        };
        let mut world = settled(&Graph::line(2), &choices, seed);
        let (ours, plain) = (world.nodes[1].address, world.nodes[0].netid);
        world.set_modes(1, |_, _| PeerMode::Sealed);
        let tapped = world.record(120 * SECOND);
        let is_ours = |one: &&Tapped| one.from == ours && is_plain(one);
        let plain_bytes = tapped.iter().filter(is_ours).count();
        assert_eq!(plain_bytes, 0, "{}", world.replay());
        assert!(
            !world.nodes[1].control.is_neighbor(plain),
            "{}",
            world.replay()
        );
        world.set_modes(1, |_, _| PeerMode::Plain);
        world.run_until_connected(120 * SECOND);
        let number = world.send(1, NetId::ALL);
        world.run_for(SECOND);
        assert_eq!(world.deliveries(0, number), 1, "{}", world.replay());
    }
}

/// S84: when time is over a plain neighbor hears and says nothing any more.
#[test]
fn a_node_that_insists_after_a_while_leaves_its_plain_neighbors() {
    let mut world = settled(&ladder(), &mixed(Bridge::Off), 1);
    for node in [2, 3] {
        world.insist(node);
    }
    // What was on its way.
    world.run_for(SECOND);
    let tapped = world.record(120 * SECOND);
    let ours = [2, 3].map(|node| world.nodes[node].address);
    let is_ours = |one: &Tapped| is_plain(one) && ours.contains(&one.from);
    assert!(!tapped.iter().any(is_ours));
    assert!(!world.nodes[2].control.is_neighbor(world.nodes[0].netid));
    assert!(world.nodes[2].control.is_neighbor(world.nodes[3].netid));
    assert!(world.nodes[2].counters.dropped(DropReason::NotSealed) > 0);
}
