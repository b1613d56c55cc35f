//! What a member can do to its own mesh, and what not: it holds the secret and keeps to no rule.

use std::net::SocketAddr;

use overlay::id::NetId;
use overlay::pump::count::DropReason;
use overlay::time::Duration;
use overlay_tests::world::{Choices, Graph, Netem, World};
use wire::sealed::RIGHTS;
use wire::sealed::right::{FORWARD, INFORM, ORIGINATE};
use wire::{Flags, HEADER_LEN, INFORM_LEN, Inform, Kind, emit_control};

use crate::seeds;

const SECOND: Duration = Duration::from_secs(1);

fn settled(graph: &Graph, seed: u64) -> World {
    let mut world = World::new(graph, Netem::default(), &Choices::sealed(), seed);
    world.run_until_connected(10 * SECOND);
    world.run_for(2 * SECOND);
    world
}

fn inform(src: NetId, dst: NetId, nonce: u32, endpoint: SocketAddr) -> Vec<u8> {
    let mut datagram = emit_control(Kind::Inform, Flags::NO_FORWARD, nonce, src, dst).to_vec();
    datagram.resize(HEADER_LEN + INFORM_LEN, 0);
    let subject = NetId(0x5_0000 + nonce);
    Inform { subject, endpoint }.emit(&mut datagram[HEADER_LEN..]);
    datagram
}

#[test]
fn t4_a_member_introduces_nobody_but_itself() {
    for seed in seeds(1, 50) {
        let mut world = settled(&Graph::star(4), seed);
        let us = world.nodes[0].netid;
        // A node that there is, and one that there is not.
        for src in [world.nodes[2].netid, NetId(0xbad)] {
            let before = world.standing(0);
            let refused = world.nodes[0].counters.dropped(DropReason::SpoofedControl);
            let stays = Flags::NO_FORWARD;
            let says = [
                emit_control(Kind::Hello, stays, 1, src, NetId::ANY).to_vec(),
                emit_control(Kind::Hello, Flags::NONE, 2, src, NetId::ANY).to_vec(),
                emit_control(Kind::Pong, stays, 3, src, us).to_vec(),
                inform(src, us, 4, SocketAddr::from(([10, 250, 0, 1], 9))),
            ];
            for message in &says {
                assert!(world.say_sealed(1, 0, message));
                world.run_for(SECOND / 100);
            }
            assert_eq!(world.standing(0), before, "{}", world.replay());
            let now = world.nodes[0].counters.dropped(DropReason::SpoofedControl);
            assert_eq!(now - refused, says.len() as u64, "{}", world.replay());
        }
        assert!(world.astray.is_empty());
        world.check();
    }
}

/// S106: the first hop takes of a node what its certificate's class allows, and all that others say.
#[test]
fn t28_a_rate_class_bounds_what_a_member_says_of_its_own_and_nobody_elses() {
    for seed in seeds(2, 20) {
        let choices = Choices {
            certified: true,
            // 8,000 bytes a second.
            rate_class_of: |node| u8::from(node == 1),
            ..Choices::sealed()
        };
        // 1 also forwards for 2: 3 - 0 - 1 - 2.
        let graph = Graph {
            nodes: 4,
            edges: [(0, 1), (1, 2), (0, 3)].into(),
        };
        let mut world = World::new(&graph, Netem::default(), &choices, seed);
        world.run_until_connected(10 * SECOND);
        let to = world.nodes[3].netid;
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for _ in 0..3_000 {
            own.push(world.send_packet(1, to, 1_400));
            others.push(world.send_packet(2, to, 1_400));
            world.run_for(SECOND / 100);
        }
        world.run_for(SECOND);
        let arrived = |world: &World, numbers: &[u64]| {
            let arrived = numbers.iter().filter(|n| world.deliveries(3, **n) == 1);
            arrived.count() as u64
        };
        assert_eq!(arrived(&world, &others), 3_000, "{}", world.replay());
        let own = arrived(&world, &own);
        let len = 1_400 + HEADER_LEN as u64;
        let (least, most) = (30 * 8_000 / len, (31 * 8_000 + 65_536) / len);
        assert!((least..=most).contains(&own), "{own}: {}", world.replay());
        let dropped = world.nodes[0].counters.dropped(DropReason::RateClass);
        assert_eq!(own + dropped, 3_000, "{}", world.replay());
        let (us, netid) = (&world.nodes[0], world.nodes[1].netid);
        let links = us.sealing.as_ref().map(|sealing| &sealing.links);
        let class = links.and_then(|links| links.rate_class(netid));
        assert_eq!(class, Some((1, dropped)), "{}", world.replay());
        assert!(world.is_connected());
    }
}

