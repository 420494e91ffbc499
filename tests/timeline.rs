//! Where frames come to stand in time, at the sans-IO level.

mod common;

use bytes::Bytes;
use common::*;
use gstkvsgetmedia::{
    ebml::{self, schema},
    error::ErrorKind,
    item::{Gap, GapKind, Item, Segment, TracksChanged},
    receiver::{Config, Flow, Receiver},
    request::{Selector, TimestampSource},
    timeline::{self, ConnectAudio},
};
use kvs_local::{
    Timecodes, mkv,
    synth::{Blocks, Synth, Synthetic, TrackSpec},
};

const MS: u64 = 1_000_000;
const START: u64 = 1_700_000_000_000;

fn archive() -> Config {
    Config::new(Selector::Earliest)
}

fn live() -> Config {
    let config = archive();
    Config {
        timeline: timeline::Config {
            close_holes: false,
            ..config.timeline
        },
        ..config
    }
}

fn by_server() -> Config {
    let config = archive();
    Config {
        timeline: timeline::Config {
            source: TimestampSource::Server,
            ..config.timeline
        },
        ..config
    }
}

fn receive(media: &Synthetic, config: &Config) -> Outcome {
    uncut(media, config, 64 * 1024)
}

/// A frame as a sink sees it, all in milliseconds: running time of an archive, and stream time.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    track: u64,
    pts: u64,
    stream_time: u64,
    payload: Bytes,
}

fn segments(outcome: &Outcome) -> Vec<Segment> {
    let segment = |(_, item): &(usize, Item)| {
        if let Item::Segment(segment) = item {
            Some(*segment)
        } else {
            None
        }
    };
    outcome.others.iter().filter_map(segment).collect()
}

/// Every frame, in the segment it came in. No frame may lie before its segment's start: a sink would
/// clip it.
fn seen(outcome: &Outcome) -> Vec<Seen> {
    let reading = mkv::read(&Bytes::from(outcome.bytes.clone()));
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    let segments = segments(outcome);
    assert_eq!(
        reading.documents.len(),
        segments.len(),
        "a segment for each header"
    );
    let mut seen = Vec::new();
    for (document, segment) in reading.documents.iter().zip(segments) {
        for frame in &document.frames {
            let pts = u64::try_from(frame.time_ns).unwrap();
            let after = pts
                .checked_sub(segment.start)
                .expect("not before the segment");
            seen.push(Seen {
                track: frame.track,
                pts: pts / MS,
                stream_time: (segment.time + after) / MS,
                payload: frame.payload.clone(),
            });
        }
    }
    seen
}

/// The wall-clock time of every frame, in milliseconds, by the timestamps of its fragment.
fn wall(media: &Synthetic, timestamp: impl Fn(usize) -> u64) -> Vec<u64> {
    let of_fragment = |(index, fragment): (usize, &kvs_local::synth::SynthFragment)| {
        let origin = fragment
            .frames
            .iter()
            .map(|frame| frame.time_ns)
            .min()
            .unwrap_or(0);
        let times = fragment
            .frames
            .iter()
            .map(move |frame| ((frame.time_ns - origin) / 1_000_000) as u64);
        times
            .map(|time| timestamp(index) + time)
            .collect::<Vec<_>>()
    };
    media
        .fragments
        .iter()
        .enumerate()
        .flat_map(of_fragment)
        .collect()
}

/// The same where each fragment stands at its producer's timestamp.
fn by_producer(media: &Synthetic) -> Vec<u64> {
    wall(media, |index| media.fragments[index].producer_timestamp_ms)
}

#[track_caller]
fn assert_times(seen: &[Seen], expected: &[u64]) {
    let found: Vec<u64> = seen.iter().map(|frame| frame.stream_time).collect();
    assert_eq!(found, expected);
}

fn kinds(outcome: &Outcome) -> Vec<GapKind> {
    outcome.gaps().iter().map(|gap| gap.kind).collect()
}

#[test]
fn stream_time_is_the_producers_clock() {
    let media = Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(5)
        .build();
    let outcome = receive(&media, &archive());
    assert_eq!(
        segments(&outcome),
        [Segment {
            start: 0,
            time: START * MS,
            clock: TimestampSource::Producer,
            due_now: false,
        }]
    );
    assert_times(&seen(&outcome), &by_producer(&media));
    assert!(kinds(&outcome).is_empty());
}

