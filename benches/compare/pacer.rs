//! A service that sends every stream at its own pace, and counts how often it is asked.
//!
//! Any stream that is asked for exists. A block is written in one piece, with a [`Stamp`] as the last
//! bytes of its frame.

use crate::{Failure, measure, sender};
use bytes::Bytes;
use kvs_local::synth::Synth;
use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::sleep_until,
};

/// What a frame ends with: when it should have been sent, and when it was, in nanoseconds of the
/// monotonic clock, which all processes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub due: u64,
    pub sent: u64,
}

impl Stamp {
    pub const LEN: usize = 32;
    /// What it begins with.
    pub const MARK: [u8; 16] = *b"\xF1\x9Dbench-stamp\xB7\xE4\xA5";

    pub fn write(self, into: &mut [u8]) {
        into[..16].copy_from_slice(&Self::MARK);
        into[16..24].copy_from_slice(&self.due.to_be_bytes());
        into[24..32].copy_from_slice(&self.sent.to_be_bytes());
    }

    /// Of bytes that begin with it.
    pub fn read(bytes: &[u8]) -> Option<Stamp> {
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Stamp {
            due: number(16)?,
            sent: number(24)?,
        })
    }
}

/// Frames, and how many a second.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub per_second: u64,
    pub smallest: usize,
    pub largest: usize,
    /// How long a body is.
    pub seconds: u64,
}

impl Pace {
    /// What [`main`] takes.
    pub fn args(self) -> Vec<String> {
        let numbers = [
            self.per_second,
            self.smallest as u64,
            self.largest as u64,
            self.seconds,
        ];
        let numbers = numbers.iter().map(u64::to_string);
        ["paced".to_owned()].into_iter().chain(numbers).collect()
    }

    fn parse(args: &[&str]) -> Result<Pace, Failure> {
        let [per_second, smallest, largest, seconds] = args else {
            return Err("send paced FRAMES-A-SECOND SMALLEST LARGEST SECONDS".into());
        };
        Ok(Pace {
            per_second: per_second.parse()?,
            smallest: smallest.parse()?,
            largest: largest.parse()?,
            seconds: seconds.parse()?,
        })
    }

    fn period(self) -> Duration {
        Duration::from_secs(1) / self.per_second as u32
    }

