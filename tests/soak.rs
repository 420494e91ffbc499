//! Long streams over bad networks, as fast as they go: frames exact, and nothing grows.
//!
//! The service runs in the test's process and the player in one of its own, so that what is measured
//! is the player alone. The short form runs with the other tests; the long one, 10,000 fragments or
//! some three hours of stream, by
//!
//! ```sh
//! KVS_SOAK_FRAGMENTS=10000 cargo test --release --test soak -- --nocapture
//! ```

mod support;

use bytes::Bytes;
use kvs_local::{
    Cut, Fault, Server,
    synth::{Blocks, ClusterSize, Synth, SynthFragment, TrackSpec},
};
use std::{
    collections::VecDeque,
    process::Command,
    sync::{Arc, Mutex},
};
use support::*;

const SHORT: usize = 600;
/// Until here everything has been used once, and may have grown.
const WARM: [usize; 2] = [150, 500];
/// What memory may grow by after that.
const GROWTH: usize = 2 << 20;

const FRAMES: usize = 8;
const START_MS: u64 = 1_700_000_000_000;

const CHILD: &str = "KVS_SOAK_CHILD";

fn fragments() -> usize {
    let wanted = std::env::var("KVS_SOAK_FRAGMENTS").ok();
    wanted.map_or(SHORT, |number| number.parse().expect("KVS_SOAK_FRAGMENTS"))
}

/// The same one in both processes.
fn fragment(index: usize) -> SynthFragment {
    let media = Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(1)
        .frames(FRAMES)
        .fragment_ms(1000)
        .start_ms(START_MS + 1000 * index as u64)
        .server_start_ms(START_MS + 1000 * index as u64 + 350)
        .first_number(&format!("91343852333181432392682062607743920{index:012}"))
        .seed(index as u64 + 1)
        .payload(20, 400)
        .distinct_tokens()
        .cluster_size([ClusterSize::Known, ClusterSize::Unknown][index % 2])
        .blocks([Blocks::Simple, Blocks::Group][index / 2 % 2])
        .build();
    media.fragments.into_iter().next().unwrap()
}

/// The same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

fn random_fault(random: &mut Random) -> Fault {
    let fault = Fault::get_media();
    let cut = random.below(120_000);
    let fault = match random.below(3) {
        0 => fault.chunk_size(1 + random.below(3000) as usize),
        _ => fault,
    };
    match random.below(12) {
        0 => fault.http_error(500, "InternalFailure", "no"),
        1 => fault.http_error(400, "ClientLimitExceededException", "no"),
        2 => fault.http_error(400, "InvalidEndpointException", "no"),
        3 => fault.close_before_headers(),
        4 => fault.in_band_error(random.below(20) as usize, 5000, "Internal error"),
        5 => fault.cut_after(cut, Cut::CleanEnd),
        6 => fault.duplicate_fragment(3).cut_after(cut, Cut::Fin),
        7 | 8 => fault.cut_after(cut, Cut::Fin),
        _ => fault.cut_after(cut, Cut::Reset),
    }
}

#[test]
fn frames_are_exact_and_nothing_grows() {
    let fragments = fragments();
    let server = Server::builder().rotate_after_fragments(60).start();
    let stream = server.stream("soak");
    for index in 0..=fragments {
        stream.push_fragment(fragment(index).new_fragment());
    }
    let mut random = Random(7);
    for nth in 1..=fragments / 8 {
        server.fault(random_fault(&mut random).nth(nth));
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, server.endpoint_url())
        .env("KVS_SOAK_FRAGMENTS", fragments.to_string())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout);
    print!("{said}");
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert_rate(&server, "soak");
}

/// What is expected next on a pad.
struct Expected {
    track: u64,
    next: usize,
    frames: VecDeque<Bytes>,
}

impl Expected {
    fn next(&mut self) -> Bytes {
        if self.frames.is_empty() {
            let fragment = fragment(self.next);
            self.next += 1;
            let frames = fragment.frames.iter();
            let frames = frames.filter(|frame| frame.track == self.track);
            // A payload is a part of its document, of which nothing is to be kept.
            let copy = frames.map(|frame| Bytes::copy_from_slice(&frame.payload));
            self.frames.extend(copy);
        }
        self.frames.pop_front().unwrap()
    }
}

