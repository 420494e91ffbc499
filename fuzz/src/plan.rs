//! A stream, the cuts it suffers and what is asked of it, all made from the fuzzer's bytes.

use crate::{
    ebml::{schema, write},
    receiver::Config,
    request::{Selector, TimestampSource},
    timeline,
};
use arbitrary::Arbitrary;
use bytes::Bytes;

/// 2023-11-14, in milliseconds since the Unix epoch.
const START: u64 = 1_700_000_000_000;

/// Frames of a tame stream come in no other order than their times by more than this.
const JITTER: u64 = 80;

/// Everything of one run.
#[derive(Debug, Arbitrary)]
pub struct Plan {
    pub fragments: Vec<Fragment>,
    /// Each connection ends after so many 65536ths of what the service would send.
    pub cuts: Vec<u16>,
    pub chunks: [u8; 4],
    /// Times are what a producer would write, give or take; else anything.
    pub tame: bool,
    pub server_clock: bool,
    pub close_holes: bool,
    pub lateness: Option<u8>,
    pub scale: u8,
    pub private: Vec<u8>,
}

/// One document.
#[derive(Debug, Arbitrary)]
pub struct Fragment {
    pub clusters: Vec<Cluster>,
    /// How much later than it should it begins, in milliseconds.
    pub jump: i16,
    pub wild_jump: i64,
    pub producer: Timestamp,
    pub scale: u8,
    pub tracks_swapped: bool,
    pub shifted: u8,
    pub private: u8,
    pub relative: bool,
    pub token: bool,
    pub void: u8,
}

/// `AWS_KINESISVIDEO_PRODUCER_TIMESTAMP`
#[derive(Debug, Arbitrary, Clone, Copy)]
pub enum Timestamp {
    AsMeant,
    Zero,
    Missing,
    Any(u64),
}

#[derive(Debug, Arbitrary)]
pub struct Cluster {
    pub known_size: bool,
    /// Its timecode is so much later than that of the one before.
    pub later: u16,
    pub wild: u64,
    pub is_wild: bool,
    pub blocks: Vec<Block>,
}

#[derive(Debug, Arbitrary)]
pub struct Block {
    pub audio: bool,
    pub later: u8,
    pub offset: i16,
    pub form: u8,
    pub duration: u64,
    pub size: u8,
}

/// What a plan came to.
pub struct Stream {
    pub documents: Vec<Document>,
}

pub struct Document {
    pub number: String,
    pub token: Option<String>,
    pub server_ms: u64,
    pub bytes: Bytes,
    /// Whether it is of the second track, and what is in it.
    pub frames: Vec<(bool, Bytes)>,
}

impl Plan {
    pub fn config(&self) -> Config {
        Config {
            timeline: timeline::Config {
                source: match self.server_clock {
                    true => TimestampSource::Server,
                    false => TimestampSource::Producer,
                },
                close_holes: self.close_holes,
                max_lateness: self.lateness.map(|ms| u64::from(ms) * 10_000_000),
                ..timeline::Config::default()
            },
            ..Config::new(Selector::Earliest)
        }
    }

    pub fn stream(&self) -> Stream {
        let mut documents = Vec::new();
        let mut now = START;
        let mut count = 0u32;
        for (index, fragment) in self.fragments.iter().take(8).enumerate() {
            let frames = fragment.frames();
            let scale = match self.tame {
                true => scale(self.scale),
                false => scale(fragment.scale),
            };
            now = now.saturating_add_signed(fragment.jump.into());
            let mut producer = now;
            if !self.tame {
                producer = producer.saturating_add_signed(fragment.wild_jump);
            }
            documents.push(self.document(fragment, index, producer, scale, frames, &mut count));
            now += 2000;
        }
        Stream { documents }
    }

