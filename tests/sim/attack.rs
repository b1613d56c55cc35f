//! Attackers by the book (SECURITY 1.1): forged addresses, forged names, rumours, floods.

use std::net::SocketAddr;

use overlay::id::NetId;
use overlay::node::effect::Event;
use overlay::pump::count::DropReason;
use overlay::time::Duration;
use overlay_tests::world::{Choices, Graph, Netem, World, address_of};
use wire::{Flags, HEADER_LEN, Header, INFORM_LEN, Inform, Kind};

fn settled(graph: &Graph) -> World {
    let mut world = World::new(graph, Netem::default(), &Choices::default(), 3);
    world.run_until_connected(Duration::from_secs(30));
    world.run_for(Duration::from_secs(2));
    world
}

fn forged(kind: Kind, flags: Flags, src: NetId, dst: NetId, nonce: u32) -> [u8; HEADER_LEN] {
    let mut datagram = [0; HEADER_LEN];
    Header {
        kind,
        flags,
        nonce,
        src,
        dst,
    }
    .emit(&mut datagram);
    datagram
}

fn victim(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], port))
}

#[test]
fn t1_one_forged_hello_and_a_minute_of_traffic_cost_the_victim_three_datagrams() {
    let mut world = settled(&Graph::ring(4));
    let hello = forged(Kind::Hello, Flags::NO_FORWARD, NetId(0xbad), NetId::ANY, 1);
    world.inject(0, victim(9), &hello);
    for _ in 0..6_000 {
        world.send(0, NetId::ALL);
        world.run_for(Duration::from_millis(10));
    }
    let got = &world.astray[&victim(9)];
    assert!(got.len() <= 3, "{} datagrams", got.len());
    assert!(got.iter().map(Vec::len).sum::<usize>() <= 3 * hello.len());
    world.check();
}

#[test]
fn t3_a_forged_goodbye_with_the_right_address_and_name_costs_nothing() {
    let mut world = settled(&Graph::line(3));
    let (netid, address) = (world.nodes[1].netid, world.nodes[1].address);
    let goodbye = forged(Kind::Goodbye, Flags::NONE, netid, NetId::ALL, 77);
    world.inject(0, address, &goodbye);
    let to = world.nodes[2].netid;
    let mut numbers = Vec::new();
    for _ in 0..1_000 {
        numbers.push(world.send(0, to));
        world.run_for(Duration::from_millis(10));
    }
    assert!(
        numbers
            .iter()
            .all(|number| world.deliveries(2, *number) == 1)
    );
    assert!(world.is_connected());
}

#[test]
fn t5_ten_thousand_informs_of_one_victim_cost_it_three_datagrams_in_ten_minutes() {
    let mut world = settled(&Graph::star(5));
    // Every leaf tells the hub, under its own name, of the victim under ever new names.
    for n in 0..10_000u32 {
        let teller = 1 + n as usize % 4;
        let mut datagram = [0; HEADER_LEN + INFORM_LEN];
        let header = forged(
            Kind::Inform,
            Flags::NO_FORWARD,
            world.nodes[teller].netid,
            world.nodes[0].netid,
            n,
        );
        datagram[..HEADER_LEN].copy_from_slice(&header);
        let endpoint = SocketAddr::from(([10, 250, 0, 1], 5_000));
        Inform {
            subject: NetId(0x5_0000 + n),
            endpoint,
        }
        .emit(&mut datagram[HEADER_LEN..]);
        world.inject(0, address_of(teller), &datagram);
        world.run_for(Duration::from_millis(59));
    }
    let got = world
        .astray
        .get(&SocketAddr::from(([10, 250, 0, 1], 5_000)))
        .map_or(0, Vec::len);
    assert!((1..=3).contains(&got), "{got} datagrams");
    world.check();
}

