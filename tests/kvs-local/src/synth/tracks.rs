//! Entries of Tracks.

use bytes::Bytes;

use crate::mkv::ebml::{self, SizeWidth, id};

/// What a track holds.
#[derive(Debug, Clone, PartialEq)]
pub enum TrackKind {
    /// TrackType 1.
    Video {
        /// PixelWidth.
        width: u64,
        /// PixelHeight.
        height: u64,
    },
    /// TrackType 2.
    Audio {
        /// SamplingFrequency in Hz.
        rate: f64,
        /// Channels.
        channels: u64,
    },
    /// TrackType 2, without an Audio element.
    BareAudio,
}

/// An entry of Tracks.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackSpec {
    /// TrackNumber.
    pub number: u64,
    /// What it holds.
    pub kind: TrackKind,
    /// CodecID.
    pub codec_id: String,
    /// CodecPrivate; none if empty.
    pub codec_private: Bytes,
    /// Name; none if empty.
    pub name: String,
    /// DefaultDuration in nanoseconds.
    pub default_duration: Option<u64>,
}

/// The decoder configuration of a 320x240 High profile stream.
const AVCC: &[u8] = &[
    0x01, 0x64, 0x00, 0x0c, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x64, 0x00, 0x0c, 0xac, 0xd9, 0x41, 0x41,
    0xfb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x01, 0xe0, 0xf1, 0x42, 0x99,
    0x60, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0,
];

impl TrackSpec {
    fn new(number: u64, kind: TrackKind, codec_id: &str, codec_private: &[u8]) -> TrackSpec {
        TrackSpec {
            number,
            kind,
            codec_id: codec_id.to_owned(),
            codec_private: Bytes::copy_from_slice(codec_private),
            name: String::new(),
            default_duration: None,
        }
    }

    /// `V_MPEG4/ISO/AVC`, 320x240. Payloads look like one NAL unit with a 4-byte length.
    pub fn h264(number: u64) -> TrackSpec {
        let (width, height) = (320, 240);
        TrackSpec::new(
            number,
            TrackKind::Video { width, height },
            "V_MPEG4/ISO/AVC",
            AVCC,
        )
    }

    /// `V_VP8`, 320x240, without private data.
    pub fn vp8(number: u64) -> TrackSpec {
        let (width, height) = (320, 240);
        TrackSpec::new(number, TrackKind::Video { width, height }, "V_VP8", &[])
    }

    /// `A_AAC`, 48 kHz stereo, with its AudioSpecificConfig.
    pub fn aac(number: u64) -> TrackSpec {
        let kind = TrackKind::Audio {
            rate: 48_000.0,
            channels: 2,
        };
        TrackSpec::new(number, kind, "A_AAC", &[0x11, 0x90])
    }

    /// `A_PCM/INT/LIT`, 8 kHz mono.
    pub fn pcm(number: u64) -> TrackSpec {
        let kind = TrackKind::Audio {
            rate: 8000.0,
            channels: 1,
        };
        TrackSpec::new(number, kind, "A_PCM/INT/LIT", &[])
    }

    /// Amazon Connect's call audio, which says it is AAC and is not.
    pub fn connect(number: u64, name: &str) -> TrackSpec {
        TrackSpec::new(number, TrackKind::BareAudio, "A_AAC", &[0x11, 0x90]).named(name)
    }

    /// The same with another Name.
    #[must_use]
    pub fn named(mut self, name: &str) -> TrackSpec {
        name.clone_into(&mut self.name);
        self
    }

    /// The same with other private data.
    #[must_use]
    pub fn private(mut self, codec_private: &[u8]) -> TrackSpec {
        self.codec_private = Bytes::copy_from_slice(codec_private);
        self
    }

    pub(crate) fn is_h264(&self) -> bool {
        self.codec_id == "V_MPEG4/ISO/AVC"
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, width: SizeWidth) {
        let mut entry = Vec::new();
        let kind = match self.kind {
            TrackKind::Video { .. } => 1,
            TrackKind::Audio { .. } | TrackKind::BareAudio => 2,
        };
        ebml::put_uint(&mut entry, id::TRACK_NUMBER, self.number, width);
        ebml::put_uint(&mut entry, id::TRACK_UID, self.number + 1000, width);
        ebml::put_uint(&mut entry, id::TRACK_TYPE, kind, width);
        if let Some(duration) = self.default_duration {
            ebml::put_uint(&mut entry, id::DEFAULT_DURATION, duration, width);
        }
        if !self.name.is_empty() {
            ebml::put(&mut entry, id::TRACK_NAME, self.name.as_bytes(), width);
        }
        ebml::put(&mut entry, id::CODEC_ID, self.codec_id.as_bytes(), width);
        if !self.codec_private.is_empty() {
            ebml::put(&mut entry, id::CODEC_PRIVATE, &self.codec_private, width);
        }
        let mut settings = Vec::new();
        match self.kind {
            TrackKind::Video { width: w, height } => {
                ebml::put_uint(&mut settings, id::PIXEL_WIDTH, w, width);
                ebml::put_uint(&mut settings, id::PIXEL_HEIGHT, height, width);
                ebml::put(&mut entry, id::VIDEO, &settings, width);
            }
            TrackKind::Audio { rate, channels } => {
                let rate = rate.to_be_bytes();
                ebml::put(&mut settings, id::SAMPLING_FREQUENCY, &rate, width);
                ebml::put_uint(&mut settings, id::CHANNELS, channels, width);
                ebml::put(&mut entry, id::AUDIO, &settings, width);
            }
            TrackKind::BareAudio => {}
        }
        ebml::put(out, id::TRACK_ENTRY, &entry, width);
    }
}
