//! What a process uses while elements come and go, and while nobody takes what they offer; and what
//! happens where it may use no more. One test, because it looks at its process.

mod support;

use gst::prelude::*;
use kvs_local::{AfterBody, Fault, Server, synth::Synth};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use support::*;

const MIB: usize = 1 << 20;

#[test]
fn nothing_stays_and_nothing_grows() {
    without_a_descriptor_an_element_says_so();
    elements_leave_nothing_behind();
    a_blocked_sink_bounds_memory();
    hostile_sizes_bound_memory();
}

/// The first element of all, which starts the network's threads; within an application's runtime, where
/// nothing may block and no runtime may end.
fn without_a_descriptor_an_element_says_so() {
    let server = Server::start();
    let src = play_media(&server, "cam", &media(2), &[]);
    let bus = gst::Bus::new();
    src.set_bus(Some(&bus));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // All below it are in use.
    let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let application = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    application.block_on(async {
        setrlimit(Resource::RLIMIT_NOFILE, next, hard).unwrap();
        let refused = src.set_state(gst::State::Paused);
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        assert!(refused.is_err());
    });
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        panic!("{message:?}");
    };
    let debug = error.debug().unwrap();
    assert!(
        debug.contains("The network threads could not be started"),
        "{debug}"
    );
    // And can be started when there are some.
    src.set_state(gst::State::Null).unwrap();
    src.set_bus(None);
    let run = Run::demuxed(&src);
    run.play();
    run.wait_eos();
    run.stop();
}

/// 200 elements: never started, stopped at once, stopped in the middle, played to their end.
fn elements_leave_nothing_behind() {
    // Whatever is made once and stays: the runtime's threads, GStreamer's own.
    for factory in ELEMENTS {
        come_and_go(factory, 20);
    }
    let settled = |before: Usage| {
        move |_: &Server| {
            let now = Usage::now();
            now.threads <= before.threads && now.descriptors <= before.descriptors
        }
    };
    let idle = Server::start();
    // Threads of a pool end when they have been idle for some seconds.
    idle.wait_until(PATIENCE, |server| {
        let before = Usage::now();
        !server.wait_until(std::time::Duration::from_secs(2), |_| {
            Usage::now().threads < before.threads
        })
    });
    for factory in ELEMENTS {
        let before = Usage::now();
        come_and_go(factory, 200);
        let left = idle.wait_until(PATIENCE, settled(before));
        let after = Usage::now();
        println!("200 {factory}: {before:?} before, {after:?} after");
        assert!(left, "200 {factory}: {before:?} before, {after:?} after");
    }
}

fn come_and_go(factory: &str, elements: usize) {
    let media = media(2);
    let server = Server::builder().enforce_limits(false).start();
    let mut weak = Vec::new();
    for index in 0..elements {
        let stream = format!("cam-{index}");
        let endpoint = server.endpoint_url();
        let properties = [("data-endpoint-url", endpoint.as_str())];
        let src = play_media_with(factory, &server, &stream, &media, &properties);
        weak.push(src.downgrade());
        // Of the bin also what it holds, now and later.
        if let Some(bin) = src.downcast_ref::<gst::Bin>() {
            weak.extend(bin.children().iter().map(|child| child.downgrade()));
        }
        match index % 5 {
            0 => drop(src),
            1 => {
                let run = Run::demuxed(&src);
                run.play();
                run.stop();
            }
            2 => {
                server.fault(Fault::get_media().stream(&stream).hang_before_headers());
                let run = Run::demuxed(&src);
                run.play();
                let asked = |server: &Server| {
                    let mut requests = get_media(server).into_iter();
                    requests.any(|request| request.stream.as_deref() == Some(&stream))
                };
                assert!(server.wait_until(PATIENCE, asked));
                run.stop();
            }
            3 => {
                server.fault(Fault::get_media().stream(&stream).stall_after(1500));
                let run = Run::demuxed(&src);
                run.play();
                run.wait("a frame", |log| log.count() > 0);
                run.stop();
            }
            _ => {
                let run = Run::demuxed(&src);
                run.play();
                run.wait_eos();
                run.stop();
            }
        }
    }
    let left = weak.iter().filter(|weak| weak.upgrade().is_some()).count();
    assert_eq!(left, 0, "elements are still there");
    assert!(server.wait_until(PATIENCE, |server| {
        (0..elements).all(|index| server.open_connections(&format!("cam-{index}")) == 0)
    }));
}

/// What is used beyond what was at first, in bytes.
fn more_than(before: usize) -> usize {
    Usage::now().memory.saturating_sub(before)
}

