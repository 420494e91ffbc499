use super::connect::Connect;
use crate::{
    ebml::{self, Child, children, float, schema, text, unsigned, write},
    fragment::Element,
    item::Track,
};
use bytes::Bytes;

/// The most entries of a `Tracks`; the service allows three. Tracks are compared each with each.
const TRACKS_MAX: usize = 64;

/// Reads the entries of a `Tracks` element, and mends those that are not what they say.
pub(super) fn parse(tracks: &Element, connect: &Connect) -> Result<Vec<Track>, ebml::Error> {
    let mut all = Vec::new();
    for entry in entries(tracks) {
        if all.len() == TRACKS_MAX {
            let kind = ebml::ErrorKind::TooManyTracks(TRACKS_MAX);
            return Err(ebml::Error::new(kind, tracks.offset, &[schema::TRACKS]));
        }
        let mut track = entry.and_then(self::entry).map_err(within_tracks)?;
        if let Some(pcm) = connect.recognize(&track) {
            pcm.mend(&mut track);
        }
        all.push(track);
    }
    Ok(all)
}

fn entries(tracks: &Element) -> impl Iterator<Item = Result<Child<'_>, ebml::Error>> {
    children(&tracks.data, tracks.offset).filter(|child| {
        !child
            .as_ref()
            .is_ok_and(|child| child.id != schema::TRACK_ENTRY)
    })
}

fn within_tracks(error: ebml::Error) -> ebml::Error {
    error.within(&[schema::TRACKS])
}

fn entry(entry: Child<'_>) -> Result<Track, ebml::Error> {
    let mut track = Track::default();
    for child in children(entry.data, entry.offset) {
        let child = child.map_err(|e| e.within(&[schema::TRACK_ENTRY]))?;
        match child.id {
            schema::TRACK_NUMBER => track.number = unsigned(child.data).unwrap_or_default(),
            schema::TRACK_TYPE => track.kind = unsigned(child.data).unwrap_or_default(),
            schema::CODEC_ID => track.codec_id = text(child.data),
            schema::NAME => track.name = Some(text(child.data)),
            // A copy: it is queued and kept, and what it stands in may be much larger.
            schema::CODEC_PRIVATE => {
                track.codec_private = Some(Bytes::copy_from_slice(child.data));
            }
            schema::DEFAULT_DURATION => {
                track.default_duration = unsigned(child.data).filter(|&d| d > 0)
            }
            schema::VIDEO | schema::AUDIO => details(&mut track, child)?,
            _ => (),
        }
    }
    Ok(track)
}

fn details(track: &mut Track, master: Child<'_>) -> Result<(), ebml::Error> {
    for child in children(master.data, master.offset) {
        let child = child.map_err(|e| e.within(&[schema::TRACK_ENTRY, master.id]))?;
        match child.id {
            schema::PIXEL_WIDTH => track.width = unsigned(child.data),
            schema::PIXEL_HEIGHT => track.height = unsigned(child.data),
            schema::SAMPLING_FREQUENCY => track.rate = float(child.data),
            schema::CHANNELS => track.channels = unsigned(child.data),
            _ => (),
        }
    }
    Ok(())
}

/// The data of `tracks` for downstream: `parsed` is what it holds, mended and renumbered. As served
/// where nothing of that changed it.
pub(super) fn data(
    tracks: &Element,
    connect: &Connect,
    parsed: &[Track],
) -> Result<Bytes, ebml::Error> {
    let mut out = Vec::new();
    let mut changed = false;
    for (entry, track) in entries(tracks).zip(parsed) {
        let entry = entry.map_err(within_tracks)?;
        let served = self::entry(entry).map_err(within_tracks)?;
        let pcm = connect.recognize(&served);
        let renumbered = served.number != track.number;
        if pcm.is_none() && !renumbered {
            out.extend_from_slice(entry.element);
            continue;
        }
        changed = true;
        let mut children = Vec::new();
        for child in ebml::children(entry.data, entry.offset) {
            let child = child.map_err(within_tracks)?;
            match child.id {
                schema::TRACK_NUMBER => write::unsigned(&mut children, child.id, track.number),
                schema::CODEC_ID | schema::CODEC_PRIVATE | schema::AUDIO if pcm.is_some() => (),
                schema::CRC_32 => (),
                _ => children.extend_from_slice(child.element),
            }
        }
        if let Some(pcm) = pcm {
            pcm.write(&mut children);
        }
        write::element(&mut out, schema::TRACK_ENTRY, &children);
    }
    Ok(if changed {
        out.into()
    } else {
        tracks.data.clone()
    })
}

