//! `README.md` says what the elements do: its tables are compared with the elements, and its
//! pipelines are parsed.

mod support;

use gst::{MessageView, glib, prelude::*};
use gstkvsgetmedia::item::GapKind;
use kvs_local::{
    Server,
    synth::{Synth, TrackSpec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

const README: &str = include_str!("../README.md");

/// The lines of a section, up to the next heading of any level.
fn section(heading: &str) -> impl Iterator<Item = &'static str> {
    let mut lines = README.lines();
    assert!(lines.any(|line| line == heading), "no section {heading}");
    lines.take_while(|line| !line.starts_with('#'))
}

/// The rows of the tables of a section that begin with a name in backticks, as cells.
fn rows(heading: &str) -> impl Iterator<Item = Vec<&'static str>> {
    section(heading)
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// What stands in backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What stands in backticks in the paragraph of `text` that holds `marker`.
fn quoted_near<'a>(text: &'a [&'static str], marker: &str) -> BTreeSet<&'a str> {
    let from = text.iter().position(|line| line.contains(marker));
    let from = from.unwrap_or_else(|| panic!("no {marker}"));
    let lines = text[from..].iter().enumerate();
    lines
        .take_while(|(n, line)| *n == 0 || !(line.is_empty() || line.starts_with("- ")))
        .flat_map(|(_, line)| quoted(line))
        .collect()
}

/// The properties that an element has of its own, as the table has them: type and default.
fn properties(element: &gst::Element) -> BTreeMap<String, (&'static str, String)> {
    let own = element.type_();
    let all = element.list_properties();
    all.iter()
        .filter(|spec| spec.owner_type() == own)
        .map(|spec| {
            let default = spec.default_value();
            let (kind, default) = match spec.value_type() {
                glib::Type::STRING => {
                    let default = default.get::<Option<String>>().unwrap();
                    ("string", default.unwrap_or("unset".to_owned()))
                }
                glib::Type::BOOL => ("boolean", default.get::<bool>().unwrap().to_string()),
                glib::Type::U32 => ("uint", default.get::<u32>().unwrap().to_string()),
                glib::Type::I32 => ("int", default.get::<i32>().unwrap().to_string()),
                glib::Type::U64 => ("uint64", default.get::<u64>().unwrap().to_string()),
                other if other == gst::Structure::static_type() => ("structure", "–".to_owned()),
                _ => {
                    let (_, value) = glib::EnumValue::from_value(default).unwrap();
                    ("enum", value.nick().to_owned())
                }
            };
            (spec.name().to_owned(), (kind, default))
        })
        .collect()
}

#[test]
fn properties_are_those_of_the_elements() {
    support::init();
    let said: BTreeMap<_, _> = rows("## Properties")
        .map(|cells| {
            let name = cells[0].trim_matches('`').to_owned();
            (name, (cells[1], cells[2].to_owned()))
        })
        .collect();
    for name in ["kvsgetmediasrc", "kvssrc"] {
        let element = gst::ElementFactory::make(name).build().unwrap();
        let found = properties(&element);
        for (property, found) in &found {
            assert_eq!(said.get(property), Some(found), "{property} of {name}");
        }
        for property in said.keys() {
            assert!(found.contains_key(property), "{name} has no {property}");
        }
    }
}

#[test]
fn enum_values_are_those_of_the_element() {
    support::init();
    let element = gst::ElementFactory::make("kvsgetmediasrc").build().unwrap();
    for cells in rows("## Properties").filter(|cells| cells[1] == "enum") {
        let spec = element.find_property(cells[0].trim_matches('`')).unwrap();
        let class = glib::EnumClass::with_type(spec.value_type()).unwrap();
        let said = quoted(cells[3]);
        for value in class.values() {
            assert!(
                said.contains(value.nick()),
                "{}: {}",
                cells[0],
                value.nick()
            );
        }
    }
}

/// Which fields structures of each name have had.
#[derive(Default, Debug)]
struct Seen(BTreeMap<String, BTreeSet<String>>);

impl Seen {
    fn add(&mut self, structure: &gst::StructureRef) {
        let fields = self.0.entry(structure.name().to_string()).or_default();
        fields.extend(structure.fields().map(|field| field.to_string()));
        for field in structure.fields() {
            let Ok(array) = structure.get::<gst::Array>(field) else {
                continue;
            };
            for value in array.iter() {
                self.add(&value.get::<gst::Structure>().unwrap());
            }
        }
    }
}

/// Plays a stream in which all happens that has a message: connections end, an hour is missing, tracks
/// go, and that is an error.
fn play() -> (Seen, BTreeSet<String>, BTreeSet<String>) {
    let server = Server::builder().rotate_after_fragments(2).start();
    let cam = server.stream("cam");
    let both = [
        TrackSpec::h264(1).named("picture"),
        TrackSpec::aac(2).named("sound"),
    ];
    let hour = 3_600_000;
    let part = |number: u64, tracks: &[TrackSpec]| {
        let start = 1_700_000_000_000 + number * hour;
        Synth::new()
            .tracks(tracks.to_vec())
            .fragments(3)
            .first_number(&format!("9{number}000000000000000"))
            .start_ms(start)
            .server_start_ms(start + 500)
            .distinct_tokens()
            .tags_before(&[("camera", "front")])
            .build()
    };
    part(0, &both).push_to(&cam);
    part(1, &both).push_to(&cam);
    part(2, &both[..1]).push_to(&cam);
    let source = support::source(&server, "cam", &[("start-selector", "earliest")]);
    let pipeline = gst::Pipeline::new();
    let sink = gst::ElementFactory::make("fakesink").build().unwrap();
    pipeline.add_many([&source, &sink]).unwrap();
    source.link(&sink).unwrap();
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let (mut seen, mut tags, mut codes) = (Seen::default(), BTreeSet::new(), BTreeSet::new());
    loop {
        let message = bus.timed_pop(gst::ClockTime::from_seconds(60)).unwrap();
        match message.view() {
            MessageView::Element(_) => seen.add(message.structure().unwrap()),
            MessageView::Tag(message) => {
                tags.extend(message.tags().iter().map(|(name, _)| name.to_string()));
            }
            MessageView::Progress(message) => {
                codes.insert(message.get().1.to_string());
            }
            MessageView::Error(message) => {
                seen.add(message.details().unwrap());
                assert!(message.error().matches(gst::StreamError::Format));
                break;
            }
            _ => {}
        }
    }
    seen.add(&source.property::<gst::Structure>("stats"));
    seen.add(&going_on(&server));
    pipeline.set_state(gst::State::Null).unwrap();

    let unknown = support::source(&server, "nosuch", &[]);
    let run = support::Run::plain(&unknown);
    run.play();
    seen.add(&run.wait_error().1);
    (seen, tags, codes)
}

/// What an element says that goes on from a checkpoint.
fn going_on(server: &Server) -> gst::Structure {
    let path = std::env::temp_dir().join(format!("kvs-readme-{}.json", std::process::id()));
    let properties = [
        ("start-selector", "earliest"),
        ("end-timestamp", "1700000003"),
        ("checkpoint-location", path.to_str().unwrap()),
    ];
    Synth::new()
        .fragments(4)
        .distinct_tokens()
        .build()
        .push_to(&server.stream("side"));
    let run = support::Run::plain(&support::source(server, "side", &properties));
    run.play().wait_eos();
    run.stop();
    run.clear();
    support::set(&run.src, &[("end-timestamp", "1700000005")]);
    run.play().wait_eos();
    let told = run.stop().structures("kvs-checkpoint")[0].to_owned();
    for suffix in ["", ".lock"] {
        std::fs::remove_file(format!("{}{suffix}", path.display())).unwrap();
    }
    told
}

#[test]
fn messages_have_the_fields_that_the_tables_name() {
    support::init();
    let (seen, tags, codes) = play();
    let mut said: BTreeMap<&str, BTreeSet<&str>> = rows("## Messages, events, tags")
        .map(|cells| (cells[0].trim_matches('`'), quoted(cells[2])))
        .collect();
    let messages: Vec<_> = section("## Messages, events, tags").collect();
    let errors: Vec<_> = section("## Errors").collect();
    let properties: Vec<_> = section("## Properties").collect();
    for (name, text) in [
        ("kvs-tag", &messages),
        ("kvs-track", &messages),
        ("kvs-error", &errors),
        ("kvs-stats", &properties),
    ] {
        said.insert(name, quoted_near(text, &format!("`{name}`")));
    }
    for (name, fields) in &seen.0 {
        let said = said.get(name.as_str());
        let said = said.unwrap_or_else(|| panic!("{name} is not in README.md"));
        for field in fields {
            assert!(said.contains(field.as_str()), "{name}: {field}");
        }
    }
    for name in said.keys() {
        assert!(seen.0.contains_key(*name), "{name} was not seen: {seen:?}");
    }
    // Every field that a table names is there, where the stream above has reason for it.
    for name in ["kvs-fragment", "kvs-checkpoint", "kvs-reconnect", "kvs-gap"] {
        for field in &said[name] {
            assert!(seen.0[name].contains(*field), "{name} has no {field}");
        }
    }
    let text = messages.join("\n");
    let kinds = [
        GapKind::Lost,
        GapKind::Hole,
        GapKind::ProducerRestart,
        GapKind::ClockBack,
        GapKind::SkippedToNow,
        GapKind::Late,
    ];
    for kind in kinds.map(GapKind::as_str) {
        assert!(text.contains(&format!("`{kind}`")), "{kind}");
    }
    for name in tags.iter().chain(&codes) {
        assert!(text.contains(&format!("`{name}`")), "{name}");
    }
    assert_eq!(tags.len(), 5, "{tags:?}");
    assert_eq!(codes.len(), 2, "{codes:?}");
}

/// The commands of the README's `sh` blocks, each on one line.
fn commands() -> Vec<String> {
    let mut commands = Vec::new();
    let mut inside = false;
    let mut command = String::new();
    for line in README.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            match line.trim().strip_suffix('\\') {
                Some(part) => command.push_str(part),
                None => {
                    command.push_str(line.trim());
                    commands.push(std::mem::take(&mut command));
                }
            }
        }
    }
    commands
}

