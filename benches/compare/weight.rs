//! What the plugin is to find and to load, beside souphttpsrc's.

use crate::{
    Failure,
    measure::{cpu_time, load},
    setting,
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

pub fn main() -> Result<(), Failure> {
    let Some(library) = library() else {
        eprintln!("skipped: weight, since there is no release build of the plugin");
        return Ok(());
    };
    let soup = Command::new("gst-inspect-1.0")
        .arg("souphttpsrc")
        .output()?;
    let soup = String::from_utf8_lossy(&soup.stdout);
    let soup = soup
        .lines()
        .find_map(|line| line.trim().strip_prefix("Filename"))
        .ok_or("no souphttpsrc")?;
    let folder = std::env::temp_dir().join(format!("kvs-bench-weight-{}", std::process::id()));
    let rounds = setting("KVS_BENCH_ROUNDS", 3) * 5;
    println!(
        "\ngst-inspect-1.0 of one element, with nothing but its plugin installed, load {}\n\n\
         | | registry | ms | × | CPU ms | × |\n|---|---|---:|---:|---:|---:|",
        load()
    );
    for cold in [false, true] {
        let mut first = None;
        for (element, library) in [
            ("souphttpsrc", Path::new(soup.trim())),
            ("kvsgetmediasrc", &library),
        ] {
            let (wall, cpu) = inspect(&folder.join(element), element, library, cold, rounds)?;
            let (of_first, cpu_of_first) = *first.get_or_insert((wall, cpu));
            println!(
                "| {element} | {} | {:.1} | {:.2} | {:.1} | {:.2} |",
                if cold { "to be made" } else { "there" },
                wall.as_secs_f64() * 1000.0,
                wall.as_secs_f64() / of_first.as_secs_f64(),
                cpu.as_secs_f64() * 1000.0,
                cpu.as_secs_f64() / cpu_of_first.as_secs_f64(),
            );
        }
    }
    let stripped = folder.join("stripped.so");
    let strip = Command::new("strip")
        .arg("-o")
        .arg(&stripped)
        .arg(&library)
        .status();
    if strip.is_ok_and(|status| status.success()) {
        let mib = fs::metadata(&stripped)?.len() as f64 / (1 << 20) as f64;
        println!("\nThe library, stripped: {mib:.1} MiB");
    }
    fs::remove_dir_all(&folder)?;
    let tree = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "tree",
            "--package",
            env!("CARGO_PKG_NAME"),
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .output()?;
    let tree = String::from_utf8_lossy(&tree.stdout);
    let mut crates: Vec<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    crates.sort_unstable();
    crates.dedup();
    println!("Crates in it: {}", crates.len());
    Ok(())
}

/// The one of a release build beside this program.
fn library() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("KVS_BENCH_PLUGIN") {
        return Some(path.into());
    }
    let program = std::env::current_exe().ok()?;
    let name = "libgstkvsgetmedia.so";
    let mut folders = program.ancestors().skip(1).take(2);
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()))
}

/// The best times of a clock and of the processor.
fn inspect(
    folder: &Path,
    element: &str,
    library: &Path,
    cold: bool,
    rounds: u64,
) -> Result<(Duration, Duration), Failure> {
    let plugins = folder.join("plugins");
    fs::create_dir_all(&plugins)?;
    let link = plugins.join(library.file_name().ok_or("no library")?);
    let _ = fs::remove_file(&link);
    symlink(library.canonicalize()?, &link)?;
    let registry = folder.join("registry");
    let mut best = (Duration::MAX, Duration::MAX);
    for round in 0..=rounds {
        if cold {
            let _ = fs::remove_file(&registry);
        }
        let begin = Instant::now();
        let cpu = cpu_time(
            Command::new("gst-inspect-1.0")
                .arg(element)
                .env("GST_PLUGIN_SYSTEM_PATH_1_0", &plugins)
                .env("GST_REGISTRY", &registry)
                .env_remove("GST_PLUGIN_PATH")
                .env_remove("GST_PLUGIN_PATH_1_0"),
        )?;
        // The first one makes the registry and reads the library from the disk.
        if round > 0 {
            best = (best.0.min(begin.elapsed()), best.1.min(cpu));
        }
    }
    Ok(best)
}
