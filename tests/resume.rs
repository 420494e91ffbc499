//! Exactly once, at the sans-IO level: however a stream is cut, what comes out is the same.

mod common;

use bytes::Bytes;
use common::*;
use gstkvsgetmedia::{
    error::{Error, ErrorKind},
    fragment::Assembler,
    item::{FragmentEnd, FragmentStart, GapKind, Item},
    receiver::{Config, Flow, Receiver},
    request::Selector,
    resume::{Ended, Next, Point, Retry},
};
use kvs_local::{
    error_document,
    synth::{Synth, Synthetic},
};
use std::{collections::BTreeSet, time::Duration};

const LARGE: usize = 64 * 1024;

const WAYS: [Ends; 2] = [Ends::Broken, Ends::Cleanly];

#[test]
fn frames_are_those_of_the_producer() {
    let media = every_form();
    let outcome = uncut(&media, &Config::new(Selector::Earliest), LARGE);
    assert_eq!(outcome.frames(), from_zero(frames(&media.frames())));
    assert_eq!(outcome.ends().len(), 4);
    assert!(outcome.gaps().is_empty());
    let tags: Vec<&str> = outcome.ends()[0]
        .start
        .tags
        .iter()
        .map(|tag| tag.value.as_str())
        .collect();
    assert_eq!(tags, ["front", "again", "yes"]);
}

#[test]
fn chunks_of_any_size_make_no_difference() {
    let media = every_form();
    for config in [
        Config::new(Selector::Earliest),
        Config {
            raw: true,
            ..Config::new(Selector::Earliest)
        },
    ] {
        let whole = uncut(&media, &config, LARGE);
        for chunk in (1..=70).chain([100, 1000, 4095, 4096, 4097]) {
            assert_same(
                &uncut(&media, &config, chunk),
                &whole,
                format!("chunks of {chunk}"),
            );
        }
    }
}

#[test]
fn a_cut_at_every_byte_leaves_no_trace() {
    let media = every_form();
    for config in [
        Config::new(Selector::Earliest),
        Config {
            raw: true,
            ..Config::new(Selector::Earliest)
        },
    ] {
        let whole = uncut(&media, &config, LARGE);
        for chunk in [1, LARGE] {
            for at in 0..=body(&media, &Selector::Earliest).len() {
                // To the end of a body it is all one how the bytes before it came.
                let ways = if chunk == 1 { &WAYS[..1] } else { &WAYS };
                for &ends in ways {
                    assert_same(
                        &ended(&media, &config, chunk, &[at], ends),
                        &whole,
                        format!("{ends:?} after {at} bytes"),
                    );
                }
            }
        }
    }
}

#[test]
fn two_cuts_in_one_fragment_leave_no_trace() {
    let media = every_form();
    let config = Config::new(Selector::Earliest);
    let whole = uncut(&media, &config, LARGE);
    let first = media.fragments[0].document.len();
    let second = first + media.fragments[1].document.len();
    for at in (0..first).step_by(5) {
        for again in (0..first).step_by(7) {
            assert_same(
                &cut(&media, &config, LARGE, &[at, again]),
                &whole,
                format!("cuts after {at} and {again}"),
            );
        }
    }
    for at in (first..second).step_by(3) {
        for again in (0..second - first).step_by(11) {
            let ends = WAYS[(at + again) % 2];
            assert_same(
                &ended(&media, &config, LARGE, &[at, again], ends),
                &whole,
                format!("{ends:?} after {at} and {again}"),
            );
        }
    }
}

#[test]
fn before_the_first_token_every_selector_leads_back_to_the_same_fragment() {
    let media = every_form();
    let fragment = &media.fragments[1];
    let selectors = [
        Selector::Earliest,
        Selector::Now,
        Selector::AfterFragment(media.fragments[0].number.clone()),
        Selector::ContinuationToken(media.fragments[0].token.clone()),
        Selector::ProducerTimestamp(fragment.producer_timestamp_ms + 1),
        Selector::ServerTimestamp(fragment.server_timestamp_ms + 1),
    ];
    for selector in selectors {
        let config = Config::new(selector.clone());
        let whole = uncut(&media, &config, LARGE);
        let document = documents(&media, &selector)[0].clone();
        let announced = document
            .windows(4)
            .position(|bytes| bytes == [0x1F, 0x43, 0xB6, 0x75])
            .unwrap();
        for at in 0..document.len() {
            let mut receiver = Receiver::new(config.clone());
            let mut items = Vec::new();
            receiver.open();
            feed(
                &mut receiver,
                &body(&media, &selector).slice(..at),
                LARGE,
                &mut items,
            )
            .unwrap();
            let request = receiver.position().request();
            // Meanwhile the stream goes on, and NOW would lead to the next fragment.
            assert!(
                at < announced || request != Selector::Now,
                "asks for NOW again after {at} bytes"
            );
            receiver.open();
            feed(&mut receiver, &body(&media, &request), LARGE, &mut items).unwrap();
            receiver.finish(&mut items).unwrap();
            assert_same(
                &Outcome::of(items),
                &whole,
                format!("{selector}, cut after {at} bytes"),
            );
        }
    }
}

