//! Trains of all shapes to neighbors of all kinds: what arrives is what was sent, datagram by
//! datagram, whatever sizes follow each other and whatever each path takes.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

/// Datagrams of one batch at the most.
const BATCH: u32 = 160;

struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0.next_u32() % bound
    }

    /// Runs of equal sizes, between them what ends a train: a shorter one, a longer one, an empty
    /// one; and sizes that change for good, as after a change of the device's MTU.
    fn sizes(&mut self) -> Vec<u32> {
        let mut sizes = Vec::new();
        let mut size = 1 + self.below(1_416);
        let count = 1 + self.below(BATCH);
        while sizes.len() < count as usize {
            match self.below(8) {
                0 => size = 1 + self.below(1_416),
                1 => sizes.push(self.below(size + 1)),
                2 => sizes.push(size + 1),
                3 => sizes.push(0),
                _ => sizes.extend((0..self.below(40)).map(|_| size)),
            }
        }
        sizes.truncate(count as usize);
        sizes
    }
}

#[test]
fn neighbors_with_different_mtu_get_every_datagram_of_trains_of_unequal_size_in_order() {
    let is_long = std::env::var("FLOODMESH_LONG").is_ok_and(|value| value == "1");
    let rounds = if is_long { 20_000 } else { 1_000 };
    let mut far = Node::new(bind(&[
        "127.0.0.1:0",
        "127.0.0.1:0",
        "[::1]:0",
        "127.0.0.1:0",
    ]));
    let mut near = Node::new(bind(&["127.0.0.1:0", "[::1]:0"]));
    // The third is reached over IPv6.
    let neighbors = links(&[0, 1, 2, 3].map(|far_socket: u8| {
        let socket = SocketId(u8::from(far_socket == 2));
        path(socket, address_of(&far.sockets, SocketId(far_socket)))
    }));
    // What goes whole to each; 0 is no limit. What is longer leaves in another way, alone.
    for (index, whole) in [0, 600, 1_300, 1_000].into_iter().enumerate() {
        stats(&neighbors, index).whole.store(whole, Relaxed);
    }
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(20));
    let mut arena = vec![0; (BATCH * 1_420) as usize];
    dice.0.fill_bytes(&mut arena);
    let mut made = 0;
    for round in 0..rounds {
        let mut tx = TxBatch::default();
        let mut start = 0;
        for len in dice.sizes() {
            let from = dice.below(12) as u16;
            tx.push(Span { start, len }, (from < 4).then_some(from));
            // Mostly side by side, sometimes with a gap.
            start += len + u32::from(dice.below(20) == 0);
        }
        near.flush_batch(&neighbors, &arena, &tx);
        for index in 0..4 {
            let mine = tx.items().iter().filter(|item| item.except != Some(index));
            let expected: Vec<&[u8]> = mine.map(|item| item.span.of(&arena)).collect();
            let received = far.expect(SocketId(index as u8), expected.len());
            assert!(
                bytes_of(&received) == expected,
                "round {round}, neighbor {index}"
            );
            made += expected.len();
        }
    }
    println!("{made} datagrams");
    assert_eq!(near.counters.total(Total::Sent), made as u64);
}
