//! The demuxer, and how another takes its place.
//!
//! A demuxer cannot follow tracks that come, go or change their codec. When that happens the source
//! sends the event `kvs-tracks-changed` and then a document that begins anew. At that point of the
//! stream the source is linked to a new demuxer. The application sees, all in the streaming thread:
//!
//! 1. the new pads, under new names;
//! 2. no-more-pads;
//! 3. EOS on the old pads, behind their last frame;
//! 4. the old pads go.
//!
//! It always has a pad that is not at its end, so the pipeline is never at its end too early; and a
//! pad that is linked when it is added gets every frame, since no data flows before that.
//!
//! Until its EOS has gone out, an old demuxer is *retired*: no data comes to it any more, but flushes
//! must, or a seek would wait for the EOS that it is to interrupt.

use super::CAT;
use crate::kvsgetmediasrc::messages::TRACKS_CHANGED;
use gst::{prelude::*, subclass::prelude::*};

/// The demuxers there are.
#[derive(Debug, Default)]
pub(super) struct Demuxers {
    current: Option<Current>,
    /// Those whose pads have not had their EOS, oldest first.
    retired: Vec<gst::Element>,
    flushing: bool,
}

/// The demuxer that is fed.
#[derive(Debug)]
struct Current {
    element: gst::Element,
    /// How many there were before it.
    generation: u32,
    /// It has all its pads.
    complete: bool,
}

impl Demuxers {
    fn is_current(&self, element: &gst::Element) -> bool {
        self.current.as_ref().is_some_and(|c| c.element == *element)
    }

    /// A retired demuxer has sent its EOS. `false` if a flush has made away with that: one that has begun
    /// by now. It waits for this thread before it stops, and one that begins later finds the demuxer
    /// gone, and its pads at their end.
    fn forget_retired(&mut self, element: &gst::Element) -> bool {
        if !self.flushing {
            self.retired.retain(|retired| retired != element);
        }
        !self.flushing
    }

    fn generation(&self) -> u32 {
        self.current
            .as_ref()
            .map_or(0, |current| current.generation)
    }
}

impl super::imp::KvsSrc {
    /// Watches what the source says to the demuxer.
    pub(super) fn watch_source(&self, pad: &gst::Pad) {
        let weak = self.downgrade();
        pad.add_probe(
            gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH,
            move |_, info| {
                let (Some(imp), Some(event)) = (weak.upgrade(), info.event_mut()) else {
                    return gst::PadProbeReturn::Ok;
                };
                imp.catch_panic(
                    || gst::PadProbeReturn::Ok,
                    |imp| match imp.source_event(event) {
                        true => gst::PadProbeReturn::Ok,
                        // Not Drop: the bindings then take the event away from GStreamer, which
                        // wants to drop it.
                        false => gst::PadProbeReturn::Handled,
                    },
                )
            },
        );
    }

