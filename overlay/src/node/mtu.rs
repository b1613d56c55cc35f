//! How large a datagram a link's path carries whole: a search by padded Pings.
//!
//! ```text
//!   probe the largest datagram we make ----answered----> all go whole; again in 9 min
//!        | 3 times in vain
//!        v
//!   what is longer than SAFE goes in fragments; halve between what was answered and what was not
//!        |
//!        v  8 bytes apart
//!   what is longer than the last answer goes in fragments; again in 9 min
//! ```
//!
//! A path may drop what is too long without telling (no ICMP gets through, or a tunnel swallows
//! it), so that only an answer proves a size. A Ping is padded with zero bytes, which every node
//! passes over (A8); its src is a netid made up for this size, so that its Pong is known whatever
//! else is on the way. Asked is once a second at the most, and proven links alone: the answer is
//! shorter than the question.
//!
//! A far end that answers no padded Ping at all tells nothing about the path: nothing is limited.
//!
//! Sources: RFC 8899 (DPLPMTUD) sections 5.1 to 5.3; SECURITY T18.

use crate::id::NetId;
use crate::time::{Duration, Instant};

/// Bytes of a packet that every IPv6 path carries, and every device with IPv6 has to (RFC 8200
/// section 5).
pub const IPV6_MTU: u16 = 1_280;
/// Bytes of a datagram that makes such a packet, with an IPv6 and a UDP header.
pub const SAFE: u16 = IPV6_MTU - 48;
/// Bytes of a datagram that any IPv4 host takes (RFC 791 page 24): no search goes below it.
const LEAST: u16 = 576 - 28;
/// How often a size is probed before it counts as lost: MAX_PROBES of RFC 8899. Where 5 % of
/// datagrams are lost each way, one search in a thousand is wrong, and the next mends it.
const TRIES: u8 = 3;
/// From probe to probe, and from the last one to the verdict.
const INTERVAL: Duration = Duration::from_secs(1);
/// From the end of a search to the next: PMTU_RAISE_TIMER of RFC 8899 is 10 minutes. A little less,
/// so that what the kernel was told, and forgets after 10 minutes, is renewed in time.
pub const REPEAT: Duration = Duration::from_secs(540);
/// A search ends when what was answered and what was lost are this close, in bytes.
const CLOSE: u16 = 8;

/// The search on one link, and what it has found.
///
/// Units: bytes of a datagram, header included; without IP and UDP headers.
#[derive(Clone, Copy, Debug)]
pub struct MtuSearch {
    /// The largest datagram that the device's packets make.
    wanted: u16,
    /// What the last search that ended found; `None` when nothing was answered.
    found: Option<u16>,
    /// The largest size answered in this search; 0 is none.
    carried: u16,
    /// The smallest size lost in this search; above `wanted` is none.
    lost: u16,
    probe: Option<Probe>,
    /// When the next step is due; `None` is never.
    next_at: Option<Instant>,
    /// The limit was found, or found again, and nobody asked since.
    news: bool,
}

/// A size that is being tried.
#[derive(Clone, Copy, Debug)]
struct Probe {
    size: u16,
    src: NetId,
    tries: u8,
}

impl MtuSearch {
    /// A search for whether `wanted` bytes are carried; none if every path carries that.
    pub fn new(now: Instant, wanted: u16) -> Self {
        let mut search = Self {
            wanted,
            found: None,
            carried: 0,
            lost: 0,
            probe: None,
            next_at: None,
            news: false,
        };
        search.restart(now);
        search
    }

    /// Searches anew, since the path may be another one; until it has found something else, what
    /// was found holds. The first probe leaves a second later, when both ends know the link.
    pub fn restart(&mut self, now: Instant) {
        self.begin();
        self.next_at = (self.wanted > SAFE).then(|| now + INTERVAL);
    }

    fn begin(&mut self) {
        (self.carried, self.lost, self.probe) = (0, self.wanted.saturating_add(1), None);
    }

    /// The largest datagram that was shown to arrive; `None` while nothing is known.
    pub fn found(&self) -> Option<u16> {
        self.found
    }

    /// The largest datagram that may go whole; `None` is any.
    pub fn limit(&self) -> Option<u16> {
        match self.found {
            Some(found) if found < self.wanted => Some(found),
            _ => (self.lost <= self.wanted).then_some(SAFE),
        }
    }

    /// The limit, once when it changed and once at the end of each search that found one.
    pub fn take_news(&mut self) -> Option<u16> {
        std::mem::take(&mut self.news).then(|| self.limit())?
    }

