//! Inner sources against a certificate's prefixes (SECURITY T16): every form a packet can have, by every
//! kind of source, in both directions and for both kinds of device.
//!
//! ```text
//!   {IPv4, IPv6, extension headers, fragments, ARP, Neighbor Discovery}
//!       x {own, another's, unspecified, multicast}
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use wire::sealed::Prefix;

use super::*;

/// 10.0.7.0/24 and 2001:db8:7::/48.
fn prefixes() -> [Prefix; 2] {
    let mut v6 = [0; 16];
    v6[..6].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 7]);
    [Prefix::V4([10, 0, 7, 0], 24), Prefix::V6(v6, 48)]
}

/// Whose a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Own,
    Foreign,
    Unspecified,
    Multicast,
}

const V4: [(Whose, &str); 7] = [
    (Whose::Own, "10.0.7.1"),
    (Whose::Own, "10.0.7.254"),
    (Whose::Foreign, "10.0.8.1"),
    (Whose::Foreign, "10.0.6.255"),
    (Whose::Foreign, "192.0.2.1"),
    (Whose::Unspecified, "0.0.0.0"),
    (Whose::Multicast, "224.0.0.251"),
];

/// Addresses that follow from the netids of A, which is 0xa, and of another node.
fn v6() -> Vec<(Whose, Ipv6Addr)> {
    let fixed = [
        (Whose::Own, "2001:db8:7::1"),
        (Whose::Own, "2001:db8:7:ffff::1"),
        (Whose::Foreign, "2001:db8:8::1"),
        (Whose::Foreign, "2001:db9::1"),
        (Whose::Unspecified, "::"),
        (Whose::Multicast, "ff02::1"),
        (Whose::Multicast, "ff0e::7"),
    ];
    let fixed = fixed.map(|(whose, text)| (whose, text.parse().unwrap()));
    let derived = [(Whose::Own, A), (Whose::Foreign, NetId(0xB))];
    let derived = derived.map(|(whose, netid)| (whose, Mesh::default().address(netid)));
    fixed.into_iter().chain(derived).collect()
}

fn ipv4(source: Ipv4Addr, to: Ipv4Addr, fragment: [u8; 2], options: &[u8]) -> Vec<u8> {
    let header = (20 + options.len()) as u8;
    let len = (u16::from(header) + 16).to_be_bytes();
    let words = [0x40 | (header / 4), 0, len[0], len[1], 0, 7];
    let rest = [fragment[0], fragment[1], 64, 17, 0, 0];
    let addresses = [source.octets(), to.octets()].concat();
    [&words[..], &rest, &addresses, options, &[5; 16]].concat()
}

fn ipv6(source: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, len[0], len[1], next, 255];
    [&head[..], &source.octets(), &to.octets(), payload].concat()
}

/// Extension headers of 8 bytes, each named by its number, in front of what `next` is.
fn chain(numbers: &[u8], next: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    let mut all = (next, payload.to_vec());
    for &number in numbers.iter().rev() {
        let header = match number {
            // An atomic fragment; the length's place is reserved there.
            44 => [all.0, 0, 0, 0, 0, 0, 0, 9],
            // An authentication header of 16 bytes would be honest; 8 are enough to walk it.
            51 => [all.0, 0, 0, 0, 0, 0, 0, 0],
            // Otherwise options: PadN over the rest.
            _ => [all.0, 0, 1, 4, 0, 0, 0, 0],
        };
        all = (number, [&header[..], &all.1].concat());
    }
    all
}

/// What stands behind the addresses of an IPv6 packet, by its name.
fn forms() -> Vec<(&'static str, (u8, Vec<u8>))> {
    let udp = [1, 2, 3, 4, 0, 16, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7];
    let fragment = |offset: u16, next| {
        let word = offset.to_be_bytes();
        let header = [next, 0, word[0], word[1], 0, 0, 0, 9];
        (44, [&header[..], &udp].concat())
    };
    vec![
        ("udp", (17, udp.to_vec())),
        ("hop by hop", chain(&[0], 17, &udp)),
        ("all that is allowed", chain(&[0, 60, 43, 60], 17, &udp)),
        ("atomic fragment", chain(&[44], 17, &udp)),
        ("authentication", chain(&[51, 60], 17, &udp)),
        ("first fragment", fragment(1, 17)),
        ("middle fragment", fragment(0x0100 | 1, 17)),
        ("last fragment", fragment(0x0200, 17)),
        ("cut off by the fragment's end", fragment(1, 60)),
        ("a fragment behind options", {
            let (next, fragment) = fragment(1, 17);
            chain(&[0, 60], next, &fragment)
        }),
        ("encrypted", (50, udp.to_vec())),
        ("nothing", (59, Vec::new())),
        ("cut short", (60, vec![17, 9, 0, 0])),
    ]
}

