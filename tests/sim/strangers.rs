//! Attackers of SECURITY section 1 against sealed meshes: outsiders on and off the path.

use std::net::SocketAddr;

use overlay::id::NetId;
use overlay::pump::count::DropReason;
use overlay::seal::links::Notice;
use overlay::time::{Duration, Instant};
use overlay_tests::world::attacker::{Forger, Tapped};
use overlay_tests::world::{Choices, Graph, Netem, World, address_of};
use wire::sealed::{SEALED_MAGIC, SealedKind};
use wire::{Flags, HEADER_LEN, INFORM_LEN, Inform, Kind, emit_control};

use crate::seeds;

const SECOND: Duration = Duration::from_secs(1);

fn settled(graph: &Graph, seed: u64) -> World {
    let mut world = World::new(graph, Netem::default(), &Choices::sealed(), seed);
    world.run_until_connected(10 * SECOND);
    world.run_for(2 * SECOND);
    world
}

fn stranger(n: u16) -> SocketAddr {
    let [high, low] = n.to_be_bytes();
    SocketAddr::from(([198, 18, high, low], 7))
}

/// Traffic of ten seconds, a rekey's handshake included if `from_start`.
fn recording(world: &mut World) -> Vec<Tapped> {
    world.tapped = Some(Vec::new());
    for round in 0..100 {
        world.send(round % world.nodes.len(), NetId::ALL);
        world.run_for(SECOND / 10);
    }
    // What is still under way arrives, so that a replay is nothing but one.
    world.run_for(SECOND);
    world.tapped.take().unwrap_or_default()
}

/// The index of the session that opens at `node` for what `from` sends.
fn index_of(tapped: &[Tapped], node: SocketAddr, from: SocketAddr) -> u32 {
    let is_link = |tapped: &&Tapped| {
        tapped.to == node
            && tapped.from == from
            && matches!(SealedKind::of(&tapped.datagram), Ok(SealedKind::Link))
    };
    let last = tapped.iter().rev().find(is_link).expect("there is traffic");
    u32::from_be_bytes(last.datagram[4..8].try_into().expect("four bytes"))
}

/// Still one mesh, with nothing lost.
fn works(world: &mut World) {
    for from in 0..world.nodes.len() {
        let number = world.send(from, NetId::ALL);
        world.run_for(SECOND);
        for node in 0..world.nodes.len() {
            let times = world.deliveries(node, number);
            assert_eq!(times, u32::from(node != from), "{}", world.replay());
        }
    }
    world.check();
}

#[test]
fn t1_forged_inits_cookies_and_links_change_nothing_and_are_not_answered() {
    for seed in seeds(2, 100) {
        let mut world = settled(&Graph::ring(4), seed);
        let tapped = recording(&mut world);
        let (near, far) = (world.nodes[0].address, world.nodes[1].address);
        let index = index_of(&tapped, near, far);
        let mut forger = Forger::new(seed);
        for n in 0..1_000_u16 {
            let from = if n % 2 == 0 { far } else { stranger(n) };
            let datagrams = [
                forger.init(),
                forger.cookie(index),
                forger.link(index, u64::from(n), 100),
                forger.link(index, u64::MAX - u64::from(n), 100),
                forger.link(index, 1 << 43, 32),
                forger.link(u32::from(n), 0, 1_400),
            ];
            for datagram in datagrams {
                let changed = world.touch(0, from, &datagram);
                assert!(!changed, "{}: {:02x?}", world.replay(), &datagram[..16]);
            }
        }
        world.run_for(SECOND);
        assert!(world.astray.is_empty(), "{}", world.replay());
        works(&mut world);
    }
}

#[test]
fn t13_recorded_traffic_delivers_nothing_at_any_age_or_after_a_restart() {
    for seed in seeds(1, 30) {
        let mut world = World::new(&Graph::ring(4), Netem::default(), &Choices::sealed(), seed);
        world.tapped = Some(Vec::new());
        world.run_until_connected(10 * SECOND);
        let mut tapped = world.tapped.take().unwrap_or_default();
        tapped.extend(recording(&mut world));
        let mut waited = 0;
        for age in [10, 200, 400] {
            world.run_for((age - waited) * SECOND);
            waited = age;
            replay_is_idle(&mut world, &tapped);
        }
        for node in [0, 2] {
            world.kill(node);
            world.run_for(SECOND);
            world.restart(node);
            // Before anybody is back, and after.
            replay_is_idle(&mut world, &tapped);
            world.run_until_connected(35 * SECOND);
            replay_is_idle(&mut world, &tapped);
        }
        world.run_for(10 * SECOND);
        works(&mut world);
    }
}

