//! Links and nodes die under traffic.

use overlay::id::NetId;
use overlay::node::effect::{Event, Gone};
use overlay::pump::count::DropReason;
use overlay::time::Duration;
use overlay_tests::world::{Choices, Graph, Netem, World};

fn settled(graph: &Graph, seed: u64) -> World {
    let mut world = World::new(graph, Netem::default(), &Choices::default(), seed);
    world.run_until_connected(Duration::from_secs(30));
    world.run_for(Duration::from_secs(2));
    world
}

/// A message a millisecond from 0 to `to`; `change` after the first 500. Returns how many of
/// 2,000 were lost.
fn lost_in_stream(world: &mut World, to: usize, change: impl FnOnce(&mut World)) -> usize {
    let netid = world.nodes[to].netid;
    let mut change = Some(change);
    let mut sent = Vec::new();
    for round in 0..2_000 {
        if round == 500
            && let Some(change) = change.take()
        {
            change(world);
        }
        sent.push(world.send(0, netid));
        world.run_for(Duration::from_millis(1));
    }
    world.run_for(Duration::from_secs(1));
    sent.iter()
        .filter(|number| world.deliveries(to, **number) == 0)
        .count()
}

#[test]
fn a_ring_loses_nothing_whichever_wire_goes_silent() {
    let graph = Graph::ring(5);
    for &(a, b) in &graph.edges {
        let mut world = settled(&graph, 1);
        let lost = lost_in_stream(&mut world, 2, |world| {
            world.set_netem(a, b, |netem| netem.cut = true);
        });
        assert_eq!(lost, 0, "wire {a}-{b}, {}", world.replay());
        world.check();
    }
}

#[test]
fn a_diamond_loses_nothing_whichever_relay_dies() {
    for relay in [1, 2] {
        let mut world = settled(&Graph::diamond(), 1);
        let lost = lost_in_stream(&mut world, 3, |world| world.kill(relay));
        assert_eq!(lost, 0, "relay {relay}, {}", world.replay());
        world.check();
    }
}

#[test]
fn random_cuts_that_leave_a_way_lose_nothing_and_heal() {
    for seed in crate::seeds(3, 100) {
        let graph = Graph::random(12, 4, seed);
        let mut world = settled(&graph, seed);
        let edges: Vec<_> = graph.edges.iter().copied().collect();
        for (turn, &(a, b)) in edges.iter().enumerate().filter(|(turn, _)| turn % 5 == 0) {
            world.set_netem(a, b, |netem| netem.cut = true);
            let whole = graph.reach(0, |x, y| (x, y) != (a, b)).len() == graph.nodes;
            assert!(whole, "a ring with chords stays whole without one wire");
            let number = world.send(turn % graph.nodes, NetId::ALL);
            world.run_for(Duration::from_secs(1));
            let reached = (0..graph.nodes)
                .filter(|n| world.deliveries(*n, number) == 1)
                .count();
            assert_eq!(reached, graph.nodes - 1, "{}", world.replay());
            world.set_netem(a, b, |netem| netem.cut = false);
        }
        world.run_until_connected(Duration::from_secs(90));
        world.check();
    }
}

#[test]
fn a_parted_mesh_floods_within_each_part_and_heals_in_65_s() {
    let graph = Graph::line(6);
    let mut world = settled(&graph, 9);
    world.set_netem(2, 3, |netem| netem.cut = true);
    world.run_for(Duration::from_secs(50));
    let gone = (world.nodes[3].netid, Gone::Silent);
    let seen = world.nodes[2]
        .events
        .iter()
        .any(|(_, e)| *e == Event::NeighborDown(gone.0, gone.1));
    assert!(seen, "the dead link was noticed in 45 s");
    let number = world.send(0, NetId::ALL);
    world.run_for(Duration::from_secs(1));
    let reached: Vec<usize> = (0..6)
        .filter(|n| world.deliveries(*n, number) == 1)
        .collect();
    assert_eq!(reached, [1, 2]);
    world.set_netem(2, 3, |netem| netem.cut = false);
    world.run_until_connected(Duration::from_secs(65));
}

#[test]
fn a_message_is_known_for_five_minutes_and_forgotten_then() {
    let mut world = settled(&Graph::line(3), 2);
    let neighbor = world.nodes[0].address;
    // A Data message of a node that is not simulated, as neighbor 0 would forward it.
    let mut datagram = vec![
        0xac, 1, 0x10, 0, 9, 9, 9, 9, 0, 0, 0xbe, 0xef, 0xff, 0xff, 0xff, 0xff,
    ];
    datagram.extend([0x45; 20]);
    let duplicates = |world: &World| world.nodes[1].counters.dropped(DropReason::Duplicate);
    world.inject(1, neighbor, &datagram);
    world.run_for(Duration::from_millis(299_900));
    let before = duplicates(&world);
    world.inject(1, neighbor, &datagram);
    world.run_for(Duration::from_millis(10));
    assert_eq!(
        duplicates(&world),
        before + 1,
        "known just before five minutes"
    );
    world.run_for(Duration::from_millis(2_200));
    world.inject(1, neighbor, &datagram);
    world.run_for(Duration::from_millis(10));
    assert_eq!(
        duplicates(&world),
        before + 1,
        "forgotten two seconds after them"
    );
}

#[test]
fn goodbye_ends_links_in_four_seconds_and_nothing_is_sent_after() {
    let mut world = settled(&Graph::ring(4), 5);
    world.say_goodbye(2);
    let netid = world.nodes[2].netid;
    world.run_for(Duration::from_secs(4));
    assert!(!world.nodes[1].control.is_neighbor(netid));
    assert!(!world.nodes[3].control.is_neighbor(netid));
}
