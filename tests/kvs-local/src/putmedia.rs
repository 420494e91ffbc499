//! PutMedia: a producer's Matroska in, acknowledgements out, on one connection at once.

use std::io;
use std::sync::Arc;

use serde_json::json;

use crate::body::After;
use crate::error::ApiError;
use crate::http::{Connection, Head, Response};
use crate::ingest::{Event, Ingest};
use crate::log::{Finisher, Operation};
use crate::number::Number;
use crate::service::{Call, Shared, refuse};
use crate::store::{Session, Step, Stream, Timecodes};
use crate::validate::name_in_arn;

const MAX_FRAGMENT_BYTES: usize = 50_000_000;
const MAX_FRAGMENT_MS: u64 = 20_000;
const MAX_TRACKS: usize = 3;

/// The ids of ERROR acknowledgements, and what they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AckError {
    MaxFragmentSizeReached = 4001,
    MaxFragmentDurationReached = 4002,
    FragmentTimecodeLesserThanPrevious = 4004,
    MoreThanAllowedTracksFound = 4005,
    InvalidMkvData = 4006,
    FragmentMetadataLimitReached = 4009,
    TrackNumberMismatch = 4010,
}

impl AckError {
    /// Its number, and what it is called.
    fn id(self) -> (u32, &'static str) {
        let code = match self {
            AckError::MaxFragmentSizeReached => "MAX_FRAGMENT_SIZE_REACHED",
            AckError::MaxFragmentDurationReached => "MAX_FRAGMENT_DURATION_REACHED",
            AckError::FragmentTimecodeLesserThanPrevious => {
                "FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS"
            }
            AckError::MoreThanAllowedTracksFound => "MORE_THAN_ALLOWED_TRACKS_FOUND",
            AckError::InvalidMkvData => "INVALID_MKV_DATA",
            AckError::FragmentMetadataLimitReached => "FRAGMENT_METADATA_LIMIT_REACHED",
            AckError::TrackNumberMismatch => "TRACK_NUMBER_MISMATCH",
        };
        (self as u32, code)
    }
}

/// The stream's name in the headers of a PutMedia.
pub(crate) fn stream_in_headers(head: &Head) -> Option<String> {
    head.header("x-amzn-stream-name")
        .or_else(|| head.header("x-amzn-stream-arn").and_then(name_in_arn))
        .map(str::to_owned)
}

struct Setup {
    stream: Arc<Stream>,
    timecodes: Timecodes,
    start_ms: u64,
    acks: bool,
}

fn setup(shared: &Shared, call: &Call) -> Result<Setup, ApiError> {
    let head = &call.head;
    let timecodes = match head.header("x-amzn-fragment-timecode-type") {
        Some("ABSOLUTE") => Timecodes::Absolute,
        Some("RELATIVE") => Timecodes::Relative,
        Some(other) => {
            return Err(ApiError::invalid_argument(format!(
                "x-amzn-fragment-timecode-type is '{other}', not ABSOLUTE or RELATIVE."
            )));
        }
        None => {
            return Err(ApiError::invalid_argument(
                "The header x-amzn-fragment-timecode-type is missing.",
            ));
        }
    };
    let start_ms = match head.header("x-amzn-producer-start-timestamp") {
        None => call.clock.now_ms(),
        Some(text) => {
            parse_start(text, head.header("user-agent").unwrap_or_default()).ok_or_else(|| {
                ApiError::invalid_argument(format!(
                    "x-amzn-producer-start-timestamp '{text}' is no time in seconds."
                ))
            })?
        }
    };
    let name = head.header("x-amzn-stream-name");
    let arn = head.header("x-amzn-stream-arn");
    if name.is_some() && arn.is_some() {
        return Err(ApiError::invalid_argument(
            "Only one of x-amzn-stream-name and x-amzn-stream-arn may be given.",
        ));
    }
    let stream = shared.find_stream(name, arn)?;
    shared.count_call(&stream.name, Operation::PutMedia)?;
    Ok(Setup {
        stream,
        timecodes,
        start_ms,
        acks: head.header("x-amzn-fragment-acknowledgment-required") != Some("0"),
    })
}

/// Seconds, a dot and a fraction, in milliseconds. kvssink writes the milliseconds without their
/// leading zeros: its `.40` is 40 ms, anyone else's is 400.
fn parse_start(text: &str, user_agent: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if user_agent.contains("AWS-SDK-KVS") && (1..=3).contains(&fraction.len()) {
        let ms: u64 = fraction.parse().ok()?;
        return seconds
            .parse::<u64>()
            .ok()?
            .checked_mul(1000)?
            .checked_add(ms);
    }
    crate::clock::parse_seconds(text)
}

