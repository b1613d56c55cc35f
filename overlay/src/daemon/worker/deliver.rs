//! From the mesh to the device: packets that may be delivered, copied where they are edited.

use tuntap::WriteOutcome;

use super::{TX_ITEMS, Worker};
use crate::daemon::port::Port;
use crate::daemon::shared::Snapshot;
use crate::pump::count::{DropReason, Total};
use crate::pump::rx::Span;
use crate::time::Instant;

/// Bytes of edited copies in one batch: some hundreds of TCP's first segments. What finds no room
/// is delivered as it came, which at worst makes one connection slower.
const EDITS_LEN: usize = 32 * 1_024;

/// Packets of one batch on their way to the device. The received bytes stay as they are, since the
/// same message may be on its way to neighbors.
#[derive(Debug)]
pub struct Delivery {
    items: Vec<Item>,
    edits: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Item {
    /// A range of the receive arena.
    Received(Span),
    /// A range of `edits`.
    Edited(Span),
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            items: Vec::with_capacity(TX_ITEMS),
            edits: Vec::with_capacity(EDITS_LEN),
        }
    }
}

impl Delivery {
    /// Forgets the batch.
    pub fn clear(&mut self) {
        self.items.clear();
        self.edits.clear();
    }

    /// Adds a packet or frame: as it lies in `arena`, or as the port edits it.
    pub fn push(&mut self, port: &Port, arena: &[u8], span: Span) {
        let bytes = span.of(arena);
        let room = self.edits.len() + bytes.len() <= EDITS_LEN;
        if !room || !port.edits(bytes) {
            return self.items.push(Item::Received(span));
        }
        let copy = Span {
            start: self.edits.len() as u32,
            len: span.len,
        };
        self.edits.extend_from_slice(bytes);
        port.edit(copy.of_mut(&mut self.edits));
        self.items.push(Item::Edited(copy));
    }

    /// The packets in order; `arena` is the one they were pushed from.
    pub fn packets<'b>(&'b self, arena: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        self.items.iter().map(move |item| match item {
            Item::Received(span) => span.of(arena),
            Item::Edited(span) => span.of(&self.edits),
        })
    }
}

impl Worker {
    /// Writes what the batch delivered and may be delivered.
    pub(super) fn write(&mut self, now: Instant, snapshot: &Snapshot) {
        if self.hand.packets.is_empty() {
            return;
        }
        let Self {
            shared,
            port,
            device,
            hand,
            delivery,
            rx,
            ..
        } = self;
        let counters = &*shared.counters;
        let Some(device) = device else {
            return counters.count_many(DropReason::NoDevice, hand.packets.len() as u64);
        };
        let arena = rx.arena();
        delivery.clear();
        let mut mixed = None;
        for packet in hand.packets.drain(..) {
            match port.incoming(now, snapshot, packet, packet.payload.of(arena)) {
                Ok(skip) => {
                    let span = Span {
                        start: packet.payload.start + skip,
                        len: packet.payload.len - skip,
                    };
                    delivery.push(port, arena, span);
                }
                Err(reason) => {
                    counters.count(reason);
                    if reason == DropReason::WrongMode {
                        mixed = Some(packet.origin);
                    }
                }
            }
        }
        if let Some(origin) = mixed {
            hand.mixed(now, origin);
        }
        let mut gone = false;
        device.write_batch(&mut delivery.packets(arena), &mut |_, outcome| {
            gone |= outcome == WriteOutcome::Gone;
            match outcome {
                WriteOutcome::Written => counters.add(Total::Delivered, 1),
                WriteOutcome::WouldBlock | WriteOutcome::Refused(_) => {
                    counters.count(DropReason::DeviceError);
                }
                WriteOutcome::Down => counters.count(DropReason::DeviceDown),
                WriteOutcome::Gone => counters.count(DropReason::NoDevice),
            }
        });
        let ended = device.merging_ended();
        if ended != self.merging_ended && hand.merging_ended(ended) {
            self.merging_ended = ended;
        }
        if gone {
            self.lose_device();
        }
    }

