//! The element of a stream, and a pipeline with it whose messages go to the main thread.

use crate::Event;
use gst::{glib, prelude::*};
use std::{error::Error, sync::mpsc::Sender};

/// The element for a stream as the user names it, with these properties.
pub fn source(stream: &str, settings: &[(String, String)]) -> Result<gst::Element, Box<dyn Error>> {
    let element = gst::ElementFactory::make("kvsgetmediasrc").build()?;
    if stream.starts_with("kvs://") {
        let handler = element.dynamic_cast_ref::<gst::URIHandler>();
        handler.ok_or("not a URI handler")?.set_uri(stream)?;
    } else if stream.starts_with("arn:") {
        element.set_property("stream-arn", stream);
    } else {
        element.set_property("stream-name", stream);
    }
    for (name, text) in settings {
        let spec = element.find_property(name);
        let spec = spec.filter(|spec| spec.flags().contains(glib::ParamFlags::WRITABLE));
        let spec = spec.ok_or_else(|| format!("kvsgetmediasrc has no property {name} to set"))?;
        // The value may be a secret; it is not repeated.
        let value = glib::Value::deserialize_with_pspec(text, &spec)
            .map_err(|_| format!("{name}: not a value of type {}", spec.value_type()))?;
        element.set_property_from_value(name, &value);
    }
    Ok(element)
}

/// The name by which a stream is shown.
pub fn name(stream: &str) -> &str {
    let name = stream.strip_prefix("kvs://").unwrap_or(stream);
    let name = name.split('?').next().unwrap_or_default();
    // Of an ARN, what stands between the slashes: arn:aws:kinesisvideo:…:stream/NAME/NUMBER
    let of_arn = stream.starts_with("arn:").then(|| name.split('/').nth(1));
    match of_arn.flatten().unwrap_or(name) {
        "" => stream,
        name => name,
    }
}

/// A pipeline of these elements, not yet linked. Its messages are events of the stream `index`.
pub fn pipeline(
    elements: &[&gst::Element],
    index: usize,
    sender: Sender<Event>,
) -> Result<gst::Pipeline, Box<dyn Error>> {
    let pipeline = gst::Pipeline::new();
    pipeline.add_many(elements)?;
    let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
    bus.set_sync_handler(move |_, message| {
        // Fails only when the main thread wants nothing more.
        let _ = sender.send(Event::Message(index, message.clone()));
        gst::BusSyncReply::Drop
    });
    Ok(pipeline)
}