/// Receives `bodies` one after the other.
fn receive(config: Config, bodies: &[Bytes]) -> Outcome {
    let mut receiver = Receiver::new(config);
    let mut items = Vec::new();
    for body in bodies {
        receiver.open();
        feed(&mut receiver, body, LARGE, &mut items).unwrap();
    }
    receiver.finish(&mut items).unwrap();
    Outcome::of(items)
}

#[test]
fn a_fragment_that_is_gone_is_named_and_the_next_one_follows() {
    let media = every_form();
    let documents = documents(&media, &Selector::Earliest);
    let first = documents[0].len();
    let all = uncut(&media, &Config::new(Selector::Earliest), LARGE).frames();
    for at in (first..first + documents[1].len()).step_by(7) {
        let body = body(&media, &Selector::Earliest).slice(..at);
        let outcome = receive(
            Config::new(Selector::Earliest),
            &[body, documents[2..].concat().into()],
        );
        let frames = outcome.frames();
        let late = &media.fragments[2..]
            .iter()
            .map(|f| f.frames.len())
            .sum::<usize>();
        let kept = frames.len() - late;
        assert_eq!(frames[..kept], all[..kept], "cut after {at} bytes");
        let payloads =
            |frames: &[(u64, i64, Bytes)]| frames.iter().map(|f| f.2.clone()).collect::<Vec<_>>();
        assert_eq!(
            payloads(&frames[kept..]),
            payloads(&all[all.len() - late..])
        );
        if kept > media.fragments[0].frames.len() {
            let gaps = outcome.gaps();
            assert_eq!(gaps.len(), 1, "{gaps:?}");
            assert_eq!(gaps[0].kind, GapKind::Lost);
            assert_eq!(
                gaps[0].from_fragment.as_ref(),
                Some(&media.fragments[1].number)
            );
            assert_eq!(
                gaps[0].to_fragment.as_ref(),
                Some(&media.fragments[2].number)
            );
        }
    }
}

#[test]
fn duplicates_and_stragglers_are_not_delivered_again() {
    let media = every_form();
    let whole = uncut(&media, &Config::new(Selector::Earliest), LARGE);
    let d = documents(&media, &Selector::Earliest);
    let twice = [&d[0], &d[1], &d[1], &d[0], &d[2], &d[1], &d[3]]
        .map(|d| d.clone())
        .concat();
    let raw = Config {
        raw: true,
        ..Config::new(Selector::Earliest)
    };
    assert_same(
        &receive(Config::new(Selector::Earliest), &[twice.clone().into()]),
        &whole,
        "continuous",
    );
    assert_same(
        &receive(raw.clone(), &[twice.into()]),
        &uncut(&media, &raw, LARGE),
        "raw",
    );
}

#[test]
fn an_empty_fragment_is_reported_and_harmless() {
    let media = Synth::new()
        .fragments(3)
        .each(|index, fragment| fragment.media = index != 1)
        .build();
    let outcome = uncut(&media, &Config::new(Selector::Earliest), LARGE);
    let frames: Vec<u32> = outcome.ends().iter().map(|end| end.frames).collect();
    assert_eq!(frames.len(), 3);
    assert_eq!(frames[1], 0);
    assert_eq!(outcome.ends()[1].start.first_pts, None);
    assert_eq!(outcome.frames().len(), media.frames().len());
}

#[test]
fn a_fragment_without_a_token_is_resumed_after_by_number() {
    let media = Synth::new()
        .fragments(2)
        .each(|_, fragment| fragment.trailing_tags = false)
        .build();
    let mut receiver = Receiver::new(Config::new(Selector::Earliest));
    let mut items = Vec::new();
    receiver.open();
    feed(
        &mut receiver,
        &body(&media, &Selector::Earliest),
        LARGE,
        &mut items,
    )
    .unwrap();
    // The second may be under way still: it is asked for again, until it is clear that it is not.
    let first = Selector::AfterFragment(media.fragments[0].number.clone());
    let mut asked = 0;
    while receiver.position().request() == first {
        receiver.close(false, &mut items).unwrap();
        receiver.open();
        feed(
            &mut receiver,
            &media.fragments[1].document,
            LARGE,
            &mut items,
        )
        .unwrap();
        asked += 1;
        assert!(asked < 10);
    }
    assert_eq!(
        receiver.position().request(),
        Selector::AfterFragment(media.fragments[1].number.clone())
    );
    let ends = items
        .iter()
        .filter(|item| matches!(item, Item::FragmentEnd(_)))
        .count();
    assert_eq!(ends, 2);
    assert_eq!(Outcome::of(items).frames().len(), media.frames().len());
}

/// The place after a fragment, as a process keeps it that ends there.
fn point(fragment: &kvs_local::synth::SynthFragment) -> Point {
    Point {
        number: fragment.number.clone(),
        token: Some(fragment.token.clone()),
        server_timestamp: Some(fragment.server_timestamp_ms * 1_000_000),
        producer_timestamp: None,
    }
}

