//! Sending: one batch to all links it is meant for, and single datagrams of the control plane.

use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use nix::errno::Errno;

use super::error::SendError;
use super::linux::{self, Destination, Report, SEND_CHUNK};
use super::policy::{LinkMemory, Manner, Outlet, RESENDS, Tally, deliver};
use super::{Discovery, UdpSocket, UdpSockets};
use crate::id::{Endpoint, LinkId, Path, SocketId};
use crate::node::snapshot::{LinkEntry, NeighborSet};
use crate::pump::count::{Counters, DropReason, Total};
use crate::pump::rx::Span;
use crate::pump::tx::{TxBatch, TxItem};
use crate::seal::session::{LINK_OVERHEAD, Session};
use crate::seal::sessions::SessionSet;
use crate::time::Instant;
use wire::sealed::FRAME_MAX_LEN;

/// Links that a sender keeps a memory of without allocating: the most a [`NeighborSet`] holds.
const LINKS: usize = 1_024;
/// Bytes of sealed datagrams after which they are sent: those of one train, which the kernel copies
/// while they are still in the processor's cache.
const SEALED_TRAIN: usize = 64_000;
/// That, and any single one.
const SEALED_LEN: usize = SEALED_TRAIN + FRAME_MAX_LEN + LINK_OVERHEAD;
/// Most entries taken from an error queue at once, so that a storm of them cannot hold a worker.
const REPORTS: usize = 64;

/// One worker's means of sending: scratch space, and what it has learned of each link.
///
/// Calls: one owner; several senders may use the same sockets at once.
/// Cost: allocates when made, then no more.
pub struct Sender {
    /// Datagrams of one system call.
    chunk: usize,
    spans: Vec<Span>,
    memories: Vec<LinkMemory>,
    /// Where datagrams are sealed for one link after the other; nothing in plain.
    sealed: Vec<u8>,
}

/// What a batch is sent by.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'s> {
    /// Through which sockets.
    pub sockets: &'s UdpSockets,
    /// To whom.
    pub neighbors: &'s NeighborSet,
    /// Sealed with what; `None` in plain.
    pub sessions: Option<&'s SessionSet>,
    /// Counts.
    pub counters: &'s Counters,
}

