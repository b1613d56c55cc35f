//! Network namespaces for tests: made by the test, gone with it.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

/// Index of `lo` in every namespace.
pub(super) const LOOPBACK: u32 = 1;

/// A network namespace. It lives as long as this or a socket in it.
pub(super) struct Namespace(File);

impl Namespace {
    /// A fresh one with `lo` up; `None`, and a word about it, without the right to make one.
    ///
    /// # Panics
    /// With `CI=true` instead of returning `None`: there a skipped test is a failed one.
    pub(super) fn new() -> Option<Self> {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).ok()?;
            Some(File::open("/proc/thread-self/ns/net").unwrap())
        };
        let Some(file) = thread::spawn(make).join().unwrap() else {
            println!("skipped: needs root");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "needs root");
            return None;
        };
        let namespace = Self(file);
        namespace.set_up(LOOPBACK, None);
        Some(namespace)
    }

    /// Runs `work` in the namespace; sockets that it makes stay there.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    /// Runs netlink requests in the namespace.
    fn configure<T: Send>(&self, work: impl AsyncFnOnce(Handle) -> T + Send) -> T {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                work(handle).await
            })
        })
    }

    /// Brings an interface up, with another MTU when one is given.
    pub(super) fn set_up(&self, interface: u32, mtu: Option<u32>) {
        let link = LinkUnspec::new_with_index(interface).up();
        let link = match mtu {
            Some(mtu) => link.mtu(mtu),
            None => link,
        };
        self.configure(async |handle| handle.link().set(link.build()).execute().await)
            .unwrap();
    }

    /// Adds an address and waits until it works: the kernel adds an IPv6 address's own route a
    /// moment later, and until then datagrams to it vanish.
    pub(super) fn add_address(&self, interface: u32, address: IpAddr, prefix: u8) {
        self.configure(async |handle| {
            let mut request = handle.address().add(interface, address, prefix);
            // No duplicate address detection: the address is to be usable at once.
            request.message_mut().header.flags |=
                rtnetlink::packet_route::address::AddressHeaderFlags::Nodad;
            request.execute().await
        })
        .unwrap();
        let works = self.enter(|| {
            let socket = UdpSocket::bind((address, 0)).unwrap();
            let step = Duration::from_millis(20);
            socket.set_read_timeout(Some(step)).unwrap();
            let own = socket.local_addr().unwrap();
            (0..250).any(|_| {
                let sent = socket.send_to(b"to itself", own);
                sent.is_ok() && socket.recv(&mut [0; 16]).is_ok()
            })
        });
        assert!(works, "{address} was added");
    }

    pub(super) fn remove_address(&self, interface: u32, address: IpAddr, prefix: u8) {
        self.configure(async |handle| {
            let mut message = handle.address().add(interface, address, prefix);
            let message = message.message_mut().clone();
            handle.address().del(message).execute().await
        })
        .unwrap();
    }

    pub(super) fn add_default_route(&self, gateway: Ipv4Addr) {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .build();
        self.configure(async |handle| handle.route().add(route).execute().await)
            .unwrap();
    }

    /// Lets the namespace forward IPv4.
    pub(super) fn forward(&self) {
        self.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
            .unwrap();
    }

    /// Joins two namespaces by a cable, whose ends are called `name` here and `name`-far there;
    /// returns the index of each end.
    pub(super) fn join(&self, other: &Self, name: &str, mtu: u32) -> (u32, u32) {
        let far = format!("{name}-far");
        self.configure(async |handle| {
            let pair = LinkVeth::new(name, &far).mtu(mtu).build();
            handle.link().add(pair).execute().await.unwrap();
            let moved = LinkUnspec::new_with_name(&far).setns_by_fd(other.0.as_raw_fd());
            handle.link().set(moved.build()).execute().await.unwrap();
        });
        let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
        let ends = (self.enter(|| index(name)), other.enter(|| index(&far)));
        self.set_up(ends.0, Some(mtu));
        other.set_up(ends.1, Some(mtu));
        ends
    }
}
