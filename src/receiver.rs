//! Everything between the bytes of a body and the items for the streaming thread, sans-IO.
//!
//! [`Receiver`] puts the parts in a row: the [`Assembler`] finds fragments, [`Position`] decides what
//! of them is new, the [`timeline`] makes one stream of them. It lives as long as
//! the stream does, over any number of connections, so that a body cut at any byte and another that
//! repeats the fragment give the items of one that was never cut.

use crate::{
    ebml,
    error::{Error, ErrorKind, Operation},
    fragment::{self, Assembler, Event, Head},
    item::{Gap, GapKind, Item, Opened, Track},
    request::{Selector, TimestampSource},
    resume::{Decision, Point, Position},
    timeline::{self, Clock, Continuous, Failure, Raw},
};
use bytes::Bytes;

/// What the receiver is to make of the stream.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to begin.
    pub start: Selector,
    /// Pass the service's bytes as they are.
    pub raw: bool,
    /// How fragments are placed in time.
    pub timeline: timeline::Config,
    /// End before the first fragment that starts at or after this, by the clock of `timeline`, in
    /// nanoseconds since the Unix epoch.
    pub end_at: Option<u64>,
    /// End before the first fragment that the service received at or after this, likewise.
    pub end_at_received: Option<u64>,
    /// Further behind now than this, in milliseconds: ask for now.
    pub max_lag: Option<u64>,
    /// Whether the oldest fragment will do, should the service not have what `start` asks for.
    pub or_oldest: bool,
    /// What a demuxer downstream has been told, if the stream goes on after a seek.
    pub opened: Option<Opened>,
    /// What was delivered before this process began; beats `start`.
    pub resume: Option<Point>,
}

impl Config {
    /// All that follows `start`, made one stream of, in an archive's time.
    pub fn new(start: Selector) -> Self {
        Config {
            start,
            raw: false,
            timeline: timeline::Config::default(),
            end_at: None,
            end_at_received: None,
            max_lag: None,
            or_oldest: false,
            opened: None,
            resume: None,
        }
    }
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// With the next bytes.
    Continue,
    /// The end that was asked for has come.
    End,
    /// With another connection, which begins at now.
    SkipToNow,
}

#[derive(Debug)]
enum Stream {
    Continuous(Box<Continuous>),
    Raw(Raw),
}

/// What is done with the fragment under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handling {
    /// It is not known yet which it is.
    Undecided,
    /// Units that were delivered before are skipped, so many still; the rest passes.
    Deliver { skip: u64 },
    /// All of it has been delivered.
    Drop,
}

/// Turns bodies into items.
#[derive(Debug)]
pub struct Receiver {
    source: TimestampSource,
    end_at: Option<u64>,
    end_at_received: Option<u64>,
    max_lag: Option<u64>,
    /// Too far behind now, and skipping has not helped yet.
    lags: bool,
    position: Position,
    stream: Stream,
    body: Assembler,
    handling: Handling,
    progressed: bool,
    has_delivered: bool,
    /// The body is the answer to having asked for the fragment that was cut once more.
    asks_again: bool,
}

impl Receiver {
    /// A stream that has not begun.
    pub fn new(config: Config) -> Self {
        let mut position = Position::new(config.start, config.or_oldest);
        let mut stream = match config.raw {
            true => Stream::Raw(Raw::default()),
            false => Stream::Continuous(Box::new(Continuous::new(config.timeline, config.opened))),
        };
        if let Some(point) = config.resume {
            match &mut stream {
                Stream::Raw(raw) => raw.resume_after(&point.number),
                Stream::Continuous(stream) => stream.resume_after(&point.number),
            }
            position.resume(point);
        }
        Receiver {
            source: config.timeline.source,
            end_at: config.end_at,
            end_at_received: config.end_at_received,
            max_lag: config.max_lag,
            lags: false,
            position,
            stream,
            body: Assembler::default(),
            handling: Handling::Undecided,
            progressed: false,
            has_delivered: false,
            asks_again: false,
        }
    }

    /// How far the stream has been delivered, and what to ask for next.
    pub fn position(&mut self) -> &mut Position {
        &mut self.position
    }

    /// Whether the body has brought anything new.
    pub fn has_progressed(&self) -> bool {
        self.progressed
    }

    /// Whether any frame has been delivered, of this body or one before.
    pub fn has_delivered(&self) -> bool {
        self.has_delivered
    }

