//! From bytes to documents, tracks, tags and frames.

use bytes::Bytes;

use super::ebml::{self, id};

/// One frame: a block, or one part of a laced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Track number as the block has it.
    pub track: u64,
    /// Cluster timecode plus block offset, in nanoseconds by the document's TimecodeScale. All
    /// frames of one lace have their block's time.
    pub time_ns: i64,
    /// SimpleBlock's keyframe flag, or a BlockGroup without ReferenceBlock.
    pub keyframe: bool,
    /// The frame's bytes.
    pub payload: Bytes,
}

/// A name and value of a SimpleTag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// TagName.
    pub name: String,
    /// TagString.
    pub value: String,
}

/// An entry of Tracks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Track {
    /// TrackNumber.
    pub number: u64,
    /// TrackType: 1 video, 2 audio.
    pub kind: u64,
    /// CodecID, without the NULs some producers pad it with.
    pub codec_id: String,
    /// CodecPrivate, empty where there is none.
    pub codec_private: Bytes,
    /// Name, empty where there is none.
    pub name: String,
}

/// A level-1 element (a child of Segment) or the EBML header or the Segment itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Element id.
    pub id: u32,
    /// Offset of its first byte in what was read.
    pub offset: usize,
    /// Header and payload; for Segment the header alone; for a Cluster of unknown size up to the
    /// first byte that is not its own.
    pub len: usize,
}

/// One EBML document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// Offset of the EBML header in what was read.
    pub offset: usize,
    /// Bytes up to the next document or the end.
    pub len: usize,
    /// Nanoseconds a timecode unit (TimecodeScale, 1,000,000 by default).
    pub timecode_scale: u64,
    /// Tracks, in order.
    pub tracks: Vec<Track>,
    /// Every SimpleTag of every Tags, in order.
    pub tags: Vec<Tag>,
    /// Timecode of every Cluster, in the document's units.
    pub cluster_timecodes: Vec<u64>,
    /// Every frame, in order.
    pub frames: Vec<Frame>,
    /// The elements of level 0 and 1, in order.
    pub elements: Vec<Element>,
}

impl Document {
    /// The value of the first tag called `name`.
    pub fn tag(&self, name: &str) -> Option<&str> {
        let tag = self.tags.iter().find(|tag| tag.name == name)?;
        Some(&tag.value)
    }

    /// The service's own tag: `suffix` is the name after `AWS_KINESISVIDEO_`.
    pub fn aws_tag(&self, suffix: &str) -> Option<&str> {
        let tag = self
            .tags
            .iter()
            .find(|tag| tag.name.strip_prefix("AWS_KINESISVIDEO_") == Some(suffix))?;
        Some(&tag.value)
    }

    /// Milliseconds from the first frame to the end of the last one, the last frame being taken
    /// to be as long as the mean distance of its track's frames. 0 without frames.
    pub fn duration_ms(&self) -> u64 {
        let Some(start) = self.frames.iter().map(|f| f.time_ns).min() else {
            return 0;
        };
        let end = self
            .tracks
            .iter()
            .filter_map(|track| {
                let of_track = || self.frames.iter().filter(|f| f.track == track.number);
                let first = of_track().map(|f| f.time_ns).min()?;
                let last = of_track().map(|f| f.time_ns).max()?;
                let gaps = of_track().count() as i64 - 1;
                let step = last.saturating_sub(first).checked_div(gaps).unwrap_or(0);
                Some(last.saturating_add(step))
            })
            .max()
            .unwrap_or(start);
        u64::try_from(end.saturating_sub(start) / 1_000_000).unwrap_or(0)
    }
}

/// Where and why reading stopped, or what was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The element that starts at `offset` is not all there.
    Truncated {
        /// Of the element's first byte.
        offset: usize,
        /// Its id, if that much was there.
        id: Option<u32>,
    },
    /// The bytes at `offset` are no element.
    Garbage {
        /// Of the first byte that makes no sense.
        offset: usize,
    },
    /// An element of known size and its children do not end at the same byte.
    Misfit {
        /// Of the element.
        offset: usize,
        /// Its id.
        id: u32,
    },
    /// A block whose header or lacing does not fit its size.
    BadBlock {
        /// Of the SimpleBlock or BlockGroup.
        offset: usize,
    },
}

/// What a byte string held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// The documents, in order. Elements before the first EBML header belong to none and are not
    /// reported.
    pub documents: Vec<Document>,
    /// What was wrong, in order; empty for whole documents.
    pub problems: Vec<Problem>,
}

impl Reading {
    /// All frames of all documents, in order.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.documents.iter().flat_map(|d| &d.frames)
    }

    /// Whether the bytes ended inside an element.
    pub fn is_truncated(&self) -> bool {
        self.problems
            .iter()
            .any(|p| matches!(p, Problem::Truncated { .. }))
    }
}

/// Reads any number of documents standing one after the other. Payloads share `data`.
pub fn read(data: &Bytes) -> Reading {
    Reader {
        data,
        reading: Reading::default(),
        cluster: None,
        cluster_timecode: 0,
    }
    .run()
}

