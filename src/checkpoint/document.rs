//! The format of a checkpoint file: a JSON object in UTF-8.
//!
//! | key | value |
//! |---|---|
//! | `version` | 1 |
//! | `stream` | an object: `name`, and `arn` and `region` where they are known |
//! | `fragment-number` | of the last fragment taken, decimal, as a string |
//! | `continuation-token` | what it carried |
//! | `server-timestamp`, `producer-timestamp` | its times, RFC 3339 |
//!
//! What is not known is left out, but for the name of the stream and one of number and token. Keys that
//! are not known are ignored.

use crate::{request, resume::Point};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the format written, and the only one read.
pub const VERSION: u32 = 1;

/// What identifies a stream. Names, ARNs and regions that are not known match any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stream {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// Its region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

impl Stream {
    /// Adds what `other` knows of the same stream; if that is another stream, says which, and changes
    /// nothing.
    pub fn merge(&mut self, other: &Stream) -> Result<(), Stream> {
        let differ = |a: &Option<String>, b: &Option<String>| {
            a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| a != b)
        };
        if differ(&self.name, &other.name)
            || differ(&self.arn, &other.arn)
            || differ(&self.region, &other.region)
        {
            return Err(other.clone());
        }
        let add = |known: &mut Option<String>, new: &Option<String>| {
            if known.is_none() {
                known.clone_from(new);
            }
        };
        add(&mut self.name, &other.name);
        add(&mut self.arn, &other.arn);
        add(&mut self.region, &other.region);
        Ok(())
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.arn.as_ref().or(self.name.as_ref());
        write!(f, "stream {}", named.map_or("?", String::as_str))?;
        match &self.region {
            Some(region) => write!(f, " in {region}"),
            None => Ok(()),
        }
    }
}

/// All that a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The stream.
    pub stream: Stream,
    /// Where to go on.
    pub point: Point,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Json {
    version: u32,
    stream: Stream,
    #[serde(skip_serializing_if = "Option::is_none")]
    fragment_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    producer_timestamp: Option<String>,
}

/// What tells whether the rest can be read.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Document {
    /// Reads a file's contents, or says what is wrong with them.
    pub fn parse(contents: &[u8]) -> Result<Document, String> {
        let malformed = |error: serde_json::Error| error.to_string();
        let Version { version } = serde_json::from_slice(contents).map_err(malformed)?;
        if version != VERSION {
            return Err(format!("its version is {version}, not {VERSION}"));
        }
        let json: Json = serde_json::from_slice(contents).map_err(malformed)?;
        if json.stream.name.is_none() {
            return Err("it does not name its stream".to_owned());
        }
        let number = json.fragment_number;
        let token = json.continuation_token;
        if number
            .as_deref()
            .is_some_and(|n| !request::is_fragment_number(n))
        {
            return Err("its fragment-number is none".to_owned());
        }
        if token
            .as_deref()
            .is_some_and(|t| !request::is_continuation_token(t))
        {
            return Err("its continuation-token is none".to_owned());
        }
        if number.is_none() && token.is_none() {
            return Err("it has neither fragment-number nor continuation-token".to_owned());
        }
        Ok(Document {
            stream: json.stream,
            point: Point {
                number: number.unwrap_or_default(),
                token,
                server_timestamp: nanos("server-timestamp", json.server_timestamp)?,
                producer_timestamp: nanos("producer-timestamp", json.producer_timestamp)?,
            },
        })
    }

    /// The file's contents.
    pub fn print(&self) -> String {
        let Document { stream, point } = self;
        let json = Json {
            version: VERSION,
            stream: stream.clone(),
            fragment_number: Some(point.number.clone()).filter(|number| !number.is_empty()),
            continuation_token: point.token.clone(),
            server_timestamp: point.server_timestamp.and_then(rfc3339),
            producer_timestamp: point.producer_timestamp.and_then(rfc3339),
        };
        // Fails for maps whose keys are no strings, and there is none.
        let mut text = serde_json::to_string_pretty(&json).unwrap_or_default();
        text.push('\n');
        text
    }
}

fn rfc3339(nanos: u64) -> Option<String> {
    let time = Timestamp::from_nanosecond(nanos.into()).ok()?;
    Some(time.to_string())
}

fn nanos(key: &str, text: Option<String>) -> Result<Option<u64>, String> {
    let Some(text) = text else { return Ok(None) };
    let time: Timestamp = text
        .parse()
        .map_err(|error| format!("its {key} is no time: {error}"))?;
    let nanos = u64::try_from(time.as_nanosecond());
    let nanos = nanos.map_err(|_| format!("its {key} is out of range"))?;
    Ok(Some(nanos))
}
