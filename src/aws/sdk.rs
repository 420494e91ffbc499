//! What the clients of a process share: one SDK configuration for each set of credentials, and with
//! it the credentials themselves, connections, TLS sessions and data endpoints.

use super::{
    config::Config,
    credentials::Credentials,
    flight::{Flight, Versioned},
    internal, limiter,
};
use crate::{
    error::{Error, ErrorKind},
    lock::lock,
    request::StreamId,
};
use aws_sdk_kinesisvideo as control;
use aws_sdk_kinesisvideomedia as media;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, LazyLock, Mutex, Weak},
    time::{Duration, Instant},
};
use tokio::{runtime, sync::Semaphore};

/// How many configurations stay after their last client: what a stopped element and the one that
/// follows it share.
const KEPT: usize = 8;

/// How many endpoints are looked up at a time. Each takes a connection, and a wall of streams that
/// starts at once is through sooner with few of them, used again, than with one a stream.
const LOOK_UPS_AT_ONCE: usize = 16;

/// So long after a refusal another one may be for other reasons.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);

/// From this many streams on, endpoints that nobody uses any more are forgotten.
const KEPT_ENDPOINTS: usize = 1024;

/// Who shares an [`Sdk`].
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Connections live in the runtime that made them: another runtime gets its own.
    runtime: runtime::Id,
    region: Option<String>,
    credentials: Credentials,
    endpoint_url: Option<String>,
}

/// What clients of equal [`Key`] share.
pub(super) struct Sdk {
    key: Key,
    context: Flight<Arc<Context>>,
    endpoints: Mutex<HashMap<StreamId, Arc<Flight<String>>>>,
    /// The account's calls of GetDataEndpoint, as far as these credentials make them.
    look_ups: Arc<limiter::Limiter>,
    /// Those under way.
    turns: Semaphore,
    /// When the configuration was last given up for a refusal.
    refused: Mutex<Option<Instant>>,
}

/// A loaded configuration, in use until its credentials fail.
pub(super) struct Context {
    region: String,
    /// The control plane.
    pub control: control::Client,
    /// GetMedia; the endpoint is given with each call.
    pub media: media::Client,
}

#[derive(Default)]
struct Registry {
    all: HashMap<Key, Weak<Sdk>>,
    recent: VecDeque<Arc<Sdk>>,
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

impl Sdk {
    /// The one for this configuration, on the current runtime.
    pub fn shared(config: &Config) -> Result<Arc<Sdk>, Error> {
        let runtime = runtime::Handle::try_current()
            .map_err(|_| internal("the AWS client was used outside a tokio runtime"))?;
        let key = Key {
            runtime: runtime.id(),
            region: config.region.clone(),
            credentials: config.credentials.clone(),
            endpoint_url: config.endpoint_url.clone(),
        };
        Ok(lock(&REGISTRY).get(key))
    }

    /// The configuration, loaded if nobody has yet or if it was given up.
    pub async fn context(&self) -> Result<Versioned<Arc<Context>>, Error> {
        self.context.get(Context::load(&self.key)).await
    }

    /// The configuration of this version has failed: the next call loads another.
    pub fn forget_context(&self, version: u64) {
        self.context.forget(version);
    }

    /// The same, where it may only be that something is refused to these credentials: it costs everybody
    /// who shares them, and one who is refused may try again and again.
    pub fn forget_refused(&self, version: u64) {
        let mut last = lock(&self.refused);
        if last.is_none_or(|last| last.elapsed() > REFUSED_AGAIN) {
            *last = Some(Instant::now());
            self.forget_context(version);
        }
    }

    /// Waits for a turn to call GetDataEndpoint, and for the account to have a call left.
    pub async fn look_up(&self) -> (limiter::Permit, impl Sized + '_) {
        let turn = self.turns.acquire().await;
        (self.look_ups.acquire().await, turn)
    }

    /// The data endpoint of a stream.
    pub fn endpoint(&self, stream: &StreamId) -> Arc<Flight<String>> {
        let mut endpoints = lock(&self.endpoints);
        if endpoints.len() >= KEPT_ENDPOINTS && !endpoints.contains_key(stream) {
            endpoints.retain(|_, endpoint| Arc::strong_count(endpoint) > 1);
        }
        endpoints.entry(stream.clone()).or_default().clone()
    }
}

impl Registry {
    fn get(&mut self, key: Key) -> Arc<Sdk> {
        let sdk = self
            .all
            .get(&key)
            .and_then(Weak::upgrade)
            .unwrap_or_else(|| {
                let sdk = Arc::new(Sdk {
                    key: key.clone(),
                    context: Flight::default(),
                    endpoints: Mutex::default(),
                    look_ups: limiter::Limiter::new(limiter::LOOK_UPS),
                    turns: Semaphore::new(LOOK_UPS_AT_ONCE),
                    refused: Mutex::default(),
                });
                self.all.retain(|_, sdk| sdk.strong_count() > 0);
                self.all.insert(key, Arc::downgrade(&sdk));
                sdk
            });
        self.recent.retain(|other| !Arc::ptr_eq(other, &sdk));
        self.recent.push_front(sdk.clone());
        self.recent.truncate(KEPT);
        sdk
    }
}

impl Context {
    async fn load(key: &Key) -> Result<Arc<Context>, Error> {
        let config = key.credentials.sdk_config(key.region.as_deref()).await;
        let Some(region) = config.region().map(ToString::to_string) else {
            return Err(no_region());
        };
        if !is_host_label(&region) {
            let message = format!("aws-region: {region:?} is not a region's name");
            return Err(Error::new(ErrorKind::Settings, message));
        }
        // One attempt: the SDK's retries would be calls that the limiter does not see, on top of
        // those of the session's own policy.
        let mut builder = control::config::Builder::from(&config)
            .retry_config(control::config::retry::RetryConfig::disabled());
        if let Some(url) = &key.endpoint_url {
            builder = builder.endpoint_url(url);
        }
        let control = control::Client::from_conf(builder.build());
        // Stalled-stream protection ends a body that is silent for some 6 s, and the stream of a
        // paused producer is just that.
        let builder = media::config::Builder::from(&config)
            .retry_config(media::config::retry::RetryConfig::disabled())
            .stalled_stream_protection(media::config::StalledStreamProtectionConfig::disabled());
        let media = media::Client::from_conf(builder.build());
        Ok(Arc::new(Context {
            region,
            control,
            media,
        }))
    }

    /// The region in which requests are signed.
    pub fn region(&self) -> &str {
        &self.region
    }
}

/// What the SDK accepts for a region: it becomes part of a host name.
fn is_host_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn no_region() -> Error {
    Error::new(
        ErrorKind::Settings,
        "no AWS region: set aws-region, or the environment variable AWS_REGION, or a region in the \
         AWS profile",
    )
}

/// The timeouts of one call: `until_headers` from connecting to the response's headers, and a wider
/// one around the whole attempt, for the rest of an error's body that never comes. Neither holds for
/// the body of GetMedia.
pub(super) fn timeouts(until_headers: Duration) -> aws_smithy_types::timeout::TimeoutConfig {
    let builder = aws_smithy_types::timeout::TimeoutConfig::builder();
    if until_headers.is_zero() {
        return builder
            .disable_connect_timeout()
            .disable_read_timeout()
            .disable_operation_attempt_timeout()
            .disable_operation_timeout()
            .build();
    }
    builder
        .connect_timeout(until_headers)
        .read_timeout(until_headers)
        .operation_attempt_timeout(super::credentials::LOAD_TIMEOUT + until_headers)
        .disable_operation_timeout()
        .build()
}
