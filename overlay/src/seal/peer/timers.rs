//! How long a peer waits for what. Source: SEALED.md, "States and times of a link".

use rand_core::Rng;

use crate::time::Duration;

/// Each field's default is the document's value; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// INIT again after these, then after the last of them each time, +-20 % (S41). Shorter ones
    /// than a round trip never succeed.
    pub retry: [Duration; 5],
    /// No wait is longer than this while a session is up: the far end lives, and the time is short.
    pub retry_up: Duration,
    /// For how long after our INIT one of the far end counts as sent at the same time (S47).
    pub crossing: Duration,
    /// INITs to an informed endpoint.
    pub informed_tries: u32,
    /// How long an answered handshake waits for its FIN (S42).
    pub half_open: Duration,
    /// FIN again, this long after it first went out (S44).
    pub fin_again: [Duration; 3],
    /// How long FIN waits for the first LINK.
    pub fin_lifetime: Duration,
    /// A session's age at which its initiator begins the next, +-10 % (S46).
    pub rekey: Duration,
    /// The age at which its responder does.
    pub rekey_responder: Duration,
    /// A session's age at which it is erased (S45).
    pub session_lifetime: Duration,
    /// Keepalive: a message came, and nothing was sent for so long (S49).
    pub answer_within: Duration,
    /// Keepalive: nothing was sent for so long.
    pub idle: Duration,
    /// Challenges: a message was sent since something was last heard, so long ago (S50).
    pub ask: [Duration; 4],
    /// Challenges: no message was sent, yet nothing was heard either.
    pub ask_idle: [Duration; 4],
    /// Dead: nothing was heard for so long.
    pub dead: Duration,
    /// How often the sessions are looked at for what the workers noted.
    pub look: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let each = |all: [u64; 4]| all.map(seconds);
        Self {
            retry: [1, 2, 4, 8, 15].map(seconds),
            retry_up: seconds(5),
            crossing: seconds(1),
            informed_tries: 3,
            half_open: seconds(5),
            fin_again: [500, 1_500, 3_500].map(Duration::from_millis),
            fin_lifetime: seconds(5),
            rekey: seconds(120),
            rekey_responder: seconds(150),
            session_lifetime: seconds(180),
            answer_within: seconds(10),
            idle: seconds(20),
            ask: each([10, 15, 20, 25]),
            ask_idle: each([22, 24, 26, 28]),
            dead: seconds(30),
            look: seconds(1),
        }
    }
}

impl Timers {
    /// Those between two ends of the mesh, where every datagram is a flood (S58): no keepalives, and
    /// long silence; what is asked then is asked by a handshake (S67).
    pub fn end_to_end() -> Self {
        let seconds = Duration::from_secs;
        Self {
            retry: [1, 3, 30, 120, 600].map(seconds),
            retry_up: seconds(30),
            informed_tries: 5,
            rekey: seconds(3_600),
            rekey_responder: seconds(4_500),
            session_lifetime: seconds(7_200),
            answer_within: Duration::MAX,
            idle: Duration::MAX,
            ask: [600, 700, 800, 850].map(seconds),
            ask_idle: [Duration::MAX; 4],
            dead: seconds(900),
            ..Self::default()
        }
    }

    /// The wait after INIT number `tries`, counted from 0.
    pub(super) fn retry(&self, tries: u32, is_up: bool, random: &mut dyn Rng) -> Duration {
        let last = self.retry.len() - 1;
        let at = usize::try_from(tries).unwrap_or(last).min(last);
        let wait = if is_up {
            self.retry[at].min(self.retry_up)
        } else {
            self.retry[at]
        };
        jitter(wait, 20, random)
    }

    /// The age at which a session is rekeyed by us.
    pub(super) fn rekey(&self, is_initiator: bool, random: &mut dyn Rng) -> Duration {
        if is_initiator {
            jitter(self.rekey, 10, random)
        } else {
            self.rekey_responder
        }
    }
}

/// `duration`, more or less by at most `percent` of it.
fn jitter(duration: Duration, percent: u32, random: &mut dyn Rng) -> Duration {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let spread = micros.saturating_mul(u64::from(percent)) / 100;
    let offset = random.next_u64() % (spread.saturating_mul(2).saturating_add(1));
    Duration::from_micros(micros.saturating_sub(spread).saturating_add(offset))
}
