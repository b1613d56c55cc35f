//! Nanoseconds to hash one message, by algorithm and size, and over two mixes of traffic:
//! `imix` is the classic 7 : 4 : 1 of small, medium and full datagrams, `bulk` a TCP transfer's
//! two full datagrams to one acknowledgement. The mixes decide `Algorithm::default`.
//!
//! Run: `cargo bench -p overlay-tests --no-default-features --bench hash`

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use overlay::node::hash::{Algorithm, MessageHasher};

const KEY: [u64; 4] = [11, 22, 33, 44];
const SMALL: usize = 80;
const MEDIUM: usize = 576;
const FULL: usize = 1416;

fn hash(c: &mut Criterion) {
    let datagram = [0xA5_u8; FULL];
    let mixes: [(&str, &[usize]); 5] = [
        ("80", &[SMALL]),
        ("576", &[MEDIUM]),
        ("1416", &[FULL]),
        (
            "imix_of_12",
            &[
                SMALL, MEDIUM, SMALL, SMALL, MEDIUM, SMALL, FULL, SMALL, MEDIUM, SMALL, MEDIUM,
                SMALL,
            ],
        ),
        ("bulk_of_3", &[FULL, FULL, SMALL]),
    ];
    for (name, sizes) in mixes {
        let mut group = c.benchmark_group(format!("hash/{name}"));
        for algorithm in Algorithm::ALL {
            let hasher = MessageHasher::new(algorithm, KEY);
            group.bench_function(algorithm.name(), |b| {
                b.iter(|| {
                    for &size in sizes {
                        black_box(hasher.digest(black_box(&datagram[..size])));
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, hash);
criterion_main!(benches);
