//! What was recorded on a wire is worth nothing later.
//!
//! ```text
//!   a --- b --- x      everything between a and b is recorded, and said again to b: by x, and by
//!                      somebody on the wire in the name of a
//! ```

use std::io::Read;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use overlay_tests::attack::Forger;
use overlay_tests::mesh::{Mesh, PATIENCE, PORT, Turn, may_run, netid, overlay_v4, sleep_until};
use socket2::Socket;
use wire::sealed::{SEALED_MAGIC, SealedKind};

use crate::attack::is_long;
use crate::sealed::{udp_payload, watched_pair};

/// Datagrams of the application that are recorded.
const COUNT: u32 = 100;
/// Where the application listens.
const APPLICATION: u16 = 9_000;

/// Everything that a wiretap has heard of the daemons, each datagram once.
fn take(wiretap: &Socket) -> Vec<Vec<u8>> {
    let mut frame = [0; 2_048];
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    let mut wiretap = wiretap;
    while let Ok(len) = wiretap.read(&mut frame) {
        datagrams.extend(udp_payload(&frame[..len]).map(<[u8]>::to_vec));
    }
    datagrams.sort();
    datagrams.dedup();
    datagrams
}

/// The application's end on b.
fn listen(mesh: &Mesh) -> UdpSocket {
    let here = (overlay_v4('b'), APPLICATION);
    let socket = mesh.machine('b').run(|| UdpSocket::bind(here));
    let socket = socket.unwrap().unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    socket
}

/// How many datagrams of the application arrive until none does for a while.
fn arrivals(socket: &UdpSocket) -> u32 {
    let mut datagram = [0; 64];
    let mut count = 0;
    while socket.recv(&mut datagram).is_ok() {
        count += 1;
    }
    count
}

/// Where b takes its neighbors to be.
fn endpoints(mesh: &Mesh) -> Vec<SocketAddr> {
    let report = mesh.node('b').neighbors();
    let links = report.neighbors.iter().flat_map(|one| &one.links);
    links.map(|link| link.endpoint).collect()
}

/// What was recorded, and who says it to whom.
struct Recording {
    datagrams: Vec<Vec<u8>>,
    a: SocketAddr,
    x: SocketAddr,
    /// What b is to a, and to x.
    b: SocketAddr,
    b_at_x: SocketAddr,
}

impl Recording {
    /// Says everything again, and sees that nothing comes of it.
    fn replay(&self, mesh: &Mesh, what: &str) {
        let application = listen(mesh);
        let refused = |mesh: &Mesh| {
            let node = mesh.node('b');
            let reasons = ["replayed", "handshake", "forged", "unknown_session"];
            let counters = node.counters();
            let drops = counters.drops.iter();
            drops
                .filter(|count| reasons.contains(&&count.name[..]))
                .map(|count| count.value)
                .sum::<u64>()
        };
        let before = refused(mesh);
        for (machine, from, to) in [('a', self.a, self.b), ('x', self.x, self.b_at_x)] {
            let mut forger = Forger::new(mesh.machine(machine));
            for datagram in &self.datagrams {
                forger.send(from, to, datagram);
                thread::sleep(Duration::from_micros(200));
            }
        }
        assert_eq!(arrivals(&application), 0, "{what}");
        assert_eq!(endpoints(mesh), [self.a], "{what}");
        let refused = refused(mesh) - before;
        println!(
            "{what}: {} said twice, {refused} refused",
            self.datagrams.len()
        );
        // They arrived: it was the daemon that refused them.
        assert!(
            refused >= u64::from(COUNT),
            "{what}: {}",
            mesh.node('b').facts()
        );
        mesh.wait_ping('a', 'b');
        assert_eq!(mesh.node('a').live_links(), [netid('b')]);
    }
}

#[test]
fn replay_of_a_recording_delivers_nothing_and_moves_no_endpoint() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let (mut mesh, wiretap) = watched_pair();
    let at = |ends: &str, port| SocketAddr::new(mesh.underlay(ends)[0], port);
    let (a, x) = (at("ab", PORT), at("xb", 5_555));
    let (b, b_at_x) = (at("ba", PORT), at("bx", PORT));

    let start = Instant::now();
    let application = listen(&mesh);
    let from: (IpAddr, u16) = (overlay_v4('a'), 0);
    let sender = mesh
        .machine('a')
        .run(|| UdpSocket::bind(from))
        .unwrap()
        .unwrap();
    for number in 0..COUNT {
        let to = (overlay_v4('b'), APPLICATION);
        sender.send_to(&number.to_be_bytes(), to).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(arrivals(&application), COUNT);
    drop(application);
    let datagrams = take(&wiretap);
    // All that there is: handshakes too.
    for kind in [
        SealedKind::Init,
        SealedKind::Resp,
        SealedKind::Fin,
        SealedKind::Link,
    ] {
        let head = [SEALED_MAGIC, kind.to_byte()];
        assert!(
            datagrams.iter().any(|one| one.starts_with(&head)),
            "{kind:?}"
        );
    }
    let recording = Recording {
        datagrams,
        a,
        x,
        b,
        b_at_x,
    };
    recording.replay(&mesh, "at once");
    sleep_until(start + Duration::from_secs(10));
    recording.replay(&mesh, "after 10 s");
    if is_long() {
        for seconds in [200, 400] {
            sleep_until(start + Duration::from_secs(seconds));
            recording.replay(&mesh, &format!("after {seconds} s"));
        }
    }
    mesh.node_mut('b').kill();
    mesh.start_with('b', |setup| {
        setup.sealed = true;
        setup
            .peers
            .retain(|peer| peer.ip().to_string().starts_with("10.64.1."));
    });
    mesh.wait_ping('a', 'b');
    mesh.node('b')
        .wait("has one link", PATIENCE, |_| endpoints(&mesh) == [a]);
    recording.replay(&mesh, "after a restart");
}
