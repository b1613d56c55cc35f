//! Whole meshes on one machine, in network namespaces.
#![allow(
    clippy::disallowed_methods,
    reason = "the lab measures from outside the program and so reads the clock itself"
)]

pub mod net;
