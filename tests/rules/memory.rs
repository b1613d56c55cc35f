//! What the seen table no longer needs, the system has back.

use overlay::node::seen::{Generation, Seen, SeenConfig, SeenTable};
use overlay::time::Instant;

/// Resident MiB of this process.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim_end_matches("kB").trim().parse::<i64>().ok());
    kib.expect("the line holds a number") >> 10
}

/// What the daemon does once a second, and after a batch.
fn keep_house(seen: &SeenTable, now: Instant) {
    seen.sweep(now, 1);
    let wanted = seen.growth_wanted();
    if let Some(bytes) = wanted.or_else(|| seen.shrinking_wanted(now)) {
        assert!(seen.adopt(now, Generation::allocate(now, bytes)));
    }
}

/// Five million messages in ten seconds, then eleven minutes with one a second, at the default
/// size. Other tests of this program run beside it, hence the slack of 16 MiB.
#[test]
fn eleven_minutes_after_a_load_the_system_has_the_memory_back() {
    let before = resident();
    let seen = SeenTable::new(SeenConfig::default());
    let mut next = 0;
    let mut insert = |now| {
        // Spreads the bits of the number as a hash would.
        let digest = (next ^ 0x5EED_u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let digest = (digest ^ (digest >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        next += 1;
        assert_eq!(seen.insert(now, digest ^ (digest >> 32), 0), Seen::New);
    };
    for microseconds in (0..10_000_000).step_by(2) {
        insert(Instant(microseconds));
        if microseconds % 1024 == 0 {
            keep_house(&seen, Instant(microseconds));
        }
    }
    let loaded = resident() - before;
    let tables = (seen.bytes() >> 20) as i64;
    assert!(
        (80..=128).contains(&tables),
        "20 bytes a message: {tables} MiB"
    );
    assert!(loaded >= tables - 16, "{loaded} MiB of {tables} are there");
    for second in 10..10 + 11 * 60 {
        insert(Instant::from_secs(second));
        keep_house(&seen, Instant::from_secs(second));
    }
    assert_eq!(seen.bytes(), SeenConfig::default().start_bytes);
    let after = resident() - before;
    assert!(after <= 16, "{after} MiB of {loaded} are still there");
}
