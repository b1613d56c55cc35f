//! Several threads with the same messages: each is new exactly once.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;

use super::super::table::Spot;
use super::*;

/// Threads bring the same messages, each in its own order and with its own clock, while one more
/// does `housekeeping`: each message is new exactly once. Message `n` comes at `n * interval`
/// microseconds. Nobody is `lead` messages ahead of the housekeeping.
fn race(
    seen: &SeenTable,
    (messages, lead): (u64, u64),
    interval: u64,
    housekeeping: impl Fn(Instant) + Sync,
) {
    const THREADS: usize = 3;
    const BATCH: u64 = 16;
    let news: Vec<AtomicU32> = (0..messages).map(|_| AtomicU32::new(0)).collect();
    let next: [AtomicU64; THREADS] = Default::default();
    // Says that a thread is over, also when it panics: the others wait for it.
    struct Over<'t>(&'t AtomicU64);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(u64::MAX, Relaxed);
        }
    }
    // Up to where the table was looked after.
    let kept = AtomicU64::new(0);
    let slowest = || next.iter().map(|next| next.load(Relaxed)).min().unwrap();
    let bring = |thread: usize| {
        let _over = Over(&next[thread]);
        let mut answers = [Seen::Known; BATCH as usize];
        for start in (0..messages).step_by(BATCH as usize) {
            // All begin a batch together, so that they do meet.
            next[thread].store(start, Relaxed);
            while slowest() < start || kept.load(Relaxed).saturating_add(lead) < start {
                std::thread::yield_now();
            }
            let order = |n: u64| match thread {
                0 => n,
                1 => BATCH - 1 - n,
                _ => n ^ 5,
            };
            // One clock is a second ahead.
            let now = Instant(start * interval + u64::from(thread == 1) * 1_000_000);
            let entries: [_; BATCH as usize] =
                std::array::from_fn(|n| (digest(start + order(n as u64)), 0));
            seen.probe_batch(now, &entries, &mut answers);
            for (n, &answer) in answers.iter().enumerate() {
                assert_ne!(answer, Seen::Refused);
                if answer == Seen::New {
                    news[(start + order(n as u64)) as usize].fetch_add(1, Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let _kept = Over(&kept);
        for thread in 0..THREADS {
            let bring = &bring;
            scope.spawn(move || bring(thread));
        }
        loop {
            let slowest = slowest();
            if slowest == u64::MAX {
                break;
            }
            housekeeping(Instant(slowest * interval));
            kept.store(slowest, Relaxed);
            std::thread::yield_now();
        }
    });
    let count = |n| news.iter().filter(|news| news.load(Relaxed) == n).count() as u64;
    assert_eq!((count(0), count(1)), (0, messages));
}

#[test]
fn of_several_threads_exactly_one_finds_a_message_new() {
    let seen = table(64 << 10, 64 << 20);
    // 400 s of traffic.
    race(&seen, (200_000, 1_024), 2000, |now| {
        grow(&seen, now);
        seen.sweep(now, 100);
    });
    assert!(seen.tables.load().generation > 2, "it grew on the way");
    assert_eq!(seen.take_shortened(), 0);
}

/// Every bucket is full of live entries nearly always: what is oldest goes.
#[test]
fn of_several_threads_one_finds_a_message_new_in_a_table_that_is_too_small() {
    let seen = table(16 << 10, 16 << 10);
    race(&seen, (100_000, u64::MAX), 40_000, |now| {
        seen.sweep(now, PARTS);
    });
    assert!(seen.take_shortened() > 10_000);
}

/// The table wants to grow and nobody lets it: the overflow fills and is emptied.
#[test]
fn of_several_threads_one_finds_a_message_new_in_an_overflow() {
    let seen = table(64 << 10, 64 << 20);
    let most = AtomicU64::new(0);
    race(&seen, (100_000, u64::MAX), 40_000, |now| {
        seen.sweep(now, 1);
        most.fetch_max(seen.overflow.len() as u64, Relaxed);
    });
    assert!(most.load(Relaxed) > 10);
}

#[test]
fn of_several_threads_one_finds_a_message_new_while_tables_come_and_go() {
    let seen = table(64 << 10, 64 << 20);
    race(&seen, (100_000, u64::MAX), 100_000, |now| {
        let bytes = (seen.tables.load().generation as usize % 3 + 1) * (16 << 10);
        if seen.bytes() < 1 << 20 {
            seen.adopt(now, Generation::allocate(now, bytes));
        }
        seen.sweep(now, 1);
    });
    assert!(seen.tables.load().generation > 30, "they came and went");
}

/// What another thread does between two steps of one that inserts: any order of that, which the
/// threads of the tests above hardly ever take.
#[derive(Clone, Debug)]
enum Act {
    /// It goes on with the same digest: searches, or takes what it found.
    Go,
    /// Another message goes in, into the same two buckets if there are no others.
    Other(u64),
    Sweep,
    Tick,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Go),
        4 => (0..10_000_u64).prop_map(Act::Other),
        1 => Just(Act::Sweep),
        1 => Just(Act::Tick),
    ]
}

/// Two threads insert the same digest, one a clock's second ahead of the other.
struct Rivals<'t> {
    table: &'t Table,
    second: u64,
    ahead: u64,
    other: Option<Spot<'t>>,
    taken: u32,
}

impl<'t> Rivals<'t> {
    fn act(&mut self, act: &Act) {
        match *act {
            Act::Go => match self.other.take() {
                None => self.other = self.table.search(digest(1), self.second + self.ahead),
                Some(spot) => self.take(&spot),
            },
            Act::Other(n) => {
                if let Some(spot) = self.table.search(digest(1000 + n), self.second) {
                    // Only the shares keep a young entry from being displaced.
                    let _ = spot.age() > SHORTEST_SECONDS as i16 && spot.take();
                }
            }
            Act::Sweep => self.table.sweep(self.second, 0, 1),
            // Less than a lifetime in all, or what was taken could have expired.
            Act::Tick => self.second += 1,
        }
    }

    fn take(&mut self, spot: &Spot<'t>) {
        if spot.age() > SHORTEST_SECONDS as i16 {
            self.taken += u32::from(spot.take());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn one_of_two_takes_a_digest_whatever_happens_between_their_steps(
        buckets in prop_oneof![Just(2_usize), Just(16)],
        filled in prop::collection::vec((0..10_000_u64, 0..100_u64), 0..60),
        ahead in 0..2_u64,
        steps in prop::collection::vec(prop::collection::vec(act(), 0..3), 18),
    ) {
        let table = Table::with_buckets(buckets, 0);
        let mut rivals = Rivals { table: &table, second: 1000, ahead: 0, other: None, taken: 0 };
        for (n, wait) in filled {
            rivals.act(&Act::Other(n));
            rivals.second += wait;
        }
        rivals.ahead = ahead;
        let mut steps = steps.iter();
        let found = table.search_in_steps(digest(1), rivals.second, || {
            for act in steps.next().into_iter().flatten() {
                rivals.act(act);
            }
        });
        for act in steps.next().into_iter().flatten() {
            rivals.act(act);
        }
        if let Some(spot) = found {
            rivals.take(&spot);
        }
        for act in [Act::Go, Act::Go] {
            rivals.act(&act);
        }
        prop_assert!(rivals.taken <= 1);
    }
}
