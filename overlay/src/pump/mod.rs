//! The hot loop, pure: one batch of datagrams through.
//!
//! ```text
//! RxBatch --> which link? --> classify all --> digest all --> prefetch all --> probe all
//!                                                                                 |
//!               TxBatch (forward) <---- in order, one by one: decide, count <-----+
//!               Sink (device, service, control)
//! ```
//!
//! Each step runs over up to [`CHUNK`] datagrams before the next begins, so that the fetches of
//! the seen table overlap. Received bytes are never written to: what is delivered and forwarded
//! leaves as it came. Nothing is allocated after [`Pump::default`].
//!
//! Counting: each datagram counts as `received`, and then exactly once: as `control` (a stranger's
//! Hello, direct Ping or Pong), as `flooded` (new), or as one of [`flood::JUDGED`],
//! `underlay_in_overlay` or `rx_truncated`. `forwarded` and `unknown_service` come on top.
//!
//! Read [`Pump::receive`] first, then [`Sink`] for what comes out.
//!
//! [`flood::JUDGED`]: crate::node::flood::JUDGED

pub mod count;
pub mod fair;
mod heard;
pub mod rx;
#[cfg(test)]
mod tests;
pub mod tx;

use std::sync::atomic::Ordering::Relaxed;

use wire::service::{self, Service};
use wire::{Flags, HEADER_LEN, Header, Kind, NetId};

use crate::id::Path;
use crate::node::flood::{Class, Deliver, Flood, Verdict, decide};
use crate::node::seen::{OWN, Seen};
use crate::node::snapshot::{LinkEntry, NeighborSet};
use crate::node::zone::{Guest, Zones};
use crate::time::Instant;
use count::{Counters, DropReason, Total};
use heard::Heard;
use rx::{RxBatch, RxMessage, Span};
use tx::TxBatch;

/// Datagrams that go through each step together.
pub const CHUNK: usize = 64;
/// Mixed into the digest of what came over a link of the open zone: the zones are two floods, and a
/// copy in one must not stand in the way of the message in the other (S87).
const OPEN_ZONE: u64 = 0x6f70_656e_207a_6f6e;
/// Mixed into the digest of what was delivered, in a node with two zones: a message that comes in
/// both is delivered once.
const DELIVERED: u64 = 0x6465_6c69_7665_7265;
/// Further nonces drawn for a message like one that was sent before.
const REDRAWS: usize = 8;

/// Where a control datagram came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Socket, far end, and the address of ours that was spoken to.
    pub path: Path,
    /// Index of the live link in the `NeighborSet`; `None` for a stranger.
    pub link: Option<u16>,
    /// A stranger's, but we are dialing it: goes before those that come unasked.
    pub expected: bool,
    /// A further copy of a Pong for us: it counts towards ping's last hops and for nothing else.
    pub duplicate: bool,
}

/// A Data message for the device, lying in the arena it was received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who made it.
    pub origin: NetId,
    /// Our netid, [`NetId::ANY`] or [`NetId::ALL`].
    pub dst: NetId,
    /// The payload: an IP packet, or [`FRAME`](crate::node::flood::FRAME) and an Ethernet frame;
    /// at least one byte.
    pub payload: Span,
}

/// Who takes what the pump delivers. Called in the order of arrival.
pub trait Sink {
    /// A packet or frame; `arena` is what its payload is a range of.
    fn device(&mut self, packet: Packet, arena: &[u8]);
    /// A payload of the directory, first byte included; `link` brought it.
    fn service(&mut self, link: &LinkEntry, header: &Header, payload: &[u8]);
    /// Whether Data in clear may be delivered that came over this link; a plain node takes all.
    fn admits(&self, _link: &LinkEntry, _header: &Header) -> bool {
        true
    }
    /// A payload that is sealed end to end, and the link that brought it; `direct` if its origin is the link's far end and it
    /// goes no further. Gives whether it is taken: a plain node takes none.
    fn sealed(&mut self, _link: &LinkEntry, _packet: Packet, _direct: bool) -> bool {
        false
    }
    /// A control message, whole.
    fn control(&mut self, arrival: Arrival, datagram: &[u8]);
    /// A stranger sent what only neighbors may. At most once a batch.
    fn stranger(&mut self, path: Path);
    /// Somebody else uses our netid. At most once a batch.
    fn conflict(&mut self, path: Path);
    /// A new message of `origin` came over a live link of the neighbor `via`. At most once a second
    /// per node, nearly: two nodes may push each other out of the memory for this.
    fn heard(&mut self, origin: NetId, via: NetId);
    /// A message of `origin`, new or not, came over a live link of the neighbor `via`. At most once a second
    /// each for both, nearly. Who is always the first with it cannot hide that others bring it too.
    fn brought(&mut self, _origin: NetId, _via: NetId, _is_new: bool) {}
}

