//! From effects to deeds: the one way in which control's wishes become datagrams.
//!
//! The daemon and the simulator share it, so that neither can forget to enter an own message into
//! the seen table before it is sent (A11).

use super::control::Control;
use super::effect::{Effect, Effects, Event};
use super::flood::Flood;
use super::snapshot::NeighborSet;
use crate::id::{LinkId, Path};
use crate::time::Instant;

/// What effects need of the world outside.
pub trait Outlet {
    /// Sends one datagram to one endpoint; `link` is the live link there, if any.
    fn send(&mut self, now: Instant, path: &Path, link: Option<LinkId>, datagram: &[u8]);
    /// Sends one datagram on a live link if that can be done in one packet.
    fn probe(&mut self, now: Instant, path: &Path, link: LinkId, datagram: &[u8]);
    /// Sends one datagram on every link of the set published last.
    fn flood(&mut self, now: Instant, datagram: &[u8]);
    /// Makes this set the one that workers use.
    fn publish(&mut self, now: Instant, neighbors: NeighborSet);
    /// Takes note.
    fn event(&mut self, now: Instant, event: Event);
}

/// Drains `effects` in order into `outlet`.
///
/// State: every datagram sent is in the seen table before it leaves.
pub fn carry_out(
    now: Instant,
    control: &Control,
    flood: &Flood,
    effects: &mut Effects,
    outlet: &mut impl Outlet,
) {
    for effect in effects.drain() {
        match effect {
            Effect::Send {
                path,
                link,
                datagram,
            } => {
                flood.enter(now, datagram.bytes());
                outlet.send(now, &path, link, datagram.bytes());
            }
            Effect::Probe {
                path,
                link,
                ping,
                len,
            } => {
                let mut datagram = ping.bytes().to_vec();
                datagram.resize(len, 0);
                flood.enter(now, &datagram);
                outlet.probe(now, &path, link, &datagram);
            }
            Effect::Flood(datagram) => {
                flood.enter(now, datagram.bytes());
                outlet.flood(now, datagram.bytes());
            }
            Effect::Publish => outlet.publish(now, control.neighbors()),
            Effect::Event(event) => outlet.event(now, event),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wire::{Flags, Kind, NetId};

    use super::*;
    use crate::id::{Endpoint, SocketId};
    use crate::node::config::NodeConfig;
    use crate::node::effect::Small;
    use crate::node::hash::{Algorithm, MessageHasher};
    use crate::node::seen::SeenConfig;
    use crate::pump::count::Counters;

    const NOW: Instant = Instant::from_secs(100);

    /// Asks at each sending whether the message is known by then.
    struct Asks<'f>(&'f Flood, usize);

    impl Asks<'_> {
        fn ask(&mut self, datagram: &[u8]) {
            assert!(self.0.seen().contains(NOW, self.0.digest(datagram)));
            self.1 += 1;
        }
    }

    impl Outlet for Asks<'_> {
        fn send(&mut self, _: Instant, _: &Path, _: Option<LinkId>, datagram: &[u8]) {
            self.ask(datagram);
        }
        fn flood(&mut self, _: Instant, datagram: &[u8]) {
            self.ask(datagram);
        }
        fn probe(&mut self, _: Instant, _: &Path, _: LinkId, datagram: &[u8]) {
            self.ask(datagram);
        }
        fn publish(&mut self, _: Instant, _: NeighborSet) {}
        fn event(&mut self, _: Instant, _: Event) {}
    }

    /// R10.
    #[test]
    fn a_message_is_in_the_seen_table_before_it_leaves() {
        let us = NetId(0x2a);
        let config = NodeConfig {
            netid: us,
            sockets: Vec::new(),
            degree: 6,
            max_neighbors: 256,
            allow_inform: Vec::new(),
            overlay: Vec::new(),
            largest: 0,
            timers: Default::default(),
            limits: Default::default(),
            seed: [1; 32],
        };
        let control = Control::new(NOW, config, Arc::new(Counters::default()));
        let hasher = MessageHasher::new(Algorithm::default(), [1, 2, 3, 4]);
        let flood = Flood::new(us, hasher, SeenConfig::default(), Instant::ZERO);
        let small = |nonce| Small::header(Kind::Ping, Flags::NONE, nonce, us, NetId::ALL);
        let endpoint = Endpoint::new(SocketId(0), ([192, 0, 2, 1], 1).into());
        let mut effects = Effects::default();
        effects.push(Effect::Send {
            path: Path::to(endpoint),
            link: None,
            datagram: small(1),
        });
        effects.push(Effect::Flood(small(2)));
        let mut asks = Asks(&flood, 0);
        carry_out(NOW, &control, &flood, &mut effects, &mut asks);
        assert_eq!(asks.1, 2);
    }
}
