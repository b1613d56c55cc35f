//! How a revocation list goes through the mesh, link by link (SEALED.md S79 to S81).
//!
//! Who has a newer one says so, on every link and in every handshake; who lacks it asks. What comes
//! is verified before anything is done with it, and then closes sessions before it is announced
//! further. Without an authority a node takes no part: it could not tell a list from noise.

use wire::sealed::close::REVOKED;
use wire::sealed::{Control, PIECE_MAX_LEN, Piece};

use super::{Entry, Links, Wish, seal_control};
use crate::budget::Rate;
use crate::seal::effect::{Effect, Event, PeerId};
use crate::seal::members::pulling::{TELL_AGAIN, TOLD, WINDOW};
use crate::seal::members::{Claim, ListError};
use crate::time::Instant;

/// Requests of one neighbor that are answered, each with up to [`WINDOW`] pieces; the longest list
/// takes four.
const REQUESTS: Rate = Rate::per_second(10, 20);

impl Links {
    /// Takes a newer revocation list: closes what it revokes, and announces it.
    ///
    /// # Errors
    /// It is none of our authority's, or not newer; nothing changed.
    pub fn take_list(&mut self, now: Instant, bytes: Vec<u8>) -> Result<(), ListError> {
        let authority = self.local.authority.ok_or(ListError::NoAuthority)?;
        let mesh_id = self.local.keys.mesh_id;
        self.members.revoke(bytes, &mesh_id, &authority)?;
        self.local.revocation = Some(self.members.list().number());
        // 1. Whom it is about hears nothing more, not even of it.
        let list = self.members.list();
        let is_revoked = |entry: &Entry| {
            let remote = entry.peer.remote();
            remote.is_some_and(|remote| list.revokes(&Claim::of(remote)))
        };
        let revoked = self.peers.iter().filter(|(_, entry)| is_revoked(entry));
        let revoked: Vec<PeerId> = revoked.map(|(id, _)| *id).collect();
        for id in revoked {
            self.leave_one(now, id, REVOKED);
        }
        // 2. All others can have it from us; whom it came from learns that we have it.
        self.telling = Some((now, TOLD + 1));
        self.tell_again(now);
        Ok(())
    }

    /// Announces our list to all who have not said that they have it, if it is time to.
    pub(super) fn tell_again(&mut self, now: Instant) {
        let Some((_, left)) = self.telling.filter(|(at, _)| now >= *at) else {
            return;
        };
        let own = self.members.list().number();
        let is_first = left == TOLD + 1;
        let up = self.peers.iter();
        let up = up.filter(|(id, entry)| {
            entry.peer.remote().is_some() && (is_first || !self.pulling.has(**id, own))
        });
        let up: Vec<PeerId> = up.map(|(id, _)| *id).collect();
        self.telling = (left > 1 && !up.is_empty()).then_some((now + TELL_AGAIN, left - 1));
        for id in up {
            self.announce(now, id);
        }
    }

    /// Whether the newest list revokes this very node.
    pub fn is_revoked(&self) -> bool {
        self.members.list().revokes(&Claim {
            netid: self.local.netid,
            static_key: *self.local.identity.public(),
            certificate: self.local.certificate.as_deref(),
        })
    }

    /// Takes a control about lists that was opened on the session of this index.
    pub fn handle_list(&mut self, now: Instant, index: u32, control: &Control<'_>) {
        let Some(id) = self.indices.owner(index) else {
            return;
        };
        let is_up = |entry: &Entry| entry.peer.remote().is_some();
        if self.local.authority.is_none() || !self.peers.get(&id).is_some_and(is_up) {
            return;
        }
        match control {
            Control::ListNumber(number) => self.pulling.heard(id, *number),
            Control::ListRequest(_, offset) => self.answer(now, id, *offset),
            Control::ListPiece(piece) => {
                if let Some(bytes) = self.pulling.take(now, id, piece) {
                    // A good one may have come from elsewhere meanwhile; all else shows below.
                    let _ = self.take_list(now, bytes);
                    if self.members.list().number() < piece.number {
                        self.pulling.spoilt(now, id);
                    }
                }
            }
            _ => {}
        }
        self.pull(now);
    }

    /// Asks for what is newer than ours, if it is time to.
    pub(super) fn pull(&mut self, now: Instant) {
        if self.local.authority.is_none() {
            return;
        }
        let own = self.members.list().number();
        while let Some(ask) = self.pulling.poll(now, own) {
            self.say(now, ask.peer, &Control::ListRequest(ask.number, ask.offset));
        }
    }

    /// When [`Self::pull`] or [`Self::tell_again`] has something to do at the latest.
    pub(super) fn pull_at(&self) -> Option<Instant> {
        self.local.authority?;
        let pull = self.pulling.next_timeout(self.members.list().number());
        let tell = self.telling.map(|(at, _)| at);
        pull.into_iter().chain(tell).min()
    }

    /// What a handshake told of lists: what the other side has, and that we have a newer one.
    pub(super) fn learn_of_list(&mut self, now: Instant, id: PeerId, theirs: Option<u64>) {
        if self.local.authority.is_none() {
            return;
        }
        let theirs = theirs.unwrap_or(0);
        self.pulling.heard(id, theirs);
        if self.members.list().number() > theirs {
            self.announce(now, id);
        }
        self.pull(now);
    }

    /// The lists that the far ends of these effects have.
    pub(super) fn list_told(effect: &Effect) -> Option<Option<u64>> {
        match effect {
            Effect::Event(Event::Up(remote) | Event::Rekeyed(remote)) => Some(remote.revocation),
            _ => None,
        }
    }

    fn announce(&mut self, now: Instant, id: PeerId) {
        let number = self.members.list().number();
        self.say(now, id, &Control::ListNumber(number));
    }

    /// Sends the pieces from this byte on, as many as answer one request.
    fn answer(&mut self, now: Instant, id: PeerId, offset: u32) {
        let Some(entry) = self.peers.get(&id) else {
            return;
        };
        let list = self.members.list();
        let start = offset as usize;
        let Some(rest) = list.bytes().get(start..) else {
            return;
        };
        if rest.is_empty() || !entry.requests.take(now, REQUESTS) {
            return;
        }
        let Some(seals) = self.sessions.seals(&entry.path.endpoint) else {
            return;
        };
        for (place, bytes) in rest.chunks(PIECE_MAX_LEN).take(WINDOW).enumerate() {
            let piece = Control::ListPiece(Piece {
                number: list.number(),
                total: list.bytes().len() as u32,
                offset: (start + place * PIECE_MAX_LEN) as u32,
                bytes,
            });
            if let Some(datagram) = seal_control(now, &seals.session, &piece) {
                self.wishes.push(Wish::Send(seals.path, datagram));
            }
        }
    }

    /// Seals a control and sends it, where there is a session.
    fn say(&mut self, now: Instant, id: PeerId, control: &Control<'_>) {
        let Some(entry) = self.peers.get(&id) else {
            return;
        };
        if let Some(seals) = self.sessions.seals(&entry.path.endpoint)
            && let Some(datagram) = seal_control(now, &seals.session, control)
        {
            self.wishes.push(Wish::Send(seals.path, datagram));
        }
    }
}
