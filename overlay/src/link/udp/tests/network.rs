//! The transport in networks that are small, unreachable, or change. Needs root.

use std::net::Ipv4Addr;

use super::namespace::{LOOPBACK, Namespace};
use super::*;

/// Sockets that listen in a namespace.
fn bind_in(namespace: &Namespace, listen: &[&str]) -> Node {
    Node::new(namespace.enter(|| bind(listen)))
}

#[test]
fn datagrams_above_the_interface_mtu_arrive_in_fragments_and_are_counted() {
    let Some(net) = Namespace::new() else { return };
    net.set_up(LOOPBACK, Some(1_280));
    let mut far = bind_in(&net, &["127.0.0.1:0", "[::1]:0"]);
    let mut near = bind_in(&net, &["127.0.0.1:0", "[::1]:0"]);
    let neighbors = links(&[
        path(FIRST, address_of(&far.sockets, FIRST)),
        path(SocketId(1), address_of(&far.sockets, SocketId(1))),
    ]);
    let (small, large) = ([1; 1_000], [2; 1_400]);
    for _ in 0..100 {
        near.flush(&neighbors, &[&small, &large, &small]);
        for index in [0, 1] {
            let got = far.expect(SocketId(index), 3);
            assert_eq!(bytes_of(&got), [small.as_slice(), &large, &small]);
        }
    }
    for index in [0, 1] {
        let stats = stats(&neighbors, index);
        assert_eq!(stats.tx_datagrams.load(Relaxed), 300);
        assert_eq!(stats.fragmented.load(Relaxed), 100);
        assert_eq!(stats.tx_errors.load(Relaxed), 0);
        let control = neighbors.links()[index].path;
        assert_eq!(near.sockets.send_to(&control, &large, None), Ok(()));
        assert_eq!(far.expect(SocketId(index as u8), 1).len(), 1);
    }
}

#[test]
fn a_neighbor_without_a_route_costs_the_other_no_datagram() {
    let Some(net) = Namespace::new() else { return };
    let mut far = bind_in(&net, &["127.0.0.1:0", "[::1]:0"]);
    let mut near = bind_in(&net, &["0.0.0.0:0", "[::]:0"]);
    let neighbors = links(&[
        path(FIRST, "203.0.113.1:44204".parse().unwrap()),
        path(FIRST, address_of(&far.sockets, FIRST)),
        path(SocketId(1), "[2001:db8::1]:44204".parse().unwrap()),
        path(SocketId(1), address_of(&far.sockets, SocketId(1))),
    ]);
    let mut received = 0;
    for _ in 0..625 {
        near.flush(&neighbors, &[b"data".as_slice(); 16]);
        received += far.expect(FIRST, 16).len() + far.expect(SocketId(1), 16).len();
    }
    assert_eq!(received, 20_000);
    assert_eq!(near.counters.dropped(DropReason::TxUnreachable), 20_000);
    assert_eq!(near.counters.total(Total::Sent), 20_000);
    for index in [0, 2] {
        assert_eq!(stats(&neighbors, index).tx_errors.load(Relaxed), 10_000);
        let nowhere = near
            .sockets
            .send_to(&neighbors.links()[index].path, b"control", None);
        assert_eq!(nowhere, Err(SendError::Unreachable));
    }
}

