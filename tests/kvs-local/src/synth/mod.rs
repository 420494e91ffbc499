//! Matroska of any shape a service or a producer may send, and the frames that are in it.
//!
//! Payloads are pseudo-random and the same for the same [`seed`](Synth::seed), so that every frame
//! can be told from every other byte by byte.
//!
//! ```
//! use kvs_local::synth::{Blocks, ClusterSize, Synth, TrackSpec};
//!
//! let media = Synth::new()
//!     .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
//!     .fragments(4)
//!     .frames(10)
//!     .each(|index, fragment| {
//!         if index % 2 == 1 {
//!             fragment.cluster_size = ClusterSize::Unknown;
//!             fragment.blocks = Blocks::Group;
//!         }
//!     })
//!     .build();
//! assert_eq!(media.frames().len(), 4 * 2 * 10);
//! ```

mod tracks;
mod write;

use bytes::Bytes;

use crate::mkv::Frame;
pub use crate::mkv::ebml::SizeWidth;
use crate::number::Number;
use crate::store::{NewFragment, Timecodes};
use crate::stream::StreamHandle;
pub use tracks::{TrackKind, TrackSpec};

/// How a Cluster's size is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterSize {
    /// As it is, in 8 bytes.
    Known,
    /// Unknown, in this many bytes (1–8).
    UnknownIn(u8),
    /// Unknown, in 8 bytes.
    Unknown,
}

/// What frames are wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// SimpleBlock.
    Simple,
    /// BlockGroup with Block and BlockDuration, and ReferenceBlock where it is no keyframe.
    Group,
    /// The one and the other in turn.
    Mixed,
}

/// How several frames share a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacing {
    /// They don't.
    None,
    /// Sizes as runs of 255.
    Xiph,
    /// Sizes as differences.
    Ebml,
    /// Frames of one size: payloads are cut to the shortest of the lace.
    Fixed,
}

/// Everything about one fragment. What a [`Synth`] fills in by its own settings,
/// [`Synth::each`] and [`Synth::from_fragment`] may change.
#[derive(Debug, Clone)]
pub struct FragmentSpec {
    /// The tracks; their order is that of Tracks.
    pub tracks: Vec<TrackSpec>,
    /// FRAGMENT_NUMBER.
    pub number: String,
    /// CONTINUATION_TOKEN.
    pub token: String,
    /// PRODUCER_TIMESTAMP, milliseconds since the epoch.
    pub producer_timestamp_ms: u64,
    /// SERVER_TIMESTAMP, milliseconds since the epoch.
    pub server_timestamp_ms: u64,
    /// The Cluster's Timecode, in milliseconds.
    pub timecode_ms: u64,
    /// How long before that the first frame stands, in milliseconds.
    pub lead_ms: u64,
    /// How long the media is, in milliseconds.
    pub duration_ms: u64,
    /// Frames of every track.
    pub frames: usize,
    /// Nanoseconds a unit of time (TimecodeScale).
    pub timescale: u64,
    /// How the Cluster's size is written.
    pub cluster_size: ClusterSize,
    /// How sizes of everything else are written.
    pub size_width: SizeWidth,
    /// What frames are wrapped in.
    pub blocks: Blocks,
    /// How several frames share a block.
    pub lacing: Lacing,
    /// Frames a lace.
    pub laced_frames: usize,
    /// CRC-32 as the Cluster's first child.
    pub crc32: bool,
    /// Void before Info and among the blocks.
    pub void: bool,
    /// SeekHead, with offsets that are wrong.
    pub seek_head: bool,
    /// Cues after the Cluster.
    pub cues: bool,
    /// Position in the Cluster.
    pub position: bool,
    /// PrevSize in the Cluster.
    pub prev_size: bool,
    /// Info.Duration of the producer's file, which means nothing here.
    pub info_duration: bool,
    /// Producer's tags between Segment and Info.
    pub tags_first: Vec<(String, String)>,
    /// Producer's tags between Tracks and the service's first tags.
    pub tags_before: Vec<(String, String)>,
    /// Producer's tags after the Cluster.
    pub tags_after: Vec<(String, String)>,
    /// Whether there is a Cluster.
    pub media: bool,
    /// Whether MILLIS_BEHIND_NOW and CONTINUATION_TOKEN follow.
    pub trailing_tags: bool,
    /// MILLIS_BEHIND_NOW.
    pub millis_behind: u64,
    /// Payload sizes, from and to, inclusive.
    pub payload: (usize, usize),
}

type Change = Box<dyn Fn(usize, &mut FragmentSpec)>;

/// Says what to make.
#[must_use = "nothing is made before Synth::build"]
pub struct Synth {
    fragments: usize,
    seed: u64,
    timecodes: Timecodes,
    distinct_tokens: bool,
    spec: FragmentSpec,
    changes: Vec<Change>,
}

