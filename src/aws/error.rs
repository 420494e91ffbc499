//! From the SDK's errors to [`Error`]: what went wrong, and what to do about it.
//!
//! The SDK's own texts say little ("dispatch failure", "service error"); what happened stands in the
//! chain of sources below them, in the response's headers, and in what the request said.

use super::{
    Config, Credentials,
    credentials::LOAD_TIMEOUT,
    probe::{Seen, redact},
};
use crate::error::{Error, ErrorKind, Operation};
use crate::request::StreamId;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesisvideo::{
    config::http::HttpResponse,
    error::{ConnectorError, ErrorMetadata, ProvideErrorMetadata, SdkError},
};
use std::{error::Error as StdError, iter};

/// A signature is refused as old when the clocks are further apart than some 5 minutes; the SDK
/// looks for a wrong clock from 4 minutes on.
const SKEW: i64 = 4 * 60;

/// No message gets longer by what somebody else wrote.
const LONGEST_QUOTE: usize = 400;

/// A call that has failed.
pub(super) struct Call<'a> {
    pub operation: Operation,
    pub config: &'a Config,
    pub region: &'a str,
    pub seen: Seen,
}

/// What the service answered.
struct Answer<'a> {
    status: u16,
    code: Option<&'a str>,
    /// The service's message as it ends ours, in brackets; empty without one.
    quote: String,
}

