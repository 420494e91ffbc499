//! What may not be seen anywhere: secret keys, session tokens, signed headers.

mod support;
mod wire;

use gst::prelude::*;
use kvs_local::{Fault, Server, synth::Synthetic};
use std::{fmt::Write, fs::File, path::Path, process::Command};
use support::*;
use wire::{in_seconds, iot::Iot, response, sts_answer};

const SECRET: &str = "xyzzySECRETKEYxyzzy";
const TOKEN: &str = "xyzzySESSIONTOKENxyzzy";
const EXTERNAL_ID: &str = "xyzzyEXTERNALIDxyzzy";

/// What stands in a signed request, and nowhere else.
const HEADER: &str = "AWS4-HMAC-SHA256 Credential=";

/// Set in the process that says all it can.
const CHILD: &str = "KVS_SECRETS_CHILD";

/// What IoT answers; at the second time, half of it.
fn iot_answer(n: usize) -> wire::Step {
    let expiration = in_seconds(3600);
    let whole = format!(
        r#"{{"credentials":{{"accessKeyId":"AKIDEXAMPLE","secretAccessKey":"{SECRET}",
        "sessionToken":"{TOKEN}","expiration":"{expiration}"}}}}"#
    );
    let end = if n == 2 { whole.len() - 4 } else { whole.len() };
    response("200 OK", "", &whole[..end])
}

/// What the child is given: each source of credentials, where it works and where it does not.
fn sources(folder: &Path, sts: &wire::Server, iot: &Iot) -> Vec<(&'static str, String)> {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let process = file(
        "process.json",
        &format!(
            r#"{{"Version":1,"AccessKeyId":"AKIDEXAMPLE","SecretAccessKey":"{SECRET}",
            "SessionToken":"{TOKEN}","Expiration":"2100-01-01T00:00:00Z"}}"#
        ),
    );
    let keys = format!(
        "aws_access_key_id=AKIDEXAMPLE\naws_secret_access_key={SECRET}\n\
         aws_session_token={TOKEN}\n"
    );
    let profiles = format!(
        "[profile keys]\n{keys}[profile process]\ncredential_process=/bin/cat {process}\n\
         [profile chained]\nrole_arn=arn:aws:iam::1:role/r\nsource_profile=keys\n\
         external_id={EXTERNAL_ID}\n"
    );
    let soon = in_seconds(3600);
    vec![
        ("AWS_CONFIG_FILE", file("config", &profiles)),
        ("AWS_SHARED_CREDENTIALS_FILE", file("credentials", "")),
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ("AWS_ENDPOINT_URL_STS", sts.url()),
        (
            "KVS_FILE",
            file(
                "good",
                &format!("CREDENTIALS AKIDEXAMPLE {soon} {SECRET} {TOKEN}"),
            ),
        ),
        (
            "KVS_BAD_FILE",
            file("bad", &format!("CREDENTIALS AKIDEXAMPLE {SECRET} {TOKEN}")),
        ),
        ("KVS_IOT", iot.structure()),
    ]
}