    /// Says what time it is when the next bytes arrive, in nanoseconds since any moment.
    pub fn arrives(&mut self, now: u64) {
        if let Stream::Continuous(stream) = &mut self.stream {
            stream.arrives(now);
        }
    }

    /// A new body begins.
    pub fn open(&mut self) {
        self.body = Assembler::default();
        self.handling = Handling::Undecided;
        self.progressed = false;
        self.asks_again = self.position.is_within_fragment();
        self.position.open();
        if let Stream::Raw(raw) = &mut self.stream {
            raw.open();
        }
    }

    /// Takes the next bytes of the body and appends what they complete to `items`.
    ///
    /// # Errors
    /// The body is not Matroska, its tracks cannot be followed, or the service reports an error in it.
    /// What came before the fault has been appended to `items`.
    pub fn push(&mut self, chunk: Bytes, items: &mut Vec<Item>) -> Result<Flow, Error> {
        self.body.push(chunk);
        let result = self.read(items);
        let settled = self.body.settled();
        match &mut self.stream {
            Stream::Continuous(stream) => stream.flush(self.body.rope(), items),
            Stream::Raw(raw) => {
                if self.handling == Handling::Drop {
                    raw.skip(settled);
                }
                raw.take(self.body.rope(), self.body.position());
                raw.flush(self.body.rope(), settled, items);
            }
        }
        // The network may read into the memory again as soon as downstream has done with it.
        self.body.release();
        result
    }

    fn read(&mut self, items: &mut Vec<Item>) -> Result<Flow, Error> {
        while let Some(event) = self.body.next().map_err(malformed)? {
            match event {
                Event::Begin(head) => {
                    if self.begin(*head, items)? == Flow::End {
                        return Ok(Flow::End);
                    }
                }
                Event::Cluster(timecode) => {
                    if self.is_new_unit()
                        && let Stream::Continuous(stream) = &mut self.stream
                    {
                        stream.cluster(timecode);
                    }
                }
                Event::Block(block) => {
                    if !self.is_new_unit() {
                        continue;
                    }
                    self.has_delivered = true;
                    match &mut self.stream {
                        Stream::Continuous(stream) => {
                            stream
                                .block(&block, self.body.rope(), items)
                                .map_err(failed)?;
                        }
                        Stream::Raw(raw) => raw.block(),
                    }
                }
                Event::End(end) => {
                    let behind = end.millis_behind_now;
                    self.end(end, items)?;
                    if self.falls_behind(behind) {
                        self.position.skip_to_now();
                        return Ok(Flow::SkipToNow);
                    }
                }
                Event::Fault(error) => return Err(*error),
            }
        }
        if let Some(head) = self.body.announced() {
            self.position.announced(head);
        }
        Ok(Flow::Continue)
    }

    /// Whether the stream has come to lag too far behind now. Says so once: where now is no nearer, as
    /// with a producer at rest, asking again does not help.
    fn falls_behind(&mut self, millis: Option<u64>) -> bool {
        let (Some(millis), Some(max)) = (millis, self.max_lag) else {
            return false;
        };
        let lags = millis > max;
        let lagged = std::mem::replace(&mut self.lags, lags);
        lags && !lagged
    }

    fn is_end(&self, head: &Head) -> bool {
        let reached = |time: Option<u64>, end: Option<u64>| {
            time.zip(end).is_some_and(|(time, end)| time >= end)
        };
        reached(Clock::starts_at(self.source, head), self.end_at)
            || reached(head.server_timestamp, self.end_at_received)
    }

    fn begin(&mut self, head: Head, items: &mut Vec<Item>) -> Result<Flow, Error> {
        let is_end = self.is_end(&head);
        let last = is_end.then(|| self.position.delivered()).flatten();
        self.handling = match self.position.begin(&head) {
            Decision::Skip => Handling::Drop,
            Decision::Continue(units) => {
                if let Stream::Raw(raw) = &mut self.stream {
                    raw.resume(head.offset);
                }
                Handling::Deliver { skip: units }
            }
            Decision::Begin(interrupted) if is_end => {
                if let Some(kind) = interrupted {
                    self.finish(items)?;
                    let to = Some(head.number.to_string());
                    items.push(Item::Gap(self.gap(kind, last, to)));
                }
                return Ok(Flow::End);
            }
            Decision::Begin(interrupted) => {
                self.begin_new(head, interrupted, items)?;
                Handling::Deliver { skip: 0 }
            }
        };
        self.asks_again &= self.handling == Handling::Drop;
        Ok(Flow::Continue)
    }

