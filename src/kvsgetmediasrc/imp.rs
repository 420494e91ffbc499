//! The life of the element.

use super::{
    CAT, CAT_DATA, Payload,
    handed::Handed,
    messages,
    progress::Progress,
    properties,
    seek::{Seek, Seeks},
    settings::{self, Plan, Settings},
    stream::Stream,
    uri::{KvsUri, SCHEME},
};
use crate::{
    checkpoint::{self, Checkpoint},
    error::{Error, ErrorKind},
    item::Item,
    lock::lock,
    queue::{Popped, Queue},
    resume::Point,
    runtime,
    session::Session,
    stats::Stats,
};
use gst::{prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_src::CreateSuccess, prelude::*},
};
use std::{
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long a stop may wait for the session's task to be gone.
const STOP_TIMEOUT: Duration = Duration::from_millis(100);

/// How long it may wait in all, that for the last write of the checkpoint included.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(150);

#[derive(Default)]
enum State {
    #[default]
    Stopped,
    Started(Box<Started>),
}

/// What exists while the element is started.
pub(super) struct Started {
    /// What the settings meant at the start: seeks and queries keep to that.
    plan: Plan,
    queue: Arc<Queue>,
    session: Session,
    progress: Arc<Progress>,
    stream_name: Arc<str>,
    pub(super) stream: Stream,
    flushing: bool,
}

#[derive(Default)]
pub struct KvsGetMediaSrc {
    settings: Mutex<Settings>,
    /// What is wrong with the URI that was set last as a property.
    bad_uri: Mutex<Option<String>>,
    state: Mutex<State>,
    /// Those of the last run stay readable after it.
    stats: Mutex<Arc<Stats>>,
    /// In use from before the start until after the stop, over all seeks between.
    checkpoint: Mutex<Option<Checkpoint>>,
    pub(super) seeks: Seeks,
    pub(super) handed: Handed,
    /// Whether tracks that a demuxer cannot follow are announced downstream rather than an error.
    follow_tracks: AtomicBool,
}

/// The wall-clock time.
pub(super) fn now() -> gst::ClockTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    clock_time(now.unwrap_or_default())
}

fn clock_time(duration: Duration) -> gst::ClockTime {
    gst::ClockTime::try_from(duration).unwrap_or(gst::ClockTime::ZERO)
}

impl KvsGetMediaSrc {
    fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    /// Runs with what exists while the element is started; `None` when it is not.
    pub(super) fn started<T>(&self, run: impl FnOnce(&mut Started) -> T) -> Option<T> {
        match &mut *lock(&self.state) {
            State::Started(started) => Some(run(started)),
            State::Stopped => None,
        }
    }

    fn set_flushing(&self, flushing: bool) {
        self.started(|started| {
            started.flushing = flushing;
            started.queue.set_flushing(flushing);
        });
    }

    fn queue(&self) -> Option<Arc<Queue>> {
        self.started(|started| started.queue.clone())
    }

    /// Tells the application that it is over.
    fn fail(&self, error: &Error) {
        let obj = self.obj();
        gst::error!(CAT, imp = self, "{error}");
        if let Some(progress) = self.started(|started| started.progress.clone()) {
            progress.fail(obj.upcast_ref());
        }
        messages::post_error(obj.upcast_ref(), error);
    }

    /// Checks the settings and says what they mean to the base class, which wants to know whether
    /// it is live before it starts.
    fn prepare(&self) -> Result<(), Error> {
        if let Some(message) = &*lock(&self.bad_uri) {
            return Err(settings::wrong("uri", message));
        }
        let settings = self.settings();
        let plan = settings.plan()?;
        runtime::handle()?;
        self.open_checkpoint(plan.checkpoint)?;
        let obj = self.obj();
        obj.set_live(plan.live);
        obj.set_format(match settings.payload {
            Payload::Continuous => gst::Format::Time,
            Payload::Raw => gst::Format::Bytes,
        });
        Ok(())
    }

    /// Takes the checkpoint into use, unless it is.
    fn open_checkpoint(&self, config: Option<checkpoint::Config>) -> Result<(), Error> {
        let mut checkpoint = lock(&self.checkpoint);
        if let (Some(config), None) = (config, &*checkpoint) {
            let weak = self.downgrade();
            let report = move |written: Result<&Point, Error>| {
                let Some(imp) = weak.upgrade() else { return };
                match written {
                    Ok(point) => gst::debug!(CAT, imp = imp, "Checkpoint written: {point:?}"),
                    Err(error) => messages::post_warning(imp.obj().upcast_ref(), &error),
                }
            };
            *checkpoint = Some(Checkpoint::open(config, Box::new(report))?);
        }
        Ok(())
    }

