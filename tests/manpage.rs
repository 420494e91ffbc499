//! The manual pages: written from the elements, rendered by what `man` uses.

mod support;

use gst::prelude::*;
use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

const ELEMENTS: [&str; 2] = ["kvsgetmediasrc", "kvssrc"];

/// What `cargo run --example manpage -- ELEMENT` prints.
fn page(element: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().and_then(Path::parent).unwrap();
    let program = built.join("examples/manpage");
    assert!(program.exists(), "not built; cargo build --examples");
    let output = Command::new(program).arg(element).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The page as `man` shows it, without any type, on lines too long to be broken. Fails at any
/// warning. `None` without groff.
fn rendered(page: &str) -> Option<String> {
    let groff = Command::new("groff")
        .args([
            "-man",
            "-Tutf8",
            "-ww",
            "-rLL=10000n",
            "-P-c",
            "-P-b",
            "-P-u",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut groff) = groff else {
        assert!(!support::require_all(), "there is no groff");
        println!("skipped: there is no groff");
        return None;
    };
    let mut input = groff.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let output = groff.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The lines of a section of a rendered page.
fn section<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
    let lines: Vec<_> = lines.map(str::trim).collect();
    assert!(!lines.is_empty(), "no {heading} in {text}");
    lines
}

/// Text as the pages show it: GStreamer's own texts may end with a full stop or not.
fn sentence(text: &str) -> String {
    format!("{}.", text.trim_end_matches('.'))
}

#[test]
fn pages_say_what_the_elements_have() {
    support::init();
    for name in ELEMENTS {
        let element = gst::ElementFactory::make(name).build().unwrap();
        let factory = element.factory().unwrap();
        let Some(text) = rendered(&page(name)) else {
            return;
        };
        let long_name = factory.metadata(gst::ELEMENT_METADATA_LONGNAME).unwrap();
        assert_eq!(section(&text, "NAME")[0], format!("{name} - {long_name}"));
        let description = factory.metadata(gst::ELEMENT_METADATA_DESCRIPTION).unwrap();
        assert_eq!(section(&text, "DESCRIPTION")[0], sentence(description));

        let pads = section(&text, "PADS");
        for template in element.pad_template_list() {
            let head = format!("{} ", template.name_template());
            assert!(pads.iter().any(|line| line.starts_with(&head)), "{head}");
            assert!(pads.contains(&&template.caps().to_string()[..]), "{head}");
        }

        let properties = section(&text, "PROPERTIES");
        for spec in element.list_properties().iter() {
            let said = properties
                .iter()
                .position(|line| line.starts_with(&format!("{} (", spec.name())));
            // What every element has is told elsewhere.
            let own = spec.owner_type() == element.type_();
            assert_eq!(said.is_some(), own, "{} of {name}", spec.name());
            let Some(said) = said else {
                continue;
            };
            let (head, blurb) = (properties[said], properties[said + 1]);
            assert_eq!(blurb, sentence(spec.blurb().unwrap()));
            let secret = !spec.flags().contains(gst::glib::ParamFlags::READABLE);
            assert_eq!(head.contains("write only"), secret, "{head}");
            let Some(class) = gst::glib::EnumClass::with_type(spec.value_type()) else {
                continue;
            };
            // A short name stands on a line with its text, a long one above it.
            let words: Vec<_> = properties[said..]
                .iter()
                .flat_map(|line| line.split_whitespace())
                .collect();
            let words = words.join(" ");
            for value in class.values() {
                let said = format!(" {} {}", value.nick(), value.name());
                assert!(words.contains(&said), "{said}");
            }
        }

        let messages = format!(" {} ", section(&text, "MESSAGES").join(" "));
        for message in [
            "kvs-fragment",
            "kvs-reconnect",
            "kvs-gap",
            "kvs-tracks-changed",
        ] {
            assert!(messages.contains(&format!(" {message} ")), "{message}");
        }
        assert!(
            section(&text, "ERRORS")
                .join(" ")
                .contains(" RESOURCE / NOT_FOUND ")
        );
        assert!(
            section(&text, "URIS")
                .join(" ")
                .contains("kvs://STREAM-NAME?PROPERTY=VALUE")
        );
        // Nothing is left of how the README is written.
        for sign in ['`', '|'] {
            assert!(!text.contains(sign), "{sign} in {text}");
        }
        assert!(!text.contains("]("), "a link in {text}");
    }
}

#[test]
fn nothing_but_elements_of_the_plugin_has_a_page() {
    let tests = std::env::current_exe().unwrap();
    let program = tests
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples/manpage");
    for arguments in [&[][..], &["nosuchelement"], &["kvssrc", "kvssrc"]] {
        let output = Command::new(&program).args(arguments).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(output.stderr.starts_with(b"manpage: "), "{output:?}");
    }
}
