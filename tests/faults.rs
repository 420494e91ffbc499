//! What breaks, and what the application sees: one table, played against the service that runs here,
//! through the real SDK. `tests/FAULTS.md` is this table for people; a test holds it to this one.

mod support;

use gst::{glib, prelude::*};
use kvs_local::{Cut, Fault, Operation, Server, error_text, synth::Synthetic};
use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    panic::{RefUnwindSafe, catch_unwind},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use support::*;

/// `max-retries` of every row.
const RETRIES: u32 = 2;

/// Fragments that are played; the service ends each body after two of them where a fault is to meet a
/// stream that plays already.
const FRAGMENTS: usize = 4;

/// In a row's last column: it makes no difference.
const NOTHING_ELSE: &str = "–";

/// A row of the table.
struct Row {
    breaks: &'static str,
    how: How,
    /// What is seen when it happens once.
    once: &'static str,
    /// What is seen when it stays so; or [`NOTHING_ELSE`].
    always: &'static str,
}

enum How {
    /// A request of the service meets a fault.
    Fault {
        fault: Box<dyn Fn() -> Fault + Send + Sync + RefUnwindSafe>,
        /// The stream plays already.
        streaming: bool,
        settings: &'static [(&'static str, &'static str)],
    },
    /// Anything else; says what was seen.
    Scene(fn(once: bool) -> String),
}

impl Row {
    fn streaming(mut self) -> Row {
        if let How::Fault { streaming, .. } = &mut self.how {
            *streaming = true;
        }
        self
    }

    fn with(mut self, with: &'static [(&'static str, &'static str)]) -> Row {
        if let How::Fault { settings, .. } = &mut self.how {
            *settings = with;
        }
        self
    }

    fn play(&self, once: bool) -> String {
        let (fault, streaming, settings) = match &self.how {
            How::Scene(scene) => return scene(once),
            How::Fault {
                fault,
                streaming,
                settings,
            } => (fault(), *streaming, settings),
        };
        let media = media(FRAGMENTS);
        let server = match streaming {
            true => Server::builder().rotate_after_fragments(2).start(),
            false => Server::start(),
        };
        let fault = fault.nth(if streaming { 2 } else { 1 });
        server.fault(if once { fault } else { fault.always() });
        let run = Run::demuxed(&play_media(&server, "cam", &media, settings));
        set(&run.src, &[("max-retries", &RETRIES.to_string())]);
        run.play();
        end(&server, &run, &media)
    }
}

fn fault(
    breaks: &'static str,
    fault: impl Fn() -> Fault + Send + Sync + RefUnwindSafe + 'static,
    once: &'static str,
    always: &'static str,
) -> Row {
    let how = How::Fault {
        fault: Box::new(fault),
        streaming: false,
        settings: &[],
    };
    Row {
        breaks,
        how,
        once,
        always,
    }
}

fn answer(
    breaks: &'static str,
    status: u16,
    code: &'static str,
    once: &'static str,
    always: &'static str,
) -> Row {
    let get_media = move || Fault::get_media().http_error(status, code, "no");
    fault(breaks, get_media, once, always)
}

fn in_band(breaks: &'static str, id: u32, once: &'static str, always: &'static str) -> Row {
    let get_media = move || Fault::get_media().in_band_error(0, id, error_text(id));
    fault(breaks, get_media, once, always)
}

fn scene(
    breaks: &'static str,
    scene: fn(bool) -> String,
    once: &'static str,
    always: &'static str,
) -> Row {
    Row {
        breaks,
        how: How::Scene(scene),
        once,
        always,
    }
}

// ---- the table ---------------------------------------------------------------------------------

