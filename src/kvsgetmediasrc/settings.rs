//! The values of the properties, and every check of them.

use super::{ConnectAudio, Mode, Payload, StartSelector, TimestampSource, credentials::is_host};
use crate::{
    aws, checkpoint,
    error::{Error, ErrorKind},
    request::{self, End, Selector, StreamId},
    session, timeline,
};
use std::{fmt, time::Duration};
use url::Url;

const DEFAULT_LATENCY_MS: u32 = 2_000;
const DEFAULT_MAX_LAG_NS: u64 = 0;
const DEFAULT_CHECKPOINT_INTERVAL_MS: u32 = 5_000;
const DEFAULT_CONNECT_TIMEOUT_MS: u32 = 10_000;
const DEFAULT_IDLE_TIMEOUT_MS: u32 = 60_000;
const DEFAULT_MAX_RETRIES: i32 = 10;
const DEFAULT_MAX_QUEUE_BYTES: u32 = 8 * 1024 * 1024;

// The service's own limits.
const MAX_STREAM_NAME: usize = 256;
const MAX_STREAM_ARN: usize = 1024;

const NS_PER_MS: u64 = 1_000_000;

/// A string that no formatter prints.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The secret itself: for the request, and nothing else.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// What the properties are set to. An unset string is `None`, never empty.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) stream_name: Option<String>,
    pub(crate) stream_arn: Option<String>,
    pub(crate) start_selector: StartSelector,
    pub(crate) after_fragment_number: Option<String>,
    pub(crate) continuation_token: Option<String>,
    pub(crate) start_timestamp: Option<String>,
    pub(crate) end_timestamp: Option<String>,
    pub(crate) end_at_live: bool,
    pub(crate) checkpoint_location: Option<String>,
    pub(crate) checkpoint_interval: u32,
    pub(crate) aws_region: Option<String>,
    pub(crate) access_key: Option<String>,
    pub(crate) secret_key: Option<Secret>,
    pub(crate) session_token: Option<Secret>,
    pub(crate) profile: Option<String>,
    pub(crate) role_arn: Option<String>,
    pub(crate) external_id: Option<Secret>,
    pub(crate) credential_path: Option<String>,
    pub(crate) iot_certificate: Option<gst::Structure>,
    pub(crate) endpoint_url: Option<String>,
    pub(crate) data_endpoint_url: Option<String>,
    pub(crate) payload: Payload,
    pub(crate) mode: Mode,
    pub(crate) latency: u32,
    pub(crate) max_gap: u64,
    pub(crate) max_lag: u64,
    pub(crate) timestamp_source: TimestampSource,
    pub(crate) connect_audio: ConnectAudio,
    pub(crate) connect_timeout: u32,
    pub(crate) idle_timeout: u32,
    pub(crate) max_retries: i32,
    pub(crate) max_queue_bytes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            stream_name: None,
            stream_arn: None,
            start_selector: StartSelector::default(),
            after_fragment_number: None,
            continuation_token: None,
            start_timestamp: None,
            end_timestamp: None,
            end_at_live: false,
            checkpoint_location: None,
            checkpoint_interval: DEFAULT_CHECKPOINT_INTERVAL_MS,
            aws_region: None,
            access_key: None,
            secret_key: None,
            session_token: None,
            profile: None,
            role_arn: None,
            external_id: None,
            credential_path: None,
            iot_certificate: None,
            endpoint_url: None,
            data_endpoint_url: None,
            payload: Payload::default(),
            mode: Mode::default(),
            latency: DEFAULT_LATENCY_MS,
            max_gap: timeline::Config::MAX_GAP,
            max_lag: DEFAULT_MAX_LAG_NS,
            timestamp_source: TimestampSource::default(),
            connect_audio: ConnectAudio::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT_MS,
            idle_timeout: DEFAULT_IDLE_TIMEOUT_MS,
            max_retries: DEFAULT_MAX_RETRIES,
            max_queue_bytes: DEFAULT_MAX_QUEUE_BYTES,
        }
    }
}

/// Settings that have passed every check, as what they mean.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) session: session::Config,
    pub(crate) checkpoint: Option<checkpoint::Config>,
    pub(crate) live: bool,
    pub(crate) latency: Duration,
    pub(crate) queue_bytes: usize,
}

/// What is wrong with a property, and what to do about it.
pub(super) fn wrong(property: &str, message: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Settings, format!("{property}: {message}"))
}

