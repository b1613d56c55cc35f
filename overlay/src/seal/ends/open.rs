//! Nodes of the open zone, in a node that prefers sealed links: asked like all others whether they
//! speak sealed, and sent to in clear if they do not answer (S89).

use std::collections::BTreeSet;

use super::{Ends, Membership, Wish};
use crate::time::{Duration, Instant};
use wire::NetId;

/// How long a node of the open zone may take to answer an E-INIT: those at 0, 1 and 4 s.
const ANSWER: Duration = Duration::from_secs(7);
/// How often a node is asked at the most: what it costs is flooded.
const AGAIN: Duration = Duration::from_secs(300);

impl Ends {
    /// `open` are heard in the open zone alone, `heard` in it, and none of them ever spoke sealed. Called
    /// once a second.
    ///
    /// State: all are asked, again and again; who of `open` was asked in vain is sent to in clear; who is
    ///        none of them any more is not.
    pub fn set_open(
        &mut self,
        now: Instant,
        with: Membership<'_>,
        open: BTreeSet<NetId>,
        heard: impl Iterator<Item = NetId>,
    ) {
        let former = std::mem::replace(&mut self.open, open);
        let gone: Vec<NetId> = former.difference(&self.open).copied().collect();
        for netid in gone {
            self.close(netid);
        }
        let is_over = |since: Option<Instant>| since.is_some_and(|at| now.since(at) >= ANSWER);
        let silent: Vec<NetId> = self
            .peers
            .values()
            .filter(|entry| self.open.contains(&entry.netid) && is_over(entry.since))
            .map(|entry| entry.netid)
            .filter(|netid| !self.sessions.is_open(*netid) && self.sessions.seals(*netid).is_none())
            .collect();
        for netid in silent {
            self.send_in_the_open(netid);
        }
        // With neighbors it is known when the first packet comes.
        self.asked.retain(|_, at| now.since(*at) < AGAIN);
        for netid in heard {
            // One that is being asked has an end; one that is to be sent to is asked at once.
            let is_due = !self.asked.contains_key(&netid)
                || self.open.contains(&netid) && !self.sessions.is_open(netid);
            if is_due && !self.by_netid.contains_key(&netid) {
                self.handle_unknown(now, with, (netid, netid));
                if self.by_netid.contains_key(&netid) {
                    self.asked.insert(netid, now);
                }
            }
        }
    }

    /// Whether a node is in the open zone alone, and was never sealed for.
    pub fn is_open(&self, netid: NetId) -> bool {
        self.open.contains(&netid) && self.sessions.seals(netid).is_none()
    }

    fn send_in_the_open(&mut self, netid: NetId) {
        self.sessions.set_open(netid, true);
        self.wishes.push(Wish::Publish);
        let id = self.by_netid.get(&netid);
        let Some(entry) = id.and_then(|id| self.peers.get_mut(id)) else {
            return;
        };
        while let Some(payload) = entry.waiting.pop() {
            self.waiting -= payload.len();
            self.wishes.push(Wish::InTheOpen(netid, payload));
        }
    }

    /// Data for a node goes sealed from now on, or waits.
    pub fn close(&mut self, netid: NetId) {
        if self.sessions.is_open(netid) {
            self.sessions.set_open(netid, false);
            self.wishes.push(Wish::Publish);
        }
    }
}
