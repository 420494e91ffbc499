//! Signatures, arguments, limits, the control plane.

mod common;

use std::time::{Duration, SystemTime};

use common::{Client, PATIENCE};
use kvs_local::{Server, synth::Synth};
use serde_json::{Value, json};

fn describe(client: &Client) -> (u16, String) {
    let answer = client.call("/describeStream", &json!({ "StreamName": "cam" }));
    (answer.status, answer.error().to_owned())
}

fn refused(code: &str) -> (u16, String) {
    (403, code.to_owned())
}

#[test]
fn signatures_are_verified() {
    let server = Server::builder().enforce_limits(false).start();
    server.stream("cam");
    let good = Client::new(&server);
    let with = |change: &dyn Fn(&mut Client)| {
        let mut client = good.clone();
        change(&mut client);
        describe(&client)
    };
    assert_eq!(describe(&good).0, 200);
    let invalid = refused("InvalidSignatureException");
    assert_eq!(with(&|c| c.secret.push('x')), invalid);
    assert_eq!(with(&|c| c.region = "eu-west-1".into()), invalid);
    assert_eq!(with(&|c| c.service = "kinesis".into()), invalid);
    let unknown = refused("UnrecognizedClientException");
    assert_eq!(with(&|c| c.access = "AKIDOTHER".into()), unknown);
    assert_eq!(
        with(&|c| c.token = Some("a token the key has not".into())),
        unknown
    );
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    assert_eq!(with(&|c| c.time = SystemTime::now() - minutes(6)), invalid);
    assert_eq!(with(&|c| c.time = SystemTime::now() + minutes(6)), invalid);
    assert_eq!(with(&|c| c.time = SystemTime::now() - minutes(4)).0, 200);
    assert_eq!(with(&|c| c.time = SystemTime::now() + minutes(4)).0, 200);

    let headers = [("host".to_owned(), good.address.clone())];
    let answer = good.send("POST", "/describeStream", &headers, b"{}");
    assert_eq!(
        (answer.status, answer.error()),
        (403, "MissingAuthenticationTokenException")
    );

    // The body is signed, too.
    let headers = good.signed("POST", "/describeStream", &[], br#"{"StreamName":"cam"}"#);
    let answer = good.send(
        "POST",
        "/describeStream",
        &headers,
        br#"{"StreamName":"dog"}"#,
    );
    assert_eq!(answer.error(), "InvalidSignatureException");
}

#[test]
fn session_tokens_and_expiry() {
    let server = Server::builder()
        .enforce_limits(false)
        .credentials("ASIASESSION", "secret", Some("the-token"))
        .credentials("AKIDLASTING", "other", None)
        .start();
    server.stream("cam");
    let mut client = Client::new(&server);
    assert_eq!(describe(&client), refused("UnrecognizedClientException"));
    (client.access, client.secret) = ("ASIASESSION".into(), "secret".into());
    assert_eq!(describe(&client), refused("UnrecognizedClientException"));
    client.token = Some("the-token".into());
    assert_eq!(describe(&client).0, 200);

    // kvssink sends the token without signing it.
    let mut unsigned = client.clone();
    unsigned.token = None;
    let body = br#"{"StreamName":"cam"}"#;
    let mut headers = unsigned.signed("POST", "/describeStream", &[], body);
    headers.push(("x-amz-security-token".into(), "the-token".into()));
    assert_eq!(
        client
            .send("POST", "/describeStream", &headers, body)
            .status,
        200
    );

    server.expire_credentials("ASIASESSION");
    assert_eq!(describe(&client), refused("ExpiredTokenException"));
    server.set_credentials("ASIASESSION", "secret", Some("the-next"));
    client.token = Some("the-next".into());
    assert_eq!(describe(&client).0, 200);
    server.remove_credentials("ASIASESSION");
    assert_eq!(describe(&client), refused("UnrecognizedClientException"));
}

#[test]
fn the_host_counts_as_it_was_signed() {
    let server = Server::start();
    server.stream("cam");
    let mut client = Client::new(&server);
    let address = client.address.clone();
    client.address = "127.0.0.1".into();
    let body = br#"{"StreamName":"cam"}"#;
    let headers = client.signed("POST", "/describeStream", &[], body);
    client.address = address;
    assert_eq!(
        client
            .send("POST", "/describeStream", &headers, body)
            .status,
        200
    );
}

/// kvssink's Host has no port, so that a data endpoint made of it needs the listener's.
#[test]
fn the_data_endpoint_has_a_port_whatever_the_host_has() {
    let server = Server::builder()
        .listen(([0, 0, 0, 0], 0).into())
        .enforce_limits(false)
        .start();
    server.stream("cam");
    let port = server.local_addr().port();
    let address = format!("127.0.0.1:{port}");
    let body = br#"{"StreamName":"cam","APIName":"PUT_MEDIA"}"#;
    for (host, reached) in [
        ("127.0.0.1", address.clone()),
        ("localhost", format!("localhost:{port}")),
        ("[::1]", format!("[::1]:{port}")),
        ("127.0.0.1:8080", "127.0.0.1:8080".to_owned()),
        ("[::1]:8080", "[::1]:8080".to_owned()),
    ] {
        let mut client = Client::new(&server);
        client.address = host.to_owned();
        let headers = client.signed("POST", "/getDataEndpoint", &[], body);
        client.address.clone_from(&address);
        let answer = client.send("POST", "/getDataEndpoint", &headers, body);
        assert_eq!(answer.status, 200, "{host}");
        let endpoint = &answer.json()["DataEndpoint"];
        assert_eq!(*endpoint, format!("http://{reached}"), "{host}");
    }
}

#[test]
fn arguments_are_checked() {
    let server = Server::builder().enforce_limits(false).start();
    let arn = server.stream("cam").arn().to_owned();
    let client = Client::new(&server);
    let selector = |selector: Value| json!({ "StreamName": "cam", "StartSelector": selector });
    let now = json!({ "StartSelectorType": "NOW" });
    let long = "9".repeat(129);
    let invalid = [
        json!({ "StartSelector": now }),
        json!({ "StreamName": "", "StartSelector": now }),
        json!({ "StreamName": "a b", "StartSelector": now }),
        json!({ "StreamName": "x".repeat(257), "StartSelector": now }),
        json!({ "StreamARN": "arn:aws:kinesis:us-west-2:1:stream/cam/1", "StartSelector": now }),
        json!({ "StreamName": "cam" }),
        selector(json!({})),
        selector(json!({ "StartSelectorType": "LATEST" })),
        selector(json!({ "StartSelectorType": "FRAGMENT_NUMBER" })),
        selector(json!({ "StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": "12a" })),
        selector(json!({ "StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": long })),
        selector(json!({ "StartSelectorType": "CONTINUATION_TOKEN" })),
        selector(json!({ "StartSelectorType": "CONTINUATION_TOKEN", "ContinuationToken": "a b" })),
        selector(json!({ "StartSelectorType": "SERVER_TIMESTAMP" })),
        selector(json!({ "StartSelectorType": "SERVER_TIMESTAMP", "StartTimestamp": -1 })),
        selector(json!({ "StartSelectorType": "NOW", "StartTimestamp": 1 })),
        selector(json!({ "StartSelectorType": "EARLIEST", "AfterFragmentNumber": "1" })),
    ];
    for body in invalid {
        let answer = client.call("/getMedia", &body);
        let got = (answer.status, answer.error().to_owned());
        assert_eq!(got, (400, "InvalidArgumentException".to_owned()), "{body}");
        assert!(answer.json()["Message"].is_string());
    }
    for body in [
        json!({ "StreamName": "dog", "StartSelector": now }),
        json!({ "StreamARN": arn.replace("us-west-2", "us-west-1"), "StartSelector": now }),
    ] {
        let answer = client.call("/getMedia", &body);
        assert_eq!(
            (answer.status, answer.error()),
            (404, "ResourceNotFoundException")
        );
    }
    let answer = client.call(
        "/getMedia",
        &json!({ "StreamName": 7, "StartSelector": now }),
    );
    assert_eq!(
        (answer.status, answer.error()),
        (400, "SerializationException")
    );
    let answer = client.call(
        "/getMedia",
        &json!({ "StreamARN": arn, "StartSelector": now }),
    );
    assert_eq!(answer.status, 200);
    let answer = client.call("/getClip", &json!({}));
    assert_eq!(
        (answer.status, answer.error()),
        (404, "UnknownOperationException")
    );
}

#[test]
fn five_calls_a_second_for_a_stream_and_operation() {
    let server = Server::start();
    server.stream("cam");
    server.stream("dog");
    let client = Client::new(&server);
    // Five within a second, though more in all where the machine is slow.
    let begun = std::time::Instant::now();
    let mut answered = 0;
    let refusal = loop {
        match describe(&client) {
            (200, _) => answered += 1,
            refusal => break refusal,
        }
    };
    let limited = (400, "ClientLimitExceededException".to_owned());
    assert_eq!(refusal, limited);
    let seconds = begun.elapsed().as_secs() as usize + 1;
    assert!((5..=5 * seconds).contains(&answered), "{answered}");
    // Another stream and another operation are counted for themselves.
    let other = client.call("/describeStream", &json!({ "StreamName": "dog" }));
    assert_eq!(other.status, 200);
    let endpoint = json!({ "StreamName": "cam", "APIName": "GET_MEDIA" });
    assert_eq!(client.call("/getDataEndpoint", &endpoint).status, 200);
    assert!(server.wait_until(PATIENCE, |_| describe(&client).0 == 200));
}

#[test]
fn three_connections_for_a_stream() {
    let server = Server::start();
    server.stream("cam");
    let client = Client::new(&server);
    let open: Vec<_> = (0..3).map(|_| client.earliest("cam")).collect();
    assert!(open.iter().all(|answer| answer.status == 200));
    assert_eq!(server.open_connections("cam"), 3);
    let fourth = client.earliest("cam");
    assert_eq!(
        (fourth.status, fourth.error()),
        (400, "ConnectionLimitExceededException")
    );
    drop(open);
    assert!(server.wait_until(PATIENCE, |s| s.open_connections("cam") == 0));
    assert_eq!(client.earliest("cam").status, 200);
}

#[test]
fn the_control_plane() {
    let server = Server::builder().region("eu-central-1").start();
    let mut client = Client::new(&server);
    client.region = "eu-central-1".into();
    let create =
        json!({ "StreamName": "cam.1", "DataRetentionInHours": 24, "MediaType": "video/h264" });
    let created = client.call("/createStream", &create).json();
    let arn = created["StreamARN"].as_str().unwrap().to_owned();
    assert!(arn.starts_with("arn:aws:kinesisvideo:eu-central-1:111122223333:stream/cam.1/"));
    let again = client.call("/createStream", &create);
    assert_eq!(
        (again.status, again.error()),
        (400, "ResourceInUseException")
    );

    let tags = json!({ "StreamARN": arn, "Tags": { "place": "door" } });
    assert_eq!(client.call("/tagStream", &tags).status, 200);
    let info = client
        .call("/describeStream", &json!({ "StreamARN": arn }))
        .json();
    let info = &info["StreamInfo"];
    assert_eq!(
        (&info["StreamName"], &info["Status"]),
        (&json!("cam.1"), &json!("ACTIVE"))
    );
    assert_eq!(
        (&info["DataRetentionInHours"], &info["MediaType"]),
        (&json!(24), &json!("video/h264"))
    );
    assert!(info["CreationTime"].as_f64().unwrap() > 1.7e9);

    server.stream("cam.2");
    server.stream("dog");
    let cams = json!({ "ComparisonOperator": "BEGINS_WITH", "ComparisonValue": "cam" });
    let mut names = Vec::new();
    let mut token = Value::Null;
    loop {
        let ask = json!({ "MaxResults": 1, "NextToken": token, "StreamNameCondition": cams });
        let page = client.call("/listStreams", &ask).json();
        let infos = page["StreamInfoList"].as_array().unwrap();
        assert_eq!(infos.len(), 1);
        names.push(infos[0]["StreamName"].as_str().unwrap().to_owned());
        match page.get("NextToken") {
            Some(next) => token = next.clone(),
            None => break,
        }
    }
    assert_eq!(names, ["cam.1", "cam.2"]);

    let ask = json!({ "StreamName": "cam.1", "APIName": "GET_MEDIA" });
    let endpoint = client.call("/getDataEndpoint", &ask).json();
    assert_eq!(endpoint["DataEndpoint"], server.endpoint_url());
    server.set_data_endpoint(Some("https://elsewhere.example".into()));
    let endpoint = client.call("/getDataEndpoint", &ask).json();
    assert_eq!(endpoint["DataEndpoint"], "https://elsewhere.example");
    let wrong = json!({ "StreamName": "cam.1", "APIName": "GET_EVERYTHING" });
    assert_eq!(
        client.call("/getDataEndpoint", &wrong).error(),
        "InvalidArgumentException"
    );

    assert_eq!(
        client
            .call("/deleteStream", &json!({ "StreamARN": arn }))
            .status,
        200
    );
    let gone = client.call("/describeStream", &json!({ "StreamName": "cam.1" }));
    assert_eq!(
        (gone.status, gone.error()),
        (404, "ResourceNotFoundException")
    );
}

#[test]
fn the_log_keeps_the_latest_requests() {
    for (most, kept) in [(None, ["a", "b", "c"].as_slice()), (Some(2), &["b", "c"])] {
        let mut builder = Server::builder();
        if let Some(most) = most {
            builder = builder.keep_requests(most);
        }
        let server = builder.start();
        let client = Client::new(&server);
        for name in ["a", "b", "c"] {
            client.call("/describeStream", &json!({ "StreamName": name }));
        }
        let requests = server.requests();
        let names = requests.iter().map(|r| r.stream.as_deref().unwrap());
        assert!(names.eq(kept.iter().copied()), "{most:?}: {requests:?}");
    }
}

#[test]
fn streams_are_of_every_partition() {
    for (region, start) in [
        ("cn-north-1", "arn:aws-cn:"),
        ("us-gov-west-1", "arn:aws-us-gov:"),
    ] {
        let server = Server::builder().region(region).start();
        assert!(server.stream("cam").arn().starts_with(start));
    }
}

#[test]
fn stopping_closes_every_connection() {
    let server = Server::start();
    let media = Synth::new().fragments(1).build();
    media.push_to(&server.stream("cam"));
    let mut answer = Client::new(&server).earliest("cam");
    answer.take(media.recording().len());
    let begun = std::time::Instant::now();
    drop(server);
    let (rest, end) = answer.body(usize::MAX, PATIENCE);
    assert!(rest.is_empty() && end == Some(common::End::Fin), "{end:?}");
    assert!(begun.elapsed() < Duration::from_secs(2));
}
