//! The only async loop: from GetMedia through the sans-IO parts into the queue.
//!
//! One task a stream. It asks the service, feeds what comes to the [`Receiver`], pushes the items into
//! the [`Queue`], and asks again when a connection ends, as [`Retry`] and
//! [`Position`](crate::resume::Position) decide. It holds nothing of the element: it is cancelled by
//! dropping [`Session`], and everything it says goes through the queue, in order, or through `notify`,
//! at once.

use crate::{
    aws::{self, Body, Client},
    checkpoint,
    error::{Error, ErrorKind},
    item::{Item, Opened},
    notice::Notice,
    queue::{Closed, Queue},
    receiver::{self, Flow, Receiver},
    request::{End, Selector},
    resume::{Ended, Next, Point, Reconnect, Retry},
    stats::Stats,
    timeline,
};
use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, mpsc},
    task::Poll,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    runtime::Handle,
    task::{AbortHandle, yield_now},
    time::{Instant, sleep, timeout_at},
};

/// With `end-at-live`: a stream that has been silent for so long after a complete fragment has no more,
/// and what has been within one is asked again, once.
const LIVE_SILENCE: Duration = Duration::from_secs(10);

/// A chunk of so many bytes is part of a body that comes as fast as it can; a smaller one is what a
/// producer has just sent.
const FULL_CHUNK: usize = 16 * 1024;

/// Everything a session needs to know; settings already checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whom to ask, and as whom.
    pub aws: aws::Config,
    /// Where to begin.
    pub start: Selector,
    /// Where to end.
    pub end: End,
    /// `payload=raw`: the service's bytes, whole elements, untouched.
    pub raw: bool,
    /// How fragments are placed in time.
    pub timeline: timeline::Config,
    /// A body silent for longer is taken for a dead connection; zero: wait for ever.
    pub idle_timeout: Duration,
    /// Failures in a row before giving up; `None`: never.
    pub max_retries: Option<u32>,
    /// Further behind now than this, in milliseconds: skip to now.
    pub max_lag: Option<u64>,
    /// Whether the oldest fragment will do, should the service not have what `start` asks for.
    pub or_oldest: bool,
    /// What a demuxer downstream has been told, if the stream goes on after a seek.
    pub opened: Option<Opened>,
    /// What was delivered before this process began; beats `start`.
    pub resume: Option<Point>,
    /// The file that remembers that, which wants to know the region.
    pub checkpoint: Option<checkpoint::Handle>,
}

/// What a body gives next.
type Chunk = Option<Result<bytes::Bytes, Error>>;

/// A running session. Dropping it cancels it.
#[derive(Debug)]
pub struct Session {
    task: AbortHandle,
    gone: mpsc::Receiver<()>,
}

