//! The examples as a user runs them, against real pictures and sound from a service that runs here.

mod support;

use kvs_local::{Fault, Server, Timecodes};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use support::programs::{
    PATIENCE, START_MS, in_each_language, lines, media, python, run, rust, skip, spawn,
};

/// A service with the recording in the stream "cam".
fn server() -> Option<Server> {
    let server = Server::start();
    let fragments = server
        .stream("cam")
        .load_matroska(media()?, START_MS, Timecodes::Relative);
    assert_eq!(fragments, 4);
    Some(server)
}

/// Where the stream is played from its beginning, and an end before its last fragment.
const URI: &str = "kvs://cam?start-selector=earliest&end-timestamp=1714564806";

/// An unknown stream must be told in words, by an exit code, and without a panic or a traceback.
#[track_caller]
fn assert_tells_not_found(server: &Server, command: &mut Command) {
    let output = run(server, command.arg("nosuch"));
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complained}");
    assert!(complained.contains("no stream nosuch"), "{complained}");
    assert!(
        complained.contains("ResourceNotFoundException"),
        "{complained}"
    );
    assert!(!complained.contains("Traceback"), "{complained}");
}

#[test]
fn play_decodes_picture_and_sound() {
    let Some(server) = server() else { return };
    // It plays in real time: two fragments are enough.
    let uri = URI.replace("806", "804");
    let lines = lines(&run(
        &server,
        Command::new(rust("play")).args(["--no-display", &uri]),
    ));
    for expected in ["Playing video/x-raw", "Playing audio/x-raw"] {
        assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
    }
    let of_fragments = lines.iter().filter(|l| l.starts_with("kvs-fragment, "));
    assert_eq!(of_fragments.count(), 2, "{lines:#?}");
    assert_tells_not_found(&server, &mut Command::new(rust("play")));
}

#[test]
fn fragments_are_listed_and_resumed() {
    let Some(server) = server() else { return };
    in_each_language("fragments", |command| {
        let all = lines(&run(&server, command().arg(URI)));
        assert_eq!(all.len(), 3, "{all:#?}");
        assert!(
            all[0].contains("produced=2024-05-01T12:00:00.250"),
            "{all:#?}"
        );
        assert!(
            all[1].contains("produced=2024-05-01T12:00:02.250"),
            "{all:#?}"
        );
        let token = all[0].split("token=").nth(1).unwrap();
        let token = token.split(' ').next().unwrap();
        let rest = URI.replace("start-selector=earliest&", "");
        let rest = lines(&run(&server, command().args(["--after", token, &rest])));
        let number = |line: &String| line.split(' ').nth(1).unwrap().to_owned();
        let numbers = |lines: &[String]| lines.iter().map(number).collect::<Vec<_>>();
        assert_eq!(numbers(&rest), numbers(&all[1..]));
        assert_tells_not_found(&server, &mut command());
    });
}

#[test]
fn frames_have_the_time_they_were_recorded_at() {
    let Some(server) = server() else { return };
    in_each_language("frames", |command| {
        let all = lines(&run(&server, command().arg(URI)));
        assert_eq!(all.len(), 150, "{all:#?}");
        // 25 pictures a second, over the ends of fragments.
        for (index, line) in all.iter().enumerate() {
            let ms = 250 + 40 * index;
            let time = format!("2024-05-01T12:00:{:02}.{:03}", ms / 1000, ms % 1000);
            assert!(line.starts_with(&time), "{index}: {line}");
            assert!(line.contains(" 320x180 172800 bytes"), "{line}");
        }
        let three = lines(&run(&server, command().args(["--count", "3", URI])));
        assert_eq!(three, all[..3]);
        assert_tells_not_found(&server, &mut command());
    });
}

#[test]
fn every_frame_tells_its_time_and_fragment() {
    let Some(server) = server() else { return };
    in_each_language("wallclock", |command| {
        let all = lines(&run(&server, command().arg(URI)));
        let video: Vec<Vec<_>> = all
            .iter()
            .map(|line| line.split_whitespace().collect())
            .filter(|words: &Vec<_>| words[0].starts_with("video"))
            .collect();
        assert_eq!(video.len(), 150, "{all:#?}");
        for (index, words) in video.iter().enumerate() {
            let ms = 250 + 40 * index;
            let time = format!("2024-05-01T12:00:{:02}.{:03}", ms / 1000, ms % 1000);
            assert!(words[1].starts_with(&time), "{index}: {words:?}");
            // Fragments of two seconds.
            assert_eq!(words[2], video[index / 50 * 50][2], "{index}");
        }
    });
}

