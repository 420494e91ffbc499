//! From the service through the element and a demuxer to sinks that clip as sinks do.

mod support;

use gst::prelude::*;
use kvs_local::{
    AfterBody, Cut, Fault, Server, StartSelector, StreamHandle,
    synth::{Synth, Synthetic, TrackSpec},
};
use std::{path::Path, time::Duration};
use support::*;

// ---- recordings of the service's own answers ---------------------------------------------------

const RECORDINGS: [(&str, usize); 3] = [
    ("output_get_media.mkv", 300),
    ("kinesis_video_renderer_example_output.mkv", 444),
    ("output-get-media-equal-timecode.mkv", 239),
];

/// Holds a producer restart after 13 minutes.
const RESTART: &str = "output-get-media-equal-timecode.mkv";

/// Every complete block of a recording arrives, byte for byte, in one segment.
fn recording_arrives(name: &str, blocks: usize, chunk: usize, properties: &[(&str, &str)]) {
    let what = format!("{name} in chunks of {chunk}");
    let Some((bytes, reading)) = recording(name) else {
        return;
    };
    let expected: Vec<_> = reading
        .frames()
        .map(|frame| frame.payload.clone())
        .collect();
    assert_eq!(expected.len(), blocks, "{what}");

    let server = Server::start();
    server.stream("cam").load_recording(&bytes);
    server.fault(Fault::get_media().always().chunk_size(chunk));
    let src = source(&server, "cam", &[("start-selector", "earliest")]);
    set(&src, properties);
    let run = Run::demuxed(&src);
    run.play();
    run.wait(&what, |log| log.count() >= blocks);
    let log = run.stop();

    assert_payloads(&log, VIDEO, &expected, &what);
    assert_monotonic(&log, VIDEO, &what);
    assert_eq!(log.segments(VIDEO).len(), 1, "{what}");
    assert_eq!(log.reconnects(), Vec::<String>::new(), "{what}");
    assert!(log.warnings().is_empty(), "{what}: {:?}", log.warnings());
    assert_eq!(get_media(&server).len(), 1, "{what}");
}

fn recordings_arrive(chunk: usize) {
    std::thread::scope(|scope| {
        for (name, blocks) in RECORDINGS {
            // A hole longer than max-gap would be closed by a second segment.
            let properties: &[_] = match name {
                RESTART => &[("max-gap", "3600000000000")],
                _ => &[],
            };
            scope.spawn(move || recording_arrives(name, blocks, chunk, properties));
        }
    });
}

#[test]
fn recordings_in_chunks_of_1_byte() {
    recordings_arrive(1);
}

#[test]
fn recordings_in_chunks_of_7_bytes() {
    recordings_arrive(7);
}

#[test]
fn recordings_in_chunks_of_1_kib() {
    recordings_arrive(1 << 10);
}

#[test]
fn recordings_in_chunks_of_64_kib() {
    recordings_arrive(64 << 10);
}

/// Live, a hole stays one: the same segment goes on, and the frames after it are due later.
#[test]
fn a_hole_stays_when_live() {
    let Some((_, reading)) = recording(RESTART) else {
        return;
    };
    let blocks = reading.frames().count();
    recording_arrives(RESTART, blocks, 64 << 10, &[("mode", "live")]);
}

