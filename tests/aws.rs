//! The AWS side against a small HTTP server: what is asked, how often, and what each answer becomes.

mod wire;

use gstkvsgetmedia::aws::{Client, Config, Credentials};
use gstkvsgetmedia::error::{Error, ErrorKind, Operation};
use gstkvsgetmedia::request::{Selector, StreamId};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use wire::*;

// ---- requests ---------------------------------------------------------------------------------

/// The members of a JSON object without commas in its strings, those of `StartSelector` among them,
/// sorted.
fn members(json: &str) -> Vec<String> {
    let json = json
        .replace(r#""StartSelector":{"#, "")
        .replace(['{', '}'], "");
    let mut members: Vec<String> = json.split(',').map(str::to_owned).collect();
    members.sort();
    members
}

#[tokio::test]
async fn every_selector_asks_what_the_service_wants() {
    let server = Server::new(|_| vec![head(), end()]).await;
    let number = "91343852333181432392682062622220590765191907586";
    let cases = [
        (Selector::Now, String::from(r#""StartSelectorType":"NOW""#)),
        (
            Selector::Earliest,
            String::from(r#""StartSelectorType":"EARLIEST""#),
        ),
        (
            Selector::AfterFragment(number.into()),
            format!(r#""StartSelectorType":"FRAGMENT_NUMBER","AfterFragmentNumber":"{number}""#),
        ),
        (
            Selector::ProducerTimestamp(1_511_852_108_513),
            String::from(
                r#""StartSelectorType":"PRODUCER_TIMESTAMP","StartTimestamp":1511852108.513"#,
            ),
        ),
        (
            Selector::ServerTimestamp(1_511_852_109_000),
            String::from(r#""StartSelectorType":"SERVER_TIMESTAMP","StartTimestamp":1511852109"#),
        ),
        (
            Selector::ContinuationToken("a.token_1-2".into()),
            String::from(
                r#""StartSelectorType":"CONTINUATION_TOKEN","ContinuationToken":"a.token_1-2""#,
            ),
        ),
    ];
    for (n, (selector, wanted)) in cases.iter().enumerate() {
        let name = format!("selectors-{n}");
        let client = connect(settings(&server, &name)).await;
        let mut body = client
            .get_media(&server.url(), selector)
            .await
            .expect("media");
        assert_eq!(body.request_id(), Some("req-media"));
        assert_eq!(all(&mut body).await, Ok(Vec::new()));
        let request = server.requests().pop().expect("request");
        assert_eq!(request.path, "/getMedia");
        let name = format!(r#""StreamName":"{name}""#);
        assert_eq!(members(&request.body), members(&format!("{name},{wanted}")));
        let authorization = request.header("authorization").expect("signed");
        assert!(
            authorization.contains("/eu-west-1/kinesisvideo/aws4_request"),
            "{authorization}"
        );
        let token = request.header("x-amz-security-token");
        assert_eq!(token, Some(format!("{MARKER}/token").as_str()));
    }
}

#[tokio::test]
async fn the_endpoint_is_looked_up_by_arn_and_used() {
    let data = Server::new(|_| vec![head(), chunk(b"media"), end()]).await;
    let url = data.url();
    let control = Server::new(move |_| vec![endpoint_answer(&url)]).await;
    let arn = "arn:aws:kinesisvideo:eu-west-1:123456789012:stream/by-arn/1511852108513";
    let config = Config {
        stream: StreamId::Arn(arn.into()),
        ..settings(&control, "")
    };
    let client = connect(config).await;
    let endpoint = client.data_endpoint().await.expect("endpoint");
    assert_eq!(endpoint, data.url());
    let mut body = client
        .get_media(&endpoint, &Selector::Now)
        .await
        .expect("media");
    assert_eq!(all(&mut body).await, Ok(b"media".to_vec()));
    let request = control.requests().pop().expect("request");
    assert_eq!(request.path, "/getDataEndpoint");
    let stream = format!(r#""StreamARN":"{arn}""#);
    assert_eq!(
        members(&request.body),
        members(&format!(r#"{stream},"APIName":"GET_MEDIA""#))
    );
    assert!(data.requests()[0].body.contains(&stream));
}

#[tokio::test]
async fn the_endpoint_is_asked_for_once_by_all() {
    let server = Server::new(|_| {
        vec![
            Step::Wait(Duration::from_millis(100)),
            endpoint_answer("http://127.0.0.1:9/data"),
        ]
    })
    .await;
    let first = connect(settings(&server, "shared")).await;
    let second = connect(settings(&server, "shared")).await;
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..40 {
        let client = if n % 2 == 0 {
            first.clone()
        } else {
            second.clone()
        };
        callers.spawn(async move { client.data_endpoint().await });
    }
    for endpoint in callers.join_all().await {
        assert_eq!(endpoint.expect("endpoint"), "http://127.0.0.1:9/data");
    }
    assert_eq!(server.requests().len(), 1);
    // Both have seen it fail: one lookup replaces it for both.
    first.forget_data_endpoint();
    first.data_endpoint().await.expect("endpoint");
    second.forget_data_endpoint();
    second.data_endpoint().await.expect("endpoint");
    assert_eq!(server.requests().len(), 2);
    // Another stream has another endpoint.
    let other = connect(settings(&server, "not-shared")).await;
    other.data_endpoint().await.expect("endpoint");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_configured_data_endpoint_needs_no_lookup() {
    let server = Server::always("500 X", "", "").await;
    let url = String::from("https://data.example");
    let config = Config {
        data_endpoint_url: Some(url.clone()),
        ..settings(&server, "configured")
    };
    let client = connect(config).await;
    client.forget_data_endpoint();
    assert_eq!(client.data_endpoint().await, Ok(url));
    assert!(server.requests().is_empty());
}

fn most_in_a_second(requests: &[Request]) -> usize {
    let second = Duration::from_secs(1);
    let count = |from: &Request| {
        requests
            .iter()
            .filter(|r| r.at >= from.at && r.at < from.at + second)
            .count()
    };
    requests.iter().map(count).max().unwrap_or(0)
}

#[tokio::test]
async fn never_more_than_five_calls_in_a_second() {
    let media = Server::new(|_| vec![head(), end()]).await;
    let control = Server::always("500 X", "", "").await;
    let started = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..14 {
        // The same stream by another client, and by its ARN.
        let mut config = settings(&media, "limited");
        if n % 2 == 0 {
            let arn = "arn:aws:kinesisvideo:eu-west-1:123456789012:stream/limited/1511852108513";
            config.stream = StreamId::Arn(arn.into());
        }
        let (client, url) = (connect(config).await, media.url());
        calls.spawn(async move { client.get_media(&url, &Selector::Now).await.map(drop) });
    }
    for n in 0..7 {
        let client = connect(settings(&control, "limited")).await;
        calls.spawn(async move {
            tokio::time::sleep(Duration::from_millis(10) * n).await;
            client.data_endpoint().await.map(drop).or(Ok(()))
        });
    }
    for result in calls.join_all().await {
        result.expect("call");
    }
    assert_eq!(media.requests().len(), 14);
    assert!(most_in_a_second(&media.requests()) <= 5);
    assert!(most_in_a_second(&control.requests()) <= 5);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test]
async fn never_more_than_300_look_ups_in_a_second() {
    let control = Server::always("500 X", "", "").await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..400 {
        let client = connect(settings(&control, &format!("wall-{n}"))).await;
        calls.spawn(async move { client.data_endpoint().await.is_err() });
    }
    assert!(calls.join_all().await.into_iter().all(|failed| failed));
    assert_eq!(control.requests().len(), 400);
    let most = most_in_a_second(&control.requests());
    assert!(most <= 300, "{most}");
}

// ---- bodies and time --------------------------------------------------------------------------

#[tokio::test]
async fn a_silent_body_outlives_every_timeout() {
    let silence = Duration::from_secs(15);
    let server = Server::new(move |_| {
        vec![
            head(),
            chunk(b"before"),
            Step::Wait(silence),
            chunk(b"after"),
            end(),
        ]
    })
    .await;
    let client = connect(settings(&server, "silent")).await;
    // The server's silence begins before its headers are here.
    let started = Instant::now();
    let mut body = client
        .get_media(&server.url(), &Selector::Now)
        .await
        .expect("media");
    assert_eq!(all(&mut body).await, Ok(b"beforeafter".to_vec()));
    assert!(started.elapsed() >= silence);
    assert_eq!(body.next().await, None);
}

#[tokio::test]
async fn a_body_loses_nothing_to_cancelled_waits() {
    let server = Server::new(|_| {
        let mut steps = vec![head()];
        for n in 0..100u8 {
            steps.extend([chunk(&[n; 10]), Step::Wait(Duration::from_millis(3))]);
        }
        steps.push(end());
        steps
    })
    .await;
    let client = connect(settings(&server, "cancelled")).await;
    let mut body = client
        .get_media(&server.url(), &Selector::Now)
        .await
        .expect("media");
    let (mut bytes, mut cancelled) = (Vec::new(), 0);
    loop {
        match tokio::time::timeout(Duration::from_millis(1), body.next()).await {
            Err(_) => cancelled += 1,
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.expect("chunk")),
            Ok(None) => break,
        }
    }
    assert!(cancelled > 10, "{cancelled}");
    let wanted: Vec<u8> = (0..100u8).flat_map(|n| [n; 10]).collect();
    assert_eq!(bytes, wanted);
}

#[tokio::test]
async fn a_cut_body_is_a_network_error_with_its_request() {
    let cut = Step::Send(b"ff\r\ncut".to_vec());
    let server =
        Server::new(move |_| vec![head(), chunk(b"whole"), cut.clone(), Step::Close]).await;
    let client = connect(settings(&server, "cut")).await;
    let mut body = client
        .get_media(&server.url(), &Selector::Now)
        .await
        .expect("media");
    let (bytes, error) = all(&mut body).await.expect_err("cut");
    assert_eq!(bytes, b"wholecut");
    assert_eq!(
        (error.kind, error.operation),
        (ErrorKind::Network, Some(Operation::GetMedia))
    );
    assert_eq!(error.request_id.as_deref(), Some("req-media"));
    assert!(
        error.message.contains(&server.address.to_string()),
        "{error}"
    );
    assert!(error.message.contains("end of file"), "{error}");
    assert_eq!(body.next().await, None);
}

#[tokio::test]
async fn headers_that_never_come_end_in_time() {
    let server = Server::new(|_| vec![Step::Hang]).await;
    let client = connect(settings(&server, "headers")).await;
    let started = Instant::now();
    let error = client
        .get_media(&server.url(), &Selector::Now)
        .await
        .expect_err("no headers");
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(1900)..Duration::from_secs(4)).contains(&took),
        "{took:?}"
    );
    assert_eq!(
        (error.kind, error.operation),
        (ErrorKind::Network, Some(Operation::GetMedia))
    );
    assert!(
        error.message.contains(&server.address.to_string()),
        "{error}"
    );
    assert!(error.message.contains("connect-timeout"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let server = Server::new(|_| vec![Step::Hang]).await;
    let config = Config {
        connect_timeout: Duration::ZERO,
        ..settings(&server, "dropped")
    };
    let client = connect(config).await;
    let url = server.url();
    let start = Selector::Now;
    let call = client.get_media(&url, &start);
    // Longer than the SDK's own connect timeout of 3.1 s: zero means none.
    assert!(
        tokio::time::timeout(Duration::from_millis(3500), call)
            .await
            .is_err()
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.gone.load(Ordering::Relaxed), 1);
}

#[test]
fn a_client_works_in_each_of_several_runtimes() {
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("runtime").block_on(async {
            let server = Server::new(|_| vec![endpoint_answer("http://127.0.0.1:9")]).await;
            let config = Config {
                endpoint_url: None,
                ..settings(&server, "runtimes")
            };
            // Equal configurations: nothing but the runtime tells them apart.
            let client = connect(config).await;
            let media = Server::new(|_| vec![head(), end()]).await;
            for _ in 0..2 {
                client
                    .get_media(&media.url(), &Selector::Now)
                    .await
                    .expect("media");
            }
        });
    }
}

// ---- errors -----------------------------------------------------------------------------------

/// Asks a server that answers so, as both operations; one call each, whatever the answer.
async fn errors_of(stream: &str, answer: Step) -> [Error; 2] {
    let server = Server::new(move |_| vec![answer.clone()]).await;
    let client = connect(settings(&server, stream)).await;
    let endpoint = client.data_endpoint().await.expect_err("endpoint");
    assert_eq!(endpoint.operation, Some(Operation::GetDataEndpoint));
    let media = client
        .get_media(&server.url(), &Selector::Now)
        .await
        .expect_err("media");
    assert_eq!(media.operation, Some(Operation::GetMedia));
    assert_eq!(server.requests().len(), 2, "no retries but the caller's");
    [endpoint, media]
}

#[tokio::test]
async fn each_error_of_the_service_has_its_kind() {
    use ErrorKind::*;
    let cases = [
        (400, "ClientLimitExceededException", Throttled, "5 a second"),
        (
            400,
            "ConnectionLimitExceededException",
            Throttled,
            "3 are allowed",
        ),
        (
            400,
            "InvalidEndpointException",
            Endpoint,
            "is not served at",
        ),
        (
            400,
            "InvalidArgumentException",
            Settings,
            "refuses the request's values",
        ),
        (
            401,
            "NotAuthorizedException",
            NotAuthorized,
            "may not call kinesisvideo:Get",
        ),
        (
            403,
            "AccessDeniedException",
            NotAuthorized,
            "may not call kinesisvideo:Get",
        ),
        (
            404,
            "ResourceNotFoundException",
            NotFound,
            "check stream-name and aws-region",
        ),
        // Keys that were given cannot be renewed.
        (
            403,
            "ExpiredTokenException",
            NotAuthorized,
            "have expired; set access-key",
        ),
        (
            403,
            "InvalidClientTokenId",
            NotAuthorized,
            "are not known to AWS",
        ),
        (
            403,
            "UnrecognizedClientException",
            NotAuthorized,
            "are not known to AWS",
        ),
        (
            403,
            "InvalidSignatureException",
            NotAuthorized,
            "does not belong to its access key",
        ),
        (
            403,
            "RequestTimeTooSkewed",
            NotAuthorized,
            "check this machine's clock",
        ),
        (400, "ThrottlingException", Throttled, "fewer calls"),
        (429, "TooManyRequestsException", Throttled, "fewer calls"),
        (500, "InternalFailure", Server, "the service failed"),
        (502, "BadGateway", Server, "failed"),
        (
            503,
            "ServiceUnavailableException",
            Server,
            "the service failed",
        ),
        (504, "GatewayTimeout", Server, "failed"),
        (
            400,
            "KMSAccessDeniedException",
            NotAuthorized,
            "kms:Decrypt",
        ),
        (400, "KMSDisabledException", Service, "KMS key"),
        (400, "KMSInvalidStateException", Service, "KMS key"),
        (400, "KMSThrottlingException", Throttled, "fewer calls"),
        (400, "SomethingNewException", Service, "refuses"),
        (403, "SomethingNewException", NotAuthorized, "were refused"),
    ];
    for (n, (status, code, kind, says)) in cases.into_iter().enumerate() {
        let answer = error_response(status, code, "said by the service");
        for error in errors_of(&format!("errors-{n}"), answer).await {
            assert_eq!(error.kind, kind, "{code}: {error}");
            assert_eq!(error.code.as_deref(), Some(code));
            assert_eq!(error.http_status, Some(status));
            assert_eq!(error.request_id.as_deref(), Some("req-1"));
            assert!(error.message.contains(says), "{code}: {error}");
            if !code.contains("Signature") && !code.contains("Skewed") {
                assert!(
                    error.message.ends_with("(it says: said by the service)"),
                    "{error}"
                );
            }
        }
    }
}

#[tokio::test]
async fn answers_without_a_code_go_by_their_status() {
    use ErrorKind::*;
    let xml = "<?xml version=\"1.0\"?><AccessDeniedException><Message>Unable to determine \
               service/operation name to be authorized</Message></AccessDeniedException>";
    let id = "x-amzn-RequestId: req-x\r\n";
    let cases = [
        (
            response("403 Forbidden", id, xml),
            NotAuthorized,
            403,
            "endpoint of another region",
        ),
        (
            response("403 Forbidden", id, xml),
            NotAuthorized,
            403,
            "Unable to determine service",
        ),
        (
            response("401 X", "x-amz-RequestId: req-x\r\n", ""),
            NotAuthorized,
            401,
            "wrong host",
        ),
        (
            response("404 X", id, "<html>not here</html>"),
            Service,
            404,
            "not one of Kinesis",
        ),
        (response("407 X", id, ""), NotAuthorized, 407, "proxy"),
        (response("429 X", id, ""), Throttled, 429, "fewer calls"),
        (response("500 X", id, "oops"), Server, 500, "failed"),
        (response("503 X", id, "<html/>"), Server, 503, "failed"),
    ];
    for (n, (answer, kind, status, says)) in cases.into_iter().enumerate() {
        for error in errors_of(&format!("bare-{n}"), answer).await {
            assert_eq!(
                (error.kind, error.http_status),
                (kind, Some(status)),
                "{error}"
            );
            assert_eq!(error.code, None);
            assert_eq!(error.request_id.as_deref(), Some("req-x"));
            assert!(error.message.contains(says), "{error}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_answer_that_is_none() {
    for (n, body) in ["{}", "not json", r#"{"DataEndpoint":"nowhere"}"#]
        .iter()
        .enumerate()
    {
        let server = Server::always("200 OK", "x-amzn-requestid: req-n\r\n", body).await;
        let client = connect(settings(&server, &format!("none-{n}"))).await;
        let error = client.data_endpoint().await.expect_err(body);
        assert_eq!(error.kind, ErrorKind::Service, "{error}");
        assert_eq!(error.request_id.as_deref(), Some("req-n"));
        assert!(
            error.message.contains("not one of Kinesis Video Streams"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_named_with_the_cause() {
    let server = Server::always("200 OK", "", "").await;
    // Not TLS, and not HTTP either.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let plain = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(b"220 mail server\r\n").await;
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    });
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        listener.local_addr().expect("address")
    };
    let cases = [
        (format!("http://{refused}"), refused.to_string(), "refused"),
        (
            "http://no-such-host.invalid".into(),
            "no-such-host.invalid".into(),
            "check the host",
        ),
        (
            format!("https://{plain}"),
            plain.to_string(),
            "orrupt message",
        ),
    ];
    for (n, (url, host, cause)) in cases.into_iter().enumerate() {
        let config = Config {
            endpoint_url: Some(url.clone()),
            ..settings(&server, &format!("gone-{n}"))
        };
        let client = connect(config).await;
        let endpoint = client.data_endpoint().await.expect_err(&url);
        let media = client
            .get_media(&url, &Selector::Now)
            .await
            .expect_err(&url);
        for error in [endpoint, media] {
            println!("{error}");
            assert_eq!(error.kind, ErrorKind::Network, "{error}");
            assert!(
                error.message.contains(&format!("cannot reach {host}: ")),
                "{error}"
            );
            assert!(error.message.contains(cause), "{error}");
            assert!(!error.message.contains("dispatch failure"), "{error}");
        }
    }
}

#[tokio::test]
async fn an_answer_cut_off_is_a_network_error() {
    let cut = Step::Send(b"HTTP/1.1 500 X\r\ncontent-length: 100\r\n\r\n{".to_vec());
    let server = Server::new(move |_| vec![cut.clone(), Step::Close]).await;
    let client = connect(settings(&server, "cut-off")).await;
    for error in [
        client.data_endpoint().await.expect_err("cut"),
        client
            .get_media(&server.url(), &Selector::Now)
            .await
            .map(drop)
            .expect_err("cut"),
    ] {
        println!("{error}");
        assert_eq!(error.kind, ErrorKind::Network, "{error}");
    }
}

#[tokio::test]
async fn urls_are_checked_before_anything_is_asked() {
    let server = Server::always("200 OK", "", "").await;
    for (url, says) in [
        ("nonsense", "endpoint-url is not a URL"),
        ("ftp://host", "endpoint-url must begin with https://"),
        (
            "https://user:xyzzySECRETxyzzy@host",
            "endpoint-url must not carry a user name",
        ),
    ] {
        let config = Config {
            endpoint_url: Some(url.into()),
            ..settings(&server, "urls")
        };
        assert!(!format!("{config:?}").contains(MARKER));
        let error = Client::new(config).await.expect_err(url);
        assert_eq!(error.kind, ErrorKind::Settings);
        assert!(error.message.starts_with(says), "{error}");
        assert!(!error.message.contains(MARKER), "{error}");
    }
    let config = Config {
        data_endpoint_url: Some("x".into()),
        ..settings(&server, "urls")
    };
    let error = Client::new(config).await.expect_err("data endpoint");
    assert!(
        error.message.starts_with("data-endpoint-url is not a URL"),
        "{error}"
    );
    let config = Config {
        region: Some("no region".into()),
        ..settings(&server, "urls")
    };
    let config = Config {
        endpoint_url: None,
        ..config
    };
    let error = Client::new(config).await.expect_err("region");
    assert_eq!(error.kind, ErrorKind::Settings, "{error}");
    assert!(error.message.contains("aws-region"), "{error}");
}

/// The time of a signed request, as `YYYYMMDDTHHMMSSZ` has it.
fn signed_hour(request: &Request) -> String {
    request.header("x-amz-date").expect("date")[..11].to_owned()
}

#[tokio::test]
async fn a_wrong_clock_is_mended_by_asking_again() {
    let date = "Sat, 01 Jan 2050 12:30:00 GMT";
    let server = Server::new(move |request: &Request| {
        if signed_hour(request) == "20500101T12" {
            return vec![head(), end()];
        }
        let body = r#"{"message":"Signature expired: 20261122T105909Z is now earlier than x"}"#;
        let headers = format!("x-amzn-errortype: InvalidSignatureException\r\ndate: {date}\r\n");
        vec![response("403 Forbidden", &headers, body)]
    })
    .await;
    let client = connect(settings(&server, "clock")).await;
    let error = client
        .get_media(&server.url(), &Selector::Now)
        .await
        .expect_err("wrong clock");
    assert_eq!(error.kind, ErrorKind::Server, "{error}");
    assert!(error.is_retryable());
    assert!(
        error.message.contains("check this machine's clock"),
        "{error}"
    );
    assert!(error.message.contains("behind"), "{error}");
    client
        .get_media(&server.url(), &Selector::Now)
        .await
        .expect("corrected");
}

#[tokio::test]
async fn a_right_clock_makes_a_bad_signature_final() {
    let now = aws_smithy_types::DateTime::from(std::time::SystemTime::now());
    let date = now
        .fmt(aws_smithy_types::date_time::Format::HttpDate)
        .expect("date");
    let headers = format!("x-amzn-errortype: InvalidSignatureException\r\ndate: {date}\r\n");
    let server = Server::always("403 X", &headers, r#"{"message":"does not match"}"#).await;
    let client = connect(settings(&server, "signature")).await;
    let error = client
        .get_media(&server.url(), &Selector::Now)
        .await
        .expect_err("signature");
    assert_eq!(error.kind, ErrorKind::NotAuthorized, "{error}");
    assert!(error.message.contains("secret key"), "{error}");
}

// ---- secrets ----------------------------------------------------------------------------------

#[tokio::test]
async fn no_secret_is_ever_printed() {
    let server = Server::new(|request: &Request| {
        // What services have been seen to quote.
        let header = |name| request.header(name).unwrap_or_default();
        let text = format!(
            "bad Authorization={} token {} key {MARKER}/key; The Canonical String for this request \
             should have been POST x-amz-security-token:{}",
            header("authorization"),
            header("x-amz-security-token"),
            header("x-amz-security-token"),
        );
        vec![error_response(
            403,
            "IncompleteSignatureException",
            &text.replace('"', "'"),
        )]
    })
    .await;
    let role = Credentials::AssumeRole {
        role_arn: "arn:aws:iam::1:role/r".into(),
        external_id: Some(MARKER.into()),
        base: Box::new(keys()),
    };
    let provider =
        aws_credential_types::Credentials::new("AKID", MARKER, Some(MARKER.into()), None, "t");
    let provider = aws_credential_types::provider::SharedCredentialsProvider::new(provider);
    let mut texts = Vec::new();
    for (n, credentials) in [keys(), Credentials::Provider(provider), role]
        .into_iter()
        .enumerate()
    {
        texts.push(format!("{credentials:?} {credentials:#?}"));
        let sends = !matches!(credentials, Credentials::AssumeRole { .. });
        let config = Config {
            credentials,
            ..settings(&server, &format!("secrets-{n}"))
        };
        texts.push(format!("{config:?}"));
        let client = connect(config).await;
        texts.push(format!("{client:?}"));
        if sends {
            let error = client
                .get_media(&server.url(), &Selector::Now)
                .await
                .expect_err("refused");
            println!("{error}");
            assert!(error.message.contains("bad Authorization=…"), "{error}");
            assert_eq!(error.kind, ErrorKind::NotAuthorized);
            texts.push(format!("{error} {error:?}"));
            let signed = server.requests().pop().expect("request");
            let (_, signature) = signed
                .header("authorization")
                .expect("signed")
                .split_once("Signature=")
                .expect("it");
            assert!(!error.message.contains(signature), "{error}");
            assert!(!error.message.contains("Canonical"), "{error}");
        }
    }
    // What cannot even be put into a header.
    let credentials = Credentials::Static {
        access_key: "AKID".into(),
        secret_key: MARKER.into(),
        session_token: Some(format!("{MARKER}\n{MARKER}")),
    };
    let config = Config {
        credentials,
        ..settings(&server, "secrets-line")
    };
    let error = connect(config)
        .await
        .get_media(&server.url(), &Selector::Now)
        .await;
    let error = error.expect_err("not a header");
    println!("{error}");
    assert_eq!(error.kind, ErrorKind::Settings, "{error}");
    texts.push(format!("{error} {error:?}"));
    let media = Server::new(|_| vec![head(), end()]).await;
    let body = connect(settings(&media, "secrets-body")).await;
    let body = body
        .get_media(&media.url(), &Selector::Now)
        .await
        .expect("media");
    texts.push(format!("{body:?}"));
    for text in texts {
        assert!(!text.contains(MARKER), "{text}");
    }
}