impl Settings {
    /// Checks everything, and says what it means; the error names the property and the mend.
    pub(crate) fn plan(&self) -> Result<Plan, Error> {
        for (name, value) in [
            ("stream-name", &self.stream_name),
            ("stream-arn", &self.stream_arn),
            ("after-fragment-number", &self.after_fragment_number),
            ("continuation-token", &self.continuation_token),
            ("start-timestamp", &self.start_timestamp),
            ("end-timestamp", &self.end_timestamp),
            ("aws-region", &self.aws_region),
            ("role-arn", &self.role_arn),
            ("endpoint-url", &self.endpoint_url),
            ("data-endpoint-url", &self.data_endpoint_url),
        ] {
            if let Some(value) = value {
                check_text(name, value).map_err(|message| wrong(name, message))?;
            }
        }
        let stream = self.stream()?;
        let start = self.start()?;
        let end = self.end(&start)?;
        let live = self.is_live();
        let region = self.aws_region.clone().or_else(|| region_of(&stream));
        Ok(Plan {
            live,
            latency: self.latency(),
            checkpoint: self.checkpoint(&stream, &region)?,
            queue_bytes: usize::try_from(self.max_queue_bytes).unwrap_or(usize::MAX),
            session: session::Config {
                aws: aws::Config {
                    region,
                    credentials: self.credentials(&stream)?,
                    stream,
                    endpoint_url: self.endpoint_url.clone(),
                    data_endpoint_url: self.data_endpoint_url.clone(),
                    connect_timeout: Duration::from_millis(self.connect_timeout.into()),
                },
                start,
                end,
                raw: self.payload == Payload::Raw,
                timeline: timeline::Config {
                    source: match self.timestamp_source {
                        TimestampSource::Producer => request::TimestampSource::Producer,
                        TimestampSource::Server => request::TimestampSource::Server,
                    },
                    // GST_CLOCK_TIME_NONE is the largest number there is: no limit.
                    max_gap: self.max_gap,
                    close_holes: !live,
                    max_lateness: live.then_some(u64::from(self.latency) * 1_000_000),
                    follow_tracks: false,
                    connect_audio: match self.connect_audio {
                        ConnectAudio::Auto => timeline::ConnectAudio::Auto,
                        ConnectAudio::Off => timeline::ConnectAudio::Off,
                        ConnectAudio::On => timeline::ConnectAudio::On,
                    },
                    bearings: None,
                },
                idle_timeout: Duration::from_millis(self.idle_timeout.into()),
                max_retries: u32::try_from(self.max_retries).ok(),
                max_lag: Some(self.max_lag / 1_000_000).filter(|&lag| live && lag > 0),
                or_oldest: false,
                opened: None,
                resume: None,
                checkpoint: None,
            },
        })
    }