/// In an archive a hole is closed: a second segment goes on where the first one ended, and its
/// stream time shows the hole.
#[test]
fn a_hole_is_closed_in_an_archive() {
    let Some((bytes, reading)) = recording(RESTART) else {
        return;
    };
    let documents = &reading.documents;
    let (before, blocks) = (documents[0].frames.len(), reading.frames().count());
    let server = Server::start();
    server.stream("cam").load_recording(&bytes);
    let run = Run::demuxed(&source(&server, "cam", &[("start-selector", "earliest")]));
    run.play();
    run.wait("every frame", |log| log.count() >= blocks);
    let log = run.stop();

    let expected = reading.frames().map(|frame| &frame.payload);
    assert_payloads(&log, VIDEO, expected, RESTART);
    assert_monotonic(&log, VIDEO, RESTART);
    assert_eq!(log.segments(VIDEO).len(), 2);
    let frames = log.frames(VIDEO);
    let (last, next) = (frames[before - 1], frames[before]);
    let apart = next.running_time - last.running_time;
    assert!(apart <= gst::ClockTime::from_mseconds(200), "{apart}");
    let hole = next.stream_time - last.stream_time;
    assert!(hole > gst::ClockTime::from_seconds(12 * 60), "{hole}");

    let gaps = log.structures("kvs-gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].get::<&str>("kind"), Ok("producer-restart"));
    let number = |index: usize| documents[index].aws_tag("FRAGMENT_NUMBER");
    let field = |name| gaps[0].get::<&str>(name).ok();
    assert_eq!(field("from-fragment-number"), number(0));
    assert_eq!(field("to-fragment-number"), number(1));
    let next_time = next.stream_time.nseconds();
    assert_eq!(gaps[0].get::<u64>("to-timestamp"), Ok(next_time));
    let from = gaps[0].get::<u64>("from-timestamp").unwrap();
    assert!((last.stream_time.nseconds()..next_time).contains(&from));
}

/// With end-at-live a recording ends by itself, whatever its last document lacks.
#[test]
fn recordings_end_at_live() {
    std::thread::scope(|scope| {
        for (name, blocks) in RECORDINGS {
            scope.spawn(move || {
                let Some((bytes, reading)) = recording(name) else {
                    return;
                };
                let server = Server::start();
                let stream = server.stream("cam");
                stream.load_recording(&bytes);
                stream.finish_recording();
                let properties = [("start-selector", "earliest"), ("end-at-live", "true")];
                let run = Run::demuxed(&source(&server, "cam", &properties));
                run.play();
                run.wait_eos();
                let log = run.stop();
                let expected = reading.frames().map(|frame| &frame.payload);
                assert_payloads(&log, VIDEO, expected, name);
                assert_eq!(log.frames(VIDEO).len(), blocks);
                // A last one that ends within a block is no fragment; what it lacks is named.
                let cut = usize::from(reading.is_truncated());
                let complete = reading.documents.len() - cut;
                assert_eq!(log.fragments().len(), complete, "{name}");
                let lost = |gap: &&&gst::StructureRef| gap.get("kind") == Ok("lost");
                let gaps = log.structures("kvs-gap");
                assert_eq!(gaps.iter().filter(lost).count(), cut, "{name}");
                assert_rate(&server, name);
            });
        }
    });
}

/// Plays what there is up to now, with one more property.
fn up_to_live(server: &Server, property: (&str, &str)) -> Log {
    let properties = [
        ("start-selector", "earliest"),
        ("end-at-live", "true"),
        property,
    ];
    let run = Run::demuxed(&source(server, "cam", &properties));
    run.play().wait_eos();
    run.stop()
}

/// Neither the end of the last fragment nor that of a body ever comes.
#[test]
fn a_last_fragment_without_a_token_ends_at_live_in_silence() {
    let server = Server::start();
    let media = media(2);
    media.push_to(&server.stream("cam"));
    server.fault(Fault::get_media().omit_trailing_tags(2));
    server.fault(Fault::get_media().nth(2).always().omit_trailing_tags(0));
    let log = up_to_live(&server, ("idle-timeout", "300"));
    let frames = media.fragments.iter().flat_map(|f| &f.frames);
    let video = frames.filter(|frame| frame.track == 1);
    assert_payloads(&log, VIDEO, video.map(|frame| &frame.payload), "all");
    assert_eq!(log.fragments().len(), 3);
    assert!(log.structures("kvs-gap").is_empty());
}

/// The producer has gone, and the service keeps nothing of what it had begun.
#[test]
fn a_last_fragment_that_nobody_has_any_more_ends_at_live() {
    for then in [AfterBody::CleanEnd, AfterBody::Silence] {
        let server = Server::start();
        let media = media(1);
        media.push_to(&server.stream("cam"));
        let [first, second] = &media.fragments[..] else {
            panic!("{} fragments", media.fragments.len());
        };
        let whole = first.document.len() + second.document.len();
        server.fault(Fault::get_media().cut_after(whole as u64 - 400, Cut::Fin));
        let gone = Fault::get_media().nth(2).always();
        server.fault(gone.replace_body("", then));
        let log = up_to_live(&server, ("idle-timeout", "300"));
        assert_eq!(log.fragments().len(), 1, "{then:?}");
        let gaps = log.structures("kvs-gap");
        let field = |name| gaps[0].get::<&str>(name);
        assert_eq!(field("kind"), Ok("lost"), "{then:?}");
        assert_eq!(field("from-fragment-number"), Ok(second.number.as_str()));
    }
}

/// Only a body that is there can be silent.
#[test]
fn a_service_that_is_slow_to_answer_does_not_end_at_live() {
    let server = Server::builder().rotate_after_fragments(2).start();
    let media = media(4);
    media.push_to(&server.stream("cam"));
    for nth in [1, 2] {
        let slow = Fault::get_media().nth(nth).drip(200_000);
        server.fault(slow.delay_headers(Duration::from_secs(11)));
    }
    let log = up_to_live(&server, ("connect-timeout", "20000"));
    assert_eq!(log.fragments().len(), media.fragments.len());
}

/// What has come is shown, though it is too little to tell what else there is.
#[test]
fn what_came_before_an_error_comes_out() {
    let server = Server::start();
    let media = media(2);
    let first = &media.fragments[0];
    let third = &first.frames[2].payload;
    let mut windows = first.document.windows(third.len());
    let at = windows.position(|bytes| bytes == third).unwrap();
    let cut = Fault::get_media().cut_after(at as u64, Cut::Fin);
    server.fault(cut.always());
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[("max-retries", "1")]));
    run.play().wait_error();
    assert_eq!(run.stop().count(), 2, "whole blocks before the cut");
}

