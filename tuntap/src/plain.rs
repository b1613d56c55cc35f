//! The plain device: one packet a system call, on any kernel that has TUN/TAP.
//!
//! It stands on the `tun-tap` crate, which asks the kernel for the mode and for packets without
//! the four bytes of packet information, and for nothing else.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use tun_tap::Iface;

use crate::batch::ReadBatch;
use crate::device::{Device, DeviceInfo, Mode, Offload, Refusal, WriteOutcome, write_each};
use crate::linux;

/// A device without offload. Made by [`open`](crate::open()).
///
/// State: the interface exists as long as this does; dropping it deletes the interface.
#[derive(Debug)]
pub(crate) struct PlainDevice {
    iface: Arc<Iface>,
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
        let name = iface.name().to_owned();
        let index = nix::net::if_::if_nametoindex(name.as_str())?;
        let info = DeviceInfo {
            name,
            mode,
            index,
            mtu,
            offload: Offload::None,
        };
        Ok(Self {
            iface: Arc::new(iface),
            info,
        })
    }

    fn write(&self, packet: &[u8]) -> WriteOutcome {
        if let Err(refusal) = self.info.mode.check_len(packet.len()) {
            return WriteOutcome::Refused(refusal);
        }
        loop {
            match self.iface.send(packet) {
                Ok(_) => return WriteOutcome::Written,
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

impl Device for PlainDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn read_batch(&mut self, batch: &mut ReadBatch) -> io::Result<usize> {
        let mut count = 0;
        while let Some(room) = batch.vacant() {
            match self.iface.recv(room) {
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
        Some(linux::descriptor(&self.iface))
    }

    fn share(&self) -> io::Result<Box<dyn Device>> {
        Ok(Box::new(Self {
            iface: Arc::clone(&self.iface),
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