/// Answers a PutMedia whose signature is good.
pub(crate) async fn handle(
    connection: &mut Connection,
    shared: &Arc<Shared>,
    call: Call,
    _finisher: Finisher,
) -> io::Result<After> {
    let setup = match setup(shared, &call) {
        Ok(setup) => setup,
        Err(error) => return refuse(connection, &call, &error).await,
    };
    if call.head.expects_continue() {
        connection.send_continue().await?;
    }
    let response = call.response(Response::new(200).with("Content-Type", "application/json"));
    call.entry.update(|request| request.status = Some(200));
    connection
        .start_chunked(&response, call.entry.sent.clone())
        .await?;
    let mut upload = Upload {
        session: Session::new(setup.start_ms, Some(setup.timecodes)),
        stream: &setup.stream,
        shared,
        call: &call,
        last_timecode: None,
        tracks: Vec::new(),
        skipping: false,
        acks: Vec::new(),
        completed: 0,
        failed: false,
    };
    let mut ingest = Ingest::new();
    let result = upload.run(connection, &mut ingest, setup.acks).await;
    upload
        .session
        .abandon(&setup.stream, shared.config.keep_partial);
    result?;
    connection.end_chunked().await?;
    Ok(match connection.body_is_read() {
        true => After::KeepAlive,
        false => After::Fin,
    })
}

struct Upload<'a> {
    session: Session,
    stream: &'a Stream,
    shared: &'a Shared,
    call: &'a Call,
    last_timecode: Option<u64>,
    tracks: Vec<u64>,
    /// The fragment under upload was refused; its Cluster is passed over.
    skipping: bool,
    acks: Vec<String>,
    /// Fragments that are complete.
    completed: usize,
    failed: bool,
}

impl Upload<'_> {
    /// # Errors
    /// When the connection is lost; what is under upload is then incomplete.
    async fn run(
        &mut self,
        connection: &mut Connection,
        ingest: &mut Ingest,
        wants_acks: bool,
    ) -> io::Result<()> {
        loop {
            let piece = connection.read_body().await?;
            match &piece {
                Some(piece) => {
                    let parsed = ingest.push(piece, |ingest, event| self.event(ingest, event));
                    if parsed.is_err() && !self.failed {
                        self.fail(AckError::InvalidMkvData, self.session.timecode_ms());
                    }
                }
                None => {
                    // A clean end without END_OF_FRAGMENT: the last fragment is whole if its last
                    // element is.
                    ingest.finish(|ingest, event| self.event(ingest, event));
                }
            }
            for ack in self.acks.drain(..) {
                if wants_acks {
                    connection.chunk(ack.as_bytes()).await?;
                }
            }
            if piece.is_none() || self.failed {
                return Ok(());
            }
        }
    }

    fn event(&mut self, ingest: &Ingest, event: Event) {
        if self.failed {
            return;
        }
        match &event {
            Event::Tracks(numbers) => {
                if numbers.len() > MAX_TRACKS {
                    self.fail(AckError::MoreThanAllowedTracksFound, None);
                }
                self.tracks.clone_from(numbers);
                return;
            }
            Event::MetadataLimit => {
                self.fail(
                    AckError::FragmentMetadataLimitReached,
                    self.session.timecode_ms(),
                );
                return;
            }
            Event::ClusterStart { timecode_ms, .. } => {
                self.skipping = self.last_timecode.is_some_and(|last| *timecode_ms <= last);
                if self.skipping {
                    // The one error after which the connection goes on: the producer skips it.
                    let error = AckError::FragmentTimecodeLesserThanPrevious;
                    self.acks
                        .push(ack("ERROR", Some(*timecode_ms), None, Some(error.id())));
                    return;
                }
                self.last_timecode = Some(*timecode_ms);
            }
            Event::ClusterChild { block, .. } => {
                if let Some((track, _)) = block
                    && !self.skipping
                    && !self.tracks.is_empty()
                    && !self.tracks.contains(track)
                {
                    self.fail(AckError::TrackNumberMismatch, self.session.timecode_ms());
                    return;
                }
            }
            Event::FragmentEnd { .. } => {}
        }
        if self.skipping {
            return;
        }
        let timecode = self.session.timecode_ms();
        let clock = self.call.clock;
        match self.session.event(self.stream, ingest, event, clock) {
            None => {}
            Some(Step::Began(fragment)) => {
                let timecode = self.session.timecode_ms();
                self.acks
                    .push(ack("BUFFERING", timecode, Some(&fragment.number), None));
                if let Some((after, id, code)) = &self.call.actions.ack_error
                    && *after == self.completed
                {
                    self.refuse((*id, code), timecode);
                }
            }
            Some(Step::Grew { bytes, lasts_ms }) => {
                let limits = self.shared.config.enforce_limits;
                if limits && bytes > MAX_FRAGMENT_BYTES {
                    self.fail(AckError::MaxFragmentSizeReached, timecode);
                } else if limits && lasts_ms > MAX_FRAGMENT_MS {
                    self.fail(AckError::MaxFragmentDurationReached, timecode);
                }
            }
            Some(Step::Completed(fragment)) => {
                self.completed += 1;
                for kind in ["RECEIVED", "PERSISTED"] {
                    self.acks
                        .push(ack(kind, timecode, Some(&fragment.number), None));
                }
            }
        }
    }

    fn fail(&mut self, error: AckError, timecode: Option<u64>) {
        self.refuse(error.id(), timecode);
    }

    /// Ends the upload with an error.
    fn refuse(&mut self, error: (u32, &str), timecode: Option<u64>) {
        let number = self.session.open().map(|fragment| fragment.number.clone());
        self.acks
            .push(ack("ERROR", timecode, number.as_ref(), Some(error)));
        self.failed = true;
    }
}

