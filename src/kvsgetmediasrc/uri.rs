//! `kvs://STREAM-NAME?aws-region=…&start-selector=earliest&…`, or `kvs://?stream-arn=…`.
//!
//! Query keys are property names; names keep their case. A URI says what to play, not who asks or
//! who is asked: it may come from anywhere, so it can neither choose credentials nor the host they
//! are sent to, nor a file that is written.

use super::{
    properties::{self, InUri, Property},
    settings::Settings,
};
use glib::Value;
use std::{fmt, str::FromStr};
use url::{Url, form_urlencoded};

pub(crate) const SCHEME: &str = "kvs";

/// A `kvs://` URI, each value checked by itself.
#[derive(Debug)]
pub(crate) struct KvsUri {
    values: Vec<(&'static Property, Value)>,
}

/// What is wrong with a URI; names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadUri(String);

impl From<BadUri> for glib::Error {
    fn from(error: BadUri) -> Self {
        glib::Error::new(gst::URIError::BadUri, &error.0)
    }
}

fn bad<T>(message: impl Into<String>) -> Result<T, BadUri> {
    Err(BadUri(message.into()))
}

impl FromStr for KvsUri {
    type Err = BadUri;

    fn from_str(text: &str) -> Result<Self, BadUri> {
        let url = Url::parse(text).map_err(|error| BadUri(format!("Not a URI: {error}")))?;
        if url.scheme() != SCHEME {
            return bad(format!("The scheme is {}, not {SCHEME}", url.scheme()));
        }
        if !text
            .get(SCHEME.len()..)
            .is_some_and(|rest| rest.starts_with("://"))
        {
            return bad("Not of the form kvs://STREAM-NAME");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return bad("user info: credentials do not belong in a URI; set properties instead");
        }
        if url.port().is_some() {
            return bad("port: a stream has none; set endpoint-url on the element instead");
        }
        if !matches!(url.path(), "" | "/") {
            return bad(format!("path: '{}' is not understood", url.path()));
        }
        if url.fragment().is_some() {
            return bad("fragment: '#' is not understood; percent-encode it in values");
        }

        let mut uri = KvsUri { values: Vec::new() };
        if let Some(host) = url.host_str().filter(|host| !host.is_empty()) {
            uri.add("stream-name", &decode(host))?;
        }
        for pair in url
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let Some((key, value)) = pair.split_once('=') else {
                return bad(format!("{}: without a value", decode(pair)));
            };
            uri.add(&decode(key), &decode(value))?;
        }
        match (uri.names("stream-name"), uri.names("stream-arn")) {
            (false, false) => bad("stream-name: missing; the form is kvs://STREAM-NAME"),
            (true, true) => bad("stream-arn: given together with a stream name; give one of them"),
            _ => Ok(uri),
        }
    }
}

impl KvsUri {
    fn names(&self, key: &str) -> bool {
        self.values
            .iter()
            .any(|(property, _)| property.name() == key)
    }

    fn add(&mut self, key: &str, text: &str) -> Result<(), BadUri> {
        let property = properties::find(key);
        if property.is_some_and(|property| property.in_uri == InUri::Never) {
            return bad(format!(
                "{key}: does not belong in a URI; set the property instead"
            ));
        }
        let Some(property) = property else {
            return bad(format!("{key}: no such property"));
        };
        if self.names(key) {
            return bad(format!("{key}: given twice"));
        }
        let value = property
            .parse(text)
            .map_err(|message| BadUri(format!("{key}: {message}")))?;
        self.values.push((property, value));
        Ok(())
    }

    /// The settings as a URI; `None` if they do not name one stream.
    pub(crate) fn of(settings: &Settings) -> Option<KvsUri> {
        if settings.stream_name.is_some() == settings.stream_arn.is_some() {
            return None;
        }
        let values = properties::TABLE
            .iter()
            .filter(|property| property.in_uri == InUri::Key)
            .filter(|property| property.print(&property.get(settings)).is_some())
            .map(|property| (property, property.get(settings)))
            .collect();
        Some(KvsUri { values })
    }

    /// Sets what the URI says. Settings that it does not mention stay, but for the other name of
    /// the stream.
    pub(crate) fn apply(&self, settings: &mut Settings) {
        settings.stream_name = None;
        settings.stream_arn = None;
        for (property, value) in &self.values {
            property.set(settings, value);
        }
    }
}

