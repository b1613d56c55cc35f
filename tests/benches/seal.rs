//! What sealing costs: nanoseconds to seal and open one datagram by AEAD and size, microseconds of
//! a handshake for each side, and what a stranger's INIT costs.
//!
//! Run: `cargo bench -p overlay-tests --no-default-features --bench seal`

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use overlay::seal::aead::Aead;
use overlay::seal::handshake::{Answering, Initiation, Scope, Seed, check_init};
use overlay::seal::identity::Identity;
use overlay::seal::keys::{Key, MeshSecret};
use overlay::seal::local::Local;
use overlay::seal::session::LINK_OVERHEAD;
use overlay::time::Instant;
use overlay_tests::sessions::session_pair;
use wire::NetId;
use wire::sealed::INIT_LEN;

/// A small packet and a full one, as messages.
const SIZES: [usize; 2] = [80, 1416];

fn session(c: &mut Criterion) {
    for (name, aead) in [
        ("chacha20_poly1305", Aead::ChaCha20Poly1305),
        ("aes_256_gcm", Aead::Aes256Gcm),
    ] {
        let mut group = c.benchmark_group(format!("seal/{name}"));
        // Short: AES-256-GCM seals 2^26 datagrams by one key, and no more.
        group
            .measurement_time(Duration::from_secs(2))
            .warm_up_time(Duration::from_millis(500));
        for size in SIZES {
            let message = vec![0x45; size];
            group.throughput(Throughput::Bytes(size as u64));
            let [near, _] = session_pair(aead);
            let mut out = vec![0; size + LINK_OVERHEAD];
            group.bench_function(format!("seal_{size}"), |b| {
                b.iter(|| {
                    near.seal_into(black_box(&message), false, &mut out)
                        .expect("within its limit")
                });
            });
            let [near, far] = session_pair(aead);
            group.bench_function(format!("open_{size}"), |b| {
                let sealed = || {
                    let mut out = vec![0; size + LINK_OVERHEAD];
                    near.seal_into(&message, false, &mut out)
                        .expect("within its limit");
                    out
                };
                // In order, each once: a datagram opens a single time.
                let open = |datagram: &mut Vec<u8>| {
                    black_box(far.open(datagram).expect("the far end opens it").is_newest)
                };
                b.iter_batched_ref(sealed, open, BatchSize::NumIterations(64));
            });
        }
        group.finish();
    }
}

fn node(secret: u8, key: u8, netid: u32) -> Local {
    let keys = MeshSecret::new([secret; 32]).derive();
    let identity = Identity::new(Key::new([key; 32]), &Key::new([key ^ 0x80; 32]));
    Local::new(keys, identity, NetId(netid), 1, true)
}

fn seed(byte: u8) -> Seed {
    Seed::new([byte; 32])
}

fn begin(local: &Local) -> (Initiation, [u8; INIT_LEN]) {
    let mut out = [0; INIT_LEN];
    let begun = Initiation::begin(local, Scope::Link, 1, NetId::ANY, None, seed(3), &mut out);
    (begun.expect("any seed makes a key").0, out)
}

fn answer(local: &Local, init: &[u8]) -> (Answering, Vec<u8>) {
    let checked = check_init(&local.keys, Scope::Link, init).expect("a good INIT");
    let mut out = [0; INIT_LEN];
    let (answering, _, len) =
        Answering::answer(local, &checked, 2, seed(4), None, &mut out).expect("a good INIT");
    (answering, out[..len].to_vec())
}

fn complete(local: &Local, initiation: &mut Initiation, resp: &[u8]) -> Vec<u8> {
    let mut out = [0; INIT_LEN];
    let (_, _, len) = initiation
        .complete(local, Instant::ZERO, resp, None, &mut out)
        .expect("a good RESP");
    out[..len].to_vec()
}

fn handshake(c: &mut Criterion) {
    let (near, far) = (node(1, 10, 0x2a), node(1, 20, 7));
    let init = begin(&near).1;
    let resp = answer(&far, &init).1;
    let fin = complete(&near, &mut begin(&near).0, &resp);
    let mut group = c.benchmark_group("seal/handshake");
    let each = BatchSize::NumIterations(16);
    group.bench_function("initiator", |b| {
        b.iter(|| complete(&near, &mut begin(&near).0, black_box(&resp)));
    });
    group.bench_function("responder", |b| {
        b.iter(|| {
            let (mut answering, _) = answer(&far, black_box(&init));
            let finished = answering.finish(&far, Instant::ZERO, &fin);
            finished.expect("a good FIN").0.local_index()
        });
    });
    group.bench_function("responder_to_resp", |b| {
        b.iter_batched_ref(|| init, |init| answer(&far, init), each);
    });
    group.finish();
}

fn stranger(c: &mut Criterion) {
    let far = node(1, 20, 7);
    let init = begin(&node(2, 10, 0x2a)).1;
    c.bench_function("seal/init_of_a_stranger", |b| {
        b.iter(|| check_init(&far.keys, Scope::Link, black_box(&init)).is_err());
    });
}

criterion_group!(benches, session, handshake, stranger);
criterion_main!(benches);
