//! The bounded queue between a session's task and the streaming thread.
//!
//! It is bounded in bytes. A producer that finds it full waits, which ends as TCP backpressure; the
//! streaming thread sleeps on a condition variable while it is empty. Wake-ups are coalesced: the
//! producer is woken when about half has drained, the consumer when the producer has nothing more to
//! push at once, or no room for it.

use crate::{error::Error, item::Item, lock::lock};
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};

/// What an item costs beside the bytes it carries, so that items without bytes are bounded too.
const ITEM_COST: usize = 256;

/// With more than this queued, the producer lets a consumer that keeps up catch up first: what is
/// queued then stays in the processor's cache, and in memory that is used again, which for a fast body
/// is a quarter of all it costs. With 768 KiB, frames of 8 KiB cost a tenth more; with 128 KiB the threads
/// wake each other too often.
const EASY_BYTES: usize = 320 * 1024;

/// How long it waits for that. A consumer that does not keep up gets the whole queue filled.
const PATIENCE: Duration = Duration::from_millis(20);

/// The streaming side is gone: nothing more can be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the element was stopped")]
pub struct Closed;

/// What [`Queue::pop`] found.
#[derive(Debug, PartialEq)]
pub enum Popped {
    /// The next item.
    Item(Item),
    /// The streaming thread is wanted elsewhere; nothing queued is lost.
    Flushing,
    /// The producer has finished, and all it pushed has been popped.
    Eos,
    /// The same, with the failure it finished with.
    Error(Error),
}

/// The queue; both sides share it by `Arc`.
pub struct Queue {
    max_bytes: usize,
    inner: Mutex<Inner>,
    filled: Condvar,
    drained: Notify,
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    bytes: usize,
    end: Option<Result<(), Error>>,
    flushing: bool,
    closed: bool,
    /// The cost of the item a producer waits to push.
    waiting: Option<usize>,
    consumer_sleeps: bool,
    /// The consumer has not kept up since more than [`EASY_BYTES`] were queued.
    lags: bool,
}

impl Inner {
    fn fits(&self, cost: usize, max_bytes: usize) -> bool {
        self.items.is_empty() || self.bytes.saturating_add(cost) <= max_bytes
    }
}

