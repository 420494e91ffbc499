//! How smoothly a stream plays, and how fast it seeks.
//!
//! A recording is looped and uploaded in real time, delivered in several patterns, and played by
//! sinks that keep to the clock: by `kvsgetmediasrc ! matroskademux` from a local service, and by
//! `souphttpsrc ! matroskademux` from the service's bytes, which a plain HTTP server sends at the
//! same moments. Sinks drop what comes later than video sinks would show it. Then `kvssrc` is
//! sought in the same media as an archive.
//!
//!     cargo bench --bench playback                     # 30 seconds of stream for each pattern
//!     cargo bench --bench playback -- --seconds 300    # the figures in the README
//!
//! The recording is `kinesis_video_renderer_example_output.mkv` in the folder `KVS_RECORDINGS`, or
//! synthetic media where it is not there.

use bytes::Bytes;
use gst::{ClockTime, prelude::*};
use kvs_local::{
    NewFragment, Server, StreamHandle, Timecodes, mkv,
    synth::{Synth, TrackSpec},
};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const RECORDING: &str = "kinesis_video_renderer_example_output.mkv";

/// What the element has by default, in milliseconds.
const LATENCY_MS: u64 = 2000;

/// How late a frame may be at the sink, as with video sinks.
const MAX_LATENESS: ClockTime = ClockTime::from_mseconds(20);

/// How long the delivery stalls, and the producer pauses.
const STALL_MS: u64 = 5000;

/// After so much of each minute of stream, or in its middle if it is shorter.
const STALL_AFTER_MS: u64 = 20_000;

/// The latest that a fragment is on purpose; the rest of the latency is for the way to the sink.
const LATE_MS: u64 = LATENCY_MS - 50;

const SEEKS: usize = 50;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;
    let seconds = seconds()?;
    let length = seconds * 1000;
    let recording = Recording::load()?;
    println!(
        "{seconds} s of stream for each pattern, {} frames in each {:.1} s of it: {}\n",
        recording.frames(),
        recording.length_ms as f64 / 1000.0,
        recording.name
    );

    println!(
        "| Delivery | Frames | `kvsgetmediasrc`: came too late | not shown | gaps | worst error of \
         stream time | `souphttpsrc`: not shown |"
    );
    println!("|---|---|---|---|---|---|---|");
    // In real time, so all at once.
    let rows: Vec<_> = Pattern::ALL
        .into_iter()
        .map(|pattern| {
            let media = Media::looped(&recording, length, pattern, wall_ms());
            thread::spawn(move || row(&media).map_err(|error| error.to_string()))
        })
        .collect();
    for row in rows {
        println!("{}", row.join().map_err(|_| "a run has failed")??);
    }

    // What has been recorded: nothing later than now can be sought.
    let origin = wall_ms() - length - 60_000;
    let media = Media::looped(&recording, length, Pattern::Bursts, origin);
    for (name, flags) in [
        ("to a fragment (KEY_UNIT)", gst::SeekFlags::KEY_UNIT),
        ("to a frame (ACCURATE)", gst::SeekFlags::ACCURATE),
    ] {
        let mut times = seek_times(&media, flags)?;
        times.sort();
        println!(
            "\nkvssrc, {SEEKS} seeks {name}: from the event to the first frame at the sink, median \
             {:.1} ms, worst {:.1} ms",
            times[times.len() / 2].as_secs_f64() * 1000.0,
            times[times.len() - 1].as_secs_f64() * 1000.0,
        );
    }
    Ok(())
}

/// How much stream each pattern plays.
fn seconds() -> Result<u64> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match (args.next().as_deref(), args.next()) {
        (None, _) => Ok(30),
        (Some("--seconds"), Some(seconds)) => Ok(seconds.parse()?),
        _ => Err("usage: playback [--seconds N]".into()),
    }
}

