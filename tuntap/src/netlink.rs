//! Talking to the kernel about interfaces and addresses, without an external command.
//!
//! A [`Netlink`] drives its own connection while it waits for an answer, so nothing is spawned and
//! nothing is left behind. Plain functions that block run it on a short-lived thread of their own,
//! with a runtime of their own: they can be called inside a tokio runtime and outside of one.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::thread;

use futures_util::{Stream, TryStreamExt};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkUnspec, MulticastGroup};

/// One netlink socket and its protocol state.
pub(crate) struct Netlink {
    connection: rtnetlink::proto::Connection<RouteNetlinkMessage>,
    /// Makes requests, which move only inside [`Self::run`].
    pub(crate) handle: Handle,
}

/// What the kernel says unasked.
pub(crate) type Notices = Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send>>;

impl Netlink {
    /// Opens a socket that also hears of `groups`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn connect(groups: &[MulticastGroup]) -> io::Result<(Self, Notices)> {
        use futures_util::StreamExt;
        let (connection, handle, notices) = rtnetlink::new_multicast_connection(groups)?;
        let notices = Box::pin(notices.map(|(message, _)| message));
        Ok((Self { connection, handle }, notices))
    }

    /// Drives the connection until `work` is done.
    pub(crate) async fn run<T>(
        &mut self,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let mut work = pin!(work);
        poll_fn(|context| {
            // Requests first, then the socket, then what the socket had to say.
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            let closed = Pin::new(&mut self.connection).poll(context).is_ready();
            match work.as_mut().poll(context) {
                Poll::Pending if closed => Poll::Ready(Err(closed_error())),
                result => result,
            }
        })
        .await
    }

    /// Changes a link as `message` says.
    pub(crate) async fn change_link(&mut self, message: LinkMessage) -> io::Result<()> {
        let request = self.handle.link().change(message);
        self.run(async { request.execute().await.map_err(io_error) })
            .await
    }

    /// Adds an address, usable at once: nobody else in the mesh can hold it, so the kernel need
    /// not look for duplicates first.
    pub(crate) async fn add_address(
        &mut self,
        index: u32,
        address: ipnet::IpNet,
    ) -> io::Result<()> {
        let handle = self.handle.address();
        let mut request = handle
            .add(index, address.addr(), address.prefix_len())
            .replace();
        if address.addr().is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        self.run(async { request.execute().await.map_err(io_error) })
            .await
    }

    /// All interfaces.
    pub(crate) async fn links(&mut self) -> io::Result<Vec<LinkMessage>> {
        let request = self.handle.link().get();
        self.run(async { request.execute().try_collect().await.map_err(io_error) })
            .await
    }

    /// All addresses of all interfaces that can be used.
    pub(crate) async fn addresses(&mut self) -> io::Result<Vec<LocalAddress>> {
        let request = self.handle.address().get();
        let messages: Vec<AddressMessage> = self
            .run(async { request.execute().try_collect().await.map_err(io_error) })
            .await?;
        Ok(messages.iter().filter_map(LocalAddress::usable).collect())
    }
}

/// The kernel's error number where there is one, so that callers can tell refusals apart.
pub(crate) fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// Whether the kernel does not know the address family at all.
pub(crate) fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
    )
}

/// The error of a netlink socket that the kernel closed.
pub(crate) fn closed_error() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the netlink socket closed")
}