#[test]
fn ten_thousand_fragments_do_not_drift() {
    // Fragments that overlap by an audio tail or lie apart by jitter, and a clock 0.5 ms a fragment fast.
    let jitter = |index: usize| (index as u64 * 37 % 80) as i64 - 40;
    let media = Synth::new()
        .fragments(10_000)
        .frames(3)
        .payload(5, 6)
        .each(move |index, fragment| {
            let drift = index as u64 / 2;
            let time =
                (fragment.producer_timestamp_ms + drift).saturating_add_signed(jitter(index));
            fragment.producer_timestamp_ms = time;
            fragment.timecode_ms = time;
        })
        .build();
    let outcome = receive(&media, &archive());
    assert_eq!(segments(&outcome).len(), 1);
    assert_times(&seen(&outcome), &by_producer(&media));
}

#[test]
fn a_hole_is_closed_in_an_archive_and_shown_in_stream_time() {
    let media = Synth::new()
        .fragments(4)
        .each(|index, fragment| {
            let hole = if index >= 2 { 60_000 } else { 0 };
            fragment.producer_timestamp_ms += hole;
            fragment.timecode_ms += hole;
        })
        .build();
    let outcome = receive(&media, &archive());
    let frames = seen(&outcome);
    assert_times(&frames, &by_producer(&media));
    assert_eq!(frames[20].pts, 4000, "the end of the last frame");
    let gap = Gap {
        kind: GapKind::Hole,
        from_fragment: Some(media.fragments[1].number.clone()),
        to_fragment: Some(media.fragments[2].number.clone()),
        from_timestamp: Some((START + 4000) * MS),
        to_timestamp: Some((START + 64_000) * MS),
    };
    assert_eq!(outcome.gaps(), [&gap]);

    let outcome = receive(&media, &live());
    let frames = seen(&outcome);
    assert_eq!(segments(&outcome).len(), 1);
    assert_times(&frames, &by_producer(&media));
    assert_eq!(frames[20].pts, 64_000, "live, the hole stays");
    assert_eq!(outcome.gaps(), [&gap]);
}

/// A burst of which the service received a fragment every 20 ms, a hole, and another.
#[test]
fn a_stream_that_begins_anew_after_a_fragment_keeps_its_place() {
    let media = Synth::new()
        .timecodes(Timecodes::Relative)
        .fragments(6)
        .each(|index, fragment| {
            fragment.server_timestamp_ms = START + 20 * index as u64;
            if index >= 4 {
                fragment.server_timestamp_ms += 60_000;
                fragment.timecode_ms += 60_000;
            }
        })
        .build();
    let whole = receive(&media, &by_server());
    let times = |outcome: &Outcome| {
        let seen = seen(outcome).into_iter();
        seen.map(|frame| frame.stream_time).collect::<Vec<_>>()
    };
    for (index, end) in whole.ends().into_iter().enumerate().take(5) {
        let config = by_server();
        let config = Config {
            start: Selector::AfterFragment(end.start.number.clone()),
            timeline: timeline::Config {
                bearings: end.bearings,
                ..config.timeline
            },
            ..config
        };
        let rest = receive(&media, &config);
        assert_eq!(times(&rest), times(&whole)[10 * (index + 1)..], "{index}");
        let clocks = segments(&rest).into_iter().map(|segment| segment.clock);
        assert!(
            clocks.eq([TimestampSource::Server; 2]
                .into_iter()
                .skip(usize::from(index > 2)))
        );
    }
}

/// Fragments of one frame each, so many milliseconds apart, of which nothing says how long it lasts.
fn single_frames(distances: &'static [u64]) -> Synthetic {
    Synth::new()
        .fragments(distances.len() + 1)
        .frames(1)
        .each(|index, fragment| {
            let time = START + distances[..index].iter().sum::<u64>();
            fragment.producer_timestamp_ms = time;
            fragment.timecode_ms = time;
        })
        .build()
}

#[test]
fn single_frames_last_as_long_as_their_pace_shows() {
    use GapKind::Hole;
    const MINUTES: u64 = 10 * 60_000;
    for (distances, expected, gaps) in [
        // Of the first nothing is known: it lasts as long as a hole may.
        (&[2000; 4][..], &[0, 1000, 3000, 5000, 7000][..], 1),
        (&[1000; 4], &[0, 1000, 2000, 3000, 4000], 0),
        // Nobody waits that long for a frame.
        (&[MINUTES; 4], &[0, 1000, 2000, 3000, 4000], 4),
        // Events: one that comes sooner than those before does not come too early.
        (
            &[9000, 5000, 2000, 60_000],
            &[0, 1000, 6000, 8000, 11_000],
            2,
        ),
        // A pause of a time-lapse.
        (&[2000, 2000, 60_000, 2000], &[0, 1000, 3000, 5000, 7000], 2),
    ] {
        let media = single_frames(distances);
        let outcome = receive(&media, &archive());
        let frames = seen(&outcome);
        let pts: Vec<u64> = frames.iter().map(|frame| frame.pts).collect();
        assert_eq!(pts, expected, "{distances:?}");
        assert_eq!(kinds(&outcome), vec![Hole; gaps], "{distances:?}");
        assert_times(&frames, &by_producer(&media));
    }
}

