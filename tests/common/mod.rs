//! What the tests of the sans-IO core share: a stream of synthetic fragments, a service that is a
//! function, and what comes out in a form that can be compared.
#![allow(dead_code)] // each test binary uses its part

use bytes::Bytes;
use gstkvsgetmedia::{
    error::Error,
    item::{FragmentEnd, Gap, Item},
    receiver::{Config, Flow, Receiver},
    request::Selector,
};
use kvs_local::{
    mkv,
    synth::{Blocks, ClusterSize, Lacing, Synth, Synthetic, TrackSpec},
};

/// Video and audio, and every form of cluster and block that producers write.
pub fn every_form() -> Synthetic {
    Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(4)
        .frames(6)
        .payload(10, 40)
        .everything()
        .distinct_tokens()
        .tags_before(&[("camera", "front"), ("camera", "again")])
        .tags_after(&[("motion", "yes")])
        .each(|index, fragment| {
            fragment.cluster_size = [ClusterSize::Known, ClusterSize::Unknown][index % 2];
            fragment.blocks = [Blocks::Simple, Blocks::Group][index / 2 % 2];
            fragment.lacing = [Lacing::None, Lacing::Xiph, Lacing::Ebml, Lacing::Fixed][index % 4];
        })
        .build()
}

/// The body that the service would send: the documents from the selected one on.
pub fn body(media: &Synthetic, selector: &Selector) -> Bytes {
    documents(media, selector).concat().into()
}

pub fn documents(media: &Synthetic, selector: &Selector) -> Vec<Bytes> {
    let fragments = &media.fragments;
    let first = match selector {
        Selector::Earliest => 0,
        Selector::Now => fragments.len() - 1,
        Selector::AfterFragment(number) => {
            1 + fragments.iter().position(|f| f.number == *number).unwrap()
        }
        Selector::ContinuationToken(token) => {
            1 + fragments.iter().position(|f| f.token == *token).unwrap()
        }
        Selector::ProducerTimestamp(ms) => fragments
            .iter()
            .rposition(|f| f.producer_timestamp_ms <= *ms)
            .unwrap(),
        Selector::ServerTimestamp(ms) => fragments
            .iter()
            .rposition(|f| f.server_timestamp_ms <= *ms)
            .unwrap(),
    };
    fragments[first..]
        .iter()
        .map(|fragment| fragment.document.clone())
        .collect()
}

/// Feeds `bytes` in chunks of `size`.
pub fn feed(
    receiver: &mut Receiver,
    bytes: &Bytes,
    size: usize,
    items: &mut Vec<Item>,
) -> Result<Flow, Error> {
    for from in (0..bytes.len()).step_by(size) {
        let chunk = bytes.slice(from..bytes.len().min(from + size));
        let flow = receiver.push(chunk, items)?;
        if flow != Flow::Continue {
            return Ok(flow);
        }
    }
    Ok(Flow::Continue)
}

/// What a stream came to, without regard to how it was cut into buffers.
#[derive(Default, PartialEq, Clone)]
pub struct Outcome {
    pub bytes: Vec<u8>,
    /// Everything else, with how many bytes came before it.
    pub others: Vec<(usize, Item)>,
}

/// Fails with where two outcomes part, rather than with all of both.
#[track_caller]
pub fn assert_same(found: &Outcome, expected: &Outcome, what: impl std::fmt::Display) {
    for (index, pair) in found.others.iter().zip(&expected.others).enumerate() {
        assert!(
            pair.0 == pair.1,
            "{what}: item {index} is {:?} instead of {:?}",
            pair.0,
            pair.1
        );
    }
    assert_eq!(
        found.others.len(),
        expected.others.len(),
        "{what}: number of items"
    );
    let same = found
        .bytes
        .iter()
        .zip(&expected.bytes)
        .take_while(|(a, b)| a == b)
        .count();
    let (found, expected) = (found.bytes.len(), expected.bytes.len());
    assert!(
        same == found && same == expected,
        "{what}: {same} bytes are the same, of {found} and {expected}"
    );
}

impl Outcome {
    pub fn of(items: Vec<Item>) -> Self {
        let mut outcome = Outcome::default();
        for item in items {
            match item {
                Item::Data(data) => data
                    .pieces
                    .iter()
                    .for_each(|piece| outcome.bytes.extend_from_slice(piece)),
                other => outcome.others.push((outcome.bytes.len(), other)),
            }
        }
        outcome
    }

    /// Track, time in milliseconds and payload of every frame, as an independent reader finds them.
    pub fn frames(&self) -> Vec<(u64, i64, Bytes)> {
        let reading = mkv::read(&Bytes::from(self.bytes.clone()));
        assert!(reading.problems.is_empty(), "{:?}", reading.problems);
        frames(reading.frames())
    }

    pub fn gaps(&self) -> Vec<&Gap> {
        self.others
            .iter()
            .filter_map(|(_, item)| {
                if let Item::Gap(gap) = item {
                    Some(gap)
                } else {
                    None
                }
            })
            .collect()
    }

    pub fn ends(&self) -> Vec<&FragmentEnd> {
        self.others
            .iter()
            .filter_map(|(_, item)| {
                if let Item::FragmentEnd(end) = item {
                    Some(end)
                } else {
                    None
                }
            })
            .collect()
    }
}

pub fn frames<'a>(frames: impl IntoIterator<Item = &'a mkv::Frame>) -> Vec<(u64, i64, Bytes)> {
    frames
        .into_iter()
        .map(|f| (f.track, f.time_ns / 1_000_000, f.payload.clone()))
        .collect()
}

/// The same, on a line that begins with the earliest.
pub fn from_zero(mut frames: Vec<(u64, i64, Bytes)>) -> Vec<(u64, i64, Bytes)> {
    let origin = frames.iter().map(|frame| frame.1).min().unwrap_or(0);
    frames.iter_mut().for_each(|frame| frame.1 -= origin);
    frames
}

/// The stream, received without a fault.
pub fn uncut(media: &Synthetic, config: &Config, chunk: usize) -> Outcome {
    let mut receiver = Receiver::new(config.clone());
    let mut items = Vec::new();
    receiver.open();
    feed(
        &mut receiver,
        &body(media, &config.start),
        chunk,
        &mut items,
    )
    .unwrap();
    receiver.finish(&mut items).unwrap();
    Outcome::of(items)
}

/// How a connection comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// It breaks.
    Broken,
    /// The body ends as bodies should.
    Cleanly,
}

/// The stream, over connections that break after so many bytes each, and a last one that does not.
pub fn cut(media: &Synthetic, config: &Config, chunk: usize, cuts: &[usize]) -> Outcome {
    ended(media, config, chunk, cuts, Ends::Broken)
}

/// The same, where those connections end so.
pub fn ended(
    media: &Synthetic,
    config: &Config,
    chunk: usize,
    cuts: &[usize],
    ends: Ends,
) -> Outcome {
    let mut receiver = Receiver::new(config.clone());
    let mut items = Vec::new();
    let mut requested = config.start.clone();
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        receiver.open();
        let body = body(media, &requested);
        feed(
            &mut receiver,
            &body.slice(..cut.min(body.len())),
            chunk,
            &mut items,
        )
        .unwrap();
        if ends == Ends::Cleanly && cut != usize::MAX {
            receiver.close(false, &mut items).unwrap();
        }
        requested = receiver.position().request();
    }
    receiver.finish(&mut items).unwrap();
    Outcome::of(items)
}
