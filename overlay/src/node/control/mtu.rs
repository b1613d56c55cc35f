//! Probing what links carry; the search itself is [`crate::node::mtu`].

use std::sync::atomic::Ordering::Relaxed;

use super::*;

impl Control {
    /// Sends the probes that are due: on links that are heard, one a second each at the most.
    pub(super) fn probe_links(&mut self, now: Instant, effects: &mut Effects) {
        let links = self.neighbors.values().flat_map(|n| n.links.iter());
        let due: Vec<Endpoint> = links
            .filter(|link| link.probes_at().is_some_and(|at| at <= now))
            .map(|link| link.path.endpoint)
            .collect();
        for endpoint in due {
            let fresh = self.challenge_netid();
            let nonce = self.rng.next_u32();
            let Some(netid) = self.by_endpoint.get(&endpoint).copied() else {
                continue;
            };
            let Some(link) = self.link_mut(&endpoint) else {
                continue;
            };
            let step = link.mtu.step(now, fresh);
            note_limit(link, effects);
            if let Some((len, src)) = step {
                effects.push(Effect::Probe {
                    path: link.path,
                    link: link.id,
                    ping: Small::header(Kind::Ping, Flags::NO_FORWARD, nonce, src, netid),
                    len: len.into(),
                });
            }
        }
    }

    /// A Pong to a netid that is not ours, over a live link; says whether it answers a probe.
    pub(super) fn take_probe_answer(
        &mut self,
        now: Instant,
        endpoint: &Endpoint,
        dst: NetId,
        effects: &mut Effects,
    ) -> bool {
        let Some(link) = self.link_mut(endpoint) else {
            return false;
        };
        let answers = link.mtu.answered(now, dst);
        note_limit(link, effects);
        answers
    }
}

/// Tells the workers what may go whole, and the kernel if it has to cut.
fn note_limit(link: &mut Link, effects: &mut Effects) {
    let limit = link.mtu.limit().map_or(0, u32::from);
    link.stats.whole.store(limit, Relaxed);
    if let Some(size) = link.mtu.take_news() {
        effects.event(Event::PathNarrow(link.path, size));
    }
}
