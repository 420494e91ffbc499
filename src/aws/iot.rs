//! Temporary credentials from the credential provider of AWS IoT Core, for a device that has a
//! certificate: one GET with mutual TLS.
//!
//! The server is verified against the authorities in `ca_path` and nothing else, as in kvssink. The
//! SDK's HTTP client presents no client certificate, so this is a client of its own, of the same
//! parts. `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` hold here too.

use super::error::{causes, find, shorten};
use crate::error::{Error, ErrorKind};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError, future},
};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::{
        legacy::{
            Client,
            connect::{Connect, HttpConnector, proxy::Tunnel},
        },
        proxy::matcher::Matcher,
    },
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What an answer may hold at most.
const LONGEST_ANSWER: usize = 64 * 1024;

/// A device's certificate, and what it may ask for: kvssink's structure `iot-certificate`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IotCertificate {
    /// Host of the account's credential provider, with a port if it is not 443.
    pub endpoint: String,
    /// The device's certificate, with those of intermediate authorities after it: PEM.
    pub cert_path: PathBuf,
    /// The certificate's private key: PEM.
    pub key_path: PathBuf,
    /// The authorities that may vouch for the endpoint: PEM.
    pub ca_path: PathBuf,
    /// The role alias that stands for a role of the account.
    pub role_alias: String,
    /// The thing the certificate is attached to.
    pub thing_name: String,
    /// How long connecting may take.
    pub connection_timeout: Duration,
    /// How long all of it may take.
    pub completion_timeout: Duration,
}

impl IotCertificate {
    /// How long kvssink waits for a connection.
    pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(3);
    /// How long kvssink waits for the answer.
    pub const COMPLETION_TIMEOUT: Duration = Duration::from_secs(5);
}

/// Asks the endpoint each time it is asked; files are read anew, as certificates are rotated.
#[derive(Debug)]
pub(super) struct IotProvider {
    settings: IotCertificate,
}

impl IotProvider {
    pub fn new(settings: IotCertificate) -> Self {
        IotProvider { settings }
    }

    async fn ask(&self) -> Result<Credentials, Error> {
        let settings = self.settings.clone();
        let tls = tokio::task::spawn_blocking(move || tls(&settings))
            .await
            .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))??;
        let limit = self.settings.completion_timeout;
        let answer = tokio::time::timeout(limit, self.send(tls)).await;
        let answer = answer.map_err(|_| {
            Error::new(
                ErrorKind::Network,
                format!("no answer within {limit:?} (completion-timeout)"),
            )
        })??;
        if !answer.status().is_success() {
            return Err(self.refused(&answer));
        }
        parse(answer.body())
    }

    async fn send(&self, tls: ClientConfig) -> Result<Response<Bytes>, Error> {
        let IotCertificate {
            endpoint,
            role_alias,
            thing_name,
            connection_timeout,
            ..
        } = &self.settings;
        let uri = format!("https://{endpoint}/role-aliases/{role_alias}/credentials");
        let settings = |error: http::Error| Error::new(ErrorKind::Settings, error.to_string());
        let request = Request::get(uri)
            .header("x-amzn-iot-thingname", thing_name)
            .body(Empty::new())
            .map_err(settings)?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(*connection_timeout));
        match proxy(request.uri())? {
            None => self.exchange(connector, tls, request).await,
            Some((uri, authorization)) => {
                let mut tunnel = Tunnel::new(uri, connector);
                if let Some(authorization) = authorization {
                    tunnel = tunnel.with_auth(authorization);
                }
                self.exchange(tunnel, tls, request).await
            }
        }
    }

    async fn exchange<C>(
        &self,
        connector: C,
        tls: ClientConfig,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Bytes>, Error>
    where
        hyper_rustls::HttpsConnector<C>: Connect + Clone + Send + Sync + 'static,
    {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let answer = client.request(request).await;
        let (head, body) = answer
            .map_err(|error| self.unreachable(&error))?
            .into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => nonsense("it is too long"),
            false => self.unreachable(&*error),
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        let IotCertificate {
            endpoint,
            cert_path,
            ca_path,
            ..
        } = &self.settings;
        let causes = shorten(&causes(error));
        match find::<rustls::Error>(error) {
            Some(rustls::Error::InvalidCertificate(_)) => wrong(format!(
                "the certificate of {endpoint} is not vouched for by ca-path {}: {causes}",
                ca_path.display()
            )),
            Some(rustls::Error::AlertReceived(_)) => wrong(format!(
                "{endpoint} refuses the certificate of cert-path {}: {causes}; it must be \
                 registered with AWS IoT and active",
                cert_path.display()
            )),
            _ => Error::new(ErrorKind::Network, format!("cannot reach it: {causes}")),
        }
    }

    /// What an answer other than success means.
    fn refused(&self, answer: &Response<Bytes>) -> Error {
        let IotCertificate {
            role_alias,
            thing_name,
            ..
        } = &self.settings;
        let status = answer.status().as_u16();
        let json: Option<Value> = serde_json::from_slice(answer.body()).ok();
        let said = json
            .as_ref()
            .and_then(|json| json.get("message").or_else(|| json.get("Message")))
            .and_then(Value::as_str);
        let quote = said.map_or_else(String::new, |said| format!(" (it says: {})", shorten(said)));
        let (kind, what) = match status {
            429 => (ErrorKind::Throttled, "it asks for fewer calls".into()),
            500.. => (ErrorKind::Server, "it failed".into()),
            401 | 403 => (
                ErrorKind::NotAuthorized,
                format!(
                    "access denied: the certificate must be active and attached to thing \
                     {thing_name}, with a policy that allows iot:AssumeRoleWithCertificate on role \
                     alias {role_alias}, whose role must trust credentials.iot.amazonaws.com"
                ),
            ),
            404 => (
                ErrorKind::NotAuthorized,
                "not found: check endpoint and role-aliases".into(),
            ),
            _ => (ErrorKind::NotAuthorized, "the request is refused".into()),
        };
        let header = |name: &str| answer.headers().get(name)?.to_str().ok();
        let mut error =
            Error::new(kind, format!("{what}{quote}")).of_request(header("x-amzn-requestid"));
        error.http_status = Some(status);
        error.code = header("x-amzn-errortype")
            .and_then(|code| code.split(':').next())
            .map(shorten);
        error
    }
}

