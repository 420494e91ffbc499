//! What the fuzz targets share.
//!
//! The parts of the plugin that are fuzzed know nothing of networks, so their files are compiled here
//! as they stand, without the AWS SDK: a build takes a minute, only what is looked at is instrumented,
//! and functions that are the crate's own can be called without being made public.

#![allow(dead_code)] // of the plugin's files, each target uses its part

#[path = "../../src/ebml/mod.rs"]
pub mod ebml;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/fragment/mod.rs"]
pub mod fragment;
#[path = "../../src/item.rs"]
pub mod item;
#[path = "../../src/lock.rs"]
pub mod lock;
#[path = "../../src/notice.rs"]
pub mod notice;
#[path = "../../src/receiver.rs"]
pub mod receiver;
#[path = "../../src/request.rs"]
pub mod request;
#[path = "../../src/resume.rs"]
pub mod resume;
#[path = "../../src/stats.rs"]
pub mod stats;
#[path = "../../src/timeline/mod.rs"]
pub mod timeline;

pub mod bus;
pub mod plan;

use bytes::Bytes;

/// Takes the sizes of chunks off the beginning of an input; what follows is a body.
pub fn sizes_and_body(input: &[u8]) -> ([usize; SIZES], Bytes) {
    let (sizes, body) = input.split_at(input.len().min(SIZES));
    let mut all = [1; SIZES];
    for (size, &byte) in all.iter_mut().zip(sizes) {
        *size = chunk_size(byte);
    }
    (all, Bytes::copy_from_slice(body))
}

/// How many bytes at the beginning of an input are sizes of chunks.
pub const SIZES: usize = 4;

/// Single bytes up to what makes a chunk a large one.
pub fn chunk_size(byte: u8) -> usize {
    match byte {
        0..128 => 1 + usize::from(byte),
        _ => 1 + usize::from(byte - 127) * 64,
    }
}

/// Cuts bytes into chunks of the given sizes, over and over.
pub fn in_chunks<'a>(bytes: &'a Bytes, sizes: &'a [usize]) -> impl Iterator<Item = Bytes> + 'a {
    let mut from = 0;
    sizes.iter().cycle().map_while(move |size| {
        let to = bytes.len().min(from + size);
        let chunk = (from < to).then(|| Bytes::copy_from_slice(&bytes[from..to]));
        from = to;
        chunk
    })
}
