//! What the tests of the AWS side share: a small HTTP server, with TLS too, that notes what it is
//! sent and answers as it is told; clients of it; and processes with an environment of their own.
#![allow(dead_code)] // each test binary uses its part

pub mod iot;

use gstkvsgetmedia::aws::{Body, Client, Config, Credentials};
use gstkvsgetmedia::error::Error;
use gstkvsgetmedia::request::{Selector, StreamId};
use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// What every test's secrets contain.
pub const MARKER: &str = "xyzzySECRETxyzzy";

// ---- a server ---------------------------------------------------------------------------------

#[derive(Debug, Clone)]
pub struct Request {
    pub at: Instant,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// What the client showed for itself, in DER.
    pub certificate: Option<Vec<u8>>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What the server does once it has the request.
#[derive(Clone)]
pub enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// Until the client goes; noted in `Server::gone`.
    Hang,
    /// The end of the connection.
    Close,
}

pub struct Server {
    pub address: SocketAddr,
    pub requests: Arc<Mutex<Vec<Request>>>,
    pub gone: Arc<AtomicUsize>,
}

impl Server {
    pub async fn new(answer: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Server {
        Server::start(None, answer).await
    }

    /// One that speaks TLS.
    pub async fn tls(
        config: rustls::ServerConfig,
        answer: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static,
    ) -> Server {
        Server::start(Some(Arc::new(config).into()), answer).await
    }

    async fn start(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let server = Server {
            address: listener.local_addr().expect("address"),
            requests: Arc::default(),
            gone: Arc::default(),
        };
        let (requests, gone) = (server.requests.clone(), server.gone.clone());
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (requests, gone) = (requests.clone(), gone.clone());
                let (answer, tls) = (answer.clone(), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else {
                        return serve(socket, None, &requests, &gone, &*answer).await;
                    };
                    // A client that does not like us says so itself.
                    if let Ok(socket) = tls.accept(socket).await {
                        let shown = socket.get_ref().1.peer_certificates();
                        let shown = shown.map(|chain| chain[0].to_vec());
                        serve(socket, shown, &requests, &gone, &*answer).await;
                    }
                });
            }
        });
        server
    }

    /// One that gives the same complete answer to everything.
    pub async fn always(status: &str, headers: &str, body: &str) -> Server {
        let answer = response(status, headers, body);
        Server::new(move |_| vec![answer.clone()]).await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("requests").clone()
    }
}

