//! The life of the bin.

use super::{
    CAT,
    demux::Demuxers,
    meta::Fragment,
    pads::{Pads, TEMPLATES},
    seek::LastSeek,
};
use crate::{
    kvsgetmediasrc::{KvsGetMediaSrc, Payload, properties},
    lock::lock,
};
use gst::{prelude::*, subclass::prelude::*};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

pub struct KvsSrc {
    pub(super) source: KvsGetMediaSrc,
    pub(super) last_seek: LastSeek,
    demuxers: Mutex<Demuxers>,
    pads: Mutex<Pads>,
    /// The one that the source announced last.
    fragment: Mutex<Option<Arc<Fragment>>>,
}

// No lock is held while GStreamer is called.
impl KvsSrc {
    pub(super) fn demuxers(&self) -> MutexGuard<'_, Demuxers> {
        lock(&self.demuxers)
    }

    pub(super) fn pads(&self) -> MutexGuard<'_, Pads> {
        lock(&self.pads)
    }

    /// The fragment that the frames are of which the demuxer passes on now.
    pub(super) fn fragment(&self) -> Option<Arc<Fragment>> {
        lock(&self.fragment).clone()
    }

    /// Takes note of the event that announces a fragment.
    pub(super) fn note_fragment(&self, event: &gst::StructureRef) {
        if let Some(fragment) = Fragment::of(event) {
            *lock(&self.fragment) = Some(Arc::new(fragment));
        }
    }

    /// What the source can do and a demuxer can make nothing of.
    fn check(&self) -> Result<(), gst::StateChangeError> {
        if self.source.property::<Payload>("payload") == Payload::Continuous {
            return Ok(());
        }
        gst::element_imp_error!(
            self,
            gst::ResourceError::Settings,
            ("payload: raw cannot be demuxed; set it to continuous, or use kvsgetmediasrc")
        );
        Err(gst::StateChangeError)
    }
}

#[glib::object_subclass]
impl ObjectSubclass for KvsSrc {
    const NAME: &'static str = "GstKvsSrc";
    type Type = super::KvsSrc;
    type ParentType = gst::Bin;
    type Interfaces = (gst::URIHandler,);

    fn with_class(_: &Self::Class) -> Self {
        KvsSrc {
            source: glib::Object::builder().property("name", "source").build(),
            last_seek: LastSeek::default(),
            demuxers: Mutex::default(),
            pads: Mutex::default(),
            fragment: Mutex::default(),
        }
    }
}

impl ObjectImpl for KvsSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        static SPECS: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(properties::other_specs);
        &SPECS
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.set_element_flags(gst::ElementFlags::SOURCE);
        if let Err(error) = obj.add(&self.source) {
            gst::error!(CAT, imp = self, "Cannot add the source: {error}");
        }
        self.source.imp().set_follow_tracks(true);
        if let Some(pad) = self.source.static_pad("src") {
            self.watch_source(&pad);
        }
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.source.set_property_from_value(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        self.source.property_value(pspec.name())
    }
}

impl GstObjectImpl for KvsSrc {}

impl ElementImpl for KvsSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Amazon Kinesis Video Streams source bin",
                "Source/Network",
                "Plays an Amazon Kinesis video stream, live or from its archive, with a pad for each \
                 track; seekable by wall-clock time, which every frame carries",
                "The kvsgetmediasrc authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => self.add_demuxer()?,
            gst::StateChange::ReadyToPaused => self.check()?,
            _ => {}
        }
        let result = self.parent_change_state(transition)?;
        match transition {
            gst::StateChange::PausedToReady => {
                self.reset_demuxers();
                *lock(&self.fragment) = None;
            }
            gst::StateChange::ReadyToNull => self.drop_demuxers(),
            _ => {}
        }
        Ok(result)
    }

    fn send_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::Seek => self.seek(event),
            _ => self.parent_send_event(event),
        }
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        self.query_source(query)
            .unwrap_or_else(|| ElementImplExt::parent_query(self, query))
    }
}

impl BinImpl for KvsSrc {}

impl URIHandlerImpl for KvsSrc {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &[crate::kvsgetmediasrc::uri::SCHEME]
    }

    fn uri(&self) -> Option<String> {
        self.source.uri().map(Into::into)
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        self.source.set_uri(uri)
    }
}
