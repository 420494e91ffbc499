//! CPU seconds per GiB of a body, from the socket to the last element.

use crate::{
    Failure, chart,
    measure::{self, Cores, cpu_time, works},
    sender::{Body, BodyFile, FRAGMENT_SECONDS, Sender},
    setting,
};
use std::{path::PathBuf, process::Command, time::Duration};

const GIB: f64 = (1 << 30) as f64;

/// How many frames a fragment has: 30 a second, as cameras send them.
const FRAMES: usize = 30 * FRAGMENT_SECONDS as usize;

/// The program that takes a body from a URL.
type Program = dyn Fn(&str, &Body) -> Result<Command, Failure>;

/// A way to take a body.
struct Way {
    name: &'static str,
    command: Box<Program>,
}

/// What is compared on one kind of body.
struct Comparison {
    title: String,
    frame: usize,
    one_segment: bool,
    tls: bool,
    ways: Vec<Way>,
}

pub fn main() -> Result<(), Failure> {
    let cores = Cores::find()?;
    let bytes = setting("KVS_BENCH_MIB", 1024) << 20;
    let rounds = setting("KVS_BENCH_ROUNDS", 3);
    let mut charts = Vec::new();
    for comparison in comparisons()? {
        let rows = comparison.run(&cores, bytes, rounds)?;
        print(&comparison.title, &rows);
        charts.push((comparison.title, rows));
    }
    aging(&cores)?;
    if let Ok(path) = std::env::var("KVS_BENCH_SVG") {
        std::fs::write(path, chart::bars("CPU seconds per GiB", &charts))?;
    }
    Ok(())
}

impl Comparison {
    /// The best of some rounds, without what a body of next to nothing takes: the start of a program.
    fn run(&self, cores: &Cores, bytes: u64, rounds: u64) -> Result<Vec<(String, f64)>, Failure> {
        measure::pin(&cores.others)?;
        let whole = self.body(bytes);
        let little = self.body(0);
        let sending = |body: &Body| -> Result<(BodyFile, Sender), Failure> {
            let file = body.write()?;
            let sender = match self.tls {
                true => Sender::start_tls(&file)?,
                false => Sender::start(&[&file.0.to_string_lossy()])?,
            };
            Ok((file, sender))
        };
        let (_whole_file, whole_sender) = sending(&whole)?;
        let (_little_file, little_sender) = sending(&little)?;
        measure::pin(&cores.consumer)?;
        let mut best = vec![[Duration::MAX; 2]; self.ways.len()];
        for _ in 0..rounds {
            for (way, best) in self.ways.iter().zip(&mut best) {
                for ((body, sender), best) in [(&whole, &whole_sender), (&little, &little_sender)]
                    .into_iter()
                    .zip(best)
                {
                    let mut command = (way.command)(&sender.url, body)?;
                    command.envs(sender.trusted_by());
                    let cost = cpu_time(&mut command)?;
                    *best = cost.min(*best);
                }
            }
        }
        let bytes = (whole.media_len() - little.media_len()) as f64;
        let per_gib = |[whole, little]: [Duration; 2]| {
            whole.saturating_sub(little).as_secs_f64() * GIB / bytes
        };
        let names = self.ways.iter().map(|way| way.name.to_owned());
        Ok(names.zip(best.into_iter().map(per_gib)).collect())
    }

    fn body(&self, bytes: u64) -> Body {
        Body {
            frame: self.frame,
            frames: FRAMES,
            fragments: (bytes / (self.frame * FRAMES) as u64).max(1) + 1,
            one_segment: self.one_segment,
        }
    }
}

