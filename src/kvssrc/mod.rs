//! The element `kvssrc`: `kvsgetmediasrc` and `matroskademux` in a bin, with a pad for each track.
//!
//! ```text
//! ┌ kvssrc ──────────────────────────────────────────────────┐
//! │ ┌────────────────┐        ┌───────────────┐   metas      │ video_0
//! │ │ kvsgetmediasrc ├─probe─►│ matroskademux ├──probe──────►├────────►
//! │ └────────────────┘        └───────────────┘              │ audio_0
//! │          ▲                                               ├────────►
//! │          └─── seeks; SEEKING, DURATION, POSITION ────────┤
//! └──────────────────────────────────────────────────────────┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `imp` | the life of the bin, and its properties, which are those of the source |
//! | `pads` | the pads: their names, and what is asked of them |
//! | `demux` | the demuxer, and how another takes its place when tracks change |
//! | `seek` | seeks, each passed to the source once |
//! | `meta` | what every frame carries |

mod demux;
mod imp;
mod meta;
mod pads;
mod seek;

use gst::prelude::*;
use std::sync::LazyLock;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "kvssrc",
        gst::DebugColorFlags::empty(),
        Some("Kinesis Video Streams source bin"),
    )
});

glib::wrapper! {
    /// A source bin that plays a Kinesis video stream, with a pad for each of its tracks.
    pub struct KvsSrc(ObjectSubclass<imp::KvsSrc>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy, gst::URIHandler;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    meta::register();
    gst::Element::register(
        Some(plugin),
        "kvssrc",
        gst::Rank::PRIMARY,
        KvsSrc::static_type(),
    )
}
