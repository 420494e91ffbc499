//! Seeking by wall-clock time, on the element.

mod support;

use gst::prelude::*;
use kvs_local::{
    Fault, NewFragment, OnTimestampGap, Server, StartSelector, Timecodes, Undocumented,
    synth::{Synth, SynthFragment, Synthetic, TrackSpec},
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
    outside(OnTimestampGap::NextFragment);
}

#[test]
fn where_the_service_says_that_nothing_is_there_as_well() {
    outside(OnTimestampGap::NotFound);
}

fn outside(timestamp_gap: OnTimestampGap) {
    let choice = Undocumented {
        timestamp_gap,
        ..Undocumented::default()
    };
    let server = Server::builder().undocumented(choice).start();
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

/// The times of a seek are the element's own; that of the start is the user's.
#[test]
fn a_start_where_nothing_is_is_an_error() {
    let choice = Undocumented {
        timestamp_gap: OnTimestampGap::NotFound,
        ..Undocumented::default()
    };
    let server = Server::builder().undocumented(choice).start();
    let media = media(2);
    media.push_to(&server.stream("cam"));
    let properties = [
        ("start-selector", "producer-timestamp"),
        ("start-timestamp", "1000000000"),
    ];
    let run = Run::demuxed(&source(&server, "cam", &properties));
    let (error, _) = run.play().wait_error();
    assert!(error.matches(gst::ResourceError::NotFound), "{error}");
    assert_eq!(get_media(&server).len(), 1);
}

#[test]
fn the_service_that_is_lost_after_a_seek_had_been_reached() {
    let server = Server::start();
    let media = media(3);
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[("max-retries", "1")]));
    run.play().wait_eos();
    run.clear();
    server.fault(
        Fault::get_media()
            .always()
            .http_error(500, "InternalFailure", "no"),
    );
    assert!(seek(&run.src, gst::SeekFlags::KEY_UNIT, ms(START)));
    let (error, _) = run.wait_error();
    assert!(error.matches(gst::ResourceError::Read), "{error}");
    let is_progress = |m: &&gst::Message| m.type_() == gst::MessageType::Progress;
    let log = run.log();
    let progress: Vec<_> = log.messages.iter().filter(is_progress).collect();
    assert!(progress.is_empty(), "opened twice: {progress:?}");
}

/// What was asked for last.
fn last_selector(server: &Server) -> StartSelector {
    let last = get_media(server).pop().unwrap();
    last.selector.unwrap()
}

/// Takes away what is on its way, as an application may without a seek.
fn flush(src: &gst::Element) {
    assert!(src.send_event(gst::event::FlushStart::new()));
    assert!(src.send_event(gst::event::FlushStop::new(true)));
}

/// Another rate, from where it stands.
fn change_rate(src: &gst::Element, rate: f64) {
    let (flags, none) = (gst::SeekFlags::FLUSH, gst::ClockTime::NONE);
    let same = gst::SeekType::None;
    src.seek(rate, flags, same, none, same, none).unwrap();
}

/// A sink that keeps time plays on over holes and restarts, however fast it plays.
#[test]
fn at_any_rate_running_time_goes_on_over_a_hole() {
    let media = Synth::new()
        .tracks([TrackSpec::h264(1)])
        .fragments(7)
        .fragment_ms(1000)
        .frames(8)
        .from_fragment(2, |fragment| fragment.producer_timestamp_ms += 600_000)
        .from_fragment(4, |fragment| fragment.producer_timestamp_ms += 600_000)
        .each(|_, fragment| fragment.timecode_ms = fragment.producer_timestamp_ms)
        .build();
    let server = Server::start();
    let run = played(&server, &media);
    let none = gst::ClockTime::NONE;
    for rate in [2.0, 0.5, 1.0] {
        run.clear();
        let (start, set) = (ms(START + 1000), gst::SeekType::Set);
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
        run.src.seek(rate, flags, set, start, set, none).unwrap();
        run.wait_eos();
        let log = run.log();
        assert_eq!(log.segments(VIDEO).len(), 3);
        // Frames are 125 ms apart.
        let frames = log.frames(VIDEO).into_iter();
        let running: Vec<u64> = frames.map(|f| f.running_time.mseconds()).collect();
        let expected = (0..5 * 8).map(|n| (n as f64 * 125.0 / rate) as u64);
        assert_eq!(running, expected.collect::<Vec<_>>(), "{rate}");
    }
}

