//! The command line.

use lexopt::{Arg, ValueExt};
use std::time::Duration;

pub const USAGE: &str = "\
Usage: kvstop [OPTIONS] STREAM...
       kvstop --check [OPTIONS] STREAM

A STREAM is a name, an ARN, or a URI kvs://NAME?PROPERTY=VALUE&...

  --json              JSON lines: each message as it comes, counters at every interval and at the
                      end; what there is without a terminal
  --table             a table that is drawn again at every interval; what there is on a terminal
  --interval SECONDS  default 1 for the table, 10 for JSON lines
  --set NAME=VALUE    a property of kvsgetmediasrc, for all streams; as often as needed. Secrets are
                      better in the environment: others can see a command line
  --check             goes through every step from the settings to the first frame, and says ok, or
                      what failed and the mend
  --timeout SECONDS   how long --check waits in all, default 30
  --help              this text

The exit status is 0 when all streams ended or Ctrl-C was pressed, 1 when a stream failed, 2 when
the command line is wrong.";

/// What to do.
pub enum Command {
    Auto,
    Json,
    Table,
    Check { timeout: Duration },
}

pub struct Args {
    pub command: Command,
    pub streams: Vec<String>,
    /// Names and values of properties.
    pub settings: Vec<(String, String)>,
    pub interval: Option<Duration>,
}

impl Args {
    /// `None`: help is wanted.
    pub fn parse(mut parser: lexopt::Parser) -> Result<Option<Args>, lexopt::Error> {
        let mut args = Args {
            command: Command::Auto,
            streams: Vec::new(),
            settings: Vec::new(),
            interval: None,
        };
        let (mut check, mut timeout) = (false, Duration::from_secs(30));
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("json") => args.command = Command::Json,
                Arg::Long("table") => args.command = Command::Table,
                Arg::Long("check") => check = true,
                Arg::Long("timeout") => timeout = seconds(&mut parser)?,
                Arg::Long("interval") => args.interval = Some(seconds(&mut parser)?),
                Arg::Long("set") => {
                    let setting = parser.value()?.string()?;
                    let pair = setting.split_once('=');
                    let (name, value) = pair.ok_or("--set wants NAME=VALUE")?;
                    args.settings.push((name.to_owned(), value.to_owned()));
                }
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                Arg::Value(stream) => args.streams.push(stream.string()?),
                _ => return Err(argument.unexpected()),
            }
        }
        if check {
            args.command = Command::Check { timeout };
        }
        match args.streams.len() {
            0 => Err("no stream; --help tells more".into()),
            2.. if check => Err("--check takes one stream".into()),
            _ => Ok(Some(args)),
        }
    }
}

fn seconds(parser: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    let seconds: f64 = parser.value()?.parse()?;
    let duration = Duration::try_from_secs_f64(seconds).ok();
    let duration = duration.filter(|duration| !duration.is_zero());
    Ok(duration.ok_or("seconds must be more than 0")?)
}