fn replay_is_idle(world: &mut World, tapped: &[Tapped]) {
    let delivered = |world: &World| -> Vec<u32> {
        let nodes = world.nodes.iter();
        nodes.map(|node| node.delivered.values().sum()).collect()
    };
    let before = delivered(world);
    world.play(tapped);
    assert_eq!(delivered(world), before, "{}", world.replay());
    // And from elsewhere: no endpoint moves, and nobody there is answered but by a RESP.
    for tapped in tapped.iter().rev().take(50) {
        let mut moved = tapped.clone();
        moved.from = stranger(1);
        world.play(&[moved]);
    }
    assert_eq!(delivered(world), before, "{}", world.replay());
}

#[test]
fn a_harmed_shortened_reflected_or_spliced_datagram_changes_nothing() {
    for seed in seeds(2, 100) {
        let mut world = settled(&Graph::line(3), seed);
        // Through a rekey, so that there are handshakes among them.
        world.tapped = Some(Vec::new());
        for _ in 0..140 {
            world.send(0, NetId::ALL);
            world.run_for(SECOND);
        }
        let tapped = world.tapped.take().unwrap_or_default();
        let mut forger = Forger::new(seed);
        let middle = world.nodes[1].address;
        let (left, right) = (world.nodes[0].address, world.nodes[2].address);
        let other = index_of(&tapped, middle, right);
        let mut tried = 0;
        for tapped in tapped.iter().filter(|tapped| tapped.to == middle) {
            let datagram = &tapped.datagram;
            let mut tries = vec![
                forger.flipped(datagram),
                forger.cut(datagram),
                [datagram, &[0][..]].concat(),
            ];
            // The far ends' own bytes, back to them, and one session's text under another's index.
            let mut spliced = datagram.to_vec();
            let at = if datagram[1] == 5 { 4 } else { 8 };
            spliced[at..at + 4].copy_from_slice(&other.to_be_bytes());
            if tapped.from == left {
                tries.push(spliced);
            }
            for spoilt in tries {
                let changed = world.touch(1, tapped.from, &spoilt);
                assert!(
                    !changed,
                    "{}: {:02x?}",
                    world.replay(),
                    &spoilt[..16.min(spoilt.len())]
                );
                tried += 1;
            }
            let sender = if tapped.from == left { 0 } else { 2 };
            let changed = world.touch(sender, middle, datagram);
            assert!(!changed, "{}: reflected", world.replay());
        }
        assert!(tried > 400);
        let [forged, malformed] = [DropReason::Forged, DropReason::Malformed]
            .map(|reason| world.nodes[1].counters.dropped(reason));
        assert!(forged > 100 && malformed > 10, "{forged}, {malformed}");
        works(&mut world);
    }
}

/// Somebody on the path takes what a neighbor sends and lets it come from elsewhere.
#[test]
fn fresh_datagrams_from_a_strangers_address_move_no_link_there() {
    for seed in seeds(2, 50) {
        let mut world = settled(&Graph::line(2), seed);
        let thief = stranger(9);
        if let Some(wire) = world.wires.get_mut(&(1, 0)) {
            wire.netem.cut = true;
        }
        for _ in 0..2_000 {
            world.send(0, NetId::ALL);
            world.send(1, NetId::ALL);
            for stolen in world.record(SECOND / 100) {
                if stolen.from == world.nodes[1].address {
                    world.inject(0, thief, &stolen.datagram);
                }
            }
        }
        // Challenges, within three times what came (S4, which the world watches), and no traffic.
        let got = world.astray.get(&thief).map_or(&[][..], Vec::as_slice);
        assert!(got.len() <= 200, "{}: {}", world.replay(), got.len());
        let longest = got.iter().map(Vec::len).max().unwrap_or(0);
        assert!(longest < 50, "{}: {longest} bytes", world.replay());
        if let Some(wire) = world.wires.get_mut(&(1, 0)) {
            wire.netem.cut = false;
        }
        world.run_for(SECOND);
        works(&mut world);
    }
}