fn table() -> Vec<Row> {
    vec![
        // The way there.
        scene("the data endpoint's name is not known (DNS)", no_such_host,
            "`network`, plays on",
            "`network` ×2, **RESOURCE / OPEN_READ** (GetMedia, retryable)"),
        scene("the data endpoint refuses connections", refused,
            "`network`, plays on",
            "`network` ×2, **RESOURCE / OPEN_READ** (GetMedia, retryable)"),
        scene("the data endpoint speaks no TLS", no_tls,
            "`network`, plays on",
            "`network` ×2, **RESOURCE / OPEN_READ** (GetMedia, retryable)"),
        scene("its certificate is not trusted", untrusted,
            "`network`, plays on",
            "`network` ×2, **RESOURCE / OPEN_READ** (GetMedia, retryable)"),
        scene("nothing: TLS, and a certificate that is trusted", trusted,
            "plays on",
            NOTHING_ELSE),
        fault("GetDataEndpoint is not answered", || Fault::get_data_endpoint().hang_before_headers(),
            "`network`, plays on",
            "`network` ×2, **RESOURCE / OPEN_READ** (GetDataEndpoint, retryable)").with(&[("connect-timeout", "300")]),
        fault("GetMedia is not answered", || Fault::get_media().hang_before_headers(),
            "`network`, plays on",
            "`network` ×2, **RESOURCE / OPEN_READ** (GetMedia, retryable)").with(&[("connect-timeout", "300")]),
        fault("the connection is closed before the answer", || Fault::get_media().close_before_headers(),
            "`network`, plays on",
            "`network` ×2, **RESOURCE / OPEN_READ** (GetMedia, retryable)"),
        fault("the connection is reset before the answer", || Fault::get_media().reset_before_headers(),
            "`network`, plays on",
            "`network` ×2, **RESOURCE / OPEN_READ** (GetMedia, retryable)"),
        fault("GetDataEndpoint fails, HTTP 503",
            || Fault::get_data_endpoint().http_error(503, "ServiceUnavailable", "no"),
            "`server-error`, plays on",
            "`server-error` ×2, **RESOURCE / OPEN_READ** (GetDataEndpoint, ServiceUnavailable, HTTP 503, retryable)"),
        // The service's errors.
        answer("HTTP 500", 500, "InternalFailure",
            "`server-error`, plays on",
            "`server-error` ×2, **RESOURCE / OPEN_READ** (GetMedia, InternalFailure, HTTP 500, retryable)"),
        answer("HTTP 502 without a code", 502, "",
            "`server-error`, plays on",
            "`server-error` ×2, **RESOURCE / OPEN_READ** (GetMedia, HTTP 502, retryable)"),
        answer("HTTP 503", 503, "ServiceUnavailable",
            "`server-error`, plays on",
            "`server-error` ×2, **RESOURCE / OPEN_READ** (GetMedia, ServiceUnavailable, HTTP 503, retryable)"),
        answer("HTTP 504 without a code", 504, "",
            "`server-error`, plays on",
            "`server-error` ×2, **RESOURCE / OPEN_READ** (GetMedia, HTTP 504, retryable)"),
        answer("HTTP 500 while streaming", 500, "InternalFailure",
            "`rotated`, `server-error`, `rotated`, plays on",
            "`rotated`, `server-error` ×2, **RESOURCE / READ** (GetMedia, InternalFailure, HTTP 500, retryable)").streaming(),
        answer("ThrottlingException", 400, "ThrottlingException",
            "`throttled`, plays on",
            "`throttled` ×2, **RESOURCE / OPEN_READ** (GetMedia, ThrottlingException, HTTP 400, retryable)"),
        answer("ClientLimitExceededException", 400, "ClientLimitExceededException",
            "`throttled`, plays on",
            "`throttled` ×2, **RESOURCE / OPEN_READ** (GetMedia, ClientLimitExceededException, HTTP 400, retryable)"),
        answer("ConnectionLimitExceededException", 400, "ConnectionLimitExceededException",
            "`throttled`, plays on",
            "`throttled` ×2, **RESOURCE / OPEN_READ** (GetMedia, ConnectionLimitExceededException, HTTP 400, retryable)"),
        answer("InvalidEndpointException", 400, "InvalidEndpointException",
            "`endpoint`, plays on",
            "`endpoint` ×2, **RESOURCE / OPEN_READ** (GetMedia, InvalidEndpointException, HTTP 400, retryable)"),
        answer("InvalidArgumentException", 400, "InvalidArgumentException",
            "**RESOURCE / SETTINGS** (GetMedia, InvalidArgumentException, HTTP 400)",
            NOTHING_ELSE),
        answer("ResourceNotFoundException", 404, "ResourceNotFoundException",
            "**RESOURCE / NOT_FOUND** (GetMedia, ResourceNotFoundException, HTTP 404)",
            NOTHING_ELSE),
        answer("NotAuthorizedException", 401, "NotAuthorizedException",
            "**RESOURCE / NOT_AUTHORIZED** (GetMedia, NotAuthorizedException, HTTP 401)",
            NOTHING_ELSE),
        answer("AccessDeniedException", 403, "AccessDeniedException",
            "**RESOURCE / NOT_AUTHORIZED** (GetMedia, AccessDeniedException, HTTP 403)",
            NOTHING_ELSE),
        answer("ExpiredTokenException, access-key and secret-key set", 403, "ExpiredTokenException",
            "**RESOURCE / NOT_AUTHORIZED** (GetMedia, ExpiredTokenException, HTTP 403)",
            NOTHING_ELSE),
        answer("InvalidClientTokenId, access-key and secret-key set", 403, "InvalidClientTokenId",
            "**RESOURCE / NOT_AUTHORIZED** (GetMedia, InvalidClientTokenId, HTTP 403)",
            NOTHING_ELSE),
        fault("a wrong host: HTTP 403 and XML", || Fault::get_media().xml_403(),
            "**RESOURCE / NOT_AUTHORIZED** (GetMedia, HTTP 403)",
            NOTHING_ELSE),
        // Credentials and clocks.
        scene("the secret key is wrong", wrong_secret,
            "**RESOURCE / NOT_AUTHORIZED** (GetDataEndpoint, InvalidSignatureException, HTTP 403)",
            NOTHING_ELSE),
        scene("credentials of a profile expire while streaming", expired_profile,
            "`rotated`, `credentials`, `rotated`, plays on",
            "`rotated`, `credentials`, **RESOURCE / NOT_AUTHORIZED** (GetDataEndpoint, ExpiredTokenException, HTTP 403)"),
        scene("temporary credentials of a role expire while streaming", expired_role,
            "`rotated` ×2, plays on",
            NOTHING_ELSE),
        scene("temporary credentials of a role expire before they should", revoked_role,
            "`rotated`, `credentials`, `rotated`, plays on",
            "`rotated`, `credentials`, **RESOURCE / NOT_AUTHORIZED** (GetDataEndpoint, ExpiredTokenException, HTTP 403)"),
        scene("this machine's clock is an hour slow", slow_clock,
            "`server-error` ×2, plays on",
            NOTHING_ELSE),
        // Endpoints.
        scene("the stream moves to another host while streaming", moved,
            "`rotated`, `endpoint`, plays on",
            NOTHING_ELSE),
        scene("the stream moves, and GetDataEndpoint fails, HTTP 503", moved_and_lookup_fails,
            "`rotated`, `endpoint`, `server-error`, plays on",
            "`rotated`, `endpoint`, `server-error`, **RESOURCE / READ** (GetDataEndpoint, ServiceUnavailable, HTTP 503, retryable)"),
        scene("the stream moves, and GetDataEndpoint refuses its values", moved_and_lookup_is_refused,
            "`rotated`, `endpoint`, **RESOURCE / SETTINGS** (GetDataEndpoint, InvalidArgumentException, HTTP 400)",
            NOTHING_ELSE),
        // Errors in the body.
        in_band("in-band error 3002", 3002,
            "`server-error`, plays on",
            "`server-error` ×2, **RESOURCE / READ** (GetMedia, Error writing to the stream, id 3002, retryable)"),
        in_band("in-band error 4000", 4000,
            "**RESOURCE / NOT_FOUND** (GetMedia, Requested fragment is not found, id 4000)",
            NOTHING_ELSE),
        in_band("in-band error 4500", 4500,
            "**RESOURCE / NOT_AUTHORIZED** (GetMedia, Access denied for the stream's KMS key, id 4500)",
            NOTHING_ELSE),
        in_band("in-band error 4501", 4501,
            "**RESOURCE / READ** (GetMedia, Stream's KMS key is disabled, id 4501)",
            NOTHING_ELSE),
        in_band("in-band error 4502", 4502,
            "**RESOURCE / READ** (GetMedia, Validation error on the stream's KMS key, id 4502)",
            NOTHING_ELSE),
        in_band("in-band error 4503", 4503,
            "`server-error`, plays on",
            "`server-error` ×2, **RESOURCE / READ** (GetMedia, KMS key specified in the stream is unavailable, id 4503, retryable)"),
        in_band("in-band error 4504", 4504,
            "**RESOURCE / READ** (GetMedia, Invalid usage of the KMS key specified in the stream, id 4504)",
            NOTHING_ELSE),
        in_band("in-band error 4505", 4505,
            "**RESOURCE / READ** (GetMedia, Invalid state of the KMS key specified in the stream, id 4505)",
            NOTHING_ELSE),
        in_band("in-band error 4506", 4506,
            "**RESOURCE / READ** (GetMedia, Unable to find the KMS key specified in the stream, id 4506)",
            NOTHING_ELSE),
        in_band("in-band error 5000", 5000,
            "`server-error`, plays on",
            "`server-error` ×2, **RESOURCE / READ** (GetMedia, Internal error, id 5000, retryable)"),
        in_band("in-band error 5000 while streaming", 5000,
            "`rotated`, `server-error`, `rotated`, plays on",
            "`rotated`, `server-error` ×2, **RESOURCE / READ** (GetMedia, Internal error, id 5000, retryable)").streaming(),
        in_band("in-band error 4500 while streaming", 4500,
            "`rotated`, **RESOURCE / NOT_AUTHORIZED** (GetMedia, Access denied for the stream's KMS key, id 4500)",
            NOTHING_ELSE).streaming(),
        // The body.
        fault("the body breaks off (FIN)", || Fault::get_media().cut_after(300, Cut::Fin),
            "`network`, plays on",
            "`network` ×2, **RESOURCE / READ** (GetMedia, retryable)"),
        fault("the body breaks off (RST)", || Fault::get_media().cut_after(300, Cut::Reset),
            "`network`, plays on",
            "`network` ×2, **RESOURCE / READ** (GetMedia, retryable)"),
        fault("the body breaks off while streaming",
            || Fault::get_media().cut_after(300, Cut::Reset),
            "`rotated`, `network`, `rotated`, plays on",
            "`rotated`, `network` ×2, **RESOURCE / READ** (GetMedia, retryable)").streaming(),
        scene("the body breaks off after each fragment", cut_after_each,
            "`network` ×3, plays on",
            NOTHING_ELSE),
        fault("the body ends cleanly in the middle of a fragment",
            || Fault::get_media().cut_after(1500, Cut::CleanEnd),
            "`rotated`, plays on",
            NOTHING_ELSE),
        fault("the body falls silent for idle-timeout",
            || Fault::get_media().stall_after(1500),
            "`silent`, plays on",
            NOTHING_ELSE).with(&[("idle-timeout", "300")]),
        fault("the body never begins",
            || Fault::get_media().stall_after(0),
            "`silent`, plays on",
            NOTHING_ELSE).with(&[("idle-timeout", "300")]),
        fault("the body falls silent for idle-timeout, within the first tags",
            || Fault::get_media().stall_after(300),
            "`silent`, plays on",
            NOTHING_ELSE).with(&[("idle-timeout", "300")]),
        fault("the body falls silent for idle-timeout, after 10 kB",
            || Fault::get_media().stall_after(10_000),
            "`silent`, plays on",
            NOTHING_ELSE).with(&[("idle-timeout", "300")]),
        fault("the body drips, 20 kB a second", || Fault::get_media().drip(20_000),
            "plays on",
            NOTHING_ELSE),
        fault("the body drips, 3 kB a second, which is no silence", || Fault::get_media().drip(3000),
            "plays on",
            NOTHING_ELSE).with(&[("idle-timeout", "300")]),
        fault("the body comes a byte at a time", || Fault::get_media().chunk_size(1),
            "plays on",
            NOTHING_ELSE),
        fault("the body is not Matroska",
            || Fault::get_media().replace_body(&b"<html>Welcome to the hotel</html>"[..],
                kvs_local::AfterBody::CleanEnd),
            "**STREAM / DEMUX** (GetMedia)",
            NOTHING_ELSE),
        scene("the fragment to go on with is gone", gone,
            "`network`, `fragment-gone`, `kvs-gap` lost, plays on",
            NOTHING_ELSE),
        scene("after a break a later fragment comes than the one to go on with", later_first,
            "`network`, `kvs-gap` lost, plays on",
            NOTHING_ELSE),
        scene("after a break a later fragment comes first, and then the one to go on with", swapped,
            "`network`, `kvs-gap` lost, plays on",
            NOTHING_ELSE),
        scene("after a break an earlier fragment comes first", earlier_first,
            "`network`, plays on",
            NOTHING_ELSE),
    ]
}

