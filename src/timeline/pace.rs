use crate::{ebml::Block, item::Track};

/// No frame lasts longer, whatever the stream says: the line goes on from its end.
const DURATION_MAX: u64 = 3600 * 1_000_000_000;

/// The most tracks of which the pace is watched; the service allows three.
const TRACKS_MAX: usize = 16;

/// How long blocks last: what the stream says, or else what the pace of their track shows.
#[derive(Debug, Default)]
pub(super) struct Paces(Vec<Pace>);

/// What is known of the pace of a track.
#[derive(Debug)]
struct Pace {
    track: u64,
    last: u64,
    /// The shortest distance of two blocks in a row, which is one frame also where they are reordered.
    shortest: Option<u64>,
}

impl Paces {
    /// Other tracks follow.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// How long a block of track `number` lasts, in nanoseconds, as far as that can be known. `scale` is
    /// that of its fragment; `pts` stands on the rewritten line.
    pub(super) fn duration(
        &mut self,
        block: &Block,
        scale: u64,
        number: u64,
        tracks: &[Track],
        pts: u64,
    ) -> u64 {
        let of_block = block.duration.map(|units| units.saturating_mul(scale));
        let default = || {
            let mut tracks = tracks.iter().filter(|track| track.number == number);
            tracks.find_map(|track| track.default_duration)
        };
        of_block
            .filter(believable)
            .or_else(|| {
                let of_track = default()?.saturating_mul(block.frames.into());
                Some(of_track).filter(believable)
            })
            .unwrap_or_else(|| self.pace(number, pts))
    }

    fn pace(&mut self, track: u64, pts: u64) -> u64 {
        if let Some(pace) = self.0.iter_mut().find(|pace| pace.track == track) {
            return pace.next(pts).min(DURATION_MAX);
        }
        if self.0.len() < TRACKS_MAX {
            self.0.push(Pace {
                track,
                last: pts,
                shortest: None,
            });
        }
        0
    }
}

impl Pace {
    fn next(&mut self, pts: u64) -> u64 {
        let distance = pts.abs_diff(std::mem::replace(&mut self.last, pts));
        if distance > 0 {
            let shortest = self.shortest.unwrap_or(distance);
            self.shortest = Some(shortest.min(distance));
        }
        self.shortest.unwrap_or_default()
    }
}

fn believable(duration: &u64) -> bool {
    *duration <= DURATION_MAX
}
