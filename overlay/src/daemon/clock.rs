//! The one reader of the clock.
//!
//! CLOCK_BOOTTIME, because it goes on while the machine sleeps: a neighbor that was silent through
//! an hour's suspend has been silent for an hour (SECURITY 3.5). No step of the wall clock moves it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::time::{ClockId, clock_gettime};

use crate::time::Instant;

/// Tells the time since the daemon started.
///
/// Calls: from any thread; copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
    /// How often it was read, for who wants to know.
    reads: Option<&'static AtomicU64>,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self {
            start: read(),
            reads: None,
        }
    }

    /// A clock that starts now and counts in `reads` how often it is read: for the proof that the
    /// data path reads it once a batch.
    pub fn counting(reads: &'static AtomicU64) -> Self {
        Self {
            reads: Some(reads),
            ..Self::start()
        }
    }

    /// The time since the start, in microseconds.
    ///
    /// Cost: about 30 ns; read it once a batch.
    pub fn now(&self) -> Instant {
        if let Some(reads) = self.reads {
            reads.fetch_add(1, Relaxed);
        }
        Instant(read().saturating_sub(self.start))
    }
}

/// The start of 2026, when no release of this software had been made: a clock that is behind it was never
/// set, as that of a board without a battery before it has asked the network.
pub const PLAUSIBLE: u64 = 1_767_225_600;

/// Seconds since 1970-01-01 UTC, as far as the machine knows: for what people agreed on, and never
/// for how long something took.
pub fn wall_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Microseconds since the machine started.
fn read() -> u64 {
    // Linux has had this clock since 2.6.39; the other one differs only across a suspend.
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC))
        .unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec()).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000)
        .saturating_add(nanoseconds / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn time_starts_near_zero_and_goes_on() {
        let clock = Clock::start();
        let first = clock.now();
        assert!(first < Instant::from_secs(5));
        std::thread::sleep(Duration::from_millis(3));
        assert!(clock.now().since(first) >= Duration::from_millis(3));
    }
}
