//! What to do when the kernel does not take a datagram. Pure: the system calls are behind
//! [`Outlet`], so that every case is tested without a network that misbehaves on demand.
//!
//! ```text
//! taken ------------------------------> next
//! interrupted ------------------------> again
//! perhaps another's error ------------> empty the error queue, again, at most 4 times;
//!                                       then without our source address, if it was pinned;
//!                                       then dropped as unreachable, and the link paused
//!                                       when no ICMP error can explain it
//! above the path MTU -----------------> empty, again once; then with fragmentation allowed,
//!                                       and this length remembered for this link; at once so
//!                                       when probes have shown that the path carries less
//! interface queue full ---------------> the rest of this run dropped, the link paused
//! socket buffer full -----------------> dropped
//! source address gone, no route ------> without our source address; then the rest of this run
//!                                       dropped as unreachable, the link paused
//! a train refused (EIO, EINVAL) ------> the same datagrams one by one, no trains on this link
//! anything else ----------------------> dropped
//! ```
//!
//! Why again: with IP_RECVERR an ICMP error about a datagram to one neighbor is the result of the
//! next call on the socket, which is a datagram to another neighbor (DECISIONS 4a; measured: one
//! closed port made every other send fail).

use std::net::IpAddr;
use std::ops::Range;

use nix::errno::Errno;

use super::error::{Reaction, SendError, react};
use crate::id::LinkId;
use crate::time::{Duration, Instant};

/// How often a datagram is sent again when the error may be another's.
pub(super) const RESENDS: u32 = 4;
/// How long a link is left alone whose interface queue is full or whose route is missing: long
/// enough that trying costs nothing, short against the time in which a queue drains (1,000
/// packets at 1 Gbit/s are 12 ms).
pub(super) const PAUSE: Duration = Duration::from_millis(2);
/// How long a link's smaller MTU is remembered: as long as the kernel itself remembers a path MTU
/// (net.ipv4.route.mtu_expires; RFC 8201 section 4 recommends 10 minutes).
pub(super) const MTU_MEMORY: Duration = Duration::from_secs(600);
/// How long a link gets no trains whose interface refused one: a property of the interface, which
/// changes only with the route.
pub(super) const TRAIN_MEMORY: Duration = Duration::from_secs(600);
/// How long a source address that failed is not tried again on a link. A guess; trying costs ten
/// failing calls and no datagram.
pub(super) const SOURCE_MEMORY: Duration = Duration::from_secs(10);

/// How datagrams are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// Without "don't fragment".
    pub(super) fragment: bool,
    /// From the address that the far end spoke to.
    pub(super) pinned: bool,
    /// Datagrams of equal size many at a time (`UDP_SEGMENT`).
    pub(super) trains: bool,
}

/// A run of datagrams to one destination, and the calls to send it with.
pub(super) trait Outlet {
    /// How many datagrams there are.
    fn count(&self) -> usize;
    /// Bytes of one.
    fn bytes(&self, index: usize) -> usize;
    /// The address that they would leave from, when one is set.
    fn source(&self) -> Option<IpAddr>;
    /// Sends some; how many were taken, or the error of the first.
    fn send(&mut self, range: Range<usize>, manner: Manner) -> Result<usize, Errno>;
    /// Empties the error queue; whether it held anything.
    fn drain(&mut self) -> bool;
}

/// What a sender remembers of one link between runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkMemory {
    /// Whose memory this is.
    pub(super) link: LinkId,
    /// The largest length that probes have shown to arrive whole, if that limits anything.
    pub(super) whole: Option<usize>,
    paused: Option<(Instant, SendError)>,
    too_long: Option<(Instant, usize)>,
    lost_source: Option<(Instant, IpAddr)>,
    refused_trains: Option<Instant>,
}

impl LinkMemory {
    pub(super) const fn new(link: LinkId) -> Self {
        Self {
            link,
            whole: None,
            paused: None,
            too_long: None,
            lost_source: None,
            refused_trains: None,
        }
    }