impl Default for Synth {
    fn default() -> Self {
        Synth::new()
    }
}

impl Synth {
    /// One H.264 track, 3 fragments of 2 s and 10 frames, absolute timecodes, Clusters of known
    /// size, SimpleBlocks, nothing that isn't needed.
    pub fn new() -> Synth {
        let start = 1_700_000_000_000;
        Synth {
            fragments: 3,
            seed: 1,
            timecodes: Timecodes::Absolute,
            distinct_tokens: false,
            spec: FragmentSpec {
                tracks: vec![TrackSpec::h264(1)],
                number: Number::first(0).next().to_string(),
                token: String::new(),
                producer_timestamp_ms: start,
                server_timestamp_ms: start + 350,
                timecode_ms: start,
                lead_ms: 0,
                duration_ms: 2000,
                frames: 10,
                timescale: 1_000_000,
                cluster_size: ClusterSize::Known,
                size_width: SizeWidth::Minimal,
                blocks: Blocks::Simple,
                lacing: Lacing::None,
                laced_frames: 3,
                crc32: false,
                void: false,
                seek_head: false,
                cues: false,
                position: false,
                prev_size: false,
                info_duration: false,
                tags_first: Vec::new(),
                tags_before: Vec::new(),
                tags_after: Vec::new(),
                media: true,
                trailing_tags: true,
                millis_behind: 500,
                payload: (20, 200),
            },
            changes: Vec::new(),
        }
    }

    /// The tracks of every fragment.
    pub fn tracks(mut self, tracks: impl IntoIterator<Item = TrackSpec>) -> Synth {
        self.spec.tracks = tracks.into_iter().collect();
        self
    }

    /// How many fragments.
    pub fn fragments(mut self, fragments: usize) -> Synth {
        self.fragments = fragments;
        self
    }

    /// How many frames each track has in a fragment.
    pub fn frames(mut self, frames: usize) -> Synth {
        self.spec.frames = frames;
        self
    }

    /// How long a fragment is.
    pub fn fragment_ms(mut self, ms: u64) -> Synth {
        self.spec.duration_ms = ms;
        self
    }

    /// The producer's time of the first fragment, milliseconds since the epoch.
    pub fn start_ms(mut self, ms: u64) -> Synth {
        self.spec.producer_timestamp_ms = ms;
        self
    }

    /// The server's time of the first fragment, milliseconds since the epoch.
    pub fn server_start_ms(mut self, ms: u64) -> Synth {
        self.spec.server_timestamp_ms = ms;
        self
    }

    /// The number of the first fragment; further ones lie as far apart as the service's do.
    pub fn first_number(mut self, number: &str) -> Synth {
        self.spec.number = number.to_owned();
        self
    }

    /// What is in the payloads.
    pub fn seed(mut self, seed: u64) -> Synth {
        self.seed = seed;
        self
    }

    /// Payload sizes, from and to, inclusive.
    pub fn payload(mut self, from: usize, to: usize) -> Synth {
        self.spec.payload = (from, to);
        self
    }

    /// Whether Cluster timecodes count from the epoch or from the first fragment.
    pub fn timecodes(mut self, timecodes: Timecodes) -> Synth {
        self.timecodes = timecodes;
        self
    }

    /// Nanoseconds a unit of time.
    pub fn timescale(mut self, nanoseconds: u64) -> Synth {
        self.spec.timescale = nanoseconds;
        self
    }

    /// How Cluster sizes are written.
    pub fn cluster_size(mut self, size: ClusterSize) -> Synth {
        self.spec.cluster_size = size;
        self
    }

    /// How the sizes of everything else are written.
    pub fn size_width(mut self, width: SizeWidth) -> Synth {
        self.spec.size_width = width;
        self
    }

    /// What frames are wrapped in.
    pub fn blocks(mut self, blocks: Blocks) -> Synth {
        self.spec.blocks = blocks;
        self
    }

    /// Lacing of so many frames.
    pub fn lacing(mut self, lacing: Lacing, frames: usize) -> Synth {
        self.spec.lacing = lacing;
        self.spec.laced_frames = frames;
        self
    }

    /// CRC-32, Void, SeekHead, Cues, Position, PrevSize and Info.Duration, in every fragment.
    pub fn everything(mut self) -> Synth {
        let spec = &mut self.spec;
        spec.crc32 = true;
        spec.void = true;
        spec.seek_head = true;
        spec.cues = true;
        spec.position = true;
        spec.prev_size = true;
        spec.info_duration = true;
        self
    }

    /// Producer's tags between Tracks and the service's first tags.
    pub fn tags_before(mut self, tags: &[(&str, &str)]) -> Synth {
        self.spec.tags_before = owned(tags);
        self
    }

