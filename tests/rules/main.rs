//! House rules as tests.

mod noalloc;
#[cfg(feature = "daemon")]
mod noalloc_device;
mod protocol;