    /// The body in pieces, each to the end of a frame, as chunks of HTTP.
    fn pieces(self) -> Vec<Vec<u8>> {
        const FRAGMENT: u64 = 2;
        let media = Synth::new()
            .fragments((self.seconds / FRAGMENT + 1) as usize)
            .fragment_ms(FRAGMENT * 1000)
            .frames((self.per_second * FRAGMENT) as usize)
            .payload(self.smallest, self.largest)
            .build();
        let mut pieces = Vec::new();
        let mut piece = Vec::new();
        for fragment in media.fragments {
            let mut rest = fragment.document.clone();
            for frame in &fragment.frames {
                let Some(at) = memchr::memmem::find(&rest, &frame.payload) else {
                    continue;
                };
                piece.extend_from_slice(&rest.split_to(at + frame.payload.len()));
                pieces.push(chunk(&std::mem::take(&mut piece)));
            }
            // The tags after the last frame go with the next fragment's first.
            piece.extend_from_slice(&rest);
        }
        pieces
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let head = format!("{:x}\r\n", bytes.len());
    [head.as_bytes(), bytes, b"\r\n"].concat()
}

/// When each operation was called for each stream.
type Calls = HashMap<(String, String), Vec<Instant>>;

struct Service {
    pace: Pace,
    pieces: Vec<Vec<u8>>,
    /// Where GetMedia is served.
    media: String,
    calls: RefCell<Calls>,
    bodies: RefCell<u32>,
}

/// Serves: prints the URL of the control plane and that of GetMedia.
pub fn main(args: &[&str]) -> Result<(), Failure> {
    measure::allow_files()?;
    sender::end_with_parent();
    let pace = Pace::parse(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(pace))
}

async fn serve(pace: Pace) -> Result<(), Failure> {
    // Of two hosts, as the real ones are: no connection is used for both.
    let control = TcpListener::bind(("127.0.0.1", 0)).await?;
    let media = TcpListener::bind(("127.0.0.1", 0)).await?;
    let service = Rc::new(Service {
        pace,
        pieces: pace.pieces(),
        media: format!("http://{}", media.local_addr()?),
        calls: RefCell::default(),
        bodies: RefCell::default(),
    });
    println!("http://{} {}", control.local_addr()?, service.media);
    loop {
        let accepted = tokio::select! {
            accepted = control.accept() => accepted,
            accepted = media.accept() => accepted,
        };
        let service = service.clone();
        let (connection, _) = accepted?;
        tokio::task::spawn_local(async move {
            // A client that has had enough closes the connection.
            let _ = service.answer(connection).await;
        });
    }
}

impl Service {
    async fn answer(&self, mut connection: TcpStream) -> Result<(), Failure> {
        connection.set_nodelay(true)?;
        let (read, mut write) = connection.split();
        let mut requests = BufReader::new(read);
        while let Some((path, body)) = request(&mut requests).await? {
            let operation = path.trim_start_matches('/').to_ascii_lowercase();
            let stream = member(&body, "StreamName").unwrap_or_default();
            let answer = match operation.as_str() {
                "calls" => self.counts(),
                "getdataendpoint" => format!("{{\"DataEndpoint\":\"{}\"}}", self.media),
                _ => {
                    self.called(&operation, stream);
                    return self.send(&mut write).await;
                }
            };
            self.called(&operation, stream);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
            let answer = format!("{head} {}\r\n\r\n{answer}", answer.len());
            write.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }

    fn called(&self, operation: &str, stream: &str) {
        let mut calls = self.calls.borrow_mut();
        let of_stream = calls.entry((operation.to_owned(), stream.to_owned()));
        of_stream.or_default().push(Instant::now());
    }

    /// Lines of a name and a number.
    fn counts(&self) -> String {
        let calls = self.calls.borrow();
        let mut text = String::new();
        for operation in ["getdataendpoint", "getmedia"] {
            let of_streams = calls.iter().filter(|((name, _), _)| name == operation);
            let of_streams: Vec<_> = of_streams.map(|(_, times)| times).collect();
            let mut all: Vec<Instant> = of_streams.iter().copied().flatten().copied().collect();
            all.sort();
            let most = of_streams.iter().map(|times| in_a_second(times)).max();
            text += &format!(
                "{operation}-calls {}\n{operation}-of-a-stream {}\n{operation}-of-all {}\n",
                all.len(),
                most.unwrap_or(0),
                in_a_second(&all)
            );
        }
        text
    }

    async fn send(&self, write: &mut (impl AsyncWriteExt + Unpin)) -> Result<(), Failure> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: video/webm\r\ntransfer-encoding: chunked\r\n\
                    x-amzn-RequestId: 0f3b6b1e-7a0c-4d0b-9f0e-000000000000\r\n\r\n";
        write.write_all(head.as_bytes()).await?;
        // No two streams begin together: each stands elsewhere in the period.
        let number = {
            let mut bodies = self.bodies.borrow_mut();
            *bodies += 1;
            *bodies
        };
        let phase = (f64::from(number) * 0.618_034).fract();
        let period = self.pace.period();
        let begin = tokio::time::Instant::now() + period.mul_f64(phase);
        let begin_ns = measure::now()? + (period.mul_f64(phase)).as_nanos() as u64;
        let mut piece = Vec::with_capacity(self.pace.largest + 1024);
        for (index, template) in self.pieces.iter().enumerate() {
            let after = period * index as u32;
            sleep_until(begin + after).await;
            piece.clear();
            piece.extend_from_slice(template);
            let end = piece.len() - b"\r\n".len();
            Stamp {
                due: begin_ns + after.as_nanos() as u64,
                sent: measure::now()?,
            }
            .write(&mut piece[end - Stamp::LEN..end]);
            write.write_all(&piece).await?;
        }
        write.write_all(b"0\r\n\r\n").await?;
        Ok(())
    }
}

/// The most of these times, which are in order, that lie within one second.
fn in_a_second(times: &[Instant]) -> usize {
    let within = |(first, &time): (usize, &Instant)| {
        times[first..]
            .iter()
            .take_while(|&&other| other < time + Duration::from_secs(1))
            .count()
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

/// The path and body of the next request; `None` if no more comes.
async fn request(
    requests: &mut (impl AsyncBufReadExt + Unpin),
) -> Result<Option<(String, Bytes)>, Failure> {
    let mut line = String::new();
    if requests.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).ok_or("no path")?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        requests.read_line(&mut line).await?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    requests.read_exact(&mut body).await?;
    Ok(Some((path, body.into())))
}

/// A text in a JSON object without escapes.
fn member<'a>(json: &'a [u8], name: &str) -> Option<&'a str> {
    let json = std::str::from_utf8(json).ok()?;
    json.split(&format!("\"{name}\":\""))
        .nth(1)?
        .split('"')
        .next()
}
