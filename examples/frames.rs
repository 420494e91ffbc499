//! Decoded pictures of a stream as bytes, each with the time at which it was recorded.
//!
//! ```text
//! cargo run --example frames -- cam
//! cargo run --example frames -- --count 100 'kvs://cam?start-selector=earliest'
//! ```
//!
//! Region and credentials are found as the AWS tools find them, unless the URI says more.

use gst::{glib, prelude::*};
use std::{error::Error, io::Write, process::ExitCode};

const USAGE: &str =
    "Usage: frames [--count N] STREAM-NAME | 'kvs://STREAM-NAME?PROPERTY=VALUE&...'";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("frames: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut count = u64::MAX;
    let mut stream = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--count" => count = arguments.next().ok_or(USAGE)?.parse()?,
            _ if argument.starts_with('-') || stream.is_some() => return Err(USAGE.into()),
            _ => stream = Some(argument),
        }
    }
    let stream = stream.ok_or(USAGE)?;

    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;

    // With max-buffers, the program's own pace is the stream's: nothing piles up, nothing is lost.
    let pipeline = gst::parse::launch(
        "kvsgetmediasrc name=source ! decodebin ! videoconvert ! video/x-raw,format=RGB \
         ! appsink name=frames sync=false max-buffers=4",
    )?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline")?;
    let source = pipeline.by_name("source").ok_or("no source")?;
    match stream.starts_with("kvs://") {
        true => source.set_property("uri", stream),
        false => source.set_property("stream-name", stream),
    }
    let frames = pipeline.by_name("frames").ok_or("no sink")?;
    let frames = frames
        .downcast::<gst_app::AppSink>()
        .map_err(|_| "not an appsink")?;

    let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
    let result = match pipeline.set_state(gst::State::Playing) {
        Ok(_) => show(&frames, &bus, count),
        Err(_) => fail_with_error(&bus),
    };
    pipeline.set_state(gst::State::Null)?;
    result
}

fn show(frames: &gst_app::AppSink, bus: &gst::Bus, count: u64) -> Result<(), Box<dyn Error>> {
    for _ in 0..count {
        // `None` now and then, so that an error is seen while no frame comes.
        let sample = loop {
            match frames.try_pull_sample(gst::ClockTime::from_mseconds(200)) {
                Some(sample) => break sample,
                None if frames.is_eos() => return Ok(()),
                None => fail_with_error(bus)?,
            }
        };
        let buffer = sample.buffer().ok_or("a sample without a buffer")?;
        let caps = sample.caps().and_then(|caps| caps.structure(0));
        let caps = caps.ok_or("a sample without caps")?;
        let (width, height) = (caps.get::<i32>("width")?, caps.get::<i32>("height")?);
        let pixels = buffer.map_readable()?;

        // The stream time of a frame is the time it was recorded at, since the Unix epoch.
        let segment = sample
            .segment()
            .and_then(|s| s.downcast_ref::<gst::ClockTime>());
        let recorded = segment
            .zip(buffer.pts())
            .and_then(|(segment, pts)| segment.to_stream_time(pts))
            .ok_or("a frame without a time")?;

        let brightness = pixels.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        writeln!(
            std::io::stdout(),
            "{} {width}x{height} {} bytes, brightness {}",
            time(recorded)?,
            pixels.len(),
            brightness / pixels.len() as u64,
        )?;
    }
    Ok(())
}

/// A time since the Unix epoch, as a reader wants it.
fn time(time: gst::ClockTime) -> Result<String, Box<dyn Error>> {
    let utc = glib::DateTime::from_unix_utc(i64::try_from(time.seconds())?)?;
    let millis = time.mseconds() % 1000;
    Ok(format!("{}.{millis:03}Z", utc.format("%FT%T")?))
}

/// Fails if the bus has an error.
fn fail_with_error(bus: &gst::Bus) -> Result<(), Box<dyn Error>> {
    let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) else {
        return Ok(());
    };
    match message.view() {
        gst::MessageView::Error(error) => Err(format!(
            "{} {}",
            error.error(),
            error.details().map_or(String::new(), |d| d.to_string())
        )
        .into()),
        _ => Ok(()),
    }
}
