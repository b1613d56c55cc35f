//! Which nodes there are, as the data path asks: whether a netid is one that we heard of.
//!
//! A MAC of the form `02:ac` + netid is anyone's to write down. Only where a node of that netid is
//! known does arithmetic say where a frame goes (DECISIONS 5).

use crate::id::NetId;

/// Netids of known nodes at one moment, at most as many as control remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(Box<[NetId]>);

impl Known {
    /// These nodes.
    pub fn new(netids: impl IntoIterator<Item = NetId>) -> Self {
        let mut netids: Vec<NetId> = netids.into_iter().collect();
        netids.sort_unstable();
        Self(netids.into_boxed_slice())
    }

    /// Whether `netid` is one of them.
    ///
    /// Cost: a binary search; 12 steps among 4,096.
    pub fn contains(&self, netid: NetId) -> bool {
        self.0.binary_search(&netid).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_named_are_known_in_whatever_order_and_no_others() {
        let known = Known::new([NetId(7), NetId(1), NetId(0xFFFF_FFFE), NetId(3)]);
        for netid in [1, 3, 7, 0xFFFF_FFFE] {
            assert!(known.contains(NetId(netid)), "{netid}");
        }
        for netid in [0, 2, 4, 8, 0xFFFF_FFFF] {
            assert!(!known.contains(NetId(netid)), "{netid}");
        }
        assert!(!Known::default().contains(NetId(1)));
    }
}
