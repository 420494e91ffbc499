//! From a connection's requests to answers: faults, signature, limits, operation.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::body::After;
use crate::clock::Clock;
use crate::document::DocumentStyle;
use crate::error::ApiError;
use crate::fault::{Actions, Answer, Faults};
use crate::http::{Connection, Head, Response};
use crate::limits::{ConnectionGuard, Limits};
use crate::log::{Entry, Operation};
use crate::sigv4::{self, Keys, Payload};
use crate::store::{Stream, Undocumented};
use crate::validate::{is_stream_name, name_in_arn, string, unfit};
use crate::{control, getmedia, putmedia};

/// The largest request body of any operation but PutMedia.
const MAX_REQUEST: usize = 1 << 20;

/// What doesn't change while the server runs.
pub(crate) struct Config {
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) retention: Option<Duration>,
    pub(crate) latency: Duration,
    pub(crate) enforce_limits: bool,
    pub(crate) enforce_rate: bool,
    pub(crate) clock: Clock,
    pub(crate) undocumented: Undocumented,
    pub(crate) style: DocumentStyle,
    pub(crate) chunked_live: bool,
    pub(crate) keep_partial: bool,
    pub(crate) pace: Option<f64>,
    pub(crate) rotate_after: Option<Duration>,
    pub(crate) rotate_after_fragments: Option<usize>,
    pub(crate) kept_requests: Option<usize>,
}

/// Everything a connection needs.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) endpoint: String,
    /// `http` or `https`, and whether clients must say where they reached us (an unspecified
    /// listening address names no host).
    pub(crate) scheme: &'static str,
    pub(crate) anywhere: bool,
    pub(crate) port: u16,
    pub(crate) keys: Mutex<Keys>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) limits: Arc<Mutex<Limits>>,
    pub(crate) log: Mutex<VecDeque<Entry>>,
    pub(crate) data_endpoint: Mutex<Option<String>>,
    pub(crate) streams: Mutex<BTreeMap<String, Arc<Stream>>>,
    pub(crate) counter: AtomicU64,
}

impl Shared {
    pub(crate) fn stream(&self, name: &str) -> Option<Arc<Stream>> {
        self.streams.lock().unwrap().get(name).cloned()
    }

    pub(crate) fn streams(&self) -> Vec<Arc<Stream>> {
        self.streams.lock().unwrap().values().cloned().collect()
    }

    /// Makes a stream.
    ///
    /// # Errors
    /// ResourceInUseException if there is one of that name.
    pub(crate) fn create_stream(&self, name: &str) -> Result<Arc<Stream>, ApiError> {
        let mut streams = self.streams.lock().unwrap();
        if streams.contains_key(name) {
            return Err(ApiError::new(
                400,
                "ResourceInUseException",
                format!("The stream {name} already exists."),
            ));
        }
        let config = &self.config;
        let created_ms = config.clock.now_ms();
        let partition = match config.region.as_str() {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        let arn = format!(
            "arn:{partition}:kinesisvideo:{}:{}:stream/{name}/{created_ms}",
            config.region, config.account
        );
        let index = self.counter.fetch_add(1, Ordering::Relaxed);
        let stream = Arc::new(Stream::new(name, arn, created_ms, index, config.retention));
        streams.insert(name.to_owned(), stream.clone());
        Ok(stream)
    }

    pub(crate) fn delete_stream(&self, stream: &Stream) {
        self.streams.lock().unwrap().remove(&stream.name);
        stream.update(|state| state.deleted = true);
    }

    /// The stream a request names, by name, ARN or both.
    pub(crate) fn named_stream(&self, json: &Value) -> Result<Arc<Stream>, ApiError> {
        let name = string(json, "StreamName")?;
        let arn = string(json, "StreamARN")?;
        self.find_stream(name, arn)
    }

    pub(crate) fn find_stream(
        &self,
        name: Option<&str>,
        arn: Option<&str>,
    ) -> Result<Arc<Stream>, ApiError> {
        if let Some(name) = name {
            check_name(name)?;
        }
        let in_arn = arn
            .map(|arn| {
                let constraint = "an ARN of a stream, at most 1024 characters";
                name_in_arn(arn).ok_or_else(|| unfit("StreamARN", arn, constraint))
            })
            .transpose()?;
        let name = name.or(in_arn).ok_or_else(|| {
            ApiError::invalid_argument("Either StreamName or StreamARN must be given.")
        })?;
        self.stream(name)
            .filter(|stream| arn.is_none_or(|arn| arn == stream.arn))
            .ok_or_else(|| ApiError::not_found("The requested stream is not found or not active."))
    }

    pub(crate) fn count_call(&self, stream: &str, operation: Operation) -> Result<(), ApiError> {
        if !self.config.enforce_limits {
            return Ok(());
        }
        let mut limits = self.limits.lock().unwrap();
        limits.call(stream, operation, Instant::now())
    }

    /// What GetDataEndpoint answers to a client that reached us as `host`.
    pub(crate) fn data_endpoint(&self, host: Option<&str>) -> String {
        if let Some(url) = &*self.data_endpoint.lock().unwrap() {
            return url.clone();
        }
        match host {
            Some(host) if self.anywhere => {
                format!("{}://{}", self.scheme, with_port(host, self.port))
            }
            _ => self.endpoint.clone(),
        }
    }

    /// Puts a request into the log, and drops the oldest where that is one too many.
    fn note(&self, entry: Entry) {
        let mut log = self.log.lock().unwrap();
        log.push_back(entry);
        let most = self.config.kept_requests;
        if most.is_some_and(|most| log.len() > most) {
            log.pop_front();
        }
    }

    fn request_id(&self) -> String {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let mixed = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{n:012x}",
            mixed >> 32,
            mixed >> 16 & 0xffff,
            mixed >> 4 & 0xfff,
            mixed & 0xfff,
        )
    }
}

