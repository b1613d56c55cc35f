//! What one round of reading filled: one arena, and where in it the packets lie.
//!
//! ```text
//!   arena:  | headroom | packet 0 | headroom | packet 1 | ...        | spare |
//!                      ^ start, len          ^ start, len
//! ```
//!
//! Packets are packed: the headroom of each begins where the packet before it ends. A header of
//! `headroom` bytes written in front of equal packets therefore gives datagrams that lie one after
//! the other at an equal stride, which is the form that segmentation offload sends in one call.
//! Nothing may be written behind a packet; that room belongs to the next one.

use crate::device::{DeviceInfo, Offload};

/// Packets of a batch, unless chosen otherwise: enough to spread the cost of a wake-up over, few
/// enough that 45 KB of full-size packets stay in the caches. A guess; a bench of the worker's loop
/// with 8 to 128 would settle it.
pub const READ_SLOTS: usize = 32;

/// Packets of a batch of a device with offload: two super-packets of TCP and a half, 180 KB.
pub const OFFLOAD_READ_SLOTS: usize = 128;

/// Where one packet lies in the arena. An index, not a reference, so that no lifetime crosses a
/// system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Offset of the packet's first byte; the headroom is right in front of it.
    pub start: u32,
    /// Bytes of the packet.
    pub len: u32,
}

impl Slot {
    /// The bytes of `arena` that this names.
    ///
    /// # Panics
    /// When the slot was made for another arena.
    pub fn of(self, arena: &[u8]) -> &[u8] {
        &arena[self.start as usize..(self.start + self.len) as usize]
    }
}

/// Buffers for one round of reading. Allocated once; a device fills it, the worker reads it.
///
/// Shape: a user relies on the slots alone, never on a slot's number times a size: an offload
///        device cuts one large read into many packets and lays them out as it must.
/// State: filled by [`Device::read_batch`](crate::Device::read_batch) until [`Self::clear`].
#[derive(Debug)]
pub struct ReadBatch {
    arena: Box<[u8]>,
    packets: Vec<Slot>,
    slots: usize,
    headroom: usize,
    max_packet: usize,
    /// Where the next headroom begins.
    end: usize,
    truncated: u64,
}

impl ReadBatch {
    /// Room for `slots` packets of at most `max_packet` bytes, each behind `headroom` free bytes.
    ///
    /// # Panics
    /// When that is more than 4 GiB.
    pub fn new(slots: usize, headroom: usize, max_packet: usize) -> Self {
        // One byte more than the packets need: a read that reaches it was cut by the kernel.
        let len = slots * (headroom + max_packet) + 1;
        assert!(u32::try_from(len).is_ok(), "a batch is at most 4 GiB");
        Self {
            arena: vec![0; len].into_boxed_slice(),
            packets: Vec::with_capacity(slots),
            slots,
            headroom,
            max_packet,
            end: 0,
            truncated: 0,
        }
    }

    /// Room for [`READ_SLOTS`] packets of a device, or [`OFFLOAD_READ_SLOTS`].
    pub fn for_device(info: &DeviceInfo, headroom: usize) -> Self {
        Self::at_most(usize::MAX, info, headroom)
    }

    /// As [`Self::for_device`], but room for no more than `most` packets, and for one at least.
    pub fn at_most(most: usize, info: &DeviceInfo, headroom: usize) -> Self {
        let slots = match info.offload {
            Offload::None => READ_SLOTS,
            Offload::Tcp | Offload::TcpUdp => OFFLOAD_READ_SLOTS,
        };
        Self::new(slots.min(most).max(1), headroom, info.max_packet())
    }

    /// All bytes.
    pub fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// All bytes, for writing headers into the headroom.
    pub fn arena_mut(&mut self) -> &mut [u8] {
        &mut self.arena
    }

    /// The packets read, in order.
    pub fn packets(&self) -> &[Slot] {
        &self.packets
    }

    /// Free bytes in front of each packet.
    pub fn headroom(&self) -> usize {
        self.headroom
    }

    /// Whether no slot is free, so that more packets may wait in the device.
    pub fn is_full(&self) -> bool {
        self.packets.len() == self.slots
    }

