//! Whatever a body holds: a clear error or whole frames, never a panic, never unbounded memory.

mod common;

use bytes::Bytes;
use common::*;
use gstkvsgetmedia::{
    ebml::{self, Event, Reader, schema},
    error::ErrorKind,
    fragment,
    item::{GapKind, Item},
    receiver::{Config, Receiver},
    request::Selector,
};
use kvs_local::{mkv, synth::Synth};
use proptest::prelude::*;

fn receive(
    bytes: impl Into<Bytes>,
    chunk: usize,
) -> (Vec<Item>, Result<(), gstkvsgetmedia::error::Error>) {
    let mut receiver = Receiver::new(Config::new(Selector::Earliest));
    let mut items = Vec::new();
    receiver.open();
    let result = feed(&mut receiver, &bytes.into(), chunk, &mut items).map(drop);
    (items, result)
}

fn error_of(bytes: &[u8]) -> ebml::Error {
    let mut reader = Reader::default();
    reader.push(Bytes::copy_from_slice(bytes));
    loop {
        match reader.next() {
            Ok(Some(_)) => (),
            Ok(None) => panic!("no error"),
            Err(error) => return error,
        }
    }
}

const HEADER: [u8; 10] = [0x1A, 0x45, 0xDF, 0xA3, 0x80, 0x18, 0x53, 0x80, 0x67, 0xFF];
const CLUSTER: [u8; 5] = [0x1F, 0x43, 0xB6, 0x75, 0xFF];

/// Documents that are nothing add up.
#[test]
fn documents_without_a_name_are_not_kept() {
    let mut nameless = Vec::new();
    ebml::write::element(&mut nameless, schema::EBML, &[]);
    ebml::write::start_unknown_size(&mut nameless, schema::SEGMENT);
    ebml::write::element(&mut nameless, schema::VOID, &vec![0; 1 << 20]);
    for raw in [false, true] {
        let mut receiver = Receiver::new(Config {
            raw,
            ..Config::new(Selector::Earliest)
        });
        receiver.open();
        let chunk = Bytes::from(nameless.clone());
        let error = (0..20).find_map(|_| receiver.push(chunk.clone(), &mut Vec::new()).err());
        assert!(
            error.expect("an error").message.contains("16777216"),
            "raw {raw}"
        );
    }
}

/// Of documents that neither begin nor end properly, one is held back, not all there are.
#[test]
fn documents_without_an_end_are_not_kept() {
    let media = Synth::new()
        .fragments(500)
        .each(|_, fragment| {
            fragment.media = false;
            fragment.trailing_tags = false;
        })
        .build();
    let mut receiver = Receiver::new(Config::new(Selector::Earliest));
    receiver.open();
    for (index, fragment) in media.fragments.iter().enumerate() {
        let mut items = Vec::new();
        receiver
            .push(fragment.document.clone(), &mut items)
            .unwrap();
        let ended = items
            .iter()
            .filter(|item| matches!(item, Item::FragmentEnd(_)));
        assert_eq!(ended.count(), usize::from(index > 1), "{index}");
    }
}

#[test]
fn errors_say_what_and_where() {
    for text in ["<html>", "{\"message\":\"no\"}", "\0\0\0\0"] {
        let (_, result) = receive(text.as_bytes().to_vec(), 1);
        let error = result.expect_err(text);
        assert_eq!(error.kind, ErrorKind::Demux);
        assert!(error.message.contains("byte 0"), "{error}");
    }
    let block = [
        &HEADER[..],
        &CLUSTER,
        &[
            0xE7, 0x81, 0, 0xA3, 0x01, 0x7F, 255, 255, 255, 255, 255, 255,
        ],
    ]
    .concat();
    let error = error_of(&block);
    assert_eq!(
        error.to_string(),
        "the element says it has 35747322042253311 bytes, 67108864 are allowed \
                                   (byte 18, in Segment > Cluster > SimpleBlock)"
            .replace("35747322042253311", &((1u64 << 55) - 1).to_string())
    );
    let tags = [&HEADER[..], &[0x12, 0x54, 0xC3, 0x67, 0x08, 0x40, 0, 0, 0]].concat();
    assert!(matches!(
        error_of(&tags).kind,
        ebml::ErrorKind::TooLarge {
            size: 0x4000_0000,
            ..
        }
    ));
    let endless = [&HEADER[..], &[0x12, 0x54, 0xC3, 0x67, 0xFF]].concat();
    assert_eq!(error_of(&endless).kind, ebml::ErrorKind::UnknownSize);
    let overrun = [&HEADER[..], &[0x1F, 0x43, 0xB6, 0x75, 0x83, 0xA3, 0x85]].concat();
    assert_eq!(error_of(&overrun).kind, ebml::ErrorKind::Overrun);
    let early = [&HEADER[..], &CLUSTER, &[0xA3, 0x84, 0x81, 0, 0, 0]].concat();
    assert_eq!(receive(early, 3).1.unwrap_err().kind, ErrorKind::Demux);
}