// ---- selectors ---------------------------------------------------------------------------------

#[test]
fn each_selector_starts_at_its_fragment() {
    let media = media(5);
    let fragment = &media.fragments[2];
    let inside = |ms: u64| seconds(ms + 400);
    let cases: [(&str, &str, String, StartSelector, usize); 6] = [
        ("now", "", String::new(), StartSelector::Now, 5),
        ("earliest", "", String::new(), StartSelector::Earliest, 0),
        (
            "fragment-number",
            "after-fragment-number",
            fragment.number.clone(),
            StartSelector::FragmentNumber(fragment.number.clone()),
            3,
        ),
        (
            "producer-timestamp",
            "start-timestamp",
            inside(fragment.producer_timestamp_ms),
            StartSelector::ProducerTimestamp(fragment.producer_timestamp_ms + 400),
            2,
        ),
        (
            "server-timestamp",
            "start-timestamp",
            inside(fragment.server_timestamp_ms),
            StartSelector::ServerTimestamp(fragment.server_timestamp_ms + 400),
            2,
        ),
        (
            "continuation-token",
            "continuation-token",
            fragment.token.clone(),
            StartSelector::ContinuationToken(fragment.token.clone()),
            3,
        ),
    ];
    let server = Server::start();
    for (selector, property, value, asked, first) in &cases {
        for by_arn in [false, true] {
            let what = format!("{selector}, by ARN: {by_arn}");
            let stream = server.stream(&format!("{selector}-{by_arn}"));
            media.push_to(&stream);
            let src = source(&server, stream.name(), &[("start-selector", selector)]);
            if by_arn {
                src.set_property("stream-name", None::<String>);
                src.set_property("stream-arn", stream.arn());
            }
            if !property.is_empty() {
                set(&src, &[(property, value)]);
            }
            let run = Run::demuxed(&src);
            run.play();
            run.wait(&what, |log| !log.fragments().is_empty());
            let log = run.stop();

            let expected = &media.fragments[*first];
            assert_eq!(log.fragments()[0], expected.number, "{what}");
            assert_eq!(log.frames(VIDEO)[0].payload, expected.frames[0].payload);
            let requests = get_media(&server);
            let request = requests.last().unwrap();
            assert_eq!(request.stream.as_deref(), Some(stream.name()));
            assert_eq!(request.selector.as_ref(), Some(asked), "{what}");
            let member = if by_arn { "StreamARN" } else { "StreamName" };
            assert!(request.json.get(member).is_some(), "{what}");
        }
    }
}

// ---- rotation ----------------------------------------------------------------------------------

