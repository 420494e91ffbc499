//! One fragment, written.

use bytes::Bytes;

use super::{Blocks, ClusterSize, FragmentSpec, Lacing, SynthFragment};
use crate::document::{self, DocumentStyle, Parts, Stamp};
use crate::mkv::Frame;
use crate::mkv::ebml::{self, SizeWidth, id};

/// `previous` is the length of the Cluster before, for PrevSize.
pub(super) fn fragment(spec: &FragmentSpec, seed: u64, previous: usize) -> SynthFragment {
    let width = spec.size_width;
    let mut setup = Vec::new();
    tags(&mut setup, &spec.tags_first, width);
    let before_setup = setup.len();
    if spec.seek_head {
        seek_head(&mut setup, width);
    }
    if spec.void {
        ebml::put(&mut setup, id::VOID, &[0; 40], width);
    }
    info(&mut setup, spec);
    let mut entries = Vec::new();
    for track in &spec.tracks {
        track.write(&mut entries, width);
    }
    ebml::put(&mut setup, id::TRACKS, &entries, width);
    let bare_setup = setup[before_setup..].to_vec();
    tags(&mut setup, &spec.tags_before, width);

    let (cluster, frames) = match spec.media {
        true => cluster(spec, seed, previous),
        false => (Vec::new(), Vec::new()),
    };
    let mut after = Vec::new();
    if spec.cues {
        cues(&mut after, spec);
    }
    tags(&mut after, &spec.tags_after, width);

    let parts = Parts {
        setup: setup.into(),
        trailer: after.into(),
        ..Parts::default()
    };
    let stamp = Stamp {
        number: &spec.number,
        token: &spec.token,
        server_ms: spec.server_timestamp_ms,
        producer_ms: spec.producer_timestamp_ms,
    };
    let style = DocumentStyle {
        trailing_tags: spec.trailing_tags,
        ..DocumentStyle::default()
    };
    let mut out = document::head(&parts, stamp, style);
    out.extend_from_slice(&cluster);
    out.extend(document::tail(&parts, stamp, style, spec.millis_behind));

    let mut header = document::ebml_header();
    ebml::put_id(&mut header, id::SEGMENT);
    ebml::put_unknown_size(&mut header, 8);
    header.extend_from_slice(&bare_setup);
    SynthFragment {
        number: spec.number.clone(),
        token: spec.token.clone(),
        producer_timestamp_ms: spec.producer_timestamp_ms,
        server_timestamp_ms: spec.server_timestamp_ms,
        document: out.into(),
        header: header.into(),
        cluster: cluster.into(),
        frames,
    }
}

fn tags(out: &mut Vec<u8>, tags: &[(String, String)], width: SizeWidth) {
    if !tags.is_empty() {
        let tags = tags.iter().map(|(name, value)| (&name[..], &value[..]));
        ebml::put_tags(out, tags, width);
    }
}

fn seek_head(out: &mut Vec<u8>, width: SizeWidth) {
    let mut seeks = Vec::new();
    for (target, position) in [(id::INFO, 4711), (id::TRACKS, 4812), (id::CUES, 999_999)] {
        let mut seek = Vec::new();
        ebml::put(&mut seek, id::SEEK_ID, &target.to_be_bytes(), width);
        ebml::put_uint(&mut seek, id::SEEK_POSITION, position, width);
        ebml::put(&mut seeks, id::SEEK, &seek, width);
    }
    ebml::put(out, id::SEEK_HEAD, &seeks, width);
}

fn info(out: &mut Vec<u8>, spec: &FragmentSpec) {
    let width = spec.size_width;
    let mut info = Vec::new();
    ebml::put_uint(&mut info, id::TIMECODE_SCALE, spec.timescale, width);
    if spec.info_duration {
        ebml::put(&mut info, 0x4489, &12_345.0f64.to_be_bytes(), width);
    }
    ebml::put(&mut info, id::MUXING_APP, b"kvs-local", width);
    ebml::put(&mut info, id::WRITING_APP, b"kvs-local\0\0\0", width);
    ebml::put(out, id::INFO, &info, width);
}

