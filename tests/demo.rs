//! `examples/demo.sh` as a user runs it: what it says, what is in the files that it leaves, and that
//! it leaves nothing else.

mod support;

use gst::prelude::*;
use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use support::require_all;

/// The test pattern.
const SIZE: (i32, i32) = (640, 360);
const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// Whether the elements are there that the demonstration needs; says so if they are not. Without
/// this check it would install them, in the middle of a test.
fn can_run() -> bool {
    support::init();
    let exists = |name: &str| gst::ElementFactory::find(name).is_some();
    let missing = [
        &["x264enc", "openh264enc", "vah264enc", "nvh264enc"][..],
        &["avenc_aac", "fdkaacenc", "voaacenc", "opusenc"],
        &["avdec_h264", "openh264dec"],
        &["clockoverlay"],
        &["h264parse"],
        &["matroskamux"],
        &["pngenc"],
    ]
    .into_iter()
    .find(|names| !names.iter().any(|name| exists(name)));
    if let Some(names) = missing {
        assert!(!require_all(), "none of the elements {names:?} is here");
        println!("skipped: none of the elements {names:?} is here");
    }
    missing.is_none()
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("kvs-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts the demonstration as the leader of a process group.
fn start(out: &Path) -> Child {
    let mut command = Command::new("examples/demo.sh");
    // What cargo says to tests would have it build again much of what is built.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_test = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_CRATE_",
            "CARGO_BIN_",
        ];
        if text == "OUT_DIR" || of_test.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
        .arg(out)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap()
}

fn signal(what: &str, group: u32) -> bool {
    Command::new("kill")
        .args([what, "--", &format!("-{group}")])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// Fails unless every process of the group ends.
fn assert_gone(group: u32) {
    let until = Instant::now() + Duration::from_secs(20);
    while signal("-0", group) {
        if Instant::now() > until {
            signal("-KILL", group);
            panic!("the demonstration left processes behind");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn pull(pipeline: &gst::Pipeline, sink: &str) -> Option<gst::Sample> {
    let sink = pipeline.by_name(sink).unwrap();
    sink.downcast::<gst_app::AppSink>()
        .unwrap()
        .try_pull_sample(gst::ClockTime::from_seconds(30))
}

fn launch(description: &str) -> gst::Pipeline {
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    pipeline
}

/// How many colours a picture in RGB has, in steps of 32.
fn colours(sample: &gst::Sample) -> usize {
    let caps = sample.caps().unwrap().structure(0).unwrap();
    let size = (caps.get("width").unwrap(), caps.get("height").unwrap());
    assert_eq!(size, SIZE);
    let map = sample.buffer().unwrap().map_readable().unwrap();
    let coarse = |pixel: &[u8]| [pixel[0] >> 5, pixel[1] >> 5, pixel[2] >> 5];
    let distinct: HashSet<_> = map.chunks_exact(3).map(coarse).collect();
    distinct.len()
}

fn check_recording(file: &Path) {
    let pipeline = launch(&format!(
        "filesrc location={} ! matroskademux name=demux \
         demux.video_0 ! queue ! decodebin ! videoconvert ! video/x-raw,format=RGB \
         ! appsink name=video sync=false max-buffers=4 \
         demux.audio_0 ! queue max-size-time=0 ! appsink name=audio sync=false",
        file.display()
    ));
    let mut times = Vec::<gst::ClockTime>::new();
    while let Some(sample) = pull(&pipeline, "video") {
        assert!(colours(&sample) > 7);
        times.push(sample.buffer().unwrap().pts().unwrap());
    }
    let mut sound = 0.0;
    while let Some(sample) = pull(&pipeline, "audio") {
        sound = sample.buffer().unwrap().pts().unwrap().seconds_f64();
    }
    let duration: gst::ClockTime = pipeline.query_duration().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    let error = pipeline
        .bus()
        .unwrap()
        .pop_filtered(&[gst::MessageType::Error]);
    assert!(error.is_none(), "{error:?}");

    // Twelve seconds are asked for; they begin in the middle of a fragment of two.
    let seconds = duration.seconds_f64();
    assert!((8.0..=16.0).contains(&seconds), "{seconds} s long");
    assert!(times[0] < FRAME, "{:?}", times[0]);
    assert!(
        (times.len() as f64 - seconds * 25.0).abs() < 3.0,
        "{} frames in {seconds} s",
        times.len()
    );
    for pair in times.windows(2) {
        let apart = pair[1].checked_sub(pair[0]).unwrap();
        assert!(
            apart.absdiff(FRAME) <= gst::ClockTime::from_mseconds(2),
            "{pair:?}"
        );
    }
    assert!(
        (seconds - sound).abs() < 0.5,
        "{sound} s of sound in {seconds} s"
    );
}

fn check_picture(file: &Path) {
    let pipeline = launch(&format!(
        "filesrc location={} ! pngdec ! videoconvert ! video/x-raw,format=RGB ! appsink name=picture",
        file.display()
    ));
    let sample = pull(&pipeline, "picture").expect("a picture");
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(colours(&sample) > 7, "{} colours", colours(&sample));
}

#[test]
fn demo_leaves_a_recording_and_a_picture() {
    if !can_run() {
        return;
    }
    let folder = Folder::new("demo");
    let child = start(&folder.0);
    let group = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert_gone(group);
    let fragments = said.matches("\n  fragment …").count();
    assert!((4..=8).contains(&fragments), "{said}");
    let mut left: Vec<_> = std::fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    left.sort();
    assert_eq!(left, ["demo.mkv", "demo.png"].map(|n| folder.0.join(n)));
    for file in &left {
        assert!(said.contains(file.to_str().unwrap()), "{said}");
    }
    check_recording(&left[0]);
    check_picture(&left[1]);
}

#[test]
fn demo_cleans_up_when_interrupted() {
    if !can_run() {
        return;
    }
    let folder = Folder::new("demo-interrupted");
    let mut child = start(&folder.0);
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let playing = said.find(|line| line.as_ref().unwrap().contains("Receiving demo"));
    assert!(playing.is_some());
    // As Ctrl-C does.
    assert!(signal("-INT", child.id()));
    said.for_each(drop);
    assert!(!child.wait().unwrap().success());
    assert_gone(child.id());
}
