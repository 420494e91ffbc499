//! The element by itself: properties, URIs, states, queries. No network is reached: the stream is
//! asked for at an address of this machine that nothing answers at.

use gst::{glib, prelude::*};
use std::{
    collections::BTreeSet,
    sync::Once,
    time::{Duration, Instant},
};

const STREAM_ARN: &str = "arn:aws:kinesisvideo:eu-west-1:123456789012:stream/Cam/1511852108000";
const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/reader";

/// What an application may wait for an element to stop.
const PROMPT: Duration = Duration::from_millis(200);

fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstkvsgetmedia::plugin_register_static().unwrap();
    });
}

fn element() -> gst::Element {
    init();
    gst::ElementFactory::make("kvsgetmediasrc").build().unwrap()
}

/// An element that can be started, and reaches nobody.
fn lonely() -> gst::Element {
    let element = element();
    set(
        &element,
        &[
            ("stream-name", "Cam"),
            ("aws-region", "eu-west-1"),
            ("access-key", "AKIAEXAMPLE"),
            ("secret-key", "hush"),
            ("endpoint-url", "http://127.0.0.1:9"),
            ("max-retries", "-1"),
        ],
    );
    element
}

fn set(element: &gst::Element, properties: &[(&str, &str)]) {
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
}

/// The element in a pipeline of its own, linked to a sink.
fn pipeline(element: &gst::Element) -> gst::Pipeline {
    let pipeline = gst::Pipeline::new();
    let sink = gst::ElementFactory::make("fakesink").build().unwrap();
    pipeline.add_many([element, &sink]).unwrap();
    element.link(&sink).unwrap();
    pipeline
}

/// Starts the element and returns the one error that stops it from starting.
fn start_error(element: &gst::Element) -> (glib::Error, gst::Structure) {
    let pipeline = pipeline(element);
    assert!(pipeline.set_state(gst::State::Paused).is_err());
    let bus = pipeline.bus().unwrap();
    let errors: Vec<_> =
        std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Error])).collect();
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let gst::MessageView::Error(error) = errors[0].view() else {
        unreachable!()
    };
    assert_eq!(errors[0].src(), Some(element.upcast_ref()));
    (error.error(), error.details().unwrap().to_owned())
}

