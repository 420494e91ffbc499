use super::{
    Config,
    clock::{Clock, Place, shifted, signed},
    connect::Connect,
    look_ahead::{Held, LookAhead},
    output::Output,
    pace::Paces,
    rewrite::Rewrite,
    tracks::{self, Info, Numbers},
};
use crate::{
    ebml::{self, Block, Rope, schema, write},
    fragment::{self, Head, Number},
    item::{FragmentEnd, Gap, GapKind, Item, Opened, Segment, Track, TracksChanged},
};
use bytes::Bytes;

/// Why a fragment cannot be taken.
#[derive(Debug)]
pub enum Failure {
    /// What stands in the document is malformed.
    Ebml(ebml::Error),
    /// The tracks changed beyond what a demuxer can follow.
    Tracks {
        /// Before.
        old: Vec<Track>,
        /// From this fragment on.
        new: Vec<Track>,
    },
}

impl From<ebml::Error> for Failure {
    fn from(error: ebml::Error) -> Self {
        Failure::Ebml(error)
    }
}

/// The fragment under way.
#[derive(Debug)]
struct Fragment {
    head: Head,
    /// Nanoseconds a unit of its own time.
    scale: u64,
    info: Vec<u8>,
    /// The timecode of its first cluster, and the wall-clock time of that, in nanoseconds.
    origin: Option<(u64, u64)>,
    first_pts: Option<u64>,
    frames: u32,
}

/// The cluster under way.
#[derive(Debug, Clone, Copy)]
struct Cluster {
    /// As served, in the fragment's units.
    timecode: u64,
    /// As written: its time in our units, and how far after that it really stands, in nanoseconds.
    written: Option<(u64, i64)>,
}

/// Makes one continuous document of many; see the [module](super) for its rules.
#[derive(Debug)]
pub struct Continuous {
    clock: Clock,
    connect: Connect,
    out: Output,
    follow_tracks: bool,
    /// What a demuxer downstream has been told.
    opened: Option<Opened>,
    /// `Tracks` as last served, and how its numbers relate to those that a demuxer was told of.
    served: Bytes,
    numbers: Numbers,
    /// `Tracks` that changed and go out before the next cluster.
    new_tracks: Option<Bytes>,
    fragment: Option<Fragment>,
    /// Fragments are missing before the next block, for this reason.
    interrupted: Option<GapKind>,
    last_number: Option<Number>,
    cluster: Option<Cluster>,
    /// The beginning of a segment that is still to be anchored.
    look_ahead: Option<LookAhead>,
    paces: Paces,
    /// The id and size of a cluster have gone out, its timestamp has not.
    cluster_begun: bool,
}

impl Continuous {
    /// A document that has not begun; `opened` is what a demuxer downstream has been told before, if it
    /// has.
    pub fn new(config: Config, opened: Option<Opened>) -> Self {
        Continuous {
            clock: Clock::new(config),
            connect: Connect::new(
                config.connect_audio,
                opened.as_ref().map_or(&[], |opened| &opened.tracks),
            ),
            out: Output::default(),
            follow_tracks: config.follow_tracks,
            opened,
            served: Bytes::new(),
            numbers: Numbers::new(),
            new_tracks: None,
            fragment: None,
            interrupted: None,
            last_number: None,
            cluster: None,
            look_ahead: None,
            paces: Paces::default(),
            cluster_begun: false,
        }
    }

    /// Frames up to this fragment were delivered before this process began.
    pub fn resume_after(&mut self, number: &str) {
        self.last_number = Some(Number::new(number));
    }

    /// Says what time it is when the next bytes arrive, in nanoseconds since any moment.
    pub fn arrives(&mut self, now: u64) {
        self.clock.arrives(now);
    }