#[test]
fn nesting_and_empty_elements_cost_nothing() {
    // A million empty Voids among the blocks.
    let mut flood = [&HEADER[..], &CLUSTER, &[0xE7, 0x81, 0]].concat();
    flood.extend([0xEC, 0x80].repeat(1_000_000));
    let mut reader = Reader::default();
    reader.push(flood.into());
    let mut voids = 0;
    while let Some(event) = reader.next().unwrap() {
        voids += u32::from(matches!(
            event,
            Event::Element {
                id: schema::VOID,
                ..
            }
        ));
    }
    assert_eq!(voids, 1_000_000);

    // Tags in tags, ten thousand deep: read as one level, whatever is in it.
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        let mut outer = Vec::new();
        ebml::write::element(&mut outer, schema::SIMPLE_TAG, &nested);
        nested = outer;
    }
    let mut body = HEADER.to_vec();
    let mut tag = Vec::new();
    ebml::write::element(&mut tag, schema::TAG, &nested);
    ebml::write::element(&mut body, schema::TAGS, &tag);
    receive(body, 1000).1.unwrap();

    // No frame for longer than any document takes.
    let endless = [&HEADER[..], &[0xEC, 0x08, 0x0F, 0xFF, 0xF0]].concat();
    let mut receiver = Receiver::new(Config::new(Selector::Earliest));
    let mut items = Vec::new();
    receiver.open();
    receiver.push(endless.into(), &mut items).unwrap();
    let void = Bytes::from(vec![0; 0xFFFF0]);
    let next = Bytes::from_static(&[0xEC, 0x08, 0x0F, 0xFF, 0xF0]);
    let error = (0..20).find_map(|_| {
        receiver
            .push(void.clone(), &mut items)
            .and_then(|_| receiver.push(next.clone(), &mut items))
            .err()
    });
    assert_eq!(
        error.expect("an error within 20 MiB").kind,
        ErrorKind::Demux
    );
}

#[test]
fn a_slice_does_not_pin_what_it_was_cut_from() {
    // One small block in each chunk, the rest of it Void: what is passed on must not keep the chunk.
    let mut receiver = Receiver::new(Config::new(Selector::Earliest));
    let mut items = Vec::new();
    receiver.open();
    receiver
        .push(every_form().fragments[0].header.clone(), &mut items)
        .unwrap();
    receiver
        .push([&CLUSTER[..], &[0xE7, 0x81, 0]].concat().into(), &mut items)
        .unwrap();
    let mut chunks = Vec::new();
    for time in 0..200u16 {
        let [high, low] = time.to_be_bytes();
        let mut chunk = vec![0xA3, 0x85, 0x81, high, low, 0x80, 7];
        ebml::write::element(&mut chunk, schema::VOID, &[0; 8192]);
        let chunk = Bytes::from(chunk);
        receiver.push(chunk.clone(), &mut items).unwrap();
        chunks.push(chunk);
    }
    receiver
        .push(Bytes::from(vec![0xEC, 0x80]), &mut items)
        .unwrap();
    let pinned = chunks.iter().filter(|chunk| !chunk.is_unique()).count();
    assert!(pinned <= 2, "{pinned} chunks are kept in memory");
}

#[test]
fn neither_what_is_kept_back_nor_what_is_said_of_tracks_pins_what_it_was_cut_from() {
    // Blocks at one time, of which each may be the first of the segment, with Voids; and codec private
    // data that is most of its chunk.
    let (mut entry, mut tracks) = (Vec::new(), Vec::new());
    ebml::write::unsigned(&mut entry, schema::TRACK_NUMBER, 1);
    ebml::write::element(&mut entry, schema::CODEC_PRIVATE, &[7; 8192]);
    ebml::write::element(&mut tracks, schema::TRACK_ENTRY, &entry);
    let head = document(
        &[],
        &tracks,
        &[],
        &[&CLUSTER[..], &[0xE7, 0x81, 0]].concat(),
    );
    let mut chunks = vec![Bytes::from(head)];
    for _ in 0..10 {
        let mut chunk = Vec::new();
        ebml::write::element(&mut chunk, schema::SIMPLE_BLOCK, &[0x81; 8192]);
        chunk[12..14].fill(0);
        chunks.push(chunk.into());
    }
    let mut receiver = Receiver::new(Config::new(Selector::Earliest));
    let mut items = Vec::new();
    receiver.open();
    for chunk in &chunks {
        receiver.push(chunk.clone(), &mut items).unwrap();
    }
    let pinned = |chunks: &[Bytes]| chunks.iter().filter(|chunk| !chunk.is_unique()).count();
    assert!(items.is_empty(), "all of it is kept back");
    assert_eq!(pinned(&chunks[1..10]), 0);
    receiver.finish(&mut items).unwrap();
    assert_eq!(Outcome::of(items.clone()).frames().len(), 10);
    drop(receiver);
    let opened = items.iter().any(|item| matches!(item, Item::Opened(_)));
    assert!(opened);
    assert_eq!(pinned(&chunks), 0);
}

