//! Seeks: what of them can be done, and what that means for the request and the segment.
//!
//! A flush from outside is one too, to where the stream stands.

use super::imp;
use crate::{
    error::Error,
    item::{Bearings, FragmentEnd, FragmentStart},
    lock::lock,
    request::{Selector, TimestampSource},
    resume::Point,
    session,
};
use gst::{ClockTime, prelude::*, subclass::prelude::*};
use gst_base::subclass::prelude::*;
use std::sync::Mutex;

pub(super) const NANOSECOND: ClockTime = ClockTime::from_nseconds(1);

/// A flushing seek to a wall-clock time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seek {
    /// Where to begin, if that is known.
    pub start: Option<ClockTime>,
    /// That is where the stream stands.
    pub here: bool,
    /// Where to end.
    pub stop: Option<ClockTime>,
    /// It has no end, whatever one there was before.
    pub endless: bool,
    /// How fast downstream plays. The stream is the same.
    pub rate: f64,
    /// The flags that go on in the segment.
    pub flags: gst::SegmentFlags,
    /// Frames before `start` are clipped; otherwise the segment begins with the fragment.
    pub clips: bool,
}

impl Seek {
    /// What `event` asks for; the error says why that cannot be done.
    pub(crate) fn parse(event: &gst::event::Seek) -> Result<Self, &'static str> {
        let (rate, flags, start_type, start, stop_type, stop) = event.get();
        if rate <= 0.0 {
            return Err("backwards is not possible: the service sends forwards only");
        }
        if flags.contains(gst::SeekFlags::INSTANT_RATE_CHANGE) {
            return Err("the rate changes with a flushing seek only");
        }
        if !flags.contains(gst::SeekFlags::FLUSH) {
            return Err("only flushing seeks are possible: another place is another request");
        }
        let start = time(start_type, start)?;
        let endless = stop_type == gst::SeekType::Set;
        let stop = time(stop_type, stop)?;
        if let (Some(start), Some(stop)) = (start, stop)
            && stop <= start
        {
            return Err("it ends before it begins");
        }
        Ok(Seek {
            start,
            here: start.is_none(),
            stop,
            endless: endless && stop.is_none(),
            rate,
            flags: segment_flags(flags),
            clips: !flags.contains(gst::SeekFlags::KEY_UNIT),
        })
    }
}

impl Seek {
    /// A seek to where the stream stands that goes on as `before` had it.
    pub(crate) fn to_here(before: Option<Seek>) -> Self {
        Seek {
            start: None,
            here: true,
            stop: None,
            endless: false,
            rate: before.map_or(1.0, |before| before.rate),
            flags: before.map_or(gst::SegmentFlags::RESET, |before| before.flags),
            clips: true,
        }
    }

    /// The seek in full: what `event` left as it was is taken from where the stream stands and where
    /// the seek before it ends. What lies in the future is taken for now, of which nothing is clipped.
    pub(crate) fn resolve(
        self,
        position: Option<ClockTime>,
        before: Option<Seek>,
        now: ClockTime,
    ) -> Seek {
        let stop = before
            .and_then(|before| before.stop)
            .filter(|_| !self.endless);
        let stop = self.stop.or(stop);
        let start = match self.here {
            // A stream that is at its stop stays there.
            true => {
                position.map(|at| stop.map_or(at, |stop| at.min(stop.saturating_sub(NANOSECOND))))
            }
            false => self.start,
        };
        Seek {
            start,
            stop: stop.filter(|&stop| start.is_none_or(|start| start < stop)),
            clips: self.clips
                && match before {
                    // Nothing has come since: what has not been clipped then is not now.
                    Some(before) if self.here && before.start == position => before.clips,
                    _ => self.here || start.is_some_and(|start| start < now),
                },
            ..self
        }
    }

    /// The event for the base class, which knows nothing of wall-clock times that it could add to.
    pub(crate) fn event(&self, seqnum: gst::Seqnum) -> gst::Event {
        gst::event::Seek::builder(
            self.rate,
            gst::SeekFlags::FLUSH,
            gst::SeekType::Set,
            self.start.unwrap_or(ClockTime::ZERO),
            gst::SeekType::Set,
            self.stop,
        )
        .seqnum(seqnum)
        .build()
    }

