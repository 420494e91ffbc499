//! The documents GetMedia sends: a producer's bytes and the service's tags around its Cluster.

use bytes::Bytes;

use crate::clock;
use crate::mkv::ebml::{self, SizeWidth, id};

const PREFIX: &str = "AWS_KINESISVIDEO_";

/// How documents are written whose bytes are not a recording's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentStyle {
    /// How the Cluster's size is written. Both occur in the service's answers.
    pub cluster_size: ClusterSize,
    /// Whether MILLIS_BEHIND_NOW and CONTINUATION_TOKEN follow the Cluster. They lack where the
    /// producer's connection was lost in the fragment.
    pub trailing_tags: bool,
    /// Where the producer's fragment metadata stands.
    pub producer_tags: ProducerTags,
}

impl Default for DocumentStyle {
    fn default() -> Self {
        DocumentStyle {
            cluster_size: ClusterSize::AsReceived,
            trailing_tags: true,
            producer_tags: ProducerTags::AsObserved,
        }
    }
}

/// How the size of a Cluster is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterSize {
    /// As the producer wrote it.
    AsReceived,
    /// In 8 bytes. Has no effect on a fragment that is sent while it is uploaded.
    Known,
    /// Unknown, in 8 bytes.
    Unknown,
}

/// Where a document carries the producer's own Tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProducerTags {
    /// After the Cluster, but before Info in the first fragment of a producer session.
    AsObserved,
    /// Between Tracks and the service's first Tags.
    BeforeCluster,
    /// Between the Cluster and the service's last Tags.
    AfterCluster,
}

/// A fragment in its producer's bytes, without any tag of the service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    /// The EBML header.
    pub(crate) ebml: Bytes,
    /// What stood between Segment and Cluster and belongs to every fragment: Info, Tracks, …
    pub(crate) setup: Bytes,
    /// The producer's Tags elements of this fragment.
    pub(crate) tags: Bytes,
    /// Whether this is the first fragment of a producer session.
    pub(crate) first: bool,
    /// The Cluster.
    pub(crate) cluster: Bytes,
    /// What followed it and belongs to it: Cues.
    pub(crate) trailer: Bytes,
}

/// What the service knows of a fragment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp<'a> {
    pub(crate) number: &'a str,
    pub(crate) token: &'a str,
    pub(crate) server_ms: u64,
    pub(crate) producer_ms: u64,
}

/// Everything before the Cluster.
pub(crate) fn head(parts: &Parts, stamp: Stamp<'_>, style: DocumentStyle) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.ebml.len() + parts.setup.len() + 512);
    if parts.ebml.is_empty() {
        out.extend_from_slice(&ebml_header());
    } else {
        out.extend_from_slice(&parts.ebml);
    }
    ebml::put_id(&mut out, id::SEGMENT);
    ebml::put_unknown_size(&mut out, 8);
    let before_info = style.producer_tags == ProducerTags::AsObserved && parts.first;
    if before_info {
        out.extend_from_slice(&parts.tags);
    }
    out.extend_from_slice(&parts.setup);
    if style.producer_tags == ProducerTags::BeforeCluster {
        out.extend_from_slice(&parts.tags);
    }
    aws_tags(
        &mut out,
        &[
            ("FRAGMENT_NUMBER", stamp.number),
            ("SERVER_TIMESTAMP", &clock::seconds(stamp.server_ms)),
            ("PRODUCER_TIMESTAMP", &clock::seconds(stamp.producer_ms)),
        ],
    );
    out
}

/// Everything after the Cluster.
pub(crate) fn tail(
    parts: &Parts,
    stamp: Stamp<'_>,
    style: DocumentStyle,
    millis_behind: u64,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.tags.len() + parts.trailer.len() + 256);
    out.extend_from_slice(&parts.trailer);
    let after = match style.producer_tags {
        ProducerTags::AsObserved => !parts.first,
        ProducerTags::AfterCluster => true,
        ProducerTags::BeforeCluster => false,
    };
    if after {
        out.extend_from_slice(&parts.tags);
    }
    if style.trailing_tags {
        aws_tags(
            &mut out,
            &[
                ("MILLIS_BEHIND_NOW", &millis_behind.to_string()),
                ("CONTINUATION_TOKEN", stamp.token),
            ],
        );
    }
    out
}

