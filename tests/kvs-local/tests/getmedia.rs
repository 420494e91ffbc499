//! GetMedia: selectors, live delivery, ends, what documents look like.

mod common;

use std::time::Duration;

use common::{Client, End, PATIENCE, recording};
use kvs_local::synth::{Synth, Synthetic};
use kvs_local::{
    ClusterSize, DocumentStyle, Idle, NewFragment, NowStart, OnEmpty, OnExpired, OnTimestampGap,
    ProducerTags, Server, StartSelector, StreamHandle, Timecodes, Undocumented, mkv,
};
use serde_json::json;

const QUIET: Duration = Duration::from_millis(150);

fn media() -> Synthetic {
    Synth::new().fragments(5).distinct_tokens().build()
}

fn with(server: &Server, media: &Synthetic) -> StreamHandle {
    let cam = server.stream("cam");
    media.push_to(&cam);
    cam
}

fn documents(media: &Synthetic, from: usize) -> Vec<u8> {
    let documents = media.fragments[from..].iter().map(|f| &f.document[..]);
    documents.collect::<Vec<_>>().concat()
}

#[test]
fn every_selector_starts_at_its_fragment() {
    let server = Server::builder().enforce_limits(false).start();
    let media = media();
    with(&server, &media).finish_recording();
    let client = Client::new(&server);
    let third = &media.fragments[2];
    let producer = third.producer_timestamp_ms;
    let server_ms = third.server_timestamp_ms;
    let after = |number: &str| json!({ "StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": number });
    let time = |kind: &str, ms: u64| json!({ "StartSelectorType": kind, "StartTimestamp": ms as f64 / 1000.0 });
    let token =
        json!({ "StartSelectorType": "CONTINUATION_TOKEN", "ContinuationToken": third.token });
    for (selector, first) in [
        (json!({ "StartSelectorType": "EARLIEST" }), 0),
        (json!({ "StartSelectorType": "NOW" }), 4),
        (after(&third.number), 3),
        (token, 3),
        (time("PRODUCER_TIMESTAMP", producer), 2),
        (time("PRODUCER_TIMESTAMP", producer + 1999), 2),
        (time("PRODUCER_TIMESTAMP", producer - 1), 1),
        (time("PRODUCER_TIMESTAMP", 1000), 0),
        (time("SERVER_TIMESTAMP", server_ms), 2),
        (time("SERVER_TIMESTAMP", server_ms + 1), 2),
    ] {
        let mut answer = client.get_media("cam", &selector);
        assert_eq!(answer.status, 200, "{selector}");
        assert_eq!(answer.header("content-type"), Some("video/webm"));
        assert!(answer.rest() == documents(&media, first), "{selector}");
    }
}

#[test]
fn a_request_is_logged_with_its_selector() {
    let server = Server::start();
    let media = media();
    let cam = with(&server, &media);
    cam.finish_recording();
    let selector =
        json!({ "StartSelectorType": "SERVER_TIMESTAMP", "StartTimestamp": 1700000000.35 });
    let client = Client::new(&server);
    let body = json!({ "StreamARN": cam.arn(), "StartSelector": selector });
    let mut answer = client.call("/getMedia", &body);
    let id = answer.header("x-amzn-requestid").unwrap().to_owned();
    let bytes = answer.rest().len() as u64;
    assert!(server.wait_until(PATIENCE, |s| s.requests()[0].finished));
    let request = server.requests().remove(0);
    assert_eq!(
        request.selector,
        Some(StartSelector::ServerTimestamp(1_700_000_000_350))
    );
    assert_eq!(request.stream.as_deref(), Some("cam"));
    assert_eq!((request.status, request.request_id), (Some(200), id));
    assert_eq!((request.json, request.bytes_sent), (body, bytes));
}