    /// What a live source answers.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency.into())
    }

    /// Whether the element is a live source.
    pub(crate) fn is_live(&self) -> bool {
        match self.mode {
            Mode::Auto => self.start_selector == StartSelector::Now,
            Mode::Live => true,
            Mode::Archive => false,
        }
    }

    fn stream(&self) -> Result<StreamId, Error> {
        match (&self.stream_name, &self.stream_arn) {
            (Some(name), None) => Ok(StreamId::Name(name.clone())),
            (None, Some(arn)) => Ok(StreamId::Arn(arn.clone())),
            (None, None) => Err(wrong("stream-name", "not set; set it, or stream-arn")),
            (Some(_), Some(_)) => Err(wrong(
                "stream-name",
                "set together with stream-arn; set only one of them",
            )),
        }
    }

    fn start(&self) -> Result<Selector, Error> {
        let selector = self.start_selector;
        let nick = || glib::EnumValue::from_value(&selector.into()).map_or("", |(_, v)| v.nick());
        // A value that its selector does not use would be ignored in silence.
        for (name, is_set, used_by) in [
            (
                "after-fragment-number",
                self.after_fragment_number.is_some(),
                &[StartSelector::FragmentNumber][..],
            ),
            (
                "continuation-token",
                self.continuation_token.is_some(),
                &[StartSelector::ContinuationToken],
            ),
            (
                "start-timestamp",
                self.start_timestamp.is_some(),
                &[
                    StartSelector::ProducerTimestamp,
                    StartSelector::ServerTimestamp,
                ],
            ),
        ] {
            let used = used_by.contains(&selector);
            if used && !is_set {
                return Err(wrong(
                    name,
                    format!("not set; start-selector={} needs it", nick()),
                ));
            }
            if is_set && !used {
                let selectors: Vec<_> = used_by
                    .iter()
                    .filter_map(|value| {
                        Some(glib::EnumValue::from_value(&(*value).into())?.1.nick())
                    })
                    .collect();
                return Err(wrong(
                    name,
                    format!(
                        "set, but start-selector={} does not use it; unset it, or set \
                         start-selector={}",
                        nick(),
                        selectors.join(" or ")
                    ),
                ));
            }
        }
        let unset = String::new;
        Ok(match selector {
            StartSelector::Now => Selector::Now,
            StartSelector::Earliest => Selector::Earliest,
            StartSelector::FragmentNumber => {
                Selector::AfterFragment(self.after_fragment_number.clone().unwrap_or_else(unset))
            }
            StartSelector::ContinuationToken => {
                Selector::ContinuationToken(self.continuation_token.clone().unwrap_or_else(unset))
            }
            StartSelector::ProducerTimestamp => {
                Selector::ProducerTimestamp(millis_of("start-timestamp", &self.start_timestamp)?)
            }
            StartSelector::ServerTimestamp => {
                Selector::ServerTimestamp(millis_of("start-timestamp", &self.start_timestamp)?)
            }
        })
    }

    fn end(&self, start: &Selector) -> Result<End, Error> {
        let mut end = End {
            at: None,
            at_live: self.end_at_live,
        };
        if self.end_timestamp.is_some() {
            let at = millis_of("end-timestamp", &self.end_timestamp)?;
            if let Selector::ProducerTimestamp(start) | Selector::ServerTimestamp(start) = start
                && at <= *start
            {
                return Err(wrong(
                    "end-timestamp",
                    "not after start-timestamp; set a later one, or unset it",
                ));
            }
            let at = at.checked_mul(NS_PER_MS);
            end.at = Some(at.ok_or_else(|| wrong("end-timestamp", "too far in the future"))?);
        }
        Ok(end)
    }

    fn checkpoint(
        &self,
        stream: &StreamId,
        region: &Option<String>,
    ) -> Result<Option<checkpoint::Config>, Error> {
        let Some(location) = &self.checkpoint_location else {
            return Ok(None);
        };
        let path = checkpoint::parse_location(location);
        let path = path.map_err(|message| wrong("checkpoint-location", message))?;
        let arn = match stream {
            StreamId::Arn(arn) => Some(arn.clone()),
            StreamId::Name(_) => None,
        };
        Ok(Some(checkpoint::Config {
            path,
            interval: Duration::from_millis(self.checkpoint_interval.into()),
            stream: checkpoint::document::Stream {
                name: Some(stream.name().to_owned()),
                arn,
                region: region.clone(),
            },
        }))
    }
}