struct OpenCluster {
    offset: usize,
    index: usize,
    end: Option<usize>,
}

struct Reader<'a> {
    data: &'a Bytes,
    reading: Reading,
    cluster: Option<OpenCluster>,
    cluster_timecode: u64,
}

impl Reader<'_> {
    fn run(mut self) -> Reading {
        let mut at = 0;
        while at < self.data.len() {
            let Some(next) = self.element(at) else { break };
            at = next;
        }
        self.close_cluster(at.min(self.data.len()));
        let end = self.data.len();
        self.end_document(end);
        self.reading
    }

    fn end_document(&mut self, at: usize) {
        if let Some(document) = self.reading.documents.last_mut() {
            document.len = at - document.offset;
        }
    }

    fn close_cluster(&mut self, at: usize) {
        let Some(cluster) = self.cluster.take() else {
            return;
        };
        if let Some(document) = self.reading.documents.last_mut() {
            document.elements[cluster.index].len = at - cluster.offset;
        }
        let cut = self.reading.is_truncated();
        if cluster.end.is_some_and(|end| end > at) && at == self.data.len() && !cut {
            self.reading.problems.push(Problem::Truncated {
                offset: cluster.offset,
                id: Some(id::CLUSTER),
            });
        } else if cluster.end.is_some_and(|end| end != at) && !cut {
            self.reading.problems.push(Problem::Misfit {
                offset: cluster.offset,
                id: id::CLUSTER,
            });
        }
    }

    /// Reads the element at `at`; where the next one starts, or `None` when it is no use going on.
    fn element(&mut self, at: usize) -> Option<usize> {
        let header = match ebml::read_header(&self.data[at..]) {
            Ok(header) => header,
            Err(ebml::HeaderError::Short) => {
                self.problem(Problem::Truncated {
                    offset: at,
                    id: None,
                });
                return None;
            }
            Err(ebml::HeaderError::Invalid) => {
                self.problem(Problem::Garbage { offset: at });
                return None;
            }
        };
        let body = at + header.len;
        let in_cluster = self.cluster.is_some() && !ebml::ends_cluster(header.id);
        if !in_cluster
            || self
                .cluster
                .as_ref()
                .is_some_and(|c| c.end.is_some_and(|end| end <= at))
        {
            self.close_cluster(at);
        }
        match header.id {
            id::SEGMENT => {
                self.level1(header.id, at, header.len);
                return Some(body);
            }
            id::CLUSTER => {
                let end = header
                    .size
                    .map(|size| body.saturating_add(usize::try_from(size).unwrap_or(usize::MAX)));
                self.cluster_timecode = 0;
                if let Some(document) = self.reading.documents.last() {
                    self.cluster = Some(OpenCluster {
                        offset: at,
                        index: document.elements.len(),
                        end,
                    });
                    self.level1(header.id, at, header.len);
                }
                return Some(body);
            }
            _ => {}
        }
        let end = header
            .size
            .and_then(|size| body.checked_add(usize::try_from(size).ok()?))
            .filter(|end| *end <= self.data.len());
        let Some(end) = end else {
            self.problem(Problem::Truncated {
                offset: at,
                id: Some(header.id),
            });
            return None;
        };
        if header.id == id::EBML {
            self.end_document(at);
            self.reading.documents.push(Document {
                offset: at,
                timecode_scale: 1_000_000,
                ..Document::default()
            });
        }
        if self.cluster.is_none() {
            self.level1(header.id, at, end - at);
        }
        self.payload(header.id, at, self.data.slice(body..end));
        Some(end)
    }

    fn level1(&mut self, id: u32, offset: usize, len: usize) {
        if let Some(document) = self.reading.documents.last_mut() {
            document.elements.push(Element { id, offset, len });
        }
    }

    fn problem(&mut self, problem: Problem) {
        self.reading.problems.push(problem);
    }

    fn payload(&mut self, id: u32, offset: usize, payload: Bytes) {
        let Some(document) = self.reading.documents.last_mut() else {
            return;
        };
        let whole = match id {
            id::INFO => ebml::children(&payload, |id, body, _| {
                if id == id::TIMECODE_SCALE {
                    document.timecode_scale = ebml::uint(body);
                }
            }),
            id::TRACKS => {
                let (tracks, whole) = parse_tracks(&payload);
                document.tracks = tracks;
                whole
            }
            id::TAGS => {
                let (tags, whole) = parse_tags(&payload);
                document.tags.extend(tags);
                whole
            }
            id::TIMECODE => {
                self.cluster_timecode = ebml::uint(&payload);
                document.cluster_timecodes.push(self.cluster_timecode);
                true
            }
            id::SIMPLE_BLOCK | id::BLOCK_GROUP => {
                let scale = document.timecode_scale;
                let frames = if id == id::SIMPLE_BLOCK {
                    block(&payload, self.cluster_timecode, scale, None)
                } else {
                    block_group(&payload, self.cluster_timecode, scale)
                };
                match frames {
                    Some(frames) => document.frames.extend(frames),
                    None => self.problem(Problem::BadBlock { offset }),
                }
                true
            }
            _ => true,
        };
        if !whole {
            self.problem(Problem::Misfit { offset, id });
        }
    }
}