impl Queue {
    /// An empty queue of at most `max_bytes`, or of one item if that alone is larger.
    pub fn new(max_bytes: usize) -> Arc<Queue> {
        Arc::new(Queue {
            max_bytes,
            inner: Mutex::default(),
            filled: Condvar::new(),
            drained: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    fn easy_bytes(&self) -> usize {
        EASY_BYTES.min(self.max_bytes)
    }

    /// How much may be queued now.
    fn limit(&self, inner: &Inner) -> usize {
        match inner.lags {
            true => self.max_bytes,
            false => self.easy_bytes(),
        }
    }

    /// Appends an item, and waits while there is no room for it.
    ///
    /// A consumer that sleeps may not learn of it before [`Queue::wake`] is called. An empty queue takes
    /// an item of any size. A future dropped before it is ready has pushed nothing.
    pub async fn push(&self, item: Item) -> Result<(), Closed> {
        let cost = cost(&item);
        loop {
            // Made before the look at the queue: it learns of every wake-up from then on.
            let drained = self.drained.notified();
            let fits = {
                let mut inner = self.lock();
                if inner.closed {
                    return Err(Closed);
                }
                if inner.fits(cost, self.limit(&inner)) {
                    inner.items.push_back(item);
                    inner.bytes = inner.bytes.saturating_add(cost);
                    return Ok(());
                }
                inner.waiting = Some(inner.waiting.map_or(cost, |other| other.min(cost)));
                let fits = inner.fits(cost, self.max_bytes);
                self.wake_up(inner);
                fits
            };
            if !fits {
                drained.await;
            } else if timeout(PATIENCE, drained).await.is_err() {
                self.lock().lags = true;
            }
        }
    }

    /// Says that nothing more is pushed for now: a consumer that sleeps gets what is queued.
    pub fn wake(&self) {
        let inner = self.lock();
        if !inner.items.is_empty() {
            self.wake_up(inner);
        }
    }

    /// Whether the consumer sleeps while something is queued for it.
    pub fn is_awaited(&self) -> bool {
        let inner = self.lock();
        inner.consumer_sleeps && !inner.items.is_empty()
    }

    fn wake_up(&self, mut inner: MutexGuard<'_, Inner>) {
        // Once is enough: until it runs it cannot be told apart from one that is awake.
        let sleeps = std::mem::take(&mut inner.consumer_sleeps);
        // A consumer that wakes while the lock is held goes to sleep again at once, for that: a tenth of
        // what a fast body costs.
        drop(inner);
        if sleeps {
            self.filled.notify_one();
        }
    }

    /// Says that nothing more comes: after what is queued, [`Queue::pop`] finds the end of the
    /// stream, or this error. Only the first call counts.
    pub fn finish(&self, result: Result<(), Error>) {
        let mut inner = self.lock();
        if inner.end.is_none() {
            inner.end = Some(result);
            self.filled.notify_all();
        }
    }

    /// Says that the streaming side is gone: drops what is queued and refuses what comes.
    pub fn close(&self) {
        let dropped = {
            let mut inner = self.lock();
            inner.closed = true;
            inner.bytes = 0;
            inner.waiting = None;
            self.filled.notify_all();
            std::mem::take(&mut inner.items)
        };
        self.drained.notify_waiters();
        drop(dropped);
    }

    /// Takes the next item out, and blocks until there is something to tell.
    pub fn pop(&self) -> Popped {
        let mut inner = self.lock();
        loop {
            if inner.flushing || inner.closed {
                return Popped::Flushing;
            }
            if let Some(item) = inner.items.pop_front() {
                inner.bytes = inner.bytes.saturating_sub(cost(&item));
                let room = inner.items.is_empty() || inner.bytes <= self.limit(&inner) / 2;
                inner.lags &= inner.bytes > self.easy_bytes() / 2;
                if let Some(cost) = inner.waiting
                    && room
                    && inner.fits(cost, self.max_bytes)
                {
                    inner.waiting = None;
                    drop(inner);
                    self.drained.notify_waiters();
                }
                return Popped::Item(item);
            }
            match &inner.end {
                Some(Ok(())) => return Popped::Eos,
                Some(Err(error)) => return Popped::Error(error.clone()),
                None => {}
            }
            inner.consumer_sleeps = true;
            inner = self
                .filled
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
            inner.consumer_sleeps = false;
        }
    }

    /// While flushing, [`Queue::pop`] returns at once; what is queued stays.
    pub fn set_flushing(&self, flushing: bool) {
        let mut inner = self.lock();
        inner.flushing = flushing;
        if flushing {
            self.filled.notify_all();
        }
    }

    /// What is queued now, in bytes.
    pub fn queued_bytes(&self) -> usize {
        self.lock().bytes
    }
}

fn cost(item: &Item) -> usize {
    match item {
        // Slices keep the buffer alive that they were cut from, and each has its own bookkeeping.
        Item::Data(data) => {
            let bookkeeping = data.pieces.len() * size_of::<bytes::Bytes>() + ITEM_COST;
            data.len().max(data.consumed).saturating_add(bookkeeping)
        }
        other => other.text_len() + ITEM_COST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::ErrorKind,
        item::{Data, Gap, GapKind, Segment},
        request::TimestampSource,
    };
    use bytes::Bytes;
    use std::{
        pin::pin,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
        thread,
        time::Instant,
    };

    fn data(len: usize) -> Item {
        Item::Data(Data {
            pieces: vec![Bytes::from(vec![0; len])],
            ..Data::default()
        })
    }

    fn marker(start: u64) -> Item {
        Item::Segment(Segment {
            start,
            time: 0,
            clock: TimestampSource::Producer,
            due_now: false,
        })
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    }

    /// Whether a push is still waiting after some time.
    async fn waits(queue: &Queue, item: Item) -> bool {
        tokio::time::timeout(Duration::from_millis(20), queue.push(item))
            .await
            .is_err()
    }

    #[test]
    fn keeps_order_and_ends() {
        runtime().block_on(async {
            let queue = Queue::new(1 << 20);
            for n in 0..3 {
                queue.push(marker(n)).await.unwrap();
            }
            queue.finish(Ok(()));
            queue.finish(Err(Error::new(ErrorKind::Internal, "too late")));
            for n in 0..3 {
                assert_eq!(queue.pop(), Popped::Item(marker(n)));
            }
            assert_eq!(queue.pop(), Popped::Eos);
            assert_eq!(queue.pop(), Popped::Eos);
            assert_eq!(queue.queued_bytes(), 0);
        });
    }

    #[test]
    fn error_comes_after_what_is_queued() {
        runtime().block_on(async {
            let queue = Queue::new(1 << 20);
            let error = Error::new(ErrorKind::Network, "gone");
            queue.push(marker(1)).await.unwrap();
            queue.finish(Err(error.clone()));
            assert_eq!(queue.pop(), Popped::Item(marker(1)));
            assert_eq!(queue.pop(), Popped::Error(error));
        });
    }

    #[test]
    fn text_counts_as_well() {
        runtime().block_on(async {
            let text = |len| Some("x".repeat(len));
            let gap = Item::Gap(Gap {
                kind: GapKind::Lost,
                from_fragment: text(400),
                to_fragment: text(400),
                from_timestamp: None,
                to_timestamp: None,
            });
            let queue = Queue::new(2000);
            queue.push(gap.clone()).await.unwrap();
            assert!(queue.queued_bytes() >= 800);
            assert!(waits(&queue, gap).await);
        });
    }

    #[test]
    fn full_queue_makes_the_producer_wait_until_half_has_drained() {
        runtime().block_on(async {
            let item = data(1000);
            let queue = Queue::new(4 * cost(&item));
            for _ in 0..4 {
                queue.push(item.clone()).await.unwrap();
            }
            assert!(waits(&queue, item.clone()).await);
            assert_eq!(queue.queued_bytes(), 4 * cost(&item));

            let mut push = pin!(queue.push(item.clone()));
            tokio::select! { biased; _ = &mut push => panic!("no room"), _ = async {} => {} }
            queue.pop();
            assert!(
                tokio::time::timeout(Duration::from_millis(20), &mut push)
                    .await
                    .is_err()
            );
            queue.pop();
            tokio::time::timeout(Duration::from_secs(5), push)
                .await
                .unwrap()
                .unwrap();
        });
    }

    #[test]
    fn a_consumer_that_lags_gets_the_whole_queue_filled() {
        runtime().block_on(async {
            let item = data(100_000);
            let queue = Queue::new(8 * EASY_BYTES);
            let room = queue.max_bytes / cost(&item);
            for _ in 0..room {
                queue.push(item.clone()).await.unwrap();
            }
            assert!(waits(&queue, item.clone()).await);
            while queue.queued_bytes() > EASY_BYTES / 2 {
                queue.pop();
            }
            assert!(!queue.lock().lags);
        });
    }

    #[test]
    fn what_was_left_out_counts() {
        let kept = Data {
            pieces: vec![Bytes::from_static(&[0; 100]); 2],
            ..Data::default()
        };
        let least = cost(&Item::Data(kept.clone()));
        assert!(least >= 200);
        for (consumed, more) in [
            (150, 0),
            (200, 0),
            (100_000, 99_800),
            (usize::MAX, usize::MAX),
        ] {
            let data = Data {
                consumed,
                ..kept.clone()
            };
            assert_eq!(cost(&Item::Data(data)), least.saturating_add(more));
        }
    }

    #[test]
    fn an_empty_queue_takes_any_item() {
        runtime().block_on(async {
            let queue = Queue::new(1);
            queue.push(data(1 << 20)).await.unwrap();
            assert!(waits(&queue, marker(0)).await);
            queue.pop();
            queue.push(data(1 << 20)).await.unwrap();
        });
    }

    #[test]
    fn items_without_bytes_are_bounded() {
        runtime().block_on(async {
            let queue = Queue::new(10 * ITEM_COST);
            for n in 0..10 {
                queue.push(marker(n)).await.unwrap();
            }
            assert!(waits(&queue, marker(10)).await);
        });
    }

    #[test]
    fn cancelled_push_pushes_nothing() {
        runtime().block_on(async {
            let queue = Queue::new(1);
            queue.push(marker(0)).await.unwrap();
            assert!(waits(&queue, marker(1)).await);
            assert_eq!(queue.pop(), Popped::Item(marker(0)));
            queue.push(marker(2)).await.unwrap();
            assert_eq!(queue.pop(), Popped::Item(marker(2)));
        });
    }

    #[test]
    fn close_wakes_and_refuses_the_producer() {
        runtime().block_on(async {
            let queue = Queue::new(1);
            queue.push(data(1 << 20)).await.unwrap();
            let mut push = pin!(queue.push(marker(1)));
            tokio::select! { biased; _ = &mut push => panic!("no room"), _ = async {} => {} }
            queue.close();
            assert_eq!(push.await, Err(Closed));
            assert_eq!(queue.push(marker(2)).await, Err(Closed));
            assert_eq!(queue.queued_bytes(), 0);
            assert_eq!(queue.pop(), Popped::Flushing);
        });
    }

    #[test]
    fn flushing_wakes_the_consumer_and_loses_nothing() {
        let queue = Queue::new(1 << 20);
        let sleeper = thread::spawn({
            let queue = queue.clone();
            move || queue.pop()
        });
        thread::sleep(Duration::from_millis(20));
        let asked = Instant::now();
        queue.set_flushing(true);
        assert_eq!(sleeper.join().unwrap(), Popped::Flushing);
        assert!(asked.elapsed() < Duration::from_millis(100));

        runtime().block_on(queue.push(marker(1))).unwrap();
        assert_eq!(queue.pop(), Popped::Flushing);
        queue.set_flushing(false);
        assert_eq!(queue.pop(), Popped::Item(marker(1)));
    }

    #[test]
    fn a_sleeper_is_woken_when_that_is_worth_it() {
        let queue = Queue::new(1 << 20);
        let sleeper = || {
            let sleeper = thread::spawn({
                let queue = queue.clone();
                move || queue.pop()
            });
            while !queue.lock().consumer_sleeps {
                thread::yield_now();
            }
            sleeper
        };
        let first = sleeper();
        runtime().block_on(queue.push(marker(1))).unwrap();
        thread::sleep(Duration::from_millis(20));
        assert!(queue.is_awaited());
        queue.wake();
        assert!(!queue.is_awaited());
        assert_eq!(first.join().unwrap(), Popped::Item(marker(1)));

        let second = sleeper();
        let much = data(EASY_BYTES);
        runtime().block_on(queue.push(much.clone())).unwrap();
        assert!(queue.is_awaited());
        // There is no room for this one.
        runtime().block_on(queue.push(marker(2))).unwrap();
        assert_eq!(second.join().unwrap(), Popped::Item(much));
        assert_eq!(queue.pop(), Popped::Item(marker(2)));
        queue.wake();
        assert!(!queue.is_awaited());
    }

    /// One producer that is cancelled at random, one consumer that is flushed at random: every
    /// item arrives once and in order, the bound holds, and nobody sleeps for ever.
    #[test]
    fn stress() {
        const ITEMS: u64 = 20_000;
        const MAX: usize = 8 * ITEM_COST;
        let queue = Queue::new(MAX);
        let done = Arc::new(AtomicBool::new(false));
        let highest = Arc::new(AtomicUsize::new(0));

        let producer = thread::spawn({
            let queue = queue.clone();
            move || {
                runtime().block_on(async {
                    for n in 0..ITEMS {
                        // Every third is given up if it has to wait, and pushed again.
                        if n % 3 == 0 {
                            let mut push = pin!(queue.push(marker(n)));
                            let pushed = tokio::select! {
                                biased;
                                result = &mut push => result.is_ok(),
                                _ = async {} => false,
                            };
                            if pushed {
                                continue;
                            }
                        }
                        queue.push(marker(n)).await.unwrap();
                    }
                    queue.finish(Ok(()));
                });
            }
        });
        let flusher = thread::spawn({
            let (queue, done) = (queue.clone(), done.clone());
            move || {
                while !done.load(Ordering::Relaxed) {
                    queue.set_flushing(true);
                    thread::yield_now();
                    queue.set_flushing(false);
                    thread::sleep(Duration::from_micros(50));
                }
            }
        });

        let mut expected = 0;
        loop {
            highest.fetch_max(queue.queued_bytes(), Ordering::Relaxed);
            match queue.pop() {
                Popped::Item(Item::Segment(segment)) => {
                    assert_eq!(segment.start, expected);
                    expected += 1;
                }
                Popped::Flushing => thread::yield_now(),
                Popped::Eos => break,
                other => panic!("{other:?}"),
            }
        }
        done.store(true, Ordering::Relaxed);
        producer.join().unwrap();
        flusher.join().unwrap();
        assert_eq!(expected, ITEMS);
        assert!(highest.load(Ordering::Relaxed) <= MAX);
    }
}
