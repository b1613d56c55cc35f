//! Wires between namespaces.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::IpNet;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

use super::namespace::{add_link, index_here};
use super::{Namespace, NetError};

/// One end of a wire, as it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plug<'a> {
    /// The machine.
    pub namespace: &'a Namespace,
    /// The name of the interface that appears there, at most 15 bytes.
    pub interface: &'a str,
    /// Its addresses with their prefix lengths.
    pub addresses: &'a [IpNet],
}

/// Which end of a wire: the first or the second argument of [`Wires::connect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// The namespace where all wires lie.
///
/// Calls: from any thread at once.
#[derive(Debug)]
pub struct Wires {
    namespace: Namespace,
    /// The number of the latest wire; numbers are never used again.
    latest: AtomicU32,
}

impl Wires {
    /// Makes the namespace for the wires.
    pub fn new() -> Result<Self, NetError> {
        Ok(Self {
            namespace: Namespace::new("wires")?,
            latest: AtomicU32::new(0),
        })
    }

    /// Lays a wire between two machines; both interfaces are up and addressed on return.
    ///
    /// State: on an error an unfinished wire may stay in the wire namespace until it is dropped.
    pub fn connect(&self, a: Plug<'_>, b: Plug<'_>) -> Result<Wire, NetError> {
        let number = self.latest.fetch_add(1, Ordering::Relaxed) + 1;
        let wire = Wire {
            namespace: self.namespace.clone(),
            number,
            interfaces: [a.interface, b.interface].map(Arc::from),
        };
        let action = format!("lay a wire {} - {}", a.namespace.name(), b.namespace.name());
        self.namespace.add_bridge(&wire.bridge())?;
        self.namespace.netlink(&action, |handle| {
            let wire = &wire;
            async move {
                let bridge = index_here(&wire.bridge())?;
                add_port(&handle, bridge, &wire.port(Side::A), a).await?;
                add_port(&handle, bridge, &wire.port(Side::B), b).await
            }
        })?;
        for plug in [a, b] {
            // Not in the request that makes it: veth_open refuses while the pair is half made.
            plug.namespace.set_up(plug.interface)?;
            for &address in plug.addresses {
                plug.namespace.add_address(plug.interface, address)?;
            }
        }
        Ok(wire)
    }
}

/// One wire. Dropping the handle leaves the wire as it is.
///
/// Calls: from any thread at once.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Where the bridge lies.
    namespace: Namespace,
    number: u32,
    /// What the ends are called in their machines.
    interfaces: [Arc<str>; 2],
}

impl Wire {
    /// What the interface at one end is called in its machine.
    pub fn interface(&self, side: Side) -> &str {
        match side {
            Side::A => &self.interfaces[0],
            Side::B => &self.interfaces[1],
        }
    }

    /// Cuts the wire silently: nothing passes any more, in either direction, and neither machine
    /// is told. Cutting a cut wire changes nothing.
    pub fn cut(&self) -> Result<(), NetError> {
        self.namespace
            .change(&self.port(Side::B), "cut", |port| port.nocontroller())
    }

    /// Mends a cut wire.
    pub fn restore(&self) -> Result<(), NetError> {
        let bridge = self.namespace.interface_index(&self.bridge())?;
        self.namespace
            .change(&self.port(Side::B), "restore", |port| {
                port.controller(bridge)
            })
    }

    /// Takes the carrier from the machine at one end, as if its plug were pulled, or gives it back.
    pub fn set_carrier(&self, side: Side, present: bool) -> Result<(), NetError> {
        let port = self.port(side);
        if present {
            self.namespace.set_up(&port)
        } else {
            self.namespace.set_down(&port)
        }
    }

    /// Limits what passes the wire, in bytes of an IP packet, while the machines keep their own
    /// idea of it: longer packets vanish, as where a router drops without a word.
    pub fn set_mtu(&self, mtu: u32) -> Result<(), NetError> {
        for port in [self.port(Side::A), self.port(Side::B)] {
            self.namespace.set_mtu(&port, mtu)?;
        }
        Ok(())
    }

    /// Removes the wire and the interfaces at its ends.
    pub fn remove(self) -> Result<(), NetError> {
        self.namespace.delete(&self.port(Side::A))?;
        self.namespace.delete(&self.port(Side::B))?;
        self.namespace.delete(&self.bridge())
    }

    fn bridge(&self) -> String {
        format!("w{}", self.number)
    }

    fn port(&self, side: Side) -> String {
        match side {
            Side::A => format!("w{}a", self.number),
            Side::B => format!("w{}b", self.number),
        }
    }
}

/// A veth with one end on the bridge and the other born in the machine's namespace: it never
/// appears anywhere under another name.
async fn add_port(handle: &Handle, bridge: u32, port: &str, plug: Plug<'_>) -> io::Result<()> {
    let far_end = LinkUnspec::new_with_name(plug.interface)
        .setns_by_fd(plug.namespace.raw_fd())
        .build();
    let message = LinkVeth::new(port, plug.interface)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(far_end)))
        .controller(bridge)
        .up()
        .build();
    add_link(handle, message).await
}
