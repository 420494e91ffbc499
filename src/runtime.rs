//! One tokio runtime for all elements of the process.
//!
//! Sessions wait for the network nearly all the time, so one thread serves many of them: it takes in
//! gigabytes a second, and the service sends 25 MB/s a connection. The runtime is our own: an
//! application's may be of another kind, or end before the element does.

use crate::{
    error::{Error, ErrorKind},
    log,
};
use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle, Runtime};

/// With a second one, the tasks of a connection wake each other across threads, which costs a sixth of
/// the time that a body takes.
const WORKER_THREADS: usize = 1;

static RUNTIME: OnceCell<Runtime> = OnceCell::new();

/// The runtime's handle; the first call starts it.
///
/// Fails when the system has no thread or descriptor left; the next call tries again.
pub fn handle() -> Result<&'static Handle, Error> {
    RUNTIME
        .get_or_try_init(|| {
            Builder::new_multi_thread()
                .worker_threads(WORKER_THREADS)
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
    #[test]
    fn is_shared_and_its_threads_are_named() {
        let handle = super::handle().unwrap();
        assert_eq!(handle.id(), super::handle().unwrap().id());
        let (sender, receiver) = std::sync::mpsc::channel();
        handle.spawn(async move {
            sender
                .send(std::thread::current().name().map(str::to_owned))
                .unwrap();
        });
        assert_eq!(receiver.recv().unwrap().as_deref(), Some("kvsgetmedia"));
    }
}
