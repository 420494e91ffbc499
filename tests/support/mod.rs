//! What the tests of the whole path share: the real element, asking a service that runs here, with a
//! demuxer behind it, and all that comes out of it.
//!
//! Nothing here sleeps. A test says what it waits for, and fails with what it saw instead.
#![allow(dead_code)] // each test binary uses its part

pub mod programs;

use bytes::Bytes;
use gst::{glib, prelude::*};
use kvs_local::{
    Operation, Request, Server,
    mkv::{self, Reading},
    synth::{Synth, Synthetic, TrackSpec},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError},
    time::{Duration, Instant},
};

/// How long nothing new may be seen before a test gives up: not a measure of anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The pad of a demuxer that has one video track, and of its sink.
pub const VIDEO: &str = "video_0";
/// The same for sound.
pub const AUDIO: &str = "audio_0";

pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstkvsgetmedia::plugin_register_static().unwrap();
    });
}

/// The element alone, and the bin around it.
pub const ELEMENTS: [&str; 2] = ["kvsgetmediasrc", "kvssrc"];

/// The element, set up to play `stream` from `server`.
pub fn source(server: &Server, stream: &str, properties: &[(&str, &str)]) -> gst::Element {
    element(ELEMENTS[0], server, stream, properties)
}

/// One of [`ELEMENTS`], set up to play `stream` from `server`.
pub fn element(
    factory: &str,
    server: &Server,
    stream: &str,
    properties: &[(&str, &str)],
) -> gst::Element {
    init();
    let src = gst::ElementFactory::make(factory).build().unwrap();
    set(
        &src,
        &[
            ("stream-name", stream),
            ("aws-region", server.region()),
            ("access-key", server.access_key()),
            ("secret-key", server.secret_key()),
            ("endpoint-url", &server.endpoint_url()),
        ],
    );
    set(&src, properties);
    src
}

/// Sets properties as gst-launch does.
pub fn set(element: &gst::Element, properties: &[(&str, &str)]) {
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
}

/// A frame as a sink has it: clipped, and in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub pts: gst::ClockTime,
    pub running_time: gst::ClockTime,
    pub stream_time: gst::ClockTime,
    pub keyframe: bool,
    pub payload: Bytes,
}

/// What comes out of one pad, in order.
#[derive(Debug, Clone)]
pub enum Entry {
    Frame(Frame),
    Segment(gst::Segment),
    /// The source's own event before the first frame of a fragment.
    Fragment(gst::Structure),
    Caps(gst::Caps),
    Eos,
}

/// All that has been seen so far.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// By the name of the demuxer's pad.
    pub pads: BTreeMap<String, Vec<Entry>>,
    /// What comes out of the source, where nothing demuxes it.
    pub bytes: Vec<u8>,
    pub messages: Vec<gst::Message>,
    /// Frames that no sink could play.
    pub faults: Vec<String>,
}

impl Log {
    pub fn entries(&self, pad: &str) -> &[Entry] {
        self.pads.get(pad).map_or(&[], Vec::as_slice)
    }

    pub fn frames(&self, pad: &str) -> Vec<&Frame> {
        let mut frames = Vec::new();
        for entry in self.entries(pad) {
            if let Entry::Frame(frame) = entry {
                frames.push(frame);
            }
        }
        frames
    }

    pub fn count(&self) -> usize {
        let entries = self.pads.values().flatten();
        entries
            .filter(|entry| matches!(entry, Entry::Frame(_)))
            .count()
    }

    pub fn segments(&self, pad: &str) -> Vec<&gst::Segment> {
        let mut segments = Vec::new();
        for entry in self.entries(pad) {
            if let Entry::Segment(segment) = entry {
                segments.push(segment);
            }
        }
        segments
    }

    /// The structures of the source's element messages of this name.
    pub fn structures(&self, name: &str) -> Vec<&gst::StructureRef> {
        let structures = self.messages.iter().filter_map(|message| {
            matches!(message.view(), gst::MessageView::Element(_))
                .then(|| message.structure())
                .flatten()
        });
        structures
            .filter(|structure| structure.name() == name)
            .collect()
    }

    /// The reasons of every `kvs-reconnect`.
    pub fn reconnects(&self) -> Vec<String> {
        let reason = |structure: &&gst::StructureRef| structure.get("reason").unwrap();
        self.structures("kvs-reconnect")
            .iter()
            .map(reason)
            .collect()
    }