    /// A fragment begins; `interrupted` says that fragments are missing before it.
    ///
    /// # Errors
    /// Its tracks cannot follow those before, or its header is malformed.
    pub fn begin(
        &mut self,
        head: Head,
        interrupted: Option<GapKind>,
        items: &mut Vec<Item>,
    ) -> Result<(), Failure> {
        let info = Info::parse(head.info.as_ref())?;
        self.connect.read(&head.tags);
        self.compare_tracks(&head, items)?;
        self.cluster = None;
        // One without a block names nothing: what it follows is missing before the next as well.
        self.interrupted = interrupted.or(self.interrupted);
        self.fragment = Some(Fragment {
            head,
            scale: info.scale,
            info: info.children,
            origin: None,
            first_pts: None,
            frames: 0,
        });
        Ok(())
    }

    /// A cluster begins; `timecode` in the document's units.
    pub fn cluster(&mut self, timecode: u64) {
        self.cluster = Some(Cluster {
            timecode,
            written: None,
        });
    }

    /// A block of it, which stands in `rope`.
    ///
    /// # Errors
    /// It is the first of all, and there were no `Tracks`.
    pub fn block(
        &mut self,
        block: &Block,
        rope: &Rope,
        items: &mut Vec<Item>,
    ) -> Result<(), Failure> {
        let (Some(cluster), Some(fragment)) = (self.cluster, &mut self.fragment) else {
            return Ok(());
        };
        fragment.frames += 1;
        if self.look_ahead.is_some() {
            return self.hold(cluster.timecode, block, rope, items);
        }
        if cluster.written.is_none() {
            let place = self.place(cluster.timecode, block);
            let starts = self.wall(cluster.timecode, block);
            self.report_gap(&place, starts, rope, items);
            if place.anchors || self.opened.is_none() {
                let undecided = self.opened.is_none() && self.is_undecided()?;
                self.look_ahead = Some(LookAhead::new(place, undecided));
                return self.hold(cluster.timecode, block, rope, items);
            }
        }
        self.write(block, None, rope, items);
        Ok(())
    }

    /// The fragment is complete.
    ///
    /// # Errors
    /// As [`Continuous::block`].
    pub fn end(
        &mut self,
        end: fragment::End,
        rope: &Rope,
        items: &mut Vec<Item>,
    ) -> Result<(), Failure> {
        self.connect.read(&end.tags);
        self.settle(rope, items)?;
        self.out.flush(rope, items);
        self.cluster = None;
        if let Some(fragment) = self.fragment.take() {
            let start = fragment.head.start(fragment.first_pts);
            items.push(Item::FragmentEnd(FragmentEnd {
                bearings: self.clock.bearings(),
                ..end.complete(start, fragment.frames)
            }));
        }
        Ok(())
    }

    /// The fragment under way will not go on: it ends at the last whole block.
    ///
    /// # Errors
    /// As [`Continuous::block`].
    pub fn abandon(&mut self, items: &mut Vec<Item>) -> Result<(), Failure> {
        self.settle(&Rope::default(), items)?;
        self.out.flush(&Rope::default(), items);
        self.cluster = None;
        self.fragment = None;
        Ok(())
    }

    /// The wall-clock time of the end of the last frame, in nanoseconds.
    pub fn end_wall(&self) -> Option<u64> {
        self.clock.end_wall()
    }

    /// Gives out what is complete. To be called before `rope` takes more.
    pub fn flush(&mut self, rope: &Rope, items: &mut Vec<Item>) {
        self.out.flush(rope, items);
    }

    /// Whether what the tracks of the fragment are may show at its end only.
    fn is_undecided(&self) -> Result<bool, Failure> {
        let tracks = self
            .fragment
            .as_ref()
            .and_then(|fragment| fragment.head.tracks.as_ref());
        let Some(tracks) = tracks else {
            return Ok(false);
        };
        Ok(self
            .connect
            .is_undecided(&tracks::parse(tracks, &self.connect)?))
    }