/// The service ends each body after 45 minutes at most; nobody may notice.
#[test]
fn twenty_rotations_leave_no_trace() {
    let media = media(20);
    let server = Server::builder().rotate_after_fragments(1).start();
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    run.play();
    run.wait_eos();
    let log = run.stop();

    assert_media(&log, &media, "rotations");
    assert_eq!(log.segments(VIDEO).len(), 1);
    assert!(log.structures("kvs-gap").is_empty());
    let messages = log.structures("kvs-reconnect");
    assert_eq!(messages.len(), 20);
    for (message, fragment) in messages.iter().zip(&media.fragments) {
        assert_eq!(message.get::<&str>("reason"), Ok("rotated"));
        assert_eq!(message.get::<u32>("attempt"), Ok(0));
        assert_eq!(message.get::<u64>("delay"), Ok(0));
        let number = message.get::<&str>("resume-after");
        assert_eq!(number, Ok(fragment.number.as_str()));
    }
    let requests = get_media(&server);
    let mut expected = vec![StartSelector::Earliest];
    let tokens = media.fragments[..20].iter().map(|f| f.token.clone());
    expected.extend(tokens.map(StartSelector::ContinuationToken));
    let asked: Vec<_> = requests
        .iter()
        .filter_map(|request| request.selector.clone())
        .collect();
    assert_eq!(asked, expected);
    assert_rate(&server, "rotations");
}

// ---- bytes as served ---------------------------------------------------------------------------

#[test]
fn raw_is_what_was_served() {
    let media = media(4);
    let expected: Vec<u8> = media.fragments[..4]
        .iter()
        .flat_map(|fragment| fragment.document.to_vec())
        .collect();
    for chunk in [1, 7, 1 << 10, 64 << 10] {
        let server = Server::start();
        server.fault(Fault::get_media().always().chunk_size(chunk));
        let run = Run::plain(&play_media(&server, "cam", &media, &[("payload", "raw")]));
        run.play();
        run.wait_eos();
        let log = run.stop();
        assert!(log.bytes == expected, "chunks of {chunk}");
        assert_eq!(log.fragments().len(), 4);
    }
}

/// Rotation is no break: what the bodies hold is one run of bytes.
#[test]
fn raw_goes_on_over_rotations() {
    let media = media(4);
    let expected: Vec<u8> = media.fragments[..4]
        .iter()
        .flat_map(|fragment| fragment.document.to_vec())
        .collect();
    let server = Server::builder().rotate_after_fragments(1).start();
    let run = Run::plain(&play_media(&server, "cam", &media, &[("payload", "raw")]));
    run.play();
    run.wait_eos();
    assert!(run.stop().bytes == expected);
}

#[test]
fn raw_recordings_are_what_was_served() {
    for (name, _) in RECORDINGS {
        let Some((bytes, reading)) = recording(name) else {
            continue;
        };
        // The last document may be cut short; what is complete of it is served too.
        let whole = reading.documents.last().unwrap().offset;
        let server = Server::start();
        server.stream("cam").load_recording(&bytes);
        let properties = [("start-selector", "earliest"), ("payload", "raw")];
        let run = Run::plain(&source(&server, "cam", &properties));
        run.play();
        run.wait(name, |log| log.bytes.len() >= whole);
        let log = run.stop();
        assert!(bytes.starts_with(&log.bytes), "{name}");
    }
}

// ---- what the application hears ----------------------------------------------------------------

fn tagged() -> Synthetic {
    Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(4)
        .fragment_ms(1000)
        .frames(8)
        .distinct_tokens()
        .tags_before(&[("camera", "front"), ("camera", "again")])
        .tags_after(&[("motion", "yes")])
        .build()
}

fn tags(structure: &gst::StructureRef) -> Vec<(String, String)> {
    let tags = structure.get::<gst::Array>("tags").unwrap();
    tags.iter()
        .map(|tag| {
            let tag = tag.get::<gst::Structure>().unwrap();
            assert_eq!(tag.name(), "kvs-tag");
            (tag.get("name").unwrap(), tag.get("value").unwrap())
        })
        .collect()
}

const MS: u64 = 1_000_000;