    /// The numbers of every complete fragment.
    pub fn fragments(&self) -> Vec<String> {
        let number = |structure: &&gst::StructureRef| structure.get("fragment-number").unwrap();
        self.structures("kvs-fragment").iter().map(number).collect()
    }

    /// The first error, with its details.
    pub fn error(&self) -> Option<(glib::Error, Option<gst::Structure>)> {
        self.messages.iter().find_map(|message| {
            let gst::MessageView::Error(error) = message.view() else {
                return None;
            };
            Some((error.error(), error.details().map(|s| s.to_owned())))
        })
    }

    pub fn is_eos(&self) -> bool {
        self.messages
            .iter()
            .any(|message| message.type_() == gst::MessageType::Eos)
    }

    pub fn warnings(&self) -> Vec<String> {
        let text = |message: &gst::Message| match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        };
        self.messages.iter().filter_map(text).collect()
    }

    fn size(&self) -> usize {
        let entries: usize = self.pads.values().map(Vec::len).sum();
        entries + self.bytes.len() + self.messages.len()
    }

    fn has_failed(&self) -> bool {
        self.error().is_some() || !self.faults.is_empty()
    }

    fn summary(&self) -> String {
        let pads: Vec<_> = self
            .pads
            .keys()
            .map(|pad| format!("{pad}: {} frames", self.frames(pad).len()))
            .collect();
        format!(
            "{pads:?}, {} bytes, {} fragments, reconnects {:?}, gaps {:?}, eos {}, error {:?}, \
             faults {:?}",
            self.bytes.len(),
            self.structures("kvs-fragment").len(),
            self.reconnects(),
            self.structures("kvs-gap"),
            self.is_eos(),
            self.error(),
            self.faults,
        )
    }
}

