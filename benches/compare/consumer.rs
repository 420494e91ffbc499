//! Those who take a body, each in a process of its own.

use crate::{Failure, first_frame, sdk, watch};
use gst::prelude::*;
use nix::time::{ClockId, clock_gettime};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Mutex,
    thread,
    time::Duration,
};

pub fn main(args: &[&str]) -> Result<(), Failure> {
    match *args {
        ["socket", url] => socket(url),
        ["sdk", url] => runtime()?.block_on(sdk(url)),
        ["appsrc", url] => appsrc(url),
        ["paced", ref rest @ ..] => watch::main(rest),
        ["first-frame", ref rest @ ..] => first_frame::consume(rest),
        ["pipeline", description] => pipeline(description),
        ["aging", bytes, description] => aging(bytes.parse()?, description),
        ["has", element] => {
            gst::init()?;
            match gst::ElementFactory::find(element) {
                Some(_) => Ok(()),
                None => Err(format!("no {element}").into()),
            }
        }
        _ => Err("unknown consumer".into()),
    }
}

/// Reads the socket and does nothing with it.
fn socket(url: &str) -> Result<(), Failure> {
    let host = url.trim_start_matches("http://");
    let mut connection = TcpStream::connect(host)?;
    connection.write_all(
        format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut buffer = vec![0; 256 * 1024];
    while connection.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Drains the SDK's body.
async fn sdk(url: &str) -> Result<(), Failure> {
    let mut body = sdk::get_media(&sdk::media(url), "cam").await?;
    while let Some(chunk) = body.try_next().await? {
        std::hint::black_box(chunk);
    }
    Ok(())
}

/// Does so, and hands it to GStreamer the shortest way there is.
fn appsrc(url: &str) -> Result<(), Failure> {
    let pipeline = parse("appsrc name=src block=true max-bytes=8388608 ! fakesink")?;
    let hand_over = watch::to_appsrc(&pipeline)?;
    let client = sdk::media(url);
    let drain = thread::spawn({
        let pipeline = pipeline.clone();
        move || {
            let drained = runtime()
                .and_then(|runtime| runtime.block_on(watch::drain(&client, "cam", hand_over)))
                .map_err(|error| error.to_string());
            pipeline.send_event(gst::event::Eos::new());
            drained
        }
    });
    run(&pipeline)?;
    drain.join().map_err(|_| "a panic")??;
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

/// Runs a pipeline, written as for gst-launch-1.0, to its end.
fn pipeline(description: &str) -> Result<(), Failure> {
    run(&parse(description)?)
}

/// Does so, and prints the CPU time that each tenth of the body takes up to the element `demux`, in
/// nanoseconds.
fn aging(bytes: u64, description: &str) -> Result<(), Failure> {
    let pipeline = parse(description)?;
    let demuxer = pipeline
        .downcast_ref::<gst::Bin>()
        .and_then(|bin| bin.by_name("demux"));
    let pad = demuxer
        .and_then(|demuxer| demuxer.static_pad("sink"))
        .ok_or("no demux")?;
    let progress = Mutex::new((0, 0, cpu_now()));
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Ok(mut progress) = progress.lock() else {
            return gst::PadProbeReturn::Remove;
        };
        let (seen, tenths, last) = &mut *progress;
        *seen += info.buffer().map_or(0, |buffer| buffer.size() as u64);
        if *seen > (*tenths + 1) * bytes / 10 {
            let now = cpu_now();
            println!("{}", now.saturating_sub(*last).as_nanos());
            (*tenths, *last) = (*tenths + 1, now);
        }
        gst::PadProbeReturn::Ok
    });
    run(&pipeline)
}

/// The CPU time of this process so far.
fn cpu_now() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map(Duration::from)
        .unwrap_or_default()
}

fn parse(description: &str) -> Result<gst::Element, Failure> {
    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;
    Ok(gst::parse::launch(description)?)
}

fn run(pipeline: &gst::Element) -> Result<(), Failure> {
    let bus = pipeline.bus().ok_or("no bus")?;
    pipeline.set_state(gst::State::Playing)?;
    let result = bus
        .iter_timed(gst::ClockTime::NONE)
        .find_map(|message| match message.view() {
            gst::MessageView::Eos(_) => Some(Ok(())),
            gst::MessageView::Error(error) => {
                Some(Err(format!("{}: {:?}", error.error(), error.debug()).into()))
            }
            _ => None,
        });
    pipeline.set_state(gst::State::Null)?;
    result.ok_or("the bus has gone")?
}