/// What a batch is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'s> {
    /// Rules and seen table.
    pub flood: &'s Flood,
    /// The live links; loaded once a batch.
    pub neighbors: &'s NeighborSet,
    /// All counters.
    pub counters: &'s Counters,
    /// Index of our own device's interface, 0 when there is none: what comes in through it is
    /// our link traffic inside the mesh (SECURITY T15).
    pub device_index: u32,
}

/// A packet read from the device, to be made a message.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// The whole datagram in the arena: [`HEADER_LEN`] bytes of headroom, then the payload.
    pub span: Span,
    /// Whom it is for.
    pub dst: NetId,
    /// [`Flags::NONE`], or [`Flags::NO_FORWARD`] for what stays with the neighbors.
    pub flags: Flags,
    /// Over links of which zones it goes.
    pub zones: Zones,
    /// It goes over one sealed link, to its destination: nothing of it can come back or come twice,
    /// so the seen table is spared (SEALED.md S82).
    pub alone: bool,
}

/// One datagram on its way through the steps.
#[derive(Clone, Copy, Debug)]
struct Item {
    span: Span,
    /// Place of the kernel message it came in.
    message: usize,
    link: Option<u16>,
    class: Class,
}

/// The scratch memory of one worker.
#[derive(Debug)]
pub struct Pump {
    items: Vec<Item>,
    /// Of the items that have one, in order.
    digests: Vec<u64>,
    /// Of the candidates, in order.
    entries: Vec<(u64, u16)>,
    seen: [Seen; CHUNK],
    heard: Heard,
}

impl Default for Pump {
    fn default() -> Self {
        Self {
            items: Vec::with_capacity(CHUNK),
            digests: Vec::with_capacity(CHUNK),
            entries: Vec::with_capacity(CHUNK),
            seen: [Seen::Known; CHUNK],
            heard: Heard::default(),
        }
    }
}

/// One call of [`Pump::receive`].
struct Round<'r, S> {
    now: Instant,
    scene: Scene<'r>,
    rx: &'r RxBatch,
    tx: &'r mut TxBatch,
    sink: &'r mut S,
    /// Whether the sink was told of a stranger, and of a conflict.
    told: (bool, bool),
    tally: Tally,
}

/// Counts that are added up before they go to the shared counters.
#[derive(Debug, Default)]
struct Tally {
    flooded: u64,
    control: u64,
    forwarded: u64,
    duplicates: u64,
}

impl Pump {
    /// Takes one batch through: judges, counts, delivers to `sink`, and adds to `tx` what goes on,
    /// as ranges of the arena of `rx`.
    ///
    /// Shape: `tx` has room for as many items as there are datagrams, or it allocates.
    /// State: the seen table, the counters, the links' counts.
    /// Cost:  one hash and one table access a message.
    pub fn receive(
        &mut self,
        now: Instant,
        scene: Scene<'_>,
        rx: &RxBatch,
        tx: &mut TxBatch,
        sink: &mut impl Sink,
    ) {
        let mut round = Round {
            now,
            scene,
            rx,
            tx,
            sink,
            told: (false, false),
            tally: Tally::default(),
        };
        for (place, message) in rx.messages().iter().enumerate() {
            self.classify(place, message, &mut round);
        }
        self.judge(&mut round);
        let shortened = scene.flood.seen().take_shortened();
        if shortened > 0 {
            scene.counters.add(Total::SeenShortened, shortened);
        }
    }

