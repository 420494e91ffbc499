//! Those who take paced streams, many in one process: when each frame comes out, and what it costs.

use crate::{
    Failure,
    measure::{self, Usage},
    pacer::Stamp,
    sdk,
};
use bytes::Bytes;
use gst::prelude::*;
use memchr::memmem::Finder;
use std::{
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// A frame that comes so long after it was due is late, in nanoseconds.
const LATE: u64 = 500_000_000;

/// How long streams may take to begin, and how long they then run before anything is measured.
const PATIENCE: Duration = Duration::from_secs(120);
const SETTLE: Duration = Duration::from_secs(2);

/// Whether what comes now counts.
static COUNTS: AtomicBool = AtomicBool::new(false);
static BEGUN: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);

static MARK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&Stamp::MARK));

/// What has come of one stream.
#[derive(Default)]
pub struct Watch {
    /// The last bytes, which may be the beginning of a stamp.
    tail: Vec<u8>,
    /// When the latest frame was due.
    latest: Option<u64>,
    frames: u64,
    late: u64,
    /// Of those, the ones that were sent late.
    sent_late: u64,
    worst: u64,
    /// From sending to here, in microseconds, if anybody wants them all.
    delays: Option<Vec<u32>>,
}

impl Watch {
    /// When the latest frame to have come was due.
    pub fn latest(&self) -> Option<u64> {
        self.latest
    }

    /// Bytes have come at `now`.
    pub fn take(&mut self, now: u64, bytes: &[u8]) {
        let keep = Stamp::LEN - 1;
        if !self.tail.is_empty() {
            let mut joint = std::mem::take(&mut self.tail);
            let old = joint.len();
            joint.extend_from_slice(&bytes[..bytes.len().min(keep)]);
            for at in MARK.find_iter(&joint) {
                if at < old && joint.len() - at >= Stamp::LEN {
                    self.frame(now, &joint[at..]);
                }
            }
            joint.drain(..joint.len().saturating_sub(keep));
            self.tail = joint;
        }
        for at in MARK.find_iter(bytes) {
            self.frame(now, &bytes[at..]);
        }
        if bytes.len() >= keep {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - keep..]);
        } else if self.tail.is_empty() {
            self.tail.extend_from_slice(bytes);
        }
    }

    fn frame(&mut self, now: u64, stamp: &[u8]) {
        // One that is cut is found again with what follows.
        let Some(stamp) = Stamp::read(stamp) else {
            return;
        };
        if self.latest.replace(stamp.due).is_none() {
            BEGUN.fetch_add(1, Relaxed);
        }
        if !COUNTS.load(Relaxed) {
            return;
        }
        self.frames += 1;
        let behind = now.saturating_sub(stamp.due);
        self.worst = self.worst.max(behind);
        if behind > LATE {
            self.late += 1;
            self.sent_late += u64::from(stamp.sent.saturating_sub(stamp.due) > LATE);
        }
        if let Some(delays) = &mut self.delays {
            delays.push((now.saturating_sub(stamp.sent) / 1000) as u32);
        }
    }
}

type Watches = Vec<Arc<Mutex<Watch>>>;

fn take(watch: &Mutex<Watch>, now: u64, bytes: &[u8]) {
    if let Ok(mut watch) = watch.lock() {
        watch.take(now, bytes);
    }
}

