//! Faults, to the byte.

mod common;

use std::io;
use std::time::{Duration, Instant};

use common::{Client, End, PATIENCE};
use kvs_local::synth::{Synth, Synthetic};
use kvs_local::{AfterBody, Cut, Fault, Operation, Server, mkv};
use serde_json::json;

const QUIET: Duration = Duration::from_millis(150);

fn set_up() -> (Server, Client, Synthetic) {
    let server = Server::builder().enforce_limits(false).start();
    let media = Synth::new().fragments(4).payload(20, 60).build();
    let cam = server.stream("cam");
    media.push_to(&cam);
    cam.finish_recording();
    let client = Client::new(&server);
    (server, client, media)
}

#[test]
fn a_cut_leaves_exactly_so_many_bytes() {
    let (server, client, media) = set_up();
    let whole = media.recording();
    let offsets = (0..whole.len())
        .step_by(257)
        .chain([1, whole.len() - 1, whole.len()]);
    for offset in offsets {
        for (cut, end) in [(Cut::Fin, End::Fin), (Cut::CleanEnd, End::Clean)] {
            server.fault(Fault::get_media().cut_after(offset as u64, cut));
            let (body, ended) = client.earliest("cam").body(usize::MAX, PATIENCE);
            assert!(body == whole[..offset], "{} bytes of {offset}", body.len());
            assert_eq!(ended, Some(end), "after {offset}");
        }
        // Elsewhere than on Linux what is on its way, headers too, may be lost.
        if cfg!(target_os = "linux") {
            server.fault(Fault::get_media().cut_after(offset as u64, Cut::Reset));
            let (body, ended) = client.earliest("cam").body(usize::MAX, PATIENCE);
            assert!(body == whole[..offset], "{} bytes of {offset}", body.len());
            assert_eq!(ended, Some(End::Reset));
        }
    }
    assert_eq!(server.pending_faults(), 0);
    assert!(client.earliest("cam").rest() == whole);
}

#[test]
fn a_stalled_body_is_silent_and_stays_open() {
    let (server, client, media) = set_up();
    server.fault(Fault::get_media().stall_after(1000));
    let mut answer = client.earliest("cam");
    let (body, end) = answer.body(usize::MAX, QUIET);
    assert!(body == media.recording()[..1000]);
    assert_eq!(end, Some(End::Silent));
    assert_eq!(server.open_connections("cam"), 1);
    drop(answer);
    assert!(server.wait_until(PATIENCE, |s| s.open_connections("cam") == 0));
}

#[test]
fn chunks_are_of_the_size_asked_for() {
    let (server, client, media) = set_up();
    for size in [1, 7, 1000, 64 << 10] {
        server.fault(Fault::get_media().chunk_size(size));
        let mut answer = client.earliest("cam");
        assert!(answer.rest() == media.recording());
        assert!(answer.chunks.iter().all(|chunk| *chunk <= size));
        // Documents aren't joined, so each may end with a smaller chunk.
        let full = answer.chunks.iter().filter(|chunk| **chunk == size).count();
        assert!(full + 4 >= answer.chunks.len(), "{size}");
    }
}

#[test]
fn a_drip_is_slow() {
    let (server, client, _) = set_up();
    server.fault(Fault::get_media().drip(2000).cut_after(1000, Cut::CleanEnd));
    let begun = Instant::now();
    assert_eq!(client.earliest("cam").rest().len(), 1000);
    assert!(begun.elapsed() > Duration::from_millis(300));
}

#[test]
fn errors_in_place_of_an_answer() {
    let (server, client, _) = set_up();
    let endpoint = json!({ "StreamName": "cam", "APIName": "GET_MEDIA" });
    server.fault(Fault::get_data_endpoint().nth(2).http_error(
        503,
        "ServiceUnavailableException",
        "Come back later.",
    ));
    assert_eq!(client.call("/getDataEndpoint", &endpoint).status, 200);
    let answer = client.call("/getDataEndpoint", &endpoint);
    assert_eq!(
        (answer.status, answer.error()),
        (503, "ServiceUnavailableException")
    );
    let id = answer.header("x-amzn-requestid").unwrap().to_owned();
    let body = answer.json();
    assert!(body.to_string().contains("Come back later."), "{body}");
    assert_eq!(client.call("/getDataEndpoint", &endpoint).status, 200);
    let request = server.requests().remove(1);
    assert_eq!(
        request.error_code.as_deref(),
        Some("ServiceUnavailableException")
    );
    assert_eq!((request.status, request.request_id), (Some(503), id));

    server.fault(Fault::get_media().xml_403());
    let answer = client.earliest("cam");
    assert_eq!((answer.status, answer.error()), (403, ""));
    assert!(answer.header("content-type").unwrap().contains("xml"));
    assert!(answer.text().starts_with('<'));
}

#[test]
fn no_answer_at_all() {
    let (server, client, _) = set_up();
    let body = json!({ "StreamName": "cam", "StartSelector": { "StartSelectorType": "NOW" } });
    let kind = |fault: Fault| {
        server.fault(fault.times(1));
        let answer = client.try_call("/getMedia", &body);
        answer.err().map(|error| error.kind())
    };
    let closed = kind(Fault::get_media().close_before_headers());
    assert_eq!(closed, Some(io::ErrorKind::UnexpectedEof));
    let reset = kind(Fault::get_media().reset_before_headers());
    assert_eq!(reset, Some(io::ErrorKind::ConnectionReset));

    server.fault(Fault::get_media().hang_before_headers());
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| client.try_call("/getMedia", &body).is_err());
        assert!(server.wait_until(PATIENCE, |s| s.requests().len() == 3));
        let hung = server.requests().remove(2);
        assert_eq!((hung.status, hung.finished), (None, false));
        assert!(!hanging.is_finished());
        drop(server);
        assert!(hanging.join().unwrap());
    });
}

