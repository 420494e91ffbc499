//! What the SDK does not tell about a call: which host it asked, when it said it was, and what the
//! answer's headers were; and which call it is that the SDK's log speaks of.

use crate::{error::Operation, lock::lock};
use aws_sdk_kinesisvideo::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        http::HttpResponse,
        interceptors::{
            BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
        },
    },
    error::BoxError,
};
use aws_smithy_types::{DateTime, date_time::Format};
use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use url::Url;

/// The target of our own lines between those of the SDK.
pub(crate) const LOG: &str = "kvs_aws";

tokio::task_local! {
    /// The call that is being worked at.
    static CURRENT: Probe;
}

/// Observes one call.
#[derive(Clone)]
pub(super) struct Probe(Arc<Inner>);

struct Inner {
    operation: Operation,
    /// Counts the calls of the process: what the lines of a log that belong together share.
    number: u64,
    stream: String,
    seen: Mutex<Seen>,
}

/// Which call is being worked at, as a line of a log begins; its request id too, once that is known.
pub(crate) fn current_call() -> Option<String> {
    CURRENT.try_with(ToString::to_string).ok()
}

/// The text without what the call that is being worked at keeps secret.
pub(crate) fn without_secrets(text: &str) -> String {
    CURRENT
        .try_with(|probe| redact(text, lock(&probe.0.seen).secrets.iter().map(String::as_str)))
        .unwrap_or_else(|_| text.to_owned())
}

/// The text with each of the secrets in it replaced.
pub(super) fn redact<'a>(text: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let mut secrets: Vec<&str> = secrets.into_iter().filter(|s| !s.is_empty()).collect();
    // The longest first: a shorter one may be a part of it.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut text = text.to_owned();
    for secret in secrets {
        text = text.replace(secret, "…");
    }
    text
}

/// What a [`Probe`] saw. Not `Debug`: it knows secrets, to keep them out of messages.
#[derive(Clone, Default)]
pub(super) struct Seen {
    /// Host, and port if it is not the scheme's own; `None`: the request was never sent.
    pub host: Option<String>,
    /// When the request says it was signed, in seconds since the Unix epoch.
    pub signed_at: Option<i64>,
    /// The answer's `Date`, in seconds since the Unix epoch.
    pub answered_at: Option<i64>,
    /// The service's id of the request.
    pub request_id: Option<String>,
    /// Texts of the request that no message may repeat, though the answer may.
    pub secrets: Vec<String>,
}

/// The headers in which documents and services give a request's id.
const REQUEST_ID: [&str; 3] = ["x-amzn-requestid", "x-amz-requestid", "x-amz-request-id"];

impl Probe {
    pub fn new(operation: Operation, stream: &str) -> Self {
        static CALLS: AtomicU64 = AtomicU64::new(1);
        Probe(Arc::new(Inner {
            operation,
            number: CALLS.fetch_add(1, Ordering::Relaxed),
            stream: stream.to_owned(),
            seen: Mutex::default(),
        }))
    }

    /// The call, in whose name the SDK speaks meanwhile.
    pub async fn watch<T>(&self, call: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), call).await
    }

    pub fn seen(&self) -> Seen {
        lock(&self.0.seen).clone()
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            operation,
            number,
            stream,
            seen: _,
        } = &*self.0;
        write!(f, "{operation} #{number} of {stream}")?;
        if let Some(request_id) = &lock(&self.0.seen).request_id {
            write!(f, ", request {request_id}")?;
        }
        f.write_str(": ")
    }
}

impl Intercept for Probe {
    fn name(&self) -> &'static str {
        "kvsgetmediasrc"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let headers = request.headers();
        let mut seen = lock(&self.0.seen);
        seen.host = Url::parse(request.uri()).ok().and_then(|url| {
            let host = url.host_str()?;
            Some(match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            })
        });
        seen.signed_at = headers.get("x-amz-date").and_then(signing_time);
        seen.secrets.clear();
        if let Some(token) = headers.get("x-amz-security-token") {
            seen.secrets.push(token.to_owned());
        }
        if let Some(authorization) = headers.get("authorization") {
            seen.secrets.push(authorization.to_owned());
            if let Some((_, signature)) = authorization.split_once("Signature=") {
                seen.secrets.push(signature.to_owned());
            }
        }
        drop(seen);
        let uri = request.uri().split('?').next().unwrap_or_default();
        tracing::info!(target: LOG, "{} {uri}", request.method());
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response: &HttpResponse = context.response();
        let headers = response.headers();
        let mut seen = lock(&self.0.seen);
        seen.request_id = REQUEST_ID
            .iter()
            .find_map(|name| headers.get(name))
            .map(str::to_owned);
        seen.answered_at = headers
            .get("date")
            .and_then(|date| DateTime::from_str(date, Format::HttpDate).ok())
            .map(|date| date.secs());
        drop(seen);
        tracing::info!(target: LOG, "answered with HTTP {}", response.status());
        Ok(())
    }
}

/// `20261122T105909Z` in seconds since the Unix epoch.
fn signing_time(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    if !text.is_ascii() || date.len() != 8 || time.len() != 6 {
        return None;
    }
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..]
    );
    DateTime::from_str(&text, Format::DateTime)
        .ok()
        .map(|time| time.secs())
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_signing_times() {
        assert_eq!(super::signing_time("20261122T105909Z"), Some(1795345149));
        assert_eq!(super::signing_time("20261122T1059Z"), None);
        assert_eq!(super::signing_time("2026-11-22"), None);
    }
}
