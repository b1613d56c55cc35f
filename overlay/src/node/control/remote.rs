//! The other nodes of the mesh, however far: who was heard of, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::id::NetId;
use crate::node::config::{REMOTE_LEAVE_AFTER, REMOTE_LIFETIME};
use crate::time::{Duration, Instant};

/// Neighbors that are remembered as the way on which a node's messages come.
const WAYS: usize = 4;
/// How long one is, after the last message that it brought first.
const WAY_LIFETIME: Duration = Duration::from_secs(60);

/// One other node.
#[derive(Clone, Copy, Debug)]
pub struct Remote {
    /// When a message of it last came.
    pub heard_at: Instant,
    /// Neighbors that brought messages of it before any other, the latest in front, and when.
    ways: [Option<(NetId, Instant)>; WAYS],
    /// Where an Inform said it is.
    pub hint: Option<SocketAddr>,
    /// It said Goodbye then.
    leaving_at: Option<Instant>,
}

impl Remote {
    /// The neighbors that brought a message of it first in the last minute, the latest in front.
    /// One message a second is looked at.
    pub fn via(&self, now: Instant) -> impl Iterator<Item = NetId> {
        let lately = move |(_, at): &(NetId, Instant)| now.since(*at) < WAY_LIFETIME;
        let ways = self.ways.into_iter().flatten().filter(lately);
        ways.map(|(neighbor, _)| neighbor)
    }

    fn came_by(&mut self, now: Instant, neighbor: NetId) {
        let is_known = |way: &Option<(NetId, Instant)>| way.is_some_and(|(one, _)| one == neighbor);
        let before = self.ways.iter().position(is_known);
        // It comes to the front; what was in front of it moves back, or the oldest goes.
        self.ways[..=before.unwrap_or(WAYS - 1)].rotate_right(1);
        self.ways[0] = Some((neighbor, now));
    }
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

    /// A message of `netid` came, and `via` brought it.
    pub(super) fn heard(&mut self, now: Instant, netid: NetId, via: NetId) {
        let remote = self.touch(now, netid);
        remote.leaving_at = None;
        remote.came_by(now, via);
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
            ways: [None; WAYS],
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

#[cfg(test)]
mod tests {
    use super::*;

    fn via(remotes: &Remotes, second: u64) -> Vec<u32> {
        let (_, remote) = remotes.iter().next().unwrap();
        let ways = remote.via(Instant::from_secs(second));
        ways.map(|netid| netid.0).collect()
    }

    #[test]
    fn a_node_comes_by_the_neighbors_of_the_last_minute_the_latest_in_front() {
        let mut remotes = Remotes::new(8);
        let mut heard = |second, by| remotes.heard(Instant::from_secs(second), NetId(9), NetId(by));
        for (second, by) in [(0, 1), (1, 2), (2, 1), (3, 3), (4, 2)] {
            heard(second, by);
        }
        assert_eq!(via(&remotes, 4), [2, 3, 1]);
        assert_eq!(via(&remotes, 61), [2, 3, 1]);
        assert_eq!(via(&remotes, 62), [2, 3]);
        assert!(via(&remotes, 64).is_empty());
    }

    #[test]
    fn four_ways_are_remembered_at_the_most() {
        let mut remotes = Remotes::new(8);
        for by in 1..=6 {
            remotes.heard(Instant::ZERO, NetId(9), NetId(by));
        }
        assert_eq!(via(&remotes, 0), [6, 5, 4, 3]);
    }
}
