//! The mesh, pure: what becomes of a datagram, and who is a neighbor.
//!
//! Two planes. The data plane ([`flood`], [`seen`]) is `&self`, called by every worker for every
//! datagram, and answers with a verdict over the caller's bytes. The control plane ([`control`])
//! is `&mut self`, has one owner, and fills an effects queue. They meet twice: control publishes a
//! whole [`snapshot::NeighborSet`]; the data plane hands control datagrams over.

pub mod candidate;
pub mod config;
pub mod control;
pub mod effect;
pub mod filter;
pub mod flood;
pub mod hash;
pub mod mtu;
pub mod neighbor;
pub mod outlet;
pub mod seen;
pub mod snapshot;
pub mod zone;
