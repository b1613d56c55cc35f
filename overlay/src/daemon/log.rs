//! Logs to stderr, and a limit on what the network can make us write (SECURITY T23).
//!
//! A message that a datagram causes is logged through a [`Limiter`]: at most one per reason in ten
//! seconds, with the number of those left out. Names from the network go through
//! [`super::text::foreign`] first; field values are escaped by the subscriber besides.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::args::LogFormat;
use super::error::Failure;
use crate::time::{Duration, Instant};

/// How often one reason is logged.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Whether `filter` can be read.
///
/// # Errors
/// It cannot.
pub fn check(filter: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if filter.trim().is_empty() {
        return Err("empty".into());
    }
    // A lone word that is no level would be taken for a module's name, and log nothing at all.
    let level = |part: &str| {
        !part.is_empty() && part.parse::<tracing::level_filters::LevelFilter>().is_ok()
    };
    let lone = |part: &str| !part.contains(['=', ':', '[']) && !level(part);
    if filter.split(',').map(str::trim).any(lone) {
        return Err("no level".into());
    }
    Ok(EnvFilter::try_new(filter).map(|_| ())?)
}

/// Starts logging to stderr. Once per process.
///
/// # Errors
/// The filter cannot be read, or logs go somewhere already.
pub fn start(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let cannot = || {
        Failure::misuse(
            format!("cannot log with the filter {filter}"),
            "try --log info",
        )
    };
    check(filter).map_err(|error| cannot().because(error))?;
    let filter = EnvFilter::try_new(filter).map_err(|error| cannot().because(error))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = match format {
        // Where in the program a line was written tells its readers nothing.
        LogFormat::Text => builder
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::at_work("cannot start logging", "").because(error))
}

/// Lets one message per reason through in [`INTERVAL`], and counts the others.
///
/// State: one entry per reason; reasons are words of this program, so there are few.
#[derive(Debug, Default)]
pub struct Limiter {
    reasons: BTreeMap<&'static str, Reason>,
}

#[derive(Debug)]
struct Reason {
    next_at: Instant,
    suppressed: u64,
}

impl Limiter {
    /// Whether to log `reason` now; if so, how many were left out since the last time.
    ///
    /// # Examples
    /// ```
    /// use overlay::{daemon::log::Limiter, time::Instant};
    /// let mut limiter = Limiter::default();
    /// assert_eq!(limiter.pass(Instant::ZERO, "netid_conflict"), Some(0));
    /// assert_eq!(limiter.pass(Instant::from_secs(9), "netid_conflict"), None);
    /// assert_eq!(limiter.pass(Instant::from_secs(10), "netid_conflict"), Some(1));
    /// ```
    pub fn pass(&mut self, now: Instant, reason: &'static str) -> Option<u64> {
        let entry = self.reasons.entry(reason).or_insert(Reason {
            next_at: now,
            suppressed: 0,
        });
        if now < entry.next_at {
            entry.suppressed += 1;
            return None;
        }
        entry.next_at = now + INTERVAL;
        Some(std::mem::take(&mut entry.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_per_reason_passes_in_ten_seconds() {
        let mut limiter = Limiter::default();
        let start = Instant::from_secs(5);
        assert_eq!(limiter.pass(start, "a"), Some(0));
        assert_eq!(limiter.pass(start, "b"), Some(0));
        for microsecond in 0..1_000 {
            assert_eq!(
                limiter.pass(start + Duration::from_micros(microsecond), "a"),
                None
            );
        }
        let due = start + INTERVAL;
        assert_eq!(limiter.pass(due - Duration::from_micros(1), "a"), None);
        assert_eq!(limiter.pass(due, "a"), Some(1_001));
        assert_eq!(limiter.pass(due, "b"), Some(0));
    }

    #[test]
    fn a_filter_names_a_level() {
        for filter in [
            "info",
            "DEBUG",
            "off",
            "info,overlay::node=debug",
            "overlay[span]=trace",
        ] {
            assert!(check(filter).is_ok(), "{filter}");
        }
        for filter in ["", "inof", "info,", "overlay=loud"] {
            assert!(check(filter).is_err(), "{filter}");
        }
    }
}