// ---- scenes ------------------------------------------------------------------------------------

/// The data endpoint is `url`; or only until that has failed once.
fn elsewhere(url: String, once: bool) -> String {
    let media = media(FRAGMENTS);
    let server = Server::start();
    server.set_data_endpoint(Some(url));
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[("max-retries", "2")]));
    run.play();
    if once {
        run.wait("a failure", |log| !log.reconnects().is_empty());
        server.set_data_endpoint(None);
    }
    end(&server, &run, &media)
}

fn no_such_host(once: bool) -> String {
    elsewhere("http://kvs.invalid".to_owned(), once)
}

fn refused(once: bool) -> String {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    elsewhere(url, once)
}

fn no_tls(once: bool) -> String {
    let plain = Server::start();
    elsewhere(format!("https://{}", plain.local_addr()), once)
}

fn untrusted(once: bool) -> String {
    let stranger = Server::builder().tls(true).start();
    let seen = elsewhere(stranger.endpoint_url(), once);
    assert!(stranger.requests().is_empty(), "a stranger was asked");
    seen
}

fn trusted(_once: bool) -> String {
    let media = media(FRAGMENTS);
    let server = TRUSTED.lock().unwrap();
    let server = server.as_ref().unwrap();
    assert!(server.endpoint_url().starts_with("https://"));
    let run = Run::demuxed(&play_media(server, "cam", &media, &[]));
    run.play();
    end(server, &run, &media)
}

