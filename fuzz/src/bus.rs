//! Items as what the application sees of them.

#[path = "../../src/kvsgetmediasrc/messages.rs"]
mod messages;
#[path = "../../src/kvsgetmediasrc/tags.rs"]
mod tags;

use crate::{
    error::Error,
    item::{Item, Segment},
    stats::Stats,
};
use gst::prelude::*;
use std::cell::RefCell;

thread_local! {
    static PIPELINE: RefCell<Option<gst::Pipeline>> = const { RefCell::new(None) };
}

/// Starts GStreamer; from now on a warning of GLib's, and what is worse, ends the process.
pub fn init() {
    gst::init().unwrap();
    tags::register();
    glib::log_set_always_fatal(glib::LogLevels::LEVEL_CRITICAL | glib::LogLevels::LEVEL_WARNING);
    PIPELINE.set(Some(gst::Pipeline::new()));
}

/// Posts all that items and an error are to an application, and reads it as one does.
pub fn post(stream: &str, items: &[Item], error: Option<&Error>) {
    PIPELINE.with_borrow(|pipeline| {
        let pipeline = pipeline.as_ref().expect("init was called");
        let element = pipeline.upcast_ref();
        let bus = pipeline.bus().expect("a pipeline has a bus");
        let stats = Stats::default();
        for item in items {
            match item {
                Item::FragmentStart(start) => {
                    let event = messages::fragment_event(stream, start);
                    read(event.structure().expect("a custom event has one"));
                }
                Item::FragmentEnd(end) => {
                    stats.fragment_complete(end);
                    messages::post_fragment(element, stream, end);
                }
                Item::Gap(gap) => messages::post_gap(element, gap),
                Item::TracksChanged(change) => messages::post_tracks_changed(element, change),
                Item::Segment(segment) => read_segment(segment),
                Item::Data(_) | Item::Opened(_) => (),
            }
        }
        if let Some(error) = error {
            messages::post_error(element, error);
        }
        read(&messages::stats_structure(&stats.snapshot(), 0));
        while let Some(message) = bus.pop() {
            if let Some(structure) = message.structure() {
                read(structure);
            }
            if let gst::MessageView::Tag(tag) = message.view() {
                assert!(tag.tags().to_string().len() < 1 << 20);
            }
        }
    });
}

fn read(structure: &gst::StructureRef) {
    let text = structure.to_string();
    assert!(text.starts_with(structure.name().as_str()));
    let number = structure.get_optional::<&str>("fragment-number");
    assert!(
        number
            .expect("a string")
            .is_none_or(|number| number.len() <= 1024)
    );
    let tags = structure
        .get_optional::<gst::Array>("tags")
        .expect("an array");
    for tag in tags.iter().flat_map(|tags| tags.iter()) {
        let tag = tag.get::<gst::Structure>().expect("a structure");
        tag.get::<&str>("name").expect("valid UTF-8");
        tag.get::<&str>("value").expect("valid UTF-8");
    }
}

fn read_segment(segment: &Segment) {
    let mut out = gst::FormattedSegment::<gst::ClockTime>::new();
    let start = gst::ClockTime::from_nseconds(segment.start);
    out.set_start(start);
    out.set_base(start);
    out.set_time(gst::ClockTime::from_nseconds(segment.time));
    assert_eq!(out.to_running_time(start), Some(start));
}
