//! Items as buffers and segments: what the streaming thread remembers between two of them.

use super::seek::{Here, NANOSECOND, Seek};
use crate::{
    item::{Data, FragmentEnd, FragmentStart, Opened, Segment},
    resume::Point,
    session,
};
use gst::ClockTime;
use std::collections::VecDeque;

/// The first bytes of an EBML document.
const EBML_ID: [u8; 4] = [0x1A, 0x45, 0xDF, 0xA3];

/// Pieces smaller than this share buffers: copying one costs less than handling a buffer.
const SMALL: usize = 4096;

/// Tracks on their way to the demuxer.
#[derive(Debug, Default)]
enum Opening {
    #[default]
    Nothing,
    /// The next data names them.
    Queued(Opened),
    /// The buffers of this data have not all been pushed.
    Taken(Opened),
}

/// What the streaming thread remembers.
#[derive(Debug)]
pub(crate) struct Stream {
    live: bool,
    /// What the stream was sought to, if it was.
    seek: Option<Seek>,
    /// The time that was last asked for.
    asked: Option<ClockTime>,
    /// Where the first frame to be shown stands, as long as it has not come.
    target: Option<ClockTime>,
    here: Here,
    /// Holds from the next data on, and has not been sent.
    pending: Option<Segment>,
    current: Option<gst::FormattedSegment<ClockTime>>,
    position: Option<ClockTime>,
    /// What the demuxer downstream has been told.
    opened: Option<Opened>,
    /// What it is being told.
    opening: Opening,
    /// Data has been taken in, before the latest seek or after.
    begun: bool,
    /// The earliest wall-clock time that has come.
    earliest: Option<ClockTime>,
    /// The rest of the data that the last buffer began.
    buffers: VecDeque<gst::Buffer>,
}

impl Stream {
    /// A stream that begins after `point`, or where the user said if there is none.
    pub(crate) fn new(live: bool, point: Option<Point>) -> Stream {
        Stream {
            live,
            seek: None,
            asked: None,
            target: None,
            here: Here::new(point),
            pending: None,
            current: None,
            position: None,
            opened: None,
            opening: Opening::default(),
            begun: false,
            earliest: None,
            buffers: VecDeque::new(),
        }
    }

    /// The stream after a seek: what downstream knows stays known, time begins anew.
    pub(crate) fn sought(&self, seek: Seek) -> Stream {
        Stream {
            seek: Some(seek),
            asked: match seek.here {
                true => self.asked,
                false => seek.start,
            },
            target: seek.start.filter(|_| seek.clips),
            here: match seek.here {
                true => self.here.clone(),
                false => self.here.elsewhere(),
            },
            // What a demuxer has read of what it was being told is not known.
            opened: match self.opening {
                Opening::Taken(_) => None,
                _ => self.opened.clone(),
            },
            begun: self.begun,
            earliest: self.earliest,
            ..Stream::new(self.live, None)
        }
    }

    /// Makes `config` that of a session which gives what this stream is to go on with.
    pub(crate) fn aim(&self, config: &mut session::Config, now: ClockTime) {
        config.opened = self.opened.clone();
        match self.seek {
            Some(seek) => seek.retarget(config, &self.here, now),
            None => {
                self.here.lead(config);
            }
        }
        // Who has asked for what lies further behind now is not taken away from it.
        let behind = self.asked.and_then(|asked| now.checked_sub(asked));
        if let (Some(lag), Some(behind)) = (&mut config.max_lag, behind)
            && behind.mseconds() > *lag
        {
            *lag = lag.saturating_add(behind.mseconds());
        }
    }

    /// A fragment begins.
    pub(crate) fn begin(&mut self, start: &FragmentStart) {
        self.here.begin(start);
    }

    /// All of a fragment has been pushed; returns the place after it.
    pub(crate) fn complete(&mut self, end: &FragmentEnd) -> Option<Point> {
        self.here.complete(end)
    }

    /// The seek that it came to be here by.
    pub(crate) fn seek(&self) -> Option<Seek> {
        self.seek
    }

