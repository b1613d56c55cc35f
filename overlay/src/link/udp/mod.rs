//! The UDP transport: one socket per listening address, shared by all threads.
//!
//! 1. [`UdpSockets::bind`] opens the sockets; they are never connected, never closed by an error.
//! 2. A worker polls their descriptors. On POLLERR it calls [`UdpSockets::drain_errors`], on
//!    POLLIN its own [`Receiver::receive`], until that returns less than the batch had room for.
//! 3. After the pump it hands the batch to its own [`Sender::flush`].
//! 4. The control plane sends single datagrams with [`UdpSockets::send_to`].
//!
//! How the promises of [`super`] are kept:
//!
//! - *Answers leave from the address spoken to.* Received datagrams carry our address
//!   (IP_PKTINFO), and sending pins it. When the address is gone from this machine, the kernel
//!   chooses another one rather than the datagram being lost; the far end sees the link roam.
//! - *Large datagrams.* "Don't fragment" is on (IP_PMTUDISC_DO, so that the kernel learns path
//!   MTUs from ICMP). A datagram above the path's MTU is sent again with it off, for that call,
//!   and the length is remembered for the link. A path that drops without telling is noticed by
//!   control, whose probes say how much goes whole
//!   ([`LinkStats::whole`](crate::node::snapshot::LinkStats::whole)): what is longer goes with it
//!   off, too. `teach` lets the kernel know, so that it cuts at the right length.
//! - *Errors.* With IP_RECVERR the kernel says that a queue was full, which it would otherwise
//!   hide. The price is that ICMP errors about one far end show on calls for another one:
//!   `policy` is about that.
//! - *Trains.* Datagrams of equal size cross the kernel as one, where it can (UDP_SEGMENT, UDP_GRO);
//!   an interface that refuses gets them one by one. On the wire they are ordinary datagrams.
//! - *Kernel drops.* SO_RXQ_OVFL counts datagrams dropped because we did not read fast enough.
//!
//! | file | what |
//! |---|---|
//! | `bind` | opening, options, the default set |
//! | `linux` | system calls and control messages: the only `unsafe` |
//! | `policy` | what follows when the kernel does not take a datagram |
//! | `error` | the table of errnos; errors told to the owner |
//! | `send`, `receive` | batches to and from the kernel |
//! | `teach` | telling the kernel of a path MTU that no router told |
//! | `route` | would this far end be reached through our own device? |
//!
//! Sources: udp(7), ip(7) and ipv6(7) of the Linux manual; quinn-udp and wireguard-go for options.

mod bind;
mod error;
mod linux;
mod policy;
mod receive;
mod route;
mod send;
mod teach;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;
use nix::errno::Errno;
use socket2::Socket;

pub use bind::{DEFAULT_PORT, MAX_SOCKETS, SOCKET_BUFFER};
pub use error::{BindError, SendError};
pub use receive::Receiver;
pub use send::{Outbound, Sender};

use crate::id::{Path, SocketId};
use crate::node::snapshot::{LinkEntry, NeighborSet};
use crate::pump::count::Counters;
use crate::pump::rx::Span;
use linux::Destination;
use policy::Manner;
use teach::Teacher;

/// All UDP sockets of a node. A socket's [`SocketId`] is its place in the order of `--listen`.
///
/// Calls: everything takes `&self` and may be called from any thread at once.
#[derive(Debug)]
pub struct UdpSockets {
    sockets: Vec<UdpSocket>,
    teacher: Teacher,
}