    /// Steps 1 and 2: the link of a kernel message, and the class of each of its datagrams.
    fn classify<S: Sink>(&mut self, place: usize, message: &RxMessage, round: &mut Round<'_, S>) {
        let scene = round.scene;
        let link = scene.neighbors.find(&message.path.endpoint);
        let entry = link.and_then(|link| scene.neighbors.links().get(usize::from(link)));
        let from = entry.map(|entry| entry.neighbor);
        let looped = message.interface != 0 && message.interface == scene.device_index;
        let (mut received, mut heard, mut bytes) = (0, 0, 0);
        for (span, cut) in message.datagrams() {
            if self.items.len() == CHUNK {
                self.judge(round);
            }
            let mut class = if looped {
                Class::Settled(Verdict::Drop(DropReason::UnderlayInOverlay))
            } else if cut {
                Class::Settled(Verdict::Drop(DropReason::RxTruncated))
            } else {
                scene.flood.classify(from, span.of(round.rx.arena()))
            };
            if message.alone {
                class = class.settle_alone();
            }
            received += 1;
            if !looped && !cut && class.is_well_formed() {
                heard += 1;
                bytes += u64::from(span.len);
            }
            self.items.push(Item {
                span,
                message: place,
                link,
                class,
            });
        }
        scene.counters.add(Total::Received, received);
        if let (Some(entry), 1..) = (entry, heard) {
            entry.stats.last_heard.store(round.now.0, Relaxed);
            entry.stats.rx_datagrams.fetch_add(heard, Relaxed);
            entry.stats.rx_bytes.fetch_add(bytes, Relaxed);
        }
    }

    /// Steps 3 to 6 for the items gathered so far.
    fn judge<S: Sink>(&mut self, round: &mut Round<'_, S>) {
        let flood = round.scene.flood;
        let links = round.scene.neighbors.links();
        self.digests.clear();
        self.entries.clear();
        // 3. Digest.
        for item in &self.items {
            if matches!(item.class, Class::Settled(_)) {
                continue;
            }
            let mut digest = flood.digest(item.span.of(round.rx.arena()));
            if let (Class::Candidate { .. }, Some(link)) = (item.class, item.link) {
                let link = &links[usize::from(link)];
                if link.open {
                    digest ^= OPEN_ZONE;
                }
                self.entries.push((digest, link.neighbor));
            }
            self.digests.push(digest);
        }
        // 4. Prefetch, 5. probe.
        flood.prefetch_batch(&self.digests);
        flood.probe_batch(round.now, &self.entries, &mut self.seen);
        // 6. Decide, and hand on, in the order of arrival.
        let mut digests = self.digests.iter();
        let mut seen = self.seen.iter();
        for item in self.items.drain(..) {
            let verdict = match item.class {
                Class::Settled(verdict) => verdict,
                Class::Ours => {
                    let digest = digests.next().copied().unwrap_or_default();
                    flood.own(round.now, digest)
                }
                Class::Candidate { .. } => {
                    digests.next();
                    decide(item.class, seen.next().copied().unwrap_or(Seen::Known))
                }
            };
            match verdict {
                Verdict::Drop(reason) => round.refuse(item, reason, &mut self.heard),
                Verdict::New { deliver, forward } => {
                    round.accept(item, deliver, forward, &mut self.heard);
                }
            }
        }
        round.count();
    }

