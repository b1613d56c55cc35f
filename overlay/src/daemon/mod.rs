//! The only place that owns things: clock, sockets, device, threads.
