//! How the size follows the traffic, and that nothing is forgotten on the way.

use super::super::round::OVERFLOW_MOST;
use super::*;

/// What the daemon does once a second.
fn keep_house(seen: &SeenTable, now: Instant) {
    seen.sweep(now, 1);
    let wanted = seen.growth_wanted();
    if let Some(bytes) = wanted.or_else(|| seen.shrinking_wanted(now)) {
        seen.adopt(now, Generation::allocate(now, bytes));
    }
}

/// Lets one second of `rate` messages pass; the first has number `next`.
fn one_second(seen: &SeenTable, second: u64, next: &mut u64, rate: u64) {
    for n in 0..rate {
        let now = Instant(second * 1_000_000 + n * 1_000_000 / rate);
        assert_eq!(seen.insert(now, digest(*next), 0), Seen::New, "at {now:?}");
        *next += 1;
        // The data path asks after each batch.
        if n.is_multiple_of(16) {
            grow(seen, now);
        }
    }
    keep_house(seen, Instant::from_secs(second));
    assert!(seen.bytes() <= seen.memory_bytes);
}

/// Two minutes of load and then a message a second.
#[test]
fn after_load_and_ten_minutes_of_quiet_a_table_is_as_small_as_at_its_start() {
    for (rate, bound) in [(1000, 4 << 20), (2000, 8 << 20)] {
        let seen = table(64 << 10, bound);
        let mut next = 0;
        // The first message of each second.
        let mut firsts = vec![];
        let mut most = 0;
        for second in 0..=120 + 620 {
            firsts.push(next);
            one_second(
                &seen,
                second,
                &mut next,
                if second < 120 { rate } else { 1 },
            );
            most = most.max(seen.bytes());
            if second.is_multiple_of(7) {
                let live = firsts[(second as usize).saturating_sub(300)];
                let all = (live..next).step_by(13);
                let now = Instant(second * 1_000_000 + 999_999);
                let forgotten = all.filter(|&n| !seen.contains(now, digest(n))).count();
                assert_eq!(forgotten, 0, "in second {second}");
            }
        }
        assert!(most > 16 * (64 << 10), "it grew to {most}");
        assert_eq!(seen.bytes(), 64 << 10);
        assert_eq!(seen.take_shortened(), 0);
    }
}

/// From half full, when it asks, to four fifths: at a million a second, 150 ms of the first table.
#[test]
fn nothing_is_refused_or_forgotten_while_a_larger_table_is_being_made() {
    let seen = table(4 << 20, 256 << 20);
    let now = Instant::from_secs(1);
    let most = (4 << 20) / 8 * 4 / 5 - 4;
    for n in 0..most {
        assert_eq!(seen.insert(now, digest(n), 0), Seen::New, "message {n}");
    }
    assert!(grow(&seen, now));
    assert!((0..most).all(|n| seen.contains(now, digest(n))));
    assert_eq!(seen.insert(now, digest(most), 0), Seen::New);
    assert_eq!(seen.take_shortened(), 0);
}

#[test]
fn a_table_at_its_bound_shrinks_all_the_same() {
    let seen = table(64 << 10, 512 << 10);
    let mut next = 0;
    for second in 0..400 {
        one_second(&seen, second, &mut next, 400);
    }
    assert!(seen.take_shortened() > 10_000, "more than it holds");
    let full = seen.bytes();
    assert!(full > 200 << 10, "{full}");
    for second in 400..400 + 620 {
        one_second(&seen, second, &mut next, 1);
    }
    assert_eq!(seen.bytes(), 64 << 10);
}

#[test]
fn traffic_that_comes_and_goes_does_not_make_it_flap() {
    for (on, off, rate) in [(60, 60, 300), (10, 280, 1000), (1, 9, 2000)] {
        let seen = table(64 << 10, 16 << 20);
        let mut next = 0;
        let mut settled = 0;
        for second in 0..3600 {
            let busy = second % (on + off) < on;
            one_second(&seen, second, &mut next, if busy { rate } else { 1 });
            if second == 1200 {
                settled = seen.tables.load().generation;
            }
        }
        assert_eq!(
            seen.tables.load().generation,
            settled,
            "{on} s on, {off} s off"
        );
    }
}

#[test]
fn steady_traffic_of_any_rate_ends_in_one_table_that_fits() {
    for rate in [1, 3, 5, 10, 20, 40, 80, 160, 320] {
        let seen = table(16 << 10, 4 << 20);
        let mut next = 0;
        // A busy first minute, so that small rates have to come down.
        for second in 0..3000 {
            one_second(
                &seen,
                second,
                &mut next,
                if second < 60 { 500 } else { rate },
            );
        }
        let settled = seen.tables.load().generation;
        for second in 3000..4000 {
            one_second(&seen, second, &mut next, rate);
        }
        assert_eq!(seen.tables.load().generation, settled, "{rate} a second");
        let per_entry = seen.bytes() as f64 / (rate * 300) as f64;
        let least = seen.bytes() == 16 << 10;
        assert!(
            per_entry >= 15.0 && (per_entry <= 128.0 || least),
            "{rate} a second: {per_entry}"
        );
        assert_eq!(seen.take_shortened(), 0);
    }
}

#[test]
fn growth_forgets_nothing_and_frees_the_old_tables() {
    let seen = table(4 << 10, 2 << 20);
    let mut sizes = vec![seen.bytes()];
    let at = |n: u64| Instant(n * 10_000);
    // 20,000 messages in 200 s: 512 slots would never do.
    for n in 0..20_000 {
        assert_eq!(seen.insert(at(n), digest(n), 0), Seen::New, "message {n}");
        for before in [1, 2, 3, 100, 1000, 19_999] {
            let before = n.saturating_sub(before);
            assert_eq!(seen.insert(at(n), digest(before), 1), Seen::Known);
        }
        if grow(&seen, at(n)) {
            sizes.push(seen.bytes());
        }
    }
    assert_eq!(
        sizes,
        [4 << 10, 12 << 10, 32 << 10, 80 << 10, 200 << 10, 500 << 10]
    );
    assert!((0..20_000).all(|n| seen.contains(at(20_000), digest(n))));
    assert_eq!(seen.take_shortened(), 0);
    seen.sweep(at(20_000) + Duration::from_secs(320), 1);
    assert_eq!(seen.bytes(), 300 << 10);
    assert_eq!(seen.growth_wanted(), None);
}

#[test]
fn tables_never_exceed_the_memory_bound() {
    for (start, bound) in [
        (4 << 10, 256 << 10),
        (4 << 10, 100_000),
        (64 << 10, 16 << 10),
    ] {
        let seen = table(start, bound);
        for n in 0..200_000_u64 {
            let now = Instant(n * 5_000);
            assert_ne!(seen.insert(now, digest(n), 0), Seen::Known);
            grow(&seen, now);
            assert!(seen.bytes() <= bound, "{} of {bound}", seen.bytes());
            assert!(seen.overflow.len() <= OVERFLOW_MOST);
            if n.is_multiple_of(1000) {
                seen.sweep(now, 1);
            }
        }
        let used = seen.bytes() as f64 / bound as f64;
        assert!(used > 0.5, "most of the bound is of use: {used}");
    }
    let seen = table(4 << 10, 8 << 10);
    assert!(!seen.adopt(Instant::ZERO, Generation::allocate(Instant::ZERO, 32 << 10)));
}
