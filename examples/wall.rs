//! Plays many streams in one process, and keeps for each the place to go on from.
//!
//! ```text
//! cargo run --example wall -- PLACES < streams.txt
//! examples/shard.sh 0 4 < streams.txt | cargo run --example wall -- PLACES
//! ```
//!
//! Standard input has a stream on each line, none twice: its name, or a kvs:// URI. `PLACES` is a folder
//! that outlives this machine, with a checkpoint for each stream. Each has a pipeline of its own too, so
//! one that fails is started again, where it stopped, and the others never notice.

use gst::prelude::*;
use std::{
    collections::VecDeque,
    error::Error,
    fs, io,
    path::Path,
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

/// How long after a failure a stream is started again. The element has tried for longer than that.
const PAUSE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wall: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a pipeline says, with the number of its stream.
enum News {
    /// A fragment of this number is complete.
    Fragment(usize, String),
    Failed(usize, String),
    Ended(usize),
}

struct Stream {
    uri: String,
    pipeline: gst::Pipeline,
}

fn run() -> Result<(), Box<dyn Error>> {
    let places = std::env::args().nth(1).ok_or("Usage: wall PLACES")?;
    fs::create_dir_all(&places)?;
    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;

    let (sender, news) = mpsc::channel();
    let mut streams = Vec::new();
    for line in io::stdin().lines() {
        let line = line?;
        let uri = match line.trim() {
            "" => continue,
            uri if uri.starts_with("kvs://") => uri.to_owned(),
            name => format!("kvs://{name}"),
        };
        streams.push(Stream::new(
            streams.len(),
            uri,
            places.as_ref(),
            sender.clone(),
        )?);
    }
    for stream in &streams {
        stream.start();
    }
    let mut running = streams.len();
    // Those that failed, and when they are due again, in order.
    let mut failed: VecDeque<(Instant, usize)> = VecDeque::new();
    while running > 0 {
        let pause = match failed.front() {
            Some((due, _)) => due.saturating_duration_since(Instant::now()),
            None => PAUSE,
        };
        match news.recv_timeout(pause) {
            Ok(News::Fragment(index, number)) => println!("{} {number}", streams[index].uri),
            Ok(News::Failed(index, why)) => {
                eprintln!("{}: {why}", streams[index].uri);
                streams[index].pipeline.set_state(gst::State::Null)?;
                failed.push_back((Instant::now() + PAUSE, index));
            }
            Ok(News::Ended(index)) => {
                streams[index].pipeline.set_state(gst::State::Null)?;
                running -= 1;
            }
            Err(RecvTimeoutError::Timeout) => {
                while let Some((_, index)) = failed.pop_front_if(|(due, _)| *due <= Instant::now())
                {
                    streams[index].start();
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(())
}

impl Stream {
    fn new(
        index: usize,
        uri: String,
        places: &Path,
        news: mpsc::Sender<News>,
    ) -> Result<Stream, Box<dyn Error>> {
        let source = gst::ElementFactory::make("kvsgetmediasrc")
            .property("uri", &uri)
            .build()?;
        let stream = ["stream-arn", "stream-name"]
            .into_iter()
            .find_map(|name| source.property::<Option<String>>(name))
            .ok_or("a URI names a stream")?;
        // An ARN has slashes.
        let file: String = url::form_urlencoded::byte_serialize(stream.as_bytes()).collect();
        let place = places.join(file).with_added_extension("json");
        source.set_property("checkpoint-location", place.to_str());
        // What you do with the stream stands here instead.
        let sink = gst::ElementFactory::make("fakesink").build()?;
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([&source, &sink])?;
        source.link(&sink)?;
        let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
        // One thread hears them all.
        bus.set_sync_handler(move |_, message| {
            let told = match message.view() {
                gst::MessageView::Eos(_) => Some(News::Ended(index)),
                gst::MessageView::Error(error) => {
                    Some(News::Failed(index, error.error().to_string()))
                }
                _ if message.has_name("kvs-fragment") => message
                    .structure()
                    .and_then(|fragment| fragment.get("fragment-number").ok())
                    .map(|number| News::Fragment(index, number)),
                _ => None,
            };
            if let Some(told) = told {
                let _ = news.send(told);
            }
            gst::BusSyncReply::Drop
        });
        Ok(Stream { uri, pipeline })
    }

    /// Starts it where it stopped, or where its URI says if it never ran.
    fn start(&self) {
        // What goes wrong here comes as a message.
        let _ = self.pipeline.set_state(gst::State::Playing);
    }
}
