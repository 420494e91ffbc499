use bytes::{Bytes, BytesMut};
use std::{cell::Cell, collections::VecDeque, ops::Range};

/// A stretch of a body: offsets from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: u64,
    /// The byte after its last.
    pub end: u64,
}

impl Span {
    /// How many bytes it has.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Chunks shorter than this are joined: a sender of single bytes must not cost a `Bytes` for each.
const SMALL_CHUNK: usize = 4096;

/// A slice that is this much shorter than its chunk is copied, lest it keeps the chunk in memory.
const PINNED_PART: usize = 4;

#[derive(Debug)]
struct Chunk {
    start: u64,
    bytes: Bytes,
    /// How much of it has been given out by [`Rope::append_slices`].
    given: Cell<usize>,
}

impl Chunk {
    fn new(start: u64, bytes: Bytes) -> Chunk {
        let given = Cell::new(0);
        Chunk {
            start,
            bytes,
            given,
        }
    }

    /// A part of it, of which together with others so many bytes are in use.
    fn slice(&self, range: Range<usize>, used: usize) -> Bytes {
        if used < self.bytes.len() / PINNED_PART {
            Bytes::copy_from_slice(&self.bytes[range])
        } else {
            self.bytes.slice(range)
        }
    }

    /// A part of it that goes the way of those before.
    fn next_slice(&self, range: Range<usize>) -> Bytes {
        let given = self.given.get().saturating_add(range.len());
        self.given.set(given);
        self.slice(range, given)
    }
}

/// The part of a body that is still needed, as the chunks in which it arrived.
#[derive(Debug, Default)]
pub struct Rope {
    chunks: VecDeque<Chunk>,
    /// Small chunks, joined; follows the last of `chunks`.
    tail: BytesMut,
    end: u64,
    /// How far [`Rope::consume`] has come.
    consumed: Cell<u64>,
}

impl Rope {
    /// The offset after the last byte that has arrived.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// How many bytes there are up to this offset that were not counted before.
    ///
    /// What is given out may keep all of them in memory: a chunk is a part of the buffer that the network
    /// was read into, of which nothing tells how large it is.
    pub fn consume(&self, offset: u64) -> u64 {
        let before = self.consumed.get().min(offset);
        self.consumed.set(offset.max(self.consumed.get()));
        offset - before
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        let start = self.end;
        self.end += chunk.len() as u64;
        if chunk.len() < SMALL_CHUNK && !(self.chunks.is_empty() && self.tail.is_empty()) {
            self.tail.extend_from_slice(&chunk);
        } else if !chunk.is_empty() {
            self.freeze_at(start);
            self.chunks.push_back(Chunk::new(start, chunk));
        }
    }

    /// Makes what has arrived available to [`Rope::bytes`] and [`Rope::append_slices`].
    pub(super) fn freeze(&mut self) {
        self.freeze_at(self.end);
    }

    fn freeze_at(&mut self, end: u64) {
        if !self.tail.is_empty() {
            // All of it: a part would keep the room for more alive, which may be megabytes.
            let bytes = std::mem::take(&mut self.tail).freeze();
            let start = end - bytes.len() as u64;
            self.chunks.push_back(Chunk::new(start, bytes));
        }
    }

    /// Drops the chunks that end at or before `offset`.
    pub(super) fn release(&mut self, offset: u64) {
        while let Some(chunk) = self.chunks.front()
            && chunk.start + chunk.bytes.len() as u64 <= offset
        {
            self.chunks.pop_front();
        }
    }

    /// The offset at which the unfrozen tail begins.
    pub(super) fn frozen_end(&self) -> u64 {
        self.end - self.tail.len() as u64
    }

    /// What there is from `offset` on, at most as much as `buffer` takes, which serves where that does
    /// not stand in one piece.
    #[inline]
    pub(super) fn peek<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> &'a [u8] {
        // Nearly always it is in the chunk that came last.
        let in_last = self.chunks.back().and_then(|last| {
            let from = offset.checked_sub(last.start)? as usize;
            last.bytes.get(from..)?.get(..buffer.len())
        });
        match in_last {
            Some(bytes) => bytes,
            None => self.gather(offset, buffer),
        }
    }

    fn gather<'a>(&self, offset: u64, buffer: &'a mut [u8]) -> &'a [u8] {
        let first = self.chunk_index(offset);
        let start = self
            .chunks
            .get(first)
            .map_or(self.frozen_end(), |chunk| chunk.start);
        let bytes = self
            .chunks
            .range(first..)
            .flat_map(|chunk| &chunk.bytes[..])
            .chain(&self.tail[..])
            .skip(offset.saturating_sub(start) as usize);
        let into = buffer.iter_mut();
        let count = into.zip(bytes).map(|(into, byte)| *into = *byte).count();
        &buffer[..count]
    }

    /// The chunk that holds `offset`.
    fn chunk_index(&self, offset: u64) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.start <= offset)
            .saturating_sub(1)
    }

    fn slices(&self, span: Span) -> impl Iterator<Item = (&Chunk, Range<usize>)> {
        self.chunks
            .range(self.chunk_index(span.start)..)
            .map_while(move |chunk| {
                let from = span.start.max(chunk.start);
                let to = span.end.min(chunk.start + chunk.bytes.len() as u64);
                (from < to).then(|| {
                    (
                        chunk,
                        (from - chunk.start) as usize..(to - chunk.start) as usize,
                    )
                })
            })
    }

    /// The bytes of `span` in one piece: a slice where they arrived in one chunk, else a copy.
    pub fn bytes(&self, span: Span) -> Bytes {
        let mut slices = self.slices(span);
        let Some((chunk, range)) = slices.next() else {
            return Bytes::new();
        };
        if range.len() as u64 == span.len() {
            let len = range.len();
            return chunk.slice(range, len);
        }
        self.copy(span)
    }

    /// A copy of the bytes of `span`, for what is kept for long.
    pub fn copy(&self, span: Span) -> Bytes {
        let mut all = BytesMut::with_capacity(span.len() as usize);
        self.slices(span)
            .for_each(|(chunk, range)| all.extend_from_slice(&chunk.bytes[range]));
        all.freeze()
    }

    /// Appends the bytes of `span` to `pieces`, a slice for each chunk. They are to be used up in
    /// order: the last part of a chunk does not keep long what the parts before no longer need.
    pub fn append_slices(&self, span: Span, pieces: &mut Vec<Bytes>) {
        pieces.extend(
            self.slices(span)
                .map(|(chunk, range)| chunk.next_slice(range)),
        );
    }
}