    /// Whether this is what the base class makes of [`Seek::event`].
    fn makes(&self, segment: &gst::Segment) -> bool {
        segment.downcast_ref::<ClockTime>().is_some_and(|segment| {
            segment.rate() == self.rate
                && segment.start() == Some(self.start.unwrap_or(ClockTime::ZERO))
                && segment.stop() == self.stop
        })
    }

    /// Makes `config` ask for the place sought: by the clock that the stream stands at, now where that
    /// is later, and the oldest fragment where the service has nothing there. To where it stands there
    /// are better ways than a time.
    pub(crate) fn retarget(&self, config: &mut session::Config, here: &Here, now: ClockTime) {
        config.or_oldest = true;
        match self.start {
            _ if self.here && here.lead(config) => {}
            Some(start) => {
                config.start = match here.clock.unwrap_or(config.timeline.source) {
                    _ if start >= now => Selector::Now,
                    TimestampSource::Producer => Selector::ProducerTimestamp(start.mseconds()),
                    TimestampSource::Server => Selector::ServerTimestamp(start.mseconds()),
                };
            }
            // Nothing has come, and nothing is known of where it was to begin but what the user said.
            None => config.or_oldest = false,
        }
        if let Some(stop) = self.stop {
            let stop = stop.nseconds();
            config.end.at = Some(config.end.at.map_or(stop, |end| end.min(stop)));
        }
    }
}

/// What leads to where the stream stands.
///
/// No time does where fragments do not stand at times that can be asked for, as in a burst: the service
/// receives it in no time, and its clock places it by the timecodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Here {
    /// The last complete fragment, and the clocks at its end if they are known.
    after: Option<(Point, Option<Bearings>)>,
    /// Before there is one: when the service received the fragment under way, in nanoseconds since the
    /// Unix epoch.
    received: Option<u64>,
    /// The clock that the stream stands by.
    clock: Option<TimestampSource>,
}

impl Here {
    /// A stream that goes on after `point`, if there is one.
    pub(crate) fn new(point: Option<Point>) -> Here {
        Here {
            after: point.map(|point| (point, None)),
            ..Here::default()
        }
    }

    /// Another place of the same stream.
    pub(crate) fn elsewhere(&self) -> Here {
        Here {
            clock: self.clock,
            ..Here::default()
        }
    }

    /// A segment is by this clock.
    pub(crate) fn set_clock(&mut self, clock: TimestampSource) {
        self.clock = Some(clock);
    }

    /// A fragment begins.
    pub(crate) fn begin(&mut self, start: &FragmentStart) {
        self.received = self.received.or(start.server_timestamp);
    }

    /// All of a fragment has been taken; returns the place after it.
    pub(crate) fn complete(&mut self, end: &FragmentEnd) -> Option<Point> {
        let point = Point::after(end)?;
        self.after = Some((point.clone(), end.bearings));
        Some(point)
    }

    /// Makes `config` go on here, if anything leads here.
    pub(crate) fn lead(&self, config: &mut session::Config) -> bool {
        if let Some((point, bearings)) = &self.after {
            config.resume = Some(point.clone());
            config.timeline.bearings = *bearings;
        } else if let Some(received) = self.received {
            config.start = Selector::ServerTimestamp(received / 1_000_000);
        } else {
            return false;
        }
        true
    }
}

/// Seeks on their way through the base class, which tells what it performs by a segment only: any
/// number of threads may seek, and not every seek that it is given is performed.
#[derive(Debug, Default)]
pub(crate) struct Seeks(Mutex<Vec<(gst::Seqnum, Seek)>>);

impl Seeks {
    fn add(&self, seqnum: gst::Seqnum, seek: Seek) {
        lock(&self.0).push((seqnum, seek));
    }

    fn remove(&self, seqnum: gst::Seqnum) {
        lock(&self.0).retain(|(other, _)| *other != seqnum);
    }

    /// The one that the base class performs with this segment; `None` where it only begins.
    fn take(&self, segment: &gst::Segment) -> Option<Seek> {
        let mut seeks = lock(&self.0);
        let index = seeks.iter().rposition(|(_, seek)| seek.makes(segment))?;
        Some(seeks.remove(index).1)
    }

    /// None of them will be performed.
    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}

