//! Fair shares of a saturated node (SEALED.md S98): who brings more than its share loses the excess,
//! nobody else.
//!
//! A node that cannot handle all that comes loses messages whatever it does: the kernel drops those
//! that find the socket's buffer full, of each sender in proportion to what it sends. So one member
//! that floods takes nearly everything (SECURITY T28). Here the node chooses by itself what it
//! loses, and does so before the dear part of the work:
//!
//! ```text
//!            a neighbor's datagram                      its messages
//!  socket ──> more than twice its share? ──> open ──> more than its source's share? ──> pump
//!                      │ dropped unopened                      │ dropped unhashed
//! ```
//!
//! 1. Nothing happens, and nothing is counted, until the kernel dropped something and the buffer is
//!    still filled. A node that is not saturated loses nothing here.
//! 2. While it is, each turn settles how much of what comes can be taken at all, so that the buffer
//!    stays about half full: there is always work, so nothing of what the node can do is lost, and
//!    room for who sends little. A controller, not a clock, finds that part.
//! 3. It is divided among the neighbors, and a neighbor's share among the sources it brings, each
//!    time so that nobody gets less than another who gets it all ([`level`]). What that is of what
//!    somebody brings is taken evenly, by a credit that grows with each datagram.
//!
//! Only known sources of a neighbor have a share of their own: the first [`PLACES`] heard through it
//! while there was no need of shares. All others share one, so that made-up netids gain nothing. At most
//! half of the places are for sources that only later copies named: one of those comes by every neighbor
//! of every node, and whoever says many names would take the places of all.
//!
//! In a sealed mesh the source is known behind the seal, so what is far too much is dropped unopened,
//! by the session it came for; in plain the source is read at once.
//!
//! Source: Pan, Breslau, Prabhakar, Shenker, "Approximate Fairness through Differential Dropping",
//! ACM CCR 33(2), 2003: drop by measured rates, one fair rate found by the length of the queue. Queues
//! per sender (deficit round robin, RFC 8290) would have to copy what the kernel already queues.
//!
//! Read [`Fair::settle`] first, then `sift` for how a batch goes through it.

mod level;
mod sift;
#[cfg(test)]
mod tests;

pub use level::level;
pub use sift::{Sieve, Sifting};

use wire::NetId;

use crate::planted::{self, Mistake};
use crate::time::{Duration, Instant};

/// Neighbors with a share of their own; further ones have one together.
pub const NEIGHBORS: usize = 256;
/// Sources with a share of their own within that of their neighbor.
pub const PLACES: usize = 32;
/// Of which so many may be had by sources of which the neighbor brought later copies alone.
const LATER: usize = PLACES / 2;
/// A source that was not heard for so long gives its place to another.
const KEPT: Duration = Duration::from_secs(60);
/// What a datagram costs beside its bytes, in bytes. A guess, that one of 64 bytes takes about a third
/// of the time of one of 1,400; the benchmarks `pump` and `seal` at both sizes would settle it.
const DATAGRAM: u32 = 512;
/// What is opened of a neighbor's datagrams, in shares: enough for its sources to be told apart,
/// little enough that opening does not become the flood's work.
pub const OPENED: f64 = 2.0;
/// A share is settled this often at most.
const INTERVAL: Duration = Duration::from_millis(1);
/// What was brought counts for about so many times of settling: long enough that a burst of who sends
/// little is not taken for a flood.
const MEMORY: u64 = 16;
/// Without a word of the buffer for so long the flood is over.
const OVER: Duration = Duration::from_millis(500);
/// How full the buffer is kept while saturated.
const TARGET: f64 = 0.5;
/// Below this nothing is dropped, saturated or not: there would soon be nothing left to do. The kernel
/// gives back what was read in quarters of a buffer, so that an empty one may seem filled by as much.
const LOW: f64 = 0.25;
/// What a buffer above its target takes off the part that is taken, for each time it is settled.
const PULL: f64 = 0.25;
/// What a buffer that grows takes off: without it the part would swing.
const DAMPING: f64 = 1.0;
/// The smallest part. A flood that leaves no time for even that is dropped by the kernel: taking
/// less would end in taking nothing, since what is dropped here was received before.
const LEAST: f64 = 1.0 / 32.0;

