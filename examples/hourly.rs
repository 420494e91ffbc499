//! Records a stream to files that are cut on the hour, without decoding it.
//!
//! ```text
//! cargo run --example hourly -- cam recordings
//! cargo run --example hourly -- --minutes 15 'kvs://cam?start-selector=earliest' recordings
//! ```
//!
//! A new file begins with the first keyframe at or after each full hour of the time at which the
//! stream was recorded, in UTC, and is named by the time of its first frame:
//! `recordings/20240501T130000Z.mkv`. Region and credentials are found as the AWS tools find them,
//! unless the URI says more.

use gst::{glib, prelude::*};
use std::{error::Error, path::PathBuf, process::ExitCode, sync::Mutex};

const USAGE: &str = "Usage: hourly [--minutes N] STREAM-NAME|kvs://... FOLDER";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hourly: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut minutes = 60_u32;
    let mut rest = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--minutes" => minutes = arguments.next().ok_or(USAGE)?.parse::<u32>()?,
            _ => rest.push(argument),
        }
    }
    let [stream, folder] = &rest[..] else {
        return Err(USAGE.into());
    };
    let uri = match stream.starts_with("kvs://") {
        true => stream.clone(),
        false => format!("kvs://{stream}"),
    };
    std::fs::create_dir_all(folder)?;

    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;
    let pipeline = pipeline(
        &uri,
        folder.into(),
        gst::ClockTime::from_seconds(60 * u64::from(minutes)),
    )?;
    end_at_ctrl_c(&pipeline);
    // What goes wrong here comes as a message.
    let _ = pipeline.set_state(gst::State::Playing);
    let mut result = Ok(());
    for message in pipeline.bus().ok_or("no bus")?.iter_timed(None) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => {
                let details = error.details().map(|details| format!(" {details}"));
                result = Err(format!("{}{}", error.error(), details.unwrap_or_default()).into());
                break;
            }
            gst::MessageView::Element(_) => {
                if let Some(closed) = message.structure()
                    && closed.name() == "splitmuxsink-fragment-closed"
                {
                    println!("{}", closed.get::<&str>("location")?);
                }
            }
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null)?;
    result
}

fn pipeline(
    uri: &str,
    folder: PathBuf,
    every: gst::ClockTime,
) -> Result<gst::Pipeline, Box<dyn Error>> {
    let source = gst::Element::make_from_uri(gst::URIType::Src, uri, None)?;
    // It writes one file after the other, and begins each with a keyframe.
    let files = gst::ElementFactory::make("splitmuxsink")
        .property_from_str("muxer-factory", "matroskamux")
        .property("send-keyframe-requests", false)
        .build()?;
    files.connect("format-location-full", false, move |values| {
        let sample = values.get(2)?.get::<gst::Sample>().ok()?;
        let name = sample.buffer().and_then(recorded_at).and_then(file_name);
        let path = folder.join(name.unwrap_or_else(|| "unknown-time.mkv".to_owned()));
        Some(path.to_string_lossy().into_owned().to_value())
    });
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &files])?;
    let weak = pipeline.downgrade();
    source.connect_pad_added(move |_, pad| {
        if let Some(pipeline) = weak.upgrade()
            && let Err(error) = record(&pipeline, pad, &files, every)
        {
            gst::element_error!(pipeline, gst::CoreError::Failed, ("{error}"));
        }
    });
    Ok(pipeline)
}

/// Records what comes out of a new pad.
fn record(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    files: &gst::Element,
    every: gst::ClockTime,
) -> Result<(), Box<dyn Error>> {
    let is_video = pad.name().starts_with("video");
    let name = if is_video { "video" } else { "audio_%u" };
    let to = files
        .request_pad_simple(name)
        .ok_or("one video track alone can be recorded")?;
    // One thread feeds all pads of the source: the queue lets it go on to the next.
    let queue = gst::ElementFactory::make("queue").build()?;
    pipeline.add(&queue)?;
    queue.sync_state_with_parent()?;
    queue.static_pad("src").ok_or("no pad")?.link(&to)?;
    pad.link(&queue.static_pad("sink").ok_or("no pad")?)?;
    if is_video {
        cut(&to, files, every);
    }
    Ok(())
}

/// Asks for a new file at the first keyframe of each `every`, by the time of recording.
fn cut(pad: &gst::Pad, files: &gst::Element, every: gst::ClockTime) {
    let files = files.downgrade();
    let current = Mutex::new(None);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let keyframe = info
            .buffer()
            .filter(|buffer| !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT));
        let Some((buffer, time)) = keyframe.and_then(|b| Some((b, recorded_at(b)?))) else {
            return gst::PadProbeReturn::Ok;
        };
        // Which hour since 1970 it is of.
        let hour = time.nseconds() / every.nseconds().max(1);
        let before = current.lock().map(|mut current| current.replace(hour));
        if before.is_ok_and(|before| before.is_some_and(|before| before != hour))
            && let Some(files) = files.upgrade()
            && let Some(segment) = pad.sticky_event::<gst::event::Segment>(0)
            && let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>()
            && let Some(at) = segment.to_running_time(buffer.pts())
        {
            files.emit_by_name::<()>("split-at-running-time", &[&at]);
        }
        gst::PadProbeReturn::Ok
    });
}

/// When a frame was recorded: kvssrc writes it on every one.
fn recorded_at(buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
    let unix = gst::Caps::new_empty_simple("timestamp/x-unix");
    let mut metas = buffer.iter_meta::<gst::ReferenceTimestampMeta>();
    let meta = metas.find(|meta| meta.reference() == unix.as_ref())?;
    Some(meta.timestamp())
}

fn file_name(time: gst::ClockTime) -> Option<String> {
    let utc = glib::DateTime::from_unix_utc(i64::try_from(time.seconds()).ok()?).ok()?;
    Some(format!("{}.mkv", utc.format("%Y%m%dT%H%M%SZ").ok()?))
}

/// Ctrl-C ends the stream, so that the last file is complete.
fn end_at_ctrl_c(pipeline: &gst::Pipeline) {
    let pipeline = pipeline.downgrade();
    std::thread::spawn(move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(tokio::signal::ctrl_c())?;
        if let Some(pipeline) = pipeline.upgrade() {
            pipeline.send_event(gst::event::Eos::new());
        }
        Ok(())
    });
}
