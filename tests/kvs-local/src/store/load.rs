//! Fragments that tests and the command line put into a stream.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::{Content, Fragment, Progress, Stream, Upload};
use crate::clock::{self, Clock};
use crate::document::Parts;
use crate::ingest::{Event, Ingest, Malformed};
use crate::mkv;
use crate::number::Number;

/// Timecodes from here on (2000-01-01, in milliseconds) count from the epoch.
const PLAUSIBLE_MS: u64 = 946_684_800_000;

/// What a producer's Cluster timecodes count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timecodes {
    /// The Unix epoch.
    Absolute,
    /// The producer's start timestamp.
    Relative,
}

impl Timecodes {
    /// What they count from where nothing but the first of them (in milliseconds) tells.
    fn guess(first_ms: u64) -> Timecodes {
        match first_ms >= PLAUSIBLE_MS {
            true => Timecodes::Absolute,
            false => Timecodes::Relative,
        }
    }
}

/// A fragment to put into a stream.
#[derive(Debug, Clone, Default)]
pub struct NewFragment {
    /// Either a whole document as GetMedia sends it (it has a FRAGMENT_NUMBER tag): it is served
    /// exactly as it is, and what the fields below don't say is read from its tags. Or a
    /// producer's document of one Cluster, which the server puts its tags around.
    pub document: Bytes,
    /// Milliseconds since the Unix epoch. Of a whole document with a PRODUCER_TIMESTAMP tag, that
    /// counts if this is 0.
    pub producer_timestamp_ms: u64,
    /// Milliseconds since the Unix epoch; `None`: the document's tag, or now.
    pub server_timestamp_ms: Option<u64>,
    /// Decimal digits; `None`: the document's tag, or the next number of the stream.
    pub number: Option<String>,
    /// Continuation token; `None`: the document's tag, or the same as the number.
    pub token: Option<String>,
}

impl NewFragment {
    /// A fragment of `document`, everything else as the document or the server has it.
    pub fn new(document: impl Into<Bytes>) -> NewFragment {
        NewFragment {
            document: document.into(),
            ..NewFragment::default()
        }
    }
}

pub(crate) fn parse_document(document: Bytes) -> Option<mkv::Document> {
    mkv::read(&document).documents.into_iter().next()
}

impl Stream {
    /// Puts in every document of a GetMedia recording, verbatim. How many there were.
    pub(crate) fn load_recording(&self, bytes: &[u8], clock: Clock) -> usize {
        let bytes = Bytes::copy_from_slice(bytes);
        let documents = mkv::read(&bytes).documents;
        for document in &documents {
            let whole = bytes.slice(document.offset..document.offset + document.len);
            self.push_verbatim(document, NewFragment::new(whole), clock);
        }
        documents.len()
    }

    /// Puts in one fragment; its number.
    pub(crate) fn push_fragment(&self, new: NewFragment, clock: Clock) -> Number {
        match parse_document(new.document.clone()) {
            Some(document) if document.aws_tag("FRAGMENT_NUMBER").is_some() => {
                self.push_verbatim(&document, new, clock)
            }
            document => self.push_wrapped(document, new, clock),
        }
    }

    fn push_verbatim(&self, document: &mkv::Document, new: NewFragment, clock: Clock) -> Number {
        let time = |name| document.aws_tag(name).and_then(clock::parse_seconds);
        let number = new
            .number
            .as_deref()
            .or(document.aws_tag("FRAGMENT_NUMBER"))
            .and_then(Number::parse);
        let token = new
            .token
            .or_else(|| document.aws_tag("CONTINUATION_TOKEN").map(str::to_owned));
        let producer_ms = match new.producer_timestamp_ms {
            0 => time("PRODUCER_TIMESTAMP").unwrap_or(0),
            ms => ms,
        };
        let server_ms = new
            .server_timestamp_ms
            .or_else(|| time("SERVER_TIMESTAMP"))
            .unwrap_or_else(|| clock.now_ms());
        let content = Content::Verbatim {
            document: new.document,
            duration_ms: document.duration_ms(),
        };
        self.add(number, token, producer_ms, server_ms, content)
    }