/// An ARP packet from a sender.
fn arp(operation: u8, sender: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&head[..], &THERE, &sender.octets(), &HERE, &[10, 0, 0, 1]].concat()
}

/// A message of Neighbor Discovery about `target`.
fn discovery(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    let head = [kind, 0, 0, 0, 0x60, 0, 0, 0];
    [&head[..], &target.octets(), &[2, 1], &THERE].concat()
}

fn in_frame(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = frame(ALL, THERE, ethertype, packet);
    // As wires pad it.
    frame.resize(frame.len().max(60), 0);
    frame
}

/// How a packet of A is judged on its way in.
fn came(port: &mut Port, dst: NetId, payload: &[u8]) -> Result<u32, DropReason> {
    let packet = Packet {
        origin: A,
        dst,
        payload: Span::default(),
    };
    port.incoming(Instant::ZERO, &held_to(A, &prefixes()), packet, payload)
}

/// Whether A's own device may send it. Its node has the addresses that follow from its netid, A.
fn may_go(port: &mut Port, packet: &[u8]) -> bool {
    let mut ours = held_to(A, &prefixes());
    let routes = Routes::new(A, Mesh::default(), &[], [], [], 1);
    let grants = Arc::new(ours.routes.grants().clone());
    ours.routes = Arc::new(routes.granting(grants));
    let went = port.outgoing(Instant::ZERO, &ours, packet);
    went != Err(Some(DropReason::SourcePrefix))
}

const OUTSIDE: Result<u32, DropReason> = Err(DropReason::SourcePrefix);

/// What a TUN device gets of a source, to one address and to all.
fn expected(whose: Whose, to_all: bool) -> Result<u32, DropReason> {
    match whose {
        Whose::Own => Ok(0),
        // A host without an address asks all; what it says to one is no packet.
        Whose::Unspecified if to_all => Ok(0),
        Whose::Unspecified => Err(DropReason::BadPacket),
        Whose::Foreign | Whose::Multicast => OUTSIDE,
    }
}

/// Judges one packet as it comes to TUN and, in a frame, to TAP, and as it goes from both.
fn judge(whose: Whose, what: &str, to_all: bool, packet: &[u8]) {
    let says = |what: &str| format!("{whose:?} {what}, to all: {to_all}");
    let dst = if to_all { NetId::ALL } else { ME };
    assert_eq!(
        came(&mut tun(), dst, packet),
        expected(whose, to_all),
        "{}",
        says(what)
    );
    let ethertype = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86DD };
    let frame = in_frame(ethertype, packet);
    let payload = [&[0xC0][..], &frame].concat();
    let is_own = matches!(whose, Whose::Own | Whose::Unspecified);
    let framed = came(&mut tap(), NetId::ALL, &payload);
    // Headers that end nowhere could hide anything.
    let is_walked = !what.starts_with("cut");
    let allowed = if is_own && is_walked { Ok(1) } else { OUTSIDE };
    assert_eq!(framed, allowed, "{}", says(what));
    assert_eq!(may_go(&mut tun(), packet), is_own, "{}", says(what));
    assert_eq!(
        may_go(&mut tap(), &frame),
        allowed.is_ok(),
        "{}",
        says(what)
    );
}

#[test]
fn an_ipv4_packet_is_judged_by_its_source_whole_in_fragments_and_with_options() {
    let forms = [
        ("whole", [0, 0], &[][..]),
        ("first fragment", [0x20, 0], &[]),
        ("middle fragment", [0x20, 9], &[]),
        ("last fragment", [0, 9], &[]),
        ("options", [0x40, 0], &[7, 4, 4, 0]),
        ("fragment with options", [0x20, 2], &[1, 1, 1, 0]),
    ];
    for (whose, source) in V4 {
        for (what, fragment, options) in forms {
            for (to_all, to) in [(false, [10, 0, 0, 1]), (true, [255; 4])] {
                let source = source.parse().unwrap();
                let packet = ipv4(source, to.into(), fragment, options);
                judge(whose, what, to_all, &packet);
            }
        }
    }
}

