//! What a client needs to know.

use super::Credentials;
use crate::error::{Error, ErrorKind};
use crate::request::StreamId;
use std::{fmt, time::Duration};
use url::Url;

/// Which stream, who asks, and where.
#[derive(Clone)]
pub struct Config {
    /// The stream.
    pub stream: StreamId,
    /// `None`: the SDK's default chain (`AWS_REGION`, the profile, the instance).
    pub region: Option<String>,
    /// Who asks.
    pub credentials: Credentials,
    /// The control plane, instead of the region's.
    pub endpoint_url: Option<String>,
    /// The endpoint of GetMedia; GetDataEndpoint is not called.
    pub data_endpoint_url: Option<String>,
    /// How long a call may take until its response headers are there, without the time that getting
    /// credentials takes; zero: for ever.
    pub connect_timeout: Duration,
}

impl Config {
    /// A configuration with nothing but a stream: region and credentials of the SDK's default
    /// chain, the region's endpoints, 10 s until response headers.
    pub fn new(stream: StreamId) -> Self {
        Config {
            stream,
            region: None,
            credentials: Credentials::Default,
            endpoint_url: None,
            data_endpoint_url: None,
            connect_timeout: Duration::from_secs(10),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        for (name, url) in [
            ("endpoint-url", &self.endpoint_url),
            ("data-endpoint-url", &self.data_endpoint_url),
        ] {
            if let Some(url) = url {
                check_url(name, url)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("stream", &self.stream)
            .field("region", &self.region)
            .field("credentials", &self.credentials)
            .field("endpoint_url", &self.endpoint_url.as_deref().map(shown))
            .field(
                "data_endpoint_url",
                &self.data_endpoint_url.as_deref().map(shown),
            )
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

/// An http or https URL with a host and without user info, which would end in logs.
pub(super) fn check_url(name: &str, text: &str) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Settings, format!("{name} {why}")));
    match Url::parse(text) {
        Err(error) => refuse(format!("is not a URL: {error}")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => refuse(format!(
            "must begin with https:// or http://, not {}:",
            url.scheme()
        )),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            refuse("must not carry a user name or password: the service does not use them".into())
        }
        Ok(_) => Ok(()),
    }
}

/// The URL without its user info and query.
fn shown(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) if url.host().is_some() => {
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            url.to_string()
        }
        _ => "(not a URL)".into(),
    }
}
