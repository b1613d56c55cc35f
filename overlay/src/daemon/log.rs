//! Logs to stderr, and a limit on what the network can make us write (SECURITY T23).
//!
//! A message that a datagram causes is logged through a [`Limiter`]: at most one per reason in ten
//! seconds, with the number of those left out. Names from the network go through
//! [`super::text::foreign`] first; field values are escaped by the subscriber besides. Above that
//! stands one ration for all lines, [`RATE`]: members that come and go without end fill no disk.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt;

use super::args::LogFormat;
use super::clock::Clock;
use super::error::Failure;
use crate::budget::{Bucket, Rate};
use crate::time::{Duration, Instant};

/// How often one reason is logged.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Lines a second, and at once, that are written of what informs; as many of what warns, and of errors.
pub const RATE: Rate = Rate::per_second(1, 300);

/// Lines that were not written for want of a ration, and not told of yet.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

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
        // It would be said on stderr: with stderr on a full disk that would end the process.
        .log_internal_errors(false)
        .with_writer(io::stderr.with_filter(ration()));
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

/// Lines that were left out since it was asked last.
pub fn take_left_out() -> u64 {
    LEFT_OUT.swap(0, Relaxed)
}

/// Whether a line may be written. Who asked for debug lines gets them all.
fn ration() -> impl Fn(&Metadata<'_>) -> bool {
    let clock = Clock::start();
    let [informs, warns, errs] = std::array::from_fn(|_| Bucket::new(RATE));
    move |line| {
        let bucket = match *line.level() {
            Level::ERROR => &errs,
            Level::WARN => &warns,
            Level::INFO => &informs,
            _ => return true,
        };
        let passes = bucket.take(clock.now());
        if !passes {
            LEFT_OUT.fetch_add(1, Relaxed);
        }
        passes
    }
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
    use std::sync::{Arc, Mutex};

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
    fn a_flood_of_lines_is_cut_and_counted_and_leaves_room_for_graver_ones() {
        #[derive(Clone, Default)]
        struct Page(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Page {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let page = Page::default();
        let writes = page.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_writer((move || writes.clone()).with_filter(ration()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..1_000 {
                tracing::info!(number, "news");
                tracing::debug!(number, "detail");
            }
            for number in 0..1_000 {
                tracing::warn!(number, "care");
            }
            tracing::error!("harm");
        });
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let count = |word| text.lines().filter(|line| line.contains(word)).count();
        let (news, care) = (count("news"), count("care"));
        // More than the burst only if a thousand lines took seconds.
        assert!((300..1_000).contains(&news), "{news}");
        assert!((300..1_000).contains(&care), "{care}");
        assert_eq!((count("detail"), count("harm")), (1_000, 1));
        assert_eq!(take_left_out(), 2_000 - (news + care) as u64);
        assert_eq!(take_left_out(), 0);
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