fn cues(out: &mut Vec<u8>, spec: &FragmentSpec) {
    let width = spec.size_width;
    let mut positions = Vec::new();
    let track = spec.tracks.first().map_or(1, |track| track.number);
    ebml::put_uint(&mut positions, id::CUE_TRACK, track, width);
    ebml::put_uint(&mut positions, id::CUE_CLUSTER_POSITION, 123_456, width);
    let mut point = Vec::new();
    ebml::put_uint(&mut point, id::CUE_TIME, 0, width);
    ebml::put(&mut point, id::CUE_TRACK_POSITIONS, &positions, width);
    let mut cues = Vec::new();
    ebml::put(&mut cues, id::CUE_POINT, &point, width);
    ebml::put(out, id::CUES, &cues, width);
}

fn cluster(spec: &FragmentSpec, seed: u64, previous: usize) -> (Vec<u8>, Vec<Frame>) {
    let width = spec.size_width;
    let units = |ms: f64| (ms * 1e6 / spec.timescale as f64).round() as u64;
    let timecode = units(spec.timecode_ms as f64);
    let mut body = Vec::new();
    ebml::put_uint(&mut body, id::TIMECODE, timecode, width);
    if spec.position {
        ebml::put_uint(&mut body, id::POSITION, 0, width);
    }
    if spec.prev_size {
        ebml::put_uint(&mut body, id::PREV_SIZE, previous as u64, width);
    }
    let step = spec.duration_ms as f64 / spec.frames.max(1) as f64;
    let mut frames = Vec::new();
    for (index, block) in blocks(spec, seed).into_iter().enumerate() {
        let offset = units(step * block.first as f64) as i64 - units(spec.lead_ms as f64) as i64;
        let offset = i16::try_from(offset).expect("a block within 16 bits of its Cluster");
        let keyframe = block.keyframe;
        write_block(&mut body, spec, &block, offset, units(step), index);
        if spec.void && index % 4 == 1 {
            ebml::put(&mut body, id::VOID, &[0; 5], width);
        }
        let time = timecode.saturating_add_signed(offset.into()) * spec.timescale;
        frames.extend(block.payloads.into_iter().map(|payload| Frame {
            track: block.track,
            time_ns: time as i64,
            keyframe,
            payload: Bytes::from(payload),
        }));
    }
    if spec.crc32 {
        let mut checked = Vec::with_capacity(body.len() + 6);
        ebml::put(&mut checked, id::CRC32, &ebml::crc32(&body), width);
        checked.extend_from_slice(&body);
        body = checked;
    }
    let mut out = Vec::with_capacity(body.len() + 12);
    ebml::put_id(&mut out, id::CLUSTER);
    match spec.cluster_size {
        ClusterSize::Known => ebml::put_size(&mut out, body.len() as u64, SizeWidth::AtLeast(8)),
        ClusterSize::Unknown => ebml::put_unknown_size(&mut out, 8),
        ClusterSize::UnknownIn(bytes) => ebml::put_unknown_size(&mut out, bytes),
    }
    out.extend_from_slice(&body);
    (out, frames)
}

struct Block {
    track: u64,
    /// Index of its first frame within the track's frames of this fragment.
    first: usize,
    keyframe: bool,
    payloads: Vec<Vec<u8>>,
}

/// The blocks of a fragment by time, and of one time in the order of Tracks.
fn blocks(spec: &FragmentSpec, seed: u64) -> Vec<Block> {
    let lace = match spec.lacing {
        Lacing::None => 1,
        _ => spec.laced_frames.clamp(1, 256),
    };
    let mut blocks = Vec::new();
    for first in (0..spec.frames).step_by(lace) {
        for track in &spec.tracks {
            let count = lace.min(spec.frames - first);
            let mut payloads: Vec<Vec<u8>> = (first..first + count)
                .map(|index| {
                    let random = Random::new(seed, track.number, index);
                    payload(random, spec.payload, track.is_h264(), index == 0)
                })
                .collect();
            if spec.lacing == Lacing::Fixed {
                let shortest = payloads.iter().map(Vec::len).min().unwrap_or(0);
                for payload in &mut payloads {
                    payload.truncate(shortest);
                }
            }
            blocks.push(Block {
                track: track.number,
                first,
                keyframe: first == 0 || matches!(track.kind, super::TrackKind::Audio { .. }),
                payloads,
            });
        }
    }
    blocks
}

