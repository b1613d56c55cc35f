//! Fragments and extension headers inside the overlay, of nodes that certificates hold to prefixes
//! (SECURITY T16, scenario 22).
//!
//! ```text
//!     a --- b --- c      b carries for a and c, sealed end to end
//! ```
//!
//! Every form and every source are judged in memory (`daemon/port/tests/sources.rs`); here is what real
//! kernels make of honest ones.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use overlay_tests::mesh::{Family, Mesh, PATIENCE, Turn, may_run, netid, overlay_v4, wait_until};
use overlay_tests::packets::{UDP, packet};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Where [`packet`] sends datagrams to.
const PORT: u16 = 0x1235;

/// The line, in which everybody may speak from its own addresses alone.
fn started() -> Mesh {
    let mut mesh = Mesh::wired(Family::V4, "ab bc");
    let office = format!("--dir {}", mesh.directory().join("authority").display());
    let mut authority = String::new();
    for name in ['a', 'b', 'c'] {
        mesh.start_with(name, |setup| {
            setup.sealed = true;
            if name == 'a' {
                let line = setup.command(&format!("ca init {office}"), "");
                authority = line.trim().replace(" = ", "=").replace('"', "");
            }
            let keys = setup.command("key --json", "");
            let (netid, own) = (netid(name), overlay_v4(name));
            let sign = format!("ca sign - {office} --netid {netid} --prefix {own}/32");
            setup.put("certificate", &setup.command(&sign, &keys));
            setup.more = vec!["--set".into(), authority.clone()];
        });
    }
    mesh.wait_ping('a', 'c');
    mesh
}

/// A node's address that follows from its netid.
fn derived(mesh: &Mesh, name: char) -> Ipv6Addr {
    let addresses = mesh.node(name).status().device.addresses;
    let mut v6 = addresses.iter().filter_map(|net| match net.addr() {
        IpAddr::V6(v6) if !v6.is_unicast_link_local() => Some(v6),
        _ => None,
    });
    v6.next().unwrap()
}

/// Sends again and again until it arrives whole: nothing makes up for what a busy machine drops.
fn arrives(what: &str, far: &UdpSocket, expected: &[u8], send: impl Fn()) {
    let mut got = vec![0; 65_536];
    wait_until(what, PATIENCE, || {
        send();
        // What came late of the size before may wait in front.
        while let Ok(len) = far.recv(&mut got) {
            if got[..len] == *expected {
                return true;
            }
        }
        false
    });
}

fn bind(mesh: &Mesh, name: char, address: IpAddr, port: u16) -> UdpSocket {
    let socket = mesh.machine(name).run(|| UdpSocket::bind((address, port)));
    let socket = socket.unwrap().unwrap();
    let patience = Duration::from_millis(300);
    socket.set_read_timeout(Some(patience)).unwrap();
    socket
}

/// A socket that takes whole IPv6 packets, whatever stands in them.
fn raw(mesh: &Mesh, name: char) -> Socket {
    const IPPROTO_RAW: i32 = 255;
    let open = || Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(IPPROTO_RAW)));
    mesh.machine(name).run(open).unwrap().unwrap()
}

fn send_raw(socket: &Socket, to: Ipv6Addr, packet: &[u8]) {
    let to = SockAddr::from(SocketAddr::new(to.into(), 0));
    socket.send_to(packet, &to).unwrap();
}