/// How the numbers of tracks that come relate to those that a demuxer was told of: pairs of one and
/// the other.
pub(super) type Numbers = Vec<(u64, u64)>;

/// Finds for each of the `new` tracks the one of `old` that it goes on with: of the same type and
/// codec, of the same name if there are several, else in order. `None` when that does not come out
/// even, which no demuxer can follow within one stream.
pub(super) fn match_up(old: &[Track], new: &[Track]) -> Option<Numbers> {
    let mut left: Vec<&Track> = old.iter().collect();
    let fits = |a: &Track, b: &Track| a.kind == b.kind && a.codec_id == b.codec_id;
    let mut numbers = Numbers::new();
    let mut open = Vec::new();
    for track in new {
        let same = |other: &&Track| fits(other, track) && other.name == track.name;
        let found = left
            .iter()
            .position(|other| same(other) && other.number == track.number);
        match found.or_else(|| left.iter().position(same)) {
            Some(index) => numbers.push((track.number, left.remove(index).number)),
            None => open.push(track),
        }
    }
    for track in open {
        let index = left.iter().position(|other| fits(other, track))?;
        numbers.push((track.number, left.remove(index).number));
    }
    let writable = |&(served, written): &(u64, u64)| {
        served == written || served.max(written) <= RENUMBERED_MAX
    };
    (left.is_empty() && numbers.iter().all(writable)).then_some(numbers)
}

/// The largest track number that takes one byte in a block, so that another fits in its place.
const RENUMBERED_MAX: u64 = 126;

/// The most nanoseconds a unit of time: a minute. Offsets of blocks in larger ones are of no use, and
/// times rounded up to one stay far from what 64 bits hold.
const SCALE_MAX: u64 = 60 * 1_000_000_000;

/// What `Info` says that matters here.
pub(super) struct Info {
    /// Nanoseconds a unit of time.
    pub scale: u64,
    /// Its children without `Duration`, which is that of some other file.
    pub children: Vec<u8>,
}

impl Info {
    /// Milliseconds, unless the document says otherwise.
    pub const DEFAULT_SCALE: u64 = 1_000_000;

    pub(super) fn parse(info: Option<&Element>) -> Result<Self, ebml::Error> {
        let mut found = Info {
            scale: Self::DEFAULT_SCALE,
            children: Vec::new(),
        };
        let Some(info) = info else { return Ok(found) };
        for child in children(&info.data, info.offset) {
            let child = child.map_err(|e| e.within(&[schema::INFO]))?;
            match child.id {
                schema::DURATION | schema::CRC_32 | schema::VOID => continue,
                schema::TIMESTAMP_SCALE => {
                    found.scale = unsigned(child.data)
                        .filter(|scale| (1..=SCALE_MAX).contains(scale))
                        .ok_or_else(|| {
                            let path = [schema::INFO, schema::TIMESTAMP_SCALE];
                            ebml::Error::new(
                                ebml::ErrorKind::InvalidScale(SCALE_MAX),
                                child.offset,
                                &path,
                            )
                        })?;
                }
                _ => (),
            }
            found.children.extend_from_slice(child.element);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(number: u64, codec: &str, name: &str) -> Track {
        Track {
            number,
            kind: 1,
            codec_id: codec.into(),
            name: Some(name.into()),
            ..Track::default()
        }
    }

    #[test]
    fn numbers_follow_codecs_and_names() {
        let old = [track(1, "A", "in"), track(2, "A", "out"), track(3, "B", "")];
        let new = [track(1, "B", ""), track(2, "A", "out"), track(5, "A", "in")];
        let mut numbers = match_up(&old, &new).unwrap();
        numbers.sort();
        assert_eq!(numbers, [(1, 3), (2, 2), (5, 1)]);
    }

    #[test]
    fn another_codec_or_count_does_not_match() {
        let old = [track(1, "A", "")];
        assert_eq!(match_up(&old, &[track(1, "B", "")]), None);
        assert_eq!(match_up(&old, &[]), None);
        assert_eq!(
            match_up(&old, &[track(1, "A", ""), track(2, "A", "")]),
            None
        );
        assert_eq!(
            match_up(&old, &[track(1, "A", "renamed")]),
            Some(vec![(1, 1)])
        );
    }
}