    fn push_wrapped(
        &self,
        document: Option<mkv::Document>,
        new: NewFragment,
        clock: Clock,
    ) -> Number {
        let mut parts = Parts::default();
        let mut ingest = Ingest::new();
        let mut cluster = BytesMut::new();
        let mut on_event = |ingest: &Ingest, event| match event {
            Event::ClusterStart { head, tags, .. } => {
                parts.ebml = ingest.ebml();
                parts.setup = ingest.setup();
                parts.tags = tags;
                cluster.extend_from_slice(&head);
            }
            Event::ClusterChild { bytes, .. } => cluster.extend_from_slice(&bytes),
            Event::FragmentEnd { tags, trailer } => {
                let mut all = BytesMut::from(&parts.tags[..]);
                all.extend_from_slice(&tags);
                parts.tags = all.freeze();
                parts.trailer = trailer;
            }
            _ => {}
        };
        let parsed = ingest.push(&new.document, &mut on_event);
        ingest.finish(&mut on_event);
        parts.cluster = cluster.freeze();
        if parsed.is_err() || parts.cluster.is_empty() {
            // Not a producer's document: the bits alone, as they are.
            parts.cluster = new.document;
        }
        let upload = Upload {
            parts,
            cluster: BytesMut::new(),
            progress: Progress::Complete,
            duration_ms: document.map_or(0, |document| document.duration_ms()),
        };
        let number = new.number.as_deref().and_then(Number::parse);
        let server_ms = new.server_timestamp_ms.unwrap_or_else(|| clock.now_ms());
        let content = Content::Wrapped(Mutex::new(upload));
        self.add(
            number,
            new.token,
            new.producer_timestamp_ms,
            server_ms,
            content,
        )
    }

    fn add(
        &self,
        number: Option<Number>,
        token: Option<String>,
        producer_ms: u64,
        server_ms: u64,
        content: Content,
    ) -> Number {
        self.update(|state| {
            let number = number.unwrap_or_else(|| state.take_number());
            state.insert(Arc::new(Fragment {
                token: token.unwrap_or_else(|| number.to_string()),
                number: number.clone(),
                producer_ms,
                server_ms,
                stored: Instant::now(),
                content,
            }));
            number
        })
    }

    /// Puts in every Cluster of a producer's file; how many there were. Server times are those of
    /// an upload in one burst that ends now: 20 ms apart.
    pub(crate) fn load_matroska(
        &self,
        bytes: &[u8],
        producer_start_ms: u64,
        timecodes: Option<Timecodes>,
        clock: Clock,
    ) -> Result<usize, Malformed> {
        let whole = mkv::read(&Bytes::copy_from_slice(bytes));
        let clusters = whole.documents.iter().map(|d| d.cluster_timecodes.len());
        let mut to_come = clusters.sum::<usize>() as i64;
        let mut session = Session::new(producer_start_ms, timecodes);
        let mut count = 0;
        let mut handle = |ingest: &Ingest, event| {
            if matches!(event, Event::ClusterStart { .. }) {
                to_come -= 1;
            }
            let then = clock.skewed_by(-20 * to_come);
            if let Some(Step::Completed(_)) = session.event(self, ingest, event, then) {
                count += 1;
            }
        };
        let mut ingest = Ingest::new();
        let parsed = ingest.push(bytes, &mut handle);
        if parsed.is_ok() {
            ingest.finish(&mut handle);
        }
        session.abandon(self, false);
        parsed.map(|()| count)
    }
}

/// A producer's session: turns what [`Ingest`] finds into fragments of a stream.
pub(crate) struct Session {
    start_ms: u64,
    /// `None` until a first Cluster has told.
    timecodes: Option<Timecodes>,
    open: Option<Open>,
    first: bool,
}

struct Open {
    fragment: Arc<Fragment>,
    /// What the Cluster's first byte says, in milliseconds, for acks.
    timecode_ms: u64,
    started_ms: u64,
    ended_ms: u64,
    last: Vec<(u64, u64, u64)>,
}

/// What an event did to a stream.
pub(crate) enum Step {
    /// A fragment began: it has a number, and this timecode.
    Began(Arc<Fragment>),
    /// Bytes came; the fragment holds so many and lasts so long (ms).
    Grew { bytes: usize, lasts_ms: u64 },
    /// A fragment is complete.
    Completed(Arc<Fragment>),
}

impl Session {
    pub(crate) fn new(start_ms: u64, timecodes: Option<Timecodes>) -> Session {
        Session {
            start_ms,
            timecodes,
            open: None,
            first: true,
        }
    }

