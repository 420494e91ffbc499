//! The pads of the bin: one for each track, named as the demuxer names them.
//!
//! The numbers go on when another demuxer takes over: after `video_0` comes `video_1`.
//!
//! All pads are fed by one thread, the source's, as those of any demuxer that is fed. With one
//! exception: `uridecodebin` (and so `playbin`) takes every pad of a source for a stream with a
//! thread of its own, decodes each by itself without a queue, and blocks the first that is decoded
//! until all are. There, and only there, each pad has a [queue](Queued), which `decodebin` would have
//! put behind a demuxer.
//!
//! `uridecodebin` and `urisourcebin` do not follow when another pad comes in the place of one: in them
//! a pad stays and shows the new demuxer's, as long as that has a stream of the same media type.

use super::CAT;
use gst::{prelude::*, subclass::prelude::*};
use std::{collections::BTreeMap, ops::ControlFlow, sync::LazyLock};

/// The kinds of pads: the beginnings of the names.
const KINDS: [&str; 3] = ["video", "audio", "subtitle"];

pub(super) static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
    let template = |kind| {
        gst::PadTemplate::new(
            &format!("{kind}_%u"),
            gst::PadDirection::Src,
            gst::PadPresence::Sometimes,
            &gst::Caps::new_any(),
        )
    };
    KINDS.into_iter().flat_map(template).collect()
});

/// The parent in which pads need threads of their own.
const NEEDS_THREADS: &str = "GstURIDecodeBin";

/// The parents that do not follow when a pad comes in place of another.
const KEEP_PADS: [&str; 2] = ["GstURIDecodeBin", "GstURISourceBin"];

/// How much may wait in a pad's queue while another pad has nothing.
const QUEUE_BYTES: u32 = 16 * 1024 * 1024;

/// The pads there are, and the names there have been.
#[derive(Debug, Default)]
pub(super) struct Pads {
    shown: Vec<Shown>,
    /// Those whose demuxer has gone, and of which the queue still holds frames.
    draining: Vec<Shown>,
    next: BTreeMap<&'static str, u32>,
}

/// A pad of the demuxer, and the one that shows it.
#[derive(Debug)]
struct Shown {
    pad: gst::Pad,
    ghost: gst::GhostPad,
    queue: Option<Queued>,
}

/// The queue between the two.
#[derive(Debug)]
struct Queued {
    queue: gst::Element,
    /// EOS is in it.
    ended: bool,
}

impl Pads {
    /// A name that has not been used, for a pad that the demuxer calls `name`.
    fn name(&mut self, name: &str) -> Option<(&'static str, String)> {
        let kind = KINDS
            .into_iter()
            .find(|kind| name.strip_prefix(kind).is_some_and(|n| n.starts_with('_')))?;
        let next = self.next.entry(kind).or_default();
        let number = *next;
        *next = next.wrapping_add(1);
        Some((kind, format!("{kind}_{number}")))
    }
}

impl super::imp::KvsSrc {
    /// Shows a pad of the demuxer.
    pub(super) fn show_pad(&self, pad: &gst::Pad) {
        if self.keeps_pads() && self.keep_pad(pad) {
            return;
        }
        let Some((kind, name)) = self.pads().name(&pad.name()) else {
            gst::warning!(CAT, imp = self, "Not showing {pad:?}");
            return;
        };
        let obj = self.obj();
        let Some(template) = obj.pad_template(&format!("{kind}_%u")) else {
            return;
        };
        self.attach_metas(pad);
        let (target, queue) = match self.needs_threads().then(|| self.add_queue(pad)) {
            Some(Ok((target, queue))) => (target, Some(queue)),
            Some(Err(error)) => {
                gst::error!(CAT, imp = self, "No queue for {pad:?}: {error}");
                (pad.clone(), None)
            }
            None => (pad.clone(), None),
        };
        let ghost = gst::GhostPad::builder_from_template_with_target(&template, &target);
        let Ok(ghost) = ghost else {
            gst::error!(CAT, imp = self, "Cannot show {pad:?}");
            return;
        };
        let ghost = ghost
            .name(name)
            .event_function(|pad, parent, event| {
                bin(parent).is_some_and(|bin| {
                    bin.imp()
                        .catch_panic(|| false, |imp| imp.pad_event(pad, parent, event))
                })
            })
            .query_function(|pad, parent, query| {
                bin(parent).is_some_and(|bin| {
                    bin.imp()
                        .catch_panic(|| false, |imp| imp.pad_query(pad, parent, query))
                })
            })
            .build();
        if let Err(error) = ghost.set_active(true) {
            gst::error!(CAT, imp = self, "Cannot activate {ghost:?}: {error}");
            return;
        }
        // An application that looks at the new pad finds its caps and its stream.
        pad.sticky_events_foreach(|event| {
            let _ = ghost.store_sticky_event(event);
            ControlFlow::Continue(gst::EventForeachAction::Keep)
        });
        gst::debug!(CAT, imp = self, "Adding {ghost:?} for {pad:?}");
        self.pads().shown.push(Shown {
            pad: pad.clone(),
            ghost: ghost.clone(),
            queue: queue.map(|queue| Queued {
                queue,
                ended: false,
            }),
        });
        if let Err(error) = obj.add_pad(&ghost) {
            gst::error!(CAT, imp = self, "Cannot add {ghost:?}: {error}");
        }
    }

