//! What the tests of programs share: real pictures and sound, a service that has them, and how an
//! example is run as a user runs it.

use super::require_all;
use bytes::Bytes;
use gst::prelude::*;
use kvs_local::Server;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

/// When the recording begins, in milliseconds: 2024-05-01T12:00:00.250Z.
pub const START_MS: u64 = 1_714_564_800_250;

/// How long a program may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn skip(why: &str) {
    assert!(!require_all(), "{why}");
    println!("skipped: {why}");
}

/// Eight seconds of pictures and sound in fragments of two, as a producer sends them.
pub fn media() -> Option<&'static Bytes> {
    static MEDIA: LazyLock<Option<Bytes>> = LazyLock::new(|| {
        encode(
            "videotestsrc num-buffers=200",
            Some("audiotestsrc num-buffers=375"),
        )
    });
    known(MEDIA.as_ref())
}

/// Pictures as `source` makes them, in fragments of two seconds.
pub fn pictures(source: &str) -> Option<Bytes> {
    known(encode(source, None))
}

fn known<T>(media: Option<T>) -> Option<T> {
    if media.is_none() {
        skip("no encoder of H.264 or of sound is here");
    }
    media
}

/// `None` without an encoder.
fn encode(pictures: &str, sound: Option<&str>) -> Option<Bytes> {
    super::init();
    let exists = |name: &&str| gst::ElementFactory::find(name).is_some();
    let video = [
        "x264enc key-int-max=50 bframes=0",
        "openh264enc gop-size=50",
    ];
    let video = video
        .into_iter()
        .find(|line| exists(&line.split(' ').next().unwrap_or_default()))?;
    let audio = ["avenc_aac", "fdkaacenc", "voaacenc", "opusenc"];
    let audio = audio.into_iter().find(exists)?;
    let sound = sound.map(|source| {
        format!("{source} ! audio/x-raw,rate=48000,channels=2 ! {audio} ! queue ! mux.")
    });
    let pipeline = gst::parse::launch(&format!(
        "{pictures} ! video/x-raw,width=320,height=180,framerate=25/1 \
         ! {video} ! h264parse ! queue ! mux. {} \
         matroskamux name=mux streamable=true min-cluster-duration=1900000000 \
         ! appsink name=sink sync=false",
        sound.unwrap_or_default()
    ))
    .unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap();
    let sink = sink.downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut bytes = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().unwrap();
        bytes.extend_from_slice(&buffer.map_readable().unwrap());
    }
    pipeline.set_state(gst::State::Null).unwrap();
    Some(bytes.into())
}

/// An example of this package, as cargo has built it.
pub fn rust(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().and_then(Path::parent).unwrap();
    let path = built.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built; cargo build --examples",
        path.display()
    );
    path
}

/// Python with GStreamer, and a folder in which it finds the plugin.
pub fn python() -> Option<(OsString, PathBuf)> {
    let python = std::env::var_os("KVS_PYTHON").unwrap_or_else(|| "/usr/bin/python3".into());
    let check = Command::new(&python)
        .args(["-c", "import gi; gi.require_version('GstApp', '1.0')"])
        .output();
    if !check.is_ok_and(|output| output.status.success()) {
        skip("there is no Python with GStreamer");
        return None;
    }
    Some((python, plugins()))
}

/// A folder in which GStreamer finds the plugin.
pub fn plugins() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let plugin = tests.with_file_name("libgstkvsgetmedia.so");
    assert!(plugin.exists(), "{} is not built", plugin.display());
    // A folder of its own: GStreamer loads all that it finds.
    let folder = std::env::temp_dir().join(format!("kvs-plugin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let link = folder.join("libgstkvsgetmedia.so");
    if let Err(error) = std::os::unix::fs::symlink(&plugin, &link) {
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{error}");
    }
    folder
}

/// Puts the service where the AWS SDK finds it. What the command has set itself stays.
fn at<'a>(server: &Server, command: &'a mut Command) -> &'a mut Command {
    let set: Vec<OsString> = command.get_envs().map(|(name, _)| name.into()).collect();
    let endpoint = server.endpoint_url();
    let ours = [
        ("AWS_PROFILE", None),
        ("AWS_SESSION_TOKEN", None),
        ("AWS_DEFAULT_REGION", None),
        ("AWS_CONFIG_FILE", Some("/nonexistent")),
        ("AWS_SHARED_CREDENTIALS_FILE", Some("/nonexistent")),
        ("AWS_EC2_METADATA_DISABLED", Some("true")),
        ("AWS_ENDPOINT_URL_KINESIS_VIDEO", Some(&*endpoint)),
        ("AWS_REGION", Some(server.region())),
        ("AWS_ACCESS_KEY_ID", Some(server.access_key())),
        ("AWS_SECRET_ACCESS_KEY", Some(server.secret_key())),
    ];
    for (name, value) in ours {
        if !set.iter().any(|known| known == name) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }
    command
}

/// Starts a program, with the service where the AWS SDK finds it.
pub fn spawn(server: &Server, command: &mut Command) -> Child {
    at(server, command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a program to its end, with the service where the AWS SDK finds it.
pub fn run(server: &Server, command: &mut Command) -> Output {
    let mut child = spawn(server, command);
    let until = Instant::now() + PATIENCE;
    // What they print fits into a pipe.
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("hangs: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// What a program that must succeed prints.
#[track_caller]
pub fn lines(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    said.lines().map(str::to_owned).collect()
}

/// Runs an example in one of its languages: in Rust, and, where it is there, in Python.
pub fn in_each_language(name: &str, test: impl Fn(&dyn Fn() -> Command)) {
    test(&|| Command::new(rust(name)));
    if let Some((python, plugins)) = python() {
        let script = format!("{}/examples/python/{name}.py", env!("CARGO_MANIFEST_DIR"));
        test(&|| {
            let mut command = Command::new(&python);
            command.arg(&script).env("GST_PLUGIN_PATH", &plugins);
            command
        });
    }
}
