//! Wires that swallow what is too long: padded Pings find out, and what is longer goes in fragments.

use overlay::pump::count::Total;
use overlay::time::Duration;
use overlay_tests::world::{Choices, Graph, Netem, World};

/// What a device of the default MTU makes.
const LARGEST: u16 = 1_416;
/// Its packet.
const PACKET: usize = 1_400;
/// What the narrow wire carries: packets of 1,300 bytes over IPv4.
const NARROW: usize = 1_272;
const SECOND: Duration = Duration::from_secs(1);

fn connected(graph: &Graph, netem: Netem, seed: u64) -> World {
    let choices = Choices {
        largest: LARGEST,
        ..Choices::default()
    };
    let mut world = World::new(graph, netem, &choices, seed);
    world.run_until_connected(30 * SECOND);
    world
}

fn narrow() -> Netem {
    Netem {
        mtu: NARROW,
        ..Netem::default()
    }
}

/// Whether one of the device's largest packets gets from node 0 to `to`.
fn passes(world: &mut World, to: usize) -> bool {
    let netid = world.nodes[to].netid;
    let number = world.send_packet(0, netid, PACKET);
    world.run_for(SECOND / 10);
    world.deliveries(to, number) == 1
}

/// What is found of the links of node 0, and what limits them.
fn findings(world: &World) -> Vec<(Option<u16>, Option<u16>)> {
    let links = world.nodes[0].control.links();
    links.map(|link| (link.carries, link.limit)).collect()
}

#[test]
fn a_black_hole_swallows_for_four_seconds_and_no_longer() {
    let mut world = connected(&Graph::line(2), narrow(), 1);
    // The counter-claim: it is one.
    assert!(!passes(&mut world, 1));
    world.run_for(4 * SECOND);
    for _ in 0..200 {
        assert!(passes(&mut world, 1), "{}", world.replay());
    }
    assert_eq!(findings(&world), [(Some(1_266), Some(1_266))]);
    world.check();
}

#[test]
fn each_link_of_a_node_is_limited_by_itself_and_on_both_sides() {
    let mut world = connected(&Graph::line(3), Netem::default(), 2);
    world.set_netem(1, 2, |netem| netem.mtu = NARROW);
    world.run_for(30 * SECOND);
    assert_eq!(findings(&world), [(Some(LARGEST), None)]);
    let limits = |node: usize| -> Vec<Option<u16>> {
        let links = world.nodes[node].control.links();
        links.map(|link| link.limit).collect()
    };
    assert_eq!(limits(1), [None, Some(1_266)]);
    assert_eq!(limits(2), [Some(1_266)]);
    assert!(passes(&mut world, 2));
}

#[test]
fn a_path_that_grows_wide_is_noticed_within_ten_minutes_and_costs_one_probe_until_then() {
    let mut world = connected(&Graph::line(2), narrow(), 3);
    world.run_for(30 * SECOND);
    world.set_netem(0, 1, |netem| netem.mtu = usize::MAX);
    let before = world.nodes[0].counters.total(Total::Received);
    world.run_for(600 * SECOND);
    assert_eq!(findings(&world), [(Some(LARGEST), None)]);
    let after = world.nodes[0].counters.total(Total::Received);
    // A Ping and a Pong in 15 s, and few more.
    assert!(after - before < 60, "{} datagrams", after - before);
}

#[test]
fn a_network_change_makes_a_node_look_again_at_once() {
    let mut world = connected(&Graph::line(2), Netem::default(), 4);
    world.run_for(10 * SECOND);
    assert!(passes(&mut world, 1));
    world.set_netem(0, 1, |netem| netem.mtu = NARROW);
    assert!(!passes(&mut world, 1));
    world.change_network(0);
    world.run_for(5 * SECOND);
    assert!(passes(&mut world, 1));
}

#[test]
fn lost_probes_of_a_lossy_wire_are_no_narrow_path() {
    let lossy = Netem {
        loss: 50,
        ..Netem::default()
    };
    for seed in 0..50 {
        let mut world = connected(&Graph::line(2), lossy, seed);
        world.run_for(40 * SECOND);
        assert_eq!(
            findings(&world),
            [(Some(LARGEST), None)],
            "{}",
            world.replay()
        );
    }
}
