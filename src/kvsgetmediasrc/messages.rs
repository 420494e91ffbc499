//! Items, reconnects and errors as what GStreamer knows: events, messages, errors.
//!
//! Times are `guint64` nanoseconds since the Unix epoch, but for `first-pts`, which is on the
//! rewritten line. What is not known is left out of a structure rather than given a special value.

use super::tags;
use crate::{
    error::{Error, ErrorKind},
    item::{FragmentEnd, FragmentStart, Gap, Tag, Track, TracksChanged},
    resume::Point,
    stats::Snapshot,
};
use gst::{Structure, prelude::*};
use std::time::Duration;

/// Name of the element message of a complete fragment, and of the event before its first frame.
pub(crate) const FRAGMENT: &str = "kvs-fragment";
const RECONNECT: &str = "kvs-reconnect";
const CHECKPOINT: &str = "kvs-checkpoint";
const GAP: &str = "kvs-gap";
/// Name of the element message of other tracks, and of the event before those that a demuxer cannot
/// follow.
pub(crate) const TRACKS_CHANGED: &str = "kvs-tracks-changed";
const ERROR: &str = "kvs-error";
const STATS: &str = "kvs-stats";
const TAG: &str = "kvs-tag";
const TRACK: &str = "kvs-track";

/// Matroska's `TrackType`.
const TRACK_VIDEO: u64 = 1;
const TRACK_AUDIO: u64 = 2;
const TRACK_SUBTITLE: u64 = 17;

