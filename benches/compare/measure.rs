//! What a program costs.

use crate::Failure;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        resource::{Resource, Usage as Used, UsageWho, getrlimit, getrusage, setrlimit},
        time::TimeValLike,
    },
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use std::{
    collections::HashMap,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

/// The cores that programs started from here may use.
pub struct Cores {
    /// Of consumers: the last one.
    pub consumer: CpuSet,
    /// Of everything else: the others, if there are any.
    pub others: CpuSet,
}

impl Cores {
    /// Of this process.
    pub fn find() -> Result<Cores, Failure> {
        let all = sched_getaffinity(Pid::from_raw(0))?;
        let cores: Vec<usize> = (0..CpuSet::count())
            .filter(|&core| all.is_set(core) == Ok(true))
            .collect();
        let (mut consumer, mut others) = (CpuSet::new(), CpuSet::new());
        let (last, rest) = cores.split_last().ok_or("no core")?;
        consumer.set(*last)?;
        for core in if rest.is_empty() { &cores } else { rest } {
            others.set(*core)?;
        }
        Ok(Cores { consumer, others })
    }
}

/// Binds this thread, and what it starts from now on, to cores.
pub fn pin(cores: &CpuSet) -> Result<(), Failure> {
    Ok(sched_setaffinity(Pid::from_raw(0), cores)?)
}

/// Runs a program to its end and returns the CPU time that it, and all it ran, took.
pub fn cpu_time(command: &mut Command) -> Result<Duration, Failure> {
    let before = cpu(&getrusage(UsageWho::RUSAGE_CHILDREN)?);
    output(command)?;
    let after = cpu(&getrusage(UsageWho::RUSAGE_CHILDREN)?);
    Ok(after.saturating_sub(before))
}

/// Runs a program to its end and returns what it says: a name and a number on each line.
pub fn figures(command: &mut Command) -> Result<Figures, Failure> {
    Ok(Figures::parse(&output(command)?))
}

/// Named numbers.
#[derive(Debug)]
pub struct Figures(HashMap<String, f64>);

impl Figures {
    /// Of lines of a name and a number; others are none.
    pub fn parse(text: &str) -> Figures {
        let figure = |line: &str| {
            let (name, figure) = line.split_once(' ')?;
            Some((name.to_owned(), figure.parse().ok()?))
        };
        Figures(text.lines().filter_map(figure).collect())
    }

    /// 0 if there is none of this name.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// Runs a program to its end and returns what it printed.
pub fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{command:?}: {}: {said}", output.status).into());
    }
    eprint!("{said}");
    Ok(String::from_utf8(output.stdout)?)
}

fn cpu(used: &Used) -> Duration {
    let micros = used.user_time().num_microseconds() + used.system_time().num_microseconds();
    Duration::from_micros(micros as u64)
}

/// What this process has of the machine.
pub struct Usage {
    pub cpu: Duration,
    pub threads: u64,
    /// Memory, in KiB.
    pub resident: u64,
}

impl Usage {
    pub fn now() -> Result<Usage, Failure> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let number = |name: &str| {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(name))?;
            value.split_whitespace().next()?.parse().ok()
        };
        Ok(Usage {
            cpu: cpu(&getrusage(UsageWho::RUSAGE_SELF)?),
            threads: number("Threads:").ok_or("no thread count")?,
            resident: number("VmRSS:").ok_or("no resident size")?,
        })
    }
}

/// The monotonic clock, which all processes share, in nanoseconds.
pub fn now() -> Result<u64, Failure> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.num_nanoseconds() as u64)
}

/// Lets this process have as many descriptors as it may.
pub fn allow_files() -> Result<(), Failure> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// How busy the machine has been in the last minute: figures depend on it.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").to_owned()
}

/// A Python that has boto3: that of the tests, or the system's.
pub fn python() -> Option<PathBuf> {
    let of_tests = concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv/bin/python");
    [of_tests, "python3"]
        .map(PathBuf::from)
        .into_iter()
        .find(|python| works(Command::new(python).args(["-c", "import boto3"])))
}

/// Whether a program runs to a good end.
pub fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
