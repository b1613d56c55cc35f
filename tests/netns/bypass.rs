//! A network that hands out a route more specific than the overlay's own, as by DHCP option 121
//! (SECURITY T32, scenario 21).
//!
//! ```text
//!     b --- a --- x      on a: the overlay's addresses of b, and all of the overlay by default, via x
//! ```

use std::io::Read;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use overlay::lab::net::{Namespace, ping};
use overlay_tests::mesh::{
    DEVICE, Family, Mesh, PATIENCE, Setup, Turn, may_run, overlay_v4, wait_until,
};
use socket2::Socket;

use crate::sealed::wiretap;

/// b's addresses in the overlay.
type Targets = [IpAddr; 2];

/// The drawing; a has this setting.
fn started(strict: &str) -> (Mesh, Targets) {
    let mut mesh = Mesh::wired(Family::Dual, "ab ax");
    mesh.start_with('b', |setup| setup.sealed = true);
    start(&mut mesh, strict);
    let addresses = mesh.node('b').status().device.addresses;
    let derived = addresses[0].addr();
    assert!(derived.is_ipv6());
    let targets = [overlay_v4('b'), derived];
    for target in targets {
        answered(&mesh, target);
    }
    (mesh, targets)
}

fn start(mesh: &mut Mesh, strict: &str) {
    mesh.start_with('a', |setup: &mut Setup| {
        setup.sealed = true;
        setup.arguments(&format!("--set device.strict={strict}"));
    });
}

/// Waits until the overlay answers.
fn answered(mesh: &Mesh, target: IpAddr) {
    wait_until(&format!("{target} answers"), PATIENCE, || {
        let answer = ping(mesh.machine('a'), target, Duration::from_millis(200));
        answer.unwrap().is_some()
    });
}

/// What the hostile network hands out: x is the way to b's addresses, and to everything.
fn hand_out(mesh: &Mesh, targets: Targets) {
    for gateway in mesh.underlay("xa") {
        let everything = match gateway {
            IpAddr::V4(_) => "0.0.0.0/0",
            IpAddr::V6(_) => "::/0",
        };
        let target = targets
            .iter()
            .find(|one| one.is_ipv4() == gateway.is_ipv4());
        let specific = IpNet::from(*target.unwrap());
        for net in [specific, everything.parse().unwrap()] {
            mesh.machine('a').add_route(net, *gateway).unwrap();
        }
    }
}

/// Says something to b's addresses; how often the kernel took it.
fn say(machine: &Namespace, targets: Targets) -> usize {
    let said = targets.map(|target| {
        let any: IpAddr = match target {
            IpAddr::V4(_) => "0.0.0.0".parse().unwrap(),
            IpAddr::V6(_) => "::".parse().unwrap(),
        };
        let socket = machine.run(|| UdpSocket::bind((any, 0))).unwrap().unwrap();
        let said = socket.send_to(b"private", SocketAddr::new(target, 9));
        usize::from(said.is_ok())
    });
    said.iter().sum()
}