    fn compare_tracks(&mut self, head: &Head, items: &mut Vec<Item>) -> Result<(), Failure> {
        let (Some(element), Some(opened)) = (&head.tracks, &mut self.opened) else {
            return Ok(());
        };
        if element.data == self.served {
            return Ok(());
        }
        let mut new = tracks::parse(element, &self.connect)?;
        let changed = |opened: &Opened, new: &[Track], compatible| {
            Item::TracksChanged(TracksChanged {
                compatible,
                old: opened.tracks.clone(),
                new: new.to_owned(),
            })
        };
        let Some(numbers) = tracks::match_up(&opened.tracks, &new) else {
            items.push(changed(opened, &new, false));
            let old = std::mem::take(&mut opened.tracks);
            if !self.follow_tracks {
                return Err(Failure::Tracks { old, new });
            }
            self.opened = None;
            self.new_tracks = None;
            self.paces.clear();
            return Ok(());
        };
        for track in &mut new {
            track.number = renumber(&numbers, track.number);
        }
        let data = tracks::data(element, &self.connect, &new)?;
        new.sort_by_key(|track| track.number);
        if opened.tracks != new {
            items.push(changed(opened, &new, true));
            opened.tracks = new;
            self.new_tracks = Some(data);
            items.push(Item::Opened(opened.clone()));
        }
        self.served = element.data.clone();
        self.numbers = numbers;
        Ok(())
    }

    /// Decides where the cluster that begins with `block` belongs.
    fn place(&mut self, timecode: u64, block: &Block) -> Place {
        let Some(fragment) = &mut self.fragment else {
            return Place::default();
        };
        let nanos = timecode.saturating_mul(fragment.scale);
        let lead = (-i64::from(block.offset)).saturating_mul(signed(fragment.scale));
        match fragment.origin {
            None => {
                let interrupted = self.interrupted.take();
                let mut place = self.clock.place(&fragment.head, nanos, lead, interrupted);
                // What follows something delivered is missing though nothing was placed before it.
                let follows = self.last_number.is_some();
                place.gap = place.gap.or(interrupted.filter(|_| follows));
                fragment.origin = Some((nanos, place.wall));
                place
            }
            Some((origin, wall)) => {
                let wall = shifted(wall, signed(nanos) - signed(origin));
                self.clock.place_next(wall, lead)
            }
        }
    }

    fn report_gap(&mut self, place: &Place, to: u64, rope: &Rope, items: &mut Vec<Item>) {
        let (Some(kind), Some(fragment)) = (place.gap, &self.fragment) else {
            return;
        };
        self.out.flush(rope, items);
        let text = |number: &Number| (!number.is_empty()).then(|| number.to_string());
        items.push(Item::Gap(Gap {
            kind,
            from_fragment: self.last_number.as_ref().and_then(text),
            to_fragment: text(&fragment.head.number),
            from_timestamp: self.clock.end_wall(),
            to_timestamp: Some(to),
        }));
    }

    fn hold(
        &mut self,
        timecode: u64,
        block: &Block,
        rope: &Rope,
        items: &mut Vec<Item>,
    ) -> Result<(), Failure> {
        let wall = self.wall(timecode, block);
        let held = Held {
            timecode,
            block: *block,
            bytes: rope.copy(block.span),
        };
        let look_ahead = self.look_ahead.as_mut();
        match look_ahead.is_some_and(|look_ahead| look_ahead.hold(wall, held)) {
            true => self.settle(rope, items),
            false => Ok(()),
        }
    }

    /// Anchors the segment at the earliest of the blocks held, and writes them.
    fn settle(&mut self, rope: &Rope, items: &mut Vec<Item>) -> Result<(), Failure> {
        let Some(look_ahead) = self.look_ahead.take() else {
            return Ok(());
        };
        let LookAhead {
            place,
            earliest,
            blocks,
            ..
        } = look_ahead;
        let header = self.segment_header(rope, items)?;
        let scale = self
            .opened
            .as_ref()
            .map_or(Info::DEFAULT_SCALE, |opened| opened.scale);
        if self.clock.end_wall().is_some_and(|end| earliest < end) {
            self.paces.interrupt();
        }
        let anchor = self.clock.set_anchor(earliest, scale, &place);
        self.out.bytes(rope, header);
        self.out.flush(rope, items);
        items.push(Item::Segment(Segment {
            start: anchor.pts,
            time: anchor.wall,
            clock: self.clock.source(),
            due_now: place.late,
        }));
        self.cluster = None;
        for Held {
            timecode,
            block,
            bytes,
        } in blocks
        {
            if self
                .cluster
                .is_none_or(|cluster| cluster.timecode != timecode)
            {
                self.cluster(timecode);
            }
            self.write(&block, Some(bytes), rope, items);
        }
        Ok(())
    }

