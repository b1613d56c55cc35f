//! The twin of a real device: packets in memory, failures on request.
//!
//! [`MemoryDevice`] keeps every promise of [`Device`]; its [`MemoryHandle`] plays the kernel. Both
//! hold bounded queues that reuse their memory, so a test may count allocations around them.

mod offload;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

pub use offload::{OffloadHandle, Writes, offload_pair};

use crate::batch::ReadBatch;
use crate::device::{Device, DeviceInfo, WriteOutcome, write_each};

/// Packets that wait in each direction at most; a real interface holds as many (`txqueuelen`).
const QUEUE_PACKETS: usize = 1_000;

/// How a [`MemoryDevice`] behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// As an interface that is up.
    #[default]
    Up,
    /// As an interface that is down: takes nothing from either side.
    Down,
    /// As an interface whose buffer is full: what waits can be read, nothing can be written.
    Full,
    /// As an interface that was deleted.
    Gone,
}

/// Packets in order, in memory that is kept.
#[derive(Debug, Default)]
struct Queue {
    bytes: VecDeque<u8>,
    lens: VecDeque<usize>,
}

impl Queue {
    /// Returns whether there was room.
    fn push(&mut self, packet: &[u8]) -> bool {
        let room = self.lens.len() < QUEUE_PACKETS;
        if room {
            self.bytes.extend(packet);
            self.lens.push_back(packet.len());
        }
        room
    }

    /// As [`Self::push`], of a packet in parts.
    fn push_slices(&mut self, slices: &[IoSlice<'_>]) -> bool {
        let room = self.lens.len() < QUEUE_PACKETS;
        if room {
            slices.iter().for_each(|slice| self.bytes.extend(&**slice));
            self.lens
                .push_back(slices.iter().map(|slice| slice.len()).sum());
        }
        room
    }

    /// Takes all packets, oldest first.
    fn take(&mut self) -> Vec<Vec<u8>> {
        let lens = self.lens.drain(..);
        lens.map(|len| self.bytes.drain(..len).collect()).collect()
    }

    /// Moves the oldest packet into `room`, cut to fit as the kernel would, and returns the bytes
    /// written there.
    fn pop(&mut self, room: &mut [u8]) -> Option<usize> {
        let len = self.lens.pop_front()?;
        let kept = len.min(room.len());
        for (to, from) in room.iter_mut().zip(self.bytes.drain(..len)) {
            *to = from;
        }
        Some(kept)
    }
}

#[derive(Debug, Default)]
struct State {
    condition: Condition,
    to_read: Queue,
    written: Queue,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Readable while a packet waits or the device is gone.
    readiness: Option<EventFd>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere leaves whole packets behind: no step panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the readiness say what is true of `state`.
    fn signal(&self, state: &State) {
        let Some(event) = &self.readiness else {
            return;
        };
        // Neither call can fail in a way that matters: reading an unset event would block, and
        // one set a second time stays set.
        if !state.to_read.lens.is_empty() || state.condition == Condition::Gone {
            let _ = event.write(1);
        } else {
            let _ = event.read();
        }
    }
}

/// A device without a kernel. See [`MemoryHandle`] for its other side.
#[derive(Debug)]
pub struct MemoryDevice {
    info: DeviceInfo,
    shared: Arc<Shared>,
}

/// The far side of a [`MemoryDevice`]: what the kernel and the administrator would do.
///
/// Calls: from any thread.
#[derive(Clone, Debug)]
pub struct MemoryHandle {
    shared: Arc<Shared>,
}

impl MemoryDevice {
    /// A device that is only asked, never waited for: no descriptor, no system call.
    pub fn pair(info: DeviceInfo) -> (Self, MemoryHandle) {
        Self::pair_with(info, None)
    }

    /// A device that can be waited for, by an eventfd.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn pollable_pair(info: DeviceInfo) -> io::Result<(Self, MemoryHandle)> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self::pair_with(info, Some(event)))
    }

    fn pair_with(info: DeviceInfo, readiness: Option<EventFd>) -> (Self, MemoryHandle) {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            readiness,
        });
        let handle = MemoryHandle {
            shared: Arc::clone(&shared),
        };
        (Self { info, shared }, handle)
    }
}

impl Device for MemoryDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn read_batch(&mut self, batch: &mut ReadBatch) -> io::Result<usize> {
        let mut state = self.shared.lock();
        if state.condition == Condition::Gone {
            return Err(io::Error::from_raw_os_error(libc::EBADFD));
        }
        let mut count = 0;
        while let Some(room) = batch.vacant() {
            let Some(len) = state.to_read.pop(room) else {
                break;
            };
            count += usize::from(batch.commit(len));
        }
        self.shared.signal(&state);
        Ok(count)
    }

    fn write_batch(
        &mut self,
        packets: &mut dyn Iterator<Item = &[u8]>,
        outcome: &mut dyn FnMut(usize, WriteOutcome),
    ) {
        let mode = self.info.mode;
        write_each(packets, outcome, |packet| {
            if let Err(refusal) = mode.check_len(packet.len()) {
                return WriteOutcome::Refused(refusal);
            }
            // Locked for each packet, so that the caller's `outcome` may use the handle.
            let mut state = self.shared.lock();
            let condition = state.condition;
            match condition {
                Condition::Gone => WriteOutcome::Gone,
                Condition::Down => WriteOutcome::Down,
                Condition::Full => WriteOutcome::WouldBlock,
                Condition::Up if state.written.push(packet) => WriteOutcome::Written,
                Condition::Up => WriteOutcome::WouldBlock,
            }
        });
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.shared.readiness.as_ref().map(AsFd::as_fd)
    }

    fn share(&self) -> io::Result<Box<dyn Device>> {
        Ok(Box::new(Self {
            info: self.info.clone(),
            shared: Arc::clone(&self.shared),
        }))
    }
}

impl MemoryHandle {
    /// Sends a packet into the device, as the kernel does, and returns whether it was taken: not
    /// when 1,000 wait, nor when the device is down or gone.
    pub fn inject(&self, packet: &[u8]) -> bool {
        let mut state = self.shared.lock();
        let open = matches!(state.condition, Condition::Up | Condition::Full);
        let taken = open && state.to_read.push(packet);
        self.shared.signal(&state);
        taken
    }

    /// Takes the packets written to the device, oldest first.
    pub fn take_written(&self) -> Vec<Vec<u8>> {
        self.shared.lock().written.take()
    }

    /// Makes the device behave so from now on.
    pub fn set_condition(&self, condition: Condition) {
        let mut state = self.shared.lock();
        state.condition = condition;
        self.shared.signal(&state);
    }
}

#[cfg(test)]
mod tests;
