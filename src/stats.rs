//! Counters that the session and the element write and the `stats` property reads.

use crate::{item::FragmentEnd, lock::lock};
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What happened since the element was started.
#[derive(Debug, Default)]
pub struct Stats {
    bytes_received: AtomicU64,
    bytes_pushed: AtomicU64,
    fragments: AtomicU64,
    frames: AtomicU64,
    connections: AtomicU64,
    retries: AtomicU64,
    gaps: AtomicU64,
    latest: Mutex<Latest>,
}

/// What is known of the latest connection and the latest complete fragment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latest {
    /// The host that answered `GetMedia`.
    pub data_endpoint: Option<String>,
    /// The service's id of the request now running.
    pub request_id: Option<String>,
    /// Of the latest complete fragment.
    pub fragment_number: Option<String>,
    /// Of the latest complete fragment.
    pub continuation_token: Option<String>,
    /// Of the latest complete fragment, in nanoseconds since the Unix epoch.
    pub server_timestamp: Option<u64>,
    /// Of the latest complete fragment, in nanoseconds since the Unix epoch.
    pub producer_timestamp: Option<u64>,
    /// Of the latest complete fragment.
    pub millis_behind_now: Option<u64>,
}

/// All of it at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes of response bodies.
    pub bytes_received: u64,
    /// Bytes given to downstream.
    pub bytes_pushed: u64,
    /// Complete fragments given to downstream.
    pub fragments: u64,
    /// Blocks given to downstream.
    pub frames: u64,
    /// `GetMedia` calls that were answered with a stream.
    pub connections: u64,
    /// Calls made again after a failure.
    pub retries: u64,
    /// `kvs-gap` messages.
    pub gaps: u64,
    /// The latest of everything else.
    pub latest: Latest,
}

impl Stats {
    /// Others that go on from these. Who still writes to these is not heard any more.
    pub fn carried_on(&self) -> Stats {
        let Snapshot {
            bytes_received,
            bytes_pushed,
            fragments,
            frames,
            connections,
            retries,
            gaps,
            latest,
        } = self.snapshot();
        Stats {
            bytes_received: bytes_received.into(),
            bytes_pushed: bytes_pushed.into(),
            fragments: fragments.into(),
            frames: frames.into(),
            connections: connections.into(),
            retries: retries.into(),
            gaps: gaps.into(),
            latest: latest.into(),
        }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        lock(&self.latest)
    }

    /// So many bytes of a response body came in.
    pub fn received(&self, bytes: u64) {
        self.bytes_received.fetch_add(bytes, Relaxed);
    }

    /// `GetMedia` was answered with a stream.
    pub fn connected(&self, endpoint: &str, request_id: Option<&str>) {
        self.connections.fetch_add(1, Relaxed);
        let mut latest = self.latest();
        latest.data_endpoint = Some(endpoint.to_owned());
        latest.request_id = request_id.map(str::to_owned);
    }

    /// Whether `GetMedia` ever was.
    pub fn has_connected(&self) -> bool {
        self.connections.load(Relaxed) > 0
    }

    /// A call is made again after a failure.
    pub fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// Bytes, and the blocks that they complete, went downstream.
    pub fn pushed(&self, bytes: u64, frames: u64) {
        self.bytes_pushed.fetch_add(bytes, Relaxed);
        self.frames.fetch_add(frames, Relaxed);
    }

    /// The last of a fragment went downstream.
    pub fn fragment_complete(&self, fragment: &FragmentEnd) {
        self.fragments.fetch_add(1, Relaxed);
        let mut latest = self.latest();
        latest.fragment_number = Some(fragment.start.number.clone());
        latest.continuation_token = fragment.continuation_token.clone();
        latest.server_timestamp = fragment.start.server_timestamp;
        latest.producer_timestamp = fragment.start.producer_timestamp;
        latest.millis_behind_now = fragment.millis_behind_now;
    }

    /// Something is missing, or time jumps.
    pub fn gap(&self) {
        self.gaps.fetch_add(1, Relaxed);
    }

    /// All of it now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            bytes_received: self.bytes_received.load(Relaxed),
            bytes_pushed: self.bytes_pushed.load(Relaxed),
            fragments: self.fragments.load(Relaxed),
            frames: self.frames.load(Relaxed),
            connections: self.connections.load(Relaxed),
            retries: self.retries.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
            latest: self.latest().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::FragmentStart;

    #[test]
    fn counts_and_remembers_the_latest() {
        let stats = Stats::default();
        assert_eq!(stats.snapshot(), Snapshot::default());
        stats.received(10);
        stats.received(5);
        stats.pushed(12, 3);
        stats.connected("https://one", Some("r1"));
        stats.connected("https://two", None);
        stats.retried();
        stats.gap();
        for number in ["1", "2"] {
            stats.fragment_complete(&FragmentEnd {
                start: FragmentStart {
                    number: number.to_owned(),
                    ..Default::default()
                },
                continuation_token: Some(format!("t{number}")),
                ..Default::default()
            });
        }
        let next = stats.carried_on();
        assert_eq!(next.snapshot(), stats.snapshot());
        next.received(1);
        assert_eq!(
            stats.snapshot(),
            Snapshot {
                bytes_received: 15,
                bytes_pushed: 12,
                fragments: 2,
                frames: 3,
                connections: 2,
                retries: 1,
                gaps: 1,
                latest: Latest {
                    data_endpoint: Some("https://two".to_owned()),
                    fragment_number: Some("2".to_owned()),
                    continuation_token: Some("t2".to_owned()),
                    ..Default::default()
                },
            }
        );
    }
}
