//! Where a stream goes on after its process has ended, in a file.
//!
//! The file holds the [`Point`] after the last fragment that downstream has taken; [`document`] has its
//! format. It is replaced as a whole, so that at any moment, also after a crash or a loss of power, it
//! holds one point or the one before. A process that goes on from it misses nothing, and repeats what
//! was taken since it was written.
//!
//! [`Checkpoint`] belongs to one element at a time: an advisory lock on a file beside it keeps others
//! away. Its writer has a thread of its own, since a disk takes its time; whoever records a point does
//! not wait, and of points that come meanwhile the latest is written. Nor does who opens the file while
//! the last one is still being written: in the same process, the same writer goes on.

pub mod document;
mod file;
mod location;

pub use location::parse as parse_location;

use crate::{
    error::{Error, ErrorKind},
    lock::lock,
    resume::Point,
};
use document::{Document, Stream};
use file::File;
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// A file that could not be written is tried again after this, or the interval if that is longer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Which file, of what.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// At most one write in this time; zero: after every fragment.
    pub interval: Duration,
    /// The stream that it is of, as far as it is known.
    pub stream: Stream,
}

/// What the writer says of each write; of failures in a row, of the first one and that at the end.
pub type Report = Box<dyn Fn(Result<&Point, Error>) + Send>;

/// A checkpoint file in use. Dropping it writes what there is, and waits for nothing.
pub struct Checkpoint {
    shared: Arc<Shared>,
    /// Ends when the writer is gone, and the lock with it.
    gone: mpsc::Receiver<()>,
    path: PathBuf,
    found: Option<Point>,
}

/// The last checkpoint of each file in this process, while it or its writer is there.
static LAST: Mutex<BTreeMap<PathBuf, Weak<Shared>>> = Mutex::new(BTreeMap::new());

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    stream: Stream,
    point: Option<Point>,
    /// The file does not have the point yet.
    unwritten: bool,
    /// It is to have it at once.
    hurry: bool,
    stage: Stage,
}

enum Stage {
    Open,
    /// There comes no other point.
    Closing,
    /// The same, and after the last one the writer goes on with another checkpoint.
    Followed(Job),
    /// The writer has given the file free.
    Ended,
}

/// What a writer does for one checkpoint.
struct Job {
    shared: Arc<Shared>,
    interval: Duration,
    report: Report,
    /// Goes when it is done.
    _alive: mpsc::Sender<()>,
}

impl Checkpoint {
    /// Takes the file into use: locks it, reads it, and makes sure that it can be written. Where this
    /// process is still writing the last point of the one before, its writer goes on with this one, and
    /// nothing is waited for.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`]: it is in use. [`ErrorKind::Settings`]: it is damaged, or of another stream.
    /// [`ErrorKind::Storage`] and [`ErrorKind::NoSpace`]: it cannot be read or written.
    pub fn open(config: Config, report: Report) -> Result<Checkpoint, Error> {
        let path = file::resolve(&config.path)?;
        let before = lock(&LAST).get(&path).and_then(Weak::upgrade);
        if let Some(before) = before {
            let mut state = lock(&before.state);
            if let Stage::Closing = state.stage {
                let (checkpoint, job) = Checkpoint::new(path, config, report, state.document())?;
                state.stage = Stage::Followed(job);
                checkpoint.register();
                return Ok(checkpoint);
            }
        }
        let file = File::open(path.clone())?;
        let document = match file.read()? {
            Some(contents) => Some(Document::parse(&contents).map_err(|why| file.damaged(&why))?),
            None => None,
        };
        let (checkpoint, job) = Checkpoint::new(path, config, report, document)?;
        file.check_writable()?;
        thread::Builder::new()
            .name("kvscheckpoint".to_owned())
            .spawn(move || job.run(file))
            .map_err(|error| {
                let what = format!("The thread for checkpoints could not be started: {error}");
                Error::new(ErrorKind::Internal, what)
            })?;
        checkpoint.register();
        Ok(checkpoint)
    }

