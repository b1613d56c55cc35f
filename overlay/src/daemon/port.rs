//! Where the device meets the mesh: packets or frames to messages, and back.
//!
//! A [`Port`] is a worker's own. It hides from the data loop whether the device is TUN or TAP: what
//! stands in front of a packet in Data (nothing, or the frame byte 0xC0), who decides where a
//! packet goes, and what is answered into the device.
//!
//! Both kinds clamp TCP's segment size for hosts behind the node ([`mss`] draws where); for the
//! node's own connections there is nothing to clamp, since its kernel knows the device's MTU.

use std::ops::Range;

use wire::service::ETHERNET_FRAME;
use wire::{Flags, HEADER_LEN, NetId};

use super::shared::Snapshot;
use crate::pump::Packet;
use crate::pump::count::DropReason;
use crate::route::beacon;
use crate::route::hold::Released;
use crate::route::icmp::{Answer, MAX_ANSWER_LEN};
use crate::route::mss;
use crate::route::routes::Routes;
use crate::route::tap::{self, Tap};
use crate::route::tun::{self, Tun};
use crate::time::Instant;

/// What kind of device there is, with what decides about its packets.
#[derive(Debug)]
pub enum Port {
    /// None: everything for a device is dropped and counted.
    None,
    /// IP packets.
    Tun(Box<TunPort>),
    /// Ethernet frames.
    Tap(Box<TapPort>),
}

/// A TUN device's port.
#[derive(Debug)]
pub struct TunPort {
    tun: Tun,
    mtu: u16,
    answer: Box<[u8; MAX_ANSWER_LEN]>,
    answer_len: Option<usize>,
}

/// A TAP device's port.
#[derive(Debug)]
pub struct TapPort {
    tap: Tap,
    mtu: u16,
    beacon: [u8; beacon::LEN],
}

/// A packet that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// To whom.
    pub dst: NetId,
    /// How.
    pub flags: Flags,
}

impl Port {
    /// A port for IP packets.
    ///
    /// Units: `mtu` the device's, in bytes of an IP packet.
    pub fn tun(tun: Tun, mtu: u16) -> Self {
        let answer = Box::new([0; MAX_ANSWER_LEN]);
        Self::Tun(Box::new(TunPort {
            tun,
            mtu,
            answer,
            answer_len: None,
        }))
    }

    /// A port for Ethernet frames; `mtu` as for [`Self::tun`].
    pub fn tap(tap: Tap, mtu: u16) -> Self {
        let beacon = [0; beacon::LEN];
        Self::Tap(Box::new(TapPort { tap, mtu, beacon }))
    }

    /// Bytes that must be free in front of each packet read.
    pub fn headroom(&self) -> usize {
        HEADER_LEN + self.extra() as usize
    }

    /// Bytes between header and packet.
    pub fn extra(&self) -> u32 {
        match self {
            Self::None | Self::Tun(_) => 0,
            Self::Tap(_) => 1,
        }
    }

    /// Decides about a packet read from the device.
    ///
    /// # Errors
    /// Why it is not sent now; `None` when it is held. There may be an answer to take.
    pub fn outgoing(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        packet: &[u8],
    ) -> Result<Sending, Option<DropReason>> {
        let to = |dst| {
            Ok(Sending {
                dst,
                flags: Flags::NONE,
            })
        };
        let grants = snapshot.routes.grants();
        if !grants.is_empty() {
            let (mesh, me) = (snapshot.routes.mesh(), snapshot.routes.me());
            let judged = match self {
                Self::Tap(_) => grants.judge_frame(mesh, me, packet),
                _ => grants.judge_packet(mesh, me, packet),
            };
            judged.map_err(Some)?;
        }
        match self {
            Self::None => Err(Some(DropReason::NoDevice)),
            Self::Tun(port) => {
                let routes = &snapshot.routes;
                match port
                    .tun
                    .outgoing(now, routes, &snapshot.underlay, packet, packet.len())
                {
                    tun::Outgoing::To(netid) => to(netid),
                    tun::Outgoing::All => to(NetId::ALL),
                    tun::Outgoing::Hold => match port.tun.hold(now, packet) {
                        Ok(()) => Err(None),
                        Err(reason) => Err(Some(reason)),
                    },
                    tun::Outgoing::Answer(answer) => {
                        port.make(now, routes, answer, packet);
                        Err(Some(answer.reason()))
                    }
                    tun::Outgoing::Drop(reason) => Err(Some(reason)),
                }
            }
            Self::Tap(port) => {
                let known = |netid| snapshot.known.contains(netid);
                match port.tap.outgoing(now, known, packet, packet.len()) {
                    tap::Outgoing::To(netid) => to(netid),
                    tap::Outgoing::All => to(NetId::ALL),
                    tap::Outgoing::Drop(reason) => Err(Some(reason)),
                }
            }
        }
    }