/// Cuts bytes into chunks of the given sizes, over and over.
fn in_chunks(bytes: &Bytes, sizes: &[usize]) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    let mut from = 0;
    for size in sizes.iter().cycle() {
        if from >= bytes.len() {
            break;
        }
        let to = bytes.len().min(from + size);
        chunks.push(bytes.slice(from..to));
        from = to;
    }
    chunks
}

/// What a connection does to the stream.
#[derive(Debug, Clone)]
enum Fault {
    /// It ends after so many thousandths of what is left.
    Cut(usize),
    /// The fragment due is gone by then.
    Lose,
    /// The fragment before comes again first.
    Repeat,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![6 => (0..1000usize).prop_map(Fault::Cut), 1 => Just(Fault::Lose), 1 => Just(Fault::Repeat)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), chunk in 1..100usize) {
        let _ = receive(bytes, chunk);
    }

    #[test]
    fn damage_never_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        chunk in 1..3000usize,
    ) {
        let mut body = body(&every_form(), &Selector::Earliest).to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let (items, _) = receive(body, chunk);
        let mut last = 0;
        for item in items {
            if let Item::Segment(segment) = item {
                prop_assert!(segment.start >= last, "a segment that goes back");
                last = segment.start;
            }
        }
    }

    #[test]
    fn any_split_gives_the_same(sizes in prop::collection::vec(1..500usize, 1..20)) {
        let media = every_form();
        let config = Config::new(Selector::Earliest);
        let mut receiver = Receiver::new(config.clone());
        let mut items = Vec::new();
        receiver.open();
        for chunk in in_chunks(&body(&media, &Selector::Earliest), &sizes) {
            receiver.push(chunk, &mut items).unwrap();
        }
        receiver.finish(&mut items).unwrap();
        assert_same(&Outcome::of(items), &uncut(&media, &config, 64 * 1024), "split");
    }

    #[test]
    fn any_faults_give_every_frame_once_and_a_gap_for_what_is_missing(
        faults in prop::collection::vec(fault(), 0..12),
        sizes in prop::collection::vec(1..2000usize, 1..5),
        raw in any::<bool>(),
    ) {
        let media = every_form();
        let mut left: Vec<usize> = (0..media.fragments.len()).collect();
        let mut receiver = Receiver::new(Config { raw, ..Config::new(Selector::Earliest) });
        let mut items = Vec::new();
        let mut lost = Vec::new();
        // Those of which the number was known by then.
        let mut missed = Vec::new();
        for fault in faults.into_iter().map(Some).chain([None]) {
            let request = receiver.position().request();
            let after = match &request {
                Selector::ContinuationToken(token) => media.fragments.iter().position(|f| f.token == *token),
                _ => None,
            };
            let due: Vec<usize> = left.iter().copied().filter(|&index| after.is_none_or(|after| index > after)).collect();
            let mut send = due.clone();
            let mut cut = usize::MAX;
            match fault {
                Some(Fault::Cut(thousandths)) => cut = thousandths,
                Some(Fault::Repeat) => {
                    if let Some(after) = after {
                        send.insert(0, after);
                    }
                    cut = 300;
                }
                Some(Fault::Lose) if due.len() > 1 => {
                    left.retain(|&index| index != due[0]);
                    lost.push(due[0]);
                    if receiver.position().is_within_fragment() {
                        missed.push(due[0]);
                    }
                    continue;
                }
                Some(Fault::Lose) => continue,
                None => (),
            }
            let body: Bytes = send.iter().map(|&i| media.fragments[i].document.clone()).collect::<Vec<_>>().concat().into();
            let len = if cut == usize::MAX { body.len() } else { body.len() * cut / 1000 };
            receiver.open();
            for chunk in in_chunks(&body.slice(..len), &sizes) {
                receiver.push(chunk, &mut items).unwrap();
            }
        }
        receiver.finish(&mut items).unwrap();
        let outcome = Outcome::of(items);
        let complete: Vec<String> = outcome.ends().iter().map(|end| end.start.number.clone()).collect();
        let expected: Vec<String> = left.iter().map(|&index| media.fragments[index].number.clone()).collect();
        // A fragment may have been delivered before it was lost.
        let delivered: Vec<String> = complete.iter().filter(|n| expected.contains(n)).cloned().collect();
        prop_assert_eq!(&delivered, &expected);
        let mut sorted = complete.clone();
        sorted.sort();
        prop_assert_eq!(&sorted, &complete, "in order, and none twice");
        let mut named = Vec::new();
        for gap in outcome.gaps() {
            // Of a fragment that was lost before its number came, only the hole shows.
            prop_assert!(matches!(gap.kind, GapKind::Lost | GapKind::Hole), "{:?}", gap);
            let at = |number: &Option<String>| media.fragments.iter().position(|f| Some(&f.number) == number.as_ref());
            let (from, to) = (at(&gap.from_fragment).unwrap(), at(&gap.to_fragment).unwrap());
            prop_assert!((from..to).any(|index| lost.contains(&index)), "a gap without a loss: {:?}", gap);
            if gap.kind == GapKind::Lost {
                named.extend(from..to);
            }
        }
        // Before the first nothing is missing.
        let first = outcome.ends().first().map(|end| end.start.number.clone());
        for index in missed {
            let follows = first.as_ref().is_some_and(|first| media.fragments[index].number > *first);
            prop_assert!(!follows || named.contains(&index), "the loss of {} is not named", index);
        }
        if let (false, Some(first)) = (raw, outcome.ends().first()) {
            let missing = lost.iter().filter(|&&index| media.fragments[index].number > first.start.number).count();
            let gaps = outcome.gaps().len();
            prop_assert!(gaps <= lost.len() && (missing == 0 || gaps > 0), "{} gaps for {} lost", gaps, missing);
        }
        if !raw {
            let all = frames(&media.frames());
            let payloads: Vec<&Bytes> = all.iter().map(|frame| &frame.2).collect();
            let mut next = 0;
            for (_, _, payload) in outcome.frames() {
                let found = payloads[next..].iter().position(|other| **other == payload);
                prop_assert!(found.is_some(), "a frame that is out of order, twice, or made up");
                next += found.unwrap() + 1;
            }
        }
    }
}