impl imp::KvsGetMediaSrc {
    /// Gives an event to the base class by `send`: a seek in full, and none that cannot be done.
    pub(super) fn pass(&self, event: gst::Event, send: impl FnOnce(gst::Event) -> bool) -> bool {
        let gst::EventView::Seek(seek) = event.view() else {
            return send(event);
        };
        let seek = match self.is_seekable() {
            true => Seek::parse(seek),
            false => Err("the service's own bytes have no times"),
        };
        match seek {
            Ok(seek) => self.perform(seek, event.seqnum(), send),
            Err(reason) => {
                gst::warning!(super::CAT, imp = self, "Seek refused: {reason}");
                false
            }
        }
    }

    /// Has the base class perform a seek.
    fn perform(
        &self,
        seek: Seek,
        seqnum: gst::Seqnum,
        send: impl FnOnce(gst::Event) -> bool,
    ) -> bool {
        let (position, before) = self
            .started(|started| (started.stream.position(), started.stream.seek()))
            .unwrap_or_default();
        let seek = seek.resolve(position, before, imp::now());
        self.seeks.add(seqnum, seek);
        let done = send(seek.event(seqnum));
        // One that comes before the start is performed by that.
        if !done {
            self.seeks.remove(seqnum);
        }
        done
    }

    /// Performs the seek that the base class has made `segment` of. It also comes here when it starts,
    /// without a seek.
    pub(super) fn sought(&self, segment: &mut gst::Segment) -> Result<(), Error> {
        let Some(seek) = self.seeks.take(segment) else {
            return Ok(());
        };
        gst::info!(super::CAT, imp = self, "{seek:?}");
        segment.set_rate(seek.rate);
        segment.set_flags(seek.flags);
        self.replace_session(seek)
    }

    /// Ends a flush that is no seek's, from the application or from downstream.
    ///
    /// It comes to a seek to where the stream stands, since a demuxer that has lost a part of a
    /// document finds its way back at a header only. Not where nothing has been sent that could be
    /// lost, and not where nothing demuxes.
    pub(super) fn flush_stop(&self, event: gst::Event) -> bool {
        // What holds the streaming thread lets it go, once more: a change of state may have come
        // since this was said, and flushes from downstream are not said to the rest of it.
        let start = gst::event::FlushStart::builder().seqnum(event.seqnum());
        self.parent_send_event(start.build());
        let seek = if self.is_seekable() {
            self.started(|started| started.stream.flushed()).flatten()
        } else {
            let pad = self.obj().static_pad("src");
            let _stopped = pad.as_ref().map(|pad| pad.stream_lock());
            self.started(|started| started.stream.drop_begun());
            self.handed.forget();
            None
        };
        match seek {
            Some(seek) => self.perform(seek, event.seqnum(), |seek| self.parent_send_event(seek)),
            None => self.parent_send_event(event),
        }
    }
}

fn time(
    seek: gst::SeekType,
    value: gst::GenericFormattedValue,
) -> Result<Option<ClockTime>, &'static str> {
    match (seek, value) {
        (gst::SeekType::None, gst::GenericFormattedValue::Time(_)) => Ok(None),
        (gst::SeekType::Set, gst::GenericFormattedValue::Time(time)) => Ok(time),
        (gst::SeekType::End, _) => Err("a stream has no end to count from"),
        _ => Err("only times can be sought, in nanoseconds since the Unix epoch"),
    }
}