    /// Makes messages of packets from the device: header, seen table, `tx` to all neighbors.
    ///
    /// Shape: the spans lie in `arena` and do not overlap; `tx` has room for all of them.
    /// State: enters the digests, but of what goes alone; counts nothing, since whether they can be
    ///        sent is not known here.
    ///
    /// # Panics
    /// When a span is shorter than [`HEADER_LEN`] or not of this arena.
    pub fn originate(
        &mut self,
        now: Instant,
        flood: &Flood,
        packets: &[Outgoing],
        arena: &mut [u8],
        nonce: &mut impl FnMut() -> u32,
        tx: &mut TxBatch,
    ) {
        for packets in packets.chunks(CHUNK) {
            self.digests.clear();
            self.entries.clear();
            for packet in packets {
                let slot = packet.span.of_mut(arena);
                flood.emit(Kind::Data, packet.flags, nonce(), packet.dst, slot);
                if packet.alone {
                    continue;
                }
                let digest = flood.digest(slot);
                self.digests.push(digest);
                self.entries.push((digest, OWN));
            }
            flood.prefetch_batch(&self.digests);
            flood.probe_batch(now, &self.entries, &mut self.seen);
            let mut seen = self.seen.iter();
            for packet in packets {
                if packet.alone {
                    tx.push_alone(packet.span);
                    continue;
                }
                let mut fresh = seen.next() == Some(&Seen::New);
                // The same packet was sent with the same nonce within 5 minutes: one in 2^32. What
                // repeats for ever is a generator of nonces that is broken.
                for _ in 0..REDRAWS {
                    if fresh {
                        break;
                    }
                    let slot = packet.span.of_mut(arena);
                    let nonce = nonce();
                    fresh = flood.originate(now, Kind::Data, packet.flags, nonce, packet.dst, slot);
                }
                tx.push_within(packet.zones, packet.span, None);
            }
        }
    }
}

impl<'r, S: Sink> Round<'r, S> {
    /// What is not new, or not accepted.
    fn refuse(&mut self, item: Item, reason: DropReason, heard: &mut Heard) {
        match reason {
            DropReason::Duplicate => self.tally.duplicates += 1,
            other => self.scene.counters.count(other),
        }
        match reason {
            DropReason::Duplicate | DropReason::DuplicatePong => {
                if let Some(entry) = self.entry(item) {
                    entry.stats.duplicates.fetch_add(1, Relaxed);
                    // It parsed when it was classified.
                    if let Ok(header) = Header::parse(item.span.of(self.rx.arena())) {
                        self.note_brought(entry, &header, false, heard);
                    }
                }
                if reason == DropReason::DuplicatePong {
                    self.control(item, true);
                }
            }
            DropReason::Stranger if !self.told.0 => {
                self.told.0 = true;
                self.sink.stranger(self.path(item));
            }
            DropReason::NetidConflict if !self.told.1 => {
                self.told.1 = true;
                self.sink.conflict(self.path(item));
            }
            _ => {}
        }
    }

    /// What is new.
    fn accept(&mut self, item: Item, deliver: Deliver, forward: bool, heard: &mut Heard) {
        let Some(entry) = self.entry(item) else {
            self.tally.control += 1;
            return self.control(item, false);
        };
        self.tally.flooded += 1;
        entry.stats.first_copies.fetch_add(1, Relaxed);
        let datagram = item.span.of(self.rx.arena());
        // It parsed when it was classified.
        let Ok(header) = Header::parse(datagram) else {
            return;
        };
        let mixers = self.scene.flood.mixers();
        if names_a_node(entry, &header) && heard.is_first(self.now, mixers, header.src) {
            self.sink.heard(header.src, entry.netid);
        }
        self.note_brought(entry, &header, true, heard);
        match deliver {
            Deliver::Nobody => {}
            Deliver::Control if self.was_delivered(item, entry, &header) => {}
            Deliver::Control => self.control(item, false),
            Deliver::Service | Deliver::Device => self.data(item, entry, &header),
        }
        if forward {
            self.tally.forwarded += 1;
            let zones = self.zones(entry, &header, datagram.get(HEADER_LEN));
            self.tx.push_within(zones, item.span, Some(entry.neighbor));
        }
    }

    fn note_brought(
        &mut self,
        entry: &LinkEntry,
        header: &Header,
        is_new: bool,
        heard: &mut Heard,
    ) {
        let mixers = self.scene.flood.mixers();
        let pair = (header.src, entry.netid);
        if names_a_node(entry, header) && heard.is_first_over(self.now, mixers, pair, is_new) {
            self.sink.brought(header.src, entry.netid, is_new);
        }
    }

