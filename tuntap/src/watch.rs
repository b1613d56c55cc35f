//! Hearing of what others do to interfaces, addresses and routes.
//!
//! The kernel tells more than changed: it repeats addresses with every router advertisement and
//! links with every wireless scan. A [`Watch`] remembers what was, and speaks up only when
//! something is different now.

mod picture;

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use futures_util::{FutureExt, StreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

use crate::netlink::{LocalAddress, Netlink, Notices, closed_error};
use picture::Picture;

/// Old messages read in a row before a look at the whole. A guess: more than a socket holds.
const OLD_MESSAGES: usize = 4_096;

/// Something that is different now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The device's interface was brought up.
    DeviceUp,
    /// The device's interface was brought down; it takes no packets until it is up again.
    DeviceDown,
    /// The device's interface does not exist any more. Said once; the kernel takes an interface
    /// down before it deletes it, so [`Self::DeviceDown`] often comes just before.
    DeviceDeleted,
    /// Someone changed the MTU of the device's interface, to so many bytes.
    DeviceMtu(u32),
    /// Another interface began or ceased to carry packets.
    Link {
        /// The kernel's number of the interface.
        interface: u32,
        /// Whether it carries packets now.
        up: bool,
    },
    /// An address can be used now, on the device or on another interface.
    AddressAdded(LocalAddress),
    /// An address cannot be used any more.
    AddressRemoved(LocalAddress),
    /// Routes changed that do not lead into the device.
    Routes,
}

/// Hears of changes to the host's network.
///
/// State: everything that changes after [`Watch::open`] is told, in order. When the kernel had to
///        leave out messages, the watch looks for itself and tells the difference.
/// Calls: from one task; needs a tokio runtime with I/O enabled. Spawns nothing.
pub struct Watch {
    netlink: Netlink,
    notices: Notices,
    picture: Picture,
    /// Messages may have been lost or missed: look at everything before waiting for the next.
    is_stale: bool,
}

impl Watch {
    /// Begins to listen. `device` is the interface number of our device, if there is one; should
    /// it be down or deleted already, that is the first change told.
    ///
    /// # Errors
    /// When the kernel offers no netlink, or the process has no descriptor left.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open(device: Option<u32>) -> io::Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (netlink, notices) = Netlink::connect(&groups)?;
        let mut watch = Self {
            netlink,
            notices,
            picture: Picture::default(),
            is_stale: false,
        };
        watch.look().await?;
        watch.picture.forget_changes();
        watch.follow(device);
        Ok(watch)
    }

    /// Takes another interface for the device: the one that was opened after a loss, or none.
    /// Should it be down or deleted already, that is the next change told.
    pub fn follow(&mut self, device: Option<u32>) {
        self.picture.follow(device);
        self.is_stale = true;
    }

    /// Addresses of this host that can be used, as of the last change told.
    pub fn addresses(&self) -> impl Iterator<Item = LocalAddress> {
        self.picture.addresses()
    }

    /// Waits for the next change. May be cancelled without losing one.
    ///
    /// # Errors
    /// When the socket is dead; open another watch, after a pause.
    pub async fn next(&mut self) -> io::Result<Change> {
        loop {
            if let Some(change) = self.picture.next_change() {
                return Ok(change);
            }
            if self.is_stale {
                match self.look().await {
                    Ok(()) => self.is_stale = false,
                    // A look that was cancelled midway is still being answered, and the kernel
                    // answers one at a time; with each refusal more of that answer was read.
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            let message = self.hear().await?;
            self.note(message);
        }
    }

    fn note(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) {
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => self.picture.hear(&inner),
            NetlinkPayload::Overrun(_) => self.is_stale = true,
            _ => {}
        }
    }

    /// Waits for the next message. What the kernel has to say waits in the socket until then, so
    /// a slow reader costs bounded memory.
    async fn hear(&mut self) -> io::Result<NetlinkMessage<RouteNetlinkMessage>> {
        let Self {
            netlink, notices, ..
        } = self;
        let next = poll_fn(|context| match notices.poll_next_unpin(context) {
            Poll::Ready(Some(message)) => Poll::Ready(Ok(message)),
            Poll::Ready(None) => Poll::Ready(Err(closed_error())),
            Poll::Pending => Poll::Pending,
        });
        netlink.run(next).await
    }

    /// Looks at all interfaces and addresses, and notes how they differ from what was remembered.
    async fn look(&mut self) -> io::Result<()> {
        // Messages that wait already are older than what we are about to see: first the old, then
        // the new, or the old would undo it.
        for _ in 0..OLD_MESSAGES {
            let Some(message) = self.hear().now_or_never() else {
                break;
            };
            self.note(message?);
        }
        let links = self.netlink.links().await?;
        let addresses = self.netlink.addresses().await?;
        self.picture.replace(&links, addresses);
        Ok(())
    }
}