#[test]
fn another_process_goes_on_after_what_was_delivered() {
    let media = every_form();
    for raw in [false, true] {
        let resumed = |point: Point| Config {
            raw,
            resume: Some(point),
            ..Config::new(Selector::Earliest)
        };
        let [_, second, third, _] = &media.fragments[..] else {
            panic!("four fragments");
        };
        // By token, and where the token or the fragment is gone, by what else is known.
        let mut receiver = Receiver::new(resumed(point(second)));
        let position = receiver.position();
        let token = Selector::ContinuationToken(second.token.clone());
        assert_eq!(position.request(), token);
        assert!(position.gone());
        let time = Selector::ServerTimestamp(second.server_timestamp_ms);
        assert_eq!(position.request(), time);
        assert!(position.gone());
        assert_eq!(position.request(), Selector::Earliest);
        let number = Point {
            token: None,
            ..point(second)
        };
        let mut receiver = Receiver::new(resumed(number));
        let after = Selector::AfterFragment(second.number.clone());
        assert_eq!(receiver.position().request(), after);

        // Whichever way it was, what was delivered is not delivered again.
        for (gone, first, lost) in [(0, 2, false), (1, 1, false), (1, 3, true), (2, 0, false)] {
            let mut receiver = Receiver::new(resumed(point(second)));
            for _ in 0..gone {
                assert!(receiver.position().gone());
            }
            let mut items = Vec::new();
            receiver.open();
            let documents = documents(&media, &Selector::Earliest);
            let body: Bytes = documents[first..].concat().into();
            feed(&mut receiver, &body, LARGE, &mut items).unwrap();
            let outcome = Outcome::of(items);
            let expected = &media.fragments[first.max(2)..];
            let expected: Vec<_> = expected.iter().map(|f| f.number.as_str()).collect();
            let ends = outcome.ends();
            let found: Vec<_> = ends.iter().map(|end| end.start.number.as_str()).collect();
            assert_eq!(found, expected, "{gone} {first}");
            let gaps = outcome.gaps();
            assert_eq!(gaps.len(), usize::from(lost), "{gone} {first}: {gaps:?}");
            for gap in gaps {
                assert_eq!(gap.kind, GapKind::Lost);
                assert_eq!(gap.from_fragment.as_ref(), Some(&second.number));
                assert!(gap.to_fragment.as_ref() > Some(&third.number));
            }
        }
    }
}

#[test]
fn what_was_seen_again_in_one_body_says_nothing_of_the_next() {
    let media = every_form();
    let documents = documents(&media, &Selector::Earliest);
    let mut receiver = Receiver::new(Config {
        resume: Some(point(&media.fragments[0])),
        ..Config::new(Selector::Earliest)
    });
    assert!(receiver.position().gone());
    let mut items = Vec::new();
    // It comes again, and the body ends. Meanwhile the next one expires.
    for document in [&documents[0], &documents[2]] {
        receiver.open();
        feed(&mut receiver, document, LARGE, &mut items).unwrap();
    }
    let gaps = Outcome::of(items);
    assert_eq!(gaps.gaps().len(), 1);
}

#[test]
fn a_place_is_what_can_be_asked_for() {
    let end = |number: &str, token: Option<&str>| FragmentEnd {
        start: FragmentStart {
            number: number.to_owned(),
            server_timestamp: Some(7),
            ..FragmentStart::default()
        },
        continuation_token: token.map(str::to_owned),
        ..FragmentEnd::default()
    };
    let both = Point::after(&end("12", Some("a.b"))).unwrap();
    assert_eq!(
        (both.number.as_str(), both.token.as_deref()),
        ("12", Some("a.b"))
    );
    assert_eq!(both.server_timestamp, Some(7));
    let number = Point::after(&end("12", Some("no token\0"))).unwrap();
    assert_eq!((number.number.as_str(), number.token), ("12", None));
    let token = Point::after(&end("1x", Some("t"))).unwrap();
    assert_eq!(
        (token.number.as_str(), token.token.as_deref()),
        ("", Some("t"))
    );
    assert_eq!(Point::after(&end("", None)), None);
    assert_eq!(
        Point::after(&end(&"1".repeat(129), Some(&"t".repeat(129)))),
        None
    );
}

#[test]
fn a_seek_to_where_nothing_is_begins_with_the_oldest() {
    let start = Selector::ProducerTimestamp(1);
    let mut receiver = Receiver::new(Config {
        or_oldest: true,
        ..Config::new(start.clone())
    });
    assert_eq!(receiver.position().request(), start);
    assert!(receiver.position().gone());
    assert_eq!(receiver.position().request(), Selector::Earliest);
    let media = every_form();
    let mut items = Vec::new();
    receiver.open();
    let all = body(&media, &Selector::Earliest);
    feed(&mut receiver, &all, LARGE, &mut items).unwrap();
    assert!(Outcome::of(items).gaps().is_empty());

    let mut receiver = Receiver::new(Config::new(start));
    assert!(!receiver.position().gone(), "the user's own start");
}