/// What is left of it at the next settling; in the end nothing.
const fn fade(brought: u64) -> u64 {
    brought * (MEMORY - 1) / MEMORY
}

/// No part that is divided by is smaller.
const SMALLEST: f64 = 1e-6;

/// A part of what somebody brings, and what is still owed to it.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Of [`Part::ONE`].
    taken: u32,
    /// Bytes that may be taken, in parts of one.
    credit: u64,
}

impl Part {
    const ONE: u32 = 1 << 16;
    const ALL: Self = Self {
        taken: Self::ONE,
        credit: 0,
    };

    fn set(&mut self, part: f64) {
        // Saturates: what is more than all is all.
        self.taken = ((part * f64::from(Self::ONE)) as u32).min(Self::ONE);
    }

    /// Whether something of this cost is within the part.
    fn takes(&mut self, cost: u32) -> bool {
        if self.taken == Self::ONE {
            return true;
        }
        let price = u64::from(cost) * u64::from(Self::ONE);
        self.credit += u64::from(cost) * u64::from(self.taken);
        let takes = self.credit >= price;
        if takes {
            self.credit -= price;
        }
        takes
    }

    fn fraction(self) -> f64 {
        f64::from(self.taken) / f64::from(Self::ONE)
    }
}

/// One source of one neighbor.
#[derive(Clone, Copy, Debug)]
struct Source {
    netid: NetId,
    heard_at: Instant,
    /// It has its place for later copies alone.
    is_later: bool,
    /// What it brought of late, in bytes and datagrams' worth of them.
    brought: u64,
    part: Part,
}

impl Source {
    const fn new(now: Instant, netid: NetId) -> Self {
        Self {
            netid,
            heard_at: now,
            is_later: false,
            brought: 0,
            part: Part::ALL,
        }
    }
}

/// One neighbor.
#[derive(Clone, Debug)]
struct Neighbor {
    heard_at: Instant,
    /// What it brought of late.
    brought: u64,
    /// Of which this is opened.
    opened: Part,
    sources: [Source; PLACES],
    used: usize,
    /// All sources without a place.
    others: Source,
}

impl Neighbor {
    const fn new(now: Instant) -> Self {
        let nobody = Source::new(now, NetId::ANY);
        Self {
            heard_at: now,
            brought: 0,
            opened: Part::ALL,
            sources: [nobody; PLACES],
            used: 0,
            others: nobody,
        }
    }

    fn source(&mut self, netid: NetId) -> &mut Source {
        let known = &mut self.sources[..self.used];
        match known.iter_mut().find(|source| source.netid == netid) {
            Some(source) => source,
            None => &mut self.others,
        }
    }