    /// Producer's tags after the Cluster.
    pub fn tags_after(mut self, tags: &[(&str, &str)]) -> Synth {
        self.spec.tags_after = owned(tags);
        self
    }

    /// Continuation tokens that are no fragment numbers.
    pub fn distinct_tokens(mut self) -> Synth {
        self.distinct_tokens = true;
        self
    }

    /// Changes any fragment; `change` is given its index (from 0) and what it would be.
    pub fn each(mut self, change: impl Fn(usize, &mut FragmentSpec) + 'static) -> Synth {
        self.changes.push(Box::new(change));
        self
    }

    /// Changes every fragment from this one (from 0) on.
    pub fn from_fragment(
        self,
        first: usize,
        change: impl Fn(&mut FragmentSpec) + 'static,
    ) -> Synth {
        self.each(move |index, spec| {
            if index >= first {
                change(spec);
            }
        })
    }

    /// Makes it.
    ///
    /// # Panics
    /// If a block is further from its Cluster than 16 bits of the timescale hold.
    pub fn build(self) -> Synthetic {
        let mut number = Number::parse(&self.spec.number).expect("a fragment number");
        let mut fragments = Vec::with_capacity(self.fragments);
        let mut cluster_len = 0;
        for index in 0..self.fragments {
            let mut spec = self.spec.clone();
            let offset = spec.duration_ms * index as u64;
            spec.number = number.to_string();
            number = number.next();
            spec.token = match self.distinct_tokens {
                true => format!("token-{index}_{:08x}", self.seed.wrapping_mul(0x9E37_79B9)),
                false => spec.number.clone(),
            };
            spec.producer_timestamp_ms += offset;
            spec.server_timestamp_ms += offset;
            spec.timecode_ms = match self.timecodes {
                Timecodes::Absolute => spec.producer_timestamp_ms,
                Timecodes::Relative => offset,
            };
            for change in &self.changes {
                change(index, &mut spec);
            }
            let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(index as u64);
            let fragment = write::fragment(&spec, seed, cluster_len);
            cluster_len = fragment.cluster.len();
            fragments.push(fragment);
        }
        Synthetic { fragments }
    }
}

fn owned(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    tags.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// What a [`Synth`] made.
#[derive(Debug, Clone)]
pub struct Synthetic {
    /// In order.
    pub fragments: Vec<SynthFragment>,
}

/// One fragment.
#[derive(Debug, Clone)]
pub struct SynthFragment {
    /// FRAGMENT_NUMBER.
    pub number: String,
    /// CONTINUATION_TOKEN.
    pub token: String,
    /// PRODUCER_TIMESTAMP, milliseconds since the epoch.
    pub producer_timestamp_ms: u64,
    /// SERVER_TIMESTAMP, milliseconds since the epoch.
    pub server_timestamp_ms: u64,
    /// The whole document, as GetMedia sends it.
    pub document: Bytes,
    /// EBML header, Segment, Info and Tracks alone, as a producer would begin.
    pub header: Bytes,
    /// The Cluster.
    pub cluster: Bytes,
    /// The frames in it, in the order of the document. Frames of a lace have its block's time.
    pub frames: Vec<Frame>,
}

impl SynthFragment {
    /// To be put into a stream, as it is.
    pub fn new_fragment(&self) -> NewFragment {
        NewFragment {
            document: self.document.clone(),
            producer_timestamp_ms: self.producer_timestamp_ms,
            server_timestamp_ms: Some(self.server_timestamp_ms),
            number: Some(self.number.clone()),
            token: Some(self.token.clone()),
        }
    }
}

impl Synthetic {
    /// All documents, one after the other: a GetMedia body.
    pub fn recording(&self) -> Bytes {
        let documents = self.fragments.iter().map(|f| &f.document[..]);
        documents.collect::<Vec<_>>().concat().into()
    }

    /// All frames, in order.
    pub fn frames(&self) -> Vec<Frame> {
        let frames = self.fragments.iter().flat_map(|f| &f.frames);
        frames.cloned().collect()
    }

    /// One header and all Clusters: the body of a PutMedia, without producer's tags.
    pub fn producer_body(&self) -> Bytes {
        let header = self.fragments.first().map(|f| &f.header[..]);
        let clusters = self.fragments.iter().map(|f| &f.cluster[..]);
        header
            .into_iter()
            .chain(clusters)
            .collect::<Vec<_>>()
            .concat()
            .into()
    }

    /// Puts every fragment into a stream, verbatim.
    pub fn push_to(&self, stream: &StreamHandle) {
        for fragment in &self.fragments {
            stream.push_fragment(fragment.new_fragment());
        }
    }
}
