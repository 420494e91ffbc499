//! HTTP/1.1 by hand: a test decides here what each write to the socket holds and how a connection
//! ends, which a library would decide by itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Request heads larger than this are refused.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

/// A connection's transport, plain or TLS.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {
    /// The socket below.
    fn tcp(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

#[cfg(feature = "tls")]
impl Io for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Request line and headers.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn has(&self, name: &str, token: &str) -> bool {
        self.header(name).is_some_and(|value| {
            value
                .split(',')
                .any(|part| part.trim().eq_ignore_ascii_case(token))
        })
    }

    pub(crate) fn expects_continue(&self) -> bool {
        self.has("expect", "100-continue")
    }

    pub(crate) fn wants_close(&self) -> bool {
        self.has("connection", "close")
    }
}

/// How much of a request body is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Done,
}

/// How a response body without a clean end is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// FIN: the connection is closed inside the chunked body.
    Fin,
    /// RST, when what was sent has arrived (on Linux; elsewhere bytes on their way may be lost, and
    /// so they are for a client that doesn't read them within a second).
    Reset,
    /// The body ends as though that were all: the last chunk is sent.
    CleanEnd,
}

/// One client connection.
pub(crate) struct Connection {
    io: Box<dyn Io>,
    buffer: BytesMut,
    framing: Framing,
    /// Of the response body under way.
    body_sent: Arc<AtomicU64>,
}

impl Connection {
    pub(crate) fn new(io: Box<dyn Io>) -> Connection {
        Connection {
            io,
            buffer: BytesMut::new(),
            framing: Framing::Done,
            body_sent: Arc::default(),
        }
    }

