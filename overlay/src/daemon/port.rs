//! Where the device meets the mesh: packets or frames to messages, and back.
//!
//! A [`Port`] is a worker's own. It hides from the data loop whether the device is TUN or TAP: what
//! stands in front of a packet in Data (nothing, or the frame byte 0xC0), who decides where a
//! packet goes, and what is answered into the device.

use wire::{Flags, HEADER_LEN, NetId};

use super::shared::Snapshot;
use crate::pump::count::DropReason;
use crate::route::hold::Released;
use crate::route::icmp::{Answer, MAX_ANSWER_LEN};
use crate::route::routes::Routes;
use crate::route::tun::{self, Tun};
use crate::time::Instant;

/// What kind of device there is, with what decides about its packets.
pub enum Port {
    /// None: everything for a device is dropped and counted.
    None,
    /// IP packets.
    Tun(Box<TunPort>),
}

/// A TUN device's port.
pub struct TunPort {
    tun: Tun,
    answer: Box<[u8; MAX_ANSWER_LEN]>,
    answer_len: Option<usize>,
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
    pub fn tun(tun: Tun) -> Self {
        let answer = Box::new([0; MAX_ANSWER_LEN]);
        Self::Tun(Box::new(TunPort {
            tun,
            answer,
            answer_len: None,
        }))
    }

    /// Bytes that must be free in front of each packet read.
    pub fn headroom(&self) -> usize {
        HEADER_LEN + self.extra() as usize
    }

    /// Bytes between header and packet.
    pub fn extra(&self) -> u32 {
        match self {
            Self::None | Self::Tun(_) => 0,
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
        }
    }

    /// Decides whether a payload that `origin` sent goes to the device; gives the bytes in front
    /// of the packet or frame that do not.
    ///
    /// # Errors
    /// Why not.
    pub fn incoming(
        &mut self,
        now: Instant,
        routes: &Routes,
        origin: NetId,
        payload: &[u8],
    ) -> Result<u32, DropReason> {
        let is_frame = payload.first() == Some(&wire::service::ETHERNET_FRAME);
        match self {
            Self::None => Err(DropReason::NoDevice),
            Self::Tun(_) if is_frame => Err(DropReason::WrongMode),
            Self::Tun(port) => port.tun.incoming(now, routes, origin, payload).map(|()| 0),
        }
    }

    /// Writes what stands between header and packet, into the headroom; gives where it starts.
    pub fn frame(&self, _arena: &mut [u8], start: u32) -> u32 {
        match self {
            Self::None | Self::Tun(_) => start,
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

    /// When [`Self::release`] has something to do though no snapshot came.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::Tun(port) => port.tun.next_timeout(),
        }
    }

    /// Makes the answer that says that nobody has the packet's destination.
    pub fn make_unreachable(&mut self, now: Instant, routes: &Routes, packet: &[u8]) {
        if let Self::Tun(port) = self {
            port.make(now, routes, Answer::Unreachable, packet);
        }
    }

    /// The packet to be written to the device in answer to the one decided about last.
    pub fn take_answer(&mut self) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::Tun(port) => {
                let len = port.answer_len.take()?;
                port.answer.get(..len)
            }
        }
    }
}

impl TunPort {
    fn make(&mut self, now: Instant, routes: &Routes, answer: Answer, packet: &[u8]) {
        self.answer_len = self
            .tun
            .answer(now, routes, answer, packet, &mut self.answer[..]);
    }
}
