//! Flushes that are no seek's: from the application, and from an element downstream. What is on its
//! way is dropped, as they want it, and nothing else.

mod support;

use gst::prelude::*;
use kvs_local::{
    Fault, Server, Timecodes,
    synth::{Synth, Synthetic, TrackSpec},
};
use support::*;

/// Whom an application may ask for a flush.
#[derive(Debug, Clone, Copy)]
enum Way {
    Element,
    Pipeline,
}

const WAYS: [Way; 2] = [Way::Element, Way::Pipeline];

/// When the service received the first fragment of a burst, in milliseconds since the epoch.
const BURST: u64 = 1_700_000_100_000;

/// The element, and a sink that holds one buffer until it is asked for it.
struct Player {
    pipeline: gst::Pipeline,
    src: gst::Element,
    sink: gst_app::AppSink,
}

impl Player {
    fn empty(src: gst::Element) -> Player {
        let sink = gst_app::AppSink::builder()
            .sync(false)
            .max_buffers(1)
            .build();
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([&src, sink.upcast_ref()]).unwrap();
        Player {
            pipeline,
            src,
            sink,
        }
    }

    /// Plays the video of `src`.
    fn demuxed(src: gst::Element) -> Player {
        let player = Player::empty(src);
        let demuxer = gst::ElementFactory::make("matroskademux").build().unwrap();
        player.pipeline.add(&demuxer).unwrap();
        player.src.link(&demuxer).unwrap();
        let sink = player.sink.static_pad("sink").unwrap();
        demuxer.connect_pad_added(move |_, pad| {
            if pad.name() == VIDEO {
                pad.link(&sink).unwrap();
            }
        });
        player.pipeline.set_state(gst::State::Playing).unwrap();
        player
    }

    /// Plays `src` as it is.
    fn plain(src: gst::Element) -> Player {
        let player = Player::empty(src);
        player.src.link(&player.sink).unwrap();
        player.pipeline.set_state(gst::State::Playing).unwrap();
        player
    }

    /// Waits until the pipeline, which has had data, is in PLAYING, as it has to be for a flush of one
    /// element: that takes no notice of the pipeline's state lock, and a sink that loses its state
    /// while the pipeline is still on its way is forgotten (GstBin says "state change busy") and stays
    /// in PAUSED.
    #[track_caller]
    fn settle(&self) {
        let (settled, ..) = self
            .pipeline
            .state(gst::ClockTime::try_from(PATIENCE).unwrap());
        assert_eq!(settled, Ok(gst::StateChangeSuccess::Success));
    }

    fn flush(&self, way: Way, reset_time: bool) {
        let start = gst::event::FlushStart::new();
        let stop = gst::event::FlushStop::builder(reset_time)
            .seqnum(start.seqnum())
            .build();
        for event in [start, stop] {
            let taken = match way {
                Way::Element => self.src.send_event(event),
                Way::Pipeline => self.pipeline.send_event(event),
            };
            assert!(taken, "{way:?}");
        }
    }

    /// The next sample; `None` at the end.
    #[track_caller]
    fn pull(&self) -> Option<gst::Sample> {
        let patience = gst::ClockTime::try_from(PATIENCE).unwrap();
        let sample = self.sink.try_pull_sample(patience);
        assert!(sample.is_some() || self.sink.is_eos(), "it hangs");
        sample
    }

    /// The next frame that lies in its segment: its stream time, running time and payload.
    #[track_caller]
    fn frame(&self) -> Option<(u64, u64, Vec<u8>)> {
        loop {
            let sample = self.pull()?;
            let segment = sample.segment().unwrap();
            let segment = segment.downcast_ref::<gst::ClockTime>().unwrap();
            let buffer = sample.buffer().unwrap();
            let payload = buffer.map_readable().unwrap().to_vec();
            // One that began before the segment may reach into it.
            if let (Some(stream), Some(running)) = (
                segment.to_stream_time(buffer.pts()),
                segment.to_running_time(buffer.pts()),
            ) {
                return Some((stream.nseconds(), running.nseconds(), payload));
            }
        }
    }

    fn finish(self) {
        let bus = self.pipeline.bus().unwrap();
        self.pipeline.set_state(gst::State::Null).unwrap();
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        assert!(error.is_none(), "{error:?}");
    }
}

/// Time and payload of each video frame that is shown.
fn video(media: &Synthetic) -> Vec<(u64, Vec<u8>)> {
    let shown = &media.fragments[..media.fragments.len() - 1];
    let frames = shown.iter().flat_map(|fragment| &fragment.frames);
    frames
        .filter(|frame| frame.track == 1)
        .map(|frame| (frame.time_ns as u64, frame.payload.to_vec()))
        .collect()
}

