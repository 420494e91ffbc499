//! `examples/kvstop` as a user runs it: what it counts, what it draws, and what it says is wrong.

mod support;

use kvs_local::{Fault, Server, synth::Synth};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    process::{Command, Output},
};
use support::{
    get_media,
    programs::{lines, run, rust, skip, spawn},
};

/// An hour after it, the second half of the recording begins.
const HOUR_MS: u64 = 3_600_000;
const START_MS: u64 = 1_700_000_000_000;

/// A stream "cam" of two times three fragments of 2 s and 10 frames, with an hour between; what is
/// asked for as [`CAM`] ends with the fifth.
fn server() -> Server {
    // Each connection ends after two.
    let server = Server::builder().rotate_after_fragments(2).start();
    let media = Synth::new()
        .fragments(6)
        .start_ms(START_MS)
        .server_start_ms(START_MS + 350)
        .from_fragment(3, |fragment| {
            // They are 6 s further on by themselves.
            fragment.producer_timestamp_ms += HOUR_MS - 6000;
            fragment.server_timestamp_ms += HOUR_MS - 6000;
            fragment.timecode_ms += HOUR_MS - 6000;
        })
        .build();
    media.push_to(&server.stream("cam"));
    server
}

const CAM: &str = "kvs://cam?start-selector=earliest&end-timestamp=1700003604";

fn kvstop(arguments: &[&str]) -> Command {
    let mut command = Command::new(rust("kvstop"));
    command.args(arguments);
    command
}

/// What it prints as JSON lines, of the given event and stream.
fn events<'a>(lines: &'a [Value], event: &str, stream: &str) -> Vec<&'a Value> {
    let matches = |line: &&Value| line["event"] == event && line["stream"] == stream;
    lines.iter().filter(matches).collect()
}