    /// One that goes on from `document`, and what is to be done for it.
    fn new(
        path: PathBuf,
        config: Config,
        report: Report,
        document: Option<Document>,
    ) -> Result<(Checkpoint, Job), Error> {
        let mut stream = config.stream;
        let mut found = None;
        if let Some(document) = document {
            stream.merge(&document.stream).map_err(|whose| {
                let mend = "name another file, or delete this one to begin at start-selector";
                file::wrong(&path, &format!("is of {whose}; {mend}"))
            })?;
            found = Some(document.point);
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                stream,
                point: found.clone(),
                unwritten: false,
                hurry: false,
                stage: Stage::Open,
            }),
            changed: Condvar::new(),
        });
        let (alive, gone) = mpsc::channel();
        let job = Job {
            shared: shared.clone(),
            interval: config.interval,
            report,
            _alive: alive,
        };
        let checkpoint = Checkpoint {
            shared,
            gone,
            path,
            found,
        };
        Ok((checkpoint, job))
    }

    /// Lets it be found by who opens the file next. Only once it has a writer.
    fn register(&self) {
        let mut last = lock(&LAST);
        last.retain(|_, shared| shared.strong_count() > 0);
        last.insert(self.path.clone(), Arc::downgrade(&self.shared));
    }

    /// The file itself, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file held when it was opened.
    pub fn found(&self) -> Option<&Point> {
        self.found.as_ref()
    }

    /// The last point recorded, or else what was found.
    pub fn point(&self) -> Option<Point> {
        lock(&self.shared.state).point.clone()
    }

    /// Another way to it, for who learns the region.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: self.shared.clone(),
            path: self.path.clone(),
        }
    }

    /// Downstream has taken everything up to here.
    pub fn record(&self, point: Point) {
        let mut state = lock(&self.shared.state);
        state.point = Some(point);
        state.unwritten = true;
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Has the last point written at once, and does not wait for it.
    pub fn flush(&self) {
        lock(&self.shared.state).hurry = true;
        self.shared.changed.notify_one();
    }

    /// Has the last point written, and the file given free. Does not wait for it.
    pub fn begin_close(&self) {
        let mut state = lock(&self.shared.state);
        if let Stage::Open = state.stage {
            state.stage = Stage::Closing;
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// The same, and waits for it until `deadline`; says whether it was done in time. A disk that takes
    /// longer is left to it.
    pub fn close(self, deadline: Instant) -> bool {
        self.begin_close();
        let left = deadline.saturating_duration_since(Instant::now());
        // Nothing is ever sent.
        self.gone.recv_timeout(left) != Err(RecvTimeoutError::Timeout)
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        self.begin_close();
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("path", &self.path)
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

/// Tells a checkpoint the region, which may show only when the service is about to be asked.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Handle {
    /// The stream is in this region.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`]: that of the file is in another.
    pub fn confirm_region(&self, region: &str) -> Result<(), Error> {
        let here = Stream {
            region: Some(region.to_owned()),
            ..Stream::default()
        };
        let merged = lock(&self.shared.state).stream.merge(&here);
        merged.map_err(|_| {
            let message = format!(
                "checkpoint-location: {} is of a stream in another region than {region}; set \
                 aws-region, or name another file",
                self.path.display()
            );
            Error::new(ErrorKind::Settings, message)
        })
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.path).finish()
    }
}

impl Job {
    /// Does it, and what follows. Then the file is free.
    fn run(self, file: File) {
        let mut next = Some((self, file));
        while let Some((job, file)) = next {
            job.shared.write(&file, job.interval, &job.report);
            next = job.shared.end(file);
        }
    }
}

impl State {
    fn document(&self) -> Option<Document> {
        Some(Document {
            stream: self.stream.clone(),
            point: self.point.clone()?,
        })
    }
}

impl Shared {
    /// Writes points as they come, until it is closed.
    fn write(&self, file: &File, interval: Duration, report: &Report) {
        let mut due = Instant::now();
        let mut failing = false;
        while let Some((document, is_last)) = self.next(due) {
            match file.write(&document.print()) {
                Ok(()) => {
                    failing = false;
                    report(Ok(&document.point));
                    due = Instant::now() + interval;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) || is_last {
                        report(Err(error));
                    }
                    lock(&self.state).unwritten = true;
                    if is_last {
                        return;
                    }
                    due = Instant::now() + interval.max(RETRY_AFTER);
                }
            }
        }
    }

    /// Waits for a point and until it may be written. Says whether it is the last one; `None` if there
    /// is none any more.
    fn next(&self, due: Instant) -> Option<(Document, bool)> {
        let mut state = lock(&self.state);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            let closing = !matches!(state.stage, Stage::Open);
            let may = state.hurry || closing || left.is_zero();
            state.hurry &= state.unwritten;
            match state.document() {
                Some(document) if state.unwritten && may => {
                    state.unwritten = false;
                    state.hurry = false;
                    return Some((document, closing));
                }
                Some(_) if state.unwritten => {
                    let waited = self.changed.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                _ if closing => return None,
                _ => {
                    let waited = self.changed.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// What follows. If nothing does, gives the file free.
    fn end(&self, file: File) -> Option<(Job, File)> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut state.stage, Stage::Ended) {
            Stage::Followed(job) => {
                lock(&job.shared.state).unwritten |= state.unwritten;
                Some((job, file))
            }
            _ => {
                // Before anybody sees that it has ended, and may want to lock it.
                drop(file);
                None
            }
        }
    }
}