    /// Writes the last point and gives the file free, but waits no longer than until `deadline`.
    fn close_checkpoint(&self, deadline: Instant) {
        let checkpoint = lock(&self.checkpoint).take();
        if checkpoint.is_some_and(|checkpoint| !checkpoint.close(deadline)) {
            gst::warning!(
                CAT,
                imp = self,
                "The disk is slow: the checkpoint is still being written"
            );
        }
    }

    /// Runs with the checkpoint, if there is one.
    fn checkpoint<T>(&self, run: impl FnOnce(&Checkpoint) -> T) -> Option<T> {
        lock(&self.checkpoint).as_ref().map(run)
    }

    /// Says that the stream goes on from the checkpoint, if it does.
    fn tell_checkpoint(&self, stream: &str) {
        let found = |checkpoint: &Checkpoint| {
            let point = checkpoint.found()?.clone();
            Some((checkpoint.path().display().to_string(), point))
        };
        if let Some((location, point)) = self.checkpoint(found).flatten() {
            gst::info!(CAT, imp = self, "Going on from {location}, after {point:?}");
            messages::post_checkpoint(self.obj().upcast_ref(), stream, &location, &point);
        }
    }

    /// Makes the element announce tracks that a demuxer cannot follow by an event
    /// `kvs-tracks-changed`, after which a document of its own begins, instead of failing.
    pub(crate) fn set_follow_tracks(&self, follow: bool) {
        self.follow_tracks.store(follow, Ordering::Relaxed);
    }

    fn start_session(&self) -> Result<(), Error> {
        let settings = self.settings();
        gst::info!(CAT, imp = self, "Starting with {settings:?}");
        let mut plan = settings.plan()?;
        self.open_checkpoint(plan.checkpoint.take())?;
        let point = self.checkpoint(Checkpoint::point).flatten();
        self.tell_checkpoint(plan.session.aws.stream.name());
        *lock(&self.stats) = Arc::new(Stats::default());
        let stream = Stream::new(plan.live, point);
        let live = plan.live;
        let started = self.spawn(plan, stream)?;
        *lock(&self.state) = State::Started(Box::new(started));
        if live {
            self.handed.watch(self.obj().src_pad());
        }
        Ok(())
    }

    /// Puts another session in the place of the one there is. The streaming thread is not running.
    pub(super) fn replace_session(&self, seek: Seek) -> Result<(), Error> {
        let old = self.started(|started| {
            let stream = started.stream.sought(seek);
            (started.plan.clone(), started.progress.clone(), stream)
        });
        let Some((plan, progress, stream)) = old else {
            return Ok(());
        };
        if stream.is_doubtful() && self.follow_tracks.load(Ordering::Relaxed) {
            self.parent_send_event(messages::tracks_changed_event());
        }
        progress.cancel(self.obj().upcast_ref());
        self.handed.forget();
        let started = self.spawn(plan, stream)?;
        let old = self.started(|state| {
            let flushing = state.flushing;
            started.queue.set_flushing(flushing);
            std::mem::replace(
                state,
                Started {
                    flushing,
                    ..started
                },
            )
        });
        // Dropping it cancels its session, which is not waited for. Until that pauses, what it queues,
        // says and counts goes nowhere: all of these are the new one's own.
        if let Some(old) = old {
            old.queue.close();
        }
        Ok(())
    }

    fn spawn(&self, plan: Plan, stream: Stream) -> Result<Started, Error> {
        let mut config = plan.session.clone();
        stream.aim(&mut config, now());
        config.checkpoint = self.checkpoint(Checkpoint::handle);
        config.timeline.follow_tracks = self.follow_tracks.load(Ordering::Relaxed);
        let runtime = runtime::handle()?;
        let stream_name = config.aws.stream.name().into();
        let queue = Queue::new(plan.queue_bytes);
        let stats = {
            let mut stats = lock(&self.stats);
            *stats = Arc::new(stats.carried_on());
            stats.clone()
        };
        let progress = Arc::new(Progress::default());
        let (weak, hears) = (self.obj().downgrade(), progress.clone());
        let session = Session::spawn(runtime, config, queue.clone(), stats, move |notice| {
            if let Some(element) = weak.upgrade() {
                hears.hear(element.upcast_ref(), &notice);
            }
        });
        Ok(Started {
            plan,
            queue,
            session,
            progress,
            stream_name,
            stream,
            flushing: false,
        })
    }

