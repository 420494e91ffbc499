//! Tags and tracks of any bytes as structures on the bus: NULs within, what is no UTF-8, absurd numbers
//! make no panic and no warning of GLib's.

#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use gst_plugin_kvsgetmedia_fuzz::{
    bus,
    ebml::{schema, write},
    plan::Plan,
    receiver::Receiver,
};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Document<'a> {
    tags_before: Vec<Tag<'a>>,
    tags_after: Vec<Tag<'a>>,
    tracks: Vec<Track<'a>>,
    /// Taken as it is in place of `Tracks`.
    raw_tracks: Option<&'a [u8]>,
    /// Likewise.
    raw_tags: Option<&'a [u8]>,
    timecode: u64,
    block: bool,
}

#[derive(Debug, Arbitrary)]
struct Tag<'a> {
    name: Name<'a>,
    value: Value<'a>,
}

#[derive(Debug, Arbitrary)]
enum Name<'a> {
    FragmentNumber,
    ServerTimestamp,
    ProducerTimestamp,
    MillisBehindNow,
    ContinuationToken,
    ErrorCode,
    ErrorId,
    Other(&'a [u8]),
}

#[derive(Debug, Arbitrary)]
enum Value<'a> {
    Bytes(&'a [u8]),
    Number(u64),
    Seconds(u64, u16),
    Long(u16),
    Empty,
}

#[derive(Debug, Arbitrary)]
struct Track<'a> {
    number: u64,
    kind: u8,
    codec: bool,
    codec_id: &'a [u8],
    name: &'a [u8],
    size: u64,
    rate: f64,
    channels: u64,
}

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    stream: &'a str,
    raw: bool,
    end: Option<u64>,
    documents: Vec<Document<'a>>,
    plan: Plan,
}

impl Name<'_> {
    fn bytes(&self) -> Vec<u8> {
        let own = |suffix: &str| format!("AWS_KINESISVIDEO_{suffix}").into_bytes();
        match self {
            Name::FragmentNumber => own("FRAGMENT_NUMBER"),
            Name::ServerTimestamp => own("SERVER_TIMESTAMP"),
            Name::ProducerTimestamp => own("PRODUCER_TIMESTAMP"),
            Name::MillisBehindNow => own("MILLIS_BEHIND_NOW"),
            Name::ContinuationToken => own("CONTINUATION_TOKEN"),
            Name::ErrorCode => own("ERROR_CODE"),
            Name::ErrorId => own("ERROR_ID"),
            Name::Other(name) => name.to_vec(),
        }
    }
}

impl Value<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Value::Bytes(bytes) => bytes.to_vec(),
            Value::Number(number) => number.to_string().into_bytes(),
            Value::Seconds(seconds, millis) => format!("{seconds}.{millis}").into_bytes(),
            Value::Long(len) => vec![b'9'; usize::from(*len)],
            Value::Empty => Vec::new(),
        }
    }
}

impl Document<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        write::element(out, schema::EBML, &[]);
        write::start_unknown_size(out, schema::SEGMENT);
        let mut tracks = Vec::new();
        self.tracks
            .iter()
            .take(8)
            .for_each(|track| track.write(&mut tracks));
        write::element(out, schema::TRACKS, self.raw_tracks.unwrap_or(&tracks));
        if let Some(raw) = self.raw_tags {
            write::element(out, schema::TAGS, raw);
        }
        tags(out, &self.tags_before);
        if self.block {
            let mut cluster = Vec::new();
            write::unsigned(&mut cluster, schema::TIMESTAMP, self.timecode);
            write::element(&mut cluster, schema::SIMPLE_BLOCK, &[0x81, 0, 0, 0x80, 1]);
            write::element(out, schema::CLUSTER, &cluster);
        }
        tags(out, &self.tags_after);
    }
}

impl Track<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut entry = Vec::new();
        write::unsigned(&mut entry, schema::TRACK_NUMBER, self.number);
        write::unsigned(&mut entry, schema::TRACK_TYPE, self.kind.into());
        let codec_id = if self.codec { b"V_VP8" } else { self.codec_id };
        write::element(&mut entry, schema::CODEC_ID, codec_id);
        write::element(&mut entry, schema::NAME, self.name);
        let mut video = Vec::new();
        write::unsigned(&mut video, schema::PIXEL_WIDTH, self.size);
        write::element(&mut entry, schema::VIDEO, &video);
        let mut audio = Vec::new();
        write::element(
            &mut audio,
            schema::SAMPLING_FREQUENCY,
            &self.rate.to_be_bytes(),
        );
        write::unsigned(&mut audio, schema::CHANNELS, self.channels);
        write::element(&mut entry, schema::AUDIO, &audio);
        write::element(out, schema::TRACK_ENTRY, &entry);
    }
}

fn tags(out: &mut Vec<u8>, tags: &[Tag<'_>]) {
    let mut tag = Vec::new();
    for each in tags {
        let mut simple = Vec::new();
        write::element(&mut simple, schema::TAG_NAME, &each.name.bytes());
        write::element(&mut simple, schema::TAG_STRING, &each.value.bytes());
        write::element(&mut tag, schema::SIMPLE_TAG, &simple);
    }
    let mut tags = Vec::new();
    write::element(&mut tags, schema::TAG, &tag);
    write::element(out, schema::TAGS, &tags);
}

fuzz_target!(init: bus::init(), |input: Input<'_>| {
    let mut body = Vec::new();
    input.documents.iter().for_each(|document| document.write(&mut body));
    let mut config = input.plan.config();
    config.raw = input.raw;
    config.end_at = input.end;
    config.timeline.follow_tracks = true;
    let mut receiver = Receiver::new(config);
    let mut items = Vec::new();
    receiver.open();
    let pushed = receiver.push(Bytes::from(body), &mut items).map(drop);
    let finished = receiver.finish(&mut items);
    bus::post(input.stream, &items, pushed.and(finished).err().as_ref());
});