#[test]
fn a_clock_that_goes_back_says_nothing_of_the_pace() {
    // 200 ms a frame; the third fragment begins 5 ms after where the last frame of the second stands,
    // by a clock that goes back by as much as takes it there, and the fourth after a hole.
    let media = Synth::new()
        .fragments(4)
        .each(|index, fragment| {
            let shift = [0, 0, -195, 10_000][index];
            let time = fragment.producer_timestamp_ms;
            fragment.producer_timestamp_ms = time.saturating_add_signed(shift);
            fragment.timecode_ms = fragment.producer_timestamp_ms;
        })
        .build();
    let outcome = receive(&media, &archive());
    assert_eq!(kinds(&outcome), [GapKind::ClockBack, GapKind::Hole]);
    assert_eq!(seen(&outcome)[30].pts, 6000);
}

#[test]
fn a_producer_that_starts_again_leaves_the_line_unbroken() {
    let restart = |lost: u64| {
        Synth::new()
            .timecodes(Timecodes::Relative)
            .fragments(4)
            .each(move |index, fragment| {
                if index >= 2 {
                    fragment.timecode_ms -= 4000;
                    fragment.producer_timestamp_ms += lost;
                }
            })
    };
    // At once: nothing shows.
    let media = restart(0).build();
    let outcome = receive(&media, &archive());
    assert_eq!(segments(&outcome).len(), 1);
    assert_times(&seen(&outcome), &by_producer(&media));
    assert!(kinds(&outcome).is_empty());
    // After a while.
    let media = restart(30_000).build();
    let outcome = receive(&media, &archive());
    let frames = seen(&outcome);
    assert_times(&frames, &by_producer(&media));
    assert_eq!(frames[20].pts, 4000);
    assert_eq!(kinds(&outcome), [GapKind::ProducerRestart]);
}

#[test]
fn a_clock_that_goes_back_breaks_the_line_but_not_running_time() {
    let back = |ms: u64| {
        Synth::new().fragments(4).each(move |index, fragment| {
            if index >= 2 {
                fragment.producer_timestamp_ms -= ms;
                fragment.timecode_ms -= ms;
            }
        })
    };
    for config in [archive(), live()] {
        let media = back(3000).build();
        let outcome = receive(&media, &config);
        let frames = seen(&outcome);
        assert_times(&frames, &by_producer(&media));
        assert!(
            frames.windows(2).all(|pair| pair[0].pts < pair[1].pts),
            "{frames:?}"
        );
        assert_eq!(frames[20].pts, 4000);
        assert_eq!(kinds(&outcome), [GapKind::ClockBack]);
    }
    // Audio tails and jitter are no break.
    let outcome = receive(&back(100).build(), &archive());
    assert_eq!((segments(&outcome).len(), kinds(&outcome)), (1, vec![]));
    let outcome = receive(&back(101).build(), &archive());
    assert_eq!(
        (segments(&outcome).len(), kinds(&outcome)),
        (2, vec![GapKind::ClockBack])
    );
}

#[test]
fn an_implausible_producer_clock_gives_way_to_the_servers() {
    for implausible in [0, 1234, 900_000_000_000] {
        let media = Synth::new()
            .timecodes(Timecodes::Relative)
            .fragments(3)
            .each(move |index, fragment| {
                fragment.producer_timestamp_ms = implausible + index as u64 * 2000
            })
            .build();
        let first = media.fragments[0].server_timestamp_ms;
        let outcome = receive(&media, &archive());
        assert_times(
            &seen(&outcome),
            &wall(&media, |index| first + index as u64 * 2000),
        );
        assert!(kinds(&outcome).is_empty());
    }
}