#[test]
fn settings_errors_name_the_property() {
    let long_name = "x".repeat(257);
    let long_number = "1".repeat(129);
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "stream-name: not set"),
        (&[("stream-name", "")], "stream-name: not set"),
        (
            &[("stream-name", "Cam"), ("stream-arn", STREAM_ARN)],
            "stream-name: set together",
        ),
        (&[("stream-name", "my cam")], "stream-name: 'my cam'"),
        (&[("stream-name", &long_name)], "stream-name: "),
        (&[("stream-arn", "Cam")], "stream-arn: 'Cam'"),
        (
            &[("stream-name", "c"), ("aws-region", "eu west")],
            "aws-region: ",
        ),
        // Selectors and their arguments.
        (
            &[("stream-name", "c"), ("start-selector", "fragment-number")],
            "after-fragment-number: not set; start-selector=fragment-number",
        ),
        (
            &[
                ("stream-name", "c"),
                ("start-selector", "continuation-token"),
            ],
            "continuation-token: not set",
        ),
        (
            &[
                ("stream-name", "c"),
                ("start-selector", "producer-timestamp"),
            ],
            "start-timestamp: not set",
        ),
        (
            &[("stream-name", "c"), ("start-selector", "server-timestamp")],
            "start-timestamp: not set",
        ),
        (
            &[("stream-name", "c"), ("after-fragment-number", "1")],
            "after-fragment-number: set, but start-selector=now",
        ),
        (
            &[
                ("stream-name", "c"),
                ("start-selector", "earliest"),
                ("continuation-token", "t"),
            ],
            "continuation-token: set, but start-selector=earliest",
        ),
        (
            &[("stream-name", "c"), ("start-timestamp", "1")],
            "start-timestamp: set, but",
        ),
        (
            &[
                ("stream-name", "c"),
                ("start-selector", "fragment-number"),
                ("after-fragment-number", "12x"),
            ],
            "after-fragment-number: '12x'",
        ),
        (
            &[
                ("stream-name", "c"),
                ("start-selector", "fragment-number"),
                ("after-fragment-number", &long_number),
            ],
            "after-fragment-number: ",
        ),
        (
            &[
                ("stream-name", "c"),
                ("start-selector", "continuation-token"),
                ("continuation-token", "a b"),
            ],
            "continuation-token: 'a b'",
        ),
        (
            &[
                ("stream-name", "c"),
                ("start-selector", "server-timestamp"),
                ("start-timestamp", "yesterday"),
            ],
            "start-timestamp: 'yesterday'",
        ),
        (
            &[("stream-name", "c"), ("end-timestamp", "soon")],
            "end-timestamp: 'soon'",
        ),
        (
            &[
                ("stream-name", "c"),
                ("start-selector", "producer-timestamp"),
                ("start-timestamp", "2024-05-01T12:00:00Z"),
                ("end-timestamp", "2024-05-01T13:00:00+01:00"),
            ],
            "end-timestamp: not after start-timestamp",
        ),
        // Credentials.
        (
            &[("stream-name", "c"), ("access-key", "a")],
            "secret-key: not set",
        ),
        (
            &[("stream-name", "c"), ("secret-key", "hush")],
            "access-key: not set",
        ),
        (
            &[("stream-name", "c"), ("session-token", "hush")],
            "session-token: set without",
        ),
        (
            &[
                ("stream-name", "c"),
                ("access-key", "a"),
                ("secret-key", "hush"),
                ("profile", "p"),
            ],
            "profile: set together with access-key",
        ),
        (
            &[
                ("stream-name", "c"),
                ("profile", "p"),
                ("credential-path", "/c"),
            ],
            "credential-path: set together with profile",
        ),
        (
            &[
                ("stream-name", "c"),
                ("iot-certificate", "iot-certificate,endpoint=e"),
            ],
            "iot-certificate: cert-path is missing",
        ),
        (
            &[("stream-name", "c"), ("uri", "kvs://cam?latncy=5")],
            "uri: latncy",
        ),
        (
            &[
                ("stream-name", "c"),
                ("start-selector", "server-timestamp"),
                ("start-timestamp", "1795699376382"),
            ],
            "start-timestamp: '1795699376382'",
        ),
        (
            &[("stream-name", "c"), ("external-id", "x")],
            "external-id: set without role-arn",
        ),
        (
            &[("stream-name", "c"), ("role-arn", "reader")],
            "role-arn: 'reader'",
        ),
        (
            &[("stream-name", "c"), ("endpoint-url", "here")],
            "endpoint-url: ",
        ),
        (
            &[
                ("stream-name", "c"),
                ("data-endpoint-url", "https://u:hush@host"),
            ],
            "data-endpoint-url: ",
        ),
    ];
    for (properties, start) in cases {
        let element = element();
        set(&element, properties);
        let (error, details) = start_error(&element);
        assert!(
            error.matches(gst::ResourceError::Settings),
            "{properties:?}: {error:?}"
        );
        assert!(
            error.message().starts_with(start),
            "{properties:?}: {error}"
        );
        assert!(!error.message().contains("hush"));
        assert_eq!(details.name(), "kvs-error");
        assert_eq!(details.get::<bool>("retryable"), Ok(false));
    }
}