    /// Packets left out since the batch was made, because they were longer than `max_packet`: the
    /// MTU of the interface was raised by someone else. The kernel cuts such a packet without a
    /// word, and half a packet is worse than none. A super-packet that contradicts its header counts
    /// as one too.
    pub fn truncated(&self) -> u64 {
        self.truncated
    }

    /// Forgets what was read, before the next round.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.end = 0;
    }

    /// Adds a packet that does not come from the device, such as one that had to wait; returns
    /// whether there was room for it.
    pub fn push(&mut self, packet: &[u8]) -> bool {
        let fits = packet.len() <= self.max_packet;
        match self.vacant() {
            Some(free) if fits => {
                free[..packet.len()].copy_from_slice(packet);
                self.commit(packet.len())
            }
            _ => false,
        }
    }

    /// Where the next packet goes: one byte more than the longest, or `None` when full.
    pub(crate) fn vacant(&mut self) -> Option<&mut [u8]> {
        if self.is_full() {
            return None;
        }
        let start = self.end + self.headroom;
        self.arena.get_mut(start..start + self.max_packet + 1)
    }

    /// Notes a packet that could not be taken in.
    pub(crate) fn leave_out(&mut self) {
        self.truncated += 1;
    }

    /// Notes that `len` bytes were read into what [`Self::vacant`] gave; returns whether they are
    /// a packet, and not a cut one.
    pub(crate) fn commit(&mut self, len: usize) -> bool {
        if len > self.max_packet {
            self.truncated += 1;
            return false;
        }
        debug_assert!(!self.is_full(), "commit follows vacant");
        let start = self.end + self.headroom;
        self.packets.push(Slot {
            start: start as u32,
            len: len as u32,
        });
        self.end = start + len;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(batch: &mut ReadBatch, packet: &[u8]) -> bool {
        let Some(room) = batch.vacant() else {
            return false;
        };
        let len = packet.len().min(room.len());
        room[..len].copy_from_slice(&packet[..len]);
        batch.commit(len)
    }

    #[test]
    fn each_packet_lies_behind_its_headroom() {
        let mut batch = ReadBatch::new(3, 4, 10);
        assert!(read(&mut batch, b"first"));
        assert!(read(&mut batch, b"second one"));
        let slots = batch.packets().to_vec();
        assert_eq!(
            slots,
            [Slot { start: 4, len: 5 }, Slot { start: 13, len: 10 }]
        );
        assert_eq!(slots[0].of(batch.arena()), b"first");
        assert_eq!(slots[1].of(batch.arena()), b"second one");
    }

    #[test]
    fn headers_and_equal_packets_lie_at_an_equal_stride() {
        let mut batch = ReadBatch::new(3, 2, 8);
        for _ in 0..3 {
            assert!(read(&mut batch, b"abc"));
        }
        for slot in batch.packets().to_vec() {
            let start = slot.start as usize;
            batch.arena_mut()[start - 2..start].copy_from_slice(b"HH");
        }
        assert_eq!(&batch.arena()[..15], b"HHabcHHabcHHabc");
    }

    #[test]
    fn all_slots_can_hold_the_longest_packet_and_then_it_is_full() {
        let mut batch = ReadBatch::new(2, 16, 100);
        assert!(read(&mut batch, &[1; 100]));
        assert!(!batch.is_full());
        assert!(read(&mut batch, &[2; 100]));
        assert!(batch.is_full());
        assert!(batch.vacant().is_none());
    }

    #[test]
    fn a_packet_one_byte_too_long_is_left_out_and_counted() {
        let mut batch = ReadBatch::new(1, 4, 10);
        assert!(!read(&mut batch, &[1; 11]));
        assert_eq!((batch.packets().len(), batch.truncated()), (0, 1));
        assert!(read(&mut batch, &[2; 10]));
        assert_eq!(batch.packets().len(), 1);
    }

    #[test]
    fn clearing_frees_all_slots() {
        let mut batch = ReadBatch::new(1, 4, 10);
        assert!(read(&mut batch, b"x"));
        batch.clear();
        assert!(batch.packets().is_empty());
        assert!(read(&mut batch, b"y"));
        assert_eq!(batch.packets()[0].start, 4);
    }
}
