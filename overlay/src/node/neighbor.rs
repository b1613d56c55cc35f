//! One neighbor: its links, and how each lives and dies.
//!
//! ```text
//!            proof                 news
//!   (none) --------> Live <------------------ Suspect
//!                     |  silent 30 s -----------^ |
//!              Goodbye|                           | silent 45 s
//!                     v      no answer in 3.5 s   v
//!                  Leaving ---------------------> gone
//!                     '--- answered a challenge --> Live
//! ```
//!
//! News is any well-formed datagram from the link's endpoint; workers note it in [`LinkStats`], so
//! this machine is polled, not told. An early poll is harmless: nothing happens before a deadline.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::config::{
    LEAVE_AFTER, LEAVE_CHALLENGES, Limits, TELL_SCHEDULE, TELLER_BURST, TELLER_INTERVAL, Timers,
};
use super::effect::Gone;
use super::mtu::MtuSearch;
use super::snapshot::LinkStats;
use crate::budget::{Bucket, Rate};
use crate::id::{LinkId, NetId, Path};
use crate::planted::{self, Mistake};
use crate::time::{Duration, Instant};

/// How much longer the higher netid of a link waits before it pings: more than any round trip.
pub const YIELD: Duration = Duration::from_millis(1_500);

/// What a link is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Heard of lately.
    Live,
    /// Silent for [`Timers::suspect_after`]; still flooded to.
    Suspect,
    /// Said Goodbye; still flooded to until the challenges went unanswered (T3).
    Leaving {
        /// When the Goodbye came.
        since: Instant,
        /// Challenges sent.
        challenges: usize,
    },
}

/// What is due for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before the next deadline.
    Nothing,
    /// Ping it.
    Ping,
    /// Greet and ping it: it may have restarted, or a NAT may have forgotten us.
    HelloAndPing,
    /// It is gone.
    Gone(Gone),
}

/// One live link.
#[derive(Debug)]
pub struct Link {
    /// Its name.
    pub id: LinkId,
    /// Where it leads.
    pub path: Path,
    /// Shared with the workers.
    pub stats: Arc<LinkStats>,
    /// What it is at the moment.
    pub state: LinkState,
    /// When it was proven.
    pub since: Instant,
    /// The owner named its endpoint.
    pub configured: bool,
    /// Who told us of it, when that is how we came to dial it.
    pub informer: Option<NetId>,
    /// The last round trip measured on it.
    pub round_trip: Option<Duration>,
    /// Rations the Hellos from it.
    pub hellos: Bucket,
    /// When we last answered its Hello.
    pub greeted_at: Option<Instant>,
    /// A Ping that awaits its Pong.
    pub pinged_at: Option<Instant>,
    /// What it carries whole.
    pub mtu: MtuSearch,
    ping_at: Instant,
    /// Added to [`Timers::ping_after`].
    yields: Duration,
    unheard_at: Instant,
    unheard_wait: Duration,
}

impl Link {
    /// A link that was proven now.
    pub fn new(now: Instant, id: LinkId, path: Path, timers: &Timers, limits: &Limits) -> Self {
        let stats = LinkStats::default();
        stats.last_heard.store(now.0, Relaxed);
        let rate = limits.hellos_per_endpoint;
        Self {
            id,
            path,
            stats: Arc::new(stats),
            state: LinkState::Live,
            since: now,
            configured: false,
            informer: None,
            round_trip: None,
            hellos: Bucket::per_second(rate, rate),
            greeted_at: None,
            pinged_at: None,
            mtu: MtuSearch::new(now, 0),
            ping_at: now,
            yields: Duration::ZERO,
            unheard_at: now,
            unheard_wait: timers.unheard_after,
        }
    }

    /// Lets the far end ping first: its Ping is news for both, so an idle link carries one Ping and
    /// one Pong in an interval and not two of each.
    pub fn yields(&mut self) {
        self.yields = YIELD;
    }

    /// When a datagram last came.
    pub fn heard_at(&self) -> Instant {
        Instant(self.stats.last_heard.load(Relaxed))
    }

    /// What is due at `now`; moves the deadlines on.
    pub fn poll(&mut self, now: Instant, timers: &Timers) -> Due {
        if let LinkState::Leaving { since, challenges } = self.state {
            if planted::is(Mistake::BelieveGoodbye) {
                return Due::Gone(Gone::Goodbye);
            }
            return self.poll_leaving(now, since, challenges);
        }
        let heard = self.heard_at();
        let silent = now.since(heard);
        if silent >= timers.dead_after {
            return Due::Gone(Gone::Silent);
        }
        self.state = if silent >= timers.suspect_after {
            LinkState::Suspect
        } else {
            LinkState::Live
        };
        if silent >= timers.ping_after + self.yields && now >= self.ping_at {
            self.ping_at = now + timers.ping_after / 3;
            return Due::Ping;
        }
        self.poll_unheard(now, heard, timers)
    }

