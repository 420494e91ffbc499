//! The service's limits of calls a second, over all elements of the process: those for each stream and
//! operation, and that for an account.

use crate::{error::Operation, lock::lock};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How many calls of GetMedia, and of GetDataEndpoint, the service takes for a stream in any second
/// (its published limits).
const CALLS: usize = 5;

/// How many calls of GetDataEndpoint it takes for an account in any second, whatever the streams
/// (likewise).
pub(super) const LOOK_UPS: usize = 300;

const SECOND: Duration = Duration::from_secs(1);

/// A call that has no answer yet is taken to have reached the service after this long. Without it
/// five servers that never answer would stop all calls for a stream for ever.
const LONGEST_WAY: Duration = Duration::from_secs(5);

/// A call that is given up without an answer may be on its way still, and arrive so much later.
const ON_ITS_WAY: Duration = Duration::from_millis(250);

/// From this many streams on, those that nobody uses any more are forgotten.
const KEPT: usize = 256;

/// The calls that may count at the service, now or in a second's time.
///
/// The service counts a call when it arrives, and that is some time between being made and being
/// answered. So a call occupies its place until a second after its *answer*, and then no window of
/// one second, on whatever clock, holds more than `most` arrivals.
#[derive(Debug)]
pub(super) struct Window {
    most: usize,
    /// Number, and when its place is free again.
    calls: Vec<(u64, Instant)>,
    made: u64,
}

impl Window {
    fn new(most: usize) -> Self {
        Window {
            most,
            calls: Vec::new(),
            made: 0,
        }
    }

    /// Makes a call if one is free, and returns its number.
    ///
    /// # Errors
    /// When the next one becomes free, unless an answer comes earlier.
    pub fn start(&mut self, now: Instant) -> Result<u64, Instant> {
        self.calls.retain(|&(_, free)| free > now);
        if self.calls.len() >= self.most {
            return Err(self
                .calls
                .iter()
                .map(|&(_, free)| free)
                .min()
                .unwrap_or(now));
        }
        self.made += 1;
        self.calls.push((self.made, now + LONGEST_WAY + SECOND));
        Ok(self.made)
    }

    /// The call has been answered, or has failed.
    pub fn answered(&mut self, call: u64, now: Instant) {
        self.arrived(call, now);
    }

    /// The call was given up before that.
    pub fn given_up(&mut self, call: u64, now: Instant) {
        self.arrived(call, now + ON_ITS_WAY);
    }

    /// The call has reached the service by then.
    fn arrived(&mut self, call: u64, by: Instant) {
        if let Some((_, free)) = self
            .calls
            .iter_mut()
            .find(|&&mut (number, _)| number == call)
        {
            *free = (*free).min(by + SECOND);
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.calls.iter().all(|&(_, free)| free <= now)
    }
}

/// A [`Window`] on the runtime's clock, that lets those who wait in one by one.
#[derive(Debug)]
pub(super) struct Limiter {
    turn: tokio::sync::Mutex<()>,
    window: Mutex<Window>,
    answered: Notify,
}

/// The right to one call, which counts until a second after its answer. To drop this is to give the
/// call up.
pub(super) struct Permit {
    limiter: Arc<Limiter>,
    call: u64,
}

impl Permit {
    /// The call has been answered, or has failed.
    pub fn answered(self) {
        self.limiter.window().answered(self.call, now());
    }
}

impl Limiter {
    /// One that lets so many calls through in a second.
    pub fn new(most: usize) -> Arc<Limiter> {
        Arc::new(Limiter {
            turn: tokio::sync::Mutex::default(),
            window: Mutex::new(Window::new(most)),
            answered: Notify::new(),
        })
    }