#[test]
fn an_ipv6_packet_is_judged_by_its_source_whatever_stands_behind_it() {
    let (one, all) = (Mesh::default().address(ME), "ff02::1".parse().unwrap());
    for (whose, source) in v6() {
        for (what, (next, payload)) in forms() {
            for (to_all, to) in [(false, one), (true, all)] {
                judge(whose, what, to_all, &ipv6(source, to, next, &payload));
            }
        }
    }
}

#[test]
fn arp_is_judged_by_its_sender_requests_and_answers() {
    for (whose, sender) in V4 {
        for operation in [1, 2] {
            let packet = arp(operation, sender.parse().unwrap());
            let frame = in_frame(0x0806, &packet);
            let payload = [&[0xC0][..], &frame].concat();
            let is_own = matches!(whose, Whose::Own | Whose::Unspecified);
            let allowed = if is_own { Ok(1) } else { OUTSIDE };
            assert_eq!(came(&mut tap(), NetId::ALL, &payload), allowed, "{whose:?}");
            assert_eq!(may_go(&mut tap(), &frame), is_own, "{whose:?}");
        }
    }
}

#[test]
fn an_advertisement_is_judged_by_its_target_too_behind_headers_as_well() {
    const SOLICITATION: u8 = 135;
    const ADVERTISEMENT: u8 = 136;
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let sources = ["fe80::1234".parse().unwrap(), Mesh::default().address(A)];
    for (whose, target) in v6() {
        for source in sources {
            for headers in [&[][..], &[0], &[60, 60], &[0, 43, 44], &[60; 7], &[60; 8]] {
                let judged = |kind| {
                    let (next, payload) = chain(headers, 58, &discovery(kind, target));
                    let frame = in_frame(0x86DD, &ipv6(source, all, next, &payload));
                    let payload = [&[0xC0][..], &frame].concat();
                    let came = came(&mut tap(), NetId::ALL, &payload);
                    assert_eq!(came.is_ok(), may_go(&mut tap(), &frame));
                    came
                };
                let is_walked = headers.len() < 8;
                let is_own = matches!(whose, Whose::Own | Whose::Unspecified);
                let of = |may| if may { Ok(1) } else { OUTSIDE };
                let what = format!("{whose:?} {target} {headers:?}");
                assert_eq!(judged(ADVERTISEMENT), of(is_own && is_walked), "{what}");
                // Who asks for an address does not say that it has it.
                assert_eq!(judged(SOLICITATION), of(is_walked), "{what}");
            }
        }
    }
    // Link-local addresses are free, and one that ends before its target says nothing.
    let link_local = discovery(ADVERTISEMENT, "fe80::77".parse().unwrap());
    for payload in [&link_local[..], &link_local[..23], &link_local[..1]] {
        let frame = in_frame(0x86DD, &ipv6(sources[0], all, 58, payload));
        let payload = [&[0xC0][..], &frame].concat();
        assert_eq!(came(&mut tap(), NetId::ALL, &payload), Ok(1));
    }
}

proptest! {
    /// A packet's source decides, and nothing that stands behind the addresses.
    #[test]
    fn bytes_behind_the_addresses_never_change_how_a_packet_is_judged(
        next in any::<u8>(),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        place in any::<proptest::sample::Index>(),
    ) {
        let (whose, source) = v6()[place.index(v6().len())];
        let packet = ipv6(source, Mesh::default().address(ME), next, &payload);
        prop_assert_eq!(came(&mut tun(), ME, &packet), expected(whose, false));
        let may = matches!(whose, Whose::Own | Whose::Unspecified);
        prop_assert_eq!(may_go(&mut tun(), &packet), may);
    }

    /// Whatever a frame of such a node holds: if a reader that tries every place finds an advertisement
    /// for another's address in it, it is not delivered.
    #[test]
    fn no_chain_of_headers_hides_an_advertisement(
        headers in proptest::collection::vec(
            prop_oneof![Just(0_u8), Just(43), Just(44), Just(51), Just(60)], 0..12),
        last in 1_u8..,
    ) {
        let foreign = IpAddr::from([0x2001, 0xdb8, 8, 0, 0, 0, 0, u16::from(last)]);
        let IpAddr::V6(foreign) = foreign else { unreachable!() };
        let (next, payload) = chain(&headers, 58, &discovery(136, foreign));
        let all = "ff02::1".parse().unwrap();
        let frame = in_frame(0x86DD, &ipv6(Mesh::default().address(A), all, next, &payload));
        let payload = [&[0xC0][..], &frame].concat();
        prop_assert_eq!(came(&mut tap(), NetId::ALL, &payload), OUTSIDE);
    }
}
