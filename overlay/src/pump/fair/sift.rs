//! A batch through the shares: what is not to be opened, and then what is not to be handled, leaves it.

use std::sync::atomic::Ordering::Relaxed;

use wire::sealed::{LinkHeader, SealedKind};
use wire::{Header, NetId};

use super::Fair;
use crate::id::Endpoint;
use crate::node::snapshot::{LinkEntry, NeighborSet};
use crate::pump::count::{Counters, DropReason, Total};
use crate::pump::rx::{MESSAGES, RX_BUFFERS, RxBatch, RxMessage, Span};
use crate::seal::sessions::SessionSet;
use crate::time::Instant;

/// What a batch is sifted by.
#[derive(Clone, Copy, Debug)]
pub struct Sifting<'s> {
    /// When its turn began.
    pub now: Instant,
    /// The live links.
    pub neighbors: &'s NeighborSet,
    /// Counts what leaves, as received and as UnfairShare.
    pub counters: &'s Counters,
}

/// The shares of a receiving thread, and the scratch memory for taking batches apart by them.
///
/// The default one has no room, and is for a thread that receives nothing.
///
/// Cost: nothing but a test while the node is not saturated. No allocation, no lock.
#[derive(Debug, Default)]
pub struct Sieve {
    /// The shares.
    pub fair: Fair,
    received: Vec<RxMessage>,
}

impl Sieve {
    /// With all the memory it will ever need, 0.7 MB: for batches of a sealed node, which come apart in opening, or of a plain one.
    pub fn new(is_sealed: bool) -> Self {
        let room = if is_sealed { MESSAGES } else { RX_BUFFERS };
        Self {
            fair: Fair::new(is_sealed),
            received: Vec::with_capacity(room),
        }
    }

    /// Takes out of a batch, as received, what is not to be opened. Handshakes stay: they have
    /// budgets of their own (S27, S31).
    pub fn sift_sealed(&mut self, by: Sifting<'_>, sessions: &SessionSet, rx: &mut RxBatch) {
        if !self.fair.is_saturated() {
            return;
        }
        self.sift(by, rx, |fair, message, datagram| {
            let bytes = datagram.len() as u32;
            // Of the open zone, where there is one: there is nothing to open, but it is a neighbor's.
            if datagram.first() == Some(&wire::MAGIC)
                && let Some(link) = link_at(by.neighbors, &message.path.endpoint)
                && link.open
            {
                return match fair.opens(by.now, link.netid, bytes) {
                    true => Ok(()),
                    false => Err(Some(link)),
                };
            }
            let is_link = SealedKind::of(datagram) == Ok(SealedKind::Link);
            let header = LinkHeader::parse(datagram).ok().filter(|_| is_link);
            // What no session opens costs nothing more, and is counted as what it is.
            let Some(opens) = header.and_then(|header| sessions.opens(header.receiver)) else {
                fair.stranger(bytes);
                return Ok(());
            };
            match fair.opens(by.now, opens.netid, bytes) {
                true => Ok(()),
                false => {
                    let link = link_at(by.neighbors, &opens.path.endpoint);
                    Err(link.filter(|link| link.netid == opens.netid))
                }
            }
        });
    }

    /// Takes out of a batch of messages what is not to be handled; `in_clear` if they were received so,
    /// and not passed [`Self::sift_sealed`].
    pub fn sift_messages(&mut self, by: Sifting<'_>, in_clear: bool, rx: &mut RxBatch) {
        if !self.fair.is_saturated() {
            return;
        }
        self.sift(by, rx, |fair, message, datagram| {
            let link = link_at(by.neighbors, &message.path.endpoint);
            let bytes = datagram.len() as u32;
            let Some(entry) = link else {
                if in_clear {
                    fair.stranger(bytes);
                }
                return Ok(());
            };
            if in_clear {
                fair.opens(by.now, entry.netid, bytes);
            }
            let origin = Header::parse(datagram).map_or(NetId::ANY, |header| header.src);
            match fair.takes(by.now, entry.netid, origin, bytes) {
                true => Ok(()),
                false => Err(link),
            }
        });
    }

