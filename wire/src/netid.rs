//! The number that names a node.

use core::fmt;
use core::str::FromStr;

/// A 32-bit number that names a node; printed as eight hex digits.
///
/// Two values name no single node: [`NetId::ANY`] and [`NetId::ALL`].
/// Source: PROTOCOL.md, "Netids".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetId(pub u32);

impl NetId {
    /// "Whoever receives this": processed by the receiver, never forwarded.
    pub const ANY: Self = Self(0);
    /// "Every node": processed and forwarded.
    pub const ALL: Self = Self(0xFFFF_FFFF);

    /// Whether this can name a single node, that is, is neither [`Self::ANY`] nor [`Self::ALL`].
    pub const fn is_node(self) -> bool {
        self.0 != Self::ANY.0 && self.0 != Self::ALL.0
    }
}

impl fmt::Display for NetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for NetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not one to eight hex digits, with or without `0x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetIdError;

impl fmt::Display for NetIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a netid is 1 to 8 hex digits, with or without 0x")
    }
}

impl core::error::Error for NetIdError {}

impl FromStr for NetId {
    type Err = NetIdError;

    fn from_str(text: &str) -> Result<Self, NetIdError> {
        let digits = text
            .strip_prefix("0x")
            .or_else(|| text.strip_prefix("0X"))
            .unwrap_or(text);
        // `from_str_radix` would take a sign, which no netid has.
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NetIdError);
        }
        u32::from_str_radix(digits, 16)
            .map(Self)
            .map_err(|_| NetIdError)
    }
}
