use super::{
    Config,
    pace::{Length, PACE_MAX},
};
use crate::{
    fragment::Head,
    item::{Bearings, GapKind},
    request::TimestampSource,
};

/// A start this long before the end of what was delivered stays where it is: audio tails, open GOPs
/// and jitter overlap by less, and shifting the line for them would make it drift.
const TOLERANCE: i64 = 100_000_000;

/// A frame is taken to fill so much of what the pace of its track gives it. Where frames are further
/// apart they may be irregular: one that comes sooner has not gone back in time.
const FILLED: u64 = 1_000_000_000;

/// 2000-01-01, in nanoseconds since the Unix epoch: what is earlier is a relative clock or none.
const PLAUSIBLE: u64 = 946_684_800 * 1_000_000_000;

/// Two clocks at the same instant: nanoseconds on the rewritten line and since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    pub pts: u64,
    pub wall: u64,
}

/// An unbroken run of fragments whose own timecodes are believed.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    wall: u64,
    timecode: u64,
}

/// Where a cluster belongs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The wall-clock time of its timecode.
    pub wall: u64,
    /// The line breaks before it, for this reason.
    pub gap: Option<GapKind>,
    /// A new segment begins with it.
    pub anchors: bool,
    /// That segment begins where the line had come to.
    pub breaks: bool,
    /// It came too late for its time, and is due when it comes.
    pub late: bool,
}

/// Places clusters on the wall-clock line, and that line on the rewritten one.
#[derive(Debug)]
pub struct Clock {
    config: Config,
    anchor: Option<Anchor>,
    stretch: Option<Stretch>,
    last_timecode: Option<u64>,
    /// When the service received the last fragment, and where that began.
    last_start: Option<(u64, u64)>,
    /// Where the last frame ends, as far as that is known.
    end: u64,
    /// Nothing says how long the frame lasts that begins there.
    open_ended: bool,
    /// Up to here the line is surely filled.
    filled: u64,
    /// The time of arrival of what is being placed, on a clock of the caller's.
    now: u64,
    /// When what stands at the anchor is due, on the clock of arrivals: where the line began, when its
    /// first frame arrived.
    due_at: u64,
}

impl Clock {
    /// A clock that has placed nothing.
    pub fn new(config: Config) -> Self {
        let stretch = config.bearings.and_then(|bearings| bearings.stretch);
        Clock {
            config,
            anchor: None,
            stretch: stretch.map(|(wall, timecode)| Stretch { wall, timecode }),
            last_timecode: None,
            last_start: None,
            end: 0,
            open_ended: false,
            filled: 0,
            now: 0,
            due_at: 0,
        }
    }

    /// Where the segment begins on the rewritten line.
    pub(super) fn start(&self) -> u64 {
        self.anchor.map_or(0, |anchor| anchor.pts)
    }

    /// The wall-clock time of the end of the last frame, if anything was placed.
    pub(super) fn end_wall(&self) -> Option<u64> {
        self.anchor.map(|_| self.wall(self.end))
    }

    /// The clock that the last fragment was placed by.
    pub(super) fn source(&self) -> TimestampSource {
        match self.stretch {
            Some(_) => TimestampSource::Server,
            None => TimestampSource::Producer,
        }
    }

    /// For a clock that goes on from here.
    pub(super) fn bearings(&self) -> Option<Bearings> {
        Some(Bearings {
            end: self.end_wall()?,
            stretch: self.stretch.map(|stretch| (stretch.wall, stretch.timecode)),
        })
    }

    /// The wall-clock time of what stands at `pts` in the segment under way.
    pub(super) fn wall(&self, pts: u64) -> u64 {
        self.anchor.map_or(0, |anchor| {
            shifted(anchor.wall, signed(pts).saturating_sub(signed(anchor.pts)))
        })
    }

    /// Says that a frame stands at `pts` on the rewritten line, and how long it lasts.
    pub(super) fn extend(&mut self, pts: u64, length: Length) {
        let (lasts, fills) = match length {
            Length::Told(lasts) => (lasts, lasts),
            Length::Paced(lasts) => (lasts, lasts.min(FILLED)),
            Length::Unknown => (0, 0),
        };
        let end = pts.saturating_add(lasts);
        if end >= self.end {
            self.end = end;
            self.open_ended = length == Length::Unknown;
        }
        self.filled = self.filled.max(pts.saturating_add(fills));
    }