#[test]
fn frames_are_noted_once_though_it_is_killed() {
    let Some(server) = server() else { return };
    let Some((python, plugins)) = python() else {
        return;
    };
    let folder = std::env::temp_dir().join(format!("kvs-once-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let once = |database: &str| {
        let mut command = Command::new(&python);
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/examples/python/once.py"
            ))
            .args(["--database", database])
            .current_dir(&folder)
            .env("GST_PLUGIN_PATH", &plugins);
        command
    };
    let noted = |database: &str| {
        let dump = "import sqlite3, sys\n\
            for row in sqlite3.connect(sys.argv[1]).execute('SELECT * FROM frames'): print(*row)";
        let mut command = Command::new(&python);
        command.args(["-c", dump, database]).current_dir(&folder);
        lines(&command.output().unwrap())
    };
    let all = lines(&run(&server, once("all.db").arg(URI)));
    assert_eq!(all.len(), 3, "{all:#?}");
    let expected = noted("all.db");
    let video = expected.iter().filter(|row| row.contains("video_0"));
    assert_eq!(video.count(), 150, "{expected:#?}");

    // It hangs in the middle of the second fragment, and is killed there.
    let first = server.stream("cam").fragments()[0].bytes as u64;
    server.fault(Fault::get_media().stall_after(first + first / 2));
    let mut child = spawn(&server, once("killed.db").arg(URI));
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), all[0]);
    child.kill().unwrap();
    child.wait().unwrap();
    let part = noted("killed.db");
    assert_eq!(part, expected[..part.len()]);
    assert!(part.len() < expected.len());
    let rest = lines(&run(&server, once("killed.db").arg(URI)));
    assert_eq!(rest, all[1..]);
    assert_eq!(noted("killed.db"), expected);
    assert_tells_not_found(&server, &mut once("none.db"));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The command of the README's section on checkpoints, with a file and a checkpoint in `folder`.
fn recorder(folder: &Path, end: &str) -> Command {
    let readme = include_str!("../README.md");
    let section = readme.split("### Starting again where it stopped").nth(1);
    let command = section.unwrap().split("gst-launch-1.0 -e ").nth(1).unwrap();
    let command = command.split("\ncat ").next().unwrap().replace("\\\n", "");
    let command = command.replace("$HOME/cam", folder.to_str().unwrap());
    let command = command.replace("aws-region=eu-west-1", &format!("end-timestamp={end}"));
    let mut launch = Command::new("gst-launch-1.0");
    launch.arg("-q").args(command.split_whitespace());
    launch
}

#[test]
fn a_recording_goes_on_where_it_stopped() {
    let Some(server) = server() else { return };
    let Some((_, plugins)) = python() else { return };
    if !Command::new("gst-launch-1.0")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return skip("there is no gst-launch-1.0");
    }
    let name = format!("kvs-recording-{}", std::process::id());
    let folder = std::env::temp_dir().join(name).join("x");
    let record = |folder: &Path, end: &str| {
        std::fs::create_dir_all(folder).unwrap();
        let mut command = recorder(folder, end);
        command.env("GST_PLUGIN_PATH", &plugins);
        command
    };
    let recorded = |folder: &Path| std::fs::read(folder.join("cam.h264")).unwrap_or_default();
    let parts = [("first", "1714564801"), ("all", "1714564806")];
    let [first, all] = parts.map(|(name, end)| {
        let folder = folder.with_file_name(name);
        lines(&run(&server, &mut record(&folder, end)));
        recorded(&folder)
    });
    assert!(all.starts_with(&first) && first.len() > 1000);

    // Stopped after a fragment; killed in the middle of the next; and to the end.
    lines(&run(&server, &mut record(&folder, "1714564801")));
    assert_eq!(recorded(&folder), first);
    let second = server.stream("cam").fragments()[1].bytes as u64;
    server.fault(Fault::get_media().stall_after(second / 2));
    let mut child = spawn(&server, &mut record(&folder, "1714564806"));
    let until = Instant::now() + PATIENCE;
    while recorded(&folder).len() <= first.len() {
        assert!(Instant::now() < until, "nothing is recorded");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let part = recorded(&folder);
    assert!(part.len() < all.len(), "{} of {}", part.len(), all.len());
    assert!(all.starts_with(&part), "{} of {}", part.len(), all.len());
    lines(&run(&server, &mut record(&folder, "1714564806")));
    // The part of the second fragment is there twice, and nothing is missing.
    assert_eq!(recorded(&folder), [&part, &all[first.len()..]].concat());
    std::fs::remove_dir_all(folder.parent().unwrap()).unwrap();
}