/// What the last tenth of a body of many small fragments costs, beside its first.
fn aging(cores: &Cores) -> Result<(), Failure> {
    const WAYS: [&str; 2] = ["kvsgetmediasrc", "souphttpsrc"];
    println!("\n10,000 fragments of 96 KiB in frames of 8 KiB, through matroskademux\n");
    println!("| | first tenth, CPU s/GiB | last tenth | last / first |\n|---|---:|---:|---:|");
    measure::pin(&cores.others)?;
    let body = Body {
        frame: 8 * 1024,
        frames: 12,
        fragments: 10_001,
        one_segment: false,
    };
    let file = body.write()?;
    let len = std::fs::metadata(&file.0)?.len();
    let sender = Sender::start(&[&file.0.to_string_lossy()])?;
    measure::pin(&cores.consumer)?;
    for way in WAYS {
        let behind = "matroskademux name=demux ! fakesink";
        let description = match way {
            "souphttpsrc" => format!("souphttpsrc location={} ! {behind}", sender.url),
            _ => kvs(&sender.url, &body, "", behind),
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args([
            "consume",
            "aging",
            &(len * 99 / 100).to_string(),
            &description,
        ]);
        let tenths = measure::output(&mut command)?;
        let nanos: Vec<f64> = tenths.lines().map(str::parse).collect::<Result<_, _>>()?;
        let per_gib = |nanos: f64| nanos / 1e9 * GIB / (len as f64 / 10.0);
        let (Some(first), Some(last)) = (nanos.first(), nanos.last()) else {
            return Err("no tenths".into());
        };
        let (first, last) = (per_gib(*first), per_gib(*last));
        println!("| {way} | {first:.2} | {last:.2} | {:.2} |", last / first);
    }
    Ok(())
}

fn print(title: &str, rows: &[(String, f64)]) {
    println!("\n{title}\n\n| | CPU s/GiB | × the first |\n|---|---:|---:|");
    let first = rows.first().map_or(1.0, |row| row.1);
    for (name, cost) in rows {
        println!("| {name} | {cost:.3} | {:.2} |", cost / first);
    }
}

fn comparisons() -> Result<Vec<Comparison>, Failure> {
    let mut all = Vec::new();
    for (frame, label) in [(8 * 1024, "8 KiB"), (100 * 1024, "100 KiB")] {
        let mut ways = vec![
            sdk(),
            consumer("socket, read and dropped", |url, _| {
                vec!["socket".into(), url.into()]
            }),
            appsrc(),
            element(),
            pipeline("kvsgetmediasrc payload=raw ! fakesink", |url, body| {
                kvs(url, body, "payload=raw", "fakesink")
            }),
            pipeline("souphttpsrc ! fakesink", |url, _| {
                format!("souphttpsrc location={url} ! fakesink")
            }),
            pipeline("kvsgetmediasrc ! matroskademux ! fakesink", |url, body| {
                kvs(url, body, "", "matroskademux ! fakesink")
            }),
            pipeline("souphttpsrc ! matroskademux ! fakesink", |url, _| {
                format!("souphttpsrc location={url} ! matroskademux ! fakesink")
            }),
        ];
        if has("reqwesthttpsrc")? {
            ways.push(pipeline("reqwesthttpsrc ! fakesink", |url, _| {
                format!("reqwesthttpsrc location={url} ! fakesink")
            }));
            ways.push(pipeline(
                "reqwesthttpsrc ! matroskademux ! fakesink",
                |url, _| format!("reqwesthttpsrc location={url} ! matroskademux ! fakesink"),
            ));
        }
        if let Some(python) = measure::python() {
            ways.push(boto3(python));
        }
        if works(Command::new("curl").arg("--version"))
            && works(Command::new("gst-launch-1.0").arg("--version"))
        {
            ways.push(Way {
                name: "curl | fdsrc ! fakesink",
                command: Box::new(|url, _| {
                    let mut shell = Command::new("sh");
                    shell.args([
                        "-c",
                        &format!("curl -sN {url} | gst-launch-1.0 -q fdsrc ! fakesink"),
                    ]);
                    Ok(shell)
                }),
            });
        }
        all.push(Comparison {
            title: format!("A document for each fragment, frames of {label}"),
            frame,
            one_segment: false,
            tls: false,
            ways,
        });
    }
    all.push(Comparison {
        title: "The same frames of 8 KiB in one Segment, as the service never sends them"
            .to_owned(),
        frame: 8 * 1024,
        one_segment: true,
        tls: false,
        ways: vec![pipeline(
            "souphttpsrc ! matroskademux ! fakesink",
            |url, _| format!("souphttpsrc location={url} ! matroskademux ! fakesink"),
        )],
    });
    all.push(Comparison {
        title: "Documents again, frames of 8 KiB, by TLS".to_owned(),
        frame: 8 * 1024,
        one_segment: false,
        tls: true,
        ways: vec![
            sdk(),
            appsrc(),
            element(),
            // It trusts the system's authorities only.
            pipeline("souphttpsrc ! fakesink", |url, _| {
                format!("souphttpsrc ssl-strict=false location={url} ! fakesink")
            }),
        ],
    });
    Ok(all)
}

/// What the others are measured against.
fn sdk() -> Way {
    consumer("SDK's ByteStream, drained", |url, _| {
        vec!["sdk".into(), url.into()]
    })
}

/// What any element costs that reads it and pushes buffers from a thread of its own.
fn appsrc() -> Way {
    consumer("SDK's ByteStream, appsrc ! fakesink", |url, _| {
        vec!["appsrc".into(), url.into()]
    })
}

fn element() -> Way {
    pipeline("kvsgetmediasrc ! fakesink", |url, body| {
        kvs(url, body, "", "fakesink")
    })
}

/// The element with all it needs to be told, and what comes behind it.
fn kvs(url: &str, body: &Body, properties: &str, behind: &str) -> String {
    format!(
        "kvsgetmediasrc stream-name=cam aws-region=us-east-1 access-key=AKIDEXAMPLE secret-key=example \
         data-endpoint-url={url} start-selector=earliest end-timestamp={} {properties} ! {behind}",
        body.last()
    )
}

fn consumer(name: &'static str, args: impl Fn(&str, &Body) -> Vec<String> + 'static) -> Way {
    let command = move |url: &str, body: &Body| {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("consume").args(args(url, body));
        Ok(command)
    };
    Way {
        name,
        command: Box::new(command),
    }
}

fn pipeline(name: &'static str, description: impl Fn(&str, &Body) -> String + 'static) -> Way {
    consumer(name, move |url, body| {
        vec!["pipeline".to_owned(), description(url, body)]
    })
}

fn boto3(python: PathBuf) -> Way {
    const SCRIPT: &str = "
import boto3, sys
client = boto3.client('kinesis-video-media', endpoint_url=sys.argv[1], region_name='us-east-1',
                      aws_access_key_id='AKIDEXAMPLE', aws_secret_access_key='example')
body = client.get_media(StreamName='cam', StartSelector={'StartSelectorType': 'EARLIEST'})['Payload']
while body.read(65536):
    pass
";
    let command = move |url: &str, _: &Body| {
        let mut command = Command::new(&python);
        command.args(["-c", SCRIPT, url]);
        Ok(command)
    };
    Way {
        name: "boto3, read(65536)",
        command: Box::new(command),
    }
}

fn has(element: &str) -> Result<bool, Failure> {
    Ok(works(
        Command::new(std::env::current_exe()?).args(["consume", "has", element]),
    ))
}
