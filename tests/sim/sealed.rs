//! Sealed meshes: what holds in plain holds sealed, through rekeys, faults, crashes and partitions.

use std::net::SocketAddr;

use overlay::id::NetId;
use overlay::pump::count::DropReason;
use overlay::seal::effect::Event;
use overlay::seal::links::Notice;
use overlay::time::Duration;
use overlay_tests::world::{Choices, Graph, Netem, World};

use crate::seeds;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than two sessions may live.
const REKEYS: usize = 400;

fn graphs(seed: u64) -> [Graph; 5] {
    [
        Graph::line(2),
        Graph::line(5),
        Graph::ring(5),
        Graph::star(8),
        Graph::random(12, 4, seed),
    ]
}

fn settled(graph: &Graph, choices: &Choices, seed: u64) -> World {
    let mut world = World::new(graph, Netem::default(), choices, seed);
    world.run_until_connected(10 * SECOND);
    world.run_for(2 * SECOND);
    world
}

/// How often sessions of node `node` were replaced.
fn rekeys(world: &World, node: usize) -> usize {
    let Some(sealing) = &world.nodes[node].sealing else {
        return 0;
    };
    let is_one = |notice: &Notice| matches!(notice, Notice::Peer(Event::Rekeyed(_)));
    let notices = sealing.notices.iter();
    notices.filter(|(_, notice)| is_one(notice)).count()
}

#[test]
fn every_message_reaches_everyone_once_at_the_price_of_a_flood_and_through_rekeys() {
    for seed in seeds(1, 20) {
        for graph in graphs(seed) {
            let mut world = settled(&graph, &Choices::sealed(), seed);
            let before = world.traffic.data;
            let flood = (2 * graph.edges.len() - (graph.nodes - 1)) as u64;
            for round in 0..REKEYS {
                let from = round % graph.nodes;
                let number = world.send(from, NetId::ALL);
                world.run_for(SECOND);
                for node in 0..graph.nodes {
                    let times = world.deliveries(node, number);
                    assert_eq!(times, u32::from(node != from), "{}", world.replay());
                }
            }
            let cost = world.traffic.data - before;
            assert_eq!(cost, flood * REKEYS as u64, "{}", world.replay());
            assert!(rekeys(&world, 0) >= 2, "{}", world.replay());
            world.check();
        }
    }
}

#[test]
fn a_rekey_loses_nothing_while_datagrams_overtake_each_other() {
    for seed in seeds(1, 50) {
        let mut world = settled(&Graph::line(2), &Choices::sealed(), seed);
        world.set_netem(0, 1, |netem| netem.jitter = Duration::from_millis(200));
        world.run_for(100 * SECOND);
        let sent: Vec<_> = (0..8_000)
            .map(|n| {
                world.run_for(Duration::from_millis(5));
                (1 - n % 2, world.send(n % 2, NetId::ALL))
            })
            .collect();
        world.run_for(SECOND);
        assert!(rekeys(&world, 0) >= 1, "{}", world.replay());
        let lost = sent
            .iter()
            .filter(|(to, number)| world.deliveries(*to, *number) == 0);
        assert_eq!(lost.count(), 0, "{}", world.replay());
        world.check();
    }
}

