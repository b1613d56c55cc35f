//! The twin of an offload device: the real one, with a kernel in memory behind it.
//!
//! All of the device's own work is the real one's: reading virtio headers, cutting, merging, what
//! follows from a refusal. [`OffloadHandle`] plays the kernel.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{QUEUE_PACKETS, Queue};
use crate::device::{Device, DeviceInfo};
use crate::offload::OffloadDevice;
use crate::queue::Raw;

/// Byte of a virtio header that says whether the packet behind it is merged.
const GSO_TYPE: usize = 1;

/// A device with offload and without a kernel, which can be waited for.
///
/// # Errors
/// When the process has no descriptor left.
pub fn offload_pair(info: DeviceInfo) -> io::Result<(Box<dyn Device>, OffloadHandle)> {
    let readiness = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            to_read: VecDeque::with_capacity(QUEUE_PACKETS),
            ..State::default()
        }),
        readiness,
    });
    let handle = OffloadHandle(Arc::clone(&shared));
    Ok((Box::new(OffloadDevice::new(Twin(shared), info)), handle))
}

/// What the device wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Packets written alone.
    pub single: u64,
    /// Merged packets.
    pub merged: u64,
    /// Merged packets that were refused.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct State {
    to_read: VecDeque<Arc<[u8]>>,
    /// What was written, if it is kept.
    written: Option<Queue>,
    writes: Writes,
    /// The error number for merged packets.
    refuses: Option<i32>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Readable while a packet waits.
    readiness: EventFd,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device's side.
#[derive(Debug)]
struct Twin(Arc<Shared>);

impl Raw for Twin {
    fn share(&self) -> io::Result<Self> {
        Ok(Self(Arc::clone(&self.0)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        let Some(bytes) = state.to_read.pop_front() else {
            // An unset event would block, which changes nothing.
            let _ = self.0.readiness.read();
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.0.lock();
        let is_merged = slices.first().is_some_and(|virtio| virtio[GSO_TYPE] != 0);
        if let (true, Some(errno)) = (is_merged, state.refuses) {
            state.writes.refused += 1;
            return Err(io::Error::from_raw_os_error(errno));
        }
        let has_room = state
            .written
            .as_mut()
            .is_none_or(|queue| queue.push_slices(slices));
        if !has_room {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match is_merged {
            true => state.writes.merged += 1,
            false => state.writes.single += 1,
        }
        Ok(())
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.0.readiness.as_fd()
    }
}

/// The far side: what the kernel would do.
///
/// Calls: from any thread. Cost: allocates only what [`Self::keep`] keeps.
#[derive(Clone, Debug)]
pub struct OffloadHandle(Arc<Shared>);

impl OffloadHandle {
    /// Sends a packet into the device, a virtio header of 10 bytes first; returns whether there was
    /// room for it.
    pub fn inject(&self, bytes: &Arc<[u8]>) -> bool {
        let mut state = self.0.lock();
        let waiting = state.to_read.len();
        if waiting == QUEUE_PACKETS {
            return false;
        }
        state.to_read.push_back(Arc::clone(bytes));
        if waiting == 0 {
            // One set a second time stays set.
            let _ = self.0.readiness.write(1);
        }
        true
    }

    /// From now on what is written is kept for [`Self::take_written`].
    pub fn keep(&self) {
        self.0.lock().written.get_or_insert_default();
    }

    /// Takes what was written and kept, oldest first, each with its virtio header.
    pub fn take_written(&self) -> Vec<Vec<u8>> {
        let mut state = self.0.lock();
        state.written.as_mut().map(Queue::take).unwrap_or_default()
    }

    /// How much was written so far.
    pub fn writes(&self) -> Writes {
        self.0.lock().writes
    }

    /// From now on merged packets are refused with this error number; `None` ends that.
    pub fn refuse_merged(&self, errno: Option<i32>) {
        self.0.lock().refuses = errno;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::ReadBatch;
    use crate::device::{MergingEnded, Mode, Offload, WriteOutcome};

    fn pair() -> (Box<dyn Device>, OffloadHandle) {
        let info = DeviceInfo {
            name: "mesh0".into(),
            mode: Mode::Tun,
            index: 1,
            mtu: 1_400,
            offload: Offload::TcpUdp,
        };
        offload_pair(info).unwrap()
    }

    /// `count` UDP datagrams over IPv4 that are one train.
    fn train(count: u8) -> Vec<Vec<u8>> {
        let one = |n: u8| {
            let mut packet = vec![
                0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, //
                0, 5, 0, 6, 0, 12, 0, 0, 1, 2, 3, n,
            ];
            let sum = sum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum);
            let pseudo = [&packet[12..20], &[0, 17, 0, 12], &packet[20..]].concat();
            let checksum = self::sum(&pseudo);
            packet[26..28].copy_from_slice(&checksum);
            packet
        };
        (0..count).map(one).collect()
    }

    fn sum(bytes: &[u8]) -> [u8; 2] {
        let mut sum: u32 = bytes
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        while sum > 0xFFFF {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    fn write(device: &mut dyn Device, packets: &[Vec<u8>]) -> usize {
        let mut written = 0;
        let mut packets = packets.iter().map(Vec::as_slice);
        device.write_batch(&mut packets, &mut |_, outcome| {
            written += usize::from(outcome == WriteOutcome::Written);
        });
        written
    }

    #[test]
    fn what_is_injected_is_read_and_what_is_written_is_kept() {
        let (mut device, kernel) = pair();
        let packet = &train(1)[0];
        let raw: Arc<[u8]> = [&[0; 10][..], packet].concat().into();
        assert!(kernel.inject(&raw));
        let mut batch = ReadBatch::for_device(device.info(), 16);
        assert_eq!(device.read_batch(&mut batch).unwrap(), 1);
        assert_eq!(batch.packets()[0].of(batch.arena()), packet);
        assert_eq!(device.read_batch(&mut batch).unwrap(), 0);

        kernel.keep();
        assert_eq!(write(&mut *device, &train(5)), 5);
        let written = kernel.take_written();
        assert_eq!((written.len(), written[0].len()), (1, 10 + 28 + 5 * 4));
        assert!(kernel.take_written().is_empty());
    }

    #[test]
    fn what_the_kernel_refuses_merged_is_written_one_by_one_and_merging_ends_after_three() {
        let (mut device, kernel) = pair();
        kernel.refuse_merged(Some(libc::EINVAL));
        for round in 1..=5 {
            assert_eq!(write(&mut *device, &train(4)), 4, "no packet is lost");
            let refused = round.min(3);
            assert_eq!(kernel.writes().refused, refused);
            assert_eq!(kernel.writes().single, 4 * round);
            let udp = (round >= 3).then_some(libc::EINVAL);
            let ended = MergingEnded { tcp: None, udp };
            assert_eq!(device.merging_ended(), ended);
        }
    }
}
