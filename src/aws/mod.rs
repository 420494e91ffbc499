//! Amazon Kinesis Video Streams through the AWS SDK: configuration, credentials, the data endpoint,
//! and GetMedia as a stream of `Bytes`.
//!
//! ```text
//! Config ──► Client ──► data_endpoint() ──► get_media(endpoint, selector) ──► Body ──► Bytes
//! ```
//!
//! A call is made once: the SDK's own retries are off, so that one policy, the caller's, decides
//! when to ask again, and every call to the service is one that was meant. What went wrong is an
//! [`Error`] whose kind says what to do about it: look the endpoint up again
//! ([`Client::forget_data_endpoint`]), get new credentials ([`Client::reload_credentials`]), wait,
//! or give up.
//!
//! All clients of the process share what they can: `sdk` keeps configurations, credentials and
//! connections for them, `flight` lets one look a data endpoint up for all, and `limiter` counts the
//! calls a second that the service takes: 5 for a stream, 300 look-ups for an account.

mod config;
mod credentials;
mod endpoint;
mod error;
mod file;
mod flight;
mod iot;
mod limiter;
mod media;
mod probe;
mod sdk;

pub use config::Config;
pub use credentials::Credentials;
pub use iot::IotCertificate;
pub use media::Body;
pub(crate) use probe::{LOG, current_call, without_secrets};

use crate::error::{Error, ErrorKind, Operation};
use crate::request::Selector;
use error::Call;
use flight::{Flight, Versioned};
use limiter::Limiter;
use probe::Probe;
use sdk::{Context, Sdk};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A connection to the service for one stream; cheap to clone.
///
/// Used inside a tokio runtime. Every future it returns may be dropped at any time, which cancels
/// what it was doing.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    region: String,
    sdk: Arc<Sdk>,
    endpoint: Arc<Flight<String>>,
    endpoint_calls: Arc<Limiter>,
    media_calls: Arc<Limiter>,
    /// What this client used last, so that it only throws away what has failed it, and not what
    /// another client has renewed since.
    used_context: AtomicU64,
    used_endpoint: AtomicU64,
}

impl Client {
    /// Resolves the region and sets the credentials chain up; no call of the service yet, and no
    /// credentials are looked for before the first one.
    ///
    /// Clients of the same region, credentials and control endpoint share one SDK configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`]: no region anywhere, or an endpoint that is not a URL.
    pub async fn new(config: Config) -> Result<Client, Error> {
        config.check()?;
        let sdk = Sdk::shared(&config)?;
        let context = sdk.context().await?;
        let region = context.value.region();
        let stream = config.stream.name();
        let control = config.endpoint_url.as_deref().unwrap_or_default();
        let data = config.data_endpoint_url.as_deref().unwrap_or(control);
        let inner = Inner {
            endpoint: sdk.endpoint(&config.stream),
            endpoint_calls: limiter::of(Operation::GetDataEndpoint, control, region, stream),
            media_calls: limiter::of(Operation::GetMedia, data, region, stream),
            region: region.to_owned(),
            used_context: AtomicU64::new(context.version),
            used_endpoint: AtomicU64::new(0),
            sdk,
            config,
        };
        Ok(Client {
            inner: Arc::new(inner),
        })
    }

    /// The region, as it was given or found.
    pub fn region(&self) -> &str {
        &self.inner.region
    }

