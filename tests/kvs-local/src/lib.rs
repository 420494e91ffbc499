//! A Kinesis Video Streams service that runs on this machine.
//!
//! [`Server`] answers the control plane (CreateStream, DescribeStream, ListStreams, TagStream,
//! DeleteStream, GetDataEndpoint), GetMedia and PutMedia over plain HTTP or TLS, verifies every
//! signature, enforces the published limits, and breaks in any way a test scripts with a
//! [`Fault`]. It runs on its own thread, so that tests need no async runtime.
//!
//! ```
//! use kvs_local::{NewFragment, Server, synth::Synth};
//!
//! let server = Server::start();
//! let cam = server.stream("cam");
//! let media = Synth::new().fragments(3).build();
//! for fragment in &media.fragments {
//!     cam.push_fragment(NewFragment::new(fragment.document.clone()));
//! }
//! assert_eq!(cam.fragments().len(), 3);
//! println!("GetMedia from {} in {}", server.endpoint_url(), server.region());
//! ```
//!
//! # How it works
//! `server` accepts connections and `http` reads and writes them; `service` takes each request
//! through `fault`, `sigv4` and `limits` to `control`, `getmedia` or `putmedia`, and notes it in
//! `log`. Media lives in `store`: `ingest` cuts what a producer sends into fragments, `document`
//! writes what GetMedia sends, `body` sends it byte for byte as the faults want it.
//!
//! [`mkv`] reads Matroska for tests as a second opinion, [`synth`] makes it.

#![warn(missing_docs)]

mod body;
mod clock;
mod control;
mod document;
mod error;
mod fault;
mod getmedia;
mod http;
mod ingest;
mod limits;
mod log;
pub mod mkv;
mod number;
mod putmedia;
mod server;
mod service;
mod sigv4;
mod store;
mod stream;
pub mod synth;
mod tls;
mod validate;

pub use document::{ClusterSize, DocumentStyle, ProducerTags, error_document, error_text};
pub use fault::{AfterBody, Fault};
pub use http::Cut;
pub use log::{Operation, Request};
pub use putmedia::{NotMatroska, Producer};
pub use server::{Builder, DEFAULT_ACCESS_KEY, DEFAULT_REGION, DEFAULT_SECRET_KEY, Server};
pub use store::{
    FragmentInfo, Idle, NewFragment, NowStart, OnEmpty, OnExpired, OnTimestampGap, StartSelector,
    Timecodes, Undocumented,
};
pub use stream::StreamHandle;
