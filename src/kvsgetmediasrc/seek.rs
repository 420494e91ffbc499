//! Seeks: what of them can be done, and what that means for the request and the segment.

use crate::{
    request::{Selector, TimestampSource},
    session,
};
use gst::ClockTime;

/// A flushing seek to a wall-clock time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seek {
    /// Where to begin; `None`: where the stream stands.
    pub start: Option<ClockTime>,
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
        let start = self.start.or(position);
        let before = before
            .and_then(|before| before.stop)
            .filter(|_| !self.endless);
        Seek {
            start,
            stop: self
                .stop
                .or(before)
                .filter(|&stop| start.is_none_or(|start| start < stop)),
            clips: self.clips && start.is_some_and(|start| start < now),
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

    /// Makes `config` ask for the place sought: by its own clock, now where that is later, and the
    /// oldest fragment where the service has nothing there.
    pub(crate) fn retarget(&self, config: &mut session::Config, now: ClockTime) {
        if let Some(start) = self.start {
            config.start = match config.timeline.source {
                _ if start >= now => Selector::Now,
                TimestampSource::Producer => Selector::ProducerTimestamp(start.mseconds()),
                TimestampSource::Server => Selector::ServerTimestamp(start.mseconds()),
            };
            config.or_oldest = true;
            config.resume = None;
        }
        if let Some(stop) = self.stop {
            let stop = stop.nseconds();
            config.end.at = Some(config.end.at.map_or(stop, |end| end.min(stop)));
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
}
