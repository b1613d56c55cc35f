//! What control can tell people: neighbors, endpoints being tried, refusals, other nodes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{ALARM_INTERVAL, Control};
use crate::id::{Endpoint, NetId, Path};
use crate::node::candidate::Origin;
use crate::node::effect::Refusal;
use crate::node::neighbor::LinkState;
use crate::node::snapshot::LinkStats;
use crate::time::{Duration, Instant};

pub use super::remote::Remote;

/// One live link.
#[derive(Clone, Debug)]
pub struct LinkView {
    /// The neighbor.
    pub netid: NetId,
    /// Where it is.
    pub path: Path,
    /// What it is at the moment.
    pub state: LinkState,
    /// When it was proven.
    pub since: Instant,
    /// The owner named its endpoint.
    pub configured: bool,
    /// The last round trip measured on it.
    pub round_trip: Option<Duration>,
    /// The largest datagram that was shown to arrive whole; `None` while nothing is known.
    pub carries: Option<u16>,
    /// The largest that is sent whole, when that is less than the largest there is.
    pub limit: Option<u16>,
    /// Its counts.
    pub stats: Arc<LinkStats>,
}

/// One endpoint without proof.
#[derive(Clone, Copy, Debug)]
pub struct CandidateView {
    /// Where it is.
    pub endpoint: Endpoint,
    /// How we came to know it.
    pub origin: Origin,
    /// What its Hello claimed.
    pub claimed: Option<NetId>,
    /// Since when.
    pub since: Instant,
    /// It sent us something.
    pub heard: bool,
}

/// One stranger that was refused.
#[derive(Clone, Copy, Debug)]
pub struct RefusedView {
    /// When last.
    pub at: Instant,
    /// Where it is.
    pub endpoint: Endpoint,
    /// What it claimed to be.
    pub netid: Option<NetId>,
    /// Why.
    pub reason: Refusal,
}

/// The last refusals.
#[derive(Debug, Default)]
pub struct Refused {
    last: VecDeque<RefusedView>,
    told_at: Option<Instant>,
}

/// Refusals remembered.
const REFUSED: usize = 32;
/// How long one is shown.
const REFUSED_LIFETIME: Duration = Duration::from_secs(60);

impl Refused {
    /// Notes one; says whether the owner is to be told.
    pub(super) fn note(
        &mut self,
        now: Instant,
        endpoint: Endpoint,
        netid: Option<NetId>,
        reason: Refusal,
    ) -> bool {
        self.last.retain(|view| view.endpoint != endpoint);
        if self.last.len() >= REFUSED {
            self.last.pop_front();
        }
        self.last.push_back(RefusedView {
            at: now,
            endpoint,
            netid,
            reason,
        });
        let tell = self
            .told_at
            .is_none_or(|at| now.since(at) >= ALARM_INTERVAL);
        if tell {
            self.told_at = Some(now);
        }
        tell
    }
}

impl Control {
    /// All live links, by netid.
    pub fn links(&self) -> impl Iterator<Item = LinkView> {
        self.neighbors.values().flat_map(|neighbor| {
            neighbor.links.iter().map(|link| LinkView {
                netid: neighbor.netid,
                path: link.path,
                state: link.state,
                since: link.since,
                configured: link.configured,
                round_trip: link.round_trip,
                carries: link.mtu.found(),
                limit: link.mtu.limit(),
                stats: link.stats.clone(),
            })
        })
    }

    /// All endpoints without proof, by endpoint.
    pub fn candidates(&self) -> impl Iterator<Item = CandidateView> {
        self.candidates.iter().map(|candidate| CandidateView {
            endpoint: candidate.path.endpoint,
            origin: candidate.origin,
            claimed: candidate.claimed,
            since: candidate.since,
            heard: candidate.received > 0,
        })
    }

    /// Whether an endpoint is dialed that is no link, of our own accord.
    pub fn is_dialing(&self, endpoint: &Endpoint) -> bool {
        let candidate = self.candidates.get(endpoint);
        candidate.is_some_and(|candidate| candidate.origin != Origin::Unsolicited)
    }

    /// Who was refused in the last minute, the oldest first.
    pub fn refused(&self, now: Instant) -> impl Iterator<Item = &RefusedView> {
        self.refused
            .last
            .iter()
            .filter(move |view| now.since(view.at) < REFUSED_LIFETIME)
    }

    /// The other nodes of the mesh, by netid.
    pub fn remotes(&self) -> impl Iterator<Item = (NetId, &Remote)> {
        self.remotes.iter()
    }

    /// Whether another node was seen to use our netid in the last five minutes.
    pub fn has_conflict(&self, now: Instant) -> bool {
        self.conflict_at
            .is_some_and(|at| now.since(at) < Duration::from_secs(300))
    }

    /// Endpoints worth remembering over a restart: live links, best heard first.
    pub fn proven(&self) -> Vec<(NetId, std::net::SocketAddr)> {
        let mut links: Vec<_> = self
            .neighbors
            .values()
            .flat_map(|n| {
                n.links
                    .iter()
                    .map(|link| (link.heard_at(), n.netid, link.path))
            })
            .collect();
        links.sort_by_key(|(heard, ..)| std::cmp::Reverse(*heard));
        links
            .into_iter()
            .map(|(_, netid, path)| (netid, path.endpoint.remote))
            .collect()
    }

    /// Whether `netid` is a neighbor.
    pub fn is_neighbor(&self, netid: NetId) -> bool {
        self.neighbors.contains_key(&netid)
    }
}
