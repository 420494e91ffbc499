//! The time to the first frame, over a network that takes its time.
//!
//! A proxy holds every byte back for 20 ms, each way. What a client says first waits 40 ms more, as it
//! would for the handshake of TCP. Not there: TLS, slow start, losses, looking names up.

use crate::{
    Failure, measure,
    measure::{Figures, figures},
    pacer::Stamp,
    sdk,
    sender::{self, Sender},
    setting,
    watch::Watch,
};
use gst::prelude::*;
use kvs_local::{NewFragment, Server, synth::Synth};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

const DELAY: Duration = Duration::from_millis(20);
const STREAM: &str = "cam";
/// The service takes 5 calls a second for a stream, whoever calls.
const SECOND: Duration = Duration::from_millis(1200);
const PATIENCE: Duration = Duration::from_secs(30);

pub fn main() -> Result<(), Failure> {
    let sender = Sender::start(&["delayed"])?;
    let mut ways = vec![
        ("SDK, the two calls", own("sdk", &sender)?),
        ("kvsgetmediasrc", own("kvs", &sender)?),
    ];
    match measure::python() {
        Some(python) => ways.push(("boto3, the two calls", boto3(&python, &sender))),
        None => eprintln!("skipped: boto3, which no Python here has"),
    }
    let mut best: Vec<Vec<(String, f64)>> = vec![Vec::new(); ways.len()];
    for _ in 0..setting("KVS_BENCH_ROUNDS", 3) {
        for ((name, command), best) in ways.iter_mut().zip(&mut best) {
            let found = figures(command)?;
            best_of(best, name, &found);
            thread::sleep(SECOND);
        }
    }
    println!(
        "\nTo the first frame, {} ms away, load {}\n\n| | ms |\n|---|---:|",
        DELAY.as_millis(),
        measure::load()
    );
    for (name, millis) in best.into_iter().flatten() {
        println!("| {name} | {millis:.0} |");
    }
    Ok(())
}

fn best_of(best: &mut Vec<(String, f64)>, name: &str, found: &Figures) {
    let rows = [
        ("first", ""),
        ("reconnect", ", connected again"),
        ("second", ", the next element of the process"),
    ];
    let rows = rows.iter().filter(|(figure, _)| found.get(figure) > 0.0);
    for (row, (figure, what)) in rows.enumerate() {
        let millis = found.get(figure);
        match best.get_mut(row) {
            Some((_, best)) => *best = best.min(millis),
            None => best.push((format!("{name}{what}"), millis)),
        }
    }
}

fn own(kind: &str, sender: &Sender) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["consume", "first-frame", kind, &sender.url]);
    Ok(command)
}

fn boto3(python: &PathBuf, sender: &Sender) -> Command {
    const SCRIPT: &str = "
import boto3, sys, time
mark = bytes.fromhex(sys.argv[3])
def client(name, url):
    return boto3.client(name, endpoint_url=url, region_name='us-east-1',
                        aws_access_key_id='AKIDEXAMPLE', aws_secret_access_key='example')
start = time.monotonic()
control = client('kinesisvideo', sys.argv[1])
url = control.get_data_endpoint(StreamName=sys.argv[2], APIName='GET_MEDIA')['DataEndpoint']
media = client('kinesis-video-media', url)
body = media.get_media(StreamName=sys.argv[2], StartSelector={'StartSelectorType': 'EARLIEST'})['Payload']
seen = b''
while mark not in seen:
    seen += body.read(4096)
print('first', (time.monotonic() - start) * 1000)
";
    let mark: String = Stamp::MARK
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT, &sender.url, STREAM, &mark]);
    command
}

/// `send delayed`: a service, and the proxy before it, whose URL is printed.
pub fn send(_: &[&str]) -> Result<(), Failure> {
    let server = Server::builder()
        .region(sdk::REGION)
        .credentials(sdk::ACCESS_KEY, sdk::SECRET_KEY, None)
        .rotate_after_fragments(1)
        .start();
    let stream = server.stream(STREAM);
    let media = Synth::new().fragments(50).payload(8192, 8192).build();
    for (index, fragment) in media.fragments.iter().enumerate() {
        // A frame tells which fragment it is of.
        let stamp = Stamp {
            due: index as u64,
            sent: 0,
        };
        let mut document = fragment.document.to_vec();
        for frame in &fragment.frames {
            let at = memchr::memmem::find(&document, &frame.payload).ok_or("a frame is missing")?;
            let end = at + frame.payload.len();
            stamp.write(&mut document[end - Stamp::LEN..end]);
        }
        stream.push_fragment(NewFragment {
            document: document.into(),
            ..fragment.new_fragment()
        });
    }
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let url = format!("http://{}", listener.local_addr()?);
    server.set_data_endpoint(Some(url.clone()));
    println!("{url}");
    sender::end_with_parent();
    let upstream = server.endpoint_url();
    for connection in listener.incoming() {
        let (client, server) = (
            connection?,
            TcpStream::connect(upstream.trim_start_matches("http://"))?,
        );
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        hold_back(client.try_clone()?, server.try_clone()?, DELAY * 2);
        hold_back(server, client, Duration::ZERO);
    }
    Ok(())
}

