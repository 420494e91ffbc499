//! A live test pattern, made by a GStreamer pipeline in a process of its own.

use std::process::{Child, Command, Stdio};

use super::Error;

/// Encoders of H.264, best first, with what makes them send a keyframe every 2 s (at 25 frames a
/// second) and no B-frames.
const VIDEO: [(&str, &str); 4] = [
    (
        "x264enc",
        "x264enc key-int-max=50 bframes=0 speed-preset=veryfast tune=zerolatency bitrate=800 \
         option-string=scenecut=0",
    ),
    ("openh264enc", "openh264enc gop-size=50 bitrate=800000"),
    (
        "vah264enc",
        "vah264enc key-int-max=50 b-frames=0 bitrate=800",
    ),
    ("nvh264enc", "nvh264enc gop-size=50 bframes=0 bitrate=800"),
];

/// Encoders of sound, best first.
const AUDIO: [(&str, &str); 4] = [
    ("avenc_aac", "avenc_aac ! aacparse"),
    ("fdkaacenc", "fdkaacenc ! aacparse"),
    ("voaacenc", "voaacenc ! aacparse"),
    ("opusenc", "opusenc ! opusparse"),
];

/// Starts the pattern; its standard output is Matroska, a Cluster every 2 s.
pub(crate) fn spawn() -> Result<Child, Error> {
    for needed in ["clockoverlay", "h264parse", "matroskamux"] {
        if !exists(needed)? {
            return Err(format!(
                "the test pattern needs GStreamer's element {needed}, which isn't installed \
                 (Debian and Ubuntu: gstreamer1.0-x, -plugins-good and -plugins-bad)"
            )
            .into());
        }
    }
    let video = choose(&VIDEO)?.ok_or(
        "the test pattern needs an H.264 encoder, and none of x264enc, openh264enc, vah264enc, \
         nvh264enc is installed (Debian and Ubuntu: gstreamer1.0-plugins-ugly)",
    )?;
    let audio = choose(&AUDIO)?;
    let mut line = format!(
        "matroskamux name=mux streamable=true min-cluster-duration=1900000000 ! fdsink fd=1 \
         videotestsrc is-live=true pattern=smpte ! video/x-raw,width=640,height=360,framerate=25/1 \
         ! timeoverlay halignment=left valignment=bottom font-desc=\"Sans,24\" \
         ! clockoverlay halignment=right valignment=top font-desc=\"Sans,32\" \
         time-format=\"%F\\ %T\" ! videoconvert ! video/x-raw,format=I420 ! {video} ! h264parse \
         ! video/x-h264,stream-format=avc,alignment=au ! queue ! mux."
    );
    if let Some(audio) = audio {
        line.push_str(&format!(
            " audiotestsrc is-live=true wave=ticks volume=0.3 ! audio/x-raw,rate=48000,channels=2 \
             ! audioconvert ! {audio} ! queue ! mux."
        ));
    } else {
        eprintln!("kvs-local: no encoder of sound is installed, so the test pattern is silent");
    }
    let child = Command::new("gst-launch-1.0")
        .arg("--quiet")
        .args(words(&line))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(missing_tools)?;
    Ok(child)
}

/// Words as a shell would have them, as far as the lines above need it.
fn words(line: &str) -> impl Iterator<Item = String> {
    line.split_whitespace()
        .fold(Vec::<String>::new(), |mut words, word| {
            match words.last_mut() {
                Some(last) if last.ends_with('\\') => {
                    last.push(' ');
                    last.push_str(word);
                }
                _ => words.push(word.to_owned()),
            }
            words
        })
        .into_iter()
}

fn choose(encoders: &[(&str, &'static str)]) -> Result<Option<&'static str>, Error> {
    for (element, line) in encoders {
        if exists(element)? {
            return Ok(Some(line));
        }
    }
    Ok(None)
}

fn exists(element: &str) -> Result<bool, Error> {
    let status = Command::new("gst-inspect-1.0")
        .args(["--exists", element])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(missing_tools)?;
    Ok(status.success())
}

fn missing_tools(error: std::io::Error) -> Error {
    format!(
        "the test pattern needs gst-launch-1.0 and gst-inspect-1.0 ({error}; Debian and Ubuntu: \
         gstreamer1.0-tools)"
    )
    .into()
}
