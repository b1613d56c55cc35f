//! Which unicast frame comes again and again: a few are kept and compared, since to hash each one
//! would cost a steady flow too much.
//!
//! Each sample is kept for a time of its own, so that a frame in a loop comes back while one of
//! them holds it, however long its round is: after sixteen rounds at most, or a millisecond.

use crate::time::{Duration, Instant};

/// How long the samples are kept. A round longer than the last is left to the regular beacon.
const KEPT: [Duration; 3] = [
    Duration::from_millis(1),
    Duration::from_millis(16),
    Duration::from_millis(256),
];
/// Bytes that are compared: they reach into what TCP and UDP change from packet to packet.
const COMPARED_LEN: usize = 64;

/// One worker's samples of what it wrote.
#[derive(Debug, Default)]
pub(super) struct Samples([Sample; KEPT.len()]);

#[derive(Debug)]
struct Sample {
    /// When another one is taken.
    over_at: Instant,
    /// Bytes of the frame; 0 when it has come again and been told.
    len: usize,
    head: [u8; COMPARED_LEN],
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            over_at: Instant::ZERO,
            len: 0,
            head: [0; COMPARED_LEN],
        }
    }
}

impl Samples {
    /// Whether this frame is one of those kept; said once of each.
    ///
    /// Cost: three comparisons of lengths, and of heads where lengths agree.
    pub(super) fn come_again(&mut self, now: Instant, frame: &[u8]) -> bool {
        let mut again = false;
        for (sample, kept) in self.0.iter_mut().zip(KEPT) {
            again |= sample.comes_again(now, kept, frame);
        }
        again
    }
}

impl Sample {
    fn comes_again(&mut self, now: Instant, kept: Duration, frame: &[u8]) -> bool {
        let head = &frame[..frame.len().min(COMPARED_LEN)];
        if now >= self.over_at {
            self.over_at = now + kept;
            self.len = frame.len();
            self.head[..head.len()].copy_from_slice(head);
            return false;
        }
        let again = frame.len() == self.len && self.head.starts_with(head);
        if again {
            self.len = 0;
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many rounds of this length a lone frame is found; 0 for never.
    fn rounds_until_found(round: Duration, busy_since: Duration) -> usize {
        let mut samples = Samples::default();
        let mut now = Instant::from_secs(7);
        // Another frame was sampled before this one came.
        samples.come_again(now, &[9; 70]);
        now = now + busy_since;
        for count in 0..10_000 {
            if samples.come_again(now, &[7; 70]) {
                return count;
            }
            now = now + round;
        }
        0
    }

    #[test]
    fn a_frame_in_a_loop_is_found_whatever_its_round() {
        for micros in [20, 100, 900, 1_500, 15_000, 17_000, 250_000] {
            let most = 18.max(1_000 / micros as usize + 2);
            for busy_since in [0, 1, 500, 999, 15_000, 255_000].map(Duration::from_micros) {
                let rounds = rounds_until_found(Duration::from_micros(micros), busy_since);
                assert!((1..=most).contains(&rounds), "{micros} us: {rounds}");
            }
        }
        assert_eq!(
            rounds_until_found(Duration::from_millis(256), Duration::ZERO),
            0
        );
    }

    #[test]
    fn frames_that_differ_early_or_in_length_are_others() {
        let mut samples = Samples::default();
        let mut frame = [7; 100];
        assert!(!samples.come_again(Instant::ZERO, &frame));
        assert!(!samples.come_again(Instant::ZERO, &[7; 101]));
        frame[63] = 8;
        assert!(!samples.come_again(Instant::ZERO, &frame));
        frame[63] = 7;
        frame[64] = 8;
        assert!(samples.come_again(Instant::ZERO, &frame));
    }

    #[test]
    fn who_repeats_himself_is_told_once_of_each_sample() {
        let mut samples = Samples::default();
        let again = (0..1_000_u64).filter(|n| samples.come_again(Instant(n * 10), &[7; 20]));
        // Ten milliseconds: ten samples of one, one of each other.
        assert!(again.count() <= 12);
    }
}