#[test]
fn a_fragment_that_always_ends_within_a_block_is_given_up_and_named() {
    let media = every_form();
    let mut receiver = Receiver::new(Config::new(Selector::Earliest));
    let mut items = Vec::new();
    let first = &media.fragments[0];
    let at = first.document.len() - 400;
    let mut asked = 0;
    while receiver.position().request()
        != Selector::AfterFragment(media.fragments[0].number.clone())
    {
        receiver.open();
        feed(
            &mut receiver,
            &first.document.slice(..at),
            LARGE,
            &mut items,
        )
        .unwrap();
        receiver.close(false, &mut items).unwrap();
        asked += 1;
        assert!(asked < 10);
    }
    receiver.open();
    let rest: Bytes = documents(&media, &Selector::Earliest)[1..].concat().into();
    feed(&mut receiver, &rest, LARGE, &mut items).unwrap();
    let outcome = Outcome::of(items);
    assert_eq!(outcome.ends().len(), 3);
    let gaps = outcome.gaps();
    assert_eq!(gaps[0].kind, GapKind::Lost);
    assert_eq!(gaps[0].from_fragment.as_ref(), Some(&first.number));
    assert_eq!(gaps[0].to_fragment, None, "of its own");
}

#[test]
fn a_body_that_does_not_repeat_a_fragment_says_nothing_of_its_end() {
    let media = every_form();
    for raw in [false, true] {
        let config = Config {
            raw,
            ..Config::new(Selector::Earliest)
        };
        let whole = uncut(&media, &config, LARGE);
        let first = &media.fragments[0].document;
        for at in (0..first.len()).step_by(7) {
            for again in [0, at / 4, at / 2] {
                let mut receiver = Receiver::new(config.clone());
                let mut items = Vec::new();
                receiver.open();
                feed(&mut receiver, &first.slice(..at), LARGE, &mut items).unwrap();
                for _ in 0..4 {
                    receiver.open();
                    feed(&mut receiver, &first.slice(..again), LARGE, &mut items).unwrap();
                    receiver.close(false, &mut items).unwrap();
                }
                let request = receiver.position().request();
                receiver.open();
                feed(&mut receiver, &body(&media, &request), LARGE, &mut items).unwrap();
                receiver.finish(&mut items).unwrap();
                let what = format!("raw {raw}, {at} bytes and then {again} again and again");
                assert_same(&Outcome::of(items), &whole, what);
            }
        }
    }
}

/// The beginning of a fragment, up to where its number is known and nothing of its media has come.
fn announcement(document: &Bytes) -> Bytes {
    let cluster = [0x1F, 0x43, 0xB6, 0x75];
    let at = document.windows(4).position(|bytes| bytes == cluster);
    document.slice(..at.unwrap())
}

/// Receives bodies, where `before` each but the first something happens.
fn receive_after(
    raw: bool,
    bodies: &[&[&Bytes]],
    mut before: impl FnMut(&mut Receiver),
) -> Outcome {
    let mut receiver = Receiver::new(Config {
        raw,
        ..Config::new(Selector::Earliest)
    });
    let mut items = Vec::new();
    for (index, documents) in bodies.iter().enumerate() {
        if index > 0 {
            before(&mut receiver);
        }
        receiver.open();
        for document in *documents {
            feed(&mut receiver, document, LARGE, &mut items).unwrap();
        }
    }
    receiver.finish(&mut items).unwrap();
    Outcome::of(items)
}

/// The kinds of the gaps, and from and to which fragment they reach.
fn gaps(outcome: &Outcome, media: &Synthetic) -> Vec<(GapKind, Option<usize>, Option<usize>)> {
    let index = |number: &Option<String>| {
        let number = number.as_ref()?;
        media.fragments.iter().position(|f| f.number == *number)
    };
    let gaps = outcome.gaps().into_iter();
    gaps.map(|gap| (gap.kind, index(&gap.from_fragment), index(&gap.to_fragment)))
        .collect()
}

#[test]
fn now_may_be_the_fragment_that_was_just_delivered() {
    let media = every_form();
    let d = documents(&media, &Selector::Earliest);
    for raw in [false, true] {
        let skip = |receiver: &mut Receiver| {
            receiver.position().skip_to_now();
            assert_eq!(receiver.position().request(), Selector::Now);
        };
        let outcome = receive_after(raw, &[&[&d[0]], &[&d[0], &d[1], &d[2]]], skip);
        assert_eq!(outcome.ends().len(), 3);
        assert_eq!(gaps(&outcome, &media), [], "nothing was skipped");
        let outcome = receive_after(raw, &[&[&d[0]], &[&d[2]]], skip);
        let skipped = [(GapKind::SkippedToNow, Some(0), Some(2))];
        assert_eq!(gaps(&outcome, &media), skipped);
    }
}

#[test]
fn what_is_missing_before_a_fragment_is_known_when_its_number_is() {
    let media = every_form();
    let d = documents(&media, &Selector::Earliest);
    let announced = announcement(&d[1]);
    for raw in [false, true] {
        let config = Config {
            raw,
            ..Config::new(Selector::Earliest)
        };
        let whole = uncut(&media, &config, LARGE);
        let gone = |receiver: &mut Receiver| assert!(receiver.position().gone());
        // It is asked for by its time once the token is refused, and still follows the one before.
        let bodies: [&[&Bytes]; 2] = [&[&d[0], &announced], &[&d[1], &d[2], &d[3]]];
        let outcome = receive_after(raw, &bodies, gone);
        assert_same(&outcome, &whole, format!("raw {raw}, by its time"));
        // That way the one before came again first, and the body broke again.
        let mut calls = 0;
        let bodies: [&[&Bytes]; 3] = [&[&d[0]], &[&d[0], &announced], &[&d[1], &d[2], &d[3]]];
        let outcome = receive_after(raw, &bodies, |receiver| {
            calls += 1;
            if calls == 1 {
                gone(receiver);
            }
        });
        assert_same(&outcome, &whole, format!("raw {raw}, cut once more"));
        // A later one was announced first.
        let later = announcement(&d[2]);
        let bodies: [&[&Bytes]; 2] = [&[&d[0], &later], &[&d[1], &d[2], &d[3]]];
        let outcome = receive_after(raw, &bodies, |_| ());
        assert_same(&outcome, &whole, format!("raw {raw}, out of order"));
    }
}

