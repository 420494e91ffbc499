use super::{
    error::{Error, ErrorKind},
    header::{self, MAX_HEADER},
    reader::Reader,
    rope::{Rope, Span},
    schema,
};

/// The longest header of a block: a track number of 8 bytes, a time of 2, flags, and the number of
/// laced frames.
const MAX_BLOCK_HEADER: usize = 12;

/// A `SimpleBlock`, or a `BlockGroup` with its `Block`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// All of the element, group included.
    pub span: Span,
    /// Where its track number stands.
    pub track_at: u64,
    /// Where the two bytes of its relative time stand, behind it.
    pub time_at: u64,
    /// `TrackNumber`
    pub track: u64,
    /// Its time relative to the cluster's, in units of `TimestampScale`.
    pub offset: i16,
    /// Frames laced in it, 1 without lacing.
    pub frames: u32,
    /// The `BlockDuration` of its group.
    pub duration: Option<BlockDuration>,
}

/// How long a `BlockGroup` lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockDuration {
    /// In units of `TimestampScale`.
    pub units: u64,
    /// All of the element; it may stand before the `Block` or after it.
    pub span: Span,
    /// Where the children of the group begin.
    pub group: u64,
}

impl Block {
    /// Reads the header of the `SimpleBlock` or `BlockGroup` that `reader` has just reported.
    pub(crate) fn parse(
        reader: &Reader,
        id: schema::Id,
        span: Span,
        data: Span,
    ) -> Result<Self, Error> {
        let error = |kind| reader.error_at(kind, data.start, Some(id));
        match id {
            schema::BLOCK_GROUP => Self::parse_group(reader.rope(), span, data).map_err(error),
            _ => Self::parse_block(reader.rope(), span, data).map_err(error),
        }
    }

    fn parse_block(rope: &Rope, span: Span, data: Span) -> Result<Self, ErrorKind> {
        let mut buffer = [0; MAX_BLOCK_HEADER];
        let bytes = within(rope.peek(data.start, &mut buffer), data.len());
        let (track, len) = match header::vint(bytes) {
            Ok(Some((Some(track), len))) => (track, len),
            _ => return Err(ErrorKind::InvalidBlock),
        };
        let Some(&[high, low, flags]) = bytes.get(len..len + 3) else {
            return Err(ErrorKind::InvalidBlock);
        };
        let laced = flags & 0x06 != 0;
        let frames = match bytes.get(len + 3) {
            Some(&more) if laced => u32::from(more) + 1,
            _ => 1,
        };
        Ok(Block {
            span,
            track_at: data.start,
            time_at: data.start + len as u64,
            track,
            offset: i16::from_be_bytes([high, low]),
            frames,
            duration: None,
        })
    }

    /// Finds the `Block` among the children of a group without touching its payload.
    fn parse_group(rope: &Rope, span: Span, data: Span) -> Result<Self, ErrorKind> {
        let mut block = None;
        let mut duration = None;
        let mut at = data.start;
        while at < data.end {
            let mut buffer = [0; MAX_HEADER];
            let header = header::parse(within(rope.peek(at, &mut buffer), data.end - at))?;
            let header = header.ok_or(ErrorKind::Overrun)?;
            let size = header.size.ok_or(ErrorKind::UnknownSize)?;
            let start = at + header.len as u64;
            let end = start
                .checked_add(size)
                .filter(|&end| end <= data.end)
                .ok_or(ErrorKind::Overrun)?;
            match header.id {
                schema::BLOCK => block = Some(Self::parse_block(rope, span, Span { start, end })?),
                schema::BLOCK_DURATION if size <= 8 => {
                    let bytes = rope.peek(start, &mut buffer[..size as usize]);
                    duration = super::unsigned(bytes).map(|units| BlockDuration {
                        units,
                        span: Span { start: at, end },
                        group: data.start,
                    });
                }
                _ => (),
            }
            at = end;
        }
        let block = block.ok_or(ErrorKind::InvalidBlock)?;
        Ok(Block { duration, ..block })
    }
}

/// No more of `bytes` than `len`.
fn within(bytes: &[u8], len: u64) -> &[u8] {
    bytes.get(..len as usize).unwrap_or(bytes)
}