    /// Decides whether a payload that a node sent goes to the device; gives the bytes in front of
    /// the packet or frame that do not.
    ///
    /// # Errors
    /// Why not.
    pub fn incoming(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        packet: Packet,
        payload: &[u8],
    ) -> Result<u32, DropReason> {
        let origin = packet.origin;
        let frame = payload.strip_prefix(&[ETHERNET_FRAME]);
        let grants = snapshot.routes.grants();
        if !grants.is_empty() {
            let mesh = snapshot.routes.mesh();
            match frame {
                Some(frame) => grants.judge_frame(mesh, origin, frame)?,
                None => grants.judge_packet(mesh, origin, payload)?,
            }
        }
        match (self, frame) {
            (Self::None, _) => Err(DropReason::NoDevice),
            (Self::Tun(_), Some(_)) | (Self::Tap(_), None) => Err(DropReason::WrongMode),
            (Self::Tun(port), None) => {
                let routes = &snapshot.routes;
                if packet.dst == NetId::ALL && !tun::may_be_for_all(routes, payload) {
                    return Err(DropReason::BadPacket);
                }
                port.tun.incoming(now, routes, origin, payload).map(|()| 0)
            }
            (Self::Tap(port), Some(frame)) => {
                let known = |netid| snapshot.known.contains(netid);
                let to_all = packet.dst == NetId::ALL;
                port.tap
                    .incoming(now, known, origin, to_all, frame)
                    .map(|()| 1)
            }
        }
    }

    /// Writes what stands between header and packet, into the headroom; gives where it starts.
    pub fn frame(&self, arena: &mut [u8], start: u32) -> u32 {
        match self {
            Self::None | Self::Tun(_) => start,
            Self::Tap(_) => {
                let start = start - self.extra();
                arena[start as usize] = ETHERNET_FRAME;
                start
            }
        }
    }

    /// Whether [`Self::edit`] would change this packet or frame.
    pub fn edits(&self, packet: &[u8]) -> bool {
        self.clamped(packet)
            .is_some_and(|(range, mtu)| packet.get(range).is_some_and(|ip| mss::exceeds(ip, mtu)))
    }

    /// Clamps TCP's segment size, in a packet just read from the device or in a delivery copy.
    pub fn edit(&self, packet: &mut [u8]) {
        if let Some((range, mtu)) = self.clamped(packet)
            && let Some(ip) = packet.get_mut(range)
        {
            // The plain device gives and takes whole checksums.
            mss::clamp(ip, mtu, false);
        }
    }

    /// Where the IP packet lies, and what it has to fit into.
    fn clamped(&self, packet: &[u8]) -> Option<(Range<usize>, u16)> {
        match self {
            Self::None => None,
            Self::Tun(port) => Some((0..packet.len(), port.mtu)),
            Self::Tap(port) => Some((mss::packet_in(packet)?, port.mtu)),
        }
    }

    /// Packets that need wait no longer: `Ok` goes out, `Err` waited in vain.
    ///
    /// Cost: allocates; at most 16 packets, and only while some wait.
    pub fn release(&mut self, now: Instant, routes: &Routes) -> Vec<Result<Vec<u8>, Vec<u8>>> {
        let mut released = Vec::new();
        if let Self::Tun(port) = self {
            port.tun.release(now, routes, |packet, what| {
                let packet = packet.to_vec();
                released.push(match what {
                    Released::Found(_) => Ok(packet),
                    Released::Expired => Err(packet),
                });
            });
        }
        released
    }

    /// When [`Self::release`] has something to do though no snapshot came; `None` while nothing
    /// is held.
    pub fn held_until(&self) -> Option<Instant> {
        match self {
            Self::Tun(port) => port.tun.next_timeout(),
            Self::None | Self::Tap(_) => None,
        }
    }

    /// When there is something to do though nothing arrives.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::Tap(port) => Some(port.tap.next_beacon()),
            Self::None | Self::Tun(_) => self.held_until(),
        }
    }

    /// The loop-detect beacon to be written to the device, if one is due.
    pub fn take_beacon(&mut self, now: Instant) -> Option<&[u8]> {
        let Self::Tap(port) = self else {
            return None;
        };
        let len = port.tap.beacon(now, &mut port.beacon)?;
        port.beacon.get(..len)
    }

    /// Makes the answer that says that nobody has the packet's destination.
    pub fn make_unreachable(&mut self, now: Instant, routes: &Routes, packet: &[u8]) {
        if let Self::Tun(port) = self {
            port.make(now, routes, Answer::Unreachable, packet);
        }
    }

    /// The packet to be written to the device in answer to the one decided about last.
    pub fn take_answer(&mut self) -> Option<&[u8]> {
        let Self::Tun(port) = self else {
            return None;
        };
        let len = port.answer_len.take()?;
        port.answer.get(..len)
    }
}

impl TunPort {
    fn make(&mut self, now: Instant, routes: &Routes, answer: Answer, packet: &[u8]) {
        self.answer_len = self
            .tun
            .answer(now, routes, answer, packet, &mut self.answer[..]);
    }
}

#[cfg(test)]
mod tests;