/// H of the corpus: each plain message as a neighbor would have sent it, from that neighbor's
/// address and under its name.
#[test]
fn nothing_plain_from_a_sealed_neighbors_address_is_taken_or_answered() {
    for seed in seeds(1, 50) {
        let mut world = settled(&Graph::ring(4), seed);
        let (us, neighbor) = (world.nodes[0].netid, world.nodes[1].netid);
        let address = world.nodes[1].address;
        let mut tried = 0;
        for kind in [1, 2, 3, 4, 5, 0x10, 0x77] {
            for flags in [Flags::NONE, Flags::NO_FORWARD] {
                for dst in [us, NetId::ANY, NetId::ALL] {
                    let kind = Kind::from(kind);
                    let mut datagram = emit_control(kind, flags, tried, neighbor, dst).to_vec();
                    datagram.resize(HEADER_LEN + INFORM_LEN, 0x45);
                    if kind == Kind::Inform {
                        let subject = NetId(0xbad);
                        let endpoint = SocketAddr::from(([10, 9, 9, 9], 9));
                        Inform { subject, endpoint }.emit(&mut datagram[HEADER_LEN..]);
                    }
                    let sent = world.traffic.sent;
                    assert!(!world.touch(0, address, &datagram), "{}", world.replay());
                    assert_eq!(world.traffic.sent, sent, "{}: answered", world.replay());
                    tried += 1;
                }
            }
        }
        let refused = world.nodes[0].counters.dropped(DropReason::NotSealed);
        assert_eq!(refused, u64::from(tried));
        works(&mut world);
    }
}

/// When node 1 sends INITs to node 0, which is away, in a minute; whoever has its address says
/// `answers` to each. The world as it is then.
fn dialing(seed: u64, answers: &[(Kind, NetId)]) -> (World, Vec<Instant>) {
    let graph = Graph::line(2);
    let mut world = World::new(&graph, Netem::default(), &Choices::sealed(), seed);
    world.kill(0);
    let (far, address) = (world.nodes[0].netid, world.nodes[0].address);
    world.tapped = Some(Vec::new());
    let mut inits = Vec::new();
    let mut nonce = 0_u32;
    for _ in 0..600 {
        world.run_for(SECOND / 10);
        let said = world.tapped.replace(Vec::new()).unwrap_or_default();
        for tapped in said {
            let is_init = tapped.datagram.starts_with(&[SEALED_MAGIC, 1]);
            assert!(is_init, "{}: {:02x?}", world.replay(), tapped.datagram);
            inits.push(tapped.at);
            for (kind, dst) in answers {
                nonce += 1;
                let answer = emit_control(*kind, Flags::NO_FORWARD, nonce, far, *dst);
                assert!(!world.touch(1, address, &answer), "{}", world.replay());
            }
        }
    }
    world.tapped = None;
    (world, inits)
}

#[test]
fn an_init_that_is_answered_in_plain_is_repeated_as_if_nobody_had_spoken() {
    for seed in seeds(2, 50) {
        let us = NetId(0x1001);
        let answers = [
            (Kind::Hello, NetId::ANY),
            (Kind::Hello, us),
            (Kind::Ping, NetId::ANY),
            (Kind::Pong, us),
            (Kind::Goodbye, NetId::ALL),
            (Kind::Data, us),
        ];
        let (_, expected) = dialing(seed, &[]);
        let (mut world, inits) = dialing(seed, &answers);
        assert!(!inits.is_empty());
        assert_eq!(inits, expected, "{}", world.replay());
        let refused = world.nodes[1].counters.dropped(DropReason::NotSealed);
        assert_eq!(refused as usize, inits.len() * answers.len());
        // Who is there in truth is not late for it.
        world.restart(0);
        world.run_until_connected(35 * SECOND);
        works(&mut world);
    }
}

