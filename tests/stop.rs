//! Stopping: at once, whatever the element waits for. The only tests that measure time.

mod support;

use gst::prelude::*;
use kvs_local::{Fault, Server};
use std::{
    ffi::{c_char, c_int, c_void},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::*;

/// What an application may wait for `set_state(NULL)`.
const PROMPT: Duration = Duration::from_millis(200);

/// A machine busy with other things may be late once; something that is waited for is late always.
const TRIES: usize = 3;

/// One at a time, so that they do not measure each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Brings the element to some point `TRIES` times at most, and wants it to stop promptly there.
#[track_caller]
fn stops_promptly(what: &str, bring: impl Fn() -> (Server, Run)) {
    let _alone = alone();
    let mut times = Vec::new();
    for _ in 0..TRIES {
        let (server, run) = bring();
        let time = run.time_to_stop();
        assert!(run.log().error().is_none(), "{what}: {:?}", run.log());
        let left = server.wait_until(PATIENCE, |server| {
            server.open_connections("cam") == 0
                && server.requests().iter().all(|request| request.finished)
        });
        assert!(left, "{what}: the connection stays");
        times.push(time);
        if time < PROMPT {
            return;
        }
    }
    panic!("{what}: stopping took {times:?}");
}

#[test]
fn while_the_control_plane_hangs() {
    stops_promptly("GetDataEndpoint hangs", || {
        let server = Server::start();
        server.fault(Fault::get_data_endpoint().always().hang_before_headers());
        let run = Run::demuxed(&source(&server, "cam", &[]));
        run.play();
        assert!(server.wait_until(PATIENCE, |server| !server.requests().is_empty()));
        (server, run)
    });
}

/// An address where nobody answers, not even the kernel: a socket that listens and is full drops what
/// comes. Holds what fills it.
struct BlackHole {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _fill: Vec<TcpStream>,
}

impl BlackHole {
    /// Inside a runtime, for the listener's sake.
    fn open() -> BlackHole {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut fill = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            fill.push(stream);
        }
        BlackHole {
            address,
            _listener: listener,
            _fill: fill,
        }
    }

    /// Sockets of this machine that are still connecting to it, as the kernel lists them.
    fn connecting(&self) -> usize {
        const SYN_SENT: &str = "02";
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let port = format!(":{:04X}", self.address.port());
        let lines = table.lines().map(|line| line.split_whitespace().skip(2));
        lines
            .filter_map(|mut fields| Some((fields.next()?, fields.next()?)))
            .filter(|(remote, state)| remote.ends_with(&port) && *state == SYN_SENT)
            .count()
    }
}

#[test]
fn while_it_connects_to_where_nobody_answers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let hole = BlackHole::open();
    stops_promptly("a connection that is never made", || {
        let server = Server::start();
        server.stream("cam");
        server.set_data_endpoint(Some(format!("http://{}", hole.address)));
        let run = Run::demuxed(&source(&server, "cam", &[]));
        run.play();
        assert!(server.wait_until(PATIENCE, |_| hole.connecting() > 0));
        (server, run)
    });
    let server = Server::start();
    assert!(
        server.wait_until(PATIENCE, |_| hole.connecting() == 0),
        "it still connects"
    );
}

/// It takes connections and says nothing, and so TLS goes no further.
#[test]
fn while_a_tls_handshake_hangs() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    stops_promptly("a TLS handshake that goes no further", || {
        let server = Server::start();
        server.stream("cam");
        server.set_data_endpoint(Some(format!("https://{address}")));
        let run = Run::demuxed(&source(&server, "cam", &[]));
        run.play();
        let (mut socket, _) = listener.accept().unwrap();
        // What it begins with.
        let mut first = [0];
        std::io::Read::read_exact(&mut socket, &mut first).unwrap();
        assert_eq!(first, [0x16], "a handshake");
        (server, run)
    });
}

/// How many names have been looked up.
static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

/// Held, names are looked up for ever.
static NAMES: Mutex<()> = Mutex::new(());

/// Takes the place of the C library's, in this program alone, whose other tests look no name up. It
/// cannot be cancelled, and it may take half a minute where a name server is not there.
#[unsafe(no_mangle)]
extern "C" fn getaddrinfo(
    _node: *const c_char,
    _service: *const c_char,
    _hints: *const c_void,
    _result: *mut *mut c_void,
) -> c_int {
    const EAI_AGAIN: c_int = -3;
    LOOKUPS.fetch_add(1, Ordering::Relaxed);
    drop(NAMES.lock());
    EAI_AGAIN
}

#[test]
fn while_a_name_is_looked_up() {
    let _names = NAMES.lock();
    stops_promptly("a name that is never found", || {
        let before = LOOKUPS.load(Ordering::Relaxed);
        let server = Server::start();
        server.stream("cam");
        server.set_data_endpoint(Some("http://kvs.invalid".to_owned()));
        let run = Run::demuxed(&source(&server, "cam", &[]));
        run.play();
        assert!(server.wait_until(PATIENCE, |_| LOOKUPS.load(Ordering::Relaxed) > before));
        (server, run)
    });
}

