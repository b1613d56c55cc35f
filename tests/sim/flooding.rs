//! What a flood costs and whom it reaches, to the datagram.

use overlay::id::NetId;
use overlay::time::Duration;
use overlay_tests::world::{Choices, Graph, Netem, World};

use crate::{long, seeds};

fn settled(graph: &Graph, seed: u64) -> World {
    let mut world = World::new(graph, Netem::default(), &Choices::default(), seed);
    world.run_until_connected(Duration::from_secs(30));
    world.run_for(Duration::from_secs(5));
    world
}

/// Sends one message and returns how many datagrams it took.
fn cost(world: &mut World, from: usize, dst: NetId) -> (u64, u64) {
    let before = world.traffic.data;
    let number = world.send(from, dst);
    world.run_for(Duration::from_secs(2));
    (number, world.traffic.data - before)
}

/// What a message to one node costs: everyone it reaches sends it on to all but where it came
/// from, the destination to nobody. Where the mesh holds together without the destination that is
/// `2E - (N - 1)` less the `deg(dst) - 1` sends that the destination saves.
fn unicast_cost(graph: &Graph, from: usize, to: usize) -> u64 {
    let reached = graph.reach(from, |a, b| a != to && b != to);
    let relays = reached.iter().filter(|node| **node != from);
    let sends = graph.degree(from) + relays.map(|node| graph.degree(*node) - 1).sum::<usize>();
    if reached.len() == graph.nodes - 1 {
        let flood = 2 * graph.edges.len() - (graph.nodes - 1);
        assert_eq!(
            sends,
            flood - (graph.degree(to) - 1),
            "the formula of the documents"
        );
    }
    sends as u64
}

fn law(graph: &Graph, seed: u64) {
    let mut world = settled(graph, seed);
    let (nodes, edges) = (graph.nodes as u64, graph.edges.len() as u64);
    let from = seed as usize % graph.nodes;

    let (number, sends) = cost(&mut world, from, NetId::ALL);
    assert_eq!(sends, 2 * edges - (nodes - 1), "{}: to all", world.replay());
    for node in 0..graph.nodes {
        let times = world.deliveries(node, number);
        assert_eq!(
            times,
            u32::from(node != from),
            "{}: node {node}",
            world.replay()
        );
    }

    let to = (from + 1 + seed as usize % (graph.nodes - 1)) % graph.nodes;
    let netid = world.nodes[to].netid;
    let (number, sends) = cost(&mut world, from, netid);
    assert_eq!(
        sends,
        unicast_cost(graph, from, to),
        "{}: to one",
        world.replay()
    );
    for node in 0..graph.nodes {
        let times = world.deliveries(node, number);
        assert_eq!(
            times,
            u32::from(node == to),
            "{}: node {node}",
            world.replay()
        );
    }
    world.check();
}

#[test]
fn a_flood_reaches_everyone_once_and_costs_what_the_formula_says() {
    for seed in seeds(3, 30) {
        for graph in [
            Graph::line(5),
            Graph::ring(5),
            Graph::diamond(),
            Graph::star(12),
            Graph::full(8),
            Graph::random(50, 6, seed),
        ] {
            law(&graph, seed);
        }
    }
}

#[test]
fn the_law_holds_for_a_thousand_nodes() {
    law(&Graph::random(1_000, 4, 7), 7);
}

#[test]
fn the_law_holds_for_ten_thousand_nodes() {
    if long() {
        law(&Graph::random(10_000, 4, 11), 11);
    } else {
        // Nothing is skipped: the same law at a size that fits the short run.
        law(&Graph::random(300, 8, 11), 11);
    }
}

#[test]
fn one_seed_gives_one_run_and_another_seed_another() {
    let run = |seed| {
        let mut world = settled(&Graph::random(30, 4, 3), seed);
        for from in 0..10 {
            world.send(from, NetId::ALL);
        }
        world.run_for(Duration::from_secs(60));
        world.trace()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn an_idle_link_carries_at_most_one_datagram_in_ten_seconds_each_way() {
    let mut world = settled(&Graph::ring(8), 1);
    world.run_for(Duration::from_secs(120));
    let before = world.traffic.sent;
    world.run_for(Duration::from_secs(600));
    let per_link_and_way = (world.traffic.sent - before) as f64 / 16.0;
    assert!(
        per_link_and_way <= 60.0,
        "{per_link_and_way} datagrams in 600 s"
    );
}
