//! What the AWS SDK says, in GStreamer's log: at its levels, by the call, and beside a subscriber
//! that the application has.

mod support;

use gst::DebugLevel;
use kvs_local::{Fault, Server};
use std::{
    process::Command,
    sync::{Arc, Mutex},
};
use support::*;
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

/// Set in the process of a test that needs one of its own.
const CHILD: &str = "KVS_LOG_CHILD";

/// Runs a test of this file in a process of its own. Whether this is that process.
fn in_child(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .env_remove("GST_DEBUG")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text} {errors}"
    );
    false
}

/// A line of the log: level, function and message.
type Line = (DebugLevel, String, String);

/// The lines of `kvs-aws` from now on.
fn lines() -> Arc<Mutex<Vec<Line>>> {
    init();
    gst::log::remove_default_log_function();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let noted = lines.clone();
    gst::log::add_log_function(move |category, level, _, function, _, _, message| {
        if category.name() == "kvs-aws" {
            let text = message.get().map(|text| text.to_string());
            let line = (level, function.to_string(), text.unwrap_or_default());
            noted.lock().unwrap().push(line);
        }
    });
    lines
}

fn play(server: &Server, stream: &str) -> Log {
    let media = media(4);
    let run = Run::demuxed(&play_media(server, stream, &media, &[("max-retries", "1")]));
    run.play();
    run.wait("the end", |log| log.is_eos() || log.error().is_some());
    run.stop()
}

fn threshold(level: DebugLevel) {
    gst::log::set_threshold_for_name("kvs-aws", level);
}

/// Of the lines that begin so, the rest.
fn of<'a>(lines: &'a [Line], call: &str) -> Vec<(DebugLevel, &'a str, &'a str)> {
    let rest = |(level, function, text): &'a Line| {
        Some((*level, function.as_str(), text.strip_prefix(call)?))
    };
    lines.iter().filter_map(rest).collect()
}

#[test]
fn calls_are_told_with_their_request_ids() {
    if !in_child("calls_are_told_with_their_request_ids") {
        return;
    }
    let lines = lines();
    let take = || std::mem::take(&mut *lines.lock().unwrap());
    let server = Server::builder().rotate_after_fragments(2).start();
    threshold(DebugLevel::None);
    play(&server, "silent");
    assert!(take().is_empty());

    // All places in the SDK's code have been passed once, while nobody wanted to hear.
    threshold(DebugLevel::Info);
    let log = play(&server, "calls");
    let told = take();
    assert!(told.iter().all(|(level, ..)| *level <= DebugLevel::Info));
    let (before, requests): (Vec<_>, Vec<_>) = server
        .requests()
        .into_iter()
        .partition(|request| request.stream.as_deref() == Some("silent"));
    let mut calls = 0;
    for (request, number) in requests.iter().zip(before.len() + 1..) {
        let operation = request.operation;
        let call = format!("{operation:?} #{number} of calls");
        let sent = of(&told, &format!("{call}: "));
        assert_eq!(sent.len(), 1, "{call}: {told:?}");
        assert!(sent[0].2.starts_with("POST http://"), "{sent:?}");
        let answered = of(&told, &format!("{call}, request {}: ", request.request_id));
        assert_eq!(answered.len(), 1, "{call}: {told:?}");
        assert_eq!(answered[0].2, "answered with HTTP 200");
        calls += 1;
    }
    assert_eq!(calls, log.reconnects().len() + 2);

    threshold(DebugLevel::Debug);
    play(&server, "steps");
    let told = take();
    let steps = of(&told, "GetMedia #");
    let is_sdks = |(level, function, _): &&(DebugLevel, &str, &str)| {
        *level == DebugLevel::Debug && function.starts_with("aws_smithy_runtime::")
    };
    assert!(steps.iter().any(|step| is_sdks(&step)), "{steps:?}");
    assert!(!told.iter().any(|(level, ..)| *level > DebugLevel::Debug));

    threshold(DebugLevel::Memdump);
    play(&server, "connections");
    let told = take();
    let is_connection = |(level, function, _): &&Line| {
        *level == DebugLevel::Log && function.starts_with("hyper_util::")
    };
    assert!(told.iter().any(|line| is_connection(&line)), "{told:?}");
    assert!(!told.iter().any(|(level, ..)| *level > DebugLevel::Log));
}

#[test]
fn what_fails_is_in_the_elements_log_too() {
    if !in_child("what_fails_is_in_the_elements_log_too") {
        return;
    }
    init();
    gst::log::remove_default_log_function();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let noted = lines.clone();
    gst::log::add_log_function(move |category, level, _, _, _, _, message| {
        if category.name() == "kvsgetmediasrc" {
            let text = message.get().map(|text| text.to_string());
            noted
                .lock()
                .unwrap()
                .push((level, text.unwrap_or_default()));
        }
    });
    gst::log::set_threshold_for_name("kvsgetmediasrc", DebugLevel::Info);
    let server = Server::start();
    server.fault(Fault::get_media().http_error(503, "ServiceUnavailable", "not now"));
    play(&server, "fails");
    let requests = server.requests();
    let media: Vec<_> = get_media(&server);
    assert_eq!(media.len(), 2, "{requests:?}");
    let lines = lines.lock().unwrap();
    let says = |level: DebugLevel, parts: &[&str]| {
        lines
            .iter()
            .any(|(l, text)| *l == level && parts.iter().all(|part| text.contains(part)))
    };
    assert!(
        says(DebugLevel::Warning, &["not now", &media[0].request_id]),
        "{lines:?}"
    );
    assert!(
        says(DebugLevel::Info, &["Connected", &media[1].request_id]),
        "{lines:?}"
    );
}

/// An application's subscriber.
struct Collector(Arc<Mutex<Vec<&'static str>>>);

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(event.metadata().target());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn an_application_keeps_its_subscriber() {
    if !in_child("an_application_keeps_its_subscriber") {
        return;
    }
    let collected = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::set_global_default(Collector(collected.clone())).unwrap();
    let lines = lines();
    threshold(DebugLevel::Debug);
    let server = Server::start();
    play(&server, "both");
    tracing::info!(target: "application", "after it");
    let collected = collected.lock().unwrap();
    assert!(collected.contains(&"application"));
    for target in ["aws_smithy_runtime::client::orchestrator", "kvs_aws"] {
        assert!(collected.contains(&target), "{target}: {collected:?}");
    }
    let lines = lines.lock().unwrap();
    assert!(!of(&lines, "GetMedia #").is_empty());
    assert!(
        !lines
            .iter()
            .any(|(_, function, _)| function == "application")
    );
}

#[test]
fn an_application_may_have_none_or_set_its_own_later() {
    if !in_child("an_application_may_have_none_or_set_its_own_later") {
        return;
    }
    init();
    let server = Server::start();
    play(&server, "before");
    let collected = Arc::new(Mutex::new(Vec::new()));
    let subscriber = Collector(collected.clone());
    tracing::subscriber::set_global_default(subscriber).expect("nobody has set one");
    tracing::info!(target: "application", "after it");
    assert_eq!(*collected.lock().unwrap(), ["application"]);
}