    /// The timecode of the fragment under upload, as the producer wrote it (ms).
    pub(crate) fn timecode_ms(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.timecode_ms)
    }

    pub(crate) fn open(&self) -> Option<&Arc<Fragment>> {
        self.open.as_ref().map(|open| &open.fragment)
    }

    pub(crate) fn event(
        &mut self,
        stream: &Stream,
        ingest: &Ingest,
        event: Event,
        clock: Clock,
    ) -> Option<Step> {
        match event {
            Event::Tracks(_) | Event::MetadataLimit => None,
            Event::ClusterStart {
                timecode_ms,
                head,
                tags,
            } => {
                let guess = || Timecodes::guess(timecode_ms);
                let producer_ms = match self.timecodes.get_or_insert_with(guess) {
                    Timecodes::Absolute => timecode_ms,
                    Timecodes::Relative => self.start_ms.saturating_add(timecode_ms),
                };
                let upload = Upload {
                    parts: Parts {
                        ebml: ingest.ebml(),
                        setup: ingest.setup(),
                        tags,
                        first: std::mem::take(&mut self.first),
                        ..Parts::default()
                    },
                    cluster: BytesMut::from(&head[..]),
                    progress: Progress::Open,
                    duration_ms: 0,
                };
                let fragment = stream.update(|state| {
                    let number = state.take_number();
                    let fragment = Arc::new(Fragment {
                        token: number.to_string(),
                        number,
                        producer_ms,
                        server_ms: clock.now_ms(),
                        stored: Instant::now(),
                        content: Content::Wrapped(Mutex::new(upload)),
                    });
                    state.insert(fragment.clone());
                    fragment
                });
                self.open = Some(Open {
                    fragment: fragment.clone(),
                    timecode_ms,
                    started_ms: timecode_ms,
                    ended_ms: timecode_ms,
                    last: Vec::new(),
                });
                Some(Step::Began(fragment))
            }
            Event::ClusterChild { bytes, block } => {
                let open = self.open.as_mut()?;
                if let Some((track, time)) = block {
                    open.block(track, time);
                }
                let Content::Wrapped(upload) = &open.fragment.content else {
                    return None;
                };
                let mut upload = upload.lock().unwrap();
                upload.cluster.extend_from_slice(&bytes);
                let total = upload.cluster.len();
                drop(upload);
                stream.notify();
                Some(Step::Grew {
                    bytes: total,
                    lasts_ms: open.ended_ms - open.started_ms,
                })
            }
            Event::FragmentEnd { tags, trailer } => {
                let open = self.open.take()?;
                if let Content::Wrapped(upload) = &open.fragment.content {
                    let mut upload = upload.lock().unwrap();
                    let mut all = BytesMut::from(&upload.parts.tags[..]);
                    all.extend_from_slice(&tags);
                    upload.parts.tags = all.freeze();
                    upload.parts.trailer = trailer;
                    upload.parts.cluster = std::mem::take(&mut upload.cluster).freeze();
                    upload.progress = Progress::Complete;
                    upload.duration_ms = open.lasts_ms();
                }
                stream.notify();
                Some(Step::Completed(open.fragment))
            }
        }
    }

    /// The producer is gone: what is under upload is dropped, or kept as far as it came.
    pub(crate) fn abandon(&mut self, stream: &Stream, keep: bool) {
        let Some(open) = self.open.take() else {
            return;
        };
        if let Content::Wrapped(upload) = &open.fragment.content {
            let mut upload = upload.lock().unwrap();
            upload.progress = Progress::Broken;
            upload.duration_ms = open.lasts_ms();
        }
        stream.update(|state| {
            if !keep {
                state.discard(&open.fragment.number);
            }
        });
    }
}

impl Open {
    fn block(&mut self, track: u64, time: u64) {
        self.ended_ms = self.ended_ms.max(time);
        match self.last.iter_mut().find(|(number, ..)| *number == track) {
            Some((_, last, step)) => {
                *step = time.abs_diff(*last);
                *last = (*last).max(time);
            }
            None => self.last.push((track, time, 0)),
        }
    }

    /// From the Cluster's timecode to the end of the last frame, taken to be as long as the one
    /// before it.
    fn lasts_ms(&self) -> u64 {
        let ends = self.last.iter();
        let ends = ends.map(|(_, last, step)| last.saturating_add(*step));
        let ends = ends.max().unwrap_or(self.ended_ms);
        // Every block may stand before the Cluster's timecode.
        ends.saturating_sub(self.started_ms)
    }
}