impl fmt::Display for KvsUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}://")?;
        let mut separator = '?';
        for (property, value) in &self.values {
            let Some(text) = property.print(value) else {
                continue;
            };
            if property.name() == "stream-name" {
                f.write_str(&encode(&text))?;
            } else {
                write!(f, "{separator}{}={}", property.name(), encode(&text))?;
                separator = '&';
            }
        }
        Ok(())
    }
}

// The form encoding, but for '+', which is itself: times have it in their offsets.

fn decode(text: &str) -> String {
    let text = text
        .replace('+', "%2B")
        .replace('=', "%3D")
        .replace('&', "%26");
    form_urlencoded::parse(text.as_bytes())
        .map(|(text, _)| text)
        .collect()
}

fn encode(text: &str) -> String {
    let text: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    text.replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvsgetmediasrc::{Mode, StartSelector, settings::Secret};
    use proptest::prelude::*;

    const ARN: &str = "arn:aws:kinesisvideo:eu-west-1:123456789012:stream/Cam_1/1511852108000";

    fn parse(uri: &str) -> Settings {
        let mut settings = Settings::default();
        uri.parse::<KvsUri>()
            .unwrap_or_else(|error| panic!("{uri}: {error}"))
            .apply(&mut settings);
        settings
    }

    fn error(uri: &str) -> String {
        uri.parse::<KvsUri>().unwrap_err().to_string()
    }

    #[test]
    fn names_keep_their_case() {
        assert_eq!(
            parse("kvs://My_Cam.1-x").stream_name.as_deref(),
            Some("My_Cam.1-x")
        );
        assert_eq!(parse("KVS://Cam").stream_name.as_deref(), Some("Cam"));
        assert_eq!(parse("kvs://%43am/").stream_name.as_deref(), Some("Cam"));
        assert_eq!(
            parse("kvs://1.2.3.4").stream_name.as_deref(),
            Some("1.2.3.4")
        );
        assert_eq!(
            parse("kvs://?stream-name=Cam").stream_name.as_deref(),
            Some("Cam")
        );
    }

    #[test]
    fn arns() {
        let plain = parse(&format!("kvs://?stream-arn={ARN}"));
        let encoded = parse(&format!("kvs:///?stream-arn={}", encode(ARN)));
        for settings in [plain, encoded] {
            assert_eq!(settings.stream_arn.as_deref(), Some(ARN));
            assert_eq!(settings.stream_name, None);
        }
    }

    #[test]
    fn keys_are_properties() {
        let settings = parse(
            "kvs://cam?start-selector=server-timestamp&start-timestamp=2024-05-01T12:00:00+02:00\
             &end-at-live=true&latency=500&max-retries=-1&max-gap=5000000000&mode=archive",
        );
        assert_eq!(settings.start_selector, StartSelector::ServerTimestamp);
        assert_eq!(
            settings.start_timestamp.as_deref(),
            Some("2024-05-01T12:00:00+02:00")
        );
        assert!(settings.end_at_live);
        assert_eq!(settings.latency, 500);
        assert_eq!(settings.max_retries, -1);
        assert_eq!(settings.max_gap, 5_000_000_000);
        assert_eq!(settings.mode, Mode::Archive);
    }

    #[test]
    fn only_what_is_mentioned_changes() {
        let mut settings = parse("kvs://one?latency=500");
        settings.aws_region = Some("eu-west-1".to_owned());
        format!("kvs://?stream-arn={ARN}")
            .parse::<KvsUri>()
            .unwrap()
            .apply(&mut settings);
        assert_eq!(settings.stream_name, None);
        assert_eq!(settings.latency, 500);
        assert_eq!(settings.aws_region.as_deref(), Some("eu-west-1"));
    }

    #[test]
    fn errors_name_the_key() {
        for key in [
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
        ] {
            let message = error(&format!("kvs://cam?{key}=hush"));
            assert!(
                message.starts_with(&format!("{key}: does not belong")),
                "{message}"
            );
            assert!(!message.contains("hush"));
        }
        for (uri, start) in [
            ("kvs://cam?colour=red", "colour: no such"),
            ("kvs://cam?uri=kvs", "uri: no such"),
            ("kvs://cam?stats=1", "stats: no such"),
            ("kvs://cam?name=x", "name: no such"),
            ("kvs://cam?latency", "latency: without"),
            ("kvs://cam?latency=soon", "latency: 'soon'"),
            ("kvs://cam?latency=-1", "latency: "),
            (
                "kvs://cam?connect-timeout=0",
                "connect-timeout: 0 is out of range",
            ),
            (
                "kvs://cam?max-retries=-2",
                "max-retries: -2 is out of range",
            ),
            ("kvs://cam?latency=1&latency=2", "latency: given twice"),
            ("kvs://cam?start-selector=later", "start-selector: 'later'"),
            ("kvs://cam?start-selector=0", "start-selector: '0'"),
            ("kvs://cam?end-at-live=perhaps", "end-at-live: "),
            ("kvs://cam?start-timestamp=yesterday", "start-timestamp: "),
            ("kvs://cam?stream-name=other", "stream-name: given twice"),
            ("kvs://c%20m", "stream-name: "),
            ("kvs://", "stream-name: missing"),
            ("kvs:cam", "Not of the form"),
            ("kvs:/cam", "Not of the form"),
            ("http://cam", "The scheme"),
            ("kvs://user@cam", "user info"),
            ("kvs://user:hush@cam", "user info"),
            ("kvs://cam:80", "port"),
            ("kvs://cam/live", "path"),
            ("kvs://cam#live", "fragment"),
            ("kvs://?stream-arn=cam", "stream-arn: "),
            ("cam", "Not a URI"),
            ("", "Not a URI"),
        ] {
            let message = error(uri);
            assert!(message.starts_with(start), "{uri}: {message}");
            assert!(!message.contains("hush"));
        }
        let both = error(&format!("kvs://cam?stream-arn={ARN}"));
        assert!(both.starts_with("stream-arn: given together"), "{both}");
    }

    #[test]
    fn prints_no_credential_and_no_default() {
        let settings = Settings {
            stream_name: Some("Cam".to_owned()),
            aws_region: Some("eu-west-1".to_owned()),
            access_key: Some("hush".to_owned()),
            secret_key: Some(Secret::new("hush".to_owned())),
            session_token: Some(Secret::new("hush".to_owned())),
            profile: Some("hush".to_owned()),
            role_arn: Some("hush".to_owned()),
            external_id: Some(Secret::new("hush".to_owned())),
            endpoint_url: Some("hush".to_owned()),
            data_endpoint_url: Some("hush".to_owned()),
            mode: Mode::Live,
            ..Settings::default()
        };
        assert_eq!(
            KvsUri::of(&settings).unwrap().to_string(),
            "kvs://Cam?aws-region=eu-west-1&mode=live"
        );
        assert!(KvsUri::of(&Settings::default()).is_none());
        let both = Settings {
            stream_arn: Some(ARN.to_owned()),
            ..settings
        };
        assert!(KvsUri::of(&both).is_none());
    }

    #[test]
    fn prints_what_it_parsed() {
        for uri in [
            "kvs://Cam".to_owned(),
            format!("kvs://?stream-arn={}", encode(ARN)),
            "kvs://cam?start-selector=producer-timestamp\
             &start-timestamp=2024-05-01T12%3A00%3A00%2B02%3A00&end-at-live=true&idle-timeout=0"
                .to_owned(),
        ] {
            assert_eq!(uri.parse::<KvsUri>().unwrap().to_string(), uri);
            assert_eq!(KvsUri::of(&parse(&uri)).unwrap().to_string(), uri);
        }
    }

    proptest! {
        #[test]
        fn settings_survive(
            name in "[a-zA-Z0-9_.-]{1,256}",
            token in "[a-zA-Z0-9_.-]{1,128}",
            external in any::<String>(),
            latency: u32,
            max_gap: u64,
            end_at_live: bool,
        ) {
            let settings = Settings {
                stream_name: Some(name),
                continuation_token: Some(token),
                external_id: Some(Secret::new(external)),
                start_selector: StartSelector::ContinuationToken,
                latency,
                max_gap,
                end_at_live,
                ..Settings::default()
            };
            let uri = KvsUri::of(&settings).unwrap().to_string();
            let again = parse(&uri);
            prop_assert_eq!(&again.stream_name, &settings.stream_name);
            prop_assert_eq!(&again.continuation_token, &settings.continuation_token);
            prop_assert_eq!(again.start_selector, settings.start_selector);
            prop_assert_eq!(again.latency, settings.latency);
            prop_assert_eq!(again.max_gap, settings.max_gap);
            prop_assert_eq!(again.end_at_live, settings.end_at_live);
            prop_assert_eq!(KvsUri::of(&again).unwrap().to_string(), uri);
        }

        #[test]
        fn any_text_is_encoded(text: String) {
            prop_assert_eq!(decode(&encode(&text)), text);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<KvsUri>();
            let _ = format!("kvs://{text}").parse::<KvsUri>();
            let _ = format!("kvs://cam?{text}").parse::<KvsUri>();
        }
    }
}
