//! What becomes of a datagram: the data plane.