#[test]
fn by_the_servers_clock_a_burst_keeps_the_pace_of_its_timecodes() {
    // Uploaded in a burst: 20 ms apart, 2 s of media each. Then, after a hole, another.
    let media = Synth::new()
        .timecodes(Timecodes::Relative)
        .fragments(6)
        .each(|index, fragment| {
            let second = index >= 3;
            fragment.timecode_ms += if second { 100_000 } else { 0 };
            fragment.server_timestamp_ms =
                START + 20 * index as u64 + if second { 100_000 } else { 0 };
        })
        .build();
    let expected = |index: usize| {
        let first = index / 3 * 3;
        media.fragments[first].server_timestamp_ms + 2000 * (index - first) as u64
    };
    let outcome = receive(&media, &by_server());
    assert_times(&seen(&outcome), &wall(&media, expected));
    assert_eq!(kinds(&outcome), [GapKind::Hole]);
}

#[test]
fn time_scales_may_differ() {
    for scales in [
        [1_000_000, 100_000],
        [100_000, 1_000_000],
        [1_000_000, 2_000_000],
    ] {
        let media = Synth::new()
            .fragments(4)
            .frames(5)
            .each(move |index, fragment| fragment.timescale = scales[index % 2])
            .build();
        let outcome = receive(&media, &archive());
        let frames = seen(&outcome);
        let expected = by_producer(&media);
        assert_eq!(frames.len(), expected.len());
        for (frame, expected) in frames.iter().zip(expected) {
            assert!(
                frame.stream_time.abs_diff(expected) <= 1,
                "{frame:?} at {expected}, {scales:?}"
            );
        }
        assert_eq!(segments(&outcome).len(), 1);
    }
}

/// The `BlockDuration` of every group that has one, in units.
fn durations(outcome: &Outcome) -> Vec<u64> {
    let mut reader = ebml::Reader::default();
    reader.push(Bytes::from(outcome.bytes.clone()));
    let mut durations = Vec::new();
    while let Some(event) = reader.next().unwrap() {
        let ebml::Event::Element {
            id: schema::BLOCK_GROUP,
            data,
            ..
        } = event
        else {
            continue;
        };
        for child in ebml::children(&reader.rope().bytes(data), 0) {
            let child = child.unwrap();
            if child.id == schema::BLOCK_DURATION {
                durations.extend(ebml::unsigned(child.data));
            }
        }
    }
    durations
}

#[test]
fn durations_are_in_the_scale_that_was_told_first() {
    for scales in [
        [1_000_000, 100_000],
        [100_000, 1_000_000],
        [1_000_000, 2_000_000],
        [1_000_000, 1_000_000],
    ] {
        let media = Synth::new()
            .fragments(6)
            .frames(5)
            .blocks(Blocks::Mixed)
            .each(move |index, fragment| {
                fragment.timescale = scales[index % 2];
                // The fourth comes after a hole: its first frames are kept back.
                let hole = if index >= 3 { 60_000 } else { 0 };
                fragment.producer_timestamp_ms += hole;
                fragment.timecode_ms += hole;
            })
            .build();
        for chunk in [7, 64 * 1024] {
            let outcome = uncut(&media, &archive(), chunk);
            assert_eq!(segments(&outcome).len(), 2);
            let found = durations(&outcome);
            assert_eq!(found, vec![400 * MS / scales[0]; 12], "{scales:?}");
            assert_eq!(seen(&outcome).len(), 30);
        }
    }
}

#[test]
fn frames_may_stand_before_their_cluster_and_clusters_beyond_32_bits() {
    const LEAD: u64 = 40;
    let media = Synth::new()
        .fragments(5)
        .timescale(100_000)
        .each(|_, fragment| fragment.lead_ms = LEAD)
        .build();
    let reading = mkv::read(&media.recording());
    assert!(reading.documents[0].cluster_timecodes[0] > u64::from(u32::MAX));
    let first = &media.fragments[0];
    assert!(first.frames[0].time_ns < (first.producer_timestamp_ms * MS) as i64);
    let outcome = receive(&media, &archive());
    assert_times(
        &seen(&outcome),
        &wall(&media, |index| {
            media.fragments[index].producer_timestamp_ms - LEAD
        }),
    );
    assert_eq!(segments(&outcome).len(), 1);
    assert!(kinds(&outcome).is_empty());
}

#[test]
fn the_end_is_a_fragments_beginning() {
    let media = Synth::new().fragments(5).build();
    let end = |at: u64| Config {
        end_at: Some(at * MS),
        ..archive()
    };
    for (at, fragments) in [
        (START + 4000, 2),
        (START + 4001, 3),
        (START + 3999, 2),
        (START, 0),
    ] {
        let mut receiver = Receiver::new(end(at));
        let mut items = Vec::new();
        receiver.open();
        let flow = feed(
            &mut receiver,
            &body(&media, &Selector::Earliest),
            100,
            &mut items,
        )
        .unwrap();
        assert_eq!(flow, Flow::End);
        receiver.finish(&mut items).unwrap();
        assert_eq!(Outcome::of(items).ends().len(), fragments);
    }
    let received = Config {
        end_at_received: Some(media.fragments[3].server_timestamp_ms * MS),
        ..archive()
    };
    let mut receiver = Receiver::new(received);
    receiver.open();
    let mut items = Vec::new();
    assert_eq!(
        feed(
            &mut receiver,
            &body(&media, &Selector::Earliest),
            100,
            &mut items
        ),
        Ok(Flow::End)
    );
    assert_eq!(Outcome::of(items).ends().len(), 3);
}

