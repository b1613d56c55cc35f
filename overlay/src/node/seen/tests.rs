//! The table against a plain map, at its deadlines, and under pressure; in `tests/` under threads,
//! and how its size follows the traffic.

mod size;
mod threads;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::overflow::Entered;
use super::*;

/// Digests as a keyed hash would give them: all bits of each depend on all of `n`.
fn digest(n: u64) -> u64 {
    let mut bits = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

fn table(start_bytes: usize, memory_bytes: usize) -> SeenTable {
    SeenTable::new(SeenConfig {
        start_bytes,
        memory_bytes,
    })
}

/// What the daemon's background thread does.
fn grow(seen: &SeenTable, now: Instant) -> bool {
    seen.growth_wanted()
        .is_some_and(|bytes| seen.adopt(now, Generation::allocate(now, bytes)))
}

/// The slow twin: a plain map with times.
#[derive(Default)]
struct Oracle {
    first_seen: BTreeMap<u64, Instant>,
}

impl Oracle {
    /// What the table must answer; `None` within the second in which it may answer either.
    fn insert(&mut self, now: Instant, digest: u64) -> Option<Seen> {
        let age = self.first_seen.get(&digest).map(|&then| now.since(then));
        match age {
            Some(age) if age <= LIFETIME => Some(Seen::Known),
            Some(age) if age < LIFETIME + Duration::from_secs(1) => None,
            _ => {
                self.first_seen.insert(digest, now);
                Some(Seen::New)
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Batch(Vec<u64>),
    Wait(u64),
    Sweep(usize),
    Grow,
}

fn step() -> impl Strategy<Value = Step> {
    let micros = prop_oneof![
        4 => 0..2_000_000_u64,
        4 => 100_000_000..400_000_000_u64,
        // Around where 16-bit seconds stop to tell old from new, and where they come round.
        2 => 32_000_000_000..33_200_000_000_u64,
        2 => 65_200_000_000..66_000_000_000_u64,
        1 => 0..10_000_000_000_000_u64,
    ];
    prop_oneof![
        8 => (0..40_u64).prop_map(Step::Insert),
        4 => prop::collection::vec(0..2000_u64, 1..80).prop_map(Step::Batch),
        4 => micros.prop_map(Step::Wait),
        1 => (0..PARTS).prop_map(Step::Sweep),
        1 => Just(Step::Grow),
    ]
}

proptest! {
    #[test]
    fn it_agrees_with_a_plain_map(steps in prop::collection::vec(step(), 1..150)) {
        let seen = table(16 << 10, 1 << 20);
        let mut oracle = Oracle::default();
        let mut now = Instant(7_300_000);
        for step in steps {
            match step {
                Step::Insert(n) => {
                    let answer = seen.insert(now, digest(n), 0);
                    match oracle.insert(now, digest(n)) {
                        Some(right) => prop_assert_eq!(answer, right),
                        None if answer == Seen::New => { oracle.first_seen.insert(digest(n), now); }
                        None => prop_assert_eq!(answer, Seen::Known),
                    }
                }
                Step::Batch(numbers) => {
                    let entries: Vec<_> = numbers.iter().map(|&n| (digest(n), 1)).collect();
                    let digests: Vec<_> = numbers.iter().map(|&n| digest(n)).collect();
                    let mut answers = vec![Seen::Refused; entries.len()];
                    seen.prefetch_batch(&digests);
                    seen.probe_batch(now, &entries, &mut answers);
                    for ((digest, _), answer) in entries.into_iter().zip(answers) {
                        match oracle.insert(now, digest) {
                            Some(right) => prop_assert_eq!(answer, right),
                            None if answer == Seen::New => { oracle.first_seen.insert(digest, now); }
                            None => prop_assert_eq!(answer, Seen::Known),
                        }
                    }
                    // As the daemon does, at the latest after each batch.
                    grow(&seen, now);
                }
                Step::Wait(micros) => now = now + Duration::from_micros(micros),
                Step::Sweep(parts) => seen.sweep(now, parts),
                Step::Grow => {
                    if seen.bytes() < 512 << 10 {
                        let bytes = seen.bytes();
                        prop_assert!(seen.adopt(now, Generation::allocate(now, bytes)));
                    }
                }
            }
        }
        prop_assert_eq!(seen.take_shortened(), 0);
    }
}

#[test]
fn a_message_is_known_for_300_s_and_forgotten_by_302() {
    for start in [10_000_000, 10_999_999, 65_535_500_000] {
        let then = Instant(start);
        let seen = table(1 << 10, 1 << 10);
        assert_eq!(seen.insert(then, digest(1), 0), Seen::New);
        let last = then + LIFETIME;
        assert!(seen.contains(last, digest(1)));
        assert_eq!(seen.insert(last, digest(1), 0), Seen::Known);
        let gone = then + Duration::from_secs(302) - Instant(1).since(Instant(0));
        assert!(!seen.contains(gone, digest(1)));
        assert_eq!(seen.insert(gone, digest(1), 0), Seen::New);
    }
}

#[test]
fn a_known_message_is_not_kept_alive_by_its_copies() {
    let seen = table(1 << 10, 1 << 10);
    for second in 0..=300 {
        let right = if second == 0 { Seen::New } else { Seen::Known };
        assert_eq!(seen.insert(Instant::from_secs(second), digest(1), 0), right);
    }
    assert_eq!(
        seen.insert(Instant::from_secs(302), digest(1), 0),
        Seen::New
    );
}

#[test]
fn an_entry_ahead_of_its_reader_is_not_expired() {
    let seen = table(1 << 10, 1 << 10);
    let ahead = Instant::from_secs(65_537);
    assert_eq!(seen.insert(ahead, digest(1), 0), Seen::New);
    for behind in [1, 2, 10] {
        let now = ahead - Duration::from_secs(behind);
        assert_eq!(seen.insert(now, digest(1), 0), Seen::Known);
    }
}

#[test]
fn a_sweep_makes_stale_slots_younger_and_changes_nothing_that_is_remembered() {
    let seen = table(64 << 10, 64 << 10);
    for n in 0..1000 {
        seen.insert(Instant::from_secs(1000), digest(n), 0);
        seen.insert(Instant::from_secs(1200), digest(5000 + n), 0);
    }
    let look = |second| seen.tables.load().newest.look(second);
    assert_eq!(look(1300), (2000, 1700));
    seen.sweep(Instant::from_secs(1300), PARTS);
    assert_eq!(look(1300), (2000, 400));
    seen.sweep(Instant::from_secs(1301), PARTS);
    assert_eq!(look(1301).0, 1000);
    assert!((0..1000).all(|n| seen.contains(Instant::from_secs(1301), digest(5000 + n))));
    seen.sweep(Instant::from_secs(1900), PARTS);
    assert_eq!(look(1900), (0, 1000));
    seen.sweep(Instant::from_secs(1901), PARTS);
    assert_eq!(look(1901), (0, 901));
}

#[test]
fn sweeping_one_part_a_second_goes_round_before_seconds_wrap() {
    let seen = table(64 << 10, 64 << 10);
    for second in 0..5000 {
        seen.sweep(Instant::from_secs(second), 1);
    }
    assert!(seen.swept.load(Relaxed) > 2000);
}

/// Found by the property: live when swept, the entry was 32,768 s old half a wrap later.
#[test]
fn an_entry_does_not_grow_young_again_after_half_a_wrap() {
    for wait in 31_900..33_200 {
        let seen = table(1 << 10, 1 << 10);
        let start = Instant::from_secs(32_007);
        seen.insert(start, digest(1), 0);
        seen.sweep(start + LIFETIME, PARTS);
        seen.sweep(start + LIFETIME, PARTS);
        let later = start + Duration::from_secs(wait);
        assert_eq!(seen.insert(later, digest(1), 0), Seen::New, "{wait} s");
    }
}

#[test]
fn short_memory_shortens_the_lifetime_oldest_first_and_not_below_30_s() {
    // 8192 slots; 100 messages a second would need 30,000.
    let seen = table(64 << 10, 64 << 10);
    let at = |n: u64| Instant(n * 10_000);
    assert_eq!(seen.lifetime(), LIFETIME);
    for n in 0..40_000 {
        assert_eq!(seen.insert(at(n), digest(n), 0), Seen::New);
        let thirty_seconds_ago = n.saturating_sub(3000);
        assert_eq!(
            seen.insert(at(n), digest(thirty_seconds_ago), 0),
            Seen::Known
        );
    }
    assert!(seen.take_shortened() > 20_000);
    assert_eq!(seen.take_shortened(), 0);
    // 8192 slots hold 81 s; chance makes some pairs of buckets busier than the mean.
    let lifetime = seen.lifetime().as_secs();
    assert!((40..=81).contains(&lifetime), "{lifetime} s");
    // When the shortage is over, so is its display.
    seen.insert(at(40_000) + LIFETIME + LIFETIME, digest(99_999), 0);
    assert_eq!(seen.lifetime(), LIFETIME);
}

/// SECURITY T11, with less memory than 30 s of the flood need: 100,000 a second for a minute.
#[test]
fn a_flooding_neighbor_is_refused_and_a_second_one_loses_nothing() {
    let seen = table(1 << 20, 4 << 20);
    let mut number = 0;
    let (mut refused, mut kept) = (0_u64, std::collections::VecDeque::new());
    for millisecond in 0..60_000_u64 {
        let now = Instant(millisecond * 1000);
        let mut entries: Vec<_> = (0..100).map(|n| (digest(number + n), 0)).collect();
        number += 100;
        let good = digest(u64::MAX - millisecond);
        entries.push((good, 1));
        entries.push((digest(millisecond | 1 << 60), OWN));
        let mut answers = vec![Seen::Known; entries.len()];
        seen.probe_batch(now, &entries, &mut answers);
        assert_eq!(answers[100..], [Seen::New, Seen::New], "at {now:?}");
        refused += answers.iter().filter(|&&a| a == Seen::Refused).count() as u64;
        // And what is good stays known for 30 s, so that no copy of it goes round again.
        kept.push_back(good);
        if kept.len() > 30_000 {
            kept.pop_front();
        }
        assert!(seen.contains(now, kept[0]), "at {now:?}");
        grow(&seen, now);
        assert!(seen.bytes() <= 4 << 20);
    }
    assert!(refused > 4_000_000, "{refused} refused");
    assert!(seen.lifetime() >= SHORTEST_LIFETIME);
}

/// Large enough that the overflow cannot hide a bad spread: two thirds of a million slots young,
/// for as long as it takes that each was displaced.
#[test]
fn a_flood_does_not_shorten_the_lifetime_below_30_s_in_a_large_table() {
    let seen = table(8 << 20, 8 << 20);
    let mut answers = [Seen::Known; 100];
    for millisecond in 0..75_000_u64 {
        let now = Instant(millisecond * 1000);
        let entries: [_; 100] = std::array::from_fn(|n| (digest(millisecond * 100 + n as u64), 0));
        seen.probe_batch(now, &entries, &mut answers);
        if millisecond.is_multiple_of(10_000) {
            assert!(seen.lifetime() >= SHORTEST_LIFETIME, "at {now:?}");
        }
    }
    assert!(seen.take_shortened() > 100_000);
    assert!(seen.lifetime() >= SHORTEST_LIFETIME);
    assert!(seen.overflow.len() < 1000, "{}", seen.overflow.len());
}

#[test]
fn a_full_overflow_forgets_what_is_older_than_30_s_before_it_refuses() {
    let overflow = Overflow::new();
    let insert = |digest, second| overflow.insert(digest, second, 10, || false);
    for n in 0..10 {
        assert_eq!(insert(n, 100 + n / 5 * 20), (Entered::New, 0));
    }
    assert_eq!(insert(10, 130), (Entered::Full, 0));
    assert_eq!(insert(10, 131), (Entered::New, 5));
    assert!(!overflow.contains(0, 131));
    assert!(overflow.contains(9, 131) && overflow.contains(10, 131));
    assert_eq!(overflow.len(), 6);
    assert!(overflow.contains(10, 431) && !overflow.contains(10, 432));
}

#[test]
fn our_own_messages_are_never_refused_and_do_not_starve_a_neighbor() {
    let seen = table(16 << 10, 16 << 10);
    for n in 0..100_000_u64 {
        let now = Instant(n * 1000);
        assert_eq!(seen.insert(now, digest(n), OWN), Seen::New);
        // 500 in 30 s; of 2048 slots a fair half of three fifths is the neighbor's.
        if n.is_multiple_of(60) {
            assert_eq!(seen.insert(now, digest(n | 1 << 60), 7), Seen::New);
            // And they stay known for 30 s, or a copy could go round.
            let thirty_seconds_ago = digest(n.saturating_sub(30_000) | 1 << 60);
            assert!(seen.contains(now, thirty_seconds_ago), "at {now:?}");
        }
    }
    assert!(seen.is_short(Instant(100_000 * 1000)));
    assert!(seen.lifetime() >= SHORTEST_LIFETIME);
}

#[test]
fn neighbors_beyond_the_accounts_share_one_and_are_not_taken_for_ourselves() {
    let seen = table(16 << 10, 16 << 10);
    let now = Instant::from_secs(1);
    let insert = |n| seen.insert(now, digest(n), 256 + (n % 3) as u16);
    assert!((0..3_000).any(|n| insert(n) == Seen::Refused));
}

#[test]
fn a_refused_message_is_new_when_another_neighbor_brings_it() {
    let seen = table(16 << 10, 16 << 10);
    let now = Instant::from_secs(1);
    let refused = (0..3000)
        .map(digest)
        .find(|&digest| seen.insert(now, digest, 0) == Seen::Refused)
        .unwrap();
    assert!(!seen.contains(now, refused));
    assert_eq!(seen.insert(now, refused, 1), Seen::New);
    assert_eq!(seen.insert(now, refused, 0), Seen::Known);
}

#[test]
fn millions_of_messages_are_not_taken_for_each_other() {
    // As full as one neighbor may make it, so that most of the 16 slots compare.
    let seen = table(32 << 20, 32 << 20);
    let now = Instant::from_secs(1);
    let mut answers = [Seen::Known; 64];
    for batch in 0..39_000_u64 {
        let entries: [_; 64] = std::array::from_fn(|n| (digest(batch * 64 + n as u64), 0));
        seen.probe_batch(now, &entries, &mut answers);
        assert!(answers.iter().all(|&answer| answer == Seen::New));
    }
    for n in 0..10_000_000_u64 {
        assert!(!seen.contains(now, digest(n | 1 << 50)));
    }
}

/// The 48 bits that are kept count always, the others by choosing the bucket, of 65,536 here.
#[test]
fn every_bit_of_the_digest_counts() {
    let seen = table(4 << 20, 4 << 20);
    let now = Instant::from_secs(1);
    let mut mistaken = 0;
    for n in 0..1000 {
        seen.insert(now, digest(n), 0);
        for bit in 16..64 {
            assert!(!seen.contains(now, digest(n) ^ (1 << bit)), "bit {bit}");
        }
        let low = (0..16).map(|other| digest(n) & !0xFFFF | digest(n * 16 + other) >> 48);
        mistaken += low.filter(|&digest| seen.contains(now, digest)).count();
    }
    // 16,000 times 4 pairs of buckets in 65,536: one is expected.
    assert!(mistaken <= 6, "{mistaken}");
}

#[test]
fn a_table_of_any_size_is_used_to_its_last_bucket() {
    for bytes in (0..12_000).step_by(60) {
        let seen = table(bytes, bytes);
        let now = Instant::from_secs(1);
        let slots = seen.tables.load().newest.slots();
        assert!(slots as usize * 8 <= bytes.max(1024), "{bytes}");
        for n in 0..slots / 2 {
            assert_eq!(seen.insert(now, digest(n), 0), Seen::New, "{bytes}: {n}");
        }
        assert!(
            (0..slots / 2).all(|n| seen.contains(now, digest(n))),
            "{bytes}"
        );
        assert!(!seen.contains(now, u64::MAX));
        assert_eq!(seen.insert(now, u64::MAX, 0), Seen::New);
    }
}

#[test]
fn a_digest_of_zeros_is_a_digest() {
    let seen = table(1 << 10, 1 << 10);
    assert!(!seen.contains(Instant::ZERO, 0));
    assert_eq!(seen.insert(Instant::ZERO, 0, 0), Seen::New);
    assert_eq!(seen.insert(Instant::ZERO, 0, 0), Seen::Known);
}