/// How many of the packets that came to x are for addresses in the overlay, of each family.
fn leaked(tap: &Socket, targets: Targets) -> [usize; 2] {
    let (mut frame, mut count) = ([0; 2_048], [0; 2]);
    while let Ok(len) = (&*tap).read(&mut frame) {
        let Some(packet) = frame.get(14..len) else {
            continue;
        };
        let to = match packet.first().map(|byte| byte >> 4) {
            Some(4) => packet.get(16..20).map(<[u8]>::to_vec),
            Some(6) => packet.get(24..40).map(<[u8]>::to_vec),
            _ => None,
        };
        for (target, count) in targets.iter().zip(&mut count) {
            let octets = match target {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            *count += usize::from(to.as_deref() == Some(&octets));
        }
    }
    count
}

/// What `ip` with these arguments says there.
fn ip(machine: &Namespace, arguments: &[&str]) -> String {
    let output = machine.run(|| Command::new("ip").args(arguments).output());
    let output = output.unwrap().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Says something until it leaks, in both families.
fn leaks(what: &str, mesh: &Mesh, tap: &Socket, targets: Targets) {
    let mut count = [0; 2];
    wait_until(what, PATIENCE, || {
        say(mesh.machine('a'), targets);
        let more = leaked(tap, targets);
        count = [count[0] + more[0], count[1] + more[1]];
        count.iter().all(|count| *count > 0)
    });
}

#[test]
fn bypass_routes_lead_the_overlays_packets_out_in_clear_unless_the_device_is_strict() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let (mut mesh, targets) = started("off");
    let tap = mesh.machine('x').run(wiretap).unwrap();
    assert_eq!(leaked(&tap, targets), [0, 0]);
    hand_out(&mesh, targets);
    leaks("a more specific route", &mesh, &tap, targets);

    // The same routes, and the same node started strict.
    mesh.node_mut('a').stop();
    start(&mut mesh, "on");
    let _ = leaked(&tap, targets);
    for target in targets {
        answered(&mesh, target);
    }
    let table = mesh.node('a').status().device.strict_table.unwrap();
    let shown = mesh.node('a').run(&["status"]).stdout;
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains(&format!("strict, table {table}")), "{shown}");
    let none = |what: &str, mesh: &Mesh, kernel_takes: bool| {
        for _ in 0..20 {
            let taken = say(mesh.machine('a'), targets);
            assert!(kernel_takes || taken == 0, "{what}: {taken}");
        }
        // Behind all that could have leaked comes something that is seen there.
        let end = mesh.underlay("xa")[0];
        let marker = ping(mesh.machine('a'), end, PATIENCE).unwrap();
        assert!(marker.is_some(), "{what}: x does not answer");
        assert_eq!(leaked(&tap, targets), [0, 0], "{what}");
    };
    none("up", &mesh, true);
    // Somebody sets the device down and up again.
    mesh.machine('a').set_down(DEVICE).unwrap();
    none("down", &mesh, false);
    mesh.machine('a').set_up(DEVICE).unwrap();
    answered(&mesh, targets[0]);
    none("up again", &mesh, true);
    // A network manager takes away rules and routes that it did not make.
    let number = table.to_string();
    for family in ["-4", "-6"] {
        ip(
            mesh.machine('a'),
            &[family, "rule", "flush", "protocol", "172"],
        );
        ip(
            mesh.machine('a'),
            &[family, "route", "flush", "table", &number],
        );
    }
    wait_until("the node puts them back", PATIENCE, || {
        ["-4", "-6"].iter().all(|family| {
            let rules = ip(mesh.machine('a'), &[family, "rule", "show"]);
            let routes = ip(
                mesh.machine('a'),
                &[family, "route", "show", "table", "all"],
            );
            let is_last = |line: &str| line.starts_with("unreachable") && line.contains(&number);
            rules.contains(&number) && routes.lines().any(is_last)
        })
    });
    let _ = leaked(&tap, targets);
    none("put back", &mesh, true);
    for target in targets {
        answered(&mesh, target);
    }
    wait_until("an alarm tells", PATIENCE, || {
        let health = mesh.node('a').status().health;
        health.iter().any(|health| health.code == "not_strict")
    });
    // Somebody deletes it, and the node, which has given up most of what it may, makes it again.
    mesh.machine('a').delete(DEVICE).unwrap();
    none("deleted", &mesh, true);
    for target in targets {
        answered(&mesh, target);
    }
    none("made again", &mesh, true);
    // Its process dies, and nothing is cleaned up: what is for the overlay goes nowhere.
    mesh.node_mut('a').kill();
    none("killed", &mesh, false);
    start(&mut mesh, "on");
    answered(&mesh, targets[0]);
    none("started anew", &mesh, true);
    let (status, _) = mesh.node_mut('a').stop();
    assert!(status.success());
    none("stopped", &mesh, false);
    assert!(mesh.node('a').log().contains("ip rule flush protocol 172"));

    // A start without it lets them out again.
    start(&mut mesh, "off");
    assert_eq!(mesh.node('a').status().device.strict_table, None);
    leaks("no longer strict", &mesh, &tap, targets);
}
