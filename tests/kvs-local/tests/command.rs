//! The command: what it prints, what it serves, how it ends.

#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Client, PATIENCE};
use kvs_local::synth::Synth;
use kvs_local::{DEFAULT_ACCESS_KEY, DEFAULT_REGION, DEFAULT_SECRET_KEY, mkv};
use serde_json::json;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-local"));
    command.args(args);
    command
}

/// A service that runs, and what it said when it was ready.
struct Running(Child, String);

impl Running {
    fn start(args: &[&str]) -> Running {
        let mut child = command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        Running(child, line)
    }

    fn value(&self, name: &str) -> &str {
        let words = self.1.split_whitespace();
        let mut values = words.filter_map(|word| word.split_once('='));
        values.find(|(key, _)| *key == name).unwrap().1
    }

    fn client(&self) -> Client {
        Client {
            address: self.value("endpoint").replace("http://", ""),
            access: self.value("access-key").to_owned(),
            secret: self.value("secret-key").to_owned(),
            token: None,
            region: self.value("region").to_owned(),
            service: "kinesisvideo".to_owned(),
            time: std::time::SystemTime::now(),
        }
    }

    fn stop(mut self, signal: &str) {
        let kill = Command::new("kill")
            .arg(signal)
            .arg(self.0.id().to_string())
            .status();
        assert!(kill.unwrap().success());
        let begun = Instant::now();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
        assert!(begun.elapsed() < Duration::from_secs(3));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn refused(args: &[&str]) -> String {
    let output = command(args).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn help_version_and_mistakes() {
    let help = command(&["--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in [
        "--stream NAME=pattern",
        "--endpoint-file",
        "--region",
        "127.0.0.1:0",
    ] {
        assert!(help.contains(word), "{word}");
    }
    assert!(help.lines().all(|line| line.len() <= 100));
    let version = command(&["-V"]).output().unwrap();
    assert!(version.stdout.starts_with(b"kvs-local 0."));

    assert!(refused(&["--stream", "x=/no/such/file.mkv"]).contains("/no/such/file.mkv"));
    assert!(refused(&["--stream", "x=Cargo.toml"]).contains("not a Matroska file"));
    assert!(refused(&["--listen", "203.0.113.1:1"]).contains("203.0.113.1:1"));
    assert!(refused(&["--nonsense"]).contains("--help"));
}

/// The producer's times in the tags of documents, in milliseconds.
fn times(reading: &mkv::Reading) -> impl Iterator<Item = u64> {
    reading.documents.iter().map(|document| {
        let seconds = document.aws_tag("PRODUCER_TIMESTAMP").unwrap();
        seconds.replace('.', "").parse().unwrap()
    })
}

#[test]
fn files_and_standard_input_become_streams() {
    let media = Synth::new().fragments(4).build();
    let folder = std::env::temp_dir().join(format!("kvs-local-command-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let recording = folder.join("recording.mkv");
    let produced = folder.join("produced.mkv");
    let endpoint = folder.join("endpoint");
    std::fs::write(&recording, media.recording()).unwrap();
    std::fs::write(&produced, media.producer_body()).unwrap();
    let mut running = Running::start(&[
        "--region",
        "eu-west-1",
        &format!("--stream=recording={}", recording.display()),
        &format!("--stream=produced={}", produced.display()),
        "--stream=typed=-",
        "--endpoint-file",
        &endpoint.display().to_string(),
    ]);
    assert_eq!(running.value("region"), "eu-west-1");
    assert_eq!(running.value("access-key"), DEFAULT_ACCESS_KEY);
    assert_eq!(running.value("secret-key"), DEFAULT_SECRET_KEY);
    let url = std::fs::read_to_string(&endpoint).unwrap();
    assert_eq!(url.trim(), running.value("endpoint"));
    let client = running.client();
    assert_ne!(client.region, DEFAULT_REGION);

    // Timecodes that count from the epoch are times as they are.
    let made = || media.fragments.iter().map(|f| f.producer_timestamp_ms);
    let whole = media.recording();
    assert!(client.earliest("recording").take(whole.len()) == whole);
    let now = json!({ "StartSelectorType": "NOW" });
    let (body, _) = client
        .get_media("produced", &now)
        .body(usize::MAX, Duration::from_millis(200));
    let reading = mkv::read(&body.into());
    assert!(reading.frames().eq(&media.fragments[3].frames));
    assert!(times(&reading).eq(made().skip(3)));

    let mut input = running.0.stdin.take().unwrap();
    let mut answer = client.earliest("typed");
    input.write_all(&media.producer_body()).unwrap();
    drop(input);
    let mut body = Vec::new();
    while mkv::read(&body.clone().into()).frames().count() < media.frames().len() {
        let (more, end) = answer.body(1, PATIENCE);
        assert_eq!(end, None);
        body.extend(more);
    }
    let reading = mkv::read(&body.into());
    assert!(reading.frames().eq(&media.frames()));
    assert!(times(&reading).eq(made()));
    std::fs::remove_dir_all(&folder).unwrap();
    running.stop("-TERM");
}

#[test]
fn the_pattern_is_live() {
    let exists = |element: &str| {
        let inspect = Command::new("gst-inspect-1.0")
            .args(["--exists", element])
            .status();
        inspect.is_ok_and(|status| status.success())
    };
    if !(exists("x264enc") || exists("openh264enc")) || !exists("matroskamux") {
        println!("skipped: no GStreamer with an H.264 encoder and matroskamux");
        return;
    }
    let running = Running::start(&["--stream", "cam=pattern"]);
    let client = running.client();
    let mut answer = client.earliest("cam");
    let mut body = Vec::new();
    while mkv::read(&body.clone().into()).documents.len() < 3 {
        let (more, end) = answer.body(1, Duration::from_secs(30));
        assert_eq!(end, None);
        body.extend(more);
    }
    let reading = mkv::read(&body.into());
    let first = &reading.documents[0];
    assert_eq!(first.tracks[0].codec_id, "V_MPEG4/ISO/AVC");
    let video = first.tracks[0].number;
    let of_video = first.frames.iter().find(|frame| frame.track == video);
    assert!(of_video.unwrap().keyframe);
    let time = |document: &mkv::Document| -> f64 {
        document
            .aws_tag("PRODUCER_TIMESTAMP")
            .unwrap()
            .parse()
            .unwrap()
    };
    let distance = time(&reading.documents[1]) - time(first);
    assert!((1.5..2.5).contains(&distance), "{distance} s a fragment");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!((now.as_secs_f64() - time(first)).abs() < 60.0);

    let pattern = child_of(running.0.id());
    running.stop("-INT");
    if let Some(pattern) = pattern {
        let still = std::path::Path::new("/proc").join(pattern).exists();
        assert!(!still, "the pattern's pipeline outlived the command");
    }
}

/// The first child of a process, where /proc tells.
fn child_of(parent: u32) -> Option<String> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    ids.find(|id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // pid (name) state parent
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().nth(1) == Some(&parent.to_string())
    })
}

#[test]
fn a_port_in_use_is_named() {
    let running = Running::start(&[]);
    let address = running.value("endpoint").replace("http://", "");
    let mut child = command(&["--listen", &address])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut error = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut error)
        .unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(error.contains(&address), "{error}");
}
