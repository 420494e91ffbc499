use crate::{
    ebml::{self, children, float, schema, text, unsigned},
    fragment::Element,
    item::Track,
};

/// Reads the entries of a `Tracks` element.
pub(super) fn parse(tracks: &Element) -> Result<Vec<Track>, ebml::Error> {
    let mut all = Vec::new();
    for entry in children(&tracks.data, tracks.offset) {
        let entry = entry.map_err(|e| e.within(&[schema::TRACKS]))?;
        if entry.id == schema::TRACK_ENTRY {
            let track = self::entry(tracks, entry);
            all.push(track.map_err(|e| e.within(&[schema::TRACKS, schema::TRACK_ENTRY]))?);
        }
    }
    Ok(all)
}

fn entry(tracks: &Element, entry: ebml::Child<'_>) -> Result<Track, ebml::Error> {
    let mut track = Track::default();
    for child in children(entry.data, entry.offset) {
        let child = child?;
        match child.id {
            schema::TRACK_NUMBER => track.number = unsigned(child.data).unwrap_or_default(),
            schema::TRACK_TYPE => track.kind = unsigned(child.data).unwrap_or_default(),
            schema::CODEC_ID => track.codec_id = text(child.data),
            schema::NAME => track.name = Some(text(child.data)),
            schema::CODEC_PRIVATE => track.codec_private = Some(tracks.data.slice_ref(child.data)),
            schema::DEFAULT_DURATION => track.default_duration = unsigned(child.data).filter(|&d| d > 0),
            schema::VIDEO | schema::AUDIO => details(&mut track, child)?,
            _ => (),
        }
    }
    Ok(track)
}

fn details(track: &mut Track, master: ebml::Child<'_>) -> Result<(), ebml::Error> {
    for child in children(master.data, master.offset) {
        let child = child.map_err(|e| e.within(&[master.id]))?;
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

/// Whether a demuxer that was given `old` can go on with `new`: the same tracks with the same codecs,
/// be it with other private data or another picture size.
pub(super) fn are_compatible(old: &[Track], new: &[Track]) -> bool {
    let key = |track: &Track| (track.number, track.kind, track.codec_id.clone());
    old.iter().map(key).eq(new.iter().map(key))
}

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
        let mut found = Info { scale: Self::DEFAULT_SCALE, children: Vec::new() };
        let Some(info) = info else { return Ok(found) };
        for child in children(&info.data, info.offset) {
            let child = child.map_err(|e| e.within(&[schema::INFO]))?;
            match child.id {
                schema::DURATION | schema::CRC_32 | schema::VOID => continue,
                schema::TIMESTAMP_SCALE => {
                    found.scale = unsigned(child.data).filter(|&scale| scale > 0).ok_or_else(|| {
                        let path = [schema::INFO, schema::TIMESTAMP_SCALE];
                        ebml::Error::new(ebml::ErrorKind::ZeroScale, child.offset, &path)
                    })?;
                }
                _ => (),
            }
            found.children.extend_from_slice(child.element);
        }
        Ok(found)
    }
}
