//! Amazon Connect's call audio, which is announced as AAC and is PCM.

use crate::{
    ebml::{schema, write},
    item::{Tag, Track},
};

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Tracks of its names and codec id, in a document that a producer tag says holds `audio/L16`.
    #[default]
    Auto,
    /// Nothing.
    Off,
    /// Every track of its names.
    On,
}

/// The names of its tracks, in no fixed order.
const NAMES: [&str; 2] = ["AUDIO_FROM_CUSTOMER", "AUDIO_TO_CUSTOMER"];

/// The codec id it gives them. Its private data, `11 90`, decides nothing: it is that of 48 kHz stereo
/// AAC too.
const CODEC_ID: &str = "A_AAC";

/// The codec id of what it really sends.
const PCM_CODEC_ID: &str = "A_PCM/INT/LIT";

/// How a producer tag begins that says what the audio is: `audio/L16;rate=8000;channels=1`.
const L16: &str = "audio/L16";

/// Signed 16-bit PCM. Amazon Connect sends it little-endian, whatever RFC 2586 says of L16.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pcm {
    rate: u32,
    channels: u8,
}

impl Default for Pcm {
    fn default() -> Self {
        Pcm {
            rate: 8000,
            channels: 1,
        }
    }
}

impl Pcm {
    fn parse(value: &str) -> Option<Self> {
        let parameters = value.strip_prefix(L16)?;
        let parameter = |name: &str| {
            let mut pairs = parameters
                .split(';')
                .filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        let default = Pcm::default();
        Some(Pcm {
            rate: parameter("rate")
                .and_then(|rate| rate.parse().ok())
                .unwrap_or(default.rate),
            channels: parameter("channels")
                .and_then(|n| n.parse().ok())
                .unwrap_or(default.channels),
        })
    }

    /// What a mended track says.
    fn of(track: &Track) -> Option<Self> {
        let default = Pcm::default();
        (track.codec_id == PCM_CODEC_ID).then(|| Pcm {
            rate: track.rate.map_or(default.rate, |rate| rate as u32),
            channels: track
                .channels
                .and_then(|channels| channels.try_into().ok())
                .unwrap_or(default.channels),
        })
    }

    pub(super) fn mend(self, track: &mut Track) {
        track.codec_id = PCM_CODEC_ID.to_owned();
        track.codec_private = None;
        track.rate = Some(self.rate.into());
        track.channels = Some(self.channels.into());
    }

    /// Appends the children of a `TrackEntry` that say so.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        write::element(out, schema::CODEC_ID, PCM_CODEC_ID.as_bytes());
        let mut audio = Vec::new();
        write::element(
            &mut audio,
            schema::SAMPLING_FREQUENCY,
            &f64::from(self.rate).to_be_bytes(),
        );
        write::unsigned(&mut audio, schema::CHANNELS, self.channels.into());
        write::unsigned(&mut audio, schema::BIT_DEPTH, 16);
        write::element(out, schema::AUDIO, &audio);
    }
}

/// Recognises the tracks.
#[derive(Debug)]
pub(super) struct Connect {
    mode: Mode,
    pcm: Option<Pcm>,
}

impl Connect {
    /// `told` is what a demuxer has been told before. What was found out then still holds: the tag that
    /// says so may come after the frames it is about.
    pub(super) fn new(mode: Mode, told: &[Track]) -> Self {
        let mut mended = told.iter().filter(|track| has_name(track));
        Connect {
            mode,
            pcm: mended.find_map(Pcm::of),
        }
    }

    /// Takes note of the tags of a document.
    pub(super) fn read(&mut self, tags: &[Tag]) {
        if let Some(pcm) = tags.iter().find_map(|tag| Pcm::parse(&tag.value)) {
            self.pcm = Some(pcm);
        }
    }

    /// What a track really is, if it is one of Amazon Connect's.
    pub(super) fn recognize(&self, track: &Track) -> Option<Pcm> {
        match self.mode {
            Mode::Off => None,
            Mode::Auto => self.pcm.filter(|_| Self::is_candidate(track)),
            Mode::On => has_name(track).then(|| self.pcm.unwrap_or_default()),
        }
    }

    /// Whether the tag that decides is still missing: it may come after the fragment's frames.
    pub(super) fn is_undecided(&self, tracks: &[Track]) -> bool {
        self.mode == Mode::Auto && self.pcm.is_none() && tracks.iter().any(Self::is_candidate)
    }

    fn is_candidate(track: &Track) -> bool {
        has_name(track) && track.codec_id == CODEC_ID
    }
}

fn has_name(track: &Track) -> bool {
    track
        .name
        .as_deref()
        .is_some_and(|name| NAMES.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_media_type() {
        assert_eq!(
            Pcm::parse("audio/L16;rate=8000;channels=1"),
            Some(Pcm::default())
        );
        assert_eq!(
            Pcm::parse("audio/L16; channels=2; rate=16000"),
            Some(Pcm {
                rate: 16000,
                channels: 2
            })
        );
        assert_eq!(Pcm::parse("audio/L16"), Some(Pcm::default()));
        assert_eq!(Pcm::parse("audio/aac"), None);
    }

    #[test]
    fn names_codec_and_tag_decide_together() {
        let named = |name: &str, codec_id: &str| Track {
            name: Some(name.into()),
            codec_id: codec_id.into(),
            ..Track::default()
        };
        let tags = [Tag {
            name: "MimeType".into(),
            value: "audio/L16;rate=8000;channels=1".into(),
        }];
        let mut auto = Connect::new(Mode::Auto, &[]);
        let call = named(NAMES[0], CODEC_ID);
        assert_eq!(auto.recognize(&call), None);
        assert!(auto.is_undecided(std::slice::from_ref(&call)));
        auto.read(&tags);
        assert_eq!(auto.recognize(&call), Some(Pcm::default()));
        let mut told = call.clone();
        let stereo = Pcm {
            rate: 16000,
            channels: 2,
        };
        stereo.mend(&mut told);
        let later = Connect::new(Mode::Auto, &[named("music", PCM_CODEC_ID), told]);
        assert_eq!(later.recognize(&call), Some(stereo));
        assert_eq!(auto.recognize(&named("audio", CODEC_ID)), None);
        assert_eq!(auto.recognize(&named(NAMES[0], "A_OPUS")), None);
        assert_eq!(
            Connect::new(Mode::On, &[]).recognize(&call),
            Some(Pcm::default())
        );
        let mut off = Connect::new(Mode::Off, &[]);
        off.read(&tags);
        assert_eq!(off.recognize(&call), None);
    }
}
