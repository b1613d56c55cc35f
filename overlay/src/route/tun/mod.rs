//! TUN mode: to whom a packet of the device goes, and whether a packet of the mesh may be delivered.
//!
//! How a worker uses it:
//!
//! ```text
//! device readable   for each packet:  tun.outgoing(now, &routes, &underlay, packet, largest)
//!                     To(netid)       originate Data with that dst
//!                     All             originate Data with dst ffffffff
//!                     Hold            tun.hold(now, packet); a drop reason back is counted
//!                     Answer(answer)  count answer.reason(); tun.answer(now, .., &mut buffer)
//!                                     gives an ICMP packet to write to the device
//!                     Drop(reason)    count it
//! new snapshot, or tun.next_timeout() reached:
//!                     tun.release(now, &routes, |packet, released| ..) as above: Found(netid) is
//!                     To(netid), Expired counts HoldExpired and is answered
//! Data for us       tun.incoming(now, &routes, from, payload): deliver, or count the reason
//! ```
//!
//! A super-packet (TSO, USO) is judged once: its segments share both addresses. `largest` is then
//! the length of its largest segment. To hold it, split it first.

use std::net::IpAddr;
use std::sync::Arc;

use crate::budget::{Bucket, Rate};
use crate::id::NetId;
use crate::planted::{self, Mistake};
use crate::pump::count::DropReason;
use crate::route::cache::{FlowCache, FlowKey, fold};
use crate::route::hold::{Hold, Released};
use crate::route::icmp::{self, Answer};
use crate::route::learned::Learned;
use crate::route::packet::{Packet, is_no_source};
use crate::route::routes::Routes;
use crate::route::underlay::Underlay;
use crate::time::Instant;

/// ICMP answers of one worker: enough to be told, too few to amplify anything.
pub const ANSWERS: Rate = Rate::per_second(10, 10);

/// What becomes of a packet from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// To this node.
    To(NetId),
    /// To every node: multicast or broadcast.
    All,
    /// Nobody has claimed the destination yet: hold it.
    Hold,
    /// Dropped, and the sender is to be told.
    Answer(Answer),
    /// Dropped.
    Drop(DropReason),
}