struct Checked {
    video: Expected,
    audio: Expected,
    last_pts: [gst::ClockTime; 2],
    wrong: Option<String>,
    /// From the fragment on where everything is warm, once in a while.
    samples: Vec<Usage>,
}

/// Does nothing but in the process that the test starts: plays, and watches itself.
#[test]
fn child() {
    let Ok(endpoint) = std::env::var(CHILD) else {
        return;
    };
    let fragments = fragments();
    let warm = if fragments > 1000 { WARM[1] } else { WARM[0] };
    let expected = |track| Expected {
        track,
        next: 0,
        frames: VecDeque::new(),
    };
    let checked = Arc::new(Mutex::new(Checked {
        video: expected(1),
        audio: expected(2),
        last_pts: [gst::ClockTime::ZERO; 2],
        wrong: None,
        samples: Vec::with_capacity(fragments),
    }));
    init();
    let src = gst::ElementFactory::make("kvsgetmediasrc").build().unwrap();
    let end = seconds(START_MS + 1000 * fragments as u64);
    set(
        &src,
        &[
            ("stream-name", "soak"),
            ("aws-region", kvs_local::DEFAULT_REGION),
            ("access-key", kvs_local::DEFAULT_ACCESS_KEY),
            ("secret-key", kvs_local::DEFAULT_SECRET_KEY),
            ("endpoint-url", &endpoint),
            ("start-selector", "earliest"),
            ("end-timestamp", &end),
            ("max-queue-bytes", "1000000"),
        ],
    );
    let for_frames = checked.clone();
    let run = Run::each_frame(
        &src,
        Arc::new(move |pad, frame| {
            let mut checked = for_frames.lock().unwrap();
            let is_audio = usize::from(pad == AUDIO);
            let last = std::mem::replace(&mut checked.last_pts[is_audio], frame.pts);
            let of_pad = match pad {
                AUDIO => &mut checked.audio,
                _ => &mut checked.video,
            };
            let (payload, index) = (of_pad.next(), of_pad.next);
            let begun = of_pad.frames.len() == FRAMES - 1;
            if checked.wrong.is_none() && (frame.payload != payload || frame.pts < last) {
                let pts = frame.pts;
                checked.wrong = Some(format!("{pad}: fragment {index}, {pts} after {last}"));
            }
            if is_audio == 0 && begun && index > warm && index % 25 == 0 {
                checked.samples.push(Usage::now());
            }
        }),
    );
    run.play();
    while !run.wait_for(PATIENCE, |log| log.is_eos() || log.error().is_some()) {
        let pushed = run.stats().get::<u64>("fragments").unwrap();
        println!("{pushed} fragments so far");
    }
    let stats = run.stats();
    let error = run.stop().error();
    assert!(error.is_none(), "{error:?} {stats}");
    let mut checked = checked.lock().unwrap();
    assert_eq!(checked.wrong, None, "{stats}");
    for expected in [&checked.video, &checked.audio] {
        assert!(expected.next == fragments && expected.frames.is_empty());
    }
    let number = |name| stats.get::<u64>(name).unwrap();
    assert_eq!(number("fragments"), fragments as u64);
    assert_eq!(number("gaps"), 0);
    let samples = std::mem::take(&mut checked.samples);
    let of = |value: fn(&Usage) -> usize| {
        let (least, most) = (
            samples.iter().map(value).min(),
            samples.iter().map(value).max(),
        );
        (
            value(&samples[0]),
            least.unwrap(),
            most.unwrap(),
            value(samples.last().unwrap()),
        )
    };
    let memory = of(|usage| usage.memory >> 10);
    let threads = of(|usage| usage.threads);
    let descriptors = of(|usage| usage.descriptors);
    println!(
        "{fragments} fragments, {} connections, {} retries, from fragment {warm} on (first, least, \
         most, last): memory {memory:?} KiB, threads {threads:?}, descriptors {descriptors:?}",
        number("connections"),
        number("retries"),
    );
    assert!(memory.2 <= memory.0 + (GROWTH >> 10), "memory grows");
    assert!(
        threads.2 <= threads.0 + 2 && threads.3 <= threads.0,
        "threads grow"
    );
    assert!(descriptors.2 <= descriptors.0 + 4, "descriptors grow");
}
