//! The bridge-loop guard: frames that crossed the TAP a moment ago, by hash.
//!
//! Two nodes that bridge the same LAN make a loop which the mesh's own memory does not see: each
//! round is a new message with a new nonce. A [`Tap`](super::tap::Tap) has two guards, for what it
//! wrote and for what it read, and three things end a frame's round (SECURITY T14):
//!
//! 1. A frame that a node wrote and reads back has been in the mesh, and one that it read and gets
//!    from the mesh has been on its LAN: it is dropped.
//! 2. Where one node only writes and the other only reads, neither sees that: to both it looks like
//!    a station that repeats itself. The [`beacon`](super::beacon) asks which it is, at the first
//!    repetition, and when it comes back nothing is taken from there any more.
//! 3. No answer is waited for when a frame comes [`TOO_OFTEN`](Seen::TooOften): its copies are
//!    dropped until they come more slowly. In a loop the one that is dropped was the only one.
//!
//! Honest stations stay below that: announcements come in threes or fives, heartbeats at most a
//! hundred times a second, and what changes by one bit is another frame.
//!
//! The table is fixed: buckets of four words, each 40 bits of hash, a level and a 20-bit time. Where
//! a bucket is full the oldest goes; at worst a loop runs one more round.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use siphasher::sip::SipHasher13;

use crate::keyed::KeyedHasher;
use crate::route::frame::MIN_LEN;
use crate::time::{Duration, Instant};

/// How long a frame is remembered.
pub const KEPT: Duration = Duration::from_secs(5);
/// So many copies of a frame at once are an honest repetition; those beyond are too many.
pub const BURST: u64 = 5;
/// And so many a second, for as long as it likes.
pub const PER_SECOND: u64 = 200;

/// Buckets: 16,384 frames in 128 KiB, some 3,000 frames/s for 5 s.
const BUCKETS: usize = 4096;
const WAYS: usize = 4;
/// Microseconds of one tick; 20 bits of ticks are three hours.
const TICK: u64 = 10_000;
const TICK_BITS: u32 = 20;
const LEVEL_BITS: u32 = 4;
const KEPT_TICKS: u64 = KEPT.as_micros() as u64 / TICK;
/// What a level falls in one tick.
const FALL: u64 = PER_SECOND * TICK / 1_000_000;

const _: () = assert!(BURST < 1 << LEVEL_BITS && FALL > 0);

/// What stands for a frame: a keyed hash of all its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Cost: some 30 ns for the shortest frame, 330 ns for 1,400 bytes.
    pub fn of(frame: &[u8], hasher: KeyedHasher) -> Self {
        let mut hasher = SipHasher13::new_with_keys(hasher.0, hasher.1);
        if frame.len() < MIN_LEN {
            // A wire pads short frames with zeros; the padded one is the same frame.
            let mut padded = [0; MIN_LEN];
            padded[..frame.len()].copy_from_slice(frame);
            hasher.write(&padded);
        } else {
            hasher.write(frame);
        }
        Self(hasher.finish())
    }

    /// The bits that a table keeps; the others name the bucket, or are left out.
    fn kept(self) -> u64 {
        self.0 >> (TICK_BITS + LEVEL_BITS)
    }
}

/// How a frame was known when it was remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not within [`KEPT`].
    First,
    /// Within [`KEPT`]: a station repeats itself, or there is a loop.
    Again,
    /// More often than [`BURST`] at once and [`PER_SECOND`] later.
    TooOften,
}

/// Frames that crossed the TAP in one direction. Calls: from any worker at once; a lost race loses
/// one entry or one count.
#[derive(Debug)]
pub struct Guard {
    buckets: Box<[[AtomicU64; WAYS]]>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| Default::default()).collect(),
        }
    }
}

impl Guard {
    /// Remembers a frame; returns how it was known.
    pub fn remember(&self, now: Instant, frame: Fingerprint) -> Seen {
        let (hash, tick) = (frame.kept(), tick(now));
        let place = self.bucket(frame).iter().max_by_key(|word| {
            let entry = Entry(word.load(Relaxed));
            // The same frame's place first, then an empty one, then the oldest.
            match entry {
                _ if entry.is_of(hash) => u64::MAX,
                Entry(0) => u64::MAX - 1,
                _ => entry.age(tick),
            }
        });
        let Some(place) = place else {
            return Seen::First;
        };
        let before = Entry(place.load(Relaxed));
        let known = before.is_of(hash) && before.age(tick) <= KEPT_TICKS;
        let level = if known { before.level_at(tick) } else { 0 };
        let too_often = level >= BURST;
        let level = if too_often { level } else { level + 1 };
        place.store(Entry::new(hash, level, tick).0, Relaxed);
        match (known, too_often) {
            (_, true) => Seen::TooOften,
            (true, false) => Seen::Again,
            (false, false) => Seen::First,
        }
    }

    /// Whether this frame was remembered within [`KEPT`].
    pub fn knows(&self, now: Instant, frame: Fingerprint) -> bool {
        let (hash, tick) = (frame.kept(), tick(now));
        self.bucket(frame).iter().any(|word| {
            let entry = Entry(word.load(Relaxed));
            entry.is_of(hash) && entry.age(tick) <= KEPT_TICKS
        })
    }

