//! The 0xAC netid protocol: bytes to messages and back.
//!
//! Two levels. A [`Header`] is the first 16 bytes, the same for every kind; a [`Message`] is the
//! header together with what follows it. The data path reads headers only; the control plane
//! reads messages.
//!
//! Panic contract: [`Header::parse`] and [`Message::parse`] never panic, whatever the bytes;
//! `emit` panics only when the buffer is shorter than `len()` says.

#![no_std]
#![forbid(unsafe_code)]

mod error;
mod header;
mod inform;
mod message;
mod netid;

pub use error::{Field, ParseError, Problem};
pub use header::{Flags, HEADER_LEN, Header, Kind, MAGIC, MAX_DATAGRAM, VERSION};
pub use inform::{INFORM_LEN, Inform};
pub use message::Message;
pub use netid::{NetId, NetIdError};