fn wrong_secret(_once: bool) -> String {
    let media = media(FRAGMENTS);
    let server = Server::start();
    let run = Run::demuxed(&play_media(
        &server,
        "cam",
        &media,
        &[("secret-key", "guess")],
    ));
    run.play();
    end(&server, &run, &media)
}

fn write_profile(access: &str, secret: &str) {
    let text = format!("[cam]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n");
    let file = std::env::var("AWS_SHARED_CREDENTIALS_FILE").unwrap();
    std::fs::write(file, text).unwrap();
}

/// Once: there are new ones by then.
fn expired_profile(once: bool) -> String {
    static FILE: Mutex<()> = Mutex::new(());
    let _alone = FILE.lock();
    let media = media(FRAGMENTS);
    let server = Server::builder()
        .credentials("AKIDOLD", "oldsecret", None)
        .rotate_after_fragments(2)
        .start();
    write_profile("AKIDOLD", "oldsecret");
    let stream = server.stream("cam");
    stream.push_fragment(media.fragments[0].new_fragment());
    let src = source(&server, "cam", &[("profile", "cam")]);
    for name in ["access-key", "secret-key"] {
        src.set_property(name, None::<String>);
    }
    for (name, value) in until_last(&media) {
        src.set_property_from_str(name, &value);
    }
    let run = Run::demuxed(&src);
    run.play();
    run.wait("the first fragment", |log| log.fragments().len() == 1);
    server.expire_credentials("AKIDOLD");
    if once {
        server.set_credentials("AKIDNEW", "newsecret", None);
        write_profile("AKIDNEW", "newsecret");
    }
    for fragment in &media.fragments[1..] {
        stream.push_fragment(fragment.new_fragment());
    }
    end(&server, &run, &media)
}

