//! TAP mode: to whom a frame of the device goes, and whether a frame of the mesh may be delivered.
//!
//! How a worker uses it:
//!
//! ```text
//! device readable   tap.outgoing(now, &known, frame, largest)
//!                     To(netid)     originate Data 0xC0 with that dst
//!                     All           originate Data 0xC0 with dst ffffffff
//!                     Drop(reason)  count it
//! Data 0xC0 for us  tap.incoming(now, &known, from, to_all, frame), where `to_all` says that the
//!                   message's dst was ffffffff: deliver, or count the reason. A frame that may be
//!                   delivered is entered into the loop guard there, before the caller coalesces.
//! tap.next_beacon() reached
//!                   tap.beacon(now, &mut buffer): a frame to write to the device
//! ```
//!
//! `known` says whether a netid is a node of the mesh that we heard of: only then its derived MAC
//! counts. It is asked once a second per flow. The control side calls
//! [`Switch::sweep`] and [`Switch::take_alarms`] once a second.
//!
//! Frames above the MTU (payload behind Ethernet header and tags) are dropped and counted, as a
//! switch does: `packet_too_big` on the way out, `too_big_for_device` on the way in. Nobody is told,
//! since a bridge has no address to answer from; TCP is kept below by [`mss`](super::mss), and what
//! else is bridged needs the mesh's MTU on its hosts. Longer frames than that mostly never get here:
//! the kernel's bridge drops what exceeds a port's MTU.
//!
//! Loops (two nodes that bridge the same LAN) end in three ways, of which [`guard`](super::guard)
//! tells. When our [`beacon`] comes back by a node, everything that we would send it
//! or take from it has another way, and both stop for a minute; only what is for a node's own device
//! still passes, since that ends there. A frame for a single station on a known way is not entered
//! into the guard; where it circles, a sample finds it and the beacon is asked.

mod sample;

use std::sync::Arc;

use crate::budget::{Bucket, Rate};
use crate::id::NetId;
use crate::pump::count::DropReason;
use crate::route::address::{mac, mac_owner};
use crate::route::beacon::{self, Beacon};
use crate::route::cache::{FlowCache, FlowKey};
use crate::route::frame::{Frame, Station};
use crate::route::guard::Seen;
use crate::route::storm::FloodClass;
use crate::route::switch::Switch;
use crate::time::Instant;
use sample::Samples;

/// Beacons of others that a worker floods: some dozens of nodes on one LAN, two a second of each.
const BEACONS: Rate = Rate::per_second(100, 200);

/// What becomes of a frame from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// To this node.
    To(NetId),
    /// To every node.
    All,
    /// Dropped.
    Drop(DropReason),
}

