//! The pads of the bin: one for each track, named as the demuxer names them.
//!
//! The numbers go on when another demuxer takes over: after `video_0` comes `video_1`.

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

/// The pads there are, and the names there have been.
#[derive(Debug, Default)]
pub(super) struct Pads {
    /// Each of the demuxer's, and the one that shows it.
    shown: Vec<(gst::Pad, gst::GhostPad)>,
    next: BTreeMap<&'static str, u32>,
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
        let Some((kind, name)) = self.pads().name(&pad.name()) else {
            gst::warning!(CAT, imp = self, "Not showing {pad:?}");
            return;
        };
        let obj = self.obj();
        let Some(template) = obj.pad_template(&format!("{kind}_%u")) else {
            return;
        };
        self.attach_metas(pad);
        let ghost = gst::GhostPad::builder_from_template_with_target(&template, pad);
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
        self.pads().shown.push((pad.clone(), ghost.clone()));
        if let Err(error) = obj.add_pad(&ghost) {
            gst::error!(CAT, imp = self, "Cannot add {ghost:?}: {error}");
        }
    }

    /// A pad of a demuxer has gone.
    pub(super) fn hide_pad(&self, pad: &gst::Pad) {
        let ghost = {
            let shown = &mut self.pads().shown;
            let index = shown.iter().position(|(target, _)| target == pad);
            index.map(|index| shown.remove(index).1)
        };
        if let Some(ghost) = ghost {
            gst::debug!(CAT, imp = self, "Removing {ghost:?}");
            let _ = ghost.set_active(false);
            let _ = self.obj().remove_pad(&ghost);
        }
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
