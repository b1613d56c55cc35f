//! The other nodes of the mesh, however far: who was heard of, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::id::NetId;
use crate::node::config::{REMOTE_LEAVE_AFTER, REMOTE_LIFETIME};
use crate::time::Instant;

/// One other node.
#[derive(Clone, Copy, Debug)]
pub struct Remote {
    /// When a message of it last came.
    pub heard_at: Instant,
    /// Where an Inform said it is.
    pub hint: Option<SocketAddr>,
    /// It said Goodbye then.
    leaving_at: Option<Instant>,
}

/// All of them, bounded: the one not heard of for longest goes first.
#[derive(Debug)]
pub(super) struct Remotes {
    each: BTreeMap<NetId, Remote>,
    by_age: BTreeSet<(Instant, NetId)>,
    bound: usize,
}

impl Remotes {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            each: BTreeMap::new(),
            by_age: BTreeSet::new(),
            bound: bound.max(1),
        }
    }

    /// A message of `netid` came.
    pub(super) fn heard(&mut self, now: Instant, netid: NetId) {
        self.touch(now, netid).leaving_at = None;
    }

    /// An Inform named an address for `netid`. Known nodes get the hint; a rumour alone makes no
    /// node, and does not count as being heard.
    pub(super) fn hint(&mut self, _now: Instant, netid: NetId, endpoint: SocketAddr) {
        if let Some(remote) = self.each.get_mut(&netid) {
            remote.hint = Some(endpoint);
        }
    }

    /// `netid` said Goodbye from afar: it is forgotten if it stays silent.
    pub(super) fn leave(&mut self, now: Instant, netid: NetId) {
        if let Some(remote) = self.each.get_mut(&netid) {
            remote.leaving_at = Some(now);
        }
    }

    /// Forgets who is due and says who that was.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<NetId> {
        let gone: Vec<NetId> = self
            .each
            .iter()
            .filter(|(_, remote)| {
                let left = remote
                    .leaving_at
                    .is_some_and(|at| now.since(at) >= REMOTE_LEAVE_AFTER);
                left || now.since(remote.heard_at) >= REMOTE_LIFETIME
            })
            .map(|(netid, _)| *netid)
            .collect();
        for netid in &gone {
            self.forget(*netid);
        }
        gone
    }

    pub(super) fn contains(&self, netid: NetId) -> bool {
        self.each.contains_key(&netid)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NetId, &Remote)> {
        self.each.iter().map(|(netid, remote)| (*netid, remote))
    }

    fn touch(&mut self, now: Instant, netid: NetId) -> &mut Remote {
        if !self.each.contains_key(&netid)
            && self.each.len() >= self.bound
            && let Some(&(_, oldest)) = self.by_age.first()
        {
            self.forget(oldest);
        }
        let fresh = Remote {
            heard_at: now,
            hint: None,
            leaving_at: None,
        };
        let remote = self.each.entry(netid).or_insert(fresh);
        self.by_age.remove(&(remote.heard_at, netid));
        remote.heard_at = now;
        self.by_age.insert((now, netid));
        remote
    }

    fn forget(&mut self, netid: NetId) {
        if let Some(remote) = self.each.remove(&netid) {
            self.by_age.remove(&(remote.heard_at, netid));
        }
    }
}
