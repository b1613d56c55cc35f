//! Which counters of a session were opened: a window of 8,192, shared by workers without a lock.
//!
//! Lock-free: one atomic word holds the marks of 32 counters together with the *round* in which
//! its slot is used, so that marking a counter, and clearing a slot for a later round, is one
//! compare-and-swap of one word. Rounds only rise; a mark is lost only to a later round of its
//! slot, 8,224 counters on, which the window has left behind by then. So nothing is accepted
//! twice, whatever the order in which workers come.
//!
//! ```text
//! counter = (round * SLOTS + slot) * 32 + bit          word = round << 32 | marks
//! ```
//!
//! Use: [`Window::peek`] before opening (spares the work), [`Window::commit`] after it (decides).
//! Compare RFC 6479, which needs a lock; IEEE 802.1CB's lesson is to keep a mark for each number.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::planted::{self, Mistake};

/// Counters that are remembered below and with the highest (S23).
pub const WINDOW: u64 = 8_192;
/// A counter further ahead than this is refused (S23).
pub const LEAP: u64 = 1 << 24;

/// The window, and one slot more: its ends share no slot.
const SLOTS: u64 = WINDOW / 32 + 1;

/// The marks of one direction. Calls: from any thread at once. 2 KiB.
pub struct Window {
    slots: Box<[AtomicU64]>,
    /// One more than the highest counter that was committed; 0 before the first.
    end: AtomicU64,
}

/// What a window says to a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Never seen.
    Fresh,
    /// Seen before.
    Replayed,
    /// Too far below the highest to know.
    TooOld,
    /// Too far above the highest to be honest.
    TooFar,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            end: AtomicU64::new(0),
        }
    }
}

impl Window {
    /// One more than the highest counter committed.
    pub fn end(&self) -> u64 {
        self.end.load(Relaxed)
    }

    /// Whether it is worth opening a datagram of this counter. Changes nothing.
    pub fn peek(&self, counter: u64) -> Judgement {
        if self.is_too_old(counter) {
            return Judgement::TooOld;
        }
        let (slot, round, mark) = place(counter);
        let word = self.slots[slot].load(Relaxed);
        if word >> 32 > round {
            Judgement::TooOld
        } else if word >> 32 == round && word & mark != 0 && !planted::is(Mistake::WindowSlip) {
            Judgement::Replayed
        } else {
            Judgement::Fresh
        }
    }

    /// Enters the counter of a datagram that was opened; `Fresh` for one caller only, ever.
    ///
    /// State: changes only when it says `Fresh`.
    pub fn commit(&self, counter: u64) -> Judgement {
        if counter >= self.end().saturating_add(LEAP) {
            return Judgement::TooFar;
        }
        self.enter(counter)
    }

    /// As [`Self::commit`], however far ahead the counter is: for who may miss any number of them.
    pub fn enter(&self, counter: u64) -> Judgement {
        let end = self.end();
        if self.is_too_old(counter) {
            return Judgement::TooOld;
        }
        let (slot, round, mark) = place(counter);
        let slips = planted::is(Mistake::WindowSlip) && counter + 1 == end;
        let word = &self.slots[slot];
        let mut current = word.load(Relaxed);
        loop {
            let next = match (current >> 32).cmp(&round) {
                std::cmp::Ordering::Greater => return Judgement::TooOld,
                std::cmp::Ordering::Equal if current & mark != 0 && !slips => {
                    return Judgement::Replayed;
                }
                std::cmp::Ordering::Equal => current | mark,
                std::cmp::Ordering::Less => round << 32 | mark,
            };
            match word.compare_exchange_weak(current, next, Relaxed, Relaxed) {
                Ok(_) => break,
                Err(changed) => current = changed,
            }
        }
        if counter >= end {
            self.end.fetch_max(counter + 1, Relaxed);
        }
        Judgement::Fresh
    }

    fn is_too_old(&self, counter: u64) -> bool {
        counter.saturating_add(WINDOW) < self.end()
    }
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Window(end {})", self.end())
    }
}

/// Slot, round and mark of a counter. A round fits 32 bits: counters end at 2^44.
const fn place(counter: u64) -> (usize, u64, u64) {
    let block = counter / 32;
    ((block % SLOTS) as usize, block / SLOTS, 1 << (counter % 32))
}

