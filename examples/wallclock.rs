//! Prints when each decoded frame was recorded, and the fragment it came in.
//!
//! ```text
//! cargo run --example wallclock -- 'kvs://my-stream?aws-region=eu-west-1&start-selector=earliest'
//! ```
//!
//! Credentials come from the environment, as the AWS SDKs find them.

use gst::{glib, prelude::*};
use std::{env, error::Error, process::ExitCode};

/// The wall-clock time of a frame: of one that the decoder has passed on, as of one that it has not.
fn recorded_at(buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
    let unix = gst::Caps::new_empty_simple("timestamp/x-unix");
    buffer
        .iter_meta::<gst::ReferenceTimestampMeta>()
        .find(|meta| meta.reference() == unix.as_ref())
        .map(|meta| meta.timestamp())
}

fn fragment(buffer: &gst::BufferRef) -> Option<String> {
    let meta = gst::meta::CustomMeta::from_buffer(buffer, "KvsFragmentMeta").ok()?;
    meta.structure().get("fragment-number").ok()
}

/// RFC 3339, in UTC.
fn text(time: gst::ClockTime) -> Option<String> {
    let seconds = i64::try_from(time.seconds()).ok()?;
    let date = glib::DateTime::from_unix_utc(seconds).ok()?;
    let date = date.format("%Y-%m-%dT%H:%M:%S").ok()?;
    Some(format!("{date}.{:06}Z", time.useconds() % 1_000_000))
}

fn print(pad: &str, buffer: &gst::BufferRef) {
    println!(
        "{pad:10} {:27} {}",
        recorded_at(buffer).and_then(text).as_deref().unwrap_or("-"),
        fragment(buffer).as_deref().unwrap_or("-")
    );
}

/// Decodes what comes out of a new pad, and prints it.
fn add_branch(pipeline: &gst::Pipeline, pad: &gst::Pad) -> Result<(), Box<dyn Error>> {
    // One thread feeds all pads of the source: the queue lets it go on to the next.
    let queue = gst::ElementFactory::make("queue").build()?;
    let decoder = gst::ElementFactory::make("decodebin").build()?;
    let sink = gst_app::AppSink::builder().sync(false).build();
    let name = pad.name().to_string();
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                if let Some(buffer) = sample.buffer() {
                    print(&name, buffer);
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    let elements = [&queue, &decoder, sink.upcast_ref()];
    pipeline.add_many(elements)?;
    queue.link(&decoder)?;
    let to = sink.static_pad("sink").ok_or("no sink pad")?;
    decoder.connect_pad_added(move |_, pad| {
        if let Err(error) = pad.link(&to) {
            eprintln!("Not linked: {error}");
        }
    });
    for element in elements {
        element.sync_state_with_parent()?;
    }
    pad.link(&queue.static_pad("sink").ok_or("no sink pad")?)?;
    Ok(())
}

fn run(uri: &str) -> Result<(), Box<dyn Error>> {
    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;
    let source = gst::Element::make_from_uri(gst::URIType::Src, uri, None)?;
    let pipeline = gst::Pipeline::new();
    pipeline.add(&source)?;
    let weak = pipeline.downgrade();
    source.connect_pad_added(move |_, pad| {
        if let Some(pipeline) = weak.upgrade()
            && let Err(error) = add_branch(&pipeline, pad)
        {
            eprintln!("{}: {error}", pad.name());
        }
    });
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().ok_or("no bus")?;
    let mut result = Ok(());
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => {
                result = Err(error.error().into());
                break;
            }
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null)?;
    result
}

fn main() -> ExitCode {
    let Some(uri) = env::args().nth(1) else {
        eprintln!("Usage: wallclock kvs://STREAM-NAME[?PROPERTY=VALUE&...]");
        return ExitCode::from(2);
    };
    match run(&uri) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
