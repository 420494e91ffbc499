//! One table of all settings: name, range, default, description, and where the value lives.
//!
//! The element's property specs, its getters and setters, and the query keys of `kvs://` URIs are
//! all read off it.

use super::settings::{self, Secret, Settings};
use glib::{
    EnumClass, EnumValue, ParamSpec, Type, Value,
    value::{FromValue, ToValue},
};
use gst::prelude::*;
use std::{fmt, sync::LazyLock};

type Get = Box<dyn Fn(&Settings) -> Value + Send + Sync>;
type Set = Box<dyn Fn(&mut Settings, &Value) + Send + Sync>;

/// Whether a setting may stand in a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InUri {
    /// As a query key.
    Key,
    /// Not at all: it says who asks, who is asked, or which file is written.
    Never,
}

/// One setting.
pub(crate) struct Property {
    pub(crate) spec: ParamSpec,
    pub(crate) in_uri: InUri,
    get: Get,
    set: Set,
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Property {
    pub(crate) fn name(&self) -> &'static str {
        self.spec.name()
    }

    /// The value; of a type that the spec says.
    pub(crate) fn get(&self, settings: &Settings) -> Value {
        (self.get)(settings)
    }

    /// Stores a value; one of another type than the spec says changes nothing.
    pub(crate) fn set(&self, settings: &mut Settings, value: &Value) {
        (self.set)(settings, value);
    }

    /// A value from its text in a URI, or what is wrong with it.
    pub(crate) fn parse(&self, text: &str) -> Result<Value, String> {
        let wrong = |expected: &str| format!("'{text}' is not {expected}");
        let out_of_range = || Err(format!("{text} is out of range"));
        let value = match self.spec.value_type() {
            Type::STRING => {
                settings::check_text(self.name(), text)?;
                text.to_value()
            }
            Type::BOOL => match text {
                "true" | "1" | "yes" => true.to_value(),
                "false" | "0" | "no" => false.to_value(),
                _ => return Err(wrong("true or false")),
            },
            Type::U32 => {
                let number = text.parse::<u32>().map_err(|_| wrong("a number"))?;
                match self.spec.downcast_ref::<glib::ParamSpecUInt>() {
                    Some(spec) if number < spec.minimum() => return out_of_range(),
                    _ => number.to_value(),
                }
            }
            Type::I32 => {
                let number = text.parse::<i32>().map_err(|_| wrong("a number"))?;
                match self.spec.downcast_ref::<glib::ParamSpecInt>() {
                    Some(spec) if number < spec.minimum() => return out_of_range(),
                    _ => number.to_value(),
                }
            }
            Type::U64 => text
                .parse::<u64>()
                .map_err(|_| wrong("a number"))?
                .to_value(),
            other => {
                let class = EnumClass::with_type(other).ok_or_else(|| wrong("a value"))?;
                class.to_value_by_nick(text).ok_or_else(|| {
                    let nicks: Vec<_> = class.values().iter().map(EnumValue::nick).collect();
                    wrong(&format!("one of {}", nicks.join(", ")))
                })?
            }
        };
        Ok(value)
    }

    /// The text of a value in a URI; `None` if it is the default.
    pub(crate) fn print(&self, value: &Value) -> Option<String> {
        let text = text_of(value)?;
        (text_of(self.spec.default_value()).as_ref() != Some(&text)).then_some(text)
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value.type_() {
        Type::STRING => value.get().ok().flatten(),
        Type::BOOL => value.get::<bool>().ok().map(|value| value.to_string()),
        Type::U32 => value.get::<u32>().ok().map(|value| value.to_string()),
        Type::I32 => value.get::<i32>().ok().map(|value| value.to_string()),
        Type::U64 => value.get::<u64>().ok().map(|value| value.to_string()),
        _ => EnumValue::from_value(value).map(|(_, value)| value.nick().to_owned()),
    }
}

/// The setting of this name.
pub(crate) fn find(name: &str) -> Option<&'static Property> {
    TABLE.iter().find(|property| property.name() == name)
}

/// Where a value lives.
struct Field<T: 'static> {
    get: fn(&Settings) -> &T,
    get_mut: fn(&mut Settings) -> &mut T,
}

macro_rules! field {
    ($name:ident) => {
        Field {
            get: |settings| &settings.$name,
            get_mut: |settings| &mut settings.$name,
        }
    };
}

impl<T: Clone> Field<T> {
    fn default_value(&self) -> T {
        (self.get)(&Settings::default()).clone()
    }
}