fn text(payload: &[u8]) -> String {
    let end = payload.iter().position(|b| *b == 0);
    String::from_utf8_lossy(&payload[..end.unwrap_or(payload.len())]).into_owned()
}

fn parse_tracks(payload: &Bytes) -> (Vec<Track>, bool) {
    let mut tracks = Vec::new();
    let mut whole = true;
    whole &= ebml::children(payload, |id, entry, _| {
        if id != id::TRACK_ENTRY {
            return;
        }
        let mut track = Track::default();
        whole &= ebml::children(entry, |id, body, _| match id {
            id::TRACK_NUMBER => track.number = ebml::uint(body),
            id::TRACK_TYPE => track.kind = ebml::uint(body),
            id::CODEC_ID => track.codec_id = text(body),
            id::CODEC_PRIVATE => track.codec_private = payload.slice_ref(body),
            id::TRACK_NAME => track.name = text(body),
            _ => {}
        });
        tracks.push(track);
    });
    (tracks, whole)
}

/// The SimpleTags of a `Tags` payload, and whether it was all well formed.
pub fn parse_tags(payload: &[u8]) -> (Vec<Tag>, bool) {
    let mut tags = Vec::new();
    let mut whole = true;
    whole &= ebml::children(payload, |id, tag, _| {
        if id != id::TAG {
            return;
        }
        whole &= ebml::children(tag, |id, simple, _| {
            if id != id::SIMPLE_TAG {
                return;
            }
            let (mut name, mut value) = (String::new(), String::new());
            whole &= ebml::children(simple, |id, body, _| match id {
                id::TAG_NAME => name = text(body),
                id::TAG_STRING => value = text(body),
                _ => {}
            });
            tags.push(Tag { name, value });
        });
    });
    (tags, whole)
}

fn block_group(payload: &Bytes, cluster: u64, scale: u64) -> Option<Vec<Frame>> {
    let mut key = true;
    let mut found = None;
    let whole = ebml::children(payload, |id, body, _| match id {
        id::REFERENCE_BLOCK => key = false,
        id::BLOCK => found = Some(payload.slice_ref(body)),
        _ => {}
    });
    block(&found.filter(|_| whole)?, cluster, scale, Some(key))
}

/// Splits a Block or SimpleBlock (`key` is `None`: its own flag counts) into its frames.
fn block(payload: &Bytes, cluster: u64, scale: u64, key: Option<bool>) -> Option<Vec<Frame>> {
    let (track, len) = ebml::read_vint(payload).ok()?;
    let fixed = payload.get(len..len + 3)?;
    let offset = i16::from_be_bytes([fixed[0], fixed[1]]);
    let flags = fixed[2];
    let body = payload.slice(len + 3..);
    let units = i128::from(cluster) + i128::from(offset);
    let time_ns = i64::try_from(units.checked_mul(i128::from(scale))?).ok()?;
    let frames = match flags >> 1 & 3 {
        0 => vec![body],
        lacing => delace(body, lacing)?,
    };
    let frames = frames.into_iter().map(|payload| Frame {
        track: track.unwrap_or(0),
        time_ns,
        keyframe: key.unwrap_or(flags & 0x80 != 0),
        payload,
    });
    Some(frames.collect())
}

fn delace(mut body: Bytes, lacing: u8) -> Option<Vec<Bytes>> {
    let count = usize::from(*body.first()?) + 1;
    let mut at = 1;
    let mut sizes = Vec::with_capacity(count);
    match lacing {
        1 => {
            for _ in 1..count {
                let mut size = 0;
                loop {
                    let byte = *body.get(at)?;
                    at += 1;
                    size += usize::from(byte);
                    if byte < 255 {
                        break;
                    }
                }
                sizes.push(size);
            }
        }
        3 => {
            let mut size = 0i64;
            for index in 1..count {
                let (value, len) = ebml::read_vint(body.get(at..)?).ok()?;
                at += len;
                let all_ones = (1i64 << (7 * len)) - 1;
                let value = value.map_or(all_ones, |v| v as i64);
                // The first size is plain; each further one is a difference, biased by half the
                // range its length can hold.
                size = if index == 1 {
                    value
                } else {
                    size.checked_add(value - ((1i64 << (7 * len - 1)) - 1))?
                };
                sizes.push(usize::try_from(size).ok()?);
            }
        }
        _ => {
            let left = body.len() - 1;
            if !left.is_multiple_of(count) {
                return None;
            }
            sizes.resize(count - 1, left / count);
        }
    }
    let mut body = body.split_off(at);
    let mut frames = Vec::with_capacity(count);
    for size in sizes {
        if size > body.len() {
            return None;
        }
        frames.push(body.split_to(size));
    }
    frames.push(body);
    Some(frames)
}
