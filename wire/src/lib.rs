//! The 0xAC netid protocol: bytes to messages and back.
//!
//! Two levels. A [`Header`] is the first 16 bytes, the same for every kind; a [`Message`] is the
//! header together with what follows it. The data path reads headers only; the control plane
//! reads messages. Nothing here knows time, neighbors or sockets, and nothing allocates.
//!
//! Panic contract: [`Header::parse`], [`Message::parse`], [`Inform::parse`] and everything in
//! [`pretty`] never panic, whatever the bytes; neither do the emitters that return an array
//! ([`emit_control`], [`emit_inform`], `to_bytes`). Only the `emit` that writes into a caller's
//! buffer panics, and only when that buffer is shorter than the message.
//!
//! ```
//! use wire::{Header, Kind, Message, NetId};
//!
//! // Data from 2a to all nodes; PROTOCOL.md, "Golden examples".
//! let datagram = b"\xac\x01\x10\x00\x00\x00\x00\x01\x00\x00\x00\x2a\xff\xff\xff\xffhi";
//! let (header, message) = Message::parse(datagram)?;
//! assert_eq!(header.kind, Kind::Data);
//! assert_eq!(header.src, NetId(0x2a));
//! assert_eq!(header.dst, NetId::ALL);
//! assert!(!header.flags.no_forward());
//! assert_eq!(message, Message::Data(b"hi"));
//! # Ok::<(), wire::ParseError>(())
//! ```
//!
//! What follows is the protocol itself, complete.
//!
#![doc = include_str!("../PROTOCOL.md")]
#![no_std]
#![forbid(unsafe_code)]
// What reads the network must not be able to panic; the three `emit` that may say so.
#![warn(clippy::indexing_slicing)]

mod error;
mod header;
mod inform;
mod message;
mod netid;
pub mod pretty;
pub mod sealed;
pub mod service;

pub use error::{Field, ParseError, Problem};
pub use header::{Flags, HEADER_LEN, Header, Kind, MAGIC, MAX_DATAGRAM, VERSION, emit_control};
pub use inform::{INFORM_DATAGRAM_LEN, INFORM_LEN, Inform, emit_inform};
pub use message::Message;
pub use netid::{NetId, NetIdError};
pub use service::Service;
