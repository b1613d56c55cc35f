//! How a node gets the newest revocation list: it asks a neighbor that has a newer one, piece by piece
//! (SEALED.md S79, S80).
//!
//! ```text
//!   neighbor: "I have list 7" ──> heard ──> ask (7, 0) ──> pieces, in order ──> ask (7, 8192) ...
//!                                   ^                                            │ all there
//!                                   └──── the next neighbor <── silent, spoilt ──┴──> the list
//! ```
//!
//! One list is pulled at a time, from one neighbor, into a buffer that is bounded before a byte of it
//! is believed. A neighbor that is silent, or whose list turns out to be none, is left alone for a
//! while; whoever else announced it is asked next.

use std::collections::BTreeMap;

use wire::sealed::{PIECE_MAX_LEN, Piece, REVOCATIONS_MAX_LEN, REVOCATIONS_MIN_LEN};

use crate::seal::effect::PeerId;
use crate::time::{Duration, Instant};

/// Pieces that answer one request.
pub const WINDOW: usize = 8;
/// A request is repeated after this time without a piece, [`TRIES`] times in all.
pub const AGAIN: Duration = Duration::from_millis(500);
/// Requests without a piece before the next neighbor is asked.
pub const TRIES: u32 = 6;
/// A list is announced again after this time to who has not said that it has it, [`TOLD`] times.
pub const TELL_AGAIN: Duration = Duration::from_secs(1);
/// How often a list is announced again at most.
pub const TOLD: u32 = 8;
/// A whole list at most; then another neighbor is asked.
pub const LONGEST: Duration = Duration::from_secs(10);
/// How long a neighbor is not asked that was silent: a wire that loses much is asked again soon.
pub const RESTED: Duration = Duration::from_secs(2);
/// How long one is not asked that took too long or sent what is no list.
pub const BARRED: Duration = Duration::from_secs(30);

/// What to ask of a neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub peer: PeerId,
    /// For the list of this number,
    pub number: u64,
    /// from this byte on.
    pub offset: u32,
}

/// What neighbors have, and what is under way.
#[derive(Debug, Default)]
pub struct Pulling {
    offers: BTreeMap<PeerId, Offer>,
    pull: Option<Pull>,
}

#[derive(Debug)]
struct Offer {
    number: u64,
    barred_until: Option<Instant>,
}

#[derive(Debug)]
struct Pull {
    peer: PeerId,
    number: u64,
    bytes: Vec<u8>,
    /// Bytes that the request under way is answered up to.
    window_end: usize,
    next_at: Instant,
    tries: u32,
    /// When it is given up, whatever came.
    ends_at: Instant,
}

impl Pulling {
    /// A neighbor has the list of this number.
    pub fn heard(&mut self, peer: PeerId, number: u64) {
        let offer = self.offers.entry(peer).or_insert(Offer {
            number,
            barred_until: None,
        });
        offer.number = number;
    }

    /// Whether a neighbor is known to have the list of this number, or a newer one.
    pub fn has(&self, peer: PeerId, number: u64) -> bool {
        let offer = self.offers.get(&peer);
        offer.is_some_and(|offer| offer.number >= number)
    }

    /// A neighbor is none any more.
    pub fn gone(&mut self, peer: PeerId) {
        self.offers.remove(&peer);
        self.pull.take_if(|pull| pull.peer == peer);
    }

    /// What to ask now, if anything is due; `own` is the number of the list that we have.
    pub fn poll(&mut self, now: Instant, own: u64) -> Option<Ask> {
        if let Some(pull) = &self.pull
            && (pull.number <= own
                || now >= pull.ends_at
                || (now >= pull.next_at && pull.tries >= TRIES))
        {
            let (peer, is_owed, is_slow) = (pull.peer, pull.number > own, now >= pull.ends_at);
            self.pull = None;
            if is_owed {
                self.bar(peer, now + if is_slow { BARRED } else { RESTED });
            }
        }
        if self.pull.is_none() {
            self.pull = self.begin(now, own);
        }
        let pull = self.pull.as_mut().filter(|pull| now >= pull.next_at)?;
        pull.tries += 1;
        pull.next_at = now + AGAIN;
        pull.window_end = pull.bytes.len() + WINDOW * PIECE_MAX_LEN;
        Some(Ask {
            peer: pull.peer,
            number: pull.number,
            offset: pull.bytes.len() as u32,
        })
    }

