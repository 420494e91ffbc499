use crate::{
    ebml::{Rope, Span},
    item::{Data, Item},
};
use bytes::Bytes;

/// The data under construction. Spans that touch are joined, so that what arrived in one read leaves
/// in one piece, and a block costs neither an allocation nor a reference count.
#[derive(Debug, Default)]
pub(super) struct Output {
    data: Data,
    span: Option<Span>,
}

impl Output {
    pub(super) fn span(&mut self, rope: &Rope, span: Span) {
        match &mut self.span {
            Some(last) if last.end == span.start => last.end = span.end,
            _ => {
                self.take_span(rope);
                self.span = Some(span);
            }
        }
    }

    pub(super) fn bytes(&mut self, rope: &Rope, bytes: Bytes) {
        self.take_span(rope);
        self.data.pieces.push(bytes);
    }

    /// Says that the block just written begins at `pts`.
    pub(super) fn frame(&mut self, pts: u64) {
        self.data.pts.get_or_insert(pts);
        self.data.frames += 1;
    }

    /// Ends the data here, at an element boundary.
    pub(super) fn flush(&mut self, rope: &Rope, items: &mut Vec<Item>) {
        self.take_span(rope);
        if !self.data.pieces.is_empty() {
            items.push(Item::Data(std::mem::take(&mut self.data)));
        }
    }

    fn take_span(&mut self, rope: &Rope) {
        if let Some(span) = self.span.take() {
            rope.append_slices(span, &mut self.data.pieces);
            self.data.consumed += rope.consume(span.end) as usize;
        }
    }
}
