//! A sender that could fill any memory: as fast as a socket takes it, into a sink that takes nothing,
//! takes little at a time, or takes all.
//!
//! The sender is in the test's process and the player in one of its own, so that what is measured is
//! the player alone.

mod support;

use gst::prelude::*;
use gstkvsgetmedia::ebml::{self, schema};
use kvs_local::synth::{ClusterSize, Synth, Synthetic};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::*;

const MIB: usize = 1 << 20;

const FRAGMENTS: usize = 128;
const FRAMES: usize = 4;
/// The largest block.
const BLOCK: usize = MIB / 2;
const QUEUE: usize = 4 * MIB;
/// What one read of the network brings, what the demuxer and a sink hold: a few blocks each. And what
/// an allocator keeps.
const CONSTANT: usize = 8 * MIB;

const CHILD: &str = "KVS_FLOOD_CHILD";
const SINK: &str = "KVS_FLOOD_SINK";

/// Some 200 MB, and the start of a fragment that ends the stream.
fn flood() -> Synthetic {
    Synth::new()
        .fragments(FRAGMENTS + 1)
        .frames(FRAMES)
        .fragment_ms(1000)
        .payload(BLOCK - 1000, BLOCK)
        .build()
}

/// The pieces in which that is sent.
fn pieces(media: &Synthetic) -> Vec<Vec<u8>> {
    let documents = media.fragments.iter();
    let pieces = documents.flat_map(|fragment| fragment.document.chunks(64 << 10));
    pieces.map(<[u8]>::to_vec).collect()
}

/// As much, but nearly all of it in elements that are left out: what is queued of a piece is little, and
/// could keep in memory the whole buffer that the network was read into.
fn voids() -> Vec<Vec<u8>> {
    let media = Synth::new()
        .fragments(FRAGMENTS + 1)
        .frames(FRAMES)
        .fragment_ms(1000)
        .payload(4096, 4097)
        .each(|_, fragment| fragment.cluster_size = ClusterSize::Unknown)
        .build();
    let mut void = Vec::new();
    ebml::write::element(&mut void, schema::VOID, &vec![0; BLOCK - 8192]);
    let mut pieces = Vec::new();
    for fragment in &media.fragments {
        let mut reader = ebml::Reader::default();
        reader.push(fragment.document.clone());
        let mut sent = 0;
        while let Some(event) = reader.next().unwrap() {
            if let ebml::Event::Element { id, span, .. } = event
                && id == schema::SIMPLE_BLOCK
            {
                let block = span.end as usize;
                pieces.push(fragment.document[sent..block].to_vec());
                pieces.push(void.clone());
                sent = block;
            }
        }
        pieces.push(fragment.document[sent..].to_vec());
    }
    pieces
}

/// The answer to GetMedia, as it goes over the network.
fn answer(pieces: &[Vec<u8>]) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: video/webm\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut bytes = head.as_bytes().to_vec();
    for piece in pieces {
        bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Sends `answer` to whoever asks, as fast as it goes, until it is refused; counts who asked.
fn serve(answer: Vec<u8>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    thread::spawn(move || {
        for socket in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = send(socket.unwrap(), &answer);
        }
    });
    (address, asked)
}

fn send(mut socket: TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    socket.write_all(answer)
}

/// Bytes a second, in MB.
fn rate(bytes: usize, since: Instant) -> usize {
    (bytes as f64 / since.elapsed().as_secs_f64() / 1e6) as usize
}

#[test]
fn memory_stays_bounded() {
    let answer = answer(&pieces(&flood()));
    let total = answer.len();
    let (address, asked) = serve(answer);

    // What the sender can do.
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let (since, mut read) = (Instant::now(), 0);
    let mut buffer = vec![0; 256 << 10];
    while read < total {
        read += plain.read(&mut buffer).unwrap();
    }
    println!("a plain reader takes {} MB/s", rate(read, since));
    drop(plain);

    for sink in ["blocked", "slow", "fast"] {
        play(address, &asked, sink);
    }
}