#[test]
fn fragments_are_announced_before_and_reported_after() {
    let media = tagged();
    let server = Server::start();
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    run.play();
    run.wait_eos();
    let position = run.pipeline.query_position::<gst::ClockTime>().unwrap();
    let stats = run.stats();
    let log = run.stop();
    assert_media(&log, &media, "tagged");

    // Messages.
    let messages = log.structures("kvs-fragment");
    let owned = |tags: &[(&str, &str)]| -> Vec<(String, String)> {
        let owned = tags.iter().map(|(n, v)| (n.to_string(), v.to_string()));
        owned.collect()
    };
    for (index, (message, fragment)) in messages.iter().zip(&media.fragments).enumerate() {
        assert_eq!(message.get::<&str>("stream-name"), Ok("cam"));
        let text = |name| message.get::<&str>(name).unwrap();
        assert_eq!(text("fragment-number"), fragment.number);
        assert_eq!(text("continuation-token"), fragment.token);
        let number = |name| message.get::<u64>(name).unwrap();
        assert_eq!(
            number("server-timestamp"),
            fragment.server_timestamp_ms * MS
        );
        assert_eq!(
            number("producer-timestamp"),
            fragment.producer_timestamp_ms * MS
        );
        assert_eq!(number("millis-behind-now"), 500);
        assert_eq!(number("first-pts"), index as u64 * 1000 * MS);
        assert_eq!(number("bytes"), fragment.document.len() as u64);
        assert_eq!(message.get::<u32>("frames"), Ok(16));
        assert_eq!(
            tags(message),
            owned(&[("camera", "front"), ("camera", "again"), ("motion", "yes")])
        );
    }

    // The TAG messages of the same moments, which gst-launch prints.
    let tag_lists: Vec<gst::TagList> = log
        .messages
        .iter()
        .filter(|message| message.src() == Some(run.src.upcast_ref()))
        .filter_map(|message| match message.view() {
            gst::MessageView::Tag(tag) => Some(tag.tags()),
            _ => None,
        })
        .collect();
    assert_eq!(tag_lists.len(), messages.len());
    for (list, fragment) in tag_lists.iter().zip(&media.fragments) {
        let text = |name| list.generic(name).unwrap().get::<String>().unwrap();
        assert_eq!(text("kvs-fragment-number"), fragment.number);
        assert_eq!(text("kvs-continuation-token"), fragment.token);
        let time = |name| {
            let time = list.generic(name).unwrap().get::<gst::DateTime>().unwrap();
            time.to_iso8601_string().unwrap().to_string()
        };
        let second = |ms: u64| {
            let time = gst::DateTime::from_unix_epoch_utc_usecs(ms as i64 * 1000).unwrap();
            time.to_iso8601_string().unwrap().to_string()
        };
        assert_eq!(
            time("kvs-server-timestamp"),
            second(fragment.server_timestamp_ms)
        );
        assert_eq!(
            time("kvs-producer-timestamp"),
            second(fragment.producer_timestamp_ms)
        );
        let millis = list.generic("kvs-millis-behind-now").unwrap();
        assert_eq!(millis.get::<u64>().unwrap(), 500);
    }

    // Events: on each pad, before the first frame of the fragment.
    for pad in [VIDEO, AUDIO] {
        let mut expected = media.fragments[..3].iter().enumerate();
        let mut frames = 0;
        let mut announced = None;
        for entry in log.entries(pad) {
            match entry {
                Entry::Fragment(event) => {
                    assert_eq!(event.name(), "kvs-fragment");
                    assert_eq!(announced, None, "{pad}: no frame after the last event");
                    let (index, fragment) = expected.next().unwrap();
                    assert_eq!(frames, index * 8, "{pad}");
                    let text = |name| event.get::<&str>(name).unwrap();
                    assert_eq!(text("stream-name"), "cam");
                    assert_eq!(text("fragment-number"), fragment.number);
                    let number = |name| event.get::<u64>(name).unwrap();
                    assert_eq!(
                        number("server-timestamp"),
                        fragment.server_timestamp_ms * MS
                    );
                    assert_eq!(
                        number("producer-timestamp"),
                        fragment.producer_timestamp_ms * MS
                    );
                    // Those after the Cluster are not known yet.
                    assert_eq!(
                        tags(event),
                        owned(&[("camera", "front"), ("camera", "again")])
                    );
                    announced = Some(number("first-pts"));
                }
                Entry::Frame(frame) => {
                    if let Some(first) = announced.take() {
                        assert_eq!(frame.pts.nseconds(), first, "{pad}");
                    }
                    frames += 1;
                }
                _ => {}
            }
        }
        assert!(expected.next().is_none(), "{pad}");
    }

    // Stats.
    let number = |name| stats.get::<u64>(name).unwrap();
    let shown = &media.fragments[..3];
    let served: usize = shown.iter().map(|f| f.document.len()).sum();
    assert!(number("bytes-received") >= served as u64);
    assert!(number("bytes-pushed") > 0 && number("bytes-pushed") < served as u64);
    assert_eq!(number("fragments"), 3);
    assert_eq!(number("frames"), 48);
    assert_eq!(number("connections"), 1);
    assert_eq!(number("retries"), 0);
    assert_eq!(number("gaps"), 0);
    assert_eq!(number("queue-bytes"), 0);
    assert_eq!(
        number("server-timestamp"),
        shown[2].server_timestamp_ms * MS
    );
    assert_eq!(
        number("producer-timestamp"),
        shown[2].producer_timestamp_ms * MS
    );
    assert_eq!(number("millis-behind-now"), 500);
    let text = |name| stats.get::<String>(name).unwrap();
    assert_eq!(text("fragment-number"), shown[2].number);
    assert_eq!(text("continuation-token"), shown[2].token);
    assert_eq!(text("data-endpoint"), server.endpoint_url());
    assert_eq!(text("request-id"), get_media(&server)[0].request_id);

    // Position is wall-clock time.
    let last = log.frames(VIDEO).last().unwrap().stream_time;
    assert!(
        position >= last && position <= last + gst::ClockTime::from_seconds(1),
        "{position} at the end of {last}"
    );

    assert_eq!(
        progress(&log),
        [
            "start endpoint",
            "complete endpoint",
            "start connect",
            "complete connect"
        ]
    );
}

