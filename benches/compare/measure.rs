//! What a program costs.

use crate::Failure;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::resource::{UsageWho, getrusage},
    unistd::Pid,
};
use std::{
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
    let before = of_children()?;
    output(command)?;
    Ok(of_children()?.saturating_sub(before))
}

/// Runs a program to its end and returns what it printed.
pub fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}: {said}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn of_children() -> Result<Duration, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
    };
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}
