//! Wires that lose, repeat, delay, harm: nobody ever delivers a message twice.

use overlay::id::NetId;
use overlay::time::Duration;
use overlay_tests::world::{Choices, Graph, Netem, World};

use crate::seeds;

fn faulty() -> Netem {
    Netem {
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(150),
        loss: 200,
        burst: 500,
        duplicate: 100,
        ..Netem::default()
    }
}

#[test]
fn under_every_fault_no_message_is_delivered_twice_and_most_arrive() {
    for seed in seeds(5, 200) {
        let graph = Graph::random(20, 5, seed);
        let mut world = World::new(&graph, faulty(), &Choices::default(), seed);
        world.run_until_connected(Duration::from_secs(300));
        let mut expected = 0;
        for round in 0..200 {
            let from = round % graph.nodes;
            world.send(from, NetId::ALL);
            world.run_for(Duration::from_millis(50));
            expected += graph.nodes as u64 - 1;
        }
        world.run_for(Duration::from_secs(5));
        let each = world.nodes.iter().flat_map(|node| node.delivered.values());
        let delivered: u64 = each.map(|times| u64::from(*times)).sum();
        world.check();
        // Five ways in, a third of the copies lost on each: far above nine in ten must arrive.
        assert!(
            delivered * 10 >= expected * 9,
            "{}: {delivered} of {expected}",
            world.replay()
        );
    }
}

#[test]
fn links_stay_live_at_twenty_percent_loss() {
    let netem = Netem {
        loss: 200,
        ..Netem::default()
    };
    let mut world = World::new(&Graph::ring(6), netem, &Choices::default(), 4);
    world.run_until_connected(Duration::from_secs(60));
    world.run_for(Duration::from_secs(3_600));
    assert!(world.is_connected(), "{}", world.replay());
    world.check();
}

#[test]
fn a_wire_that_swallows_large_datagrams_costs_no_small_ones() {
    let netem = Netem {
        mtu: 30,
        ..Netem::default()
    };
    let mut world = World::new(&Graph::line(2), netem, &Choices::default(), 4);
    world.run_until_connected(Duration::from_secs(60));
    let number = world.send(0, NetId::ALL);
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.deliveries(1, number), 0, "36 bytes do not fit");
    assert!(world.is_connected(), "16 bytes do");
}

#[test]
fn harmed_datagrams_are_counted_once_and_bring_nobody_down() {
    for seed in seeds(2, 200) {
        let graph = Graph::random(20, 5, seed);
        let mut world = World::new(&graph, Netem::default(), &Choices::default(), seed);
        world.run_until_connected(Duration::from_secs(30));
        // UDP's checksum would drop most of them; nobody may rely on that. Each is a new message, so
        // a flood of 81 sends must cause fewer than one.
        for &(a, b) in &graph.edges {
            world.set_netem(a, b, |netem| (netem.corrupt, netem.truncate) = (5, 5));
        }
        for round in 0..300 {
            world.send(round % graph.nodes, NetId::ALL);
            world.run_for(Duration::from_millis(50));
        }
        world.run_for(Duration::from_secs(20));
        world.check_counts();
    }
}