#[test]
fn recordings_are_served_as_recorded() {
    for (name, count) in [
        ("output_get_media.mkv", 5),
        ("kinesis_video_renderer_example_output.mkv", 8),
        ("output-get-media-equal-timecode.mkv", 2),
    ] {
        let Some(bytes) = recording(name) else {
            continue;
        };
        let server = Server::start();
        let cam = server.stream("cam");
        assert_eq!(cam.load_recording(&bytes), count, "{name}");
        assert_eq!(cam.fragments().len(), count);
        cam.finish_recording();
        assert!(
            Client::new(&server).earliest("cam").rest() == bytes,
            "{name}"
        );
        let first = &cam.fragments()[0];
        assert_eq!(first.number.len(), 47);
        assert!(first.producer_timestamp_ms > 1_500_000_000_000);
        assert!(first.server_timestamp_ms > first.producer_timestamp_ms);
    }
}

#[test]
fn new_fragments_are_sent_as_they_come() {
    let server = Server::start();
    let media = media();
    let cam = server.stream("cam");
    let mut answer = Client::new(&server).earliest("cam");
    for fragment in &media.fragments {
        assert_eq!(answer.body(usize::MAX, QUIET), (vec![], Some(End::Silent)));
        cam.push_fragment(fragment.new_fragment());
        assert!(answer.take(fragment.document.len()) == fragment.document);
    }
    assert_eq!(server.open_connections("cam"), 1);
    drop(answer);
    assert!(server.wait_until(PATIENCE, |s| s.open_connections("cam") == 0));
}

#[test]
fn a_paused_stream_is_silent_and_goes_on() {
    let server = Server::start();
    let media = media();
    let cam = with(&server, &media);
    cam.pause(true);
    let mut answer = Client::new(&server).earliest("cam");
    assert_eq!(answer.body(usize::MAX, QUIET).1, Some(End::Silent));
    cam.pause(false);
    cam.finish_recording();
    assert!(answer.rest() == media.recording());
}

#[test]
fn an_idle_stream_may_end_cleanly() {
    let server = Server::start();
    let media = media();
    let cam = with(&server, &media);
    cam.end_of_stream_behaviour(Idle::CleanEnd(Duration::from_millis(50)));
    assert!(Client::new(&server).earliest("cam").rest() == media.recording());
}

#[test]
fn connections_rotate() {
    let media = media();
    let server = Server::builder().rotate_after_fragments(2).start();
    with(&server, &media);
    let client = Client::new(&server);
    let two = documents(&media, 0).len() - documents(&media, 2).len();
    assert_eq!(client.earliest("cam").rest().len(), two);
    let token = json!({
        "StartSelectorType": "CONTINUATION_TOKEN",
        "ContinuationToken": media.fragments[3].token,
    });
    let mut last = client.get_media("cam", &token);
    assert!(last.take(documents(&media, 4).len()) == documents(&media, 4));
    assert_eq!(last.body(usize::MAX, QUIET).1, Some(End::Silent));

    let server = Server::builder().rotate_after(QUIET).start();
    with(&server, &media);
    assert!(Client::new(&server).earliest("cam").rest() == media.recording());
}

#[test]
fn what_is_gone_is_not_found() {
    let media = media();
    let cases = [
        (OnExpired::InBandError, 200),
        (OnExpired::InvalidArgument, 400),
        (OnExpired::NextFragment, 200),
    ];
    for (expired, status) in cases {
        let undocumented = Undocumented {
            expired,
            ..Undocumented::default()
        };
        let server = Server::builder().undocumented(undocumented).start();
        let cam = with(&server, &media);
        cam.finish_recording();
        cam.expire_before(&media.fragments[3].number);
        let client = Client::new(&server);
        let ask = |token: &str| {
            let selector =
                json!({ "StartSelectorType": "CONTINUATION_TOKEN", "ContinuationToken": token });
            client.get_media("cam", &selector)
        };
        // What follows the third is kept, so its token is still good.
        assert!(ask(&media.fragments[2].token).rest() == documents(&media, 3));
        let mut answer = ask(&media.fragments[0].token);
        assert_eq!(answer.status, status);
        match expired {
            OnExpired::InvalidArgument => assert_eq!(answer.error(), "InvalidArgumentException"),
            OnExpired::NextFragment => assert!(answer.rest() == documents(&media, 3)),
            OnExpired::InBandError => {
                let reading = mkv::read(&answer.rest().into());
                assert_eq!(reading.documents.len(), 1);
                let document = &reading.documents[0];
                assert_eq!(document.aws_tag("ERROR_ID"), Some("4000"));
                assert!(document.aws_tag("SERVER_TIMESTAMP").is_none());
                assert!(document.frames.is_empty());
            }
        }
    }
}

