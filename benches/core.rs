//! The sans-IO parts: how fast a body goes through each, beside a copy of the same bytes.
//!
//! `cargo bench --bench core`. Throughput is in bytes of the body; chunks are those of an SDK's body.
//!
//! Instructions, which do not depend on what else the machine does, are counted by valgrind: some 870
//! a block, the differences between frames of 1 and of 8 KiB, of which there are 16,384 and 2,048.
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*gstkvsgetmedia*push*' target/release/deps/core-… \
//!     --bench --test 'frames of 8 KiB/receiver, continuous'
//! ```

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gstkvsgetmedia::{
    ebml::Reader,
    fragment::Assembler,
    item::Item,
    receiver::{self, Receiver},
    request::Selector,
};
use kvs_local::synth::Synth;
use std::hint::black_box;

const CHUNK: usize = 64 * 1024;

/// About 16 MiB of fragments, in frames of the given size.
fn body(frame: usize) -> Bytes {
    let frames = (1 << 20) / frame;
    let synth = Synth::new()
        .fragments(16)
        .frames(frames)
        .payload(frame, frame);
    synth.build().recording()
}

/// As the network gives them: each chunk in memory of its own.
fn chunks(body: &Bytes) -> Vec<Bytes> {
    body.chunks(CHUNK).map(Bytes::copy_from_slice).collect()
}

/// What takes the chunks of a body.
type Part = fn(Vec<Bytes>);

fn receiver(raw: bool) -> Receiver {
    Receiver::new(receiver::Config {
        raw,
        ..receiver::Config::new(Selector::Earliest)
    })
}

fn read(chunks: Vec<Bytes>) {
    let mut reader = Reader::default();
    for chunk in chunks {
        reader.push(chunk);
        while let Some(event) = reader.next().expect("a body that is well-formed") {
            black_box(event);
        }
    }
}

fn assemble(chunks: Vec<Bytes>) {
    let mut assembler = Assembler::default();
    for chunk in chunks {
        assembler.push(chunk);
        while let Some(event) = assembler.next().expect("a body that is well-formed") {
            black_box(event);
        }
    }
}

fn receive(raw: bool, chunks: Vec<Bytes>) {
    let mut receiver = receiver(raw);
    let mut items: Vec<Item> = Vec::new();
    for chunk in chunks {
        receiver
            .push(chunk, &mut items)
            .expect("a body that is well-formed");
        black_box(&items);
        items.clear();
    }
}

fn copy(chunks: Vec<Bytes>) {
    let mut into = vec![0; CHUNK];
    for chunk in chunks {
        into[..chunk.len()].copy_from_slice(&chunk);
        black_box(&into);
    }
}

fn core(criterion: &mut Criterion) {
    for (frame, label) in [
        (1024, "1 KiB"),
        (8 * 1024, "8 KiB"),
        (100 * 1024, "100 KiB"),
    ] {
        let body = body(frame);
        let mut group = criterion.benchmark_group(format!("frames of {label}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.sample_size(20);
        let parts: [(&str, Part); 5] = [
            ("copy", copy),
            ("reader", read),
            ("assembler", assemble),
            ("receiver, continuous", |chunks| receive(false, chunks)),
            ("receiver, raw", |chunks| receive(true, chunks)),
        ];
        for (name, run) in parts {
            group.bench_function(name, |bench| {
                bench.iter_batched(|| chunks(&body), run, BatchSize::LargeInput);
            });
        }
    }
}

criterion_group!(benches, core);
criterion_main!(benches);