#[test]
fn what_is_left_out_is_not_kept() {
    let (address, asked) = serve(answer(&voids()));
    play(address, &asked, "blocked");
}

/// Has what is served there played into such a sink, and measured.
fn play(address: SocketAddr, asked: &AtomicUsize, sink: &str) {
    asked.store(0, Ordering::Relaxed);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, format!("http://{address}"))
        .env(SINK, sink)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    for line in said.lines().filter(|line| line.starts_with(sink)) {
        println!("{line}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "{sink}: connections");
}

/// The most memory that has been resident since this was last asked, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.unwrap().trim_end_matches("kB").trim();
    // "5": begin anew.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    kibibytes.parse::<usize>().unwrap() << 10
}

/// Plays something small, so that what is loaded and made once is there.
fn warm_up() {
    let media = media(2);
    let server = kvs_local::Server::start();
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    run.play().wait_eos();
    run.stop();
}

/// Does nothing but in the process that the test starts: plays, and watches itself.
#[test]
fn child() {
    let Ok(endpoint) = std::env::var(CHILD) else {
        return;
    };
    let sink = std::env::var(SINK).unwrap();
    init();
    // Times and numbers are known without the payloads.
    let small = Synth::new()
        .fragments(FRAGMENTS + 1)
        .frames(FRAMES)
        .fragment_ms(1000)
        .build();
    let src = gst::ElementFactory::make("kvsgetmediasrc").build().unwrap();
    set(
        &src,
        &[
            ("stream-name", "flood"),
            ("aws-region", kvs_local::DEFAULT_REGION),
            ("access-key", kvs_local::DEFAULT_ACCESS_KEY),
            ("secret-key", kvs_local::DEFAULT_SECRET_KEY),
            ("data-endpoint-url", &endpoint),
            ("max-queue-bytes", &QUEUE.to_string()),
        ],
    );
    for (name, value) in until_last(&small) {
        src.set_property_from_str(name, &value);
    }
    let frames = Arc::new(AtomicUsize::new(0));
    let count = frames.clone();
    let slow = sink == "slow";
    let run = Run::each_frame(
        &src,
        Arc::new(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            if slow {
                // A sink of 100 MB/s.
                thread::sleep(Duration::from_millis(5));
            }
        }),
    );
    let pad = src.static_pad("src").unwrap();
    let mask = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
    let probe = (sink == "blocked")
        .then(|| pad.add_probe(mask, |_, _| gst::PadProbeReturn::Ok))
        .flatten();
    warm_up();
    let before = Usage::now().memory;
    peak();
    let since = Instant::now();
    run.play();
    let number = |name| run.stats().get::<u64>(name).unwrap() as usize;
    if let Some(probe) = probe {
        // Until it is full, and for long enough to overflow.
        while number("queue-bytes") < QUEUE / 2 {
            thread::yield_now();
        }
        thread::sleep(Duration::from_secs(1));
        let more = peak() - before;
        println!(
            "blocked: {} KiB queued, at most {} KiB more",
            number("queue-bytes") >> 10,
            more >> 10
        );
        assert!(
            number("bytes-received") < QUEUE + CONSTANT,
            "{}",
            run.stats()
        );
        assert!(more <= QUEUE + BLOCK + CONSTANT, "{more}");
        pad.remove_probe(probe);
    }
    run.wait_eos();
    let more = peak() - before;
    println!(
        "{sink}: {} MB/s, at most {} KiB more than {} KiB",
        rate(number("bytes-received"), since),
        more >> 10,
        before >> 10,
    );
    run.stop();
    assert_eq!(frames.load(Ordering::Relaxed), FRAGMENTS * FRAMES);
    assert!(more <= QUEUE + BLOCK + CONSTANT, "{more} bytes more");
}
