//! Names of things inside one node. None of them but [`NetId`] ever goes on the wire.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use wire::NetId;

/// One link, for as long as this node runs: numbers are given upwards and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// One of this node's UDP sockets, numbered in the order of `--listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u8);

/// What makes a link a link: our socket and the far end's address and port.
///
/// `remote` is canonical: an IPv4-mapped address is written as IPv4, flow label 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The socket of ours.
    pub socket: SocketId,
    /// The far end.
    pub remote: SocketAddr,
}

impl Endpoint {
    /// An endpoint with `remote` made canonical.
    pub fn new(socket: SocketId, remote: SocketAddr) -> Self {
        Self {
            socket,
            remote: canonical(remote),
        }
    }
}

/// The one form in which places are compared: an IPv4-mapped address as IPv4, flow label 0. The scope
/// stays: the same link-local address is another place on another interface.
pub fn canonical(place: SocketAddr) -> SocketAddr {
    match place {
        SocketAddr::V6(mut v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => {
                v6.set_flowinfo(0);
                SocketAddr::V6(v6)
            }
        },
        v4 @ SocketAddr::V4(_) => v4,
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.remote, self.socket.0)
    }
}

/// An endpoint and the address of ours that the far end spoke to, which answers leave from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Socket and far end.
    pub endpoint: Endpoint,
    /// Our address on this path; `None` lets the kernel choose.
    pub local: Option<IpAddr>,
}

impl Path {
    /// A path whose local address the kernel chooses.
    pub const fn to(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            local: None,
        }
    }
}
