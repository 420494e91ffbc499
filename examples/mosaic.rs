//! Shows many streams in one picture. One that fails leaves its place black; the others go on.
//!
//! ```text
//! cargo run --example mosaic -- camera-1 camera-2 camera-3 …
//! cargo run --example mosaic -- --sink 'x264enc tune=zerolatency ! mp4mux ! filesink location=all.mp4' \
//!     camera-1 camera-2
//! ```
//!
//! Region and credentials are found as the AWS tools find them, unless a kvs:// URI says more.

use gst::prelude::*;
use std::{error::Error, process::ExitCode};

const USAGE: &str = "Usage: mosaic [--size WIDTHxHEIGHT] [--sink PIPELINE] STREAM-NAME|kvs://...";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mosaic: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let (mut width, mut height) = (1280_usize, 720_usize);
    let mut sink = "autovideosink".to_owned();
    let mut streams = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--size" => {
                let size = arguments.next().ok_or(USAGE)?;
                let (w, h) = size.split_once('x').ok_or(USAGE)?;
                (width, height) = (w.parse()?, h.parse()?);
            }
            "--sink" => sink = arguments.next().ok_or(USAGE)?,
            _ if argument.starts_with('-') => return Err(USAGE.into()),
            _ => streams.push(argument),
        }
    }
    if streams.is_empty() {
        return Err(USAGE.into());
    }
    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;

    // The output's rate is fixed, whatever those of the cameras are. A pad that has nothing to show
    // yet is not waited for.
    let pipeline = gst::parse::launch(&format!(
        "compositor name=mosaic background=black ignore-inactive-pads=true \
         ! video/x-raw,width={width},height={height},framerate=25/1 ! queue ! videoconvert ! {sink}"
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline")?;
    let mosaic = pipeline.by_name("mosaic").ok_or("no compositor")?;

    // As many columns as rows, or one more.
    let columns = (1..).find(|n| n * n >= streams.len()).unwrap_or(1);
    let rows = streams.len().div_ceil(columns);
    let tile = (width / columns, height / rows);
    for (index, stream) in streams.iter().enumerate() {
        let camera = camera(index, stream, tile)?;
        pipeline.add(&camera)?;
        let pad = mosaic.request_pad_simple("sink_%u").ok_or("no pad")?;
        pad.set_property("xpos", i32::try_from(index % columns * tile.0)?);
        pad.set_property("ypos", i32::try_from(index / columns * tile.1)?);
        camera.static_pad("src").ok_or("no pad")?.link(&pad)?;
    }
    // What goes wrong here comes as a message.
    let _ = pipeline.set_state(gst::State::Playing);
    let result = follow(&pipeline, &mosaic, streams);
    pipeline.set_state(gst::State::Null)?;
    result
}

/// A bin that gives the pictures of a stream in the size of its place. The queue gives each camera
/// a thread of its own for decoding and scaling.
fn camera(
    index: usize,
    stream: &str,
    (width, height): (usize, usize),
) -> Result<gst::Bin, Box<dyn Error>> {
    let bin = gst::parse::bin_from_description(
        &format!(
            "kvsgetmediasrc name=source-{index} ! decodebin ! videoconvert ! videoscale \
             ! video/x-raw,width={width},height={height},pixel-aspect-ratio=1/1 \
             ! queue name=pictures-{index}"
        ),
        // Not a pad for each that is unlinked yet: the decoder's will be.
        false,
    )?;
    let pictures = bin.by_name(&format!("pictures-{index}"));
    let pictures = pictures.and_then(|queue| queue.static_pad("src"));
    let pad = gst::GhostPad::with_target(&pictures.ok_or("no queue")?)?;
    pad.set_active(true)?;
    bin.add_pad(&pad)?;
    bin.set_property("name", format!("camera-{index}"));
    let source = bin.by_name(&format!("source-{index}")).ok_or("no source")?;
    match stream.starts_with("kvs://") {
        true => source.set_property("uri", stream),
        false => source.set_property("stream-name", stream),
    }
    Ok(bin)
}

/// Until all streams have ended, without those that fail.
fn follow(
    pipeline: &gst::Pipeline,
    mosaic: &gst::Element,
    streams: Vec<String>,
) -> Result<(), Box<dyn Error>> {
    let mut left = streams.len();
    for message in pipeline.bus().ok_or("no bus")?.iter_timed(None) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Latency(_) => {
                let _ = pipeline.recalculate_latency();
            }
            gst::MessageView::Error(error) => {
                let of = |stream: usize| pipeline.by_name(&format!("camera-{stream}"));
                let inside = |camera: &gst::Element| {
                    let source = message.src();
                    source.is_some_and(|source| source.has_as_ancestor(camera))
                };
                let mut cameras = (0..streams.len()).filter_map(|n| Some((n, of(n)?)));
                let camera = cameras.find(|(_, camera)| inside(camera));
                let Some((number, camera)) = camera else {
                    // Without a camera around it, it is the output that has failed. Of a camera
                    // that is gone already there is nothing more to say.
                    let is_output = message.src().is_some_and(|s| s.has_as_ancestor(pipeline));
                    if is_output {
                        return Err(error.error().into());
                    }
                    continue;
                };
                eprintln!("{}: {}", streams[number], error.error());
                remove(pipeline, mosaic, &camera)?;
                left -= 1;
                if left == 0 {
                    return Err("no stream is left".into());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn remove(
    pipeline: &gst::Pipeline,
    mosaic: &gst::Element,
    camera: &gst::Element,
) -> Result<(), Box<dyn Error>> {
    let pad = camera.static_pad("src").and_then(|pad| pad.peer());
    camera.set_state(gst::State::Null)?;
    pipeline.remove(camera)?;
    if let Some(pad) = pad {
        mosaic.release_request_pad(&pad);
    }
    // While the pipeline was still on its way, one that failed has stopped it there.
    let _ = pipeline.set_state(gst::State::Playing);
    Ok(())
}
