//! What flows from the network to the streaming thread, in order.
//!
//! Timestamps are nanoseconds: a `pts` and where a segment starts on the rewritten zero-based line, the
//! others since the Unix epoch.

use crate::request::TimestampSource;
use bytes::Bytes;

/// One step of the stream, in the order in which downstream and the application see it.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Bytes for downstream.
    Data(Data),
    /// The TIME segment that holds from the next [`Item::Data`] on.
    Segment(Segment),
    /// The next data holds the first frame of this fragment.
    FragmentStart(FragmentStart),
    /// All data of this fragment came before.
    FragmentEnd(FragmentEnd),
    /// Something is missing, or time jumps, between the data before and the data after.
    Gap(Gap),
    /// The tracks of the data after differ from those of the data before.
    TracksChanged(TracksChanged),
    /// The data after tells a demuxer of these tracks.
    Opened(Opened),
}

impl Item {
    /// About how many bytes of text it holds: numbers, tokens, tags and what tracks say of themselves.
    pub fn text_len(&self) -> usize {
        let len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        match self {
            Item::Data(_) | Item::Segment(_) => 0,
            Item::FragmentStart(start) => start.text_len(),
            Item::FragmentEnd(end) => end.start.text_len() + len(&end.continuation_token),
            Item::Gap(gap) => len(&gap.from_fragment) + len(&gap.to_fragment),
            Item::TracksChanged(change) => tracks_len(&change.old) + tracks_len(&change.new),
            Item::Opened(opened) => tracks_len(&opened.tracks),
        }
    }
}

fn tracks_len(tracks: &[Track]) -> usize {
    let len = |track: &Track| {
        let private = track.codec_private.as_ref().map_or(0, Bytes::len);
        let name = track.name.as_ref().map_or(0, String::len);
        size_of::<Track>() + track.codec_id.len() + name + private
    };
    tracks.iter().map(len).sum()
}

/// Whole EBML elements, as slices of what the network delivered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Data {
    /// The bytes, in order.
    pub pieces: Vec<Bytes>,
    /// The time of the first frame in it, if it holds a frame.
    pub pts: Option<u64>,
    /// How many blocks it completes.
    pub frames: u32,
    /// How much of the body was used up for it, what was left out included: `pieces` may keep all of
    /// that in memory.
    pub consumed: usize,
}

impl Data {
    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }
}

/// Where the rewritten line stands in wall-clock time.
///
/// At its own rate, the rewritten line *is* an archive's running time, so that a GStreamer segment's
/// `base` equals its `start`, but for what a seek has clipped; live, `base` is `start` plus what the
/// element adds when a frame is pushed that is due then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The rewritten time at which it begins.
    pub start: u64,
    /// The wall-clock time of that instant.
    pub time: u64,
    /// The clock that this is by.
    pub clock: TimestampSource,
    /// Live: it is due when it comes, whatever was due before.
    pub due_now: bool,
}

/// Where the clocks stand at the end of a fragment. A stream that begins anew behind it, as after a
/// flush, keeps to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bearings {
    /// The wall-clock time of the end of the last frame.
    pub end: u64,
    /// By the service's clock: a wall-clock time, and the timecode as served that stands there.
    pub stretch: Option<(u64, u64)>,
}

/// A name and a value that the producer attached to a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// `TagName`, at most 128 bytes by the service's limits.
    pub name: String,
    /// `TagString`, at most 256 bytes by the service's limits.
    pub value: String,
}

/// What is known of a fragment before its first frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FragmentStart {
    /// The service's number of the fragment: decimal, about 47 digits.
    pub number: String,
    /// When the service received it.
    pub server_timestamp: Option<u64>,
    /// When the producer says it was recorded.
    pub producer_timestamp: Option<u64>,
    /// The time of its first frame as rewritten; `None` when nothing is rewritten (`payload=raw`).
    pub first_pts: Option<u64>,
    /// The producer's tags known by then, in order; names may repeat.
    pub tags: Vec<Tag>,
}

impl FragmentStart {
    fn text_len(&self) -> usize {
        let tag = |tag: &Tag| size_of::<Tag>() + tag.name.len() + tag.value.len();
        self.number.len() + self.tags.iter().map(tag).sum::<usize>()
    }
}

/// A complete fragment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FragmentEnd {
    /// Its beginning; `tags` now holds all of the fragment's.
    pub start: FragmentStart,
    /// How far behind now the service said it is, in milliseconds.
    pub millis_behind_now: Option<u64>,
    /// What to ask for to get the next one.
    pub continuation_token: Option<String>,
    /// Blocks in it.
    pub frames: u32,
    /// The size of the document as served.
    pub bytes: u64,
    /// Where the clocks stand at its end; `None` when nothing is rewritten (`payload=raw`).
    pub bearings: Option<Bearings>,
}

/// Why a [`Gap`] is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapKind {
    /// The service no longer has a fragment that was due.
    Lost,
    /// The clock jumps forward by more than `max-gap`.
    Hole,
    /// The producer's timecodes start again.
    ProducerRestart,
    /// The clock jumps back.
    ClockBack,
    /// The element jumped ahead to now.
    SkippedToNow,
    /// Live: frames come later than the latency allows for. What follows is due when it comes.
    Late,
}

impl GapKind {
    /// The `kind` field of a `kvs-gap` message.
    pub fn as_str(self) -> &'static str {
        match self {
            GapKind::Lost => "lost",
            GapKind::Hole => "hole",
            GapKind::ProducerRestart => "producer-restart",
            GapKind::ClockBack => "clock-back",
            GapKind::SkippedToNow => "skipped-to-now",
            GapKind::Late => "late",
        }
    }
}

/// Something is missing, or time jumps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub kind: GapKind,
    /// The last fragment of which frames were delivered.
    pub from_fragment: Option<String>,
    /// The next one.
    pub to_fragment: Option<String>,
    /// The end of the last frame delivered.
    pub from_timestamp: Option<u64>,
    /// The start of the next frame.
    pub to_timestamp: Option<u64>,
}

/// What a Matroska `TrackEntry` says, as far as anyone downstream asks.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Track {
    /// `TrackNumber`, which blocks refer to.
    pub number: u64,
    /// `TrackType`: 1 video, 2 audio, 17 subtitles.
    pub kind: u64,
    /// `CodecID`.
    pub codec_id: String,
    /// `Name`.
    pub name: Option<String>,
    /// `CodecPrivate`.
    pub codec_private: Option<Bytes>,
    /// `DefaultDuration` of a frame, in nanoseconds.
    pub default_duration: Option<u64>,
    /// `PixelWidth`.
    pub width: Option<u64>,
    /// `PixelHeight`.
    pub height: Option<u64>,
    /// `SamplingFrequency` in Hz.
    pub rate: Option<f64>,
    /// `Channels`.
    pub channels: Option<u64>,
}

/// What a demuxer downstream has been told. A stream that begins anew for it, as after a seek, keeps
/// to that.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// Nanoseconds a unit of time (`TimestampScale`). A demuxer reads it once.
    pub scale: u64,
    /// The tracks, by their numbers.
    pub tracks: Vec<Track>,
}

/// Tracks differ from those before.
#[derive(Debug, Clone, PartialEq)]
pub struct TracksChanged {
    /// Whether a demuxer can follow.
    pub compatible: bool,
    /// Before.
    pub old: Vec<Track>,
    /// From now on.
    pub new: Vec<Track>,
}
