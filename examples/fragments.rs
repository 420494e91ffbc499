//! Prints a line for each fragment of a stream, with what an application keeps of it: when it was
//! recorded, how late it is, and the token to go on from.
//!
//! ```text
//! cargo run --example fragments -- cam
//! cargo run --example fragments -- --after TOKEN cam
//! ```
//!
//! Nothing is decoded: the source alone says all of this. Region and credentials are found as the
//! AWS tools find them, unless a kvs:// URI in place of the name says more.

use gst::{StructureRef, glib, prelude::*};
use std::{error::Error, io::Write, process::ExitCode};

const USAGE: &str =
    "Usage: fragments [--after TOKEN] STREAM-NAME | 'kvs://STREAM-NAME?PROPERTY=VALUE&...'";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fragments: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut token = None;
    let mut stream = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--after" => token = Some(arguments.next().ok_or(USAGE)?),
            _ if argument.starts_with('-') || stream.is_some() => return Err(USAGE.into()),
            _ => stream = Some(argument),
        }
    }
    let stream = stream.ok_or(USAGE)?;

    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;

    let mut source = gst::ElementFactory::make("kvsgetmediasrc");
    source = match stream.starts_with("kvs://") {
        true => source.property("uri", stream),
        false => source.property("stream-name", stream),
    };
    if let Some(token) = token {
        source = source
            .property_from_str("start-selector", "continuation-token")
            .property("continuation-token", token);
    }
    let source = source.build()?;
    let sink = gst::ElementFactory::make("fakesink").build()?;
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &sink])?;
    source.link(&sink)?;

    let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
    // What goes wrong here comes as a message.
    let _ = pipeline.set_state(gst::State::Playing);
    let result = print_until_the_end(&bus);
    pipeline.set_state(gst::State::Null)?;
    result
}

fn print_until_the_end(bus: &gst::Bus) -> Result<(), Box<dyn Error>> {
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => {
                let details = error.details().map(|details| details.to_string());
                let details = details.unwrap_or_default();
                return Err(format!("{} {details}", error.error()).into());
            }
            gst::MessageView::Element(_) => {
                if let Some(line) = message.structure().and_then(line) {
                    writeln!(std::io::stdout(), "{line}")?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// One message as a line, if it is one of the source's.
fn line(structure: &StructureRef) -> Option<String> {
    let text = |field| structure.get::<&str>(field).unwrap_or("-");
    let number = |field| structure.get::<u64>(field).unwrap_or(0);
    Some(match structure.name().as_str() {
        "kvs-fragment" => format!(
            "fragment {} produced={} received={} behind={}ms frames={} bytes={} token={}{}",
            text("fragment-number"),
            time(structure, "producer-timestamp"),
            time(structure, "server-timestamp"),
            number("millis-behind-now"),
            structure.get::<u32>("frames").unwrap_or(0),
            number("bytes"),
            text("continuation-token"),
            tags(structure),
        ),
        "kvs-gap" => format!(
            "gap kind={} after={} before={} from={} to={}",
            text("kind"),
            text("from-fragment-number"),
            text("to-fragment-number"),
            time(structure, "from-timestamp"),
            time(structure, "to-timestamp"),
        ),
        "kvs-reconnect" => format!(
            "reconnect reason={} attempt={} after={}",
            text("reason"),
            structure.get::<u32>("attempt").unwrap_or(0),
            text("resume-after"),
        ),
        _ => return None,
    })
}

/// A field of nanoseconds since the Unix epoch, as a reader wants it.
fn time(structure: &StructureRef, field: &str) -> String {
    let Ok(nanoseconds) = structure.get::<u64>(field) else {
        return "-".to_owned();
    };
    let millis = nanoseconds / 1_000_000 % 1000;
    glib::DateTime::from_unix_utc((nanoseconds / 1_000_000_000) as i64)
        .and_then(|time| time.format("%FT%T"))
        .map_or("-".to_owned(), |time| format!("{time}.{millis:03}Z"))
}

/// The producer's own tags.
fn tags(structure: &StructureRef) -> String {
    let Ok(tags) = structure.get::<gst::Array>("tags") else {
        return String::new();
    };
    tags.iter()
        .filter_map(|tag| tag.get::<gst::Structure>().ok())
        .map(|tag| {
            let text = |field| tag.get::<&str>(field).unwrap_or_default();
            format!(" {}={:?}", text("name"), text("value"))
        })
        .collect()
}