/// Checks one string by itself; the message says what it must be.
pub(crate) fn check_text(name: &str, text: &str) -> Result<(), String> {
    let all = |allowed: fn(char) -> bool| !text.is_empty() && text.chars().all(allowed);
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let must = |expected: &str| Err(format!("'{text}' is wrong; it must be {expected}"));
    match name {
        "stream-name" if !all(is_name) || text.len() > MAX_STREAM_NAME => {
            must("1 to 256 letters, digits, '_', '.' and '-'")
        }
        "stream-arn" if !is_stream_arn(text) => {
            must("of the form arn:aws:kinesisvideo:REGION:ACCOUNT:stream/NAME/NUMBER")
        }
        "after-fragment-number" if !request::is_fragment_number(text) => {
            must("a decimal number of at most 128 digits")
        }
        "continuation-token" if !request::is_continuation_token(text) => {
            must("1 to 128 letters, digits, '_', '.' and '-'")
        }
        "start-timestamp" | "end-timestamp" if parse_millis(text).is_none() => {
            must("RFC 3339 (2024-05-01T12:00:00Z) or seconds since the Unix epoch (1714564800.000)")
        }
        "aws-region" if !all(|c| c.is_ascii_alphanumeric() || c == '-') => {
            must("a region's name, such as eu-west-1")
        }
        "endpoint" if !is_host(text) => must("a host, without https://"),
        "role-aliases" if !all(|c| c.is_ascii_alphanumeric() || "_=,@-".contains(c)) => {
            must("one role alias: letters, digits, '_', '=', ',', '@' and '-'")
        }
        "iot-thing-name" if !all(|c| c.is_ascii_alphanumeric() || "_:.-".contains(c)) => {
            must("letters, digits, '_', ':' and '-'")
        }
        "role-arn" if !is_role_arn(text) => must("of the form arn:aws:iam::ACCOUNT:role/NAME"),
        // Not quoted: it may hold a password.
        "endpoint-url" | "data-endpoint-url" if !is_http_url(text) => Err(
            "not an endpoint; it must be an http:// or https:// URL with a host and without a \
                 user, a query or a fragment"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

fn is_stream_arn(text: &str) -> bool {
    let name = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        !text.is_empty() && text.len() <= MAX_STREAM_NAME && text.chars().all(allowed)
    };
    let word = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let parts: Vec<_> = text.split(':').collect();
    let ["arn", partition, "kinesisvideo", region, account, resource] = parts[..] else {
        return false;
    };
    let resource: Vec<_> = resource.split('/').collect();
    let ["stream", stream, created] = resource[..] else {
        return false;
    };
    text.len() <= MAX_STREAM_ARN
        && word(partition)
        && word(region)
        && number(account)
        && name(stream)
        && number(created)
}

fn is_role_arn(text: &str) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    matches!(parts[..], ["arn", partition, "iam", "", account, resource]
        if !partition.is_empty()
            && !account.is_empty()
            && resource.strip_prefix("role/").is_some_and(|role| !role.is_empty()))
}

fn is_http_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

fn region_of(stream: &StreamId) -> Option<String> {
    match stream {
        StreamId::Arn(arn) => arn.split(':').nth(3).map(str::to_owned),
        StreamId::Name(_) => None,
    }
}

fn millis_of(name: &str, text: &Option<String>) -> Result<u64, Error> {
    text.as_deref()
        .and_then(parse_millis)
        .ok_or_else(|| wrong(name, "not a time"))
}

/// The end of the year 9999, which is the last that RFC 3339 knows.
const SECONDS_MAX: u64 = 253_402_300_799;

/// Milliseconds since the Unix epoch, from RFC 3339 or decimal seconds; finer digits are cut off.
fn parse_millis(text: &str) -> Option<u64> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if is_digits(seconds) && is_digits(fraction) {
        let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
        // Beyond that, milliseconds were meant.
        let seconds = seconds.parse().ok().filter(|&s: &u64| s <= SECONDS_MAX)?;
        return Some(seconds * 1000 + millis.parse::<u64>().ok()?);
    }
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(timestamp.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kinesisvideo:eu-west-1:123456789012:stream/cam/1511852108000";

    #[test]
    fn what_authorizes_is_not_printed() {
        let secret = || Some(Secret::new("hush".to_owned()));
        let settings = Settings {
            secret_key: secret(),
            session_token: secret(),
            external_id: secret(),
            ..named()
        };
        assert!(!format!("{settings:?}").contains("hush"));
    }

    fn named() -> Settings {
        Settings {
            stream_name: Some("cam".to_owned()),
            ..Settings::default()
        }
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn defaults_mean_live_from_now() {
        let plan = named().plan().unwrap();
        assert!(plan.live);
        assert_eq!(plan.queue_bytes, 8 << 20);
        assert_eq!(plan.session.start, Selector::Now);
        assert_eq!(plan.session.end, End::default());
        assert_eq!(plan.session.timeline.max_gap, 1_000_000_000);
        assert!(!plan.session.timeline.close_holes);
        assert_eq!(plan.session.max_retries, Some(10));
        assert_eq!(plan.session.aws.connect_timeout, Duration::from_secs(10));
        assert_eq!(plan.session.idle_timeout, Duration::from_secs(60));
        assert!(!plan.session.raw);
    }

    #[test]
    fn archives_close_gaps() {
        let mut settings = Settings {
            start_selector: StartSelector::Earliest,
            ..named()
        };
        assert!(!settings.is_live());
        assert!(settings.plan().unwrap().session.timeline.close_holes);
        settings.mode = Mode::Live;
        assert!(settings.is_live());
        settings = Settings {
            mode: Mode::Archive,
            ..named()
        };
        assert!(!settings.is_live());
    }

    #[test]
    fn unlimited_retries() {
        let plan = Settings {
            max_retries: -1,
            ..named()
        }
        .plan()
        .unwrap();
        assert_eq!(plan.session.max_retries, None);
    }

    #[test]
    fn arn_names_the_region() {
        let settings = Settings {
            stream_arn: some(ARN),
            ..Settings::default()
        };
        let aws = settings.plan().unwrap().session.aws;
        assert_eq!(aws.region.as_deref(), Some("eu-west-1"));
        assert_eq!(aws.stream.name(), "cam");
        let settings = Settings {
            aws_region: some("us-east-1"),
            ..settings
        };
        assert_eq!(
            settings.plan().unwrap().session.aws.region.as_deref(),
            Some("us-east-1")
        );
    }

    #[test]
    fn arns() {
        assert!(is_stream_arn(ARN));
        assert!(is_stream_arn(&ARN.replace("arn:aws:", "arn:aws-cn:")));
        assert!(is_stream_arn(&ARN.replace("arn:aws:", "arn:aws-us-gov:")));
        for wrong in [
            "",
            "cam",
            &ARN.replace("kinesisvideo", "kinesis"),
            &ARN.replace("stream/", "channel/"),
            &ARN.replace("/1511852108000", ""),
            &ARN.replace("cam", "c am"),
            &format!("{ARN}:more"),
        ] {
            assert!(!is_stream_arn(wrong), "{wrong}");
        }
        assert!(is_role_arn("arn:aws:iam::123456789012:role/path/reader"));
        assert!(!is_role_arn("arn:aws:iam::123456789012:user/reader"));
        assert!(!is_role_arn("reader"));
    }

    #[test]
    fn times() {
        for (text, millis) in [
            ("0", Some(0)),
            ("1511852108", Some(1_511_852_108_000)),
            ("1511852108.5", Some(1_511_852_108_500)),
            ("1511852108.513", Some(1_511_852_108_513)),
            ("1511852108.513999999", Some(1_511_852_108_513)),
            ("2017-11-28T06:55:08.513Z", Some(1_511_852_108_513)),
            ("2017-11-28T07:55:08.513+01:00", Some(1_511_852_108_513)),
            ("1969-12-31T23:59:59Z", None),
            ("-1", None),
            (".5", None),
            ("5.", None),
            ("1e9", None),
            ("99999999999999999999", None),
            ("253402300799.9", Some(253_402_300_799_900)),
            ("253402300800", None),
            ("1511852108513", None),
            ("2017-11-28", None),
            ("2017-11-28T06:55:08", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_millis(text), millis, "{text}");
        }
    }

    #[test]
    fn end_is_in_nanoseconds_and_after_the_start() {
        let settings = Settings {
            start_selector: StartSelector::ServerTimestamp,
            start_timestamp: some("1511852108"),
            end_timestamp: some("1511852108.001"),
            ..named()
        };
        let session = settings.plan().unwrap().session;
        assert_eq!(session.start, Selector::ServerTimestamp(1_511_852_108_000));
        assert_eq!(session.end.at, Some(1_511_852_108_001_000_000));
        let error = Settings {
            end_timestamp: some("1511852108"),
            ..settings.clone()
        };
        assert!(
            error
                .plan()
                .unwrap_err()
                .message
                .starts_with("end-timestamp:")
        );
        let error = Settings {
            end_timestamp: some("18446744073709551"),
            ..settings
        };
        assert!(
            error
                .plan()
                .unwrap_err()
                .message
                .starts_with("end-timestamp:")
        );
    }

    #[test]
    fn debug_prints_no_secret() {
        let settings = Settings {
            access_key: some("AKIAEXAMPLE"),
            secret_key: Some(Secret::new("hush-secret".to_owned())),
            session_token: Some(Secret::new("hush-token".to_owned())),
            ..named()
        };
        let plan = settings.plan().unwrap();
        for text in [format!("{settings:#?}"), format!("{plan:#?}")] {
            assert!(text.contains("cam"));
            assert!(!text.contains("hush"), "{text}");
        }
    }

    #[test]
    fn endpoint_errors_do_not_quote() {
        let message = check_text("endpoint-url", "https://user:hush@example.com").unwrap_err();
        assert!(!message.contains("hush"));
        assert!(check_text("endpoint-url", "http://127.0.0.1:8080/").is_ok());
        assert!(check_text("endpoint-url", "ftp://example.com").is_err());
        assert!(check_text("endpoint-url", "example.com").is_err());
    }
}
