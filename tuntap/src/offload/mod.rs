//! The offload device: super-packets of up to 64 KiB in both directions, one system call each.
//!
//! ```text
//!   read:   | virtio header | super-packet |  --Splitter-->  packets of the device's MTU
//!   write:  packets  --coalesce-->  writev(| virtio header | headers | payload | payload | ...)
//! ```
//!
//! The kernel saves its per-packet work, which is nearly all of a plain device's cost (DATAPATH 3).
//! Programs and neighbors notice nothing: what crosses the mesh are ordinary packets.
//!
//! A virtio header is never taken from the network: those written are made here, from packets whose
//! lengths and checksums were verified (SECURITY T20). Where the kernel refuses a merged packet, its
//! parts are written one by one, and `refusals` says when it gets no more of them.

mod checksum;
mod coalesce;
mod packet;
mod refusals;
mod split;
#[cfg(test)]
mod tests;
mod virtio;

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::batch::ReadBatch;
use crate::device::{Device, DeviceInfo, MergingEnded, Mode, Offload, Refusal, WriteOutcome};
use crate::linux;
use crate::plain::outcome_of;
use crate::queue::{Queue, Raw};
use coalesce::{Group, MOST, Merges, Ready, coalesce};
use refusals::Refusals;
use split::Splitter;
use virtio::VirtioHeader;

/// Bytes of the read buffer: the longest packet with Ethernet header, VLAN tags and virtio header.
const BUFFER_LEN: usize = 68 * 1_024;

/// A device with segmentation offload. Made by [`open`](crate::open()).
///
/// State: the interface exists as long as this does; dropping it deletes the interface.
#[derive(Debug)]
pub(crate) struct OffloadDevice<R: Raw = Queue> {
    raw: R,
    info: DeviceInfo,
    buffer: Box<[u8]>,
    /// The packet in `buffer` that is being cut.
    splitter: Option<Splitter>,
    refusals: Refusals,
}

impl OffloadDevice {
    /// Creates the interface `name`, which the caller has checked; a device for each of its queues.
    ///
    /// State: as after [`PlainDevice::create`](crate::plain::PlainDevice::create).
    ///
    /// # Errors
    /// What the kernel says; `Unsupported` when it has no such offload.
    pub(crate) fn create(name: &str, mode: Mode, mtu: u32, queues: u16) -> io::Result<Vec<Self>> {
        let (queues, name) = Queue::create(name, mode, true, queues)?;
        let mut udp = false;
        for queue in &queues {
            udp = linux::set_offload(queue.readiness())?;
        }
        let index = nix::net::if_::if_nametoindex(name.as_str())?;
        let info = DeviceInfo {
            name,
            mode,
            index,
            mtu,
            offload: if udp { Offload::TcpUdp } else { Offload::Tcp },
        };
        let device = |queue| Self::new(queue, info.clone());
        Ok(queues.into_iter().map(device).collect())
    }
}

impl<R: Raw> OffloadDevice<R> {
    /// A device of what `raw` reads and writes.
    pub(crate) fn new(raw: R, info: DeviceInfo) -> Self {
        Self {
            raw,
            info,
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            splitter: None,
            refusals: Refusals::default(),
        }
    }

    /// Cuts what is in the buffer into `batch`; returns how many packets came of it.
    fn cut(&mut self, batch: &mut ReadBatch) -> usize {
        let Some(splitter) = &mut self.splitter else {
            return 0;
        };
        let packet = &self.buffer[virtio::LEN..virtio::LEN + splitter.len()];
        let mut count = 0;
        while !splitter.is_done() {
            let Some(room) = batch.vacant() else {
                return count;
            };
            match splitter.next(packet, room) {
                Some(len) => count += usize::from(batch.commit(len)),
                None => batch.leave_out(),
            }
        }
        self.splitter = None;
        count
    }

