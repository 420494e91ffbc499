//! What to ask the service for next, after what delay, and what of the answer to skip. Sans-IO.
//!
//! [`Position`] knows what has been delivered. A fragment is re-sent whole, after the continuation
//! token of the one before; so after a cut the same fragment is asked for again, checked by its
//! number, and the units (clusters and blocks) that were delivered are skipped. [`Retry`] decides
//! whether and when to ask at all.

use crate::{
    error::{Error, ErrorKind, Operation, Recovery},
    fragment::{End, Head, Number},
    item::{FragmentEnd, GapKind},
    request::{self, Selector},
};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

/// A fragment that ended without a token is asked for so often without getting more of it before it
/// is taken for complete: with the delays of a stream at rest between, for 10 s. Its producer may only
/// have paused.
const FRUITLESS_MAX: u32 = 8;

/// What to do with a fragment that the service sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is next. Fragments are missing before it if a reason is given.
    Begin(Option<GapKind>),
    /// It is the one that was cut: go on with it after this many units.
    Continue(u64),
    /// It has been delivered, or lies before what has been.
    Skip,
}

/// A complete fragment as the place to go on after, also in another process and after a long time:
/// the more is known of it, the more ways lead back. Times are nanoseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Point {
    /// Its number; empty if it had none.
    pub number: String,
    /// What to ask for to get the next one.
    pub token: Option<String>,
    /// When the service received it.
    pub server_timestamp: Option<u64>,
    /// When the producer says it was recorded.
    pub producer_timestamp: Option<u64>,
}

