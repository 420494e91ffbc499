use super::{
    inband,
    number::Number,
    tags::{self, TAGS_MAX},
};
use crate::{
    ebml::{self, Block, ErrorKind, Reader, Rope, Span, schema},
    error::Error,
    item::{FragmentEnd, FragmentStart, Tag},
};
use bytes::Bytes;
use std::collections::VecDeque;

/// The most bytes a document may have before its first frame, between two and after its end.
const HEAD_MAX: u64 = 16 * 1024 * 1024;

/// The most bytes of the producer's tags of a fragment that are kept.
const TAG_BYTES_MAX: usize = 256 * 1024;

/// What is known of a fragment before its first frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Head {
    /// Where its document begins in the body.
    pub offset: u64,
    /// `AWS_KINESISVIDEO_FRAGMENT_NUMBER`; empty in a document that is not the service's.
    pub number: Number,
    /// `AWS_KINESISVIDEO_SERVER_TIMESTAMP`, in nanoseconds since the Unix epoch.
    pub server_timestamp: Option<u64>,
    /// `AWS_KINESISVIDEO_PRODUCER_TIMESTAMP`, in nanoseconds since the Unix epoch; may be small, or 0.
    pub producer_timestamp: Option<u64>,
    /// The producer's tags so far.
    pub tags: Vec<Tag>,
    /// The `EBML` element, whole.
    pub ebml: Bytes,
    /// The `Info` element, whole, if there is one.
    pub info: Option<Element>,
    /// The `Tracks` element, whole, if there is one.
    pub tracks: Option<Element>,
}

impl Head {
    /// As it is announced; `first_pts` is the time of its first frame, as rewritten.
    pub fn start(&self, first_pts: Option<u64>) -> FragmentStart {
        FragmentStart {
            number: self.number.to_string(),
            server_timestamp: self.server_timestamp,
            producer_timestamp: self.producer_timestamp,
            first_pts,
            tags: self.tags.clone(),
        }
    }
}

/// An element in memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Element {
    /// What follows its id and size.
    pub data: Bytes,
    /// Where that stands in the body.
    pub offset: u64,
}

/// A fragment that is complete.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct End {
    /// `AWS_KINESISVIDEO_MILLIS_BEHIND_NOW`
    pub millis_behind_now: Option<u64>,
    /// `AWS_KINESISVIDEO_CONTINUATION_TOKEN`: opaque. `None` if the document ended without.
    pub continuation_token: Option<String>,
    /// The producer's tags that came after the first frame.
    pub tags: Vec<Tag>,
    /// The size of the document up to here, in bytes.
    pub bytes: u64,
    /// Where the document ends in the body.
    pub offset: u64,
}

impl End {
    /// The end of the fragment that began with `start`.
    pub fn complete(self, mut start: FragmentStart, frames: u32) -> FragmentEnd {
        start.tags.extend(self.tags);
        FragmentEnd {
            start,
            millis_behind_now: self.millis_behind_now,
            continuation_token: self.continuation_token,
            frames,
            bytes: self.bytes,
            bearings: None,
        }
    }
}

/// What happens in a body.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A fragment's first cluster begins, or its end has come without one.
    Begin(Box<Head>),
    /// A cluster begins: its `Timestamp`, in units of the document's `TimestampScale`.
    Cluster(u64),
    /// A block of it.
    Block(Block),
    /// The fragment is complete.
    End(End),
    /// The service reports an error in place of a fragment; the body ends after it.
    Fault(Box<Error>),
}

#[derive(Debug, Default)]
struct Document {
    head: Head,
    begun: bool,
    /// The cluster under way has had its `Timestamp`.
    in_cluster: bool,
    /// The end of the last block, or of the element that began the document.
    media_end: u64,
    tags: Vec<Tag>,
    /// The size of all of the producer's tags that are kept.
    tag_bytes: usize,
    ended: bool,
}

/// What is held back of a document: its beginning, if not even that has been told, and its end.
#[derive(Debug)]
struct Held {
    begin: Option<Box<Head>>,
    end: End,
}

/// Makes fragments of a GetMedia body.
#[derive(Debug, Default)]
pub struct Assembler {
    reader: Reader,
    document: Document,
    /// Events that follow the one just returned.
    next: VecDeque<Event>,
    /// The end of the last document, which had no token, until this one shows that the service has gone
    /// on: an error that it reports instead may have cut it short.
    held: Option<Held>,
    /// What follows this offset is not known to belong to anything.
    unsettled: Option<u64>,
}

impl Assembler {
    /// Takes the next chunk of the body. Spans handed out before are no longer valid.
    pub fn push(&mut self, chunk: Bytes) {
        self.reader.push(chunk);
    }

    /// Lets go of what events have covered. Spans handed out are no longer valid.
    pub fn release(&mut self) {
        self.reader.release();
    }

    /// The bytes that spans refer to.
    pub fn rope(&self) -> &Rope {
        self.reader.rope()
    }

    /// The offset of the first byte that no event has covered.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// The offset up to which events have told what the bytes belong to.
    pub fn settled(&self) -> u64 {
        self.unsettled.unwrap_or(self.position())
    }

    /// The fragment under way, as far as it is known: its number may come before its first cluster.
    pub fn announced(&self) -> Option<&Head> {
        let document = &self.document;
        (!document.ended && !document.head.number.is_empty()).then_some(&document.head)
    }

