//! What may not be seen anywhere: secret keys, session tokens, signed headers.

mod support;

use gst::prelude::*;
use kvs_local::{Fault, Server};
use std::{fmt::Write, fs::File, path::Path, process::Command};
use support::*;

const SECRET: &str = "xyzzySECRETKEYxyzzy";
const TOKEN: &str = "xyzzySESSIONTOKENxyzzy";

/// What stands in a signed request, and nowhere else.
const HEADER: &str = "AWS4-HMAC-SHA256 Credential=";

/// Set in the process that says all it can.
const CHILD: &str = "KVS_SECRETS_CHILD";

#[test]
fn no_secret_is_said() {
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
            if [SECRET, TOKEN, HEADER].iter().any(|s| line.contains(s)) {
                found.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    let log = read(&folder.join("stderr"));
    assert!(found.is_empty(), "{}", found.join("\n"));
    // Ten of each.
    assert_eq!(dots, 20, "dot files");
    for factory in ELEMENTS {
        assert!(log.contains(factory), "the log is not there");
    }
    let said = read(&folder.join("stdout"));
    for word in ["kvs-fragment", "kvs-error", "AccessDenied", "kvs-stats"] {
        assert!(said.contains(word), "{word} is not there");
    }
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
            let run = play(what, fault.clone(), &[("connect-timeout", "200")]);
            say(&mut said, &run);
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
    println!("{said}");
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
