//! What a session tells the application past the queue.

use std::time::Duration;

/// What the application hears at once, whatever waits in the queue.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A step of opening begins or is done.
    Progress {
        /// `endpoint` or `connect`.
        code: &'static str,
        /// What is being done, for people.
        text: String,
        /// Whether it is done.
        done: bool,
    },
    /// A connection ended and another is about to be made.
    Reconnect {
        /// Why the last one ended.
        reason: &'static str,
        /// What went wrong, for people, if anything did.
        error: Option<String>,
        /// How many failures in a row there have been.
        attempt: u32,
        /// How long is waited first.
        delay: Duration,
        /// The last complete fragment.
        resume_after: Option<String>,
    },
}
