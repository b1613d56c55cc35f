//! The learning switch of TAP mode: which netid a station is behind, and what may be flooded.
//!
//! Shared by all workers; each asks through its own [`Tap`](super::tap::Tap), whose caches keep
//! steady flows away from the maps here. The control side calls [`Switch::sweep`] once a second and
//! reads [`Switch::take_alarms`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::id::NetId;
use crate::keyed::KeyedHasher;
use crate::pump::count::DropReason;
use crate::route::address::Mesh;
use crate::route::beacon::Beacons;
use crate::route::blocked::Blocked;
use crate::route::frame::Station;
use crate::route::guard::{Fingerprint, Guard};
use crate::route::owners::{Limits, Noted, Owners};
use crate::route::storm::{FloodClass, StormControl, StormRates};
use crate::time::{Duration, Instant};

/// Unseen for so long, a station is forgotten.
pub const LIFETIME: Duration = Duration::from_secs(300);
/// Seen within this, a station never makes room for another.
pub const PROTECTED: Duration = Duration::from_secs(30);
/// Stations in all.
pub const MAX_STATIONS: usize = 8192;
/// Stations behind one netid.
pub const MAX_OF_ONE: usize = 1024;
/// So many moves within [`MOVES_WINDOW`] are believed; one more holds the station (RFC 7432, 15.1).
pub const MAX_MOVES: u8 = 5;
/// The time in which moves are counted.
pub const MOVES_WINDOW: Duration = Duration::from_secs(180);
/// How long a station that moves too often stays where it is.
pub const MOVES_HELD: Duration = Duration::from_secs(30);
/// How long nothing is taken from a port that is part of a loop.
pub const BLOCKED: Duration = Duration::from_secs(60);
/// Alarms that wait to be read; more are left out, they would say the same.
const MAX_ALARMS: usize = 16;

/// A loop was found, and frames of `port` are not taken for [`BLOCKED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopAlarm {
    /// The node through which our beacon came back; ourselves when the device gave it back.
    pub port: NetId,
    /// When.
    pub at: Instant,
}

/// What TAP workers share.
#[derive(Debug)]
pub struct Switch {
    pub(super) me: NetId,
    pub(super) mesh: Mesh,
    stations: Owners<Station>,
    pub(super) storm: StormControl,
    /// Frames written to the TAP: read back, they are in a loop.
    pub(super) written: Guard,
    /// Frames read from the TAP: coming by the mesh, they are in a loop.
    pub(super) read: Guard,
    pub(super) beacons: Beacons,
    blocked: Blocked,
    hasher: KeyedHasher,
    /// Changes when a station moves or a port is blocked: caches made before are stale.
    epoch: AtomicU64,
    alarms: Mutex<Vec<LoopAlarm>>,
}

impl Switch {
    /// A switch that has learned nothing.
    pub fn new(me: NetId, mesh: Mesh, rates: StormRates, hasher: KeyedHasher) -> Self {
        let limits = Limits {
            total: MAX_STATIONS,
            of_one: MAX_OF_ONE,
            lifetime: LIFETIME,
            protected: PROTECTED,
        };
        Self {
            me,
            mesh,
            stations: Owners::new(limits, hasher),
            storm: StormControl::new(rates, hasher),
            written: Guard::default(),
            read: Guard::default(),
            beacons: Beacons::new(hasher),
            blocked: Blocked::new(hasher),
            hasher,
            epoch: AtomicU64::new(0),
            alarms: Mutex::new(Vec::new()),
        }
    }

    /// Behind which netid a station was learned; our own for stations on the device's side.
    pub fn find(&self, now: Instant, station: Station) -> Option<NetId> {
        Some(self.stations.find(now, &station)?.netid)
    }