    /// The endpoint on which GetMedia is served for this stream: `data_endpoint_url`, or the answer
    /// of GetDataEndpoint, kept until [`forget_data_endpoint`](Self::forget_data_endpoint).
    ///
    /// Concurrent callers of the process share one call and its outcome.
    ///
    /// # Errors
    /// Those of the call: see [`ErrorKind`].
    pub async fn data_endpoint(&self) -> Result<String, Error> {
        let inner = &*self.inner;
        if let Some(endpoint) = &inner.config.data_endpoint_url {
            return Ok(endpoint.clone());
        }
        // Before waiting for another's call: if its credentials fail, they are this client's too.
        let context = self.context().await?;
        let look_up = async {
            let (of_account, _turn) = inner.sdk.look_up().await;
            let of_stream = inner.endpoint_calls.acquire().await;
            let probe = Probe::new(Operation::GetDataEndpoint, inner.config.stream.name());
            let look_up = endpoint::look_up(&inner.config, &context, &probe);
            let answer = probe.watch(look_up).await;
            of_account.answered();
            of_stream.answered();
            let call = self.call(Operation::GetDataEndpoint, &context, &probe);
            let endpoint = answer
                .map_err(|error| self.refused(call.error(error)))?
                .ok_or_else(|| call.nonsense("there is no DataEndpoint in it"))?;
            config::check_url("its DataEndpoint", &endpoint)
                .map_err(|error| call.nonsense(&error.message))?;
            Ok(endpoint)
        };
        let endpoint = inner.endpoint.get(look_up).await?;
        inner
            .used_endpoint
            .store(endpoint.version, Ordering::Relaxed);
        Ok(endpoint.value)
    }

    /// The endpoint has failed: the next [`data_endpoint`](Self::data_endpoint) looks it up again,
    /// unless another client has done so since this one asked.
    pub fn forget_data_endpoint(&self) {
        let inner = &*self.inner;
        inner
            .endpoint
            .forget(inner.used_endpoint.load(Ordering::Relaxed));
    }

    /// Asks `endpoint` for media from `start` on, and returns when the response's headers are there.
    ///
    /// Waits its turn where the stream has had its 5 calls of this second.
    ///
    /// # Errors
    /// Those of the call: see [`ErrorKind`]. [`ErrorKind::Network`] after `connect_timeout` without
    /// response headers.
    pub async fn get_media(&self, endpoint: &str, start: &Selector) -> Result<Body, Error> {
        config::check_url("data endpoint", endpoint)?;
        let permit = self.inner.media_calls.acquire().await;
        let context = self.context().await?;
        let config = &self.inner.config;
        let probe = Probe::new(Operation::GetMedia, config.stream.name());
        let call = media::get_media(config, &context, &probe, endpoint, start)?;
        let output = probe.watch(call).await;
        permit.answered();
        match output {
            Ok(output) => Ok(Body::new(output.payload, probe.seen().request_id, &probe)),
            Err(error) => Err(self.refused(
                self.call(Operation::GetMedia, &context, &probe)
                    .error(error),
            )),
        }
    }

    /// The credentials have expired or are refused: the next call gets them afresh, profile files
    /// read again, roles assumed again. Calls and bodies under way are not touched.
    ///
    /// Of several clients that the same credentials have failed, the first call replaces them for
    /// all, and those that follow find them replaced.
    pub fn reload_credentials(&self) {
        let inner = &*self.inner;
        inner
            .sdk
            .forget_context(inner.used_context.load(Ordering::Relaxed));
    }

    async fn context(&self) -> Result<Arc<Context>, Error> {
        let Versioned { value, version } = self.inner.sdk.context().await?;
        self.inner.used_context.store(version, Ordering::Relaxed);
        Ok(value)
    }

    /// What a call failed with. A refusal is final for this client, but what it was read from may be
    /// mended: who comes next reads the files again.
    fn refused(&self, error: Error) -> Error {
        let inner = &*self.inner;
        let mendable = match error.kind {
            ErrorKind::NotAuthorized => inner.config.credentials.renewable(),
            // In another region there may be such a stream.
            ErrorKind::NotFound => inner.config.region.is_none(),
            _ => false,
        };
        if mendable {
            let version = inner.used_context.load(Ordering::Relaxed);
            inner.sdk.forget_refused(version);
        }
        error
    }

    fn call<'a>(&'a self, operation: Operation, context: &'a Context, probe: &Probe) -> Call<'a> {
        Call {
            operation,
            config: &self.inner.config,
            region: context.region(),
            seen: probe.seen(),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

fn internal(message: &str) -> Error {
    Error::new(ErrorKind::Internal, message)
}
