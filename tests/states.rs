//! Pipelines as applications treat them: any state at any time, again after an end or an error, from
//! any thread.

mod support;

use gst::prelude::*;
use kvs_local::{
    Fault, OnTimestampGap, Server, Undocumented,
    synth::{Synth, Synthetic, TrackSpec},
};
use std::time::Duration;
use support::*;

#[test]
fn plays_again_after_eos() {
    let media = media(3);
    for factory in ELEMENTS {
        let server = Server::start();
        let run = Run::demuxed(&play_media_with(factory, &server, "cam", &media, &[]));
        for state in [gst::State::Null, gst::State::Ready, gst::State::Null] {
            run.play();
            run.wait_eos();
            assert_media(&run.log(), &media, "again");
            run.pipeline.set_state(state).unwrap();
            run.clear();
        }
        assert_eq!(get_media(&server).len(), 3);
    }
}

#[test]
fn plays_again_after_an_error() {
    let media = media(3);
    for factory in ELEMENTS {
        let server = Server::start();
        let run = Run::demuxed(&play_media_with(factory, &server, "cam", &media, &[]));
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

/// A live source is paused and goes on at any moment. GStreamer 1.24 and later drop buffers then, so it
/// is `tests/newest.sh` that shows what is done about it.
#[test]
fn pauses_at_any_moment_lose_nothing() {
    let media = Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(400)
        .frames(8)
        .payload(5000, 6000)
        .build();
    let server = Server::start();
    let src = play_media(&server, "cam", &media, &[("mode", "live")]);
    let run = Run::demuxed(&src);
    run.play();
    let mut pauses = 0;
    while !run.log().is_eos() {
        run.pipeline.set_state(gst::State::Paused).unwrap();
        run.pipeline.set_state(gst::State::Playing).unwrap();
        pauses += 1;
        assert!(run.log().error().is_none(), "{:?}", run.log().error());
    }
    assert!(pauses > 20, "{pauses}");
    let log = run.stop();
    let shown = &media.fragments[..media.fragments.len() - 1];
    let frames = || shown.iter().flat_map(|fragment| &fragment.frames);
    for (track, pad) in [(1, VIDEO), (2, AUDIO)] {
        let expected = frames().filter(|frame| frame.track == track);
        assert_payloads(&log, pad, expected.map(|frame| &frame.payload), "paused");
    }
}

/// What an application takes off the pad has been pushed, live too.
#[test]
fn buffers_that_a_probe_drops_do_not_come_again() {
    let server = Server::start();
    let media = media(3);
    let src = play_media(&server, "cam", &media, &[("mode", "live")]);
    let run = Run::plain(&src);
    let pad = src.static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, |_, _| gst::PadProbeReturn::Drop);
    run.play().wait_eos();
    assert!(run.stop().bytes.is_empty());
}

/// Running time stands still in PAUSED: what comes too late in a pause is due when that is over.
#[test]
fn live_frames_that_come_in_a_pause_are_due_after_it() {
    let media = Synth::new().fragments(2).fragment_ms(100).frames(4).build();
    let server = Server::start();
    let stream = server.stream("cam");
    let run = Run::demuxed(&source(&server, "cam", &[("latency", "100")]));
    run.play();
    assert!(server.wait_until(PATIENCE, |server| !get_media(server).is_empty()));
    stream.push_fragment(media.fragments[0].new_fragment());
    run.wait("the first", |log| log.fragments().len() == 1);
    run.pipeline.set_state(gst::State::Paused).unwrap();
    let paused_at = run.pipeline.start_time().unwrap();
    let shown = run.log().frames(VIDEO).len();
    // The time is what is simulated here: that of the pause, and that in which data comes.
    std::thread::sleep(Duration::from_secs(2));
    stream.push_fragment(media.fragments[1].new_fragment());
    std::thread::sleep(Duration::from_millis(200));
    run.play();
    run.wait("the second", |log| log.fragments().len() == 2);
    let log = run.stop();
    assert_eq!(log.structures("kvs-gap")[0].get("kind"), Ok("late"));
    let due = log.frames(VIDEO)[shown].running_time;
    let latest = paused_at + gst::ClockTime::from_mseconds(700);
    assert!(due < latest, "paused at {paused_at}, due at {due}");
}

/// More than a queue of [`SMALL_QUEUE`] and the sockets hold.
fn much() -> Synthetic {
    Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(41)
        .fragment_ms(1000)
        .frames(8)
        .payload(15_000, 30_000)
        .distinct_tokens()
        .build()
}

const SMALL_QUEUE: (&str, &str) = ("max-queue-bytes", "100000");

/// Plays until nothing more comes, because nothing is taken: what a paused sink does, without preroll.
/// Returns what has to be removed for it to go on.
fn full(server: &Server, src: &gst::Element) -> (Run, gst::PadProbeId) {
    let run = Run::demuxed(src);
    let pad = src.static_pad("src").unwrap();
    let mask = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
    let probe = pad.add_probe(mask, |_, _| gst::PadProbeReturn::Ok).unwrap();
    run.play();
    let bytes = || run.stats().get::<u64>("bytes-received").unwrap();
    let stuck = |server: &Server| {
        let before = bytes();
        let moves = |_: &Server| bytes() > before;
        before > 50_000 && !server.wait_until(Duration::from_millis(300), moves)
    };
    assert!(server.wait_until(PATIENCE, stuck));
    (run, probe)
}

/// Whether the application hears of nothing for so long.
fn is_quiet(run: &Run, time: Duration) -> bool {
    !run.wait_for(time, |log| {
        log.error().is_some() || !log.reconnects().is_empty()
    })
}

/// With a full queue, for longer than the service and the SDK wait for anything by default; or for
/// so many seconds: `KVS_PAUSE_SECONDS=180 cargo test --test states full_queue`.
#[test]
fn a_pause_with_a_full_queue_loses_nothing() {
    let seconds = std::env::var("KVS_PAUSE_SECONDS").ok();
    let seconds = seconds.map_or(10, |number| number.parse().expect("KVS_PAUSE_SECONDS"));
    let media = much();
    let server = Server::start();
    let src = play_media(&server, "cam", &media, &[SMALL_QUEUE]);
    let (run, probe) = full(&server, &src);
    assert!(is_quiet(&run, Duration::from_secs(seconds)));
    src.static_pad("src").unwrap().remove_probe(probe);
    run.wait_eos();
    let log = run.stop();
    assert_media(&log, &media, "after a pause");
    assert!(log.reconnects().is_empty());
    assert_eq!(get_media(&server).len(), 1);
}

/// What is not read is no silence.
#[test]
fn a_pause_longer_than_the_idle_timeout_breaks_nothing() {
    let media = much();
    let server = Server::start();
    let properties = [SMALL_QUEUE, ("idle-timeout", "300")];
    let src = play_media(&server, "cam", &media, &properties);
    let (run, probe) = full(&server, &src);
    assert!(is_quiet(&run, Duration::from_secs(2)));
    src.static_pad("src").unwrap().remove_probe(probe);
    run.wait_eos();
    let log = run.stop();
    assert_media(&log, &media, "after a pause");
    assert_eq!(get_media(&server).len(), 1, "{:?}", log.reconnects());
}

/// The service ends a connection of that age, as soon as it can.
#[test]
fn a_pause_over_a_rotation_loses_nothing() {
    let media = much();
    let age = Duration::from_secs(1);
    let server = Server::builder().rotate_after(age).start();
    let properties = [SMALL_QUEUE, ("idle-timeout", "300")];
    let src = play_media(&server, "cam", &media, &properties);
    let (run, probe) = full(&server, &src);
    assert!(is_quiet(&run, 2 * age));
    src.static_pad("src").unwrap().remove_probe(probe);
    run.wait_eos();
    let log = run.stop();
    assert_media(&log, &media, "after a pause");
    let reasons = log.reconnects();
    assert!(!reasons.is_empty() && reasons.iter().all(|reason| reason == "rotated"));
    assert!(log.structures("kvs-gap").is_empty());
}

/// The connection breaks, and there is another server when it goes on.
#[test]
fn a_pause_over_a_broken_connection_loses_nothing() {
    let media = much();
    let first = Server::start();
    let address = first.local_addr();
    let src = play_media(&first, "cam", &media, &[SMALL_QUEUE]);
    let (run, probe) = full(&first, &src);
    drop(first);
    let second = Server::builder().listen(address).start();
    media.push_to(&second.stream("cam"));
    assert!(!second.wait_until(Duration::from_secs(1), |server| {
        !server.requests().is_empty()
    }));
    src.static_pad("src").unwrap().remove_probe(probe);
    run.wait_eos();
    let log = run.stop();
    assert_media(&log, &media, "after a pause");
    assert_eq!(log.reconnects(), ["network"]);
    assert!(log.structures("kvs-gap").is_empty());
    assert_eq!(get_media(&second).len(), 1);
}

/// What the service no longer has when it goes on is named, once, and nothing else is missing.
#[test]
fn a_pause_longer_than_the_retention_says_what_is_lost() {
    past_retention(OnTimestampGap::NextFragment, 1);
}

/// The same where the service has no answer to a time that it has nothing of.
#[test]
fn a_pause_longer_than_the_retention_says_so_whatever_the_service_answers() {
    past_retention(OnTimestampGap::NotFound, 2);
}

fn past_retention(timestamp_gap: OnTimestampGap, refusals: usize) {
    const LEFT: usize = 30;
    let media = much();
    let server = Server::start();
    let address = server.local_addr();
    let src = play_media(&server, "cam", &media, &[SMALL_QUEUE]);
    let (run, probe) = full(&server, &src);
    drop(server);
    let choice = Undocumented {
        timestamp_gap,
        ..Undocumented::default()
    };
    let server = Server::builder()
        .listen(address)
        .undocumented(choice)
        .start();
    let stream = server.stream("cam");
    media.push_to(&stream);
    stream.expire_before(&media.fragments[LEFT].number);
    src.static_pad("src").unwrap().remove_probe(probe);
    run.wait_eos();
    let log = run.stop();
    let reasons = log.reconnects();
    assert_eq!(reasons[0], "network");
    assert_eq!(reasons[1..], vec!["fragment-gone"; refusals]);
    let gaps = log.structures("kvs-gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].get::<&str>("kind"), Ok("lost"));
    let field = |name| gaps[0].get::<String>(name).unwrap();
    let from = field("from-fragment-number");
    let from = media.fragments.iter().position(|f| f.number == from);
    assert_eq!(field("to-fragment-number"), media.fragments[LEFT].number);
    // Whole blocks of what was under way, and all of what is there.
    let video = |from: usize, to: usize| {
        let frames = media.fragments[from..to].iter().flat_map(|f| &f.frames);
        let video = frames.filter(|frame| frame.track == 1);
        video.map(|frame| &frame.payload).collect::<Vec<_>>()
    };
    let (before, after) = (video(0, from.unwrap() + 1), video(LEFT, 40));
    let found: Vec<_> = log
        .frames(VIDEO)
        .iter()
        .map(|f| &f.payload)
        .cloned()
        .collect();
    let kept = found.len() - after.len();
    assert!(before.len() - kept <= 8, "{kept} of {}", before.len());
    let expected = before[..kept].iter().chain(&after);
    assert!(found.iter().eq(expected.copied()));
    assert_monotonic(&log, VIDEO, "after a pause");
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
    any_state(ELEMENTS[0]);
}

#[test]
fn the_bin_in_any_state_at_any_time_from_any_thread() {
    any_state(ELEMENTS[1]);
}

/// States, seeks and flushes, each from threads of their own.
fn any_state(factory: &str) {
    const STATES: [gst::State; 4] = [
        gst::State::Null,
        gst::State::Ready,
        gst::State::Paused,
        gst::State::Playing,
    ];
    let media = media(30);
    let server = Server::builder().enforce_limits(false).start();
    server.fault(Fault::get_media().always().chunk_size(500));
    let run = Run::demuxed(&play_media_with(factory, &server, "cam", &media, &[]));
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
        scope.spawn(move || {
            let mut random = Random(77);
            for _ in 0..30 {
                run.src.send_event(gst::event::FlushStart::new());
                let patience = Duration::from_millis(random.below(10) as u64);
                run.wait_for(patience, Log::is_eos);
                let reset_time = random.below(2) == 0;
                run.src.send_event(gst::event::FlushStop::new(reset_time));
                let patience = Duration::from_millis(random.below(60) as u64);
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