    /// Learns that a frame of `station` came from `netid`.
    ///
    /// # Errors
    /// [`DropReason::MacHeld`] when it is elsewhere and has moved too often. A full table is none.
    pub(super) fn note(
        &self,
        now: Instant,
        station: Station,
        netid: NetId,
    ) -> Result<(), DropReason> {
        let Noted::Rival(_) = self.stations.note(now, station, netid) else {
            return Ok(());
        };
        let mut held = false;
        // Judged under the entry's lock, so that two workers do not count one move twice.
        self.stations.change(&station, |entry| {
            if entry.netid == netid {
                return;
            }
            if now.since(entry.moves_since) >= MOVES_WINDOW {
                (entry.moves, entry.moves_since) = (0, now);
            }
            if now < entry.held_until {
                held = true;
            } else if entry.moves >= MAX_MOVES {
                held = true;
                entry.held_until = now + MOVES_HELD;
                (entry.moves, entry.moves_since) = (0, now);
            } else {
                entry.moves += 1;
                (entry.netid, entry.seen) = (netid, now);
            }
        });
        if held {
            return Err(DropReason::MacHeld);
        }
        self.epoch.fetch_add(1, Relaxed);
        Ok(())
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    /// What a frame is called in the guards.
    pub(super) fn fingerprint(&self, frame: &[u8]) -> Fingerprint {
        Fingerprint::of(frame, self.hasher)
    }

    /// Whether frames of `port` may be flooded, within its rates.
    pub(super) fn judge_flood(
        &self,
        now: Instant,
        port: NetId,
        class: FloodClass,
    ) -> Result<(), DropReason> {
        let passes = if port == self.me {
            self.storm.from_device(now, class)
        } else {
            self.storm.from_origin(now, port, class)
        };
        if passes {
            Ok(())
        } else {
            Err(DropReason::StormControl)
        }
    }

    /// Whether a port is part of a loop: its frames reach us without the mesh.
    pub fn is_blocked(&self, now: Instant, port: NetId) -> bool {
        self.blocked.contains(now, port)
    }

    /// Blocks a port that gave our beacon back.
    pub(super) fn block(&self, now: Instant, port: NetId) {
        if !self.blocked.block(now, port, BLOCKED) {
            return;
        }
        self.epoch.fetch_add(1, Relaxed);
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        if alarms.len() < MAX_ALARMS {
            alarms.push(LoopAlarm { port, at: now });
        }
    }

    /// Loops found since the last call. By the control side.
    pub fn take_alarms(&self) -> Vec<LoopAlarm> {
        std::mem::take(&mut *self.alarms.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets what is over and makes room. Once a second, by the control side.
    pub fn sweep(&self, now: Instant) {
        self.stations.sweep(now);
    }

    /// How many stations are known.
    pub fn len(&self) -> usize {
        self.stations.len()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.stations.is_empty()
    }

    /// How many stations are behind `netid`.
    pub fn count_of(&self, netid: NetId) -> usize {
        self.stations.count_of(netid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NetId = NetId(1);

    fn switch() -> Switch {
        Switch::new(
            ME,
            Mesh::default(),
            StormRates::default(),
            KeyedHasher(1, 2),
        )
    }

    fn station(n: u32) -> Station {
        let [a, b, c, d] = n.to_be_bytes();
        Station::new([0x0A, 0, a, b, c, d], 0)
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(seconds)
    }

    #[test]
    fn a_million_stations_of_one_node_leave_the_others_known() {
        let switch = switch();
        for n in 0..100 {
            switch.note(at(0), station(n), NetId(7)).unwrap();
        }
        for n in 1000..1_001_000 {
            switch.note(at(1), station(n), NetId(8)).unwrap();
            if n % 100_000 == 0 {
                switch.sweep(at(1));
            }
        }
        assert_eq!(switch.count_of(NetId(8)), MAX_OF_ONE);
        assert_eq!(switch.len(), MAX_OF_ONE + 100);
        assert!((0..100).all(|n| switch.find(at(2), station(n)) == Some(NetId(7))));
    }

    #[test]
    fn a_million_stations_of_many_nodes_stay_within_the_bound() {
        let switch = switch();
        switch.note(at(0), station(5), NetId(7)).unwrap();
        for n in 1000..1_001_000_u32 {
            switch.note(at(1), station(n), NetId(100 + n % 50)).unwrap();
        }
        switch.sweep(at(1));
        assert_eq!(switch.len(), MAX_STATIONS);
        assert_eq!(switch.find(at(2), station(5)), Some(NetId(7)));
        // Once they are idle they make room, the oldest first.
        switch.sweep(at(32));
        assert_eq!(switch.len(), MAX_STATIONS * 7 / 8);
        switch.note(at(32), station(6), NetId(9)).unwrap();
        assert_eq!(switch.find(at(32), station(6)), Some(NetId(9)));
    }

    #[test]
    fn vlans_are_learned_apart() {
        let switch = switch();
        let mac = station(5).mac();
        switch.note(at(0), Station::new(mac, 7), NetId(7)).unwrap();
        switch.note(at(0), Station::new(mac, 8), NetId(8)).unwrap();
        assert_eq!(switch.find(at(0), Station::new(mac, 7)), Some(NetId(7)));
        assert_eq!(switch.find(at(0), Station::new(mac, 8)), Some(NetId(8)));
        assert_eq!(switch.find(at(0), Station::new(mac, 0)), None);
    }

    #[test]
    fn a_station_that_moves_more_than_five_times_is_held_for_thirty_seconds() {
        let switch = switch();
        switch.note(at(0), station(5), NetId(7)).unwrap();
        for n in 0..5_u32 {
            let netid = NetId(if n % 2 == 0 { 8 } else { 7 });
            switch.note(at(1), station(5), netid).unwrap();
            assert_eq!(switch.find(at(1), station(5)), Some(netid));
        }
        // It is at 8; one move more holds it there.
        assert_eq!(
            switch.note(at(2), station(5), NetId(7)),
            Err(DropReason::MacHeld)
        );
        assert_eq!(switch.find(at(2), station(5)), Some(NetId(8)));
        let end = at(2) + MOVES_HELD;
        let before = end - Duration::from_micros(1);
        assert_eq!(
            switch.note(before, station(5), NetId(7)),
            Err(DropReason::MacHeld)
        );
        assert_eq!(switch.note(before, station(5), NetId(8)), Ok(()));
        assert_eq!(switch.note(end, station(5), NetId(7)), Ok(()));
    }

    #[test]
    fn slow_moves_are_believed() {
        let switch = switch();
        for n in 0..40_u32 {
            let now = at(u64::from(n) * 40);
            assert_eq!(
                switch.note(now, station(5), NetId(7 + n % 2)),
                Ok(()),
                "{n}"
            );
        }
    }

    #[test]
    fn a_block_ends_after_a_minute_and_is_told_once() {
        let switch = switch();
        switch.block(at(5), NetId(9));
        switch.block(at(15), NetId(9));
        assert_eq!(
            switch.take_alarms(),
            [LoopAlarm {
                port: NetId(9),
                at: at(5)
            }]
        );
        assert_eq!(switch.take_alarms(), []);
        let end = at(15) + BLOCKED;
        assert!(switch.is_blocked(end - Duration::from_micros(1), NetId(9)));
        assert!(!switch.is_blocked(end, NetId(9)));
        assert!(!switch.is_blocked(at(16), NetId(8)));
    }
}
