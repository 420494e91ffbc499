//! Exactly once through the element: bodies cut at many bytes, in every way, and put together again.

mod support;

use kvs_local::{
    Cut, Fault, Server, StartSelector,
    synth::{Blocks, ClusterSize, Synth, Synthetic, TrackSpec},
};
use std::sync::atomic::{AtomicUsize, Ordering};
use support::*;

/// Pipelines at a time.
const THREADS: usize = 8;

/// Known and unknown Cluster sizes, SimpleBlocks and BlockGroups, and everything else that a producer
/// may write around them.
fn every_form() -> Synthetic {
    Synth::new()
        .tracks([TrackSpec::h264(1), TrackSpec::aac(2)])
        .fragments(4)
        .fragment_ms(1000)
        .frames(6)
        .payload(10, 40)
        .everything()
        .distinct_tokens()
        .tags_before(&[("camera", "front")])
        .tags_after(&[("motion", "yes")])
        .each(|index, fragment| {
            fragment.cluster_size = [ClusterSize::Known, ClusterSize::Unknown][index % 2];
            fragment.blocks = [Blocks::Simple, Blocks::Group][index / 2 % 2];
        })
        .build()
}

/// Bytes of the bodies that are cut: of all fragments but the one that ends the stream.
fn shown(media: &Synthetic) -> usize {
    let shown = &media.fragments[..media.fragments.len() - 1];
    shown.iter().map(|fragment| fragment.document.len()).sum()
}

/// Plays `media` with the faults that `script` gives to the server for each of `cases`.
fn cut_each(media: &Synthetic, cases: &[Case]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let server = Server::start();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    case.play(&server, media);
                }
            });
        }
    });
}

#[derive(Debug, Clone)]
struct Case {
    /// After so many bytes of each body in turn.
    cuts: Vec<usize>,
    how: Cut,
    chunk: usize,
}

impl Case {
    fn play(&self, server: &Server, media: &Synthetic) {
        let what = format!("{self:?}");
        let cuts: Vec<_> = self.cuts.iter().map(usize::to_string).collect();
        let stream = format!("{:?}-{}-{}", self.how, self.chunk, cuts.join("-"));
        server.fault(
            Fault::get_media()
                .stream(&stream)
                .always()
                .chunk_size(self.chunk),
        );
        for (index, &cut) in self.cuts.iter().enumerate() {
            let fault = Fault::get_media().stream(&stream).nth(index + 1);
            server.fault(fault.cut_after(cut as u64, self.how));
        }
        // The endpoint needs no lookup: there are many streams.
        let endpoint = server.endpoint_url();
        let properties = [("data-endpoint-url", endpoint.as_str())];
        let run = Run::demuxed(&play_media(server, &stream, media, &properties));
        run.play();
        run.wait(&what, Log::is_eos);
        let log = run.stop();
        assert_media(&log, media, &what);
        assert!(log.structures("kvs-gap").is_empty(), "{what}");
        assert_eq!(log.segments(VIDEO).len(), 1, "{what}");
        assert_eq!(log.reconnects().len(), self.cuts.len(), "{what}");
    }
}

/// Steps through the bytes so that the offsets of the ways differ.
fn offsets(len: usize, count: usize, from: usize) -> impl Iterator<Item = usize> {
    let step = len / count;
    (0..count).map(move |index| (index * step + from) % len)
}

#[test]
fn a_cut_leaves_no_trace() {
    let media = every_form();
    let len = shown(&media);
    let mut cases = Vec::new();
    for (index, how) in [Cut::Fin, Cut::Reset, Cut::CleanEnd]
        .into_iter()
        .enumerate()
    {
        for (other, chunk) in [1, 64 << 10].into_iter().enumerate() {
            for cut in offsets(len, 60, 7 * index + 3 * other) {
                let cuts = vec![cut];
                cases.push(Case { cuts, how, chunk });
            }
        }
    }
    cut_each(&media, &cases);
}

#[test]
fn two_cuts_in_one_fragment_leave_no_trace() {
    let media = every_form();
    let first = media.fragments[0].document.len();
    let mut cases = Vec::new();
    for (index, how) in [Cut::Fin, Cut::Reset].into_iter().enumerate() {
        for cut in offsets(first, 30, index) {
            // The second body repeats the fragment, and breaks off earlier or later in it.
            let cuts = vec![cut, (cut * 7 + 100) % first];
            cases.push(Case {
                cuts,
                how,
                chunk: 64 << 10,
            });
        }
    }
    cut_each(&media, &cases);
}

