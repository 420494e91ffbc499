//! Plays a stream until it ends or Ctrl-C is pressed.
//!
//! ```text
//! cargo run --example play -- cam
//! cargo run --example play -- --no-display 'kvs://cam?aws-region=eu-west-1&start-selector=earliest'
//! ```
//!
//! Region and credentials are found as the AWS tools find them, unless the URI says more.

use gst::prelude::*;
use std::{error::Error, process::ExitCode};

const USAGE: &str =
    "Usage: play [--no-display] STREAM-NAME | 'kvs://STREAM-NAME?PROPERTY=VALUE&...'";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("play: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut display = true;
    let mut stream = None;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--no-display" => display = false,
            _ if argument.starts_with('-') || stream.is_some() => return Err(USAGE.into()),
            _ => stream = Some(argument),
        }
    }
    let stream = stream.ok_or(USAGE)?;
    let uri = match stream.starts_with("kvs://") {
        true => stream,
        false => format!("kvs://{stream}"),
    };

    gst::init()?;
    // The element is part of this program; no plugin needs to be installed.
    gstkvsgetmedia::plugin_register_static()?;

    let pipeline = pipeline(&uri, display)?;
    end_at_ctrl_c(&pipeline);
    let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
    // What goes wrong here comes as a message.
    let _ = pipeline.set_state(gst::State::Playing);
    let result = follow(&pipeline, &bus);
    pipeline.set_state(gst::State::Null)?;
    result
}

/// Shows what the pipeline says, until the stream ends.
fn follow(pipeline: &gst::Pipeline, bus: &gst::Bus) -> Result<(), Box<dyn Error>> {
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => {
                return Err(describe(error).into());
            }
            gst::MessageView::Progress(progress) => {
                let (_, _, text) = progress.get();
                println!("{text}");
            }
            gst::MessageView::Latency(_) => {
                let _ = pipeline.recalculate_latency();
            }
            gst::MessageView::Element(_) => {
                if let Some(structure) = message.structure()
                    && structure.name().starts_with("kvs-")
                {
                    println!("{structure}");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The first Ctrl-C ends the stream, and the sinks play what they have; the second ends the program.
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
        runtime.block_on(tokio::signal::ctrl_c())?;
        std::process::exit(130)
    });
}

/// A source for the URI, what decodes it, and a sink for each track.
fn pipeline(uri: &str, display: bool) -> Result<gst::Pipeline, Box<dyn Error>> {
    let pipeline = gst::Pipeline::new();
    // It finds the source for kvs:// by itself. An error in the URI is told better by the source.
    gst::Element::make_from_uri(gst::URIType::Src, uri, None)?;
    let decoder = gst::ElementFactory::make("uridecodebin")
        .property("uri", uri)
        .build()?;
    pipeline.add(&decoder)?;

    // A pad for each track appears when the demuxer has seen the stream's header.
    let weak = pipeline.downgrade();
    decoder.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else {
            return;
        };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let media = caps.structure(0).map_or("", |structure| structure.name());
        let description = match (media.split('/').next(), display) {
            (Some("video"), true) => "queue ! videoconvert ! autovideosink",
            (Some("audio"), true) => "queue ! audioconvert ! audioresample ! autoaudiosink",
            _ => "queue ! fakesink sync=true",
        };
        println!("Playing {media}");
        if let Err(error) = link(&pipeline, pad, description) {
            gst::element_error!(pipeline, gst::CoreError::Failed, ("{error}"));
        }
    });
    Ok(pipeline)
}

fn link(pipeline: &gst::Pipeline, pad: &gst::Pad, description: &str) -> Result<(), Box<dyn Error>> {
    let bin = gst::parse::bin_from_description(description, true)?;
    pipeline.add(&bin)?;
    bin.sync_state_with_parent()?;
    pad.link(&bin.static_pad("sink").ok_or("no sink pad")?)?;
    Ok(())
}

/// The error, and what the service said about it.
fn describe(error: &gst::message::Error) -> String {
    let mut text = error.error().to_string();
    if let Some(details) = error.details() {
        text.push_str(&format!("\n{details}"));
    } else if let Some(debug) = error.debug() {
        text.push_str(&format!("\n{debug}"));
    }
    text
}
