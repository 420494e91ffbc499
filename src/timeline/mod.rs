//! One continuous, endless document made of the service's many small ones, sans-IO.
//!
//! [`Continuous`] takes fragments as the [`fragment`](crate::fragment) module reports them and gives
//! [`Item`](crate::item::Item)s. Its rules follow what `matroskademux` does with what it is given:
//!
//! - The header goes out once. Repeating it makes the demuxer start a new segment at running time 0,
//!   and everything behind that is clipped by sinks. `Tracks` goes out again, alone, when it changes.
//! - `Tags` stay out: the demuxer merges and re-sends all it has ever seen, at quadratic cost.
//! - An empty `Cues` follows `Tracks`: it stops the demuxer from indexing, and from aborting on newer
//!   versions when times come before the first block.
//! - Cluster times are rewritten to a line that begins at zero and never goes back. A demuxer bridges
//!   the silence of a track from zero, so epoch times would make a gap of fifty years.
//! - The wall clock travels in the TIME segment, which the demuxer forwards exactly when it stands
//!   between a cluster's size and its `Timestamp`, after a new `Segment` header.
//!
//! Where an archive's line breaks, it goes on at the end of the last frame. A frame lasts as long as the
//! stream says, or as the pace of its track shows: the shortest distance of its frames, by the wall
//! clock, so that a picture every two seconds is shown for two seconds each, and is no row of holes. A
//! distance of more than ten seconds is no pace: of a time-lapse with a picture every ten minutes, as of
//! single events, nobody waits for the next. Where nothing tells, the frame before a break lasts as long
//! as a hole may, [`max_gap`](Config::max_gap).
//!
//! [`Raw`] passes the service's bytes instead.

mod clock;
mod connect;
mod continuous;
mod look_ahead;
mod output;
mod pace;
mod raw;
mod rewrite;
mod tracks;

pub use clock::Clock;
pub use connect::Mode as ConnectAudio;
pub use continuous::{Continuous, Failure};
pub use raw::Raw;

use crate::{item::Bearings, request::TimestampSource};

/// How fragments are placed in time, and what is mended in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Which clock places them on the wall-clock line.
    pub source: TimestampSource,
    /// A hole longer than this, in nanoseconds, is a break.
    pub max_gap: u64,
    /// Whether such a hole is closed on the rewritten line.
    pub close_holes: bool,
    /// Live: what comes later than this after its time, in nanoseconds, by the pace of what came
    /// before, is due anew when it comes; and a hole is closed where what follows comes by this and
    /// `max_gap` before its time, here and, by its timestamps, at the service. `None`: it stays where
    /// it is.
    pub max_lateness: Option<u64>,
    /// Whether tracks that a demuxer cannot follow begin a new document rather than end the stream.
    pub follow_tracks: bool,
    /// What is done about mislabelled call audio.
    pub connect_audio: ConnectAudio,
    /// Where the clocks stood at the end of the fragment that the stream goes on after, if it is known.
    pub bearings: Option<Bearings>,
}

impl Config {
    /// `max_gap` where nothing else is asked for.
    pub const MAX_GAP: u64 = 1_000_000_000;
}

/// An archive, as it is played unless something else is asked for.
impl Default for Config {
    fn default() -> Self {
        Config {
            source: TimestampSource::default(),
            max_gap: Config::MAX_GAP,
            close_holes: true,
            max_lateness: None,
            follow_tracks: false,
            connect_audio: ConnectAudio::default(),
            bearings: None,
        }
    }
}
