//! Writes the manual page of an element, from what `gst-inspect-1.0` shows and, for messages and
//! errors, from the tables of the README.
//!
//! ```text
//! cargo run --example manpage -- kvsgetmediasrc >kvsgetmediasrc.7
//! man -l kvsgetmediasrc.7
//! ```

use gst::{glib, prelude::*};
use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

const USAGE: &str = "Usage: manpage ELEMENT";
const README: &str = include_str!("../README.md");

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manpage: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), None) = (arguments.next(), arguments.next()) else {
        return Err(USAGE.into());
    };
    gst::init()?;
    gstkvsgetmedia::plugin_register_static()?;
    let element = gst::ElementFactory::make(&name).build()?;
    let factory = element.factory().ok_or("the element has no factory")?;
    let page = page(&element, &factory);
    io::stdout().lock().write_all(page.as_bytes())?;
    Ok(())
}

fn page(element: &gst::Element, factory: &gst::ElementFactory) -> String {
    let name = factory.name();
    let metadata = |key| factory.metadata(key).unwrap_or_default();
    let mut page = Page::default();
    page.line(&format!(
        ".TH {} 7 \"\" \"{} {}\" \"GStreamer elements\"",
        name.to_uppercase(),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
    ));

    page.section("NAME");
    page.line(&format!(
        "{name} \\- {}",
        plain(metadata(gst::ELEMENT_METADATA_LONGNAME))
    ));

    page.section("SYNOPSIS");
    page.line(&format!(
        ".B gst\\-launch\\-1.0 {name} stream\\-name=\\fINAME\\fB [\\fIPROPERTY\\fB=\\fIVALUE\\fB \
         ...] ! ..."
    ));

    page.section("DESCRIPTION");
    page.text(&format!(
        "{}.",
        metadata(gst::ELEMENT_METADATA_DESCRIPTION).trim_end_matches('.')
    ));

    page.section("PADS");
    for template in element.pad_template_list() {
        let direction = match template.direction() {
            gst::PadDirection::Src => "source",
            _ => "sink",
        };
        let presence = match template.presence() {
            gst::PadPresence::Always => "always there",
            gst::PadPresence::Sometimes => "comes and goes with what is in the stream",
            _ => "on request",
        };
        page.item(
            template.name_template(),
            &format!("a {direction} pad, {presence}"),
        );
        page.text(&template.caps().to_string());
    }

    page.section("PROPERTIES");
    page.text("Those marked (NULL, READY) can be changed in these states alone.");
    for spec in element.list_properties().iter() {
        if spec.owner_type() == element.type_() {
            page.property(spec);
        }
    }

    page.section("URIS");
    page.markdown("### URIs");
    page.section("MESSAGES");
    page.markdown("## Messages, events, tags");
    page.section("ERRORS");
    page.markdown("## Errors");

    page.section("SEE ALSO");
    let other = match name.as_str() {
        "kvssrc" => "kvsgetmediasrc",
        _ => "kvssrc",
    };
    page.line(&format!(
        ".BR {other} (7),\n.BR gst\\-launch\\-1.0 (1),\n.BR gst\\-inspect\\-1.0 (1)"
    ));
    page.0
}

/// A page in the language of `man(7)`.
#[derive(Default)]
struct Page(String);

impl Page {
    /// A line of roff, as it is.
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn section(&mut self, name: &str) {
        self.line(&format!(".SH {name}"));
    }

    fn text(&mut self, text: &str) {
        self.line(&protected(&plain(text)));
    }

    /// The head of an item: a name, and what it is. What follows is its body.
    fn item(&mut self, name: &str, what: &str) {
        self.line(".TP");
        self.line(&format!(
            "\\fB{}\\fR {}",
            plain(name),
            plain(what).replace('\n', " ")
        ));
    }

