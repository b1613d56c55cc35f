//! What is remembered of the host's network. Pure: messages in, changes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Change;
use crate::netlink::LocalAddress;

/// What is remembered of the device.
#[derive(Clone, Copy, Debug)]
struct Device {
    index: u32,
    up: bool,
    /// Bytes; `None` until seen.
    mtu: Option<u32>,
    /// Its true state was seen since it is followed. Until then messages about it are of the time
    /// when it was made, and nobody's concern.
    is_settled: bool,
}

/// What is remembered, and which changes were not told yet.
///
/// Bounded by what the kernel has: an entry an interface and one an address. The changes wait only
/// until the watch is asked again, which is before it reads on.
#[derive(Debug, Default)]
pub(super) struct Picture {
    device: Option<Device>,
    /// Of each other interface, whether it carries packets.
    links: BTreeMap<u32, bool>,
    addresses: BTreeSet<LocalAddress>,
    changes: VecDeque<Change>,
}

impl Picture {
    /// Takes the interface `index` for the device. It is taken to be up until seen otherwise.
    pub(super) fn follow(&mut self, index: Option<u32>) {
        self.device = index.map(|index| Device {
            index,
            up: true,
            mtu: None,
            is_settled: false,
        });
        self.links.retain(|other, _| Some(*other) != index);
    }

    /// The oldest change not told yet.
    pub(super) fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// Drops the changes not told yet.
    pub(super) fn forget_changes(&mut self) {
        self.changes.clear();
    }

    /// The addresses that can be used.
    pub(super) fn addresses(&self) -> impl Iterator<Item = LocalAddress> {
        self.addresses.iter().copied()
    }

    /// Takes note of one message.
    pub(super) fn hear(&mut self, message: &RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewLink(link) if is_about_link(link) => self.link_is(link),
            RouteNetlinkMessage::DelLink(link) if is_about_link(link) => {
                self.link_is_gone(link.header.index);
            }
            RouteNetlinkMessage::NewAddress(message) => match LocalAddress::usable(message) {
                Some(address) => self.address_is(address),
                // An address that could be used and is checked again: not until that is over.
                None => LocalAddress::of(message)
                    .into_iter()
                    .for_each(|address| self.address_is_gone(address)),
            },
            RouteNetlinkMessage::DelAddress(message) => LocalAddress::of(message)
                .into_iter()
                .for_each(|address| self.address_is_gone(address)),
            // One word for many routes: a routing daemon changes thousands at a time.
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route)
                if self.is_of_interest(route) && self.changes.back() != Some(&Change::Routes) =>
            {
                self.changes.push_back(Change::Routes);
            }
            _ => {}
        }
    }

    /// Replaces everything by what a look at the whole showed, and notes the differences.
    pub(super) fn replace(&mut self, links: &[LinkMessage], addresses: Vec<LocalAddress>) {
        let seen: BTreeSet<u32> = links.iter().map(|link| link.header.index).collect();
        let known = self.links.keys().copied();
        let gone: Vec<u32> = known
            .chain(self.device.map(|device| device.index))
            .filter(|index| !seen.contains(index))
            .collect();
        if let Some(device) = &mut self.device {
            device.is_settled = true;
        }
        for index in gone {
            self.link_is_gone(index);
        }
        for link in links {
            self.link_is(link);
        }
        let addresses: BTreeSet<LocalAddress> = addresses.into_iter().collect();
        let gone: Vec<LocalAddress> = self.addresses.difference(&addresses).copied().collect();
        for address in gone {
            self.address_is_gone(address);
        }
        for address in addresses {
            self.address_is(address);
        }
    }

    fn link_is(&mut self, link: &LinkMessage) {
        let up = link.header.flags.contains(LinkFlags::Up);
        let index = link.header.index;
        let Some(device) = self.device.as_mut().filter(|device| device.index == index) else {
            let running = up && link.header.flags.contains(LinkFlags::Running);
            let was = self.links.insert(index, running).unwrap_or(false);
            if running != was {
                let interface = index;
                let up = running;
                self.changes.push_back(Change::Link { interface, up });
            }
            return;
        };
        if !device.is_settled {
            return;
        }
        let mtu = link
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            });
        if let (Some(old), Some(new)) = (device.mtu, mtu)
            && old != new
        {
            self.changes.push_back(Change::DeviceMtu(new));
        }
        device.mtu = mtu.or(device.mtu);
        if up != device.up {
            device.up = up;
            self.changes.push_back(if up {
                Change::DeviceUp
            } else {
                Change::DeviceDown
            });
        }
    }

    fn link_is_gone(&mut self, index: u32) {
        if self.device.is_some_and(|device| device.index == index) {
            self.device = None;
            self.changes.push_back(Change::DeviceDeleted);
        } else if self.links.remove(&index) == Some(true) {
            let interface = index;
            self.changes.push_back(Change::Link {
                interface,
                up: false,
            });
        }
    }

    fn address_is(&mut self, address: LocalAddress) {
        if self.addresses.insert(address) {
            self.changes.push_back(Change::AddressAdded(address));
        }
    }

    fn address_is_gone(&mut self, address: LocalAddress) {
        if self.addresses.remove(&address) {
            self.changes.push_back(Change::AddressRemoved(address));
        }
    }

    /// Whether a route says something about the way to other hosts: not one of the device, nor of
    /// the local table, which mirrors addresses, nor a remembered result.
    fn is_of_interest(&self, route: &RouteMessage) -> bool {
        let device = self.device.map(|device| device.index);
        let into_device = route.attributes.iter().any(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index) == device,
            _ => false,
        });
        !into_device
            && route.header.table != libc::RT_TABLE_LOCAL
            && !route.header.flags.contains(RouteFlags::Cloned)
    }
}

/// Whether a message is about an interface itself. A bridge says in link messages of its own family
/// that a port joined or left; the interface is still there then.
fn is_about_link(link: &LinkMessage) -> bool {
    link.header.interface_family == AddressFamily::Unspec
}

#[cfg(test)]
mod tests;
