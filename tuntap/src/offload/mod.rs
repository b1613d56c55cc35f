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
//! parts are written one by one; after [`REFUSALS`] of them merging ends for that protocol.

mod checksum;
mod coalesce;
mod packet;
mod split;
#[cfg(test)]
mod tests;
mod virtio;

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use crate::batch::ReadBatch;
use crate::device::{Device, DeviceInfo, Mode, Offload, WriteOutcome};
use crate::linux;
use crate::plain::outcome_of;
use coalesce::{Group, MOST, Merges, Ready, coalesce};
use split::Splitter;
use virtio::{Segments, VirtioHeader};

/// Bytes of the read buffer: the longest packet with Ethernet header, VLAN tags and virtio header.
const BUFFER_LEN: usize = 68 * 1_024;
/// Merged packets of a protocol that the kernel may refuse before it gets no more of them. Some
/// kernels of 2024 refused valid ones (tailscale issue 13041).
const REFUSALS: u32 = 3;

/// A device with segmentation offload. Made by [`open`](crate::open()).
///
/// State: the interface exists as long as this does; dropping it deletes the interface.
#[derive(Debug)]
pub(crate) struct OffloadDevice {
    file: File,
    info: DeviceInfo,
    buffer: Box<[u8]>,
    /// The packet in `buffer` that is being cut.
    splitter: Option<Splitter>,
    merges: Merges,
    /// Merged packets that were refused: TCP, UDP.
    refused: [u32; 2],
}

impl OffloadDevice {
    /// Creates the interface `name`, which the caller has checked.
    ///
    /// State: as after [`PlainDevice::create`](crate::plain::PlainDevice::create).
    ///
    /// # Errors
    /// What the kernel says; `Unsupported` when it has no such offload.
    pub(crate) fn create(name: &str, mode: Mode, mtu: u32) -> io::Result<Self> {
        let (file, name) = linux::create_offload(name, mode)?;
        let udp = linux::set_offload(&file)?;
        let index = nix::net::if_::if_nametoindex(name.as_str())?;
        let info = DeviceInfo {
            name,
            mode,
            index,
            mtu,
            offload: if udp { Offload::TcpUdp } else { Offload::Tcp },
        };
        Ok(Self {
            file,
            info,
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            splitter: None,
            merges: Merges { tcp: true, udp },
            refused: [0; 2],
        })
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
            match self.file.read(&mut self.buffer) {
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

impl Device for OffloadDevice {
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
            file,
            info,
            merges,
            refused,
            ..
        } = self;
        let mut lasting = None;
        let (mode, all) = (info.mode, *merges);
        coalesce(mode, all, packets, &mut |ready| match ready {
            Ready::Single(number, packet) => {
                let result = lasting.unwrap_or_else(|| write_single(file, mode, packet));
                lasting = lasting.or_else(|| result.is_lasting().then_some(result));
                outcome(number, result);
            }
            Ready::Merged(group) => {
                let merged = lasting.unwrap_or_else(|| write_merged(file, group));
                if let WriteOutcome::Refused(_) = merged {
                    note_refusal(group, merges, refused);
                }
                for (number, packet) in group.members() {
                    let result = match merged {
                        WriteOutcome::Refused(_) => {
                            lasting.unwrap_or_else(|| write_single(file, mode, packet))
                        }
                        other => other,
                    };
                    lasting = lasting.or_else(|| result.is_lasting().then_some(result));
                    outcome(*number, result);
                }
            }
        });
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

/// Counts a merged packet that the kernel refused, and ends merging when there were enough.
fn note_refusal(group: &Group<'_>, merges: &mut Merges, refused: &mut [u32; 2]) {
    let is_udp = matches!(group.header().virtio.segments, Some((Segments::Udp, _)));
    let refused = &mut refused[usize::from(is_udp)];
    *refused += 1;
    if *refused >= REFUSALS {
        match is_udp {
            true => merges.udp = false,
            false => merges.tcp = false,
        }
    }
}

fn write_single(file: &File, mode: Mode, packet: &[u8]) -> WriteOutcome {
    if let Err(refusal) = mode.check_len(packet.len()) {
        return WriteOutcome::Refused(refusal);
    }
    let header = VirtioHeader::default().to_bytes();
    write(file, &[IoSlice::new(&header), IoSlice::new(packet)])
}

fn write_merged(file: &File, group: &Group<'_>) -> WriteOutcome {
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
    write(file, &slices[..count])
}

fn write(mut file: &File, slices: &[IoSlice<'_>]) -> WriteOutcome {
    loop {
        match file.write_vectored(slices) {
            Ok(_) => return WriteOutcome::Written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return outcome_of(&error),
        }
    }
}