    /// Reads one packet into the buffer; `false` when none waits.
    fn read(&mut self, batch: &mut ReadBatch) -> io::Result<bool> {
        let len = loop {
            match self.raw.read(&mut self.buffer) {
                Ok(len) => break len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        };
        let Some((header, rest)) = self.buffer[..len].split_first_chunk() else {
            return Ok(false);
        };
        let splitter = VirtioHeader::parse(*header)
            .and_then(|header| Splitter::new(self.info.mode, header, rest).ok());
        if splitter.is_none() {
            batch.leave_out();
        }
        self.splitter = splitter;
        Ok(true)
    }
}

impl<R: Raw> Device for OffloadDevice<R> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn read_batch(&mut self, batch: &mut ReadBatch) -> io::Result<usize> {
        let mut count = self.cut(batch);
        while !batch.is_full() {
            match self.read(batch) {
                Ok(true) => count += self.cut(batch),
                Ok(false) => break,
                // The packets that came before the error must not wait for its handling.
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    fn holds_packets(&self) -> bool {
        self.splitter.is_some()
    }

    fn write_batch(
        &mut self,
        packets: &mut dyn Iterator<Item = &[u8]>,
        outcome: &mut dyn FnMut(usize, WriteOutcome),
    ) {
        let Self {
            raw,
            info,
            refusals,
            ..
        } = self;
        let ended = refusals.ended();
        let merges = Merges {
            tcp: ended.tcp.is_none(),
            udp: ended.udp.is_none() && info.offload == Offload::TcpUdp,
        };
        let mut writer = Writer {
            raw,
            mode: info.mode,
            lasting: None,
        };
        coalesce(info.mode, merges, packets, &mut |ready| match ready {
            Ready::Single(number, packet) => outcome(number, writer.single(packet)),
            Ready::Merged(group) => {
                let merged = writer.merged(group);
                let refusal = match merged {
                    WriteOutcome::Refused(refusal) => Some(refusal),
                    _ => None,
                };
                if let Some(Refusal::Kernel(errno)) = refusal {
                    // The one time that a device reads the clock: as rare as the refusals.
                    refusals.note(Instant::now(), group.upper(), errno);
                }
                for (number, packet) in group.members() {
                    let result = match refusal {
                        Some(_) => writer.single(packet),
                        None => merged,
                    };
                    outcome(*number, result);
                }
            }
        });
    }

    fn merging_ended(&self) -> MergingEnded {
        self.refusals.ended()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.raw.readiness())
    }

    fn share(&self) -> io::Result<Box<dyn Device>> {
        Ok(Box::new(Self::new(self.raw.share()?, self.info.clone())))
    }
}

/// Writes one batch, keeping the promise of [`Device::write_batch`] about lasting outcomes.
struct Writer<'d, R> {
    raw: &'d mut R,
    mode: Mode,
    lasting: Option<WriteOutcome>,
}

impl<R: Raw> Writer<'_, R> {
    fn single(&mut self, packet: &[u8]) -> WriteOutcome {
        if let Err(refusal) = self.mode.check_len(packet.len()) {
            return self.lasting.unwrap_or(WriteOutcome::Refused(refusal));
        }
        let header = VirtioHeader::default().to_bytes();
        self.write(&[IoSlice::new(&header), IoSlice::new(packet)])
    }

    fn merged(&mut self, group: &Group<'_>) -> WriteOutcome {
        let header = group.header();
        let virtio = header.virtio.to_bytes();
        let mut slices = [IoSlice::new(&[]); MOST + 2];
        slices[0] = IoSlice::new(&virtio);
        slices[1] = IoSlice::new(header.bytes());
        let mut count = 2;
        for payload in group.payloads() {
            slices[count] = payload;
            count += 1;
        }
        self.write(&slices[..count])
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> WriteOutcome {
        if let Some(lasting) = self.lasting {
            return lasting;
        }
        let result = write(self.raw, slices);
        self.lasting = result.is_lasting().then_some(result);
        result
    }
}

fn write(raw: &mut impl Raw, slices: &[IoSlice<'_>]) -> WriteOutcome {
    loop {
        match raw.write(slices) {
            Ok(()) => return WriteOutcome::Written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return outcome_of(&error),
        }
    }
}
