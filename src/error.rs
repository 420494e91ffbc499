//! What went wrong, whether asking again can help, and what to tell the user.
//!
//! The type knows nothing of GStreamer: `kvsgetmediasrc::messages` maps it to an element error.

use std::fmt;

/// The service call an [`Error`] came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Finding and reading credentials.
    Credentials,
    /// `GetDataEndpoint`, on the control plane.
    GetDataEndpoint,
    /// `GetMedia`, on the data endpoint: the request, its headers or its body.
    GetMedia,
}

impl Operation {
    /// The service's own name of the call.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Credentials => "Credentials",
            Operation::GetDataEndpoint => "GetDataEndpoint",
            Operation::GetMedia => "GetMedia",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kinds of failure that are handled differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such stream, or no such fragment to start at.
    NotFound,
    /// No credentials, refused credentials, or no access to the stream or its KMS key.
    NotAuthorized,
    /// A setting the service or the element refuses.
    Settings,
    /// The connection could not be made, broke, or fell silent.
    Network,
    /// The service asks for fewer calls or connections.
    Throttled,
    /// The service failed and may recover: 5xx, in-band 3002, 4503 and 5000.
    Server,
    /// The data endpoint is no longer the right one.
    Endpoint,
    /// Temporary credentials have expired: new ones may do.
    ExpiredCredentials,
    /// The fragment asked for after a resume does not exist (in-band 4000).
    FragmentGone,
    /// The service refuses for a reason that asking again does not mend.
    Service,
    /// The body is not Matroska, or its sizes are beyond every limit.
    Demux,
    /// Tracks changed beyond what a demuxer can follow.
    Format,
    /// Another element or process uses the checkpoint file.
    Busy,
    /// The checkpoint file cannot be read or written.
    Storage,
    /// There is no space for the checkpoint file.
    NoSpace,
    /// A defect of this element.
    Internal,
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing helps: report it.
    Fatal,
    /// Ask again after a delay.
    Retry,
    /// Get new credentials, then ask again.
    ReloadCredentials,
}

impl ErrorKind {
    /// What to do about a failure of this kind.
    pub fn recovery(self) -> Recovery {
        match self {
            ErrorKind::Network
            | ErrorKind::Throttled
            | ErrorKind::Server
            | ErrorKind::Endpoint
            | ErrorKind::FragmentGone => Recovery::Retry,
            ErrorKind::ExpiredCredentials => Recovery::ReloadCredentials,
            ErrorKind::NotFound
            | ErrorKind::NotAuthorized
            | ErrorKind::Settings
            | ErrorKind::Service
            | ErrorKind::Demux
            | ErrorKind::Format
            | ErrorKind::Busy
            | ErrorKind::Storage
            | ErrorKind::NoSpace
            | ErrorKind::Internal => Recovery::Fatal,
        }
    }

    /// The `reason` field of a `kvs-reconnect` message.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorKind::Network => "network",
            ErrorKind::Throttled => "throttled",
            ErrorKind::Server => "server-error",
            ErrorKind::Endpoint => "endpoint",
            ErrorKind::ExpiredCredentials => "credentials",
            ErrorKind::FragmentGone => "fragment-gone",
            ErrorKind::NotFound => "not-found",
            ErrorKind::NotAuthorized => "not-authorized",
            ErrorKind::Settings => "settings",
            ErrorKind::Service => "service-error",
            ErrorKind::Demux => "not-matroska",
            ErrorKind::Format => "format",
            ErrorKind::Busy => "busy",
            ErrorKind::Storage => "storage",
            ErrorKind::NoSpace => "no-space",
            ErrorKind::Internal => "internal",
        }
    }
}

/// A failure: what, where, and which request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// How it is handled.
    pub kind: ErrorKind,
    /// What happened, and where it helps, what to do about it. One sentence or two, no secrets.
    pub message: String,
    /// The call it came from.
    pub operation: Option<Operation>,
    /// The service's name of the error, such as `ResourceNotFoundException`.
    pub code: Option<String>,
    /// The id of an in-band error, such as 4000.
    pub id: Option<u32>,
    /// The HTTP status of the answer.
    pub http_status: Option<u16>,
    /// The service's id of the request, to quote to its support.
    pub request_id: Option<String>,
    /// Whether GetMedia had been answered before: the stream was lost rather than never reached.
    pub was_streaming: bool,
}

impl Error {
    /// An error with nothing but a kind and a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            operation: None,
            code: None,
            id: None,
            http_status: None,
            request_id: None,
            was_streaming: false,
        }
    }

    /// The same error, with the call it came from.
    pub fn during(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// The same error, with the id of the request that met it; an id already there is kept.
    pub fn of_request(mut self, request_id: Option<&str>) -> Self {
        if self.request_id.is_none() {
            self.request_id = request_id.map(str::to_owned);
        }
        self
    }

    /// Whether asking again may help.
    pub fn is_retryable(&self) -> bool {
        self.kind.recovery() != Recovery::Fatal
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.message)?;
        let mut details = Vec::new();
        if let Some(code) = &self.code {
            details.push(code.clone());
        }
        if let Some(id) = self.id {
            details.push(format!("error id {id}"));
        }
        if let Some(status) = self.http_status {
            details.push(format!("HTTP {status}"));
        }
        if let Some(request_id) = &self.request_id {
            details.push(format!("request {request_id}"));
        }
        if !details.is_empty() {
            write!(f, " ({})", details.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
