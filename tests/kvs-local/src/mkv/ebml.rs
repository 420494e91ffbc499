//! EBML primitives: element ids, variable-length integers, and a writer for small elements.

/// Element ids used by Kinesis Video Streams documents, named as the Matroska specification names
/// them (`Timecode` is the specification's older name for Timestamp).
#[allow(missing_docs)]
pub mod id {
    pub const EBML: u32 = 0x1A45_DFA3;
    pub const SEGMENT: u32 = 0x1853_8067;
    pub const SEEK_HEAD: u32 = 0x114D_9B74;
    pub const SEEK: u32 = 0x4DBB;
    pub const SEEK_ID: u32 = 0x53AB;
    pub const SEEK_POSITION: u32 = 0x53AC;
    pub const VOID: u32 = 0xEC;
    pub const CRC32: u32 = 0xBF;
    pub const INFO: u32 = 0x1549_A966;
    pub const TIMECODE_SCALE: u32 = 0x002A_D7B1;
    pub const MUXING_APP: u32 = 0x4D80;
    pub const WRITING_APP: u32 = 0x5741;
    pub const TRACKS: u32 = 0x1654_AE6B;
    pub const TRACK_ENTRY: u32 = 0xAE;
    pub const TRACK_NUMBER: u32 = 0xD7;
    pub const TRACK_UID: u32 = 0x73C5;
    pub const TRACK_TYPE: u32 = 0x83;
    pub const FLAG_LACING: u32 = 0x9C;
    pub const DEFAULT_DURATION: u32 = 0x0023_E383;
    pub const TRACK_NAME: u32 = 0x536E;
    pub const CODEC_ID: u32 = 0x86;
    pub const CODEC_PRIVATE: u32 = 0x63A2;
    pub const VIDEO: u32 = 0xE0;
    pub const PIXEL_WIDTH: u32 = 0xB0;
    pub const PIXEL_HEIGHT: u32 = 0xBA;
    pub const AUDIO: u32 = 0xE1;
    pub const SAMPLING_FREQUENCY: u32 = 0xB5;
    pub const CHANNELS: u32 = 0x9F;
    pub const CLUSTER: u32 = 0x1F43_B675;
    pub const TIMECODE: u32 = 0xE7;
    pub const POSITION: u32 = 0xA7;
    pub const PREV_SIZE: u32 = 0xAB;
    pub const SIMPLE_BLOCK: u32 = 0xA3;
    pub const BLOCK_GROUP: u32 = 0xA0;
    pub const BLOCK: u32 = 0xA1;
    pub const BLOCK_DURATION: u32 = 0x9B;
    pub const REFERENCE_BLOCK: u32 = 0xFB;
    pub const CUES: u32 = 0x1C53_BB6B;
    pub const CUE_POINT: u32 = 0xBB;
    pub const CUE_TIME: u32 = 0xB3;
    pub const CUE_TRACK_POSITIONS: u32 = 0xB7;
    pub const CUE_TRACK: u32 = 0xF7;
    pub const CUE_CLUSTER_POSITION: u32 = 0xF1;
    pub const TAGS: u32 = 0x1254_C367;
    pub const TAG: u32 = 0x7373;
    pub const TARGETS: u32 = 0x63C0;
    pub const SIMPLE_TAG: u32 = 0x67C8;
    pub const TAG_NAME: u32 = 0x45A3;
    pub const TAG_STRING: u32 = 0x4487;
    pub const CHAPTERS: u32 = 0x1043_A770;
    pub const ATTACHMENTS: u32 = 0x1941_A469;
}

/// Why an element header could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// The bytes end inside the header.
    Short,
    /// The first byte of an id or size is one no such number starts with.
    Invalid,
}

/// An element's id, payload size (`None`: unknown) and the length of both together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The id with its length marker, as specifications print it.
    pub id: u32,
    /// Payload bytes, or `None` where the size is unknown (all value bits set).
    pub size: Option<u64>,
    /// Bytes the header takes.
    pub len: usize,
}

/// Reads an element header from the start of `data`.
///
/// # Errors
/// [`HeaderError::Short`] where more bytes may help, [`HeaderError::Invalid`] where none will.
pub fn read_header(data: &[u8]) -> Result<Header, HeaderError> {
    let first = *data.first().ok_or(HeaderError::Short)?;
    let id_len = first.leading_zeros() as usize + 1;
    if id_len > 4 {
        return Err(HeaderError::Invalid);
    }
    let id = data
        .get(..id_len)
        .ok_or(HeaderError::Short)?
        .iter()
        .fold(0u32, |v, b| v << 8 | u32::from(*b));
    let (size, size_len) = read_vint(&data[id_len..])?;
    Ok(Header {
        id,
        size,
        len: id_len + size_len,
    })
}

