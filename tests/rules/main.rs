//! House rules as tests.

#[cfg(feature = "daemon")]
mod memory;
mod noalloc;
#[cfg(feature = "daemon")]
mod noalloc_device;
mod protocol;
