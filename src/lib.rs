//! A GStreamer source for Amazon Kinesis Video Streams.
//!
//! `kvsgetmediasrc` turns the thousands of small Matroska documents that the service's `GetMedia`
//! sends, over connections that end and break, into one endless Matroska document for
//! `matroskademux`.
//!
//! # Where data flows
//!
//! ```text
//!  network                     the session's task, on tokio                         streaming thread
//!                 ┌────────────────────── [receiver] ───────────────────────┐
//! ┌───────┐ Bytes ┌────────┐ elements ┌────────────┐ fragments ┌────────────┐ Item ┌─────────┐ Buffer
//! │ [aws] ├──────►│ [ebml] ├─────────►│ [fragment] ├──────────►│ [timeline] ├─────►│ [queue] ├───────►
//! └───────┘       └────────┘          └────────────┘           └────────────┘      └─────────┘ element
//!     ▲                                                              │
//!     └────────────── [resume]: what to ask for next ◄───────────────┘
//! ```
//!
//! One way only: what goes back is cancelling, and the room left in the queue.
//!
//! - [`aws`] finds credentials and the data endpoint and makes the request.
//! - [`ebml`], [`fragment`], [`timeline`] and [`resume`] read, assemble, rewrite and decide, and
//!   [`receiver`] puts them in a row: from the bytes of any number of bodies to the items of one
//!   stream. They know nothing of GStreamer, tokio or AWS; bytes and time are arguments, so all of it
//!   is tested without sockets.
//! - [`session`] is the only async loop. It makes connections as [`resume`] decides, gives what comes
//!   to the receiver and fills the queue.
//! - [`queue`] is bounded in bytes; full, it stops the session, and TCP stops the service.
//! - [`checkpoint`] keeps in a file how far downstream has taken the stream, for the next process.
//! - [`kvsgetmediasrc`] is the element: it checks settings, starts and stops the session, and turns
//!   each [`item::Item`] into a buffer, an event or a message.
//! - [`kvssrc`] is a bin of that element and a demuxer, with a pad for each track.
//! - [`error`], [`item`], [`notice`], [`request`] and [`stats`] are what the parts say to each
//!   other; [`runtime`] holds the threads that sessions of all elements share, and `log` brings
//!   what the SDK says on them into GStreamer's log.

pub mod aws;
pub mod checkpoint;
pub mod ebml;
pub mod error;
pub mod fragment;
pub mod item;
pub mod kvsgetmediasrc;
pub mod kvssrc;
mod lock;
mod log;
pub mod notice;
pub mod queue;
pub mod receiver;
pub mod request;
pub mod resume;
pub mod runtime;
pub mod session;
pub mod stats;
pub mod timeline;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    kvsgetmediasrc::register(plugin)?;
    kvssrc::register(plugin)
}

gst::plugin_define!(
    kvsgetmedia,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    // GStreamer's name for the MIT licence; it has none for a choice of two.
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    "Unknown package origin",
    env!("BUILD_REL_DATE")
);

/// The code in the README is compiled and run with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