// What fuzzing and a reading of the core for its worst cases have found.

/// A document of one element after the other: a header, tracks, tags, and what is given.
fn document(info: &[u8], tracks: &[u8], tags: &[(&str, String)], rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ebml::write::element(&mut out, schema::EBML, &[]);
    ebml::write::start_unknown_size(&mut out, schema::SEGMENT);
    ebml::write::element(&mut out, schema::INFO, info);
    ebml::write::element(&mut out, schema::TRACKS, tracks);
    out.extend(self::tags(tags));
    out.extend_from_slice(rest);
    out
}

fn tags(tags: &[(&str, String)]) -> Vec<u8> {
    let mut tag = Vec::new();
    for (name, value) in tags {
        let mut simple = Vec::new();
        ebml::write::element(&mut simple, schema::TAG_NAME, name.as_bytes());
        ebml::write::element(&mut simple, schema::TAG_STRING, value.as_bytes());
        ebml::write::element(&mut tag, schema::SIMPLE_TAG, &simple);
    }
    let (mut tags, mut out) = (Vec::new(), Vec::new());
    ebml::write::element(&mut tags, schema::TAG, &tag);
    ebml::write::element(&mut out, schema::TAGS, &tags);
    out
}

const NUMBER: &str = "AWS_KINESISVIDEO_FRAGMENT_NUMBER";
const SERVER: &str = "AWS_KINESISVIDEO_SERVER_TIMESTAMP";
const PRODUCER: &str = "AWS_KINESISVIDEO_PRODUCER_TIMESTAMP";
const TOKEN: &str = "AWS_KINESISVIDEO_CONTINUATION_TOKEN";

/// `TrackEntry` of a track of this number.
fn track(number: u64) -> Vec<u8> {
    let (mut entry, mut out) = (Vec::new(), Vec::new());
    ebml::write::unsigned(&mut entry, schema::TRACK_NUMBER, number);
    ebml::write::unsigned(&mut entry, schema::TRACK_TYPE, 1);
    ebml::write::element(&mut entry, schema::CODEC_ID, b"V_VP8");
    ebml::write::element(&mut out, schema::TRACK_ENTRY, &entry);
    out
}

fn scale(nanoseconds: u64) -> Vec<u8> {
    let mut info = Vec::new();
    ebml::write::unsigned(&mut info, schema::TIMESTAMP_SCALE, nanoseconds);
    info
}

/// A cluster of blocks of the given offsets on track 1, each in a group if it has a duration.
fn cluster(timecode: u64, blocks: &[(i16, Option<u64>)]) -> Vec<u8> {
    let mut data = Vec::new();
    ebml::write::unsigned(&mut data, schema::TIMESTAMP, timecode);
    for (offset, duration) in blocks {
        let [high, low] = offset.to_be_bytes();
        let block = [0x81, high, low, 0, 7];
        let Some(duration) = duration else {
            ebml::write::element(&mut data, schema::SIMPLE_BLOCK, &block);
            continue;
        };
        let mut group = Vec::new();
        ebml::write::element(&mut group, schema::BLOCK, &block);
        ebml::write::unsigned(&mut group, schema::BLOCK_DURATION, *duration);
        ebml::write::element(&mut data, schema::BLOCK_GROUP, &group);
    }
    let mut out = Vec::new();
    ebml::write::element(&mut out, schema::CLUSTER, &data);
    out
}

