//! Mode `prefer`: for how long, and what of it is written down (SEALED.md S84, S85).
//!
//! A mesh that moves from plain to sealed needs nodes that speak both for some days. Left in place it
//! would be a door: so it is announced at each start, and closes 30 days after the first one.

use super::clock::PLAUSIBLE;
use super::config::{Config, Security};
use super::error::Failure;
use super::state::{PREFER, Preferred, StateDir, StateError};
use crate::id::NetId;
use crate::keyed::KeyedHasher;
use crate::node::zone::OpenZone;
use crate::seal::prefer::{Latches, Prefer};

/// Seconds from the first start until plain is neither sent nor taken any more.
pub const LIFETIME: u64 = 30 * 86_400;

/// How often it is written down how long a node ran whose clock was never set, in seconds.
const WRITTEN: u64 = 600;

/// How long a node may prefer what it will insist on.
///
/// A clock that was never set says nothing: from the start of 1970 to when the network tells the time
/// would be over at once. Until it does, the time counts that the node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preference {
    preferred: Option<Preferred>,
    /// How long it had run, in seconds, when that was counted last.
    counted_at: u64,
}

impl Preference {
    /// Of a node that has this written down.
    pub const fn new(preferred: Option<Preferred>) -> Self {
        Self {
            preferred,
            counted_at: 0,
        }
    }

    /// What the state directory holds, which takes what time it is.
    fn read(state: &StateDir, wall: u64) -> Result<Self, StateError> {
        let mut preference = Self::new(state.preferred()?);
        if let Some(news) = preference.look(wall, 0) {
            state.write(PREFER, &StateDir::preferred_body(news))?;
        }
        Ok(preference)
    }

    /// Takes what time it is, and how long the node has run, in seconds. Gives what is to be written down,
    /// if that is something else now.
    pub const fn look(&mut self, wall: u64, runs_for: u64) -> Option<Preferred> {
        let ran = self.ran() + runs_for.saturating_sub(self.counted_at);
        let news = match self.since() {
            _ if self.is_over() => return None,
            Some(_) if wall >= PLAUSIBLE && self.remaining(wall) == 0 => Preferred::Over,
            Some(_) => return None,
            None if ran >= LIFETIME => Preferred::Over,
            None if wall >= PLAUSIBLE => Preferred::Since(wall.saturating_sub(ran)),
            None if ran < self.ran() + WRITTEN => return None,
            None => Preferred::For(ran),
        };
        (self.preferred, self.counted_at) = (Some(news), runs_for);
        self.preferred
    }

    /// Seconds that it is known to have run while nobody knew the time.
    const fn ran(&self) -> u64 {
        match self.preferred {
            Some(Preferred::For(ran)) => ran,
            _ => 0,
        }
    }

    /// Whether it has ended. It does once, whatever the clock says afterwards.
    pub const fn is_over(&self) -> bool {
        matches!(self.preferred, Some(Preferred::Over))
    }

    /// Seconds that are left.
    pub const fn remaining(&self, wall: u64) -> u64 {
        match self.since() {
            _ if self.is_over() => 0,
            None => LIFETIME.saturating_sub(self.ran()),
            Some(since) => LIFETIME.saturating_sub(wall.saturating_sub(since)),
        }
    }

    const fn since(&self) -> Option<u64> {
        match self.preferred {
            // A month before the clock could be right at the earliest: it may have run so long before.
            Some(Preferred::Since(since)) if since >= PLAUSIBLE - LIFETIME => Some(since),
            _ => None,
        }
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
        let preference = Preference::read(state, wall)?;
        if preference.is_over() {
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
        let zone = zone.letting_in(config.limits.guest_per_second);
        (!self.preference.is_over()).then(|| Prefer::new(self.latches, pinned, zone))
    }
}

/// Tells the owner that this is a sealed node from now on.
pub fn say_over(state: &StateDir) {
    tracing::error!(
        "30 days of mode prefer are over: this node is sealed now, and neither speaks nor hears plain; \
         write mode = \"sealed\" (to have 30 days more, remove {} and start again)",
        state.path().join(PREFER).display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = PLAUSIBLE + 1_000;

    /// S84.
    #[test]
    fn thirty_days_after_its_first_start_a_node_is_sealed() {
        let mut preference = Preference::new(None);
        assert_eq!(preference.look(START, 0), Some(Preferred::Since(START)));
        assert_eq!(preference.remaining(START), LIFETIME);
        assert_eq!(preference.remaining(START - 500), LIFETIME);
        assert_eq!(preference.look(START + LIFETIME - 1, 9), None);
        assert_eq!(preference.remaining(START + LIFETIME - 1), 1);
        assert!(!preference.is_over());
        assert_eq!(preference.look(START + LIFETIME, 9), Some(Preferred::Over));
        // What is over stays over, whatever the clock says, and over restarts.
        let mut again = Preference::new(Some(Preferred::Over));
        assert!(again.is_over());
        assert_eq!((again.look(START, 0), again.remaining(START)), (None, 0));
    }

    /// S84: a board without a battery starts in 1970, until the network tells the time.
    #[test]
    fn a_clock_that_was_never_set_does_not_end_the_thirty_days() {
        for stored in [None, Some(Preferred::Since(5))] {
            let mut preference = Preference::new(stored);
            assert_eq!(
                (preference.look(7, 3), preference.remaining(7)),
                (None, LIFETIME)
            );
            assert_eq!(preference.look(START, 3), Some(Preferred::Since(START - 3)));
            assert_eq!(preference.remaining(START - 3), LIFETIME);
            assert_eq!(preference.look(7, 4), None);
        }
    }

    /// S84: what keeps the network from telling the time must not keep a node open for ever.
    #[test]
    fn thirty_days_of_running_end_it_where_nobody_ever_knew_the_time() {
        let mut stored = None;
        let day = 86_400;
        for _ in 0..29 {
            // A start each day.
            let mut preference = Preference::new(stored);
            assert_eq!(preference.look(7, 599), None);
            for runs_for in (1_200..=day).step_by(600) {
                stored = preference.look(7, runs_for).or(stored);
            }
        }
        assert_eq!(stored, Some(Preferred::For(29 * day)));
        let mut preference = Preference::new(stored);
        assert_eq!(preference.remaining(7), day);
        // The time counts from when it began, once it is known.
        let mut later = preference;
        let since = Preferred::Since(START - 29 * day - 60);
        assert_eq!(later.look(START, 60), Some(since));
        assert_eq!(later.remaining(START), day - 60);
        assert_eq!(later.look(START + day, 60), Some(Preferred::Over));
        assert_eq!(preference.look(7, day), Some(Preferred::Over));
    }

    #[test]
    fn the_end_is_written_down_and_honored_by_an_earlier_clock() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path()).unwrap();
        let is_over = |wall| Preference::read(&state, wall).unwrap().is_over();
        assert!(!is_over(START));
        assert!(is_over(START + LIFETIME));
        assert!(is_over(START));
    }
}
