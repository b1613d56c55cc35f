//! House rules as tests.

#[cfg(feature = "daemon")]
mod memory;
mod noalloc;
#[cfg(feature = "daemon")]
mod noalloc_device;
#[cfg(feature = "daemon")]
mod noalloc_worker;
mod nolock;
mod protocol;
#[cfg(feature = "daemon")]
mod rig;
mod sealed;
mod vectors;
