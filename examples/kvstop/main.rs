//! A monitor for the terminal: a line for each stream, or JSON lines, or a check of one stream's
//! set-up.
//!
//! ```text
//! cargo run --example kvstop -- front-door back-door
//! cargo run --example kvstop -- --json --set aws-region=eu-west-1 front-door | jq .
//! cargo run --example kvstop -- --check front-door
//! ```
//!
//! Without a terminal it prints JSON lines. Region and credentials are found as the AWS tools find
//! them, unless a URI or `--set` says more.

mod args;
mod check;
mod json;
mod monitor;
mod source;
mod table;

use args::{Args, Command};
use std::{error::Error, io::IsTerminal, process::ExitCode, sync::mpsc};

/// What the threads of GStreamer, and Ctrl-C, tell the main thread.
pub enum Event {
    /// From the bus of the stream with this number.
    Message(usize, gst::Message),
    /// A fragment has begun; its number.
    Fragment(String),
    /// A frame has come out of the demuxer; what it is.
    Frame(String),
    /// Ctrl-C, or SIGTERM.
    Stop,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kvstop: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all went well.
fn run() -> Result<bool, Box<dyn Error>> {
    let Some(args) = Args::parse(lexopt::Parser::from_env())? else {
        println!("{}", args::USAGE);
        return Ok(true);
    };
    gst::init()?;
    // The element is part of this program; no plugin needs to be installed.
    gstkvsgetmedia::plugin_register_static()?;

    let (sender, events) = mpsc::channel();
    stop_at_signals(sender.clone())?;
    let terminal = std::io::stdout().is_terminal();
    match args.command {
        Command::Check { timeout } => check::run(&args, timeout, sender, events),
        Command::Table => monitor::run(&args, table::Table::new(terminal), sender, events),
        Command::Json => monitor::run(&args, json::Json, sender, events),
        Command::Auto if terminal => {
            monitor::run(&args, table::Table::new(terminal), sender, events)
        }
        Command::Auto => monitor::run(&args, json::Json, sender, events),
    }
}

/// Tells the main thread of Ctrl-C and SIGTERM, so that it leaves the terminal as it was.
fn stop_at_signals(sender: mpsc::Sender<Event>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            let _ = sender.send(Event::Stop);
            std::io::Result::Ok(())
        })
    });
    Ok(())
}