#[derive(Default)]
struct Seen {
    log: Mutex<Log>,
    changed: Condvar,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Log> {
        // A test that has failed says so itself.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// A pipeline around the element.
pub struct Run {
    pub pipeline: gst::Pipeline,
    pub src: gst::Element,
    seen: Arc<Seen>,
}

/// What is done with each frame besides noting it.
pub type OnFrame = Arc<dyn Fn(&str, &Frame) + Send + Sync>;

impl Run {
    /// `src ! matroskademux`, or `kvssrc`, and on each pad a sink that clips as sinks do.
    pub fn demuxed(src: &gst::Element) -> Run {
        Run::with(src, None)
    }

    /// The same, where frames go to `on_frame` and nothing is kept but how it ends.
    pub fn each_frame(src: &gst::Element, on_frame: OnFrame) -> Run {
        Run::with(src, Some(on_frame))
    }

    fn with(src: &gst::Element, on_frame: Option<OnFrame>) -> Run {
        let keep = on_frame.is_none();
        let run = Run::empty(src, keep);
        let demuxer = if src.is::<gst::Bin>() {
            src.clone()
        } else {
            let demuxer = gst::ElementFactory::make("matroskademux")
                .name("demuxer")
                .build()
                .unwrap();
            run.pipeline.add(&demuxer).unwrap();
            src.link(&demuxer).unwrap();
            demuxer
        };
        let (seen, pipeline) = (run.seen.clone(), run.pipeline.downgrade());
        demuxer.connect_pad_added(move |_, pad| {
            let Some(pipeline) = pipeline.upgrade() else {
                return;
            };
            // Of an earlier run there is one already, which would be waited for otherwise.
            let name = format!("sink-{}", pad.name());
            let sink = pipeline.by_name(&name).unwrap_or_else(|| {
                let sink = frame_sink(&pad.name(), &seen, on_frame.clone());
                sink.set_property("name", &name);
                pipeline.add(&sink).unwrap();
                sink
            });
            sink.sync_state_with_parent().unwrap();
            pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        });
        // The bin gives other names to the pads of other tracks, and a sink without a pad has no end.
        if src.is::<gst::Bin>() {
            let pipeline = run.pipeline.downgrade();
            src.connect_pad_removed(move |_, pad| {
                if let Some(pipeline) = pipeline.upgrade()
                    && let Some(sink) = pipeline.by_name(&format!("sink-{}", pad.name()))
                {
                    pipeline.remove(&sink).unwrap();
                    sink.set_state(gst::State::Null).unwrap();
                }
            });
        }
        run
    }

    /// `src` and a sink that keeps its bytes.
    pub fn plain(src: &gst::Element) -> Run {
        let run = Run::empty(src, true);
        let seen = run.seen.clone();
        let sink = gst_app::AppSink::builder().sync(false).build();
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let buffer = sample.buffer().unwrap().map_readable().unwrap();
                    seen.add(|log| log.bytes.extend_from_slice(&buffer));
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        run.pipeline.add(&sink).unwrap();
        src.link(&sink).unwrap();
        run
    }

    /// `src` and whatever `description` says. Pads that come later are linked as they come.
    pub fn launch(src: &gst::Element, description: &str) -> Run {
        let run = Run::empty(src, true);
        // Not by the parser's own ghost pad: that may be one which is still to be linked.
        let description = format!("identity name=first ! {description}");
        let rest = gst::parse::bin_from_description(&description, false).unwrap();
        let first = rest.by_name("first").unwrap().static_pad("sink").unwrap();
        let pad = gst::GhostPad::with_target(&first).unwrap();
        rest.add_pad(&pad).unwrap();
        run.pipeline.add(&rest).unwrap();
        src.link(&rest).unwrap();
        run
    }

    /// Without `keep`, of the messages the last ones alone are kept.
    fn empty(src: &gst::Element, keep: bool) -> Run {
        init();
        let pipeline = gst::Pipeline::new();
        pipeline.add(src).unwrap();
        let seen = Arc::new(Seen::default());
        let for_bus = seen.clone();
        pipeline.bus().unwrap().set_sync_handler(move |_, message| {
            use gst::MessageType;
            let last = [MessageType::Eos, MessageType::Error, MessageType::Warning];
            if keep || last.contains(&message.type_()) {
                for_bus.add(|log| log.messages.push(message.clone()));
            }
            gst::BusSyncReply::Drop
        });
        Run {
            pipeline,
            src: src.clone(),
            seen,
        }
    }

    pub fn play(&self) -> &Run {
        if let Err(error) = self.pipeline.set_state(gst::State::Playing) {
            panic!("{error}: {}", self.log().summary());
        }
        self
    }

    /// Waits until `condition` holds. Fails when nothing new has come for long, and at once on an
    /// error.
    #[track_caller]
    pub fn wait(&self, what: &str, mut condition: impl FnMut(&Log) -> bool) {
        let met = loop {
            let before = self.seen.lock().size();
            if self.wait_for(PATIENCE, |log| condition(log) || log.has_failed()) {
                break true;
            }
            if self.seen.lock().size() == before {
                break false;
            }
        };
        let log = self.seen.lock();
        assert!(
            met && condition(&log) && log.faults.is_empty(),
            "waited for {what}: {}",
            log.summary()
        );
    }

    /// Waits until `condition` holds; whether it did in time.
    pub fn wait_for(&self, timeout: Duration, mut condition: impl FnMut(&Log) -> bool) -> bool {
        let log = self.seen.lock();
        let (_log, result) = self
            .seen
            .changed
            .wait_timeout_while(log, timeout, |log| !condition(log))
            .unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }

    /// Waits for the end of the stream.
    #[track_caller]
    pub fn wait_eos(&self) {
        self.wait("EOS", Log::is_eos);
    }

    /// Waits for an error, and returns it.
    #[track_caller]
    pub fn wait_error(&self) -> (glib::Error, gst::Structure) {
        self.wait_for(PATIENCE, |log| log.error().is_some() || log.is_eos());
        let log = self.seen.lock();
        let Some((error, Some(details))) = log.error() else {
            panic!("waited for an error with details: {}", log.summary());
        };
        (error, details)
    }

    /// What has been seen so far.
    pub fn log(&self) -> Log {
        self.seen.lock().clone()
    }

    /// Forgets what has been seen.
    pub fn clear(&self) {
        *self.seen.lock() = Log::default();
    }

    /// A pad of the demuxer.
    pub fn pad(&self, name: &str) -> gst::Pad {
        let demuxer = self.pipeline.by_name("demuxer").unwrap();
        demuxer.static_pad(name).unwrap()
    }

    pub fn stats(&self) -> gst::Structure {
        self.src.property("stats")
    }

    /// Stops, and returns what was seen.
    pub fn stop(&self) -> Log {
        self.pipeline.set_state(gst::State::Null).unwrap();
        self.log()
    }

    /// How long `set_state(NULL)` takes.
    pub fn time_to_stop(&self) -> Duration {
        let asked = Instant::now();
        self.pipeline.set_state(gst::State::Null).unwrap();
        asked.elapsed()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
        self.pipeline.bus().unwrap().unset_sync_handler();
        // Messages hold the elements they came from, and these hold the log.
        self.clear();
    }
}

fn frame_sink(pad: &str, seen: &Arc<Seen>, on_frame: Option<OnFrame>) -> gst::Element {
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .build();
    let (name, for_events, keep) = (pad.to_owned(), seen.clone(), on_frame.is_none());
    sink.static_pad("sink")
        .unwrap()
        .add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let entry = match info.event().map(|event| event.view()) {
                Some(gst::EventView::Segment(event)) => Entry::Segment(event.segment().clone()),
                Some(gst::EventView::Caps(event)) => Entry::Caps(event.caps_owned()),
                Some(gst::EventView::Eos(_)) => Entry::Eos,
                Some(gst::EventView::CustomDownstream(event)) => {
                    Entry::Fragment(event.structure().unwrap().to_owned())
                }
                _ => return gst::PadProbeReturn::Ok,
            };
            if !keep {
                return gst::PadProbeReturn::Ok;
            }
            for_events.add(|log| log.pads.entry(name.clone()).or_default().push(entry));
            gst::PadProbeReturn::Ok
        })
        .unwrap();
    let (name, seen) = (pad.to_owned(), seen.clone());
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                match (frame(&sample), &on_frame) {
                    (Ok(frame), Some(on_frame)) => on_frame(&name, &frame),
                    (Ok(frame), None) => seen.add(|log| {
                        let entries = log.pads.entry(name.clone()).or_default();
                        entries.push(Entry::Frame(frame));
                    }),
                    (Err(fault), _) => seen.add(|log| log.faults.push(fault)),
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    sink.upcast()
}

/// The frame, or what is wrong with it.
fn frame(sample: &gst::Sample) -> Result<Frame, String> {
    let (Some(buffer), Some(segment)) = (sample.buffer(), sample.segment()) else {
        return Err(format!("neither a buffer nor a segment: {sample:?}"));
    };
    let place = || {
        let segment = segment.downcast_ref::<gst::ClockTime>()?;
        let pts = buffer.pts().or(buffer.dts())?;
        let running_time = segment.to_running_time(pts)?;
        Some((pts, running_time, segment.to_stream_time(pts)?))
    };
    let Some((pts, running_time, stream_time)) = place() else {
        return Err(format!("{buffer:?} does not lie in {segment:?}"));
    };
    Ok(Frame {
        pts,
        running_time,
        stream_time,
        keyframe: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        payload: buffer
            .map_readable()
            .map(|map| Bytes::copy_from_slice(&map))
            .unwrap_or_default(),
    })
}

/// Fails with where the frames of a pad and the expected payloads part.
#[track_caller]
pub fn assert_payloads<'a>(
    log: &Log,
    pad: &str,
    expected: impl IntoIterator<Item = &'a Bytes>,
    what: &str,
) {
    let found = log.frames(pad);
    let expected: Vec<&Bytes> = expected.into_iter().collect();
    let same = found
        .iter()
        .zip(&expected)
        .take_while(|(frame, payload)| frame.payload == **payload)
        .count();
    assert!(
        same == found.len() && same == expected.len(),
        "{what}, {pad}: {same} frames are the same, of {} seen and {} expected: {}",
        found.len(),
        expected.len(),
        log.summary()
    );
}

