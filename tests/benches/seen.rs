//! The seen table: nanoseconds an insert and a look-up, the spread of single inserts, and bytes an
//! entry, by how many messages it remembers.
//!
//! Run: `cargo bench -p overlay-tests --bench seen`, with the feature `daemon` for huge pages.
//! `SEEN_ENTRIES=30000000` also fills a table to that many entries: 300 s of 100,000 a second,
//! which takes 400 MiB.

use std::hint::black_box;
use std::time::Instant as Clock;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use overlay::node::seen::{Generation, Seen, SeenConfig, SeenTable};
use overlay::time::Instant;

const BATCH: usize = 64;

/// Digests as a keyed hash gives them.
fn digest(n: u64) -> u64 {
    let mut bits = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

fn batch(start: u64) -> ([u64; BATCH], [(u64, u16); BATCH]) {
    let digests = std::array::from_fn(|n| digest(start + n as u64));
    (digests, digests.map(|digest| (digest, 0)))
}

/// Hash all, prefetch all, probe all, as the pump does.
fn probe(seen: &SeenTable, now: Instant, start: u64, answers: &mut [Seen; BATCH]) {
    let (digests, entries) = batch(start);
    seen.prefetch_batch(&digests);
    seen.probe_batch(now, &entries, answers);
}

/// When message `n` comes, if `entries` come in 290 s.
fn at(n: u64, entries: u64) -> Instant {
    Instant(n * 290_000_000 / entries)
}

/// A table through which messages have gone for two lifetimes, so that it has grown, its smaller
/// tables are gone, and what comes takes the place of what expires; and the next message.
fn filled(entries: u64) -> (SeenTable, u64) {
    let memory = usize::try_from(entries * 14).unwrap_or(usize::MAX);
    let seen = SeenTable::new(SeenConfig {
        start_bytes: 4 << 20,
        memory_bytes: memory.max(8 << 20),
    });
    let mut answers = [Seen::Known; BATCH];
    let (mut worst, mut next) = (0, 0);
    while next < entries * 5 / 2 {
        let now = at(next, entries);
        let before = Clock::now();
        probe(&seen, now, next, &mut answers);
        worst = worst.max(before.elapsed().as_nanos());
        next += BATCH as u64;
        if let Some(bytes) = seen.growth_wanted() {
            seen.adopt(now, Generation::allocate(bytes));
        }
        if next.is_multiple_of(1024 * BATCH as u64) {
            seen.sweep(now, 0);
        }
    }
    println!(
        "{entries} entries: {:.1} bytes each, {} forgotten early, worst batch of {BATCH} {worst} ns",
        seen.bytes() as f64 / entries as f64,
        seen.take_shortened(),
    );
    (seen, next)
}

/// Each insert timed by itself, its lines prefetched as in a batch; includes two clock readings.
fn spread(seen: &SeenTable, mut next: u64, entries: u64) {
    let mut times = Vec::with_capacity(1 << 20);
    while times.len() < 1 << 20 {
        let (digests, messages) = batch(next);
        seen.prefetch_batch(&digests);
        let now = at(next, entries);
        for (digest, place) in messages {
            let before = Clock::now();
            black_box(seen.insert(now, digest, place));
            times.push(before.elapsed().as_nanos() as u32);
        }
        next += BATCH as u64;
    }
    let mut clock: Vec<_> = (0..10_000)
        .map(|_| Clock::now().elapsed().as_nanos() as u32)
        .collect();
    clock.sort_unstable();
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    println!(
        "single insert: p50 {} p99 {} p99.9 {} max {} ns (reading the clock alone: {})",
        at(0.5),
        at(0.99),
        at(0.999),
        times[times.len() - 1],
        clock[clock.len() / 2]
    );
}

fn seen(c: &mut Criterion) {
    let mut sizes = vec![100_000, 1_000_000];
    let wanted = std::env::var("SEEN_ENTRIES").ok();
    sizes.extend(wanted.and_then(|entries| entries.parse::<u64>().ok()));
    for entries in sizes {
        let (table, mut next) = filled(entries);
        let mut group = c.benchmark_group(format!("seen/{entries}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        let mut answers = [Seen::Known; BATCH];
        let now = at(next, entries);
        // Known ones at random places: those of the last lifetime, in leaps.
        let (oldest, span) = (next - entries * 9 / 10, entries * 8 / 10);
        let mut leap = 0;
        group.bench_function("known_of_64", |b| {
            b.iter(|| {
                leap = (leap + 7919 * BATCH as u64) % span;
                probe(&table, now, oldest + leap, &mut answers);
            });
        });
        assert!(answers.iter().all(|&answer| answer == Seen::Known));
        group.bench_function("known_of_64_without_prefetch", |b| {
            b.iter(|| {
                leap = (leap + 7919 * BATCH as u64) % span;
                table.probe_batch(now, &batch(oldest + leap).1, &mut answers);
            });
        });
        group.bench_function("new_of_64", |b| {
            b.iter(|| {
                probe(&table, at(next, entries), next, &mut answers);
                next += BATCH as u64;
            });
        });
        assert!(answers.iter().all(|&answer| answer == Seen::New));
        spread(&table, next, entries);
        group.finish();
        println!("{} forgotten early", table.take_shortened());
    }
}

criterion_group!(benches, seen);
criterion_main!(benches);
