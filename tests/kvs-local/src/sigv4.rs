//! Signature Version 4: whether a request is signed with a key this server knows.
//!
//! The canonical request is built from what came over the wire and the list of headers the client
//! says it signed; the key derivation and the signature are the aws-sigv4 crate's.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use sha2::{Digest, Sha256};

use crate::clock::{Clock, parse_amz_date};
use crate::error::ApiError;
use crate::http::Head;

const SERVICE: &str = "kinesisvideo";
/// How far a request's date may be from the server's clock.
const MAX_SKEW_S: u64 = 300;

/// Access keys and what belongs to them.
#[derive(Default)]
pub(crate) struct Keys(HashMap<String, Key>);

struct Key {
    secret: String,
    session_token: Option<String>,
    expired: bool,
}

impl Keys {
    pub(crate) fn set(&mut self, access_key: &str, secret: &str, session_token: Option<&str>) {
        self.0.insert(
            access_key.to_owned(),
            Key {
                secret: secret.to_owned(),
                session_token: session_token.map(str::to_owned),
                expired: false,
            },
        );
    }

    pub(crate) fn expire(&mut self, access_key: &str) {
        if let Some(key) = self.0.get_mut(access_key) {
            key.expired = true;
        }
    }

    pub(crate) fn remove(&mut self, access_key: &str) {
        self.0.remove(access_key);
    }
}

/// The body that was signed.
pub(crate) enum Payload<'a> {
    Whole(&'a [u8]),
    /// A body that is still to come: signed as empty, or not at all.
    Streamed,
}

struct Authorization<'a> {
    access_key: &'a str,
    scope: [&'a str; 4],
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

fn forbidden(code: &str, message: impl Into<String>) -> ApiError {
    ApiError::new(403, code, message)
}

/// Checks the signature of a request.
///
/// # Errors
/// 403 (or 400 where the header itself is malformed), with the names AWS uses.
pub(crate) fn verify(
    head: &Head,
    payload: Payload<'_>,
    region: &str,
    keys: &Keys,
    clock: Clock,
) -> Result<(), ApiError> {
    let header = head.header("authorization").ok_or_else(|| {
        forbidden(
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        )
    })?;
    let auth = parse(header)?;
    let unknown = || {
        forbidden(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        )
    };
    let key = keys.0.get(auth.access_key).ok_or_else(unknown)?;
    if key.expired {
        return Err(forbidden(
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ));
    }
    if head.header("x-amz-security-token") != key.session_token.as_deref() {
        return Err(unknown());
    }
    let date = check_date(head, &auth, clock)?;
    check_scope(&auth, region)?;
    check_signed_headers(head, &auth)?;

    let time = UNIX_EPOCH + Duration::from_secs(parse_amz_date(date).unwrap_or(0));
    let signing_key = generate_signing_key(&key.secret, time, region, SERVICE);
    let hash = payload_hash(head, payload)?;
    let canonical = canonical_request(head, &auth, &hash);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{}\n{}",
        auth.scope.join("/"),
        sha256(canonical.as_bytes())
    );
    if calculate_signature(signing_key, to_sign.as_bytes()) == auth.signature {
        return Ok(());
    }
    Err(forbidden(
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check \
         your AWS Secret Access Key and signing method. Consult the service documentation for \
         details.",
    ))
}

fn parse(header: &str) -> Result<Authorization<'_>, ApiError> {
    let incomplete = |message: String| ApiError::new(403, "IncompleteSignatureException", message);
    let fields = header
        .trim()
        .strip_prefix("AWS4-HMAC-SHA256")
        .ok_or_else(|| incomplete("Unsupported signature algorithm.".to_owned()))?;
    let field = |name: &str| {
        fields
            .split(',')
            .find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
            .ok_or_else(|| incomplete(format!("Authorization header requires '{name}' parameter.")))
    };
    let credential = field("Credential")?;
    // Access keys hold no slash, so the last five parts are key and scope.
    let parts: Vec<&str> = credential.split('/').collect();
    let [access_key, date, region, service, terminator] = parts[..] else {
        return Err(incomplete(
            "Credential must have exactly 5 slash-delimited elements.".to_owned(),
        ));
    };
    Ok(Authorization {
        access_key,
        scope: [date, region, service, terminator],
        signed_headers: field("SignedHeaders")?.split(';').collect(),
        signature: field("Signature")?,
    })
}

