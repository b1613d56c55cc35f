//! A node that more is brought than it can handle, and what is left to those who bring little (SEALED.md S98):
//! the shares of the data path, and a kernel's buffer of fixed size in front of it.

use std::collections::VecDeque;

use overlay::id::NetId;
use overlay::pump::fair::Fair;
use overlay::time::{Duration, Instant};

/// Bytes of each datagram.
const LEN: u32 = 1_400;
/// Nanoseconds of work: to take a datagram from the buffer, and all that follows.
const TAKE: i64 = 30;
const HANDLE: i64 = 970;
/// Datagrams that can be handled in a millisecond.
const HANDLED: usize = 1_000;
/// Datagrams that the buffer holds.
const BUFFER: usize = 5_000;
/// Who brings how many in a millisecond: one ten times what can be handled, the others little.
const BROUGHT: [(NetId, usize); 3] = [(NetId(2), 10_000), (NetId(3), 200), (NetId(4), 100)];

/// The node: its shares, what waits in its buffer, and the time that it may still work.
struct Node {
    fair: Fair,
    now: Instant,
    queue: VecDeque<usize>,
    spare: i64,
    served: [usize; BROUGHT.len()],
}

impl Node {
    /// What is handled of each one's in so many milliseconds, in parts of what it brings.
    fn run(&mut self, steps: usize) -> Vec<f64> {
        self.served = [0; BROUGHT.len()];
        let most = BROUGHT[0].1;
        for _ in 0..steps {
            let mut lost = false;
            for n in 0..most {
                // Whoever brings less comes in between, evenly, and no two at once.
                for (who, (_, count)) in BROUGHT.iter().enumerate() {
                    let (before, after) = (n + 7 * who, n + 7 * who + 1);
                    if before * count / most != after * count / most {
                        let has_room = self.queue.len() < BUFFER;
                        lost |= !has_room;
                        self.queue.extend(has_room.then_some(who));
                    }
                }
                self.work(1_000_000 / most as i64);
            }
            self.now = self.now + Duration::from_millis(1);
            if lost || self.fair.is_saturated() {
                let filled = self.queue.len() as f64 / BUFFER as f64;
                self.fair.settle(self.now, filled, lost);
            }
        }
        let parts = self.served.iter().zip(BROUGHT);
        parts
            .map(|(served, (_, count))| *served as f64 / (count * steps) as f64)
            .collect()
    }

    /// Works for so many nanoseconds, or a little longer, which is missing the next time.
    fn work(&mut self, time: i64) {
        self.spare = (self.spare + time).min(time);
        while self.spare > 0
            && let Some(who) = self.queue.pop_front()
        {
            let (fair, now, netid) = (&mut self.fair, self.now, BROUGHT[who].0);
            self.spare -= TAKE;
            let is_taken = !fair.is_saturated()
                || fair.opens(now, netid, LEN) && fair.takes(now, netid, netid, LEN);
            if is_taken {
                self.served[who] += 1;
                self.spare -= HANDLE;
            }
        }
    }
}

#[test]
fn who_brings_less_than_a_share_loses_a_tenth_at_most_beside_one_at_ten_times_the_capacity() {
    for is_sealed in [false, true] {
        let mut node = Node {
            fair: Fair::new(is_sealed),
            now: Instant::ZERO,
            queue: VecDeque::new(),
            spare: 0,
            served: [0; BROUGHT.len()],
        };
        for (netid, _) in BROUGHT {
            node.fair.heard(node.now, netid, netid);
        }
        // Until the shares are settled.
        node.run(500);
        let parts = node.run(2_000);
        assert!(node.fair.is_saturated());
        assert!(parts[1] >= 0.9 && parts[2] >= 0.9, "{is_sealed}: {parts:?}");
        // What is left is its own, and is not wasted.
        let all: f64 = parts
            .iter()
            .zip(BROUGHT)
            .map(|(part, (_, count))| part * count as f64)
            .sum();
        assert!(all >= 0.7 * HANDLED as f64, "{is_sealed}: {parts:?}");
    }
}
