//! The bridge-loop guard: flooded frames that crossed the TAP a moment ago, by hash.
//!
//! Two nodes that bridge the same LAN make a loop which the mesh's own memory does not see: each
//! round is a new message with a new nonce. But a frame that a node wrote to its TAP and reads back
//! has been in the mesh, and one that it read from its TAP and gets from the mesh has been on its
//! LAN: both end there (SECURITY T14). Writes alone do not do: the node that only writes and the
//! node that only reads would feed each other for ever. They still do when a frame gets past a
//! node's bridge unread, such as one that the node's own kernel sends: then the writer sees it come
//! again, as it does a station's honest repetition. It asks by a beacon at once which it is. Only the first 128 bytes and the length
//! are hashed: two frames of a station that agree in these are the same for this purpose.
//!
//! The table is fixed: buckets of four words, each 44 bits of hash and a 20-bit time. Where a
//! bucket is full the oldest goes; at worst a loop runs one more round.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use siphasher::sip::SipHasher13;

use crate::route::frame::MIN_LEN;
use crate::route::owners::KeyedHasher;
use crate::time::{Duration, Instant};

/// How long a frame is remembered.
pub const KEPT: Duration = Duration::from_secs(5);

/// Buckets: 16,384 frames in 128 KiB, some 3,000 frames/s for 5 s.
const BUCKETS: usize = 4096;
const WAYS: usize = 4;
/// Bytes of a frame that are hashed.
const HASHED_LEN: usize = 128;
/// Microseconds of one tick; 20 bits of ticks are three hours.
const TICK: u64 = 10_000;
const TICK_MASK: u64 = (1 << 20) - 1;
const KEPT_TICKS: u64 = KEPT.as_micros() as u64 / TICK;

/// Frames that crossed the TAP in one direction. Calls: from any worker at once; a lost race loses one entry.
#[derive(Debug)]
pub struct Guard {
    buckets: Box<[[AtomicU64; WAYS]]>,
    hasher: KeyedHasher,
}

impl Guard {
    /// An empty guard.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| Default::default()).collect(),
            hasher,
        }
    }

    /// Remembers a frame; returns whether it was remembered already, within [`KEPT`].
    pub fn remember(&self, now: Instant, frame: &[u8]) -> bool {
        let (bucket, hash) = self.place(frame);
        let tick = tick(now);
        let known = is_known(bucket, hash, tick);
        let worst = bucket.iter().max_by_key(|word| {
            let word = word.load(Relaxed);
            // The same frame's place first, then an empty one, then the oldest.
            match word {
                _ if word & !TICK_MASK == hash && word != 0 => u64::MAX,
                0 => u64::MAX - 1,
                _ => age(tick, word),
            }
        });
        if let Some(word) = worst {
            word.store(hash | tick, Relaxed);
        }
        known
    }

    /// Whether this frame was remembered within [`KEPT`].
    pub fn knows(&self, now: Instant, frame: &[u8]) -> bool {
        let (bucket, hash) = self.place(frame);
        is_known(bucket, hash, tick(now))
    }

    /// The bucket, and the hash without the bits that hold the time.
    fn place(&self, frame: &[u8]) -> (&[AtomicU64; WAYS], u64) {
        let mut hasher = SipHasher13::new_with_keys(self.hasher.0, self.hasher.1);
        if frame.len() < MIN_LEN {
            // A wire pads short frames with zeros; the padded one is the same frame.
            let mut padded = [0; MIN_LEN];
            padded[..frame.len()].copy_from_slice(frame);
            hasher.write(&padded);
        } else {
            hasher.write(&frame[..frame.len().min(HASHED_LEN)]);
        }
        hasher.write_u64(frame.len().max(MIN_LEN) as u64);
        let hash = hasher.finish();
        let bucket = &self.buckets[hash as usize % BUCKETS];
        (bucket, hash & !TICK_MASK)
    }
}

fn is_known(bucket: &[AtomicU64; WAYS], hash: u64, tick: u64) -> bool {
    bucket.iter().any(|word| {
        let word = word.load(Relaxed);
        word != 0 && word & !TICK_MASK == hash && age(tick, word) <= KEPT_TICKS
    })
}

fn tick(now: Instant) -> u64 {
    (now.0 / TICK) & TICK_MASK
}

fn age(tick: u64, word: u64) -> u64 {
    tick.wrapping_sub(word) & TICK_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(millis * 1000)
    }

    #[test]
    fn a_frame_is_known_for_five_seconds() {
        let guard = Guard::new(KeyedHasher(1, 2));
        let frame = [7; 100];
        assert!(!guard.knows(at(1000), &frame));
        assert!(!guard.remember(at(1000), &frame));
        assert!(guard.knows(at(1000), &frame));
        assert!(guard.knows(at(6009), &frame));
        assert!(!guard.knows(at(6010), &frame));
        assert!(!guard.remember(at(6010), &frame));
        assert!(guard.remember(at(11_019), &frame));
    }

    #[test]
    fn padding_does_not_make_another_frame() {
        let guard = Guard::new(KeyedHasher(1, 2));
        let short = [7; 42];
        let mut padded = short.to_vec();
        padded.resize(60, 0);
        guard.remember(at(0), &short);
        assert!(guard.knows(at(0), &padded));
        padded[50] = 1;
        assert!(!guard.knows(at(0), &padded));
    }

    #[test]
    fn frames_that_differ_early_or_in_length_are_different() {
        let guard = Guard::new(KeyedHasher(1, 2));
        let mut frame = vec![7; 200];
        guard.remember(at(0), &frame);
        frame[127] = 8;
        assert!(!guard.knows(at(0), &frame));
        assert!(!guard.knows(at(0), &[7; 201]));
    }

    #[test]
    fn what_comes_often_is_remembered_from_the_last_time() {
        let guard = Guard::new(KeyedHasher(1, 2));
        for n in 0..100 {
            guard.remember(at(n * 1000), &[7; 100]);
        }
        assert!(guard.knows(at(104_000), &[7; 100]));
        assert!(!guard.knows(at(104_010), &[7; 100]));
    }

    #[test]
    fn thousands_of_frames_are_remembered_and_no_other_is_known() {
        let guard = Guard::new(KeyedHasher(1, 2));
        let frame = |n: u32| {
            let mut frame = [0; 64];
            frame[..4].copy_from_slice(&n.to_be_bytes());
            frame
        };
        for n in 0..5_000 {
            guard.remember(at(0), &frame(n));
        }
        let known = (0..5_000)
            .filter(|&n| guard.knows(at(1000), &frame(n)))
            .count();
        assert!(known > 4_900, "{known}");
        assert!(!(10_000..20_000).any(|n| guard.knows(at(1000), &frame(n))));
    }
}