#[test]
fn t7_a_flood_of_pings_to_all_is_answered_by_a_trickle() {
    let mut world = settled(&Graph::random(50, 4, 3));
    for n in 0..1_000 {
        let ping = forged(Kind::Ping, Flags::NONE, NetId(0xbad), NetId::ALL, n);
        world.inject(0, world.nodes[1].address, &ping);
        world.run_for(Duration::from_millis(10));
    }
    world.run_for(Duration::from_secs(2));
    for (number, node) in world.nodes.iter().enumerate() {
        let pongs = node
            .flooded
            .get(&u8::from(Kind::Pong))
            .copied()
            .unwrap_or(0);
        // A burst of 3, then 1/s for 10 s.
        assert!(pongs <= 14, "node {number}: {pongs} Pongs");
        assert!(
            node.counters.dropped(DropReason::PingRationed) >= 900,
            "node {number}"
        );
    }
    world.check();
}

#[test]
fn t21_two_nodes_of_one_netid_are_both_told_within_ten_seconds() {
    let twins = |number| NetId(0x1000 + (number as u32) % 3);
    let choices = Choices {
        netid_of: twins,
        ..Choices::default()
    };
    let mut world = World::new(&Graph::line(4), Netem::default(), &choices, 3);
    world.run_for(Duration::from_secs(20));
    world.send(0, NetId::ALL);
    world.send(3, NetId::ALL);
    world.run_for(Duration::from_secs(10));
    for node in [0, 3] {
        let told = world.nodes[node]
            .events
            .iter()
            .any(|(_, event)| matches!(event, Event::NetIdConflict { .. }));
        assert!(told, "node {node}");
    }
}

#[test]
fn t11_what_a_full_table_refuses_is_neither_delivered_nor_forwarded() {
    let choices = Choices {
        seen_memory: 64 << 10,
        ..Choices::default()
    };
    let mut world = World::new(&Graph::line(3), Netem::default(), &choices, 3);
    world.run_until_connected(Duration::from_secs(30));
    let (from, dst) = (world.nodes[0].address, NetId::ALL);
    let flood: Vec<Vec<u8>> = (0..9_000_u64)
        .map(|number| {
            let src = NetId(0xbad);
            let mut datagram = forged(Kind::Data, Flags::NONE, src, dst, 5).to_vec();
            datagram.resize(HEADER_LEN + 20, 0);
            datagram[HEADER_LEN] = 0x45;
            datagram[HEADER_LEN + 8..HEADER_LEN + 16]
                .copy_from_slice(&(1 << 32 | number).to_be_bytes());
            datagram
        })
        .collect();
    // All of it twice, within the 30 s for which nothing is forgotten.
    for datagram in flood.iter().chain(&flood) {
        world.inject(1, from, datagram);
        world.run_for(Duration::from_millis(1));
    }
    world.run_for(Duration::from_secs(1));
    world.check();
    assert!(world.nodes[1].counters.dropped(DropReason::SeenFull) > 1_000);
}

#[test]
fn t8_one_datagram_of_any_kind_never_starts_endless_traffic() {
    for kind in 0..=255u8 {
        for flags in [0, 0x80] {
            for dst in [
                NetId::ANY,
                NetId::ALL,
                NetId(0x1000),
                NetId(0x1001),
                NetId(0xbad),
            ] {
                let mut world = World::new(
                    &Graph::line(2),
                    Netem::default(),
                    &Choices::default(),
                    u64::from(kind),
                );
                world.run_until_connected(Duration::from_secs(30));
                world.run_for(Duration::from_secs(100));
                let before = world.traffic.sent;
                let datagram = forged(Kind::from(kind), Flags(flags), NetId(0xbad), dst, 5);
                world.inject(0, world.nodes[1].address, &datagram);
                world.run_for(Duration::from_millis(700));
                let caused = world.traffic.sent - before;
                assert!(
                    caused <= 6,
                    "kind {kind} flags {flags:#x} dst {dst}: {caused} datagrams"
                );
            }
        }
    }
}
