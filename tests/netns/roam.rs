//! A machine whose address changes under traffic, as a vehicle's does from mast to mast.

use std::process::Command;
use std::time::{Duration, Instant};

use overlay::daemon::report::NeighborState;
use overlay::lab::net::Namespace;
use overlay_tests::mesh::{Family, Mesh, Turn, may_run, netid, sleep_until};

fn address(machine: &Namespace, verb: &str, address: &str, interface: &str) {
    let mut command = Command::new("ip");
    command.args(["address", verb, &format!("{address}/24"), "dev", interface]);
    let status = machine.spawn(&mut command).unwrap().wait().unwrap();
    assert!(status.success(), "ip address {verb} {address}");
}

/// A stream each way, while the address of b goes and another one is there.
#[test]
fn sealed_a_node_whose_address_changes_is_followed_and_its_link_stays() {
    if !may_run() {
        return;
    }
    let _turn = Turn::alone();
    let mesh = Mesh::sealed(Family::V4, "ab");
    mesh.wait_ping('a', 'b');
    let (machine, old) = (mesh.machine('b'), mesh.underlay("ba")[0].to_string());
    let new = old.replace(".2", ".77");
    assert_ne!(old, new);
    // Or the second address of a network goes with the first.
    let keep = "net.ipv4.conf.all.promote_secondaries";
    machine.sysctl(keep, "1").unwrap();
    let (forth, back) = (mesh.stream('a', 'b'), mesh.stream('b', 'a'));
    let change = |start: Instant| {
        sleep_until(start + Duration::from_secs(1));
        address(machine, "add", &new, "to-a");
        address(machine, "del", &old, "to-a");
    };
    let time = Duration::from_secs(4);
    let (to_b, to_a) = std::thread::scope(|scope| {
        let to_b = scope.spawn(|| forth.run(time, change));
        let to_a = back.run(time, |_| {});
        (to_b.join().unwrap(), to_a)
    });
    println!("to the node that moved: {to_b:?}\nfrom it: {to_a:?}");
    // A round trip and a turn of the control loop are lost at most, and silence is not waited for.
    for figures in [&to_b, &to_a] {
        assert!(figures.lost * 4 < figures.sent, "{figures:?}");
    }
    mesh.wait_ping('a', 'b');
    // It is the same link: nothing came anew.
    let neighbors = mesh.node('a').neighbors().neighbors;
    let [neighbor] = neighbors.as_slice() else {
        panic!("{neighbors:?}");
    };
    assert_eq!(
        (neighbor.netid, neighbor.state),
        (Some(netid('b')), NeighborState::Live)
    );
    let log = mesh.node('a').log();
    assert!(log.contains("has another address"), "{log}");
    assert!(!log.contains("link down"), "{log}");
}