/// A service that sends as fast as it can, and a sink that takes nothing, and then everything.
fn a_blocked_sink_bounds_memory() {
    const QUEUE: usize = 4 * MIB;
    const BLOCK: usize = MIB / 2;
    // The demuxer's own, what the service and the sink hold, what an allocator keeps.
    const CONSTANT: usize = 12 * MIB;

    let media = Synth::new()
        .fragments(17)
        .frames(8)
        .payload(BLOCK - 1000, BLOCK)
        .build();
    let server = Server::start();
    let queue = QUEUE.to_string();
    let src = play_media(&server, "cam", &media, &[("max-queue-bytes", &queue)]);
    let frames = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let before = Usage::now().memory;
    let (for_frames, for_most) = (frames.clone(), most.clone());
    let run = Run::each_frame(
        &src,
        Arc::new(move |_, _| {
            for_frames.fetch_add(1, Ordering::Relaxed);
            for_most.fetch_max(more_than(before), Ordering::Relaxed);
        }),
    );
    let pad = src.static_pad("src").unwrap();
    let mask = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
    let probe = pad.add_probe(mask, |_, _| gst::PadProbeReturn::Ok).unwrap();
    run.play();
    let number = |name| run.stats().get::<u64>(name).unwrap();
    let full = |_: &Server| number("queue-bytes") > QUEUE as u64 / 2;
    assert!(server.wait_until(PATIENCE, full), "{}", run.stats());
    // And when all has come that will.
    assert!(server.wait_until(PATIENCE, |server| {
        let received = number("bytes-received");
        !server.wait_until(std::time::Duration::from_millis(500), |_| {
            number("bytes-received") > received
        })
    }));
    let queued = number("queue-bytes");
    let blocked = more_than(before);
    assert!(queued <= (QUEUE + BLOCK) as u64, "{queued} queued");
    pad.remove_probe(probe);
    run.wait_eos();
    run.stop();
    let flowing = most.load(Ordering::Relaxed);
    println!(
        "max-queue-bytes {} KiB: {} KiB more while blocked, at most {} KiB while flowing",
        QUEUE >> 10,
        blocked >> 10,
        flowing >> 10
    );
    assert_eq!(frames.load(Ordering::Relaxed), 16 * 8);
    for used in [blocked, flowing] {
        assert!(used <= QUEUE + BLOCK + CONSTANT, "{used} bytes more");
    }
}

/// Bodies that announce more than anyone should believe.
fn hostile_sizes_bound_memory() {
    let media = media(1);
    let document = &media.fragments[0].document;
    let cluster = document
        .windows(4)
        .position(|id| id == [0x1F, 0x43, 0xB6, 0x75])
        .unwrap();
    let head = &document[..cluster];
    let with = |bytes: &[u8]| [head, bytes].concat();
    // Cluster of unknown size, Timecode 0.
    let open: &[u8] = &[0x1F, 0x43, 0xB6, 0x75, 0xFF, 0xE7, 0x81, 0];
    // A SimpleTag in a SimpleTag in a SimpleTag …
    let mut nested = Vec::new();
    let simple_tags = std::iter::repeat_n(&[0x67, 0xC8][..], 10_000);
    for id in simple_tags.chain([&[0x73, 0x73][..], &[0x12, 0x54, 0xC3, 0x67]]) {
        let size = (1 << 56 | nested.len() as u64).to_be_bytes();
        nested = [id, &size, &nested].concat();
    }
    let bodies = [
        (
            "a block of 8 EiB",
            with(
                &[
                    open,
                    &[0xA3, 0x01, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE],
                    &[0; 4096],
                ]
                .concat(),
            ),
        ),
        (
            "tags of a gigabyte",
            with(
                &[
                    &[0x12, 0x54, 0xC3, 0x67, 0x08, 0x40, 0, 0, 0, 0],
                    &[0u8; 4096][..],
                ]
                .concat(),
            ),
        ),
        ("10,000 levels", with(&nested)),
        (
            "a million empty elements",
            with(&[0xEC, 0x80].repeat(1_000_000)),
        ),
    ];
    for (what, body) in bodies {
        let server = Server::start();
        server.fault(
            Fault::get_media()
                .always()
                .replace_body(body, AfterBody::CleanEnd),
        );
        let properties = [("max-retries", "1"), ("idle-timeout", "300")];
        let src = play_media(&server, "cam", &media, &properties);
        let before = Usage::now().memory;
        let run = Run::demuxed(&src);
        run.play();
        // Either it is refused, or it is as good as nothing and asked for again.
        run.wait_for(PATIENCE, |log| {
            log.error().is_some() || log.is_eos() || log.reconnects().len() >= 2
        });
        let log = run.stop();
        println!(
            "{what}: {} KiB more, {:?}",
            more_than(before) >> 10,
            log.error().map(|(error, _)| error.to_string())
        );
        assert_eq!(log.count(), 0, "{what}");
        assert!(
            log.error().is_some() || !log.reconnects().is_empty(),
            "{what}"
        );
        assert!(more_than(before) <= 8 * MIB, "{what}");
    }
}
