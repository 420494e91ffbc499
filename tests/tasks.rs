//! The tasks of README.md, done: by its commands as they stand there, and by the examples.

mod support;

use bytes::Bytes;
use gst::prelude::*;
use kvs_local::{
    Server, Timecodes, mkv,
    synth::{Synth, Synthetic, TrackSpec},
};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use support::programs::{
    PATIENCE, START_MS, in_each_language, lines, media, pictures, plugins, python, run, rust, skip,
    spawn,
};

/// The region that the commands of README.md name.
const REGION: &str = "eu-west-1";

/// A service with the recording in the stream "cam", which begins at this time, in milliseconds.
fn server(start_ms: u64) -> Option<Server> {
    let server = Server::builder().region(REGION).start();
    let cam = server.stream("cam");
    assert_eq!(
        cam.load_matroska(media()?, start_ms, Timecodes::Relative),
        4
    );
    Some(server)
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("kvs-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    /// The names in it, in order.
    fn names(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.0).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    fn read(&self, name: &str) -> Bytes {
        std::fs::read(self.0.join(name)).unwrap().into()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The command of README.md that has `part` in it, with its live stream played from `from` on.
fn readme(part: &str, from: &str) -> String {
    let text = include_str!("../README.md").replace("\\\n", " ");
    let command = text.lines().find(|line| line.contains(part));
    let command = command.unwrap_or_else(|| panic!("README.md has no command with {part}"));
    command.replace("stream-name=cam", &format!("stream-name=cam {from}"))
}

/// From the beginning to an end before the last fragment.
const ARCHIVE: &str = "start-selector=earliest end-timestamp=1714564806";
const FRAMES: usize = 150;

/// A command line in a folder, with the plugin where GStreamer finds it.
fn shell(command: &str, folder: &Folder) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {command}")]);
    shell.current_dir(&folder.0);
    shell.env("GST_PLUGIN_PATH", plugins());
    shell
}

fn has(elements: &[&str]) -> bool {
    support::init();
    let missing = |name: &&&str| gst::ElementFactory::find(name).is_none();
    match elements.iter().find(missing) {
        Some(name) => {
            skip(&format!("element {name} is not here"));
            false
        }
        None => true,
    }
}

fn has_program(name: &str) -> bool {
    let found = Command::new(name).arg("-version").output().is_ok();
    if !found {
        skip(&format!("{name} is not here"));
    }
    found
}

/// How many pictures another program than GStreamer decodes from a file or a playlist.
#[track_caller]
fn decoded(path: &Path) -> usize {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-count_frames"])
        .args(["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // A transport stream lists its stream twice: once in its program.
    let count = text
        .lines()
        .find_map(|line| line.trim_matches(',').parse().ok());
    count.unwrap_or_else(|| panic!("{}: {output:?}", path.display()))
}

#[test]
fn hls_is_a_playlist_of_segments() {
    if !has(&["hlssink2", "clocksync", "h264parse", "aacparse"]) || !has_program("ffprobe") {
        return;
    }
    let Some(server) = server(START_MS) else {
        return;
    };
    let folder = Folder::new("hls");
    lines(&run(
        &server,
        &mut shell(&readme("hlssink2", ARCHIVE), &folder),
    ));
    let playlist = folder.read("playlist.m3u8");
    let playlist = String::from_utf8_lossy(&playlist);
    let segments: Vec<_> = playlist.lines().filter(|l| l.ends_with(".ts")).collect();
    assert_eq!(segments.len(), 3, "{playlist}");
    assert!(playlist.contains("#EXT-X-ENDLIST"), "{playlist}");
    let folder_of = |name: &str| folder.0.join(name);
    assert_eq!(decoded(&folder_of("playlist.m3u8")), FRAMES);
    // One for each fragment.
    for segment in segments {
        let name = segment.rsplit('/').next().unwrap();
        assert_eq!(decoded(&folder_of(name)), 50, "{segment}");
    }
}

/// Waits until somebody listens on a port of this machine, without calling there.
fn await_listener(port: u16) {
    let address = format!("0100007F:{port:04X} 00000000:0000 0A");
    let until = Instant::now() + PATIENCE;
    while !std::fs::read_to_string("/proc/net/tcp")
        .unwrap()
        .contains(&address)
    {
        assert!(Instant::now() < until, "nobody listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn rtmp_arrives_at_a_server() {
    if !has(&["rtmp2sink", "flvmux", "clocksync", "h264parse", "aacparse"])
        || !has_program("ffmpeg")
    {
        return;
    }
    let Some(server) = server(START_MS) else {
        return;
    };
    let folder = Folder::new("rtmp");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let url = format!("rtmp://127.0.0.1:{port}/live/cam");
    let mut listener = Command::new("ffmpeg")
        .args(["-v", "error", "-listen", "1", "-f", "flv", "-i", &url])
        .args(["-c", "copy", "arrived.mkv"])
        .current_dir(&folder.0)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    await_listener(port);
    let command = readme("rtmp2sink", ARCHIVE).replace("rtmp://localhost/live/cam", &url);
    assert!(command.contains(&url), "{command}");
    lines(&run(&server, &mut shell(&command, &folder)));
    assert!(listener.wait().unwrap().success());
    assert_eq!(decoded(&folder.0.join("arrived.mkv")), FRAMES);
}

#[test]
fn files_are_cut_on_the_hour() {
    if !has(&["splitmuxsink", "matroskamux"]) {
        return;
    }
    // Two fragments of 2 s before the hour, a keyframe 250 ms after it.
    let hour_ms = 3_600_000;
    let Some(server) = server(START_MS + hour_ms - 4000) else {
        return;
    };
    in_each_language("hourly", |command| {
        let folder = Folder::new("hourly");
        let uri = "kvs://cam?start-selector=earliest&end-timestamp=1714568402";
        let said = lines(&run(&server, command().arg(uri).arg(&folder.0)));
        let names = ["20240501T125956Z.mkv", "20240501T130000Z.mkv"];
        assert_eq!(folder.names(), names);
        let paths = names.map(|name| folder.0.join(name).to_string_lossy().into_owned());
        assert_eq!(said, paths);
        for (name, frames) in names.into_iter().zip([100, 50]) {
            let reading = mkv::read(&folder.read(name));
            let tracks = reading.documents.iter().flat_map(|d| &d.tracks);
            let video: Vec<_> = tracks.filter(|t| t.codec_id.starts_with("V_")).collect();
            assert_eq!(video.len(), 1, "{name}");
            let of_video = reading.frames().filter(|f| f.track == video[0].number);
            assert_eq!(of_video.count(), frames, "{name}");
            // The sound beside it.
            let sound = reading.frames().filter(|f| f.track != video[0].number);
            assert!(sound.count() > frames, "{name}");
        }
    });
}

/// A service whose stream "cam" has these pictures, 25 a second.
fn showing(source: &str) -> Option<Server> {
    let media = pictures(source)?;
    let server = Server::start();
    let cam = server.stream("cam");
    cam.load_matroska(&media, START_MS, Timecodes::Relative);
    Some(server)
}

/// The same as [`ARCHIVE`] in a URI.
const ALL: &str = "kvs://cam?start-selector=earliest&end-timestamp=1714564806";

/// A script, and whether it can run here.
fn script(name: &str) -> Option<Command> {
    let (python, plugins) = python()?;
    let numpy = Command::new(&python).args(["-c", "import numpy"]).output();
    if !numpy.is_ok_and(|output| output.status.success()) {
        skip("there is no Python with NumPy");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(format!(
        "{}/examples/python/{name}.py",
        env!("CARGO_MANIFEST_DIR")
    ));
    command.env("GST_PLUGIN_PATH", plugins);
    Some(command)
}

#[test]
fn numpy_has_pictures_with_their_time() {
    let Some(server) = showing("videotestsrc pattern=red num-buffers=200") else {
        return;
    };
    let Some(mut command) = script("numpy_frames") else {
        return;
    };
    let all = lines(&run(&server, command.arg(ALL)));
    assert_eq!(all.len(), FRAMES, "{all:#?}");
    for (index, line) in all.iter().enumerate() {
        let ms = 250 + 40 * index;
        let time = format!("2024-05-01T12:00:{:02}.{:03}+00:00 ", ms / 1000, ms % 1000);
        assert!(line.starts_with(&time), "{index}: {line}");
        assert!(line.contains(" (180, 320, 3) "), "{line}");
        let of = |colour: &str| -> f64 {
            let rest = line.split(&format!("{colour}=")).nth(1).unwrap();
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        assert!(
            of("red") > 230.0 && of("green") < 25.0 && of("blue") < 25.0,
            "{line}"
        );
    }
}

/// The colour of a picture's middle, in red, green and blue.
fn middle_of_png(path: &Path) -> [u8; 3] {
    let text = format!(
        "filesrc location={} ! pngdec ! videoconvert ! video/x-raw,format=RGB ! appsink name=sink",
        path.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap();
    let sink = sink.downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let sample = sink.pull_sample().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    let caps = sample.caps().unwrap().structure(0).unwrap();
    let (width, height) = (
        caps.get::<i32>("width").unwrap(),
        caps.get::<i32>("height").unwrap(),
    );
    let pixels = sample.buffer().unwrap().map_readable().unwrap();
    colour(
        &pixels,
        width as usize,
        width as usize / 2,
        height as usize / 2,
    )
}

/// A point of a picture whose rows are not filled up.
fn colour(pixels: &[u8], width: usize, x: usize, y: usize) -> [u8; 3] {
    let at = 3 * (y * width + x);
    [pixels[at], pixels[at + 1], pixels[at + 2]]
}

#[test]
fn what_moves_is_saved_under_its_time() {
    if !has(&["concat", "pngenc", "pngdec"]) {
        return;
    }
    // Black for 2.52 s, then white: one change, at 12:00:02.770.
    let source = "videotestsrc pattern=black num-buffers=63 ! turn. \
                  videotestsrc pattern=white num-buffers=137 ! turn. concat name=turn";
    let Some(server) = showing(source) else {
        return;
    };
    let Some(mut command) = script("motion") else {
        return;
    };
    let folder = Folder::new("motion");
    let said = lines(&run(&server, command.arg(ALL).arg(&folder.0)));
    assert_eq!(said, ["20240501T120002.770Z.png 100% of the picture"]);
    assert_eq!(folder.names(), ["20240501T120002.770Z.png"]);
    let middle = middle_of_png(&folder.0.join(&folder.names()[0]));
    assert!(middle.iter().all(|&part| part > 230), "{middle:?}");
}

#[test]
fn what_goes_on_moving_is_saved_every_second() {
    if !has(&["pngenc", "pngdec"]) {
        return;
    }
    let Some(server) = showing("videotestsrc pattern=ball num-buffers=200") else {
        return;
    };
    let Some(mut command) = script("motion") else {
        return;
    };
    let folder = Folder::new("moving");
    command.args(["--area", "0.001", "--pause", "2"]);
    let said = lines(&run(&server, command.arg(ALL).arg(&folder.0)));
    assert_eq!(said.len(), 3, "{said:#?}");
    assert_eq!(folder.names().len(), 3);
    assert_eq!(folder.names()[0], "20240501T120000.290Z.png");
}

/// A call of so many fragments of 2 s, in pieces of 100 ms, and one more. The tracks are in another
/// order than those who look at names expect.
fn call(fragments: usize) -> Synthetic {
    let tracks = [
        TrackSpec::connect(1, "AUDIO_TO_CUSTOMER"),
        TrackSpec::connect(2, "AUDIO_FROM_CUSTOMER"),
    ];
    Synth::new()
        .tracks(tracks)
        .fragments(fragments + 1)
        .frames(20)
        .payload(1600, 1600)
        .start_ms(START_MS)
        .server_start_ms(START_MS)
        .tags_after(&[("MimeType", "audio/L16;rate=8000;channels=1")])
        .build()
}

/// The sound of a track, without the last fragment.
fn pcm(call: &Synthetic, track: u64) -> Vec<u8> {
    let fragments = &call.fragments[..call.fragments.len() - 1];
    let frames = fragments.iter().flat_map(|fragment| &fragment.frames);
    let frames = frames.filter(|frame| frame.track == track);
    frames.flat_map(|frame| frame.payload.to_vec()).collect()
}

#[test]
fn a_call_is_a_stereo_file_with_the_customer_left() {
    if !has(&["audiointerleave", "wavenc"]) {
        return;
    }
    let call = call(3);
    let server = Server::start();
    call.push_to(&server.stream("cam"));
    let folder = Folder::new("call");
    let file = folder.0.join("call.wav");
    let mut command = Command::new(rust("call_wav"));
    let said = lines(&run(&server, command.arg(ALL).arg(&file)));
    assert_eq!(said.len(), 2, "{said:?}");

    let wave = folder.read("call.wav");
    // The chunk "fmt ": PCM, 2 channels, 8000 samples a second.
    let format = wave.windows(4).position(|bytes| bytes == b"fmt ").unwrap() + 8;
    assert_eq!(wave[format..format + 8], [1, 0, 2, 0, 0x40, 0x1F, 0, 0]);
    let data = wave.windows(4).position(|bytes| bytes == b"data").unwrap() + 8;
    let channel = |n: usize| -> Vec<u8> {
        let samples = wave[data..].chunks_exact(4);
        samples
            .flat_map(|both| [both[2 * n], both[2 * n + 1]])
            .collect()
    };
    assert!(channel(0) == pcm(&call, 2), "the customer is left");
    assert!(channel(1) == pcm(&call, 1), "the agent is right");
}

#[test]
fn a_stream_that_is_no_call_is_refused() {
    if !has(&["audiointerleave", "wavenc"]) {
        return;
    }
    let server = Server::start();
    let media = Synth::new().start_ms(START_MS).fragments(4).build();
    media.push_to(&server.stream("cam"));
    let folder = Folder::new("nocall");
    let mut command = Command::new(rust("call_wav"));
    let output = run(&server, command.arg(ALL).arg(folder.0.join("call.wav")));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("2 tracks"), "{said}");
}

#[test]
fn speech_comes_in_chunks_of_100_ms() {
    if !has(&["audiobuffersplit"]) {
        return;
    }
    let server = Server::start();
    call(3).push_to(&server.stream("cam"));
    let (Some(mut both), Some(mut one)) = (script("speech"), script("speech")) else {
        return;
    };
    let all = lines(&run(&server, both.arg(ALL)));
    let customer = lines(&run(
        &server,
        one.args(["--track", "AUDIO_FROM_CUSTOMER", ALL]),
    ));
    assert_eq!(all.len(), 2 * customer.len());
    // 6 s, but for what resampling keeps back at the end.
    assert!((59..=60).contains(&customer.len()), "{customer:#?}");
    for (index, line) in customer.iter().enumerate() {
        let ms = 250 + 100 * index;
        let expected = format!(
            "2024-05-01T12:00:{:02}.{:03}+00:00 AUDIO_FROM_CUSTOMER ",
            ms / 1000,
            ms % 1000
        );
        assert!(line.starts_with(&expected), "{index}: {line}");
        // The last may be shorter.
        assert!(line.contains(" 3200 bytes ") || index == 59, "{line}");
    }
}

#[test]
fn twenty_cameras_are_a_mosaic_though_one_fails() {
    if !has(&["compositor"]) {
        return;
    }
    let server = Server::start();
    let colours = [
        ("red", [255, 0, 0]),
        ("green", [0, 255, 0]),
        ("blue", [0, 0, 255]),
        ("white", [255, 255, 255]),
    ];
    let mut media = Vec::new();
    for (name, _) in colours {
        let source = format!("videotestsrc pattern={name} num-buffers=200");
        let Some(pictures) = pictures(&source) else {
            return;
        };
        media.push(pictures);
    }
    // Five columns and four rows, and of one place the stream is not there.
    let folder = Folder::new("mosaic");
    let mut command = Command::new(rust("mosaic"));
    command.args(["--size", "500x400"]);
    command.args([
        "--sink",
        "video/x-raw,format=RGB ! filesink location=mosaic.rgb",
    ]);
    let missing = 7;
    for place in 0..20 {
        let name = format!("cam-{place}");
        if place != missing {
            let stream = server.stream(&name);
            let media = &media[place % colours.len()];
            stream.load_matroska(media, START_MS, Timecodes::Relative);
        }
        command.arg(ALL.replace("cam", &name));
    }
    let output = run(&server, command.current_dir(&folder.0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no stream cam-7 in region"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    lines(&output);

    let pixels = folder.read("mosaic.rgb");
    let size = 3 * 500 * 400;
    assert_eq!(pixels.len() % size, 0);
    assert_eq!(pixels.len() / size, FRAMES);
    let last = &pixels[pixels.len() - size..];
    for place in 0..20 {
        let (x, y) = (100 * (place % 5) + 50, 100 * (place / 5) + 50);
        let expected = match place == missing {
            true => [0, 0, 0],
            false => colours[place % colours.len()].1,
        };
        let found = colour(last, 500, x, y);
        let mut parts = expected.iter().zip(found);
        let near = parts.all(|(e, f): (&u8, u8)| e.abs_diff(f) < 25);
        assert!(near, "{found:?} at place {place} is not {expected:?}");
    }
}

#[test]
fn a_stream_that_is_not_there_is_told_in_words() {
    let Some(server) = server(START_MS) else {
        return;
    };
    let folder = Folder::new("nosuch");
    let mut commands = vec![Command::new(rust("hourly")), Command::new(rust("call_wav"))];
    commands.extend(
        ["hourly", "motion", "numpy_frames", "speech"]
            .into_iter()
            .filter_map(script),
    );
    for (number, mut command) in commands.into_iter().enumerate() {
        command.arg("kvs://nosuch");
        let program = format!("{command:?}");
        // Two of them have nothing to write.
        if !program.contains("numpy") && !program.contains("speech") {
            command.arg(folder.0.join(number.to_string()));
        }
        let output = run(&server, &mut command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{program}: {said}");
        assert!(said.contains("no stream nosuch"), "{program}: {said}");
        assert!(
            said.contains("ResourceNotFoundException"),
            "{program}: {said}"
        );
        assert!(!said.contains("Traceback"), "{program}: {said}");
    }
}

#[test]
fn ctrl_c_completes_the_last_file() {
    if !has(&["splitmuxsink", "matroskamux"]) {
        return;
    }
    let Some(server) = server(START_MS) else {
        return;
    };
    in_each_language("hourly", |command| {
        let folder = Folder::new("interrupted");
        // Without an end: it waits for more.
        let mut command = command();
        command
            .arg("kvs://cam?start-selector=earliest")
            .arg(&folder.0);
        let mut child = spawn(&server, &mut command);
        let file = folder.0.join("20240501T120000Z.mkv");
        let until = Instant::now() + PATIENCE;
        while std::fs::metadata(&file).map_or(0, |data| data.len()) < 1000 {
            assert!(Instant::now() < until, "{:?}", folder.names());
            assert!(child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(20));
        }
        let id = child.id().to_string();
        let killed = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(killed.success());
        let said = lines(&child.wait_with_output().unwrap());
        assert_eq!(said, [file.to_string_lossy()]);
        assert!(!mkv::read(&folder.read("20240501T120000Z.mkv")).is_truncated());
    });
}
