//! A far end's new address: asked whether it is there, and followed (S53).
//!
//! An endpoint keeps its name for as long as it lives: to the node above it is the same link, and
//! only where its datagrams go changes. So nothing has to be proved anew, and nothing is lost.

use rand_core::Rng;
use wire::sealed::Control;

use super::{Links, Notice, Wish, seal_control};
use crate::id::Path;
use crate::planted::{self, Mistake};
use crate::seal::effect::PeerId;
use crate::time::Instant;

impl Links {
    /// Takes the notice that the newest datagram of the session of this index came by another path
    /// than the link's; `len` bytes are known to have come by it.
    pub fn handle_elsewhere(&mut self, now: Instant, index: u32, from: &Path, len: usize) {
        let Some(id) = self.indices.owner(index) else {
            return;
        };
        // Where another link is at home, no link moves to: two would go the same way.
        let at_home = self.by_endpoint.get(&from.endpoint);
        if at_home.is_some_and(|home| *home != id) {
            return;
        }
        let mut challenge = [0; 8];
        self.random.fill_bytes(&mut challenge);
        if let Some(entry) = self.peers.get_mut(&id) {
            let asked = entry.roam.handle_opened(now, *from, true, len, challenge);
            self.ask(now, id, asked);
        }
        if planted::is(Mistake::MoveUnasked) {
            self.move_if(now, id, from, challenge);
        }
    }

    /// Takes a control frame that came by `from` in a datagram of `len` bytes.
    pub fn handle_control(
        &mut self,
        now: Instant,
        index: u32,
        (from, len): (&Path, usize),
        control: &Control<'_>,
    ) {
        let Some(id) = self.indices.owner(index) else {
            return;
        };
        match control {
            // S24: these are answered the way they came.
            Control::PathChallenge(bytes) => {
                self.answer_by(now, index, from, &Control::PathResponse(*bytes));
            }
            Control::SizeProbe(_) => {
                let len = u16::try_from(len).unwrap_or(u16::MAX);
                self.answer_by(now, index, from, &Control::SizeSeen(len));
            }
            Control::PathResponse(bytes) => self.move_if(now, id, from, *bytes),
            Control::Close(_) => self.with(now, id, |peer, turn| peer.handle_close(turn, index)),
            _ => {}
        }
    }

    /// Asks again where no answer has come.
    pub(super) fn ask_again(&mut self, now: Instant, id: PeerId) {
        if let Some(entry) = self.peers.get_mut(&id) {
            let asked = entry.roam.handle_timeout(now);
            self.ask(now, id, asked);
        }
    }

    fn ask(&mut self, now: Instant, id: PeerId, asked: Option<(Path, [u8; 8])>) {
        let entry = self.peers.get(&id);
        let session = entry.and_then(|entry| entry.peer.current().cloned());
        if let (Some((to, bytes)), Some(session)) = (asked, session)
            && let Some(datagram) = seal_control(now, &session, &Control::PathChallenge(bytes))
        {
            self.wishes.push(Wish::Send(to, datagram));
        }
    }

    fn answer_by(&mut self, now: Instant, index: u32, to: &Path, answer: &Control<'_>) {
        let Some(opens) = self.sessions.opens(index) else {
            return;
        };
        if let Some(datagram) = seal_control(now, &opens.session, answer) {
            self.wishes.push(Wish::Send(*to, datagram));
        }
    }

    fn move_if(&mut self, now: Instant, id: PeerId, from: &Path, bytes: [u8; 8]) {
        // Another far end may have come up there since it was asked.
        let at_home = self.by_endpoint.get(&from.endpoint);
        if at_home.is_some_and(|home| *home != id) {
            return;
        }
        let Some(entry) = self.peers.get_mut(&id) else {
            return;
        };
        let before = entry.roam.path();
        if !entry.roam.handle_response(now, *from, bytes) {
            return;
        }
        entry.peer.handle_moved();
        // What comes from there without a session, as an INIT, is of this link.
        if before.endpoint != entry.path.endpoint {
            self.by_endpoint.remove(&before.endpoint);
        }
        self.by_endpoint.insert(from.endpoint, id);
        self.sessions.redirect(entry.path.endpoint, *from);
        let moved = Notice::Moved { to: from.endpoint };
        let name = entry.path.endpoint;
        self.latch_moved(id, from.endpoint.remote);
        self.wishes.push(Wish::Publish);
        self.wishes.push(Wish::Notice(name, moved));
    }
}