/// Text from the network up to its first NUL: C has no strings with NULs in them.
fn text(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

fn tags_array(tags: &[Tag]) -> gst::Array {
    gst::Array::new(tags.iter().map(|tag| {
        Structure::builder(TAG)
            .field("name", text(&tag.name))
            .field("value", text(&tag.value))
            .build()
            .to_send_value()
    }))
}

fn tracks_array(tracks: &[Track]) -> gst::Array {
    let small = |number: Option<u64>| number.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    gst::Array::new(tracks.iter().map(|track| {
        let kind = match track.kind {
            TRACK_VIDEO => "video",
            TRACK_AUDIO => "audio",
            TRACK_SUBTITLE => "subtitle",
            _ => "other",
        };
        Structure::builder(TRACK)
            .field("number", track.number)
            .field("type", kind)
            .field("codec-id", text(&track.codec_id))
            .field_if_some("name", track.name.as_deref().map(text))
            .field_if_some("width", small(track.width))
            .field_if_some("height", small(track.height))
            .field_if_some("rate", track.rate)
            .field_if_some("channels", small(track.channels))
            .build()
            .to_send_value()
    }))
}

fn fragment_structure(stream: &str, start: &FragmentStart) -> gst::structure::Builder {
    Structure::builder(FRAGMENT)
        .field("stream-name", text(stream))
        .field("fragment-number", text(&start.number))
        .field_if_some("server-timestamp", start.server_timestamp)
        .field_if_some("producer-timestamp", start.producer_timestamp)
        .field_if_some("first-pts", start.first_pts)
        .field("tags", tags_array(&start.tags))
}

/// The event that goes downstream before the first frame of a fragment.
pub(crate) fn fragment_event(stream: &str, start: &FragmentStart) -> gst::Event {
    gst::event::CustomDownstream::new(fragment_structure(stream, start).build())
}

/// The event that goes downstream where tracks begin that the demuxer before cannot follow.
pub(crate) fn tracks_changed_event() -> gst::Event {
    let structure = Structure::builder(TRACKS_CHANGED).field("compatible", false);
    gst::event::CustomDownstream::new(structure.build())
}

/// The structure of the message after the last frame of a fragment.
fn fragment_message(stream: &str, end: &FragmentEnd) -> Structure {
    fragment_structure(stream, &end.start)
        .field_if_some("millis-behind-now", end.millis_behind_now)
        .field_if_some(
            "continuation-token",
            end.continuation_token.as_deref().map(text),
        )
        .field("frames", end.frames)
        .field("bytes", end.bytes)
        .build()
}

fn date_time(ns: u64) -> Option<gst::DateTime> {
    gst::DateTime::from_unix_epoch_utc_usecs(i64::try_from(ns / 1000).ok()?).ok()
}

fn fragment_tags(end: &FragmentEnd) -> gst::TagList {
    use gst::TagMergeMode::Append;
    let mut list = gst::TagList::new();
    let tags = list.make_mut();
    tags.set_scope(gst::TagScope::Stream);
    if !text(&end.start.number).is_empty() {
        tags.add::<tags::FragmentNumber>(&text(&end.start.number), Append);
    }
    if let Some(time) = end.start.server_timestamp.and_then(date_time) {
        tags.add::<tags::ServerTimestamp>(&time, Append);
    }
    if let Some(time) = end.start.producer_timestamp.and_then(date_time) {
        tags.add::<tags::ProducerTimestamp>(&time, Append);
    }
    if let Some(token) = end
        .continuation_token
        .as_deref()
        .map(text)
        .filter(|t| !t.is_empty())
    {
        tags.add::<tags::ContinuationToken>(&token, Append);
    }
    if let Some(millis) = &end.millis_behind_now {
        tags.add::<tags::MillisBehindNow>(millis, Append);
    }
    list
}

fn gap_structure(gap: &Gap) -> Structure {
    Structure::builder(GAP)
        .field("kind", gap.kind.as_str())
        .field_if_some(
            "from-fragment-number",
            gap.from_fragment.as_deref().map(text),
        )
        .field_if_some("to-fragment-number", gap.to_fragment.as_deref().map(text))
        .field_if_some("from-timestamp", gap.from_timestamp)
        .field_if_some("to-timestamp", gap.to_timestamp)
        .build()
}

fn checkpoint_structure(stream: &str, location: &str, point: &Point) -> Structure {
    Structure::builder(CHECKPOINT)
        .field("stream-name", text(stream))
        .field("location", text(location))
        .field_if_some(
            "fragment-number",
            Some(text(&point.number)).filter(|number| !number.is_empty()),
        )
        .field_if_some("continuation-token", point.token.as_deref().map(text))
        .field_if_some("server-timestamp", point.server_timestamp)
        .field_if_some("producer-timestamp", point.producer_timestamp)
        .build()
}

fn tracks_structure(change: &TracksChanged) -> Structure {
    Structure::builder(TRACKS_CHANGED)
        .field("compatible", change.compatible)
        .field("old-tracks", tracks_array(&change.old))
        .field("new-tracks", tracks_array(&change.new))
        .build()
}

/// The `stats` property.
pub(crate) fn stats_structure(stats: &Snapshot, queue_bytes: usize) -> Structure {
    let latest = &stats.latest;
    let string =
        |text_or_none: &Option<String>| text_or_none.as_deref().map(text).map(str::to_owned);
    Structure::builder(STATS)
        .field("bytes-received", stats.bytes_received)
        .field("bytes-pushed", stats.bytes_pushed)
        .field("fragments", stats.fragments)
        .field("frames", stats.frames)
        .field("connections", stats.connections)
        .field("retries", stats.retries)
        .field("gaps", stats.gaps)
        .field("queue-bytes", queue_bytes as u64)
        .field_if_some("server-timestamp", latest.server_timestamp)
        .field_if_some("producer-timestamp", latest.producer_timestamp)
        .field_if_some("millis-behind-now", latest.millis_behind_now)
        .field_if_some("fragment-number", string(&latest.fragment_number))
        .field_if_some("continuation-token", string(&latest.continuation_token))
        .field_if_some("data-endpoint", string(&latest.data_endpoint))
        .field_if_some("request-id", string(&latest.request_id))
        .build()
}

fn post_structure(element: &gst::Element, structure: Structure) {
    post(
        element,
        gst::message::Element::builder(structure)
            .src(element)
            .build(),
    );
}

fn post(element: &gst::Element, message: gst::Message) {
    // Fails only without a bus: then nobody listens.
    let _ = element.post_message(message);
}

/// A fragment is complete, and all of it is downstream.
pub(crate) fn post_fragment(element: &gst::Element, stream: &str, end: &FragmentEnd) {
    post_structure(element, fragment_message(stream, end));
    post(
        element,
        gst::message::Tag::builder(fragment_tags(end))
            .src(element)
            .build(),
    );
}

/// Something is missing, or time jumps.
pub(crate) fn post_gap(element: &gst::Element, gap: &Gap) {
    post_structure(element, gap_structure(gap));
}

/// The stream goes on after `point`, which was found in a file, and not where it was told to start.
pub(crate) fn post_checkpoint(element: &gst::Element, stream: &str, location: &str, point: &Point) {
    post_structure(element, checkpoint_structure(stream, location, point));
}

/// Tracks differ from those before.
pub(crate) fn post_tracks_changed(element: &gst::Element, change: &TracksChanged) {
    post_structure(element, tracks_structure(change));
}

/// A connection ended, and another is made after `delay`.
pub(crate) fn post_reconnect(
    element: &gst::Element,
    reason: &str,
    attempt: u32,
    delay: Duration,
    resume_after: Option<&str>,
) {
    let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
    let structure = Structure::builder(RECONNECT)
        .field("reason", reason)
        .field("attempt", attempt)
        .field("delay", delay)
        .field_if_some("resume-after", resume_after.map(text));
    post_structure(element, structure.build());
}

/// How far opening has come.
pub(crate) fn post_progress(
    element: &gst::Element,
    type_: gst::ProgressType,
    code: &str,
    description: &str,
) {
    let message = gst::message::Progress::builder(type_, code, text(description));
    post(element, message.src(element).build());
}

/// The GStreamer error of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Resource(gst::ResourceError),
    Stream(gst::StreamError),
}

