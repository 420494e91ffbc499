//! Seeking by wall-clock time, on the element.

mod support;

use gst::prelude::*;
use kvs_local::{
    Fault, Server,
    synth::{Synth, Synthetic, TrackSpec},
};
use std::time::Duration;
use support::*;

const START: u64 = 1_700_000_000_000;

fn ms(ms: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(ms)
}

fn now() -> gst::ClockTime {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    gst::ClockTime::try_from(now.unwrap()).unwrap()
}

fn seek(src: &gst::Element, flags: gst::SeekFlags, start: gst::ClockTime) -> bool {
    src.seek_simple(gst::SeekFlags::FLUSH | flags, start)
        .is_ok()
}

/// Plays `media` to its end, and is ready to be sought.
fn played(server: &Server, media: &Synthetic) -> Run {
    let run = Run::demuxed(&play_media(server, "cam", media, &[]));
    run.play().wait_eos();
    run
}

/// The stream times of what has come, in milliseconds.
fn times(log: &Log) -> Vec<u64> {
    let frames = log.frames(VIDEO);
    frames
        .iter()
        .map(|frame| frame.stream_time.mseconds())
        .collect()
}

/// The same, of what `media` has between two times.
fn expected(media: &Synthetic, from: u64, to: u64) -> Vec<u64> {
    let frames = media.fragments.iter().flat_map(|fragment| &fragment.frames);
    let times = frames
        .filter(|frame| frame.track == 1)
        .map(|frame| (frame.time_ns / 1_000_000) as u64);
    times.filter(|time| (from..to).contains(time)).collect()
}

#[test]
fn to_a_key_unit_is_to_the_fragment_that_holds_the_time() {
    let server = Server::start();
    let media = media(6);
    let run = played(&server, &media);
    for (target, first) in [(2500, 2000), (3000, 3000), (999, 0)] {
        run.clear();
        assert!(seek(&run.src, gst::SeekFlags::KEY_UNIT, ms(START + target)));
        run.wait_eos();
        let log = run.log();
        assert_eq!(times(&log), expected(&media, START + first, START + 6000));
        let segments = log.segments(VIDEO);
        assert_eq!(segments.len(), 1, "{segments:?}");
        assert_eq!(log.frames(VIDEO)[0].running_time, gst::ClockTime::ZERO);
        assert!(log.structures("kvs-gap").is_empty());
    }
}