    fn document(
        &self,
        fragment: &Fragment,
        index: usize,
        producer: u64,
        scale: u64,
        blocks: usize,
        count: &mut u32,
    ) -> Document {
        let number = format!("9134385233318143239268206260{:04}", index + 1);
        let server_ms = START + 350 + 2000 * index as u64;
        let mut out = Vec::new();
        write::element(&mut out, schema::EBML, &[]);
        write::start_unknown_size(&mut out, schema::SEGMENT);
        let mut info = Vec::new();
        write::unsigned(&mut info, schema::TIMESTAMP_SCALE, scale);
        write::element(&mut out, schema::INFO, &info);
        let numbers = self.tracks(fragment, &mut out);
        let seconds = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let stamp = match (fragment.producer, self.tame) {
            (Timestamp::Zero, _) => Some("0.000".to_owned()),
            (Timestamp::Missing, _) => None,
            (Timestamp::Any(any), false) => Some(seconds(any)),
            _ => Some(seconds(producer)),
        };
        let server = seconds(server_ms);
        let mut tags = vec![("FRAGMENT_NUMBER", &number), ("SERVER_TIMESTAMP", &server)];
        tags.extend(stamp.as_ref().map(|stamp| ("PRODUCER_TIMESTAMP", stamp)));
        service_tags(&mut out, &tags);
        // Every frame is to lie within 16 bits of its cluster, whatever the scale.
        let units = |ms: u64| (ms as u128 * 1_000_000 / u128::from(scale)) as u64;
        let mut timecode = match fragment.relative {
            true => 0,
            false => units(producer),
        };
        let mut frames = Vec::with_capacity(blocks);
        for cluster in fragment.clusters.iter().take(6) {
            let mut data = Vec::new();
            timecode = match cluster.is_wild && !self.tame {
                true => cluster.wild,
                false => timecode.saturating_add(units(u64::from(cluster.later % 500))),
            };
            write::unsigned(&mut data, schema::TIMESTAMP, timecode);
            let mut at = 0;
            for block in cluster.blocks.iter().take(40) {
                at += u64::from(block.later % 40);
                let jitter = block.offset.unsigned_abs() as u64 % JITTER;
                let offset = match self.tame {
                    true => i16::try_from(units(at + jitter)).unwrap_or(i16::MAX),
                    false => block.offset,
                };
                let track = numbers[usize::from(block.audio)];
                let payload = payload(*count, block.size);
                *count += 1;
                self.block(block, track, offset, &payload, &mut data);
                frames.push((block.audio, payload));
            }
            timecode = timecode.saturating_add(units(at));
            match cluster.known_size {
                true => write::element(&mut out, schema::CLUSTER, &data),
                false => {
                    write::start_unknown_size(&mut out, schema::CLUSTER);
                    out.extend_from_slice(&data);
                }
            }
        }
        let token = fragment.token.then(|| format!("token-{index}"));
        if let Some(token) = &token {
            service_tags(&mut out, &[("CONTINUATION_TOKEN", token)]);
        }
        Document {
            number,
            token,
            server_ms,
            bytes: out.into(),
            frames,
        }
    }

    /// Two tracks in any order and of any numbers; returns these.
    fn tracks(&self, fragment: &Fragment, out: &mut Vec<u8>) -> [u64; 2] {
        let shift = u64::from(fragment.shifted % 100);
        let numbers = match fragment.tracks_swapped {
            true => [2 + shift, 1 + shift],
            false => [1 + shift, 2 + shift],
        };
        let mut tracks = Vec::new();
        for (index, number) in numbers.into_iter().enumerate() {
            let mut entry = Vec::new();
            write::unsigned(&mut entry, schema::TRACK_NUMBER, number);
            write::unsigned(&mut entry, schema::TRACK_TYPE, index as u64 + 1);
            let codec: &[u8] = [&b"V_VP8"[..], b"A_OPUS"][index];
            write::element(&mut entry, schema::CODEC_ID, codec);
            if fragment.private % 4 == 1 {
                write::element(&mut entry, schema::CODEC_PRIVATE, &self.private);
            }
            if !self.tame && fragment.private % 4 == 2 {
                write::unsigned(
                    &mut entry,
                    schema::DEFAULT_DURATION,
                    fragment.wild_jump as u64,
                );
            }
            write::element(&mut tracks, schema::TRACK_ENTRY, &entry);
        }
        if fragment.void % 4 == 1 {
            write::element(&mut tracks, schema::VOID, &[0; 9]);
        }
        write::element(out, schema::TRACKS, &tracks);
        numbers
    }

