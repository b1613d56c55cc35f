//! Transports: datagrams in, datagrams out.

pub mod udp;
