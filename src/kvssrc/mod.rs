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
//! # What an application does
//!
//! It links each pad when it is added, through a queue where there are several: one thread feeds all
//! of them, as those of any demuxer. It may use a `decodebin` for each. When tracks come, go or change
//! their codec, new pads take the place of the old ones, as `demux` tells: what hangs on an old pad
//! gets its EOS behind its last frame, and is done with when that has come through.
//!
//! Every frame carries when it was recorded and the fragment it came in, see `meta`. Parsers
//! (h264parse, aacparse), decoders (libav's, vp8dec, mulawdec) and converters pass both on, from each
//! frame to the one made of it, on 1.22 and 1.28.
//!
//! # What players do when tracks change
//!
//! `kvs://` leads them here. They were written for sources whose pads do not change. For `uridecodebin`
//! and `uridecodebin3` (so `playbin` and `playbin3`) a pad is kept for a track of the same media
//! type, see `pads`. The same was seen on 1.22.0 and 1.28.8:
//!
//! | tracks | `playbin`, `uridecodebin` | `playbin3`, `uridecodebin3` |
//! |---|---|---|
//! | audio goes, the video stays | plays on | plays on |
//! | audio comes, the video stays | error, not-linked | plays on |
//! | the codec changes | error, not-linked | error, not-linked |
//!
//! At a change of codec `decodebin3` keeps to the stream that it has chosen, which is about to end, and
//! leaves the new one unlinked; and `urisourcebin` has a parser behind each pad, which takes no other
//! codec. A player that is to survive it waits for the message `kvs-tracks-changed` with
//! `compatible=false` and begins again after the last complete fragment
//! (`start-selector=fragment-number`), or uses this element in a pipeline of its own.
//!
//! # Inside
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