/// A property that holds a plain value.
fn plain<T>(in_uri: InUri, spec: impl Into<ParamSpec>, field: Field<T>) -> Property
where
    T: ToValue + for<'a> FromValue<'a>,
{
    Property {
        spec: spec.into(),
        in_uri,
        get: Box::new(move |settings| (field.get)(settings).to_value()),
        set: Box::new(move |settings, value| {
            if let Ok(value) = value.get() {
                *(field.get_mut)(settings) = value;
            }
        }),
    }
}

/// A string; empty means unset.
fn text(
    in_uri: InUri,
    name: &str,
    nick: &str,
    blurb: &str,
    field: Field<Option<String>>,
) -> Property {
    let spec = glib::ParamSpecString::builder(name)
        .nick(nick)
        .blurb(blurb)
        .mutable_ready()
        .build();
    let get_mut = field.get_mut;
    Property {
        set: Box::new(move |settings, value| {
            if let Ok(value) = value.get::<Option<String>>() {
                *get_mut(settings) = value.filter(|text| !text.is_empty());
            }
        }),
        ..plain(in_uri, spec, field)
    }
}

/// A string that can be written and never read.
fn secret(name: &str, nick: &str, blurb: &str, field: Field<Option<Secret>>) -> Property {
    Property {
        spec: glib::ParamSpecString::builder(name)
            .nick(nick)
            .blurb(blurb)
            .mutable_ready()
            .write_only()
            .build(),
        in_uri: InUri::Never,
        get: Box::new(|_| None::<String>.to_value()),
        set: Box::new(move |settings, value| {
            if let Ok(value) = value.get::<Option<String>>() {
                *(field.get_mut)(settings) = value.filter(|text| !text.is_empty()).map(Secret::new);
            }
        }),
    }
}

/// A string that can be read by who has the element, and that stands in no log.
fn withheld(name: &str, nick: &str, blurb: &str, field: Field<Option<Secret>>) -> Property {
    let get = field.get;
    Property {
        spec: glib::ParamSpecString::builder(name)
            .nick(nick)
            .blurb(blurb)
            .mutable_ready()
            .build(),
        get: Box::new(move |settings| get(settings).as_ref().map(Secret::expose).to_value()),
        ..secret(name, nick, blurb, field)
    }
}

/// A structure; it cannot stand in a URI.
fn structure(
    name: &str,
    nick: &str,
    blurb: &str,
    field: Field<Option<gst::Structure>>,
) -> Property {
    let spec = glib::ParamSpecBoxed::builder::<gst::Structure>(name)
        .nick(nick)
        .blurb(blurb)
        .mutable_ready()
        .build();
    plain(InUri::Never, spec, field)
}

fn uint(name: &str, nick: &str, blurb: &str, minimum: u32, field: Field<u32>) -> Property {
    let spec = glib::ParamSpecUInt::builder(name)
        .nick(nick)
        .blurb(blurb)
        .minimum(minimum)
        .default_value(field.default_value())
        .mutable_ready()
        .build();
    plain(InUri::Key, spec, field)
}

fn int(name: &str, nick: &str, blurb: &str, minimum: i32, field: Field<i32>) -> Property {
    let spec = glib::ParamSpecInt::builder(name)
        .nick(nick)
        .blurb(blurb)
        .minimum(minimum)
        .default_value(field.default_value())
        .mutable_ready()
        .build();
    plain(InUri::Key, spec, field)
}

/// A time in nanoseconds.
fn clock_time(name: &str, nick: &str, blurb: &str, field: Field<u64>) -> Property {
    let spec = glib::ParamSpecUInt64::builder(name)
        .nick(nick)
        .blurb(blurb)
        .default_value(field.default_value())
        .mutable_ready()
        .build();
    plain(InUri::Key, spec, field)
}

fn flag(name: &str, nick: &str, blurb: &str, field: Field<bool>) -> Property {
    let spec = glib::ParamSpecBoolean::builder(name)
        .nick(nick)
        .blurb(blurb)
        .default_value(field.default_value())
        .mutable_ready()
        .build();
    plain(InUri::Key, spec, field)
}

fn choice<T>(name: &str, nick: &str, blurb: &str, field: Field<T>) -> Property
where
    T: ToValue
        + for<'a> FromValue<'a>
        + StaticType
        + glib::translate::FromGlib<i32>
        + glib::translate::IntoGlib<GlibType = i32>
        + Copy
        + Default
        + Send
        + Sync
        + 'static,
    T: glib::HasParamSpec<ParamSpec = glib::ParamSpecEnum>,
{
    let spec = glib::ParamSpecEnum::builder_with_default(name, field.default_value())
        .nick(nick)
        .blurb(blurb)
        .mutable_ready()
        .build();
    plain(InUri::Key, spec, field)
}

