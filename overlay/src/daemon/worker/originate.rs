//! From the device into the mesh: packets read, packets that waited, answers into the device.

use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use tuntap::{WriteOutcome, is_gone};
use wire::HEADER_LEN;

use super::{ROUNDS, Worker};
use crate::daemon::port::Sending;
use crate::daemon::shared::{Shared, Snapshot};
use crate::link::udp::{Outbound, Sender};
use crate::node::zone::Zones;
use crate::pump::count::{DropReason, Total};
use crate::pump::rx::Span;
use crate::pump::tx::TxBatch;
use crate::pump::{Outgoing, Pump};
use crate::time::Instant;

/// What messages of ours go through.
pub(super) struct Way<'w> {
    pub(super) shared: &'w Shared,
    pub(super) snapshot: &'w Snapshot,
    pub(super) pump: &'w mut Pump,
    pub(super) nonces: &'w mut ChaCha12Rng,
    pub(super) tx: &'w mut TxBatch,
    pub(super) sender: &'w mut Sender,
}

impl Way<'_> {
    /// Makes messages of payloads that lie in `arena` behind room for a header, and sends them.
    pub(super) fn flood(&mut self, now: Instant, outgoing: &[Outgoing], arena: &mut [u8]) {
        self.tx.clear();
        let (flood, nonces) = (&self.shared.flood, &mut *self.nonces);
        let mut nonce = || nonces.next_u32();
        self.pump
            .originate(now, flood, outgoing, arena, &mut nonce, self.tx);
        let to = Outbound {
            sockets: &self.shared.sockets,
            neighbors: &self.snapshot.neighbors,
            sessions: self.snapshot.sessions.as_deref(),
            counters: &self.shared.counters,
        };
        self.sender.flush(&to, now, arena, self.tx);
    }
}

impl Worker {
    /// Step 4.
    pub(super) fn originate(&mut self, now: Instant, snapshot: &Snapshot) {
        for _ in 0..ROUNDS {
            let Some(device) = &mut self.device else {
                return;
            };
            self.read.clear();
            let read = device.read_batch(&mut self.read);
            self.count_truncated();
            match read {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_gone(&error) => return self.lose_device(),
                Err(error) => {
                    tracing::debug!(%error, "the device cannot be read");
                    return self.shared.counters.count(DropReason::DeviceError);
                }
            }
            self.send_batch(now, snapshot);
            // Nothing waited when the batch was not full: what has come since is the next turn's.
            if !self.read.is_full() {
                return;
            }
        }
    }

    /// Counts packets that the read left out, because somebody raised the device's MTU.
    fn count_truncated(&mut self) {
        let fresh = self.read.truncated().saturating_sub(self.truncated);
        self.truncated += fresh;
        let counters = &self.shared.counters;
        counters.count_many(DropReason::ReadTruncated, fresh);
    }

    /// Decides about each packet of the read batch and floods those that go somewhere.
    fn send_batch(&mut self, now: Instant, snapshot: &Snapshot) {
        self.outgoing.clear();
        let counters = self.shared.counters.clone();
        for number in 0..self.read.packets().len() {
            let slot = self.read.packets()[number];
            let packet = slot.of(self.read.arena());
            match self.port.outgoing(now, snapshot, packet) {
                Ok(sending) => self.prepare(slot.start, slot.len, sending),
                Err(Some(reason)) => {
                    counters.count(reason);
                    self.answer();
                }
                // Held until its destination is claimed.
                Err(None) => {}
            }
        }
        if snapshot.neighbors.links().is_empty() {
            return counters.count_many(DropReason::NoNeighbor, self.outgoing.len() as u64);
        }
        counters.add(Total::Originated, self.outgoing.len() as u64);
        if let Some(ends) = &snapshot.ends {
            self.seal(now, snapshot, ends);
        }
        let Self {
            shared,
            pump,
            read,
            outgoing,
            nonces,
            tx,
            sender,
            ..
        } = self;
        let mut way = Way {
            shared,
            snapshot,
            pump,
            nonces,
            tx,
            sender,
        };
        way.flood(now, outgoing, read.arena_mut());
    }

    /// Edits a packet while it is ours alone, puts the service byte in front of a frame, and notes
    /// the message.
    fn prepare(&mut self, start: u32, len: u32, sending: Sending) {
        let arena = self.read.arena_mut();
        self.port.edit(Span { start, len }.of_mut(arena));
        let start = self.port.frame(arena, start);
        let end = start + len + self.port.extra();
        let span = Span {
            start: start - HEADER_LEN as u32,
            len: end - start + HEADER_LEN as u32,
        };
        self.outgoing.push(Outgoing {
            span,
            dst: sending.dst,
            flags: sending.flags,
            zones: Zones::All,
            alone: false,
        });
    }

    /// Writes the ICMP answer that the port made, if it made one.
    fn answer(&mut self) {
        let Some(device) = &mut self.device else {
            return;
        };
        let Some(answer) = self.port.take_answer() else {
            return;
        };
        let counters = &*self.shared.counters;
        device.write_batch(
            &mut std::iter::once(answer),
            &mut |_, outcome| match outcome {
                WriteOutcome::Written => counters.add(Total::Unreachables, 1),
                _ => counters.count(DropReason::DeviceError),
            },
        );
    }

    /// Step 5: packets that waited for a claim, when a new snapshot may bring it or time is up.
    pub(super) fn release(&mut self, now: Instant, snapshot: Arc<Snapshot>) {
        let due = self.port.held_until().is_some_and(|at| now >= at);
        let fresh = self
            .last_seen
            .as_ref()
            .is_none_or(|last| !Arc::ptr_eq(last, &snapshot));
        if due || (fresh && self.port.held_until().is_some()) {
            self.read.clear();
            self.outgoing.clear();
            let counters = self.shared.counters.clone();
            // A released packet goes back into the read batch and out the usual way.
            let waiting = self.port.release(now, &snapshot.routes);
            for released in waiting {
                match released {
                    Ok(packet) => {
                        if self.read.is_full() {
                            self.send_batch(now, &snapshot);
                            self.read.clear();
                        }
                        if !self.read.push(&packet) {
                            counters.count(DropReason::HoldFull);
                        }
                    }
                    Err(packet) => {
                        counters.count(DropReason::HoldExpired);
                        self.port.make_unreachable(now, &snapshot.routes, &packet);
                        self.answer();
                    }
                }
            }
            if !self.read.packets().is_empty() {
                self.send_batch(now, &snapshot);
            }
        }
        self.last_seen = Some(snapshot);
    }
}