    /// Where the line goes on if it breaks here.
    fn resumes_at(&self) -> u64 {
        // Live, there is no time to give away.
        let lasts = match self.open_ended && self.config.close_holes {
            true => self.config.max_gap.min(PACE_MAX),
            false => 0,
        };
        self.end.saturating_add(lasts)
    }

    /// Says what time it is when the next bytes arrive, in nanoseconds since any moment.
    pub(super) fn arrives(&mut self, now: u64) {
        self.now = now;
    }

    /// Begins a new segment with the cluster that belongs at `place`: `wall` stands where the line has
    /// come to, or where it belongs if that is later and it is no break, rounded up to a unit of `scale`
    /// nanoseconds that can be written.
    pub(super) fn set_anchor(&mut self, wall: u64, scale: u64, place: &Place) -> Anchor {
        let pts = match u64::try_from(self.pts(wall)) {
            Ok(pts) if !place.breaks => pts.max(self.filled),
            _ => self.resumes_at(),
        };
        let pts = pts.div_ceil(scale).saturating_mul(scale);
        let due = |last: Anchor| {
            self.due_at
                .saturating_add(pts)
                .saturating_sub(last.pts)
                .max(if place.late { self.now } else { 0 })
        };
        self.due_at = self.anchor.map_or(self.now, due);
        let anchor = Anchor { pts, wall };
        self.anchor = Some(anchor);
        anchor
    }

    /// How long after it is due what stands at `pts` arrives; negative if it comes before. Downstream
    /// keeps to the line that the first frame began, so an anchor does not change what is due.
    fn lateness(&self, pts: i64) -> i64 {
        let Some(anchor) = self.anchor else { return 0 };
        let due = pts.saturating_sub(signed(anchor.pts));
        signed(self.now)
            .saturating_sub(signed(self.due_at))
            .saturating_sub(due)
    }

    /// A wall-clock time on the rewritten line; negative if it is before its beginning.
    pub(super) fn pts(&self, wall: u64) -> i64 {
        match self.anchor {
            Some(anchor) => {
                signed(anchor.pts).saturating_add(signed(wall).saturating_sub(signed(anchor.wall)))
            }
            None => 0,
        }
    }

    /// The time at which the fragment says it starts, by the clock in use.
    pub(crate) fn starts_at(source: TimestampSource, head: &Head) -> Option<u64> {
        match source {
            TimestampSource::Producer => {
                plausible(head.producer_timestamp).or(head.server_timestamp)
            }
            TimestampSource::Server => head.server_timestamp,
        }
    }

    /// Places the first cluster of a fragment. `timecode` is the cluster's, in nanoseconds; `lead` how
    /// much earlier than it its first frame is; `interrupted` says that fragments are missing before.
    pub(super) fn place(
        &mut self,
        head: &Head,
        timecode: u64,
        lead: i64,
        interrupted: Option<GapKind>,
    ) -> Place {
        let restarted = self.last_timecode.is_some_and(|last| timecode <= last);
        self.last_timecode = Some(timecode);
        if interrupted.is_some() {
            self.stretch = None;
        }
        let producer = match self.config.source {
            TimestampSource::Producer => plausible(head.producer_timestamp),
            TimestampSource::Server => None,
        };
        let (wall, off) = match (producer, self.stretch) {
            (Some(wall), _) => {
                self.stretch = None;
                (wall, self.off_line(wall, lead))
            }
            (None, Some(stretch)) => {
                let wall = shifted(stretch.wall, signed(timecode) - signed(stretch.timecode));
                match self.off_line(wall, lead) {
                    None => (wall, None),
                    Some(_) => self.begin_stretch(head, timecode, lead),
                }
            }
            (None, None) => self.begin_stretch(head, timecode, lead),
        };
        let relative = timecode < PLAUSIBLE;
        let off = off.map(|kind| {
            if restarted && relative {
                (GapKind::ProducerRestart, kind)
            } else {
                (kind, kind)
            }
        });
        // What was skipped is not waited for: time that was lost would stay lost.
        let skipped = interrupted == Some(GapKind::SkippedToNow);
        let breaks = self.breaks(off.map(|(_, kind)| kind), || {
            skipped || self.steps(head, wall)
        });
        self.last_start = head.server_timestamp.map(|received| (received, wall));
        let stands = if breaks {
            signed(self.resumes_at())
        } else {
            self.pts(wall)
        };
        let late = self
            .config
            .max_lateness
            .is_some_and(|most| self.lateness(stands) > signed(most));
        Place {
            wall,
            gap: interrupted
                .or(off.map(|(reason, _)| reason))
                .or(late.then_some(GapKind::Late))
                .filter(|_| self.anchor.is_some()),
            anchors: breaks || late || self.anchor.is_none(),
            breaks,
            late,
        }
    }