    /// The next request's head; `None` when the client is done.
    pub(crate) async fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(head) = self.parse_head()? {
                return Ok(Some(head));
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(invalid("request head too large"));
            }
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    fn parse_head(&mut self) -> io::Result<Option<Head>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(&self.buffer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(invalid(&error.to_string())),
        };
        let head = Head {
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            headers: request
                .headers
                .iter()
                .map(|h| {
                    let value = String::from_utf8_lossy(h.value).into_owned();
                    (h.name.to_owned(), value)
                })
                .collect(),
        };
        self.buffer.advance(length);
        self.framing = if head.has("transfer-encoding", "chunked") {
            Framing::ChunkSize
        } else {
            let length = head.header("content-length").unwrap_or("0");
            match length.trim().parse() {
                Ok(0) => Framing::Done,
                Ok(length) => Framing::Length(length),
                Err(_) => return Err(invalid("content-length is no number")),
            }
        };
        Ok(Some(head))
    }

    /// The next piece of the request body, as it comes; `None` at its end.
    ///
    /// # Errors
    /// `UnexpectedEof` if the connection ends first.
    pub(crate) async fn read_body(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.framing {
                Framing::Done => return Ok(None),
                Framing::Length(left) | Framing::Chunk(left) if !self.buffer.is_empty() => {
                    let take = left.min(self.buffer.len() as u64);
                    let left = left - take;
                    self.framing = match self.framing {
                        Framing::Length(_) if left == 0 => Framing::Done,
                        Framing::Length(_) => Framing::Length(left),
                        _ if left == 0 => Framing::ChunkEnd,
                        _ => Framing::Chunk(left),
                    };
                    return Ok(Some(self.buffer.split_to(take as usize).freeze()));
                }
                Framing::ChunkSize | Framing::ChunkEnd => {
                    if let Some(line) = self.line() {
                        self.framing = self.after_line(&line)?;
                        continue;
                    }
                    if self.buffer.len() > MAX_HEAD {
                        return Err(invalid("chunk header too large"));
                    }
                }
                Framing::Length(_) | Framing::Chunk(_) => {}
            }
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn line(&mut self) -> Option<Bytes> {
        let end = self.buffer.iter().position(|b| *b == b'\n')?;
        let mut line = self.buffer.split_to(end + 1).freeze();
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.truncate(end - 1);
        }
        Some(line)
    }

    fn after_line(&mut self, line: &[u8]) -> io::Result<Framing> {
        if self.framing == Framing::ChunkEnd {
            return match line.is_empty() {
                true => Ok(Framing::ChunkSize),
                false => Err(invalid("a chunk is longer than its size")),
            };
        }
        let digits = line.split(|b| *b == b';').next().unwrap_or_default();
        let text = std::str::from_utf8(digits).unwrap_or_default().trim();
        match u64::from_str_radix(text, 16) {
            // Trailers: none of our clients sends any.
            Ok(0) => match self.buffer.starts_with(b"\r\n") {
                true => {
                    self.buffer.advance(2);
                    Ok(Framing::Done)
                }
                false => Ok(Framing::Done),
            },
            Ok(size) => Ok(Framing::Chunk(size)),
            Err(_) => Err(invalid("chunk size is no number")),
        }
    }

    /// Everything left of the request body, at most `limit` bytes of it.
    pub(crate) async fn read_whole_body(&mut self, limit: usize) -> io::Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.read_body().await? {
            if whole.len() + piece.len() > limit {
                return Err(invalid("request body too large"));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// Whether the request body has been read to its end.
    pub(crate) fn body_is_read(&self) -> bool {
        self.framing == Framing::Done
    }

    pub(crate) async fn send_continue(&mut self) -> io::Result<()> {
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await
    }

    /// Sends a response with a body of known length.
    pub(crate) async fn respond(&mut self, response: &Response) -> io::Result<()> {
        let mut out = response.head();
        out.extend(format!("Content-Length: {}\r\n\r\n", response.body.len()).into_bytes());
        out.extend_from_slice(&response.body);
        self.write(&out).await
    }

    /// Sends a response's head; its body follows in chunks. `counter` counts the body's bytes.
    pub(crate) async fn start_chunked(
        &mut self,
        response: &Response,
        counter: Arc<AtomicU64>,
    ) -> io::Result<()> {
        self.body_sent = counter;
        let mut out = response.head();
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        self.write(&out).await
    }

    /// Sends one HTTP chunk in one write.
    pub(crate) async fn chunk(&mut self, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let mut out = Vec::with_capacity(data.len() + 20);
        out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
        self.write(&out).await?;
        self.body_sent
            .fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Ends a chunked body.
    pub(crate) async fn end_chunked(&mut self) -> io::Result<()> {
        self.write(b"0\r\n\r\n").await
    }

    async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.io.write_all(data).await?;
        self.io.flush().await
    }

    /// Resolves when the client has closed the connection or broken it. What it sends in the
    /// meantime is kept for the next request.
    pub(crate) async fn closed(&mut self) -> io::Error {
        loop {
            match self.io.read_buf(&mut self.buffer).await {
                Ok(0) => return io::ErrorKind::ConnectionAborted.into(),
                Ok(_) if self.buffer.len() > MAX_HEAD => {
                    return invalid("pipelined requests during a response");
                }
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Reads and forgets what the client sends until it closes the connection or breaks it.
    pub(crate) async fn drain(&mut self) {
        let mut sink = [0; 4096];
        while matches!(self.io.read(&mut sink).await, Ok(n) if n > 0) {}
    }

    /// Closes with FIN, having read what the client still sends, so that it is no RST.
    pub(crate) async fn fin(mut self) {
        let _ = self.io.shutdown().await;
        let _ = tokio::time::timeout(Duration::from_secs(2), self.drain()).await;
    }

    /// Closes with RST, having waited for what was sent to arrive: the kernel drops what it still
    /// holds. A client that doesn't read is not waited for longer than a second.
    pub(crate) async fn reset(self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while unacknowledged(self.io.tcp()) > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _ = self.io.tcp().set_zero_linger();
    }
}

/// Bytes sent that the other side's TCP has not acknowledged; 0 where that can't be asked.
#[cfg(target_os = "linux")]
fn unacknowledged(socket: &TcpStream) -> usize {
    use std::os::fd::AsRawFd;
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (for sockets: SIOCOUTQ) writes one int, to where the pointer points.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match result {
        0 => usize::try_from(bytes).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(not(target_os = "linux"))]
fn unacknowledged(_: &TcpStream) -> usize {
    0
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A response, or the head of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Response {
    pub(crate) fn new(status: u16) -> Response {
        Response {
            status,
            ..Response::default()
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Response {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Response {
        self.body = body.into();
        self.with("Content-Type", content_type)
    }

    fn head(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            413 => "Payload Too Large",
            429 => "Too Many Requests",
            500 => "Internal Server Error",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            _ => "Status",
        };
        let mut out = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            out.push_str(name);
            out.push_str(": ");
            out.push_str(value);
            out.push_str("\r\n");
        }
        out.into_bytes()
    }
}