fn progress(log: &Log) -> Vec<String> {
    let text = |message: &gst::Message| match message.view() {
        gst::MessageView::Progress(progress) => {
            let (type_, code, _) = progress.get();
            Some(format!("{type_:?} {code}").to_lowercase())
        }
        _ => None,
    };
    log.messages.iter().filter_map(text).collect()
}

#[test]
fn opening_that_fails_or_is_given_up_says_so() {
    let server = Server::start();
    let run = Run::demuxed(&source(&server, "nowhere", &[]));
    run.play();
    run.wait_error();
    assert_eq!(progress(&run.stop()), ["start endpoint", "error endpoint"]);

    server.stream("cam");
    server.fault(Fault::get_media().hang_before_headers());
    let run = Run::demuxed(&source(&server, "cam", &[]));
    run.play();
    assert!(server.wait_until(PATIENCE, |server| !get_media(server).is_empty()));
    assert_eq!(
        progress(&run.stop()),
        [
            "start endpoint",
            "complete endpoint",
            "start connect",
            "canceled connect"
        ]
    );
}

/// Who opens a stream and sees nothing is told what the service says.
#[test]
fn opening_that_is_tried_again_says_why() {
    let server = Server::start();
    let media = media(2);
    let code = "ConnectionLimitExceededException";
    server.fault(Fault::get_media().http_error(400, code, "There are three already."));
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    run.play().wait_eos();
    let log = run.stop();
    let opening = ["start endpoint", "complete endpoint", "start connect"];
    let again = [&opening[..], &["complete connect"]].concat();
    let expected = [&opening[..], &["continue connect"], &again].concat();
    assert_eq!(progress(&log), expected);
    let text = log
        .messages
        .iter()
        .find_map(|message| match message.view() {
            gst::MessageView::Progress(progress) => match progress.get() {
                (gst::ProgressType::Continue, _, text) => Some(text.to_string()),
                _ => None,
            },
            _ => None,
        });
    let text = text.unwrap();
    assert!(text.starts_with("Trying again in 0."), "{text}");
    assert!(text.contains("There are three already."), "{text}");
    assert!(text.contains(code), "{text}");
}

#[test]
fn a_live_stream_answers_latency_and_begins_at_running_time() {
    let media = media(3);
    let server = Server::start();
    let stream: StreamHandle = server.stream("cam");
    stream.push_fragment(media.fragments[0].new_fragment());
    let src = source(&server, "cam", &[("latency", "1234")]);
    let run = Run::demuxed(&src);
    run.play();
    run.wait("the first fragment", |log| log.fragments().len() == 1);
    stream.push_fragment(media.fragments[1].new_fragment());
    run.wait("the second fragment", |log| log.fragments().len() == 2);
    let mut query = gst::query::Latency::new();
    assert!(run.pad(VIDEO).query(&mut query));
    let expected = (true, gst::ClockTime::from_mseconds(1234), None);
    assert_eq!(query.result(), expected);
    let now = src.current_running_time().unwrap();
    let log = run.stop();

    assert_eq!(log.segments(VIDEO).len(), 1);
    let segment = log.segments(VIDEO)[0].downcast_ref::<gst::ClockTime>();
    let base = segment.unwrap().base().unwrap();
    assert!(base <= now, "{base} {now}");
    let first = &log.frames(VIDEO)[0];
    assert_eq!(first.running_time, base);
    let wall = media.fragments[0].producer_timestamp_ms * MS;
    assert_eq!(first.stream_time.nseconds(), wall);
}

