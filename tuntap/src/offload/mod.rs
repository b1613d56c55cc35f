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
use packet::Upper;
use split::Splitter;
use virtio::VirtioHeader;

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
    refused: Refused,
}

/// Merged packets that the kernel refused.
#[derive(Debug, Default)]
struct Refused {
    tcp: u32,
    udp: u32,
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
        let udp = linux::set_offload(file.as_fd())?;
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
            refused: Refused::default(),
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
            refused,
            ..
        } = self;
        let merges = Merges {
            tcp: refused.tcp < REFUSALS,
            udp: info.offload == Offload::TcpUdp && refused.udp < REFUSALS,
        };
        let mut writer = Writer {
            file,
            mode: info.mode,
            lasting: None,
        };
        coalesce(info.mode, merges, packets, &mut |ready| match ready {
            Ready::Single(number, packet) => outcome(number, writer.single(packet)),
            Ready::Merged(group) => {
                let merged = writer.merged(group);
                let is_refused = matches!(merged, WriteOutcome::Refused(_));
                if is_refused {
                    *refused.of(group.upper()) += 1;
                }
                for (number, packet) in group.members() {
                    let result = if is_refused {
                        writer.single(packet)
                    } else {
                        merged
                    };
                    outcome(*number, result);
                }
            }
        });
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

impl Refused {
    fn of(&mut self, upper: Upper) -> &mut u32 {
        match upper {
            Upper::Tcp => &mut self.tcp,
            Upper::Udp => &mut self.udp,
        }
    }
}

/// Writes one batch, keeping the promise of [`Device::write_batch`] about lasting outcomes.
struct Writer<'d> {
    file: &'d File,
    mode: Mode,
    lasting: Option<WriteOutcome>,
}

impl Writer<'_> {
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
        let result = write(self.file, slices);
        self.lasting = result.is_lasting().then_some(result);
        result
    }
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
