//! The one place of this crate where memory and descriptors are taken on trust.
//!
//! `tun-tap` hands out its descriptor as a bare number. Here it becomes a borrow again, so that
//! nobody else has to promise that it is open. A device with a virtio header, or with several queues,
//! it cannot make at all; that takes some `ioctl`s.
#![expect(
    unsafe_code,
    reason = "tun-tap offers its descriptor only as a number; ioctl"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use tun_tap::Iface;

use crate::device::Mode;

/// The descriptor of the device, for as long as the device is borrowed.
pub(crate) fn descriptor(iface: &Iface) -> BorrowedFd<'_> {
    // SAFETY: `iface` owns an open file and closes it only when dropped; the borrow of `iface`
    // that the result carries keeps it from being dropped or taken apart. The number is not -1,
    // because it came from an open that succeeded.
    unsafe { BorrowedFd::borrow_raw(iface.as_raw_fd()) }
}

/// What a queue is opened as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flavor {
    /// Which kind of packets.
    pub(crate) mode: Mode,
    /// A virtio header stands in front of each packet.
    pub(crate) virtio: bool,
    /// It is one of several queues.
    pub(crate) several: bool,
    /// The interface must not exist.
    pub(crate) exclusive: bool,
}

impl Flavor {
    fn flags(self) -> libc::c_int {
        let kind = match self.mode {
            Mode::Tun => libc::IFF_TUN,
            Mode::Tap => libc::IFF_TAP,
        };
        let asked = [
            (self.virtio, libc::IFF_VNET_HDR),
            (self.several, libc::IFF_MULTI_QUEUE),
            (self.exclusive, libc::IFF_TUN_EXCL),
        ];
        let asked = asked.into_iter().filter(|(is_asked, _)| *is_asked);
        asked.fold(kind | libc::IFF_NO_PI, |flags, (_, flag)| flags | flag)
    }
}

/// Opens a queue of the interface `name`, and creates the interface if there is none; returns the
/// queue with the interface's name.
///
/// Shape: `name` shorter than `IFNAMSIZ`, which the caller has checked; a longer one is refused.
pub(crate) fn open_queue(name: &str, flavor: Flavor) -> io::Result<(File, String)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: all members of `ifreq` are plain numbers, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flavor.flags() as libc::c_short;
    // SAFETY: `TUNSETIFF` reads and writes one `ifreq`, which `request` is and outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let name = request.ifr_name.iter().take_while(|letter| **letter != 0);
    let name = name.map(|letter| *letter as u8).collect::<Vec<_>>();
    let name = String::from_utf8(name).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok((file, name))
}

/// Keeps packets from a queue, which can be written to all the same.
pub(crate) fn detach_queue(queue: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all members of `ifreq` are plain numbers, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_flags = libc::IFF_DETACH_QUEUE as libc::c_short;
    // SAFETY: `TUNSETQUEUE` reads one `ifreq`, which `request` is and outlives the call.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETQUEUE, &mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What a device may be told to hand over unfinished: `TUN_F_*` of the kernel's `linux/if_tun.h`.
pub(crate) mod unfinished {
    /// Packets without their checksum; nothing else is to be had without it.
    pub(crate) const CHECKSUM: u32 = 0x01;
    /// Super-packets of TCP over IPv4.
    pub(crate) const TCP4: u32 = 0x02;
    /// Super-packets of TCP over IPv6.
    pub(crate) const TCP6: u32 = 0x04;
    /// Those of TCP whose first segment carries CWR.
    pub(crate) const TCP_ECN: u32 = 0x08;
    /// Super-packets of UDP, which the kernel gives over both or none (Linux 6.2 and later).
    pub(crate) const UDP: u32 = 0x20 | 0x40;
}

/// Asks for super-packets: TCP always, UDP where the kernel has it. Returns whether it has.
///
/// # Errors
/// `Unsupported` when not even TCP is there.
pub(crate) fn set_offload(device: BorrowedFd<'_>) -> io::Result<bool> {
    use unfinished::{CHECKSUM, TCP_ECN, TCP4, TCP6, UDP};
    let tcp = CHECKSUM | TCP4 | TCP6 | TCP_ECN;
    for (kinds, udp) in [(tcp | UDP, true), (tcp, false)] {
        if ask_unfinished(device, kinds).is_ok() {
            return Ok(udp);
        }
    }
    Err(io::ErrorKind::Unsupported.into())
}

/// Tells a device what to hand over [`unfinished`], from the next packet on.
///
/// # Errors
/// `InvalidInput` when the kernel does not know all of it; nothing has changed then.
pub(crate) fn ask_unfinished(device: BorrowedFd<'_>, kinds: u32) -> io::Result<()> {
    let kinds = libc::c_ulong::from(kinds);
    // SAFETY: `TUNSETOFFLOAD` takes its argument as a number and touches no memory of ours.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, kinds) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