#[test]
fn retention_drops_what_is_old() {
    let server = Server::builder()
        .retention(Duration::from_millis(300))
        .start();
    let media = media();
    let cam = with(&server, &media);
    assert_eq!(cam.fragments().len(), 5);
    assert!(server.wait_until(PATIENCE, |_| cam.fragments().is_empty()));
}

#[test]
fn a_timestamp_in_a_gap() {
    let media = Synth::new()
        .fragments(4)
        .from_fragment(2, |fragment| {
            fragment.producer_timestamp_ms += 60_000;
            fragment.timecode_ms += 60_000;
        })
        .build();
    let in_gap = media.fragments[2].producer_timestamp_ms - 30_000;
    let selector = json!({
        "StartSelectorType": "PRODUCER_TIMESTAMP",
        "StartTimestamp": in_gap as f64 / 1000.0,
    });
    let server = Server::start();
    with(&server, &media).finish_recording();
    let mut answer = Client::new(&server).get_media("cam", &selector);
    assert!(answer.rest() == documents(&media, 2));

    let undocumented = Undocumented {
        timestamp_gap: OnTimestampGap::NotFound,
        ..Undocumented::default()
    };
    let server = Server::builder().undocumented(undocumented).start();
    with(&server, &media);
    let answer = Client::new(&server).get_media("cam", &selector);
    assert_eq!(
        (answer.status, answer.error()),
        (404, "ResourceNotFoundException")
    );
}

#[test]
fn now_and_empty_streams() {
    let now = json!({ "StartSelectorType": "NOW" });
    let undocumented = Undocumented {
        now: NowStart::Next,
        empty: OnEmpty::End,
        ..Undocumented::default()
    };
    let server = Server::builder().undocumented(undocumented).start();
    let cam = server.stream("cam");
    let client = Client::new(&server);
    assert!(client.get_media("cam", &now).rest().is_empty());
    let media = media();
    cam.push_fragment(media.fragments[0].new_fragment());
    let mut answer = client.get_media("cam", &now);
    assert_eq!(answer.body(usize::MAX, QUIET).1, Some(End::Silent));
    cam.push_fragment(media.fragments[1].new_fragment());
    assert!(answer.take(media.fragments[1].document.len()) == media.fragments[1].document);
}