    /// Places a later cluster of the same fragment, likewise; `wall` is the time of its timecode.
    pub(super) fn place_next(&self, wall: u64, lead: i64) -> Place {
        let gap = self.off_line(wall, lead);
        // A fragment lasts 20 s at most: what may be a step of the clock within it can be waited for.
        let breaks = self.breaks(gap, || false);
        Place {
            wall,
            gap,
            anchors: breaks,
            breaks,
            late: false,
        }
    }

    /// Whether the line breaks where a cluster is off it in this way. Live, a hole stays, unless it is
    /// none and the clock `steps`.
    fn breaks(&self, off: Option<GapKind>, steps: impl FnOnce() -> bool) -> bool {
        match off {
            None => false,
            Some(GapKind::Hole) if !self.config.close_holes => steps(),
            Some(_) => true,
        }
    }

    /// Whether it is the producer's clock that has gone ahead to `wall`, rather than time: nobody has
    /// seen so much of it pass. The fragment comes here long before it is due, and the service received
    /// it too soon after the one before. It would be waited for in vain.
    fn steps(&self, head: &Head, wall: u64) -> bool {
        let Some(most) = self.config.max_lateness else {
            return false;
        };
        let most = signed(most.saturating_add(self.config.max_gap));
        let here = self.lateness(self.pts(wall)).saturating_neg();
        let there = self.last_start.zip(head.server_timestamp);
        let there = there.map(|((received, start), receives)| {
            (signed(wall) - signed(start)).saturating_sub(signed(receives) - signed(received))
        });
        here > most && there.is_none_or(|ahead| ahead > most)
    }

    fn begin_stretch(&mut self, head: &Head, timecode: u64, lead: i64) -> (u64, Option<GapKind>) {
        let wall = head
            .server_timestamp
            .or(head.producer_timestamp)
            .unwrap_or(timecode)
            .min(LAST);
        self.stretch = Some(Stretch { wall, timecode });
        (wall, self.off_line(wall, lead))
    }

    /// Whether a cluster at `wall` is off the line, and how.
    fn off_line(&self, wall: u64, lead: i64) -> Option<GapKind> {
        // Before anything stands on the line, by the wall clock.
        let (at, end, filled) = match self.anchor {
            Some(_) => (self.pts(wall), self.end, self.filled),
            None => {
                let end = self.config.bearings?.end;
                (signed(wall), end, end)
            }
        };
        let at = at.saturating_sub(lead);
        if at.saturating_sub(signed(end)) > signed(self.config.max_gap) {
            Some(GapKind::Hole)
        } else if at.saturating_sub(signed(filled)) < -TOLERANCE {
            Some(GapKind::ClockBack)
        } else {
            None
        }
    }
}

fn plausible(timestamp: Option<u64>) -> Option<u64> {
    timestamp.filter(|timestamp| (PLAUSIBLE..=LAST).contains(timestamp))
}

/// Nanoseconds as a signed number; beyond the year 2262 it saturates.
pub(super) fn signed(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

/// The last moment that a signed number of nanoseconds holds, in the year 2262. No wall-clock time is
/// later, so that distances of two hold as well.
const LAST: u64 = i64::MAX as u64;

/// A wall-clock time so much later, or earlier.
pub(super) fn shifted(wall: u64, by: i64) -> u64 {
    wall.saturating_add_signed(by).min(LAST)
}