fn row(media: &Media) -> Result<String> {
    let (ours, theirs) = thread::scope(|scope| {
        let theirs = scope.spawn(|| play_raw(media).map_err(|error| error.to_string()));
        (play_ours(media), theirs.join())
    });
    let ours = ours?;
    let frames = media.walls.len();
    let theirs = match theirs.map_err(|_| "souphttpsrc's run has failed")?? {
        Some(played) => (frames - played.shown).to_string(),
        None => "skipped: there is no souphttpsrc".to_owned(),
    };
    Ok(format!(
        "| {} | {frames} | {} | {} | {} {} | {:.3} ms | {theirs} |",
        media.pattern.name(),
        ours.late,
        frames - ours.shown,
        ours.gaps.len(),
        ours.gaps.first().map_or("", String::as_str),
        ours.error as f64 / 1e6,
    ))
}

// ---- media ---------------------------------------------------------------------------------------

/// How a stream arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Smooth,
    Bursts,
    Late,
    Stall,
    Pause,
}

impl Pattern {
    const ALL: [Pattern; 5] = [
        Pattern::Smooth,
        Pattern::Bursts,
        Pattern::Late,
        Pattern::Stall,
        Pattern::Pause,
    ];

    fn name(self) -> &'static str {
        match self {
            Pattern::Smooth => "each frame when it ends",
            Pattern::Bursts => "each fragment when it ends",
            Pattern::Late => "fragments up to `latency` late",
            Pattern::Stall => "a stall of 5 s in each minute, then all at once",
            Pattern::Pause => "the producer pauses for 5 s in each minute",
        }
    }
}

/// What is looped.
struct Recording {
    name: String,
    fragments: Vec<Part>,
    length_ms: u64,
}

/// A fragment of it.
struct Part {
    /// EBML header, Segment, Info, Tracks.
    header: Bytes,
    frames: Vec<mkv::Frame>,
    /// Milliseconds from the recording's beginning; the end is the beginning of the next.
    start_ms: u64,
    end_ms: u64,
    /// The same, of its frames.
    frames_ms: Vec<u64>,
}

impl Recording {
    fn load() -> Result<Recording> {
        let folder = std::env::var_os("KVS_RECORDINGS").map(PathBuf::from);
        match folder.map(|folder| std::fs::read(folder.join(RECORDING))) {
            Some(bytes) => Recording::of(RECORDING, &bytes?.into()),
            None => {
                let synth = Synth::new().tracks([TrackSpec::h264(1)]).fragments(8);
                let synth = synth.fragment_ms(2000).frames(60).payload(500, 5000);
                Recording::of("synthetic", &synth.build().recording())
            }
        }
    }

    fn of(name: &str, bytes: &Bytes) -> Result<Recording> {
        let documents = mkv::read(bytes).documents;
        let frames = || documents.iter().flat_map(|document| &document.frames);
        let first = frames().map(|frame| frame.time_ns).min();
        let first = first.ok_or_else(|| format!("{name} has no frames"))?;
        let ms = |time: i64| ((time - first) / 1_000_000) as u64;
        let last = frames().map(|frame| ms(frame.time_ns)).max().unwrap_or(0);
        let length_ms = last + last / frames().count() as u64;
        let mut fragments = Vec::<Part>::new();
        for document in &documents {
            let of = |element: &&mkv::Element| matches!(element.id, TAGS | CLUSTER);
            let after_header = document.elements.iter().find(of);
            let header_end = after_header.map_or(document.offset, |element| element.offset);
            let frames_ms: Vec<_> = document.frames.iter().map(|f| ms(f.time_ns)).collect();
            let start_ms = frames_ms.first().copied().unwrap_or(0);
            if let Some(before) = fragments.last_mut() {
                before.end_ms = start_ms;
            }
            fragments.push(Part {
                header: bytes.slice(document.offset..header_end),
                frames: document.frames.clone(),
                start_ms,
                end_ms: length_ms,
                frames_ms,
            });
        }
        Ok(Recording {
            name: name.to_owned(),
            fragments,
            length_ms,
        })
    }

    fn frames(&self) -> usize {
        self.fragments.iter().map(|part| part.frames.len()).sum()
    }
}

const TAGS: u32 = 0x1254_C367;
const CLUSTER: u32 = 0x1F43_B675;