impl Point {
    /// The place after this fragment; `None` if nothing can be asked for by what is known of it.
    pub fn after(end: &FragmentEnd) -> Option<Point> {
        let token = end.continuation_token.as_deref();
        let token = token.filter(|token| request::is_continuation_token(token));
        let number = Some(&end.start.number).filter(|number| request::is_fragment_number(number));
        (token.is_some() || number.is_some()).then(|| Point {
            number: number.cloned().unwrap_or_default(),
            token: token.map(str::to_owned),
            server_timestamp: end.start.server_timestamp,
            producer_timestamp: end.start.producer_timestamp,
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Complete {
    number: Number,
    server_timestamp: Option<u64>,
    token: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Partial {
    number: Number,
    server_timestamp: Option<u64>,
    /// Clusters and blocks delivered.
    units: u64,
    /// Bodies that repeated it and ended without bringing any more.
    fruitless: u32,
    /// Why fragments are missing before it, if they are.
    interrupted: Option<GapKind>,
}

/// How a way back to the stream is looked for when the service does not have what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// After what was delivered: by token, number, or the server timestamp of a first fragment.
    Exact,
    /// From the server timestamp of the last fragment known.
    Timestamp,
    /// From the oldest fragment; what was delivered is skipped.
    Earliest,
    /// From now, on purpose.
    Now,
}

/// How far the stream has been delivered.
#[derive(Debug, Clone)]
pub struct Position {
    start: Selector,
    complete: Option<Complete>,
    partial: Option<Partial>,
    way: Way,
    /// The last complete fragment has come again in this body: what follows it is the next one.
    seen_again: bool,
    /// Whether the oldest fragment will do where there is none to begin at.
    or_oldest: bool,
}

impl Position {
    /// Nothing delivered; the user asks to begin at `start`, and `or_oldest` where that is not to be had.
    pub fn new(start: Selector, or_oldest: bool) -> Self {
        Position {
            start,
            complete: None,
            partial: None,
            way: Way::Exact,
            seen_again: false,
            or_oldest,
        }
    }

    /// All up to `point` has been delivered, before this process began.
    pub fn resume(&mut self, point: Point) {
        self.complete = Some(Complete {
            number: Number::new(point.number),
            server_timestamp: point.server_timestamp,
            token: point.token,
        });
    }

    /// A body begins.
    pub fn open(&mut self) {
        self.seen_again = false;
    }

    /// What to ask for.
    pub fn request(&self) -> Selector {
        match (self.way, self.server_timestamp()) {
            (Way::Exact, _) => self.exact(),
            (Way::Timestamp, Some(timestamp)) => Selector::ServerTimestamp(timestamp / 1_000_000),
            (Way::Timestamp, None) | (Way::Earliest, _) => Selector::Earliest,
            (Way::Now, _) => Selector::Now,
        }
    }

    fn exact(&self) -> Selector {
        match (&self.complete, &self.partial) {
            (
                Some(Complete {
                    token: Some(token), ..
                }),
                _,
            ) => Selector::ContinuationToken(token.clone()),
            (Some(complete), _) if !complete.number.is_empty() => {
                Selector::AfterFragment(complete.number.to_string())
            }
            (
                None,
                Some(Partial {
                    server_timestamp: Some(timestamp),
                    ..
                }),
            ) => Selector::ServerTimestamp(timestamp / 1_000_000),
            _ => self.start.clone(),
        }
    }

    fn server_timestamp(&self) -> Option<u64> {
        let partial = self
            .partial
            .as_ref()
            .and_then(|partial| partial.server_timestamp);
        partial.or_else(|| self.complete.as_ref()?.server_timestamp)
    }

    /// The number of the last complete fragment.
    pub fn after(&self) -> Option<String> {
        self.complete
            .as_ref()
            .map(|complete| complete.number.to_string())
    }

    /// The number of the last fragment of which anything has been delivered.
    pub fn delivered(&self) -> Option<String> {
        let partial = self.partial.as_ref().filter(|partial| partial.units > 0);
        partial
            .map(|partial| partial.number.to_string())
            .or_else(|| self.after())
    }

    /// Whether a fragment is known of which the end has not come.
    pub fn is_within_fragment(&self) -> bool {
        self.partial.is_some()
    }

    /// Whether anything of the stream has been seen.
    fn has_begun(&self) -> bool {
        self.complete.is_some() || self.partial.is_some()
    }

    /// A fragment's number has been read, its first frame has not: where to come back to, should the
    /// body break here.
    pub fn announced(&mut self, head: &Head) {
        if self.partial.is_none() && !self.is_old(&head.number) {
            self.learn(head);
        }
    }

    /// A fragment begins.
    pub fn begin(&mut self, head: &Head) -> Decision {
        if self.is_old(&head.number) {
            let last = self.complete.as_ref();
            if last.is_some_and(|last| last.number == head.number) {
                self.seen_again = true;
                // Now has been reached: what comes next follows it.
                if self.way == Way::Now {
                    self.way = Way::Exact;
                }
            }
            return Decision::Skip;
        }
        // Before one of which nothing was delivered there is still room.
        let cut = self.partial.as_ref().filter(|partial| partial.units > 0);
        if !head.number.is_empty() && cut.is_some_and(|cut| head.number < cut.number) {
            return Decision::Skip;
        }
        let partial = self.learn(head);
        let decision = match partial.units {
            0 => Decision::Begin(partial.interrupted),
            units => Decision::Continue(units),
        };
        self.way = Way::Exact;
        decision
    }

    /// This fragment is next. Whether any is missing before it is known the first time that its number
    /// is: from then on there are other ways to it, which say nothing of what it follows.
    fn learn(&mut self, head: &Head) -> &Partial {
        let partial = match self.partial.take() {
            Some(partial) if partial.number == head.number => partial,
            other => {
                let due =
                    other.filter(|other| head.number.is_empty() || other.number < head.number);
                Partial::new(head, self.interruption(due))
            }
        };
        self.partial.insert(partial)
    }

    /// Why fragments are missing before one that is not known yet; `due` is one that was to come before
    /// it.
    fn interruption(&self, due: Option<Partial>) -> Option<GapKind> {
        // Before the first there is nothing that could be missing.
        if self.complete.is_none() && due.as_ref().is_none_or(|due| due.units == 0) {
            return None;
        }
        match self.way {
            Way::Now if !self.seen_again => Some(GapKind::SkippedToNow),
            Way::Timestamp | Way::Earliest if !self.seen_again => Some(GapKind::Lost),
            _ => due.map(|_| GapKind::Lost),
        }
    }

    /// The next fragment wanted is the latest.
    pub fn skip_to_now(&mut self) {
        self.way = Way::Now;
    }

    fn is_old(&self, number: &Number) -> bool {
        !number.is_empty()
            && self
                .complete
                .as_ref()
                .is_some_and(|complete| *number <= complete.number)
    }

    /// A cluster or block of the fragment under way has been delivered.
    pub fn unit(&mut self) {
        if let Some(partial) = &mut self.partial {
            partial.units += 1;
            partial.fruitless = 0;
        }
    }

    /// The fragment under way is complete.
    pub fn end(&mut self, end: &End) {
        if let Some(partial) = self.partial.take() {
            self.complete = Some(Complete {
                number: partial.number,
                server_timestamp: partial.server_timestamp,
                token: end.continuation_token.clone(),
            });
        }
    }

    /// The rest of the fragment under way cannot be had. Returns its number, if anything of it was
    /// delivered.
    pub fn lose(&mut self) -> Option<String> {
        let begun = self
            .partial
            .as_ref()
            .is_some_and(|partial| partial.units > 0);
        self.end(&End::default());
        self.after().filter(|_| begun)
    }

    /// A body repeated what was delivered of the fragment that was cut, and ended in good order without
    /// bringing any more. Says whether that has happened so often that there is no more of it.
    pub fn was_fruitless(&mut self) -> bool {
        match &mut self.partial {
            Some(partial) if partial.units > 0 => {
                partial.fruitless += 1;
                partial.fruitless >= FRUITLESS_MAX
            }
            _ => false,
        }
    }

    /// Whether this failure of [`Position::request`] says that the service does not have what was asked
    /// for.
    pub fn is_gone(&self, error: &Error) -> bool {
        let of_time = || {
            let request = self.request();
            matches!(
                request,
                Selector::ProducerTimestamp(_) | Selector::ServerTimestamp(_)
            )
        };
        error.operation == Some(Operation::GetMedia)
            && match error.kind {
                // A token may be refused in either way once it has expired.
                ErrorKind::FragmentGone | ErrorKind::Settings => true,
                // No fragment holds the time. Or there is no stream: then the next way says so too.
                ErrorKind::NotFound => of_time(),
                _ => false,
            }
    }

    /// The service does not have what [`Position::request`] asked for. Says whether there is another
    /// request to go on with; there is none back to where the user asked to begin.
    pub fn gone(&mut self) -> bool {
        let refused = self.request();
        // One that was announced and then never completed: the user's own start leads to another.
        let announced = |partial: &Partial| partial.units == 0 && partial.interrupted.is_none();
        if self.complete.is_none() && self.partial.as_ref().is_some_and(announced) {
            self.partial = None;
            self.way = Way::Exact;
        }
        while self.request() == refused {
            self.way = match self.way {
                Way::Exact if self.has_begun() => Way::Timestamp,
                Way::Exact if self.or_oldest => Way::Earliest,
                Way::Timestamp => Way::Earliest,
                Way::Exact | Way::Earliest | Way::Now => return false,
            };
        }
        true
    }
}

impl Partial {
    fn new(head: &Head, interrupted: Option<GapKind>) -> Self {
        Partial {
            number: head.number.clone(),
            server_timestamp: head.server_timestamp,
            units: 0,
            fruitless: 0,
            interrupted,
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// The body ended in good order: the service ends each after 45 minutes at most, and those of a
    /// stream at rest when it likes.
    Cleanly {
        /// Whether it had brought anything new.
        progressed: bool,
    },
    /// No byte came for `idle-timeout`.
    Silent,
    /// What came had fallen too far behind now.
    Behind,
    /// There was none, or it broke.
    Failed {
        /// What went wrong.
        error: Error,
        /// How long its body had lasted; `None` if there was none.
        lasted: Option<Duration>,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Ask again.
    Connect(Reconnect),
    /// Tell the user.
    GiveUp(Error),
}

/// Another connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconnect {
    /// Why, as `kvs-reconnect` says it.
    pub reason: &'static str,
    /// How many failures in a row there have been, this one included; 0 if none.
    pub attempt: u32,
    /// How long to wait first.
    pub delay: Duration,
    /// Whether to get new credentials first.
    pub renew_credentials: bool,
}

/// Delay after a first failure; doubled after each, with jitter on top, up to the longest.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(20);

/// Delays between requests while a stream is at rest and the service ends each body at once.
const IDLE_DELAYS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];

/// Decides whether and when to ask again.
#[derive(Debug)]
pub struct Retry {
    max: Option<u32>,
    seed: u64,
    delays: ExponentialBackoff,
    failures: u32,
    idle: usize,
    credentials_renewed: bool,
}

impl Retry {
    /// At most `max` failures in a row (`None`: any number). `seed` is for the jitter.
    pub fn new(max: Option<u32>, seed: u64) -> Self {
        Retry {
            max,
            seed,
            delays: delays(seed),
            failures: 0,
            idle: 0,
            credentials_renewed: false,
        }
    }

    /// A fragment has been delivered: the count begins again.
    pub fn delivered(&mut self) {
        self.recovered();
        self.idle = 0;
        self.credentials_renewed = false;
    }

    /// What failed before is over, and no reason to give up when something fails next.
    fn recovered(&mut self) {
        if self.failures > 0 {
            self.delays = delays(self.seed);
        }
        self.failures = 0;
    }

    /// What to do after a connection has ended.
    ///
    /// A row of failures ends with a fragment, and where none comes, as of a stream at rest, with a
    /// connection that did not fail, or not until it had lasted for longer than the longest delay:
    /// what happens once a night is no row. Credentials that got an answer were good, whatever became
    /// of it.
    pub fn after(&mut self, ended: Ended) -> Next {
        let (reason, delay) = match ended {
            Ended::Failed { error, lasted } => return self.after_failure(error, lasted),
            Ended::Cleanly { progressed: true } => ("rotated", Duration::ZERO),
            Ended::Cleanly { progressed: false } => {
                let delay = IDLE_DELAYS[self.idle.min(IDLE_DELAYS.len() - 1)];
                self.idle += 1;
                ("idle", delay)
            }
            Ended::Silent => ("silent", Duration::ZERO),
            Ended::Behind => ("behind", Duration::ZERO),
        };
        self.recovered();
        self.credentials_renewed = false;
        Next::Connect(Reconnect {
            reason,
            attempt: 0,
            delay,
            renew_credentials: false,
        })
    }

    /// The jitter comes on top of what is doubled, also of the longest.
    fn next_delay(&mut self) -> Duration {
        self.delays
            .next()
            .map_or(LONGEST_DELAY, |delay| delay.min(LONGEST_DELAY))
    }

    fn after_failure(&mut self, error: Error, lasted: Option<Duration>) -> Next {
        if lasted.is_some_and(|lasted| lasted > LONGEST_DELAY) {
            self.recovered();
        }
        if lasted.is_some() {
            self.credentials_renewed = false;
        }
        let recovery = error.kind.recovery();
        match recovery {
            Recovery::Fatal => return Next::GiveUp(error),
            Recovery::ReloadCredentials if self.credentials_renewed => {
                return Next::GiveUp(Error {
                    kind: ErrorKind::NotAuthorized,
                    ..error
                });
            }
            Recovery::ReloadCredentials => self.credentials_renewed = true,
            Recovery::Retry => (),
        }
        self.failures += 1;
        if self.max.is_some_and(|max| self.failures > max) {
            return Next::GiveUp(error);
        }
        Next::Connect(Reconnect {
            reason: error.kind.reason(),
            attempt: self.failures,
            // What is gone is asked for by another way next, which nothing speaks against.
            delay: match error.kind {
                ErrorKind::FragmentGone => FIRST_DELAY,
                _ => self.next_delay(),
            },
            renew_credentials: recovery == Recovery::ReloadCredentials,
        })
    }
}

fn delays(seed: u64) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .without_max_times()
        .with_jitter()
        .with_jitter_seed(seed)
        .build()
}