/// S106: who may not forward has nobody to say a message for, so a made-up src takes it out of no bound. Of
/// who may, the same is what others said.
#[test]
fn t28_who_may_not_forward_is_held_to_its_rate_class_under_every_name() {
    for (seed, may_forward) in [(1, false), (2, true)] {
        let choices = Choices {
            certified: true,
            rights: match may_forward {
                true => |_| RIGHTS,
                false => |node| if node == 1 { RIGHTS & !FORWARD } else { RIGHTS },
            },
            rate_class_of: |node| u8::from(node == 1),
            ..Choices::sealed()
        };
        // 2 - 0 - 1.
        let mut world = World::new(&Graph::star(3), Netem::default(), &choices, seed);
        world.run_until_connected(10 * SECOND);
        let to = world.nodes[2].netid;
        let said = 2 * 65_536 / HEADER_LEN as u32;
        for nonce in 0..said {
            let src = NetId(0x5_0000 + nonce);
            let ping = emit_control(Kind::Ping, Flags::NONE, nonce, src, to);
            assert!(world.say_sealed(1, 0, &ping));
            if nonce % 100 == 0 {
                world.run_for(SECOND / 1_000);
            }
        }
        world.run_for(SECOND / 10);
        let dropped = world.nodes[0].counters.dropped(DropReason::RateClass);
        let (least, most) = match may_forward {
            // In less than a second no more than 8,000 bytes come back.
            false => (u64::from(said) / 2 - 8_000 / HEADER_LEN as u64, said.into()),
            true => (0, 0),
        };
        assert!(
            (least..=most).contains(&dropped),
            "{dropped}: {}",
            world.replay()
        );
    }
}

#[test]
fn t3_a_goodbye_under_another_name_costs_no_link() {
    let mut world = settled(&Graph::ring(4), 3);
    let victim = world.nodes[3].netid;
    let goodbye = emit_control(Kind::Goodbye, Flags::NONE, 77, victim, NetId::ALL);
    assert!(world.say_sealed(1, 0, &goodbye));
    for _ in 0..600 {
        let number = world.send(0, victim);
        world.run_for(SECOND / 50);
        assert_eq!(world.deliveries(3, number), 1, "{}", world.replay());
    }
    assert!(world.is_connected());
}

#[test]
fn t5_an_informed_victim_gets_three_inits_in_ten_minutes() {
    let mut world = settled(&Graph::star(4), 5);
    world.ledger.advance = 3;
    let victim = SocketAddr::from(([10, 250, 0, 1], 5_000));
    let us = world.nodes[0].netid;
    for n in 0..2_000_u32 {
        let teller = 1 + n as usize % 3;
        let told = inform(world.nodes[teller].netid, us, n, victim);
        world.say_sealed(teller, 0, &told);
        world.run_for(Duration::from_millis(290));
    }
    let got = world.astray.get(&victim).map_or(0, Vec::len);
    assert!((1..=3).contains(&got), "{got} datagrams");
    world.check();
}

#[test]
fn t7_a_members_flood_of_pings_to_all_is_answered_by_a_trickle() {
    let mut world = settled(&Graph::random(20, 4, 3), 3);
    let (from, to) = *world.wires.keys().next().expect("there are wires");
    for n in 0..1_000 {
        let ping = emit_control(Kind::Ping, Flags::NONE, n, NetId(0xbad), NetId::ALL);
        assert!(world.say_sealed(from, to, &ping));
        world.run_for(SECOND / 100);
    }
    world.run_for(2 * SECOND);
    for (number, node) in world.nodes.iter().enumerate() {
        let pong = u8::from(Kind::Pong);
        let pongs = node.flooded.get(&pong).copied().unwrap_or(0);
        assert!(pongs <= 14, "node {number}: {pongs} Pongs");
    }
    world.check();
}