fn code(error: &Error) -> Code {
    use gst::{ResourceError, StreamError};
    match error.kind {
        ErrorKind::NotFound | ErrorKind::FragmentGone => Code::Resource(ResourceError::NotFound),
        ErrorKind::NotAuthorized | ErrorKind::ExpiredCredentials => {
            Code::Resource(ResourceError::NotAuthorized)
        }
        ErrorKind::Settings => Code::Resource(ResourceError::Settings),
        ErrorKind::Network | ErrorKind::Throttled | ErrorKind::Server | ErrorKind::Endpoint => {
            Code::Resource(match error.was_streaming {
                true => ResourceError::Read,
                false => ResourceError::OpenRead,
            })
        }
        ErrorKind::Service => Code::Resource(ResourceError::Read),
        ErrorKind::Demux => Code::Stream(StreamError::Demux),
        ErrorKind::Format => Code::Stream(StreamError::Format),
        ErrorKind::Busy => Code::Resource(ResourceError::Busy),
        ErrorKind::Storage => Code::Resource(ResourceError::OpenReadWrite),
        ErrorKind::NoSpace => Code::Resource(ResourceError::NoSpaceLeft),
        ErrorKind::Internal => Code::Resource(ResourceError::Failed),
    }
}

fn error_details(error: &Error) -> Structure {
    Structure::builder(ERROR)
        .field_if_some(
            "operation",
            error.operation.map(|operation| operation.as_str()),
        )
        .field_if_some("error-code", error.code.as_deref().map(text))
        .field_if_some("error-id", error.id)
        .field_if_some("http-status", error.http_status.map(u32::from))
        .field_if_some("request-id", error.request_id.as_deref().map(text))
        .field("retryable", error.is_retryable())
        .build()
}

