//! The loop-detect beacon: a question to the LAN whether it leads back to us.
//!
//! A broadcast frame (EtherType 0x88B5, IEEE 802 local experimental 1) that a node writes to its
//! TAP and never to its links:
//!
//! ```text
//! | ff:ff:ff:ff:ff:ff | 06:ac + netid | 88B5 | ac 01 6c 6f | mesh hash (64) | netid (32) | token (64) | 0.. |
//! ```
//!
//! Read back from our own device it shows a loop there. Another node that reads it from its device
//! floods it, and so it comes back to us from that node: both bridge the same LAN. A token is ours
//! for some seconds only, so that what was recorded proves nothing later. Nobody delivers a beacon
//! that came by the mesh.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::budget::{Bucket, Rate};
use crate::id::NetId;
use crate::keyed::KeyedHasher;
use crate::route::frame::{Frame, MIN_LEN};
use crate::time::{Duration, Instant};

/// The beacon's EtherType.
pub const ETHERTYPE: u16 = 0x88B5;
/// Bytes of a beacon frame.
pub const LEN: usize = MIN_LEN;
/// How often one is written though nothing happens.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Those that are written at once because a frame came again: eight loops may begin together, and
/// a LAN of honest repetitions hears two a second.
pub const HURRIED: Rate = Rate::per_second(2, 8);
/// How long a token proves something: longer than a frame takes through any LAN and mesh.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(5);

const MAGIC: [u8; 4] = [0xAC, 0x01, b'l', b'o'];
/// Bits of a token that say when it was made, in milliseconds: four hours. The others are a hash.
const TIME_BITS: u32 = 24;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// What a beacon says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Hash of the mesh's name.
    pub mesh: u64,
    /// Who wrote it.
    pub netid: NetId,
    /// What only the writer can have made.
    pub token: u64,
}

impl Beacon {
    /// Reads a frame; `None` when it is no beacon.
    pub fn read(frame: &Frame<'_>) -> Option<Self> {
        if frame.ethertype != ETHERTYPE {
            return None;
        }
        let payload: &[u8; 24] = frame.payload.first_chunk()?;
        let (magic, rest) = payload.split_first_chunk::<4>()?;
        let (mesh, rest) = rest.split_first_chunk::<8>()?;
        let (netid, rest) = rest.split_first_chunk::<4>()?;
        let token = rest.first_chunk::<8>()?;
        (*magic == MAGIC).then(|| Self {
            mesh: u64::from_be_bytes(*mesh),
            netid: NetId(u32::from_be_bytes(*netid)),
            token: u64::from_be_bytes(*token),
        })
    }

    /// Writes the whole frame.
    pub fn emit(&self, out: &mut [u8; LEN]) {
        let netid = self.netid.0.to_be_bytes();
        out.fill(0);
        out[..6].fill(0xFF);
        // Not the device's own address, which a bridge would report as spoofed.
        out[6..8].copy_from_slice(&[0x06, 0xAC]);
        out[8..12].copy_from_slice(&netid);
        out[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
        out[14..18].copy_from_slice(&MAGIC);
        out[18..26].copy_from_slice(&self.mesh.to_be_bytes());
        out[26..30].copy_from_slice(&netid);
        out[30..38].copy_from_slice(&self.token.to_be_bytes());
    }
}

/// When beacons are due, and which tokens are ours. Calls: from any worker at once.
#[derive(Debug)]
pub struct Beacons {
    hasher: KeyedHasher,
    /// When the next one is due, microseconds since start.
    due_at: AtomicU64,
    hurried: Bucket,
}

impl Beacons {
    /// The first one is due at once.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self {
            hasher,
            due_at: AtomicU64::new(0),
            hurried: Bucket::new(HURRIED),
        }
    }

    /// When the next one is due.
    pub fn due_at(&self) -> Instant {
        Instant(self.due_at.load(Relaxed))
    }

    /// The token of the beacon that is due, if one is; only one worker gets it.
    pub fn take(&self, now: Instant) -> Option<u64> {
        let next = (now + INTERVAL).0;
        let due = |at: u64| (now.0 >= at).then_some(next);
        self.due_at.fetch_update(Relaxed, Relaxed, due).ok()?;
        Some(self.token(millis(now)))
    }

    /// A frame came again that may be in a loop: the next beacon, which tells, is due now, unless
    /// there were [`HURRIED`] already.
    pub fn hurry(&self, now: Instant) {
        if now < self.due_at() && self.hurried.take(now) {
            self.due_at.fetch_min(now.0, Relaxed);
        }
    }

    /// Whether this is a token of ours, made within [`TOKEN_LIFETIME`].
    pub fn is_ours(&self, now: Instant, token: u64) -> bool {
        let now = millis(now);
        let age = now.wrapping_sub(token) & TIME_MASK;
        let made = now.checked_sub(age);
        u128::from(age) <= TOKEN_LIFETIME.as_millis()
            && made.is_some_and(|made| self.token(made) == token)
    }

    fn token(&self, millis: u64) -> u64 {
        let hash = self.hasher.hash_one(("beacon", millis));
        hash & !TIME_MASK | millis & TIME_MASK
    }
}