#[test]
fn t8_one_message_of_a_member_never_starts_endless_traffic() {
    for kind in [1, 2, 3, 4, 5, 6, 0x10, 0xff] {
        for flags in [Flags::NONE, Flags::NO_FORWARD] {
            for dst in [NetId::ANY, NetId::ALL, NetId(0x1000), NetId(0xbad)] {
                for src in [NetId(0x1001), NetId(0xbad)] {
                    let mut world = settled(&Graph::line(2), u64::from(kind));
                    world.run_for(60 * SECOND);
                    let before = world.traffic.sent;
                    let message = emit_control(Kind::from(kind), flags, 5, src, dst);
                    world.say_sealed(1, 0, &message);
                    world.run_for(Duration::from_millis(700));
                    let caused = world.traffic.sent - before;
                    // The message, its answer, and what was due at that time.
                    assert!(
                        caused <= 8,
                        "kind {kind} {flags:?} from {src} to {dst}: {caused} datagrams"
                    );
                    world.check();
                }
            }
        }
    }
}

#[test]
fn one_member_among_many_floods_and_the_others_lose_nothing() {
    for seed in seeds(1, 30) {
        let mut world = settled(&Graph::ring(5), seed);
        let before = world.traffic.sent;
        for n in 0..2_000_u32 {
            // Another one each time, and each time other bytes.
            let mut message =
                emit_control(Kind::Data, Flags::NONE, n, NetId(0x9000 + n), NetId(0xbad)).to_vec();
            message.resize(200, n as u8);
            world.say_sealed(1, 0, &message);
            let number = world.send(2, world.nodes[4].netid);
            world.run_for(Duration::from_millis(10));
            assert_eq!(world.deliveries(4, number), 1, "{}", world.replay());
        }
        // S12: each message costs a flood at most.
        assert!(world.traffic.sent - before <= 2_000 * (2 * 5 + 2 * 5));
        world.check();
    }
}

/// Neither of its own, nor of others, nor where others are.
const NOTHING: u16 = RIGHTS & !(ORIGINATE | FORWARD | INFORM);

/// S97.
#[test]
fn what_its_certificate_gives_a_member_no_right_to_is_dropped_where_it_comes_in() {
    for seed in seeds(2, 50) {
        let choices = Choices {
            certified: true,
            rights: |node| {
                if node == 1 { NOTHING } else { RIGHTS }
            },
            ..Choices::sealed()
        };
        let mut world = World::new(&Graph::line(3), Netem::default(), &choices, seed);
        world.run_until_connected(10 * SECOND);
        world.run_for(2 * SECOND);
        let reason = DropReason::NoRight;
        let before = world.nodes[0].counters.dropped(reason);
        let (us, own) = (world.nodes[0].netid, world.nodes[1].netid);
        let data = |src, nonce| {
            let mut data = emit_control(Kind::Data, Flags::NONE, nonce, src, us).to_vec();
            data.extend([0x45; 20]);
            data
        };
        let endpoint = SocketAddr::from(([10, 250, 0, 1], 9));
        let says = [
            data(own, 1),
            data(world.nodes[2].netid, 2),
            inform(own, us, 3, endpoint),
        ];
        for message in &says {
            assert!(world.say_sealed(1, 0, message));
            world.run_for(SECOND / 10);
        }
        let number = world.send(1, us);
        let passed = world.send(2, us);
        world.run_for(SECOND);
        assert_eq!(world.deliveries(0, number), 0, "{}", world.replay());
        assert_eq!(world.deliveries(0, passed), 0, "{}", world.replay());
        let after = world.nodes[0].counters.dropped(reason);
        // Its own Informs besides.
        assert!(
            after - before >= says.len() as u64 + 2,
            "{}",
            world.replay()
        );
        assert!(world.astray.is_empty());
        world.check();
    }
}