    /// Gives a source a place, if there is one for it.
    fn place(&mut self, new: Source) {
        let known = &mut self.sources[..self.used];
        let later = known.iter().filter(|source| source.is_later).count();
        let may_add = !new.is_later || later < LATER;
        let gives_way = |old: &&mut Source| {
            new.heard_at.since(old.heard_at) >= KEPT && (may_add || old.is_later)
        };
        if may_add && self.used < PLACES {
            self.sources[self.used] = new;
            self.used += 1;
        } else if let Some(old) = known.iter_mut().find(gives_way) {
            *old = new;
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Source> {
        let known = self.sources[..self.used].iter_mut();
        known.chain(std::iter::once(&mut self.others))
    }

    /// Everything is taken again.
    fn reset(&mut self) {
        (self.brought, self.opened) = (0, Part::ALL);
        for source in self.all() {
            (source.brought, source.part) = (0, Part::ALL);
        }
    }
}

/// The shares of one receiving thread.
///
/// Calls: one owner.
#[derive(Debug)]
pub struct Fair {
    /// Whether sources are known only once something was opened.
    is_sealed: bool,
    /// Whether shares count, and when they were settled last.
    settled_at: Option<Instant>,
    /// The part of what comes that can be taken.
    part: f64,
    /// How full the buffer was then.
    filled: f64,
    /// Never empty: the first is everybody without a place.
    neighbors: Vec<Neighbor>,
    /// Their netids, to be searched: they lie close together.
    netids: Vec<NetId>,
    /// The one that was looked for last.
    last: usize,
    /// What came of late that is no neighbor's, and is thrown away at little cost.
    strange: u64,
    scratch: Vec<f64>,
}

impl Default for Fair {
    /// For a thread that receives nothing: without room for anybody.
    fn default() -> Self {
        Self::with_room(false, 0)
    }
}

impl Fair {
    /// Nobody is known, and nothing is dropped. `is_sealed` if sources are known only once a datagram
    /// was opened.
    pub fn new(is_sealed: bool) -> Self {
        Self::with_room(is_sealed, NEIGHBORS)
    }

    fn with_room(is_sealed: bool, neighbors: usize) -> Self {
        let mut fair = Self {
            is_sealed,
            settled_at: None,
            part: 1.0,
            filled: 0.0,
            neighbors: Vec::with_capacity(1 + neighbors),
            netids: Vec::with_capacity(1 + neighbors),
            last: 0,
            strange: 0,
            scratch: Vec::with_capacity(1 + neighbors + PLACES),
        };
        fair.neighbors.push(Neighbor::new(Instant::ZERO));
        fair.netids.push(NetId::ANY);
        fair
    }

    /// Whether shares count: then [`Self::settle`] is to be called in each turn.
    pub const fn is_saturated(&self) -> bool {
        self.settled_at.is_some()
    }

    /// Whether [`Self::settle`] would do anything: it is asked before what that wants to know is found out.
    pub fn is_due(&self, now: Instant) -> bool {
        self.settled_at.is_none_or(|at| now.since(at) >= INTERVAL)
    }

    /// Notes that `origin` was heard through the neighbor `via`, so that it has a share of its own
    /// should there be need of shares. While there is, it is too late.
    pub fn heard(&mut self, now: Instant, origin: NetId, via: NetId) {
        self.note(now, Source::new(now, origin), via);
    }

    /// The same where the neighbor brought a copy of what had come before: half of its places are for others.
    pub fn heard_later(&mut self, now: Instant, origin: NetId, via: NetId) {
        let source = Source {
            is_later: true,
            ..Source::new(now, origin)
        };
        self.note(now, source, via);
    }

    fn note(&mut self, now: Instant, new: Source, via: NetId) {
        let place = self.find_or_add(now, via);
        let is_saturated = self.is_saturated();
        let neighbor = &mut self.neighbors[place];
        neighbor.heard_at = now;
        let known = &mut neighbor.sources[..neighbor.used];
        if let Some(source) = known.iter_mut().find(|source| source.netid == new.netid) {
            source.heard_at = now;
            source.is_later &= new.is_later;
        } else if !is_saturated {
            // While it is, who floods may do so under many names.
            neighbor.place(new);
        }
    }

    /// Whether a datagram of `bytes` that the neighbor `via` brought is to be opened. In plain it
    /// always is.
    pub fn opens(&mut self, now: Instant, via: NetId, bytes: u32) -> bool {
        let is_sealed = self.is_sealed;
        let cost = bytes.saturating_add(DATAGRAM);
        let place = self.find_or_add(now, via);
        let neighbor = &mut self.neighbors[place];
        neighbor.brought += u64::from(cost);
        !is_sealed || neighbor.opened.takes(cost) || planted::is(Mistake::ServeAll)
    }

    /// Notes a datagram of `bytes` that no neighbor brought, or that is not for the data path.
    pub fn stranger(&mut self, bytes: u32) {
        self.strange += u64::from(bytes.saturating_add(DATAGRAM));
    }

    /// Whether a message of `bytes` of `origin` that the neighbor `via` brought is to be handled.
    pub fn takes(&mut self, now: Instant, via: NetId, origin: NetId, bytes: u32) -> bool {
        let cost = bytes.saturating_add(DATAGRAM);
        let place = self.find_or_add(now, via);
        let source = self.neighbors[place].source(origin);
        source.brought += u64::from(cost);
        source.part.takes(cost) || planted::is(Mistake::ServeAll)
    }

    /// Settles the shares. `filled` is how full the socket's buffer is, 0 to 1; `lost` whether the
    /// kernel dropped something since the last call.
    ///
    /// Shape: called once a turn while [`Self::is_saturated`], and when something was lost.
    /// Cost:  at most once in a millisecond, some microseconds for each neighbor; no allocation.
    pub fn settle(&mut self, now: Instant, filled: f64, lost: bool) {
        if !self.is_due(now) {
            return;
        }
        let Some(at) = self.settled_at else {
            // What was lost by a short burst is lost; there is room again.
            if lost && filled >= LOW {
                (self.settled_at, self.filled, self.part) = (Some(now), filled, 1.0);
            }
            return;
        };
        if now.since(at) >= OVER {
            return self.end();
        }
        let (above, grown) = (filled - TARGET, filled - self.filled);
        let factor = 1.0 - PULL * above - DAMPING * grown;
        self.part = (self.part * factor.clamp(0.25, 2.0)).clamp(LEAST, 1.0);
        (self.settled_at, self.filled) = (Some(now), filled);
        let calm = self.part >= 1.0 && filled < TARGET && !lost;
        if calm {
            return self.end();
        }
        self.divide(filled < LOW);
    }

    /// Nothing is dropped any more.
    fn end(&mut self) {
        self.settled_at = None;
        self.strange = 0;
        self.neighbors.iter_mut().for_each(Neighbor::reset);
    }

    /// Divides what can be taken; everything if there is room, nobody to keep room for, or if most of
    /// what comes is of no neighbor.
    fn divide(&mut self, has_room: bool) {
        let brought: u64 = self.neighbors.iter().map(|n| n.brought).sum();
        let sources = self.neighbors.iter_mut().flat_map(Neighbor::all);
        let sources = sources.filter(|source| source.brought > 0).count();
        let bringers = self.neighbors.iter().filter(|n| n.brought > 0).count();
        // Who brings nothing but keepalives has no source, and floods all the same.
        let contenders = sources.max(bringers);
        // Taking less of what neighbors bring makes no room for what is not theirs.
        let is_vain = contenders < 2 || self.strange > brought;
        let is_all = has_room || is_vain;
        if is_vain {
            self.part = 1.0;
        }
        self.scratch.clear();
        let demands = self.neighbors.iter().map(|n| n.brought as f64);
        self.scratch.extend(demands);
        let share = level(&mut self.scratch, brought as f64 * self.part);
        for neighbor in &mut self.neighbors {
            let brings = neighbor.brought as f64;
            let taken = if is_all || brings <= share {
                1.0
            } else {
                share / brings
            };
            let before = neighbor.opened.fraction();
            if self.is_sealed {
                neighbor.opened.set(taken * OPENED);
            }
            let opened = neighbor.opened.fraction() / before.max(SMALLEST);
            // Its sources, as much of them as will be opened.
            self.scratch.clear();
            let demands = neighbor.all().map(|s| s.brought as f64 * opened);
            self.scratch.extend(demands);
            let comes: f64 = self.scratch.iter().sum();
            let within = (taken / neighbor.opened.fraction().max(SMALLEST)).min(1.0);
            let share = if within < 1.0 {
                level(&mut self.scratch, comes * within)
            } else {
                f64::INFINITY
            };
            for source in neighbor.all() {
                let brings = source.brought as f64 * opened;
                source
                    .part
                    .set(if brings <= share { 1.0 } else { share / brings });
                source.brought = fade(source.brought);
            }
            neighbor.brought = fade(neighbor.brought);
        }
        self.strange = fade(self.strange);
    }

    /// The neighbor's place, made if there is room: 0 for all others.
    fn find_or_add(&mut self, now: Instant, netid: NetId) -> usize {
        if self.netids[self.last] == netid {
            return self.last;
        }
        let known = self.netids.iter().position(|known| *known == netid);
        self.last = match known {
            Some(place) => place,
            None if self.neighbors.len() <= NEIGHBORS => {
                self.neighbors.push(Neighbor::new(now));
                self.netids.push(netid);
                self.neighbors.len() - 1
            }
            None => {
                let is_old = |n: &Neighbor| n.brought == 0 && now.since(n.heard_at) >= KEPT;
                match self.neighbors.iter().skip(1).position(is_old) {
                    Some(old) => {
                        self.neighbors[1 + old] = Neighbor::new(now);
                        self.netids[1 + old] = netid;
                        1 + old
                    }
                    None => 0,
                }
            }
        };
        self.last
    }
}