    /// What a demuxer needs before a segment: everything at first, later only what makes it take a
    /// new segment. Ends with the id and size of the cluster that follows.
    fn segment_header(&mut self, rope: &Rope, items: &mut Vec<Item>) -> Result<Bytes, Failure> {
        let mut out = Vec::new();
        let Some(fragment) = &self.fragment else {
            return Ok(Bytes::new());
        };
        if let Some(tracks) = self.new_tracks.take() {
            write::element(&mut out, schema::TRACKS, &tracks);
        }
        out.extend_from_slice(&fragment.head.ebml);
        write::start_unknown_size(&mut out, schema::SEGMENT);
        if self.opened.is_none() {
            let Some(tracks) = &fragment.head.tracks else {
                let path = [schema::SEGMENT, schema::CLUSTER];
                return Err(ebml::Error::new(ebml::ErrorKind::NoTracks, 0, &path).into());
            };
            write::element(&mut out, schema::INFO, &fragment.info);
            let mut parsed = tracks::parse(tracks, &self.connect)?;
            write::element(
                &mut out,
                schema::TRACKS,
                &tracks::data(tracks, &self.connect, &parsed)?,
            );
            write::empty_cues(&mut out);
            parsed.sort_by_key(|track| track.number);
            let opened = Opened {
                scale: fragment.scale,
                tracks: parsed,
            };
            self.served = tracks.data.clone();
            self.numbers.clear();
            self.opened = Some(opened.clone());
            self.out.flush(rope, items);
            items.push(Item::Opened(opened));
        }
        write::start_unknown_size(&mut out, schema::CLUSTER);
        self.cluster_begun = true;
        Ok(out.into())
    }

    /// Writes a block of the cluster under way, from the body or from `bytes`.
    fn write(&mut self, block: &Block, bytes: Option<Bytes>, rope: &Rope, items: &mut Vec<Item>) {
        let (Some(opened), Some(fragment)) = (&self.opened, &self.fragment) else {
            return;
        };
        let (scale, of_fragment) = (opened.scale, fragment.scale);
        let (timecode, offset) = self
            .offset(block, scale)
            .unwrap_or_else(|| self.open_cluster(block, scale, rope, items));
        let number = renumber(&self.numbers, block.track);
        let rewrite = Rewrite::new(block, number, offset, of_fragment, scale);
        match (rewrite, bytes) {
            (None, None) => self.out.span(rope, block.span),
            (None, Some(bytes)) => self.out.bytes(rope, bytes),
            (Some(rewrite), bytes) => rewrite.write(block, bytes, rope, &mut self.out),
        }
        let pts = timecode
            .saturating_add_signed(offset.into())
            .saturating_mul(scale);
        self.out.frame(pts);
        let tracks = self.opened.as_ref().map_or(&[][..], |o| &o.tracks);
        let wall = self.clock.wall(pts);
        let length = self.paces.length(block, of_fragment, number, tracks, wall);
        self.clock.extend(pts, length);
    }

