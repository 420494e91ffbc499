//! Many streams over many machines: the list cut in shards, and each played in one process.

mod support;

use kvs_local::{Server, synth::Synth};
use std::{
    io::Write,
    process::{Command, Stdio},
};
use support::programs::{START_MS, lines, run, rust};

/// What shard.sh prints.
fn shard(index: &str, count: &str, streams: &str) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shard.sh");
    let mut child = Command::new(script)
        .args([index, count])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(streams.as_bytes()).unwrap();
    drop(stdin);
    lines(&child.wait_with_output().unwrap())
}

#[test]
fn a_stream_has_one_shard_and_keeps_it() {
    let names = |count| (1..=count).map(|n| format!("camera_{n:04}.front"));
    let all: Vec<String> = names(1000).collect();
    let shards = ["0", "1", "2"].map(|index| shard(index, "3", &all.join("\n")));
    for shard in &shards {
        assert!((280..=390).contains(&shard.len()), "{}", shard.len());
    }
    let mut together = shards.concat();
    together.sort();
    assert!(together == all, "{together:?}");

    // A longer list, in another order, with empty lines.
    let mut more: Vec<String> = names(1200).collect();
    more.reverse();
    let more = shard("1", "3", &more.join("\n\n"));
    assert!(shards[1].iter().all(|name| more.contains(name)));
    assert!(shard("0", "1", &all.join("\n")) == all);
    let refused = Command::new("sh")
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shard.sh")])
        .args(["3", "3"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_wall_of_streams_goes_on_where_it_stopped() {
    let server = Server::start();
    let media = Synth::new().fragments(6).start_ms(START_MS).build();
    // Two by their names, two by their ARNs.
    let uris = ["cam-1", "cam-2", "cam-3", "cam-4"].map(|name| {
        let stream = server.stream(name);
        media.push_to(&stream);
        match name {
            "cam-1" | "cam-2" => format!("kvs://{name}?"),
            _ => format!("kvs://?stream-arn={}&", stream.arn().replace('/', "%2F")),
        }
    });
    let line =
        |uri: &String, end: u64| format!("{uri}start-selector=earliest&end-timestamp=1714564{end}");
    let folder = std::env::temp_dir().join(format!("kvs-wall-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // Runs both shards of two, from the beginning or where they stopped, to an end in seconds.
    let wall = |end: u64| {
        let list = folder.join("streams.txt");
        let streams = uris.each_ref().map(|uri| line(uri, end));
        std::fs::write(&list, streams.join("\n")).unwrap();
        let mut printed = Vec::new();
        for index in ["0", "1"] {
            let mut command = Command::new("sh");
            command.args([
                "-c",
                r#""$1" "$2" 2 < "$3" | "$4" "$5""#,
                "sh",
                concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shard.sh"),
                index,
            ]);
            command.args([list.clone(), rust("wall"), folder.join("places")]);
            printed.extend(lines(&run(&server, &mut command)));
        }
        printed.sort();
        printed
    };
    let expected = |end: u64, fragments: std::ops::Range<usize>| {
        let mut lines = Vec::new();
        for uri in &uris {
            for fragment in &media.fragments[fragments.clone()] {
                lines.push(format!("{} {}", line(uri, end), fragment.number));
            }
        }
        lines.sort();
        lines
    };
    assert_eq!(wall(804), expected(804, 0..2));
    // All the rest, and before it no more than what a slow disk had not written when the first ended.
    let (second, all) = (wall(810), expected(810, 0..5));
    for line in expected(810, 2..5) {
        assert!(second.contains(&line), "{line} in {second:#?}");
    }
    assert!(second.iter().all(|line| all.contains(line)), "{second:#?}");
    assert!(second.len() < all.len(), "{second:#?}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_pods_of_the_manifest_share_all_streams() {
    let manifest = include_str!("../examples/shards.yaml");
    let between = |from: &str, to: &str| {
        let rest = manifest.split(from).nth(1).unwrap();
        rest.split(to).next().unwrap().trim().to_owned()
    };
    let pods: usize = between("\n  replicas:", "\n").parse().unwrap();
    assert_eq!(between("name: COUNT\n", "\n"), format!("value: \"{pods}\""));
    let folder = std::env::temp_dir().join(format!("kvs-shards-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let script = between("args: ['", "']")
        .replace(
            "/cameras/shard.sh",
            concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shard.sh"),
        )
        .replace("/cameras", folder.to_str().unwrap())
        // In the place of the program: what it is told to play.
        .replace("exec wall /places", "cat");
    let all: Vec<String> = (1..=100).map(|n| format!("cam-{n:03}")).collect();
    std::fs::write(folder.join("streams.txt"), all.join("\n")).unwrap();
    let mut played = Vec::new();
    for pod in 0..pods {
        let output = Command::new("sh")
            .args(["-c", &script])
            .env("HOSTNAME", format!("cameras-{pod}"))
            .env("COUNT", pods.to_string())
            .output();
        let lines = lines(&output.unwrap());
        assert!(lines.len() > 10, "{lines:?}");
        played.extend(lines);
    }
    played.sort();
    assert_eq!(played, all);
    std::fs::remove_dir_all(&folder).unwrap();
}