    fn bucket(&self, frame: Fingerprint) -> &[AtomicU64; WAYS] {
        &self.buckets[frame.0 as usize % BUCKETS]
    }
}

/// One word: hash, level, tick of the last copy. Zero is empty, since a level is at least 1.
#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    fn new(hash: u64, level: u64, tick: u64) -> Self {
        // A level that has fallen to nothing still marks the entry as one.
        Self((hash << LEVEL_BITS | level.max(1)) << TICK_BITS | tick)
    }

    fn is_of(self, hash: u64) -> bool {
        self.0 != 0 && self.0 >> (TICK_BITS + LEVEL_BITS) == hash
    }

    fn age(self, tick: u64) -> u64 {
        tick.wrapping_sub(self.0) & ((1 << TICK_BITS) - 1)
    }

    fn level_at(self, tick: u64) -> u64 {
        let level = self.0 >> TICK_BITS & ((1 << LEVEL_BITS) - 1);
        level.saturating_sub(self.age(tick) * FALL)
    }
}

fn tick(now: Instant) -> u64 {
    (now.0 / TICK) & ((1 << TICK_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(millis * 1000)
    }

    fn of(frame: &[u8]) -> Fingerprint {
        Fingerprint::of(frame, KeyedHasher(1, 2))
    }

    /// How many of `count` copies, one each `interval` milliseconds, come too often.
    fn too_often(count: u64, interval: u64) -> usize {
        let guard = Guard::default();
        let is_too_often =
            |n: &u64| guard.remember(at(n * interval), of(&[7; 100])) == Seen::TooOften;
        (0..count).filter(is_too_often).count()
    }

    #[test]
    fn a_frame_is_known_for_five_seconds() {
        let guard = Guard::default();
        let frame = of(&[7; 100]);
        assert!(!guard.knows(at(1000), frame));
        assert_eq!(guard.remember(at(1000), frame), Seen::First);
        assert!(guard.knows(at(1000), frame));
        assert!(guard.knows(at(6009), frame));
        assert!(!guard.knows(at(6010), frame));
        assert_eq!(guard.remember(at(6010), frame), Seen::First);
        assert_eq!(guard.remember(at(11_019), frame), Seen::Again);
    }

    #[test]
    fn padding_does_not_make_another_frame() {
        let short = [7; 42];
        let mut padded = short.to_vec();
        padded.resize(60, 0);
        assert_eq!(of(&short), of(&padded));
        padded[50] = 1;
        assert_ne!(of(&short), of(&padded));
    }

    #[test]
    fn frames_that_differ_anywhere_or_in_length_are_different() {
        let mut frame = vec![7; 1400];
        let whole = of(&frame);
        frame[1399] = 8;
        assert_ne!(of(&frame), whole);
        assert_ne!(of(&[7; 1401]), whole);
        assert_ne!(of(&[0; 61]), of(&[0; 60]));
    }

    #[test]
    fn what_comes_often_is_remembered_from_the_last_time() {
        let guard = Guard::default();
        let frame = of(&[7; 100]);
        for n in 0..100 {
            guard.remember(at(n * 1000), frame);
        }
        assert!(guard.knows(at(104_000), frame));
        assert!(!guard.knows(at(104_010), frame));
    }

    #[test]
    fn honest_repetitions_do_not_come_too_often() {
        for (what, count, interval) in [
            ("a burst of five", 5, 0),
            ("announcements", 5, 100),
            ("requests", 10, 1000),
            ("a heartbeat a hundred times a second", 1_000, 10),
            ("the most that is allowed", 2_000, 5),
        ] {
            assert_eq!(too_often(count, interval), 0, "{what}");
        }
    }

    #[test]
    fn more_than_five_at_once_or_two_hundred_a_second_come_too_often() {
        assert_eq!(too_often(9, 0), 4);
        // Each millisecond for a second: five, and two for each of the ticks that followed.
        assert_eq!(1_000 - too_often(1_000, 1), 5 + 2 * 99);
    }

    #[test]
    fn what_came_too_often_passes_when_it_comes_more_slowly() {
        let guard = Guard::default();
        let frame = of(&[7; 100]);
        for _ in 0..100 {
            guard.remember(at(0), frame);
        }
        assert_eq!(guard.remember(at(9), frame), Seen::TooOften);
        assert_eq!(guard.remember(at(10), frame), Seen::Again);
        assert_eq!(guard.remember(at(10), frame), Seen::Again);
        assert_eq!(guard.remember(at(10), frame), Seen::TooOften);
    }

    #[test]
    fn thousands_of_frames_are_remembered_and_no_other_is_known() {
        let guard = Guard::default();
        let frame = |n: u32| {
            let mut frame = [0; 64];
            frame[..4].copy_from_slice(&n.to_be_bytes());
            of(&frame)
        };
        for n in 0..5_000 {
            guard.remember(at(0), frame(n));
        }
        let known = (0..5_000)
            .filter(|&n| guard.knows(at(1000), frame(n)))
            .count();
        assert!(known > 4_900, "{known}");
        assert!(!(10_000..20_000).any(|n| guard.knows(at(1000), frame(n))));
    }
}
