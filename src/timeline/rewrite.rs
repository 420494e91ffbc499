use super::output::Output;
use crate::ebml::{Block, BlockDuration, Rope, Span, schema, write};
use bytes::Bytes;

/// What a block says downstream of its track and its time, where that is not what was served.
pub(super) struct Rewrite {
    track: u64,
    offset: i16,
    /// A `BlockDuration` in other units, and the element to be written in its place.
    duration: Option<(BlockDuration, Vec<u8>)>,
}

impl Rewrite {
    /// `track` and `offset` are to be written in a block, and its duration in units of `to` nanoseconds
    /// instead of `from`. `None` if it goes as served.
    pub(super) fn new(block: &Block, track: u64, offset: i16, from: u64, to: u64) -> Option<Self> {
        let duration = match from == to {
            true => None,
            false => block.duration,
        };
        if offset == block.offset && track == block.track && duration.is_none() {
            return None;
        }
        let duration = duration.map(|duration| {
            let nanos = duration.units.saturating_mul(from);
            let units = nanos.saturating_add(to / 2) / to.max(1);
            let mut out = Vec::new();
            write::unsigned(&mut out, schema::BLOCK_DURATION, units);
            (duration, out)
        });
        Some(Rewrite {
            track,
            offset,
            duration,
        })
    }

    /// Writes the block, from the body or from `bytes`, which are all of it.
    pub(super) fn write(self, block: &Block, bytes: Option<Bytes>, rope: &Rope, out: &mut Output) {
        let as_served = |out: &mut Output, start: u64, end: u64| match &bytes {
            _ if start == end => (),
            None => out.span(rope, Span { start, end }),
            Some(bytes) => {
                let at = |offset: u64| (offset - block.span.start) as usize;
                out.bytes(rope, bytes.slice(at(start)..at(end)));
            }
        };
        let head = Span {
            start: block.span.start,
            end: block.time_at + 2,
        };
        let served = match &bytes {
            None => rope.bytes(head),
            Some(bytes) => bytes.slice(..head.len() as usize),
        };
        out.bytes(rope, self.head(block, &served));
        let mut at = head.end;
        if let Some((old, new)) = self.duration
            && old.span.start >= at
        {
            as_served(out, at, old.span.start);
            out.bytes(rope, new.into());
            at = old.span.end;
        }
        as_served(out, at, block.span.end);
    }

    /// The beginning of the block up to its time, of which `served` is what was served. A track number
    /// that does not fit where the one served stands is left alone; the service's tracks are three at
    /// most.
    fn head(&self, block: &Block, served: &[u8]) -> Bytes {
        let at = |offset: u64| (offset - block.span.start) as usize;
        let mut out = Vec::with_capacity(served.len());
        let mut from = block.span.start;
        if let Some((old, new)) = &self.duration {
            let others = block.span.end - old.group - old.span.len();
            write::id(&mut out, schema::BLOCK_GROUP);
            write::size(&mut out, others + new.len() as u64);
            from = old.group;
            if old.span.end <= block.track_at {
                out.extend_from_slice(&served[at(from)..at(old.span.start)]);
                out.extend_from_slice(new);
                from = old.span.end;
            }
        }
        out.extend_from_slice(&served[at(from)..at(block.track_at)]);
        if !write::vint(
            &mut out,
            self.track,
            (block.time_at - block.track_at) as usize,
        ) {
            out.extend_from_slice(&served[at(block.track_at)..at(block.time_at)]);
        }
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.into()
    }
}