/// A Host header's value with a port; kvssink's has none, whatever port it came to.
fn with_port(host: &str, port: u16) -> String {
    // The colons of an IPv6 address are in brackets.
    let after_address = host.rsplit(']').next().unwrap_or_default();
    match after_address.contains(':') {
        true => host.to_owned(),
        false => format!("{host}:{port}"),
    }
}

/// # Errors
/// InvalidArgumentException where it is no stream name.
pub(crate) fn check_name(name: &str) -> Result<(), ApiError> {
    match is_stream_name(name) {
        true => Ok(()),
        false => Err(unfit(
            "StreamName",
            name,
            "1 to 256 characters of [a-zA-Z0-9_.-]+",
        )),
    }
}

/// A request whose headers, and but for PutMedia whose body, have been read.
pub(crate) struct Call {
    pub(crate) head: Head,
    pub(crate) operation: Operation,
    pub(crate) entry: Entry,
    pub(crate) actions: Actions,
    pub(crate) clock: Clock,
}

impl Call {
    /// A response with the headers that every one has.
    pub(crate) fn response(&self, response: Response) -> Response {
        response
            .with("x-amzn-RequestId", self.entry.id())
            .with("Date", httpdate::fmt_http_date(self.clock.now()))
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(mut connection: Connection, shared: Arc<Shared>) {
    loop {
        let head = match connection.read_head().await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let _ = connection.respond(&Response::new(400)).await;
                return connection.fin().await;
            }
            Err(_) => return,
        };
        let close = head.wants_close();
        let after = request(&mut connection, &shared, head)
            .await
            .unwrap_or(After::Fin);
        match after {
            After::KeepAlive if !close && connection.body_is_read() => {}
            After::Reset => return connection.reset().await,
            After::KeepAlive | After::Fin => return connection.fin().await,
        }
    }
}