#[test]
fn a_fragment_that_was_announced_and_does_not_come_is_lost() {
    let media = every_form();
    let d = documents(&media, &Selector::Earliest);
    for raw in [false, true] {
        let nothing = |_: &mut Receiver| ();
        let announced = announcement(&d[1]);
        let bodies: [&[&Bytes]; 2] = [&[&d[0], &announced], &[&d[2], &d[3]]];
        let outcome = receive_after(raw, &bodies, nothing);
        assert_eq!(outcome.ends().len(), 3);
        let lost = [(GapKind::Lost, Some(0), Some(2))];
        assert_eq!(gaps(&outcome, &media), lost, "raw {raw}");
        // Before anything was delivered there is nothing that could be interrupted.
        let announced = announcement(&d[0]);
        let outcome = receive_after(raw, &[&[&announced], &[&d[1], &d[2]]], nothing);
        assert_eq!(gaps(&outcome, &media), [], "raw {raw}");
    }
}

/// A producer that sends `0.000` says nothing of the time.
#[test]
fn a_loss_ends_at_a_time_that_is_one() {
    let media = Synth::new()
        .fragments(3)
        .each(|_, fragment| fragment.producer_timestamp_ms = 0)
        .build();
    let d = documents(&media, &Selector::Earliest);
    let received = media.fragments[2].server_timestamp_ms * 1_000_000;
    for raw in [false, true] {
        let outcome = receive_after(raw, &[&[&d[0]], &[&d[2]]], |receiver| {
            assert!(receiver.position().gone())
        });
        assert_eq!(outcome.gaps()[0].to_timestamp, Some(received), "raw {raw}");
    }
}

#[test]
fn a_loss_before_an_empty_fragment_is_named_with_the_next_frame() {
    let media = Synth::new()
        .fragments(4)
        .distinct_tokens()
        .each(|index, fragment| fragment.media = index != 2)
        .build();
    let d = documents(&media, &Selector::Earliest);
    let bodies: [&[&Bytes]; 2] = [&[&d[0]], &[&d[2], &d[3]]];
    let outcome = receive_after(false, &bodies, |receiver| {
        assert!(receiver.position().gone())
    });
    assert_eq!(gaps(&outcome, &media), [(GapKind::Lost, Some(0), Some(3))]);
    let outcome = receive_after(false, &bodies, |receiver| receiver.position().skip_to_now());
    assert_eq!(
        gaps(&outcome, &media),
        [(GapKind::SkippedToNow, Some(0), Some(3))]
    );
}

/// What is done about an error of this kind, of a body that had lasted so long, or of none.
fn after(retry: &mut Retry, kind: ErrorKind, lasted: Option<Duration>) -> Next {
    let error = Error::new(kind, "no");
    retry.after(Ended::Failed { error, lasted })
}

#[track_caller]
fn assert_attempt(next: Next, attempt: u32) {
    match next {
        Next::Connect(reconnect) => assert_eq!(reconnect.attempt, attempt),
        Next::GiveUp(error) => panic!("gives up: {error}"),
    }
}

#[test]
fn failures_hours_apart_are_not_in_a_row() {
    let at_rest = [
        Ended::Silent,
        Ended::Cleanly { progressed: false },
        Ended::Cleanly { progressed: true },
    ];
    for ended in at_rest {
        let mut retry = Retry::new(Some(2), 7);
        for _ in 0..20 {
            assert_attempt(after(&mut retry, ErrorKind::Network, None), 1);
            assert_attempt(after(&mut retry, ErrorKind::Server, None), 2);
            assert_attempt(retry.after(ended.clone()), 0);
        }
    }
    let mut retry = Retry::new(Some(2), 7);
    let lasted = Some(Duration::from_secs(60));
    for _ in 0..20 {
        assert_attempt(after(&mut retry, ErrorKind::Network, lasted), 1);
    }
    // A service that answers and fails again and again has not recovered.
    let lasted = Some(Duration::from_millis(100));
    assert_attempt(after(&mut retry, ErrorKind::Network, lasted), 2);
    let next = after(&mut retry, ErrorKind::Network, lasted);
    assert!(matches!(next, Next::GiveUp(_)), "{next:?}");
}