    /// Step 5: writes the loop-detect beacon if it is due. It is taken without a device too, since
    /// a beacon that stays due would keep the loop awake.
    pub(super) fn write_beacon(&mut self, now: Instant) {
        let Some(beacon) = self.port.take_beacon(now) else {
            return;
        };
        let Some(device) = &mut self.device else {
            return;
        };
        // One that is not taken is followed by another; only that the device is gone matters.
        let mut gone = false;
        device.write_batch(&mut std::iter::once(beacon), &mut |_, outcome| {
            gone |= outcome == WriteOutcome::Gone;
        });
        if gone {
            self.lose_device();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::id::NetId;
    use crate::keyed::KeyedHasher;
    use crate::route::address::Mesh;
    use crate::route::frame::build::frame;
    use crate::route::learned::Learned;
    use crate::route::storm::StormRates;
    use crate::route::switch::Switch;
    use crate::route::tap::Tap;
    use crate::route::tun::Tun;

    /// TCP's first packet, with a maximum segment size of 1460 in its last two bytes.
    const SYN: [u8; 44] = [
        0x45, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 10, 10, 0, 0, 1, // IPv4
        0, 5, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0xFF, 0xFF, 0x12, 0x34, 0, 0, // TCP
        2, 4, 0x05, 0xB4,
    ];
    /// The same with 1360, which fits into 1400, and the checksum that follows from it.
    const CLAMPED: [u8; 44] = {
        let mut clamped = SYN;
        // 100 less in the option is 100 more in the checksum.
        (clamped[42], clamped[43]) = (0x05, 0x50);
        (clamped[36], clamped[37]) = (0x12, 0x34 + 100);
        clamped
    };

    fn tun() -> Port {
        let learned = Arc::new(Learned::new(KeyedHasher(1, 2)));
        Port::tun(Tun::new(1400, learned), 1400)
    }

    fn tap() -> Port {
        let (me, rates) = (NetId(1), StormRates::default());
        let switch = Switch::new(me, Mesh::default(), rates, KeyedHasher(1, 2));
        Port::tap(Tap::new(1400, Arc::new(switch)), 1400)
    }

    fn in_frame(packet: &[u8], padding: usize) -> Vec<u8> {
        let payload = [packet, &vec![0; padding]].concat();
        frame([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], 0x0800, &payload)
    }

    /// What is delivered of `packets`, which lie one behind the other; they must stay as they are.
    fn delivered(port: &Port, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let arena = packets.concat();
        let before = arena.clone();
        let mut delivery = Delivery::default();
        let mut start = 0;
        for packet in packets {
            let len = packet.len() as u32;
            delivery.push(port, &arena, Span { start, len });
            start += len;
        }
        let delivered = delivery.packets(&arena).map(<[u8]>::to_vec).collect();
        assert_eq!(arena, before);
        delivered
    }

    #[test]
    fn a_first_segment_is_clamped_in_a_copy_between_others_that_stay_in_place() {
        let other = [&SYN[..33], &[0x10], &SYN[34..]].concat();
        let packets = [other.clone(), SYN.to_vec(), other.clone(), CLAMPED.to_vec()];
        assert_eq!(
            delivered(&tun(), &packets),
            [other.clone(), CLAMPED.to_vec(), other, CLAMPED.to_vec()]
        );
    }

    #[test]
    fn a_bridged_first_segment_is_clamped_within_its_frame() {
        for padding in [0, 2] {
            assert_eq!(
                delivered(&tap(), &[in_frame(&SYN, padding)]),
                [in_frame(&CLAMPED, padding)]
            );
        }
    }

    #[test]
    fn without_room_for_a_copy_a_packet_is_delivered_as_it_came() {
        let room = EDITS_LEN / SYN.len();
        let packets = vec![SYN.to_vec(); room + 5];
        let delivered = delivered(&tun(), &packets);
        assert!(delivered[..room].iter().all(|packet| packet[..] == CLAMPED));
        assert!(delivered[room..].iter().all(|packet| packet[..] == SYN));
        assert_eq!(delivered.len(), room + 5);
    }
}
