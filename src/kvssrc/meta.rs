//! What every frame carries: when it was recorded, and the fragment it came in.
//!
//! - `GstReferenceTimestampMeta` with the caps `timestamp/x-unix`: the stream time of the frame, in
//!   nanoseconds since the Unix epoch.
//! - The custom meta `KvsFragmentMeta`, a structure of `fragment-number` (string),
//!   `server-timestamp` and `producer-timestamp` (guint64 nanoseconds since the Unix epoch, left out
//!   where unknown). Registered without tags, which is what parsers, filters and decoders copy.

use crate::kvsgetmediasrc::messages::FRAGMENT;
use gst::{prelude::*, subclass::prelude::*};
use std::sync::LazyLock;

/// The meta, and the name of its structure.
const FRAGMENT_META: &str = "KvsFragmentMeta";

static UNIX: LazyLock<gst::Caps> =
    LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-unix"));

/// Makes the meta known to GStreamer, once.
pub(super) fn register() {
    if !gst::meta::CustomMeta::is_registered(FRAGMENT_META) {
        gst::meta::CustomMeta::register_simple(FRAGMENT_META);
    }
}

/// The fragment that frames come from.
#[derive(Debug, Clone)]
pub(super) struct Fragment {
    number: String,
    server_timestamp: Option<u64>,
    producer_timestamp: Option<u64>,
}

impl Fragment {
    /// The fragment that begins with this event; `None` if the event says nothing of one.
    pub(super) fn of(event: &gst::StructureRef) -> Option<Fragment> {
        (event.name() == FRAGMENT).then(|| Fragment {
            number: event.get("fragment-number").unwrap_or_default(),
            server_timestamp: event.get("server-timestamp").ok(),
            producer_timestamp: event.get("producer-timestamp").ok(),
        })
    }

    fn write(&self, meta: &mut gst::StructureRef) {
        meta.set("fragment-number", &self.number);
        meta.set_if_some("server-timestamp", self.server_timestamp);
        meta.set_if_some("producer-timestamp", self.producer_timestamp);
    }
}

/// Writes both metas to a buffer, whose memory stays where it is.
pub(super) fn attach(
    buffer: &mut gst::BufferRef,
    segment: Option<&gst::Segment>,
    fragment: Option<&Fragment>,
) {
    if let Some(time) = stream_time(buffer, segment) {
        gst::ReferenceTimestampMeta::add(buffer, &UNIX, time, gst::ClockTime::NONE);
    }
    if let Some(fragment) = fragment
        && let Ok(mut meta) = gst::meta::CustomMeta::add(buffer, FRAGMENT_META)
    {
        fragment.write(meta.mut_structure());
    }
}

/// Also of frames before the segment, which a decoder needs and a sink does not show.
fn stream_time(buffer: &gst::BufferRef, segment: Option<&gst::Segment>) -> Option<gst::ClockTime> {
    // Of some codecs the container knows the decoding time only.
    let time = buffer.pts().or(buffer.dts())?;
    let segment = segment?.downcast_ref::<gst::ClockTime>()?;
    segment.to_stream_time_full(time)?.positive()
}

impl super::imp::KvsSrc {
    /// Sees to it that every buffer of this pad of the demuxer carries the metas.
    ///
    /// The demuxer passes frames on in the thread that feeds it, so that the fragment that the
    /// source announced last is the one the frame is of.
    pub(super) fn attach_metas(&self, pad: &gst::Pad) {
        let weak = self.downgrade();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let Some(imp) = weak.upgrade()
                && let Some(buffer) = info.buffer_mut()
            {
                imp.catch_panic(
                    || (),
                    |imp| {
                        let segment = pad.sticky_event::<gst::event::Segment>(0);
                        let segment = segment.as_ref().map(|event| event.segment());
                        attach(buffer.make_mut(), segment, imp.fragment().as_deref());
                    },
                );
            }
            gst::PadProbeReturn::Ok
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst::ClockTime;

    fn init() {
        gst::init().unwrap();
        register();
        register();
    }

    fn segment() -> gst::Segment {
        let mut segment = gst::FormattedSegment::<ClockTime>::new();
        segment.set_start(ClockTime::from_seconds(10));
        segment.set_time(ClockTime::from_seconds(1_700_000_000));
        segment.upcast()
    }

    fn fragment() -> Fragment {
        let event = gst::Structure::builder(FRAGMENT)
            .field("fragment-number", "123")
            .field("server-timestamp", 7u64)
            .build();
        Fragment::of(&event).unwrap()
    }

    fn unix(buffer: &gst::BufferRef) -> Option<ClockTime> {
        buffer
            .iter_meta::<gst::ReferenceTimestampMeta>()
            .find(|meta| meta.reference() == UNIX.as_ref())
            .map(|meta| meta.timestamp())
    }

    #[test]
    fn frames_tell_their_time_and_fragment() {
        init();
        let mut buffer = gst::Buffer::from_slice([1u8, 2, 3]);
        let memory = buffer.peek_memory(0).as_ptr();
        let inner = buffer.make_mut();
        inner.set_pts(ClockTime::from_mseconds(10_040));
        attach(inner, Some(&segment()), Some(&fragment()));
        assert_eq!(buffer.peek_memory(0).as_ptr(), memory);
        assert_eq!(
            unix(&buffer),
            Some(ClockTime::from_mseconds(1_700_000_000_040))
        );
        let copy = buffer.copy();
        let meta = gst::meta::CustomMeta::from_buffer(&copy, FRAGMENT_META).unwrap();
        assert_eq!(meta.structure().get::<&str>("fragment-number"), Ok("123"));
        assert_eq!(meta.structure().get::<u64>("server-timestamp"), Ok(7));
        assert!(!meta.structure().has_field("producer-timestamp"));
    }

    #[test]
    fn frames_before_the_segment_have_their_time_too() {
        init();
        let mut buffer = gst::Buffer::new();
        let inner = buffer.make_mut();
        inner.set_dts(ClockTime::from_seconds(4));
        attach(inner, Some(&segment()), None);
        assert_eq!(unix(&buffer), Some(ClockTime::from_seconds(1_699_999_994)));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        init();
        let mut buffer = gst::Buffer::new();
        attach(buffer.make_mut(), Some(&segment()), None);
        assert_eq!(unix(&buffer), None);
        assert!(gst::meta::CustomMeta::from_buffer(&buffer, FRAGMENT_META).is_err());
        assert!(Fragment::of(&gst::Structure::new_empty("other")).is_none());
    }
}