#[test]
fn after_a_stop_position_it_knows_where_it_stands() {
    let media = media(6);
    let server = Server::start();
    // A frame or so at a time.
    server.fault(Fault::get_media().always().chunk_size(200));
    let (start, stop) = (ms(START + 1000), ms(START + 2500));
    let again: [fn(&gst::Element); 2] = [flush, |src| change_rate(src, 2.0)];
    for (index, again) in again.into_iter().enumerate() {
        let src = play_media(&server, &format!("cam{index}"), &media, &[]);
        let run = Run::demuxed(&src);
        run.play().wait_eos();
        run.clear();
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
        let set = gst::SeekType::Set;
        run.src.seek(1.0, flags, set, start, set, stop).unwrap();
        run.wait_eos();
        assert_eq!(
            times(&run.log()),
            expected(&media, START + 1000, START + 2500)
        );
        for _ in 0..2 {
            let position = run.src.query_position::<gst::ClockTime>();
            assert!(
                position.is_some_and(|p| (stop - ms(400)..stop).contains(&p)),
                "{position:?}"
            );
            run.clear();
            again(&run.src);
            // What comes may lie before what is shown.
            assert!(run.wait_for(PATIENCE, Log::is_eos));
            let shown = times(&run.log());
            assert!(
                shown
                    .iter()
                    .all(|time| *time > START + 2000 && *time < START + 2500),
                "{shown:?}"
            );
            assert_ne!(last_selector(&server), StartSelector::Earliest);
        }
    }
}

/// Properties hold for the next start. A seek is not one.
#[test]
fn what_is_set_meanwhile_is_for_the_next_start() {
    let media = media(6);
    let server = Server::start();
    Synth::new()
        .seed(2)
        .build()
        .push_to(&server.stream("other"));
    let at = seconds(START + 1000);
    let changes: [&[(&str, &str)]; 7] = [
        &[("start-selector", "fragment-number")],
        &[("stream-name", "other")],
        &[("payload", "raw")],
        &[("timestamp-source", "server")],
        &[("secret-key", "another")],
        &[("end-timestamp", &at)],
        &[("mode", "live"), ("latency", "77")],
    ];
    for (index, changes) in changes.into_iter().enumerate() {
        let stream = format!("cam{index}");
        let src = play_media(&server, &stream, &media, &[]);
        let run = Run::demuxed(&src);
        run.play().wait_eos();
        run.clear();
        set(&src, changes);
        let mut query = gst::query::Seeking::new(gst::Format::Time);
        assert!(src.query(&mut query) && query.result().0, "{changes:?}");
        assert!(
            seek(&src, gst::SeekFlags::KEY_UNIT, ms(START + 2000)),
            "{changes:?}"
        );
        run.wait_eos();
        let log = run.log();
        assert_eq!(
            times(&log),
            expected(&media, START + 2000, START + 6000),
            "{changes:?}"
        );
        let request = get_media(&server).pop().unwrap();
        assert_eq!(request.stream.as_deref(), Some(stream.as_str()));
        assert_eq!(
            request.selector,
            Some(StartSelector::ProducerTimestamp(START + 2000))
        );
        let number = &log.structures("kvs-fragment")[0];
        assert_eq!(number.get("stream-name"), Ok(stream.as_str()));
    }
}

/// And the latency asked for meanwhile is the one that holds.
#[test]
fn a_latency_set_meanwhile_is_for_the_next_start() {
    let server = Server::start();
    media(3).push_to(&server.stream("cam"));
    let run = Run::demuxed(&source(&server, "cam", &[("latency", "700")]));
    run.play().wait("a frame", |log| log.count() > 0);
    let latency = |src: &gst::Element| {
        let mut query = gst::query::Latency::new();
        assert!(src.query(&mut query));
        query.result()
    };
    set(&run.src, &[("latency", "9000"), ("mode", "archive")]);
    assert_eq!(latency(&run.src), (true, ms(700), None));
}

/// A range of which nothing was recorded is done with like any other.
#[test]
fn a_segment_without_a_frame_is_done() {
    let media = Synth::new()
        .fragments(4)
        .from_fragment(2, |fragment| {
            fragment.producer_timestamp_ms += 3_600_000;
            fragment.timecode_ms += 3_600_000;
        })
        .build();
    let server = Server::start();
    let run = played(&server, &media);
    run.clear();
    for (from, to, frames) in [(600_000, 900_000, false), (0, 4000, true)] {
        run.clear();
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::SEGMENT | gst::SeekFlags::KEY_UNIT;
        let set = gst::SeekType::Set;
        run.src
            .seek(1.0, flags, set, ms(START + from), set, ms(START + to))
            .unwrap();
        let done = |message: &gst::Message| message.type_() == gst::MessageType::SegmentDone;
        run.wait("SEGMENT_DONE", |log| log.messages.iter().any(done));
        assert!(!run.log().is_eos(), "{from}");
        assert_eq!(run.log().count() > 0, frames, "{from}");
    }
}

