//! One network namespace: code, programs, interfaces and addresses in it.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;

use ipnet::IpNet;
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_route::address::{AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{BridgeStpState, LinkMessage};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use super::NetError;
use super::error::{from_errno, from_netlink};

/// A network namespace of this process, with loopback up and nothing else in it.
///
/// Shape:   a handle; a clone is the same namespace.
/// State:   lives while a handle, a socket made in it or a process in it lives; the kernel then
///          removes its interfaces. No name on disk, so a killed process leaves nothing.
/// Calls:   from any thread at once. Every call works on a thread of its own that has entered the
///          namespace, so the caller's thread never changes.
#[derive(Clone)]
pub struct Namespace {
    name: Arc<str>,
    file: Arc<File>,
}

impl Namespace {
    /// Makes a namespace. `name` is for people: it appears in errors and nowhere in the kernel.
    ///
    /// # Errors
    /// [`NetError::is_permission`] without the rights; nothing is left.
    pub fn new(name: &str) -> Result<Self, NetError> {
        let error = |source: io::Error| NetError::new("create a network namespace", name, source);
        let file = on_thread(|| -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).map_err(from_errno)?;
            // `thread-self`, because `self` names the namespace of the first thread.
            File::open("/proc/thread-self/ns/net")
        })
        .and_then(|opened| opened)
        .map_err(error)?;
        let namespace = Self {
            name: name.into(),
            file: Arc::new(file),
        };
        namespace.set_up("lo")?;
        Ok(namespace)
    }

    /// The name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path by which other processes of this machine enter: `nsenter --net=PATH ...`.
    ///
    /// Holds while this process lives and holds the namespace. The number in it is the one that
    /// `/proc` shows, also when this process runs in a process namespace of its own.
    pub fn path(&self) -> PathBuf {
        let this = fs::read_link("/proc/self").unwrap_or_else(|_| PathBuf::from("self"));
        Path::new("/proc")
            .join(this)
            .join("fd")
            .join(self.file.as_raw_fd().to_string())
    }

    /// Runs `work` on a thread that has entered the namespace, and returns what it returns.
    ///
    /// Sockets and runtimes made by `work` belong to the namespace for good and may leave it.
    /// `/proc/net` shows the first thread's namespace; read `/proc/thread-self/net` instead.
    ///
    /// # Panics
    /// With the panic of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
        on_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(from_errno)?;
            Ok(work())
        })
        .and_then(|entered| entered)
        .map_err(|source| NetError::new("enter", &self.name, source))
    }

    /// Starts a program inside the namespace.
    ///
    /// The caller kills and reaps it: a [`Child`] outlives its handle.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, NetError> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.run(|| command.spawn())?
            .map_err(|source| NetError::new(format!("start {program}"), &self.name, source))
    }

    /// Writes a kernel setting of the namespace: `sysctl("net.ipv4.ip_forward", "1")`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), NetError> {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.run(|| fs::write(path, value))?
            .map_err(|source| NetError::new(format!("set {key} to {value}"), &self.name, source))
    }

    /// The kernel's number for an interface.
    pub fn interface_index(&self, interface: &str) -> Result<u32, NetError> {
        self.run(|| index_here(interface))?
            .map_err(|source| NetError::new(format!("find {interface}"), &self.name, source))
    }

    /// Sets an interface up.
    pub fn set_up(&self, interface: &str) -> Result<(), NetError> {
        self.change(interface, "set up", |link| link.up())
    }

    /// Sets an interface down; the far end of its wire loses the carrier.
    pub fn set_down(&self, interface: &str) -> Result<(), NetError> {
        self.change(interface, "set down", |link| link.down())
    }

    /// Sets an interface's largest packet, in bytes.
    pub fn set_mtu(&self, interface: &str, mtu: u32) -> Result<(), NetError> {
        self.change(interface, "set the mtu of", |link| link.mtu(mtu))
    }

    /// Gives an interface an address with its prefix length, usable at once: IPv6 duplicate
    /// detection is skipped.
    pub fn add_address(&self, interface: &str, address: IpNet) -> Result<(), NetError> {
        let action = format!("add {address} to {interface}");
        self.netlink(&action, |handle| async move {
            let index = index_here(interface)?;
            let mut request = handle
                .address()
                .add(index, address.addr(), address.prefix_len());
            if address.addr().is_ipv6() {
                let message = request.message_mut();
                message.header.flags |= AddressHeaderFlags::Nodad;
                message
                    .attributes
                    .push(rtnetlink::packet_route::address::AddressAttribute::Flags(
                        AddressFlags::Nodad,
                    ));
            }
            request.execute().await.map_err(from_netlink)
        })
    }

    /// Sends `destination` by way of `gateway`.
    pub fn add_route(&self, destination: IpNet, gateway: IpAddr) -> Result<(), NetError> {
        let action = format!("add a route to {destination} via {gateway}");
        self.netlink(&action, |handle| async move {
            let message = RouteMessageBuilder::<IpAddr>::new()
                .destination_prefix(destination.addr(), destination.prefix_len())
                .and_then(|route| route.gateway(gateway))
                .map_err(io::Error::other)?
                .build();
            handle
                .route()
                .add(message)
                .execute()
                .await
                .map_err(from_netlink)
        })
    }

    /// Makes a bridge, up, that forwards from the first moment and floods multicast like a cable.
    pub fn add_bridge(&self, bridge: &str) -> Result<(), NetError> {
        self.netlink(&format!("make the bridge {bridge}"), |handle| async move {
            let message = LinkBridge::new(bridge)
                .stp_state(BridgeStpState::Disabled)
                .forward_delay(0)
                .mcast_snooping(false)
                .up()
                .build();
            add_link(&handle, message).await
        })
    }

    /// Makes an interface a port of a bridge, and sets it up.
    pub fn add_port(&self, bridge: &str, interface: &str) -> Result<(), NetError> {
        let bridge = self.interface_index(bridge)?;
        self.change(interface, "plug in", |link| link.controller(bridge).up())
    }

    /// Removes an interface, and with a veth its far end.
    pub fn delete(&self, interface: &str) -> Result<(), NetError> {
        self.netlink(&format!("delete {interface}"), |handle| async move {
            let index = index_here(interface)?;
            handle
                .link()
                .del(index)
                .execute()
                .await
                .map_err(from_netlink)
        })
    }

    /// Speaks rtnetlink in the namespace, for what has no method here. `action` continues "cannot"
    /// in the error.
    pub fn netlink<T, F>(
        &self,
        action: &str,
        work: impl FnOnce(Handle) -> F + Send,
    ) -> Result<T, NetError>
    where
        T: Send,
        F: Future<Output = io::Result<T>>,
    {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection()?;
                tokio::spawn(connection);
                work(handle).await
            })
        })?
        .map_err(|source| NetError::new(action, &self.name, source))
    }

    /// Changes one interface.
    pub(super) fn change(
        &self,
        interface: &str,
        verb: &str,
        edit: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec> + Send,
    ) -> Result<(), NetError> {
        self.netlink(&format!("{verb} {interface}"), |handle| async move {
            let message: LinkMessage =
                edit(LinkUnspec::new_with_index(index_here(interface)?)).build();
            handle
                .link()
                .change(message)
                .execute()
                .await
                .map_err(from_netlink)
        })
    }

    /// The descriptor that netlink wants when an interface is made inside this namespace.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({})", self.name)
    }
}

/// Makes an interface.
pub(super) async fn add_link(handle: &Handle, message: LinkMessage) -> io::Result<()> {
    let request = handle.link().add(message);
    request.execute().await.map_err(from_netlink)
}

/// The number of `interface` in the namespace of the calling thread.
pub(super) fn index_here(interface: &str) -> io::Result<u32> {
    nix::net::if_::if_nametoindex(interface).map_err(from_errno)
}

/// Runs `work` on a fresh thread and waits: a thread that entered a namespace is not used again.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().spawn_scoped(scope, work)?;
        match worker.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
