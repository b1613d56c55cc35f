//! A mesh changes its secret under traffic (SEALED.md S91 to S94).

use overlay::seal::keys::MeshSecret;
use overlay::time::Duration;
use overlay_tests::world::{Choices, Graph, Netem, World};

use crate::seeds;

const SECOND: Duration = Duration::from_secs(1);

/// The secret of these worlds, and the one that follows it.
fn secrets() -> [MeshSecret; 2] {
    let first = MeshSecret::new([1; 32]);
    let next = first.following([2; 32]);
    [first, next]
}

fn settled(graph: &Graph, seed: u64) -> World {
    let mut world = World::new(graph, Netem::default(), &Choices::sealed(), seed);
    world.run_until_connected(10 * SECOND);
    world.run_for(2 * SECOND);
    world
}

/// A stream from the first node to the last, ten a second; nothing of it is lost.
fn stream(world: &mut World, seconds: u64) {
    let last = world.nodes.len() - 1;
    let to = world.nodes[last].netid;
    for _ in 0..seconds * 10 {
        let number = world.send(0, to);
        world.run_for(SECOND / 10);
        assert_eq!(world.deliveries(last, number), 1, "{}", world.replay());
    }
}

#[test]
fn a_secret_is_adopted_node_by_node_and_ended_and_nothing_is_lost() {
    for seed in seeds(3, 50) {
        let mut world = settled(&Graph::line(3), seed);
        let [first, next] = secrets();
        for node in 0..3 {
            world.set_secrets(node, &first, Some(&next));
            stream(&mut world, 5);
        }
        stream(&mut world, 35);
        for node in &world.nodes {
            let sealing = node.sealing.as_ref();
            let rotation = sealing.and_then(|sealing| sealing.links.rotation());
            let done = rotation.is_some_and(|rotation| rotation.using == rotation.neighbors);
            assert!(done, "{}: {rotation:?}", world.replay());
        }
        for node in 0..3 {
            world.set_secrets(node, &next, None);
            stream(&mut world, 5);
        }
        stream(&mut world, 200);
        world.check();
    }
}

/// What nobody should do, and may: the former sessions last until they have successors.
#[test]
fn a_secret_that_is_exchanged_everywhere_at_once_costs_nothing_either() {
    for seed in seeds(3, 50) {
        let mut world = settled(&Graph::ring(3), seed);
        let [_, next] = secrets();
        for node in 0..3 {
            world.set_secrets(node, &next, None);
            stream(&mut world, 1);
        }
        stream(&mut world, 240);
        world.check();
    }
}

#[test]
fn who_does_not_get_the_next_secret_is_out_when_the_former_one_ends() {
    let mut world = settled(&Graph::line(3), 1);
    let [first, next] = secrets();
    for node in 0..2 {
        world.set_secrets(node, &first, Some(&next));
    }
    world.run_for(60 * SECOND);
    assert!(world.is_sealed(1, 2) && world.is_sealed(0, 1));
    for node in 0..2 {
        world.set_secrets(node, &next, None);
    }
    world.run_for(300 * SECOND);
    assert!(world.is_sealed(0, 1) && !world.is_sealed(1, 2));
    world.check();
}