/// Fails if time goes back on a pad, as its sink has it.
#[track_caller]
pub fn assert_monotonic(log: &Log, pad: &str, what: &str) {
    for pair in log.frames(pad).windows(2) {
        assert!(
            pair[0].pts <= pair[1].pts && pair[0].running_time <= pair[1].running_time,
            "{what}, {pad}: {:?} after {:?}",
            (pair[1].pts, pair[1].running_time),
            (pair[0].pts, pair[0].running_time),
        );
    }
}

/// Fails if the service was asked for the stream more than 5 times in a second.
#[track_caller]
pub fn assert_rate(server: &Server, what: &str) {
    let mut calls: BTreeMap<(String, Option<String>), Vec<Instant>> = BTreeMap::new();
    for request in server.requests() {
        let key = (request.operation.to_string(), request.stream);
        calls.entry(key).or_default().push(request.at);
    }
    for (key, mut calls) in calls {
        calls.sort();
        let fastest = calls.windows(6).map(|six| six[5] - six[0]).min();
        assert!(
            fastest.is_none_or(|time| time >= Duration::from_secs(1)),
            "{what}: 6 calls of {key:?} within {fastest:?}"
        );
    }
}

/// The GetMedia requests so far.
pub fn get_media(server: &Server) -> Vec<Request> {
    let mut requests = server.requests();
    requests.retain(|request| request.operation == Operation::GetMedia);
    requests
}