impl Default for Sender {
    fn default() -> Self {
        Self::with_chunk(SEND_CHUNK)
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// A sender that hands the kernel `chunk` datagrams at once, 1 to 256; fewer or more count as
    /// the nearest of these.
    pub fn with_chunk(chunk: usize) -> Self {
        let chunk = chunk.clamp(1, SEND_CHUNK);
        Self {
            chunk,
            spans: Vec::with_capacity(chunk),
            memories: Vec::with_capacity(LINKS),
            sealed: Vec::new(),
        }
    }

    /// Takes the memory that sealing needs.
    #[must_use]
    pub fn sealing(mut self) -> Self {
        self.sealed = vec![0; SEALED_LEN];
        self
    }

    /// Sends every message of `tx` to every link except those of the neighbor it came from.
    ///
    /// Shape:  `arena` is the one that the spans of `tx` were made for.
    /// State:  counts each copy as sent or dropped, in `counters` and in its link's stats.
    /// Borrows: nothing; the kernel has copied what it took when this returns.
    /// Cost:   one system call for up to a chunk of copies to one link; never waits, never allocates.
    /// Drops:  TxNoBuffer, TxUnreachable, TxTooBig, NoSession, TxError.
    pub fn flush(&mut self, to: &Outbound<'_>, now: Instant, arena: &[u8], tx: &TxBatch) {
        let Outbound {
            sockets,
            neighbors,
            sessions,
            counters,
        } = *to;
        if tx.is_empty() {
            return;
        }
        // A link that changes its place in the set starts with an empty memory, which costs it
        // a few failing calls and no datagram.
        let links = neighbors.links();
        self.memories
            .resize(links.len(), LinkMemory::new(LinkId(0)));
        for (link, memory) in links.iter().zip(&mut self.memories) {
            if memory.link != link.id {
                *memory = LinkMemory::new(link.id);
            }
            // A session of who is there now, if that is whom the link is of.
            let seals = sessions.filter(|_| !link.open).map(|sessions| {
                let seals = sessions.seals(&link.path.endpoint);
                seals.filter(|seals| seals.netid == link.netid)
            });
            let overhead = if seals.is_some() { LINK_OVERHEAD } else { 0 };
            // A sealed link's far end may be elsewhere by now.
            let path = seals.flatten().map_or(link.path, |seals| seals.path);
            memory.whole = whole_of(link).map(|whole| whole + overhead);
            let mut tally = Tally::default();
            let mut items = tx
                .items()
                .iter()
                .filter(|item| item.except != Some(link.neighbor) && item.zones.have(link.open));
            let socket = sockets.get(path.endpoint.socket);
            loop {
                // Nothing is sealed that cannot be sent.
                let paused = |socket| memory.paused(now).map_or(Ok(socket), Err);
                let socket = match socket.ok_or(SendError::Other).and_then(paused) {
                    Ok(socket) => socket,
                    Err(error) => {
                        tally.drop(error, items.by_ref().count());
                        break;
                    }
                };
                self.spans.clear();
                let mut source = arena;
                match seals {
                    None => self
                        .spans
                        .extend(items.by_ref().take(self.chunk).map(|item| item.span)),
                    Some(None) => tally.drop(SendError::NoSession, items.by_ref().count()),
                    Some(Some(seals)) => {
                        let session = &seals.session;
                        let dropped = seal(
                            session,
                            arena,
                            items.by_ref(),
                            self.chunk,
                            (&mut self.sealed, &mut self.spans),
                        );
                        tally.drop(SendError::NoSession, dropped);
                        if !self.spans.is_empty() {
                            session.note_sent(now, true);
                        }
                        source = &self.sealed;
                    }
                }
                if self.spans.is_empty() {
                    break;
                }
                let mut run = Run::new(socket, path, source, &self.spans, |report| {
                    attribute(report, path.endpoint.socket, neighbors, counters);
                });
                deliver(&mut run, memory, now, &mut tally);
            }
            count(&tally, link, now, counters);
        }
    }
}

/// Seals the next messages for one link, one LINK each, one behind the other, so that equal ones
/// leave as a train: at most `chunk`, or as many as there is room for. Gives how many could not be
/// sealed, as the session is worn out.
fn seal<'t>(
    session: &Session,
    arena: &[u8],
    messages: impl Iterator<Item = &'t TxItem>,
    chunk: usize,
    (sealed, spans): (&mut [u8], &mut Vec<Span>),
) -> usize {
    let (mut end, mut dropped) = (0, 0);
    for message in messages {
        match session.seal_into(message.span.of(arena), message.alone, &mut sealed[end..]) {
            Ok(len) => {
                spans.push(Span {
                    start: end as u32,
                    len: len as u32,
                });
                end += len;
            }
            Err(_) => dropped += 1,
        }
        if spans.len() == chunk || end > SEALED_TRAIN {
            break;
        }
    }
    dropped
}

/// The largest datagram that may go whole on a link, if there is a limit.
fn whole_of(link: &LinkEntry) -> Option<usize> {
    let whole = link.stats.whole.load(Relaxed);
    (whole > 0).then_some(whole as usize)
}

/// Sends one datagram; see [`UdpSockets::send_to`].
pub(super) fn send_one(
    socket: &UdpSocket,
    path: &Path,
    datagram: &[u8],
    link: Option<&LinkEntry>,
) -> Result<(), SendError> {
    let Ok(len) = u32::try_from(datagram.len()) else {
        return Err(SendError::TooBig);
    };
    let spans = [Span { start: 0, len }];
    let mut tally = Tally::default();
    let mut run = Run::new(socket, *path, datagram, &spans, |_| {});
    let mut memory = LinkMemory::new(LinkId(0));
    memory.whole = link.and_then(whole_of);
    deliver(&mut run, &mut memory, Instant::ZERO, &mut tally);
    if let Some(link) = link {
        link.stats.fragmented.fetch_add(tally.fragmented, Relaxed);
    }
    match tally.dropped().into_iter().find(|&(_, n)| n > 0) {
        Some((error, _)) => Err(error),
        None => Ok(()),
    }
}

