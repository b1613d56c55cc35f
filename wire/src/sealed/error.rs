//! Why bytes are not what they should be.

use core::fmt;

use crate::Problem;

/// Where and why parsing stopped. `Copy`, no text allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SealedError {
    /// The part that was being read.
    pub part: Part,
    /// What was wrong with it.
    pub problem: Problem,
}

/// A part that can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The first byte.
    Magic,
    /// The second byte.
    Kind,
    /// The whole: its length.
    Length,
    /// The handshake suite.
    Suite,
    /// The version.
    Version,
    /// Bytes that are zero in this version: flags, unused fields, padding, an unused mac2.
    Reserved,
    /// The Noise message or its length.
    Noise,
    /// The counter of a LINK.
    Counter,
    /// A frame of a LINK.
    Frame,
    /// A record of a handshake payload.
    Record,
    /// The certificate: its fixed fields.
    Certificate,
    /// The certificate's name.
    Name,
    /// The certificate's prefixes.
    Prefix,
    /// The revocation list.
    Revocations,
}

impl SealedError {
    pub(crate) const fn new(part: Part, problem: Problem) -> Self {
        Self { part, problem }
    }
}

impl fmt::Display for SealedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Magic => "magic",
            Part::Kind => "kind",
            Part::Length => "datagram",
            Part::Suite => "suite",
            Part::Version => "version",
            Part::Reserved => "reserved part",
            Part::Noise => "noise message",
            Part::Counter => "counter",
            Part::Frame => "frame",
            Part::Record => "record",
            Part::Certificate => "certificate",
            Part::Name => "name",
            Part::Prefix => "prefix",
            Part::Revocations => "revocation list",
        };
        let problem = match self.problem {
            Problem::Truncated => "is truncated",
            Problem::TooLong => "is too long",
            Problem::Unexpected => "is not the expected value",
            Problem::Reserved => "is reserved",
        };
        write!(f, "{part} {problem}")
    }
}

impl core::error::Error for SealedError {}
