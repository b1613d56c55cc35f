//! The hot loop, pure: one batch of datagrams through.

pub mod count;
pub mod rx;
pub mod tx;