    /// What is missing where no frame follows that it could be named with.
    fn gap(
        &self,
        kind: GapKind,
        from_fragment: Option<String>,
        to_fragment: Option<String>,
    ) -> Gap {
        Gap {
            kind,
            from_fragment,
            to_fragment,
            from_timestamp: match &self.stream {
                Stream::Continuous(stream) => stream.end_wall(),
                Stream::Raw(_) => None,
            },
            to_timestamp: None,
        }
    }

    fn begin_new(
        &mut self,
        head: Head,
        interrupted: Option<GapKind>,
        items: &mut Vec<Item>,
    ) -> Result<(), Error> {
        match &mut self.stream {
            Stream::Continuous(stream) => {
                stream.abandon(items).map_err(failed)?;
                stream.begin(head, interrupted, items).map_err(failed)
            }
            Stream::Raw(raw) => {
                raw.begin(&head, interrupted, items);
                Ok(())
            }
        }
    }

    /// Whether a cluster or block is one that has not been delivered.
    fn is_new_unit(&mut self) -> bool {
        match &mut self.handling {
            Handling::Deliver { skip: 0 } => {
                self.position.unit();
                self.progressed = true;
                true
            }
            Handling::Deliver { skip } => {
                *skip -= 1;
                false
            }
            Handling::Undecided | Handling::Drop => false,
        }
    }

    fn end(&mut self, end: fragment::End, items: &mut Vec<Item>) -> Result<(), Error> {
        let handling = std::mem::replace(&mut self.handling, Handling::Undecided);
        if let Handling::Deliver { .. } = handling {
            self.progressed = true;
            self.complete(end, items)?;
        } else if let Stream::Raw(raw) = &mut self.stream {
            raw.skip(end.offset);
        }
        Ok(())
    }

    fn complete(&mut self, end: fragment::End, items: &mut Vec<Item>) -> Result<(), Error> {
        self.position.end(&end);
        match &mut self.stream {
            Stream::Continuous(stream) => stream.end(end, self.body.rope(), items).map_err(failed),
            Stream::Raw(raw) => {
                raw.end(end, self.body.rope(), items);
                Ok(())
            }
        }
    }

    /// No more comes of the body; `over`: of no other either. A fragment that was asked for again and
    /// again, or when all was over, and of which no more came, is complete, or, if it ends within an
    /// element or has not come at all, cannot be had.
    ///
    /// # Errors
    /// As [`Receiver::push`].
    pub fn close(&mut self, over: bool, items: &mut Vec<Item>) -> Result<(), Error> {
        let end = match self.handling {
            // It has repeated all there was of the fragment.
            Handling::Deliver { skip: 0 } if !self.progressed => {
                if !over && !self.position.was_fruitless() {
                    return Ok(());
                }
                self.body.close()
            }
            Handling::Undecided if over && self.asks_again => None,
            _ => return Ok(()),
        };
        match end {
            Some(end) => self.complete(end, items),
            None => self.lose(items),
        }
    }

    /// The rest of the fragment under way cannot be had.
    fn lose(&mut self, items: &mut Vec<Item>) -> Result<(), Error> {
        let lost = self.position.lose();
        self.finish(items)?;
        if lost.is_some() {
            items.push(Item::Gap(self.gap(GapKind::Lost, lost, None)));
        }
        Ok(())
    }

    /// The stream ends here: gives out what is still kept back.
    ///
    /// # Errors
    /// As [`Receiver::push`].
    pub fn finish(&mut self, items: &mut Vec<Item>) -> Result<(), Error> {
        match &mut self.stream {
            Stream::Continuous(stream) => stream.abandon(items).map_err(failed),
            Stream::Raw(_) => Ok(()),
        }
    }
}

fn malformed(error: ebml::Error) -> Error {
    Error::new(
        ErrorKind::Demux,
        format!("the body is not the Matroska it should be: {error}"),
    )
    .during(Operation::GetMedia)
}

fn failed(failure: Failure) -> Error {
    match failure {
        Failure::Ebml(error) => malformed(error),
        Failure::Tracks { old, new } => Error::new(
            ErrorKind::Format,
            format!(
                "the tracks change from {} to {}, which a demuxer cannot follow within one stream",
                describe(&old),
                describe(&new)
            ),
        ),
    }
}

fn describe(tracks: &[Track]) -> String {
    let codecs: Vec<&str> = tracks.iter().map(|track| track.codec_id.as_str()).collect();
    format!("[{}]", codecs.join(", "))
}