#[test]
fn no_delay_is_longer_than_the_longest() {
    let mut retry = Retry::new(None, 7);
    let mut delays = Vec::new();
    for kind in [ErrorKind::Network; 20]
        .into_iter()
        .chain([ErrorKind::FragmentGone])
    {
        match after(&mut retry, kind, None) {
            Next::Connect(reconnect) => delays.push(reconnect.delay),
            Next::GiveUp(error) => panic!("{error}"),
        }
    }
    let longest = Duration::from_secs(20);
    assert!(delays.iter().all(|delay| *delay <= longest), "{delays:?}");
    assert_eq!(delays[19], longest);
    // There is another way to ask.
    assert!(delays[20] < Duration::from_secs(1), "{delays:?}");
}

#[test]
fn credentials_that_were_good_may_expire_again() {
    let expired = ErrorKind::ExpiredCredentials;
    let mut retry = Retry::new(None, 7);
    for _ in 0..20 {
        assert_attempt(after(&mut retry, expired, None), 1);
        assert_attempt(retry.after(Ended::Silent), 0);
        assert_attempt(after(&mut retry, expired, None), 1);
        assert_attempt(
            after(&mut retry, ErrorKind::Network, Some(Duration::ZERO)),
            2,
        );
        assert_attempt(after(&mut retry, expired, None), 3);
        retry.delivered();
    }
    assert_attempt(after(&mut retry, expired, None), 1);
    match after(&mut retry, expired, None) {
        Next::GiveUp(error) => assert_eq!(error.kind, ErrorKind::NotAuthorized),
        next => panic!("{next:?}"),
    }
}

#[test]
fn what_stands_between_raw_documents_belongs_to_none() {
    let media = every_form();
    let config = Config {
        raw: true,
        ..Config::new(Selector::Earliest)
    };
    // A Void that nothing else looks like.
    let between: &[u8] = &[0xEC, 0x86, 0xDE, 0xAD, 0xBE, 0xEF, 0xBA, 0xBE];
    let body = |selector: &Selector| -> Bytes {
        let documents = documents(&media, selector);
        documents.join(between).into()
    };
    let whole = body(&Selector::Earliest);
    let without = |bytes: &[u8]| {
        let mut rest = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at..].starts_with(between) {
                at += between.len();
            } else {
                rest.push(bytes[at]);
                at += 1;
            }
        }
        rest
    };
    for at in 0..=whole.len() {
        let mut receiver = Receiver::new(config.clone());
        let mut items = Vec::new();
        receiver.open();
        feed(&mut receiver, &whole.slice(..at), LARGE, &mut items).unwrap();
        let request = receiver.position().request();
        receiver.open();
        feed(&mut receiver, &body(&request), LARGE, &mut items).unwrap();
        let outcome = Outcome::of(items);
        assert_eq!(outcome.ends().len(), 4);
        assert!(
            without(&outcome.bytes) == documents(&media, &Selector::Earliest).concat(),
            "cut after {at} bytes"
        );
    }
}

#[test]
fn only_a_fragment_that_would_be_delivered_is_the_end() {
    const HOUR: u64 = 3_600_000;
    let media = Synth::new()
        .fragments(4)
        .distinct_tokens()
        .each(|index, fragment| {
            if index == 1 {
                fragment.producer_timestamp_ms += HOUR;
            }
        })
        .build();
    let end_at = (media.fragments[0].producer_timestamp_ms + HOUR / 2) * 1_000_000;
    let mut receiver = Receiver::new(Config {
        end_at: Some(end_at),
        resume: Some(point(&media.fragments[1])),
        ..Config::new(Selector::Earliest)
    });
    let mut items = Vec::new();
    receiver.open();
    let all = body(&media, &Selector::Earliest);
    let flow = feed(&mut receiver, &all, LARGE, &mut items).unwrap();
    assert_eq!(flow, Flow::Continue);
    assert_eq!(Outcome::of(items).ends().len(), 2);
}

#[test]
fn what_is_missing_before_the_end_is_named() {
    let media = every_form();
    let d = documents(&media, &Selector::Earliest);
    let end_at = Some(media.fragments[2].producer_timestamp_ms * 1_000_000);
    for raw in [false, true] {
        let half = d[1].slice(..d[1].len() * 3 / 4);
        let mut receiver = Receiver::new(Config {
            raw,
            end_at,
            ..Config::new(Selector::Earliest)
        });
        let mut items = Vec::new();
        receiver.open();
        feed(&mut receiver, &d[0], LARGE, &mut items).unwrap();
        feed(&mut receiver, &half, LARGE, &mut items).unwrap();
        receiver.open();
        let flow = feed(&mut receiver, &d[2], LARGE, &mut items).unwrap();
        assert_eq!(flow, Flow::End);
        receiver.finish(&mut items).unwrap();
        let outcome = Outcome::of(items);
        let lost = [(GapKind::Lost, Some(1), Some(2))];
        assert_eq!(gaps(&outcome, &media), lost, "raw {raw}");
        let last = outcome.others.last().unwrap();
        assert_eq!(last.0, outcome.bytes.len(), "after what came of it");
    }
}

/// Fragments that end without a token.
fn without_tokens() -> Synthetic {
    Synth::new()
        .fragments(4)
        .frames(6)
        .payload(10, 40)
        .each(|_, fragment| fragment.trailing_tags = false)
        .build()
}

