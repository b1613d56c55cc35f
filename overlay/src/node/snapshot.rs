//! What control publishes and the data path reads: the live links, whole and unchanging.
//!
//! Control builds a new [`NeighborSet`] when a link comes or goes; workers load it once a batch.
//! The only things in it that change are the [`LinkStats`], which are atomics and shared with
//! control, so that liveness needs no message per datagram.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::id::{Endpoint, LinkId, NetId, Path};
use crate::keyed::KeyedHasher;
use crate::node::zone::OpenZone;
use crate::time::Instant;

/// Counts of one link, updated by workers, read by control and `floodmesh neighbors`; and what
/// control tells the workers of the link without a new set.
///
/// Calls: from any thread; relaxed, each value true by itself, not together.
#[derive(Debug, Default)]
pub struct LinkStats {
    /// When a well-formed datagram last came, microseconds since start.
    pub last_heard: AtomicU64,
    /// When a datagram was last sent, microseconds since start; 0 is never.
    pub last_sent: AtomicU64,
    /// Well-formed datagrams received.
    pub rx_datagrams: AtomicU64,
    /// Bytes of them, UDP payload.
    pub rx_bytes: AtomicU64,
    /// Datagrams sent.
    pub tx_datagrams: AtomicU64,
    /// Bytes of them, UDP payload.
    pub tx_bytes: AtomicU64,
    /// Datagrams that could not be sent.
    pub tx_errors: AtomicU64,
    /// Messages that came over this link before any other.
    pub first_copies: AtomicU64,
    /// Messages that had come before, over this or another link.
    pub duplicates: AtomicU64,
    /// Datagrams above the path MTU, sent in fragments.
    pub fragmented: AtomicU64,
    /// Datagrams of the neighbor that were dropped since it, or their source, brought more than its
    /// fair share.
    pub unfair: AtomicU64,
    /// The largest datagram that the path is known to carry whole, in bytes; 0 is no limit known.
    /// Written by control.
    pub whole: AtomicU32,
}

impl LinkStats {
    /// Notes one well-formed datagram received.
    pub fn heard(&self, now: Instant, len: usize) {
        self.last_heard.store(now.0, Relaxed);
        self.rx_datagrams.fetch_add(1, Relaxed);
        self.rx_bytes.fetch_add(len as u64, Relaxed);
    }

    /// Notes `datagrams` sent, `len` bytes in all.
    pub fn sent(&self, now: Instant, datagrams: u64, len: usize) {
        self.last_sent.store(now.0, Relaxed);
        self.tx_datagrams.fetch_add(datagrams, Relaxed);
        self.tx_bytes.fetch_add(len as u64, Relaxed);
    }
}

/// One live link as the data path sees it.
#[derive(Clone, Debug)]
pub struct LinkEntry {
    /// The link's name inside this node.
    pub id: LinkId,
    /// The neighbor at the far end.
    pub netid: NetId,
    /// Place of that neighbor among the set's neighbors, dense from 0: an index for per-neighbor
    /// accounts. "Not back to the sender" skips all links with the same value.
    pub neighbor: u16,
    /// Where to send.
    pub path: Path,
    /// It is plain in a node that also has sealed links: one of the open zone.
    pub open: bool,
    /// The link's counts; they outlive this set.
    pub stats: Arc<LinkStats>,
}

/// All live links at one moment.
#[derive(Debug)]
pub struct NeighborSet {
    links: Vec<LinkEntry>,
    neighbors: u16,
    by_endpoint: HashMap<Endpoint, u16, KeyedHasher>,
    expected: HashSet<Endpoint, KeyedHasher>,
    open_zone: Option<Arc<OpenZone>>,
    /// Whether there are links of both zones.
    has_both: bool,
}

impl NeighborSet {
    /// A set of `links`; `expected` are endpoints being dialed, whose datagrams go before
    /// strangers' on the way to control.
    ///
    /// Shape: at most 1,024 links; `neighbor` of each dense from 0.
    pub fn new(
        links: Vec<LinkEntry>,
        expected: impl IntoIterator<Item = Endpoint>,
        hasher: KeyedHasher,
    ) -> Self {
        let mut by_endpoint = HashMap::with_capacity_and_hasher(links.len(), hasher);
        let mut neighbors = 0;
        for (index, link) in links.iter().enumerate() {
            by_endpoint.insert(link.path.endpoint, index as u16);
            neighbors = neighbors.max(link.neighbor + 1);
        }
        let mut waiting = HashSet::with_hasher(hasher);
        waiting.extend(expected);
        Self {
            links,
            neighbors,
            by_endpoint,
            expected: waiting,
            open_zone: None,
            has_both: false,
        }
    }

    /// The same in a node that has two zones: `is_open` says of which each link is.
    #[must_use]
    pub fn zoned(mut self, zone: Arc<OpenZone>, is_open: impl Fn(&LinkEntry) -> bool) -> Self {
        for link in &mut self.links {
            link.open = is_open(link);
        }
        self.open_zone = Some(zone);
        self.has_both = self.has_open() && self.links.iter().any(|link| !link.open);
        self
    }

    /// What the open zone goes by; `None` in a node that has one zone.
    pub fn open_zone(&self) -> Option<&OpenZone> {
        self.open_zone.as_deref()
    }

    /// What the open zone goes by, where a message could go from one zone to the other.
    pub fn both_zones(&self) -> Option<&OpenZone> {
        self.open_zone().filter(|_| self.has_both)
    }

    /// Whether a link is of the open zone.
    pub fn has_open(&self) -> bool {
        self.links.iter().any(|link| link.open)
    }

    /// A set without links.
    pub fn empty() -> Self {
        Self::new(Vec::new(), [], KeyedHasher(0, 0))
    }

    /// All live links; a link's place here is its index for [`Self::find`].
    pub fn links(&self) -> &[LinkEntry] {
        &self.links
    }

    /// How many neighbors the links lead to.
    pub fn neighbors(&self) -> u16 {
        self.neighbors
    }

    /// The neighbor that all links lead to, if there is no other.
    pub fn sole(&self) -> Option<NetId> {
        let netid = self.links.first()?.netid;
        (self.neighbors == 1).then_some(netid)
    }

    /// A live link of this neighbor, if it has one.
    pub fn link_of(&self, netid: NetId) -> Option<&LinkEntry> {
        self.links.iter().find(|link| link.netid == netid)
    }

    /// The index of the live link with this endpoint.
    pub fn find(&self, endpoint: &Endpoint) -> Option<u16> {
        self.by_endpoint.get(endpoint).copied()
    }

    /// Whether we are dialing this endpoint.
    pub fn expects(&self, endpoint: &Endpoint) -> bool {
        self.expected.contains(endpoint)
    }

    /// The endpoints being dialed.
    pub fn expected(&self) -> impl Iterator<Item = &Endpoint> {
        self.expected.iter()
    }

    /// The links a message goes to: all but those of the neighbor it came from.
    pub fn except(&self, neighbor: Option<u16>) -> impl Iterator<Item = (usize, &LinkEntry)> {
        self.links
            .iter()
            .enumerate()
            .filter(move |(_, link)| Some(link.neighbor) != neighbor)
    }
}