#[test]
fn starts_again_after_a_settings_error() {
    let element = element();
    start_error(&element);
    start_error(&element);
    element.set_property("uri", "rtsp://Cam");
    start_error(&element);
    element.set_property("uri", "kvs://cam");
    set(
        &element,
        &[
            ("stream-name", "Cam"),
            ("endpoint-url", "http://127.0.0.1:9"),
        ],
    );
    set(
        &element,
        &[("aws-region", "eu-west-1"), ("max-retries", "-1")],
    );
    let pipeline = pipeline(&element);
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn good_settings_start() {
    let cases: &[&[(&str, &str)]] = &[
        &[],
        &[
            ("stream-name", ""),
            ("stream-arn", STREAM_ARN),
            ("aws-region", ""),
        ],
        &[("start-selector", "earliest"), ("end-at-live", "true")],
        &[
            ("start-selector", "fragment-number"),
            ("after-fragment-number", "123"),
        ],
        &[
            ("start-selector", "continuation-token"),
            ("continuation-token", "a.b-c_9"),
        ],
        &[
            ("start-selector", "server-timestamp"),
            ("start-timestamp", "1714564800.000"),
        ],
        &[
            ("start-selector", "producer-timestamp"),
            ("start-timestamp", "2024-05-01T12:00:00Z"),
            ("end-timestamp", "2024-05-01T12:00:00.001Z"),
        ],
        &[
            ("session-token", "hush"),
            ("role-arn", ROLE_ARN),
            ("external-id", "42"),
        ],
        &[("payload", "raw"), ("max-queue-bytes", "1")],
    ];
    for properties in cases {
        let element = lonely();
        set(&element, properties);
        let pipeline = pipeline(&element);
        pipeline
            .set_state(gst::State::Paused)
            .unwrap_or_else(|_| panic!("{properties:?}"));
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn secrets_cannot_be_read() {
    let element = lonely();
    set(&element, &[("session-token", "hush")]);
    for name in ["secret-key", "session-token"] {
        let spec = element.find_property(name).unwrap();
        assert!(spec.flags().contains(glib::ParamFlags::WRITABLE), "{name}");
        assert!(!spec.flags().contains(glib::ParamFlags::READABLE), "{name}");
    }
    for spec in element.list_properties().iter() {
        if spec.flags().contains(glib::ParamFlags::READABLE) {
            let value = element.property_value(spec.name());
            // GStreamer cannot print a structure that is not there.
            let value = match value.get::<Option<gst::Structure>>() {
                Ok(structure) => format!("{structure:?}"),
                Err(_) => format!("{value:?}"),
            };
            assert!(!value.contains("hush"), "{}: {value}", spec.name());
        }
    }
    let dot = pipeline(&element).debug_to_dot_data(gst::DebugGraphDetails::all());
    assert!(dot.contains("AKIAEXAMPLE") && !dot.contains("hush"));
}

/// Certificates are checked, whatever an application sets; see the rows of TLS in tests/FAULTS.md.
#[test]
fn nothing_switches_tls_verification_off() {
    let element = element();
    for spec in element.list_properties() {
        let text = format!("{} {:?}", spec.name(), spec.blurb()).to_lowercase();
        for word in ["tls", "ssl", "certificate check", "verif", "insecure"] {
            assert!(!text.contains(word), "{text}");
        }
    }
}

#[test]
fn every_property_is_described() {
    let element = element();
    let own: Vec<_> = element
        .list_properties()
        .iter()
        .filter(|spec| spec.owner_type() == element.type_())
        .cloned()
        .collect();
    let names: BTreeSet<_> = own.iter().map(|spec| spec.name()).collect();
    let expected = BTreeSet::from([
        "stream-name",
        "stream-arn",
        "start-selector",
        "after-fragment-number",
        "continuation-token",
        "start-timestamp",
        "end-timestamp",
        "end-at-live",
        "checkpoint-location",
        "checkpoint-interval",
        "aws-region",
        "access-key",
        "secret-key",
        "session-token",
        "profile",
        "role-arn",
        "external-id",
        "credential-path",
        "iot-certificate",
        "endpoint-url",
        "data-endpoint-url",
        "payload",
        "mode",
        "latency",
        "max-gap",
        "max-lag",
        "timestamp-source",
        "connect-audio",
        "connect-timeout",
        "idle-timeout",
        "max-retries",
        "max-queue-bytes",
        "stats",
        "uri",
    ]);
    assert_eq!(names, expected);
    for spec in own {
        let name = spec.name();
        assert!(spec.blurb().is_some_and(|blurb| blurb.len() > 10), "{name}");
        assert_ne!(spec.nick(), name);
        if spec.flags().contains(glib::ParamFlags::WRITABLE) {
            assert!(
                spec.flags().contains(gst::PARAM_FLAG_MUTABLE_READY),
                "{name}"
            );
        }
        if let Some(class) = glib::EnumClass::with_type(spec.value_type()) {
            assert!(class.type_().name().starts_with("GstKvs"), "{name}");
            for value in class.values() {
                assert!(
                    value.name().len() > value.nick().len(),
                    "{name}={}",
                    value.nick()
                );
            }
        }
    }
}

#[test]
fn enums_have_the_documented_nicks() {
    let element = element();
    for (property, type_name, nicks) in [
        (
            "start-selector",
            "GstKvsStartSelector",
            "now earliest fragment-number producer-timestamp server-timestamp continuation-token",
        ),
        ("payload", "GstKvsPayload", "continuous raw"),
        ("mode", "GstKvsMode", "auto live archive"),
        (
            "timestamp-source",
            "GstKvsTimestampSource",
            "producer server",
        ),
    ] {
        let spec = element.find_property(property).unwrap();
        assert_eq!(spec.value_type().name(), type_name);
        let class = glib::EnumClass::with_type(spec.value_type()).unwrap();
        let found: Vec<_> = class.values().iter().map(|value| value.nick()).collect();
        assert_eq!(found, nicks.split(' ').collect::<Vec<_>>());
        let default = glib::EnumValue::from_value(spec.default_value())
            .unwrap()
            .1
            .nick();
        assert_eq!(default, found[0]);
    }
}

#[test]
fn defaults() {
    let element = element();
    assert_eq!(element.property::<u32>("latency"), 2000);
    assert_eq!(element.property::<u64>("max-gap"), 1_000_000_000);
    assert_eq!(element.property::<u32>("connect-timeout"), 10_000);
    assert_eq!(element.property::<u32>("idle-timeout"), 60_000);
    assert_eq!(element.property::<i32>("max-retries"), 10);
    assert_eq!(element.property::<u32>("max-queue-bytes"), 8_388_608);
    assert!(!element.property::<bool>("end-at-live"));
    assert_eq!(element.property::<Option<String>>("stream-name"), None);
    assert_eq!(element.property::<Option<String>>("uri"), None);
    let stats = element.property::<gst::Structure>("stats");
    assert_eq!(stats.name(), "kvs-stats");
    for counter in [
        "bytes-received",
        "bytes-pushed",
        "fragments",
        "frames",
        "connections",
        "retries",
        "gaps",
        "queue-bytes",
    ] {
        assert_eq!(stats.get::<u64>(counter), Ok(0), "{counter}");
    }
}

#[test]
fn factory_reads_like_a_manual() {
    init();
    let factory = gst::ElementFactory::find("kvsgetmediasrc").unwrap();
    assert_eq!(factory.metadata("klass"), Some("Source/Network"));
    assert_eq!(factory.rank(), gst::Rank::SECONDARY);
    let caps = factory.static_pad_templates().iter().next().unwrap().caps();
    assert!(caps.can_intersect(&gst::Caps::new_empty_simple("video/x-matroska")));
    let plugin = factory.plugin().unwrap();
    assert_eq!(plugin.plugin_name(), "kvsgetmedia");
    assert_eq!(plugin.license(), "MIT/X11");
}

#[test]
fn uri_makes_the_element_and_is_read_back() {
    init();
    let uri = "kvs://My_Cam?start-selector=earliest&aws-region=eu-west-1";
    let element = gst::Element::make_from_uri(gst::URIType::Src, uri, None).unwrap();
    assert_eq!(element.property::<String>("stream-name"), "My_Cam");
    assert_eq!(element.property::<String>("aws-region"), "eu-west-1");
    let handler = element.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    assert_eq!(handler.protocols(), ["kvs"]);
    assert_eq!(handler.uri().as_deref(), Some(uri));

    set(
        &element,
        &[
            ("access-key", "hush"),
            ("secret-key", "hush"),
            ("session-token", "hush"),
        ],
    );
    set(
        &element,
        &[
            ("profile", "hush"),
            ("role-arn", "hush"),
            ("external-id", "hush"),
            ("credential-path", "/hush"),
            ("iot-certificate", "iot-certificate,endpoint=hush"),
        ],
    );
    set(
        &element,
        &[("endpoint-url", "hush"), ("data-endpoint-url", "hush")],
    );
    assert_eq!(element.property::<String>("uri"), uri);

    element.set_property("uri", format!("kvs://?stream-arn={STREAM_ARN}"));
    assert_eq!(element.property::<Option<String>>("stream-name"), None);
    assert_eq!(element.property::<String>("stream-arn"), STREAM_ARN);
    let again = element.property::<String>("uri");
    handler.set_uri(&again).unwrap();
    assert_eq!(element.property::<String>("uri"), again);
}

#[test]
fn bad_uris_are_refused_and_change_nothing() {
    let element = element();
    set(&element, &[("stream-name", "Cam")]);
    let handler = element.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    for (uri, key) in [
        ("kvs://other?secret-key=hush", "secret-key"),
        (
            "kvs://other?data-endpoint-url=http://evil",
            "data-endpoint-url",
        ),
        ("kvs://other?credential-path=/hush", "credential-path"),
        (
            "kvs://other?iot-certificate=iot-certificate,endpoint%3Dhush",
            "iot-certificate",
        ),
        ("kvs://user:hush@other", "user info"),
        ("kvs://other?colour=red", "colour"),
        ("kvs://other?latency=soon", "latency"),
        ("kvs://other?latency=5&mode=later", "mode"),
        ("kvs://", "stream-name"),
    ] {
        let error = handler.set_uri(uri).unwrap_err();
        assert!(error.matches(gst::URIError::BadUri), "{uri}: {error:?}");
        assert!(error.message().contains(key), "{uri}: {error}");
        assert!(!error.message().contains("hush"));
        assert_eq!(element.property::<String>("uri"), "kvs://Cam");
    }
}

#[test]
fn uri_cannot_change_while_running() {
    let element = lonely();
    let pipeline = pipeline(&element);
    pipeline.set_state(gst::State::Playing).unwrap();
    element.state(None).0.unwrap();
    let handler = element.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    let error = handler.set_uri("kvs://other").unwrap_err();
    assert!(error.matches(gst::URIError::BadState), "{error:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    handler.set_uri("kvs://other").unwrap();
}

#[test]
fn live_from_now_archive_otherwise() {
    for (properties, live) in [
        (&[][..], true),
        (&[("start-selector", "earliest")], false),
        (&[("start-selector", "earliest"), ("mode", "live")], true),
        (&[("mode", "archive")], false),
        (&[("mode", "archive"), ("payload", "raw")], false),
        (&[("payload", "raw")], true),
    ] {
        let element = lonely();
        set(&element, properties);
        set(&element, &[("latency", "750")]);
        let pipeline = pipeline(&element);
        // Twice: what the first start said must not stick to the second.
        for _ in 0..2 {
            let result = pipeline.set_state(gst::State::Paused);
            let expected = match live {
                true => gst::StateChangeSuccess::NoPreroll,
                false => gst::StateChangeSuccess::Async,
            };
            assert_eq!(result, Ok(expected), "{properties:?}");
            let mut query = gst::query::Latency::new();
            assert!(element.query(&mut query));
            let expected = match live {
                true => (true, gst::ClockTime::from_mseconds(750), None),
                false => (false, gst::ClockTime::ZERO, Some(gst::ClockTime::ZERO)),
            };
            if live {
                assert_eq!(query.result(), expected, "{properties:?}");
            } else {
                assert!(!query.result().0);
            }
            pipeline.set_state(gst::State::Null).unwrap();
        }
    }
}

#[test]
fn queries_before_any_data() {
    let element = lonely();
    let pipeline = pipeline(&element);
    pipeline.set_state(gst::State::Playing).unwrap();
    assert_eq!(element.query_position::<gst::ClockTime>(), None);
    let mut query = gst::query::Seeking::new(gst::Format::Time);
    assert!(element.query(&mut query));
    // From the beginning of time, as long as nothing else is known, to now.
    let (seekable, start, end) = query.result();
    assert!(seekable);
    assert_eq!(start, gst::ClockTime::ZERO.into());
    assert!(
        matches!(end, gst::GenericFormattedValue::Time(Some(now)) if now.seconds() > 1_700_000_000)
    );
    assert_eq!(element.query_duration::<gst::ClockTime>(), None);
    let mut query = gst::query::Scheduling::new();
    assert!(element.static_pad("src").unwrap().query(&mut query));
    assert!(query.has_scheduling_mode(gst::PadMode::Push));
    assert!(!query.has_scheduling_mode(gst::PadMode::Pull));
    pipeline.set_state(gst::State::Null).unwrap();
}

/// A demuxer asks before the element is started; that must not start it.
#[test]
fn scheduling_query_does_not_start_the_element() {
    let element = element();
    element.set_state(gst::State::Ready).unwrap();
    let mut query = gst::query::Scheduling::new();
    // Without a stream name, a start would fail.
    assert!(element.static_pad("src").unwrap().query(&mut query));
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn stops_promptly_in_silence() {
    for (state, wait) in [
        (gst::State::Paused, 0),
        (gst::State::Paused, 100),
        (gst::State::Playing, 0),
        (gst::State::Playing, 100),
    ] {
        for selector in ["now", "earliest"] {
            let element = lonely();
            set(&element, &[("start-selector", selector)]);
            let pipeline = pipeline(&element);
            pipeline.set_state(state).unwrap();
            std::thread::sleep(Duration::from_millis(wait));
            let asked = Instant::now();
            pipeline.set_state(gst::State::Null).unwrap();
            assert!(
                asked.elapsed() < PROMPT,
                "{state:?} {selector}: {:?}",
                asked.elapsed()
            );
        }
    }
}

#[test]
fn eos_event_ends_a_silent_stream() {
    for selector in ["now", "earliest"] {
        let element = lonely();
        set(&element, &[("start-selector", selector)]);
        let pipeline = pipeline(&element);
        pipeline.set_state(gst::State::Playing).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(pipeline.send_event(gst::event::Eos::new()));
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = pipeline
            .bus()
            .unwrap()
            .timed_pop_filtered(gst::ClockTime::from_seconds(5), &ends);
        assert_eq!(
            message.map(|message| message.type_()),
            Some(gst::MessageType::Eos)
        );
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn elements_go_when_they_are_no_longer_used() {
    let weak: Vec<_> = (0..20)
        .map(|_| {
            let element = lonely();
            let pipeline = pipeline(&element);
            pipeline.set_state(gst::State::Playing).unwrap();
            pipeline.set_state(gst::State::Null).unwrap();
            element.downgrade()
        })
        .collect();
    assert!(weak.iter().all(|weak| weak.upgrade().is_none()));
}

/// An application may be inside a runtime of its own, where blocking on another panics.
#[test]
fn runs_inside_the_application_s_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let pipeline = pipeline(&lonely());
        pipeline.set_state(gst::State::Playing).unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        assert!(
            pipeline
                .bus()
                .unwrap()
                .pop_filtered(&[gst::MessageType::Error])
                .is_none()
        );
    });
}