    /// Does what an item asks for. Data waits in the stream to be returned.
    fn handle(&self, item: Item) -> Result<(), gst::FlowError> {
        let obj = self.obj();
        let stats = || lock(&self.stats).clone();
        let stream_name = || {
            self.started(|started| started.stream_name.clone())
                .unwrap_or_default()
        };
        match item {
            Item::Data(data) => {
                stats().pushed(data.len() as u64, data.frames.into());
                let running_time = || obj.current_running_time();
                let segment = self
                    .started(|started| started.stream.add_data(data, running_time))
                    .flatten();
                if let Some(segment) = segment {
                    gst::debug!(CAT_DATA, imp = self, "{segment:?}");
                    if let Err(error) = obj.new_segment(segment.upcast_ref()) {
                        let message = format!("A segment was refused: {error}");
                        self.fail(&Error::new(ErrorKind::Internal, message));
                        return Err(gst::FlowError::Error);
                    }
                }
            }
            Item::Segment(segment) => {
                self.started(|started| started.stream.set_segment(segment));
            }
            Item::FragmentStart(start) => {
                gst::debug!(CAT_DATA, imp = self, "{start:?}");
                self.started(|started| started.stream.begin(&start));
                // The base class pushes it after the segment and before the next buffer. Not by
                // way of the element's own function: that takes the state lock, which is held by
                // whoever waits for this thread to end.
                self.parent_send_event(messages::fragment_event(&stream_name(), &start));
            }
            Item::FragmentEnd(end) => {
                gst::debug!(CAT_DATA, imp = self, "{end:?}");
                stats().fragment_complete(&end);
                // All of it has been pushed: this thread comes here after the last buffer's return.
                let complete = |started: &mut Started| started.stream.complete(&end);
                if let Some(point) = self.started(complete).flatten() {
                    self.checkpoint(|checkpoint| checkpoint.record(point));
                }
                messages::post_fragment(obj.upcast_ref(), &stream_name(), &end);
            }
            Item::Gap(gap) => {
                gst::info!(CAT_DATA, imp = self, "{gap:?}");
                stats().gap();
                messages::post_gap(obj.upcast_ref(), &gap);
            }
            Item::TracksChanged(change) => {
                gst::info!(CAT_DATA, imp = self, "{change:?}");
                messages::post_tracks_changed(obj.upcast_ref(), &change);
                if !change.compatible && self.follow_tracks.load(Ordering::Relaxed) {
                    self.started(|started| started.stream.forget_opened());
                    self.parent_send_event(messages::tracks_changed_event());
                }
            }
            Item::Opened(opened) => {
                self.started(|started| started.stream.set_opened(opened));
            }
        }
        Ok(())
    }
}

#[glib::object_subclass]
impl ObjectSubclass for KvsGetMediaSrc {
    const NAME: &'static str = "GstKvsGetMediaSrc";
    type Type = super::KvsGetMediaSrc;
    type ParentType = gst_base::PushSrc;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for KvsGetMediaSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        &properties::SPECS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if let Some(property) = properties::find(pspec.name()) {
            property.set(&mut lock(&self.settings), value);
        } else if pspec.name() == "uri"
            && let Ok(Some(uri)) = value.get::<Option<String>>()
        {
            // A property cannot be refused: the start is.
            if let Err(error) = self.set_uri(&uri) {
                gst::error!(CAT, imp = self, "Bad URI: {error}");
                *lock(&self.bad_uri) = Some(error.message().to_owned());
            }
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => {
                let queue_bytes = self.queue().map_or(0, |queue| queue.queued_bytes());
                let stats = lock(&self.stats).snapshot();
                messages::stats_structure(&stats, queue_bytes).to_value()
            }
            "uri" => self.uri().to_value(),
            name => match properties::find(name) {
                Some(property) => property.get(&lock(&self.settings)),
                None => pspec.default_value().clone(),
            },
        }
    }
}

impl GstObjectImpl for KvsGetMediaSrc {}

impl ElementImpl for KvsGetMediaSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Amazon Kinesis Video Streams source",
                "Source/Network",
                "Plays an Amazon Kinesis video stream by GetMedia, live or from its archive, as one \
                 endless Matroska stream that goes on when connections end or break",
                "The kvsgetmediasrc authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst::Caps::new_empty_simple("video/x-matroska");
            let template = gst::PadTemplate::new(
                "src",
                gst::PadDirection::Src,
                gst::PadPresence::Always,
                &caps,
            );
            template.into_iter().collect()
        });
        &TEMPLATES
    }

    fn send_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::FlushStop {
            return self.flush_stop(event);
        }
        self.pass(event, |event| self.parent_send_event(event))
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        // Here rather than in start(), after whose failure the base class adds an error of its own.
        if transition == gst::StateChange::ReadyToPaused {
            self.prepare().map_err(|error| {
                self.fail(&error);
                gst::StateChangeError
            })?;
        }
        let result = self.parent_change_state(transition);
        let ended = transition == gst::StateChange::PausedToReady;
        if ended || (result.is_err() && transition == gst::StateChange::ReadyToPaused) {
            // That of an element that was started is closed by then.
            self.close_checkpoint(Instant::now() + CLOSE_TIMEOUT);
        }
        result
    }
}