#[test]
fn in_band_errors() {
    let (server, client, media) = set_up();
    for after in [0, 2] {
        server.fault(Fault::get_media().in_band_error(after, 4503, "KMS_KEY_UNAVAILABLE"));
        let body = client.earliest("cam").rest();
        let reading = mkv::read(&body.into());
        assert_eq!(reading.documents.len(), after + 1);
        let error = &reading.documents[after];
        assert_eq!(error.aws_tag("ERROR_ID"), Some("4503"));
        assert_eq!(error.aws_tag("ERROR_CODE"), Some("KMS_KEY_UNAVAILABLE"));
        let number = &media.fragments[after].number;
        assert_eq!(error.aws_tag("FRAGMENT_NUMBER"), Some(&number[..]));
        assert!(error.frames.is_empty());
    }
}

#[test]
fn bodies_of_any_bytes() {
    let (server, client, media) = set_up();
    let hostile = [0xff; 5000];
    for (then, end) in [
        (AfterBody::CleanEnd, End::Clean),
        (AfterBody::Fin, End::Fin),
        (AfterBody::Silence, End::Silent),
    ] {
        server.fault(Fault::get_media().replace_body(hostile.to_vec(), then));
        let (body, ended) = client.earliest("cam").body(usize::MAX, QUIET);
        assert!(body == hostile);
        assert_eq!(ended, Some(end));
    }
    server.fault(
        Fault::get_media()
            .prefix_body(&b"before"[..])
            .insert_after(1, &b"between"[..]),
    );
    let first = media.fragments[0].document.len();
    let whole = media.recording();
    let expected = [b"before", &whole[..first], b"between", &whole[first..]].concat();
    assert!(client.earliest("cam").rest() == expected);
}

#[test]
fn fragments_twice_never_and_in_the_wrong_order() {
    let (server, client, media) = set_up();
    let numbers = |fault: Fault| -> Vec<usize> {
        server.fault(fault);
        let reading = mkv::read(&client.earliest("cam").rest().into());
        let number = |d: &mkv::Document| d.aws_tag("FRAGMENT_NUMBER").unwrap().to_owned();
        let index = |n: String| media.fragments.iter().position(|f| f.number == n).unwrap();
        reading.documents.iter().map(number).map(index).collect()
    };
    assert_eq!(
        numbers(Fault::get_media().duplicate_fragment(2)),
        [0, 1, 1, 2, 3]
    );
    assert_eq!(numbers(Fault::get_media().skip_fragment(2)), [0, 2, 3]);
    assert_eq!(numbers(Fault::get_media().swap_fragment(2)), [0, 2, 1, 3]);

    server.fault(Fault::get_media().omit_trailing_tags(1));
    let reading = mkv::read(&client.earliest("cam").rest().into());
    let tokens = reading
        .documents
        .iter()
        .map(|d| d.aws_tag("CONTINUATION_TOKEN").is_some());
    assert_eq!(tokens.collect::<Vec<_>>(), [true, false, false, false]);
    assert!(reading.frames().eq(media.frames().iter()));
}

#[test]
fn a_wrong_clock_refuses_signatures_and_shows_itself() {
    let (server, client, _) = set_up();
    server.fault(Fault::get_media().clock_skew(3600));
    let answer = client.earliest("cam");
    assert_eq!(
        (answer.status, answer.error()),
        (403, "InvalidSignatureException")
    );
    let date = httpdate::parse_http_date(answer.header("date").unwrap()).unwrap();
    let ahead = date.duration_since(std::time::SystemTime::now()).unwrap();
    assert!(ahead > Duration::from_secs(3500));
    assert_eq!(client.earliest("cam").status, 200);
}

#[test]
fn faults_add_up_and_can_be_taken_back() {
    let (server, client, media) = set_up();
    server.fault(Fault::get_media().always().chunk_size(100));
    server.fault(Fault::get_media().stream("another").cut_after(0, Cut::Fin));
    server.fault(Fault::get_media().nth(2).cut_after(250, Cut::Fin));
    assert!(client.earliest("cam").rest() == media.recording());
    let mut answer = client.earliest("cam");
    let (body, end) = answer.body(usize::MAX, PATIENCE);
    assert_eq!((body.len(), end), (250, Some(End::Fin)));
    assert_eq!(answer.chunks, [100, 100, 50]);
    assert_eq!(server.pending_faults(), 2);
    server.clear_faults();
    let mut answer = client.earliest("cam");
    answer.rest();
    assert!(answer.chunks.len() <= 4);
}

#[test]
fn latency_delays_headers() {
    let server = Server::builder()
        .latency(Duration::from_millis(200))
        .start();
    server.stream("cam");
    let begun = Instant::now();
    let body = json!({ "StreamName": "cam" });
    assert_eq!(
        Client::new(&server).call("/describeStream", &body).status,
        200
    );
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(server.requests()[0].operation, Operation::DescribeStream);
}