    fn property(&mut self, spec: &glib::ParamSpec) {
        let (kind, range, default) = describe(spec);
        let default = default.map_or_else(String::new, |default| format!(", default {default}"));
        let flags = spec.flags();
        let access = match (
            flags.contains(glib::ParamFlags::READABLE),
            flags.contains(glib::ParamFlags::WRITABLE),
        ) {
            (true, false) => " (read only)",
            (false, true) => " (write only)",
            _ => "",
        };
        let states = match flags.contains(gst::PARAM_FLAG_MUTABLE_READY) {
            true => " (NULL, READY)",
            false => "",
        };
        self.item(
            spec.name(),
            &format!("({kind}{range}{default}){access}{states}"),
        );
        self.text(&format!(
            "{}.",
            spec.blurb().unwrap_or_default().trim_end_matches('.')
        ));
        if let Some(class) = glib::EnumClass::with_type(spec.value_type()) {
            self.line(".RS");
            for value in class.values() {
                self.item(value.nick(), "");
                self.text(value.name());
            }
            self.line(".RE");
        }
    }

    /// A section of the README, up to the next heading: paragraphs, lists and tables, whose rows
    /// become items.
    fn markdown(&mut self, heading: &str) {
        let lines = README.lines().skip_while(|line| *line != heading).skip(1);
        let mut lines = lines.take_while(|line| !line.starts_with('#')).peekable();
        // The titles of a table's columns, from the third on, which its cells are given.
        let mut titles: Vec<String> = Vec::new();
        while let Some(line) = lines.next() {
            let cells = || -> Vec<_> { line.trim_matches('|').split('|').map(str::trim).collect() };
            if line.is_empty() {
                titles.clear();
                self.line(".PP");
            } else if line.starts_with("|---") {
                continue;
            } else if line.starts_with('|') && lines.peek().is_some_and(|l| l.starts_with("|---")) {
                titles = cells().into_iter().skip(2).map(str::to_owned).collect();
            } else if line.starts_with('|') {
                let cells = cells();
                self.line(".TP");
                self.line(&protected(&inline(cells[0])));
                self.line(&protected(&format!("{}.", inline(cells[1]))));
                for (title, cell) in titles.iter().zip(&cells[2..]) {
                    self.line(&protected(&format!("{}: {}.", inline(title), inline(cell))));
                }
            } else if let Some(item) = line.strip_prefix("- ") {
                self.line(".IP \\(bu 3");
                self.line(&protected(&inline(item)));
            } else {
                self.line(&protected(&inline(line.trim_start())));
            }
        }
    }
}

/// Type, range and default of a property.
fn describe(spec: &glib::ParamSpec) -> (&'static str, String, Option<String>) {
    let default = spec.default_value();
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
        let range = format!(" {} to {}", spec.minimum(), spec.maximum());
        (
            "unsigned integer",
            range,
            Some(spec.default_value().to_string()),
        )
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt>() {
        let range = format!(" {} to {}", spec.minimum(), spec.maximum());
        ("integer", range, Some(spec.default_value().to_string()))
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt64>() {
        let range = format!(" {} to {}", spec.minimum(), spec.maximum());
        (
            "unsigned 64-bit integer",
            range,
            Some(spec.default_value().to_string()),
        )
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecBoolean>() {
        (
            "boolean",
            String::new(),
            Some(spec.default_value().to_string()),
        )
    } else if spec.value_type() == glib::Type::STRING {
        let default = default.get::<Option<String>>().ok().flatten();
        (
            "string",
            String::new(),
            Some(default.unwrap_or_else(|| "unset".to_owned())),
        )
    } else if let Some((_, value)) = glib::EnumValue::from_value(default) {
        ("enumeration", String::new(), Some(value.nick().to_owned()))
    } else {
        ("structure", String::new(), None)
    }
}

/// Text as roff has it: hyphens that can be copied, and characters beyond ASCII by their numbers.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '`' => out.push_str("\\(ga"),
            c if c.is_ascii() => out.push(c),
            c => out.push_str(&format!("\\[u{:04X}]", u32::from(c))),
        }
    }
    out
}

/// A line of Markdown: `code` and **what is strong** in bold type.
fn inline(markdown: &str) -> String {
    let mut out = String::new();
    for (n, part) in markdown.replace("**", "`").split('`').enumerate() {
        match n % 2 {
            0 => out.push_str(&plain(part)),
            _ => out.push_str(&format!("\\fB{}\\fR", plain(part))),
        }
    }
    out
}

/// A line that would be a command, made one of text. (An apostrophe is written out by `plain`.)
fn protected(line: &str) -> String {
    match line.starts_with('.') {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    }
}
