//! One fragment, and the document GetMedia sends for it.

use std::sync::Mutex;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::document::{self, DocumentStyle, Parts, Stamp};
use crate::number::Number;

/// A fragment of a stream.
pub(crate) struct Fragment {
    pub(crate) number: Number,
    pub(crate) token: String,
    pub(crate) producer_ms: u64,
    pub(crate) server_ms: u64,
    /// When it came to this server, which is what retention counts from.
    pub(crate) stored: Instant,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    /// A document served as it is.
    Verbatim { document: Bytes, duration_ms: u64 },
    /// A producer's bytes, which the server puts its tags around.
    Wrapped(Mutex<Upload>),
}

/// How far a fragment's upload has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Open,
    Complete,
    /// The producer's connection was lost in it.
    Broken,
}

/// A fragment's bytes so far.
pub(crate) struct Upload {
    /// All but the Cluster and what follows it.
    pub(crate) parts: Parts,
    /// The Cluster's bytes, in whole elements.
    pub(crate) cluster: BytesMut,
    pub(crate) progress: Progress,
    pub(crate) duration_ms: u64,
}

impl Fragment {
    pub(crate) fn stamp(&self) -> Stamp<'_> {
        Stamp {
            number: self.number.as_str(),
            token: &self.token,
            server_ms: self.server_ms,
            producer_ms: self.producer_ms,
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        match &self.content {
            Content::Verbatim { .. } => Progress::Complete,
            Content::Wrapped(upload) => upload.lock().unwrap().progress,
        }
    }

    pub(crate) fn duration_ms(&self) -> u64 {
        match &self.content {
            Content::Verbatim { duration_ms, .. } => *duration_ms,
            Content::Wrapped(upload) => upload.lock().unwrap().duration_ms,
        }
    }

    /// The document of a fragment that is complete or broken, or of an open one so far.
    pub(crate) fn document(&self, style: DocumentStyle, millis_behind: u64) -> Bytes {
        match &self.content {
            Content::Verbatim { document, .. } => document.clone(),
            Content::Wrapped(upload) => {
                let (parts, cluster, progress) = {
                    let upload = upload.lock().unwrap();
                    let cluster = match upload.progress {
                        Progress::Complete => upload.parts.cluster.clone(),
                        _ => Bytes::copy_from_slice(&upload.cluster),
                    };
                    (upload.parts.clone(), cluster, upload.progress)
                };
                let mut out = document::head(&parts, self.stamp(), style);
                out.extend_from_slice(&document::cluster(&cluster, style.cluster_size));
                if progress == Progress::Complete {
                    out.extend(document::tail(&parts, self.stamp(), style, millis_behind));
                }
                out.into()
            }
        }
    }

    /// What of a document is before its Cluster, for sending it while it grows.
    pub(crate) fn live_head(&self, style: DocumentStyle) -> Vec<u8> {
        match &self.content {
            Content::Verbatim { .. } => Vec::new(),
            Content::Wrapped(upload) => {
                document::head(&upload.lock().unwrap().parts, self.stamp(), style)
            }
        }
    }

    /// The Cluster's bytes from `from` on, and how far the upload is.
    pub(crate) fn live_cluster(&self, from: usize) -> (Bytes, Progress) {
        match &self.content {
            Content::Verbatim { .. } => (Bytes::new(), Progress::Complete),
            Content::Wrapped(upload) => {
                let upload = upload.lock().unwrap();
                let bytes = match upload.progress {
                    Progress::Complete => upload.parts.cluster.slice(from..),
                    _ => Bytes::copy_from_slice(&upload.cluster[from..]),
                };
                (bytes, upload.progress)
            }
        }
    }

    /// What follows the Cluster of a complete fragment.
    pub(crate) fn live_tail(&self, style: DocumentStyle, millis_behind: u64) -> Vec<u8> {
        match &self.content {
            Content::Verbatim { .. } => Vec::new(),
            Content::Wrapped(upload) => {
                let parts = upload.lock().unwrap().parts.clone();
                document::tail(&parts, self.stamp(), style, millis_behind)
            }
        }
    }
}

/// What a test may know of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentInfo {
    /// Fragment number: decimal digits.
    pub number: String,
    /// Continuation token that leads to the fragment after this one.
    pub token: String,
    /// Milliseconds since the Unix epoch.
    pub producer_timestamp_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub server_timestamp_ms: u64,
    /// Media in it, estimated from its blocks.
    pub duration_ms: u64,
    /// Bytes of its document, its trailing tags as they would be now.
    pub bytes: usize,
    /// Whether it is complete: false under upload, and where the upload broke off.
    pub complete: bool,
}