impl Part {
    /// As a producer sends it with this timecode, in milliseconds.
    fn document(&self, timecode: u64) -> Bytes {
        let mut out = self.header.to_vec();
        // Of unknown size.
        out.extend(CLUSTER.to_be_bytes());
        out.push(0xFF);
        element(&mut out, 0xE7, &[&timecode.to_be_bytes()]);
        for (frame, ms) in self.frames.iter().zip(&self.frames_ms) {
            let offset = (*ms as i64 - self.start_ms as i64) as i16;
            let [high, low] = offset.to_be_bytes();
            let flags = u8::from(frame.keyframe) << 7;
            let head = [0x80 | frame.track as u8, high, low, flags];
            element(&mut out, 0xA3, &[&head, &frame.payload]);
        }
        out.into()
    }
}

/// An element with a size of eight bytes.
fn element(out: &mut Vec<u8>, id: u8, parts: &[&[u8]]) {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    out.push(id);
    out.extend(((1 << 56) | size as u64).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// A fragment on its way.
struct Fragment {
    /// As a producer sends it.
    document: Bytes,
    wall_ms: u64,
    /// When it is sent, in milliseconds after the first: as a whole, or each frame.
    due: Vec<u64>,
}

/// A stream in a pattern, as long as it is played.
struct Media {
    pattern: Pattern,
    fragments: Vec<Fragment>,
    /// When each frame was recorded, in milliseconds since the epoch.
    walls: Vec<u64>,
}

impl Media {
    /// The recording in a loop, for so long, as though recorded from `origin` on (in milliseconds
    /// since the epoch).
    fn looped(recording: &Recording, length_ms: u64, pattern: Pattern, origin: u64) -> Media {
        let mut media = Media {
            pattern,
            fragments: Vec::new(),
            walls: Vec::new(),
        };
        let mut random = Random(7);
        // The first fragment is there when playing begins: the rest has its length to come in.
        let first_ms = recording.fragments[0].end_ms;
        let stall_after = STALL_AFTER_MS.min(length_ms / 2);
        let (mut stalls, mut paused, mut sent) = (0, 0, 0);
        for turn in (0..length_ms).step_by(recording.length_ms as usize) {
            for part in &recording.fragments {
                let (start, end) = (turn + part.start_ms, turn + part.end_ms);
                if start >= length_ms {
                    break;
                }
                let stalls_here = start >= stalls * 60_000 + stall_after;
                stalls += u64::from(stalls_here);
                if stalls_here && pattern == Pattern::Pause {
                    paused += STALL_MS;
                }
                // A longer fragment comes that much later as it is.
                let longer = (end - start).saturating_sub(first_ms);
                let late = match pattern {
                    _ if media.fragments.is_empty() => 0,
                    Pattern::Late => random.below(LATE_MS - longer),
                    Pattern::Stall if stalls_here => STALL_MS,
                    _ => 0,
                };
                let complete = (end + paused).saturating_sub(first_ms);
                // What comes later is not sent earlier.
                sent = sent.max(complete + late);
                let due = if pattern == Pattern::Smooth && !media.fragments.is_empty() {
                    let ends = part.frames_ms.iter().skip(1).chain([&part.end_ms]);
                    ends.map(|end| turn + end - first_ms).collect()
                } else {
                    vec![sent]
                };
                let wall = origin + start + paused;
                let of_frame = |ms| wall + ms - part.start_ms;
                media.walls.extend(part.frames_ms.iter().map(of_frame));
                media.fragments.push(Fragment {
                    document: part.document(start + paused),
                    wall_ms: wall,
                    due,
                });
            }
        }
        media
    }

    /// Calls `send` with each piece of the documents at its time, the first at once. They are those
    /// of the fragments, or what became of them.
    fn send(&self, documents: &[Bytes], mut send: impl FnMut(&Fragment, &[u8])) {
        let mut begun = None;
        for (fragment, document) in self.fragments.iter().zip(documents) {
            let cuts = match fragment.due.len() {
                1 => vec![document.len()],
                _ => frame_ends(document),
            };
            let mut from = 0;
            for (due, cut) in fragment.due.iter().zip(cuts) {
                let since = begun.map_or(Duration::ZERO, |begun: Instant| begun.elapsed());
                thread::sleep(Duration::from_millis(*due).saturating_sub(since));
                send(fragment, &document[from..cut]);
                begun.get_or_insert_with(Instant::now);
                from = cut;
            }
        }
    }

    /// What the service makes of the fragments.
    fn served(&self) -> Vec<Bytes> {
        let server = Server::start();
        let stream = server.stream("cam");
        let served = |fragment: &Fragment| {
            let number = stream.push_fragment(fragment.whole());
            stream.served_document(&number, 0)
        };
        self.fragments.iter().map(served).collect()
    }

    fn documents(&self) -> Vec<Bytes> {
        let document = |fragment: &Fragment| fragment.document.clone();
        self.fragments.iter().map(document).collect()
    }
}

impl Fragment {
    fn whole(&self) -> NewFragment {
        NewFragment {
            producer_timestamp_ms: self.wall_ms,
            ..NewFragment::new(self.document.clone())
        }
    }
}

/// Where the frames of a document end; the last with all that follows.
fn frame_ends(document: &Bytes) -> Vec<usize> {
    let reading = mkv::read(document);
    let end = |frame: &mkv::Frame| {
        frame.payload.as_ptr() as usize + frame.payload.len() - document.as_ptr() as usize
    };
    let mut ends: Vec<_> = reading.frames().map(end).collect();
    if let Some(last) = ends.last_mut() {
        *last = document.len();
    }
    ends
}

fn wall_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

// ---- playing -------------------------------------------------------------------------------------

/// What a sink made of a stream.
struct Played {
    /// Frames that no sink could have shown, whatever else the machine does.
    late: usize,
    shown: usize,
    /// The worst difference of stream time and the producer's clock, in nanoseconds.
    error: u64,
    /// The kinds of the gaps that the source told of.
    gaps: Vec<String>,
}

/// `source ! matroskademux ! fakesink`, where the sink drops as video sinks do.
struct Player {
    pipeline: gst::Pipeline,
    counts: Arc<Counts>,
}

/// What a sink has seen. Its own statistics begin again with each segment.
#[derive(Default)]
struct Counts {
    arrived: AtomicUsize,
    late: AtomicUsize,
    shown: AtomicUsize,
    error: AtomicU64,
}

impl Player {
    fn new(source: &gst::Element, walls: &[u64]) -> Result<Player> {
        let pipeline = gst::Pipeline::new();
        let demuxer = gst::ElementFactory::make("matroskademux").build()?;
        let queue = gst::ElementFactory::make("queue")
            .property("max-size-bytes", 0u32)
            .property("max-size-time", 0u64)
            .property("max-size-buffers", 0u32)
            .build()?;
        let counts = Arc::new(Counts::default());
        let sink = sink()?;
        sink.set_property("signal-handoffs", true);
        let for_shown = counts.clone();
        sink.connect("handoff", false, move |_| {
            for_shown.shown.fetch_add(1, Ordering::SeqCst);
            None
        });
        pipeline.add_many([source, &demuxer, &queue, &sink])?;
        source.link(&demuxer)?;
        queue.link(&sink)?;
        let entry = queue.static_pad("sink").ok_or("no pad")?;
        demuxer.connect_pad_added(move |_, pad| {
            let _ = pad.link(&entry);
        });
        let (for_probe, walls) = (counts.clone(), walls.to_vec());
        let clock = pipeline.downgrade();
        // Before the queue: behind it, frames wait for their time.
        let pad = queue.static_pad("sink").ok_or("no pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let index = for_probe.arrived.fetch_add(1, Ordering::SeqCst);
            let Some((stream_time, running_time)) =
                info.buffer().and_then(|buffer| times(pad, buffer))
            else {
                return gst::PadProbeReturn::Ok;
            };
            if let Some(wall) = walls.get(index) {
                let error = stream_time.nseconds().abs_diff(wall * 1_000_000);
                for_probe.error.fetch_max(error, Ordering::SeqCst);
            }
            let due = running_time + ClockTime::from_mseconds(LATENCY_MS) + MAX_LATENESS;
            let now = clock
                .upgrade()
                .and_then(|pipeline| pipeline.current_running_time());
            if now.is_some_and(|now| now > due) {
                for_probe.late.fetch_add(1, Ordering::SeqCst);
            }
            gst::PadProbeReturn::Ok
        });
        Ok(Player { pipeline, counts })
    }

    fn has_begun(&self) -> bool {
        self.counts.arrived.load(Ordering::SeqCst) > 0
    }

    /// Waits until all frames have been shown, or no more are.
    fn finish(self, media: &Media) -> Result<Played> {
        let shown = || self.counts.shown.load(Ordering::SeqCst);
        let (mut last, mut since) = (shown(), Instant::now());
        let patience = Duration::from_millis(STALL_MS + 2 * LATENCY_MS);
        while last < media.walls.len() && since.elapsed() < patience {
            thread::sleep(Duration::from_millis(50));
            let now = shown();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        let mut gaps = Vec::new();
        let bus = self.pipeline.bus().ok_or("no bus")?;
        while let Some(message) = bus.pop() {
            let gap = message.structure().filter(|s| s.name() == "kvs-gap");
            gaps.extend(gap.and_then(|gap| gap.get::<String>("kind").ok()));
        }
        self.pipeline.set_state(gst::State::Null)?;
        Ok(Played {
            late: self.counts.late.load(Ordering::SeqCst),
            shown: last,
            error: self.counts.error.load(Ordering::SeqCst),
            gaps,
        })
    }
}

fn sink() -> Result<gst::Element> {
    let sink = gst::ElementFactory::make("fakesink")
        .property("sync", true)
        .property("qos", true)
        .property("max-lateness", MAX_LATENESS.nseconds() as i64)
        .build()?;
    Ok(sink)
}

/// Stream time and running time of a buffer that arrives at a pad, if it is in the segment.
fn times(pad: &gst::Pad, buffer: &gst::Buffer) -> Option<(ClockTime, ClockTime)> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<ClockTime>()?.clone();
    let pts = buffer.pts();
    segment
        .to_stream_time(pts)
        .zip(segment.to_running_time(pts))
}

/// One of the plugin's elements, to play `stream` from `server`.
fn element_of(factory: &str, server: &Server) -> Result<gst::Element> {
    let element = gst::ElementFactory::make(factory)
        .property("stream-name", "cam")
        .property("aws-region", server.region())
        .property("access-key", server.access_key())
        .property("secret-key", server.secret_key())
        .property("endpoint-url", server.endpoint_url())
        .build()?;
    Ok(element)
}

/// By kvsgetmediasrc, from NOW.
fn play_ours(media: &Media) -> Result<Played> {
    let server = Server::builder().chunked_live(true).start();
    let stream = server.stream("cam");
    let player = Player::new(&element_of("kvsgetmediasrc", &server)?, &media.walls)?;
    let mut upload = Upload::new(&stream, media);
    let mut result = Ok(());
    let mut begun = false;
    media.send(&media.documents(), |fragment, piece| {
        if let Err(error) = upload.send(fragment, piece) {
            result = Err(error);
        }
        if !std::mem::replace(&mut begun, true) {
            // Nothing of the time that it takes to connect helps what comes late.
            let _ = player.pipeline.set_state(gst::State::Playing);
            let asked = Instant::now();
            while !player.has_begun() && asked.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    result?;
    player.finish(media)
}

/// A producer: in whole fragments, or in frames.
enum Upload {
    Whole(StreamHandle),
    Pieces(Box<kvs_local::Producer>),
}

impl Upload {
    fn new(stream: &StreamHandle, media: &Media) -> Upload {
        let origin = media.walls[0];
        match media.pattern {
            Pattern::Smooth => {
                Upload::Pieces(Box::new(stream.producer(origin, Timecodes::Relative)))
            }
            _ => Upload::Whole(stream.clone()),
        }
    }

    fn send(&mut self, fragment: &Fragment, piece: &[u8]) -> Result<()> {
        match self {
            Upload::Whole(stream) => drop(stream.push_fragment(fragment.whole())),
            Upload::Pieces(producer) => producer.write(piece)?,
        }
        Ok(())
    }
}

/// By souphttpsrc, if there is one: the bytes of a GetMedia, sent as [`play_ours`] has them sent.
fn play_raw(media: &Media) -> Result<Option<Played>> {
    let Ok(source) = gst::ElementFactory::make("souphttpsrc").build() else {
        return Ok(None);
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    source.set_property("location", format!("http://{}/", listener.local_addr()?));
    let player = Player::new(&source, &media.walls)?;
    player.pipeline.set_state(gst::State::Playing)?;
    let (mut client, _) = listener.accept()?;
    client.set_nodelay(true)?;
    read_head(&mut client)?;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: video/webm\r\nConnection: close\r\n\r\n";
    client.write_all(head.as_bytes())?;
    media.send(&media.served(), |_, piece| {
        // Who has ended gets nothing more.
        let _ = client.write_all(piece);
    });
    drop(client);
    player.finish(media).map(Some)
}

fn read_head(client: &mut TcpStream) -> Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(())
}

// ---- seeking -------------------------------------------------------------------------------------

/// How long each of so many seeks takes until its first frame is at the sink.
fn seek_times(media: &Media, flags: gst::SeekFlags) -> Result<Vec<Duration>> {
    let server = Server::start();
    let stream = server.stream("cam");
    for fragment in &media.fragments {
        stream.push_fragment(fragment.whole());
    }
    let source = element_of("kvssrc", &server)?;
    source.set_property_from_str("start-selector", "earliest");
    let (pipeline, sink) = (gst::Pipeline::new(), sink()?);
    pipeline.add_many([&source, &sink])?;
    let pad = sink.static_pad("sink").ok_or("no pad")?;
    let entry = pad.clone();
    source.connect_pad_added(move |_, pad| {
        let _ = pad.link(&entry);
    });
    let (frames, first) = mpsc::channel();
    // Told of one frame: the next within its segment, after the next flush.
    let (wanted, flushed) = (Arc::new(Mutex::new(true)), Arc::new(Mutex::new(true)));
    let (for_probe, for_flush) = (wanted.clone(), flushed.clone());
    let which = gst::PadProbeType::BUFFER
        | gst::PadProbeType::EVENT_FLUSH
        | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(which, move |pad, info| {
        if let Some(event) = info.event() {
            if event.type_() == gst::EventType::FlushStop {
                *lock(&for_flush) = true;
            }
        } else if let Some((time, _)) = info.buffer().and_then(|buffer| times(pad, buffer)) {
            let mut wanted = lock(&for_probe);
            if *wanted && *lock(&for_flush) {
                *wanted = false;
                let _ = frames.send((Instant::now(), time));
            }
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing)?;
    let patience = Duration::from_secs(30);
    first.recv_timeout(patience)?;

    let mut random = Random(11);
    let (from, to) = (media.walls[0], media.walls[media.walls.len() - 1]);
    let mut times = Vec::new();
    for _ in 0..SEEKS {
        // Apart from each other, so that it is not the limit of calls a second that is measured.
        thread::sleep(Duration::from_millis(300));
        let target = ClockTime::from_mseconds(from + random.below(to - from));
        *lock(&flushed) = false;
        *lock(&wanted) = true;
        let asked = Instant::now();
        pipeline.seek_simple(gst::SeekFlags::FLUSH | flags, target)?;
        let (at, time) = first.recv_timeout(patience)?;
        if time.absdiff(target) > ClockTime::from_mseconds(LATENCY_MS + 100) {
            return Err(format!("sought {target} and came to {time}").into());
        }
        times.push(at - asked);
    }
    pipeline.set_state(gst::State::Null)?;
    Ok(times)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