fn segment_flags(flags: gst::SeekFlags) -> gst::SegmentFlags {
    [
        (gst::SeekFlags::SEGMENT, gst::SegmentFlags::SEGMENT),
        (gst::SeekFlags::TRICKMODE, gst::SegmentFlags::TRICKMODE),
        (
            gst::SeekFlags::TRICKMODE_KEY_UNITS,
            gst::SegmentFlags::TRICKMODE_KEY_UNITS,
        ),
        (
            gst::SeekFlags::TRICKMODE_NO_AUDIO,
            gst::SegmentFlags::TRICKMODE_NO_AUDIO,
        ),
    ]
    .into_iter()
    .filter(|(seek, _)| flags.contains(*seek))
    .fold(gst::SegmentFlags::RESET, |all, (_, segment)| all | segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seek(
        rate: f64,
        flags: gst::SeekFlags,
        start: u64,
        stop: Option<u64>,
    ) -> Result<Seek, &'static str> {
        gst::init().unwrap();
        let event = gst::event::Seek::new(
            rate,
            flags,
            gst::SeekType::Set,
            ClockTime::from_seconds(start),
            gst::SeekType::Set,
            stop.map(ClockTime::from_seconds),
        );
        match event.view() {
            gst::EventView::Seek(event) => Seek::parse(event),
            _ => unreachable!(),
        }
    }

    #[test]
    fn what_can_be_sought() {
        let flush = gst::SeekFlags::FLUSH;
        let plain = seek(1.0, flush, 100, None).unwrap();
        assert_eq!(plain.start, Some(ClockTime::from_seconds(100)));
        assert!(plain.clips && plain.stop.is_none());
        assert!(
            !seek(1.0, flush | gst::SeekFlags::KEY_UNIT, 100, None)
                .unwrap()
                .clips
        );
        assert_eq!(seek(2.0, flush, 100, Some(200)).unwrap().rate, 2.0);
        for refused in [
            seek(-1.0, flush, 100, None),
            seek(1.0, gst::SeekFlags::empty(), 100, None),
            seek(1.0, flush, 100, Some(100)),
        ] {
            assert!(refused.is_err());
        }
    }

    fn segment(seek: &Seek) -> gst::Segment {
        let mut segment = gst::FormattedSegment::<ClockTime>::new();
        segment.set_rate(seek.rate);
        segment.set_start(seek.start);
        segment.set_stop(seek.stop);
        segment.upcast()
    }

    #[test]
    fn seeks_do_not_cross() {
        let flush = gst::SeekFlags::FLUSH;
        let plain = seek(1.0, flush, 100, None).unwrap();
        let others = [
            seek(1.0, flush, 100, Some(200)).unwrap(),
            seek(2.0, flush, 100, None).unwrap(),
            seek(1.0, flush, 101, None).unwrap(),
        ];
        let seeks = Seeks::default();
        let refused = gst::Seqnum::next();
        seeks.add(refused, plain);
        for other in others {
            seeks.add(gst::Seqnum::next(), other);
        }
        // A start without a seek.
        let begins = gst::FormattedSegment::<ClockTime>::new().upcast();
        assert_eq!(seeks.take(&begins), None);
        for other in others {
            assert_eq!(seeks.take(&segment(&other)), Some(other));
            assert_eq!(seeks.take(&segment(&other)), None);
        }
        seeks.remove(refused);
        assert_eq!(seeks.take(&segment(&plain)), None);
    }

    #[test]
    fn what_is_sought_in_the_future_is_now_also_after_a_flush() {
        let seconds = ClockTime::from_seconds;
        let (flush, now) = (gst::SeekFlags::FLUSH, seconds(150));
        for (start, flags, clips) in [
            (100, flush, true),
            (100, flush | gst::SeekFlags::KEY_UNIT, false),
            (200, flush, false),
        ] {
            let sought = seek(1.0, flags, start, None).unwrap();
            let sought = sought.resolve(None, None, now);
            assert_eq!(sought.clips, clips);
            let here = |position| {
                let here = Seek::to_here(Some(sought));
                here.resolve(Some(position), Some(sought), now)
            };
            assert_eq!(here(seconds(start)).clips, clips);
            // Where frames have come the time of the last is known, whatever the clock says.
            assert!(here(seconds(start + 1)).clips);
        }
    }

    #[test]
    fn at_its_stop_a_stream_stays() {
        let seconds = ClockTime::from_seconds;
        let before = seek(1.0, gst::SeekFlags::FLUSH, 100, Some(200)).unwrap();
        let now = seconds(1000);
        for position in [200, 300] {
            let here =
                Seek::to_here(Some(before)).resolve(Some(seconds(position)), Some(before), now);
            assert_eq!(here.start, Some(seconds(200) - NANOSECOND));
            assert_eq!(here.stop, Some(seconds(200)));
        }
        // A seek beyond it has none.
        let beyond = Seek {
            endless: false,
            ..seek(1.0, gst::SeekFlags::FLUSH, 300, None).unwrap()
        };
        let beyond = beyond.resolve(Some(seconds(150)), Some(before), now);
        assert_eq!((beyond.start, beyond.stop), (Some(seconds(300)), None));
    }
}
