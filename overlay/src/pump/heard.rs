//! Which nodes were heard of in this second, so that the rest of the node is told once.

use wire::NetId;

use crate::time::Instant;

/// Places; a mesh of some hundred nodes rarely shares one.
const PLACES: usize = 1024;

/// A direct-mapped cache: a node that shares its place with another is told of more often.
#[derive(Debug)]
pub(super) struct Heard(Box<[(NetId, u64)]>);

impl Default for Heard {
    fn default() -> Self {
        Self(vec![(NetId::ANY, 0); PLACES].into_boxed_slice())
    }
}

impl Heard {
    /// Whether `origin` was not yet heard of in this second.
    #[inline]
    pub(super) fn is_first(&mut self, now: Instant, origin: NetId) -> bool {
        let mixed = origin.0.wrapping_mul(0x9E37_79B9) >> 22;
        let place = &mut self.0[mixed as usize % PLACES];
        let this = (origin, now.as_secs());
        let first = *place != this;
        *place = this;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_first_once_a_second() {
        let mut heard = Heard::default();
        let at = |micros| Instant(micros);
        assert!(heard.is_first(at(0), NetId(1)));
        assert!(heard.is_first(at(0), NetId(2)));
        assert!(!heard.is_first(at(999_999), NetId(1)));
        assert!(heard.is_first(at(1_000_000), NetId(1)));
        assert!(heard.is_first(at(1_000_000), NetId(2)));
        assert!(!heard.is_first(at(1_999_999), NetId(2)));
    }
}