/// One worker's view of a TAP device.
#[derive(Debug)]
pub struct Tap {
    mtu: u16,
    switch: Arc<Switch>,
    /// Where frames of this source and destination go.
    flows: FlowCache<Flow, NetId>,
    /// Sources that were learned at this port.
    sources: FlowCache<Source, ()>,
    /// Stations on the device's side.
    here: FlowCache<Station, ()>,
    /// What of that was written.
    samples: Samples,
    beacons: Bucket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow(Station, Station);

impl FlowKey for Flow {
    fn fold(&self) -> u64 {
        self.0.fold().rotate_left(32) ^ self.1.fold()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source(NetId, Station);

impl FlowKey for Source {
    fn fold(&self) -> u64 {
        u64::from(self.0.0).rotate_left(32) ^ self.1.fold()
    }
}

impl Tap {
    /// Units: `mtu` the device's, in bytes of payload behind the Ethernet header and tags.
    pub fn new(mtu: u16, switch: Arc<Switch>) -> Self {
        Self {
            mtu,
            switch,
            flows: FlowCache::new(),
            sources: FlowCache::new(),
            here: FlowCache::new(),
            samples: Samples::default(),
            beacons: Bucket::new(BEACONS),
        }
    }

    /// Decides about a frame read from the device.
    ///
    /// Shape: `frame` one whole frame or super-frame; `largest` the bytes of the largest frame that
    /// leaves: `frame.len()`, or the segment's length with headers.
    /// Cost: for a flow seen this second one cache slot; else look-ups and a hash of the frame.
    pub fn outgoing(
        &mut self,
        now: Instant,
        known: impl Fn(NetId) -> bool,
        frame: &[u8],
        largest: usize,
    ) -> Outgoing {
        let Some(read) = Frame::read(frame) else {
            return Outgoing::Drop(DropReason::BadDevicePacket);
        };
        let header_len = frame.len() - read.payload.len();
        if largest > header_len + usize::from(self.mtu) {
            return Outgoing::Drop(DropReason::PacketTooBig);
        }
        self.renew(now);
        let flow = Flow(read.source, read.destination);
        if let Some(netid) = self.flows.find(&flow) {
            return Outgoing::To(netid);
        }
        match self.decide(now, &known, frame, &read) {
            Ok(Some(netid)) => {
                self.flows.put(flow, netid);
                Outgoing::To(netid)
            }
            Ok(None) => Outgoing::All,
            Err(reason) => Outgoing::Drop(reason),
        }
    }

    /// One netid, or `None` for all.
    fn decide(
        &mut self,
        now: Instant,
        known: &impl Fn(NetId) -> bool,
        frame: &[u8],
        read: &Frame<'_>,
    ) -> Result<Option<NetId>, DropReason> {
        if let Some(beacon) = self.read_beacon(read) {
            return self.handle_beacon(now, beacon).map(|()| None);
        }
        // Frames of a cached flow are not remembered: they go to one station, found before.
        let fingerprint = self.switch.fingerprint(frame);
        let seen = self.switch.read.remember(now, fingerprint);
        if self.switch.written.knows(now, fingerprint) {
            return Err(self.suspect(now));
        }
        let me = self.switch.me;
        if !read.source.is_source() {
            return Err(DropReason::BadDevicePacket);
        }
        self.judge_source(now, known, me, read.source, DropReason::SourceNotOurs)?;
        if let Some(netid) = self.find(now, known, read.destination) {
            return if netid == me {
                Err(DropReason::OwnDestination)
            } else if self.is_in_loop(now, netid, netid, read.destination) {
                Err(DropReason::BridgeLoop)
            } else {
                Ok(Some(netid))
            };
        }
        if seen == Seen::TooOften || self.switch.is_blocked(now, me) {
            return Err(DropReason::BridgeLoop);
        }
        self.switch.judge_flood(now, me, class(read.destination))?;
        Ok(None)
    }

    /// Decides whether a frame that `from` originated may be written to the device.
    ///
    /// Shape: `frame` behind the service byte; `to_all` when the message's dst was all nodes.
    ///
    /// # Errors
    /// Why not: [`DropReason::BadPacket`], [`DropReason::TooBigForDevice`],
    /// [`DropReason::SourceClaimed`], [`DropReason::MacHeld`], [`DropReason::StormControl`],
    /// [`DropReason::BridgeLoop`].
    pub fn incoming(
        &mut self,
        now: Instant,
        known: impl Fn(NetId) -> bool,
        from: NetId,
        to_all: bool,
        frame: &[u8],
    ) -> Result<(), DropReason> {
        let read = Frame::read(frame).ok_or(DropReason::BadPacket)?;
        if read.payload.len() > usize::from(self.mtu) {
            return Err(DropReason::TooBigForDevice);
        }
        if !read.source.is_source() {
            return Err(DropReason::BadPacket);
        }
        self.renew(now);
        if let Some(beacon) = self.read_beacon(&read) {
            if beacon.netid == self.switch.me && self.switch.beacons.is_ours(now, beacon.token) {
                self.switch.block(now, from);
            }
            return Err(DropReason::BridgeLoop);
        }
        if self.is_in_loop(now, from, self.switch.me, read.destination) {
            return Err(DropReason::BridgeLoop);
        }
        let floods = to_all || read.destination.is_group();
        if !floods && self.is_here(now, read.destination) {
            // A bridge behind the device knows this station too, and does not flood the frame.
            if self.samples.come_again(now, frame) {
                self.switch.beacons.hurry(now);
            }
            return self.judge_source(now, &known, from, read.source, DropReason::SourceClaimed);
        }
        let fingerprint = self.switch.fingerprint(frame);
        if self.switch.read.knows(now, fingerprint) {
            return Err(self.suspect(now));
        }
        self.judge_source(now, &known, from, read.source, DropReason::SourceClaimed)?;
        if floods {
            self.switch
                .judge_flood(now, from, class(read.destination))?;
        }
        let seen = self.switch.written.remember(now, fingerprint);
        if seen != Seen::First {
            self.switch.beacons.hurry(now);
        }
        if seen == Seen::TooOften && floods {
            return Err(DropReason::BridgeLoop);
        }
        Ok(())
    }

    /// When the next beacon is due.
    pub fn next_beacon(&self) -> Instant {
        self.switch.beacons.due_at()
    }

    /// Writes the loop-detect beacon into `out` if it is due; returns its length.
    ///
    /// Shape: `out` at least [`beacon::LEN`] bytes.
    pub fn beacon(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let out = out.first_chunk_mut()?;
        let beacon = Beacon {
            mesh: self.switch.mesh.hash,
            netid: self.switch.me,
            token: self.switch.beacons.take(now)?,
        };
        beacon.emit(out);
        Some(beacon::LEN)
    }

    /// A beacon of this mesh; another mesh's is a frame like any other.
    fn read_beacon(&self, frame: &Frame<'_>) -> Option<Beacon> {
        Beacon::read(frame).filter(|beacon| beacon.mesh == self.switch.mesh.hash)
    }

    /// A beacon from the device: ours shows a loop there, another's is flooded to reach its sender.
    fn handle_beacon(&self, now: Instant, beacon: Beacon) -> Result<(), DropReason> {
        let me = self.switch.me;
        if beacon.netid == me {
            if self.switch.beacons.is_ours(now, beacon.token) {
                self.switch.block(now, me);
            }
            return Err(DropReason::BridgeLoop);
        }
        if self.beacons.take(now) {
            Ok(())
        } else {
            Err(DropReason::StormControl)
        }
    }

    /// A frame may be in a loop, which a beacon will tell.
    fn suspect(&self, now: Instant) -> DropReason {
        self.switch.beacons.hurry(now);
        DropReason::BridgeLoop
    }

    /// Whether a frame between us and `other`, for a station behind `there`, goes round in a loop:
    /// both of us are on the LAN that it came from. What is for a node's own device ends there.
    fn is_in_loop(&self, now: Instant, other: NetId, there: NetId, destination: Station) -> bool {
        self.switch.is_blocked(now, other) && destination.mac() != mac(there)
    }

    /// Learns the source at `port`; refuses what by arithmetic is another node's.
    fn judge_source(
        &mut self,
        now: Instant,
        known: &impl Fn(NetId) -> bool,
        port: NetId,
        station: Station,
        foreign: DropReason,
    ) -> Result<(), DropReason> {
        let source = Source(port, station);
        if self.sources.find(&source).is_some() {
            return Ok(());
        }
        let owner = mac_owner(station.mac());
        if owner.is_some_and(|owner| owner != port && (owner == self.switch.me || known(owner))) {
            return Err(foreign);
        }
        self.switch.note(now, station, port)?;
        self.sources.put(source, ());
        Ok(())
    }

    /// Where a single station is: as learned, else by arithmetic if its node is known.
    fn find(
        &self,
        now: Instant,
        known: &impl Fn(NetId) -> bool,
        station: Station,
    ) -> Option<NetId> {
        if station.is_group() {
            return None;
        }
        self.switch.find(now, station).or_else(|| {
            mac_owner(station.mac()).filter(|&owner| owner == self.switch.me || known(owner))
        })
    }

    fn is_here(&mut self, now: Instant, station: Station) -> bool {
        if self.here.find(&station).is_some() {
            return true;
        }
        let me = self.switch.me;
        let here = station.mac() == mac(me) || self.switch.find(now, station) == Some(me);
        if here {
            self.here.put(station, ());
        }
        here
    }

    fn renew(&mut self, now: Instant) {
        let epoch = self.switch.epoch();
        self.flows.renew(epoch, now);
        self.sources.renew(epoch, now);
        self.here.renew(epoch, now);
    }
}

/// What a flooded frame to `destination` counts as.
fn class(destination: Station) -> FloodClass {
    if destination.is_group() && !destination.is_broadcast() {
        FloodClass::Multicast
    } else {
        FloodClass::Broadcast
    }
}

#[cfg(test)]
mod tests;
