//! The driver's part of what is sealed end to end: what workers found goes to the machine, its
//! wishes are carried out.

use std::sync::Arc;

use wire::Flags;

use super::super::shared::EndReport;
use super::Driver;
use super::sealing::Refused;
use crate::id::NetId;
use crate::node::zone::Zones;
use crate::pump::count::DropReason;
use crate::seal::effect::Event;
use crate::seal::ends::{Ends, Membership, Notice, Wish};
use crate::seal::members::Claim;
use crate::seal::payload::Remote;
use crate::time::Instant;

impl Driver {
    /// Calls the machine, if there is one, with what it has to know of who is a member.
    pub(super) fn with_ends<R>(
        &mut self,
        call: impl FnOnce(&mut Ends, Membership<'_>) -> R,
    ) -> Option<R> {
        let (ends, links) = (self.ends.as_mut()?, self.links.as_ref()?);
        let membership = Membership {
            local: links.local(),
            refuses: &|claim| links.refuses(claim),
        };
        Some(call(ends, membership))
    }

    /// Ends what is sealed end to end with those nodes.
    pub(super) fn leave_ends(
        &mut self,
        now: Instant,
        reason: u8,
        is_so: impl Fn(Membership<'_>, &Remote) -> bool,
    ) {
        self.with_ends(|ends, with| {
            ends.leave_where(now, with, reason, |remote| is_so(with, remote));
        });
        self.carry_out_ends(now);
    }

    /// Tells the machine who the neighbors are.
    pub(super) fn meet_neighbors(&mut self, now: Instant) {
        let zone = self.prefer().map(|prefer| prefer.zone().clone());
        self.directory.set_open_zone(zone);
        let snapshot = self.shared.snapshot.load_full();
        let links = snapshot.neighbors.links();
        self.with_ends(|ends, with| {
            // Nodes of the open zone have no keys.
            let sealed = links.iter().filter(|link| !link.open);
            ends.set_neighbors(now, with, sealed.map(|link| link.netid));
        });
    }

    /// Takes a worker's report.
    pub(super) fn on_end(&mut self, report: EndReport) {
        let now = self.clock.now();
        let is_of_use = self.with_ends(|ends, with| match report {
            EndReport::Handshake {
                src,
                by,
                direct,
                payload,
            } => ends.handle(now, with, (src, by), direct, &payload),
            EndReport::Confirmed(index) => {
                ends.handle_confirmed(now, with, index);
                true
            }
            EndReport::Unknown(src, by) => {
                ends.handle_unknown(now, with, (src, by));
                true
            }
            EndReport::Waiting(dst, payload) => {
                ends.send(now, with, dst, payload);
                true
            }
        });
        if is_of_use == Some(false) {
            self.shared.counters.count(DropReason::Handshake);
        }
    }

    /// Carries out what the machine wants. A session is published before its first payload can
    /// come back.
    pub(super) fn carry_out_ends(&mut self, now: Instant) {
        let Some(ends) = &mut self.ends else {
            return;
        };
        let wishes: Vec<Wish> = ends.drain().collect();
        // What its certificate holds a node to is in force before its session is.
        for wish in &wishes {
            if let Wish::Notice(_, Notice::Peer(Event::Up(remote) | Event::Rekeyed(remote))) = wish
            {
                self.note_grant(now, remote.netid, remote.certificate.as_deref());
            }
        }
        self.carry_out_directory(now);
        let Some(ends) = &self.ends else {
            return;
        };
        if wishes.iter().any(|wish| matches!(wish, Wish::Publish)) {
            let sessions = Arc::new(ends.sessions().clone());
            self.shared
                .publish(|snapshot| snapshot.ends = Some(sessions));
        }
        for wish in wishes {
            match wish {
                Wish::Publish => {}
                Wish::Originate {
                    dst,
                    payload,
                    direct,
                } => {
                    let snapshot = self.shared.snapshot.load();
                    let links = snapshot.neighbors.links();
                    let is_near = direct && links.iter().any(|link| link.netid == dst);
                    drop(snapshot);
                    if is_near {
                        self.send_data(now, dst, Flags::NO_FORWARD, &payload, Some(dst));
                    } else {
                        self.send_data(now, dst, Flags::NONE, &payload, None);
                    }
                }
                Wish::InTheOpen(dst, payload) => {
                    self.send_data_within(now, Zones::Open, dst, &payload);
                }
                Wish::Dropped(count) => {
                    let counters = &self.shared.counters;
                    counters.count_many(DropReason::EndWaiting, count as u64);
                }
                Wish::Notice(netid, notice) => self.on_end_notice(now, netid, notice),
            }
        }
    }

    /// A handshake told how to know a node's broadcasts.
    pub(super) fn note_origin(&self, remote: &Remote) {
        if let Some(broadcasts) = &self.shared.broadcasts {
            broadcasts.note(remote.netid, remote.boot, remote.signing_key);
        }
    }

    /// A certificate says what its node may do; what it said last counts, until the node comes with
    /// another.
    pub(super) fn note_grant(&mut self, now: Instant, netid: NetId, certificate: Option<&[u8]>) {
        if self.grants.note(netid, certificate) {
            let grants = Arc::new(self.grants.clone());
            let effects = &mut self.directory_effects;
            self.directory.set_grants(now, grants, effects);
        }
    }

    /// The same for this node's own.
    pub(super) fn note_own_grant(&mut self, now: Instant) {
        let links = self.links.as_ref();
        let certificate = links.and_then(|links| links.local().certificate.clone());
        self.note_grant(now, self.shared.netid, certificate.as_deref());
    }

    fn on_end_notice(&mut self, now: Instant, netid: NetId, notice: Notice) {
        match notice {
            Notice::Peer(Event::Up(remote)) => {
                tracing::info!(%netid, "sealed end to end");
                self.look_at_next_secret(now, &remote);
                self.note_origin(&remote);
                if let Some(links) = &mut self.links {
                    links.members().note_afar(&Claim::of(&remote));
                    links.latch_end(netid);
                }
            }
            Notice::Peer(Event::Rekeyed(remote)) => {
                tracing::debug!(%netid, "sealed end to end anew");
                self.look_at_next_secret(now, &remote);
                self.note_origin(&remote);
            }
            Notice::Peer(Event::Down(why)) => {
                tracing::info!(%netid, reason = ?why, "no longer sealed end to end");
            }
            Notice::Peer(Event::GaveUp) => {
                tracing::debug!(%netid, "no answer to an end-to-end handshake");
            }
            Notice::Peer(Event::Refused(error)) => {
                if let Some(suppressed) = self.limiter.pass(now, "end_handshake") {
                    tracing::warn!(%netid, ?error, suppressed, "an end-to-end handshake was refused");
                }
            }
            Notice::Peer(Event::OtherKey { .. }) => {
                self.alarms
                    .other_key(now, netid, "a node changed its key; it is refused");
                if let Some(suppressed) = self.limiter.pass(now, "other_end_key") {
                    tracing::error!(%netid, suppressed, "a node came with another key while it is sealed end to end; refused");
                }
            }
            // Told by the next.
            Notice::Peer(Event::NotAdmitted { .. }) => {}
            Notice::Refused { static_key, why } => {
                let refused = Refused {
                    link: None,
                    netid,
                    key: &static_key,
                    why,
                    is_news: false,
                };
                self.on_refused(now, &refused);
            }
        }
    }
}
