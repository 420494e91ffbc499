//! Goes through every step from the settings to the first frame, and says where it ends and what to
//! do about that.

use crate::{Event, args::Args, source};
use gst::prelude::*;
use std::{
    error::Error,
    fmt,
    io::{self, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

/// In the order in which they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Settings,
    Region,
    Credentials,
    Endpoint,
    Connect,
    Fragment,
    Frame,
}

const STEPS: [Step; 7] = [
    Step::Settings,
    Step::Region,
    Step::Credentials,
    Step::Endpoint,
    Step::Connect,
    Step::Fragment,
    Step::Frame,
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Step::Settings => "settings",
            Step::Region => "region",
            Step::Credentials => "credentials",
            Step::Endpoint => "endpoint",
            Step::Connect => "connect",
            Step::Fragment => "fragment",
            Step::Frame => "frame",
        })
    }
}

/// What ended the check.
struct Failure {
    step: Step,
    text: String,
    mend: String,
    /// Whether the service answered: if it did not, nobody has looked at the credentials.
    answered: bool,
}

/// Says how each step went, in order.
#[derive(Default)]
struct Report {
    done: usize,
}

impl Report {
    /// The step not yet taken.
    fn next(&self) -> Option<Step> {
        STEPS.get(self.done).copied()
    }

    /// This step went well, and with it all before.
    fn ok(&mut self, step: Step, detail: &str) {
        while let Some(next) = self.next().filter(|next| *next <= step) {
            line("ok", next, if next == step { detail } else { "" });
            self.done += 1;
        }
    }

    fn failed(&mut self, failure: &Failure) {
        while let Some(next) = self.next().filter(|next| *next < failure.step) {
            match next {
                Step::Credentials if !failure.answered => {
                    line("?", next, "not proved: the service gave no answer");
                }
                _ => line("ok", next, ""),
            }
            self.done += 1;
        }
        line("FAILED", failure.step, &failure.text);
        line("", "mend", &failure.mend);
    }
}

fn line(result: &str, what: impl fmt::Display, detail: &str) {
    let text = format!("{result:8}{what:13}{detail}");
    // Where nobody reads, the exit status still tells.
    let _ = writeln!(io::stdout(), "{}", text.trim_end());
}

/// Whether the stream can be played.
pub fn run(
    args: &Args,
    timeout: Duration,
    sender: Sender<Event>,
    events: Receiver<Event>,
) -> Result<bool, Box<dyn Error>> {
    // Whoever checks wants to hear soon what is wrong.
    let mut settings = vec![("max-retries".to_owned(), "1".to_owned())];
    settings.extend_from_slice(&args.settings);
    let mut report = Report::default();
    let source = match source::source(&args.streams[0], &settings) {
        Ok(source) => source,
        Err(error) => {
            report.failed(&Failure {
                step: Step::Settings,
                text: error.to_string(),
                mend: mend(Step::Settings, None, None, &args.streams[0]),
                answered: false,
            });
            return Ok(false);
        }
    };
    let pipeline = demuxed(&source, sender)?;
    let started = pipeline.set_state(gst::State::Playing).is_ok();
    let outcome = follow(&source, started, timeout, &events, &mut report);
    pipeline.set_state(gst::State::Null)?;
    if let Err(failure) = &outcome {
        report.failed(failure);
    }
    Ok(outcome.is_ok())
}

/// The source with a demuxer behind it, which tell of the first fragment and of frames.
fn demuxed(source: &gst::Element, sender: Sender<Event>) -> Result<gst::Pipeline, Box<dyn Error>> {
    let demuxer = gst::ElementFactory::make("matroskademux").build()?;
    let pipeline = source::pipeline(&[source, &demuxer], 0, sender.clone())?;
    source.link(&demuxer)?;

    let fragments = sender.clone();
    let pad = source.static_pad("src").ok_or("a source has a pad")?;
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let structure = info.event().and_then(|event| event.structure());
        if let Some(structure) = structure.filter(|structure| structure.name() == "kvs-fragment")
            && let Ok(number) = structure.get::<String>("fragment-number")
        {
            let _ = fragments.send(Event::Fragment(number));
        }
        gst::PadProbeReturn::Ok
    });

    let weak = pipeline.downgrade();
    demuxer.connect_pad_added(move |_, pad| {
        let frames = sender.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
            let caps = pad.current_caps();
            let caps = caps.as_ref().and_then(|caps| caps.structure(0));
            let _ = frames.send(Event::Frame(caps.map_or_else(String::new, describe)));
            gst::PadProbeReturn::Remove
        });
        let sink = gst::ElementFactory::make("fakesink").property("async", false);
        if let (Some(pipeline), Ok(sink)) = (weak.upgrade(), sink.build())
            && pipeline.add(&sink).is_ok()
            && let Some(to) = sink.static_pad("sink")
        {
            let _ = pad.link(&to);
            let _ = sink.sync_state_with_parent();
        }
    });
    Ok(pipeline)
}

/// `video/x-h264 1280x720`, or `audio/mpeg 48000 Hz`.
fn describe(caps: &gst::StructureRef) -> String {
    let number = |name| caps.get::<i32>(name).ok();
    let size = number("width").zip(number("height"));
    let size = size.map(|(width, height)| format!(" {width}x{height}"));
    let rate = number("rate").map(|rate| format!(" {rate} Hz"));
    let detail = size.or(rate).unwrap_or_default();
    format!("{}{detail}", caps.name())
}

