//! Transports: datagrams in, datagrams out.
//!
//! What every transport promises, and nothing more:
//!
//! 1. *Whole datagrams.* What is sent arrives as it was or not at all, never in parts or joined.
//! 2. *No order, no delivery.* Datagrams may overtake each other, come twice or vanish; whatever
//!    is dropped on this machine is counted by its reason.
//! 3. *A size limit.* A datagram of up to [`wire::MAX_DATAGRAM`] bytes goes through. One that is
//!    larger than the path's MTU is carried in fragments and counted, never refused for that.
//! 4. *It never blocks.* What the machine does not take at once is dropped and counted; a link
//!    whose queue is full is left alone for a moment and the other links go on.
//! 5. *Links do not hurt each other.* A far end that is unreachable, refuses, or is slow costs the
//!    other links no datagram.
//! 6. *Only its owner closes it.* No error of a far end or of the network closes a transport; it
//!    lives until it is dropped.
//!
//! A transport knows endpoints and bytes. Which link a datagram belongs to, whether it is
//! forwarded and to whom, is decided in `node` and `pump`.

pub mod udp;
