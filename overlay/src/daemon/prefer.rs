//! Mode `prefer`: for how long, and what of it is written down (SEALED.md S84, S85).
//!
//! A mesh that moves from plain to sealed needs nodes that speak both for some days. Left in place it
//! would be a door: so it is announced at each start, and closes 30 days after the first one.

use super::config::{Config, Security};
use super::error::Failure;
use super::state::StateDir;
use crate::id::NetId;
use crate::keyed::KeyedHasher;
use crate::node::zone::OpenZone;
use crate::seal::prefer::{Latches, Prefer};

/// Seconds from the first start until plain is neither sent nor taken any more.
pub const LIFETIME: u64 = 30 * 86_400;

/// How long a node may prefer what it will insist on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preference {
    /// When it first did, in seconds since 1970.
    since: u64,
    /// Whether the end was acted on.
    pub is_over: bool,
}

impl Preference {
    /// Of a node that first preferred it then.
    pub const fn new(since: u64, wall: u64) -> Self {
        let mut preference = Self {
            since,
            is_over: false,
        };
        preference.is_over = preference.remaining(wall) == 0;
        preference
    }

    /// Seconds that are left. A clock that was set back gives none in addition.
    pub const fn remaining(&self, wall: u64) -> u64 {
        if self.is_over {
            return 0;
        }
        LIFETIME.saturating_sub(wall.saturating_sub(self.since))
    }
}

/// What a node that prefers sealed links begins with.
#[derive(Debug)]
pub struct Stored {
    /// How long it may.
    pub preference: Preference,
    /// Whom it knows to speak sealed.
    pub latches: Latches,
}

impl Stored {
    /// What the state directory holds, for a node of that mode. Says so in the log where time is
    /// over.
    ///
    /// # Errors
    /// A file is damaged, or cannot be read or written.
    pub fn read(config: &Config, state: &StateDir, wall: u64) -> Result<Option<Self>, Failure> {
        if config.security != Security::Prefer {
            return Ok(None);
        }
        let preference = Preference::new(state.prefers_since(wall)?, wall);
        if preference.is_over {
            say_over(state);
        } else {
            let days = preference.remaining(wall).div_ceil(86_400);
            tracing::warn!(days, "plain is spoken to whoever does not answer sealed");
        }
        Ok(Some(Self {
            preference,
            latches: state.latches()?,
        }))
    }

    /// The machine's part; `None` when time is over.
    pub fn prefer(
        self,
        config: &Config,
        pinned: impl Iterator<Item = NetId>,
        hasher: KeyedHasher,
    ) -> Option<Prefer> {
        let zone = OpenZone::new(config.bridge, hasher);
        (!self.preference.is_over).then(|| Prefer::new(self.latches, pinned, zone))
    }
}

/// Tells the owner that this is a sealed node from now on.
pub fn say_over(state: &StateDir) {
    tracing::error!(
        "30 days of mode prefer are over: this node is sealed now, and neither speaks nor hears plain; \
         write mode = \"sealed\" (to have 30 days more, remove {} and start again)",
        state.path().join("prefer").display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000;

    /// S84.
    #[test]
    fn thirty_days_after_its_first_start_a_node_is_sealed() {
        let preference = Preference::new(START, START);
        assert_eq!(preference.remaining(START), LIFETIME);
        assert_eq!(preference.remaining(START + LIFETIME - 1), 1);
        assert_eq!(preference.remaining(START + LIFETIME), 0);
        assert!(!Preference::new(START, START + LIFETIME - 1).is_over);
        assert!(Preference::new(START, START + LIFETIME).is_over);
        // What is over stays over, whatever the clock says.
        let mut over = preference;
        over.is_over = true;
        assert_eq!(over.remaining(START), 0);
        assert_eq!(preference.remaining(START - 500), LIFETIME);
    }
}
