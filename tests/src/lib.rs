//! Harnesses for everything larger than a module.
