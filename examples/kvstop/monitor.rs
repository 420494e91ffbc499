//! Follows streams: what came of each, from its messages and the property `stats`.

use crate::{Event, args::Args, source};
use gst::prelude::*;
use std::{
    collections::VecDeque,
    error::Error,
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

/// Over how long the bitrate is taken: several fragments, since they come in bursts.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Where what happens is shown.
pub trait View {
    /// How often [`View::update`] is called, unless the user says otherwise.
    const INTERVAL: Duration;

    /// A message of the source, by its structure.
    fn message(&mut self, stream: &Stream, message: &gst::StructureRef) -> io::Result<()>;
    /// The stream has come to an end, for better or worse.
    fn end(&mut self, stream: &Stream) -> io::Result<()>;
    /// An interval has passed.
    fn update(&mut self, streams: &[Stream]) -> io::Result<()>;
    /// Nothing more will come.
    fn finish(&mut self, streams: &[Stream]) -> io::Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Opening,
    Playing,
    Ended,
    Failed,
}

/// A stream, and what is known of it.
pub struct Stream {
    pub name: String,
    pub state: State,
    /// The structure `kvs-stats`.
    pub stats: gst::Structure,
    pub reconnects: u64,
    /// In bits a second, once it can be told.
    pub bitrate: Option<u64>,
    /// What went wrong last.
    pub trouble: Option<String>,
    /// The details of the error that ended it.
    pub error: Option<gst::Structure>,
    /// When how many bytes had come.
    samples: VecDeque<(Instant, u64)>,
    source: gst::Element,
    pipeline: gst::Pipeline,
}

impl Stream {
    fn new(
        index: usize,
        stream: &str,
        args: &Args,
        sender: Sender<Event>,
    ) -> Result<Stream, Box<dyn Error>> {
        let source = source::source(stream, &args.settings)?;
        let sink = gst::ElementFactory::make("fakesink")
            .property("sync", false)
            .property("enable-last-sample", false)
            .build()?;
        let pipeline = source::pipeline(&[&source, &sink], index, sender)?;
        source.link(&sink)?;
        Ok(Stream {
            name: source::name(stream).to_owned(),
            state: State::Opening,
            stats: source.property("stats"),
            reconnects: 0,
            bitrate: None,
            trouble: None,
            error: None,
            samples: VecDeque::new(),
            source,
            pipeline,
        })
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended | State::Failed)
    }

    /// A counter of the statistics.
    pub fn count(&self, name: &str) -> u64 {
        self.stats.get(name).unwrap_or_default()
    }

    /// How long no byte has come; `None` before the first.
    pub fn quiet(&self) -> Option<Duration> {
        let (_, latest) = self.samples.back()?;
        // As long as nothing comes, the samples that would leave the window stay.
        let (since, _) = self.samples.iter().find(|(_, bytes)| bytes == latest)?;
        (*latest > 0).then(|| since.elapsed())
    }

    fn refresh(&mut self, now: Instant) {
        self.stats = self.source.property("stats");
        let bytes = self.count("bytes-received");
        if !self.has_ended() {
            self.samples.push_back((now, bytes));
        }
        while let [(first, _), (second, later), ..] = *self.samples.make_contiguous()
            && now - second > RATE_WINDOW
            && later < bytes
            && first < second
        {
            self.samples.pop_front();
        }
        self.bitrate = match (self.samples.front(), self.samples.back()) {
            (Some((from, before)), Some((to, after))) if to > from => {
                Some(((after - before) as f64 * 8.0 / (*to - *from).as_secs_f64()) as u64)
            }
            _ => None,
        };
    }

    /// Takes note of a message of the source.
    fn note(&mut self, message: &gst::StructureRef) {
        match message.name().as_str() {
            "kvs-fragment" => self.state = State::Playing,
            "kvs-reconnect" => {
                self.reconnects += 1;
                match message.get::<String>("reason") {
                    // That is how every connection ends sooner or later.
                    Ok(reason) if reason == "rotated" => {}
                    Ok(reason) => self.trouble = Some(format!("reconnect: {reason}")),
                    Err(_) => {}
                }
            }
            "kvs-gap" => {
                let kind = message.get::<String>("kind").unwrap_or_default();
                self.trouble = Some(format!("gap: {kind}"));
            }
            _ => {}
        }
    }

    fn stop(&mut self, state: State) {
        self.state = state;
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Follows all streams until each has ended or the user has had enough. Whether none has failed.
pub fn run<V: View>(
    args: &Args,
    mut view: V,
    sender: Sender<Event>,
    events: Receiver<Event>,
) -> Result<bool, Box<dyn Error>> {
    let mut streams = Vec::new();
    for (index, name) in args.streams.iter().enumerate() {
        streams.push(Stream::new(index, name, args, sender.clone())?);
    }
    for stream in &streams {
        // What goes wrong here comes as a message.
        let _ = stream.pipeline.set_state(gst::State::Playing);
    }
    match follow(&mut streams, args, &mut view, &events) {
        // Nobody reads on: no fault of the streams.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result?,
    }
    Ok(streams.iter().all(|stream| stream.state != State::Failed))
}

fn follow<V: View>(
    streams: &mut [Stream],
    args: &Args,
    view: &mut V,
    events: &Receiver<Event>,
) -> io::Result<()> {
    let interval = args.interval.unwrap_or(V::INTERVAL);
    let mut next = Instant::now();
    while !streams.iter().all(Stream::has_ended) {
        let now = Instant::now();
        if now >= next {
            streams.iter_mut().for_each(|stream| stream.refresh(now));
            view.update(streams)?;
            next = now + interval;
        }
        match events.recv_timeout(next.saturating_duration_since(now)) {
            Ok(Event::Message(index, message)) => handle(&mut streams[index], &message, view)?,
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
    streams.iter_mut().for_each(|s| s.refresh(Instant::now()));
    view.finish(streams)
}

fn handle<V: View>(stream: &mut Stream, message: &gst::Message, view: &mut V) -> io::Result<()> {
    if stream.has_ended() {
        return Ok(());
    }
    match message.view() {
        gst::MessageView::Element(element) => match element.structure() {
            Some(structure) if structure.name().starts_with("kvs-") => {
                stream.note(structure);
                view.message(stream, structure)
            }
            _ => Ok(()),
        },
        gst::MessageView::Eos(_) => {
            stream.stop(State::Ended);
            view.end(stream)
        }
        gst::MessageView::Error(error) => {
            stream.trouble = Some(error.error().to_string());
            stream.error = error.details().map(|details| details.to_owned());
            stream.stop(State::Failed);
            view.end(stream)
        }
        _ => Ok(()),
    }
}
