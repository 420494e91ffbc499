//! What a session tells the application past the queue.

use crate::error::Error;
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
    /// Response headers have come; the bus does not hear of it.
    Connected {
        /// Where the media comes from.
        endpoint: String,
        /// The service's id of the request.
        request_id: Option<String>,
    },
    /// A connection ended and another is about to be made.
    Reconnect {
        /// Why the last one ended.
        reason: &'static str,
        /// What went wrong, if anything did.
        error: Option<Error>,
        /// How many failures in a row there have been.
        attempt: u32,
        /// How long is waited first.
        delay: Duration,
        /// The last complete fragment.
        resume_after: Option<String>,
    },
}