/// Reports each step until the first frame.
fn follow(
    source: &gst::Element,
    started: bool,
    timeout: Duration,
    events: &Receiver<Event>,
    report: &mut Report,
) -> Result<(), Failure> {
    let stream = source.property::<Option<String>>("stream-name");
    let stream = stream.unwrap_or_else(|| "the stream".to_owned());
    // With a data endpoint of the user's own, nothing is asked before GetMedia.
    let is_given = source
        .property::<Option<String>>("data-endpoint-url")
        .is_some();
    let deadline = Instant::now() + timeout;
    loop {
        let event = match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Err(too_late(report, timeout, &stream)),
            Err(RecvTimeoutError::Disconnected) => Event::Stop,
        };
        let message = match event {
            Event::Message(_, message) => message,
            Event::Fragment(number) => {
                report.ok(Step::Fragment, &number);
                continue;
            }
            Event::Frame(frame) => {
                report.ok(Step::Frame, &frame);
                return Ok(());
            }
            Event::Stop => {
                let step = report.next().unwrap_or(Step::Frame);
                return Err(Failure {
                    step,
                    text: "interrupted".to_owned(),
                    mend: "check again".to_owned(),
                    answered: step > Step::Endpoint,
                });
            }
        };
        match message.view() {
            gst::MessageView::Progress(progress) => match progress.get() {
                (gst::ProgressType::Start, "endpoint", _) => report.ok(Step::Region, ""),
                (gst::ProgressType::Complete, "endpoint", text) if !is_given => {
                    report.ok(Step::Endpoint, text);
                }
                (gst::ProgressType::Complete, "connect", text) => report.ok(Step::Connect, text),
                _ => {}
            },
            gst::MessageView::Error(error) => return Err(explain(error, started, report, &stream)),
            gst::MessageView::Eos(_) => {
                let step = report.next().unwrap_or(Step::Frame);
                return Err(Failure {
                    step,
                    text: "the stream has ended".to_owned(),
                    mend: mend(step, None, None, &stream),
                    answered: true,
                });
            }
            _ => {}
        }
    }
}

fn too_late(report: &Report, timeout: Duration, stream: &str) -> Failure {
    let step = report.next().unwrap_or(Step::Frame);
    Failure {
        step,
        text: format!("nothing within {timeout:?}"),
        mend: mend(step, None, None, stream),
        answered: step > Step::Endpoint,
    }
}

/// Codes of errors about who asks, whichever call they are an answer to.
const ABOUT_CREDENTIALS: [&str; 9] = [
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "ExpiredToken",
    "ExpiredTokenException",
    "MissingAuthenticationToken",
];

/// Which step an error is about, and what to do.
fn explain(error: &gst::message::Error, started: bool, report: &Report, stream: &str) -> Failure {
    let details = error.details();
    let field = |name: &str| details.and_then(|details| details.get::<&str>(name).ok());
    let (operation, code) = (field("operation"), field("error-code"));
    let next = report.next().unwrap_or(Step::Frame);
    let step = match operation {
        // An element that refuses to start does not like its settings.
        None if !started => Step::Settings,
        Some("Credentials") => Step::Credentials,
        Some(_) if code.is_some_and(|code| ABOUT_CREDENTIALS.contains(&code)) => Step::Credentials,
        Some("GetDataEndpoint") => Step::Endpoint,
        Some("GetMedia") => next.max(Step::Connect),
        _ => next.max(Step::Region),
    };
    let status = details.and_then(|details| details.get::<u32>("http-status").ok());
    Failure {
        // What went well before is past.
        step: step.max(next),
        text: error.error().to_string(),
        mend: mend(step, operation, code, stream),
        answered: status.is_some(),
    }
}

/// What to do, by what the service said, or else by the step.
fn mend(step: Step, operation: Option<&str>, code: Option<&str>, stream: &str) -> String {
    let known = match code.unwrap_or_default() {
        "InvalidSignatureException" | "SignatureDoesNotMatch" => {
            "give the secret that belongs to the access key (AWS_SECRET_ACCESS_KEY, or its profile)"
        }
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" => {
            "use an access key that exists: `aws sts get-caller-identity` tells whether yours does"
        }
        "ExpiredToken" | "ExpiredTokenException" => {
            "get new temporary credentials, for example by `aws sso login`"
        }
        "ResourceNotFoundException" => {
            "`aws kinesisvideo list-streams` shows the streams of this account and region; \
             --set aws-region=NAME asks in another"
        }
        "NotAuthorizedException" | "AccessDeniedException" => {
            return format!(
                "allow kinesisvideo:{} on {stream} to the identity that \
                 `aws sts get-caller-identity` shows",
                operation.unwrap_or("GetDataEndpoint and kinesisvideo:GetMedia")
            );
        }
        "ClientLimitExceededException" | "ConnectionLimitExceededException" => {
            "stop another reader: a stream takes 3 connections and 5 calls a second"
        }
        _ => match step {
            Step::Settings => "`gst-inspect-1.0 kvsgetmediasrc` describes every property",
            Step::Region => "set AWS_REGION, or --set aws-region=NAME, such as eu-west-1",
            Step::Credentials => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in by `aws sso login`, or \
                 --set profile=NAME"
            }
            Step::Endpoint | Step::Connect => {
                "check the network and its proxy (HTTPS_PROXY), aws-region, and the endpoint-url \
                 and data-endpoint-url that are set"
            }
            Step::Fragment => {
                "see that the producer is sending; --set start-selector=earliest asks for what is \
                 kept"
            }
            Step::Frame => "see what the producer sends: it must be media that matroskademux reads",
        },
    };
    known.to_owned()
}
