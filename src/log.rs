//! What the AWS SDK and the connections below it say, in GStreamer's category `kvs-aws`.
//!
//! They speak through `tracing`, to whichever subscriber the current thread has. Ours is set on the
//! threads of our own [`runtime`](crate::runtime) only, so that an application keeps its own, which
//! also goes on hearing what it heard before: each span and event is handed on to it.
//!
//! | level of `kvs-aws` | shows |
//! |---|---|
//! | 2, warning | what the SDK warns of: configuration files that are missing or wrong |
//! | 4, info | each call and its answer, with the service's request id |
//! | 5, debug | the SDK's steps between them, such as where credentials were found |
//! | 6, log | connections: made, kept, closed |
//!
//! The SDK's `trace` level is left out: it holds whole requests and answers, signed headers and the
//! credentials in them. So that nothing of the kind comes by another way, a text that looks like one
//! is not shown either.

use crate::aws;
use gst::{
    DebugLogger,
    glib::{self, GString},
};
use std::{
    cell::Cell,
    fmt::{self, Write},
    sync::{LazyLock, OnceLock},
};
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    dispatcher::{self, DefaultGuard},
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "kvs-aws",
        gst::DebugColorFlags::empty(),
        Some("Kinesis Video Streams source: the AWS SDK"),
    )
});

/// What a request or an answer holds and no log may, in lower case.
const NEVER_SHOWN: [&str; 10] = [
    "signature=",
    "aws4-hmac-sha256",
    "security-token",
    "bearer ",
    "bearer_token",
    "secretaccesskey",
    "secret_access_key",
    "sessiontoken",
    "session_token",
    "external_id: some(",
];

/// No line gets longer.
const LONGEST_LINE: usize = 2000;

thread_local! {
    static SCOPE: Cell<Option<DefaultGuard>> = const { Cell::new(None) };
}

/// From now on, what is said on this thread goes into the category.
pub(crate) fn listen() {
    static BRIDGE: OnceLock<Dispatch> = OnceLock::new();
    let bridge = BRIDGE.get_or_init(|| {
        // On a thread of ours: the one that the application has set for all.
        let application = dispatcher::get_default(Dispatch::clone);
        Dispatch::new(Bridge { application })
    });
    SCOPE.set(Some(dispatcher::set_default(bridge)));
}

/// The level in GStreamer's terms; `None`: not for us.
fn level(metadata: &Metadata<'_>) -> Option<gst::DebugLevel> {
    use gst::DebugLevel as Gst;
    let root = metadata.target().split("::").next().unwrap_or_default();
    let is_transport = matches!(root, "h2" | "hyper" | "hyper_util" | "rustls");
    if !metadata.is_event() || !is_transport && root != aws::LOG && !root.starts_with("aws_") {
        return None;
    }
    match *metadata.level() {
        Level::ERROR if is_transport => Some(Gst::Info),
        Level::ERROR => Some(Gst::Error),
        Level::WARN if is_transport => Some(Gst::Info),
        Level::WARN => Some(Gst::Warning),
        Level::INFO if is_transport => Some(Gst::Log),
        Level::INFO => Some(Gst::Info),
        Level::DEBUG if is_transport => Some(Gst::Log),
        Level::DEBUG => Some(Gst::Debug),
        _ => None,
    }
}

struct Bridge {
    /// What the application has set; nothing, if it has not.
    application: Dispatch,
}

impl Subscriber for Bridge {
    /// Thresholds change while the program runs, so whether one of ours is wanted is asked each
    /// time. There are some dozens of them a call, and none for the bytes of a body.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match level(metadata) {
            Some(_) => Interest::sometimes(),
            None => self.application.register_callsite(metadata),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // The application's own hint is asked for besides.
        Some(LevelFilter::DEBUG)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        level(metadata).is_some_and(|level| CAT.above_threshold(level))
            || self.application.enabled(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        if let Some(level) = level(metadata)
            && CAT.above_threshold(level)
        {
            say(level, event);
        }
        if self.application.enabled(metadata) {
            self.application.event(event);
        }
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        self.application.new_span(attributes)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        self.application.record(span, values);
    }

    fn record_follows_from(&self, span: &span::Id, follows: &span::Id) {
        self.application.record_follows_from(span, follows);
    }

    fn enter(&self, span: &span::Id) {
        self.application.enter(span);
    }

    fn exit(&self, span: &span::Id) {
        self.application.exit(span);
    }

    fn clone_span(&self, id: &span::Id) -> span::Id {
        self.application.clone_span(id)
    }

    fn try_close(&self, id: span::Id) -> bool {
        self.application.try_close(id)
    }
}

fn say(level: gst::DebugLevel, event: &Event<'_>) {
    let metadata = event.metadata();
    let mut line = Line::default();
    event.record(&mut line);
    let text = shown(&(line.message + &line.fields));
    let path = metadata.file().unwrap_or_default();
    let file = GString::from(path.rsplit(['/', '\\']).next().unwrap_or(path));
    let call = aws::current_call();
    let call = call.as_deref().unwrap_or_default();
    CAT.log(
        None::<&glib::Object>,
        level,
        file.as_gstr(),
        metadata.target(),
        metadata.line().unwrap_or_default(),
        format_args!("{call}{text}"),
    );
}

/// The text as it may stand in a log.
fn shown(text: &str) -> String {
    let mut text = aws::without_secrets(text);
    let lower = text.to_ascii_lowercase();
    if NEVER_SHOWN.iter().any(|word| lower.contains(word)) {
        return "(not shown: it may hold credentials)".into();
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST_LINE) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// An event's message, and its other fields as ` name=value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_credential_is_not_shown() {
        for text in [
            "request=Request { headers: {\"authorization\": \"AWS4-HMAC-SHA256 Credential=AK/x\"",
            "x-amz-security-token: hush",
            "<SecretAccessKey>hush</SecretAccessKey>",
            "{\"sessionToken\":\"hush\"}",
            "authorization: Bearer hush",
        ] {
            assert_eq!(shown(text), "(not shown: it may hold credentials)");
        }
        assert_eq!(shown("loaded identity"), "loaded identity");
        assert!(shown(&"é".repeat(5000)).chars().count() == LONGEST_LINE + 1);
    }
}
