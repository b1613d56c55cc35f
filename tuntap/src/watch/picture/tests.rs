use super::*;

use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

const DEVICE: u32 = 7;
const ETHERNET: u32 = 2;

fn link(index: u32, flags: LinkFlags) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = flags;
    link
}

fn sized(index: u32, mtu: u32) -> LinkMessage {
    let mut link = link(index, LinkFlags::Up);
    link.attributes = vec![LinkAttribute::Mtu(mtu)];
    link
}

fn address(text: &str, flags: AddressFlags) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = ETHERNET;
    message.header.prefix_len = 64;
    message.attributes = vec![
        AddressAttribute::Address(text.parse().unwrap()),
        AddressAttribute::Flags(flags),
    ];
    message
}

fn local(text: &str) -> LocalAddress {
    LocalAddress {
        interface: ETHERNET,
        address: text.parse().unwrap(),
        prefix_len: 64,
    }
}

/// A picture of a host with one other interface, whose device is up.
fn picture() -> Picture {
    let mut picture = Picture::default();
    picture.follow(Some(DEVICE));
    let all = [
        sized(DEVICE, 1400),
        link(ETHERNET, LinkFlags::Up | LinkFlags::Running),
    ];
    picture.replace(&all, vec![]);
    picture.forget_changes();
    picture
}

fn changes(picture: &mut Picture) -> Vec<Change> {
    std::iter::from_fn(|| picture.next_change()).collect()
}

#[test]
fn the_device_going_down_and_up_is_told_once_each() {
    let mut picture = picture();
    for flags in [
        LinkFlags::empty(),
        LinkFlags::empty(),
        LinkFlags::Up,
        LinkFlags::Up,
    ] {
        picture.hear(&RouteNetlinkMessage::NewLink(link(DEVICE, flags)));
    }
    assert_eq!(
        changes(&mut picture),
        [Change::DeviceDown, Change::DeviceUp]
    );
}

#[test]
fn the_devices_deletion_is_told_once() {
    let mut picture = picture();
    for _ in 0..2 {
        let gone = link(DEVICE, LinkFlags::empty());
        picture.hear(&RouteNetlinkMessage::DelLink(gone));
    }
    assert_eq!(changes(&mut picture), [Change::DeviceDeleted]);
}

#[test]
fn leaving_a_bridge_is_not_deletion() {
    let mut picture = picture();
    let mut left = link(DEVICE, LinkFlags::Up);
    left.header.interface_family = AddressFamily::Bridge;
    picture.hear(&RouteNetlinkMessage::DelLink(left));
    assert_eq!(changes(&mut picture), []);
}

#[test]
fn a_changed_mtu_is_told_and_a_repeated_one_is_not() {
    let mut picture = picture();
    for mtu in [1400, 1300, 1300] {
        picture.hear(&RouteNetlinkMessage::NewLink(sized(DEVICE, mtu)));
    }
    assert_eq!(changes(&mut picture), [Change::DeviceMtu(1300)]);
}

#[test]
fn messages_from_the_making_of_a_device_are_not_told() {
    let mut picture = picture();
    picture.follow(Some(9));
    picture.hear(&RouteNetlinkMessage::NewLink(link(9, LinkFlags::empty())));
    picture.hear(&RouteNetlinkMessage::NewLink(sized(9, 1500)));
    picture.replace(
        &[
            sized(9, 1400),
            link(ETHERNET, LinkFlags::Up | LinkFlags::Running),
        ],
        vec![],
    );
    assert_eq!(changes(&mut picture), []);
}

#[test]
fn a_device_that_is_gone_or_down_when_followed_is_told() {
    let mut picture = picture();
    picture.follow(Some(9));
    picture.replace(&[link(9, LinkFlags::empty())], vec![]);
    assert!(changes(&mut picture).contains(&Change::DeviceDown));
    picture.follow(Some(10));
    picture.replace(&[], vec![]);
    assert!(changes(&mut picture).contains(&Change::DeviceDeleted));
}

#[test]
fn another_interface_is_told_by_its_carrier() {
    let mut picture = picture();
    let interface = ETHERNET;
    picture.hear(&RouteNetlinkMessage::NewLink(link(ETHERNET, LinkFlags::Up)));
    picture.hear(&RouteNetlinkMessage::NewLink(link(
        ETHERNET,
        LinkFlags::Up | LinkFlags::Running,
    )));
    picture.hear(&RouteNetlinkMessage::DelLink(link(ETHERNET, LinkFlags::Up)));
    let told = [false, true, false].map(|up| Change::Link { interface, up });
    assert_eq!(changes(&mut picture), told);
}

#[test]
fn an_address_is_told_when_it_can_be_used_and_not_again() {
    let mut picture = picture();
    for flags in [
        AddressFlags::Tentative,
        AddressFlags::empty(),
        AddressFlags::empty(),
    ] {
        picture.hear(&RouteNetlinkMessage::NewAddress(address("fd00::1", flags)));
    }
    let gone = address("fd00::1", AddressFlags::empty());
    picture.hear(&RouteNetlinkMessage::DelAddress(gone));
    assert_eq!(
        changes(&mut picture),
        [
            Change::AddressAdded(local("fd00::1")),
            Change::AddressRemoved(local("fd00::1")),
        ]
    );
}

#[test]
fn routes_of_the_device_and_of_the_local_table_are_not_told() {
    let mut picture = picture();
    let route = |interface: u32, table: u8| {
        let mut route = RouteMessage::default();
        route.header.table = table;
        route.attributes = vec![RouteAttribute::Oif(interface)];
        RouteNetlinkMessage::NewRoute(route)
    };
    picture.hear(&route(DEVICE, libc::RT_TABLE_MAIN));
    picture.hear(&route(ETHERNET, libc::RT_TABLE_LOCAL));
    assert_eq!(changes(&mut picture), []);
    picture.hear(&route(ETHERNET, libc::RT_TABLE_MAIN));
    picture.hear(&route(ETHERNET, libc::RT_TABLE_MAIN));
    assert_eq!(changes(&mut picture), [Change::Routes]);
}

#[test]
fn a_look_at_the_whole_tells_exactly_the_differences() {
    let mut picture = picture();
    picture.hear(&RouteNetlinkMessage::NewAddress(address(
        "fd00::1",
        AddressFlags::empty(),
    )));
    picture.hear(&RouteNetlinkMessage::NewAddress(address(
        "fd00::2",
        AddressFlags::empty(),
    )));
    picture.forget_changes();
    picture.replace(
        &[sized(DEVICE, 1400)],
        vec![local("fd00::2"), local("fd00::3")],
    );
    assert_eq!(
        changes(&mut picture),
        [
            Change::Link {
                interface: ETHERNET,
                up: false
            },
            Change::AddressRemoved(local("fd00::1")),
            Change::AddressAdded(local("fd00::3")),
        ]
    );
}
