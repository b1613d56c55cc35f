//! Harnesses for everything larger than a module.

pub mod fuzz;
pub mod world;