    /// Waits for a call to be free; first come, first served.
    pub async fn acquire(self: &Arc<Self>) -> Permit {
        let _turn = self.turn.lock().await;
        loop {
            let started = self.window().start(now());
            match started {
                Ok(call) => {
                    return Permit {
                        limiter: self.clone(),
                        call,
                    };
                }
                Err(free) => {
                    let wait = tokio::time::sleep_until(free.into());
                    tokio::select! {
                        () = wait => {}
                        () = self.answered.notified() => {}
                    }
                }
            }
        }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        lock(&self.window)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // After an answer, which came earlier, this changes nothing.
        self.limiter.window().given_up(self.call, now());
        self.limiter.answered.notify_one();
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

type Key = (Operation, String, String);

static LIMITERS: LazyLock<Mutex<HashMap<Key, Arc<Limiter>>>> = LazyLock::new(Mutex::default);

/// The limiter of a stream, which everybody in the process shares who calls the same operation on
/// the same endpoint and region; a stream's ARN and its name are the same stream.
pub(super) fn of(operation: Operation, endpoint: &str, region: &str, stream: &str) -> Arc<Limiter> {
    let mut limiters = lock(&LIMITERS);
    if limiters.len() >= KEPT {
        let now = Instant::now();
        limiters
            .retain(|_, limiter| Arc::strong_count(limiter) > 1 || !limiter.window().is_idle(now));
    }
    limiters
        .entry((operation, format!("{endpoint} {region}"), stream.to_owned()))
        .or_insert_with(|| Limiter::new(CALLS))
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn five_then_one_a_second_after_the_first_answer() {
        let mut window = Window::new(CALLS);
        let start = Instant::now();
        let first = window.start(start).expect("first");
        for n in 1..5 {
            window.start(start + n * MS).expect("up to five");
        }
        assert_eq!(
            window.start(start + 10 * MS),
            Err(start + LONGEST_WAY + SECOND)
        );
        window.answered(first, start + 20 * MS);
        assert_eq!(window.start(start + 21 * MS), Err(start + 1020 * MS));
        assert!(window.start(start + 1020 * MS).is_ok());
    }

    /// Cancelling a call does not take back what has been sent.
    #[test]
    fn what_is_given_up_may_arrive_later() {
        let mut window = Window::new(CALLS);
        let start = Instant::now();
        let calls: Vec<u64> = (0..5)
            .map(|_| window.start(start).expect("a call"))
            .collect();
        window.given_up(calls[0], start + 20 * MS);
        let free = start + 20 * MS + ON_ITS_WAY + SECOND;
        assert_eq!(window.start(start + 21 * MS), Err(free));
        // An answer that has come stays one.
        window.answered(calls[1], start + 30 * MS);
        window.given_up(calls[1], start + 30 * MS);
        assert_eq!(window.start(start + 31 * MS), Err(start + 1030 * MS));
    }

    #[test]
    fn calls_that_are_never_answered_do_not_block_for_ever() {
        let mut window = Window::new(CALLS);
        let start = Instant::now();
        for _ in 0..5 {
            window.start(start).expect("up to five");
        }
        assert!(window.start(start + LONGEST_WAY + SECOND).is_ok());
    }

    #[tokio::test]
    async fn waiters_are_let_in_as_answers_come() {
        let limiter = Limiter::new(CALLS);
        let start = Instant::now();
        let mut held = Vec::new();
        for _ in 0..CALLS {
            held.push(limiter.acquire().await);
        }
        let answer = async {
            tokio::time::sleep(100 * MS).await;
            held.pop().expect("the last call").answered();
        };
        let (_permit, ()) = tokio::join!(limiter.acquire(), answer);
        let waited = start.elapsed();
        assert!(waited >= 1100 * MS, "{waited:?}");
        assert!(waited < LONGEST_WAY, "{waited:?}");
    }

    proptest! {
        /// However long each call is under way and wherever on its way it is counted: never more
        /// than five in a second.
        #[test]
        fn no_second_holds_more_than_five(
            calls in prop::collection::vec((0u32..400, 0u32..3000, 0u32..=100), 1..60)
        ) {
            let mut window = Window::new(CALLS);
            let origin = Instant::now();
            let mut now = origin;
            let mut under_way: Vec<(Instant, u64)> = Vec::new();
            let mut arrivals = Vec::new();
            for (pause, takes, percent) in calls {
                now += pause * MS;
                loop {
                    under_way.sort();
                    while let Some(&(end, call)) = under_way.first().filter(|(end, _)| *end <= now) {
                        window.answered(call, end);
                        under_way.remove(0);
                    }
                    match window.start(now) {
                        Ok(call) => {
                            arrivals.push(now + takes * MS * percent / 100);
                            under_way.push((now + takes * MS, call));
                            break;
                        }
                        Err(free) => {
                            let next = under_way.first().map_or(free, |(end, _)| free.min(*end));
                            prop_assert!(next > now, "time stands still");
                            now = next;
                        }
                    }
                }
            }
            arrivals.sort();
            for six in arrivals.windows(6) {
                prop_assert!(six[5] - six[0] >= SECOND);
            }
        }
    }
}