fn changes(outcome: &Outcome) -> Vec<&TracksChanged> {
    let changed = |(_, item): &'_ (usize, Item)| matches!(item, Item::TracksChanged(_));
    outcome
        .others
        .iter()
        .filter(|item| changed(item))
        .filter_map(|(_, item)| {
            if let Item::TracksChanged(changed) = item {
                Some(changed)
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn another_picture_size_plays_on() {
    let media = Synth::new()
        .fragments(4)
        .from_fragment(2, |fragment| {
            fragment.tracks = vec![TrackSpec::h264(1).private(&[1, 2, 3, 4])]
        })
        .build();
    let outcome = receive(&media, &archive());
    let changes = changes(&outcome);
    assert_eq!(changes.len(), 1);
    assert!(changes[0].compatible);
    assert_eq!(segments(&outcome).len(), 1);
    let reading = mkv::read(&Bytes::from(outcome.bytes.clone()));
    let tracks = reading.documents[0]
        .elements
        .iter()
        .filter(|element| element.id == 0x1654_AE6B);
    assert_eq!(tracks.count(), 2, "Tracks at first, and where they change");
    assert_eq!(outcome.frames(), from_zero(frames(&media.frames())));
}

#[test]
fn renumbered_tracks_are_mapped() {
    let media = Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(4)
        .from_fragment(2, |fragment| {
            fragment.tracks = vec![TrackSpec::aac(1), TrackSpec::h264(7)]
        })
        .build();
    let outcome = receive(&media, &archive());
    assert!(changes(&outcome).iter().all(|changed| changed.compatible));
    let served = from_zero(frames(&media.frames()));
    let first = media.fragments[..2]
        .iter()
        .map(|fragment| fragment.frames.len())
        .sum::<usize>();
    let mapped =
        served
            .into_iter()
            .enumerate()
            .map(|(index, (track, time, payload))| match track {
                track if index < first => (track, time, payload),
                1 => (2, time, payload),
                _ => (1, time, payload),
            });
    assert_eq!(outcome.frames(), mapped.collect::<Vec<_>>());
}

#[test]
fn another_codec_cannot_be_followed() {
    let media = Synth::new()
        .fragments(3)
        .from_fragment(1, |fragment| fragment.tracks = vec![TrackSpec::vp8(1)])
        .build();
    let mut receiver = Receiver::new(archive());
    let mut items = Vec::new();
    receiver.open();
    let error = feed(
        &mut receiver,
        &body(&media, &Selector::Earliest),
        100,
        &mut items,
    )
    .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Format);
    assert!(
        error.message.contains("V_MPEG4/ISO/AVC") && error.message.contains("V_VP8"),
        "{error}"
    );
    let outcome = Outcome::of(items);
    assert_eq!(
        outcome.frames().len(),
        media.fragments[0].frames.len(),
        "what came before is there"
    );
    assert!(!changes(&outcome)[0].compatible);
}

fn call(tag: &'static str) -> Synthetic {
    let tracks = [
        TrackSpec::connect(1, "AUDIO_TO_CUSTOMER"),
        TrackSpec::connect(2, "AUDIO_FROM_CUSTOMER"),
    ];
    let call = Synth::new().tracks(tracks).fragments(2);
    match tag {
        "before" => call
            .tags_before(&[("MimeType", "audio/L16;rate=8000;channels=1")])
            .build(),
        "after" => call
            .tags_after(&[("MimeType", "audio/L16;rate=8000;channels=1")])
            .build(),
        _ => call.build(),
    }
}

fn codecs(media: &Synthetic, mode: ConnectAudio) -> Vec<String> {
    let config = archive();
    let config = Config {
        timeline: timeline::Config {
            connect_audio: mode,
            ..config.timeline
        },
        ..config
    };
    let outcome = receive(media, &config);
    assert_eq!(
        outcome.frames(),
        from_zero(frames(&media.frames())),
        "frames are left alone"
    );
    let reading = mkv::read(&Bytes::from(outcome.bytes));
    reading.documents[0]
        .tracks
        .iter()
        .map(|track| track.codec_id.clone())
        .collect()
}

#[test]
fn call_audio_is_announced_as_what_it_is() {
    const PCM: &str = "A_PCM/INT/LIT";
    assert_eq!(codecs(&call("before"), ConnectAudio::Auto), [PCM, PCM]);
    assert_eq!(codecs(&call("after"), ConnectAudio::Auto), [PCM, PCM]);
    assert_eq!(
        codecs(&call("none"), ConnectAudio::Auto),
        ["A_AAC", "A_AAC"]
    );
    assert_eq!(
        codecs(&call("before"), ConnectAudio::Off),
        ["A_AAC", "A_AAC"]
    );
    assert_eq!(codecs(&call("none"), ConnectAudio::On), [PCM, PCM]);
}

#[test]
fn tracks_that_are_followed_begin_a_document_of_their_own() {
    let media = Synth::new()
        .fragments(4)
        .from_fragment(2, |fragment| {
            fragment.tracks = vec![TrackSpec::vp8(1), TrackSpec::aac(2)]
        })
        .build();
    for config in [archive(), live()] {
        let config = Config {
            timeline: timeline::Config {
                follow_tracks: true,
                ..config.timeline
            },
            ..config
        };
        let outcome = receive(&media, &config);
        assert!(!changes(&outcome)[0].compatible);
        let reading = mkv::read(&Bytes::from(outcome.bytes.clone()));
        let codecs = |document: &mkv::Document| {
            let codecs = document.tracks.iter().map(|track| track.codec_id.clone());
            codecs.collect::<Vec<_>>()
        };
        assert_eq!(codecs(&reading.documents[0]), ["V_MPEG4/ISO/AVC"]);
        assert_eq!(codecs(&reading.documents[1]), ["V_VP8", "A_AAC"]);
        // Time goes on as if nothing had changed.
        let frames = seen(&outcome);
        assert_times(&frames, &by_producer(&media));
        assert!(
            frames
                .iter()
                .all(|frame| frame.pts == frame.stream_time - START)
        );
        assert!(kinds(&outcome).is_empty());
    }
}

/// With a latency of 2 s.
fn in_time() -> Config {
    Config {
        timeline: timeline::Config {
            max_lateness: Some(2000 * MS),
            ..live().timeline
        },
        ..live()
    }
}

/// What is received live of fragments that arrive at these times, in milliseconds.
fn receive_live(media: &Synthetic, arrivals: &[u64]) -> Outcome {
    let mut receiver = Receiver::new(in_time());
    let mut items = Vec::new();
    receiver.open();
    for (fragment, arrival) in media.fragments.iter().zip(arrivals) {
        receiver.arrives(arrival * MS);
        receiver
            .push(fragment.document.clone(), &mut items)
            .unwrap();
    }
    receiver.finish(&mut items).unwrap();
    Outcome::of(items)
}

#[test]
fn live_frames_that_come_late_are_due_when_they_come() {
    let media = Synth::new().fragments(5).build();
    // The third is as late as it may be, the fourth later.
    let outcome = receive_live(&media, &[7000, 9000, 13_000, 13_100, 15_000]);
    assert_eq!(segments(&outcome).len(), 1);
    let outcome = receive_live(&media, &[7000, 9000, 13_001, 13_100, 17_001]);
    let segments = segments(&outcome);
    assert_eq!(segments.len(), 2);
    assert_eq!((segments[1].start, segments[1].due_now), (4000 * MS, true));
    assert_eq!(kinds(&outcome), [GapKind::Late]);
    assert_times(&seen(&outcome), &by_producer(&media));
}

/// Six fragments of 2 s, the clock of which steps by so much before the third.
fn stepping(ms: i64) -> Synthetic {
    Synth::new()
        .fragments(6)
        .from_fragment(2, move |fragment| {
            let stepped = fragment.producer_timestamp_ms.saturating_add_signed(ms);
            fragment.producer_timestamp_ms = stepped;
            fragment.timecode_ms = stepped;
        })
        .build()
}

#[test]
fn live_a_clock_that_steps_is_not_waited_for() {
    for (step, kind) in [
        (3_600_000, GapKind::Hole),
        (10_000, GapKind::Hole),
        (-3_600_000, GapKind::ClockBack),
    ] {
        let media = stepping(step);
        // Arrivals keep their pace, but for jitter where the clock steps.
        let outcome = receive_live(&media, &[7000, 9000, 12_500, 13_000, 15_000, 17_000]);
        assert_eq!(kinds(&outcome), [kind], "{step}");
        let frames = seen(&outcome);
        assert_times(&frames, &by_producer(&media));
        let pts: Vec<u64> = frames.iter().map(|frame| frame.pts).collect();
        assert_eq!(pts, (0..60).map(|n| n * 200).collect::<Vec<_>>(), "{step}");
        let segments = segments(&outcome);
        assert_eq!(segments.len(), 2, "{step}");
        assert_eq!((segments[1].start, segments[1].due_now), (4000 * MS, false));
    }
}

#[test]
fn live_jitter_where_the_clock_steps_is_not_forgotten() {
    // Each fragment comes as late as it may by the pace of the first two, and the last still later.
    for step in [3_600_000, -3_600_000] {
        let outcome = receive_live(
            &stepping(step),
            &[7000, 9000, 13_000, 15_000, 17_000, 19_001],
        );
        let due_now = segments(&outcome)
            .iter()
            .map(|s| s.due_now)
            .collect::<Vec<_>>();
        assert_eq!(due_now, [false, false, true], "{step}");
        assert_eq!(kinds(&outcome)[1..], [GapKind::Late]);
    }
}

#[test]
fn live_a_clock_that_steps_while_nothing_comes() {
    // The producer is away for half a minute, and comes back with another clock.
    for step in [3_600_000, -3_600_000] {
        let outcome = receive_live(
            &stepping(step),
            &[7000, 9000, 41_000, 43_000, 45_000, 47_000],
        );
        let segments = segments(&outcome);
        assert_eq!(segments.len(), 2, "{step}");
        assert_eq!((segments[1].start, segments[1].due_now), (4000 * MS, true));
        assert_eq!(kinds(&outcome).len(), 1);
    }
}

#[test]
fn live_a_pause_of_the_producer_stays_a_hole() {
    for pause in [10_000, 3_600_000u64] {
        let media = stepping(pause as i64);
        // With a second of jitter, both ways.
        for jitter in [-1000, 0, 1000] {
            let back = (11_000 + pause).saturating_add_signed(jitter);
            let arrivals = [7000, 9000, back, 13_000 + pause, 15_000 + pause];
            let outcome = receive_live(&media, &arrivals);
            assert_eq!(segments(&outcome).len(), 1, "{pause} {jitter}");
            assert_eq!(kinds(&outcome), [GapKind::Hole]);
            assert_eq!(seen(&outcome)[20].pts, 4000 + pause);
        }
    }
}

/// From the archive all comes at once, and only the service knows how long nothing came.
#[test]
fn live_a_recorded_pause_stays_a_hole() {
    let recorded = |received: u64| {
        Synth::new()
            .fragments(6)
            .from_fragment(2, move |fragment| {
                fragment.producer_timestamp_ms += 600_000;
                fragment.timecode_ms = fragment.producer_timestamp_ms;
                fragment.server_timestamp_ms += received;
            })
            .build()
    };
    for (received, segments_expected) in [(600_000, 1), (0, 2)] {
        let outcome = receive_live(&recorded(received), &[7000; 6]);
        assert_eq!(kinds(&outcome), [GapKind::Hole]);
        assert_eq!(segments(&outcome).len(), segments_expected, "{received}");
    }
}

#[test]
fn what_lags_too_far_behind_is_left_for_now_once() {
    let media = Synth::new()
        .fragments(6)
        .each(|index, fragment| fragment.millis_behind = [500, 9000, 9000, 9000, 100, 9000][index])
        .build();
    let mut receiver = Receiver::new(Config {
        max_lag: Some(8000),
        ..live()
    });
    let mut items = Vec::new();
    receiver.open();
    let all = body(&media, &Selector::Earliest);
    assert_eq!(
        feed(&mut receiver, &all, 100, &mut items),
        Ok(Flow::SkipToNow)
    );
    assert_eq!(receiver.position().request(), Selector::Now);
    receiver.open();
    // Now is no nearer, and then it is.
    let rest: Bytes = documents(&media, &Selector::Earliest)[3..].concat().into();
    assert_eq!(
        feed(&mut receiver, &rest, 100, &mut items),
        Ok(Flow::SkipToNow)
    );
    let outcome = Outcome::of(items);
    assert_eq!(outcome.ends().len(), 5);
    assert_eq!(kinds(&outcome), [GapKind::SkippedToNow]);
    assert_eq!(
        outcome.gaps()[0].to_fragment.as_ref(),
        Some(&media.fragments[3].number)
    );
}

#[test]
fn what_was_skipped_to_is_not_waited_for() {
    let media = Synth::new()
        .fragments(10)
        .each(|index, fragment| fragment.millis_behind = if index == 2 { 12_000 } else { 100 })
        .build();
    let mut receiver = Receiver::new(Config {
        max_lag: Some(8000),
        ..in_time()
    });
    let mut items = Vec::new();
    // The network stands still after the second, and the third is late already.
    for bodies in [
        &[(0, 7000), (1, 9000), (2, 23_000)][..],
        &[(8, 23_100), (9, 25_100)],
    ] {
        receiver.open();
        for &(index, arrival) in bodies {
            receiver.arrives(arrival * MS);
            let document = media.fragments[index].document.clone();
            receiver.push(document, &mut items).unwrap();
        }
    }
    receiver.finish(&mut items).unwrap();
    let outcome = Outcome::of(items);
    assert_eq!(kinds(&outcome), [GapKind::Late, GapKind::SkippedToNow]);
    let segments = segments(&outcome);
    let placed = segments.iter().map(|s| (s.start / MS, s.due_now));
    let placed: Vec<_> = placed.collect();
    assert_eq!(placed, [(0, false), (4000, true), (6000, false)]);
    let expected = by_producer(&media);
    let each = expected.len() / media.fragments.len();
    let shown = [&expected[..3 * each], &expected[8 * each..]].concat();
    assert_times(&seen(&outcome), &shown);
}

#[test]
fn after_a_seek_a_demuxer_is_not_told_again() {
    // Call audio is what it was found to be, wherever the tag stands that says so.
    let plain = Synth::new().fragments(2).build();
    for media in [plain, call("before"), call("after")] {
        let first = receive(&media, &archive());
        let opened = |outcome: &Outcome| {
            let mut opened = outcome.others.iter().filter_map(|(_, item)| match item {
                Item::Opened(opened) => Some(opened.clone()),
                _ => None,
            });
            (opened.next(), opened.next())
        };
        let (Some(told), None) = opened(&first) else {
            panic!("told once")
        };
        let config = Config {
            opened: Some(told),
            ..archive()
        };
        let again = receive(&media, &config);
        assert_eq!(opened(&again), (None, None));
        let reading = mkv::read(&Bytes::from(again.bytes.clone()));
        assert!(reading.documents[0].tracks.is_empty());
        assert_eq!(again.frames(), first.frames());
        assert!(changes(&again).is_empty());
    }
}

#[test]
fn tracks_in_another_order_are_the_same() {
    let media = Synth::new()
        .tracks([TrackSpec::aac(2), TrackSpec::h264(1)])
        .fragments(5)
        .each(|index, fragment| {
            // As sessions of a producer differ, in what nobody asks for.
            let tracks = std::mem::take(&mut fragment.tracks);
            let spare = |track: TrackSpec| match index % 2 {
                0 => track,
                _ => TrackSpec {
                    default_duration: Some(0),
                    ..track
                },
            };
            fragment.tracks = tracks.into_iter().map(spare).collect();
        })
        .build();
    let outcome = receive(&media, &archive());
    assert!(changes(&outcome).is_empty(), "{:?}", changes(&outcome));
    assert_eq!(outcome.frames(), from_zero(frames(&media.frames())));
    // Under other numbers they are the same as well.
    let media = Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(4)
        .from_fragment(2, |fragment| {
            fragment.tracks = vec![TrackSpec::aac(1), TrackSpec::h264(7)]
        })
        .build();
    let outcome = receive(&media, &archive());
    assert!(changes(&outcome).is_empty(), "{:?}", changes(&outcome));
}

#[test]
fn tracks_of_a_fragment_without_frames_are_forgotten_with_it() {
    let media = Synth::new()
        .fragments(4)
        .each(|index, fragment| match index {
            0 => (),
            1 => {
                fragment.media = false;
                fragment.tracks = vec![TrackSpec::h264(1).private(&[1, 2, 3, 4])];
            }
            _ => fragment.tracks = vec![TrackSpec::vp8(1)],
        })
        .build();
    let config = Config {
        timeline: timeline::Config {
            follow_tracks: true,
            ..archive().timeline
        },
        ..archive()
    };
    let outcome = receive(&media, &config);
    let reading = mkv::read(&Bytes::from(outcome.bytes.clone()));
    let tracks = |document: &mkv::Document| {
        let elements = document.elements.iter();
        elements.filter(|element| element.id == 0x1654_AE6B).count()
    };
    let found: Vec<usize> = reading.documents.iter().map(tracks).collect();
    assert_eq!(found, [1, 1], "each document has its own");
    assert_eq!(seen(&outcome).len(), 30);
}
