//! A client of its own for the tests: a socket, and signatures by the aws-sigv4 crate.

#![allow(dead_code)]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use kvs_local::{DEFAULT_ACCESS_KEY, DEFAULT_REGION, DEFAULT_SECRET_KEY, Server};
use serde_json::{Value, json};

/// The instant the tests wait for anything at most.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How a body came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Clean,
    Fin,
    Reset,
    /// Nothing came for the time the reader was told to wait.
    Silent,
}

/// Who asks, and how.
#[derive(Clone)]
pub struct Client {
    pub address: String,
    pub access: String,
    pub secret: String,
    pub token: Option<String>,
    pub region: String,
    pub service: String,
    pub time: SystemTime,
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    socket: TcpStream,
    buffer: Vec<u8>,
    /// Sizes of the HTTP chunks read so far.
    pub chunks: Vec<usize>,
}

impl Client {
    pub fn new(server: &Server) -> Client {
        Client {
            address: server.local_addr().to_string(),
            access: DEFAULT_ACCESS_KEY.to_owned(),
            secret: DEFAULT_SECRET_KEY.to_owned(),
            token: None,
            region: DEFAULT_REGION.to_owned(),
            service: "kinesisvideo".to_owned(),
            time: SystemTime::now(),
        }
    }

    /// The headers of a signed request, Host among them.
    pub fn signed(
        &self,
        method: &str,
        path: &str,
        extra: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<(String, String)> {
        let identity = Credentials::new(
            self.access.clone(),
            self.secret.clone(),
            self.token.clone(),
            None,
            "tests",
        )
        .into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(self.time)
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let mut headers: Vec<(String, String)> = vec![("host".into(), self.address.clone())];
        headers.extend(
            extra
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
        );
        let url = format!("http://{}{path}", self.address);
        let request = SignableRequest::new(
            method,
            &url,
            headers.iter().map(|(n, v)| (n.as_str(), v.as_str())),
            SignableBody::Bytes(body),
        )
        .unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        headers.extend(
            instructions
                .headers()
                .map(|(n, v)| (n.to_owned(), v.to_owned())),
        );
        headers
    }

    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Answer {
        self.try_send(method, path, headers, body).unwrap()
    }

    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut socket = TcpStream::connect(&self.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut out = format!("{method} {path} HTTP/1.1\r\n");
        for (name, value) in headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"))
        {
            out.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        out.push_str("\r\n");
        let mut bytes = out.into_bytes();
        bytes.extend_from_slice(body);
        socket.write_all(&bytes)?;
        Answer::read(socket)
    }

    pub fn call(&self, path: &str, json: &Value) -> Answer {
        let body = json.to_string();
        let headers = self.signed("POST", path, &[], body.as_bytes());
        self.send("POST", path, &headers, body.as_bytes())
    }

    pub fn try_call(&self, path: &str, json: &Value) -> io::Result<Answer> {
        let body = json.to_string();
        let headers = self.signed("POST", path, &[], body.as_bytes());
        self.try_send("POST", path, &headers, body.as_bytes())
    }

    pub fn get_media(&self, stream: &str, selector: &Value) -> Answer {
        self.call(
            "/getMedia",
            &json!({ "StreamName": stream, "StartSelector": selector }),
        )
    }

    pub fn earliest(&self, stream: &str) -> Answer {
        self.get_media(stream, &json!({ "StartSelectorType": "EARLIEST" }))
    }
}

impl Answer {
    pub fn read(socket: TcpStream) -> io::Result<Answer> {
        let mut answer = Answer {
            status: 0,
            headers: Vec::new(),
            socket,
            buffer: Vec::new(),
            chunks: Vec::new(),
        };
        let head = loop {
            if let Some(at) = answer.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = answer.buffer.drain(..at + 4).collect();
                break String::from_utf8(head).unwrap();
            }
            if answer.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        answer.status = status.parse().unwrap();
        answer.headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(answer)
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 64 << 10];
        let read = self.socket.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(read)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The error's name.
    pub fn error(&self) -> &str {
        self.header("x-amzn-errortype").unwrap_or_default()
    }

    pub fn json(mut self) -> Value {
        let length: usize = self.header("content-length").unwrap().parse().unwrap();
        while self.buffer.len() < length {
            assert_ne!(self.fill().unwrap(), 0);
        }
        serde_json::from_slice(&self.buffer[..length]).unwrap()
    }

    pub fn text(mut self) -> String {
        let length: usize = self.header("content-length").unwrap().parse().unwrap();
        while self.buffer.len() < length {
            assert_ne!(self.fill().unwrap(), 0);
        }
        String::from_utf8(self.buffer[..length].to_vec()).unwrap()
    }

    /// Reads a chunked body up to its end, or until `most` bytes have come, or nothing has come
    /// for `patience`.
    pub fn body(&mut self, most: usize, patience: Duration) -> (Vec<u8>, Option<End>) {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut body = Vec::new();
        loop {
            // Whole chunks alone are counted, but a cut chunk's bytes are body too.
            if let Some(line) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let size = std::str::from_utf8(&self.buffer[..line]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                if self.buffer.len() >= line + 2 + size + 2 {
                    let chunk: Vec<u8> = self.buffer.drain(..line + size + 4).collect();
                    if size == 0 {
                        return (body, Some(End::Clean));
                    }
                    self.chunks.push(size);
                    body.extend_from_slice(&chunk[line + 2..line + 2 + size]);
                    if body.len() >= most {
                        return (body, None);
                    }
                    continue;
                }
            }
            let end = match self.fill() {
                Ok(0) => End::Fin,
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => End::Reset,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    End::Silent
                }
                Err(error) => panic!("{error}"),
            };
            return (body, Some(end));
        }
    }

    /// The next `bytes` bytes of a body, and no more.
    pub fn take(&mut self, bytes: usize) -> Vec<u8> {
        let (body, end) = self.body(bytes, PATIENCE);
        assert_eq!(body.len(), bytes, "the body ended: {end:?}");
        body
    }

    /// The rest of a body that must end cleanly.
    pub fn rest(&mut self) -> Vec<u8> {
        let (body, end) = self.body(usize::MAX, PATIENCE);
        assert_eq!(end, Some(End::Clean));
        body
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }
}

/// A recording, or `None` after having said that the test is skipped.
pub fn recording(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("KVS_RECORDINGS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/recordings"),
        PathBuf::from,
    );
    let path = folder.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            println!("skipped: recording {}: {error}", path.display());
            None
        }
    }
}
