//! Errors as the service answers them.

use serde_json::json;

use crate::http::Response;

/// An error response: status, the name AWS gives it, and a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {code}: {message}")]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            code: code.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn invalid_argument(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "InvalidArgumentException", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(404, "ResourceNotFoundException", message)
    }

    pub(crate) fn client_limit(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "ClientLimitExceededException", message)
    }

    pub(crate) fn response(&self) -> Response {
        // The model calls the member Message; errors the signature layer makes, and generic ones,
        // write it small. Clients read both.
        let modelled = self.code.ends_with("Exception") && self.status != 403;
        let member = if modelled { "Message" } else { "message" };
        let mut response = Response::new(self.status);
        // What stands between a client and the service answers without one.
        if !self.code.is_empty() {
            response = response.with("x-amzn-ErrorType", self.code.as_str());
        }
        response.body(
            "application/json",
            json!({ member: self.message }).to_string(),
        )
    }
}