    /// The seek that leads to where the stream stands, once there is something it could go on after.
    pub(crate) fn flushed(&self) -> Option<Seek> {
        (self.begun || self.seek.is_some()).then(|| Seek::to_here(self.seek))
    }

    /// Forgets the rest of the data that the last buffer began.
    pub(crate) fn drop_begun(&mut self) {
        self.buffers.clear();
    }

    /// The data taken in next tells a demuxer of these tracks. It knows them once that has been
    /// pushed: a flush may come first.
    pub(crate) fn set_opened(&mut self, opened: Opened) {
        self.opening = Opening::Queued(opened);
    }

    /// A demuxer that knows nothing is about to take over.
    pub(crate) fn forget_opened(&mut self) {
        self.opened = None;
        self.opening = Opening::Nothing;
    }

    /// The buffers returned so far have been pushed.
    pub(crate) fn pushed(&mut self) {
        if self.buffers.is_empty()
            && let Opening::Taken(opened) = &self.opening
        {
            self.opened = Some(opened.clone());
            self.opening = Opening::Nothing;
        }
    }

    /// Whether a demuxer downstream is in a state that is not known: it may have been told of tracks.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.begun && self.opened.is_none()
    }

    /// The earliest wall-clock time that has come.
    pub(crate) fn earliest(&self) -> Option<ClockTime> {
        self.earliest
    }

    /// A segment that holds from the next data on.
    pub(crate) fn set_segment(&mut self, segment: Segment) {
        self.here.set_clock(segment.clock);
        self.pending = Some(segment);
    }

    /// Takes data in, to be had from [`Stream::next_buffer`]; returns the segment to send before it.
    ///
    /// `running_time` is asked for the first segment of a live stream and for those that are due when
    /// they come: what arrives then is due then, plus the latency.
    pub(crate) fn add_data(
        &mut self,
        data: Data,
        running_time: impl FnOnce() -> Option<ClockTime>,
    ) -> Option<gst::FormattedSegment<ClockTime>> {
        self.begun = true;
        self.opening = match std::mem::take(&mut self.opening) {
            Opening::Queued(opened) => Opening::Taken(opened),
            other => other,
        };
        let segment = self
            .pending
            .take()
            .map(|pending| self.segment(pending, running_time));
        if let Some(segment) = &segment {
            self.current = Some(segment.clone());
            self.position = segment.start();
        }
        if let Some(pts) = data.pts {
            self.position = Some(self.shown(ClockTime::from_nseconds(pts)));
        }
        self.buffers.extend(buffers(data));
        segment
    }

    /// The time of a frame, or the nearest one that is shown: a fragment begins before the segment does,
    /// and ends after it.
    fn shown(&self, pts: ClockTime) -> ClockTime {
        let Some(segment) = &self.current else {
            return pts;
        };
        let last = segment.stop().map(|stop| stop.saturating_sub(NANOSECOND));
        pts.min(last.unwrap_or(pts))
            .max(segment.start().unwrap_or(pts))
    }

    fn segment(
        &mut self,
        segment: Segment,
        running_time: impl FnOnce() -> Option<ClockTime>,
    ) -> gst::FormattedSegment<ClockTime> {
        let start = ClockTime::from_nseconds(segment.start);
        let time = ClockTime::from_nseconds(segment.time);
        self.earliest = Some(self.earliest.map_or(time, |earliest| earliest.min(time)));
        let base = self.base(start, segment.due_now, running_time);
        let clip = self.clip(start, time);
        let mut out = gst::FormattedSegment::<ClockTime>::new();
        if let Some(seek) = self.seek {
            out.set_rate(seek.rate);
            out.set_flags(seek.flags);
            out.set_stop(
                seek.stop
                    .map(|stop| start.saturating_add(stop.saturating_sub(time))),
            );
        }
        out.set_start(start.saturating_add(clip));
        out.set_base(base);
        out.set_time(time.saturating_add(clip));
        out.set_position(start.saturating_add(clip));
        out
    }

    /// The running time of `start`: as much later than the segment before as the rewritten line is, by
    /// the rate at which it is played. Of what that segment clipped, nothing has run.
    fn base(
        &self,
        start: ClockTime,
        due_now: bool,
        running_time: impl FnOnce() -> Option<ClockTime>,
    ) -> ClockTime {
        let due = self.current.as_ref().map(|before| {
            let since = start.saturating_sub(before.start().unwrap_or_default());
            let base = before.base().unwrap_or_default();
            base.saturating_add(played(since, before.rate()))
        });
        match due {
            Some(due) if !(self.live && due_now) => due,
            // Never back: what was due before stays before.
            due if self.live => running_time().max(due).unwrap_or_default(),
            _ => ClockTime::ZERO,
        }
    }

    /// How much of a segment is not shown: what is before the target of a seek, until the line has come
    /// to that. After it, the same time may come again, when a clock is set back.
    fn clip(&mut self, start: ClockTime, time: ClockTime) -> ClockTime {
        let before = self.current.as_ref().and_then(|before| before.start());
        let reached = before.is_some_and(|shown_from| start > shown_from);
        self.target = self.target.filter(|target| !reached && time < *target);
        self.target
            .map_or(ClockTime::ZERO, |target| target.saturating_sub(time))
    }

    /// The next buffer of the data taken in.
    pub(crate) fn next_buffer(&mut self) -> Option<gst::Buffer> {
        self.buffers.pop_front()
    }

    /// The wall-clock time of the data pushed last, since the Unix epoch.
    pub(crate) fn position(&self) -> Option<ClockTime> {
        match &self.current {
            Some(segment) => segment.to_stream_time(self.position?),
            None => self.seek?.start,
        }
    }
}