async fn serve(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    certificate: Option<Vec<u8>>,
    requests: &Mutex<Vec<Request>>,
    gone: &AtomicUsize,
    answer: &(dyn Fn(&Request) -> Vec<Step> + Send + Sync),
) {
    while let Some(mut request) = read_request(&mut socket).await {
        request.certificate.clone_from(&certificate);
        requests.lock().expect("requests").push(request.clone());
        for step in answer(&request) {
            match step {
                Step::Send(bytes) => {
                    if socket.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Step::Close => return,
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Hang => {
                    let _ = socket.read(&mut [0; 1]).await;
                    gone.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

pub async fn read_request(socket: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let path = lines.next()?.split(' ').nth(1)?.to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let request = Request {
                at: Instant::now(),
                path,
                headers,
                body: body.to_owned(),
                certificate: None,
            };
            let length = request
                .header("content-length")
                .map_or(0, |n| n.parse().expect("length"));
            if body.len() >= length {
                return Some(request);
            }
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

pub fn response(status: &str, headers: &str, body: &str) -> Step {
    let length = body.len();
    Step::Send(
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
            .into_bytes(),
    )
}

pub fn error_response(status: u16, code: &str, message: &str) -> Step {
    response(
        &format!("{status} X"),
        &format!(
            "x-amzn-errortype: {code}:http://internal.amazon.com/\r\nx-amzn-requestid: req-1\r\n\
             content-type: application/json\r\n"
        ),
        &format!("{{\"Message\":\"{message}\"}}"),
    )
}

pub fn head() -> Step {
    Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: video/webm\r\nx-amzn-requestid: req-media\r\n\
          transfer-encoding: chunked\r\n\r\n"
            .to_vec(),
    )
}

pub fn chunk(bytes: &[u8]) -> Step {
    let mut step = format!("{:x}\r\n", bytes.len()).into_bytes();
    step.extend_from_slice(bytes);
    step.extend_from_slice(b"\r\n");
    Step::Send(step)
}

pub fn end() -> Step {
    Step::Send(b"0\r\n\r\n".to_vec())
}

// ---- clients ----------------------------------------------------------------------------------

pub fn keys() -> Credentials {
    Credentials::Static {
        access_key: "AKIDEXAMPLE".into(),
        secret_key: format!("{MARKER}/key"),
        session_token: Some(format!("{MARKER}/token")),
    }
}

/// A client of the server for both planes.
pub fn settings(server: &Server, stream: &str) -> Config {
    Config {
        region: Some("eu-west-1".into()),
        credentials: keys(),
        endpoint_url: Some(server.url()),
        connect_timeout: Duration::from_secs(2),
        ..Config::new(StreamId::Name(stream.into()))
    }
}

pub async fn connect(config: Config) -> Client {
    Client::new(config).await.expect("client")
}

pub async fn all(body: &mut Body) -> Result<Vec<u8>, (Vec<u8>, Error)> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => return Err((bytes, error)),
        }
    }
    Ok(bytes)
}

pub fn endpoint_answer(url: &str) -> Step {
    response(
        "200 OK",
        "x-amzn-requestid: req-ep\r\n",
        &format!("{{\"DataEndpoint\":\"{url}\"}}"),
    )
}

/// Set in the process of a test that needs an environment of its own.
const CHILD: &str = "KVSGETMEDIA_TEST_CHILD";

/// Whether this is that process.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

pub fn run(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(body);
}

/// Runs a test of this file in a process of its own, with a clean AWS environment plus `env`.
pub fn in_child(test: &str, env: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().expect("exe"));
    let is_foreign = |name: &str| name.starts_with("AWS_") || name.ends_with("_PROXY");
    for (name, _) in std::env::vars().filter(|(name, _)| is_foreign(&name.to_uppercase())) {
        command.env_remove(name);
    }
    let output = command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .env("AWS_CONFIG_FILE", "/nonexistent/config")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", "/nonexistent")
        .envs(env.iter().copied())
        .output()
        .expect("child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{test}: {text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The same, while servers of the calling test answer.
pub async fn in_child_beside(test: &'static str, env: &[(&str, &str)]) {
    let env: Vec<(String, String)> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let child = tokio::task::spawn_blocking(move || {
        let env: Vec<_> = env.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        in_child(test, &env);
    });
    child.await.expect("child");
}

/// A folder that goes with the test.
pub struct Folder(pub std::path::PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("kvs-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("folder");
        Folder(path)
    }

    /// Writes a file, and gives its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(&path, text).expect("write");
        path.to_str().expect("path").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Access key and region that a GetMedia is signed with.
pub async fn credential_used(credentials: Credentials, region: Option<&str>) -> String {
    let server = Server::new(|_| vec![head(), end()]).await;
    let region = region.map(str::to_owned);
    let config = Config {
        credentials,
        region,
        ..settings(&server, "s")
    };
    let client = connect(config).await;
    client
        .get_media(&server.url(), &Selector::Now)
        .await
        .expect("media");
    let request = server.requests().pop().expect("request");
    let authorization = request.header("authorization").expect("signed");
    let (_, rest) = authorization.split_once("Credential=").expect("credential");
    let parts: Vec<&str> = rest.split('/').collect();
    format!("{} {}", parts[0], parts[2])
}

/// `seconds` from now, as AWS writes times.
pub fn in_seconds(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds);
    time.expect("time")
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// What STS answers to `action`.
pub fn sts_answer(action: &str, key: &str, secret: &str, token: &str) -> Step {
    let body = format!(
        "<{action}Response><{action}Result><Credentials><AccessKeyId>{key}</AccessKeyId>\
         <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
         <Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></{action}Result>\
         </{action}Response>"
    );
    response("200 OK", "", &body)
}
