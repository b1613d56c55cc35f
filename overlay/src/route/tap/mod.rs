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
//! The beacon (EtherType 0x88B5, IEEE 802 local experimental 1) is a broadcast frame:
//!
//! ```text
//! | ff:ff:ff:ff:ff:ff | 06:ac + netid | 88B5 | ac 01 6c 6f | mesh hash (64) | netid (32) | token (64) | 0.. |
//! ```
//!
//! Read back from our own device it shows a loop there. Another node that reads it from its device
//! floods it, and so it comes back to us from that node: both bridge the same LAN. Either way that
//! port's flooded frames are not taken for a minute. Nobody delivers a beacon that came by the mesh.

use std::sync::Arc;

use crate::id::NetId;
use crate::pump::count::DropReason;
use crate::route::address::{mac, mac_owner};
use crate::route::cache::{FlowCache, FlowKey};
use crate::route::frame::{Frame, MIN_LEN, Station};
use crate::route::storm::{Bucket, FloodClass, Rate};
use crate::route::switch::Switch;
use crate::time::Instant;

/// The beacon's EtherType.
pub const BEACON_ETHERTYPE: u16 = 0x88B5;
/// Bytes of a beacon frame.
pub const BEACON_LEN: usize = MIN_LEN;
const BEACON_MAGIC: [u8; 4] = [0xAC, 0x01, b'l', b'o'];
/// Beacons of others that a worker floods: some dozens of nodes on one LAN, every ten seconds.
const BEACONS: Rate = Rate {
    per_second: 10,
    burst: 50,
};

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
            beacons: Bucket::default(),
        }
    }

    /// Decides about a frame read from the device.
    ///
    /// Shape: `frame` one whole frame or super-frame; `largest` the bytes of the largest frame that
    /// leaves: `frame.len()`, or the segment's length with headers.
    /// Cost: for a flow seen this second one cache slot; else look-ups and hashes of 128 bytes.
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
        self.switch.read.remember(now, frame);
        if self.switch.written.knows(now, frame) {
            return Err(DropReason::BridgeLoop);
        }
        let me = self.switch.me;
        if !read.source.is_source() {
            return Err(DropReason::BadDevicePacket);
        }
        self.judge_source(now, known, me, read.source, DropReason::SourceNotOurs)?;
        if let Some(netid) = self.find(now, known, read.destination) {
            return if netid == me {
                Err(DropReason::OwnDestination)
            } else {
                Ok(Some(netid))
            };
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
            if beacon.0 == self.switch.me && self.switch.is_our_token(beacon.1) {
                self.switch.block(now, from);
            }
            return Err(DropReason::BridgeLoop);
        }
        let floods = to_all || read.destination.is_group();
        if !floods && self.is_here(now, read.destination) {
            // A bridge behind the device knows this station too, and does not flood the frame.
            return self.judge_source(now, &known, from, read.source, DropReason::SourceClaimed);
        }
        if self.switch.read.knows(now, frame) {
            return Err(DropReason::BridgeLoop);
        }
        self.judge_source(now, &known, from, read.source, DropReason::SourceClaimed)?;
        if floods {
            self.switch
                .judge_flood(now, from, class(read.destination))?;
        }
        if self.switch.written.remember(now, frame) {
            self.switch.hurry_beacon(now);
        }
        Ok(())
    }

    /// When the next beacon is due.
    pub fn next_beacon(&self) -> Instant {
        self.switch.next_beacon()
    }

    /// Writes the loop-detect beacon into `out` if it is due; returns its length.
    ///
    /// Shape: `out` at least [`BEACON_LEN`] bytes.
    pub fn beacon(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let frame = out.get_mut(..BEACON_LEN)?;
        let token = self.switch.take_beacon(now)?;
        let me = self.switch.me.0.to_be_bytes();
        frame.fill(0);
        frame[..6].fill(0xFF);
        // Not the device's own address, which a bridge would report as spoofed.
        frame[6..8].copy_from_slice(&[0x06, 0xAC]);
        frame[8..12].copy_from_slice(&me);
        frame[12..14].copy_from_slice(&BEACON_ETHERTYPE.to_be_bytes());
        frame[14..18].copy_from_slice(&BEACON_MAGIC);
        frame[18..26].copy_from_slice(&self.switch.mesh.hash.to_be_bytes());
        frame[26..30].copy_from_slice(&me);
        frame[30..38].copy_from_slice(&token.to_be_bytes());
        Some(BEACON_LEN)
    }

    /// Whose beacon this is, and its token; another mesh's is a frame like any other.
    fn read_beacon(&self, frame: &Frame<'_>) -> Option<(NetId, u64)> {
        if frame.ethertype != BEACON_ETHERTYPE {
            return None;
        }
        let payload: &[u8; 24] = frame.payload.first_chunk()?;
        let (magic, rest) = payload.split_first_chunk::<4>()?;
        let (mesh, rest) = rest.split_first_chunk::<8>()?;
        let (netid, rest) = rest.split_first_chunk::<4>()?;
        let token = rest.first_chunk::<8>()?;
        let ours = *magic == BEACON_MAGIC && u64::from_be_bytes(*mesh) == self.switch.mesh.hash;
        let netid = NetId(u32::from_be_bytes(*netid));
        ours.then(|| (netid, u64::from_be_bytes(*token)))
    }

    /// A beacon from the device: ours shows a loop there, another's is flooded to reach its sender.
    fn handle_beacon(&self, now: Instant, (netid, token): (NetId, u64)) -> Result<(), DropReason> {
        let me = self.switch.me;
        if netid == me {
            if self.switch.is_our_token(token) {
                self.switch.block(now, me);
            }
            return Err(DropReason::BridgeLoop);
        }
        if self.beacons.take(now, BEACONS) {
            Ok(())
        } else {
            Err(DropReason::StormControl)
        }
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
