//! Payloads that wait for a session with one end.

use std::collections::VecDeque;

/// Payloads of one end at most (S48).
const MESSAGES: usize = 128;
/// Bytes of one end at most.
const BYTES: usize = 256 * 1_024;
/// Bytes of all ends at most.
pub(super) const BYTES_IN_ALL: usize = 8 << 20;

/// In order of arrival, each with its number among all ends'.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    payloads: VecDeque<(u64, Box<[u8]>)>,
    bytes: usize,
}

impl Waiting {
    /// Adds one; the oldest give way. Gives how many did, and their bytes.
    pub(super) fn push(&mut self, number: u64, payload: Box<[u8]>) -> (usize, usize) {
        self.bytes += payload.len();
        self.payloads.push_back((number, payload));
        let (len, bytes) = (self.len(), self.bytes);
        while (self.len() > MESSAGES || self.bytes > BYTES) && self.pop().is_some() {}
        (len - self.len(), bytes - self.bytes)
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Box<[u8]>> {
        let (_, payload) = self.payloads.pop_front()?;
        self.bytes -= payload.len();
        Some(payload)
    }

    /// The number of the oldest.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.payloads.front().map(|(number, _)| *number)
    }

    /// Forgets all; gives how many there were.
    pub(super) fn clear(&mut self) -> usize {
        self.bytes = 0;
        self.payloads.drain(..).count()
    }

    pub(super) fn len(&self) -> usize {
        self.payloads.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