const _: () = assert!(wire::sealed::COUNTER_LIMIT / 32 / SLOTS <= u32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// The rule of S23, word by word.
    #[derive(Default)]
    struct Oracle {
        seen: HashSet<u64>,
        highest: Option<u64>,
    }

    impl Oracle {
        fn judge(&self, counter: u64) -> Judgement {
            match self.highest {
                Some(highest) if counter + WINDOW <= highest => Judgement::TooOld,
                Some(highest) if counter > highest + LEAP => Judgement::TooFar,
                None if counter >= LEAP => Judgement::TooFar,
                _ if self.seen.contains(&counter) => Judgement::Replayed,
                _ => Judgement::Fresh,
            }
        }

        fn commit(&mut self, counter: u64) -> Judgement {
            let judgement = self.judge(counter);
            if judgement == Judgement::Fresh {
                self.seen.insert(counter);
                self.highest = self.highest.max(Some(counter));
            }
            judgement
        }
    }

    /// Steps that stay near, leap, and come back across the window's edges.
    fn steps() -> impl Strategy<Value = Vec<i64>> {
        let edge = WINDOW as i64;
        let step = prop_oneof![
            8 => -40_i64..40,
            4 => -edge - 70..edge + 70,
            2 => prop::sample::select(vec![-edge - 1, -edge, -edge + 1, edge, 32, -32, 8224, -8224]),
            1 => 0..LEAP as i64 + 2,
            1 => prop::sample::select(vec![LEAP as i64 - 1, LEAP as i64, LEAP as i64 + 1]),
        ];
        prop::collection::vec(step, 1..400)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_window_says_what_a_set_says(start in prop_oneof![Just(0_u64), 0..LEAP], steps in steps()) {
            let (window, mut oracle) = (Window::default(), Oracle::default());
            let mut counter = start;
            for step in steps {
                counter = counter.saturating_add_signed(step).min(wire::sealed::COUNTER_LIMIT - 1);
                let expected = oracle.judge(counter);
                if expected != Judgement::TooFar {
                    prop_assert_eq!(window.peek(counter), expected, "peek {}", counter);
                }
                prop_assert_eq!(window.commit(counter), oracle.commit(counter), "commit {}", counter);
                prop_assert_eq!(window.end(), oracle.highest.map_or(0, |highest| highest + 1));
            }
        }
    }

    #[test]
    fn a_session_in_order_and_its_replay_are_told_apart_to_the_end_of_the_window() {
        let window = Window::default();
        for counter in 0..3 * WINDOW {
            assert_eq!(window.commit(counter), Judgement::Fresh);
            assert_eq!(window.commit(counter), Judgement::Replayed);
        }
        for counter in 0..3 * WINDOW {
            let expected = if counter < 2 * WINDOW {
                Judgement::TooOld
            } else {
                Judgement::Replayed
            };
            assert_eq!(window.peek(counter), expected, "{counter}");
        }
    }

    #[test]
    fn the_end_of_the_counters_does_not_overflow() {
        let window = Window::default();
        for counter in [u64::MAX, u64::MAX - 1, wire::sealed::COUNTER_LIMIT] {
            assert_eq!(window.commit(counter), Judgement::TooFar);
            let _ = window.peek(counter);
        }
        window.end.store(wire::sealed::COUNTER_LIMIT - 1, Relaxed);
        assert_eq!(
            window.commit(wire::sealed::COUNTER_LIMIT - 1),
            Judgement::Fresh
        );
    }

    #[test]
    fn of_many_threads_that_bring_the_same_counters_one_gets_each() {
        const COUNTERS: u64 = 200_000; // a multiple of 64
        let window = Window::default();
        let accepted: Vec<AtomicU64> = (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (window, accepted) = (&window, &accepted);
                scope.spawn(move || {
                    // Each in an order of its own, within the window.
                    for counter in (0..COUNTERS).map(|at| at ^ (thread * 37 % 64)) {
                        if window.commit(counter) == Judgement::Fresh {
                            accepted[counter as usize].fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        // A counter that every thread was too late for is possible; one that two got is not.
        assert!(accepted.iter().all(|times| times.load(Relaxed) <= 1));
        let last = accepted.iter().rev().take(64);
        assert!(last.map(|times| times.load(Relaxed)).eq([1; 64]));
    }
}