    /// Keeps those datagrams for which `judge` says so; an error is the link that the others count at.
    fn sift<'l>(
        &mut self,
        by: Sifting<'l>,
        rx: &mut RxBatch,
        judge: impl Fn(&mut Fair, &RxMessage, &[u8]) -> Result<(), Option<&'l LinkEntry>>,
    ) {
        self.received.clear();
        self.received.extend_from_slice(rx.messages());
        rx.clear();
        let mut unfair = 0;
        for message in &self.received {
            let mut run = Run::default();
            for (span, cut) in message.datagrams() {
                match judge(&mut self.fair, message, span.of(rx.arena())) {
                    Ok(()) => run.add(span, cut),
                    Err(link) => {
                        unfair += 1;
                        if let Some(link) = link {
                            link.stats.unfair.fetch_add(1, Relaxed);
                        }
                        unfair += run.end(message, rx);
                    }
                }
            }
            unfair += run.end(message, rx);
        }
        if unfair > 0 {
            by.counters.add(Total::Received, unfair);
            by.counters.count_many(DropReason::UnfairShare, unfair);
        }
    }
}

fn link_at<'n>(neighbors: &'n NeighborSet, endpoint: &Endpoint) -> Option<&'n LinkEntry> {
    let index = neighbors.find(endpoint)?;
    neighbors.links().get(usize::from(index))
}

/// Datagrams of one kernel message that lie next to each other and stay.
#[derive(Default)]
struct Run {
    span: Option<Span>,
    datagrams: u64,
    is_cut: bool,
}

impl Run {
    fn add(&mut self, span: Span, cut: bool) {
        let so_far = self.span.get_or_insert(Span { len: 0, ..span });
        so_far.len += span.len;
        self.datagrams += 1;
        self.is_cut |= cut;
    }

