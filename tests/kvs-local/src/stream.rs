//! A stream as tests hold it: filled, watched, aged.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::number::Number;
use crate::putmedia::{NotMatroska, Producer};
use crate::service::Shared;
use crate::store::{FragmentInfo, Idle, NewFragment, Progress, Stream, Timecodes};

/// A stream of a [`Server`](crate::Server). Clones are the same stream.
#[derive(Clone)]
pub struct StreamHandle {
    shared: Arc<Shared>,
    stream: Arc<Stream>,
}

impl StreamHandle {
    pub(crate) fn new(shared: Arc<Shared>, stream: Arc<Stream>) -> StreamHandle {
        StreamHandle { shared, stream }
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.stream.name
    }

    /// The stream's ARN.
    pub fn arn(&self) -> &str {
        &self.stream.arn
    }

    /// Puts in a recording of a GetMedia body: each of its documents is a fragment, served exactly
    /// as recorded. Numbers, times and tokens are read from its tags; a document without a token
    /// is found by its number. Returns how many fragments there were.
    pub fn load_recording(&self, bytes: &[u8]) -> usize {
        self.stream.load_recording(bytes, self.shared.config.clock)
    }

    /// Puts in a producer's file, or the body of a PutMedia: each Cluster is a fragment, the server
    /// puts its tags around it. `producer_start_ms` (milliseconds since the epoch) counts for
    /// relative timecodes alone. Where `timecodes` is `None`, the first Cluster tells: they are
    /// absolute if that makes it a time after 1999. Returns how many fragments there were.
    ///
    /// # Panics
    /// If it isn't Matroska; [`try_load_matroska`](StreamHandle::try_load_matroska) says so.
    pub fn load_matroska(
        &self,
        bytes: &[u8],
        producer_start_ms: u64,
        timecodes: impl Into<Option<Timecodes>>,
    ) -> usize {
        match self.try_load_matroska(bytes, producer_start_ms, timecodes) {
            Ok(fragments) => fragments,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`load_matroska`](StreamHandle::load_matroska).
    ///
    /// # Errors
    /// What is wrong with it, and at which byte. The fragments before that are in the stream.
    pub fn try_load_matroska(
        &self,
        bytes: &[u8],
        producer_start_ms: u64,
        timecodes: impl Into<Option<Timecodes>>,
    ) -> Result<usize, NotMatroska> {
        let clock = self.shared.config.clock;
        self.stream
            .load_matroska(bytes, producer_start_ms, timecodes.into(), clock)
            .map_err(|error| NotMatroska(error.to_string()))
    }

    /// A producer that writes to this stream. `start_ms` and `timecodes` as in
    /// [`load_matroska`](StreamHandle::load_matroska).
    pub fn producer(&self, start_ms: u64, timecodes: impl Into<Option<Timecodes>>) -> Producer {
        Producer::new(
            self.stream.clone(),
            self.shared.clone(),
            start_ms,
            timecodes.into(),
        )
    }

    /// Puts in one fragment, at the place its number has; returns the number.
    pub fn push_fragment(&self, fragment: NewFragment) -> String {
        let clock = self.shared.config.clock;
        self.stream.push_fragment(fragment, clock).to_string()
    }

    /// No further fragment will come: a GetMedia that has sent all ends cleanly.
    pub fn finish_recording(&self) {
        self.stream.update(|state| state.finished = true);
    }

    /// While paused no fragment is sent, though fragments may be put in.
    pub fn pause(&self, paused: bool) {
        self.stream.update(|state| state.paused = paused);
    }

    /// What a GetMedia does that has sent all there is.
    pub fn end_of_stream_behaviour(&self, idle: Idle) {
        self.stream.update(|state| state.idle = idle);
    }

    /// How long fragments of this stream are kept; `None`: for ever.
    pub fn set_retention(&self, retention: Option<Duration>) {
        self.stream.update(|state| state.retention = retention);
    }

    /// Drops every fragment before this one, as retention does.
    ///
    /// # Panics
    /// If it isn't decimal digits.
    pub fn expire_before(&self, number: &str) {
        let number = Number::parse(number).expect("a fragment number");
        self.stream.update(|state| state.expire_before(&number));
    }

    /// The fragments kept, in order; those under upload too.
    pub fn fragments(&self) -> Vec<FragmentInfo> {
        let mut state = self.stream.state.lock().unwrap();
        state.expire(Instant::now());
        let now = self.shared.config.clock.now_ms();
        let style = self.shared.config.style;
        state
            .all()
            .map(|fragment| {
                let behind = now.saturating_sub(fragment.server_ms);
                FragmentInfo {
                    number: fragment.number.to_string(),
                    token: fragment.token.clone(),
                    producer_timestamp_ms: fragment.producer_ms,
                    server_timestamp_ms: fragment.server_ms,
                    duration_ms: fragment.duration_ms(),
                    bytes: fragment.document(style, behind).len(),
                    complete: fragment.progress() == Progress::Complete,
                }
            })
            .collect()
    }

    /// What GetMedia sends for a fragment when it is so many milliseconds behind now (which
    /// verbatim fragments don't show).
    ///
    /// # Panics
    /// If the stream has no such fragment.
    pub fn served_document(&self, number: &str, millis_behind: u64) -> Bytes {
        let fragment = {
            let state = self.stream.state.lock().unwrap();
            state.get(number).cloned()
        };
        fragment
            .unwrap_or_else(|| panic!("no fragment {number} in {}", self.name()))
            .document(self.shared.config.style, millis_behind)
    }
}

impl fmt::Debug for StreamHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamHandle")
            .field("arn", &self.stream.arn)
            .finish_non_exhaustive()
    }
}