fn configs() -> [Config; 2] {
    [false, true].map(|raw| Config {
        raw,
        ..Config::new(Selector::Earliest)
    })
}

#[test]
fn fragments_without_tokens_are_not_delivered_again_either() {
    let media = without_tokens();
    let d = documents(&media, &Selector::Earliest);
    for config in configs() {
        let whole = uncut(&media, &config, LARGE);
        let twice = [&d[0], &d[0], &d[1], &d[0], &d[2], &d[1], &d[3]]
            .map(|d| d.clone())
            .concat();
        for chunk in [1, 100, LARGE] {
            let mut receiver = Receiver::new(config.clone());
            let mut items = Vec::new();
            receiver.open();
            feed(&mut receiver, &twice.clone().into(), chunk, &mut items).unwrap();
            let what = format!("raw {}, chunks of {chunk}", config.raw);
            assert_same(&Outcome::of(items), &whole, what);
        }
        // The way back to a cut one may lead to the one before it.
        for at in (0..d[1].len()).step_by(3) {
            let mut receiver = Receiver::new(Config {
                start: Selector::ServerTimestamp(media.fragments[1].server_timestamp_ms),
                ..config.clone()
            });
            let mut items = Vec::new();
            receiver.open();
            feed(&mut receiver, &d[1].slice(..at), LARGE, &mut items).unwrap();
            if receiver.position().delivered().is_none() {
                continue;
            }
            receiver.open();
            let again: Bytes = d.concat().into();
            feed(&mut receiver, &again, LARGE, &mut items).unwrap();
            let from_second = Config {
                start: Selector::AfterFragment(media.fragments[0].number.clone()),
                ..config.clone()
            };
            let what = format!("raw {}, cut after {at} bytes", config.raw);
            assert_same(
                &Outcome::of(items),
                &uncut(&media, &from_second, LARGE),
                what,
            );
        }
    }
}

/// Where the elements of a body end.
fn element_ends(body: &Bytes) -> BTreeSet<usize> {
    let mut assembler = Assembler::default();
    let mut ends = BTreeSet::new();
    for at in 0..body.len() {
        assembler.push(body.slice(at..at + 1));
        while assembler.next().unwrap().is_some() {}
        ends.insert(assembler.position() as usize);
    }
    ends
}

/// An error stands in place of what was to come, in the document under way or in one of its own.
#[test]
fn an_error_in_the_body_leaves_no_trace() {
    const TAGS: [u8; 4] = [0x12, 0x54, 0xC3, 0x67];
    for media in [every_form(), without_tokens()] {
        let all = body(&media, &Selector::Earliest);
        let error = error_document(&media.fragments[1].number, 5000, "Internal error");
        let tags = error.windows(4).position(|bytes| bytes == TAGS).unwrap();
        for config in configs() {
            let whole = uncut(&media, &config, LARGE);
            for (what, error) in [("a document", &error), ("tags", &error.slice(tags..))] {
                for chunk in [1, LARGE] {
                    let mut faults = 0;
                    for at in element_ends(&all) {
                        let mut receiver = Receiver::new(config.clone());
                        let mut items = Vec::new();
                        receiver.open();
                        let cut: Bytes = [&all[..at], error].concat().into();
                        if feed(&mut receiver, &cut, chunk, &mut items).is_err() {
                            faults += 1;
                        }
                        let request = receiver.position().request();
                        receiver.open();
                        feed(&mut receiver, &body(&media, &request), LARGE, &mut items).unwrap();
                        receiver.finish(&mut items).unwrap();
                        let raw = config.raw;
                        let what = format!("raw {raw}, {what} after {at} bytes, chunks of {chunk}");
                        assert_same(&Outcome::of(items), &whole, what);
                    }
                    assert!(faults > 8, "{faults} errors were read");
                }
            }
        }
    }
}

#[test]
fn a_fragment_that_was_announced_and_is_not_kept_leads_back_to_the_start() {
    let media = every_form();
    let announced = announcement(&media.fragments[2].document);
    let starts = [
        Selector::Now,
        Selector::AfterFragment(media.fragments[1].number.clone()),
        Selector::ProducerTimestamp(media.fragments[2].producer_timestamp_ms),
    ];
    for start in starts {
        let mut receiver = Receiver::new(Config::new(start.clone()));
        receiver.open();
        feed(&mut receiver, &announced, LARGE, &mut Vec::new()).unwrap();
        let time = Selector::ServerTimestamp(media.fragments[2].server_timestamp_ms);
        assert_eq!(receiver.position().request(), time);
        assert!(receiver.position().gone());
        assert_eq!(receiver.position().request(), start);
        assert!(!receiver.position().gone(), "nothing of it was seen");
    }
}

#[test]
fn now_has_been_reached_when_the_last_fragment_comes_again() {
    let media = every_form();
    let d = documents(&media, &Selector::Earliest);
    let mut items = Vec::new();
    let mut receiver = Receiver::new(Config::new(Selector::Earliest));
    receiver.open();
    feed(&mut receiver, &d[0], LARGE, &mut items).unwrap();
    receiver.position().skip_to_now();
    receiver.open();
    feed(&mut receiver, &d[0], LARGE, &mut items).unwrap();
    // While the connection is made again, two are sent.
    let after = Selector::ContinuationToken(media.fragments[0].token.clone());
    assert_eq!(receiver.position().request(), after);
}