/// Stands in for STS: gives each role credentials of its own, others each time.
struct Sts {
    url: String,
    given: Arc<Mutex<HashMap<String, usize>>>,
}

impl Sts {
    /// Roles that begin so are given credentials that the SDK takes for good for no time at all.
    const SHORT: &str = "short";

    fn start() -> Sts {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let given: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let for_answers = given.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let _ = Sts::answer(socket.unwrap(), &for_answers);
            }
        });
        Sts { url, given }
    }

    fn answer(mut socket: TcpStream, given: &Mutex<HashMap<String, usize>>) -> io::Result<()> {
        let mut request = String::new();
        // One segment, or two: its end is what the request is about.
        while !request.contains("RoleSessionName=") || !request.contains("role%2F") {
            let mut bytes = [0; 4096];
            let read = socket.read(&mut bytes)?;
            request += &String::from_utf8_lossy(&bytes[..read]);
            assert!(read > 0, "{request}");
        }
        let (_, role) = request.split_once("role%2F").unwrap();
        let role: String = role.chars().take_while(|c| c.is_alphanumeric()).collect();
        let number = {
            let mut given = given.lock().unwrap();
            let number = given.entry(role.clone()).or_default();
            *number += 1;
            *number
        };
        let lasts = if role.starts_with(Sts::SHORT) {
            5
        } else {
            3600
        };
        let expires = jiff::Timestamp::now() + Duration::from_secs(lasts);
        let (access, secret, token) = Sts::keys(&role, number);
        let body = format!(
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>{access}</AccessKeyId>\
             <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
             <Expiration>{expires}</Expiration></Credentials></AssumeRoleResult>\
             </AssumeRoleResponse>"
        );
        write!(
            socket,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn keys(role: &str, number: usize) -> (String, String, String) {
        let of = |what| format!("{what}{role}{number}");
        (of("ASIA"), of("secret"), of("token"))
    }

    fn given(&self, role: &str) -> usize {
        self.given.lock().unwrap().get(role).copied().unwrap_or(0)
    }
}

/// Plays as a role whose credentials, as many as it has been given by then or all that it will be
/// given, are refused after the first fragment.
fn role(name: &str, all: bool) -> (String, usize) {
    let sts = STS.lock().unwrap().clone().unwrap();
    let media = media(FRAGMENTS);
    let server = Server::builder().rotate_after_fragments(2).start();
    // Nobody asks as who assumes it.
    server.expire_credentials(server.access_key());
    let keys = (1..20).map(|number| Sts::keys(name, number));
    for (access, secret, token) in keys.clone() {
        server.set_credentials(&access, &secret, Some(&token));
    }
    let stream = server.stream("cam");
    stream.push_fragment(media.fragments[0].new_fragment());
    let arn = format!("arn:aws:iam::1:role/{name}");
    let src = source(&server, "cam", &[("role-arn", &arn)]);
    for (name, value) in until_last(&media) {
        src.set_property_from_str(name, &value);
    }
    let run = Run::demuxed(&src);
    run.play();
    run.wait("the first fragment", |log| log.fragments().len() == 1);
    let used = sts.given(name);
    for (access, ..) in keys.take(if all { usize::MAX } else { used }) {
        server.expire_credentials(&access);
    }
    for fragment in &media.fragments[1..] {
        stream.push_fragment(fragment.new_fragment());
    }
    let seen = end(&server, &run, &media);
    (seen, sts.given(name) - used)
}

fn expired_role(_once: bool) -> String {
    let (seen, renewed) = role(&format!("{}cam", Sts::SHORT), false);
    assert!(renewed > 0);
    seen
}

fn revoked_role(once: bool) -> String {
    let (seen, renewed) = role(if once { "once" } else { "always" }, !once);
    assert_eq!(renewed, 1);
    seen
}

fn slow_clock(_once: bool) -> String {
    let media = media(FRAGMENTS);
    let server = Server::builder().clock_skew(3600).start();
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    run.play();
    end(&server, &run, &media)
}

/// The stream plays from one host, and goes on at another.
fn move_away(lookup: Option<(u16, &str)>, once: bool) -> String {
    let media = media(FRAGMENTS);
    let old = Server::builder().rotate_after_fragments(2).start();
    let new = Server::start();
    media.push_to(&new.stream("cam"));
    let src = play_media(&old, "cam", &media, &[("max-retries", "2")]);
    let gone = Fault::get_media().http_error(400, "InvalidEndpointException", "not here");
    old.fault(gone.nth(2).always());
    if let Some((status, code)) = lookup {
        let lookup = Fault::get_data_endpoint().http_error(status, code, "no");
        old.fault(lookup.nth(2).times(if once { 1 } else { usize::MAX }));
    }
    let run = Run::demuxed(&src);
    // Before the second lookup, after the first.
    run.play();
    run.wait("the first fragment", |log| !log.fragments().is_empty());
    old.set_data_endpoint(Some(new.endpoint_url()));
    let seen = end(&old, &run, &media);
    if once && run.log().error().is_none() {
        let expected = if lookup.is_some() { 3 } else { 2 };
        let requests = old.requests();
        let lookups = requests
            .iter()
            .filter(|request| request.operation == Operation::GetDataEndpoint);
        assert_eq!(lookups.count(), expected);
        assert_eq!(get_media(&new).len(), 1);
    }
    seen
}

fn moved(once: bool) -> String {
    move_away(None, once)
}

fn moved_and_lookup_fails(once: bool) -> String {
    move_away(Some((503, "ServiceUnavailable")), once)
}

/// It is about the call, and says nothing of the fragment to go on with.
fn moved_and_lookup_is_refused(once: bool) -> String {
    move_away(Some((400, "InvalidArgumentException")), once)
}

/// The rest of a fragment is asked for, and it is no longer there.
fn gone(_once: bool) -> String {
    let media = media(FRAGMENTS);
    let server = Server::start();
    let cut = media.fragments[0].document.len() + media.fragments[1].document.len() / 2;
    server.fault(Fault::get_media().cut_after(cut as u64, Cut::Fin));
    server.fault(
        Fault::get_media()
            .nth(2)
            .delay_headers(Duration::from_millis(1)),
    );
    let stream = server.stream("cam");
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    run.play();
    run.wait("the cut", |log| !log.reconnects().is_empty());
    stream.expire_before(&media.fragments[2].number);
    run.wait_eos();
    let log = run.stop();
    one_is_lost(&log, &media)
}

/// The second fragment was cut and is lost from there on; the others are all there.
fn one_is_lost(log: &Log, media: &Synthetic) -> String {
    let last: Vec<_> = media.fragments[2..FRAGMENTS]
        .iter()
        .flat_map(|fragment| &fragment.frames)
        .filter(|frame| frame.track == 1)
        .map(|frame| frame.payload.clone())
        .collect();
    let video = log.frames(VIDEO);
    let found = video[video.len() - last.len()..]
        .iter()
        .map(|frame| &frame.payload);
    assert!(found.eq(&last), "the fragments after the gap");
    let first = media.fragments[..2].iter().flat_map(|f| &f.frames);
    let first = first.filter(|frame| frame.track == 1);
    let kept = &video[..video.len() - last.len()];
    assert!(kept.len() > 8, "of the fragment that was cut");
    let found = kept.iter().map(|frame| &frame.payload);
    assert!(found.eq(first.take(kept.len()).map(|frame| &frame.payload)));
    assert_monotonic(log, VIDEO, "gone");
    let gaps = log.structures("kvs-gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].get::<&str>("kind"), Ok("lost"));
    let field = |name| gaps[0].get::<String>(name).unwrap();
    assert_eq!(field("from-fragment-number"), media.fragments[1].number);
    assert_eq!(field("to-fragment-number"), media.fragments[2].number);
    format!("{}`kvs-gap` lost, plays on", reconnects(log))
}

/// More often than `max-retries`: each time it is the first failure since a fragment was delivered.
fn cut_after_each(_once: bool) -> String {
    let media = media(FRAGMENTS);
    let server = Server::start();
    let cut = media.fragments[0].document.len() * 5 / 4;
    server.fault(
        Fault::get_media()
            .always()
            .cut_after(cut as u64, Cut::Reset),
    );
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[("max-retries", "2")]));
    run.play();
    let seen = end(&server, &run, &media);
    for message in run.log().structures("kvs-reconnect") {
        assert_eq!(message.get::<u32>("attempt"), Ok(1));
    }
    seen
}