    /// Links of which zones a message goes on over; `first` is the first byte of its payload.
    fn zones(&self, entry: &LinkEntry, header: &Header, first: Option<&u8>) -> Zones {
        // Where all links are of one zone, all of them are.
        let Some(zone) = self.scene.neighbors.both_zones() else {
            return Zones::All;
        };
        let zones = zone.zones(entry.open, header, first);
        let is_guest = entry.open && zones == Zones::All;
        if is_guest && !zone.lets_in(self.now, entry.neighbor, Guest::of(header, first)) {
            self.scene.counters.count(DropReason::GuestRate);
            return Zones::Open;
        }
        zones
    }

    /// Whether a message was delivered that came in the other zone; from now on it was. So asked of what
    /// is to be delivered alone: what is refused in one zone may be admissible in the other. What stays on
    /// its link has no copy there.
    fn was_delivered(&self, item: Item, link: &LinkEntry, header: &Header) -> bool {
        let flood = self.scene.flood;
        let digest = || flood.digest(item.span.of(self.rx.arena())) ^ DELIVERED;
        let insert = || flood.seen().insert(self.now, digest(), link.neighbor);
        let has_zones = self.scene.neighbors.open_zone().is_some();
        has_zones && !header.flags.no_forward() && insert() == Seen::Known
    }

    /// Hands Data on to who its first byte says.
    fn data(&mut self, item: Item, link: &LinkEntry, header: &Header) {
        let payload = &item.span.of(self.rx.arena())[HEADER_LEN..];
        let packet = Packet {
            origin: header.src,
            dst: header.dst,
            payload: Span {
                start: item.span.start + HEADER_LEN as u32,
                len: item.span.len - HEADER_LEN as u32,
            },
        };
        let count = |reason| self.scene.counters.count(reason);
        match payload.first().map(|&byte| service::classify(byte)) {
            // A node with two zones takes all of these.
            Some(Service::Sealed) if self.was_delivered(item, link, header) => {}
            Some(Service::Sealed) => {
                let direct = header.flags.no_forward() && header.src == link.netid;
                if !self.sink.sealed(link, packet, direct) {
                    count(DropReason::UnknownService);
                }
            }
            Some(Service::IpPacket | Service::EthernetFrame | Service::Directory)
                if !self.sink.admits(link, header) =>
            {
                count(DropReason::ClearData);
            }
            Some(Service::IpPacket | Service::EthernetFrame | Service::Directory)
                if self.was_delivered(item, link, header) => {}
            Some(Service::IpPacket | Service::EthernetFrame) => {
                self.sink.device(packet, self.rx.arena());
            }
            Some(Service::Directory) => self.sink.service(link, header, payload),
            _ => count(DropReason::UnknownService),
        }
    }

    fn control(&mut self, item: Item, duplicate: bool) {
        let path = self.path(item);
        let arrival = Arrival {
            path,
            link: item.link,
            expected: item.link.is_none() && self.scene.neighbors.expects(&path.endpoint),
            duplicate,
        };
        self.sink.control(arrival, item.span.of(self.rx.arena()));
    }

    fn entry(&self, item: Item) -> Option<&'r LinkEntry> {
        let neighbors = self.scene.neighbors;
        neighbors.links().get(usize::from(item.link?))
    }

    fn path(&self, item: Item) -> Path {
        self.rx.messages()[item.message].path
    }

    /// Moves the tally to the shared counters.
    fn count(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        let counters = self.scene.counters;
        counters.add(Total::Flooded, tally.flooded);
        counters.add(Total::Control, tally.control);
        counters.add(Total::Forwarded, tally.forwarded);
        counters.count_many(DropReason::Duplicate, tally.duplicates);
    }
}

/// Whether a message's src names a node: that of what stays on one link is the neighbor's netid, or a
/// challenge's (R28).
fn names_a_node(link: &LinkEntry, header: &Header) -> bool {
    !header.flags.no_forward() || header.src == link.netid
}
