//! The service as boto3, an implementation by others, finds it.

use std::path::Path;
use std::process::Command;

use kvs_local::synth::Synth;
use kvs_local::{DEFAULT_ACCESS_KEY, DEFAULT_REGION, DEFAULT_SECRET_KEY, Server};
use serde_json::json;

/// What the script exits with where boto3 is missing.
const SKIPPED: i32 = 77;

#[test]
fn boto3_is_answered_as_it_expects() {
    let server = Server::start();
    let cam = server.stream("cam");
    // Starts lie on no whole second, so that one within each fragment is asked for.
    let media = Synth::new()
        .fragments(5)
        .start_ms(1_700_000_000_500)
        .server_start_ms(1_700_000_001_250)
        .distinct_tokens()
        .build();
    media.push_to(&cam);

    let folder = std::env::temp_dir().join(format!("kvs-local-boto3-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut fragments = Vec::new();
    for (index, fragment) in media.fragments.iter().enumerate() {
        let file = format!("{index}.mkv");
        std::fs::write(folder.join(&file), &fragment.document).unwrap();
        fragments.push(json!({
            "number": fragment.number,
            "token": fragment.token,
            "producer_ms": fragment.producer_timestamp_ms,
            "server_ms": fragment.server_timestamp_ms,
            "file": file,
        }));
    }
    let expect = folder.join("expect.json");
    std::fs::write(&expect, json!({ "fragments": fragments }).to_string()).unwrap();

    let python = std::env::var_os("KVS_PYTHON").unwrap_or_else(|| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/boto3_getmedia.py");
    let output = Command::new(&python)
        .arg(script)
        .args(["--endpoint", &server.endpoint_url()])
        .args(["--region", DEFAULT_REGION])
        .args(["--access-key", DEFAULT_ACCESS_KEY])
        .args(["--secret-key", DEFAULT_SECRET_KEY])
        .arg("--expect")
        .arg(&expect)
        // Nothing of the user's own settings may reach it.
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN")
        .env("AWS_CONFIG_FILE", "/nonexistent")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        .output();
    std::fs::remove_dir_all(&folder).unwrap();
    let required = std::env::var_os("KVS_REQUIRE_ALL").is_some_and(|value| value == "1");
    let skip = |why: &str| {
        assert!(!required, "{why}");
        println!("skipped: {why}");
    };
    let output = match output {
        Ok(output) => output,
        Err(error) => return skip(&format!("{}: {error}", python.display())),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        return skip(said.trim());
    }
    assert!(output.status.success(), "{said}{complained}");
    println!("{}", said.trim());
}