    /// Whether the event goes on to the demuxer.
    fn source_event(&self, event: &mut gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStart(_) => {
                self.demuxers().flushing = true;
                self.send_to_retired(event);
            }
            gst::EventView::FlushStop(_) => {
                self.send_to_retired(event);
                self.demuxers().flushing = false;
            }
            gst::EventView::StreamStart(start) => {
                if let Some(renamed) = self.rename_stream(start) {
                    *event = renamed;
                }
            }
            // A flush may have interrupted it.
            gst::EventView::Segment(_) => self.end_retired(),
            gst::EventView::Eos(_) => return self.end(),
            gst::EventView::CustomDownstream(custom) => {
                if let Some(structure) = custom.structure() {
                    self.note_fragment(structure);
                    if structure.name() == TRACKS_CHANGED && structure.get("compatible") != Ok(true)
                    {
                        self.replace_demuxer();
                        return false;
                    }
                }
            }
            _ => {}
        }
        true
    }

    /// A demuxer derives the ids of its streams from that of the source and the tracks' numbers: with
    /// the same id for both, different streams of two demuxers would pass for one.
    fn rename_stream(&self, event: &gst::event::StreamStart) -> Option<gst::Event> {
        let generation = self.demuxers().generation();
        if generation == 0 {
            return None;
        }
        let stream_id = format!("{}/{generation}", event.stream_id());
        let renamed = gst::event::StreamStart::builder(&stream_id)
            .seqnum(event.seqnum())
            .flags(event.stream_flags())
            .group_id_if_some(event.group_id());
        Some(renamed.build())
    }

    /// Makes the first demuxer.
    pub(super) fn add_demuxer(&self) -> Result<(), gst::StateChangeError> {
        if self.demuxers().current.is_none() {
            self.change_demuxer(0).map_err(|error| {
                self.fail(&error);
                gst::StateChangeError
            })?;
        }
        Ok(())
    }

    fn fail(&self, error: &glib::BoolError) {
        gst::element_imp_error!(
            self,
            gst::CoreError::MissingPlugin,
            ("matroskademux cannot be used; is the GStreamer Good Plug-ins package installed?"),
            ["{error}"]
        );
    }

    fn replace_demuxer(&self) {
        gst::info!(
            CAT,
            imp = self,
            "The tracks changed: another demuxer takes over"
        );
        let generation = self.demuxers().generation().wrapping_add(1);
        if let Err(error) = self.change_demuxer(generation) {
            self.fail(&error);
        }
    }

    /// Puts a new demuxer behind the source; the one that was there is retired.
    fn change_demuxer(&self, generation: u32) -> Result<(), glib::BoolError> {
        let obj = self.obj();
        let element = gst::ElementFactory::make("matroskademux").build()?;
        let sink = element
            .static_pad("sink")
            .ok_or_else(|| glib::bool_error!("matroskademux has no sink pad"))?;
        let source = self
            .source
            .static_pad("src")
            .ok_or_else(|| glib::bool_error!("the source has no pad"))?;
        self.watch_demuxer(&element);
        obj.add(&element)?;
        let current = Current {
            element: element.clone(),
            generation,
            complete: false,
        };
        {
            let mut demuxers = self.demuxers();
            let old = demuxers.current.replace(current);
            demuxers.retired.extend(old.map(|old| old.element));
        }
        if let Some(old) = source.peer() {
            let _ = source.unlink(&old);
        }
        source
            .link(&sink)
            .map_err(|error| glib::bool_error!("the source does not link: {error}"))?;
        element.sync_state_with_parent()
    }

    fn watch_demuxer(&self, element: &gst::Element) {
        let weak = self.downgrade();
        element.connect_pad_added(move |_, pad| {
            if let Some(imp) = weak.upgrade()
                && pad.direction() == gst::PadDirection::Src
            {
                imp.catch_panic(|| (), |imp| imp.show_pad(pad));
            }
        });
        let weak = self.downgrade();
        element.connect_pad_removed(move |_, pad| {
            if let Some(imp) = weak.upgrade() {
                imp.catch_panic(|| (), |imp| imp.hide_pad(pad));
            }
        });
        let weak = self.downgrade();
        element.connect_no_more_pads(move |element| {
            if let Some(imp) = weak.upgrade() {
                imp.catch_panic(|| (), |imp| imp.has_all_pads(element));
            }
        });
    }

    fn has_all_pads(&self, element: &gst::Element) {
        {
            let mut demuxers = self.demuxers();
            if !demuxers.is_current(element) {
                return;
            }
            if let Some(current) = &mut demuxers.current {
                current.complete = true;
            }
        }
        self.obj().no_more_pads();
        self.end_retired();
    }

    fn send_to_retired(&self, event: &gst::Event) {
        let retired = self.demuxers().retired.clone();
        for element in retired {
            if let Some(sink) = element.static_pad("sink") {
                sink.send_event(event.clone());
            }
        }
    }

    /// Ends the pads of the retired demuxers and lets them go, once there are pads in their place.
    fn end_retired(&self) {
        loop {
            let element = {
                let demuxers = self.demuxers();
                match (&demuxers.current, demuxers.retired.first()) {
                    (Some(current), Some(first)) if current.complete => first.clone(),
                    _ => return,
                }
            };
            self.end_pads(&element);
            if !self.demuxers().forget_retired(&element) {
                return;
            }
            self.remove_element(&element);
        }
    }

    /// Sends EOS on all pads of a demuxer, as long as no flush makes away with it.
    fn end_pads(&self, element: &gst::Element) {
        for pad in element.src_pads() {
            if self.demuxers().flushing {
                return;
            }
            self.end_pad(&pad);
        }
    }

    /// The source is at its end. A demuxer that has seen no header makes an error of that; this is
    /// none where frames of the tracks before were seen.
    fn end(&self) -> bool {
        let retired = {
            let demuxers = self.demuxers();
            let complete = demuxers
                .current
                .as_ref()
                .is_none_or(|current| current.complete);
            match complete {
                true => return true,
                false => demuxers.retired.clone(),
            }
        };
        for element in &retired {
            self.end_pads(element);
        }
        retired.is_empty()
    }

    /// Lets a part of the bin go.
    pub(super) fn remove_element(&self, element: &gst::Element) {
        // The bin may be changing its state, and must not wake it up again.
        element.set_locked_state(true);
        let _ = element.set_state(gst::State::Null);
        let _ = self.obj().remove(element);
    }

    /// The source has stopped: one demuxer is left, which has no pads and has seen nothing.
    pub(super) fn reset_demuxers(&self) {
        let retired = {
            let mut demuxers = self.demuxers();
            demuxers.flushing = false;
            if let Some(current) = &mut demuxers.current {
                current.generation = 0;
                current.complete = false;
            }
            std::mem::take(&mut demuxers.retired)
        };
        for element in &retired {
            self.remove_element(element);
        }
        self.remove_draining();
        self.forget_names();
    }

    /// Lets the demuxer go.
    pub(super) fn drop_demuxers(&self) {
        self.reset_demuxers();
        let current = self.demuxers().current.take();
        if let Some(current) = current {
            self.remove_element(&current.element);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_keeps_what_it_has_to_flush() {
        gst::init().unwrap();
        let element = gst::ElementFactory::make("identity").build().unwrap();
        let mut demuxers = Demuxers {
            retired: vec![element.clone()],
            flushing: true,
            ..Demuxers::default()
        };
        assert!(!demuxers.forget_retired(&element));
        assert_eq!(demuxers.retired, std::slice::from_ref(&element));
        demuxers.flushing = false;
        assert!(demuxers.forget_retired(&element));
        assert!(demuxers.retired.is_empty());
    }
}
