//! The driver's part of sealed links: what workers found goes to the machine, its wishes are
//! carried out.

use std::sync::Arc;

use super::super::shared::{SealReport, Shared};
use super::Driver;
use super::deeds::send;
use crate::id::Endpoint;
use crate::pump::count::DropReason;
use crate::seal::effect::Event;
use crate::seal::links::{Links, Notice, Wish};
use crate::seal::session::LINK_OVERHEAD;
use crate::time::Instant;

impl Driver {
    /// Bytes that are added to a message on a link.
    pub(in crate::daemon) fn overhead(&self) -> u16 {
        match self.links {
            Some(_) => LINK_OVERHEAD as u16,
            None => 0,
        }
    }

    /// Takes a worker's report; `waiting` more handshakes may wait behind it.
    pub(super) fn on_seal(&mut self, report: SealReport, waiting: usize) {
        let now = self.clock.now();
        let Some(links) = &mut self.links else {
            return;
        };
        match report {
            SealReport::Handshake(path, datagram) => {
                if !links.handle(now, &path, &datagram, waiting) {
                    self.shared.counters.count(DropReason::Handshake);
                }
            }
            SealReport::Confirmed(index) => links.handle_confirmed(now, index),
            SealReport::Control(index, control) => {
                links.handle_control(now, index, &control.control());
            }
        }
    }

    /// Carries out what the machine wants.
    pub(super) fn carry_out_sealing(&mut self, now: Instant) {
        let notices = match &mut self.links {
            Some(links) => carry_out(&self.shared, links),
            None => return,
        };
        for (endpoint, notice) in notices {
            self.on_notice(now, endpoint, notice);
        }
    }

    fn on_notice(&mut self, now: Instant, link: Endpoint, notice: Notice) {
        match notice {
            Notice::Peer(Event::Up(remote)) => {
                tracing::info!(netid = %remote.netid, %link, "sealed");
                self.note_origin(&remote);
            }
            Notice::Peer(Event::Rekeyed(remote)) => {
                tracing::debug!(netid = %remote.netid, %link, "sealed anew");
            }
            Notice::Peer(Event::Down(why)) => {
                tracing::info!(%link, reason = ?why, "no longer sealed");
            }
            Notice::Peer(Event::GaveUp) => tracing::debug!(%link, "no answer to a handshake"),
            Notice::Peer(Event::Refused(error)) => {
                if let Some(suppressed) = self.limiter.pass(now, "handshake") {
                    tracing::warn!(%link, ?error, suppressed, "a handshake was refused");
                }
            }
            Notice::Peer(Event::OtherKey { netid, .. }) | Notice::Unpinned { netid, .. } => {
                self.alarms.other_key(now, netid);
                if let Some(suppressed) = self.limiter.pass(now, "other_key") {
                    tracing::error!(%netid, %link, suppressed, "a node came with another key than before; refused");
                }
            }
        }
    }
}

/// Publishes first: a session must be known before its first datagram can come back.
fn carry_out(shared: &Shared, links: &mut Links) -> Vec<(Endpoint, Notice)> {
    let wishes: Vec<Wish> = links.drain().collect();
    if wishes.iter().any(|wish| matches!(wish, Wish::Publish)) {
        let sessions = Arc::new(links.sessions().clone());
        shared.publish(|snapshot| snapshot.sessions = Some(sessions));
    }
    let mut notices = Vec::new();
    for wish in wishes {
        match wish {
            Wish::Publish => {}
            Wish::Send(path, datagram) => send(shared, &path, &datagram, None),
            Wish::Notice(endpoint, notice) => notices.push((endpoint, notice)),
        }
    }
    notices
}
