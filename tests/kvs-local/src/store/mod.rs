//! Streams and their fragments, in memory.

mod fragment;
mod load;
mod select;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use fragment::FragmentInfo;
pub(crate) use fragment::{Content, Fragment, Progress, Upload};
pub use load::{NewFragment, Timecodes};
pub(crate) use load::{Session, Step};

pub(crate) use select::{Cursor, NoStart};
pub use select::{NowStart, OnEmpty, OnExpired, OnTimestampGap, StartSelector, Undocumented};

use crate::number::Number;

/// What a GetMedia response does when it has sent all there is. Both occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Idle {
    /// The body stays open and silent.
    #[default]
    Silence,
    /// The body ends cleanly after this long without a new fragment.
    CleanEnd(Duration),
}

/// Which fragments a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visible {
    /// Those that are complete, and broken ones that were kept.
    Finished,
    /// Those under upload too.
    Uploading,
}

/// A stream.
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) arn: String,
    pub(crate) created_ms: u64,
    pub(crate) state: Mutex<State>,
    changed: watch::Sender<()>,
}

/// A fragment that isn't kept any more.
pub(crate) struct Gone {
    pub(crate) number: Number,
    pub(crate) token: String,
}

/// How many fragments are remembered that aren't kept.
const GONE_REMEMBERED: usize = 16;

/// What changes about a stream.
pub(crate) struct State {
    /// In order of their numbers.
    fragments: Vec<Arc<Fragment>>,
    gone: Vec<Gone>,
    last_number: Number,
    pub(crate) idle: Idle,
    /// No further fragment will come: responses end cleanly when they have sent all.
    pub(crate) finished: bool,
    pub(crate) paused: bool,
    pub(crate) retention: Option<Duration>,
    pub(crate) settings: BTreeMap<String, serde_json::Value>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) deleted: bool,
}

impl Stream {
    pub(crate) fn new(
        name: &str,
        arn: String,
        created_ms: u64,
        index: u64,
        retention: Option<Duration>,
    ) -> Stream {
        Stream {
            name: name.to_owned(),
            arn,
            created_ms,
            state: Mutex::new(State {
                fragments: Vec::new(),
                gone: Vec::new(),
                last_number: Number::first(index),
                idle: Idle::Silence,
                finished: false,
                paused: false,
                retention,
                settings: BTreeMap::new(),
                tags: BTreeMap::new(),
                deleted: false,
            }),
            changed: watch::channel(()).0,
        }
    }

    /// Resolves once for every change, or several, after the call to this.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Tells the readers.
    pub(crate) fn notify(&self) {
        self.changed.send_replace(());
    }

    /// Runs `change` on the state and tells the readers.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap());
        self.notify();
        result
    }
}

impl State {
    pub(crate) fn visible(&self, visible: Visible) -> impl Iterator<Item = &Arc<Fragment>> {
        self.fragments.iter().filter(move |fragment| {
            visible == Visible::Uploading || fragment.progress() != Progress::Open
        })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Fragment>> {
        self.fragments.iter()
    }

    pub(crate) fn get(&self, number: &str) -> Option<&Arc<Fragment>> {
        self.fragments
            .iter()
            .find(|fragment| fragment.number.as_str() == number)
    }

    /// The first fragment `cursor` leads to.
    pub(crate) fn next(&self, cursor: &Cursor, visible: Visible) -> Option<Arc<Fragment>> {
        let from = match cursor {
            Cursor::At(number) => self.fragments.partition_point(|f| f.number < *number),
            Cursor::After(number) => self.fragments.partition_point(|f| f.number <= *number),
            Cursor::First | Cursor::ProducerMs(_) | Cursor::ServerMs(_) => 0,
        };
        self.fragments[from..]
            .iter()
            .filter(|f| visible == Visible::Uploading || f.progress() != Progress::Open)
            .find(|fragment| match cursor {
                Cursor::First | Cursor::At(_) | Cursor::After(_) => true,
                Cursor::ProducerMs(ms) => fragment.producer_ms >= *ms,
                Cursor::ServerMs(ms) => fragment.server_ms >= *ms,
            })
            .cloned()
    }

    fn knows(&self, number: &Number) -> bool {
        self.fragments.iter().any(|f| f.number == *number)
            || self.gone.iter().any(|gone| gone.number == *number)
    }

    fn number_of_token(&self, token: &str) -> Option<Number> {
        let kept = self.fragments.iter().find(|f| f.token == token);
        let gone = || self.gone.iter().find(|gone| gone.token == token);
        kept.map(|f| f.number.clone())
            .or_else(|| gone().map(|gone| gone.number.clone()))
    }

    /// The number of the next fragment to come.
    pub(crate) fn take_number(&mut self) -> Number {
        self.last_number = self.last_number.next();
        self.last_number.clone()
    }

    /// Adds a fragment at its place. One of the same number is replaced. What is too old by then is
    /// dropped: a stream that nobody reads must not grow without end.
    pub(crate) fn insert(&mut self, fragment: Arc<Fragment>) {
        let now = fragment.stored;
        if fragment.number > self.last_number {
            self.last_number = fragment.number.clone();
        }
        let at = self
            .fragments
            .partition_point(|f| f.number < fragment.number);
        if self
            .fragments
            .get(at)
            .is_some_and(|f| f.number == fragment.number)
        {
            self.fragments[at] = fragment;
        } else {
            self.fragments.insert(at, fragment);
        }
        self.expire(now);
    }

    /// Forgets a fragment as though it had never been.
    pub(crate) fn discard(&mut self, number: &Number) {
        self.fragments.retain(|f| f.number != *number);
    }

    /// Drops every fragment before `number`.
    pub(crate) fn expire_before(&mut self, number: &Number) {
        let keep = self.fragments.partition_point(|f| f.number < *number);
        self.expire_first(keep);
    }

    /// Drops what the retention period has passed for.
    pub(crate) fn expire(&mut self, now: Instant) {
        let Some(retention) = self.retention else {
            return;
        };
        let keep = self
            .fragments
            .iter()
            .position(|f| now.saturating_duration_since(f.stored) <= retention)
            .unwrap_or(self.fragments.len());
        self.expire_first(keep);
    }

    fn expire_first(&mut self, count: usize) {
        let gone = self.fragments.drain(..count).map(|fragment| Gone {
            number: fragment.number.clone(),
            token: fragment.token.clone(),
        });
        self.gone.extend(gone);
        // Only what the newest of them leads to is still there; the others are as good as unknown.
        let surplus = self.gone.len().saturating_sub(GONE_REMEMBERED);
        self.gone.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn what_is_too_old_is_dropped_though_nobody_reads() {
        let retention = Duration::from_millis(50);
        let stream = Stream::new("cam", String::new(), 0, 0, Some(retention));
        let mut state = stream.state.lock().unwrap();
        let begun = Instant::now();
        let mut held = |after_ms| {
            let number = state.take_number();
            state.insert(Arc::new(Fragment {
                token: number.to_string(),
                number,
                producer_ms: 0,
                server_ms: 0,
                stored: begun + Duration::from_millis(after_ms),
                content: Content::Verbatim {
                    document: Bytes::new(),
                    duration_ms: 0,
                },
            }));
            state.all().count()
        };
        assert_eq!([0, 40, 60, 200].map(&mut held), [1, 2, 2, 1]);
    }
}
