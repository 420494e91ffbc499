//! Live streams in real time: what a sink that keeps to the clock shows of them.

mod support;

use gst::prelude::*;
use kvs_local::{
    Fault, NewFragment, Server, StartSelector, StreamHandle,
    synth::{Synth, Synthetic, TrackSpec},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use support::*;

const FRAGMENT_MS: u64 = 500;
const FRAMES: usize = 10;

fn synth(fragments: usize) -> Synth {
    Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(fragments)
        .fragment_ms(FRAGMENT_MS)
        .frames(FRAMES)
}

fn media(fragments: usize) -> Synthetic {
    synth(fragments).build()
}

/// Uploads each fragment when it is complete, and so many milliseconds later.
fn upload(stream: StreamHandle, media: &Synthetic, late: &[u64]) -> thread::JoinHandle<()> {
    let fragments: Vec<_> = media.fragments.iter().map(|f| f.new_fragment()).collect();
    let late = late.to_vec();
    thread::spawn(move || {
        let start = Instant::now();
        for (index, (fragment, late)) in fragments.into_iter().zip(late).enumerate() {
            // The time is what is simulated here: a producer's clock.
            let due = Duration::from_millis(FRAGMENT_MS * (index as u64 + 1) + late);
            thread::sleep(due.saturating_sub(start.elapsed()));
            stream.push_fragment(fragment);
        }
    })
}

/// How many frames of a stream without pauses sinks showed, and the kinds of gaps.
fn shown(late: &[u64], latency: u64) -> (usize, Vec<String>) {
    shown_of(&media(late.len()), late, latency)
}

/// How many frames sinks with the lateness of video sinks showed, and the kinds of gaps.
fn shown_of(media: &Synthetic, late: &[u64], latency: u64) -> (usize, Vec<String>) {
    let server = Server::start();
    let stream = server.stream("cam");
    let properties = [("latency", &*latency.to_string())];
    let src = source(&server, "cam", &properties);
    let branch = |pad: &str| {
        format!(
            "d.{pad} ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 \
             ! fakesink name={pad} sync=true qos=true max-lateness=20000000 signal-handoffs=true "
        )
    };
    let description = format!("matroskademux name=d {} {}", branch(VIDEO), branch(AUDIO));
    let run = Run::launch(&src, &description);
    let shown = Arc::new(AtomicUsize::new(0));
    for pad in [VIDEO, AUDIO] {
        let shown = shown.clone();
        let sink = run.pipeline.by_name(pad).unwrap();
        sink.connect("handoff", false, move |_| {
            shown.fetch_add(1, Ordering::SeqCst);
            None
        });
    }
    run.play();
    let uploader = upload(stream, media, late);
    uploader.join().unwrap();
    let total = late.len() * FRAMES * 2;
    let all = |_: &Server| shown.load(Ordering::SeqCst) >= total;
    // What was dropped never comes: less than all is all there is.
    server.wait_until(Duration::from_secs(20), all);
    let log = run.stop();
    let kinds = log
        .structures("kvs-gap")
        .iter()
        .map(|gap| gap.get("kind").unwrap())
        .collect();
    (shown.load(Ordering::SeqCst), kinds)
}

#[test]
fn bursts_lose_no_frame() {
    assert_eq!(shown(&[0; 8], 1000), (160, vec![]));
}

#[test]
fn fragments_as_late_as_the_latency_lose_no_frame() {
    // The last of them has 200 ms to get to its sink.
    let late = [0, 300, 800, 0, 700, 100, 800, 800];
    assert_eq!(shown(&late, 1000), (160, vec![]));
}

#[test]
fn after_a_stall_frames_are_due_when_they_come() {
    let late = [0, 0, 3000, 3000, 3000, 3000, 3000, 3000];
    assert_eq!(shown(&late, 1000), (160, vec!["late".to_owned()]));
}

#[test]
fn a_pause_of_the_producer_loses_no_frame() {
    const PAUSE_MS: u64 = 3000;
    let media = synth(8).from_fragment(3, |fragment| {
        fragment.producer_timestamp_ms += PAUSE_MS;
        fragment.server_timestamp_ms += PAUSE_MS;
        fragment.timecode_ms += PAUSE_MS;
    });
    // Nothing comes while it pauses, and then what it records comes as before.
    let late = [&[0; 3][..], &[PAUSE_MS; 5]].concat();
    let hole = vec!["hole".to_owned()];
    assert_eq!(shown_of(&media.build(), &late, 1000), (160, hole));
}

#[test]
fn a_clock_that_steps_forward_is_not_waited_for() {
    let media = synth(8).from_fragment(3, |fragment| {
        fragment.producer_timestamp_ms += 3_600_000;
        fragment.timecode_ms += 3_600_000;
    });
    let hole = vec!["hole".to_owned()];
    assert_eq!(shown_of(&media.build(), &[0; 8], 1000), (160, hole));
}

/// A server too slow for the stream makes it lag; then it goes on from now.
#[test]
fn what_lags_too_far_skips_to_now() {
    const EACH_MS: u64 = 100;
    const SIZE: usize = 10_000;
    let media = Synth::new()
        .tracks([TrackSpec::h264(1)])
        .fragments(40)
        .fragment_ms(EACH_MS)
        .frames(4)
        .payload(SIZE, SIZE + 1)
        .build();
    let server = Server::start();
    let stream = server.stream("cam");
    // Each fragment takes four times as long as it lasts, over this one connection.
    let fault = Fault::get_media().drip(SIZE as u64 * 4 * 1000 / EACH_MS / 4);
    server.fault(fault);
    let begin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let begin = begin.as_millis() as u64;
    let src = source(&server, "cam", &[("max-lag", "1000000000")]);
    let run = Run::demuxed(&src);
    let mut numbers = Vec::new();
    let started = Instant::now();
    for (index, fragment) in (0u64..).zip(&media.fragments) {
        // As a producer sends it: the service says what time it came.
        numbers.push(stream.push_fragment(NewFragment {
            producer_timestamp_ms: begin + EACH_MS * index,
            ..NewFragment::new([&fragment.header[..], &fragment.cluster].concat())
        }));
        if index == 0 {
            run.play();
        }
        // The time is what is simulated here: a producer's clock.
        let due = Duration::from_millis(EACH_MS * (index + 1));
        thread::sleep(due.saturating_sub(started.elapsed()));
    }
    run.wait("the last fragment", |log| {
        log.fragments().last() == numbers.last()
    });
    let log = run.stop();

    assert_eq!(log.reconnects(), ["behind"]);
    let selectors: Vec<_> = get_media(&server)
        .into_iter()
        .map(|request| request.selector)
        .collect();
    assert_eq!(
        selectors,
        [Some(StartSelector::Now), Some(StartSelector::Now)]
    );
    let gaps = log.structures("kvs-gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].get::<&str>("kind"), Ok("skipped-to-now"));
    let index = |field| {
        let number: String = gaps[0].get(field).unwrap();
        numbers.iter().position(|other| *other == number).unwrap()
    };
    let (from, to) = (index("from-fragment-number"), index("to-fragment-number"));
    assert!(from + 1 < to, "from {from} to {to}");
    // All up to there, and all from there on.
    let shown: Vec<_> = (0..=from).chain(to..numbers.len()).collect();
    let expected: Vec<_> = shown.iter().map(|&index| numbers[index].clone()).collect();
    assert_eq!(log.fragments(), expected);
    let of_fragment = |&index: &usize| {
        let fragment = &media.fragments[index];
        let first = fragment.frames[0].time_ns;
        let wall = (begin + EACH_MS * index as u64) as i64 * 1_000_000 - first;
        fragment
            .frames
            .iter()
            .map(move |frame| frame.time_ns + wall)
    };
    let walls: Vec<_> = shown.iter().flat_map(of_fragment).collect();
    let times = log.frames(VIDEO);
    let times = times
        .iter()
        .map(|frame| frame.stream_time.nseconds() as i64);
    assert_eq!(times.collect::<Vec<_>>(), walls);
}

#[test]
fn call_audio_goes_into_a_wave_file() {
    let tracks = [
        TrackSpec::connect(1, "AUDIO_TO_CUSTOMER"),
        TrackSpec::connect(2, "AUDIO_FROM_CUSTOMER"),
    ];
    let media = Synth::new()
        .tracks(tracks)
        .fragments(4)
        .frames(20)
        .payload(1600, 1600)
        .tags_after(&[("MimeType", "audio/L16;rate=8000;channels=1")])
        .build();
    let server = Server::start();
    let src = play_media(&server, "call", &media, &[]);
    let text = "matroskademux name=d d.audio_0 ! queue ! audioconvert ! wavenc ! appsink name=a sync=false \
                d.audio_1 ! queue ! audioconvert ! wavenc ! appsink name=b sync=false";
    init();
    let pipeline = gst::parse::launch(&format!("identity name=i ! {text}")).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let entry = pipeline.by_name("i").unwrap();
    pipeline.add(&src).unwrap();
    src.link(&entry).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    for (name, track) in [("a", 1), ("b", 2)] {
        let sink = pipeline
            .by_name(name)
            .unwrap()
            .downcast::<gst_app::AppSink>()
            .unwrap();
        let mut wave = Vec::new();
        while let Ok(sample) = sink.pull_sample() {
            wave.extend_from_slice(&sample.buffer().unwrap().map_readable().unwrap());
        }
        let frames = media.fragments[..3]
            .iter()
            .flat_map(|fragment| &fragment.frames);
        let frames = frames.filter(|frame| frame.track == track);
        let pcm: Vec<u8> = frames.flat_map(|frame| frame.payload.to_vec()).collect();
        let format: &[u8] = &[1, 0, 1, 0, 0x40, 0x1F, 0, 0];
        assert!(
            wave.windows(format.len()).any(|bytes| bytes == format),
            "PCM, mono, 8 kHz"
        );
        assert!(
            wave.windows(pcm.len()).any(|bytes| bytes == pcm),
            "every sample"
        );
    }
    pipeline.set_state(gst::State::Null).unwrap();
}
