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

/// A table that has grown to `entries` live ones; its size, and how the growing went.
fn filled(entries: u64) -> (SeenTable, u64) {
    let seen = SeenTable::new(SeenConfig {
        start_bytes: 4 << 20,
        memory_bytes: usize::try_from(entries * 14)
            .unwrap_or(usize::MAX)
            .max(8 << 20),
    });
    let mut answers = [Seen::Known; BATCH];
    let mut worst = 0;
    let mut next = 0;
    // As fast as 300 s allow, so that all are live at the end.
    let at = |n: u64| Instant(n * 290_000_000 / entries);
    while next < entries {
        let before = Clock::now();
        probe(&seen, at(next), next, &mut answers);
        worst = worst.max(before.elapsed().as_nanos() as u64);
        next += BATCH as u64;
        if let Some(bytes) = seen.growth_wanted() {
            seen.adopt(at(next), Generation::allocate(bytes));
        }
        // The older tables are of no use to the measurement: as after 5 minutes.
    }
    let lost = seen.take_shortened();
    println!(
        "{entries} entries: {:.1} bytes each, {lost} forgotten early, worst batch of {BATCH} {worst} ns",
        seen.bytes() as f64 / entries as f64,
    );
    (seen, next)
}

/// Each insert timed by itself, its lines prefetched as in a batch; includes two clock readings.
fn spread(seen: &SeenTable, mut next: u64) {
    let now = Instant::from_secs(291);
    let mut times = Vec::with_capacity(1 << 20);
    while times.len() < 1 << 20 {
        let (digests, entries) = batch(next);
        seen.prefetch_batch(&digests);
        for (digest, place) in entries {
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
        group.bench_function("known_of_64", |b| {
            let mut start = 0;
            b.iter(|| {
                start = (start + 7919 * BATCH as u64) % (entries - BATCH as u64);
                probe(&table, Instant::from_secs(291), start, &mut answers);
            });
        });
        group.bench_function("known_of_64_without_prefetch", |b| {
            let mut start = 0;
            b.iter(|| {
                start = (start + 7919 * BATCH as u64) % (entries - BATCH as u64);
                table.probe_batch(Instant::from_secs(291), &batch(start).1, &mut answers);
            });
        });
        spread(&table, next);
        next += 1 << 20;
        // Time goes on as at the rate that filled it, so that entries expire as others come.
        group.bench_function("new_of_64", |b| {
            b.iter(|| {
                let now = Instant(next * 290_000_000 / entries);
                probe(&table, now, next, &mut answers);
                next += BATCH as u64;
            });
        });
        group.finish();
        println!("{} forgotten early", table.take_shortened());
    }
}

criterion_group!(benches, seen);
criterion_main!(benches);
