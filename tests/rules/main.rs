//! House rules as tests.

mod noalloc;
#[cfg(feature = "daemon")]
mod noalloc_device;
#[cfg(feature = "daemon")]
mod noalloc_worker;
mod nolock;
mod protocol;
#[cfg(feature = "daemon")]
mod rig;
