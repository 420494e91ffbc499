//! The element `kvsgetmediasrc`.
//!
//! | module | holds |
//! |---|---|
//! | `imp` | the life of the element: states, the streaming thread, queries |
//! | `properties` | one table of all settings: names, ranges, defaults, descriptions |
//! | `settings` | their values, and every check of them |
//! | `credentials` | those of them that say who asks |
//! | `uri` | the same as a `kvs://` URI |
//! | `stream` | items as buffers and segments |
//! | `handed` | the buffer that is on its way to the pad |
//! | `seek` | seeks and flushes: what they ask for, and how they are performed |
//! | `messages` | items, reconnects and errors as events and messages |
//! | `progress` | what a session says at once, and the step of opening that is under way |
//! | `tags` | the registered tags |

mod credentials;
mod handed;
mod imp;
pub(crate) mod messages;
mod progress;
pub(crate) mod properties;
pub(crate) mod seek;
mod settings;
mod stream;
pub(crate) mod tags;
pub(crate) mod uri;

use gst::prelude::*;
use std::sync::LazyLock;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "kvsgetmediasrc",
        gst::DebugColorFlags::empty(),
        Some("Kinesis Video Streams source"),
    )
});

static CAT_DATA: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "kvsgetmediasrc-data",
        gst::DebugColorFlags::empty(),
        Some("Kinesis Video Streams source: what goes downstream"),
    )
});

glib::wrapper! {
    /// A push source that plays a Kinesis video stream as one endless Matroska document.
    pub struct KvsGetMediaSrc(ObjectSubclass<imp::KvsGetMediaSrc>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object,
        @implements gst::URIHandler;
}

/// Where in the stream to begin: `StartSelectorType` of the service.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstKvsStartSelector")]
#[non_exhaustive]
pub enum StartSelector {
    /// The latest fragment.
    #[default]
    #[enum_value(name = "The latest fragment of the stream", nick = "now")]
    Now,
    /// The oldest fragment kept.
    #[enum_value(
        name = "The oldest fragment that the stream still keeps",
        nick = "earliest"
    )]
    Earliest,
    /// The fragment after `after-fragment-number`.
    #[enum_value(
        name = "The fragment after the one that after-fragment-number names",
        nick = "fragment-number"
    )]
    FragmentNumber,
    /// The fragment at `start-timestamp`, by the producer's clock.
    #[enum_value(
        name = "The fragment that holds start-timestamp by the producer's clock",
        nick = "producer-timestamp"
    )]
    ProducerTimestamp,
    /// The fragment at `start-timestamp`, by the service's clock.
    #[enum_value(
        name = "The fragment that holds start-timestamp by the service's clock",
        nick = "server-timestamp"
    )]
    ServerTimestamp,
    /// The fragment after the one that carried `continuation-token`.
    #[enum_value(
        name = "The fragment after the one that carried continuation-token",
        nick = "continuation-token"
    )]
    ContinuationToken,
}

/// What goes downstream.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstKvsPayload")]
#[non_exhaustive]
pub enum Payload {
    /// One endless document.
    #[default]
    #[enum_value(
        name = "One endless Matroska document with timestamps that never go back, for a demuxer",
        nick = "continuous"
    )]
    Continuous,
    /// The service's bytes.
    #[enum_value(
        name = "The bytes as the service sends them, a complete Matroska document for each fragment",
        nick = "raw"
    )]
    Raw,
}

/// How the element behaves in a pipeline.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstKvsMode")]
#[non_exhaustive]
pub enum Mode {
    /// Live from NOW, archive otherwise.
    #[default]
    #[enum_value(
        name = "Live if start-selector is now, archive otherwise",
        nick = "auto"
    )]
    Auto,
    /// A live source.
    #[enum_value(
        name = "A live source: frames are played latency after they arrive, holes in time stay",
        nick = "live"
    )]
    Live,
    /// Not a live source.
    #[enum_value(
        name = "Not a live source: as fast as downstream takes it, holes longer than max-gap are closed",
        nick = "archive"
    )]
    Archive,
}

/// Which clock stream time, seeks and `end-timestamp` mean.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstKvsTimestampSource")]
#[non_exhaustive]
pub enum TimestampSource {
    /// The producer's.
    #[default]
    #[enum_value(
        name = "The producer's clock; the service's for fragments whose producer time cannot be right",
        nick = "producer"
    )]
    Producer,
    /// The service's.
    #[enum_value(
        name = "The service's clock: when it received the first fragment of an unbroken stretch",
        nick = "server"
    )]
    Server,
}

/// What is done about Amazon Connect's call audio, which is PCM and says it is AAC.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstKvsConnectAudio")]
#[non_exhaustive]
pub enum ConnectAudio {
    /// What a tag says is mislabelled.
    #[default]
    #[enum_value(
        name = "AAC tracks of Amazon Connect's names are announced as PCM where a tag of the stream says audio/L16",
        nick = "auto"
    )]
    Auto,
    /// Nothing.
    #[enum_value(name = "Tracks are announced as the stream has them", nick = "off")]
    Off,
    /// Every track of its names.
    #[enum_value(
        name = "Every track named AUDIO_FROM_CUSTOMER or AUDIO_TO_CUSTOMER is announced as PCM",
        nick = "on"
    )]
    On,
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    tags::register();
    for enum_type in [
        StartSelector::static_type(),
        Payload::static_type(),
        Mode::static_type(),
        TimestampSource::static_type(),
        ConnectAudio::static_type(),
    ] {
        enum_type.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "kvsgetmediasrc",
        // Below kvssrc, which is what a player wants of a kvs:// URI.
        gst::Rank::SECONDARY,
        KvsGetMediaSrc::static_type(),
    )
}
