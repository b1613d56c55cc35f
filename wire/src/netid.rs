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

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn what_is_printed_can_be_typed_back() {
        for number in [0, 1, 0x2a, 0x0123_4567, 0xffff_fffe, 0xffff_ffff] {
            let netid = NetId(number);
            assert_eq!(netid.to_string().parse(), Ok(netid));
        }
        assert_eq!(NetId(0x2a).to_string(), "0000002a");
    }

    #[test]
    fn one_to_eight_hex_digits_with_or_without_prefix() {
        for text in ["2a", "2A", "0x2a", "0X2a", "0000002a", "0x0000002A"] {
            assert_eq!(text.parse(), Ok(NetId(0x2a)), "{text}");
        }
        for text in [
            "",
            "0x",
            "+2a",
            "-1",
            "0x0x2a",
            "2g",
            " 2a",
            "2a ",
            "123456789",
            "0_1",
        ] {
            assert_eq!(text.parse::<NetId>(), Err(NetIdError), "{text:?}");
        }
    }

    #[test]
    fn the_two_special_netids_name_no_single_node() {
        assert!(!NetId::ANY.is_node());
        assert!(!NetId::ALL.is_node());
        assert!(NetId(1).is_node());
        assert!(NetId(0xffff_fffe).is_node());
    }
}