/// Whoever asks for what was an hour ago is not taken to now after a fragment.
#[test]
fn what_lies_further_back_than_max_lag_can_be_sought() {
    let server = Server::start();
    let media = media(5);
    let stream = server.stream("cam");
    // As a producer sends them: the service says what time they came.
    let push = |fragment: &SynthFragment| {
        stream.push_fragment(NewFragment {
            producer_timestamp_ms: fragment.producer_timestamp_ms,
            ..NewFragment::new([&fragment.header[..], &fragment.cluster].concat())
        })
    };
    let numbers: Vec<String> = media.fragments.iter().map(push).collect();
    // The time is what is simulated here: all of it is older than max-lag.
    std::thread::sleep(Duration::from_millis(600));
    let run = Run::demuxed(&source(&server, "cam", &[("max-lag", "500000000")]));
    run.play().wait("what is now", |log| log.count() > 0);
    run.clear();
    assert!(seek(&run.src, gst::SeekFlags::KEY_UNIT, ms(START)));
    run.wait("the last", |log| log.fragments().last() == numbers.last());
    let log = run.stop();
    assert_eq!(log.fragments(), numbers);
    assert!(log.structures("kvs-gap").is_empty());
}

#[test]
fn a_seek_that_is_refused_is_forgotten() {
    let media = media(3);
    let server = Server::start();
    let src = play_media(&server, "cam", &media, &[("payload", "raw")]);
    let run = Run::plain(&src);
    run.play().wait_eos();
    assert!(!seek(&src, gst::SeekFlags::KEY_UNIT, ms(START + 2000)));
    run.pipeline.set_state(gst::State::Ready).unwrap();
    assert!(!seek(&src, gst::SeekFlags::KEY_UNIT, ms(START + 2000)));
    run.clear();
    run.play().wait_eos();
    assert_eq!(get_media(&server).len(), 2);
    assert_eq!(last_selector(&server), StartSelector::Earliest);
    assert_eq!(run.log().fragments().len(), 3);
}

/// One that comes before the start is performed by it, and by no other.
#[test]
fn a_seek_before_the_start_is_where_it_starts() {
    let media = media(4);
    let server = Server::start();
    let src = play_media(&server, "cam", &media, &[]);
    let run = Run::demuxed(&src);
    run.pipeline.set_state(gst::State::Ready).unwrap();
    assert!(seek(&src, gst::SeekFlags::KEY_UNIT, ms(START + 1000)));
    assert!(seek(&src, gst::SeekFlags::KEY_UNIT, ms(START + 2000)));
    run.play().wait_eos();
    assert_eq!(
        times(&run.log()),
        expected(&media, START + 2000, START + 4000)
    );
    run.pipeline.set_state(gst::State::Ready).unwrap();
    run.clear();
    run.play().wait_eos();
    assert_eq!(times(&run.log()), expected(&media, START, START + 4000));
}

/// Where the producer has no clock, the times sought are the server's.
#[test]
fn without_a_producers_clock_by_the_servers() {
    let media = Synth::new()
        .tracks([TrackSpec::h264(1)])
        .timecodes(Timecodes::Relative)
        .fragments(7)
        .fragment_ms(1000)
        .frames(8)
        .distinct_tokens()
        .each(|_, fragment| fragment.producer_timestamp_ms = 0)
        .build();
    let server = Server::start();
    media.push_to(&server.stream("cam"));
    let src = source(&server, "cam", &[("start-selector", "earliest")]);
    let first = media.fragments[0].server_timestamp_ms;
    src.set_property("end-timestamp", seconds(first + 6000));
    let run = Run::demuxed(&src);
    run.play().wait_eos();
    let shown = |from: u64| {
        let times = (0..48).map(|n| first + n * 125);
        times.filter(|time| *time >= from).collect::<Vec<_>>()
    };
    assert_eq!(times(&run.log()), shown(first));
    for (target, fragment) in [(3000, 3000), (4500, 4000), (0, 0)] {
        let target = first + target;
        run.clear();
        assert!(seek(&run.src, gst::SeekFlags::KEY_UNIT, ms(target)));
        run.wait_eos();
        assert_eq!(
            last_selector(&server),
            StartSelector::ServerTimestamp(target)
        );
        assert_eq!(times(&run.log()), shown(first + fragment));
    }
}

/// Each step of opening that was begun ends, also where a seek takes its place.
#[test]
fn a_seek_while_it_opens_ends_what_was_under_way() {
    let server = Server::start();
    let media = media(4);
    let src = play_media(&server, "cam", &media, &[]);
    server.fault(Fault::get_media().hang_before_headers());
    let run = Run::demuxed(&src);
    run.play();
    assert!(server.wait_until(PATIENCE, |server| get_media(server).len() == 1));
    assert!(seek(&src, gst::SeekFlags::KEY_UNIT, ms(START + 2000)));
    run.wait_eos();
    let log = run.log();
    let steps = log
        .messages
        .iter()
        .filter_map(|message| match message.view() {
            gst::MessageView::Progress(progress) => {
                let (type_, code, _) = progress.get();
                (code == "connect").then_some(type_)
            }
            _ => None,
        });
    use gst::ProgressType::*;
    let steps: Vec<_> = steps.collect();
    assert_eq!(steps, [Start, Canceled, Start, Complete]);
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