/// One worker's view of a TUN device.
#[derive(Debug)]
pub struct Tun {
    mtu: u16,
    learned: Arc<Learned>,
    held: Hold,
    answers: Bucket,
    /// Where packets of this source and destination go.
    outgoing: FlowCache<Pair, NetId>,
    /// Sources that this netid may use.
    incoming: FlowCache<Speaker, ()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair(IpAddr, IpAddr);

impl FlowKey for Pair {
    fn fold(&self) -> u64 {
        fold(self.0).rotate_left(32) ^ fold(self.1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Speaker(NetId, IpAddr);

impl FlowKey for Speaker {
    fn fold(&self) -> u64 {
        u64::from(self.0.0).rotate_left(32) ^ fold(self.1)
    }
}

impl Tun {
    /// Units: `mtu` the device's, in bytes.
    pub fn new(mtu: u16, learned: Arc<Learned>) -> Self {
        Self {
            mtu,
            learned,
            held: Hold::new(usize::from(mtu)),
            answers: Bucket::new(ANSWERS),
            outgoing: FlowCache::new(),
            incoming: FlowCache::new(),
        }
    }

    /// Decides about a packet read from the device.
    ///
    /// Shape: `packet` one whole IP packet or super-packet; `largest` the bytes of the largest
    /// packet that leaves: `packet.len()`, or the segment's length with headers.
    /// Cost: for a flow seen this second one cache slot; else look-ups without allocation.
    pub fn outgoing(
        &mut self,
        now: Instant,
        routes: &Routes,
        underlay: &Underlay,
        packet: &[u8],
        largest: usize,
    ) -> Outgoing {
        let Some(packet) = Packet::read(packet) else {
            return Outgoing::Drop(DropReason::BadDevicePacket);
        };
        if underlay.carries(&packet) {
            return Outgoing::Drop(DropReason::OverlayLoop);
        }
        if largest > usize::from(self.mtu) {
            return Outgoing::Answer(Answer::TooBig { mtu: self.mtu });
        }
        self.outgoing.renew(routes.epoch(), now);
        let pair = Pair(packet.source, packet.destination);
        if let Some(netid) = self.outgoing.find(&pair) {
            return Outgoing::To(netid);
        }
        if let Some(reason) = judge_own_source(routes, &packet) {
            return Outgoing::Drop(reason);
        }
        if routes.is_for_all(packet.destination) {
            return Outgoing::All;
        }
        let destination = packet.destination;
        match find(now, routes, &self.learned, destination) {
            Some(netid) if netid == routes.me() => Outgoing::Drop(DropReason::OwnDestination),
            Some(netid) => {
                self.outgoing.put(pair, netid);
                Outgoing::To(netid)
            }
            None if !routes.may_appear(destination) || self.held.has_given_up(now, destination) => {
                Outgoing::Answer(Answer::Unreachable)
            }
            None => Outgoing::Hold,
        }
    }

    /// Keeps a copy of `packet` until its destination is claimed; the reason when it cannot.
    pub fn hold(&mut self, now: Instant, packet: &[u8]) -> Result<(), DropReason> {
        let packet = Packet::read(packet).ok_or(DropReason::BadDevicePacket)?;
        let kept = self.held.push(now, packet.destination, packet.bytes());
        if kept {
            Ok(())
        } else {
            Err(DropReason::HoldFull)
        }
    }

    /// Hands out packets whose destination is known by now, and those that waited in vain.
    pub fn release(
        &mut self,
        now: Instant,
        routes: &Routes,
        each: impl FnMut(&[u8], Released<NetId>),
    ) {
        let learned = &self.learned;
        self.held
            .release(now, |address| find(now, routes, learned, address), each);
    }

    /// When [`Self::release`] has something to do though no snapshot came.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.held.next_timeout()
    }

    /// Builds an ICMP packet for the device that answers `packet`; returns its length, or `None`
    /// when there must be no answer or there were too many.
    ///
    /// Shape: `out` at least [`icmp::MAX_ANSWER_LEN`] bytes.
    pub fn answer(
        &mut self,
        now: Instant,
        routes: &Routes,
        answer: Answer,
        packet: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let len = icmp::build(answer, routes, packet, out)?;
        self.answers.take(now).then_some(len)
    }

    /// Decides whether a packet that `from` originated may be written to the device.
    ///
    /// # Errors
    /// Why not: [`DropReason::BadPacket`], [`DropReason::TooBigForDevice`],
    /// [`DropReason::SourceClaimed`].
    pub fn incoming(
        &mut self,
        now: Instant,
        routes: &Routes,
        from: NetId,
        packet: &[u8],
    ) -> Result<(), DropReason> {
        let packet = Packet::read(packet).ok_or(DropReason::BadPacket)?;
        if packet.bytes().len() > usize::from(self.mtu) {
            return Err(DropReason::TooBigForDevice);
        }
        self.incoming.renew(routes.epoch(), now);
        let speaker = Speaker(from, packet.source);
        if packet.destination.is_loopback() {
            return Err(DropReason::BadPacket);
        }
        if self.incoming.find(&speaker).is_some() {
            return Ok(());
        }
        if packet.source.is_unspecified() {
            // A host without an address asks for one, or whether one is free (RFC 4862, 5.4.2).
            let asks = routes.is_for_all(packet.destination);
            return if asks {
                Ok(())
            } else {
                Err(DropReason::BadPacket)
            };
        }
        if is_no_source(packet.source) {
            return Err(DropReason::BadPacket);
        }
        self.judge_source(now, routes, speaker)?;
        self.incoming.put(speaker, ());
        Ok(())
    }

    /// Refuses a source only on contradiction: another node holds the address.
    fn judge_source(
        &self,
        now: Instant,
        routes: &Routes,
        Speaker(from, source): Speaker,
    ) -> Result<(), DropReason> {
        let contradicted = match routes.find(source) {
            Some(holder) => holder != from,
            None if !routes.may_appear(source) => false,
            None if routes.claims(from) => self.learned.contradicts(now, source, from),
            None => self.learned.note(now, source, from),
        };
        if contradicted && !planted::is(Mistake::BelieveSources) {
            return Err(DropReason::SourceClaimed);
        }
        Ok(())
    }
}

/// Whether Data for all nodes may carry this packet: one that its sender had to say to all. Whatever is for
/// one node comes to that one alone, since what is for all shows less of who said it.
pub fn may_be_for_all(routes: &Routes, packet: &[u8]) -> bool {
    Packet::read(packet).is_some_and(|packet| routes.is_for_all(packet.destination))
}

/// By arithmetic, by claim, else as learned, unless who was learned with it has begun to claim.
fn find(now: Instant, routes: &Routes, learned: &Learned, address: IpAddr) -> Option<NetId> {
    routes.find(address).or_else(|| {
        learned
            .find(now, address)
            .filter(|&netid| !routes.claims(netid))
    })
}

/// Why the kernel must not send with this source into the mesh.
fn judge_own_source(routes: &Routes, packet: &Packet<'_>) -> Option<DropReason> {
    if packet.source.is_unspecified() {
        let asks = routes.is_for_all(packet.destination);
        return (!asks).then_some(DropReason::BadDevicePacket);
    }
    if is_no_source(packet.source) {
        return Some(DropReason::BadDevicePacket);
    }
    let holder = routes.find(packet.source);
    holder
        .is_some_and(|holder| holder != routes.me())
        .then_some(DropReason::SourceNotOurs)
}

#[cfg(test)]
mod tests;
