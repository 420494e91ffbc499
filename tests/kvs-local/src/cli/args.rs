//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kvs_local::{DEFAULT_ACCESS_KEY, DEFAULT_REGION, DEFAULT_SECRET_KEY};
use lexopt::prelude::*;

use super::Error;

pub(crate) const HELP: &str = "\
kvs-local: an Amazon Kinesis Video Streams service on this machine

Usage: kvs-local [OPTIONS]

Answers CreateStream, DescribeStream, ListStreams, TagStream, DeleteStream, GetDataEndpoint,
GetMedia and PutMedia as the service does, for requests signed with the keys below. Prints one
line when it is ready, and runs until it is interrupted:

  endpoint=http://127.0.0.1:40123 region=us-west-2 access-key=AKIDEXAMPLE secret-key=...

Streams (each may be given several times; a stream that is created or written to by a client needs
none of these):
  --stream NAME=pattern     A live test pattern: a picture with a clock, and a tone, one fragment
                            every 2 seconds. Needs gst-launch-1.0 and an H.264 encoder.
  --stream NAME=FILE        A recording of a GetMedia body, served exactly as recorded; or any other
                            Matroska file, one fragment a Cluster.
  --stream NAME=-           Matroska from standard input, as it comes.
  --stream NAME             A stream without media, to be filled by PutMedia.

Service:
  --listen ADDR             Address and port, port 0 for any free one   [default: 127.0.0.1:0]
  --region REGION           Region that requests are signed for         [default: us-west-2]
  --access-key KEY          Access key id                               [default: AKIDEXAMPLE]
  --secret-key SECRET       Its secret          [default: the example secret of AWS's documents]
  --session-token TOKEN     Session token that requests must carry      [default: none]
  --tls                     HTTPS, with a certificate made at the start
  --ca-file PATH            Writes the certificate authority for --tls there (PEM)

Behaviour:
  --retention SECONDS       Keeps fragments so long                     [default: for ever]
  --rotate-after SECONDS    Ends every GetMedia after so long, as the service does after 45 minutes
  --pace FACTOR             Sends so many times as fast as recorded     [default: at once]
  --latency MILLISECONDS    Waits before every answer                   [default: 0]
  --chunked-live            Sends fragments while they are uploaded     [default: when complete]
  --no-limits               Neither 5 calls a second nor 3 connections for a stream

Other:
  --endpoint-file PATH      Writes the endpoint's URL there when ready
  -h, --help                This text
  -V, --version             The version

With the AWS command line or an SDK:
  AWS_ENDPOINT_URL_KINESIS_VIDEO=http://127.0.0.1:40123 AWS_REGION=us-west-2 \\
  AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=... aws kinesisvideo list-streams
";

pub(crate) enum Command {
    Help,
    Version,
    Run(Box<Settings>),
}

/// Where a stream's media comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Nothing,
    Pattern,
    Stdin,
    File(PathBuf),
}

pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) region: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) session_token: Option<String>,
    pub(crate) streams: Vec<(String, Source)>,
    pub(crate) tls: bool,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) retention: Option<Duration>,
    pub(crate) rotate_after: Option<Duration>,
    pub(crate) pace: Option<f64>,
    pub(crate) latency: Duration,
    pub(crate) chunked_live: bool,
    pub(crate) limits: bool,
    pub(crate) endpoint_file: Option<PathBuf>,
}

pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    let mut settings = Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        region: DEFAULT_REGION.to_owned(),
        access_key: DEFAULT_ACCESS_KEY.to_owned(),
        secret_key: DEFAULT_SECRET_KEY.to_owned(),
        session_token: None,
        streams: Vec::new(),
        tls: false,
        ca_file: None,
        retention: None,
        rotate_after: None,
        pace: None,
        latency: Duration::ZERO,
        chunked_live: false,
        limits: true,
        endpoint_file: None,
    };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Long("listen") => {
                let text = parser.value()?.string()?;
                settings.listen = text.parse().map_err(|_| {
                    format!("--listen '{text}': not an address and port, such as 127.0.0.1:8080")
                })?;
            }
            Long("region") => settings.region = parser.value()?.string()?,
            Long("access-key") => settings.access_key = parser.value()?.string()?,
            Long("secret-key") => settings.secret_key = parser.value()?.string()?,
            Long("session-token") => settings.session_token = Some(parser.value()?.string()?),
            Long("stream") => settings.streams.push(stream(parser.value()?)?),
            Long("tls") => settings.tls = true,
            Long("ca-file") => settings.ca_file = Some(parser.value()?.into()),
            Long("retention") => {
                settings.retention = Some(seconds("retention", parser.value()?)?);
            }
            Long("rotate-after") => {
                settings.rotate_after = Some(seconds("rotate-after", parser.value()?)?);
            }
            Long("pace") => settings.pace = Some(positive("pace", parser.value()?)?),
            Long("latency") => {
                let text = parser.value()?.string()?;
                let ms = text
                    .parse()
                    .map_err(|_| format!("--latency '{text}': not a number of milliseconds"))?;
                settings.latency = Duration::from_millis(ms);
            }
            Long("chunked-live") => settings.chunked_live = true,
            Long("no-limits") => settings.limits = false,
            Long("endpoint-file") => settings.endpoint_file = Some(parser.value()?.into()),
            _ => return Err(arg.unexpected().into()),
        }
    }
    if settings.ca_file.is_some() && !settings.tls {
        return Err("--ca-file is of no use without --tls".into());
    }
    let from_stdin = settings.streams.iter().filter(|(_, s)| *s == Source::Stdin);
    if from_stdin.count() > 1 {
        return Err("only one stream can come from standard input".into());
    }
    Ok(Command::Run(Box::new(settings)))
}

fn stream(value: OsString) -> Result<(String, Source), Error> {
    let text = value
        .into_string()
        .map_err(|value| format!("--stream {}: not UTF-8", value.display()))?;
    let (name, source) = match text.split_once('=') {
        None => (text.as_str(), Source::Nothing),
        Some((name, "pattern")) => (name, Source::Pattern),
        Some((name, "-")) => (name, Source::Stdin),
        Some((_, "")) => return Err(format!("--stream '{text}': nothing after the '='").into()),
        Some((name, file)) => (name, Source::File(file.into())),
    };
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > 256 || !name.bytes().all(fits) {
        return Err(format!(
            "--stream '{text}': a name is 1 to 256 letters, digits, '_', '.' and '-'"
        )
        .into());
    }
    Ok((name.to_owned(), source))
}

fn seconds(option: &str, value: OsString) -> Result<Duration, Error> {
    Ok(Duration::try_from_secs_f64(positive(option, value)?)?)
}

fn positive(option: &str, value: OsString) -> Result<f64, Error> {
    let text = value.string()?;
    match text.parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err(format!("--{option} '{text}': not a positive number").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Settings, String> {
        match parse(args.iter().map(OsString::from)) {
            Ok(Command::Run(settings)) => Ok(*settings),
            Ok(_) => Err("help".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn streams() {
        let settings = run(&[
            "--stream",
            "a=pattern",
            "--stream=b=x=y.mkv",
            "--stream",
            "c",
        ]);
        assert_eq!(
            settings.ok().unwrap().streams,
            [
                ("a".to_owned(), Source::Pattern),
                ("b".to_owned(), Source::File("x=y.mkv".into())),
                ("c".to_owned(), Source::Nothing),
            ]
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (args, named) in [
            (&["--stream", "a b"][..], "--stream 'a b'"),
            (&["--stream", "a="], "--stream 'a='"),
            (&["--stream", "a=-", "--stream", "b=-"], "standard input"),
            (&["--listen", "here"], "--listen 'here'"),
            (&["--retention", "-1"], "--retention '-1'"),
            (&["--ca-file", "x"], "--tls"),
            (&["--colour"], "--colour"),
        ] {
            let error = run(args).err().unwrap();
            assert!(error.contains(named), "{args:?}: {error}");
        }
    }
}