#[test]
fn a_link_goes_on_from_another_address_when_its_own_is_removed() {
    let Some(net) = Namespace::new() else { return };
    let cases = [
        ("10.7.0.1", "10.7.0.2", 32, "0.0.0.0:0", "10.7.0.9"),
        ("fd00:7::1", "fd00:7::2", 128, "[::]:0", "fd00:7::9"),
    ];
    for (kept, removed, prefix, any, far_address) in cases {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        for address in [kept, removed, far_address] {
            net.add_address(LOOPBACK, ip(address), prefix);
        }
        let mut far = bind_in(&net, &[&SocketAddr::new(ip(far_address), 0).to_string()]);
        let mut near = bind_in(&net, &[any]);
        let mut pinned = path(FIRST, address_of(&far.sockets, FIRST));
        pinned.local = Some(ip(removed));
        let neighbors = links(&[pinned]);
        near.flush(&neighbors, &[b"before"]);
        let got = far.expect(FIRST, 1);
        assert_eq!(got[0].0.path.endpoint.remote.ip(), ip(removed));

        net.remove_address(LOOPBACK, ip(removed), prefix);
        near.flush(&neighbors, &[b"after".as_slice(); 20]);
        near.sockets.send_to(&pinned, b"control", None).unwrap();
        let got = far.expect(FIRST, 21);
        assert_eq!(got.len(), 21);
        assert!(
            got.iter()
                .all(|(message, _)| message.path.endpoint.remote.ip() != ip(removed))
        );
        assert_eq!(stats(&neighbors, 0).tx_errors.load(Relaxed), 0);
    }
}

#[test]
fn a_route_through_the_device_is_found_by_its_source_address() {
    let Some(net) = Namespace::new() else { return };
    let Some(outside) = Namespace::new() else {
        return;
    };
    // The cable's end stands for the overlay's device.
    let (device, _) = net.join(&outside, "device", 1_400);
    net.add_address(device, "10.99.0.1".parse().unwrap(), 16);
    net.add_default_route("10.99.0.2".parse().unwrap());
    let sockets = net.enter(|| bind(&["0.0.0.0:0"]));
    let own = |remote: &str, overlay: &[IpNet], addresses: &[IpAddr]| {
        net.enter(|| sockets.is_own_route(remote.parse().unwrap(), overlay, addresses))
    };
    let overlay = ["10.99.0.0/16".parse().unwrap()];
    let address = ["10.99.0.1".parse().unwrap()];
    assert!(own("198.51.100.7:44204", &overlay, &[]));
    assert!(own("198.51.100.7:44204", &[], &address));
    assert!(!own("198.51.100.7:44204", &[], &[]));
    assert!(!own("127.0.0.1:44204", &overlay, &address));
    assert!(!own("[2001:db8::7]:44204", &overlay, &address), "no route");
}

/// ```text
/// near 10.1.0.1 ---- 10.1.0.254 router 10.2.0.254 --(MTU 1300)-- 10.2.0.1 far
///  \__ 127.0.0.1 another neighbor
/// ```
#[test]
fn a_smaller_mtu_behind_a_router_is_learned_and_costs_the_other_neighbor_nothing() {
    let Some(here) = Namespace::new() else { return };
    let Some(router) = Namespace::new() else {
        return;
    };
    let Some(there) = Namespace::new() else {
        return;
    };
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let (from, to_here) = here.join(&router, "wide", 1_500);
    let (to_there, at) = router.join(&there, "narrow", 1_300);
    here.add_address(from, ip("10.1.0.1"), 24);
    router.add_address(to_here, ip("10.1.0.254"), 24);
    router.add_address(to_there, ip("10.2.0.254"), 24);
    there.add_address(at, ip("10.2.0.1"), 24);
    here.add_default_route(Ipv4Addr::new(10, 1, 0, 254));
    there.add_default_route(Ipv4Addr::new(10, 2, 0, 254));
    router.forward();

    let mut near = bind_in(&here, &["0.0.0.0:0"]);
    let mut other = bind_in(&here, &["127.0.0.1:0"]);
    let mut far = bind_in(&there, &["10.2.0.1:0"]);
    let neighbors = links(&[
        path(FIRST, address_of(&far.sockets, FIRST)),
        path(FIRST, address_of(&other.sockets, FIRST)),
    ]);
    // The first datagrams are lost in the router, which says so, sooner or later.
    let mut sent = 0;
    let fragmented = || stats(&neighbors, 0).fragmented.load(Relaxed);
    while fragmented() < 5 && sent < 500 {
        near.flush(&neighbors, &[&[5; 1_400]]);
        std::thread::sleep(Wait::from_millis(20));
        sent += 1;
    }
    assert_eq!(fragmented(), 5);
    assert!(sent > 5, "the first was not lost");
    assert_eq!(far.expect(FIRST, 5).len(), 5);
    // From then on none is.
    for _ in 0..100 {
        near.flush(&neighbors, &[&[5; 1_400], &[6; 100]]);
        std::thread::sleep(Wait::from_millis(1));
    }
    assert_eq!(far.expect(FIRST, 200).len(), 200);
    assert_eq!(other.expect(FIRST, sent + 200).len(), sent + 200);
    assert_eq!(stats(&neighbors, 1).tx_errors.load(Relaxed), 0);
    assert_eq!(stats(&neighbors, 1).fragmented.load(Relaxed), 0);
}