/// Gives up: an ERROR message, with what the service said in its details.
pub(crate) fn post_error(element: &gst::Element, error: &Error) {
    let debug = error.to_string();
    let (message, debug) = (text(&error.message), text(&debug));
    let details = error_details(error);
    match code(error) {
        Code::Resource(code) => {
            gst::element_error!(element, code, ("{message}"), ["{debug}"], details: details)
        }
        Code::Stream(code) => {
            gst::element_error!(element, code, ("{message}"), ["{debug}"], details: details)
        }
    }
}

/// Something is wrong, and the stream goes on.
pub(crate) fn post_warning(element: &gst::Element, error: &Error) {
    let debug = error.to_string();
    let (message, debug) = (text(&error.message), text(&debug));
    let details = error_details(error);
    match code(error) {
        Code::Resource(code) => {
            gst::element_warning!(element, code, ("{message}"), ["{debug}"], details: details)
        }
        Code::Stream(code) => {
            gst::element_warning!(element, code, ("{message}"), ["{debug}"], details: details)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Operation, item::GapKind};
    use gst::{ResourceError, StreamError};

    fn init() {
        gst::init().unwrap();
        tags::register();
    }

    fn end() -> FragmentEnd {
        FragmentEnd {
            start: FragmentStart {
                number: "91343852333181432392682062607743920146264094308".to_owned(),
                server_timestamp: Some(1_511_852_109_126_000_000),
                producer_timestamp: None,
                first_pts: Some(2_000_000_000),
                tags: vec![
                    Tag {
                        name: "place".to_owned(),
                        value: "door\0\0".to_owned(),
                    },
                    Tag {
                        name: "place".to_owned(),
                        value: "yard".to_owned(),
                    },
                ],
            },
            millis_behind_now: Some(12_093),
            continuation_token: Some("token".to_owned()),
            frames: 48,
            bytes: 123_456,
            bearings: None,
        }
    }

    #[test]
    fn fragment_has_the_fields_that_are_known() {
        init();
        let structure = fragment_message("cam", &end());
        assert_eq!(structure.name(), "kvs-fragment");
        assert_eq!(structure.get::<&str>("stream-name"), Ok("cam"));
        assert_eq!(structure.get::<&str>("fragment-number").unwrap().len(), 47);
        assert_eq!(
            structure.get::<u64>("server-timestamp"),
            Ok(1_511_852_109_126_000_000)
        );
        assert!(!structure.has_field("producer-timestamp"));
        assert_eq!(structure.get::<u64>("first-pts"), Ok(2_000_000_000));
        assert_eq!(structure.get::<u64>("millis-behind-now"), Ok(12_093));
        assert_eq!(structure.get::<&str>("continuation-token"), Ok("token"));
        assert_eq!(structure.get::<u32>("frames"), Ok(48));
        assert_eq!(structure.get::<u64>("bytes"), Ok(123_456));
        let tags = structure.get::<gst::Array>("tags").unwrap();
        let tags: Vec<_> = tags
            .iter()
            .map(|tag| tag.get::<Structure>().unwrap())
            .collect();
        assert_eq!(tags[0].name(), "kvs-tag");
        assert_eq!(tags[0].get::<&str>("name"), Ok("place"));
        assert_eq!(tags[0].get::<&str>("value"), Ok("door"));
        assert_eq!(tags[1].get::<&str>("value"), Ok("yard"));

        let event = fragment_event("cam", &end().start);
        assert!(event.is_serialized() && event.is_downstream() && !event.is_sticky());
        let structure = event.structure().unwrap();
        assert_eq!(structure.name(), "kvs-fragment");
        assert!(!structure.has_field("frames"));
    }

    #[test]
    fn fragment_tags_print_as_times() {
        init();
        let tags = fragment_tags(&end());
        assert_eq!(tags.get::<tags::FragmentNumber>().unwrap().get().len(), 47);
        let time = tags.get::<tags::ServerTimestamp>().unwrap().get();
        assert_eq!(time.to_iso8601_string().unwrap(), "2017-11-28T06:55:09Z");
        assert_eq!(time.microsecond(), Some(126_000));
        assert!(tags.get::<tags::ProducerTimestamp>().is_none());
        assert_eq!(
            tags.get::<tags::ContinuationToken>().unwrap().get(),
            "token"
        );
        assert_eq!(tags.get::<tags::MillisBehindNow>().unwrap().get(), 12_093);
        // Nothing known, or nonsense: no tag, no warning.
        assert_eq!(fragment_tags(&FragmentEnd::default()).n_tags(), 0);
        let mut absurd = end();
        absurd.start.server_timestamp = Some(u64::MAX);
        fragment_tags(&absurd);
    }

    #[test]
    fn stats_leave_out_what_is_not_known() {
        init();
        let mut stats = Snapshot {
            bytes_received: 7,
            ..Snapshot::default()
        };
        let structure = stats_structure(&stats, 3);
        assert_eq!(structure.get::<u64>("bytes-received"), Ok(7));
        assert_eq!(structure.get::<u64>("queue-bytes"), Ok(3));
        assert_eq!(structure.n_fields(), 8);
        stats.latest.server_timestamp = Some(1);
        stats.latest.producer_timestamp = Some(1);
        stats.latest.millis_behind_now = Some(1);
        for string in [
            &mut stats.latest.fragment_number,
            &mut stats.latest.continuation_token,
            &mut stats.latest.data_endpoint,
            &mut stats.latest.request_id,
        ] {
            *string = Some("x".to_owned());
        }
        assert_eq!(stats_structure(&stats, 3).n_fields(), 15);
    }

    #[test]
    fn gaps_and_tracks() {
        init();
        let structure = gap_structure(&Gap {
            kind: GapKind::ProducerRestart,
            from_fragment: Some("1".to_owned()),
            to_fragment: None,
            from_timestamp: None,
            to_timestamp: Some(5),
        });
        assert_eq!(structure.get::<&str>("kind"), Ok("producer-restart"));
        assert_eq!(structure.get::<&str>("from-fragment-number"), Ok("1"));
        assert_eq!(structure.get::<u64>("to-timestamp"), Ok(5));
        assert_eq!(structure.n_fields(), 3);

        let structure = tracks_structure(&TracksChanged {
            compatible: false,
            old: vec![Track {
                number: 1,
                kind: TRACK_VIDEO,
                codec_id: "V_MPEG4/ISO/AVC".to_owned(),
                width: Some(640),
                height: Some(u64::MAX),
                ..Track::default()
            }],
            new: vec![Track {
                number: 2,
                kind: TRACK_AUDIO,
                codec_id: "A_AAC".to_owned(),
                name: Some("AUDIO_FROM_CUSTOMER".to_owned()),
                rate: Some(8000.0),
                channels: Some(1),
                ..Track::default()
            }],
        });
        assert_eq!(structure.get::<bool>("compatible"), Ok(false));
        let track = |field| {
            let tracks = structure.get::<gst::Array>(field).unwrap();
            tracks.first().unwrap().get::<Structure>().unwrap()
        };
        assert_eq!(track("old-tracks").get::<&str>("type"), Ok("video"));
        assert_eq!(track("old-tracks").get::<u32>("width"), Ok(640));
        assert_eq!(track("old-tracks").get::<u32>("height"), Ok(u32::MAX));
        assert!(!track("old-tracks").has_field("name"));
        assert_eq!(
            track("new-tracks").get::<&str>("name"),
            Ok("AUDIO_FROM_CUSTOMER")
        );
        assert_eq!(track("new-tracks").get::<f64>("rate"), Ok(8000.0));
        assert_eq!(track("new-tracks").get::<u32>("channels"), Ok(1));
    }

    #[test]
    fn error_table() {
        for (kind, was_streaming, expected) in [
            (
                ErrorKind::NotFound,
                false,
                Code::Resource(ResourceError::NotFound),
            ),
            (
                ErrorKind::FragmentGone,
                false,
                Code::Resource(ResourceError::NotFound),
            ),
            (
                ErrorKind::NotAuthorized,
                true,
                Code::Resource(ResourceError::NotAuthorized),
            ),
            (
                ErrorKind::ExpiredCredentials,
                true,
                Code::Resource(ResourceError::NotAuthorized),
            ),
            (
                ErrorKind::Settings,
                false,
                Code::Resource(ResourceError::Settings),
            ),
            (
                ErrorKind::Network,
                false,
                Code::Resource(ResourceError::OpenRead),
            ),
            (
                ErrorKind::Network,
                true,
                Code::Resource(ResourceError::Read),
            ),
            (
                ErrorKind::Throttled,
                false,
                Code::Resource(ResourceError::OpenRead),
            ),
            (
                ErrorKind::Throttled,
                true,
                Code::Resource(ResourceError::Read),
            ),
            (
                ErrorKind::Server,
                false,
                Code::Resource(ResourceError::OpenRead),
            ),
            (ErrorKind::Server, true, Code::Resource(ResourceError::Read)),
            (
                ErrorKind::Endpoint,
                false,
                Code::Resource(ResourceError::OpenRead),
            ),
            (
                ErrorKind::Endpoint,
                true,
                Code::Resource(ResourceError::Read),
            ),
            (
                ErrorKind::Service,
                false,
                Code::Resource(ResourceError::Read),
            ),
            (ErrorKind::Demux, true, Code::Stream(StreamError::Demux)),
            (ErrorKind::Format, true, Code::Stream(StreamError::Format)),
            (
                ErrorKind::Internal,
                true,
                Code::Resource(ResourceError::Failed),
            ),
        ] {
            let error = Error {
                was_streaming,
                ..Error::new(kind, "")
            };
            assert_eq!(code(&error), expected, "{kind:?} {was_streaming}");
        }
    }

    #[test]
    fn error_message_has_details_and_survives_nuls() {
        init();
        let pipeline = gst::Pipeline::new();
        let error = Error {
            code: Some("ResourceNotFoundException\0x".to_owned()),
            http_status: Some(404),
            ..Error::new(ErrorKind::NotFound, "No stream\0 of this name")
                .during(Operation::GetMedia)
        }
        .of_request(Some("r1"));
        post_error(pipeline.upcast_ref(), &error);
        let message = pipeline.bus().unwrap().pop().unwrap();
        let gst::MessageView::Error(message) = message.view() else {
            panic!("{message:?}")
        };
        assert!(message.error().matches(ResourceError::NotFound));
        assert_eq!(message.error().message(), "No stream");
        assert!(message.debug().unwrap().contains("GetMedia: No stream"));
        let details = message.details().unwrap();
        assert_eq!(details.name(), "kvs-error");
        assert_eq!(details.get::<&str>("operation"), Ok("GetMedia"));
        assert_eq!(
            details.get::<&str>("error-code"),
            Ok("ResourceNotFoundException")
        );
        assert_eq!(details.get::<u32>("http-status"), Ok(404));
        assert_eq!(details.get::<&str>("request-id"), Ok("r1"));
        assert_eq!(details.get::<bool>("retryable"), Ok(false));
        assert!(!details.has_field("error-id"));
    }

    #[test]
    fn reconnect() {
        init();
        let pipeline = gst::Pipeline::new();
        let delay = Duration::from_millis(250);
        post_reconnect(pipeline.upcast_ref(), "rotated", 1, delay, Some("17"));
        let message = pipeline.bus().unwrap().pop().unwrap();
        let structure = message.structure().unwrap();
        assert_eq!(structure.name(), "kvs-reconnect");
        assert_eq!(structure.get::<&str>("reason"), Ok("rotated"));
        assert_eq!(structure.get::<u32>("attempt"), Ok(1));
        assert_eq!(structure.get::<u64>("delay"), Ok(250_000_000));
        assert_eq!(structure.get::<&str>("resume-after"), Ok("17"));
    }
}