/// Whether what is missing on this machine fails a test rather than skipping it.
pub fn require_all() -> bool {
    std::env::var_os("KVS_REQUIRE_ALL").is_some_and(|value| value == "1")
}

/// Video and sound in `fragments` fragments of a second each, and one more that ends the stream for
/// who asks with [`until_last`].
pub fn media(fragments: usize) -> Synthetic {
    Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(fragments + 1)
        .fragment_ms(1000)
        .frames(8)
        .distinct_tokens()
        .build()
}

/// The settings that play everything but the last fragment, and then end.
pub fn until_last(media: &Synthetic) -> [(&'static str, String); 2] {
    let last = media.fragments.last().unwrap().producer_timestamp_ms;
    [
        ("start-selector", "earliest".to_owned()),
        ("end-timestamp", seconds(last)),
    ]
}

/// Milliseconds since the epoch as the element's properties take them.
pub fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// The element, set up to play all of `media` but its last fragment, of which there is a stream
/// `stream` on `server` from now on.
pub fn play_media(
    server: &Server,
    stream: &str,
    media: &Synthetic,
    properties: &[(&str, &str)],
) -> gst::Element {
    play_media_with(ELEMENTS[0], server, stream, media, properties)
}

/// The same with one of [`ELEMENTS`].
pub fn play_media_with(
    factory: &str,
    server: &Server,
    stream: &str,
    media: &Synthetic,
    properties: &[(&str, &str)],
) -> gst::Element {
    media.push_to(&server.stream(stream));
    let src = element(factory, server, stream, properties);
    for (name, value) in until_last(media) {
        src.set_property_from_str(name, &value);
    }
    src
}

/// Fails unless the frames of all fragments but the last have come, each once, each in its time.
#[track_caller]
pub fn assert_media(log: &Log, media: &Synthetic, what: &str) {
    let shown = &media.fragments[..media.fragments.len() - 1];
    let frames: Vec<&mkv::Frame> = shown.iter().flat_map(|f| &f.frames).collect();
    let origin = frames.iter().map(|frame| frame.time_ns).min().unwrap();
    for (track, pad) in [(1, VIDEO), (2, AUDIO)] {
        let of_track = || frames.iter().filter(|frame| frame.track == track);
        assert_payloads(log, pad, of_track().map(|frame| &frame.payload), what);
        for (found, expected) in log.frames(pad).iter().zip(of_track()) {
            let time = (expected.time_ns - origin) as u64;
            let expected = (time, time, expected.time_ns as u64);
            let found = [found.pts, found.running_time, found.stream_time];
            let found = found.map(gst::ClockTime::nseconds).into();
            assert_eq!(expected, found, "{what}, {pad}");
        }
    }
    let numbers: Vec<_> = shown.iter().map(|f| f.number.clone()).collect();
    assert_eq!(log.fragments(), numbers, "{what}");
}

/// A recording of the service's answers: its bytes, and what an independent reader finds in them.
/// `None`, and a line that says so, where the recordings are not there.
pub fn recording(name: &str) -> Option<(Bytes, Reading)> {
    let folder = std::env::var_os("KVS_RECORDINGS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/recordings")),
        PathBuf::from,
    );
    let path = folder.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => {
            let bytes = Bytes::from(bytes);
            let reading = mkv::read(&bytes);
            Some((bytes, reading))
        }
        Err(error) => {
            println!("skipped: recording {}: {error}", path.display());
            None
        }
    }
}

/// What a process uses of what may leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub memory: usize,
    pub threads: usize,
    pub descriptors: usize,
}

impl Usage {
    /// That of this process, now.
    pub fn now() -> Usage {
        let count = |folder| std::fs::read_dir(folder).unwrap().count();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.unwrap().trim_end_matches("kB").trim();
        Usage {
            memory: kibibytes.parse::<usize>().unwrap() << 10,
            threads: count("/proc/self/task"),
            descriptors: count("/proc/self/fd"),
        }
    }
}