/// The packet with these extension headers of 8 bytes in front of what it carries, in fragments if `cut`
/// says where.
fn extended(packet: &[u8], headers: &[u8], cut: Option<usize>) -> Vec<Vec<u8>> {
    const FRAGMENT: u8 = 44;
    let (head, upper) = packet.split_at(40);
    let whole = |rest: &[u8], next: u8| {
        let mut all = (next, rest.to_vec());
        for &number in headers.iter().rev() {
            // Options: PadN over the six bytes behind the length.
            let header = [all.0, 0, 1, 4, 0, 0, 0, 0];
            all = (number, [&header[..], &all.1].concat());
        }
        let mut head = head.to_vec();
        head[4..6].copy_from_slice(&(all.1.len() as u16).to_be_bytes());
        head[6] = all.0;
        [head, all.1].concat()
    };
    let Some(cut) = cut else {
        return vec![whole(upper, UDP)];
    };
    let part = |range: std::ops::Range<usize>, more: u16| {
        let word = (range.start as u16 | more).to_be_bytes();
        let header = [UDP, 0, word[0], word[1], 0, 0, 0, 7];
        whole(&[&header[..], &upper[range]].concat(), FRAGMENT)
    };
    vec![part(0..cut, 1), part(cut..upper.len(), 0)]
}

#[test]
fn sources_fragments_and_extension_headers_arrive_whole_over_a_relay_and_foreign_ones_do_not() {
    if !may_run() {
        return;
    }
    let _turn = Turn::beside();
    let mesh = started();
    // 1. What the kernel cuts: from what just fits to dozens of fragments, in both families.
    let ends = [derived(&mesh, 'a'), derived(&mesh, 'c')];
    for (near, far) in [
        (ends[0].into(), ends[1].into()),
        (overlay_v4('a'), overlay_v4('c')),
    ] {
        let (near, far) = (bind(&mesh, 'a', near, 0), bind(&mesh, 'c', far, 0));
        let to = far.local_addr().unwrap();
        for len in [1_300, 1_400, 5_000, 20_000] {
            let bytes: Vec<u8> = (0..len).map(|n: u32| (n % 251) as u8).collect();
            arrives(&format!("{len} bytes to {to}"), &far, &bytes, || {
                near.send_to(&bytes, to).unwrap();
            });
        }
    }
    // 2. Extension headers, whole and in fragments.
    let socket = raw(&mesh, 'a');
    let far = bind(&mesh, 'c', ends[1].into(), PORT);
    for (number, (headers, cut)) in [
        (&[0][..], None),
        (&[60], None),
        (&[0, 60], None),
        (&[60, 60, 60], None),
        (&[], Some(512)),
        (&[0], Some(512)),
        (&[0, 60], Some(8)),
    ]
    .into_iter()
    .enumerate()
    {
        let payload = vec![number as u8; 1_000];
        let packets = extended(&packet(UDP, ends.into(), 0, &payload), headers, cut);
        arrives(&format!("{headers:?} {cut:?}"), &far, &payload, || {
            for packet in &packets {
                send_raw(&socket, ends[1], packet);
            }
        });
    }
    // 3. The same from elsewhere goes nowhere, and is counted.
    let node = mesh.node('a');
    let foreign: Ipv6Addr = "2001:db8::7".parse().unwrap();
    for from in [foreign, derived(&mesh, 'b')] {
        let payload = vec![0xEE; 1_000];
        for (headers, cut) in [(&[0_u8, 60][..], None), (&[60], Some(512))] {
            let before = node.counter("source_prefix");
            let packets = extended(&packet(UDP, (from, ends[1]), 0, &payload), headers, cut);
            for packet in &packets {
                send_raw(&socket, ends[1], packet);
            }
            node.wait("drops it", PATIENCE, |node| {
                node.counter("source_prefix") >= before + packets.len() as u64
            });
        }
    }
    // What is honest still arrives, and nothing else came.
    let payload = vec![0x11; 900];
    let honest = packet(UDP, ends.into(), 0, &payload);
    send_raw(&socket, ends[1], &honest);
    let mut got = [0; 2_000];
    wait_until("an honest one", PATIENCE, || {
        send_raw(&socket, ends[1], &honest);
        let Ok(len) = far.recv(&mut got) else {
            return false;
        };
        assert!(got[0] != 0xEE, "a foreign source was delivered");
        got[..len] == payload[..]
    });
}
