//! Which nodes were heard of in this second, and over which neighbors, so that the rest of the node is told
//! once.

use wire::NetId;

use crate::time::Instant;

/// Places; a mesh of some hundred nodes with some neighbors rarely shares one.
const PLACES: usize = 2048;

/// A direct-mapped cache: a node that shares its place with another is told of more often.
#[derive(Debug)]
pub(super) struct Heard(Box<[(NetId, NetId, u64)]>);

impl Default for Heard {
    fn default() -> Self {
        Self(vec![(NetId::ANY, NetId::ANY, 0); PLACES].into_boxed_slice())
    }
}

impl Heard {
    /// Whether `origin` was not yet heard of in this second over `via`; [`NetId::ANY`] for whoever brought it.
    #[inline]
    pub(super) fn is_first(&mut self, now: Instant, origin: NetId, via: NetId) -> bool {
        let mixed = origin.0.wrapping_mul(0x9E37_79B9) ^ via.0.wrapping_mul(0x85EB_CA6B);
        let place = &mut self.0[(mixed >> 21) as usize % PLACES];
        let this = (origin, via, now.as_secs());
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
        let mut is_first = |micros, origin| heard.is_first(at(micros), NetId(origin), NetId::ANY);
        assert!(is_first(0, 1));
        assert!(is_first(0, 2));
        assert!(!is_first(999_999, 1));
        assert!(is_first(1_000_000, 1));
        assert!(is_first(1_000_000, 2));
        assert!(!is_first(1_999_999, 2));
    }

    #[test]
    fn over_each_neighbor_a_node_is_first_once() {
        let mut heard = Heard::default();
        let mut is_first = |via| heard.is_first(Instant(0), NetId(1), NetId(via));
        assert!(is_first(7) && is_first(8) && !is_first(7) && !is_first(8));
    }
}
