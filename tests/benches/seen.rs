//! The seen table: nanoseconds an insert and a look-up, the spread of single inserts, two threads
//! at once, what older tables cost, and the longest pause while it grows.
//!
//! Run: `cargo bench -p overlay-tests --bench seen`, with the feature `daemon` for huge pages.
//! `SEEN_ENTRIES=30000000` also fills a table with that many entries: 300 s of 100,000 a second,
//! which takes 400 MB and some ten seconds.
//!
//! How to read it: a figure is the fastest and the median of [`SLICES`] slices of some
//! milliseconds. On a machine that others use, the fastest is nearest to what the code costs.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant as Clock;

use overlay::node::seen::{Generation, Seen, SeenConfig, SeenTable};
use overlay::time::Instant;

const BATCH: usize = 64;
/// Batches of a slice, and slices of a figure: 3.3 million messages.
const SLICE: u64 = 256;
const SLICES: usize = 200;
const MESSAGES: u64 = SLICES as u64 * SLICE * BATCH as u64;

/// A table in the middle of its life, and the next message.
struct Running {
    seen: SeenTable,
    /// Messages that come in 300 s.
    entries: u64,
    next: u64,
}

fn main() {
    let wanted = std::env::var("SEEN_ENTRIES").ok();
    let wanted = wanted.and_then(|entries| entries.parse::<u64>().ok());
    for entries in [1_000_000].into_iter().chain(wanted) {
        println!("\n{entries} entries");
        let mut running = Running::fill(entries);
        running.new_and_known();
        running.single();
        running.two_threads();
    }
    older_tables();
    growth();
}

impl Running {
    /// A table of the size that DATAPATH 10 recommends, through which messages have gone for two
    /// lifetimes, so that what comes takes the place of what expires.
    fn fill(entries: u64) -> Self {
        let bytes = usize::try_from(entries * 8 * 5 / 3).unwrap_or(usize::MAX);
        let seen = SeenTable::new(SeenConfig {
            start_bytes: bytes,
            memory_bytes: bytes,
        });
        let mut running = Self {
            seen,
            entries,
            next: 0,
        };
        let mut answers = [Seen::Known; BATCH];
        while running.next < entries * 2 {
            running.insert(running.next, &mut answers);
            running.next += BATCH as u64;
            if running.next.is_multiple_of(1024 * BATCH as u64) {
                running.seen.sweep(running.now(), 0);
            }
        }
        println!(
            "  {:.1} bytes each, {} of them forgotten early",
            running.seen.bytes() as f64 / entries as f64,
            running.seen.take_shortened(),
        );
        running
    }

    fn now(&self) -> Instant {
        self.at(self.next)
    }

    /// When message `n` comes.
    fn at(&self, n: u64) -> Instant {
        Instant((u128::from(n) * 300_000_000 / u128::from(self.entries)) as u64)
    }

    fn insert(&self, start: u64, answers: &mut [Seen; BATCH]) {
        probe(&self.seen, self.at(start), start, answers);
    }

    fn new_and_known(&mut self) {
        let mut answers = [Seen::Known; BATCH];
        let mut next = self.next;
        measure("a new message", || {
            self.insert(next, &mut answers);
            next += BATCH as u64;
        });
        self.next = next;
        assert!(answers.contains(&Seen::New));
        // Known ones at random places: those of most of a lifetime, in leaps.
        let (oldest, span) = (next - self.entries * 9 / 10, self.entries * 8 / 10);
        let mut leap = 0;
        let mut place = || {
            leap = (leap + 7919 * BATCH as u64) % span;
            oldest + leap
        };
        let now = self.now();
        measure("a known one", || {
            probe(&self.seen, now, place(), &mut answers);
        });
        measure("a known one, without prefetch", || {
            let (_, entries) = batch(place());
            self.seen.probe_batch(now, &entries, &mut answers);
        });
        assert!(answers.contains(&Seen::Known));
    }

    /// Each insert timed by itself, its lines prefetched as in a batch; includes two clock
    /// readings.
    fn single(&mut self) {
        let mut times = Vec::with_capacity(1 << 20);
        while times.len() < 1 << 20 {
            let (digests, messages) = batch(self.next);
            self.seen.prefetch_batch(&digests);
            for (digest, place) in messages {
                let before = Clock::now();
                black_box(self.seen.insert(self.now(), digest, place));
                times.push(before.elapsed().as_nanos() as u32);
            }
            self.next += BATCH as u64;
        }
        let mut clock: Vec<_> = (0..10_000)
            .map(|_| Clock::now().elapsed().as_nanos() as u32)
            .collect();
        clock.sort_unstable();
        times.sort_unstable();
        let at = |share: f64| times[(times.len() as f64 * share) as usize];
        println!(
            "  single insert: p50 {} p99 {} p99.9 {} longest {} ns (reading the clock alone: {})",
            at(0.5),
            at(0.99),
            at(0.999),
            times[times.len() - 1],
            clock[clock.len() / 2]
        );
    }