    /// The next event, or `None` when more bytes are needed for it.
    ///
    /// # Errors
    /// As [`Reader::next`], and where `Tags` or blocks are malformed.
    #[allow(clippy::should_implement_trait)] // fallible, and `None` is not the end
    pub fn next(&mut self) -> Result<Option<Event>, ebml::Error> {
        loop {
            if let Some(event) = self.next.pop_front() {
                return Ok(Some(event));
            }
            let event = match self.reader.next()? {
                Some(event) => event,
                None => return Ok(None),
            };
            let found = match event {
                ebml::Event::Start {
                    id: schema::CLUSTER,
                    ..
                } => {
                    self.document.in_cluster = false;
                    None
                }
                ebml::Event::Start { .. } | ebml::Event::End { .. } => None,
                ebml::Event::Element { id, span, data } => self.element(id, span, data)?,
            };
            self.check_head()?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn element(
        &mut self,
        id: schema::Id,
        span: Span,
        data: Span,
    ) -> Result<Option<Event>, ebml::Error> {
        match id {
            schema::SIMPLE_BLOCK | schema::BLOCK_GROUP => {
                if !self.document.in_cluster {
                    let kind = ErrorKind::BlockBeforeTimestamp;
                    return Err(self.reader.error_at(kind, span.start, Some(id)));
                }
                if !self.document.ended {
                    self.document.media_end = span.end;
                }
                return Block::parse(&self.reader, id, span, data)
                    .map(|block| Some(Event::Block(block)));
            }
            schema::TIMESTAMP => {
                let timecode = ebml::unsigned(&self.rope().bytes(data)).unwrap_or_default();
                self.document.in_cluster = true;
                return Ok(self.begin_then(Event::Cluster(timecode)));
            }
            schema::EBML => self.start_document(span),
            schema::INFO => self.document.head.info = Some(self.keep(data)),
            schema::TRACKS => self.document.head.tracks = Some(self.keep(data)),
            schema::TAGS => return self.tags(span, data),
            _ => (),
        }
        Ok(None)
    }

    fn keep(&self, data: Span) -> Element {
        Element {
            data: self.rope().bytes(data),
            offset: data.start,
        }
    }

    /// A new document. The one before is complete even if it had no token: the service has no more of
    /// it, unless this one says that it has failed.
    fn start_document(&mut self, span: Span) {
        // It was no error that came in the place of what was held back before.
        self.settle();
        let known = self.document.begun || !self.document.head.number.is_empty();
        if known && !self.document.ended {
            let end = self.end(None, None, span.start);
            let head = std::mem::take(&mut self.document.head);
            let begin = (!self.document.begun).then(|| Box::new(head));
            self.held = Some(Held { begin, end });
            self.unsettled = Some(span.start);
        }
        self.document = Document {
            head: Head {
                offset: span.start,
                ebml: self.rope().bytes(span),
                ..Head::default()
            },
            // Documents that are nothing do not make room for more of them.
            media_end: match known {
                true => span.end,
                false => self.document.media_end,
            },
            ..Document::default()
        };
    }

    /// What was held back is so.
    fn settle(&mut self) {
        self.unsettled = None;
        if let Some(Held { begin, end }) = self.held.take() {
            self.next.extend(begin.map(Event::Begin));
            self.next.push_back(Event::End(end));
        }
    }

    /// The end of the fragment under way, of which no more is to be had, if the bytes so far do not end
    /// within an element of it.
    pub fn close(&mut self) -> Option<End> {
        match self.held.take() {
            Some(held) => Some(held.end),
            None if self.position() < self.rope().end() => None,
            None => Some(self.end(None, None, self.position())),
        }
    }

    fn tags(&mut self, span: Span, data: Span) -> Result<Option<Event>, ebml::Error> {
        let tags = tags::parse(&self.rope().bytes(data), data.start)?;
        if let Some(id) = tags.error_id {
            self.held = None;
            self.unsettled.get_or_insert(span.start);
            let number = tags.fragment_number.as_deref();
            return Ok(Some(Event::Fault(Box::new(inband::error(
                id,
                tags.error_code,
                number,
            )))));
        }
        let document = &mut self.document;
        let kept = if document.begun {
            &mut document.tags
        } else {
            &mut document.head.tags
        };
        for tag in tags.producer {
            let len = tag.name.len() + tag.value.len();
            if kept.len() < TAGS_MAX && document.tag_bytes + len <= TAG_BYTES_MAX {
                document.tag_bytes += len;
                kept.push(tag);
            }
        }
        if let Some(number) = tags.fragment_number {
            document.head.number = Number::new(number);
            document.head.server_timestamp = tags.server_timestamp;
            document.head.producer_timestamp = tags.producer_timestamp;
        }
        if tags.continuation_token.is_none() || document.ended {
            return Ok(None);
        }
        let end = self.end(tags.continuation_token, tags.millis_behind_now, data.end);
        Ok(self.begin_then(Event::End(end)))
    }

    fn end(&mut self, token: Option<String>, millis_behind_now: Option<u64>, offset: u64) -> End {
        self.document.ended = true;
        End {
            millis_behind_now,
            continuation_token: token,
            tags: std::mem::take(&mut self.document.tags),
            bytes: offset - self.document.head.offset,
            offset,
        }
    }

    /// The event, after the one that begins the fragment if that is still to come, and that after the
    /// end of the one before.
    fn begin_then(&mut self, event: Event) -> Option<Event> {
        if std::mem::replace(&mut self.document.begun, true) {
            return Some(event);
        }
        self.settle();
        let head = Box::new(self.document.head.clone());
        self.next.extend([Event::Begin(head), event]);
        self.next.pop_front()
    }

    fn check_head(&self) -> Result<(), ebml::Error> {
        if self.position() - self.document.media_end > HEAD_MAX {
            return Err(self.reader.error(ErrorKind::HeadTooLarge(HEAD_MAX), None));
        }
        Ok(())
    }
}
