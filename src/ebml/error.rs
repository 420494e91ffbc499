use super::schema::{self, Id};
use std::fmt;

/// Why a body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No element begins here: the first byte of an id must have one of its four upper bits set.
    InvalidId,
    /// A size of more than eight bytes.
    InvalidSize,
    /// An element without a size that must have one.
    UnknownSize,
    /// An element that is larger than its kind may be: its size and the cap, in bytes.
    TooLarge {
        /// The size that stands in the body.
        size: u64,
        /// The cap.
        max: u64,
    },
    /// An element that ends after its parent does.
    Overrun,
    /// An element where it may not stand.
    Misplaced,
    /// A `Block` shorter than its own header, or one without a track number.
    InvalidBlock,
    /// A block before its cluster's `Timestamp`.
    BlockBeforeTimestamp,
    /// Frames before any `Tracks`.
    NoTracks,
    /// More bytes without a frame than any document has: the cap.
    HeadTooLarge(u64),
    /// A `TimestampScale` of zero, or beyond every use: the cap, in nanoseconds.
    InvalidScale(u64),
    /// More `TrackEntry`s than any stream has: the cap.
    TooManyTracks(usize),
}

/// What is wrong with a body, and where: the offset from its first byte and the element path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Bytes from the beginning of the body.
    pub offset: u64,
    /// Names from the outermost element to the one at fault.
    pub path: Vec<String>,
    /// What is wrong.
    pub kind: ErrorKind,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, offset: u64, path: &[Id]) -> Self {
        Error {
            offset,
            path: path.iter().copied().map(schema::name).collect(),
            kind,
        }
    }

    /// The same error one level further out.
    pub(crate) fn within(mut self, parents: &[Id]) -> Self {
        self.path
            .splice(0..0, parents.iter().copied().map(schema::name));
        self
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::InvalidId => f.write_str("no Matroska element begins here"),
            ErrorKind::InvalidSize => f.write_str("the element's size is malformed"),
            ErrorKind::UnknownSize => f.write_str("the element has no size"),
            ErrorKind::TooLarge { size, max } => {
                write!(f, "the element says it has {size} bytes, {max} are allowed")
            }
            ErrorKind::Overrun => f.write_str("the element ends after its parent"),
            ErrorKind::Misplaced => f.write_str("the element may not stand here"),
            ErrorKind::InvalidBlock => f.write_str("the block's header is malformed"),
            ErrorKind::BlockBeforeTimestamp => {
                f.write_str("a block before the cluster's Timestamp")
            }
            ErrorKind::NoTracks => f.write_str("a cluster before any Tracks"),
            ErrorKind::HeadTooLarge(max) => write!(f, "no frame in {max} bytes"),
            ErrorKind::InvalidScale(max) => {
                write!(f, "a TimestampScale that is not from 1 to {max}")
            }
            ErrorKind::TooManyTracks(max) => write!(f, "more than {max} tracks"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {}", self.kind, self.offset)?;
        if !self.path.is_empty() {
            write!(f, ", in {}", self.path.join(" > "))?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for Error {}