/// An archive is not live, and needs no latency.
#[test]
fn an_archive_has_no_latency() {
    let media = media(2);
    let server = Server::start();
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    run.play();
    run.wait_eos();
    let mut query = gst::query::Latency::new();
    assert!(run.pad(VIDEO).query(&mut query));
    let (live, min, _) = query.result();
    assert_eq!((live, min), (false, gst::ClockTime::ZERO));
}

#[test]
fn nothing_between_start_and_end_is_an_error_of_ours() {
    let media = media(1);
    let server = Server::start();
    media.push_to(&server.stream("cam"));
    let properties = [("start-selector", "earliest"), ("end-timestamp", "1")];
    let run = Run::demuxed(&source(&server, "cam", &properties));
    run.play();
    let (error, _) = run.wait_error();
    assert!(error.matches(gst::ResourceError::NotFound), "{error:?}");
    assert!(error.message().contains("cam"), "{error}");
}

// ---- files -------------------------------------------------------------------------------------

/// Runs a tool on a file: what it prints, and what it complains of. `None`, and a line that says so,
/// where there is none.
fn tool(name: &str, arguments: &[&str], file: &Path) -> Option<(String, Vec<String>)> {
    match std::process::Command::new(name)
        .args(arguments)
        .arg(file)
        .output()
    {
        Ok(output) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            let failed = (!output.status.success()).then(|| format!("{name}: {}", output.status));
            Some((out, err.lines().map(str::to_owned).chain(failed).collect()))
        }
        Err(error) => {
            assert!(!require_all(), "{name}: {error}");
            println!("skipped: {name} cannot be run: {error}");
            None
        }
    }
}

/// Records to a file, and has others count its frames; returns what they complain of.
fn complaints(name: &str, blocks: usize, properties: &[(&str, &str)]) -> Vec<String> {
    let Some((bytes, _)) = recording(name) else {
        return Vec::new();
    };
    let unique = format!("kvs-{}-{}-{name}", std::process::id(), properties.len());
    let file = std::env::temp_dir().join(unique);
    let server = Server::start();
    server.stream("cam").load_recording(&bytes);
    let src = source(&server, "cam", &[("start-selector", "earliest")]);
    set(&src, properties);
    let run = Run::launch(&src, "filesink name=file");
    let sink = run.pipeline.by_name("file").unwrap();
    sink.set_property("location", file.to_str().unwrap());
    run.play();
    let pushed = || run.stats().get::<u64>("frames").unwrap();
    let all = server.wait_until(PATIENCE, |_| pushed() >= blocks as u64);
    assert!(all, "{name}: {} frames", pushed());
    run.pipeline.send_event(gst::event::Eos::new());
    run.wait_eos();
    run.stop();

    let mut complaints = Vec::new();
    let arguments = "-v warning -count_frames -select_streams v:0 \
                     -show_entries stream=nb_read_frames -of csv=p=0";
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    if let Some((out, err)) = tool("ffprobe", &arguments, &file) {
        assert_eq!(out.trim_end_matches(','), blocks.to_string(), "{name}");
        complaints.extend(err);
    }
    if let Some((out, err)) = tool("mkvinfo", &["--ui-language", "en_US", "-a"], &file) {
        let found = out.lines().filter(|line| line.contains("+ Simple block"));
        assert_eq!(found.count(), blocks, "{name}: mkvinfo");
        complaints.extend(err);
        let words = ["warning", "error", "unknown element"];
        let bad = |line: &&str| words.iter().any(|word| line.to_lowercase().contains(word));
        complaints.extend(out.lines().filter(bad).map(str::to_owned));
    }
    std::fs::remove_file(&file).unwrap();
    complaints
}

#[test]
fn recorded_files_play_elsewhere() {
    for (name, blocks) in RECORDINGS {
        let properties: &[_] = match name {
            RESTART => &[("max-gap", "3600000000000")],
            _ => &[],
        };
        let complaints = complaints(name, blocks, properties);
        assert_eq!(complaints, Vec::<String>::new(), "{name}");
    }
}

/// A segment that begins anew, as a closed hole needs it, is more than some readers expect in a file:
/// they may say so, but they find every frame.
#[test]
fn recorded_files_with_a_closed_hole_have_every_frame() {
    complaints(RESTART, 239, &[]);
}
