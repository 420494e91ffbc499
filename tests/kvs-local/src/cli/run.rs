//! Starts the service, fills its streams, waits for the end.

use std::io::{self, Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kvs_local::{Producer, Server, StreamHandle, mkv};
use tokio::sync::mpsc;

use super::args::{Settings, Source};
use super::{Error, pattern};

/// The command shows its log of requests to nobody, and runs for as long as it likes.
const KEPT_REQUESTS: usize = 1000;

/// A child process that doesn't outlive this one.
struct Pattern(Child);

impl Drop for Pattern {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(settings: Settings) -> Result<(), Error> {
    let server = start(&settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Signals from here on end us cleanly.
    let mut stop = runtime.block_on(async { Signals::new() })?;
    let (failed, mut failures) = mpsc::unbounded_channel();
    let mut patterns = Vec::new();
    for (name, source) in &settings.streams {
        let stream = server.stream(name);
        match source {
            Source::Nothing => {}
            Source::File(path) => load(&stream, path)?,
            Source::Stdin => ingest(&stream, io::stdin(), "standard input", None),
            Source::Pattern => {
                let mut child = pattern::spawn()?;
                let output = child
                    .stdout
                    .take()
                    .ok_or("the test pattern has no output")?;
                patterns.push(Pattern(child));
                ingest(&stream, output, "the test pattern", Some(failed.clone()));
            }
        }
    }
    if let (Some(path), Some(pem)) = (&settings.ca_file, server.ca_pem()) {
        write_file(path, &pem)?;
    }
    if let Some(path) = &settings.endpoint_file {
        write_file(path, &server.endpoint_url())?;
    }
    println!(
        "endpoint={} region={} access-key={} secret-key={}",
        server.endpoint_url(),
        server.region(),
        server.access_key(),
        server.secret_key()
    );
    io::stdout().flush()?;
    runtime.block_on(async {
        tokio::select! {
            () = stop.wait() => Ok(()),
            Some(failure) = failures.recv() => Err(Error::from(failure)),
        }
    })
}

fn start(settings: &Settings) -> Result<Server, Error> {
    let mut builder = Server::builder()
        .listen(settings.listen)
        .tls(settings.tls)
        .region(&settings.region)
        .credentials(
            &settings.access_key,
            &settings.secret_key,
            settings.session_token.as_deref(),
        )
        .latency(settings.latency)
        .chunked_live(settings.chunked_live)
        .enforce_limits(settings.limits)
        .keep_requests(KEPT_REQUESTS);
    if let Some(retention) = settings.retention {
        builder = builder.retention(retention);
    }
    if let Some(age) = settings.rotate_after {
        builder = builder.rotate_after(age);
    }
    if let Some(pace) = settings.pace {
        builder = builder.pace(pace);
    }
    builder
        .try_start()
        .map_err(|error| format!("can't listen on {}: {error}", settings.listen).into())
}

fn write_file(path: &Path, text: &str) -> Result<(), Error> {
    // Whoever waits for the file finds all of it or none.
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, format!("{text}\n"))
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|error| format!("can't write {}: {error}", path.display()).into())
}

fn load(stream: &StreamHandle, path: &Path) -> Result<(), Error> {
    let named = |error: String| Error::from(format!("{}: {error}", path.display()));
    let bytes = Bytes::from(std::fs::read(path).map_err(|error| named(error.to_string()))?);
    let documents = mkv::read(&bytes).documents;
    let Some(first) = documents.first() else {
        return Err(named("not a Matroska file".to_owned()));
    };
    let fragments = if first.aws_tag("FRAGMENT_NUMBER").is_some() {
        stream.load_recording(&bytes)
    } else {
        // A recording that ends now, if its timecodes don't say when.
        let lasts: u64 = documents.iter().map(mkv::Document::duration_ms).sum();
        let start = now_ms().saturating_sub(lasts);
        stream
            .try_load_matroska(&bytes, start, None)
            .map_err(|error| named(error.to_string()))?
    };
    if fragments == 0 {
        return Err(named("holds no Cluster".to_owned()));
    }
    eprintln!(
        "kvs-local: {fragments} fragments of {} in {}",
        path.display(),
        stream.name()
    );
    Ok(())
}

/// Reads a live producer to its end on a thread. The end of what has to go on for ever is told to
/// `failed`.
fn ingest(
    stream: &StreamHandle,
    input: impl Read + Send + 'static,
    what: &'static str,
    failed: Option<mpsc::UnboundedSender<String>>,
) {
    let stream = stream.clone();
    thread::spawn(move || {
        // A defect here must not leave a service that runs on in silence.
        let result = panic::catch_unwind(AssertUnwindSafe(|| copy(&stream, input)));
        let name = stream.name();
        let end = match result {
            Ok(Ok(())) => format!("{what} for stream {name} has ended"),
            Ok(Err(error)) => format!("{what} for stream {name}: {error}"),
            Err(_) => format!("{what} for stream {name} could not be read; please report this"),
        };
        match failed {
            Some(failed) => {
                let _ = failed.send(end);
            }
            None => eprintln!("kvs-local: {end}"),
        }
    });
}

fn copy(stream: &StreamHandle, mut input: impl Read) -> Result<(), Error> {
    let mut buffer = vec![0; 64 << 10];
    let mut producer: Option<Producer> = None;
    loop {
        let read = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        // Timecodes that don't count from the epoch count from about when the first bytes come.
        producer
            .get_or_insert_with(|| stream.producer(now_ms(), None))
            .write(&buffer[..read])?;
    }
    if let Some(producer) = producer {
        producer.finish();
    }
    Ok(())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals)
    }

    async fn wait(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use kvs_local::Operation;

    use super::*;
    use crate::cli::args::{self, Command};

    #[test]
    fn the_log_of_requests_does_not_grow_without_end() {
        let Ok(Command::Run(settings)) = args::parse([]) else {
            panic!("the command runs without arguments");
        };
        let server = start(&settings).unwrap();
        let mut socket = TcpStream::connect(server.local_addr()).unwrap();
        let requests = "POST / HTTP/1.1\r\n\r\n".repeat(KEPT_REQUESTS);
        let last = "POST /getMedia HTTP/1.1\r\nConnection: close\r\n\r\n";
        socket.write_all(requests.as_bytes()).unwrap();
        socket.write_all(last.as_bytes()).unwrap();
        let mut answers = String::new();
        socket.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 ").count(), KEPT_REQUESTS + 1);
        let kept = server.requests();
        assert_eq!(kept.len(), KEPT_REQUESTS);
        assert_eq!(kept.last().unwrap().operation, Operation::GetMedia);
    }
}
