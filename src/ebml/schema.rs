//! The Matroska elements this crate knows, as data.
//!
//! Names, ids and parents are those of the Matroska specification (RFC 9559); the caps are ours. They
//! follow the service's limits (50 MB a fragment, 1 MiB of codec private data, at most 3 tracks) with
//! room to spare, so that hostile sizes are refused before anything is kept for them.

/// An element id with its length marker, as it stands in the file.
pub type Id = u32;

/// What the reader does with an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A master the reader descends into; it may have no size.
    Structure,
    /// Anything else: reported when it is complete.
    Whole,
}

/// Where an element may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// At the top of the body.
    Root,
    /// In the element of this id.
    In(Id),
    /// In any master.
    Anywhere,
}

/// What is known of an element.
#[derive(Debug, Clone, Copy)]
pub struct Element {
    /// Its id.
    pub id: Id,
    /// Its name in the specification.
    pub name: &'static str,
    /// Where it stands.
    pub parent: Parent,
    /// How the reader takes it.
    pub kind: Kind,
    /// The largest size of its data, in bytes. Without meaning for [`Kind::Structure`].
    pub max_size: u64,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The cap of an element that is not in the table, in bytes.
pub const UNKNOWN_MAX_SIZE: u64 = MIB;

pub const EBML: Id = 0x1A45_DFA3;
pub const SEGMENT: Id = 0x1853_8067;
pub const SEEK_HEAD: Id = 0x114D_9B74;
pub const INFO: Id = 0x1549_A966;
pub const TIMESTAMP_SCALE: Id = 0x2A_D7B1;
pub const DURATION: Id = 0x4489;
pub const TRACKS: Id = 0x1654_AE6B;
pub const TRACK_ENTRY: Id = 0xAE;
pub const TRACK_NUMBER: Id = 0xD7;
pub const TRACK_TYPE: Id = 0x83;
pub const DEFAULT_DURATION: Id = 0x23_E383;
pub const NAME: Id = 0x536E;
pub const CODEC_ID: Id = 0x86;
pub const CODEC_PRIVATE: Id = 0x63A2;
pub const VIDEO: Id = 0xE0;
pub const PIXEL_WIDTH: Id = 0xB0;
pub const PIXEL_HEIGHT: Id = 0xBA;
pub const AUDIO: Id = 0xE1;
pub const SAMPLING_FREQUENCY: Id = 0xB5;
pub const CHANNELS: Id = 0x9F;
pub const BIT_DEPTH: Id = 0x6264;
pub const CLUSTER: Id = 0x1F43_B675;
pub const TIMESTAMP: Id = 0xE7;
pub const POSITION: Id = 0xA7;
pub const PREV_SIZE: Id = 0xAB;
pub const SIMPLE_BLOCK: Id = 0xA3;
pub const BLOCK_GROUP: Id = 0xA0;
pub const BLOCK: Id = 0xA1;
pub const BLOCK_DURATION: Id = 0x9B;
pub const REFERENCE_BLOCK: Id = 0xFB;
pub const CUES: Id = 0x1C53_BB6B;
pub const TAGS: Id = 0x1254_C367;
pub const TAG: Id = 0x7373;
pub const SIMPLE_TAG: Id = 0x67C8;
pub const TAG_NAME: Id = 0x45A3;
pub const TAG_STRING: Id = 0x4487;
pub const CHAPTERS: Id = 0x1043_A770;
pub const ATTACHMENTS: Id = 0x1941_A469;
pub const VOID: Id = 0xEC;
pub const CRC_32: Id = 0xBF;

const fn structure(id: Id, name: &'static str, parent: Parent) -> Element {
    Element {
        id,
        name,
        parent,
        kind: Kind::Structure,
        max_size: u64::MAX,
    }
}

const fn whole(id: Id, name: &'static str, parent: Id, max_size: u64) -> Element {
    Element {
        id,
        name,
        parent: Parent::In(parent),
        kind: Kind::Whole,
        max_size,
    }
}

const SIMPLE_BLOCK_ELEMENT: Element = whole(SIMPLE_BLOCK, "SimpleBlock", CLUSTER, 64 * MIB);

/// The table. Elements that stand inside a whole master are listed for their names and caps.
pub const ELEMENTS: &[Element] = &[
    Element {
        parent: Parent::Root,
        ..whole(EBML, "EBML", 0, 4 * KIB)
    },
    structure(SEGMENT, "Segment", Parent::Root),
    whole(SEEK_HEAD, "SeekHead", SEGMENT, MIB),
    whole(INFO, "Info", SEGMENT, MIB),
    whole(TIMESTAMP_SCALE, "TimestampScale", INFO, 8),
    whole(DURATION, "Duration", INFO, 8),
    whole(TRACKS, "Tracks", SEGMENT, 4 * MIB),
    whole(TRACK_ENTRY, "TrackEntry", TRACKS, 4 * MIB),
    whole(TRACK_NUMBER, "TrackNumber", TRACK_ENTRY, 8),
    whole(TRACK_TYPE, "TrackType", TRACK_ENTRY, 8),
    whole(DEFAULT_DURATION, "DefaultDuration", TRACK_ENTRY, 8),
    whole(NAME, "Name", TRACK_ENTRY, 64 * KIB),
    whole(CODEC_ID, "CodecID", TRACK_ENTRY, KIB),
    whole(CODEC_PRIVATE, "CodecPrivate", TRACK_ENTRY, MIB),
    whole(VIDEO, "Video", TRACK_ENTRY, MIB),
    whole(PIXEL_WIDTH, "PixelWidth", VIDEO, 8),
    whole(PIXEL_HEIGHT, "PixelHeight", VIDEO, 8),
    whole(AUDIO, "Audio", TRACK_ENTRY, MIB),
    whole(SAMPLING_FREQUENCY, "SamplingFrequency", AUDIO, 8),
    whole(CHANNELS, "Channels", AUDIO, 8),
    whole(BIT_DEPTH, "BitDepth", AUDIO, 8),
    structure(CLUSTER, "Cluster", Parent::In(SEGMENT)),
    whole(TIMESTAMP, "Timestamp", CLUSTER, 8),
    whole(POSITION, "Position", CLUSTER, 8),
    whole(PREV_SIZE, "PrevSize", CLUSTER, 8),
    SIMPLE_BLOCK_ELEMENT,
    whole(BLOCK_GROUP, "BlockGroup", CLUSTER, 64 * MIB),
    whole(BLOCK, "Block", BLOCK_GROUP, 64 * MIB),
    whole(BLOCK_DURATION, "BlockDuration", BLOCK_GROUP, 8),
    whole(REFERENCE_BLOCK, "ReferenceBlock", BLOCK_GROUP, 8),
    whole(CUES, "Cues", SEGMENT, MIB),
    whole(TAGS, "Tags", SEGMENT, MIB),
    whole(TAG, "Tag", TAGS, MIB),
    whole(SIMPLE_TAG, "SimpleTag", TAG, MIB),
    whole(TAG_NAME, "TagName", SIMPLE_TAG, MIB),
    whole(TAG_STRING, "TagString", SIMPLE_TAG, MIB),
    whole(CHAPTERS, "Chapters", SEGMENT, MIB),
    whole(ATTACHMENTS, "Attachments", SEGMENT, MIB),
    Element {
        parent: Parent::Anywhere,
        ..whole(VOID, "Void", 0, MIB)
    },
    Element {
        parent: Parent::Anywhere,
        ..whole(CRC_32, "CRC-32", 0, 8)
    },
];

/// What is known of the element of this id.
pub fn find(id: Id) -> Option<&'static Element> {
    // Blocks are nearly all of a stream; the rest of the table is short.
    if id == SIMPLE_BLOCK {
        return Some(&SIMPLE_BLOCK_ELEMENT);
    }
    ELEMENTS.iter().find(|element| element.id == id)
}

/// The name of an element, or its id in hexadecimal.
pub fn name(id: Id) -> String {
    match find(id) {
        Some(element) => element.name.to_owned(),
        None => format!("0x{id:X}"),
    }
}
