//! One tokio runtime for all elements of the process.
//!
//! Sessions wait for the network nearly all the time, so few threads serve many of them. The runtime is
//! our own: an application's may be of another kind, or end before the element does.

use crate::{
    error::{Error, ErrorKind},
    log,
};
use once_cell::sync::OnceCell;
use std::{future::pending, hint::black_box, io, sync::mpsc, thread};
use tokio::runtime::{Builder, Handle, Runtime};

/// How many cores there are for each thread of the runtime. One thread reads the network for some 2,000
/// cameras of 1 Mbit/s. With a second one, the tasks of a connection wake each other across threads,
/// which costs a sixth of the time that a body takes; so there is none before it is needed.
const CORES_PER_THREAD: usize = 4;

/// The most threads.
const THREADS_MAX: usize = 4;

const NAME: &str = "kvsgetmedia";

/// The largest block that is freed here: glibc keeps twice as much for the next that is asked for.
const LARGEST_BLOCK: usize = 1 << 20;

fn worker_threads() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / CORES_PER_THREAD).clamp(1, THREADS_MAX)
}

static RUNTIME: OnceCell<Handle> = OnceCell::new();

/// The runtime's handle; the first call starts it.
///
/// Fails when the system has no thread or descriptor left; the next call tries again.
pub fn handle() -> Result<&'static Handle, Error> {
    RUNTIME.get_or_try_init(start).map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("The network threads could not be started: {error}"),
        )
    })
}

/// Starts the thread that makes the runtime and keeps it for ever. Where the runtime has no threads of
/// its own, it is the one that runs it.
fn start() -> io::Result<Handle> {
    keep_freed_memory();
    let (sender, made) = mpsc::channel();
    let keep = move || {
        log::listen();
        match build() {
            Ok(runtime) => {
                let _ = sender.send(Ok(runtime.handle().clone()));
                runtime.block_on(pending::<()>());
            }
            Err(error) => {
                let _ = sender.send(Err(error));
            }
        }
    };
    thread::Builder::new().name(NAME.to_owned()).spawn(keep)?;
    made.recv().map_err(io::Error::other)?
}

fn build() -> io::Result<Runtime> {
    let threads = worker_threads();
    let mut builder = match threads {
        // One worker of a scheduler for many wakes itself with two system calls for each chunk it reads.
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder
        .worker_threads(threads)
        .thread_name(NAME)
        .on_thread_start(log::listen)
        .enable_all()
        .build()
}

/// Lets the memory that bodies are read into be used again.
///
/// What is read is freed by another thread a moment later, and glibc would give it back to the system
/// at once, which then has to clear every page of it again: a tenth of what a fast body costs. How much
/// it keeps is twice the largest block that was ever freed (mallopt(3), `M_MMAP_THRESHOLD`): twice the
/// 400 KiB of hyper's buffers by themselves, which is less than what is under way.
fn keep_freed_memory() {
    drop(black_box(Vec::<u8>::with_capacity(LARGEST_BLOCK)));
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