/// `consume paced KIND CONTROL-URL MEDIA-URL STREAMS READERS SECONDS`: figures as `measure` reads them.
/// So many readers share a stream.
pub fn main(args: &[&str]) -> Result<(), Failure> {
    let [kind, control, media, streams, readers, seconds] = args else {
        return Err("consume paced KIND CONTROL MEDIA STREAMS READERS SECONDS".into());
    };
    measure::allow_files()?;
    let (streams, readers): (usize, usize) = (streams.parse()?, readers.parse()?);
    let keeps_delays = streams <= 100;
    let watches: Watches = (0..streams)
        .map(|_| {
            Arc::new(Mutex::new(Watch {
                delays: keeps_delays.then(|| Vec::with_capacity(1 << 16)),
                ..Watch::default()
            }))
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;
    let name = |index: usize| format!("cam-{}", index / readers.max(1));
    let kvs = |index: usize| {
        format!(
            "kvsgetmediasrc name=src stream-name={} aws-region=us-east-1 access-key=AKIDEXAMPLE \
             secret-key=example endpoint-url={control} ! fakesink",
            name(index)
        )
    };
    let soup = |_| format!("souphttpsrc name=src location={media} ! fakesink");
    if *kind == "soup" {
        // Its library is not the streams' to pay for.
        gst::ElementFactory::find("souphttpsrc")
            .ok_or("no souphttpsrc")?
            .load()?;
    }
    let without = Usage::now()?;
    let start = Instant::now();
    let pipelines = match *kind {
        "sdk" | "sdk-thread" | "sdk-appsrc" => {
            let client = sdk::media(media);
            let pipelines = match *kind {
                "sdk-appsrc" => play(&watches, |_| "appsrc name=src ! fakesink".to_owned())?,
                _ => Vec::new(),
            };
            for (index, watch) in watches.iter().enumerate() {
                let hand_over = match *kind {
                    "sdk-thread" => to_thread(watch.clone()),
                    "sdk-appsrc" => to_appsrc(&pipelines[index])?,
                    _ => to_watch(watch.clone()),
                };
                let (client, name) = (client.clone(), name(index));
                runtime.spawn(async move {
                    if let Err(error) = drain(&client, &name, hand_over).await {
                        failed(&error.to_string());
                    }
                });
            }
            pipelines
        }
        "kvs" => play(&watches, kvs)?,
        "soup" => play(&watches, soup)?,
        _ => return Err(format!("unknown kind: {kind}").into()),
    };
    while BEGUN.load(Relaxed) < streams as u64 && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    let begun = start.elapsed();
    thread::sleep(SETTLE);
    COUNTS.store(true, Relaxed);
    let before = Usage::now()?;
    let counted = Instant::now();
    thread::sleep(Duration::from_secs(seconds.parse()?));
    COUNTS.store(false, Relaxed);
    let counted = counted.elapsed().as_secs_f64();
    let after = Usage::now()?;

    let mut delays = Vec::new();
    let (mut frames, mut late, mut sent_late, mut worst, mut silent) = (0, 0, 0, 0, 0);
    for watch in &watches {
        let mut watch = watch.lock().map_err(|_| "a watch panicked")?;
        delays.extend(watch.delays.take().unwrap_or_default());
        frames += watch.frames;
        late += watch.late;
        sent_late += watch.sent_late;
        worst = worst.max(watch.worst);
        silent += u64::from(watch.frames == 0);
    }
    delays.sort_unstable();
    let part = |part: f64| {
        let at = (delays.len() as f64 * part) as usize;
        delays
            .get(at.min(delays.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0)
    };
    let cpu = (after.cpu - before.cpu).as_secs_f64();
    for (name, figure) in [
        ("begun", BEGUN.load(Relaxed) as f64),
        ("begun-after", begun.as_secs_f64()),
        ("failed", FAILED.load(Relaxed) as f64),
        ("frames", frames as f64 / counted),
        ("late", late as f64),
        ("sent-late", sent_late as f64),
        ("silent", silent as f64),
        ("worst", worst as f64 / 1e9),
        ("median", part(0.5).into()),
        ("p99", part(0.99).into()),
        ("cpu", cpu / counted),
        ("threads", after.threads as f64),
        ("threads-without", without.threads as f64),
        ("resident", after.resident as f64),
        ("resident-without", without.resident as f64),
    ] {
        println!("{name} {figure}");
    }
    // Whoever wants to look at the process meanwhile.
    if let Ok(program) = std::env::var("KVS_BENCH_AT_END") {
        let id = std::process::id().to_string();
        std::process::Command::new("sh")
            .args(["-c", &program, "sh", &id])
            .status()?;
    }
    for pipeline in pipelines {
        pipeline.set_state(gst::State::Null)?;
    }
    Ok(())
}

fn failed(error: &str) {
    if FAILED.fetch_add(1, Relaxed) == 0 {
        eprintln!("{error}");
    }
}

/// A pipeline for each stream.
fn play(
    watches: &Watches,
    describe: impl Fn(usize) -> String,
) -> Result<Vec<gst::Element>, Failure> {
    let mut pipelines = Vec::new();
    for (index, watch) in watches.iter().enumerate() {
        let pipeline = gst::parse::launch(&describe(index))?;
        let bin = pipeline.downcast_ref::<gst::Bin>().ok_or("no pipeline")?;
        let src = bin.by_name("src").ok_or("no source")?;
        let watch = watch.clone();
        src.static_pad("src").ok_or("no pad")?.add_probe(
            gst::PadProbeType::BUFFER,
            move |_, info| {
                let now = measure::now().unwrap_or_default();
                for memory in info
                    .buffer()
                    .into_iter()
                    .flat_map(|buffer| buffer.iter_memories())
                {
                    if let Ok(bytes) = memory.map_readable() {
                        take(&watch, now, &bytes);
                    }
                }
                gst::PadProbeReturn::Ok
            },
        );
        // Nobody else takes messages out.
        pipeline
            .bus()
            .ok_or("no bus")?
            .set_sync_handler(|_, message| {
                if let gst::MessageView::Error(error) = message.view() {
                    failed(&format!("{}: {:?}", error.error(), error.debug()));
                }
                gst::BusSyncReply::Drop
            });
        pipelines.push(pipeline);
    }
    for pipeline in &pipelines {
        pipeline.set_state(gst::State::Playing)?;
    }
    Ok(pipelines)
}

/// What is done with each chunk of a body.
pub type HandOver = Box<dyn FnMut(Bytes) -> Result<(), Failure> + Send>;

fn to_watch(watch: Arc<Mutex<Watch>>) -> HandOver {
    Box::new(move |chunk| {
        take(&watch, measure::now()?, &chunk);
        Ok(())
    })
}

/// A thread that takes chunks, as a source's streaming thread has to.
fn to_thread(watch: Arc<Mutex<Watch>>) -> HandOver {
    let (sender, receiver) = mpsc::channel::<Bytes>();
    thread::spawn(move || {
        for chunk in receiver {
            take(&watch, measure::now().unwrap_or_default(), &chunk);
        }
    });
    Box::new(move |chunk| Ok(sender.send(chunk)?))
}

/// The shortest way from the SDK into a pipeline.
pub fn to_appsrc(pipeline: &gst::Element) -> Result<HandOver, Failure> {
    let bin = pipeline.downcast_ref::<gst::Bin>();
    let src = bin.and_then(|bin| bin.by_name("src")).ok_or("no source")?;
    let src = src.downcast::<gst_app::AppSrc>().map_err(|_| "no appsrc")?;
    Ok(Box::new(move |chunk| {
        src.push_buffer(gst::Buffer::from_slice(chunk))?;
        Ok(())
    }))
}

/// Reads a body to its end.
pub async fn drain(
    client: &sdk::Client,
    name: &str,
    mut hand_over: HandOver,
) -> Result<(), Failure> {
    let mut body = sdk::get_media(client, name).await?;
    while let Some(chunk) = body.try_next().await? {
        hand_over(chunk)?;
    }
    Ok(())
}
