//! PURE. Sealed links: keys, handshakes, sessions and the state of a peer (wire/SEALED.md).
//!
//! Nothing here reads a clock, draws a random number or touches a socket; `now`, 32 fresh random
//! bytes at a time and datagrams come in. The way of a link:
//!
//! ```text
//! datagram ae 01 ──> door (mac1, load, cookie, budgets) ──> peer ──> handshake (Noise)
//! datagram ae 02..04 ──────────────── by its index ──────> peer          │
//!                                                            │            v
//!                                                            └──────> session
//! datagram ae 05 ── by its index ──> session.open ──> frames ──> the plain rules
//! ```
//!
//! - [`keys`]: the mesh secret and what is derived from it; [`identity`]: a node's own keys;
//!   [`invitation`]: the text that brings the secret to a new node.
//! - [`handshake`]: two ends of a Noise handshake, each with an error contract.
//! - [`session`]: seals and opens, by `&self` from any worker; [`replay`] is its memory.
//! - [`peer`]: one endpoint's states and deadlines; fills [`effect::Effects`].
//! - [`roam`]: where a link goes when the far end's address changes.
//! - [`prefer`]: who is never spoken to in plain again, while a mesh moves from plain to sealed;
//!   [`policies`]: what the owner says of single peers then.
//! - [`members`]: who of those that know the secret comes up; [`authority`] signs who does, and
//!   [`armor`] is the text of what it gives out.
//! - [`allowance`]: how much of its own a certificate lets a node send.
//! - [`links`] and [`ends`]: all neighbors, and all nodes that Data is sealed for end to end.
//! - [`broadcast`]: what is for all nodes, under the key that they share.
//! - [`gate`]: what handshakes have to pass before workers hand them on; [`door`]: what an INIT has to pass
//!   before anything costly is done; [`cookie`] is part of it.
//!
//! Read [`session::Session`] first, then [`peer::Peer`].

pub mod aead;
pub mod allowance;
pub mod armor;
pub mod authority;
mod base32;
pub mod broadcast;
pub mod cookie;
pub mod door;
pub mod effect;
pub mod ends;
pub mod gate;
pub mod handshake;
pub mod identity;
pub mod invitation;
pub mod keys;
pub mod links;
pub mod local;
pub mod members;
pub mod opening;
pub mod payload;
pub mod peer;
pub mod policies;
pub mod prefer;
pub mod replay;
pub mod roam;
pub mod session;
pub mod sessions;
pub mod x25519;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod corpus_downgrade;
#[cfg(test)]
mod corpus_ends;
mod noise;
mod scope;
#[cfg(test)]
mod vectors;
