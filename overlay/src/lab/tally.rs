//! What became of a numbered stream.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Counts the arrivals of a stream whose datagrams are numbered from 0.
///
/// State: one bit for each number; bounded by the length of the stream.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// How many numbers there are.
    length: u32,
    /// One bit for each number that has arrived.
    arrived: Vec<u64>,
    delivered: u32,
    duplicated: u32,
    reordered: u32,
    foreign: u32,
    /// The highest number so far.
    highest: Option<u32>,
    /// When the latest first copy arrived.
    latest_at: Option<Duration>,
    longest_gap: Duration,
}

/// The figures of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFigures {
    /// Datagrams handed to the kernel.
    pub sent: u32,
    /// Numbers that arrived at least once.
    pub delivered: u32,
    /// Numbers that were sent and never arrived.
    pub lost: u32,
    /// Arrivals beyond the first of a number.
    pub duplicated: u32,
    /// First arrivals after a higher number.
    pub reordered: u32,
    /// Arrivals that carry no number of this stream.
    pub foreign: u32,
    /// Milliseconds between consecutive first arrivals at most, rounded; the sender's own pauses
    /// are part of it.
    pub longest_gap_ms: u64,
    /// Milliseconds between consecutive sends at most, rounded: what a busy machine adds.
    pub longest_send_gap_ms: u64,
}

impl Tally {
    /// A tally for the numbers `0..length`.
    pub(super) fn new(length: u32) -> Self {
        Self {
            length,
            arrived: vec![0; (length as usize).div_ceil(64)],
            delivered: 0,
            duplicated: 0,
            reordered: 0,
            foreign: 0,
            highest: None,
            latest_at: None,
            longest_gap: Duration::ZERO,
        }
    }

    /// Enters one arrival; `None` is a datagram that is not of this stream.
    ///
    /// Units: `at` since any fixed moment; it may step back a little, as the kernel's clock does.
    pub(super) fn record(&mut self, number: Option<u32>, at: Duration) {
        let Some(number) = number.filter(|&number| number < self.length) else {
            self.foreign += 1;
            return;
        };
        let Some(word) = self.arrived.get_mut(number as usize / 64) else {
            return;
        };
        let bit = 1 << (number % 64);
        if *word & bit != 0 {
            self.duplicated += 1;
            return;
        }
        *word |= bit;
        self.delivered += 1;
        if self.highest > Some(number) {
            self.reordered += 1;
        }
        self.highest = self.highest.max(Some(number));
        if let Some(before) = self.latest_at {
            self.longest_gap = self.longest_gap.max(at.saturating_sub(before));
        }
        self.latest_at = Some(at);
    }

    /// Whether every number has arrived, so that waiting longer can only show duplicates.
    pub(super) fn is_complete(&self) -> bool {
        self.delivered == self.length
    }

    /// The figures, given what the sender did.
    pub(super) fn figures(&self, sent: u32, longest_send_gap: Duration) -> StreamFigures {
        StreamFigures {
            sent,
            delivered: self.delivered,
            lost: sent.saturating_sub(self.delivered),
            duplicated: self.duplicated,
            reordered: self.reordered,
            foreign: self.foreign,
            longest_gap_ms: rounded_milliseconds(self.longest_gap),
            longest_send_gap_ms: rounded_milliseconds(longest_send_gap),
        }
    }
}

fn rounded_milliseconds(duration: Duration) -> u64 {
    u64::try_from((duration.as_micros() + 500) / 1000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn tally(length: u32, arrivals: &[(u32, u64)]) -> StreamFigures {
        let mut tally = Tally::new(length);
        for &(number, at) in arrivals {
            tally.record(Some(number), milliseconds(at));
        }
        tally.figures(length, milliseconds(1))
    }

    #[test]
    fn an_undisturbed_stream_is_complete() {
        let mut tally = Tally::new(130);
        for number in 0..130 {
            assert!(!tally.is_complete());
            tally.record(Some(number), milliseconds(u64::from(number)));
        }
        assert!(tally.is_complete());
        let expected = StreamFigures {
            sent: 130,
            delivered: 130,
            lost: 0,
            duplicated: 0,
            reordered: 0,
            foreign: 0,
            longest_gap_ms: 1,
            longest_send_gap_ms: 1,
        };
        assert_eq!(tally.figures(130, milliseconds(1)), expected);
    }

    #[test]
    fn missing_numbers_are_lost() {
        let figures = tally(4, &[(0, 0), (3, 3)]);
        assert_eq!((figures.delivered, figures.lost), (2, 2));
    }

    #[test]
    fn nothing_at_all_is_all_lost_and_has_no_gap() {
        let figures = tally(3, &[]);
        assert_eq!((figures.lost, figures.longest_gap_ms), (3, 0));
    }

    #[test]
    fn a_second_copy_is_a_duplicate_and_no_delivery() {
        let figures = tally(2, &[(0, 0), (0, 1), (1, 2), (0, 3)]);
        assert_eq!(
            (figures.delivered, figures.lost, figures.duplicated),
            (2, 0, 2)
        );
    }

    #[test]
    fn a_late_number_is_reordered_once() {
        let figures = tally(3, &[(0, 0), (2, 1), (1, 2), (1, 3)]);
        assert_eq!((figures.reordered, figures.duplicated), (1, 1));
    }

    #[test]
    fn the_longest_gap_is_between_first_copies() {
        let figures = tally(3, &[(0, 0), (0, 40), (1, 50), (2, 60)]);
        assert_eq!(figures.longest_gap_ms, 50);
    }

    #[test]
    fn a_clock_that_steps_back_makes_no_gap() {
        let figures = tally(3, &[(0, 10), (1, 9), (2, 11)]);
        assert_eq!(figures.longest_gap_ms, 2);
    }

    #[test]
    fn a_gap_is_rounded_to_the_nearest_millisecond() {
        assert_eq!(rounded_milliseconds(Duration::from_micros(1499)), 1);
        assert_eq!(rounded_milliseconds(Duration::from_micros(1500)), 2);
    }

    #[test]
    fn what_is_not_of_the_stream_is_counted_apart() {
        let mut tally = Tally::new(2);
        tally.record(None, Duration::ZERO);
        tally.record(Some(2), Duration::ZERO);
        let figures = tally.figures(2, Duration::ZERO);
        assert_eq!((figures.foreign, figures.delivered), (2, 0));
    }
}