    /// Takes a piece; gives the whole list when it was the last. Whether that is a list at all is the
    /// caller's to judge, and to tell by [`Self::spoilt`].
    pub fn take(&mut self, now: Instant, peer: PeerId, piece: &Piece<'_>) -> Option<Vec<u8>> {
        let pull = self.pull.as_mut().filter(|pull| pull.peer == peer)?;
        let total = piece.total as usize;
        let fits = (REVOCATIONS_MIN_LEN..=REVOCATIONS_MAX_LEN).contains(&total);
        if !fits || piece.number < pull.number || piece.bytes.is_empty() {
            return None;
        }
        if piece.number > pull.number {
            // A newer one came to it meanwhile.
            (pull.number, pull.next_at, pull.tries) = (piece.number, now, 0);
            pull.bytes.clear();
        }
        let end = pull.bytes.len() + piece.bytes.len();
        // Only the last piece is short: nobody makes a list last by crumbs.
        let is_whole = piece.bytes.len() == PIECE_MAX_LEN || end == total;
        if piece.offset as usize != pull.bytes.len() || end > total || !is_whole {
            return None;
        }
        pull.bytes.extend_from_slice(piece.bytes);
        pull.tries = 0;
        pull.next_at = if end >= pull.window_end {
            now
        } else {
            now + AGAIN
        };
        if end < total {
            return None;
        }
        self.pull.take().map(|pull| pull.bytes)
    }

    /// What this neighbor sent was no list.
    pub fn spoilt(&mut self, now: Instant, peer: PeerId) {
        self.bar(peer, now + BARRED);
    }

    /// When [`Self::poll`] has something to say at the latest.
    pub fn next_timeout(&self, own: u64) -> Option<Instant> {
        match &self.pull {
            Some(pull) => Some(pull.next_at),
            None => {
                let newer = self.offers.values().filter(|offer| offer.number > own);
                newer
                    .map(|offer| offer.barred_until.unwrap_or(Instant::ZERO))
                    .min()
            }
        }
    }

    /// The neighbor with the newest list that may be asked.
    fn begin(&self, now: Instant, own: u64) -> Option<Pull> {
        let may = |offer: &Offer| offer.barred_until.is_none_or(|until| now >= until);
        let asked = self.offers.iter();
        let newer = asked.filter(|(_, offer)| offer.number > own && may(offer));
        let (peer, offer) = newer.max_by_key(|(_, offer)| offer.number)?;
        Some(Pull {
            peer: *peer,
            number: offer.number,
            bytes: Vec::new(),
            window_end: 0,
            next_at: now,
            tries: 0,
            ends_at: now + LONGEST,
        })
    }