#[test]
fn no_secret_is_said() {
    let inputs = wire::Folder::new("secrets-inputs");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sts = runtime.block_on(wire::Server::new(|_| {
        vec![sts_answer("AssumeRole", "AKIDEXAMPLE", SECRET, TOKEN)]
    }));
    let iot = runtime.block_on(Iot::start(|n| vec![iot_answer(n)]));
    let folder = std::env::temp_dir().join(format!("kvs-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| File::create(folder.join(name)).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, "1")
        .env("GST_DEBUG", "*:9")
        .env("GST_DEBUG_NO_COLOR", "1")
        .env("GST_DEBUG_DUMP_DOT_DIR", &folder)
        .env("RUST_LOG", "trace")
        .envs(sources(&inputs.0, &sts, &iot))
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .status()
        .unwrap();
    let read = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    assert!(status.success(), "{}", read(&folder.join("stdout")));
    let mut found = Vec::new();
    let mut dots = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        dots += usize::from(path.extension().is_some_and(|e| e == "dot"));
        for (number, line) in read(&path).lines().enumerate() {
            let secrets = [SECRET, TOKEN, EXTERNAL_ID, HEADER];
            if secrets.iter().any(|s| line.contains(s)) {
                found.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    let log = read(&folder.join("stderr"));
    assert!(found.is_empty(), "{}", found.join("\n"));
    // Ten of each, and those of the sources of credentials.
    assert!(dots >= 20, "{dots} dot files");
    for factory in ELEMENTS {
        assert!(log.contains(factory), "the log is not there");
    }
    for word in [
        "kvsgetmediasrc",
        "kvs-aws",
        "aws_smithy_runtime",
        "aws_config",
    ] {
        assert!(log.contains(word), "{word} is not in the log");
    }
    let said = read(&folder.join("stdout"));
    for word in [
        "kvs-fragment",
        "kvs-error",
        "AccessDenied",
        "kvs-stats",
        "not JSON",
        "not a time",
    ] {
        assert!(said.contains(word), "{word} is not there");
    }
    for source in ["keys", "process", "chained", "role", "file", "iot"] {
        assert!(said.contains(&format!("{source} plays")), "{source}");
    }
    assert!(sts.requests().len() >= 2 && iot.server.requests().len() >= 2);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Does nothing but in the process that [`no_secret_is_said`] starts: plays, fails in all ways that
/// have to do with credentials, and prints whatever an application can get hold of.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let media = media(2);
    let server = Server::builder()
        .credentials("AKIDEXAMPLE", SECRET, Some(TOKEN))
        .start();
    let keys = [("session-token", TOKEN), ("max-retries", "1")];
    let faults: [(&str, Option<Fault>); 7] = [
        ("plays", None),
        (
            "cut",
            Some(Fault::get_media().cut_after(500, kvs_local::Cut::Reset)),
        ),
        (
            "silent",
            Some(Fault::get_media().always().hang_before_headers()),
        ),
        ("xml", Some(Fault::get_media().xml_403())),
        // Services quote what they were sent.
        (
            "quoted",
            Some(Fault::get_media().http_error(
                403,
                "InvalidSignatureException",
                &format!("The Canonical String for this request should have been {TOKEN}"),
            )),
        ),
        (
            "quoted-again",
            Some(Fault::get_media().http_error(
                403,
                "AccessDeniedException",
                &format!("x-amz-security-token:{TOKEN} is not good enough"),
            )),
        ),
        (
            "expired",
            Some(Fault::get_media().http_error(
                403,
                "ExpiredTokenException",
                &format!("The security token {TOKEN} is expired"),
            )),
        ),
    ];
    let mut said = String::new();
    for factory in ELEMENTS {
        let play = |what: &str, fault: Option<Fault>, settings: &[(&str, &str)]| {
            let stream = format!("{factory}-{what}");
            server.clear_faults();
            if let Some(fault) = fault {
                server.fault(fault.stream(&stream));
            }
            let src = play_media_with(factory, &server, &stream, &media, &keys);
            set(&src, settings);
            Run::demuxed(&src)
        };
        for (what, fault) in &faults {
            let settings: &[_] = match *what {
                "silent" => &[("connect-timeout", "200")],
                _ => &[],
            };
            say(&mut said, &play(what, fault.clone(), settings));
        }
        // Refused for real: another secret, another token, none.
        for (what, key, value) in [
            ("secret", "secret-key", "xyzzySECRETKEYxyzzy2"),
            ("token", "session-token", "xyzzySESSIONTOKENxyzzy2"),
            ("none", "session-token", ""),
        ] {
            say(&mut said, &play(what, None, &[(key, value)]));
        }
    }
    play_sources(&mut said, &server, &media);
    println!("{said}");
}

/// Plays with credentials of each source, of which some give none.
fn play_sources(said: &mut String, server: &Server, media: &Synthetic) {
    let var = |name: &str| std::env::var(name).unwrap();
    let (file, bad_file, iot) = (var("KVS_FILE"), var("KVS_BAD_FILE"), var("KVS_IOT"));
    let other_iot = iot.replace("connection-timeout=60", "connection-timeout=61");
    let role = ("role-arn", "arn:aws:iam::1:role/r");
    let external = ("external-id", "ext");
    let sources: [(&str, &[(&str, &str)]); 10] = [
        ("keys", &[("profile", "keys")]),
        ("process", &[("profile", "process")]),
        ("chained", &[("profile", "chained")]),
        ("nobody", &[("profile", "nobody")]),
        ("role", &[("credential-path", &file), role, external]),
        ("file", &[("credential-path", &file)]),
        ("bad-file", &[("credential-path", &bad_file)]),
        ("iot", &[("iot-certificate", &iot)]),
        ("half-iot", &[("iot-certificate", &other_iot)]),
        (
            "foreign-iot",
            &[("iot-certificate", &iot.replace("door-cam", "other"))],
        ),
    ];
    for (name, properties) in sources {
        let src = play_media(server, name, media, &[("max-retries", "1")]);
        for name in ["access-key", "secret-key"] {
            src.set_property(name, None::<String>);
        }
        set(&src, properties);
        let run = Run::demuxed(&src);
        say(said, &run);
        if run.log().is_eos() {
            writeln!(said, "{name} plays").unwrap();
        }
    }
}

/// All that an application can know of a run.
fn say(said: &mut String, run: &Run) {
    run.play();
    run.wait_for(PATIENCE, |log| log.is_eos() || log.error().is_some());
    run.pipeline
        .debug_to_dot_file(gst::DebugGraphDetails::all(), run.src.name());
    let src = &run.src;
    for spec in src.list_properties() {
        if spec.flags().contains(gst::glib::ParamFlags::READABLE) {
            writeln!(
                said,
                "{}: {:?}",
                spec.name(),
                src.property_value(spec.name())
            )
            .unwrap();
        }
    }
    writeln!(said, "{src:?} {:?}", run.pipeline).unwrap();
    for message in run.stop().messages {
        writeln!(said, "{message:?} {:?}", message.structure()).unwrap();
        if let gst::MessageView::Error(error) = message.view() {
            writeln!(said, "{error:?} {:?} {:?}", error.debug(), error.details()).unwrap();
        }
    }
}