    fn block(&self, block: &Block, track: u64, offset: i16, payload: &[u8], out: &mut Vec<u8>) {
        let mut data = Vec::new();
        let len = if block.form & 4 == 4 { 4 } else { 1 };
        assert!(write::vint(&mut data, track, len));
        data.extend(offset.to_be_bytes());
        let flags = match block.form & 0x18 {
            // Of one frame, which takes what there is.
            0x18 => 0x04,
            _ => 0,
        };
        data.push(flags);
        if flags != 0 {
            data.push(0);
        }
        data.extend_from_slice(payload);
        if block.form & 1 == 0 {
            return write::element(out, schema::SIMPLE_BLOCK, &data);
        }
        let mut group = Vec::new();
        if block.form & 2 == 2 {
            let duration = match self.tame {
                true => block.duration % 40,
                false => block.duration,
            };
            write::unsigned(&mut group, schema::BLOCK_DURATION, duration);
        }
        write::element(&mut group, schema::BLOCK, &data);
        write::element(out, schema::BLOCK_GROUP, &group);
    }
}

impl Fragment {
    fn frames(&self) -> usize {
        self.clusters
            .iter()
            .map(|cluster| cluster.blocks.len())
            .sum()
    }
}

impl Stream {
    /// What the service sends when it is asked for this.
    pub fn body(&self, request: &Selector) -> Bytes {
        let documents = &self.documents;
        let first = match request {
            Selector::ContinuationToken(token) => {
                1 + documents
                    .iter()
                    .position(|d| d.token.as_ref() == Some(token))
                    .unwrap()
            }
            Selector::AfterFragment(number) => {
                1 + documents.iter().position(|d| d.number == *number).unwrap()
            }
            Selector::ServerTimestamp(ms) => {
                documents.iter().rposition(|d| d.server_ms <= *ms).unwrap()
            }
            Selector::Earliest => 0,
            Selector::Now | Selector::ProducerTimestamp(_) => unreachable!(),
        };
        let bytes: Vec<_> = documents[first..].iter().map(|d| d.bytes.clone()).collect();
        bytes.concat().into()
    }
}

/// Nanoseconds a unit of time.
fn scale(choice: u8) -> u64 {
    [
        1_000_000,
        1_000_000,
        1_000_000,
        100_000,
        10_000_000,
        1000,
        1,
        1_000_000_000,
    ][usize::from(choice % 8)]
}

/// Bytes that tell a frame from every other.
fn payload(count: u32, size: u8) -> Bytes {
    let mut bytes = count.to_be_bytes().to_vec();
    bytes.resize(4 + usize::from(size), count as u8);
    bytes.into()
}

fn service_tags(out: &mut Vec<u8>, tags: &[(&str, &String)]) {
    let mut tag = Vec::new();
    for (name, value) in tags {
        let mut simple = Vec::new();
        let name = format!("AWS_KINESISVIDEO_{name}");
        write::element(&mut simple, schema::TAG_NAME, name.as_bytes());
        write::element(&mut simple, schema::TAG_STRING, value.as_bytes());
        write::element(&mut tag, schema::SIMPLE_TAG, &simple);
    }
    let mut tags = Vec::new();
    write::element(&mut tags, schema::TAG, &tag);
    write::element(out, schema::TAGS, &tags);
}
