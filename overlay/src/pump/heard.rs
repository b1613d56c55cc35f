//! Which nodes were heard of in this second, and over which neighbors, so that the rest of the node is told
//! once.

use wire::NetId;

use crate::time::Instant;

/// Places of a table; a mesh of some hundred nodes with some neighbors rarely shares one.
const PLACES: usize = 2048;

/// Two tables, since each message asks for both: in one a node and the pair of it and some neighbor could
/// push each other out with every message.
#[derive(Debug, Default)]
pub(super) struct Heard {
    origins: Table,
    pairs: Table,
}

impl Heard {
    /// Whether `origin` was not yet heard of in this second. `mixers` as in [`Table::place`].
    #[inline]
    pub(super) fn is_first(&mut self, now: Instant, mixers: [u64; 2], origin: NetId) -> bool {
        let this = (origin, NetId::ANY, now.as_secs());
        std::mem::replace(self.origins.place(mixers, origin, NetId::ANY), this) != this
    }

    /// The same of `origin` over the neighbor `via`; once more if `is_new` is said of it and was not before.
    #[inline]
    pub(super) fn is_first_over(
        &mut self,
        now: Instant,
        mixers: [u64; 2],
        (origin, via): (NetId, NetId),
        is_new: bool,
    ) -> bool {
        let second = now.as_secs() << 1;
        let known = self.pairs.place(mixers, origin, via);
        let (later, new) = ((origin, via, second), (origin, via, second | 1));
        let is_first = *known != new && (is_new || *known != later);
        if is_first {
            *known = if is_new { new } else { later };
        }
        is_first
    }
}

/// A direct-mapped cache: what shares its place with another is told of more often.
#[derive(Debug)]
struct Table(Box<[(NetId, NetId, u64)]>);

impl Default for Table {
    fn default() -> Self {
        Self(vec![(NetId::ANY, NetId::ANY, 0); PLACES].into_boxed_slice())
    }
}

impl Table {
    /// The place of a pair. `mixers` are this start's own, so that nobody outside can choose netids that
    /// share one (SECURITY T12): multiplied by words that are drawn, two pairs do so once in [`PLACES`].
    ///
    /// Source: Dietzfelbinger, "Universal hashing and k-wise independent random variables via integer
    /// arithmetic without primes", STACS 1996.
    #[inline]
    fn place(&mut self, mixers: [u64; 2], origin: NetId, via: NetId) -> &mut (NetId, NetId, u64) {
        let mixed = u64::from(origin.0)
            .wrapping_mul(mixers[0])
            .wrapping_add(u64::from(via.0).wrapping_mul(mixers[1]));
        &mut self.0[(mixed >> (u64::BITS - PLACES.ilog2())) as usize % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXERS: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD1B5_4A32_D192_ED03];

    #[test]
    fn a_node_is_first_once_a_second() {
        let mut heard = Heard::default();
        let mut is_first = |micros, origin| heard.is_first(Instant(micros), MIXERS, NetId(origin));
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
        let mut is_first =
            |via| heard.is_first_over(Instant(0), MIXERS, (NetId(1), NetId(via)), true);
        assert!(is_first(7) && is_first(8) && !is_first(7) && !is_first(8));
    }

    #[test]
    fn what_a_neighbor_is_the_first_to_bring_is_told_though_a_later_copy_was() {
        let mut heard = Heard::default();
        let mut is_first = |second, is_new| {
            let at = Instant::from_secs(second);
            heard.is_first_over(at, MIXERS, (NetId(1), NetId(7)), is_new)
        };
        for second in [0, 1] {
            assert!(is_first(second, false) && !is_first(second, false));
            assert!(is_first(second, true) && !is_first(second, true));
            assert!(!is_first(second, false));
        }
    }

    #[test]
    fn no_neighbor_keeps_a_node_from_being_known() {
        let mut heard = Heard::default();
        for via in 1..10_000 {
            let (origin, via) = (NetId(7), NetId(via));
            heard.is_first(Instant(0), MIXERS, origin);
            heard.is_first_over(Instant(0), MIXERS, (origin, via), true);
            assert!(!heard.is_first(Instant(0), MIXERS, origin), "{via:?}");
            assert!(
                !heard.is_first_over(Instant(0), MIXERS, (origin, via), true),
                "{via:?}"
            );
        }
    }
}
