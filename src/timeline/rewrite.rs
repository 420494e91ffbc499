use super::output::Output;
use crate::ebml::{Block, BlockDuration, Rope, Span, schema, write};
use bytes::Bytes;

/// What a block says downstream of its track and its time, which may not be what was served.
pub(super) struct Rewrite {
    /// `TrackNumber`
    pub track: u64,
    /// Its time relative to the cluster's as written, in the units that a demuxer was told of.
    pub offset: i16,
    /// The element to be written in place of a `BlockDuration` in other units.
    pub duration: Option<(BlockDuration, Vec<u8>)>,
}

impl Rewrite {
    /// The `BlockDuration` of a block in units of `to` nanoseconds, if it has one in others.
    pub(super) fn duration(block: &Block, from: u64, to: u64) -> Option<(BlockDuration, Vec<u8>)> {
        let duration = block.duration.filter(|_| from != to)?;
        let nanos = duration.units.saturating_mul(from);
        let mut out = Vec::new();
        let units = nanos.saturating_add(to / 2) / to.max(1);
        write::unsigned(&mut out, schema::BLOCK_DURATION, units);
        Some((duration, out))
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
        if self.offset == block.offset && self.track == block.track && self.duration.is_none() {
            return as_served(out, block.span.start, block.span.end);
        }
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