    /// Both threads bring every message, as two neighbors do; then each brings its own.
    fn two_threads(&mut self) {
        for (what, threads) in [("the same", 1), ("their own", 2)] {
            let barrier = Barrier::new(2);
            let next = self.next;
            let run = |thread: u64| {
                let mut answers = [Seen::Known; BATCH];
                let mut new = 0;
                barrier.wait();
                let before = Clock::now();
                for start in (0..MESSAGES / 2).step_by(BATCH) {
                    // Every message, or every other batch of them.
                    let own = start * threads + thread * (threads - 1) * BATCH as u64;
                    self.insert(next + own, &mut answers);
                    new += answers.iter().filter(|&&seen| seen == Seen::New).count();
                }
                (before.elapsed().as_nanos() as u64, new as u64)
            };
            let (one, other) = std::thread::scope(|scope| {
                let other = scope.spawn(|| run(1));
                (run(0), other.join().expect("it does not panic"))
            });
            let wrong = (one.1 + other.1).abs_diff(MESSAGES / 2 * threads);
            println!(
                "  two threads, {what} messages: {:.1} ns each, {wrong} new too often or too seldom",
                one.0.max(other.0) as f64 / MESSAGES as f64,
            );
            self.next += MESSAGES;
        }
    }
}

/// What a new message costs with tables that are only read, of the sizes of the default growth.
fn older_tables() {
    println!("\nolder tables, 1 s of traffic in each");
    let sizes = [4 << 20, 10 << 20, 25 << 20, 62 << 20, 151 << 20];
    for count in 1..=sizes.len() {
        let seen = SeenTable::new(SeenConfig {
            start_bytes: sizes[0],
            memory_bytes: 1 << 30,
        });
        let mut answers = [Seen::Known; BATCH];
        let (mut next, mut second) = (0, 0);
        for &size in &sizes[..count] {
            second += 1;
            let now = Instant::from_secs(second);
            if size > sizes[0] {
                assert!(seen.adopt(now, Generation::allocate(now, size)));
            }
            while next < size as u64 / 16 {
                probe(&seen, now, next, &mut answers);
                next += BATCH as u64;
            }
        }
        measure(&format!("a new message, {} older", count - 1), || {
            probe(&seen, Instant::from_secs(second), next, &mut answers);
            next += BATCH as u64;
        });
    }
}

/// 10 s of a million messages a second of the table's time, as fast as it goes, into a table of the
/// default size, which a thread grows, as in the daemon.
fn growth() {
    let seen = SeenTable::new(SeenConfig::default());
    let (mut worst, mut preempted, mut refused) = (0, 0, 0);
    let mut turns = turns_of_this_thread();
    std::thread::scope(|scope| {
        let mut growing: Option<std::thread::ScopedJoinHandle<'_, ()>> = None;
        let mut answers = [Seen::Known; BATCH];
        for start in (0..10_000_000).step_by(BATCH) {
            let now = Instant(start);
            // In this order, or it could be wanted twice.
            let idle = growing.as_ref().is_none_or(|growing| growing.is_finished());
            let before = Clock::now();
            probe(&seen, now, start, &mut answers);
            let wanted = seen.growth_wanted();
            let took = before.elapsed().as_nanos();
            let before = std::mem::replace(&mut turns, turns_of_this_thread());
            if turns == before {
                worst = worst.max(took);
            } else {
                preempted += 1;
            }
            refused += answers.iter().filter(|&&a| a == Seen::Refused).count();
            if let Some(bytes) = wanted
                && idle
            {
                let seen = &seen;
                growing = Some(scope.spawn(move || {
                    seen.adopt(now, Generation::allocate(now, bytes));
                }));
            }
        }
    });
    println!(
        "\n10 s of 1,000,000 messages a second, growing from 4 to {} MiB: longest batch of {BATCH} \
         {worst} ns, {preempted} left out because another program had the core meanwhile, {refused} \
         refused, {} forgotten early",
        seen.bytes() >> 20,
        seen.take_shortened(),
    );
}

/// How often this thread got a core: what it waited for one is not the table's doing.
fn turns_of_this_thread() -> Option<u64> {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    schedule.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// Prints the nanoseconds of one message of `batch`.
fn measure(what: &str, mut batch: impl FnMut()) {
    let mut slices: Vec<_> = (0..SLICES)
        .map(|_| {
            let before = Clock::now();
            for _ in 0..SLICE {
                batch();
            }
            before.elapsed().as_nanos() as f64 / (SLICE * BATCH as u64) as f64
        })
        .collect();
    slices.sort_unstable_by(f64::total_cmp);
    println!(
        "  {what}: fastest {:.1} median {:.1} ns",
        slices[0],
        slices[SLICES / 2]
    );
}

/// Hash all, prefetch all, probe all, as the pump does.
fn probe(seen: &SeenTable, now: Instant, start: u64, answers: &mut [Seen; BATCH]) {
    let (digests, entries) = batch(start);
    seen.prefetch_batch(&digests);
    seen.probe_batch(now, &entries, answers);
}

fn batch(start: u64) -> ([u64; BATCH], [(u64, u16); BATCH]) {
    let digests = std::array::from_fn(|n| digest(start + n as u64));
    (digests, digests.map(|digest| (digest, 0)))
}

/// Digests as a keyed hash gives them.
fn digest(n: u64) -> u64 {
    let mut bits = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
