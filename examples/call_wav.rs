//! The audio of an Amazon Connect call as a stereo file: the customer left, the agent right.
//!
//! ```text
//! cargo run --example call_wav -- \
//!     'kvs://?stream-arn=…&start-selector=fragment-number&after-fragment-number=…&end-at-live=true' \
//!     call.wav
//! ```
//!
//! Stream and fragment number are those that Amazon Connect gives to a contact flow. After that
//! fragment number GetMedia begins, so the first fragment of the call is missing: to have it too,
//! ask by `start-selector=server-timestamp`. `end-at-live` ends the recording 10 s after the call.

use gst::prelude::*;
use std::{error::Error, process::ExitCode};

const USAGE: &str = "Usage: call_wav 'kvs://...' FILE.wav";

/// The names of the tracks, which are in no fixed order, and the channels they go to.
const CHANNELS: [(&str, &str); 2] = [
    ("AUDIO_FROM_CUSTOMER", "stereo-left"),
    ("AUDIO_TO_CUSTOMER", "stereo-right"),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("call_wav: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, file] = &arguments[..] else {
        return Err(USAGE.into());
    };
    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;

    // It puts sound where its time is, so that the two stay together whatever is missing of one.
    // The queues are wide: while one side is silent, the other goes on.
    let pipeline = gst::parse::launch(
        "audiointerleave name=stereo ! audio/x-raw,channels=2 ! audioconvert ! wavenc \
         ! filesink name=file \
         queue name=stereo-left max-size-buffers=0 max-size-time=0 ! audioconvert ! stereo.sink_0 \
         queue name=stereo-right max-size-buffers=0 max-size-time=0 ! audioconvert ! stereo.sink_1",
    )?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline")?;
    let sink = pipeline.by_name("file").ok_or("no sink")?;
    sink.set_property("location", file);

    let source = gst::Element::make_from_uri(gst::URIType::Src, uri, None)?;
    pipeline.add(&source)?;
    let weak = pipeline.downgrade();
    source.connect_pad_added(move |_, pad| {
        let pipeline = weak.clone();
        // Before the first sound comes a tag with the track's name.
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
            if let Some(gst::EventView::Tag(event)) = info.event().map(|event| event.view())
                && let Some(title) = event.tag().get::<gst::tags::Title>()
                && let Some(pipeline) = pipeline.upgrade()
                && !pad.is_linked()
            {
                connect(&pipeline, pad, title.get());
            }
            gst::PadProbeReturn::Ok
        });
    });
    source.connect_no_more_pads(|source| {
        let tracks = source.num_src_pads();
        if tracks != CHANNELS.len() as u16 {
            let text = format!("a call has 2 tracks, this stream has {tracks}");
            gst::element_error!(source, gst::StreamError::WrongType, ("{text}"));
        }
    });

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
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null)?;
    result
}

/// Links a track to its channel.
fn connect(pipeline: &gst::Pipeline, pad: &gst::Pad, title: &str) {
    let channel = CHANNELS.iter().find(|(name, _)| *name == title);
    let queue = channel.and_then(|(_, queue)| pipeline.by_name(queue));
    match queue.and_then(|queue| queue.static_pad("sink")) {
        Some(to) if pad.link(&to).is_ok() => println!("{title}"),
        _ => eprintln!("track {title} is left out"),
    }
}
