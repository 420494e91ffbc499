//! `receiver::Receiver` in continuous mode: a stream of any times, over connections that break, holds
//! the same frames in the same order on the tracks that were announced first; its segments never go
//! back, and no frame stands before the segment it is in.

#![no_main]

use bytes::Bytes;
use gst_plugin_kvsgetmedia_fuzz::{
    chunk_size,
    ebml::{schema, write},
    in_chunks,
    item::Item,
    plan::{Plan, Stream},
    receiver::Receiver,
};
use kvs_local::mkv;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|plan: Plan| {
    let stream = plan.stream();
    let items = receive(&plan, &stream);
    let mut bytes = Vec::new();
    let mut info = Vec::new();
    // Where in the bytes each segment begins, and when.
    let mut segments: Vec<(usize, u64)> = Vec::new();
    for item in &items {
        match item {
            Item::Data(data) => {
                data.pieces
                    .iter()
                    .for_each(|piece| add(&mut bytes, piece, &info));
                assert!(data.pts.is_none_or(|pts| pts < i64::MAX as u64 * 2));
            }
            Item::Segment(segment) => {
                let last = segments.last().map_or(0, |last| last.1);
                assert!(segment.start >= last, "segments never go back");
                assert!(
                    segment.start < u64::MAX && segment.time < u64::MAX,
                    "they are times"
                );
                segments.push((bytes.len(), segment.start));
            }
            Item::Opened(opened) => {
                info.clear();
                let mut scale = Vec::new();
                write::unsigned(&mut scale, schema::TIMESTAMP_SCALE, opened.scale);
                write::element(&mut info, schema::INFO, &scale);
            }
            Item::FragmentStart(start) => assert!(start.first_pts.is_some()),
            Item::TracksChanged(change) => assert!(change.compatible),
            _ => (),
        }
    }
    let reading = mkv::read(&Bytes::from(bytes));
    let beyond = |problem: &mkv::Problem| matches!(problem, mkv::Problem::BadBlock { .. });
    if !plan.tame && reading.problems.iter().any(beyond) {
        // The other reader knows no times beyond 2262.
        return;
    }
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    let found: Vec<&mkv::Frame> = reading.frames().collect();
    let sent: Vec<_> = stream.documents.iter().flat_map(|d| &d.frames).collect();
    assert_eq!(found.len(), sent.len(), "every frame once");
    let mut numbers = [None, None];
    for (found, (audio, payload)) in found.iter().zip(&sent) {
        assert_eq!(found.payload, *payload, "in order");
        let number = numbers[usize::from(*audio)].get_or_insert(found.track);
        assert_eq!(*number, found.track, "tracks keep their numbers");
    }
    let ends = items
        .iter()
        .filter(|item| matches!(item, Item::FragmentEnd(_)));
    let frames: u32 = ends
        .map(|end| {
            if let Item::FragmentEnd(end) = end {
                end.frames
            } else {
                0
            }
        })
        .sum();
    assert!(frames as usize <= sent.len());
    check_times(&reading, &segments);
});

/// Adds a piece. Documents after the first say no scale, which is the first one's: a demuxer remembers
/// it, the reader here does not.
fn add(bytes: &mut Vec<u8>, piece: &[u8], info: &[u8]) {
    const HEADER: [u8; 17] = [
        0x1A, 0x45, 0xDF, 0xA3, 1, 0, 0, 0, 0, 0, 0, 0, 0x18, 0x53, 0x80, 0x67, 0xFF,
    ];
    let header = piece
        .windows(HEADER.len())
        .position(|window| window == HEADER);
    let (before, after) = piece.split_at(header.map_or(0, |at| at + HEADER.len()));
    bytes.extend_from_slice(before);
    if header.is_some() {
        bytes.extend_from_slice(info);
    }
    bytes.extend_from_slice(after);
}

/// A segment begins behind the header of each document, and holds for all of it.
fn check_times(reading: &mkv::Reading, segments: &[(usize, u64)]) {
    for document in &reading.documents {
        let range = document.offset..=document.offset + document.len;
        let segment = segments.iter().find(|segment| range.contains(&segment.0));
        let &(_, start) = segment.expect("a segment for each header");
        for frame in &document.frames {
            let time = u64::try_from(frame.time_ns).expect("no time before the beginning");
            assert!(
                time >= start,
                "a frame at {time} in a segment from {start} on"
            );
        }
    }
}

fn receive(plan: &Plan, stream: &Stream) -> Vec<Item> {
    let config = plan.config();
    let mut request = config.start.clone();
    let mut receiver = Receiver::new(config);
    let mut items = Vec::new();
    let sizes = plan.chunks.map(chunk_size);
    let cuts = plan.cuts.iter().take(6).map(|&cut| Some(cut));
    let mut now = 0;
    for cut in cuts.chain([None]) {
        receiver.open();
        let body = stream.body(&request);
        let len = cut.map_or(body.len(), |cut| (body.len() * usize::from(cut)) >> 16);
        for chunk in in_chunks(&body.slice(..len), &sizes) {
            now += 10_000_000;
            receiver.arrives(now);
            receiver.push(chunk, &mut items).unwrap();
        }
        request = receiver.position().request();
    }
    receiver.finish(&mut items).unwrap();
    items
}
