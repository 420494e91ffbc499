//! Many streams in one process, at the pace of cameras.

use crate::{
    Failure,
    latency::consumer,
    measure::{Figures, figures, load},
    pacer::Pace,
    sender::Sender,
    setting,
};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

pub fn main() -> Result<(), Failure> {
    let streams = setting("KVS_BENCH_STREAMS", 1000);
    let seconds = setting("KVS_BENCH_SECONDS", 10);
    // 1 Mbit/s.
    let pace = Pace {
        per_second: 15,
        smallest: 8333,
        largest: 8333,
        seconds: seconds + 150,
    };
    let mut rows = Vec::new();
    for (kind, name) in [
        ("soup", "souphttpsrc ! fakesink"),
        ("kvs", "kvsgetmediasrc ! fakesink"),
        // What of it is the SDK's, and a thread's.
        ("sdk", "SDK's ByteStreams, read in tasks of tokio"),
        ("sdk-thread", "the same, each handed to a thread"),
    ] {
        let (_sender, mut command) = consumer(kind, pace, streams, 1, seconds)?;
        rows.push((name, figures(&mut command)?));
    }
    println!(
        "\n{streams} streams of 1 Mbit/s in one process, load {}\n\n\
         | | threads | KiB a stream | × | cores | × | frames/s | > 0.5 s late | sent so | latest s | silent |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        load()
    );
    let memory =
        |found: &Figures| (found.get("resident") - found.get("resident-without")) / streams as f64;
    let first = &rows[0].1;
    for (name, found) in &rows {
        println!(
            "| {name} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.0} | {} | {} | {:.2} | {} |",
            found.get("threads"),
            memory(found),
            memory(found) / memory(first),
            found.get("cpu"),
            found.get("cpu") / first.get("cpu"),
            found.get("frames"),
            found.get("late"),
            found.get("sent-late"),
            found.get("worst"),
            found.get("silent"),
        );
    }

    println!(
        "\nAll started at once, load {}\n\n\
         | | all have a frame after s | GetDataEndpoint calls | most in 1 s | of a stream | \
         GetMedia calls | most in 1 s | of a stream |\n|---|---:|---:|---:|---:|---:|---:|---:|",
        load()
    );
    for readers in [1, 3] {
        let (sender, mut command) = consumer("kvs", pace, streams, readers, 1)?;
        let found = figures(&mut command)?;
        let calls = calls(&sender)?;
        let cells = ["getdataendpoint", "getmedia"].map(|operation| {
            ["calls", "of-all", "of-a-stream"]
                .map(|what| calls.get(&format!("{operation}-{what}")).to_string())
                .join(" | ")
        });
        println!(
            "| {streams} elements, {readers} a stream | {:.1}{} | {} |",
            found.get("begun-after"),
            match found.get("begun") as u64 {
                begun if begun == streams => String::new(),
                begun => format!(" ({begun} have)"),
            },
            cells.join(" | ")
        );
    }
    Ok(())
}

/// How often a sender was asked.
fn calls(sender: &Sender) -> Result<Figures, Failure> {
    let control = sender.url.split(' ').next().ok_or("no URL")?;
    let host = control.trim_start_matches("http://");
    let mut connection = TcpStream::connect(host)?;
    connection.write_all(b"GET /calls HTTP/1.1\r\n\r\n")?;
    connection.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(Figures::parse(&answer))
}
