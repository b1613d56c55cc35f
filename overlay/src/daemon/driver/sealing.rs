//! The driver's part of sealed links: what workers found goes to the machine, its wishes are
//! carried out.

use super::super::admin::Reply;
use super::super::forget::{advice, unknown};
use super::super::report::{ForgottenReport, PublishedReport};
use super::super::shared::{SealReport, Shared};
use super::super::state::{AFAR, PINS, REVOCATIONS, StateDir};
use super::Driver;
use super::deeds::send;
use crate::id::{Endpoint, NetId};
use crate::pump::count::DropReason;
use crate::seal::armor::Armor;
use crate::seal::effect::Event;
use crate::seal::links::{Notice, Wish};
use crate::seal::members::{Claim, ListError, Refusal, key_text};
use crate::seal::payload::Remote;
use crate::seal::session::LINK_OVERHEAD;
use crate::time::Instant;
use wire::sealed::close::REPLACED;
use wire::sealed::{Frame, Frames};

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
            SealReport::Control(index, (from, len), control) => {
                links.handle_control(now, index, (&from, len), &control.control());
            }
            SealReport::Elsewhere(index, from, len) => {
                links.handle_elsewhere(now, index, &from, len);
            }
            SealReport::List(index, frame) => {
                if let Some(Ok(Frame::Control(control))) = Frames::new(&frame).next() {
                    links.handle_list(now, index, &control);
                }
            }
        }
    }

    /// Carries out what the machine wants, and what it wants because of that.
    pub(super) fn carry_out_sealing(&mut self, now: Instant) {
        while let Some(links) = &mut self.links {
            let wishes: Vec<Wish> = links.drain().collect();
            if wishes.is_empty() {
                break;
            }
            // First of all: what its certificate holds a node to is in force before its session is.
            for wish in &wishes {
                if let Wish::Notice(_, Notice::Peer(Event::Up(remote) | Event::Rekeyed(remote))) =
                    wish
                {
                    self.note_grant(now, remote.netid, remote.certificate.as_deref());
                }
            }
            self.carry_out_directory(now);
            // Then: a session must be known before its first datagram can come back.
            if wishes.iter().any(|wish| matches!(wish, Wish::Publish)) {
                self.publish_sessions(now);
            }
            for (endpoint, notice) in carry_out(&self.shared, wishes) {
                self.on_notice(now, endpoint, notice);
            }
        }
    }

    /// Has written down what membership remembers anew.
    pub(super) async fn keep_members(&mut self, now: Instant) {
        let Some(links) = &mut self.links else {
            return;
        };
        if let Some(pins) = links.members().take_changed() {
            self.keeping.put(PINS, StateDir::pins_body(pins));
        }
        if let Some(afar) = links.members().take_changed_afar() {
            self.keeping.put(AFAR, StateDir::afar_body(afar));
        }
        self.keep_latches();
        let Some(links) = &mut self.links else {
            return;
        };
        if let Some(list) = links.members().take_changed_list() {
            let (number, entries) = (list.number(), list.len());
            tracing::info!(number, entries, "a newer revocation list is in force");
            let body = Armor::Revocations.encode(list.bytes()) + "\n";
            self.keeping.put(REVOCATIONS, body);
            self.leave_ends(now, Refusal::Revoked.reason(), |with, remote| {
                (with.refuses)(&Claim::of(remote)) == Some(Refusal::Revoked)
            });
        }
        match self.keeping.poll(now).await {
            Ok(()) if self.keeping.is_done() => self.alarms.written(),
            Ok(()) => {}
            Err(error) => {
                let why = error.with_reason();
                if let Some(suppressed) = self.limiter.pass(now, "keeping") {
                    tracing::warn!(suppressed, "keys of neighbors are not written down: {why}");
                }
                self.alarms.unwritten(now, why);
            }
        }
    }

    /// Takes a revocation list of a client, as text.
    pub(super) fn publish(&mut self, now: Instant, list: &str) -> Reply {
        let bytes = Armor::Revocations.decode(list);
        let taken = match (&mut self.links, bytes) {
            (Some(links), Some(bytes)) => match links.members().list().bytes() == bytes {
                // Told twice is told.
                true => Ok(()),
                false => links.take_list(now, bytes),
            },
            (None, _) => Err(ListError::NoAuthority),
            (_, None) => Err(ListError::Form),
        };
        let Some(links) = &mut self.links else {
            return Reply::refused("this node speaks the open protocol and revokes nobody", "");
        };
        match taken {
            Ok(()) => {
                let list = links.members().list();
                Reply::Published(PublishedReport {
                    number: list.number(),
                    entries: list.len() as u64,
                })
            }
            Err(ListError::NoAuthority) => Reply::refused(
                ListError::NoAuthority.to_string(),
                "put what floodmesh ca show prints into its settings, and start it again",
            ),
            Err(error @ ListError::NotNewer(_)) => Reply::refused(
                error.to_string(),
                "the node follows another list; revoke with the authority's newest files",
            ),
            Err(error) => Reply::refused(error.to_string(), "is it of this mesh's authority?"),
        }
    }

    /// Forgets the key of a netid, or of who goes by this name or key.
    pub(super) fn forget(&mut self, now: Instant, target: &str) -> Reply {
        let Some(links) = &mut self.links else {
            return Reply::refused(
                "this node speaks the open protocol and remembers no keys",
                "",
            );
        };
        let netid = match links.members().find(target) {
            Some(netid) => netid,
            None => match target.parse() {
                Ok(netid) => netid,
                Err(_) => return unknown(target),
            },
        };
        let Some(key) = links.forget(now, netid) else {
            return unknown(target);
        };
        self.leave_ends(now, REPLACED, |_, remote| {
            remote.netid == netid && remote.static_key == key
        });
        self.with_ends(|ends, with| ends.begin_anew(now, with, netid));
        let key = key_text(&key);
        tracing::info!(%netid, key, "the key of a node was forgotten, as asked");
        Reply::Forgotten(ForgottenReport { netid, key })
    }

    pub(super) fn on_refused(&mut self, now: Instant, refused: &Refused<'_>) {
        self.shared.counters.count(DropReason::NotAdmitted);
        let Refused {
            link,
            netid,
            key,
            why,
            is_news,
        } = *refused;
        let advice = advice(&self.config.name, netid, key, why);
        if let Refusal::OtherKey(_) = why {
            self.alarms.other_key(now, netid, &advice);
        }
        if is_news || self.limiter.pass(now, "refused").is_some() {
            let link = link.map(tracing::field::display);
            tracing::error!(%netid, link, key = key_text(key), "{advice}");
        }
    }

    /// Whether somebody has adopted another next secret than this node: with neither all would be out.
    pub(super) fn look_at_next_secret(&mut self, now: Instant, remote: &Remote) {
        let ours = self
            .links
            .as_ref()
            .and_then(|links| links.local().next.clone());
        let (Some(ours), Some(theirs)) = (ours, remote.next_secret) else {
            return;
        };
        if ours.fingerprint().is_rival(&theirs) {
            let netid = remote.netid;
            self.alarms.other_next(now, netid);
            if let Some(suppressed) = self.limiter.pass(now, "other_next") {
                tracing::error!(%netid, suppressed, "a node has adopted another next secret than this one");
            }
        }
    }

    fn on_notice(&mut self, now: Instant, link: Endpoint, notice: Notice) {
        match notice {
            Notice::Peer(Event::Up(remote)) => {
                tracing::info!(netid = %remote.netid, %link, "sealed");
                // Not only when it is looked at the next time: by then Data went out in clear.
                self.with_ends(|ends, _| ends.close(remote.netid));
                // Who came under its netid over others, with another key, was somebody else.
                self.leave_ends(now, REPLACED, |with, other| {
                    other.netid == remote.netid && (with.refuses)(&Claim::of(other)).is_some()
                });
                self.note_origin(&remote);
                self.look_at_next_secret(now, &remote);
                self.latch_named(remote.netid, link.remote);
            }
            Notice::Peer(Event::Rekeyed(remote)) => {
                tracing::debug!(netid = %remote.netid, %link, "sealed anew");
                self.look_at_next_secret(now, &remote);
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
            Notice::Peer(Event::OtherKey { netid, .. }) => {
                self.alarms
                    .other_key(now, netid, "a neighbor changed its key; it is refused");
                if let Some(suppressed) = self.limiter.pass(now, "other_key") {
                    tracing::error!(%netid, %link, suppressed, "a neighbor came with another key while its link is up; refused");
                }
            }
            // Told as Refused.
            Notice::Peer(Event::NotAdmitted { .. }) => {}
            Notice::Moved { to } => {
                if let Some(suppressed) = self.limiter.pass(now, "moved") {
                    tracing::info!(%link, %to, suppressed, "a far end has another address");
                }
            }
            Notice::Refused {
                netid,
                static_key: key,
                why,
                is_news,
            } => {
                let key = &key;
                self.on_refused(
                    now,
                    &Refused {
                        link: Some(link),
                        netid,
                        key,
                        why,
                        is_news,
                    },
                );
            }
        }
    }
}

/// A node that membership refused.
#[derive(Clone, Copy)]
pub(super) struct Refused<'r> {
    /// None where it came over others.
    pub(super) link: Option<Endpoint>,
    pub(super) netid: NetId,
    pub(super) key: &'r [u8; 32],
    pub(super) why: Refusal,
    /// Whether it is told of at once.
    pub(super) is_news: bool,
}

/// Sends what is to be sent; the rest is for the owner.
fn carry_out(shared: &Shared, wishes: Vec<Wish>) -> Vec<(Endpoint, Notice)> {
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
