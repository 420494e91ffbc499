use super::{
    error::{Error, ErrorKind},
    header::{self, Header, MAX_HEADER},
    rope::{Rope, Span},
    schema::{self, Id, Kind, Parent},
};
use bytes::Bytes;

/// What the reader has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A `Segment` or `Cluster` begins; its children follow.
    Start {
        /// Which.
        id: Id,
        /// Its id and size.
        header: Span,
    },
    /// It has ended: by its size, or by an element that may not stand in it.
    End {
        /// Which.
        id: Id,
    },
    /// Any other element, complete.
    Element {
        /// Which.
        id: Id,
        /// All of it.
        span: Span,
        /// What follows its id and size.
        data: Span,
    },
}

#[derive(Debug)]
struct Open {
    id: Id,
    has_size: bool,
    /// Where it ends, or if it has no size what it stands in.
    end: Option<u64>,
}

/// An incremental reader of Matroska bodies.
///
/// Feed it with [`push`](Reader::push), then call [`next`](Reader::next) until it needs more. Spans
/// that it hands out are valid until the next `push`: what came before the element it is at is let go
/// then, so that it never keeps more than the element under way and the chunk it arrived in.
#[derive(Debug, Default)]
pub struct Reader {
    rope: Rope,
    position: u64,
    open: Vec<Open>,
}

impl Reader {
    /// Takes the next chunk of the body, of any size.
    pub fn push(&mut self, chunk: Bytes) {
        self.release();
        self.rope.push(chunk);
    }

    /// Lets go of what events have covered, before the next [`push`](Reader::push) does. Spans handed out
    /// are no longer valid.
    pub fn release(&mut self) {
        self.rope.release(self.position);
    }

    /// The bytes that are still there.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }

    /// The offset of the first byte that no event has covered.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next event, or `None` when more bytes are needed for it.
    ///
    /// # Errors
    /// The body is not Matroska, or an element is larger than [`schema`] allows. The reader stays
    /// where it is: calling again gives the same error.
    #[allow(clippy::should_implement_trait)] // fallible, and `None` is not the end
    pub fn next(&mut self) -> Result<Option<Event>, Error> {
        if self.innermost_end() == Some(self.position) {
            return Ok(self.close());
        }
        let mut buffer = [0; MAX_HEADER];
        let header = match header::parse(self.rope.peek(self.position, &mut buffer)) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(None),
            Err(kind) => return Err(self.error(kind, None)),
        };
        let known = schema::find(header.id);
        if self.closes_innermost(known) {
            return Ok(self.close());
        }
        self.check_place(&header, known)?;
        match known {
            Some(element) if element.kind == Kind::Structure => self.enter(&header).map(Some),
            _ => self.whole(
                &header,
                known.map_or(schema::UNKNOWN_MAX_SIZE, |e| e.max_size),
            ),
        }
    }

    fn close(&mut self) -> Option<Event> {
        self.open.pop().map(|open| Event::End { id: open.id })
    }

    /// Whether an element shows by its kind that the innermost one, of unknown size, is over.
    fn closes_innermost(&self, element: Option<&schema::Element>) -> bool {
        match (self.open.last(), element) {
            (Some(open), Some(element)) if !open.has_size => match element.parent {
                Parent::Root => true,
                Parent::In(parent) => parent != open.id && self.is_outer(parent),
                Parent::Anywhere => false,
            },
            _ => false,
        }
    }

    /// Whether an element of this id is open around the innermost one.
    fn is_outer(&self, id: Id) -> bool {
        self.open.iter().rev().skip(1).any(|open| open.id == id)
    }

    fn check_place(&self, header: &Header, known: Option<&schema::Element>) -> Result<(), Error> {
        let innermost = self.open.last().map(|open| open.id);
        let fits = match known.map(|element| element.parent) {
            Some(Parent::Root) => innermost.is_none(),
            Some(Parent::In(parent)) => innermost == Some(parent),
            Some(Parent::Anywhere) => true,
            None => innermost.is_some(),
        };
        match fits {
            true => Ok(()),
            false if known.is_none() => Err(self.error(ErrorKind::InvalidId, None)),
            false => Err(self.error(ErrorKind::Misplaced, Some(header.id))),
        }
    }

    fn enter(&mut self, header: &Header) -> Result<Event, Error> {
        let start = self.position + header.len as u64;
        let end = match header.size {
            Some(size) => Some(
                start
                    .checked_add(size)
                    .ok_or_else(|| self.error(ErrorKind::Overrun, Some(header.id)))?,
            ),
            None => None,
        };
        self.check_end(end.unwrap_or(start), header.id)?;
        self.open.push(Open {
            id: header.id,
            has_size: end.is_some(),
            end: end.or(self.innermost_end()),
        });
        Ok(Event::Start {
            id: header.id,
            header: self.advance(start),
        })
    }

    fn whole(&mut self, header: &Header, max: u64) -> Result<Option<Event>, Error> {
        let id = header.id;
        let Some(size) = header.size else {
            return Err(self.error(ErrorKind::UnknownSize, Some(id)));
        };
        if size > max {
            return Err(self.error(ErrorKind::TooLarge { size, max }, Some(id)));
        }
        let data = self.position + header.len as u64;
        let end = data
            .checked_add(size)
            .ok_or_else(|| self.error(ErrorKind::Overrun, Some(id)))?;
        self.check_end(end, id)?;
        if end > self.rope.end() {
            return Ok(None);
        }
        let span = self.advance(end);
        Ok(Some(Event::Element {
            id,
            span,
            data: Span { start: data, end },
        }))
    }

    /// Where the innermost element of known size ends, and with it whatever is open inside it.
    fn innermost_end(&self) -> Option<u64> {
        self.open.last()?.end
    }

    /// Moves on to `end`; what lies before it can be had as slices from now on.
    fn advance(&mut self, end: u64) -> Span {
        if end > self.rope.frozen_end() {
            self.rope.freeze();
        }
        Span {
            start: std::mem::replace(&mut self.position, end),
            end,
        }
    }

    fn check_end(&self, end: u64, id: Id) -> Result<(), Error> {
        match self.innermost_end() {
            Some(parent_end) if end > parent_end => Err(self.error(ErrorKind::Overrun, Some(id))),
            _ => Ok(()),
        }
    }

    /// The error at the current position, in the element `id` of the ones that are open.
    pub(crate) fn error(&self, kind: ErrorKind, id: Option<Id>) -> Error {
        self.error_at(kind, self.position, id)
    }

    pub(crate) fn error_at(&self, kind: ErrorKind, offset: u64, id: Option<Id>) -> Error {
        let path: Vec<Id> = self.open.iter().map(|open| open.id).chain(id).collect();
        Error::new(kind, offset, &path)
    }
}
