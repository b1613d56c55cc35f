//! Where a link's datagrams go, when its far end's address changes (S53).
//!
//! ```text
//! newest LINK from elsewhere ──> probing ── path response from there ──> moved
//!                                   └── 3 challenges unanswered ──> as before
//! ```
//!
//! An address is believed only when it answered: until then it gets challenges and nothing else,
//! never more than 3 times what came from it. So whoever replays or redirects datagrams on the
//! path moves nothing.

use crate::time::{Duration, Instant};

/// Between two challenges to one address.
const AGAIN: Duration = Duration::from_secs(1);
/// Challenges to one address.
const TRIES: u32 = 3;
/// Between two moves.
const MOVE_SPACING: Duration = Duration::from_secs(2);
/// Bytes sent to an address that has not answered, for each byte received from there.
const AMPLIFICATION: u64 = 3;
/// Bytes of a LINK with one path challenge.
pub const CHALLENGE_LEN: u64 = 44;

/// The paths of one link; `P` is what the caller calls a path.
#[derive(Debug)]
pub struct Roam<P> {
    path: P,
    moved_at: Option<Instant>,
    probe: Option<Probe<P>>,
}

#[derive(Debug)]
struct Probe<P> {
    path: P,
    challenge: [u8; 8],
    tries: u32,
    asked_at: Instant,
    received: u64,
    sent: u64,
}

impl<P: Copy + PartialEq> Roam<P> {
    /// A link whose far end proved itself at `path`, by its handshake.
    pub const fn new(path: P) -> Self {
        Self {
            path,
            moved_at: None,
            probe: None,
        }
    }

    /// Where datagrams go.
    pub const fn path(&self) -> P {
        self.path
    }

    /// A LINK of `len` bytes opened that came by `from`; `is_newest` if its counter is the highest.
    ///
    /// Gives a path challenge to send there, made of `random`.
    pub fn handle_opened(
        &mut self,
        now: Instant,
        from: P,
        is_newest: bool,
        len: usize,
        random: [u8; 8],
    ) -> Option<(P, [u8; 8])> {
        if from == self.path {
            return None;
        }
        let len = len as u64;
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.path == from) {
            probe.received = probe.received.saturating_add(len);
            return None;
        }
        let moves_too_often = self.moved_at.is_some_and(|at| now.since(at) < MOVE_SPACING);
        // One address at a time: what else comes from elsewhere waits until that is decided.
        if !is_newest || self.probe.is_some() || moves_too_often {
            return None;
        }
        self.probe = Some(Probe {
            path: from,
            challenge: random,
            tries: 0,
            asked_at: now,
            received: len,
            sent: 0,
        });
        self.ask(now)
    }

    /// A path response opened that came by `from`. Gives whether the link has moved there.
    pub fn handle_response(&mut self, now: Instant, from: P, bytes: [u8; 8]) -> bool {
        let answers = |probe: &mut Probe<P>| probe.path == from && probe.challenge == bytes;
        if self.probe.take_if(answers).is_none() {
            return false;
        }
        self.path = from;
        self.moved_at = Some(now);
        true
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.probe.as_ref().map(|probe| probe.asked_at + AGAIN)
    }

    /// Asks again, or gives up. Early calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<(P, [u8; 8])> {
        if self.next_timeout().is_none_or(|at| now < at) {
            return None;
        }
        self.probe.take_if(|probe| probe.tries >= TRIES);
        self.ask(now)
    }

    fn ask(&mut self, now: Instant) -> Option<(P, [u8; 8])> {
        let probe = self.probe.as_mut()?;
        probe.tries += 1;
        probe.asked_at = now;
        let sent = probe.sent + CHALLENGE_LEN;
        if sent > probe.received.saturating_mul(AMPLIFICATION) {
            return None;
        }
        probe.sent = sent;
        Some((probe.path, probe.challenge))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: char = 'h';
    const AWAY: char = 'a';
    const VICTIM: char = 'v';

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000)
    }

    #[test]
    fn a_link_moves_when_the_new_address_answers_and_not_before() {
        let mut roam = Roam::new(HOME);
        let asked = roam.handle_opened(at(0), AWAY, true, 100, [7; 8]);
        assert_eq!((asked, roam.path()), (Some((AWAY, [7; 8])), HOME));
        assert!(
            !roam.handle_response(at(10), HOME, [7; 8]),
            "by another path"
        );
        assert!(
            !roam.handle_response(at(10), AWAY, [8; 8]),
            "to another challenge"
        );
        assert!(roam.handle_response(at(20), AWAY, [7; 8]));
        assert_eq!(roam.path(), AWAY);
        assert!(!roam.handle_response(at(30), AWAY, [7; 8]), "once");
    }

    #[test]
    fn an_older_datagram_and_one_from_home_begin_nothing() {
        let mut roam = Roam::new(HOME);
        assert_eq!(roam.handle_opened(at(0), AWAY, false, 100, [7; 8]), None);
        assert_eq!(roam.handle_opened(at(0), HOME, true, 100, [7; 8]), None);
        assert_eq!(roam.next_timeout(), None);
    }

    #[test]
    fn an_address_that_does_not_answer_gets_three_challenges_a_second_apart() {
        let mut roam = Roam::new(HOME);
        let mut asked = usize::from(
            roam.handle_opened(at(0), VICTIM, true, 100, [7; 8])
                .is_some(),
        );
        for millis in 1..10_000 {
            let again = roam.handle_timeout(at(millis));
            assert!(again.is_none() || millis % 1_000 == 0);
            asked += usize::from(again.is_some());
        }
        assert_eq!((asked, roam.path(), roam.next_timeout()), (3, HOME, None));
    }

    #[test]
    fn bytes_to_it_stay_within_three_times_those_from_it() {
        let mut roam = Roam::new(HOME);
        // The shortest LINK: 96 bytes pay for two challenges.
        let mut sent = u64::from(
            roam.handle_opened(at(0), VICTIM, true, 32, [7; 8])
                .is_some(),
        );
        for second in 1..10 {
            sent += u64::from(roam.handle_timeout(at(second * 1_000)).is_some());
        }
        assert_eq!(sent, 2);
        assert!(sent * CHALLENGE_LEN <= 3 * 32);
    }

    #[test]
    fn a_link_moves_at_most_once_in_two_seconds_and_asks_one_address_at_a_time() {
        let mut roam = Roam::new(HOME);
        roam.handle_opened(at(0), AWAY, true, 100, [7; 8]);
        assert_eq!(roam.handle_opened(at(1), VICTIM, true, 100, [8; 8]), None);
        assert!(roam.handle_response(at(20), AWAY, [7; 8]));
        assert_eq!(roam.handle_opened(at(2_019), HOME, true, 100, [9; 8]), None);
        assert!(
            roam.handle_opened(at(2_020), HOME, true, 100, [9; 8])
                .is_some()
        );
    }

    #[test]
    fn a_challenge_has_the_length_that_is_counted() {
        let frame = wire::sealed::Frame::Control(wire::sealed::Control::PathChallenge([0; 8]));
        let len = frame.len() + wire::sealed::LINK_MIN_LEN;
        assert_eq!(len as u64, CHALLENGE_LEN);
    }
}