#[test]
fn pipelines_can_be_parsed() {
    support::init();
    let mut parsed = 0;
    for command in commands() {
        let Some(pipeline) = command.strip_prefix("gst-launch-1.0 ") else {
            continue;
        };
        let pipeline = pipeline.trim_start_matches("-m ").trim_start_matches("-e ");
        let result = gst::parse::launch(&pipeline.replace('\'', "\""));
        match result {
            Ok(_) => parsed += 1,
            Err(error)
                if error.matches(gst::ParseError::NoSuchElement) && !support::require_all() =>
            {
                println!("skipped: {error}");
            }
            Err(error) => panic!("{command}: {error}"),
        }
    }
    assert!(parsed > 4);
}

#[test]
fn files_that_are_named_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = README
        .split("](")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap());
    let headings: Vec<_> = README
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_matches(['#', ' ', '?'])
                .to_lowercase()
                .replace(' ', "-")
        })
        .collect();
    for link in links.filter(|link| !link.starts_with("http")) {
        match link.strip_prefix('#') {
            Some(heading) => assert!(headings.iter().any(|h| h == heading), "{link}"),
            None => assert!(root.join(link).exists(), "{link}"),
        }
    }
    for command in commands() {
        let program = command.split(' ').next().unwrap();
        if program.contains('/') {
            assert!(root.join(program).exists(), "{program}");
        }
    }
    for line in section("## Your first real stream") {
        for name in quoted(line) {
            let words: Vec<_> = name.split(' ').collect();
            match words[..] {
                ["cargo", "run", "--example", example, ..] => {
                    let mut paths = ["examples/NAME.rs", "examples/NAME/main.rs"]
                        .map(|path| root.join(path.replace("NAME", example)))
                        .into_iter();
                    assert!(paths.any(|path| path.exists()), "{name}");
                }
                [path, ..] if path.ends_with(".py") => {
                    assert!(root.join(path).exists(), "{name}");
                }
                _ => {}
            }
        }
    }
}