fn millis(now: Instant) -> u64 {
    now.0 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(millis * 1000)
    }

    fn beacons() -> Beacons {
        Beacons::new(KeyedHasher(1, 2))
    }

    #[test]
    fn what_is_written_is_read() {
        let beacon = Beacon {
            mesh: 0x0102_0304_0506_0708,
            netid: NetId(0x2A),
            token: 0x1112_1314_1516_1718,
        };
        let mut bytes = [0xa5; LEN];
        beacon.emit(&mut bytes);
        let mut expected = vec![0xFF; 6];
        expected.extend([0x06, 0xAC, 0, 0, 0, 0x2A, 0x88, 0xB5, 0xAC, 0x01]);
        expected.extend(*b"lo\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x2A");
        expected.extend([0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        expected.resize(60, 0);
        assert_eq!(bytes[..], expected);
        let frame = Frame::read(&bytes).unwrap();
        assert_eq!(Beacon::read(&frame), Some(beacon));
        // The bytes end with the token, or it is no beacon.
        assert!(Beacon::read(&Frame::read(&bytes[..38]).unwrap()).is_some());
        assert_eq!(Beacon::read(&Frame::read(&bytes[..37]).unwrap()), None);
        bytes[17] ^= 1;
        assert_eq!(Beacon::read(&Frame::read(&bytes).unwrap()), None);
    }

    #[test]
    fn one_is_due_every_ten_seconds_for_one_worker() {
        let beacons = beacons();
        assert!(beacons.take(at(3_000)).is_some());
        assert_eq!(beacons.take(at(3_000)), None);
        assert_eq!(beacons.due_at(), at(13_000));
        assert_eq!(beacons.take(at(13_000) - Duration::from_micros(1)), None);
        assert!(beacons.take(at(13_000)).is_some());
    }

    #[test]
    fn eight_are_hurried_at_once_and_two_a_second_later() {
        let beacons = beacons();
        let hurried = |now: Instant| {
            // Asked twice, since a due one needs no hurry.
            beacons.hurry(now);
            beacons.hurry(now);
            beacons.take(now).is_some()
        };
        assert!(beacons.take(at(0)).is_some());
        assert_eq!((0..20).filter(|_| hurried(at(1))).count(), 8);
        assert!(!hurried(at(500)));
        assert!(hurried(at(501)));
        assert!(!hurried(at(501)));
        assert_eq!(beacons.due_at(), at(10_501));
    }

    #[test]
    fn a_token_is_ours_for_five_seconds() {
        let beacons = beacons();
        let token = beacons.take(at(20_000)).unwrap();
        assert!(beacons.is_ours(at(20_000), token));
        assert!(beacons.is_ours(at(25_000), token));
        assert!(!beacons.is_ours(at(25_001), token));
        // Made up, another node's, from before the clock began, or from four hours ago.
        assert!(!beacons.is_ours(at(20_000), token ^ 1 << 30));
        assert!(!beacons.is_ours(at(20_000), token ^ 1));
        assert!(!Beacons::new(KeyedHasher(1, 3)).is_ours(at(20_000), token));
        assert!(!beacons.is_ours(at(1), token));
        assert!(!beacons.is_ours(at(20_000 + (1 << 24)), token));
    }
}
