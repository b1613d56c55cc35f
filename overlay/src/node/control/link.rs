//! Live links: what is sent on them, when they are asked whether they live, and how they end.

use super::*;

impl Control {
    pub(super) fn poll_links(&mut self, now: Instant, effects: &mut Effects) {
        let mut due = Vec::new();
        for neighbor in self.neighbors.values_mut() {
            for link in &mut neighbor.links {
                match link.poll(now, &self.config.timers) {
                    Due::Nothing => {}
                    what => due.push((neighbor.netid, link.path.endpoint, what)),
                }
            }
        }
        for (netid, endpoint, what) in due {
            match what {
                Due::Nothing => {}
                Due::Ping => self.ping_link(now, netid, endpoint, effects),
                Due::HelloAndPing => {
                    self.greet_link(now, netid, endpoint, effects);
                    self.ping_link(now, netid, endpoint, effects);
                }
                Due::Gone(why) => self.remove_link(now, endpoint, why, effects),
            }
        }
    }

    /// Ends a link; a named or remembered peer is dialed anew, a neighbor without links is no
    /// neighbor.
    pub(super) fn remove_link(
        &mut self,
        now: Instant,
        endpoint: Endpoint,
        why: Gone,
        effects: &mut Effects,
    ) {
        let Some(netid) = self.by_endpoint.remove(&endpoint) else {
            return;
        };
        if let Some(neighbor) = self.neighbors.get_mut(&netid) {
            neighbor.links.retain(|link| link.path.endpoint != endpoint);
            effects.event(Event::LinkDown(netid, endpoint, why));
            if neighbor.links.is_empty() {
                self.neighbors.remove(&netid);
                effects.event(Event::NeighborDown(netid, why));
            }
        }
        if self.is_configured(&endpoint) {
            self.dial(now, endpoint, Origin::Configured);
        } else if self.remembered.contains(&endpoint) {
            self.dial(now, endpoint, Origin::Remembered);
        }
        self.changed = true;
    }

    pub(super) fn on_goodbye(&mut self, now: Instant, arrival: &Arrival, header: &wire::Header) {
        let bound = self.by_endpoint.get(&arrival.path.endpoint).copied();
        if bound == Some(header.src) {
            if let Some(neighbor) = self.neighbors.get_mut(&header.src) {
                neighbor.leave(now);
            }
        } else if header.flags.no_forward() || header.dst == NetId::ANY {
            self.counters.count(match bound {
                Some(_) => DropReason::SpoofedControl,
                None => DropReason::StrangersWord,
            });
        } else {
            self.remotes.leave(now, header.src);
        }
    }

    pub(super) fn ping_link(
        &mut self,
        now: Instant,
        netid: NetId,
        endpoint: Endpoint,
        effects: &mut Effects,
    ) {
        let ping = self.small(Kind::Ping, Flags::NO_FORWARD, netid);
        if let Some(link) = self.link_mut(&endpoint) {
            link.pinged_at = Some(now);
        }
        self.send_on_link(&endpoint, ping, effects);
    }

    pub(super) fn greet_link(
        &mut self,
        now: Instant,
        netid: NetId,
        endpoint: Endpoint,
        effects: &mut Effects,
    ) {
        let hello = self.small(Kind::Hello, Flags::NO_FORWARD, netid);
        if let Some(link) = self.link_mut(&endpoint) {
            link.greeted_at = Some(now);
        }
        self.send_on_link(&endpoint, hello, effects);
    }

    pub(super) fn send_on_link(
        &mut self,
        endpoint: &Endpoint,
        datagram: Small,
        effects: &mut Effects,
    ) {
        if let Some(link) = self.link_mut(endpoint) {
            effects.push(Effect::Send {
                path: link.path,
                link: Some(link.id),
                datagram,
            });
        }
    }

    pub(super) fn link_mut(&mut self, endpoint: &Endpoint) -> Option<&mut Link> {
        let netid = self.by_endpoint.get(endpoint)?;
        let neighbor = self.neighbors.get_mut(netid)?;
        neighbor
            .links
            .iter_mut()
            .find(|link| link.path.endpoint == *endpoint)
    }

    pub(super) fn new_link_id(&mut self) -> LinkId {
        let id = LinkId(self.next_link);
        self.next_link = self.next_link.wrapping_add(1);
        id
    }
}