/// What may be on its way: in the sink, in the pad before it, in the element's hands.
const ON_ITS_WAY: usize = 4;

/// Frames of the read that is on its way, which all come again.
const OF_A_READ: usize = 2;

/// A service that sends little at a time: a frame or so.
fn server() -> Server {
    let server = Server::start();
    server.fault(Fault::get_media().always().chunk_size(200));
    server
}

#[test]
fn it_goes_on_where_it_stands() {
    let media = media(12);
    let server = server();
    for way in WAYS {
        let src = play_media(&server, &format!("{way:?}"), &media, &[]);
        goes_on(src, way, &video(&media));
    }
    assert_rate(&server, "flushes");
}

/// Flushes in the middle of fragments, and at their edges, and expects all frames but those on their
/// way.
fn goes_on(src: gst::Element, way: Way, expected: &[(u64, Vec<u8>)]) {
    let player = Player::demuxed(src);
    let mut next = 0;
    for until in [1, 13, 16, 17, 40, 47, 48] {
        while next < until {
            let (time, _, payload) = player.frame().expect("a frame");
            assert_eq!((time, payload), expected[next], "{way:?}: frame {next}");
            next += 1;
        }
        player.settle();
        player.flush(way, true);
        let (time, running, payload) = player.frame().expect("a frame");
        let index = expected.iter().position(|(at, _)| *at == time);
        let index = index.unwrap_or_else(|| panic!("{way:?}: {time} after frame {next}"));
        assert_eq!(payload, expected[index].1, "{way:?}");
        assert!(
            (next.saturating_sub(OF_A_READ)..=next + ON_ITS_WAY).contains(&index),
            "{way:?}: frame {index} after a flush that came after {next}"
        );
        // As after a seek: what comes first is due at once.
        let apart = expected[1].0 - expected[0].0;
        assert!(running <= apart, "{way:?}: {running}");
        next = index + 1;
    }
    while let Some((time, _, payload)) = player.frame() {
        assert_eq!((time, payload), expected[next], "{way:?}: frame {next}");
        next += 1;
    }
    assert_eq!(next, expected.len(), "{way:?}");
    player.finish();
}

/// Fragments of a second that the service received 20 ms apart: a stretch stands where its first
/// fragment was received, and the rest of it is found by no time that can be asked for.
#[test]
fn in_a_burst_it_goes_on_by_the_servers_clock() {
    for (source, has_clock) in [("server", true), ("producer", false)] {
        let media = Synth::new()
            .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
            .timecodes(Timecodes::Relative)
            .fragments(13)
            .fragment_ms(1000)
            .frames(8)
            .distinct_tokens()
            .each(move |index, fragment| {
                fragment.server_timestamp_ms = BURST + 20 * index as u64;
                if !has_clock {
                    fragment.producer_timestamp_ms = 0;
                }
            })
            .build();
        let server = server();
        let start = ("start-selector", "earliest");
        let end = seconds(BURST + 20 * 12);
        let properties = [start, ("timestamp-source", source), ("end-timestamp", &end)];
        let frames = video(&media).into_iter().enumerate();
        let expected: Vec<_> = frames
            .map(|(index, (_, payload))| ((BURST + 125 * index as u64) * 1_000_000, payload))
            .collect();
        for way in WAYS {
            let stream = server.stream(&format!("{way:?}"));
            media.push_to(&stream);
            let src = support::source(&server, stream.name(), &properties);
            goes_on(src, way, &expected);
        }
    }
}

/// Before anything has come, there is nothing to lose, and nothing is asked for again.
#[test]
fn before_the_first_frame_it_loses_nothing() {
    let media = media(3);
    let expected = video(&media);
    let server = Server::start();
    for way in WAYS {
        let stream = server.stream(&format!("{way:?}"));
        let src = source(&server, stream.name(), &[]);
        for (name, value) in until_last(&media) {
            src.set_property_from_str(name, &value);
        }
        server.clear_requests();
        let player = Player::demuxed(src);
        assert!(server.wait_until(PATIENCE, |server| get_media(server).len() == 1));
        player.flush(way, true);
        for fragment in &media.fragments {
            stream.push_fragment(fragment.new_fragment());
        }
        for (index, expected) in expected.iter().enumerate() {
            let (time, _, payload) = player.frame().expect("a frame");
            assert_eq!((time, payload), *expected, "{way:?}: frame {index}");
        }
        assert!(player.frame().is_none(), "{way:?}");
        assert_eq!(get_media(&server).len(), 1, "{way:?}");
        player.finish();
    }
}

