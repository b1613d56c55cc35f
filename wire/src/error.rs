//! Why bytes are not a message.

use core::fmt;

/// Where and why parsing stopped. `Copy`, no text allocated: the data path counts it and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParseError {
    /// The field that was being read.
    pub field: Field,
    /// What was wrong with it.
    pub problem: Problem,
}

/// A field that can be wrong, in the order in which the fields are tested (PROTOCOL.md, R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The 16-byte header as a whole.
    Header,
    /// The first byte.
    Magic,
    /// The second byte.
    Version,
    /// The originator's netid.
    Src,
    /// The 22 bytes of an Inform.
    Inform,
}

impl Field {
    /// Offset of the field's first byte in the datagram.
    pub const fn offset(self) -> usize {
        match self {
            Self::Header | Self::Magic => 0,
            Self::Version => 1,
            Self::Src => 8,
            Self::Inform => 16,
        }
    }
}

/// What was wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// The datagram ends before the field does.
    Truncated,
    /// The datagram is longer than any UDP datagram.
    TooLong,
    /// The value is not the one the protocol demands.
    Unexpected,
    /// The value names no single node where one must be named.
    Reserved,
}

impl ParseError {
    pub(crate) const fn new(field: Field, problem: Problem) -> Self {
        Self { field, problem }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = match self.field {
            Field::Header => "header",
            Field::Magic => "magic",
            Field::Version => "version",
            Field::Src => "src netid",
            Field::Inform => "inform payload",
        };
        let problem = match self.problem {
            Problem::Truncated => "is truncated",
            // The only length that can be too long is the whole datagram's.
            Problem::TooLong => return f.write_str("datagram is too long"),
            Problem::Unexpected => "is not the expected value",
            Problem::Reserved => "is reserved",
        };
        write!(f, "{field} {problem}")
    }
}

impl core::error::Error for ParseError {}
