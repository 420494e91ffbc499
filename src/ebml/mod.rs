//! EBML and Matroska, sans-IO: bytes in, elements out.
//!
//! [`Reader`] walks a Matroska body that arrives in chunks of any size and reports each element as
//! soon as it is complete, as a [`Span`] of the body; [`Rope`] gives the bytes of a span without
//! copying them. It descends into `Segment` and `Cluster` only, the two that may have no size. The
//! small masters inside them (`Info`, `Tracks`, `Tags`, …) arrive whole and are taken apart by
//! [`children`]. [`mod@write`] makes the few elements that are written anew, and [`schema`] holds what is
//! known of each element: its name, its parent, how large it may be.

mod block;
mod error;
mod header;
mod parse;
mod reader;
mod rope;
pub mod schema;
pub mod write;

pub use block::{Block, BlockDuration};
pub use error::{Error, ErrorKind};
pub use parse::{Child, children, float, text, unsigned};
pub use reader::{Event, Reader};
pub use rope::{Rope, Span};
pub use schema::Id;
