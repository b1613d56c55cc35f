//! Machines made of network namespaces, and wires between them that can be cut.
//!
//! For the lab and for every test that wants a real kernel under a real daemon. Not for the daemon
//! itself. Nothing but system calls: no `ip`, no `nsenter`, no file left behind.
//!
//! ```text
//!   namespace a                 wire namespace                  namespace b
//!   +---------+     veth     +--------------------+    veth     +---------+
//!   |    to-b o--------------o w1a   bridge   w1b o-------------o to-a    |
//!   +---------+              +--------------------+             +---------+
//! ```
//!
//! A wire is a bridge of its own with two ports. Detaching one port is a *silent* cut: both
//! machines keep their carrier and learn of it by silence alone, as with a dead radio or a
//! provider's fault ([`Wire::cut`]). Setting a port down takes the carrier away
//! ([`Wire::set_carrier`]).
//!
//! 1. [`Namespace::new`] for each machine, [`Wires::new`] once.
//! 2. [`Wires::connect`] two [`Plug`]s: interfaces, addresses, up.
//! 3. [`Namespace::spawn`] programs, [`Namespace::run`] code, [`ping()`] across.
//! 4. Drop everything. A namespace lives as long as a handle, a socket or a process in it.
//!
//! Needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, as root or inside a user namespace.
//!
//! Read [`Namespace`] first. Kernel documents: network_namespaces(7), veth(4), ip-link(8).

mod error;
mod namespace;
mod ping;
mod wires;

pub use error::NetError;
pub use namespace::Namespace;
pub use ping::{Pinger, ping};
pub use wires::{Plug, Side, Wire, Wires};
