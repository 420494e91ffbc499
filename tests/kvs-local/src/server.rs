//! The server as tests hold it: started, asked, scripted, stopped.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::document::DocumentStyle;
use crate::fault::{Fault, Faults};
use crate::http::Connection;
use crate::log::Request;
use crate::service::{self, Config, Shared};
use crate::sigv4::Keys;
use crate::store::Undocumented;
use crate::stream::StreamHandle;
use crate::tls;

/// The access key every server knows unless it is given others.
pub const DEFAULT_ACCESS_KEY: &str = "AKIDEXAMPLE";
/// The secret of [`DEFAULT_ACCESS_KEY`].
pub const DEFAULT_SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// The region a server is in unless it is told another.
pub const DEFAULT_REGION: &str = "us-west-2";

/// How a server shall be.
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    listen: SocketAddr,
    tls: bool,
    credentials: Vec<(String, String, Option<String>)>,
    config: Config,
}

impl Builder {
    fn new() -> Builder {
        Builder {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            tls: false,
            credentials: Vec::new(),
            config: Config {
                region: DEFAULT_REGION.to_owned(),
                account: "111122223333".to_owned(),
                retention: None,
                latency: Duration::ZERO,
                enforce_limits: true,
                enforce_rate: false,
                clock: Clock::default(),
                undocumented: Undocumented::default(),
                style: DocumentStyle::default(),
                chunked_live: false,
                keep_partial: false,
                pace: None,
                rotate_after: None,
                rotate_after_fragments: None,
                kept_requests: None,
            },
        }
    }

    /// Where to listen (default: 127.0.0.1, a free port).
    pub fn listen(mut self, addr: SocketAddr) -> Builder {
        self.listen = addr;
        self
    }

    /// HTTPS, with a certificate for localhost, 127.0.0.1 and ::1 of an authority that is made at
    /// the start: see [`Server::ca_pem`]. Needs the crate's feature `tls`, which is on by default.
    pub fn tls(mut self, tls: bool) -> Builder {
        self.tls = tls;
        self
    }

    /// The region requests must be signed for (default: us-west-2).
    pub fn region(mut self, region: &str) -> Builder {
        self.config.region = region.to_owned();
        self
    }

    /// An access key this server knows. The first call replaces the default key, further ones add
    /// keys. Requests by a key with a session token must carry it.
    pub fn credentials(mut self, access: &str, secret: &str, token: Option<&str>) -> Builder {
        let token = token.map(str::to_owned);
        self.credentials
            .push((access.to_owned(), secret.to_owned(), token));
        self
    }

    /// How long fragments are kept, from when they came to this server (default: for ever).
    pub fn retention(mut self, retention: Duration) -> Builder {
        self.config.retention = Some(retention);
        self
    }

    /// Waits so long before every response's headers.
    pub fn latency(mut self, latency: Duration) -> Builder {
        self.config.latency = latency;
        self
    }

    /// Whether 5 calls a second and 3 GetMedia connections for a stream, and the sizes of
    /// fragments, are limits (default: yes).
    pub fn enforce_limits(mut self, enforce: bool) -> Builder {
        self.config.enforce_limits = enforce;
        self
    }

    /// Whether a GetMedia sends no more than 5 fragments a second (default: no).
    pub fn enforce_rate(mut self, enforce: bool) -> Builder {
        self.config.enforce_rate = enforce;
        self
    }

    /// How wrong the server's clock is, in seconds; negative: slow.
    pub fn clock_skew(mut self, seconds: i64) -> Builder {
        self.config.clock.skew_ms = seconds * 1000;
        self
    }

    /// The answers to what the service doesn't document.
    pub fn undocumented(mut self, choice: Undocumented) -> Builder {
        self.config.undocumented = choice;
        self
    }

    /// How documents are written that are not a recording's.
    pub fn document_style(mut self, style: DocumentStyle) -> Builder {
        self.config.style = style;
        self
    }