    /// The pad's last event is EOS.
    pub(super) fn end_pad(&self, pad: &gst::Pad) {
        if let Some(queued) = self
            .pads()
            .shown
            .iter_mut()
            .find(|shown| shown.pad == *pad)
            .and_then(|shown| shown.queue.as_mut())
        {
            queued.ended = true;
        }
        pad.push_event(gst::event::Eos::new());
    }

    /// A pad of a demuxer has gone.
    pub(super) fn hide_pad(&self, pad: &gst::Pad) {
        let shown = {
            let mut pads = self.pads();
            let index = pads.shown.iter().position(|shown| shown.pad == *pad);
            let shown = index.map(|index| pads.shown.remove(index));
            match shown {
                Some(shown) if shown.queue.as_ref().is_some_and(|queue| queue.ended) => {
                    pads.draining.push(shown);
                    None
                }
                shown => shown,
            }
        };
        if let Some(shown) = shown {
            self.remove_shown(shown);
        }
    }

    fn remove_shown(&self, shown: Shown) {
        let ghost = shown.ghost;
        gst::debug!(CAT, imp = self, "Removing {ghost:?}");
        let _ = ghost.set_active(false);
        let _ = self.obj().remove_pad(&ghost);
        if let Some(Queued { queue, .. }) = shown.queue {
            self.remove_element(&queue);
        }
    }

    /// Removes what still drains; nothing comes out any more.
    pub(super) fn remove_draining(&self) {
        let draining = std::mem::take(&mut self.pads().draining);
        for shown in draining {
            self.remove_shown(shown);
        }
    }

    fn parent_is(&self, types: &[&str]) -> bool {
        let parent = self.obj().parent();
        parent.is_some_and(|parent| types.contains(&parent.type_().name()))
    }

    fn needs_threads(&self) -> bool {
        self.parent_is(&[NEEDS_THREADS])
    }

    fn keeps_pads(&self) -> bool {
        self.parent_is(&KEEP_PADS)
    }

