//! What is sealed end to end: our packets on their way to a node over others, and those for us.
//!
//! A message is sealed once, before it gets its header and its digest, so that all its copies are
//! the same bytes. It is opened where it was received, after all copies that go on have left.

use wire::sealed::LINK_HEADER_LEN;
use wire::sealed::endtoend::{BROADCAST_HEADER_LEN, EndToEndKind};
use wire::{Flags, HEADER_LEN, NetId};

use super::hand::Sealed;
use super::originate::Way;
use super::{TX_ITEMS, Worker};
use crate::daemon::shared::Snapshot;
use crate::node::zone::Zones;
use crate::pump::count::DropReason;
use crate::pump::rx::Span;
use crate::pump::{Outgoing, Packet};
use crate::seal::broadcast::OVERHEAD_MAX;
use crate::seal::session::SealError;
use crate::seal::sessions::EndSet;
use crate::time::Instant;

/// Bytes of messages that are sealed at once: a batch of full-size ones, and any single one.
const ARENA_LEN: usize = 512 * 1_024;

/// One worker's memory for messages that it seals end to end.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    arena: Vec<u8>,
    end: usize,
    outgoing: Vec<Outgoing>,
}

impl Sealing {
    /// With all the memory that a sealed mesh needs; the default has none.
    pub(super) fn with_room() -> Self {
        Self {
            arena: vec![0; ARENA_LEN],
            end: 0,
            outgoing: Vec::with_capacity(TX_ITEMS),
        }
    }

    fn clear(&mut self) {
        self.end = 0;
        self.outgoing.clear();
    }

    fn has_room(&self, payload_len: usize) -> bool {
        self.arena.len() - self.end >= HEADER_LEN + payload_len + OVERHEAD_MAX
            && self.outgoing.len() < TX_ITEMS
    }

    /// Adds a message for `dst` whose payload `seal` writes, and gives the length of.
    fn push(
        &mut self,
        dst: NetId,
        seal: impl FnOnce(&mut [u8]) -> Result<usize, SealError>,
    ) -> Result<(), SealError> {
        let room = self.arena.get_mut(self.end + HEADER_LEN..);
        let len = HEADER_LEN + seal(room.ok_or(SealError::NoRoom)?)?;
        self.outgoing.push(Outgoing {
            span: Span {
                start: self.end as u32,
                len: len as u32,
            },
            dst,
            flags: Flags::NONE,
            zones: Zones::All,
            alone: false,
        });
        self.end += len;
        Ok(())
    }
}

impl Worker {
    /// Takes out of `outgoing` what has to be sealed, and floods it so, or lets it wait. What is
    /// left is for the sole neighbor: its link's seal is enough, and NO_FORWARD keeps it there. Or it is
    /// for nodes of the open zone, and stays in that (S89).
    pub(super) fn seal(&mut self, now: Instant, snapshot: &Snapshot, ends: &EndSet) {
        let Self {
            shared,
            pump,
            read,
            outgoing,
            nonces,
            tx,
            sender,
            sealing,
            hand,
            ..
        } = self;
        let has_open = snapshot.neighbors.has_open();
        let sole = snapshot.neighbors.sole().filter(|_| !has_open);
        let alone = snapshot.neighbors.links().len() == 1;
        let mut way = Way {
            shared,
            snapshot,
            pump,
            nonces,
            tx,
            sender,
        };
        let arena = read.arena();
        sealing.clear();
        outgoing.retain_mut(|packet| {
            if has_open && ends.is_open(packet.dst) {
                packet.zones = Zones::Open;
                return true;
            }
            if Some(packet.dst) == sole {
                packet.flags = Flags::NO_FORWARD;
                packet.alone = alone;
                return true;
            }
            let payload = &packet.span.of(arena)[HEADER_LEN..];
            if !sealing.has_room(payload.len()) {
                way.flood(now, &sealing.outgoing, &mut sealing.arena);
                sealing.clear();
            }
            let (us, dst) = (shared.netid, packet.dst);
            match (&shared.broadcasts, ends.seals(dst)) {
                (Some(broadcasts), _) if dst == NetId::ALL => {
                    let sealed = sealing.push(dst, |out| broadcasts.seal(payload, out));
                    if sealed.is_err() {
                        shared.counters.count(DropReason::NoSession);
                    }
                    // Once more in clear, for those that cannot open it.
                    packet.zones = Zones::Open;
                    return has_open;
                }
                (_, Some(session)) => {
                    let seal = |out: &mut [u8]| session.seal_data_into(us, dst, payload, out);
                    match sealing.push(dst, seal) {
                        Ok(()) => session.note_sent(now, true),
                        Err(_) => hand.wait(dst, payload),
                    }
                }
                _ => hand.wait(dst, payload),
            }
            false
        });
        if !sealing.outgoing.is_empty() {
            way.flood(now, &sealing.outgoing, &mut sealing.arena);
        }
    }

    /// Opens what came sealed for us; adds packets to those on their way to the device.
    pub(super) fn unseal(&mut self, now: Instant, snapshot: &Snapshot) {
        let Some(ends) = &snapshot.ends else {
            return;
        };
        let Self {
            shared, hand, rx, ..
        } = self;
        for number in 0..hand.sealed.len() {
            let Sealed { packet, direct, by } = hand.sealed[number];
            let origin = packet.origin;
            let payload = packet.payload.of_mut(rx.arena_mut());
            match EndToEndKind::of(payload) {
                Ok(EndToEndKind::Init | EndToEndKind::Resp | EndToEndKind::Fin)
                    if packet.dst == shared.netid =>
                {
                    hand.introduce((origin, by), direct, payload);
                }
                Ok(EndToEndKind::Data) => {
                    match ends.open_data(now, (origin, packet.dst), payload) {
                        Ok((index, len)) => {
                            if let Some(index) = index {
                                hand.end_confirmed(index);
                            }
                            let inner = inner(packet, LINK_HEADER_LEN, len as u32);
                            hand.opened(by, inner, rx.arena());
                        }
                        Err(reason) => {
                            shared.counters.count(reason);
                            if reason == DropReason::UnknownSession {
                                hand.end_unknown(origin, by);
                            }
                        }
                    }
                }
                Ok(EndToEndKind::Broadcast) if packet.dst == NetId::ALL => {
                    let Some(broadcasts) = &shared.broadcasts else {
                        continue;
                    };
                    let verifications = &mut hand.verifications;
                    let is_reserved = || verifications.take(now, by);
                    match broadcasts.open(now, origin, payload, is_reserved) {
                        Ok(len) => {
                            let inner = inner(packet, BROADCAST_HEADER_LEN, len as u32);
                            hand.opened(by, inner, rx.arena());
                        }
                        Err(reason) => {
                            shared.counters.count(reason);
                            // A handshake tells its key.
                            if reason == DropReason::Unsigned {
                                hand.end_unknown(origin, by);
                            }
                        }
                    }
                }
                _ => shared.counters.count(DropReason::Malformed),
            }
        }
    }
}

/// What was inside a payload, behind its header.
fn inner(packet: Packet, header_len: usize, len: u32) -> Packet {
    Packet {
        payload: Span {
            start: packet.payload.start + header_len as u32,
            len,
        },
        ..packet
    }
}
