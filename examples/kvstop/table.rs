//! A table that is drawn over and over, with nothing but ANSI sequences.

use crate::monitor::{State, Stream, View};
use std::{
    io::{self, Write},
    time::Duration,
};

/// Another screen, so that what was on the terminal comes back; no cursor; long lines are cut by the
/// terminal rather than wrapped, whatever its width.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
/// Clears what an earlier drawing left to the right, and below.
const CLEAR_RIGHT: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// After so long without a byte the table says so. Fragments are some seconds long.
const QUIET: Duration = Duration::from_secs(15);

/// Leaves the terminal as it was when it is dropped.
pub struct Table {
    /// Whether to draw in place; otherwise one table follows the other.
    terminal: bool,
}

impl Table {
    pub fn new(terminal: bool) -> Table {
        if terminal {
            // What cannot be written is told by the first table.
            let _ = write!(io::stdout(), "{ENTER}");
        }
        Table { terminal }
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.terminal) {
            let mut out = io::stdout();
            let _ = write!(out, "{LEAVE}").and_then(|()| out.flush());
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.leave();
    }
}

impl View for Table {
    const INTERVAL: Duration = Duration::from_secs(1);

    fn message(&mut self, _: &Stream, _: &gst::StructureRef) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, _: &Stream) -> io::Result<()> {
        Ok(())
    }

    fn update(&mut self, streams: &[Stream]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.terminal {
            write!(out, "{HOME}")?;
            for line in lines(streams) {
                write!(out, "{line}{CLEAR_RIGHT}\r\n")?;
            }
            write!(out, "{CLEAR_BELOW}")?;
        } else {
            writeln!(out, "{}\n", lines(streams).join("\n"))?;
        }
        out.flush()
    }

    /// The last table stays, on the screen that was there before.
    fn finish(&mut self, streams: &[Stream]) -> io::Result<()> {
        self.leave();
        writeln!(io::stdout().lock(), "{}", lines(streams).join("\n"))
    }
}

fn lines(streams: &[Stream]) -> Vec<String> {
    let heading = [
        "STREAM",
        "STATE",
        "FRAGMENTS",
        "BITRATE",
        "BEHIND",
        "RECONNECTS",
        "GAPS",
        "LAST TROUBLE",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(streams.iter().map(cells));
    // The widest cell of each column but the last.
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    });
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                // Words to the left, numbers to the right.
                line += &match column {
                    0 | 1 => format!("{cell:<width$}  "),
                    _ => format!("{cell:>width$}  "),
                };
            }
            line + &row[widths.len()]
        })
        .collect()
}

fn cells(stream: &Stream) -> [String; 8] {
    let state = match (stream.state, stream.quiet()) {
        (State::Playing, Some(quiet)) if quiet >= QUIET => format!("quiet {} s", quiet.as_secs()),
        (State::Opening, _) => "opening".to_owned(),
        (State::Playing, _) => "playing".to_owned(),
        (State::Ended, _) => "ended".to_owned(),
        (State::Failed, _) => "failed".to_owned(),
    };
    let unknown = || "-".to_owned();
    let behind = stream.stats.get::<u64>("millis-behind-now").ok();
    [
        stream.name.clone(),
        state,
        stream.count("fragments").to_string(),
        stream.bitrate.map_or_else(unknown, bitrate),
        behind.map_or_else(unknown, |millis| format!("{:.1} s", millis as f64 / 1000.0)),
        stream.reconnects.to_string(),
        stream.count("gaps").to_string(),
        // On one line, whatever the service said.
        stream.trouble.as_deref().map_or_else(unknown, one_line),
    ]
}

fn bitrate(bits: u64) -> String {
    match bits {
        0..1_000_000 => format!("{} kbit/s", bits / 1000),
        _ => format!("{:.1} Mbit/s", bits as f64 / 1e6),
    }
}

/// Without control characters, which the terminal would obey.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