    /// Whether the bytes of a fragment under upload are sent as they come (default: no, when it is
    /// complete).
    pub fn chunked_live(mut self, live: bool) -> Builder {
        self.config.chunked_live = live;
        self
    }

    /// Whether a fragment whose producer was lost in it is kept as far as it came, and served
    /// without trailing tags (default: no).
    pub fn keep_partial_fragments(mut self, keep: bool) -> Builder {
        self.config.keep_partial = keep;
        self
    }

    /// Sends fragments so many times as fast as they were recorded, by their producer timestamps
    /// (default: as fast as they are read).
    ///
    /// # Panics
    /// If it is not a positive number.
    pub fn pace(mut self, times: f64) -> Builder {
        assert!(times.is_finite() && times > 0.0, "pace must be positive");
        self.config.pace = Some(times);
        self
    }

    /// Ends every GetMedia body cleanly at the first fragment boundary after so long, as the
    /// service does after 45 minutes.
    pub fn rotate_after(mut self, age: Duration) -> Builder {
        self.config.rotate_after = Some(age);
        self
    }

    /// Ends every GetMedia body cleanly after so many fragments.
    pub fn rotate_after_fragments(mut self, fragments: usize) -> Builder {
        self.config.rotate_after_fragments = Some(fragments.max(1));
        self
    }

    /// Of how many requests [`Server::requests`] tells, the latest (default: of all).
    pub fn keep_requests(mut self, most: usize) -> Builder {
        self.config.kept_requests = Some(most);
        self
    }

    /// Starts the server.
    ///
    /// # Panics
    /// Where [`try_start`](Builder::try_start) has an error.
    pub fn start(self) -> Server {
        match self.try_start() {
            Ok(server) => server,
            Err(error) => panic!("kvs-local doesn't start: {error}"),
        }
    }

    /// Starts the server.
    ///
    /// # Errors
    /// When it can't listen there, or has no TLS and shall.
    pub fn try_start(self) -> io::Result<Server> {
        let identity = match self.tls {
            true => Some(tls::Identity::generate()?),
            false => None,
        };
        let listener = std::net::TcpListener::bind(self.listen)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let scheme = if self.tls { "https" } else { "http" };
        let anywhere = addr.ip().is_unspecified();
        let host = match anywhere {
            true => format!("localhost:{}", addr.port()),
            false => addr.to_string(),
        };
        let mut keys = Keys::default();
        if self.credentials.is_empty() {
            keys.set(DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY, None);
        }
        for (access, secret, token) in &self.credentials {
            keys.set(access, secret, token.as_deref());
        }
        let (access_key, secret_key) = match self.credentials.first() {
            Some((access, secret, _)) => (access.clone(), secret.clone()),
            None => (DEFAULT_ACCESS_KEY.to_owned(), DEFAULT_SECRET_KEY.to_owned()),
        };
        let shared = Arc::new(Shared {
            config: self.config,
            endpoint: format!("{scheme}://{host}"),
            scheme,
            anywhere,
            port: addr.port(),
            keys: Mutex::new(keys),
            faults: Mutex::new(Faults::default()),
            limits: Arc::default(),
            log: Mutex::default(),
            data_endpoint: Mutex::default(),
            streams: Mutex::new(BTreeMap::new()),
            counter: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let ca_pem = identity.as_ref().map(tls::Identity::ca_pem);
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("kvs-local".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, identity, for_thread) => {}
                        _ = stopped => {}
                    }
                });
                // Dropping the runtime drops every connection.
            })?;
        Ok(Server {
            shared,
            addr,
            ca_pem,
            access_key,
            secret_key,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

async fn accept(
    listener: std::net::TcpListener,
    identity: Option<tls::Identity>,
    shared: Arc<Shared>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return eprintln!("kvs-local: {error}"),
    };
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Out of descriptors, or a client gone before it was taken: neither is ours to end for.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        let shared = shared.clone();
        let identity = identity.clone();
        tokio::spawn(async move {
            let io = match identity {
                None => Box::new(socket),
                Some(identity) => match identity.accept(socket).await {
                    Ok(io) => io,
                    Err(_) => return,
                },
            };
            service::serve(Connection::new(io), shared).await;
        });
    }
}