#[test]
fn a_last_fragment_without_a_token_keeps_its_tags_and_size() {
    let built = |trailing: bool| {
        Synth::new()
            .fragments(1)
            .tags_after(&[("motion", "yes")])
            .each(move |_, fragment| fragment.trailing_tags = trailing)
            .build()
    };
    let media = built(false);
    for config in configs() {
        let mut receiver = Receiver::new(config);
        let mut items = Vec::new();
        let mut asked = 0;
        while receiver.position().is_within_fragment() || asked == 0 {
            receiver.open();
            let all = body(&media, &Selector::Earliest);
            feed(&mut receiver, &all, LARGE, &mut items).unwrap();
            receiver.close(false, &mut items).unwrap();
            asked += 1;
            assert!(asked < 20);
        }
        let outcome = Outcome::of(items);
        let end = &outcome.ends()[0];
        assert_eq!(end.start.tags[0].value, "yes");
        assert_eq!(end.bytes, media.fragments[0].document.len() as u64);
        let with_token = uncut(&built(true), &Config::new(Selector::Earliest), LARGE);
        assert_eq!(end.start.tags, with_token.ends()[0].start.tags);
    }
}

#[test]
fn a_producer_that_pauses_within_a_fragment_is_waited_for() {
    let media = without_tokens();
    let d = documents(&media, &Selector::Earliest);
    let part = d[1].slice(..d[1].len() * 3 / 4);
    for config in configs() {
        let whole = uncut(&media, &config, LARGE);
        let mut receiver = Receiver::new(config);
        let mut items = Vec::new();
        receiver.open();
        feed(&mut receiver, &d[0], LARGE, &mut items).unwrap();
        let mut retry = Retry::new(None, 7);
        let mut waited = Duration::ZERO;
        while waited < Duration::from_secs(7) {
            feed(&mut receiver, &part, LARGE, &mut items).unwrap();
            receiver.close(false, &mut items).unwrap();
            let progressed = receiver.has_progressed();
            match retry.after(Ended::Cleanly { progressed }) {
                Next::Connect(reconnect) => waited += reconnect.delay,
                Next::GiveUp(error) => panic!("{error}"),
            }
            receiver.open();
        }
        let rest: Bytes = d[1..].concat().into();
        feed(&mut receiver, &rest, LARGE, &mut items).unwrap();
        assert_same(&Outcome::of(items), &whole, "after the pause");
    }
}

#[test]
fn an_empty_fragment_without_a_token_is_the_same_in_chunks_of_any_size() {
    let media = Synth::new()
        .fragments(3)
        .each(|index, fragment| {
            fragment.media = index != 1;
            fragment.trailing_tags = index != 1;
        })
        .build();
    for config in configs() {
        let whole = uncut(&media, &config, LARGE);
        // It names no frames, so none are lost; their time is.
        assert!(
            gaps(&whole, &media)
                .iter()
                .all(|gap| gap.0 == GapKind::Hole)
        );
        assert_eq!(whole.ends().len(), 3);
        for chunk in 1..=70 {
            let what = format!("raw {}, chunks of {chunk}", config.raw);
            assert_same(&uncut(&media, &config, chunk), &whole, what);
        }
    }
}

/// What is announced behind a fragment that was asked for once more has not been asked for itself.
#[test]
fn the_next_one_is_asked_for_once_more_as_well() {
    let media = every_form();
    let d = documents(&media, &Selector::Earliest);
    for config in configs() {
        let mut receiver = Receiver::new(config);
        let mut items = Vec::new();
        let half = d[0].slice(..d[0].len() / 2);
        for body in [half, [&d[0][..], &announcement(&d[1])].concat().into()] {
            receiver.open();
            feed(&mut receiver, &body, LARGE, &mut items).unwrap();
        }
        receiver.close(true, &mut items).unwrap();
        assert!(receiver.position().is_within_fragment());
    }
}

#[test]
fn a_fragment_that_nobody_has_any_more_is_named() {
    let media = every_form();
    let d = documents(&media, &Selector::Earliest);
    for config in configs() {
        for (second, lost) in [
            (announcement(&d[1]), None),
            (d[1].slice(..d[1].len() * 3 / 4), Some(1)),
        ] {
            let mut receiver = Receiver::new(config.clone());
            let mut items = Vec::new();
            receiver.open();
            let cut: Bytes = [&d[0][..], &second].concat().into();
            feed(&mut receiver, &cut, LARGE, &mut items).unwrap();
            // It may go on, and is asked for once more.
            receiver.close(true, &mut items).unwrap();
            assert!(receiver.position().is_within_fragment());
            receiver.open();
            receiver.close(false, &mut items).unwrap();
            assert!(receiver.position().is_within_fragment());
            receiver.close(true, &mut items).unwrap();
            assert!(!receiver.position().is_within_fragment());
            let outcome = Outcome::of(items);
            let expected: Vec<_> = lost
                .map(|index| (GapKind::Lost, Some(index), None))
                .into_iter()
                .collect();
            assert_eq!(gaps(&outcome, &media), expected);
        }
    }
}