#[test]
fn one_seed_gives_one_sealed_run_and_another_seed_another() {
    let run = |seed| {
        let netem = Netem {
            loss: 50,
            jitter: Duration::from_millis(20),
            ..Netem::default()
        };
        let mut world = World::new(&Graph::ring(5), netem, &Choices::sealed(), seed);
        for from in 0..50 {
            world.send(from % 5, NetId::ALL);
            world.run_for(5 * SECOND);
        }
        world.trace()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn under_every_fault_nothing_comes_twice_or_from_nobody_and_most_arrives() {
    for seed in seeds(3, 500) {
        let graph = Graph::random(8, 4, seed);
        let mut world = settled(&graph, &Choices::sealed(), seed);
        for &(a, b) in &graph.edges {
            world.set_netem(a, b, |netem| {
                (netem.loss, netem.burst, netem.duplicate) = (150, 500, 200);
                (netem.corrupt, netem.truncate) = (50, 20);
                netem.jitter = Duration::from_millis(500);
            });
        }
        let mut expected = 0;
        for round in 0..200 {
            world.send(round % graph.nodes, NetId::ALL);
            world.run_for(SECOND);
            expected += graph.nodes as u64 - 1;
        }
        world.run_for(5 * SECOND);
        let each = world.nodes.iter().flat_map(|node| node.delivered.values());
        let delivered: u64 = each.map(|times| u64::from(*times)).sum();
        // Here a harmed datagram is a lost one: about a fifth of the copies, in bursts.
        assert!(
            delivered * 10 >= expected * 9,
            "{}: {delivered} of {expected}",
            world.replay()
        );
        world.check();
    }
}

#[test]
fn a_ring_loses_nothing_whichever_wire_goes_silent() {
    let graph = Graph::ring(5);
    for &(a, b) in &graph.edges {
        let mut world = settled(&graph, &Choices::sealed(), 1);
        let to = world.nodes[2].netid;
        for round in 0..500 {
            if round == 100 {
                world.set_netem(a, b, |netem| netem.cut = true);
            }
            let number = world.send(0, to);
            world.run_for(SECOND / 10);
            assert_eq!(world.deliveries(2, number), 1, "{}", world.replay());
        }
        world.check();
    }
}

#[test]
fn a_node_that_crashed_is_back_within_thirty_five_seconds_and_a_parted_mesh_too() {
    for seed in seeds(2, 50) {
        for down in [1, 20, 100, 300] {
            let graph = Graph::ring(4);
            let mut world = settled(&graph, &Choices::sealed(), seed);
            let crashes = seed % 2 == 0;
            if crashes {
                world.kill(2);
            } else {
                world.set_netem(1, 2, |netem| netem.cut = true);
                world.set_netem(2, 3, |netem| netem.cut = true);
            }
            for round in 0..down {
                world.send(round % 2, NetId::ALL);
                world.run_for(SECOND);
            }
            if crashes {
                world.restart(2);
            } else {
                world.set_netem(1, 2, |netem| netem.cut = false);
                world.set_netem(2, 3, |netem| netem.cut = false);
            }
            world.run_until_connected(35 * SECOND);
            world.run_for(2 * SECOND);
            let number = world.send(0, NetId::ALL);
            world.run_for(SECOND);
            assert_eq!(world.deliveries(2, number), 1, "{}", world.replay());
            world.check();
        }
    }
}

#[test]
fn a_node_whose_address_changes_keeps_its_link_and_nothing_comes_twice() {
    for seed in seeds(2, 50) {
        let graph = Graph::line(3);
        let mut world = settled(&graph, &Choices::sealed(), seed);
        for turn in 0..3_u8 {
            // The outermost node: it dials, as whoever sits behind a NAT.
            world.rebind(2, SocketAddr::from(([10, 99, turn, 9], 50_000)));
            for second in 0..60 {
                let out = world.send(2, NetId::ALL);
                world.run_for(SECOND / 2);
                let back = world.send(0, NetId::ALL);
                world.run_for(SECOND / 2);
                // What it says itself arrives at once, and shows the other side where it is.
                let replay = world.replay();
                assert_eq!(world.deliveries(0, out), 1, "{replay}, turn {turn}");
                let arrives = u32::from(second > 0);
                assert!(
                    world.deliveries(2, back) >= arrives,
                    "{replay}, turn {turn}"
                );
            }
        }
        world.check();
    }
}

#[test]
fn a_plain_node_among_sealed_ones_stays_outside_and_learns_nothing() {
    const OUTSIDE: [fn(usize) -> Option<u8>; 5] = [
        |n| (n != 0).then_some(1),
        |n| (n != 1).then_some(1),
        |n| (n != 2).then_some(1),
        |n| (n != 3).then_some(1),
        |n| (n != 4).then_some(1),
    ];
    for seed in seeds(2, 50) {
        for (outsider, secret_of) in OUTSIDE.into_iter().enumerate() {
            let choices = Choices {
                secret_of,
                ..Choices::default()
            };
            apart(outsider, &choices, seed);
        }
    }
}

#[test]
fn a_node_with_the_secret_of_another_mesh_stays_outside() {
    for seed in seeds(2, 50) {
        let choices = Choices {
            secret_of: |n| Some(if n == 2 { 7 } else { 1 }),
            ..Choices::default()
        };
        apart(2, &choices, seed);
    }
}

/// A ring of five with a chord around `outsider`: the others are one mesh, it is alone.
fn apart(outsider: usize, choices: &Choices, seed: u64) {
    let mut graph = Graph::ring(5);
    let (a, b) = ((outsider + 1) % 5, (outsider + 4) % 5);
    graph.edges.insert((a.min(b), a.max(b)));
    let mut world = World::new(&graph, Netem::default(), choices, seed);
    world.run_for(20 * SECOND);
    for round in 0..100 {
        let number = world.send(round % 5, NetId::ALL);
        world.run_for(SECOND);
        for node in 0..5 {
            let hears = node != outsider && round % 5 != outsider && node != round % 5;
            let times = world.deliveries(node, number);
            assert_eq!(times, u32::from(hears), "{}: node {node}", world.replay());
        }
    }
    let alone = world.nodes[outsider].control.links().count();
    assert_eq!(alone, 0, "{}", world.replay());
    // The higher dials the lower.
    if world.nodes[outsider].sealing.is_none() && outsider > 0 {
        let refused = world.nodes[outsider - 1]
            .counters
            .dropped(DropReason::NotSealed);
        assert!(refused > 0, "{}: nobody tried", world.replay());
    }
    world.check();
}

#[test]
fn an_idle_sealed_mesh_is_quiet() {
    let mut world = settled(&Graph::ring(6), &Choices::sealed(), 6);
    world.run_for(60 * SECOND);
    let (sent, woken) = (world.traffic.sent, world.nodes[0].woken);
    world.run_for(600 * SECOND);
    let sent = world.traffic.sent - sent;
    // 12 ends: a Ping, a Pong and a keepalive each in 15 s, and a handshake in 2 minutes.
    assert!(sent <= 12 * 600 / 10 * 4, "{sent} datagrams in 10 minutes");
    let woken = world.nodes[0].woken - woken;
    // Two sessions are looked at once a second each.
    assert!(woken <= 600 * 3, "woken {woken} times in 10 minutes");
    world.check();
}
