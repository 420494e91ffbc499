//! A producer's Matroska, as it comes, cut into fragments: one a Cluster.
//!
//! Sans-IO: bytes in, [`Event`]s out. Nothing larger than one child of a Cluster is held back.

use bytes::{Bytes, BytesMut};

use crate::mkv::ebml::{self, HeaderError, id};
use crate::mkv::parse_tags;

/// A single element may not be larger than a whole fragment may be.
const MAX_ELEMENT: u64 = 64 << 20;
/// The most bytes of setup (Info, Tracks, …) kept for the documents of a session.
const MAX_SETUP: usize = 4 << 20;

/// What the bytes given so far mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Tracks was read: how many there are.
    Tracks(Vec<u64>),
    /// A Cluster began, and its timecode is known (in milliseconds). `head` is every byte of it so
    /// far. `tags` are the producer's Tags elements that belong to it, `count` SimpleTags.
    ClusterStart {
        timecode_ms: u64,
        head: Bytes,
        tags: Bytes,
    },
    /// A further whole child of the Cluster; for a block: its track and time.
    ClusterChild {
        bytes: Bytes,
        block: Option<(u64, u64)>,
    },
    /// The fragment is over: the next thing was no child of its Cluster. `tags` came after it and
    /// belong to it, `trailer` is Cues.
    FragmentEnd { tags: Bytes, trailer: Bytes },
    /// Fragment metadata beyond a limit: more than 10 items, a name over 128 bytes, a value over
    /// 256, or a name of the service's own.
    MetadataLimit,
}

/// Bytes that are no Matroska a fragment could be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub(crate) struct Malformed {
    pub(crate) what: &'static str,
    pub(crate) offset: u64,
}

enum Place {
    Outside,
    /// In a Cluster whose timecode has not come yet; everything of it so far.
    ClusterHead(BytesMut, Option<u64>),
    /// In a Cluster; where it ends in the input, if it says.
    Cluster(Option<u64>),
    /// Behind a Cluster: it is not known yet whether Tags belong to it or to the next.
    Behind,
}

/// Cuts a producer's bytes.
pub(crate) struct Ingest {
    buffer: BytesMut,
    /// Offset of `buffer`'s first byte in the input.
    offset: u64,
    place: Place,
    cluster_timecode: u64,
    scale: u64,
    ebml: Bytes,
    setup: BytesMut,
    pending_tags: BytesMut,
    pending_count: usize,
    trailer: BytesMut,
}

impl Ingest {
    pub(crate) fn new() -> Ingest {
        Ingest {
            buffer: BytesMut::new(),
            offset: 0,
            place: Place::Outside,
            cluster_timecode: 0,
            scale: 1_000_000,
            ebml: Bytes::new(),
            setup: BytesMut::new(),
            pending_tags: BytesMut::new(),
            pending_count: 0,
            trailer: BytesMut::new(),
        }
    }

    /// The EBML header of the current document.
    pub(crate) fn ebml(&self) -> Bytes {
        self.ebml.clone()
    }

    /// What belongs to every fragment: Info, Tracks, Tags with Targets, SeekHead, Void.
    pub(crate) fn setup(&self) -> Bytes {
        Bytes::copy_from_slice(&self.setup)
    }