/// The Cluster with its size written as `size` asks.
pub(crate) fn cluster(cluster: &Bytes, size: ClusterSize) -> Bytes {
    let Ok(header) = ebml::read_header(cluster) else {
        return cluster.clone();
    };
    let mut out = Vec::with_capacity(cluster.len() + 12);
    ebml::put_id(&mut out, id::CLUSTER);
    let payload = &cluster[header.len..];
    match size {
        ClusterSize::AsReceived => return cluster.clone(),
        ClusterSize::Known => {
            ebml::put_size(&mut out, payload.len() as u64, SizeWidth::AtLeast(8));
        }
        ClusterSize::Unknown => ebml::put_unknown_size(&mut out, 8),
    }
    out.extend_from_slice(payload);
    out.into()
}

/// A document that carries an error in place of media.
pub fn error_document(number: &str, error_id: u32, error_code: &str) -> Bytes {
    let mut out = ebml_header();
    ebml::put_id(&mut out, id::SEGMENT);
    ebml::put_unknown_size(&mut out, 8);
    aws_tags(
        &mut out,
        &[
            ("FRAGMENT_NUMBER", number),
            ("ERROR_CODE", error_code),
            ("ERROR_ID", &error_id.to_string()),
        ],
    );
    out.into()
}

/// The names of in-band errors, by id, in the words of the service's reference.
pub fn error_text(error_id: u32) -> &'static str {
    match error_id {
        3002 => "Error writing to the stream",
        4000 => "Requested fragment is not found",
        4500 => "Access denied for the stream's KMS key",
        4501 => "Stream's KMS key is disabled",
        4502 => "Validation error on the stream's KMS key",
        4503 => "KMS key specified in the stream is unavailable",
        4504 => "Invalid usage of the KMS key specified in the stream",
        4505 => "Invalid state of the KMS key specified in the stream",
        4506 => "Unable to find the KMS key specified in the stream",
        _ => "Internal error",
    }
}

/// Where a recorded document's last AWS Tags start, if it has them.
pub(crate) fn trailing_tags_at(document: &Bytes) -> Option<usize> {
    let reading = crate::mkv::read(document);
    let last = reading.documents.first()?.elements.last()?;
    if last.id != id::TAGS {
        return None;
    }
    let element = document.slice(last.offset..last.offset + last.len);
    let header = ebml::read_header(&element).ok()?;
    let (tags, _) = crate::mkv::parse_tags(&element[header.len..]);
    tags.iter()
        .any(|tag| {
            tag.name
                .strip_prefix(PREFIX)
                .is_some_and(|name| name == "CONTINUATION_TOKEN" || name == "MILLIS_BEHIND_NOW")
        })
        .then_some(last.offset)
}

fn aws_tags(out: &mut Vec<u8>, tags: &[(&str, &str)]) {
    let named: Vec<(String, &str)> = tags
        .iter()
        .map(|(name, value)| (format!("{PREFIX}{name}"), *value))
        .collect();
    let tags = named.iter().map(|(name, value)| (name.as_str(), *value));
    // The service writes its tags' sizes in 4 bytes.
    ebml::put_tags(out, tags, SizeWidth::AtLeast(4));
}

pub(crate) fn ebml_header() -> Vec<u8> {
    let mut body = Vec::new();
    let width = SizeWidth::Minimal;
    for (id, value) in [(0x4286, 1), (0x42F7, 1), (0x42F2, 4), (0x42F3, 8)] {
        ebml::put_uint(&mut body, id, value, width);
    }
    ebml::put(&mut body, 0x4282, b"matroska", width);
    ebml::put_uint(&mut body, 0x4287, 2, width);
    ebml::put_uint(&mut body, 0x4285, 2, width);
    let mut out = Vec::new();
    ebml::put(&mut out, id::EBML, &body, SizeWidth::AtLeast(8));
    out
}
