//! Whom this node calls of its own accord: the peers that its owner named, and those it remembers.

use super::*;

/// A peer that the owner named; its addresses come from [`Control::set_peer`].
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) endpoints: Vec<Endpoint>,
    /// `--trust-unproved`: its Hello is believed.
    pub(super) trusted: bool,
}

impl Control {
    /// Sets the addresses of the peer with number `peer` (0, 1, ... in the owner's order), resolved
    /// anew or for the first time. Those that were not there before are dialed at once; those that
    /// are no longer are not dialed any more, but live links to them stay.
    pub fn set_peer(
        &mut self,
        now: Instant,
        peer: usize,
        addresses: &[SocketAddr],
        trusted: bool,
        effects: &mut Effects,
    ) {
        if self.left {
            return;
        }
        if self.peers.len() <= peer {
            self.peers.resize_with(peer + 1, Peer::default);
        }
        let endpoints = self.endpoints_of(addresses);
        let before = std::mem::take(&mut self.peers[peer].endpoints);
        self.peers[peer] = Peer {
            endpoints: endpoints.clone(),
            trusted,
        };
        for endpoint in before
            .iter()
            .filter(|endpoint| !endpoints.contains(endpoint))
        {
            if !self.is_configured(endpoint) {
                self.candidates.remove(endpoint);
                self.changed = true;
            }
        }
        for endpoint in endpoints {
            self.mark_configured(&endpoint);
            let waiting = self
                .candidates
                .get(&endpoint)
                .map(|candidate| candidate.origin);
            if waiting != Some(Origin::Configured) {
                self.dial(now, endpoint, Origin::Configured);
            }
        }
        self.step_candidates(now, effects);
        self.finish(effects);
    }

    /// Dials endpoints that were neighbors' before the last restart, as if the owner had named
    /// them, but only while there is room for their nodes.
    ///
    /// Shape: as few as the state file holds; each is kept for as long as this node runs.
    pub fn remember(&mut self, now: Instant, addresses: &[SocketAddr], effects: &mut Effects) {
        if self.left {
            return;
        }
        for endpoint in self.endpoints_of(addresses) {
            if !self.remembered.contains(&endpoint) {
                self.remembered.push(endpoint);
            }
            if self.candidates.get(&endpoint).is_none() {
                self.dial(now, endpoint, Origin::Remembered);
            }
        }
        self.step_candidates(now, effects);
        self.finish(effects);
    }

    /// The machine's addresses or routes changed: every named or remembered peer without a link is
    /// dialed anew from the start of the schedule, every link is pinged and probed for what it
    /// carries now.
    pub fn handle_network_change(&mut self, now: Instant, effects: &mut Effects) {
        if self.left {
            return;
        }
        for endpoint in self.remembered.clone() {
            self.dial(now, endpoint, Origin::Remembered);
        }
        let endpoints: Vec<Endpoint> = self
            .peers
            .iter()
            .flat_map(|peer| peer.endpoints.iter().copied())
            .collect();
        for endpoint in endpoints {
            self.dial(now, endpoint, Origin::Configured);
        }
        let links: Vec<(NetId, Endpoint)> = self
            .neighbors
            .values()
            .flat_map(|n| n.links.iter().map(|link| (n.netid, link.path.endpoint)))
            .collect();
        for (netid, endpoint) in links {
            self.ping_link(now, netid, endpoint, effects);
            if let Some(link) = self.link_mut(&endpoint) {
                link.mtu.restart(now);
            }
        }
        self.step_candidates(now, effects);
        self.finish(effects);
    }

    /// Begins or begins anew to dial an endpoint that is not a live link.
    pub(super) fn dial(&mut self, now: Instant, endpoint: Endpoint, origin: Origin) {
        if self.by_endpoint.contains_key(&endpoint) {
            return;
        }
        let candidate = Candidate::new(now, Path::to(endpoint), origin, &self.config.limits);
        // Named endpoints are outside the bounds; informed ones were counted by their caller.
        if self
            .candidates
            .insert(candidate, &self.config.limits)
            .is_err()
        {
            self.counters.count(DropReason::PrefixBudget);
        }
        self.changed = true;
    }

    /// Each address from each socket of its family, except loopback from elsewhere and back.
    pub(super) fn endpoints_of(&self, addresses: &[SocketAddr]) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for address in addresses {
            let sockets = self.config.sockets.iter().filter(|socket| {
                let local = socket.local.ip();
                let remote = address.ip().to_canonical();
                local.is_ipv4() == remote.is_ipv4()
                    && (local.is_unspecified() || local.is_loopback() == remote.is_loopback())
            });
            for endpoint in sockets.map(|socket| Endpoint::new(socket.id, *address)) {
                if !endpoints.contains(&endpoint) {
                    endpoints.push(endpoint);
                }
            }
        }
        endpoints
    }

    pub(super) fn is_configured(&self, endpoint: &Endpoint) -> bool {
        self.peers
            .iter()
            .any(|peer| peer.endpoints.contains(endpoint))
    }

    pub(super) fn is_trusted(&self, endpoint: &Endpoint) -> bool {
        self.peers
            .iter()
            .any(|peer| peer.trusted && peer.endpoints.contains(endpoint))
    }

    pub(super) fn mark_configured(&mut self, endpoint: &Endpoint) {
        if let Some(link) = self.link_mut(endpoint) {
            link.configured = true;
        }
    }
}