fn write_block(
    out: &mut Vec<u8>,
    spec: &FragmentSpec,
    block: &Block,
    offset: i16,
    step: u64,
    index: usize,
) {
    let width = spec.size_width;
    let simple = match spec.blocks {
        Blocks::Simple => true,
        Blocks::Group => false,
        Blocks::Mixed => index.is_multiple_of(2),
    };
    let lacing = match spec.lacing {
        _ if block.payloads.len() == 1 => 0,
        Lacing::None => 0,
        Lacing::Xiph => 1,
        Lacing::Fixed => 2,
        Lacing::Ebml => 3,
    };
    let mut body = Vec::new();
    ebml::put_size(&mut body, block.track, SizeWidth::Minimal);
    body.extend_from_slice(&offset.to_be_bytes());
    let key = if simple && block.keyframe { 0x80 } else { 0 };
    body.push(key | lacing << 1);
    if lacing != 0 {
        body.push((block.payloads.len() - 1) as u8);
        lace_sizes(&mut body, lacing, &block.payloads);
    }
    for payload in &block.payloads {
        body.extend_from_slice(payload);
    }
    if simple {
        return ebml::put(out, id::SIMPLE_BLOCK, &body, width);
    }
    let mut group = Vec::new();
    ebml::put(&mut group, id::BLOCK, &body, width);
    let duration = step * block.payloads.len() as u64;
    ebml::put_uint(&mut group, id::BLOCK_DURATION, duration, width);
    if !block.keyframe {
        let back = i16::try_from(step).map_or(-1, |step| -step);
        ebml::put(&mut group, id::REFERENCE_BLOCK, &back.to_be_bytes(), width);
    }
    ebml::put(out, id::BLOCK_GROUP, &group, width);
}

/// Sizes of all frames of a lace but the last.
fn lace_sizes(out: &mut Vec<u8>, lacing: u8, payloads: &[Vec<u8>]) {
    let sizes: Vec<usize> = payloads.iter().map(Vec::len).collect();
    let all_but_last = &sizes[..sizes.len() - 1];
    match lacing {
        1 => {
            for size in all_but_last {
                out.extend(std::iter::repeat_n(255, size / 255));
                out.push((size % 255) as u8);
            }
        }
        3 => {
            ebml::put_size(out, sizes[0] as u64, SizeWidth::Minimal);
            for pair in all_but_last.windows(2) {
                let difference = pair[1] as i64 - pair[0] as i64;
                let mut len = 1;
                // The largest difference a length holds is half its range.
                while difference.abs() >= (1i64 << (7 * len - 1)) - 1 {
                    len += 1;
                }
                let raw = difference + (1i64 << (7 * len - 1)) - 1;
                let marked = raw as u64 | 1u64 << (7 * len);
                out.extend_from_slice(&marked.to_be_bytes()[8 - len..]);
            }
        }
        _ => {}
    }
}

fn payload(mut random: Random, (from, to): (usize, usize), h264: bool, key: bool) -> Vec<u8> {
    let size = from + (random.next() % (to - from + 1) as u64) as usize;
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        out.extend_from_slice(&random.next().to_le_bytes());
    }
    out.truncate(size);
    if h264 && size > 5 {
        out[..4].copy_from_slice(&(size as u32 - 4).to_be_bytes());
        out[4] = if key { 0x65 } else { 0x41 };
    }
    out
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn new(seed: u64, track: u64, index: usize) -> Random {
        let mut random = Random(seed ^ track.rotate_left(40) ^ (index as u64).rotate_left(20));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }
}
