use super::clock::{Place, signed};
use crate::ebml::Block;
use bytes::Bytes;

/// Where a segment begins, frames of the first cluster may come in another order than they are shown
/// in. So many nanoseconds of it are looked at before the earliest frame is believed to be known.
const LOOK_AHEAD: i64 = 100_000_000;

/// The most bytes kept back for that.
const LOOK_AHEAD_BYTES: usize = 1024 * 1024;

/// The beginning of a segment, kept back until it is known where the segment begins.
#[derive(Debug)]
pub(super) struct LookAhead {
    /// How its first cluster relates to the line before.
    pub place: Place,
    /// The time of the earliest block, in nanoseconds since the Unix epoch.
    pub earliest: u64,
    /// In the order in which they came.
    pub blocks: Vec<Held>,
    /// What they take up.
    bytes: usize,
    /// So many nanoseconds of the segment are looked at.
    enough: i64,
}

/// A block that is kept back.
#[derive(Debug)]
pub(super) struct Held {
    /// Of its cluster, as served.
    pub timecode: u64,
    pub block: Block,
    /// All of it, in memory of its own.
    pub bytes: Bytes,
}

impl LookAhead {
    /// A segment begins with the cluster that belongs there. All of its first fragment is looked at if it
    /// is `undecided` what its tracks are: the tags that say so may come last.
    pub(super) fn new(place: Place, undecided: bool) -> Self {
        LookAhead {
            place,
            earliest: u64::MAX,
            blocks: Vec::new(),
            bytes: 0,
            enough: if undecided { i64::MAX } else { LOOK_AHEAD },
        }
    }

    /// Keeps back a block that stands at `wall`. Says whether enough has been seen.
    pub(super) fn hold(&mut self, wall: u64, held: Held) -> bool {
        self.earliest = self.earliest.min(wall);
        self.bytes += held.bytes.len() + size_of::<Held>();
        self.blocks.push(held);
        let ahead = signed(wall) - signed(self.earliest);
        ahead >= self.enough || self.bytes > LOOK_AHEAD_BYTES
    }
}