fn json(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

#[test]
fn json_lines_count_what_came() {
    let server = server();
    let output = run(&server, &mut kvstop(&["--json", CAM, "nosuch"]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = json(&output);

    let fragments = events(&lines, "kvs-fragment", "cam");
    assert_eq!(fragments.len(), 5, "{lines:#?}");
    for (index, fragment) in fragments.iter().enumerate() {
        let start = START_MS + 2000 * (index as u64 % 3) + HOUR_MS * (index as u64 / 3);
        assert_eq!(fragment["producer-timestamp"], start * 1_000_000);
        assert_eq!(fragment["frames"], 10);
        assert_eq!(fragment["millis-behind-now"], 500);
        let time = fragment["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
    }
    let reconnects = events(&lines, "kvs-reconnect", "cam");
    assert_eq!(reconnects.len() + 1, get_media(&server).len());
    assert_eq!(reconnects[0]["reason"], "rotated");
    let gaps = events(&lines, "kvs-gap", "cam");
    assert_eq!(gaps.len(), 1, "{lines:#?}");
    assert_eq!(gaps[0]["kind"], "hole");
    assert_eq!(events(&lines, "eos", "cam").len(), 1);

    let stats = *events(&lines, "stats", "cam").last().unwrap();
    assert_eq!(stats["fragments"], 5);
    assert_eq!(stats["frames"], 50);
    assert_eq!(stats["gaps"], 1);
    assert_eq!(stats["reconnects"], reconnects.len());
    assert_eq!(stats["connections"], get_media(&server).len());
    let received = stats["bytes-received"].as_u64().unwrap();
    let fragments = fragments.iter().map(|f| f["bytes"].as_u64().unwrap());
    assert!(received >= fragments.sum::<u64>(), "{stats}");

    let error = events(&lines, "error", "nosuch");
    assert_eq!(error.len(), 1, "{lines:#?}");
    assert_eq!(error[0]["operation"], "GetDataEndpoint");
    assert_eq!(error[0]["error-code"], "ResourceNotFoundException");
    assert_eq!(error[0]["http-status"], 404);
    assert_eq!(error[0]["retryable"], false);
    let message = error[0]["message"].as_str().unwrap();
    assert!(message.contains("no stream nosuch"), "{message}");
    let stats = *events(&lines, "stats", "nosuch").last().unwrap();
    assert_eq!(stats["fragments"], 0);
}

#[test]
fn without_a_terminal_there_are_json_lines() {
    let server = server();
    let output = run(&server, &mut kvstop(&[CAM]));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(events(&json(&output), "kvs-fragment", "cam").len(), 5);
}

#[test]
fn ctrl_c_ends_it_with_the_last_counts() {
    let server = server();
    // Without an end: it waits for more.
    let mut command = kvstop(&["--json", "kvs://cam?start-selector=earliest"]);
    let mut child = spawn(&server, &mut command);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut fragments = 0;
    while fragments < 6 {
        let line = lines.next().expect("it has ended").unwrap();
        fragments += usize::from(line.contains("\"kvs-fragment\""));
    }
    let id = child.id().to_string();
    let killed = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(killed.success());
    let rest: Vec<_> = lines.map(|line| line.unwrap()).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let last: Value = serde_json::from_str(rest.last().unwrap()).unwrap();
    assert_eq!(last["event"], "stats");
    assert_eq!(last["fragments"], 6);
}

/// The row of a stream in the last table, in words.
fn row(text: &str, stream: &str) -> Vec<String> {
    let row = text.lines().rfind(|line| line.starts_with(stream));
    let row = row.unwrap_or_else(|| panic!("no {stream} in {text}"));
    row.split_whitespace().map(str::to_owned).collect()
}

#[track_caller]
fn assert_table(text: &str, reconnects: usize) {
    let heading = "STREAM  STATE   FRAGMENTS";
    assert!(text.contains(heading), "{text}");
    let cam = row(text, "cam ");
    assert_eq!(cam[..3], ["cam", "ended", "5"], "{text}");
    // Bitrate and its unit, or a dash, stand between.
    let rest = cam[cam.len() - 6..].join(" ");
    assert_eq!(rest, format!("0.5 s {reconnects} 1 gap: hole"), "{text}");
    let nosuch = row(text, "nosuch").join(" ");
    assert!(nosuch.starts_with("nosuch failed 0 "), "{nosuch}");
    assert!(
        nosuch.contains(" - 0 0 no stream nosuch in region"),
        "{nosuch}"
    );
}

#[test]
fn the_table_has_a_row_for_each_stream() {
    let server = server();
    let mut command = kvstop(&["--table", "--interval", "0.1", CAM, "nosuch"]);
    let output = run(&server, &mut command);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_table(&text, get_media(&server).len() - 1);
    // Nothing but text where there is no terminal.
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn on_a_terminal_the_table_is_drawn_in_place() {
    if Command::new("script").arg("--version").output().is_err() {
        return skip("script, which gives a program a terminal, is not here");
    }
    let server = server();
    let line = format!("{} '{CAM}' nosuch", rust("kvstop").display());
    // It gives its command a terminal.
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let output = run(&server, &mut command);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let (drawn, left) = text.split_once("\x1b[?1049l").unwrap();
    assert!(drawn.contains("\x1b[?1049h"), "{drawn:?}");
    assert!(drawn.contains("\x1b[HSTREAM"), "{drawn:?}");
    assert!(drawn.contains("opening"), "{drawn:?}");
    // The last table stays when the screen is as it was.
    assert_table(left, get_media(&server).len() - 1);
    assert!(!left.contains('\x1b'), "{left:?}");
}

#[test]
fn a_wrong_command_line_is_explained() {
    let server = Server::start();
    for (arguments, expected) in [
        (&[][..], "no stream"),
        (&["--check", "a", "b"], "one stream"),
        (&["--interval", "0", "a"], "more than 0"),
        (&["--set", "mode", "a"], "NAME=VALUE"),
        (&["--set", "colour=red", "a"], "no property colour"),
        (&["--set", "max-retries=many", "a"], "max-retries"),
        (&["--set", "stats=x", "a"], "no property stats"),
        (&["kvs://cam?secret-key=x"], "secret-key"),
    ] {
        let output = run(&server, &mut kvstop(arguments));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let help = lines(&run(&server, &mut kvstop(&["--help"])));
    assert!(help[0].starts_with("Usage: kvstop"), "{help:?}");
}

/// The steps of a check, each with its result.
fn steps(lines: &[String]) -> Vec<(&str, &str)> {
    let words = lines.iter().map(|line| line.split_whitespace());
    words
        .filter_map(|mut words| Some((words.next()?, words.next()?)))
        .filter(|(result, _)| ["ok", "?", "FAILED"].contains(result))
        .map(|(result, step)| (step, result))
        .collect()
}

const STEPS: [&str; 7] = [
    "settings",
    "region",
    "credentials",
    "endpoint",
    "connect",
    "fragment",
    "frame",
];

#[test]
fn a_check_goes_through_every_step() {
    let server = server();
    let output = run(&server, &mut kvstop(&["--check", CAM]));
    let lines = lines(&output);
    assert_eq!(steps(&lines), STEPS.map(|step| (step, "ok")), "{lines:#?}");
    for (step, detail) in [
        (3, server.endpoint_url()),
        (4, "Receiving cam".to_owned()),
        (5, server.stream("cam").fragments()[0].number.clone()),
        (6, "video/x-h264".to_owned()),
    ] {
        assert!(lines[step].contains(&detail), "{detail}: {lines:#?}");
    }
}

/// A check that fails at `step`, with words of the error and of the mend. All before it are ok,
/// but for credentials where `proved` says that nobody has looked at them.
#[track_caller]
fn assert_check_fails(
    server: &Server,
    command: &mut Command,
    step: &str,
    proved: bool,
    error: &str,
    mend: &str,
) {
    let output = run(server, command);
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let failed = STEPS.iter().position(|name| *name == step).unwrap();
    let expected: Vec<_> = STEPS[..=failed]
        .iter()
        .map(|name| match *name {
            name if name == step => (name, "FAILED"),
            "credentials" if !proved => ("credentials", "?"),
            name => (name, "ok"),
        })
        .collect();
    assert_eq!(steps(&lines), expected, "{text}");
    assert!(lines[failed].contains(error), "{error}: {text}");
    let last = lines.last().unwrap();
    assert!(last.trim_start().starts_with("mend "), "{text}");
    assert!(last.contains(mend), "{mend}: {text}");
    assert!(!text.contains(server.secret_key()), "{text}");
}

#[test]
fn a_check_says_what_failed_and_the_mend() {
    let server = server();
    let check = |arguments: &[&str]| {
        let mut command = kvstop(&["--check"]);
        command.args(arguments);
        command
    };
    assert_check_fails(
        &server,
        &mut check(&["--set", "start-selector=fragment-number", "cam"]),
        "settings",
        true,
        "after-fragment-number: not set",
        "gst-inspect-1.0",
    );
    assert_check_fails(
        &server,
        &mut check(&["--set", "colour=red", "cam"]),
        "settings",
        true,
        "no property colour",
        "gst-inspect-1.0",
    );
    assert_check_fails(
        &server,
        check(&["cam"]).env_remove("AWS_REGION"),
        "region",
        true,
        "no AWS region",
        "--set aws-region=NAME",
    );
    assert_check_fails(
        &server,
        check(&["cam"])
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY"),
        "credentials",
        true,
        "no credentials from the SDK's default chain",
        "set AWS_ACCESS_KEY_ID",
    );
    assert_check_fails(
        &server,
        check(&["cam"]).env("AWS_SECRET_ACCESS_KEY", "wrong"),
        "credentials",
        true,
        "signature was refused",
        "give the secret that belongs to the access key",
    );
    assert_check_fails(
        &server,
        check(&["cam"]).env("AWS_ACCESS_KEY_ID", "AKIDNOBODY"),
        "credentials",
        true,
        "are not known to AWS",
        "use an access key that exists",
    );
    assert_check_fails(
        &server,
        &mut check(&["nosuch"]),
        "endpoint",
        true,
        "no stream nosuch",
        "list-streams",
    );
    assert_check_fails(
        &server,
        &mut check(&["--set", "endpoint-url=http://127.0.0.1:1", "cam"]),
        "endpoint",
        false,
        "cannot reach 127.0.0.1:1",
        "check the network",
    );
}

#[test]
fn a_check_says_what_the_data_endpoint_refuses() {
    let server = server();
    let denied = "NotAuthorizedException";
    let fault = Fault::get_media().http_error(403, denied, "No.");
    server.fault(fault.stream("cam").always());
    assert_check_fails(
        &server,
        &mut kvstop(&["--check", "cam"]),
        "connect",
        true,
        "may not call kinesisvideo:GetMedia",
        "allow kinesisvideo:GetMedia on cam",
    );
    server.clear_faults();
    // With a data endpoint given, GetMedia is the first call.
    let endpoint = format!("data-endpoint-url={}", server.endpoint_url());
    assert_check_fails(
        &server,
        kvstop(&["--check", "--set", &endpoint, "cam"]).env("AWS_SECRET_ACCESS_KEY", "wrong"),
        "credentials",
        true,
        "signature was refused",
        "give the secret",
    );
    // A stream that is there and has nothing.
    server.stream("silent");
    assert_check_fails(
        &server,
        &mut kvstop(&["--check", "--timeout", "3", "silent"]),
        "fragment",
        true,
        "nothing within 3s",
        "see that the producer is sending",
    );
}
