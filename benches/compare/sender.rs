//! A server that costs next to nothing: it answers every request with a file, by `sendfile`.

use crate::Failure;
use kvs_local::synth::Synth;
use nix::sys::sendfile::sendfile64;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs::default_provider,
    pki_types::PrivatePkcs8KeyDer,
};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

/// The service sends its body in chunks; how large they are is not known.
const CHUNK: u64 = 64 * 1024;

/// When the first fragment was recorded, in seconds since the Unix epoch; each lasts so many.
pub const START: u64 = 1_700_000_000;
pub const FRAGMENT_SECONDS: u64 = 2;

/// A body to send.
#[derive(Debug, Clone, Copy)]
pub struct Body {
    /// The size of a frame, and how many a fragment has.
    pub frame: usize,
    pub frames: usize,
    pub fragments: u64,
    /// One header and clusters, as no service sends it, instead of a document for each fragment.
    pub one_segment: bool,
}

impl Body {
    /// The bytes of all frames.
    pub fn media_len(&self) -> u64 {
        (self.frame * self.frames) as u64 * self.fragments
    }

    /// Writes it to a file in memory, which goes with what is returned.
    pub fn write(&self) -> Result<BodyFile, Failure> {
        let (of, pid) = (self.fragments, std::process::id());
        let name = format!(
            "kvs-bench-{pid}-{of}-{}-{}.mkv",
            self.frame, self.one_segment
        );
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() {
            shared.to_owned()
        } else {
            std::env::temp_dir()
        };
        let body = BodyFile(folder.join(name));
        let mut file = File::create(&body.0)?;
        // In parts, so that it is in memory once only.
        const PART: u64 = 64;
        let mut number = "91343852333181432392682062622221234567890".to_owned();
        for first in (0..self.fragments).step_by(PART as usize) {
            let count = PART.min(self.fragments - first);
            // One more tells the number of the next part's first.
            let part = Synth::new()
                .fragments(count as usize + 1)
                .fragment_ms(FRAGMENT_SECONDS * 1000)
                .frames(self.frames)
                .payload(self.frame, self.frame)
                .first_number(&number)
                .start_ms((START + first * FRAGMENT_SECONDS) * 1000)
                .build();
            let (next, part) = part.fragments.split_last().ok_or("no fragment")?;
            number.clone_from(&next.number);
            for (index, fragment) in part.iter().enumerate() {
                if !self.one_segment {
                    file.write_all(&fragment.document)?;
                    continue;
                }
                if first == 0 && index == 0 {
                    file.write_all(&fragment.header)?;
                }
                file.write_all(&fragment.cluster)?;
            }
        }
        Ok(body)
    }

    /// The time at which the last fragment begins: a source told to end there passes all others.
    pub fn last(&self) -> u64 {
        START + (self.fragments - 1) * FRAGMENT_SECONDS
    }
}

/// A file that is removed when this is dropped.
pub struct BodyFile(pub PathBuf);

impl Drop for BodyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A running sender; ends when this is dropped.
pub struct Sender {
    child: Child,
    pub url: String,
    /// The file with its certificate, if it has one.
    authority: Option<PathBuf>,
}

impl Sender {
    /// Starts one in a process of its own.
    pub fn start(args: &[&str]) -> Result<Sender, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("send")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut url = String::new();
        let stdout = child.stdout.take().ok_or("no output")?;
        BufReader::new(stdout).read_line(&mut url)?;
        Ok(Sender {
            child,
            url: url.trim().to_owned(),
            authority: None,
        })
    }

    /// Starts one that serves a file by TLS.
    pub fn start_tls(file: &BodyFile) -> Result<Sender, Failure> {
        let authority = file.0.with_extension("pem");
        let paths = [&file.0, &authority].map(|path| path.to_string_lossy());
        let mut sender = Sender::start(&[&paths[0], &paths[1]])?;
        sender.authority = Some(authority);
        Ok(sender)
    }

    /// The environment of those who are to trust it.
    pub fn trusted_by(&self) -> impl Iterator<Item = (&str, &Path)> {
        let authority = self.authority.as_deref();
        authority.into_iter().map(|path| ("SSL_CERT_FILE", path))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(authority) = &self.authority {
            let _ = std::fs::remove_file(authority);
        }
    }
}

/// Serves a file: `send PATH`, or by TLS `send PATH AUTHORITY`, which writes there whom to trust.
pub fn main(args: &[&str]) -> Result<(), Failure> {
    let (path, tls) = match args {
        [path] => (path, None),
        [path, authority] => (path, Some(tls(authority)?)),
        _ => return Err("send PATH [AUTHORITY]".into()),
    };
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("{scheme}://{}", listener.local_addr()?);
    end_with_parent();
    for connection in listener.incoming() {
        let (connection, file, tls) = (connection?, File::open(path)?, tls.clone());
        thread::spawn(move || {
            // A client that has had enough closes the connection.
            let _ = match tls {
                Some(tls) => answer_tls(connection, tls, &file),
                None => answer(connection, &file),
            };
        });
    }
    Ok(())
}

/// Ends this process when the one who started it has gone, and with it its end of the pipe.
pub fn end_with_parent() {
    thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

fn answer(mut connection: TcpStream, file: &File) -> Result<(), Failure> {
    connection.set_nodelay(true)?;
    request(&mut connection)?;
    respond(&mut connection, file, |connection, mut at, end| {
        while at < end {
            let size = (end - at) as usize;
            at += sendfile64(&*connection, file, Some(&mut (at as i64)), size)? as u64;
        }
        Ok(())
    })
}

/// Costs about what a client of TLS does, and so cannot be much faster.
fn answer_tls(connection: TcpStream, tls: Arc<ServerConfig>, file: &File) -> Result<(), Failure> {
    connection.set_nodelay(true)?;
    let mut connection = StreamOwned::new(ServerConnection::new(tls)?, connection);
    request(&mut connection)?;
    let mut buffer = vec![0; CHUNK as usize];
    respond(&mut connection, file, |connection, at, end| {
        let part = &mut buffer[..(end - at) as usize];
        file.read_exact_at(part, at)?;
        Ok(connection.write_all(part)?)
    })
}

/// What a server of TLS says of itself, with a certificate of its own, which is left in a file.
fn tls(authority: &str) -> Result<Arc<ServerConfig>, Failure> {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    std::fs::write(authority, own.cert.pem())?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())?;
    Ok(Arc::new(config))
}

/// Takes a request.
fn request(connection: &mut impl Read) -> Result<(), Failure> {
    let mut requests = BufReader::new(connection);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if requests.read_line(&mut line)? == 0 {
            return Err("no request".into());
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.is_empty() {
            break;
        }
    }
    requests.take(length).read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Answers with the file in chunks, which `send` sends: from one offset to another.
fn respond<C: Write>(
    connection: &mut C,
    file: &File,
    mut send: impl FnMut(&mut C, u64, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: video/webm\r\ntransfer-encoding: chunked\r\n\
                x-amzn-RequestId: 0f3b6b1e-7a0c-4d0b-9f0e-000000000000\r\n\r\n";
    connection.write_all(head.as_bytes())?;
    let (mut at, end) = (0, file.metadata()?.len());
    while at < end {
        let size = CHUNK.min(end - at);
        connection.write_all(format!("{size:x}\r\n").as_bytes())?;
        send(connection, at, at + size)?;
        connection.write_all(b"\r\n")?;
        at += size;
    }
    connection.write_all(b"0\r\n\r\n")?;
    Ok(connection.flush()?)
}