    /// A link that carries our data and brings nothing back gets a Hello and a Ping, again after
    /// twice the time each while it stays silent.
    fn poll_unheard(&mut self, now: Instant, heard: Instant, timers: &Timers) -> Due {
        let unheard = self.is_unheard(heard);
        if !unheard || now.since(heard) < timers.unheard_after {
            self.unheard_wait = timers.unheard_after;
            return Due::Nothing;
        }
        if now < self.unheard_at {
            return Due::Nothing;
        }
        self.unheard_at = now + self.unheard_wait;
        self.unheard_wait = (self.unheard_wait * 2).min(timers.ping_after / 2);
        Due::HelloAndPing
    }

    fn is_unheard(&self, heard: Instant) -> bool {
        Instant(self.stats.last_sent.load(Relaxed)) > heard
    }

    fn poll_leaving(&mut self, now: Instant, since: Instant, challenges: usize) -> Due {
        if now >= since + LEAVE_AFTER {
            return Due::Gone(Gone::Goodbye);
        }
        match LEAVE_CHALLENGES.get(challenges) {
            Some(&after) if now >= since + after => {
                self.state = LinkState::Leaving {
                    since,
                    challenges: challenges + 1,
                };
                Due::Ping
            }
            _ => Due::Nothing,
        }
    }

    /// The next time at which [`Self::poll`] has something to do, as far as is known now: news
    /// moves it later, data sent without an answer is seen by the driver's 1 s tick.
    pub fn next_timeout(&self, timers: &Timers) -> Instant {
        if let LinkState::Leaving { since, challenges } = self.state {
            let challenge = LEAVE_CHALLENGES.get(challenges).map(|&after| since + after);
            return challenge.unwrap_or(since + LEAVE_AFTER);
        }
        let heard = self.heard_at();
        let ping = (heard + timers.ping_after + self.yields).max(self.ping_at);
        let mut next = ping.min(heard + timers.dead_after);
        if self.state == LinkState::Live {
            next = next.min(heard + timers.suspect_after);
        }
        if self.is_unheard(heard) {
            next = next.min((heard + timers.unheard_after).max(self.unheard_at));
        }
        next
    }

    /// When it is to be probed for what it carries, as far as is known now; only while it is heard,
    /// or silence would be taken for a narrow path.
    pub fn probes_at(&self) -> Option<Instant> {
        let heard = self.state == LinkState::Live;
        self.mtu.next_timeout().filter(|_| heard)
    }

    /// It answered a challenge: whatever Goodbye was heard, it is here.
    pub fn answered(&mut self, now: Instant) {
        if let Some(at) = self.pinged_at.take() {
            self.round_trip = Some(now.since(at));
        }
        self.state = LinkState::Live;
    }
}

/// A node with at least one live link to it.
#[derive(Debug)]
pub struct Neighbor {
    /// Its netid.
    pub netid: NetId,
    /// Its links, one to [`super::config::LINKS_PER_NEIGHBOR`].
    pub links: Vec<Link>,
    /// When its first link was proven.
    pub since: Instant,
    /// Rations its Informs: 0.1/s, burst 16 (T5).
    pub informs: Bucket,
    /// Whom it is still being introduced to.
    pub introduction: Introduction,
}

/// A new neighbor's introduction to others, told several times ([`TELL_SCHEDULE`]).
#[derive(Debug, Default)]
pub struct Introduction {
    /// The others, at most eight; none before they are drawn.
    pub others: Vec<NetId>,
    /// Times told.
    told: usize,
}

impl Neighbor {
    /// A neighbor without links yet.
    pub fn new(now: Instant, netid: NetId) -> Self {
        let informs = Bucket::new(Rate::every(TELLER_INTERVAL, TELLER_BURST));
        Self {
            netid,
            links: Vec::new(),
            since: now,
            informs,
            introduction: Introduction::default(),
        }
    }

    /// Whether the owner named one of its endpoints.
    pub fn is_configured(&self) -> bool {
        self.links.iter().any(|link| link.configured)
    }

    /// When to introduce it to the others next, if ever.
    pub fn introduces_at(&self) -> Option<Instant> {
        let after = TELL_SCHEDULE.get(self.introduction.told)?;
        (!self.introduction.others.is_empty()).then(|| self.since + *after)
    }

    /// Says whether an introduction is due at `now`, and counts it as told.
    pub fn take_introduction(&mut self, now: Instant) -> bool {
        let due = self.introduces_at().is_some_and(|at| now >= at);
        self.introduction.told += usize::from(due);
        due
    }

