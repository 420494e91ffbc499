//! The buffer that the base class has been given, until it is on its way downstream.
//!
//! When a live source is paused, the base class of GStreamer 1.24 and later drops a buffer that it has
//! just been given, and asks for another when it plays again. Live frames are out of date by then; but
//! here a buffer is a part of a document, and what follows it would mean nothing.

use crate::lock::lock;
use gst::prelude::*;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

#[derive(Default)]
pub(super) struct Handed {
    buffer: Arc<Mutex<Option<gst::Buffer>>>,
    probe: Mutex<Option<gst::PadProbeId>>,
    /// The base class has been told to stop since it last asked for a buffer.
    interrupted: AtomicBool,
}

impl Handed {
    /// From now on, notices what is pushed on `pad`.
    pub(super) fn watch(&self, pad: &gst::Pad) {
        let buffer = self.buffer.clone();
        let probe = pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            lock(&buffer).take();
            gst::PadProbeReturn::Ok
        });
        *lock(&self.probe) = probe;
    }

    /// Ends that.
    pub(super) fn unwatch(&self, pad: &gst::Pad) {
        if let Some(probe) = lock(&self.probe).take() {
            pad.remove_probe(probe);
        }
        self.forget();
    }

    /// The base class is given `buffer`.
    pub(super) fn keep(&self, buffer: &gst::Buffer) {
        if lock(&self.probe).is_some() {
            *lock(&self.buffer) = Some(buffer.clone());
        }
    }

    /// The base class is told to stop: it may not push what it has.
    pub(super) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    /// The base class asks for a buffer: the one that it was given and has dropped. If it was not told to
    /// stop it was pushed, though a probe of the application's may have kept ours from seeing that.
    pub(super) fn dropped(&self) -> Option<gst::Buffer> {
        if !self.interrupted.swap(false, Ordering::Relaxed) {
            self.forget();
        }
        lock(&self.buffer).clone()
    }

    /// It is not wanted any more.
    pub(super) fn forget(&self) {
        lock(&self.buffer).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_interrupted_comes_again() {
        gst::init().unwrap();
        let handed = Handed::default();
        let buffer = gst::Buffer::new();
        handed.keep(&buffer);
        handed.interrupt();
        assert!(handed.dropped().is_none(), "not live");

        handed.watch(&gst::Pad::new(gst::PadDirection::Src));
        handed.keep(&buffer);
        handed.interrupt();
        assert!(handed.dropped().is_some());
        assert!(handed.dropped().is_none(), "it was pushed this time");
        // Told to stop while it had none.
        handed.interrupt();
        assert!(handed.dropped().is_none());
        handed.keep(&buffer);
        assert!(handed.dropped().is_none());
    }
}
