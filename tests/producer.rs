//! From a producer's PutMedia to the application: curl uploads, with signatures of its own making,
//! and the element tells what was attached.

mod support;

use bytes::Bytes;
use kvs_local::{
    Operation, Server,
    mkv::{self, Reading},
    synth::{Synth, TrackSpec},
};
use std::{
    io::Write,
    process::{Command, Stdio},
};
use support::{Run, VIDEO};

/// Uploads `body` as kvssink does: in chunks, of which it says beforehand nothing. Returns the
/// acknowledgements, or `None` without a curl that can sign.
fn put_media(server: &Server, stream: &str, headers: &[&str], body: &[u8]) -> Option<String> {
    let curl = Command::new("curl").args(["--help", "all"]).output();
    if !curl.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("--aws-sigv4")) {
        assert!(!support::require_all(), "there is no curl with --aws-sigv4");
        println!("skipped: there is no curl with --aws-sigv4");
        return None;
    }
    let region = server.region();
    let name = format!("x-amzn-stream-name: {stream}");
    let mut curl = Command::new("curl")
        .args(["--silent", "--show-error", "--fail-with-body", "-T", "-"])
        .args(["--aws-sigv4", &format!("aws:amz:{region}:kinesisvideo")])
        .args(["--user", &format!("{}:{}", server.access_key(), server.secret_key())])
        // The hash of a body that is not known when the request is signed.
        .args(["-H", "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"])
        .args(["-X", "POST", "-H", "Expect: 100-continue", "-H", &name])
        .args(headers.iter().flat_map(|header| ["-H", header]))
        .arg(format!("{}/putMedia", server.endpoint_url()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, body) = (curl.stdin.take().unwrap(), body.to_vec());
    let writer = std::thread::spawn(move || input.write_all(&body));
    let output = curl.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    writer.join().unwrap().unwrap();
    Some(said)
}

/// The tags of a `kvs-fragment` that are not the service's own.
fn attached(fragment: &gst::StructureRef) -> Vec<(String, String)> {
    let tags = fragment.get::<gst::Array>("tags").unwrap();
    let tag = |value: &gst::glib::SendValue| {
        let tag = value.get::<gst::Structure>().unwrap();
        (tag.get("name").unwrap(), tag.get("value").unwrap())
    };
    let tags = tags.iter().map(tag);
    tags.filter(|(name, _): &(String, String)| !name.starts_with("AWS_"))
        .collect()
}

/// Plays all there is, and returns what was attached to each fragment, and the frames' payloads.
fn play(
    server: &Server,
    stream: &str,
    fragments: usize,
) -> (Vec<Vec<(String, String)>>, Vec<Bytes>) {
    let src = support::source(server, stream, &[("start-selector", "earliest")]);
    let run = Run::demuxed(&src);
    run.play();
    run.wait("every fragment", |log| log.fragments().len() >= fragments);
    let log = run.stop();
    let told = log.structures("kvs-fragment");
    let tags = told.iter().map(|fragment| attached(fragment)).collect();
    let frames = log
        .frames(VIDEO)
        .iter()
        .map(|frame| frame.payload.clone())
        .collect();
    (tags, frames)
}

/// The producer's own tags of each fragment of an upload. Those between two clusters belong to the
/// second, and those at the end to the last.
fn uploaded_tags(reading: &Reading) -> Vec<(String, String)> {
    let tags = reading.documents.iter().flat_map(|document| &document.tags);
    let own = tags.filter(|tag| !tag.name.starts_with("AWS_"));
    own.map(|tag| (tag.name.clone(), tag.value.clone()))
        .collect()
}

#[test]
fn what_a_producer_attaches_reaches_the_application() {
    let server = Server::start();
    server.stream("cam");
    let plain = Synth::new()
        .tracks([TrackSpec::h264(1)])
        .fragments(3)
        .build();
    // As kvssink writes it: Tags elements between the clusters.
    let attach = [
        vec![("camera", "front"), ("motion", "none")],
        vec![("camera", "front")],
        vec![
            ("camera", "d\u{e9}tection \u{2713}"),
            ("camera", "front"),
            ("empty", ""),
        ],
    ];
    let mut body = Vec::new();
    for (fragment, tags) in plain.fragments.iter().zip(&attach) {
        if body.is_empty() {
            body.extend_from_slice(&fragment.header);
        }
        for (name, value) in tags {
            body.extend_from_slice(&tags_element(name, value));
        }
        body.extend_from_slice(&fragment.cluster);
    }
    let headers = ["x-amzn-fragment-timecode-type: ABSOLUTE"];
    let Some(acks) = put_media(&server, "cam", &headers, &body) else {
        return;
    };
    for kind in ["BUFFERING", "RECEIVED", "PERSISTED"] {
        assert_eq!(acks.matches(kind).count(), 3, "{acks}");
    }
    let requests = server.requests();
    let put = requests
        .iter()
        .find(|request| request.operation == Operation::PutMedia);
    let put = put.unwrap();
    assert_eq!(put.status, Some(200));
    // It asked whether to send, and sent without saying how much.
    assert_eq!(put.header("expect"), Some("100-continue"));
    assert_eq!(put.header("transfer-encoding"), Some("chunked"));
    assert_eq!(put.header("content-length"), None);

    let (tags, frames) = play(&server, "cam", 3);
    let expected = attach.map(|tags| {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        tags.into_iter().map(owned).collect::<Vec<_>>()
    });
    assert_eq!(tags, expected);
    let payloads = plain
        .frames()
        .into_iter()
        .map(|frame| frame.payload.clone());
    assert!(frames.into_iter().eq(payloads));
}