    fn takes_trains(&self, now: Instant) -> bool {
        self.refused_trains.is_none_or(|until| now >= until)
    }

    /// Why nothing is to be sent on this link now.
    pub(super) fn paused(&self, now: Instant) -> Option<SendError> {
        self.paused
            .and_then(|(until, error)| (now < until).then_some(error))
    }

    /// Whether a datagram of `bytes` is known to be too long for this link.
    fn is_too_long(&self, now: Instant, bytes: usize) -> bool {
        let lately = |(until, least)| now < until && bytes >= least;
        self.whole.is_some_and(|whole| bytes > whole) || self.too_long.is_some_and(lately)
    }

    fn note_too_long(&mut self, now: Instant, bytes: usize) {
        let least = match self.too_long {
            Some((until, least)) if now < until => least.min(bytes),
            _ => bytes,
        };
        self.too_long = Some((now + MTU_MEMORY, least));
    }

    fn is_source_lost(&self, now: Instant, source: IpAddr) -> bool {
        self.lost_source
            .is_some_and(|(until, lost)| now < until && lost == source)
    }

    /// Sending without it does not prolong the memory, else the address would never be tried.
    fn note_source_lost(&mut self, now: Instant, source: IpAddr) {
        if !self.is_source_lost(now, source) {
            self.lost_source = Some((now + SOURCE_MEMORY, source));
        }
    }
}

/// What became of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Datagrams the kernel took.
    pub(super) sent: u64,
    /// Bytes of them.
    pub(super) bytes: usize,
    /// Those of them that went with fragmentation allowed.
    pub(super) fragmented: u64,
    /// Datagrams dropped, by reason.
    pub(super) no_buffer: u64,
    /// As above.
    pub(super) unreachable: u64,
    /// As above.
    pub(super) too_big: u64,
    /// As above.
    pub(super) no_session: u64,
    /// As above.
    pub(super) other: u64,
}

impl Tally {
    /// Counts `n` datagrams dropped.
    pub(super) fn drop(&mut self, error: SendError, n: usize) {
        let count = match error {
            SendError::NoBuffer => &mut self.no_buffer,
            SendError::Unreachable => &mut self.unreachable,
            SendError::TooBig => &mut self.too_big,
            SendError::NoSession => &mut self.no_session,
            SendError::Other => &mut self.other,
        };
        *count += n as u64;
    }

    /// The reasons and how many were dropped for each.
    pub(super) fn dropped(&self) -> [(SendError, u64); 5] {
        [
            (SendError::NoBuffer, self.no_buffer),
            (SendError::Unreachable, self.unreachable),
            (SendError::TooBig, self.too_big),
            (SendError::NoSession, self.no_session),
            (SendError::Other, self.other),
        ]
    }
}

/// What is known of the datagram that comes next.
#[derive(Clone, Copy)]
struct Attempt {
    manner: Manner,
    resends: u32,
    /// Whether the error queue ever held something that may explain the failures.
    excused: bool,
}

/// Sends a run, datagram by datagram as far as the kernel makes it necessary.
///
/// State: pauses, lengths and addresses learned go to `memory`; everything else to `tally`, where
/// each datagram is counted exactly once, as sent or as dropped.
pub(super) fn deliver(
    outlet: &mut impl Outlet,
    memory: &mut LinkMemory,
    now: Instant,
    tally: &mut Tally,
) {
    let count = outlet.count();
    let mut next = 0;
    let mut attempt = None;
    while next < count {
        let state = attempt.get_or_insert_with(|| first_attempt(outlet, memory, now, next));
        let end = end_of_run(outlet, memory, now, next, state.manner);
        let step = match outlet.send(next..end, state.manner) {
            Ok(0) => Step::Drop(SendError::Other),
            Ok(taken) => {
                tally.sent += taken as u64;
                tally.bytes += (next..next + taken).map(|i| outlet.bytes(i)).sum::<usize>();
                if state.manner.fragment {
                    tally.fragmented += taken as u64;
                }
                if let (Some(source), false) = (outlet.source(), state.manner.pinned) {
                    memory.note_source_lost(now, source);
                }
                next += taken;
                attempt = None;
                continue;
            }
            Err(errno) => step_after(errno, state, outlet),
        };
        match step {
            Step::Again => {}
            Step::Fragment => {
                memory.note_too_long(now, outlet.bytes(next));
                state.manner.fragment = true;
                state.resends = 0;
            }
            Step::Unpin => {
                state.manner.pinned = false;
                state.resends = 0;
            }
            Step::Uncouple => {
                memory.refused_trains = Some(now + TRAIN_MEMORY);
                state.manner.trains = false;
                state.resends = 0;
            }
            Step::Drop(error) => {
                tally.drop(error, 1);
                next += 1;
                attempt = None;
            }
            Step::Pause(error) => {
                memory.paused = Some((now + PAUSE, error));
                tally.drop(error, count - next);
                return;
            }
        }
    }
}

