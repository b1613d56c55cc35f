//! Links over IPv4, over IPv6, and over both.
//!
//! ```text
//!   a --- b --- c      each wire with IPv4, with IPv6, or with both
//! ```

use std::time::Duration;

use overlay_tests::mesh::{Family, Mesh, Turn, may_run, netid};

fn started(family: Family) -> Mesh {
    let mut mesh = Mesh::wired(family, "ab bc");
    mesh.start_all();
    mesh
}

#[test]
fn a_mesh_over_ipv4_has_ipv4_links_alone() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = started(Family::V4);
    mesh.wait_ping('a', 'c');
    assert!(endpoints(&mesh).iter().all(|link| link.is_ipv4()));
}

#[test]
fn a_mesh_over_ipv6_has_ipv6_links_alone() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = started(Family::V6);
    mesh.wait_ping('a', 'c');
    assert!(endpoints(&mesh).iter().all(|link| link.is_ipv6()));
}

#[test]
fn a_neighbor_over_both_has_two_links_and_loses_nothing_with_one() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mesh = started(Family::Dual);
    mesh.wait_ping('a', 'c');
    assert_eq!(mesh.node('b').live_links().len(), 4);
    assert_eq!(mesh.node('a').live_links(), [netid('b'), netid('b')]);
    let stream = mesh.stream('a', 'c');
    let figures = stream.run(Duration::from_secs(3), |start| {
        overlay_tests::mesh::sleep_until(start + Duration::from_secs(1));
        // Without its IPv6 address a has one way left on the same wire.
        mesh.machine('a')
            .sysctl("net.ipv6.conf.to-b.disable_ipv6", "1")
            .unwrap();
    });
    assert!(figures.is_perfect(), "{figures:?}");
}

fn endpoints(mesh: &Mesh) -> Vec<std::net::SocketAddr> {
    ['a', 'b', 'c']
        .into_iter()
        .flat_map(|name| mesh.node(name).neighbors().neighbors)
        .flat_map(|neighbor| neighbor.links)
        .map(|link| link.endpoint)
        .collect()
}