#[test]
fn a_producers_media_is_wrapped() {
    let media = Synth::new().fragments(3).build();
    let styles = [
        (ClusterSize::AsReceived, true),
        (ClusterSize::Known, false),
        (ClusterSize::Unknown, true),
    ];
    for (cluster_size, trailing_tags) in styles {
        let style = DocumentStyle {
            cluster_size,
            trailing_tags,
            producer_tags: ProducerTags::AsObserved,
        };
        let server = Server::builder().document_style(style).start();
        let cam = server.stream("cam");
        let loaded = cam.load_matroska(&media.producer_body(), 0, Timecodes::Absolute);
        assert_eq!(loaded, 3);
        cam.finish_recording();
        let infos = cam.fragments();
        let body = Client::new(&server).earliest("cam").rest();
        let reading = mkv::read(&body.into());
        assert_eq!(reading.problems, []);
        assert!(reading.frames().eq(media.frames().iter()));
        for (index, document) in reading.documents.iter().enumerate() {
            let (made, info) = (&media.fragments[index], &infos[index]);
            assert_eq!(info.producer_timestamp_ms, made.producer_timestamp_ms);
            assert_eq!(document.aws_tag("FRAGMENT_NUMBER"), Some(&info.number[..]));
            let producer = document.aws_tag("PRODUCER_TIMESTAMP").unwrap();
            assert_eq!(
                producer.replace('.', ""),
                made.producer_timestamp_ms.to_string()
            );
            let token = document.aws_tag("CONTINUATION_TOKEN");
            assert_eq!(token.is_some(), trailing_tags);
            let behind = document.aws_tag("MILLIS_BEHIND_NOW");
            assert!(behind.is_none_or(|ms| ms.parse::<u64>().unwrap() < 10_000));
        }
        // Server times are those of one burst.
        let between = infos[1].server_timestamp_ms - infos[0].server_timestamp_ms;
        assert!((15..30).contains(&between), "{between} ms");
    }
}

#[test]
fn one_fragment_of_any_number_and_token() {
    let server = Server::start();
    let cam = server.stream("cam");
    let media = Synth::new().fragments(1).build();
    let bits = media.producer_body();
    let number = cam.push_fragment(NewFragment {
        document: bits,
        producer_timestamp_ms: 1_600_000_000_123,
        server_timestamp_ms: Some(1_600_000_001_000),
        number: Some("17".to_owned()),
        token: Some("a-token.of_its-own".to_owned()),
    });
    assert_eq!(number, "17");
    let document = cam.served_document("17", 4711);
    let reading = mkv::read(&document);
    let tag = |name| reading.documents[0].aws_tag(name);
    assert_eq!(tag("FRAGMENT_NUMBER"), Some("17"));
    assert_eq!(tag("PRODUCER_TIMESTAMP"), Some("1600000000.123"));
    assert_eq!(tag("SERVER_TIMESTAMP"), Some("1600000001.000"));
    assert_eq!(tag("CONTINUATION_TOKEN"), Some("a-token.of_its-own"));
    assert_eq!(tag("MILLIS_BEHIND_NOW"), Some("4711"));
    assert!(reading.frames().eq(media.frames().iter()));
}

#[test]
fn pace_and_rate() {
    let media = Synth::new().fragments(4).build();
    for server in [
        Server::builder().pace(20.0).start(),
        Server::builder().enforce_rate(true).start(),
    ] {
        with(&server, &media).finish_recording();
        let begun = std::time::Instant::now();
        assert!(Client::new(&server).earliest("cam").rest() == media.recording());
        // Three distances of 2 s at twenty times the speed, or of a fifth of a second.
        assert!(begun.elapsed() >= Duration::from_millis(290));
    }
}

#[test]
fn fragments_under_upload_are_sent_as_they_grow() {
    let server = Server::builder().chunked_live(true).start();
    let cam = server.stream("cam");
    let media = Synth::new().fragments(2).frames(6).build();
    let body = media.producer_body();
    let mut producer = cam.producer(0, Timecodes::Absolute);
    let (early, late) = body.split_at(body.len() - media.fragments[1].cluster.len() + 200);
    producer.write(early).unwrap();
    let now = json!({ "StartSelectorType": "NOW" });
    let mut answer = Client::new(&server).get_media("cam", &now);
    let (first, end) = answer.body(usize::MAX, QUIET);
    assert_eq!(end, Some(End::Silent));
    assert!(mkv::read(&first.clone().into()).is_truncated());
    producer.write(late).unwrap();
    producer.finish();
    cam.finish_recording();
    let whole = [first, answer.rest()].concat();
    let reading = mkv::read(&whole.into());
    assert_eq!(reading.problems, []);
    assert!(reading.frames().eq(media.fragments[1].frames.iter()));
    assert!(reading.documents[0].aws_tag("CONTINUATION_TOKEN").is_some());
}
