//! PutMedia: what kvssink sends, what anyone else may send, and what GetMedia makes of it.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::SystemTime;

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use bytes::Bytes;
use common::{Answer, Client, PATIENCE, recording};
use kvs_local::mkv::ebml;
use kvs_local::synth::{SizeWidth, Synth, TrackSpec};
use kvs_local::{
    DEFAULT_ACCESS_KEY, DEFAULT_REGION, DEFAULT_SECRET_KEY, Fault, Server, StreamHandle, Timecodes,
    mkv,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Sends a body in HTTP chunks of `piece` bytes; `whole` ends it with the last chunk.
fn put(client: &Client, headers: &[(&str, &str)], body: &[u8], piece: usize, whole: bool) -> Put {
    let mut all = vec![("transfer-encoding", "chunked")];
    all.extend_from_slice(headers);
    let signed = client.signed("POST", "/putMedia", &all, b"");
    let mut socket = TcpStream::connect(&client.address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = "POST /putMedia HTTP/1.1\r\n".to_owned();
    for (name, value) in &signed {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("Expect: 100-continue\r\n\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let mut continued = Vec::new();
    while !continued.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        continued.push(byte[0]);
    }
    let continued = String::from_utf8(continued).unwrap();
    if !continued.starts_with("HTTP/1.1 100 ") {
        let status = continued.split(' ').nth(1).unwrap().parse().unwrap();
        return Put {
            status,
            error: continued
                .lines()
                .find_map(|line| line.strip_prefix("x-amzn-ErrorType: "))
                .unwrap_or_default()
                .to_owned(),
            acks: Vec::new(),
        };
    }
    let mut writer = socket.try_clone().unwrap();
    let body = body.to_vec();
    let sender = std::thread::spawn(move || {
        for piece in body.chunks(piece) {
            let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            // A refused upload is closed from the other side.
            if writer.write_all(&chunk).is_err() {
                return;
            }
        }
        if whole {
            let _ = writer.write_all(b"0\r\n\r\n");
        } else {
            let _ = writer.shutdown(std::net::Shutdown::Write);
        }
    });
    let mut answer = Answer::read(socket).unwrap();
    let status = answer.status;
    let (acks, _) = answer.body(usize::MAX, PATIENCE);
    sender.join().unwrap();
    // One acknowledgement an HTTP chunk.
    let mut at = 0;
    let acks = answer.chunks.iter().map(|size| {
        assert!(*size <= 1024);
        at += size;
        serde_json::from_slice(&acks[at - size..at]).unwrap()
    });
    Put {
        status,
        error: String::new(),
        acks: acks.collect(),
    }
}

type Headers = [(&'static str, &'static str)];

struct Put {
    status: u16,
    error: String,
    acks: Vec<Value>,
}

impl Put {
    fn events(&self) -> Vec<(String, u64)> {
        self.acks.iter().map(event).collect()
    }

    fn error_ids(&self) -> Vec<u64> {
        let ids = self.acks.iter().filter_map(|ack| ack["ErrorId"].as_u64());
        ids.collect()
    }
}

fn event(ack: &Value) -> (String, u64) {
    let kind = ack["EventType"].as_str().unwrap().to_owned();
    (kind, ack["FragmentTimecode"].as_u64().unwrap())
}

const ABSOLUTE: [(&str, &str); 3] = [
    ("x-amzn-stream-name", "cam"),
    ("x-amzn-fragment-timecode-type", "ABSOLUTE"),
    ("x-amzn-producer-start-timestamp", "1795339780.394"),
];

fn expected(body: &[u8]) -> (Vec<mkv::Frame>, Vec<u64>) {
    let reading = mkv::read(&Bytes::copy_from_slice(body));
    let frames = reading.frames().cloned().collect();
    (frames, reading.documents[0].cluster_timecodes.clone())
}

fn got(client: &Client, stream: &StreamHandle) -> mkv::Reading {
    stream.finish_recording();
    mkv::read(&client.earliest(stream.name()).rest().into())
}

#[test]
fn every_recorded_body_comes_back_block_for_block() {
    for name in [
        "a-h264-abs.1",
        "b-h264-rel.1",
        "b-h264-rel.2",
        "c-h264-aac-abs.1",
        "d-h264-meta-abs.1",
        "e-h264-res-restart-abs.1",
        "e-h264-res-restart-abs.2",
        "f-h265-abs.1",
        "g-aac-abs.1",
        "g-mulaw-abs.1",
        "h-h264-bframes-abs.2",
        "i-h264-intermittent-abs.1",
    ] {
        let Some(body) = recording(&format!("putmedia/{name}.mkv")) else {
            continue;
        };
        let server = Server::start();
        let cam = server.stream("cam");
        let client = Client::new(&server);
        let relative = name.contains("-rel");
        let kind = if relative { "RELATIVE" } else { "ABSOLUTE" };
        let headers = [
            ("x-amzn-stream-name", "cam"),
            ("x-amzn-fragment-timecode-type", kind),
            ("x-amzn-fragment-acknowledgment-required", "1"),
            ("x-amzn-producer-start-timestamp", "1795339913.183"),
        ];
        let put = put(&client, &headers, &body, 777, true);
        let (frames, timecodes) = expected(&body);
        let mut acks = Vec::new();
        for timecode in &timecodes {
            for kind in ["BUFFERING", "RECEIVED", "PERSISTED"] {
                acks.push((kind.to_owned(), *timecode));
            }
        }
        assert_eq!(put.events(), acks, "{name}");
        let json = format!("putmedia/{name}.json");
        if ["a-h264-abs.1", "b-h264-rel.1", "c-h264-aac-abs.1"].contains(&name)
            && let Some(recorded) = recording(&json)
        {
            let recorded: Value = serde_json::from_slice(&recorded).unwrap();
            let acks = recorded["acks"].as_array().unwrap().iter();
            let acks =
                acks.map(|ack| event(&serde_json::from_str(ack[1].as_str().unwrap()).unwrap()));
            assert_eq!(put.events(), acks.collect::<Vec<_>>(), "{json}");
        }
        let reading = got(&client, &cam);
        assert_eq!(reading.problems, [], "{name}");
        assert!(reading.frames().eq(&frames), "{name}");
        for (document, timecode) in reading.documents.iter().zip(timecodes) {
            let start = if relative { 1_795_339_913_183 } else { 0 };
            let producer = document.aws_tag("PRODUCER_TIMESTAMP").unwrap();
            assert_eq!(producer.replace('.', ""), (start + timecode).to_string());
        }
        for (info, ack) in cam.fragments().iter().zip(put.acks.chunks(3)) {
            assert_eq!(ack[0]["FragmentNumber"], info.number);
        }
    }
}

#[test]
fn a_lost_connection_leaves_whole_fragments_alone() {
    let names = ["d-h264-meta-drop2-abs.1", "d-h264-meta-drop2-abs.2"];
    let [Some(first), Some(second)] = names.map(|name| recording(&format!("putmedia/{name}.mkv")))
    else {
        return;
    };
    let (before, timecodes) = expected(&first);
    let (after, _) = expected(&second);
    let cut = mkv::read(&Bytes::from(first.clone()));
    let last = *timecodes.last().unwrap() as i64 * 1_000_000;
    let whole: Vec<_> = before
        .iter()
        .filter(|f| f.time_ns < last)
        .chain(&after)
        .collect();
    for keep in [false, true] {
        let server = Server::builder().keep_partial_fragments(keep).start();
        let cam = server.stream("cam");
        let client = Client::new(&server);
        let lost = put(&client, &ABSOLUTE, &first, 5000, false);
        assert_eq!(lost.events().last().unwrap().0, "BUFFERING");
        assert_eq!(lost.acks.len(), 3 * (timecodes.len() - 1) + 1);
        let again = put(&client, &ABSOLUTE, &second, 5000, true);
        assert_eq!(again.events().last().unwrap().0, "PERSISTED");
        let reading = got(&client, &cam);
        if keep {
            assert!(reading.frames().eq(before.iter().chain(&after)));
            let partial = &reading.documents[timecodes.len() - 1];
            assert!(partial.aws_tag("CONTINUATION_TOKEN").is_none());
            assert!(partial.frames.len() <= cut.documents[0].frames.len());
        } else {
            assert!(reading.frames().eq(whole.iter().copied()));
        }
    }
}

#[test]
fn fragment_metadata_goes_to_its_fragment() {
    let Some(body) = recording("putmedia/d-h264-meta-abs.1.mkv") else {
        return;
    };
    let server = Server::start();
    let cam = server.stream("cam");
    let client = Client::new(&server);
    put(&client, &ABSOLUTE, &body, 100, true);
    let reading = got(&client, &cam);
    let names: Vec<Vec<&str>> = reading
        .documents
        .iter()
        .map(|document| {
            let own = document
                .tags
                .iter()
                .filter(|tag| !tag.name.starts_with("AWS_"));
            own.map(|tag| &tag.name[..]).collect()
        })
        .collect();
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
    let utf8 = &reading.documents[2].tag("gop2-utf8");
    assert_eq!(*utf8, Some("d\u{e9}tection \u{2713}"));
    // Before Info in the first, after the Cluster in the others.
    let order = |index: usize, id: u32| {
        let elements = &reading.documents[index].elements;
        elements
            .iter()
            .position(|element| element.id == id)
            .unwrap()
    };
    let (tags, info, cluster) = (0x1254_C367, 0x1549_A966, 0x1F43_B675);
    assert!(order(0, tags) < order(0, info));
    assert!(order(1, tags) > order(1, info) && order(1, tags) < order(1, cluster));
    assert_eq!(reading.documents[1].elements.last().unwrap().id, tags);
}

#[test]
fn what_breaks_a_limit_is_refused_by_its_id() {
    let server = Server::builder().enforce_limits(true).start();
    let cases: [(&str, Bytes, &[u64]); 7] = [
        (
            "over 50 MB",
            Synth::new()
                .fragments(1)
                .frames(3)
                .payload(17_000_000, 17_000_000)
                .build()
                .producer_body(),
            &[4001],
        ),
        (
            "four tracks",
            Synth::new()
                .tracks((1..=4).map(TrackSpec::aac))
                .build()
                .producer_body(),
            &[4005],
        ),
        (
            "over 20 s",
            Synth::new().fragment_ms(25_000).build().producer_body(),
            &[4002],
        ),
        (
            "timecodes that go back",
            Synth::new()
                .each(|index, fragment| {
                    fragment.timecode_ms = [5000, 3000, 7000][index];
                })
                .build()
                .producer_body(),
            &[4004],
        ),
        ("garbage", Bytes::from_static(&[0; 100]), &[4006]),
        (
            "an element too large to be",
            Bytes::from_static(&[0x1a, 0x45, 0xdf, 0xa3, 0x01, 0x7f, 0, 0, 0, 0, 0, 0]),
            &[4006],
        ),
        (
            "a block of no track",
            {
                let media = Synth::new().build();
                let other = Synth::new().tracks([TrackSpec::aac(9)]).build();
                [&media.fragments[0].header[..], &other.fragments[0].cluster]
                    .concat()
                    .into()
            },
            &[4010],
        ),
    ];
    for (index, (what, body, ids)) in cases.into_iter().enumerate() {
        let name = format!("cam{index}");
        server.stream(&name);
        let headers = [
            ("x-amzn-stream-name", &name[..]),
            ("x-amzn-fragment-timecode-type", "RELATIVE"),
        ];
        let put = put(&Client::new(&server), &headers, &body, 1 << 20, true);
        assert_eq!(put.error_ids(), ids, "{what}");
        let kept = server.stream(&name).fragments();
        assert!(kept.iter().all(|fragment| fragment.complete), "{what}");
        assert_eq!(kept.len(), if ids == [4004] { 2 } else { 0 }, "{what}");
    }
}

/// What the service may say at any time, and what kvssink then does: it comes again, with the same
/// fragment.
#[test]
fn an_upload_that_is_refused_goes_on_in_another() {
    let media = Synth::new().fragments(4).build();
    let body = media.producer_body();
    let (frames, timecodes) = expected(&body);
    let errors = [
        (4003, "MAX_CONNECTION_DURATION_REACHED"),
        (5000, "INTERNAL_ERROR"),
        (5001, "ARCHIVAL_ERROR"),
    ];
    for (id, code) in errors {
        let server = Server::start();
        let cam = server.stream("cam");
        let client = Client::new(&server);
        server.fault(Fault::put_media().ack_error(2, id, code));
        let refused = put(&client, &ABSOLUTE, &body, 1000, true);
        let error = refused.acks.last().unwrap();
        assert_eq!(event(error), ("ERROR".to_owned(), timecodes[2]));
        assert_eq!(error["ErrorId"], id);
        assert_eq!(error["ErrorCode"], code);
        assert!(error["FragmentNumber"].is_string());
        let whole = cam.fragments();
        assert_eq!(whole.len(), 2, "the refused one is not kept");
        assert!(whole.iter().all(|fragment| fragment.complete));

        let header = &media.fragments[0].header[..];
        let rest = media.fragments[2..].iter().map(|f| &f.cluster[..]);
        let rest: Vec<&[u8]> = [header].into_iter().chain(rest).collect();
        let again = put(&client, &ABSOLUTE, &rest.concat(), 1000, true);
        assert_eq!(again.error_ids(), [0; 0]);
        assert!(got(&client, &cam).frames().eq(&frames), "{code}");
    }
}

#[test]
fn metadata_limits() {
    let server = Server::start();
    let media = Synth::new().fragments(2).build();
    let many: Vec<(String, String)> = (0..11).map(|n| (n.to_string(), String::new())).collect();
    let long = vec![("x".repeat(129), String::new())];
    let far = vec![("name".to_owned(), "x".repeat(257))];
    let aws = vec![("AWSomething".to_owned(), String::new())];
    for (index, tags) in [many, long, far, aws].into_iter().enumerate() {
        let tagged = Synth::new().each(move |_, fragment| fragment.tags_first = tags.clone());
        let document = tagged.fragments(1).build().fragments[0].document.clone();
        let tags = mkv::read(&document).documents[0].elements[2].clone();
        let element = &document[tags.offset..tags.offset + tags.len];
        let body = [
            &media.fragments[0].header[..],
            element,
            &media.fragments[0].cluster,
        ]
        .concat();
        let name = format!("cam{index}");
        server.stream(&name);
        let headers = [
            ("x-amzn-stream-name", &name[..]),
            ("x-amzn-fragment-timecode-type", "ABSOLUTE"),
        ];
        let put = put(&Client::new(&server), &headers, &body, 1000, true);
        assert_eq!(put.error_ids(), [4009]);
    }
}

#[test]
fn headers_are_checked() {
    let server = Server::builder().enforce_limits(false).start();
    server.stream("cam");
    let client = Client::new(&server);
    let name = ("x-amzn-stream-name", "cam");
    let kind = ("x-amzn-fragment-timecode-type", "ABSOLUTE");
    let cases: [(&Headers, u16, &str); 5] = [
        (&[name], 400, "InvalidArgumentException"),
        (&[kind], 400, "InvalidArgumentException"),
        (&[name, (kind.0, "EPOCH")], 400, "InvalidArgumentException"),
        (
            &[name, kind, ("x-amzn-producer-start-timestamp", "now")],
            400,
            "InvalidArgumentException",
        ),
        (
            &[("x-amzn-stream-name", "dog"), kind],
            404,
            "ResourceNotFoundException",
        ),
    ];
    for (headers, status, error) in cases {
        let put = put(&client, headers, b"", 1, true);
        assert_eq!((put.status, &put.error[..]), (status, error), "{headers:?}");
    }
    let mut wrong = client.clone();
    wrong.secret.push('x');
    let put = put(&wrong, &[name, kind], b"", 1, true);
    assert_eq!(
        (put.status, &put.error[..]),
        (403, "InvalidSignatureException")
    );
}

/// kvssink signs Connection and Transfer-Encoding, a Host without port, and not its token.
#[test]
fn signatures_as_kvssink_makes_them() {
    let server = Server::start();
    server.set_credentials(DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY, Some("a token"));
    let cam = server.stream("cam");
    let media = Synth::new().fragments(2).build();
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let http_date = httpdate::HttpDate::from(SystemTime::now()).to_string();
    // "Sun, 22 Nov 2026 09:29:40 GMT"
    let part = |range| http_date.get::<std::ops::Range<usize>>(range).unwrap();
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(part(8..11)).unwrap() / 3 + 1;
    let day = format!("{}{month:02}{}", part(12..16), part(5..7));
    let time: String = part(17..25).split(':').collect();
    let date = format!("{day}T{time}Z");
    let start = format!("{seconds}.40");
    let headers = [
        ("connection", "keep-alive"),
        ("host", "127.0.0.1"),
        ("transfer-encoding", "chunked"),
        ("user-agent", "AWS-SDK-KVS-CPP-CLIENT/3.6.0/1.6.4"),
        ("x-amz-date", &date),
        ("x-amzn-fragment-acknowledgment-required", "1"),
        ("x-amzn-fragment-timecode-type", "RELATIVE"),
        ("x-amzn-producer-start-timestamp", &start),
        ("x-amzn-stream-name", "cam"),
    ];
    let names = headers.map(|(name, _)| name).join(";");
    let lines: String = headers.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
    let hash = |data: &[u8]| -> String {
        Sha256::digest(data)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    };
    let canonical = format!("POST\n/putMedia\n\n{lines}\n{names}\n{}", hash(b""));
    let scope = format!("{day}/{DEFAULT_REGION}/kinesisvideo/aws4_request");
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hash(canonical.as_bytes())
    );
    let now = SystemTime::now();
    let key = generate_signing_key(DEFAULT_SECRET_KEY, now, DEFAULT_REGION, "kinesisvideo");
    let signature = calculate_signature(key, to_sign.as_bytes());
    let mut all: Vec<(String, String)> = headers
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    all.push((
        "Authorization".to_owned(),
        format!(
            "AWS4-HMAC-SHA256 Credential={DEFAULT_ACCESS_KEY}/{scope}, SignedHeaders={names}, \
             Signature={signature}"
        ),
    ));
    let body = media.producer_body();
    let chunked = [
        format!("{:x}\r\n", body.len()).as_bytes(),
        &body,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    all.push(("x-amz-security-token".to_owned(), "another".to_owned()));
    let refused = Client::new(&server).send("POST", "/putMedia", &all, &chunked);
    assert_eq!(
        (refused.status, refused.error()),
        (403, "UnrecognizedClientException")
    );
    all.last_mut().unwrap().1 = "a token".to_owned();
    let mut answer = Client::new(&server).send("POST", "/putMedia", &all, &chunked);
    assert_eq!((answer.status, answer.error()), (200, ""));
    answer.rest();
    let first = cam.fragments()[0].producer_timestamp_ms;
    assert_eq!(
        first,
        seconds * 1000 + 40 + media.fragments[0].producer_timestamp_ms
    );
}

#[test]
fn curl_can_upload_a_file() {
    let curl = Command::new("curl").args(["--help", "all"]).output();
    if !curl.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("--aws-sigv4")) {
        println!("skipped: there is no curl with --aws-sigv4");
        return;
    }
    let server = Server::start();
    let cam = server.stream("cam");
    let media = Synth::new().fragments(3).build();
    let file = std::env::temp_dir().join(format!("kvs-local-{}.mkv", std::process::id()));
    std::fs::write(&file, media.producer_body()).unwrap();
    let out = Command::new("curl")
        .args(["--silent", "--show-error", "--fail-with-body", "-T"])
        .arg(&file)
        .args([
            "--aws-sigv4",
            &format!("aws:amz:{DEFAULT_REGION}:kinesisvideo"),
        ])
        .args([
            "--user",
            &format!("{DEFAULT_ACCESS_KEY}:{DEFAULT_SECRET_KEY}"),
        ])
        .args(["-H", "x-amzn-stream-name: cam"])
        .args(["-H", "x-amzn-fragment-timecode-type: ABSOLUTE"])
        .arg(format!("{}/putMedia", server.endpoint_url()))
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(said.matches("PERSISTED").count(), 3, "{said}");
    assert!(
        got(&Client::new(&server), &cam)
            .frames()
            .eq(&media.frames())
    );
}

#[test]
fn a_producer_in_this_process() {
    let server = Server::start();
    let cam = server.stream("cam");
    let media = Synth::new().fragments(4).build();
    let body = media.producer_body();
    let mut producer = cam.producer(1_600_000_000_000, Timecodes::Relative);
    for piece in body.chunks(100) {
        producer.write(piece).unwrap();
    }
    assert_eq!(cam.fragments().iter().filter(|f| f.complete).count(), 3);
    producer.finish();
    assert!(
        got(&Client::new(&server), &cam)
            .frames()
            .eq(&media.frames())
    );
    let mut producer = cam.producer(0, Timecodes::Absolute);
    assert!(producer.write(b"no Matroska at all").is_err());
}

/// An upload whose times end where 64 bits do is as good as any, and harms no one.
#[test]
fn the_last_timecode_there_can_be() {
    let server = Server::start();
    let cam = server.stream("cam");
    let media = Synth::new().build();
    let block = |offset: i16| {
        let [high, low] = offset.to_be_bytes();
        [0xA3, 0x85, 0x81, high, low, 0x80, 0x00]
    };
    let mut end = Vec::new();
    let tag = ("AWS_KINESISVIDEO_END_OF_FRAGMENT", "");
    ebml::put_tags(&mut end, [tag], SizeWidth::Minimal);
    let body = [
        &media.fragments[0].header[..],
        // A Cluster of unknown size, and its Timecode.
        b"\x1F\x43\xB6\x75\xFF\xE7\x88\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        &block(-10),
        &block(0),
        &end,
    ]
    .concat();
    let client = Client::new(&server);
    let put = put(&client, &ABSOLUTE, &body, 1000, true);
    let events = ["BUFFERING", "RECEIVED", "PERSISTED"];
    assert_eq!(put.events(), events.map(|e| (e.to_owned(), u64::MAX)));
    let selector = json!({ "StartSelectorType": "EARLIEST" });
    let answer = client.get_media("cam", &selector);
    assert_eq!(answer.status, 200);
    let described = client.call("/describeStream", &json!({ "StreamName": "cam" }));
    assert_eq!(described.status, 200);
    assert_eq!(cam.fragments().len(), 1);
}

#[test]
fn a_first_cluster_tells_what_timecodes_count_from() {
    let server = Server::start();
    let start = 1_600_000_000_000;
    let times = |name: &str, timecodes: [u64; 3]| -> Vec<u64> {
        let media = Synth::new().each(move |index, fragment| {
            fragment.timecode_ms = timecodes[index];
        });
        let stream = server.stream(name);
        let mut producer = stream.producer(start, None);
        producer.write(&media.build().producer_body()).unwrap();
        producer.finish();
        let fragments = stream.fragments();
        fragments.iter().map(|f| f.producer_timestamp_ms).collect()
    };
    let year_2000 = 946_684_800_000;
    let absolute = [year_2000, year_2000 + 1, 1_700_000_000_000];
    assert_eq!(times("absolute", absolute), absolute);
    // Only the first is asked: a clock that runs past 2000 is still the same clock.
    let relative = [year_2000 - 1, year_2000, year_2000 + 1];
    let from_start = relative.map(|timecode| start + timecode);
    assert_eq!(times("relative", relative), from_start);
}

#[test]
fn a_block_may_stand_before_its_cluster() {
    let server = Server::start();
    let cam = server.stream("cam");
    let media = Synth::new().fragments(1).frames(1).build();
    let frame = &media.frames()[0];
    let mut body = media.producer_body().to_vec();
    let at = |window: &[u8]| window == &frame.payload[..];
    let payload = body.windows(frame.payload.len()).position(at).unwrap();
    // Before the payload are 16 bits of time and 8 of flags.
    body[payload - 3..payload - 1].copy_from_slice(&(-5i16).to_be_bytes());
    assert_eq!(cam.load_matroska(&body, 0, Timecodes::Absolute), 1);
    let fragments = cam.fragments();
    assert!(fragments[0].complete);
    assert_eq!(fragments[0].duration_ms, 0);
}