/// What to do after a failure.
enum Step {
    /// The same datagram, the same way.
    Again,
    /// The same datagram, with fragmentation allowed.
    Fragment,
    /// The same datagram, from an address that the kernel chooses.
    Unpin,
    /// The same datagrams one by one.
    Uncouple,
    /// The next datagram.
    Drop(SendError),
    /// Nothing more on this link for a while.
    Pause(SendError),
}

fn step_after(errno: Errno, attempt: &mut Attempt, outlet: &mut impl Outlet) -> Step {
    // An interface without checksum offload, an old driver: the datagrams themselves are fine.
    // EINVAL may be the source address's as well, which is tried first, as it is gone more often.
    let pinned = attempt.manner.pinned && outlet.source().is_some();
    let of_trains = errno == Errno::EIO || (errno == Errno::EINVAL && !pinned);
    if attempt.manner.trains && of_trains {
        return Step::Uncouple;
    }
    let reaction = react(errno);
    if matches!(reaction, Reaction::Retry | Reaction::Fragment) {
        attempt.excused |= outlet.drain();
    }
    // The kernel queues a report of its own for each datagram above the MTU, so that one resend
    // is enough to tell it from an earlier one's.
    let resends = match reaction {
        Reaction::Fragment if !attempt.manner.fragment => 1,
        _ => RESENDS,
    };
    match reaction {
        Reaction::Again | Reaction::Retry | Reaction::Fragment if attempt.resends < resends => {
            attempt.resends += 1;
            Step::Again
        }
        Reaction::Fragment if attempt.manner.fragment => Step::Drop(SendError::TooBig),
        Reaction::Fragment => Step::Fragment,
        Reaction::Retry | Reaction::Reroute
            if attempt.manner.pinned && outlet.source().is_some() =>
        {
            Step::Unpin
        }
        Reaction::Retry if attempt.excused => Step::Drop(SendError::Unreachable),
        // Nothing but this destination explains the failure: the route itself is missing, and
        // the rest of the run would fail as well.
        Reaction::Retry | Reaction::Reroute => Step::Pause(SendError::Unreachable),
        Reaction::Pause => Step::Pause(SendError::NoBuffer),
        Reaction::Full => Step::Drop(SendError::NoBuffer),
        Reaction::Again | Reaction::Refused => Step::Drop(SendError::Other),
    }
}

fn first_attempt(outlet: &impl Outlet, memory: &LinkMemory, now: Instant, index: usize) -> Attempt {
    Attempt {
        manner: Manner {
            fragment: memory.is_too_long(now, outlet.bytes(index)),
            pinned: outlet
                .source()
                .is_some_and(|source| !memory.is_source_lost(now, source)),
            trains: memory.takes_trains(now),
        },
        resends: 0,
        excused: false,
    }
}

/// Where the datagrams end that can go in the same manner as the one at `start`.
fn end_of_run(
    outlet: &impl Outlet,
    memory: &LinkMemory,
    now: Instant,
    start: usize,
    manner: Manner,
) -> usize {
    (start + 1..outlet.count())
        .find(|&index| memory.is_too_long(now, outlet.bytes(index)) != manner.fragment)
        .unwrap_or_else(|| outlet.count())
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