    /// Lets a pad that was there show a new demuxer's pad, if that has a stream of the same media
    /// type. It is the same stream then, for all that anyone downstream knows.
    fn keep_pad(&self, pad: &gst::Pad) -> bool {
        let media = |pad: &gst::Pad| {
            let caps = pad.current_caps()?;
            Some(caps.structure(0)?.name().to_string())
        };
        let (demuxer, new) = (pad.parent_element(), media(pad));
        let kept = {
            let mut pads = self.pads();
            let of_another = |shown: &&mut Shown| {
                shown.pad.parent_element() != demuxer && media(&shown.pad) == new
            };
            let shown = pads.shown.iter_mut().find(of_another);
            shown.map(|shown| {
                shown.pad = pad.clone();
                let queue = shown.queue.as_ref().map(|queued| queued.queue.clone());
                (shown.ghost.clone(), queue)
            })
        };
        let Some((ghost, queue)) = kept else {
            return false;
        };
        gst::debug!(CAT, imp = self, "Keeping {ghost:?} for {pad:?}");
        self.attach_metas(pad);
        if let Some(start) = ghost.sticky_event::<gst::event::StreamStart>(0) {
            pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
                if let Some(event) = info.event_mut()
                    && event.type_() == gst::EventType::StreamStart
                {
                    *event = start.to_owned().into();
                }
                gst::PadProbeReturn::Ok
            });
        }
        let linked = match queue.and_then(|queue| queue.static_pad("sink")) {
            Some(sink) => {
                if let Some(old) = sink.peer() {
                    let _ = old.unlink(&sink);
                }
                pad.link(&sink).is_ok()
            }
            None => ghost.set_target(Some(pad)).is_ok(),
        };
        if !linked {
            gst::error!(CAT, imp = self, "{ghost:?} cannot be kept for {pad:?}");
        }
        true
    }

    /// Puts a queue behind a pad of the demuxer; returns its source pad.
    fn add_queue(&self, pad: &gst::Pad) -> Result<(gst::Pad, gst::Element), glib::BoolError> {
        let queue = gst::ElementFactory::make("queue")
            .property("max-size-buffers", 0u32)
            .property("max-size-time", 0u64)
            .property("max-size-bytes", QUEUE_BYTES)
            .build()?;
        let of_queue = |name| {
            queue
                .static_pad(name)
                .ok_or_else(|| glib::bool_error!("queue has no pad {name}"))
        };
        let (sink, src) = (of_queue("sink")?, of_queue("src")?);
        let weak = self.downgrade();
        src.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |src, info| {
            let (Some(imp), Some(event)) = (weak.upgrade(), info.event()) else {
                return gst::PadProbeReturn::Ok;
            };
            if event.type_() != gst::EventType::Eos {
                return gst::PadProbeReturn::Ok;
            }
            imp.catch_panic(|| gst::PadProbeReturn::Ok, |imp| imp.drained(src, event))
        });
        let added = || {
            self.obj().add(&queue)?;
            pad.link(&sink)
                .map_err(|error| glib::bool_error!("not linked: {error}"))?;
            queue.sync_state_with_parent()
        };
        match added() {
            Ok(()) => Ok((src, queue)),
            Err(error) => {
                self.remove_element(&queue);
                Err(error)
            }
        }
    }

    /// EOS comes out of a queue. Behind it, a pad whose demuxer was replaced has nothing more to give.
    fn drained(&self, src: &gst::Pad, event: &gst::Event) -> gst::PadProbeReturn {
        let of_src = |shown: &Shown| {
            let queued = shown.queue.as_ref();
            queued.is_some_and(|queued| {
                queued.ended && src.parent_element().as_ref() == Some(&queued.queue)
            })
        };
        let is_last = {
            let pads = self.pads();
            pads.shown.iter().chain(&pads.draining).any(of_src)
        };
        let Some(peer) = src.peer().filter(|_| is_last) else {
            return gst::PadProbeReturn::Ok;
        };
        // Passed on from here, so that it has arrived before the pad goes.
        peer.send_event(event.clone());
        let src = src.clone();
        // In another thread: this one is the queue's own, which is to end.
        self.obj().call_async(move |bin| {
            let imp = bin.imp();
            imp.catch_panic(
                || (),
                |imp| {
                    let shown = {
                        let mut pads = imp.pads();
                        let of_queue = |shown: &Shown| {
                            let queued = shown.queue.as_ref();
                            queued.is_some_and(|queued| {
                                src.parent_element().as_ref() == Some(&queued.queue)
                            })
                        };
                        let Pads {
                            shown, draining, ..
                        } = &mut *pads;
                        [shown, draining].into_iter().find_map(|list| {
                            let index = list.iter().position(of_queue)?;
                            Some(list.remove(index))
                        })
                    };
                    if let Some(shown) = shown {
                        imp.remove_shown(shown);
                    }
                },
            );
        });
        gst::PadProbeReturn::Handled
    }

    /// Names begin again with 0.
    pub(super) fn forget_names(&self) {
        self.pads().next.clear();
    }

    fn pad_event(
        &self,
        pad: &gst::GhostPad,
        parent: Option<&gst::Object>,
        event: gst::Event,
    ) -> bool {
        match event.type_() {
            gst::EventType::Seek => self.seek(event),
            _ => gst::Pad::event_default(pad, parent, event),
        }
    }

    fn pad_query(
        &self,
        pad: &gst::GhostPad,
        parent: Option<&gst::Object>,
        query: &mut gst::QueryRef,
    ) -> bool {
        self.query_source(query)
            .unwrap_or_else(|| gst::Pad::query_default(pad, parent, query))
    }
}

/// The bin that a pad belongs to, if it still does.
fn bin(parent: Option<&gst::Object>) -> Option<&super::KvsSrc> {
    parent?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on() {
        let mut pads = Pads::default();
        let mut name = |name| pads.name(name).map(|(_, name)| name);
        assert_eq!(name("video_0").as_deref(), Some("video_0"));
        assert_eq!(name("audio_0").as_deref(), Some("audio_0"));
        assert_eq!(name("video_0").as_deref(), Some("video_1"));
        assert_eq!(name("video_1").as_deref(), Some("video_2"));
        assert_eq!(name("subtitle_0").as_deref(), Some("subtitle_0"));
        assert_eq!(name("videos_0"), None);
        assert_eq!(name("sink"), None);
    }
}