#[test]
fn otherwise_frames_before_are_clipped() {
    let server = Server::start();
    let media = media(6);
    let src = play_media(&server, "cam", &media, &[]);
    let pipeline = gst::Pipeline::new();
    let demuxer = gst::ElementFactory::make("matroskademux").build().unwrap();
    let sink = gst_app::AppSink::builder().sync(false).build();
    pipeline
        .add_many([&src, &demuxer, sink.upcast_ref()])
        .unwrap();
    src.link(&demuxer).unwrap();
    let video = sink.static_pad("sink").unwrap();
    demuxer.connect_pad_added(move |_, pad| {
        if pad.name() == VIDEO {
            pad.link(&video).unwrap();
        }
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    while sink.pull_sample().is_ok() {}
    let target = START + 2400;
    assert!(seek(&src, gst::SeekFlags::ACCURATE, ms(target)));
    let mut seen = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let segment = sample
            .segment()
            .unwrap()
            .downcast_ref::<gst::ClockTime>()
            .unwrap();
        assert_eq!(segment.to_stream_time(segment.start()), Some(ms(target)));
        let pts = sample.buffer().unwrap().pts();
        seen.push((segment.to_stream_time(pts), segment.to_running_time(pts)));
    }
    // A frame that began before may reach into it.
    let (stream_time, running_time) = *seen.iter().find(|(time, _)| time.is_some()).unwrap();
    assert_eq!(stream_time, Some(ms(START + 2500)));
    assert_eq!(running_time, Some(ms(100)));
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn before_the_oldest_is_the_oldest_and_after_now_is_now() {
    let server = Server::start();
    let media = media(4);
    media.push_to(&server.stream("cam"));
    let run = Run::demuxed(&source(&server, "cam", &[("start-selector", "earliest")]));
    run.play().wait("all", |log| log.fragments().len() == 5);
    for target in [ms(START - 3_600_000), gst::ClockTime::ZERO] {
        run.clear();
        assert!(seek(&run.src, gst::SeekFlags::ACCURATE, target));
        run.wait("all again", |log| log.fragments().len() == 5);
        assert_eq!(times(&run.log()), expected(&media, START, START + 5000));
    }
    run.clear();
    let future = now() + gst::ClockTime::from_seconds(1000);
    assert!(seek(&run.src, gst::SeekFlags::ACCURATE, future));
    run.wait("the latest", |log| log.fragments().len() == 1);
    assert_eq!(
        times(&run.log()),
        expected(&media, START + 4000, START + 5000)
    );
}

#[test]
fn a_stop_position_ends_the_stream() {
    let server = Server::start();
    let media = media(6);
    let run = played(&server, &media);
    run.clear();
    run.src
        .seek(
            1.0,
            gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT,
            gst::SeekType::Set,
            ms(START + 1000),
            gst::SeekType::Set,
            ms(START + 3000),
        )
        .unwrap();
    run.wait_eos();
    let log = run.log();
    assert_eq!(times(&log), expected(&media, START + 1000, START + 3000));
    assert_eq!(log.segments(VIDEO)[0].stop(), ms(2000).into());
    // A seek beyond it has none.
    run.clear();
    assert!(seek(&run.src, gst::SeekFlags::KEY_UNIT, ms(START + 4000)));
    run.wait_eos();
    assert_eq!(
        times(&run.log()),
        expected(&media, START + 4000, START + 6000)
    );
}

#[test]
fn what_cannot_be_sought_is_refused_and_changes_nothing() {
    let server = Server::start();
    let media = media(3);
    let run = played(&server, &media);
    let (flush, set) = (gst::SeekFlags::FLUSH, gst::SeekType::Set);
    let none = gst::ClockTime::NONE;
    run.clear();
    assert!(
        run.src
            .seek(-1.0, flush, set, ms(START), set, ms(START + 1000))
            .is_err()
    );
    assert!(
        run.src
            .seek(1.0, gst::SeekFlags::empty(), set, ms(START), set, none)
            .is_err()
    );
    assert!(
        run.src
            .seek(
                1.0,
                flush,
                set,
                gst::format::Bytes::from_u64(7),
                set,
                gst::format::Bytes::NONE
            )
            .is_err()
    );
    assert!(
        run.src
            .seek(1.0, flush, gst::SeekType::End, ms(1), set, none)
            .is_err()
    );
    assert!(run.log().pads.is_empty());
    assert!(run.src.seek(2.0, flush, set, ms(START), set, none).is_ok());
    run.wait_eos();
    assert_eq!(run.log().segments(VIDEO)[0].rate(), 2.0);
}

#[test]
fn queries_tell_the_truth() {
    let server = Server::start();
    let media = media(3);
    let run = played(&server, &media);
    let mut query = gst::query::Seeking::new(gst::Format::Time);
    assert!(run.src.query(&mut query));
    let (seekable, start, end) = query.result();
    assert!(seekable);
    assert_eq!(start, ms(START).into());
    assert!(
        matches!(end, gst::GenericFormattedValue::Time(Some(end)) if end <= now() && end + ms(60_000) > now())
    );
    assert_eq!(run.src.query_duration::<gst::ClockTime>(), None);
    let position = run.src.query_position::<gst::ClockTime>().unwrap();
    assert!(
        (ms(START + 2000)..ms(START + 3000)).contains(&position),
        "{position}"
    );
    assert!(seek(&run.src, gst::SeekFlags::KEY_UNIT, ms(START + 1000)));
    run.clear();
    let raw = source(&server, "cam", &[("payload", "raw")]);
    let mut query = gst::query::Seeking::new(gst::Format::Time);
    assert!(
        !raw.query(&mut query) || !query.result().0,
        "bytes cannot be sought"
    );
}

#[test]
fn while_an_answer_is_awaited_or_retried() {
    let server = Server::start();
    let media = media(4);
    media.push_to(&server.stream("cam"));
    let faults = [
        Fault::get_media().hang_before_headers(),
        Fault::get_data_endpoint().hang_before_headers(),
        Fault::get_media()
            .http_error(500, "InternalFailure", "no")
            .times(3),
        Fault::get_media().stall_after(100),
    ];
    for fault in faults {
        server.fault(fault);
        let src = source(&server, "cam", &[("start-selector", "earliest")]);
        let run = Run::demuxed(&src);
        let before = server.requests().len();
        run.play();
        assert!(server.wait_until(PATIENCE, |server| server.requests().len() > before));
        server.clear_faults();
        assert!(seek(&src, gst::SeekFlags::KEY_UNIT, ms(START + 2000)));
        // Something may have come before.
        let expected = expected(&media, START + 2000, START + 5000);
        run.wait("what was sought", |log| times(log).ends_with(&expected));
    }
}

#[test]
fn a_hundred_at_random_leave_nothing_behind() {
    let server = Server::builder().enforce_limits(false).start();
    let media = media(6);
    let run = played(&server, &media);
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let mut random = 7u64;
    for _ in 0..100 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let target = START + (random >> 33) % 6000;
        let flags =
            [gst::SeekFlags::KEY_UNIT, gst::SeekFlags::ACCURATE][(random >> 20) as usize % 2];
        assert!(seek(&run.src, flags, ms(target)));
    }
    run.clear();
    assert!(seek(&run.src, gst::SeekFlags::KEY_UNIT, ms(START + 3000)));
    run.wait_eos();
    assert_eq!(
        times(&run.log()),
        expected(&media, START + 3000, START + 6000)
    );
    assert!(
        threads() <= before + 2,
        "{} threads, {before} before",
        threads()
    );
    let stream = server.stream("cam").name().to_owned();
    run.stop();
    assert!(server.wait_until(
        Duration::from_secs(10),
        |server| server.open_connections(&stream) == 0
    ));
}

#[test]
fn tracks_that_changed_on_the_way_are_told_of() {
    let server = Server::start();
    let media = Synth::new()
        .fragments(5)
        .fragment_ms(1000)
        .from_fragment(2, |fragment| {
            fragment.tracks = vec![TrackSpec::h264(1).private(&[1, 0x64, 0, 0x0C, 0xFF, 0xE0, 0])]
        })
        .build();
    let run = played(&server, &media);
    run.clear();
    assert!(seek(&run.src, gst::SeekFlags::KEY_UNIT, ms(START)));
    run.wait_eos();
    let log = run.log();
    let changes = log.structures("kvs-tracks-changed").len();
    assert_eq!(changes, 2, "back to the first, and on to the second");
    assert_eq!(times(&log), expected(&media, START, START + 4000));
}

#[test]
fn call_audio_stays_what_it_was_found_to_be() {
    let server = Server::start();
    let tracks = [
        TrackSpec::connect(1, "AUDIO_TO_CUSTOMER"),
        TrackSpec::connect(2, "AUDIO_FROM_CUSTOMER"),
    ];
    // The tag that says what it is comes after the frames.
    let media = Synth::new()
        .tracks(tracks)
        .fragments(4)
        .fragment_ms(1000)
        .tags_after(&[("MimeType", "audio/L16;rate=8000;channels=1")])
        .build();
    let run = played(&server, &media);
    run.clear();
    assert!(seek(&run.src, gst::SeekFlags::KEY_UNIT, ms(START + 1000)));
    run.wait_eos();
    let log = run.log();
    let times: Vec<u64> = log
        .frames(AUDIO)
        .iter()
        .map(|frame| frame.stream_time.mseconds())
        .collect();
    assert_eq!(times, expected(&media, START + 1000, START + 3000));
    assert!(log.structures("kvs-tracks-changed").is_empty());
}