fn check_date<'a>(
    head: &'a Head,
    auth: &Authorization<'_>,
    clock: Clock,
) -> Result<&'a str, ApiError> {
    let invalid = |message: String| forbidden("InvalidSignatureException", message);
    let date = head.header("x-amz-date").unwrap_or_default();
    let seconds = parse_amz_date(date).ok_or_else(|| {
        forbidden(
            "IncompleteSignatureException",
            "Date must be in ISO-8601 'basic format' in the 'X-Amz-Date' header.",
        )
    })?;
    let now = clock.now_ms() / 1000;
    if seconds + MAX_SKEW_S < now {
        return Err(invalid(format!(
            "Signature expired: {date} is now earlier than the server's time less 5 min."
        )));
    }
    if seconds > now + MAX_SKEW_S {
        return Err(invalid(format!(
            "Signature not yet current: {date} is still later than the server's time plus 5 min."
        )));
    }
    if auth.scope[0] != &date[..8] {
        return Err(invalid(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date."
                .to_owned(),
        ));
    }
    Ok(date)
}

fn check_scope(auth: &Authorization<'_>, region: &str) -> Result<(), ApiError> {
    let invalid = |message: String| Err(forbidden("InvalidSignatureException", message));
    if auth.scope[1] != region {
        return invalid(format!(
            "Credential should be scoped to a valid region, not '{}'.",
            auth.scope[1]
        ));
    }
    if auth.scope[2] != SERVICE {
        return invalid(format!(
            "Credential should be scoped to correct service: '{SERVICE}'."
        ));
    }
    if auth.scope[3] != "aws4_request" {
        return invalid(
            "Credential should be scoped with a valid terminator: 'aws4_request'.".to_owned(),
        );
    }
    Ok(())
}

/// Host must be signed and so must the date. A session token need not be: kvssink doesn't.
fn check_signed_headers(head: &Head, auth: &Authorization<'_>) -> Result<(), ApiError> {
    for name in ["host", "x-amz-date"] {
        if !auth.signed_headers.contains(&name) {
            return Err(forbidden(
                "InvalidSignatureException",
                format!("'{name}' must be a 'SignedHeader' in the AWS Authorization."),
            ));
        }
    }
    for name in &auth.signed_headers {
        if head.header(name).is_none() {
            return Err(forbidden(
                "InvalidSignatureException",
                format!("The signed header '{name}' is not in the request."),
            ));
        }
    }
    Ok(())
}

fn payload_hash(head: &Head, payload: Payload<'_>) -> Result<String, ApiError> {
    let claimed = head.header("x-amz-content-sha256");
    match payload {
        Payload::Whole(body) => {
            let hash = sha256(body);
            match claimed {
                Some(claimed) if claimed != hash => Err(forbidden(
                    "InvalidSignatureException",
                    "The value of 'x-amz-content-sha256' is not the hash of the body.",
                )),
                _ => Ok(hash),
            }
        }
        Payload::Streamed => Ok(claimed.map_or_else(|| sha256(b""), str::to_owned)),
    }
}

fn canonical_request(head: &Head, auth: &Authorization<'_>, payload_hash: &str) -> String {
    let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
    let mut parameters: Vec<String> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| match parameter.contains('=') {
            true => parameter.to_owned(),
            false => format!("{parameter}="),
        })
        .collect();
    parameters.sort();
    let mut canonical = format!(
        "{}\n{}\n{}\n",
        head.method,
        encode_path(path),
        parameters.join("&")
    );
    for name in &auth.signed_headers {
        let values: Vec<String> = head
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        canonical.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    canonical.push_str(&format!(
        "\n{}\n{payload_hash}",
        auth.signed_headers.join(";")
    ));
    canonical
}

/// Every service but S3 signs the path encoded once more than it is sent.
fn encode_path(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn sha256(data: &[u8]) -> String {
    let digest = Sha256::digest(data);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