/// All settings, in the order of the documentation.
pub(crate) static TABLE: LazyLock<Vec<Property>> = LazyLock::new(table);

fn table() -> Vec<Property> {
    vec![
        text(
            InUri::Key,
            "stream-name",
            "Stream name",
            "Name of the stream. Exactly one of stream-name and stream-arn must be set",
            field!(stream_name),
        ),
        text(
            InUri::Key,
            "stream-arn",
            "Stream ARN",
            "Amazon Resource Name of the stream, instead of stream-name; also names the region, if \
             aws-region is unset",
            field!(stream_arn),
        ),
        choice(
            "start-selector",
            "Start selector",
            "Where in the stream to begin. Delivery begins with a whole fragment",
            field!(start_selector),
        ),
        text(
            InUri::Key,
            "after-fragment-number",
            "After fragment number",
            "Begin with the fragment after the one of this number (decimal); for \
             start-selector=fragment-number, and only for that",
            field!(after_fragment_number),
        ),
        text(
            InUri::Key,
            "continuation-token",
            "Continuation token",
            "Begin after the fragment that carried this token; for \
             start-selector=continuation-token, and only for that",
            field!(continuation_token),
        ),
        text(
            InUri::Key,
            "start-timestamp",
            "Start timestamp",
            "Begin with the fragment that holds this time, to the millisecond: RFC 3339 \
             (2024-05-01T12:00:00Z) or seconds since the Unix epoch (1714564800.000); for \
             start-selector=producer-timestamp or server-timestamp, and only for those",
            field!(start_timestamp),
        ),
        text(
            InUri::Key,
            "end-timestamp",
            "End timestamp",
            "End of stream before the first fragment that starts at or after this time, to the \
             millisecond, by the clock of timestamp-source: RFC 3339 or seconds since the Unix \
             epoch. Unset: no end",
            field!(end_timestamp),
        ),
        flag(
            "end-at-live",
            "End at live edge",
            "End of stream at a fragment that the service received after the element was started, \
             or after 10 seconds in which nothing came",
            field!(end_at_live),
        ),
        text(
            InUri::Never,
            "checkpoint-location",
            "Checkpoint location",
            "File (file:///FOLDER/NAME.json or a path) that keeps how far downstream has taken the \
             stream: written as it plays and when it stops, and where it exists at the start, playback \
             goes on from it rather than at start-selector. One file a stream. Unset: none",
            field!(checkpoint_location),
        ),
        uint(
            "checkpoint-interval",
            "Checkpoint interval",
            "How often at most to write checkpoint-location, in milliseconds; 0: after every fragment",
            0,
            field!(checkpoint_interval),
        ),
        text(
            InUri::Key,
            "aws-region",
            "AWS region",
            "Region of the stream, such as eu-west-1. Unset: that of stream-arn, else as the AWS \
             SDK finds it (AWS_REGION, the profile, the machine)",
            field!(aws_region),
        ),
        text(
            InUri::Never,
            "access-key",
            "Access key id",
            "Access key id; needs secret-key. Unset: credentials as the AWS SDK finds them \
             (environment, profile, single sign-on, container, instance)",
            field!(access_key),
        ),
        secret(
            "secret-key",
            "Secret access key",
            "Secret access key of access-key. Cannot be read back",
            field!(secret_key),
        ),
        secret(
            "session-token",
            "Session token",
            "Session token, if access-key and secret-key are temporary. Cannot be read back",
            field!(session_token),
        ),
        text(
            InUri::Never,
            "profile",
            "Profile",
            "Profile of the AWS configuration files to take credentials from. Unset: as the AWS SDK finds it (AWS_PROFILE, else default)",
            field!(profile),
        ),
        text(
            InUri::Never,
            "role-arn",
            "Role ARN",
            "Role to assume, by STS AssumeRole, with whichever credentials the other properties \
             give. Unset: none",
            field!(role_arn),
        ),
        withheld(
            "external-id",
            "External id",
            "External id that the role of role-arn asks for. Unset: none",
            field!(external_id),
        ),
        text(
            InUri::Never,
            "credential-path",
            "Credential file",
            "File of kvssink's format to take credentials from: CREDENTIALS accessKey secretKey, or \
             CREDENTIALS accessKey expiration secretKey sessionToken. Read again before they expire, \
             and when they are refused. Unset: none",
            field!(credential_path),
        ),
        structure(
            "iot-certificate",
            "IoT certificate",
            "Certificate to get credentials from AWS IoT with, as in kvssink: a structure \
             iot-certificate with the strings endpoint, cert-path, key-path, ca-path, role-aliases \
             and, if it is not the stream's name, iot-thing-name; connection-timeout (3) and \
             completion-timeout (5) in seconds. Unset: none",
            field!(iot_certificate),
        ),
        text(
            InUri::Never,
            "endpoint-url",
            "Endpoint URL",
            "URL to send GetDataEndpoint to, for VPC endpoints and tests. Unset: the region's",
            field!(endpoint_url),
        ),
        text(
            InUri::Never,
            "data-endpoint-url",
            "Data endpoint URL",
            "URL to send GetMedia to; GetDataEndpoint is then not called. Unset: what \
             GetDataEndpoint answers",
            field!(data_endpoint_url),
        ),
        choice(
            "payload",
            "Payload",
            "What goes downstream: one continuous document, or (kvsgetmediasrc only) the service's bytes \
             as they are",
            field!(payload),
        ),
        choice(
            "mode",
            "Mode",
            "How the element behaves in a pipeline",
            field!(mode),
        ),
        uint(
            "latency",
            "Latency",
            "Minimum latency to report when live, in milliseconds: the duration of the stream's \
             fragments and the delay they may come with",
            0,
            field!(latency),
        ),
        clock_time(
            "max-gap",
            "Maximum gap",
            "Archive: a hole in the recording longer than this, in nanoseconds, is closed, so that \
             playback goes on at once; stream time shows it. Live: holes stay",
            field!(max_gap),
        ),
        clock_time(
            "max-lag",
            "Maximum lag",
            "Live: if what the service sends is further behind now than this, in nanoseconds, skip to \
             its latest fragment, and post kvs-gap (skipped-to-now). 0: never",
            field!(max_lag),
        ),
        choice(
            "timestamp-source",
            "Timestamp source",
            "Which clock stream time, seeks and end-timestamp mean",
            field!(timestamp_source),
        ),
        choice(
            "connect-audio",
            "Connect audio",
            "What to do about Amazon Connect's call audio, which is 8 kHz PCM and says it is AAC",
            field!(connect_audio),
        ),
        uint(
            "connect-timeout",
            "Connect timeout",
            "How long to wait for a connection and the headers of an answer before trying again, in \
             milliseconds",
            1,
            field!(connect_timeout),
        ),
        uint(
            "idle-timeout",
            "Idle timeout",
            "Replace a connection that has sent nothing for so long, in milliseconds; 0: never. A stream \
             that is silent is no error",
            0,
            field!(idle_timeout),
        ),
        int(
            "max-retries",
            "Maximum retries",
            "Failures in a row before giving up; -1: never. The row ends with a complete fragment, or a \
             connection that lasted for more than 20 s",
            -1,
            field!(max_retries),
        ),
        uint(
            "max-queue-bytes",
            "Maximum queue size",
            "How much to hold between network and downstream, in bytes. When that is full, the \
             service is made to wait",
            1,
            field!(max_queue_bytes),
        ),
    ]
}

/// The specs of all properties of the element.
pub(crate) static SPECS: LazyLock<Vec<ParamSpec>> =
    LazyLock::new(|| with_read_only(TABLE.iter().map(|property| property.spec.clone())));

/// The same once more, for another class to install: a spec belongs to one class.
pub(crate) fn other_specs() -> Vec<ParamSpec> {
    with_read_only(table().into_iter().map(|property| property.spec))
}

/// The settings, and what is read off the running element.
fn with_read_only(settings: impl Iterator<Item = ParamSpec>) -> Vec<ParamSpec> {
    let mut specs: Vec<_> = settings.collect();
    specs.push(
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb(
                "What happened since the element was started, and the latest complete fragment: a \
                 structure kvs-stats; times are nanoseconds since the Unix epoch",
            )
            .read_only()
            .build(),
    );
    specs.push(
        glib::ParamSpecString::builder("uri")
            .nick("URI")
            .blurb(
                "The stream and the settings as a URI: kvs://STREAM-NAME?PROPERTY=VALUE&... or \
                 kvs://?stream-arn=...; shows no credentials and takes none",
            )
            .mutable_ready()
            .build(),
    );
    specs
}