/// How long `time` of media takes at this rate.
fn played(time: ClockTime, rate: f64) -> ClockTime {
    if rate == 1.0 {
        return time;
    }
    // What no number holds becomes the largest there is.
    let nanos = (time.nseconds() as f64 / rate) as u64;
    ClockTime::from_nseconds(nanos.min(ClockTime::MAX.nseconds()))
}

/// The data as buffers, without a copy.
///
/// A demuxer maps a buffer as one piece, and the memories of a buffer that has several are then
/// copied into one. So a large piece has a buffer of its own, and only small ones share.
fn buffers(data: Data) -> Vec<gst::Buffer> {
    // Beyond this, GStreamer copies them into one at once.
    let most = gst::BufferRef::max_memory().max(1);
    let mut buffers: Vec<gst::Buffer> = Vec::new();
    let mut shared = false;
    for piece in data.pieces.into_iter().filter(|piece| !piece.is_empty()) {
        let small = piece.len() < SMALL;
        let header = buffers.is_empty() && piece.starts_with(&EBML_ID);
        let memory = gst::Memory::from_slice(piece);
        match buffers.last_mut().map(gst::Buffer::make_mut) {
            Some(last) if small && shared && last.n_memory() < most => last.append_memory(memory),
            _ => {
                let mut buffer = gst::Buffer::new();
                let new = buffer.make_mut();
                new.append_memory(memory);
                if header {
                    new.set_flags(gst::BufferFlags::HEADER);
                }
                buffers.push(buffer);
            }
        }
        shared = small;
    }
    buffers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::TimestampSource;
    use bytes::Bytes;

    const SECOND: u64 = 1_000_000_000;
    const EPOCH: u64 = 1_511_852_109 * SECOND;

    fn data(pts: Option<u64>) -> Data {
        Data {
            pieces: vec![Bytes::from_static(b"x")],
            pts,
            ..Data::default()
        }
    }

    fn of(start: u64, time: u64) -> Segment {
        Segment {
            start,
            time,
            clock: TimestampSource::Producer,
            due_now: false,
        }
    }

    fn no_clock() -> Option<ClockTime> {
        None
    }

    #[test]
    fn archive_runs_on_the_rewritten_line() {
        gst::init().unwrap();
        let mut stream = Stream::new(false, None);
        assert!(stream.add_data(data(None), no_clock).is_none());
        assert_eq!(stream.position(), None);
        for (start, time) in [(0, EPOCH), (5 * SECOND, EPOCH + 100 * SECOND)] {
            stream.set_segment(of(start, time));
            let never = || unreachable!("an archive has no use for the clock");
            let segment = stream.add_data(data(Some(start)), never).unwrap();
            assert_eq!(segment.start(), Some(ClockTime::from_nseconds(start)));
            assert_eq!(segment.base(), Some(ClockTime::from_nseconds(start)));
            assert_eq!(segment.time(), Some(ClockTime::from_nseconds(time)));
            assert_eq!(segment.position(), segment.start());
            assert_eq!(segment.stop(), None);
            let later = data(Some(start + SECOND));
            assert!(stream.add_data(later, no_clock).is_none());
            let expected = ClockTime::from_nseconds(time + SECOND);
            assert_eq!(stream.position(), Some(expected));
            // Data without a frame does not move it.
            stream.add_data(data(None), no_clock);
            assert_eq!(stream.position(), Some(expected));
        }
    }

    #[test]
    fn live_runs_from_the_first_frame_on() {
        gst::init().unwrap();
        let mut stream = Stream::new(true, None);
        stream.set_segment(of(SECOND, EPOCH));
        let now = || Some(ClockTime::from_mseconds(400));
        let segment = stream.add_data(data(Some(SECOND)), now).unwrap();
        assert_eq!(segment.base(), Some(ClockTime::from_mseconds(400)));
        // Asked once: later segments keep the distance.
        stream.set_segment(of(6 * SECOND, EPOCH + 9 * SECOND));
        let later = || Some(ClockTime::from_seconds(77));
        let segment = stream.add_data(data(Some(6 * SECOND)), later).unwrap();
        assert_eq!(segment.base(), Some(ClockTime::from_mseconds(5400)));
    }

    #[test]
    fn what_comes_late_is_due_when_it_comes() {
        gst::init().unwrap();
        let mut stream = Stream::new(true, None);
        let at = |ms| move || Some(ClockTime::from_mseconds(ms));
        stream.set_segment(of(0, EPOCH));
        stream.add_data(data(Some(0)), at(400)).unwrap();
        let late = |start| Segment {
            due_now: true,
            ..of(start, EPOCH + start)
        };
        stream.set_segment(late(2 * SECOND));
        let next = stream.add_data(data(Some(2 * SECOND)), at(9000)).unwrap();
        assert_eq!(next.base(), Some(ClockTime::from_mseconds(9000)));
        // But never before what was due.
        stream.set_segment(late(4 * SECOND));
        let next = stream.add_data(data(Some(4 * SECOND)), at(9500)).unwrap();
        assert_eq!(next.base(), Some(ClockTime::from_mseconds(11_000)));
    }

    #[test]
    fn a_seek_clips_up_to_its_target() {
        gst::init().unwrap();
        let sought = |clips| {
            Stream::new(false, None).sought(Seek {
                start: Some(ClockTime::from_nseconds(EPOCH + 3 * SECOND)),
                here: false,
                stop: Some(ClockTime::from_nseconds(EPOCH + 10 * SECOND)),
                endless: false,
                rate: 2.0,
                flags: gst::SegmentFlags::RESET,
                clips,
            })
        };
        let seconds = ClockTime::from_seconds;
        let mut stream = sought(true);
        assert_eq!(
            stream.position(),
            Some(ClockTime::from_nseconds(EPOCH) + seconds(3))
        );
        stream.set_segment(of(0, EPOCH + 2 * SECOND));
        let first = stream.add_data(data(Some(0)), no_clock).unwrap();
        assert_eq!(first.start(), Some(seconds(1)));
        assert_eq!(first.base(), Some(ClockTime::ZERO));
        assert_eq!(
            first.time(),
            Some(ClockTime::from_nseconds(EPOCH) + seconds(3))
        );
        assert_eq!(first.stop(), Some(seconds(8)));
        assert_eq!(first.rate(), 2.0);
        assert_eq!(stream.position(), first.time());
        // What follows a hole is not clipped, and follows in running time: 3 s at twice the rate.
        stream.set_segment(of(4 * SECOND, EPOCH + 7 * SECOND));
        let next = stream.add_data(data(Some(4 * SECOND)), no_clock).unwrap();
        assert_eq!(
            (next.start(), next.base()),
            (Some(seconds(4)), Some(ClockTime::from_mseconds(1500)))
        );
        // Nor is what comes after the clock has been set back before the target.
        stream.set_segment(of(6 * SECOND, EPOCH));
        let next = stream.add_data(data(Some(6 * SECOND)), no_clock).unwrap();
        assert_eq!(
            (next.start(), next.base()),
            (Some(seconds(6)), Some(ClockTime::from_mseconds(2500)))
        );

        let mut stream = sought(false);
        stream.set_segment(of(0, EPOCH + 2 * SECOND));
        let first = stream.add_data(data(Some(0)), no_clock).unwrap();
        assert_eq!(first.start(), Some(ClockTime::ZERO));
        assert_eq!(
            first.time(),
            Some(ClockTime::from_nseconds(EPOCH) + seconds(2))
        );
    }

    #[test]
    fn before_its_target_a_seek_clips_on() {
        gst::init().unwrap();
        let seconds = ClockTime::from_seconds;
        let mut stream = Stream::new(false, None).sought(Seek {
            start: Some(ClockTime::from_nseconds(EPOCH + 10 * SECOND)),
            here: false,
            stop: None,
            endless: false,
            rate: 1.0,
            flags: gst::SegmentFlags::RESET,
            clips: true,
        });
        let mut segment = |start, time| {
            stream.set_segment(of(start, time));
            let segment = stream.add_data(data(Some(start)), no_clock).unwrap();
            (segment.start(), segment.base())
        };
        let none = Some(ClockTime::ZERO);
        assert_eq!(segment(0, EPOCH), (Some(seconds(10)), none));
        // A hole of 6 s after 2 s, and then the target after 2 s more.
        let second = segment(2 * SECOND, EPOCH + 8 * SECOND);
        assert_eq!(second, (Some(seconds(4)), none));
        // Another after 5 s, of which 3 s have been shown.
        let third = segment(7 * SECOND, EPOCH + 20 * SECOND);
        assert_eq!(third, (Some(seconds(7)), Some(seconds(3))));
        // A clock set back.
        let last = segment(9 * SECOND, EPOCH);
        assert_eq!(last, (Some(seconds(9)), Some(seconds(5))));
    }

    #[test]
    fn live_at_another_rate_keeps_the_distance_too() {
        gst::init().unwrap();
        let mut stream = Stream::new(true, None).sought(Seek {
            start: None,
            here: false,
            stop: None,
            endless: false,
            rate: 0.5,
            flags: gst::SegmentFlags::RESET,
            clips: true,
        });
        stream.set_segment(of(0, EPOCH));
        let now = || Some(ClockTime::from_mseconds(400));
        stream.add_data(data(Some(0)), now).unwrap();
        stream.set_segment(of(2 * SECOND, EPOCH + 9 * SECOND));
        let segment = stream.add_data(data(Some(2 * SECOND)), now).unwrap();
        assert_eq!(segment.base(), Some(ClockTime::from_mseconds(4400)));
    }

    #[test]
    fn the_position_stays_within_what_is_shown() {
        gst::init().unwrap();
        let epoch = |seconds| ClockTime::from_nseconds(EPOCH + seconds * SECOND);
        let mut stream = Stream::new(false, None).sought(Seek {
            start: Some(epoch(3)),
            here: false,
            stop: Some(epoch(5)),
            endless: false,
            rate: 1.0,
            flags: gst::SegmentFlags::RESET,
            clips: true,
        });
        stream.set_segment(of(0, EPOCH + 2 * SECOND));
        for (pts, position) in [
            (0, epoch(3)),
            (2 * SECOND, epoch(4)),
            (3 * SECOND, epoch(5) - NANOSECOND),
            (9 * SECOND, epoch(5) - NANOSECOND),
        ] {
            stream.add_data(data(Some(pts)), no_clock);
            assert_eq!(stream.position(), Some(position));
        }
        // What stands behind the stop altogether is not shown.
        stream.set_segment(of(10 * SECOND, EPOCH + 20 * SECOND));
        let next = stream.add_data(data(Some(10 * SECOND)), no_clock).unwrap();
        assert_eq!(next.stop(), next.start());
        assert_eq!(stream.position(), Some(epoch(20)));
    }

    #[test]
    fn a_stop_that_no_time_can_hold_is_the_last_there_is() {
        gst::init().unwrap();
        let mut stream = Stream::new(false, None).sought(Seek {
            start: Some(ClockTime::from_nseconds(EPOCH)),
            here: false,
            stop: Some(ClockTime::MAX),
            endless: false,
            rate: 1.0,
            flags: gst::SegmentFlags::RESET,
            clips: true,
        });
        stream.set_segment(of(0, EPOCH));
        stream.add_data(data(Some(0)), no_clock).unwrap();
        // Later on the line than by the clock: the stop stands beyond what is left of the line.
        let start = EPOCH + 5 * SECOND;
        stream.set_segment(of(start, EPOCH + SECOND));
        let next = stream.add_data(data(Some(start)), no_clock).unwrap();
        assert_eq!(next.stop(), Some(ClockTime::MAX));
        assert_eq!(next.start(), Some(ClockTime::from_nseconds(start)));
    }

    #[test]
    fn live_without_a_clock_begins_at_once() {
        gst::init().unwrap();
        let mut stream = Stream::new(true, None);
        stream.set_segment(of(0, EPOCH));
        let segment = stream.add_data(data(Some(0)), no_clock).unwrap();
        assert_eq!(segment.base(), Some(ClockTime::ZERO));
    }

    #[test]
    fn pieces_are_not_copied() {
        gst::init().unwrap();
        let mut pieces: Vec<_> = (0..100u8).map(|n| Bytes::from(vec![n; 10])).collect();
        pieces.insert(50, Bytes::from(vec![255; SMALL]));
        pieces.insert(60, Bytes::new());
        let pointers: Vec<_> = pieces
            .iter()
            .filter(|piece| !piece.is_empty())
            .map(|piece| piece.as_ptr())
            .collect();
        let whole = pieces.concat();
        let data = Data {
            pieces,
            ..Data::default()
        };

        let buffers = buffers(data);
        let mut found = Vec::new();
        let mut bytes = Vec::new();
        for buffer in &buffers {
            for memory in buffer.iter_memories() {
                let map = memory.map_readable().unwrap();
                found.push(map.as_ptr());
                bytes.extend_from_slice(&map);
            }
        }
        assert_eq!(found, pointers);
        assert_eq!(bytes, whole);
        // 50 small ones, a large one alone, 50 small ones.
        let sizes: Vec<_> = buffers.iter().map(|buffer| buffer.n_memory()).collect();
        assert_eq!(sizes, [16, 16, 16, 2, 1, 16, 16, 16, 2]);
        assert!(buffers.iter().all(|b| b.pts().is_none()));
    }

    #[test]
    fn headers_are_flagged() {
        gst::init().unwrap();
        let of = |first: &'static [u8]| {
            let pieces = vec![Bytes::from_static(first), Bytes::from_static(&EBML_ID)];
            buffers(Data {
                pieces,
                ..Data::default()
            })
        };
        assert!(
            of(b"\x1A\x45\xDF\xA3\x80")[0]
                .flags()
                .contains(gst::BufferFlags::HEADER)
        );
        assert!(
            !of(b"\x1F\x43\xB6\x75")[0]
                .flags()
                .contains(gst::BufferFlags::HEADER)
        );
        assert!(buffers(Data::default()).is_empty());
    }
}