    /// The link to tell others of: heard most lately.
    pub fn best_link(&self) -> Option<&Link> {
        self.links.iter().max_by_key(|link| link.heard_at())
    }

    /// It said Goodbye on one of its links: all of them are in doubt.
    pub fn leave(&mut self, now: Instant) {
        for link in &mut self.links {
            if !matches!(link.state, LinkState::Leaving { .. }) {
                link.state = LinkState::Leaving {
                    since: now,
                    challenges: 0,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Endpoint, SocketId};

    const T: fn() -> Timers = Timers::default;

    fn link(now: Instant) -> Link {
        let path = Path::to(Endpoint::new(SocketId(0), "8.8.8.8:1".parse().unwrap()));
        Link::new(now, LinkId(1), path, &T(), &Limits::default())
    }

    /// Runs a silent link from deadline to deadline and notes what was due when.
    fn trace(link: &mut Link, until: u64) -> Vec<(u64, Due)> {
        let mut trace = Vec::new();
        loop {
            let now = link.next_timeout(&T());
            if now > Instant::from_secs(until) {
                return trace;
            }
            let early = Instant(now.0 - 1);
            assert_eq!(
                link.poll(early, &T()),
                Due::Nothing,
                "one microsecond before {now:?}"
            );
            let due = link.poll(now, &T());
            trace.push((now.0 / 1_000_000, due));
            if matches!(due, Due::Gone(_)) {
                return trace;
            }
        }
    }

    #[test]
    fn a_silent_link_is_pinged_from_15_s_suspect_at_30_s_and_gone_at_45_s() {
        let mut link = link(Instant::ZERO);
        let expected = [
            (15, Due::Ping),
            (20, Due::Ping),
            (25, Due::Ping),
            (30, Due::Ping),
            (35, Due::Ping),
            (40, Due::Ping),
            (45, Due::Gone(Gone::Silent)),
        ];
        assert_eq!(trace(&mut link, 60), expected);
    }

    #[test]
    fn any_news_keeps_a_link_live_without_a_ping() {
        let mut link = link(Instant::ZERO);
        for second in (0..300).step_by(14) {
            link.stats.heard(Instant::from_secs(second), 16);
            assert_eq!(
                link.poll(Instant::from_secs(second + 14), &T()),
                Due::Nothing
            );
        }
        assert_eq!(link.state, LinkState::Live);
    }

    #[test]
    fn a_suspect_link_is_live_again_with_the_first_news() {
        let mut link = link(Instant::ZERO);
        link.poll(Instant::from_secs(31), &T());
        assert_eq!(link.state, LinkState::Suspect);
        link.stats.heard(Instant::from_secs(32), 16);
        link.poll(Instant::from_secs(33), &T());
        assert_eq!(link.state, LinkState::Live);
    }

    #[test]
    fn a_link_that_carries_data_and_brings_nothing_back_is_greeted_after_2_s() {
        let mut link = link(Instant::from_secs(10));
        link.stats.sent(Instant::from_secs(11), 1, 100);
        let heard = trace(&mut link, 24);
        let expected = [
            (12, Due::HelloAndPing),
            (14, Due::HelloAndPing),
            (18, Due::HelloAndPing),
        ];
        assert_eq!(heard, expected);
    }

    #[test]
    fn a_goodbye_is_challenged_three_times_and_believed_after_3_5_s() {
        let mut link = link(Instant::ZERO);
        let mut neighbor = Neighbor::new(Instant::ZERO, NetId(7));
        neighbor.links.push(link);
        neighbor.leave(Instant::from_secs(5));
        link = neighbor.links.remove(0);
        let mut trace = Vec::new();
        for ms in (5_000..9_000).step_by(500) {
            let due = link.poll(Instant(ms * 1_000), &T());
            if due != Due::Nothing {
                trace.push((ms, due));
            }
            if matches!(due, Due::Gone(_)) {
                break;
            }
        }
        let expected = [
            (5_000, Due::Ping),
            (6_000, Due::Ping),
            (7_000, Due::Ping),
            (8_500, Due::Gone(Gone::Goodbye)),
        ];
        assert_eq!(trace, expected);
    }

    #[test]
    fn a_forged_goodbye_is_undone_by_the_answer_to_a_challenge() {
        let mut link = link(Instant::ZERO);
        link.state = LinkState::Leaving {
            since: Instant::ZERO,
            challenges: 0,
        };
        assert_eq!(link.poll(Instant::ZERO, &T()), Due::Ping);
        link.pinged_at = Some(Instant::ZERO);
        link.answered(Instant(700));
        assert_eq!(link.round_trip, Some(Duration::from_micros(700)));
        assert_eq!(link.poll(Instant::from_secs(4), &T()), Due::Nothing);
        assert_eq!(link.state, LinkState::Live);
    }
}