/// Sends one datagram in one packet or not at all; see [`UdpSockets::probe`].
pub(super) fn send_whole(
    socket: &UdpSocket,
    path: &Path,
    datagram: &[u8],
) -> Result<(), SendError> {
    let Ok(len) = u32::try_from(datagram.len()) else {
        return Err(SendError::TooBig);
    };
    let to = Destination::new(path.endpoint.remote, path.local);
    let spans = [Span { start: 0, len }];
    // An error may be another datagram's.
    for _ in 0..=RESENDS {
        if socket
            .send_with(Discovery::Ignore, &to, datagram, &spans)
            .is_ok()
        {
            return Ok(());
        }
        drain(socket, |_| {});
    }
    Err(SendError::TooBig)
}

/// Empties an error queue, at most [`REPORTS`] entries; whether it held anything.
pub(super) fn drain(socket: &UdpSocket, mut each: impl FnMut(Report)) -> bool {
    let mut any = false;
    for _ in 0..REPORTS {
        let Some(report) = linux::next_report(socket.as_fd()) else {
            break;
        };
        any = true;
        each(report);
    }
    any
}

/// Counts a datagram that an ICMP message says was not received, at the link it was sent on.
///
/// It is a hint and not a proof, since anybody can send ICMP: counted, and nothing else.
pub(super) fn attribute(
    report: Report,
    socket: SocketId,
    neighbors: &NeighborSet,
    counters: &Counters,
) {
    // Too long is no loss: the sender itself reacts to that.
    if report.errno == Errno::EMSGSIZE {
        return;
    }
    counters.count(DropReason::TxUnreachable);
    let link = report
        .remote
        .and_then(|remote| neighbors.find(&Endpoint::new(socket, remote)))
        .and_then(|index| neighbors.links().get(usize::from(index)));
    if let Some(link) = link {
        link.stats.tx_errors.fetch_add(1, Relaxed);
    }
}

fn count(tally: &Tally, link: &LinkEntry, now: Instant, counters: &Counters) {
    if tally.sent > 0 {
        link.stats.sent(now, tally.sent, tally.bytes);
        counters.add(Total::Sent, tally.sent);
    }
    if tally.fragmented > 0 {
        link.stats.fragmented.fetch_add(tally.fragmented, Relaxed);
        counters.add(Total::Fragmented, tally.fragmented);
    }
    for (error, dropped) in tally.dropped() {
        if dropped > 0 {
            link.stats.tx_errors.fetch_add(dropped, Relaxed);
            counters.count_many(error.reason(), dropped);
        }
    }
}

/// Datagrams of one arena on their way through one socket to one far end.
struct Run<'a, F> {
    socket: &'a UdpSocket,
    path: Path,
    pinned: Destination,
    arena: &'a [u8],
    spans: &'a [Span],
    report: F,
}

impl<'a, F: FnMut(Report)> Run<'a, F> {
    fn new(
        socket: &'a UdpSocket,
        path: Path,
        arena: &'a [u8],
        spans: &'a [Span],
        report: F,
    ) -> Self {
        Self {
            socket,
            path,
            pinned: Destination::new(path.endpoint.remote, path.local),
            arena,
            spans,
            report,
        }
    }
}

impl<F: FnMut(Report)> Outlet for Run<'_, F> {
    fn count(&self) -> usize {
        self.spans.len()
    }

    fn bytes(&self, index: usize) -> usize {
        self.spans[index].len as usize
    }

    fn source(&self) -> Option<IpAddr> {
        self.path.local
    }

    fn send(&mut self, range: Range<usize>, manner: Manner) -> Result<usize, Errno> {
        let spans = &self.spans[range];
        if manner.pinned {
            return self.socket.send(&self.pinned, self.arena, spans, manner);
        }
        let free = Destination::new(self.path.endpoint.remote, None);
        self.socket.send(&free, self.arena, spans, manner)
    }

    fn drain(&mut self) -> bool {
        drain(self.socket, &mut self.report)
    }
}