/// The second fragment is cut, and what comes then meets `fault`.
fn after_a_break(fault: impl FnOnce(Fault, &Synthetic) -> Fault) -> (Server, Run, Synthetic) {
    let media = media(FRAGMENTS);
    let server = Server::start();
    let cut = media.fragments[0].document.len() + media.fragments[1].document.len() / 2;
    server.fault(Fault::get_media().cut_after(cut as u64, Cut::Fin));
    server.fault(fault(Fault::get_media().nth(2), &media));
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    run.play();
    (server, run, media)
}

fn later_first(_once: bool) -> String {
    let (_server, run, media) = after_a_break(|fault, _| fault.skip_fragment(1));
    run.wait_eos();
    one_is_lost(&run.stop(), &media)
}

fn swapped(_once: bool) -> String {
    let (_server, run, media) = after_a_break(|fault, _| fault.swap_fragment(1));
    run.wait_eos();
    one_is_lost(&run.stop(), &media)
}

fn earlier_first(_once: bool) -> String {
    let earlier = |media: &Synthetic| media.fragments[0].document.clone();
    let (server, run, media) = after_a_break(|fault, media| fault.prefix_body(earlier(media)));
    end(&server, &run, &media)
}

// ---- what is seen ------------------------------------------------------------------------------

/// `reason` ×n, for each run of one reason.
fn reconnects(log: &Log) -> String {
    let mut runs: Vec<(String, usize)> = Vec::new();
    for reason in log.reconnects() {
        match runs.last_mut() {
            Some((last, times)) if *last == reason => *times += 1,
            _ => runs.push((reason, 1)),
        }
    }
    runs.iter()
        .map(|(reason, times)| match times {
            1 => format!("`{reason}`, "),
            _ => format!("`{reason}` ×{times}, "),
        })
        .collect()
}

