use crate::{ebml::Block, item::Track};

/// No frame lasts longer, whatever the stream says: the line goes on from its end.
const DURATION_MAX: u64 = 3600 * 1_000_000_000;

/// The longest distance of two frames that is a pace. Beyond, they are events, or pictures that nobody
/// waits for.
pub(super) const PACE_MAX: u64 = 10 * 1_000_000_000;

/// The most tracks of which the pace is watched; the service allows three.
const TRACKS_MAX: usize = 16;

/// How long a block lasts, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// What the stream says.
    Told(u64),
    /// What the pace of its track shows.
    Paced(u64),
    /// It is the first of its track, or the track has no pace.
    Unknown,
}

/// How long blocks last.
#[derive(Debug, Default)]
pub(super) struct Paces(Vec<Pace>);

/// What is known of the pace of a track.
#[derive(Debug)]
struct Pace {
    track: u64,
    /// Where the block before stands, unless the clock has gone back since.
    last: Option<u64>,
    /// The shortest distance of two blocks in a row, which is one frame also where they are reordered.
    shortest: Option<u64>,
}

impl Paces {
    /// Other tracks follow.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The clock goes back: the distance to what follows says nothing.
    pub(super) fn interrupt(&mut self) {
        self.0.iter_mut().for_each(|pace| pace.last = None);
    }

    /// How long a block of track `number` lasts, as far as that can be known. `scale` is that of its
    /// fragment; `wall` its wall-clock time, since on the rewritten line holes are closed.
    pub(super) fn length(
        &mut self,
        block: &Block,
        scale: u64,
        number: u64,
        tracks: &[Track],
        wall: u64,
    ) -> Length {
        let told = block.duration;
        let of_block = told
            .map(|duration| duration.units.saturating_mul(scale))
            .filter(believable);
        let mut tracks = tracks.iter().filter(|track| track.number == number);
        let of_track = tracks
            .find_map(|track| track.default_duration)
            .map(|default| default.saturating_mul(block.frames.into()))
            .filter(believable);
        match of_track {
            Some(of_track) => Length::Told(of_block.unwrap_or(of_track)),
            // Blocks that say so may stand among others that do not.
            None => {
                let paced = self.pace(number, wall);
                of_block.map_or(paced, Length::Told)
            }
        }
    }

    fn pace(&mut self, track: u64, wall: u64) -> Length {
        if let Some(pace) = self.0.iter_mut().find(|pace| pace.track == track) {
            return pace.next(wall).map_or(Length::Unknown, Length::Paced);
        }
        if self.0.len() < TRACKS_MAX {
            self.0.push(Pace {
                track,
                last: Some(wall),
                shortest: None,
            });
        }
        Length::Unknown
    }
}

impl Pace {
    fn next(&mut self, wall: u64) -> Option<u64> {
        let last = self.last.replace(wall);
        let distance = last.map_or(0, |last| wall.abs_diff(last));
        if (1..=PACE_MAX).contains(&distance) {
            let shortest = self.shortest.unwrap_or(distance);
            self.shortest = Some(shortest.min(distance));
        }
        self.shortest
    }
}

fn believable(duration: &u64) -> bool {
    *duration <= DURATION_MAX
}