/// Runs `work` to its end on a thread of its own, in the network namespace of the caller.
pub(crate) fn block_on<T: Send>(
    work: impl AsyncFnOnce(&mut Netlink) -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netlink".into());
        let handle = thread.spawn_scoped(scope, || {
            tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()?
                .block_on(async {
                    let (mut netlink, _) = Netlink::connect(&[])?;
                    work(&mut netlink).await
                })
        })?;
        handle.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalAddress {
    /// The kernel's number of the interface that holds it.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of the prefix that is reached directly through the interface.
    pub prefix_len: u8,
}

impl LocalAddress {
    /// The address that a message is about, usable or not.
    pub(crate) fn of(message: &AddressMessage) -> Option<Self> {
        // On a point-to-point interface `Address` is the far end and `Local` the near one.
        let local = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        let address = local.or_else(|| {
            message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
        })?;
        Some(Self {
            interface: message.header.index,
            address,
            prefix_len: message.header.prefix_len,
        })
    }

    /// The address that a message is about, unless the kernel still or in vain checks that nobody
    /// else has it.
    pub(crate) fn usable(message: &AddressMessage) -> Option<Self> {
        let flags = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Flags(flags) => Some(*flags),
            _ => None,
        });
        let header = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
        let flags = flags.unwrap_or(header);
        let pending =
            flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
        if pending || flags.contains(AddressFlags::Dadfailed) {
            return None;
        }
        Self::of(message)
    }
}

/// The addresses of all interfaces, those of the device included.
///
/// Calls: blocks for about a millisecond; inside a runtime prefer
///        [`Watch::addresses`](crate::Watch::addresses).
///
/// # Errors
/// When the kernel offers no netlink, or the process has no descriptor or thread left.
pub fn local_addresses() -> io::Result<Vec<LocalAddress>> {
    block_on(async |netlink| netlink.addresses().await)
}

/// Whether an interface of this name exists, of whatever kind.
///
/// State: true only at that moment.
pub fn device_exists(name: &str) -> bool {
    nix::net::if_::if_nametoindex(name).is_ok()
}

/// Sets the MTU of an interface, bytes. Blocks for about a millisecond.
///
/// State: a [`DeviceInfo`](crate::DeviceInfo) and the batches made from it keep the MTU that the
///        device was opened with: after raising it, make new batches.
///
/// # Errors
/// The kernel's: no such interface (`ENODEV`), out of its range (`EINVAL`), no permission
/// (`EPERM`). The MTU is left as it was.
pub fn set_mtu(index: u32, mtu: u32) -> io::Result<()> {
    let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
    block_on(async |netlink| netlink.change_link(message).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_among_the_local_addresses_wherever_we_are_called() {
        let loopback = |found: Vec<LocalAddress>| found.iter().any(|a| a.address.is_loopback());
        if !loopback(local_addresses().unwrap()) {
            println!("skipped: the loopback interface is down");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        assert!(runtime.block_on(async { loopback(local_addresses().unwrap()) }));
    }

    #[test]
    fn loopback_exists_and_an_impossible_name_does_not() {
        assert!(device_exists("lo"));
        assert!(!device_exists("no/such"));
    }

    #[test]
    fn the_kernels_error_number_is_kept() {
        let error = set_mtu(0x7fff_fff0, 1400).unwrap_err();
        assert!(
            matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)),
            "{error}"
        );
    }

    #[test]
    fn an_address_is_usable_once_the_duplicate_check_is_over() {
        let address: IpAddr = "fd00::1".parse().unwrap();
        let mut message = AddressMessage::default();
        message.header.index = 3;
        message.header.prefix_len = 64;
        message.attributes = vec![AddressAttribute::Address(address)];
        let expected = LocalAddress {
            interface: 3,
            address,
            prefix_len: 64,
        };
        assert_eq!(LocalAddress::usable(&message), Some(expected));
        let tentative = AddressAttribute::Flags(AddressFlags::Tentative);
        message.attributes.push(tentative);
        assert_eq!(LocalAddress::usable(&message), None);
        assert_eq!(LocalAddress::of(&message), Some(expected));
    }

    #[test]
    fn the_near_end_of_a_point_to_point_address_is_ours() {
        let mut message = AddressMessage::default();
        message.attributes = vec![
            AddressAttribute::Address("10.0.0.2".parse().unwrap()),
            AddressAttribute::Local("10.0.0.1".parse().unwrap()),
        ];
        let found = LocalAddress::of(&message).unwrap();
        assert_eq!(found.address, "10.0.0.1".parse::<IpAddr>().unwrap());
    }
}
