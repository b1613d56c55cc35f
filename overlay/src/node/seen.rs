//! The five-minute memory.
