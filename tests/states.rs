//! Pipelines as applications treat them: any state at any time, again after an end or an error, from
//! any thread.

mod support;

use gst::prelude::*;
use kvs_local::{Fault, Server};
use std::time::Duration;
use support::*;

#[test]
fn plays_again_after_eos() {
    let media = media(3);
    let server = Server::start();
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    for state in [gst::State::Null, gst::State::Ready, gst::State::Null] {
        run.play();
        run.wait_eos();
        assert_media(&run.log(), &media, "again");
        run.pipeline.set_state(state).unwrap();
        run.clear();
    }
    assert_eq!(get_media(&server).len(), 3);
}

#[test]
fn plays_again_after_an_error() {
    let media = media(3);
    let server = Server::start();
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    for state in [gst::State::Null, gst::State::Ready] {
        server.fault(Fault::get_media().http_error(401, "NotAuthorizedException", "no"));
        run.play();
        run.wait_error();
        run.pipeline.set_state(state).unwrap();
        run.clear();
        run.play();
        run.wait_eos();
        assert_media(&run.log(), &media, "after an error");
        assert_eq!(run.stats().get::<u64>("fragments"), Ok(3));
        run.pipeline.set_state(gst::State::Null).unwrap();
        run.clear();
    }
}

/// The application is inside a runtime of one thread, and blocks it.
#[test]
fn plays_inside_a_runtime_of_one_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let media = media(3);
        let server = Server::start();
        let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
        run.play();
        run.wait_eos();
        assert_media(&run.stop(), &media, "inside a runtime");
    });
}

/// With a full queue, for longer than the service and the SDK wait for anything by default.
#[test]
fn a_pause_with_a_full_queue_loses_nothing() {
    let media = kvs_local::synth::Synth::new()
        .tracks([
            kvs_local::synth::TrackSpec::h264(1),
            kvs_local::synth::TrackSpec::aac(2),
        ])
        .fragments(21)
        .fragment_ms(1000)
        .payload(10_000, 20_000)
        .build();
    let server = Server::start();
    let properties = [("max-queue-bytes", "100000")];
    let src = play_media(&server, "cam", &media, &properties);
    let run = Run::demuxed(&src);
    // What a paused sink does, without preroll: the pad takes nothing until it is let.
    let pad = src.static_pad("src").unwrap();
    let mask = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
    let probe = pad.add_probe(mask, |_, _| gst::PadProbeReturn::Ok).unwrap();
    run.play();
    let bytes = || run.stats().get::<u64>("bytes-received").unwrap();
    assert!(server.wait_until(PATIENCE, |_| bytes() > 50_000));
    let silent = !run.wait_for(Duration::from_secs(10), |log| {
        log.error().is_some() || !log.reconnects().is_empty()
    });
    assert!(silent, "{:?}", run.log().messages);
    pad.remove_probe(probe);
    run.wait_eos();
    let log = run.stop();
    assert_media(&log, &media, "after a pause");
    assert!(log.reconnects().is_empty());
}

/// The same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn any_state_at_any_time_from_any_thread() {
    const STATES: [gst::State; 4] = [
        gst::State::Null,
        gst::State::Ready,
        gst::State::Paused,
        gst::State::Playing,
    ];
    let media = media(30);
    let server = Server::builder().enforce_limits(false).start();
    server.fault(Fault::get_media().always().chunk_size(500));
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    std::thread::scope(|scope| {
        for seed in 1..=3 {
            let run = &run;
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..60 {
                    let state = STATES[random.below(STATES.len())];
                    let _ = run.pipeline.set_state(state);
                    // Some of them get somewhere.
                    let patience = Duration::from_millis(random.below(40) as u64);
                    run.wait_for(patience, Log::is_eos);
                }
            });
        }
        let run = &run;
        scope.spawn(move || {
            let mut random = Random(99);
            for _ in 0..60 {
                let second = random.below(30) as u64;
                let to = media_start() + gst::ClockTime::from_seconds(second);
                let _ = run.src.seek_simple(gst::SeekFlags::FLUSH, to);
                let _ = run.pipeline.query_position::<gst::ClockTime>();
                let _ = run.stats();
                let patience = Duration::from_millis(random.below(40) as u64);
                run.wait_for(patience, Log::is_eos);
            }
        });
    });
    // A seek may be left that a next start does first.
    run.stop();
    run.clear();
    run.play();
    run.wait("the end", Log::is_eos);
    // Whatever that was, it plays as ever after.
    run.stop();
    let error = run.log().error();
    assert!(error.is_none(), "{error:?}");
    run.clear();
    run.play();
    run.wait_eos();
    assert_media(&run.stop(), &media, "after all that");
    assert_rate(&server, "any state");
}

fn media_start() -> gst::ClockTime {
    gst::ClockTime::from_mseconds(media(1).fragments[0].producer_timestamp_ms)
}