async fn request(
    connection: &mut Connection,
    shared: &Arc<Shared>,
    head: Head,
) -> io::Result<After> {
    let operation = Operation::of(head.path());
    let entry = Entry::new(operation, &head, shared.request_id());
    shared.note(entry.clone());
    let finisher = entry.finish_on_drop();

    let streaming = operation == Operation::PutMedia;
    let mut body = bytes::Bytes::new();
    if !streaming {
        if head.expects_continue() {
            connection.send_continue().await?;
        }
        body = connection.read_whole_body(MAX_REQUEST).await?;
    }
    let json: Result<Value, _> = match body.is_empty() {
        true => Ok(Value::Object(serde_json::Map::new())),
        false => serde_json::from_slice(&body),
    };
    let stream = match &json {
        _ if streaming => putmedia::stream_in_headers(&head),
        Ok(json) => stream_in_json(json),
        Err(_) => None,
    };
    entry.update(|request| {
        if !streaming && let Ok(json) = &json {
            request.json = json.clone();
        }
        request.stream = stream.clone();
        request.selector = match operation {
            Operation::GetMedia => getmedia::parse_selector(&request.json).ok(),
            _ => None,
        };
    });

    let actions = {
        let mut faults = shared.faults.lock().unwrap();
        faults.take(operation, stream.as_deref())
    };
    let delay = shared.config.latency + actions.delay.unwrap_or_default();
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let call = Call {
        clock: shared.config.clock.skewed_by(actions.clock_skew_ms),
        head,
        operation,
        entry,
        actions,
    };
    if let Some(answer) = &call.actions.answer {
        let after = scripted(connection, &call, answer).await?;
        return Ok(after);
    }

    let payload = match streaming {
        true => Payload::Streamed,
        false => Payload::Whole(&body),
    };
    let known = call.operation != Operation::Unknown;
    let allowed = call.head.method == "POST" || (streaming && call.head.method == "PUT");
    let checked = match known && allowed {
        false => Err(ApiError::new(
            404,
            "UnknownOperationException",
            format!("{} {} is no operation.", call.head.method, call.head.target),
        )),
        true => {
            let keys = shared.keys.lock().unwrap();
            let region = &shared.config.region;
            sigv4::verify(&call.head, payload, region, &keys, call.clock)
        }
    };
    if let Err(error) = checked {
        return refuse(connection, &call, &error).await;
    }
    match call.operation {
        Operation::PutMedia => putmedia::handle(connection, shared, call, finisher).await,
        Operation::GetMedia => match json {
            Ok(json) => get_media(connection, shared, &call, &json).await,
            Err(error) => refuse(connection, &call, &serialization(&error)).await,
        },
        operation => {
            let answer = json
                .map_err(|error| serialization(&error))
                .and_then(|json| {
                    control::handle(shared, operation, &json, call.head.header("host"))
                });
            match answer {
                Ok(answer) => {
                    let response = Response::new(200).body("application/json", answer.to_string());
                    answer_with(connection, &call, response).await
                }
                Err(error) => refuse(connection, &call, &error).await,
            }
        }
    }
}

fn serialization(error: &serde_json::Error) -> ApiError {
    ApiError::new(
        400,
        "SerializationException",
        format!("The body is not JSON: {error}"),
    )
}

fn stream_in_json(json: &Value) -> Option<String> {
    let text = |member: &str| json.get(member).and_then(Value::as_str);
    text("StreamName")
        .or_else(|| text("StreamARN").and_then(name_in_arn))
        .map(str::to_owned)
}

async fn answer_with(
    connection: &mut Connection,
    call: &Call,
    response: Response,
) -> io::Result<After> {
    let response = call.response(response);
    call.entry
        .update(|request| request.status = Some(response.status));
    connection.respond(&response).await?;
    call.entry
        .sent
        .fetch_add(response.body.len() as u64, Ordering::Relaxed);
    Ok(After::KeepAlive)
}

/// Answers with an error.
pub(crate) async fn refuse(
    connection: &mut Connection,
    call: &Call,
    error: &ApiError,
) -> io::Result<After> {
    call.entry
        .update(|request| request.error_code = Some(error.code.clone()));
    answer_with(connection, call, error.response()).await
}

async fn scripted(connection: &mut Connection, call: &Call, answer: &Answer) -> io::Result<After> {
    match answer {
        Answer::Error {
            status,
            code,
            message,
        } => refuse(connection, call, &ApiError::new(*status, code, message)).await,
        Answer::Xml403 => {
            let body = "<AccessDeniedException>\n  <Message>Unable to determine service/operation \
                        name to be authorized</Message>\n</AccessDeniedException>\n";
            let response = Response::new(403).body("application/xml", body);
            answer_with(connection, call, response).await
        }
        Answer::Hang => {
            connection.drain().await;
            Ok(After::Fin)
        }
        Answer::Close => Ok(After::Fin),
        Answer::Reset => Ok(After::Reset),
    }
}

async fn get_media(
    connection: &mut Connection,
    shared: &Arc<Shared>,
    call: &Call,
    json: &Value,
) -> io::Result<After> {
    let started = getmedia::parse_selector(json).and_then(|selector| {
        let stream = shared.named_stream(json)?;
        shared.count_call(&stream.name, Operation::GetMedia)?;
        let enforce = shared.config.enforce_limits;
        let guard = ConnectionGuard::open(&shared.limits, &stream.name, enforce)?;
        let start = getmedia::find_start(&stream, &selector, &shared.config)?;
        Ok((stream, start, guard))
    });
    let (stream, start, _guard) = match started {
        Ok(started) => started,
        Err(error) => return refuse(connection, call, &error).await,
    };
    let response = call.response(Response::new(200).with("Content-Type", "video/webm"));
    call.entry.update(|request| request.status = Some(200));
    connection
        .start_chunked(&response, call.entry.sent.clone())
        .await?;
    let after = getmedia::deliver(
        connection,
        shared,
        &stream,
        start,
        &call.actions,
        call.clock,
        &call.entry,
    )
    .await;
    Ok(after)
}
