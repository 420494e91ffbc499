//! What a block costs, in allocations and in bytes allocated: counts are the same on every machine, so
//! that a cost that creeps in fails here rather than in a benchmark that nobody runs.

use bytes::Bytes;
use gstkvsgetmedia::{
    item::Item,
    receiver::{Config, Receiver},
    request::Selector,
};
use kvs_local::synth::Synth;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

/// As large as the service's chunks are in the SDK's hands.
const CHUNK: usize = 64 * 1024;

/// The system's allocator, counting what this thread asks for.
struct Counting;

thread_local! {
    static COUNTED: Cell<Cost> = const { Cell::new(Cost { calls: 0, bytes: 0 }) };
}

#[derive(Debug, Clone, Copy)]
struct Cost {
    calls: u64,
    bytes: u64,
}

fn count(size: usize) {
    // A thread that is ending has no counter any more.
    let _ = COUNTED.try_with(|counted| {
        let Cost { calls, bytes } = counted.get();
        counted.set(Cost {
            calls: calls + 1,
            bytes: bytes + size as u64,
        });
    });
}

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a body costs from its chunks to its items.
fn cost(raw: bool, fragments: usize, frames: usize, frame: usize) -> (Cost, u64) {
    let synth = Synth::new().fragments(fragments).frames(frames);
    let body = synth.payload(frame, frame).build().recording();
    let chunks: Vec<Bytes> = body.chunks(CHUNK).map(Bytes::copy_from_slice).collect();
    let mut receiver = Receiver::new(Config {
        raw,
        ..Config::new(Selector::Earliest)
    });
    let mut items: Vec<Item> = Vec::new();
    let before = COUNTED.get();
    for chunk in chunks {
        receiver.push(chunk, &mut items).unwrap();
        black_box(&items);
        items.clear();
    }
    let after = COUNTED.get();
    let cost = Cost {
        calls: after.calls - before.calls,
        bytes: after.bytes - before.bytes,
    };
    (cost, body.len() as u64)
}

/// What each unit more costs: of bodies that differ in nothing but how many there are.
struct Marginal {
    calls: f64,
    /// Bytes allocated for each byte of the body.
    bytes: f64,
}

fn marginal(less: (Cost, u64), more: (Cost, u64), units: usize) -> Marginal {
    Marginal {
        calls: (more.0.calls - less.0.calls) as f64 / units as f64,
        bytes: (more.0.bytes - less.0.bytes) as f64 / (more.1 - less.1) as f64,
    }
}

#[test]
fn a_block_costs_no_allocation_and_no_copy() {
    // Frames of this size, and so many a chunk. Slices and items are made for each chunk, and a few for
    // each fragment of 2 MiB.
    for (frame, in_chunk) in [(1024, 60.0), (8 * 1024, 8.0), (100 * 1024, 0.64)] {
        for raw in [false, true] {
            let frames = (2 << 20) / frame;
            let less = cost(raw, 2, frames, frame);
            let more = cost(raw, 6, frames, frame);
            let found = marginal(less, more, 4 * frames);
            let in_chunk = found.calls * in_chunk;
            println!(
                "raw {raw}, frames of {frame}: {in_chunk:.2} allocations a chunk, {:.4} bytes a byte",
                found.bytes
            );
            assert!(
                in_chunk < 7.0,
                "{in_chunk} allocations a chunk, raw {raw}, frames of {frame}"
            );
            // The end of a block at the beginning of a chunk is copied where it is short.
            let bytes = found.bytes;
            assert!(
                bytes < 0.03,
                "{bytes} bytes allocated a byte, raw {raw}, frames of {frame}"
            );
        }
    }
}

#[test]
fn a_fragment_costs_few_allocations() {
    for raw in [false, true] {
        let found = marginal(cost(raw, 20, 10, 1000), cost(raw, 120, 10, 1000), 100);
        println!("raw {raw}: {:.1} allocations a fragment", found.calls);
        assert!(
            found.calls < 40.0,
            "{} allocations a fragment, raw {raw}",
            found.calls
        );
    }
}
