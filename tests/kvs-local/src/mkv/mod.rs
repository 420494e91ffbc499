//! A small Matroska reader of its own: what the server cuts documents with, and what tests ask for
//! a second opinion.
//!
//! It reads whole byte strings, never panics on any of them, and says where they end early.

pub mod ebml;
mod reader;

pub use reader::{Document, Element, Frame, Problem, Reading, Tag, Track, parse_tags, read};
