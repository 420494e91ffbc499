//! What was asked, and what was answered.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use crate::http::Head;
use crate::store::StartSelector;

/// The operations of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Operation {
    CreateStream,
    DescribeStream,
    ListStreams,
    TagStream,
    DeleteStream,
    GetDataEndpoint,
    GetMedia,
    PutMedia,
    /// A path that is none of them.
    Unknown,
}

impl Operation {
    pub(crate) fn of(path: &str) -> Operation {
        match path {
            "/createStream" => Operation::CreateStream,
            "/describeStream" => Operation::DescribeStream,
            "/listStreams" => Operation::ListStreams,
            "/tagStream" => Operation::TagStream,
            "/deleteStream" => Operation::DeleteStream,
            "/getDataEndpoint" => Operation::GetDataEndpoint,
            "/getMedia" => Operation::GetMedia,
            "/putMedia" => Operation::PutMedia,
            _ => Operation::Unknown,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One request, as far as it has come.
#[derive(Debug, Clone)]
pub struct Request {
    /// When its headers had been read.
    pub at: Instant,
    /// The same by the system's clock.
    pub time: SystemTime,
    /// Which operation.
    pub operation: Operation,
    /// The stream it names; of an ARN, the name in it.
    pub stream: Option<String>,
    /// The JSON body; null where there is none (PutMedia) or it is no JSON.
    pub json: serde_json::Value,
    /// Header names as sent, and values.
    pub headers: Vec<(String, String)>,
    /// GetMedia's start selector, if it was valid.
    pub selector: Option<StartSelector>,
    /// HTTP status answered; `None` so far, or if a fault left the request without an answer.
    pub status: Option<u16>,
    /// The error's name, if it was one.
    pub error_code: Option<String>,
    /// The `x-amzn-RequestId` answered.
    pub request_id: String,
    /// Bytes of the response body sent so far, without HTTP chunking.
    pub bytes_sent: u64,
    /// Whether the response has come to its end, good or bad.
    pub finished: bool,
}

impl Request {
    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// A request's place in the log, for the one who answers it.
#[derive(Clone)]
pub(crate) struct Entry {
    request: Arc<Mutex<Request>>,
    pub(crate) sent: Arc<AtomicU64>,
    finished: Arc<AtomicBool>,
}

impl Entry {
    pub(crate) fn new(operation: Operation, head: &Head, request_id: String) -> Entry {
        Entry {
            request: Arc::new(Mutex::new(Request {
                at: Instant::now(),
                time: SystemTime::now(),
                operation,
                stream: None,
                json: serde_json::Value::Null,
                headers: head.headers.clone(),
                selector: None,
                status: None,
                error_code: None,
                request_id,
                bytes_sent: 0,
                finished: false,
            })),
            sent: Arc::default(),
            finished: Arc::default(),
        }
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Request)) {
        change(&mut self.request.lock().unwrap());
    }

    pub(crate) fn id(&self) -> String {
        self.request.lock().unwrap().request_id.clone()
    }

    pub(crate) fn snapshot(&self) -> Request {
        let mut request = self.request.lock().unwrap().clone();
        request.finished = self.finished.load(Ordering::Acquire);
        request.bytes_sent = self.sent.load(Ordering::Relaxed);
        request
    }

    /// Marks the entry finished when dropped.
    pub(crate) fn finish_on_drop(&self) -> Finisher {
        Finisher(self.finished.clone())
    }
}

pub(crate) struct Finisher(Arc<AtomicBool>);

impl Drop for Finisher {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
