//! A route that leads to a neighbor through the device that its link should carry (SECURITY T15,
//! scenario 15).
//!
//! ```text
//!     a --- b      on a: 10.64.1.2, where b is, dev mesh0
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay::lab::net::Namespace;
use overlay_tests::mesh::{DEVICE, Family, Mesh, PATIENCE, Turn, may_run, wait_until};
use rtnetlink::RouteMessageBuilder;

/// Leads a network into an interface, or no longer.
pub(crate) fn lead(machine: &Namespace, to: IpNet, interface: &str, is_there: bool) {
    let index = machine.interface_index(interface).unwrap();
    let route = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(to.addr(), to.prefix_len())
        .unwrap()
        .output_interface(index)
        .build();
    let changed = machine.netlink("route", |handle| async move {
        let done = match is_there {
            true => handle.route().add(route).execute().await,
            false => handle.route().del(route).execute().await,
        };
        done.map_err(std::io::Error::other)
    });
    changed.unwrap();
}

#[test]
fn a_route_to_a_neighbor_through_our_own_device_costs_little_and_the_link_returns_with_its_end() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mut mesh = Mesh::wired(Family::V4, "ab");
    for name in ['a', 'b'] {
        mesh.start_with(name, |setup| {
            setup.sealed = true;
            setup.arguments(
                "--set timers.ping_after=0.5 --set timers.suspect_after=1.5 \
                 --set timers.dead_after=3",
            );
        });
    }
    mesh.wait_live();
    mesh.wait_ping('a', 'b');
    let (machine, node) = (mesh.machine('a'), mesh.node('a'));
    let peer: IpNet = mesh.underlay("ba")[0].into();
    lead(machine, peer, DEVICE, true);
    let start = Instant::now();
    node.wait("sees its own traffic in the device", PATIENCE, |node| {
        node.counter("overlay_loop") > 0
    });
    // Traffic that would multiply, if anything did.
    for _ in 0..5 {
        mesh.pings('a', 'b', Duration::from_millis(100));
    }
    node.wait("loses the link", PATIENCE, |node| {
        node.live_links().is_empty()
    });
    node.wait("alarms", PATIENCE, |node| {
        let health = node.status().health;
        health.iter().any(|line| line.code == "underlay_in_overlay")
    });
    // Each datagram comes back once: were it sent on, there would be as many as a processor makes.
    let (looped, elapsed) = (node.counter("overlay_loop"), start.elapsed());
    println!("{looped} datagrams in {elapsed:?}");
    assert!(
        looped < 100 + 100 * elapsed.as_secs(),
        "{looped} {elapsed:?}"
    );
    let told = || node.log().matches("through the device itself").count();
    wait_until("it is logged", PATIENCE, || told() > 0);
    lead(machine, peer, DEVICE, false);
    mesh.wait_live();
    mesh.wait_ping('a', 'b');
    assert_eq!(told(), 1, "{}", node.log());
}