impl ProvideCredentials for IotProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let ask = async move { self.ask().await.map_err(CredentialsError::provider_error) };
        future::ProvideCredentials::new(ask)
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::NotAuthorized, message)
}

/// The proxy that the environment names for `uri`, and what it wants to be told.
fn proxy(uri: &Uri) -> Result<Option<(Uri, Option<http::HeaderValue>)>, Error> {
    let Some(proxy) = Matcher::from_env().intercept(uri) else {
        return Ok(None);
    };
    match proxy.uri().scheme_str() {
        Some("http") => Ok(Some((proxy.uri().clone(), proxy.basic_auth().cloned()))),
        scheme => Err(wrong(format!(
            "HTTPS_PROXY is of the kind {}, and only http:// can be used here",
            scheme.unwrap_or("unknown")
        ))),
    }
}

fn tls(settings: &IotCertificate) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca-path", &settings.ca_path)? {
        roots
            .add(certificate)
            .map_err(|error| bad_file("ca-path", &settings.ca_path, error))?;
    }
    let chain = certificates("cert-path", &settings.cert_path)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key_path)
        .map_err(|error| bad_pem("key-path", &settings.key_path, "private key", error))?;
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| {
            wrong(format!(
                "cert-path {} and key-path {} do not go together: {error}",
                settings.cert_path.display(),
                settings.key_path.display()
            ))
        })
}

fn certificates(field: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| bad_pem(field, path, "certificate", error));
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(bad_pem(
            field,
            path,
            "certificate",
            pem::Error::NoItemsFound,
        )),
        certificates => certificates,
    }
}

fn bad_pem(field: &str, path: &Path, what: &str, error: pem::Error) -> Error {
    match error {
        pem::Error::Io(error) => bad_file(field, path, error),
        pem::Error::NoItemsFound => bad_file(field, path, format!("no {what} in it")),
        // What else there is quotes the file, which may hold a key.
        _ => bad_file(field, path, "not PEM"),
    }
}

fn bad_file(field: &str, path: &Path, why: impl std::fmt::Display) -> Error {
    wrong(format!("{field} {}: {why}", path.display()))
}

/// The credentials in an answer. No error repeats any of it.
fn parse(body: &[u8]) -> Result<Credentials, Error> {
    let json: Value = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        nonsense(&format!("not JSON, at line {line}, column {column}"))
    })?;
    let field = |name: &str| {
        json.pointer(&format!("/credentials/{name}"))
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| nonsense(&format!("there is no credentials.{name} in it")))
    };
    let expiration: jiff::Timestamp = field("expiration")?
        .parse()
        .map_err(|_| nonsense("credentials.expiration is not a time"))?;
    Ok(Credentials::new(
        field("accessKeyId")?,
        field("secretAccessKey")?,
        Some(field("sessionToken")?.to_owned()),
        Some(SystemTime::from(expiration)),
        "iot-certificate",
    ))
}

fn nonsense(why: &str) -> Error {
    Error::new(
        ErrorKind::Service,
        format!("its answer is not one of an IoT credential provider ({why}): check endpoint"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_or_says_what_is_wrong() {
        let whole = r#"{"credentials":{"accessKeyId":"AK","secretAccessKey":"hush-secret",
            "sessionToken":"hush-token","expiration":"2024-05-01T12:00:00Z"}}"#;
        let credentials = parse(whole.as_bytes()).unwrap();
        assert_eq!(credentials.access_key_id(), "AK");
        assert_eq!(credentials.secret_access_key(), "hush-secret");
        assert_eq!(credentials.session_token(), Some("hush-token"));
        let expiry = std::time::UNIX_EPOCH + Duration::from_secs(1_714_564_800);
        assert_eq!(credentials.expiry(), Some(expiry));
        for (old, new, says) in [
            ("}}", "}", "line 2"),
            ("accessKeyId", "AccessKeyId", "credentials.accessKeyId"),
            ("secretAccessKey", "x", "credentials.secretAccessKey"),
            ("sessionToken", "x", "credentials.sessionToken"),
            ("expiration", "x", "credentials.expiration"),
            ("2024-05-01T", "hush", "credentials.expiration"),
            (r#""hush-token""#, "7", "credentials.sessionToken"),
        ] {
            let error = parse(whole.replace(old, new).as_bytes()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Service, "{error}");
            assert!(error.message.contains(says), "{error}");
            assert!(!error.message.contains("hush"), "{error}");
        }
    }
}