impl UdpSockets {
    /// From now on each datagram crosses the kernel alone, in both directions.
    pub fn forgo_trains(&mut self) {
        for socket in &mut self.sockets {
            socket.trains = false;
            // A kernel that has no such option gives them one by one anyway.
            let _ = linux::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 0);
        }
    }

    /// Opens one socket per address of `listen`; a port of 0 lets the system choose.
    ///
    /// Without any address: port [`DEFAULT_PORT`] on all IPv6 and on all IPv4 addresses, where
    /// a family that the machine lacks is left out.
    ///
    /// # Errors
    /// When one of them cannot be had; the text says what to do. No socket is left open.
    pub fn bind(listen: &[SocketAddr]) -> Result<Self, BindError> {
        let sockets = bind::bind_all(listen)?;
        Ok(Self {
            sockets,
            teacher: Teacher::open(),
        })
    }

    /// The sockets and their names, in order.
    pub fn iter(&self) -> impl Iterator<Item = (SocketId, &UdpSocket)> {
        let named = |(index, socket)| (SocketId(index as u8), socket);
        self.sockets.iter().enumerate().map(named)
    }

    /// The socket of that name.
    pub fn get(&self, socket: SocketId) -> Option<&UdpSocket> {
        self.sockets.get(usize::from(socket.0))
    }

    /// The sockets that can send to `remote`: those of its address family, in order.
    ///
    /// An IPv4-mapped address counts as IPv4, as [`Endpoint::new`](crate::id::Endpoint::new) makes it.
    pub fn toward(&self, remote: SocketAddr) -> impl Iterator<Item = SocketId> {
        let is_v4 = remote.ip().to_canonical().is_ipv4();
        self.iter()
            .filter(move |(_, socket)| socket.local.is_ipv4() == is_v4)
            .map(|(id, _)| id)
    }

    /// Sends one datagram of the control plane, over `link` if there is one. Never waits.
    ///
    /// # Errors
    /// Why it was dropped; [`SendError::reason`] is the counter. Nothing else has changed.
    pub fn send_to(
        &self,
        path: &Path,
        datagram: &[u8],
        link: Option<&LinkEntry>,
    ) -> Result<(), SendError> {
        match self.get(path.endpoint.socket) {
            Some(socket) => send::send_one(socket, path, datagram, link),
            None => Err(SendError::Other),
        }
    }

    /// Sends one datagram in one packet that nobody may cut, or not at all. Never waits.
    ///
    /// # Errors
    /// When the kernel knows that it is too long for the path, or cannot send at all.
    pub fn probe(&self, path: &Path, datagram: &[u8]) -> Result<(), SendError> {
        match self.get(path.endpoint.socket) {
            Some(socket) => send::send_whole(socket, path, datagram),
            None => Err(SendError::Other),
        }
    }

    /// Tells the kernel that datagrams above `size` bytes do not get over `path` whole, so that it
    /// cuts those that may be cut. It forgets after 10 minutes.
    ///
    /// # Errors
    /// If CAP_NET_RAW was not there when the sockets were opened, or without a way there.
    pub fn teach(&self, path: &Path, size: u16) -> io::Result<()> {
        let Some(socket) = self.get(path.endpoint.socket) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.teacher.teach(socket.local, path, size)
    }

    /// Empties the error queue of `socket` and counts each failed datagram at its link, as
    /// TxUnreachable and in `tx_errors`. For POLLERR, which stays on until this is done.
    pub fn drain_errors(&self, socket: SocketId, neighbors: &NeighborSet, counters: &Counters) {
        if let Some(source) = self.get(socket) {
            send::drain(source, |report| {
                send::attribute(report, socket, neighbors, counters);
            });
        }
    }

    /// Whether datagrams to `remote` would leave through our own device (SECURITY T15).
    ///
    /// Shape: `overlay` are the prefixes that belong to the overlay alone (not fe80::/64, which
    ///        every interface has); `device_addresses` those assigned to the device.
    /// Cost:  opens and closes a socket; for control, never per datagram.
    pub fn is_own_route(
        &self,
        remote: SocketAddr,
        overlay: &[IpNet],
        device_addresses: &[IpAddr],
    ) -> bool {
        route::is_own_route(remote, overlay, device_addresses)
    }
}