/// What is received of this body, kept to what GStreamer can say of a time.
#[track_caller]
fn received(body: Vec<u8>) -> Outcome {
    let mut receiver = Receiver::new(Config::new(Selector::Earliest));
    let mut items = Vec::new();
    receiver.open();
    receiver.push(body.into(), &mut items).unwrap();
    receiver.finish(&mut items).unwrap();
    for item in &items {
        match item {
            // The largest number is the one that means none.
            Item::Segment(segment) => assert!(segment.start.max(segment.time) < u64::MAX),
            Item::Data(data) => assert!(data.pts.is_none_or(|pts| pts < u64::MAX)),
            _ => (),
        }
    }
    Outcome::of(items)
}

fn segments(outcome: &Outcome) -> Vec<(u64, u64)> {
    let segments = outcome.others.iter().filter_map(|(_, item)| match item {
        Item::Segment(segment) => Some((segment.start, segment.time)),
        _ => None,
    });
    segments.collect()
}

#[test]
fn times_beyond_every_calendar_are_times() {
    let last = "18446744073.709551615".to_owned();
    for stamps in [
        vec![(SERVER, last.clone())],
        vec![(SERVER, last.clone()), (PRODUCER, last)],
        vec![],
    ] {
        for timecode in [0, 1, u64::MAX] {
            for unit in [1, 1_000_000, 60_000_000_000] {
                let mut body = Vec::new();
                for blocks in [[0, 0], [i16::MIN, i16::MAX], [i16::MAX, i16::MIN]] {
                    let blocks = blocks.map(|offset| (offset, None));
                    let clusters = [cluster(timecode, &blocks), cluster(7, &blocks)].concat();
                    body.extend(document(&scale(unit), &track(1), &stamps, &clusters));
                }
                received(body);
            }
        }
    }
    for unit in [0, u64::MAX] {
        let body = document(&scale(unit), &track(1), &[], &cluster(0, &[(0, None)]));
        assert_eq!(receive(body, 100).1.unwrap_err().kind, ErrorKind::Demux);
    }
}

#[test]
fn a_frame_that_lasts_for_ever_does_not_stop_the_line() {
    let fragment = |index: u64, duration| {
        let stamp = [(SERVER, (1_700_000_000 + 2 * index).to_string())];
        document(
            &[],
            &track(1),
            &stamp,
            &cluster(index * 2000, &[(0, duration)]),
        )
    };
    for duration in [None, Some(u64::MAX), Some(u64::MAX / 1_000_000)] {
        let body = [fragment(0, duration), fragment(1, None), fragment(2, None)].concat();
        let outcome = received(body);
        let starts: Vec<u64> = segments(&outcome).iter().map(|segment| segment.0).collect();
        assert_eq!(starts, [0, 1_000_000_000]);
        let times: Vec<i64> = outcome.frames().iter().map(|frame| frame.1).collect();
        assert_eq!(times, [0, 1000, 3000]);
    }
}

