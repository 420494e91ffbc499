//! The generator and the reader against each other, and the reader against the recordings.

mod common;

use bytes::Bytes;
use common::recording;
use kvs_local::mkv::{self, Problem};
use kvs_local::synth::{Blocks, ClusterSize, Lacing, SizeWidth, Synth, TrackSpec};
use kvs_local::{Timecodes, mkv::ebml};

#[test]
fn whatever_is_made_is_read() {
    let mut shapes = 0;
    for blocks in [Blocks::Simple, Blocks::Group, Blocks::Mixed] {
        for lacing in [Lacing::None, Lacing::Xiph, Lacing::Ebml, Lacing::Fixed] {
            for cluster_size in [
                ClusterSize::Known,
                ClusterSize::Unknown,
                ClusterSize::UnknownIn(1),
            ] {
                for width in [
                    SizeWidth::Minimal,
                    SizeWidth::AtLeast(4),
                    SizeWidth::AtLeast(8),
                ] {
                    let media = Synth::new()
                        .tracks([TrackSpec::h264(1), TrackSpec::aac(200)])
                        .everything()
                        .blocks(blocks)
                        .lacing(lacing, 4)
                        .cluster_size(cluster_size)
                        .size_width(width)
                        .payload(3, 900)
                        .tags_before(&[("before", "1"), ("before", "2")])
                        .tags_after(&[("after", "d\u{e9}tection")])
                        .seed(shapes)
                        .build();
                    let reading = mkv::read(&media.recording());
                    assert_eq!(reading.problems, []);
                    assert_eq!(reading.documents.len(), 3);
                    assert!(reading.frames().eq(&media.frames()));
                    assert_eq!(media.frames().len(), 60);
                    for (document, made) in reading.documents.iter().zip(&media.fragments) {
                        assert_eq!(document.aws_tag("FRAGMENT_NUMBER"), Some(&made.number[..]));
                        assert_eq!(
                            document.tags.iter().filter(|t| t.name == "before").count(),
                            2
                        );
                        assert_eq!(document.tag("after"), Some("d\u{e9}tection"));
                        assert_eq!(document.tracks[1].codec_id, "A_AAC");
                    }
                    shapes += 1;
                }
            }
        }
    }
}

#[test]
fn timescale_and_timecodes() {
    for (timescale, timecodes, start) in [
        (1_000_000, Timecodes::Absolute, 1_700_000_000_000_000_000),
        (100_000, Timecodes::Relative, 0),
        (2_000_000, Timecodes::Relative, 0),
    ] {
        let media = Synth::new()
            .timescale(timescale)
            .timecodes(timecodes)
            .build();
        let frames = media.frames();
        assert_eq!(frames[0].time_ns, start);
        assert_eq!(frames[1].time_ns, start + 200_000_000);
        assert_eq!(frames[10].time_ns, start + 2_000_000_000);
        assert!(mkv::read(&media.recording()).frames().eq(&frames));
    }
}

#[test]
fn what_changes_from_a_fragment_on() {
    let media = Synth::new()
        .fragments(4)
        .from_fragment(2, |fragment| {
            fragment.tracks = vec![TrackSpec::vp8(3).private(b"new").named("front")];
        })
        .each(|index, fragment| fragment.media = index != 1)
        .build();
    let documents = mkv::read(&media.recording()).documents;
    assert_eq!(documents[0].tracks[0].codec_id, "V_MPEG4/ISO/AVC");
    assert!(documents[1].frames.is_empty() && documents[1].cluster_timecodes.is_empty());
    let track = &documents[3].tracks[0];
    assert_eq!(
        (track.number, &track.codec_id[..], &track.name[..]),
        (3, "V_VP8", "front")
    );
    assert_eq!(track.codec_private, "new");
    assert_eq!(documents[3].frames[0].track, 3);
}

#[test]
fn the_same_seed_makes_the_same_bytes() {
    let make = |seed| Synth::new().seed(seed).build().recording();
    assert_eq!(make(7), make(7));
    assert_ne!(make(7), make(8));
}

#[test]
fn any_cut_is_read_up_to_there_and_said_to_be_one() {
    let media = Synth::new()
        .fragments(2)
        .frames(4)
        .payload(3, 30)
        .everything()
        .build();
    let whole = media.recording();
    let frames = media.frames();
    for cut in 0..whole.len() {
        let reading = mkv::read(&whole.slice(..cut));
        let read: Vec<_> = reading.frames().collect();
        assert!(read.iter().copied().eq(&frames[..read.len()]), "{cut}");
        for problem in &reading.problems {
            assert!(
                matches!(problem, Problem::Truncated { .. }),
                "{cut}: {problem:?}"
            );
        }
    }
}

#[test]
fn any_bytes_are_read_without_panic() {
    let whole = Synth::new()
        .everything()
        .lacing(Lacing::Ebml, 3)
        .build()
        .recording();
    for index in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[index] ^= 0x55 << (index % 3);
        mkv::read(&bytes.into());
    }
}

#[test]
fn times_beyond_every_number_are_read_without_panic() {
    let read = |scale: u64, timecode: u64, offsets: [i16; 2]| {
        let media = Synth::new().frames(1).timescale(scale).build();
        let mut body = media.fragments[0].header.to_vec();
        let width = SizeWidth::Minimal;
        ebml::put_id(&mut body, ebml::id::CLUSTER);
        ebml::put_unknown_size(&mut body, 1);
        ebml::put_uint(&mut body, ebml::id::TIMECODE, timecode, width);
        for offset in offsets {
            let [high, low] = offset.to_be_bytes();
            let block = [0x81, high, low, 0x80, 0];
            ebml::put(&mut body, ebml::id::SIMPLE_BLOCK, &block, width);
        }
        mkv::read(&body.into())
    };
    let reading = read(u64::MAX, u64::MAX, [0, 0]);
    assert!(matches!(reading.problems[0], Problem::BadBlock { .. }));
    assert!(reading.documents[0].frames.is_empty());
    for (scale, timecode, offsets) in [
        (1, i64::MAX as u64, [-10, 0]),
        (1 << 62, 0, [-2, 1]),
        (1 << 62, 0, [1, -2]),
    ] {
        let reading = read(scale, timecode, offsets);
        assert_eq!(reading.frames().count(), 2);
        let lasts = reading.documents[0].duration_ms();
        assert!(lasts <= i64::MAX as u64 / 1_000_000, "{lasts}");
    }
}

#[test]
fn crc_is_the_standards() {
    assert_eq!(ebml::crc32(b"123456789"), 0xCBF4_3926u32.to_le_bytes());
}

#[test]
fn recordings_hold_as_many_blocks_as_they_do() {
    for (name, documents, blocks, truncated) in [
        ("output_get_media.mkv", 5, 300, false),
        ("kinesis_video_renderer_example_output.mkv", 8, 444, false),
        ("output-get-media-equal-timecode.mkv", 2, 239, true),
    ] {
        let Some(bytes) = recording(name) else {
            continue;
        };
        let reading = mkv::read(&Bytes::from(bytes));
        assert_eq!(reading.documents.len(), documents, "{name}");
        assert_eq!(reading.frames().count(), blocks, "{name}");
        assert_eq!(reading.is_truncated(), truncated, "{name}");
    }
}