/// What is done with a datagram above the path MTU that the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Discovery {
    /// It is refused. The default.
    Heed,
    /// It is cut into fragments, and routers may cut it.
    Cut,
    /// It is sent whole all the same, and nobody may cut it.
    Ignore,
}

/// One UDP socket.
pub struct UdpSocket {
    socket: Socket,
    local: SocketAddr,
    /// Held while [`Discovery`] is not the default, so that no other sender changes it between a
    /// datagram's setting and its sending. Others may meanwhile send in that way too, which does
    /// no harm: what is known to be too long takes the lock itself.
    discovering: Mutex<()>,
    /// Datagrams of equal size are sent many at a time.
    trains: bool,
    /// The kernel's count of drops as last seen.
    kernel_drops: AtomicU32,
}

impl UdpSocket {
    fn new(socket: Socket, local: SocketAddr) -> Self {
        Self {
            socket,
            local,
            discovering: Mutex::new(()),
            trains: true,
            kernel_drops: AtomicU32::new(0),
        }
    }

    /// The address and port it is bound to, the real port where 0 was asked for.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Bytes of the receive and of the send buffer, as the kernel counts them (about twice the
    /// payload). Less than [`SOCKET_BUFFER`] means that the machine's limit is low.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn buffers(&self) -> io::Result<(usize, usize)> {
        Ok((
            self.socket.recv_buffer_size()?,
            self.socket.send_buffer_size()?,
        ))
    }

    /// How full the receive buffer is, 0 to 1; 0 where the kernel does not say.
    ///
    /// Cost: a system call.
    pub fn filled(&self) -> f64 {
        match linux::receive_buffer(self.as_fd()) {
            Ok((used, size)) if size > 0 => f64::from(used) / f64::from(size),
            _ => 0.0,
        }
    }

    /// Sends some datagrams, with fragmentation allowed or not.
    fn send(
        &self,
        destination: &Destination,
        arena: &[u8],
        spans: &[Span],
        manner: Manner,
    ) -> Result<usize, Errno> {
        if !manner.fragment {
            let trains = manner.trains && self.trains;
            return linux::send(self.as_fd(), destination, arena, spans, trains);
        }
        // A train cannot be made of fragments.
        self.send_with(Discovery::Cut, destination, arena, spans)
    }

    /// Sends some datagrams in another way than by default.
    fn send_with(
        &self,
        discovery: Discovery,
        destination: &Destination,
        arena: &[u8],
        spans: &[Span],
    ) -> Result<usize, Errno> {
        // The lock guards no data, so that a panic elsewhere leaves nothing half done.
        let _held = self
            .discovering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.set_discovery(discovery)?;
        let sent = linux::send(self.as_fd(), destination, arena, spans, false);
        self.set_discovery(Discovery::Heed)?;
        sent
    }

    fn set_discovery(&self, discovery: Discovery) -> Result<(), Errno> {
        let (level, name) = if self.local.is_ipv4() {
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
        };
        // Both families have the same numbers.
        let value = match discovery {
            Discovery::Heed => libc::IP_PMTUDISC_DO,
            Discovery::Cut => libc::IP_PMTUDISC_DONT,
            Discovery::Ignore => libc::IP_PMTUDISC_PROBE,
        };
        linux::set_option(self.as_fd(), level, name, value)
    }

    /// How many drops the kernel's running count `total` adds to what was known.
    ///
    /// The count wraps, and receivers on several threads may tell of it out of order; then the
    /// older one adds nothing.
    fn new_drops(&self, total: u32) -> u64 {
        let newer = |seen: u32| {
            let ahead = total.wrapping_sub(seen);
            (ahead != 0 && ahead < 1 << 31).then_some(total)
        };
        match self.kernel_drops.fetch_update(Relaxed, Relaxed, newer) {
            Ok(seen) => u64::from(total.wrapping_sub(seen)),
            Err(_) => 0,
        }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UdpSocket({})", self.local)
    }
}
