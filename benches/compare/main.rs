//! The whole path beside others that do the same, measured in one run.
//!
//! ```text
//! cargo bench --bench compare                  every comparison
//! cargo bench --bench compare -- throughput    one of them
//! KVS_BENCH_MIB=2048 …                         throughput: the size of a body; 1024 if unset
//! KVS_BENCH_ROUNDS=5 …                         how often each is measured; 3 if unset
//! KVS_BENCH_SECONDS=30 …                       latency, streams: how long each takes; 10 if unset
//! KVS_BENCH_STREAMS=2000 …                     streams: how many; 1000 if unset
//! KVS_BENCH_PLUGIN=PATH …                      weight: the library; that of a release build if unset
//! ```
//!
//! `throughput` is CPU time, of the consumer's process alone, which is pinned to one core while the
//! sender has the others. `latency` is what is added to a frame, `streams` what a thousand of them cost
//! one process, `first-frame` the time to the first frame with a network's delay, `weight` what the
//! plugin is to load. Seconds depend on the machine; compare ratios within a run.

mod chart;
mod consumer;
mod first_frame;
mod latency;
mod measure;
mod pacer;
mod sdk;
mod sender;
mod streams;
mod throughput;
mod watch;
mod weight;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        // What this program starts itself as.
        ["send", "paced", ref rest @ ..] => pacer::main(rest),
        ["send", "delayed", ref rest @ ..] => first_frame::send(rest),
        ["send", ref rest @ ..] => sender::main(rest),
        ["consume", ref rest @ ..] => consumer::main(rest),
        ["throughput"] => throughput::main(),
        ["latency"] => latency::main(),
        ["streams"] => streams::main(),
        ["first-frame"] => first_frame::main(),
        ["weight"] => weight::main(),
        [] => {
            throughput::main()?;
            latency::main()?;
            streams::main()?;
            first_frame::main()?;
            weight::main()
        }
        _ => Err(format!("unknown: {args:?}").into()),
    }
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok().and_then(|text| text.parse().ok());
    value.unwrap_or(default)
}
