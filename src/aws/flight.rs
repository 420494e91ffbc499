//! A value that many want and one gets.

use crate::{error::Error, lock::lock};
use std::sync::{Mutex, MutexGuard};

/// A cached value that is made on demand, by one caller at a time.
///
/// Callers that wait while one makes it share the outcome, an error too. An error is not kept: who
/// asks after it has been reported tries again. If the caller who makes it is cancelled, the next
/// one in line begins anew.
pub(super) struct Flight<T> {
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// How many attempts have come to an end, and so the version of what the last one gave.
    finished: u64,
    outcome: Option<Result<T, Error>>,
}

/// A value, and which one of those that were made over time.
#[derive(Clone)]
pub(super) struct Versioned<T> {
    pub value: T,
    /// From 1 on.
    pub version: u64,
}

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Flight {
            turn: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                finished: 0,
                outcome: None,
            }),
        }
    }
}

impl<T: Clone> Flight<T> {
    /// The value there is, or what `make` gives, or what somebody else's `make` gave meanwhile.
    pub async fn get(
        &self,
        make: impl Future<Output = Result<T, Error>>,
    ) -> Result<Versioned<T>, Error> {
        let before = {
            let state = self.state();
            match state.latest(u64::MAX) {
                Some(outcome) => return outcome,
                None => state.finished,
            }
        };
        let _turn = self.turn.lock().await;
        if let Some(outcome) = self.state().latest(before) {
            return outcome;
        }
        let outcome = make.await;
        let mut state = self.state();
        state.finished += 1;
        state.outcome = Some(outcome.clone());
        outcome.map(|value| Versioned {
            value,
            version: state.finished,
        })
    }

    /// Drops the value of this version; a later one stays.
    pub fn forget(&self, version: u64) {
        let mut state = self.state();
        if state.finished == version {
            state.outcome = None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }
}

impl<T: Clone> State<T> {
    /// The value, or the error of an attempt that ended after the first `before` had.
    fn latest(&self, before: u64) -> Option<Result<Versioned<T>, Error>> {
        match self.outcome.as_ref()? {
            Ok(value) => Some(Ok(Versioned {
                value: value.clone(),
                version: self.finished,
            })),
            Err(error) if self.finished > before => Some(Err(error.clone())),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    async fn made(count: &AtomicU32, outcome: Result<u32, Error>) -> Result<u32, Error> {
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        outcome
    }

    #[tokio::test]
    async fn concurrent_callers_share_value_and_error() {
        let failed = Err(Error::new(ErrorKind::Network, "no"));
        for outcome in [Ok(7), failed] {
            let flight = Flight::default();
            let count = AtomicU32::new(0);
            let get = || async {
                flight
                    .get(made(&count, outcome.clone()))
                    .await
                    .map(|v| v.value)
            };
            let (a, b, c) = tokio::join!(get(), get(), get());
            assert_eq!((&a, &b, &c), (&outcome, &outcome, &outcome));
            assert_eq!(count.load(Ordering::Relaxed), 1);
            // A value is kept, an error is not.
            assert_eq!(get().await, outcome);
            assert_eq!(
                count.load(Ordering::Relaxed),
                if outcome.is_ok() { 1 } else { 2 }
            );
        }
    }

    #[tokio::test]
    async fn a_cancelled_maker_is_followed_by_the_next() {
        let flight = Flight::default();
        let count = AtomicU32::new(0);
        let cancelled = async {
            let never = async {
                count.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            };
            let short = Duration::from_millis(5);
            let outcome = tokio::time::timeout(short, flight.get(never)).await;
            outcome.is_err()
        };
        let (cancelled, second) = tokio::join!(cancelled, flight.get(made(&count, Ok(2))));
        assert!(cancelled);
        assert_eq!(second.map(|v| v.value), Ok(2));
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn only_the_version_that_failed_is_forgotten() {
        let flight = Flight::default();
        let count = AtomicU32::new(0);
        let first = flight.get(made(&count, Ok(1))).await.expect("first");
        flight.forget(first.version);
        let second = flight.get(made(&count, Ok(2))).await.expect("second");
        assert_eq!(second.value, 2);
        flight.forget(first.version);
        assert_eq!(
            flight.get(made(&count, Ok(3))).await.map(|v| v.value),
            Ok(2)
        );
    }
}
