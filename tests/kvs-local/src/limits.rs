//! Calls a second and connections at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::ApiError;
use crate::log::Operation;

/// The published limit of calls for one stream.
const CALLS_PER_SECOND: usize = 5;
/// The published limit of GetMedia connections for one stream.
const GET_MEDIA_CONNECTIONS: usize = 3;

/// Counts calls and connections by stream.
#[derive(Default)]
pub(crate) struct Limits {
    calls: HashMap<(String, Operation), VecDeque<Instant>>,
    connections: HashMap<String, usize>,
}

impl Limits {
    /// Counts a call, unless it is one too many within a second. Refused calls don't count.
    pub(crate) fn call(
        &mut self,
        stream: &str,
        operation: Operation,
        now: Instant,
    ) -> Result<(), ApiError> {
        let calls = self
            .calls
            .entry((stream.to_owned(), operation))
            .or_default();
        while calls
            .front()
            .is_some_and(|then| now.duration_since(*then) >= Duration::from_secs(1))
        {
            calls.pop_front();
        }
        if calls.len() >= CALLS_PER_SECOND {
            return Err(ApiError::client_limit(format!(
                "Rate of {operation} calls for the stream exceeds {CALLS_PER_SECOND} a second."
            )));
        }
        calls.push_back(now);
        Ok(())
    }

    pub(crate) fn connections(&self, stream: &str) -> usize {
        self.connections.get(stream).copied().unwrap_or(0)
    }
}

/// A GetMedia response under way; counted until it is dropped.
pub(crate) struct ConnectionGuard {
    limits: Arc<Mutex<Limits>>,
    stream: String,
}

impl ConnectionGuard {
    pub(crate) fn open(
        limits: &Arc<Mutex<Limits>>,
        stream: &str,
        enforce: bool,
    ) -> Result<ConnectionGuard, ApiError> {
        let mut locked = limits.lock().unwrap();
        let open = locked.connections.entry(stream.to_owned()).or_default();
        if enforce && *open >= GET_MEDIA_CONNECTIONS {
            return Err(ApiError::new(
                400,
                "ConnectionLimitExceededException",
                format!("The stream has {GET_MEDIA_CONNECTIONS} GetMedia connections already."),
            ));
        }
        *open += 1;
        Ok(ConnectionGuard {
            limits: limits.clone(),
            stream: stream.to_owned(),
        })
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut limits = self.limits.lock().unwrap();
        if let Some(open) = limits.connections.get_mut(&self.stream) {
            *open -= 1;
        }
    }
}
