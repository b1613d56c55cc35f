//! The one place of this crate where memory and descriptors are taken on trust.
//!
//! `tun-tap` hands out its descriptor as a bare number. Here it becomes a borrow again, so that
//! nobody else has to promise that it is open.
#![expect(unsafe_code, reason = "tun-tap offers its descriptor only as a number")]

use std::os::fd::{AsRawFd, BorrowedFd};

use tun_tap::Iface;

/// The descriptor of the device, for as long as the device is borrowed.
pub(crate) fn descriptor(iface: &Iface) -> BorrowedFd<'_> {
    // SAFETY: `iface` owns an open file and closes it only when dropped; the borrow of `iface`
    // that the result carries keeps it from being dropped or taken apart. The number is not -1,
    // because it came from an open that succeeded.
    unsafe { BorrowedFd::borrow_raw(iface.as_raw_fd()) }
}