    /// When [`Self::step`] has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next_at
    }

    /// Takes the step that is due at `now`, if one is: a Ping of how many bytes to send, and the
    /// src it has to bear. `fresh` is a netid that nobody has, for a size not tried before.
    pub fn step(&mut self, now: Instant, fresh: NetId) -> Option<(u16, NetId)> {
        if self.next_at.is_none_or(|at| now < at) {
            return None;
        }
        if let Some(probe) = self.probe
            && probe.tries >= TRIES
        {
            self.news |= self.lost > self.wanted;
            self.lost = probe.size;
            self.probe = None;
            if self.conclude(now) {
                return None;
            }
        }
        let size = self.next_size();
        let probe = self.probe.get_or_insert(Probe {
            size,
            src: fresh,
            tries: 0,
        });
        probe.tries += 1;
        self.next_at = Some(now + INTERVAL);
        Some((probe.size, probe.src))
    }

    /// A Pong to `src` came over the link; says whether it answers a probe.
    pub fn answered(&mut self, now: Instant, src: NetId) -> bool {
        let Some(probe) = self.probe.filter(|probe| probe.src == src) else {
            return false;
        };
        self.carried = probe.size;
        self.probe = None;
        self.conclude(now);
        true
    }

    fn next_size(&self) -> u16 {
        if self.lost > self.wanted {
            return self.wanted;
        }
        let low = self.carried.max(LEAST);
        low + (self.lost - low) / 2
    }

    /// Ends the search if it is over, and says whether it is.
    fn conclude(&mut self, now: Instant) -> bool {
        let over = self.lost.saturating_sub(self.carried.max(LEAST)) <= CLOSE;
        if over {
            self.found = (self.carried > 0).then_some(self.carried);
            self.begin();
            self.news = true;
            self.next_at = Some(now + REPEAT);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: u16 = 1_416;
    const START: Instant = Instant::from_secs(100);

    /// Runs a search over a path that carries `path` bytes and answers at once, until it is over;
    /// returns when, after which seconds each probe left, and how large it was.
    fn run(search: &mut MtuSearch, path: u16) -> (Instant, Vec<(u64, u16)>) {
        let mut probes = Vec::new();
        let mut last = START;
        for made_up in 0.. {
            let now = search.next_timeout().unwrap();
            if now.since(last) > INTERVAL {
                break;
            }
            let early = Instant(now.0 - 1);
            assert_eq!(search.step(early, NetId(1)), None, "one microsecond early");
            last = now;
            if let Some((size, src)) = search.step(now, NetId(100 + made_up)) {
                probes.push((now.since(START).as_secs(), size));
                if size <= path {
                    assert!(search.answered(now, src));
                    assert!(!search.answered(now, src), "twice");
                }
            }
        }
        (last, probes)
    }

    #[test]
    fn a_path_that_carries_the_largest_is_asked_once_in_nine_minutes() {
        let mut search = MtuSearch::new(START, WANTED);
        let (end, probes) = run(&mut search, 1_472);
        assert_eq!(probes, [(1, WANTED)]);
        assert_eq!((search.found(), search.limit()), (Some(WANTED), None));
        assert_eq!(search.take_news(), None);
        assert_eq!(search.next_timeout(), Some(end + REPEAT));
    }

    #[test]
    fn a_black_hole_is_known_after_three_probes_and_measured_by_halving() {
        let mut search = MtuSearch::new(START, WANTED);
        for second in 1..=3 {
            let at = START + Duration::from_secs(second);
            assert_eq!(search.step(at, NetId(9)), Some((WANTED, NetId(9))));
            assert_eq!(search.limit(), None);
        }
        let at = START + Duration::from_secs(4);
        assert_eq!(search.step(at, NetId(8)), Some((982, NetId(8))));
        assert_eq!((search.limit(), search.found()), (Some(SAFE), None));
        assert_eq!(search.take_news(), Some(SAFE));
        assert_eq!(search.take_news(), None);

        let mut search = MtuSearch::new(START, WANTED);
        let (end, probes) = run(&mut search, 1_272);
        let mut sizes: Vec<u16> = probes.iter().map(|probe| probe.1).collect();
        sizes.dedup();
        assert_eq!(
            sizes,
            [1_416, 982, 1_199, 1_307, 1_253, 1_280, 1_266, 1_273]
        );
        assert_eq!(search.found(), Some(1_266));
        assert_eq!(search.limit(), Some(1_266));
        assert_eq!(search.take_news(), Some(1_266));
        assert!(end.since(START) <= Duration::from_secs(20), "{end:?}");
        // One a second.
        assert!(probes.windows(2).all(|pair| pair[1].0 - pair[0].0 == 1));
    }

    #[test]
    fn what_was_found_holds_until_the_next_search_finds_better() {
        let mut search = MtuSearch::new(START, WANTED);
        let (end, _) = run(&mut search, 1_272);
        let again = end + REPEAT;
        assert_eq!(search.next_timeout(), Some(again));
        for second in 0..3 {
            let at = again + Duration::from_secs(second);
            assert_eq!(search.step(at, NetId(7)), Some((WANTED, NetId(7))));
        }
        assert_eq!(search.limit(), Some(1_266));
        assert!(search.answered(again + Duration::from_secs(2), NetId(7)));
        assert_eq!((search.found(), search.limit()), (Some(WANTED), None));
    }

    #[test]
    fn who_answers_no_padded_ping_is_not_limited_once_the_search_is_over() {
        let mut search = MtuSearch::new(START, WANTED);
        run(&mut search, 0);
        assert_eq!((search.found(), search.limit()), (None, None));
    }

    #[test]
    fn a_path_that_grew_smaller_is_noticed_by_a_restart() {
        let mut search = MtuSearch::new(START, WANTED);
        run(&mut search, 1_472);
        search.restart(START);
        assert_eq!(search.limit(), None);
        run(&mut search, 1_272);
        assert_eq!(search.limit(), Some(1_266));
    }

    #[test]
    fn what_every_path_carries_is_never_asked() {
        assert_eq!(MtuSearch::new(START, SAFE).next_timeout(), None);
        assert!(MtuSearch::new(START, SAFE + 1).next_timeout().is_some());
    }

    #[test]
    fn a_pong_to_another_netid_answers_nothing() {
        let mut search = MtuSearch::new(START, WANTED);
        let at = START + INTERVAL;
        search.step(at, NetId(9));
        assert!(!search.answered(at, NetId(8)));
        assert_eq!(search.found(), None);
    }
}
