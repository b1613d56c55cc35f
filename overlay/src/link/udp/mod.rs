//! The UDP transport.
