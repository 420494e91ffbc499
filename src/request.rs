//! What GetMedia can be asked for.

use std::fmt;

/// The stream: exactly one of its two names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StreamId {
    /// `StreamName`
    Name(String),
    /// `StreamARN`
    Arn(String),
}

impl StreamId {
    /// The stream's name; of an ARN (`arn:…:stream/NAME/CREATION-TIME`) the part that names it.
    pub fn name(&self) -> &str {
        match self {
            StreamId::Name(name) => name,
            StreamId::Arn(arn) => arn.split('/').nth(1).unwrap_or(arn),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamId::Name(text) | StreamId::Arn(text) => f.write_str(text),
        }
    }
}

/// What the service takes for the number of a fragment.
pub fn is_fragment_number(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// What the service takes for a continuation token.
pub fn is_continuation_token(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

/// `StartSelector`: where the service begins. Delivery always starts at a fragment boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The latest fragment.
    Now,
    /// The oldest fragment kept.
    Earliest,
    /// The fragment *after* the one of this number.
    AfterFragment(String),
    /// The fragment that holds this producer time, in milliseconds since the Unix epoch.
    ProducerTimestamp(u64),
    /// The fragment that holds this server time, in milliseconds since the Unix epoch.
    ServerTimestamp(u64),
    /// The fragment after the one that carried this token.
    ContinuationToken(String),
}

impl Selector {
    /// The property that says it.
    pub fn property(&self) -> &'static str {
        match self {
            Selector::Now | Selector::Earliest => "start-selector",
            Selector::AfterFragment(_) => "after-fragment-number",
            Selector::ProducerTimestamp(_) | Selector::ServerTimestamp(_) => "start-timestamp",
            Selector::ContinuationToken(_) => "continuation-token",
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Now => f.write_str("NOW"),
            Selector::Earliest => f.write_str("EARLIEST"),
            Selector::AfterFragment(number) => write!(f, "FRAGMENT_NUMBER {number}"),
            Selector::ProducerTimestamp(ms) => write!(f, "PRODUCER_TIMESTAMP {}", seconds(*ms)),
            Selector::ServerTimestamp(ms) => write!(f, "SERVER_TIMESTAMP {}", seconds(*ms)),
            Selector::ContinuationToken(token) => write!(f, "CONTINUATION_TOKEN {token}"),
        }
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// Which clock places fragments on the wall-clock line, and which one `end` and seeks mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampSource {
    /// The producer's, where it is plausible.
    #[default]
    Producer,
    /// The service's: when it received the first fragment of an unbroken stretch.
    Server,
}

/// Where the stream ends, if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// Before the first fragment that starts at or after this, in nanoseconds since the Unix epoch.
    pub at: Option<u64>,
    /// At the live edge as it stood when the stream was opened.
    pub at_live: bool,
}