/// An acknowledgement, members in the order the service writes them.
fn ack(
    kind: &str,
    timecode: Option<u64>,
    number: Option<&Number>,
    error: Option<(u32, &str)>,
) -> String {
    let mut members = vec![format!("\"EventType\":{}", json!(kind))];
    if let Some(timecode) = timecode {
        members.push(format!("\"FragmentTimecode\":{timecode}"));
    }
    if let Some(number) = number {
        members.push(format!("\"FragmentNumber\":\"{number}\""));
    }
    if let Some((id, code)) = error {
        members.push(format!("\"ErrorId\":{id}"));
        members.push(format!("\"ErrorCode\":{}", json!(code)));
    }
    format!("{{{}}}", members.join(","))
}

/// A producer in this process: Matroska written here goes into a stream as a PutMedia's would.
pub struct Producer {
    stream: Arc<Stream>,
    shared: Arc<Shared>,
    ingest: Ingest,
    session: Session,
}

/// What a producer wrote is no Matroska that fragments could be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a producer's Matroska: {0}")]
pub struct NotMatroska(pub(crate) String);

impl Producer {
    pub(crate) fn new(
        stream: Arc<Stream>,
        shared: Arc<Shared>,
        start_ms: u64,
        timecodes: Option<Timecodes>,
    ) -> Producer {
        Producer {
            stream,
            shared,
            ingest: Ingest::new(),
            session: Session::new(start_ms, timecodes),
        }
    }

    /// Takes any number of further bytes. A fragment is complete when the next Cluster begins.
    ///
    /// # Errors
    /// Bytes that are no Matroska, with their offset.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), NotMatroska> {
        let (session, stream, clock) = (&mut self.session, &self.stream, self.shared.config.clock);
        self.ingest
            .push(bytes, |ingest, event| {
                session.event(stream, ingest, event, clock);
            })
            .map_err(|error| NotMatroska(error.to_string()))
    }

    /// The end of the input: completes the last fragment, if its last element is whole.
    pub fn finish(mut self) {
        let (session, stream, clock) = (&mut self.session, &self.stream, self.shared.config.clock);
        self.ingest.finish(|ingest, event| {
            session.event(stream, ingest, event, clock);
        });
    }

    /// The connection is lost: what is under upload is dropped, or kept as far as it came where
    /// the server keeps partial fragments.
    pub fn abort(self) {}
}

impl Drop for Producer {
    fn drop(&mut self) {
        let keep = self.shared.config.keep_partial;
        self.session.abandon(&self.stream, keep);
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("stream", &self.stream.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_timestamps() {
        let kvssink = "AWS-SDK-KVS-CPP-CLIENT/3.6.0/1.6.4";
        assert_eq!(
            parse_start("1795340110.40", kvssink),
            Some(1_795_340_110_040)
        );
        assert_eq!(
            parse_start("1795340110.40", "curl"),
            Some(1_795_340_110_400)
        );
        assert_eq!(parse_start("1795340110", "curl"), Some(1_795_340_110_000));
        assert_eq!(parse_start("now", "curl"), None);
    }

    #[test]
    fn acks_are_written_as_recorded() {
        let number = Number::parse("91343852333181430000000000000000000000000000001").unwrap();
        assert_eq!(
            ack("BUFFERING", Some(1_795_339_780_394), Some(&number), None),
            r#"{"EventType":"BUFFERING","FragmentTimecode":1795339780394,"FragmentNumber":"91343852333181430000000000000000000000000000001"}"#
        );
    }
}