    fn bar(&mut self, peer: PeerId, until: Instant) {
        if let Some(offer) = self.offers.get_mut(&peer) {
            offer.barred_until = Some(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: PeerId = PeerId(1);
    const FAR: PeerId = PeerId(2);
    const NOW: Instant = Instant::from_secs(100);

    fn list(len: usize) -> Vec<u8> {
        (0..len).map(|at| at as u8).collect()
    }

    /// The pieces that answer a request.
    fn pieces(list: &[u8], ask: Ask) -> Vec<Piece<'_>> {
        let start = ask.offset as usize;
        let rest = list[start..].chunks(PIECE_MAX_LEN).take(WINDOW);
        let piece = |(place, bytes)| Piece {
            number: ask.number,
            total: list.len() as u32,
            offset: (start + place * PIECE_MAX_LEN) as u32,
            bytes,
        };
        rest.enumerate().map(piece).collect()
    }

    fn ask(peer: PeerId, number: u64, offset: u32) -> Option<Ask> {
        Some(Ask {
            peer,
            number,
            offset,
        })
    }

    #[test]
    fn the_longest_list_comes_window_by_window() {
        let list = list(REVOCATIONS_MAX_LEN);
        let mut pulling = Pulling::default();
        assert_eq!(pulling.poll(NOW, 0), None);
        pulling.heard(NEAR, 7);
        let (mut requests, mut whole) = (0, None);
        while whole.is_none() {
            let ask = pulling
                .poll(NOW, 6)
                .expect("nothing is lost, so nothing waits");
            requests += 1;
            for piece in pieces(&list, ask) {
                whole = whole.or_else(|| pulling.take(NOW, NEAR, &piece));
            }
        }
        assert_eq!(whole.unwrap(), list);
        assert_eq!(requests, list.len().div_ceil(WINDOW * PIECE_MAX_LEN));
        // It was stored, and nothing is left to do.
        assert_eq!(pulling.poll(NOW, 7), None);
        assert_eq!(pulling.next_timeout(7), None);
    }

    #[test]
    fn what_is_lost_is_asked_for_again_from_where_it_is_missing() {
        let list = list(3_000);
        let mut pulling = Pulling::default();
        pulling.heard(NEAR, 7);
        let first = pulling.poll(NOW, 0).unwrap();
        let sent = pieces(&list, first);
        assert_eq!(pulling.take(NOW, NEAR, &sent[0]), None);
        // The second is lost; the third is no use without it.
        assert_eq!(pulling.take(NOW, NEAR, &sent[2]), None);
        assert_eq!(pulling.poll(NOW, 0), None);
        let later = NOW + AGAIN;
        assert_eq!(pulling.next_timeout(0), Some(later));
        let again = pulling.poll(later, 0).unwrap();
        assert_eq!(Some(again), ask(NEAR, 7, PIECE_MAX_LEN as u32));
        let sent = pieces(&list, again);
        assert_eq!(pulling.take(later, NEAR, &sent[0]), None);
        // Copies change nothing.
        assert_eq!(pulling.take(later, NEAR, &sent[0]), None);
        assert_eq!(pulling.take(later, NEAR, &sent[1]), Some(list.clone()));
    }

    #[test]
    fn a_silent_neighbor_gives_way_to_the_next_and_is_asked_again_later() {
        let mut pulling = Pulling::default();
        let mut now = NOW;
        pulling.heard(FAR, 7);
        pulling.heard(NEAR, 6);
        let mut asked = Vec::new();
        let patience = AGAIN * TRIES;
        while now < NOW + patience * 4 {
            asked.extend(pulling.poll(now, 5).map(|ask| ask.peer));
            now = pulling.next_timeout(5).unwrap().max(now);
        }
        let tries = TRIES as usize;
        let turns: Vec<_> = asked.chunks(tries).collect();
        assert_eq!(turns, [[FAR; 6], [NEAR; 6], [FAR; 6], [NEAR; 6]]);
    }

    #[test]
    fn nobody_makes_us_take_what_we_did_not_ask_for_or_more_than_a_list() {
        let list = list(2_000);
        let mut pulling = Pulling::default();
        pulling.heard(NEAR, 7);
        let first = pulling.poll(NOW, 0).unwrap();
        let sent = pieces(&list, first);
        assert_eq!(pulling.take(NOW, FAR, &sent[0]), None);
        for (number, total, bytes) in [
            (6, 2_000, &list[..100]),
            (7, REVOCATIONS_MAX_LEN as u32 + 1, &list[..100]),
            (7, REVOCATIONS_MIN_LEN as u32 - 1, &list[..50]),
            (7, 200, &list[..300]),
            (7, 2_000, &[]),
        ] {
            let piece = Piece {
                number,
                total,
                offset: 0,
                bytes,
            };
            assert_eq!(pulling.take(NOW, NEAR, &piece), None);
            assert!(pulling.pull.as_ref().unwrap().bytes.is_empty());
        }
        // A newer list begins from its start.
        pulling.take(NOW, NEAR, &sent[0]);
        let newer = Piece {
            number: 8,
            ..sent[1]
        };
        assert_eq!(pulling.take(NOW, NEAR, &newer), None);
        assert_eq!(pulling.poll(NOW, 0), ask(NEAR, 8, 0));
        pulling.gone(NEAR);
        assert_eq!(
            (pulling.poll(NOW, 0), pulling.next_timeout(0)),
            (None, None)
        );
    }

    #[test]
    fn who_sends_what_is_no_list_is_left_alone_for_a_while() {
        let mut pulling = Pulling::default();
        pulling.heard(NEAR, 7);
        let first = pulling.poll(NOW, 0).unwrap();
        let list = list(200);
        assert!(pulling.take(NOW, NEAR, &pieces(&list, first)[0]).is_some());
        pulling.spoilt(NOW, NEAR);
        assert_eq!(pulling.poll(NOW, 0), None);
        assert_eq!(pulling.next_timeout(0), Some(NOW + BARRED));
        assert_eq!(pulling.poll(NOW + BARRED, 0), ask(NEAR, 7, 0));
    }

    #[test]
    fn who_gives_crumbs_or_is_slow_is_not_asked_on() {
        let list = list(REVOCATIONS_MIN_LEN + 3 * PIECE_MAX_LEN);
        let mut pulling = Pulling::default();
        pulling.heard(NEAR, 9);
        pulling.heard(FAR, 8);
        assert_eq!(pulling.poll(NOW, 0), ask(NEAR, 9, 0));
        let crumb = Piece {
            number: 9,
            total: list.len() as u32,
            offset: 0,
            bytes: &list[..1],
        };
        assert_eq!(pulling.take(NOW, NEAR, &crumb), None);
        // A whole piece every second is too slow, whatever else.
        let mut now = NOW;
        let mut asked = Vec::new();
        while now < NOW + LONGEST + AGAIN {
            now = now + Duration::from_millis(100);
            if let Some(ask) = pulling.poll(now, 0) {
                asked.push(ask);
                let first = pieces(&list, ask).remove(0);
                if ask.peer == NEAR && ask.offset == 0 {
                    pulling.take(now, NEAR, &first);
                }
            }
        }
        assert!(asked.contains(&ask(FAR, 8, 0).unwrap()), "{asked:?}");
    }
}
