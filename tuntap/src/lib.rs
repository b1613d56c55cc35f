//! The virtual network device: TUN or TAP, opened, addressed, and moved in batches.
//!
//! What this is for: giving the mesh a network interface that every program of the host can use.
//! What it is not for: deciding anything about packets. It knows nothing of nodes, links or the
//! wire format.
//!
//! ```text
//!   open(config) -> Opened { queues, skipped }          once at start, again after a loss
//!
//!   kernel --packet--> Device::read_batch  --> ReadBatch   packets with headroom, in one arena
//!   kernel <--packet-- Device::write_batch <-- slices      each with a WriteOutcome
//!
//!   Watch::next() -> Change                                what others do to interfaces
//! ```
//!
//! 1. [`open()`] creates the interface, sets MTU and MAC, keeps the kernel from inventing a
//!    link-local address, adds the addresses and brings the interface up. The interface lives as
//!    long as the [`Device`].
//! 2. A worker thread owns a [`Device`], waits for [`Device::readiness`] and moves batches; where
//!    several read, each has a queue of its own.
//! 3. The control plane owns a [`Watch`] and learns there that the interface went down, was
//!    deleted, or that the host's own addresses and routes changed.
//!
//! With [`strict`](OpenConfig::strict) nothing for the device's networks leaves by another interface.
//!
//! Read [`Device`] first. Tests use its twins [`MemoryDevice`] and [`offload_pair`].
//!
//! Sources: the kernel's `Documentation/networking/tuntap.rst`, netlink(7), rtnetlink(7).

mod batch;
mod device;
mod error;
mod linux;
mod memory;
mod name;
mod netlink;
mod offload;
mod open;
mod plain;
mod queue;
pub mod strict;
mod watch;

pub use batch::{OFFLOAD_READ_SLOTS, READ_SLOTS, ReadBatch, Slot};
pub use device::{
    Device, DeviceInfo, MergingEnded, Mode, Offload, Refusal, UnknownMode, WriteOutcome, is_gone,
};
pub use error::{OpenError, SkipReason, SkippedAddress};
pub use memory::{Condition, MemoryDevice, MemoryHandle, OffloadHandle, Writes, offload_pair};
pub use name::{NameProblem, check_name};
pub use netlink::{LocalAddress, device_exists, local_addresses, set_mtu};
pub use open::{OffloadChoice, OpenConfig, Opened, open};
pub use watch::{Change, Watch};