impl URIHandlerImpl for KvsGetMediaSrc {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &[SCHEME]
    }

    fn uri(&self) -> Option<String> {
        KvsUri::of(&lock(&self.settings)).map(|uri| uri.to_string())
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        if self.obj().current_state() > gst::State::Ready {
            let message = "The URI can be changed in READY or below only";
            return Err(glib::Error::new(gst::URIError::BadState, message));
        }
        let uri: KvsUri = uri.parse()?;
        uri.apply(&mut lock(&self.settings));
        lock(&self.bad_uri).take();
        Ok(())
    }
}

impl BaseSrcImpl for KvsGetMediaSrc {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        self.start_session()
            .map_err(|error| gst::error_msg!(gst::ResourceError::Failed, ["{error}"]))
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        let state = std::mem::take(&mut *lock(&self.state));
        self.checkpoint(Checkpoint::begin_close);
        self.seeks.clear();
        self.handed.unwatch(self.obj().src_pad());
        if let State::Started(started) = state {
            gst::info!(CAT, imp = self, "Stopping");
            started.queue.close();
            started.session.stop(STOP_TIMEOUT);
            started.progress.cancel(self.obj().upcast_ref());
        }
        self.close_checkpoint(deadline);
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        self.started(|started| !started.plan.session.raw)
            .unwrap_or_else(|| lock(&self.settings).payload == Payload::Continuous)
    }

    fn event(&self, event: &gst::Event) -> bool {
        match event.type_() {
            // Against the stream. After it the base class, which expects it of elements that pull,
            // would not go on.
            gst::EventType::FlushStop => self.flush_stop(event.clone()),
            _ => self.pass(event.clone(), |event| self.parent_event(&event)),
        }
    }

    fn do_seek(&self, segment: &mut gst::Segment) -> bool {
        self.sought(segment)
            .inspect_err(|error| self.fail(error))
            .is_ok()
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            // The base class would start the element to find out.
            gst::QueryViewMut::Scheduling(query) => {
                let flags =
                    gst::SchedulingFlags::SEQUENTIAL | gst::SchedulingFlags::BANDWIDTH_LIMITED;
                query.set(flags, 1, -1, 0);
                query.add_scheduling_modes([gst::PadMode::Push]);
                true
            }
            gst::QueryViewMut::Latency(query) if self.obj().is_live() => {
                let latency = self
                    .started(|started| started.plan.latency)
                    .unwrap_or_else(|| lock(&self.settings).latency());
                query.set(true, clock_time(latency), None);
                true
            }
            gst::QueryViewMut::Seeking(query) if query.format() == gst::Format::Time => {
                let earliest = self.started(|started| started.stream.earliest()).flatten();
                query.set(
                    self.is_seekable(),
                    earliest.unwrap_or(gst::ClockTime::ZERO),
                    now(),
                );
                true
            }
            // It grows as long as the stream does.
            gst::QueryViewMut::Duration(_) => false,
            gst::QueryViewMut::Position(query) if query.format() == gst::Format::Time => {
                match self.started(|started| started.stream.position()).flatten() {
                    Some(position) => {
                        query.set(position);
                        true
                    }
                    None => false,
                }
            }
            _ => BaseSrcImplExt::parent_query(self, query),
        }
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        self.handed.interrupt();
        self.set_flushing(true);
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        self.set_flushing(false);
        Ok(())
    }
}

impl PushSrcImpl for KvsGetMediaSrc {
    fn create(
        &self,
        _buffer: Option<&mut gst::BufferRef>,
    ) -> Result<CreateSuccess, gst::FlowError> {
        let queue = self.queue().ok_or(gst::FlowError::Flushing)?;
        if let Some(buffer) = self.handed.dropped() {
            return Ok(CreateSuccess::NewBuffer(buffer));
        }
        self.started(|started| started.stream.pushed());
        loop {
            // One by one: the base class of 1.22 cannot drop a buffer list when it is stopped.
            if let Some(buffer) = self
                .started(|started| started.stream.next_buffer())
                .flatten()
            {
                self.handed.keep(&buffer);
                return Ok(CreateSuccess::NewBuffer(buffer));
            }
            match queue.pop() {
                Popped::Item(item) => self.handle(item)?,
                Popped::Flushing => return Err(gst::FlowError::Flushing),
                Popped::Eos => {
                    self.checkpoint(Checkpoint::flush);
                    return Err(gst::FlowError::Eos);
                }
                Popped::Error(error) => {
                    self.checkpoint(Checkpoint::flush);
                    self.fail(&error);
                    return Err(gst::FlowError::Error);
                }
            }
        }
    }
}
