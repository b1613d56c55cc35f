//! Nanoseconds to parse one datagram: the header alone, as the data path does, and each message
//! whole, as control does.
//!
//! Run: `cargo bench -p overlay-tests --bench parse`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use wire::{Flags, HEADER_LEN, Header, Kind, Message, NetId};

fn datagram(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        kind,
        flags: Flags::NONE,
        nonce: 7,
        src: NetId(10),
        dst: NetId::ALL,
    };
    let mut bytes = vec![0; HEADER_LEN];
    header.emit(&mut bytes);
    bytes.extend(payload);
    bytes
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    let data = datagram(Kind::Data, &[0x45; 1_400]);
    group.bench_function("header", |b| {
        b.iter(|| black_box(Header::parse(black_box(&data))));
    });
    let inform = [9; 22];
    for (name, kind, payload) in [
        ("data", Kind::Data, &[0x45; 1_400][..]),
        ("hello", Kind::Hello, &[]),
        ("goodbye", Kind::Goodbye, &[]),
        ("ping", Kind::Ping, &[]),
        ("pong", Kind::Pong, &[]),
        ("inform", Kind::Inform, &inform),
    ] {
        let bytes = datagram(kind, payload);
        let parsed = Message::parse(&bytes);
        assert!(parsed.is_ok(), "{name} is a message: {parsed:?}");
        group.bench_function(name, |b| {
            b.iter(|| black_box(Message::parse(black_box(&bytes))));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2))
        .sample_size(50);
    targets = parse
}
criterion_main!(benches);