#[test]
fn a_duration_is_rewritten_wherever_it_stands_in_its_group() {
    let group = |children: &[(schema::Id, &[u8])]| {
        let (mut data, mut out) = (Vec::new(), Vec::new());
        for (id, bytes) in children {
            ebml::write::element(&mut data, *id, bytes);
        }
        ebml::write::element(&mut out, schema::BLOCK_GROUP, &data);
        out
    };
    let block = (schema::BLOCK, &[0x81, 0, 0, 0, 7][..]);
    let (duration, back) = (
        (schema::BLOCK_DURATION, &[0x12, 0x34][..]),
        (schema::REFERENCE_BLOCK, &[0xFF][..]),
    );
    for children in [
        [block, duration, back],
        [duration, block, back],
        [back, duration, block],
        [block, back, duration],
    ] {
        let mut data = Vec::new();
        ebml::write::unsigned(&mut data, schema::TIMESTAMP, 5);
        data.extend(group(&children));
        let mut clusters = Vec::new();
        ebml::write::element(&mut clusters, schema::CLUSTER, &data);
        let first = document(&scale(1000), &track(1), &[], &cluster(0, &[(0, None)]));
        let second = document(&scale(1_000_000), &track(1), &[], &clusters);
        let outcome = received([first, second].concat());
        let written = 0x1234u32 * 1000;
        let children = children.map(|(id, bytes)| (id, bytes.to_vec()));
        let expected = children.map(|(id, bytes)| match id {
            schema::BLOCK_DURATION => (id, written.to_be_bytes()[1..].to_vec()),
            _ => (id, bytes),
        });
        let mut reader = Reader::default();
        reader.push(outcome.bytes.into());
        let mut found = Vec::new();
        while let Some(event) = reader.next().unwrap() {
            let Event::Element { id, data, .. } = event else {
                continue;
            };
            if id == schema::BLOCK_GROUP {
                let data = reader.rope().bytes(data);
                let children = ebml::children(&data, 0).map(|child| child.unwrap());
                found.extend(children.map(|child| (child.id, child.data.to_vec())));
            }
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn no_frame_stands_before_its_segment() {
    let fragment = |ms: u64, offsets: &[i16]| {
        let stamp = [(
            PRODUCER,
            format!("{}.{:03}", 1_700_000_000 + ms / 1000, ms % 1000),
        )];
        let blocks: Vec<_> = offsets.iter().map(|&offset| (offset, None)).collect();
        document(&[], &track(1), &stamp, &cluster(ms, &blocks))
    };
    // The second begins a segment, the third reaches back before it.
    let body = [
        fragment(0, &[0, 5]),
        fragment(9000, &[0]),
        fragment(8950, &[0, 40, 80]),
    ];
    let outcome = received(body.concat());
    let starts = segments(&outcome);
    assert_eq!(starts.len(), 2);
    let from = i64::try_from(starts[1].0).unwrap() / 1_000_000;
    let times: Vec<i64> = outcome.frames()[2..]
        .iter()
        .map(|frame| frame.1 - from)
        .collect();
    assert_eq!(times, [0, 0, 0, 30]);
}

#[test]
fn a_first_block_that_is_far_from_its_cluster_keeps_its_time() {
    let fragment = |ms: u64, unit: u64, offsets: &[i16]| {
        let stamp = [(PRODUCER, format!("1700000000.{ms:03}"))];
        let blocks: Vec<_> = offsets.iter().map(|&offset| (offset, None)).collect();
        document(&scale(unit), &track(1), &stamp, &cluster(ms, &blocks))
    };
    // In units of a microsecond, as the demuxer was told, 300 ms do not fit where they stood.
    let body = [
        fragment(0, 1000, &[0, 5]),
        fragment(500, 1_000_000, &[300, 301]),
    ];
    let outcome = received(body.concat());
    let mut pts = outcome.others.iter().filter_map(|(_, item)| match item {
        Item::FragmentStart(start) => start.first_pts,
        _ => None,
    });
    assert_eq!((pts.next(), pts.next()), (Some(0), Some(800_000_000)));
}

#[test]
fn many_blocks_at_one_time_are_no_more_work_each() {
    // Nothing tells where the segment begins: they are held back until they are too many.
    let started = std::time::Instant::now();
    let block = [0xA3, 0x85, 0x81, 0, 0, 0x80, 7];
    let mut rest = [&CLUSTER[..], &[0xE7, 0x81, 0]].concat();
    rest.extend(block.repeat(160_000));
    let outcome = received(document(&[], &track(1), &[], &rest));
    assert_eq!(outcome.frames().len(), 160_000);

    // A group of very many children, in very many chunks.
    let group = [0xEC, 0x80].repeat(1_000_000);
    let mut data = Vec::new();
    ebml::write::element(&mut data, schema::BLOCK, &[0x81, 0, 0, 0, 7]);
    data.extend(group);
    let mut rest = [&CLUSTER[..], &[0xE7, 0x81, 0]].concat();
    ebml::write::element(&mut rest, schema::BLOCK_GROUP, &data);
    let body: Bytes = document(&[], &track(1), &[], &rest).into();
    let mut receiver = Receiver::new(Config::new(Selector::Earliest));
    receiver.open();
    for chunk in in_chunks(&body, &[4096]) {
        receiver.push(chunk, &mut Vec::new()).unwrap();
    }
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[test]
fn a_document_has_not_more_tracks_than_can_be_compared() {
    let tracks: Vec<u8> = (1..=65).flat_map(track).collect();
    let body = document(&[], &tracks, &[], &cluster(0, &[(0, None)]));
    let error = receive(body, 1000).1.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Demux);
    assert!(error.message.contains("more than 64 tracks"), "{error}");
}

#[test]
fn what_is_kept_of_tags_has_its_bounds() {
    let long = || "9".repeat(200_000);
    let head = [(NUMBER, long()), (SERVER, long()), ("mine", long())];
    let mut rest = Vec::new();
    for time in 0..40 {
        rest.extend(cluster(time, &[(0, None)]));
        rest.extend(tags(&[("mine", "x".repeat(50_000)), (TOKEN, long())]));
    }
    let outcome = received(document(
        &[],
        &track(1),
        &head,
        &[&rest[..], &tags(&[(TOKEN, "t".into())])].concat(),
    ));
    let end = outcome.ends()[0];
    assert_eq!(
        (end.start.number.as_str(), end.start.server_timestamp),
        ("", None)
    );
    assert_eq!(end.continuation_token.as_deref(), Some("t"));
    let kept: usize = end.start.tags.iter().map(|tag| tag.value.len()).sum();
    assert_eq!((end.frames, kept), (40, 250_000));
}

#[test]
fn what_follows_the_end_of_a_fragment_ends_as_well() {
    // Blocks without end after the token: nobody wants them, so nobody may keep them.
    let end = tags(&[(TOKEN, "t".to_owned())]);
    let head = [(NUMBER, "1".to_owned())];
    let body = document(
        &[],
        &track(1),
        &head,
        &[cluster(0, &[(0, None)]), end].concat(),
    );
    let mut block = Vec::new();
    ebml::write::element(&mut block, schema::SIMPLE_BLOCK, &[0x81; 65536]);
    let chunk = Bytes::from(block);
    for raw in [false, true] {
        let mut receiver = Receiver::new(Config {
            raw,
            ..Config::new(Selector::Earliest)
        });
        receiver.open();
        let mut items = Vec::new();
        receiver.push(body.clone().into(), &mut items).unwrap();
        receiver
            .push([&CLUSTER[..], &[0xE7, 0x81, 0]].concat().into(), &mut items)
            .unwrap();
        let error = (0..400).find_map(|_| receiver.push(chunk.clone(), &mut items).err());
        assert_eq!(
            error.expect("an error within 25 MiB").kind,
            ErrorKind::Demux,
            "raw {raw}"
        );
        assert_eq!(Outcome::of(items).ends().len(), 1);
    }
    // Nor timestamps without a block.
    let body = document(
        &[],
        &track(1),
        &head,
        &[&CLUSTER[..], &[0xE7, 0x81, 0].repeat(5_700_000)].concat(),
    );
    assert_eq!(receive(body, 1 << 16).1.unwrap_err().kind, ErrorKind::Demux);
}

#[test]
fn a_slice_of_joined_chunks_does_not_pin_the_room_for_more() {
    // Chunks too small to stand alone: a large Void, and then blocks. What they are joined in must not
    // be kept for the sake of a block.
    let mut reader = Reader::default();
    let mut head = [&HEADER[..], &CLUSTER, &[0xE7, 0x81, 0]].concat();
    ebml::write::element(&mut head, schema::VOID, &[0; 1 << 20]);
    for chunk in in_chunks(&head.into(), &[1000]) {
        reader.push(chunk);
        while reader.next().unwrap().is_some() {}
    }
    let mut next = vec![0xEC, 0x81, 0];
    ebml::write::element(&mut next, schema::SIMPLE_BLOCK, &[0x81; 100]);
    let next = Bytes::from(next);
    reader.push(next.slice(..2));
    assert_eq!(reader.next(), Ok(None));
    reader.push(next.slice(2..));
    reader.next().unwrap();
    let Ok(Some(Event::Element { span, .. })) = reader.next() else {
        panic!("a block");
    };
    let kept = reader.rope().bytes(span);
    drop(reader);
    let mut kept = kept.try_into_mut().unwrap();
    assert!(!kept.try_reclaim(64 * 1024), "a block keeps 64 KiB");
}

#[test]
fn raw_pieces_that_wait_are_joined() {
    // Two bytes a chunk, and no fragment yet.
    let mut receiver = Receiver::new(Config {
        raw: true,
        ..Config::new(Selector::Earliest)
    });
    receiver.open();
    let mut items = Vec::new();
    let mut push = |bytes: &[u8]| receiver.push(Bytes::copy_from_slice(bytes), &mut items);
    push(&HEADER).unwrap();
    for _ in 0..100_000 {
        push(&[0xEC, 0x80]).unwrap();
    }
    push(&cluster(0, &[(0, None)])).unwrap();
    let Some(Item::Data(data)) = items.pop() else {
        panic!("data");
    };
    assert!(data.pieces.len() < 5000, "{} pieces", data.pieces.len());
    assert!(data.pieces.concat().starts_with(&HEADER));
    assert_eq!(
        data.len(),
        HEADER.len() + 200_000 + cluster(0, &[(0, None)]).len()
    );
}

#[test]
fn a_track_keeps_its_pace_under_another_number() {
    let audio = |number: u64| {
        let (mut entry, mut out) = (Vec::new(), Vec::new());
        ebml::write::unsigned(&mut entry, schema::TRACK_NUMBER, number);
        ebml::write::unsigned(&mut entry, schema::TRACK_TYPE, 2);
        ebml::write::element(&mut entry, schema::CODEC_ID, b"A_OPUS");
        ebml::write::element(&mut out, schema::TRACK_ENTRY, &entry);
        out
    };
    let fragment = |ms: u64, number: u64, offsets: &[i16]| {
        let stamp = [(
            PRODUCER,
            format!("{}.{:03}", 1_700_000_000 + ms / 1000, ms % 1000),
        )];
        let tracks = [track(number), audio(3 - number)].concat();
        let blocks: Vec<_> = offsets.iter().map(|&offset| (offset, None)).collect();
        let mut cluster = cluster(ms, &blocks);
        for at in 0..cluster.len() - 4 {
            if cluster[at..].starts_with(&[0x81]) && cluster[at + 3..].starts_with(&[0, 7]) {
                cluster[at] = 0x80 | number as u8;
            }
        }
        document(&[], &tracks, &stamp, &cluster)
    };
    // 500 ms a frame; the one of the second fragment ends where the segment after a hole begins.
    let body = [
        fragment(0, 1, &[0, 500]),
        fragment(1000, 2, &[0]),
        fragment(9000, 1, &[0]),
    ];
    let starts = segments(&received(body.concat()));
    assert_eq!(starts[1].0, 1_500_000_000);
}

/// What is read of a body in these chunks, and the error that ends it.
fn fragments(body: &Bytes, sizes: &[usize]) -> (Vec<fragment::Event>, Option<ebml::Error>) {
    let mut assembler = fragment::Assembler::default();
    let mut events = Vec::new();
    for chunk in in_chunks(body, sizes) {
        assembler.push(chunk);
        loop {
            match assembler.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

fn damaged(damage: Vec<(prop::sample::Index, u8)>) -> Bytes {
    let mut body = body(&every_form(), &Selector::Earliest).to_vec();
    for (at, byte) in damage {
        let at = at.index(body.len());
        body[at] = byte;
    }
    body.into()
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn elements_cover_the_body_however_it_is_cut(
        damage in damage(),
        sizes in prop::collection::vec(1..500usize, 1..5),
    ) {
        let body = damaged(damage);
        let mut reader = Reader::default();
        let mut at = 0;
        'body: for chunk in in_chunks(&body, &sizes) {
            reader.push(chunk);
            loop {
                let span = match reader.next() {
                    Ok(Some(Event::Start { header, .. })) => header,
                    Ok(Some(Event::Element { span, .. })) => span,
                    Ok(Some(Event::End { .. })) => continue,
                    Ok(None) => break,
                    Err(_) => break 'body,
                };
                prop_assert_eq!(span.start, at);
                at = span.end;
                let expected = &body[span.start as usize..span.end as usize];
                prop_assert_eq!(&reader.rope().bytes(span)[..], expected);
            }
        }
    }

    #[test]
    fn damage_reads_the_same_however_it_is_cut(
        damage in damage(),
        sizes in prop::collection::vec(1..500usize, 1..5),
    ) {
        let body = damaged(damage);
        prop_assert_eq!(fragments(&body, &sizes), fragments(&body, &[body.len()]));
    }

    #[test]
    fn whatever_its_times_a_stream_keeps_its_frames_and_segments_go_on(
        stamps in prop::collection::vec((0..20_000u64, any::<Option<u64>>(), any::<u64>()), 1..6),
        offsets in prop::collection::vec((any::<i16>(), prop::option::of(any::<u64>())), 1..6),
        close_holes in any::<bool>(),
        size in 1..300usize,
    ) {
        let mut body = Vec::new();
        for (later, wild, timecode) in &stamps {
            let producer = wild.unwrap_or(1_700_000_000_000 + later);
            let stamp = [(PRODUCER, format!("{}.{:03}", producer / 1000, producer % 1000))];
            // Beyond 2262 the other reader knows no times.
            let clusters = [cluster(timecode % (1 << 40), &offsets), cluster(*later, &offsets)];
            body.extend(document(&[], &track(1), &stamp, &clusters.concat()));
        }
        let mut config = Config::new(Selector::Earliest);
        config.timeline.close_holes = close_holes;
        let mut receiver = Receiver::new(config);
        let mut items = Vec::new();
        receiver.open();
        feed(&mut receiver, &body.into(), size, &mut items).unwrap();
        receiver.finish(&mut items).unwrap();
        let outcome = Outcome::of(items);
        prop_assert_eq!(outcome.frames().len(), 2 * stamps.len() * offsets.len());
        prop_assert!(segments(&outcome).is_sorted_by_key(|segment| segment.0));
        let bytes = Bytes::from(outcome.bytes.clone());
        let others = outcome.others.iter();
        let segments = others.filter(|(_, item)| matches!(item, Item::Segment(_)));
        for ((_, item), document) in segments.zip(mkv::read(&bytes).documents) {
            let Item::Segment(segment) = item else { unreachable!() };
            let times = document.frames.iter().map(|frame| frame.time_ns as u64);
            prop_assert!(times.min().is_none_or(|first| first >= segment.start));
        }
    }
}