/// A Kinesis Video Streams service in this process, on a thread of its own. Stops, and closes
/// every connection, when it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    addr: SocketAddr,
    ca_pem: Option<String>,
    access_key: String,
    secret_key: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Plain HTTP on a free port of 127.0.0.1, and the defaults.
    ///
    /// # Panics
    /// When it can't listen.
    pub fn start() -> Server {
        Server::builder().start()
    }

    /// A server to be set up.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The control plane, and the data endpoint GetDataEndpoint answers by default:
    /// `http://127.0.0.1:40123`.
    pub fn endpoint_url(&self) -> String {
        self.shared.endpoint.clone()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate, PEM, of the authority that signed this server's; `None` without TLS.
    pub fn ca_pem(&self) -> Option<String> {
        self.ca_pem.clone()
    }

    /// The region requests must be signed for.
    pub fn region(&self) -> &str {
        &self.shared.config.region
    }

    /// The first access key the server was given.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The secret of [`access_key`](Server::access_key).
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// The stream of this name; it is created if there is none.
    ///
    /// # Panics
    /// If it is no name a stream may have.
    pub fn stream(&self, name: &str) -> StreamHandle {
        service::check_name(name).expect("a valid stream name");
        let stream = loop {
            if let Some(stream) = self.shared.stream(name) {
                break stream;
            }
            if let Ok(stream) = self.shared.create_stream(name) {
                break stream;
            }
        };
        StreamHandle::new(self.shared.clone(), stream)
    }

    /// Every request so far, or the latest where [`Builder::keep_requests`] says so, in order.
    pub fn requests(&self) -> Vec<Request> {
        let log = self.shared.log.lock().unwrap();
        log.iter().map(|entry| entry.snapshot()).collect()
    }

    /// Forgets the requests so far: without [`Builder::keep_requests`] the log has no limit, and a
    /// long run would see it grow.
    pub fn clear_requests(&self) {
        self.shared.log.lock().unwrap().clear();
    }

    /// GetMedia responses of this stream under way.
    pub fn open_connections(&self, stream: &str) -> usize {
        self.shared.limits.lock().unwrap().connections(stream)
    }

    /// Adds a fault.
    pub fn fault(&self, fault: Fault) {
        self.shared.faults.lock().unwrap().add(fault);
    }

    /// Takes all faults back that are not used up.
    pub fn clear_faults(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// How many faults are not used up.
    pub fn pending_faults(&self) -> usize {
        self.shared.faults.lock().unwrap().len()
    }

    /// Makes an access key known, or changes its secret and session token. An expired key is good
    /// again.
    pub fn set_credentials(&self, access: &str, secret: &str, token: Option<&str>) {
        self.shared.keys.lock().unwrap().set(access, secret, token);
    }

    /// From now on requests by this key are refused with 403 ExpiredTokenException. Responses
    /// under way go on.
    pub fn expire_credentials(&self, access_key: &str) {
        self.shared.keys.lock().unwrap().expire(access_key);
    }

    /// From now on requests by this key are refused with 403 UnrecognizedClientException.
    pub fn remove_credentials(&self, access_key: &str) {
        self.shared.keys.lock().unwrap().remove(access_key);
    }

    /// What GetDataEndpoint answers; `None`: this server.
    pub fn set_data_endpoint(&self, url: Option<String>) {
        *self.shared.data_endpoint.lock().unwrap() = url;
    }

    /// Waits until `condition` holds; whether it did within `timeout`.
    pub fn wait_until(
        &self,
        timeout: Duration,
        mut condition: impl FnMut(&Server) -> bool,
    ) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if condition(self) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("endpoint", &self.shared.endpoint)
            .field("region", &self.shared.config.region)
            .finish_non_exhaustive()
    }
}
