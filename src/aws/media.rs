//! GetMedia and its body.

use super::{Config, error, probe::Probe, sdk};
use crate::error::{Error, ErrorKind};
use crate::request::{Selector, StreamId};
use aws_sdk_kinesisvideomedia::{
    config::Config as MediaConfig,
    error::SdkError,
    operation::get_media::{GetMediaError, GetMediaOutput},
    primitives::ByteStream,
    types::{StartSelector, StartSelectorType},
};
use aws_smithy_types::DateTime;
use bytes::Bytes;
use std::fmt;

/// The call, ready to be awaited.
pub(super) fn get_media<'a>(
    config: &'a Config,
    context: &'a sdk::Context,
    probe: &'a Probe,
    endpoint: &'a str,
    start: &Selector,
) -> Result<impl Future<Output = Result<GetMediaOutput, SdkError<GetMediaError>>> + Send + 'a, Error>
{
    let request = context
        .media
        .get_media()
        .start_selector(start_selector(start)?);
    let request = match &config.stream {
        StreamId::Name(name) => request.stream_name(name),
        StreamId::Arn(arn) => request.stream_arn(arn),
    };
    let settings = MediaConfig::builder()
        .endpoint_url(endpoint)
        .timeout_config(sdk::timeouts(config.connect_timeout));
    Ok(request
        .customize()
        .config_override(settings)
        .interceptor(probe.clone())
        .send())
}

fn start_selector(start: &Selector) -> Result<StartSelector, Error> {
    let builder = StartSelector::builder();
    let builder = match start {
        Selector::Now => builder.start_selector_type(StartSelectorType::Now),
        Selector::Earliest => builder.start_selector_type(StartSelectorType::Earliest),
        Selector::AfterFragment(number) => builder
            .start_selector_type(StartSelectorType::FragmentNumber)
            .after_fragment_number(number),
        Selector::ProducerTimestamp(ms) => builder
            .start_selector_type(StartSelectorType::ProducerTimestamp)
            .start_timestamp(timestamp(*ms)?),
        Selector::ServerTimestamp(ms) => builder
            .start_selector_type(StartSelectorType::ServerTimestamp)
            .start_timestamp(timestamp(*ms)?),
        Selector::ContinuationToken(token) => builder
            .start_selector_type(StartSelectorType::ContinuationToken)
            .continuation_token(token),
    };
    builder
        .build()
        .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))
}

/// From whole milliseconds: by way of a float the request would say 1511852108.513000011.
fn timestamp(ms: u64) -> Result<DateTime, Error> {
    i64::try_from(ms).map(DateTime::from_millis).map_err(|_| {
        Error::new(
            ErrorKind::Settings,
            format!("start time {ms} ms is out of range"),
        )
    })
}

/// The body of a GetMedia response: endless, until the service or the network ends it.
pub struct Body {
    stream: Option<ByteStream>,
    request_id: Option<String>,
    host: Option<String>,
}

impl Body {
    pub(super) fn new(stream: ByteStream, request_id: Option<String>, probe: &Probe) -> Self {
        Body {
            stream: Some(stream),
            request_id,
            host: probe.seen().host,
        }
    }

    /// The service's id of the request.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// The next bytes, in chunks as the network delivers them; `None`: the service has ended the
    /// body cleanly, as it does after 45 minutes at the latest.
    ///
    /// Silence is not an error, however long: a watchdog is the caller's. The future may be dropped
    /// at any time without losing bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Network`]: the connection broke. `None` follows.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        match self.stream.as_mut()?.next().await {
            Some(Ok(bytes)) => Some(Ok(bytes)),
            Some(Err(cause)) => {
                self.stream = None;
                Some(Err(error::of_body(
                    &cause,
                    self.host.as_deref(),
                    self.request_id(),
                )))
            }
            None => {
                self.stream = None;
                None
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("request_id", &self.request_id)
            .field("ended", &self.stream.is_none())
            .finish_non_exhaustive()
    }
}
