//! One tokio runtime for all elements of the process.
//!
//! Sessions wait for the network nearly all the time, so few threads serve many of them. The runtime is our own: an
//! application's may be of another kind, or end before the element does.

use crate::{
    error::{Error, ErrorKind},
    log,
};
use once_cell::sync::OnceCell;
use std::thread;
use tokio::runtime::{Builder, Handle, Runtime};

/// How many cores there are for each thread of the runtime. One thread reads the network for some 2,000
/// cameras of 1 Mbit/s. With a second one, the tasks of a connection wake each other across threads,
/// which costs a sixth of the time that a body takes; so there is none before it is needed.
const CORES_PER_THREAD: usize = 4;

/// The most threads.
const THREADS_MAX: usize = 4;

fn worker_threads() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / CORES_PER_THREAD).clamp(1, THREADS_MAX)
}

static RUNTIME: OnceCell<Runtime> = OnceCell::new();

/// The runtime's handle; the first call starts it.
///
/// Fails when the system has no thread or descriptor left; the next call tries again.
pub fn handle() -> Result<&'static Handle, Error> {
    RUNTIME
        .get_or_try_init(|| {
            Builder::new_multi_thread()
                .worker_threads(worker_threads())
                .thread_name("kvsgetmedia")
                .on_thread_start(log::listen)
                .enable_all()
                .build()
        })
        .map(Runtime::handle)
        .map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                format!("The network threads could not be started: {error}"),
            )
        })
}

#[cfg(test)]
mod tests {
    use std::thread;

    #[test]
    fn is_shared_and_its_threads_are_named() {
        let handle = super::handle().unwrap();
        assert_eq!(handle.id(), super::handle().unwrap().id());
        let (sender, receiver) = std::sync::mpsc::channel();
        handle.spawn(async move {
            sender
                .send(thread::current().name().map(str::to_owned))
                .unwrap();
        });
        assert_eq!(receiver.recv().unwrap().as_deref(), Some("kvsgetmedia"));
    }
}