impl Session {
    /// Begins a session on `runtime` and returns at once. Items go into `queue`, which learns of the
    /// end too; `notify` is called from the task. `stats` are those of the session before, if the stream
    /// goes on after a seek.
    pub fn spawn(
        runtime: &Handle,
        config: Config,
        queue: Arc<Queue>,
        stats: Arc<Stats>,
        notify: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Session {
        let (alive, gone) = mpsc::channel();
        let guard = Guard {
            queue: queue.clone(),
            finished: false,
            _alive: alive,
        };
        let worker = Worker::new(config, queue, stats, Box::new(notify));
        Session {
            task: runtime.spawn(guard.run(worker)).abort_handle(),
            gone,
        }
    }

    /// Cancels the session and waits until its task is gone, but no longer than `timeout`.
    pub fn stop(self, timeout: Duration) {
        self.task.abort();
        // Nothing is ever sent: the wait ends when the task drops its end.
        let _ = self.gone.recv_timeout(timeout);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sees to it that the queue learns of the end, however the task ends.
struct Guard {
    queue: Arc<Queue>,
    finished: bool,
    _alive: mpsc::Sender<()>,
}

impl Guard {
    async fn run(mut self, mut worker: Worker) {
        let result = worker.run().await;
        self.finished = true;
        self.queue.finish(result);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.finished {
            let what = "the element's own task ended unexpectedly; please report this";
            self.queue
                .finish(Err(Error::new(ErrorKind::Internal, what)));
        }
    }
}

/// Why a connection is over.
enum Outcome {
    /// It ended, and the stream goes on.
    Ended(Ended),
    /// It could not be made, or it broke.
    Failed(Error),
    /// The end that was asked for has come.
    End,
    /// The element was stopped.
    Closed,
}

impl From<Closed> for Outcome {
    fn from(_: Closed) -> Self {
        Outcome::Closed
    }
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        Outcome::Failed(error)
    }
}

struct Worker {
    config: Config,
    queue: Arc<Queue>,
    stats: Arc<Stats>,
    notify: Box<dyn Fn(Notice) + Send + Sync>,
    receiver: Receiver,
    retry: Retry,
    /// Response headers have come at least once, of this session or, before a seek, of another.
    has_connected: bool,
    /// When the body that is being read began.
    opened: Option<Instant>,
    started: Instant,
    /// Since when no byte has come.
    quiet_since: Instant,
    items: Vec<Item>,
    /// The latest chunk was one of many.
    expects_more: bool,
}

impl Worker {
    fn new(
        config: Config,
        queue: Arc<Queue>,
        stats: Arc<Stats>,
        notify: Box<dyn Fn(Notice) + Send + Sync>,
    ) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos() as u64;
        let receiver = Receiver::new(receiver::Config {
            start: config.start.clone(),
            raw: config.raw,
            timeline: config.timeline,
            end_at: config.end.at,
            end_at_received: config.end.at_live.then_some(now),
            max_lag: config.max_lag,
            or_oldest: config.or_oldest,
            opened: config.opened.clone(),
            resume: config.resume.clone(),
        });
        let retry = Retry::new(config.max_retries, now);
        Worker {
            config,
            queue,
            notify,
            receiver,
            retry,
            has_connected: stats.has_connected(),
            stats,
            opened: None,
            started: Instant::now(),
            quiet_since: Instant::now(),
            items: Vec::new(),
            expects_more: false,
        }
    }

    async fn run(&mut self) -> Result<(), Error> {
        // Boxed for the same reason as `connect`.
        let client = Box::pin(Client::new(self.config.aws.clone())).await?;
        if let Some(checkpoint) = &self.config.checkpoint {
            checkpoint.confirm_region(client.region())?;
        }
        self.quiet_since = Instant::now();
        loop {
            self.opened = None;
            let mut failure = None;
            let ended = match self.connection(&client).await {
                Outcome::Ended(ended) => ended,
                Outcome::Failed(error) => {
                    self.quiet_since = Instant::now();
                    let error = self.meaning(error);
                    failure = Some(error.clone());
                    let lasted = self.opened.map(|opened| opened.elapsed());
                    Ended::Failed { error, lasted }
                }
                Outcome::End => return self.end().await,
                Outcome::Closed => return Ok(()),
            };
            match self.retry.after(ended) {
                Next::GiveUp(error) => return self.give_up(error).await,
                Next::Connect(reconnect) => self.prepare(reconnect, failure, &client).await,
            }
        }
    }

    /// Tells of the reconnect, renews what has to be renewed, and waits.
    async fn prepare(&mut self, reconnect: Reconnect, error: Option<Error>, client: &Client) {
        let Reconnect {
            reason,
            attempt,
            delay,
            renew_credentials,
        } = reconnect;
        self.queue.wake();
        if error.is_some() {
            self.stats.retried();
        }
        let resume_after = self.receiver.position().after();
        (self.notify)(Notice::Reconnect {
            reason,
            error,
            attempt,
            delay,
            resume_after,
        });
        if renew_credentials {
            client.reload_credentials();
        }
        sleep(delay).await;
    }

    /// The stream cannot go on. What has come of it comes out first, as far as it can; nobody is told
    /// of two errors.
    async fn give_up(&mut self, error: Error) -> Result<(), Error> {
        let _ = self.receiver.finish(&mut self.items);
        let _ = self.pass_on().await;
        Err(Error {
            was_streaming: self.has_connected,
            ..error
        })
    }

    /// The end that was asked for.
    async fn end(&mut self) -> Result<(), Error> {
        self.receiver.finish(&mut self.items)?;
        // A demuxer that has had a header knows what to do with an end.
        let unopened = self.config.opened.is_none() && !self.receiver.has_delivered();
        if self.pass_on().await.is_ok() && unopened {
            let stream = &self.config.aws.stream;
            let message = match &self.config.resume {
                Some(point) => format!(
                    "stream {stream} has nothing between the checkpoint ({}) and the end that was \
                     asked for",
                    match &point.token {
                        Some(token) if point.number.is_empty() => token,
                        _ => &point.number,
                    }
                ),
                None => format!(
                    "stream {stream} has nothing between the start ({}) and the end that were \
                     asked for",
                    self.config.start
                ),
            };
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(())
    }

    async fn connection(&mut self, client: &Client) -> Outcome {
        let asked = Instant::now();
        // Boxed, since it is large and soon done: the task keeps room for its largest state for ever.
        let body = match Box::pin(self.connect(client)).await {
            Ok(body) => body,
            Err(error) => return error.into(),
        };
        self.opened = Some(Instant::now());
        // Silence is that of a stream, not of a service that is slow to answer.
        self.quiet_since += asked.elapsed();
        self.receiver.open();
        self.read(body).await
    }

    async fn connect(&mut self, client: &Client) -> Result<Body, Error> {
        let stream = self.config.aws.stream.to_string();
        self.progress(
            "endpoint",
            format!("Looking up the data endpoint of {stream}"),
            false,
        );
        let endpoint = client.data_endpoint().await?;
        self.progress("endpoint", format!("The data endpoint is {endpoint}"), true);
        let request = self.receiver.position().request();
        self.progress(
            "connect",
            format!("Asking for {stream} from {request}"),
            false,
        );
        let body = match client.get_media(&endpoint, &request).await {
            Ok(body) => body,
            Err(error) => {
                // Whatever is wrong there, be it that the stream has moved, the next attempt may be sent
                // elsewhere.
                client.forget_data_endpoint();
                return Err(error);
            }
        };
        self.progress("connect", format!("Receiving {stream}"), true);
        self.has_connected = true;
        self.stats.connected(&endpoint, body.request_id());
        (self.notify)(Notice::Connected {
            endpoint,
            request_id: body.request_id().map(str::to_owned),
        });
        Ok(body)
    }

    /// PROGRESS is about opening: nothing is said of later connections.
    fn progress(&self, code: &'static str, text: String, done: bool) {
        if !self.has_connected {
            (self.notify)(Notice::Progress { code, text, done });
        }
    }

    /// What an error means at this point of the stream.
    fn meaning(&mut self, error: Error) -> Error {
        let position = self.receiver.position();
        match error.kind {
            _ if position.is_gone(&error) && position.gone() => Error {
                kind: ErrorKind::FragmentGone,
                ..error
            },
            ErrorKind::FragmentGone => Error {
                kind: ErrorKind::NotFound,
                message: format!("{}; check {}", error.message, self.config.start.property()),
                ..error
            },
            _ => error,
        }
    }

    async fn read(&mut self, mut body: Body) -> Outcome {
        let request_id = body.request_id().map(str::to_owned);
        loop {
            let chunk = match self.next(&mut body).await {
                Some(Some(Ok(chunk))) => chunk,
                Some(Some(Err(error))) => return error.into(),
                Some(None) => return self.close().await,
                None => return self.fell_silent().await,
            };
            self.stats.received(chunk.len() as u64);
            self.expects_more = chunk.len() >= FULL_CHUNK;
            self.receiver
                .arrives(self.started.elapsed().as_nanos() as u64);
            let flow = self.receiver.push(chunk, &mut self.items);
            if let Err(closed) = self.pass_on().await {
                return closed.into();
            }
            self.quiet_since = Instant::now();
            match flow {
                Ok(Flow::Continue) => (),
                Ok(Flow::End) => return Outcome::End,
                Ok(Flow::SkipToNow) => return Outcome::Ended(Ended::Behind),
                Err(error) => return error.of_request(request_id.as_deref()).into(),
            }
        }
    }

    /// The next bytes; `None` if they are not worth waiting for any longer.
    async fn next(&mut self, body: &mut Body) -> Option<Chunk> {
        if let Some(next) = self.at_once(body).await {
            return Some(next);
        }
        let now = Instant::now();
        let idle = (!self.config.idle_timeout.is_zero()).then(|| now + self.config.idle_timeout);
        let since = match self.receiver.position().is_within_fragment() {
            true => now,
            false => self.quiet_since,
        };
        let live = self.config.end.at_live.then(|| since + LIVE_SILENCE);
        match idle.into_iter().chain(live).min() {
            Some(deadline) => timeout_at(deadline, body.next()).await.ok(),
            None => Some(body.next().await),
        }
    }

    /// What of the body is there already. Wakes the streaming thread if there is nothing.
    ///
    /// A thread that is woken for each chunk of a fast body costs a quarter of the time that reading
    /// the body takes. But the HTTP client reads on only when it is asked to, so whether there is more
    /// is known after it has had its turn.
    async fn at_once(&mut self, body: &mut Body) -> Option<Chunk> {
        let mut next = poll_once(body.next()).await;
        if next.is_none() && self.expects_more && self.queue.is_awaited() {
            yield_now().await;
            next = poll_once(body.next()).await;
        }
        if next.is_none() {
            self.queue.wake();
        }
        next
    }

    /// The body has ended in good order.
    async fn close(&mut self) -> Outcome {
        match self.settle().await {
            Some(outcome) => outcome,
            None => Outcome::Ended(Ended::Cleanly {
                progressed: self.receiver.has_progressed(),
            }),
        }
    }

    /// The body has been silent for long.
    async fn fell_silent(&mut self) -> Outcome {
        // A producer may pause within a fragment, and it is waited for; but nothing waits for what
        // comes after now. The last fragment of a stream may have no end.
        let over = match self.config.end.at_live {
            true => self.settle().await,
            false => None,
        };
        over.unwrap_or(Outcome::Ended(Ended::Silent))
    }

    /// No more comes of the body: what that says of the fragment under way, and whether it is the end.
    async fn settle(&mut self) -> Option<Outcome> {
        let silent = self.config.end.at_live && self.quiet_since.elapsed() >= LIVE_SILENCE;
        if let Err(error) = self.receiver.close(silent, &mut self.items) {
            return Some(error.into());
        }
        if let Err(closed) = self.pass_on().await {
            return Some(closed.into());
        }
        let is_end = silent && !self.receiver.position().is_within_fragment();
        is_end.then_some(Outcome::End)
    }

    async fn pass_on(&mut self) -> Result<(), Closed> {
        for item in self.items.drain(..) {
            if let Item::FragmentEnd(_) = item {
                self.retry.delivered();
            }
            self.queue.push(item).await?;
        }
        Ok(())
    }
}

/// The output of a future, if it is ready now. It is dropped otherwise, and whoever completes it wakes
/// the task.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{queue::Popped, request::StreamId, runtime};

    #[test]
    fn a_panic_of_the_task_is_an_error_of_the_stream() {
        let mut aws = aws::Config::new(StreamId::Name("cam".to_owned()));
        aws.region = Some("eu-west-1".to_owned());
        let config = Config {
            aws,
            start: Selector::Now,
            end: End::default(),
            raw: false,
            timeline: timeline::Config::default(),
            idle_timeout: Duration::ZERO,
            max_retries: None,
            max_lag: None,
            or_oldest: false,
            opened: None,
            resume: None,
            checkpoint: None,
        };
        let queue = Queue::new(1000);
        let stats = Arc::new(Stats::default());
        let defect = |_| panic!("a defect, as this test wants it");
        let runtime = runtime::handle().unwrap();
        let session = Session::spawn(runtime, config, queue.clone(), stats, defect);
        match queue.pop() {
            Popped::Error(error) => assert_eq!(error.kind, ErrorKind::Internal),
            other => panic!("{other:?}"),
        }
        session.stop(Duration::from_secs(10));
    }
}