    /// Puts the run back into the batch. Gives how many did not find room there.
    fn end(&mut self, message: &RxMessage, rx: &mut RxBatch) -> u64 {
        let Self {
            span: Some(span),
            datagrams,
            is_cut,
        } = std::mem::take(self)
        else {
            return 0;
        };
        let kept = RxMessage {
            span,
            truncated: is_cut,
            ..*message
        };
        if rx.replace(kept) { 0 } else { datagrams }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wire::{Flags, HEADER_LEN, Kind};

    use super::*;
    use crate::id::{LinkId, Path, SocketId};
    use crate::keyed::KeyedHasher;

    const LEN: usize = HEADER_LEN + 84;

    fn path(port: u16) -> Path {
        Path::to(Endpoint::new(SocketId(0), ([192, 0, 2, 1], port).into()))
    }

    fn neighbors(open: bool) -> NeighborSet {
        let links = (1..=2_u16).map(|n| LinkEntry {
            open,
            id: LinkId(u32::from(n)),
            netid: NetId(u32::from(n)),
            neighbor: n - 1,
            path: path(n),
            stats: Arc::default(),
        });
        NeighborSet::new(links.collect(), [], KeyedHasher(1, 2))
    }

    /// A train over the link of this neighbor; every second datagram is of `other`.
    fn train(rx: &mut RxBatch, buffer: usize, via: u16, other: u32, datagrams: usize) {
        let start = buffer * crate::pump::rx::RX_BUFFER_LEN;
        for n in 0..datagrams {
            let src = if n % 2 == 0 { u32::from(via) } else { other };
            let header = Header {
                kind: Kind::Data,
                flags: Flags::NONE,
                nonce: n as u32,
                src: NetId(src),
                dst: NetId(9),
            };
            header.emit(&mut rx.arena_mut()[start + n * LEN..][..LEN]);
        }
        rx.push(RxMessage {
            span: Span {
                start: start as u32,
                len: (datagrams * LEN) as u32,
            },
            stride: LEN as u32,
            path: path(via),
            interface: 1,
            truncated: false,
            alone: false,
        });
    }

    /// Sources of all datagrams of the batch.
    fn sources(rx: &RxBatch) -> Vec<u32> {
        let datagrams = rx.messages().iter().flat_map(RxMessage::datagrams);
        datagrams
            .map(|(span, _)| Header::parse(span.of(rx.arena())).unwrap().src.0)
            .collect()
    }

    #[test]
    fn trains_come_apart_and_what_leaves_is_counted_at_the_link_that_brought_it() {
        let (neighbors, counters) = (neighbors(false), Counters::default());
        let mut sieve = Sieve::new(false);
        let mut rx = RxBatch::default().with_all_messages();
        for (source, via) in [(1, 1), (7, 1), (2, 2)] {
            sieve.fair.heard(Instant::ZERO, NetId(source), NetId(via));
        }
        let mut now = Instant::ZERO;
        let fill = |rx: &mut RxBatch| {
            rx.clear();
            // Neighbor 1 floods, and brings a little of 7 besides; neighbor 2 sends little.
            for buffer in 0..6 {
                train(rx, buffer, 1, 1, 100);
            }
            train(rx, 6, 1, 7, 10);
            train(rx, 7, 2, 2, 10);
        };
        let mut received = 0;
        for turn in 0..12 {
            fill(&mut rx);
            let by = Sifting {
                now,
                neighbors: &neighbors,
                counters: &counters,
            };
            let before = sources(&rx).len() as u64;
            sieve.sift_messages(by, true, &mut rx);
            let after = sources(&rx).len() as u64;
            received += before - after;
            if turn == 0 {
                assert_eq!(before, after, "nothing is dropped before anything was lost");
            }
            now = now + super::super::INTERVAL;
            // A buffer that stays full: less and less is taken.
            sieve.fair.settle(now, 0.9, true);
        }
        let left = sources(&rx);
        let of = |source| left.iter().filter(|src| **src == source).count();
        assert_eq!((of(7), of(2)), (5, 10));
        assert!(of(1) < 300, "{}", of(1));
        let unfair = |index: usize| neighbors.links()[index].stats.unfair.load(Relaxed);
        assert!(unfair(0) > 0);
        assert_eq!(unfair(1), 0);
        assert_eq!(unfair(0), received);
        assert_eq!(counters.dropped(DropReason::UnfairShare), received);
        assert_eq!(counters.total(Total::Received), received);
    }
    #[test]
    fn in_a_node_with_an_open_zone_plain_neighbors_have_shares_like_all_others() {
        let (neighbors, counters) = (neighbors(true), Counters::default());
        let sessions = SessionSet::new(KeyedHasher(1, 2));
        let mut sieve = Sieve::new(true);
        let mut rx = RxBatch::default().with_all_messages();
        for via in [1, 2] {
            sieve.fair.heard(Instant::ZERO, NetId(via), NetId(via));
        }
        let mut now = Instant::ZERO;
        for _ in 0..12 {
            rx.clear();
            for buffer in 0..6 {
                train(&mut rx, buffer, 1, 1, 100);
            }
            train(&mut rx, 6, 2, 2, 10);
            let by = Sifting {
                now,
                neighbors: &neighbors,
                counters: &counters,
            };
            sieve.sift_sealed(by, &sessions, &mut rx);
            sieve.sift_messages(by, false, &mut rx);
            now = now + super::super::INTERVAL;
            sieve.fair.settle(now, 0.9, true);
        }
        let left = sources(&rx);
        let of = |source| left.iter().filter(|src| **src == source).count();
        assert_eq!(of(2), 10);
        assert!(of(1) < 300, "{}", of(1));
        let unfair = |index: usize| neighbors.links()[index].stats.unfair.load(Relaxed);
        assert!(unfair(0) > 0);
        assert_eq!(unfair(1), 0);
    }
}