#[test]
fn while_the_data_endpoint_hangs() {
    stops_promptly("GetMedia hangs", || {
        let server = Server::start();
        server.stream("cam");
        server.fault(Fault::get_media().always().hang_before_headers());
        let run = Run::demuxed(&source(&server, "cam", &[]));
        run.play();
        assert!(server.wait_until(PATIENCE, |server| !get_media(server).is_empty()));
        (server, run)
    });
}

#[test]
fn while_it_waits_to_ask_again() {
    stops_promptly("between two attempts", || {
        let server = Server::start();
        server.stream("cam");
        server.fault(Fault::get_media().always().reset_before_headers());
        let run = Run::demuxed(&source(&server, "cam", &[("max-retries", "-1")]));
        run.play();
        run.wait("retries", |log| log.reconnects().len() >= 3);
        (server, run)
    });
}

#[test]
fn while_the_body_is_silent() {
    let media = media(1);
    stops_promptly("a silent body", || {
        let server = Server::start();
        let stream = server.stream("cam");
        stream.push_fragment(media.fragments[0].new_fragment());
        let run = Run::demuxed(&source(&server, "cam", &[]));
        run.play();
        run.wait("the fragment", |log| log.fragments().len() == 1);
        (server, run)
    });
}

#[test]
fn in_the_middle_of_a_block() {
    let media = media(1);
    stops_promptly("a stalled body", || {
        let server = Server::start();
        let half = media.fragments[0].document.len() as u64 / 2;
        server.fault(Fault::get_media().stall_after(half));
        let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
        run.play();
        run.wait("frames", |log| log.count() > 0);
        (server, run)
    });
}

#[test]
fn at_a_slow_drip() {
    let media = media(1);
    stops_promptly("a drip", || {
        let server = Server::start();
        server.fault(Fault::get_media().drip(10));
        let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
        run.play();
        let some = |server: &Server| get_media(server).iter().any(|r| r.bytes_sent > 0);
        assert!(server.wait_until(PATIENCE, some));
        (server, run)
    });
}

/// Sends far more than fits into the queue to something that does not take it.
fn blocked(description: &str, state: gst::State) -> (Server, Run) {
    let media = kvs_local::synth::Synth::new()
        .fragments(20)
        .payload(20_000, 30_000)
        .build();
    let server = Server::start();
    media.push_to(&server.stream("cam"));
    let properties = [
        ("start-selector", "earliest"),
        ("max-queue-bytes", "200000"),
    ];
    let run = Run::launch(&source(&server, "cam", &properties), description);
    run.pipeline.set_state(state).unwrap();
    // Half of it at least: from there on the session waits. And nothing moves any more.
    let number = |name| run.stats().get::<u64>(name).unwrap();
    let stuck = |server: &Server| {
        let pushed = number("bytes-pushed");
        let moves = |_: &Server| number("bytes-pushed") > pushed;
        number("queue-bytes") > 100_000 && !server.wait_until(Duration::from_millis(50), moves)
    };
    assert!(server.wait_until(PATIENCE, stuck), "{:?}", run.stats());
    (server, run)
}

#[test]
fn while_a_sink_waits_for_playing() {
    stops_promptly("prerolled", || blocked("fakesink", gst::State::Paused));
}

#[test]
fn while_a_sink_waits_for_the_application() {
    stops_promptly("appsink full", || {
        let sink = "matroskademux ! appsink sync=false max-buffers=1";
        blocked(sink, gst::State::Playing)
    });
}

#[test]
fn while_a_sink_waits_for_the_clock() {
    stops_promptly("in real time", || {
        blocked("matroskademux ! fakesink sync=true", gst::State::Playing)
    });
}

#[test]
fn while_a_pad_is_blocked() {
    stops_promptly("a blocked pad", || {
        let media = media(1);
        let server = Server::start();
        let run = Run::plain(&play_media(&server, "cam", &media, &[]));
        let (sender, receiver) = std::sync::mpsc::channel();
        let pad = run.src.static_pad("src").unwrap();
        let mask = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
        pad.add_probe(mask, move |_, _| {
            let _ = sender.send(());
            gst::PadProbeReturn::Ok
        });
        run.play();
        receiver.recv_timeout(PATIENCE).unwrap();
        (server, run)
    });
}

/// Silence is normal: a producer pauses when it likes. Nothing may be taken for broken in half of the
/// `idle-timeout`, and certainly not after the few seconds that the SDK allows by itself.
#[test]
fn thirty_silent_seconds_are_no_error() {
    let media = media(2);
    let server = Server::start();
    let stream = server.stream("cam");
    stream.push_fragment(media.fragments[0].new_fragment());
    let run = Run::demuxed(&source(&server, "cam", &[]));
    run.play();
    run.wait("the first fragment", |log| log.fragments().len() == 1);
    let heard = run.wait_for(Duration::from_secs(30), |log| {
        log.error().is_some() || log.is_eos() || !log.reconnects().is_empty()
    });
    assert!(!heard, "{:?}", run.log().messages);
    stream.push_fragment(media.fragments[1].new_fragment());
    run.wait("the second fragment", |log| log.fragments().len() == 2);
    assert_eq!(get_media(&server).len(), 1);
}