/// Waits for the end, good or bad, and says what was seen; checks what holds for every row.
#[track_caller]
fn end(server: &Server, run: &Run, media: &Synthetic) -> String {
    run.wait_for(PATIENCE, |log| log.is_eos() || log.error().is_some());
    let log = run.stop();
    assert_rate(server, "the table");
    delays(server, &log);
    let failed = |message: &&&gst::StructureRef| message.get::<u32>("attempt").unwrap() > 0;
    let failures = log
        .structures("kvs-reconnect")
        .iter()
        .filter(failed)
        .count() as u64;
    assert_eq!(run.stats().get::<u64>("retries"), Ok(failures));
    assert!(log.faults.is_empty(), "{:?}", log.faults);
    let reconnects = reconnects(&log);
    match log.error() {
        Some((error, details)) => {
            let details = details.expect("details");
            request_is_known(server, &details);
            format!("{reconnects}{}", describe(&error, &details))
        }
        None => {
            assert!(log.is_eos(), "neither end nor error: {reconnects}");
            assert_media(&log, media, "the table");
            assert!(log.structures("kvs-gap").is_empty());
            format!("{reconnects}plays on")
        }
    }
}

/// Each delay is twice the one before, with jitter on top, and is really waited.
fn delays(server: &Server, log: &Log) {
    let messages = log.structures("kvs-reconnect");
    let requests = get_media(server);
    for (index, message) in messages.iter().enumerate() {
        let attempt = message.get::<u32>("attempt").unwrap();
        let delay = Duration::from_nanos(message.get::<u64>("delay").unwrap());
        if let Some(doubled) = attempt.checked_sub(1) {
            let least = Duration::from_millis(100) * 2u32.pow(doubled);
            assert!((least..=2 * least).contains(&delay), "{attempt}: {delay:?}");
        }
        if requests.len() == messages.len() + 1 {
            let waited = requests[index + 1].at - requests[index].at;
            assert!(waited >= delay, "{waited:?} instead of {delay:?}");
        }
    }
}

