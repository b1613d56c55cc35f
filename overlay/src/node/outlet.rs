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
    fn publish(&mut self, neighbors: NeighborSet);
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
            Effect::Publish => outlet.publish(control.neighbors()),
            Effect::Event(event) => outlet.event(now, event),
        }
    }
}
