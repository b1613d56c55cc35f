//! The keyed hash of a message.