/// A service's error names a request that the service knows.
fn request_is_known(server: &Server, details: &gst::Structure) {
    assert_eq!(details.name(), "kvs-error");
    if details.has_field("http-status") || details.has_field("error-id") {
        let id = details.get::<String>("request-id").unwrap();
        let known = server.requests().iter().any(|r| r.request_id == id);
        assert!(known, "{details:?}");
    }
}

/// `**RESOURCE / NOT_FOUND** (operation, error code, error id, HTTP status; retryable or not)`
fn describe(error: &glib::Error, details: &gst::Structure) -> String {
    let (domain, code) = match (
        error.kind::<gst::ResourceError>(),
        error.kind::<gst::StreamError>(),
    ) {
        (Some(code), _) => ("RESOURCE", format!("{code:?}")),
        (_, Some(code)) => ("STREAM", format!("{code:?}")),
        _ => panic!("{error:?}"),
    };
    let mut name = String::new();
    for letter in code.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    let parts = [
        details.get::<String>("operation").ok(),
        details.get::<String>("error-code").ok(),
        details
            .get::<u32>("error-id")
            .ok()
            .map(|id| format!("id {id}")),
        details
            .get::<u32>("http-status")
            .ok()
            .map(|status| format!("HTTP {status}")),
        details
            .get::<bool>("retryable")
            .unwrap()
            .then(|| "retryable".to_owned()),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    format!("**{domain} / {name}** ({})", parts.join(", "))
}

// ---- the tests ---------------------------------------------------------------------------------

/// Set in the process in which the table is played: that needs an environment of its own.
const CHILD: &str = "KVS_FAULTS_CHILD";

/// A server whose authority that process trusts.
static TRUSTED: Mutex<Option<Server>> = Mutex::new(None);

/// The STS that the configuration of that process names.
static STS: Mutex<Option<Arc<Sts>>> = Mutex::new(None);

#[test]
fn every_fault_is_seen_as_the_table_says() {
    let folder = std::env::temp_dir().join(format!("kvs-faults-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    let output = command
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, "1")
        .env("AWS_CONFIG_FILE", folder.join("config"))
        .env("AWS_SHARED_CREDENTIALS_FILE", folder.join("credentials"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("SSL_CERT_FILE", folder.join("authority.pem"))
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

/// Does nothing but in the process that [`every_fault_is_seen_as_the_table_says`] starts.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let server = Server::builder().tls(true).start();
    let authority = std::env::var("SSL_CERT_FILE").unwrap();
    std::fs::write(authority, server.ca_pem().unwrap()).unwrap();
    *TRUSTED.lock().unwrap() = Some(server);
    let sts = Sts::start();
    let config = std::env::var("AWS_CONFIG_FILE").unwrap();
    let text = format!(
        "[default]\nservices = here\n[services here]\nsts =\n  endpoint_url = {}\n",
        sts.url
    );
    std::fs::write(config, text).unwrap();
    *STS.lock().unwrap() = Some(Arc::new(sts));

    let table = table();
    let mut work = VecDeque::new();
    for row in &table {
        work.push_back((row, true, row.once));
        if row.always != NOTHING_ELSE {
            work.push_back((row, false, row.always));
        }
    }
    let work = Mutex::new(work);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some((row, once, expected)) = work.lock().unwrap().pop_front() else {
                        return;
                    };
                    let when = if once { "once" } else { "for ever" };
                    let seen = catch_unwind(|| row.play(once))
                        .unwrap_or_else(|_| "a failure, see above".to_owned());
                    if seen != expected {
                        let breaks = row.breaks;
                        let line =
                            format!("{breaks}, {when}:\n  seen     {seen}\n  expected {expected}");
                        wrong.lock().unwrap().push(line);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn document() -> String {
    let mut text = DOCUMENT.trim_start().to_owned();
    for Row {
        breaks,
        once,
        always,
        ..
    } in table()
    {
        text.push_str(&format!("| {breaks} | {once} | {always} |\n"));
    }
    text
}

const DOCUMENT: &str = "
<!-- Written by `KVS_WRITE_FAULTS=1 cargo test --test faults`, from the table in tests/faults.rs,
     which the same test plays. -->

# What breaks, and what you see

`reason` is that of a `kvs-reconnect` message: the element asks again, at the place where it was.
\"Plays on\" means that every frame comes once, in its time. Bold is the error that ends it, with the
fields of its details: operation, `error-code`, `error-id`, `http-status`, and whether trying again
later may help. `max-retries` is 2 here; delays begin at 100 ms and double each time.

| What breaks | Once | For ever |
|---|---|---|
";

#[test]
fn the_document_is_the_table() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/FAULTS.md");
    if std::env::var_os("KVS_WRITE_FAULTS").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == document(),
        "{} is stale: run this with KVS_WRITE_FAULTS=1",
        path.display()
    );
}
