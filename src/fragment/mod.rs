//! From Matroska elements to the service's fragments, sans-IO.
//!
//! GetMedia sends each fragment as a whole Matroska document: a header, `Tags` with the fragment's
//! number and timestamps, one `Cluster` as a rule, and `Tags` with the continuation token.
//! [`Assembler`] turns that into one [`Event::Begin`] with everything known before the first frame,
//! the clusters and blocks, and one [`Event::End`]; or into the error that the service puts in place
//! of a fragment.

mod assembler;
mod inband;
mod number;
mod tags;

pub use assembler::{Assembler, Element, End, Event, Head};
pub use number::Number;
pub use tags::timestamp;