    /// The time of the cluster as written, and what to write as the block's offset from it; `None`
    /// when the block needs a new cluster.
    fn offset(&self, block: &Block, scale: u64) -> Option<(u64, i16)> {
        let (timecode, beyond) = self.cluster?.written?;
        let of_fragment = signed(self.fragment.as_ref()?.scale);
        let offset = match of_fragment == signed(scale) && beyond == 0 {
            true => block.offset.into(),
            false => divide(
                i64::from(block.offset)
                    .saturating_mul(of_fragment)
                    .saturating_add(beyond),
                scale,
            ),
        };
        // Nothing stands before the beginning of the segment: it would not be shown.
        let first = signed(self.clock.start().div_ceil(scale));
        let offset = offset.max(first.saturating_sub(signed(timecode)));
        i16::try_from(offset).ok().map(|offset| (timecode, offset))
    }

    /// Writes the beginning of a cluster, as served or, where offsets from that do not fit, at `block`.
    /// Returns what [`Continuous::offset`] finds in it.
    fn open_cluster(
        &mut self,
        block: &Block,
        scale: u64,
        rope: &Rope,
        items: &mut Vec<Item>,
    ) -> (u64, i16) {
        let (Some(cluster), Some(fragment)) = (self.cluster, &self.fragment) else {
            return (0, 0);
        };
        let lead = i64::from(block.offset).saturating_mul(signed(fragment.scale));
        let pts = self.clock.pts(self.wall_at(cluster.timecode, 0));
        let first = self.clock.start().div_ceil(scale);
        let as_served = cluster.written.is_none().then_some(0);
        let mut place = (0, 0);
        for lead in as_served.into_iter().chain([lead]) {
            let timecode = u64::try_from(divide(pts.saturating_add(lead), scale)).unwrap_or(0);
            let timecode = timecode.max(first);
            let beyond = pts.saturating_sub(signed(timecode.saturating_mul(scale)));
            self.cluster = Some(Cluster {
                written: Some((timecode, beyond)),
                ..cluster
            });
            let found = self.offset(block, scale);
            place = found.unwrap_or((timecode, 0));
            if found.is_some() {
                break;
            }
        }
        let (timecode, offset) = place;
        let pts = timecode.saturating_add_signed(offset.into());
        self.announce(pts.saturating_mul(scale), rope, items);

        let mut out = Vec::with_capacity(32);
        if let Some(tracks) = self.new_tracks.take() {
            write::element(&mut out, schema::TRACKS, &tracks);
        }
        if !std::mem::take(&mut self.cluster_begun) {
            write::start_unknown_size(&mut out, schema::CLUSTER);
        }
        write::unsigned(&mut out, schema::TIMESTAMP, timecode);
        self.out.bytes(rope, out.into());
        place
    }

    /// Says before the first frame of a fragment that it begins.
    fn announce(&mut self, first_pts: u64, rope: &Rope, items: &mut Vec<Item>) {
        let Some(fragment) = &mut self.fragment else {
            return;
        };
        if fragment.first_pts.is_some() {
            return;
        }
        fragment.first_pts = Some(first_pts);
        self.last_number = Some(fragment.head.number.clone());
        let start = fragment.head.start(fragment.first_pts);
        self.out.flush(rope, items);
        items.push(Item::FragmentStart(start));
    }

    /// The wall-clock time of a block.
    fn wall(&self, timecode: u64, block: &Block) -> u64 {
        self.wall_at(timecode, block.offset.into())
    }

    fn wall_at(&self, timecode: u64, offset: i64) -> u64 {
        let Some(fragment) = &self.fragment else {
            return 0;
        };
        let (origin, wall) = fragment.origin.unwrap_or_default();
        let scale = signed(fragment.scale);
        let since = signed(timecode.saturating_mul(fragment.scale)).saturating_sub(signed(origin));
        shifted(wall, since.saturating_add(offset.saturating_mul(scale)))
    }
}

fn renumber(numbers: &[(u64, u64)], number: u64) -> u64 {
    numbers
        .iter()
        .find(|(served, _)| *served == number)
        .map_or(number, |(_, written)| *written)
}

/// Nanoseconds in units of `scale`, rounded.
fn divide(nanos: i64, scale: u64) -> i64 {
    let scale = signed(scale).max(1);
    nanos.saturating_add(scale / 2).div_euclid(scale)
}
