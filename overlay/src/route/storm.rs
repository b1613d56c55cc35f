//! Storm control: how many flooded frames a TAP takes from its device and from each origin.

use std::hash::BuildHasher;

use crate::budget::{Level, Rate};
use crate::id::NetId;
use crate::keyed::KeyedHasher;
use crate::time::Instant;

/// What a flooded frame counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodClass {
    /// Broadcast, and unicast to a station nobody has heard.
    Broadcast,
    /// Multicast.
    Multicast,
}

/// Rates of the two classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StormRates {
    /// Broadcast and unknown unicast together; default 1,000 frames/s, burst 2,000. Too small:
    /// ARP fails in large networks; too large: a bridge loop eats the mesh.
    pub broadcast: Rate,
    /// Multicast; default 20,000 frames/s, burst 40,000, so that media streams pass.
    pub multicast: Rate,
}

impl Default for StormRates {
    fn default() -> Self {
        Self {
            broadcast: Rate::per_second(1_000, 2_000),
            multicast: Rate::per_second(20_000, 40_000),
        }
    }
}

/// Buckets for origins: so many that two nodes rarely share one, and never more.
const ORIGIN_SLOTS: usize = 4096;

/// Storm control of a TAP: a pair of buckets for the device and for each origin.
///
/// Cost: one compare-and-swap for a flooded frame, no lock. State: 64 KiB, whoever sends.
#[derive(Debug)]
pub struct StormControl {
    rates: StormRates,
    device: [Level; 2],
    origins: Box<[[Level; 2]]>,
    hasher: KeyedHasher,
}

impl StormControl {
    /// Full buckets.
    pub fn new(rates: StormRates, hasher: KeyedHasher) -> Self {
        Self {
            rates,
            device: Default::default(),
            origins: (0..ORIGIN_SLOTS).map(|_| Default::default()).collect(),
            hasher,
        }
    }

    /// Whether a frame from the device may be flooded.
    pub fn from_device(&self, now: Instant, class: FloodClass) -> bool {
        self.take(now, &self.device, class)
    }

    /// Whether a flooded frame of `origin` may be written to the device.
    pub fn from_origin(&self, now: Instant, origin: NetId, class: FloodClass) -> bool {
        let slot = self.hasher.hash_one(origin.0) as usize % ORIGIN_SLOTS;
        self.take(now, &self.origins[slot], class)
    }

    fn take(&self, now: Instant, pair: &[Level; 2], class: FloodClass) -> bool {
        match class {
            FloodClass::Broadcast => pair[0].take(now, self.rates.broadcast),
            FloodClass::Multicast => pair[1].take(now, self.rates.multicast),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_origin_does_not_use_up_anothers_share() {
        let storm = StormControl::new(StormRates::default(), KeyedHasher(1, 2));
        let pass = |origin: u32, class| storm.from_origin(Instant::ZERO, NetId(origin), class);
        let passed = (0..5000).filter(|_| pass(1, FloodClass::Broadcast)).count();
        assert_eq!(passed, 2000);
        assert!(pass(2, FloodClass::Broadcast));
        assert!(pass(1, FloodClass::Multicast));
        assert!(storm.from_device(Instant::ZERO, FloodClass::Broadcast));
    }
}
