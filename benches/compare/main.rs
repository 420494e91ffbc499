//! The whole path beside others that do the same, measured in one run.
//!
//! ```text
//! cargo bench --bench compare                  every comparison
//! cargo bench --bench compare -- throughput    one of them
//! KVS_BENCH_MIB=2048 …                         the size of a body; 1024 if unset
//! KVS_BENCH_ROUNDS=5 …                         how often each is measured; 3 if unset
//! ```
//!
//! What is measured is CPU time, of the consumer's process alone, which is pinned to one core while
//! the sender has the others. Seconds depend on the machine; compare ratios within a run.

mod chart;
mod consumer;
mod measure;
mod sender;
mod throughput;

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
        ["send", ref rest @ ..] => sender::main(rest),
        ["consume", ref rest @ ..] => consumer::main(rest),
        ["throughput"] | [] => throughput::main(),
        _ => Err(format!("unknown: {args:?}").into()),
    }
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok().and_then(|text| text.parse().ok());
    value.unwrap_or(default)
}
