//! Seeks from the pads, and what the source is asked in the demuxer's place.
//!
//! The demuxer would answer in the file's terms: it takes no seek upstream, and its position counts
//! from the beginning of the document. The source knows the stream and its wall-clock time.

use super::CAT;
use crate::lock::lock;
use gst::{prelude::*, subclass::prelude::*};
use std::sync::Mutex;

/// The seek that came last, and what came of it.
#[derive(Debug, Default)]
pub(super) struct LastSeek(Mutex<Option<(gst::Seqnum, bool)>>);

impl LastSeek {
    /// Performs a seek, unless one of the same number came before: a pipeline sends its seek to every
    /// sink, and each sink sends it upstream. While the first is being performed, others are told
    /// that it will succeed.
    fn once(&self, seqnum: gst::Seqnum, perform: impl FnOnce() -> bool) -> bool {
        {
            let mut last = lock(&self.0);
            if let Some((same, result)) = *last
                && same == seqnum
            {
                return result;
            }
            *last = Some((seqnum, true));
        }
        let result = perform();
        let mut last = lock(&self.0);
        if last.is_some_and(|(latest, _)| latest == seqnum) {
            *last = Some((seqnum, result));
        }
        result
    }
}

impl super::imp::KvsSrc {
    /// Passes a seek to the source, which flushes and goes on from there.
    pub(super) fn seek(&self, event: gst::Event) -> bool {
        let seqnum = event.seqnum();
        self.last_seek.once(seqnum, || {
            gst::debug!(CAT, imp = self, "Seeking: {event:?}");
            self.source.send_event(event)
        })
    }

    /// What the source says to a query that it alone can answer; `None` to any other.
    pub(super) fn query_source(&self, query: &mut gst::QueryRef) -> Option<bool> {
        use gst::QueryView::{Duration, Position, Seeking};
        let format = match query.view() {
            Duration(query) => query.format(),
            Position(query) => query.format(),
            Seeking(query) => query.format(),
            _ => return None,
        };
        (format == gst::Format::Time).then(|| self.source.query(query))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn each_seek_is_performed_once() {
        gst::init().unwrap();
        let last = LastSeek::default();
        let performed = Cell::new(0);
        let perform = |result| {
            performed.set(performed.get() + 1);
            result
        };
        let (first, second) = (gst::Seqnum::next(), gst::Seqnum::next());
        assert!(last.once(first, || perform(true)));
        assert!(last.once(first, || perform(false)));
        assert!(!last.once(second, || perform(false)));
        assert!(!last.once(second, || perform(true)));
        assert_eq!(performed.get(), 2);
    }

    #[test]
    fn a_seek_that_comes_meanwhile_is_not_forgotten() {
        gst::init().unwrap();
        let last = LastSeek::default();
        let (first, second) = (gst::Seqnum::next(), gst::Seqnum::next());
        assert!(!last.once(first, || {
            assert!(last.once(first, || unreachable!()));
            assert!(last.once(second, || true));
            false
        }));
        assert!(last.once(second, || unreachable!()));
    }
}
