//! Devices against a real kernel: each test in a network namespace of its own, so that nothing of
//! the host is touched and nothing is left behind.
//!
//! ```text
//!   namespace of one thread:   [ kernel: sockets, ICMP ] == mesh0 == [ test: Device ]
//! ```
//!
//! Needs root and /dev/net/tun. Without them a test says so and passes; with `CI=true` in the
//! environment it fails instead.
#![expect(
    clippy::unwrap_used,
    reason = "these are tests; their helpers are, too"
)]

mod host;
mod offload;
mod opening;
mod packets;
mod queues;
mod watching;