impl Call<'_> {
    /// The error of a call that the SDK reports as failed.
    pub fn error<E>(&self, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        if let Some(cause) = find::<CredentialsError>(&error) {
            return self.credentials(cause);
        }
        let never_sent = self.seen.host.is_none();
        match &error {
            SdkError::ServiceError(context) => self.service(context.err().meta(), context.raw()),
            SdkError::TimeoutError(_) if never_sent => self.slow_credentials(),
            SdkError::TimeoutError(_) => self.of(
                ErrorKind::Network,
                format!("{} did not finish its answer", self.host()),
            ),
            SdkError::DispatchFailure(_) if never_sent => {
                let causes = self.causes(&error);
                if causes.contains("identity resolver timed out") {
                    self.slow_credentials()
                } else {
                    self.of(
                        ErrorKind::Settings,
                        format!(
                            "the request could not be made for region {} with credentials of {}: \
                             {causes}",
                            self.region,
                            self.config.credentials.source()
                        ),
                    )
                }
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => self.of(
                ErrorKind::Network,
                format!(
                    "no answer from {} within {:?} (connect-timeout)",
                    self.host(),
                    self.config.connect_timeout
                ),
            ),
            SdkError::DispatchFailure(_) => self.unreachable(&self.causes(&error)),
            SdkError::ResponseError(_) => self.of(
                ErrorKind::Network,
                format!(
                    "the answer of {} was cut off: {}",
                    self.host(),
                    self.causes(&error)
                ),
            ),
            _ => self.of(
                ErrorKind::Internal,
                format!("the request could not be built: {}", self.causes(&error)),
            ),
        }
    }

    /// The error of an answer of success that makes no sense.
    pub fn nonsense(&self, why: &str) -> Error {
        self.of(
            ErrorKind::Service,
            format!(
                "the answer of {} is not one of Kinesis Video Streams ({why}): check endpoint-url",
                self.host()
            ),
        )
    }

    fn of(&self, kind: ErrorKind, message: String) -> Error {
        Error::new(kind, message)
            .during(self.operation)
            .of_request(self.seen.request_id.as_deref())
    }

    fn host(&self) -> &str {
        self.seen.host.as_deref().unwrap_or("the endpoint")
    }

    fn causes(&self, error: &(dyn StdError + 'static)) -> String {
        self.clean(&causes(error))
    }

    fn unreachable(&self, causes: &str) -> Error {
        let hint = if causes.contains("dns error") || causes.contains("lookup") {
            match (&self.config.endpoint_url, &self.config.data_endpoint_url) {
                (None, None) => "; check aws-region and the network's name service",
                _ => "; check the host's spelling and the network's name service",
            }
        } else if causes.contains("certificate") {
            "; a proxy that inspects TLS, or a private endpoint, needs its certificate authority \
             among the system's or in SSL_CERT_FILE"
        } else {
            ""
        };
        self.of(
            ErrorKind::Network,
            format!("cannot reach {}: {causes}{hint}", self.host()),
        )
    }

    fn service(&self, meta: &ErrorMetadata, response: &HttpResponse) -> Error {
        let status = response.status().as_u16();
        let body = response.body().bytes().unwrap_or_default();
        let said = meta
            .message()
            .map(str::to_owned)
            .or_else(|| xml_message(body));
        let quote = match said.map(|text| self.clean(&text)) {
            Some(text) if !text.is_empty() => format!(" (it says: {text})"),
            _ => String::new(),
        };
        let answer = Answer {
            status,
            code: meta.code(),
            quote,
        };
        let (kind, message) = self.meaning(&answer);
        let mut error = self.of(kind, message);
        error.code = answer.code.map(str::to_owned);
        error.http_status = Some(status);
        error
    }

    /// The table: what each of the service's errors, or else a bare HTTP status, means.
    fn meaning(&self, answer: &Answer) -> (ErrorKind, String) {
        let quote = &answer.quote;
        let stream = &self.config.stream;
        let region = self.region;
        let source = || self.config.credentials.source();
        match answer.code {
            Some("ResourceNotFoundException") => {
                let hint = match stream {
                    StreamId::Name(_) => String::from("check stream-name and aws-region"),
                    StreamId::Arn(arn) => match arn.split(':').nth(3) {
                        Some(other) if other != region => {
                            format!("its ARN says {other}: check stream-arn and aws-region")
                        }
                        _ => String::from("check stream-arn"),
                    },
                };
                let what = format!("no stream {stream} in region {region}; {hint}{quote}");
                (ErrorKind::NotFound, what)
            }
            Some("ClientLimitExceededException") => (
                ErrorKind::Throttled,
                format!(
                    "too many calls for stream {stream}: 5 a second are allowed, over all its \
                     consumers{quote}"
                ),
            ),
            Some("ConnectionLimitExceededException") => (
                ErrorKind::Throttled,
                format!(
                    "too many connections to stream {stream}: 3 are allowed, over all its \
                     consumers{quote}"
                ),
            ),
            Some(
                "ThrottlingException"
                | "Throttling"
                | "TooManyRequestsException"
                | "RequestLimitExceeded"
                | "LimitExceededException"
                | "SlowDown",
            ) => (
                ErrorKind::Throttled,
                format!("the service asks for fewer calls{quote}"),
            ),
            Some("InvalidEndpointException") => (
                ErrorKind::Endpoint,
                format!("stream {stream} is not served at {}{quote}", self.host()),
            ),
            Some("InvalidArgumentException" | "ValidationException" | "SerializationException") => {
                (
                    ErrorKind::Settings,
                    format!("the service refuses the request's values{quote}"),
                )
            }
            Some("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => {
                self.expired("have expired", quote)
            }
            Some("InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId") => {
                self.expired(
                    "are not known to AWS: wrong, deleted, or of another partition",
                    quote,
                )
            }
            // The service has no error of its own for an expired token.
            Some("NotAuthorizedException") if quote.to_ascii_lowercase().contains("expired") => {
                self.expired("have expired", quote)
            }
            Some(
                code @ ("InvalidSignatureException"
                | "SignatureDoesNotMatch"
                | "RequestTimeTooSkewed"
                | "RequestExpired"
                | "AuthFailure"),
            ) => self.signature(code, quote),
            Some(code) if is_kms(code) && code.contains("AccessDenied") => (
                ErrorKind::NotAuthorized,
                format!(
                    "the credentials of {} may not use the KMS key of stream {stream}: they need \
                     kms:Decrypt{quote}",
                    source()
                ),
            ),
            Some(code) if is_kms(code) && !code.contains("Throttl") && answer.status < 500 => (
                ErrorKind::Service,
                format!("the KMS key of stream {stream} cannot be used{quote}"),
            ),
            Some(code) if code.contains("Throttl") => (
                ErrorKind::Throttled,
                format!("the service asks for fewer calls{quote}"),
            ),
            Some(
                "NotAuthorizedException"
                | "AccessDeniedException"
                | "AccessDenied"
                | "UnauthorizedException",
            ) => {
                if self.clocks_apart().is_some() {
                    return self.signature("AccessDeniedException", quote);
                }
                (
                    ErrorKind::NotAuthorized,
                    format!(
                        "the credentials of {} may not call kinesisvideo:{} on stream {stream} in \
                         region {region}{quote}",
                        source(),
                        self.operation
                    ),
                )
            }
            Some("InternalFailure" | "InternalServerError" | "InternalServerException")
            | Some("ServiceUnavailable" | "ServiceUnavailableException" | "RequestTimeout") => {
                (ErrorKind::Server, format!("the service failed{quote}"))
            }
            _ => self.bare_status(answer),
        }
    }

    /// An error without a code, or with one that nobody knows.
    fn bare_status(&self, answer: &Answer) -> (ErrorKind, String) {
        let Answer {
            status,
            code,
            quote,
        } = answer;
        let host = self.host();
        match status {
            500.. => (ErrorKind::Server, format!("{host} failed{quote}")),
            429 => (
                ErrorKind::Throttled,
                format!("{host} asks for fewer calls{quote}"),
            ),
            408 => (
                ErrorKind::Network,
                format!("{host} has waited too long{quote}"),
            ),
            407 => (
                ErrorKind::NotAuthorized,
                format!("the proxy on the way to {host} wants a user name and password{quote}"),
            ),
            401 | 403 if code.is_some() => (
                ErrorKind::NotAuthorized,
                format!(
                    "the credentials of {} were refused{quote}",
                    self.config.credentials.source()
                ),
            ),
            401 | 403 => (
                ErrorKind::NotAuthorized,
                format!(
                    "{host} refuses the request without saying why: it is a wrong host, or an \
                     endpoint of another region than {}; check {} and aws-region{quote}",
                    self.region,
                    match self.operation {
                        Operation::GetMedia => "data-endpoint-url",
                        _ => "endpoint-url",
                    }
                ),
            ),
            _ if code.is_some() => (
                ErrorKind::Service,
                format!("the service refuses the request{quote}"),
            ),
            _ => (
                ErrorKind::Service,
                format!(
                    "the answer of {host} is not one of Kinesis Video Streams; check the \
                     endpoint{quote}"
                ),
            ),
        }
    }

    /// Credentials that the service does not take any more, or never took.
    fn expired(&self, what: &str, quote: &str) -> (ErrorKind, String) {
        let source = self.config.credentials.source();
        if self.config.credentials.renewable() {
            let message = format!("the credentials of {source} {what}{quote}");
            (ErrorKind::ExpiredCredentials, message)
        } else {
            let message = format!(
                "the credentials of {source} {what}; set access-key, secret-key and, for temporary \
                 keys, session-token anew{quote}"
            );
            (ErrorKind::NotAuthorized, message)
        }
    }

    /// A refused signature: this machine's clock, or else the secret key.
    ///
    /// The SDK learns how far off the clock is from each answer and signs the next request with the
    /// service's time, so asking once more helps. It does not if the request was signed with the
    /// right time already.
    fn signature(&self, code: &str, quote: &str) -> (ErrorKind, String) {
        // What the service signs itself holds the request's headers, the token among them.
        let quote = if quote.contains("expired") || quote.contains("yet current") {
            quote
        } else {
            ""
        };
        match self.clocks_apart() {
            Some(seconds) => (
                ErrorKind::Server,
                format!(
                    "the request was signed with a time {} s {} the service's; check this \
                     machine's clock",
                    seconds.abs(),
                    if seconds < 0 { "behind" } else { "ahead of" }
                ),
            ),
            None if code.starts_with("Request") || !quote.is_empty() => (
                ErrorKind::NotAuthorized,
                format!("the request's time was refused; check this machine's clock{quote}"),
            ),
            None => (
                ErrorKind::NotAuthorized,
                format!(
                    "the request's signature was refused: the secret key of {} does not belong to \
                     its access key",
                    self.config.credentials.source()
                ),
            ),
        }
    }

    /// By how many seconds the request was signed ahead of the answer's time, if that is too much.
    fn clocks_apart(&self) -> Option<i64> {
        let apart = self.seen.signed_at? - self.seen.answered_at?;
        (apart.abs() > SKEW).then_some(apart)
    }

    fn slow_credentials(&self) -> Error {
        Error::new(
            ErrorKind::Network,
            format!(
                "the credentials of {} did not come within {LOAD_TIMEOUT:?}",
                self.config.credentials.source()
            ),
        )
        .during(Operation::Credentials)
    }

    /// Credentials that could not be had.
    fn credentials(&self, error: &CredentialsError) -> Error {
        let source = self.config.credentials.source();
        // One of our own providers, which knows what it means.
        if let Some(own) = find::<Error>(error) {
            let message = format!("no credentials from {source}: {}", self.clean(&own.message));
            return Error {
                message,
                ..own.clone()
            }
            .during(Operation::Credentials);
        }
        let causes = self.causes(error);
        let has = |words: &[&str]| words.iter().any(|word| causes.contains(word));
        let code = find::<ErrorMetadata>(error).and_then(ErrorMetadata::code);
        let broken = find::<ConnectorError>(error).is_some_and(|e| e.is_io() || e.is_timeout());
        let (kind, message) = match error {
            CredentialsError::ProviderTimedOut(_) => (
                ErrorKind::Network,
                format!("the credentials of {source} did not come: {causes}"),
            ),
            CredentialsError::CredentialsNotLoaded(_) => {
                let tried = match self.config.credentials.root() {
                    Credentials::Default => {
                        "; tried: environment (AWS_ACCESS_KEY_ID), profile files (~/.aws), web \
                         identity, container, instance metadata; set access-key and secret-key, or \
                         profile, or one of these"
                    }
                    Credentials::Profile(_) => {
                        "; check that ~/.aws/config or ~/.aws/credentials has such a profile, with \
                         credentials"
                    }
                    _ => "",
                };
                (
                    ErrorKind::NotAuthorized,
                    format!("no credentials from {source}{tried} ({causes})"),
                )
            }
            _ if broken => (
                ErrorKind::Network,
                format!("the credentials of {source} cannot be reached: {causes}"),
            ),
            _ if has(&["Throttling", "RequestLimitExceeded", "SlowDown"]) => (
                ErrorKind::Throttled,
                format!("the source of credentials asks for fewer calls: {causes}"),
            ),
            _ if has(&[
                "ServiceUnavailable",
                "InternalFailure",
                "InternalServerError",
            ]) =>
            {
                (
                    ErrorKind::Server,
                    format!("the credentials of {source} did not come: {causes}"),
                )
            }
            // The SDK tells the first caller only why a profile cannot be used: read it again.
            _ if has(&["error already taken"]) => (
                ErrorKind::ExpiredCredentials,
                format!("the credentials of {source} have to be read again: {causes}"),
            ),
            _ if has(&["ExpiredToken"]) && self.config.credentials.root().renewable() => (
                ErrorKind::ExpiredCredentials,
                format!("the credentials behind {source} have expired: {causes}"),
            ),
            _ => (
                ErrorKind::NotAuthorized,
                format!(
                    "no credentials from {source}: {causes}{}",
                    self.sign_on_hint(&causes)
                ),
            ),
        };
        let mut error = Error::new(kind, message).during(Operation::Credentials);
        error.code = code.map(str::to_owned);
        error
    }

    /// What helps where a single sign-on has run out, which the SDK does not call by its name.
    fn sign_on_hint(&self, causes: &str) -> String {
        let is_sign_on = causes.contains("SSO") || causes.contains("UnauthorizedException");
        match self.config.credentials.root() {
            Credentials::Profile(name) if is_sign_on => {
                format!("; sign in again: aws sso login --profile {name}")
            }
            Credentials::Default if is_sign_on => "; sign in again: aws sso login".into(),
            _ => String::new(),
        }
    }

    /// Somebody else's text on one line, not too long, and without what the request keeps secret:
    /// services quote canonical requests and headers.
    fn clean(&self, text: &str) -> String {
        let mut secrets: Vec<&str> = self.seen.secrets.iter().map(String::as_str).collect();
        if let Credentials::Static {
            secret_key,
            session_token,
            ..
        } = self.config.credentials.root()
        {
            secrets.push(secret_key);
            secrets.extend(session_token.as_deref());
        }
        shorten(&redact(text, secrets))
    }
}

/// The error of a body that broke.
pub(super) fn of_body(
    error: &(dyn StdError + 'static),
    host: Option<&str>,
    request_id: Option<&str>,
) -> Error {
    let host = host.unwrap_or("the endpoint");
    let causes = shorten(&causes(error));
    Error::new(
        ErrorKind::Network,
        format!("the connection to {host} broke: {causes}"),
    )
    .during(Operation::GetMedia)
    .of_request(request_id)
}

fn is_kms(code: &str) -> bool {
    code.starts_with("KMS") || code.starts_with("Kms")
}

/// The error and its sources. An `io::Error` stands for what it wraps: its own `source` skips that.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| {
        match error.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

pub(super) fn find<'a, E: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The texts of the error and its sources, without those that say nothing or say it again.
pub(super) fn causes(error: &(dyn StdError + 'static)) -> String {
    /// What the SDK and hyper say on each floor of a failure.
    const EMPTY: [&str; 11] = [
        "dispatch failure",
        "failed to construct request",
        "client error (Connect)",
        "client error (SendRequest)",
        "io error",
        "other",
        "timeout",
        "streaming error",
        "service error",
        "response error",
        "unhandled error",
    ];
    let mut texts: Vec<String> = Vec::new();
    for error in chain(error) {
        let text = error.to_string();
        if text.is_empty() || EMPTY.contains(&text.as_str()) {
            continue;
        }
        match texts.last_mut() {
            Some(last) if last.contains(&text) => {}
            Some(last) if text.contains(last.as_str()) => *last = text,
            _ => texts.push(text),
        }
    }
    if texts.is_empty() {
        error.to_string()
    } else {
        texts.join(": ")
    }
}

pub(super) fn shorten(text: &str) -> String {
    // From here on the service would repeat the request's headers.
    let text = text
        .split("The Canonical String")
        .next()
        .unwrap_or_default();
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST_QUOTE) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// The text of the `Message` element of an error that is XML, as hosts answer that are not the
/// service's.
fn xml_message(body: &[u8]) -> Option<String> {
    let body = std::str::from_utf8(body).ok()?;
    let (_, rest) = body
        .split_once("<Message>")
        .or_else(|| body.split_once("<message>"))?;
    rest.split('<').next().map(str::to_owned)
}