/// A flush takes the end away, and so it comes again.
#[test]
fn after_the_end_it_ends_again() {
    let media = media(3);
    let expected = video(&media);
    let server = server();
    for way in WAYS {
        let player = Player::demuxed(play_media(&server, &format!("{way:?}"), &media, &[]));
        while player.frame().is_some() {}
        player.settle();
        player.flush(way, false);
        let mut again = Vec::new();
        while let Some((time, ..)) = player.frame() {
            again.push(time);
        }
        assert!(again.len() <= OF_A_READ, "{way:?}: {again:?}");
        let last = expected[expected.len() - again.len()..].iter();
        assert!(last.map(|(time, _)| time).eq(&again), "{way:?}: {again:?}");
        player.finish();
    }
}

/// Without a demuxer nothing is asked for again. Whole blocks go, and whole blocks stay.
#[test]
fn raw_goes_on_with_a_whole_block() {
    let media = kvs_local::synth::Synth::new()
        .fragments(7)
        .frames(8)
        .payload(20_000, 40_000)
        .build();
    let shown = &media.fragments[..6];
    let frames: Vec<_> = shown.iter().flat_map(|f| &f.frames).collect();
    let server = Server::start();
    // Each block comes in many pieces.
    server.fault(Fault::get_media().always().chunk_size(5000));
    for way in WAYS {
        let stream = format!("{way:?}");
        let player = Player::plain(play_media(&server, &stream, &media, &[("payload", "raw")]));
        let mut bytes = Vec::new();
        let mut pulled = 0;
        while let Some(sample) = player.pull() {
            let buffer = sample.buffer().unwrap();
            bytes.extend_from_slice(&buffer.map_readable().unwrap());
            drop(sample);
            pulled += 1;
            if pulled % 31 == 15 {
                player.settle();
                player.flush(way, false);
            }
        }
        player.finish();
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        let mut lost = 0;
        for (index, frame) in frames.iter().enumerate() {
            let payload = &frame.payload;
            let (begins, ends) = (&payload[..64], &payload[payload.len() - 64..]);
            // What was pulled before the flush is not taken back.
            assert!(
                !holds(ends) || holds(begins),
                "{way:?}: the rest of {index}"
            );
            lost += usize::from(!holds(payload));
        }
        println!(
            "{way:?}: {pulled} buffers, {lost} of {} frames lost",
            frames.len()
        );
        assert!((1..frames.len() / 2).contains(&lost), "{way:?}: {lost}");
    }
    assert_eq!(get_media(&server).len(), WAYS.len());
}

/// Against the stream, as an element downstream may send it, which sees to it itself that it takes
/// what still comes.
#[test]
fn a_flush_from_downstream_does_not_end_it() {
    let media = media(6);
    let expected = video(&media);
    for payload in ["continuous", "raw"] {
        let server = Server::start();
        let half = media.fragments[0].document.len() * 5 / 2;
        server.fault(Fault::get_media().stall_after(half as u64));
        let properties = [("payload", payload), ("idle-timeout", "1500")];
        let src = play_media(&server, "cam", &media, &properties);
        let player = match payload {
            "raw" => Player::empty(src),
            _ => Player::demuxed(src),
        };
        player.sink.set_max_buffers(0);
        if payload == "raw" {
            player.src.link(&player.sink).unwrap();
            player.pipeline.set_state(gst::State::Playing).unwrap();
        }
        let complete = |_: &Server| {
            let stats = player.src.property::<gst::Structure>("stats");
            stats.get::<u64>("fragments") == Ok(2)
        };
        assert!(server.wait_until(PATIENCE, complete), "{payload}");
        let pad = player.sink.static_pad("sink").unwrap();
        assert!(pad.push_event(gst::event::FlushStart::new()), "{payload}");
        assert!(
            pad.push_event(gst::event::FlushStop::new(true)),
            "{payload}"
        );
        if payload == "raw" {
            while player.pull().is_some() {}
        } else {
            let (first, ..) = player.frame().expect("a frame");
            let index = expected.iter().position(|(at, _)| *at == first).unwrap();
            assert!(index <= 20, "{index}");
            for (time, bytes) in &expected[index + 1..] {
                let (at, _, payload) = player.frame().expect("a frame");
                assert_eq!((at, payload), (*time, bytes.clone()));
            }
            assert!(player.frame().is_none());
        }
        player.finish();
    }
}