    /// Takes more bytes; calls `event` for each thing they complete.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        mut event: impl FnMut(&Ingest, Event),
    ) -> Result<(), Malformed> {
        self.buffer.extend_from_slice(bytes);
        while self.step(&mut event)? {}
        Ok(())
    }

    /// No more bytes will come. True if the last fragment is whole: nothing was left over.
    pub(crate) fn finish(&mut self, mut event: impl FnMut(&Ingest, Event)) -> bool {
        let inside = match self.place {
            Place::ClusterHead(..) => true,
            Place::Cluster(Some(end)) => self.offset < end,
            _ => false,
        };
        let whole = self.buffer.is_empty() && !inside;
        if whole && matches!(self.place, Place::Cluster(_) | Place::Behind) {
            self.end_fragment(true, &mut event);
        }
        whole
    }

    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed {
            what,
            offset: self.offset,
        }
    }

    fn take(&mut self, len: usize) -> Bytes {
        self.offset += len as u64;
        self.buffer.split_to(len).freeze()
    }

    fn end_fragment(&mut self, with_tags: bool, event: &mut impl FnMut(&Ingest, Event)) {
        self.place = Place::Outside;
        let tags = if with_tags {
            self.pending_count = 0;
            self.pending_tags.split().freeze()
        } else {
            Bytes::new()
        };
        let trailer = self.trailer.split().freeze();
        event(self, Event::FragmentEnd { tags, trailer });
    }

    /// Handles the element at the front of the buffer; false if more bytes are needed.
    fn step(&mut self, event: &mut impl FnMut(&Ingest, Event)) -> Result<bool, Malformed> {
        let header = match ebml::read_header(&self.buffer) {
            Ok(header) => header,
            Err(HeaderError::Short) => return Ok(false),
            Err(HeaderError::Invalid) => return Err(self.malformed("no element")),
        };
        if self.ebml.is_empty() && header.id != id::EBML {
            return Err(self.malformed("no EBML header"));
        }
        let over = match self.place {
            Place::Cluster(Some(end)) => self.offset >= end,
            Place::Cluster(None) | Place::ClusterHead(..) => ebml::ends_cluster(header.id),
            Place::Outside | Place::Behind => false,
        };
        if over {
            if let Place::ClusterHead(..) = self.place {
                return Err(self.malformed("a Cluster without Timecode"));
            }
            self.place = Place::Behind;
        }
        match header.id {
            id::SEGMENT => {
                self.take(header.len);
                return Ok(true);
            }
            id::CLUSTER => {
                if matches!(self.place, Place::Behind) {
                    self.end_fragment(false, event);
                }
                let end = header
                    .size
                    .map(|size| self.offset + header.len as u64 + size);
                let head = self.take(header.len);
                self.place = Place::ClusterHead(BytesMut::from(&head[..]), end);
                return Ok(true);
            }
            _ => {}
        }
        let size = header
            .size
            .ok_or_else(|| self.malformed("an unknown size where none may be"))?;
        if size > MAX_ELEMENT {
            return Err(self.malformed("an element larger than a fragment may be"));
        }
        let total = header.len + size as usize;
        if self.buffer.len() < total {
            return Ok(false);
        }
        let element = self.take(total);
        let payload = element.slice(header.len..);
        match std::mem::replace(&mut self.place, Place::Outside) {
            Place::ClusterHead(mut head, end) => {
                head.extend_from_slice(&element);
                if header.id == id::TIMECODE {
                    self.cluster_timecode = ebml::uint(&payload);
                    self.place = Place::Cluster(end);
                    self.pending_count = 0;
                    let tags = self.pending_tags.split().freeze();
                    let timecode_ms = self.to_ms(self.cluster_timecode);
                    let head = head.freeze();
                    event(
                        self,
                        Event::ClusterStart {
                            timecode_ms,
                            head,
                            tags,
                        },
                    );
                } else if matches!(header.id, id::SIMPLE_BLOCK | id::BLOCK_GROUP) {
                    return Err(self.malformed("a block before its Cluster's Timecode"));
                } else {
                    self.place = Place::ClusterHead(head, end);
                }
            }
            Place::Cluster(end) => {
                self.place = Place::Cluster(end);
                let block = match header.id {
                    id::SIMPLE_BLOCK => Some(self.block(&payload)?),
                    id::BLOCK_GROUP => {
                        let mut block = None;
                        ebml::children(&payload, |id, body, _| {
                            if id == id::BLOCK {
                                block = Some(body);
                            }
                        });
                        let block =
                            block.ok_or_else(|| self.malformed("a BlockGroup without Block"))?;
                        Some(self.block(block)?)
                    }
                    _ => None,
                };
                event(
                    self,
                    Event::ClusterChild {
                        bytes: element,
                        block,
                    },
                );
            }
            place @ (Place::Outside | Place::Behind) => {
                self.place = place;
                self.outside(header.id, element, &payload, event)?;
            }
        }
        Ok(true)
    }

    fn outside(
        &mut self,
        id: u32,
        element: Bytes,
        payload: &[u8],
        event: &mut impl FnMut(&Ingest, Event),
    ) -> Result<(), Malformed> {
        let behind = matches!(self.place, Place::Behind);
        match id {
            id::EBML => {
                if behind {
                    self.end_fragment(true, event);
                }
                self.ebml = element;
                self.setup.clear();
                self.scale = 1_000_000;
                return Ok(());
            }
            id::TAGS => {
                self.tags(element, payload, event);
                return Ok(());
            }
            id::CUES if behind => {
                self.trailer.extend_from_slice(&element);
                return Ok(());
            }
            id::INFO => {
                ebml::children(payload, |id, body, _| {
                    if id == id::TIMECODE_SCALE {
                        self.scale = ebml::uint(body);
                    }
                });
            }
            id::TRACKS => {
                let mut numbers = Vec::new();
                let whole = ebml::children(payload, |id, entry, _| {
                    if id == id::TRACK_ENTRY {
                        ebml::children(entry, |id, body, _| {
                            if id == id::TRACK_NUMBER {
                                numbers.push(ebml::uint(body));
                            }
                        });
                    }
                });
                if !whole {
                    return Err(self.malformed("a Tracks that is not whole"));
                }
                event(self, Event::Tracks(numbers));
            }
            id::SEEK_HEAD | id::VOID | id::CUES | id::CHAPTERS | id::ATTACHMENTS | id::CRC32 => {}
            _ => return Err(self.malformed("an element that does not belong there")),
        }
        if behind && matches!(id, id::VOID | id::SEEK_HEAD) {
            return Ok(());
        }
        if self.setup.len() + element.len() > MAX_SETUP {
            return Err(self.malformed("too many bytes before the first Cluster"));
        }
        self.setup.extend_from_slice(&element);
        Ok(())
    }

    fn tags(&mut self, element: Bytes, payload: &[u8], event: &mut impl FnMut(&Ingest, Event)) {
        let (tags, _) = parse_tags(payload);
        if tags
            .iter()
            .any(|tag| tag.name == "AWS_KINESISVIDEO_END_OF_FRAGMENT")
        {
            if matches!(self.place, Place::Behind) {
                self.end_fragment(true, event);
            }
            return;
        }
        let mut targets = false;
        ebml::children(payload, |id, tag, _| {
            if id == id::TAG {
                ebml::children(tag, |id, _, _| targets |= id == id::TARGETS);
            }
        });
        if targets {
            // Tags of the file (title, encoder, …), not fragment metadata, which has no Targets.
            if matches!(self.place, Place::Outside) {
                self.setup.extend_from_slice(&element);
            }
            return;
        }
        self.pending_count += tags.len();
        let over = tags.iter().any(|tag| {
            tag.name.len() > 128 || tag.value.len() > 256 || tag.name.starts_with("AWS")
        });
        if over || self.pending_count > 10 {
            event(self, Event::MetadataLimit);
        }
        self.pending_tags.extend_from_slice(&element);
    }

    /// Track and time in milliseconds of a block.
    fn block(&self, payload: &[u8]) -> Result<(u64, u64), Malformed> {
        let short = || self.malformed("a block without its header");
        let (track, len) = ebml::read_vint(payload).map_err(|_| short())?;
        let fixed = payload.get(len..len + 3).ok_or_else(short)?;
        let offset = i16::from_be_bytes([fixed[0], fixed[1]]);
        let time = self.cluster_timecode.saturating_add_signed(offset.into());
        Ok((track.unwrap_or(0), self.to_ms(time)))
    }

    fn to_ms(&self, units: u64) -> u64 {
        u64::try_from(u128::from(units) * u128::from(self.scale) / 1_000_000).unwrap_or(u64::MAX)
    }
}
