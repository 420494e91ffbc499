//! The time from a frame's write to the socket to its leaving the element, beside a loop that reads
//! the SDK's body.

use crate::{
    Failure,
    measure::{figures, load},
    pacer::Pace,
    sender::Sender,
    setting,
};
use std::process::Command;

const WAYS: [(&str, &str); 5] = [
    ("sdk", "SDK's ByteStream, read in a task of tokio"),
    // What any source does that reads in tokio: GStreamer pushes from a thread of its own.
    ("sdk-thread", "the same, handed to a thread"),
    ("sdk-appsrc", "the same, by appsrc, buffers at its pad"),
    ("kvs", "kvsgetmediasrc, buffers at its pad"),
    ("soup", "souphttpsrc, buffers at its pad"),
];

pub fn main() -> Result<(), Failure> {
    let seconds = setting("KVS_BENCH_SECONDS", 10);
    let pace = Pace {
        per_second: 30,
        smallest: 4 << 10,
        largest: 20 << 10,
        seconds: seconds + 30,
    };
    for streams in [1, 100] {
        // The best of some rounds: what else runs here can only add.
        let mut best = [[f64::INFINITY; 2]; WAYS.len()];
        for _ in 0..setting("KVS_BENCH_ROUNDS", 3) {
            for ((kind, _), best) in WAYS.iter().zip(&mut best) {
                let found = figures(&mut consumer(kind, pace, streams, 1, seconds)?.1)?;
                for (name, best) in ["median", "p99"].iter().zip(best) {
                    *best = found.get(name).min(*best);
                }
            }
        }
        println!(
            "\nFrom the write of a frame (4 to 20 KiB, 30 a second) until it is out, {streams} streams, \
             load {}\n\n| | median µs | × | 99 % µs | × |\n|---|---:|---:|---:|---:|",
            load()
        );
        for ((_, name), [median, most]) in WAYS.iter().zip(best) {
            println!(
                "| {name} | {median:.0} | {:.2} | {most:.0} | {:.2} |",
                median / best[0][0],
                most / best[0][1]
            );
        }
    }
    Ok(())
}

/// A program that takes paced streams of a sender that ends with what is returned.
pub fn consumer(
    kind: &str,
    pace: Pace,
    streams: u64,
    readers: u64,
    seconds: u64,
) -> Result<(Sender, Command), Failure> {
    let args = pace.args();
    let sender = Sender::start(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
    let (control, media) = sender.url.split_once(' ').ok_or("no URL")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["consume", "paced", kind, control, media]);
    command.args([streams, readers, seconds].map(|number| number.to_string()));
    Ok((sender, command))
}
