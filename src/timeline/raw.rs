use super::clock::Clock;
use crate::{
    ebml::{Rope, Span},
    fragment::{self, Head},
    item::{Data, FragmentStart, Gap, GapKind, Item},
    request::TimestampSource,
};
use bytes::Bytes;

/// So many pieces that wait are joined: a sender of single bytes must not cost a `Bytes` for each.
const JOIN: usize = 64;

/// Passes documents as served, whole elements at a time.
///
/// A document is kept back until its fragment is known, so that one that was delivered in part before
/// a connection broke goes on at the byte where it stopped.
#[derive(Debug, Default)]
pub struct Raw {
    /// The offset up to which the body has been taken.
    taken: u64,
    /// What has come and not been given out: of a document as long as it is not known which fragment it
    /// is.
    waiting: Vec<Bytes>,
    /// How many of them are joined.
    joined: usize,
    /// It is known, and wanted.
    passing: bool,
    fragment: Option<FragmentStart>,
    last_number: Option<String>,
    frames: u32,
    /// Frames since the last data.
    new_frames: u32,
    /// Bytes before the document, which are none of it and wait as well.
    before: u64,
    /// Bytes of the document that have been delivered, and how many the body still repeats.
    delivered: u64,
    repeated: u64,
}

impl Raw {
    /// Frames up to this fragment were delivered before this process began.
    pub fn resume_after(&mut self, number: &str) {
        self.last_number = (!number.is_empty()).then(|| number.to_owned());
    }

    /// A body begins.
    pub fn open(&mut self) {
        self.taken = 0;
        self.passing = false;
        self.waiting.clear();
        self.joined = 0;
    }

    /// A fragment begins: what came of its document is to be delivered.
    pub fn begin(&mut self, head: &Head, interrupted: Option<GapKind>, items: &mut Vec<Item>) {
        if let Some(kind) = interrupted {
            items.push(Item::Gap(Gap {
                kind,
                from_fragment: self.last_number.take(),
                to_fragment: Some(head.number.to_string()),
                from_timestamp: None,
                to_timestamp: Clock::starts_at(TimestampSource::Producer, head),
            }));
        }
        self.last_number = Some(head.number.to_string());
        self.before = self.waiting_before(head.offset);
        let start = head.start(None);
        items.push(Item::FragmentStart(start.clone()));
        self.fragment = Some(start);
        self.passing = true;
        self.frames = 0;
        self.delivered = 0;
        self.repeated = 0;
    }

    /// The fragment that was cut begins again, at `start` in the body.
    pub fn resume(&mut self, start: u64) {
        self.passing = true;
        self.before = 0;
        self.repeated = self.waiting_before(start) + self.delivered;
    }

    /// How many of the bytes that wait come before `start`: elements after the last one of the document
    /// before.
    fn waiting_before(&self, start: u64) -> u64 {
        let waiting: usize = self.waiting.iter().map(Bytes::len).sum();
        start.saturating_sub(self.taken - waiting as u64)
    }

    /// The body up to here is not wanted.
    pub fn skip(&mut self, position: u64) {
        self.split_off(position);
        self.taken = self.taken.max(position);
    }

    /// What waits up to `position`.
    fn split_off(&mut self, position: u64) -> Vec<Bytes> {
        let mut left = self.waiting_before(position);
        let mut first = Vec::new();
        if left == 0 {
            return first;
        }
        self.joined = 0;
        self.waiting.retain_mut(|piece| {
            let part = piece.split_to(left.min(piece.len() as u64) as usize);
            left -= part.len() as u64;
            if !part.is_empty() {
                first.push(part);
            }
            !piece.is_empty()
        });
        first
    }

    fn join(&mut self) {
        if self.waiting.len() - self.joined >= JOIN {
            let last = self.waiting.split_off(self.joined).concat();
            self.waiting.push(last.into());
            self.joined += 1;
        }
    }

    /// A block of the fragment that had not come before.
    pub fn block(&mut self) {
        self.frames += 1;
        self.new_frames += 1;
    }

    /// The fragment is complete.
    pub fn end(&mut self, end: fragment::End, rope: &Rope, items: &mut Vec<Item>) {
        self.take(rope, end.offset);
        self.flush(rope, end.offset, items);
        self.passing = false;
        if let Some(start) = self.fragment.take() {
            let end = end.complete(start, std::mem::take(&mut self.frames));
            items.push(Item::FragmentEnd(end));
        }
    }

    /// Keeps back what has come up to `position`.
    pub fn take(&mut self, rope: &Rope, position: u64) {
        if position > self.taken {
            rope.append_slices(
                Span {
                    start: self.taken,
                    end: position,
                },
                &mut self.waiting,
            );
            self.taken = position;
        }
    }

    /// Gives out what of that is wanted, up to `position`.
    pub fn flush(&mut self, rope: &Rope, position: u64, items: &mut Vec<Item>) {
        if !self.passing {
            return self.join();
        }
        let mut pieces = self.split_off(position);
        self.join();
        pieces.retain_mut(|piece| {
            let skip = self.repeated.min(piece.len() as u64);
            self.repeated -= skip;
            *piece = piece.slice(skip as usize..);
            !piece.is_empty()
        });
        let data = Data {
            pieces,
            frames: std::mem::take(&mut self.new_frames),
            consumed: rope.consume(position) as usize,
            ..Data::default()
        };
        if !data.is_empty() {
            let before = self.before.min(data.len() as u64);
            self.before -= before;
            self.delivered += data.len() as u64 - before;
            items.push(Item::Data(data));
        }
    }
}