#[test]
fn a_second_key_for_a_netid_is_refused_and_told_and_the_first_stays() {
    for seed in seeds(2, 50) {
        // Node 3 goes by the netid of node 1, with a key of its own; both know node 0.
        let choices = Choices {
            netid_of: |n| NetId(0x1000 + if n == 3 { 1 } else { n as u32 }),
            ..Choices::sealed()
        };
        let mut world = World::new(&Graph::star(4), Netem::default(), &choices, seed);
        world.kill(3);
        world.run_until_connected(10 * SECOND);
        world.run_for(2 * SECOND);
        world.restart(3);
        for _ in 0..200 {
            let number = world.send(0, NetId(0x1001));
            world.run_for(SECOND);
            assert_eq!(world.deliveries(1, number), 1, "{}", world.replay());
            assert_eq!(world.deliveries(3, number), 0, "{}", world.replay());
            assert!(!world.is_sealed(0, 3), "{}", world.replay());
        }
        let sealing = world.nodes[0].sealing.as_ref().expect("it is sealed");
        let is_alarm = |notice: &Notice| matches!(notice, Notice::Refused { netid, .. } if *netid == NetId(0x1001));
        let alarms = sealing
            .notices
            .iter()
            .filter(|(_, notice)| is_alarm(notice));
        assert!(alarms.count() > 0, "{}", world.replay());
    }
}

/// What an outsider does 300 times a second.
type Script = fn(&mut World, &mut Forger, &[Tapped], u16);

const SCRIPTS: [(&str, Script); 6] = [
    ("forged INITs", |world, forger, _, n| {
        world.inject(0, stranger(n), &forger.init());
    }),
    ("replayed INITs from everywhere", |world, _, tapped, n| {
        let is_init = |tapped: &&Tapped| tapped.datagram.get(1) == Some(&1);
        let init = tapped.iter().filter(is_init).nth(usize::from(n) % 3);
        let init = init.expect("there was a handshake").datagram.clone();
        world.inject(0, stranger(n), &init);
    }),
    ("forged LINKs", |world, forger, tapped, n| {
        let (near, far) = (world.nodes[0].address, world.nodes[1].address);
        let link = forger.link(index_of(tapped, near, far), u64::from(n) << 20, 200);
        world.inject(0, far, &link);
    }),
    ("everything again", |world, _, tapped, n| {
        let again = &tapped[usize::from(n) % tapped.len()];
        if again.to == world.nodes[0].address {
            world.inject(0, again.from, &again.datagram);
        }
    }),
    ("plain Hellos", |world, _, _, n| {
        let src = NetId(u32::from(n) + 1);
        let hello = emit_control(Kind::Hello, Flags::NO_FORWARD, n.into(), src, NetId::ANY);
        world.inject(0, stranger(n), &hello);
    }),
    ("plain Goodbyes of the neighbor", |world, _, _, n| {
        let (src, from) = (world.nodes[1].netid, world.nodes[1].address);
        let goodbye = emit_control(Kind::Goodbye, Flags::NONE, n.into(), src, NetId::ALL);
        world.inject(0, from, &goodbye);
    }),
];

#[test]
fn during_any_script_of_an_outsider_a_member_joins_in_ten_seconds_and_nothing_stays_of_it() {
    for seed in seeds(1, 30) {
        for (name, script) in SCRIPTS {
            let graph = Graph::star(4);
            let mut world = World::new(&graph, Netem::default(), &Choices::sealed(), seed);
            world.kill(3);
            world.tapped = Some(Vec::new());
            world.run_until_connected(10 * SECOND);
            world.run_for(2 * SECOND);
            let tapped = world.tapped.take().unwrap_or_default();
            let held = held(&world);
            let mut forger = Forger::new(seed);
            let mut joined = None;
            for n in 0..2_000_u16 {
                if n == 1_000 {
                    world.restart(3);
                }
                // 300 a second: more than puts a node under load.
                for turn in 0..3 {
                    script(&mut world, &mut forger, &tapped, n * 3 + turn);
                }
                world.run_for(Duration::from_millis(10));
                if n > 1_000 && joined.is_none() && world.is_connected() {
                    joined = Some(n - 1_000);
                }
            }
            assert!(joined.is_some(), "{}: {name}: nobody joins", world.replay());
            world.run_for(600 * SECOND);
            let grown = self::held(&world);
            // The one that joined, its session and the few before it.
            assert!(
                grown.0 <= held.0 + 1 && grown.1 <= held.1 + 16,
                "{}: {name}: {held:?} became {grown:?}",
                world.replay()
            );
            works(&mut world);
        }
    }
}

fn held(world: &World) -> (usize, usize) {
    let sealing = world.nodes[0].sealing.as_ref();
    sealing.map_or((0, 0), |sealing| sealing.links.held())
}

#[test]
fn the_addresses_of_nodes_are_what_the_scripts_take_them_for() {
    let world = settled(&Graph::line(2), 1);
    assert_eq!(world.nodes[1].address, address_of(1));
}