#[test]
fn a_probe_is_sent_in_one_packet_or_not_at_all() {
    let Some(net) = Namespace::new() else { return };
    net.set_up(LOOPBACK, Some(1_280));
    let mut far = bind_in(&net, &["127.0.0.1:0", "[::1]:0"]);
    let near = bind_in(&net, &["127.0.0.1:0", "[::1]:0"]);
    for (socket, headers) in [(FIRST, 28), (SocketId(1), 48)] {
        let to = path(socket, address_of(&far.sockets, socket));
        let (fits, too_long) = (vec![1; 1_280 - headers], vec![1; 1_281 - headers]);
        assert_eq!(near.sockets.probe(&to, &fits), Ok(()));
        assert_eq!(bytes_of(&far.expect(socket, 1)), [fits]);
        assert_eq!(near.sockets.probe(&to, &too_long), Err(SendError::TooBig));
        // What may be cut still goes.
        assert_eq!(near.sockets.send_to(&to, &too_long, None), Ok(()));
        assert_eq!(bytes_of(&far.expect(socket, 1)), [too_long]);
    }
}

#[test]
fn what_probes_found_to_be_too_long_goes_in_fragments_and_the_rest_whole() {
    let Some(net) = Namespace::new() else { return };
    let mut far = bind_in(&net, &["127.0.0.1:0", "[::1]:0"]);
    let mut near = bind_in(&net, &["127.0.0.1:0", "[::1]:0"]);
    let neighbors = links(&[
        path(FIRST, address_of(&far.sockets, FIRST)),
        path(SocketId(1), address_of(&far.sockets, SocketId(1))),
    ]);
    for index in [0, 1] {
        stats(&neighbors, index).whole.store(1_232, Relaxed);
    }
    let (whole, cut) = ([1; 1_232], [2; 1_233]);
    near.flush(&neighbors, &[&whole, &cut, &whole]);
    for index in [0, 1] {
        let got = far.expect(SocketId(index), 3);
        assert_eq!(bytes_of(&got), [whole.as_slice(), &cut, &whole]);
        let fragmented = &stats(&neighbors, index.into()).fragmented;
        assert_eq!(fragmented.load(Relaxed), 1);
    }
    assert_eq!(near.counters.total(Total::Fragmented), 2);
}

#[test]
fn the_kernel_believes_what_it_is_taught_of_a_path() {
    let Some(net) = Namespace::new() else { return };
    let mut far = bind_in(&net, &["127.0.0.1:0", "[::1]:0"]);
    let near = bind_in(&net, &["127.0.0.1:0", "[::1]:0"]);
    for socket in [FIRST, SocketId(1)] {
        let to = path(socket, address_of(&far.sockets, socket));
        let taught = net.enter(|| near.sockets.teach(&to, 1_252));
        assert!(taught.is_ok(), "{taught:?}");
        // It is cut, so that it arrives; as a probe it still goes whole, or no path could widen.
        assert_eq!(near.sockets.send_to(&to, &[1; 1_400], None), Ok(()));
        assert_eq!(far.expect(socket, 1).len(), 1);
        assert_eq!(near.sockets.probe(&to, &[2; 1_400]), Ok(()));
        assert_eq!(far.expect(socket, 1).len(), 1);
    }
}
