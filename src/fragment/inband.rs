use crate::error::{Error, ErrorKind, Operation};

/// The error that stands in a body in place of a fragment: `AWS_KINESISVIDEO_ERROR_ID` with its text.
///
/// Ids and meanings are those of the GetMedia reference; of ids it does not list, those that begin
/// with 3 or 5 are taken for passing faults as its own are.
pub(super) fn error(id: u32, code: Option<String>, fragment: Option<&str>) -> Error {
    let (kind, meaning) = match id {
        3002 => (ErrorKind::Server, "error writing to the stream"),
        4000 => (
            ErrorKind::FragmentGone,
            "the requested fragment is not found",
        ),
        4500 => (
            ErrorKind::NotAuthorized,
            "access to the stream's KMS key is denied: allow kms:Decrypt",
        ),
        4501 => (ErrorKind::Service, "the stream's KMS key is disabled"),
        4502 => (
            ErrorKind::Service,
            "validation error on the stream's KMS key",
        ),
        4503 => (ErrorKind::Server, "the stream's KMS key is unavailable"),
        4504 => (ErrorKind::Service, "invalid usage of the stream's KMS key"),
        4505 => (ErrorKind::Service, "invalid state of the stream's KMS key"),
        4506 => (ErrorKind::Service, "the stream's KMS key is not found"),
        5000 => (ErrorKind::Server, "internal error of the service"),
        3000..=3999 | 5000..=5999 => (ErrorKind::Server, "the service reports an error"),
        _ => (ErrorKind::Service, "the service reports an error"),
    };
    let mut message = meaning.to_owned();
    if let Some(fragment) = fragment.filter(|fragment| !fragment.is_empty()) {
        message.push_str(&format!(", at fragment {fragment}"));
    }
    let mut error = Error::new(kind, message).during(Operation::GetMedia);
    error.id = Some(id);
    error.code = code;
    error
}
