//! JSON lines: every message of the source with all its fields, under the names it has there.

use crate::monitor::{State, Stream, View};
use gst::glib;
use serde_json::{Map, Value, json};
use std::{
    io::{self, Write},
    time::Duration,
};

pub struct Json;

impl View for Json {
    const INTERVAL: Duration = Duration::from_secs(10);

    fn message(&mut self, stream: &Stream, message: &gst::StructureRef) -> io::Result<()> {
        print(stream, message.name(), fields(message))
    }

    fn end(&mut self, stream: &Stream) -> io::Result<()> {
        if stream.state == State::Ended {
            return print(stream, "eos", Map::new());
        }
        let mut line = stream.error.as_deref().map(fields).unwrap_or_default();
        line.insert("message".into(), json!(stream.trouble));
        print(stream, "error", line)
    }

    fn update(&mut self, streams: &[Stream]) -> io::Result<()> {
        streams.iter().try_for_each(|stream| {
            let mut line = fields(&stream.stats);
            line.insert("reconnects".into(), json!(stream.reconnects));
            line.insert("bitrate".into(), json!(stream.bitrate));
            print(stream, "stats", line)
        })
    }

    fn finish(&mut self, streams: &[Stream]) -> io::Result<()> {
        self.update(streams)
    }
}

/// One line: when, which stream, what, and the rest.
fn print(stream: &Stream, event: &str, fields: Map<String, Value>) -> io::Result<()> {
    let mut line = Map::new();
    line.insert("time".into(), json!(jiff::Timestamp::now().to_string()));
    line.insert("stream".into(), json!(stream.name));
    line.insert("event".into(), json!(event));
    line.extend(fields);
    // Flushed at its end, so that a reader has each line when it happens.
    writeln!(io::stdout().lock(), "{}", Value::Object(line))
}

fn fields(structure: &gst::StructureRef) -> Map<String, Value> {
    let fields = structure.iter();
    fields
        .map(|(name, value)| (name.to_string(), value_of(value)))
        .collect()
}

/// Any value that a structure of the source holds. Times are nanoseconds since 1970, more digits
/// than a JavaScript number has: who needs them all, reads them as integers.
fn value_of(value: &glib::SendValue) -> Value {
    if let Ok(text) = value.get::<Option<String>>() {
        json!(text)
    } else if let Ok(number) = value.get::<u64>() {
        json!(number)
    } else if let Ok(number) = value.get::<u32>() {
        json!(number)
    } else if let Ok(number) = value.get::<i32>() {
        json!(number)
    } else if let Ok(number) = value.get::<f64>() {
        json!(number)
    } else if let Ok(truth) = value.get::<bool>() {
        json!(truth)
    } else if let Ok(array) = value.get::<gst::Array>() {
        array.iter().map(value_of).collect()
    } else if let Ok(structure) = value.get::<gst::Structure>() {
        Value::Object(fields(&structure))
    } else {
        json!(format!("{value:?}"))
    }
}
