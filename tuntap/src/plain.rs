//! The plain device: one packet a system call, on any kernel that has TUN/TAP.
//!
//! It stands on the `tun-tap` crate, which asks the kernel for the mode and for packets without
//! the four bytes of packet information, and for nothing else; so several queues are our own.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use tun_tap::Iface;

use crate::batch::ReadBatch;
use crate::device::{Device, DeviceInfo, Mode, Offload, Refusal, WriteOutcome, write_each};
use crate::linux;
use crate::queue::{Queue, Raw};

/// A device without offload. Made by [`open`](crate::open()).
///
/// State: the interface exists as long as this does; dropping it deletes the interface.
#[derive(Debug)]
pub(crate) struct PlainDevice<R: Raw = Arc<Iface>> {
    raw: R,
    info: DeviceInfo,
}

impl PlainDevice {
    /// Creates the interface `name`, which the caller has checked: `tun-tap` cuts a long one
    /// without a word.
    ///
    /// State: the interface is down, without addresses, with the kernel's MTU of 1,500 bytes, of
    ///        which `mtu` will be made.
    pub(crate) fn create(name: &str, mode: Mode, mtu: u32) -> io::Result<Self> {
        let kind = match mode {
            Mode::Tun => tun_tap::Mode::Tun,
            Mode::Tap => tun_tap::Mode::Tap,
        };
        let iface = Iface::without_packet_info(name, kind)?;
        iface.set_non_blocking()?;
        let info = info(iface.name(), mode, mtu)?;
        let raw = Arc::new(iface);
        Ok(Self { raw, info })
    }
}

impl PlainDevice<Queue> {
    /// As [`PlainDevice::create`]; a device for each of several queues.
    pub(crate) fn create_several(
        name: &str,
        mode: Mode,
        mtu: u32,
        queues: u16,
    ) -> io::Result<Vec<Self>> {
        let (queues, name) = Queue::create(name, mode, false, queues)?;
        let info = info(&name, mode, mtu)?;
        let device = |raw| Self {
            raw,
            info: info.clone(),
        };
        Ok(queues.into_iter().map(device).collect())
    }
}

fn info(name: &str, mode: Mode, mtu: u32) -> io::Result<DeviceInfo> {
    Ok(DeviceInfo {
        name: name.to_owned(),
        mode,
        index: nix::net::if_::if_nametoindex(name)?,
        mtu,
        offload: Offload::None,
    })
}

impl Raw for Arc<Iface> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv(buffer)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        // A plain packet is whole.
        let packet: &[u8] = slices.first().map_or(&[], |slice| slice);
        self.send(packet).map(drop)
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        linux::descriptor(self)
    }

    fn share(&self) -> io::Result<Self> {
        Ok(Self::clone(self))
    }
}

impl<R: Raw> PlainDevice<R> {
    fn write(&mut self, packet: &[u8]) -> WriteOutcome {
        if let Err(refusal) = self.info.mode.check_len(packet.len()) {
            return WriteOutcome::Refused(refusal);
        }
        loop {
            match self.raw.write(&[IoSlice::new(packet)]) {
                Ok(()) => return WriteOutcome::Written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return outcome_of(&error),
            }
        }
    }
}

/// What a failed write says about the packet and the device.
pub(crate) fn outcome_of(error: &io::Error) -> WriteOutcome {
    match error.raw_os_error().unwrap_or(libc::EIO) {
        libc::EAGAIN => WriteOutcome::WouldBlock,
        libc::EIO => WriteOutcome::Down,
        libc::EBADFD => WriteOutcome::Gone,
        errno => WriteOutcome::Refused(Refusal::Kernel(errno)),
    }
}

impl<R: Raw> Device for PlainDevice<R> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn read_batch(&mut self, batch: &mut ReadBatch) -> io::Result<usize> {
        let mut count = 0;
        while let Some(room) = batch.vacant() {
            match self.raw.read(room) {
                Ok(0) => break,
                Ok(len) => count += usize::from(batch.commit(len)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The packets that came before the error must not wait for its handling.
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    fn write_batch(
        &mut self,
        packets: &mut dyn Iterator<Item = &[u8]>,
        outcome: &mut dyn FnMut(usize, WriteOutcome),
    ) {
        write_each(packets, outcome, |packet| self.write(packet));
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.raw.readiness())
    }

    fn share(&self) -> io::Result<Box<dyn Device>> {
        Ok(Box::new(Self {
            raw: self.raw.share()?,
            info: self.info.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_of_a_write_become_outcomes() {
        let cases = [
            (libc::EAGAIN, WriteOutcome::WouldBlock),
            (libc::EIO, WriteOutcome::Down),
            (libc::EBADFD, WriteOutcome::Gone),
            (
                libc::EINVAL,
                WriteOutcome::Refused(Refusal::Kernel(libc::EINVAL)),
            ),
        ];
        for (errno, outcome) in cases {
            assert_eq!(outcome_of(&io::Error::from_raw_os_error(errno)), outcome);
        }
    }
}