/// A `Tags` element with one `SimpleTag`, its sizes in 8 bytes as kvssink writes them.
fn tags_element(name: &str, value: &str) -> Vec<u8> {
    let element = |id: &[u8], content: &[u8]| {
        let size = (1 << 56 | content.len() as u64).to_be_bytes();
        [id, &size, content].concat()
    };
    let simple = [
        element(&[0x45, 0xa3], name.as_bytes()),
        element(&[0x44, 0x87], value.as_bytes()),
    ]
    .concat();
    let tag = element(&[0x73, 0x73], &element(&[0x67, 0xc8], &simple));
    element(&[0x12, 0x54, 0xc3, 0x67], &tag)
}

#[test]
fn what_kvssink_attached_reaches_the_application() {
    let Some((body, reading)) = support::recording("putmedia/d-h264-meta-abs.1.mkv") else {
        return;
    };
    let server = Server::start();
    server.stream("cam");
    let headers = [
        "x-amzn-fragment-timecode-type: ABSOLUTE",
        "x-amzn-fragment-acknowledgment-required: 1",
        "x-amzn-producer-start-timestamp: 1795339913.183",
    ];
    if put_media(&server, "cam", &headers, &body).is_none() {
        return;
    }
    let (tags, frames) = play(&server, "cam", 5);
    let names: Vec<Vec<&str>> = tags
        .iter()
        .map(|tags| tags.iter().map(|(name, _)| &name[..]).collect())
        .collect();
    // What was set to last stands in every fragment until it is cleared.
    assert_eq!(
        names,
        [
            vec!["before-first", "camera"],
            vec!["camera", "gop1-nonpersist"],
            vec!["camera", "gop2-np", "gop2-np", "gop2-utf8"],
            vec!["temp"],
            vec!["temp", "last"],
        ]
    );
    assert_eq!(tags.concat(), uploaded_tags(&reading));
    assert!(
        frames
            .iter()
            .eq(reading.frames().map(|frame| &frame.payload))
    );
}

/// Two uploads with timecodes from zero each: stream time comes from the producer's start.
#[test]
fn relative_times_begin_at_the_producers_start() {
    let server = Server::start();
    server.stream("cam");
    let media = Synth::new()
        .tracks([TrackSpec::h264(1)])
        .fragments(2)
        .start_ms(0)
        .fragment_ms(1000)
        .build();
    for start in [1_700_000_000, 1_700_000_100] {
        let start = format!("x-amzn-producer-start-timestamp: {start}.250");
        let headers = ["x-amzn-fragment-timecode-type: RELATIVE", &start];
        if put_media(&server, "cam", &headers, &media.producer_body()).is_none() {
            return;
        }
    }
    let src = support::source(&server, "cam", &[("start-selector", "earliest")]);
    let run = Run::demuxed(&src);
    run.play();
    run.wait("every fragment", |log| log.fragments().len() >= 4);
    let log = run.stop();
    let frames = log.frames(VIDEO);
    let times: Vec<u64> = frames.iter().map(|f| f.stream_time.mseconds()).collect();
    let expected = [1_700_000_000_250, 1_700_000_100_250]
        .into_iter()
        .flat_map(|start| {
            let frames = media.frames();
            frames
                .into_iter()
                .map(move |f| start + f.time_ns as u64 / 1_000_000)
        });
    assert_eq!(times, expected.collect::<Vec<_>>());
}

/// The reader of the tests finds in an upload what an upload holds.
#[test]
fn tags_are_written_as_a_reader_finds_them() {
    let media = Synth::new().fragments(1).build();
    let fragment = &media.fragments[0];
    let body = [
        &fragment.header[..],
        &tags_element("name", "value"),
        &fragment.cluster,
    ]
    .concat();
    let reading = mkv::read(&Bytes::from(body));
    assert_eq!(reading.problems, []);
    assert_eq!(
        uploaded_tags(&reading),
        [("name".to_owned(), "value".to_owned())]
    );
}
