//! The only async loop.

use crate::{
    aws,
    item::FragmentEnd,
    request::{End, Selector, StreamId, TimestampSource},
};
use std::time::Duration;

/// Everything a session needs to know; settings already checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub aws: aws::Config,
    pub start: Selector,
    pub end: End,
    /// `payload=raw`: the service's bytes, whole elements, untouched.
    pub raw: bool,
    pub timestamp_source: TimestampSource,
    /// Holes longer than this (ns) are closed; `None`: they stay (live).
    pub max_gap: Option<u64>,
    /// 0: wait for ever.
    pub idle_timeout: Duration,
    /// `None`: never give up.
    pub max_retries: Option<u32>,
}

/// What the application hears at once, whatever waits in the queue.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A step of opening begins or is done: codes `endpoint` and `connect`.
    Progress { code: &'static str, text: String, done: bool },
    /// A connection ended and another is about to be made.
    Reconnect { reason: &'static str, attempt: u32, delay: Duration, resume_after: Option<String> },
}

/// A running session; dropping it cancels it.
pub struct Session {}