/// Passes on what comes, each byte when it has been on its way for long enough.
fn hold_back(mut from: TcpStream, mut to: TcpStream, handshake: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    let opened = Instant::now();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            let due = Instant::now().max(opened + handshake) + DELAY;
            if sender.send((due, buffer[..length].to_vec())).is_err() || length == 0 {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// `consume first-frame KIND URL`: milliseconds.
pub fn consume(args: &[&str]) -> Result<(), Failure> {
    match args {
        ["sdk", url] => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(bare(url)),
        ["kvs", url] => element(url),
        _ => Err("consume first-frame KIND URL".into()),
    }
}

async fn bare(url: &str) -> Result<(), Failure> {
    let start = Instant::now();
    let endpoint = sdk::data_endpoint(url, STREAM).await?;
    let mut body = sdk::get_media(&sdk::media(&endpoint), STREAM).await?;
    let mut watch = Watch::default();
    while watch.latest().is_none() {
        let chunk = body.try_next().await?.ok_or("no frame")?;
        watch.take(0, &chunk);
    }
    print("first", start.elapsed());
    Ok(())
}

fn print(name: &str, took: Duration) {
    println!("{name} {}", took.as_secs_f64() * 1000.0);
}

fn element(url: &str) -> Result<(), Failure> {
    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;
    let mut first = Element::new(url)?;
    let start = Instant::now();
    first.play()?;
    print("first", first.wait(Event::Fragment(0))? - start);
    // A body has one fragment.
    let ended = first.wait(Event::Reconnect)?;
    print("reconnect", first.wait(Event::Fragment(1))? - ended);
    drop(first);
    thread::sleep(SECOND);
    let mut second = Element::new(url)?;
    let start = Instant::now();
    second.play()?;
    print("second", second.wait(Event::Fragment(0))? - start);
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Event {
    /// The first frame of one.
    Fragment(u64),
    Reconnect,
    Error(String),
}

struct Element {
    pipeline: gst::Element,
    events: mpsc::Receiver<(Event, Instant)>,
    /// What came and was not waited for.
    earlier: Vec<(Event, Instant)>,
}

impl Element {
    fn new(url: &str) -> Result<Element, Failure> {
        let pipeline = gst::parse::launch(&format!(
            "kvsgetmediasrc name=src stream-name={STREAM} aws-region={} access-key={} secret-key={} \
             endpoint-url={url} start-selector=earliest ! fakesink",
            sdk::REGION,
            sdk::ACCESS_KEY,
            sdk::SECRET_KEY
        ))?;
        let bin = pipeline.downcast_ref::<gst::Bin>().ok_or("no pipeline")?;
        let pad = bin.by_name("src").and_then(|src| src.static_pad("src"));
        let (sender, events) = mpsc::channel();
        let (watch, frames) = (Mutex::new(Watch::default()), sender.clone());
        pad.ok_or("no pad")?
            .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let memories = info
                    .buffer()
                    .into_iter()
                    .flat_map(|buffer| buffer.iter_memories());
                for memory in memories {
                    if let (Ok(mut watch), Ok(bytes)) = (watch.lock(), memory.map_readable()) {
                        let before = watch.latest();
                        watch.take(0, &bytes);
                        if let Some(fragment) = watch.latest().filter(|now| Some(*now) != before) {
                            let _ = frames.send((Event::Fragment(fragment), Instant::now()));
                        }
                    }
                }
                gst::PadProbeReturn::Ok
            });
        pipeline
            .bus()
            .ok_or("no bus")?
            .set_sync_handler(move |_, message| {
                let event = match message.view() {
                    gst::MessageView::Error(error) => Some(Event::Error(format!(
                        "{}: {:?}",
                        error.error(),
                        error.debug()
                    ))),
                    _ if message.has_name("kvs-reconnect") => Some(Event::Reconnect),
                    _ => None,
                };
                if let Some(event) = event {
                    let _ = sender.send((event, Instant::now()));
                }
                gst::BusSyncReply::Drop
            });
        Ok(Element {
            pipeline,
            events,
            earlier: Vec::new(),
        })
    }

    fn play(&self) -> Result<(), Failure> {
        self.pipeline.set_state(gst::State::Playing)?;
        Ok(())
    }

    /// When that happened. The task that reads and the thread that pushes go each its own pace.
    fn wait(&mut self, event: Event) -> Result<Instant, Failure> {
        loop {
            if let Some((_, at)) = self.earlier.iter().find(|(other, _)| *other == event) {
                return Ok(*at);
            }
            match self.events.recv_timeout(PATIENCE)? {
                (Event::Error(error), _) => return Err(error.into()),
                other => self.earlier.push(other),
            }
        }
    }
}

impl Drop for Element {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