/// Before a first token there is none to go on from; and NOW would be another fragment by then.
#[test]
fn a_cut_before_the_first_token_leads_back_to_the_same_fragment() {
    let media = media(4);
    let server = Server::start();
    let fragment = &media.fragments[1];
    let after = &media.fragments[0];
    let ways: [(&str, &[(&str, &str)]); 6] = [
        ("now", &[]),
        ("earliest", &[]),
        (
            "fragment-number",
            &[("after-fragment-number", &after.number)],
        ),
        (
            "continuation-token",
            &[("continuation-token", &after.token)],
        ),
        (
            "producer-timestamp",
            &[(
                "start-timestamp",
                &seconds(fragment.producer_timestamp_ms + 10),
            )],
        ),
        (
            "server-timestamp",
            &[(
                "start-timestamp",
                &seconds(fragment.server_timestamp_ms + 10),
            )],
        ),
    ];
    let len = fragment.document.len();
    // From where the fragment is known on: in its blocks, and in its last tags.
    let announced = len / 2;
    for (selector, properties) in ways {
        for cut in [announced, len * 3 / 4, len - 10] {
            let what = format!("{selector}, cut after {cut}");
            let stream = server.stream(&format!("{selector}-{cut}"));
            // What NOW leads to is the latest by then.
            let first = if selector == "earliest" { 1 } else { 0 };
            for fragment in &media.fragments[first..2] {
                stream.push_fragment(fragment.new_fragment());
            }
            let fault = Fault::get_media().stream(stream.name());
            server.fault(fault.cut_after(cut as u64, Cut::Fin));
            let src = source(&server, stream.name(), &[("start-selector", selector)]);
            set(&src, properties);
            let end = media.fragments[3].producer_timestamp_ms;
            set(&src, &[("end-timestamp", &seconds(end))]);
            let run = Run::demuxed(&src);
            run.play();
            run.wait(&what, |log| !log.reconnects().is_empty());
            for fragment in &media.fragments[2..] {
                stream.push_fragment(fragment.new_fragment());
            }
            run.wait_eos();
            let log = run.stop();
            let expected = media.fragments[1..3].iter().flat_map(|f| &f.frames);
            let video = expected.filter(|f| f.track == 1).map(|f| &f.payload);
            assert_payloads(&log, VIDEO, video, &what);
            assert!(log.structures("kvs-gap").is_empty(), "{what}");
            let requests = get_media(&server);
            let again = requests.last().unwrap().selector.as_ref();
            assert_ne!(again, Some(&StartSelector::Now), "{what}");
        }
    }
}

/// Fragments that come twice, or after one that follows them, come out once and in order.
#[test]
fn duplicates_and_empty_documents_leave_no_trace() {
    let media = media(6);
    let empty = Synth::new()
        .fragments(1)
        .first_number("1")
        .each(|_, fragment| {
            fragment.media = false;
        });
    let empty = empty.build().fragments[0].document.clone();
    let server = Server::start();
    server.fault(
        Fault::get_media()
            .duplicate_fragment(1)
            .duplicate_fragment(4)
            .insert_after(2, empty),
    );
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    run.play();
    run.wait_eos();
    let log = run.stop();
    let video = media.fragments[..6].iter().flat_map(|f| &f.frames);
    let video = video.filter(|f| f.track == 1).map(|f| &f.payload);
    assert_payloads(&log, VIDEO, video, "duplicates");
    assert_monotonic(&log, VIDEO, "duplicates");
    assert!(log.structures("kvs-gap").is_empty());
}

/// What the service leaves out is named; what it sends is played.
#[test]
fn a_fragment_that_is_left_out_is_a_gap() {
    let media = media(6);
    let server = Server::start();
    server.fault(Fault::get_media().skip_fragment(3).skip_fragment(4));
    let run = Run::demuxed(&play_media(&server, "cam", &media, &[]));
    run.play();
    run.wait_eos();
    let log = run.stop();
    let kept = [0, 1, 4, 5].map(|index| &media.fragments[index]);
    let video = kept.iter().flat_map(|f| &f.frames);
    let video = video.filter(|f| f.track == 1).map(|f| &f.payload);
    assert_payloads(&log, VIDEO, video, "left out");
    assert_monotonic(&log, VIDEO, "left out");
    let gaps = log.structures("kvs-gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].get::<&str>("kind"), Ok("hole"));
    let field = |name| gaps[0].get::<String>(name).unwrap();
    assert_eq!(field("from-fragment-number"), kept[1].number);
    assert_eq!(field("to-fragment-number"), kept[2].number);
}
