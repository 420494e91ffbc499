//! The buffer that the base class has been given, until it is on its way downstream.
//!
//! When a live source is paused, the base class of GStreamer 1.24 and later drops a buffer that it has
//! just been given, and asks for another when it plays again. Live frames are out of date by then; but
//! here a buffer is a part of a document, and what follows it would mean nothing.

use crate::lock::lock;
use gst::prelude::*;
use std::sync::{Arc, Mutex};

#[derive(Default)]
pub(super) struct Handed {
    buffer: Arc<Mutex<Option<gst::Buffer>>>,
    probe: Mutex<Option<gst::PadProbeId>>,
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

    /// What it was given and has not pushed.
    pub(super) fn dropped(&self) -> Option<gst::Buffer> {
        lock(&self.buffer).clone()
    }

    /// It is not wanted any more.
    pub(super) fn forget(&self) {
        lock(&self.buffer).take();
    }
}