/// Reads a variable-length unsigned integer: its value (`None` if all value bits are set) and its
/// length in bytes.
///
/// # Errors
/// As [`read_header`].
pub fn read_vint(data: &[u8]) -> Result<(Option<u64>, usize), HeaderError> {
    let first = *data.first().ok_or(HeaderError::Short)?;
    let len = first.leading_zeros() as usize + 1;
    if len > 8 {
        return Err(HeaderError::Invalid);
    }
    let bytes = data.get(..len).ok_or(HeaderError::Short)?;
    let raw = bytes.iter().fold(0u64, |v, b| v << 8 | u64::from(*b));
    let mask = (1u64 << (7 * len)) - 1;
    let value = raw & mask;
    Ok(((value != mask).then_some(value), len))
}

/// Reads a big-endian unsigned integer of at most 8 bytes (longer ones keep their low 8).
pub fn uint(payload: &[u8]) -> u64 {
    payload.iter().fold(0u64, |v, b| v << 8 | u64::from(*b))
}

/// Calls `each` with the id, payload and offset (within `payload`) of every child that is whole.
/// Returns false if bytes were left that are no whole element.
pub fn children<'a>(payload: &'a [u8], mut each: impl FnMut(u32, &'a [u8], usize)) -> bool {
    let mut at = 0;
    while at < payload.len() {
        let Ok(header) = read_header(&payload[at..]) else {
            return false;
        };
        let body = at + header.len;
        let end = header
            .size
            .and_then(|size| body.checked_add(usize::try_from(size).ok()?));
        let Some(end) = end.filter(|end| *end <= payload.len()) else {
            return false;
        };
        each(header.id, &payload[body..end], at);
        at = end;
    }
    true
}

/// How an element's size is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SizeWidth {
    /// As few bytes as hold it.
    #[default]
    Minimal,
    /// This many bytes (1–8), or as few as hold it if those are more. Over-long sizes are legal
    /// and common.
    AtLeast(u8),
}

/// Appends `id`.
pub fn put_id(out: &mut Vec<u8>, id: u32) {
    let bytes = id.to_be_bytes();
    let skip = id.leading_zeros() as usize / 8;
    out.extend_from_slice(&bytes[skip..]);
}

/// Appends a size.
pub fn put_size(out: &mut Vec<u8>, size: u64, width: SizeWidth) {
    let mut len = 1;
    // The value with all bits set means "unknown", so it needs a byte more.
    while len < 8 && size >= (1u64 << (7 * len)) - 1 {
        len += 1;
    }
    if let SizeWidth::AtLeast(n) = width {
        len = len.max(usize::from(n.min(8)));
    }
    let marked = size | 1u64 << (7 * len);
    out.extend_from_slice(&marked.to_be_bytes()[8 - len..]);
}

/// Appends an unknown size of `len` bytes (1–8).
pub fn put_unknown_size(out: &mut Vec<u8>, len: u8) {
    let len = usize::from(len.clamp(1, 8));
    let marked = (1u64 << (7 * len + 1)) - 1;
    out.extend_from_slice(&marked.to_be_bytes()[8 - len..]);
}

/// Appends a whole element.
pub fn put(out: &mut Vec<u8>, id: u32, payload: &[u8], width: SizeWidth) {
    put_id(out, id);
    put_size(out, payload.len() as u64, width);
    out.extend_from_slice(payload);
}

/// Appends an unsigned integer element of as few bytes as hold the value (at least one).
pub fn put_uint(out: &mut Vec<u8>, id: u32, value: u64, width: SizeWidth) {
    let bytes = value.to_be_bytes();
    let skip = (value.leading_zeros() as usize / 8).min(7);
    put(out, id, &bytes[skip..], width);
}

/// Appends a `Tags` element holding one `Tag` with these names and values, and no `Targets`: the
/// shape in which the service and its producers write tags.
pub fn put_tags<'a>(
    out: &mut Vec<u8>,
    tags: impl IntoIterator<Item = (&'a str, &'a str)>,
    width: SizeWidth,
) {
    let mut tag = Vec::new();
    for (name, value) in tags {
        let mut simple = Vec::new();
        put(&mut simple, id::TAG_NAME, name.as_bytes(), width);
        put(&mut simple, id::TAG_STRING, value.as_bytes(), width);
        put(&mut tag, id::SIMPLE_TAG, &simple, width);
    }
    let mut tags = Vec::new();
    put(&mut tags, id::TAG, &tag, width);
    put(out, id::TAGS, &tags, width);
}

/// The CRC-32 of `data` as Matroska's `CRC-32` element holds it (IEEE polynomial, little-endian).
pub fn crc32(data: &[u8]) -> [u8; 4] {
    let mut crc = !0u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).to_le_bytes()
}

/// Whether an element cannot stand in a Cluster, so that one of unknown size is over.
pub(crate) fn ends_cluster(id: u32) -> bool {
    matches!(
        id,
        id::EBML
            | id::SEGMENT
            | id::CLUSTER
            | id::SEEK_HEAD
            | id::INFO
            | id::TRACKS
            | id::CUES
            | id::TAGS
            | id::CHAPTERS
            | id::ATTACHMENTS
    )
}
